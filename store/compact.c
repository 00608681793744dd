/* Physical compaction.
 *
 * A pass takes versions from `from` (all superseded ones up to there have gone) to `to` (the compacted revision when the pass began).
 * It walks ver in order of seq over (from, to]. For a row r:
 *   - its predecessor, when at or before `from`, is what the pass before left of the inode: it goes (the one delete that is not in
 *     order, so at most one for each inode that changed);
 *   - r goes unless it is the inode's newest at or before `to`, or a deletion; with a deletion the node row goes as well;
 *   - the ended name that a deletion or rename left in name_h goes, for no revision from `to` on has it.
 * A content in big goes with the last version that has it. The position is in the same transaction as the deletes, so a crash costs
 * nothing, and readers refuse revisions below `compacted` before the first row goes. */
#include "store/compact.h"

#include <string.h>

#include "store/base/clock.h"
#include "store/base/failpoint.h"

enum { SLICE_ROWS = 512, SCAN_ROWS = 64, TIME_ROWS = 256 };

struct row { /* of ver */
    int64_t seq, prev, vseq, size;  /* as in the table */
    uint64_t ino;
    int op;
    uint64_t parent;                /* the binding that it ended: deletions and renames only */
    uint8_t name[STORE_NAME_MAX];
    size_t name_len;
};

bool compact_pending(const struct store *s)
{
    return s->st.compact_from < s->st.compacted;
}

/* ---- One row ------------------------------------------------------------------------------------------------------------- */

static void row_read(sqlite3_stmt *q, struct row *r)
{
    bool renamed;
    struct store_bytes name;

    r->seq = col_i(q, 0);
    r->ino = col_u(q, 1);
    r->op = (int)col_i(q, 2);
    r->prev = col_i(q, 3);
    r->vseq = col_i(q, 4);
    r->size = col_i(q, 5);
    renamed = r->op == STORE_EV_RENAME;
    r->parent = col_u(q, renamed ? 8 : 6);
    name = col_b(q, renamed ? 9 : 7);
    r->name_len = name.len <= STORE_NAME_MAX ? name.len : STORE_NAME_MAX;
    if (r->name_len)
        memcpy(r->name, name.data, r->name_len);
}

static bool ends_inode(int op)
{
    return op == STORE_EV_DELETE || op == STORE_EV_RMDIR;
}

static int delete_big(struct store *s, int64_t vid)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_BIG_DELETE);

    bind_i(q, 1, vid);
    return conn_run(&s->conn, q);
}

static int vseq_of(struct store *s, int64_t seq, int64_t *vseq)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_VER_VSEQ);
    bool found;
    int err;

    *vseq = 0;
    bind_i(q, 1, seq);
    err = conn_row(&s->conn, q, &found);
    if (!err && found) {
        *vseq = col_i(q, 0);
        conn_reset(q);
    }
    return err;
}

/* Deletes a version; its content too unless the version `survivor` has it. */
static int delete_version(struct store *s, int64_t seq, int64_t survivor)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_VER_DELETE);
    int64_t vseq, size, kept;
    bool found;
    int err;

    bind_i(q, 1, seq);
    err = conn_row(&s->conn, q, &found);
    if (err || !found)
        return err; /* gone already */
    vseq = col_i(q, 0);
    size = col_i(q, 1);
    conn_reset(q);
    if (size <= STORE_INLINE_MAX)
        return 0;
    err = vseq_of(s, survivor, &kept);
    return err || kept == vseq ? err : delete_big(s, vseq);
}

/* Of a name that had many bindings each goes with the row that ended it, so that no row takes long. */
static int delete_name(struct store *s, const struct row *r)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_NAMEH_PRUNE);

    bind_u(q, 1, r->parent);
    bind_b(q, 2, r->name, r->name_len);
    bind_i(q, 3, rev_of(r->seq));
    return conn_run(&s->conn, q);
}

static int delete_node(struct store *s, uint64_t ino)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_NODE_DELETE);

    bind_u(q, 1, ino);
    return conn_run(&s->conn, q);
}

