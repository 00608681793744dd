/* locks/: locks as files. Every name that a lock can have can be looked up at any time. Who has it open for writing holds the lock; whoever
 * comes next waits in open (claim.h), a request that is kept aside. What the holder writes is the lock's value, which all can read.
 *
 * Nodes are names. When the cluster tells that a lock has another holder or another value (fs/locks.h), watchers of this mount are told by
 * the replayer, as of a live file: also of what was done here, for the kernel knows neither of grants nor of releases. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "fs/barrier.h"
#include "fs/control/claim.h"
#include "fs/control/listing.h"
#include "fs/control/nodes.h"
#include "fs/control/sweep.h"
#include "fs/control/tree.h"
#include "fs/locks.h"
#include "fs/ops.h"
#include "fs/pending.h"
#include "fs/replay.h"
#include "store/base/failpoint.h"

enum {
    NODES_MAX = 400000,  /* names that the kernel may know at a time, more than there can be locks; more: ENFILE */
    NODES_FEW = 200,     /* the same for a failpoint */
    SWEEP_NODES = 10000, /* when half of them are known, so many are asked to be forgotten */
};
#define LOCKS_ROOT fs_node(FS_VIEW_LOCKS, VIEW_ROOT)
#define ROOT_MODE (S_IFDIR | S_ISVTX | 0777)

static struct view_nodes nodes; /* the key is the name, with its NUL; FUSE loop only */
static uint64_t root_nlookup;   /* the kernel's lookup count of locks/ itself */

static bool is_root(fuse_ino_t node)
{
    return node == LOCKS_ROOT;
}

/* NULL: unknown, or the directory. Borrowed until the node is forgotten. */
static const char *name_of(fuse_ino_t node)
{
    const struct view_node *n = nodes_find(&nodes, node);

    return n ? n->key : NULL;
}

static fuse_ino_t number_of(const char *name)
{
    return fs_node(FS_VIEW_LOCKS, nodes_number(name, strlen(name) + 1));
}

static void view_forget(struct fs *fs, fuse_ino_t node, uint64_t nlookup)
{
    (void)fs;
    if (is_root(node))
        root_nlookup -= nlookup < root_nlookup ? nlookup : root_nlookup;
    else
        nodes_forget(&nodes, node, nlookup);
}

/* ---- Attributes and names ------------------------------------------------------------------------------------------------------ */

/* The value is appended; a lock that nobody holds has none. */
static int read_value(struct fs *fs, const char *name, struct buf *out)
{
    struct store_lock l;
    int64_t n_waiting;
    int err = store_lock(fs->reader, name, &l, out, &n_waiting);

    return err == QE_NOENT ? 0 : err;
}

/* The owner of all of them is the directory's: else the kernel refuses O_CREAT of others in a sticky directory (fs.protected_regular). */
static int fill(struct fs *fs, fuse_ino_t node, const char *name, struct fuse_entry_param *e)
{
    struct buf value = {0};
    int err = read_value(fs, name, &value);

    control__entry_of(fs, node, S_IFREG | 0666, e);
    e->entry_timeout = e->attr_timeout = 0;
    e->attr.st_size = (off_t)value.len;
    e->attr.st_blocks = (blkcnt_t)(value.len + 511) / 512;
    buf_fini(&value);
    return err;
}

static void reply_root(fuse_req_t req)
{
    struct fuse_entry_param e;

    control__entry_of(fs_of(req), LOCKS_ROOT, ROOT_MODE, &e);
    root_nlookup++;
    if (fuse_reply_entry(req, &e) == -ENOENT) /* the caller is gone: no FORGET will come */
        root_nlookup--;
}

static bool sweeping; /* FUSE loop only */

static size_t nodes_max(void)
{
    return FAILPOINT("fs.locks.few") ? NODES_FEW : NODES_MAX;
}

/* Any name can be looked up, so the kernel is asked to forget those that it has known for longest. */
static void sweep_begin(struct fs *fs)
{
    struct sweep *s = HASH_COUNT(nodes.by_number) < nodes_max() / 2 ? NULL : sweep_new(&sweeping);
    struct view_node *n, *tmp;
    int count = 0;

    if (!s)
        return;
    HASH_ITER(hh, nodes.by_number, n, tmp) {
        if (count++ == SWEEP_NODES)
            break;
        sweep_add(s, LOCKS_ROOT, n->key, n->key_len - 1);
        HASH_DEL(nodes.by_number, n); /* to the end of the order: it may be in use */
        HASH_ADD(hh, nodes.by_number, number, sizeof n->number, n);
    }
    sweep_start(fs, s);
}

