#include "replica/tenure.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "replica/member.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/failpoint.h"
#include "store/base/log.h"

#define MS INT64_C(1000000)
enum { TTL_MAX_S = 3600 }; /* of session-ttl */
#define TTL_MAX_NS (TTL_MAX_S * 1000 * MS)
static const int64_t STILL_NS = 1000 * MS;         /* a loop that did nothing for so long has messages to read first, */
static const int64_t LISTEN_NS = 500 * MS;         /* which it gets so much time for, */
static const int64_t LISTEN_AGAIN_NS = 10000 * MS; /* and not again before this has passed */
static const int64_t LATE_NS = 200 * MS;           /* what ends so late ends in large groups */

/* ---- The feed (store thread) --------------------------------------------------------------------------------------------- */

static int feed_add(struct feed *f, const struct store_life_event *e, size_t n)
{
    size_t cap = f->cap ? f->cap : 64;
    struct store_life_event *list = f->list;

    while (cap < f->n + n)
        cap *= 2;
    if (cap != f->cap)
        list = realloc(f->list, cap * sizeof *list);
    if (!list)
        return QE_NOMEM;
    f->list = list;
    f->cap = cap;
    memcpy(list + f->n, e, n * sizeof *e);
    f->n += n;
    return 0;
}

void tenure_feed(struct replica *r, const struct store_life_event *e, size_t n)
{
    struct feed *f = &r->tenure.feed;
    int err;

    pthread_mutex_lock(&f->lock);
    err = feed_add(f, e, n);
    pthread_mutex_unlock(&f->lock);
    if (err)
        member_fail(r, "out of memory: what became of leases is not known any more");
    loop_wake(r);
}

struct loading { /* all lives of a database */
    struct feed *feed;
    int err;
};

static bool load_lease(void *data, const struct store_lease *l)
{
    struct loading *in = data;
    struct store_life_event e = {.kind = STORE_LIFE_LEASE, .id = l->id, .ttl_ns = l->ttl_ns, .left_ns = l->left_ns};

    in->err = feed_add(in->feed, &e, 1);
    return !in->err;
}

static bool load_session(void *data, uint64_t id, uint32_t member)
{
    struct loading *in = data;
    struct store_life_event e = {.kind = STORE_LIFE_SESSION, .id = id, .member = member};

    in->err = feed_add(in->feed, &e, 1);
    return !in->err;
}

static int load(struct feed *f, struct store_reader *reader)
{
    struct loading in = {.feed = f};
    int err = store_read_begin(reader, NULL);

    if (err)
        return err;
    err = store_leases(reader, "", load_lease, &in);
    if (!err)
        err = store_sessions(reader, load_session, &in);
    store_read_end(reader);
    return err ? err : in.err;
}

void tenure_feed_anew(struct replica *r, struct store_reader *reader)
{
    struct feed *f = &r->tenure.feed, all = {0}, old;
    int err = load(&all, reader);

    pthread_mutex_lock(&f->lock);
    old = *f;
    f->list = all.list;
    f->n = all.n;
    f->cap = all.cap;
    f->anew = true;
    pthread_mutex_unlock(&f->lock);
    free(old.list);
    if (err)
        member_fail(r, "cannot read the leases of the database that was fetched: %s", qfs_strerror(err));
    loop_wake(r);
}

/* ---- The feed (raft loop) ------------------------------------------------------------------------------------------------ */

/* The two arrays change places, so that nothing is allocated in the long run. */
static size_t feed_take(struct feed *f, bool *anew)
{
    struct store_life_event *list;
    size_t n, cap;

    pthread_mutex_lock(&f->lock);
    list = f->list;
    cap = f->cap;
    n = f->n;
    *anew = f->anew;
    f->list = f->out;
    f->cap = f->out_cap;
    f->n = 0;
    f->anew = false;
    pthread_mutex_unlock(&f->lock);
    f->out = list;
    f->out_cap = cap;
    return n;
}

/* All entries up to the index that is looked at first have told what they did by then. */
static void take_news(struct replica *r, int64_t now_ns)
{
    struct tenure *t = &r->tenure;
    uint64_t applied = atomic_load(&r->applier.applied);
    struct store_glance glance;
    bool anew;
    size_t n = feed_take(&t->feed, &anew);
    int err = 0;

    store_glance(r->store, &glance);
    if (glance.session_ttl_ns != t->lessor.session_ttl_ns)
        lessor_set_session_ttl(&t->lessor, glance.session_ttl_ns, now_ns);
    if (anew)
        lessor_forget(&t->lessor);
    for (size_t i = 0; i < n && !err; i++) {
        err = lessor_take(&t->lessor, &t->feed.out[i], now_ns);
        keepalive_news(r, &t->feed.out[i]);
    }
    if (err)
        member_fail(r, "out of memory: what became of leases is not known any more");
    t->seen = applied;
}

