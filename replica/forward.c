/* forward: the way of commands from a member to the leader, and what the leader answers. Raft loop only.
 *
 * The good path, on the member: forward_pump takes what waits, in order, into frames of a stream {term, stream, position}; it is
 * `proposed` now. On the leader: the inbox takes each frame that continues the stream, propose.c puts its commands into an entry. Back
 * on the member: its own store applies the entry and answers the request; no message is needed for that.
 *
 * When it goes wrong:
 *   another leader or term, a new connection      a new stream, with everything unanswered first (the store knows repetitions)
 *   the leader misses a part, or gave up its inbox   ForwardRestart: a new stream at the next tick
 *   the leader's disk is full                     ForwardRefused: the request is answered, unless an earlier try may be in a log
 *   any message was lost, whatever the reason     nothing of ours was applied for a while: a new stream
 *   no leader                                     requests wait for their timeout; after an election timeout they are answered at once
 *
 * The window (SUBMIT_WINDOW_*) bounds what is sent and unanswered, and with it the leader's inbox. */
#include <inttypes.h>
#include <string.h>

#include "replica/member.h"
#include "replica/peer.h"
#include "store/base/clock.h"
#include "store/base/failpoint.h"
#include "store/base/log.h"

enum { SILENCE_ELECTIONS = 2 }; /* so many election timeouts without progress: something was lost */

/* ---- Aiming -------------------------------------------------------------------------------------------------------------- */

static uint32_t who_leads(struct replica *r)
{
    const char *address;
    raft_id id = 0;

    if (raft_state(&r->raft) == RAFT_LEADER)
        return r->id.member_id;
    raft_leader(&r->raft, &id, &address);
    return id == r->id.member_id ? 0 : (uint32_t)id;
}

/* An entry in flight is not disturbed: when leadership is lost, libraft ends it before anything else. */
void forward_aim(struct replica *r)
{
    struct submit *s = &r->submit;
    uint32_t leader = who_leads(r);
    uint64_t term = guard_term(&r->guard), inbox_term = leader == r->id.member_id ? term : 0;

    if (s->inboxes.term != inbox_term)
        inbox_reset(&s->inboxes, inbox_term);
    if (leader == s->leader && (term == s->term || leader == 0) && !s->broken)
        return;
    s->leader = leader;
    if (leader == 0)
        return; /* what is proposed may still be applied */
    s->term = term;
    s->stream++;
    s->position = 0;
    s->broken = false;
    submit_take_back(r, true);
    pthread_mutex_lock(&s->lock);
    s->progress_ns = clock_boottime_ns();
    pthread_mutex_unlock(&s->lock);
}

void forward_again(struct replica *r)
{
    if (r->submit.leader == r->id.member_id)
        return; /* what we lead is in our own log */
    r->submit.broken = true;
    submit_pump(r);
}

void forward_up(struct replica *r, uint32_t member)
{
    struct inboxes *in = &r->submit.inboxes;
    Qfs__ForwardRestart restart = QFS__FORWARD_RESTART__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;

    if (member == r->submit.leader)
        forward_again(r);
    for (unsigned i = 0; i < in->n; i++) { /* what we had to say to it, a refusal perhaps, may be lost */
        if (in->list[i].member != member || in->term == 0)
            continue;
        restart.term = in->term;
        restart.stream = in->list[i].stream;
        m.kind_case = QFS__PEER_MESSAGE__KIND_FORWARD_RESTART;
        m.forward_restart = &restart;
        member_send(r, member, &m, NULL, 0);
    }
}

/* Nothing heard, nothing applied: asking is cheap, since what has arrived is not applied twice. */
void forward_tick(struct replica *r, int64_t now_ns)
{
    struct submit *s = &r->submit;
    bool silent;

    if (s->leader == 0 || s->leader == r->id.member_id)
        return;
    pthread_mutex_lock(&s->lock);
    silent = s->proposed.head && now_ns - s->progress_ns > SILENCE_ELECTIONS * r->election_ns;
    pthread_mutex_unlock(&s->lock);
    s->broken = s->broken || silent;
}

/* ---- Sending ------------------------------------------------------------------------------------------------------------- */

struct frame_in_making {
    uint32_t len[MEMBER_BATCH_COMMANDS];
    size_t n;
    struct buf payload;
    struct submit_list taken;
};

static bool window_has_room(const struct submit *s, const struct frame_in_making *f, const struct replica_request *req)
{
    const struct replica_request *oldest = s->proposed.head ? s->proposed.head : f->taken.head;
    size_t sent = s->proposed_bytes + f->payload.len;

    if (!oldest)
        return true;
    return sent + req->priv.command.len <= SUBMIT_WINDOW_BYTES && req->priv.seq - oldest->priv.seq < SUBMIT_WINDOW_COMMANDS;
}

/* Takes what waits into one frame, at most as much as one entry holds. */
static int take_frame(struct submit *s, struct frame_in_making *f)
{
    struct replica_request *req;
    int err = 0;

    while (!err && (req = s->waiting.head) != NULL && f->n < MEMBER_BATCH_COMMANDS) {
        size_t len = req->priv.command.len;

        if (!window_has_room(s, f, req)) {
            s->shut = true;
            break;
        }
        if (f->n > 0 && f->payload.len + len > MEMBER_BATCH_BYTES)
            break;
        err = buf_append(&f->payload, req->priv.command.data, len);
        if (err)
            break;
        submit_take(s);
        submit_push(&f->taken, req);
        f->len[f->n++] = (uint32_t)len;
    }
    submit_note_proposed(s, &f->taken);
    return err;
}

