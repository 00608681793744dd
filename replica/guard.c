/* The files of the guard are the only ones that know libraft's version: 0.15, whose structs are public.
 *
 * Here are the rules between libraft and the disk; those between members are in guard_peer.c.
 *
 *   guard_load      one buffer for each entry read from disk
 *   guard_start     comparison of the log with the database; a sole voter begins a new term
 *   guard_append    the first failed write stops the member
 *   truncation_failed   a truncation that failed without a word stops the member
 *   guard_truncate, guard_put, guard_set_term, guard_set_vote    likewise; truncations and snapshots are kept apart
 *   late_write      a write that others have overtaken is not counted twice
 *   fix_configuration   a snapshot holds the configuration that was committed, not one that is under way
 *   guard_close     closed is closed once
 *   guard_tick      RAFT_UNAVAILABLE, libraft's silent end, stops the member
 *   guard_marker_*  marker snapshots are triggered by bytes, which libraft does not count
 */
#include "replica/guard.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/dir.h"
#include "replica/guard_peer.h"
#include "replica/marker.h"
#include "store/base/clock.h"
#include "store/base/failpoint.h"

enum {
    TRAILING_MIN = 16,        /* entries kept below a marker; never 0, which means "install" to raft_uv */
    TRAILING_DIVISOR = 8,     /* of the marker's bytes are kept for followers that are a little behind */
    NEVER = UINT_MAX,         /* a threshold that is not reached */
};
#define TERM_MAX (UINT64_C(1) << 62) /* SQLite's integers are signed; a term above it can only be damage */

static struct guard *guard_of(struct raft_io *io)
{
    struct raft *raft = io->data;

    return raft->data;
}

static bool rule(const struct guard *g, enum guard_rule r)
{
    return !(g->off & (unsigned)r);
}

/* After a failed write nobody knows what the disk holds: libraft would go on with a log in memory that differs from it, and may
 * give one (index, term) to two entries. So nothing passes any more, in either direction. */
static int guard_fail(struct guard *g, const char *what, int status)
{
    char text[RAFT_ERRMSG_BUF_SIZE + 128];

    if (!g->failed && rule(g, GUARD_FAIL_STOP)) {
        g->failed = true;
        snprintf(text, sizeof text, "%s failed: %s%s%s", what, status == RAFT_NOSPACE ? "no space left" : raft_strerror(status),
                 g->raft->io->errmsg[0] ? ": " : "", g->raft->io->errmsg);
        g->hooks.fail(g->hooks.data, text);
    }
    return status;
}

/* ---- Loading ------------------------------------------------------------------------------------------------------------- */

/* libraft loads a segment into one buffer that its entries share, and frees it when no entry of the log uses it, although writes
 * and sends may still refer to it. With a buffer of its own each entry is counted rightly. */
static int split_batches(struct raft_entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct raft_entry *e = &entries[i];
        void *copy = NULL, *batch = e->batch;

        if (!batch)
            continue;
        if (e->buf.len > 0) {
            copy = raft_malloc(e->buf.len);
            if (!copy)
                return RAFT_NOMEM;
            memcpy(copy, e->buf.base, e->buf.len);
        }
        e->buf.base = copy;
        e->batch = NULL;
        if (i + 1 == n || entries[i + 1].batch != batch)
            raft_free(batch);
    }
    return 0;
}

/* Frees what a load gave and libraft will not see. */
static void drop_entries(struct raft_entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!entries[i].batch)
            raft_free(entries[i].buf.base);
        else if (i + 1 == n || entries[i + 1].batch != entries[i].batch)
            raft_free(entries[i].batch);
    }
    raft_free(entries);
}

static void drop_snapshot(struct raft_snapshot *s)
{
    if (!s)
        return;
    raft_configuration_close(&s->configuration);
    for (unsigned i = 0; i < s->n_bufs; i++)
        raft_free(s->bufs[i].base);
    raft_free(s->bufs);
    raft_free(s);
}

