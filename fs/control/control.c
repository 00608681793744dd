/* Passes requests of the control tree on to the view that owns the node, and does what views have in common. */
#include "fs/control/control.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "fs/control/tree.h"
#include "fs/usage.h"
#include "store/base/failpoint.h"

enum { SNAPSHOT_BYTES_MAX = 1 << 30, SNAPSHOT_BYTES_FEW = 1 << 20 /* for a failpoint */ };

static const struct control_view *const views[] = {
    [FS_VIEW_CONTROL] = &control__rows_view,
    [FS_VIEW_LOCAL] = &control__local_view,
    [FS_VIEW_AT] = &control__at_view,
    [FS_VIEW_BOOKMARKS] = &control__bookmarks_view,
    [FS_VIEW_HISTORY] = &control__history_view,
    [FS_VIEW_LEASES] = &control__leases_view,
    [FS_VIEW_LEASE_ALIVE] = &control__lease_alive_view,
    [FS_VIEW_LEASE_KEYS] = &control__lease_keys_view,
    [FS_VIEW_WATCH] = &control__watch_view,
    [FS_VIEW_SINCE] = &control__watch_view,
    [FS_VIEW_TXN] = &control__txn_view,
    [FS_VIEW_SNAPSHOT] = &control__snapshot_view,
    [FS_VIEW_MEMBERS] = &control__members_view,
    [FS_VIEW_LOCKS] = &control__locks_view,
};

const struct control_view *control__view_of(fuse_ino_t node)
{
    size_t i = (size_t)fs_view_of(node);

    if (control__is_txn_tree(fs_view_of(node)))
        return &control__txn_tree_view;
    return i < sizeof views / sizeof *views ? views[i] : NULL;
}

/* ---- Looking ------------------------------------------------------------------------------------------------------------------- */

/* The view's function, or an error when the view does not exist or has no such function. */
#define PASS_ON(node, function, missing, ...)                                   \
    do {                                                                        \
        const struct control_view *view = control__view_of(node);               \
                                                                                \
        if (!view)                                                              \
            fuse_reply_err(req, ENOENT);                                        \
        else if (!view->function)                                               \
            missing;                                                            \
        else                                                                    \
            view->function(__VA_ARGS__);                                        \
    } while (0)
#define CHANGE(node, function, ...) PASS_ON(node, function, fuse_reply_err(req, view->refusal), __VA_ARGS__)

void control_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    PASS_ON(parent, lookup, fuse_reply_err(req, ENOENT), req, parent, name);
}

void control_reply_entry(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e;

    if (control_owns(parent)) {
        control_lookup(req, parent, name);
        return;
    }
    control_root_entry(fs_of(req), &e);
    fuse_reply_entry(req, &e);
}

const char *control_row_name(enum fs_view view)
{
    const struct control_row *row = control__row_of_view(view);

    return row ? row->name : NULL;
}

void control_forget(struct fs *fs, fuse_ino_t node, uint64_t nlookup)
{
    const struct control_view *view = control__view_of(node);

    if (view && view->forget)
        view->forget(fs, node, nlookup);
}

void control_getattr(fuse_req_t req, fuse_ino_t node)
{
    PASS_ON(node, getattr, fuse_reply_err(req, ENOENT), req, node);
}

void control_readlink(fuse_req_t req, fuse_ino_t node)
{
    PASS_ON(node, readlink, fuse_reply_err(req, EINVAL), req, node);
}

static void no_xattrs(fuse_req_t req, size_t size)
{
    if (size)
        fuse_reply_buf(req, NULL, 0);
    else
        fuse_reply_xattr(req, 0);
}

void control_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
    PASS_ON(node, getxattr, fuse_reply_err(req, ENODATA), req, node, name, size);
}

void control_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
    PASS_ON(node, listxattr, no_xattrs(req, size), req, node, size);
}

/* ---- Files --------------------------------------------------------------------------------------------------------------------- */

static struct usage *users; /* bytes of snapshots and listings; FUSE loop only */
static size_t snapshot_bytes;

static size_t snapshot_room(void)
{
    size_t max = FAILPOINT("fs.control.few") ? SNAPSHOT_BYTES_FEW : SNAPSHOT_BYTES_MAX;

    return max > snapshot_bytes ? max - snapshot_bytes : 0;
}

int control__snapshot_add(uid_t uid, size_t bytes)
{
    if (bytes > snapshot_room() || (uid != 0 && usage_of(users, uid) + bytes > snapshot_room() - bytes))
        return QE_NOMEM;
    if (!usage_add(&users, uid, bytes))
        return QE_NOMEM;
    snapshot_bytes += bytes;
    return 0;
}

