/* Log entries and commands as bytes: what is damaged or unknown is refused, and nothing crashes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/err.h"
#include "tests/unit/store/kit.h"

#define ROOT STORE_ROOT_INO

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

/* Applies one entry of these command bytes; the store must not have changed unless it succeeds. */
static int apply_raw(struct kit *k, const void *data, size_t len)
{
    struct store_bytes cmd = {data, len};
    struct store_glance before = kit_glance(k), after;
    struct store_entry e = {.index = k->index + 1, .term = 1};
    struct buf b = {0};
    int err;

    assert_int_equal(store_entry_build(kit_cluster_id, 1, k->time_ns, &cmd, 1, &b), 0);
    e.data = (struct store_bytes){b.data, b.len};
    err = store_apply(k->s, &e, 1, NULL);
    after = kit_glance(k);
    if (err)
        assert_memory_equal(&before, &after, sizeof before);
    else
        k->index++;
    buf_fini(&b);
    return err;
}

static void encode(struct kit *k, struct buf *out)
{
    static const struct store_edit edits[] = {{STORE_EDIT_TRUNCATE, 0, {0}}, {STORE_EDIT_WRITE, 3, B("value")}, {STORE_EDIT_APPEND, 0, B("more")}};
    static const struct store_xattr xattr = {B("user.x"), B("y")};
    struct store_op ops[] = {{.kind = STORE_OP_COMMIT, .parent = ROOT, .name = B("f"), .new_ino = kit_ino(k, STORE_FILE), .mode = 0600, .uid = 1, .gid = 2,
                              .mtime_ns = -1, .valid = STORE_ATTR_MTIME, .edits = edits, .n_edits = 3, .xattrs = &xattr, .n_xattrs = 1},
                             {.kind = STORE_OP_RENAME, .parent = ROOT, .name = B("f"), .parent2 = ROOT, .name2 = B("g"), .flags = 1}};
    struct store_command cmd = kit_command(k, ops, 2);

    assert_int_equal(store_command_encode(&cmd, out), 0);
}

