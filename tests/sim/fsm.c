/* The state machine of a simulated member: a chain of hashes, or with -f the real store in a directory of its own. Like the real one
 * it loses at a crash what it applied after the last marker, and gets its state from another member when it lags:
 *
 *   hold  ->  staged  ->  CURRENT names it  ->  message released  ->  libraft writes the snapshot  ->  restore
 *
 * A crash may come between any two of these. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replica/marker.h"
#include "sim.h"

const uint8_t sim_cluster_id[STORE_CLUSTER_ID_SIZE] = "simulated member";

struct work { /* between snapshot and snapshot_finalize */
    struct member *m;
    uint64_t index, term;
    struct raft_buffer buf;
    uint8_t bytes[MARKER_SIZE];
};

/* ---- The real store ------------------------------------------------------------------------------------------------------ */

static void result_cb(void *data, const struct store_result *r)
{
    struct member *m = data;

    if (m->lives) {
        lives_result(m, r);
        return;
    }
    if (r->err == 0 && !r->kept && r->session) /* a SESSION has a nonce for its number */
        check_once(m, r->seq, raft_last_applied(m->raft) + 1);
    client_applied(r->session, r->ino);
}

static void store_do(struct member *m, int err, const char *what)
{
    if (err)
        world_fail(m, "%s: %s (%s)", what, qfs_strerror(err), m->fsm.store ? store_errmsg(m->fsm.store) : "");
}

static void look_at_hash(struct member *m, uint64_t index)
{
    int64_t rev;
    uint64_t hash;

    store_do(m, store_hash(m->fsm.reader, &rev, &hash), "store_hash");
    check_state(m, index, rev, hash);
}

static void store_begin(struct member *m)
{
    static const char *const settings[][2] = {{"session-ttl", "1s"}};
    struct store_initial made = {.epoch = 1, .time_ns = 1};
    char addresses[MEMBERS_MAX][24];
    struct store_member list[MEMBERS_MAX];
    struct store_options options = {.dir = m->fsm.dir, .cache_bytes = 1 << 20, .reader_cache_bytes = 1 << 18};
    struct store_position pos;
    struct buf why = {0};
    int err = 0;

    if (world.opt.lives) {
        for (unsigned i = 0; i < world.opt.members; i++) {
            snprintf(addresses[i], sizeof addresses[i], "127.0.0.1:%u", i + 1);
            list[i] = (struct store_member){.id = i + 1, .address = addresses[i], .role = STORE_MEMBER_VOTER};
        }
        made.members = list;
        made.n_members = world.opt.members;
        made.settings = settings;
        made.n_settings = 1;
    }
    memcpy(made.cluster_id, sim_cluster_id, STORE_CLUSTER_ID_SIZE);
    if (!m->fsm.has_dir) {
        snprintf(m->fsm.dir, sizeof m->fsm.dir, "sim.%d.%u", (int)getpid(), m->i);
        if (mkdir(m->fsm.dir, 0700))
            world_fail(m, "simulator: cannot make \"%s\"", m->fsm.dir);
        m->fsm.has_dir = true;
        err = store_create(m->fsm.dir, &made, &why);
    }
    if (!err)
        err = store_open(&options, &m->fsm.store, &why);
    if (err)
        world_fail(m, "cannot open the store: %s", buf_cstr(&why));
    store_do(m, store_reader_open(m->fsm.store, &m->fsm.reader), "store_reader_open");
    store_position(m->fsm.store, &pos);
    m->fsm.applied = pos.applied;
}

static void store_end(struct member *m)
{
    store_reader_close(m->fsm.reader);
    store_close(m->fsm.store);
    m->fsm.reader = NULL;
    m->fsm.store = NULL;
}

static void copy_dir(struct member *to, const struct member *from)
{
    char command[512];

    snprintf(command, sizeof command, "rm -rf %s && cp -r %s %s && rm -f %s/*-shm", to->fsm.dir, from->fsm.dir, to->fsm.dir, to->fsm.dir);
    if (system(command) != 0)
        world_fail(to, "simulator: cannot copy a database");
}

