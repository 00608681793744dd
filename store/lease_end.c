/* The end of a lease: the files that are attached go in the revision of the command, each directory is touched once. */
#include <stdio.h>
#include <stdlib.h>

#include "store/lease.h"

struct list { /* of inode numbers */
    uint64_t *inos; /* owned */
    size_t n;
};

/* At most STORE_LEASE_FILES_MAX, ascending. */
static int attached(struct store *s, uint64_t lease, struct list *out)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_LEASE_FILES);
    size_t cap = 0;
    bool found;
    int err;

    bind_u(q, 1, lease);
    bind_i(q, 2, 0);
    bind_i(q, 3, STORE_LEASE_FILES_MAX);
    while (!(err = conn_row(&s->conn, q, &found)) && found) {
        if (out->n == cap) {
            uint64_t *more = realloc(out->inos, (cap ? cap * 2 : 16) * sizeof *more);

            if (!more) {
                conn_reset(q);
                return QE_NOMEM;
            }
            out->inos = more;
            cap = cap ? cap * 2 : 16;
        }
        out->inos[out->n++] = col_u(q, 0);
    }
    return err;
}

/* Deletes them; in their place come their directories. */
static int delete_all(struct store *s, struct txn *t, struct list *list)
{
    int err = 0;

    for (size_t i = 0; !err && i < list->n; i++) {
        struct node n;

        err = node_load(s, list->inos[i], &n);
        if (!err && (!n.live || store_ino_kind(n.ino) != STORE_FILE))
            err = QE_CORRUPT;
        list->inos[i] = n.parent;
        if (!err)
            err = node_delete(s, t, &n);
        node_fini(&n);
    }
    return err == QE_NOENT ? QE_CORRUPT : err;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static int touch_all(struct store *s, struct txn *t, struct list *dirs)
{
    int err = 0;

    qsort(dirs->inos, dirs->n, sizeof *dirs->inos, by_number);
    for (size_t i = 0; !err && i < dirs->n; i++) {
        struct node dir;

        if (i > 0 && dirs->inos[i] == dirs->inos[i - 1])
            continue;
        node_clear(&dir, 0);
        err = dir_load(s, dirs->inos[i], &dir);
        if (!err)
            err = node_touch(s, t, &dir, 0);
        else if (!err_is_fatal(err))
            err = QE_CORRUPT;
        node_fini(&dir);
    }
    return err;
}

static int count_left(struct store *s, uint64_t lease, uint64_t *left)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_LEASE_FILES_COUNT);
    bool found;
    int err;

    bind_u(q, 1, lease);
    err = conn_row(&s->conn, q, &found);
    if (err || !found)
        return err ? err : QE_CORRUPT;
    *left = col_u(q, 0);
    conn_reset(q);
    return 0;
}

int lease_end(struct store *s, struct txn *t, const struct store_lease *l, const char *why, uint64_t *left)
{
    char cause[STORE_CAUSE_MAX + 1];
    struct store_command cmd = *t->cmd;
    struct txn own = *t;
    struct list list = {0};
    int err = attached(s, l->id, &list);

    snprintf(cause, sizeof cause, "%s %s", why, l->name);
    cmd.cause = cause;
    own.cmd = &cmd;
    own.unasked = true;
    if (!err)
        err = delete_all(s, &own, &list);
    if (!err && list.n)
        err = touch_all(s, &own, &list);
    free(list.inos);
    if (!err)
        err = count_left(s, l->id, left);
    if (!err && *left == 0)
        err = lease_put(s, l, NULL);
    t->sub = own.sub;
    t->takes_rev |= own.takes_rev;
    return err;
}
