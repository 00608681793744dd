/* status: what other threads may know, from copies that the loop made. */
#include <stdio.h>
#include <string.h>

#include "replica/member.h"

static const char *role_name(const struct replica *r)
{
    switch (atomic_load(&r->role)) {
    case RAFT_LEADER: return "leader";
    case RAFT_CANDIDATE: return "candidate";
    case RAFT_FOLLOWER: return "follower";
    default: return "stopped";
    }
}

void replica_status(struct replica *r, struct replica_status *out)
{
    memset(out, 0, sizeof *out);
    out->member = r->id.member_id;
    out->role = role_name(r);
    out->leader = atomic_load(&r->leader);
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
    pthread_mutex_lock(&r->lock);
    if (r->failed)
        snprintf(out->alarm, sizeof out->alarm, "the member has stopped: %.130s", r->failure);
    pthread_mutex_unlock(&r->lock);
    if (!out->alarm[0] && atomic_load(&r->disk_full))
        snprintf(out->alarm, sizeof out->alarm, "the disk of the data directory is nearly full: writes are refused");
    hist_copy(&r->commit_time, &out->commit_time);
    hist_copy(&r->apply_time, &out->apply_time);
    hist_copy(&r->fsync_time, &out->fsync_time);
    hist_copy(&r->checkpoint_time, &out->checkpoint_time);
    hist_copy(&r->barrier_time, &out->barrier_time);
}

int replica_member_address(struct replica *r, uint32_t id, char *out, size_t size)
{
    struct member_row row;

    if (!member_table_get(&r->members, id, &row))
        return QE_NOENT;
    return (size_t)snprintf(out, size, "%s", row.address) < size ? 0 : QE_RANGE;
}

int replica_reader(struct replica *r, struct store_reader **out)
{
    return store_reader_open(r->store, out);
}

void replica_glance(struct replica *r, struct store_glance *out)
{
    store_glance(r->store, out);
}
