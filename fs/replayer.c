/* The process of replayer.h. Nothing here touches the store, the log or libfuse; whatever fails is an errno in a report.
 *
 * An order, step by step: the mount is opened through the parent directory of the mount point (which the supervisor has held since
 * before there was a mount, so that it needs no right to search what is above); its device number is compared; one or two
 * directories are opened by one path walk each, with O_PATH, which makes no event; the calls; everything is closed. */
#include "fs/replayer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "store/base/err.h"
#include "store/base/failpoint.h"

enum { ESTALE_TRIES = 8, BYTE_ITSELF = 1, NOT_REPORTED = -2, NO_SOCKET = -2, LEASE_LOOK_MS = 2, LEASE_WAIT_MS = 100 };

/* ---- A worker -------------------------------------------------------------------------------------------------------------------- */

/* The directories and names of an order, opened. */
struct places {
    int root;
    int dir, dir2;             /* root, or descriptors of their own */
    const char *name, *name2;
};

/* What the order before has left open; -1: nothing. */
static int kept_root = -1, kept_dir = -1;

/* What others have mounted over a name of ours is theirs: EXDEV, also for the last name, which a plain open would follow. */
static int open_ours(int dir, const char *path, int flags, mode_t mode)
{
    const struct open_how how = {.flags = (unsigned)(flags | O_NOFOLLOW | O_CLOEXEC), .mode = mode,
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};

    return (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
}

static int open_dir(int root, const char *path)
{
    return *path ? open_ours(root, path, O_PATH | O_DIRECTORY, 0) : root;
}

static void close_dir(const struct places *p, int fd)
{
    if (fd >= 0 && fd != p->root)
        close(fd);
}

/* The mount itself, if it is still there. */
static int open_root(int parent, const char *base, const struct replayer_order *o)
{
    struct statx stx;
    int fd = openat(parent, base, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0)
        return -1;
    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &stx) == 0 && stx.stx_dev_major == o->major && stx.stx_dev_minor == o->minor)
        return fd;
    close(fd);
    errno = ENODEV;
    return -1;
}

/* Who has a lease on the file (F_SETLEASE) is asked to give it up, and is waited for a moment; longer would hold up what is behind this. */
static int open_to_write(const struct places *p, int flags)
{
    const struct timespec pause = {.tv_nsec = LEASE_LOOK_MS * 1000000L};
    int fd = -1;

    for (int ms = 0; ms <= LEASE_WAIT_MS; ms += LEASE_LOOK_MS) {
        fd = open_ours(p->dir, p->name, O_WRONLY | O_NONBLOCK | flags, flags & O_CREAT ? 0600 : 0);
        if (fd >= 0 || errno != EWOULDBLOCK)
            break;
        nanosleep(&pause, NULL);
        errno = EWOULDBLOCK;
    }
    return fd;
}

/* The byte is not stored anywhere; an empty file is truncated, so that the kernel does not take it for longer. */
static int do_content(const struct places *p, int flags, bool touch, bool empty)
{
    int fd = open_to_write(p, flags), err = 0;

    if (fd < 0)
        return errno;
    if (touch && (empty ? ftruncate(fd, 0) != 0 : pwrite(fd, "", BYTE_ITSELF, 0) != BYTE_ITSELF))
        err = errno;
    close(fd);
    return err;
}

static int do_attrib(const struct places *p)
{
    int fd = *p->name ? open_ours(p->dir, p->name, O_PATH, 0) : p->dir, err;

    if (fd < 0)
        return errno;
    err = utimensat(fd, "", NULL, AT_EMPTY_PATH) ? errno : 0;
    if (fd != p->dir)
        close(fd);
    return err;
}