static bool send_frame(struct replica *r, struct frame_in_making *f)
{
    struct submit *s = &r->submit;
    Qfs__Forward forward = QFS__FORWARD__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;

    forward.term = s->term;
    forward.stream = s->stream;
    forward.first = s->position;
    forward.n_len = f->n;
    forward.len = f->len;
    m.kind_case = QFS__PEER_MESSAGE__KIND_FORWARD;
    m.forward = &forward;
    s->position += f->n;
    if (FAILPOINT("replica.forward.lost"))
        return true;
    if (FAILPOINT("replica.forward.twice"))
        member_send(r, s->leader, &m, f->payload.data, f->payload.len);
    return member_send(r, s->leader, &m, f->payload.data, f->payload.len) == 0;
}

/* A frame that cannot be sent breaks the stream: the next tick, or the connection when it is there, begins another. */
void forward_pump(struct replica *r)
{
    struct submit *s = &r->submit;
    struct frame_in_making f = {.n = 0};
    bool more = !s->broken;
    int err = 0;

    while (more) {
        f.n = f.payload.len = 0;
        pthread_mutex_lock(&s->lock);
        s->shut = false;
        err = take_frame(s, &f);
        pthread_mutex_unlock(&s->lock);
        more = f.n > 0 && !err;
        s->broken = err != 0 || (f.n > 0 && !send_frame(r, &f));
        more = more && !s->broken;
    }
    buf_fini(&f.payload);
}

/* ---- Receiving ----------------------------------------------------------------------------------------------------------- */

static void say_restart(struct replica *r, uint32_t to, uint64_t term, uint64_t stream)
{
    Qfs__ForwardRestart restart = QFS__FORWARD_RESTART__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;

    if (FAILPOINT("replica.forward.mute"))
        return;
    restart.term = term;
    restart.stream = stream;
    m.kind_case = QFS__PEER_MESSAGE__KIND_FORWARD_RESTART;
    m.forward_restart = &restart;
    member_send(r, to, &m, NULL, 0); /* lost: the other side notices the silence */
}

static void on_forward(struct replica *r, uint32_t from, const Qfs__Forward *f, const uint8_t *payload, size_t len)
{
    switch (inbox_take(&r->submit.inboxes, from, f, payload, len)) {
    case INBOX_TAKEN:
        submit_pump(r);
        break;
    case INBOX_RESTART:
        say_restart(r, from, f->term, f->stream);
        break;
    case INBOX_MALFORMED:
        log_warn("replica", "member %" PRIu32 " sent commands that cannot be understood", from);
        break;
    case INBOX_OLD:
        break;
    }
}

static void on_refused(struct replica *r, const Qfs__ForwardRefused *f)
{
    struct submit *s = &r->submit;
    struct replica_request *req;

    if (f->term != s->term || f->stream != s->stream || s->broken)
        return;
    pthread_mutex_lock(&s->lock);
    for (req = s->proposed.head; req && req->priv.seq != f->seq; req = req->priv.next)
        ;
    if (req && req->priv.state & (SUBMIT_INTERNAL | SUBMIT_PATIENT) && req->priv.state & SUBMIT_SENT)
        req = NULL; /* the silence will have it sent again */
    if (req) {
        submit_unlink(&s->proposed, req);
        s->proposed_bytes -= req->priv.command.len;
        submit_leave(s);
    }
    pthread_mutex_unlock(&s->lock);
    if (req)
        submit_end(r, req, submit_refusal(req, f->disk_full ? QE_DISKFULL : QE_NOMEM));
    submit_pump(r);
}

bool forward_message(struct replica *r, uint32_t from, const Qfs__PeerMessage *m, const uint8_t *payload, size_t len)
{
    switch (m->kind_case) {
    case QFS__PEER_MESSAGE__KIND_FORWARD:
        on_forward(r, from, m->forward, payload, len);
        return true;
    case QFS__PEER_MESSAGE__KIND_FORWARD_REFUSED:
        if (from == r->submit.leader)
            on_refused(r, m->forward_refused);
        return true;
    case QFS__PEER_MESSAGE__KIND_FORWARD_RESTART: /* at the next tick, so that two who disagree do not spin */
        if (from == r->submit.leader && m->forward_restart->term == r->submit.term && m->forward_restart->stream == r->submit.stream)
            r->submit.broken = true;
        return true;
    default:
        return false;
    }
}

/* ---- For propose.c ------------------------------------------------------------------------------------------------------- */

static struct inbox *inbox_of(struct replica *r, uint32_t member)
{
    struct inboxes *in = &r->submit.inboxes;

    for (unsigned i = 0; i < in->n; i++)
        if (in->list[i].member == member)
            return &in->list[i];
    return NULL;
}

void forward_refuse(struct replica *r, const struct inbox_command *c, int err)
{
    const struct inbox *in = inbox_of(r, c->member);
    Qfs__ForwardRefused refused = QFS__FORWARD_REFUSED__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;

    if (!in)
        return;
    refused.term = r->submit.inboxes.term;
    refused.stream = in->stream;
    refused.seq = c->seq;
    refused.disk_full = err == QE_DISKFULL;
    m.kind_case = QFS__PEER_MESSAGE__KIND_FORWARD_REFUSED;
    m.forward_refused = &refused;
    member_send(r, c->member, &m, NULL, 0); /* lost with the connection: forward_up makes the member send again */
}

void forward_lose_all(struct replica *r)
{
    struct inboxes *in = &r->submit.inboxes;

    for (unsigned i = 0; i < in->n; i++) {
        inbox_lose(&in->list[i]);
        say_restart(r, in->list[i].member, in->term, in->list[i].stream);
    }
}
