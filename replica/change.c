#include "replica/change.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/member.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"

#define MS INT64_C(1000000)

/* ---- What may be done ---------------------------------------------------------------------------------------------------- */

struct view { /* raft's configuration, as the leader sees it */
    struct guard_server servers[GUARD_MEMBERS_MAX];
    unsigned n;
};

static const struct guard_server *server_of(const struct view *v, uint32_t id)
{
    for (unsigned i = 0; i < v->n; i++)
        if (v->servers[i].id == id)
            return &v->servers[i];
    return NULL;
}

/* It answers, and has all but the newest entries. */
static bool is_healthy(const struct replica *r, const struct guard_server *s)
{
    return s->id == r->id.member_id ||
           (s->silent_ms <= (uint64_t)(r->election_ns / MS) && s->match > 0 && s->match + CHANGE_LAG_MAX >= guard_stored(&r->guard));
}

/* Member `id` becomes `role` (RAFT_*; -1: it goes): are all who vote afterwards healthy, and with them a majority of those who vote now?
 * A member that stops voting may be among the latter, so that two members can become one. If it is itself not healthy, a majority of the
 * others will do: they are no worse off without it, and when two are dead one of them has to be the first to go. */
static bool may_change(const struct replica *r, const struct view *v, uint32_t id, int role)
{
    unsigned before = 0, before_healthy = 0, after = 0, after_healthy = 0;
    bool relieves = false;

    for (unsigned i = 0; i < v->n; i++) {
        const struct guard_server *s = &v->servers[i];
        bool votes = s->role == RAFT_VOTER, will = s->id == id ? role == RAFT_VOTER : votes, healthy = is_healthy(r, s);

        before += votes;
        before_healthy += votes && healthy;
        after += will;
        after_healthy += will && healthy;
        relieves = relieves || (votes && !will && !healthy);
    }
    return after_healthy * 2 > after && before_healthy * 2 > before && (after_healthy == after || relieves);
}

static bool changes_votes(const struct guard_server *s, int role)
{
    return (s->role == RAFT_VOTER) != (role == RAFT_VOTER);
}

/* ---- Handing over -------------------------------------------------------------------------------------------------------- */

/* The healthy voter that has most of the log. 0: there is none but us. */
static uint32_t successor(const struct replica *r, const struct view *v)
{
    const struct guard_server *best = NULL;

    for (unsigned i = 0; i < v->n; i++) {
        const struct guard_server *s = &v->servers[i];

        if (s->id != r->id.member_id && s->role == RAFT_VOTER && is_healthy(r, s) && (!best || s->match > best->match))
            best = s;
    }
    return best ? best->id : 0;
}

uint32_t change_successor(const struct replica *r)
{
    struct view v;

    v.n = guard_configuration(&r->guard, v.servers);
    return successor(r, &v);
}

/* ---- Rows ---------------------------------------------------------------------------------------------------------------- */

/* Any thread. */
static void written_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct replica *r = req->data;

    (void)rev;
    (void)ino;
    r->change.row_err = err;
    atomic_store(&r->change.written, true);
    loop_wake(r);
}

static void write_row(struct replica *r, uint32_t id, enum store_member_change what, int role, const struct change_goal *g)
{
    struct store_op op = {.kind = STORE_OP_MEMBER, .flags = what, .ino = id, .mode = (uint32_t)role};
    struct store_command cmd = {.comm = "quorumfs", .ops = &op, .n_ops = 1};
    struct change *c = &r->change;

    c->writing = true;
    atomic_store(&c->written, false);
    c->row_from = g ? g->from : 0;
    c->row_ticket = g ? g->ticket : 0;
    c->row.data = r;
    c->row.cb = written_cb;
    submit_internal(r, &c->row, &cmd);
}

/* ---- Requests at the leader ---------------------------------------------------------------------------------------------- */

static void answered(struct replica *r, uint64_t ticket, int err);

static void answer_goal(struct replica *r, struct change_goal *g, int err)
{
    Qfs__ChangeAnswer answer = QFS__CHANGE_ANSWER__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;
    struct change_goal was = *g;

    g->from = 0;
    if (was.from == r->id.member_id) {
        answered(r, was.ticket, err);
        return;
    }
    answer.ticket = was.ticket;
    answer.err = err;
    m.kind_case = QFS__PEER_MESSAGE__KIND_CHANGE_ANSWER;
    m.change_answer = &answer;
    (void)member_send(r, was.from, &m, NULL, 0); /* lost: it asks again */
}

