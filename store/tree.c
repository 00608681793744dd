/* Names: create, mkdir, symlink, unlink, rmdir, rename. Each acts on what is bound when it is applied. */
#include <string.h>

#include "store/compact.h"

/* ---- Checks -------------------------------------------------------------------------------------------------------------- */

int name_check(uint64_t parent, struct store_bytes name)
{
    static const char reserved[] = ".quorum";
    const char *p = name.data;

    if (name.len > STORE_NAME_MAX)
        return QE_NAMETOOLONG;
    if (name.len == 0 || memchr(p, '/', name.len) || memchr(p, 0, name.len))
        return QE_INVAL;
    if (p[0] == '.' && (name.len == 1 || (name.len == 2 && p[1] == '.')))
        return QE_INVAL;
    if (parent == STORE_ROOT_INO && name.len == sizeof reserved - 1 && !memcmp(p, reserved, name.len))
        return QE_PERM;
    return 0;
}

int dir_load(struct store *s, uint64_t ino, struct node *dir)
{
    int err;

    if (store_ino_kind(ino) != STORE_DIR) /* whether the row of a deleted file is still there is local */
        return QE_NOTDIR;
    err = node_load(s, ino, dir);
    return err || dir->live ? err : QE_NOENT;
}

/* 0: the name is free. */
static int name_free(struct store *s, uint64_t parent, struct store_bytes name)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_NODE_BY_NAME);
    bool found;
    int err;

    bind_u(q, 1, parent);
    bind_b(q, 2, name.data, name.len);
    err = conn_row(&s->conn, q, &found);
    if (found)
        conn_reset(q);
    return err ? err : found ? QE_EXIST : 0;
}

static int has_child(struct store *s, uint64_t dir, bool *yes)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_NODE_HAS_CHILD);
    int err;

    bind_u(q, 1, dir);
    err = conn_row(&s->conn, q, yes);
    if (*yes)
        conn_reset(q);
    return err;
}

/* ---- Making -------------------------------------------------------------------------------------------------------------- */

/* A number is taken while a revision that can be read knows it. Of what came to an end before, some members still have rows, others have
 * deleted them already: it must make no difference. */
static int ino_check(struct store *s, uint64_t ino, enum store_kind kind)
{
    struct node was;
    int err;

    if (store_ino_kind(ino) != kind || ino >> 2 == 0 || (int64_t)(ino >> 2) >= s->st.next_ino)
        return QE_INVAL;
    err = node_load(s, ino, &was);
    if (!err && (was.live || rev_of(was.seq) > s->st.compacted))
        err = QE_INVAL;
    else if (!err)
        err = compact_dead(s, ino, was.seq);
    node_fini(&was);
    return err == QE_NOENT ? 0 : err;
}

static enum store_kind kind_made(enum store_op_kind op)
{
    return op == STORE_OP_MKDIR ? STORE_DIR : op == STORE_OP_SYMLINK ? STORE_SYMLINK : STORE_FILE;
}

static int take_xattrs(const struct store_op *op, struct node *n)
{
    for (size_t i = 0; i < op->n_xattrs; i++) {
        struct store_bytes now = {n->xattr.data, n->xattr.len};
        struct buf next = {0};
        int err = xattr_check(n->ino, op->xattrs[i].name, op->xattrs[i].value);

        if (!err)
            err = xattr_set(now, op->xattrs[i].name, &op->xattrs[i].value, &next);
        if (!err && xattr_bytes((struct store_bytes){next.data, next.len}) > STORE_XATTR_TOTAL_MAX)
            err = QE_2BIG;
        if (err) {
            buf_fini(&next);
            return err;
        }
        buf_move(&n->xattr, &next);
    }
    return 0;
}

int node_create(struct store *s, struct txn *t, const struct store_op *op, uint64_t ino, struct node *n)
{
    enum store_kind kind = kind_made(op->kind);
    int err = ino_check(s, ino, kind);

    if (err)
        return err;
    n->ino = ino;
    n->live = true;
    node_bind(n, t, op->parent, op->name);
    n->mode = kind == STORE_SYMLINK ? 0777 : op->mode & 07777;
    n->uid = op->uid;
    n->gid = op->gid;
    n->mtime = n->ctime = t->cmd->time_ns;
    n->create_rev = t->rev;
    n->version = 1;
    n->nlink = kind == STORE_DIR ? 2 : 1;
    return kind == STORE_FILE ? take_xattrs(op, n) : 0;
}

