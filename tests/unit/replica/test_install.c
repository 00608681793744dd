/* Members that get the database: killed at each step they come up again and are sent it anew; and members whose states differ. */
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

enum { STRIDE = 1024 }; /* standing.h: entries between two states that members compare */
#define TEST(name) cmocka_unit_test_teardown(name, teardown)

/* ---- Fixture ------------------------------------------------------------------------------------------------------------- */

static struct cluster c;
static pid_t child; /* serves member 3, or member 2 of two; 0: nobody */

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

static void serve(uint32_t id, const char *failpoints)
{
    child = cluster_serve(&c, id, failpoints);
}

static int ended(void)
{
    int status = 0;
    pid_t pid = 0;

    wait_until((pid = waitpid(child, &status, WNOHANG)) != 0);
    assert_int_equal(pid, child);
    child = 0;
    return status;
}

static bool has(uint32_t id, const char *name, const char *content)
{
    return cluster_has(&c, id, name, content);
}

static void lead(uint32_t id)
{
    wait_until(cluster_change(&c, id, REPLICA_CHANGE_LEADER, id, 0) == 0 && cluster_leader(&c) == id);
}

/* Member 3 is away while more is written than the log keeps. */
static void leave_behind(const char *content)
{
    uint64_t before = cluster_status(&c, 1).commit;
    char name[16];

    for (int i = 0; i < 150; i++) {
        snprintf(name, sizeof name, "f%d", i);
        assert_int_equal(member_put(&c.m[1], name, content), 0);
    }
    wait_until(cluster_status(&c, cluster_leader(&c)).snapshot_index > before + 20);
}

static void two_run_and_one_is_behind(void)
{
    cluster_make(&c, 3);
    cluster_up(&c);
    cluster_leader(&c);
    assert_int_equal(member_put(&c.m[1], "a", "1"), 0);
    wait_until(has(3, "a", "1"));
    member_down(&c.m[3]);
    wait_until(cluster_status(&c, 1).leader == 1 || cluster_status(&c, 1).leader == 2);
    leave_behind("first");
}

/* The failpoint ends the process that serves member 3; started again without it, it gets there. */
static void killed_at(const char *failpoint)
{
    static int round;
    char content[32];
    int status;

    snprintf(content, sizeof content, "round%d", ++round);
    leave_behind(content);
    serve(3, failpoint);
    status = ended();
    if (!WIFSIGNALED(status) && !(WIFEXITED(status) && WEXITSTATUS(status) == CLUSTER_SERVE_STOPPED))
        fail_msg("%s: status %x", failpoint, (unsigned)status);
    member_up(&c.m[3]);
    wait_until(has(3, "f149", content));
    assert_int_equal(member_put(&c.m[3], "back", content), 0);
    wait_until(has(1, "back", content));
    member_down(&c.m[3]);
}

static void write_some(void)
{
    char name[16];

    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "d%d", i);
        (void)member_put(&c.m[1], name, "x"); /* refused once it is known that the states differ */
    }
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void killed_at_each_step_a_member_starts_over(void **state)
{
    (void)state;
    two_run_and_one_is_behind();
    killed_at("store.stage.verify=crash@1");
    killed_at("replica.install.verify=crash@1");
    killed_at("replica.install.commit=crash@1");
    killed_at("replica.install.commit=error@1");
    killed_at("replica.install.committed=crash@1");
    killed_at("replica.install.switched=crash@1");
    killed_at("replica.install.released=crash@1");
    killed_at("replica.install.piece=crash@1");
}

static _Atomic bool written_enough;

static void *writer_main(void *arg)
{
    (void)arg;
    while (!atomic_load(&written_enough)) {
        (void)member_put(&c.m[1], "g", "something");
        usleep(8000);
    }
    return NULL;
}