static void view_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e;
    int err;

    sweep_begin(fs_of(req));

    if (!name) {
        reply_root(req);
    } else if (!is_root(parent) || !store_lock_name_ok(name, strlen(name))) {
        fuse_reply_err(req, ENOENT);
    } else if (HASH_COUNT(nodes.by_number) >= nodes_max() && !nodes_find(&nodes, number_of(name))) {
        fuse_reply_err(req, ENFILE);
    } else if ((err = fill(fs_of(req), number_of(name), name, &e))) {
        fuse_reply_err(req, fs_errno(err));
    } else {
        nodes_reply_entry(req, &nodes, FS_VIEW_LOCKS, name, strlen(name) + 1, &e);
    }
}

static void view_getattr(fuse_req_t req, fuse_ino_t node)
{
    const char *name = name_of(node);
    struct fuse_entry_param e;
    int err = 0;

    if (is_root(node))
        control__entry_of(fs_of(req), node, ROOT_MODE, &e);
    else
        err = name ? fill(fs_of(req), node, name, &e) : QE_STALE;
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_attr(req, &e.attr, e.attr_timeout);
}

/* A size, as of truncate(1), means nothing. */
static void view_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int valid, struct fuse_file_info *fi)
{
    (void)attr, (void)fi;
    if (is_root(node) || valid & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID) || !(valid & FUSE_SET_ATTR_SIZE))
        fuse_reply_err(req, EPERM);
    else
        view_getattr(req, node);
}

/* ---- Listing ------------------------------------------------------------------------------------------------------------------- */

struct lock_list {
    struct listing_job job;
    int err;
};

static bool add_name(void *data, const char *name, size_t len)
{
    struct lock_list *l = data;
    char copy[STORE_LOCK_NAME_MAX + 1] = "";

    memcpy(copy, name, len);
    l->err = listing_add(l->job.out, name, len, number_of(copy), S_IFREG);
    return !l->err;
}

/* A worker's thread. */
static int list_run(struct fs *fs, struct store_reader *reader, void *data)
{
    struct lock_list *l = data;
    int err = store_lock_names(reader, "", add_name, l);

    (void)fs;
    return err ? err : l->err;
}

/* Replies: the names that are held or waited for. */
static void view_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct lock_list *l;

    if (!is_root(node)) {
        fuse_reply_err(req, ENOTDIR);
        return;
    }
    l = calloc(1, sizeof *l);
    listing_start(req, node, FS_CONTROL_ROOT, fi, list_run, l ? &l->job : NULL);
}

/* ---- Facts about the holder ---------------------------------------------------------------------------------------------------- */

struct fact_ask {
    fuse_req_t req;
    size_t size;
    char name[STORE_LOCK_NAME_MAX + 1];
    char fact[]; /* what follows user.quorum */
};

static int holder_text(const struct store_lock *l, struct buf *out)
{
    return buf_printf(out, "member=%" PRIu32 " uid=%" PRIu32 " pid=%" PRId32 " command=%.15s", l->member, l->uid, l->pid, l->comm);
}

/* One fact, or, with fact "", all of them as `name: value` lines. */
static int fact_get(struct fs *fs, const char *name, const char *fact, struct buf *out)
{
    struct buf value = {0};
    struct store_lock l = {0};
    int64_t n_waiting = 0;
    int err = store_lock(fs->reader, name, &l, &value, &n_waiting);
    bool held = !err;

    buf_fini(&value);
    if (err && err != QE_NOENT)
        return err;
    if (!strcmp(fact, ".waiters"))
        return buf_printf(out, "%" PRId64, n_waiting);
    if (!strcmp(fact, ".holder"))
        return held ? holder_text(&l, out) : QE_NODATA;
    if (!strcmp(fact, ".token"))
        return held ? buf_printf(out, "%" PRId64, l.token) : QE_NODATA;
    if (*fact)
        return QE_NODATA;
    if (held) {
        buf_printf(out, "holder: ");
        holder_text(&l, out);
        buf_printf(out, "\ntoken: %" PRId64 "\n", l.token);
    }
    return buf_printf(out, "waiters: %" PRId64 "\n", n_waiting);
}

