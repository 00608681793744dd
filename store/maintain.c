/* Upkeep between batches: checkpoints, and slices of compaction.
 *
 * Checkpoints are made here alone, on the thread that writes, never beside a commit. RESTART and not PASSIVE: it waits the moment
 * until readers have moved to the newest frames, so that the next commit starts the WAL over; PASSIVE beside busy readers almost
 * never gets that far and the WAL only grows. */
#include <string.h>

#include "store/base/clock.h"
#include "store/base/failpoint.h"
#include "store/compact.h"
#include "store/internal.h"

static bool checkpoint_due(struct store *s, bool idle)
{
    if (s->wal_frames == 0)
        return false;
    if (exports(s) && store_wal_full(s))
        export_revoke(s);
    if (exports(s))
        return false;
    if (store_wal_full(s))
        return true;
    return s->wal_frames >= s->checkpoint_retry && ((idle && !compact_pending(s)) || s->wal_frames >= STORE_CHECKPOINT_FRAMES);
}

static int checkpoint(struct store *s)
{
    int total = 0, copied = 0, rc;

    if (FAILPOINT("store.checkpoint"))
        return QE_IO;
    rc = sqlite3_wal_checkpoint_v2(s->conn.db, "main", SQLITE_CHECKPOINT_RESTART, &total, &copied);
    if (rc == SQLITE_BUSY) { /* a reader is on old frames: again when there are a good deal more */
        s->checkpoint_retry = s->wal_frames + STORE_CHECKPOINT_FRAMES / 4;
        return 0;
    }
    if (rc)
        return conn_error(&s->conn, rc);
    s->wal_frames = 0;
    s->checkpoint_retry = 0;
    return 0;
}

/* While a copy is made the WAL may be longer. */
bool store_wal_full(const struct store *s)
{
    return (size_t)s->wal_frames >= s->wal_limit_frames * (exports(s) ? STORE_EXPORT_WAL_FACTOR : 1);
}

int store_maintain(struct store *s, int budget_ms, bool idle, bool *more)
{
    int64_t until = clock_boottime_ns() + (int64_t)budget_ms * 1000000;
    int err = 0;

    *more = false;
    if (checkpoint_due(s, idle)) { /* which takes what it takes: never both in one call */
        err = checkpoint(s);
        *more = !err && compact_pending(s);
    }
    while (!err && !*more && budget_ms >= 0 && compact_pending(s) && !store_wal_full(s)) {
        err = compact_slice(s, until);
        *more = !err && compact_pending(s) && clock_boottime_ns() >= until;
    }
    if (!err && (store_wal_full(s) || (budget_ms < 0 && compact_pending(s))))
        *more = true;
    return err;
}

/* The WAL through SQLite's own descriptor of it, which lives as long as the connection: closing another one would drop the locks
 * that this process has on the database. */
int store_sync(struct store *s, uint64_t *index)
{
    sqlite3_file *wal = NULL;
    int rc = sqlite3_file_control(s->conn.db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal);

    if (rc == SQLITE_OK) /* open since the first read; else nothing can be said about what is durable */
        rc = wal && wal->pMethods ? wal->pMethods->xSync(wal, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY) : SQLITE_MISUSE;
    if (rc)
        return conn_error(&s->conn, rc);
    *index = s->st.applied;
    return 0;
}
