/* start: how a member comes up, goes down, and what happens when it must not go on.
 *
 *   lock -> identity -> number of this start -> database -> are they one? -> log examined -> libraft loads the log, the guard compares it with the
 *   database -> everything committed is applied -> session -> inode numbers -> serving */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/member.h"
#include "replica/segment.h"
#include "replica/transport.h"
#include "store/base/clock.h"
#include "store/base/log.h"

enum {
    STOP_PATIENCE_MS = 10000, /* for requests to be answered, when there is no timeout to go by */
    HANDOVER_ELECTIONS = 2,   /* so many election timeouts are given to a transfer of the leadership */
};

/* ---- Fail-stop ----------------------------------------------------------------------------------------------------------- */

bool member_failed(struct replica *r)
{
    bool failed;

    pthread_mutex_lock(&r->lock);
    failed = r->failed;
    pthread_mutex_unlock(&r->lock);
    return failed;
}

void member_fail(struct replica *r, const char *fmt, ...)
{
    bool first;
    va_list ap;

    pthread_mutex_lock(&r->lock);
    first = !r->failed;
    r->failed = true;
    if (first) {
        va_start(ap, fmt);
        vsnprintf(r->failure, sizeof r->failure, fmt, ap);
        va_end(ap);
    }
    pthread_mutex_unlock(&r->lock);
    if (!first)
        return;
    log_error("replica", "the member stops: %s", r->failure);
    applier_kill(r);
    submit_refuse(r, QE_IO, QE_IO, QE_TIMEDOUT);
    serve_note(r, QE_IO); /* its session may have been refused, to be asked for again */
    loop_wake(r);
    if (r->opt.fatal)
        r->opt.fatal(r->opt.data, r->failure);
}

/* ---- The guard's hooks --------------------------------------------------------------------------------------------------- */

static void hook_fail(void *data, const char *what)
{
    member_fail(data, "%s", what);
}

static void hook_tick(void *data)
{
    loop_tick(data);
}

static void hook_install(void *data, raft_id leader, const struct raft_install_snapshot *snapshot)
{
    install_wanted(data, (uint32_t)leader, snapshot->last_index);
}

static bool hook_full(void *data)
{
    return applier_behind(data);
}

/* A file that ends behind the index of the truncation is one that should have gone: what was written since is in an open one. Such a log
 * must not be loaded again. */
static bool hook_truncated(void *data, uint64_t index)
{
    struct replica *r = data;
    struct segment_file *files = NULL;
    struct buf why = {0};
    bool sound = true;
    size_t n = 0;

    if (segment_list(r->dir.raft, &files, &n, &why) == 0)
        for (size_t i = 0; i < n; i++)
            sound = sound && (files[i].kind != SEGMENT_CLOSED || files[i].last < index);
    free(files);
    buf_fini(&why);
    if (!sound && starts_unfit(&r->starts, &r->dir, "its log could not be truncated"))
        log_warn("replica", "cannot note in \"%s\" that it must not be started any more", r->dir.raft);
    return sound;
}

static void hook_step(void *data)
{
    loop_step(data);
}

static void hook_written(void *data, int64_t ns)
{
    struct replica *r = data;

    hist_add(&r->fsync_time, ns);
}

/* ---- Coming up ----------------------------------------------------------------------------------------------------------- */

static int open_dir(struct replica *r, int lock_wait_ms, struct buf *why)
{
    struct buf what = {0};
    enum replica_dir_state state = dir_state(r->dir.path, &what);
    int err;

    if (state == REPLICA_DIR_FOREIGN)
        buf_printf(why, "\"%s\" is not a data directory: it holds \"%s\"", r->dir.path, buf_cstr(&what));
    else if (state != REPLICA_DIR_READY)
        buf_printf(why, "\"%s\" holds no cluster", r->dir.path);
    buf_fini(&what);
    if (state != REPLICA_DIR_READY)
        return QE_NOCLUSTER;
    err = dir_lock(&r->dir, lock_wait_ms, why);
    if (!err)
        err = dir_identity_read(&r->dir, &r->id, why);
    return err;
}

