/* txnload: clients that run transactions on the same files through several mounts and write down what they read and wrote, for txncheck.
 *
 *   txnload make GROUPS TREE MOUNT                                   the files, before the history begins
 *   txnload run OUT SEED CLIENTS OPS GROUPS PAUSE_MS TREE MOUNT...   OPS operations in all by CLIENTS processes, which take turns at the mounts
 *   txnload final OUT GROUPS TREE MOUNT...                           reads everything once through each mount, for the end of the history
 *
 * TREE is a directory in the root of each mount; OUT.N gets the lines of client N. Group g is of kind g % 3:
 *
 *   lists    a transaction reads some and appends to others; a few have a large file besides, so that they are staged
 *   bank     it moves money between two accounts; whoever reads all of them finds the same sum
 *   pair     it reads both and switches one of them on only if the other one is off, so never both are on
 *
 * A file's content is the number of its version, and what it means. Besides, there are transactions that only read, appends and reads
 * without a transaction, and snapshots: the revision is asked of one member, and its tree is read on another one, which must have it by then. What
 * a transaction finds when it has begun is a snapshot, too, whatever becomes of it.
 *
 * A commit that timed out is asked for in `status` until that says what became of it; it stays open only if the member died meanwhile. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client.h"

#define CONTROL "../.quorum" /* from TREE */

enum { KINDS = 3, LISTS = 4, ACCOUNTS = 6, PAIR = 2, KEYS = 8, MOUNTS_MAX = 9, PATH_SIZE = 160, TEXT_SIZE = 1 << 16, UNKNOWN_TRIES = 3000,
       LARGE_BYTES = 300 << 10, LARGE_EACH = 12 };

static struct counters { /* of all clients */
    atomic_int committed, conflicts, unknown, known_later, died, snapshots;
} *counters;

struct worker {
    struct client c, others[MOUNTS_MAX]; /* on its own member, and on each */
    int mounts, group;                   /* group: the one at hand */
    int txns;                            /* begun so far */
    const char *tree;
};

struct line { /* of the history, in the making */
    char text[TEXT_SIZE];
    size_t len;
    long sum;       /* of the numbers in the files that were read */
};

struct txn {
    char dir[64];
    uint64_t asked, begun;    /* mkdir */
    struct line reads, writes;
};

static void __attribute__((format(printf, 2, 3))) add(struct line *l, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    l->len += (size_t)vsnprintf(l->text + l->len, sizeof l->text - l->len, fmt, ap);
    va_end(ap);
    if (l->len >= sizeof l->text) {
        fprintf(stderr, "txnload: a line is too long: make the history shorter\n");
        exit(1);
    }
}

static void record(struct client *c, uint64_t start, uint64_t end, long rev, const struct line *reads, const struct line *writes)
{
    if (reads->len + (writes ? writes->len : 0) == 0)
        return;
    fprintf(c->out, "%d %" PRIu64 " %" PRIu64 " %ld%s%s\n", c->me, start, end, rev, reads->text, writes ? writes->text : "");
    fflush(c->out);
}

/* ---- Files --------------------------------------------------------------------------------------------------------------------- */

static int files_of(int group)
{
    return group % KINDS == 0 ? LISTS : group % KINDS == 1 ? ACCOUNTS : PAIR;
}

/* False: the tree is away. DIR/N, where it must be; its content is added to what was read, its number to the sum. */
static bool read_key(struct client *c, const char *dir, int group, int n, struct line *reads, long *number)
{
    static char text[TEXT_SIZE];
    char path[PATH_SIZE];
    int key = group * KEYS + n;
    long version = 0, amount = 0;
    ssize_t len;

    snprintf(path, sizeof path, "%s/%d", dir, key);
    len = client_slurp(c, path, text, sizeof text);
    if (len == CLIENT_AWAY)
        return false;
    if (len == CLIENT_ABSENT)
        client_fault(c, "open", path);
    if (group % KINDS == 0) {
        for (char *p = text; (p = strchr(p, '\n'));)
            *p = p[1] ? ',' : 0;
        add(reads, " r%d=%s", key, len ? text : "-");
        return true;
    }
    errno = EINVAL;
    if (sscanf(text, "%ld %ld", &version, &amount) != 2)
        client_fault(c, "not understood", path);
    add(reads, " g%d=%ld", key, version);
    reads->sum += amount;
    if (number)
        *number = amount;
    return true;
}

