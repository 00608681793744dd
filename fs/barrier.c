/* A read barrier makes sure that this member has every commit that had returned anywhere before the barrier began. One system call
 * should wait for one barrier, not for one at each name of a path:
 *
 *   LOOKUP, found       answered at once; the thread's walk remembers what it was told (walk.h)
 *   GETATTR, OPEN, ...  the request that the call is for. Waits for a barrier. Then each name of the walk must still be bound as it
 *                       was told: if not, ESTALE, and the kernel walks the path again. The second walk begins after a barrier that
 *                       began after the call did, so what is found then is fresh enough: no further barrier, no further check.
 *   LOOKUP, not found   ends the call, or makes the name: waits for a barrier and looks again.
 *
 * What is special:
 *
 * - Which call a request is of is read from /proc, once its thread sleeps. Where that matters and it does not yet, the request waits for
 *   another barrier (read_is_early).
 * - The kernel walks a second time only in calls that say so when they fail: mkdir, mknod and symlink do not when the LOOKUP of the new name
 *   fails, so there the making itself is told (barrier_make_again).
 * - A second walk that does not find its last name may look once more for it, since the kernel had one; so its end is not yet the end
 *   of the call (walk_miss).
 * - Before an open, and before user xattrs are read, the kernel checks permissions, and asks for the attributes of the file to do so,
 *   since it may not keep them. So an OPEN or GETXATTR that comes next from the same thread is served by that GETATTR's barrier: none
 *   reaches us without such a GETATTR before it in the same call. Not for directories, whose attributes it may keep for a while.
 * - Attributes of directories may be kept for DIR_ATTR_S (but while others are to be moved: moves.h), or each directory of each path would be asked for. (So a stat of a directory may be that
 *   old, if somebody else of this mount walks through it in the same moment.) Not in a call that asks
 *   for attributes itself (stat): it would be answered with what was kept. There the first directory's GETATTR waits, and what
 *   follows in the same call does not (walk_call_at).
 * - A call that fails if the name exists (mkdir, O_EXCL) ends with a LOOKUP that finds something, and chmod goes on with what it finds:
 *   there that waits, too; in a call that removes or moves a name, the LOOKUP of its directory. What follows in the same call does not.
 * - A request about an open descriptor (fstat) looks like one that ends a walk, if that walk was not ended by anything else. ESTALE
 *   would reach the program, so before it is answered the kind of the system call is looked at.
 * - The root's attributes, .quorum (but for what asks itself), STATFS, FORGET and RELEASE never wait: a mount can be looked at without a quorum.
 * - Files that only their own session knows (creations) are not the cluster's business. */
#include "fs/barrier.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/inode.h"
#include "fs/moves.h"
#include "fs/ops.h"
#include "fs/pending.h"
#include "fs/proc.h"
#include "fs/replay.h"
#include "fs/walk.h"
#include "store/base/clock.h"
#include "store/base/failpoint.h"

static const double DIR_ATTR_S = 0.01;
enum { AWAKE_MS = 500 }; /* how long a thread that has sent its request may take to fall asleep, on a machine that is busy */

enum read_kind {
    READ_LOOKUP, READ_GETATTR, READ_OPEN, READ_CREATE, READ_OPENDIR, READ_READDIR, READ_READLINK, READ_GETXATTR, READ_LISTXATTR,
    READ_CONTROL,
};

/* A request that may have to wait. */
struct read {
    enum read_kind kind;
    fuse_ino_t node;     /* LOOKUP, CREATE: the parent */
    const char *name;    /* LOOKUP, CREATE, GETXATTR; "" */
    size_t size;
    off_t off;
    mode_t mode;
    struct fuse_file_info fi;
    barrier_open_cb open; /* CONTROL */
    struct walk *walk;   /* held while it waits; NULL: none */
    bool by_path;        /* the walk led to the node: its names are to be checked */
    enum proc_call call; /* LOOKUP, GETATTR: the system call it is of; UNKNOWN */
    uint64_t shape;      /* of that call */
    int64_t since_ns;    /* when it began to wait */
    char held_name[];    /* while it waits */
};

