/* Members: who is in the table, ids that are never given twice, what ends with a member. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/err.h"
#include "tests/unit/store/kit.h"

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static uint64_t last_id; /* result of the newest change */

static int change(struct kit *k, uint32_t what, uint64_t id, const char *address, uint32_t role, uint64_t nonce)
{
    struct store_op op = {.kind = STORE_OP_MEMBER, .flags = what, .ino = id, .name = kit_str(address), .mode = role, .new_ino = nonce};
    int err = kit_op(k, &op);

    last_id = k->res.ino;
    return err;
}

static int add(struct kit *k, const char *address, uint32_t role, uint64_t nonce)
{
    return change(k, STORE_MEMBER_ADD, 0, address, role, nonce);
}

static void line(void *data, const struct store_member *m)
{
    struct buf *out = data;

    buf_printf(out, "%u %s %d;", m->id, m->address, (int)m->role);
}

static void members_are(struct kit *k, const char *text, int64_t next)
{
    struct buf out = {0};
    int64_t is;

    assert_int_equal(store_members(k->r, &is, line, &out), 0);
    assert_string_equal(buf_cstr(&out), text);
    assert_int_equal(is, next);
    buf_fini(&out);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void members_come_change_and_go(void **state)
{
    struct kit *k = *state;
    int64_t rev = kit_glance(k).rev;

    members_are(k, "", 1);
    assert_int_equal(add(k, "a:1", STORE_MEMBER_VOTER, 11), 0);
    assert_int_equal(last_id, 1);
    assert_int_equal(add(k, "b:1", STORE_MEMBER_VOTER, 12), 0);
    assert_int_equal(change(k, STORE_MEMBER_ADDRESS, 2, "b:2", 0, 0), 0);
    assert_int_equal(change(k, STORE_MEMBER_ROLE, 2, "", STORE_MEMBER_STANDBY, 0), 0);
    members_are(k, "1 a:1 2;2 b:2 1;", 3);
    assert_int_equal(change(k, STORE_MEMBER_REMOVE, 1, "", 0, 0), 0);
    members_are(k, "2 b:2 1;", 3);
    assert_int_equal(kit_glance(k).rev, rev); /* no revision */
    kit_reopen(k); /* and its hash is right */
    members_are(k, "2 b:2 1;", 3);
}

static void an_id_is_never_given_twice(void **state)
{
    struct kit *k = *state;

    assert_int_equal(add(k, "a:1", STORE_MEMBER_VOTER, 11), 0);
    assert_int_equal(add(k, "b:1", STORE_MEMBER_VOTER, 12), 0);
    assert_int_equal(change(k, STORE_MEMBER_REMOVE, 2, "", 0, 0), 0);
    assert_int_equal(add(k, "b:1", STORE_MEMBER_VOTER, 13), 0);
    assert_int_equal(last_id, 3);
}

/* Whoever got no answer asks again. */
static void the_same_nonce_adds_one_member(void **state)
{
    struct kit *k = *state;

    assert_int_equal(add(k, "a:1", STORE_MEMBER_VOTER, 11), 0);
    assert_int_equal(add(k, "a:1", STORE_MEMBER_VOTER, 11), 0);
    assert_int_equal(last_id, 1);
    members_are(k, "1 a:1 2;", 2);
}

static void the_eighth_voter_becomes_a_standby(void **state)
{
    struct kit *k = *state;
    char address[8];

    for (int i = 1; i <= 8; i++) {
        snprintf(address, sizeof address, "a:%d", i);
        assert_int_equal(add(k, address, STORE_MEMBER_VOTER, 10 + (uint64_t)i), 0);
    }
    members_are(k, "1 a:1 2;2 a:2 2;3 a:3 2;4 a:4 2;5 a:5 2;6 a:6 2;7 a:7 2;8 a:8 1;", 9);
    assert_int_equal(change(k, STORE_MEMBER_ROLE, 8, "", STORE_MEMBER_VOTER, 0), QE_NOSPC);
    assert_int_equal(change(k, STORE_MEMBER_ROLE, 1, "", STORE_MEMBER_STANDBY, 0), 0);
    assert_int_equal(change(k, STORE_MEMBER_ROLE, 8, "", STORE_MEMBER_VOTER, 0), 0);
}

static void the_caller_is_told_when_the_table_has_changed(void **state)
{
    struct kit *k = *state;

    assert_int_equal(add(k, "a:1", STORE_MEMBER_VOTER, 11), 0);
    assert_int_equal(k->n_members_changed, 1);
    assert_int_equal(change(k, STORE_MEMBER_ADDRESS, 1, "a:1", 0, 0), 0); /* as it is */
    assert_int_equal(change(k, STORE_MEMBER_ADDRESS, 7, "a:1", 0, 0), QE_NOENT);
    assert_int_equal(kit_set(k, "quota", "1G"), 0);
    assert_int_equal(k->n_members_changed, 1);
}

/* What it still had on its way takes no effect. */
/* It stays in the table until raft has let go of it, and cannot be kept any more. */
static void a_leaving_member_leaves(void **state)
{
    struct kit *k = *state;

    assert_int_equal(add(k, "a:1", STORE_MEMBER_VOTER, 11), 0);
    assert_int_equal(change(k, STORE_MEMBER_ROLE, 1, "", STORE_MEMBER_LEAVING, 0), QE_BUSY); /* the only one */
    assert_int_equal(add(k, "b:1", STORE_MEMBER_VOTER, 12), 0);
    assert_int_equal(change(k, STORE_MEMBER_ROLE, 2, "", STORE_MEMBER_LEAVING, 0), 0);
    assert_int_equal(change(k, STORE_MEMBER_ROLE, 2, "", STORE_MEMBER_LEAVING, 0), 0);
    members_are(k, "1 a:1 2;2 b:1 3;", 3);
    assert_int_equal(change(k, STORE_MEMBER_ROLE, 2, "", STORE_MEMBER_VOTER, 0), QE_BUSY);
    assert_int_equal(change(k, STORE_MEMBER_REMOVE, 2, "", 0, 0), 0);
    members_are(k, "1 a:1 2;", 3);
}

static void sessions_of_a_removed_member_end(void **state)
{
    struct kit *k = *state;

    assert_int_equal(add(k, "a:1", STORE_MEMBER_VOTER, 11), 0);
    assert_int_equal(add(k, "b:1", STORE_MEMBER_VOTER, 12), 0);
    assert_int_equal(add(k, "c:1", STORE_MEMBER_VOTER, 13), 0);
    assert_int_equal(last_id, KIT_MEMBER);
    assert_int_equal(change(k, STORE_MEMBER_REMOVE, KIT_MEMBER, "", 0, 0), 0);
    assert_int_equal(kit_set(k, "quota", "1G"), QE_STALE);
    k->session = 0;
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_SESSION}), QE_STALE); /* nor can it begin anew */
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static void what_cannot_be_is_refused(void **state)
{
    struct kit *k = *state;

    assert_int_equal(add(k, "", STORE_MEMBER_VOTER, 11), QE_INVAL);
    assert_int_equal(add(k, "no port", STORE_MEMBER_VOTER, 11), QE_INVAL);
    assert_int_equal(add(k, "a:1", 3, 11), QE_INVAL);
    assert_int_equal(add(k, "a:1", STORE_MEMBER_VOTER, 0), QE_INVAL);
    assert_int_equal(change(k, 9, 1, "a:1", STORE_MEMBER_VOTER, 11), QE_INVAL);
    assert_int_equal(change(k, STORE_MEMBER_REMOVE, 1, "", 0, 0), QE_NOENT);
    assert_int_equal(add(k, "a:1", STORE_MEMBER_VOTER, 11), 0);
    assert_int_equal(change(k, STORE_MEMBER_ADDRESS, 1, "a", 0, 0), QE_INVAL);
    assert_int_equal(change(k, STORE_MEMBER_ROLE, 1, "", 7, 0), QE_INVAL);
    assert_int_equal(change(k, STORE_MEMBER_REMOVE, 1, "", 0, 0), QE_BUSY); /* the last one */
    members_are(k, "1 a:1 2;", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(members_come_change_and_go),
        KIT_TEST(an_id_is_never_given_twice),
        KIT_TEST(the_same_nonce_adds_one_member),
        KIT_TEST(the_eighth_voter_becomes_a_standby),
        KIT_TEST(the_caller_is_told_when_the_table_has_changed),
        KIT_TEST(a_leaving_member_leaves),
        KIT_TEST(sessions_of_a_removed_member_end),
        KIT_TEST(what_cannot_be_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
