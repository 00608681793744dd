/* The edits of an open file: whatever is merged or dropped, applying them gives what the calls gave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/edits.h"

/* ---- Fixture ---- */

enum { CONTENT_MAX = 300, CALLS = 60, ROUNDS = 4000 };

struct fixture {
    struct edits edits;
    struct buf plain;   /* what a local file would hold */
    struct buf initial; /* what it held before the first edit */
};

static void fixture_fini(struct fixture *f)
{
    edits_fini(&f->edits);
    buf_fini(&f->plain);
    buf_fini(&f->initial);
}

/* ---- Helpers ---- */

static void do_write(struct fixture *f, size_t off, const char *text, size_t len)
{
    assert_int_equal(edits_write(&f->edits, off, text, len), 0);
    assert_int_equal(buf_write_at(&f->plain, off, text, len), 0);
}

static void do_truncate(struct fixture *f, size_t size)
{
    assert_int_equal(edits_truncate(&f->edits, size), 0);
    assert_int_equal(buf_resize(&f->plain, size), 0);
}

static void do_append(struct fixture *f, const char *text, size_t len)
{
    assert_int_equal(edits_append(&f->edits, text, len), 0);
    assert_int_equal(buf_append(&f->plain, text, len), 0);
}

static size_t bytes_held(const struct edits *e)
{
    size_t n = 0;

    for (size_t i = 0; i < e->n; i++)
        n += e->list[i].bytes.len;
    return n;
}

static void assert_same(const struct fixture *f, unsigned seed)
{
    struct buf applied = {0};

    assert_int_equal(buf_append(&applied, f->initial.data, f->initial.len), 0);
    assert_int_equal(edits_apply(&f->edits, &applied), 0);
    if (applied.len != f->plain.len || (applied.len && memcmp(applied.data, f->plain.data, applied.len)))
        fail_msg("seed %u: %zu bytes applied, %zu expected", seed, applied.len, f->plain.len);
    assert_int_equal(f->edits.bytes, bytes_held(&f->edits));
    buf_fini(&applied);
}

static void random_call(struct fixture *f)
{
    char text[40];
    size_t len = (size_t)(rand() % (int)sizeof text), off = (size_t)(rand() % CONTENT_MAX);

    memset(text, 'a' + rand() % 26, sizeof text);
    switch (rand() % 12) {
    case 0: do_truncate(f, rand() % 3 ? off : 0); break;
    case 1:
    case 2: do_append(f, text, len); break;
    default: do_write(f, off, text, len);
    }
}

/* ---- Success ---- */

/* Consecutive writes are one edit, however many calls made them. */
static void test_sequential_writes_merge(void **state)
{
    struct fixture f = {0};

    (void)state;
    for (size_t i = 0; i < 1000; i++)
        do_write(&f, i * 3, "abc", 3);
    assert_int_equal(f.edits.n, 1);
    assert_same(&f, 0);
    fixture_fini(&f);
}

/* Rewriting the same pages again and again costs no more memory than the pages. */
static void test_rewrites_do_not_grow(void **state)
{
    struct fixture f = {0};

    (void)state;
    for (int i = 0; i < 1000; i++)
        do_write(&f, (size_t)(i % 7) * 10, "0123456789", 10);
    assert_true(f.edits.bytes <= 70);
    assert_same(&f, 0);
    fixture_fini(&f);
}

/* A truncation to nothing forgets what came before it. */
static void test_truncate_to_zero_drops_all(void **state)
{
    struct fixture f = {0};

    (void)state;
    do_write(&f, 0, "abc", 3);
    do_append(&f, "def", 3);
    do_truncate(&f, 0);
    assert_int_equal(f.edits.n, 1);
    assert_int_equal(f.edits.bytes, 0);
    assert_same(&f, 0);
    fixture_fini(&f);
}

/* Truncations up and down leave two edits, however many there were. */
static void test_truncations_do_not_grow(void **state)
{
    struct fixture f = {0};

    (void)state;
    assert_int_equal(buf_append(&f.initial, "0123456789", 10), 0);
    assert_int_equal(buf_append(&f.plain, "0123456789", 10), 0);
    for (size_t i = 0; i < 1000; i++)
        do_truncate(&f, 5 + i * 7 % 13);
    assert_int_equal(f.edits.n, 2);
    assert_same(&f, 0);
    fixture_fini(&f);
}

/* Writes that do not touch each other are told as one when they make a whole content, else refused beyond EDITS_MAX; what was done stays. */
static void test_many_small_writes(void **state)
{
    for (int whole = 0; whole < 2; whole++) {
        struct fixture f = {0};
        int err = 0;

        (void)state;
        if (whole)
            do_truncate(&f, 0);
        for (size_t i = 0; i < 2 * EDITS_MAX && !err; i++) {
            err = edits_write(&f.edits, 2 * i, "x", 1);
            if (!err)
                assert_int_equal(buf_write_at(&f.plain, 2 * i, "x", 1), 0);
        }
        assert_true(f.edits.n <= EDITS_MAX);
        assert_int_equal(err, whole ? 0 : QE_NOMEM);
        assert_true(edits_cost(&f.edits) > f.edits.bytes);
        assert_same(&f, 0);
        fixture_fini(&f);
    }
}

/* Random calls, compared with a plain buffer after each. */
static void test_random_calls_give_the_plain_result(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= ROUNDS; seed++) {
        struct fixture f = {0};

        srand(seed);
        for (int i = 0; i < rand() % CONTENT_MAX; i++)
            assert_int_equal(buf_append(&f.initial, "x", 1), 0);
        assert_int_equal(buf_append(&f.plain, f.initial.data, f.initial.len), 0);
        for (int i = 0; i < CALLS; i++) {
            random_call(&f);
            assert_same(&f, seed);
        }
        fixture_fini(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequential_writes_merge),
        cmocka_unit_test(test_rewrites_do_not_grow),
        cmocka_unit_test(test_truncate_to_zero_drops_all),
        cmocka_unit_test(test_truncations_do_not_grow),
        cmocka_unit_test(test_many_small_writes),
        cmocka_unit_test(test_random_calls_give_the_plain_result),
    };

    return cmocka_run_group_tests_name("edits", tests, NULL, NULL);
}
