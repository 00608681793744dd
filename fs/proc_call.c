/* Which system call a thread is in, from /proc/TID/syscall. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/proc.h"
#include "fs/proc_kept.h"

/* Whether the arguments of a *at call say that its descriptor is meant and not a path. */
static bool is_by_descriptor(unsigned long path, unsigned long flags)
{
    return (flags & AT_EMPTY_PATH) || path == 0;
}

/* What opens do is in their flags. */
static enum proc_call open_kind(unsigned long flags)
{
    return (flags & O_CREAT) && (flags & O_EXCL) ? PROC_CALL_MAKE : PROC_CALL_OTHER;
}

/* Calls that newer architectures do not have: the same without "at". */
static enum proc_call old_call_kind(long nr, const unsigned long args[6])
{
    switch (nr) {
#ifdef SYS_stat
    case SYS_stat:
    case SYS_lstat:
        return PROC_CALL_STAT;
    case SYS_open:
        return open_kind(args[1]);
    case SYS_mkdir:
    case SYS_mknod:
    case SYS_symlink:
    case SYS_link:
        return PROC_CALL_MAKE;
    case SYS_chmod:
    case SYS_chown:
    case SYS_lchown:
    case SYS_utime:
    case SYS_utimes:
    case SYS_futimesat:
        return PROC_CALL_SET;
    case SYS_unlink:
    case SYS_rmdir:
    case SYS_rename:
        return PROC_CALL_CHANGE;
    case SYS_fstat:
        return PROC_CALL_DESCRIPTOR;
#endif
    default:
        (void)args;
        return PROC_CALL_OTHER;
    }
}

/* A dispatcher in one switch, by the number of the call. */
static enum proc_call call_kind(long nr, const unsigned long args[6])
{
    switch (nr) {
#ifdef SYS_newfstatat
    case SYS_newfstatat:
        return is_by_descriptor(args[1], args[3]) ? PROC_CALL_DESCRIPTOR : PROC_CALL_STAT;
#endif
    case SYS_statx:
        return is_by_descriptor(args[1], args[2]) ? PROC_CALL_DESCRIPTOR : PROC_CALL_STAT;
    case SYS_openat:
        return open_kind(args[2]);
    case SYS_mkdirat:
    case SYS_mknodat:
    case SYS_symlinkat:
    case SYS_linkat:
        return PROC_CALL_MAKE;
    case SYS_fchmodat:
        return PROC_CALL_SET;
    case SYS_fchownat:
        return is_by_descriptor(args[1], args[4]) ? PROC_CALL_DESCRIPTOR : PROC_CALL_SET;
    case SYS_utimensat:
        return is_by_descriptor(args[1], args[3]) ? PROC_CALL_DESCRIPTOR : PROC_CALL_SET;
    case SYS_unlinkat:
#ifdef SYS_renameat
    case SYS_renameat:
#endif
    case SYS_renameat2:
        return PROC_CALL_CHANGE;
    case SYS_fgetxattr:
    case SYS_flistxattr:
    case SYS_fsetxattr:
    case SYS_fremovexattr:
    case SYS_fchmod:
    case SYS_fchown:
    case SYS_ftruncate:
        return PROC_CALL_DESCRIPTOR;
    case SYS_openat2:        /* its flags are in memory */
    case SYS_io_uring_enter: /* any call may be in it */
        return PROC_CALL_UNKNOWN;
    default:
        return old_call_kind(nr, args);
    }
}

struct call {
    char text[256]; /* what /proc says of it */
    ssize_t len;
    long nr;
    unsigned long args[6];
};

/* OTHER: some call, whose number and arguments are known now. */
static enum proc_call read_call(pid_t tid, struct call *c)
{
    enum { TRIES = 8 }; /* a thread that has just sent its request may not sleep yet */
    unsigned long sp;

    if (tid <= 0)
        return PROC_CALL_UNKNOWN;
    c->len = 0;
    for (int i = 0; i < TRIES && (c->len = proc_kept_read(tid, PROC_SYSCALL, c->text, sizeof c->text)) > 0 && c->text[0] == 'r'; i++)
        ; /* "running" */
    if (c->len > 0 && c->text[0] == 'r')
        return PROC_CALL_AWAKE;
    if (c->len <= 0 || sscanf(c->text, "%ld %lx %lx %lx %lx %lx %lx %lx", &c->nr, &c->args[0], &c->args[1], &c->args[2], &c->args[3],
                              &c->args[4], &c->args[5], &sp) != 8)
        return PROC_CALL_UNKNOWN;
    return c->nr < 0 || (sizeof sp == 8 && sp >> 32 == 0) ? PROC_CALL_UNKNOWN : PROC_CALL_OTHER; /* a program of 32 bits has other numbers */
}

enum proc_call proc_call_of(pid_t tid, uint64_t *shape)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    struct call c;
    enum proc_call kind = read_call(tid, &c);

    if (kind != PROC_CALL_OTHER)
        return kind;
    for (ssize_t i = 0; i < c.len; i++) /* FNV-1a */
        hash = (hash ^ (unsigned char)c.text[i]) * UINT64_C(0x100000001b3);
    if (shape)
        *shape = hash;
    return call_kind(c.nr, c.args);
}

enum proc_call proc_mkdir_of(pid_t tid)
{
    struct call c;
    enum proc_call kind = read_call(tid, &c);

#ifdef SYS_mkdir
    if (kind == PROC_CALL_OTHER && c.nr == SYS_mkdir)
        return PROC_CALL_MAKE;
#endif
    return kind == PROC_CALL_OTHER && c.nr == SYS_mkdirat ? PROC_CALL_MAKE : kind;
}
