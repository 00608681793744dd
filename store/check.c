/* `store_check`: every invariant over all tables, with the damage in words. */
#include "store/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINES_MAX = 200 };

void check_damage(struct check *k, const char *fmt, ...)
{
    char text[400], line[440];
    va_list ap;

    if (k->n_damaged++ >= LINES_MAX)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    snprintf(line, sizeof line, "damage: %s", text);
    k->say(k->data, line);
}

struct check_inode *check_find(struct check *k, uint64_t ino)
{
    size_t lo = 0, hi = k->n_inodes;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (k->inodes[mid].ino < ino)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < k->n_inodes && k->inodes[lo].ino == ino ? &k->inodes[lo] : NULL;
}

int check_query(struct check *k, const char *sql, sqlite3_stmt **out)
{
    int rc = sqlite3_prepare_v2(k->s->conn.db, sql, -1, out, NULL);

    return rc ? conn_error(&k->s->conn, rc) : 0;
}

/* ---- Pages, rows of their own -------------------------------------------------------------------------------------------- */

static int check_pages(struct check *k)
{
    sqlite3_stmt *q;
    bool found;
    int err = check_query(k, "PRAGMA integrity_check(20)", &q);

    if (err)
        return err;
    while (!(err = conn_row(&k->s->conn, q, &found)) && found) {
        const char *text = (const char *)sqlite3_column_text(q, 0);

        if (!text || strcmp(text, "ok"))
            check_damage(k, "SQLite says: %s", text ? text : "(nothing)");
    }
    sqlite3_finalize(q);
    return err;
}

static int check_settings(struct check *k)
{
    const struct store_setting_def *defs;
    struct buf canonical = {0};
    sqlite3_stmt *q;
    size_t n, rows = 0;
    bool found;
    int err = check_query(k, "SELECT name, value FROM setting", &q);

    defs = store_setting_defs(&n);
    (void)defs;
    if (err)
        return err;
    while (!(err = conn_row(&k->s->conn, q, &found)) && found) {
        const char *name = (const char *)sqlite3_column_text(q, 0), *value = (const char *)sqlite3_column_text(q, 1);

        rows++;
        if (!name || !value || store_setting_check(name, value, &canonical, NULL) || strcmp(buf_cstr(&canonical), value))
            check_damage(k, "setting \"%s\" has the value \"%s\"", name ? name : "", value ? value : "");
        else
            k->found.hash += hash_setting(name, value);
    }
    sqlite3_finalize(q);
    buf_fini(&canonical);
    if (!err && rows != n)
        check_damage(k, "there are %zu settings, not %zu", rows, n);
    return err;
}

static int check_sessions(struct check *k)
{
    int err = sessions_load(k->s);

    if (err == QE_CORRUPT) {
        check_damage(k, "a kept result or a staged part has no session");
        return 0;
    }
    for (size_t i = 0; !err && i < k->s->sessions.n; i++) {
        const struct session *ss = &k->s->sessions.list[i];

        k->found.hash += hash_session(ss);
        if (ss->id > k->s->st.applied)
            check_damage(k, "session %" PRIu64 " is of an entry after the last applied one, %" PRIu64, ss->id, k->s->st.applied);
        if (ss->n_results > STORE_RESULTS_MAX)
            check_damage(k, "session %" PRIu64 " keeps %zu results", ss->id, ss->n_results);
        for (size_t r = 0; r < ss->n_results; r++) {
            k->found.hash += hash_result(ss->id, &ss->results[r]);
            if (ss->results[r].seq <= ss->acked)
                check_damage(k, "session %" PRIu64 " keeps result %" PRIu64 ", which it has acknowledged", ss->id, ss->results[r].seq);
        }
    }
    return err;
}

static void check_member(void *data, const struct store_member *m)
{
    struct check *k = data;

    if (member_check(m, k->s->st.next_member))
        check_damage(k, "member %" PRIu32 " has the address \"%s\" and the role %d, and the next one would be %" PRId64, m->id, m->address,
                     (int)m->role, k->s->st.next_member);
    k->found.hash += hash_member(m);
}