int tenure_open(struct replica *r)
{
    struct store_reader *reader;
    int err = store_reader_open(r->store, &reader);

    if (err)
        return err;
    err = load(&r->tenure.feed, reader);
    store_reader_close(reader);
    return err;
}

void tenure_fini(struct replica *r)
{
    tenure_drop(r);
    lessor_fini(&r->tenure.lessor);
    free(r->tenure.feed.list);
    free(r->tenure.feed.out);
    pthread_mutex_destroy(&r->tenure.feed.lock);
}

/* ---- Keepalives ---------------------------------------------------------------------------------------------------------- */

void tenure_ask(struct replica *r, uint32_t from, const Qfs__KeepAlive *m)
{
    struct tenure *t = &r->tenure;
    struct tenure_ask *ask = &t->asks[t->n_asks];
    uint64_t *leases = NULL;

    rounds_renew(r);
    if (!rounds_lead(r) || t->n_asks == TENURE_ASKS || m->n_renew > TENURE_IDS || m->n_ask > TENURE_IDS - m->n_renew)
        return; /* it is asked again */
    if (m->n_renew + m->n_ask > 0 && !(leases = malloc((m->n_renew + m->n_ask) * sizeof *leases)))
        return;
    if (m->n_renew)
        memcpy(leases, m->renew, m->n_renew * sizeof *leases);
    if (m->n_ask)
        memcpy(leases + m->n_renew, m->ask, m->n_ask * sizeof *leases);
    *ask = (struct tenure_ask){.question = {.from = from, .vouched = m->term == guard_term(&r->guard)}, .id = m->id, .session = m->session,
                               .applied = m->applied, .ttl_ns = m->ttl_ns < TTL_MAX_NS ? (int64_t)m->ttl_ns : TTL_MAX_NS, .leases = leases, .n_renew = m->n_renew,
                               .n_ask = m->n_ask};
    t->n_asks++;
}

/* Of what the asker knows from an entry that is not applied here yet, nothing can be said. */
static bool is_gone(const struct tenure *t, const struct tenure_ask *ask, uint64_t lease)
{
    return lessor_lease(&t->lessor, lease) != NULL || t->seen >= ask->applied;
}

static void renew_leases(struct tenure *t, const struct tenure_ask *ask, Qfs__KeepAliveAnswer *a, int64_t now_ns)
{
    for (size_t i = 0; i < ask->n_renew; i++) {
        uint64_t lease = ask->leases[i];

        switch (lessor_renew(&t->lessor, lease, now_ns)) {
        case LESSOR_RENEWED:
            a->renewed[a->n_renewed++] = lease;
            break;
        case LESSOR_GONE:
            if (is_gone(t, ask, lease))
                a->gone[a->n_gone++] = lease;
            break;
        case LESSOR_LATER:
            break;
        }
    }
    atomic_fetch_add_explicit(&t->n_renewed, a->n_renewed, memory_order_relaxed);
}

static void tell_leases(struct tenure *t, const struct tenure_ask *ask, Qfs__KeepAliveAnswer *a, int64_t now_ns)
{
    for (size_t i = ask->n_renew; i < ask->n_renew + ask->n_ask; i++) {
        int64_t left = lessor_left(&t->lessor, ask->leases[i], now_ns);

        if (left >= 0) {
            a->asked[a->n_asked++] = ask->leases[i];
            a->left_ns[a->n_left_ns++] = (uint64_t)left;
        } else if (is_gone(t, ask, ask->leases[i])) {
            a->gone[a->n_gone++] = ask->leases[i];
        }
    }
}

static void answer(struct replica *r, const struct tenure_ask *ask)
{
    struct tenure *t = &r->tenure;
    Qfs__KeepAliveAnswer a = QFS__KEEP_ALIVE_ANSWER__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;
    int64_t now = clock_boottime_ns();

    a.id = ask->id;
    a.renewed = t->renewed;
    a.gone = t->gone;
    a.asked = t->asked;
    a.left_ns = t->left_ns;
    a.session = ask->session != 0 && lessor_session(&t->lessor, ask->session, ask->ttl_ns, now);
    a.applied = atomic_load(&r->applier.applying);
    renew_leases(t, ask, &a, now);
    tell_leases(t, ask, &a, now);
    if (ask->question.from == r->id.member_id) {
        keepalive_answered(r, &a);
        return;
    }
    m.kind_case = QFS__PEER_MESSAGE__KIND_KEEP_ALIVE_ANSWER;
    m.keep_alive_answer = &a;
    if (FAILPOINT("replica.keepalive.twice"))
        member_send(r, ask->question.from, &m, NULL, 0);
    member_send(r, ask->question.from, &m, NULL, 0); /* lost: it asks again */
}