/* The reader that names are looked up with before a barrier. A failpoint lets it see what was before the last barrier, as on a member
 * that lags behind. */
static struct store_reader *names_reader(struct fs *fs)
{
    if (!FAILPOINT("fs.names.old"))
        return fs->reader;
    if (!fs->old_reader && (replica_reader(fs->replica, &fs->old_reader) || store_read_begin(fs->old_reader, NULL)))
        return fs->reader;
    return fs->old_reader;
}

void barrier_settled(struct fs *fs)
{
    if (fs->old_reader && !FAILPOINT("fs.names.foreign"))
        barrier_close(fs);
}

void barrier_close(struct fs *fs)
{
    if (fs->old_reader)
        store_reader_close(fs->old_reader);
    fs->old_reader = NULL;
}

/* ---- Answers ---- */

static bool is_dir(fuse_ino_t node)
{
    return store_ino_kind(node) == STORE_DIR;
}

/* Whether a call looks only at the permissions of the directories on its way. */
static bool only_passes(enum proc_call call)
{
    return call == PROC_CALL_OTHER || call == PROC_CALL_MAKE || call == PROC_CALL_SET || call == PROC_CALL_CHANGE;
}

/* Whether a call does something to what it finds, or to its directory. */
static bool is_change(enum proc_call call)
{
    return call == PROC_CALL_MAKE || call == PROC_CALL_SET || call == PROC_CALL_CHANGE;
}

/* The kernel is told a directory's attributes, to be kept or not. Returns for how long. */
static double dir_keep(const struct fs *fs, struct inode *in, bool keep)
{
    keep = keep && !replay_moves_wait(fs); /* who walks again is to ask: moves.h */
    if (in)
        in->told = keep;
    return keep ? DIR_ATTR_S : 0;
}

/* `same`: the lookup is of a call that has passed a barrier. */
static void lookup_answer(fuse_req_t req, const struct read *r, const struct store_attr *attr, bool same)
{
    struct fs *fs = fs_of(req);
    struct walk *w = walk_get(fs, fuse_req_ctx(req)->pid);
    double keep_s = 0;

    if (S_ISDIR(attr->mode) && !moves_pass(req, r->node, attr->ino))
        return;
    if (w)
        walk_step(w, r->node, r->name, attr->ino, r->shape);
    if (w && same)
        walk_call_to(w, attr->ino, r->shape);
    if (S_ISDIR(attr->mode))
        keep_s = dir_keep(fs, inode_add(fs, attr->ino), !same && only_passes(r->call));
    name_reply_entry(req, attr, keep_s);
}

/* The thread was told another name of the same file before, in the same call: that one is old by now. The kernel would do nothing for a rename
 * between the two, and call it a success. So the second name is hidden from it, and the rename comes here to be decided. */
static bool lookup_is_double(const struct read *r, fuse_ino_t node)
{
    return r->walk && r->call == PROC_CALL_CHANGE && walk_has_other_name(r->walk, r->node, r->name, node, r->shape);
}

/* After the barrier: what is bound now. */
static void lookup_again(fuse_req_t req, const struct read *r)
{
    struct store_attr attr;
    struct store_reader *reader = FAILPOINT("fs.barrier.off") ? names_reader(fs_of(req)) : fs_of(req)->reader;
    int err = name_look(fs_of(req), reader, r->node, r->name, &attr);

    if (err == QE_NOENT && name_lookup_pending(req, r->node, r->name))
        return;
    if (!err && lookup_is_double(r, attr.ino)) {
        fuse_reply_err(req, ENOENT);
        return;
    }
    if (err && r->walk)
        walk_miss(r->walk);
    else if (r->walk && is_change(r->call))
        walk_came_to(r->walk, r->node, r->name);
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        lookup_answer(req, r, &attr, is_change(r->call));
}

