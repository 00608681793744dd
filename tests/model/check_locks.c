/* Random commands to the store's locks and to a plain model of them: every byte of a short range by itself, every two locks compared, every circle
 * looked for. After each command all that is held and waited for is compared, and who was told of it.
 *
 *     check_locks [COMMANDS [SEED]]       environment: MODEL_SEED */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/base/err.h"
#include "tests/model/pair.h"

enum { BYTES = 10, LOCKS = 2000, PEOPLE = 3, OWNERS = 3, THINGS = 6 };

/* The last byte of a range stands for all behind it. */
static const struct thing { enum store_lock_class class; uint64_t ino; const char *name; } things[THINGS] = {
    {STORE_LOCK_NAMED, 0, "a"}, {STORE_LOCK_NAMED, 0, "b"}, {STORE_LOCK_WHOLE, 44, ""},
    {STORE_LOCK_RANGE, 44, ""}, {STORE_LOCK_RANGE, 48, ""}, {STORE_LOCK_RANGE, 52, ""}};

struct claim {
    int thing, first, last; /* held: one byte */
    uint64_t session, owner, request;
    bool exclusive;
    int64_t token;          /* 0: it waits */
};

static struct {
    struct claim list[LOCKS]; /* in order of arrival */
    int n;
    int64_t rev;
    int granted;              /* who waited and got it, in the command under way */
} m;
static struct pair p;
static struct { uint64_t session, seq, nonce, requests; } people[PEOPLE];
static int64_t answers[32];

/* ---- The model ----------------------------------------------------------------------------------------------------------- */

static bool same(const struct claim *a, const struct claim *b)
{
    return a->session == b->session && a->owner == b->owner;
}

static bool conflict(const struct claim *a, const struct claim *b)
{
    return a->thing == b->thing && a->first <= b->last && b->first <= a->last && !same(a, b) && (a->exclusive || b->exclusive);
}

static void forget(int i)
{
    memmove(&m.list[i], &m.list[i + 1], (size_t)(m.n - i - 1) * sizeof *m.list);
    m.n--;
}

static void append(struct claim c)
{
    if (m.n == LOCKS)
        PAIR_FAIL(&p, "the model is full");
    m.list[m.n++] = c;
}

/* Claims in the way of one that is `i`th in the order of arrival. */
static bool in_the_way(int o, const struct claim *c, int i)
{
    bool holds = false;

    for (int k = 0; k < m.n; k++)
        holds |= m.list[k].token && m.list[k].thing == c->thing && same(&m.list[k], c);
    return conflict(&m.list[o], c) && (m.list[o].token || (o < i && !holds));
}

static bool may_have(const struct claim *c, int i)
{
    for (int o = 0; o < m.n; o++)
        if (in_the_way(o, c, i))
            return false;
    return true;
}

static void release(const struct claim *what)
{
    for (int i = m.n - 1; i >= 0; i--)
        if (m.list[i].token && m.list[i].thing == what->thing && same(&m.list[i], what) && m.list[i].first >= what->first && m.list[i].first <= what->last)
            forget(i);
}

static void hold(struct claim c)
{
    release(&c);
    c.token = m.rev;
    for (int b = c.first, last = c.last; b <= last; b++) {
        c.first = c.last = b;
        append(c);
    }
}

/* `m.rev` is what the command takes if it gives something to somebody. */
static void hand_over(void)
{
    for (int i = 0; i < m.n; i++) {
        struct claim c = m.list[i];

        if (c.token || !may_have(&c, i))
            continue;
        forget(i);
        hold(c);
        m.granted++;
        i = -1;
    }
}

/* Does a way of waiting lead from what is in the way of `c` to its owner? */
static bool circle(const struct claim *c, int i, bool *seen)
{
    for (int o = 0; o < m.n; o++) {
        if (seen[o] || !in_the_way(o, c, i))
            continue;
        seen[o] = true;
        if (m.list[o].session == m.list[m.n - 1].session && m.list[o].owner == m.list[m.n - 1].owner)
            return true;
        for (int w = 0; w < m.n - 1; w++)
            if (!m.list[w].token && same(&m.list[w], &m.list[o]) && things[m.list[w].thing].class == STORE_LOCK_RANGE && circle(&m.list[w], w, seen))
                return true;
    }
    return false;
}