/* Parts of staged transactions: of a session, from 0 on without gaps, whole. */
static int check_stages(struct check *k)
{
    uint64_t session = 0, id = 0;
    int64_t next = 0;
    sqlite3_stmt *q;
    bool found;
    int err = check_query(k, "SELECT session, part, id, hash, data FROM stage ORDER BY session, part", &q);

    if (err)
        return err;
    while (!(err = conn_row(&k->s->conn, q, &found)) && found) {
        struct store_bytes data = col_b(q, 4);

        if (col_u(q, 0) != session)
            next = 0;
        if (next == 0)
            id = col_u(q, 2);
        session = col_u(q, 0);
        if (!session_find(&k->s->sessions, session))
            check_damage(k, "a staged transaction is of session %" PRIu64 ", which there is not", session);
        if (col_i(q, 1) != next++ || col_u(q, 2) != id)
            check_damage(k, "the staged transaction of session %" PRIu64 " lacks a part before %" PRId64, session, col_i(q, 1));
        if (hash_content(data.data, data.len) != col_u(q, 3))
            check_damage(k, "part %" PRId64 " of the staged transaction of session %" PRIu64 " is not what was written", col_i(q, 1), session);
        k->found.hash += hash_stage(session, col_u(q, 2), col_i(q, 1), col_u(q, 3));
    }
    sqlite3_finalize(q);
    return err;
}

static int check_times(struct check *k)
{
    sqlite3_stmt *q;
    int64_t last = 0;
    bool found;
    int err = check_query(k, "SELECT t, rev FROM time ORDER BY t", &q);

    if (err)
        return err;
    while (!(err = conn_row(&k->s->conn, q, &found)) && found) {
        if (col_i(q, 1) < last || col_i(q, 1) > k->s->st.rev)
            check_damage(k, "the time table puts revision %" PRId64 " after revision %" PRId64, col_i(q, 1), last);
        if (col_i(q, 0) > k->s->st.time)
            check_damage(k, "the time table knows a time after the newest, %" PRId64, k->s->st.time);
        last = col_i(q, 1);
    }
    sqlite3_finalize(q);
    if (!err && last == 0)
        check_damage(k, "the time table is empty");
    return err;
}

static bool check_bookmark(void *data, const struct store_bookmark *b)
{
    struct check *k = data;

    if (!store_bookmark_name_ok(b->name, strlen(b->name)) || b->rev < 0 || b->rev > k->s->st.rev)
        check_damage(k, "bookmark \"%s\" at revision %" PRId64 " cannot be", b->name, b->rev);
    else
        k->found.hash += hash_bookmark((struct store_bytes){b->name, strlen(b->name)}, b);
    return true;
}

/* ---- Sums ---------------------------------------------------------------------------------------------------------------- */

static void compare(struct check *k, const char *what, int64_t said, int64_t found)
{
    if (said != found)
        check_damage(k, "%s is recorded as %" PRId64 ", but is %" PRId64, what, said, found);
}

static void check_sums(struct check *k)
{
    const struct state *st = &k->s->st, *f = &k->found;

    compare(k, "the number of bytes in use", st->live_bytes, f->live_bytes);
    compare(k, "the number of files", st->n_files, f->n_files);
    compare(k, "the number of directories", st->n_dirs, f->n_dirs);
    compare(k, "the number of symbolic links", st->n_symlinks, f->n_symlinks);
    if (st->hash != f->hash)
        check_damage(k, "the sum of the rows' hashes is recorded as %016" PRIx64 ", but is %016" PRIx64, st->hash, f->hash);
}

static int check_tables(struct check *k)
{
    int err = check_settings(k);

    if (!err)
        err = check_sessions(k);
    if (!err)
        err = members_each(&k->s->conn, check_member, k);
    if (!err)
        err = check_stages(k);
    if (!err)
        err = bookmarks_each(&k->s->conn, check_bookmark, k);
    if (!err)
        err = check_times(k);
    if (!err)
        err = check_lives(k);
    if (!err)
        err = check_inodes(k);
    if (!err)
        err = check_names(k);
    if (!err)
        err = check_versions(k);
    if (!err)
        check_sums(k);
    return err;
}

/* ---- The whole ----------------------------------------------------------------------------------------------------------- */

/* k->s->path */
static int check_open(struct check *k, struct buf *why)
{
    struct store *s = k->s;
    int64_t format;
    int err;

    if (access(s->path, F_OK))
        return why_set(why, QE_CORRUPT, "\"%s\" is missing, although CURRENT names it", s->path);
    err = conn_open(&s->conn, s->path, CONN_OFFLINE, false, 64 << 20);
    if (!err)
        err = conn_prepare(&s->conn, CONN_WRITER); /* the connection refuses to write; some queries are the writer's */
    if (!err)
        err = meta_load(&s->conn, &s->st, s->cluster_id, &s->epoch, &format);
    if (err)
        return why_set(why, err, "cannot read \"%s\": %s", s->path, s->conn.msg[0] ? s->conn.msg : qfs_strerror(err));
    return 0;
}

