/* Frames and libraft's messages in them: what is right passes in any pieces, what is not is refused before it does harm. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/peer_internal.h"
#include "store/base/crc32c.h"
#include "store/base/err.h"
#include "tests/unit/replica/member_fixture.h"

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static const uint8_t cluster_id[STORE_CLUSTER_ID_SIZE] = {7};

struct seen { /* what a reader delivered */
    unsigned n;
    struct buf all; /* heads and payloads, one after the other */
};

static int whole_cb(void *data, struct frame *f)
{
    struct seen *s = data;

    s->n++;
    assert_int_equal(buf_append(&s->all, f->head, f->head_len), 0);
    if (f->payload_len)
        assert_int_equal(buf_append(&s->all, f->payload, f->payload_len), 0);
    return 0;
}

static void add_frame(struct buf *b, enum frame_type type, const char *head, const void *payload, size_t len)
{
    const uv_buf_t buf = {(char *)(uintptr_t)payload, len};
    uint8_t header[FRAME_HEADER_SIZE];

    frame_header(header, type, head, strlen(head), &buf, 1);
    assert_int_equal(buf_append(b, header, sizeof header), 0);
    assert_int_equal(buf_append(b, head, strlen(head)), 0);
    assert_int_equal(buf_append(b, payload, len), 0);
}

/* Gives the bytes to a reader, at most `piece` at a time. */
static int read_all(const struct buf *b, size_t piece, struct seen *s, const char **why)
{
    struct frame_reader r;
    int err = 0;

    frame_reader_init(&r);
    r.types = 1u << FRAME_PEER;
    r.head_max = 100;
    r.payload_max = 1 << 20;
    for (size_t at = 0; at < b->len && !err;) {
        size_t room, n = b->len - at < piece ? b->len - at : piece;
        uint8_t *to;

        frame_reader_space(&r, &to, &room);
        assert_true(room > 0);
        n = n < room ? n : room;
        memcpy(to, b->data + at, n);
        at += n;
        err = frame_reader_got(&r, n, whole_cb, s, why);
    }
    frame_reader_fini(&r);
    return err;
}

static int read_one(const struct buf *b)
{
    struct seen s = {0};
    const char *why = NULL;
    int err = read_all(b, 1000, &s, &why);

    assert_true(err != QE_CORRUPT || (why && strlen(why) > 5));
    buf_fini(&s.all);
    return err;
}

/* A message of libraft in a frame: its head, and `payload`, which becomes the frame's. */
static int decode(const Qfs__RaftMessage *h, const void *payload, size_t len, struct raft_message *out)
{
    struct buf head = {0};
    struct frame f = {.type = FRAME_RAFT, .payload = len ? raft_malloc(len) : NULL, .payload_len = len};
    const char *why = NULL;
    int err;

    assert_int_equal(buf_resize(&head, qfs__raft_message__get_packed_size(h)), 0);
    qfs__raft_message__pack(h, head.data);
    f.head = head.data;
    f.head_len = head.len;
    if (len)
        memcpy(f.payload, payload, len);
    err = peer__raft_decode(cluster_id, 2, &f, out, &why);
    assert_true(!err || (why && strlen(why) > 5));
    raft_free(f.payload);
    buf_fini(&head);
    return err;
}

static int decodes(const Qfs__RaftMessage *h, const void *payload, size_t len)
{
    struct raft_message m;
    int err = decode(h, payload, len, &m);

    if (!err)
        peer__raft_free(&m);
    return err;
}