static void drop_goals(struct replica *r)
{
    for (int i = 0; i < CHANGE_GOALS_MAX; i++)
        r->change.goals[i].from = 0;
}

static void begin_goal(struct replica *r, const struct change_goal *new)
{
    struct change_goal *free_one = NULL;

    for (int i = 0; i < CHANGE_GOALS_MAX; i++) {
        struct change_goal *g = &r->change.goals[i];

        if (g->from == new->from && g->ticket == new->ticket)
            return; /* asked again: it is being worked on */
        if (g->from == 0 && !free_one)
            free_one = g;
    }
    if (free_one) /* else it asks again later */
        *free_one = *new;
}

static int raft_role(int wished)
{
    return wished == STORE_MEMBER_VOTER ? RAFT_VOTER : wished == STORE_MEMBER_STANDBY ? RAFT_STANDBY : -1;
}

static unsigned wished_voters(struct replica *r)
{
    unsigned n = 0;

    pthread_mutex_lock(&r->members.lock);
    for (size_t i = 0; i < r->members.n; i++)
        n += r->members.rows[i].role == STORE_MEMBER_VOTER;
    pthread_mutex_unlock(&r->members.lock);
    return n;
}

/* 0: the wish may be written down, or `g` has come true already (*done). */
static int look_at_wish(struct replica *r, const struct view *v, const struct change_goal *g, bool *done)
{
    const struct guard_server *s = server_of(v, g->id);
    struct member_row row;
    int role = g->kind == REPLICA_CHANGE_REMOVE ? -1 : raft_role(g->role);

    *done = false;
    if (!member_table_get(&r->members, g->id, &row)) {
        *done = g->kind == REPLICA_CHANGE_REMOVE && member_table_removed(&r->members, g->id);
        return *done ? 0 : QE_NOENT;
    }
    if (row.role == STORE_MEMBER_LEAVING)
        return g->kind == REPLICA_CHANGE_REMOVE ? 0 : QE_BUSY;
    if (g->kind == REPLICA_CHANGE_ROLE && row.role == (enum store_member_role)g->role && s && s->role == role) {
        *done = true;
        return 0;
    }
    if (role == RAFT_VOTER && row.role != STORE_MEMBER_VOTER && wished_voters(r) >= REPLICA_VOTERS_MAX)
        return QE_NOSPC;
    if (!s) /* not added yet: only a removal can be done at once */
        return g->kind == REPLICA_CHANGE_REMOVE ? 0 : QE_BUSY;
    return !changes_votes(s, role) || may_change(r, v, g->id, role) ? 0 : QE_BUSY;
}

static bool came_true(struct replica *r, const struct view *v, const struct change_goal *g)
{
    const struct guard_server *s = server_of(v, g->id);
    struct member_row row;

    if (g->kind == REPLICA_CHANGE_REMOVE)
        return !member_table_get(&r->members, g->id, &row);
    return s && s->role == raft_role(g->role) && !guard_changing(&r->guard);
}

static void begin_transfer(struct replica *r, const struct view *v, struct change_goal *g)
{
    const struct guard_server *s = server_of(v, g->id);

    if (g->id == r->id.member_id)
        answer_goal(r, g, 0);
    else if (!s || s->role != RAFT_VOTER || !is_healthy(r, s))
        answer_goal(r, g, s ? QE_BUSY : QE_NOENT);
    else if (!guard_transferring(&r->guard) && transfer_try(r, g->id))
        g->from = 0; /* whoever asked sees who leads then, and asks again if it is not the one */
}

static void step_goal(struct replica *r, const struct view *v, struct change_goal *g, int64_t now_ns)
{
    bool done;
    int err;

    if (now_ns > g->deadline_ns) {
        g->from = 0;
        return;
    }
    if (g->kind == REPLICA_CHANGE_LEADER) {
        begin_transfer(r, v, g);
        return;
    }
    if (g->at == GOAL_NEW && !r->change.writing) {
        err = look_at_wish(r, v, g, &done);
        if (err || done) {
            answer_goal(r, g, err);
            return;
        }
        g->at = GOAL_WRITING;
        write_row(r, g->id, STORE_MEMBER_ROLE, g->kind == REPLICA_CHANGE_REMOVE ? STORE_MEMBER_LEAVING : g->role, g);
    } else if (g->at == GOAL_WAITING && came_true(r, v, g)) {
        answer_goal(r, g, 0);
    }
}

