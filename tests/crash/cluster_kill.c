/* kill -9 of members of a cluster of three while all of them write: the leader, another one, all at once, or one is paused. Afterwards
 * every line that was acknowledged is there on each member, once and in order; and what nobody knows of is there at most once, in order
 * as well. Says how long it took the others to go on when a leader was killed.
 *
 *   cluster_kill [ROUNDS [SEED]]      works in a directory of its own below $TMPDIR
 *
 * Each member is a process with writers that append numbered lines to files of their own. What was begun, and how it was answered, is in
 * memory that all processes share and that survives them. */
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "replica/replica.h"
#include "store/base/clock.h"

enum { MEMBERS = 3, WRITERS = 3, DEPTH = 64, LINES_MAX = 1 << 20, PATIENCE_MS = 60000, TIMEOUT_MS = 5000 };
enum { UNKNOWN, ACKED };

struct shared {
    struct {
        _Atomic int begun;         /* lines 0 to begun - 1 were submitted */
        uint8_t answer[LINES_MAX]; /* of each */
    } writer[MEMBERS + 1][WRITERS];
    _Atomic uint64_t acks;         /* of all */
    _Atomic uint32_t leader;       /* as a member last said */
    _Atomic bool enough;           /* writers and members end */
};

static struct shared *sh;
static char top[200], address[MEMBERS + 1][32];
static struct store_member list[MEMBERS];
static pid_t pids[MEMBERS + 1];
static bool is_member; /* this process is one */

#define FAIL(...) \
    do { \
        fprintf(stderr, "cluster_kill: " __VA_ARGS__); \
        fputc('\n', stderr); \
        exit(1); \
    } while (0)

/* ---- A member ------------------------------------------------------------------------------------------------------------ */

struct answer {
    pthread_mutex_t lock;
    pthread_cond_t come;
    bool done; /* under lock */
    int err;
};

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

static int answer_wait(struct answer *a)
{
    pthread_mutex_lock(&a->lock);
    while (!a->done)
        pthread_cond_wait(&a->come, &a->lock);
    pthread_mutex_unlock(&a->lock);
    return a->err;
}

struct slot { /* one line under way */
    struct answer answer;
    struct replica_request req;
    bool used;
    int n;
};

struct writer { /* has several lines under way, which must take effect in order */
    pthread_t thread;
    struct replica *r;
    uint32_t member;
    int id;
    struct slot slots[DEPTH];
};

static void append(struct writer *w, struct slot *slot, int n)
{
    char name[16], line[16];
    struct store_edit edit = {.kind = STORE_EDIT_APPEND};
    struct store_op op = {.kind = STORE_OP_COMMIT, .parent = STORE_ROOT_INO, .mode = 0644, .edits = &edit, .n_edits = 1};
    struct store_command cmd = {.comm = "kill", .ops = &op, .n_ops = 1};

    op.name = (struct store_bytes){name, (size_t)snprintf(name, sizeof name, "m%uw%d", w->member, w->id)};
    edit.bytes = (struct store_bytes){line, (size_t)snprintf(line, sizeof line, "%d\n", n)};
    while ((op.new_ino = replica_new_ino(w->r, STORE_FILE)) == 0)
        poll(NULL, 0, 5);
    *slot = (struct slot){.answer = {.lock = PTHREAD_MUTEX_INITIALIZER, .come = PTHREAD_COND_INITIALIZER}, .used = true, .n = n};
    slot->req = (struct replica_request){.data = &slot->answer, .cb = answer_cb};
    replica_submit(w->r, &slot->req, &cmd);
}

static void finish(struct writer *w, struct slot *slot)
{
    int err;

    if (!slot->used)
        return;
    slot->used = false;
    err = answer_wait(&slot->answer);
    if (err && err != QE_TIMEDOUT) /* nothing else can be wrong here */
        FAIL("line %d of m%uw%d: %s", slot->n, w->member, w->id, qfs_strerror(err));
    sh->writer[w->member][w->id].answer[slot->n] = err ? UNKNOWN : ACKED;
    if (err == 0)
        atomic_fetch_add(&sh->acks, 1);
    else
        poll(NULL, 0, 5);
}

static void *writer_main(void *arg)
{
    struct writer *w = arg;
    int n;

    while (!atomic_load(&sh->enough) && (n = atomic_fetch_add(&sh->writer[w->member][w->id].begun, 1)) < LINES_MAX) {
        finish(w, &w->slots[n % DEPTH]);
        append(w, &w->slots[n % DEPTH], n);
        poll(NULL, 0, 1); /* so that new ones come while older ones wait for a leader */
    }
    for (int i = 0; i < DEPTH; i++)
        finish(w, &w->slots[i]);
    return NULL;
}

