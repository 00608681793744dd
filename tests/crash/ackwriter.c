/* ackwriter: writers that know what was acknowledged, and the check that it is there.
 *
 *   ackwriter write TREE STATE SEED [WRITERS [BIG]]   writers run until the tree fails or SIGTERM (then each ends its commit);
 *                                                     status 1 on an errno that a tree that goes away does not give
 *   ackwriter verify TREE STATE                       every acknowledged commit is there, whole; prints what is not
 *
 * Each writer has FILES files of its own, and all append lines to one shared file. A commit has a number; number and file decide the
 * content (or that the file is removed), so that any content can be told to be whole. STATE, a file outside the tree that all writers
 * map, holds for each file the number that was begun and the number that was acknowledged: by fsync, or by a close that returned 0.
 * It is memory that survives the writers, so it needs no system call between the acknowledgement and its record.
 *
 * After a crash the file must be that of the acknowledged number or of the one that was begun (whose answer never came). An error that
 * says that nothing was done (ENOSPC, EFBIG) takes the begun number back, so a later trace of it is a fault as well. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WRITERS_MAX = 64, FILES = 4, WRITERS = 8, SMALL_MAX = 3000, BIG_MAX = 250000, HEADER_SIZE = 48, REMOVED_EACH = 7, LINES_MAX = 20000 };

struct mark { /* one file of one writer */
    uint64_t begun;  /* the commit that was last tried */
    uint64_t acked;  /* the last one that was acknowledged */
};

struct state { /* the file STATE */
    struct mark files[WRITERS_MAX][FILES];
    struct mark shared[WRITERS_MAX]; /* lines in the shared file: 1 to this number are there */
    uint64_t writers;                /* how many run */
    uint64_t big;                    /* contents up to BIG_MAX bytes */
    uint64_t appending;              /* the shared file that is appended to: shared.N */
    _Atomic uint64_t n_acked;        /* acknowledgements so far */
    _Atomic uint64_t stopping;       /* writers end after their present commit */
};

struct writer {
    struct state *state; /* shared by all */
    int me;              /* which writer */
    uint64_t random;     /* state of the generator */
    int kept[FILES];     /* descriptors that stay open, -1 for none */
    char *buf;           /* BIG_MAX + HEADER_SIZE bytes; owned */
};

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t draw(struct writer *w, uint64_t below)
{
    w->random += UINT64_C(0x9e3779b97f4a7c15);
    return mix(w->random) % below;
}

/* ---- What a commit's content is ------------------------------------------------------------------------------------------------- */

static bool is_removal(uint64_t seq)
{
    return seq % REMOVED_EACH == 0;
}

/* The content of that commit: a line that names it, then bytes that only it has. Returns the length. */
static size_t content_of(bool big, int writer, int file, uint64_t seq, char *out)
{
    uint64_t x = mix(seq * 1000003 + (uint64_t)writer * 101 + (uint64_t)file);
    size_t len = (size_t)(x % (big && x % 3 == 0 ? BIG_MAX : SMALL_MAX)), n;

    n = (size_t)snprintf(out, HEADER_SIZE, "%d %d %llu %zu\n", writer, file, (unsigned long long)seq, len);
    for (size_t i = 0; i < len; i += 8) {
        uint64_t word = mix(x + i);

        memcpy(out + n + i, &word, len - i < 8 ? len - i : 8);
    }
    return n + len;
}

static void own_path(const struct writer *w, int file, char out[64])
{
    snprintf(out, 64, "w%d/f%d", w->me, file);
}

/* ---- Writing ---------------------------------------------------------------------------------------------------------------------- */

static int write_whole(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t k = write(fd, p, n);

        if (k < 0)
            return -1;
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

/* A close that is looked at; with `sync` an fsync before it. Always closes. */
static int finish(int fd, bool sync)
{
    int err = sync && fsync(fd) ? errno : 0;

    if (close(fd) && !err)
        err = errno;
    errno = err;
    return err ? -1 : 0;
}

static int put_by_truncate(const char *path, const char *p, size_t n, bool sync)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644), err;

    if (fd < 0)
        return -1;
    if (write_whole(fd, p, n) == 0)
        return finish(fd, sync);
    err = errno;
    close(fd);
    errno = err;
    return -1;
}

static int put_by_rename(const char *path, const char *p, size_t n, bool sync)
{
    char tmp[80];

    snprintf(tmp, sizeof tmp, "%s.new", path);
    return put_by_truncate(tmp, p, n, sync) || rename(tmp, path) ? -1 : 0;
}

