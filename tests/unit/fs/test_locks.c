/* The client of the cluster's locks: fs/locks.c. The way to the store is replaced: commands are kept, and answered by the test in whatever
 * order a cluster could. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/locks.h"
#include "fs/pending.h"

/* ---- Fixture ------------------------------------------------------------------------------------------------------------------- */

enum { OWN = 7, COMMANDS_MAX = 32 };

static struct command { /* what was submitted, in order */
    struct store_op op;
    struct pending_call call;
} commands[COMMANDS_MAX];
static size_t n_commands;
static int writable;     /* what replica says */
static bool holds;
static bool refuse;      /* pending_submit fails at once */
static struct store_lock listed[4]; /* what the store has */
static size_t n_listed;
static struct fs fs;
static struct fs_options opt;
static int replica, reader; /* only their addresses count */

void __wrap_pending_submit(struct fs *f, struct store_command *cmd, const struct pending_call *call);
int __wrap_pending_post(struct fs *f, pending_settle_cb settle, void *data);
int __wrap_replica_writable(struct replica *r);
uint64_t __wrap_replica_session(struct replica *r);
bool __wrap_replica_session_holds(struct replica *r);
int __wrap_store_locks(struct store_reader *r, uint64_t session, store_lock_cb cb, void *data);

void __wrap_pending_submit(struct fs *f, struct store_command *cmd, const struct pending_call *call)
{
    assert_true(call->patient);
    assert_true(n_commands < COMMANDS_MAX);
    if (refuse) {
        call->settle(f, NULL, QE_NOMEM, 0, 0, call->data);
        return;
    }
    commands[n_commands++] = (struct command){cmd->ops[0], *call};
}

int __wrap_pending_post(struct fs *f, pending_settle_cb settle, void *data)
{
    (void)f, (void)settle, (void)data; /* the test looks by itself */
    return 0;
}

int __wrap_replica_writable(struct replica *r)
{
    (void)r;
    return writable;
}

uint64_t __wrap_replica_session(struct replica *r)
{
    (void)r;
    return OWN;
}

bool __wrap_replica_session_holds(struct replica *r)
{
    (void)r;
    return holds;
}

int __wrap_store_locks(struct store_reader *r, uint64_t session, store_lock_cb cb, void *data)
{
    (void)r;
    assert_int_equal(session, OWN);
    for (size_t i = 0; i < n_listed; i++)
        cb(data, &listed[i]);
    return 0;
}

static struct told { /* to whom asked */
    int n_done, err, n_lost, n_settled, settle_err;
    int64_t token;
} told;
static char watched[64];

static void on_done(struct fs *f, void *data, int err, int64_t token)
{
    (void)f, (void)data;
    told.n_done++;
    told.err = err;
    told.token = token;
}

static void on_lost(struct fs *f, void *data)
{
    (void)f, (void)data;
    told.n_lost++;
}

static void on_settled(struct fs *f, void *data, int err)
{
    (void)f, (void)data;
    told.n_settled++;
    told.settle_err = err;
}

static void on_watch(struct fs *f, const char *name)
{
    (void)f;
    strcpy(watched, name ? name : "(all)");
}

static int setup(void **state)
{
    (void)state;
    n_commands = n_listed = 0;
    writable = 0;
    holds = true;
    refuse = false;
    memset(&told, 0, sizeof told);
    memset(&fs, 0, sizeof fs);
    opt.timeout_ms = 60000;
    fs.opt = &opt;
    fs.replica = (struct replica *)&replica;
    fs.reader = (struct store_reader *)&reader;
    return locks_open(&fs);
}

