/* propose: the leader's entries. All that wait - our own commands and those that other members sent - form one entry, fair by member,
 * and one entry is in flight: the next one forms meanwhile (group commit). Raft loop only. */
#include <stdlib.h>

#include "replica/member.h"
#include "store/base/clock.h"
#include "store/base/failpoint.h"

struct batch { /* an entry in the making */
    struct store_bytes cmds[MEMBER_BATCH_COMMANDS];
    size_t n, bytes;
    struct submit_list own;           /* taken from `waiting` */
    struct submit_list refused;       /* taken, and not to be proposed */
    struct inbox_command *taken;      /* of other members; owned */
    struct inbox_command *refused_of; /* of other members, not to be proposed; owned */
    bool closed;                      /* the next one needs an entry of its own */
};

static bool fits(const struct batch *b, size_t len, bool alone)
{
    return b->n == 0 || (b->bytes + len <= MEMBER_BATCH_BYTES && !alone);
}

static void add(struct batch *b, const void *data, size_t len, bool alone)
{
    b->cmds[b->n++] = (struct store_bytes){data, len};
    b->bytes += len;
    b->closed = b->closed || alone;
}

/* One command of our own, if any waits. The commands are copied into the entry under the lock, because whoever answers a request frees
 * its command. */
static bool take_own(struct replica *r, struct batch *b)
{
    struct submit *s = &r->submit;
    struct replica_request *req = s->waiting.head;
    int kind = SUBMIT_INTERNAL | SUBMIT_FINAL;

    if (!req)
        return false;
    if (!fits(b, req->priv.command.len, req->priv.state & SUBMIT_SESSION)) {
        b->closed = true;
        return false;
    }
    submit_take(s);
    if (!disk_admits(r, (req->priv.state & kind) == SUBMIT_INTERNAL)) { /* no ballast for the end of a session */
        submit_leave(s);
        submit_push(&b->refused, req);
        return true;
    }
    submit_push(&b->own, req);
    add(b, req->priv.command.data, req->priv.command.len, req->priv.state & SUBMIT_SESSION);
    return true;
}

static bool take_of(struct replica *r, struct batch *b, struct inbox *in)
{
    struct inbox_command *c = in->head;

    if (!c)
        return false;
    if (!fits(b, c->len, c->alone)) {
        b->closed = true;
        return false;
    }
    inbox_pop(in);
    if (!disk_admits(r, c->internal)) {
        c->next = b->refused_of;
        b->refused_of = c;
        return true;
    }
    c->next = b->taken;
    b->taken = c;
    add(b, c->bytes, c->len, c->alone);
    return true;
}

/* One command of each member in turn, so that nobody's flood starves the others. What does not fit begins the next entry. */
static void take_turns(struct replica *r, struct batch *b)
{
    struct inboxes *in = &r->submit.inboxes;
    unsigned idle = 0;

    while (idle <= in->n && !b->closed && b->n < MEMBER_BATCH_COMMANDS) {
        unsigned who = in->turn % (in->n + 1);
        bool took = who == 0 ? take_own(r, b) : take_of(r, b, &in->list[who - 1]);

        idle = took ? 0 : idle + 1;
        if (took || !b->closed)
            in->turn = (who + 1) % (in->n + 1);
    }
}

static int build(struct replica *r, struct batch *b, struct buf *entry)
{
    struct submit *s = &r->submit;
    struct replica_request *req;
    int err;

    if (b->n == 0)
        return QE_AGAIN;
    err = store_entry_build(r->id.cluster_id, guard_term(&r->guard), clock_realtime_ns(), b->cmds, b->n, entry);
    if (!err) {
        submit_note_proposed(s, &b->own);
        return 0;
    }
    while ((req = b->own.head) != NULL) { /* out of memory: these did not and will not take effect */
        submit_unlink(&b->own, req);
        submit_leave(s);
        submit_push(&b->refused, req);
    }
    for (struct inbox_command *c; (c = b->taken) != NULL;) {
        b->taken = c->next;
        c->next = b->refused_of;
        b->refused_of = c;
    }
    return err;
}

static void refuse(struct replica *r, struct batch *b, int err)
{
    while (b->refused.head) {
        struct replica_request *req = b->refused.head;

        submit_unlink(&b->refused, req);
        submit_end(r, req, submit_refusal(req, err));
    }
    for (struct inbox_command *c; (c = b->refused_of) != NULL;) {
        b->refused_of = c->next;
        forward_refuse(r, c, err);
        free(c);
    }
}

static void applied_cb(struct raft_apply *apply, int status, void *result)
{
    struct replica *r = apply->data;

    (void)result;
    if (status) { /* leadership lost: the entry may or may not be committed by another leader */
        submit_take_back(r, true);
        return;
    }
    pthread_mutex_lock(&r->submit.lock);
    r->submit.busy = false;
    pthread_mutex_unlock(&r->submit.lock);
    loop_publish(r);
    submit_pump(r);
}

/* Hands the entry to libraft, which takes its memory on success. False: it is not in the log. */
static bool propose(struct replica *r, struct buf *entry)
{
    struct raft_buffer payload;
    void *exact = realloc(entry->data, entry->len); /* it stays in libraft's log until a marker passes it */
    int rv;

    if (exact)
        entry->data = exact;
    payload = (struct raft_buffer){entry->data, entry->len};
    r->apply.data = r;
    rv = FAILPOINT("replica.propose") ? RAFT_NOTLEADER : raft_apply(&r->raft, &r->apply, &payload, 1, applied_cb);
    if (rv == 0) {
        *entry = (struct buf){0};
        return true;
    }
    if (rv != RAFT_NOTLEADER)
        member_fail(r, "cannot append to the log: %s", raft_strerror(rv));
    return false;
}

static void lead(struct replica *r)
{
    struct submit *s = &r->submit;
    struct batch b = {.n = 0};
    struct buf entry = {0};
    int err = QE_AGAIN;

    if (applier_full(r))
        return;
    pthread_mutex_lock(&s->lock);
    if (!s->busy) {
        take_turns(r, &b);
        err = build(r, &b, &entry);
        s->busy = err == 0;
    }
    pthread_mutex_unlock(&s->lock);
    if (err == 0 && !propose(r, &entry)) { /* a transfer of the leadership is under way, or it is gone: nothing of it is in the log */
        submit_take_back(r, false);
        forward_lose_all(r);
    }
    for (struct inbox_command *c; (c = b.taken) != NULL;) {
        b.taken = c->next;
        free(c);
    }
    refuse(r, &b, err == QE_NOMEM ? QE_NOMEM : QE_DISKFULL);
    buf_fini(&entry);
}

void submit_pump(struct replica *r)
{
    if (member_failed(r) || r->loop.stop_deadline_ns)
        return; /* libraft is closed between two writes: there must be an end to them */
    forward_aim(r);
    if (r->submit.leader == r->id.member_id && guard_transferring(&r->guard))
        return; /* all waits until it is known who leads next; the entry in flight is libraft's */
    if (r->submit.leader == r->id.member_id)
        lead(r);
    else if (r->submit.leader != 0)
        forward_pump(r);
}