static void getattr_answer(fuse_req_t req, const struct read *r)
{
    bool keep = r->node == STORE_ROOT_INO || (only_passes(r->call) && !(r->walk && walk_call_is_at(r->walk, r->node, r->shape)));

    attr_get(req, r->node, is_dir(r->node) ? dir_keep(fs_of(req), inode_find(fs_of(req), r->node), keep) : 0);
}

static void read_answer(fuse_req_t req, struct read *r)
{
    switch (r->kind) {
    case READ_LOOKUP: lookup_again(req, r); break;
    case READ_GETATTR: getattr_answer(req, r); break;
    case READ_OPEN: file_open(req, r->node, &r->fi); break;
    case READ_CREATE: file_create(req, r->node, r->name, r->mode, &r->fi); break;
    case READ_OPENDIR: dir_open(req, r->node, &r->fi); break;
    case READ_READDIR: dir_read(req, r->node, r->size, r->off, &r->fi); break;
    case READ_READLINK: name_readlink(req, r->node); break;
    case READ_GETXATTR: xattrs_get(req, r->node, r->name, r->size); break;
    case READ_LISTXATTR: xattrs_list(req, r->node, r->size); break;
    case READ_CONTROL: r->open(req, r->node, &r->fi); break;
    }
}

/* Whether it is about a directory on the way of its call, which goes on. */
static bool read_passes(const struct read *r)
{
    return r->kind == READ_GETATTR && is_dir(r->node) && only_passes(r->call);
}

/* Answers what a system call was for, behind a barrier: its walk is over. Of a GETATTR, what may follow in the same call is noted. */
static void read_answer_final(fuse_req_t req, struct read *r)
{
    if (r->walk && (read_passes(r) || (r->kind == READ_GETATTR && is_dir(r->node) && walk_is_on_way(r->walk, r->shape)))) {
        read_answer(req, r); /* a directory on the way; stat asks for those as well */
        return;
    }
    if (r->walk)
        walk_forget_again(r->walk);
    if (r->walk && r->by_path)
        walk_end(r->walk);
    if (r->walk && r->kind == READ_GETATTR && is_dir(r->node) && r->call == PROC_CALL_STAT)
        walk_call_at(r->walk, r->node, r->shape);
    else if (r->walk)
        walk_set_passed(r->walk, r->kind == READ_GETATTR && !is_dir(r->node) ? r->node : 0);
    read_answer(req, r);
}

/* ---- Waiting ---- */

struct settled { /* how a request stands after its barrier */
    bool bound;          /* by all the names of its walk, or it has none */
    enum proc_call call; /* the system call that it is of, when that matters */
    uint64_t shape;
};

/* Whether the kernel has to walk again; then it is told. What is asked for through a descriptor has no path: there ESTALE would reach
 * the program. So it would for the name that mkdir, mknod or symlink is to make, if its LOOKUP were answered so: that name is said not to be
 * there, and what makes it is told (barrier_make_again). */
static bool read_is_stale(fuse_req_t req, const struct read *r, const struct settled *now)
{
    fuse_ino_t parent = r->kind == READ_LOOKUP ? r->node : 0;
    const char *name = r->kind == READ_LOOKUP ? r->name : NULL;

    if (now->bound || now->call == PROC_CALL_DESCRIPTOR)
        return false;
    if (walk_is_second(r->walk, now->shape, parent, name, read_passes(r)) || walk_goes_on(r->walk, now->shape)) /* could not be told before */
        return false;
    if (r->kind == READ_LOOKUP && r->call == PROC_CALL_MAKE) {
        walk_make_again(r->walk, now->shape, parent, name);
        fuse_reply_err(req, ENOENT);
        return true;
    }
    walk_again(r->walk, now->shape, parent, name);
    fuse_reply_err(req, ESTALE);
    return true;
}

