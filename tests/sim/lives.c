/* Leases, sessions and named locks of simulated members (sim -l). lessor, tenure, keepalive and rounds are the real ones, with libraft, the
 * guard and the store around them; what they use of the rest of a member is below: the clock, messages, and commands, which go to the leader
 * again and again until the own store has applied them.
 *
 * Users of all members grant leases, renew them, change their TTL, attach files and let them run out; they take locks, hold them, and give them
 * back. Checked when an entry is applied for the first time anywhere: no lease ends before its TTL since its last acknowledged renewal was
 * asked for; tokens of a lock grow; who gets a lock gets it when nobody else, looking at his clock, believes that he has it. At the end all
 * leases go, in time. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/member.h"
#include "sim.h"
#include "store/base/clock.h"
#include "store/base/log.h"

enum { LEASES = 4096 /* in a history */, AT_ONCE = 12, LOCKS = 2, QUEUE = 256, BEAT_MS = 100, AGAIN_MS = 200, TTL_MIN_MS = 1000, TTL_MAX_MS = 4000 };
#define NS_OF(us) ((int64_t)(us) * 1000)

struct pending { /* a command until its result is known */
    struct replica_request *req;
    uint64_t seq;
    struct buf bytes;
};

struct held { /* what a user knows of a lock */
    struct replica_request req;
    uint64_t request;     /* the newest */
    bool asked, giving;   /* for it; to give it back, or to wait no more */
    bool answered;        /* it is held, or waits */
    bool old;             /* asked for before a lapse, and not answered: it is lost, whatever the answer */
    int64_t token;        /* 0: does not have it, as far as he knows */
};

struct lives { /* of one life of a member */
    struct replica r;
    struct member *m;
    bool waking;
    struct pending queue[QUEUE];
    unsigned n;
    uint64_t seq, sent_at;
    uint32_t sent_to;
    uint64_t session, nonce;
    int64_t session_asked_ns;
    struct held holds[LOCKS];
    uint64_t requests;
    uint64_t first_n, used; /* numbers of inodes; first_n 0: none yet */
};

/* What users know of a lease, all of them together. */
static struct lease {
    uint64_t id;
    int64_t ttl_ns;       /* the least that it can be */
    int64_t renewed_ns;   /* its last acknowledged renewal was asked for */
    uint64_t due;         /* us: when somebody renews it again, sometimes too late */
    bool revoked, gone;
} leases[LEASES];
static unsigned n_leases;
static uint64_t news_index;      /* what was applied up to here is no news */
static int64_t tokens[LOCKS];
static uint64_t n_files;

/* ---- What the real files use --------------------------------------------------------------------------------------------- */

static struct lives *lives_of(struct replica *r)
{
    return (struct lives *)r;
}

static void step(struct lives *l);

static void woken(struct member *m, void *arg)
{
    (void)m;
    ((struct lives *)arg)->waking = false;
    step(arg);
}

void loop_wake(struct replica *r)
{
    struct lives *l = lives_of(r);

    if (l->waking)
        return;
    l->waking = true;
    world_after(0, l->m, woken, l);
}

static void late(struct member *m, void *arg)
{
    (void)m;
    rounds_late(&((struct lives *)arg)->r);
    step(arg);
}

void loop_call_late(struct replica *r)
{
    world_after(ROUNDS_LATE_MS * MS, lives_of(r)->m, late, lives_of(r));
}

void member_fail(struct replica *r, const char *fmt, ...)
{
    world_fail(lives_of(r)->m, "member_fail: %s", fmt);
}

bool replica_alone(struct replica *r)
{
    (void)r;
    return false;
}

void submit_push(struct submit_list *l, struct replica_request *req)
{
    req->priv.prev = l->tail;
    req->priv.next = NULL;
    *(l->tail ? &l->tail->priv.next : &l->head) = req;
    l->tail = req;
}

void submit_unlink(struct submit_list *l, struct replica_request *req)
{
    *(req->priv.prev ? &req->priv.prev->priv.next : &l->head) = req->priv.next;
    *(req->priv.next ? &req->priv.next->priv.prev : &l->tail) = req->priv.prev;
    req->priv.prev = req->priv.next = NULL;
}

