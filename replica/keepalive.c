#include "replica/keepalive.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/member.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/failpoint.h"
#include "store/base/log.h"

#define MS INT64_C(1000000)
static const int64_t AGAIN_NS = 300 * MS;        /* what has no answer, and somebody waits */
static const int64_t KEEP_AGAIN_NS = 1000 * MS;  /* what has no answer, and is only to be kept: a tenth of its TTL at most */
static const int64_t KEEP_NS = 100000 * MS;      /* a kept lease is renewed at least so often: then it needs no checkpoints (lessor.c) */
enum { SESSION_PARTS = 5, LEASE_PARTS = 3 };     /* of a TTL after which it is renewed */

/* ---- The table (under the lock) ------------------------------------------------------------------------------------------ */

static struct kept *find(const struct keepalive *k, uint64_t lease)
{
    struct kept *e;

    HASH_FIND(hh, k->kept, &lease, sizeof lease, e);
    return e;
}

/* It is asked about at once. */
static struct kept *find_or_add(struct keepalive *k, uint64_t lease)
{
    struct kept *e = find(k, lease);

    if (e) {
        heap_move(&k->heap, &e->node, 0);
        return e;
    }
    if (heap_reserve(&k->heap, HASH_COUNT(k->kept) + 1) || !(e = calloc(1, sizeof *e)))
        return NULL;
    e->lease = lease;
    HASH_ADD(hh, k->kept, lease, sizeof lease, e);
    if (!e->hh.tbl) {
        free(e);
        return NULL;
    }
    heap_push(&k->heap, &e->node, 0);
    return e;
}

static void drop_unless_wanted(struct keepalive *k, struct kept *e)
{
    if (e->keeps || e->renew.head || e->ask.head)
        return;
    HASH_DEL(k->kept, e);
    heap_remove(&k->heap, &e->node);
    free(e);
}

static struct kept *kept_of(struct heap_node *node)
{
    return (struct kept *)((char *)node - offsetof(struct kept, node));
}

/* ---- Requests ------------------------------------------------------------------------------------------------------------ */

/* Moves the requests of a list that a question covers - all: all of them - to those that are answered, with their answer. */
static void settle(struct submit_list *list, uint64_t id, bool all, int err, int64_t rev, struct submit_list *done)
{
    for (struct replica_request *req = list->head, *next; req; req = next) {
        next = req->priv.next;
        if (!all && (req->priv.seq == 0 || req->priv.seq > id))
            continue;
        submit_unlink(list, req);
        req->priv.state = err;
        req->priv.deadline_ns = rev;
        submit_push(done, req);
    }
}

static void settle_late(struct submit_list *list, int64_t now_ns, struct submit_list *done)
{
    for (struct replica_request *req = list->head, *next; req; req = next) {
        next = req->priv.next;
        if (req->priv.deadline_ns == 0 || req->priv.deadline_ns > now_ns)
            continue;
        submit_unlink(list, req);
        req->priv.state = QE_TIMEDOUT;
        req->priv.deadline_ns = 0;
        submit_push(done, req);
    }
}

/* Without the lock. */
static void tell(struct submit_list *done)
{
    struct replica_request *req;

    while ((req = done->head) != NULL) {
        submit_unlink(done, req);
        req->cb(req, req->priv.state, req->priv.deadline_ns, 0);
    }
}

static void request(struct replica *r, struct replica_request *req, uint64_t lease, bool renew)
{
    struct keepalive *k = &r->keepalive;
    struct kept *e = NULL;
    int err;

    memset(&req->priv, 0, sizeof req->priv);
    req->priv.submitted_ns = clock_boottime_ns();
    if (r->opt.timeout_ms > 0)
        req->priv.deadline_ns = req->priv.submitted_ns + r->opt.timeout_ms * MS;
    pthread_mutex_lock(&k->lock);
    err = k->refuse;
    if (!err && atomic_load(&r->submit.leaderless))
        err = QE_TIMEDOUT;
    if (!err && !(e = find_or_add(k, lease)))
        err = QE_NOMEM;
    if (e)
        submit_push(renew ? &e->renew : &e->ask, req);
    pthread_mutex_unlock(&k->lock);
    if (err)
        req->cb(req, err, 0, 0);
    else
        loop_wake(r);
}

void replica_lease_renew(struct replica *r, struct replica_request *req, uint64_t lease)
{
    request(r, req, lease, true);
}

