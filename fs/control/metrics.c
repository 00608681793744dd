/* metrics: the member in Prometheus' text format 0.0.4. Durations are in seconds, sizes in bytes. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fs/control/tree.h"
#include "fs/feed.h"
#include "fs/replay.h"

static const double HIST_FIRST_S = 10e-6; /* bucket i of a replica_hist counts durations below 2^i times this */

static int one(struct buf *out, const char *name, const char *type, const char *help, int64_t value)
{
    return buf_printf(out, "# HELP quorumfs_%s %s\n# TYPE quorumfs_%s %s\nquorumfs_%s %" PRId64 "\n", name, help, name, type, name, value);
}

static int histogram(struct buf *out, const char *name, const char *help, const struct replica_hist *h)
{
    uint64_t below = 0;
    double bound = HIST_FIRST_S;

    buf_printf(out, "# HELP quorumfs_%s %s\n# TYPE quorumfs_%s histogram\n", name, help, name);
    for (int i = 0; i < REPLICA_HIST_BUCKETS - 1; i++, bound *= 2) {
        below += h->buckets[i];
        buf_printf(out, "quorumfs_%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, bound, below);
    }
    /* The count is the sum of the buckets: a copy made while another thread counts may differ from h->count by one. */
    below += h->buckets[REPLICA_HIST_BUCKETS - 1];
    return buf_printf(out, "quorumfs_%s_bucket{le=\"+Inf\"} %" PRIu64 "\nquorumfs_%s_sum %.6f\nquorumfs_%s_count %" PRIu64 "\n", name, below,
                      name, (double)h->sum_us / 1e6, name, below);
}

static int64_t resident_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    long long size, resident = 0;

    if (!f)
        return 0;
    if (fscanf(f, "%lld %lld", &size, &resident) != 2)
        resident = 0;
    fclose(f);
    return resident * sysconf(_SC_PAGESIZE);
}

static int metrics_member(const struct control_facts *f, struct buf *out)
{
    const struct replica_status *s = &f->status;

    buf_printf(out, "# HELP quorumfs_info Who this is.\n# TYPE quorumfs_info gauge\n"
                    "quorumfs_info{version=\"%s\",cluster=\"%s\",member=\"%u\"} 1\n", QFS_VERSION, f->cluster, s->member);
    one(out, "uptime_seconds", "gauge", "Time since this mount was made.", f->uptime_s);
    one(out, "alarm", "gauge", "1 if this member says that something is wrong; see health.", s->alarm[0] != 0);
    one(out, "has_leader", "gauge", "1 if this member knows a leader.", s->leader != 0);
    one(out, "is_leader", "gauge", "1 if this member is the leader.", s->leader == s->member);
    one(out, "members", "gauge", "Members of the cluster.", s->n_members);
    one(out, "voters", "gauge", "Members that vote.", s->n_voters);
    one(out, "raft_term", "gauge", "The current term.", (int64_t)s->term);
    one(out, "raft_commit_index", "gauge", "Index of the last committed entry.", (int64_t)s->commit);
    one(out, "raft_applied_index", "gauge", "Index of the last applied entry.", (int64_t)s->applied);
    one(out, "raft_last_index", "gauge", "Index of the last entry of the log.", (int64_t)s->last_index);
    one(out, "raft_snapshot_index", "gauge", "Index of the last snapshot.", (int64_t)s->snapshot_index);
    one(out, "raft_log_bytes", "gauge", "Bytes of log entries kept in memory since the last snapshot.", (int64_t)s->log_bytes);
    one(out, "leases_renewed_total", "counter", "Renewals of leases that this member has acknowledged as leader.", (int64_t)s->leases_renewed);
    one(out, "leases_expired_total", "counter", "Leases that this member has ended as leader, because their time was up.", (int64_t)s->leases_expired);
    one(out, "commands_waiting", "gauge", "Commands that were submitted and not answered.", (int64_t)s->n_waiting);
    return one(out, "disk_free_bytes", "gauge", "Free bytes on the disk of the data directory.", s->free_bytes);
}

