/* Connections that others make to us: a hello, our Welcome, then its messages. A member has one at a time; a new one replaces the old
 * one. Until it has said a right hello nobody gets more than a buffer of fixed size, and of those that keep silent the oldest
 * makes room for the next. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/address.h"
#include "replica/peer_internal.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"

struct peer_guest {
    struct incoming *in;
};

static const char unreadable[] = "a message that cannot be read";

/* ---- Ending it ----------------------------------------------------------------------------------------------------------- */

static void link_closed(void *data)
{
    struct incoming *in = data;
    struct peers *p = in->peers;

    free(in->handle);
    free(in);
    peer__handle_closed(p);
}

void peer__incoming_close(struct incoming *in)
{
    struct peers *p = in->peers;

    if (link_closing(in->link))
        return;
    if (in->prev)
        in->prev->next = in->next;
    else
        p->incoming = in->next;
    if (in->next)
        in->next->prev = in->prev;
    p->n_incoming--;
    link_close(in->link, link_closed, in);
    if (in->guest) {
        p->n_guests--;
        if (p->hooks.guest_gone && !p->closing)
            p->hooks.guest_gone(p->hooks.data, in->handle);
    }
    peer__arm(p);
}

static void end(struct incoming *in, const char *why)
{
    if (in->from)
        log_warn("peer", "the connection of member %" PRIu32 " from %s is closed: %s", in->from, in->text, why);
    else
        peer__complain(in->peers, "a connection from %s is closed: %s", in->text, why);
    peer__incoming_close(in);
}

static void refusal_sent(void *data, int err)
{
    (void)err;
    if (!link_closing(((struct incoming *)data)->link))
        peer__incoming_close(data);
}

void peer__incoming_refuse(struct incoming *in, enum peer_refusal refusal, const char *text)
{
    Qfs__Welcome w;

    peer__welcome(in->peers, refusal, text, &w);
    in->refused = true;
    in->deadline_ms = peer__now_ms(in->peers) + PEER_GREETING_MS; /* if it cannot be sent */
    if (link_send(in->link, FRAME_WELCOME, &w.base, NULL, 0, LINK_COPY, refusal_sent, in))
        peer__incoming_close(in);
    peer__arm(in->peers);
}

/* ---- Hello --------------------------------------------------------------------------------------------------------------- */

static void replace_older(struct incoming *in)
{
    for (struct incoming *other = in->peers->incoming, *next; other; other = next) {
        next = other->next;
        if (other != in && other->from == in->from && other->greeted)
            peer__incoming_close(other);
    }
}

static void learn(struct incoming *in, const Qfs__Hello *hello)
{
    struct peer *peer = peer__find(in->peers, in->from);
    struct address a;

    if (!peer)
        return;
    if (strlen(hello->address) < sizeof peer->learned && address_parse(hello->address, &a) == 0 &&
        strcmp(hello->address, peer->learned) != 0) {
        snprintf(peer->learned, sizeof peer->learned, "%s", hello->address);
        peer->learned_failed = false;
    }
    peer__kick(peer); /* it is there: no pause any more */
}

static void welcome(struct incoming *in, const Qfs__Hello *hello)
{
    struct peers *p = in->peers;
    Qfs__Welcome w;

    in->greeted = true;
    in->deadline_ms = 0;
    in->from = hello->from;
    in->guest = hello->from == 0;
    if (in->guest) {
        in->handle = calloc(1, sizeof *in->handle);
        if (!in->handle) {
            in->guest = false;
            end(in, "out of memory");
            return;
        }
        in->handle->in = in;
        p->n_guests++;
    } else {
        replace_older(in);
    }
    peer__welcome(p, PEER_WELCOME, "", &w);
    link_trust(in->link, in->guest ? 1u << FRAME_PEER : 1u << FRAME_PEER | 1u << FRAME_RAFT);
    if (link_send(in->link, FRAME_WELCOME, &w.base, NULL, 0, LINK_COPY, NULL, NULL)) {
        end(in, "out of memory");
        return;
    }
    if (!in->guest)
        learn(in, hello);
}

static void on_hello(struct incoming *in, const struct frame *f)
{
    Qfs__Hello *hello = qfs__hello__unpack(NULL, f->head_len, f->head);
    enum peer_refusal refusal;
    char text[160];

    if (!hello) {
        end(in, "a hello that cannot be read");
        return;
    }
    refusal = peer__judge_hello(in->peers, hello, text, sizeof text);
    if (refusal) {
        peer__complain(in->peers, "a connection from %s is refused: %s", in->text, text);
        peer__incoming_refuse(in, refusal, text);
    } else {
        welcome(in, hello);
    }
    qfs__hello__free_unpacked(hello, NULL);
}

/* ---- Messages ------------------------------------------------------------------------------------------------------------ */

static void on_raft(struct incoming *in, struct frame *f)
{
    struct peers *p = in->peers;
    const char *why = "out of memory";
    struct raft_message m;
    char address[16];

    if (peer__raft_decode(p->config.cluster_id, in->from, f, &m, &why)) {
        end(in, why);
        return;
    }
    snprintf(address, sizeof address, "%" PRIu32, in->from);
    m.server_address = address;
    p->hooks.raft(p->hooks.data, &m);
}

