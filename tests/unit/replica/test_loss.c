/* Messages between members that are lost or doubled: each command still takes effect once, in order, and each read is answered. Failpoints
 * are read once a process, so each test is a child. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "store/base/err.h"
#include "tests/unit/replica/cluster_fixture.h"

enum { LINES = 400 };

/* ---- Fixture ------------------------------------------------------------------------------------------------------------- */

static struct cluster c;

static int setup(void **state)
{
    (void)state;
    cluster_make(&c, 3);
    for (uint32_t id = 1; id <= 3; id++)
        c.m[id].timeout_ms = 60000;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cluster_remove(&c);
    return 0;
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

struct answers { /* of many requests */
    pthread_mutex_t lock;
    pthread_cond_t come;
    int n, failed; /* under lock */
};

static void answer_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct answers *a = req->data;

    (void)rev;
    (void)ino;
    pthread_mutex_lock(&a->lock);
    a->n++;
    a->failed += err != 0;
    pthread_cond_signal(&a->come);
    pthread_mutex_unlock(&a->lock);
}

static void answers_wait(struct answers *a, int n)
{
    pthread_mutex_lock(&a->lock);
    while (a->n < n)
        pthread_cond_wait(&a->come, &a->lock);
    pthread_mutex_unlock(&a->lock);
}

/* Many lines at once through a follower, a few at a time so that they go in many frames. */
static void append_lines(struct replica *r, struct answers *a)
{
    static struct replica_request reqs[LINES];
    struct store_edit edit = {.kind = STORE_EDIT_APPEND};
    struct store_op op = {.kind = STORE_OP_COMMIT, .parent = STORE_ROOT_INO, .name = {"f", 1}, .mode = 0644, .edits = &edit, .n_edits = 1};
    struct store_command cmd = {.comm = "test", .ops = &op, .n_ops = 1};
    char line[16];

    for (int i = 0; i < LINES; i++) {
        edit.bytes = (struct store_bytes){line, (size_t)snprintf(line, sizeof line, "%d\n", i)};
        op.new_ino = replica_new_ino(r, STORE_FILE);
        reqs[i] = (struct replica_request){.data = a, .cb = answer_cb};
        replica_submit(r, &reqs[i], &cmd);
        if (i % 8 == 7)
            answers_wait(a, i - 24);
    }
    answers_wait(a, LINES);
}

/* All is there once, in order, on the leader and on the follower that wrote it. */
static int lines_body(void *arg)
{
    struct answers a = {.lock = PTHREAD_MUTEX_INITIALIZER, .come = PTHREAD_COND_INITIALIZER};
    struct answers read = {.lock = PTHREAD_MUTEX_INITIALIZER, .come = PTHREAD_COND_INITIALIZER};
    struct replica_request req = {.data = &read, .cb = answer_cb};
    struct buf expected = {0}, got = {0};
    uint32_t leader;

    (void)arg;
    cluster_up(&c);
    leader = cluster_leader(&c);
    append_lines(c.m[leader % 3 + 1].r, &a);
    assert_int_equal(a.failed, 0);
    for (int i = 0; i < LINES; i++)
        buf_printf(&expected, "%d\n", i);
    assert_int_equal(member_get(&c.m[leader % 3 + 1], "f", &got), 0);
    assert_string_equal(buf_cstr(&got), buf_cstr(&expected));
    replica_barrier(c.m[(leader + 1) % 3 + 1].r, &req);
    answers_wait(&read, 1);
    assert_int_equal(read.failed, 0);
    assert_int_equal(member_get(&c.m[(leader + 1) % 3 + 1], "f", &got), 0);
    assert_string_equal(buf_cstr(&got), buf_cstr(&expected));
    for (uint32_t id = 1; id <= 3; id++)
        member_down(&c.m[id]);
    buf_fini(&expected);
    buf_fini(&got);
    return 0;
}

static void with(const char *failpoints)
{
    assert_int_equal(member_child(failpoints, lines_body, NULL), 0);
}

/* Every name that libraft may give to a segment that it cuts is taken. */
static void hinder_truncation(uint32_t id, unsigned last)
{
    char path[400];

    for (unsigned from = 1; from <= last; from++)
        for (unsigned to = from; to <= last; to++) {
            snprintf(path, sizeof path, "%s/raft/tmp-%016u-%016u", c.m[id].dir, from, to);
            assert_int_equal(mkdir(path, 0700), 0);
        }
}

/* A leader alone writes an entry that is lost when the others elect another; it cannot remove it from its log. */
static int truncation_body(void *arg)
{
    struct buf why = {0};
    uint32_t old;

    (void)arg;
    for (uint32_t id = 1; id <= 3; id++)
        c.m[id].timeout_ms = 3000;
    cluster_up(&c);
    old = cluster_leader(&c);
    assert_int_equal(member_put(&c.m[old], "a", "1"), 0);
    member_down(&c.m[old % 3 + 1]);
    member_down(&c.m[(old + 1) % 3 + 1]);
    assert_int_equal(member_put(&c.m[old], "lost", "1"), QE_TIMEDOUT);
    assert_true(cluster_status(&c, old).last_index > cluster_status(&c, old).commit);
    hinder_truncation(old, (unsigned)cluster_status(&c, old).last_index + 1);
    member_down(&c.m[old]);
    member_up(&c.m[old % 3 + 1]);
    member_up(&c.m[(old + 1) % 3 + 1]);
    wait_until(member_put(&c.m[old % 3 + 1], "b", "1") == 0);
    assert_true(member_start(&c.m[old], &why) != 0); /* it does not get as far as a session */
    assert_says(&why, "truncating the log");
    buf_clear(&why);
    assert_int_equal(member_start(&c.m[old], &why), QE_STALE);
    assert_says(&why, "could not be truncated");
    return 0;
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void doubled_commands_take_effect_once(void **state)
{
    (void)state;
    with("replica.forward.twice=error");
}

/* The leader sees the gap, and asks for everything. */
static void lost_commands_are_sent_again_in_order(void **state)
{
    (void)state;
    with("replica.forward.lost=error@8,replica.forward.twice=error@12");
}

/* It cannot ask either: the member notices that nothing of its own is applied any more. */
static void a_member_that_hears_nothing_sends_again(void **state)
{
    (void)state;
    with("replica.forward.lost=error@8,replica.forward.mute=error");
}

static void lost_questions_are_asked_again(void **state)
{
    (void)state;
    with("replica.barrier.lost=error@1");
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static void a_truncation_that_fails_stops_the_member(void **state)
{
    (void)state;
    assert_int_equal(member_child(NULL, truncation_body, NULL), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(doubled_commands_take_effect_once),
        TEST(lost_commands_are_sent_again_in_order),
        TEST(a_member_that_hears_nothing_sends_again),
        TEST(lost_questions_are_asked_again),
        TEST(a_truncation_that_fails_stops_the_member),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("loss", tests, NULL, NULL);
}
