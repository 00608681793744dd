/* What leases cost three members in this process, connected over loopback, without a mount.
 *
 *   replica_lives DIR keep              leases that a follower keeps: processor time, and how fast they end when nobody keeps them
 *   replica_lives DIR expire [ROUNDS]   a writer's puts, idle and while 1,000 leases end in a second, each with a file; and how late they end
 *   replica_lives DIR files N           the end of one lease of N files: how long puts and read barriers of each member take meanwhile
 *
 * DIR must not exist; it is left behind. */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "tests/bench/trio.h"

#define MS INT64_C(1000000)
#define SEC (1000 * MS)

static struct trio t;

/* ---- Many requests at once ----------------------------------------------------------------------------------------------- */

enum { WINDOW = 2000 /* under way */ };

struct many {
    struct replica_request req;
    uint64_t id;                       /* the result */
    int64_t ttl_ns, asked_ns;          /* of a lease */
    int64_t granted_ns;
    _Atomic int64_t gone_ns;
};

static _Atomic int n_under_way;

static void many_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct many *m = req->data;

    (void)rev;
    if (err)
        trio_die("request", qfs_strerror(err));
    m->id = ino;
    m->granted_ns = clock_boottime_ns();
    atomic_fetch_sub(&n_under_way, 1);
}

static void many_submit(struct replica *r, struct many *m, const struct store_op *op)
{
    struct store_command cmd = {.comm = "bench", .ops = op, .n_ops = 1};

    while (atomic_load(&n_under_way) >= WINDOW)
        usleep(200);
    atomic_fetch_add(&n_under_way, 1);
    m->req = (struct replica_request){.data = m, .cb = many_cb};
    replica_submit(r, &m->req, &cmd);
}

static void many_wait(void)
{
    while (atomic_load(&n_under_way) > 0)
        usleep(200);
}

static void many_grant(struct replica *r, struct many *m, int k, int64_t ttl_ns)
{
    char name[32];
    struct store_op op = {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .rev = ttl_ns};

    op.name = (struct store_bytes){name, (size_t)snprintf(name, sizeof name, "many-%d", k)};
    m->ttl_ns = ttl_ns;
    m->asked_ns = clock_boottime_ns();
    many_submit(r, m, &op);
}

/* A small file that is attached to a lease. */
static void many_attach(struct replica *r, struct many *m, uint64_t dir, int k, uint64_t lease)
{
    char name[32];
    struct store_edit edits[] = {{.kind = STORE_EDIT_TRUNCATE}, {.kind = STORE_EDIT_WRITE, .bytes = {"10.0.0.7:80\n", 12}}};
    struct store_op op = {.kind = STORE_OP_COMMIT, .parent = dir, .mode = 0644, .edits = edits, .n_edits = 2, .valid = STORE_ATTR_LEASE, .lease = lease};

    op.name = (struct store_bytes){name, (size_t)snprintf(name, sizeof name, "attached-%d", k)};
    while ((op.new_ino = replica_new_ino(r, STORE_FILE)) == 0)
        usleep(1000);
    many_submit(r, m, &op);
}

static struct many *many_new(int n)
{
    struct many *all = calloc((size_t)n, sizeof *all);

    if (!all)
        trio_die("memory", "out of it");
    return all;
}

static uint64_t make_dir(const char *name)
{
    struct store_op op = {.kind = STORE_OP_MKDIR, .parent = STORE_ROOT_INO, .name = {name, strlen(name)}, .mode = 0755};

    while ((op.new_ino = replica_new_ino(t.leader, STORE_DIR)) == 0)
        usleep(1000);
    trio_do(t.leader, &op);
    return op.new_ino;
}

/* ---- Kept leases --------------------------------------------------------------------------------------------------------- */