/* The row has been written, or could not be. */
static void row_done(struct replica *r)
{
    struct change *c = &r->change;

    c->writing = false;
    for (int i = 0; i < CHANGE_GOALS_MAX; i++) {
        struct change_goal *g = &c->goals[i];

        if (g->from == 0 || g->from != c->row_from || g->ticket != c->row_ticket || g->at != GOAL_WRITING)
            continue;
        g->at = GOAL_WAITING;
        if (c->row_err)
            answer_goal(r, g, c->row_err);
    }
    if (c->row_err && c->row_from == 0)
        log_warn("replica", "the table of members could not be changed: %s", qfs_strerror(c->row_err));
}

/* ---- Steps of the leader ------------------------------------------------------------------------------------------------- */

static void changed_cb(struct raft_change *req, int status)
{
    struct replica *r = req->data;

    r->change.changing = false;
    if (status && status != RAFT_LEADERSHIPLOST)
        log_info("replica", "a change of the configuration was given up, to be tried again: %s", raft_strerror(status));
}

/* What libraft says before it has changed anything is no harm; anything else leaves it in between. */
static void begun(struct replica *r, int rv, const char *what, uint32_t id)
{
    if (rv == 0)
        log_info("replica", "%s member %" PRIu32 " term=%" PRIu64 " index=%" PRIu64, what, id, guard_term(&r->guard), (uint64_t)guard_stored(&r->guard));
    else
        r->change.changing = false;
    if (rv && rv != RAFT_NOTLEADER && rv != RAFT_CANTCHANGE && rv != RAFT_DUPLICATEID && rv != RAFT_BADID && rv != RAFT_BADROLE)
        member_fail(r, "cannot change the configuration: %s", raft_strerror(rv));
}

static void add(struct replica *r, uint32_t id)
{
    char address[16];

    snprintf(address, sizeof address, "%" PRIu32, id);
    r->change.changing = true;
    begun(r, raft_add(&r->raft, &r->change.raft, id, address, changed_cb), "adding", id);
}

static void assign(struct replica *r, uint32_t id, int role)
{
    r->change.changing = true;
    begun(r, raft_assign(&r->raft, &r->change.raft, id, role, changed_cb), role == RAFT_VOTER ? "promoting" : "making a standby of", id);
}

/* One row; true: a step was begun, and nothing else may be. */
static bool step_row(struct replica *r, const struct view *v, const struct member_row *row)
{
    const struct guard_server *s = server_of(v, row->id);
    int role = raft_role((int)row->role);

    if (!s && row->role != STORE_MEMBER_LEAVING) {
        add(r, row->id);
        return true;
    }
    if (!s) {
        write_row(r, row->id, STORE_MEMBER_REMOVE, 0, NULL);
        return true;
    }
    if (s->role == role || (s->role != RAFT_SPARE && changes_votes(s, role) && !may_change(r, v, row->id, role)))
        return false;
    if (role == RAFT_VOTER && s->role == RAFT_SPARE)
        role = RAFT_STANDBY; /* it has to catch up first */
    if (role != RAFT_VOTER && row->id == r->id.member_id) { /* who does not vote any more should not lead while that is decided */
        uint32_t to = successor(r, v);

        return to && transfer_try(r, to);
    }
    if (role >= 0) {
        assign(r, row->id, role);
    } else {
        r->change.changing = true;
        begun(r, raft_remove(&r->raft, &r->change.raft, row->id, changed_cb), "removing", row->id);
    }
    return true;
}

static void warn_of_even_voters(struct replica *r, const struct view *v)
{
    unsigned voters = 0;

    for (unsigned i = 0; i < v->n; i++)
        voters += v->servers[i].role == RAFT_VOTER;
    if (voters % 2 == 0 && voters != r->change.warned)
        log_warn("replica", "%u voters tolerate no more failures than %u: an odd number is better", voters, voters - 1);
    r->change.warned = voters;
}

static void reconcile(struct replica *r, const struct view *v)
{
    struct member_row *rows;
    int64_t next;
    size_t n;

    if (member_table_copy(&r->members, &rows, &n, &next))
        return; /* out of memory: next time */
    for (size_t i = 0; i < n; i++)
        if (step_row(r, v, &rows[i]))
            break;
    free(rows);
}