/* Fetching takes two seconds, and meanwhile more is written than the log keeps for members that are a little behind. */
static void who_fetches_while_others_write_catches_up(void **state)
{
    pthread_t writer;

    (void)state;
    setenv("QUORUMFS_TEST_MARKER_BYTES", "15000", 1);
    two_run_and_one_is_behind();
    lead(1);
    atomic_store(&written_enough, false);
    assert_int_equal(pthread_create(&writer, NULL, writer_main, NULL), 0);
    serve(3, "replica.install.verify=stall:2000");
    wait_until(cluster_is(&c, 1, 3, NULL, "installing"));
    wait_until(cluster_is(&c, 1, 3, NULL, "ok"));
    for (int64_t end = wait_begin() + INT64_C(10000000000); wait_begin() < end; usleep(20000))
        if (cluster_is(&c, 1, 3, NULL, "installing"))
            break;
    atomic_store(&written_enough, true);
    pthread_join(writer, NULL);
    setenv("QUORUMFS_TEST_MARKER_BYTES", "10000", 1);
    assert_true(cluster_is(&c, 1, 3, NULL, "ok"));
}

/* What fails without killing it is tried again by itself. */
static void a_copy_that_is_no_good_is_fetched_again(void **state)
{
    (void)state;
    two_run_and_one_is_behind();
    serve(3, "replica.install.verify=error@1,replica.install.piece=error@2");
    wait_until(cluster_status(&c, cluster_leader(&c)).commit > 0);
    {
        struct replica_member *all;
        bool there = false;

        while (!there) {
            size_t n;

            wait_until(replica_members(c.m[1].r, &all, &n) == 0);
            there = n == 3 && !strcmp(all[2].state, "ok") && all[2].lag == 0;
            free(all);
            assert_int_equal(waitpid(child, NULL, WNOHANG), 0);
        }
    }
}

/* ---- Leaders change during an install ------------------------------------------------------------------------------------ */

/* Runs in a process of its own, with all three members and a failpoint at which the member that gets the database waits. */
static void in_child(const char *failpoint, int (*body)(void *arg))
{
    cluster_make(&c, 3);
    assert_int_equal(member_child(failpoint, body, NULL), 0);
}

static void *up_main(void *arg)
{
    member_up(arg);
    return NULL;
}

static pthread_t up(uint32_t id)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, up_main, &c.m[id]), 0);
    return thread;
}

/* Member 1 leads. Member 2 keeps its whole log if `keeps`. */
static void begin(bool keeps)
{
    cluster_up(&c);
    cluster_leader(&c);
    if (keeps) {
        member_down(&c.m[2]);
        setenv("QUORUMFS_TEST_MARKER_BYTES", "1000000000", 1);
        member_up(&c.m[2]);
        setenv("QUORUMFS_TEST_MARKER_BYTES", "10000", 1);
    }
    lead(1);
    wait_until(cluster_is(&c, 1, 2, NULL, "ok") && cluster_is(&c, 1, 3, NULL, "ok"));
    member_down(&c.m[3]);
}

static bool seconds_have_passed(int n)
{
    static int64_t since;

    since = since ? since : wait_begin();
    return wait_begin() > since + n * INT64_C(1000000000);
}

/* The new leader sends the log, whose entries stand behind the switch to a database that has them already. What the member then says of its
 * state must be of that database's index. */
static int log_body(void *arg)
{
    pthread_t thread;

    (void)arg;
    begin(true);
    while (cluster_status(&c, 1).commit < STRIDE + 50)
        leave_behind("first");
    thread = up(3);
    wait_until(c.m[3].r || cluster_is(&c, 1, 3, NULL, "installing"));
    lead(2);
    pthread_join(thread, NULL);
    wait_until(cluster_is(&c, 2, 3, NULL, "ok"));
    assert_int_equal(member_put(&c.m[3], "late", "3"), 0);
    wait_until(has(1, "late", "3"));
    wait_until(c.m[3].fatals || seconds_have_passed(3));
    assert_string_equal(c.m[3].fatal, "");
    return 0;
}

static void the_log_comes_while_the_database_is_switched_to(void **state)
{
    (void)state;
    in_child("replica.install.commit=stall:5000@1", log_body);
}

