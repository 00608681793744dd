/* The life of a database: opened, read again after a failure, closed. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/internal.h"

enum { WAL_FRAME_SIZE = 4096 + 24 };

/* ---- The row meta -------------------------------------------------------------------------------------------------------- */

static void state_from_row(sqlite3_stmt *q, struct state *st)
{
    st->applied = col_u(q, 3);
    st->term = col_u(q, 4);
    st->crc = (uint32_t)col_i(q, 5);
    st->rev = col_i(q, 6);
    st->time = col_i(q, 7);
    st->compacted = col_i(q, 8);
    st->next_ino = col_i(q, 9);
    st->live_bytes = col_i(q, 10);
    st->n_files = col_i(q, 11);
    st->n_dirs = col_i(q, 12);
    st->n_symlinks = col_i(q, 13);
    st->hist_total = col_i(q, 14);
    st->hist_base = col_i(q, 15);
    st->hash = col_u(q, 16);
    st->compact_from = col_i(q, 17);
    st->compact_to = col_i(q, 18);
    st->compact_pos = col_i(q, 19);
    st->next_member = col_i(q, 20);
}

static bool plausible(const struct state *st)
{
    return st->rev >= 1 && st->compacted >= 0 && st->compacted <= st->rev && st->compact_from >= 0 && st->compact_from <= st->compact_to &&
           st->compact_to <= st->compacted && st->next_ino >= 1 && st->live_bytes >= 0 && st->n_files >= 0 && st->n_dirs >= 1 &&
           st->n_symlinks >= 0 && st->next_member >= 1 && st->next_member <= STORE_MEMBER_ID_MAX + INT64_C(1) && st->hist_base >= 0 &&
           st->hist_base <= st->hist_total && st->rev < INT64_MAX >> STORE_SUB_BITS;
}

int meta_load(struct conn *c, struct state *st, uint8_t cluster_id[STORE_CLUSTER_ID_SIZE], uint64_t *epoch, int64_t *format)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_META_GET);
    struct store_bytes id;
    bool found;
    int err = conn_row(c, q, &found);

    if (err || !found)
        return err ? err : QE_CORRUPT;
    *format = col_i(q, 0);
    id = col_b(q, 1);
    *epoch = col_u(q, 2);
    if (id.len == STORE_CLUSTER_ID_SIZE)
        memcpy(cluster_id, id.data, id.len);
    else
        err = QE_CORRUPT;
    state_from_row(q, st);
    conn_reset(q);
    if (!err && !plausible(st))
        err = QE_CORRUPT;
    if (err)
        snprintf(c->msg, sizeof c->msg, "its row of numbers (meta) is damaged");
    return err;
}

int meta_save(struct store *s)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_META_SET);
    const struct state *st = &s->st;
    int err;

    bind_u(q, 1, st->applied);
    bind_u(q, 2, st->term);
    bind_i(q, 3, st->crc);
    bind_i(q, 4, st->rev);
    bind_i(q, 5, st->time);
    bind_i(q, 6, st->compacted);
    bind_i(q, 7, st->next_ino);
    bind_i(q, 8, st->live_bytes);
    bind_i(q, 9, st->n_files);
    bind_i(q, 10, st->n_dirs);
    bind_i(q, 11, st->n_symlinks);
    bind_i(q, 12, st->hist_total);
    bind_i(q, 13, st->hist_base);
    bind_u(q, 14, st->hash);
    bind_i(q, 15, st->compact_from);
    bind_i(q, 16, st->compact_to);
    bind_i(q, 17, st->compact_pos);
    bind_i(q, 18, st->next_member);
    err = conn_run(&s->conn, q);
    return err || sqlite3_changes(s->conn.db) == 1 ? err : QE_CORRUPT;
}

struct store *store_new(void)
{
    struct store *s = calloc(1, sizeof *s);

    if (s)
        s->copy_fd = -1;
    if (s)
        pthread_mutex_init(&s->where, NULL);
    return s;
}

void store_free(struct store *s)
{
    if (s->copy_fd >= 0)
        close(s->copy_fd);
    pthread_mutex_destroy(&s->where);
    sessions_fini(&s->sessions);
    owners_fini(&s->owners);
    arena_free(s->arena);
    arena_free(s->part_arena);
    free(s->changes.list);
    buf_fini(&s->changes.names);
    events_fini(&s->events);
    lock_forget(s);
    free(s->results);
    buf_fini(&s->scratch);
    buf_fini(&s->scratch2);
    free(s->path);
    free(s->dir);
    free(s);
}

