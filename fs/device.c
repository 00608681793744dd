#include "fs/device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/proc.h"

extern char **environ;

#ifndef FUSE_DIRECT_IO_ALLOW_MMAP
#define FUSE_DIRECT_IO_ALLOW_MMAP (UINT64_C(1) << 36) /* protocol 7.39, newer than the headers we build with */
#endif

/* ---- Shared mappings of files with direct io ----
 *
 * The kernel can do it when asked at INIT, but this libfuse has no name for the flag. So the INIT exchange is watched, and the flag
 * is set in the reply if the kernel has offered it. */

static ssize_t device_read(int fd, void *buf, size_t len, void *userdata)
{
    struct fs *fs = userdata;
    ssize_t n = read(fd, buf, len);
    const struct fuse_in_header *h = buf;
    const struct fuse_init_in *in = (const struct fuse_init_in *)(const void *)(h + 1);

    if (!fs->initialized && n >= (ssize_t)(sizeof *h + sizeof *in) && h->opcode == FUSE_INIT && (in->flags & FUSE_INIT_EXT))
        fs->shared_mmap = in->flags2 & (uint32_t)(FUSE_DIRECT_IO_ALLOW_MMAP >> 32);
    return n;
}

/* ---- Files without a position ----
 *
 * Reads of a file that has one wait for each other in the kernel, where no signal reaches them. This libfuse has no name for that flag either. */

static _Thread_local bool streaming; /* the reply that is being written opens such a file */

int device_reply_stream(fuse_req_t req, const struct fuse_file_info *fi)
{
    int rc;

    streaming = true;
    rc = fuse_reply_open(req, fi);
    streaming = false;
    return rc;
}

static ssize_t write_stream(int fd, const struct iovec *iov)
{
    struct fuse_open_out out;
    struct iovec patched[2] = {iov[0], {&out, sizeof out}};

    memcpy(&out, iov[1].iov_base, sizeof out);
    out.open_flags |= FOPEN_STREAM;
    return writev(fd, patched, 2);
}

static ssize_t device_writev(int fd, struct iovec *iov, int count, void *userdata)
{
    struct fs *fs = userdata;
    struct fuse_init_out out;
    struct iovec patched[2];

    if (streaming && count == 2 && iov[1].iov_len == sizeof(struct fuse_open_out))
        return write_stream(fd, iov);
    if (fs->init_answered || !fs->initialized || count != 2 || iov[1].iov_len != sizeof out)
        return writev(fd, iov, count);
    fs->init_answered = true;
    if (!fs->shared_mmap)
        return writev(fd, iov, count);
    memcpy(&out, iov[1].iov_base, sizeof out);
    out.flags |= FUSE_INIT_EXT;
    out.flags2 |= (uint32_t)(FUSE_DIRECT_IO_ALLOW_MMAP >> 32);
    patched[0] = iov[0];
    patched[1] = (struct iovec){&out, sizeof out};
    return writev(fd, patched, 2);
}

static int device_attach(struct fs *fs, int fd)
{
    static const struct fuse_custom_io io = {.read = device_read, .writev = device_writev};

    if (fcntl(fd, F_SETFL, O_NONBLOCK) || fcntl(fd, F_SETFD, FD_CLOEXEC))
        return QE_IO;
    return fuse_session_custom_io(fs->se, &io, fd) ? QE_IO : 0;
}

/* ---- Mounting ---- */

static const struct {
    const char *name;
    unsigned long set, clear;
} mount_flags[] = {
    {"ro", MS_RDONLY, 0},           {"rw", 0, MS_RDONLY},         {"noexec", MS_NOEXEC, 0},
    {"exec", 0, MS_NOEXEC},         {"noatime", MS_NOATIME, 0},   {"atime", 0, MS_NOATIME},
    {"nodiratime", MS_NODIRATIME, 0}, {"diratime", 0, MS_NODIRATIME}, {"relatime", MS_RELATIME, 0},
    {"norelatime", 0, MS_RELATIME}, {"strictatime", MS_STRICTATIME, 0}, {"sync", MS_SYNCHRONOUS, 0},
    {"async", 0, MS_SYNCHRONOUS},   {"dirsync", MS_DIRSYNC, 0},
};