static int metrics_store(const struct store_glance *g, struct buf *out)
{
    one(out, "revision", "gauge", "The current revision.", g->rev);
    one(out, "compacted_revision", "gauge", "Older revisions than this are forgotten.", g->compacted);
    one(out, "files", "gauge", "Regular files.", g->n_files);
    one(out, "directories", "gauge", "Directories.", g->n_dirs);
    one(out, "symlinks", "gauge", "Symbolic links.", g->n_symlinks);
    one(out, "leases", "gauge", "Leases.", g->n_leases);
    one(out, "locks", "gauge", "Locks that are held in the cluster.", g->n_locks);
    one(out, "live_bytes", "gauge", "Bytes that count against the quota.", g->live_bytes);
    one(out, "quota_bytes", "gauge", "The quota.", g->quota);
    return one(out, "history_bytes", "gauge", "Bytes of old revisions.", g->hist_bytes);
}

static int metrics_mount(struct fs *fs, const struct control_facts *f, struct buf *out)
{
    one(out, "requests_total", "counter", "Requests of the kernel to this mount.", (int64_t)atomic_load(&fs->n_requests));
    one(out, "commits_total", "counter", "Commits of files through this mount.", (int64_t)atomic_load(&fs->n_commits));
    one(out, "barriers_total", "counter", "Reads through this mount that asked the cluster for its newest state.",
        (int64_t)atomic_load(&fs->n_barriers));
    one(out, "failed_commits_total", "counter", "Commits that failed.", (int64_t)f->failed_commits);
    one(out, "open_files", "gauge", "Open files.", (int64_t)atomic_load(&fs->n_open));
    one(out, "open_streams", "gauge", "Open streams of events.", (int64_t)feed_count(fs));
    one(out, "open_transactions", "gauge", "Transactions that are not finished.", (int64_t)txn_count(fs));
    one(out, "transactions_committed_total", "counter", "Transactions of this mount that took effect.", (int64_t)atomic_load(&fs->n_txn_committed));
    one(out, "transactions_conflicted_total", "counter", "Transactions of this mount that met a conflict.",
        (int64_t)atomic_load(&fs->n_txn_conflicts));
    one(out, "leases_kept", "gauge", "Open files of this mount that keep a lease alive.", (int64_t)leases_kept(fs));
    one(out, "locks_waiting", "gauge", "Calls of this mount that wait for a lock of locks/.", (int64_t)claim_waiting(fs));
    one(out, "dirty_files", "gauge", "Open files with something to commit.", (int64_t)atomic_load(&fs->n_dirty));
    one(out, "dirty_bytes", "gauge", "Bytes written and not committed.", atomic_load(&fs->dirty_bytes));
    return buf_printf(out, "# HELP process_resident_memory_bytes Resident memory size in bytes.\n"
                           "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %" PRId64 "\n", resident_bytes());
}

/* What inotify was told of. */
static int metrics_replay(struct fs *fs, struct buf *out)
{
    struct replay_stats s;

    replay_stats(fs, &s);
    one(out, "replayed_total", "counter", "Changes that watchers of this mount were told of by the replayer.", (int64_t)s.replayed);
    one(out, "replay_skipped_total", "counter", "Changes that nobody can have watched.", (int64_t)s.skipped);
    one(out, "replay_superseded_total", "counter", "Changes told of by a later one, or overtaken by a local one.", (int64_t)s.superseded);
    one(out, "replay_failed_total", "counter", "Changes that watchers could not be told of.", (int64_t)s.failed);
    one(out, "replay_reread_total", "counter", "Changes read from the store again, because too many came at once.", (int64_t)s.reread);
    one(out, "replay_waiting", "gauge", "Changes that watchers are still to be told of.", (int64_t)s.queued);
    return histogram(out, "replay_lag_seconds", "From applying a change to having told watchers of it.", &s.lag);
}

int control__read_metrics(struct fs *fs, const char *child, struct buf *out)
{
    struct control_facts f;

    (void)child;
    control__facts(fs, &f);
    metrics_member(&f, out);
    metrics_store(&f.glance, out);
    metrics_mount(fs, &f, out);
    metrics_replay(fs, out);
    histogram(out, "commit_duration_seconds", "From submitting a command to its answer.", &f.status.commit_time);
    histogram(out, "apply_duration_seconds", "Applying a committed entry to the store.", &f.status.apply_time);
    histogram(out, "log_write_duration_seconds", "Writing an entry to the log, durably.", &f.status.fsync_time);
    histogram(out, "barrier_duration_seconds", "Read barriers: asking the quorum before a read.", &f.status.barrier_time);
    return histogram(out, "checkpoint_duration_seconds", "Checkpoints of the database.", &f.status.checkpoint_time);
}
