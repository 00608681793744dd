/* The table that libfuse calls. It does one thing: requests of the replayer go to its view, those for .quorum to fs/control, the rest to the
 * live tree. */
#include "fs/ops.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "fs/barrier.h"
#include "fs/commit.h"
#include "fs/control/control.h"
#include "fs/flock.h"
#include "fs/replay.h"

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
    struct fs *fs = userdata;

    fs->initialized = true;
    /* Handled here: O_TRUNC as part of open; suid and sgid bits, which fall with the commit;
     * locks, which move open files to the newest content. Not wanted: splice, since contents are
     * small and in memory; readdirplus, which would count lookups that nobody asked for. */
    conn->want |= conn->capable & (FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_PARALLEL_DIROPS |
                                    FUSE_CAP_FLOCK_LOCKS | FUSE_CAP_POSIX_LOCKS);
    conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_READDIRPLUS |
                              FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_ASYNC_DIO | FUSE_CAP_IOCTL_DIR);
    conn->time_gran = 1;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e;

    if (replay_is_worker(req)) {
        replay_view_lookup(req, parent, name);
    } else if (control_owns(parent)) {
        control_lookup(req, parent, name);
    } else if (parent == FUSE_ROOT_ID && !strcmp(name, ".quorum")) {
        control_root_entry(fs_of(req), &e);
        fuse_reply_entry(req, &e);
    } else {
        barrier_lookup(req, parent, name);
    }
}

static void op_forget(fuse_req_t req, fuse_ino_t node, uint64_t nlookup)
{
    if (control_owns(node))
        control_forget(fs_of(req), node, nlookup);
    else
        inode_forget(fs_of(req), node, nlookup);
    fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++)
        if (control_owns(forgets[i].ino))
            control_forget(fs_of(req), forgets[i].ino, forgets[i].nlookup);
        else
            inode_forget(fs_of(req), forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    if (replay_is_worker(req))
        replay_view_getattr(req, node);
    else if (control_owns(node))
        control_getattr(req, node);
    else
        barrier_getattr(req, node, fi != NULL);
}

static void op_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
    if (replay_is_worker(req))
        replay_view_setattr(req, node);
    else if (control_owns(node))
        control_setattr(req, node, attr, to_set, fi);
    else
        attr_set(req, node, attr, to_set, fi);
}

static void op_readlink(fuse_req_t req, fuse_ino_t node)
{
    if (control_owns(node))
        control_readlink(req, node);
    else
        barrier_readlink(req, node);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    if (replay_is_worker(req))
        replay_view_make(req, parent, name);
    else if (control_owns(parent))
        control_mknod(req, parent, name, mode, rdev);
    else if (!barrier_make_again(req)) {
        barrier_end_walk(req);
        name_mknod(req, parent, name, mode, rdev);
    }
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    if (replay_is_worker(req))
        replay_view_make(req, parent, name);
    else if (control_owns(parent))
        control_mkdir(req, parent, name, mode);
    else if (!barrier_make_again(req)) {
        barrier_end_walk(req);
        name_mkdir(req, parent, name, mode);
    }
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    if (replay_is_worker(req))
        replay_view_make(req, parent, name);
    else if (control_owns(parent))
        control_symlink(req, target, parent, name);
    else if (!barrier_make_again(req)) {
        barrier_end_walk(req);
        name_symlink(req, target, parent, name);
    }
}

static void op_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t parent, const char *name)
{
    (void)node;
    (void)parent;
    (void)name;
    fuse_reply_err(req, EPERM); /* a key has one name */
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    if (replay_is_worker(req))
        replay_view_remove(req, parent, name);
    else if (control_owns(parent))
        control_unlink(req, parent, name);
    else {
        barrier_end_walk(req);
        name_unlink(req, parent, name);
    }
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    if (replay_is_worker(req))
        replay_view_remove(req, parent, name);
    else if (control_owns(parent))
        control_rmdir(req, parent, name);
    else if (parent == FUSE_ROOT_ID && !strcmp(name, ".quorum"))
        fuse_reply_err(req, EPERM);
    else {
        barrier_end_walk(req);
        name_rmdir(req, parent, name);
    }
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t parent2, const char *name2, unsigned flags)
{
    if (replay_is_worker(req))
        replay_view_rename(req, parent, name, parent2, name2);
    else if (fs_view_of(parent) != fs_view_of(parent2))
        fuse_reply_err(req, EXDEV);
    else if (control_owns(parent))
        control_rename(req, parent, name, parent2, name2, flags);
    else if (parent == FUSE_ROOT_ID && !strcmp(name, ".quorum"))
        fuse_reply_err(req, EPERM);
    else {
        barrier_end_walk(req);
        name_rename(req, parent, name, parent2, name2, flags);
    }
}

