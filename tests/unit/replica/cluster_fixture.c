#include "tests/unit/replica/cluster_fixture.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "store/base/clock.h"

#ifdef __SANITIZE_ADDRESS__
/* A member that has stopped by itself, because it was removed for example, leaves libraft's memory and what that points to as it is. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }
#endif

/* Ports that nobody has now: taken all at once, so that they differ, and let go of. */
static void find_ports(struct cluster *c)
{
    int fd[CLUSTER_MAX + 1];

    for (uint32_t id = 1; id <= c->n; id++) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t len = sizeof in;

        fd[id] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(bind(fd[id], (struct sockaddr *)&in, sizeof in), 0);
        assert_int_equal(getsockname(fd[id], (struct sockaddr *)&in, &len), 0);
        snprintf(c->address[id], sizeof c->address[id], "127.0.0.1:%u", ntohs(in.sin_port));
    }
    for (uint32_t id = 1; id <= c->n; id++)
        close(fd[id]);
}

void cluster_make(struct cluster *c, unsigned n)
{
    memset(c, 0, sizeof *c);
    c->n = n;
    find_ports(c);
    for (uint32_t id = 1; id <= n; id++)
        c->list[id - 1] = (struct store_member){.id = id, .address = c->address[id], .role = STORE_MEMBER_VOTER};
    for (uint32_t id = 1; id <= n; id++) {
        member_make(&c->m[id]);
        c->m[id].id = id;
        c->m[id].members = c->list;
        c->m[id].n_members = n;
        c->m[id].listen = c->address[id];
    }
}

void cluster_remove(struct cluster *c)
{
    for (uint32_t id = 1; id <= c->n; id++)
        member_remove(&c->m[id]);
}

static void *up_main(void *arg)
{
    member_up(arg);
    return NULL;
}

/* At the same time: one that starts waits a while for the others. */
void cluster_up(struct cluster *c)
{
    pthread_t thread[CLUSTER_MAX + 1];

    for (uint32_t id = 1; id <= c->n; id++)
        if (!c->m[id].r)
            assert_int_equal(pthread_create(&thread[id], NULL, up_main, &c->m[id]), 0);
        else
            thread[id] = pthread_self();
    for (uint32_t id = 1; id <= c->n; id++)
        if (!pthread_equal(thread[id], pthread_self()))
            pthread_join(thread[id], NULL);
}

/* ---- In processes of their own ------------------------------------------------------------------------------------------- */

pid_t cluster_serve(struct cluster *c, uint32_t id, const char *failpoints)
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (failpoints)
            setenv("QUORUMFS_FAILPOINTS", failpoints, 1);
        execl("/proc/self/exe", "test", "--serve", c->m[id].dir, c->address[id], (char *)NULL);
        _exit(99);
    }
    return pid;
}

static void serve_fatal_cb(void *data, const char *why)
{
    (void)data;
    _exit(strstr(why, "differs from that of the majority") ? CLUSTER_SERVE_ODD : CLUSTER_SERVE_STOPPED);
}

void cluster_serves(int argc, char **argv)
{
    struct replica_options options = {.timeout_ms = 20000, .fatal = serve_fatal_cb};
    struct buf why = {0};
    struct replica *r;

    if (argc != 4 || strcmp(argv[1], "--serve") != 0)
        return;
    options.dir = argv[2];
    options.listen = argv[3];
    if (replica_start(&options, 5000, &r, &why)) {
        fprintf(stderr, "%s\n", buf_cstr(&why));
        _exit(CLUSTER_SERVE_NO_START);
    }
    for (;;)
        pause();
}

/* ---- Looking ------------------------------------------------------------------------------------------------------------- */

struct replica_status cluster_status(struct cluster *c, uint32_t id)
{
    struct replica_status s = {.role = "down"};

    if (c->m[id].r)
        replica_status(c->m[id].r, &s);
    return s;
}

/* The member that leads in the highest term, if a majority is in that term. */
static uint32_t look_for_leader(struct cluster *c)
{
    uint32_t leader = 0;
    uint64_t term = 0;
    unsigned followers = 0;

    for (uint32_t id = 1; id <= c->n; id++) {
        struct replica_status s = cluster_status(c, id);

        if (strcmp(s.role, "leader") == 0 && s.term > term) {
            leader = id;
            term = s.term;
        }
    }
    for (uint32_t id = 1; id <= c->n; id++)
        followers += c->m[id].r && cluster_status(c, id).term == term;
    return followers > c->n / 2 ? leader : 0;
}

uint32_t cluster_leader(struct cluster *c)
{
    uint32_t leader = 0;

    wait_until((leader = look_for_leader(c)) != 0);
    return leader;
}

bool cluster_has(struct cluster *c, uint32_t id, const char *name, const char *content)
{
    struct buf got = {0};
    bool same = member_get(&c->m[id], name, &got) == 0 && !strcmp(buf_cstr(&got), content);

    buf_fini(&got);
    return same;
}

bool cluster_is(struct cluster *c, uint32_t at, uint32_t id, const char *role, const char *state)
{
    struct replica_member *all;
    bool found = false;
    size_t n;

    assert_int_equal(replica_members(c->m[at].r, &all, &n), 0);
    for (size_t i = 0; i < n; i++)
        found = found || (all[i].id == id && (!role || !strcmp(all[i].role, role)) && (!state || !strcmp(all[i].state, state)));
    free(all);
    return found;
}

struct wait {
    _Atomic bool done;
    int err;
};

static void done_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct wait *w = req->data;

    (void)rev;
    (void)ino;
    w->err = err;
    atomic_store(&w->done, true);
}

int cluster_change(struct cluster *c, uint32_t at, enum replica_change_kind kind, uint32_t id, enum store_member_role role)
{
    struct wait w = {.err = 0};
    struct replica_request req = {.data = &w, .cb = done_cb};

    replica_change(c->m[at].r, &req, kind, id, role);
    wait_until(atomic_load(&w.done));
    return w.err;
}

int64_t wait_begin(void)
{
    return clock_boottime_ns() + INT64_C(60000000000);
}

void wait_turn(int64_t end, const char *file, int line, const char *what)
{
    if (clock_boottime_ns() > end) {
        print_error("%s:%d: this did not come true: %s\n", file, line, what);
        fail();
    }
    poll(NULL, 0, 5);
}
