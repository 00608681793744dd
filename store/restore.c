/* A new cluster from a copy of an old one's database (export.c).
 *
 * The copy is foreign until it has been looked at: its header, its size, which tables there are, then every invariant (check.c), all on
 * our own copy of it. What belonged to the old life is forgotten in one transaction: its place in the log, its sessions, members and
 * staged transactions, leases and locks. Files that were attached to a lease are deleted in one revision, the first of the new life.
 * Revisions go on above the old ones, and history stays. Nothing depends on this machine or on the time, so members that are made from
 * the same file begin with the same state. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "store/check.h"
#include "store/restore.h"

extern const char store__schema[]; /* schema.sql */

enum { PIECE = 1 << 20, HEADER = 100, PAGE = 4096, REMOVALS_MAX = 1 << 18 /* in one revision; each takes at most two positions */ };
static const char magic[16] = "SQLite format 3";

/* ---- The file ------------------------------------------------------------------------------------------------------------ */

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static ssize_t read_full(int fd, uint8_t *to, size_t size)
{
    size_t len = 0;

    while (len < size) {
        ssize_t n = read(fd, to + len, size - len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        len += (size_t)n;
    }
    return (ssize_t)len;
}

static int check_header(const char *from, const uint8_t *h, ssize_t len, int64_t size, struct buf *why)
{
    int64_t pages;

    if (len < HEADER || memcmp(h, magic, sizeof magic) || be32(h + 68) != STORE_APPLICATION_ID || (h[16] << 8 | h[17]) != PAGE)
        return why_set(why, QE_FORMAT, "\"%s\" is not a snapshot of quorumfs", from);
    pages = be32(h + 28);
    if (pages * PAGE != size)
        return why_set(why, QE_CORRUPT, "\"%s\" is truncated or damaged: it has %" PRId64 " bytes, and should have %" PRId64, from, size, pages * PAGE);
    if (h[18] != 1 && wal_bytes(from) != 0) /* it is whole only when its WAL has been copied into it */
        return why_set(why, QE_INVAL, "\"%s\" has a WAL beside it: copy .quorum/snapshot.db, or stop the member first", from);
    return 0;
}

/* `single`: a database in one file, made by store_export. */
static int copy(const char *from, int in, int out, bool single, struct buf *why)
{
    uint8_t *piece = malloc(PIECE);
    struct stat st;
    ssize_t n = 0;
    int err = piece ? 0 : QE_NOMEM;

    if (!err && fstat(in, &st))
        err = why_set(why, QE_IO, "cannot look at \"%s\": %s", from, strerror(errno));
    for (int64_t off = 0; !err && (n = read_full(in, piece, PIECE)) >= 0 && (n > 0 || off == 0); off += n) {
        if (off == 0 && single)
            err = check_header(from, piece, n, st.st_size, why);
        if (!err && off == 0 && single)
            piece[18] = piece[19] = 1; /* with a rollback journal: conn_open makes it a WAL database again */
        for (ssize_t done = 0, w; !err && done < n; done += w) {
            w = write(out, piece + done, (size_t)(n - done));
            if (w < 0)
                err = why_set(why, errno == ENOSPC ? QE_DISKFULL : QE_IO, "cannot copy \"%s\": %s", from, strerror(errno));
        }
    }
    if (!err && n < 0)
        err = why_set(why, QE_IO, "cannot read \"%s\": %s", from, strerror(errno));
    if (!err && fsync(out))
        err = why_set(why, QE_IO, "cannot copy \"%s\": %s", from, strerror(errno));
    free(piece);
    return err;
}

static int copy_file(const char *from, const char *to, bool single, struct buf *why)
{
    int in = open(from, O_RDONLY | O_CLOEXEC), out = -1, err = 0;

    if (in < 0)
        err = why_set(why, errno == ENOENT ? QE_NOENT : QE_ACCES, "cannot open \"%s\": %s", from, strerror(errno));
    if (!err) {
        out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        err = out < 0 ? why_set(why, QE_IO, "cannot make \"%s\": %s", to, strerror(errno)) : copy(from, in, out, single, why);
    }
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    return err;
}

/* The database of a member that is not running, and its WAL: SQLite puts the two together when it opens the copies. The directory stays as it
 * is, and may be on a read-only file system. */
static int copy_stopped(const char *dir, const char *to, struct current *cur, struct buf *why)
{
    char *from = NULL, *wal = NULL, *to_wal = NULL;
    int err = current_read(dir, cur, why);

    if (!err && (!(from = path_join(dir, cur->name)) || !(wal = wal_path(from)) || !(to_wal = wal_path(to))))
        err = QE_NOMEM;
    if (!err && access(from, F_OK) && errno == ENOENT)
        err = why_set(why, QE_CORRUPT, "\"%s\" is missing, although \"%s/CURRENT\" names it", from, dir);
    if (!err)
        err = copy_file(from, to, false, why);
    if (!err && wal_bytes(from) != 0)
        err = copy_file(wal, to_wal, false, why);
    free(from);
    free(wal);
    free(to_wal);
    return err;
}

static bool is_directory(const char *path)
{
    struct stat st;

    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

int restore_describe(const char *from, struct buf *out)
{
    int fd = open(from, O_RDONLY | O_CLOEXEC), err = 0;
    uint8_t *piece = malloc(PIECE);
    XXH3_state_t *hash = XXH3_createState();
    ssize_t n;

    if (fd < 0 || !piece || !hash || XXH3_64bits_reset(hash))
        err = fd < 0 ? QE_NOENT : QE_NOMEM;
    while (!err && (n = read_full(fd, piece, PIECE)) != 0)
        err = n < 0 ? QE_IO : XXH3_64bits_update(hash, piece, (size_t)n) ? QE_NOMEM : 0;
    if (!err)
        err = buf_printf(out, "from %016" PRIx64 "\n", (uint64_t)XXH3_64bits_digest(hash));
    XXH3_freeState(hash);
    free(piece);
    if (fd >= 0)
        close(fd);
    return err;
}

/* ---- Is it one of ours? -------------------------------------------------------------------------------------------------- */

/* Types and names of all that is in a schema, one a line; views are left out, for they decide nothing. */
static int schema_names(sqlite3 *db, struct buf *out)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(db, "SELECT type || ' ' || name FROM sqlite_schema WHERE type <> 'view' ORDER BY 1", -1, &q, NULL), err = 0;

    while (rc == SQLITE_OK && !err && sqlite3_step(q) == SQLITE_ROW)
        err = buf_printf(out, "%s\n", (const char *)sqlite3_column_text(q, 0));
    sqlite3_finalize(q);
    return rc ? QE_CORRUPT : err;
}

/* A trigger, say, would be run by what the store writes. */
static int check_schema(struct conn *c)
{
    struct buf ours = {0}, theirs = {0};
    sqlite3 *db = NULL;
    int err = sqlite3_open(":memory:", &db) || sqlite3_exec(db, store__schema, NULL, NULL, NULL) ? QE_NOMEM : schema_names(db, &ours);

    if (!err)
        err = schema_names(c->db, &theirs);
    if (!err && strcmp(buf_cstr(&ours), buf_cstr(&theirs))) {
        snprintf(c->msg, sizeof c->msg, "its tables are not those of quorumfs");
        err = QE_FORMAT;
    }
    sqlite3_close(db);
    buf_fini(&ours);
    buf_fini(&theirs);
    return err;
}

static void keep_first(void *data, const char *line)
{
    struct buf *first = data;

    if (!first->len && !strncmp(line, "damage: ", 8))
        (void)buf_printf(first, "%s", line + 8);
}

static int check_copy(const char *from, const char *path, struct buf *why)
{
    struct buf damage = {0};
    struct conn c;
    int err = conn_open(&c, path, CONN_WRITER, false, 1 << 20); /* converts it */

    if (!err) {
        err = check_schema(&c);
        conn_close(&c);
    }
    if (err) {
        why_set(why, err, "\"%s\" cannot be used: %s", from, c.msg[0] ? c.msg : qfs_strerror(err));
        return err;
    }
    err = check_database(path, keep_first, &damage);
    if (err)
        why_set(why, err, "\"%s\" is damaged: %s", from, damage.len ? buf_cstr(&damage) : qfs_strerror(err));
    buf_fini(&damage);
    return err;
}

/* ---- The old life -------------------------------------------------------------------------------------------------------- */

static int next_attached(struct store *s, uint64_t *parent, uint8_t name[STORE_NAME_MAX], size_t *len)
{
    sqlite3_stmt *q = NULL;
    struct store_bytes n;
    bool found;
    int rc = sqlite3_prepare_v2(s->conn.db, "SELECT parent, name FROM node WHERE lease IS NOT NULL AND parent IS NOT NULL LIMIT 1", -1, &q, NULL);
    int err = rc ? conn_error(&s->conn, rc) : conn_row(&s->conn, q, &found);

    if (!err && !found)
        err = QE_NODATA;
    if (!err) {
        *parent = col_u(q, 0);
        n = col_b(q, 1);
        *len = n.len <= STORE_NAME_MAX ? n.len : STORE_NAME_MAX;
        memcpy(name, n.data ? n.data : "", *len);
    }
    sqlite3_finalize(q);
    return err;
}

/* One revision, or more if there are more than fit. */
static int delete_attached(struct store *s)
{
    struct store_command cmd = {.time_ns = s->st.time, .comm = "init", .cause = "restored"};
    struct txn t = {.cmd = &cmd, .rev = s->st.rev + 1};
    uint8_t name[STORE_NAME_MAX];
    uint64_t ino;
    int err = 0;

    for (int n = 1; !err; n++) {
        struct store_op op = {.kind = STORE_OP_UNLINK, .name = {name, 0}};

        err = next_attached(s, &op.parent, name, &op.name.len);
        if (!err)
            err = op_remove(s, &t, &op, &ino);
        if (!err && n % REMOVALS_MAX == 0)
            t = (struct txn){.cmd = &cmd, .rev = t.rev + 1};
    }
    s->st.rev = t.takes_rev ? t.rev : t.rev - 1;
    return err == QE_NODATA ? 0 : err;
}

static int new_identity(struct store *s, const struct store_initial *initial)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(s->conn.db, "UPDATE meta SET cluster_id = ?1, epoch = ?2", -1, &q, NULL), err;

    if (rc)
        return conn_error(&s->conn, rc);
    bind_b(q, 1, initial->cluster_id, STORE_CLUSTER_ID_SIZE);
    bind_u(q, 2, initial->epoch);
    err = conn_run(&s->conn, q);
    sqlite3_finalize(q);
    return err;
}

