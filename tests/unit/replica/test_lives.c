/* Leases and sessions in a cluster: none ends early, all end in time, whoever leads, stands still or is not heard. */
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "store/base/err.h"
#include "tests/unit/replica/cluster_fixture.h"

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define MS INT64_C(1000000)
#define SEC (1000 * MS)

/* ---- Fixture ------------------------------------------------------------------------------------------------------------- */

static struct cluster c;
static char switches[64]; /* directory of the files that switch failpoints on */

static int setup(void **state)
{
    (void)state;
    cluster_make(&c, 3);
    return 0;
}

static void switch_on(const char *what, uint32_t id)
{
    char path[128];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s.%" PRIu32, switches, what, id);
    f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
}

static void switch_off(const char *what, uint32_t id)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s.%" PRIu32, switches, what, id);
    unlink(path);
}

static int teardown(void **state)
{
    (void)state;
    for (uint32_t id = 1; id <= 3; id++) {
        switch_off("stopped", id);
        switch_off("lost", id);
    }
    cluster_remove(&c);
    return 0;
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static int64_t now(void)
{
    return clock_boottime_ns();
}

static uint64_t grant(uint32_t at, const char *name, int64_t ttl)
{
    struct store_op op = {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .name = {name, strlen(name)}, .rev = ttl};
    uint64_t id = 0;

    assert_int_equal(member_do(&c.m[at], &op, NULL, &id), 0);
    assert_true(id != 0);
    return id;
}

static bool exists(uint32_t at, uint64_t id)
{
    struct store_reader *reader;
    struct store_lease lease;
    int err;

    assert_int_equal(replica_reader(c.m[at].r, &reader), 0);
    err = store_lease_by_id(reader, id, &lease);
    store_reader_close(reader);
    assert_true(err == 0 || err == QE_NOENT);
    return err == 0;
}

struct answer {
    _Atomic bool done;
    int err;
    int64_t rev;
};

static void answer_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct answer *a = req->data;

    (void)ino;
    a->err = err;
    a->rev = rev;
    atomic_store(&a->done, true);
}

static int renew(uint32_t at, uint64_t id)
{
    struct answer a = {.err = 0};
    struct replica_request req = {.data = &a, .cb = answer_cb};

    replica_lease_renew(c.m[at].r, &req, id);
    wait_until(atomic_load(&a.done));
    return a.err;
}

/* Below 0: an error. */
static int64_t remaining(uint32_t at, uint64_t id)
{
    struct answer a = {.err = 0};
    struct replica_request req = {.data = &a, .cb = answer_cb};

    replica_lease_remaining(c.m[at].r, &req, id);
    wait_until(atomic_load(&a.done));
    return a.err ? a.err : a.rev;
}

static void set_session_ttl(uint32_t at, const char *value)
{
    struct store_op op = {.kind = STORE_OP_SETTING, .name = {"session-ttl", 11}, .bytes = {value, strlen(value)}};

    assert_int_equal(member_do(&c.m[at], &op, NULL, NULL), 0);
}

static void hand_over(uint32_t to)
{
    struct answer a = {.err = 0};
    struct replica_request req = {.data = &a, .cb = answer_cb};

    replica_change(c.m[to].r, &req, REPLICA_CHANGE_LEADER, to, STORE_MEMBER_VOTER);
    wait_until(atomic_load(&a.done));
}

static uint32_t a_follower(void)
{
    return cluster_leader(&c) % 3 + 1;
}

static void begin(void)
{
    cluster_up(&c);
    cluster_leader(&c);
}

/* What is still to be written after a start - numbers of inodes - is written: the commit index, on all members. */
static uint64_t when_quiet(void)
{
    uint64_t before, commit = 0;

    do {
        int64_t start = now();

        before = commit;
        wait_until(now() > start + 700 * MS);
        commit = cluster_status(&c, cluster_leader(&c)).commit;
    } while (commit != before);
    for (uint32_t at = 1; at <= 3; at++)
        wait_until(cluster_status(&c, at).commit == commit);
    return commit;
}

/* With a session-ttl from the beginning: one that is changed counts from the next keepalive on. */
static void begin_with(const char *session_ttl)
{
    static const char *setting[1][2] = {{"session-ttl", NULL}};

    setting[0][1] = session_ttl;
    for (uint32_t id = 1; id <= 3; id++) {
        c.m[id].settings = (const char *const (*)[2])setting;
        c.m[id].n_settings = 1;
    }
    begin();
}

