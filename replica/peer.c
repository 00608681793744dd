/* The whole of a member's connections: opening, closing, one timer for all deadlines. peer_out.c has the connections that we make,
 * peer_in.c those that are made to us, peer_hello.c the handshake, peer_raft.c libraft's messages as frames. */
#include "replica/peer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/peer_internal.h"
#include "store/base/err.h"
#include "store/base/log.h"

/* ---- Time ---------------------------------------------------------------------------------------------------------------- */

int64_t peer__now_ms(const struct peers *p)
{
    return (int64_t)uv_now(p->loop);
}

static void sooner(int64_t *nearest, int64_t deadline)
{
    if (deadline && (*nearest == 0 || deadline < *nearest))
        *nearest = deadline;
}

static void timer_cb(uv_timer_t *timer);

void peer__arm(struct peers *p)
{
    int64_t nearest = 0, now = peer__now_ms(p);

    if (p->closing)
        return;
    for (const struct peer *peer = p->peers; peer; peer = peer->next)
        if (!peer->gone)
            sooner(&nearest, peer->deadline_ms);
    for (const struct incoming *in = p->incoming; in; in = in->next)
        sooner(&nearest, in->deadline_ms);
    if (nearest)
        uv_timer_start(&p->timer, timer_cb, nearest > now ? (uint64_t)(nearest - now) : 0, 0);
    else
        uv_timer_stop(&p->timer);
}

/* What a deadline does may add to the lists or take from them, so each is searched from its head again. */
static void timer_cb(uv_timer_t *timer)
{
    struct peers *p = timer->data;
    int64_t now = peer__now_ms(p);
    bool again = true;

    while (again) {
        again = false;
        for (struct peer *peer = p->peers; peer && !again; peer = peer->next) {
            if (!peer->gone && peer->deadline_ms && peer->deadline_ms <= now) {
                peer->deadline_ms = now + PEER_REFUSED_MS; /* unless it is set below */
                peer__timeout(peer);
                again = true;
            }
        }
        for (struct incoming *in = p->incoming; in && !again; in = in->next) {
            if (in->deadline_ms && in->deadline_ms <= now) {
                if (!in->greeted && !in->refused)
                    peer__complain(p, "a connection from %s is closed: it says nothing", in->text);
                peer__incoming_close(in);
                again = true;
            }
        }
    }
    peer__arm(p);
}

/* ---- The list of members ------------------------------------------------------------------------------------------------- */

struct peer *peer__find(const struct peers *p, uint32_t id)
{
    struct peer *peer = p->peers;

    while (peer && (peer->id != id || peer->gone))
        peer = peer->next;
    return peer;
}

struct peer *peer__add(struct peers *p, uint32_t id)
{
    struct peer *peer = p->n_peers < PEER_MEMBERS_MAX ? calloc(1, sizeof *peer) : NULL;

    if (!peer)
        return NULL;
    peer->peers = p;
    peer->id = id;
    peer->backoff_ms = PEER_BACKOFF_MIN_MS;
    if (p->hooks.seen)
        p->hooks.seen(p->hooks.data, id, &peer->incarnation, &peer->run);
    peer->next = p->peers;
    p->peers = peer;
    p->n_peers++;
    return peer;
}

void peer__free_if_gone(struct peer *peer)
{
    struct peers *p = peer->peers;
    struct peer **at = &p->peers;

    if (!peer->gone || peer->n_links > 0)
        return;
    while (*at != peer)
        at = &(*at)->next;
    *at = peer->next;
    p->n_peers--;
    free(peer);
}

static void remove_peer(struct peer *peer)
{
    peer->gone = true;
    peer__cut(peer);
    peer__free_if_gone(peer);
}

/* Those that were removed are told over the connection that they made, so that they know why nobody speaks to them any more. */
static void tell_removed(struct peers *p, uint32_t id)
{
    char text[80];

    for (struct incoming *in = p->incoming, *next; in; in = next) {
        next = in->next;
        if (!in->greeted || in->from != id)
            continue;
        snprintf(text, sizeof text, "member %u was removed from the cluster", id);
        peer__incoming_refuse(in, PEER_REFUSED_REMOVED, text);
    }
}

