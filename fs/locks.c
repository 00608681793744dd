/* The life of a lock:
 *
 *   ASKED    the command is on its way, without a deadline of replica's: its result will be known, so nothing is ever granted to nobody
 *     |  result QUEUED
 *   QUEUED   others are before it; for as long as it takes
 *     |  result 0, or event GRANTED
 *   GRANTED  held in the store; `done` is due, as soon as the session holds
 *   HELD     told
 *     |  the session lapsed (hook, or event LOST)
 *   LOST     `lost` is due, or was called
 *   FAILED   `done` is due, with an error
 *   TIMED    a RANGE of which `done` said that it took too long
 *
 * and from ASKED and QUEUED of a RANGE, by locks_leave, LEAVING: the command that withdraws what waits, and nothing else, is on its way. It is GRANTED
 * if that turns out, by whatever comes first, else it has FAILED with QE_INTR.
 *
 * and from any of these, by locks_drop, GIVING: the command that gives it back, or up, is on its way. It is sent again until the
 * store has it. Commands of one member take effect in order, so it comes after the one that asked.
 *
 * What a RANGE is granted takes the place of what its owner has of these bytes. So it is first withdrawn in case it waits, both by LEAVING and by GIVING;
 * only the store can tell, and does (BUSY). Then who leaves has it, and who drops it gives it back by one command more.
 *
 * Each asking has a number, `request`; who is queued anew gets a new one, and what is still said of the old one is not listened to.
 *
 * When the session lapses, the hook comes first: what was held is lost from there on. Then the store empties the queues, and says LOST
 * of each request: those that wait are asked for anew. What was asked for before the hook and has no answer yet is of the old life
 * or of the new one; LOST tells that, too. */
#include "fs/locks_parts.h"

#include <stdlib.h>
#include <string.h>

#include "fs/pending.h"
#include "fs/proc.h"
#include "store/base/clock.h"

enum { LOOK_AGAIN_MS = 50 };

static void list_take(struct lock *l)
{
    if (!l->list)
        return;
    if (l->next)
        l->next->prev = l->prev;
    if (l->prev)
        l->prev->next = l->next;
    else
        *l->list = l->next;
    l->prev = l->next = NULL;
    l->list = NULL;
}

static void list_put(struct lock *l, struct lock **list)
{
    if (l->list == list)
        return;
    list_take(l);
    l->list = list;
    l->next = *list;
    if (l->next)
        l->next->prev = l;
    *list = l;
}

struct lock *lock__find(struct lock_client *c, uint64_t request)
{
    struct lock *l;

    HASH_FIND(hh, c->by_request, &request, sizeof request, l);
    return l;
}

static void lock_unhash(struct lock *l)
{
    if (l->request)
        HASH_DEL(l->fs->lock_client->by_request, l);
    l->request = 0;
}

static void lock_free(struct lock *l)
{
    if (l->want.instead_of)
        lock_free(l->want.instead_of);
    list_take(l);
    lock_unhash(l);
    free((char *)l->want.name);
    free(l);
}

void lock__become(struct lock *l, enum lock_state state)
{
    struct lock_client *c = l->fs->lock_client;

    l->state = state;
    l->resend = false;
    if (state == LOCK_ASKED || state == LOCK_LEAVING || state == LOCK_GIVING)
        list_put(l, &c->moving);
    else if (state == LOCK_GRANTED || state == LOCK_FAILED || state == LOCK_LOST)
        list_put(l, &c->due);
    else
        list_take(l);
}

/* What it takes the place of: has gone in the store, or may still be there. */
static void lock_end_old(struct lock *l, bool give)
{
    struct lock *old = l->want.instead_of;

    l->want.instead_of = NULL;
    if (old && give)
        locks_drop(l->fs, old, NULL, NULL);
    else if (old)
        lock_free(old);
}

void lock__fail(struct lock *l, int err)
{
    lock_end_old(l, true);
    l->err = err;
    lock__become(l, LOCK_FAILED);
}

static int64_t deadline_of(const struct fs *fs)
{
    return fs->opt->timeout_ms > 0 ? clock_boottime_ns() + (int64_t)fs->opt->timeout_ms * 1000000 : 0;
}

/* ---- Telling ---- */

static void lock_give(struct lock *l);