void replica_lease_remaining(struct replica *r, struct replica_request *req, uint64_t lease)
{
    request(r, req, lease, false);
}

int replica_lease_keep(struct replica *r, uint64_t lease, bool on)
{
    struct keepalive *k = &r->keepalive;
    struct kept *e;

    pthread_mutex_lock(&k->lock);
    e = on ? find_or_add(k, lease) : find(k, lease);
    if (e && on) {
        e->keeps++;
    } else if (e && e->keeps > 0) {
        e->keeps--;
        drop_unless_wanted(k, e);
    }
    pthread_mutex_unlock(&k->lock);
    if (on && e)
        loop_wake(r);
    return on && !e ? QE_NOMEM : 0;
}

/* Answers all; later ones with `refuse`, if that is an error. */
static void end_all(struct replica *r, int err, int refuse)
{
    struct keepalive *k = &r->keepalive;
    struct submit_list done = {0};
    struct kept *e, *tmp;

    pthread_mutex_lock(&k->lock);
    k->refuse = refuse ? refuse : k->refuse;
    HASH_ITER(hh, k->kept, e, tmp) {
        settle(&e->renew, 0, true, err, 0, &done);
        settle(&e->ask, 0, true, err, 0, &done);
    }
    pthread_mutex_unlock(&k->lock);
    tell(&done);
}

void keepalive_refuse(struct replica *r, int err)
{
    end_all(r, err, err);
}

/* ---- The session --------------------------------------------------------------------------------------------------------- */

/* A member that is alone decides by itself what becomes of its session. Once over it stays over, even if an answer comes now. */
static bool is_over(struct replica *r, int64_t now_ns)
{
    struct keepalive *k = &r->keepalive;

    if (now_ns >= atomic_load(&k->until_ns) && !replica_alone(r))
        atomic_store(&k->late, true);
    return atomic_load(&k->late);
}

bool replica_session_holds(struct replica *r)
{
    return atomic_load(&r->keepalive.hold) == HOLD_KEPT && !is_over(r, clock_boottime_ns());
}

/* It counts from the moment at which it was asked for, if that is not too long ago: the leader counts from later on. */
void keepalive_session(struct replica *r, uint64_t session, int64_t asked_ns)
{
    struct keepalive *k = &r->keepalive;
    struct store_glance glance;
    int none = HOLD_NONE;

    store_glance(r->store, &glance);
    if (asked_ns + glance.session_ttl_ns > clock_boottime_ns()) {
        atomic_store(&k->until_ns, asked_ns + glance.session_ttl_ns);
        atomic_compare_exchange_strong(&k->hold, &none, HOLD_KEPT);
    }
    atomic_store(&k->session, session);
    loop_wake(r);
}

static void lapse_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct replica *r = req->data;

    (void)rev;
    (void)ino;
    atomic_store(&r->keepalive.lapsed_err, err);
    loop_wake(r);
}

static void submit_lapse(struct replica *r)
{
    struct keepalive *k = &r->keepalive;
    struct store_op op = {.kind = STORE_OP_LAPSE, .ino = atomic_load(&k->session)};
    struct store_command cmd = {.comm = "quorumfs", .ops = &op, .n_ops = 1};

    atomic_store(&k->lapsed_err, 1);
    k->lapse = (struct replica_request){.data = r, .cb = lapse_cb};
    submit_internal(r, &k->lapse, &cmd);
}

/* The command comes first, so that what is submitted by those who have heard of it is behind it. */
static void lapse(struct replica *r)
{
    atomic_store(&r->keepalive.hold, HOLD_LOST);
    log_info("replica", "this member's session %" PRIu64 " was not kept alive for session-ttl: whatever it held is lost",
             atomic_load(&r->keepalive.session));
    submit_lapse(r);
    if (r->opt.lapsed)
        r->opt.lapsed(r->opt.data);
}

static void come_back(struct replica *r, int64_t now_ns)
{
    struct keepalive *k = &r->keepalive;

    if (k->back_until_ns == 0 || atomic_load(&r->applier.applied) < k->back_index)
        return;
    if (k->back_until_ns > now_ns) {
        atomic_store(&k->until_ns, k->back_until_ns);
        atomic_store(&k->late, false);
        atomic_store(&k->hold, HOLD_KEPT);
    }
    k->back_until_ns = 0;
}

