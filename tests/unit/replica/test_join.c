/* New members: a cluster grows from one while somebody writes, and shrinks again; members that are behind get the log or the database;
 * crashes in the middle of it. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/base/err.h"
#include "tests/unit/replica/cluster_fixture.h"

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

/* ---- Fixture ------------------------------------------------------------------------------------------------------------- */

static struct cluster c;
static pid_t child; /* serves member 1; 0: nobody */

static int teardown(void **state)
{
    (void)state;
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        child = 0;
    }
    cluster_remove(&c);
    return 0;
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

/* Member 1 is a cluster of one with an address; the others do not exist yet. */
static void alone(unsigned n)
{
    cluster_make(&c, n);
    c.m[1].members = NULL;
    c.m[1].n_members = 0;
    member_up(&c.m[1]);
}

static int join_at(uint32_t id, uint32_t at, struct buf *why)
{
    struct replica_join join = {.dir = c.m[id].dir, .member = c.address[at], .listen = c.address[id]};
    uint32_t got = 0;
    int err = replica_join(&join, &got, why);

    if (!err)
        c.m[id].id = got;
    return err;
}

static void join(uint32_t id, uint32_t at)
{
    struct buf why = {0};

    if (join_at(id, at, &why))
        fail_msg("join: %s", buf_cstr(&why));
    buf_fini(&why);
    assert_int_equal(c.m[id].id, id);
}

static bool is(uint32_t at, uint32_t id, const char *role, const char *state)
{
    return cluster_is(&c, at, id, role, state);
}

static bool has(uint32_t id, const char *name, const char *content)
{
    return cluster_has(&c, id, name, content);
}

static struct writer {
    pthread_t thread;
    _Atomic bool stop;
    _Atomic int written, failed;
} writer;

static void *writer_main(void *arg)
{
    char name[16], text[4096];

    (void)arg;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    while (!atomic_load(&writer.stop)) {
        int err;

        snprintf(name, sizeof name, "w%d", atomic_load(&writer.written) % 50);
        err = member_put(&c.m[1], name, text);
        atomic_fetch_add(&writer.written, 1);
        if (err)
            print_error("a write failed: %s\n", qfs_strerror(err));
        atomic_fetch_add(&writer.failed, err != 0);
    }
    return NULL;
}

static void begin_writing(void)
{
    writer = (struct writer){.failed = 0};
    assert_int_equal(pthread_create(&writer.thread, NULL, writer_main, NULL), 0);
    wait_until(atomic_load(&writer.written) > 20);
}

static void end_writing(void)
{
    atomic_store(&writer.stop, true);
    pthread_join(writer.thread, NULL);
    assert_int_equal(atomic_load(&writer.failed), 0);
}

static int remove_member_at(uint32_t at, uint32_t id)
{
    return cluster_change(&c, at, REPLICA_CHANGE_REMOVE, id, 0);
}

/* A program of its own, since failpoints are read once a process and a member must not be forked: see main. */
static int join_child(void *arg)
{
    (void)arg;
    execl("/proc/self/exe", "test_join", "--join", c.m[2].dir, c.address[1], c.address[2], (char *)NULL);
    return 99;
}

static int join_main(char **argv)
{
    struct replica_join opt = {.dir = argv[2], .member = argv[3], .listen = argv[4]};
    struct buf why = {0};
    uint32_t id;
    int err = replica_join(&opt, &id, &why);

    if (err && !strstr(buf_cstr(&why), "it was to be member")) /* what is left of it is named */
        err = 0;
    buf_fini(&why);
    return err ? 3 : 0;
}

static void crash_join(const char *failpoint)
{
    int status = member_child(failpoint, join_child, NULL);

    assert_true(WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 3));
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void one_grows_to_three_and_shrinks_while_somebody_writes(void **state)
{
    (void)state;
    alone(3);
    assert_int_equal(member_put(&c.m[1], "before", "1"), 0);
    begin_writing();
    join(2, 1);
    member_up(&c.m[2]);
    wait_until(is(1, 2, "voter", "ok"));
    assert_true(has(2, "before", "1"));
    join(3, 2); /* any running member will do */
    member_up(&c.m[3]);
    wait_until(is(1, 3, "voter", "ok"));
    assert_int_equal(member_put(&c.m[3], "third", "3"), 0);
    wait_until(has(1, "third", "3") && has(2, "third", "3"));
    for (uint32_t id = 1; id <= 3; id++) { /* also of the one that was alone */
        wait_until(replica_session_holds(c.m[id].r));
        assert_int_equal(c.m[id].lapses, 0);
    }
    end_writing();
    assert_int_equal(cluster_status(&c, 1).n_voters, 3);
    begin_writing();
    assert_int_equal(remove_member_at(1, 3), 0);
    assert_int_equal(remove_member_at(1, 2), 0);
    end_writing();
    assert_int_equal(cluster_status(&c, 1).n_voters, 1);
}

/* Its id is not used again: what comes back under its address is another member. */
static void a_wiped_member_comes_back_under_a_new_id(void **state)
{
    char cmd[400];
    struct buf why = {0};
    uint32_t leader;

    (void)state;
    cluster_make(&c, 3);
    cluster_up(&c);
    assert_int_equal(member_put(&c.m[1], "a", "1"), 0);
    leader = cluster_leader(&c);
    member_down(&c.m[3]);
    snprintf(cmd, sizeof cmd, "rm -r '%s'", c.m[3].dir);
    assert_int_equal(system(cmd), 0);
    leader = leader == 3 ? 0 : leader;
    wait_until(join_at(3, 1, &why) == 0); /* while it counts as there, its address is taken */
    assert_int_equal(c.m[3].id, 4);
    member_up(&c.m[3]);
    wait_until(is(1, 4, "standby", "ok") || is(1, 4, "voter", "ok"));
    wait_until(remove_member_at(1, 3) == 0);
    wait_until(is(1, 4, "voter", "ok"));
    assert_true(has(3, "a", "1"));
    buf_fini(&why);
}

