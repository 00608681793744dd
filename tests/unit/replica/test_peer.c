/* Members that are connected: who is let in, what passes, and what happens when it ends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/frame.h"
#include "store/base/err.h"
#include "tests/unit/replica/peer_fixture.h"

#define TEST(name) cmocka_unit_test_setup_teardown(name, peers_setup, peers_teardown)

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

struct sending { /* a message of libraft and what became of it */
    struct raft_io_send req;
    unsigned calls;
    int status;
};

static void sent_cb(struct raft_io_send *req, int status)
{
    struct sending *s = (struct sending *)req;

    s->calls++;
    s->status = status;
}

static int send_raft(uint32_t from, struct sending *s, const struct raft_message *m)
{
    memset(s, 0, sizeof *s);
    return peer_send_raft(nodes[from].peers, &s->req, m, sent_cb);
}

/* A message without meaning: what counts is its payload. */
static int say(uint32_t from, uint32_t to, const void *payload, size_t len)
{
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;

    return peer_send(nodes[from].peers, to, &m, payload, len);
}

static const struct raft_message vote = {.type = RAFT_IO_REQUEST_VOTE, .server_id = 2,
                                         .request_vote = {7, 1, 12, 6, true, true}};

static void *padded(const char *text, size_t len)
{
    char *p = calloc(1, len);

    strncpy(p, text, len - 1);
    return p;
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void messages_pass_in_order(void **state)
{
    char text[16];

    (void)state;
    nodes_open(3);
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "%d", i);
        assert_int_equal(say(1, 2, text, strlen(text)), 0);
        assert_int_equal(say(3, 2, text, strlen(text)), 0);
    }
    run_until(nodes[2].n_heard == 200);
    for (uint32_t from = 1; from <= 3; from += 2) {
        int next = 0;

        for (unsigned i = 0; i < 200; i++) {
            snprintf(text, sizeof text, "%d", next);
            if (nodes[2].heard[i].from != from)
                continue;
            assert_int_equal(nodes[2].heard[i].len, strlen(text));
            assert_memory_equal(nodes[2].heard[i].payload, text, strlen(text));
            next++;
        }
        assert_int_equal(next, 100);
    }
}

static void the_largest_message_passes_and_a_larger_one_is_refused(void **state)
{
    char *big = malloc(FRAME_PAYLOAD_MAX + 1);

    (void)state;
    nodes_open(2);
    for (size_t i = 0; i < FRAME_PAYLOAD_MAX; i++)
        big[i] = (char)(i * 7 >> 3);
    assert_int_equal(say(1, 2, big, FRAME_PAYLOAD_MAX + 1), QE_2BIG);
    assert_int_equal(say(1, 2, big, FRAME_PAYLOAD_MAX), 0);
    assert_int_equal(say(1, 2, "x", 1), 0);
    run_until(nodes[2].n_heard == 2);
    assert_int_equal(nodes[2].heard[0].len, FRAME_PAYLOAD_MAX);
    assert_memory_equal(nodes[2].heard[0].payload, big, FRAME_PAYLOAD_MAX);
    free(big);
}

/* More than PEER_QUEUE_BYTES is not taken: the sender is told so, and what was taken arrives. */
static void a_full_queue_is_told(void **state)
{
    char *big = calloc(1, FRAME_PAYLOAD_MAX);
    unsigned taken = 0;

    (void)state;
    nodes_open(2);
    while (say(1, 2, big, FRAME_PAYLOAD_MAX) == 0)
        assert_true(++taken < 10);
    assert_int_equal(say(1, 2, big, 1), QE_AGAIN);
    assert_true(taken >= 3);
    run_until(nodes[2].n_heard == taken);
    assert_int_equal(say(1, 2, "x", 1), 0);
    run_until(nodes[2].n_heard == taken + 1);
    free(big);
}

static void a_ping_is_answered(void **state)
{
    struct peer_state at = {0};

    (void)state;
    nodes_open(2);
    run_until(at.round_trip_ns > 0 || (peer_state(nodes[1].peers, 2, &at), false));
    assert_true(at.up && at.heard);
    assert_true(at.round_trip_ns < INT64_C(5000000000));
}

