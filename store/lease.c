/* Leases: what files are attached to, so that they go when nobody keeps it alive. The store knows no clock: the lessor counts, and says in
 * a command that one has expired. Commands that it decided on in another term, or before a renewal that the log has before them, do nothing. */
#include "store/lease.h"

#include <string.h>

#include "store/reader.h"

enum { LEFT_ENDING = 1 /* ns that are left of a lease whose files are being deleted in parts */, PAIR = 16 };

bool store_lease_name_ok(const char *name, size_t len)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

    if (len == 0 || len > STORE_LEASE_NAME_MAX || (*name == '.' && (len == 1 || (len == 2 && name[1] == '.'))))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!memchr(allowed, name[i], sizeof allowed - 1))
            return false;
    return true;
}

/* ---- Rows ---------------------------------------------------------------------------------------------------------------- */

static int from_row(sqlite3_stmt *q, struct store_lease *out)
{
    struct store_bytes name = col_b(q, 1);

    *out = (struct store_lease){.id = col_u(q, 0), .owner = (uint32_t)col_i(q, 2), .ttl_ns = col_i(q, 3), .left_ns = col_i(q, 4), .renewed = col_u(q, 5)};
    if (name.len > STORE_LEASE_NAME_MAX)
        return QE_CORRUPT;
    if (name.len)
        memcpy(out->name, name.data, name.len);
    return 0;
}

static int get(struct conn *c, sqlite3_stmt *q, struct store_lease *out)
{
    bool found;
    int err = conn_row(c, q, &found);

    if (err || !found)
        return err ? err : QE_NOENT;
    err = from_row(q, out);
    conn_reset(q);
    return err;
}

int lease_by_id(struct conn *c, uint64_t id, struct store_lease *out)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_LEASE_GET);

    bind_u(q, 1, id);
    return get(c, q, out);
}

static int lease_by_name(struct conn *c, struct store_bytes name, struct store_lease *out)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_LEASE_BY_NAME);

    (void)sqlite3_bind_text(q, 1, name.data, (int)name.len, SQLITE_STATIC);
    return get(c, q, out);
}

int leases_each(struct conn *c, const char *after, store_lease_cb cb, void *data)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_LEASE_LIST);
    bool found, more = true;
    int err = 0;

    bind_t(q, 1, after);
    while (more && !(err = conn_row(c, q, &found)) && found) {
        struct store_lease l;

        err = from_row(q, &l);
        if (err)
            break;
        more = cb(data, &l);
    }
    conn_reset(q);
    return err;
}

int lease_put(struct store *s, const struct store_lease *was, const struct store_lease *is)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, is ? STMT_LEASE_SET : STMT_LEASE_DELETE);
    int err;

    bind_u(q, 1, is ? is->id : was->id);
    if (is) {
        bind_t(q, 2, is->name);
        bind_i(q, 3, is->owner);
        bind_i(q, 4, is->ttl_ns);
        bind_i(q, 5, is->left_ns);
        bind_u(q, 6, is->renewed);
        s->st.hash += hash_lease(is);
    }
    if (was)
        s->st.hash -= hash_lease(was);
    s->st.n_leases += (is != NULL) - (was != NULL);
    err = is && was ? 0 : owner_count(s, is ? is->owner : was->owner, is ? 1 : -1, 0);
    return err ? err : conn_run(&s->conn, q);
}

/* ---- Operation ----------------------------------------------------------------------------------------------------------- */

static int tell(struct store *s, const struct store_lease *l, bool renewed)
{
    return event_life(s, &(struct store_life_event){.kind = STORE_LIFE_LEASE, .id = l->id, .ttl_ns = l->ttl_ns, .left_ns = l->left_ns, .renewed = renewed});
}

static bool ttl_ok(int64_t ns)
{
    return ns >= STORE_LEASE_TTL_MIN && ns <= STORE_LEASE_TTL_MAX;
}

static int grant(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    struct store_lease l = {.id = (uint64_t)t->rev, .owner = t->cmd->uid, .ttl_ns = op->rev, .renewed = t->index}, other;
    int err;

    if (!store_lease_name_ok(op->name.data, op->name.len) || !ttl_ok(op->rev))
        return QE_INVAL;
    err = lease_by_name(&s->conn, op->name, &other);
    if (err != QE_NOENT)
        return err ? err : QE_EXIST;
    if (s->st.n_leases >= STORE_LEASES_MAX || !owner_may_lease(s, l.owner))
        return QE_NOSPC;
    memcpy(l.name, op->name.data, op->name.len);
    err = lease_put(s, NULL, &l);
    if (err)
        return err;
    t->takes_rev = true;
    *ino = l.id;
    return tell(s, &l, true);
}

/* The lease that a command of its owner names. */
static int find(struct store *s, const struct txn *t, uint64_t id, struct store_lease *l)
{
    int err = lease_by_id(&s->conn, id, l);

    if (err)
        return err == QE_NOENT ? QE_STALE : err;
    return t->cmd->uid == 0 || t->cmd->uid == l->owner ? 0 : QE_PERM;
}

static int set_ttl(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    struct store_lease was, is;
    int err = ttl_ok(op->rev) ? find(s, t, op->ino, &was) : QE_INVAL;

    if (err)
        return err;
    if (was.left_ns == LEFT_ENDING)
        return QE_STALE;
    is = was;
    is.ttl_ns = op->rev;
    is.left_ns = 0;
    is.renewed = t->index;
    err = lease_put(s, &was, &is);
    if (err)
        return err;
    *ino = is.id;
    return tell(s, &is, true);
}