/* A marker says that everything up to it is in the database for good; entries below it may be gone. */
static int check_snapshot(struct guard *g, const struct raft_snapshot *s)
{
    struct marker m;

    if (!s)
        return 0;
    if (s->n_bufs != 1 || marker_decode(s->bufs[0].base, s->bufs[0].len, &m) || m.index != s->index || m.term != s->term) {
        buf_printf(&g->why, "the snapshot at index %llu in \"raft\" is damaged; " DIR_REMEDY, s->index);
        return RAFT_CORRUPT;
    }
    if (g->store.applied >= s->index)
        return 0;
    buf_printf(&g->why,
               "the database is at log index %" PRIu64 ", but the log in \"raft\" was cut at %llu: the database is older than the "
               "log and what lies between is lost; " DIR_REMEDY, g->store.applied, s->index);
    return RAFT_CORRUPT;
}

/* The first entry is the configuration; a command must carry our cluster's id and an intact checksum. */
static int check_entries(struct guard *g, const struct raft_entry *entries, size_t n, uint64_t first)
{
    for (size_t i = 0; i < n; i++) {
        const struct raft_entry *e = &entries[i];
        uint32_t crc;
        int err;

        g->log_bytes += e->buf.len;
        if (e->type != RAFT_COMMAND)
            continue;
        err = store_entry_check(e->buf.base, e->buf.len, g->cluster_id, &crc);
        if (err) {
            buf_printf(&g->why, "entry %" PRIu64 " of the log in \"raft\" %s; " DIR_REMEDY, first + i,
                       err == QE_FORMAT ? "was written by a newer version or another cluster" : "is damaged");
            return RAFT_CORRUPT;
        }
    }
    return 0;
}

static int guard_load(struct raft_io *io, raft_term *term, raft_id *voted_for, struct raft_snapshot **snapshot,
                      raft_index *start_index, struct raft_entry *entries[], size_t *n_entries)
{
    struct guard *g = guard_of(io);
    int rv = g->saved.load(io, term, voted_for, snapshot, start_index, entries, n_entries);

    if (rv)
        return rv;
    if (rule(g, GUARD_UNBATCH))
        rv = split_batches(*entries, *n_entries);
    if (!rv)
        rv = check_snapshot(g, *snapshot);
    if (!rv)
        rv = check_entries(g, *entries, *n_entries, *start_index);
    if (!rv && *snapshot)
        rv = guard_base_set(g, &(*snapshot)->configuration, (*snapshot)->configuration_index);
    if (!rv && !*snapshot && (*n_entries == 0 ? !g->may_be_empty : (*entries)[0].type != RAFT_CHANGE)) {
        buf_printf(&g->why, "the log in \"raft\" does not begin with a configuration; " DIR_REMEDY);
        rv = RAFT_CORRUPT;
    }
    if (rv) {
        drop_entries(*entries, *n_entries);
        drop_snapshot(*snapshot);
    }
    return rv;
}

/* ---- Starting ------------------------------------------------------------------------------------------------------------ */

/* The log must hold everything that the database has, and the same: else the tail of the log was lost or indexes have shifted, and
 * new commands would be skipped or applied twice. */
static int compare_with_store(struct guard *g)
{
    const struct store_position *pos = &g->store;
    uint64_t last = raft_last_index(g->raft);
    const struct raft_entry *e = guard_entry_at(g, pos->applied);
    uint32_t crc;

    if (pos->installed_at != 0 && pos->installed_at == pos->applied)
        return 0; /* this database came from another member, ahead of our own log */
    if (last < pos->applied) {
        buf_printf(&g->why,
                   "the log in \"raft\" ends at index %" PRIu64 ", but the database has applied %" PRIu64 ": the end of the log is "
                   "lost; " DIR_REMEDY, last, pos->applied);
        return RAFT_CORRUPT;
    }
    if (pos->applied == 0 || !e)
        return 0; /* nothing applied, or below what the log still holds: the marker vouches for it */
    if (!store_position_is(pos, e->term, e->type == RAFT_COMMAND ? e->buf.base : NULL, e->buf.len, &crc)) {
        buf_printf(&g->why,
                   "entry %" PRIu64 " of the log in \"raft\" is not the one that the database has applied (term %llu, crc %08" PRIx32
                   "; applied: term %" PRIu64 ", crc %08" PRIx32 "): they do not belong together; " DIR_REMEDY,
                   pos->applied, e->term, crc, pos->term, pos->crc);
        return RAFT_CORRUPT;
    }
    return 0;
}