static void every_message_of_libraft_arrives_as_it_was(void **state)
{
    const struct raft_message all[] = {
        vote,
        {.type = RAFT_IO_REQUEST_VOTE_RESULT, .server_id = 2, .request_vote_result = {8, true, raft_tribool_false}},
        {.type = RAFT_IO_APPEND_ENTRIES_RESULT, .server_id = 2, .append_entries_result = {9, 3, 4}},
        {.type = RAFT_IO_TIMEOUT_NOW, .server_id = 2, .timeout_now = {10, 5, 9}},
        {.type = RAFT_IO_APPEND_ENTRIES, .server_id = 2, .append_entries = {11, 6, 10, 5, NULL, 0}},
    };
    struct sending s[5];

    (void)state;
    nodes_open(2);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(send_raft(1, &s[i], &all[i]), 0);
        run_until(nodes[2].n_raft == i + 1);
        run_until(s[i].calls == 1);
        assert_int_equal(s[i].status, 0);
        assert_int_equal(nodes[2].heard[i].raft.type, all[i].type);
        assert_int_equal(nodes[2].heard[i].raft.server_id, 1);
    }
    assert_memory_equal(&nodes[2].heard[0].raft.request_vote, &vote.request_vote, sizeof vote.request_vote);
    assert_int_equal(nodes[2].heard[1].raft.request_vote_result.term, 8);
    assert_true(nodes[2].heard[1].raft.request_vote_result.vote_granted);
    assert_int_equal(nodes[2].heard[1].raft.request_vote_result.pre_vote, raft_tribool_false);
    assert_memory_equal(&nodes[2].heard[2].raft.append_entries_result, &all[2].append_entries_result, sizeof all[2].append_entries_result);
    assert_memory_equal(&nodes[2].heard[3].raft.timeout_now, &all[3].timeout_now, sizeof all[3].timeout_now);
    assert_int_equal(nodes[2].heard[4].raft.append_entries.leader_commit, 5);
    assert_null(nodes[2].heard[4].raft.append_entries.entries);
}

static void entries_arrive_as_they_were(void **state)
{
    struct store_op op = {.kind = STORE_OP_RESERVE};
    struct store_command cmd = {.member = 1, .comm = "test", .ops = &op, .n_ops = 1};
    struct buf encoded = {0}, entry = {0};
    struct raft_entry e[3] = {{3, RAFT_BARRIER, {padded("", 8), 8}, NULL}, {4, RAFT_COMMAND, {0}, NULL}, {4, RAFT_CHANGE, {0}, NULL}};
    struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES, .server_id = 2, .append_entries = {5, 6, 2, 5, e, 3}};
    struct raft_configuration conf;
    const struct raft_append_entries *got;
    struct sending s;

    (void)state;
    assert_int_equal(store_command_encode(&cmd, &encoded), 0);
    assert_int_equal(store_entry_build(cluster, 4, 0, &(struct store_bytes){encoded.data, encoded.len}, 1, &entry), 0);
    e[1].buf = (struct raft_buffer){entry.data, entry.len};
    raft_configuration_init(&conf);
    assert_int_equal(raft_configuration_add(&conf, 1, "1", RAFT_VOTER), 0);
    assert_int_equal(raft_configuration_add(&conf, 17, "17", RAFT_SPARE), 0);
    assert_int_equal(raft_configuration_encode(&conf, &e[2].buf), 0);
    nodes_open(2);
    assert_int_equal(send_raft(1, &s, &m), 0);
    run_until(nodes[2].n_raft == 1);
    got = &nodes[2].heard[0].raft.append_entries;
    assert_int_equal(got->n_entries, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(got->entries[i].term, e[i].term);
        assert_int_equal(got->entries[i].type, e[i].type);
        assert_int_equal(got->entries[i].buf.len, e[i].buf.len);
        assert_memory_equal(got->entries[i].buf.base, e[i].buf.base, e[i].buf.len);
        assert_ptr_equal(got->entries[i].batch, got->entries[0].batch);
    }
    run_until(s.calls == 1);
    raft_configuration_close(&conf);
    raft_free(e[2].buf.base);
    free(e[0].buf.base);
    buf_fini(&entry);
    buf_fini(&encoded);
}

