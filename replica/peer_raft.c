/* libraft's messages as frames. What comes in is checked here as far as libraft relies on it without looking: it was compiled without
 * its assertions, decodes configurations without bounds, and pads entries on disk but not when it reads them. */
#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/guard.h"
#include "replica/peer_internal.h"
#include "store/base/err.h"

enum {
    ENTRIES_MAX = GUARD_MESSAGE_ENTRIES, /* of one message */
    SNAPSHOT_MAX = 4096,                 /* a marker is small */
    CONFIGURATION_FORMAT = 1,
};

/* ---- Out ----------------------------------------------------------------------------------------------------------------- */

void peer__raft_head(const struct raft_message *m, Qfs__RaftMessage *out)
{
    qfs__raft_message__init(out);
    out->type = m->type;
    switch (m->type) {
    case RAFT_IO_APPEND_ENTRIES:
        out->term = m->append_entries.term;
        out->index = m->append_entries.prev_log_index;
        out->index_term = m->append_entries.prev_log_term;
        out->commit = m->append_entries.leader_commit;
        break;
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        out->term = m->append_entries_result.term;
        out->rejected = m->append_entries_result.rejected;
        out->index = m->append_entries_result.last_log_index;
        break;
    case RAFT_IO_REQUEST_VOTE:
        out->term = m->request_vote.term;
        out->candidate = m->request_vote.candidate_id;
        out->index = m->request_vote.last_log_index;
        out->index_term = m->request_vote.last_log_term;
        out->disrupt = m->request_vote.disrupt_leader;
        out->pre_vote = m->request_vote.pre_vote;
        break;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        out->term = m->request_vote_result.term;
        out->granted = m->request_vote_result.vote_granted;
        out->pre_vote = m->request_vote_result.pre_vote;
        break;
    case RAFT_IO_INSTALL_SNAPSHOT:
        out->term = m->install_snapshot.term;
        out->index = m->install_snapshot.last_index;
        out->index_term = m->install_snapshot.last_term;
        out->conf_index = m->install_snapshot.conf_index;
        break;
    default:
        out->term = m->timeout_now.term;
        out->index = m->timeout_now.last_log_index;
        out->index_term = m->timeout_now.last_log_term;
    }
}

struct lent { /* a message whose payload is libraft's until it is sent */
    struct peers *peers;
    struct raft_io_send *req;
    raft_io_send_cb cb;
};

static void lent_sent(void *data, int err)
{
    struct lent l = *(struct lent *)data;

    free(data);
    if (l.cb)
        l.cb(l.req, err == 0 ? 0 : l.peers->closing ? RAFT_CANCELED : RAFT_NOCONNECTION);
}

static int send_frame(struct peer *peer, Qfs__RaftMessage *head, const uv_buf_t *payload, unsigned n, struct raft_io_send *req,
                      raft_io_send_cb cb)
{
    struct lent *l = malloc(sizeof *l);
    int err;

    if (!l)
        return RAFT_NOMEM;
    *l = (struct lent){peer->peers, req, cb};
    err = link_send(peer->link, FRAME_RAFT, &head->base, payload, n, LINK_LEND, lent_sent, l);
    if (err)
        free(l);
    return err == 0 ? 0 : err == QE_NOMEM ? RAFT_NOMEM : err == QE_2BIG ? RAFT_TOOBIG : RAFT_NOCONNECTION;
}

static int send_entries(struct peer *peer, Qfs__RaftMessage *head, const struct raft_append_entries *ae, struct raft_io_send *req,
                        raft_io_send_cb cb)
{
    uint64_t term[ENTRIES_MAX];
    uint32_t type[ENTRIES_MAX], len[ENTRIES_MAX];
    uv_buf_t bufs[ENTRIES_MAX];

    if (ae->n_entries > ENTRIES_MAX)
        return RAFT_TOOBIG;
    for (unsigned i = 0; i < ae->n_entries; i++) {
        const struct raft_entry *e = &ae->entries[i];

        term[i] = e->term;
        type[i] = e->type;
        len[i] = (uint32_t)e->buf.len;
        bufs[i] = uv_buf_init(e->buf.base, (unsigned)e->buf.len);
    }
    head->n_entry_term = head->n_entry_type = head->n_entry_len = ae->n_entries;
    head->entry_term = term;
    head->entry_type = type;
    head->entry_len = len;
    return send_frame(peer, head, bufs, ae->n_entries, req, cb);
}

static int send_snapshot(struct peer *peer, Qfs__RaftMessage *head, const struct raft_install_snapshot *is, struct raft_io_send *req,
                         raft_io_send_cb cb)
{
    const uv_buf_t buf = uv_buf_init(is->data.base, (unsigned)is->data.len);
    uint64_t id[GUARD_MEMBERS_MAX];
    uint32_t role[GUARD_MEMBERS_MAX];

    if (is->conf.n > GUARD_MEMBERS_MAX)
        return RAFT_TOOBIG;
    for (unsigned i = 0; i < is->conf.n; i++) {
        id[i] = is->conf.servers[i].id;
        role[i] = (uint32_t)is->conf.servers[i].role;
    }
    head->n_server_id = head->n_server_role = is->conf.n;
    head->server_id = id;
    head->server_role = role;
    return send_frame(peer, head, &buf, 1, req, cb);
}

