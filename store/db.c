#include "store/convert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int conn_error(struct conn *c, int rc)
{
    if (c->db && sqlite3_errcode(c->db) != SQLITE_OK)
        snprintf(c->msg, sizeof c->msg, "%s (SQLite code %d, errno %d)", sqlite3_errmsg(c->db), sqlite3_extended_errcode(c->db),
                 sqlite3_system_errno(c->db));
    else
        snprintf(c->msg, sizeof c->msg, "%s", sqlite3_errstr(rc));
    if (rc == SQLITE_IOERR_NOMEM)
        return QE_NOMEM;
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE: return 0;
    case SQLITE_FULL: return QE_DISKFULL;
    case SQLITE_NOMEM: return QE_NOMEM;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH: return QE_CORRUPT;
    default: return QE_IO;
    }
}

int conn_exec(struct conn *c, const char *sql)
{
    int rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);

    return rc ? conn_error(c, rc) : 0;
}

int conn_pragma(struct conn *c, const char *sql, int64_t *out)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(c->db, sql, -1, &q, NULL), err = 0;

    if (rc == SQLITE_OK)
        rc = sqlite3_step(q);
    if (rc == SQLITE_ROW)
        *out = col_i(q, 0);
    else
        err = rc == SQLITE_DONE ? QE_CORRUPT : conn_error(c, rc);
    sqlite3_finalize(q);
    return err;
}

int conn_prepare(struct conn *c, enum conn_kind kind)
{
    for (int i = 0; i < STMT_N; i++) {
        int rc;

        if (kind != CONN_WRITER && stmt_defs[i].writer_only)
            continue;
        rc = sqlite3_prepare_v3(c->db, stmt_defs[i].sql, -1, SQLITE_PREPARE_PERSISTENT, &c->stmts[i], NULL);
        if (rc)
            return conn_error(c, rc);
    }
    return 0;
}

/* Checkpoints are the writer's alone, under no concurrent commit: SQLite before 3.51.3 can lose commits when one starts while
 * another connection resets the WAL. So no automatic ones, and none when a reader closes. */
