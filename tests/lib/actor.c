/* actor: a process that does what it is told, one system call a line, so that a test can interleave several processes exactly.
 *
 * Commands are lines on standard input, words separated by tabs (in a word \n, \t, \\ and \xHH stand for bytes). Each is answered by
 * one line on standard output: `ok [VALUE]` or the name of the errno. actor.bash has the other half.
 *
 *   open FD PATH FLAGS [MODE]  r w + | c create t trunc x excl a append s sync d dsync n nonblock N nofollow D directory T tmpfile
 *   write FD TEXT | pwrite FD OFF TEXT | fill FD CHAR COUNT | read FD COUNT | pread FD OFF COUNT | seek FD OFF
 *   ftruncate FD SIZE | fsync FD | fdatasync FD | close FD | dup FD NEWFD | size FD | nlink FD | fchmod FD MODE | futimens FD SEC
 *   lock FD r|w|u [START LEN] | flock FD s|x|u (both without waiting); lockw, flockw: with
 *   getlk FD r|w [START LEN]                   `u`, or what is in the way: r|w START LEN PID
 *   poll FD                                    `err` or `ready`
 *   mmap FD N p|s LEN | mread N OFF COUNT | mwrite N OFF TEXT | msync N | munmap N   (p private, s shared and writable)
 *   thread COMMAND...          another thread does it
 *   child COMMAND...           a forked child does it and exits; answered when the child is gone
 *   fork IN OUT                a forked child goes on as an actor that reads the FIFO IN and writes the FIFO OUT
 *   setsid | abort | _exit | exit
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS_MAX = 16, MAPS_MAX = 8, LINE_SIZE = 1 << 16, READ_MAX = 1 << 14 };

struct mapping {
    char *at;   /* NULL: free */
    size_t len; /* bytes mapped */
};

struct words {
    char *w[WORDS_MAX]; /* borrowed from the line; unused ones are "" */
    size_t len[WORDS_MAX]; /* bytes of each: a word may hold NULs */
    int n;              /* how many there are */
};

static struct mapping maps[MAPS_MAX];
static char answer[4 * READ_MAX + 16]; /* what follows `ok`, escaped; written by whoever runs the command */

static void run(const struct words *w);

static int flags_of(const char *s)
{
    static const struct {
        char c;
        int flag;
    } map[] = {{'r', O_RDONLY}, {'w', O_WRONLY}, {'+', O_RDWR}, {'c', O_CREAT}, {'t', O_TRUNC}, {'x', O_EXCL}, {'a', O_APPEND}, {'s', O_SYNC},
               {'d', O_DSYNC}, {'n', O_NONBLOCK}, {'N', O_NOFOLLOW}, {'D', O_DIRECTORY}, {'T', O_TMPFILE}};
    int flags = 0;

    for (; *s; s++) {
        for (size_t i = 0; i < sizeof map / sizeof *map; i++) {
            if (map[i].c == *s)
                flags |= map[i].flag;
        }
    }
    return flags;
}

/* Bytes that would break the line protocol are escaped. */
static void answer_bytes(const char *p, size_t n)
{
    size_t k = 0;

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];

        if (c == '\n')
            k += (size_t)sprintf(answer + k, "\\n");
        else if (c < ' ' || c == '\\' || c > '~')
            k += (size_t)sprintf(answer + k, "\\x%02x", c);
        else
            answer[k++] = (char)c;
    }
    answer[k] = 0;
}

/* 0, or errno set and -1: all of it or an error, as short writes are never right here. */
static int write_whole(int fd, const char *p, size_t n, off_t off)
{
    ssize_t k = off < 0 ? write(fd, p, n) : pwrite(fd, p, n, off);

    if (k >= 0 && (size_t)k < n) {
        errno = ENODATA;
        return -1;
    }
    return k < 0 ? -1 : 0;
}

static int do_open(const struct words *w)
{
    int fd = open(w->w[2], flags_of(w->w[3]), w->n > 4 ? (mode_t)strtoul(w->w[4], NULL, 8) : 0666), want = atoi(w->w[1]);

    if (fd < 0 || fd == want)
        return fd;
    if (dup2(fd, want) < 0)
        return -1;
    return close(fd);
}

static int do_read(const struct words *w, off_t off)
{
    char buf[READ_MAX];
    size_t want = strtoul(w->w[off < 0 ? 2 : 3], NULL, 10);
    ssize_t n;

    if (want > sizeof buf)
        want = sizeof buf;
    n = off < 0 ? read(atoi(w->w[1]), buf, want) : pread(atoi(w->w[1]), buf, want, off);
    if (n >= 0)
        answer_bytes(buf, (size_t)n);
    return n < 0 ? -1 : 0;
}

static int do_fill(const struct words *w)
{
    size_t n = strtoul(w->w[3], NULL, 10);
    char *p = malloc(n ? n : 1);
    int rc;

    if (!p)
        return -1;
    memset(p, w->w[2][0], n);
    rc = write_whole(atoi(w->w[1]), p, n, -1);
    free(p);
    return rc;
}

