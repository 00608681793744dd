/* Readers: read-only connections, each with its own thread and its own transactions. */
#include <stdlib.h>
#include <string.h>

#include "store/reader.h"

/* ---- Life and transactions ----------------------------------------------------------------------------------------------- */

/* The database of the store as it is now. Without one `conn` is closed. */
static int open_database(struct store_reader *r)
{
    struct store *s = r->store;
    char *path;
    int err;

    pthread_mutex_lock(&s->where);
    path = strdup(s->path);
    r->generation = atomic_load(&s->generation);
    pthread_mutex_unlock(&s->where);
    err = path ? conn_open(&r->conn, path, CONN_READER, false, s->reader_cache_bytes) : QE_NOMEM;
    if (!err)
        err = conn_prepare(&r->conn, CONN_READER);
    if (err)
        conn_close(&r->conn);
    free(path);
    return err;
}

int store_reader_open(struct store *s, struct store_reader **out)
{
    struct store_reader *r = calloc(1, sizeof *r);
    int err = QE_NOMEM;

    if (r) {
        r->store = s;
        err = open_database(r);
    }
    if (err) {
        free(r);
        return err;
    }
    *out = r;
    return 0;
}

void store_reader_close(struct store_reader *r)
{
    if (!r)
        return;
    conn_close(&r->conn);
    free(r);
}

/* A copy may have been installed since the last transaction. */
static int follow(struct store_reader *r)
{
    if (r->conn.db && r->generation == atomic_load(&r->store->generation))
        return 0;
    if (r->conn.db)
        conn_close(&r->conn);
    return open_database(r);
}

static int begin(struct store_reader *r)
{
    sqlite3_stmt *q;
    bool found = false;
    int err = follow(r);

    if (err)
        return err;
    q = conn_stmt(&r->conn, STMT_META_SPAN);
    err = conn_do(&r->conn, STMT_BEGIN_READ);

    if (!err)
        err = conn_row(&r->conn, q, &found); /* the first row read fixes what is seen */
    if (!err && !found)
        err = QE_CORRUPT;
    if (err) {
        conn_rollback(&r->conn);
        return err;
    }
    r->rev = col_i(q, 0);
    r->compacted = col_i(q, 1);
    conn_reset(q);
    return 0;
}

static void end(struct store_reader *r)
{
    if (conn_do(&r->conn, STMT_COMMIT))
        conn_rollback(&r->conn);
}

int store_read_begin(struct store_reader *r, int64_t *rev)
{
    int err = r->begun ? 0 : begin(r);

    if (err)
        return err;
    r->begun = true;
    if (rev)
        *rev = r->rev;
    return 0;
}

void store_read_end(struct store_reader *r)
{
    if (!r->begun)
        return;
    r->begun = false;
    end(r);
}

void reader_close_at(struct store_reader *r)
{
    if (--r->depth == 0 && !r->begun)
        end(r);
}

int reader_open_at(struct store_reader *r, int64_t *at)
{
    int err = r->begun || r->depth ? 0 : begin(r);

    if (err)
        return err;
    r->depth++;
    if (*at != STORE_HEAD && *at < r->compacted)
        err = QE_STALE;
    else if (*at != STORE_HEAD && *at < 1)
        err = QE_STALE;
    else if (*at > r->rev)
        err = QE_RANGE;
    else if (*at == r->rev)
        *at = STORE_HEAD;
    if (err)
        reader_close_at(r);
    return err;
}

/* ---- Entries ------------------------------------------------------------------------------------------------------------- */

/* A directory's times and links go on in its node row without a version: as of a revision it shows none of that, also as of the newest one. */
static int attr_as_of(struct store_reader *r, int64_t asked, int64_t at, uint64_t ino, struct store_attr *out)
{
    struct store_attr attr;
    struct content_at where;
    int err = attr_at(&r->conn, store_ino_kind(ino) == STORE_DIR ? asked : at, ino, &attr, &where);

    if (!err)
        *out = attr;
    return err;
}

int store_lookup(struct store_reader *r, int64_t at, uint64_t parent, const void *name, size_t len, struct store_attr *out)
{
    const int64_t asked = at;
    uint64_t ino;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = lookup_at(&r->conn, at, parent, (struct store_bytes){name, len}, &ino);
    if (!err)
        err = attr_as_of(r, asked, at, ino, out);
    reader_close_at(r);
    return err;
}

