/* disk: what a member does about a disk that fills up.
 *
 * Refusing early is cheap, failing late is not: libraft allocates whole segments and must be stopped when that fails. So nothing is
 * proposed while less than a few segments are free, and the ballast is given up when even the member's own needs do not fit. When
 * room comes back, the ballast is made again first, and then writes are accepted.
 *
 * Before it comes to that, history makes room: while little is free the leader proposes compactions beyond what `retain` asks for. The
 * database file does not become shorter by that, but what comes next is written where old versions were, so that no more room is taken. */
#include <inttypes.h>

#include "replica/member.h"
#include "store/base/clock.h"
#include "store/base/log.h"

enum {
    ADMIT_SEGMENTS = 4,    /* free for a user's command: the segment in use, two ahead, and the WAL's growth */
    INTERNAL_SEGMENTS = 2, /* free for the member's own, among them compaction, which makes room */
    START_BYTES = 1 << 20, /* free for a session and the first inode numbers, for which the segments that a start has made have room */
};
static const int64_t SHORT_BYTES_MAX = INT64_C(256) << 20; /* above what writes need; the log may still grow by half of it; of a small disk a quarter */
static const int64_t LOOK_EVERY_NS = 100000000; /* how old the knowledge of free space may be */

static int64_t needed(bool internal)
{
    return (int64_t)MEMBER_SEGMENT_BYTES * (internal ? INTERNAL_SEGMENTS : ADMIT_SEGMENTS);
}

static void look(struct replica *r, int64_t now)
{
    int64_t size = 0, free_bytes = dir_free_bytes(r->dir.path, &size);

    r->disk_checked_ns = now;
    atomic_store(&r->disk_bytes, size);
    atomic_store(&r->free_bytes, free_bytes);
}

/* A start needs room for its segments and for what the database has to catch up with. */
void disk_prepare(struct replica *r)
{
    look(r, clock_boottime_ns());
    if (atomic_load(&r->free_bytes) < needed(false) && dir_ballast_release(&r->dir)) {
        log_warn("replica", "the disk of \"%s\" is nearly full: gave up the ballast to start", r->dir.path);
        atomic_store(&r->disk_full, true);
        look(r, clock_boottime_ns());
    } else if (dir_ballast_make(&r->dir, MEMBER_SEGMENT_BYTES)) {
        log_warn("replica", "no room for the ballast in \"%s\"", r->dir.path);
    }
}

bool disk_admits(struct replica *r, bool internal)
{
    int64_t now = clock_boottime_ns(), free_bytes;

    if (now - r->disk_checked_ns > LOOK_EVERY_NS)
        look(r, now);
    free_bytes = atomic_load(&r->free_bytes);
    if (free_bytes < 0)
        return true; /* unknown: the write itself will tell */
    if (!internal && (atomic_load(&r->disk_full) || free_bytes < needed(false))) {
        if (!atomic_exchange(&r->disk_full, true))
            log_error("replica", "the disk of \"%s\" is nearly full: writes are refused free=%" PRId64, r->dir.path, free_bytes);
        return false;
    }
    if (internal && free_bytes < needed(true) && dir_ballast_release(&r->dir)) {
        log_warn("replica", "gave up the ballast of \"%s\"", r->dir.path);
        look(r, now);
        free_bytes = atomic_load(&r->free_bytes);
    }
    return !internal || free_bytes >= (serve_is_ready(r) ? needed(true) : START_BYTES);
}

void disk_look(struct replica *r)
{
    int64_t now = clock_boottime_ns();

    if (now - r->disk_checked_ns >= LOOK_EVERY_NS * 10)
        look(r, now);
    if (atomic_load(&r->role) != RAFT_LEADER && atomic_load(&r->free_bytes) < needed(true) && dir_ballast_release(&r->dir)) {
        log_warn("replica", "gave up the ballast of \"%s\" to follow the leader", r->dir.path);
        atomic_store(&r->disk_full, true);
        look(r, now);
    }
    if (!atomic_load(&r->disk_full) || atomic_load(&r->free_bytes) < needed(false))
        return;
    if (dir_ballast_make(&r->dir, (uint64_t)needed(false)))
        return; /* not enough room for both yet */
    atomic_store(&r->disk_full, false);
    log_info("replica", "there is room on the disk of \"%s\" again: writes are accepted", r->dir.path);
}

bool disk_short(struct replica *r, int64_t reusable)
{
    int64_t free_bytes = atomic_load(&r->free_bytes), margin = atomic_load(&r->disk_bytes) / 4;

    margin = margin < SHORT_BYTES_MAX ? margin : SHORT_BYTES_MAX;
    return free_bytes >= 0 && free_bytes + reusable < needed(false) + margin;
}
