/* Sockets that are no members, or behave like none: each is closed with one line in the log, costs little, and disturbs nobody. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "replica/peer_internal.h"
#include "tests/unit/replica/peer_fixture.h"

#define TEST(name) cmocka_unit_test_setup_teardown(name, peers_setup, peers_teardown)

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static int stranger(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    in.sin_port = htons((uint16_t)peer_port(nodes[1].peers));
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

/* The other side has closed it. What it said before is thrown away. */
static bool is_closed(int fd)
{
    char bytes[4096];
    ssize_t n;

    while ((n = recv(fd, bytes, sizeof bytes, 0)) > 0)
        ;
    return n == 0 || errno == ECONNRESET;
}

static void say_frame(int fd, enum frame_type type, const ProtobufCMessage *head, const void *payload, size_t len)
{
    const uv_buf_t buf = {(char *)(uintptr_t)payload, len};
    uint8_t bytes[FRAME_HEADER_SIZE + 1024];
    size_t head_len = protobuf_c_message_pack(head, bytes + FRAME_HEADER_SIZE);

    frame_header(bytes, type, bytes + FRAME_HEADER_SIZE, head_len, &buf, 1);
    assert_int_equal(send(fd, bytes, FRAME_HEADER_SIZE + head_len, 0), FRAME_HEADER_SIZE + head_len);
    if (len)
        assert_int_equal(send(fd, payload, len, 0), len);
}

static Qfs__Hello hello_of(uint32_t from)
{
    Qfs__Hello h = QFS__HELLO__INIT;

    h.version = PEER_VERSION;
    h.raft = PEER_RAFT;
    h.cluster_id = (ProtobufCBinaryData){sizeof cluster, cluster};
    h.from = from;
    h.to = 1;
    h.incarnation = 1;
    h.run = 99;
    h.address = "";
    return h;
}

/* One that says the right hello, and is let in as member 2. */
static int impostor(void)
{
    Qfs__Hello hello = hello_of(2);
    struct peer_state at = {0};
    int fd = stranger();

    say_frame(fd, FRAME_HELLO, &hello.base, NULL, 0);
    run_until(at.heard || (peer_state(nodes[1].peers, 2, &at), false));
    return fd;
}

