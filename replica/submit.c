#include "replica/submit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "replica/member.h"
#include "store/base/clock.h"
#include "store/base/failpoint.h"
#include "store/base/log.h"

enum { INTERNAL = 1, SESSION = 2, FINAL = 4 }; /* bits of priv.state */

/* ---- Lists --------------------------------------------------------------------------------------------------------------- */

static void list_push(struct submit_list *l, struct replica_request *req)
{
    req->priv.prev = l->tail;
    req->priv.next = NULL;
    if (l->tail)
        l->tail->priv.next = req;
    else
        l->head = req;
    l->tail = req;
}

static void list_unlink(struct submit_list *l, struct replica_request *req)
{
    if (req->priv.prev)
        req->priv.prev->priv.next = req->priv.next;
    else
        l->head = req->priv.next;
    if (req->priv.next)
        req->priv.next->priv.prev = req->priv.prev;
    else
        l->tail = req->priv.prev;
    req->priv.prev = req->priv.next = NULL;
}

/* Moves all of `from` behind `to`. */
static void list_join(struct submit_list *to, struct submit_list *from)
{
    if (!from->head)
        return;
    if (to->tail) {
        to->tail->priv.next = from->head;
        from->head->priv.prev = to->tail;
    } else {
        to->head = from->head;
    }
    to->tail = from->tail;
    *from = (struct submit_list){0};
}

void submit_init(struct replica *r)
{
    pthread_condattr_t attr;

    pthread_mutex_init(&r->submit.lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->submit.empty, &attr);
    pthread_condattr_destroy(&attr);
    r->submit.nonce = (uint64_t)clock_realtime_ns();
}

void submit_fini(struct replica *r)
{
    pthread_cond_destroy(&r->submit.empty);
    pthread_mutex_destroy(&r->submit.lock);
}

/* The caller may reuse or free the request in its callback: nothing is touched afterwards. */
static void answer(struct replica *r, struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    hist_add(&r->commit_time, clock_boottime_ns() - req->priv.submitted_ns);
    buf_fini(&req->priv.command);
    req->cb(req, err, rev, ino);
}

void submit_end(struct replica *r, struct replica_request *list, int err)
{
    while (list) {
        struct replica_request *next = list->priv.next;

        answer(r, list, err, 0, 0);
        list = next;
    }
}

/* One request less is unanswered; under the lock. */
static void leave(struct submit *s)
{
    if (--s->n_waiting == 0)
        pthread_cond_broadcast(&s->empty);
}

/* ---- Submitting (any thread) --------------------------------------------------------------------------------------------- */

/* Stamps, encodes and queues, under the lock, so that numbers are given out in the order of the queue. */
static int enqueue(struct replica *r, struct replica_request *req, const struct store_command *cmd)
{
    struct submit *s = &r->submit;
    struct store_command c = *cmd;
    const struct replica_request *oldest = s->proposed.head ? s->proposed.head : s->waiting.head;
    int err;

    if (s->refuse && !(s->refuse == QE_SHUTDOWN && req->priv.state & FINAL))
        return s->refuse;
    if (s->waiting_bytes > MEMBER_WAITING_BYTES)
        return QE_NOMEM;
    req->priv.seq = req->priv.state & SESSION ? s->nonce : s->next_seq + 1;
    c.session = req->priv.state & SESSION ? 0 : s->session;
    c.seq = req->priv.seq;
    c.acked = req->priv.state & SESSION ? 0 : (oldest ? oldest->priv.seq : c.seq) - 1;
    c.member = r->id.member_id;
    c.time_ns = clock_realtime_ns();
    err = store_command_encode(&c, &req->priv.command);
    if (err)
        return err;
    if (!(req->priv.state & SESSION))
        s->next_seq = c.seq;
    list_push(&s->waiting, req);
    s->waiting_bytes += req->priv.command.len;
    s->n_waiting++;
    return 0;
}

static void submit_state(struct replica *r, struct replica_request *req, const struct store_command *cmd, int state)
{
    struct submit *s = &r->submit;
    bool wake;
    int err;

    memset(&req->priv, 0, sizeof req->priv);
    req->priv.state = state;
    req->priv.submitted_ns = clock_boottime_ns();
    if (!(state & INTERNAL) && r->opt.timeout_ms > 0)
        req->priv.deadline_ns = req->priv.submitted_ns + (int64_t)r->opt.timeout_ms * 1000000;
    pthread_mutex_lock(&s->lock);
    err = enqueue(r, req, cmd);
    wake = !err && !s->busy;
    pthread_mutex_unlock(&s->lock);
    if (err)
        answer(r, req, err, 0, 0);
    else if (wake)
        loop_wake(r);
}