/* As long as one follows the other in time the leader ends nothing: what the first one says must be applied here. */
static void acknowledged_again(struct keepalive *k, int64_t until_ns, uint64_t index, int64_t now_ns)
{
    if (now_ns >= k->back_until_ns) {
        k->back_index = index;
        k->back_until_ns = until_ns;
    } else if (until_ns > k->back_until_ns) {
        k->back_until_ns = until_ns;
    }
}

static void watch(struct replica *r, int64_t now_ns)
{
    struct keepalive *k = &r->keepalive;

    switch (atomic_load(&k->hold)) {
    case HOLD_KEPT:
        if (is_over(r, now_ns))
            lapse(r);
        break;
    case HOLD_LOST:
        if (atomic_load(&k->lapsed_err) != 0)
            break;
        k->first_id = k->last_id + 1;
        k->back_until_ns = 0;
        k->hurry_ns = now_ns;
        atomic_store(&k->hold, HOLD_LAPSED);
        break;
    case HOLD_NONE:
    case HOLD_LAPSED:
        come_back(r, now_ns);
        break;
    }
}

static void session_answered(struct replica *r, const Qfs__KeepAliveAnswer *a, int64_t now_ns)
{
    struct keepalive *k = &r->keepalive;
    const struct keepalive_sent *sent = &k->sent[a->id % KEEPALIVE_SENT];
    int64_t until = sent->at_ns + sent->ttl_ns;

    watch(r, now_ns); /* an answer that comes too late changes nothing */
    if (sent->id != a->id)
        return;
    if (!a->session) {
        k->hurry_ns = now_ns + AGAIN_NS;
        return;
    }
    k->acked_ttl_ns = sent->ttl_ns;
    switch (atomic_load(&k->hold)) {
    case HOLD_KEPT:
        if (until > atomic_load(&k->until_ns))
            atomic_store(&k->until_ns, until);
        break;
    case HOLD_NONE:
    case HOLD_LAPSED:
        if (a->id >= k->first_id)
            acknowledged_again(k, until, a->applied, now_ns);
        come_back(r, now_ns);
        break;
    }
}

/* ---- Asking -------------------------------------------------------------------------------------------------------------- */

static int64_t again_ns(struct replica *r, const struct kept *e)
{
    const struct life *life = lessor_lease(&r->tenure.lessor, e->lease);

    if (e->renew.head || e->ask.head || !life)
        return AGAIN_NS;
    return life->ttl_ns / 10 < KEEP_AGAIN_NS ? life->ttl_ns / 10 : KEEP_AGAIN_NS;
}

static bool note(struct submit_list *list, uint64_t id)
{
    for (struct replica_request *req = list->tail; req && req->priv.seq == 0; req = req->priv.prev)
        req->priv.seq = id;
    return list->head != NULL;
}

/* Those whose time has come, in a question of this number. Those that nobody waits for any more go. */
static void gather(struct replica *r, Qfs__KeepAlive *m, int64_t now_ns, struct submit_list *done)
{
    struct keepalive *k = &r->keepalive;
    struct heap_node *first;

    m->renew = k->renew;
    m->ask = k->ask;
    while (m->n_renew + m->n_ask + 2 <= TENURE_IDS && (first = heap_first(&k->heap)) != NULL && first->key <= now_ns) {
        struct kept *e = kept_of(first);

        settle_late(&e->renew, now_ns, done);
        settle_late(&e->ask, now_ns, done);
        if (note(&e->renew, m->id) || e->keeps)
            m->renew[m->n_renew++] = e->lease;
        if (note(&e->ask, m->id))
            m->ask[m->n_ask++] = e->lease;
        heap_move(&k->heap, first, now_ns + again_ns(r, e));
        drop_unless_wanted(k, e);
    }
}

/* Tests: of one of several members in this process. */
static bool is_lost(struct replica *r)
{
#ifdef QFS_FAILPOINTS
    char name[40];

    snprintf(name, sizeof name, "replica.keepalive.lost.%" PRIu32, r->id.member_id);
    return FAILPOINT(name);
#else
    (void)r;
    return false;
#endif
}