static int ask(struct claim c, bool nowait, int64_t *token)
{
    bool seen[LOCKS] = {false};
    int had = -1;

    for (int i = 0; i < m.n && things[c.thing].class != STORE_LOCK_RANGE; i++)
        if (m.list[i].token && m.list[i].thing == c.thing && same(&m.list[i], &c))
            had = i;
    if (had >= 0 && m.list[had].exclusive == c.exclusive) {
        m.list[had].request = c.request;
        *token = m.list[had].token;
        return 0;
    }
    if (had >= 0) {
        forget(had);
        hand_over();
    }
    append(c);
    if (may_have(&c, m.n - 1)) {
        m.n--;
        hold(c);
        *token = m.rev;
        hand_over();
        return 0;
    }
    if (!nowait && (things[c.thing].class != STORE_LOCK_RANGE || !circle(&c, m.n - 1, seen)))
        return QE_QUEUED;
    m.n--;
    return nowait ? QE_WOULDBLOCK : QE_DEADLOCK;
}

static int give_back(const struct claim *what, bool waiting)
{
    if (what->request == 0)
        release(what);
    for (int i = m.n - 1; what->request && i >= 0; i--) {
        if (m.list[i].thing != what->thing || m.list[i].session != what->session || m.list[i].request != what->request)
            continue;
        if (waiting && m.list[i].token)
            return QE_BUSY;
        forget(i);
    }
    hand_over();
    return 0;
}

static void end(uint64_t session)
{
    for (int i = m.n - 1; i >= 0; i--)
        if (m.list[i].session == session)
            forget(i);
    hand_over();
}

/* ---- Comparing ----------------------------------------------------------------------------------------------------------- */

struct seen {
    int held, waiting;
    int last_waiter[THINGS];
};

static int thing_of(const struct store_lock *l)
{
    for (int i = 0; i < THINGS; i++)
        if (things[i].class == l->class && things[i].ino == l->ino && strlen(things[i].name) == l->name.len &&
            (l->name.len == 0 || !memcmp(things[i].name, l->name.data, l->name.len)))
            return i;
    PAIR_FAIL(&p, "a lock on a thing that nobody asked for");
}

static int byte_of(int64_t off)
{
    return off > BYTES - 1 ? BYTES - 1 : (int)off;
}

static bool compare_lock(void *data, const struct store_lock *l)
{
    struct seen *s = data;
    bool range = l->class == STORE_LOCK_RANGE;
    int thing = thing_of(l), found = 0, first = range ? byte_of(l->first) : 0, last = range ? byte_of(l->last) : 0;

    for (int i = 0; i < m.n; i++) {
        const struct claim *c = &m.list[i];

        if (c->thing != thing || c->session != l->session || c->owner != l->owner || c->request != l->request || c->exclusive != l->exclusive ||
            c->token != l->token)
            continue;
        if (c->token ? c->first >= first && c->first <= last : c->first == first && c->last == last) {
            found++;
            if (!c->token && i < s->last_waiter[thing])
                PAIR_FAIL(&p, "owner %" PRIu64 " waits at another place", l->owner);
            if (!c->token)
                s->last_waiter[thing] = i;
        }
    }
    if (found != (l->token ? last - first + 1 : 1))
        PAIR_FAIL(&p, "owner %" PRIu64 " of session %" PRIu64 " has bytes %d to %d of thing %d with token %" PRId64 ", and should not", l->owner, l->session,
                  first, last, thing, l->token);
    if (l->token)
        s->held += last - first + 1;
    else
        s->waiting++;
    return true;
}

static void compare(void)
{
    struct seen s = {0};
    int waiting = 0;

    if (store_locks(p.a.r, 0, compare_lock, &s))
        PAIR_FAIL(&p, "cannot read");
    for (int i = 0; i < m.n; i++)
        waiting += m.list[i].token == 0;
    if (s.held != m.n - waiting || s.waiting != waiting)
        PAIR_FAIL(&p, "%d bytes are held, %d wait; should be %d and %d", s.held, s.waiting, m.n - waiting, waiting);
    if (kit_glance(&p.a).rev != m.rev)
        PAIR_FAIL(&p, "revision %" PRId64 ", should be %" PRId64, kit_glance(&p.a).rev, m.rev);
    if (p.n_granted != m.granted)
        PAIR_FAIL(&p, "%d were told that they have got it, %d have", p.n_granted, m.granted);
}

/* ---- Commands ------------------------------------------------------------------------------------------------------------ */

static void apply(int who, const struct store_op *op, int want, int64_t token)
{
    struct store_command cmd = {.session = people[who].session, .seq = people[who].seq + 1, .acked = people[who].seq, .member = 1 + (uint32_t)who,
                                .time_ns = p.time_ns, .comm = "model", .ops = op, .n_ops = 1};
    int err = pair_apply(&p, &cmd);

    people[who].seq++;
    answers[-err & 31]++;
    if (err != want || (want == 0 && token && p.res.rev != token))
        PAIR_FAIL(&p, "operation %d: error %d, revision %" PRId64 "; should be %d and %" PRId64, (int)op->kind, err, p.res.rev, want, token);
}