static int compact_row(struct store *s, const struct row *r)
{
    int64_t survivor;
    int err = version_at(&s->conn, r->ino, s->st.compact_to, &survivor);

    if (!err && r->prev && rev_of(r->prev) <= s->st.compact_from)
        err = delete_version(s, r->prev, survivor);
    if (!err && (r->seq != survivor || ends_inode(r->op)))
        err = delete_version(s, r->seq, survivor);
    if (!err && (ends_inode(r->op) || r->op == STORE_EV_RENAME))
        err = delete_name(s, r);
    if (!err && ends_inode(r->op))
        err = delete_node(s, r->ino);
    return err;
}

/* Whether a deleted inode has rows still is local, so nothing that is applied may depend on it. */
int compact_dead(struct store *s, uint64_t ino, int64_t seq)
{
    int err = 0;

    while (!err && seq) {
        sqlite3_stmt *q = conn_stmt(&s->conn, STMT_VER_SCAN);
        struct row r;
        bool found;

        bind_i(q, 1, seq);
        bind_i(q, 2, seq + 1);
        bind_i(q, 3, 1);
        err = conn_row(&s->conn, q, &found);
        if (err || !found)
            break;
        row_read(q, &r);
        conn_reset(q);
        err = delete_version(s, seq, 0);
        if (!err && (ends_inode(r.op) || r.op == STORE_EV_RENAME))
            err = delete_name(s, &r);
        seq = r.prev;
    }
    return err ? err : delete_node(s, ino);
}

/* ---- A slice ------------------------------------------------------------------------------------------------------------- */

static int scan(struct store *s, struct row *rows, int *n)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_VER_SCAN);
    bool found;
    int err;

    *n = 0;
    bind_i(q, 1, s->st.compact_pos);
    bind_i(q, 2, seq_of(s->st.compact_to + 1, 0));
    bind_i(q, 3, SCAN_ROWS);
    while (!(err = conn_row(&s->conn, q, &found)) && found && *n < SCAN_ROWS)
        row_read(q, &rows[(*n)++]);
    conn_reset(q);
    return err;
}

/* The oldest rows of table time, those that tell nothing about a revision that can still be read. `done` when none is left. */
static int prune_time(struct store *s, bool *done)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_TIME_OLDEST);
    int64_t t, rev;
    bool found;
    int err;

    *done = true;
    bind_i(q, 1, TIME_ROWS);
    err = conn_row(&s->conn, q, &found);
    if (err || !found)
        return err;
    t = col_i(q, 0);
    rev = col_i(q, 1);
    conn_reset(q);
    *done = rev > s->st.compact_to;
    if (*done) /* the newest row at or before compact_to is among these */
        q = conn_stmt(&s->conn, STMT_TIME_PRUNE_TO);
    else
        q = conn_stmt(&s->conn, STMT_TIME_PRUNE);
    bind_i(q, 1, *done ? s->st.compact_to : t);
    if (*done)
        bind_i(q, 2, TIME_ROWS);
    err = conn_run(&s->conn, q);
    if (sqlite3_changes(s->conn.db) < TIME_ROWS - 1)
        *done = true; /* there were no more rows */
    return err;
}

static int slice_rows(struct store *s, int64_t until_ns)
{
    struct row rows[SCAN_ROWS];
    int err = 0;

    for (int seen = 0; !err && seen < SLICE_ROWS && (seen == 0 || clock_boottime_ns() < until_ns);) {
        int n, i;

        err = scan(s, rows, &n);
        for (i = 0; !err && i < n && (seen == 0 || clock_boottime_ns() < until_ns); i++, seen++) { /* a row may have 16 MiB to free */
            err = compact_row(s, &rows[i]);
            s->st.compact_pos = rows[i].seq + 1;
        }
        if (!err && i == n && n < SCAN_ROWS) {
            bool done;

            err = prune_time(s, &done);
            if (!err && done)
                s->st.compact_from = s->st.compact_to;
            break;
        }
    }
    return err;
}

int compact_slice(struct store *s, int64_t until_ns)
{
    int err = store_begin(s);

    if (!err) {
        if (s->st.compact_from == s->st.compact_to) {
            s->st.compact_to = s->st.compacted;
            s->st.compact_pos = seq_of(s->st.compact_from + 1, 0);
        }
        err = slice_rows(s, until_ns);
    }
    if (!err && FAILPOINT("store.compact"))
        err = QE_IO;
    if (!err)
        err = store_commit(s);
    if (err)
        store_abort(s);
    return err;
}