static double processor_seconds(void)
{
    struct timespec at;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static int64_t n_leases(void)
{
    struct store_glance g;

    replica_glance(t.leader, &g);
    return g.n_leases;
}

static double processor_share(unsigned s)
{
    double before = processor_seconds();

    sleep(s);
    return (processor_seconds() - before) / s;
}

/* Many leases from one request to the next, kept by a follower for ten seconds: the processor time of all three members; then given up. */
static void keep_many(int n, int ttl_s)
{
    struct many *all = many_new(n);
    double idle = processor_share(5), kept;
    int64_t start;

    for (int k = 0; k < n; k++)
        many_grant(t.follower, &all[k], k, SEC * ttl_s);
    many_wait();
    for (int k = 0; k < n; k++)
        if (replica_lease_keep(t.follower, all[k].id, true))
            trio_die("keep", "out of memory");
    sleep(2);
    kept = processor_share(10);
    printf("%d leases of %d s kept: %.2f %% of a core for three members (%.2f %% idle), %" PRId64 " lost\n", n, ttl_s, kept * 100, idle * 100,
           n - n_leases());
    for (int k = 0; k < n; k++)
        replica_lease_keep(t.follower, all[k].id, false);
    while (n_leases() > n * 9 / 10)
        usleep(1000);
    start = clock_boottime_ns();
    while (n_leases() > 0)
        usleep(1000);
    printf("%-32s %8.0f leases end a second\n", "when nobody keeps them", n * 0.9 / ((double)(clock_boottime_ns() - start) / 1e9));
    fflush(stdout);
    free(all);
}

/* ---- Expirations beside a writer ----------------------------------------------------------------------------------------- */

enum { EXPIRING = 3000, PREPARE_S = 5, PHASE_S = 3, ROUNDS_MAX = 100 };

static struct many *expiring; /* by id, once all are granted */

static int by_id(const void *a, const void *b)
{
    const struct many *x = a, *y = b;

    return (x->id > y->id) - (x->id < y->id);
}

/* On each member's store thread; the last one counts. */
static void gone(void *data, const uint64_t *ids, size_t n)
{
    int64_t now = clock_boottime_ns();

    (void)data;
    for (size_t i = 0; expiring && i < n; i++) {
        struct many key = {.id = ids[i]}, *m = bsearch(&key, expiring, EXPIRING, sizeof key, by_id);

        if (m)
            atomic_store(&m->gone_ns, now);
    }
}

struct times { double p50, p99, share; int n; }; /* us; of a core, by all three members */

/* One put after the other until then. */
static struct times put_until(struct replica *r, int64_t end_ns)
{
    enum { MAX = 100000 };
    static int64_t ns[MAX];
    double cpu = processor_seconds();
    int64_t from = clock_boottime_ns();
    struct times out = {0};
    char name[32];

    while (out.n < MAX && clock_boottime_ns() < end_ns) {
        int64_t start = clock_boottime_ns();

        snprintf(name, sizeof name, "f%d", out.n % 100);
        trio_put(r, STORE_ROOT_INO, name, 256, 0);
        ns[out.n++] = clock_boottime_ns() - start;
    }
    if (out.n == 0)
        trio_die("expire", "no time was left: the machine is too slow");
    out.share = (processor_seconds() - cpu) / ((double)(clock_boottime_ns() - from) / 1e9);
    qsort(ns, (size_t)out.n, sizeof *ns, trio_by_value);
    out.p50 = (double)ns[out.n / 2] / 1e3;
    out.p99 = (double)ns[(size_t)out.n * 99 / 100] / 1e3;
    return out;
}

/* Leases that end one after the other, a millisecond apart, from then on. */
static void prepare(uint64_t dir, int64_t from_ns)
{
    struct many *files = many_new(EXPIRING);

    memset(expiring, 0, EXPIRING * sizeof *expiring);
    for (int k = 0; k < EXPIRING; k++)
        many_grant(t.r[k % TRIO_MEMBERS], &expiring[k], k, from_ns + k * MS - clock_boottime_ns());
    many_wait();
    qsort(expiring, EXPIRING, sizeof *expiring, by_id);
    for (int k = 0; k < EXPIRING; k++)
        many_attach(t.r[k % TRIO_MEMBERS], &files[k], dir, k, expiring[k].id);
    many_wait();
    free(files);
}

/* How late the last one was; all must be gone a second after their TTL. */
static double check_gone(void)
{
    int64_t late = 0, end = clock_boottime_ns() + 3 * SEC;

    while (n_leases() > 0 && clock_boottime_ns() < end)
        usleep(1000);
    usleep(100000); /* the others apply it, too */
    for (int k = 0; k < EXPIRING; k++) {
        int64_t at = atomic_load(&expiring[k].gone_ns);

        if (at == 0)
            trio_die("expire", "a lease does not end");
        if (at < expiring[k].asked_ns + expiring[k].ttl_ns)
            trio_die("expire", "a lease ended early");
        if (at - expiring[k].granted_ns - expiring[k].ttl_ns > late)
            late = at - expiring[k].granted_ns - expiring[k].ttl_ns;
    }
    return (double)late / 1e6;
}

static int by_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_double);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void expire_beside(const char *what, struct replica *r, uint64_t dir, int rounds)
{
    double idle50[ROUNDS_MAX], idle99[ROUNDS_MAX], busy50[ROUNDS_MAX], busy99[ROUNDS_MAX];

    for (int i = 0; i < rounds; i++) {
        int64_t from = clock_boottime_ns() + (PREPARE_S + PHASE_S) * SEC;
        struct times idle, busy;

        prepare(dir, from);
        while (clock_boottime_ns() < from - PHASE_S * SEC)
            usleep(1000);
        idle = put_until(r, from);
        busy = put_until(r, from + PHASE_S * SEC);
        printf("%-18s idle %6.0f %7.0f %5d puts %3.0f %%   busy %6.0f %7.0f %5d puts %3.0f %%   the last lease ended %.0f ms late\n", what, idle.p50,
               idle.p99, idle.n, idle.share * 100, busy.p50, busy.p99, busy.n, busy.share * 100, check_gone());
        fflush(stdout);
        idle50[i] = idle.p50;
        idle99[i] = idle.p99;
        busy50[i] = busy.p50;
        busy99[i] = busy.p99;
    }
    printf("%-22s ratio of medians: p50 %.2f, p99 %.2f\n", what, median(busy50, rounds) / median(idle50, rounds),
           median(busy99, rounds) / median(idle99, rounds));
    fflush(stdout);
}