static void op_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    if (replay_is_worker(req))
        replay_view_open(req, node, fi);
    else if (control_owns(node))
        control_open(req, node, fi);
    else
        barrier_open(req, node, fi);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    if (replay_is_worker(req))
        replay_view_create(req, parent, name, fi);
    else if (control_owns(parent))
        control_create(req, parent, name, mode, fi);
    else
        barrier_create(req, parent, name, mode, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
    if (control_owns(node))
        control_read(req, node, size, off, fi);
    else
        file_read(req, node, size, off, fi);
}

static void op_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
    if (fi->fh == REPLAY_FH)
        fuse_reply_write(req, size);
    else if (control_owns(node))
        control_write(req, node, data, size, off, fi);
    else
        file_write(req, node, data, size, off, fi);
}

/* Of control files the kernel copies by reading and writing. */
static void op_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_off, struct fuse_file_info *from_fi, fuse_ino_t to, off_t to_off,
                               struct fuse_file_info *to_fi, size_t size, int flags)
{
    (void)flags; /* there are none */
    if (control_owns(from) || control_owns(to))
        fuse_reply_err(req, EOPNOTSUPP);
    else
        file_copy(req, from_fi, from_off, to_fi, to_off, size);
}

static void op_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    if (fi->fh == REPLAY_FH)
        fuse_reply_err(req, 0);
    else if (control_owns(node))
        control_flush(req, node, fi);
    else
        commit_flush(req, (struct handle *)(uintptr_t)fi->fh, fi->lock_owner);
}

static void op_fsync(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi)
{
    (void)datasync;
    if (control_owns(node))
        control_fsync(req, node, fi);
    else
        commit_fsync(req, (struct handle *)(uintptr_t)fi->fh);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi)
{
    (void)node;
    (void)datasync;
    (void)fi;
    fuse_reply_err(req, 0); /* names are durable when their call returns */
}

static void op_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    if (fi->fh == REPLAY_FH)
        fuse_reply_err(req, 0);
    else if (control_owns(node))
        control_release(req, node, fi);
    else
        file_release(req, node, fi);
}

static void op_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    if (control_owns(node))
        control_opendir(req, node, fi);
    else
        barrier_opendir(req, node, fi);
}

static void op_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
    if (control_owns(node))
        control_readdir(req, node, size, off, fi, false);
    else
        barrier_readdir(req, node, size, off, fi);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    if (control_owns(node))
        control_releasedir(req, node, fi);
    else
        dir_release(req, node, fi);
}

static void op_statfs(fuse_req_t req, fuse_ino_t node)
{
    (void)node;
    attr_statfs(req);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
    if (replay_is_worker(req))
        fuse_reply_err(req, ENODATA);
    else if (control_owns(node))
        control_getxattr(req, node, name, size);
    else
        barrier_getxattr(req, node, name, size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
    if (control_owns(node))
        control_listxattr(req, node, size);
    else
        barrier_listxattr(req, node, size);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags)
{
    if (control_owns(node))
        control_setxattr(req, node, name, value, size, flags);
    else
        xattrs_set(req, node, name, value, size, flags);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
    if (control_owns(node))
        control_removexattr(req, node, name);
    else
        xattrs_remove(req, node, name);
}

/* Control files have no bytes to lock: EINVAL. */
static void op_getlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *lock)
{
    if (control_owns(node))
        fuse_reply_err(req, EINVAL);
    else
        flock_get_range(req, node, fi, lock);
}

static void op_setlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *lock, int sleep)
{
    if (control_owns(node))
        fuse_reply_err(req, EINVAL);
    else
        flock_set_range(req, node, fi, lock, sleep);
}

static void op_flock(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, int op)
{
    if (control_owns(node))
        control_flock(req, node, fi, op);
    else
        flock_set(req, node, fi, op);
}

/* One ENOSYS here would switch poll off for the whole mount. */
static void op_poll(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct fuse_pollhandle *ph)
{
    if (control_owns(node)) {
        control_poll(req, node, fi, ph);
        return;
    }
    flock_poll(req, (struct handle *)(uintptr_t)fi->fh, ph);
}

const struct fuse_lowlevel_ops fs_ops = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .symlink = op_symlink,
    .link = op_link,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .rename = op_rename,
    .open = op_open,
    .create = op_create,
    .read = op_read,
    .write = op_write,
    .copy_file_range = op_copy_file_range,
    .flush = op_flush,
    .fsync = op_fsync,
    .fsyncdir = op_fsyncdir,
    .release = op_release,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .releasedir = op_releasedir,
    .statfs = op_statfs,
    .getxattr = op_getxattr,
    .listxattr = op_listxattr,
    .setxattr = op_setxattr,
    .removexattr = op_removexattr,
    .getlk = op_getlk,
    .setlk = op_setlk,
    .flock = op_flock,
    .poll = op_poll,
};
