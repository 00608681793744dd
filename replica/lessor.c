#include "replica/lessor.h"

#include <assert.h>
#include <stdlib.h>

#include "store/base/err.h"

#define SEC INT64_C(1000000000)
static const int64_t LONG_NS = 300 * SEC;        /* leases of a longer TTL have checkpoints, */
static const int64_t POINTS_NS = 60 * SEC;       /* at most so often, */
static const int64_t DRIFT_NS = 300 * SEC;       /* when a new leader would give them so much more than they have left */
static const int64_t AGAIN_NS = SEC;             /* an end that could not be proposed */

/* ---- The table ----------------------------------------------------------------------------------------------------------- */

static struct life *find(const struct lessor *l, bool session, uint64_t id)
{
    struct life *life;

    HASH_FIND(hh, session ? l->sessions : l->leases, &id, sizeof id, life);
    return life;
}

size_t lessor_count(const struct lessor *l)
{
    return HASH_COUNT(l->leases) + HASH_COUNT(l->sessions);
}

static struct life *insert(struct lessor *l, bool session, uint64_t id)
{
    struct life *life = heap_reserve(&l->heap, lessor_count(l) + 1) ? NULL : calloc(1, sizeof *life);

    if (!life)
        return NULL;
    life->id = id;
    life->session = session;
    if (session)
        HASH_ADD(hh, l->sessions, id, sizeof id, life);
    else
        HASH_ADD(hh, l->leases, id, sizeof id, life);
    if (life->hh.tbl)
        return life;
    free(life);
    return NULL;
}

static void unwish(struct lessor *l, const struct life *life)
{
    struct life **at = &l->wishes;

    while (*at && *at != life)
        at = &(*at)->next_wish;
    if (*at)
        *at = life->next_wish;
}

static void erase(struct lessor *l, bool session, uint64_t id)
{
    struct life *life = find(l, session, id);

    if (!life)
        return;
    if (session)
        HASH_DEL(l->sessions, life);
    else
        HASH_DEL(l->leases, life);
    heap_remove(&l->heap, &life->node);
    if (life->wished)
        unwish(l, life);
    l->n_long -= !session && life->ttl_ns > LONG_NS;
    free(life);
}

static void free_all(struct life **table)
{
    struct life *life, *tmp;

    HASH_ITER(hh, *table, life, tmp) {
        HASH_DEL(*table, life);
        free(life);
    }
}

void lessor_forget(struct lessor *l)
{
    heap_clear(&l->heap);
    free_all(&l->leases);
    free_all(&l->sessions);
    l->wishes = NULL;
    l->n_long = l->n_points = 0;
}

void lessor_fini(struct lessor *l)
{
    lessor_forget(l);
    heap_fini(&l->heap);
}

const struct life *lessor_lease(const struct lessor *l, uint64_t id)
{
    return find(l, false, id);
}

/* ---- Deadlines ----------------------------------------------------------------------------------------------------------- */

/* A later deadline leaves the place in the heap as it is: lessor_due looks again when that has come. */
static void set_deadline(struct lessor *l, struct life *life, int64_t at_ns)
{
    life->deadline_ns = at_ns;
    if (life->under_way)
        return; /* lessor_over puts it back */
    if (life->node.place == 0)
        heap_push(&l->heap, &life->node, at_ns);
    else if (at_ns < life->node.key)
        heap_move(&l->heap, &life->node, at_ns);
}

/* What a new leader gives. */
static int64_t whole(const struct life *life)
{
    return life->left_ns ? life->left_ns : life->ttl_ns;
}

/* The leader waits a tenth longer than the member counts: no two clocks run so differently. */
static int64_t patience(const struct lessor *l, int64_t ttl_ns)
{
    if (ttl_ns < l->session_ttl_ns)
        ttl_ns = l->session_ttl_ns;
    return ttl_ns + ttl_ns / 10;
}

