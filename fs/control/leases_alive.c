/* leases/NAME/alive: the lease is renewed for as long as a process of this member has it open for writing.
 *
 * Opening it for writing renews the lease once and returns when the leader has acknowledged that, so whoever gets a descriptor has a whole
 * TTL ahead; from then on replica renews it. What is written means nothing, but tells whether the lease is still there: ESTALE when it
 * has gone. poll says POLLOUT as long as it is there, and POLLERR from then on. Reading shows `yes` when this member keeps the lease, else
 * `no`, as of the open, and renews nothing.
 *
 * The node is the id of the lease. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <uthash.h>

#include "fs/barrier.h"
#include "fs/control/leases.h"
#include "fs/pending.h"

struct watched { /* a lease of which files are open */
    uint64_t id; /* key */
    struct alive *files;
    UT_hash_handle hh;
};

struct alive { /* an open file */
    struct alive *prev, *next; /* of the lease */
    struct watched *lease;
    bool keeps; /* open for writing: replica was told */
    bool gone;  /* the lease has gone */
    char says[5]; /* what a reader sees */
    struct fuse_pollhandle *ph; /* who waits; owned */
    struct fuse_file_info fi;   /* until it is open */
};

static struct watched *leases;  /* FUSE loop only */
static _Atomic size_t n_open;   /* files */
static _Atomic size_t n_kept;   /* of them that are open for writing */

size_t leases_kept(struct fs *fs)
{
    (void)fs;
    return atomic_load(&n_kept);
}

fuse_ino_t leases__alive_node(uint64_t id)
{
    return fs_node(FS_VIEW_LEASE_ALIVE, id);
}

/* ---- Attributes ---------------------------------------------------------------------------------------------------------------- */

static void fill(struct fs *fs, const struct store_lease *l, struct fuse_entry_param *e)
{
    control__entry_of(fs, leases__alive_node(l->id), S_IFREG | 0644, e);
    e->entry_timeout = e->attr_timeout = 0;
    e->attr.st_uid = l->owner;
    e->attr.st_gid = 0;
}

void leases__reply_alive(fuse_req_t req, const struct store_lease *l)
{
    struct fuse_entry_param e;

    fill(fs_of(req), l, &e);
    fuse_reply_entry(req, &e);
}

/* It is a file, so nothing is below it. */
static void alive_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    (void)parent, (void)name;
    fuse_reply_err(req, ENOTDIR);
}

static void alive_getattr(fuse_req_t req, fuse_ino_t node)
{
    struct fuse_entry_param e;
    struct store_lease l;
    int err = leases__by_id(fs_of(req), fs_number_of(node), &l);

    if (err) {
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    fill(fs_of(req), &l, &e);
    fuse_reply_attr(req, &e.attr, 0);
}

/* Truncation means nothing; touch NAME renews, not touch NAME/alive. */
static void alive_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int valid, struct fuse_file_info *fi)
{
    (void)attr, (void)fi;
    if (valid & FUSE_SET_ATTR_SIZE && !(valid & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)))
        alive_getattr(req, node);
    else
        fuse_reply_err(req, EPERM);
}

/* ---- Opening and closing ------------------------------------------------------------------------------------------------------- */

/* A file of the lease. NULL: out of memory. */
static struct alive *alive_new(uint64_t id)
{
    struct alive *a = calloc(1, sizeof *a);
    struct watched *w;

    HASH_FIND(hh, leases, &id, sizeof id, w);
    if (a && !w && (w = calloc(1, sizeof *w))) {
        w->id = id;
        HASH_ADD(hh, leases, id, sizeof w->id, w);
    }
    if (!a || !w) {
        free(a);
        return NULL;
    }
    a->lease = w;
    a->next = w->files;
    if (a->next)
        a->next->prev = a;
    w->files = a;
    atomic_fetch_add(&n_open, 1);
    return a;
}

static void alive_end(struct fs *fs, struct alive *a)
{
    struct watched *w = a->lease;

    if (a->prev)
        a->prev->next = a->next;
    else
        w->files = a->next;
    if (a->next)
        a->next->prev = a->prev;
    if (a->keeps) {
        atomic_fetch_sub(&n_kept, 1);
        if (fs->replica) /* else it has stopped */
            (void)replica_lease_keep(fs->replica, w->id, false);
    }
    if (!w->files) {
        HASH_DEL(leases, w);
        free(w);
    }
    if (a->ph)
        fuse_pollhandle_destroy(a->ph);
    free(a);
    atomic_fetch_sub(&n_open, 1);
}

static void alive_reply(fuse_req_t req, struct alive *a, struct fuse_file_info *fi)
{
    fi->fh = (uintptr_t)a;
    fi->direct_io = 1;
    fi->nonseekable = 1;
    if (fuse_reply_open(req, fi) == -ENOENT) /* the caller is gone: no RELEASE will come */
        alive_end(fs_of(req), a);
}

/* Whether a process of this member keeps the lease alive. */
static bool is_kept(const struct watched *w)
{
    for (const struct alive *a = w->files; a; a = a->next)
        if (a->keeps && !a->gone)
            return true;
    return false;
}

