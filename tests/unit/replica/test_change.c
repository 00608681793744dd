/* Changes of the membership, with real disks and sockets: roles, removal, handing over, and what is refused. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "store/base/err.h"
#include "tests/unit/replica/cluster_fixture.h"

#define TEST(name) cmocka_unit_test_teardown(name, teardown)

/* ---- Fixture ------------------------------------------------------------------------------------------------------------- */

static struct cluster c;
static pid_t child[CLUSTER_MAX + 1]; /* serves the member of that id; 0: nobody does */

static int teardown(void **state)
{
    (void)state;
    for (uint32_t id = 1; id <= CLUSTER_MAX; id++)
        if (child[id] > 0) {
            kill(child[id], SIGKILL);
            waitpid(child[id], NULL, 0);
            child[id] = 0;
        }
    cluster_remove(&c);
    return 0;
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static int change(uint32_t at, enum replica_change_kind kind, uint32_t id, enum store_member_role role)
{
    return cluster_change(&c, at, kind, id, role);
}

static const char *role_of(uint32_t at, uint32_t id)
{
    struct replica_member *all;
    const char *role = "none";
    size_t n;

    assert_int_equal(replica_members(c.m[at].r, &all, &n), 0);
    for (size_t i = 0; i < n; i++)
        if (all[i].id == id)
            role = all[i].role;
    free(all);
    return role;
}

static bool all_ok(uint32_t at, size_t count)
{
    struct replica_member *all;
    size_t n, ok = 0;

    assert_int_equal(replica_members(c.m[at].r, &all, &n), 0);
    for (size_t i = 0; i < n; i++)
        ok += !strcmp(all[i].state, "ok") && strcmp(all[i].role, "joining") != 0;
    free(all);
    return n == count && ok == count;
}

/* The election timeout is so long, or as usual (NULL). */
static void up_with(unsigned n, const char *election_timeout)
{
    const char *const setting[1][2] = {{"election-timeout", election_timeout}};

    cluster_make(&c, n);
    for (uint32_t id = 1; election_timeout && id <= n; id++) {
        c.m[id].settings = setting;
        c.m[id].n_settings = 1;
    }
    cluster_up(&c);
    cluster_leader(&c);
    for (uint32_t id = 1; id <= n; id++)
        wait_until(all_ok(id, n));
    for (uint32_t id = 1; id <= n; id++)
        c.m[id].n_settings = 0; /* they are in the database */
}

static void up(unsigned n) { up_with(n, NULL); }

/* Of three: who leads, and the others. Found out at once, since another one may lead in the next moment. */
struct parts {
    uint32_t leader, at, id;
};

static struct parts parts(void)
{
    uint32_t leader = cluster_leader(&c), at = leader == 1 ? 2 : 1;

    return (struct parts){.leader = leader, .at = at, .id = 6 - leader - at};
}

/* Somebody who writes all the time; each write must succeed. */
static struct writer {
    pthread_t thread;
    uint32_t at;
    _Atomic bool stop;
    _Atomic int written, failed;
} writer;

static void *writer_main(void *arg)
{
    (void)arg;
    while (!atomic_load(&writer.stop)) {
        int err = member_put(&c.m[writer.at], "w", "x");

        atomic_fetch_add(&writer.written, 1);
        if (err)
            print_error("a write failed: %s\n", qfs_strerror(err));
        atomic_fetch_add(&writer.failed, err != 0);
    }
    return NULL;
}

static void write_at(uint32_t at)
{
    writer = (struct writer){.at = at};
    assert_int_equal(pthread_create(&writer.thread, NULL, writer_main, NULL), 0);
    wait_until(atomic_load(&writer.written) > 5);
}

static void writes_went_well(void)
{
    atomic_store(&writer.stop, true);
    pthread_join(writer.thread, NULL);
    assert_int_equal(atomic_load(&writer.failed), 0);
}

/* Member 1 leads; 2 and 3 are processes of their own, so that they can stand still. */
static void one_leads_two_processes(const char *election_timeout)
{
    up_with(3, election_timeout);
    for (uint32_t id = 2; id <= 3; id++) {
        member_down(&c.m[id]);
        child[id] = cluster_serve(&c, id, NULL);
    }
    wait_until(all_ok(1, 3) && change(1, REPLICA_CHANGE_LEADER, 1, 0) == 0);
}

/* The others stand still, and member 1 leads as long as it does not notice. On a busy machine another one may have been elected before. */
static void the_others_stand_still(void)
{
    for (;;) {
        kill(child[2], SIGSTOP);
        kill(child[3], SIGSTOP);
        if (!strcmp(cluster_status(&c, 1).role, "leader"))
            return;
        kill(child[2], SIGCONT);
        kill(child[3], SIGCONT);
        wait_until(change(1, REPLICA_CHANGE_LEADER, 1, 0) == 0);
    }
}

/* Puts on their way, more with each call. */
static struct burst {
    struct put {
        struct replica_request req;
        _Atomic int answers, err;
    } put[100];
    int n;
} burst;

static void put_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct put *p = req->data;

    (void)rev;
    (void)ino;
    atomic_store(&p->err, err);
    atomic_fetch_add(&p->answers, 1);
}