/* Which system call it is matters, and cannot be seen before the thread sleeps: its request may be here before that. */
static bool read_is_early(fuse_req_t req, struct read *r, struct settled *now)
{
    bool asked = r->call == PROC_CALL_AWAKE;

    now->bound = !r->by_path || walk_is_bound(fs_of(req), r->walk);
    if (!asked && now->bound)
        return false;
    now->call = proc_call_of(fuse_req_ctx(req)->pid, &now->shape);
    if (asked) {
        r->call = now->call;
        r->shape = now->shape;
    }
    return now->call == PROC_CALL_AWAKE && clock_boottime_ns() - r->since_ns < AWAKE_MS * INT64_C(1000000);
}

static void read_settle(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct settled now = {.call = PROC_CALL_UNKNOWN};
    struct read *r = data;

    (void)rev;
    (void)ino;
    barrier_close(fs); /* old names are over */
    if (req && !err && read_is_early(req, r, &now)) {
        pending_barrier(fs, &(struct pending_call){.req = req, .settle = read_settle, .data = r});
        return;
    }
    if (r->walk)
        walk_release(r->walk);
    if (req && err) {
        fuse_reply_err(req, fs_errno(err));
    } else if (req && !read_is_stale(req, r, &now)) {
        if (r->kind == READ_LOOKUP)
            read_answer(req, r);
        else
            read_answer_final(req, r);
    }
    free(r);
}

static void read_wait(fuse_req_t req, struct read *want)
{
    struct fs *fs = fs_of(req);
    size_t size = strlen(want->name) + 1;
    struct read *r = malloc(sizeof *r + size);
    struct pending_call call = {.req = req, .settle = read_settle, .data = r};

    if (!r) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    if (FAILPOINT("fs.barrier.off")) { /* as if nothing had to be asked or checked: shows that the tests would notice */
        free(r);
        read_answer(req, want);
        return;
    }
    memcpy(r, want, sizeof *r);
    memcpy(r->held_name, want->name, size);
    r->name = r->held_name;
    r->since_ns = clock_boottime_ns();
    if (r->walk)
        walk_hold(r->walk);
    atomic_fetch_add(&fs->n_barriers, 1);
    pending_barrier(fs, &call);
}

static bool barrier_is_on(const struct fs *fs)
{
    return fs->shared;
}

/* Whether ordinary reads wait. */
static bool barrier_is_wanted(const struct fs *fs)
{
    return barrier_is_on(fs) && !fs->opt->reads_local;
}

/* Whether this ends the second walk, for which the barrier of the first will do. */
static bool read_is_second(fuse_req_t req, const struct read *r)
{
    bool lookup = r->kind == READ_LOOKUP;
    uint64_t shape = 0;

    if (!walk_is_due(r->walk) || (lookup && walk_has_missed(r->walk)) || proc_call_of(fuse_req_ctx(req)->pid, &shape) == PROC_CALL_AWAKE)
        return false;
    return walk_is_second(r->walk, shape, lookup ? r->node : 0, lookup ? r->name : NULL, read_passes(r));
}

/* Whether an earlier barrier of the same system call will do. */
static bool read_is_served(fuse_req_t req, const struct read *r)
{
    if (!r->walk)
        return false;
    if (r->kind == READ_OPEN || (r->kind == READ_GETXATTR && !strncmp(r->name, "user.", 5)))
        if (walk_has_passed(r->walk, r->node))
            return true;
    if (r->kind == READ_GETATTR && r->call == PROC_CALL_STAT && walk_call_came_to(r->walk, r->node, r->shape))
        return true;
    return r->by_path && read_is_second(req, r);
}