/* On a descriptor that stays open: one commit of a new length and new bytes, in place. */
static int put_in_place(int *fd, const char *path, const char *p, size_t n)
{
    struct stat a, b;

    if (*fd >= 0 && (stat(path, &a) || fstat(*fd, &b) || a.st_ino != b.st_ino)) {
        close(*fd);
        *fd = -1;
    }
    if (*fd < 0)
        *fd = open(path, O_RDWR | O_CREAT, 0644);
    if (*fd < 0 || ftruncate(*fd, 0) || lseek(*fd, 0, SEEK_SET) < 0 || write_whole(*fd, p, n))
        return -1;
    return fsync(*fd);
}

static int write_own(struct writer *w, int file)
{
    char path[64];
    uint64_t seq = w->state->files[w->me][file].begun;
    size_t n;

    own_path(w, file, path);
    if (is_removal(seq))
        return unlink(path) && errno != ENOENT ? -1 : 0;
    n = content_of(w->state->big, w->me, file, seq, w->buf);
    switch (draw(w, 4)) {
    case 0: return put_by_truncate(path, w->buf, n, false);
    case 1: return put_by_truncate(path, w->buf, n, true);
    case 2: return put_by_rename(path, w->buf, n, draw(w, 2));
    default: return put_in_place(&w->kept[file], path, w->buf, n);
    }
}

static int append_shared(struct writer *w)
{
    char line[64], path[64];
    int fd, n = snprintf(line, sizeof line, "%d %llu\n", w->me, (unsigned long long)w->state->shared[w->me].begun);

    snprintf(path, sizeof path, "shared.%llu", (unsigned long long)w->state->appending);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (fd < 0 || write_whole(fd, line, (size_t)n))
        return -1;
    return finish(fd, draw(w, 2));
}

/* One commit: begun, done, acknowledged. -1 when the tree is gone. */
static int step(struct writer *w)
{
    static const struct timespec a_while = {0, 20000000};
    int file = (int)draw(w, FILES + 1), rc;
    struct mark *mark = file < FILES ? &w->state->files[w->me][file] : &w->state->shared[w->me];

    if (file == FILES && mark->acked >= LINES_MAX)
        return 0; /* the shared file stays below max-value */
    mark->begun = mark->acked + 1;
    rc = file < FILES ? write_own(w, file) : append_shared(w);
    if (rc == 0) {
        mark->acked = mark->begun;
        w->state->n_acked++;
        return 0;
    }
    if (errno != ENOSPC && errno != EFBIG)
        return -1;
    mark->begun = mark->acked; /* it is said not to have happened, and never to happen */
    if (file < FILES && w->kept[file] >= 0) {
        close(w->kept[file]);
        w->kept[file] = -1;
    }
    nanosleep(&a_while, NULL);
    return 0;
}

/* The errors of a tree that goes away or stops; any other is a fault of the program. */
static bool is_end(int err)
{
    return err == ENOTCONN || err == ECONNABORTED || err == EIO || err == ESHUTDOWN || err == ETIMEDOUT || err == ENOENT || err == ENODEV;
}

static int writer_main(struct state *state, int me, uint64_t seed)
{
    struct writer w = {.state = state, .me = me, .random = seed * 1000 + (uint64_t)me, .kept = {-1, -1, -1, -1}, .buf = malloc(BIG_MAX + HEADER_SIZE + 8)};
    char dir[32];

    snprintf(dir, sizeof dir, "w%d", me);
    if (!w.buf || (mkdir(dir, 0755) && errno != EEXIST && !is_end(errno))) {
        perror(dir);
        return 1;
    }
    while (!state->stopping) {
        if (step(&w))
            break;
    }
    if (state->stopping || is_end(errno))
        return 0;
    fprintf(stderr, "writer %d: %s\n", me, strerror(errno));
    return 1;
}

static struct state *mapped; /* for the signal handler */

static void on_term(int signal)
{
    (void)signal;
    mapped->stopping = 1;
}

static int run_writers(struct state *state, uint64_t seed)
{
    int status, bad = 0;
    pid_t pid;

    mapped = state;
    state->stopping = 0;
    for (int i = 0; i < (int)state->writers; i++) {
        pid = fork();
        if (pid == 0)
            _exit(writer_main(state, i, seed));
        if (pid < 0)
            return 1;
    }
    signal(SIGTERM, on_term);
    do {
        pid = wait(&status);
        bad += pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) != 0;
    } while (pid > 0 || errno == EINTR);
    printf("acknowledged %llu\n", (unsigned long long)state->n_acked);
    return bad ? 1 : 0;
}

/* ---- Verifying -------------------------------------------------------------------------------------------------------------------- */

/* Reads a file; -1 with errno. The caller frees. */
static ssize_t slurp(const char *path, char **out)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    ssize_t n = -1;

    *out = NULL;
    if (fd < 0)
        return -1;
    if (fstat(fd, &st) == 0 && (*out = malloc((size_t)st.st_size + 1)) != NULL)
        n = read(fd, *out, (size_t)st.st_size + 1);
    close(fd);
    return n;
}