/* metadata1 and metadata2 have no checksum. A term below one that was used would use it twice. */
static int check_term(struct guard *g)
{
    uint64_t last = raft_last_index(g->raft), used = last ? guard_term_of(g, last) : 0;

    if (g->store.term > used)
        used = g->store.term;
    if (g->raft->current_term >= used && g->raft->current_term < TERM_MAX)
        return 0;
    buf_printf(&g->why,
               "\"raft/metadata1\" and \"raft/metadata2\" say term %llu, but term %" PRIu64 " is in use: one of them is damaged; " DIR_REMEDY,
               g->raft->current_term, used);
    return RAFT_CORRUPT;
}

/* libraft lets a sole voter lead again in the term it had. An entry that a crash took with it and a new one would then share index
 * and term, and whoever saw the first could not tell. */
static int begin_term(struct guard *g, struct raft_io *io)
{
    int rv;

    if (!guard_sole_voter(g) || !rule(g, GUARD_NEW_TERM))
        return 0;
    rv = g->saved.set_term(io, g->raft->current_term + 1);
    if (rv) {
        buf_printf(&g->why, "cannot write the term to \"raft\": %s", io->errmsg[0] ? io->errmsg : raft_strerror(rv));
        return rv;
    }
    g->raft->current_term++;
    g->raft->voted_for = 0;
    return 0;
}

/* A zombie: libraft met an error that it does not report, and answers nobody any more. */
static void check_available(struct guard *g)
{
    if (raft_state(g->raft) == RAFT_UNAVAILABLE && !g->failed) {
        g->failed = true;
        g->hooks.fail(g->hooks.data, "libraft has become unavailable");
    }
}

/* After everything that libraft did. */
void guard_step(struct guard *g)
{
    check_available(g);
    if (!g->failed)
        guard_peer_step(g);
    if (!g->failed && g->hooks.step)
        g->hooks.step(g->hooks.data);
}

static void guard_tick(struct raft_io *io)
{
    struct guard *g = guard_of(io);

    if (g->failed)
        return;
    guard_peer_tick(g);
    g->tick(io);
    guard_step(g);
    if (!g->failed)
        g->hooks.tick(g->hooks.data);
}

static void guard_recv(struct raft_io *io, struct raft_message *message)
{
    struct guard *g = guard_of(io);

    if (g->failed)
        return;
    if (guard_peer_recv(g, message))
        g->recv(io, message);
    guard_step(g);
}

static int guard_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
    struct guard *g = guard_of(io);
    int rv;

    g->tick = tick;
    g->recv = recv;
    guard_peer_promise(g);
    rv = compare_with_store(g);
    if (!rv)
        rv = check_term(g);
    if (!rv)
        rv = begin_term(g, io);
    return rv ? rv : g->saved.start(io, msecs, guard_tick, guard_recv);
}

/* ---- Writing ------------------------------------------------------------------------------------------------------------- */

static void unlink_write(struct guard *g, struct guard_write *w)
{
    struct guard_write **at = &g->writes;

    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    g->appends--;
}

/* From here on the entries that writes under way carry are not those of the log any more. */
static void overtake_writes(struct guard *g, uint64_t index)
{
    for (struct guard_write *w = g->writes; w; w = w->next)
        if (index < w->cut)
            w->cut = index;
}

/* When a write is complete, libraft counts its entries as stored if the log has entries of these terms at their indexes. An entry that
 * was truncated and came again from a third leader has: it would count although the disk is about to remove it, and once more when
 * its second write is complete. So what libraft will count wrongly is taken off before. (Raft: a server may acknowledge an entry
 * only when it is in stable storage, dissertation 3.8.) */
static void late_write(struct guard *g, const struct guard_write *w)
{
    unsigned counted = 0, stored;

    if (!rule(g, GUARD_LATE_WRITE) || w->cut >= w->first + w->n)
        return;
    while (counted < w->n && guard_term_of(g, w->first + counted) == w->entries[counted].term)
        counted++;
    stored = w->cut <= w->first ? 0 : (unsigned)(w->cut - w->first);
    if (counted > stored)
        g->raft->last_stored -= counted - stored; /* may go below 0 for a moment: it is unsigned, libraft adds `counted` */
}