static bool read_all(struct client *c, const char *dir, int group, struct line *reads)
{
    for (int i = 0; i < files_of(group); i++)
        if (!read_key(c, dir, group, i, reads, NULL))
            return false;
    if (group % KINDS == 1)
        add(reads, " s%d=%ld", group, reads->sum);
    errno = EINVAL;
    if (group % KINDS == 2 && reads->sum > 1)
        client_fault(c, "both are on in", dir);
    return true;
}

/* In a transaction, or not. CLIENT_OPEN: close may have committed it. */
static enum client_outcome write_file(struct client *c, const char *path, int flags, const char *text)
{
    int fd = openat(c->dir, path, O_WRONLY | O_CLOEXEC | flags, 0644);

    if (fd < 0) {
        if (!client_is_away(c))
            client_fault(c, "open for writing", path);
        return CLIENT_NOT_DONE;
    }
    if (write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
        if (!client_is_away(c))
            client_fault(c, "write", path);
        close(fd);
        return CLIENT_OPEN;
    }
    return close(fd) == 0 ? CLIENT_DONE : client_outcome_of(c, "close", path);
}

/* ---- Transactions -------------------------------------------------------------------------------------------------------------- */

static void path_in(const struct txn *t, const struct worker *w, char out[PATH_SIZE])
{
    snprintf(out, PATH_SIZE, "%s/tree/%s", t->dir, w->tree);
}

/* False: not now. */
static bool txn_begin(struct worker *w, struct txn *t)
{
    struct client *c = &w->c;

    t->reads = t->writes = (struct line){0};
    snprintf(t->dir, sizeof t->dir, CONTROL "/txn/t%d.%d", c->me, w->txns++);
    t->asked = client_now_ns();
    if (mkdirat(c->dir, t->dir, 0700) == 0) {
        t->begun = client_now_ns();
        return true;
    }
    if (errno == EMFILE) /* commits of earlier ones are still on their way */
        client_pause(c, 100);
    else if (!client_is_away(c))
        client_fault(c, "mkdir", t->dir);
    return false;
}

static bool txn_read(struct worker *w, struct txn *t, int n, long *number)
{
    char dir[PATH_SIZE];

    path_in(t, w, dir);
    return read_key(&w->c, dir, w->group, n, &t->reads, number);
}

static bool txn_write(struct worker *w, struct txn *t, int n, long number)
{
    char path[PATH_SIZE + 16], dir[PATH_SIZE], text[64];
    int value = client_new_value(&w->c), key = w->group * KEYS + n;
    bool is_list = w->group % KINDS == 0;

    path_in(t, w, dir);
    snprintf(path, sizeof path, "%s/%d", dir, key);
    if (is_list)
        snprintf(text, sizeof text, "%d\n", value);
    else
        snprintf(text, sizeof text, "%d %ld\n", value, number);
    add(&t->writes, " %c%d=%d", is_list ? 'a' : 'p', key, value);
    return write_file(&w->c, path, is_list ? O_APPEND : O_TRUNC, text) == CLIENT_DONE;
}

/* More than one command of the log holds. */
static bool txn_write_large(struct worker *w, struct txn *t)
{
    static char text[LARGE_BYTES + 1];
    char path[PATH_SIZE + 32], dir[PATH_SIZE];

    memset(text, 'a' + w->txns % 26, LARGE_BYTES);
    path_in(t, w, dir);
    snprintf(path, sizeof path, "%s/large.%d", dir, w->c.me);
    return write_file(&w->c, path, O_CREAT | O_TRUNC, text) == CLIENT_DONE;
}

