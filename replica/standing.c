#include "replica/standing.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "replica/member.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"

#define MS INT64_C(1000000)

void standing_init(struct replica *r)
{
    pthread_mutex_init(&r->standing.lock, NULL);
}

void standing_fini(struct replica *r)
{
    pthread_mutex_destroy(&r->standing.lock);
}

/* ---- Points -------------------------------------------------------------------------------------------------------------- */

static const struct standing_point *find_point(const struct standing_points *p, uint64_t index)
{
    for (unsigned i = 0; i < p->n; i++)
        if (p->list[i].index == index)
            return &p->list[i];
    return NULL;
}

static void add_point(struct standing_points *p, const struct standing_point *point)
{
    if (find_point(p, point->index))
        return;
    p->list[p->next] = *point;
    p->next = (p->next + 1) % STANDING_POINTS;
    if (p->n < STANDING_POINTS)
        p->n++;
}

void standing_point(struct replica *r, uint64_t index, int64_t rev, uint64_t hash)
{
    struct standing_point point = {index, rev, hash};

    pthread_mutex_lock(&r->standing.lock);
    add_point(&r->standing.own, &point);
    pthread_mutex_unlock(&r->standing.lock);
}

/* ---- Members (under the lock) -------------------------------------------------------------------------------------------- */

static struct standing_member *find(struct standing *s, uint32_t id)
{
    for (unsigned i = 0; i < s->n; i++)
        if (s->members[i].id == id)
            return &s->members[i];
    return NULL;
}

static struct standing_member *find_or_add(struct standing *s, uint32_t id)
{
    struct standing_member *m = find(s, id);

    if (m || s->n == GUARD_MEMBERS_MAX)
        return m;
    s->members[s->n] = (struct standing_member){.id = id, .role = -1};
    return &s->members[s->n++];
}

/* Who is not in the configuration any more is forgotten once it is silent. */
static void take_configuration(struct replica *r, int64_t now_ns)
{
    struct standing *s = &r->standing;
    struct guard_server servers[GUARD_MEMBERS_MAX];
    unsigned n = guard_configuration(&r->guard, servers), kept = 0;

    for (unsigned i = 0; i < s->n; i++)
        s->members[i].role = -1;
    for (unsigned i = 0; i < n; i++) {
        struct standing_member *m = find_or_add(s, servers[i].id);

        if (m) {
            m->role = servers[i].role;
            m->match = servers[i].match;
        }
    }
    for (unsigned i = 0; i < s->n; i++)
        if (s->members[i].role >= 0 || now_ns - s->members[i].heard_ns < STANDING_SILENT_MS * MS)
            s->members[kept++] = s->members[i];
    s->n = kept;
}

bool standing_get(struct replica *r, uint32_t id, struct standing_member *out)
{
    struct standing_member *m;

    pthread_mutex_lock(&r->standing.lock);
    m = find(&r->standing, id);
    if (m)
        *out = *m;
    pthread_mutex_unlock(&r->standing.lock);
    if (m && id == r->id.member_id) {
        out->applied = member_applied(r);
        out->heard_ns = clock_boottime_ns();
    }
    return m != NULL;
}

/* ---- Comparing ----------------------------------------------------------------------------------------------------------- */

enum verdict { AGREED, WE_ARE_ODD, UNDECIDED };

/* Whether a majority of the voters has one hash at an index, and if it is ours. */
static enum verdict judge(const struct replica *r, const struct standing_point *own)
{
    const struct standing *s = &r->standing;
    const struct standing_point *said[GUARD_MEMBERS_MAX];
    unsigned voters = 0, n = 0, most = 0;
    const struct standing_point *right = NULL;
    bool differ = false;

    for (unsigned i = 0; i < s->n; i++) {
        const struct standing_member *m = &s->members[i];
        const struct standing_point *p = m->id == r->id.member_id ? own : find_point(&m->points, own->index);

        differ = differ || (p && (p->hash != own->hash || p->rev != own->rev));
        if (m->role != RAFT_VOTER)
            continue;
        voters++;
        if (p)
            said[n++] = p;
    }
    if (!differ)
        return AGREED;
    for (unsigned i = 0; i < n; i++) {
        unsigned same = 0;

        for (unsigned k = 0; k < n; k++)
            same += said[k]->hash == said[i]->hash && said[k]->rev == said[i]->rev;
        if (same > most) {
            most = same;
            right = said[i];
        }
    }
    if (!right || most * 2 <= voters)
        return UNDECIDED;
    return right->hash == own->hash && right->rev == own->rev ? AGREED : WE_ARE_ODD;
}