static void expire(int rounds)
{
    uint64_t dir = make_dir("services");

    expiring = many_new(EXPIRING);
    printf("1,000 leases end in a second, each with a file; p50 and p99 in microseconds, processor time of all three members\n");
    expire_beside("put on the leader", t.leader, dir, rounds);
    expire_beside("put on a follower", t.follower, dir, rounds);
}

/* ---- One lease of many files --------------------------------------------------------------------------------------------- */

struct prober { /* does one thing after the other */
    pthread_t thread;
    const char *what;
    struct replica *r;
    bool puts;        /* else read barriers */
    int64_t worst_ns;
    _Atomic int n;
};

static _Atomic bool enough;

static void *prober_main(void *arg)
{
    struct prober *p = arg;
    struct trio_answer a;

    while (!atomic_load(&enough)) {
        int64_t start = clock_boottime_ns(), ns;

        if (p->puts) {
            trio_put(p->r, STORE_ROOT_INO, "probe", 256, 0);
        } else {
            trio_ask(&a);
            replica_barrier(p->r, &a.req);
            trio_wait(&a);
        }
        ns = clock_boottime_ns() - start;
        if (ns > p->worst_ns)
            p->worst_ns = ns;
        atomic_fetch_add(&p->n, 1);
        usleep(1000);
    }
    return NULL;
}