/* What `status` says. False: the member died, or is not there. */
static bool txn_status(struct client *c, const struct txn *t, char *text, size_t size)
{
    char path[PATH_SIZE];
    ssize_t len;

    snprintf(path, sizeof path, "%s/status", t->dir);
    len = client_slurp(c, path, text, size);
    if (len == CLIENT_ABSENT)
        client_fault(c, "open", path);
    if (len == CLIENT_AWAY && c->dir >= 0) /* it is always there, without a quorum, too */
        client_fault(c, "read", path);
    return len >= 0;
}

/* After ETIMEDOUT: asks until it is known. */
static enum client_outcome txn_ask(struct client *c, const struct txn *t, char *text, size_t size)
{
    counters->unknown++;
    for (int i = 0; i < UNKNOWN_TRIES; i++) {
        if (!txn_status(c, t, text, size))
            return CLIENT_OPEN;
        if (strcmp(text, "unknown\n")) {
            counters->known_later++;
            return strncmp(text, "committed ", 10) ? CLIENT_NOT_DONE : CLIENT_DONE;
        }
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    }
    errno = ETIMEDOUT;
    client_fault(c, "stays unknown", t->dir);
}

/* Writes to `commit`. DONE and NOT_DONE: `text` is what status says, or empty. */
static enum client_outcome txn_commit(struct client *c, const struct txn *t, char *text, size_t size)
{
    char path[PATH_SIZE];
    enum client_outcome o = CLIENT_DONE;
    int fd;

    snprintf(path, sizeof path, "%s/commit", t->dir);
    *text = 0;
    fd = openat(c->dir, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        if (!client_is_away(c))
            client_fault(c, "open", path);
        return CLIENT_NOT_DONE;
    }
    if (write(fd, "\n", 1) != 1)
        o = errno == ECANCELED ? CLIENT_NOT_DONE : errno == ETIMEDOUT ? txn_ask(c, t, text, size) : client_outcome_of(c, "write", path);
    close(fd);
    if (o != CLIENT_OPEN && c->dir >= 0 && !*text && !txn_status(c, t, text, size))
        *text = 0;
    return o;
}

static void txn_end(struct worker *w, struct txn *t)
{
    struct client *c = &w->c;
    uint64_t start = client_now_ns();
    char text[256];
    enum client_outcome o = txn_commit(c, t, text, sizeof text);
    long rev = 0;

    errno = EINVAL;
    if (*text && (o == CLIENT_DONE ? sscanf(text, "committed %ld\n", &rev) != 1 : strncmp(text, "conflict ", 9) && strcmp(text, "open\n")))
        client_fault(c, text, "is no status");
    if (o == CLIENT_NOT_DONE)
        fprintf(c->out, "# %" PRIu64 " %" PRIu64 "%s not done: %s", start, client_now_ns(), t->writes.text, *text ? text : "the member is gone\n");
    else
        record(c, start, o == CLIENT_OPEN ? 0 : client_now_ns(), rev, &t->reads, &t->writes);
    atomic_fetch_add(o == CLIENT_DONE ? &counters->committed : o == CLIENT_OPEN ? &counters->died : &counters->conflicts, 1);
}

/* Forgets it; and what it found at its beginning is a snapshot. */
static void txn_forget(struct worker *w, const struct txn *t)
{
    record(&w->c, t->asked, t->begun, 0, &t->reads, NULL);
    if (w->c.dir >= 0 && unlinkat(w->c.dir, t->dir, AT_REMOVEDIR) && !client_is_away(&w->c))
        client_fault(&w->c, "rmdir", t->dir);
}

/* ---- What they do -------------------------------------------------------------------------------------------------------------- */

static bool lists_step(struct worker *w, struct txn *t)
{
    unsigned reads = 0, writes = 0; /* sets */
    bool ok = true;

    for (int i = (int)client_draw(&w->c, 3) + 1; i > 0; i--)
        reads |= 1u << client_draw(&w->c, LISTS);
    for (int i = (int)client_draw(&w->c, 3); i > 0; i--)
        writes |= 1u << client_draw(&w->c, LISTS);
    for (int i = 0; i < LISTS && ok; i++)
        ok = !(reads & 1u << i) || txn_read(w, t, i, NULL);
    for (int i = 0; i < LISTS && ok; i++)
        ok = !(writes & 1u << i) || txn_write(w, t, i, 0);
    if (ok && client_draw(&w->c, LARGE_EACH) == 0)
        ok = txn_write_large(w, t);
    return ok;
}