static int64_t longest_session_ttl(const struct lessor *l, int64_t now_ns)
{
    return now_ns < l->former_until_ns && l->former_ttl_ns > l->session_ttl_ns ? l->former_ttl_ns : l->session_ttl_ns;
}

/* ---- What the store tells ------------------------------------------------------------------------------------------------ */

static int take_lease(struct lessor *l, const struct store_life_event *e, int64_t now_ns)
{
    struct life *life = find(l, false, e->id);
    bool fresh = !life;

    if (fresh && !(life = insert(l, false, e->id)))
        return QE_NOMEM;
    if (!fresh)
        l->n_long -= life->ttl_ns > LONG_NS;
    l->n_long += e->ttl_ns > LONG_NS;
    life->ttl_ns = e->ttl_ns;
    life->left_ns = e->left_ns;
    if (l->counts && (fresh || e->renewed)) {
        life->ending = false; /* the store refuses an end that was decided on before */
        set_deadline(l, life, now_ns + life->ttl_ns);
    }
    return 0;
}

static int take_session(struct lessor *l, const struct store_life_event *e, int64_t now_ns)
{
    struct life *life = find(l, true, e->id);
    int64_t at = now_ns + patience(l, longest_session_ttl(l, now_ns));

    if (!life && !(life = insert(l, true, e->id)))
        return QE_NOMEM;
    life->member = e->member;
    if (l->counts && (life->node.place == 0 || at > life->deadline_ns))
        set_deadline(l, life, at);
    return 0;
}

int lessor_take(struct lessor *l, const struct store_life_event *e, int64_t now_ns)
{
    switch (e->kind) {
    case STORE_LIFE_LEASE: return take_lease(l, e, now_ns);
    case STORE_LIFE_SESSION: return take_session(l, e, now_ns);
    case STORE_LIFE_LEASE_GONE: erase(l, false, e->id); break;
    case STORE_LIFE_SESSION_GONE: erase(l, true, e->id); break;
    }
    return 0;
}

void lessor_set_session_ttl(struct lessor *l, int64_t ttl_ns, int64_t now_ns)
{
    if (ttl_ns < l->session_ttl_ns) {
        l->former_ttl_ns = longest_session_ttl(l, now_ns);
        l->former_until_ns = now_ns + l->former_ttl_ns + l->former_ttl_ns / 10;
    }
    l->session_ttl_ns = ttl_ns;
}

/* ---- Leading ------------------------------------------------------------------------------------------------------------- */

void lessor_begin(struct lessor *l, int64_t now_ns)
{
    struct life *life, *tmp;

    lessor_stop(l);
    l->counts = true;
    l->points_ns = now_ns;
    HASH_ITER(hh, l->leases, life, tmp)
        set_deadline(l, life, now_ns + whole(life));
    HASH_ITER(hh, l->sessions, life, tmp)
        set_deadline(l, life, now_ns + patience(l, longest_session_ttl(l, now_ns)));
}

static void stop_all(struct life *table)
{
    struct life *life, *tmp;

    HASH_ITER(hh, table, life, tmp)
        life->ending = life->under_way = life->pointed = life->wished = false;
}

void lessor_stop(struct lessor *l)
{
    heap_clear(&l->heap);
    l->counts = false;
    l->wishes = NULL;
    l->n_points = 0;
    stop_all(l->leases);
    stop_all(l->sessions);
}

enum lessor_verdict lessor_renew(struct lessor *l, uint64_t lease, int64_t now_ns)
{
    struct life *life = find(l, false, lease);

    assert(l->counts);
    if (!life || life->ending)
        return LESSOR_GONE;
    if (life->left_ns == 0 && !life->pointed) {
        set_deadline(l, life, now_ns + life->ttl_ns);
        return LESSOR_RENEWED;
    }
    if (!life->wished) {
        life->wished = true;
        life->next_wish = l->wishes;
        l->wishes = life;
    }
    return LESSOR_LATER;
}