/* No read barriers here. */
bool barrier_has_questions(const struct replica *r) { (void)r; return false; }
void barrier_confirm(struct replica *r) { (void)r; }
void barrier_join(struct replica *r, uint64_t round) { (void)r; (void)round; }
void barrier_drop(struct replica *r) { (void)r; }
void barrier_step(struct replica *r) { rounds_step(r); }

/* ---- Messages ------------------------------------------------------------------------------------------------------------ */

struct letter {
    uint32_t from;
    size_t len;           /* of a message; 0: commands */
    uint8_t *bytes;
    struct buf *cmds;
    unsigned n_cmds;
};

static void propose(struct lives *l, const struct buf *cmds, unsigned n);

static void read_letter(struct member *m, void *arg)
{
    const struct letter *in = arg;
    struct lives *l = m->lives;
    Qfs__PeerMessage *msg;

    if (in->n_cmds) {
        propose(l, in->cmds, in->n_cmds);
        return;
    }
    msg = qfs__peer_message__unpack(NULL, in->len, in->bytes);
    if (!msg)
        abort();
    if (!rounds_message(&l->r, in->from, msg) && !keepalive_message(&l->r, in->from, msg))
        world_fail(m, "simulator: a message that nobody takes");
    qfs__peer_message__free_unpacked(msg, NULL);
    step(l);
}

static void *fresh(size_t n)
{
    void *p = calloc(1, n);

    if (!p)
        abort();
    return p;
}

int member_send(struct replica *r, uint32_t to, const Qfs__PeerMessage *m, const void *payload, size_t len)
{
    struct lives *l = lives_of(r);
    struct letter *out = fresh(sizeof *out);

    (void)payload;
    (void)len;
    out->from = (uint32_t)l->m->id;
    out->len = qfs__peer_message__get_packed_size(m);
    out->bytes = fresh(out->len + 1);
    qfs__peer_message__pack(m, out->bytes);
    return net_post(l->m, to - 1, read_letter, out) ? 0 : QE_AGAIN;
}

/* ---- Commands ------------------------------------------------------------------------------------------------------------ */

static void proposed_cb(struct raft_apply *req, int status, void *result)
{
    (void)result;
    if (!status)
        world.count.acked++;
    free(req);
}

static void propose(struct lives *l, const struct buf *cmds, unsigned n)
{
    struct store_bytes list[QUEUE];
    struct raft_apply *req;
    struct raft_buffer payload;
    struct buf entry = {0};

    if (raft_state(l->m->raft) != RAFT_LEADER)
        return;
    for (unsigned i = 0; i < n; i++)
        list[i] = (struct store_bytes){cmds[i].data, cmds[i].len};
    if (store_entry_build(sim_cluster_id, guard_term(l->m->guard), (int64_t)world.now, list, n, &entry))
        abort();
    payload = (struct raft_buffer){entry.data, entry.len};
    req = fresh(sizeof *req);
    world.count.commands++;
    if (raft_apply(l->m->raft, req, &payload, 1, proposed_cb)) {
        buf_fini(&entry);
        free(req);
    }
}

/* All that has no result yet, from the first: what was overtaken would never take effect. */
static void send_commands(struct lives *l)
{
    uint32_t leader = l->r.submit.leader;
    struct letter *out;

    if (l->n == 0 || leader == 0 || (l->sent_to == leader && world.now - l->sent_at < AGAIN_MS * MS))
        return;
    l->sent_to = leader;
    l->sent_at = world.now;
    out = fresh(sizeof *out);
    out->from = (uint32_t)l->m->id;
    out->n_cmds = l->n;
    out->cmds = fresh(l->n * sizeof *out->cmds);
    for (unsigned i = 0; i < l->n; i++)
        if (buf_append(&out->cmds[i], l->queue[i].bytes.data, l->queue[i].bytes.len))
            abort();
    if (leader == l->m->id)
        propose(l, out->cmds, out->n_cmds);
    else
        net_post(l->m, leader - 1, read_letter, out);
}

static void queue(struct lives *l, struct replica_request *req, const struct store_command *cmd, uint64_t session, uint64_t seq)
{
    struct store_command c = *cmd;
    struct pending *p = &l->queue[l->n];

    if (l->n == QUEUE)
        world_fail(l->m, "simulator: too many commands");
    c.session = session;
    c.seq = seq;
    c.acked = session && l->n == 0 ? seq - 1 : 0;
    c.member = (uint32_t)l->m->id;
    c.time_ns = NS_OF(world.now);
    c.comm = "sim";
    *p = (struct pending){.req = req, .seq = seq};
    if (store_command_encode(&c, &p->bytes))
        abort();
    l->n++;
    l->sent_at = 0; /* at once */
    loop_wake(&l->r);
}

