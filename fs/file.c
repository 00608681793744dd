/* Opening, creating, reading and writing files of the live tree. What an open file is: handle.h; when it commits: commit.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/commit.h"
#include "fs/flock.h"
#include "fs/ops.h"
#include "fs/pages.h"
#include "fs/pending.h"
#include "fs/proc.h"
#include "store/base/failpoint.h"

static struct handle *file_handle(const struct fuse_file_info *fi)
{
    return (struct handle *)(uintptr_t)fi->fh;
}

void file_info(struct handle *h, struct fuse_file_info *fi)
{
    fi->fh = (uint64_t)(uintptr_t)h;
    fi->direct_io = 1;            /* reads come to us: each handle has its own snapshot */
    fi->noflush = !h->writable && !flock_wants_flush(h->fs); /* a reader's close has nothing to commit, but it ends its process's fcntl locks */
}

void file_drop(struct handle *h)
{
    handle_drop_edits(h);
    commit_release(h);
}

void file_make_writer(struct handle *h, const struct fuse_ctx *ctx)
{
    if (h->writable)
        return;
    h->writable = true;
    handle_opener(h, ctx->pid);
}

int file_open_handle(struct fs *fs, struct inode *in, int flags, const struct fuse_ctx *ctx, bool made, struct handle **out)
{
    struct handle *h = handle_new(fs, in, flags, ctx);
    int err = h ? 0 : QE_NOMEM;

    if (!err && in->gone)
        err = QE_STALE;
    if (!err && !made && (h->writable || (flags & O_TRUNC)))
        err = fs->stopping ? QE_SHUTDOWN : replica_writable(fs->replica);
    if (!err && !inode_pending(fs, in))
        err = handle_load(h);
    if (!err && (flags & O_TRUNC) && h->size > 0) {
        file_make_writer(h, ctx); /* O_RDONLY | O_TRUNC truncates too */
        err = handle_truncate(h, 0);
    } else if (!err) {
        h->truncates = flags & O_TRUNC;
    }
    if (!err && !h->writable)
        err = handle_peek(h, ctx->pid);
    if (err && h) {
        h->released = true;
        handle_unref(h);
    }
    if (!err) {
        h->makes = made;
        *out = h;
    }
    return err == QE_NOENT ? QE_STALE : err; /* the kernel walks the path again */
}

void file_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    struct inode *in = inode_add(fs, node);
    struct handle *h;
    int err = in ? file_open_handle(fs, in, fi->flags, fuse_req_ctx(req), false, &h) : QE_NOMEM;

    if (err) {
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    file_info(h, fi);
    (void)FAILPOINT("fs.open");
    if (fuse_reply_open(req, fi) == -ENOENT)
        file_drop(h);
}

/* ---- Creating ---- */

static void file_reply_create(fuse_req_t req, const struct store_attr *attr, struct handle *h, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    struct fuse_entry_param e;
    int err;

    file_info(h, fi);
    err = name_entry(fs, attr, &e);
    (void)FAILPOINT("fs.open");
    if (err) {
        file_drop(h);
        fuse_reply_err(req, fs_errno(err));
    } else if (fuse_reply_create(req, &e, fi) == -ENOENT) {
        file_drop(h);
        inode_forget(fs, e.ino, 1);
    }
}

