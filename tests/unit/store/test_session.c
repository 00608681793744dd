/* Sessions: a command takes effect once, in order, however often and from wherever it is sent. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/err.h"
#include "tests/unit/store/kit.h"

#define ROOT STORE_ROOT_INO

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static struct store_op mkdir_op(struct kit *k, const char *name)
{
    return (struct store_op){.kind = STORE_OP_MKDIR, .parent = ROOT, .name = kit_str(name), .new_ino = kit_ino(k, STORE_DIR), .mode = 0755};
}

/* Sends a command with these numbers. */
static int send(struct kit *k, uint64_t session, uint64_t seq, uint64_t acked, const struct store_op *op)
{
    struct store_command cmd = kit_command(k, op, 1);

    k->seq--;
    cmd.session = session;
    cmd.seq = seq;
    cmd.acked = acked;
    assert_int_equal(kit_apply(k, &cmd, 1), 0);
    return k->res.err;
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */


static void a_repeated_command_gets_its_first_answer(void **state)
{
    struct kit *k = *state;
    struct store_op op = mkdir_op(k, "d");
    uint64_t seq = k->seq + 1, ino;
    int64_t rev;

    assert_int_equal(send(k, k->session, seq, 0, &op), 0);
    assert_false(k->res.kept);
    ino = k->res.ino;
    rev = k->res.rev;
    assert_int_equal(kit_glance(k).rev, rev);
    k->seq = seq;
    assert_int_equal(kit_put(k, ROOT, "f", "v"), 0);
    kit_reopen(k);
    assert_int_equal(send(k, k->session, seq, 0, &op), 0); /* and not QE_EXIST */
    assert_true(k->res.kept);
    assert_true(k->res.ino == ino);
    assert_int_equal(k->res.rev, rev);
    assert_int_equal(kit_glance(k).rev, rev + 1);
}

static void a_repeated_failure_fails_again_even_if_it_could_succeed_now(void **state)
{
    struct kit *k = *state;
    struct store_op op = {.kind = STORE_OP_UNLINK, .parent = ROOT, .name = B("f")};
    uint64_t seq = k->seq + 1;

    assert_int_equal(send(k, k->session, seq, 0, &op), QE_NOENT);
    k->seq = seq;
    assert_int_equal(kit_put(k, ROOT, "f", "v"), 0);
    assert_int_equal(send(k, k->session, seq, 0, &op), QE_NOENT);
    assert_true(k->res.kept);
    assert_true(kit_lookup(k, STORE_HEAD, ROOT, "f") != 0);
}

static void numbers_may_be_left_out_but_not_made_up_for(void **state)
{
    struct kit *k = *state;
    struct store_op a = mkdir_op(k, "a"), b = mkdir_op(k, "b");

    assert_int_equal(send(k, k->session, k->seq + 10, 0, &a), 0);
    assert_int_equal(send(k, k->session, k->seq + 9, 0, &b), QE_STALE);
    assert_false(k->res.kept);
    kit_assert_list(k, STORE_HEAD, ROOT, "a");
    k->seq += 10;
}

static void acknowledged_results_are_forgotten(void **state)
{
    struct kit *k = *state;
    struct store_op a = mkdir_op(k, "a"), b = mkdir_op(k, "b");
    uint64_t seq = k->seq;

    assert_int_equal(send(k, k->session, seq + 1, 0, &a), 0);
    assert_int_equal(send(k, k->session, seq + 2, seq + 1, &b), 0);
    assert_int_equal(send(k, k->session, seq + 1, 0, &a), QE_STALE);
    assert_int_equal(send(k, k->session, seq + 2, 0, &b), 0);
    assert_true(k->res.kept);
    k->seq = seq + 2;
    kit_reopen(k);
    assert_int_equal(send(k, k->session, seq + 1, 0, &a), QE_STALE);
}

static void at_most_4096_results_are_kept(void **state)
{
    struct kit *k = *state;
    struct store_op op = {.kind = STORE_OP_UNLINK, .parent = ROOT, .name = B("none")};
    uint64_t first = k->seq + 1;
    struct store_command cmds[250];

    for (int i = 0; i < 17; i++) {
        for (int c = 0; c < 250; c++)
            cmds[c] = kit_command(k, &op, 1);
        assert_int_equal(kit_apply(k, cmds, 250), 0);
    }
    assert_int_equal(send(k, k->session, first + 250 * 17 - 4096, 0, &op), QE_NOENT);
    assert_int_equal(send(k, k->session, first + 250 * 17 - 4097, 0, &op), QE_STALE);
    kit_reopen(k);
    assert_int_equal(send(k, k->session, first + 250 * 17 - 4096, 0, &op), QE_NOENT);
    assert_int_equal(send(k, k->session, first + 250 * 17 - 4097, 0, &op), QE_STALE);
}

static void a_session_is_named_by_the_index_of_its_entry(void **state)
{
    struct kit *k = *state;
    uint64_t old = k->session;

    kit_start(k);
    assert_true(k->session == k->index - 1);
    assert_true(k->session != old);
    assert_int_equal(kit_mkdir(k, ROOT, "d"), 0);
}

static void of_two_sessions_in_an_entry_the_second_is_asked_to_try_again(void **state)
{
    struct kit *k = *state;
    struct store_op op = {.kind = STORE_OP_SESSION};
    struct store_command cmds[] = {{.seq = 1, .member = 1, .ops = &op, .n_ops = 1}, {.seq = 2, .member = 2, .ops = &op, .n_ops = 1}};

    assert_int_equal(kit_apply(k, cmds, 2), 0);
    assert_int_equal(k->res.seq, 2);
    assert_int_equal(k->res.err, QE_BUSY);
}

/* Numbers are 63 bits: the tables would have a larger one before all others. */
static void numbers_are_below_2_to_the_63(void **state)
{
    struct kit *k = *state;
    struct store_op op = {.kind = STORE_OP_RESERVE};
    struct store_command cmd = kit_command(k, &op, 1);
    int64_t next;

    assert_int_equal(kit_apply(k, &cmd, 1), 0);
    assert_int_equal(k->res.err, 0);
    next = (int64_t)k->res.ino + STORE_INO_BLOCK;
    cmd.seq = UINT64_C(1) << 63;
    assert_int_equal(kit_apply(k, &cmd, 1), 0);
    assert_int_equal(k->res.err, QE_INVAL);
    kit_reopen(k);
    assert_int_equal(kit_op(k, &op), 0); /* the numbers before it still count */
    assert_int_equal(k->res.ino, next);
    cmd = (struct store_command){.seq = UINT64_C(1) << 63, .member = 7, .ops = &(struct store_op){.kind = STORE_OP_SESSION}, .n_ops = 1};
    assert_int_equal(kit_apply(k, &cmd, 1), 0);
    assert_int_equal(k->res.err, QE_INVAL);
}

/* Its result would be kept by the other one, whose numbers would begin anew: what it has done would be done again. */
static void a_session_is_not_asked_for_in_another_one(void **state)
{
    struct kit *k = *state;
    struct store_op op = mkdir_op(k, "d"), session = {.kind = STORE_OP_SESSION};
    struct store_command cmd = {.session = k->session, .seq = 0, .member = 7, .ops = &session, .n_ops = 1};
    uint64_t seq = k->seq + 1;

    assert_int_equal(send(k, k->session, seq, seq - 1, &op), 0);
    for (int i = 0; i < 2; i++, cmd.seq = seq + 5) {
        assert_int_equal(kit_apply(k, &cmd, 1), 0);
        assert_int_equal(k->res.err, QE_INVAL);
        assert_int_equal(send(k, k->session, seq, seq - 1, &op), 0);
        assert_true(k->res.kept);
    }
    kit_check(k);
}

/* Its rows would go with those of the one that has just ended. */
static void an_entry_has_one_session_even_if_that_has_ended(void **state)
{
    struct kit *k = *state;
    struct store_op add = {.kind = STORE_OP_MEMBER, .flags = STORE_MEMBER_ADD, .name = B("a:1"), .mode = STORE_MEMBER_VOTER, .new_ino = 5};
    struct store_op session = {.kind = STORE_OP_SESSION}, end = {.kind = STORE_OP_MEMBER, .flags = STORE_MEMBER_REMOVE};
    struct store_command cmds[3];

    assert_int_equal(kit_op(k, &add), 0);
    end.ino = k->res.ino;
    add.new_ino = 6;
    assert_int_equal(kit_op(k, &add), 0);
    cmds[0] = (struct store_command){.seq = 1, .member = (uint32_t)end.ino, .ops = &session, .n_ops = 1};
    cmds[1] = kit_command(k, &end, 1);
    cmds[2] = (struct store_command){.seq = 1, .member = (uint32_t)k->res.ino, .ops = &session, .n_ops = 1};
    assert_int_equal(kit_apply(k, cmds, 3), 0);
    assert_int_equal(k->res.err, QE_BUSY);
}

static int open_session(struct kit *k, uint32_t member, uint64_t nonce)
{
    struct store_op op = {.kind = STORE_OP_SESSION};
    struct store_command cmd = {.seq = nonce, .member = member, .ops = &op, .n_ops = 1};

    assert_int_equal(kit_apply(k, &cmd, 1), 0);
    assert_true(k->res.session == 0 && k->res.seq == nonce);
    return k->res.err;
}

/* It was sent again through another leader. */
static void a_repeated_session_is_the_same_session(void **state)
{
    struct kit *k = *state;
    struct store_op op = mkdir_op(k, "d");
    uint64_t id;

    assert_int_equal(open_session(k, 5, 70), 0);
    assert_false(k->res.kept);
    id = k->res.ino;
    assert_int_equal(send(k, id, 1, 0, &op), 0);
    kit_reopen(k);
    assert_int_equal(open_session(k, 5, 70), 0);
    assert_true(k->res.kept && k->res.ino == id);
    assert_int_equal(send(k, id, 1, 0, &op), 0);
    assert_true(k->res.kept);
}

static void a_new_session_of_a_member_ends_its_older_one_only(void **state)
{
    struct kit *k = *state;
    struct store_op a = mkdir_op(k, "a"), b = mkdir_op(k, "b");
    uint64_t five, six;

    assert_int_equal(open_session(k, 5, 70), 0);
    five = k->res.ino;
    assert_int_equal(open_session(k, 6, 71), 0);
    six = k->res.ino;
    assert_int_equal(send(k, five, 1, 0, &a), 0);
    assert_int_equal(open_session(k, 5, 72), 0);
    assert_true(k->res.ino != five);
    assert_int_equal(send(k, five, 1, 0, &a), QE_STALE); /* also what it could repeat before */
    assert_int_equal(send(k, five, 2, 0, &b), QE_STALE);
    assert_int_equal(send(k, six, 1, 0, &b), 0);
    kit_reopen(k);
    assert_int_equal(send(k, five, 3, 0, &b), QE_STALE);
}

/* It was on its way while the member started again: it must not end the session of the process that lives. */
static void a_session_that_comes_too_late_is_refused(void **state)
{
    struct kit *k = *state;
    struct store_op op = mkdir_op(k, "d");
    uint64_t id;

    assert_int_equal(open_session(k, 5, 72), 0);
    id = k->res.ino;
    kit_reopen(k);
    assert_int_equal(open_session(k, 5, 71), QE_STALE);
    assert_int_equal(k->res.ino, 72);
    assert_int_equal(send(k, id, 1, 0, &op), 0);
}

static void inode_numbers_are_reserved_in_blocks_and_never_twice(void **state)
{
    struct kit *k = *state;
    struct store_op op = {.kind = STORE_OP_RESERVE};
    int64_t rev = kit_glance(k).rev;

    assert_int_equal(kit_op(k, &op), 0);
    assert_true(k->res.ino == k->end_n);
    assert_int_equal(k->res.rev, rev);
    kit_reopen(k);
    assert_int_equal(kit_op(k, &op), 0);
    assert_true(k->res.ino == k->end_n + STORE_INO_BLOCK);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */


static void a_session_needs_a_nonce(void **state)
{
    assert_int_equal(open_session(*state, 5, 0), QE_INVAL);
}

static void an_unknown_session_applies_nothing(void **state)
{
    struct kit *k = *state;
    struct store_op op = mkdir_op(k, "d");

    assert_int_equal(send(k, k->session + 1000, 1, 0, &op), QE_STALE);
    assert_int_equal(send(k, 0, 1, 0, &op), QE_STALE);
    assert_int_equal(send(k, k->session, 0, 0, &op), QE_STALE);
    kit_assert_list(k, STORE_HEAD, ROOT, "");
}

static void an_ended_session_applies_nothing(void **state)
{
    struct kit *k = *state;
    uint64_t old = k->session, seq = k->seq;
    struct store_op op = mkdir_op(k, "d"), end = {.kind = STORE_OP_SESSION_END, .ino = old};

    assert_int_equal(kit_op(k, &end), 0);
    assert_int_equal(send(k, old, seq + 1, 0, &op), QE_STALE);
    kit_start(k);
    assert_int_equal(kit_op(k, &end), QE_NOENT);
    kit_reopen(k);
    assert_int_equal(send(k, old, seq + 1, 0, &op), QE_STALE);
    end.ino = k->session;
    assert_int_equal(kit_op(k, &end), 0); /* also the one that says it */
    assert_int_equal(send(k, k->session, k->seq + 1, 0, &op), QE_STALE);
    kit_start(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(a_repeated_command_gets_its_first_answer),
        KIT_TEST(a_repeated_failure_fails_again_even_if_it_could_succeed_now),
        KIT_TEST(numbers_may_be_left_out_but_not_made_up_for),
        KIT_TEST(acknowledged_results_are_forgotten),
        KIT_TEST(at_most_4096_results_are_kept),
        KIT_TEST(a_session_is_named_by_the_index_of_its_entry),
        KIT_TEST(of_two_sessions_in_an_entry_the_second_is_asked_to_try_again),
        KIT_TEST(numbers_are_below_2_to_the_63),
        KIT_TEST(a_session_is_not_asked_for_in_another_one),
        KIT_TEST(an_entry_has_one_session_even_if_that_has_ended),
        KIT_TEST(a_repeated_session_is_the_same_session),
        KIT_TEST(a_new_session_of_a_member_ends_its_older_one_only),
        KIT_TEST(a_session_that_comes_too_late_is_refused),
        KIT_TEST(inode_numbers_are_reserved_in_blocks_and_never_twice),
        KIT_TEST(a_session_needs_a_nonce),
        KIT_TEST(an_unknown_session_applies_nothing),
        KIT_TEST(an_ended_session_applies_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