static long peak_kib(void)
{
    char line[128];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib;
}

static void attach_all(int n, uint64_t lease)
{
    struct many *all = many_new(n);
    uint64_t dir = 0;
    char name[32];

    for (int k = 0; k < n; k++) {
        if (k % 1000 == 0) {
            snprintf(name, sizeof name, "d%d", k / 1000);
            dir = make_dir(name);
        }
        many_attach(t.leader, &all[k], dir, k, lease);
    }
    many_wait();
    free(all);
}

static void report_end(struct prober *probers, size_t n_probers, int64_t start, int n, uint64_t term, int64_t rev)
{
    struct replica_status s;
    struct store_glance g;

    printf("the end of a lease of %d files took %.2f s\n", n, (double)(clock_boottime_ns() - start) / 1e9);
    for (size_t i = 0; i < n_probers; i++)
        printf("    %-24s %8.0f ms at most (%d meanwhile)\n", probers[i].what, (double)probers[i].worst_ns / 1e6, atomic_load(&probers[i].n));
    replica_status(t.leader, &s);
    replica_glance(t.leader, &g);
    printf("    %s; memory of all three at its peak %ld MiB; revisions, with those of the puts: %" PRId64 "\n",
           s.term == term ? "the leader kept its office" : "THE LEADER LOST ITS OFFICE", peak_kib() >> 10, g.rev - rev);
}

static void end_of_files(int n)
{
    struct prober probers[] = {{.what = "put on the leader", .r = t.leader, .puts = true}, {.what = "put on a follower", .r = t.follower, .puts = true},
                               {.what = "barrier on the leader", .r = t.leader}, {.what = "barrier on a follower", .r = t.follower}};
    uint64_t lease = trio_grant(t.leader, "many", 3600 * SEC);
    struct replica_status s;
    struct store_glance g;
    int64_t start;

    attach_all(n, lease);
    sleep(3);
    printf("memory of all three before: %ld MiB\n", peak_kib() >> 10);
    replica_status(t.leader, &s);
    for (size_t i = 0; i < sizeof probers / sizeof *probers; i++)
        if (pthread_create(&probers[i].thread, NULL, prober_main, &probers[i]))
            trio_die("thread", "cannot be started");
    sleep(2);
    for (size_t i = 0; i < sizeof probers / sizeof *probers; i++) {
        printf("    idle: %-24s %8.0f ms at most\n", probers[i].what, (double)probers[i].worst_ns / 1e6);
        probers[i].worst_ns = 0;
        atomic_store(&probers[i].n, 0);
    }
    replica_glance(t.leader, &g);
    trio_do(t.leader, &(struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_TTL, .ino = lease, .rev = SEC});
    start = clock_boottime_ns() + SEC;
    while (n_leases() > 0)
        usleep(1000);
    report_end(probers, sizeof probers / sizeof *probers, start, n, s.term, g.rev);
    sleep(3);
    atomic_store(&enough, true);
    for (size_t i = 0; i < sizeof probers / sizeof *probers; i++)
        pthread_join(probers[i].thread, NULL);
    report_end(probers, sizeof probers / sizeof *probers, start, n, s.term, g.rev);
}

int main(int argc, char **argv)
{
    int n = argc > 3 ? atoi(argv[3]) : 5;

    if (argc < 3 || n < 1 || (!strcmp(argv[2], "expire") && n > ROUNDS_MAX)) {
        fprintf(stderr, "usage: replica_lives DIR keep | expire [ROUNDS] | files N\n");
        return 2;
    }
    t.leases_gone = gone;
    trio_start(&t, argv[1]);
    if (!strcmp(argv[2], "keep")) {
        keep_many(10000, 6);
        keep_many(40000, 60);
    } else if (!strcmp(argv[2], "expire")) {
        expire(n);
    } else {
        end_of_files(n);
    }
    trio_stop(&t);
    return 0;
}