/* The generic options as flags of mount(2); always nosuid and nodev. */
static unsigned long device_flags(const struct fs_options *opt)
{
    unsigned long flags = MS_NOSUID | MS_NODEV | (opt->read_only ? MS_RDONLY : 0);
    char *copy = strdup(opt->kernel_opts ? opt->kernel_opts : ""), *save = NULL;

    for (char *o = copy ? strtok_r(copy, ",", &save) : NULL; o; o = strtok_r(NULL, ",", &save))
        for (size_t i = 0; i < sizeof mount_flags / sizeof *mount_flags; i++)
            if (!strcmp(o, mount_flags[i].name))
                flags = (flags | mount_flags[i].set) & ~mount_flags[i].clear;
    free(copy);
    return flags;
}

static int device_mount_root(struct fs *fs, struct buf *why)
{
    const struct fs_options *opt = fs->opt;
    struct buf data = {0};
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC), err = 0;

    if (fd < 0) {
        buf_printf(why, "cannot open \"/dev/fuse\": %s; load the fuse module, or give the container --device /dev/fuse", strerror(errno));
        return QE_IO;
    }
    buf_printf(&data, "fd=%d,rootmode=%o,user_id=%u,group_id=%u%s%s", fd, S_IFDIR, fs->owner_uid, fs->owner_gid,
               opt->allow_other ? ",allow_other" : "", opt->default_permissions ? ",default_permissions" : "");
    if (mount(opt->dir, opt->mountpoint, "fuse.quorumfs", device_flags(opt), buf_cstr(&data))) {
        buf_printf(why, "cannot mount on \"%s\": %s%s", opt->mountpoint, strerror(errno),
                   errno == EPERM ? "; a container needs --cap-add SYS_ADMIN" : "");
        err = QE_IO;
    }
    buf_fini(&data);
    if (!err)
        err = device_attach(fs, fd);
    if (err)
        close(fd);
    return err;
}

int device_args(const struct fs_options *opt, struct fuse_args *args)
{
    static const char *const handed[] = {"noexec", "noatime"}; /* fusermount3 does not know nodiratime */
    int bad = fuse_opt_add_arg(args, "quorumfs");
    char *list = NULL;

    if (geteuid() != 0) { /* fusermount3 makes the mount from these */
        bad |= fuse_opt_add_opt(&list, "subtype=quorumfs,nosuid,nodev");
        bad |= opt->allow_other ? fuse_opt_add_opt(&list, "allow_other") : 0;
        bad |= opt->default_permissions ? fuse_opt_add_opt(&list, "default_permissions") : 0;
        bad |= opt->read_only ? fuse_opt_add_opt(&list, "ro") : 0;
        for (size_t i = 0; i < sizeof handed / sizeof *handed; i++)
            bad |= strstr(opt->kernel_opts, handed[i]) ? fuse_opt_add_opt(&list, handed[i]) : 0;
        bad |= fuse_opt_add_opt_escaped(&list, "fsname=quorumfs");
        bad |= fuse_opt_add_arg(args, "-o");
        bad |= fuse_opt_add_arg(args, list ? list : "");
        free(list);
    }
    return bad ? QE_NOMEM : 0;
}

int device_mount(struct fs *fs, struct buf *why)
{
    char dev[32], type[64];
    int err;

    if (geteuid() == 0) {
        err = device_mount_root(fs, why);
    } else if (fuse_session_mount(fs->se, fs->opt->mountpoint)) {
        buf_printf(why, "cannot mount on \"%s\": fusermount3 (package fuse3) refused", fs->opt->mountpoint);
        err = QE_IO;
    } else {
        err = device_attach(fs, fuse_session_fd(fs->se));
    }
    if (!err && !proc_find_mount(fs->opt->mountpoint, dev, type)) {
        buf_printf(why, "the new mount on \"%s\" is not in /proc/self/mountinfo", fs->opt->mountpoint);
        err = QE_IO;
    }
    if (!err)
        proc_set_device(dev);
    fs->mounted = !err;
    return err;
}

void device_unmount(struct fs *fs)
{
    const char *const argv[] = {"fusermount3", "-u", "-z", "-q", "--", fs->opt->mountpoint, NULL};
    pid_t pid;

    if (!fs->mounted)
        return;
    fs->mounted = false;
    if (geteuid() == 0) {
        if (umount2(fs->opt->mountpoint, MNT_DETACH) && errno != EINVAL)
            log_warn("mount", "cannot unmount \"%s\": %s", fs->opt->mountpoint, strerror(errno));
        return;
    }
    if (posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)(uintptr_t)argv, environ) == 0)
        waitpid(pid, NULL, 0);
}