/* 0 or errno. */
static int look_at(int dir, const char *name)
{
    int fd = open_ours(dir, name, O_PATH, 0);

    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

/* A directory that others looked up under its new name already stands there for the kernel. Looking at the old name moves it back; another
 * look elsewhere may move it again, and then the call says ESTALE. */
static int do_rename(const struct places *p, unsigned flags, bool is_dir)
{
    for (int i = 0; i < ESTALE_TRIES; i++) {
        int err = is_dir ? look_at(p->dir, p->name) : 0;

        if (err)
            return err;
        if (renameat2(p->dir, p->name, p->dir2, p->name2, flags) == 0)
            return 0;
        if (errno != ESTALE)
            return errno;
    }
    return ESTALE;
}

static int failed(int rv)
{
    return rv ? errno : 0;
}

static int do_calls(const struct places *p, const struct replayer_order *o)
{
    if (FAILPOINT("replayer.call"))
        return EIO;
    switch ((enum replayer_call)o->call) {
    case REPLAYER_CREATE: return do_content(p, O_CREAT | O_EXCL, !o->empty, false);
    case REPLAYER_MKNOD: return failed(mknodat(p->dir, p->name, S_IFREG | 0600, 0));
    case REPLAYER_CONTENT: return do_content(p, 0, true, o->empty);
    case REPLAYER_MKDIR: return failed(mkdirat(p->dir, p->name, 0700));
    case REPLAYER_SYMLINK: return failed(symlinkat(".", p->dir, p->name));
    case REPLAYER_UNLINK: return failed(unlinkat(p->dir, p->name, 0));
    case REPLAYER_RMDIR: return failed(unlinkat(p->dir, p->name, AT_REMOVEDIR));
    case REPLAYER_RENAME: return do_rename(p, 0, o->is_dir);
    case REPLAYER_EXCHANGE: return do_rename(p, RENAME_EXCHANGE, o->is_dir);
    case REPLAYER_REST: return 0;
    case REPLAYER_ATTRIB: return do_attrib(p);
    }
    return EINVAL;
}

/* Strings of the order: each ends inside it. */
static bool take_string(const char **at, const char *end, const char **out)
{
    size_t len = strnlen(*at, (size_t)(end - *at));

    if (len == (size_t)(end - *at))
        return false;
    *out = *at;
    *at += len + 1;
    return true;
}

static int open_places(int parent, const char *base, const struct replayer_order *o, const char *dir, struct places *p)
{
    int err;

    p->root = kept_root;
    p->dir = kept_dir;
    kept_root = kept_dir = -1;
    if (o->same && p->root >= 0)
        return 0;
    if (p->root >= 0) {
        close_dir(p, p->dir);
        close(p->root);
    }
    if (o->call == REPLAYER_REST) {
        p->root = p->dir = -1;
        return 0;
    }
    p->root = open_root(parent, base, o);
    p->dir = p->root < 0 ? -1 : open_dir(p->root, dir);
    if (p->dir >= 0)
        return 0;
    err = errno;
    if (p->root >= 0)
        close(p->root);
    return err;
}

static int perform(int parent, const char *base, const char *message, size_t len)
{
    const char *at = message + sizeof(struct replayer_order), *end = message + len, *dir, *dir2;
    struct replayer_order o;
    struct places p;
    int err;

    if (len <= sizeof o || !take_string(&at, end, &dir) || !take_string(&at, end, &p.name) || !take_string(&at, end, &dir2) ||
        !take_string(&at, end, &p.name2))
        return EINVAL;
    memcpy(&o, message, sizeof o);
    err = open_places(parent, base, &o, dir, &p);
    if (err || o.call == REPLAYER_REST)
        return err ? err : NOT_REPORTED;
    p.dir2 = o.call == REPLAYER_RENAME || o.call == REPLAYER_EXCHANGE ? open_dir(p.root, dir2) : p.dir;
    if (p.dir2 < 0)
        err = errno;
    if (!err)
        err = do_calls(&p, &o);
    if (p.dir2 != p.dir)
        close_dir(&p, p.dir2);
    if (o.keep) {
        kept_root = p.root;
        kept_dir = p.dir;
        return err;
    }
    close_dir(&p, p.dir);
    close(p.root);
    return err;
}

static _Noreturn void worker_main(int sock, int parent, const char *base)
{
    static char message[REPLAYER_ORDER_MAX];
    struct replayer_report report = {.pid = (int32_t)getpid(), .err = -1};
    ssize_t n = 0;

    prctl(PR_SET_NAME, "qfs-replay-work");
    do {
        if (report.err != NOT_REPORTED && send(sock, &report, sizeof report, MSG_NOSIGNAL) != sizeof report)
            break;
        do
            n = recv(sock, message, sizeof message, 0);
        while (n < 0 && errno == EINTR);
        report.err = n > 0 ? perform(parent, base, message, (size_t)n) : 0;
    } while (n > 0);
    _exit(0);
}

/* ---- The supervisor -------------------------------------------------------------------------------------------------------------- */

/* Dies when its parent dies; `parent` may have died before this was asked for. */
static void die_with(pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
        _exit(0);
}

/* What came from the daemon by fork: its sockets, its caller's pipe, its terminal. */
static void keep_only(int a, int b)
{
    int low = a < b ? a : b, high = a < b ? b : a, null;

    if (low > 3)
        close_range(3, (unsigned)low - 1, 0);
    if (high > low + 1)
        close_range((unsigned)low + 1, (unsigned)high - 1, 0);
    close_range((unsigned)high + 1, ~0U, 0);
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; null >= 0 && fd < 3; fd++)
        dup2(null, fd);
    if (null > 2)
        close(null);
}