void peer_members_changed(struct peers *p)
{
    uint32_t ids[PEER_MEMBERS_MAX];
    char address[PEER_ADDRESS_SIZE];
    size_t n;

    if (!p->listener || p->closing)
        return;
    for (struct peer *peer = p->peers, *next; peer; peer = next) {
        next = peer->next;
        if (!peer->gone && p->hooks.address(p->hooks.data, peer->id, address, sizeof address) == PEER_REMOVED) {
            tell_removed(p, peer->id);
            remove_peer(peer);
        }
    }
    n = p->hooks.members(p->hooks.data, ids, PEER_MEMBERS_MAX);
    for (size_t i = 0; i < n; i++) {
        struct peer *peer = peer__find(p, ids[i]);

        if (!peer)
            peer = peer__add(p, ids[i]);
        if (peer)
            peer__kick(peer);
        else
            log_warn("peer", "there is no connection to member %u: out of memory, or too many members", ids[i]);
    }
    peer__arm(p);
}

/* ---- Life ---------------------------------------------------------------------------------------------------------------- */

int peer_open(uv_loop_t *loop, const struct peer_config *config, const struct peer_hooks *hooks, struct peers **out, struct buf *why)
{
    struct peers *p = calloc(1, sizeof *p);
    int err;

    if (!p || uv_timer_init(loop, &p->timer)) {
        free(p);
        buf_printf(why, "out of memory");
        return QE_NOMEM;
    }
    p->loop = loop;
    p->timer.data = p;
    p->handles = 1;
    p->config = *config;
    p->config.listen = p->config.advertise = NULL;
    snprintf(p->advertise, sizeof p->advertise, "%s", config->advertise ? config->advertise : "");
    p->hooks = *hooks;
    p->random = config->run ^ (uint64_t)config->member_id << 32;
    if (config->listen && *config->listen) {
        snprintf(p->listen, sizeof p->listen, "%s", config->listen);
        err = wire_listen(loop, config->listen, config->insecure, peer__accepted, p, &p->listener, why);
        if (err) {
            peer_close(p, NULL, NULL);
            return err;
        }
        p->handles++;
        if (listener_port(p->listener) && strlen(p->listen) > 2 && strcmp(p->listen + strlen(p->listen) - 2, ":0") == 0)
            snprintf(p->listen + strlen(p->listen) - 1, sizeof p->listen - strlen(p->listen) + 1, "%u", listener_port(p->listener));
    }
    *out = p;
    peer_members_changed(p);
    return 0;
}

void peer__handle_closed(struct peers *p)
{
    if (--p->handles > 0)
        return;
    if (p->closed)
        p->closed(p->closed_data);
    free(p);
}

static void listener_closed(void *data)
{
    peer__handle_closed(data);
}

static void timer_closed(uv_handle_t *handle)
{
    peer__handle_closed(handle->data);
}

void peer_close(struct peers *p, void (*closed)(void *data), void *data)
{
    p->closing = true;
    p->closed = closed;
    p->closed_data = data;
    if (p->listener)
        listener_close(p->listener, listener_closed, p);
    while (p->incoming)
        peer__incoming_close(p->incoming);
    for (struct peer *peer = p->peers, *next; peer; peer = next) {
        next = peer->next;
        remove_peer(peer);
    }
    uv_close((uv_handle_t *)&p->timer, timer_closed);
}

/* ---- Glances ------------------------------------------------------------------------------------------------------------- */

void peer_state(const struct peers *p, uint32_t id, struct peer_state *out)
{
    const struct peer *peer = peer__find(p, id);

    memset(out, 0, sizeof *out);
    if (peer) {
        out->up = peer->phase == PEER_UP;
        out->round_trip_ns = peer->round_trip_ns;
        out->queued_bytes = peer->link ? link_queued(peer->link) : 0;
        out->refusal = peer->refusal;
    }
    for (const struct incoming *in = p->incoming; in; in = in->next)
        if (in->from == id && in->greeted)
            out->heard = true;
}

unsigned peer_port(const struct peers *p)
{
    return p->listener ? listener_port(p->listener) : 0;
}

/* ---- Complaints ---------------------------------------------------------------------------------------------------------- */

void peer__complain(struct peers *p, const char *fmt, ...)
{
    int64_t now = peer__now_ms(p), paid;
    char text[256];
    va_list ap;

    paid = p->complaint_ms ? (now - p->complaint_ms) / PEER_COMPLAINT_MS : 0;
    if (p->complaints == 0 || paid > 0)
        p->complaint_ms = now;
    p->complaints = (int64_t)p->complaints > paid ? p->complaints - (unsigned)paid : 0;
    if (p->complaints >= PEER_COMPLAINTS_MAX) {
        p->suppressed++;
        return;
    }
    p->complaints++;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (p->suppressed)
        log_warn("peer", "%s (%u such lines were left out)", text, p->suppressed);
    else
        log_warn("peer", "%s", text);
    p->suppressed = 0;
}