static void put_now(struct guard *g);

/* raft_uv does not say that a truncation failed: it goes on, with the old entries in one file and the new ones in the next, and a later start
 * takes them all, one behind the other. So what was written behind it is not acknowledged before the files were looked at. */
static bool truncation_failed(const struct guard *g, const struct guard_write *w)
{
    return g->truncating && w->behind_truncation && g->hooks.truncated && !g->hooks.truncated(g->hooks.data, g->truncated_at);
}

/* A write that was submitted behind the truncation is on disk, so the truncation is, too. */
static void end_truncation(struct guard *g, const struct guard_write *w)
{
    if (!g->truncating || !w->behind_truncation)
        return;
    g->truncating = false;
    if (g->waiting_put)
        put_now(g);
}

static void guard_append_cb(struct raft_io_append *req, int status)
{
    struct guard_write *w = req->data;
    struct guard *g = w->guard;
    bool installing = guard_install_busy(g);

    unlink_write(g, w);
    if (FAILPOINT("replica.append.error"))
        status = RAFT_IOERR;
    if (status && status != RAFT_CANCELED && rule(g, GUARD_FAIL_STOP)) {
        guard_fail(g, "writing the log", status);
        free(w);
        return;
    }
    if (!g->failed && status == 0 && truncation_failed(g, w)) {
        guard_fail(g, "truncating the log", RAFT_IOERR);
        free(w);
        return;
    }
    if (!g->failed) {
        g->log_bytes += w->bytes;
        g->hooks.written(g->hooks.data, clock_boottime_ns() - w->started_ns);
        if (status == 0 && !installing)
            late_write(g, w);
        w->cb(w->inner, status);
        if (installing && rule(g, GUARD_LATE_WRITE))
            g->raft->last_stored = 0; /* a snapshot is replacing the whole log: nothing that was in it counts */
        if (status == 0)
            end_truncation(g, w);
        if (status == 0)
            guard_peer_stored(g);
        if (status != RAFT_CANCELED)
            guard_step(g);
    }
    free(w);
}

static int guard_append(struct raft_io *io, struct raft_io_append *req, const struct raft_entry entries[], unsigned n,
                        raft_io_append_cb cb)
{
    struct guard *g = guard_of(io);
    struct guard_write *w;
    int rv;

    if (g->failed)
        return RAFT_IOERR;
    w = calloc(1, sizeof *w);
    if (!w)
        return guard_fail(g, "writing the log", RAFT_NOMEM);
    *w = (struct guard_write){.req.data = w, .inner = req, .cb = cb, .guard = g, .started_ns = clock_boottime_ns(), .n = n,
                              .entries = entries, .first = raft_last_index(g->raft) + 1 - n, .cut = UINT64_MAX,
                              .behind_truncation = g->truncating, .next = g->writes};
    for (unsigned i = 0; i < n; i++)
        w->bytes += entries[i].buf.len;
    g->writes = w;
    g->appends++;
    rv = g->saved.append(io, &w->req, entries, n, guard_append_cb);
    if (rv) {
        unlink_write(g, w);
        free(w);
        guard_fail(g, "writing the log", rv);
    }
    return rv;
}

/* raft_uv loses a truncation that meets a snapshot under way: the disk would keep what the log in memory no longer has. To stop is
 * clean, since nothing behind the truncation has been written. */
static int guard_truncate(struct raft_io *io, raft_index index)
{
    struct guard *g = guard_of(io);
    int rv;

    if (g->failed)
        return RAFT_IOERR;
    if (g->snapshotting && !g->waiting_put && rule(g, GUARD_TRUNCATE))
        return guard_fail(g, "truncating the log during a snapshot", RAFT_BUSY);
    overtake_writes(g, index);
    g->truncating = rule(g, GUARD_TRUNCATE);
    g->truncated_at = index;
    for (struct guard_write *w = g->writes; w; w = w->next)
        w->behind_truncation = false;
    rv = g->saved.truncate(io, index);
    return rv ? guard_fail(g, "truncating the log", rv) : 0;
}

