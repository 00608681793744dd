#include "fs/proc.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/proc_kept.h"

/* Bits of the kernel's task flags (include/linux/sched.h), field 9 of /proc/PID/stat. */
enum { FLAG_EXITING = 0x4, FLAG_SIGNALED = 0x400, SIGNAL_MASK = 0x7f };
enum { KNOWN_MOUNTS = 64 };

static char our_dev[32];
/* Mount ids that were looked up; a bind mount or another namespace has ids of its own. */
static struct {
    int id;
    bool ours;
} known[KNOWN_MOUNTS];
static int n_known;
static pthread_mutex_t known_lock = PTHREAD_MUTEX_INITIALIZER; /* of known, n_known */

/* Reads a small file of /proc into a string. Returns its length or -1. By path and not by openat(2), which the thread sanitizer does
 * not know: it would take the number for the descriptor that another thread had before. */
static ssize_t read_text(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return -1;
    n = read(fd, out, size - 1);
    close(fd);
    if (n >= 0)
        out[n] = 0;
    return n;
}

/* Killed, or gone by itself? The last field of /proc/TID/stat is the exit code of the whole process once it exits: its low bits are
 * the signal. FLAG_SIGNALED alone would not do: a process of several threads that calls exit() has it on all but one. Who may not
 * look into a process reads 0 there; then the flag is all there is, for a process of one thread. */
static bool was_killed(unsigned long flags, long n_threads, const char *text)
{
    const char *last = strrchr(text, ' ');
    long exit_code = last ? atol(last) : 0;

    if (!(flags & FLAG_EXITING) && !(flags & FLAG_SIGNALED))
        return false;
    if (exit_code != 0 || geteuid() == 0)
        return (exit_code & SIGNAL_MASK) != 0;
    return (flags & FLAG_SIGNALED) && n_threads == 1;
}

/* Threads whose process is known. A number that is used again has another start time. */
struct known_thread {
    pid_t tid, tgid;
    unsigned long long start; /* field 22 of /proc/TID/stat */
};
enum { KNOWN_THREADS = 512 };
static struct known_thread known_threads[KNOWN_THREADS];

static pid_t cached_tgid(pid_t tid, unsigned long long start)
{
    struct known_thread *k = &known_threads[(unsigned)tid % KNOWN_THREADS];

    if (k->tid != tid || k->start != start)
        *k = (struct known_thread){tid, proc_tgid(tid), start};
    return k->tgid;
}

bool proc_info(pid_t tid, struct proc_info *out)
{
    char text[512], *p;
    long ppid, pgrp, session, tty, tpgid, n_threads;
    unsigned long long start;
    unsigned long flags;
    char state;

    if (tid <= 0)
        return false;
    if (proc_kept_read(tid, PROC_STAT, text, sizeof text) <= 0)
        return false;
    p = strrchr(text, ')'); /* the command name may hold anything */
    if (!p || sscanf(p + 1, " %c %ld %ld %ld %ld %ld %lu %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld %*d %llu", &state, &ppid,
                              &pgrp, &session, &tty, &tpgid, &flags, &n_threads, &start) != 9)
        return false;
    out->session = (pid_t)session;
    out->signaled = was_killed(flags, n_threads, p);
    out->tgid = cached_tgid(tid, start);
    out->start = start;
    return true;
}

struct proc_id proc_identify(pid_t tid)
{
    struct proc_info info;

    if (!proc_info(tid, &info) || (info.tgid != tid && !proc_info(info.tgid, &info)))
        return (struct proc_id){0};
    return (struct proc_id){info.tgid, info.start};
}

pid_t proc_session(pid_t tid)
{
    struct proc_info info;

    return proc_info(tid, &info) ? info.session : PROC_NO_SESSION;
}

/* The number behind "KEY:" in a status-like text; false if there is no such line. */
static bool find_field(const char *text, const char *key, int base, uint64_t *out)
{
    const char *p = strstr(text, key);

    if (!p)
        return false;
    *out = strtoull(p + strlen(key), NULL, base);
    return true;
}

pid_t proc_tgid(pid_t tid)
{
    char path[64], text[2048];
    uint64_t tgid;

    snprintf(path, sizeof path, "/proc/%d/status", (int)tid);
    if (read_text(path, text, sizeof text) <= 0 || !find_field(text, "\nTgid:", 10, &tgid))
        return tid;
    return (pid_t)tgid;
}

void proc_comm(pid_t pid, char out[16])
{
    char text[64];
    ssize_t n = pid > 0 ? proc_kept_read(pid, PROC_COMM, text, sizeof text) : -1;

    if (n > 0 && text[n - 1] == '\n')
        text[n - 1] = 0;
    snprintf(out, 16, "%.15s", n > 0 ? text : "?");
    for (char *p = out; *p; p++) /* a process may call itself anything, but `writer` is a line */
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
}