/* Votes and answers that come while the connection is just being made wait for it: an election would else have to begin again. */
static int wait_for_link(struct peer *peer, const Qfs__RaftMessage *head, struct raft_io_send *req, raft_io_send_cb cb)
{
    if (peer->n_waiting == PEER_WAITING_MAX)
        return RAFT_NOCONNECTION;
    peer->waiting[peer->n_waiting++] = (struct waiting){*head, req, cb};
    return 0;
}

int peer_send_raft(struct peers *p, struct raft_io_send *req, const struct raft_message *m, raft_io_send_cb cb)
{
    struct peer *peer = m->server_id <= UINT32_MAX ? peer__find(p, (uint32_t)m->server_id) : NULL;
    Qfs__RaftMessage head;

    if (!peer || p->closing || peer->phase == PEER_PAUSE)
        return RAFT_NOCONNECTION;
    peer__raft_head(m, &head);
    if (peer->phase != PEER_UP)
        return m->type == RAFT_IO_APPEND_ENTRIES || m->type == RAFT_IO_INSTALL_SNAPSHOT ? RAFT_NOCONNECTION :
               wait_for_link(peer, &head, req, cb);
    if (link_queued(peer->link) > PEER_QUEUE_BYTES)
        return RAFT_NOCONNECTION;
    if (m->type == RAFT_IO_APPEND_ENTRIES)
        return send_entries(peer, &head, &m->append_entries, req, cb);
    if (m->type == RAFT_IO_INSTALL_SNAPSHOT)
        return send_snapshot(peer, &head, &m->install_snapshot, req, cb);
    return send_frame(peer, &head, NULL, 0, req, cb);
}

/* ---- In ------------------------------------------------------------------------------------------------------------------ */

/* An encoded configuration (raft_configuration_encode): 1 format, 8 n, then for each server 8 id, its address with a zero byte, 1 role;
 * padded to 8. */
static bool configuration_is_sound(const uint8_t *data, size_t len)
{
    size_t at = 9;
    uint64_t n;

    if (len < at || data[0] != CONFIGURATION_FORMAT)
        return false;
    memcpy(&n, data + 1, sizeof n);
    n = le64toh(n);
    if (n == 0 || n > GUARD_MEMBERS_MAX)
        return false;
    while (n-- > 0) {
        static const uint8_t no_id[8];
        const uint8_t *end = at + 8 < len && memcmp(data + at, no_id, 8) != 0 ? memchr(data + at + 8, 0, len - at - 8) : NULL;

        if (!end || end + 1 >= data + len || end[1] > RAFT_SPARE)
            return false;
        at = (size_t)(end + 2 - data);
    }
    return len - at < 8;
}

static const char *entry_fault(const uint8_t *cluster_id, uint32_t type, const uint8_t *data, size_t len)
{
    if (len == 0 || len % 8 != 0)
        return "an entry of a length that cannot be";
    if (type == RAFT_CHANGE)
        return configuration_is_sound(data, len) ? NULL : "an entry with a malformed configuration";
    if (type != RAFT_COMMAND)
        return type == RAFT_BARRIER ? NULL : "an entry of an unknown kind";
    switch (store_entry_check(data, len, cluster_id, NULL)) {
    case 0: return NULL;
    case QE_FORMAT: return "an entry of a newer version or of another cluster";
    default: return "a damaged entry";
    }
}

static int decode_entries(const uint8_t *cluster_id, const Qfs__RaftMessage *h, struct frame *f, struct raft_append_entries *ae,
                          const char **why)
{
    size_t at = 0, n = h->n_entry_term;

    *ae = (struct raft_append_entries){.term = h->term, .prev_log_index = h->index, .prev_log_term = h->index_term,
                                       .leader_commit = h->commit};
    *why = "entries that do not fit their message";
    if (h->n_entry_type != n || h->n_entry_len != n || n > ENTRIES_MAX || (h->index == 0) != (h->index_term == 0))
        return QE_CORRUPT;
    for (size_t i = 0; i < n; i++) {
        uint64_t before = i > 0 ? h->entry_term[i - 1] : h->index_term;

        if (h->entry_len[i] > f->payload_len - at || h->entry_term[i] == 0 || h->entry_term[i] < before || h->entry_term[i] > h->term)
            return QE_CORRUPT;
        at += h->entry_len[i];
    }
    if (at != f->payload_len)
        return QE_CORRUPT;
    at = 0;
    for (size_t i = 0; i < n; at += h->entry_len[i++]) {
        const char *fault = entry_fault(cluster_id, h->entry_type[i], f->payload + at, h->entry_len[i]);

        if (fault) {
            *why = fault;
            return QE_CORRUPT;
        }
    }
    if (n == 0)
        return 0;
    ae->entries = raft_calloc(n, sizeof *ae->entries);
    if (!ae->entries)
        return QE_NOMEM;
    ae->n_entries = (unsigned)n;
    at = 0;
    for (size_t i = 0; i < n; at += h->entry_len[i++])
        ae->entries[i] = (struct raft_entry){h->entry_term[i], (unsigned short)h->entry_type[i], {f->payload + at, h->entry_len[i]}, f->payload};
    f->payload = NULL; /* theirs now */
    return 0;
}