/* The kernel did not find the name, so it has not asked whether the file may be opened. */
static int file_may_open(fuse_req_t req, uint64_t node, int flags)
{
    const unsigned want = ((flags & O_ACCMODE) != O_WRONLY ? PERM_READ : 0) | ((flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC ? PERM_WRITE : 0);
    struct perm who;
    struct store_attr a;
    int err = attr_of(fs_of(req), node, fuse_req_ctx(req)->pid, &a);

    if (!err)
        err = perm_of(req, &who);
    if (err)
        return err;
    if (!perm_allows(&who, a.mode, a.uid, a.gid, want))
        err = QE_ACCES;
    perm_fini(&who);
    return err;
}

/* The name exists by now: CREATE is OPEN. `mine`: this very request has made it. */
static void file_create_existing(fuse_req_t req, uint64_t node, struct fuse_file_info *fi, bool mine)
{
    struct fs *fs = fs_of(req);
    int err = mine ? 0 : file_may_open(req, node, fi->flags);
    struct inode *in = err ? NULL : inode_add(fs, node);
    struct store_attr attr;
    struct handle *h;

    if (!err)
        err = in ? file_open_handle(fs, in, fi->flags, fuse_req_ctx(req), mine, &h) : QE_NOMEM;
    if (!err) {
        err = attr_of(fs, node, fuse_req_ctx(req)->pid, &attr);
        if (err)
            file_drop(h);
    }
    if (err)
        fuse_reply_err(req, fs_errno(mine ? QE_TIMEDOUT : err)); /* it may have gone again: nothing else says that it was made */
    else
        file_reply_create(req, &attr, h, fi);
}

static void file_settle_exclusive(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct fuse_file_info *fi = data;

    (void)fs;
    (void)rev;
    if (req && err)
        fuse_reply_err(req, fs_errno(err));
    else if (req)
        file_create_existing(req, ino, fi, true);
    free(fi);
}

/* O_EXCL: the name is taken at once, on all members. */
static void file_create_exclusive(fuse_req_t req, struct store_op *op, const struct fuse_file_info *fi)
{
    struct store_command cmd = {.ops = op, .n_ops = 1};
    struct fuse_file_info *kept = malloc(sizeof *kept);
    struct pending_call call = {.req = req, .settle = file_settle_exclusive, .data = kept};

    if (!kept) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    *kept = *fi;
    kept->flags &= ~O_TRUNC;
    pending_submit(fs_of(req), &cmd, &call);
}

int file_create_pending(fuse_req_t req, struct inode *in, const struct store_op *op, const char *name, int flags, struct handle **out)
{
    struct fs *fs = fs_of(req);
    struct creation *c = creation_new(fs, in, op->parent, name);
    struct handle *h = c && !perm_of(req, &c->who) ? handle_new(fs, in, flags, fuse_req_ctx(req)) : NULL;

    if (!h) {
        inode_unused(fs, in);
        return QE_NOMEM;
    }
    if ((flags & O_TRUNC) && edits_truncate(&h->edits, 0)) { /* also of the file that may take the name first */
        handle_unref(h);
        return QE_NOMEM;
    }
    c->mode = op->mode;
    c->uid = op->uid;
    c->gid = op->gid;
    file_make_writer(h, fuse_req_ctx(req)); /* O_RDONLY | O_CREAT creates too */
    c->session = h->session;
    h->makes = h->dirty = true;
    handle_count(h, 0, false);
    *out = h;
    return 0;
}

int file_create_check(struct fs *fs, const struct fuse_ctx *ctx, fuse_ino_t parent, const char *name)
{
    struct store_glance g;
    int err = name_refused(parent, name);

    if (!err)
        err = handle_admit(fs, ctx->uid);
    if (!err)
        err = fs->stopping ? QE_SHUTDOWN : replica_writable(fs->replica);
    replica_glance(fs->replica, &g);
    if (!err && g.live_bytes + STORE_ENTRY_COST + (int64_t)strlen(name) > g.quota)
        err = QE_NOSPC;
    return err;
}

/* What is bound to the name already: 0 with its node, or QE_NOENT. */
static int file_create_look(fuse_req_t req, uint64_t parent, const char *name, int flags, uint64_t *node)
{
    struct fs *fs = fs_of(req);
    struct store_attr attr;
    struct creation *c;
    int err = store_lookup(fs->reader, STORE_HEAD, parent, name, strlen(name), &attr);

    if (!err && S_ISDIR(attr.mode))
        return QE_ISDIR;
    if (!err && S_ISLNK(attr.mode))
        return QE_LOOP;
    *node = attr.ino;
    if (err == QE_NOENT) {
        c = creation_find(fs, 0, parent, name, proc_session(fuse_req_ctx(req)->pid));
        if (c) {
            *node = c->in->node;
            err = 0;
        }
    }
    return !err && (flags & O_EXCL) ? QE_EXIST : err;
}

void file_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    struct store_op op = {.kind = STORE_OP_CREATE, .parent = inode_ino(fs, parent), .name = {name, strlen(name)}, .mode = mode & 07777};
    struct store_attr attr;
    struct inode *in;
    struct handle *h;
    uint64_t node;
    int err = file_create_check(fs, fuse_req_ctx(req), parent, name);

    if (!err)
        err = file_create_look(req, op.parent, name, fi->flags, &node);
    if (!err) {
        file_create_existing(req, node, fi, false);
        return;
    }
    if (err == QE_NOENT)
        err = name_owner(fs, fuse_req_ctx(req), op.parent, &op);
    if (!err && !(op.new_ino = replica_new_ino(fs->replica, STORE_FILE)))
        err = QE_TIMEDOUT;
    if (!err && (fi->flags & O_EXCL)) {
        file_create_exclusive(req, &op, fi);
        return;
    }
    if (!err) {
        in = inode_add(fs, op.new_ino);
        err = in ? file_create_pending(req, in, &op, name, fi->flags, &h) : QE_NOMEM;
    }
    if (err) {
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    creation_attr(h->in->creation, 0, &attr);
    file_reply_create(req, &attr, h, fi);
}

/* ---- Reading and writing ---- */

void file_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
    const void *data;
    size_t len;
    bool paged = fi->lock_owner == 0; /* read(2) names the owner of the descriptor table, a page fault does not */
    int err;

    if (paged && !file_handle(fi)->in->mapped)
        pages_mapped(fs_of(req), file_handle(fi)->in);
    err = flock_lost(file_handle(fi)) ? QE_STALE : (paged ? handle_read_page : handle_read)(file_handle(fi), size, off, &data, &len);

    (void)node;
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_buf(req, data, len);
}