/* 0: held; or the error. */
static int lock(uint32_t at, const char *name, uint64_t request, bool wait)
{
    struct store_op op = {.kind = STORE_OP_LOCK, .name = {name, strlen(name)}, .owner = 1, .request = request,
                          .flags = STORE_LOCK_NAMED | STORE_LOCK_EXCLUSIVE | (wait ? 0 : STORE_LOCK_NOWAIT)};

    return member_do(&c.m[at], &op, NULL, NULL);
}

/* ---- Leases -------------------------------------------------------------------------------------------------------------- */

static void a_lease_ends_everywhere_when_its_ttl_has_passed(void **state)
{
    int64_t start;
    uint64_t id;

    (void)state;
    begin();
    start = now();
    id = grant(a_follower(), "short", SEC);
    for (uint32_t at = 1; at <= 3; at++)
        wait_until(exists(at, id) || now() > start + SEC);
    for (uint32_t at = 1; at <= 3; at++)
        wait_until(!exists(at, id));
    assert_true(now() >= start + SEC);
    wait_until(cluster_status(&c, 1).leases_expired + cluster_status(&c, 2).leases_expired + cluster_status(&c, 3).leases_expired == 1);
}

/* On the leader and on a follower. */
static void a_lease_is_renewed_and_asked_after_on_every_member(void **state)
{
    uint64_t id;

    (void)state;
    begin();
    id = grant(1, "l", 600 * SEC);
    for (uint32_t at = 1; at <= 3; at++) {
        int64_t left;

        assert_int_equal(renew(at, id), 0);
        left = remaining(at, id);
        assert_true(left > 500 * SEC && left <= 600 * SEC);
        assert_int_equal(renew(at, id + 1000), QE_NOENT);
        assert_int_equal(remaining(at, id + 1000), QE_NOENT);
    }
}

/* Three times its TTL, without an entry in the log; afterwards it runs out. */
static void what_is_kept_lives_on_without_a_log_entry(void **state)
{
    uint64_t commit, id;
    uint32_t at;
    int64_t start;

    (void)state;
    begin();
    at = a_follower();
    id = grant(at, "kept", 3 * SEC); /* longer than a machine that is busy stands still */
    assert_int_equal(replica_lease_keep(c.m[at].r, id, true), 0);
    commit = when_quiet();
    start = now();
    wait_until(now() > start + 6 * SEC);
    assert_true(exists(at, id));
    assert_int_equal(cluster_status(&c, at).commit, commit);
    assert_int_equal(replica_lease_keep(c.m[at].r, id, false), 0);
    wait_until(!exists(at, id));
    assert_true(now() > start + 6 * SEC + SEC);
    assert_int_equal(replica_lease_keep(c.m[at].r, id, false), 0); /* nothing to do */
}

static void a_new_ttl_counts_from_then_on(void **state)
{
    struct store_op op = {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_TTL, .rev = SEC};
    int64_t start;

    (void)state;
    begin();
    op.ino = grant(1, "l", 60 * SEC);
    start = now();
    assert_int_equal(member_do(&c.m[2], &op, NULL, NULL), 0);
    wait_until(!exists(2, op.ino));
    assert_true(now() >= start + SEC);
}

/* A member that is alone counts for itself. */
static void one_member_is_its_own_lessor(void **state)
{
    struct member m;
    struct store_op op = {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .name = {"l", 1}, .rev = SEC};
    uint64_t id = 0;

    (void)state;
    member_make(&m);
    member_up(&m);
    c.m[4] = m;
    assert_true(replica_session_holds(m.r));
    assert_int_equal(member_do(&m, &op, NULL, &id), 0);
    assert_int_equal(renew(4, id), 0);
    wait_until(!exists(4, id));
    member_remove(&m);
}

static void a_change_of_leader_does_not_shorten_a_lease(void **state)
{
    int64_t renewed;
    uint64_t id;

    (void)state;
    begin();
    id = grant(1, "l", 6 * SEC);
    renewed = now();
    assert_int_equal(renew(1, id), 0);
    wait_until(now() > renewed + 2 * SEC);
    hand_over(a_follower());
    wait_until(!exists(1, id));
    assert_true(now() >= renewed + 8 * SEC); /* the new one gives it all */
}

