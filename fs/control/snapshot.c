/* snapshot.db: a consistent copy of the whole database at one revision, made when it is opened.
 *
 * OPEN has a worker copy the database into an unlinked file of its own in DIR and is answered when the copy is complete, so whoever reads it
 * slowly keeps disk space and nothing else. Each look at the name gives a node of its own: its size is that of the copy that was opened
 * through it, right after open. The inode number that stat shows is the same for all, for cp compares it before and after open. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "fs/control/tree.h"
#include "fs/view.h"
#include "fs/work.h"

enum { AT_ONCE = 2 }; /* copies that exist: each takes as much disk as the database */

struct snapshot_node {
    uint64_t number; /* hash key */
    uint64_t nlookup;
    int64_t bytes;   /* of the copy that was opened last through it */
    UT_hash_handle hh;
};

struct snapshot { /* an open copy */
    struct fs *fs;
    int fd;
    int64_t bytes;
};

/* FUSE loop only. */
static struct snapshot_node *nodes;
static uint64_t last_number = VIEW_ROOT;
static int n_copies;

/* ---- Nodes --------------------------------------------------------------------------------------------------------------------- */

static struct snapshot_node *node_find(fuse_ino_t node)
{
    uint64_t number = fs_number_of(node);
    struct snapshot_node *n;

    HASH_FIND(hh, nodes, &number, sizeof number, n);
    return n;
}

static void snapshot_forget(struct fs *fs, fuse_ino_t node, uint64_t nlookup)
{
    struct snapshot_node *n = node_find(node);

    (void)fs;
    if (!n)
        return;
    n->nlookup -= nlookup < n->nlookup ? nlookup : n->nlookup;
    if (n->nlookup == 0) {
        HASH_DEL(nodes, n);
        free(n);
    }
}

static void fill_entry(struct fs *fs, fuse_ino_t node, int64_t bytes, struct fuse_entry_param *e)
{
    control__entry_of(fs, node, S_IFREG | 0400, e);
    e->entry_timeout = e->attr_timeout = 0;
    e->attr.st_ino = fs_node(FS_VIEW_SNAPSHOT, VIEW_ROOT);
    e->attr.st_size = bytes;
    e->attr.st_blocks = (bytes + 511) / 512;
}

static void snapshot_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct snapshot_node *n = name ? NULL : calloc(1, sizeof *n);
    struct fuse_entry_param e;

    (void)parent;
    if (!n) {
        fuse_reply_err(req, name ? ENOTDIR : ENOMEM);
        return;
    }
    n->number = ++last_number;
    n->nlookup = 1;
    HASH_ADD(hh, nodes, number, sizeof n->number, n);
    fill_entry(fs_of(req), fs_node(FS_VIEW_SNAPSHOT, n->number), 0, &e);
    if (fuse_reply_entry(req, &e) == -ENOENT) /* the caller is gone: no FORGET will come */
        snapshot_forget(fs_of(req), e.ino, 1);
}

static void snapshot_getattr(fuse_req_t req, fuse_ino_t node)
{
    const struct snapshot_node *n = node_find(node);
    struct fuse_entry_param e;

    fill_entry(fs_of(req), node, n ? n->bytes : 0, &e);
    fuse_reply_attr(req, &e.attr, 0);
}

/* ---- Making one ---------------------------------------------------------------------------------------------------------------- */

struct making {
    struct fuse_file_info fi;
    fuse_ino_t node;
    struct snapshot *out; /* owned */
};

static bool go_on(void *data)
{
    return !work_stopping(data);
}

static int unlinked_file(const char *dir)
{
    struct buf path = {0};
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
        return fd;
    if (!buf_printf(&path, "%s/snapshot.XXXXXX", dir)) { /* a file system that has no unnamed files */
        fd = mkostemp((char *)path.data, O_CLOEXEC);
        if (fd >= 0)
            (void)unlink((char *)path.data);
    }
    buf_fini(&path);
    return fd;
}

