/* The state as of an old revision. The newest version of an inode is in its node row; from there prev and jump pointers lead back:
 * a jump is taken when it does not go too far, so any version is found in O(log n) rows. */
#include <sys/stat.h>

#include "store/internal.h"

static int older(struct conn *c, int64_t seq, int64_t limit, int64_t *out)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_VER_LINKS);
    bool found;
    int err;

    bind_i(q, 1, seq);
    err = conn_row(c, q, &found);
    if (err)
        return err;
    if (!found)
        return QE_CORRUPT; /* versions above the compacted revision are all there */
    *out = col_i(q, 1) > limit ? col_i(q, 1) : col_i(q, 0);
    conn_reset(q);
    return 0;
}

int version_by(struct conn *c, uint64_t ino, int64_t limit, int64_t *seq)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_NODE_SEQ);
    bool found;
    int err;

    *seq = 0;
    bind_u(q, 1, ino);
    err = conn_row(c, q, &found);
    if (err || !found)
        return err;
    *seq = col_i(q, 0);
    conn_reset(q);
    while (!err && *seq > limit)
        err = older(c, *seq, limit, seq);
    return err;
}

int version_at(struct conn *c, uint64_t ino, int64_t rev, int64_t *seq)
{
    return version_by(c, ino, seq_of(rev + 1, 0) - 1, seq);
}

static uint32_t type_bits(uint64_t ino)
{
    switch (store_ino_kind(ino)) {
    case STORE_DIR: return S_IFDIR;
    case STORE_SYMLINK: return S_IFLNK;
    case STORE_FILE: break;
    }
    return S_IFREG;
}

/* From a row of the columns that NODE_ATTR and VER_ATTR begin with. */
static void attr_from_row(sqlite3_stmt *q, struct store_attr *out)
{
    out->ino = col_u(q, 0);
    out->parent = out->ino == STORE_ROOT_INO ? STORE_ROOT_INO : col_u(q, 1);
    out->mode = (uint32_t)col_i(q, 2) | type_bits(out->ino);
    out->uid = (uint32_t)col_i(q, 3);
    out->gid = (uint32_t)col_i(q, 4);
    out->mtime_ns = col_i(q, 5);
    out->ctime_ns = col_i(q, 6);
    out->size = col_i(q, 7);
    out->create_rev = col_i(q, 8);
    out->version = col_i(q, 9);
    out->mod_rev = rev_of(col_i(q, 10));
    out->content = col_i(q, 11);
    out->lease = col_u(q, 13);
}

static struct content_at where_from_row(sqlite3_stmt *q)
{
    return (struct content_at){.seq = col_i(q, 10), .vseq = col_i(q, 11), .size = col_i(q, 7), .chash = col_u(q, 12)};
}

static int attr_now(struct conn *c, uint64_t ino, struct store_attr *out, struct content_at *where)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_NODE_ATTR);
    bool found, live;
    int err;

    bind_u(q, 1, ino);
    err = conn_row(c, q, &found);
    if (err || !found)
        return err ? err : QE_NOENT;
    live = !col_is_null(q, 1);
    attr_from_row(q, out);
    out->nlink = (uint32_t)col_i(q, 14);
    *where = where_from_row(q);
    conn_reset(q);
    return live ? 0 : QE_NOENT;
}

int attr_at(struct conn *c, int64_t at, uint64_t ino, struct store_attr *out, struct content_at *where)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_VER_ATTR);
    bool found, gone;
    int64_t seq;
    int err;

    if (at == STORE_HEAD)
        return attr_now(c, ino, out, where);
    err = version_at(c, ino, at, &seq);
    if (err || seq == 0)
        return err ? err : QE_NOENT;
    bind_i(q, 1, seq);
    err = conn_row(c, q, &found);
    if (err || !found)
        return err ? err : QE_NOENT; /* compacted together with the end of the inode */
    attr_from_row(q, out);
    /* How many subdirectories there were is not kept; 1 is what tools take for "not counted". */
    out->nlink = 1;
    *where = where_from_row(q);
    gone = col_i(q, 14) == STORE_EV_DELETE || col_i(q, 14) == STORE_EV_RMDIR;
    conn_reset(q);
    return gone ? QE_NOENT : 0;
}

static int lookup_in(struct conn *c, sqlite3_stmt *q, uint64_t parent, struct store_bytes name, int64_t at, uint64_t *ino)
{
    bool found;
    int err;

    bind_u(q, 1, parent);
    bind_b(q, 2, name.data, name.len);
    if (at != STORE_HEAD)
        bind_i(q, 3, at);
    err = conn_row(c, q, &found);
    if (err || !found)
        return err ? err : QE_NOENT;
    *ino = col_u(q, 0);
    conn_reset(q);
    return 0;
}

int lookup_at(struct conn *c, int64_t at, uint64_t parent, struct store_bytes name, uint64_t *ino)
{
    int err;

    if (at == STORE_HEAD)
        return lookup_in(c, conn_stmt(c, STMT_NODE_BY_NAME), parent, name, at, ino);
    err = lookup_in(c, conn_stmt(c, STMT_NODE_BORN_BY), parent, name, at, ino);
    return err == QE_NOENT ? lookup_in(c, conn_stmt(c, STMT_NAMEH_GET), parent, name, at, ino) : err;
}

int content_of(struct conn *c, const struct content_at *where, struct buf *out)
{
    bool large = where->size > STORE_INLINE_MAX;
    sqlite3_stmt *q = conn_stmt(c, large ? STMT_BIG_GET : STMT_VER_VALUE);
    struct store_bytes content;
    bool found;
    int err;

    if (where->size == 0)
        return 0;
    bind_i(q, 1, large ? where->vseq : where->seq);
    err = conn_row(c, q, &found);
    if (err || !found)
        return err ? err : QE_CORRUPT;
    content = col_b(q, 0);
    if (!content.data && sqlite3_errcode(c->db) == SQLITE_NOMEM)
        err = QE_NOMEM;
    else if (content.len != (size_t)where->size || hash_content(content.data, content.len) != where->chash)
        err = QE_CORRUPT; /* SQLite has no checksums of its own: damage on the disk shows here */
    else
        err = buf_append(out, content.data, content.len);
    conn_reset(q);
    return err;
}
