/* Locks: who gets what, and when; splitting, order of arrival, circles; what ends with a session. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/err.h"
#include "tests/unit/store/kit.h"

enum { SH = 0, EX = STORE_LOCK_EXCLUSIVE, NB = STORE_LOCK_NOWAIT };
#define INO UINT64_C(44)

/* ---- Fixture ------------------------------------------------------------------------------------------------------------- */

/* A second session, of another member, beside the kit's own; `use` says whose the next commands are. */
static struct { uint64_t session, seq; uint32_t member; } people[3];
static int who;

static void use(struct kit *k, int i)
{
    people[who].session = k->session;
    people[who].seq = k->seq;
    who = i;
    k->session = people[i].session;
    k->seq = people[i].seq;
}

static int as_op(struct kit *k, const struct store_op *op)
{
    struct store_command cmd = kit_command(k, op, 1);

    cmd.member = people[who].member;
    assert_int_equal(kit_apply(k, &cmd, 1), 0);
    return k->res.err;
}

static void join(struct kit *k, int i)
{
    int old = who;

    use(k, i);
    people[i].member = KIT_MEMBER + (uint32_t)i;
    k->session = 0;
    k->seq = k->nonce++;
    assert_int_equal(as_op(k, &(struct store_op){.kind = STORE_OP_SESSION}), 0);
    k->session = k->res.ino;
    k->seq = 0;
    use(k, old);
}