static void a_snapshot_arrives_as_it_was(void **state)
{
    struct raft_message m = {.type = RAFT_IO_INSTALL_SNAPSHOT, .server_id = 2,
                             .install_snapshot = {.term = 5, .last_index = 40, .last_term = 4, .conf_index = 9, .data = {padded("marker", 56), 56}}};
    const struct raft_install_snapshot *got;
    struct sending s;

    (void)state;
    raft_configuration_init(&m.install_snapshot.conf);
    assert_int_equal(raft_configuration_add(&m.install_snapshot.conf, 3, "3", RAFT_STANDBY), 0);
    assert_int_equal(raft_configuration_add(&m.install_snapshot.conf, 4, "4", RAFT_VOTER), 0);
    nodes_open(2);
    assert_int_equal(send_raft(1, &s, &m), 0);
    run_until(nodes[2].n_raft == 1 && s.calls == 1);
    got = &nodes[2].heard[0].raft.install_snapshot;
    assert_int_equal(got->last_index, 40);
    assert_int_equal(got->last_term, 4);
    assert_int_equal(got->conf_index, 9);
    assert_int_equal(got->conf.n, 2);
    assert_int_equal(got->conf.servers[0].id, 3);
    assert_string_equal(got->conf.servers[1].address, "4");
    assert_int_equal(got->conf.servers[0].role, RAFT_STANDBY);
    assert_memory_equal(got->data.base, m.install_snapshot.data.base, 56);
    raft_configuration_close(&m.install_snapshot.conf);
    free(m.install_snapshot.data.base);
}

/* A vote that is asked for while the connection is being made goes out when it is there. */
static void a_vote_waits_for_its_connection(void **state)
{
    struct sending s;

    (void)state;
    node_open(2);
    node_open(1);
    assert_int_equal(nodes[1].up[2], 0);
    assert_int_equal(send_raft(1, &s, &vote), 0);
    assert_int_equal(s.calls, 0);
    run_until(nodes[2].n_raft == 1 && s.calls == 1);
    assert_int_equal(s.status, 0);
}

static void a_member_that_comes_back_is_found_again(void **state)
{
    (void)state;
    nodes_open(3);
    node_close(2);
    run_until(nodes[1].down[2] == 1 && nodes[3].down[2] == 1);
    assert_int_equal(say(1, 2, "x", 1), QE_AGAIN);
    run_until(nodes[1].gone[2] == 1 && nodes[3].gone[2] == 1); /* nobody listens there */
    node_open(2);
    run_until(nodes[1].up[2] == 2 && nodes[3].up[2] == 2 && nodes[2].up[1] == 2);
    assert_int_equal(nodes[1].gone[2], 1);
    assert_int_equal(say(1, 2, "y", 1), 0);
    run_until(nodes[2].n_heard == 1);
}

/* It listens elsewhere after its start, and the table does not know yet: its hello says it. */
static void a_member_that_moved_is_found_by_its_hello(void **state)
{
    char old[64];

    (void)state;
    nodes_open(2);
    node_close(2);
    run_until(nodes[1].down[2] == 1);
    strcpy(old, nodes[2].address);
    nodes[2].address[0] = '\0';
    node_open(2); /* a new port */
    assert_string_not_equal(old, nodes[2].address);
    strcpy(nodes[2].address, old);
    run_until(nodes[1].up[2] == 2);
    assert_int_equal(say(1, 2, "y", 1), 0);
    run_until(nodes[2].n_heard == 1);
}

/* Who calls may be the leader, known to all but us. */
static void a_member_that_is_not_in_the_table_is_let_in(void **state)
{
    (void)state;
    node_open(1);
    node_open(2);
    nodes[2].id = 0; /* node 1 does not know it */
    run_until(nodes[2].up[1] == 1 && nodes[1].up[2] == 1);
    assert_int_equal(say(2, 1, "x", 1), 0);
    assert_int_equal(say(1, 2, "y", 1), 0);
    run_until(nodes[1].n_heard == 1 && nodes[2].n_heard == 1);
}

