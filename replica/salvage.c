/* The database is behind the log for two reasons. An entry is applied after it was acknowledged; and SQLite does not flush what it commits, so
 * that a power cut may take its newest transactions: the log is what makes a commit durable. Which of the entries behind it were committed this
 * member cannot know alone: the majority that could say so is lost. So all of them are applied. Every write that was acknowledged and came to this
 * member is among them; the rest are writes whose makers were told nothing, or that the outcome is not known.
 *
 * The log is read from a copy of it, in the directory that is being made: there it is repaired as before a start, without which libraft's files
 * are not always one log. */
#include "replica/salvage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "replica/marker.h"
#include "replica/segment.h"
#include "store/base/failpoint.h"
#include "store/base/log.h"

enum { BATCH_ENTRIES = 32, BATCH_BYTES = 256 << 10 /* in one SQLite transaction */, FILE_BYTES_MAX = 256 << 20 };

#define REMEDY "begin with the directory of another member, or with a copy of this one that has no \"raft\": then what only the log has is lost"

struct reading {
    struct store *s;
    const char *raft;           /* DIR/raft, for sentences */
    struct store_position pos;  /* of the database, before */
    uint64_t next;              /* index of the next entry of the log */
    uint64_t end;               /* of the last one that was read; 0: none */
    uint64_t n_commands;        /* applied, or in `batch` */
    bool superseded;            /* the database came from another member, and what the log has from there on is nobody's */
    struct store_entry batch[BATCH_ENTRIES]; /* borrowed from the segment */
    size_t n, bytes;
    struct buf *why;
};

