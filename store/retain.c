/* Forgetting, the replicated part: which revision reads may no longer go below. Deleting the rows is compact.c's, at its own pace. */
#include "store/compact.h"

/* Superseded bytes up to and including revision `rev`, which is above compacted. */
static int hist_at(struct store *s, int64_t rev, int64_t *out)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_VER_HIST);
    bool found;
    int err;

    *out = s->st.hist_base;
    bind_i(q, 1, seq_of(rev + 1, 0));
    err = conn_row(&s->conn, q, &found);
    if (err || !found)
        return err;
    if (rev_of(col_i(q, 0)) > s->st.compacted) /* older rows may have been deleted, or not yet */
        *out = col_i(q, 1);
    conn_reset(q);
    return 0;
}

int op_compact(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    int64_t base;
    int err;

    (void)t;
    (void)ino;
    if (op->rev > s->st.rev)
        return QE_RANGE;
    if (op->rev <= s->st.compacted)
        return QE_STALE;
    err = hist_at(s, op->rev, &base);
    if (err)
        return err;
    s->st.compacted = op->rev;
    s->st.hist_base = base;
    return 0;
}

/* The lowest revision from which history has at most `limit` bytes. */
static int rev_for_bytes(struct store *s, int64_t limit, int64_t *out)
{
    int64_t lo = s->st.compacted, hi = s->st.rev; /* hi is enough, lo is not */

    while (hi - lo > 1) {
        int64_t mid = lo + (hi - lo) / 2, hist;
        int err = hist_at(s, mid, &hist);

        if (err)
            return err;
        if (s->st.hist_total - hist <= limit)
            hi = mid;
        else
            lo = mid;
    }
    *out = hi;
    return 0;
}

static int rev_at_time(struct store *s, int64_t time_ns, int64_t *out)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_TIME_REV_AT);
    bool found;
    int err;

    *out = 0;
    bind_i(q, 1, time_ns);
    err = conn_row(&s->conn, q, &found);
    if (err || !found)
        return err;
    *out = col_i(q, 0);
    conn_reset(q);
    return 0;
}

/* Each limit has a sixteenth of slack, so that a busy store is compacted now and then and not at each revision. */
static int64_t with_slack(int64_t limit)
{
    return limit > INT64_MAX / 2 ? INT64_MAX : limit + limit / 16;
}

static int wanted(struct store *s, const struct retain *r, int64_t time_ns, int64_t *out)
{
    const struct state *st = &s->st;
    int64_t rev, late;
    int err = 0;

    *out = 0;
    if (r->revisions && st->rev - st->compacted > with_slack(r->revisions))
        *out = st->rev - r->revisions;
    if (r->bytes && st->hist_total - st->hist_base > with_slack(r->bytes)) {
        err = rev_for_bytes(s, r->bytes, &rev);
        if (!err && rev > *out)
            *out = rev;
    }
    if (!err && r->time_ns) {
        err = rev_at_time(s, time_ns - with_slack(r->time_ns), &late);
        if (!err && late > st->compacted) {
            err = rev_at_time(s, time_ns - r->time_ns, &rev);
            if (!err && rev > *out)
                *out = rev;
        }
    }
    return err;
}

static int64_t doubled(int64_t limit)
{
    return limit > INT64_MAX / 2 ? INT64_MAX : limit * 2;
}

/* What is wanted up to the lowest bookmark; beyond it only as far as a bookmark does not count any more. */
static int held_back(struct store *s, const struct retain *r, int64_t time_ns, int64_t *rev)
{
    const struct retain limit = {doubled(r->revisions), doubled(r->bytes), doubled(r->time_ns)};
    int64_t lowest, must;
    int err = bookmarks_lowest(&s->conn, s->st.compacted, &lowest);

    if (err || *rev <= lowest)
        return err;
    err = wanted(s, &limit, time_ns, &must);
    *rev = must > lowest ? must : lowest;
    return err;
}

static int passed_by(struct store *s, int64_t rev, int64_t *out)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_BOOKMARK_PASSED);
    bool found;
    int err;

    bind_i(q, 1, s->st.compacted);
    bind_i(q, 2, rev);
    err = conn_row(&s->conn, q, &found);
    if (err || !found)
        return err ? err : QE_CORRUPT;
    *out = col_i(q, 0);
    conn_reset(q);
    return 0;
}

int64_t store_compact_wanted(struct store *s, int64_t time_ns, int64_t *passed)
{
    struct buf text = {0};
    struct retain r;
    int64_t rev = 0, count = 0;
    int err = setting_get(&s->conn, "retain", &text);

    if (!err)
        err = retain_parse(buf_cstr(&text), &r);
    if (!err)
        err = wanted(s, &r, time_ns, &rev);
    if (!err && rev > s->st.compacted)
        err = held_back(s, &r, time_ns, &rev);
    if (!err && rev > s->st.compacted)
        err = passed_by(s, rev, &count);
    buf_fini(&text);
    if (err || rev <= s->st.compacted)
        return 0;
    if (passed)
        *passed = count;
    return rev;
}

/* ---- A disk that fills up ------------------------------------------------------------------------------------------------ */

int64_t store_reusable_bytes(struct store *s)
{
    int64_t pages = 0;

    return conn_pragma(&s->conn, "PRAGMA freelist_count", &pages) ? 0 : pages * 4096;
}

/* Old versions are stored once or not at all, so half of what is counted is about half of the room. The lowest bookmark stops it, unless
 * that is where it begins. */
int64_t store_compact_half(struct store *s, int64_t *passed)
{
    int64_t hist = s->st.hist_total - s->st.hist_base, rev, lowest, count = 0;
    int err = s->broken || compact_pending(s) || hist < STORE_COMPACT_HALF_MIN ? QE_AGAIN : rev_for_bytes(s, hist / 2, &rev);

    if (!err)
        err = bookmarks_lowest(&s->conn, s->st.compacted, &lowest);
    if (!err && rev > lowest && lowest > s->st.compacted)
        rev = lowest;
    if (!err)
        err = passed_by(s, rev, &count);
    if (err || rev <= s->st.compacted)
        return 0;
    *passed = count;
    return rev;
}
