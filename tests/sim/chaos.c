/* Clients that write, an operator who changes the membership and moves the leadership, and all kinds of trouble. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

static uint64_t healed_ack, next_command = 1;

/* ---- Clients ------------------------------------------------------------------------------------------------------------- */

struct command {
    struct raft_apply req;
    uint32_t crc;
    bool after_heal;  /* submitted when all trouble was over */
    unsigned attempt; /* of the store's client */
};

static struct { /* the store's client: one command at a time, repeated until it is known to be applied */
    uint64_t session, seq, first_n, used;
    uint64_t result_ino;  /* of the command applied last */
    unsigned attempt;     /* answers to earlier ones do not count */
    uint64_t sent_at;
    bool waiting;
    enum { OPENING, RESERVING, WRITING } phase;
} client;

void client_applied(uint64_t session, uint64_t ino)
{
    (void)session;
    client.result_ino = ino;
}

static void store_command_done(const struct command *c)
{
    if (!client.waiting || c->attempt != client.attempt)
        return;
    client.waiting = false;
    if (client.phase == OPENING) {
        client.session = client.result_ino;
        client.phase = RESERVING;
    } else if (client.phase == RESERVING) {
        client.first_n = client.result_ino;
        client.used = 0;
        client.phase = WRITING;
    } else if (++client.used == STORE_INO_BLOCK) {
        client.phase = RESERVING;
    }
    client.seq++;
}

static void applied_cb(struct raft_apply *req, int status, void *result)
{
    struct command *c = req->data;

    (void)result;
    if (status) {
        world.count.lost++;
        client.waiting = false; /* it may be applied or not: the store's client says it again, with the same number */
        return;
    }
    world.count.acked++;
    check_acknowledged(NULL, req->index, c->crc);
    if (world.opt.store)
        store_command_done(c);
    if (c->after_heal && healed_ack == 0)
        healed_ack = req->index;
}

static void plain_entry(struct member *m, struct buf *entry)
{
    uint8_t bytes[256] = {0};
    uint64_t n = next_command++;
    struct store_bytes cmd = {bytes, 16 + world_random(sizeof bytes - 16)};

    memcpy(bytes, &n, sizeof n);
    if (store_entry_build(sim_cluster_id, guard_term(m->guard), (int64_t)world.now, &cmd, 1, entry))
        abort();
}

static void store_entry(struct member *m, struct buf *entry)
{
    char name[8], text[24];
    struct store_edit edit = {.kind = STORE_EDIT_APPEND};
    struct store_op op = {.kind = client.phase == OPENING ? STORE_OP_SESSION : client.phase == RESERVING ? STORE_OP_RESERVE : STORE_OP_COMMIT};
    struct store_command c = {.session = client.phase == OPENING ? 0 : client.session, .seq = client.phase == OPENING ? 1 : client.seq,
                              .acked = client.seq ? client.seq - 1 : 0, .member = 1, .time_ns = (int64_t)world.now * 1000, .comm = "sim",
                              .ops = &op, .n_ops = 1};
    struct buf encoded = {0};
    struct store_bytes cmd;

    if (op.kind == STORE_OP_COMMIT) {
        snprintf(name, sizeof name, "f%" PRIu64, client.seq % 16);
        snprintf(text, sizeof text, "%" PRIu64 "\n", client.seq);
        edit.bytes = (struct store_bytes){text, strlen(text)};
        op.parent = STORE_ROOT_INO;
        op.name = (struct store_bytes){name, strlen(name)};
        op.new_ino = (client.first_n + client.used) * 4 + STORE_FILE;
        op.mode = 0644;
        op.edits = &edit;
        op.n_edits = 1;
    }
    if (store_command_encode(&c, &encoded))
        abort();
    cmd = (struct store_bytes){encoded.data, encoded.len};
    if (store_entry_build(sim_cluster_id, guard_term(m->guard), (int64_t)world.now, &cmd, 1, entry))
        abort();
    buf_fini(&encoded);
}

static void submit(struct member *m, void *arg)
{
    struct command *c = calloc(1, sizeof *c);
    struct buf entry = {0};
    struct raft_buffer payload;
    int rv;

    (void)arg;
    if (!c)
        abort();
    if (raft_state(m->raft) != RAFT_LEADER)
        return;
    if (world.opt.store)
        store_entry(m, &entry);
    else
        plain_entry(m, &entry);
    payload = (struct raft_buffer){entry.data, entry.len};
    if (store_entry_check(payload.base, payload.len, sim_cluster_id, &c->crc))
        world_fail(m, "simulator: an entry that is not valid");
    c->req.data = c;
    c->after_heal = world.healed;
    c->attempt = ++client.attempt;
    rv = raft_apply(m->raft, &c->req, &payload, 1, applied_cb);
    world.count.commands++;
    if (rv) {
        buf_fini(&entry);
        client.waiting = false;
    }
}