static void fatal_cb(void *data, const char *why)
{
    (void)data;
    fprintf(stderr, "cluster_kill: a member stopped: %s\n", why);
    _exit(3);
}

static struct replica *start(uint32_t id)
{
    char dir[300];
    struct replica_options options = {.dir = dir, .timeout_ms = TIMEOUT_MS, .listen = address[id], .fatal = fatal_cb};
    struct replica *r = NULL;
    struct buf why = {0};

    snprintf(dir, sizeof dir, "%s/%u", top, id);
    if (replica_start(&options, 5000, &r, &why))
        FAIL("start of member %u: %s", id, buf_cstr(&why));
    buf_fini(&why);
    return r;
}

static int member_main(uint32_t id)
{
    struct writer w[WRITERS];
    struct replica *r = start(id);
    struct replica_status s;

    for (int i = 0; i < WRITERS; i++) {
        w[i] = (struct writer){.r = r, .member = id, .id = i};
        if (pthread_create(&w[i].thread, NULL, writer_main, &w[i]))
            FAIL("no thread");
    }
    while (!atomic_load(&sh->enough)) {
        replica_status(r, &s);
        if (s.leader)
            atomic_store(&sh->leader, s.leader);
        poll(NULL, 0, 20);
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(w[i].thread, NULL);
    replica_stop(r);
    return 0;
}

/* ---- The killer ---------------------------------------------------------------------------------------------------------- */

static void find_ports(void)
{
    int fd[MEMBERS + 1];

    for (uint32_t id = 1; id <= MEMBERS; id++) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof in;

        fd[id] = socket(AF_INET, SOCK_STREAM, 0);
        if (fd[id] < 0 || bind(fd[id], (struct sockaddr *)&in, sizeof in) || getsockname(fd[id], (struct sockaddr *)&in, &len))
            FAIL("no port");
        snprintf(address[id], sizeof address[id], "127.0.0.1:%u", ntohs(in.sin_port));
        list[id - 1] = (struct store_member){.id = id, .address = address[id], .role = STORE_MEMBER_VOTER};
    }
    for (uint32_t id = 1; id <= MEMBERS; id++)
        close(fd[id]);
}

static void make(uint32_t id)
{
    char dir[300];
    struct replica_init init = {.dir = dir, .member_id = id, .members = list, .n_members = MEMBERS, .listen = address[id]};
    struct buf why = {0};

    snprintf(dir, sizeof dir, "%s/%u", top, id);
    if (replica_init(&init, &why))
        FAIL("init: %s", buf_cstr(&why));
    buf_fini(&why);
}

static void launch(uint32_t id)
{
    fflush(NULL);
    pids[id] = fork();
    if (pids[id] == 0) {
        is_member = true;
        _exit(member_main(id));
    }
    if (pids[id] < 0)
        FAIL("no process");
}

static void kill_one(uint32_t id)
{
    int status;

    kill(pids[id], SIGKILL);
    if (waitpid(pids[id], &status, 0) != pids[id] || !WIFSIGNALED(status))
        FAIL("member %u had ended by itself (status %x)", id, status);
}

static void wait_acks(uint64_t more)
{
    uint64_t from = atomic_load(&sh->acks);
    int64_t end = clock_boottime_ns() + PATIENCE_MS * INT64_C(1000000);

    while (atomic_load(&sh->acks) < from + more) {
        if (clock_boottime_ns() > end)
            FAIL("no %d acknowledgements in %d s", (int)more, PATIENCE_MS / 1000);
        poll(NULL, 0, 5);
    }
}

/* How long until this member is acknowledged a line that it has not begun yet. */
static int64_t wait_new_line(uint32_t id)
{
    int first = atomic_load(&sh->writer[id][0].begun);
    int64_t start = clock_boottime_ns();

    for (;; poll(NULL, 0, 1)) {
        int64_t ms = (clock_boottime_ns() - start) / 1000000;

        for (int n = first; n < atomic_load(&sh->writer[id][0].begun); n++)
            if (sh->writer[id][0].answer[n] == ACKED)
                return ms;
        if (ms > PATIENCE_MS)
            FAIL("no new line in %d s", PATIENCE_MS / 1000);
    }
}

/* It hears nothing for a while and then goes on, with what it had on its way. */
static void pause_one(uint32_t id)
{
    kill(pids[id], SIGSTOP);
    wait_acks(10);
    kill(pids[id], SIGCONT);
}

