/* linload: clients that work on the same files through several mounts and write down what they saw, for lincheck.
 *
 *   linload run OUT SEED CLIENTS OPS GROUPS PAUSE_MS TREE MOUNT...   OPS operations in all on each group, CLIENTS processes on each MOUNT
 *   linload final OUT GROUPS TREE MOUNT...                           reads everything once through each mount, for the end of the history
 *
 * TREE is a directory below each mount; OUT.N gets the lines of client N. Group g is of kind g % 4: a file that is overwritten; a name
 * that is created with O_EXCL and unlinked; a list that is appended to; files that are renamed over each other. Each content is
 * published by exactly one call, and an answer is what that call returned: a commit's is close's.
 *
 * An error that says that nothing was done leaves a comment. ETIMEDOUT, EINTR, and what a mount says whose daemon died while it was
 * asked, leave the outcome open. Everything else is a fault of the tree: status 1 with a sentence. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KINDS = 4, NAMES = 3, VALUE_FIRST = 2, LIST_BYTES = 1 << 16, NAME_SIZE = 64, WAIT_TRIES = 3000 };
enum outcome { DONE, NOT_DONE, OPEN_OUTCOME };

struct client {
    FILE *out;
    char tree[PATH_MAX - 64]; /* MOUNT/TREE */
    int dir;         /* that directory: a descriptor of a mount whose daemon died fails, whatever is mounted there by now; -1: to be opened */
    uint64_t random;
    int me, groups;
    int next_value;  /* distinct among all clients */
};