/* The new leader sends a newer snapshot, for which the database that is just being switched to will not do. */
static int newer_body(void *arg)
{
    pthread_t thread;
    uint64_t before;

    (void)arg;
    begin(false);
    leave_behind("first");
    thread = up(3);
    wait_until(c.m[3].r || cluster_is(&c, 1, 3, NULL, "installing"));
    before = cluster_status(&c, 1).commit;
    leave_behind("second");
    wait_until(cluster_status(&c, 2).snapshot_index > before);
    lead(2);
    pthread_join(thread, NULL);
    wait_until(has(3, "f149", "second"));
    for (int i = 0; i < 150; i++) {
        char name[16];

        snprintf(name, sizeof name, "f%d", i);
        assert_true(has(3, name, "second"));
    }
    wait_until(c.m[3].fatals || seconds_have_passed(3));
    assert_string_equal(c.m[3].fatal, "");
    return 0;
}

static void a_newer_snapshot_comes_while_the_database_is_switched_to(void **state)
{
    (void)state;
    in_child("replica.install.commit=stall:5000@1", newer_body);
}

/* Member 3 still waits for the database of a leader that is gone; another one has brought it up to date, and is gone as well. The first
 * is back, and lacks what the second committed: only member 3 can lead. */
static int waiting_body(void *arg)
{
    pthread_t thread;

    (void)arg;
    begin(true);
    leave_behind("first");
    thread = up(3);
    wait_until(cluster_is(&c, 1, 3, NULL, "installing"));
    member_down(&c.m[1]);
    wait_until(cluster_status(&c, 2).leader == 2);
    assert_int_equal(member_put(&c.m[2], "second", "2"), 0);
    pthread_join(thread, NULL);
    wait_until(has(3, "second", "2"));
    member_down(&c.m[2]);
    thread = up(1);
    wait_until(cluster_status(&c, 3).leader == 3);
    pthread_join(thread, NULL);
    assert_int_equal(member_put(&c.m[1], "third", "1"), 0);
    return 0; /* nobody waits for the failpoint */
}

static void who_waits_for_the_database_of_an_earlier_leader_can_lead(void **state)
{
    (void)state;
    in_child("replica.install.verify=stall:90000@1", waiting_body);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static void the_odd_one_out_of_three_stops(void **state)
{
    int status = 0;

    (void)state;
    cluster_make(&c, 3);
    cluster_up(&c);
    cluster_leader(&c);
    member_down(&c.m[3]);
    serve(3, "store.diverge=error@4");
    for (;;) {
        write_some();
        if (waitpid(child, &status, WNOHANG) == child)
            break;
    }
    child = 0;
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == CLUSTER_SERVE_ODD);
    wait_until(replica_writable(c.m[1].r) == 0); /* the others go on */
    assert_int_equal(member_put(&c.m[1], "after", "x"), 0);
}

/* Of two that differ nobody knows which is right. */
static void without_a_majority_all_refuse_to_write(void **state)
{
    struct replica_status s;

    (void)state;
    cluster_make(&c, 2);
    cluster_up(&c);
    cluster_leader(&c);
    member_down(&c.m[2]);
    serve(2, "store.diverge=error@3");
    wait_until((write_some(), replica_writable(c.m[1].r) == QE_IO));
    replica_status(c.m[1].r, &s);
    if (!strstr(s.alarm, "different states"))
        fail_msg("%s", s.alarm);
    assert_int_equal(member_put(&c.m[1], "after", "x"), QE_IO);
    assert_int_equal(waitpid(child, NULL, WNOHANG), 0); /* it lives, and says the same */
    assert_int_equal(cluster_change(&c, 1, REPLICA_CHANGE_REMOVE, 2, 0), 0); /* who decides that the first one is right removes the second */
    wait_until(replica_writable(c.m[1].r) == 0);
    assert_int_equal(member_put(&c.m[1], "after", "x"), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = { /* those with a child first: failpoints are read once, and are inherited */
        TEST(the_log_comes_while_the_database_is_switched_to),
        TEST(a_newer_snapshot_comes_while_the_database_is_switched_to),
        TEST(who_waits_for_the_database_of_an_earlier_leader_can_lead),
        TEST(killed_at_each_step_a_member_starts_over),
        TEST(who_fetches_while_others_write_catches_up),
        TEST(a_copy_that_is_no_good_is_fetched_again),
        TEST(the_odd_one_out_of_three_stops),
        TEST(without_a_majority_all_refuse_to_write),
    };

    cluster_serves(argc, argv);
    setenv("QUORUMFS_TEST_MARKER_BYTES", "10000", 1);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("install", tests, NULL, NULL);
}