static uint32_t next_random(uint32_t *rng)
{
    *rng ^= *rng << 13;
    *rng ^= *rng >> 17;
    return *rng ^= *rng << 5;
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */


static void a_command_comes_back_as_it_was_sent(void **state)
{
    struct kit *k = *state;
    struct buf b = {0}, content = {0}, x = {0};
    uint64_t ino;
    struct store_attr a;

    encode(k, &b);
    assert_int_equal(apply_raw(k, b.data, b.len), 0);
    ino = kit_lookup(k, STORE_HEAD, ROOT, "g");
    assert_true(ino != 0);
    kit_attr(k, ino, &a);
    assert_int_equal(a.mode & 07777, 0600);
    assert_int_equal(a.uid, 1);
    assert_int_equal(a.gid, 2);
    assert_int_equal(a.mtime_ns, -1);
    assert_int_equal(store_content(k->r, STORE_HEAD, ino, &content, NULL), 0);
    assert_int_equal(content.len, 12);
    assert_memory_equal(content.data, "\0\0\0valuemore", 12);
    assert_int_equal(store_getxattr(k->r, STORE_HEAD, ino, "user.x", 6, &x), 0);
    assert_string_equal(buf_cstr(&x), "y");
    buf_fini(&b);
    buf_fini(&content);
    buf_fini(&x);
}

static void entries_are_padded_to_eight_bytes(void **state)
{
    struct buf b = {0};
    uint32_t crc;

    (void)state;
    for (size_t len = 0; len < 20; len++) {
        struct store_bytes cmds[] = {{"abcdefghijklmnopqrst", len}, {"xyz", 3}};

        buf_clear(&b);
        assert_int_equal(store_entry_build(kit_cluster_id, 9, 5, cmds, 2, &b), 0);
        assert_int_equal(b.len % 8, 0);
        assert_int_equal(store_entry_check(b.data, b.len, kit_cluster_id, &crc), 0);
        assert_int_equal(store_entry_check(b.data, b.len, NULL, NULL), 0);
    }
    buf_fini(&b);
}

static void the_crc_is_crc32c(void **state)
{
    /* The header's CRC over known bytes would hide a wrong polynomial that agrees with itself: compare with the bitwise definition. */
    struct store_bytes cmd = {"123456789", 9};
    struct buf b = {0};
    uint32_t crc = ~0u, said;

    (void)state;
    assert_int_equal(store_entry_build(kit_cluster_id, 9, 5, &cmd, 1, &b), 0);
    for (size_t i = 0; i < 56 + 4 + 9; i++) {
        if (i >= 48 && i < 56)
            continue;
        crc ^= b.data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
    }
    assert_int_equal(store_entry_check(b.data, b.len, NULL, &said), 0);
    assert_int_equal(said, ~crc);
    buf_fini(&b);
}

static void applied_entries_are_skipped(void **state)
{
    struct kit *k = *state;
    struct buf cmd = {0}, b = {0};
    struct store_bytes bytes;
    struct store_entry e = {.index = k->index + 5, .term = 2};
    struct store_position pos;
    uint32_t crc;

    encode(k, &cmd);
    bytes = (struct store_bytes){cmd.data, cmd.len};
    assert_int_equal(store_entry_build(kit_cluster_id, 2, k->time_ns, &bytes, 1, &b), 0);
    e.data = (struct store_bytes){b.data, b.len};
    assert_int_equal(store_apply(k->s, &e, 1, NULL), 0);
    assert_int_equal(kit_glance(k).rev, 2);
    assert_int_equal(store_apply(k->s, &e, 1, NULL), 0);
    assert_int_equal(kit_glance(k).rev, 2);
    assert_int_equal(store_entry_check(b.data, b.len, NULL, &crc), 0);
    kit_reopen(k);
    store_position(k->s, &pos);
    assert_int_equal(pos.applied, e.index);
    assert_int_equal(pos.term, 2);
    assert_int_equal(pos.crc, crc);
    assert_int_equal(pos.epoch, 7);
    assert_int_equal(pos.installed_at, 0);
    assert_memory_equal(pos.cluster_id, kit_cluster_id, sizeof kit_cluster_id);
    assert_int_equal(store_lift(k->s, e.index + 3, 4), 0);
    assert_int_equal(store_lift(k->s, e.index, 3), 0); /* never back */
    store_position(k->s, &pos);
    assert_int_equal(pos.applied, e.index + 3);
    assert_int_equal(pos.term, 4);
    assert_int_equal(pos.crc, 0);
    k->index = e.index + 3;
    buf_fini(&cmd);
    buf_fini(&b);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */


static void every_flipped_bit_of_an_entry_is_noticed(void **state)
{
    struct store_bytes cmd = B("some command");
    struct buf b = {0};

    (void)state;
    assert_int_equal(store_entry_build(kit_cluster_id, 9, 5, &cmd, 1, &b), 0);
    for (size_t i = 0; i < b.len * 8; i++) {
        b.data[i / 8] ^= (uint8_t)(1 << (i % 8));
        assert_int_not_equal(store_entry_check(b.data, b.len, kit_cluster_id, NULL), 0);
        b.data[i / 8] ^= (uint8_t)(1 << (i % 8));
    }
    for (size_t len = 0; len < b.len; len++)
        assert_int_equal(store_entry_check(b.data, len, kit_cluster_id, NULL), QE_CORRUPT);
    buf_fini(&b);
}

static void an_entry_of_another_cluster_is_refused(void **state)
{
    struct kit *k = *state;
    uint8_t other[STORE_CLUSTER_ID_SIZE] = {9};
    struct buf b = {0};
    struct store_entry e = {.index = k->index + 1, .term = 1};

    assert_int_equal(store_entry_build(other, 1, 1, NULL, 0, &b), 0);
    e.data = (struct store_bytes){b.data, b.len};
    assert_int_equal(store_entry_check(b.data, b.len, kit_cluster_id, NULL), QE_CORRUPT);
    assert_int_equal(store_apply(k->s, &e, 1, NULL), QE_CORRUPT);
    assert_non_null(strstr(store_errmsg(k->s), "foreign"));
    buf_fini(&b);
}

static void bytes_behind_the_last_command_are_refused(void **state)
{
    struct kit *k = *state;
    struct store_bytes cmds[2];
    struct store_entry e = {.index = k->index + 1, .term = 1};
    struct buf cmd = {0}, b = {0};
    uint32_t crc = ~0u;

    encode(k, &cmd);
    cmds[0] = cmds[1] = (struct store_bytes){cmd.data, cmd.len};
    assert_int_equal(store_entry_build(kit_cluster_id, 1, 1, cmds, 2, &b), 0);
    b.data[40] = 1; /* says one command, with a CRC that agrees */
    for (size_t i = 0; i < 56 + 2 * (4 + cmd.len); i++) {
        if (i >= 48 && i < 56)
            continue;
        crc ^= b.data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
    }
    for (int i = 0; i < 4; i++)
        b.data[48 + i] = (uint8_t)(~crc >> (8 * i));
    e.data = (struct store_bytes){b.data, b.len};
    assert_int_equal(store_entry_check(b.data, b.len, NULL, NULL), 0);
    assert_int_equal(store_apply(k->s, &e, 1, NULL), QE_CORRUPT);
    assert_int_equal(kit_glance(k).rev, 1);
    buf_fini(&cmd);
    buf_fini(&b);
}

static void an_unknown_field_stops_the_member(void **state)
{
    struct kit *k = *state;
    static const uint8_t unknown[] = {0xfa, 0x01, 0x01, 'x'}; /* field 31 */
    struct buf b = {0};

    encode(k, &b);
    assert_int_equal(buf_append(&b, unknown, sizeof unknown), 0);
    assert_int_equal(apply_raw(k, b.data, b.len), QE_FORMAT);
    assert_non_null(strstr(store_errmsg(k->s), "cannot be understood"));
    buf_fini(&b);
}

static void an_unknown_operation_stops_the_member(void **state)
{
    struct kit *k = *state;
    struct store_op op = {.kind = (enum store_op_kind)99};
    struct store_command cmd = kit_command(k, &op, 1);
    struct buf b = {0};

    assert_int_equal(store_command_encode(&cmd, &b), 0);
    assert_int_equal(apply_raw(k, b.data, b.len), QE_FORMAT);
    buf_fini(&b);
}

static void many_empty_operations_are_bounded(void **state)
{
    struct kit *k = *state;
    size_t len = 4 << 20;
    uint8_t *data = malloc(len);

    assert_non_null(data);
    for (size_t i = 0; i < len; i += 2) {
        data[i] = 0x52; /* field 10, an operation of no bytes */
        data[i + 1] = 0;
    }
    assert_int_equal(apply_raw(k, data, len), QE_FORMAT);
    free(data);
}

static void damaged_commands_never_crash(void **state)
{
    struct kit *k = *state;
    uint32_t rng = 2463534242u;
    int refused = 0, taken = 0;
    struct buf good = {0};

    encode(k, &good);
    for (int i = 0; i < 20000; i++) {
        struct buf bad = {0};
        size_t len = next_random(&rng) % 8 ? good.len : next_random(&rng) % (good.len + 1);

        assert_int_equal(buf_append(&bad, good.data, len), 0);
        for (uint32_t flips = 1 + next_random(&rng) % 4; flips && len; flips--)
            bad.data[next_random(&rng) % len] = (uint8_t)next_random(&rng);
        if (apply_raw(k, bad.data, bad.len))
            refused++;
        else
            taken++;
        buf_fini(&bad);
    }
    assert_true(refused > 1000);
    assert_true(taken > 100);
    buf_fini(&good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(a_command_comes_back_as_it_was_sent),
        KIT_TEST(entries_are_padded_to_eight_bytes),
        KIT_TEST(the_crc_is_crc32c),
        KIT_TEST(applied_entries_are_skipped),
        KIT_TEST(every_flipped_bit_of_an_entry_is_noticed),
        KIT_TEST(an_entry_of_another_cluster_is_refused),
        KIT_TEST(bytes_behind_the_last_command_are_refused),
        KIT_TEST(an_unknown_field_stops_the_member),
        KIT_TEST(an_unknown_operation_stops_the_member),
        KIT_TEST(many_empty_operations_are_bounded),
        KIT_TEST(damaged_commands_never_crash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