/* A new leader's table may be older than its configuration, until its store has applied what was committed when it became sure of that. */
static bool table_is_current(struct replica *r)
{
    struct change *c = &r->change;

    if (c->term != guard_term(&r->guard)) {
        c->term = guard_term(&r->guard);
        c->fence = 0;
    }
    if (!guard_settled(&r->guard))
        return false;
    if (c->fence == 0)
        c->fence = atomic_load(&r->applier.pushed);
    return atomic_load(&r->applier.applied) >= c->fence;
}

/* ---- Requests of this member --------------------------------------------------------------------------------------------- */

struct wish { /* what replica_change leaves in priv.command */
    enum replica_change_kind kind;
    uint32_t id;
    int role;
};

static struct wish wish_of(const struct replica_request *req)
{
    struct wish w;

    memcpy(&w, req->priv.command.data, sizeof w);
    return w;
}

static void finish(struct replica_request *req, int err)
{
    buf_fini(&req->priv.command);
    req->cb(req, err, 0, 0);
}

static void unlink_asked(struct replica *r, struct replica_request *req)
{
    struct replica_request **at = &r->change.asked;

    while (*at != req)
        at = &(*at)->priv.next;
    *at = req->priv.next;
}

static void answered(struct replica *r, uint64_t ticket, int err)
{
    struct replica_request *req = r->change.asked;

    while (req && req->priv.seq != ticket)
        req = req->priv.next;
    if (!req || err == QE_AGAIN)
        return;
    unlink_asked(r, req);
    finish(req, err);
}

/* Asks whoever leads; nobody: later. */
static void ask(struct replica *r, const struct replica_request *req)
{
    struct wish w = wish_of(req);
    uint32_t leader = atomic_load(&r->leader);
    Qfs__ChangeRequest request = QFS__CHANGE_REQUEST__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;

    if (leader == r->id.member_id) {
        begin_goal(r, &(struct change_goal){.from = leader, .ticket = req->priv.seq, .kind = w.kind, .id = w.id, .role = w.role,
                                            .deadline_ns = clock_boottime_ns() + CHANGE_GOAL_MS * MS});
        return;
    }
    request.ticket = req->priv.seq;
    request.kind = w.kind;
    request.id = w.id;
    request.role = (uint32_t)w.role;
    m.kind_case = QFS__PEER_MESSAGE__KIND_CHANGE_REQUEST;
    m.change_request = &request;
    if (leader)
        (void)member_send(r, leader, &m, NULL, 0);
}

/* Asked again at each tick: the leader knows what it is working on. */
static void step_asked(struct replica *r, int64_t now_ns)
{
    for (struct replica_request *req = r->change.asked, *next; req; req = next) {
        struct wish w = wish_of(req);

        next = req->priv.next;
        if (w.kind == REPLICA_CHANGE_LEADER && atomic_load(&r->leader) == w.id)
            answered(r, req->priv.seq, 0);
        else if (req->priv.deadline_ns && now_ns > req->priv.deadline_ns)
            answered(r, req->priv.seq, QE_TIMEDOUT);
        else
            ask(r, req);
    }
}

void change_take(struct replica *r, struct replica_request *newest)
{
    while (newest) {
        struct replica_request *next = newest->priv.next;

        newest->priv.seq = ++r->change.tickets;
        newest->priv.next = r->change.asked;
        r->change.asked = newest;
        newest = next;
    }
    r->change.looked_ns = 0;
}

void change_refuse(struct replica *r, int err)
{
    for (struct replica_request *req = r->change.asked, *next; req; req = next) {
        next = req->priv.next;
        finish(req, err);
    }
    r->change.asked = NULL;
}

/* ---- Messages ------------------------------------------------------------------------------------------------------------ */

static void take_request(struct replica *r, uint32_t from, const Qfs__ChangeRequest *m)
{
    struct change_goal g = {.from = from, .ticket = m->ticket, .kind = (enum replica_change_kind)m->kind, .id = m->id, .role = (int)m->role,
                            .deadline_ns = clock_boottime_ns() + CHANGE_GOAL_MS * MS};

    if (m->kind < REPLICA_CHANGE_ROLE || m->kind > REPLICA_CHANGE_LEADER || (m->kind == REPLICA_CHANGE_ROLE && raft_role(g.role) < 0))
        answer_goal(r, &g, QE_INVAL);
    else if (raft_state(&r->raft) == RAFT_LEADER)
        begin_goal(r, &g);
}

