#include "replica/applier.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "replica/member.h"
#include "store/base/clock.h"
#include "store/base/failpoint.h"
#include "store/base/log.h"

enum {
    BATCH_ENTRIES = 32,        /* in one SQLite transaction, */
    BATCH_BYTES = 256 << 10,   /* unless one entry is larger: a few milliseconds of work */
    SLICE_MS = 4,              /* of compaction, when there is nothing to apply, */
    SLICE_BUSY_MS = 1,         /* or between two batches: */
    NO_SLICE = -1,
    REST = 4,                  /* as long as so many of them nothing is compacted then */
    WAL_FULL_PAUSE_MS = 2,     /* between tries to shorten the WAL when a reader holds it */
    QUEUE_FIRST = 64,          /* items that the ring holds at first */
};
#define MS INT64_C(1000000)
static const int64_t IDLE_NS = 300 * MS;              /* without work: time for a checkpoint */
static const int64_t COMPACT_BUSY_NS = 1000 * MS;     /* how often compaction is looked at under load */
static const int64_t COMPACT_SHORT_NS = 50 * MS;      /* while the disk fills up */
static const int64_t SHORT_LOG_NS = 60 * 1000 * MS;   /* how often that is told */
static const int64_t COMPACT_IDLE_NS = 60 * 1000 * MS; /* and when only time passes */
static const int64_t CHECKPOINT_NS = 1 * MS;          /* upkeep that takes longer than this has written the database */

/* ---- The queue ----------------------------------------------------------------------------------------------------------- */

static size_t behind_bytes(void)
{
#ifdef QFS_FAILPOINTS /* tests have less patience, and less memory */
    const char *env = getenv("QUORUMFS_TEST_BEHIND_BYTES");

    if (env && strtoull(env, NULL, 10) > 0)
        return strtoull(env, NULL, 10);
#endif
    return MEMBER_BEHIND_BYTES;
}

int applier_init(struct replica *r)
{
    struct applier *a = &r->applier;
    pthread_condattr_t attr;

    pthread_mutex_init(&a->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&a->more, &attr);
    pthread_cond_init(&a->done, &attr);
    pthread_condattr_destroy(&attr);
    a->behind_bytes = behind_bytes();
    a->items = calloc(QUEUE_FIRST, sizeof *a->items);
    a->cap = a->items ? QUEUE_FIRST : 0;
    return a->items ? 0 : QE_NOMEM;
}

/* The ring doubles: at start the whole log passes through it, later it holds a handful. */
static int grow(struct applier *a)
{
    struct applier_item *items = calloc(a->cap * 2, sizeof *items);

    if (!items)
        return QE_NOMEM;
    for (size_t i = 0; i < a->n; i++)
        items[i] = a->items[(a->head + i) % a->cap];
    free(a->items);
    a->items = items;
    a->head = 0;
    a->cap *= 2;
    return 0;
}

int applier_push(struct replica *r, const struct applier_item *item)
{
    struct applier *a = &r->applier;
    int err = 0;

    pthread_mutex_lock(&a->lock);
    if (a->dead)
        err = QE_IO;
    else if (a->n == a->cap)
        err = grow(a);
    if (!err) {
        a->items[(a->head + a->n) % a->cap] = *item;
        a->n++;
        if (item->kind == APPLIER_ENTRY) {
            a->bytes += item->data.len;
            atomic_store(&a->pushed, item->index);
        }
        pthread_cond_signal(&a->more);
    }
    pthread_mutex_unlock(&a->lock);
    return err;
}

static bool has_more_than(struct replica *r, size_t bytes)
{
    bool more;

    pthread_mutex_lock(&r->applier.lock);
    more = r->applier.bytes > bytes;
    pthread_mutex_unlock(&r->applier.lock);
    return more;
}

bool applier_full(struct replica *r)
{
    return has_more_than(r, MEMBER_APPLY_QUEUE_BYTES);
}

bool applier_behind(struct replica *r)
{
    return has_more_than(r, r->applier.behind_bytes);
}

bool applier_idle(struct replica *r)
{
    struct applier *a = &r->applier;
    bool idle;

    pthread_mutex_lock(&a->lock);
    idle = a->n == 0 && !a->working && !a->dead;
    pthread_mutex_unlock(&a->lock);
    return idle;
}

void applier_answer(struct replica *r, struct replica_request *list)
{
    struct store_glance glance;

    store_glance(r->store, &glance);
    while (list) {
        struct replica_request *next = list->priv.next;

        hist_add(&r->barrier_time, clock_boottime_ns() - list->priv.submitted_ns);
        list->cb(list, 0, glance.rev, 0);
        list = next;
    }
}