static int check_open_current(struct check *k, const char *dir, struct buf *why)
{
    struct store *s = k->s;
    struct current cur;
    int err = current_read(dir, &cur, why);

    if (err)
        return err;
    s->path = path_join(dir, cur.name);
    err = s->path ? check_open(k, why) : QE_NOMEM;
    if (err)
        return err;
    s->installed_at = cur.installed_at;
    if (s->epoch != cur.epoch)
        check_damage(k, "the database is of epoch %" PRIu64 ", CURRENT of epoch %" PRIu64, s->epoch, cur.epoch);
    return 0;
}

static void summarize(struct check *k, struct store_summary *out)
{
    const struct state *st = &k->s->st;
    struct store_summary sum = {.rev = st->rev, .compacted = st->compacted, .n_files = st->n_files, .n_dirs = st->n_dirs,
                                .n_symlinks = st->n_symlinks, .live_bytes = st->live_bytes, .versions = k->n_versions, .hash = hash_state(st)};
    char line[400];

    store_position(k->s, &sum.position);
    snprintf(line, sizeof line, "store: revision %" PRId64 ", compacted %" PRId64 ", %" PRId64 " files, %" PRId64 " directories, %" PRId64
             " symbolic links, %" PRId64 " bytes in use, %" PRId64 " versions, applied %" PRIu64 " of term %" PRIu64 ", hash %016" PRIx64,
             sum.rev, sum.compacted, sum.n_files, sum.n_dirs, sum.n_symlinks, sum.live_bytes, sum.versions, sum.position.applied,
             sum.position.term, sum.hash);
    k->say(k->data, line);
    if (out)
        *out = sum;
}

/* `dir` NULL: the database k->s->path. */
static int check_all(struct check *k, const char *dir, struct store_summary *out)
{
    struct buf why = {0};
    int err = dir ? check_open_current(k, dir, &why) : check_open(k, &why);

    if (err == QE_CORRUPT || err == QE_FORMAT)
        check_damage(k, "%s", buf_cstr(&why));
    else if (err)
        k->say(k->data, buf_cstr(&why));
    if (!err) {
        err = conn_exec(&k->s->conn, "BEGIN"); /* or each row would be a transaction */
        if (!err)
            err = check_pages(k);
        if (!err && k->n_damaged == 0) /* rows of damaged pages mean nothing */
            err = check_tables(k);
        if (err == QE_CORRUPT)
            check_damage(k, "the tables cannot be read to their end: %s", k->s->conn.msg);
        else if (err)
            k->say(k->data, k->s->conn.msg);
        summarize(k, out);
    }
    buf_fini(&why);
    if (k->n_damaged > LINES_MAX)
        k->say(k->data, "damage: and more of the kind");
    return err && err != QE_CORRUPT ? err : k->n_damaged ? QE_CORRUPT : 0;
}

static void say_nothing(void *data, const char *line)
{
    (void)data, (void)line;
}

static void check_end(struct check *k)
{
    conn_close(&k->s->conn);
    store_free(k->s);
    free(k->inodes);
}

int store_check(const char *dir, store_say_cb say, void *data, struct store_summary *out)
{
    struct check k = {.s = store_new(), .say = say, .data = data};
    int err;

    if (!k.s)
        return QE_NOMEM;
    err = check_all(&k, dir, out);
    check_end(&k);
    return err;
}

int store_check_position(const char *dir, struct store_position *out)
{
    struct check k = {.s = store_new(), .say = say_nothing};
    int err;

    if (!k.s)
        return QE_NOMEM;
    err = check_open_current(&k, dir, NULL);
    if (!err)
        store_position(k.s, out);
    check_end(&k);
    return err;
}

int check_database(const char *path, store_say_cb say, void *data)
{
    struct check k = {.s = store_new(), .say = say, .data = data};
    int err;

    if (!k.s)
        return QE_NOMEM;
    k.s->path = strdup(path);
    err = k.s->path ? check_all(&k, NULL, NULL) : QE_NOMEM;
    check_end(&k);
    return err;
}