/* ---- Opening ------------------------------------------------------------------------------------------------------------- */

void glance_publish(struct store *s)
{
    struct store_glance_atomics *g = &s->glance;
    const struct state *st = &s->st;

    atomic_store_explicit(&g->live_bytes, st->live_bytes, memory_order_relaxed);
    atomic_store_explicit(&g->quota, st->quota, memory_order_relaxed);
    atomic_store_explicit(&g->max_value, st->max_value, memory_order_relaxed);
    atomic_store_explicit(&g->session_ttl_ns, st->session_ttl_ns, memory_order_relaxed);
    atomic_store_explicit(&g->hist_bytes, st->hist_total - st->hist_base, memory_order_relaxed);
    atomic_store_explicit(&g->n_files, st->n_files, memory_order_relaxed);
    atomic_store_explicit(&g->n_dirs, st->n_dirs, memory_order_relaxed);
    atomic_store_explicit(&g->n_symlinks, st->n_symlinks, memory_order_relaxed);
    atomic_store_explicit(&g->n_leases, st->n_leases, memory_order_relaxed);
    atomic_store_explicit(&g->n_locks, st->n_held, memory_order_relaxed);
    atomic_store_explicit(&g->compacted, st->compacted, memory_order_relaxed);
    atomic_store_explicit(&g->rev, st->rev, memory_order_release);
}

void store_glance(const struct store *s, struct store_glance *out)
{
    const struct store_glance_atomics *g = &s->glance;

    out->rev = atomic_load_explicit(&g->rev, memory_order_acquire);
    out->compacted = atomic_load_explicit(&g->compacted, memory_order_relaxed);
    out->live_bytes = atomic_load_explicit(&g->live_bytes, memory_order_relaxed);
    out->quota = atomic_load_explicit(&g->quota, memory_order_relaxed);
    out->max_value = atomic_load_explicit(&g->max_value, memory_order_relaxed);
    out->session_ttl_ns = atomic_load_explicit(&g->session_ttl_ns, memory_order_relaxed);
    out->hist_bytes = atomic_load_explicit(&g->hist_bytes, memory_order_relaxed);
    out->n_files = atomic_load_explicit(&g->n_files, memory_order_relaxed);
    out->n_dirs = atomic_load_explicit(&g->n_dirs, memory_order_relaxed);
    out->n_symlinks = atomic_load_explicit(&g->n_symlinks, memory_order_relaxed);
    out->n_leases = atomic_load_explicit(&g->n_leases, memory_order_relaxed);
    out->n_locks = atomic_load_explicit(&g->n_locks, memory_order_relaxed);
}

static int load_last_time(struct store *s)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_TIME_NEWEST);
    bool found;
    int err = conn_row(&s->conn, q, &found);

    if (err || !found)
        return err ? err : QE_CORRUPT;
    s->st.last_time = col_i(q, 0);
    s->st.last_time_rev = col_i(q, 1);
    conn_reset(q);
    return 0;
}

int store_reload(struct store *s)
{
    struct state st = s->st;
    int64_t format;
    int err;

    lock_forget(s);
    err = meta_load(&s->conn, &st, s->cluster_id, &s->epoch, &format);

    if (!err)
        s->st = st;
    if (!err)
        err = settings_load(s);
    if (!err)
        err = load_last_time(s);
    if (!err)
        err = sessions_load(s);
    if (!err)
        err = lives_load(s);
    s->broken = err != 0;
    return err;
}

static int on_commit(void *data, sqlite3 *db, const char *name, int frames)
{
    struct store *s = data;

    (void)db;
    (void)name;
    s->wal_frames = frames;
    return SQLITE_OK;
}

static int frames_left_behind(const char *path)
{
    int64_t bytes = wal_bytes(path);

    return bytes > 0 ? (int)(bytes / WAL_FRAME_SIZE) : 0;
}

