/* examine: looks at DIR/raft before libraft opens it. Repairs three things that libraft cannot come back from, although nothing is lost,
 * and refuses what it would drop or misread without a word. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replica/dir.h"
#include "replica/marker.h"
#include "replica/segment.h"
#include "store/base/err.h"
#include "store/base/log.h"

/* A truncation writes the shortened segment before it removes the long one, so a crash between leaves both. Without the shorter
 * one everything is as before the truncation; nothing that came after it can have been acknowledged. */
static int repair_truncation(const char *raft_dir, struct segment_file *files, size_t n, struct buf *why)
{
    struct segment_scan scan;
    char *path;
    int err = 0;

    for (size_t i = 0; !err && i + 1 < n; i++) {
        const struct segment_file *shorter = &files[i], *longer = &files[i + 1];

        if (shorter->kind != SEGMENT_CLOSED || longer->kind != SEGMENT_CLOSED || shorter->first != longer->first)
            continue;
        err = segment_scan(raft_dir, longer, NULL, &scan);
        if (err || scan.tail == SEGMENT_DAMAGED)
            continue; /* not sure enough: libraft refuses it */
        path = dir_join(raft_dir, shorter->name);
        if (!path || unlink(path) || dir_sync(raft_dir)) {
            buf_printf(why, "cannot remove \"%s/%s\", left by a truncation: %s", raft_dir, shorter->name, strerror(errno));
            err = path ? QE_IO : QE_NOMEM;
        } else {
            log_warn("replica", "removed \"%s\", left by an interrupted truncation of \"%s\"", shorter->name, longer->name);
        }
        free(path);
    }
    return err;
}

/* Finishes what libraft does to close a segment. */
static int close_segment(const char *raft_dir, const struct segment_file *open_file, uint64_t used, uint64_t first, uint64_t last,
                         struct buf *why)
{
    char name[48], *from = dir_join(raft_dir, open_file->name), *to;
    int fd = from ? open(from, O_WRONLY | O_CLOEXEC) : -1, err = QE_IO;

    snprintf(name, sizeof name, "%016" PRIu64 "-%016" PRIu64, first, last);
    to = dir_join(raft_dir, name);
    if (fd >= 0 && to && ftruncate(fd, (off_t)used) == 0 && fsync(fd) == 0 && rename(from, to) == 0 && dir_sync(raft_dir) == 0) {
        log_warn("replica", "closed \"%s\" as \"%s\", which had failed before", open_file->name, name);
        err = 0;
    } else {
        buf_printf(why, "cannot close \"%s/%s\" as \"%s\": %s", raft_dir, open_file->name, name, strerror(errno));
    }
    if (fd >= 0)
        close(fd);
    free(from);
    free(to);
    return err;
}

/* The newest marker that libraft will use: what is at or below it need not be in the log. 0: none. */
static uint64_t vouched(const char *raft_dir, const struct segment_file *files, size_t n)
{
    struct buf ignored = {0};
    struct marker m = {0};
    int err = QE_NOENT;

    while (err == QE_NOENT && n > 0 && files[n - 1].kind == SEGMENT_SNAPSHOT_META)
        err = segment_snapshot(raft_dir, &files[--n], &m, &ignored);
    buf_fini(&ignored);
    return err ? 0 : m.index;
}

/* A snapshot from the leader takes the place of the log: when it is written the segments go. A crash before that leaves segments that end
 * below it. libraft refuses those when there are open ones as well, which it always has at hand, allocated and not used: it hopes that they go on
 * where the others end. The marker vouches for all that these segments hold. */
static int repair_install(const char *raft_dir, const struct segment_file *files, size_t n, bool *repaired, struct buf *why)
{
    uint64_t marker = vouched(raft_dir, files, n);
    size_t n_closed = 0;
    struct segment_scan scan;

    for (; n_closed < n && files[n_closed].kind == SEGMENT_CLOSED; n_closed++)
        if (files[n_closed].last >= marker)
            return 0;
    for (size_t i = n_closed; i < n && files[i].kind == SEGMENT_OPEN; i++)
        if (segment_scan(raft_dir, &files[i], NULL, &scan) || scan.tail != SEGMENT_ZEROS || scan.n_entries > 0)
            return 0; /* this does not come from an install */
    for (size_t i = 0; i < n_closed; i++) {
        char *path = dir_join(raft_dir, files[i].name);

        if (!path || (unlink(path) && errno != ENOENT)) {
            buf_printf(why, "cannot remove \"%s/%s\", which a snapshot has replaced: %s", raft_dir, files[i].name, strerror(errno));
            free(path);
            return QE_IO;
        }
        log_info("replica", "removed \"%s\", which the snapshot at index %" PRIu64 " has replaced", files[i].name, marker);
        free(path);
        *repaired = true;
    }
    return n_closed && dir_sync(raft_dir) ? QE_IO : 0;
}