static int end(struct store *s, struct txn *t, const struct store_lease *l, const char *why, uint64_t *ino)
{
    struct store_lease is = *l;
    int err = lease_end(s, t, l, why, ino);

    if (err || *ino == 0)
        return err ? err : event_life(s, &(struct store_life_event){.kind = STORE_LIFE_LEASE_GONE, .id = l->id});
    is.left_ns = LEFT_ENDING; /* whoever leads next goes on at once */
    err = lease_put(s, l, &is);
    return err ? err : tell(s, &is, false);
}

static int expire(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    struct store_lease l;
    int err = (uint64_t)op->rev == t->term ? lease_by_id(&s->conn, op->ino, &l) : QE_STALE;

    if (err)
        return err == QE_NOENT ? QE_STALE : err;
    return (int64_t)l.renewed > op->first ? QE_STALE : end(s, t, &l, "expired", ino);
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t v = 0;

    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

/* Notes what is left of one lease. */
static int note(struct store *s, uint64_t id, uint64_t left, int64_t seen)
{
    struct store_lease was, is;
    int err = lease_by_id(&s->conn, id, &was);

    if (err)
        return err == QE_NOENT ? 0 : err;
    if ((int64_t)was.renewed > seen || was.left_ns == LEFT_ENDING)
        return 0;
    is = was;
    is.left_ns = left >= (uint64_t)was.ttl_ns ? 0 : (int64_t)left;
    if (is.left_ns == LEFT_ENDING)
        is.left_ns++;
    if (is.left_ns == was.left_ns)
        return 0;
    err = lease_put(s, &was, &is);
    return err ? err : tell(s, &is, false);
}

static int checkpoint(struct store *s, const struct txn *t, const struct store_op *op)
{
    const uint8_t *p = op->bytes.data;
    int err = 0;

    if (op->bytes.len == 0 || op->bytes.len % PAIR)
        return QE_INVAL;
    if ((uint64_t)op->rev != t->term)
        return QE_STALE;
    for (size_t i = 0; !err && i < op->bytes.len; i += PAIR)
        err = note(s, get64(p + i), get64(p + i + 8), op->first);
    return err;
}

int op_lease(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    struct store_lease l;
    int err;

    switch (op->flags) {
    case STORE_LEASE_GRANT: return grant(s, t, op, ino);
    case STORE_LEASE_TTL: return set_ttl(s, t, op, ino);
    case STORE_LEASE_REVOKE: err = find(s, t, op->ino, &l); return err ? err : end(s, t, &l, "revoked", ino);
    case STORE_LEASE_EXPIRE: return expire(s, t, op, ino);
    case STORE_LEASE_CHECKPOINT: return checkpoint(s, t, op);
    default: return QE_INVAL;
    }
}

int lease_check(struct store *s, const struct txn *t, const struct store_op *op)
{
    struct store_lease l;
    int err;

    if (!(op->valid & STORE_ATTR_LEASE) || op->lease == 0)
        return 0;
    err = find(s, t, op->lease, &l);
    return !err && l.left_ns == LEFT_ENDING ? QE_STALE : err;
}

static int count(struct store *s, enum stmt id, int64_t *all, int64_t *some)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, id);
    bool found;
    int err = conn_row(&s->conn, q, &found);

    if (err || !found)
        return err ? err : QE_CORRUPT;
    *all = col_i(q, 0);
    if (some)
        *some = col_i(q, 1);
    conn_reset(q);
    return 0;
}

int lives_load(struct store *s)
{
    int err = count(s, STMT_LEASE_COUNT, &s->st.n_leases, NULL);

    if (!err)
        err = count(s, STMT_LOCK_COUNT, &s->st.n_locks, &s->st.n_held);
    return err ? err : owners_load(s);
}

/* ---- Reading ------------------------------------------------------------------------------------------------------------- */

static int read_one(struct store_reader *r, const char *name, uint64_t id, struct store_lease *out)
{
    int64_t at = STORE_HEAD;
    struct store_lease l;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = name ? lease_by_name(&r->conn, (struct store_bytes){name, strlen(name)}, &l) : lease_by_id(&r->conn, id, &l);
    if (!err)
        *out = l;
    reader_close_at(r);
    return err;
}

int store_lease(struct store_reader *r, const char *name, struct store_lease *out)
{
    return read_one(r, name, 0, out);
}

int store_lease_by_id(struct store_reader *r, uint64_t id, struct store_lease *out)
{
    return read_one(r, NULL, id, out);
}

int store_leases(struct store_reader *r, const char *after, store_lease_cb cb, void *data)
{
    int64_t at = STORE_HEAD;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = leases_each(&r->conn, after, cb, data);
    reader_close_at(r);
    return err;
}

int store_lease_files(struct store_reader *r, uint64_t id, uint64_t after, store_ino_cb cb, void *data)
{
    sqlite3_stmt *q;
    int64_t at = STORE_HEAD;
    bool found, more = true;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    q = conn_stmt(&r->conn, STMT_LEASE_FILES);
    bind_u(q, 1, id);
    bind_u(q, 2, after);
    bind_i(q, 3, -1); /* no limit */
    while (more && !(err = conn_row(&r->conn, q, &found)) && found)
        more = cb(data, col_u(q, 0));
    conn_reset(q);
    reader_close_at(r);
    return err;
}
