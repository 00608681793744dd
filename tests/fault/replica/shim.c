/* Both names of each call are defined here, so this file must not have one stand for the other. */
#undef _FILE_OFFSET_BITS
#include "tests/fault/replica/shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_int left; /* counted calls until the one that fails; 0: not armed, or fired */
static atomic_bool fired;
static int failure;     /* errno, set before `left` */
static _Atomic(const char *) what = "";

void shim_arm(int nth, int error)
{
    failure = error;
    atomic_store(&fired, false);
    atomic_store(&what, "");
    atomic_store(&left, nth);
}

void shim_disarm(void)
{
    atomic_store(&left, 0);
}

bool shim_fired(void)
{
    return atomic_load(&fired);
}

const char *shim_what(void)
{
    return atomic_load(&what);
}

/* True: this call fails. */
static bool hit(const char *name)
{
    int n = atomic_load(&left);

    while (n > 0 && !atomic_compare_exchange_weak(&left, &n, n - 1))
        ;
    if (n != 1)
        return false;
    atomic_store(&what, name);
    atomic_store(&fired, true);
    errno = failure;
    return true;
}

static bool hit_fd(const char *name, int fd)
{
    struct stat st;
    int saved = errno;

    if (atomic_load(&left) == 0 || fd <= 2)
        return false;
    if (fstat(fd, &st) || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))) {
        errno = saved;
        return false;
    }
    errno = saved;
    return hit(name);
}

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
    void *f = dlsym(RTLD_NEXT, name);

    if (!f)
        abort();
    return f;
}

static int open_flags(const char *name, const char *symbol, const char *path, int flags, mode_t mode)
{
    int (*f)(const char *, int, ...) = (int (*)(const char *, int, ...))real(symbol);

    if ((flags & O_ACCMODE) != O_RDONLY && hit(name))
        return -1;
    return f(path, flags, mode);
}

#define OPEN(symbol) \
    int symbol(const char *path, int flags, ...); \
    int symbol(const char *path, int flags, ...) \
    { \
        va_list ap; \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { \
            va_start(ap, flags); \
            mode = va_arg(ap, mode_t); \
            va_end(ap); \
        } \
        return open_flags("open", #symbol, path, flags, mode); \
    }
#undef open
#undef open64
OPEN(open)
OPEN(open64)

#define FD(result, symbol, params, args) \
    result symbol params; \
    result symbol params \
    { \
        result (*f) params = (result (*) params)real(#symbol); \
        return hit_fd(#symbol, fd) ? -1 : f args; \
    }
#undef pwrite
#undef pwritev
#undef ftruncate
FD(ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n))
FD(ssize_t, pwrite, (int fd, const void *p, size_t n, off_t off), (fd, p, n, off))
FD(ssize_t, pwrite64, (int fd, const void *p, size_t n, off_t off), (fd, p, n, off))
FD(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n))
FD(ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t off), (fd, v, n, off))
FD(ssize_t, pwritev64, (int fd, const struct iovec *v, int n, off_t off), (fd, v, n, off))
FD(int, fsync, (int fd), (fd))
FD(int, fdatasync, (int fd), (fd))
FD(int, ftruncate, (int fd, off_t len), (fd, len))
FD(int, ftruncate64, (int fd, off_t len), (fd, len))

int rename(const char *from, const char *to)
{
    return hit("rename") ? -1 : REAL(rename)(from, to);
}

int unlink(const char *path)
{
    return hit("unlink") ? -1 : REAL(unlink)(path);
}

int mkdir(const char *path, mode_t mode)
{
    return hit("mkdir") ? -1 : REAL(mkdir)(path, mode);
}

static int fallocate_any(const char *symbol, int fd, off_t off, off_t len)
{
    int (*f)(int, off_t, off_t) = (int (*)(int, off_t, off_t))real(symbol);

    return hit_fd("posix_fallocate", fd) ? failure : f(fd, off, len);
}

#undef posix_fallocate
int posix_fallocate(int fd, off_t off, off_t len);
int posix_fallocate(int fd, off_t off, off_t len) { return fallocate_any("posix_fallocate", fd, off, len); }
int posix_fallocate64(int fd, off_t off, off_t len);
int posix_fallocate64(int fd, off_t off, off_t len) { return fallocate_any("posix_fallocate64", fd, off, len); }

/* libraft submits its writes with bare system calls; the failure comes with the event, as the kernel's would. */
long syscall(long number, ...)
{
    long (*f)(long, ...) = (long (*)(long, ...))real("syscall");
    long a[6], rv;
    va_list ap;

    va_start(ap, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
    rv = f(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (number == SYS_io_getevents && rv > 0) {
        struct io_event *events = (struct io_event *)a[3]; /* NOLINT: that is how the call passes it */

        if (events[0].res != -EAGAIN && hit("aio write"))
            events[0].res = -failure;
    }
    return rv;
}