static bool is_commit(const struct state *s, int writer, int file, uint64_t seq, const char *seen, ssize_t n)
{
    static char want[BIG_MAX + HEADER_SIZE + 8];
    size_t len;

    if (seq == 0 || is_removal(seq))
        return n < 0;
    for (int big = 0; big < 2; big++) { /* an earlier round may have written the other kind */
        len = content_of(big, writer, file, seq, want);
        if (n == (ssize_t)len && !memcmp(seen, want, len))
            return true;
    }
    (void)s;
    return false;
}

/* Settles what the crash left open, so that the next round begins from what is there. */
static int verify_own(struct state *s, int writer, int file)
{
    struct mark *m = &s->files[writer][file];
    struct writer w = {.me = writer};
    char path[64], *seen;
    ssize_t n;
    int rc = 0;

    own_path(&w, file, path);
    n = slurp(path, &seen);
    if (n < 0 && errno != ENOENT) {
        printf("%s: %s\n", path, strerror(errno));
        rc = 1;
    } else if (is_commit(s, writer, file, m->acked, seen, n)) {
        m->begun = m->acked;
    } else if (is_commit(s, writer, file, m->begun, seen, n)) {
        m->acked = m->begun;
    } else {
        printf("%s: acknowledged %llu, begun %llu, found %.40s (%zd bytes)\n", path, (unsigned long long)m->acked,
               (unsigned long long)m->begun, n < 0 ? "nothing" : seen, n);
        rc = 1;
    }
    free(seen);
    return rc;
}

/* The lines of a writer are 1, 2, 3 ... up to the last acknowledged, and perhaps the one that was begun. */
static int verify_shared(struct state *s)
{
    uint64_t seen[WRITERS_MAX] = {0};
    char path[64], *text, *p, *end;
    ssize_t n;
    int rc = 0;

    snprintf(path, sizeof path, "shared.%llu", (unsigned long long)s->appending);
    n = slurp(path, &text);
    if (n < 0 && errno != ENOENT) {
        printf("%s: %s\n", path, strerror(errno));
        return 1;
    }
    if (n > 0)
        text[n] = 0;
    for (p = text; n > 0 && *p; p = end + 1) {
        unsigned long long seq = 0;
        int writer = -1;
        char rest;

        end = strchr(p, '\n');
        if (!end || sscanf(p, "%d %llu%c", &writer, &seq, &rest) != 3 || rest != '\n' || writer < 0 || writer >= WRITERS_MAX || seq != seen[writer] + 1) {
            printf("%s: at byte %td: a torn, lost or doubled line %.*s\n", path, p - text, (int)strcspn(p, "\n"), p);
            free(text);
            return 1;
        }
        seen[writer] = seq;
    }
    free(text);
    for (int i = 0; i < WRITERS_MAX; i++) {
        if (seen[i] != s->shared[i].acked && seen[i] != s->shared[i].begun) {
            printf("%s: writer %d: acknowledged %llu, begun %llu, found %llu\n", path, i, (unsigned long long)s->shared[i].acked,
                   (unsigned long long)s->shared[i].begun, (unsigned long long)seen[i]);
            rc = 1;
        }
    }
    return rc;
}

static int verify(struct state *s)
{
    int bad = 0;

    for (int w = 0; w < WRITERS_MAX; w++) {
        for (int f = 0; f < FILES; f++)
            bad += verify_own(s, w, f);
    }
    bad += verify_shared(s);
    /* The next round appends to a new file. */
    if (!bad) {
        s->appending++;
        memset(s->shared, 0, sizeof s->shared);
    }
    return bad ? 1 : 0;
}

/* ---- Start ------------------------------------------------------------------------------------------------------------------------ */

static struct state *map_state(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    void *at = MAP_FAILED;

    if (fd >= 0 && ftruncate(fd, sizeof(struct state)) == 0)
        at = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        perror(path);
    return at == MAP_FAILED ? NULL : at;
}

int main(int argc, char **argv)
{
    struct state *state;

    if (argc < 4 || (!strcmp(argv[1], "write") && argc < 5)) {
        fprintf(stderr, "usage: ackwriter write TREE STATE SEED [WRITERS [BIG]] | verify TREE STATE\n");
        return 2;
    }
    state = map_state(argv[3]);
    if (!state)
        return 2;
    if (chdir(argv[2])) {
        bool gone = is_end(errno);

        perror(argv[2]);
        return gone && !strcmp(argv[1], "write") ? 0 : 3;
    }
    if (!strcmp(argv[1], "verify"))
        return verify(state);
    state->writers = argc > 5 ? strtoul(argv[5], NULL, 10) : WRITERS;
    state->big = argc > 6 && atoi(argv[6]);
    if (state->writers < 1 || state->writers > WRITERS_MAX)
        return 2;
    return run_writers(state, strtoull(argv[4], NULL, 10));
}