int applier_wait_sync(struct replica *r, struct applier_sync *s)
{
    struct applier *a = &r->applier;

    pthread_mutex_lock(&a->lock);
    while (!s->done)
        pthread_cond_wait(&a->done, &a->lock);
    pthread_mutex_unlock(&a->lock);
    return s->err;
}

void applier_kill(struct replica *r)
{
    struct applier *a = &r->applier;

    pthread_mutex_lock(&a->lock);
    a->dead = true;
    pthread_cond_broadcast(&a->more);
    pthread_cond_broadcast(&a->done);
    pthread_mutex_unlock(&a->lock);
}

void applier_drain(struct replica *r)
{
    struct applier *a = &r->applier;

    pthread_mutex_lock(&a->lock);
    while ((a->n > 0 || a->working) && !a->dead)
        pthread_cond_wait(&a->done, &a->lock);
    pthread_mutex_unlock(&a->lock);
}

static void sync_done(struct applier *a, struct applier_sync *s, int err)
{
    pthread_mutex_lock(&a->lock);
    s->err = err;
    s->done = true;
    pthread_cond_broadcast(&a->done);
    pthread_mutex_unlock(&a->lock);
}

/* Those who wait for something in a queue that will not be worked on are told so. */
static void discard(struct replica *r)
{
    struct applier *a = &r->applier;
    struct applier_item item;
    bool any = true;

    while (any) {
        pthread_mutex_lock(&a->lock);
        any = a->n > 0;
        if (any) {
            item = a->items[a->head];
            a->head = (a->head + 1) % a->cap;
            a->n--;
        }
        pthread_mutex_unlock(&a->lock);
        if (any && item.kind == APPLIER_BARRIER)
            submit_end(r, item.barrier, QE_IO);
        if (any && (item.kind == APPLIER_SYNC || item.kind == APPLIER_EXPORT))
            sync_done(a, item.sync, QE_IO);
    }
}

/* ---- Applying (store thread) --------------------------------------------------------------------------------------------- */

static void result_cb(void *data, const struct store_result *result)
{
    submit_result(data, result);
}

static void changed_cb(void *data, const struct store_change *changes, size_t n)
{
    struct replica *r = data;

    if (r->opt.changed)
        r->opt.changed(r->opt.data, changes, n);
}

static int open_reader(struct replica *r)
{
    return r->applier.reader ? 0 : store_reader_open(r->store, &r->applier.reader);
}

static void locks_cb(void *data, const struct store_lock_event *events, size_t n)
{
    struct replica *r = data;

    if (r->opt.locks)
        r->opt.locks(r->opt.data, events, n, replica_session(r));
}

enum { GONE_AT_ONCE = 64 };

static void tell_gone(struct replica *r, const struct store_life_event *events, size_t n)
{
    uint64_t ids[GONE_AT_ONCE];
    size_t n_ids = 0;

    for (size_t i = 0; i < n; i++) {
        if (events[i].kind == STORE_LIFE_LEASE_GONE)
            ids[n_ids++] = events[i].id;
        if (n_ids == GONE_AT_ONCE || (n_ids > 0 && i + 1 == n)) {
            r->opt.leases_gone(r->opt.data, ids, n_ids);
            n_ids = 0;
        }
    }
}

static void lives_cb(void *data, const struct store_life_event *events, size_t n)
{
    struct replica *r = data;

    tenure_feed(r, events, n);
    if (r->opt.leases_gone)
        tell_gone(r, events, n);
}

/* Before any result of the batch is told: who added a member finds it in the table. */
static void members_cb(void *data)
{
    struct replica *r = data;
    int err = open_reader(r);

    if (!err)
        err = member_table_load(&r->members, r->applier.reader);
    if (err)
        member_fail(r, "cannot read the table of members: %s", qfs_strerror(err));
    else
        loop_members_changed(r);
}

static void pause_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * MS};

    nanosleep(&t, NULL);
}

/* Fail-stop with what the store says about it. */
static void fail(struct replica *r, const char *doing, int err)
{
    const char *detail = store_errmsg(r->store);

    member_fail(r, "cannot %s: %s%s%s", doing, qfs_strerror(err), *detail ? ": " : "", detail);
}

