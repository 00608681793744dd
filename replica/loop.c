/* The raft loop: one thread that runs libuv, and with it libraft. It touches neither SQLite nor a caller's data, and waits for
 * nobody. Other threads reach it through the mailbox: they leave something under the lock and wake it. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "replica/member.h"
#include "store/base/clock.h"
#include "store/base/failpoint.h"
#include "store/base/log.h"

enum { BEAT_MS = 100 }; /* how often leases and keepalives are looked at: a tenth of the shortest TTL */
static const int64_t STOP_PATIENCE_NS = INT64_C(10) * 1000000000; /* a write under way ends by then, or the disk is gone */

#ifdef __SANITIZE_THREAD__
/* libraft closes an event descriptor before it takes it out of epoll, when a worker may have opened a file under the same number. The
 * kernel has dropped the closed one from epoll by itself and refuses the file, so nothing comes of it. */
const char *__tsan_default_suppressions(void);
/* libuv closes descriptors without telling the sanitizer: it sees a race when another thread gets the number next. */
const char *__tsan_default_suppressions(void)
{
    return "race:epoll_ctl\nrace:epoll_create1\nrace:open64\nrace:pipe2\nrace:socket\nrace:accept4\nrace:eventfd\nrace:closedir\n";
}
#endif

void loop_publish(struct replica *r)
{
    unsigned voters, members = guard_servers(&r->guard, &voters);

    atomic_store_explicit(&r->role, raft_state(&r->raft), memory_order_relaxed);
    atomic_store_explicit(&r->leader, r->submit.leader, memory_order_relaxed);
    atomic_store_explicit(&r->term, guard_term(&r->guard), memory_order_relaxed);
    atomic_store_explicit(&r->commit, guard_commit(&r->guard), memory_order_relaxed);
    atomic_store_explicit(&r->last_index, raft_last_index(&r->raft), memory_order_relaxed);
    atomic_store_explicit(&r->raft_applied, raft_last_applied(&r->raft), memory_order_relaxed);
    atomic_store_explicit(&r->snapshot_index, guard_snapshot_index(&r->guard), memory_order_relaxed);
    atomic_store_explicit(&r->log_bytes, r->guard.log_bytes, memory_order_relaxed);
    atomic_store_explicit(&r->n_voters, voters, memory_order_relaxed);
    atomic_store_explicit(&r->votes, guard_votes(&r->guard), memory_order_relaxed);
    if (atomic_exchange_explicit(&r->n_members, members, memory_order_relaxed) != members && r->opt.membership)
        r->opt.membership(r->opt.data);
}

static void closed_cb(struct raft *raft)
{
    (void)raft;
}

