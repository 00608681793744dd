/* Reading libraft's files: what is sound, what a crash leaves, and what only damage can be. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <raft.h>
#include <raft/uv.h>

#include "replica/marker.h"
#include "replica/segment.h"
#include "replica/transport.h"
#include "store/base/err.h"
#include "tests/unit/replica/member_fixture.h"

/* ---- Fixture ------------------------------------------------------------------------------------------------------------- */

enum { SEGMENT_BYTES = 64 << 10 };
static const uint8_t cluster_id[STORE_CLUSTER_ID_SIZE] = {1, 2, 3};
static char dir[64];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/segment.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    char cmd[100];

    (void)state;
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd);
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static void put(struct buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        assert_int_equal(buf_append(b, &(uint8_t){(uint8_t)(v >> (8 * i))}, 1), 0);
}

/* A command of `len` bytes or so, as an entry's payload. */
static void make_payload(struct buf *out, size_t len, const uint8_t *id)
{
    struct store_edit edit = {.kind = STORE_EDIT_WRITE, .bytes = {calloc(1, len), len}};
    struct store_op op = {.kind = STORE_OP_COMMIT, .ino = 4, .edits = &edit, .n_edits = 1};
    struct store_command cmd = {.session = 1, .seq = 1, .comm = "test", .ops = &op, .n_ops = 1};
    struct buf encoded = {0};

    memset((void *)edit.bytes.data, 'x', len);
    assert_int_equal(store_command_encode(&cmd, &encoded), 0);
    assert_int_equal(store_entry_build(id, 1, 0, &(struct store_bytes){encoded.data, encoded.len}, 1, out), 0);
    assert_int_equal(out->len % 8, 0);
    buf_fini(&encoded);
    free((void *)edit.bytes.data);
}

static void add_batch(struct buf *b, uint64_t term, size_t len)
{
    struct buf header = {0}, payload = {0};

    make_payload(&payload, len, cluster_id);
    put(&header, 1, 8);
    put(&header, term, 8);
    put(&header, 1, 4); /* a command */
    put(&header, payload.len, 4);
    put(b, segment_crc32(header.data, header.len, 0), 4);
    put(b, segment_crc32(payload.data, payload.len, 0), 4);
    buf_append(b, header.data, header.len);
    buf_append(b, payload.data, payload.len);
    buf_fini(&header);
    buf_fini(&payload);
}

static void write_file(const char *name, const struct buf *b)
{
    char path[160];
    int fd;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, b->data, b->len), (ssize_t)b->len);
    close(fd);
}

static void write_metadata(int n, uint64_t version, uint64_t term)
{
    struct buf b = {0};
    char name[16];

    put(&b, 1, 8);
    put(&b, version, 8);
    put(&b, term, 8);
    put(&b, 0, 8);
    snprintf(name, sizeof name, "metadata%d", n);
    write_file(name, &b);
    buf_fini(&b);
}

/* An open segment of `batches` batches of about `len` bytes; `at` gets where each begins. */
static struct buf open_segment(int batches, size_t len, size_t at[])
{
    struct buf b = {0};

    put(&b, 1, 8);
    for (int i = 0; i < batches; i++) {
        at[i] = b.len;
        add_batch(&b, 3, len);
    }
    at[batches] = b.len;
    assert_int_equal(buf_resize(&b, SEGMENT_BYTES), 0);
    return b;
}

static int examine(struct buf *why)
{
    buf_clear(why);
    return segment_examine(dir, cluster_id, why);
}

static struct segment_scan scan(const char *name, enum segment_kind kind, uint64_t first, uint64_t last)
{
    struct segment_file f = {.kind = kind, .first = first, .last = last};
    struct segment_scan s;

