/* Looking a small database over when it is opened: SQLite has no checksums in its file, so a byte that the disk changed would be
 * served as if somebody had written it. Pages and index are checked by SQLite, and the state hash is computed once more from the rows;
 * contents are compared with their hashes when they are read. Large databases are left to `store_check`. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "store/lock.h"

#define VERIFY_BYTES_MAX (INT64_C(64) << 20) /* about 0.2 s */

static int verify_pages(struct store *s)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(s->conn.db, "PRAGMA integrity_check(1)", -1, &q, NULL), err = 0;

    if (rc == SQLITE_OK)
        rc = sqlite3_step(q);
    if (rc != SQLITE_ROW) {
        err = rc == SQLITE_DONE ? QE_CORRUPT : conn_error(&s->conn, rc);
    } else if (strcmp((const char *)sqlite3_column_text(q, 0) ? (const char *)sqlite3_column_text(q, 0) : "", "ok")) {
        snprintf(s->conn.msg, sizeof s->conn.msg, "it is damaged: %s", (const char *)sqlite3_column_text(q, 0));
        err = QE_CORRUPT;
    }
    sqlite3_finalize(q);
    return err;
}

static int sum_nodes(struct store *s, uint64_t *sum)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(s->conn.db, "SELECT ino FROM node WHERE parent IS NOT NULL", -1, &q, NULL), err;
    bool found;

    if (rc)
        return conn_error(&s->conn, rc);
    while (!(err = conn_row(&s->conn, q, &found)) && found) {
        struct node n;

        err = node_load(s, col_u(q, 0), &n);
        if (!err)
            *sum += n.was.hash;
        node_fini(&n);
        if (err)
            break;
    }
    sqlite3_finalize(q);
    return err == QE_NOENT ? QE_CORRUPT : err;
}

static void sum_sessions(const struct store *s, uint64_t *sum)
{
    for (size_t i = 0; i < s->sessions.n; i++) {
        const struct session *ss = &s->sessions.list[i];

        *sum += hash_session(ss);
        for (size_t r = 0; r < ss->n_results; r++)
            *sum += hash_result(ss->id, &ss->results[r]);
    }
}

static int sum_settings(struct store *s, uint64_t *sum)
{
    size_t n;
    const struct store_setting_def *defs = store_setting_defs(&n);
    int err = 0;

    for (size_t i = 0; !err && i < n; i++) {
        struct buf value = {0};

        err = setting_get(&s->conn, defs[i].name, &value);
        if (!err)
            *sum += hash_setting(defs[i].name, buf_cstr(&value));
        buf_fini(&value);
    }
    return err == QE_NOENT ? QE_CORRUPT : err;
}

static void sum_member(void *data, const struct store_member *m)
{
    uint64_t *sum = data;

    *sum += hash_member(m);
}

static int sum_stages(struct store *s, uint64_t *sum)
{
    int err = 0;

    for (size_t i = 0; !err && i < s->sessions.n; i++) {
        sqlite3_stmt *q = conn_stmt(&s->conn, STMT_STAGE_HASHES);
        bool found;

        bind_u(q, 1, s->sessions.list[i].id);
        while (!(err = conn_row(&s->conn, q, &found)) && found)
            *sum += hash_stage(col_u(q, 0), col_u(q, 2), col_i(q, 1), col_u(q, 3));
    }
    return err;
}

static bool sum_bookmark(void *data, const struct store_bookmark *b)
{
    uint64_t *sum = data;

    *sum += hash_bookmark((struct store_bytes){b->name, strlen(b->name)}, b);
    return true;
}

static bool sum_lease(void *data, const struct store_lease *l)
{
    uint64_t *sum = data;

    *sum += hash_lease(l);
    return true;
}

static int sum_locks(struct store *s, uint64_t *sum)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_LOCK_ALL);
    bool found;
    int err;

    while (!(err = conn_row(&s->conn, q, &found)) && found) {
        const struct lock_thing th = {.class = (enum store_lock_class)col_i(q, 13), .ino = col_u(q, 14), .name = col_b(q, 15)};
        struct lock_row r;

        err = lock_row_read(q, &r);
        if (err)
            break;
        *sum += hash_lock(&th, &r);
    }
    conn_reset(q);
    return err;
}

int verify_sum(struct store *s, uint64_t *out)
{
    uint64_t sum = 0;
    int err = sum_nodes(s, &sum);

    if (!err)
        err = sum_settings(s, &sum);
    if (!err)
        err = members_each(&s->conn, sum_member, &sum);
    if (!err)
        err = sum_stages(s, &sum);
    if (!err)
        err = bookmarks_each(&s->conn, sum_bookmark, &sum);
    if (!err)
        err = leases_each(&s->conn, "", sum_lease, &sum);
    if (!err)
        err = sum_locks(s, &sum);
    if (err)
        return err;
    sum_sessions(s, &sum);
    *out = sum;
    return 0;
}

int store_verify(struct store *s)
{
    int64_t pages = 0;
    uint64_t sum = 0;
    int err = conn_pragma(&s->conn, "PRAGMA page_count", &pages);

    if (err || pages > VERIFY_BYTES_MAX / 4096)
        return err;
    err = verify_pages(s);
    if (!err)
        err = verify_sum(s, &sum);
    if (err || sum == s->st.hash)
        return err;
    snprintf(s->conn.msg, sizeof s->conn.msg, "it is damaged: its rows do not have the hash %016" PRIx64 " that was recorded", s->st.hash);
    return QE_CORRUPT;
}