/* What another term decided on does nothing, and what did not know of a new TTL neither; whoever commits it. */
static void an_end_of_another_term_does_nothing(void **state)
{
    struct store_op op = {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_EXPIRE, .first = INT64_MAX};
    struct store_op ttl = {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_TTL, .rev = 60 * SEC};
    uint64_t seen;

    (void)state;
    begin();
    op.ino = ttl.ino = grant(1, "l", 60 * SEC);
    op.rev = (int64_t)cluster_status(&c, 1).term - 1;
    assert_int_equal(member_do(&c.m[1], &op, NULL, NULL), QE_STALE);
    op.rev += 2;
    assert_int_equal(member_do(&c.m[1], &op, NULL, NULL), QE_STALE);
    seen = cluster_status(&c, 1).commit;
    assert_int_equal(member_do(&c.m[1], &ttl, NULL, NULL), 0);
    op.rev = (int64_t)cluster_status(&c, 1).term;
    op.first = (int64_t)seen;
    assert_int_equal(member_do(&c.m[1], &op, NULL, NULL), QE_STALE);
    assert_true(exists(1, op.ino));
}

/* ---- Sessions ------------------------------------------------------------------------------------------------------------ */

/* Whether the lock is not to be had, since `other` has it; who asks for it again if it lost the lock with its own session, on a busy machine. */
static bool is_refused(uint32_t other, uint32_t lost)
{
    int err = lock(other, "l", 1, true);

    return (err == 0 || err == QE_QUEUED) && lock(lost, "l", 2, false) == QE_WOULDBLOCK;
}

/* Not heard by the leader, it gives up what it holds by itself, before the leader gives it to the next one. */
static void a_member_that_is_not_heard_loses_its_locks(void **state)
{
    uint32_t lost, other;

    (void)state;
    begin_with("2s");
    lost = a_follower();
    other = lost % 3 + 1;
    wait_until(replica_session_holds(c.m[lost].r));
    assert_int_equal(lock(lost, "l", 1, false), 0);
    assert_int_equal(lock(other, "l", 1, true), QE_QUEUED);
    switch_on("lost", lost);
    wait_until(!replica_session_holds(c.m[lost].r));
    wait_until(c.m[lost].lapses > 0);
    wait_until(is_refused(other, lost));
    assert_false(replica_session_holds(c.m[lost].r));
    switch_off("lost", lost);
    wait_until(replica_session_holds(c.m[lost].r));
    assert_int_equal(lock(lost, "m", 3, false), 0);
}

/* Its commands come through, but no keepalive: what it asks for after it has lapsed is not its own for ever. */
static void what_a_lapsed_session_asks_for_does_not_outlive_it(void **state)
{
    uint32_t lost, leader;

    (void)state;
    begin_with("2s");
    lost = a_follower();
    leader = cluster_leader(&c);
    wait_until(replica_session_holds(c.m[lost].r));
    switch_on("lost", lost);
    wait_until(cluster_status(&c, leader).sessions_lapsed > 0);
    assert_int_equal(lock(lost, "l", 1, false), 0);
    wait_until(lock(leader, "l", 1, false) == 0);
    switch_off("lost", lost);
}

/* The process was stopped for longer than session-ttl: it knows at the first look, and the leader has given its lock away. */
static void a_member_that_was_stopped_knows_at_once(void **state)
{
    uint32_t lost, other;
    int64_t start;

    (void)state;
    begin_with("2s");
    lost = a_follower();
    other = cluster_leader(&c);
    wait_until(replica_session_holds(c.m[lost].r));
    assert_int_equal(lock(lost, "l", 1, false), 0);
    start = now();
    switch_on("stopped", lost);
    wait_until(lock(other, "l", 1, false) == 0);
    assert_true(now() > start + SEC); /* it was heard a while before that, too */
    assert_false(replica_session_holds(c.m[lost].r));
    switch_off("stopped", lost);
    wait_until(c.m[lost].lapses > 0);
    wait_until(replica_session_holds(c.m[lost].r));
    wait_until(is_refused(other, lost));
    assert_true(cluster_status(&c, other).sessions_lapsed > 0 || cluster_leader(&c) != other);
}

