/* Bookmarks: how far slow consumers of the history have come. Who made one owns it. They hold back what `retain` would forget (retain.c). */
#include <string.h>

#include "store/reader.h"

bool store_bookmark_name_ok(const char *name, size_t len)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

    if (len == 0 || len > STORE_BOOKMARK_NAME_MAX || *name == '.')
        return false;
    for (size_t i = 0; i < len; i++)
        if (!memchr(allowed, name[i], sizeof allowed - 1))
            return false;
    return true;
}

/* ---- Rows ---------------------------------------------------------------------------------------------------------------- */

static int get(struct conn *c, struct store_bytes name, struct store_bookmark *out)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_BOOKMARK_GET);
    bool found;
    int err;

    (void)sqlite3_bind_text(q, 1, name.data, (int)name.len, SQLITE_STATIC);
    err = conn_row(c, q, &found);
    if (err || !found)
        return err ? err : QE_NOENT;
    *out = (struct store_bookmark){.owner = (uint32_t)col_i(q, 0), .rev = col_i(q, 1)};
    conn_reset(q);
    return 0;
}

int bookmarks_each(struct conn *c, store_bookmark_cb cb, void *data)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_BOOKMARK_ALL);
    bool found, more = true;
    int err = 0;

    while (more && !(err = conn_row(c, q, &found)) && found) {
        const char *name = (const char *)sqlite3_column_text(q, 0);
        struct store_bookmark b = {.name = name ? name : "", .owner = (uint32_t)col_i(q, 1), .rev = col_i(q, 2)};

        more = cb(data, &b);
    }
    conn_reset(q);
    return err;
}

struct count {
    uint32_t uid;
    size_t all, own;
};

static bool count_one(void *data, const struct store_bookmark *b)
{
    struct count *n = data;

    n->all++;
    n->own += b->owner == n->uid;
    return true;
}

int bookmarks_lowest(struct conn *c, int64_t above, int64_t *out)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_BOOKMARK_LOWEST);
    bool found;
    int err;

    *out = INT64_MAX;
    bind_i(q, 1, above);
    err = conn_row(c, q, &found);
    if (!err && found) {
        if (!col_is_null(q, 0))
            *out = col_i(q, 0);
        conn_reset(q);
    }
    return err;
}

/* ---- Operation ----------------------------------------------------------------------------------------------------------- */

static int put(struct store *s, struct store_bytes name, const struct store_bookmark *was, const struct store_bookmark *is)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, is ? STMT_BOOKMARK_SET : STMT_BOOKMARK_DELETE);

    (void)sqlite3_bind_text(q, 1, name.data, (int)name.len, SQLITE_STATIC);
    if (is) {
        bind_i(q, 2, is->owner);
        bind_i(q, 3, is->rev);
    }
    if (was)
        s->st.hash -= hash_bookmark(name, was);
    if (is)
        s->st.hash += hash_bookmark(name, is);
    return conn_run(&s->conn, q);
}

static int make(struct store *s, const struct txn *t, const struct store_op *op)
{
    struct store_bookmark fresh = {.owner = t->cmd->uid, .rev = s->st.rev};
    struct count n = {.uid = t->cmd->uid};
    int err = bookmarks_each(&s->conn, count_one, &n);

    if (!err && (n.all >= STORE_BOOKMARKS_MAX || (n.uid != 0 && n.own >= STORE_BOOKMARKS_MAX - n.all)))
        err = QE_NOSPC;
    return err ? err : put(s, op->name, NULL, &fresh);
}

static int set(struct store *s, const struct store_op *op, const struct store_bookmark *was)
{
    struct store_bookmark is = {.owner = was->owner, .rev = op->rev};

    if (op->rev > s->st.rev)
        return QE_RANGE;
    if (op->rev < s->st.compacted)
        return QE_STALE;
    return put(s, op->name, was, &is);
}

int op_bookmark(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    struct store_bookmark was;
    int err = store_bookmark_name_ok(op->name.data, op->name.len) && op->rev >= 0 ? get(&s->conn, op->name, &was) : QE_INVAL;

    (void)ino;
    if (err && err != QE_NOENT)
        return err;
    if (op->flags == STORE_BOOKMARK_MAKE)
        return err ? make(s, t, op) : QE_EXIST;
    if (err)
        return err;
    if (t->cmd->uid != 0 && t->cmd->uid != was.owner)
        return QE_PERM;
    switch (op->flags) {
    case STORE_BOOKMARK_SET: return set(s, op, &was);
    case STORE_BOOKMARK_REMOVE: return put(s, op->name, &was, NULL);
    default: return QE_INVAL;
    }
}

/* ---- Reading ------------------------------------------------------------------------------------------------------------- */

int store_bookmark(struct store_reader *r, const char *name, struct store_bookmark *out)
{
    int64_t at = STORE_HEAD;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = get(&r->conn, (struct store_bytes){name, strlen(name)}, out);
    if (!err)
        out->name = name;
    reader_close_at(r);
    return err;
}

int store_bookmarks(struct store_reader *r, store_bookmark_cb cb, void *data)
{
    int64_t at = STORE_HEAD;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = bookmarks_each(&r->conn, cb, data);
    reader_close_at(r);
    return err;
}
