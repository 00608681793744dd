/* The life of a member: libraft with the guard around our disk and network, from start to crash. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

enum { ELECTION_MS = 100, HEARTBEAT_MS = 10, INSTALL_MS = 1500 };

struct member members[MEMBERS_MAX];

static struct member *member_of(struct raft_io *io)
{
    return io->impl;
}

/* ---- struct raft_io ------------------------------------------------------------------------------------------------------ */

static int io_init(struct raft_io *io, raft_id id, const char *address)
{
    (void)io;
    (void)id;
    (void)address;
    return 0;
}

static void io_close(struct raft_io *io, raft_io_close_cb cb)
{
    (void)io;
    (void)cb; /* members only crash */
}

static int io_load(struct raft_io *io, raft_term *term, raft_id *vote, struct raft_snapshot **snapshot, raft_index *start,
                   struct raft_entry *entries[], size_t *n)
{
    return disk_load(member_of(io), term, vote, snapshot, start, entries, n);
}

static void ticked(struct member *m, void *arg)
{
    (void)arg;
    m->tick(m->io);
    world_after(HEARTBEAT_MS * MS, m, ticked, NULL);
}

static int io_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
    struct member *m = member_of(io);

    (void)msecs;
    m->tick = tick;
    m->recv = recv;
    world_after(world_between(1, HEARTBEAT_MS * MS), m, ticked, NULL);
    return 0;
}

static int io_set_term(struct raft_io *io, raft_term term)
{
    struct disk *d = &member_of(io)->disk;

    if (d->fail_meta)
        return RAFT_IOERR;
    d->term = term;
    d->vote = 0;
    return 0;
}

static int io_set_vote(struct raft_io *io, raft_id id)
{
    struct disk *d = &member_of(io)->disk;

    if (d->fail_meta)
        return RAFT_IOERR;
    d->vote = id;
    return 0;
}

static int io_send(struct raft_io *io, struct raft_io_send *req, const struct raft_message *message, raft_io_send_cb cb)
{
    return net_send(member_of(io), req, message, cb);
}

static int io_append(struct raft_io *io, struct raft_io_append *req, const struct raft_entry entries[], unsigned n, raft_io_append_cb cb)
{
    return disk_append(member_of(io), req, entries, n, cb);
}

static int io_truncate(struct raft_io *io, raft_index index)
{
    return disk_truncate(member_of(io), index);
}

static int io_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req, const struct raft_snapshot *snapshot,
                           raft_io_snapshot_put_cb cb)
{
    return disk_put(member_of(io), trailing, req, snapshot, cb);
}

static int io_snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *req, raft_io_snapshot_get_cb cb)
{
    return disk_get(member_of(io), req, cb);
}

static raft_time io_time(struct raft_io *io)
{
    (void)io;
    return world.now / MS;
}

static int io_random(struct raft_io *io, int min, int max)
{
    (void)io;
    return min + (int)world_random((uint64_t)(max - min));
}

static void work_done(struct member *m, void *arg)
{
    struct raft_io_async_work *req = arg;

    (void)m;
    req->cb(req, req->work(req));
}

static int io_async_work(struct raft_io *io, struct raft_io_async_work *req, raft_io_async_work_cb cb)
{
    req->cb = cb;
    world_after(world_between(100, 10 * MS), member_of(io), work_done, req);
    return 0;
}

/* ---- The guard's hooks --------------------------------------------------------------------------------------------------- */

static void hook_fail(void *data, const char *what)
{
    struct member *m = data;

    world_log(m, "guard: %s", what);
    world.count.stops++;
    m->dying = true;
}

static void hook_tick(void *data)
{
    struct member *m = data;

    fsm_tick(m);
    if (m->lives)
        lives_tick(m);
}

static void hook_written(void *data, int64_t ns)
{
    (void)data;
    (void)ns;
}

static void hook_install(void *data, raft_id leader, const struct raft_install_snapshot *snapshot)
{
    fsm_install(data, leader, snapshot);
}

/* In each eighth seed a third of the members has too much to apply at any moment, in turns. Nothing is left to chance here, so that other
 * seeds stay what they are. */
static bool hook_full(void *data)
{
    const struct member *full = data;

    return !world.healed && world.opt.seed % 8 == 6 && (world.now / (40 * MS) + full->i) % 3 == 0;
}

/* ---- Life ---------------------------------------------------------------------------------------------------------------- */

static void *fresh(size_t size)
{
    void *p = calloc(1, size);

    if (!p)
        abort();
    return p;
}