static int setup(void **state)
{
    struct kit *k;

    kit_setup(state);
    k = *state;
    memset(people, 0, sizeof people);
    who = 0;
    people[0].member = KIT_MEMBER;
    join(k, 1);
    return 0;
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static int named(struct kit *k, const char *name, uint64_t owner, uint64_t request, uint32_t flags)
{
    return as_op(k, &(struct store_op){.kind = STORE_OP_LOCK, .name = kit_str(name), .owner = owner, .request = request, .flags = STORE_LOCK_NAMED | flags});
}

static int unnamed(struct kit *k, const char *name, uint64_t owner, uint64_t request)
{
    return as_op(k, &(struct store_op){.kind = STORE_OP_UNLOCK, .name = kit_str(name), .owner = owner, .request = request, .flags = STORE_LOCK_NAMED});
}

static int whole(struct kit *k, uint64_t owner, uint64_t request, uint32_t flags)
{
    return as_op(k, &(struct store_op){.kind = STORE_OP_LOCK, .ino = INO, .owner = owner, .request = request, .flags = STORE_LOCK_WHOLE | flags});
}

static int unwhole(struct kit *k, uint64_t owner, uint64_t request)
{
    return as_op(k, &(struct store_op){.kind = STORE_OP_UNLOCK, .ino = INO, .owner = owner, .request = request, .flags = STORE_LOCK_WHOLE});
}

static int range_on(struct kit *k, uint64_t ino, uint64_t owner, uint64_t request, int64_t first, int64_t last, uint32_t flags)
{
    return as_op(k, &(struct store_op){.kind = STORE_OP_LOCK, .ino = ino, .owner = owner, .request = request, .first = first, .last = last,
                                       .flags = STORE_LOCK_RANGE | flags});
}

static int range(struct kit *k, uint64_t owner, uint64_t request, int64_t first, int64_t last, uint32_t flags)
{
    return range_on(k, INO, owner, request, first, last, flags);
}

static int unrange(struct kit *k, uint64_t owner, uint64_t request, int64_t first, int64_t last)
{
    return as_op(k, &(struct store_op){.kind = STORE_OP_UNLOCK, .ino = INO, .owner = owner, .request = request, .first = first, .last = last,
                                       .flags = STORE_LOCK_RANGE});
}

static int unwaiting(struct kit *k, uint64_t owner, uint64_t request)
{
    return as_op(k, &(struct store_op){.kind = STORE_OP_UNLOCK, .ino = INO, .owner = owner, .request = request, .flags = STORE_LOCK_RANGE | STORE_LOCK_WAITING});
}

static int proclaim(struct kit *k, const char *name, uint64_t owner, int64_t token, const char *text)
{
    return as_op(k, &(struct store_op){.kind = STORE_OP_PROCLAIM, .name = kit_str(name), .owner = owner, .rev = token, .bytes = kit_str(text)});
}

static bool line(void *data, const struct store_lock *l)
{
    struct buf *out = data;

    (void)buf_printf(out, "%s%" PRIu64 "%s", l->member == KIT_MEMBER ? "" : "b", l->owner, l->exclusive ? "x" : "s");
    if (l->class == STORE_LOCK_RANGE)
        (void)buf_printf(out, "%" PRId64 "-%" PRId64, l->first, l->last);
    (void)buf_printf(out, "%s ", l->token ? "" : "?");
    return true;
}

/* All locks in order of arrival: owner ("b": of the other member), x or s, bytes, "?" when it waits. */
#define are(k, text) assert_are(k, text, __LINE__)
static void assert_are(struct kit *k, const char *text, int at)
{
    struct buf out = {0};

    assert_int_equal(store_locks(k->r, 0, line, &out), 0);
    if (strcmp(buf_cstr(&out), text))
        fail_msg("line %d: \"%s\", expected \"%s\"", at, buf_cstr(&out), text);
    buf_fini(&out);
}

static void events_are(struct kit *k, const char *text)
{
    assert_string_equal(buf_cstr(&k->locks), text);
}

/* "granted" of one who waited, by the newest command. */
static void granted(struct kit *k, int person, uint64_t owner, uint64_t request)
{
    char text[100];

    snprintf(text, sizeof text, "granted %" PRIu64 "/%" PRIu64 "/%" PRIu64 "@%" PRId64 "; ", person == who ? k->session : people[person].session, owner,
             request, kit_glance(k).rev);
    if (!strstr(buf_cstr(&k->locks), text))
        fail_msg("\"%s\" is not in \"%s\"", text, buf_cstr(&k->locks));
}

static void value_is(struct kit *k, const char *name, const char *text)
{
    struct store_lock l;
    struct buf value = {0};
    int64_t waiting;

    assert_int_equal(store_lock(k->r, name, &l, &value, &waiting), 0);
    assert_string_equal(buf_cstr(&value), text);
    assert_int_equal(store_lock(k->r, name, &l, NULL, NULL), 0);
    buf_fini(&value);
}

/* ---- Named ones ---------------------------------------------------------------------------------------------------------- */

static void the_first_gets_it_and_its_revision_is_the_token(void **state)
{
    struct kit *k = *state;
    int64_t rev = kit_glance(k).rev;

    assert_int_equal(named(k, "db", 1, 1, EX), 0);
    assert_true(k->res.rev == rev + 1 && kit_glance(k).rev == rev + 1);
    events_are(k, "changed db; ");
    assert_int_equal(named(k, "db", 1, 2, EX), 0); /* has it */
    assert_true(k->res.rev == rev + 1 && kit_glance(k).rev == rev + 1);
    events_are(k, "");
    assert_int_equal(kit_put(k, STORE_ROOT_INO, "f", "x"), 0);
    assert_int_equal(named(k, "db", 1, 3, EX), 0);
    assert_true(k->res.rev == rev + 1); /* its token, not the newest revision */
    assert_int_equal(kit_glance(k).n_locks, 1);
    are(k, "1x ");
}

static void others_wait_in_the_order_of_arrival(void **state)
{
    struct kit *k = *state;
    int64_t rev;
    int64_t waiting;
    struct store_lock l;

    assert_int_equal(named(k, "db", 1, 1, EX), 0);
    rev = kit_glance(k).rev;
    use(k, 1);
    assert_int_equal(named(k, "db", 1, 1, EX), QE_QUEUED);
    use(k, 0);
    assert_int_equal(named(k, "db", 2, 2, EX), QE_QUEUED);
    assert_int_equal(named(k, "db", 3, 3, EX | NB), QE_WOULDBLOCK);
    assert_true(kit_glance(k).rev == rev); /* waiting takes none */
    events_are(k, "");
    are(k, "1x b1x? 2x? ");
    assert_int_equal(store_lock(k->r, "db", &l, NULL, &waiting), 0);
    assert_true(waiting == 2 && l.owner == 1 && l.token == rev && l.member == KIT_MEMBER && !strcmp(l.comm, "test") && l.pid == 4711);
    assert_int_equal(unnamed(k, "db", 1, 0), 0);
    assert_true(kit_glance(k).rev == rev + 1);
    granted(k, 1, 1, 1);
    are(k, "b1x 2x? ");
    use(k, 1);
    assert_int_equal(unnamed(k, "db", 1, 1), 0);
    granted(k, 0, 2, 2);
    use(k, 0);
    assert_int_equal(unnamed(k, "db", 2, 2), 0);
    assert_true(kit_glance(k).rev == rev + 2); /* nobody got it */
    events_are(k, "changed db; ");
    assert_int_equal(store_lock(k->r, "db", &l, NULL, &waiting), QE_NOENT);
    assert_int_equal(waiting, 0);
    assert_int_equal(unnamed(k, "db", 2, 2), 0);
    events_are(k, "");
    are(k, "");
}

static void who_withdraws_waits_no_more(void **state)
{
    struct kit *k = *state;

    assert_int_equal(named(k, "db", 1, 1, SH), 0);
    assert_int_equal(named(k, "db", 2, 2, EX), QE_QUEUED);
    assert_int_equal(named(k, "db", 3, 3, SH), QE_QUEUED); /* behind the one who asked first */
    assert_int_equal(unnamed(k, "db", 2, 2), 0);
    granted(k, 0, 3, 3);
    are(k, "1s 3s ");
    assert_int_equal(unnamed(k, "db", 3, 2), 0); /* had been given back */
    are(k, "1s 3s ");
}

/* The answer to the withdrawal of what has been granted meanwhile is that it is given back. */
static void a_withdrawal_that_meets_a_grant_releases_it(void **state)
{
    struct kit *k = *state;

    assert_int_equal(named(k, "db", 1, 1, EX), 0);
    assert_int_equal(named(k, "db", 2, 2, EX), QE_QUEUED);
    assert_int_equal(named(k, "db", 3, 3, EX), QE_QUEUED);
    assert_int_equal(unnamed(k, "db", 1, 0), 0);
    are(k, "2x 3x? ");
    assert_int_equal(unnamed(k, "db", 2, 2), 0);
    granted(k, 0, 3, 3);
    are(k, "3x ");
}

/* Who waited for more of what it holds, or for another kind, keeps that. */
static void only_what_waits_is_withdrawn(void **state)
{
    struct kit *k = *state;
    int64_t rev;

    assert_int_equal(range(k, 1, 1, 0, 9, SH), 0);
    assert_int_equal(range(k, 2, 2, 0, 9, SH), 0);
    assert_int_equal(range(k, 1, 3, 0, 9, EX), QE_QUEUED);
    rev = kit_glance(k).rev;
    assert_int_equal(unwaiting(k, 1, 3), 0);
    are(k, "1s0-9 2s0-9 ");
    assert_int_equal(unwaiting(k, 1, 3), 0); /* waits no more */
    assert_int_equal(unwaiting(k, 1, 9), 0); /* never asked for */
    are(k, "1s0-9 2s0-9 ");
    assert_true(kit_glance(k).rev == rev);
}

static void what_was_granted_is_not_withdrawn(void **state)
{
    struct kit *k = *state;
    int64_t rev;

    assert_int_equal(range(k, 1, 1, 0, 9, SH), 0);
    assert_int_equal(range(k, 2, 2, 0, 9, SH), 0);
    assert_int_equal(range(k, 1, 3, 0, 9, EX), QE_QUEUED);
    assert_int_equal(unrange(k, 2, 0, 0, 9), 0);
    granted(k, 0, 1, 3);
    rev = kit_glance(k).rev;
    assert_int_equal(unwaiting(k, 1, 3), QE_BUSY);
    are(k, "1x0-9 ");
    assert_true(kit_glance(k).rev == rev);
    assert_int_equal(unrange(k, 1, 0, 3, 5), 0);
    assert_int_equal(unwaiting(k, 1, 3), QE_BUSY); /* of a part it is held */
    assert_int_equal(range(k, 1, 4, 0, 9, SH), 0);
    assert_int_equal(unwaiting(k, 1, 3), 0); /* of nothing any more: its owner has got something else there */
    are(k, "1s0-9 ");
    assert_int_equal(whole(k, 1, 5, EX), 0);
    assert_int_equal(whole(k, 2, 6, EX), QE_QUEUED);
    assert_int_equal(as_op(k, &(struct store_op){.kind = STORE_OP_UNLOCK, .ino = INO, .owner = 1, .request = 5, .flags = STORE_LOCK_WHOLE | STORE_LOCK_WAITING}),
                     QE_BUSY);
    are(k, "1s0-9 1x 2x? ");
}

static void who_stood_behind_a_withdrawn_one_moves_up(void **state)
{
    struct kit *k = *state;

    assert_int_equal(range(k, 1, 1, 0, 9, SH), 0);
    assert_int_equal(range(k, 2, 2, 0, 9, EX), QE_QUEUED);
    assert_int_equal(range(k, 3, 3, 0, 9, SH), QE_QUEUED);
    assert_int_equal(unwaiting(k, 2, 2), 0);
    granted(k, 0, 3, 3);
    are(k, "1s0-9 3s0-9 ");
}

static void several_who_share_get_it_in_one_revision(void **state)
{
    struct kit *k = *state;
    int64_t rev;

    assert_int_equal(named(k, "db", 1, 1, EX), 0);
    for (uint64_t i = 2; i < 5; i++)
        assert_int_equal(named(k, "db", i, i, SH), QE_QUEUED);
    assert_int_equal(named(k, "db", 5, 5, EX), QE_QUEUED);
    assert_int_equal(named(k, "db", 6, 6, SH), QE_QUEUED);
    rev = kit_glance(k).rev;
    assert_int_equal(unnamed(k, "db", 1, 1), 0);
    assert_true(kit_glance(k).rev == rev + 1);
    are(k, "2s 3s 4s 5x? 6s? ");
    granted(k, 0, 2, 2);
    granted(k, 0, 3, 3);
    granted(k, 0, 4, 4);
    assert_int_equal(kit_glance(k).n_locks, 3);
}

static void what_the_holder_proclaims_all_can_read(void **state)
{
    struct kit *k = *state;
    char long_text[STORE_LOCK_VALUE_MAX + 2];
    int64_t token;

    memset(long_text, 'v', sizeof long_text);
    long_text[sizeof long_text - 1] = 0;
    assert_int_equal(named(k, "db", 1, 1, EX), 0);
    token = k->res.rev;
    value_is(k, "db", "");
    assert_int_equal(proclaim(k, "db", 1, token, "host:1\n"), 0);
    assert_true(kit_glance(k).rev == token);
    events_are(k, "changed db; ");
    value_is(k, "db", "host:1\n");
    assert_int_equal(proclaim(k, "db", 1, token, "host:2\n"), 0);
    kit_reopen(k);
    value_is(k, "db", "host:2\n");
    assert_int_equal(proclaim(k, "db", 1, token + 1, "no"), QE_STALE);
    assert_int_equal(proclaim(k, "db", 2, token, "no"), QE_STALE);
    assert_int_equal(proclaim(k, "other", 1, token, "no"), QE_STALE);
    assert_int_equal(proclaim(k, "db", 1, token, long_text), QE_2BIG);
    assert_int_equal(proclaim(k, "a/b", 1, token, ""), QE_INVAL);
    value_is(k, "db", "host:2\n");
    assert_int_equal(named(k, "db", 2, 2, EX), QE_QUEUED);
    assert_int_equal(proclaim(k, "db", 2, 0, "no"), QE_STALE); /* waits */
    assert_int_equal(proclaim(k, "db", 1, token, ""), 0);
    value_is(k, "db", "");
    assert_int_equal(proclaim(k, "db", 1, token, "x"), 0);
    assert_int_equal(unnamed(k, "db", 1, 0), 0);
    value_is(k, "db", ""); /* of the next one */
}

static bool add_name(void *data, const char *name, size_t len)
{
    (void)buf_printf(data, "%.*s ", (int)len, name);
    return true;
}

static void names_are_listed_once(void **state)
{
    struct kit *k = *state;
    struct buf out = {0};

    assert_int_equal(named(k, "b", 1, 1, EX), 0);
    assert_int_equal(named(k, "b", 2, 2, EX), QE_QUEUED);
    assert_int_equal(named(k, "a", 1, 3, SH), 0);
    assert_int_equal(named(k, "c", 1, 4, SH), 0);
    assert_int_equal(whole(k, 1, 5, EX), 0);
    assert_int_equal(store_lock_names(k->r, "", add_name, &out), 0);
    assert_string_equal(buf_cstr(&out), "a b c ");
    buf_clear(&out);
    assert_int_equal(store_lock_names(k->r, "a", add_name, &out), 0);
    assert_string_equal(buf_cstr(&out), "b c ");
    buf_fini(&out);
}

/* ---- Whole files --------------------------------------------------------------------------------------------------------- */

/* flock(2): what is held is given back before the other kind is asked for. */
static void the_other_kind_is_asked_for_anew(void **state)
{
    struct kit *k = *state;
    int64_t rev;

    assert_int_equal(whole(k, 1, 1, SH), 0);
    assert_int_equal(whole(k, 2, 2, SH), 0);
    assert_int_equal(whole(k, 1, 3, EX | NB), QE_WOULDBLOCK);
    are(k, "2s ");
    assert_int_equal(whole(k, 2, 4, EX), 0); /* alone */
    are(k, "2x ");
    assert_int_equal(whole(k, 1, 5, EX), QE_QUEUED);
    rev = kit_glance(k).rev;
    assert_int_equal(whole(k, 2, 6, SH), QE_QUEUED); /* who waits is first */
    assert_true(kit_glance(k).rev == rev + 1);
    granted(k, 0, 1, 5);
    are(k, "1x 2s? ");
    assert_int_equal(unwhole(k, 1, 0), 0);
    are(k, "2s ");
    kit_reopen(k);
    assert_int_equal(whole(k, 2, 7, EX), 0);
    assert_int_equal(unwhole(k, 2, 6), 0); /* an older request */
    are(k, "2x ");
    assert_int_equal(unwhole(k, 2, 7), 0);
    are(k, "");
}

static void classes_know_nothing_of_each_other(void **state)
{
    struct kit *k = *state;

    assert_int_equal(whole(k, 1, 1, EX), 0);
    assert_int_equal(range(k, 2, 2, 0, INT64_MAX, EX), 0);
    assert_int_equal(named(k, "44", 3, 3, EX), 0);
    assert_int_equal(unwhole(k, 2, 0), 0);
    are(k, "1x 2x0-9223372036854775807 3x ");
}

/* The same number means another owner in another session. */
static void owners_are_of_a_session(void **state)
{
    struct kit *k = *state;

    assert_int_equal(whole(k, 1, 1, EX), 0);
    use(k, 1);
    assert_int_equal(whole(k, 1, 1, EX | NB), QE_WOULDBLOCK);
    assert_int_equal(unwhole(k, 1, 0), 0);
    assert_int_equal(unwhole(k, 1, 1), 0);
    are(k, "1x ");
    use(k, 0);
}

/* ---- Ranges -------------------------------------------------------------------------------------------------------------- */

static void ranges_split_and_parts_keep_their_tokens(void **state)
{
    struct kit *k = *state;
    struct store_lock want = {.class = STORE_LOCK_RANGE, .ino = INO, .session = 1, .owner = 9, .exclusive = true, .first = 0, .last = INT64_MAX}, l;
    int64_t token;

    assert_int_equal(range(k, 1, 1, 0, 99, EX), 0);
    token = k->res.rev;
    assert_int_equal(unrange(k, 1, 0, 40, 59), 0);
    are(k, "1x0-39 1x60-99 ");
    assert_int_equal(store_lock_conflict(k->r, &want, &l), 0);
    assert_true(l.first == 0 && l.last == 39 && l.token == token);
    want.first = 50;
    assert_int_equal(store_lock_conflict(k->r, &want, &l), 0);
    assert_true(l.first == 60 && l.last == 99 && l.token == token);
    assert_int_equal(range(k, 1, 2, 30, 69, SH), 0); /* over the edge of both */
    are(k, "1x0-29 1x70-99 1s30-69 ");
    assert_int_equal(unrange(k, 1, 0, 0, INT64_MAX), 0);
    are(k, "");
    assert_int_equal(store_lock_conflict(k->r, &want, &l), QE_NOENT);
}

/* Parts that touch are shown as one; each request can be given back by itself. */
static void ranges_that_touch_look_like_one(void **state)
{
    struct kit *k = *state;
    struct store_lock want = {.class = STORE_LOCK_RANGE, .ino = INO, .session = 1, .owner = 9, .first = 5, .last = 5}, l;

    assert_int_equal(range(k, 1, 1, 10, 19, EX), 0);
    assert_int_equal(range(k, 1, 2, 0, 9, EX), 0);
    assert_int_equal(range(k, 1, 3, 20, INT64_MAX, EX), 0);
    assert_int_equal(store_lock_conflict(k->r, &want, &l), 0);
    assert_true(l.first == 0 && l.last == INT64_MAX && l.exclusive && l.owner == 1);
    assert_int_equal(unrange(k, 1, 1, 0, 0), 0);
    are(k, "1x0-9 1x20-9223372036854775807 ");
    want.exclusive = false;
    want.owner = 1;
    want.session = k->session;
    assert_int_equal(store_lock_conflict(k->r, &want, &l), QE_NOENT); /* its own */
}

static void who_holds_a_part_needs_not_stand_in_line(void **state)
{
    struct kit *k = *state;

    assert_int_equal(range(k, 1, 1, 0, 9, EX), 0);
    assert_int_equal(range(k, 2, 2, 0, 99, EX), QE_QUEUED);
    assert_int_equal(range(k, 3, 3, 50, 59, EX), QE_QUEUED); /* behind 2 */
    assert_int_equal(range(k, 1, 4, 50, 59, EX), 0);         /* holds something */
    assert_int_equal(range(k, 3, 5, 200, 209, EX), 0);       /* nobody wants it */
    are(k, "1x0-9 2x0-99? 3x50-59? 1x50-59 3x200-209 ");
    assert_int_equal(unrange(k, 1, 0, 50, 59), 0); /* now 3 holds something, too */
    are(k, "1x0-9 2x0-99? 3x50-59 3x200-209 ");
}

/* Less than one had lets others in. */
static void a_downgrade_lets_readers_in(void **state)
{
    struct kit *k = *state;
    int64_t rev;

    assert_int_equal(range(k, 1, 1, 0, 99, EX), 0);
    assert_int_equal(range(k, 2, 2, 10, 19, SH), QE_QUEUED);
    assert_int_equal(range(k, 3, 3, 30, 39, EX), QE_QUEUED);
    rev = kit_glance(k).rev;
    assert_int_equal(range(k, 1, 4, 0, 49, SH), 0);
    assert_true(k->res.rev == rev + 1 && kit_glance(k).rev == rev + 1);
    granted(k, 0, 2, 2);
    are(k, "1x50-99 2s10-19 3x30-39? 1s0-49 ");
    assert_int_equal(unrange(k, 1, 0, 35, 36), 0);
    assert_int_equal(unrange(k, 1, 0, 30, 39), 0);
    granted(k, 0, 3, 3);
}

static void what_it_waits_for_stays_when_it_gives_back(void **state)
{
    struct kit *k = *state;

    use(k, 1);
    assert_int_equal(range(k, 1, 1, 0, 9, EX), 0);
    use(k, 0);
    assert_int_equal(range(k, 1, 1, 0, 19, EX), QE_QUEUED);
    assert_int_equal(unrange(k, 1, 0, 0, INT64_MAX), 0);
    are(k, "b1x0-9 1x0-19? ");
    assert_int_equal(unrange(k, 1, 1, 0, 0), 0);
    are(k, "b1x0-9 ");
}

static void a_circle_is_refused(void **state)
{
    struct kit *k = *state;

    assert_int_equal(range_on(k, 44, 1, 1, 0, 9, EX), 0);
    use(k, 1);
    assert_int_equal(range_on(k, 48, 1, 1, 0, 9, EX), 0);
    assert_int_equal(range_on(k, 44, 1, 2, 5, 5, SH), QE_QUEUED);
    use(k, 0);
    assert_int_equal(range_on(k, 48, 1, 2, 9, 20, EX | NB), QE_WOULDBLOCK);
    assert_int_equal(range_on(k, 48, 1, 3, 9, 20, EX), QE_DEADLOCK);
    assert_int_equal(range_on(k, 48, 2, 4, 9, 20, EX), QE_QUEUED); /* another process */
    are(k, "1x0-9 b1x0-9 b1s5-5? 2x9-20? ");
    use(k, 1);
    assert_int_equal(unrange(k, 1, 2, 0, 0), 0); /* withdraws */
    use(k, 0);
    assert_int_equal(range_on(k, 48, 1, 5, 9, 20, EX), QE_QUEUED);
    are(k, "1x0-9 b1x0-9 2x9-20? 1x9-20? ");
}

/* Also through one who only waits before others. */
static void a_circle_may_be_long(void **state)
{
    struct kit *k = *state;

    for (uint64_t i = 0; i < 40; i++)
        assert_int_equal(range_on(k, 400 + i * 4, i, i + 1, 0, 9, EX), 0);
    for (uint64_t i = 0; i < 39; i++)
        assert_int_equal(range_on(k, 404 + i * 4, i, 100 + i, 0, 9, EX), QE_QUEUED);
    assert_int_equal(range_on(k, 400, 39, 200, 0, 9, EX), QE_DEADLOCK);
    assert_int_equal(range_on(k, 480, 50, 201, 0, 99, EX), QE_QUEUED);
    assert_int_equal(range_on(k, 480, 51, 202, 50, 50, EX), QE_QUEUED); /* behind 50, who waits for 20 */
    assert_int_equal(range_on(k, 800, 51, 203, 0, 0, EX), 0);
    assert_int_equal(range_on(k, 800, 20, 204, 0, 0, EX), QE_DEADLOCK);
    assert_int_equal(range_on(k, 800, 52, 205, 0, 0, EX), QE_QUEUED);
}

/* ---- Ends ---------------------------------------------------------------------------------------------------------------- */

static int lapse(struct kit *k, uint64_t session, int64_t term)
{
    return as_op(k, &(struct store_op){.kind = STORE_OP_LAPSE, .ino = session, .rev = term});
}

static void the_other_holds_and_waits(struct kit *k)
{
    use(k, 1);
    assert_int_equal(named(k, "db", 1, 1, EX), 0);
    assert_int_equal(whole(k, 1, 2, EX), 0);
    assert_int_equal(range(k, 1, 3, 0, 9, EX), 0);
    assert_int_equal(unrange(k, 1, 0, 5, 5), 0);
    use(k, 0);
    assert_int_equal(named(k, "db", 1, 1, EX), QE_QUEUED);
    assert_int_equal(whole(k, 1, 2, EX), QE_QUEUED);
    assert_int_equal(range(k, 1, 3, 7, 7, EX), QE_QUEUED);
    assert_int_equal(named(k, "other", 1, 4, EX), 0);
    use(k, 1);
    assert_int_equal(named(k, "other", 1, 4, EX), QE_QUEUED);
    use(k, 0);
}

static void all_is_handed_over(struct kit *k, int64_t rev)
{
    assert_true(kit_glance(k).rev == rev + 1);
    granted(k, 0, 1, 1);
    granted(k, 0, 1, 2);
    granted(k, 0, 1, 3);
    are(k, "1x 1x 1x7-7 1x ");
}

static void a_lapse_frees_all_of_a_session(void **state)
{
    struct kit *k = *state;
    char text[400];
    uint64_t b;
    int64_t rev;

    the_other_holds_and_waits(k);
    rev = kit_glance(k).rev;
    b = people[1].session;
    assert_int_equal(lapse(k, b, 7), QE_STALE); /* of another term */
    assert_int_equal(lapse(k, b, 0), QE_INVAL); /* not its own */
    assert_int_equal(lapse(k, 12345, 1), QE_NOENT);
    assert_int_equal(lapse(k, b, 1), 0);
    all_is_handed_over(k, rev);
    snprintf(text, sizeof text, "lost %" PRIu64 "/1/1@0; ", b);
    assert_non_null(strstr(buf_cstr(&k->locks), text));
    snprintf(text, sizeof text, "lost %" PRIu64 "/1/4@0; ", b);
    assert_non_null(strstr(buf_cstr(&k->locks), text));
    assert_non_null(strstr(buf_cstr(&k->locks), "changed db; "));
    assert_string_equal(buf_cstr(&k->lives), "");
    use(k, 1); /* the session lives on */
    assert_int_equal(named(k, "third", 1, 9, EX), 0);
    assert_int_equal(lapse(k, 0, 0), 0);
    use(k, 0);
    assert_int_equal(lapse(k, 0, 0), 0);
    are(k, "");
    assert_int_equal(kit_glance(k).n_locks, 0);
}

/* The lessor does not count it then; it is told when there is something to lose again. */
static void a_lapsed_session_that_asks_for_a_lock_is_told_of(void **state)
{
    struct kit *k = *state;
    char text[100];

    assert_int_equal(named(k, "db", 1, 1, EX), 0);
    use(k, 1);
    assert_int_equal(lapse(k, 0, 0), 0);
    assert_int_equal(named(k, "db", 1, 1, EX | NB), QE_WOULDBLOCK);
    assert_string_equal(buf_cstr(&k->lives), "");
    assert_int_equal(named(k, "db", 1, 2, EX), QE_QUEUED);
    snprintf(text, sizeof text, "session %" PRIu64 " of %d; ", k->session, KIT_MEMBER + 1);
    assert_string_equal(buf_cstr(&k->lives), text);
    assert_int_equal(named(k, "other", 1, 3, EX), 0);
    assert_string_equal(buf_cstr(&k->lives), "");
    use(k, 0);
}

static void a_session_that_ends_frees_all(void **state)
{
    struct kit *k = *state;
    char text[100];
    int64_t rev;

    the_other_holds_and_waits(k);
    rev = kit_glance(k).rev;
    assert_int_equal(as_op(k, &(struct store_op){.kind = STORE_OP_SESSION_END, .ino = people[1].session}), 0);
    all_is_handed_over(k, rev);
    snprintf(text, sizeof text, "session gone %" PRIu64 " of %d; ", people[1].session, KIT_MEMBER + 1);
    assert_string_equal(buf_cstr(&k->lives), text);
}

static void a_new_session_of_the_member_frees_all(void **state)
{
    struct kit *k = *state;
    char text[100];
    uint64_t old;
    int64_t rev;

    the_other_holds_and_waits(k);
    rev = kit_glance(k).rev;
    old = people[1].session;
    join(k, 1);
    all_is_handed_over(k, rev);
    snprintf(text, sizeof text, "session gone %" PRIu64 " of %d; session %" PRIu64 " of %d; ", old, KIT_MEMBER + 1, people[1].session, KIT_MEMBER + 1);
    assert_string_equal(buf_cstr(&k->lives), text);
}

/* It may believe for a while that it has its locks, so others get them when it lapses. What it waits for goes at once. */
static void a_member_that_is_removed_frees_all_when_it_lapses(void **state)
{
    struct kit *k = *state;
    int64_t rev, waiting;
    struct store_lock l;
    uint64_t gone;

    for (int i = 1; i <= KIT_MEMBER + 1; i++)
        assert_int_equal(as_op(k, &(struct store_op){.kind = STORE_OP_MEMBER, .flags = STORE_MEMBER_ADD, .name = B("a:1"), .mode = STORE_MEMBER_STANDBY,
                                                     .new_ino = (uint64_t)i}), 0);
    the_other_holds_and_waits(k);
    gone = people[1].session;
    rev = kit_glance(k).rev;
    assert_int_equal(kit_glance(k).n_locks, 5);
    assert_int_equal(as_op(k, &(struct store_op){.kind = STORE_OP_MEMBER, .flags = STORE_MEMBER_REMOVE, .ino = KIT_MEMBER + 1}), 0);
    assert_int_equal(kit_glance(k).n_locks, 5);
    assert_int_equal(store_lock(k->r, "other", &l, NULL, &waiting), 0);
    assert_int_equal(waiting, 0);
    assert_true(kit_glance(k).rev == rev);
    assert_string_equal(buf_cstr(&k->lives), "");
    kit_check(k);
    use(k, 1);
    assert_int_equal(named(k, "db", 1, 9, EX), QE_STALE);
    use(k, 0);
    assert_int_equal(lapse(k, gone, 1), 0);
    all_is_handed_over(k, rev);
    assert_non_null(strstr(buf_cstr(&k->lives), "session gone"));
    assert_int_equal(lapse(k, gone, 1), QE_NOENT);
}

/* ---- Life ---------------------------------------------------------------------------------------------------------------- */

static bool count_session(void *data, uint64_t id, uint32_t member)
{
    *(uint64_t *)data += id * 1000 + member;
    return true;
}

static void all_is_there_after_a_restart(void **state)
{
    struct kit *k = *state;
    uint64_t hash, after, sum = 0;
    int64_t rev;

    the_other_holds_and_waits(k);
    store_state(k->s, &rev, &hash);
    kit_check(k);
    store_state(k->s, &rev, &after);
    assert_true(hash == after);
    assert_int_equal(kit_glance(k).n_locks, 5);
    assert_int_equal(store_sessions(k->r, count_session, &sum), 0);
    assert_true(sum == (k->session + people[1].session) * 1000 + KIT_MEMBER + KIT_MEMBER + 1);
    assert_int_equal(lapse(k, people[1].session, 1), 0);
    all_is_handed_over(k, rev);
}

/* Whoever got no answer asks again, with the same number. */
static void a_repeated_command_gets_the_same_answer(void **state)
{
    const struct store_op op = {.kind = STORE_OP_LOCK, .name = B("db"), .owner = 1, .request = 1, .flags = STORE_LOCK_NAMED | EX};
    const struct store_op other = {.kind = STORE_OP_LOCK, .name = B("db"), .owner = 2, .request = 2, .flags = STORE_LOCK_NAMED | EX};
    struct kit *k = *state;
    struct store_command first = kit_command(k, &op, 1), second = kit_command(k, &other, 1);
    int64_t token;

    assert_int_equal(kit_apply(k, &first, 1), 0);
    token = k->res.rev;
    assert_int_equal(kit_apply(k, &second, 1), 0);
    assert_int_equal(k->res.err, QE_QUEUED);
    assert_int_equal(kit_put(k, STORE_ROOT_INO, "f", "x"), 0);
    kit_reopen(k);
    assert_int_equal(kit_apply(k, &first, 1), 0);
    assert_true(k->res.kept && k->res.err == 0 && k->res.rev == token);
    assert_int_equal(kit_apply(k, &second, 1), 0);
    assert_true(k->res.kept && k->res.err == QE_QUEUED);
    are(k, "1x 2x? ");
}

/* One entry may have many commands: what one gives back the next one finds free. */
static void commands_of_one_entry_follow_each_other(void **state)
{
    const struct store_op ops[] = {
        {.kind = STORE_OP_LOCK, .name = B("db"), .owner = 1, .request = 1, .flags = STORE_LOCK_NAMED | EX},
        {.kind = STORE_OP_LOCK, .name = B("db"), .owner = 2, .request = 2, .flags = STORE_LOCK_NAMED | EX},
        {.kind = STORE_OP_UNLOCK, .name = B("db"), .owner = 1, .flags = STORE_LOCK_NAMED},
        {.kind = STORE_OP_UNLOCK, .name = B("db"), .owner = 2, .request = 2, .flags = STORE_LOCK_NAMED},
        {.kind = STORE_OP_LOCK, .name = B("db"), .owner = 3, .request = 3, .flags = STORE_LOCK_NAMED | EX},
    };
    struct store_command cmds[5];
    struct kit *k = *state;
    char text[200];
    int64_t rev = kit_glance(k).rev;

    for (int i = 0; i < 5; i++)
        cmds[i] = kit_command(k, &ops[i], 1);
    assert_int_equal(kit_apply(k, cmds, 5), 0);
    assert_true(k->n_results == 5 && k->res.rev == rev + 3 && kit_glance(k).rev == rev + 3);
    snprintf(text, sizeof text, "changed db; granted %" PRIu64 "/2/2@%" PRId64 "; changed db; changed db; changed db; ", k->session, rev + 2);
    events_are(k, text);
    are(k, "3x ");
}

/* The readers of files do not notice revisions that changed none. */
static void revisions_without_files_are_revisions(void **state)
{
    struct kit *k = *state;
    struct store_attr attr;
    int64_t rev;

    assert_int_equal(kit_put(k, STORE_ROOT_INO, "f", "1"), 0);
    rev = k->res.rev;
    assert_int_equal(named(k, "a", 1, 1, EX), 0);
    assert_int_equal(named(k, "b", 1, 2, EX), 0);
    assert_int_equal(kit_put(k, STORE_ROOT_INO, "f", "2"), 0);
    assert_true(k->res.rev == rev + 3);
    for (int64_t at = rev; at < rev + 3; at++)
        kit_assert_content(k, at, kit_lookup(k, at, STORE_ROOT_INO, "f"), "1");
    kit_assert_content(k, rev + 3, kit_lookup(k, rev + 3, STORE_ROOT_INO, "f"), "2");
    assert_int_equal(kit_compact(k, rev + 1), 0);
    kit_compact_all(k);
    kit_assert_content(k, rev + 2, kit_lookup(k, rev + 2, STORE_ROOT_INO, "f"), "1");
    assert_int_equal(kit_compact(k, rev + 3), 0);
    kit_compact_all(k);
    kit_attr(k, kit_lookup(k, STORE_HEAD, STORE_ROOT_INO, "f"), &attr);
    assert_true(attr.mod_rev == rev + 3);
}

static void a_command_may_require_a_token(void **state)
{
    struct kit *k = *state;
    struct store_op op = {.kind = STORE_OP_MKDIR, .parent = STORE_ROOT_INO, .name = B("d"), .mode = 0755};
    struct store_condition c = {.kind = STORE_IF_LOCK, .name = B("db")};
    struct store_command cmd;
    int64_t token;

    assert_int_equal(named(k, "db", 1, 1, EX), 0);
    token = k->res.rev;
    op.new_ino = kit_ino(k, STORE_DIR);
    for (int i = 0; i < 4; i++) { /* 0: not a token; only the last one is right */
        c.number = i == 3 ? token : i == 0 ? 0 : token + i;
        cmd = kit_command(k, &op, 1);
        cmd.conditions = &c;
        cmd.n_conditions = 1;
        assert_int_equal(kit_apply(k, &cmd, 1), 0);
        assert_int_equal(k->res.err, i == 3 ? 0 : QE_CANCELED);
    }
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

/* What was written under a lock counts only while it is held. */
static void a_commit_under_a_lock_that_was_lost_is_stale(void **state)
{
    struct kit *k = *state;
    const struct store_edit edit = {.kind = STORE_EDIT_APPEND, .bytes = B("x")};
    struct store_op op = {.kind = STORE_OP_COMMIT, .edits = &edit, .n_edits = 1};
    uint32_t classes[] = {STORE_LOCK_WHOLE, STORE_LOCK_RANGE};
    int64_t rev;

    assert_int_equal(kit_put(k, STORE_ROOT_INO, "f", "1"), 0);
    op.ino = k->res.ino;
    for (size_t i = 0; i < 2; i++) {
        struct store_op lock = {.kind = STORE_OP_LOCK, .ino = op.ino, .owner = 5, .request = i + 1, .flags = classes[i] | EX, .last = 9};

        op.flags = classes[i];
        op.owner = 5;
        assert_int_equal(as_op(k, &lock), 0);
        assert_int_equal(as_op(k, &op), 0);
        op.owner = 6;
        assert_int_equal(as_op(k, &op), QE_STALE);
        op.owner = 5;
        use(k, 1);
        assert_int_equal(as_op(k, &op), QE_STALE);
        use(k, 0);
        assert_int_equal(as_op(k, &(struct store_op){.kind = STORE_OP_LAPSE}), 0);
        rev = kit_glance(k).rev;
        assert_int_equal(as_op(k, &op), QE_STALE);
        assert_true(kit_glance(k).rev == rev);
    }
    op.flags = 0;
    assert_int_equal(as_op(k, &op), 0);
}

static void nonsense_is_refused(void **state)
{
    static const struct store_op ops[] = {
        {.kind = STORE_OP_LOCK, .name = B("a"), .request = 1},
        {.kind = STORE_OP_LOCK, .name = B("a"), .flags = STORE_LOCK_NAMED},
        {.kind = STORE_OP_LOCK, .name = B(""), .request = 1, .flags = STORE_LOCK_NAMED},
        {.kind = STORE_OP_LOCK, .name = B(".a"), .request = 1, .flags = STORE_LOCK_NAMED},
        {.kind = STORE_OP_LOCK, .name = B("a/b"), .request = 1, .flags = STORE_LOCK_NAMED},
        {.kind = STORE_OP_LOCK, .name = B("a\0b"), .request = 1, .flags = STORE_LOCK_NAMED},
        {.kind = STORE_OP_LOCK, .name = B("a"), .ino = 44, .request = 1, .flags = STORE_LOCK_NAMED},
        {.kind = STORE_OP_LOCK, .name = B("a"), .ino = 44, .request = 1, .flags = STORE_LOCK_WHOLE},
        {.kind = STORE_OP_LOCK, .request = 1, .flags = STORE_LOCK_WHOLE},
        {.kind = STORE_OP_LOCK, .ino = 44, .request = 1, .flags = STORE_LOCK_RANGE, .first = 5, .last = 4},
        {.kind = STORE_OP_LOCK, .ino = 44, .request = 1, .flags = STORE_LOCK_RANGE, .first = -1, .last = 4},
        {.kind = STORE_OP_LOCK, .ino = 44, .request = 1, .flags = STORE_LOCK_WHOLE | STORE_LOCK_WAITING},
        {.kind = STORE_OP_LOCK, .ino = 44, .request = 1, .flags = STORE_LOCK_WHOLE | 32},
        {.kind = STORE_OP_UNLOCK, .ino = 44, .flags = 0},
        {.kind = STORE_OP_UNLOCK, .ino = 44, .flags = STORE_LOCK_RANGE | STORE_LOCK_WAITING},
    };
    struct kit *k = *state;
    int64_t rev = kit_glance(k).rev;

    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        assert_int_equal(as_op(k, &ops[i]), QE_INVAL);
    assert_true(kit_glance(k).rev == rev);
    are(k, "");
}

#define LOCK_TEST(f) cmocka_unit_test_setup_teardown(f, setup, kit_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOCK_TEST(the_first_gets_it_and_its_revision_is_the_token),
        LOCK_TEST(others_wait_in_the_order_of_arrival),
        LOCK_TEST(who_withdraws_waits_no_more),
        LOCK_TEST(a_withdrawal_that_meets_a_grant_releases_it),
        LOCK_TEST(only_what_waits_is_withdrawn),
        LOCK_TEST(what_was_granted_is_not_withdrawn),
        LOCK_TEST(who_stood_behind_a_withdrawn_one_moves_up),
        LOCK_TEST(several_who_share_get_it_in_one_revision),
        LOCK_TEST(what_the_holder_proclaims_all_can_read),
        LOCK_TEST(names_are_listed_once),
        LOCK_TEST(the_other_kind_is_asked_for_anew),
        LOCK_TEST(classes_know_nothing_of_each_other),
        LOCK_TEST(owners_are_of_a_session),
        LOCK_TEST(ranges_split_and_parts_keep_their_tokens),
        LOCK_TEST(ranges_that_touch_look_like_one),
        LOCK_TEST(who_holds_a_part_needs_not_stand_in_line),
        LOCK_TEST(a_downgrade_lets_readers_in),
        LOCK_TEST(what_it_waits_for_stays_when_it_gives_back),
        LOCK_TEST(a_circle_is_refused),
        LOCK_TEST(a_circle_may_be_long),
        LOCK_TEST(a_lapse_frees_all_of_a_session),
        LOCK_TEST(a_lapsed_session_that_asks_for_a_lock_is_told_of),
        LOCK_TEST(a_session_that_ends_frees_all),
        LOCK_TEST(a_new_session_of_the_member_frees_all),
        LOCK_TEST(a_member_that_is_removed_frees_all_when_it_lapses),
        LOCK_TEST(all_is_there_after_a_restart),
        LOCK_TEST(a_repeated_command_gets_the_same_answer),
        LOCK_TEST(commands_of_one_entry_follow_each_other),
        LOCK_TEST(revisions_without_files_are_revisions),
        LOCK_TEST(a_command_may_require_a_token),
        LOCK_TEST(a_commit_under_a_lock_that_was_lost_is_stale),
        LOCK_TEST(nonsense_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