void submit_internal(struct replica *r, struct replica_request *req, const struct store_command *cmd)
{
    struct lives *l = lives_of(r);

    queue(l, req, cmd, l->session, ++l->seq);
}

static void reserved_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct lives *l = req->data;

    (void)rev;
    if (err)
        world_fail(l->m, "no numbers of inodes: %s", qfs_strerror(err));
    l->first_n = ino;
    free(req);
}

static void reserve(struct lives *l)
{
    const struct store_op op = {.kind = STORE_OP_RESERVE};
    struct replica_request *req = fresh(sizeof *req);

    *req = (struct replica_request){.data = l, .cb = reserved_cb};
    submit_internal(&l->r, req, &(struct store_command){.ops = &op, .n_ops = 1});
}

static void session_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct lives *l = req->data;

    (void)rev;
    if (err)
        world_fail(l->m, "no session: %s", qfs_strerror(err));
    l->session = ino;
    keepalive_session(&l->r, ino, l->session_asked_ns);
    reserve(l);
    free(req);
}

static void ask_for_session(struct member *m, void *arg)
{
    struct lives *l = arg;
    struct store_op op = {.kind = STORE_OP_SESSION};
    struct replica_request *req = fresh(sizeof *req);

    (void)m;
    *req = (struct replica_request){.data = l, .cb = session_cb};
    l->session_asked_ns = clock_boottime_ns();
    queue(l, req, &(struct store_command){.ops = &op, .n_ops = 1}, 0, l->nonce);
}

/* ---- What users know ----------------------------------------------------------------------------------------------------- */

static struct lease *lease_by_id(uint64_t id)
{
    for (unsigned i = n_leases; i-- > 0;)
        if (leases[i].id == id)
            return &leases[i];
    return NULL;
}

struct wish { /* of a user, concerning a lease */
    struct replica_request req;
    struct lives *l;
    uint64_t id;
    int64_t ttl_ns, asked_ns;
};

/* The lease was renewed, by itself or by a new TTL, at some instant after that was asked for. */
static void confirm(struct wish *w, int err)
{
    struct lease *lease = lease_by_id(w->id);

    if (!err && w->asked_ns > lease->renewed_ns)
        lease->renewed_ns = w->asked_ns;
    free(w);
}

static void renewed_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    (void)rev;
    (void)ino;
    world.count.renewals += !err;
    confirm(req->data, err);
}

static void ttl_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    (void)rev;
    (void)ino;
    confirm(req->data, err);
}

static void any_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    (void)err;
    (void)rev;
    (void)ino;
    free(req->data);
}

static struct wish *wish_new(struct lives *l, replica_cb cb, uint64_t id)
{
    struct wish *w = fresh(sizeof *w);

    *w = (struct wish){.req = {.data = w, .cb = cb}, .l = l, .id = id, .asked_ns = clock_boottime_ns()};
    return w;
}

static void command(struct wish *w, const struct store_op *op)
{
    submit_internal(&w->l->r, &w->req, &(struct store_command){.ops = op, .n_ops = 1});
}

static int64_t some_ttl(void)
{
    return (int64_t)world_between(TTL_MIN_MS, TTL_MAX_MS) * 1000000;
}

/* Of those that are to be renewed now, or of all. */
static struct lease *some_lease(bool due)
{
    struct lease *found = NULL;
    unsigned n = 0;

    for (unsigned i = n_leases > 40 ? n_leases - 40 : 0; i < n_leases; i++)
        if (!leases[i].gone && (!due || leases[i].due <= world.now) && world_random(++n) == 0)
            found = &leases[i];
    return found;
}

/* Close to its end, or a little too late. */
static void renew_again(struct lease *lease)
{
    uint64_t ttl_us = (uint64_t)lease->ttl_ns / 1000;

    lease->due = world.now + world_between(ttl_us / 4, ttl_us + ttl_us / 20);
}

static unsigned alive_leases(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < n_leases; i++)
        n += !leases[i].gone;
    return n;
}

static void attached_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    world.count.attached += !err;
    any_cb(req, err, rev, ino);
}