/* Under the lock. Returns the index at which we are odd, 0: none. */
static uint64_t compare(struct replica *r)
{
    struct standing *s = &r->standing;
    uint64_t undecided = 0;

    for (unsigned i = 0; i < s->own.n; i++) {
        enum verdict v = judge(r, &s->own.list[i]);

        if (v == WE_ARE_ODD)
            return s->own.list[i].index;
        if (v == UNDECIDED)
            undecided = s->own.list[i].index;
    }
    if (undecided && !s->diverged[0]) {
        snprintf(s->diverged, sizeof s->diverged, "the members have different states at log index %" PRIu64 " and no majority has one: "
                 "nobody knows which is right", undecided);
        log_error("replica", "writes are refused: %s", s->diverged);
    } else if (!undecided && s->diverged[0]) {
        s->diverged[0] = 0;
        log_info("replica", "a majority of the members has one state again");
    }
    atomic_store(&s->refuse, undecided != 0);
    return 0;
}

static void stop_as_odd(struct replica *r, uint64_t index)
{
    member_fail(r, "the state of this member differs from that of the majority at log index %" PRIu64 ": it must not serve; remove this member "
                "and join it anew", index);
}

bool standing_message(struct replica *r, uint32_t from, const Qfs__PeerMessage *message)
{
    const Qfs__Standing *m = message->standing;
    struct standing *s = &r->standing;
    struct standing_member *member;
    uint64_t odd = 0;

    if (message->kind_case != QFS__PEER_MESSAGE__KIND_STANDING)
        return false;
    pthread_mutex_lock(&s->lock);
    member = find_or_add(s, from);
    if (member) {
        member->applied = m->applied;
        member->installing = m->installing;
        member->heard_ns = clock_boottime_ns();
        for (size_t i = 0; i < m->n_points && i < STANDING_POINTS; i++)
            add_point(&member->points, &(struct standing_point){m->points[i]->index, m->points[i]->rev, m->points[i]->hash});
        odd = compare(r);
    }
    pthread_mutex_unlock(&s->lock);
    if (odd)
        stop_as_odd(r, odd);
    return true;
}

/* ---- Telling ------------------------------------------------------------------------------------------------------------- */

static void tell(struct replica *r)
{
    Qfs__StatePoint points[STANDING_POINTS], *list[STANDING_POINTS];
    Qfs__Standing standing = QFS__STANDING__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;
    struct standing *s = &r->standing;
    uint32_t ids[GUARD_MEMBERS_MAX];
    unsigned n_ids = 0;

    standing.applied = member_applied(r);
    standing.installing = r->install.at != INSTALL_IDLE;
    standing.points = list;
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < s->own.n; i++) {
        const struct standing_point *p = &s->own.list[i];

        qfs__state_point__init(&points[i]);
        points[i].index = p->index;
        points[i].rev = p->rev;
        points[i].hash = p->hash;
        list[standing.n_points++] = &points[i];
    }
    for (unsigned i = 0; i < s->n; i++)
        if (s->members[i].id != r->id.member_id)
            ids[n_ids++] = s->members[i].id;
    pthread_mutex_unlock(&s->lock);
    m.kind_case = QFS__PEER_MESSAGE__KIND_STANDING;
    m.standing = &standing;
    for (unsigned i = 0; i < n_ids; i++)
        (void)member_send(r, ids[i], &m, NULL, 0); /* who is not connected hears the next one */
}

void standing_step(struct replica *r)
{
    struct standing *s = &r->standing;

    if (s->configuration == guard_configuration_index(&r->guard) + 1)
        return;
    s->configuration = guard_configuration_index(&r->guard) + 1; /* 0: never looked */
    pthread_mutex_lock(&s->lock);
    take_configuration(r, clock_boottime_ns());
    pthread_mutex_unlock(&s->lock);
}

void standing_tick(struct replica *r, int64_t now_ns)
{
    struct standing *s = &r->standing;
    uint64_t odd;

    if (now_ns - s->told_ns < STANDING_PERIOD_MS * MS)
        return;
    s->told_ns = now_ns;
    pthread_mutex_lock(&s->lock);
    take_configuration(r, now_ns);
    odd = compare(r); /* who counts may have changed */
    pthread_mutex_unlock(&s->lock);
    if (odd)
        stop_as_odd(r, odd);
    else
        tell(r);
}