static void fact_settle(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct fact_ask *a = data;
    struct buf out = {0};

    (void)rev, (void)ino;
    if (req && !err)
        err = fact_get(fs, a->name, a->fact, &out);
    if (req)
        xattrs_reply(req, &out, a->size, err);
    buf_fini(&out);
    free(a);
}

/* Replies: a fact; ENODATA; ERANGE; ETIMEDOUT: what there is cannot be known without a quorum. */
static void view_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
    struct fs *fs = fs_of(req);
    const char *lock = name_of(node), *fact = name + strlen("user.quorum");
    struct fact_ask *a;
    int err = xattrs_readable(name);

    if (!err && (!lock || !xattrs_is_fact(name)))
        err = QE_NODATA;
    a = err ? NULL : calloc(1, sizeof *a + strlen(fact) + 1);
    if (!a) {
        fuse_reply_err(req, fs_errno(err ? err : QE_NOMEM));
        return;
    }
    a->size = size;
    strcpy(a->name, lock);
    strcpy(a->fact, fact);
    if (replica_barrier_needed(fs->replica))
        pending_barrier(fs, &(struct pending_call){.req = req, .settle = fact_settle, .data = a});
    else
        fact_settle(fs, req, 0, 0, 0, a);
}

/* ---- Opening ------------------------------------------------------------------------------------------------------------------- */

static struct lock_file *file_of(const struct fuse_file_info *fi)
{
    return (struct lock_file *)(uintptr_t)fi->fh;
}

/* Replies; the file is the open file's, or gone. */
static void answer_open(struct lock_file *f, fuse_req_t req, int err)
{
    struct fuse_file_info fi = f->fi;

    if (err)
        fuse_reply_err(req, fs_errno(err));
    if (err || fuse_reply_open(req, &fi) == -ENOENT) /* the caller is gone: no RELEASE will come */
        lock_file_close(f);
}

static void open_now(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    const char *name = name_of(node);
    struct lock_file *f = name ? lock_file_new(fs, name, fi->flags, fuse_req_ctx(req)) : NULL;
    int err;

    if (!f) {
        fuse_reply_err(req, name ? ENOMEM : ESTALE);
        return;
    }
    fi->fh = (uintptr_t)f;
    fi->direct_io = 1;
    f->fi = *fi;
    if (f->writable) {
        claim_ask(req, f, true, !(fi->flags & O_NONBLOCK), answer_open);
        return;
    }
    err = read_value(fs, name, &f->content);
    answer_open(f, req, err);
}

/* Replies: an open file. For reading: at once, ETIMEDOUT without a quorum. For writing, when the lock is held: EAGAIN: it is not, with
 * O_NONBLOCK; EINTR; ETIMEDOUT: no quorum to ask for it; ENOLCK: the cluster has too many. */
static void view_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    if (is_root(node))
        fuse_reply_err(req, EISDIR);
    else if ((fi->flags & O_ACCMODE) == O_RDONLY)
        barrier_control_open(req, node, fi, open_now);
    else
        open_now(req, node, fi);
}

static void view_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    (void)node;
    lock_file_close(file_of(fi));
    fuse_reply_err(req, 0);
}

/* ---- Use ----------------------------------------------------------------------------------------------------------------------- */

/* The holder sees what the value is; whoever only reads, what it was when the file was opened. */
static void view_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct lock_file *f = file_of(fi);
    int err = claim_is_lost(f) ? QE_STALE : 0;

    (void)node;
    if (!err && f->writable && off == 0) {
        buf_clear(&f->content);
        err = read_value(f->fs, f->name, &f->content);
    }
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        control__reply_bytes(req, &f->content, size, off);
}