static void names_and_addresses_in_brackets_are_found(void **state)
{
    (void)state;
    strcpy(nodes[1].address, "localhost:0");
    node_open(1);
    strcpy(nodes[2].address, "[::1]:0");
    node_open(2);
    snprintf(nodes[1].address, sizeof nodes[1].address, "localhost:%u", peer_port(nodes[1].peers));
    snprintf(nodes[2].address, sizeof nodes[2].address, "[::1]:%u", peer_port(nodes[2].peers));
    peer_members_changed(nodes[1].peers);
    run_until(nodes[1].up[2] == 1 && nodes[2].up[1] == 1);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static void without_a_connection_nothing_is_taken(void **state)
{
    struct sending s;

    (void)state;
    node_open(1);
    assert_int_equal(say(1, 2, "x", 1), QE_AGAIN);
    assert_int_equal(send_raft(1, &s, &vote), RAFT_NOCONNECTION);
    assert_int_equal(s.calls, 0);
    strcpy(nodes[2].address, "127.0.0.1:1");
    nodes[2].id = 2; /* nobody listens there */
    peer_members_changed(nodes[1].peers);
    assert_int_equal(send_raft(1, &s, &vote), 0);
    run_until(s.calls == 1);
    assert_int_equal(s.status, RAFT_NOCONNECTION);
    run_until(log_lines("connection refused") == 1);
}

static void closing_cancels_what_is_on_its_way(void **state)
{
    char *big = calloc(1, 16 << 20);
    struct raft_entry e = {3, RAFT_BARRIER, {big, 16 << 20}, NULL};
    struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES, .server_id = 2, .append_entries = {5, 6, 2, 5, &e, 1}};
    struct sending s[2], waiting;

    (void)state;
    nodes_open(2);
    assert_int_equal(send_raft(1, &s[0], &m), 0); /* too much to be written at once */
    assert_int_equal(send_raft(1, &s[1], &m), 0);
    strcpy(nodes[3].address, "127.0.0.1:1");
    nodes[3].id = 3;
    peer_members_changed(nodes[1].peers);
    assert_int_equal(send_raft(1, &waiting, &(struct raft_message){.type = RAFT_IO_REQUEST_VOTE, .server_id = 3, .request_vote = {7, 1, 12, 6, true, true}}), 0);
    node_close(1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(s[i].calls, 1);
        assert_int_equal(s[i].status, RAFT_CANCELED);
    }
    assert_int_equal(waiting.calls, 1);
    assert_int_equal(waiting.status, RAFT_CANCELED);
    free(big);
}

static void what_is_on_its_way_when_the_connection_breaks_fails(void **state)
{
    char *big = calloc(1, 16 << 20);
    struct raft_entry e = {3, RAFT_BARRIER, {big, 16 << 20}, NULL};
    struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES, .server_id = 2, .append_entries = {5, 6, 2, 5, &e, 1}};
    struct sending s;

    (void)state;
    nodes_open(2);
    assert_int_equal(send_raft(1, &s, &m), 0);
    node_close(2);
    run_until(s.calls == 1);
    assert_int_equal(s.status, RAFT_NOCONNECTION);
    free(big);
}

/* Whatever it is sent, it closes the connection: it is called again at growing pauses, as if nobody had answered. */
static void one_that_breaks_every_connection_is_left_in_peace(void **state)
{
    char garbage[8] = "garbage";
    struct raft_entry e = {3, RAFT_COMMAND, {garbage, sizeof garbage}, NULL};
    struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES, .server_id = 2, .append_entries = {5, 6, 2, 5, &e, 1}};
    static struct sending s[200];
    uint64_t end = uv_hrtime() + UINT64_C(2000000000);
    unsigned sent = 0;

    (void)state;
    nodes_open(2);
    run_until((nodes[1].up[2] > sent && sent < 200 ? send_raft(1, &s[sent++], &m) : 0, uv_hrtime() > end));
    assert_true(sent > 1);
    assert_true(sent < 12);
}

static void another_cluster_is_refused(void **state)
{
    (void)state;
    node_open(1);
    cluster[0] ^= 1;
    node_open(2);
    cluster[0] ^= 1;
    run_until(nodes[2].n_refused > 0);
    assert_int_equal(nodes[2].refused, PEER_REFUSED_CLUSTER);
    assert_int_equal(nodes[2].up[1], 0);
    run_until(log_lines("another cluster") > 0);
}

/* Its data directory was put back: the others have seen a later start of it. */
static void an_older_start_is_refused(void **state)
{
    (void)state;
    nodes_open(2);
    node_close(2);
    nodes[2].incarnation = 0;
    nodes[1].seen[2] = 7;
    node_close(1);
    node_open(1);
    node_open(2);
    run_until(nodes[2].n_refused > 0);
    assert_int_equal(nodes[2].refused, PEER_REFUSED_INCARNATION);
    assert_int_equal(nodes[2].up[1], 1);
    assert_int_equal(nodes[1].up[2], 1);
    run_until(log_lines("an old copy") > 0);
}

static void a_second_process_with_one_identity_is_refused(void **state)
{
    (void)state;
    nodes_open(2);
    node_close(2);
    nodes[2].incarnation--;
    nodes[1].seen_run[2] = 5;
    node_close(1);
    node_open(1);
    node_open(2); /* the same start number, another process */
    run_until(nodes[2].n_refused > 0);
    assert_int_equal(nodes[2].refused, PEER_REFUSED_INCARNATION);
    run_until(log_lines("runs twice") > 0);
}