static bool bank_step(struct worker *w, struct txn *t)
{
    int from = (int)client_draw(&w->c, ACCOUNTS), to = (from + 1 + (int)client_draw(&w->c, ACCOUNTS - 1)) % ACCOUNTS;
    long sum = (long)client_draw(&w->c, 20) + 1, have[2];

    return txn_read(w, t, from, &have[0]) && txn_read(w, t, to, &have[1]) && txn_write(w, t, from, have[0] - sum) && txn_write(w, t, to, have[1] + sum);
}

static bool pair_step(struct worker *w, struct txn *t)
{
    int mine = (int)client_draw(&w->c, PAIR);
    long on[PAIR];

    if (!txn_read(w, t, 0, &on[0]) || !txn_read(w, t, 1, &on[1]))
        return false;
    return on[mine] ? txn_write(w, t, mine, 0) : on[!mine] ? true : txn_write(w, t, mine, 1);
}

static void do_txn(struct worker *w)
{
    static struct txn t;
    char dir[PATH_SIZE];
    bool ok;

    if (!txn_begin(w, &t))
        return;
    path_in(&t, w, dir);
    if (client_draw(&w->c, 5) == 0)
        ok = read_all(&w->c, dir, w->group, &t.reads);
    else
        ok = w->group % KINDS == 0 ? lists_step(w, &t) : w->group % KINDS == 1 ? bank_step(w, &t) : pair_step(w, &t);
    if (ok)
        txn_end(w, &t);
    txn_forget(w, &t);
}

/* The revision here, its tree elsewhere: there must be no older head, and nothing that is not there yet. */
static void do_snapshot(struct worker *w)
{
    static struct line reads;
    struct client *there = &w->others[client_draw(&w->c, (uint64_t)w->mounts)];
    uint64_t start = client_now_ns();
    char text[64] = "", path[PATH_SIZE];
    long rev, head;
    ssize_t n;

    client_find_tree(there);
    if (client_slurp(&w->c, CONTROL "/revision", text, sizeof text) < 0)
        return;
    rev = atol(text);
    if (client_draw(&w->c, 2)) {
        n = readlinkat(there->dir, CONTROL "/at/head-0", text, sizeof text - 1);
        if (n < 0 && client_is_away(there))
            return;
        text[n < 0 ? 0 : n] = 0;
        head = atol(text);
        if (head < rev)
            client_fault(there, "at/head-0 is older than the revision that was told before:", text);
        rev = head;
    }
    reads = (struct line){0};
    snprintf(path, sizeof path, CONTROL "/at/%ld/%s", rev, w->tree);
    if (!read_all(there, path, w->group, &reads))
        return;
    record(&w->c, start, client_now_ns(), rev, &reads, NULL);
    counters->snapshots++;
}

static void do_plain(struct worker *w)
{
    static struct line reads, writes;
    int n = (int)client_draw(&w->c, (uint64_t)files_of(w->group)), key = w->group * KEYS + n, value = client_new_value(&w->c);
    char path[32], text[32];
    uint64_t start = client_now_ns();
    enum client_outcome o;

    reads = writes = (struct line){0};
    if (w->group % KINDS || client_draw(&w->c, 2)) {
        if (read_key(&w->c, ".", w->group, n, &reads, NULL))
            record(&w->c, start, client_now_ns(), 0, &reads, NULL);
        return;
    }
    snprintf(path, sizeof path, "%d", key);
    snprintf(text, sizeof text, "%d\n", value);
    add(&writes, " a%d=%d", key, value);
    o = write_file(&w->c, path, O_APPEND, text);
    if (o != CLIENT_NOT_DONE)
        record(&w->c, start, o == CLIENT_DONE ? client_now_ns() : 0, 0, &writes, NULL);
}