/* Replies: the size; EFBIG; ESTALE: the lock is lost; ETIMEDOUT. Offsets mean nothing. */
static void view_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct lock_file *f = file_of(fi);
    struct store_op op = {.kind = STORE_OP_PROCLAIM, .name = {f->name, strlen(f->name)}, .bytes = {data, size}};
    struct store_command cmd = {.ops = &op, .n_ops = 1};
    struct pending_call call = {.req = req, .done = pending_done_write, .arg = size};
    int err = claim_is_lost(f) ? QE_STALE : size > STORE_LOCK_VALUE_MAX ? QE_FBIG : replica_writable(f->fs->replica);

    (void)node, (void)off;
    if (err) {
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    op.owner = claim_owner(f);
    op.rev = claim_token(f);
    pending_submit(f->fs, &cmd, &call);
}

static void view_fsync(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    (void)node;
    fuse_reply_err(req, claim_is_lost(file_of(fi)) ? ESTALE : 0); /* what was written is durable */
}

/* Always ready; who waits for nothing but errors hears when the lock is lost. */
static void view_poll(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct fuse_pollhandle *ph)
{
    struct lock_file *f = file_of(fi);
    unsigned events = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;

    (void)node;
    if (ph) {
        if (f->ph)
            fuse_pollhandle_destroy(f->ph);
        f->ph = ph;
    }
    fuse_reply_poll(req, events | (claim_is_lost(f) ? POLLERR : 0));
}

/* ---- flock(2) ------------------------------------------------------------------------------------------------------------------ */

static void answer_flock(struct lock_file *f, fuse_req_t req, int err)
{
    (void)f;
    fuse_reply_err(req, fs_errno(err));
}

/* A lock is given up, and maybe another one asked for then. */
struct flock_change {
    fuse_req_t req;
    struct lock_file *f; /* a reference */
    int op;
};

static void flock_ask(struct fs *fs, void *data, int err)
{
    struct flock_change *c = data;
    int kind = c->op & ~LOCK_NB;

    (void)fs;
    if (err || kind == LOCK_UN)
        fuse_reply_err(c->req, fs_errno(err));
    else
        claim_ask(c->req, c->f, kind == LOCK_EX, !(c->op & LOCK_NB), answer_flock);
    lock_file_unref(c->f);
    free(c);
}

/* Replies: 0; EAGAIN; EINTR; ESTALE: it was lost; ETIMEDOUT. Who has the file open for writing holds the lock until it is closed, whatever
 * is asked for here. */
static void view_flock(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, int op)
{
    struct lock_file *f = file_of(fi);
    struct flock_change *c;
    int kind = op & ~LOCK_NB;

    (void)node;
    if (claim_is_lost(f)) {
        fuse_reply_err(req, ESTALE);
        return;
    }
    if (f->writable || (f->claim && kind == (claim_is_exclusive(f) ? LOCK_EX : LOCK_SH)) || (!f->claim && kind == LOCK_UN)) {
        fuse_reply_err(req, 0);
        return;
    }
    c = malloc(sizeof *c);
    if (!c) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    *c = (struct flock_change){req, f, op};
    lock_file_ref(f);
    if (f->claim)
        claim_leave(f, flock_ask, c);
    else
        flock_ask(f->fs, c, 0);
}

/* ---- inotify ------------------------------------------------------------------------------------------------------------------- */

static bool kernel_knows(const struct view_node *n)
{
    return (n && n->nlookup) || root_nlookup;
}

/* `name` NULL: what was changed is not known. */
static void on_changed(struct fs *fs, const char *name)
{
    struct view_node *n, *tmp;

    if (name && kernel_knows(nodes_find(&nodes, number_of(name)))) {
        replay_control(fs, LOCKS_ROOT, number_of(name), name);
    } else if (!name) {
        HASH_ITER(hh, nodes.by_number, n, tmp)
            replay_control(fs, LOCKS_ROOT, fs_node(FS_VIEW_LOCKS, n->number), n->key);
    }
}

void lock_files_begin(struct fs *fs)
{
    locks_set_watch(fs, on_changed);
}

const struct control_view control__locks_view = {
    .refusal = EPERM,
    .lookup = view_lookup,
    .forget = view_forget,
    .getattr = view_getattr,
    .setattr = view_setattr,
    .opendir = view_opendir,
    .readdir = listing_readdir,
    .releasedir = listing_releasedir,
    .getxattr = view_getxattr,
    .open = view_open,
    .release = view_release,
    .read = view_read,
    .write = view_write,
    .fsync = view_fsync,
    .poll = view_poll,
    .flock = view_flock,
};
