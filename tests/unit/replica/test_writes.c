/* Writing and reading on several members: each acknowledged command takes effect once, on all of them, whoever leads; and a read behind
 * a barrier sees all that was acknowledged anywhere before it began. */
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

enum { WRITERS = 8, WRITES = 100000 };

/* ---- Fixture ------------------------------------------------------------------------------------------------------------- */

static struct cluster c;

static int setup(void **state)
{
    (void)state;
    cluster_make(&c, 3);
    for (uint32_t id = 1; id <= 3; id++)
        c.m[id].timeout_ms = 5000;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cluster_remove(&c);
    return 0;
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

struct answer {
    pthread_mutex_t lock;
    pthread_cond_t come;
    bool done; /* under lock */
    int err;
};
#define ANSWER {.lock = PTHREAD_MUTEX_INITIALIZER, .come = PTHREAD_COND_INITIALIZER}

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

static int barrier(struct replica *r)
{
    struct answer a = ANSWER;
    struct replica_request req = {.data = &a, .cb = answer_cb};

    replica_barrier(r, &req);
    return answer_wait(&a);
}

/* What a member's own store has, without asking anybody. */
static void assert_local(uint32_t id, const char *name, const char *content)
{
    struct buf got = {0};

    assert_int_equal(member_get(&c.m[id], name, &got), 0);
    assert_string_equal(buf_cstr(&got), content);
    buf_fini(&got);
}

static void assert_reads(uint32_t id, const char *name, const char *content)
{
    assert_int_equal(barrier(c.m[id].r), 0);
    assert_local(id, name, content);
}

static uint32_t follower(uint32_t leader)
{
    return leader == 1 ? 2 : 1;
}

/* The member's raft loop stands still in a callback, as in a process that is paused: it hears nothing and sends nothing. */
struct pause {
    struct replica_request req;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stands, go; /* under lock */
};

static void pause_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct pause *p = req->data;
    char name[16] = "";

    (void)rev;
    (void)ino;
    pthread_getname_np(pthread_self(), name, sizeof name);
    pthread_mutex_lock(&p->lock);
    if (err == 0 && strcmp(name, "qfs-raft") == 0) {
        p->stands = true;
        pthread_cond_broadcast(&p->changed);
        while (!p->go)
            pthread_cond_wait(&p->changed, &p->lock);
    }
    p->go = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

static void pause_member(struct pause *p, uint32_t id)
{
    bool stands = false;

    for (int tries = 0; !stands && tries < 100; tries++) { /* a busy store thread answers instead: once more */
        *p = (struct pause){.req = {.data = p, .cb = pause_cb}, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
        replica_barrier(c.m[id].r, &p->req);
        pthread_mutex_lock(&p->lock);
        while (!p->stands && !p->go)
            pthread_cond_wait(&p->changed, &p->lock);
        stands = p->stands;
        pthread_mutex_unlock(&p->lock);
    }
    assert_true(stands);
}

static void resume_member(struct pause *p)
{
    pthread_mutex_lock(&p->lock);
    p->go = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

/* ---- Writers ------------------------------------------------------------------------------------------------------------- */

/* A member may be stopped while writers use it: they look before each submission. */
static pthread_rwlock_t gate = PTHREAD_RWLOCK_INITIALIZER;
static bool shut[CLUSTER_MAX + 1]; /* under gate */

struct writer {
    pthread_t thread;
    uint32_t member;
    int id;
    int n, wrong;     /* wrong: an answer that should not have come */
    uint8_t *answers; /* of n writes; 0: it is there for certain; 1: nobody knows; 2: it is not there */
};

static int append(struct writer *w, int n)
{
    char name[16], line[16];
    struct store_edit edit = {.kind = STORE_EDIT_APPEND};
    struct store_op op = {.kind = STORE_OP_COMMIT, .parent = STORE_ROOT_INO, .mode = 0644, .edits = &edit, .n_edits = 1};
    struct store_command cmd = {.comm = "test", .ops = &op, .n_ops = 1};
    struct answer a = ANSWER;
    struct replica_request req = {.data = &a, .cb = answer_cb};

    op.name = (struct store_bytes){name, (size_t)snprintf(name, sizeof name, "w%d", w->id)};
    edit.bytes = (struct store_bytes){line, (size_t)snprintf(line, sizeof line, "%d\n", n)};
    pthread_rwlock_rdlock(&gate);
    if (shut[w->member]) {
        pthread_rwlock_unlock(&gate);
        return QE_SHUTDOWN;
    }
    op.new_ino = replica_new_ino(c.m[w->member].r, STORE_FILE);
    if (op.new_ino)
        replica_submit(c.m[w->member].r, &req, &cmd);
    pthread_rwlock_unlock(&gate);
    return op.new_ino ? answer_wait(&a) : QE_AGAIN;
}

static _Atomic bool enough;

static void *writer_main(void *arg)
{
    struct writer *w = arg;

    while (w->n < WRITES && !atomic_load(&enough)) {
        int err = append(w, w->n);

        if (err && err != QE_TIMEDOUT && err != QE_AGAIN && err != QE_SHUTDOWN)
            w->wrong = err;
        w->answers[w->n++] = err == 0 ? 0 : err == QE_TIMEDOUT ? 1 : 2;
        if (err)
            usleep(1000);
    }
    return NULL;
}

static struct writer writers[WRITERS];

static void start_writers(void)
{
    memset(shut, 0, sizeof shut);
    atomic_store(&enough, false);
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.id = i, .member = 1 + (uint32_t)i % 3, .answers = calloc(WRITES, 1)};
        assert_non_null(writers[i].answers);
        assert_int_equal(pthread_create(&writers[i].thread, NULL, writer_main, &writers[i]), 0);
    }
}

static void stop_member(uint32_t id)
{
    pthread_rwlock_wrlock(&gate);
    shut[id] = true;
    pthread_rwlock_unlock(&gate);
    member_down(&c.m[id]);
}

/* Lines ascend, so none is there twice; what was acknowledged is there, what was refused is not. */
static void check_file(const struct writer *w, const char *text)
{
    const char *at = text;

    for (int n = 0; n < w->n; n++) {
        bool there = *at && atoi(at) == n;

        if (w->answers[n] != 1 && there != (w->answers[n] == 0))
            fail_msg("writer %d: %d, answered with %s, is %sthere", w->id, n, w->answers[n] ? "a refusal" : "success", there ? "" : "not ");
        if (there)
            at = strchr(at, '\n') + 1;
    }
    if (*at)
        fail_msg("writer %d: %d is there twice, or late", w->id, atoi(at));
}

static void check_writers(void)
{
    int acked = 0, all = 0;

    atomic_store(&enough, true);
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
        if (writers[i].wrong)
            fail_msg("writer %d was answered: %s", i, qfs_strerror(writers[i].wrong));
    }
    for (uint32_t id = 1; id <= 3; id++) {
        if (!c.m[id].r)
            continue;
        wait_until(barrier(c.m[id].r) == 0);
        for (int i = 0; i < WRITERS; i++) {
            struct buf got = {0};
            char name[16];

            snprintf(name, sizeof name, "w%d", i);
            assert_int_equal(member_get(&c.m[id], name, &got), 0);
            check_file(&writers[i], buf_cstr(&got));
            buf_fini(&got);
        }
    }
    for (int i = 0; i < WRITERS; i++) {
        for (int n = 0; n < writers[i].n; n++)
            acked += writers[i].answers[n] == 0;
        all += writers[i].n;
        free(writers[i].answers);
    }
    print_message("%d of %d writes were acknowledged\n", acked, all);
}