/* libraft is told that a term or a vote is written even if it is not: it has freed half of a candidate's state when it comes to know.
 * It does not matter any more what it believes, since nothing leaves a member that has failed. */
static int guard_set_term(struct raft_io *io, raft_term term)
{
    struct guard *g = guard_of(io);
    int rv = g->failed ? 0 : g->saved.set_term(io, term);

    if (rv)
        guard_fail(g, "writing the term", rv);
    return rule(g, GUARD_FAIL_STOP) ? 0 : rv;
}

static int guard_set_vote(struct raft_io *io, raft_id id)
{
    struct guard *g = guard_of(io);
    int rv = g->failed ? 0 : g->saved.set_vote(io, id);

    if (rv)
        guard_fail(g, "writing the vote", rv);
    return rule(g, GUARD_FAIL_STOP) ? 0 : rv;
}

/* A failure in the middle may have left libraft's files half removed; libraft itself would only try again later. */
static void guard_put_cb(struct raft_io_snapshot_put *req, int status)
{
    struct guard *g = req->data;

    g->snapshotting = false;
    if (status && status != RAFT_CANCELED && rule(g, GUARD_FAIL_STOP)) {
        guard_fail(g, "writing a marker snapshot", status);
        return;
    }
    if (g->failed)
        return;
    if (FAILPOINT("replica.marked") && status == 0)
        status = RAFT_CANCELED; /* libraft keeps its entries and tries again later */
    g->put_cb(g->put, status);
    if (status == 0) { /* libraft has trimmed its log in memory */
        g->log_bytes = 0;
        for (uint64_t i = guard_snapshot_index(g) + 1; i <= raft_last_index(g->raft); i++)
            g->log_bytes += guard_entry_at(g, i) ? guard_entry_at(g, i)->buf.len : 0;
    }
}

/* libraft puts its newest configuration into a snapshot, with the index of the last committed one. Were the newest undone later, the
 * snapshot would bring it back at the next start. (Dissertation 5.1: the latest configuration as of the snapshot's last index.) */
static int fix_configuration(struct guard *g, unsigned trailing, const struct raft_snapshot *snapshot)
{
    struct raft_snapshot *s = &g->raft->snapshot.pending;
    struct raft_configuration conf;
    uint64_t index;
    int rv;

    if (trailing > 0 && s == snapshot && rule(g, GUARD_CONFIGURATION)) {
        rv = guard_configuration_at(g, s->index, &conf, &index);
        if (rv)
            return rv;
        raft_configuration_close(&s->configuration);
        s->configuration = conf;
        s->configuration_index = index;
    }
    return guard_base_set(g, &snapshot->configuration, snapshot->configuration_index);
}

/* A put that had to wait. libraft hears of a failure through the callback. */
static void put_now(struct guard *g)
{
    const struct raft_snapshot *snapshot = g->waiting_put;
    int rv;

    g->waiting_put = NULL;
    rv = g->saved.snapshot_put(g->raft->io, g->trailing, &g->own_put, snapshot, guard_put_cb);
    if (rv)
        guard_put_cb(&g->own_put, rv);
}

static int guard_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req, const struct raft_snapshot *snapshot,
                     raft_io_snapshot_put_cb cb)
{
    struct guard *g = guard_of(io);
    int rv;

    if (g->failed)
        return RAFT_IOERR;
    if (g->passing_term)
        ((struct raft_snapshot *)(uintptr_t)snapshot)->term = g->passing_term; /* libraft's own copy of the message */
    rv = fix_configuration(g, trailing, snapshot);
    if (rv)
        return guard_fail(g, "writing a marker snapshot", rv);
    g->put = req;
    g->put_cb = cb;
    g->own_put.data = g;
    g->snapshotting = true;
    if (trailing == 0)
        overtake_writes(g, 0);
    if (g->truncating && rule(g, GUARD_TRUNCATE)) {
        g->trailing = trailing;
        g->waiting_put = snapshot;
        return 0;
    }
    rv = g->saved.snapshot_put(io, trailing, &g->own_put, snapshot, guard_put_cb);
    if (rv) {
        g->snapshotting = false;
        if (rv != RAFT_CANCELED)
            guard_fail(g, "writing a marker snapshot", rv);
    }
    return rv;
}

