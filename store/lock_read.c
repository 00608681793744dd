/* Locks as readers see them. */
#include <stdlib.h>
#include <string.h>

#include "store/lock.h"
#include "store/reader.h"

/* ---- Named locks --------------------------------------------------------------------------------------------------------- */

static int holder(struct conn *c, struct store_bytes name, struct store_lock *out, struct buf *value)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_LOCK_HOLDER);
    const struct lock_thing th = {.class = STORE_LOCK_NAMED, .name = name};
    struct lock_row r;
    bool found;
    int err;

    bind_b(q, 1, name.data, name.len);
    err = conn_row(c, q, &found);
    if (err || !found)
        return err ? err : QE_NOENT;
    err = lock_row_read(q, &r);
    if (!err) {
        struct store_bytes text = col_b(q, 13);

        if (hash_content(text.data, text.len) != r.vhash)
            err = QE_CORRUPT;
        else if (value)
            err = buf_append(value, text.data, text.len);
    }
    conn_reset(q);
    if (!err)
        lock_describe(&th, &r, out);
    return err;
}

static int waiting(struct conn *c, struct store_bytes name, int64_t *out)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_LOCK_WAITING);
    bool found;
    int err;

    bind_b(q, 1, name.data, name.len);
    err = conn_row(c, q, &found);
    if (err || !found)
        return err ? err : QE_CORRUPT;
    *out = col_i(q, 0);
    conn_reset(q);
    return 0;
}

int store_lock(struct store_reader *r, const char *name, struct store_lock *out, struct buf *value, int64_t *n_waiting)
{
    const struct store_bytes n = {name, strlen(name)};
    int64_t at = STORE_HEAD;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    if (n_waiting)
        err = waiting(&r->conn, n, n_waiting);
    if (!err)
        err = holder(&r->conn, n, out, value);
    reader_close_at(r);
    return err;
}

int store_lock_names(struct store_reader *r, const char *after, store_lock_name_cb cb, void *data)
{
    sqlite3_stmt *q;
    int64_t at = STORE_HEAD;
    bool found, more = true;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    q = conn_stmt(&r->conn, STMT_LOCK_NAMES);
    bind_b(q, 1, after, strlen(after));
    while (more && !(err = conn_row(&r->conn, q, &found)) && found) {
        struct store_bytes name = col_b(q, 0);

        more = cb(data, name.data, name.len);
    }
    conn_reset(q);
    reader_close_at(r);
    return err;
}

int lock_has_token(struct conn *c, struct store_bytes name, int64_t token, bool *yes)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_LOCK_TOKEN);
    int err;

    *yes = false;
    if (token <= 0)
        return 0;
    bind_b(q, 1, name.data, name.len);
    bind_i(q, 2, token);
    err = conn_row(c, q, yes);
    conn_reset(q);
    return err;
}

/* ---- All ----------------------------------------------------------------------------------------------------------------- */

static int locks_each(struct conn *c, uint64_t session, store_lock_cb cb, void *data)
{
    sqlite3_stmt *q = conn_stmt(c, session ? STMT_LOCK_OF : STMT_LOCK_ALL);
    bool found, more = true;
    int err = 0;

    if (session)
        bind_u(q, 1, session);
    while (more && !(err = conn_row(c, q, &found)) && found) {
        const struct lock_thing th = {.class = (enum store_lock_class)col_i(q, 13), .ino = col_u(q, 14), .name = col_b(q, 15)};
        struct store_lock l;
        struct lock_row r;

        err = lock_row_read(q, &r);
        if (err)
            break;
        lock_describe(&th, &r, &l);
        more = cb(data, &l);
    }
    conn_reset(q);
    return err;
}

int store_locks(struct store_reader *r, uint64_t session, store_lock_cb cb, void *data)
{
    int64_t at = STORE_HEAD;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = locks_each(&r->conn, session, cb, data);
    reader_close_at(r);
    return err;
}

/* Ranges of one owner and kind that touch are one lock for people, though each part keeps its own token. */
static void widen(const struct lock_thing *th, struct lock_row *found)
{
    bool more = true;

    while (more) {
        more = false;
        for (size_t i = 0; i < th->n; i++) {
            const struct lock_row *r = &th->rows[i];

            if (!r->token || r->exclusive != found->exclusive || !lock_same_owner(r, found))
                continue;
            if (r->first < found->first && r->last >= found->first - 1) {
                found->first = r->first;
                more = true;
            }
            if (r->last > found->last && r->first <= found->last + 1) { /* last is below INT64_MAX */
                found->last = r->last;
                more = true;
            }
        }
    }
}

static int conflict(struct conn *c, const struct store_lock *want, struct store_lock *out)
{
    struct lock_thing th = {.class = want->class, .ino = want->ino, .name = want->name};
    bool range = want->class == STORE_LOCK_RANGE;
    const struct lock_row w = {.session = want->session, .owner = want->owner, .exclusive = want->exclusive, .first = range ? want->first : 0,
                               .last = range ? want->last : INT64_MAX};
    const struct lock_row *first = NULL;
    int err = lock_thing_load(c, &th);

    for (size_t i = 0; !err && i < th.n; i++)
        if (th.rows[i].token && lock_conflicts(&th.rows[i], &w) && (!first || th.rows[i].first < first->first))
            first = &th.rows[i];
    if (first) {
        struct lock_row found = *first;

        widen(&th, &found);
        lock_describe(&th, &found, out);
    }
    lock_thing_fini(&th);
    return err ? err : first ? 0 : QE_NOENT;
}

int store_lock_conflict(struct store_reader *r, const struct store_lock *want, struct store_lock *out)
{
    int64_t at = STORE_HEAD;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = conflict(&r->conn, want, out);
    reader_close_at(r);
    return err;
}

/* ---- Sessions ------------------------------------------------------------------------------------------------------------ */

int store_sessions(struct store_reader *r, store_session_cb cb, void *data)
{
    sqlite3_stmt *q;
    int64_t at = STORE_HEAD;
    bool found, more = true;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    q = conn_stmt(&r->conn, STMT_SESSION_ALL);
    while (more && !(err = conn_row(&r->conn, q, &found)) && found)
        more = cb(data, col_u(q, 0), (uint32_t)col_i(q, 1));
    conn_reset(q);
    reader_close_at(r);
    return err;
}
