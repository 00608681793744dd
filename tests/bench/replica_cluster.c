/* How long a put, a read barrier, the grant of a lease and its renewal take on the leader and on a follower of three members in this process,
 * connected over loopback, without a mount; one request at a time; how many puts 64 writers make; what leases cost that are kept, and
 * how fast they end.
 *
 *   replica_cluster DIR [REQUESTS] [BYTES]      DIR must not exist; it is left behind */
#include <arpa/inet.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "replica/replica.h"
#include "store/base/clock.h"

enum { MEMBERS = 3 };

struct answer {
    pthread_mutex_t lock;
    pthread_cond_t come;
    bool done; /* under lock */
    int err;
};

struct member {
    uint32_t id;
    char dir[256], address[32], why[200];
    struct replica *r;
};

static struct member members[MEMBERS];
static struct store_member list[MEMBERS];
static size_t bytes = 256;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "replica_cluster: %s: %s\n", what, why);
    exit(1);
}

/* Ports that nobody has now. */
static void find_ports(void)
{
    int fd[MEMBERS];

    for (int i = 0; i < MEMBERS; i++) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof in;

        fd[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (fd[i] < 0 || bind(fd[i], (struct sockaddr *)&in, sizeof in) || getsockname(fd[i], (struct sockaddr *)&in, &len))
            die("port", "cannot be found");
        snprintf(members[i].address, sizeof members[i].address, "127.0.0.1:%u", ntohs(in.sin_port));
    }
    for (int i = 0; i < MEMBERS; i++)
        close(fd[i]);
}

static void *start_main(void *arg)
{
    struct member *m = arg;
    struct replica_init init = {.dir = m->dir, .member_id = m->id, .members = list, .n_members = MEMBERS, .listen = m->address};
    struct replica_options options = {.dir = m->dir, .timeout_ms = 30000, .listen = m->address};
    struct buf why = {0};

    if (replica_init(&init, &why) || replica_start(&options, 0, &m->r, &why))
        die(m->dir, buf_cstr(&why));
    buf_fini(&why);
    return NULL;
}

static void start_all(const char *dir)
{
    pthread_t thread[MEMBERS];

    if (mkdir(dir, 0700))
        die(dir, "cannot be made");
    find_ports();
    for (int i = 0; i < MEMBERS; i++) {
        members[i].id = (uint32_t)i + 1;
        snprintf(members[i].dir, sizeof members[i].dir, "%s/%d", dir, i + 1);
        list[i] = (struct store_member){.id = members[i].id, .address = members[i].address, .role = STORE_MEMBER_VOTER};
    }
    for (int i = 0; i < MEMBERS; i++)
        if (pthread_create(&thread[i], NULL, start_main, &members[i]))
            die("thread", "cannot be started");
    for (int i = 0; i < MEMBERS; i++)
        pthread_join(thread[i], NULL);
}

static void answer_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct answer *a = req->data;

    (void)rev;
    (void)ino;
    pthread_mutex_lock(&a->lock);
    a->err = err;
    a->done = true;
    pthread_cond_signal(&a->come);
    pthread_mutex_unlock(&a->lock);
}

static void answer_wait(struct answer *a)
{
    pthread_mutex_lock(&a->lock);
    while (!a->done)
        pthread_cond_wait(&a->come, &a->lock);
    pthread_mutex_unlock(&a->lock);
    if (a->err)
        die("request", qfs_strerror(a->err));
}

static void one_barrier(struct replica *r, int k)
{
    struct answer a = {.lock = PTHREAD_MUTEX_INITIALIZER, .come = PTHREAD_COND_INITIALIZER};
    struct replica_request req = {.data = &a, .cb = answer_cb};

    (void)k;
    replica_barrier(r, &req);
    answer_wait(&a);
}

static void one_put(struct replica *r, int k)
{
    static char content[1 << 20];
    struct answer a = {.lock = PTHREAD_MUTEX_INITIALIZER, .come = PTHREAD_COND_INITIALIZER};
    struct replica_request req = {.data = &a, .cb = answer_cb};
    struct store_edit edits[] = {{.kind = STORE_EDIT_TRUNCATE}, {.kind = STORE_EDIT_WRITE, .bytes = {content, bytes}}};
    char name[32];
    struct store_op op = {.kind = STORE_OP_COMMIT, .parent = STORE_ROOT_INO, .mode = 0644, .edits = edits, .n_edits = 2};
    struct store_command cmd = {.comm = "bench", .ops = &op, .n_ops = 1};

    op.name = (struct store_bytes){name, (size_t)snprintf(name, sizeof name, "f%d", k % 100)};
    while ((op.new_ino = replica_new_ino(r, STORE_FILE)) == 0)
        usleep(1000);
    replica_submit(r, &req, &cmd);
    answer_wait(&a);
}

static uint64_t last_lease;

static void grant_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    last_lease = ino;
    answer_cb(req, err, rev, ino);
}

static uint64_t grant(struct replica *r, int k, int64_t ttl_ns)
{
    struct answer a = {.lock = PTHREAD_MUTEX_INITIALIZER, .come = PTHREAD_COND_INITIALIZER};
    struct replica_request req = {.data = &a, .cb = grant_cb};
    char name[32];
    struct store_op op = {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .rev = ttl_ns};
    struct store_command cmd = {.comm = "bench", .ops = &op, .n_ops = 1};

    op.name = (struct store_bytes){name, (size_t)snprintf(name, sizeof name, "%p-%d", (void *)r, k)};
    replica_submit(r, &req, &cmd);
    answer_wait(&a);
    return last_lease;
}