static void a_command(struct buf *entry, const uint8_t *id)
{
    struct store_op op = {.kind = STORE_OP_RESERVE};
    struct store_command cmd = {.member = 1, .comm = "test", .ops = &op, .n_ops = 1};
    struct buf encoded = {0};

    assert_int_equal(store_command_encode(&cmd, &encoded), 0);
    assert_int_equal(store_entry_build(id, 4, 0, &(struct store_bytes){encoded.data, encoded.len}, 1, entry), 0);
    buf_fini(&encoded);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void frames_pass_in_any_pieces(void **state)
{
    static const size_t pieces[] = {1, 2, 3, 7, 23, 24, 25, 100, 4096, 1 << 20};
    struct buf b = {0}, want = {0};
    char *big = malloc(100000);

    (void)state;
    for (int i = 0; i < 100000; i++)
        big[i] = (char)(i * 31 >> 2);
    for (size_t len = 0; len <= 100000; len = len * 3 + 1) {
        add_frame(&b, FRAME_PEER, len % 2 ? "a head" : "", big, len);
        assert_int_equal(buf_append(&want, "a head", len % 2 ? 6 : 0), 0);
        assert_int_equal(buf_append(&want, big, len), 0);
    }
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct seen s = {0};
        const char *why;

        assert_int_equal(read_all(&b, pieces[i], &s, &why), 0);
        assert_int_equal(s.n, 12);
        assert_int_equal(s.all.len, want.len);
        assert_memory_equal(s.all.data, want.data, want.len);
        buf_fini(&s.all);
    }
    free(big);
    buf_fini(&want);
    buf_fini(&b);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static void every_flipped_bit_is_noticed(void **state)
{
    struct buf b = {0};

    (void)state;
    add_frame(&b, FRAME_PEER, "a head", "some payload", 12);
    assert_int_equal(read_one(&b), 0);
    for (size_t bit = 0; bit < b.len * 8; bit++) {
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(read_one(&b), QE_CORRUPT);
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    buf_fini(&b);
}

static void put32(uint8_t *at, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(v >> 8 * i);
}

/* Headers that are right but for one thing. */
static void what_is_too_large_or_not_due_is_refused(void **state)
{
    const struct { size_t at; uint32_t value; } changes[] = {{4, FRAME_HELLO}, {4, 0}, {4, 32}, {4, 0x104}, {8, 101}, {8, UINT32_MAX},
                                                             {12, (1 << 20) + 1}, {12, UINT32_MAX}};

    (void)state;
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct buf b = {0};

        add_frame(&b, FRAME_PEER, "a head", "some payload", 12);
        put32(b.data + changes[i].at, changes[i].value);
        put32(b.data + 20, crc32c(0, b.data, 20));
        assert_int_equal(read_one(&b), QE_CORRUPT);
        buf_fini(&b);
    }
}

/* Each of these libraft would believe, and crash, or write to the log what cannot be read again. */
static void malformed_entries_are_refused(void **state)
{
    uint64_t term[2] = {3, 4}, big_term[2] = {3, 6}, back[2] = {4, 3}, no_term[2] = {0, 4};
    uint32_t type[2] = {RAFT_BARRIER, RAFT_BARRIER}, len[2] = {8, 16}, command[2] = {RAFT_BARRIER, RAFT_COMMAND}, kind[2] = {9, 9},
             odd[2] = {4, 20}, none[2] = {0, 24}, huge[2] = {8, UINT32_MAX}, change[2] = {RAFT_BARRIER, RAFT_CHANGE};
    uint8_t bytes[24] = {0};
    Qfs__RaftMessage h = QFS__RAFT_MESSAGE__INIT, bad;

    (void)state;
    h.type = RAFT_IO_APPEND_ENTRIES;
    h.term = 5;
    h.index = 7;
    h.index_term = 3;
    h.n_entry_term = h.n_entry_type = h.n_entry_len = 2;
    h.entry_term = term;
    h.entry_type = type;
    h.entry_len = len;
    assert_int_equal(decodes(&h, bytes, 24), 0);
#define REFUSED(change) do { bad = h; change; assert_int_equal(decodes(&bad, bytes, 24), QE_CORRUPT); } while (0)
    REFUSED(bad.entry_term = big_term);
    REFUSED(bad.entry_term = back);
    REFUSED(bad.entry_term = no_term);
    REFUSED(bad.entry_type = command);
    REFUSED(bad.entry_type = change);
    REFUSED(bad.entry_type = kind);
    REFUSED(bad.entry_len = odd);
    REFUSED(bad.entry_len = none);
    REFUSED(bad.entry_len = huge);
    REFUSED(bad.n_entry_len = 1);
    REFUSED(bad.n_entry_type = 1);
    REFUSED(bad.n_entry_term = bad.n_entry_type = bad.n_entry_len = 1);
    REFUSED(bad.n_entry_term = bad.n_entry_type = bad.n_entry_len = 0);
    REFUSED(bad.index = 0);
    REFUSED(bad.index_term = 4);
    REFUSED(bad.term = 0);
    REFUSED(bad.term = UINT64_MAX);
    REFUSED(bad.index = UINT64_MAX);
    REFUSED(bad.type = 0);
    REFUSED(bad.type = 7);
    REFUSED(bad.type = RAFT_IO_REQUEST_VOTE); /* with a payload */
#undef REFUSED
}

static void commands_of_another_cluster_and_damaged_ones_are_refused(void **state)
{
    struct buf entry = {0}, foreign = {0};
    uint64_t term = 4;
    uint32_t type = RAFT_COMMAND, len;
    Qfs__RaftMessage h = QFS__RAFT_MESSAGE__INIT;

    (void)state;
    a_command(&entry, cluster_id);
    a_command(&foreign, (const uint8_t[STORE_CLUSTER_ID_SIZE]){8});
    len = (uint32_t)entry.len;
    h.type = RAFT_IO_APPEND_ENTRIES;
    h.term = 5;
    h.index = 7;
    h.index_term = 3;
    h.n_entry_term = h.n_entry_type = h.n_entry_len = 1;
    h.entry_term = &term;
    h.entry_type = &type;
    h.entry_len = &len;
    assert_int_equal(decodes(&h, entry.data, entry.len), 0);
    assert_int_equal(decodes(&h, foreign.data, foreign.len), QE_CORRUPT);
    for (size_t i = 0; i < entry.len; i++) {
        entry.data[i] ^= 4;
        assert_int_equal(decodes(&h, entry.data, entry.len), QE_CORRUPT);
        entry.data[i] ^= 4;
    }
    buf_fini(&entry);
    buf_fini(&foreign);
}

/* libraft reads a configuration without looking where it ends. */
static void configurations_end_where_they_say(void **state)
{
    struct raft_configuration conf;
    struct raft_buffer buf;
    uint64_t term = 4;
    uint32_t type = RAFT_CHANGE, len;
    Qfs__RaftMessage h = QFS__RAFT_MESSAGE__INIT;
    uint8_t *bytes;

    (void)state;
    raft_configuration_init(&conf);
    assert_int_equal(raft_configuration_add(&conf, 1, "1", RAFT_VOTER), 0);
    assert_int_equal(raft_configuration_add(&conf, 2, "2", RAFT_SPARE), 0);
    assert_int_equal(raft_configuration_encode(&conf, &buf), 0);
    bytes = buf.base;
    len = (uint32_t)buf.len;
    h.type = RAFT_IO_APPEND_ENTRIES;
    h.term = 5;
    h.index = 7;
    h.index_term = 3;
    h.n_entry_term = h.n_entry_type = h.n_entry_len = 1;
    h.entry_term = &term;
    h.entry_type = &type;
    h.entry_len = &len;
    assert_int_equal(decodes(&h, bytes, len), 0);
    len -= 8;
    assert_int_equal(decodes(&h, bytes, len), QE_CORRUPT);
    len += 8;
    for (unsigned n = 0; n < 256; n++) { /* the number of servers */
        bytes[1] = (uint8_t)n;
        assert_int_equal(decodes(&h, bytes, len), n == 2 ? 0 : QE_CORRUPT);
    }
    bytes[1] = 2;
    bytes[8] = 1; /* 2^56 more */
    assert_int_equal(decodes(&h, bytes, len), QE_CORRUPT);
    bytes[8] = 0;
    bytes[0] = 2; /* another format */
    assert_int_equal(decodes(&h, bytes, len), QE_CORRUPT);
    raft_free(buf.base);
    raft_configuration_close(&conf);
}

static void malformed_votes_and_snapshots_are_refused(void **state)
{
    Qfs__RaftMessage h = QFS__RAFT_MESSAGE__INIT, bad;
    uint64_t id[2] = {1, 2}, twice[2] = {1, 1}, zero[2] = {0, 1};
    uint32_t role[2] = {RAFT_VOTER, RAFT_VOTER}, no_role[2] = {RAFT_VOTER, 3};
    uint8_t data[56] = {1};

    (void)state;
    h.term = 5;
    h.type = RAFT_IO_REQUEST_VOTE;
    h.candidate = 3; /* it comes from 2 */
    assert_int_equal(decodes(&h, NULL, 0), QE_CORRUPT);
    h.candidate = 2;
    assert_int_equal(decodes(&h, NULL, 0), 0);
    h.type = RAFT_IO_REQUEST_VOTE_RESULT;
    h.pre_vote = 3;
    assert_int_equal(decodes(&h, NULL, 0), QE_CORRUPT);
    h.pre_vote = 0;
    h.type = RAFT_IO_INSTALL_SNAPSHOT;
    h.index = 9;
    h.index_term = 4;
    h.conf_index = 1;
    h.n_server_id = h.n_server_role = 2;
    h.server_id = id;
    h.server_role = role;
    assert_int_equal(decodes(&h, data, sizeof data), 0);
    assert_int_equal(decodes(&h, NULL, 0), QE_CORRUPT);
#define REFUSED(change) do { bad = h; change; assert_int_equal(decodes(&bad, data, sizeof data), QE_CORRUPT); } while (0)
    REFUSED(bad.server_id = twice);
    REFUSED(bad.server_id = zero);
    REFUSED(bad.server_role = no_role);
    REFUSED(bad.n_server_role = 1);
    REFUSED(bad.n_server_id = bad.n_server_role = 0);
    REFUSED(bad.index_term = 6);
    REFUSED(bad.conf_index = 10);
    REFUSED(bad.index = 0);
#undef REFUSED
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_pass_in_any_pieces),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(what_is_too_large_or_not_due_is_refused),
        cmocka_unit_test(malformed_entries_are_refused),
        cmocka_unit_test(commands_of_another_cluster_and_damaged_ones_are_refused),
        cmocka_unit_test(configurations_end_where_they_say),
        cmocka_unit_test(malformed_votes_and_snapshots_are_refused),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
