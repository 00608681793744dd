/* Content: edits that merge, sizes, quota, and who wrote what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "store/base/clock.h"
#include "store/base/err.h"
#include "tests/unit/store/kit.h"

#define ROOT STORE_ROOT_INO

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static int edit(struct kit *k, uint64_t ino, enum store_edit_kind kind, uint64_t off, const char *text)
{
    struct store_edit e = {kind, off, kit_str(text)};

    return kit_op(k, &(struct store_op){.kind = STORE_OP_COMMIT, .ino = ino, .edits = &e, .n_edits = 1});
}

static uint64_t file(struct kit *k, const char *text)
{
    assert_int_equal(kit_put(k, ROOT, "f", text), 0);
    return k->res.ino;
}

static int put_zeros(struct kit *k, const char *name, size_t len)
{
    void *data = calloc(1, len);
    int err;

    assert_non_null(data);
    err = kit_put_bytes(k, ROOT, name, data, len);
    free(data);
    return err;
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */


static void edits_apply_in_order_to_the_content_of_the_moment(void **state)
{
    struct kit *k = *state;
    uint64_t ino = file(k, "abcdef");
    struct store_edit edits[] = {{STORE_EDIT_TRUNCATE, 4, {0}}, {STORE_EDIT_WRITE, 1, B("XY")}, {STORE_EDIT_APPEND, 0, B("!")}, {STORE_EDIT_WRITE, 7, B("z")}};
    struct buf b = {0};

    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_COMMIT, .ino = ino, .edits = edits, .n_edits = 4}), 0);
    assert_int_equal(store_content(k->r, STORE_HEAD, ino, &b, NULL), 0);
    assert_int_equal(b.len, 8);
    assert_memory_equal(b.data, "aXYd!\0\0z", 8);
    buf_fini(&b);
}

static void edits_in_any_order_come_to_what_they_come_to_one_by_one(void **state)
{
    struct kit *k = *state;
    unsigned seed = 7;
    uint64_t one;

    assert_int_equal(kit_put(k, ROOT, "once", "start"), 0);
    one = k->res.ino;
    assert_int_equal(kit_put(k, ROOT, "each", "start"), 0);
    for (int round = 0; round < 300; round++) {
        struct store_op each = {.kind = STORE_OP_COMMIT, .ino = k->res.ino, .n_edits = 1}, all = {.kind = STORE_OP_COMMIT, .ino = one, .n_edits = 12};
        struct store_edit edits[12];
        struct buf a = {0}, b = {0};

        for (int i = 0; i < 12; i++) {
            edits[i] = (struct store_edit){.kind = (enum store_edit_kind)(rand_r(&seed) % 3), .off = (uint64_t)(rand_r(&seed) % 40)};
            if (edits[i].kind != STORE_EDIT_TRUNCATE)
                edits[i].bytes = (struct store_bytes){&"abcdefghijklmnopqrstuvwxyz"[i], (size_t)(rand_r(&seed) % 9)};
        }
        all.edits = edits;
        assert_int_equal(kit_op(k, &all), 0);
        for (int i = 0; i < 12; i++) {
            each.edits = &edits[i];
            assert_int_equal(kit_op(k, &each), 0);
        }
        assert_int_equal(store_content(k->r, STORE_HEAD, one, &a, NULL), 0);
        assert_int_equal(store_content(k->r, STORE_HEAD, each.ino, &b, NULL), 0);
        assert_int_equal(a.len, b.len);
        if (a.len)
            assert_memory_equal(a.data, b.data, a.len);
        buf_fini(&a);
        buf_fini(&b);
    }
}

/* All members wait for it. */
static void what_is_cut_off_again_is_not_made(void **state)
{
    enum { N = 30000, FAR = (16 << 20) - 1 };
    struct kit *k = *state;
    struct store_edit *edits = calloc(N, sizeof *edits);
    int64_t start;

    assert_non_null(edits);
    for (size_t i = 0; i < N; i += 2) {
        edits[i] = (struct store_edit){.kind = STORE_EDIT_WRITE, .off = FAR, .bytes = B("x")};
        edits[i + 1] = (struct store_edit){.kind = STORE_EDIT_TRUNCATE, .off = 2 + i};
    }
    assert_int_equal(kit_set(k, "max-value", "16M"), 0);
    assert_int_equal(kit_put(k, ROOT, "f", "v"), 0);
    start = clock_boottime_ns();
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_COMMIT, .ino = k->res.ino, .edits = edits, .n_edits = N}), 0);
    print_message("%d ms\n", (int)((clock_boottime_ns() - start) / 1000000));
    assert_true(clock_boottime_ns() - start < INT64_C(2000000000));
    edits[N - 2].off++;
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_COMMIT, .ino = k->res.ino, .edits = edits, .n_edits = N}), QE_FBIG);
    free(edits);
}