static void user_grants(struct lives *l)
{
    static unsigned number;
    char name[32];
    struct store_op op = {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .rev = some_ttl()};

    op.name = (struct store_bytes){name, (size_t)snprintf(name, sizeof name, "l%u", number++)};
    if (alive_leases() < AT_ONCE)
        command(wish_new(l, any_cb, 0), &op);
}

static void user_attaches(struct lives *l, const struct lease *lease)
{
    char name[32];
    struct store_op op = {.kind = STORE_OP_COMMIT, .parent = STORE_ROOT_INO, .mode = 0644, .valid = STORE_ATTR_LEASE, .lease = lease->id};

    if (l->first_n == 0 || l->used == STORE_INO_BLOCK)
        return;
    op.new_ino = (l->first_n + l->used++) * 4 + STORE_FILE;
    op.name = (struct store_bytes){name, (size_t)snprintf(name, sizeof name, "f%" PRIu64, n_files++)};
    command(wish_new(l, attached_cb, 0), &op);
}

static void user_renews(struct lives *l, struct lease *lease)
{
    struct wish *w = wish_new(l, renewed_cb, lease->id);

    renew_again(lease);
    replica_lease_renew(&l->r, &w->req, lease->id);
}

static void user_of_lease(struct lives *l, struct lease *lease)
{
    struct wish *w;

    switch (world_random(6)) {
    case 0:
        w = wish_new(l, ttl_cb, lease->id);
        w->ttl_ns = some_ttl();
        if (w->ttl_ns < lease->ttl_ns)
            lease->ttl_ns = w->ttl_ns; /* from when it takes effect, which may be now or never */
        command(w, &(struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_TTL, .ino = lease->id, .rev = w->ttl_ns});
        break;
    case 1:
        if (world_chance(200)) {
            lease->revoked = true;
            command(wish_new(l, any_cb, 0), &(struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_REVOKE, .ino = lease->id});
        }
        break;
    default:
        user_attaches(l, lease);
        break;
    }
}

static struct store_bytes lock_name(unsigned k)
{
    return (struct store_bytes){k ? "b" : "a", 1};
}

static void lock_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct held *h = req->data;

    (void)ino;
    if (h->old || (err && err != QE_QUEUED))
        h->asked = false;
    else if (err == 0)
        h->token = rev;
    h->answered = true;
    h->old = false;
}

static void given_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct held *h = req->data;

    (void)err;
    (void)rev;
    (void)ino;
    h->asked = h->giving = h->old = false;
}

static void user_of_lock(struct lives *l, unsigned k)
{
    struct held *h = &l->holds[k];
    struct store_op op = {.kind = STORE_OP_LOCK, .name = lock_name(k), .owner = 1 + k, .flags = STORE_LOCK_NAMED | STORE_LOCK_EXCLUSIVE};

    if (h->giving || !replica_session_holds(&l->r) || (h->asked && (h->token == 0 || world_chance(700))))
        return;
    h->giving = h->asked;
    op.kind = h->asked ? STORE_OP_UNLOCK : STORE_OP_LOCK;
    h->request = h->asked ? h->request : ++l->requests;
    op.request = h->request;
    op.flags = h->asked ? STORE_LOCK_NAMED : op.flags;
    h->req = (struct replica_request){.data = h, .cb = h->asked ? given_cb : lock_cb};
    h->asked = true;
    h->answered = false;
    h->token = 0;
    submit_internal(&l->r, &h->req, &(struct store_command){.ops = &op, .n_ops = 1});
}

static void users_turn(struct member *m, void *arg)
{
    struct lives *l = arg;
    struct lease *lease = some_lease(true);

    world_after(world_exp(world.knobs.client * 4), m, users_turn, l);
    if (l->session == 0 || l->n > QUEUE / 2)
        return;
    if (world.healed) { /* leases run out; that commands are acknowledged shows progress */
        if (l->n == 0)
            user_of_lock(l, (unsigned)world_random(LOCKS));
        return;
    }
    if (lease)
        user_renews(l, lease);
    else if (world_chance(500))
        user_of_lock(l, (unsigned)world_random(LOCKS));
    else if ((lease = some_lease(false)) == NULL || world_chance(800))
        user_grants(l);
    else
        user_of_lease(l, lease);
}

