/* What comes from a socket: the bytes as they are, into a reader of frames; and as one frame with right checksums, so that the messages
 * behind them are met. 1 type less 1, 1 size of the pieces it is read in, 2 length of the head, the head, the payload. Whatever comes is
 * delivered whole, or refused. */
#include <stdlib.h>
#include <string.h>

#include "replica/peer_internal.h"
#include "store/base/err.h"
#include "tests/fuzz/fuzz.h"

static const uint8_t cluster_id[STORE_CLUSTER_ID_SIZE] = "fuzz";

static void on_raft(struct frame *f)
{
    struct raft_message m;
    const char *why = NULL;
    int err = peer__raft_decode(cluster_id, 2, f, &m, &why);

    if (err && (!why || (err != QE_CORRUPT && err != QE_NOMEM)))
        abort();
    if (err)
        return;
    if (m.type == RAFT_IO_APPEND_ENTRIES) /* what libraft and the disk will read */
        for (unsigned i = 0; i < m.append_entries.n_entries; i++)
            if (m.append_entries.entries[i].buf.len % 8 || m.append_entries.entries[i].term > m.append_entries.term)
                abort();
    peer__raft_free(&m);
}

static int on_frame(void *data, struct frame *f)
{
    Qfs__PeerMessage *message;
    Qfs__Welcome *welcome;
    Qfs__Hello *hello;

    (void)data;
    switch (f->type) {
    case FRAME_HELLO:
        if ((hello = qfs__hello__unpack(NULL, f->head_len, f->head)) != NULL)
            qfs__hello__free_unpacked(hello, NULL);
        break;
    case FRAME_WELCOME:
        if ((welcome = qfs__welcome__unpack(NULL, f->head_len, f->head)) != NULL)
            qfs__welcome__free_unpacked(welcome, NULL);
        break;
    case FRAME_RAFT:
        on_raft(f);
        break;
    case FRAME_PEER:
        if ((message = qfs__peer_message__unpack(NULL, f->head_len, f->head)) != NULL)
            qfs__peer_message__free_unpacked(message, NULL);
        break;
    }
    return 0;
}

/* Returns the error that ended it. */
static int feed(const uint8_t *data, size_t size, size_t piece)
{
    struct frame_reader r;
    const char *why = NULL;
    int err = 0;

    frame_reader_init(&r);
    r.types = 1u << FRAME_HELLO | 1u << FRAME_WELCOME | 1u << FRAME_RAFT | 1u << FRAME_PEER;
    r.head_max = FRAME_HEAD_MAX;
    r.payload_max = 1 << 16;
    while (size > 0 && !err) {
        size_t room, n = size < piece ? size : piece;
        uint8_t *to;

        frame_reader_space(&r, &to, &room);
        n = n < room ? n : room;
        memcpy(to, data, n);
        data += n;
        size -= n;
        err = frame_reader_got(&r, n, on_frame, NULL, &why);
    }
    if (err && (!why || err != QE_CORRUPT))
        abort();
    frame_reader_fini(&r);
    return err;
}

static size_t write_seed(uint8_t *out, enum frame_type type, const ProtobufCMessage *head, const void *payload, size_t len)
{
    size_t head_len = protobuf_c_message_pack(head, out + 4);

    out[0] = (uint8_t)(type - 1);
    out[1] = 7;
    out[2] = (uint8_t)head_len;
    out[3] = (uint8_t)(head_len >> 8);
    if (len)
        memcpy(out + 4 + head_len, payload, len);
    return 4 + head_len + len;
}

size_t fuzz_seed(size_t i, uint8_t *out, size_t max)
{
    static uint64_t term[] = {3, 4}, id[] = {1, 2};
    static uint32_t type[] = {RAFT_BARRIER, RAFT_CHANGE}, len[] = {8, 24}, role[] = {RAFT_VOTER, RAFT_VOTER};
    static uint8_t entries[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, '7', 0, 1, 0, 0, 0, 0};
    Qfs__RaftMessage m = QFS__RAFT_MESSAGE__INIT;
    Qfs__Hello hello = QFS__HELLO__INIT;
    Qfs__Welcome welcome = QFS__WELCOME__INIT;
    Qfs__PeerMessage message = QFS__PEER_MESSAGE__INIT;
    Qfs__Ping ping = QFS__PING__INIT;

    (void)max;
    m.type = (uint32_t)i + 1;
    m.term = 5;
    m.index = 7;
    m.index_term = 3;
    m.candidate = 2;
    if (m.type == RAFT_IO_APPEND_ENTRIES) {
        m.n_entry_term = m.n_entry_type = m.n_entry_len = 2;
        m.entry_term = term;
        m.entry_type = type;
        m.entry_len = len;
        return write_seed(out, FRAME_RAFT, &m.base, entries, sizeof entries);
    }
    if (m.type == RAFT_IO_INSTALL_SNAPSHOT) {
        m.conf_index = 1;
        m.n_server_id = m.n_server_role = 2;
        m.server_id = id;
        m.server_role = role;
        return write_seed(out, FRAME_RAFT, &m.base, entries, sizeof entries);
    }
    if (m.type <= RAFT_IO_TIMEOUT_NOW)
        return write_seed(out, FRAME_RAFT, &m.base, NULL, 0);
    hello.address = "127.0.0.1:7000";
    welcome.text = "no";
    message.kind_case = QFS__PEER_MESSAGE__KIND_PING;
    message.ping = &ping;
    switch (i) {
    case 6: return write_seed(out, FRAME_HELLO, &hello.base, NULL, 0);
    case 7: return write_seed(out, FRAME_WELCOME, &welcome.base, NULL, 0);
    case 8: return write_seed(out, FRAME_PEER, &message.base, entries, sizeof entries);
    default: return 0;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t frame[FRAME_HEADER_SIZE + 4096 + 4];
    size_t head_len, len;
    uv_buf_t payload;

    feed(data, size, 16);
    if (size < 4 || size > 4096)
        return 0;
    head_len = (size_t)(data[2] | data[3] << 8);
    len = size - 4;
    if (head_len > len)
        head_len = len;
    memcpy(frame + FRAME_HEADER_SIZE, data + 4, len);
    payload = uv_buf_init((char *)frame + FRAME_HEADER_SIZE + head_len, (unsigned)(len - head_len));
    frame_header(frame, (enum frame_type)(1 + data[0] % 4), frame + FRAME_HEADER_SIZE, head_len, &payload, 1);
    if (feed(frame, FRAME_HEADER_SIZE + len, 1 + data[1]))
        abort(); /* a right frame was refused */
    return 0;
}