static int open_store(struct replica *r, struct buf *why)
{
    struct store_options options = {.dir = r->dir.path};
    struct store_position *pos = &r->guard.store;
    int err = store_open(&options, &r->store, why);

    if (err)
        return err;
    store_position(r->store, pos);
    memcpy(r->guard.cluster_id, r->id.cluster_id, sizeof r->guard.cluster_id);
    if (memcmp(pos->cluster_id, r->id.cluster_id, sizeof pos->cluster_id) != 0 || pos->epoch != r->id.epoch) {
        buf_printf(why, "the database in \"%s\" and its \"raft\" directory do not belong together: " DIR_REMEDY, r->dir.path);
        return QE_CORRUPT;
    }
    r->guard.may_be_empty = pos->installed_at != 0; /* its log comes from the others */
    atomic_store(&r->applier.applying, pos->applied);
    atomic_store(&r->applier.applied, pos->applied);
    atomic_store(&r->applier.pushed, pos->applied);
    err = tenure_open(r);
    if (err)
        buf_printf(why, "the leases cannot be read: %s", qfs_strerror(err));
    return err;
}

/* "1s", "100ms": settings are stored canonically, so anything else is damage. */
static int read_duration(struct store_reader *reader, const char *name, unsigned *ms, struct buf *why)
{
    struct buf text = {0};
    unsigned n = 0;
    char unit[4] = "";
    int err = store_setting(reader, name, &text);

    if (!err && (sscanf(buf_cstr(&text), "%u%3s", &n, unit) < 1 || n == 0))
        err = QE_CORRUPT;
    if (!err && !strcmp(unit, "ms"))
        *ms = n;
    else if (!err && !strcmp(unit, "s") && n <= 3600)
        *ms = n * 1000;
    else if (!err && !strcmp(unit, "m") && n <= 60)
        *ms = n * 60000;
    else if (!err)
        err = QE_CORRUPT;
    if (err)
        buf_printf(why, "the cluster setting %s cannot be read: \"%s\"", name, buf_cstr(&text));
    buf_fini(&text);
    return err;
}

/* What has to be known before raft starts: how patient it is, and who the members are. */
static int read_settings(struct replica *r, unsigned *election_ms, unsigned *heartbeat_ms, struct buf *why)
{
    struct store_reader *reader = NULL;
    int err = store_reader_open(r->store, &reader);

    if (err) {
        buf_printf(why, "cannot read the database: %s", qfs_strerror(err));
        return err;
    }
    err = read_duration(reader, "election-timeout", election_ms, why);
    if (!err)
        err = read_duration(reader, "heartbeat", heartbeat_ms, why);
    if (!err && *heartbeat_ms >= *election_ms) {
        log_warn("replica", "the cluster setting heartbeat (%u ms) is not below election-timeout (%u ms): a tenth of that is used until it is changed",
                 *heartbeat_ms, *election_ms);
        *heartbeat_ms = *election_ms / 10; /* election-timeout is 100 ms at least */
    }
    if (!err && (err = member_table_load(&r->members, reader)) != 0)
        buf_printf(why, "the table of members cannot be read: %s", qfs_strerror(err));
    store_reader_close(reader);
    return err;
}

static int raft_error(struct replica *r, int rv, struct buf *why)
{
    const char *detail = raft_errmsg(&r->raft);

    if (!*detail)
        detail = r->io.errmsg;
    if (r->guard.why.len > 0)
        buf_printf(why, "\"%s\": %s", r->dir.path, buf_cstr(&r->guard.why));
    else if (rv == RAFT_CORRUPT || rv == RAFT_MALFORMED)
        buf_printf(why, "the log in \"%s\" is damaged: %s; " DIR_REMEDY, r->dir.raft, detail);
    else
        buf_printf(why, "cannot open the log in \"%s\": %s", r->dir.raft, *detail ? detail : raft_strerror(rv));
    return rv == RAFT_CORRUPT || rv == RAFT_MALFORMED ? QE_CORRUPT : rv == RAFT_NOMEM ? QE_NOMEM : rv == RAFT_NOSPACE ? QE_DISKFULL : QE_IO;
}