/* The socket that a message on `control` brings; NO_SOCKET when there was no room for it: the daemon sees that its end is closed, and asks
 * again. -1 when the daemon is gone. */
static int receive_socket(int control)
{
    char byte, space[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {&byte, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *c;
    ssize_t n;
    int fd = NO_SOCKET;

    do
        n = recvmsg(control, &m, MSG_CMSG_CLOEXEC);
    while (n < 0 && (errno == EINTR || errno == ENOMEM || errno == ENOBUFS));
    if (n <= 0)
        return -1;
    c = CMSG_FIRSTHDR(&m);
    if (c && c->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

/* Sent to a whole group or unit: the daemon decides when it is over. */
static const int not_ours[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

static _Noreturn void supervisor_main(int control, int parent, const char *base)
{
    int sock;

    prctl(PR_SET_NAME, "qfs-replayer");
    keep_only(control, parent);
    if (chdir("/"))
        _exit(1);
    signal(SIGCHLD, SIG_IGN); /* workers that end leave nothing behind */
    for (size_t i = 0; i < sizeof not_ours / sizeof *not_ours; i++)
        signal(not_ours[i], SIG_IGN);
    while ((sock = receive_socket(control)) != -1) {
        pid_t me = getpid(), pid = sock < 0 ? -1 : fork();

        if (pid == 0) {
            close(control);
            die_with(me);
            worker_main(sock, parent, base);
        }
        if (sock >= 0)
            close(sock); /* if there is no worker now, the daemon sees the end of its socket */
    }
    _exit(0);
}

int replayer_fork(const char *mountpoint, pid_t *pid, int *control, struct buf *why)
{
    const char *slash = strrchr(mountpoint, '/'), *base = slash && slash[1] ? slash + 1 : ".";
    char *above = strndup(mountpoint, slash && slash > mountpoint ? (size_t)(slash - mountpoint) : 1);
    int ends[2] = {-1, -1}, parent = above ? open(above, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    pid_t me = getpid();

    free(above);
    if (parent < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) {
        buf_printf(why, "cannot prepare the process that feeds inotify: %s", strerror(errno));
        if (parent >= 0)
            close(parent);
        return QE_IO;
    }
    fflush(NULL);
    *pid = fork();
    if (*pid == 0) {
        die_with(me);
        supervisor_main(ends[1], parent, base);
    }
    close(parent);
    close(ends[1]);
    *control = ends[0];
    if (*pid > 0)
        return 0;
    buf_printf(why, "cannot start the process that feeds inotify: %s", strerror(errno));
    close(ends[0]);
    return QE_IO;
}

int replayer_hire(int control, int *out)
{
    int ends[2], err;
    char byte = 0, space[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {&byte, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    ssize_t n;

    if (FAILPOINT("replayer.hire") || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        return QE_AGAIN;
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &ends[1], sizeof(int));
    n = sendmsg(control, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    err = n == 1 ? 0 : errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN ? QE_IO : QE_AGAIN;
    close(ends[1]);
    if (err)
        close(ends[0]);
    else
        *out = ends[0];
    return err;
}