bool lessor_session(struct lessor *l, uint64_t session, int64_t ttl_ns, int64_t now_ns)
{
    struct life *life = find(l, true, session);
    int64_t at = now_ns + patience(l, ttl_ns);

    assert(l->counts);
    if (!life || life->ending)
        return false;
    if (life->node.place == 0 || at > life->deadline_ns) /* with a shorter TTL the member still counts by the keepalive before */
        set_deadline(l, life, at);
    return true;
}

int64_t lessor_left(const struct lessor *l, uint64_t lease, int64_t now_ns)
{
    const struct life *life = find(l, false, lease);

    assert(l->counts);
    if (!life || life->ending)
        return -1;
    return life->deadline_ns > now_ns ? life->deadline_ns - now_ns : 0;
}

/* ---- Ends ---------------------------------------------------------------------------------------------------------------- */

static struct life *life_of(struct heap_node *node)
{
    return (struct life *)((char *)node - offsetof(struct life, node));
}

struct life *lessor_due(struct lessor *l, int64_t now_ns)
{
    struct heap_node *first;

    while ((first = heap_first(&l->heap)) != NULL && first->key <= now_ns) {
        struct life *life = life_of(first);

        if (life->ending || life->deadline_ns <= now_ns)
            return life;
        heap_move(&l->heap, first, life->deadline_ns);
    }
    return NULL;
}

void lessor_proposed(struct lessor *l, struct life *life)
{
    heap_remove(&l->heap, &life->node);
    life->ending = life->under_way = true;
}

void lessor_over(struct lessor *l, bool session, uint64_t id, enum lessor_end how, int64_t now_ns)
{
    struct life *life = find(l, session, id);

    if (!l->counts || !life || !life->under_way)
        return;
    life->under_way = false;
    if (session && how == LESSOR_ENDED) {
        life->ending = false; /* there is nothing left to lose; it is counted again when it is kept alive, */
        if (life->deadline_ns > now_ns)
            heap_push(&l->heap, &life->node, life->deadline_ns); /* or has asked for a lock since */
    } else if (life->ending)
        heap_push(&l->heap, &life->node, how == LESSOR_MORE ? now_ns : now_ns + AGAIN_NS);
    else
        heap_push(&l->heap, &life->node, life->deadline_ns); /* a new TTL came before its end */
}

/* ---- Checkpoints --------------------------------------------------------------------------------------------------------- */

static void point(struct lessor *l, struct life *life, int64_t left_ns)
{
    l->points[l->n_points++] = (struct lessor_point){life->id, left_ns};
    life->pointed = true;
}

static void point_wishes(struct lessor *l)
{
    while (l->wishes && l->n_points < LESSOR_POINTS) {
        struct life *life = l->wishes;

        l->wishes = life->next_wish;
        life->wished = false;
        if (life->left_ns != 0 && !life->ending)
            point(l, life, 0);
    }
}

/* Those that are renewed often never come here: what a new leader would give them is what they have. */
static void point_long(struct lessor *l, int64_t now_ns)
{
    struct life *life, *tmp;

    HASH_ITER(hh, l->leases, life, tmp) {
        int64_t left = life->deadline_ns - now_ns;

        if (l->n_points == LESSOR_POINTS)
            break;
        if (life->ttl_ns > LONG_NS && !life->ending && !life->pointed && !life->wished && left > 0 && whole(life) - left >= DRIFT_NS)
            point(l, life, left);
    }
}

size_t lessor_points(struct lessor *l, int64_t now_ns)
{
    if (!l->counts || l->n_points > 0)
        return 0;
    point_wishes(l);
    if (l->n_long > 0 && now_ns - l->points_ns >= POINTS_NS) {
        l->points_ns = now_ns;
        point_long(l, now_ns);
    }
    return l->n_points;
}

void lessor_points_over(struct lessor *l)
{
    for (size_t i = 0; i < l->n_points; i++) {
        struct life *life = find(l, false, l->points[i].id);

        if (life)
            life->pointed = false;
    }
    l->n_points = 0;
}