static int make(struct store *s, struct txn *t, const struct store_op *op, struct node *dir, struct node *n)
{
    static const enum store_event_op events[] = {[STORE_FILE] = STORE_EV_PUT, [STORE_DIR] = STORE_EV_MKDIR, [STORE_SYMLINK] = STORE_EV_SYMLINK};
    enum store_kind kind = kind_made(op->kind);
    struct store_bytes content = kind == STORE_SYMLINK ? op->bytes : (struct store_bytes){"", 0};
    int err;

    err = name_check(op->parent, op->name);
    if (!err)
        err = dir_load(s, op->parent, dir);
    if (!err)
        err = name_free(s, op->parent, op->name);
    if (!err && content.len > STORE_TARGET_MAX)
        err = QE_NAMETOOLONG;
    if (!err && kind == STORE_SYMLINK && (content.len == 0 || memchr(content.data, 0, content.len)))
        err = QE_INVAL;
    if (!err)
        err = node_create(s, t, op, op->new_ino, n);
    if (!err)
        err = quota_check(s, node_growth(n) + (int64_t)content.len);
    if (!err)
        err = node_save(s, t, n, events[kind], &content);
    if (!err && kind == STORE_FILE)
        s->changes.list[s->changes.n - 1].made = STORE_MADE_NAME;
    if (!err)
        err = node_touch(s, t, dir, kind == STORE_DIR);
    return err;
}

int op_create(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    struct node dir, n;
    int err;

    node_clear(&dir, 0);
    node_clear(&n, 0);
    err = make(s, t, op, &dir, &n);
    if (!err)
        *ino = op->new_ino;
    node_fini(&dir);
    node_fini(&n);
    return err;
}

/* ---- Removing ------------------------------------------------------------------------------------------------------------ */

/* May `n` go, asked for as a directory or as something else? */
static int removable(struct store *s, const struct node *n, bool as_dir)
{
    bool is_dir = store_ino_kind(n->ino) == STORE_DIR, child = false;
    int err;

    if (as_dir != is_dir)
        return is_dir ? QE_ISDIR : QE_NOTDIR;
    if (!is_dir)
        return 0;
    err = has_child(s, n->ino, &child);
    return err ? err : child ? QE_NOTEMPTY : 0;
}

static int remove_name(struct store *s, struct txn *t, const struct store_op *op, struct node *dir, struct node *n)
{
    bool as_dir = op->kind == STORE_OP_RMDIR;
    int err = name_check(op->parent, op->name);

    if (!err)
        err = dir_load(s, op->parent, dir);
    if (!err)
        err = node_load_name(s, op->parent, op->name, n);
    if (!err)
        err = removable(s, n, as_dir);
    if (!err)
        err = node_delete(s, t, n);
    if (!err)
        err = node_touch(s, t, dir, as_dir ? -1 : 0);
    return err;
}

int op_remove(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    struct node dir, n;
    int err;

    node_clear(&dir, 0);
    node_clear(&n, 0);
    err = remove_name(s, t, op, &dir, &n);
    if (!err)
        *ino = n.ino;
    node_fini(&dir);
    node_fini(&n);
    return err;
}

/* ---- Renaming ------------------------------------------------------------------------------------------------------------ */

struct renaming {
    struct node from, to;      /* the two directories; `to` counts only when they differ */
    struct node source, target; /* what moves; what is there (target.bound) */
    bool same_dir;             /* from is to */
};

/* QE_INVAL when `ino` is `dir` or above it. */
static int loop_check(struct store *s, uint64_t ino, uint64_t dir)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_NODE_NAME);

    while (dir != STORE_ROOT_INO) {
        bool found;
        int err;

        if (dir == ino)
            return QE_INVAL;
        bind_u(q, 1, dir);
        err = conn_row(&s->conn, q, &found);
        if (err)
            return err;
        if (!found)
            return QE_CORRUPT;
        dir = col_u(q, 0);
        conn_reset(q);
        if (dir == 0)
            return QE_CORRUPT;
    }
    return 0;
}