static void a_removed_member_is_told(void **state)
{
    (void)state;
    nodes_open(3);
    removed[3] = true;
    peer_members_changed(nodes[1].peers);
    run_until(nodes[3].n_refused > 0);
    assert_int_equal(nodes[3].refused, PEER_REFUSED_REMOVED);
    run_until(nodes[3].down[1] == 1);
    assert_int_equal(say(1, 3, "x", 1), QE_AGAIN);
    node_close(3);
    nodes[3].n_refused = 0;
    node_open(3); /* and when it comes again */
    run_until(nodes[3].n_refused > 0);
    assert_int_equal(nodes[3].refused, PEER_REFUSED_REMOVED);
}

/* Another member has taken its port. */
static void another_member_at_the_address_is_refused(void **state)
{
    (void)state;
    node_open(2);
    strcpy(nodes[3].address, nodes[2].address);
    nodes[3].id = 3;
    node_open(1);
    run_until(nodes[1].n_refused > 0);
    assert_int_equal(nodes[1].refused, PEER_REFUSED_MEMBER);
    run_until(nodes[1].up[2] == 1);
    assert_int_equal(nodes[1].up[3], 0);
}

static void the_open_network_needs_insecure(void **state)
{
    const struct peer_hooks hooks = {0};
    struct peer_config config = {.member_id = 1, .listen = "0.0.0.0:0"};
    struct peers *p;
    struct buf why = {0};

    (void)state;
    assert_int_equal(peer_open(&loop, &config, &hooks, &p, &why), QE_PERM);
    assert_says(&why, "insecure");
    buf_clear(&why);
    config.listen = "[::]:0";
    assert_int_equal(peer_open(&loop, &config, &hooks, &p, &why), QE_PERM);
    buf_clear(&why);
    config.listen = "127.0.0.1:99999";
    assert_int_equal(peer_open(&loop, &config, &hooks, &p, &why), QE_INVAL);
    buf_clear(&why);
    node_open(2);
    config.listen = nodes[2].address;
    assert_int_equal(peer_open(&loop, &config, &hooks, &p, &why), QE_BUSY);
    assert_says(&why, "in use");
    strcpy(nodes[3].address, "192.0.2.1:7000"); /* and nobody is called there */
    nodes[3].id = 3;
    peer_members_changed(nodes[2].peers);
    run_until(log_lines("not a loopback address") == 1);
    buf_fini(&why);
}

static void without_listen_there_is_no_socket(void **state)
{
    const struct peer_hooks hooks = {0};
    struct peer_config config = {.member_id = 1};
    struct sending s = {0};
    struct peers *p;
    struct buf why = {0};

    (void)state;
    assert_int_equal(peer_open(&loop, &config, &hooks, &p, &why), 0);
    assert_int_equal(peer_port(p), 0);
    peer_members_changed(p);
    assert_int_equal(peer_send_raft(p, &s.req, &vote, sent_cb), RAFT_NOCONNECTION);
    peer_close(p, NULL, NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(messages_pass_in_order),
        TEST(the_largest_message_passes_and_a_larger_one_is_refused),
        TEST(a_full_queue_is_told),
        TEST(a_ping_is_answered),
        TEST(every_message_of_libraft_arrives_as_it_was),
        TEST(entries_arrive_as_they_were),
        TEST(a_snapshot_arrives_as_it_was),
        TEST(a_vote_waits_for_its_connection),
        TEST(a_member_that_comes_back_is_found_again),
        TEST(a_member_that_moved_is_found_by_its_hello),
        TEST(a_member_that_is_not_in_the_table_is_let_in),
        TEST(names_and_addresses_in_brackets_are_found),
        TEST(without_a_connection_nothing_is_taken),
        TEST(closing_cancels_what_is_on_its_way),
        TEST(what_is_on_its_way_when_the_connection_breaks_fails),
        TEST(one_that_breaks_every_connection_is_left_in_peace),
        TEST(another_cluster_is_refused),
        TEST(an_older_start_is_refused),
        TEST(a_second_process_with_one_identity_is_refused),
        TEST(a_removed_member_is_told),
        TEST(another_member_at_the_address_is_refused),
        TEST(the_open_network_needs_insecure),
        TEST(without_listen_there_is_no_socket),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("peer", tests, NULL, NULL);
}