static int start_raft(struct replica *r, struct buf *why)
{
    const struct guard_hooks hooks = {r, hook_fail, hook_tick, hook_written, hook_install, hook_full, hook_truncated, hook_step};
    unsigned election_ms, heartbeat_ms;
    char address[16];
    int err = read_settings(r, &election_ms, &heartbeat_ms, why), rv;

    if (err)
        return err;
    transport_init_alone(&r->transport);
    rv = raft_uv_init(&r->io, &r->loop.uv, r->dir.raft, &r->transport);
    if (rv)
        return raft_error(r, rv, why);
    r->io_inited = true;
    raft_uv_set_auto_recovery(&r->io, false); /* else a damaged segment is put aside, with the acknowledged writes in it */
    raft_uv_set_segment_size(&r->io, MEMBER_SEGMENT_BYTES);
    raft_uv_set_snapshot_compression(&r->io, false); /* a marker is tiny, and has a checksum of its own */
    r->guard.marker_bytes = fsm_marker_bytes();
    network_install(r);
    guard_install(&r->guard, &r->raft, &r->io, &hooks);
    fsm_init(r);
    snprintf(address, sizeof address, "%" PRIu32, r->id.member_id);
    rv = raft_init(&r->raft, &r->io, &r->fsm, r->id.member_id, address);
    if (rv)
        return raft_error(r, rv, why);
    r->raft_inited = true;
    guard_configure(&r->guard, election_ms, heartbeat_ms);
    r->election_ns = (int64_t)election_ms * 1000000;
    r->heartbeat_ns = (int64_t)heartbeat_ms * 1000000;
    r->guard.heard_ns = clock_boottime_ns(); /* a leader has an election timeout to show itself */
    rv = raft_start(&r->raft);
    if (rv)
        return raft_error(r, rv, why);
    loop_publish(r);
    snprintf(r->change.address, sizeof r->change.address, "%s", member_address(r->opt.listen, r->opt.advertise));
    err = network_open(r, why);
    r->opt.listen = r->opt.advertise = NULL; /* the caller's */
    return err;
}

/* A member that is alone waits until everything is there: nobody else can keep it waiting. One of several serves without a quorum as
 * well, what needs none; so it waits for as long as a request would. */
static int begin_serving(struct replica *r, struct buf *why)
{
    bool alone = atomic_load(&r->n_voters) == 1 && atomic_load(&r->role) == RAFT_LEADER;
    int timeout_ms = r->opt.timeout_ms > 0 ? r->opt.timeout_ms : STOP_PATIENCE_MS, err = 0;

    if (alone)
        err = submit_wait(r, NULL, NULL, NULL); /* all that it acknowledged before can be read */
    if (!err) {
        serve_begin(r);
        err = serve_wait(r, alone ? 0 : clock_boottime_ns() + (int64_t)timeout_ms * 1000000);
    }
    if (err && !alone && err != QE_STALE && !member_failed(r)) {
        log_warn("replica", "serving \"%s\" without a quorum: what needs one has to wait", r->dir.path);
        return 0;
    }
    if (err && member_failed(r))
        buf_printf(why, "%s", r->failure);
    else if (err)
        buf_printf(why, "cannot begin to serve \"%s\": %s", r->dir.path, qfs_strerror(err));
    return err;
}

static struct replica *member_new(const struct replica_options *options)
{
    struct replica *r = calloc(1, sizeof *r);

    if (!r)
        return NULL;
    r->opt = *options;
    pthread_mutex_init(&r->lock, NULL);
    pthread_mutex_init(&r->loop.lock, NULL); /* there before the loop is: whoever fails wakes it */
    submit_init(r);
    ino_init(r);
    serve_init(r);
    transfer_init(r);
    pthread_mutex_init(&r->tenure.feed.lock, NULL);
    pthread_mutex_init(&r->keepalive.lock, NULL);
    member_table_init(&r->members);
    change_init(r);
    standing_init(r);
    if (dir_init(&r->dir, options->dir) == 0 && applier_init(r) == 0)
        return r;
    dir_fini(&r->dir);
    free(r);
    return NULL;
}

