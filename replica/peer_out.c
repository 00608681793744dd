/* Our connection to one member.
 *
 *   PAUSE --(deadline, or it called us)--> CONNECTING --(made)--> GREETING --(Welcome)--> UP
 *     ^                                        |                     |                    |
 *     +------ broken, no answer in time, refused: `lose` ------------+--------------------+
 *
 * Pauses grow from PEER_BACKOFF_MIN_MS to PEER_BACKOFF_MAX_MS, half of each by chance, so that members which lost each other do not
 * call in step. The log gets a line when the reason changes, and one when all is well again. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/peer_internal.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"

/* ---- Losing it ----------------------------------------------------------------------------------------------------------- */

static void link_closed(void *data)
{
    struct peer *peer = data;
    struct peers *p = peer->peers;

    peer->n_links--;
    peer__free_if_gone(peer);
    peer__handle_closed(p);
}

void peer__flush(struct peer *peer, int status)
{
    struct waiting list[PEER_WAITING_MAX];
    unsigned n = peer->n_waiting;

    memcpy(list, peer->waiting, n * sizeof list[0]);
    peer->n_waiting = 0;
    for (unsigned i = 0; i < n; i++) {
        struct waiting *w = &list[i];
        int rv = status;

        if (!rv && peer->phase == PEER_UP)
            rv = link_send(peer->link, FRAME_RAFT, &w->head.base, NULL, 0, LINK_COPY, NULL, NULL) ? RAFT_NOCONNECTION : 0;
        if (w->cb)
            w->cb(w->req, rv);
    }
}

/* No connection any more, and no attempt under way. */
static void drop(struct peer *peer)
{
    bool was_up = peer->phase == PEER_UP;

    if (peer->link)
        link_close(peer->link, link_closed, peer);
    peer->link = NULL;
    peer->phase = PEER_PAUSE;
    peer__flush(peer, peer->peers->closing ? RAFT_CANCELED : RAFT_NOCONNECTION);
    if (was_up && !peer->peers->closing)
        peer->peers->hooks.down(peer->peers->hooks.data, peer->id);
}

static void pause_ms(struct peer *peer, int64_t ms)
{
    struct peers *p = peer->peers;

    p->random = p->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    peer->deadline_ms = peer__now_ms(p) + ms / 2 + (int64_t)((p->random >> 33) % (uint64_t)(ms / 2 + 1));
}

static void say(struct peer *peer, const char *what)
{
    if (strncmp(peer->said, what, sizeof peer->said - 1) == 0)
        return;
    snprintf(peer->said, sizeof peer->said, "%s", what);
    log_warn("peer", "member %" PRIu32 " at \"%s\": %s", peer->id, peer->address, what);
}

void peer__gone(struct peer *peer)
{
    struct peers *p = peer->peers;

    if (peer->was_up && p->hooks.gone)
        p->hooks.gone(p->hooks.data, peer->id);
    peer->was_up = false;
}

static void lose(struct peer *peer, const char *why)
{
    bool gone = peer->phase == PEER_CONNECTING && link_refused(peer->link);

    say(peer, why);
    if (gone)
        peer__gone(peer);
    if (peer->phase != PEER_UP) /* the other address has its turn next */
        peer->learned_failed = peer->learned[0] && strcmp(peer->address, peer->learned) == 0;
    pause_ms(peer, peer->backoff_ms);
    peer->backoff_ms = peer->backoff_ms * 2 < PEER_BACKOFF_MAX_MS ? peer->backoff_ms * 2 : PEER_BACKOFF_MAX_MS;
    drop(peer);
    peer__arm(peer->peers);
}

static void be_refused(struct peer *peer, enum peer_refusal refusal, const char *text, bool by_them)
{
    struct peers *p = peer->peers;

    peer->refusal = refusal;
    say(peer, text);
    pause_ms(peer, PEER_REFUSED_MS);
    drop(peer);
    peer__arm(p);
    if (by_them && p->hooks.refused)
        p->hooks.refused(p->hooks.data, peer->id, refusal, text);
}

void peer__cut(struct peer *peer)
{
    peer->deadline_ms = 0;
    drop(peer);
}

/* ---- Hooks of the link --------------------------------------------------------------------------------------------------- */

static void on_up(void *data)
{
    struct peer *peer = data;
    char address[PEER_ADDRESS_SIZE];
    Qfs__Hello hello;

    peer__hello(peer->peers, peer->id, &hello, address);
    peer->phase = PEER_GREETING;
    peer->deadline_ms = peer__now_ms(peer->peers) + PEER_GREETING_MS;
    if (link_send(peer->link, FRAME_HELLO, &hello.base, NULL, 0, LINK_COPY, NULL, NULL))
        lose(peer, "out of memory");
    else
        peer__arm(peer->peers);
}