static int refuse(struct buf *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int refuse(struct buf *why, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    buf_clear(why);
    buf_printf(why, "%s; " REMEDY, text);
    return QE_CORRUPT;
}

/* ---- The copy of the log --------------------------------------------------------------------------------------------------- */

/* As open segments are made, some in advance. */
static bool is_unused(const struct segment_file *f, const struct buf *content)
{
    return f->kind == SEGMENT_OPEN && (content->len == 0 || (content->data[0] == 0 && !memcmp(content->data, content->data + 1, content->len - 1)));
}

static int copy_file(const struct salvage *v, const char *to, const struct segment_file *f, const char *name, struct buf *why)
{
    struct buf content = {0};
    int err = dir_read_file(v->source->raft, name, FILE_BYTES_MAX, &content);

    if (err)
        buf_printf(why, "cannot read \"%s/%s\": %s", v->source->raft, name, qfs_strerror(err));
    else if (!is_unused(f, &content))
        err = dir_write_file(to, name, content.data, content.len, why);
    buf_fini(&content);
    return err;
}

/* A snapshot is two files; a crash may have come between them. */
static int copy_snapshot(const struct salvage *v, const char *to, const struct segment_file *meta, struct buf *why)
{
    char data[sizeof meta->name];
    int err = copy_file(v, to, meta, meta->name, why);

    snprintf(data, sizeof data, "%.*s", (int)(strlen(meta->name) - strlen(".meta")), meta->name);
    if (!err)
        err = copy_file(v, to, meta, data, why);
    if (err != QE_NOENT)
        return err;
    buf_clear(why);
    return 0;
}

static int copy_log(const struct salvage *v, const char *to, struct buf *why)
{
    struct segment_file *files = NULL;
    size_t n = 0;
    int err = segment_list(v->source->raft, &files, &n, why);

    if (!err && mkdir(to, 0700)) {
        buf_printf(why, "cannot make \"%s\": %s", to, strerror(errno));
        err = QE_IO;
    }
    for (size_t i = 0; !err && i < n; i++)
        err = files[i].kind == SEGMENT_SNAPSHOT_META ? copy_snapshot(v, to, &files[i], why) : copy_file(v, to, &files[i], files[i].name, why);
    free(files);
    return err;
}

/* ---- Applying -------------------------------------------------------------------------------------------------------------- */

static int flush(struct reading *r)
{
    bool more;
    int err = r->n ? store_apply(r->s, r->batch, r->n, NULL) : 0;

    if (!err && store_wal_full(r->s))
        err = store_maintain(r->s, -1, false, &more);
    if (err)
        buf_printf(r->why, "cannot apply entry %" PRIu64 " of the log in \"%s\": %s%s%s", r->n ? r->batch[0].index : 0, r->raft, qfs_strerror(err),
                   *store_errmsg(r->s) ? ": " : "", store_errmsg(r->s));
    r->n = r->bytes = 0;
    return err;
}

/* The entry that the database has applied last must be the log's: else what follows belongs to something else. */
static int compare(struct reading *r, const struct segment_entry *e)
{
    uint32_t crc;

    if (store_position_is(&r->pos, e->term, e->command ? e->data.data : NULL, e->data.len, &crc))
        return 0;
    r->superseded = r->pos.installed_at == r->pos.applied;
    if (r->superseded)
        return 0;
    return refuse(r->why, "entry %" PRIu64 " of the log in \"%s\" is not the one that the database has applied: they do not belong together",
                  r->pos.applied, r->raft);
}

static int take_entry(void *data, const struct segment_entry *e)
{
    struct reading *r = data;
    uint64_t index;

    if (!e)
        return flush(r);
    index = r->end = r->next++;
    if (index == r->pos.applied)
        return compare(r, e);
    if (index < r->pos.applied || !e->command || r->superseded)
        return 0;
    r->batch[r->n++] = (struct store_entry){index, e->term, e->data};
    r->bytes += e->data.len;
    r->n_commands++;
    return r->n == BATCH_ENTRIES || r->bytes > BATCH_BYTES ? flush(r) : 0;
}

/* ---- Reading --------------------------------------------------------------------------------------------------------------- */

/* The newest marker: what is at or below its index need not be in the log. */
static struct marker newest_marker(const char *copy, const struct segment_file *files, size_t n)
{
    struct marker m = {0}, found = {0};
    struct buf ignored = {0};

    for (size_t i = 0; i < n; i++)
        if (files[i].kind == SEGMENT_SNAPSHOT_META && segment_snapshot(copy, &files[i], &m, &ignored) == 0 && m.index > found.index)
            found = m;
    buf_fini(&ignored);
    return found;
}

/* Where the log begins that ends with the last entry: closed segments before a gap are not used. `first`: its index. */
static size_t begin_of_log(const struct segment_file *files, size_t n, const struct marker *m, uint64_t *first)
{
    size_t begin = 0;

    *first = n > 0 && files[0].kind == SEGMENT_CLOSED ? files[0].first : m->index + 1;
    for (size_t i = 1; i < n && files[i].kind == SEGMENT_CLOSED; i++)
        if (files[i].first != files[i - 1].last + 1) {
            begin = i;
            *first = files[i].first;
        }
    return begin;
}

static int read_segments(struct reading *r, const char *copy, const struct segment_file *files, size_t n)
{
    const char *torn = NULL;
    struct segment_scan scan;
    int err = 0;

    for (size_t i = 0; !err && i < n && files[i].kind != SEGMENT_SNAPSHOT_META; i++) {
        if (files[i].kind == SEGMENT_CLOSED && files[i].last < r->pos.applied) {
            r->end = files[i].last;
            r->next = r->end + 1;
            continue; /* the database has all of it */
        }
        err = segment_read(copy, &files[i], r->pos.cluster_id, take_entry, r, &scan);
        if (err && r->why->len == 0)
            buf_printf(r->why, "cannot read \"%s/%s\": %s", r->raft, files[i].name, qfs_strerror(err));
        if (!err && torn && scan.n_entries > 0)
            err = refuse(r->why, "\"%s/%s\" is damaged: its last entries are cut, but \"%s\" goes on after them", r->raft, torn, files[i].name);
        if (!err && scan.tail == SEGMENT_DAMAGED)
            err = refuse(r->why, "the log of \"%s\" is damaged behind index %" PRIu64 ": \"%s\": %s; its database has applied %" PRIu64, r->raft,
                         r->next - 1, files[i].name, scan.detail, r->pos.applied);
        if (scan.tail == SEGMENT_TORN)
            torn = files[i].name;
    }
    return err;
}

static int read_log(struct reading *r, const char *copy)
{
    struct segment_file *files = NULL;
    struct marker marker;
    uint64_t first;
    size_t n = 0, begin;
    int err = segment_list(copy, &files, &n, r->why);

    if (err)
        return err;
    marker = newest_marker(copy, files, n);
    begin = begin_of_log(files, n, &marker, &first);
    r->next = first;
    if (first > r->pos.applied + 1)
        err = refuse(r->why, "the log in \"%s\" begins at index %" PRIu64 ", but the database has applied %" PRIu64 " only: what lies between is missing",
                     r->raft, first, r->pos.applied);
    else if (marker.index == r->pos.applied && marker.term != r->pos.term && marker.index > 0)
        err = refuse(r->why, "the log in \"%s\" was cut at index %" PRIu64 " of term %" PRIu64 ", but the database has applied that of term %" PRIu64
                     ": they do not belong together", r->raft, marker.index, marker.term, r->pos.term);
    if (!err)
        err = read_segments(r, copy, files + begin, n - begin);
    if (!err && marker.index > r->end && marker.index > r->pos.applied)
        err = refuse(r->why, "the log in \"%s\" was cut at index %" PRIu64 ", but the database has applied %" PRIu64 " only: what lies between is missing",
                     r->raft, marker.index, r->pos.applied);
    if (!err && r->end < r->pos.applied && marker.index < r->pos.applied && r->pos.installed_at != r->pos.applied)
        err = refuse(r->why, "the log in \"%s\" ends at index %" PRIu64 ", but the database has applied %" PRIu64 ": a part of the log is lost, and "
                     "what it has may be something else", r->raft, r->end, r->pos.applied);
    free(files);
    return err;
}

static int belongs(const struct salvage *v, const struct store_position *pos, struct buf *why)
{
    struct dir_identity id;
    int err = dir_identity_read(v->source, &id, why);

    if (err == QE_CORRUPT)
        return refuse(why, "\"%s/epoch\" is missing or damaged, which says whose log this is", v->source->raft);
    if (!err && (id.epoch != pos->epoch || memcmp(id.cluster_id, pos->cluster_id, sizeof id.cluster_id) != 0))
        return refuse(why, "the database in \"%s\" and its \"raft\" directory do not belong together", v->source->path);
    return err;
}

int salvage_apply(void *data, struct store *s, struct buf *why)
{
    const struct salvage *v = data;
    struct reading r = {.s = s, .raft = v->source->raft, .why = why};
    char *copy = dir_join(v->into->path, DIR_OLD_LOG);
    struct stat st;
    int err;

    if (!copy)
        return QE_NOMEM;
    store_position(s, &r.pos);
    if (stat(v->source->raft, &st) && errno == ENOENT) {
        log_warn("init", "there is no \"%s\": what the log had and the database has not is not in the new cluster", v->source->raft);
        free(copy);
        return 0;
    }
    err = belongs(v, &r.pos, why);
    if (!err)
        err = copy_log(v, copy, why);
    if (!err && FAILPOINT("replica.init.salvage"))
        err = QE_IO;
    if (!err)
        err = segment_repair(copy, r.pos.cluster_id, why);
    if (!err)
        err = read_log(&r, copy);
    if (!err)
        err = dir_remove_log(copy, why);
    if (!err && r.n_commands)
        log_info("init", "applied what only the log of \"%s\" had entries=%" PRIu64 " last=%" PRIu64 ": all that was acknowledged and came to this "
                 "member is there; the last of them may be writes of which nobody was told whether they took effect", v->source->path, r.n_commands, r.end);
    free(copy);
    return err;
}