static void build(struct member *m)
{
    const struct guard_hooks hooks = {m, hook_fail, hook_tick, hook_written, hook_install, hook_full, NULL};

    world_set_clock();
    m->lives = NULL;
    if (world.opt.lives) {
        lives_open(m);
    } else {
        m->raft = fresh(sizeof *m->raft);
        m->guard = fresh(sizeof *m->guard);
    }
    m->io = fresh(sizeof *m->io);
    m->fsm_calls = fresh(sizeof *m->fsm_calls);
    *m->io = (struct raft_io){.version = 2, .impl = m, .init = io_init, .close = io_close, .load = io_load, .start = io_start,
                              .set_term = io_set_term, .set_vote = io_set_vote, .send = io_send, .append = io_append,
                              .truncate = io_truncate, .snapshot_put = io_snapshot_put, .snapshot_get = io_snapshot_get,
                              .time = io_time, .random = io_random, .async_work = io_async_work};
    m->guard->off = world.opt.off;
    m->guard->message_entries = world.knobs.message_entries;
    m->guard->store = fsm_position(m);
    m->guard->may_be_empty = m->fresh;
    m->guard->marker_bytes = world.knobs.marker_bytes ? world.knobs.marker_bytes : UINT64_MAX;
    memcpy(m->guard->cluster_id, sim_cluster_id, STORE_CLUSTER_ID_SIZE);
    guard_install(m->guard, m->raft, m->io, &hooks);
    fsm_attach(m);
}

void member_start(struct member *m)
{
    int rv;

    m->exists = true;
    m->alive = true;
    m->life++;
    m->dying = false;
    m->paused_until = 0;
    m->inflight = 0;
    m->seen_commit = 0;
    m->led_term = 0;
    fsm_open(m);
    build(m);
    rv = raft_init(m->raft, m->io, m->fsm_calls, m->id, m->address);
    if (rv)
        world_fail(m, "raft_init: %s", raft_strerror(rv));
    guard_configure(m->guard, ELECTION_MS, HEARTBEAT_MS);
    raft_set_install_snapshot_timeout(m->raft, INSTALL_MS);
    m->seen_commit = m->disk.snapshot.index;
    rv = raft_start(m->raft);
    if (rv && m->disk.fail_meta) { /* its disk refuses the first write: it is started again later */
        member_crash(m, "does not start");
        return;
    }
    if (rv)
        world_fail(m, "does not start: %s", m->guard->why.len ? buf_cstr(&m->guard->why) : raft_errmsg(m->raft));
    world_log(m, "started: term %" PRIu64 ", log to %llu, snapshot %" PRIu64 ", database at %" PRIu64, guard_term(m->guard),
              raft_last_index(m->raft), guard_snapshot_index(m->guard), m->fsm.applied);
    if (m->lives)
        lives_start(m);
    check_member(m);
}

void member_crash(struct member *m, const char *why)
{
    if (!m->alive)
        return;
    world_log(m, "CRASH: %s", why);
    world.count.crashes++;
    m->alive = false;
    disk_crash(m);
    fsm_crash(m);
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        net_break(m->i, i);
        net_break(i, m->i);
    }
}

struct member *member_leader(void)
{
    struct member *best = NULL;

    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        struct member *m = &members[i];

        if (m->alive && m->paused_until <= world.now && raft_state(m->raft) == RAFT_LEADER &&
            (!best || guard_term(m->guard) > guard_term(best->guard)))
            best = m;
    }
    return best;
}

void member_describe(const struct member *m)
{
    static const char *const states[] = {"unavailable", "follower", "candidate", "leader"};
    const struct raft *r = m->raft;

    if (!m->exists)
        return;
    if (!m->alive) {
        printf("  m%" PRIu64 " %s\n", m->id, m->retired ? "removed" : "down");
        return;
    }
    printf("  m%" PRIu64 " %s term %llu voted %llu last %llu/%" PRIu64 " stored %llu commit %llu applied %llu snapshot %llu database %" PRIu64
           " appends %u%s%s%s config@%llu/%llu", m->id, states[r->state], r->current_term, r->voted_for, raft_last_index(m->raft),
           guard_term_of(m->guard, raft_last_index(m->raft)), r->last_stored, r->commit_index, r->last_applied, r->log.snapshot.last_index,
           m->fsm.applied, m->guard->appends, m->guard->holding ? " holding" : "", m->guard->snapshotting ? " snapshotting" : "",
           m->guard->truncating ? " truncating" : "", r->configuration_index, r->configuration_uncommitted_index);
    for (unsigned i = 0; i < r->configuration.n; i++) {
        printf(" %llu%c", r->configuration.servers[i].id, "sv-"[r->configuration.servers[i].role]);
        if (r->state == RAFT_LEADER)
            printf("(%d next %llu match %llu)", r->leader_state.progress[i].state, r->leader_state.progress[i].next_index,
                   r->leader_state.progress[i].match_index);
    }
    putchar('\n');
}