bool tenure_has_questions(const struct replica *r)
{
    return r->tenure.n_asks > 0 && r->tenure.lessor.counts;
}

void tenure_confirm(struct replica *r)
{
    struct tenure *t = &r->tenure;
    bool promised = t->lessor.counts && t->n_asks > 0 && rounds_promised(r);
    unsigned kept = 0;

    for (unsigned i = 0; t->lessor.counts && i < t->n_asks; i++) {
        struct tenure_ask ask = t->asks[i];

        if (promised || rounds_confirmed(r, &ask.question)) {
            answer(r, &ask);
            free(ask.leases);
            continue;
        }
        rounds_wait(r, &ask.question);
        t->asks[kept++] = ask;
    }
    if (t->lessor.counts)
        t->n_asks = kept;
}

void tenure_join(struct replica *r, uint64_t round)
{
    struct tenure *t = &r->tenure;

    for (unsigned i = 0; t->lessor.counts && i < t->n_asks; i++)
        if (t->asks[i].question.round == 0)
            t->asks[i].question.round = round;
}

void tenure_drop(struct replica *r)
{
    struct tenure *t = &r->tenure;

    for (unsigned i = 0; i < t->n_asks; i++)
        free(t->asks[i].leases);
    t->n_asks = 0;
}

/* ---- Proposing ----------------------------------------------------------------------------------------------------------- */

static void end_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct tenure_end *end = req->data;
    struct replica *r = end->r;

    (void)rev;
    end->err = err;
    end->more = !end->session && ino != 0;
    atomic_store(&end->done, true); /* from here on it is the loop's */
    loop_wake(r);
}

static void propose(struct replica *r, struct tenure_end *end, struct store_op *op)
{
    struct store_command cmd = {.comm = "quorumfs", .ops = op, .n_ops = 1};

    op->rev = (int64_t)r->tenure.term;
    op->first = (int64_t)r->tenure.seen;
    end->r = r;
    end->used = true;
    r->tenure.n_under_way++;
    end->number = r->tenure.number;
    atomic_store(&end->done, false);
    end->req = (struct replica_request){.data = end, .cb = end_cb};
    submit_internal(r, &end->req, &cmd);
}

static struct tenure_end *free_end(struct tenure *t)
{
    for (unsigned i = 0; i < TENURE_ENDS; i++)
        if (!t->ends[i].used)
            return &t->ends[i];
    return NULL;
}

static bool is_any_under_way(const struct tenure *t)
{
    for (unsigned i = 0; i < TENURE_ENDS; i++)
        if (t->ends[i].used && t->ends[i].number == t->number)
            return true;
    return false;
}

static void propose_end(struct replica *r, struct tenure_end *end, struct life *life)
{
    struct store_op op = {.kind = life->session ? STORE_OP_LAPSE : STORE_OP_LEASE, .ino = life->id, .flags = life->session ? 0 : STORE_LEASE_EXPIRE};

    end->session = life->session;
    end->id = life->id;
    if (life->session)
        log_info("replica", "member %" PRIu32 " was not heard of for longer than session-ttl: whatever its session %" PRIu64 " holds is lost",
                 life->member, life->id);
    lessor_proposed(&r->tenure.lessor, life);
    propose(r, end, &op);
}

/* In groups, each of which is one entry: an entry costs everybody a write of the log and of the same pages of the database, one end little
 * more than nothing. The next group comes when the last one is applied, so that the writes of others take turns with small groups; larger
 * ones make up for lost time. */
static void propose_ends(struct replica *r, int64_t now_ns)
{
    struct tenure *t = &r->tenure;
    struct life *life = is_any_under_way(t) ? NULL : lessor_due(&t->lessor, now_ns);
    unsigned most = !life || now_ns - life->deadline_ns < LATE_NS ? TENURE_GROUP : TENURE_ENDS;
    struct tenure_end *end;

    for (unsigned n = 0; life && n < most && (end = free_end(t)) != NULL; n++) {
        propose_end(r, end, life);
        life = lessor_due(&t->lessor, now_ns);
    }
}