static void close_handle_cb(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void close_raft(struct replica *r)
{
    pthread_mutex_lock(&r->loop.lock);
    r->loop.open = r->loop.wakeable = false;
    pthread_mutex_unlock(&r->loop.lock);
    raft_close(&r->raft, closed_cb);
    uv_close((uv_handle_t *)&r->loop.beat, NULL);
    uv_close((uv_handle_t *)&r->loop.late, NULL);
    uv_close((uv_handle_t *)&r->loop.wake, NULL);
}

/* libraft must not be closed while a snapshot or a write is under way: its callbacks would run twice. */
static void try_close(struct replica *r)
{
    struct loop *l = &r->loop;

    if (l->closing)
        return;
    copy_stop(r);
    if (member_failed(r) || (guard_busy(&r->guard) && clock_boottime_ns() > l->stop_deadline_ns)) {
        l->closing = true;
        l->abandoned = true;
        network_abandon(r); /* the others must not wait for one that does not answer */
        uv_stop(&l->uv);
        return;
    }
    if (guard_busy(&r->guard))
        return; /* the next tick looks again */
    l->closing = true;
    loop_publish(r);
    close_raft(r);
}

static void wake_cb(uv_async_t *wake)
{
    struct replica *r = wake->data;
    struct loop *l = &r->loop;
    struct replica_request *barriers, *changes;
    bool stop;

    pthread_mutex_lock(&l->lock);
    barriers = l->barriers;
    changes = l->changes;
    l->barriers = l->changes = NULL;
    stop = l->stop || member_failed(r);
    if (stop)
        l->open = false; /* nobody leaves anything here any more */
    pthread_mutex_unlock(&l->lock);
    barrier_add(r, barriers);
    change_take(r, changes);
    if (stop) {
        change_refuse(r, member_failed(r) ? QE_IO : QE_SHUTDOWN);
        barrier_refuse(r, member_failed(r) ? QE_IO : QE_SHUTDOWN);
        keepalive_refuse(r, member_failed(r) ? QE_IO : QE_SHUTDOWN);
        if (l->stop_deadline_ns == 0)
            l->stop_deadline_ns = clock_boottime_ns() + STOP_PATIENCE_NS;
        try_close(r);
        return;
    }
    if (atomic_exchange(&r->members_changed, false))
        network_members_changed(r);
    loop_step(r);
}

/* No leader was heard of for an election timeout. Raft's are chosen at random, between the cluster setting and twice that (Raft 5.2): by
 * then an election that goes well is over, so that nobody's write fails for a leader that died. A leader itself would step down if it
 * did not hear from a majority. */
static bool is_leaderless(struct replica *r, int64_t now_ns)
{
    return raft_state(&r->raft) != RAFT_LEADER && now_ns - r->guard.heard_ns > 2 * r->election_ns;
}

/* Tests: as if the process of one of several members in this one had been stopped. */
static void maybe_stand_still(struct replica *r)
{
#ifdef QFS_FAILPOINTS
    struct timespec t = {0, 5000000};
    char name[40];

    snprintf(name, sizeof name, "replica.stopped.%" PRIu32, r->id.member_id);
    while (FAILPOINT(name))
        nanosleep(&t, NULL);
#else
    (void)r;
#endif
}

/* What the lessor knows comes first: a lease that somebody asks for may be new. */
static void step_lives(struct replica *r)
{
    int64_t now = clock_boottime_ns();

    tenure_step(r, now);
    keepalive_step(r, now);
}

void loop_step(struct replica *r)
{
    if (atomic_load(&r->submit.leaderless) && !is_leaderless(r, clock_boottime_ns()))
        atomic_store(&r->submit.leaderless, false);
    transfer_step(r);
    standing_step(r);
    change_step(r, clock_boottime_ns());
    admit_step(r);
    submit_pump(r);
    step_lives(r);
    barrier_step(r);
    loop_publish(r);
}

/* A tenth of a second has passed. */
static void loop_beat(struct replica *r)
{
    int64_t now;

    maybe_stand_still(r);
    now = clock_boottime_ns();
    if (r->loop.stop_deadline_ns || r->loop.closing || member_failed(r))
        return;
    tenure_beat(r, now);
    step_lives(r);
    keepalive_beat(r, now);
    barrier_step(r);
}

void loop_tick(struct replica *r)
{
    int64_t now;
    bool leaderless;

    maybe_stand_still(r);
    now = clock_boottime_ns();
    leaderless = is_leaderless(r, now);
    loop_publish(r);
    if (r->loop.stop_deadline_ns) {
        try_close(r);
        return;
    }
    atomic_store(&r->submit.leaderless, leaderless);
    submit_expire(r, now, leaderless);
    if (leaderless && atomic_load(&r->stopping))
        submit_refuse(r, QE_SHUTDOWN, QE_SHUTDOWN, QE_TIMEDOUT); /* also the member's own: nobody is there to take them */
    disk_look(r);
    r->guard.keep_bytes = disk_short(r, 0) ? 0 : MEMBER_KEEP_MARKERS * r->guard.marker_bytes;
    serve_tick(r, now);
    forward_tick(r, now);
    rounds_tick(r);
    barrier_tick(r, now);
    standing_tick(r, now);
    install_tick(r, now);
    copy_tick(r, now);
    loop_step(r);
}

static void *loop_main(void *arg)
{
    struct replica *r = arg;
    sigset_t pipe;

    sigemptyset(&pipe); /* a connection that broke is an error of the write, no signal */
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, NULL);
    pthread_setname_np(pthread_self(), "qfs-raft");
    uv_run(&r->loop.uv, UV_RUN_DEFAULT);
    return NULL;
}

static void beat_cb(uv_timer_t *beat)
{
    loop_beat(beat->data);
}

static void late_cb(uv_timer_t *late)
{
    struct replica *r = late->data;

    rounds_late(r);
    barrier_step(r);
}

void loop_call_late(struct replica *r)
{
    uv_timer_start(&r->loop.late, late_cb, ROUNDS_LATE_MS, 0);
}