static void send_question(struct replica *r, Qfs__KeepAlive *m, int64_t now_ns)
{
    struct keepalive *k = &r->keepalive;
    Qfs__PeerMessage out = QFS__PEER_MESSAGE__INIT;

    m->term = guard_term(&r->guard);
    m->session = atomic_load(&k->session);
    m->ttl_ns = (uint64_t)r->tenure.lessor.session_ttl_ns;
    m->applied = atomic_load(&r->applier.applying);
    k->last_id = m->id;
    k->asked_ns = now_ns;
    k->hurry_ns = 0;
    k->asked = r->submit.leader;
    k->sent[m->id % KEEPALIVE_SENT] = (struct keepalive_sent){m->id, now_ns, r->tenure.lessor.session_ttl_ns};
    if (rounds_lead(r)) {
        tenure_ask(r, r->id.member_id, m);
        return;
    }
    out.kind_case = QFS__PEER_MESSAGE__KIND_KEEP_ALIVE;
    out.keep_alive = m;
    if (is_lost(r) || member_send(r, r->submit.leader, &out, NULL, 0))
        k->hurry_ns = now_ns + AGAIN_NS;
}

/* When session-ttl is raised, what was acknowledged last still runs out after the shorter one, and the first question of the longer may be lost. */
static int64_t session_ttl(const struct replica *r)
{
    int64_t ttl = r->tenure.lessor.session_ttl_ns, acked = r->keepalive.acked_ttl_ns;

    return acked != 0 && acked < ttl ? acked : ttl;
}

static bool session_due(struct replica *r, int64_t now_ns)
{
    const struct keepalive *k = &r->keepalive;

    return atomic_load(&k->session) != 0 &&
           (k->asked != r->submit.leader || now_ns - k->asked_ns >= session_ttl(r) / SESSION_PARTS ||
            (k->hurry_ns != 0 && now_ns >= k->hurry_ns));
}

static void ask(struct replica *r, int64_t now_ns)
{
    struct keepalive *k = &r->keepalive;
    struct submit_list done = {0};
    bool due = session_due(r, now_ns), more = true;

    while (more) {
        Qfs__KeepAlive m = QFS__KEEP_ALIVE__INIT;

        m.id = k->last_id + 1;
        pthread_mutex_lock(&k->lock);
        gather(r, &m, now_ns, &done);
        pthread_mutex_unlock(&k->lock);
        more = m.n_renew + m.n_ask + 2 > TENURE_IDS;
        if (r->submit.leader != 0 && (due || m.n_renew + m.n_ask > 0))
            send_question(r, &m, now_ns);
        due = false;
    }
    tell(&done);
}

/* ---- Answers ------------------------------------------------------------------------------------------------------------- */

static void renewed(struct replica *r, uint64_t id, uint64_t lease, int64_t now_ns, struct submit_list *done)
{
    struct keepalive *k = &r->keepalive;
    const struct life *life = lessor_lease(&r->tenure.lessor, lease);
    struct kept *e = find(k, lease);
    int64_t next;

    if (!e)
        return;
    settle(&e->renew, id, false, 0, 0, done);
    next = life ? life->ttl_ns / LEASE_PARTS : AGAIN_NS;
    if (!e->renew.head && !e->ask.head)
        heap_move(&k->heap, &e->node, now_ns + (next < KEEP_NS ? next : KEEP_NS));
    drop_unless_wanted(k, e);
}

/* What is kept is given up when our own store has lost it, too: its end may be proposed, and come to nothing. */
static void gone(struct replica *r, uint64_t id, uint64_t lease, struct submit_list *done)
{
    struct keepalive *k = &r->keepalive;
    struct kept *e = find(k, lease);

    if (!e)
        return;
    settle(&e->renew, id, false, QE_NOENT, 0, done);
    settle(&e->ask, id, false, QE_NOENT, 0, done);
    if (!lessor_lease(&r->tenure.lessor, lease))
        e->keeps = 0;
    drop_unless_wanted(k, e);
}

static void told(struct replica *r, uint64_t id, uint64_t lease, uint64_t left_ns, struct submit_list *done)
{
    struct keepalive *k = &r->keepalive;
    struct kept *e = find(k, lease);

    if (!e)
        return;
    settle(&e->ask, id, false, 0, (int64_t)(left_ns & INT64_MAX), done);
    drop_unless_wanted(k, e);
}