static void wait_for_progress(uint64_t more)
{
    uint32_t leader = cluster_leader(&c);
    uint64_t start = cluster_status(&c, leader).commit;

    wait_until(cluster_status(&c, leader).commit > start + more);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void every_member_writes_and_all_read_it(void **state)
{
    (void)state;
    cluster_up(&c);
    for (uint32_t id = 1; id <= 3; id++) {
        char name[8], text[8];

        snprintf(name, sizeof name, "f%u", id);
        snprintf(text, sizeof text, "%u", id);
        assert_int_equal(replica_writable(c.m[id].r), 0);
        assert_int_equal(member_put(&c.m[id], name, text), 0);
        assert_local(id, name, text); /* its own writes without a barrier */
        for (uint32_t other = 1; other <= 3; other++)
            assert_reads(other, name, text);
        assert_true(replica_barrier_needed(c.m[id].r));
    }
}

static void followers_know_the_leader(void **state)
{
    uint32_t leader;

    (void)state;
    cluster_up(&c);
    leader = cluster_leader(&c);
    for (uint32_t id = 1; id <= 3; id++)
        wait_until(cluster_status(&c, id).leader == leader);
}

static void errors_of_the_store_reach_a_follower(void **state)
{
    struct store_op op = {.kind = STORE_OP_UNLINK, .parent = STORE_ROOT_INO, .name = {"none", 4}};

    (void)state;
    cluster_up(&c);
    assert_int_equal(member_do(&c.m[follower(cluster_leader(&c))], &op, NULL, NULL), QE_NOENT);
}

static void large_commands_of_a_follower_arrive(void **state)
{
    char *text = malloc(900001);
    uint32_t id;

    (void)state;
    memset(text, 'x', 900000);
    text[900000] = 0;
    cluster_up(&c);
    id = follower(cluster_leader(&c));
    for (int i = 0; i < 8; i++)
        assert_int_equal(member_put(&c.m[id], i % 2 ? "a" : "b", text), 0);
    assert_reads(cluster_leader(&c), "a", text);
    free(text);
}

/* What is in flight is more than the window: it goes in parts, in order. */
static void more_than_the_window_is_sent_in_parts(void **state)
{
    enum { N = 24, SIZE = 400000 };
    static struct replica_request reqs[N];
    static struct answer answers[N];
    char *text = malloc(SIZE), name[8];
    struct store_edit edit = {.kind = STORE_EDIT_WRITE, .bytes = {text, SIZE}};
    struct store_op op = {.kind = STORE_OP_COMMIT, .parent = STORE_ROOT_INO, .mode = 0644, .edits = &edit, .n_edits = 1};
    struct store_command cmd = {.comm = "test", .ops = &op, .n_ops = 1};
    struct replica *r;

    (void)state;
    memset(text, 'x', SIZE);
    for (uint32_t id = 1; id <= 3; id++)
        c.m[id].timeout_ms = 60000;
    cluster_up(&c);
    r = c.m[follower(cluster_leader(&c))].r;
    for (int i = 0; i < N; i++) {
        op.name = (struct store_bytes){name, (size_t)snprintf(name, sizeof name, "b%d", i)};
        op.new_ino = replica_new_ino(r, STORE_FILE);
        answers[i] = (struct answer)ANSWER;
        reqs[i] = (struct replica_request){.data = &answers[i], .cb = answer_cb};
        replica_submit(r, &reqs[i], &cmd);
    }
    for (int i = 0; i < N; i++)
        assert_int_equal(answer_wait(&answers[i]), 0);
    free(text);
}

/* A write that was acknowledged on one member is seen on another: with a barrier always, without one not. */
static void a_barrier_sees_what_another_member_wrote(void **state)
{
    int stale = 0;

    (void)state;
    cluster_up(&c);
    for (int i = 0; i < 300; i++) {
        uint32_t from = 1 + (uint32_t)i % 3, to = 1 + (uint32_t)(i + 1 + i / 3 % 2) % 3;
        struct buf got = {0};
        char text[16];

        snprintf(text, sizeof text, "%d", i);
        assert_int_equal(member_put(&c.m[from], "f", text), 0);
        stale += member_get(&c.m[to], "f", &got) != 0 || strcmp(buf_cstr(&got), text) != 0;
        buf_fini(&got);
        assert_reads(to, "f", text);
    }
    print_message("%d of 300 reads without a barrier were stale\n", stale);
}

/* There the asker and the leader are no majority: others are asked for their term. */
static void of_five_members_two_may_be_away(void **state)
{
    uint32_t leader, away[2];

    (void)state;
    cluster_remove(&c);
    cluster_make(&c, 5);
    cluster_up(&c);
    leader = cluster_leader(&c);
    away[0] = leader % 5 + 1;
    away[1] = away[0] % 5 + 1;
    member_down(&c.m[away[0]]);
    member_down(&c.m[away[1]]);
    for (int i = 0; i < 60; i++) {
        uint32_t from = 1 + (uint32_t)i % 5, to = 1 + (uint32_t)(i * 3 + 2) % 5;
        char text[16];

        if (!c.m[from].r || !c.m[to].r)
            continue;
        snprintf(text, sizeof text, "%d", i);
        assert_int_equal(member_put(&c.m[from], "f", text), 0);
        assert_reads(to, "f", text);
    }
}

/* The others have another leader, and a write; the old one, which does not know, must not serve a read as if it led. */
static void a_paused_leader_serves_no_stale_read(void **state)
{
    uint32_t old, new;
    struct answer a = ANSWER;
    struct replica_request req = {.data = &a, .cb = answer_cb};
    struct pause p;

    (void)state;
    cluster_up(&c);
    old = cluster_leader(&c);
    assert_int_equal(member_put(&c.m[old], "f", "old"), 0);
    pause_member(&p, old);
    wait_until((new = cluster_leader(&c)) != old);
    wait_until(member_put(&c.m[new], "f", "new") == 0);
    replica_barrier(c.m[old].r, &req);
    assert_local(old, "f", "old"); /* what it would have read without a barrier */
    resume_member(&p);
    assert_int_equal(answer_wait(&a), 0);
    assert_local(old, "f", "new");
}

static void the_leader_is_stopped_while_all_write(void **state)
{
    uint32_t leader;

    (void)state;
    cluster_up(&c);
    start_writers();
    wait_for_progress(30);
    leader = cluster_leader(&c);
    stop_member(leader);
    wait_for_progress(20);
    check_writers();
    member_up(&c.m[leader]);
    assert_int_equal(member_put(&c.m[leader], "again", "x"), 0); /* a new session, which is not the old one's */
    assert_reads(follower(leader), "again", "x");
}

/* Leaders vanish without a word, and come back with what they had on their way. */
static void leaders_are_paused_while_all_write(void **state)
{
    struct pause p;

    (void)state;
    cluster_up(&c);
    start_writers();
    for (int round = 0; round < 3; round++) {
        uint32_t leader = cluster_leader(&c);

        wait_for_progress(50);
        pause_member(&p, leader);
        wait_until(cluster_leader(&c) != leader);
        resume_member(&p);
    }
    check_writers();
}

static void a_stopping_leader_hands_over(void **state)
{
    static const char *const setting[][2] = {{"election-timeout", "5s"}}; /* long, that a busy machine's pauses are none */
    uint32_t leader;
    int64_t start;

    (void)state;
    for (uint32_t id = 1; id <= 3; id++) {
        c.m[id].settings = setting;
        c.m[id].n_settings = 1;
        c.m[id].timeout_ms = 30000;
    }
    cluster_up(&c);
    leader = cluster_leader(&c);
    assert_int_equal(member_put(&c.m[leader], "f", "x"), 0);
    wait_until(barrier(c.m[follower(leader)].r) == 0);
    member_down(&c.m[leader]);
    start = clock_boottime_ns();
    assert_int_equal(member_put(&c.m[follower(leader)], "f", "y"), 0);
    assert_true(clock_boottime_ns() - start < 4900 * INT64_C(1000000)); /* no election timeout passed */
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

/* A file of a megabyte, written and cut twenty times before it is closed. What no frame can carry would be sent again and again, with
 * everything behind it, or cost a leader its followers, who would hear nothing of it any more. */
static void a_command_that_no_frame_can_carry_is_refused(void **state)
{
    struct store_edit edits[40];
    struct store_op op = {.kind = STORE_OP_COMMIT, .parent = STORE_ROOT_INO, .name = {"large", 5}, .mode = 0644, .edits = edits, .n_edits = 40};
    char *bytes = calloc(1, 1 << 20);
    uint32_t leader;
    uint64_t term;

    (void)state;
    for (int i = 0; i < 40; i += 2) {
        edits[i] = (struct store_edit){.kind = STORE_EDIT_WRITE, .bytes = {bytes, 1 << 20}};
        edits[i + 1] = (struct store_edit){.kind = STORE_EDIT_TRUNCATE, .off = 10};
    }
    cluster_up(&c);
    leader = cluster_leader(&c);
    term = cluster_status(&c, leader).term;
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t id = (leader - 1 + i) % 3 + 1;

        op.new_ino = replica_new_ino(c.m[id].r, STORE_FILE);
        assert_int_equal(member_do(&c.m[id], &op, NULL, NULL), QE_FBIG);
        assert_int_equal(member_put(&c.m[id], "small", "1"), 0);
    }
    assert_int_equal(cluster_leader(&c), leader);
    assert_int_equal(cluster_status(&c, leader).term, term);
    free(bytes);
}

static void without_a_leader_requests_fail_at_once(void **state)
{
    uint32_t left;
    int64_t start;

    (void)state;
    cluster_up(&c);
    left = follower(cluster_leader(&c));
    assert_int_equal(member_put(&c.m[left], "f", "x"), 0);
    for (uint32_t id = 1; id <= 3; id++)
        if (id != left)
            member_down(&c.m[id]);
    wait_until(replica_writable(c.m[left].r) == QE_TIMEDOUT);
    start = clock_boottime_ns();
    assert_int_equal(member_put(&c.m[left], "f", "y"), QE_TIMEDOUT);
    assert_int_equal(barrier(c.m[left].r), QE_TIMEDOUT);
    assert_true(clock_boottime_ns() - start < 4900 * INT64_C(1000000)); /* not even the first one waited for its own timeout */
    assert_local(left, "f", "x");
    assert_int_equal(cluster_status(&c, left).n_waiting, 0);
}

/* What waits when the leader goes is answered within an election timeout or so, long before its own timeout. */
static void what_waits_when_the_leader_goes_is_answered(void **state)
{
    struct answer a = ANSWER;
    struct replica_request req = {.data = &a, .cb = answer_cb};
    uint32_t left;
    int64_t start;

    (void)state;
    for (uint32_t id = 1; id <= 3; id++)
        c.m[id].timeout_ms = 60000;
    cluster_up(&c);
    left = follower(cluster_leader(&c));
    for (uint32_t id = 1; id <= 3; id++)
        if (id != left)
            member_down(&c.m[id]);
    start = clock_boottime_ns();
    replica_barrier(c.m[left].r, &req);
    assert_int_equal(member_put(&c.m[left], "f", "y"), QE_TIMEDOUT);
    assert_int_equal(answer_wait(&a), QE_TIMEDOUT);
    assert_true(clock_boottime_ns() - start < INT64_C(30000000000));
}

static void a_member_starts_without_a_quorum(void **state)
{
    int64_t start;

    (void)state;
    cluster_up(&c);
    assert_int_equal(member_put(&c.m[1], "f", "x"), 0);
    for (uint32_t id = 3; id >= 1; id--)
        member_down(&c.m[id]);
    c.m[1].timeout_ms = 500;
    start = clock_boottime_ns();
    member_up(&c.m[1]);
    assert_true(clock_boottime_ns() - start < INT64_C(30000000000));
    assert_local(1, "f", "x");
    assert_int_equal(replica_writable(c.m[1].r), QE_TIMEDOUT);
    c.m[1].timeout_ms = 5000;
    member_up(&c.m[2]);
    wait_until(replica_writable(c.m[1].r) == 0);
    wait_until(member_put(&c.m[1], "f", "y") == 0); /* session and inode numbers came by themselves */
    assert_reads(2, "f", "y");
}

/* ---- A slow follower ----------------------------------------------------------------------------------------------------- */

static void slow_cb(void *data, const struct store_change *changes, size_t n)
{
    (void)data;
    (void)changes;
    (void)n;
    poll(NULL, 0, 100); /* a machine that takes its time for each transaction */
}

static uint64_t most_unapplied(uint32_t id, uint64_t until)
{
    uint64_t most = 0, applied = 0;

    while (applied < until) {
        struct replica_status s = cluster_status(&c, id);

        applied = s.applied;
        if (s.last_index > s.applied && s.last_index - s.applied > most)
            most = s.last_index - s.applied;
        poll(NULL, 0, 1);
    }
    return most;
}

/* The leader goes on with the others; who is slow to apply has no more in memory than it may, and gets the rest when it has come so far. */
static void a_follower_that_is_slow_takes_no_more_than_it_can_hold(void **state)
{
    struct replica_options slow = {.timeout_ms = 10000, .changed = slow_cb};
    static char content[64 << 10];
    uint32_t at, id;
    struct buf why = {0}, got = {0};

    (void)state;
    memset(content, 'x', sizeof content - 1);
    cluster_up(&c);
    at = cluster_leader(&c);
    id = at % 3 + 1;
    member_down(&c.m[id]);
    slow.dir = c.m[id].dir;
    slow.listen = c.m[id].listen;
    setenv("QUORUMFS_TEST_BEHIND_BYTES", "500000", 1);
    assert_int_equal(replica_start(&slow, 1000, &c.m[id].r, &why), 0);
    unsetenv("QUORUMFS_TEST_BEHIND_BYTES");
    for (int i = 0; i < 100; i++)
        assert_int_equal(member_put(&c.m[at], "big", content), 0);
    assert_in_range(most_unapplied(id, cluster_status(&c, at).applied), 1, 40); /* 0.5 MiB, and a message of 1 MiB */
    assert_int_equal(member_put(&c.m[id], "small", "1"), 0);
    assert_int_equal(member_get(&c.m[at], "small", &got), 0);
    buf_fini(&got);
    buf_fini(&why);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(every_member_writes_and_all_read_it),
        TEST(followers_know_the_leader),
        TEST(errors_of_the_store_reach_a_follower),
        TEST(large_commands_of_a_follower_arrive),
        TEST(more_than_the_window_is_sent_in_parts),
        TEST(a_barrier_sees_what_another_member_wrote),
        TEST(of_five_members_two_may_be_away),
        TEST(a_follower_that_is_slow_takes_no_more_than_it_can_hold),
        TEST(a_paused_leader_serves_no_stale_read),
        TEST(the_leader_is_stopped_while_all_write),
        TEST(leaders_are_paused_while_all_write),
        TEST(a_stopping_leader_hands_over),
        TEST(a_command_that_no_frame_can_carry_is_refused),
        TEST(without_a_leader_requests_fail_at_once),
        TEST(what_waits_when_the_leader_goes_is_answered),
        TEST(a_member_starts_without_a_quorum),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("writes", tests, NULL, NULL);
}