static void two_appends_lose_no_line(void **state)
{
    struct kit *k = *state;
    uint64_t ino = file(k, "");

    assert_int_equal(kit_add(k, ino, "one\n"), 0);
    assert_int_equal(kit_add(k, ino, "two\n"), 0);
    kit_assert_content(k, STORE_HEAD, ino, "one\ntwo\n");
}

static void a_write_beyond_the_end_fills_with_zeros(void **state)
{
    struct kit *k = *state;
    uint64_t ino = file(k, "a");
    struct buf b = {0};

    assert_int_equal(edit(k, ino, STORE_EDIT_WRITE, 4, "b"), 0);
    assert_int_equal(store_content(k->r, STORE_HEAD, ino, &b, NULL), 0);
    assert_int_equal(b.len, 5);
    assert_memory_equal(b.data, "a\0\0\0b", 5);
    buf_fini(&b);
    assert_int_equal(edit(k, ino, STORE_EDIT_WRITE, 100, ""), 0); /* writing nothing writes nothing */
    kit_attr(k, ino, &(struct store_attr){0});
    assert_int_equal(kit_glance(k).live_bytes, 64 + 1 + 5);
}

static void a_commit_to_a_deleted_inode_succeeds_and_publishes_nothing(void **state)
{
    struct kit *k = *state;
    uint64_t ino = file(k, "v");
    int64_t rev;

    assert_int_equal(kit_unlink(k, ROOT, "f"), 0);
    rev = k->res.rev;
    assert_int_equal(kit_add(k, ino, "w"), 0);
    assert_int_equal(k->res.rev, rev);
    assert_int_equal(k->n_changes, 0);
    assert_int_equal(kit_add(k, 4 * 999 + STORE_FILE, "w"), 0); /* one that compaction has forgotten looks the same */
    kit_assert_list(k, STORE_HEAD, ROOT, "");
}

static void a_commit_follows_a_renamed_inode(void **state)
{
    struct kit *k = *state;
    uint64_t ino = file(k, "v");

    assert_int_equal(kit_rename(k, ROOT, "f", ROOT, "g", 0), 0);
    assert_int_equal(kit_add(k, ino, "w"), 0);
    kit_assert_content(k, STORE_HEAD, kit_lookup(k, STORE_HEAD, ROOT, "g"), "vw");
    assert_int_equal(kit_lookup(k, STORE_HEAD, ROOT, "f"), 0);
}

static void a_commit_without_edits_to_an_existing_file_is_no_revision(void **state)
{
    struct kit *k = *state;
    uint64_t ino = file(k, "v");
    int64_t rev = k->res.rev;

    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_COMMIT, .ino = ino}), 0);
    assert_int_equal(k->res.rev, rev);
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_COMMIT, .parent = ROOT, .name = B("new"), .new_ino = kit_ino(k, STORE_FILE)}), 0);
    assert_int_equal(k->res.rev, rev + 1); /* but it makes a new one */
}

static void an_explicit_mtime_wins(void **state)
{
    struct kit *k = *state;
    struct store_edit e = {STORE_EDIT_APPEND, 0, B("x")};
    struct store_op op = {.kind = STORE_OP_COMMIT, .parent = ROOT, .name = B("f"), .new_ino = kit_ino(k, STORE_FILE), .mtime_ns = -5,
                          .valid = STORE_ATTR_MTIME, .edits = &e, .n_edits = 1};
    struct store_attr a;

    assert_int_equal(kit_op(k, &op), 0);
    kit_attr(k, k->res.ino, &a);
    assert_int_equal(a.mtime_ns, -5);
    assert_int_equal(a.ctime_ns, k->time_ns);
    op.valid = 0;
    assert_int_equal(kit_op(k, &op), 0);
    kit_attr(k, k->res.ino, &a);
    assert_int_equal(a.mtime_ns, k->time_ns);
}

static void mode_and_owner_of_a_commit_count_for_new_files_only(void **state)
{
    struct kit *k = *state;
    struct store_edit e = {STORE_EDIT_APPEND, 0, B("x")};
    struct store_op op = {.kind = STORE_OP_COMMIT, .parent = ROOT, .name = B("f"), .new_ino = kit_ino(k, STORE_FILE), .mode = 0640, .uid = 7, .gid = 8,
                          .edits = &e, .n_edits = 1};
    struct store_attr a;

    assert_int_equal(kit_op(k, &op), 0);
    op.mode = 0777;
    op.uid = 0;
    op.valid = STORE_ATTR_MODE | STORE_ATTR_UID;
    assert_int_equal(kit_op(k, &op), 0);
    kit_attr(k, k->res.ino, &a);
    assert_int_equal(a.mode, S_IFREG | 0640);
    assert_int_equal(a.uid, 7);
    assert_int_equal(a.version, 2);
}