/* libraft says nothing when it cannot close a segment, and goes on. When a later one is closed, the entries of the first are
 * missing between the closed ones, which nothing else can cause above the newest marker. They are in the open segment with the
 * lowest number, whole, because later ones were begun after it. */
static int repair_unclosed(const char *raft_dir, const struct segment_file *files, size_t n, const uint8_t *cluster_id, bool *repaired,
                           struct buf *why)
{
    const struct segment_file *open_file = NULL, *before = NULL, *after = NULL;
    struct segment_scan gap, prev = {0}, next;
    uint64_t first, marker;
    int err;

    for (size_t i = 0; i < n && !open_file; i++)
        if (files[i].kind == SEGMENT_OPEN)
            open_file = &files[i];
    for (size_t i = 0; i < n && files[i].kind == SEGMENT_CLOSED; i++) { /* the newest gap; what is before an older one is not used */
        if (i > 0 ? files[i].first > files[i - 1].last + 1 : files[i].first > 1) {
            before = i > 0 ? &files[i - 1] : NULL;
            after = &files[i];
        }
    }
    marker = vouched(raft_dir, files, n);
    if (!open_file || !after || after->first <= marker + 1)
        return 0; /* there is no gap, or libraft does not use what is before it */
    err = segment_scan(raft_dir, open_file, cluster_id, &gap);
    if (!err)
        err = segment_scan(raft_dir, after, cluster_id, &next);
    if (!err && before)
        err = segment_scan(raft_dir, before, cluster_id, &prev);
    if (err || (gap.tail != SEGMENT_WHOLE && gap.tail != SEGMENT_ZEROS) || gap.n_entries == 0 || gap.n_entries >= after->first)
        return err;
    first = after->first - gap.n_entries;
    if ((before ? first != before->last + 1 : first > marker + 1) || gap.first_term < prev.last_term || gap.last_term > next.first_term)
        return 0; /* it does not fit: libraft refuses the gap */
    *repaired = true;
    return close_segment(raft_dir, open_file, gap.used_bytes, first, after->first - 1, why);
}

/* An open segment is written only after the one before it is complete. */
static int examine_open(const char *raft_dir, const struct segment_file *files, size_t n, const uint8_t *cluster_id, struct buf *why)
{
    const struct segment_file *torn = NULL;
    struct segment_scan scan;

    for (size_t i = 0; i < n; i++) {
        int err;

        if (files[i].kind != SEGMENT_OPEN)
            continue;
        err = segment_scan(raft_dir, &files[i], cluster_id, &scan);
        if (err) {
            buf_printf(why, "cannot read \"%s/%s\": %s", raft_dir, files[i].name, qfs_strerror(err));
            return err;
        }
        if (torn && scan.n_entries > 0) {
            buf_printf(why, "\"%s/%s\" is damaged: its last entries are cut, but \"%s\" goes on after them", raft_dir, torn->name,
                       files[i].name);
            return QE_CORRUPT;
        }
        if (scan.tail == SEGMENT_DAMAGED) {
            buf_printf(why, "\"%s/%s\" is damaged: %s", raft_dir, files[i].name, scan.detail);
            return QE_CORRUPT;
        }
        if (scan.tail == SEGMENT_TORN)
            torn = &files[i];
    }
    return 0;
}

int segment_repair(const char *raft_dir, const uint8_t *cluster_id, struct buf *why)
{
    struct segment_file *files = NULL;
    bool repaired = false;
    size_t n = 0;
    int err = segment_list(raft_dir, &files, &n, why);

    if (!err)
        err = repair_truncation(raft_dir, files, n, why);
    if (!err)
        err = repair_install(raft_dir, files, n, &repaired, why);
    if (!err && !repaired)
        err = repair_unclosed(raft_dir, files, n, cluster_id, &repaired, why);
    free(files);
    return err;
}

int segment_examine(const char *raft_dir, const uint8_t *cluster_id, struct buf *why)
{
    struct segment_file *files = NULL;
    struct segment_metadata m[2];
    size_t n = 0;
    int err = segment_metadata(raft_dir, m, why);

    if (!err)
        err = segment_repair(raft_dir, cluster_id, why);
    if (!err)
        err = segment_list(raft_dir, &files, &n, why);
    if (!err)
        err = examine_open(raft_dir, files, n, cluster_id, why);
    if (err == QE_CORRUPT)
        buf_printf(why, "; " DIR_REMEDY);
    free(files);
    return err;
}
