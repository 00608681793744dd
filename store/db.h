/* A SQLite connection with its prepared statements, and the translation of SQLite's errors: the only way the store talks to SQLite.
 *
 * A statement is used in three steps: conn_stmt, bind_*, then conn_run (writes) or conn_row (a query). After conn_row found a row
 * the columns may be read until conn_reset; without a row, or on error, it has been reset already. */
#ifndef QFS_STORE_DB_H
#define QFS_STORE_DB_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/err.h"
#include "store/stmt.h"
#include "store/store.h"

enum { STORE_FORMAT = 3, STORE_APPLICATION_ID = 0x71667331, STORE_SUB_BITS = 20, STORE_INLINE_MAX = 4096 };

struct conn {
    sqlite3 *db;                  /* owned */
    sqlite3_stmt *stmts[STMT_N];  /* owned; NULL: not for this kind of connection */
    char msg[256];                /* detail of the last failure */
};

enum conn_kind {
    CONN_WRITER,
    CONN_READER,
    CONN_OFFLINE, /* reads what nobody has open, also where nothing can be written */
};

/* Opens PATH, which must exist and be ours (else QE_FORMAT) unless `create`, and sets the pragmas of its kind. A database of the former format
 * is converted by a writer; a reader sees it as if it were. On failure the
 * connection is closed again and `msg` says why. */
int conn_open(struct conn *c, const char *path, enum conn_kind kind, bool create, size_t cache_bytes);
int conn_prepare(struct conn *c, enum conn_kind kind);
char *wal_path(const char *path);     /* of the database at PATH; the caller frees it; NULL: no memory */
int64_t wal_bytes(const char *path);  /* 0: there is none; -1: that is not known, for lack of memory */
void conn_close(struct conn *c);

int conn_error(struct conn *c, int rc);          /* SQLite's code -> QE_*, keeps the detail in msg */
int conn_exec(struct conn *c, const char *sql);  /* any number of statements without results */
int conn_pragma(struct conn *c, const char *sql, int64_t *out); /* the first column of the first row */

sqlite3_stmt *conn_stmt(struct conn *c, enum stmt id);
int conn_run(struct conn *c, sqlite3_stmt *q);              /* to its end, and reset */
int conn_row(struct conn *c, sqlite3_stmt *q, bool *found); /* the next row */
void conn_reset(sqlite3_stmt *q);
int conn_do(struct conn *c, enum stmt id);                  /* a statement without parameters */
void conn_rollback(struct conn *c);                         /* also when SQLite has rolled back by itself */

/* Binding of numbers and borrowed bytes cannot fail for the statements of stmt.c. */
static inline void bind_i(sqlite3_stmt *q, int i, int64_t v) { (void)sqlite3_bind_int64(q, i, v); }
static inline void bind_u(sqlite3_stmt *q, int i, uint64_t v) { (void)sqlite3_bind_int64(q, i, (int64_t)v); }
static inline void bind_null(sqlite3_stmt *q, int i) { (void)sqlite3_bind_null(q, i); }
static inline void bind_b(sqlite3_stmt *q, int i, const void *p, size_t len)
{
    (void)sqlite3_bind_blob64(q, i, len ? p : "", len, SQLITE_STATIC);
}
static inline void bind_t(sqlite3_stmt *q, int i, const char *text) { (void)sqlite3_bind_text(q, i, text, -1, SQLITE_STATIC); }

static inline int64_t col_i(sqlite3_stmt *q, int i) { return sqlite3_column_int64(q, i); }
static inline uint64_t col_u(sqlite3_stmt *q, int i) { return (uint64_t)sqlite3_column_int64(q, i); }
static inline bool col_is_null(sqlite3_stmt *q, int i) { return sqlite3_column_type(q, i) == SQLITE_NULL; }
static inline struct store_bytes col_b(sqlite3_stmt *q, int i)
{
    const void *p = sqlite3_column_blob(q, i);

    return (struct store_bytes){p, p ? (size_t)sqlite3_column_bytes(q, i) : 0};
}

static inline int64_t seq_of(int64_t rev, int64_t sub) { return rev << STORE_SUB_BITS | sub; }
static inline int32_t sub_of(int64_t seq) { return (int32_t)(seq & ((1 << STORE_SUB_BITS) - 1)); }
static inline int64_t rev_of(int64_t seq) { return seq >> STORE_SUB_BITS; }

#endif