static void tell_failed(struct lock *l)
{
    int err = l->err;
    bool kept = err == QE_TIMEDOUT && l->want.class == STORE_LOCK_RANGE;

    lock__become(l, LOCK_TIMED);
    l->calls.done(l->fs, l->data, err, 0);
    if (kept)
        return;
    if (err == QE_TIMEDOUT && l->request)
        lock_give(l); /* it may be granted yet, or be queued */
    else
        lock_free(l);
}

static void lock_settle(struct lock *l, int err)
{
    locks_settle_cb settle = l->settle;

    l->settle = NULL;
    if (settle)
        settle(l->fs, l->settle_data, err);
}

static void tell_granted(struct lock *l)
{
    if (!replica_session_holds(l->fs->replica)) { /* it will be LOST, and asked for anew; or the session is about to hold again */
        list_put(l, &l->fs->lock_client->moving);
        return;
    }
    if (l->want.class == STORE_LOCK_RANGE) { /* has no life of its own after it was granted */
        l->calls.done(l->fs, l->data, 0, l->token);
        lock_free(l);
        return;
    }
    lock__become(l, LOCK_HELD);
    l->calls.done(l->fs, l->data, 0, l->token);
}

static void tell_one(struct lock *l)
{
    list_take(l);
    if (l->state == LOCK_FAILED) {
        tell_failed(l);
    } else if (l->state == LOCK_GRANTED) {
        tell_granted(l);
    } else if (l->state == LOCK_GIVING) {
        lock_settle(l, l->err);
        if (l->in_store)
            list_put(l, &l->fs->lock_client->moving);
        else
            lock_free(l);
    } else if (l->calls.lost) {
        l->calls.lost(l->fs, l->data);
    }
}

void lock__run_due(struct fs *fs)
{
    struct lock_client *c = fs->lock_client;

    if (c->running || c->submitting || !fs->replica)
        return;
    c->running = true;
    while (c->due)
        tell_one(c->due);
    c->running = false;
}

/* ---- Commands ---- */

static void lock_answered(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data);
static void lock_left(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data);
static void lock_given(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data);

static void lock_submit(struct lock *l, const struct store_op *op, pending_settle_cb settle, void *data)
{
    const struct lock_want *w = &l->want;
    struct store_command cmd = {.ops = op, .n_ops = 1, .uid = w->uid, .gid = w->gid, .pid = w->pid, .comm = l->comm};
    const struct pending_call call = {.patient = true, .wake = true, .settle = settle, .data = data};
    bool *submitting = &l->fs->lock_client->submitting, outer = *submitting; /* out of memory, a conversion gives back within */

    *submitting = true;
    pending_submit(l->fs, &cmd, &call);
    *submitting = outer;
}

static struct store_op lock_op(const struct lock *l, enum store_op_kind kind)
{
    const struct lock_want *w = &l->want;

    return (struct store_op){.kind = kind, .ino = w->ino, .name = {w->name, w->name ? strlen(w->name) : 0}, .flags = (uint32_t)w->class,
                             .owner = w->owner, .request = l->request, .first = w->first, .last = w->last};
}

/* Of a RANGE that is asked for, what waits; of it and others, what they have. */
static void lock_send_unlock(struct lock *l)
{
    struct store_op op = lock_op(l, STORE_OP_UNLOCK);

    if (l->want.class == STORE_LOCK_RANGE && l->request && !l->was_granted)
        op.flags |= STORE_LOCK_WAITING;
    l->resend = false;
    if (l->state == LOCK_LEAVING)
        lock_submit(l, &op, lock_left, (void *)(uintptr_t)l->request);
    else
        lock_submit(l, &op, lock_given, l);
}

/* What an owner of ranges gave back, and what was refused, comes before what it asks for: it names bytes, not a request. */
static void resend_ranges(struct lock_client *c, const struct lock_want *w)
{
    for (struct lock *l = w->class == STORE_LOCK_RANGE ? c->moving : NULL, *next; l; l = next) {
        next = l->next;
        if (l->state == LOCK_GIVING && l->resend && l->want.class == w->class && l->want.ino == w->ino && l->want.owner == w->owner)
            lock_send_unlock(l);
    }
}

