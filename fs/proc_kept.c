#include "fs/proc_kept.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

/* A descriptor stays with the thread that its path named: once that is gone reads fail (ESRCH), also when the number is used again. */
enum { KEPT_THREADS = 64 };
static struct kept {
    pid_t tid; /* 0: nothing is kept here */
    int fd[PROC_KEPT_FILES]; /* + 1; 0: not opened */
} kept[KEPT_THREADS];
static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER; /* of kept */

static void kept_clear(struct kept *k)
{
    for (int i = 0; i < PROC_KEPT_FILES; i++)
        if (k->fd[i])
            close(k->fd[i] - 1);
    *k = (struct kept){0};
}

/* By path and not by openat(2), which the thread sanitizer does not know: it would take the number for the descriptor that another
 * thread had before. */
static int kept_open(pid_t tid, enum proc_kept_file which)
{
    static const char *const names[PROC_KEPT_FILES] = {"syscall", "stat", "comm"};
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/%s", (int)tid, names[which]);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static ssize_t kept_read(struct kept *k, pid_t tid, enum proc_kept_file which, char *out, size_t size)
{
    ssize_t n = -1;

    if (k->tid == tid && k->fd[which])
        n = pread(k->fd[which] - 1, out, size, 0);
    if (n > 0)
        return n;
    if (k->tid != tid || k->fd[which])
        kept_clear(k);
    k->tid = tid;
    k->fd[which] = kept_open(tid, which) + 1;
    return k->fd[which] ? pread(k->fd[which] - 1, out, size, 0) : -1;
}

ssize_t proc_kept_read(pid_t tid, enum proc_kept_file which, char *out, size_t size)
{
    ssize_t n;

    pthread_mutex_lock(&kept_lock);
    n = kept_read(&kept[(unsigned)tid % KEPT_THREADS], tid, which, out, size - 1);
    pthread_mutex_unlock(&kept_lock);
    if (n >= 0)
        out[n] = 0;
    return n;
}