static int teardown(void **state)
{
    (void)state;
    fs.replica = NULL;
    locks_close(&fs);
    return 0;
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------------- */

static struct lock *ask(enum store_lock_class class, bool wait)
{
    static const struct lock_calls calls = {on_done, on_lost};
    const struct lock_want want = {.class = class, .ino = 42, .owner = 3, .exclusive = true, .wait = wait, .last = 9};
    struct lock *l = locks_ask(&fs, &want, &calls, NULL);

    assert_non_null(l);
    assert_int_equal(told.n_done, 0);
    return l;
}

static void answer(size_t i, int err, int64_t rev)
{
    commands[i].call.settle(&fs, NULL, err, rev, 0, commands[i].call.data);
}

static void event(enum store_lock_event_kind kind, uint64_t session, uint64_t request, int64_t token)
{
    const struct store_lock_event e = {.kind = kind, .class = STORE_LOCK_WHOLE, .name = {"db", 2}, .session = session, .request = request, .token = token};

    locks_changed(&fs, &e, 1, OWN);
    locks_look(&fs);
}

static void expect_command(size_t i, enum store_op_kind kind, uint64_t request)
{
    assert_true(i < n_commands);
    assert_int_equal(commands[i].op.kind, kind);
    assert_int_equal(commands[i].op.request, request);
}

static struct lock *ask_again(enum store_lock_class class)
{
    told.n_done = 0;
    return ask(class, true);
}

static void expect_unlock(size_t i, uint64_t request, uint32_t flags)
{
    expect_command(i, STORE_OP_UNLOCK, request);
    assert_int_equal(commands[i].op.flags, STORE_LOCK_RANGE | flags);
}

static void run_out_of_time(void)
{
    usleep(3000);
    locks_tick(&fs);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------------- */

static void test_free_lock_is_held(void **state)
{
    struct lock *l = ask(STORE_LOCK_WHOLE, true);

    (void)state;
    expect_command(0, STORE_OP_LOCK, 1);
    assert_int_equal(commands[0].op.flags, STORE_LOCK_WHOLE | STORE_LOCK_EXCLUSIVE);
    assert_false(locks_is_held(l));
    answer(0, 0, 100);
    assert_int_equal(told.n_done, 1);
    assert_int_equal(told.err, 0);
    assert_int_equal(told.token, 100);
    assert_true(locks_is_held(l));
    locks_drop(&fs, l, on_settled, NULL);
    expect_command(1, STORE_OP_UNLOCK, 1);
    assert_int_equal(told.n_settled, 0);
    answer(1, 0, 0);
    assert_int_equal(told.n_settled, 1);
    assert_int_equal(told.settle_err, 0);
}

static void test_waiter_is_granted_by_event(void **state)
{
    struct lock *l = ask(STORE_LOCK_WHOLE, true);

    (void)state;
    answer(0, QE_QUEUED, 0);
    assert_true(locks_is_queued(l));
    event(STORE_LOCK_GRANTED, OWN + 1, 1, 50); /* of another member */
    assert_int_equal(told.n_done, 0);
    event(STORE_LOCK_GRANTED, OWN, 1, 51);
    assert_int_equal(told.n_done, 1);
    assert_int_equal(told.token, 51);
}

static void test_grant_before_the_answer(void **state)
{
    struct lock *l = ask(STORE_LOCK_WHOLE, true);

    (void)state;
    event(STORE_LOCK_GRANTED, OWN, 1, 51);
    answer(0, QE_QUEUED, 0);
    assert_int_equal(told.n_done, 1);
    assert_true(locks_is_held(l));
}

static void test_session_does_not_hold(void **state)
{
    (void)state;
    ask(STORE_LOCK_WHOLE, true);
    holds = false;
    answer(0, 0, 100);
    locks_tick(&fs);
    assert_int_equal(told.n_done, 0);
    holds = true;
    locks_tick(&fs);
    assert_int_equal(told.n_done, 1);
}

static void test_lapse_queues_anew(void **state)
{
    struct lock *l = ask(STORE_LOCK_WHOLE, true);

    (void)state;
    answer(0, QE_QUEUED, 0);
    locks_lapsed(&fs);
    locks_look(&fs);
    assert_int_equal(n_commands, 1);
    event(STORE_LOCK_LOST, OWN, 1, 0);
    expect_command(1, STORE_OP_LOCK, 2);
    event(STORE_LOCK_GRANTED, OWN, 1, 70); /* of its former life */
    assert_int_equal(told.n_done, 0);
    answer(1, 0, 80);
    assert_int_equal(told.n_done, 1);
    assert_int_equal(told.token, 80);
    assert_int_equal(told.n_lost, 0);
    assert_true(locks_is_held(l));
}

static void test_lost_before_the_answer(void **state)
{
    (void)state;
    ask(STORE_LOCK_WHOLE, true);
    event(STORE_LOCK_LOST, OWN, 1, 0);
    answer(0, 0, 100); /* what it got is what was lost */
    assert_int_equal(told.n_done, 0);
    answer(1, 0, 110);
    assert_int_equal(told.token, 110);
}

static void test_lapse_takes_what_is_held(void **state)
{
    struct lock *l = ask(STORE_LOCK_WHOLE, true);

    (void)state;
    answer(0, 0, 100);
    locks_lapsed(&fs);
    locks_look(&fs);
    assert_int_equal(told.n_lost, 1);
    assert_false(locks_is_held(l));
    event(STORE_LOCK_LOST, OWN, 1, 0);
    assert_int_equal(told.n_lost, 1);
    locks_drop(&fs, l, on_settled, NULL);
    locks_tick(&fs);
    assert_int_equal(told.n_settled, 1);
    assert_int_equal(n_commands, 1);
}

static void test_install_is_compared(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        ask(STORE_LOCK_WHOLE, true);
    answer(0, 0, 100);
    told.n_done = 0;
    for (size_t i = 1; i < 4; i++)
        answer(i, QE_QUEUED, 0);
    listed[n_listed++] = (struct store_lock){.request = 1, .token = 100};
    listed[n_listed++] = (struct store_lock){.request = 2, .token = 120}; /* granted meanwhile */
    listed[n_listed++] = (struct store_lock){.request = 3};
    locks_set_watch(&fs, on_watch);
    locks_installed(&fs);
    locks_look(&fs);
    assert_int_equal(told.n_done, 1);
    assert_int_equal(told.token, 120);
    assert_int_equal(told.n_lost, 0);
    assert_int_equal(n_commands, 5); /* the fourth is not in the queue any more */
    expect_command(4, STORE_OP_LOCK, 5);
    assert_string_equal(watched, "(all)");
}

static void test_who_leaves_has_left(void **state)
{
    struct lock *l = ask(STORE_LOCK_RANGE, true);

    (void)state;
    answer(0, QE_QUEUED, 0);
    locks_leave(l);
    locks_leave(l);
    expect_unlock(1, 1, STORE_LOCK_WAITING);
    assert_int_equal(n_commands, 2);
    assert_int_equal(told.n_done, 0);
    answer(1, 0, 0);
    assert_int_equal(told.n_done, 1);
    assert_int_equal(told.err, QE_INTR);
}

static void test_who_leaves_before_the_answer(void **state)
{
    struct lock *l = ask(STORE_LOCK_RANGE, true);

    (void)state;
    locks_leave(l);
    answer(0, QE_QUEUED, 0);
    assert_false(locks_is_queued(l)); /* it does not wait for long */
    answer(1, 0, 0);
    assert_int_equal(told.n_done, 1);
    assert_int_equal(told.err, QE_INTR);
    l = ask_again(STORE_LOCK_RANGE);
    locks_leave(l);
    answer(2, 0, 90); /* was free */
    assert_int_equal(told.n_done, 1);
    assert_int_equal(told.err, 0);
    answer(3, QE_BUSY, 0);
    l = ask_again(STORE_LOCK_RANGE);
    locks_leave(l);
    answer(4, QE_DEADLOCK, 0);
    assert_int_equal(told.err, QE_DEADLOCK);
    answer(5, 0, 0);
    assert_int_equal(told.n_done, 1);
}

static void test_who_was_granted_does_not_leave(void **state)
{
    struct lock *l = ask(STORE_LOCK_RANGE, true);

    (void)state;
    answer(0, QE_QUEUED, 0);
    locks_leave(l);
    event(STORE_LOCK_GRANTED, OWN, 1, 100);
    assert_int_equal(told.n_done, 1);
    assert_int_equal(told.err, 0);
    answer(1, QE_BUSY, 0);
    l = ask_again(STORE_LOCK_RANGE);
    answer(2, QE_QUEUED, 0);
    locks_leave(l);
    answer(3, QE_BUSY, 0); /* the event comes later, or was missed */
    assert_int_equal(told.n_done, 1);
    assert_int_equal(told.err, 0);
    event(STORE_LOCK_GRANTED, OWN, 2, 110);
    assert_int_equal(told.n_done, 1);
    assert_int_equal(n_commands, 4);
}

/* What was granted to the former life is asked for anew, and left again. */
static void test_lapse_while_leaving(void **state)
{
    struct lock *l = ask(STORE_LOCK_RANGE, true);

    (void)state;
    answer(0, QE_QUEUED, 0);
    locks_leave(l);
    event(STORE_LOCK_LOST, OWN, 1, 0);
    assert_int_equal(told.n_done, 1);
    assert_int_equal(told.err, QE_INTR);
    answer(1, 0, 0);
    l = ask_again(STORE_LOCK_RANGE);
    answer(2, QE_QUEUED, 0);
    locks_leave(l);
    holds = false;
    event(STORE_LOCK_GRANTED, OWN, 2, 100);
    answer(3, QE_BUSY, 0);
    event(STORE_LOCK_LOST, OWN, 2, 0);
    assert_int_equal(told.n_done, 0);
    expect_command(4, STORE_OP_LOCK, 3);
    holds = true;
    locks_leave(l);
    answer(4, QE_QUEUED, 0);
    answer(5, 0, 0);
    assert_int_equal(told.n_done, 1);
    assert_int_equal(told.err, QE_INTR);
}

static void test_install_while_leaving(void **state)
{
    struct lock *l = ask(STORE_LOCK_RANGE, true);

    (void)state;
    answer(0, QE_QUEUED, 0);
    locks_leave(l);
    locks_installed(&fs); /* not in the queue any more, for whatever reason: the answer will come */
    locks_look(&fs);
    assert_int_equal(told.n_done, 0);
    answer(1, 0, 0);
    assert_int_equal(told.err, QE_INTR);
    assert_int_equal(n_commands, 2);
}

static void test_watchers_hear_of_named_locks(void **state)
{
    (void)state;
    watched[0] = 0;
    event(STORE_LOCK_CHANGED, OWN + 1, 0, 0);
    assert_string_equal(watched, "");
    locks_set_watch(&fs, on_watch);
    event(STORE_LOCK_CHANGED, OWN + 1, 0, 0);
    assert_string_equal(watched, "db");
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------------- */

static void test_refusals(void **state)
{
    static const int errors[] = {QE_WOULDBLOCK, QE_DEADLOCK, QE_NOLOCK, QE_DISKFULL};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        told.n_done = 0;
        ask(STORE_LOCK_RANGE, false);
        assert_true(commands[i].op.flags & STORE_LOCK_NOWAIT);
        answer(i, errors[i], 0);
        assert_int_equal(told.n_done, 1);
        assert_int_equal(told.err, errors[i]);
    }
    assert_int_equal(n_commands, 4);
}

static void test_no_quorum_is_told_at_once(void **state)
{
    (void)state;
    writable = QE_TIMEDOUT;
    ask(STORE_LOCK_WHOLE, true);
    locks_tick(&fs);
    assert_int_equal(told.err, QE_TIMEDOUT);
    assert_int_equal(n_commands, 0);
}

static void test_late_lock_is_withdrawn(void **state)
{
    (void)state;
    opt.timeout_ms = 1;
    ask(STORE_LOCK_WHOLE, true);
    run_out_of_time();
    assert_int_equal(told.n_done, 1);
    assert_int_equal(told.err, QE_TIMEDOUT);
    expect_command(1, STORE_OP_UNLOCK, 1);
    answer(0, 0, 100); /* granted to nobody */
    assert_int_equal(told.n_done, 1);
    answer(1, 0, 0);
}

static void test_queued_waiter_is_never_late(void **state)
{
    (void)state;
    opt.timeout_ms = 1;
    ask(STORE_LOCK_WHOLE, true);
    answer(0, QE_QUEUED, 0);
    run_out_of_time();
    assert_int_equal(told.n_done, 0);
}

static void test_range_that_was_given_up(void **state)
{
    struct lock *l = ask(STORE_LOCK_RANGE, true);

    (void)state;
    answer(0, QE_QUEUED, 0);
    locks_drop(&fs, l, on_settled, NULL);
    expect_unlock(1, 1, STORE_LOCK_WAITING);
    event(STORE_LOCK_GRANTED, OWN, 1, 100); /* just before that was known */
    answer(1, QE_BUSY, 0);
    assert_int_equal(told.n_settled, 0);
    expect_unlock(2, 1, 0);
    answer(2, 0, 0);
    assert_int_equal(told.settle_err, QE_STALE);
    assert_int_equal(told.n_done, 0);
}

static void test_range_that_was_given_up_in_time(void **state)
{
    struct lock *l = ask(STORE_LOCK_RANGE, true);

    (void)state;
    answer(0, QE_QUEUED, 0);
    locks_drop(&fs, l, on_settled, NULL);
    answer(1, 0, 0);
    assert_int_equal(told.n_settled, 1);
    assert_int_equal(told.settle_err, 0);
    assert_int_equal(n_commands, 2);
}

static void test_leaving_without_a_quorum(void **state)
{
    struct lock *l = ask(STORE_LOCK_RANGE, true);

    (void)state;
    answer(0, QE_QUEUED, 0);
    writable = QE_TIMEDOUT;
    locks_leave(l);
    expect_unlock(1, 1, STORE_LOCK_WAITING);
    assert_int_equal(told.n_done, 0);
    run_out_of_time();
    assert_int_equal(told.n_done, 1);
    assert_int_equal(told.err, QE_TIMEDOUT);
    locks_drop(&fs, l, on_settled, NULL);
    answer(1, QE_BUSY, 0); /* its caller was told already */
    assert_int_equal(told.n_done, 1);
    answer(2, QE_BUSY, 0);
    expect_unlock(3, 1, 0);
    answer(3, 0, 0);
    assert_int_equal(told.settle_err, QE_STALE);
}

static void test_leaving_is_tried_again(void **state)
{
    struct lock *l = ask(STORE_LOCK_RANGE, true);

    (void)state;
    answer(0, QE_QUEUED, 0);
    refuse = true;
    locks_leave(l);
    locks_tick(&fs);
    assert_int_equal(told.n_done, 0);
    refuse = false;
    locks_tick(&fs);
    expect_unlock(1, 1, STORE_LOCK_WAITING);
    answer(1, 0, 0);
    assert_int_equal(told.err, QE_INTR);
}

static void test_giving_back_is_tried_again(void **state)
{
    struct lock *l = ask(STORE_LOCK_WHOLE, true);

    (void)state;
    answer(0, 0, 100);
    refuse = true;
    locks_drop(&fs, l, on_settled, NULL);
    locks_tick(&fs);
    assert_int_equal(told.n_settled, 0);
    refuse = false;
    locks_tick(&fs);
    expect_command(1, STORE_OP_UNLOCK, 1);
    answer(1, 0, 0);
    assert_int_equal(told.n_settled, 1);
}

static void test_giving_back_without_a_quorum(void **state)
{
    (void)state;
    opt.timeout_ms = 1;
    assert_int_equal(locks_unrange(&fs, 42, 3, 0, 9, on_settled, NULL), 0);
    expect_command(0, STORE_OP_UNLOCK, 0);
    run_out_of_time();
    assert_int_equal(told.settle_err, QE_TIMEDOUT);
    answer(0, 0, 0); /* in the end the cluster knows */
    assert_int_equal(told.n_settled, 1);
}

static void test_conversion_that_fails_leaves_nothing(void **state)
{
    static const struct lock_calls calls = {on_done, on_lost};
    const struct lock_want want = {.class = STORE_LOCK_WHOLE, .ino = 42, .owner = 3, .instead_of = ask(STORE_LOCK_WHOLE, true)};

    (void)state;
    answer(0, 0, 100);
    writable = QE_TIMEDOUT;
    assert_non_null(locks_ask(&fs, &want, &calls, NULL));
    locks_tick(&fs);
    assert_int_equal(told.err, QE_TIMEDOUT);
    expect_command(1, STORE_OP_UNLOCK, 1);
    answer(1, 0, 0);
}

static void test_conversion_takes_the_place(void **state)
{
    static const struct lock_calls calls = {on_done, on_lost};
    const struct lock_want want = {.class = STORE_LOCK_WHOLE, .ino = 42, .owner = 3, .wait = true, .instead_of = ask(STORE_LOCK_WHOLE, true)};

    (void)state;
    answer(0, 0, 100);
    assert_non_null(locks_ask(&fs, &want, &calls, NULL));
    answer(1, QE_QUEUED, 0);
    locks_installed(&fs); /* the store does not know the old one any more: nobody has lost anything */
    listed[n_listed++] = (struct store_lock){.request = 2};
    locks_look(&fs);
    event(STORE_LOCK_GRANTED, OWN, 2, 120);
    assert_int_equal(told.n_done, 2);
    assert_int_equal(told.n_lost, 0);
    assert_int_equal(n_commands, 2);
}

static void test_no_memory_for_the_command(void **state)
{
    (void)state;
    refuse = true;
    ask(STORE_LOCK_WHOLE, true);
    assert_int_equal(told.n_done, 0);
    locks_tick(&fs);
    assert_int_equal(told.err, QE_NOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_free_lock_is_held, setup, teardown),
        cmocka_unit_test_setup_teardown(test_waiter_is_granted_by_event, setup, teardown),
        cmocka_unit_test_setup_teardown(test_grant_before_the_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_session_does_not_hold, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lapse_queues_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lost_before_the_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lapse_takes_what_is_held, setup, teardown),
        cmocka_unit_test_setup_teardown(test_install_is_compared, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_leaves_has_left, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_leaves_before_the_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_was_granted_does_not_leave, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lapse_while_leaving, setup, teardown),
        cmocka_unit_test_setup_teardown(test_install_while_leaving, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watchers_hear_of_named_locks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_quorum_is_told_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_late_lock_is_withdrawn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_queued_waiter_is_never_late, setup, teardown),
        cmocka_unit_test_setup_teardown(test_range_that_was_given_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_range_that_was_given_up_in_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leaving_without_a_quorum, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leaving_is_tried_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_giving_back_is_tried_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_giving_back_without_a_quorum, setup, teardown),
        cmocka_unit_test_setup_teardown(test_conversion_that_fails_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_conversion_takes_the_place, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory_for_the_command, setup, teardown),
    };

    return cmocka_run_group_tests_name("locks", tests, NULL, NULL);
}