/* Replies. `sync`: each write commits. */
static void file_put(fuse_req_t req, struct handle *h, const void *data, size_t size, off_t off, bool paged, bool sync)
{
    int err = flock_lost(h) ? QE_STALE : h->failed ? h->failed : h->broken ? h->broken : replica_writable(h->fs->replica);

    if (!err)
        err = handle_write(h, data, size, off, paged);
    if (err)
        handle_fail(h, err);
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else if (sync)
        commit_write(req, h, size);
    else
        fuse_reply_write(req, size);
}

void file_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct handle *h = file_handle(fi);

    (void)node;
    if (fi->writepage && !h->in->mapped)
        pages_mapped(h->fs, h->in);
    if (!fi->writepage)
        h->append = fi->flags & O_APPEND; /* as it is now: fcntl(2) can change it */
    file_put(req, h, data, size, off, fi->writepage, (h->sync || fi->flags & O_DSYNC) && !fi->writepage); /* pwritev2(2) has RWF_DSYNC */
}

/* The kernel asks for nothing behind what it takes for the end, which is that of the newest content: a longer snapshot would be cut. */
static bool file_has_shrunk(const struct handle *h)
{
    struct store_attr attr;

    return !store_getattr(h->fs->reader, STORE_HEAD, h->in->ino, &attr) && attr.size < h->size;
}

/* Without this the kernel would copy pages, as of a mapping, which may be of several contents. EINVAL: programs read and write then. */
void file_copy(fuse_req_t req, struct fuse_file_info *from, off_t from_off, struct fuse_file_info *to, off_t to_off, size_t size)
{
    struct handle *h = file_handle(from);
    struct buf copy = {0}; /* both may be one open file */
    const void *data;
    size_t len = 0;
    int err = flock_lost(h) ? QE_STALE : handle_read(h, SIZE_MAX, from_off, &data, &len);

    if (!err && size < len && file_has_shrunk(h))
        err = QE_INVAL;
    if (!err)
        err = buf_append(&copy, data, size < len ? size : len);
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else if (copy.len == 0)
        fuse_reply_write(req, 0);
    else
        file_put(req, file_handle(to), copy.data, copy.len, to_off, false, file_handle(to)->sync);
    buf_fini(&copy);
}

void file_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct handle *h = file_handle(fi);

    (void)node;
    fuse_reply_err(req, 0);
    commit_release(h);
}