/* Ends what runs, in an order in which nobody uses what is gone: libraft's log is the memory of entries that the store thread may
 * still be applying, and libraft's workers may be waiting for the store thread. */
static void member_close(struct replica *r, bool loop_made)
{
    bool keep = false;

    if (loop_made) {
        applier_drain(r);
        loop_stop(r);
        keep = r->loop.abandoned;
        if (keep)
            applier_kill(r);
    }
    applier_stop(r);
    if (!keep || !copy_making(r)) /* its worker may be reading it, and nobody waits for that */
        store_close(r->store);
    dir_fini(&r->dir);
    if (keep)
        return; /* libraft was in the middle of something: its memory, and ours that it points to, stays until the process ends */
    if (r->io_inited)
        raft_uv_close(&r->io);
    guard_fini(&r->guard);
    applier_fini(r);
    ino_fini(r);
    serve_fini(r);
    transfer_fini(r);
    keepalive_fini(r);
    tenure_fini(r);
    member_table_fini(&r->members);
    standing_fini(r);
    install_fini(r);
    submit_fini(r);
    loop_fini(r);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

int replica_start(const struct replica_options *options, int lock_wait_ms, struct replica **out, struct buf *why)
{
    struct replica *r = member_new(options);
    bool loop_made = false;
    int err;

    if (!r) {
        buf_printf(why, "out of memory");
        return QE_NOMEM;
    }
    err = open_dir(r, lock_wait_ms, why);
    if (!err) {
        disk_prepare(r);
        err = starts_begin(&r->starts, &r->dir, why);
    }
    if (!err) {
        submit_number(r, r->starts.incarnation, r->starts.run);
        barrier_init(r);
        err = keepalive_open(r);
    }
    if (!err)
        err = segment_examine(r->dir.raft, r->id.cluster_id, why);
    if (!err)
        err = open_store(r, why);
    if (!err) {
        err = loop_init(r, why);
        loop_made = err == 0;
    }
    if (!err && (err = applier_start(r)) != 0)
        buf_printf(why, "cannot start a thread");
    if (!err)
        err = start_raft(r, why);
    if (!err)
        err = loop_start(r, why);
    if (!err)
        err = begin_serving(r, why);
    if (err) {
        if (why->len == 0)
            buf_printf(why, "cannot start: %s", qfs_strerror(err));
        applier_kill(r);
        member_close(r, loop_made);
        return err;
    }
    log_info("replica", "serving \"%s\" member=%" PRIu32 " term=%" PRIu64 " applied=%" PRIu64, r->dir.path, r->id.member_id,
             atomic_load(&r->term), atomic_load(&r->applier.applied));
    *out = r;
    return 0;
}

/* ---- Going down ---------------------------------------------------------------------------------------------------------- */

/* The session's results are of no use to anybody any more; that it could not be ended does no harm either. */
static void ended_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    (void)req;
    (void)err;
    (void)rev;
    (void)ino;
}

void replica_stop(struct replica *r)
{
    const struct store_op end_op = {.kind = STORE_OP_SESSION_END, .ino = r->submit.session};
    const struct store_command end_session = {.comm = "quorumfs", .ops = &end_op, .n_ops = 1};
    int patience_ms = r->opt.timeout_ms > 0 ? r->opt.timeout_ms : STOP_PATIENCE_MS;

    r->end = (struct replica_request){.data = r, .cb = ended_cb};
    atomic_store(&r->stopping, true);
    submit_refuse(r, QE_SHUTDOWN, 0, 0);
    if (atomic_load(&r->role) == RAFT_LEADER && atomic_load(&r->n_voters) > 1)
        transfer_wait(r, 0, clock_boottime_ns() + HANDOVER_ELECTIONS * r->election_ns);
    if (!member_failed(r) && submit_in_session(r))
        submit_internal(r, &r->end, &end_session);
    if (!submit_drain(r, clock_boottime_ns() + (int64_t)patience_ms * 1000000))
        log_warn("replica", "stopping with requests that were not answered in time");
    submit_refuse(r, QE_SHUTDOWN, QE_SHUTDOWN, QE_TIMEDOUT);
    member_close(r, true);
}
