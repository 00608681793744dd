/* What a leader takes of the streams that other members send: each command once, in order, nothing left out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "replica/inbox.h"
#include "store/base/buf.h"
#include "store/store.h"

enum { TERM = 7, MEMBER = 2 };

/* ---- Fixture ------------------------------------------------------------------------------------------------------------- */

static struct inboxes in;

static int setup(void **state)
{
    (void)state;
    inbox_reset(&in, TERM);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    inbox_reset(&in, 0);
    return 0;
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static size_t encode(struct buf *out, uint32_t member, uint64_t seq, enum store_op_kind kind, size_t size)
{
    char *text = calloc(size + 1, 1);
    struct store_edit edit = {.kind = STORE_EDIT_APPEND, .bytes = {text, size}};
    struct store_op op = {.kind = kind, .parent = 1, .name = {"f", 1}, .edits = &edit, .n_edits = size > 0};
    struct store_command cmd = {.session = 5, .seq = seq, .member = member, .comm = "test", .ops = &op, .n_ops = 1};
    size_t before = out->len;

    assert_int_equal(store_command_encode(&cmd, out), 0);
    free(text);
    return out->len - before;
}

/* A frame of the commands seq, seq + 1, ... at position `first`. */
static enum inbox_verdict frame(uint64_t term, uint64_t stream, uint64_t first, uint64_t seq, unsigned n)
{
    Qfs__Forward f = QFS__FORWARD__INIT;
    struct buf payload = {0};
    uint32_t len[16];
    enum inbox_verdict verdict;

    for (unsigned i = 0; i < n; i++)
        len[i] = (uint32_t)encode(&payload, MEMBER, seq + i, STORE_OP_COMMIT, 3);
    f.term = term;
    f.stream = stream;
    f.first = first;
    f.n_len = n;
    f.len = len;
    verdict = inbox_take(&in, MEMBER, &f, payload.data, payload.len);
    buf_fini(&payload);
    return verdict;
}

static enum inbox_verdict single(uint32_t from, uint32_t says, enum store_op_kind kind, size_t size, uint64_t first)
{
    Qfs__Forward f = QFS__FORWARD__INIT;
    struct buf payload = {0};
    uint32_t len = (uint32_t)encode(&payload, says, 1, kind, size);
    enum inbox_verdict verdict;

    f.term = TERM;
    f.stream = 1;
    f.first = first;
    f.n_len = 1;
    f.len = &len;
    verdict = inbox_take(&in, from, &f, payload.data, payload.len);
    buf_fini(&payload);
    return verdict;
}

/* What the leader would propose, in order: "4 5 6". Takes it all. */
static void assert_holds(const char *seqs)
{
    struct buf text = {0};
    struct inbox_command *c;

    while (in.n > 0 && (c = inbox_pop(&in.list[0])) != NULL) {
        buf_printf(&text, "%s%d", text.len ? " " : "", (int)c->seq);
        free(c);
    }
    assert_string_equal(buf_cstr(&text), seqs);
    assert_true(in.n == 0 || (in.list[0].bytes == 0 && in.list[0].n == 0));
    buf_fini(&text);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void frames_that_continue_the_stream_are_taken(void **state)
{
    (void)state;
    assert_int_equal(frame(TERM, 1, 0, 4, 2), INBOX_TAKEN);
    assert_int_equal(frame(TERM, 1, 2, 6, 1), INBOX_TAKEN);
    assert_holds("4 5 6");
    assert_int_equal(frame(TERM, 1, 3, 7, 1), INBOX_TAKEN);
    assert_holds("7");
}

static void a_repeated_frame_is_taken_once(void **state)
{
    (void)state;
    assert_int_equal(frame(TERM, 1, 0, 4, 2), INBOX_TAKEN);
    assert_int_equal(frame(TERM, 1, 0, 4, 2), INBOX_OLD);
    assert_int_equal(frame(TERM, 1, 1, 5, 2), INBOX_TAKEN); /* the first of these is here already */
    assert_int_equal(frame(TERM, 1, 0, 4, 1), INBOX_OLD);
    assert_holds("4 5 6");
    assert_int_equal(frame(TERM, 1, 2, 6, 1), INBOX_OLD);
    assert_holds("");
}

static void a_frame_that_comes_too_early_ends_the_stream(void **state)
{
    (void)state;
    assert_int_equal(frame(TERM, 1, 0, 4, 1), INBOX_TAKEN);
    assert_int_equal(frame(TERM, 1, 2, 6, 1), INBOX_RESTART);
    assert_int_equal(frame(TERM, 1, 1, 5, 1), INBOX_RESTART); /* the rest must not come before what is sent again */
    assert_holds("");
    assert_int_equal(frame(TERM, 2, 0, 4, 3), INBOX_TAKEN);
    assert_holds("4 5 6");
}

static void a_new_stream_replaces_what_waits_of_the_old_one(void **state)
{
    (void)state;
    assert_int_equal(frame(TERM, 1, 0, 4, 3), INBOX_TAKEN);
    assert_int_equal(frame(TERM, 2, 0, 5, 1), INBOX_TAKEN); /* 4 was answered with a timeout meanwhile */
    assert_int_equal(frame(TERM, 1, 3, 7, 1), INBOX_OLD);
    assert_int_equal(frame(TERM, 2, 1, 6, 2), INBOX_TAKEN);
    assert_holds("5 6 7");
}

static void a_new_stream_must_come_from_its_beginning(void **state)
{
    (void)state;
    assert_int_equal(frame(TERM, 3, 1, 5, 1), INBOX_RESTART);
    assert_int_equal(frame(TERM, 3, 0, 4, 1), INBOX_RESTART);
    assert_int_equal(frame(TERM, 4, 0, 4, 1), INBOX_TAKEN);
    assert_holds("4");
}

static void only_frames_of_our_term_are_taken(void **state)
{
    (void)state;
    assert_int_equal(frame(TERM - 1, 9, 0, 4, 1), INBOX_OLD);
    assert_int_equal(frame(TERM + 1, 9, 0, 4, 1), INBOX_RESTART);
    assert_int_equal(frame(TERM, 1, 0, 4, 1), INBOX_TAKEN);
    inbox_reset(&in, TERM + 2);
    assert_int_equal(frame(TERM, 1, 1, 5, 1), INBOX_OLD);
    assert_holds("");
}

/* Members come and go while one leads: it takes what the newest one sends, however many there were before. */
static void the_place_of_a_silent_member_goes_to_a_new_one(void **state)
{
    (void)state;
    for (uint32_t m = 1; m <= 3 * INBOX_MEMBERS_MAX; m++) {
        assert_int_equal(single(m, m, STORE_OP_COMMIT, 1, 0), INBOX_TAKEN);
        for (unsigned i = 0; i < in.n; i++)
            free(inbox_pop(&in.list[i]));
        if (m > MEMBER) /* one that goes on keeps its place */
            assert_int_equal(frame(TERM, 1, m - MEMBER, m, 1), INBOX_TAKEN);
    }
    assert_int_equal(single(3, 3, STORE_OP_COMMIT, 1, 1), INBOX_RESTART); /* one that had lost its place begins anew */
}

static void sessions_stand_alone_and_own_needs_are_known(void **state)
{
    struct inbox_command *c;

    (void)state;
    assert_int_equal(single(MEMBER, MEMBER, STORE_OP_SESSION, 0, 0), INBOX_TAKEN);
    assert_int_equal(single(MEMBER, MEMBER, STORE_OP_RESERVE, 0, 1), INBOX_TAKEN);
    assert_int_equal(single(MEMBER, MEMBER, STORE_OP_COMMIT, 1, 2), INBOX_TAKEN);
    for (int i = 0; i < 3; i++) {
        c = inbox_pop(&in.list[0]);
        assert_int_equal(c->alone, i == 0);
        assert_int_equal(c->internal, i < 2);
        free(c);
    }
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static void too_much_ends_the_stream_and_is_dropped(void **state)
{
    enum inbox_verdict verdict = INBOX_TAKEN;
    uint64_t n = 0;

    (void)state;
    while (verdict == INBOX_TAKEN && n < 100)
        verdict = single(MEMBER, MEMBER, STORE_OP_COMMIT, 1 << 20, n++);
    assert_int_equal(verdict, INBOX_RESTART);
    assert_true(n > 20);
    assert_int_equal(in.list[0].bytes, 0);
    verdict = INBOX_TAKEN;
    for (n = 0; verdict == INBOX_TAKEN && n < 20000; n += 16)
        verdict = frame(TERM, 2, n, n + 1, 16);
    assert_int_equal(verdict, INBOX_RESTART);
    assert_true(n > 4096);
}

static void what_no_member_would_send_is_refused(void **state)
{
    Qfs__Forward f = QFS__FORWARD__INIT;
    uint32_t len[2] = {4, 4};

    (void)state;
    assert_int_equal(single(MEMBER, 3, STORE_OP_COMMIT, 1, 0), INBOX_MALFORMED); /* somebody else's */
    f.term = TERM;
    f.stream = 2;
    assert_int_equal(inbox_take(&in, MEMBER, &f, (const uint8_t *)"", 0), INBOX_MALFORMED);
    f.n_len = 2;
    f.len = len;
    assert_int_equal(inbox_take(&in, MEMBER, &f, (const uint8_t *)"1234567", 7), INBOX_MALFORMED);
    assert_int_equal(inbox_take(&in, MEMBER, &f, (const uint8_t *)"123456789", 9), INBOX_MALFORMED);
    assert_int_equal(inbox_take(&in, MEMBER, &f, (const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff", 8), INBOX_MALFORMED);
    f.first = UINT64_MAX;
    assert_int_equal(inbox_take(&in, MEMBER, &f, (const uint8_t *)"12345678", 8), INBOX_MALFORMED);
    assert_holds("");
}

static void members_beyond_the_limit_are_not_served(void **state)
{
    (void)state;
    for (uint32_t m = 1; m <= INBOX_MEMBERS_MAX; m++)
        assert_int_equal(single(m, m, STORE_OP_COMMIT, 1, 0), INBOX_TAKEN);
    assert_int_equal(single(INBOX_MEMBERS_MAX + 1, INBOX_MEMBERS_MAX + 1, STORE_OP_COMMIT, 1, 0), INBOX_RESTART);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(frames_that_continue_the_stream_are_taken),
        TEST(a_repeated_frame_is_taken_once),
        TEST(a_frame_that_comes_too_early_ends_the_stream),
        TEST(a_new_stream_replaces_what_waits_of_the_old_one),
        TEST(a_new_stream_must_come_from_its_beginning),
        TEST(only_frames_of_our_term_are_taken),
        TEST(the_place_of_a_silent_member_goes_to_a_new_one),
        TEST(sessions_stand_alone_and_own_needs_are_known),
        TEST(too_much_ends_the_stream_and_is_dropped),
        TEST(what_no_member_would_send_is_refused),
        TEST(members_beyond_the_limit_are_not_served),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("inbox", tests, NULL, NULL);
}