bool change_message(struct replica *r, uint32_t from, const Qfs__PeerMessage *m)
{
    if (m->kind_case == QFS__PEER_MESSAGE__KIND_CHANGE_REQUEST)
        take_request(r, from, m->change_request);
    else if (m->kind_case == QFS__PEER_MESSAGE__KIND_CHANGE_ANSWER)
        answered(r, m->change_answer->ticket, m->change_answer->err);
    else
        return false;
    return true;
}

/* ---- Our own address ----------------------------------------------------------------------------------------------------- */

/* Any thread. */
static void moved_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct replica *r = req->data;

    (void)err; /* tried again while it is not in the table */
    (void)rev;
    (void)ino;
    atomic_store(&r->change.moving, false);
}

/* A member that was given an address, or another one, writes it down by itself. */
static void step_address(struct replica *r, int64_t now_ns)
{
    struct change *c = &r->change;
    struct store_op op = {.kind = STORE_OP_MEMBER, .flags = STORE_MEMBER_ADDRESS, .ino = r->id.member_id, .name = {c->address, strlen(c->address)}};
    struct store_command cmd = {.comm = "quorumfs", .ops = &op, .n_ops = 1};
    struct member_row row;

    if (!*c->address || atomic_load(&c->moving) || now_ns - c->moved_ns < CHANGE_MOVE_MS * MS || atomic_load(&r->stopping) ||
        !submit_in_session(r) || !member_table_get(&r->members, r->id.member_id, &row))
        return;
    c->moved_ns = now_ns;
    if (!strcmp(row.address, c->address)) {
        *c->address = '\0';
        return;
    }
    log_info("replica", "the address of this member is \"%s\" now, it was \"%s\"", c->address, row.address);
    atomic_store(&c->moving, true);
    c->move = (struct replica_request){.data = r, .cb = moved_cb};
    submit_internal(r, &c->move, &cmd);
}

/* ---- Everything together ------------------------------------------------------------------------------------------------- */

static void step_leader(struct replica *r, int64_t now_ns)
{
    struct change *c = &r->change;
    struct view v;

    if (!table_is_current(r))
        return;
    v.n = guard_configuration(&r->guard, v.servers);
    for (int i = 0; i < CHANGE_GOALS_MAX; i++)
        if (c->goals[i].from)
            step_goal(r, &v, &c->goals[i], now_ns);
    if (!c->changing && !c->writing && !guard_transferring(&r->guard) && !guard_changing(&r->guard)) {
        warn_of_even_voters(r, &v);
        reconcile(r, &v);
    }
}

void change_step(struct replica *r, int64_t now_ns)
{
    struct change *c = &r->change;

    if (c->writing && atomic_load(&c->written)) {
        row_done(r);
        c->looked_ns = c->row_err ? now_ns + (CHANGE_AGAIN_MS - CHANGE_STEP_MS) * MS : 0;
    }
    if (now_ns - c->looked_ns < CHANGE_STEP_MS * MS)
        return;
    c->looked_ns = now_ns;
    if (raft_state(&r->raft) != RAFT_LEADER)
        drop_goals(r);
    step_asked(r, now_ns);
    step_address(r, now_ns);
    if (raft_state(&r->raft) == RAFT_LEADER && !atomic_load(&r->stopping))
        step_leader(r, now_ns);
}

void change_init(struct replica *r)
{
    r->change.raft.data = r;
    r->change.tickets = (uint64_t)clock_realtime_ns();
}

/* ---- Asking (any thread) ------------------------------------------------------------------------------------------------- */

void replica_change(struct replica *r, struct replica_request *req, enum replica_change_kind kind, uint32_t id, enum store_member_role role)
{
    struct wish w = {kind, id, (int)role};
    int err;

    memset(&req->priv, 0, sizeof req->priv);
    req->priv.submitted_ns = clock_boottime_ns();
    if (r->opt.timeout_ms > 0)
        req->priv.deadline_ns = req->priv.submitted_ns + (int64_t)r->opt.timeout_ms * MS;
    err = buf_append(&req->priv.command, &w, sizeof w);
    pthread_mutex_lock(&r->loop.lock);
    if (!err && (!r->loop.open || r->loop.stop))
        err = QE_SHUTDOWN;
    if (!err) {
        req->priv.next = r->loop.changes;
        r->loop.changes = req;
        uv_async_send(&r->loop.wake);
    }
    pthread_mutex_unlock(&r->loop.lock);
    if (err)
        finish(req, err == QE_SHUTDOWN && member_failed(r) ? QE_IO : err);
}
