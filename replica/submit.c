#include "replica/submit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "replica/frame.h"
#include "replica/member.h"
#include "store/base/clock.h"
#include "store/base/failpoint.h"
#include "store/base/log.h"

_Static_assert(SUBMIT_COMMAND_BYTES + 128 == FRAME_PAYLOAD_MAX, "a command must fit into a frame");

/* ---- Lists --------------------------------------------------------------------------------------------------------------- */

void submit_push(struct submit_list *l, struct replica_request *req)
{
    req->priv.prev = l->tail;
    req->priv.next = NULL;
    if (l->tail)
        l->tail->priv.next = req;
    else
        l->head = req;
    l->tail = req;
}

void submit_unlink(struct submit_list *l, struct replica_request *req)
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
}

void submit_number(struct replica *r, uint64_t incarnation, uint64_t run)
{
    uint64_t first = (incarnation & INT32_MAX) << 32 | (run & INT32_MAX) | 1; /* below 2^63; half of a start's numbers lie above it */

    r->submit.nonce = r->submit.stream = first;
}

void submit_fini(struct replica *r)
{
    inbox_reset(&r->submit.inboxes, 0);
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

void submit_leave(struct submit *s)
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

    if (s->refuse && !(s->refuse == QE_SHUTDOWN && req->priv.state & SUBMIT_FINAL))
        return s->refuse;
    if (!(req->priv.state & SUBMIT_INTERNAL) && atomic_load(&r->standing.refuse))
        return QE_IO; /* nobody knows whose state is right */
    if (s->session == 0 && !(req->priv.state & SUBMIT_SESSION))
        return QE_TIMEDOUT; /* it cannot be numbered: there was no quorum yet */
    if (!(req->priv.state & (SUBMIT_INTERNAL | SUBMIT_PATIENT)) && atomic_load(&s->leaderless))
        return QE_TIMEDOUT;
    if (s->waiting_bytes > MEMBER_WAITING_BYTES)
        return QE_NOMEM;
    req->priv.seq = req->priv.state & SUBMIT_SESSION ? s->nonce : s->next_seq + 1;
    c.session = req->priv.state & SUBMIT_SESSION ? 0 : s->session;
    c.seq = req->priv.seq;
    c.acked = req->priv.state & SUBMIT_SESSION ? 0 : (oldest ? oldest->priv.seq : c.seq) - 1;
    c.member = r->id.member_id;
    c.time_ns = clock_realtime_ns();
    err = store_command_encode(&c, &req->priv.command);
    if (!err && req->priv.command.len > SUBMIT_COMMAND_BYTES)
        err = QE_FBIG; /* it could not be sent, and nothing after it */
    if (err)
        return err;
    if (!(req->priv.state & SUBMIT_SESSION))
        s->next_seq = c.seq;
    submit_push(&s->waiting, req);
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
    if (!(state & (SUBMIT_INTERNAL | SUBMIT_PATIENT)) && r->opt.timeout_ms > 0)
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

    submit_state(r, req, cmd, SUBMIT_INTERNAL | (kind == STORE_OP_SESSION ? SUBMIT_SESSION : kind == STORE_OP_SESSION_END ? SUBMIT_FINAL : 0));
}

void replica_submit(struct replica *r, struct replica_request *req, const struct store_command *cmd)
{
    submit_state(r, req, cmd, 0);
}

void replica_submit_patiently(struct replica *r, struct replica_request *req, const struct store_command *cmd)
{
    submit_state(r, req, cmd, SUBMIT_PATIENT);
}

/* Another leader's disk is not known here: it will say so itself. */
int replica_writable(struct replica *r)
{
    bool leads = atomic_load(&r->role) == RAFT_LEADER;

    if (member_failed(r) || atomic_load(&r->standing.refuse))
        return QE_IO;
    if (atomic_load(&r->stopping))
        return QE_SHUTDOWN;
    if (leads && atomic_load(&r->disk_full))
        return QE_DISKFULL;
    return atomic_load(&r->submit.leaderless) || !submit_in_session(r) ? QE_TIMEDOUT : 0;
}

/* The new nonce counts for the next SESSION only: the streams and questions that began above the old one go on. */
void submit_raise_nonce(struct replica *r, uint64_t above)
{
    pthread_mutex_lock(&r->submit.lock);
    if (r->submit.nonce <= above)
        r->submit.nonce = above + 1;
    pthread_mutex_unlock(&r->submit.lock);
}

/* ---- Between the lists (raft loop) --------------------------------------------------------------------------------------- */

struct replica_request *submit_take(struct submit *s)
{
    struct replica_request *req = s->waiting.head;

    if (!req)
        return NULL;
    submit_unlink(&s->waiting, req);
    s->waiting_bytes -= req->priv.command.len;
    return req;
}

void submit_note_proposed(struct submit *s, struct submit_list *taken)
{
    for (const struct replica_request *q = taken->head; q; q = q->priv.next)
        s->proposed_bytes += q->priv.command.len;
    list_join(&s->proposed, taken);
}

