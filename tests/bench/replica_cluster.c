/* How long a put, a read barrier, the grant of a lease and its renewal take on the leader and on a follower of three members in this process,
 * connected over loopback, without a mount; one request at a time; and how many puts 64 writers make.
 *
 *   replica_cluster DIR [REQUESTS] [BYTES]      DIR must not exist; it is left behind */
#include <stdio.h>
#include <stdlib.h>

#include "store/base/clock.h"
#include "tests/bench/trio.h"

static size_t bytes = 256;
static uint64_t last_lease;

static void one_barrier(struct replica *r, int k)
{
    struct trio_answer a;

    (void)k;
    trio_ask(&a);
    replica_barrier(r, &a.req);
    trio_wait(&a);
}

static void one_put(struct replica *r, int k)
{
    char name[32];

    snprintf(name, sizeof name, "f%d", k % 100);
    trio_put(r, STORE_ROOT_INO, name, bytes, 0);
}

static void one_grant(struct replica *r, int k)
{
    char name[32];

    snprintf(name, sizeof name, "%p-%d", (void *)r, k);
    last_lease = trio_grant(r, name, INT64_C(3600000000000));
}

static void one_renewal(struct replica *r, int k)
{
    struct trio_answer a;

    (void)k;
    trio_ask(&a);
    replica_lease_renew(r, &a.req, last_lease);
    trio_wait(&a);
}

static void measure(const char *what, struct replica *r, void (*one)(struct replica *r, int k), int n)
{
    int64_t *ns = calloc((size_t)n, sizeof *ns);

    for (int k = 0; ns && k < n; k++) {
        int64_t start = clock_boottime_ns();

        one(r, k);
        ns[k] = clock_boottime_ns() - start;
    }
    if (!ns)
        trio_die("memory", "out of it");
    qsort(ns, (size_t)n, sizeof *ns, trio_by_value);
    printf("%-22s %8.0f %8.0f %8.0f\n", what, (double)ns[n / 2] / 1e3, (double)ns[n * 9 / 10] / 1e3, (double)ns[n * 99 / 100] / 1e3);
    fflush(stdout);
    free(ns);
}

/* Many at once, each with one request after the other: how many a second. */
enum { WRITERS = 64 };
struct writer {
    pthread_t thread;
    struct replica *r;
    int id, n;
};

static void *writer_main(void *arg)
{
    struct writer *w = arg;

    for (int k = 0; k < w->n; k++)
        one_put(w->r, w->id);
    return NULL;
}

static void throughput(const char *what, struct replica *const *where, int n_where, int n)
{
    struct writer w[WRITERS];
    int64_t start = clock_boottime_ns();

    for (int i = 0; i < WRITERS; i++) {
        w[i] = (struct writer){.r = where[i % n_where], .id = i, .n = n};
        if (pthread_create(&w[i].thread, NULL, writer_main, &w[i]))
            trio_die("thread", "cannot be started");
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(w[i].thread, NULL);
    printf("%-32s %8.0f puts a second\n", what, (double)WRITERS * n / ((double)(clock_boottime_ns() - start) / 1e9));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int n = argc > 2 ? atoi(argv[2]) : 2000;
    struct trio t;

    if (argc < 2 || n < 1) {
        fprintf(stderr, "usage: replica_cluster DIR [REQUESTS] [BYTES]\n");
        return 2;
    }
    bytes = argc > 3 ? strtoull(argv[3], NULL, 10) : bytes;
    bytes = bytes > 1 << 20 ? 1 << 20 : bytes;
    trio_start(&t, argv[1]);
    printf("%d requests each, %zu bytes      p50 us   p90 us   p99 us\n", n, bytes);
    measure("put on the leader", t.leader, one_put, n);
    measure("put on a follower", t.follower, one_put, n);
    measure("barrier on the leader", t.leader, one_barrier, n);
    measure("barrier on a follower", t.follower, one_barrier, n);
    measure("grant on the leader", t.leader, one_grant, n);
    measure("grant on a follower", t.follower, one_grant, n);
    one_barrier(t.leader, 0); /* the last lease is of the follower; the leader may not have applied it yet */
    measure("renew on the leader", t.leader, one_renewal, n);
    measure("renew on a follower", t.follower, one_renewal, n);
    throughput("64 writers on the leader", &t.leader, 1, n / 10 + 1);
    throughput("64 writers on a follower", &t.follower, 1, n / 10 + 1);
    throughput("64 writers on all members", t.r, TRIO_MEMBERS, n / 10 + 1);
    trio_stop(&t);
    return 0;
}