static void suid_and_sgid_fall_with_a_commit_that_says_so(void **state)
{
    struct kit *k = *state;
    uint64_t ino = file(k, "v");
    struct store_edit e = {STORE_EDIT_APPEND, 0, B("x")};
    struct store_op op = {.kind = STORE_OP_COMMIT, .ino = ino, .edits = &e, .n_edits = 1};
    struct store_attr a;

    assert_int_equal(kit_chmod(k, ino, 06755), 0);
    assert_int_equal(kit_op(k, &op), 0);
    kit_attr(k, ino, &a);
    assert_int_equal(a.mode & 07777, 06755);
    op.valid = STORE_ATTR_KILLPRIV;
    assert_int_equal(kit_op(k, &op), 0);
    kit_attr(k, ino, &a);
    assert_int_equal(a.mode & 07777, 0755);
    assert_int_equal(kit_chmod(k, ino, 06744), 0);
    assert_int_equal(kit_op(k, &op), 0);
    kit_attr(k, ino, &a);
    assert_int_equal(a.mode & 07777, 02744); /* sgid without group execute is no privilege */
}

static void large_content_survives_attribute_changes_and_compaction(void **state)
{
    struct kit *k = *state;
    char *big = malloc(300001);
    uint64_t ino;
    struct store_attr a, b;

    assert_non_null(big);
    memset(big, 'q', 300000);
    big[300000] = 0;
    ino = file(k, big);
    kit_attr(k, ino, &a);
    assert_int_equal(kit_chmod(k, ino, 0600), 0);
    assert_int_equal(kit_rename(k, ROOT, "f", ROOT, "g", 0), 0);
    kit_attr(k, ino, &b);
    assert_true(a.content == b.content);
    assert_int_equal(kit_compact(k, k->res.rev), 0);
    kit_compact_all(k);
    kit_assert_content(k, STORE_HEAD, ino, big);
    assert_int_equal(kit_add(k, ino, "!"), 0);
    kit_attr(k, ino, &b);
    assert_true(a.content != b.content);
    assert_int_equal(kit_compact(k, k->res.rev), 0);
    kit_compact_all(k);
    assert_int_equal(kit_unlink(k, ROOT, "g"), 0);
    assert_int_equal(kit_compact(k, k->res.rev), 0);
    kit_compact_all(k);
    free(big);
}

