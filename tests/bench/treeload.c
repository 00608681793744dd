/* treeload CASE [-n CLIENTS] [-d SECONDS] [-k FILES] [-l DEPTH] [-t FILES] [-N NAME] DIR: closed-loop load on a directory.
 *
 *   own     each client overwrites a file of its own: open(O_TRUNC), write 256 bytes, close
 *   kept    the same on a descriptor that stays open: pwrite, fdatasync
 *   get     open, read, close of a file DEPTH directories down, drawn from FILES
 *   floor   append 256 bytes and fdatasync to a file (on the disk itself: what a commit cannot beat)
 *   create  each client creates files, all in one directory      unlink  ... and removes them
 *   txn     a transaction that overwrites -t FILES files of the directory k; DIR is the mount point
 *   lock    opens a lock of its own for writing, and closes it; DIR is the mount point, here and below
 *   lockc   all clients want one lock; the time is that from its close by one until its open by the next one has returned
 *   grant   makes leases      renew   ... renews one of its own
 *   fill    writes FILES files once
 *
 * Clients are processes. One line on standard output: a table row for people, or with BENCH_SYS set the tab-separated line
 *   sys topo case rep n secs ops_s p50_us p90_us p99_us max_us mean_us err srv_cpu_us cli_cpu_us other_pct steal_pct load1
 * in which srv_cpu is that of the processes BENCH_PIDS and other the CPU time that neither used. Times are kept in buckets of 1.6 %. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CLIENTS_MAX = 512, VALUE_BYTES = 256, PER_OCTAVE = 64, OCTAVES = 40, BUCKETS = PER_OCTAVE * OCTAVES, WARM_UP_MS = 200 };

struct client { /* one process, in memory shared with the parent */
    uint64_t buckets[BUCKETS]; /* how many operations took that long */
    uint64_t n, err;           /* operations, and failed ones */
    int64_t sum_ns, max_ns;
};

struct shared {
    struct client clients[CLIENTS_MAX];
    _Atomic int phase;   /* 0 warm-up, 1 measure, 2 stop */
    _Atomic int n_ready; /* clients that have opened what they need */
    _Atomic int64_t released_ns; /* lockc: when the holder began to close; 0: nobody has */
};

struct load { /* what one client does */
    const char *dir;
    int me, clients, depth; /* which client, of how many; directories above a file */
    uint64_t files;         /* how many files are drawn from */
    int per_txn;            /* files of one transaction */
    uint64_t random;        /* state of the generator */
    uint64_t seq;           /* operations so far */
    int fd;                 /* kept open, or -1 */
    int64_t took_ns;        /* what the newest operation measured itself; 0: it is to be timed */
    char path[4096];
};

struct cpu {
    double self, servers, busy, total, steal; /* seconds so far */
};

static struct shared *shared;

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- Times -------------------------------------------------------------------------------------------------------------------- */

static int bucket_of(int64_t ns)
{
    uint64_t x = ns < PER_OCTAVE ? PER_OCTAVE : (uint64_t)ns;
    int octave = 63 - __builtin_clzll(x) - 6;
    int i = octave * PER_OCTAVE + (int)(x >> octave) - PER_OCTAVE;

    return i < BUCKETS ? i : BUCKETS - 1;
}

static double bucket_us(int i)
{
    return (double)((uint64_t)(PER_OCTAVE + i % PER_OCTAVE) << (i / PER_OCTAVE)) * 1.008 / 1000;
}

static void client_add(struct client *c, int64_t ns, bool failed)
{
    c->buckets[bucket_of(ns)]++;
    c->n++;
    c->err += failed;
    c->sum_ns += ns;
    if (ns > c->max_ns)
        c->max_ns = ns;
}

static double quantile_us(const struct client *all, double q)
{
    uint64_t want = (uint64_t)(q * (double)all->n), seen = 0;

    for (int i = 0; i < BUCKETS; i++) {
        seen += all->buckets[i];
        if (seen > want)
            return bucket_us(i);
    }
    return (double)all->max_ns / 1000;
}

/* ---- Operations --------------------------------------------------------------------------------------------------------------- */

static const char *value_of(uint64_t seq)
{
    static char value[VALUE_BYTES];

    memset(value, 'v', sizeof value);
    snprintf(value, 17, "%016" PRIx64, seq);
    return value;
}