static void on_ping(struct incoming *in, const Qfs__PeerMessage *m)
{
    struct peer *peer = peer__find(in->peers, in->from);
    Qfs__PeerMessage answer = QFS__PEER_MESSAGE__INIT;
    Qfs__Ping body = QFS__PING__INIT;

    if (m->ping->answer && peer) {
        peer->round_trip_ns = clock_boottime_ns() - (int64_t)m->ping->sent_ns;
    } else if (!m->ping->answer) {
        body.sent_ns = m->ping->sent_ns;
        body.answer = true;
        answer.kind_case = QFS__PEER_MESSAGE__KIND_PING;
        answer.ping = &body;
        peer_send(in->peers, in->from, &answer, NULL, 0); /* it asks again */
    }
}

static void on_message(struct incoming *in, const struct frame *f)
{
    struct peers *p = in->peers;
    Qfs__PeerMessage *m = qfs__peer_message__unpack(NULL, f->head_len, f->head);

    if (!m)
        end(in, unreadable);
    else if (in->guest)
        p->hooks.guest(p->hooks.data, in->handle, m, f->payload, f->payload_len);
    else if (m->kind_case == QFS__PEER_MESSAGE__KIND_PING)
        on_ping(in, m);
    else
        p->hooks.message(p->hooks.data, in->from, m, f->payload, f->payload_len);
    if (m)
        qfs__peer_message__free_unpacked(m, NULL);
}

static void on_frame(void *data, struct frame *f)
{
    struct incoming *in = data;

    if (in->refused)
        return;
    if (!in->greeted)
        on_hello(in, f);
    else if (f->type == FRAME_RAFT)
        on_raft(in, f);
    else
        on_message(in, f);
}

static void on_down(void *data, const char *why)
{
    struct incoming *in = data;

    if (in->from)
        log_info("peer", "the connection of member %" PRIu32 " from %s ended: %s", in->from, in->text, why);
    else if (!in->guest && !in->refused)
        peer__complain(in->peers, "a connection from %s is closed: %s", in->text, why);
    peer__incoming_close(in);
}

/* ---- Accepting ----------------------------------------------------------------------------------------------------------- */

/* The oldest of those that have not said who they are; members are let in as soon as they have, so they are never among them for
 * long. */
static struct incoming *oldest_silent(struct peers *p)
{
    struct incoming *oldest = NULL;

    for (struct incoming *in = p->incoming; in; in = in->next)
        if (!in->greeted)
            oldest = in;
    return oldest;
}

void peer__accepted(void *data, struct wire *c)
{
    struct peers *p = data;
    struct incoming *in = calloc(1, sizeof *in);
    const struct link_hooks hooks = {in, NULL, on_frame, on_down};

    if (p->n_incoming >= PEER_CONNECTIONS_MAX && oldest_silent(p))
        end(oldest_silent(p), "it said nothing, and there are too many connections");
    if (!in || p->n_incoming >= PEER_CONNECTIONS_MAX) {
        peer__complain(p, "a connection is refused: %s", in ? "there are too many" : "out of memory");
        wire_close(c, NULL, NULL);
        free(in);
        return;
    }
    in->peers = p;
    in->deadline_ms = peer__now_ms(p) + PEER_GREETING_MS;
    wire_peer_text(c, in->text, sizeof in->text);
    in->next = p->incoming;
    if (in->next)
        in->next->prev = in;
    p->incoming = in;
    p->n_incoming++;
    p->handles++;
    if (link_accept(c, &hooks, 1u << FRAME_HELLO, &in->link)) {
        p->incoming = in->next;
        if (in->next)
            in->next->prev = NULL;
        p->n_incoming--;
        p->handles--;
        free(in);
        return;
    }
    peer__arm(p);
}

/* ---- Guests -------------------------------------------------------------------------------------------------------------- */

int peer_guest_send(struct peer_guest *g, const Qfs__PeerMessage *m, const void *payload, size_t len)
{
    const uv_buf_t buf = uv_buf_init((char *)(uintptr_t)payload, (unsigned)len);
    int err;

    if (link_queued(g->in->link) > PEER_QUEUE_BYTES)
        return QE_AGAIN;
    err = link_send(g->in->link, FRAME_PEER, &m->base, &buf, 1, LINK_COPY, NULL, NULL);
    return err == QE_IO ? QE_AGAIN : err;
}

static void last_sent(void *data, int err)
{
    refusal_sent(data, err);
}

/* An empty message goes last, so that it is known when all before it are gone. */
void peer_guest_close(struct peer_guest *g)
{
    const Qfs__PeerMessage end_of_talk = QFS__PEER_MESSAGE__INIT;

    if (link_send(g->in->link, FRAME_PEER, &end_of_talk.base, NULL, 0, LINK_COPY, last_sent, g->in))
        peer__incoming_close(g->in);
}