/* A leader that was stopped: another one leads, and nobody else loses anything. */
static void only_who_was_stopped_loses_what_it_held(void **state)
{
    uint32_t first, second;
    uint64_t id;
    int64_t start;

    (void)state;
    begin_with("5s");
    first = cluster_leader(&c);
    for (uint32_t at = 1; at <= 3; at++)
        wait_until(replica_session_holds(c.m[at].r));
    id = grant(a_follower(), "l", 6 * SEC);
    assert_int_equal(replica_lease_keep(c.m[a_follower()].r, id, true), 0);
    start = now();
    switch_on("stopped", first);
    wait_until(now() > start + 8 * SEC);
    switch_off("stopped", first);
    wait_until(c.m[first].lapses == 1);
    for (uint32_t at = 1; at <= 3; at++)
        wait_until(replica_session_holds(c.m[at].r));
    second = cluster_leader(&c);
    assert_int_not_equal(first, second);
    assert_true(exists(second, id));
    for (uint32_t at = 1; at <= 3; at++)
        assert_int_equal(c.m[at].lapses, at == first ? 1 : 0);
}

/* An idle cluster writes nothing: sessions and leases are kept by messages. */
static void an_idle_cluster_writes_nothing(void **state)
{
    uint64_t commit;
    int64_t start;

    (void)state;
    begin_with("10s");
    grant(1, "long", 3600 * SEC);
    for (uint32_t at = 1; at <= 3; at++)
        wait_until(replica_session_holds(c.m[at].r));
    commit = when_quiet();
    start = now();
    wait_until(now() > start + 5 * SEC);
    for (uint32_t at = 1; at <= 3; at++) {
        assert_int_equal(cluster_status(&c, at).commit, commit);
        assert_true(replica_session_holds(c.m[at].r));
        assert_int_equal(c.m[at].lapses, 0);
    }
}

/* Raised and lowered: nobody lapses. Without a change of leader the first time, until what was promised before is over; then with one each time. */
static void session_ttl_changes_while_all_run(void **state)
{
    const char *values[] = {"30s", "6s", "8s", "6s"};

    (void)state;
    begin_with("6s");
    for (int i = 0; i < 4; i++) {
        int64_t start;

        start = now();
        if (i == 0)
            switch_on("mute", 0);
        set_session_ttl(1 + (uint32_t)i % 3, values[i]);
        if (i == 0) {
            wait_until(now() > start + 2 * SEC); /* the first keepalives of the longer one are lost without a word */
            switch_off("mute", 0);
        } else {
            hand_over(a_follower());
        }
        wait_until(now() > start + (i == 0 ? 7 * SEC : SEC + SEC / 2));
        for (uint32_t at = 1; at <= 3; at++) {
            assert_true(replica_session_holds(c.m[at].r));
            assert_int_equal(c.m[at].lapses, 0);
        }
    }
}

/* One that joins again, by a start, has a session that holds and knows all leases when it leads. */
static void a_member_that_starts_again_counts_what_is_there(void **state)
{
    uint64_t id;
    uint32_t at;

    (void)state;
    begin();
    id = grant(1, "l", 6 * SEC);
    assert_int_equal(replica_lease_keep(c.m[1].r, id, true), 0);
    at = cluster_leader(&c);
    at = at == 1 ? 2 : at;
    member_down(&c.m[at]);
    member_up(&c.m[at]);
    wait_until(replica_session_holds(c.m[at].r));
    wait_until((hand_over(at), cluster_leader(&c) == at));
    assert_int_equal(renew(1, id), 0);
    assert_int_equal(replica_lease_keep(c.m[1].r, id, false), 0);
    wait_until(!exists(at, id));
}

/* It gets the database of another one, in which leases have come and gone. */
static void a_member_that_got_the_database_counts_what_is_there(void **state)
{
    uint64_t commit, old, kept;
    char name[16];

    (void)state;
    begin();
    old = grant(1, "old", 5 * SEC);
    wait_until(exists(3, old));
    member_down(&c.m[3]);
    wait_until(!exists(1, old));
    kept = grant(1, "kept", 6 * SEC);
    assert_int_equal(replica_lease_keep(c.m[1].r, kept, true), 0);
    commit = cluster_status(&c, 1).commit;
    for (int i = 0; i < 150; i++) {
        snprintf(name, sizeof name, "f%d", i);
        assert_int_equal(member_put(&c.m[1], name, "x"), 0);
    }
    wait_until(cluster_status(&c, cluster_leader(&c)).snapshot_index > commit + 20);
    member_up(&c.m[3]);
    wait_until(exists(3, kept) && replica_session_holds(c.m[3].r));
    assert_false(exists(3, old));
    wait_until((hand_over(3), cluster_leader(&c) == 3));
    assert_int_equal(renew(3, kept), 0);
    assert_int_equal(renew(3, old), QE_NOENT);
    assert_int_equal(replica_lease_keep(c.m[1].r, kept, false), 0);
    wait_until(!exists(3, kept));
    assert_int_equal(c.m[3].lapses, 0);
}