void submit_internal(struct replica *r, struct replica_request *req, const struct store_command *cmd)
{
    enum store_op_kind kind = cmd->ops[0].kind;

    submit_state(r, req, cmd, INTERNAL | (kind == STORE_OP_SESSION ? SESSION : kind == STORE_OP_SESSION_END ? FINAL : 0));
}

void replica_submit(struct replica *r, struct replica_request *req, const struct store_command *cmd)
{
    submit_state(r, req, cmd, 0);
}

int replica_writable(struct replica *r)
{
    if (member_failed(r))
        return QE_IO;
    if (atomic_load(&r->stopping))
        return QE_SHUTDOWN;
    if (atomic_load(&r->disk_full))
        return QE_DISKFULL;
    return atomic_load(&r->role) == RAFT_LEADER ? 0 : QE_TIMEDOUT;
}

/* ---- Proposing (raft loop) ----------------------------------------------------------------------------------------------- */

/* Takes from `waiting` what makes one entry. The commands are copied into it under the lock, because whoever answers a request
 * frees its command. QE_AGAIN: nothing to take. */
static int take_batch(struct replica *r, struct buf *entry, struct submit_list *refused)
{
    struct submit *s = &r->submit;
    struct store_bytes cmds[MEMBER_BATCH_COMMANDS];
    struct submit_list taken = {0};
    size_t n = 0, bytes = 0;
    struct replica_request *req;
    int err;

    while ((req = s->waiting.head) != NULL && n < MEMBER_BATCH_COMMANDS) {
        size_t len = req->priv.command.len;

        if (n > 0 && (bytes + len > MEMBER_BATCH_BYTES || req->priv.state & SESSION))
            break;
        list_unlink(&s->waiting, req);
        s->waiting_bytes -= len;
        if (!disk_admits(r, (req->priv.state & (INTERNAL | FINAL)) == INTERNAL)) { /* no ballast for the end of a session */
            leave(s);
            list_push(refused, req);
            continue;
        }
        list_push(&taken, req);
        cmds[n++] = (struct store_bytes){req->priv.command.data, len};
        bytes += len;
        if (req->priv.state & SESSION)
            break; /* it stands alone: the index of its entry is the session's id */
    }
    if (n == 0)
        return QE_AGAIN;
    err = store_entry_build(r->id.cluster_id, guard_term(&r->guard), clock_realtime_ns(), cmds, n, entry);
    if (!err) {
        list_join(&s->proposed, &taken);
        return 0;
    }
    while ((req = taken.head) != NULL) { /* out of memory: these did not and will not take effect */
        list_unlink(&taken, req);
        leave(s);
        list_push(refused, req);
    }
    return err;
}

/* What was proposed goes back in front of what waits, to be proposed again in the old order. */
static void take_back(struct replica *r)
{
    struct submit *s = &r->submit;

    pthread_mutex_lock(&s->lock);
    for (struct replica_request *q = s->proposed.head; q; q = q->priv.next)
        s->waiting_bytes += q->priv.command.len;
    list_join(&s->proposed, &s->waiting);
    s->waiting = s->proposed;
    s->proposed = (struct submit_list){0};
    s->busy = false;
    pthread_mutex_unlock(&s->lock);
}

static void applied_cb(struct raft_apply *apply, int status, void *result)
{
    struct replica *r = apply->data;

    (void)result;
    if (status) { /* leadership lost: the entry may or may not be committed by another leader */
        take_back(r);
        return;
    }
    pthread_mutex_lock(&r->submit.lock);
    r->submit.busy = false;
    pthread_mutex_unlock(&r->submit.lock);
    loop_publish(r);
    submit_pump(r);
}

/* Hands the entry to libraft, which takes its memory on success. */
static void propose(struct replica *r, struct buf *entry)
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
        return;
    }
    if (rv != RAFT_NOTLEADER)
        member_fail(r, "cannot append to the log: %s", raft_strerror(rv));
    take_back(r);
}

void submit_pump(struct replica *r)
{
    struct submit *s = &r->submit;
    struct submit_list refused = {0};
    struct buf entry = {0};
    int err = QE_AGAIN;

    if (member_failed(r) || raft_state(&r->raft) != RAFT_LEADER || applier_full(r))
        return;
    pthread_mutex_lock(&s->lock);
    if (!s->busy && s->waiting.head) {
        err = take_batch(r, &entry, &refused);
        s->busy = err == 0;
    }
    pthread_mutex_unlock(&s->lock);
    if (err == 0)
        propose(r, &entry);
    submit_end(r, refused.head, err == QE_NOMEM ? QE_NOMEM : QE_DISKFULL);
    buf_fini(&entry);
}

/* ---- Answering ----------------------------------------------------------------------------------------------------------- */