static void put_another(void)
{
    struct store_op op = {.kind = STORE_OP_COMMIT, .parent = STORE_ROOT_INO, .name = {"b", 1}, .mode = 0644, .uid = getuid(), .gid = getgid(),
                          .new_ino = replica_new_ino(c.m[1].r, STORE_FILE)};
    struct store_command cmd = {.uid = getuid(), .gid = getgid(), .pid = getpid(), .comm = "test", .ops = &op, .n_ops = 1};
    struct put *p = &burst.put[burst.n++];

    p->req = (struct replica_request){.data = p, .cb = put_cb};
    replica_submit(c.m[1].r, &p->req, &cmd);
}

static bool all_answered(int times)
{
    for (int i = 0; i < burst.n; i++)
        if (atomic_load(&burst.put[i].answers) != times)
            return false;
    return true;
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void a_voter_becomes_a_standby_and_votes_again(void **state)
{
    struct parts p;

    (void)state;
    up(3);
    p = parts();
    write_at(p.at);
    assert_int_equal(change(p.at, REPLICA_CHANGE_ROLE, p.id, STORE_MEMBER_STANDBY), 0);
    wait_until(!strcmp(role_of(p.at, p.id), "standby"));
    assert_int_equal(member_put(&c.m[p.id], "b", "x"), 0); /* it writes as before */
    assert_int_equal(change(p.at, REPLICA_CHANGE_ROLE, p.id, STORE_MEMBER_VOTER), 0);
    wait_until(!strcmp(role_of(p.at, p.id), "voter"));
    assert_int_equal(change(p.at, REPLICA_CHANGE_ROLE, p.id, STORE_MEMBER_VOTER), 0); /* it is one */
    writes_went_well();
}

static void leadership_is_handed_over(void **state)
{
    struct parts p;

    (void)state;
    up(3);
    p = parts();
    assert_int_equal(change(p.at, REPLICA_CHANGE_LEADER, p.id, 0), 0);
    wait_until(cluster_status(&c, p.id).leader == p.id);
    assert_int_equal(change(p.at, REPLICA_CHANGE_LEADER, p.at, 0), 0);
    wait_until(cluster_status(&c, p.at).leader == p.at);
    assert_int_equal(change(p.at, REPLICA_CHANGE_LEADER, p.at, 0), 0);
}

static void a_removed_member_is_told_and_stops(void **state)
{
    struct parts p;

    (void)state;
    up(3);
    p = parts();
    write_at(p.at);
    assert_int_equal(change(p.at, REPLICA_CHANGE_REMOVE, p.id, 0), 0);
    wait_until(!strcmp(role_of(p.at, p.id), "none"));
    wait_until(c.m[p.id].fatals == 1);
    if (!strstr(c.m[p.id].fatal, "removed"))
        fail_msg("%s", c.m[p.id].fatal);
    writes_went_well();
    assert_int_equal(change(p.at, REPLICA_CHANGE_REMOVE, p.id, 0), 0); /* asked for again: it is out */
}

/* It comes back later and is told, although it never heard of it. */
static void a_member_that_was_removed_while_it_was_away_does_not_serve(void **state)
{
    struct buf why = {0};
    struct parts p;

    (void)state;
    up(3);
    p = parts();
    member_down(&c.m[p.id]);
    assert_int_equal(change(p.at, REPLICA_CHANGE_REMOVE, p.id, 0), 0);
    if (!member_start(&c.m[p.id], &why))
        wait_until(c.m[p.id].fatals == 1);
    if (!strstr(c.m[p.id].fatal, "removed"))
        fail_msg("%s", c.m[p.id].fatal);
    buf_fini(&why);
}

static void a_leader_that_is_removed_hands_over_first(void **state)
{
    struct parts p;

    (void)state;
    up(3);
    p = parts();
    write_at(p.at);
    assert_int_equal(change(p.at, REPLICA_CHANGE_REMOVE, p.leader, 0), 0);
    wait_until(c.m[p.leader].fatals == 1);
    writes_went_well();
}

static void three_become_one(void **state)
{
    uint32_t last;

    (void)state;
    up(3);
    last = parts().at;
    write_at(last);
    for (uint32_t id = 1; id <= 3; id++)
        if (id != last) {
            assert_int_equal(change(last, REPLICA_CHANGE_REMOVE, id, 0), 0);
            wait_until(c.m[id].fatals == 1);
        }
    writes_went_well();
    wait_until(cluster_status(&c, last).n_voters == 1 && !replica_barrier_needed(c.m[last].r));
    assert_int_equal(change(last, REPLICA_CHANGE_REMOVE, last, 0), QE_BUSY);
}

/* Its store thread stands still in a callback. */
struct standing_still {
    struct replica_request req;
    _Atomic bool stands, go;
};

static void stand_still(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct standing_still *s = req->data;

    (void)rev;
    (void)ino;
    assert_int_equal(err, 0);
    atomic_store(&s->stands, true);
    while (!atomic_load(&s->go))
        usleep(1000);
    atomic_store(&s->stands, false);
}

/* A standby answers from its own store, which may be ahead of that of the only voter. */
static void what_a_standby_was_told_can_only_be_read_behind_a_barrier(void **state)
{
    struct store_op op = {.kind = STORE_OP_COMMIT, .parent = STORE_ROOT_INO, .name = {"held", 4}, .mode = 0644};
    struct store_command cmd = {.comm = "test", .ops = &op, .n_ops = 1};
    struct standing_still held = {.req.data = &held, .req.cb = stand_still};

    (void)state;
    up(2);
    assert_int_equal(change(1, REPLICA_CHANGE_ROLE, 2, STORE_MEMBER_STANDBY), 0);
    wait_until(cluster_leader(&c) == 1 && cluster_status(&c, 1).n_voters == 1);
    op.new_ino = replica_new_ino(c.m[1].r, STORE_FILE);
    replica_submit(c.m[1].r, &held.req, &cmd);
    wait_until(atomic_load(&held.stands));
    assert_int_equal(member_put(&c.m[2], "a", "1"), 0);
    assert_false(cluster_has(&c, 1, "a", "1"));
    assert_true(replica_barrier_needed(c.m[1].r));
    atomic_store(&held.go, true);
    wait_until(cluster_has(&c, 1, "a", "1") && !atomic_load(&held.stands));
}

/* Neither can be waited for, and as long as the first one votes a third failure is the end. */
static void two_dead_of_five_are_removed_one_after_the_other(void **state)
{
    uint32_t at, dead[2];

    (void)state;
    up(5);
    at = cluster_leader(&c);
    for (unsigned i = 0; i < 2; i++) {
        dead[i] = (at + i) % 5 + 1;
        member_down(&c.m[dead[i]]);
    }
    wait_until(cluster_is(&c, at, dead[0], NULL, "unreachable") && cluster_is(&c, at, dead[1], NULL, "unreachable"));
    assert_int_equal(change(at, REPLICA_CHANGE_REMOVE, dead[0], 0), 0);
    wait_until(cluster_status(&c, at).n_voters == 4);
    assert_int_equal(change(at, REPLICA_CHANGE_ROLE, dead[1], STORE_MEMBER_STANDBY), 0);
    wait_until(cluster_status(&c, at).n_voters == 3);
    assert_int_equal(change(at, REPLICA_CHANGE_ROLE, dead[1], STORE_MEMBER_VOTER), QE_BUSY);
    assert_int_equal(change(at, REPLICA_CHANGE_REMOVE, dead[1], 0), 0);
    wait_until(all_ok(at, 3));
    assert_int_equal(member_put(&c.m[at], "after", "x"), 0);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static void what_would_leave_no_healthy_majority_is_busy(void **state)
{
    struct parts p;

    (void)state;
    up(3);
    p = parts();
    member_down(&c.m[p.id]);
    wait_until(!all_ok(p.at, 3));
    /* Two of three are left: one of them cannot go, the dead one can. */
    assert_int_equal(change(p.at, REPLICA_CHANGE_REMOVE, p.at, 0), QE_BUSY);
    assert_int_equal(change(p.at, REPLICA_CHANGE_ROLE, p.at, STORE_MEMBER_STANDBY), QE_BUSY);
    assert_int_equal(change(p.at, REPLICA_CHANGE_LEADER, p.id, 0), QE_BUSY);
    assert_int_equal(change(p.at, REPLICA_CHANGE_REMOVE, 9, 0), QE_NOENT);
    assert_int_equal(change(p.at, REPLICA_CHANGE_LEADER, 9, 0), QE_NOENT);
    assert_int_equal(change(p.at, REPLICA_CHANGE_REMOVE, p.id, 0), 0);
    wait_until(all_ok(p.at, 2));
}

static void without_a_leader_it_times_out(void **state)
{
    struct parts p;

    (void)state;
    up(3);
    p = parts();
    member_down(&c.m[p.id]);
    member_down(&c.m[p.leader]);
    wait_until(cluster_status(&c, p.at).leader == 0);
    assert_int_equal(change(p.at, REPLICA_CHANGE_REMOVE, p.id, 0), QE_TIMEDOUT);
}

/* An entry is on its way and nobody acknowledges it; leadership is being handed to a member that stands still, and more is written. When
 * that has come to nothing the entry is still on its way. */
static void nobody_takes_the_leadership_over_while_an_entry_is_on_its_way(void **state)
{
    struct replica_request handover = {.data = &burst.put[99], .cb = put_cb};
    uint64_t before;

    (void)state;
    one_leads_two_processes(NULL);
    the_others_stand_still();
    before = cluster_status(&c, 1).last_index;
    put_another();
    wait_until(cluster_status(&c, 1).last_index > before);
    replica_change(c.m[1].r, &handover, REPLICA_CHANGE_LEADER, 2, 0);
    wait_until((put_another(), burst.n == 90));
    wait_until(strcmp(cluster_status(&c, 1).role, "leader") != 0); /* it cannot reach a majority */
    kill(child[2], SIGCONT);
    kill(child[3], SIGCONT);
    wait_until(all_answered(1) && atomic_load(&burst.put[99].answers) == 1);
    wait_until(member_put(&c.m[1], "after", "x") == 0);
    assert_true(all_answered(1));
}

/* The first of the other voters stands still: the leadership goes to the second, at once. One that waits for the first waits for two election
 * timeouts, which are long here, since a busy machine takes its time for all this. */
static void a_leader_that_stops_hands_over_to_one_that_is_there(void **state)
{
    struct timespec begun, ended;

    (void)state;
    one_leads_two_processes("5s");
    kill(child[2], SIGSTOP);
    wait_until(cluster_is(&c, 1, 2, NULL, "unreachable"));
    clock_gettime(CLOCK_MONOTONIC, &begun);
    member_down(&c.m[1]);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    kill(child[2], SIGCONT);
    assert_true((ended.tv_sec - begun.tv_sec) * 1000 + (ended.tv_nsec - begun.tv_nsec) / 1000000 < 9500);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_voter_becomes_a_standby_and_votes_again),
        TEST(leadership_is_handed_over),
        TEST(a_removed_member_is_told_and_stops),
        TEST(a_member_that_was_removed_while_it_was_away_does_not_serve),
        TEST(a_leader_that_is_removed_hands_over_first),
        TEST(three_become_one),
        TEST(two_dead_of_five_are_removed_one_after_the_other),
        TEST(what_a_standby_was_told_can_only_be_read_behind_a_barrier),
        TEST(what_would_leave_no_healthy_majority_is_busy),
        TEST(without_a_leader_it_times_out),
        TEST(nobody_takes_the_leadership_over_while_an_entry_is_on_its_way),
        TEST(a_leader_that_stops_hands_over_to_one_that_is_there),
    };

    cluster_serves(argc, argv);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("change", tests, NULL, NULL);
}