static int configure(struct conn *c, enum conn_kind kind, size_t cache_bytes)
{
    char sql[96];
    int err;

    (void)sqlite3_extended_result_codes(c->db, 1);
    (void)sqlite3_db_config(c->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    (void)sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    snprintf(sql, sizeof sql, "PRAGMA cache_size = -%zu", cache_bytes / 1024 ? cache_bytes / 1024 : 1);
    err = conn_exec(c, sql);
    if (!err)
        err = conn_exec(c, "PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA wal_autocheckpoint = 0;");
    if (kind != CONN_WRITER) /* while the writer recovers or starts the WAL over */
        (void)sqlite3_busy_timeout(c->db, 1000);
    if (!err && kind != CONN_WRITER)
        err = conn_exec(c, "PRAGMA query_only = ON; PRAGMA mmap_size = 1073741824;");
    if (!err && kind == CONN_WRITER) /* Debian compiles secure_delete on: deleting 1 MiB would write it once more */
        err = conn_exec(c, "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA secure_delete = OFF; "
                           "PRAGMA mmap_size = 0; PRAGMA cell_size_check = ON;");
    return err;
}

static int check_ours(struct conn *c, int64_t *format)
{
    int64_t id = 0;
    int err = conn_pragma(c, "PRAGMA application_id", &id);

    if (!err && id != STORE_APPLICATION_ID) {
        snprintf(c->msg, sizeof c->msg, "it is not a database of quorumfs");
        return QE_FORMAT;
    }
    if (!err)
        err = conn_pragma(c, "SELECT format FROM meta WHERE id = 1", format);
    if (!err && *format != STORE_FORMAT && *format != STORE_FORMAT_FORMER) {
        snprintf(c->msg, sizeof c->msg, "its format is %lld, this program knows %d and %d", (long long)*format, STORE_FORMAT_FORMER, STORE_FORMAT);
        err = QE_FORMAT;
    }
    return err;
}

char *wal_path(const char *path)
{
    char *wal;

    return asprintf(&wal, "%s-wal", path) < 0 ? NULL : wal;
}

int64_t wal_bytes(const char *path)
{
    struct stat st;
    char *wal = wal_path(path);
    int64_t bytes = -1;

    if (wal)
        bytes = stat(wal, &st) ? 0 : (int64_t)st.st_size;
    free(wal);
    return bytes;
}

/* Where nothing can be written SQLite cannot make the files that it has beside a database in WAL mode. With a WAL that is there it needs none if
 * nobody else reads and its index is in memory; without one the file is all there is, and it has to be told so. */
static int open_unwritable(struct conn *c, const char *path)
{
    int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, rc;
    struct buf uri = {0};

    if (wal_bytes(path) != 0) {
        rc = sqlite3_open_v2(path, &c->db, flags, "unix-none");
        return rc ? rc : sqlite3_exec(c->db, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL);
    }
    rc = buf_printf(&uri, "file:") ? SQLITE_NOMEM : SQLITE_OK;
    for (const char *p = path; !rc && *p; p++)
        rc = buf_printf(&uri, strchr("%?#", *p) ? "%%%02X" : "%c", (unsigned char)*p) ? SQLITE_NOMEM : SQLITE_OK;
    if (!rc)
        rc = buf_printf(&uri, "?immutable=1") ? SQLITE_NOMEM : SQLITE_OK;
    if (!rc)
        rc = sqlite3_open_v2(buf_cstr(&uri), &c->db, flags | SQLITE_OPEN_URI, "unix-none");
    buf_fini(&uri);
    return rc;
}

int conn_open(struct conn *c, const char *path, enum conn_kind kind, bool create, size_t cache_bytes)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
    int64_t format = STORE_FORMAT;
    int rc, err;

    *c = (struct conn){0};
    /* unix-excl: the file is this process's alone, as the lock of its directory says anyway; a transaction needs no locks on the file, then. */
    rc = kind == CONN_OFFLINE && access(path, W_OK) ? open_unwritable(c, path) : sqlite3_open_v2(path, &c->db, flags, "unix-excl");
    err = rc ? conn_error(c, rc) : 0;
    if (!err && !create) /* before anything that would write to a stranger's file */
        err = check_ours(c, &format);
    if (!err && format != STORE_FORMAT && kind != CONN_WRITER) /* which may not write to temporary tables either, in a moment */
        err = convert_for_reader(c);
    if (!err)
        err = configure(c, kind, cache_bytes);
    if (!err && format != STORE_FORMAT && kind == CONN_WRITER)
        err = convert(c);
    if (err)
        conn_close(c);
    return err;
}

void conn_close(struct conn *c)
{
    for (int i = 0; i < STMT_N; i++)
        sqlite3_finalize(c->stmts[i]);
    memset(c->stmts, 0, sizeof c->stmts);
    sqlite3_close(c->db);
    c->db = NULL;
}

sqlite3_stmt *conn_stmt(struct conn *c, enum stmt id)
{
    return c->stmts[id];
}

int conn_run(struct conn *c, sqlite3_stmt *q)
{
    int rc = sqlite3_step(q), err = 0;

    while (rc == SQLITE_ROW)
        rc = sqlite3_step(q);
    if (rc != SQLITE_DONE)
        err = conn_error(c, rc);
    sqlite3_reset(q);
    return err;
}

int conn_row(struct conn *c, sqlite3_stmt *q, bool *found)
{
    int rc = sqlite3_step(q), err = 0;

    *found = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW)
        return 0;
    if (rc != SQLITE_DONE)
        err = conn_error(c, rc);
    sqlite3_reset(q);
    return err;
}

void conn_reset(sqlite3_stmt *q)
{
    sqlite3_reset(q);
}

int conn_do(struct conn *c, enum stmt id)
{
    return conn_run(c, conn_stmt(c, id));
}

void conn_rollback(struct conn *c)
{
    char keep[sizeof c->msg];

    if (sqlite3_get_autocommit(c->db))
        return;
    memcpy(keep, c->msg, sizeof keep);
    (void)conn_do(c, STMT_ROLLBACK);
    memcpy(c->msg, keep, sizeof keep);
}