static void one_grant(struct replica *r, int k)
{
    grant(r, k, INT64_C(3600000000000));
}

static void one_renewal(struct replica *r, int k)
{
    struct answer a = {.lock = PTHREAD_MUTEX_INITIALIZER, .come = PTHREAD_COND_INITIALIZER};
    struct replica_request req = {.data = &a, .cb = answer_cb};

    (void)k;
    replica_lease_renew(r, &req, last_lease);
    answer_wait(&a);
}

/* Many leases from one request to the next, kept by a follower for ten seconds: the processor time of all three members; then given up. */
struct many { struct replica_request req; uint64_t id; };

static struct answer all_granted = {.lock = PTHREAD_MUTEX_INITIALIZER, .come = PTHREAD_COND_INITIALIZER};
static int n_granted; /* under its lock */

static void many_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct many *m = req->data;

    (void)rev;
    m->id = ino;
    pthread_mutex_lock(&all_granted.lock);
    n_granted++;
    all_granted.err = err ? err : all_granted.err;
    pthread_cond_signal(&all_granted.come);
    pthread_mutex_unlock(&all_granted.lock);
}

static double processor_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void grant_many(struct replica *r, struct many *all, int n, int64_t ttl_ns)
{
    for (int k = 0; k < n; k++) {
        char name[32];
        struct store_op op = {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .rev = ttl_ns};
        struct store_command cmd = {.comm = "bench", .ops = &op, .n_ops = 1};

        op.name = (struct store_bytes){name, (size_t)snprintf(name, sizeof name, "many-%d", k)};
        all[k].req = (struct replica_request){.data = &all[k], .cb = many_cb};
        replica_submit(r, &all[k].req, &cmd);
    }
    pthread_mutex_lock(&all_granted.lock);
    while (n_granted < n)
        pthread_cond_wait(&all_granted.come, &all_granted.lock);
    pthread_mutex_unlock(&all_granted.lock);
    if (all_granted.err)
        die("grant", qfs_strerror(all_granted.err));
}

static int64_t n_leases(struct replica *r)
{
    struct store_glance g;

    replica_glance(r, &g);
    return g.n_leases;
}

static void keep_many(struct replica *leader, struct replica *r, int n, int ttl_s)
{
    struct many *all = calloc((size_t)n, sizeof *all);
    int64_t before = n_leases(leader), start;
    double idle, kept;

    if (!all)
        die("memory", "out of it");
    idle = processor_seconds();
    sleep(5);
    idle = (processor_seconds() - idle) / 5;
    grant_many(r, all, n, INT64_C(1000000000) * ttl_s);
    for (int k = 0; k < n; k++)
        if (replica_lease_keep(r, all[k].id, true))
            die("keep", "out of memory");
    sleep(2);
    kept = processor_seconds();
    sleep(10);
    kept = (processor_seconds() - kept) / 10;
    printf("%d leases of %d s kept: %.2f %% of a core for three members (%.2f %% idle), %" PRId64 " lost\n", n, ttl_s, kept * 100, idle * 100,
           n - (n_leases(leader) - before));
    for (int k = 0; k < n; k++)
        replica_lease_keep(r, all[k].id, false);
    while (n_leases(leader) - before > n * 9 / 10)
        usleep(1000);
    start = clock_boottime_ns();
    while (n_leases(leader) > before)
        usleep(1000);
    printf("%-32s %8.0f leases end a second\n", "when nobody keeps them", n * 0.9 / ((double)(clock_boottime_ns() - start) / 1e9));
    fflush(stdout);
    free(all);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
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
        die("memory", "out of it");
    qsort(ns, (size_t)n, sizeof *ns, by_value);
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
            die("thread", "cannot be started");
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(w[i].thread, NULL);
    printf("%-32s %8.0f puts a second\n", what, (double)WRITERS * n / ((double)(clock_boottime_ns() - start) / 1e9));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int n = argc > 2 ? atoi(argv[2]) : 2000;
    struct replica_status s = {0};
    struct replica *leader, *follower;

    if (argc < 2 || n < 1) {
        fprintf(stderr, "usage: replica_cluster DIR [REQUESTS] [BYTES]\n");
        return 2;
    }
    bytes = argc > 3 ? strtoull(argv[3], NULL, 10) : bytes;
    bytes = bytes > 1 << 20 ? 1 << 20 : bytes;
    start_all(argv[1]);
    one_put(members[0].r, 0);
    replica_status(members[0].r, &s);
    leader = members[s.leader ? s.leader - 1 : 0].r;
    follower = members[s.leader % MEMBERS].r;
    printf("%d requests each, %zu bytes      p50 us   p90 us   p99 us\n", n, bytes);
    measure("put on the leader", leader, one_put, n);
    measure("put on a follower", follower, one_put, n);
    measure("barrier on the leader", leader, one_barrier, n);
    measure("barrier on a follower", follower, one_barrier, n);
    measure("grant on the leader", leader, one_grant, n);
    measure("grant on a follower", follower, one_grant, n);
    measure("renew on the leader", leader, one_renewal, n);
    measure("renew on a follower", follower, one_renewal, n);
    throughput("64 writers on the leader", &leader, 1, n / 10 + 1);
    throughput("64 writers on a follower", &follower, 1, n / 10 + 1);
    throughput("64 writers on all members", (struct replica *[]){members[0].r, members[1].r, members[2].r}, MEMBERS, n / 10 + 1);
    keep_many(leader, follower, 10000, 6);
    keep_many(leader, follower, 40000, 60);
    for (int i = MEMBERS - 1; i >= 0; i--)
        replica_stop(members[i].r);
    return 0;
}
