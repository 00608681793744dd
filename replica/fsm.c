/* fsm: libraft's view of the state machine.
 *
 * apply hands a committed entry to the store thread and returns. A marker snapshot is not a copy of the state but a statement:
 * "the database holds everything up to this index for good", after which libraft may forget the entries below it. It goes so:
 *
 *   1. enough bytes have been logged; libraft calls snapshot (raft loop) in the course of an apply, at its last applied index
 *   2. libraft calls snapshot_async on one of libuv's workers, which waits until the store thread has come to that index and has
 *      made it durable; writing and applying go on meanwhile
 *   3. the marker is written beside the log, and libraft drops what lies below it
 *
 * At start libraft hands the marker to restore; the guard has compared it with the database before that. */
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "replica/marker.h"
#include "replica/member.h"
#include "store/base/clock.h"
#include "store/base/failpoint.h"

struct marker_work { /* between snapshot and snapshot_finalize; one at a time */
    struct replica *r;
    struct applier_sync sync;
    struct raft_buffer buf;        /* what libraft writes: points to `bytes` */
    uint8_t bytes[MARKER_SIZE];
};

uint64_t fsm_marker_bytes(void)
{
#ifdef QFS_FAILPOINTS /* tests make markers frequent */
    const char *env = getenv("QUORUMFS_TEST_MARKER_BYTES");

    if (env && strtoull(env, NULL, 10) > 0)
        return strtoull(env, NULL, 10);
#endif
    return MEMBER_MARKER_BYTES;
}

/* ---- Callbacks of libraft (raft loop, but for fsm_snapshot_async) -------------------------------------------------------- */

/* Never fails: libraft would apply the entry again later, or fall silent. */
static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result)
{
    struct replica *r = fsm->data;
    uint64_t index = raft_last_applied(&r->raft) + 1;
    struct applier_item item = {.kind = APPLIER_ENTRY, .index = index, .term = guard_term_of(&r->guard, index),
                                .data = {buf->base, buf->len}, .queued_ns = clock_boottime_ns()};

    *result = NULL;
    if (FAILPOINT("replica.committed"))
        member_fail(r, "failpoint after commit of entry %" PRIu64, index);
    if (index > r->guard.store.applied && applier_push(r, &item))
        member_fail(r, "out of memory applying entry %" PRIu64, index);
    guard_marker_consider(&r->guard);
    return 0;
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct replica *r = fsm->data;
    struct marker_work *w;

    if (member_failed(r) || atomic_load(&r->stopping) || !guard_may_snapshot(&r->guard))
        return RAFT_BUSY;
    w = calloc(1, sizeof *w);
    if (!w)
        return RAFT_BUSY; /* later, perhaps */
    w->r = r;
    w->sync.index = raft_last_applied(&r->raft);
    w->sync.term = guard_term_of(&r->guard, w->sync.index);
    w->buf = (struct raft_buffer){w->bytes, sizeof w->bytes};
    if (applier_push(r, &(struct applier_item){.kind = APPLIER_SYNC, .index = w->sync.index, .term = w->sync.term, .sync = &w->sync})) {
        free(w);
        return RAFT_BUSY;
    }
    guard_marker_begun(&r->guard);
    *bufs = &w->buf;
    *n_bufs = 1;
    return 0;
}

static struct marker_work *work_of(struct raft_buffer *buf)
{
    return (struct marker_work *)((char *)buf - offsetof(struct marker_work, buf));
}

/* A worker of libuv: may wait. */
static int fsm_snapshot_async(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct marker_work *w = work_of(*bufs);
    int err;

    (void)fsm;
    (void)n_bufs;
    err = applier_wait_sync(w->r, &w->sync);
    if (err)
        return RAFT_CANCELED;
    marker_encode(&(struct marker){w->sync.index, w->sync.term, w->sync.rev, w->sync.hash}, w->bytes);
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
    (void)fsm; /* the guard has compared the marker's index with the database */
    raft_free(buf->base);
    return 0;
}

void fsm_init(struct replica *r)
{
    r->fsm = (struct raft_fsm){.version = 3, .data = r, .apply = fsm_apply, .snapshot = fsm_snapshot, .restore = fsm_restore,
                               .snapshot_finalize = fsm_snapshot_finalize, .snapshot_async = fsm_snapshot_async};
}