/* ---- The wall clock ------------------------------------------------------------------------------------------------------ */

static _Atomic int64_t jump_ns;

static int64_t read_clock(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return t.tv_sec * SEC + t.tv_nsec;
}

static int64_t jumping_realtime(void *data)
{
    (void)data;
    return read_clock(CLOCK_REALTIME) + atomic_load(&jump_ns);
}

static int64_t true_boottime(void *data)
{
    (void)data;
    return read_clock(CLOCK_BOOTTIME);
}

static void a_wall_clock_that_jumps_changes_nothing(void **state)
{
    static const struct clock_source source = {jumping_realtime, true_boottime, NULL};
    int64_t start;
    uint64_t id;

    (void)state;
    clock_set(&source);
    begin_with("5s");
    id = grant(1, "l", 3 * SEC);
    start = now();
    for (int hours = -48; hours <= 48; hours += 12) {
        atomic_store(&jump_ns, hours * 3600 * SEC);
        assert_int_equal(member_put(&c.m[2], "f", "x"), 0);
        assert_true(exists(1, id) || now() >= start + 3 * SEC);
    }
    wait_until(!exists(1, id));
    assert_true(now() >= start + 3 * SEC - 100 * MS);
    assert_true(now() < start + 40 * SEC); /* less than any jump */
    for (uint32_t at = 1; at <= 3; at++)
        assert_int_equal(c.m[at].lapses, 0);
}

/* ---- Many leases, many leaders ------------------------------------------------------------------------------------------- */

/* QFS_LEADERS=10 in the environment: more changes of the leader, and longer TTLs. */
enum { MANY = 5000, CHANGES = 5, RENEWERS = 3 };
static int n_changes;
static struct many {
    uint64_t id;
    int64_t ttl;
    _Atomic int64_t renewed_ns; /* when the last acknowledged renewal was asked for */
    _Atomic int64_t gone_ns;    /* when a member first told that it is gone; 0: it is there */
    struct replica_request req;
    _Atomic int64_t asked_ns;   /* 0: no renewal is under way */
    _Atomic bool settled;
} many[MANY];
static _Atomic int n_granted;
enum { IDS = 1 << 17 };
static _Atomic int which[IDS]; /* by id: 1 + index in `many` */

static void granted_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct many *m = req->data;

    (void)rev;
    m->id = err || ino >= IDS ? 0 : ino;
    atomic_store(&which[m->id], 1 + (int)(m - many));
    atomic_store(&m->asked_ns, 0);
    atomic_store(&m->settled, true);
    atomic_fetch_add(&n_granted, 1);
}

static void many_gone(void *data, const uint64_t *ids, size_t n)
{
    int64_t at = now();

    (void)data;
    for (size_t i = 0; i < n; i++) {
        int k = ids[i] < IDS ? atomic_load(&which[ids[i]]) : 0;

        if (k && atomic_load(&many[k - 1].gone_ns) == 0)
            atomic_store(&many[k - 1].gone_ns, at);
    }
}

static void grant_many(void)
{
    for (int k = 0; k < MANY; k++) {
        struct many *m = &many[k];
        char name[16];
        struct store_op op = {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .rev = (2000 + rand() % (n_changes * 1000)) * MS};
        struct store_command cmd = {.comm = "test", .ops = &op, .n_ops = 1};

        op.name = (struct store_bytes){name, (size_t)snprintf(name, sizeof name, "l%d", k)};
        m->ttl = op.rev;
        m->req = (struct replica_request){.data = m, .cb = granted_cb};
        atomic_store(&m->renewed_ns, now());
        replica_submit(c.m[1 + k % 3].r, &m->req, &cmd);
    }
    wait_until(atomic_load(&n_granted) == MANY);
    for (int k = 0; k < MANY; k++)
        assert_true(many[k].id != 0);
}

static void renewed_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct many *m = req->data;

    (void)rev;
    (void)ino;
    if (!err)
        atomic_store(&m->renewed_ns, atomic_load(&m->asked_ns));
    atomic_store(&m->asked_ns, 0);
}

static _Atomic bool enough;