static void closed_with_one_line(int fd, const char *word)
{
    run_until(is_closed(fd));
    assert_int_equal(log_lines(word), 1);
    close(fd);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

/* A hundred that say nothing do not keep a member out, and do not fill the log. */
static void silent_ones_make_room_for_members(void **state)
{
    int fd[100];

    (void)state;
    node_open(1);
    for (int i = 0; i < 100; i++) {
        fd[i] = stranger();
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    node_open(2);
    run_until(nodes[2].up[1] == 1 && nodes[1].up[2] == 1);
    for (int i = 0; i < 100; i++) {
        run_until(is_closed(fd[i]));
        close(fd[i]);
    }
    assert_true(log_lines("a connection") <= PEER_COMPLAINTS_MAX + 2);
}

static void a_guest_is_answered(void **state)
{
    Qfs__Hello hello = hello_of(0);
    Qfs__PeerMessage question = QFS__PEER_MESSAGE__INIT;
    char bytes[512];
    ssize_t n = 0, got = 0;
    int fd;

    (void)state;
    nodes[1].guests = true;
    node_open(1);
    fd = stranger();
    hello.cluster_id.len = 0;
    hello.to = 0;
    say_frame(fd, FRAME_HELLO, &hello.base, NULL, 0);
    say_frame(fd, FRAME_PEER, &question.base, "the question", 12);
    run_until(nodes[1].n_guest == 1);
    run_until((n = recv(fd, bytes + got, sizeof bytes - (size_t)got, 0)) == 0 || (got += n > 0 ? n : 0, false));
    assert_non_null(memmem(bytes, (size_t)got, "the question", 12));
    run_until(nodes[1].n_guest_gone == 1);
    close(fd);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static void garbage_is_closed(void **state)
{
    char bytes[1000];
    int fd;

    (void)state;
    node_open(1);
    fd = stranger();
    memset(bytes, 'G', sizeof bytes);
    assert_int_equal(send(fd, bytes, sizeof bytes, 0), sizeof bytes);
    closed_with_one_line(fd, "does not speak the protocol");
}

/* A right header that announces more than a stranger may send: nothing is allocated for it. */
static void an_oversized_hello_is_closed(void **state)
{
    static char payload[2000];
    Qfs__Hello hello = hello_of(2);
    int fd;

    (void)state;
    node_open(1);
    fd = stranger();
    say_frame(fd, FRAME_HELLO, &hello.base, payload, sizeof payload);
    closed_with_one_line(fd, "oversized");
}

static void messages_before_a_hello_are_closed(void **state)
{
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;
    int fd;

    (void)state;
    node_open(1);
    fd = stranger();
    say_frame(fd, FRAME_PEER, &m.base, NULL, 0);
    closed_with_one_line(fd, "not due");
}

static void half_a_frame_is_forgotten(void **state)
{
    int fd;

    (void)state;
    node_open(1);
    fd = stranger();
    assert_int_equal(send(fd, "QFS1\1\0\0\0", 8, 0), 8);
    close(fd);
    run_until(log_lines("a connection") == 1);
}

/* A byte now and then does not prolong the time for a hello. */
static void a_slow_one_is_closed(void **state)
{
    int fd, i = 0;

    (void)state;
    node_open(1);
    fd = stranger();
    run_until(is_closed(fd) || (i < 20 && send(fd, &"QFS1\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"[i++], 1, MSG_NOSIGNAL) == 2));
    assert_int_equal(log_lines("says nothing"), 1);
    close(fd);
}

static void a_hello_that_cannot_be_read_is_closed(void **state)
{
    const uv_buf_t none = {NULL, 0};
    uint8_t bytes[FRAME_HEADER_SIZE + 4] = {0};
    int fd;

    (void)state;
    node_open(1);
    fd = stranger();
    memset(bytes + FRAME_HEADER_SIZE, 0xff, 4);
    frame_header(bytes, FRAME_HELLO, bytes + FRAME_HEADER_SIZE, 4, &none, 0);
    assert_int_equal(send(fd, bytes, sizeof bytes, 0), sizeof bytes);
    closed_with_one_line(fd, "cannot be read");
}

static void other_versions_and_librafts_are_refused(void **state)
{
    char says[64];
    Qfs__Hello hello = hello_of(2);
    int fd;

    (void)state;
    node_open(1);
    fd = stranger();
    hello.version = PEER_VERSION + 1;
    say_frame(fd, FRAME_HELLO, &hello.base, NULL, 0);
    snprintf(says, sizeof says, "version %d of the protocol", PEER_VERSION + 1);
    closed_with_one_line(fd, says);
    fd = stranger();
    hello = hello_of(2);
    hello.raft = 22;
    say_frame(fd, FRAME_HELLO, &hello.base, NULL, 0);
    closed_with_one_line(fd, "libraft 0.22");
}

static void guests_are_refused_where_there_are_none(void **state)
{
    Qfs__Hello hello = hello_of(0);
    int fd;

    (void)state;
    node_open(1);
    fd = stranger();
    say_frame(fd, FRAME_HELLO, &hello.base, NULL, 0);
    closed_with_one_line(fd, "only members are let in");
}

static void a_malformed_message_of_libraft_closes_its_connection(void **state)
{
    Qfs__RaftMessage m = QFS__RAFT_MESSAGE__INIT;
    int fd;

    (void)state;
    node_open(1);
    nodes[2].id = 0;
    fd = impostor();
    m.type = RAFT_IO_REQUEST_VOTE;
    m.term = 5;
    m.candidate = 7;
    say_frame(fd, FRAME_RAFT, &m.base, NULL, 0);
    closed_with_one_line(fd, "malformed message of libraft");
    assert_int_equal(nodes[1].n_raft, 0);
}

/* Its member knows nothing of the entry: it never gets as far as the log. */
static void a_damaged_entry_closes_its_connection(void **state)
{
    Qfs__RaftMessage m = QFS__RAFT_MESSAGE__INIT;
    uint64_t term = 5;
    uint32_t type = RAFT_COMMAND, len = 64;
    char bytes[64] = {0};
    int fd;

    (void)state;
    node_open(1);
    fd = impostor();
    m.type = RAFT_IO_APPEND_ENTRIES;
    m.term = 5;
    m.n_entry_term = m.n_entry_type = m.n_entry_len = 1;
    m.entry_term = &term;
    m.entry_type = &type;
    m.entry_len = &len;
    say_frame(fd, FRAME_RAFT, &m.base, bytes, sizeof bytes);
    closed_with_one_line(fd, "entry");
    assert_int_equal(nodes[1].n_raft, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(silent_ones_make_room_for_members),
        TEST(a_guest_is_answered),
        TEST(garbage_is_closed),
        TEST(an_oversized_hello_is_closed),
        TEST(messages_before_a_hello_are_closed),
        TEST(half_a_frame_is_forgotten),
        TEST(a_slow_one_is_closed),
        TEST(a_hello_that_cannot_be_read_is_closed),
        TEST(other_versions_and_librafts_are_refused),
        TEST(guests_are_refused_where_there_are_none),
        TEST(a_malformed_message_of_libraft_closes_its_connection),
        TEST(a_damaged_entry_closes_its_connection),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