/* A worker's. */
static int make_run(struct fs *fs, struct store_reader *reader, void *data)
{
    struct making *m = data;
    struct store_export x;
    int err;

    (void)reader;
    m->out->fd = unlinked_file(fs->opt->dir);
    if (m->out->fd < 0)
        return errno == ENOSPC ? QE_DISKFULL : QE_IO;
    err = replica_export(fs->replica, m->out->fd, go_on, fs, &x);
    if (!err)
        m->out->bytes = x.bytes;
    return err;
}

static void snapshot_free(struct snapshot *s)
{
    if (s->fd >= 0)
        close(s->fd);
    n_copies--;
    free(s);
}

static void make_settle(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct making *m = data;
    struct snapshot *s = m->out;
    struct snapshot_node *n = node_find(m->node);

    (void)fs, (void)rev, (void)ino;
    if (err)
        log_warn("control", "no snapshot could be made: %s", qfs_strerror(err));
    if (req && err)
        fuse_reply_err(req, fs_errno(err));
    if (!req || err) {
        snapshot_free(s);
    } else {
        if (n)
            n->bytes = s->bytes;
        m->fi.fh = (uintptr_t)s;
        m->fi.direct_io = 1;
        if (fuse_reply_open(req, &m->fi) == -ENOENT)
            snapshot_free(s);
    }
    free(m);
}

static void snapshot_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct making *m;

    if ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC) {
        fuse_reply_err(req, EACCES);
        return;
    }
    if (n_copies >= AT_ONCE) {
        fuse_reply_err(req, EBUSY);
        return;
    }
    m = calloc(1, sizeof *m);
    if (m)
        m->out = calloc(1, sizeof *m->out);
    if (!m || !m->out) {
        free(m);
        fuse_reply_err(req, ENOMEM);
        return;
    }
    m->fi = *fi;
    m->node = node;
    m->out->fs = fs_of(req);
    m->out->fd = -1;
    n_copies++;
    work_start(fs_of(req), make_run, &(struct pending_call){.req = req, .settle = make_settle, .data = m});
}

/* ---- Reading it ---------------------------------------------------------------------------------------------------------------- */

struct reading { /* the loop does not wait for the disk: a worker reads */
    int fd;
    off_t off;
    size_t size, len;
    char bytes[];
};

static int read_run(struct fs *fs, struct store_reader *reader, void *data)
{
    struct reading *r = data;

    (void)fs, (void)reader;
    while (r->len < r->size) {
        ssize_t n = pread(r->fd, r->bytes + r->len, r->size - r->len, r->off + (off_t)r->len);

        if (n < 0)
            return QE_IO;
        if (n == 0)
            break;
        r->len += (size_t)n;
    }
    return 0;
}

static void read_settle(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct reading *r = data;

    (void)fs, (void)rev, (void)ino;
    if (req && err)
        fuse_reply_err(req, fs_errno(err));
    else if (req)
        fuse_reply_buf(req, r->bytes, r->len);
    close(r->fd);
    free(r);
}

static void snapshot_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
    const struct snapshot *s = (const struct snapshot *)(uintptr_t)fi->fh;
    struct reading *r = malloc(sizeof *r + size);
    int fd = r ? fcntl(s->fd, F_DUPFD_CLOEXEC, 0) : -1; /* a reader that dies lets go of the copy while the worker reads */

    (void)node;
    if (fd < 0) {
        free(r);
        fuse_reply_err(req, ENOMEM);
        return;
    }
    *r = (struct reading){.fd = fd, .off = off, .size = size};
    work_start(fs_of(req), read_run, &(struct pending_call){.req = req, .settle = read_settle, .data = r});
}

static void snapshot_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    (void)node;
    snapshot_free((struct snapshot *)(uintptr_t)fi->fh);
    fuse_reply_err(req, 0);
}

static void not_a_directory(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    (void)node, (void)fi;
    fuse_reply_err(req, ENOTDIR);
}

static void no_names(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
    (void)node, (void)size, (void)off, (void)fi, (void)plus;
    fuse_reply_err(req, ENOTDIR);
}

const struct control_view control__snapshot_view = {
    .refusal = EPERM,
    .lookup = snapshot_lookup,
    .forget = snapshot_forget,
    .getattr = snapshot_getattr,
    .open = snapshot_open,
    .read = snapshot_read,
    .release = snapshot_release,
    .opendir = not_a_directory,
    .readdir = no_names,
};