static int forget_old_life(struct store *s, const struct store_initial *initial)
{
    int err = delete_attached(s);

    if (!err)
        err = conn_exec(&s->conn, "DELETE FROM session; DELETE FROM result; DELETE FROM stage; DELETE FROM member; DELETE FROM lease; "
                                  "DELETE FROM lock;");
    if (!err)
        err = new_identity(s, initial);
    if (!err)
        err = settings_override(&s->conn, initial);
    s->st.applied = s->st.term = s->st.crc = 0;
    s->st.next_member = 1;
    if (!err)
        err = members_initial(s, initial);
    if (!err)
        err = sessions_load(s);
    if (!err)
        err = verify_sum(s, &s->st.hash); /* of what is left */
    return err ? err : meta_save(s);
}

static int transform(struct store *s, const char *path, const struct store_initial *initial)
{
    int err = conn_open(&s->conn, path, CONN_WRITER, false, 16 << 20);

    if (!err)
        err = conn_exec(&s->conn, "PRAGMA synchronous = FULL");
    if (!err)
        err = conn_prepare(&s->conn, CONN_WRITER);
    if (!err)
        err = store_reload(s);
    if (!err)
        err = conn_exec(&s->conn, "BEGIN IMMEDIATE");
    if (!err)
        err = forget_old_life(s, initial);
    if (!err)
        err = conn_do(&s->conn, STMT_COMMIT);
    if (!err)
        err = conn_exec(&s->conn, "PRAGMA wal_checkpoint(TRUNCATE)");
    conn_close(&s->conn);
    return err;
}