int store_getattr(struct store_reader *r, int64_t at, uint64_t ino, struct store_attr *out)
{
    const int64_t asked = at;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = attr_as_of(r, asked, at, ino, out);
    reader_close_at(r);
    return err;
}

int store_last_seen(struct store_reader *r, uint64_t ino, int64_t *rev)
{
    struct store_attr attr;
    struct content_at where;
    int64_t at = STORE_HEAD, seq = 0;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = attr_at(&r->conn, at, ino, &attr, &where);
    if (!err)
        err = QE_NOENT;
    else if (err == QE_NOENT)
        err = version_by(&r->conn, ino, INT64_MAX, &seq); /* the row of its deletion */
    if (!err && seq == 0)
        err = QE_NOENT;
    if (!err && rev_of(seq) - 1 < r->compacted)
        err = QE_STALE;
    if (!err)
        *rev = rev_of(seq) - 1;
    reader_close_at(r);
    return err;
}

int store_content(struct store_reader *r, int64_t at, uint64_t ino, struct buf *out, struct store_attr *attr)
{
    struct store_attr a;
    struct content_at where;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = attr_at(&r->conn, at, ino, &a, &where);
    if (!err && store_ino_kind(ino) == STORE_DIR)
        err = QE_ISDIR;
    if (!err)
        err = content_of(&r->conn, &where, out);
    if (!err && attr)
        *attr = a;
    reader_close_at(r);
    return err;
}

static int list(struct conn *c, int64_t at, uint64_t dir, struct store_bytes after, store_dirent_cb cb, void *data)
{
    sqlite3_stmt *q = conn_stmt(c, at == STORE_HEAD ? STMT_LIST_NOW : STMT_LIST_AT);
    bool found, more = true;
    int err = 0;

    bind_u(q, 1, dir);
    bind_b(q, 2, after.data, after.len);
    if (at != STORE_HEAD)
        bind_i(q, 3, at);
    while (more && !(err = conn_row(c, q, &found)) && found) {
        struct store_bytes name = col_b(q, 0);

        more = cb(data, name.data, name.len, col_u(q, 1));
    }
    conn_reset(q);
    return err;
}

int store_list(struct store_reader *r, int64_t at, uint64_t dir, const void *after, size_t after_len, store_dirent_cb cb, void *data)
{
    struct store_attr attr;
    struct content_at where;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = attr_at(&r->conn, at, dir, &attr, &where);
    if (!err && store_ino_kind(dir) != STORE_DIR)
        err = QE_NOTDIR;
    if (!err)
        err = list(&r->conn, at, dir, (struct store_bytes){after, after_len}, cb, data);
    reader_close_at(r);
    return err;
}

/* ---- Extended attributes ------------------------------------------------------------------------------------------------- */

/* The encoded attributes, appended. */
static int xattrs_at(struct conn *c, int64_t at, uint64_t ino, struct buf *out)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_VER_XATTR);
    struct store_attr attr;
    struct store_bytes blob;
    struct content_at where;
    bool found;
    int err = attr_at(c, at, ino, &attr, &where);

    if (err)
        return err;
    bind_i(q, 1, where.seq);
    err = conn_row(c, q, &found);
    if (err || !found)
        return err ? err : QE_CORRUPT;
    blob = col_b(q, 0);
    err = buf_append(out, blob.data, blob.len);
    conn_reset(q);
    return err;
}

int store_getxattr(struct store_reader *r, int64_t at, uint64_t ino, const void *name, size_t len, struct buf *out)
{
    struct buf blob = {0};
    struct store_bytes value;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = xattrs_at(&r->conn, at, ino, &blob);
    if (!err && !xattr_find((struct store_bytes){blob.data, blob.len}, (struct store_bytes){name, len}, &value))
        err = QE_NODATA;
    if (!err)
        err = buf_append(out, value.data, value.len);
    buf_fini(&blob);
    reader_close_at(r);
    return err;
}

int store_listxattr(struct store_reader *r, int64_t at, uint64_t ino, struct buf *out)
{
    struct buf blob = {0};
    struct store_xattr x;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = xattrs_at(&r->conn, at, ino, &blob);
    for (size_t pos = 0; !err && blob.len && xattr_next((struct store_bytes){blob.data, blob.len}, &pos, &x);) {
        err = buf_append(out, x.name.data, x.name.len);
        if (!err)
            err = buf_append(out, "", 1);
    }
    buf_fini(&blob);
    reader_close_at(r);
    return err;
}

