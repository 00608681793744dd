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
    const struct CMUnitTest tests[] = {
        TEST(killed_at_each_step_a_member_starts_over),
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