static void file_path(struct load *l, uint64_t i)
{
    size_t n = (size_t)snprintf(l->path, sizeof l->path, "%s", l->dir);

    for (int d = 1; d < l->depth; d++)
        n += (size_t)snprintf(l->path + n, sizeof l->path - n, "/level-%d", d);
    snprintf(l->path + n, sizeof l->path - n, "/%032" PRIu64, i);
}

static int put(struct load *l, int flags)
{
    int fd = open(l->path, O_WRONLY | O_CREAT | flags, 0644);
    bool failed;

    if (fd < 0)
        return -1;
    failed = write(fd, value_of(l->seq), VALUE_BYTES) != VALUE_BYTES;
    return close(fd) || failed ? -1 : 0;
}

static int op_own(struct load *l)
{
    file_path(l, (uint64_t)l->me);
    return put(l, O_TRUNC);
}

static int op_kept(struct load *l)
{
    if (l->fd < 0) {
        file_path(l, (uint64_t)l->me);
        l->fd = open(l->path, O_RDWR | O_CREAT, 0644);
    }
    return pwrite(l->fd, value_of(l->seq), VALUE_BYTES, 0) != VALUE_BYTES || fdatasync(l->fd) ? -1 : 0;
}

static int op_floor(struct load *l)
{
    if (l->fd < 0) {
        file_path(l, (uint64_t)l->me);
        l->fd = open(l->path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    }
    return write(l->fd, value_of(l->seq), VALUE_BYTES) != VALUE_BYTES || fdatasync(l->fd) ? -1 : 0;
}

static int op_get(struct load *l)
{
    char buf[4096];
    ssize_t n;
    int fd;

    l->random = l->random * UINT64_C(6364136223846793005) + 1442695040888963407;
    file_path(l, (l->random >> 33) % l->files);
    fd = open(l->path, O_RDONLY);
    if (fd < 0)
        return -1;
    n = read(fd, buf, sizeof buf);
    return close(fd) || n != VALUE_BYTES ? -1 : 0;
}

static int op_create(struct load *l)
{
    snprintf(l->path, sizeof l->path, "%s/c%d-%" PRIu64, l->dir, l->me, l->seq);
    return put(l, 0);
}

static int op_unlink(struct load *l)
{
    snprintf(l->path, sizeof l->path, "%s/c%d-%" PRIu64, l->dir, l->me, l->seq);
    return unlink(l->path);
}

/* Begins a transaction, puts its files, commits it and forgets it: no client writes a file that another one writes, so none is refused. */
static int op_txn(struct load *l)
{
    char txn[2048], commit[2100];
    int fd, rc = 0;

    snprintf(txn, sizeof txn, "%s/.quorum/txn/treeload-%d-%d-%" PRIu64, l->dir, (int)getppid(), l->me, l->seq);
    snprintf(commit, sizeof commit, "%s/commit", txn);
    if (mkdir(txn, 0700))
        return -1;
    for (uint64_t i = 0; i < (uint64_t)l->per_txn && !rc; i++) {
        uint64_t file = ((l->seq * (uint64_t)l->per_txn + i) * (uint64_t)l->clients + (uint64_t)l->me) % l->files;

        snprintf(l->path, sizeof l->path, "%s/tree/k/%032" PRIu64, txn, file);
        rc = put(l, O_TRUNC);
    }
    fd = open(commit, O_WRONLY);
    if (fd < 0 || write(fd, "\n", 1) != 1)
        rc = -1;
    if (fd >= 0 && close(fd))
        rc = -1;
    return rmdir(txn) ? -1 : rc;
}

static int op_lock(struct load *l)
{
    int fd;

    snprintf(l->path, sizeof l->path, "%s/.quorum/locks/treeload-%d", l->dir, l->me);
    fd = open(l->path, O_WRONLY);
    return fd < 0 || close(fd) ? -1 : 0;
}

static int op_lockc(struct load *l)
{
    int64_t before;
    int fd;

    snprintf(l->path, sizeof l->path, "%s/.quorum/locks/treeload", l->dir);
    fd = open(l->path, O_WRONLY);
    if (fd < 0)
        return -1;
    before = shared->released_ns;
    l->took_ns = before ? now_ns() - before : 1;
    shared->released_ns = now_ns();
    return close(fd);
}

static void lease_path(struct load *l, uint64_t i)
{
    snprintf(l->path, sizeof l->path, "%s/.quorum/leases/treeload-%d-%d-%" PRIu64, l->dir, (int)getppid(), l->me, i);
}

static int op_grant(struct load *l)
{
    lease_path(l, l->seq);
    return mkdir(l->path, 0755);
}

static int op_renew(struct load *l)
{
    lease_path(l, 0);
    if (l->seq == 0 && mkdir(l->path, 0755))
        return -1;
    return utimensat(AT_FDCWD, l->path, NULL, 0);
}

static const struct {
    const char *name;
    int (*op)(struct load *l);
} cases[] = {{"own", op_own},       {"kept", op_kept},     {"get", op_get}, {"floor", op_floor},
             {"create", op_create}, {"unlink", op_unlink}, {"txn", op_txn},
             {"lock", op_lock},     {"lockc", op_lockc},   {"grant", op_grant}, {"renew", op_renew}};
enum { N_CASES = sizeof cases / sizeof *cases };

/* Files 0 to FILES - 1, each written once, by all clients together. */
static int fill(struct load *l)
{
    for (int d = 1; d < l->depth; d++) {
        struct load up = *l;

        up.depth = d + 1;
        file_path(&up, 0);
        *strrchr(up.path, '/') = 0;
        if (mkdir(up.path, 0755) && errno != EEXIST)
            return -1;
    }
    for (uint64_t i = (uint64_t)l->me; i < l->files; i += (uint64_t)l->clients) {
        int64_t start = now_ns();
        int rc;

        file_path(l, i);
        rc = put(l, O_TRUNC);
        client_add(&shared->clients[l->me], now_ns() - start, rc != 0);
        l->seq++;
    }
    return 0;
}

static void client_main(struct load *l, int (*op)(struct load *l))
{
    int phase, rc;
    int64_t start;

    if (!op) {
        shared->n_ready++;
        while (shared->phase < 1)
            usleep(100);
        _exit(fill(l) ? 1 : 0);
    }
    shared->n_ready++;
    while ((phase = shared->phase) < 2) {
        start = now_ns();
        l->took_ns = 0;
        rc = op(l);
        if (rc && op == op_unlink)
            break; /* all that this client made is gone */
        if (phase == 1)
            client_add(&shared->clients[l->me], l->took_ns ? l->took_ns : now_ns() - start, rc != 0);
        l->seq++;
    }
    _exit(0);
}

/* ---- Processor time ------------------------------------------------------------------------------------------------------------ */

static double stat_seconds(const char *pid)
{
    char path[64], line[1024], *p;
    double user = 0, sys = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    f = fopen(path, "r");
    if (!f)
        return 0;
    if (fgets(line, sizeof line, f) && (p = strrchr(line, ')')))
        sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lf %lf", &user, &sys);
    fclose(f);
    return (user + sys) / (double)sysconf(_SC_CLK_TCK);
}

static struct cpu cpu_now(void)
{
    struct cpu c = {0};
    struct rusage r;
    double v[8] = {0}, hz = (double)sysconf(_SC_CLK_TCK);
    char *pids = strdup(getenv("BENCH_PIDS") ? getenv("BENCH_PIDS") : ""), *save = NULL;
    FILE *f = fopen("/proc/stat", "r");

    getrusage(RUSAGE_CHILDREN, &r);
    c.self = (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
    if (f && fscanf(f, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", v, v + 1, v + 2, v + 3, v + 4, v + 5, v + 6, v + 7) == 8) {
        c.busy = (v[0] + v[1] + v[2] + v[5] + v[6]) / hz;
        c.steal = v[7] / hz;
        c.total = c.busy + c.steal + (v[3] + v[4]) / hz;
    }
    if (f)
        fclose(f);
    for (char *p = pids ? strtok_r(pids, ",", &save) : NULL; p; p = strtok_r(NULL, ",", &save))
        c.servers += stat_seconds(p);
    free(pids);
    return c;
}

static const char *env_or(const char *name, const char *otherwise)
{
    const char *v = getenv(name);

    return v && *v ? v : otherwise;
}

static void print_result(const char *name, int clients, double secs, const struct client *all, struct cpu a, struct cpu b)
{
    double n = all->n ? (double)all->n : 1, total = b.total - a.total, self = b.self - a.self, servers = b.servers - a.servers;
    double other = b.busy - a.busy - self - servers, load = 0;
    FILE *f = fopen("/proc/loadavg", "r");

    if (f && fscanf(f, "%lf", &load) != 1)
        load = 0;
    if (f)
        fclose(f);
    other = total > 0 && other > 0 ? 100 * other / total : 0;
    if (getenv("BENCH_SYS"))
        printf("%s\t%s\t%s\t%s\t%" PRIu64 "\t%.2f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%" PRIu64 "\t%.1f\t%.1f\t%.1f\t%.1f\t%.2f\n",
               env_or("BENCH_SYS", "-"), env_or("BENCH_TOPO", "-"), name, env_or("BENCH_REP", "0"), all->n, secs, n / secs,
               quantile_us(all, .5), quantile_us(all, .9), quantile_us(all, .99), (double)all->max_ns / 1000, (double)all->sum_ns / n / 1000,
               all->err, servers * 1e6 / n, self * 1e6 / n, other, total > 0 ? 100 * (b.steal - a.steal) / total : 0, load);
    else
        printf("%-12s %4d clients %9.0f /s   p50 %8.1f us   p99 %9.1f us   max %9.1f us   errors %" PRIu64 "   others' CPU %.0f %%\n", name,
               clients, n / secs, quantile_us(all, .5), quantile_us(all, .99), (double)all->max_ns / 1000, all->err, other);
}

/* ---- A run ---------------------------------------------------------------------------------------------------------------------- */

static void run(const char *name, struct load *plan, int (*op)(struct load *l), double secs)
{
    struct client *all = &shared->clients[CLIENTS_MAX - 1];
    struct cpu before, after;
    int64_t start, end;

    for (int i = 0; i < plan->clients; i++) {
        if (fork() == 0) {
            struct load l = *plan;

            l.me = i;
            l.random = (uint64_t)i * 977 + 1;
            client_main(&l, op);
        }
    }
    while (shared->n_ready < plan->clients)
        usleep(1000);
    if (op && op != op_unlink && op != op_create)
        usleep(WARM_UP_MS * 1000);
    before = cpu_now();
    start = now_ns();
    shared->phase = 1;
    if (op)
        usleep((useconds_t)(secs * 1e6));
    else
        while (wait(NULL) > 0)
            ;
    end = now_ns();
    shared->phase = op ? 2 : 1;
    while (wait(NULL) > 0)
        ;
    after = cpu_now();
    for (int i = 0; i < plan->clients; i++) {
        const struct client *c = &shared->clients[i];

        for (int k = 0; k < BUCKETS; k++)
            all->buckets[k] += c->buckets[k];
        all->n += c->n;
        all->err += c->err;
        all->sum_ns += c->sum_ns;
        all->max_ns = c->max_ns > all->max_ns ? c->max_ns : all->max_ns;
    }
    print_result(name, plan->clients, (double)(end - start) / 1e9, all, before, after);
}

int main(int argc, char **argv)
{
    struct load plan = {.clients = 1, .depth = 1, .files = 10000, .per_txn = 100, .fd = -1};
    const char *which = argc > 1 ? argv[1] : "", *name = which;
    double secs = 2;
    int opt, i = 0;

    optind = 2;
    while (argc > 1 && (opt = getopt(argc, argv, "n:d:k:l:t:N:")) != -1) {
        switch (opt) {
        case 'n': plan.clients = atoi(optarg); break;
        case 'd': secs = atof(optarg); break;
        case 'k': plan.files = strtoull(optarg, NULL, 10); break;
        case 'l': plan.depth = atoi(optarg); break;
        case 't': plan.per_txn = atoi(optarg); break;
        case 'N': name = optarg; break;
        default: return 2;
        }
    }
    while (i < N_CASES && strcmp(cases[i].name, which))
        i++;
    if (optind + 1 != argc || (i == N_CASES && strcmp(which, "fill")) || plan.clients < 1 || plan.clients >= CLIENTS_MAX || plan.files < 1) {
        fprintf(stderr, "usage: treeload own|kept|get|floor|create|unlink|txn|fill [-n CLIENTS] [-d SECONDS] [-k FILES] [-l DEPTH] [-t FILES] "
                        "[-N NAME] DIR\n");
        return 2;
    }
    plan.dir = argv[optind];
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("treeload");
        return 1;
    }
    run(name, &plan, i < N_CASES ? cases[i].op : NULL, secs);
    return 0;
}