int loop_init(struct replica *r, struct buf *why)
{
    struct loop *l = &r->loop;

    if (uv_loop_init(&l->uv))
        goto err;
    if (uv_async_init(&l->uv, &l->wake, wake_cb)) {
        uv_loop_close(&l->uv);
        goto err;
    }
    if (uv_timer_init(&l->uv, &l->late) || uv_timer_init(&l->uv, &l->beat) || uv_timer_start(&l->beat, beat_cb, BEAT_MS, BEAT_MS)) {
        uv_close((uv_handle_t *)&l->wake, NULL);
        uv_run(&l->uv, UV_RUN_DEFAULT);
        uv_loop_close(&l->uv);
        goto err;
    }
    l->wake.data = l->beat.data = l->late.data = r;
    pthread_mutex_lock(&l->lock);
    l->open = l->wakeable = true;
    pthread_mutex_unlock(&l->lock);
    return 0;
err:
    buf_printf(why, "cannot make the raft loop: out of memory or file descriptors");
    return QE_NOMEM;
}

int loop_start(struct replica *r, struct buf *why)
{
    if (pthread_create(&r->loop.thread, NULL, loop_main, r)) {
        buf_printf(why, "cannot start a thread");
        return QE_NOMEM;
    }
    r->loop.started = true;
    return 0;
}

/* Of this thread: whether what it submits waits for replica_release, and whether anything does. */
static _Thread_local struct {
    bool held, wanted;
} hold;

/* Under the lock. */
static void wake_locked(struct replica *r)
{
    if (hold.held)
        hold.wanted = true;
    else if (r->loop.wakeable)
        uv_async_send(&r->loop.wake);
}

void loop_wake(struct replica *r)
{
    pthread_mutex_lock(&r->loop.lock);
    wake_locked(r);
    pthread_mutex_unlock(&r->loop.lock);
}

void replica_hold(void)
{
    hold.held = true;
}

void replica_release(struct replica *r)
{
    bool wanted = hold.wanted;

    hold.held = hold.wanted = false;
    if (wanted)
        loop_wake(r);
}

void loop_members_changed(struct replica *r)
{
    atomic_store(&r->members_changed, true);
    loop_wake(r);
}

/* Without a thread the caller is the loop: a start that failed half way closes libraft here. */
void loop_stop(struct replica *r)
{
    struct loop *l = &r->loop;

    pthread_mutex_lock(&l->lock);
    l->stop = true;
    if (l->wakeable)
        uv_async_send(&l->wake);
    pthread_mutex_unlock(&l->lock);
    if (l->started) {
        pthread_join(l->thread, NULL);
        l->started = false;
    } else if (r->raft_inited) {
        l->closing = true;
        close_raft(r);
        uv_run(&l->uv, UV_RUN_DEFAULT);
    } else {
        pthread_mutex_lock(&l->lock);
        l->wakeable = false;
        pthread_mutex_unlock(&l->lock);
        uv_walk(&l->uv, close_handle_cb, NULL);
        uv_run(&l->uv, UV_RUN_DEFAULT);
    }
    if (!l->abandoned && uv_loop_close(&l->uv))
        log_warn("replica", "the raft loop still had handles when it was closed");
}

void loop_fini(struct replica *r)
{
    pthread_mutex_destroy(&r->loop.lock);
}

void replica_barrier(struct replica *r, struct replica_request *req)
{
    int err = 0;

    memset(&req->priv, 0, sizeof req->priv);
    req->priv.submitted_ns = clock_boottime_ns();
    if (r->opt.timeout_ms > 0)
        req->priv.deadline_ns = req->priv.submitted_ns + (int64_t)r->opt.timeout_ms * 1000000;
    pthread_mutex_lock(&r->loop.lock);
    if (!r->loop.open || r->loop.stop) {
        err = QE_SHUTDOWN;
    } else if (atomic_load(&r->submit.leaderless)) {
        err = QE_TIMEDOUT;
    } else {
        req->priv.next = r->loop.barriers;
        r->loop.barriers = req;
        wake_locked(r);
    }
    pthread_mutex_unlock(&r->loop.lock);
    if (err)
        submit_end(r, req, err == QE_SHUTDOWN && member_failed(r) ? QE_IO : err);
}

/* A member that is alone commits only by itself. Beside others that do not vote it commits by itself as well, but one of those may have answered
 * what our own store has not applied yet. */
bool replica_barrier_needed(struct replica *r)
{
    return atomic_load(&r->role) != RAFT_LEADER || atomic_load(&r->n_voters) != 1 || !replica_alone(r);
}