static void torment(int rounds)
{
    for (int i = 0; i < rounds; i++) {
        uint32_t leader = atomic_load(&sh->leader), victim = random() % 2 && leader ? leader : 1 + (uint32_t)random() % MEMBERS;
        int kind = (int)(random() % 4);
        bool all = kind == 0;

        wait_acks(30 + (uint64_t)random() % 100);
        if (kind == 1) {
            pause_one(victim);
            continue;
        }
        for (uint32_t id = 1; id <= MEMBERS; id++)
            if (all || id == victim)
                kill_one(id);
        if (!all) {
            int64_t took_ms = wait_new_line(victim % MEMBERS + 1);

            if (victim == leader)
                printf("the leader was killed: a new line after %d ms\n", (int)took_ms);
        }
        for (uint32_t id = 1; id <= MEMBERS; id++)
            if (all || id == victim)
                launch(id);
    }
    wait_acks(30);
    atomic_store(&sh->enough, true);
    for (uint32_t id = 1; id <= MEMBERS; id++) {
        int status;

        if (waitpid(pids[id], &status, 0) != pids[id] || status)
            FAIL("member %u ended with status %x", id, status);
    }
}

/* ---- Afterwards ---------------------------------------------------------------------------------------------------------- */

static void read_file(struct replica *r, const char *name, struct buf *out)
{
    struct store_reader *reader;
    struct store_attr attr;

    buf_clear(out);
    if (replica_reader(r, &reader) || store_lookup(reader, STORE_HEAD, STORE_ROOT_INO, name, strlen(name), &attr) ||
        store_content(reader, STORE_HEAD, attr.ino, out, NULL))
        FAIL("\"%s\" cannot be read", name);
    store_reader_close(reader);
}

static int check_file(uint32_t on, uint32_t member, int id, const char *text)
{
    int faults = 0, n = atomic_load(&sh->writer[member][id].begun);
    const char *at = text;

    for (int i = 0; i < n; i++) {
        int answer = sh->writer[member][id].answer[i];
        bool there = *at && atoi(at) == i;

        if (answer == ACKED && !there) {
            fprintf(stderr, "on member %u: line %d of m%uw%d was acknowledged and is not there\n", on, i, member, id);
            faults++;
        }
        if (there)
            at = strchr(at, '\n') + 1;
    }
    if (*at) {
        fprintf(stderr, "on member %u: line %d of m%uw%d is there twice, or late\n", on, atoi(at), member, id);
        faults++;
    }
    return faults;
}

static void *start_main(void *arg)
{
    return start((uint32_t)(uintptr_t)arg);
}

static int verify(void)
{
    pthread_t thread[MEMBERS + 1];
    struct replica *r[MEMBERS + 1];
    struct buf text = {0};
    char name[16];
    int faults = 0;

    for (uintptr_t id = 1; id <= MEMBERS; id++)
        if (pthread_create(&thread[id], NULL, start_main, (void *)id))
            FAIL("no thread");
    for (uint32_t id = 1; id <= MEMBERS; id++) {
        void *out;

        pthread_join(thread[id], &out);
        r[id] = out;
    }
    for (uint32_t on = 1; on <= MEMBERS; on++) {
        struct answer a = {.lock = PTHREAD_MUTEX_INITIALIZER, .come = PTHREAD_COND_INITIALIZER};
        struct replica_request req = {.data = &a, .cb = answer_cb};

        replica_barrier(r[on], &req);
        if (answer_wait(&a))
            FAIL("no barrier on member %u: %s", on, qfs_strerror(a.err));
        for (uint32_t member = 1; member <= MEMBERS; member++)
            for (int id = 0; id < WRITERS; id++) {
                snprintf(name, sizeof name, "m%uw%d", member, id);
                read_file(r[on], name, &text);
                faults += check_file(on, member, id, buf_cstr(&text));
            }
    }
    for (uint32_t id = 1; id <= MEMBERS; id++)
        replica_stop(r[id]);
    buf_fini(&text);
    return faults;
}

/* Whatever happens, no member outlives us, and nothing is left behind. */
static void clean_up(void)
{
    char cmd[300];

    if (is_member)
        return;
    for (uint32_t id = 1; id <= MEMBERS; id++)
        if (pids[id] > 0)
            kill(pids[id], SIGKILL);
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", top);
    if (system(cmd))
        fprintf(stderr, "cluster_kill: \"%s\" is left behind\n", top);
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 12, faults;
    unsigned seed = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : (unsigned)clock_realtime_ns();

    printf("%d rounds, seed %u\n", rounds, seed);
    fflush(stdout);
    srandom(seed);
    snprintf(top, sizeof top, "%s/cluster_kill.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sh == MAP_FAILED || !mkdtemp(top))
        FAIL("no memory, or no directory");
    atexit(clean_up);
    find_ports();
    for (uint32_t id = 1; id <= MEMBERS; id++)
        make(id);
    for (uint32_t id = 1; id <= MEMBERS; id++)
        launch(id);
    torment(rounds);
    memset(pids, 0, sizeof pids);
    faults = verify();
    printf("%llu lines acknowledged, %d faults\n", (unsigned long long)atomic_load(&sh->acks), faults);
    return faults ? 1 : 0;
}