static void the_writer_is_who_committed_last(void **state)
{
    struct kit *k = *state;
    uint64_t ino;
    struct store_writer w;

    k->uid = 42;
    ino = file(k, "v");
    k->uid = 43;
    assert_int_equal(kit_chmod(k, ino, 0600), 0); /* no commit */
    assert_int_equal(store_writer(k->r, STORE_HEAD, ino, &w), 0);
    assert_int_equal(w.uid, 42);
    assert_int_equal(w.member, 3);
    assert_int_equal(w.pid, 4711);
    assert_string_equal(w.comm, "test");
    assert_int_equal(kit_add(k, ino, "w"), 0);
    assert_int_equal(store_writer(k->r, STORE_HEAD, ino, &w), 0);
    assert_int_equal(w.uid, 43);
    assert_int_equal(store_writer(k->r, k->res.rev - 1, ino, &w), 0);
    assert_int_equal(w.uid, 42);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */


static void content_above_max_value_is_refused_and_nothing_changes(void **state)
{
    struct kit *k = *state;
    uint64_t ino = file(k, "v");
    int64_t rev;

    assert_int_equal(kit_set(k, "max-value", "4K"), 0);
    rev = k->res.rev;
    assert_int_equal(put_zeros(k, "big", 4096), 0);
    assert_int_equal(put_zeros(k, "big", 4097), QE_FBIG);
    assert_int_equal(put_zeros(k, "other", 4097), QE_FBIG);
    assert_int_equal(edit(k, ino, STORE_EDIT_TRUNCATE, 4097, ""), QE_FBIG);
    assert_int_equal(edit(k, ino, STORE_EDIT_WRITE, 4096, "x"), QE_FBIG);
    assert_int_equal(edit(k, ino, STORE_EDIT_WRITE, UINT64_MAX, "xy"), QE_FBIG);
    assert_int_equal(edit(k, ino, STORE_EDIT_TRUNCATE, UINT64_MAX, ""), QE_FBIG);
    assert_int_equal(k->res.rev, rev + 1);
    kit_assert_content(k, STORE_HEAD, ino, "v");
}

static void content_above_a_lowered_max_value_can_still_shrink(void **state)
{
    struct kit *k = *state;

    assert_int_equal(put_zeros(k, "big", 10000), 0);
    assert_int_equal(kit_set(k, "max-value", "4K"), 0);
    assert_int_equal(edit(k, kit_lookup(k, STORE_HEAD, ROOT, "big"), STORE_EDIT_TRUNCATE, 8000, ""), 0);
    assert_int_equal(edit(k, kit_lookup(k, STORE_HEAD, ROOT, "big"), STORE_EDIT_APPEND, 0, "x"), QE_FBIG);
}

static void quota_refuses_growth_and_keeps_what_is_there(void **state)
{
    struct kit *k = *state;
    uint64_t ino;

    assert_int_equal(kit_set(k, "quota", "1M"), 0);
    assert_int_equal(put_zeros(k, "a", 600000), 0);
    ino = k->res.ino;
    assert_int_equal(put_zeros(k, "b", 600000), QE_NOSPC);
    assert_int_equal(kit_lookup(k, STORE_HEAD, ROOT, "b"), 0);
    assert_int_equal(put_zeros(k, "b", (1 << 20) - 600000 - 130), 0); /* to the last byte: 2 x (64 + 1) */
    assert_int_equal(kit_glance(k).live_bytes, 1 << 20);
    assert_int_equal(kit_add(k, ino, "x"), QE_NOSPC);
    assert_int_equal(kit_mkdir(k, ROOT, "d"), QE_NOSPC);
    assert_int_equal(kit_symlink(k, ROOT, "l", "t"), QE_NOSPC);
    assert_int_equal(kit_setxattr(k, ino, "user.x", "v", 0), QE_NOSPC);
    assert_int_equal(kit_rename(k, ROOT, "a", ROOT, "longer", 0), QE_NOSPC);
    assert_int_equal(kit_rename(k, ROOT, "a", ROOT, "c", 0), 0);
    assert_int_equal(kit_chmod(k, ino, 0600), 0);
    assert_int_equal(edit(k, ino, STORE_EDIT_TRUNCATE, 5, ""), 0);
    assert_int_equal(kit_unlink(k, ROOT, "b"), 0);
    assert_int_equal(kit_glance(k).live_bytes, 64 + 1 + 5);
}

static void below_a_lowered_quota_only_deleting_works(void **state)
{
    struct kit *k = *state;

    assert_int_equal(kit_set(k, "quota", "4M"), 0);
    assert_int_equal(put_zeros(k, "a", 1 << 20), 0);
    assert_int_equal(put_zeros(k, "b", 1 << 20), 0);
    assert_int_equal(kit_set(k, "quota", "1M"), 0);
    assert_int_equal(kit_glance(k).quota, 1 << 20);
    assert_int_equal(put_zeros(k, "c", 1), QE_NOSPC);
    assert_int_equal(put_zeros(k, "a", 1000), 0); /* shrinks */
    assert_int_equal(kit_unlink(k, ROOT, "b"), 0);
    assert_int_equal(put_zeros(k, "c", 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(edits_apply_in_order_to_the_content_of_the_moment),
        KIT_TEST(edits_in_any_order_come_to_what_they_come_to_one_by_one),
        KIT_TEST(what_is_cut_off_again_is_not_made),
        KIT_TEST(two_appends_lose_no_line),
        KIT_TEST(a_write_beyond_the_end_fills_with_zeros),
        KIT_TEST(a_commit_to_a_deleted_inode_succeeds_and_publishes_nothing),
        KIT_TEST(a_commit_follows_a_renamed_inode),
        KIT_TEST(a_commit_without_edits_to_an_existing_file_is_no_revision),
        KIT_TEST(an_explicit_mtime_wins),
        KIT_TEST(mode_and_owner_of_a_commit_count_for_new_files_only),
        KIT_TEST(suid_and_sgid_fall_with_a_commit_that_says_so),
        KIT_TEST(large_content_survives_attribute_changes_and_compaction),
        KIT_TEST(the_writer_is_who_committed_last),
        KIT_TEST(content_above_max_value_is_refused_and_nothing_changes),
        KIT_TEST(content_above_a_lowered_max_value_can_still_shrink),
        KIT_TEST(quota_refuses_growth_and_keeps_what_is_there),
        KIT_TEST(below_a_lowered_quota_only_deleting_works),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