static void lapsed(void *data)
{
    struct lives *l = data;

    world.count.lapses++;
    for (unsigned k = 0; k < LOCKS; k++) {
        l->holds[k].token = 0;
        l->holds[k].old = l->holds[k].asked && !l->holds[k].answered;
        l->holds[k].asked = l->holds[k].old;
    }
}

/* ---- What must hold ------------------------------------------------------------------------------------------------------ */

static void lease_is_there(const struct store_life_event *e)
{
    struct lease *lease = lease_by_id(e->id);

    if (lease) {
        if (e->renewed)
            lease->ttl_ns = e->ttl_ns;
        return;
    }
    if (n_leases == LEASES)
        return;
    leases[n_leases++] = (struct lease){.id = e->id, .ttl_ns = e->ttl_ns, .renewed_ns = clock_boottime_ns()};
    renew_again(&leases[n_leases - 1]);
}

static void lease_ends(struct member *m, uint64_t id)
{
    struct lease *lease = lease_by_id(id);
    int64_t age;

    if (!lease)
        return;
    age = clock_boottime_ns() - lease->renewed_ns;
    if (!lease->revoked && age < lease->ttl_ns)
        world_fail(m, "lease %" PRIu64 " ended %.3f s after its renewal; its TTL is %.3f s", id, (double)age / 1e9, (double)lease->ttl_ns / 1e9);
    lease->gone = true;
    world.count.ends++;
}

/* Somebody gets a lock: nobody else has it, as far as he can see at this moment. */
static void check_alone(struct member *m, unsigned k, uint64_t session, int64_t token)
{
    if (token <= tokens[k])
        world_fail(m, "token %" PRId64 " of a lock comes after %" PRId64, token, tokens[k]);
    tokens[k] = token;
    world.count.grants++;
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        struct lives *l = members[i].alive ? members[i].lives : NULL;

        if (l && l->session != session && l->holds[k].token && replica_session_holds(&l->r))
            world_fail(m, "a lock goes to session %" PRIu64 " with token %" PRId64 "; m%" PRIu64 " believes to have it with %" PRId64, session, token,
                       members[i].id, l->holds[k].token);
    }
}

void lives_told(void *data, const struct store_life_event *e, size_t n)
{
    struct member *m = data;
    bool news = raft_last_applied(m->raft) + 1 > news_index;

    for (size_t i = 0; i < n && news; i++) {
        if (e[i].kind == STORE_LIFE_LEASE)
            lease_is_there(&e[i]);
        else if (e[i].kind == STORE_LIFE_LEASE_GONE)
            lease_ends(m, e[i].id);
    }
    tenure_feed(&m->lives->r, e, n);
}

void lives_locks(void *data, const struct store_lock_event *e, size_t n)
{
    struct member *m = data;
    struct lives *l = m->lives;
    bool news = raft_last_applied(m->raft) + 1 > news_index;

    for (size_t i = 0; i < n; i++) {
        unsigned k = e[i].name.len == 1 && e[i].name.data && *(const char *)e[i].name.data == 'b';

        if (e[i].kind == STORE_LOCK_GRANTED && news)
            check_alone(m, k, e[i].session, e[i].token);
        if (e[i].session != l->session || e[i].kind == STORE_LOCK_CHANGED)
            continue;
        if (e[i].kind == STORE_LOCK_GRANTED && l->holds[k].asked && !l->holds[k].giving)
            l->holds[k].token = e[i].token;
        else if (e[i].kind == STORE_LOCK_LOST)
            l->holds[k].token = 0;
    }
}

/* ---- A member's part ----------------------------------------------------------------------------------------------------- */

void lives_result(struct member *m, const struct store_result *res)
{
    struct lives *l = m->lives;
    struct pending p;

    if (l->n == 0 || res->seq != l->queue[0].seq || res->session != (l->queue[0].seq == l->nonce ? 0 : l->session))
        return;
    p = l->queue[0];
    l->n--;
    memmove(l->queue, l->queue + 1, l->n * sizeof *l->queue);
    buf_fini(&p.bytes);
    if (world.healed)
        chaos_acked(raft_last_applied(m->raft) + 1);
    p.req->cb(p.req, res->err, res->rev, res->ino);
}

void lives_applied(struct member *m, uint64_t index)
{
    struct applier *a = &m->lives->r.applier;

    atomic_store(&a->pushed, index);
    atomic_store(&a->applying, index);
    atomic_store(&a->applied, index);
    if (index > news_index)
        news_index = index;
    loop_wake(&m->lives->r);
}