/* Results come in order, those of other members and of earlier runs among them. */
void submit_result(struct replica *r, const struct store_result *result)
{
    struct submit *s = &r->submit;
    struct replica_request *req;
    bool ours;

    pthread_mutex_lock(&s->lock);
    req = s->proposed.head;
    if (req && req->priv.state & SESSION) {
        ours = result->session == 0 && result->seq == req->priv.seq;
        if (ours && !result->err)
            s->session = result->ino;
    } else {
        ours = req && result->session == s->session && s->session != 0;
        while (ours && req && req->priv.seq < result->seq)
            req = req->priv.next;
        ours = ours && req && req->priv.seq == result->seq;
    }
    if (ours) {
        list_unlink(&s->proposed, req);
        leave(s);
    }
    pthread_mutex_unlock(&s->lock);
    if (ours)
        answer(r, req, result->err, result->rev, result->ino);
}

void submit_expire(struct replica *r, int64_t now_ns)
{
    struct submit *s = &r->submit;
    struct submit_list late = {0}, *lists[] = {&s->proposed, &s->waiting};

    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < 2; i++) {
        for (struct replica_request *req = lists[i]->head, *next; req; req = next) {
            next = req->priv.next;
            if (req->priv.deadline_ns == 0 || req->priv.deadline_ns > now_ns)
                continue;
            if (lists[i] == &s->waiting)
                s->waiting_bytes -= req->priv.command.len;
            list_unlink(lists[i], req);
            list_push(&late, req);
            leave(s);
        }
    }
    pthread_mutex_unlock(&s->lock);
    submit_end(r, late.head, QE_TIMEDOUT);
}

void submit_refuse(struct replica *r, int refuse, int err_waiting, int err_proposed)
{
    struct submit *s = &r->submit;
    struct submit_list waiting = {0}, proposed = {0};

    pthread_mutex_lock(&s->lock);
    s->refuse = refuse;
    if (err_waiting) {
        list_join(&waiting, &s->waiting);
        s->waiting_bytes = 0;
    }
    if (err_proposed)
        list_join(&proposed, &s->proposed);
    for (struct replica_request *q = waiting.head; q; q = q->priv.next)
        leave(s);
    for (struct replica_request *q = proposed.head; q; q = q->priv.next)
        leave(s);
    pthread_mutex_unlock(&s->lock);
    submit_end(r, proposed.head, err_proposed);
    submit_end(r, waiting.head, err_waiting);
}

bool submit_in_session(struct replica *r)
{
    bool open;

    pthread_mutex_lock(&r->submit.lock);
    open = r->submit.session != 0;
    pthread_mutex_unlock(&r->submit.lock);
    return open;
}

uint64_t submit_count(struct replica *r)
{
    uint64_t n;

    pthread_mutex_lock(&r->submit.lock);
    n = r->submit.n_waiting;
    pthread_mutex_unlock(&r->submit.lock);
    return n;
}

bool submit_drain(struct replica *r, int64_t until_ns)
{
    struct submit *s = &r->submit;
    int64_t left;
    bool empty;

    pthread_mutex_lock(&s->lock);
    while (s->n_waiting > 0 && (left = until_ns - clock_boottime_ns()) > 0) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        left += t.tv_nsec;
        t.tv_sec += left / 1000000000;
        t.tv_nsec = left % 1000000000;
        pthread_cond_timedwait(&s->empty, &s->lock, &t);
    }
    empty = s->n_waiting == 0;
    pthread_mutex_unlock(&s->lock);
    return empty;
}

/* ---- Waiting for an answer (start and stop) ------------------------------------------------------------------------------ */

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool is_done; /* under lock */
    int err;
    int64_t rev;
    uint64_t ino;
};

static void waiter_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct waiter *w = req->data;

    pthread_mutex_lock(&w->lock);
    w->err = err;
    w->rev = rev;
    w->ino = ino;
    w->is_done = true;
    pthread_cond_signal(&w->done);
    pthread_mutex_unlock(&w->lock);
}

int submit_wait(struct replica *r, const struct store_command *cmd, int64_t *rev, uint64_t *ino)
{
    struct waiter w = {.lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
    struct replica_request req = {.data = &w, .cb = waiter_cb};

    if (cmd)
        submit_internal(r, &req, cmd);
    else
        replica_barrier(r, &req);
    pthread_mutex_lock(&w.lock);
    while (!w.is_done)
        pthread_cond_wait(&w.done, &w.lock);
    pthread_mutex_unlock(&w.lock);
    if (rev)
        *rev = w.rev;
    if (ino)
        *ino = w.ino;
    pthread_mutex_destroy(&w.lock);
    pthread_cond_destroy(&w.done);
    return w.err;
}