static int do_stat(const struct words *w)
{
    struct stat st;

    if (fstat(atoi(w->w[1]), &st))
        return -1;
    snprintf(answer, sizeof answer, "%lld", !strcmp(w->w[0], "size") ? (long long)st.st_size : (long long)st.st_nlink);
    return 0;
}

static int do_lock(const struct words *w)
{
    struct flock fl = {.l_type = w->w[2][0] == 'r' ? F_RDLCK : w->w[2][0] == 'w' ? F_WRLCK : F_UNLCK, .l_whence = SEEK_SET};
    bool get = !strcmp(w->w[0], "getlk"), wait = !strcmp(w->w[0], "lockw");
    int rc;

    fl.l_start = atoll(w->w[3]);
    fl.l_len = atoll(w->w[4]);
    rc = fcntl(atoi(w->w[1]), get ? F_GETLK : wait ? F_SETLKW : F_SETLK, &fl);
    if (get && rc == 0 && fl.l_type == F_UNLCK)
        strcpy(answer, "u");
    else if (get && rc == 0)
        snprintf(answer, sizeof answer, "%c %lld %lld %d", fl.l_type == F_RDLCK ? 'r' : 'w', (long long)fl.l_start, (long long)fl.l_len, (int)fl.l_pid);
    return rc;
}

static int do_flock(const struct words *w)
{
    int op = w->w[2][0] == 's' ? LOCK_SH : w->w[2][0] == 'x' ? LOCK_EX : LOCK_UN;

    return flock(atoi(w->w[1]), op | (strcmp(w->w[0], "flockw") ? LOCK_NB : 0));
}

static int do_poll(const struct words *w)
{
    struct pollfd p = {.fd = atoi(w->w[1]), .events = POLLIN};

    if (poll(&p, 1, 0) < 0)
        return -1;
    strcpy(answer, p.revents & POLLERR ? "err" : "ready");
    return 0;
}

static int do_mmap(const struct words *w)
{
    struct mapping *m = &maps[atoi(w->w[2]) % MAPS_MAX];
    bool shared = w->w[3][0] == 's';
    void *at = mmap(NULL, strtoul(w->w[4], NULL, 10), PROT_READ | PROT_WRITE, shared ? MAP_SHARED : MAP_PRIVATE, atoi(w->w[1]), 0);

    if (at == MAP_FAILED)
        return -1;
    m->at = at;
    m->len = strtoul(w->w[4], NULL, 10);
    return 0;
}

static int do_map_op(const struct words *w)
{
    struct mapping *m = &maps[atoi(w->w[1]) % MAPS_MAX];
    size_t off = strtoul(w->w[2], NULL, 10);
    int rc = 0;

    if (!m->at) {
        errno = EINVAL;
        return -1;
    }
    if (!strcmp(w->w[0], "mread"))
        answer_bytes(m->at + off, strtoul(w->w[3], NULL, 10));
    else if (!strcmp(w->w[0], "mwrite"))
        memcpy(m->at + off, w->w[3], w->len[3]);
    else if (!strcmp(w->w[0], "msync"))
        rc = msync(m->at, m->len, MS_SYNC);
    else {
        rc = munmap(m->at, m->len);
        m->at = NULL;
    }
    return rc;
}

static const struct words *rest_of(const struct words *w, struct words *to)
{
    memset(to, 0, sizeof *to);
    to->n = w->n - 1;
    for (int i = 0; i < WORDS_MAX; i++) {
        to->w[i] = i + 1 < WORDS_MAX ? w->w[i + 1] : "";
        to->len[i] = i + 1 < WORDS_MAX ? w->len[i + 1] : 0;
    }
    return to;
}

static int execute(const struct words *w);

struct job {
    struct words words; /* the command */
    int err;            /* its errno, 0 when it succeeded */
};

static void *thread_main(void *data)
{
    struct job *job = data;

    job->err = execute(&job->words) < 0 ? errno : 0;
    return NULL;
}

static int do_thread(const struct words *w)
{
    struct job job = {0};
    pthread_t t;

    rest_of(w, &job.words);
    if (pthread_create(&t, NULL, thread_main, &job))
        return -1;
    pthread_join(t, NULL);
    errno = job.err;
    return job.err ? -1 : 0;
}

static int do_child(const struct words *w)
{
    struct words rest;
    pid_t pid = fork();
    int status;

    if (pid == 0)
        exit(execute(rest_of(w, &rest)) < 0 ? errno : 0);
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return -1;
    errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
    return errno ? -1 : 0;
}

