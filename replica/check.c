/* check: looks at a data directory that nobody serves, reports what is there, and names what is damaged. Changes nothing. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/dir.h"
#include "replica/marker.h"
#include "replica/replica.h"
#include "replica/segment.h"

struct report {
    store_say_cb say;
    void *data;
    struct dir dir;
    struct dir_identity id;       /* when id_known */
    bool id_known;
    bool damaged;                 /* something was found */
    int unreadable;               /* 0, or the error of something that could not be looked at */
    uint64_t log_first, log_last; /* indexes in the log's closed and open segments; 0: none */
    uint64_t log_term;            /* of log_last */
    uint64_t snapshot_index;      /* of the newest marker, 0: none */
    uint64_t meta_term;           /* of the metadata that counts */
    struct store_position pos;    /* of the database; all 0: not known */
    uint64_t at;                  /* index of the next entry of the segment that is read */
    bool differs;                 /* at the index that the database has applied last the log has another entry, */
    uint64_t other_term;          /* of this term, */
    uint32_t other_crc;           /* and for a command with this checksum */
};

static void say(struct report *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct report *r, const char *fmt, ...)
{
    char line[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    r->say(r->data, line);
}

/* Says what `why` holds, if anything, and remembers the error. */
static void found(struct report *r, int err, struct buf *why)
{
    if (err == QE_CORRUPT || err == QE_FORMAT)
        r->damaged = true;
    else if (err)
        r->unreadable = err;
    if (err)
        say(r, "%s", why->len ? buf_cstr(why) : qfs_strerror(err));
    buf_clear(why);
}

static void check_identity(struct report *r, struct buf *why)
{
    int err = dir_identity_read(&r->dir, &r->id, why);
    char hex[2 * STORE_CLUSTER_ID_SIZE + 1] = "";

    found(r, err, why);
    if (err)
        return;
    r->id_known = true;
    for (int i = 0; i < STORE_CLUSTER_ID_SIZE; i++)
        snprintf(hex + 2 * i, 3, "%02x", r->id.cluster_id[i]);
    say(r, "cluster %s member %" PRIu32 " epoch %" PRIu64, hex, r->id.member_id, r->id.epoch);
}

static void check_metadata(struct report *r, struct buf *why)
{
    struct segment_metadata m[2] = {{0}};

    found(r, segment_metadata(r->dir.raft, m, why), why);
    for (int i = 0; i < 2; i++) {
        if (!m[i].present)
            continue;
        say(r, "raft/metadata%d version %" PRIu64 " term %" PRIu64 " vote %" PRIu64, i + 1, m[i].version, m[i].term, m[i].vote);
        if (m[i].version >= m[!i].version)
            r->meta_term = m[i].term;
    }
}

/* The entries of an open segment continue the log. */
static uint64_t first_of(const struct report *r, const struct segment_file *f)
{
    return f->kind == SEGMENT_CLOSED ? f->first : r->log_last ? r->log_last + 1 : r->snapshot_index + 1;
}

static int meet_entry(void *data, const struct segment_entry *e)
{
    struct report *r = data;

    if (!e || r->at++ != r->pos.applied)
        return 0;
    r->differs = !store_position_is(&r->pos, e->term, e->command ? e->data.data : NULL, e->data.len, &r->other_crc);
    r->other_term = e->term;
    return 0;
}

static void add_segment(struct report *r, const struct segment_file *f, const struct segment_scan *s)
{
    uint64_t first = first_of(r, f);

    if (s->n_entries == 0)
        return;
    if (r->log_last && first != r->log_last + 1 && first <= r->snapshot_index + 1)
        r->log_first = r->log_last = 0; /* what came before is older than the marker and has a gap: not used */
    if (r->log_last && first != r->log_last + 1) {
        say(r, "\"raft/%s\" does not follow index %" PRIu64, f->name, r->log_last);
        r->damaged = true;
    }
    if (!r->log_first)
        r->log_first = first;
    r->log_last = first + s->n_entries - 1;
    r->log_term = s->last_term;
}

static void check_segment(struct report *r, const struct segment_file *f)
{
    static const char *const tails[] = {"", "", ", the last write is cut", ", DAMAGED: "};
    struct segment_scan s;
    uint64_t first;
    int err;

    r->at = first_of(r, f);
    err = segment_read(r->dir.raft, f, r->id_known ? r->id.cluster_id : NULL, meet_entry, r, &s);
    if (err) {
        r->unreadable = err;
        say(r, "cannot read \"raft/%s\": %s", f->name, qfs_strerror(err));
        return;
    }
    add_segment(r, f, &s);
    if (s.tail == SEGMENT_DAMAGED)
        r->damaged = true;
    if (s.n_entries == 0) {
        say(r, "raft/%s %s, %" PRIu64 " bytes%s%s", f->name, s.tail == SEGMENT_DAMAGED ? "no sound entries" : "unused", s.file_bytes,
            tails[s.tail], s.detail);
        return;
    }
    first = r->log_last - s.n_entries + 1;
    say(r, "raft/%s index %" PRIu64 "-%" PRIu64 " term %" PRIu64 "-%" PRIu64 ", %" PRIu64 " of %" PRIu64 " bytes%s%s", f->name, first,
        r->log_last, s.first_term, s.last_term, s.used_bytes, s.file_bytes, tails[s.tail], s.detail);
}

static void check_snapshot(struct report *r, const struct segment_file *f, struct buf *why)
{
    struct marker m;
    int err = segment_snapshot(r->dir.raft, f, &m, why);

    if (err == QE_NOENT) {
        say(r, "raft/%s was left by a crash and is not used", f->name);
        return;
    }
    found(r, err, why);
    if (err)
        return;
    say(r, "raft/%s index %" PRIu64 " term %" PRIu64 " revision %" PRId64, f->name, m.index, m.term, m.rev);
    if (m.index > r->snapshot_index)
        r->snapshot_index = m.index;
}

static void check_log(struct report *r, struct buf *why)
{
    struct segment_file *files = NULL;
    size_t n = 0;
    int err = segment_list(r->dir.raft, &files, &n, why);

    found(r, err, why);
    for (size_t i = 0; i < n; i++) /* first: they say where the log may begin */
        if (files[i].kind == SEGMENT_SNAPSHOT_META)
            check_snapshot(r, &files[i], why);
    for (size_t i = 0; i < n; i++)
        if (files[i].kind != SEGMENT_SNAPSHOT_META)
            check_segment(r, &files[i]);
    free(files);
    if (r->log_first > r->snapshot_index + 1) {
        say(r, "the log begins at index %" PRIu64 ", but nothing vouches for what is before it", r->log_first);
        r->damaged = true;
    }
    if (r->log_term > r->meta_term) {
        say(r, "the log has term %" PRIu64 ", but raft/metadata1 and raft/metadata2 know only %" PRIu64, r->log_term, r->meta_term);
        r->damaged = true;
    }
}

static uint64_t last_index(const struct report *r)
{
    return r->log_last > r->snapshot_index ? r->log_last : r->snapshot_index;
}

static void check_fit(struct report *r, const struct store_summary *s)
{
    const struct store_position *p = &s->position;
    uint64_t last = last_index(r);
    bool fits = true;

    if (r->id_known && (memcmp(p->cluster_id, r->id.cluster_id, sizeof p->cluster_id) != 0 || p->epoch != r->id.epoch)) {
        say(r, "the database and raft/epoch do not belong together");
        fits = false;
    }
    if (p->applied < r->snapshot_index) {
        say(r, "the database is at index %" PRIu64 ", but the log was cut at %" PRIu64, p->applied, r->snapshot_index);
        fits = false;
    }
    if (last < p->applied && p->installed_at != p->applied) {
        say(r, "the database is at index %" PRIu64 ", but the log ends at %" PRIu64, p->applied, last);
        fits = false;
    }
    if (r->differs && p->applied > 0 && p->installed_at != p->applied) {
        say(r, "entry %" PRIu64 " of the log (term %" PRIu64 ", crc %08" PRIx32 ") is not the one that the database has applied (term %" PRIu64
            ", crc %08" PRIx32 ")", p->applied, r->other_term, r->other_crc, p->term, p->crc);
        fits = false;
    }
    if (p->term > r->meta_term) {
        say(r, "the database has term %" PRIu64 ", but raft/metadata1 and raft/metadata2 know only %" PRIu64, p->term, r->meta_term);
        fits = false;
    }
    if (fits)
        say(r, "log and database fit: applied %" PRIu64 " of %" PRIu64, p->applied, last);
    else
        r->damaged = true;
}

static int check_all(struct report *r)
{
    struct store_summary summary = {0};
    struct buf why = {0};
    int err;

    check_identity(r, &why);
    check_metadata(r, &why);
    (void)store_check_position(r->dir.path, &r->pos); /* why not, if not, is said below */
    check_log(r, &why);
    err = store_check(r->dir.path, r->say, r->data, &summary);
    if (err == QE_CORRUPT || err == QE_FORMAT)
        r->damaged = true;
    else if (err)
        r->unreadable = err;
    else
        check_fit(r, &summary);
    buf_fini(&why);
    return r->damaged ? QE_CORRUPT : r->unreadable;
}

int replica_check(const char *dir, store_say_cb cb, void *data)
{
    struct report r = {.say = cb, .data = data, .dir = {.lock_fd = -1}};
    struct buf why = {0}, what = {0};
    int err = 0;

    switch (dir_state(dir, &what)) {
    case REPLICA_DIR_MISSING:
        say(&r, "\"%s\" does not exist", dir);
        err = QE_NOCLUSTER;
        break;
    case REPLICA_DIR_EMPTY:
        say(&r, "\"%s\" holds no cluster", dir);
        err = QE_NOCLUSTER;
        break;
    case REPLICA_DIR_FOREIGN:
        say(&r, "\"%s\" is not a data directory: it holds \"%s\"", dir, buf_cstr(&what));
        err = QE_NOCLUSTER;
        break;
    case REPLICA_DIR_READY:
        break;
    }
    if (!err)
        err = dir_init(&r.dir, dir);
    if (!err) {
        err = dir_lock_readonly(&r.dir, &why);
        if (err)
            say(&r, "%s", why.len ? buf_cstr(&why) : qfs_strerror(err));
    }
    if (!err)
        err = check_all(&r);
    dir_fini(&r.dir);
    buf_fini(&why);
    buf_fini(&what);
    return err;
}