    snprintf(f.name, sizeof f.name, "%s", name);
    assert_int_equal(segment_scan(dir, &f, cluster_id, &s), 0);
    return s;
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

/* The check value of this CRC (start 0, no inversion) over "123456789". */
static void crc_is_librafts(void **state)
{
    (void)state;
    assert_int_equal(segment_crc32("123456789", 9, 0), 0x89a1897f);
}

static void open_segment_ends_in_zeros(void **state)
{
    size_t at[4];
    struct buf b = open_segment(3, 100, at), why = {0};
    struct segment_scan s;

    (void)state;
    write_metadata(1, 1, 3);
    write_file("open-1", &b);
    s = scan("open-1", SEGMENT_OPEN, 1, 0);
    assert_int_equal(s.tail, SEGMENT_ZEROS);
    assert_int_equal(s.n_entries, 3);
    assert_int_equal(s.last_term, 3);
    assert_int_equal(s.used_bytes, at[3]);
    assert_int_equal(examine(&why), 0);
    buf_fini(&b);
    buf_fini(&why);
}

/* Any prefix of the last write may be on disk: such a tail was never acknowledged. */
static void torn_last_write_is_no_damage(void **state)
{
    size_t at[4];
    struct buf b = open_segment(3, 9000, at), why = {0};

    (void)state;
    write_metadata(1, 1, 3);
    for (size_t cut = at[2]; cut < at[3]; cut += 512) {
        struct buf torn = {0};

        buf_append(&torn, b.data, cut);
        buf_resize(&torn, SEGMENT_BYTES);
        write_file("open-1", &torn);
        if (examine(&why))
            fail_msg("cut at %zu: %s", cut, buf_cstr(&why));
        assert_int_equal(scan("open-1", SEGMENT_OPEN, 1, 0).n_entries, 2);
        buf_fini(&torn);
    }
    buf_fini(&b);
    buf_fini(&why);
}

/* 5-5 beside 5-7: the truncation is undone, nothing is lost. */
static void interrupted_truncation_is_repaired(void **state)
{
    struct buf longer = {0}, shorter = {0}, why = {0};
    char path[160];

    (void)state;
    write_metadata(1, 1, 3);
    put(&longer, 1, 8);
    for (int i = 0; i < 3; i++)
        add_batch(&longer, 3, 50);
    put(&shorter, 1, 8);
    add_batch(&shorter, 3, 50);
    write_file("0000000000000005-0000000000000005", &shorter);
    write_file("0000000000000005-0000000000000007", &longer);
    assert_int_equal(examine(&why), 0);
    snprintf(path, sizeof path, "%s/0000000000000005-0000000000000005", dir);
    assert_int_equal(access(path, F_OK), -1);
    snprintf(path, sizeof path, "%s/0000000000000005-0000000000000007", dir);
    assert_int_equal(access(path, F_OK), 0);
    buf_fini(&longer);
    buf_fini(&shorter);
    buf_fini(&why);
}

static bool exists(const char *name)
{
    char path[200];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

static void write_closed(const char *name, int entries)
{
    struct buf b = {0};

    put(&b, 1, 8);
    for (int i = 0; i < entries; i++)
        add_batch(&b, 3, 50);
    write_file(name, &b);
    buf_fini(&b);
}

/* 1-4 and 7-8 are closed, and 5-6 are in the open segment that libraft could not close. */
static void segment_that_could_not_be_closed_is_closed(void **state)
{
    size_t at[4];
    struct buf b = open_segment(2, 50, at), why = {0};
    struct segment_scan s;

    (void)state;
    write_metadata(1, 1, 3);
    write_closed("0000000000000001-0000000000000004", 4);
    write_closed("0000000000000007-0000000000000008", 2);
    write_file("open-3", &b);
    if (examine(&why))
        fail_msg("%s", buf_cstr(&why));
    assert_false(exists("open-3"));
    s = scan("0000000000000005-0000000000000006", SEGMENT_CLOSED, 5, 6);
    assert_int_equal(s.tail, SEGMENT_WHOLE);
    buf_fini(&b);
    buf_fini(&why);
}

/* An open segment that follows the last closed one, or that does not fit a gap, is left alone. */
static void open_segment_that_fits_no_gap_is_kept(void **state)
{
    size_t at[4];
    struct buf b = open_segment(3, 50, at), why = {0};

    (void)state;
    write_metadata(1, 1, 3);
    write_closed("0000000000000001-0000000000000004", 4);
    write_closed("0000000000000005-0000000000000006", 2);
    write_file("open-3", &b);
    assert_int_equal(examine(&why), 0);
    assert_true(exists("open-3"));
    write_closed("0000000000000009-0000000000000010", 2); /* the gap is 7-8, the open one has three */
    assert_int_equal(examine(&why), 0);
    assert_true(exists("open-3"));
    buf_fini(&b);
    buf_fini(&why);
}

/* A snapshot at index 40, with a configuration of one. */
static void write_marker(void)
{
    static const uint8_t configuration[24] = {1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, '1', 0, 1};
    struct marker m = {40, 3, 9, 1};
    struct buf head = {0}, data = {0};
    uint8_t bytes[MARKER_SIZE];

    put(&head, 1, 8); /* configuration index */
    put(&head, sizeof configuration, 8);
    buf_append(&head, configuration, sizeof configuration);
    put(&data, 1, 8);
    put(&data, segment_crc32(head.data, head.len, 0), 8);
    buf_append(&data, head.data, head.len);
    write_file("snapshot-3-40-1.meta", &data);
    marker_encode(&m, bytes);
    buf_clear(&data);
    buf_append(&data, bytes, sizeof bytes);
    write_file("snapshot-3-40-1", &data);
    buf_fini(&head);
    buf_fini(&data);
}

/* What libraft makes of the directory: 0, with the index at which the log begins and the number of its entries. */
static int load(raft_index *start, size_t *n)
{
    static struct { /* goes with the process, and all that it has allocated */
        struct raft_uv_transport transport;
        struct raft_snapshot *snapshot;
        struct raft_entry *entries;
        struct raft_io io;
        uv_loop_t uv;
    } all[2], *l;
    static size_t n_loaded;
    raft_term term;
    raft_id vote;

    assert_true(n_loaded < sizeof all / sizeof *all);
    l = &all[n_loaded++];
    transport_init_alone(&l->transport);
    assert_int_equal(uv_loop_init(&l->uv), 0);
    assert_int_equal(raft_uv_init(&l->io, &l->uv, dir, &l->transport), 0);
    raft_uv_set_auto_recovery(&l->io, false);
    raft_uv_set_snapshot_compression(&l->io, false);
    assert_int_equal(l->io.init(&l->io, 1, "1"), 0);
    return l->io.load(&l->io, &term, &vote, &l->snapshot, start, &l->entries, n);
}

/* A crash came after the leader's snapshot at 40 was written, and before the segments went that it replaces. */
static void segments_that_a_snapshot_has_replaced_are_removed(void **state)
{
    struct buf zeros = {0}, used, why = {0};
    raft_index start = 0;
    size_t at[4], n = 1;

    (void)state;
    write_metadata(1, 1, 3);
    write_marker();
    write_closed("0000000000000005-0000000000000008", 4);
    write_closed("0000000000000009-0000000000000010", 2);
    assert_int_equal(buf_resize(&zeros, SEGMENT_BYTES), 0);
    write_file("open-3", &zeros);
    assert_int_equal(load(&start, &n), RAFT_CORRUPT); /* and the next time it would leave the old ones where they are, below all that comes */
    write_file("open-3", &zeros);
    used = open_segment(2, 50, at);
    write_file("open-4", &used);
    assert_int_equal(examine(&why), 0);
    assert_true(exists("0000000000000005-0000000000000008")); /* entries in an open one: that is something else */
    write_file("open-4", &zeros);
    assert_int_equal(examine(&why), 0);
    assert_false(exists("0000000000000005-0000000000000008"));
    assert_false(exists("0000000000000009-0000000000000010"));
    assert_int_equal(load(&start, &n), 0);
    assert_int_equal(start, 41);
    assert_int_equal(n, 0);
    buf_fini(&zeros);
    buf_fini(&used);
    buf_fini(&why);
}

/* After a marker the log begins anywhere: that is no gap. */
static void log_cut_by_a_marker_has_no_gap(void **state)
{
    struct buf why = {0}, b;
    size_t at[4];

    (void)state;
    write_marker();
    write_metadata(1, 1, 3);
    write_closed("0000000000000030-0000000000000042", 13);
    b = open_segment(1, 50, at);
    write_file("open-4", &b);
    assert_int_equal(examine(&why), 0);
    assert_true(exists("open-4"));
    buf_fini(&b);
    buf_fini(&why);
}

static void marker_survives_encoding(void **state)
{
    struct marker m = {12, 3, 9, 0x1234567890abcdef}, back;
    uint8_t bytes[MARKER_SIZE];

    (void)state;
    marker_encode(&m, bytes);
    assert_int_equal(marker_decode(bytes, sizeof bytes, &back), 0);
    assert_memory_equal(&m, &back, sizeof m);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] ^= 1;
        assert_int_equal(marker_decode(bytes, sizeof bytes, &back), QE_CORRUPT);
        bytes[i] ^= 1;
    }
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

/* libraft would cut the segment at the damage and go on; every byte of every batch but the last is protected. */
static void flipped_byte_before_the_last_batch_is_refused(void **state)
{
    size_t at[5];
    struct buf b = open_segment(4, 700, at), why = {0};

    (void)state;
    write_metadata(1, 1, 3);
    for (size_t i = at[0]; i < at[3]; i += 13) {
        b.data[i] ^= 0x10;
        write_file("open-1", &b);
        b.data[i] ^= 0x10;
        if (i >= at[0] + 25 && i < at[0] + 28)
            continue;
        if (examine(&why) != QE_CORRUPT && scan("open-1", SEGMENT_OPEN, 1, 0).n_entries != 4)
            fail_msg("byte %zu flipped: not noticed", i);
        if (why.len)
            assert_says(&why, "open-1");
    }
    buf_fini(&b);
    buf_fini(&why);
}

static void cut_segment_before_a_used_one_is_refused(void **state)
{
    size_t at[4];
    struct buf b = open_segment(3, 100, at), why = {0};

    (void)state;
    write_metadata(1, 1, 3);
    write_file("open-2", &b);
    b.data[at[2] + 60] ^= 1;
    write_file("open-1", &b);
    assert_int_equal(examine(&why), QE_CORRUPT);
    assert_says(&why, "open-1");
    buf_fini(&b);
    buf_fini(&why);
}

static void foreign_entry_is_refused(void **state)
{
    size_t at[2];
    struct buf b = open_segment(1, 100, at), why = {0};
    uint8_t other[STORE_CLUSTER_ID_SIZE] = {9};

    (void)state;
    write_metadata(1, 1, 3);
    write_file("open-1", &b);
    assert_int_equal(segment_examine(dir, other, &why), QE_CORRUPT);
    buf_fini(&b);
    buf_fini(&why);
}

/* Two successive states: versions differ by one, odd ones in metadata1, terms do not fall. */
static void metadata_must_follow_each_other(void **state)
{
    static const struct { uint64_t v1, t1, v2, t2; bool sound; } cases[] = {
        {1, 1, 2, 2, true}, {3, 3, 2, 2, true}, {3, 2, 2, 2, true}, {3, 3, 4, 4, true},
        {1, 1, 4, 4, false}, {5, 3, 2, 2, false}, {2, 1, 3, 2, false}, {3, 1, 2, 2, false}, {2, 1, 2, 1, false},
    };
    struct buf why = {0};
    char path[160];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_metadata(1, cases[i].v1, cases[i].t1);
        write_metadata(2, cases[i].v2, cases[i].t2);
        if ((examine(&why) == 0) != cases[i].sound)
            fail_msg("case %zu: %s", i, buf_cstr(&why));
    }
    write_metadata(1, 3, 3);
    snprintf(path, sizeof path, "%s/metadata2", dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(examine(&why), QE_CORRUPT);
    assert_says(&why, "metadata2");
    buf_fini(&why);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_is_librafts),
        cmocka_unit_test_setup_teardown(open_segment_ends_in_zeros, setup, teardown),
        cmocka_unit_test_setup_teardown(torn_last_write_is_no_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(interrupted_truncation_is_repaired, setup, teardown),
        cmocka_unit_test_setup_teardown(segment_that_could_not_be_closed_is_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(open_segment_that_fits_no_gap_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(segments_that_a_snapshot_has_replaced_are_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(log_cut_by_a_marker_has_no_gap, setup, teardown),
        cmocka_unit_test(marker_survives_encoding),
        cmocka_unit_test_setup_teardown(flipped_byte_before_the_last_batch_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(cut_segment_before_a_used_one_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(foreign_entry_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(metadata_must_follow_each_other, setup, teardown),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("segment", tests, NULL, NULL);
}