/* The request that a system call is for. */
static void read_final(fuse_req_t req, struct read *r)
{
    const struct inode *in = inode_find(fs_of(req), r->node);

    r->walk = walk_find(fs_of(req), fuse_req_ctx(req)->pid);
    r->by_path = r->walk && walk_leads_to(r->walk, r->node);
    if (in && (inode_pending(fs_of(req), in) || in->gone))
        read_answer(req, r);
    else if (read_is_served(req, r))
        read_answer_final(req, r);
    else
        read_wait(req, r);
}

/* ---- Requests ---- */

void barrier_end_walk(fuse_req_t req)
{
    struct walk *w = walk_find(fs_of(req), fuse_req_ctx(req)->pid);

    if (!w)
        return;
    walk_forget_again(w);
    walk_end(w);
}

bool barrier_make_again(fuse_req_t req)
{
    struct walk *w = walk_find(fs_of(req), fuse_req_ctx(req)->pid);

    if (!w || !walk_makes_again(w))
        return false;
    fuse_reply_err(req, ESTALE);
    return true;
}

/* Whether the lookup is of a call that stands at the parent, behind a barrier. */
static bool lookup_is_same_call(fuse_req_t req, const struct read *r)
{
    const struct inode *parent = inode_find(fs_of(req), r->node);

    return walk_call_is_at(r->walk, r->node, r->shape) && !(parent && parent->told) &&
           (r->call == PROC_CALL_STAT || is_change(r->call));
}

/* Whether what was found must be what is there now: the call ends with it, or does something to it. */
static bool lookup_matters(enum proc_call call, mode_t mode)
{
    return call == PROC_CALL_MAKE || call == PROC_CALL_SET || (call == PROC_CALL_CHANGE && S_ISDIR(mode));
}

/* Looks the name up by itself, and knows whether what it finds needs a barrier. */
static void lookup_decide(fuse_req_t req, struct read *r)
{
    struct store_attr attr;
    int err = name_look(fs_of(req), names_reader(fs_of(req)), r->node, r->name, &attr);
    pid_t tid = fuse_req_ctx(req)->pid;
    bool same;

    if (err == QE_NOENT && name_lookup_pending(req, r->node, r->name))
        return;
    if (err && err != QE_NOENT) {
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    r->walk = walk_get(fs_of(req), tid);
    if (!r->walk) {
        read_wait(req, r);
        return;
    }
    r->by_path = walk_leads_to(r->walk, r->node);
    r->call = proc_call_of(tid, &r->shape);
    walk_set_looked(r->walk, r->node, r->shape);
    same = lookup_is_same_call(req, r);
    if (!err && lookup_is_double(r, attr.ino))
        fuse_reply_err(req, ENOENT);
    else if (walk_has_missed(r->walk))
        read_wait(req, r);
    else if (!err && r->call != PROC_CALL_AWAKE && (same || !lookup_matters(r->call, attr.mode)))
        lookup_answer(req, r, &attr, same);
    else if (err && same)
        fuse_reply_err(req, ENOENT);
    else if (read_is_second(req, r))
        lookup_again(req, r);
    else
        read_wait(req, r);
}

/* `reads = local`: what is found is remembered all the same, since opening it for writing asks. */
static void lookup_local(fuse_req_t req, struct read *r)
{
    r->call = PROC_CALL_OTHER;
    lookup_again(req, r);
}

void barrier_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct read r = {.kind = READ_LOOKUP, .node = parent, .name = name, .call = PROC_CALL_UNKNOWN};

    if (!barrier_is_on(fs_of(req)))
        name_lookup(req, parent, name);
    else if (fs_of(req)->opt->reads_local)
        lookup_local(req, &r);
    else
        lookup_decide(req, &r);
}

/* A directory that is asked for in a call that looks only at its permissions: no barrier. */
static void getattr_pass(fuse_req_t req, struct read *r)
{
    const struct inode *in = inode_find(fs_of(req), r->node);

    r->walk = walk_find(fs_of(req), fuse_req_ctx(req)->pid);
    if (r->walk && walk_call_came_to(r->walk, r->node, r->shape) && !(in && in->told))
        walk_call_at(r->walk, r->node, r->shape);
    getattr_answer(req, r);
}

