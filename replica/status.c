/* status: what other threads may know, from copies that the loop made. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/member.h"
#include "store/base/clock.h"

static const char *role_name(const struct replica *r)
{
    switch (atomic_load(&r->role)) {
    case RAFT_LEADER: return "leader";
    case RAFT_CANDIDATE: return "candidate";
    case RAFT_FOLLOWER: return atomic_load(&r->votes) ? "follower" : "standby";
    default: return "stopped";
    }
}

/* The loop publishes raft_applied after it has pushed what is below, so what was pushed is looked at after it. */
uint64_t member_applied(struct replica *r)
{
    uint64_t raft_applied = atomic_load(&r->raft_applied), pushed = atomic_load(&r->applier.pushed), applied = atomic_load(&r->applier.applied);

    return applied >= pushed && raft_applied > applied ? raft_applied : applied;
}

void replica_status(struct replica *r, struct replica_status *out)
{
    memset(out, 0, sizeof *out);
    out->member = r->id.member_id;
    out->role = role_name(r);
    out->leader = atomic_load(&r->submit.leaderless) ? 0 : atomic_load(&r->leader);
    memcpy(out->cluster_id, r->id.cluster_id, sizeof out->cluster_id);
    out->term = atomic_load(&r->term);
    out->commit = atomic_load(&r->commit);
    out->applied = atomic_load(&r->applier.applied);
    out->last_index = atomic_load(&r->last_index);
    out->snapshot_index = atomic_load(&r->snapshot_index);
    out->n_members = atomic_load(&r->n_members);
    out->n_voters = atomic_load(&r->n_voters);
    out->log_bytes = atomic_load(&r->log_bytes);
    out->n_waiting = submit_count(r);
    out->free_bytes = atomic_load(&r->free_bytes);
    out->leases_renewed = atomic_load(&r->tenure.n_renewed);
    out->leases_expired = atomic_load(&r->tenure.n_expired);
    out->sessions_lapsed = atomic_load(&r->tenure.n_lapsed);
    pthread_mutex_lock(&r->lock);
    if (r->failed)
        snprintf(out->alarm, sizeof out->alarm, "the member has stopped: %.130s", r->failure);
    pthread_mutex_unlock(&r->lock);
    pthread_mutex_lock(&r->standing.lock);
    if (!out->alarm[0])
        snprintf(out->alarm, sizeof out->alarm, "%s", r->standing.diverged);
    pthread_mutex_unlock(&r->standing.lock);
    if (!out->alarm[0] && atomic_load(&r->disk_full))
        snprintf(out->alarm, sizeof out->alarm, "the disk of the data directory is nearly full: writes are refused");
    hist_copy(&r->commit_time, &out->commit_time);
    hist_copy(&r->apply_time, &out->apply_time);
    hist_copy(&r->fsync_time, &out->fsync_time);
    hist_copy(&r->checkpoint_time, &out->checkpoint_time);
    hist_copy(&r->barrier_time, &out->barrier_time);
}

static const char *state_of(const struct member_row *row, const struct standing_member *m, bool self, uint64_t lag)
{
    if (row->role == STORE_MEMBER_LEAVING)
        return "leaving";
    if (!self && (m->heard_ns == 0 || clock_boottime_ns() - m->heard_ns > STANDING_SILENT_MS * INT64_C(1000000)))
        return "unreachable";
    return m->installing ? "installing" : lag > STANDING_STRIDE ? "behind" : "ok";
}

int replica_members(struct replica *r, struct replica_member **out, size_t *n)
{
    struct replica_member *all;
    struct member_row *rows;
    uint64_t commit = atomic_load(&r->commit);
    int64_t next;
    int err = member_table_copy(&r->members, &rows, n, &next);

    if (err)
        return err;
    all = calloc(*n + 1, sizeof *all);
    for (size_t i = 0; all && i < *n; i++) {
        struct standing_member m = {.role = -1};

        standing_get(r, rows[i].id, &m);
        all[i].id = rows[i].id;
        snprintf(all[i].address, sizeof all[i].address, "%s", rows[i].address);
        all[i].role = m.role == RAFT_VOTER ? "voter" : m.role == RAFT_STANDBY ? "standby" : "joining";
        all[i].applied = m.applied;
        all[i].lag = commit > m.applied ? commit - m.applied : 0;
        all[i].state = state_of(&rows[i], &m, rows[i].id == r->id.member_id, all[i].lag);
    }
    free(rows);
    *out = all;
    return all ? 0 : QE_NOMEM;
}

int replica_member_address(struct replica *r, uint32_t id, char *out, size_t size)
{
    struct member_row row;

    if (!member_table_get(&r->members, id, &row))
        return QE_NOENT;
    return (size_t)snprintf(out, size, "%s", row.address) < size ? 0 : QE_RANGE;
}

bool replica_alone(struct replica *r)
{
    return atomic_load_explicit(&r->n_members, memory_order_relaxed) <= 1;
}

int replica_reader(struct replica *r, struct store_reader **out)
{
    return store_reader_open(r->store, out);
}

void replica_glance(struct replica *r, struct store_glance *out)
{
    store_glance(r->store, out);
}