/* ---- Callbacks of libraft ------------------------------------------------------------------------------------------------ */

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result)
{
    struct member *m = fsm->data;
    uint64_t index = raft_last_applied(m->raft) + 1, term = guard_term_of(m->guard, index);
    const struct store_sink sink = {.data = m, .result = result_cb, .lives = m->lives ? lives_told : NULL, .locks = m->lives ? lives_locks : NULL};
    uint32_t crc = 0;
    bool news = index > m->fsm.applied;

    *result = NULL;
    if (store_entry_check(buf->base, buf->len, sim_cluster_id, &crc))
        world_fail(m, "entry %" PRIu64 " is damaged", index);
    check_applied(m, index, term, crc, news);
    if (news) {
        if (m->fsm.store) {
            store_do(m, store_apply(m->fsm.store, &(struct store_entry){index, term, {buf->base, buf->len}}, 1, &sink), "store_apply");
            look_at_hash(m, index);
        }
        m->fsm.applied = index;
        if (m->lives)
            lives_applied(m, index);
    }
    guard_marker_consider(m->guard);
    return 0;
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct member *m = fsm->data;
    struct work *w;

    if (!guard_may_snapshot(m->guard))
        return RAFT_BUSY;
    w = calloc(1, sizeof *w);
    if (!w)
        abort();
    *w = (struct work){.m = m, .index = raft_last_applied(m->raft)};
    w->term = guard_term_of(m->guard, w->index);
    w->buf = (struct raft_buffer){w->bytes, sizeof w->bytes};
    guard_marker_begun(m->guard);
    raft_set_snapshot_trailing(m->raft, (unsigned)world_between(1, world.knobs.trailing_max));
    *bufs = &w->buf;
    *n_bufs = 1;
    return 0;
}

static struct work *work_of(struct raft_buffer *buf)
{
    return (struct work *)((char *)buf - offsetof(struct work, buf));
}

static int fsm_snapshot_async(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct work *w = work_of(*bufs);
    struct fsm *f = &w->m->fsm;
    uint64_t durable;

    (void)fsm;
    (void)n_bufs;
    if (f->applied < w->index) { /* what came after the last command carries none */
        if (f->store)
            store_do(w->m, store_lift(f->store, w->index, w->term), "store_lift");
        f->applied = w->index;
    }
    if (f->store)
        store_do(w->m, store_sync(f->store, &durable), "store_sync");
    f->synced = f->applied;
    marker_encode(&(struct marker){w->index, w->term, 0, 0}, w->bytes);
    return 0;
}

static int fsm_snapshot_finalize(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    (void)fsm;
    if (*bufs)
        free(work_of(*bufs));
    *bufs = NULL;
    *n_bufs = 0;
    return 0;
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
    struct member *m = fsm->data;
    struct marker marker;

    if (marker_decode(buf->base, buf->len, &marker))
        world_fail(m, "a damaged marker");
    if (m->fsm.applied < marker.index)
        world_fail(m, "the log was cut at %" PRIu64 ", but the database is at %" PRIu64, marker.index, m->fsm.applied);
    raft_free(buf->base);
    return 0;
}

void fsm_attach(struct member *m)
{
    *m->fsm_calls = (struct raft_fsm){.version = 3, .data = m, .apply = fsm_apply, .snapshot = fsm_snapshot, .restore = fsm_restore,
                                      .snapshot_finalize = fsm_snapshot_finalize, .snapshot_async = fsm_snapshot_async};
}

/* ---- Start and crash ----------------------------------------------------------------------------------------------------- */

void fsm_open(struct member *m)
{
    if (world.opt.store)
        store_begin(m);
}

static uint64_t hash_at(uint64_t index)
{
    while (index > 0 && check_crc_of(index) == 0)
        index--;
    return check_hash_of(index);
}