static void begin(int who)
{
    const struct store_op op = {.kind = STORE_OP_SESSION};
    struct store_command cmd = {.seq = ++people[who].nonce, .member = 1 + (uint32_t)who, .time_ns = p.time_ns, .comm = "model", .ops = &op, .n_ops = 1};

    if (people[who].session)
        end(people[who].session);
    if (pair_apply(&p, &cmd))
        PAIR_FAIL(&p, "no session");
    people[who].session = p.res.ino;
    people[who].seq = people[who].requests = 0;
}

/* What a random command is about, for the model and for the store. */
static struct claim random_claim(int who, struct store_op *op)
{
    struct claim c = {.thing = (int)pair_random(&p, THINGS), .session = people[who].session, .owner = pair_random(&p, OWNERS),
                      .exclusive = pair_random(&p, 2) == 0};
    const struct thing *t = &things[c.thing];

    if (t->class == STORE_LOCK_RANGE) {
        c.first = (int)pair_random(&p, BYTES);
        c.last = c.first + (int)pair_random(&p, (uint64_t)(BYTES - c.first));
    }
    *op = (struct store_op){.flags = t->class | (c.exclusive ? STORE_LOCK_EXCLUSIVE : 0), .ino = t->ino, .name = kit_str(t->name), .owner = c.owner,
                            .first = c.first, .last = c.last == BYTES - 1 ? INT64_MAX : c.last};
    return c;
}

static void random_lock(int who)
{
    struct store_op op;
    struct claim c = random_claim(who, &op);
    bool nowait = pair_random(&p, 5) == 0;
    int64_t token = 0;
    int want;

    op.kind = STORE_OP_LOCK;
    op.request = c.request = ++people[who].requests;
    if (nowait)
        op.flags |= STORE_LOCK_NOWAIT;
    want = ask(c, nowait, &token);
    apply(who, &op, want, token);
}

static void random_unlock(int who)
{
    struct store_op op;
    struct claim c = random_claim(who, &op);
    bool waiting = false;

    op.kind = STORE_OP_UNLOCK;
    if (people[who].requests && pair_random(&p, 2)) {
        op.request = c.request = 1 + people[who].requests - pair_random(&p, people[who].requests < 8 ? people[who].requests : 8);
        waiting = pair_random(&p, 2) == 0;
        op.flags |= waiting ? STORE_LOCK_WAITING : 0;
    }
    apply(who, &op, give_back(&c, waiting), 0);
}

static void random_proclaim(int who)
{
    struct store_op op = {.kind = STORE_OP_PROCLAIM, .name = kit_str(things[pair_random(&p, 2)].name), .owner = pair_random(&p, OWNERS), .bytes = B("v")};
    int want = QE_STALE;

    for (int i = 0; i < m.n; i++)
        if (m.list[i].token && !strcmp(things[m.list[i].thing].name, op.name.data) && m.list[i].session == people[who].session && m.list[i].owner == op.owner) {
            op.rev = m.list[i].token;
            want = 0;
        }
    apply(who, &op, want, 0);
}

static void step(void)
{
    int who = (int)pair_random(&p, PEOPLE), other = (int)pair_random(&p, PEOPLE);
    int64_t rev = m.rev;
    uint64_t what = pair_random(&p, 1000);

    m.granted = 0;
    m.rev++; /* if somebody gets something */
    if (what < 500) {
        random_lock(who);
    } else if (what < 900) {
        random_unlock(who);
    } else if (what < 985) {
        random_proclaim(who);
    } else if (what < 995) {
        end(people[other].session);
        apply(who, &(struct store_op){.kind = STORE_OP_LAPSE, .ino = people[other].session, .rev = (int64_t)pair_term(&p)}, 0, 0);
    } else {
        begin(who);
    }
    for (int i = 0; i < m.n; i++)
        if (m.list[i].token == m.rev)
            rev = m.rev;
    m.rev = rev;
    compare();
}

int main(int argc, char **argv)
{
    int commands = argc > 1 ? atoi(argv[1]) : 50000;
    const char *env = getenv("MODEL_SEED");

    pair_init(&p, argc > 2 ? strtoull(argv[2], NULL, 10) : env ? strtoull(env, NULL, 10) : (uint64_t)time(NULL));
    printf("locks: %d commands, seed %" PRIu64 "\n", commands, p.seed);
    fflush(stdout);
    m.rev = 1;
    for (int i = 0; i < PEOPLE; i++)
        begin(i);
    for (int i = 0; i < commands; i++)
        step();
    pair_fini(&p);
    for (int i = 0; i < 32; i++)
        if (answers[i])
            printf("locks: %7" PRId64 " %s\n", answers[i], qfs_strerror(-i));
    return 0;
}