/* ---- Other facts --------------------------------------------------------------------------------------------------------- */

static void reverse(uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len / 2; i++) {
        uint8_t c = p[i];

        p[i] = p[len - 1 - i];
        p[len - 1 - i] = c;
    }
}

/* The path is put together from its end, back to front: it may be very long. */
static int append_reversed(struct buf *path, struct store_bytes name)
{
    size_t old = path->len;
    int err = buf_append(path, name.data, name.len);

    if (err)
        return err;
    reverse(path->data + old, name.len);
    return buf_append(path, "/", 1);
}

static int path_of(struct conn *c, uint64_t ino, struct buf *path)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_NODE_NAME);
    int err = 0;

    while (!err && ino != STORE_ROOT_INO) {
        bool found;

        bind_u(q, 1, ino);
        err = conn_row(c, q, &found);
        if (err || !found)
            return err ? err : QE_NOENT;
        ino = col_u(q, 0);
        err = ino == 0 ? QE_NOENT : append_reversed(path, col_b(q, 1)); /* NULL: deleted */
        conn_reset(q);
    }
    reverse(path->data, path->len);
    return err;
}

int store_path(struct store_reader *r, uint64_t ino, struct buf *out)
{
    int64_t at = STORE_HEAD;
    struct buf path = {0};
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = path_of(&r->conn, ino, &path);
    if (!err)
        err = path.len ? buf_append(out, path.data, path.len) : buf_append(out, "/", 1);
    buf_fini(&path);
    reader_close_at(r);
    return err;
}

static int name_of(struct conn *c, uint64_t ino, uint64_t *parent, struct buf *name)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_NODE_NAME);
    struct store_bytes bytes;
    bool found;
    int err;

    bind_u(q, 1, ino);
    err = conn_row(c, q, &found);
    if (err || !found)
        return err ? err : QE_NOENT;
    bytes = col_b(q, 1);
    err = col_u(q, 0) == 0 ? QE_NOENT : buf_append(name, bytes.data, bytes.len);
    if (!err)
        *parent = col_u(q, 0);
    conn_reset(q);
    return err;
}

int store_name(struct store_reader *r, uint64_t ino, uint64_t *parent, struct buf *name)
{
    int64_t at = STORE_HEAD;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = name_of(&r->conn, ino, parent, name);
    reader_close_at(r);
    return err;
}

static int writer_of(struct conn *c, int64_t seq, struct store_writer *out)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_VER_WRITER);
    struct store_bytes comm;
    bool found;
    int err;

    bind_i(q, 1, seq);
    err = conn_row(c, q, &found);
    if (err || !found)
        return err ? err : QE_CORRUPT;
    comm = col_b(q, 3);
    *out = (struct store_writer){.member = (uint32_t)col_i(q, 0), .uid = (uint32_t)col_i(q, 1), .pid = (int32_t)col_i(q, 2)};
    memcpy(out->comm, comm.data ? comm.data : "", comm.len < sizeof out->comm ? comm.len : sizeof out->comm - 1);
    conn_reset(q);
    return 0;
}

int store_writer(struct store_reader *r, int64_t at, uint64_t ino, struct store_writer *out)
{
    struct store_attr attr;
    struct content_at where;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = attr_at(&r->conn, at, ino, &attr, &where);
    if (!err)
        err = writer_of(&r->conn, where.seq, out);
    reader_close_at(r);
    return err;
}

int store_setting(struct store_reader *r, const char *name, struct buf *out)
{
    int64_t at = STORE_HEAD;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = setting_get(&r->conn, name, out);
    reader_close_at(r);
    return err;
}

int store_members(struct store_reader *r, int64_t *next, store_member_cb cb, void *data)
{
    uint8_t cluster_id[STORE_CLUSTER_ID_SIZE];
    int64_t at = STORE_HEAD, format;
    struct state st;
    uint64_t epoch;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = meta_load(&r->conn, &st, cluster_id, &epoch, &format);
    if (!err)
        err = members_each(&r->conn, cb, data);
    if (!err && next)
        *next = st.next_member;
    reader_close_at(r);
    return err;
}