/* True: there is more to do. */
static bool maintain(struct replica *r, int slice_ms, bool idle)
{
    int64_t start = clock_boottime_ns(), took;
    bool more = false;
    int err = store_maintain(r->store, slice_ms, idle, &more);

    took = clock_boottime_ns() - start;
    if (took >= CHECKPOINT_NS)
        hist_add(&r->checkpoint_time, took);
    if (err == QE_DISKFULL && dir_ballast_release(&r->dir)) {
        log_warn("replica", "gave up the ballast of \"%s\" for a checkpoint", r->dir.path);
        atomic_store(&r->disk_full, true);
        return true;
    }
    if (err)
        fail(r, "maintain the database", err);
    return !err && more;
}

/* A WAL above its hard limit must shrink before it may grow; a reader in a transaction can hold it for a moment. */
static void shorten_wal(struct replica *r)
{
    while (store_wal_full(r->store) && !member_failed(r)) {
        maintain(r, NO_SLICE, false);
        if (store_wal_full(r->store))
            pause_ms(WAL_FULL_PAUSE_MS);
    }
}

static int apply_entries(struct replica *r, const struct store_entry *entries, size_t n)
{
    struct store_sink sink = {.data = r, .result = result_cb, .changed = changed_cb, .members = members_cb,
                              .locks = locks_cb, .lives = lives_cb};
    char doing[48];
    int err;

    shorten_wal(r);
    err = FAILPOINT("replica.store") ? QE_IO : store_apply(r->store, entries, n, &sink);
    if (err == QE_DISKFULL && dir_ballast_release(&r->dir)) { /* nothing has changed: the same again, with room */
        log_warn("replica", "gave up the ballast of \"%s\" to apply entry %" PRIu64, r->dir.path, entries[0].index);
        atomic_store(&r->disk_full, true);
        err = store_apply(r->store, entries, n, &sink);
    }
    if (err) {
        snprintf(doing, sizeof doing, "apply entry %" PRIu64, entries[0].index);
        fail(r, doing, err);
    }
    return err;
}

/* Members compare their states as of the same entries. */
static void note_state(struct replica *r)
{
    uint64_t hash;
    int64_t rev;

    if (r->applier.last_entry == 0)
        return;
    store_state(r->store, &rev, &hash);
    standing_point(r, r->applier.last_entry, rev, hash);
}

/* What is queued behind a switch to another member's database may be in that one already: then the store is farther than the entry. */
static void pass_over_applied(struct replica *r, const struct applier_item **items, size_t *n)
{
    struct store_position pos;

    store_position(r->store, &pos);
    while (*n > 0 && (*items)->index <= pos.applied) {
        ++*items;
        --*n;
    }
}

static void apply_batch(struct replica *r, const struct applier_item *items, size_t n)
{
    struct store_entry entries[BATCH_ENTRIES];
    int64_t now;

    pass_over_applied(r, &items, &n);
    if (n == 0)
        return;
    for (size_t i = 0; i < n; i++)
        entries[i] = (struct store_entry){items[i].index, items[i].term, items[i].data};
    atomic_store(&r->applier.applying, items[n - 1].index);
    if (apply_entries(r, entries, n))
        return;
    atomic_store(&r->applier.applied, items[n - 1].index);
    r->applier.last_entry = items[n - 1].index;
    if (items[n - 1].index % STANDING_STRIDE == 0)
        note_state(r);
    if (FAILPOINT("replica.applied"))
        member_fail(r, "failpoint after applying entry %" PRIu64, items[n - 1].index);
    now = clock_boottime_ns();
    for (size_t i = 0; i < n; i++)
        hist_add(&r->apply_time, now - items[i].queued_ns);
}

void applier_installed(struct replica *r, uint64_t index)
{
    uint64_t pushed = atomic_load(&r->applier.pushed);

    r->applier.last_entry = index;
    while (index > pushed && !atomic_compare_exchange_weak(&r->applier.pushed, &pushed, index))
        ;
    atomic_store(&r->applier.applying, index);
    atomic_store(&r->applier.applied, index);
    members_cb(r);
    if (r->applier.reader)
        tenure_feed_anew(r, r->applier.reader);
}

/* The mark of an install goes when raft's log has come to it: then the database is an ordinary one again. */
static void end_install(struct replica *r)
{
    struct store_position pos;

    store_position(r->store, &pos);
    if (pos.installed_at != 0 && atomic_load(&r->raft_applied) >= pos.installed_at && store_installed(r->store))
        member_fail(r, "cannot write CURRENT");
}