static void one(struct worker *w, int groups)
{
    int coin = (int)client_draw(&w->c, 10);

    w->group = (int)client_draw(&w->c, (uint64_t)groups);
    client_find_tree(&w->c);
    if (coin < 6)
        do_txn(w);
    else if (coin < 8)
        do_snapshot(w);
    else
        do_plain(w);
}

/* ---- The whole ----------------------------------------------------------------------------------------------------------------- */

static int make(char **argv)
{
    int groups = atoi(argv[2]);
    struct client c;

    client_begin(&c, NULL, 0, argv[4], argv[3], 1);
    client_find_tree(&c);
    for (int g = 0; g < groups; g++)
        for (int i = 0; i < files_of(g); i++) {
            char path[32];
            const char *text = g % KINDS == 0 ? "" : g % KINDS == 1 ? "0 100\n" : "0 0\n";
            int fd;

            snprintf(path, sizeof path, "%d", g * KEYS + i);
            fd = openat(c.dir, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
            if (fd < 0 || write(fd, text, strlen(text)) < 0 || close(fd))
                client_fault(&c, "make", path);
        }
    return 0;
}

static void work(const char *out, int me, int ops, int groups, int pause_ms, uint64_t seed, const char *tree, int mounts, char **mount)
{
    static struct worker w;

    setsid();
    w.tree = tree;
    w.mounts = mounts;
    client_begin(&w.c, out, me, mount[me % mounts], tree, seed);
    for (int i = 0; i < mounts; i++)
        client_begin(&w.others[i], NULL, me, mount[i], tree, seed);
    for (int n = 0; n < ops; n++) {
        one(&w, groups);
        client_pause(&w.c, pause_ms);
    }
    fclose(w.c.out);
    exit(0);
}

static int run(int argc, char **argv)
{
    int clients = atoi(argv[4]), ops = atoi(argv[5]), groups = atoi(argv[6]), pause_ms = atoi(argv[7]), mounts = argc - 9, failed = 0, status;
    uint64_t seed = strtoull(argv[3], NULL, 10), start;
    double seconds;

    if (clients < 1 || clients > 90 || groups < 1 || mounts > MOUNTS_MAX)
        return 2;
    counters = mmap(NULL, sizeof *counters, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (counters == MAP_FAILED)
        return 1;
    start = client_now_ns();
    for (int i = 0; i < clients; i++)
        if (fork() == 0)
            work(argv[2], i, ops / clients, groups, pause_ms, seed, argv[8], mounts, argv + 9);
    while (wait(&status) > 0)
        failed |= status != 0;
    seconds = (double)(client_now_ns() - start) / 1e9;
    printf("%d committed, %d not, %d timed out, %d of which status told later, %d lost with their member; %d snapshots; %.1f s, %.0f committed/s\n",
           counters->committed, counters->conflicts, counters->unknown, counters->known_later, counters->died, counters->snapshots, seconds,
           counters->committed / seconds);
    return failed;
}

static bool look(struct client *c, int group)
{
    for (int i = 0; i < files_of(group); i++) {
        static struct line reads;
        uint64_t start = client_now_ns();

        reads = (struct line){0};
        if (!read_key(c, ".", group, i, &reads, NULL))
            return false;
        record(c, start, client_now_ns(), 0, &reads, NULL);
    }
    return true;
}

int main(int argc, char **argv)
{
    if (argc == 5 && !strcmp(argv[1], "make"))
        return make(argv);
    if (argc >= 10 && !strcmp(argv[1], "run"))
        return run(argc, argv);
    if (argc >= 6 && !strcmp(argv[1], "final"))
        return client_final(argc, argv, look);
    fprintf(stderr, "usage: txnload make GROUPS TREE MOUNT\n       txnload run OUT SEED CLIENTS OPS GROUPS PAUSE_MS TREE MOUNT...\n       txnload final OUT GROUPS TREE MOUNT...\n");
    return 2;
}