int store_hash(struct store_reader *r, int64_t *rev, uint64_t *hash)
{
    uint8_t cluster_id[STORE_CLUSTER_ID_SIZE];
    int64_t at = STORE_HEAD, format;
    struct state st;
    uint64_t epoch;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = meta_load(&r->conn, &st, cluster_id, &epoch, &format);
    if (!err) {
        *rev = st.rev;
        *hash = hash_state(&st);
    }
    reader_close_at(r);
    return err;
}

static int rev_at(struct store_reader *r, int64_t time_ns, int64_t *rev)
{
    sqlite3_stmt *q = conn_stmt(&r->conn, STMT_META_TIME);
    bool found, after_all;
    int err = conn_row(&r->conn, q, &found);

    if (err || !found)
        return err ? err : QE_CORRUPT;
    after_all = time_ns >= col_i(q, 0);
    conn_reset(q);
    if (after_all) {
        *rev = r->rev;
        return 0;
    }
    q = conn_stmt(&r->conn, STMT_TIME_REV_AT);
    bind_i(q, 1, time_ns);
    err = conn_row(&r->conn, q, &found);
    if (err || !found)
        return err ? err : QE_STALE;
    *rev = col_i(q, 0);
    conn_reset(q);
    return *rev < r->compacted ? QE_STALE : 0;
}

int store_rev_at(struct store_reader *r, int64_t time_ns, int64_t *rev)
{
    int64_t at = STORE_HEAD, found;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = rev_at(r, time_ns, &found);
    if (!err)
        *rev = found;
    reader_close_at(r);
    return err;
}

/* ---- Events -------------------------------------------------------------------------------------------------------------- */

static int events(struct conn *c, int64_t after, store_event_cb cb, void *data)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_EVENTS);
    int64_t last = 0;
    bool found, more = true;
    int err = 0;

    bind_i(q, 1, seq_of(after + 1, 0));
    while (!(err = conn_row(c, q, &found)) && found) {
        struct store_event e = {.rev = rev_of(col_i(q, 0)), .sub = sub_of(col_i(q, 0)), .op = (enum store_event_op)col_i(q, 1), .ino = col_u(q, 2), .parent = col_u(q, 3),
                                .old_parent = col_u(q, 5), .name = col_b(q, 4), .old_name = col_b(q, 6), .cause = col_b(q, 7)};

        if (!more && e.rev != last)
            break;
        last = e.rev;
        if (e.op == STORE_EV_PUT && col_i(q, 8) == e.rev && col_i(q, 9) == 1)
            e.made = STORE_MADE_FILE;
        if (!cb(data, &e))
            more = false; /* after the rest of this revision */
    }
    conn_reset(q);
    return err;
}

int store_events(struct store_reader *r, int64_t after, store_event_cb cb, void *data)
{
    int64_t at = STORE_HEAD;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    if (after < r->compacted)
        err = QE_STALE;
    else if (after > r->rev)
        err = QE_RANGE;
    else
        err = events(&r->conn, after < 1 ? 1 : after, cb, data); /* revision 1 only made the root */
    reader_close_at(r);
    return err;
}

int store_dir_at(struct store_reader *r, int64_t rev, int32_t sub, uint64_t dir, struct store_dir_at *out)
{
    int64_t at = STORE_HEAD, seq;
    sqlite3_stmt *q = conn_stmt(&r->conn, STMT_VER_DIR);
    struct store_bytes name;
    bool found = false;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = version_by(&r->conn, dir, seq_of(rev, sub), &seq);
    if (!err && seq) {
        bind_i(q, 1, seq);
        err = conn_row(&r->conn, q, &found);
    }
    if (!err && found) {
        name = col_b(q, 1);
        *out = (struct store_dir_at){.parent = col_u(q, 0), .mode = (uint32_t)col_i(q, 2), .uid = (uint32_t)col_i(q, 3),
                                     .gid = (uint32_t)col_i(q, 4), .name_len = name.len < STORE_NAME_MAX ? name.len : STORE_NAME_MAX};
        if (name.len)
            memcpy(out->name, name.data, out->name_len);
        conn_reset(q);
    }
    reader_close_at(r);
    return err ? err : found ? 0 : QE_NOENT;
}