/* The descriptor for copies keeps its number: a copy that is under way is told to give up, but may still be reading. */
static int open_for_copies(struct store *s)
{
    int fd = open(s->path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || s->copy_fd < 0) {
        s->copy_fd = fd;
        return fd < 0 ? QE_IO : 0;
    }
    if (dup3(fd, s->copy_fd, O_CLOEXEC) < 0) {
        close(fd);
        return QE_IO;
    }
    close(fd);
    return 0;
}

int store_open_database(struct store *s, const struct current *cur, struct buf *why)
{
    int err;

    if (open_for_copies(s)) /* before SQLite has locks that closing a descriptor would drop */
        return why_set(why, QE_IO, "cannot open \"%s\" for copies: %s", s->path, strerror(errno));
    err = conn_open(&s->conn, s->path, CONN_WRITER, false, s->cache_bytes);
    if (!err)
        err = conn_prepare(&s->conn, CONN_WRITER);
    if (!err)
        err = store_reload(s);
    if (!err)
        err = store_verify(s);
    if (err)
        return why_set(why, err, "cannot open \"%s\": %s", s->path, s->conn.msg[0] ? s->conn.msg : qfs_strerror(err));
    if (s->epoch != cur->epoch)
        return why_set(why, QE_CORRUPT, "\"%s\" and \"%s/CURRENT\" do not belong together (epochs %" PRIu64 " and %" PRIu64 ")", s->path, s->dir,
                       s->epoch, cur->epoch);
    s->wal_frames = frames_left_behind(s->path);
    (void)sqlite3_wal_hook(s->conn.db, on_commit, s);
    (void)sqlite3_busy_timeout(s->conn.db, STORE_BUSY_MS);
    return 0;
}

int store_open_as(const struct store_options *options, const struct current *cur, struct store **out, struct buf *why)
{
    size_t wal_limit = options->wal_limit_bytes ? options->wal_limit_bytes : 32 << 20;
    struct store *s = store_new();
    int err = s ? 0 : QE_NOMEM;

    if (!err) {
        s->dir = strdup(options->dir);
        s->path = path_join(options->dir, cur->name);
        s->arena = arena_new();
        s->part_arena = arena_new();
        err = s->dir && s->path && s->arena && s->part_arena ? 0 : QE_NOMEM;
    }
    if (!err) {
        s->installed_at = cur->installed_at;
        s->cache_bytes = options->cache_bytes ? options->cache_bytes : 64 << 20;
        s->reader_cache_bytes = options->reader_cache_bytes ? options->reader_cache_bytes : 8 << 20;
        s->wal_limit_frames = wal_limit / WAL_FRAME_SIZE;
        if (access(s->path, F_OK))
            err = why_set(why, QE_CORRUPT, "\"%s\" is missing, although \"%s/CURRENT\" names it", s->path, s->dir);
        else
            err = store_open_database(s, cur, why);
    }
    if (err) {
        if (err == QE_NOMEM)
            why_set(why, err, "out of memory while \"%s\" was opened", options->dir);
        if (s) {
            conn_close(&s->conn);
            store_free(s);
        }
        return err;
    }
    glance_publish(s);
    *out = s;
    return 0;
}

int store_open(const struct store_options *options, struct store **out, struct buf *why)
{
    struct current cur;
    int err = current_read(options->dir, &cur, why);

    if (err == QE_NOMEM)
        why_set(why, err, "out of memory while \"%s\" was opened", options->dir);
    return err ? err : store_open_as(options, &cur, out, why);
}

void store_close(struct store *s)
{
    if (!s)
        return;
    /* What cannot be copied into the database file now is found in the WAL at the next start. */
    (void)conn_exec(&s->conn, "PRAGMA wal_checkpoint(TRUNCATE)");
    conn_close(&s->conn);
    store_free(s);
}

const char *store_errmsg(const struct store *s)
{
    return s->conn.msg;
}

void store_position(const struct store *s, struct store_position *out)
{
    *out = (struct store_position){.applied = s->st.applied, .term = s->st.term, .crc = s->st.crc, .installed_at = s->installed_at, .epoch = s->epoch};
    memcpy(out->cluster_id, s->cluster_id, sizeof out->cluster_id);
}

void store_state(const struct store *s, int64_t *rev, uint64_t *hash)
{
    *rev = s->st.rev;
    *hash = hash_state(&s->st);
}
