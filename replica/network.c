#include "replica/network.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "replica/member.h"
#include "replica/peer.h"
#include "store/base/err.h"
#include "store/base/log.h"

static struct replica *replica_of(struct raft_io *io)
{
    return (struct replica *)((char *)io - offsetof(struct replica, io));
}

/* ---- What libraft sees --------------------------------------------------------------------------------------------------- */

static int io_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
    struct replica *r = replica_of(io);

    r->network.recv = recv;
    return r->network.start(io, msecs, tick, recv);
}

static int io_send(struct raft_io *io, struct raft_io_send *req, const struct raft_message *message, raft_io_send_cb cb)
{
    struct replica *r = replica_of(io);

    return r->network.peers ? peer_send_raft(r->network.peers, req, message, cb) : RAFT_NOCONNECTION;
}

static void peers_closed(void *data)
{
    struct replica *r = data;

    r->network.close(&r->io, r->network.close_cb);
}

/* Callbacks of sends use libraft's log, so they come before libraft hears that all is closed. */
static void io_close(struct raft_io *io, raft_io_close_cb cb)
{
    struct replica *r = replica_of(io);
    struct peers *peers = r->network.peers;

    r->network.close_cb = cb;
    r->network.peers = NULL;
    if (peers)
        peer_close(peers, peers_closed, r);
    else
        peers_closed(r);
}

void network_install(struct replica *r)
{
    r->network.start = r->io.start;
    r->network.close = r->io.close;
    r->io.start = io_start;
    r->io.send = io_send;
    r->io.close = io_close;
}

/* ---- What the connections tell ------------------------------------------------------------------------------------------- */

static enum peer_standing hook_address(void *data, uint32_t id, char *out, size_t size)
{
    struct replica *r = data;
    struct member_row row;

    *out = '\0';
    if (member_table_get(&r->members, id, &row)) {
        snprintf(out, size, "%s", row.address);
        return PEER_MEMBER;
    }
    return member_table_removed(&r->members, id) ? PEER_REMOVED : PEER_UNKNOWN;
}

static size_t hook_members(void *data, uint32_t *ids, size_t max)
{
    struct replica *r = data;
    struct member_row *rows;
    size_t n_rows, n = 0;
    int64_t next;

    if (member_table_copy(&r->members, &rows, &n_rows, &next)) {
        log_warn("peer", "cannot look up the members: out of memory");
        return 0;
    }
    for (size_t i = 0; i < n_rows && n < max; i++)
        if (rows[i].id != r->id.member_id)
            ids[n++] = rows[i].id;
    free(rows);
    return n;
}

static void hook_raft(void *data, struct raft_message *m)
{
    struct replica *r = data;

    r->network.recv(&r->io, m);
}

static void hook_message(void *data, uint32_t from, const Qfs__PeerMessage *m, const uint8_t *payload, size_t len)
{
    member_message(data, from, m, payload, len);
}

static void hook_guest(void *data, struct peer_guest *g, const Qfs__PeerMessage *m, const uint8_t *payload, size_t len)
{
    (void)payload;
    (void)len;
    if (!admit_message(data, g, m))
        copy_message(data, &(struct copy_asker){.guest = g}, m);
}

static void hook_guest_gone(void *data, struct peer_guest *g)
{
    admit_guest_gone(data, g);
    copy_guest_gone(data, g);
}

static void hook_up(void *data, uint32_t id)
{
    struct replica *r = data;

    guard_member_up(&r->guard, id);
    forward_up(r, id);
}

static void hook_down(void *data, uint32_t id)
{
    (void)data; /* what waits for an answer is sent again when it is up */
    (void)id;
}

static void hook_gone(void *data, uint32_t id)
{
    struct replica *r = data;

    guard_member_gone(&r->guard, id);
}

/* The others do not listen to such a member any more, and are right: it could only do harm. Started often enough an old copy would have the
 * highest number of all starts. */
static void hook_refused(void *data, uint32_t id, enum peer_refusal why, const char *text)
{
    struct replica *r = data;

    if (why == PEER_REFUSED_INCARNATION && starts_unfit(&r->starts, &r->dir, text))
        log_warn("replica", "cannot note in \"%s\" that it must not be started any more", r->dir.raft);
    if (why == PEER_REFUSED_REMOVED || why == PEER_REFUSED_INCARNATION)
        member_fail(data, "member %u says: %s", id, text);
}

static void hook_seen(void *data, uint32_t id, uint64_t *incarnation, uint64_t *run)
{
    struct replica *r = data;

    starts_seen(&r->starts, id, incarnation, run);
}

static int hook_saw(void *data, uint32_t id, uint64_t incarnation, uint64_t run)
{
    struct replica *r = data;

    return starts_saw(&r->starts, &r->dir, id, incarnation, run);
}

/* ---- Life ---------------------------------------------------------------------------------------------------------------- */

int network_open(struct replica *r, struct buf *why)
{
    const struct peer_hooks hooks = {.data = r, .address = hook_address, .members = hook_members, .raft = hook_raft, .message = hook_message,
                                     .guest = hook_guest, .guest_gone = hook_guest_gone,
                                     .up = hook_up, .down = hook_down, .gone = hook_gone, .refused = hook_refused, .seen = hook_seen, .saw = hook_saw};
    struct peer_config config = {.member_id = r->id.member_id, .incarnation = r->starts.incarnation, .run = r->starts.run,
                                 .listen = r->opt.listen, .advertise = r->opt.advertise, .insecure = r->opt.insecure};

    memcpy(config.cluster_id, r->id.cluster_id, sizeof config.cluster_id);
    return peer_open(&r->loop.uv, &config, &hooks, &r->network.peers, why);
}

void network_members_changed(struct replica *r)
{
    if (r->network.peers)
        peer_members_changed(r->network.peers);
}

void network_abandon(struct replica *r)
{
    if (r->network.peers)
        peer_close(r->network.peers, NULL, NULL);
    r->network.peers = NULL;
}
