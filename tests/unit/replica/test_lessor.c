/* How long leases and sessions live: the decisions of the leader, with a clock of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "replica/lessor.h"
#include "store/base/err.h"

#define SEC INT64_C(1000000000)
#define MIN (60 * SEC)

/* ---- Fixture ------------------------------------------------------------------------------------------------------------- */

static struct lessor l;
static int64_t now;

static int setup(void **state)
{
    (void)state;
    l = (struct lessor){0};
    now = 1000 * SEC;
    lessor_set_session_ttl(&l, 10 * SEC, now);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    lessor_fini(&l);
    return 0;
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static void tell(enum store_life_kind kind, uint64_t id, int64_t ttl, int64_t left, bool renewed)
{
    struct store_life_event e = {.kind = kind, .id = id, .ttl_ns = ttl, .left_ns = left, .renewed = renewed, .member = 1};

    assert_int_equal(lessor_take(&l, &e, now), 0);
}

static void grant(uint64_t id, int64_t ttl)
{
    tell(STORE_LIFE_LEASE, id, ttl, 0, true);
}

static void session(uint64_t id)
{
    tell(STORE_LIFE_SESSION, id, 0, 0, false);
}

/* The id of what ends now; 0: nothing does. */
static uint64_t due(void)
{
    const struct life *life = lessor_due(&l, now);

    return life ? life->id : 0;
}

static uint64_t propose(void)
{
    struct life *life = lessor_due(&l, now);

    assert_non_null(life);
    lessor_proposed(&l, life);
    return life->id;
}

static void ends_at(uint64_t id, int64_t at)
{
    now = at - 1;
    assert_int_equal(due(), 0);
    now = at;
    assert_int_equal(due(), id);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void a_lease_ends_when_its_ttl_has_passed(void **state)
{
    (void)state;
    lessor_begin(&l, now);
    grant(7, 10 * SEC);
    ends_at(7, now + 10 * SEC);
}

static void a_renewal_begins_the_ttl_anew(void **state)
{
    int64_t start = now;

    (void)state;
    lessor_begin(&l, now);
    grant(7, 10 * SEC);
    now = start + 9 * SEC;
    assert_int_equal(lessor_renew(&l, 7, now), LESSOR_RENEWED);
    assert_int_equal(lessor_left(&l, 7, now), 10 * SEC);
    ends_at(7, start + 19 * SEC);
}

/* Also one that is shorter than what was left. */
static void a_new_ttl_counts_from_its_command(void **state)
{
    int64_t start = now;

    (void)state;
    lessor_begin(&l, now);
    grant(7, 100 * SEC);
    now = start + SEC;
    tell(STORE_LIFE_LEASE, 7, 5 * SEC, 0, true);
    ends_at(7, start + 6 * SEC);
}

static void each_of_many_ends_in_its_second(void **state)
{
    enum { MANY = 2000 };
    int64_t start = now;

    (void)state;
    lessor_begin(&l, now);
    srand(1);
    for (uint64_t id = 1; id <= MANY; id++)
        grant(id, (1 + rand() % 1000) * SEC);
    for (uint64_t id = 1; id <= MANY; id += 3)
        tell(STORE_LIFE_LEASE_GONE, id, 0, 0, false);
    for (uint64_t id = 2; id <= MANY; id += 3) {
        now = start + rand() % SEC;
        assert_int_equal(lessor_renew(&l, id, now), LESSOR_RENEWED);
    }
    for (now = start; now <= start + 1001 * SEC; now += SEC) {
        struct life *life;

        while ((life = lessor_due(&l, now)) != NULL) {
            assert_in_range(life->deadline_ns, now - SEC + 1, now);
            lessor_proposed(&l, life);
            tell(STORE_LIFE_LEASE_GONE, life->id, 0, 0, false);
        }
    }
    assert_int_equal(lessor_count(&l), 0);
}

/* The leader waits longer than the member counts. */
static void a_session_lives_a_tenth_longer_than_its_member_counts(void **state)
{
    int64_t start = now;

    (void)state;
    lessor_begin(&l, now);
    session(3);
    now = start + 5 * SEC;
    assert_true(lessor_session(&l, 3, 10 * SEC, now));
    ends_at(3, start + 16 * SEC);
}

/* It has nothing to lose until it is kept alive again. */
static void a_session_that_lapsed_is_counted_again_when_it_is_heard_of(void **state)
{
    (void)state;
    lessor_begin(&l, now);
    session(3);
    now += 11 * SEC;
    assert_int_equal(propose(), 3);
    assert_false(lessor_session(&l, 3, 10 * SEC, now));
    lessor_over(&l, true, 3, LESSOR_ENDED, now);
    now += 100 * SEC;
    assert_int_equal(due(), 0);
    assert_true(lessor_session(&l, 3, 10 * SEC, now));
    ends_at(3, now + 11 * SEC);
}

/* It asked for a lock after that: while its end is being written down, and later. */
static void a_session_that_lapsed_is_counted_again_when_it_asks_for_a_lock(void **state)
{
    (void)state;
    lessor_begin(&l, now);
    session(3);
    now += 11 * SEC;
    assert_int_equal(propose(), 3);
    session(3);
    lessor_over(&l, true, 3, LESSOR_ENDED, now);
    ends_at(3, now + 11 * SEC);
    assert_int_equal(propose(), 3);
    lessor_over(&l, true, 3, LESSOR_ENDED, now);
    now += 100 * SEC;
    assert_int_equal(due(), 0);
    session(3);
    ends_at(3, now + 11 * SEC);
}

/* A lease and a session may have the same number. */
static void leases_and_sessions_are_told_apart(void **state)
{
    (void)state;
    lessor_begin(&l, now);
    grant(3, 10 * SEC);
    session(3);
    tell(STORE_LIFE_SESSION_GONE, 3, 0, 0, false);
    assert_false(lessor_session(&l, 3, 10 * SEC, now));
    ends_at(3, now + 10 * SEC);
}

/* ---- Another leader ------------------------------------------------------------------------------------------------------ */

static void a_new_leader_gives_all_their_whole_ttl(void **state)
{
    (void)state;
    grant(7, 20 * SEC);
    session(3);
    now += 1000 * SEC;
    assert_int_equal(due(), 0); /* another member counts */
    lessor_begin(&l, now);
    ends_at(3, now + 11 * SEC);
    assert_int_equal(propose(), 3);
    ends_at(7, now + 9 * SEC);
}

static void a_new_leader_gives_what_a_checkpoint_left(void **state)
{
    (void)state;
    grant(7, 60 * MIN);
    tell(STORE_LIFE_LEASE, 7, 60 * MIN, 20 * MIN, false);
    lessor_begin(&l, now);
    ends_at(7, now + 20 * MIN);
}

/* What an earlier tenure wanted is nothing to the next one. */
static void a_new_tenure_begins_anew(void **state)
{
    (void)state;
    lessor_begin(&l, now);
    grant(7, 10 * SEC);
    now += 10 * SEC;
    assert_int_equal(propose(), 7);
    lessor_stop(&l);
    lessor_begin(&l, now);
    assert_int_equal(lessor_renew(&l, 7, now), LESSOR_RENEWED);
    ends_at(7, now + 10 * SEC);
}

/* A session TTL that is lowered: members that have not heard count the longer one for a while. */
static void a_new_leader_waits_for_those_that_count_a_former_session_ttl(void **state)
{
    (void)state;
    session(3);
    lessor_set_session_ttl(&l, 60 * SEC, now);
    lessor_set_session_ttl(&l, 5 * SEC, now);
    lessor_begin(&l, now);
    ends_at(3, now + 66 * SEC);
    lessor_stop(&l);
    now += SEC;
    lessor_begin(&l, now);
    ends_at(3, now + 5 * SEC + SEC / 2);
}

/* The answer to the first keepalive with the new one may be lost: the one before still counts. */
static void a_shorter_session_ttl_does_not_shorten_what_was_promised(void **state)
{
    int64_t start = now;

    (void)state;
    lessor_begin(&l, now);
    session(3);
    assert_true(lessor_session(&l, 3, 60 * SEC, now));
    lessor_set_session_ttl(&l, SEC, now);
    now += SEC;
    assert_true(lessor_session(&l, 3, SEC, now));
    ends_at(3, start + 66 * SEC);
}

/* ---- Ends that fail ------------------------------------------------------------------------------------------------------ */

static void a_lease_whose_end_is_proposed_is_not_renewed(void **state)
{
    (void)state;
    lessor_begin(&l, now);
    grant(7, 10 * SEC);
    now += 10 * SEC;
    assert_int_equal(propose(), 7);
    assert_int_equal(lessor_renew(&l, 7, now), LESSOR_GONE);
    assert_int_equal(lessor_left(&l, 7, now), -1);
    assert_int_equal(due(), 0); /* once is enough */
}

/* Nobody knows whether the first one is committed: there is no way back. */
static void an_end_that_fails_is_proposed_again_and_not_taken_back(void **state)
{
    (void)state;
    lessor_begin(&l, now);
    grant(7, 10 * SEC);
    now += 10 * SEC;
    assert_int_equal(propose(), 7);
    lessor_over(&l, false, 7, LESSOR_FAILED, now);
    assert_int_equal(lessor_renew(&l, 7, now), LESSOR_GONE);
    assert_int_equal(due(), 0);
    now += SEC;
    assert_int_equal(propose(), 7);
}

static void a_lease_of_many_files_is_ended_in_parts(void **state)
{
    (void)state;
    lessor_begin(&l, now);
    grant(7, 10 * SEC);
    now += 10 * SEC;
    assert_int_equal(propose(), 7);
    tell(STORE_LIFE_LEASE, 7, 10 * SEC, 1, false);
    lessor_over(&l, false, 7, LESSOR_MORE, now);
    assert_int_equal(propose(), 7);
    assert_int_equal(lessor_renew(&l, 7, now), LESSOR_GONE);
}

/* The log had the new TTL before EXPIRE, which the store refused. */
static void a_new_ttl_wins_against_an_end_under_way(void **state)
{
    (void)state;
    lessor_begin(&l, now);
    grant(7, 10 * SEC);
    now += 10 * SEC;
    assert_int_equal(propose(), 7);
    tell(STORE_LIFE_LEASE, 7, 20 * SEC, 0, true);
    assert_int_equal(lessor_renew(&l, 7, now), LESSOR_RENEWED);
    lessor_over(&l, false, 7, LESSOR_FAILED, now);
    ends_at(7, now + 20 * SEC);
}

static void what_is_not_there_is_gone(void **state)
{
    (void)state;
    lessor_begin(&l, now);
    assert_int_equal(lessor_renew(&l, 7, now), LESSOR_GONE);
    assert_int_equal(lessor_left(&l, 7, now), -1);
    assert_false(lessor_session(&l, 3, SEC, now));
    lessor_over(&l, false, 7, LESSOR_FAILED, now);
    tell(STORE_LIFE_LEASE_GONE, 7, 0, 0, false);
}

/* ---- Checkpoints --------------------------------------------------------------------------------------------------------- */

static void short_leases_have_no_checkpoints(void **state)
{
    (void)state;
    lessor_begin(&l, now);
    grant(7, 5 * MIN);
    now += 4 * MIN;
    assert_int_equal(lessor_points(&l, now), 0);
}

/* No log entry for those that are renewed often, however long they are. */
static void leases_that_are_kept_have_no_checkpoints(void **state)
{
    (void)state;
    lessor_begin(&l, now);
    grant(7, 60 * MIN);
    for (int k = 0; k < 50; k++) {
        now += 100 * SEC;
        assert_int_equal(lessor_renew(&l, 7, now), LESSOR_RENEWED);
        assert_int_equal(lessor_points(&l, now), 0);
    }
}

static void a_long_lease_is_checkpointed_now_and_then(void **state)
{
    int points = 0;

    (void)state;
    lessor_begin(&l, now);
    grant(7, 60 * MIN);
    for (int k = 0; k < 59 * 60; k++) {
        now += SEC;
        if (lessor_points(&l, now) == 0)
            continue;
        points++;
        assert_int_equal(l.points[0].left_ns, lessor_left(&l, 7, now));
        tell(STORE_LIFE_LEASE, 7, 60 * MIN, l.points[0].left_ns, false);
        lessor_points_over(&l);
    }
    assert_in_range(points, 8, 11); /* each five minutes */
}

/* At most one a minute, for all that need it. */
static void checkpoints_are_one_for_many(void **state)
{
    (void)state;
    lessor_begin(&l, now);
    for (uint64_t id = 1; id <= 100; id++)
        grant(id, 60 * MIN);
    now += 6 * MIN;
    assert_int_equal(lessor_points(&l, now), 100);
    assert_int_equal(lessor_points(&l, now), 0); /* it is under way */
    lessor_points_over(&l);
    now += 59 * SEC;
    assert_int_equal(lessor_points(&l, now), 0);
}

/* A new leader would give it what the checkpoint said: so that goes first. */
static void a_renewal_after_a_checkpoint_waits_for_another(void **state)
{
    (void)state;
    lessor_begin(&l, now);
    grant(7, 60 * MIN);
    tell(STORE_LIFE_LEASE, 7, 60 * MIN, 20 * MIN, false);
    assert_int_equal(lessor_renew(&l, 7, now), LESSOR_LATER);
    assert_int_equal(lessor_renew(&l, 7, now), LESSOR_LATER);
    assert_int_equal(lessor_points(&l, now), 1);
    assert_int_equal(l.points[0].left_ns, 0);
    assert_int_equal(lessor_renew(&l, 7, now), LESSOR_LATER); /* it is not committed */
    tell(STORE_LIFE_LEASE, 7, 60 * MIN, 0, false);
    lessor_points_over(&l);
    assert_int_equal(lessor_renew(&l, 7, now), LESSOR_RENEWED);
    now += SEC;
    assert_int_equal(lessor_points(&l, now), 0);
}

static void a_renewal_while_a_checkpoint_is_under_way_waits(void **state)
{
    (void)state;
    lessor_begin(&l, now);
    grant(7, 60 * MIN);
    now += 6 * MIN;
    assert_int_equal(lessor_points(&l, now), 1);
    assert_int_equal(lessor_renew(&l, 7, now), LESSOR_LATER);
    tell(STORE_LIFE_LEASE, 7, 60 * MIN, l.points[0].left_ns, false);
    lessor_points_over(&l);
    assert_int_equal(lessor_points(&l, now), 1);
    assert_int_equal(l.points[0].left_ns, 0);
}

/* One that waits for its checkpoint may go meanwhile. */
static void a_lease_that_goes_leaves_no_wish(void **state)
{
    (void)state;
    lessor_begin(&l, now);
    for (uint64_t id = 1; id <= 3; id++) {
        grant(id, 60 * MIN);
        tell(STORE_LIFE_LEASE, id, 60 * MIN, MIN, false);
        assert_int_equal(lessor_renew(&l, id, now), LESSOR_LATER);
    }
    tell(STORE_LIFE_LEASE_GONE, 2, 0, 0, false);
    assert_int_equal(lessor_points(&l, now), 2);
}

/* ---- By chance ----------------------------------------------------------------------------------------------------------- */

enum { LEASES = 40, LOG = 64 };
static struct truth { /* a lease: what the store has, and what clients know */
    int64_t ttl_ns, left_ns; /* ttl_ns 0: there is none */
    uint64_t changed;        /* index of the entry that last changed its TTL */
    int64_t renewed_ns;      /* its last acknowledged renewal */
} truth[LEASES + 1];
enum kind { EXPIRES, CHANGES, POINTS };
static struct entry { /* in the log and not applied, in order */
    enum kind kind;
    uint64_t id, seen, tenure;
    int64_t value;
} entries[LOG];
static int n_entries;
static uint64_t applied, tenure;

static void append(enum kind kind, uint64_t id, int64_t value)
{
    if (n_entries < LOG)
        entries[n_entries++] = (struct entry){kind, id, applied, tenure, value};
}

static void tell_lease(uint64_t id, bool renewed)
{
    tell(STORE_LIFE_LEASE, id, truth[id].ttl_ns, truth[id].left_ns, renewed);
}

static void apply_end(const struct entry *e, struct truth *t)
{
    bool refused = t->changed > e->seen;

    if (!refused) {
        assert_true(now - t->renewed_ns >= t->ttl_ns); /* never early */
        *t = (struct truth){0};
        tell(STORE_LIFE_LEASE_GONE, e->id, 0, 0, false);
    }
    if (e->tenure == tenure)
        lessor_over(&l, false, e->id, refused ? LESSOR_FAILED : LESSOR_ENDED, now);
}

/* What the store does with the first entry. A checkpoint is one entry for each lease here; its last one ends it. */
static void apply_one(void)
{
    struct entry e = entries[0];
    struct truth *t = &truth[e.id];

    if (n_entries == 0)
        return;
    n_entries--;
    for (int i = 0; i < n_entries; i++)
        entries[i] = entries[i + 1];
    applied++;
    if (e.kind == EXPIRES && t->ttl_ns) {
        apply_end(&e, t);
    } else if (e.kind == CHANGES) { /* or the grant of a new one */
        *t = (struct truth){.ttl_ns = e.value, .changed = applied, .renewed_ns = now};
        tell_lease(e.id, true);
    } else if (e.kind == POINTS) {
        if (t->ttl_ns && t->changed <= e.seen) {
            t->left_ns = e.value;
            tell_lease(e.id, false);
        }
        for (int i = 0; i < n_entries; i++)
            if (entries[i].kind == POINTS && entries[i].tenure == e.tenure)
                return;
        if (e.tenure == tenure)
            lessor_points_over(&l);
    }
}

/* Some of what is in the log is committed by the next one before it counts, the rest is lost. */
static void change_leader(void)
{
    lessor_stop(&l);
    tenure++;
    for (int i = rand() % (n_entries + 1); i > 0; i--)
        apply_one();
    n_entries = 0;
    now += rand() % 2 ? rand() % (10 * SEC) : 0;
    lessor_begin(&l, now);
}

static void propose_an_end(void)
{
    struct life *life = n_entries < LOG ? lessor_due(&l, now) : NULL;

    if (!life)
        return;
    lessor_proposed(&l, life);
    append(EXPIRES, life->id, 0);
}

static void propose_points(void)
{
    size_t n = n_entries < LOG - LEASES ? lessor_points(&l, now) : 0;

    for (size_t i = 0; i < n; i++)
        append(POINTS, l.points[i].id, l.points[i].left_ns);
}

static void step_by_chance(void)
{
    uint64_t id = 1 + (uint64_t)(rand() % LEASES);
    int what = rand() % 400;

    now += rand() % (5 * SEC);
    if (what < 1)
        change_leader();
    else if (what < 10)
        append(CHANGES, id, (1 + rand() % 3000) * SEC);
    else if (what < 60)
        propose_points();
    else if (what < 200)
        apply_one();
    else if (what < 220 && lessor_renew(&l, id, now) == LESSOR_RENEWED)
        truth[id].renewed_ns = now;
    else if (what < 300)
        propose_an_end();
}

static void let_all_end(void)
{
    for (int k = 0; k < 5000 && (lessor_count(&l) > 0 || n_entries > 0); k++) {
        now += 60 * SEC;
        while (n_entries > 0)
            apply_one();
        for (int i = 0; i < LOG; i++)
            propose_an_end();
    }
    assert_int_equal(lessor_count(&l), 0);
}

/* Over many changes of leaders, TTLs, renewals and checkpoints, with commands under way that are committed late or never: no lease ends before its
 * TTL since its last acknowledged renewal, and in the end all end. */
static void none_ends_early(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 40; seed++) {
        srand(seed);
        lessor_forget(&l);
        memset(truth, 0, sizeof truth);
        n_entries = 0;
        applied = tenure = 0;
        lessor_begin(&l, now);
        for (int k = 0; k < 10000; k++)
            step_by_chance();
        let_all_end();
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_lease_ends_when_its_ttl_has_passed), TEST(a_renewal_begins_the_ttl_anew), TEST(a_new_ttl_counts_from_its_command),
        TEST(each_of_many_ends_in_its_second), TEST(a_session_lives_a_tenth_longer_than_its_member_counts),
        TEST(a_session_that_lapsed_is_counted_again_when_it_is_heard_of), TEST(a_session_that_lapsed_is_counted_again_when_it_asks_for_a_lock),
        TEST(leases_and_sessions_are_told_apart),
        TEST(a_new_leader_gives_all_their_whole_ttl), TEST(a_new_leader_gives_what_a_checkpoint_left), TEST(a_new_tenure_begins_anew),
        TEST(a_new_leader_waits_for_those_that_count_a_former_session_ttl), TEST(a_shorter_session_ttl_does_not_shorten_what_was_promised),
        TEST(a_lease_whose_end_is_proposed_is_not_renewed),
        TEST(an_end_that_fails_is_proposed_again_and_not_taken_back), TEST(a_lease_of_many_files_is_ended_in_parts),
        TEST(a_new_ttl_wins_against_an_end_under_way), TEST(what_is_not_there_is_gone), TEST(short_leases_have_no_checkpoints),
        TEST(leases_that_are_kept_have_no_checkpoints), TEST(a_long_lease_is_checkpointed_now_and_then), TEST(checkpoints_are_one_for_many),
        TEST(a_renewal_after_a_checkpoint_waits_for_another), TEST(a_renewal_while_a_checkpoint_is_under_way_waits),
        TEST(a_lease_that_goes_leaves_no_wish), TEST(none_ends_early),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
