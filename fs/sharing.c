/* Growing: the raft loop learns of a second member before that one can commit anything, since it has to be told of the log first, and
 * wakes the FUSE loop, which takes back what the kernel keeps: all names at once (an epoch ends: names of earlier ones are looked up
 * again), and the attributes of each node. An older kernel cannot do that; there nothing is kept from the start.
 * Transactions change names in the same way without the kernel's knowing, on a member that is alone too.
 *
 * Shrinking: what the others had committed before they went may still have to be applied here, so a barrier is passed first. */
#include "fs/sharing.h"

#include <unistd.h>

#include "fs/inode.h"
#include "fs/pending.h"
#include "store/base/failpoint.h"

enum {
    CACHE_S = 10,         /* names and attributes in the kernel, where it is told of all changes */
    NOTIFY_INC_EPOCH = 8, /* FUSE_NOTIFY_INC_EPOCH of protocol 7.44, newer than the headers we build with */
};

/* What the head of each message to the kernel is: struct fuse_out_header. */
struct notify_header {
    uint32_t len;
    int32_t error; /* the code of a notification */
    uint64_t unique;
};

bool sharing_forget_names(struct fs *fs)
{
    const struct notify_header h = {.len = sizeof h, .error = NOTIFY_INC_EPOCH};

    return write(fuse_session_fd(fs->se), &h, sizeof h) == (ssize_t)sizeof h;
}

void sharing_changed(struct fs *fs, const struct store_change *changes, size_t n)
{
    uint64_t parent = 0;
    bool any = false;

    if (!atomic_load(&fs->recalls))
        return;
    for (size_t i = 0; i < n; i++) {
        if (!changes[i].unasked)
            continue;
        any = true;
        fuse_lowlevel_notify_inval_inode(fs->se, changes[i].ino, -1, 0);
        if (changes[i].parent != parent)
            fuse_lowlevel_notify_inval_inode(fs->se, parent = changes[i].parent, -1, 0);
    }
    if (any)
        sharing_forget_names(fs);
}

/* Attributes only: an offset below 0 leaves the pages of mappings alone, for whose dirty ones the kernel would wait for this loop. */
static void kernel_forget_attributes(struct fs *fs)
{
    struct inode *in, *tmp;

    HASH_ITER(hh, fs->inodes->by_node, in, tmp)
        fuse_lowlevel_notify_inval_inode(fs->se, in->node, -1, 0);
}

/* Whether anybody else may change the tree. */
static bool has_others(struct fs *fs)
{
    return !replica_alone(fs->replica) || replica_barrier_needed(fs->replica) || FAILPOINT("fs.shared");
}

static void set_cache(struct fs *fs)
{
    fs->cache_s = !fs->shared && !fs->uncached && fs->can_recall ? CACHE_S : 0;
}

static void sharing_grown(struct fs *fs)
{
    fs->shared = true;
    set_cache(fs);
    if (fs->can_recall)
        sharing_forget_names(fs);
    kernel_forget_attributes(fs);
    log_info("mount", "there are other members: reads ask for the newest state");
}

static void sharing_alone(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    (void)req;
    (void)rev;
    (void)ino;
    (void)data;
    fs->settling = false;
    if (err || has_others(fs)) /* the next look begins anew */
        return;
    fs->shared = false;
    set_cache(fs);
    log_info("mount", "this member is alone");
}

void sharing_follow(struct fs *fs)
{
    const struct pending_call call = {.settle = sharing_alone};
    bool others;

    if (!fs->initialized || fs->stopping)
        return;
    others = has_others(fs);
    if (others == fs->shared)
        return;
    if (others) {
        sharing_grown(fs);
    } else if (!fs->settling) {
        fs->settling = true;
        pending_barrier(fs, &call);
    }
}

void sharing_start(struct fs *fs)
{
    fs->shared = has_others(fs);
}

void sharing_begin(struct fs *fs)
{
    fs->can_recall = sharing_forget_names(fs);
    atomic_store(&fs->recalls, fs->can_recall);
    set_cache(fs);
}

static void sharing_look(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    (void)req;
    (void)err;
    (void)rev;
    (void)ino;
    (void)data;
    sharing_follow(fs);
}

void sharing_hook(struct fs *fs)
{
    pending_post(fs, sharing_look, NULL); /* out of memory: the next request looks */
}
