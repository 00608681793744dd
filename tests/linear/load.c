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
#include <sys/wait.h>
#include <unistd.h>

#include "client.h"

enum { KINDS = 4, NAMES = 3, LIST_BYTES = 1 << 16, NAME_SIZE = 64 };

static void __attribute__((format(printf, 5, 6))) record(struct client *c, int group, uint64_t start, bool known, const char *fmt, ...)
{
    va_list ap;

    fprintf(c->out, "%d %d %" PRIu64 " %" PRIu64 " ", group, c->me, start, known ? client_now_ns() : 0);
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

/* ---- Reads -------------------------------------------------------------------------------------------------------------------- */

static bool do_get(struct client *c, int group, int name)
{
    char path[NAME_SIZE], text[64];
    uint64_t start = client_now_ns();
    ssize_t n;

    path_of(path, group, name);
    n = client_slurp(c, path, text, sizeof text);
    if (n == CLIENT_AWAY)
        return false;
    record(c, group, start, true, "get %d %d", name, n == CLIENT_ABSENT ? 0 : n == 0 ? 1 : atoi(text));
    return true;
}

static bool do_list(struct client *c, int group)
{
    static char text[LIST_BYTES];
    char path[NAME_SIZE];
    uint64_t start = client_now_ns();
    ssize_t n;

    path_of(path, group, 0);
    n = client_slurp(c, path, text, sizeof text);
    if (n == CLIENT_AWAY)
        return false;
    for (ssize_t i = 0; i < n; i++)
        if (text[i] == '\n')
            text[i] = i + 1 < n ? ',' : 0;
    record(c, group, start, true, "list %s", n <= 0 ? "-" : text);
    return true;
}

/* ---- Changes ------------------------------------------------------------------------------------------------------------------- */

/* Opens, writes, closes: one commit. What fails before close was never published. */
static enum client_outcome publish(struct client *c, const char *path, int flags, int value)
{
    int fd = openat(c->dir, path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
    char text[32];
    int n = snprintf(text, sizeof text, "%d\n", value);

    if (fd < 0) {
        if (!client_is_away(c))
            client_fault(c, "open for writing", path);
        return CLIENT_NOT_DONE;
    }
    if (write(fd, text, (size_t)n) != n) {
        if (!client_is_away(c))
            client_fault(c, "write", path);
        close(fd);
        return CLIENT_OPEN; /* close may have committed what there was */
    }
    return close(fd) == 0 ? CLIENT_DONE : client_outcome_of(c, "close", path);
}

static void do_publish(struct client *c, int group, int flags, const char *call)
{
    char path[NAME_SIZE];
    int value = client_new_value(c);
    uint64_t start = client_now_ns();
    enum client_outcome o;

    path_of(path, group, 0);
    o = publish(c, path, flags, value);
    if (o != CLIENT_NOT_DONE)
        record(c, group, start, o == CLIENT_DONE, "%s %d", call, value);
}

/* Lines of a call whose answer is yes, a certain no, or open. */
static void record_answer(struct client *c, int group, uint64_t start, int rv, int no, const char *call, const char *no_word, const char *path)
{
    enum client_outcome o = rv >= 0 ? CLIENT_DONE : errno == no ? CLIENT_DONE : client_outcome_of(c, call, path);

    if (o != CLIENT_NOT_DONE)
        record(c, group, start, o == CLIENT_DONE, "%s %s", call, o == CLIENT_OPEN ? "-" : rv >= 0 ? "ok" : no_word);
}

static void do_excl(struct client *c, int group)
{
    char path[NAME_SIZE];
    uint64_t start = client_now_ns();
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
    uint64_t start = client_now_ns();
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
    int value = client_new_value(c);
    uint64_t start;
    enum client_outcome o;

    path_of(path, group, name);
    snprintf(own, sizeof own, "own.%d", c->me);
    if (publish(c, own, O_TRUNC, value) != CLIENT_DONE)
        return;
    start = client_now_ns();
    o = renameat(c->dir, own, c->dir, path) == 0 ? CLIENT_DONE : client_outcome_of(c, "rename", own);
    if (o != CLIENT_NOT_DONE)
        record(c, group, start, o == CLIENT_DONE, "put %d %d", name, value);
}

static void do_rename(struct client *c, int group, int from, int to)
{
    char a[NAME_SIZE], b[NAME_SIZE], call[32];
    uint64_t start = client_now_ns();
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
    int name = (int)client_draw(c, NAMES), coin = (int)client_draw(c, 10);

    client_find_tree(c);
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
        client_begin(&c, out, i, argv[9 + i % mounts], tree, seed);
        for (int n = 0; n < ops * groups / clients; n++) {
            one(&c, (int)client_draw(&c, (uint64_t)groups));
            client_pause(&c, pause_ms); /* so that the history lasts as long as the faults */
        }
        fclose(c.out);
        exit(0);
    }
    while (wait(&status) > 0)
        failed |= status != 0;
    return failed;
}

static bool look(struct client *c, int group)
{
    if (group % KINDS == 2)
        return do_list(c, group);
    for (int name = 0; name < (group % KINDS == 3 ? NAMES : 1); name++)
        if (!do_get(c, group, name))
            return false;
    return true;
}

int main(int argc, char **argv)
{
    if (argc >= 10 && !strcmp(argv[1], "run"))
        return run(argc, argv);
    if (argc >= 6 && !strcmp(argv[1], "final"))
        return client_final(argc, argv, look);
    fprintf(stderr, "usage: linload run OUT SEED CLIENTS OPS GROUPS PAUSE_MS TREE MOUNT...\n       linload final OUT GROUPS TREE MOUNT...\n");
    return 2;
}