/* Each thread has a third of them, and a member. */
static void *renew_main(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg, first = seed;

    while (!atomic_load(&enough)) {
        for (int i = 0; i < 20; i++) {
            struct many *m = &many[(unsigned)rand_r(&seed) % (MANY / RENEWERS) * RENEWERS + first];

            if (atomic_load(&m->asked_ns) || atomic_load(&m->gone_ns))
                continue;
            atomic_store(&m->asked_ns, now());
            m->req = (struct replica_request){.data = m, .cb = renewed_cb};
            replica_lease_renew(c.m[1 + (unsigned)rand_r(&seed) % 3].r, &m->req, m->id);
        }
        usleep(10000);
    }
    return NULL;
}

/* Handed over, or stopped for longer than an election. */
static void change_leader(int k)
{
    uint32_t leader = cluster_leader(&c);
    int64_t start = now();

    if (k % 3 == 2) {
        switch_on("stopped", leader);
        wait_until(now() > start + 3 * SEC);
        switch_off("stopped", leader);
    } else {
        hand_over(leader % 3 + 1);
        wait_until(now() > start + 300 * MS);
    }
    cluster_leader(&c);
}

static bool all_gone(void)
{
    for (int k = 0; k < MANY; k++)
        if (atomic_load(&many[k].gone_ns) == 0)
            return false;
    return true;
}

/* None ends before its TTL since its last acknowledged renewal was asked for, and in the end all go in time. */
static void none_of_many_ends_early_over_many_leaders(void **state)
{
    pthread_t thread[RENEWERS];

    (void)state;
    n_changes = getenv("QFS_LEADERS") ? atoi(getenv("QFS_LEADERS")) : CHANGES;
    srand(7);
    for (uint32_t at = 1; at <= 3; at++)
        c.m[at].leases_gone = many_gone;
    begin();
    grant_many();
    for (uintptr_t i = 0; i < RENEWERS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, renew_main, (void *)i), 0);
    for (int k = 0; k < n_changes; k++)
        change_leader(k);
    atomic_store(&enough, true);
    for (int i = 0; i < RENEWERS; i++)
        pthread_join(thread[i], NULL);
    for (int64_t end = now() + (2 + n_changes) * SEC; now() < end && !all_gone();) /* the longest TTL */
        poll(NULL, 0, 50);
    wait_until(all_gone());
    for (int k = 0; k < MANY; k++)
        if (many[k].gone_ns - many[k].renewed_ns < many[k].ttl)
            fail_msg("lease %d ended %" PRId64 " ms after its renewal; its TTL is %" PRId64 " ms", k,
                     (many[k].gone_ns - many[k].renewed_ns) / MS, many[k].ttl / MS);
}

static void make_switches(void)
{
    char points[1024];

    snprintf(switches, sizeof switches, "%s/lives.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(switches))
        abort();
    snprintf(points, sizeof points,
             "replica.stopped.1=while:%1$s/stopped.1,replica.stopped.2=while:%1$s/stopped.2,replica.stopped.3=while:%1$s/stopped.3,"
             "replica.keepalive.lost.1=while:%1$s/lost.1,replica.keepalive.lost.2=while:%1$s/lost.2,"
             "replica.keepalive.lost.3=while:%1$s/lost.3,replica.keepalive.mute=while:%1$s/mute.0,replica.keepalive.twice=error", switches);
    setenv("QUORUMFS_FAILPOINTS", points, 1);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_lease_ends_everywhere_when_its_ttl_has_passed),
        TEST(a_lease_is_renewed_and_asked_after_on_every_member),
        TEST(what_is_kept_lives_on_without_a_log_entry),
        TEST(a_new_ttl_counts_from_then_on),
        TEST(one_member_is_its_own_lessor),
        TEST(a_change_of_leader_does_not_shorten_a_lease),
        TEST(an_end_of_another_term_does_nothing),
        TEST(a_member_that_is_not_heard_loses_its_locks),
        TEST(what_a_lapsed_session_asks_for_does_not_outlive_it),
        TEST(a_member_that_was_stopped_knows_at_once),
        TEST(only_who_was_stopped_loses_what_it_held),
        TEST(an_idle_cluster_writes_nothing),
        TEST(session_ttl_changes_while_all_run),
        TEST(a_member_that_starts_again_counts_what_is_there),
        TEST(a_member_that_got_the_database_counts_what_is_there),
        TEST(a_wall_clock_that_jumps_changes_nothing),
        TEST(none_of_many_ends_early_over_many_leaders),
    };
    int failed;

    make_switches();
    setenv("QUORUMFS_TEST_MARKER_BYTES", "10000", 1);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    failed = cmocka_run_group_tests_name("lives", tests, NULL, NULL);
    rmdir(switches);
    return failed;
}