void control__snapshot_drop(uid_t uid, size_t bytes)
{
    usage_drop(&users, uid, bytes);
    snapshot_bytes -= bytes;
}

static void control_file_free(struct control_file *f)
{
    control__snapshot_drop(f->uid, f->content.cap);
    buf_fini(&f->content);
    free(f);
}

void control__reply_open(fuse_req_t req, struct fuse_file_info *fi, struct buf *content, bool writable)
{
    uid_t uid = fuse_req_ctx(req)->uid;
    struct control_file *f = calloc(1, sizeof *f);

    if (!f || control__snapshot_add(uid, content->cap)) {
        free(f);
        buf_fini(content);
        fuse_reply_err(req, ENOMEM);
        return;
    }
    f->uid = uid;
    f->writable = writable;
    buf_move(&f->content, content);
    fi->fh = (uintptr_t)f;
    fi->direct_io = !fi->keep_cache; /* unless the caller says that the content never changes, size and all */
    if (fuse_reply_open(req, fi) == -ENOENT) /* the caller is gone: no RELEASE will come */
        control_file_free(f);
}

void control__reply_bytes(fuse_req_t req, const struct buf *b, size_t size, off_t off)
{
    size_t at = off < 0 || (uint64_t)off > b->len ? b->len : (size_t)off;

    if (size > b->len - at)
        size = b->len - at;
    fuse_reply_buf(req, size ? (const char *)b->data + at : NULL, size);
}

static void read_snapshot(fuse_req_t req, size_t size, off_t off, const struct fuse_file_info *fi)
{
    const struct control_file *f = (const struct control_file *)(uintptr_t)fi->fh;

    control__reply_bytes(req, &f->content, size, off);
}

static void release_snapshot(fuse_req_t req, const struct fuse_file_info *fi)
{
    control_file_free((struct control_file *)(uintptr_t)fi->fh);
    fuse_reply_err(req, 0);
}

static void poll_ready(fuse_req_t req, struct fuse_pollhandle *ph)
{
    if (ph)
        fuse_pollhandle_destroy(ph);
    fuse_reply_poll(req, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM);
}

void control_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    PASS_ON(node, open, fuse_reply_err(req, EISDIR), req, node, fi);
}

void control_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
    PASS_ON(node, read, read_snapshot(req, size, off, fi), req, node, size, off, fi);
}

void control_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
    PASS_ON(node, write, fuse_reply_err(req, EBADF), req, node, data, size, off, fi);
}

void control_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    PASS_ON(node, flush, fuse_reply_err(req, 0), req, node, fi);
}

void control_fsync(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    PASS_ON(node, fsync, fuse_reply_err(req, 0), req, node, fi);
}

void control_poll(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct fuse_pollhandle *ph)
{
    const struct control_view *view = control__view_of(node);

    if (view && view->poll)
        view->poll(req, node, fi, ph);
    else
        poll_ready(req, ph);
}

void control_flock(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, int op)
{
    PASS_ON(node, flock, fuse_reply_err(req, ENOLCK), req, node, fi, op);
}

void control_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    PASS_ON(node, release, release_snapshot(req, fi), req, node, fi);
}

/* ---- Directories --------------------------------------------------------------------------------------------------------------- */

void control_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    PASS_ON(node, opendir, fuse_reply_open(req, fi), req, node, fi);
}

void control_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
    PASS_ON(node, readdir, fuse_reply_err(req, ENOTDIR), req, node, size, off, fi, plus);
}

void control_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    PASS_ON(node, releasedir, fuse_reply_err(req, 0), req, node, fi);
}

/* ---- Changes ------------------------------------------------------------------------------------------------------------------- */

void control_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int valid, struct fuse_file_info *fi)
{
    CHANGE(node, setattr, req, node, attr, valid, fi);
}

void control_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    CHANGE(parent, mkdir, req, parent, name, mode);
}

void control_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    CHANGE(parent, rmdir, req, parent, name);
}

void control_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    CHANGE(parent, create, req, parent, name, mode, fi);
}

void control_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    CHANGE(parent, mknod, req, parent, name, mode, rdev);
}

void control_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    CHANGE(parent, symlink, req, target, parent, name);
}

void control_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    CHANGE(parent, unlink, req, parent, name);
}

void control_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t parent2, const char *name2, unsigned flags)
{
    CHANGE(parent, rename, req, parent, name, parent2, name2, flags);
}

void control_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags)
{
    CHANGE(node, setxattr, req, node, name, value, size, flags);
}

void control_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
    CHANGE(node, removexattr, req, node, name);
}