/* For the first time, or anew: then it is another request. */
void lock__ask(struct lock *l)
{
    struct lock_client *c = l->fs->lock_client;
    struct store_op op;

    resend_ranges(c, &l->want);
    lock_unhash(l);
    l->request = ++c->last_request;
    HASH_ADD(hh, c->by_request, request, sizeof l->request, l);
    l->token = 0;
    lock__become(l, LOCK_ASKED);
    op = lock_op(l, STORE_OP_LOCK);
    op.flags |= (l->want.exclusive ? STORE_LOCK_EXCLUSIVE : 0) | (l->want.wait ? 0 : STORE_LOCK_NOWAIT);
    lock_submit(l, &op, lock_answered, (void *)(uintptr_t)l->request);
}

void lock__grant(struct lock *l, int64_t token)
{
    if (l->state != LOCK_ASKED && l->state != LOCK_QUEUED && l->state != LOCK_LEAVING)
        return;
    l->token = token;
    lock_end_old(l, false);
    lock__become(l, LOCK_GRANTED);
}

/* From here on it waits without a quorum, too. */
static void lock_queue(struct lock *l)
{
    l->deadline_ns = 0;
    lock_end_old(l, false);
    lock__become(l, LOCK_QUEUED);
}

/* The result of asking. Its request may be over by now. */
static void lock_answered(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct lock *l = lock__find(fs->lock_client, (uint64_t)(uintptr_t)data);

    (void)req;
    (void)ino;
    if (!l)
        return;
    if (!err)
        lock__grant(l, rev);
    else if (err == QE_QUEUED && l->state == LOCK_ASKED)
        lock_queue(l);
    else if (err != QE_QUEUED && (l->state == LOCK_ASKED || l->state == LOCK_LEAVING))
        lock__fail(l, err);
    lock__run_due(fs);
}

/* Whether a command was refused before the store saw it: the tick sends it again. */
static bool was_refused(struct lock *l, int err)
{
    l->resend = err == QE_NOMEM || err == QE_DISKFULL || err == QE_IO || err == QE_AGAIN || l->fs->lock_client->submitting;
    return l->resend;
}

/* The store knows whether it waited still. Who was told meanwhile, by an event or a lapse, is not LEAVING any more. */
static void lock_left(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct lock *l = lock__find(fs->lock_client, (uint64_t)(uintptr_t)data);

    (void)req;
    (void)rev;
    (void)ino;
    if (!l || l->state != LOCK_LEAVING || was_refused(l, err))
        return;
    if (err == QE_BUSY)
        lock__grant(l, 0);
    else
        lock__fail(l, err ? err : QE_INTR);
    lock__run_due(fs);
}

/* The store has it; or this member stops, and what it held ends with its session. */
static void lock_given(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct lock *l = data;

    (void)fs;
    (void)req;
    (void)rev;
    (void)ino;
    if (was_refused(l, err))
        return;
    if (err == QE_BUSY) {
        l->was_granted = true;
        lock_send_unlock(l);
        return;
    }
    if (err && err != QE_NOLOCK && err != QE_TIMEDOUT && err != QE_SHUTDOWN)
        log_error("lock", "giving back a lock of inode %llu failed: %s", (unsigned long long)l->want.ino, qfs_strerror(err));
    lock_settle(l, err == QE_NOLOCK ? err : err ? QE_TIMEDOUT : l->was_granted ? QE_STALE : 0);
    lock_free(l);
}

static void lock_give(struct lock *l)
{
    l->deadline_ns = replica_writable(l->fs->replica) ? clock_boottime_ns() : deadline_of(l->fs);
    l->in_store = true;
    l->err = QE_TIMEDOUT;
    lock__become(l, LOCK_GIVING);
    lock_send_unlock(l);
}

/* ---- Asking and dropping ---- */

static struct lock *lock_new(struct fs *fs, const struct lock_want *want)
{
    struct lock *l = calloc(1, sizeof *l);
    char *name = want->name ? strdup(want->name) : NULL;

    if (!l || (want->name && !name)) {
        free(l);
        free(name);
        return NULL;
    }
    l->fs = fs;
    l->want = *want;
    l->want.name = name;
    if (want->instead_of)
        want->instead_of->calls.lost = NULL;
    return l;
}

struct lock *locks_ask(struct fs *fs, const struct lock_want *want, const struct lock_calls *calls, void *data)
{
    struct lock *l = lock_new(fs, want);
    int err = fs->replica ? replica_writable(fs->replica) : QE_SHUTDOWN;

    if (!l && want->instead_of)
        locks_drop(fs, want->instead_of, NULL, NULL);
    if (!l)
        return NULL;
    proc_comm(want->pid, l->comm);
    l->calls = *calls;
    l->data = data;
    l->deadline_ns = deadline_of(fs);
    if (err)
        lock__fail(l, err);
    else
        lock__ask(l);
    return l;
}