/* The database of a marker must not be behind its index, whatever kind of entry stands there. */
static int make_durable(struct replica *r, struct applier_sync *s)
{
    struct applier *a = &r->applier;
    struct store_position pos;
    uint64_t index;
    int err;

    store_position(r->store, &pos);
    if (pos.applied < s->index) {
        err = store_lift(r->store, s->index, s->term);
        if (err)
            return err;
        atomic_store(&a->applied, s->index);
    }
    if (FAILPOINT("replica.marker"))
        return QE_IO;
    err = store_sync(r->store, &index);
    if (!err && index < s->index)
        return QE_IO;
    if (!err)
        err = open_reader(r);
    return err ? err : store_hash(a->reader, &s->rev, &s->hash);
}

static void work(struct replica *r, const struct applier_item *items, size_t n)
{
    int err;

    switch (items[0].kind) {
    case APPLIER_ENTRY:
        apply_batch(r, items, n);
        break;
    case APPLIER_BARRIER:
        applier_answer(r, items[0].barrier);
        break;
    case APPLIER_SYNC:
        err = make_durable(r, items[0].sync);
        sync_done(&r->applier, items[0].sync, err);
        if (err)
            fail(r, "make the database durable", err);
        break;
    case APPLIER_EXPORT:
        err = store_export_begin(r->store, items[0].sync->export);
        sync_done(&r->applier, items[0].sync, err);
        if (err == QE_IO || err == QE_CORRUPT)
            fail(r, "begin a copy of the database", err);
        break;
    case APPLIER_EXPORT_END: /* upkeep follows */
        break;
    case APPLIER_SWITCH:
        install_switch(r);
        break;
    }
}

/* ---- Upkeep (store thread) ----------------------------------------------------------------------------------------------- */

static void compacted_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct replica *r = req->data;

    (void)rev;
    (void)ino;
    if (err && err != QE_SHUTDOWN && err != QE_STALE) /* another leader has done it, or somebody by hand */
        log_warn("replica", "compaction was not done: %s", qfs_strerror(err));
    atomic_store(&r->applier.compacting, false);
}

/* History that goes because the leader's disk fills up; 0: none. */
static int64_t make_room(struct replica *r)
{
    struct applier *a = &r->applier;
    int64_t passed = 0, rev = disk_short(r, store_reusable_bytes(r->store)) ? store_compact_half(r->store, &passed) : 0;

    if (rev && a->compact_asked_ns - a->short_logged_ns > SHORT_LOG_NS) {
        a->short_logged_ns = a->compact_asked_ns;
        log_warn("replica", "the disk of \"%s\" is filling up: history before revision %" PRId64 " makes room free=%" PRId64 " bookmarks_passed=%" PRId64,
                 r->dir.path, rev, atomic_load(&r->free_bytes), passed);
    }
    return rev;
}

/* The leader proposes what `retain` asks for; every member then forgets the same. */
static void propose_compaction(struct replica *r)
{
    struct applier *a = &r->applier;
    struct store_op op = {.kind = STORE_OP_COMPACT};
    struct store_command cmd = {.comm = "quorumfs", .ops = &op, .n_ops = 1};
    int64_t passed = 0;

    a->compact_asked_ns = clock_boottime_ns();
    if (atomic_load(&r->role) != RAFT_LEADER || atomic_load(&a->compacting) || atomic_load(&r->stopping) ||
        !submit_in_session(r))
        return;
    op.rev = store_compact_wanted(r->store, clock_realtime_ns(), &passed);
    if (op.rev && passed)
        log_warn("replica", "compaction up to revision %" PRId64 " passes %" PRId64 " bookmarks: twice what `retain` keeps is enough", op.rev, passed);
    if (!op.rev)
        op.rev = make_room(r);
    if (!op.rev)
        return;
    atomic_store(&a->compacting, true);
    a->compact.data = r;
    a->compact.cb = compacted_cb;
    submit_internal(r, &a->compact, &cmd);
}

/* Waits until there is work, or until `until_ns`. Takes items for one call of work(); 0: it was the time. Under no lock. */
static size_t take(struct replica *r, struct applier_item *out, int64_t until_ns, bool *end)
{
    struct applier *a = &r->applier;
    size_t n = 0, bytes = 0;

    pthread_mutex_lock(&a->lock);
    while (a->n == 0 && !a->stop && !a->dead) {
        struct timespec t;
        int64_t left = until_ns - clock_boottime_ns();

        if (left <= 0)
            break;
        clock_gettime(CLOCK_MONOTONIC, &t);
        left += t.tv_nsec;
        t.tv_sec += left / 1000000000;
        t.tv_nsec = left % 1000000000;
        pthread_cond_timedwait(&a->more, &a->lock, &t);
    }
    *end = a->dead || (a->stop && a->n == 0);
    while (!*end && n < a->n && n < BATCH_ENTRIES) {
        const struct applier_item *item = &a->items[(a->head + n) % a->cap];

        if (n > 0 && (item->kind != APPLIER_ENTRY || out[0].kind != APPLIER_ENTRY || bytes + item->data.len > BATCH_BYTES ||
                      out[n - 1].index % STANDING_STRIDE == 0))
            break;
        bytes += item->data.len;
        out[n++] = *item;
    }
    a->head = (a->head + n) % a->cap;
    a->n -= n;
    a->working = n > 0;
    pthread_mutex_unlock(&a->lock);
    return n;
}