/* Entries of this leader that are not committed; what clients have under way. */
static uint64_t under_way(const struct member *m)
{
    return raft_last_index(m->raft) - guard_commit(m->guard);
}

/* Any member that believes to lead, also one that was deposed without knowing it. */
static struct member *some_leader(void)
{
    struct member *found = NULL;
    unsigned n = 0;

    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (members[i].alive && raft_state(members[i].raft) == RAFT_LEADER && world_random(++n) == 0)
            found = &members[i];
    return found;
}

static void client_turn(struct member *none, void *arg)
{
    struct member *m = some_leader();
    uint64_t pace = world.knobs.client;

    (void)none;
    (void)arg;
    world_after(world_exp(pace), NULL, client_turn, NULL);
    if (!m || under_way(m) >= world.knobs.inflight)
        return;
    if (world.opt.store) {
        if (client.waiting && world.now - client.sent_at < 500 * MS)
            return;
        client.waiting = true;
        client.sent_at = world.now;
    }
    world_after(0, m, submit, NULL);
}

/* ---- Membership ---------------------------------------------------------------------------------------------------------- */

struct change {
    struct raft_change req;
    struct member *removed; /* NULL: none */
    uint64_t id;
    int role;               /* -1: removal */
};

static void retire(struct member *none, void *arg)
{
    struct member *m = arg;

    (void)none;
    member_crash(m, "removed");
    m->retired = true;
}

static void change_cb(struct raft_change *req, int status)
{
    struct change *c = req->data;

    world_log(NULL, "change of m%" PRIu64 " to role %d: status %d", c->id, c->role, status);
    if (status == 0)
        world.count.changes++;
    if (status == 0 && c->removed)
        world_after(world_exp(200 * MS), NULL, retire, c->removed);
}

static bool healthy(const struct member *m)
{
    return m->alive && m->paused_until <= world.now && raft_last_applied(m->raft) + 20 >= check_commit();
}

/* A careful operator changes nothing unless all voters that remain are well. */
static bool may_change(const struct raft *r, uint64_t leaving)
{
    for (unsigned i = 0; i < r->configuration.n && !world.knobs.reckless; i++) {
        const struct raft_server *s = &r->configuration.servers[i];

        if (s->role == RAFT_VOTER && s->id != leaving && !healthy(&members[s->id - 1]))
            return false;
    }
    return true;
}

static struct change *change_new(uint64_t id, int role)
{
    struct change *c = calloc(1, sizeof *c);

    if (!c)
        abort();
    c->req.data = c;
    c->id = id;
    c->role = role;
    return c;
}

static void add(struct member *leader)
{
    struct change *c;
    unsigned i = 0;

    while (i < MEMBERS_MAX && members[i].exists)
        i++;
    if (i == MEMBERS_MAX)
        return;
    c = change_new(members[i].id, RAFT_SPARE);
    if (raft_add(leader->raft, &c->req, members[i].id, members[i].address, change_cb))
        return;
    world_log(leader, "adds m%" PRIu64, members[i].id);
    members[i].fresh = true;
    member_start(&members[i]);
}

static void assign(struct member *leader, uint64_t id, int role)
{
    struct change *c = change_new(id, role);

    world_log(leader, "gives m%" PRIu64 " role %d", id, role);
    raft_assign(leader->raft, &c->req, id, role, change_cb);
}

static void drop(struct member *leader, uint64_t id)
{
    struct change *c = change_new(id, -1);

    c->removed = &members[id - 1];
    world_log(leader, "removes m%" PRIu64, id);
    raft_remove(leader->raft, &c->req, id, change_cb);
}

static void operate(struct member *m, void *arg)
{
    const struct raft *r = m->raft;
    const struct raft_server *s;
    unsigned voters, n;

    (void)arg;
    if (!guard_settled(m->guard) || m->raft->transfer || r->leader_state.change || r->leader_state.promotee_id ||
        r->configuration_uncommitted_index)
        return;
    n = guard_servers(m->guard, &voters);
    s = &r->configuration.servers[world_random(n)];
    if (s->id == m->id) { /* a leader does not remove itself: it hands over first */
        if (n < 8 && may_change(r, 0))
            add(m);
        return;
    }
    if (s->role == RAFT_SPARE && members[s->id - 1].alive && may_change(r, 0)) {
        assign(m, s->id, RAFT_STANDBY);
    } else if (s->role == RAFT_STANDBY && world_chance(700)) {
        if (voters < 7 && (world.knobs.reckless || healthy(&members[s->id - 1])) && may_change(r, 0))
            assign(m, s->id, RAFT_VOTER);
    } else if (s->role != RAFT_VOTER || (voters > 2 && world_chance(500))) {
        if (may_change(r, s->id) && world_chance(500))
            drop(m, s->id);
        else if (s->role == RAFT_VOTER && may_change(r, s->id))
            assign(m, s->id, RAFT_STANDBY);
    }
}

