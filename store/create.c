/* Making a database: revision 1, the root directory, with the settings and the members that the cluster begins with. Everything that
 * is replicated follows from struct store_initial, so members that are given the same begin with the same state. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "store/restore.h"

extern const char store__schema[]; /* schema.sql */

static int put_meta(struct conn *c, const struct store_initial *initial)
{
    static const char sql[] = "INSERT INTO meta(id, format, cluster_id, epoch, applied, term, crc, rev, time, compacted, next_ino, live_bytes, "
                              "n_files, n_dirs, n_symlinks, hist_total, hist_base, state_hash, compact_from, compact_to, compact_pos, next_member) "
                              "VALUES(1, ?1, ?2, ?3, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1)";
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(c->db, sql, -1, &q, NULL), err;

    if (rc)
        return conn_error(c, rc);
    bind_i(q, 1, STORE_FORMAT);
    bind_b(q, 2, initial->cluster_id, STORE_CLUSTER_ID_SIZE);
    bind_u(q, 3, initial->epoch);
    err = conn_run(c, q);
    sqlite3_finalize(q);
    return err;
}

/* Revision 1: the root directory. */
static int put_root(struct store *s, const struct store_initial *initial)
{
    static const struct store_bytes nothing = {"", 0};
    struct store_command cmd = {.time_ns = initial->time_ns, .uid = initial->root_uid, .gid = initial->root_gid, .comm = "init"};
    struct txn t = {.cmd = &cmd, .rev = 1};
    struct node root;
    int err;

    node_clear(&root, STORE_ROOT_INO);
    node_bind(&root, &t, 0, nothing);
    root.live = true;
    root.mode = 0755;
    root.uid = initial->root_uid;
    root.gid = initial->root_gid;
    root.mtime = root.ctime = initial->time_ns;
    root.create_rev = root.version = 1;
    root.nlink = 2;
    err = node_save(s, &t, &root, STORE_EV_MKDIR, &nothing);
    node_fini(&root);
    return err;
}

static int fill(struct store *s, const struct store_initial *initial)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_TIME_SET);
    int err = settings_initial(&s->conn, initial, &s->st.hash);

    s->st.next_member = 1;
    if (!err)
        err = members_initial(s, initial);
    if (!err)
        err = put_root(s, initial);
    if (err)
        return err;
    s->st.rev = 1;
    s->st.next_ino = 1;
    s->st.time = initial->time_ns;
    bind_i(q, 1, initial->time_ns);
    bind_i(q, 2, 1);
    err = conn_run(&s->conn, q);
    return err ? err : meta_save(s);
}

static int build(struct store *s, const char *path, const struct store_initial *initial)
{
    struct conn *c = &s->conn;
    char id[48];
    int err = conn_open(c, path, CONN_WRITER, true, 1 << 20);

    if (err)
        return err;
    snprintf(id, sizeof id, "PRAGMA application_id = %d", STORE_APPLICATION_ID);
    err = conn_exec(c, "PRAGMA synchronous = FULL");
    if (!err)
        err = conn_exec(c, "BEGIN IMMEDIATE");
    if (!err)
        err = conn_exec(c, id);
    if (!err)
        err = conn_exec(c, store__schema);
    if (!err)
        err = conn_prepare(c, CONN_WRITER);
    if (!err)
        err = put_meta(c, initial);
    if (!err)
        err = fill(s, initial);
    if (!err)
        err = conn_do(c, STMT_COMMIT);
    if (!err)
        err = conn_exec(c, "PRAGMA wal_checkpoint(TRUNCATE)");
    conn_close(c);
    return err;
}

void remove_database(const char *path)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};

    for (int i = 0; i < 4; i++) {
        char *name;

        if (asprintf(&name, "%s%s", path, suffixes[i]) < 0)
            continue; /* what is left is found to be in the way when the file is made */
        (void)unlink(name);
        free(name);
    }
}

int store_create(const char *dir, const struct store_initial *initial, struct buf *why)
{
    struct current cur = {.name = "state-1.db", .epoch = initial->epoch}, old;
    char *path = path_join(dir, cur.name);
    struct store *s = store_new();
    int err = path && s ? current_read(dir, &old, NULL) : QE_NOMEM;

    if (err == 0 || err == QE_CORRUPT)
        err = why_set(why, QE_EXIST, "there is a cluster in \"%s\" already", dir);
    else if (err == QE_NOCLUSTER) {
        remove_database(path);
        err = initial->from ? restore_build(s, path, initial, why) : build(s, path, initial);
        if (err && !initial->from)
            why_set(why, err, "cannot make \"%s\": %s", path, s->conn.msg[0] ? s->conn.msg : qfs_strerror(err));
        if (err)
            remove_database(path);
        else
            err = current_write(dir, &cur, why);
    } else {
        why_set(why, err, "cannot look into \"%s\": %s", dir, qfs_strerror(err));
    }
    if (s)
        store_free(s);
    free(path);
    return err;
}

/* The text of all that decides the initial state, and of the token, which only tells clusters apart. */
static int describe(const struct store_initial *initial, const char *token, struct buf *out)
{
    int err = buf_printf(out, "quorumfs cluster %d\nroot %" PRIu32 " %" PRIu32 " %" PRId64 "\n", STORE_FORMAT, initial->root_uid,
                         initial->root_gid, initial->time_ns);

    for (size_t i = 0; !err && i < initial->n_members; i++)
        err = buf_printf(out, "member %" PRIu32 " %s %d\n", initial->members[i].id, initial->members[i].address,
                         (int)initial->members[i].role);
    if (!err)
        err = settings_describe(initial, out);
    if (!err && initial->from)
        err = restore_describe(initial->from, out);
    return err ? err : buf_printf(out, "token %s\n", token);
}

int store_initial_cluster_id(struct store_initial *initial, const char *token)
{
    struct buf text = {0};
    int err = describe(initial, token, &text);

    if (!err) {
        XXH128_canonical_t id;

        XXH128_canonicalFromHash(&id, XXH3_128bits(text.data, text.len));
        _Static_assert(sizeof id.digest == STORE_CLUSTER_ID_SIZE, "the hash is the id");
        memcpy(initial->cluster_id, id.digest, sizeof id.digest);
    }
    buf_fini(&text);
    return err;
}