bool proc_is_dying(pid_t tid)
{
    char path[64], text[4096];
    uint64_t own = 0, shared = 0;
    const uint64_t kill_bit = UINT64_C(1) << 8; /* SIGKILL is 9 */

    if (tid <= 0)
        return false;
    snprintf(path, sizeof path, "/proc/%d/status", (int)tid);
    if (read_text(path, text, sizeof text) <= 0)
        return true;
    find_field(text, "\nSigPnd:", 16, &own);
    find_field(text, "\nShdPnd:", 16, &shared);
    return (own | shared) & kill_bit;
}

void proc_set_device(const char *dev)
{
    snprintf(our_dev, sizeof our_dev, "%s", dev);
    n_known = 0;
}

/* A path in mountinfo has blanks and backslashes as \ooo. */
static void unescape(char *s)
{
    char *to = s;

    while (*s) {
        if (s[0] == '\\' && isdigit((unsigned char)s[1]) && isdigit((unsigned char)s[2]) && isdigit((unsigned char)s[3])) {
            *to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
            s += 4;
        } else {
            *to++ = *s++;
        }
    }
    *to = 0;
}

bool proc_find_mount(const char *mountpoint, char dev[32], char type[64])
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t size = 0;
    bool found = false;

    while (f && getline(&line, &size, f) > 0) {
        char *save = NULL, *field = strtok_r(line, " \n", &save), *at = NULL, *numbers = NULL;

        for (int i = 0; field && strcmp(field, "-"); i++, field = strtok_r(NULL, " \n", &save)) {
            if (i == 2)
                numbers = field;
            if (i == 4)
                at = field;
        }
        field = field ? strtok_r(NULL, " \n", &save) : NULL;
        if (!at || !numbers || !field)
            continue;
        unescape(at);
        if (strcmp(at, mountpoint))
            continue;
        snprintf(dev, 32, "%s", numbers); /* the last line for a mountpoint is the topmost mount */
        snprintf(type, 64, "%s", field);
        found = true;
    }
    free(line);
    if (f)
        fclose(f);
    return found;
}

/* Looks a mount id up in the caller's own namespace. */
static bool lookup_mount(pid_t tid, int id)
{
    char path[64], *line = NULL, dev[32];
    size_t size = 0;
    bool ours = false;
    FILE *f;
    int k;

    snprintf(path, sizeof path, "/proc/%d/mountinfo", (int)tid);
    f = fopen(path, "re");
    while (f && getline(&line, &size, f) > 0) {
        if (sscanf(line, "%d %*d %31s", &k, dev) == 2 && k == id) {
            ours = !strcmp(dev, our_dev);
            break;
        }
    }
    free(line);
    if (f)
        fclose(f);
    return ours;
}

/* Any thread. */
static bool is_our_mount(pid_t tid, int id)
{
    bool ours, hit = false;

    pthread_mutex_lock(&known_lock);
    for (int i = 0; i < n_known && !hit; i++) {
        hit = known[i].id == id;
        ours = known[i].ours;
    }
    pthread_mutex_unlock(&known_lock);
    if (hit)
        return ours;
    ours = lookup_mount(tid, id);
    pthread_mutex_lock(&known_lock);
    if (n_known == KNOWN_MOUNTS)
        n_known = 0;
    known[n_known].id = id;
    known[n_known++].ours = ours;
    pthread_mutex_unlock(&known_lock);
    return ours;
}

/* What needs no look at its fdinfo: descriptors without write access, which the mode of the link tells, and those that are no files
 * of a mount. */
static bool may_be_writer(int fd_dir, const char *fd)
{
    struct stat st;
    char first;

    if (fstatat(fd_dir, fd, &st, AT_SYMLINK_NOFOLLOW) || !(st.st_mode & S_IWUSR))
        return false;
    return readlinkat(fd_dir, fd, &first, 1) == 1 && first == '/'; /* else like "pipe:[5]" */
}

static bool is_writer(pid_t tid, const char *fd, uint64_t ino, uint64_t ino2)
{
    char path[64], text[1024];
    uint64_t flags, mnt, number;

    snprintf(path, sizeof path, "/proc/%d/fdinfo/%.10s", (int)tid, fd);
    if (read_text(path, text, sizeof text) <= 0)
        return false;
    if (!find_field(text, "flags:", 8, &flags) || !find_field(text, "\nmnt_id:", 10, &mnt) || !find_field(text, "\nino:", 10, &number))
        return false;
    if ((number != ino && number != ino2) || (flags & O_ACCMODE) == O_RDONLY || (flags & O_PATH))
        return false;
    return is_our_mount(tid, (int)mnt);
}

enum proc_table proc_look_for_writer(pid_t tid, uint64_t ino, uint64_t ino2)
{
    char path[64];
    int n = 0;
    bool found = false;
    struct dirent *e;
    DIR *d;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)tid);
    d = opendir(path);
    while (d && !found && (e = readdir(d))) {
        if (!isdigit((unsigned char)e->d_name[0]))
            continue;
        n++;
        found = may_be_writer(dirfd(d), e->d_name) && is_writer(tid, e->d_name, ino, ino2);
    }
    if (d)
        closedir(d);
    return found ? PROC_WRITER : n ? PROC_NO_WRITER : PROC_GONE;
}
