/* Three members with their real disks and sockets: they agree, lose one, and agree again. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/err.h"
#include "tests/unit/replica/cluster_fixture.h"

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

/* ---- Fixture ------------------------------------------------------------------------------------------------------------- */

static struct cluster c;

static int teardown(void **state)
{
    (void)state;
    cluster_remove(&c);
    return 0;
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static bool all_have(uint64_t index)
{
    for (uint32_t id = 1; id <= c.n; id++)
        if (c.m[id].r && cluster_status(&c, id).commit < index)
            return false;
    return true;
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

/* The new leader's barrier is committed everywhere. */
static void three_members_elect_a_leader(void **state)
{
    uint32_t leader;

    (void)state;
    cluster_make(&c, 3);
    cluster_up(&c);
    leader = cluster_leader(&c);
    wait_until(all_have(2));
    assert_int_equal(cluster_status(&c, leader).n_voters, 3);
}

static bool reads(uint32_t id, const char *name, const char *content)
{
    struct buf got = {0};
    bool same = member_get(&c.m[id], name, &got) == 0 && strcmp(buf_cstr(&got), content) == 0;

    buf_fini(&got);
    return same;
}

/* What is written on one member is there on each, also on one that was away. */
static void what_is_written_on_one_is_on_all(void **state)
{
    char name[16];

    (void)state;
    cluster_make(&c, 3);
    cluster_up(&c);
    for (uint32_t id = 1; id <= 3; id++) {
        snprintf(name, sizeof name, "from%" PRIu32, id);
        assert_int_equal(member_put(&c.m[id], name, "hello"), 0);
        assert_true(reads(id, name, "hello"));
        for (uint32_t other = 1; other <= 3; other++)
            wait_until(reads(other, name, "hello"));
    }
    member_down(&c.m[2]);
    assert_int_equal(member_put(&c.m[1], "away", "one"), 0);
    assert_int_equal(member_put(&c.m[3], "away", "two"), 0);
    member_up(&c.m[2]);
    wait_until(reads(2, "away", "two"));
}

static void without_its_leader_a_cluster_elects_another(void **state)
{
    uint32_t first, second;
    uint64_t term;

    (void)state;
    cluster_make(&c, 3);
    cluster_up(&c);
    first = cluster_leader(&c);
    wait_until(all_have(2));
    term = cluster_status(&c, first).term;
    member_down(&c.m[first]);
    wait_until((second = cluster_leader(&c)) != first && cluster_status(&c, second).term > term);
    wait_until(all_have(3));
    member_up(&c.m[first]);
    wait_until(all_have(cluster_status(&c, cluster_leader(&c)).commit));
}

/* Nothing is left of a leadership without a majority, and it comes back with it. */
static void a_leader_alone_steps_down(void **state)
{
    uint32_t leader;

    (void)state;
    cluster_make(&c, 3);
    cluster_up(&c);
    leader = cluster_leader(&c);
    for (uint32_t id = 1; id <= 3; id++)
        if (id != leader)
            member_down(&c.m[id]);
    wait_until(strcmp(cluster_status(&c, leader).role, "leader") != 0);
    cluster_up(&c);
    cluster_leader(&c);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

/* In a process of its own, which ends: a member that stops leaves its memory as it is. */
static int start_old_copy(void *arg)
{
    struct buf why = {0};

    (void)arg;
    return member_start(&c.m[3], &why) != 0 && strstr(buf_cstr(&why), "old copy") && c.m[3].fatals == 1 ? 0 : 1;
}

static int start_again(void *arg)
{
    struct buf why = {0};

    (void)arg;
    return member_start(&c.m[3], &why) == QE_STALE && strstr(buf_cstr(&why), "old copy") && c.m[3].fatals == 0 ? 0 : 1;
}

/* An old copy of its directory: the others refuse it, and it does not go on. Nor does it when it is started again and again, until its number
 * is above all that were seen of it. */
static void a_member_from_an_old_copy_stops(void **state)
{
    char cmd[900];

    (void)state;
    cluster_make(&c, 3);
    cluster_up(&c);
    wait_until(all_have(2));
    member_down(&c.m[3]);
    snprintf(cmd, sizeof cmd, "cp -a '%s' '%s.old'", c.m[3].dir, c.m[3].dir);
    assert_int_equal(system(cmd), 0);
    for (int i = 0; i < 2; i++) {
        member_up(&c.m[3]);
        wait_until(all_have(2)); /* it has heard of a leader, and that of it */
        member_down(&c.m[3]);
    }
    snprintf(cmd, sizeof cmd, "rm -r '%s' && mv '%s.old' '%s'", c.m[3].dir, c.m[3].dir, c.m[3].dir);
    assert_int_equal(system(cmd), 0);
    assert_int_equal(member_child(NULL, start_old_copy, NULL), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(member_child(NULL, start_again, NULL), 0);
}

static void a_port_that_is_taken_is_said(void **state)
{
    struct buf why = {0};

    (void)state;
    cluster_make(&c, 3);
    c.m[1].timeout_ms = 1; /* nobody else will come */
    member_up(&c.m[1]);
    c.m[2].listen = c.address[1];
    assert_int_equal(member_init(&c.m[2], &why), 0);
    assert_int_equal(member_start(&c.m[2], &why), QE_BUSY);
    assert_says(&why, "in use");
    buf_clear(&why);
    c.m[2].listen = "0.0.0.0:0";
    assert_int_equal(member_start(&c.m[2], &why), QE_PERM);
    assert_says(&why, "insecure");
    buf_fini(&why);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(three_members_elect_a_leader),
        TEST(what_is_written_on_one_is_on_all),
        TEST(without_its_leader_a_cluster_elects_another),
        TEST(a_leader_alone_steps_down),
        TEST(a_member_from_an_old_copy_stops),
        TEST(a_port_that_is_taken_is_said),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("cluster", tests, NULL, NULL);
}