void locks_leave(struct lock *l)
{
    if (l->state != LOCK_ASKED && l->state != LOCK_QUEUED)
        return;
    l->deadline_ns = replica_writable(l->fs->replica) ? clock_boottime_ns() : deadline_of(l->fs);
    lock__become(l, LOCK_LEAVING);
    lock_send_unlock(l);
}

/* Whether the store may have something of it. */
static bool is_in_store(const struct lock *l)
{
    return l->request && l->state != LOCK_LOST && (l->state != LOCK_FAILED || l->err == QE_TIMEDOUT);
}

void locks_drop(struct fs *fs, struct lock *l, locks_settle_cb settle, void *data)
{
    lock_end_old(l, true);
    l->settle = settle;
    l->settle_data = data;
    if (fs->replica && is_in_store(l)) {
        lock_give(l);
    } else if (settle) { /* there is nothing to give back; at an end all is given back */
        l->err = 0;
        l->in_store = false;
        l->state = LOCK_GIVING;
        list_put(l, &fs->lock_client->due);
    } else {
        lock_free(l);
    }
}

int locks_unrange(struct fs *fs, uint64_t ino, uint64_t owner, int64_t first, int64_t last, locks_settle_cb settle, void *data)
{
    const struct lock_want want = {.class = STORE_LOCK_RANGE, .ino = ino, .owner = owner, .first = first, .last = last};
    struct lock *l;

    if (!fs->replica)
        return QE_SHUTDOWN;
    l = lock_new(fs, &want);
    if (!l)
        return QE_NOMEM;
    l->settle = settle;
    l->settle_data = data;
    lock_give(l);
    return 0;
}

void locks_forget(struct lock *l)
{
    lock_free(l);
}

bool locks_is_held(const struct lock *l)
{
    return l->state == LOCK_HELD && replica_session_holds(l->fs->replica);
}

bool locks_is_queued(const struct lock *l)
{
    return l->state == LOCK_QUEUED;
}

int64_t locks_token(const struct lock *l)
{
    return l->token;
}

void locks_set_watch(struct fs *fs, locks_watch_cb changed)
{
    fs->lock_client->watch = changed;
    atomic_store(&fs->lock_client->watched, changed != NULL);
}

void locks_set_lapse(struct fs *fs, locks_lapse_cb lapsed)
{
    fs->lock_client->lapse = lapsed;
}

/* ---- Time ---- */

static void tick_giving(struct lock *l, bool late)
{
    if (late && l->settle)
        list_put(l, &l->fs->lock_client->due);
}

static void tick_one(struct lock *l, int64_t now)
{
    bool late = l->deadline_ns && now >= l->deadline_ns;

    if (l->resend)
        lock_send_unlock(l);
    if (l->state == LOCK_GIVING)
        tick_giving(l, late);
    else if (late)
        lock__fail(l, QE_TIMEDOUT);
    else if (l->state == LOCK_GRANTED)
        list_put(l, &l->fs->lock_client->due);
}

int locks_tick(struct fs *fs)
{
    struct lock_client *c = fs->lock_client;
    int64_t now;

    if (!c->moving && !c->due)
        return -1;
    now = clock_boottime_ns();
    for (struct lock *l = c->moving, *next; l; l = next) {
        next = l->next;
        tick_one(l, now);
    }
    lock__run_due(fs);
    return c->due ? 0 : c->moving ? LOOK_AGAIN_MS : -1;
}

/* ---- Life ---- */

int locks_open(struct fs *fs)
{
    fs->lock_client = calloc(1, sizeof *fs->lock_client);
    if (!fs->lock_client)
        return QE_NOMEM;
    pthread_mutex_init(&fs->lock_client->lock, NULL);
    return 0;
}

void locks_close(struct fs *fs)
{
    struct lock_client *c = fs->lock_client;

    if (!c)
        return;
    while (c->moving || c->due || c->by_request) {
        struct lock *l = c->moving ? c->moving : c->due ? c->due : c->by_request;

        lock_settle(l, QE_TIMEDOUT);
        lock_free(l);
    }
    for (size_t i = 0; i < c->n_notes; i++)
        free(c->notes[i].name);
    free(c->notes);
    pthread_mutex_destroy(&c->lock);
    free(c);
    fs->lock_client = NULL;
}