/* What belongs behind the database of a directory goes there while it is the old cluster's still. */
static int catch_up(const char *path, const struct current *was, const struct store_initial *initial, struct buf *why)
{
    char *slash, *dir = strdup(path);
    struct store_options options = {.dir = dir};
    struct current cur = *was;
    struct store *s;
    int err = QE_NOMEM;

    if (dir && (slash = strrchr(dir, '/'))) {
        snprintf(cur.name, sizeof cur.name, "%s", slash + 1);
        *slash = 0;
        err = store_open_as(&options, &cur, &s, why);
    }
    if (!err) {
        err = initial->catch_up(initial->catch_up_data, s, why);
        store_close(s);
    }
    free(dir);
    return err;
}

int restore_build(struct store *s, const char *path, const struct store_initial *initial, struct buf *why)
{
    bool dir = is_directory(initial->from);
    struct current cur = {0};
    int err = dir ? copy_stopped(initial->from, path, &cur, why) : copy_file(initial->from, path, true, why);

    if (!err)
        err = check_copy(initial->from, path, why);
    if (!err && dir && initial->catch_up)
        err = catch_up(path, &cur, initial, why);
    if (err)
        return err;
    err = transform(s, path, initial);
    if (err)
        why_set(why, err, "cannot make \"%s\" from \"%s\": %s", path, initial->from, s->conn.msg[0] ? s->conn.msg : qfs_strerror(err));
    return err;
}