static int rename_load(struct store *s, const struct store_op *op, struct renaming *r)
{
    int err = name_check(op->parent, op->name);

    r->same_dir = op->parent == op->parent2;
    if (!err)
        err = name_check(op->parent2, op->name2);
    if (!err && (op->flags & ~(uint32_t)(STORE_RENAME_NOREPLACE | STORE_RENAME_EXCHANGE) ||
                 op->flags == (STORE_RENAME_NOREPLACE | STORE_RENAME_EXCHANGE)))
        err = QE_INVAL;
    if (!err)
        err = dir_load(s, op->parent, &r->from);
    if (!err && !r->same_dir)
        err = dir_load(s, op->parent2, &r->to);
    if (!err)
        err = node_load_name(s, op->parent, op->name, &r->source);
    if (!err) {
        err = node_load_name(s, op->parent2, op->name2, &r->target);
        if (err == QE_NOENT)
            err = op->flags == STORE_RENAME_EXCHANGE ? QE_NOENT : 0;
    }
    return err;
}

static int rename_check(struct store *s, const struct store_op *op, const struct renaming *r)
{
    bool source_dir = store_ino_kind(r->source.ino) == STORE_DIR;
    int64_t growth = (int64_t)op->name2.len - (int64_t)op->name.len;
    int err = 0;

    if (r->target.bound && op->flags == STORE_RENAME_NOREPLACE)
        return QE_EXIST;
    if (source_dir && !r->same_dir)
        err = loop_check(s, r->source.ino, op->parent2);
    if (err || r->source.ino == r->target.ino)
        return err;
    if (op->flags == STORE_RENAME_EXCHANGE)
        return store_ino_kind(r->target.ino) == STORE_DIR && !r->same_dir ? loop_check(s, r->target.ino, op->parent) : 0;
    if (r->target.bound) {
        err = removable(s, &r->target, source_dir);
        growth -= node_cost(&r->target);
    }
    return err ? err : quota_check(s, growth);
}

static int move(struct store *s, struct txn *t, struct node *n, uint64_t parent, struct store_bytes name)
{
    node_bind(n, t, parent, name);
    n->ctime = t->cmd->time_ns;
    return node_save(s, t, n, STORE_EV_RENAME, NULL);
}

static int rename_write(struct store *s, struct txn *t, const struct store_op *op, struct renaming *r)
{
    bool exchange = op->flags == STORE_RENAME_EXCHANGE;
    int source_dir = store_ino_kind(r->source.ino) == STORE_DIR, target_dir = 0, err = 0;

    if (r->target.bound) {
        target_dir = store_ino_kind(r->target.ino) == STORE_DIR;
        err = exchange ? node_unbind(s, &r->target) : node_delete(s, t, &r->target);
    }
    if (!err)
        err = move(s, t, &r->source, op->parent2, op->name2);
    if (!err && exchange)
        err = move(s, t, &r->target, op->parent, op->name);
    if (!err && r->same_dir)
        return node_touch(s, t, &r->from, exchange ? 0 : -target_dir);
    if (!err)
        err = node_touch(s, t, &r->from, exchange ? target_dir - source_dir : -source_dir);
    if (!err)
        err = node_touch(s, t, &r->to, source_dir - target_dir);
    return err;
}

int op_rename(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    struct renaming r;
    int err;

    node_clear(&r.from, 0);
    node_clear(&r.to, 0);
    node_clear(&r.source, 0);
    node_clear(&r.target, 0);
    err = rename_load(s, op, &r);
    if (!err)
        err = rename_check(s, op, &r);
    if (!err && r.source.ino != r.target.ino) /* a name onto itself: nothing happens */
        err = rename_write(s, t, op, &r);
    if (!err)
        *ino = r.source.ino;
    node_fini(&r.from);
    node_fini(&r.to);
    node_fini(&r.source);
    node_fini(&r.target);
    return err;
}