/* Small markers: the leader has forgotten the log that the member lacks. */
static void a_member_far_behind_gets_the_database(void **state)
{
    char name[16];
    uint32_t at;

    (void)state;
    cluster_make(&c, 3);
    cluster_up(&c);
    at = cluster_leader(&c);
    at = at == 3 ? 1 : at;
    assert_int_equal(member_put(&c.m[at], "early", "1"), 0);
    wait_until(has(3, "early", "1"));
    member_down(&c.m[3]);
    for (int i = 0; i < 400; i++) {
        snprintf(name, sizeof name, "f%d", i);
        assert_int_equal(member_put(&c.m[at], name, "content of a file that takes some room in the log"), 0);
    }
    wait_until(cluster_status(&c, cluster_leader(&c)).snapshot_index > 100);
    member_up(&c.m[3]);
    wait_until(has(3, "f399", "content of a file that takes some room in the log"));
    assert_int_equal(member_put(&c.m[3], "late", "3"), 0);
    wait_until(has(at, "late", "3"));
    wait_until(is(at, 3, "voter", "ok"));
    member_down(&c.m[3]); /* and it starts again with what it got */
    member_up(&c.m[3]);
    assert_true(has(3, "f0", "content of a file that takes some room in the log"));
    wait_until(is(at, 3, "voter", "ok"));
}

/* Made without a network, and given an address later: then others can join. */
static void a_lonely_member_gets_an_address_later(void **state)
{
    char address[STORE_ADDRESS_MAX + 1] = "";

    (void)state;
    cluster_make(&c, 2);
    c.m[1].members = NULL;
    c.m[1].n_members = 0;
    c.m[1].listen = NULL;
    member_up(&c.m[1]);
    assert_int_equal(member_put(&c.m[1], "a", "1"), 0);
    member_down(&c.m[1]);
    c.m[1].listen = c.address[1];
    member_up(&c.m[1]);
    wait_until(replica_member_address(c.m[1].r, 1, address, sizeof address) == 0 && !strcmp(address, c.address[1]));
    join(2, 1);
    member_up(&c.m[2]);
    wait_until(is(1, 2, "voter", "ok") && is(2, 1, "voter", "ok"));
    assert_true(has(2, "a", "1"));
}

/* A large database is not copied in a moment: that nothing comes meanwhile does not mean that nobody is there. */
static void a_copy_that_takes_its_time_is_waited_for(void **state)
{
    struct buf why = {0};

    (void)state;
    alone(2);
    assert_int_equal(member_put(&c.m[1], "a", "1"), 0);
    member_down(&c.m[1]);
    child = cluster_serve(&c, 1, "replica.copy.make=stall:9000@1");
    setenv("QUORUMFS_TEST_SILENCE_MS", "4000", 1);
    wait_until(join_at(2, 1, &why) == 0); /* until the other one listens */
    unsetenv("QUORUMFS_TEST_SILENCE_MS");
    assert_int_equal(c.m[2].id, 2); /* it was let in once */
    buf_fini(&why);
    member_up(&c.m[2]);
    assert_true(has(2, "a", "1"));
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static void an_interrupted_join_is_completed_by_another(void **state)
{
    struct buf why = {0};

    (void)state;
    alone(2);
    assert_int_equal(member_put(&c.m[1], "a", "1"), 0);
    crash_join("replica.join.piece=error@1");
    assert_int_equal(replica_dir_state(c.m[2].dir, NULL), REPLICA_DIR_EMPTY);
    crash_join("replica.join.fetched=crash@1");
    crash_join("replica.join.raft=crash@1");
    crash_join("replica.join.committed=crash@1");
    assert_int_equal(replica_dir_state(c.m[2].dir, NULL), REPLICA_DIR_EMPTY);
    wait_until(join_at(2, 1, &why) == 0);
    assert_int_equal(c.m[2].id, 6); /* each try added one; they never come */
    buf_fini(&why);
    member_up(&c.m[2]);
    wait_until(is(1, 6, "voter", "ok"));
    assert_true(has(2, "a", "1"));
    for (uint32_t id = 2; id < 6; id++)
        assert_int_equal(remove_member_at(1, id), 0);
}

static void who_cannot_be_let_in_is_told_why(void **state)
{
    struct buf why = {0};

    (void)state;
    alone(2);
    assert_int_equal(join_at(1, 1, &why), QE_LOCKED); /* its own directory is in use */
    buf_clear(&why);
    member_down(&c.m[1]);
    assert_int_not_equal(join_at(2, 1, &why), 0);
    assert_says(&why, c.address[1]);
    buf_clear(&why);
    c.m[1].listen = NULL;
    member_up(&c.m[1]);
    assert_int_not_equal(join_at(2, 1, &why), 0);
    buf_fini(&why);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(an_interrupted_join_is_completed_by_another),
        TEST(one_grows_to_three_and_shrinks_while_somebody_writes),
        TEST(a_wiped_member_comes_back_under_a_new_id),
        TEST(a_member_far_behind_gets_the_database),
        TEST(a_lonely_member_gets_an_address_later),
        TEST(a_copy_that_takes_its_time_is_waited_for),
        TEST(who_cannot_be_let_in_is_told_why),
    };

    if (argc == 5 && !strcmp(argv[1], "--join"))
        return join_main(argv);
    cluster_serves(argc, argv);
    setenv("QUORUMFS_TEST_MARKER_BYTES", "20000", 1);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("join", tests, NULL, NULL);
}