void fsm_crash(struct member *m)
{
    struct fsm *f = &m->fsm;
    uint64_t left = f->synced + world_random(f->applied - f->synced + 1);

    f->stream++;
    if (world.opt.store) { /* a killed process loses nothing that SQLite has committed */
        store_end(m);
        return;
    }
    while (left > f->synced && check_crc_of(left) == 0)
        left--;
    f->applied = left;
    f->hash = hash_at(left);
}

struct store_position fsm_position(struct member *m)
{
    struct store_position p = {.applied = m->fsm.applied, .installed_at = m->fsm.installed_at, .epoch = 1};

    if (m->fsm.store) {
        store_position(m->fsm.store, &p);
        p.installed_at = m->fsm.installed_at;
        return p;
    }
    if (p.applied) {
        p.term = check_term_of(p.applied);
        p.crc = check_crc_of(p.applied);
    }
    return p;
}

/* ---- Installing ---------------------------------------------------------------------------------------------------------- */

struct stream { /* a database on its way to a member */
    unsigned number;
    unsigned from;    /* place of the member that it comes from */
    unsigned life;    /* that one's */
    uint64_t marker;  /* the snapshot that waits for it */
    uint64_t applied; /* of the database */
};

static bool crash_between_steps(struct member *m)
{
    if (world.healed || !world_chance(60))
        return false;
    member_crash(m, "between two steps of an install");
    return true;
}

static void stream_release(struct member *m, void *arg)
{
    struct stream *s = arg;

    if (s->number != m->fsm.stream)
        return;
    if (!guard_install_release(m->guard))
        world_after(2 * MS, m, stream_release, s);
    else
        world.count.installs++;
}

static void stream_switch(struct member *m, void *arg)
{
    struct stream *s = arg;
    struct fsm *f = &m->fsm;

    if (s->number != f->stream)
        return;
    if (s->applied > f->applied) {
        world_log(m, "install: CURRENT names a database at %" PRIu64 ", marker %" PRIu64, s->applied, s->marker);
        if (f->store) {
            store_end(m);
            copy_dir(m, &members[s->from]);
            fsm_open(m);
            s->applied = f->applied;
            look_at_hash(m, f->applied);
        }
        f->applied = f->synced = f->installed_at = s->applied;
        f->hash = hash_at(s->applied);
        if (m->lives)
            lives_installed(m);
    }
    if (!crash_between_steps(m))
        world_after(world_between(100, 5 * MS), m, stream_release, s);
}

static void stream_staged(struct member *m, void *arg)
{
    struct stream *s = arg;
    struct member *from = &members[s->from];

    if (s->number != m->fsm.stream)
        return;
    if (!from->alive || from->life != s->life) { /* its source is gone: the leader sends the snapshot again */
        guard_install_drop(m->guard);
        return;
    }
    if (!crash_between_steps(m))
        world_after(world_between(100, 5 * MS), m, stream_switch, s);
}

void fsm_install(struct member *m, uint64_t leader, const struct raft_install_snapshot *args)
{
    struct stream *s = calloc(1, sizeof *s);
    struct member *from = &members[leader - 1];

    if (!s)
        abort();
    *s = (struct stream){++m->fsm.stream, from->i, from->life, args->last_index, from->fsm.applied};
    world_log(m, "install: held, marker %llu, database of m%" PRIu64 " at %" PRIu64, args->last_index, leader, from->fsm.applied);
    if (!from->alive || from->fsm.applied < args->last_index)
        world_after(1 * MS, m, stream_staged, s); /* will be dropped */
    else
        world_after(world_between(2 * MS, 100 * MS), m, stream_staged, s);
    if (from->alive && from->fsm.applied < args->last_index)
        s->life = 0;
}

/* The database of an install is ahead of our log; when raft has come there by itself, the two are compared again at a start. */
void fsm_tick(struct member *m)
{
    if (m->fsm.installed_at && raft_last_applied(m->raft) >= m->fsm.installed_at)
        m->fsm.installed_at = 0;
}