void keepalive_answered(struct replica *r, const Qfs__KeepAliveAnswer *a)
{
    struct keepalive *k = &r->keepalive;
    struct submit_list done = {0};
    int64_t now = clock_boottime_ns();

    if (a->id > k->last_id)
        return; /* not a question of ours */
    if (a->id > k->answered_id)
        k->answered_id = a->id;
    session_answered(r, a, now);
    pthread_mutex_lock(&k->lock);
    for (size_t i = 0; i < a->n_renewed; i++)
        renewed(r, a->id, a->renewed[i], now, &done);
    for (size_t i = 0; i < a->n_gone; i++)
        gone(r, a->id, a->gone[i], &done);
    for (size_t i = 0; i < a->n_asked && i < a->n_left_ns; i++)
        told(r, a->id, a->asked[i], a->left_ns[i], &done);
    pthread_mutex_unlock(&k->lock);
    tell(&done);
}

bool keepalive_message(struct replica *r, uint32_t from, const Qfs__PeerMessage *m)
{
    switch (m->kind_case) {
    case QFS__PEER_MESSAGE__KIND_KEEP_ALIVE:
        if (FAILPOINT("replica.keepalive.mute"))
            return true;
        tenure_ask(r, from, m->keep_alive);
        barrier_step(r);
        return true;
    case QFS__PEER_MESSAGE__KIND_KEEP_ALIVE_ANSWER:
        keepalive_answered(r, m->keep_alive_answer);
        return true;
    default:
        return false;
    }
}

/* ---- What happens -------------------------------------------------------------------------------------------------------- */

static void session_gone(struct replica *r)
{
    struct keepalive *k = &r->keepalive;

    if (atomic_exchange(&k->hold, HOLD_LOST) == HOLD_LOST)
        return;
    atomic_store(&k->lapsed_err, QE_STALE); /* for good */
    if (r->opt.lapsed && !atomic_load(&r->stopping))
        r->opt.lapsed(r->opt.data);
}

void keepalive_news(struct replica *r, const struct store_life_event *e)
{
    struct keepalive *k = &r->keepalive;
    struct submit_list done = {0};
    struct kept *kept;

    if (e->kind == STORE_LIFE_SESSION_GONE && e->id == atomic_load(&k->session) && e->id != 0)
        session_gone(r);
    if (e->kind != STORE_LIFE_LEASE && e->kind != STORE_LIFE_LEASE_GONE)
        return;
    pthread_mutex_lock(&k->lock);
    kept = find(k, e->id);
    if (kept && e->kind == STORE_LIFE_LEASE) {
        heap_move(&k->heap, &kept->node, 0); /* its TTL may be a shorter one */
    } else if (kept) {
        settle(&kept->renew, 0, true, QE_NOENT, 0, &done);
        settle(&kept->ask, 0, true, QE_NOENT, 0, &done);
        kept->keeps = 0;
        drop_unless_wanted(k, kept);
    }
    pthread_mutex_unlock(&k->lock);
    tell(&done);
}

void keepalive_step(struct replica *r, int64_t now_ns)
{
    struct keepalive *k = &r->keepalive;

    watch(r, now_ns);
    if (r->submit.leader != 0 && k->last_id - k->answered_id < KEEPALIVE_QUESTIONS)
        ask(r, now_ns);
}

void keepalive_beat(struct replica *r, int64_t now_ns)
{
    struct keepalive *k = &r->keepalive;
    int err = atomic_load(&k->lapsed_err);

    if (atomic_load(&k->hold) == HOLD_LOST && (err == QE_DISKFULL || err == QE_NOMEM || err == QE_TIMEDOUT))
        submit_lapse(r);
    watch(r, now_ns);
    if (atomic_load(&r->submit.leaderless))
        end_all(r, QE_TIMEDOUT, 0);
    ask(r, now_ns);
}

/* ---- Life ---------------------------------------------------------------------------------------------------------------- */

int keepalive_open(struct replica *r)
{
    struct keepalive *k = &r->keepalive;

    k->last_id = k->answered_id = r->submit.nonce;
    k->renew = calloc(TENURE_IDS, sizeof *k->renew);
    k->ask = calloc(TENURE_IDS, sizeof *k->ask);
    return k->renew && k->ask ? 0 : QE_NOMEM;
}

void keepalive_fini(struct replica *r)
{
    struct keepalive *k = &r->keepalive;
    struct kept *e, *tmp;

    heap_fini(&k->heap); /* its nodes are part of the entries */
    HASH_ITER(hh, k->kept, e, tmp) {
        HASH_DEL(k->kept, e);
        free(e);
    }
    free(k->renew);
    free(k->ask);
    pthread_mutex_destroy(&k->lock);
}
