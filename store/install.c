/* Installing: a copy of another member's database takes the place of this one's.
 *
 *   any thread     the copy arrives under the next name (store_stage_name), is looked over and made this member's (store_stage_verify)
 *   any thread     CURRENT names it, with the index at which it was installed (store_stage_commit): from here on a start takes it
 *   store thread   the writer closes the old database and opens the new one (store_switch); readers follow at their next transaction
 *   store thread   raft has come to that index: the mark goes (store_installed)
 *
 * A crash before CURRENT leaves the old database, after it the new one; what is left of the other is removed or overwritten. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/base/failpoint.h"
#include "store/check.h"

int store_stage_name(const char *dir, char out[STORE_STAGE_NAME_SIZE])
{
    struct current cur;
    unsigned n = 0;
    int err = current_read(dir, &cur, NULL);

    if (err && err != QE_NOCLUSTER)
        return err;
    if (!err && sscanf(cur.name, "state-%u.db", &n) != 1)
        return QE_CORRUPT;
    snprintf(out, STORE_STAGE_NAME_SIZE, "state-%u.db", n + 1);
    return 0;
}

static void remember_damage(void *data, const char *line)
{
    struct buf *first = data;

    if (!first->len && !strncmp(line, "damage: ", 8))
        (void)buf_printf(first, "%s", line + 8);
}

static int compare(const struct store *s, const struct store_copy *expect)
{
    if (memcmp(s->cluster_id, expect->cluster_id, sizeof s->cluster_id) != 0)
        return QE_CORRUPT;
    return s->st.applied == expect->applied && s->st.term == expect->term && s->st.rev == expect->rev && hash_state(&s->st) == expect->hash ?
           0 : QE_CORRUPT;
}

/* A member of an earlier version may have sent it. */
static int convert_file(struct store *s, const char *path)
{
    int err = conn_open(&s->conn, path, CONN_WRITER, false, 1 << 20);

    conn_close(&s->conn);
    return err;
}

static int adopt(struct store *s, const char *path, const struct store_copy *expect, uint64_t epoch)
{
    char sql[80];
    int64_t format;
    int err = conn_open(&s->conn, path, CONN_WRITER, false, 8 << 20);

    if (!err)
        err = conn_prepare(&s->conn, CONN_WRITER);
    if (!err)
        err = meta_load(&s->conn, &s->st, s->cluster_id, &s->epoch, &format);
    if (!err)
        err = compare(s, expect);
    snprintf(sql, sizeof sql, "UPDATE meta SET epoch = %" PRIu64, epoch);
    if (!err)
        err = conn_exec(&s->conn, "PRAGMA synchronous = FULL");
    if (!err)
        err = conn_exec(&s->conn, sql);
    if (!err)
        err = conn_exec(&s->conn, "PRAGMA wal_checkpoint(TRUNCATE)");
    conn_close(&s->conn);
    return err;
}

int store_stage_verify(const char *dir, const char *name, const struct store_copy *expect, uint64_t epoch, struct buf *why)
{
    char *path = path_join(dir, name);
    struct store *s = store_new();
    struct buf damage = {0};
    int fd = -1, err = path && s ? convert_file(s, path) : QE_NOMEM;

    if (!err)
        err = check_database(path, remember_damage, &damage);
    if (!err && FAILPOINT("store.stage.verify"))
        err = QE_CORRUPT;
    if (!err)
        err = adopt(s, path, expect, epoch);
    if (!err) { /* the name, too: CURRENT is about to rely on it */
        fd = open(path, O_RDONLY | O_CLOEXEC);
        err = fd < 0 || fsync(fd) ? QE_IO : dir_sync_of(dir);
    }
    if (fd >= 0)
        close(fd);
    if (err)
        why_set(why, err, "the copy \"%s\" is not what was sent: %s", name,
                damage.len ? buf_cstr(&damage) : s && s->conn.msg[0] ? s->conn.msg : qfs_strerror(err));
    buf_fini(&damage);
    if (s)
        store_free(s);
    free(path);
    return err;
}

int store_stage_commit(const char *dir, const char *name, uint64_t applied, uint64_t epoch, struct buf *why)
{
    struct current cur = {.installed_at = applied, .epoch = epoch};

    snprintf(cur.name, sizeof cur.name, "%s", name);
    return current_write(dir, &cur, why);
}

void store_stage_drop(const char *dir, const char *name)
{
    char *path = path_join(dir, name);

    if (path)
        remove_database(path);
    free(path);
}

/* ---- Switching (store thread) -------------------------------------------------------------------------------------------- */

int store_switch(struct store *s, struct buf *why)
{
    struct current cur;
    char *path, *old;
    int err = current_read(s->dir, &cur, why);

    if (err)
        return err;
    path = path_join(s->dir, cur.name);
    if (!path)
        return why_set(why, QE_NOMEM, "out of memory");
    export_revoke(s);
    conn_close(&s->conn);
    pthread_mutex_lock(&s->where);
    old = s->path;
    s->path = path;
    atomic_fetch_add(&s->generation, 1);
    pthread_mutex_unlock(&s->where);
    s->installed_at = cur.installed_at;
    s->checkpoint_retry = 0;
    err = store_open_database(s, &cur, why);
    if (!err && strcmp(old, path) != 0)
        remove_database(old); /* readers that are in the middle of something have it open */
    free(old);
    if (!err)
        glance_publish(s);
    return err;
}

int store_installed(struct store *s)
{
    struct current cur = {.epoch = s->epoch};
    const char *slash = strrchr(s->path, '/');
    int err;

    if (s->installed_at == 0)
        return 0;
    snprintf(cur.name, sizeof cur.name, "%s", slash ? slash + 1 : s->path);
    err = current_write(s->dir, &cur, NULL);
    if (!err)
        s->installed_at = 0;
    return err;
}