static void renewed(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct alive *a = data;

    (void)rev, (void)ino;
    if (req && !err) {
        alive_reply(req, a, &a->fi);
        return;
    }
    if (req)
        fuse_reply_err(req, err == QE_NOENT ? ESTALE : fs_errno(err)); /* the kernel looks whether the name is there now */
    alive_end(fs, a);
}

/* Replies: the open file; ESTALE: it has gone; EACCES to others than its owner and root; ETIMEDOUT without a quorum. */
static void open_now(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    bool writes = (fi->flags & O_ACCMODE) != O_RDONLY;
    struct alive *a = NULL;
    struct store_lease l;
    int err = leases__by_id(fs, fs_number_of(node), &l);

    if (!err && writes && !leases__is_owner(req, &l))
        err = QE_ACCES;
    if (!err && writes && fs->stopping)
        err = QE_SHUTDOWN;
    if (!err && !(a = alive_new(l.id)))
        err = QE_NOMEM;
    if (!err && writes && !(err = replica_lease_keep(fs->replica, l.id, true))) {
        a->keeps = true;
        atomic_fetch_add(&n_kept, 1);
    }
    if (err) {
        if (a)
            alive_end(fs, a);
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    strcpy(a->says, is_kept(a->lease) ? "yes\n" : "no\n");
    a->fi = *fi;
    if (writes)
        pending_renew(fs, l.id, &(struct pending_call){.req = req, .settle = renewed, .data = a});
    else
        alive_reply(req, a, fi);
}

static void alive_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    barrier_control_open(req, node, fi, open_now);
}

static void alive_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    (void)node;
    alive_end(fs_of(req), (struct alive *)(uintptr_t)fi->fh);
    fuse_reply_err(req, 0);
}

/* ---- Reading, writing, waiting ------------------------------------------------------------------------------------------------- */

static void alive_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
    const struct alive *a = (const struct alive *)(uintptr_t)fi->fh;
    size_t len = strlen(a->says), at = off < 0 || (uint64_t)off > len ? len : (size_t)off;

    (void)node;
    fuse_reply_buf(req, a->says + at, size < len - at ? size : len - at);
}

/* Looks whether the lease is there; once gone it stays gone. */
static bool alive_is_gone(struct fs *fs, struct alive *a)
{
    struct store_lease l;

    if (!a->gone && leases__by_id(fs, a->lease->id, &l) == QE_STALE)
        a->gone = true;
    return a->gone;
}

static void alive_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct alive *a = (struct alive *)(uintptr_t)fi->fh;

    (void)node, (void)data, (void)off;
    if (!a->keeps)
        fuse_reply_err(req, EBADF);
    else if (alive_is_gone(fs_of(req), a))
        fuse_reply_err(req, ESTALE);
    else
        fuse_reply_write(req, size);
}

static void alive_poll(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct fuse_pollhandle *ph)
{
    struct alive *a = (struct alive *)(uintptr_t)fi->fh;
    bool gone = alive_is_gone(fs_of(req), a);

    (void)node;
    if (ph) {
        if (a->ph)
            fuse_pollhandle_destroy(a->ph);
        a->ph = ph;
    }
    fuse_reply_poll(req, gone ? POLLERR : a->keeps ? POLLOUT | POLLWRNORM : POLLIN | POLLRDNORM);
}

struct gone { /* leases that went; n 0: anything may have */
    size_t n;
    uint64_t ids[];
};

static void tell(struct fs *fs, const struct watched *w)
{
    for (struct alive *a = w->files; a; a = a->next)
        if (!a->gone && alive_is_gone(fs, a) && a->ph)
            fuse_lowlevel_notify_poll(a->ph);
}

static void look(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct gone *g = data;
    struct watched *w, *tmp;

    (void)req, (void)err, (void)rev, (void)ino;
    for (size_t i = 0; i < g->n && fs->reader; i++) {
        HASH_FIND(hh, leases, &g->ids[i], sizeof g->ids[i], w);
        if (w)
            tell(fs, w);
    }
    HASH_ITER(hh, leases, w, tmp)
        if (g->n == 0 && fs->reader)
            tell(fs, w);
    free(g);
}

/* Out of memory: the next write or poll sees it. */
void leases_gone(struct fs *fs, const uint64_t *ids, size_t n)
{
    struct gone *g = atomic_load(&n_open) ? malloc(sizeof *g + n * sizeof *ids) : NULL;

    if (!g)
        return;
    g->n = n;
    if (n)
        memcpy(g->ids, ids, n * sizeof *ids);
    if (pending_post(fs, look, g))
        free(g);
}

void leases_close(struct fs *fs)
{
    while (leases)
        alive_end(fs, leases->files);
}

const struct control_view control__lease_alive_view = {
    .refusal = EPERM,
    .lookup = alive_lookup,
    .getattr = alive_getattr,
    .setattr = alive_setattr,
    .open = alive_open,
    .read = alive_read,
    .release = alive_release,
    .write = alive_write,
    .poll = alive_poll,
};