/* The parent answers with the child's pid; the child goes on reading commands elsewhere. */
static int do_fork(const struct words *w)
{
    pid_t pid = fork();

    if (pid == 0) {
        if (!freopen(w->w[1], "r", stdin) || !freopen(w->w[2], "w", stdout))
            _exit(1);
        setvbuf(stdin, NULL, _IONBF, 0);
        return 0;
    }
    snprintf(answer, sizeof answer, "%ld", (long)pid);
    return pid < 0 ? -1 : 0;
}

static int do_times(const struct words *w)
{
    struct timespec t[2] = {{0, UTIME_OMIT}, {strtol(w->w[2], NULL, 10), 0}};

    return futimens(atoi(w->w[1]), t);
}

static int execute(const struct words *w)
{
    const char *c = w->w[0];
    int fd = atoi(w->w[1]);

    if (!strcmp(c, "open")) return do_open(w);
    if (!strcmp(c, "write")) return write_whole(fd, w->w[2], w->len[2], -1);
    if (!strcmp(c, "pwrite")) return write_whole(fd, w->w[3], w->len[3], atoll(w->w[2]));
    if (!strcmp(c, "fill")) return do_fill(w);
    if (!strcmp(c, "read")) return do_read(w, -1);
    if (!strcmp(c, "pread")) return do_read(w, atoll(w->w[2]));
    if (!strcmp(c, "seek")) return lseek(fd, atoll(w->w[2]), SEEK_SET) < 0 ? -1 : 0;
    if (!strcmp(c, "ftruncate")) return ftruncate(fd, atoll(w->w[2]));
    if (!strcmp(c, "fsync")) return fsync(fd);
    if (!strcmp(c, "fdatasync")) return fdatasync(fd);
    if (!strcmp(c, "close")) return close(fd);
    if (!strcmp(c, "dup")) return dup2(fd, atoi(w->w[2])) < 0 ? -1 : 0;
    if (!strcmp(c, "size") || !strcmp(c, "nlink")) return do_stat(w);
    if (!strcmp(c, "fchmod")) return fchmod(fd, (mode_t)strtoul(w->w[2], NULL, 8));
    if (!strcmp(c, "futimens")) return do_times(w);
    if (!strcmp(c, "lock") || !strcmp(c, "lockw") || !strcmp(c, "getlk")) return do_lock(w);
    if (!strcmp(c, "flock") || !strcmp(c, "flockw")) return do_flock(w);
    if (!strcmp(c, "poll")) return do_poll(w);
    if (!strcmp(c, "mmap")) return do_mmap(w);
    if (!strcmp(c, "mread") || !strcmp(c, "mwrite") || !strcmp(c, "msync") || !strcmp(c, "munmap")) return do_map_op(w);
    if (!strcmp(c, "thread")) return do_thread(w);
    if (!strcmp(c, "child")) return do_child(w);
    if (!strcmp(c, "fork")) return do_fork(w);
    if (!strcmp(c, "setsid")) return setsid() < 0 ? -1 : 0;
    if (!strcmp(c, "abort")) abort();
    if (!strcmp(c, "_exit")) _exit(0);
    if (!strcmp(c, "exit")) exit(0);
    errno = ENOSYS;
    return -1;
}

static void run(const struct words *w)
{
    int rc;

    answer[0] = 0;
    rc = execute(w);
    if (rc < 0)
        printf("%s\n", strerrorname_np(errno) ? strerrorname_np(errno) : "EUNKNOWN");
    else
        printf("ok%s%s\n", *answer ? " " : "", answer);
    fflush(stdout);
}

static size_t unescape(char *s)
{
    char *to = s, *from = s;

    while (*from) {
        if (from[0] == '\\' && from[1] == 'x' && isxdigit((unsigned char)from[2]) && isxdigit((unsigned char)from[3])) {
            char hex[3] = {from[2], from[3], 0};

            *to++ = (char)strtoul(hex, NULL, 16);
            from += 4;
        } else if (from[0] == '\\' && from[1]) {
            *to++ = from[1] == 'n' ? '\n' : from[1] == 't' ? '\t' : from[1];
            from += 2;
        } else {
            *to++ = *from++;
        }
    }
    *to = 0;
    return (size_t)(to - s);
}

int main(void)
{
    static char line[LINE_SIZE], nothing[1];

    signal(SIGPIPE, SIG_DFL);
    signal(SIGSEGV, SIG_DFL); /* a sanitizer's handler would make an ordinary exit of it */
    /* Unbuffered, so that a forked child does not inherit commands that were meant for this process. */
    setvbuf(stdin, NULL, _IONBF, 0);
    while (fgets(line, sizeof line, stdin)) {
        struct words w = {.n = 0};
        char *save = line, *word;

        line[strcspn(line, "\n")] = 0;
        while (w.n < WORDS_MAX && (word = strsep(&save, "\t"))) {
            w.w[w.n] = word;
            w.len[w.n++] = unescape(word);
        }
        for (int i = w.n; i < WORDS_MAX; i++)
            w.w[i] = nothing;
        if (w.len[0])
            run(&w);
    }
    return 0;
}