static uint64_t draw(struct client *c, uint64_t n)
{
    c->random ^= c->random << 13;
    c->random ^= c->random >> 7;
    c->random ^= c->random << 17;
    return c->random % n;
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void fault(const struct client *c, const char *what, const char *path)
{
    fprintf(stderr, "linload: client %d: %s %s: %s\n", c->me, what, path, strerror(errno));
    exit(1);
}

/* The mount that we have is dead; another one may come. */
static void note_death(struct client *c)
{
    if ((errno == ENOTCONN || errno == ECONNABORTED) && c->dir >= 0) {
        close(c->dir);
        c->dir = -1;
    }
}

/* Waits until the tree is there (again). */
static void find_tree(struct client *c)
{
    const struct timespec t = {0, 20000000};

    for (int i = 0; c->dir < 0; i++) {
        c->dir = open(c->tree, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (c->dir >= 0)
            return;
        if (i > WAIT_TRIES) {
            fprintf(stderr, "linload: client %d: %s does not come back: %s\n", c->me, c->tree, strerror(errno));
            exit(1);
        }
        nanosleep(&t, NULL);
    }
}

/* Of a call that changes something, after an error. */
static enum outcome outcome_of(struct client *c, const char *what, const char *path)
{
    note_death(c);
    switch (errno) {
    case ETIMEDOUT:
    case EINTR:
    case ECONNABORTED: return OPEN_OUTCOME;
    case ENOTCONN: return OPEN_OUTCOME; /* the daemon may have died with the request in hand */
    case EIO:
    case ESHUTDOWN:
        fprintf(c->out, "# %" PRIu64 " %s %s: not done: %s\n", now_ns(), what, path, strerror(errno));
        return NOT_DONE;
    default: fault(c, what, path);
    }
    return NOT_DONE;
}

/* Of a call that changes nothing, whose error says that the tree is not there just now. */
static bool is_away(struct client *c)
{
    note_death(c);
    return errno == ETIMEDOUT || errno == EINTR || errno == ENOTCONN || errno == ECONNABORTED || errno == EIO || errno == ESHUTDOWN;
}

static void __attribute__((format(printf, 5, 6))) record(struct client *c, int group, uint64_t start, bool known, const char *fmt, ...)
{
    va_list ap;

    fprintf(c->out, "%d %d %" PRIu64 " %" PRIu64 " ", group, c->me, start, known ? now_ns() : 0);
    va_start(ap, fmt);
    vfprintf(c->out, fmt, ap);
    va_end(ap);
    fputc('\n', c->out);
    fflush(c->out);
}

static void path_of(char out[NAME_SIZE], int group, int name)
{
    snprintf(out, NAME_SIZE, "g%d.%d", group, name);
}

static int new_value(struct client *c)
{
    return c->next_value++ * 100 + c->me + VALUE_FIRST;
}

/* ---- Reads -------------------------------------------------------------------------------------------------------------------- */

/* The whole content. -1: there is no such file; -2: the tree is away. */
static ssize_t slurp(struct client *c, const char *path, char *buf, size_t size)
{
    int fd = openat(c->dir, path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n = 0;

    if (fd < 0) {
        if (errno == ENOENT)
            return -1;
        if (is_away(c))
            return -2;
        fault(c, "open", path);
    }
    while (len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0)
        len += (size_t)n;
    if (n < 0 && !is_away(c))
        fault(c, "read", path);
    close(fd);
    buf[len] = 0;
    return n < 0 ? -2 : (ssize_t)len;
}

static void do_get(struct client *c, int group, int name)
{
    char path[NAME_SIZE], text[64];
    uint64_t start = now_ns();
    ssize_t n;

    path_of(path, group, name);
    n = slurp(c, path, text, sizeof text);
    if (n != -2)
        record(c, group, start, true, "get %d %d", name, n == -1 ? 0 : n == 0 ? 1 : atoi(text));
}

static void do_list(struct client *c, int group)
{
    static char text[LIST_BYTES];
    char path[NAME_SIZE];
    uint64_t start = now_ns();
    ssize_t n;

    path_of(path, group, 0);
    n = slurp(c, path, text, sizeof text);
    if (n == -2)
        return;
    for (ssize_t i = 0; i < n; i++)
        if (text[i] == '\n')
            text[i] = i + 1 < n ? ',' : 0;
    record(c, group, start, true, "list %s", n <= 0 ? "-" : text);
}

/* ---- Changes ------------------------------------------------------------------------------------------------------------------- */

/* Opens, writes, closes: one commit. What fails before close was never published. */
static enum outcome publish(struct client *c, const char *path, int flags, int value)
{
    int fd = openat(c->dir, path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
    char text[32];
    int n = snprintf(text, sizeof text, "%d\n", value);

    if (fd < 0) {
        if (!is_away(c))
            fault(c, "open for writing", path);
        return NOT_DONE;
    }
    if (write(fd, text, (size_t)n) != n) {
        if (!is_away(c))
            fault(c, "write", path);
        close(fd);
        return OPEN_OUTCOME; /* close may have committed what there was */
    }
    return close(fd) == 0 ? DONE : outcome_of(c, "close", path);
}

static void do_publish(struct client *c, int group, int flags, const char *call)
{
    char path[NAME_SIZE];
    int value = new_value(c);
    uint64_t start = now_ns();
    enum outcome o;

    path_of(path, group, 0);
    o = publish(c, path, flags, value);
    if (o != NOT_DONE)
        record(c, group, start, o == DONE, "%s %d", call, value);
}

/* Lines of a call whose answer is yes, a certain no, or open. */
static void record_answer(struct client *c, int group, uint64_t start, int rv, int no, const char *call, const char *no_word, const char *path)
{
    enum outcome o = rv >= 0 ? DONE : errno == no ? DONE : outcome_of(c, call, path);

    if (o != NOT_DONE)
        record(c, group, start, o == DONE, "%s %s", call, o == OPEN_OUTCOME ? "-" : rv >= 0 ? "ok" : no_word);
}

static void do_excl(struct client *c, int group)
{
    char path[NAME_SIZE];
    uint64_t start = now_ns();
    int fd;

    path_of(path, group, 0);
    fd = openat(c->dir, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    record_answer(c, group, start, fd, EEXIST, "excl 0", "exists", path);
    if (fd >= 0)
        close(fd);
}

static void do_unlink(struct client *c, int group, int name)
{
    char path[NAME_SIZE], call[32];
    uint64_t start = now_ns();
    int rv;

    path_of(path, group, name);
    snprintf(call, sizeof call, "unlink %d", name);
    rv = unlinkat(c->dir, path, 0);
    record_answer(c, group, start, rv, ENOENT, call, "absent", path);
}

/* A content is made aside and published by a rename. */
static void do_put_by_rename(struct client *c, int group, int name)
{
    char path[NAME_SIZE], own[NAME_SIZE];
    int value = new_value(c);
    uint64_t start;
    enum outcome o;

    path_of(path, group, name);
    snprintf(own, sizeof own, "own.%d", c->me);
    if (publish(c, own, O_TRUNC, value) != DONE)
        return;
    start = now_ns();
    o = renameat(c->dir, own, c->dir, path) == 0 ? DONE : outcome_of(c, "rename", own);
    if (o != NOT_DONE)
        record(c, group, start, o == DONE, "put %d %d", name, value);
}

static void do_rename(struct client *c, int group, int from, int to)
{
    char a[NAME_SIZE], b[NAME_SIZE], call[32];
    uint64_t start = now_ns();
    int rv;

    path_of(a, group, from);
    path_of(b, group, to);
    snprintf(call, sizeof call, "rename %d %d", from, to);
    rv = renameat(c->dir, a, c->dir, b);
    record_answer(c, group, start, rv, ENOENT, call, "absent", a);
}

/* ---- Clients ------------------------------------------------------------------------------------------------------------------- */

static void one(struct client *c, int group)
{
    int name = (int)draw(c, NAMES), coin = (int)draw(c, 10);

    find_tree(c);
    switch (group % KINDS) {
    case 0: coin < 5 ? do_publish(c, group, O_TRUNC, "put 0") : do_get(c, group, 0); break;
    case 1: coin < 4 ? do_excl(c, group) : coin < 8 ? do_unlink(c, group, 0) : do_get(c, group, 0); break;
    case 2: coin < 5 ? do_publish(c, group, O_APPEND, "append") : do_list(c, group); break;
    default:
        if (coin < 3)
            do_put_by_rename(c, group, name);
        else if (coin < 6)
            do_rename(c, group, name, (name + 1) % NAMES);
        else if (coin < 7)
            do_unlink(c, group, name);
        else
            do_get(c, group, name);
    }
}

static void begin(struct client *c, const char *out, int me, const char *mount, const char *tree, int groups, uint64_t seed)
{
    char path[PATH_MAX];

    *c = (struct client){.me = me, .dir = -1, .groups = groups, .random = seed * 1000003 + (uint64_t)me * 7919 + 1};
    for (int i = 0; i < 16; i++)
        draw(c, 2);
    snprintf(c->tree, sizeof c->tree, "%s/%s", mount, tree);
    snprintf(path, sizeof path, "%s.%d", out, me);
    c->out = fopen(path, "w");
    if (!c->out) {
        perror(path);
        exit(1);
    }
}

static int run(int argc, char **argv)
{
    const char *out = argv[2], *tree = argv[8];
    uint64_t seed = strtoull(argv[3], NULL, 10);
    int per_mount = atoi(argv[4]), ops = atoi(argv[5]), groups = atoi(argv[6]), pause_ms = atoi(argv[7]), mounts = argc - 9;
    int clients = per_mount * mounts, failed = 0, status;

    if (clients < 1 || clients > 98 || groups < 1)
        return 2;
    for (int i = 0; i < clients; i++) {
        struct client c;

        if (fork())
            continue;
        setsid(); /* pending files are seen by their session only */
        begin(&c, out, i, argv[9 + i % mounts], tree, groups, seed);
        for (int n = 0; n < ops * groups / clients; n++) {
            struct timespec t = {0, pause_ms ? (long)draw(&c, (uint64_t)pause_ms * 2000000) : 0};

            one(&c, (int)draw(&c, (uint64_t)groups));
            nanosleep(&t, NULL); /* so that the history lasts as long as the faults */
        }
        fclose(c.out);
        exit(0);
    }
    while (wait(&status) > 0)
        failed |= status != 0;
    return failed;
}

static int final(int argc, char **argv)
{
    int groups = atoi(argv[3]);

    for (int m = 5; m < argc; m++) {
        struct client c;

        begin(&c, argv[2], 99 - (m - 5), argv[m], argv[4], groups, 1);
        find_tree(&c);
        for (int g = 0; g < groups; g++)
            if (g % KINDS == 2)
                do_list(&c, g);
            else
                for (int name = 0; name < (g % KINDS == 3 ? NAMES : 1); name++)
                    do_get(&c, g, name);
        fclose(c.out);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc >= 10 && !strcmp(argv[1], "run"))
        return run(argc, argv);
    if (argc >= 6 && !strcmp(argv[1], "final"))
        return final(argc, argv);
    fprintf(stderr, "usage: linload run OUT SEED CLIENTS OPS GROUPS PAUSE_MS TREE MOUNT...\n       linload final OUT GROUPS TREE MOUNT...\n");
    return 2;
}