void submit_take_back(struct replica *r, bool sent)
{
    struct submit *s = &r->submit;

    pthread_mutex_lock(&s->lock);
    for (struct replica_request *q = s->proposed.head; sent && q; q = q->priv.next)
        q->priv.state |= SUBMIT_SENT;
    s->waiting_bytes += s->proposed_bytes;
    s->proposed_bytes = 0;
    list_join(&s->proposed, &s->waiting);
    s->waiting = s->proposed;
    s->proposed = (struct submit_list){0};
    s->busy = false;
    pthread_mutex_unlock(&s->lock);
}

int submit_refusal(const struct replica_request *req, int err)
{
    return req->priv.state & SUBMIT_SENT ? QE_TIMEDOUT : err;
}

/* ---- Answering ----------------------------------------------------------------------------------------------------------- */

/* Whether this is what the first unanswered request waits for, or a later one. */
static bool matches(const struct submit *s, const struct replica_request *req, const struct store_result *result)
{
    if (req->priv.state & SUBMIT_SESSION)
        return result->session == 0 && result->seq == s->nonce;
    return result->session == s->session && s->session != 0 && req->priv.seq == result->seq;
}

/* A request that is to be sent again may be applied by what was sent before, so both lists are looked through. Both are in order. */
static struct replica_request *find(struct submit *s, const struct store_result *result, struct submit_list **where)
{
    struct submit_list *lists[] = {&s->proposed, &s->waiting};

    if (result->session != 0 && result->session != s->session)
        return NULL;
    for (int i = 0; i < 2; i++) {
        *where = lists[i];
        for (struct replica_request *req = lists[i]->head; req; req = req->priv.next) {
            if (matches(s, req, result))
                return req;
            if (!(req->priv.state & SUBMIT_SESSION) && req->priv.seq > result->seq)
                return NULL;
        }
    }
    return NULL;
}

static void unlink_from(struct submit *s, struct submit_list *list, struct replica_request *req)
{
    submit_unlink(list, req);
    *(list == &s->waiting ? &s->waiting_bytes : &s->proposed_bytes) -= req->priv.command.len;
    submit_leave(s);
}

/* Results come in order, those of other members and of earlier runs among them. */
void submit_result(struct replica *r, const struct store_result *result)
{
    struct submit *s = &r->submit;
    struct submit_list *where;
    struct replica_request *req;
    bool wake = false;

    pthread_mutex_lock(&s->lock);
    req = find(s, result, &where);
    if (req) {
        if (req->priv.state & SUBMIT_SESSION && !result->err)
            s->session = result->ino;
        unlink_from(s, where, req);
        s->progress_ns = clock_boottime_ns();
        wake = s->shut && s->waiting.head;
        s->shut = s->shut && !wake;
    }
    pthread_mutex_unlock(&s->lock);
    if (req)
        answer(r, req, result->err, result->rev, result->ino);
    if (wake)
        loop_wake(r);
}

void submit_expire(struct replica *r, int64_t now_ns, bool all)
{
    struct submit *s = &r->submit;
    struct submit_list late = {0}, *lists[] = {&s->proposed, &s->waiting};

    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < 2; i++) {
        for (struct replica_request *req = lists[i]->head, *next; req; req = next) {
            bool over = req->priv.deadline_ns != 0 && req->priv.deadline_ns <= now_ns;

            next = req->priv.next;
            if (!over && (!all || req->priv.state & (SUBMIT_INTERNAL | SUBMIT_PATIENT)))
                continue;
            unlink_from(s, lists[i], req);
            submit_push(&late, req);
        }
    }
    pthread_mutex_unlock(&s->lock);
    submit_end(r, late.head, QE_TIMEDOUT);
}

/* Answers with `err`, but what may be in a log with QE_TIMEDOUT. */
static void end_refused(struct replica *r, struct replica_request *list, int err)
{
    while (list) {
        struct replica_request *next = list->priv.next;

        answer(r, list, submit_refusal(list, err), 0, 0);
        list = next;
    }
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
    if (err_proposed) {
        list_join(&proposed, &s->proposed);
        s->proposed_bytes = 0;
    }
    for (struct replica_request *q = waiting.head; q; q = q->priv.next)
        submit_leave(s);
    for (struct replica_request *q = proposed.head; q; q = q->priv.next)
        submit_leave(s);
    pthread_mutex_unlock(&s->lock);
    submit_end(r, proposed.head, err_proposed);
    end_refused(r, waiting.head, err_waiting);
}

uint64_t replica_session(struct replica *r)
{
    uint64_t session;

    pthread_mutex_lock(&r->submit.lock);
    session = r->submit.session;
    pthread_mutex_unlock(&r->submit.lock);
    return session;
}

bool submit_in_session(struct replica *r)
{
    return replica_session(r) != 0;
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