static int decode_snapshot(const Qfs__RaftMessage *h, struct frame *f, struct raft_install_snapshot *is, const char **why)
{
    int rv = 0;

    *is = (struct raft_install_snapshot){.term = h->term, .last_index = h->index, .last_term = h->index_term, .conf_index = h->conf_index};
    *why = "a malformed snapshot";
    if (h->n_server_id == 0 || h->n_server_id != h->n_server_role || h->n_server_id > GUARD_MEMBERS_MAX || f->payload_len == 0 ||
        f->payload_len > SNAPSHOT_MAX || h->index == 0 || h->index_term == 0 || h->index_term > h->term || h->conf_index == 0 ||
        h->conf_index > h->index)
        return QE_CORRUPT;
    raft_configuration_init(&is->conf);
    for (size_t i = 0; i < h->n_server_id && !rv; i++) {
        char address[24];

        snprintf(address, sizeof address, "%" PRIu64, h->server_id[i]);
        if (h->server_role[i] > RAFT_SPARE || h->server_id[i] == 0)
            rv = RAFT_BADROLE;
        else
            rv = raft_configuration_add(&is->conf, h->server_id[i], address, (int)h->server_role[i]);
    }
    if (rv) {
        raft_configuration_close(&is->conf);
        return rv == RAFT_NOMEM ? QE_NOMEM : QE_CORRUPT;
    }
    is->data = (struct raft_buffer){f->payload, f->payload_len};
    f->payload = NULL;
    return 0;
}

static int decode(const uint8_t *cluster_id, uint32_t from, const Qfs__RaftMessage *h, struct frame *f, struct raft_message *out,
                  const char **why)
{
    memset(out, 0, sizeof *out);
    out->type = (unsigned short)h->type;
    out->server_id = from;
    *why = "a malformed message of libraft";
    if (h->term == 0 || h->term >> 62 || h->index >> 62 || h->type < RAFT_IO_APPEND_ENTRIES || h->type > RAFT_IO_TIMEOUT_NOW)
        return QE_CORRUPT;
    if (f->payload_len > 0 && h->type != RAFT_IO_APPEND_ENTRIES && h->type != RAFT_IO_INSTALL_SNAPSHOT)
        return QE_CORRUPT;
    switch (h->type) {
    case RAFT_IO_APPEND_ENTRIES:
        return decode_entries(cluster_id, h, f, &out->append_entries, why);
    case RAFT_IO_INSTALL_SNAPSHOT:
        return decode_snapshot(h, f, &out->install_snapshot, why);
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        out->append_entries_result = (struct raft_append_entries_result){h->term, h->rejected, h->index};
        return 0;
    case RAFT_IO_REQUEST_VOTE:
        out->request_vote = (struct raft_request_vote){h->term, h->candidate, h->index, h->index_term, h->disrupt, h->pre_vote};
        return h->candidate == from && h->pre_vote <= 1 ? 0 : QE_CORRUPT;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        out->request_vote_result = (struct raft_request_vote_result){h->term, h->granted, (raft_tribool)h->pre_vote};
        return h->pre_vote <= raft_tribool_false ? 0 : QE_CORRUPT;
    default:
        out->timeout_now = (struct raft_timeout_now){h->term, h->index, h->index_term};
        return 0;
    }
}

int peer__raft_decode(const uint8_t cluster_id[STORE_CLUSTER_ID_SIZE], uint32_t from, struct frame *f, struct raft_message *out,
                      const char **why)
{
    Qfs__RaftMessage *h = qfs__raft_message__unpack(NULL, f->head_len, f->head);
    int err;

    if (!h) {
        *why = "a message that cannot be read";
        return QE_CORRUPT;
    }
    err = decode(cluster_id, from, h, f, out, why);
    if (err == QE_NOMEM)
        *why = "out of memory";
    qfs__raft_message__free_unpacked(h, NULL);
    return err;
}

void peer__raft_free(struct raft_message *m)
{
    if (m->type == RAFT_IO_APPEND_ENTRIES && m->append_entries.n_entries > 0) {
        raft_free(m->append_entries.entries[0].batch);
        raft_free(m->append_entries.entries);
    } else if (m->type == RAFT_IO_INSTALL_SNAPSHOT) {
        raft_configuration_close(&m->install_snapshot.conf);
        raft_free(m->install_snapshot.data.base);
    }
}