/* Who waits may have missed that it got the lock: it waits no more. */
static void give_up(struct lives *l, unsigned k)
{
    struct held *h = &l->holds[k];
    const struct store_op op = {.kind = STORE_OP_UNLOCK, .name = lock_name(k), .owner = 1 + k, .request = h->request, .flags = STORE_LOCK_NAMED};

    if (!h->asked || !h->answered || h->giving)
        return;
    h->giving = true;
    h->answered = false;
    h->token = 0;
    h->req = (struct replica_request){.data = h, .cb = given_cb};
    submit_internal(&l->r, &h->req, &(struct store_command){.ops = &op, .n_ops = 1});
}

void lives_installed(struct member *m)
{
    for (unsigned k = 0; k < LOCKS; k++)
        give_up(m->lives, k);
    m->lives->r.store = m->fsm.store;
    tenure_feed_anew(&m->lives->r, m->fsm.reader);
    lives_applied(m, m->fsm.applied);
}

static void look_at_leader(struct lives *l)
{
    raft_id id = 0;
    const char *address;

    raft_leader(l->m->raft, &id, &address);
    l->r.submit.leader = (uint32_t)id;
    atomic_store(&l->r.submit.leaderless, id == 0);
}

static void step(struct lives *l)
{
    int64_t now = clock_boottime_ns();

    look_at_leader(l);
    tenure_step(&l->r, now);
    keepalive_step(&l->r, now);
    rounds_step(&l->r);
    send_commands(l);
}

void lives_tick(struct member *m)
{
    look_at_leader(m->lives);
    rounds_tick(&m->lives->r);
    step(m->lives);
}

static void beat(struct member *m, void *arg)
{
    struct lives *l = arg;

    world_after(BEAT_MS * MS, m, beat, l);
    tenure_beat(&l->r, clock_boottime_ns());
    step(l);
    keepalive_beat(&l->r, clock_boottime_ns());
    rounds_step(&l->r);
}

void lives_open(struct member *m)
{
    struct lives *l = fresh(sizeof *l);

    log_set_level(world.opt.verbose ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR);
    m->lives = l;
    m->raft = &l->r.raft;
    m->guard = &l->r.guard;
    l->m = m;
    l->r.id.member_id = (uint32_t)m->id;
    l->r.rounds.eager = true; /* users renew too seldom */
    l->r.store = m->fsm.store;
    l->r.opt.timeout_ms = 1500;
    l->r.opt.data = l;
    l->r.opt.lapsed = lapsed;
    l->nonce = (uint64_t)m->life << 40 | m->id;
    l->r.submit.nonce = l->nonce;
    lives_applied(m, m->fsm.applied);
    if (tenure_open(&l->r) || keepalive_open(&l->r))
        world_fail(m, "the lives cannot be read");
}

void lives_start(struct member *m)
{
    world_after(world_between(1, BEAT_MS * MS), m, beat, m->lives);
    world_after(0, m, ask_for_session, m->lives);
    world_after(world_between(1, 100 * MS), m, users_turn, m->lives);
}

bool lives_counts_on_promises(struct member *m)
{
    return m->lives && raft_state(m->raft) == RAFT_LEADER && m->lives->r.rounds.term == guard_term(m->guard) &&
           rounds_promised_until(&m->lives->r, clock_boottime_ns());
}

/* The longest TTL, an election, and a second after all trouble; TTLs that were asked for count from when they take effect. */
uint64_t lives_patience(void)
{
    return (TTL_MAX_MS + 1000 + 1000) * (uint64_t)MS;
}

/* Each file is attached to one. */
bool lives_over(void)
{
    struct member *m = member_leader();
    struct store_glance g;

    if (!m || alive_leases() > 0)
        return false;
    store_glance(m->fsm.store, &g);
    if (g.n_leases == 0 && g.n_files > 0)
        world_fail(m, "%" PRId64 " files are left of leases that have ended", g.n_files);
    return g.n_leases == 0;
}

void lives_describe(void)
{
    for (unsigned i = 0; i < n_leases; i++)
        if (!leases[i].gone)
            printf("  lease %" PRIu64 " of %.3f s, renewed at %.3f s\n", leases[i].id, (double)leases[i].ttl_ns / 1e9,
                   (double)(leases[i].renewed_ns - 1000000000) / 1e9);
}