static void transfer(struct member *m, void *arg)
{
    struct raft_transfer *t = calloc(1, sizeof *t);
    uint64_t n = m->raft->configuration.n;

    (void)arg;
    if (!t)
        abort();
    if (raft_state(m->raft) != RAFT_LEADER || m->raft->leader_state.change || m->raft->leader_state.promotee_id)
        return;
    if (raft_transfer(m->raft, t, world_chance(500) ? 0 : m->raft->configuration.servers[world_random(n)].id, NULL) == 0) {
        world.count.transfers++;
        world_log(m, "transfers to m%llu", t->id);
    }
}

/* ---- Trouble ------------------------------------------------------------------------------------------------------------- */

static struct member *some_member(void)
{
    struct member *found = NULL;
    unsigned n = 0;

    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (members[i].exists && !members[i].retired && world_random(++n) == 0)
            found = &members[i];
    return found;
}

static void partition(void)
{
    bool side[MEMBERS_MAX];

    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        side[i] = world_chance(500);
    world_log(NULL, "trouble: partition");
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        for (unsigned j = 0; j < MEMBERS_MAX; j++)
            if (side[i] != side[j])
                net_cut(i, j, true);
}

static void isolate(struct member *m, bool in, bool out)
{
    world_log(m, "trouble: isolated, in %d out %d", in, out);
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        if (i != m->i && out)
            net_cut(m->i, i, true);
        if (i != m->i && in)
            net_cut(i, m->i, true);
    }
}

static void crash_some(void)
{
    bool all = world_chance(100);

    for (unsigned i = 0; i < MEMBERS_MAX && all; i++)
        member_crash(&members[i], "everybody");
    if (!all)
        member_crash(some_member(), "trouble");
}

static void break_some(struct member *m)
{
    struct member *to = some_member();

    world_log(m, "trouble: connection to m%" PRIu64 " breaks", to->id);
    net_break(m->i, to->i);
}

static void pause_some(struct member *m, uint64_t until)
{
    world_log(m, "trouble: pause until %.3f", (double)until / MS);
    if (until > m->paused_until)
        m->paused_until = until;
}

static void make_trouble(void)
{
    const struct knobs *k = &world.knobs;
    struct member *m = some_member(), *leader = member_leader();

    switch (world_random(16)) {
    case 0: case 1: crash_some(); break;
    case 2: if (leader) member_crash(leader, "trouble, leading"); break;
    case 3: partition(); break;
    case 4: isolate(m, true, true); break;
    case 5: isolate(m, world_chance(500), world_chance(500)); break;
    case 6: if (leader) isolate(leader, world_chance(700), world_chance(700)); break;
    case 7: case 8: case 9: net_heal(); break;
    case 10: break_some(m); break;
    case 11: m->disk.slow = !m->disk.slow; break;
    case 12:
        if (world.opt.lives && leader && world_chance(500))
            pause_some(leader, world.now + world_between(100 * MS, 2500 * MS));
        else if (m->alive)
            pause_some(m, world.now + world_between(20 * MS, 400 * MS));
        break;
    case 13:
        if (k->failures && world_chance(850))
            m->disk.fail_append = true;
        else if (k->failures)
            m->disk.fail_meta = true;
        break;
    case 14: if (leader && k->transfers) world_after(0, leader, transfer, NULL); break;
    default: if (leader && k->membership) world_after(0, leader, operate, NULL); break;
    }
}

static void trouble_turn(struct member *none, void *arg)
{
    (void)none;
    (void)arg;
    if (world.healed)
        return;
    make_trouble();
    world_after(world_exp(world.knobs.trouble), NULL, trouble_turn, NULL);
}

static void operator_turn(struct member *none, void *arg)
{
    struct member *leader = member_leader();

    (void)none;
    (void)arg;
    if (world.healed)
        return;
    if (leader)
        world_after(0, leader, operate, NULL);
    world_after(world_exp(150 * MS), NULL, operator_turn, NULL);
}

/* Whatever has crashed comes back. */
static void restart_turn(struct member *none, void *arg)
{
    (void)none;
    (void)arg;
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (members[i].exists && !members[i].retired && !members[i].alive && (world.healed || world_chance(80)))
            member_start(&members[i]);
    world_after(20 * MS, NULL, restart_turn, NULL);
}

void chaos_start(void)
{
    if (!world.opt.lives)
        world_after(world.knobs.client, NULL, client_turn, NULL);
    world_after(world.knobs.trouble, NULL, trouble_turn, NULL);
    world_after(20 * MS, NULL, restart_turn, NULL);
    if (world.knobs.membership)
        world_after(300 * MS, NULL, operator_turn, NULL);
}

void chaos_heal(void)
{
    world_log(NULL, "HEALED");
    world.healed = true;
    net_heal();
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        members[i].disk.slow = members[i].disk.fail_append = members[i].disk.fail_meta = false;
}

void chaos_acked(uint64_t index)
{
    if (healed_ack == 0)
        healed_ack = index;
}

uint64_t chaos_acked_since(void)
{
    return healed_ack;
}
