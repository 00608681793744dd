/* How long one put takes through replica, without a mount: one request at a time, and many at once; beside it what the disk needs
 * for an append of the same size and fdatasync, in the same directory and the same minute.
 *
 *   replica_put DIR [PUTS] [BYTES] [WRITERS]      DIR must not exist; it is left behind */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replica/replica.h"
#include "store/base/clock.h"

enum { FILES = 100, WRITERS_MAX = 1024, ENTRY_OVERHEAD = 150 /* about: headers, names, session */ };

struct putter {
    struct replica *r;
    struct replica_request req;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t answered;
    bool done;          /* under lock */
    int err;            /* under lock */
    int id, n;          /* puts to make */
    size_t bytes;
    int64_t *ns;        /* of each put */
};

static void put_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct putter *p = req->data;

    (void)rev;
    (void)ino;
    pthread_mutex_lock(&p->lock);
    p->err = err;
    p->done = true;
    pthread_cond_signal(&p->answered);
    pthread_mutex_unlock(&p->lock);
}

static int put(struct putter *p, int k, const char *content)
{
    struct store_edit edits[] = {{.kind = STORE_EDIT_TRUNCATE}, {.kind = STORE_EDIT_WRITE, .bytes = {content, p->bytes}}};
    char name[32];
    struct store_op op = {.kind = STORE_OP_COMMIT, .parent = STORE_ROOT_INO, .mode = 0644, .edits = edits, .n_edits = 2};
    struct store_command cmd = {.comm = "bench", .ops = &op, .n_ops = 1};

    op.name = (struct store_bytes){name, (size_t)snprintf(name, sizeof name, "w%df%d", p->id, k % FILES)};
    op.new_ino = replica_new_ino(p->r, STORE_FILE);
    p->done = false;
    p->req.data = p;
    p->req.cb = put_cb;
    replica_submit(p->r, &p->req, &cmd);
    pthread_mutex_lock(&p->lock);
    while (!p->done)
        pthread_cond_wait(&p->answered, &p->lock);
    pthread_mutex_unlock(&p->lock);
    return p->err;
}

static void *putter_main(void *arg)
{
    struct putter *p = arg;
    char *content = calloc(1, p->bytes + 1);

    for (int i = 0; content && i < p->n; i++) {
        int64_t start = clock_boottime_ns();

        if (put(p, i, content))
            fprintf(stderr, "put failed: %s\n", qfs_strerror(p->err));
        p->ns[i] = clock_boottime_ns() - start;
    }
    free(content);
    return NULL;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

static void print_row(const char *what, int64_t *ns, int n, int64_t took_ns)
{
    qsort(ns, (size_t)n, sizeof *ns, compare);
    printf("%-34s p50 %7.1f us  p99 %8.1f us  %9.0f /s\n", what, (double)ns[n / 2] / 1e3, (double)ns[n * 99 / 100] / 1e3,
           n * 1e9 / (double)took_ns);
}

static void bench_puts(struct replica *r, int writers, int n, size_t bytes)
{
    struct putter *p = calloc((size_t)writers, sizeof *p);
    int64_t *ns = calloc((size_t)writers * (size_t)n, sizeof *ns), start = clock_boottime_ns();
    char what[64];

    for (int i = 0; i < writers; i++) {
        p[i].r = r;
        p[i].id = i;
        p[i].n = n;
        p[i].bytes = bytes;
        p[i].ns = ns + (size_t)i * (size_t)n;
        pthread_mutex_init(&p[i].lock, NULL);
        pthread_cond_init(&p[i].answered, NULL);
        pthread_create(&p[i].thread, NULL, putter_main, &p[i]);
    }
    for (int i = 0; i < writers; i++)
        pthread_join(p[i].thread, NULL);
    snprintf(what, sizeof what, "replica put, %d writer%s", writers, writers == 1 ? "" : "s");
    print_row(what, ns, writers * n, clock_boottime_ns() - start);
    free(ns);
    free(p);
}

static int bench_append(const char *dir, int n, size_t bytes)
{
    char path[4096], *content = calloc(1, bytes);
    int64_t *ns = calloc((size_t)n, sizeof *ns), start;
    int fd;

    snprintf(path, sizeof path, "%s/bench", dir);
    fd = open(path, O_CREAT | O_WRONLY | O_APPEND, 0600);
    if (fd < 0 || !content || !ns)
        return 1;
    start = clock_boottime_ns();
    for (int i = 0; i < n; i++) {
        int64_t t = clock_boottime_ns();

        if (write(fd, content, bytes) != (ssize_t)bytes || fdatasync(fd))
            return 1;
        ns[i] = clock_boottime_ns() - t;
    }
    print_row("append + fdatasync", ns, n, clock_boottime_ns() - start);
    close(fd);
    unlink(path);
    free(ns);
    free(content);
    return 0;
}

static void print_hist(const char *what, const struct replica_hist *h)
{
    printf("%-34s %llu times, mean %llu us\n", what, (unsigned long long)h->count, (unsigned long long)(h->count ? h->sum_us / h->count : 0));
}

int main(int argc, char **argv)
{
    int n = argc > 2 ? atoi(argv[2]) : 3000, writers = argc > 4 ? atoi(argv[4]) : 64;
    size_t bytes = argc > 3 ? (size_t)atoi(argv[3]) : 256;
    struct replica_init init = {.dir = argc > 1 ? argv[1] : "", .member_id = 1};
    struct replica_options options = {.dir = init.dir, .timeout_ms = 60000};
    struct replica_status s;
    struct replica *r;
    struct buf why = {0};

    if (argc < 2 || writers < 1 || writers > WRITERS_MAX || n < 1) {
        fprintf(stderr, "usage: replica_put DIR [PUTS] [BYTES] [WRITERS]\n");
        return 2;
    }
    if (replica_init(&init, &why) || replica_start(&options, 0, &r, &why)) {
        fprintf(stderr, "%s\n", buf_cstr(&why));
        return 1;
    }
    for (int round = 0; round < 2; round++) {
        bench_append(init.dir, n, bytes + ENTRY_OVERHEAD);
        bench_puts(r, 1, n, bytes);
    }
    bench_puts(r, writers, n / 8 + 1, bytes);
    replica_status(r, &s);
    print_hist("submit to answer", &s.commit_time);
    print_hist("log write", &s.fsync_time);
    print_hist("commit to applied", &s.apply_time);
    print_hist("checkpoint or long upkeep", &s.checkpoint_time);
    printf("%-34s %llu\n", "entries in the log", (unsigned long long)s.last_index);
    replica_stop(r);
    buf_fini(&why);
    return 0;
}