static void put64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static void propose_points(struct replica *r, int64_t now_ns)
{
    struct lessor *l = &r->tenure.lessor;
    struct store_op op = {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_CHECKPOINT};
    size_t n = r->tenure.points.used ? 0 : lessor_points(l, now_ns);
    uint8_t *bytes = n ? malloc(n * 16) : NULL;

    if (n == 0)
        return;
    if (!bytes) {
        lessor_points_over(l); /* nothing was said; those who wait ask again */
        return;
    }
    for (size_t i = 0; i < n; i++) {
        put64(bytes + 16 * i, l->points[i].id);
        put64(bytes + 16 * i + 8, (uint64_t)l->points[i].left_ns);
    }
    op.bytes = (struct store_bytes){bytes, n * 16};
    propose(r, &r->tenure.points, &op);
    free(bytes);
}

/* A session that the store does not know has nothing to lose. */
static enum lessor_end how_it_ended(const struct tenure_end *end)
{
    if (end->err && !(end->session && end->err == QE_NOENT))
        return LESSOR_FAILED;
    return end->more ? LESSOR_MORE : LESSOR_ENDED;
}

/* What has been answered; the store has told what came of it before. */
static void collect(struct replica *r, int64_t now_ns)
{
    struct tenure *t = &r->tenure;

    for (unsigned i = 0; i < TENURE_ENDS && t->n_under_way > 0; i++) {
        struct tenure_end *end = &t->ends[i];

        if (!end->used || !atomic_load(&end->done))
            continue;
        end->used = false;
        t->n_under_way--;
        if (!end->err && !end->more)
            atomic_fetch_add(end->session ? &t->n_lapsed : &t->n_expired, 1);
        if (end->number == t->number)
            lessor_over(&t->lessor, end->session, end->id, how_it_ended(end), now_ns);
    }
    if (!t->points.used || !atomic_load(&t->points.done))
        return;
    t->points.used = false;
    t->n_under_way--;
    if (t->points.number == t->number)
        lessor_points_over(&t->lessor);
}

/* ---- Terms --------------------------------------------------------------------------------------------------------------- */

/* A sole voter has committed all that it has. */
static bool settled(struct replica *r)
{
    raft_id voters[2];

    return guard_settled(&r->guard) || guard_voters(&r->guard, voters, 2) == 1;
}

/* Whatever earlier leaders committed is known once an entry of our own term is applied. */
static void look_at_term(struct replica *r, int64_t now_ns)
{
    struct tenure *t = &r->tenure;
    uint64_t term = guard_term(&r->guard);
    bool leads = rounds_lead(r);

    if (leads != t->leads || (leads && term != t->term)) {
        if (t->lessor.counts)
            lessor_stop(&t->lessor);
        t->leads = leads;
        t->term = term;
        t->settled = t->needed = 0;
        t->number++;
    }
    if (!leads || t->lessor.counts)
        return;
    if (t->settled == 0 && settled(r))
        t->settled = guard_commit(&r->guard);
    if (t->settled != 0 && t->needed == 0 && raft_last_applied(&r->raft) >= t->settled)
        t->needed = atomic_load(&r->applier.pushed); /* the last entry up to there that has commands, or a later one */
    if (t->needed != 0 && t->seen >= t->needed) {
        lessor_begin(&t->lessor, now_ns);
        log_info("replica", "counts leases and sessions term=%" PRIu64 " lives=%zu", t->term, lessor_count(&t->lessor));
    }
}

/* The loop did nothing for a while: keepalives have come in the meantime, and are read before anything is ended. Not again and again, for a
 * machine may be as slow as that for long. */
static bool stood_still(const struct tenure *t, int64_t now_ns)
{
    return t->beat_ns != 0 && now_ns - t->beat_ns > STILL_NS && now_ns - t->listens_ns > LISTEN_AGAIN_NS;
}

static bool is_listening(const struct tenure *t, int64_t now_ns)
{
    return now_ns < t->listens_ns || stood_still(t, now_ns);
}

void tenure_step(struct replica *r, int64_t now_ns)
{
    struct tenure *t = &r->tenure;

    take_news(r, now_ns);
    look_at_term(r, now_ns);
    collect(r, now_ns);
    if (!t->lessor.counts || is_listening(t, now_ns) || atomic_load(&r->stopping))
        return;
    propose_ends(r, now_ns);
    propose_points(r, now_ns);
}

void tenure_beat(struct replica *r, int64_t now_ns)
{
    struct tenure *t = &r->tenure;

    if (stood_still(t, now_ns))
        t->listens_ns = now_ns + LISTEN_NS;
    t->beat_ns = now_ns;
}