/* Gives back the room of what was worked on; the loop may be waiting for it. */
static void finish(struct replica *r, const struct applier_item *items, size_t n)
{
    struct applier *a = &r->applier;
    size_t bytes = 0;
    bool was_full;

    for (size_t i = 0; i < n; i++)
        bytes += items[i].data.len;
    pthread_mutex_lock(&a->lock);
    was_full = a->bytes > MEMBER_APPLY_QUEUE_BYTES;
    a->bytes -= bytes;
    was_full = was_full && a->bytes <= MEMBER_APPLY_QUEUE_BYTES;
    a->working = false;
    if (a->n == 0)
        pthread_cond_broadcast(&a->done);
    pthread_mutex_unlock(&a->lock);
    if (was_full)
        loop_wake(r);
}

/* Who writes has most of the time, unless the disk fills up meanwhile. `rested`: until when there was rest, `start`: when upkeep began. */
static int64_t rest_until(struct replica *r, int64_t rested, int64_t start, bool idle)
{
    int64_t now = clock_boottime_ns();

    if (start < rested)
        return rested;
    return idle || disk_short(r, 0) ? now : now + REST * (now - start);
}

static void *applier_main(void *arg)
{
    struct replica *r = arg;
    struct applier *a = &r->applier;
    struct applier_item items[BATCH_ENTRIES];
    int64_t now = clock_boottime_ns(), worked = now, rested = now;
    bool end = false, more = false, idle = false, dirty = true; /* dirty: applied something since the last idle checkpoint */

    pthread_setname_np(pthread_self(), "qfs-store");
    for (;;) {
        int64_t until = more ? rested : dirty ? worked + IDLE_NS : a->compact_asked_ns + COMPACT_IDLE_NS;
        size_t n = take(r, items, until, &end);

        if (end)
            break;
        if (n > 0) {
            work(r, items, n);
            finish(r, items, n);
        }
        now = clock_boottime_ns();
        if (n > 0) {
            worked = now;
            dirty = dirty || items[0].kind == APPLIER_ENTRY || items[0].kind == APPLIER_EXPORT_END; /* checkpoints waited for it */
        }
        idle = n == 0 && (now - worked >= IDLE_NS);
        if (idle && dirty)
            note_state(r);
        end_install(r);
        if (dirty || more) {
            more = maintain(r, idle ? SLICE_MS : now < rested ? NO_SLICE : SLICE_BUSY_MS, idle);
            dirty = !idle || more;
            rested = rest_until(r, rested, now, idle);
        }
        if (now - a->compact_asked_ns >= (n == 0 ? COMPACT_IDLE_NS : disk_short(r, 0) ? COMPACT_SHORT_NS : COMPACT_BUSY_NS) ||
            (idle && a->compact_asked_ns < worked))
            propose_compaction(r);
    }
    discard(r);
    if (!member_failed(r)) /* leave a database without a WAL behind */
        for (int i = 0; i < 1000 && maintain(r, SLICE_MS, true); i++)
            ;
    if (a->reader)
        store_reader_close(a->reader);
    a->reader = NULL;
    return NULL;
}

/* ---- Life ---------------------------------------------------------------------------------------------------------------- */

int applier_start(struct replica *r)
{
    if (pthread_create(&r->applier.thread, NULL, applier_main, r))
        return QE_NOMEM;
    r->applier.started = true;
    return 0;
}

void applier_stop(struct replica *r)
{
    struct applier *a = &r->applier;

    pthread_mutex_lock(&a->lock);
    a->stop = true;
    pthread_cond_broadcast(&a->more);
    pthread_mutex_unlock(&a->lock);
    if (a->started)
        pthread_join(a->thread, NULL);
    a->started = false;
    discard(r);
}

void applier_fini(struct replica *r)
{
    pthread_cond_destroy(&r->applier.more);
    pthread_cond_destroy(&r->applier.done);
    pthread_mutex_destroy(&r->applier.lock);
    free(r->applier.items);
}