static void be_welcome(struct peer *peer)
{
    struct peers *p = peer->peers;

    peer->phase = PEER_UP;
    peer->refusal = PEER_WELCOME;
    peer->deadline_ms = peer__now_ms(p) + PEER_PING_MS;
    peer->said[0] = '\0';
    peer->was_up = true;
    log_info("peer", "connected to member %" PRIu32 " at \"%s\"", peer->id, peer->address);
    peer__arm(p);
    peer__flush(peer, 0);
    if (peer->phase == PEER_UP)
        p->hooks.up(p->hooks.data, peer->id);
}

static void on_frame(void *data, struct frame *f)
{
    struct peer *peer = data;
    Qfs__Welcome *w = qfs__welcome__unpack(NULL, f->head_len, f->head);
    enum peer_refusal refusal;
    char text[160];

    if (!w) {
        lose(peer, "its answer cannot be read");
        return;
    }
    refusal = peer__judge_welcome(peer, w, text, sizeof text);
    if (refusal)
        be_refused(peer, refusal, text, w->refusal != 0);
    else if (peer->phase == PEER_GREETING)
        be_welcome(peer);
    qfs__welcome__free_unpacked(w, NULL);
}

static void on_down(void *data, const char *why)
{
    lose(data, why);
}

/* ---- Making it ----------------------------------------------------------------------------------------------------------- */

/* What its own hello said counts before the table, which may be behind; but if nobody answers there they take turns. */
static bool find_address(struct peer *peer)
{
    struct peers *p = peer->peers;
    char table[PEER_ADDRESS_SIZE] = "";
    bool known = p->hooks.address(p->hooks.data, peer->id, table, sizeof table) == PEER_MEMBER && table[0];

    if (peer->learned[0] && !(peer->learned_failed && known))
        memcpy(peer->address, peer->learned, sizeof peer->address);
    else
        memcpy(peer->address, table, sizeof peer->address);
    return peer->address[0];
}

static void begin(struct peer *peer)
{
    const struct link_hooks hooks = {peer, on_up, on_frame, on_down};
    struct peers *p = peer->peers;
    int err;

    if (!find_address(peer)) {
        say(peer, "no address of it is known");
        pause_ms(peer, PEER_REFUSED_MS);
        return;
    }
    err = link_connect(p->loop, peer->address, p->config.insecure, &hooks, 1u << FRAME_WELCOME, &peer->link);
    if (err) {
        lose(peer, err == QE_INVAL ? "its address is not HOST:PORT" : "out of memory");
        return;
    }
    peer->n_links++;
    p->handles++;
    peer->phase = PEER_CONNECTING;
    peer->deadline_ms = peer__now_ms(p) + PEER_GREETING_MS;
}

void peer__kick(struct peer *peer)
{
    if (peer->phase == PEER_PAUSE && !peer->gone && !peer->peers->closing) {
        begin(peer);
        peer__arm(peer->peers);
    }
}

static void ping(struct peer *peer)
{
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;
    Qfs__Ping body = QFS__PING__INIT;

    body.sent_ns = (uint64_t)clock_boottime_ns();
    m.kind_case = QFS__PEER_MESSAGE__KIND_PING;
    m.ping = &body;
    peer_send(peer->peers, peer->id, &m, NULL, 0); /* the next one will tell as well */
}

void peer__timeout(struct peer *peer)
{
    switch (peer->phase) {
    case PEER_PAUSE:
        begin(peer);
        break;
    case PEER_CONNECTING:
        lose(peer, "nobody answers there");
        break;
    case PEER_GREETING:
        lose(peer, "it does not answer a hello");
        break;
    case PEER_UP:
        peer->backoff_ms = PEER_BACKOFF_MIN_MS; /* not sooner: it may be of a kind that breaks each time, with a line in the log */
        ping(peer);
        peer->deadline_ms = peer__now_ms(peer->peers) + PEER_PING_MS;
        break;
    }
}

/* ---- Sending ------------------------------------------------------------------------------------------------------------- */

int peer_send(struct peers *p, uint32_t to, const Qfs__PeerMessage *m, const void *payload, size_t len)
{
    const uv_buf_t buf = uv_buf_init((char *)(uintptr_t)payload, (unsigned)len);
    struct peer *peer = peer__find(p, to);
    int err;

    if (!peer || peer->phase != PEER_UP || link_queued(peer->link) > PEER_QUEUE_BYTES)
        return QE_AGAIN;
    err = link_send(peer->link, FRAME_PEER, &m->base, &buf, 1, LINK_COPY, NULL, NULL);
    return err == QE_IO ? QE_AGAIN : err;
}