static void getattr_go(fuse_req_t req, fuse_ino_t node)
{
    struct read r = {.kind = READ_GETATTR, .node = node, .name = "", .call = PROC_CALL_UNKNOWN};

    if (!barrier_is_wanted(fs_of(req))) {
        attr_get(req, node, fs_of(req)->shared && is_dir(node) && !replay_moves_wait(fs_of(req)) ? DIR_ATTR_S : 0);
        return;
    }
    if (node == STORE_ROOT_INO) {
        getattr_answer(req, &r);
        return;
    }
    r.call = proc_call_of(fuse_req_ctx(req)->pid, &r.shape);
    if (is_dir(node) && only_passes(r.call))
        getattr_pass(req, &r);
    else
        read_final(req, &r);
}

void barrier_getattr(fuse_req_t req, fuse_ino_t node, bool has_handle)
{
    struct read r = {.kind = READ_GETATTR, .node = node, .name = "", .call = PROC_CALL_UNKNOWN};

    if (has_handle && barrier_is_wanted(fs_of(req)))
        getattr_answer(req, &r);
    else if (has_handle || !is_dir(node) || !moves_wait(req, node, getattr_go))
        getattr_go(req, node);
}

void barrier_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct read r = {.kind = READ_OPEN, .node = node, .name = "", .fi = *fi};
    bool writes = (fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC);

    if (barrier_is_on(fs_of(req)) && (writes || !fs_of(req)->opt->reads_local))
        read_final(req, &r);
    else
        file_open(req, node, fi);
}

/* The name was not found behind a barrier just now, or it was found locally: then to write means to ask. */
void barrier_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    struct read r = {.kind = READ_CREATE, .node = parent, .name = name, .mode = mode, .fi = *fi};

    if (barrier_make_again(req))
        return;
    if (barrier_is_on(fs_of(req)) && fs_of(req)->opt->reads_local)
        read_wait(req, &r);
    else
        file_create(req, parent, name, mode, fi);
}

void barrier_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct read r = {.kind = READ_OPENDIR, .node = node, .name = "", .fi = *fi};

    if (barrier_is_wanted(fs_of(req)))
        read_final(req, &r);
    else
        dir_open(req, node, fi);
}

/* Of a listing that goes on nothing is asked; rewinddir begins one anew. */
void barrier_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct read r = {.kind = READ_READDIR, .node = node, .name = "", .size = size, .off = off, .fi = *fi};

    if (barrier_is_wanted(fs_of(req)) && off == 0 && !dir_is_fresh(fi))
        read_wait(req, &r);
    else
        dir_read(req, node, size, off, fi);
}

void barrier_readlink(fuse_req_t req, fuse_ino_t node)
{
    struct read r = {.kind = READ_READLINK, .node = node, .name = ""};

    if (barrier_is_wanted(fs_of(req)))
        read_final(req, &r);
    else
        name_readlink(req, node);
}

/* Only user.* is stored; the kernel asks for others on its own account. */
void barrier_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
    struct read r = {.kind = READ_GETXATTR, .node = node, .name = name, .size = size};

    if (barrier_is_wanted(fs_of(req)) && !strncmp(name, "user.", 5))
        read_final(req, &r);
    else
        xattrs_get(req, node, name, size);
}

void barrier_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
    struct read r = {.kind = READ_LISTXATTR, .node = node, .name = "", .size = size};

    if (barrier_is_wanted(fs_of(req)))
        read_final(req, &r);
    else
        xattrs_list(req, node, size);
}

void barrier_control_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, barrier_open_cb open)
{
    struct read r = {.kind = READ_CONTROL, .node = node, .name = "", .fi = *fi, .open = open};

    if (barrier_is_on(fs_of(req)))
        read_wait(req, &r);
    else
        open(req, node, fi);
}