static int guard_send(struct raft_io *io, struct raft_io_send *req, const struct raft_message *message, raft_io_send_cb cb)
{
    struct guard *g = guard_of(io);

    return guard_peer_send(g, req, message, cb);
}

/* raft_uv says that it is closed each time something of its own ends and nothing else is left, which can be twice, when the
 * writer of a segment closes last. libraft would free its memory twice. */
static void guard_close_cb(struct raft_io *io)
{
    struct guard *g = guard_of(io);

    if (g->closed)
        return;
    g->closed = true;
    g->close_cb(io);
}

static void guard_close(struct raft_io *io, raft_io_close_cb cb)
{
    struct guard *g = guard_of(io);

    g->close_cb = cb;
    g->saved.close(io, guard_close_cb);
}

/* ---- Markers ------------------------------------------------------------------------------------------------------------- */

/* libraft counts entries, which may be 100 bytes or 16 MiB. So its threshold is either out of reach or reached. */
void guard_marker_consider(struct guard *g)
{
    if (g->log_bytes >= g->marker_bytes)
        raft_set_snapshot_threshold(g->raft, 1);
}

/* Leader: the lowest index that a member which is there, though behind, is known to have. */
static uint64_t lowest_match(const struct guard *g)
{
    struct guard_server servers[GUARD_MEMBERS_MAX];
    unsigned n = g->raft->state == RAFT_LEADER ? guard_configuration(g, servers) : 0;
    uint64_t lowest = UINT64_MAX;

    for (unsigned i = 0; i < n; i++)
        if (servers[i].role != RAFT_SPARE && servers[i].silent_ms <= g->raft->election_timeout && servers[i].match < lowest)
            lowest = servers[i].match;
    return lowest;
}

/* A member that is fetching the database needs what comes after its copy; were that gone, it would have to fetch another one, and so on for as
 * long as so much is written. (Dissertation 5.1.3 leaves to the implementation how much of the log is kept for slow followers.) */
void guard_marker_begun(struct guard *g)
{
    uint64_t bytes = 0, index = raft_last_index(g->raft), has = lowest_match(g), few = g->marker_bytes / TRAILING_DIVISOR;
    unsigned n = 0;

    raft_set_snapshot_threshold(g->raft, NEVER);
    for (const struct raft_entry *e; (e = guard_entry_at(g, index)) != NULL; index--, n++) {
        bytes += e->buf.len;
        if (bytes > few && (index <= has || bytes > g->keep_bytes))
            break;
    }
    raft_set_snapshot_trailing(g->raft, n < TRAILING_MIN ? TRAILING_MIN : n);
}

/* ---- Setup and glances --------------------------------------------------------------------------------------------------- */

void guard_install(struct guard *g, struct raft *raft, struct raft_io *io, const struct guard_hooks *hooks)
{
    g->raft = raft;
    g->hooks = *hooks;
    g->saved = *io;
    if (g->message_entries == 0)
        g->message_entries = GUARD_MESSAGE_ENTRIES;
    raft->data = g;
    io->version = 2; /* raft_uv has async_work but says 1 */
    io->load = guard_load;
    io->start = guard_start;
    io->append = guard_append;
    io->truncate = guard_truncate;
    io->snapshot_put = guard_put;
    io->set_term = guard_set_term;
    io->set_vote = guard_set_vote;
    io->send = guard_send;
    io->close = guard_close;
}

void guard_configure(struct guard *g, unsigned election_ms, unsigned heartbeat_ms)
{
    raft_set_pre_vote(g->raft, true); /* a member that was cut off must not depose a leader when it returns */
    raft_set_election_timeout(g->raft, election_ms);
    raft_set_heartbeat_timeout(g->raft, heartbeat_ms);
    raft_set_snapshot_threshold(g->raft, NEVER);
    raft_set_snapshot_trailing(g->raft, TRAILING_MIN);
}

void guard_fini(struct guard *g)
{
    guard_peer_fini(g);
    buf_fini(&g->why);
}

bool guard_busy(const struct guard *g)
{
    return g->appends > 0 || g->snapshotting || g->raft->snapshot.pending.term != 0;
}
