/* The tree of a transaction: the picture of the revision at which it began, and over it what was changed.
 *
 * A directory's `entries` say what differs from the picture; a node's attributes, edits and xattrs replace those of the picture. Each
 * change is noted as an operation as well, so that committing does the same things in the same order; contents and attributes are
 * folded into one operation for each file. Whatever a change or a read is based on is recorded. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/control/txn.h"
#include "fs/ops.h"
#include "store/base/clock.h"

/* ---- What was read ------------------------------------------------------------------------------------------------------------- */

static int record(struct txn *t, enum store_condition_kind kind, uint64_t at, const char *name, uint64_t ino)
{
    size_t name_len = name ? strlen(name) : 0, len = 1 + sizeof at + name_len;
    uint8_t key[1 + sizeof at + STORE_NAME_MAX];
    struct txn_read *r;

    if (t->state != TXN_OPEN) /* it is being committed already: that goes by what was read before */
        return 0;
    key[0] = (uint8_t)kind;
    memcpy(key + 1, &at, sizeof at);
    if (name_len)
        memcpy(key + 1 + sizeof at, name, name_len);
    HASH_FIND(hh, t->reads, key, (unsigned)len, r);
    if (r)
        return 0;
    if (HASH_COUNT(t->reads) >= TXN_READS_MAX || !txn_has_room(t, TXN_READ_COST))
        return QE_2BIG;
    r = calloc(1, sizeof *r + len);
    if (!r)
        return QE_NOMEM;
    r->kind = kind;
    r->ino = ino;
    r->parent = at;
    r->name_len = name_len;
    memcpy(r->key, key, len);
    HASH_ADD_KEYPTR(hh, t->reads, r->key, (unsigned)len, r);
    return 0;
}

int txn_read_inode(struct txn *t, uint64_t ino)
{
    return record(t, STORE_IF_UNCHANGED, ino, NULL, ino);
}

int txn_read_list(struct txn *t, uint64_t dir)
{
    const struct txn_node *n = txn_node_find(t, dir);

    return n && n->fresh ? 0 : record(t, STORE_IF_LIST, dir, NULL, dir);
}

/* ---- Nodes --------------------------------------------------------------------------------------------------------------------- */

struct txn_node *txn_node_find(struct txn *t, uint64_t ino)
{
    struct txn_node *n;

    HASH_FIND(hh, t->nodes, &ino, sizeof ino, n);
    return n;
}

int txn_node_get(struct txn *t, uint64_t ino, struct txn_node **out)
{
    struct txn_node *n = txn_node_find(t, ino);
    int err;

    *out = n;
    if (n)
        return n->dead ? QE_STALE : 0;
    n = calloc(1, sizeof *n);
    if (!n)
        return QE_NOMEM;
    err = store_getattr(t->fs->reader, t->rev, ino, &n->attr);
    if (err) {
        free(n);
        return err;
    }
    n->ino = ino;
    n->attr.nlink = 1;
    HASH_ADD(hh, t->nodes, ino, sizeof n->ino, n);
    *out = n;
    return 0;
}

static void node_free(struct txn_node *n)
{
    struct txn_entry *e, *tmp;

    HASH_ITER(hh, n->entries, e, tmp) {
        HASH_DEL(n->entries, e);
        free(e);
    }
    while (n->xattrs) {
        struct txn_xattr *x = n->xattrs;

        n->xattrs = x->next;
        buf_fini(&x->value);
        free(x);
    }
    edits_fini(&n->edits);
    buf_fini(&n->view);
    free(n);
}

void txn_tree_free(struct txn *t)
{
    struct txn_node *n, *n_tmp;
    struct txn_read *r, *r_tmp;

    HASH_ITER(hh, t->nodes, n, n_tmp) {
        HASH_DEL(t->nodes, n);
        node_free(n);
    }
    HASH_ITER(hh, t->reads, r, r_tmp) {
        HASH_DEL(t->reads, r);
        free(r);
    }
    for (size_t i = 0; i < t->n_ops; i++) {
        free(t->ops[i].name);
        free(t->ops[i].name2);
    }
    free(t->ops);
    t->ops = NULL;
    t->n_ops = t->cap_ops = t->bytes = t->view_bytes = 0;
}

/* ---- Looking ------------------------------------------------------------------------------------------------------------------- */

static struct txn_entry *entry_find(struct txn_node *dir, const char *name)
{
    struct txn_entry *e = NULL;

    if (dir)
        HASH_FIND_STR(dir->entries, name, e);
    return e;
}

int txn_lookup(struct txn *t, uint64_t parent, const char *name, uint64_t *ino)
{
    struct txn_node *dir = txn_node_find(t, parent);
    const struct txn_entry *e = entry_find(dir, name);
    struct store_attr a;
    int err, found;

    if (strlen(name) > STORE_NAME_MAX)
        return QE_NAMETOOLONG;
    if (dir && dir->dead)
        return QE_NOENT;
    if (e) {
        *ino = e->ino;
        return e->ino ? 0 : QE_NOENT;
    }
    if (dir && dir->fresh)
        return QE_NOENT;
    found = store_lookup(t->fs->reader, t->rev, parent, name, strlen(name), &a);
    if (found && found != QE_NOENT)
        return found;
    err = record(t, STORE_IF_BOUND, parent, name, found ? 0 : a.ino);
    if (!err && !found)
        *ino = a.ino;
    return err ? err : found;
}

int txn_attr_unread(struct txn *t, uint64_t ino, struct store_attr *out)
{
    const struct txn_node *n = txn_node_find(t, ino);
    int err = 0;

    if (n)
        *out = n->attr;
    else
        err = store_getattr(t->fs->reader, t->rev, ino, out);
    if (!n)
        out->nlink = 1;
    if (!err && n && n->dead)
        out->nlink = 0;
    return err;
}

int txn_attr(struct txn *t, uint64_t ino, struct store_attr *out)
{
    const struct txn_node *n = txn_node_find(t, ino);
    int err = txn_attr_unread(t, ino, out);

    return err || (n && n->fresh) ? err : txn_read_inode(t, ino);
}

/* The content of the picture with the edits applied; without recording. */
static int content_now(struct txn *t, uint64_t ino, struct txn_node *n, struct buf *out)
{
    int err = 0;

    if (n && n->has_view)
        return buf_append(out, n->view.data, n->view.len);
    if (!n || !n->fresh)
        err = store_content(t->fs->reader, t->rev, ino, out, NULL);
    return err || !n ? err : edits_apply(&n->edits, out);
}

int txn_content(struct txn *t, uint64_t ino, struct buf *out)
{
    struct txn_node *n = txn_node_find(t, ino);
    int err = n && n->fresh ? 0 : txn_read_inode(t, ino);

    return err ? err : content_now(t, ino, n, out);
}

/* What the contents cost that writers read; those of fresh symlinks are counted as well. */
static void view_count(struct txn *t, struct txn_node *n)
{
    t->view_bytes += n->view.cap - n->view_counted;
    n->view_counted = n->view.cap;
}

static bool view_has_room(const struct txn *t, const struct txn_node *n, size_t len)
{
    return len <= n->view.cap || (t->view_bytes + (len - n->view.cap) <= TXN_BYTES_MAX && txn_has_room(t, len - n->view.cap));
}

int txn_bytes_of(struct txn *t, uint64_t ino, const struct buf **out)
{
    struct txn_node *n;
    struct buf content = {0};
    int err = txn_node_get(t, ino, &n);

    if (err == QE_STALE && n)
        err = 0; /* removed here, but open */
    if (!err && !n->fresh)
        err = txn_read_inode(t, ino);
    if (!err && !n->has_view) {
        err = content_now(t, ino, n, &content);
        if (!err && (t->view_bytes + content.cap > TXN_BYTES_MAX || !txn_has_room(t, content.cap)))
            err = QE_NOMEM;
        if (!err) {
            buf_move(&n->view, &content);
            n->has_view = true;
            view_count(t, n);
        }
        buf_fini(&content);
    }
    *out = err ? NULL : &n->view;
    return err;
}

/* ---- Operations ---------------------------------------------------------------------------------------------------------------- */

int txn_admit(const struct txn *t, size_t bytes, size_t ops)
{
    if (t->state != TXN_OPEN)
        return QE_PERM;
    if (t->spoiled)
        return t->spoiled;
    return t->n_counted + ops > TXN_OPS_MAX || t->bytes + bytes > TXN_BYTES_MAX || !txn_has_room(t, bytes) ? QE_2BIG : 0;
}

/* The second half of a change could not be done: what the view shows and what would be committed are no longer the same. */
static int half_done(struct txn *t, int err)
{
    if (err)
        t->spoiled = err;
    return err;
}

static int add_op(struct txn *t, const struct txn_op *op, const char *name, const char *name2)
{
    struct txn_op *to;

    if (t->n_ops == t->cap_ops) {
        size_t cap = t->cap_ops ? t->cap_ops * 2 : 64;
        struct txn_op *ops = realloc(t->ops, cap * sizeof *ops);

        if (!ops)
            return QE_NOMEM;
        t->ops = ops;
        t->cap_ops = cap;
    }
    to = &t->ops[t->n_ops];
    *to = *op;
    to->name = name ? strdup(name) : NULL;
    to->name2 = name2 ? strdup(name2) : NULL;
    if ((name && !to->name) || (name2 && !to->name2)) {
        free(to->name);
        free(to->name2);
        return QE_NOMEM;
    }
    t->n_ops++;
    t->n_counted++;
    t->bytes += TXN_OP_COST + (name ? strlen(name) : 0) + (name2 ? strlen(name2) : 0);
    return 0;
}

/* `name` in `dir` is `ino` from now on. */
static int entry_set(struct txn_node *dir, const char *name, uint64_t ino)
{
    struct txn_entry *e = entry_find(dir, name);

    if (!e) {
        e = calloc(1, sizeof *e + strlen(name) + 1);
        if (!e)
            return QE_NOMEM;
        strcpy(e->name, name);
        HASH_ADD_STR(dir->entries, name, e);
    }
    e->ino = ino;
    dir->attr.mtime_ns = dir->attr.ctime_ns = clock_realtime_ns();
    return 0;
}

static int dir_get(struct txn *t, uint64_t ino, struct txn_node **out)
{
    int err = txn_node_get(t, ino, out);

    if (err == QE_STALE && *out)
        return QE_NOENT; /* it was removed here */
    return !err && store_ino_kind(ino) != STORE_DIR ? QE_NOTDIR : err;
}

/* The new node, in the table but in no directory yet. */
static int node_make(struct txn *t, uint64_t parent, const struct txn_make *m, struct txn_node **out)
{
    static const enum store_kind kinds[] = {[STORE_OP_CREATE] = STORE_FILE, [STORE_OP_MKDIR] = STORE_DIR, [STORE_OP_SYMLINK] = STORE_SYMLINK};
    static const uint32_t types[] = {[STORE_FILE] = S_IFREG, [STORE_DIR] = S_IFDIR, [STORE_SYMLINK] = S_IFLNK};
    enum store_kind kind = kinds[m->kind];
    struct txn_node *n = calloc(1, sizeof *n);

    if (!n)
        return QE_NOMEM;
    n->ino = replica_new_ino(t->fs->replica, kind);
    if (!n->ino || (m->target && buf_append(&n->view, m->target, strlen(m->target)))) {
        int err = n->ino ? QE_NOMEM : QE_TIMEDOUT;

        free(n);
        return err;
    }
    n->fresh = n->content_op = true;
    n->has_view = kind == STORE_SYMLINK;
    n->attr = (struct store_attr){.ino = n->ino, .parent = parent, .mode = (m->mode & 07777) | types[kind], .uid = m->uid, .gid = m->gid,
                                  .nlink = 1, .size = (int64_t)n->view.len, .version = 1};
    n->attr.mtime_ns = n->attr.ctime_ns = clock_realtime_ns();
    HASH_ADD(hh, t->nodes, ino, sizeof n->ino, n);
    *out = n;
    return 0;
}

int txn_make(struct txn *t, uint64_t parent, const char *name, const struct txn_make *m, uint64_t *ino)
{
    struct txn_node *dir, *n;
    uint64_t there;
    int err = txn_admit(t, strlen(name) + TXN_OP_COST + (m->target ? strlen(m->target) : 0), 1);

    if (!err)
        err = name_refused(parent, name);
    if (!err)
        err = dir_get(t, parent, &dir);
    if (!err) {
        err = txn_lookup(t, parent, name, &there);
        err = err == QE_NOENT ? 0 : err ? err : QE_EXIST;
    }
    if (!err)
        err = node_make(t, parent, m, &n);
    if (err)
        return err;
    err = add_op(t, &(struct txn_op){.kind = m->kind, .ino = n->ino, .parent = parent}, name, NULL);
    if (!err)
        err = entry_set(dir, name, n->ino);
    if (err)
        return half_done(t, err);
    t->bytes += (size_t)n->attr.size;
    *ino = n->ino;
    return 0;
}

/* Whether a directory has an entry in the view. */
struct emptiness {
    struct txn_node *dir;
    bool found;
};

static bool one_entry(void *data, const void *name, size_t len, uint64_t ino)
{
    struct emptiness *e = data;
    char text[STORE_NAME_MAX + 1];

    (void)ino;
    memcpy(text, name, len);
    text[len] = 0;
    e->found = !entry_find(e->dir, text); /* what was changed has been looked at */
    return !e->found;
}

static int dir_is_empty(struct txn *t, uint64_t ino, bool *empty)
{
    struct emptiness e = {.dir = txn_node_find(t, ino)};
    struct txn_entry *entry, *tmp;
    int err = 0;

    if (e.dir)
        HASH_ITER(hh, e.dir->entries, entry, tmp)
            e.found = e.found || entry->ino;
    if (!e.found && (!e.dir || !e.dir->fresh)) {
        err = store_list(t->fs->reader, t->rev, ino, NULL, 0, one_entry, &e);
        if (!err && e.found) /* whoever is told so has read the list */
            err = txn_read_list(t, ino);
    }
    *empty = !e.found;
    return err;
}

/* May it go, as a directory or as something else? The store asks again. */
static int removable(struct txn *t, uint64_t ino, bool as_dir)
{
    bool is_dir = store_ino_kind(ino) == STORE_DIR, empty = true;
    int err = 0;

    if (is_dir != as_dir)
        return is_dir ? QE_ISDIR : QE_NOTDIR;
    if (is_dir)
        err = dir_is_empty(t, ino, &empty);
    return err ? err : empty ? 0 : QE_NOTEMPTY;
}

static int node_kill(struct txn *t, uint64_t ino)
{
    struct txn_node *n;
    int err = txn_node_get(t, ino, &n);

    if (!err)
        n->dead = true;
    return err;
}

/* Who may take a name out of a sticky directory depends on the owner of what it names: the kernel has looked at it. */
static int read_owner(struct txn *t, const struct txn_node *dir, uint64_t ino)
{
    const struct txn_node *n = txn_node_find(t, ino);

    return dir->attr.mode & S_ISVTX && !(n && n->fresh) ? txn_read_inode(t, ino) : 0;
}

int txn_remove(struct txn *t, uint64_t parent, const char *name, bool dir)
{
    struct txn_node *d;
    uint64_t ino;
    int err = txn_admit(t, strlen(name) + TXN_OP_COST, 1);

    if (!err)
        err = dir_get(t, parent, &d);
    if (!err)
        err = txn_lookup(t, parent, name, &ino);
    if (!err)
        err = read_owner(t, d, ino);
    if (!err)
        err = removable(t, ino, dir);
    if (err)
        return err;
    err = node_kill(t, ino);
    if (!err)
        err = entry_set(d, name, 0);
    if (!err)
        err = add_op(t, &(struct txn_op){.kind = dir ? STORE_OP_RMDIR : STORE_OP_UNLINK, .ino = ino, .parent = parent}, name, NULL);
    return half_done(t, err);
}

static int moved(struct txn *t, uint64_t ino, struct txn_node *to, const char *name)
{
    struct txn_node *n;
    int err = txn_node_get(t, ino, &n);

    if (err)
        return err;
    n->attr.parent = to->ino;
    n->attr.ctime_ns = clock_realtime_ns();
    return entry_set(to, name, ino);
}

static int rename_write(struct txn *t, const struct txn_op *op, uint64_t target, const char *name, const char *name2)
{
    bool exchange = op->flags == STORE_RENAME_EXCHANGE;
    struct txn_node *from = txn_node_find(t, op->parent), *to = txn_node_find(t, op->parent2);
    int err = target && !exchange ? removable(t, target, store_ino_kind(op->ino) == STORE_DIR) : 0;

    if (err)
        return err;
    if (target && !exchange)
        err = node_kill(t, target);
    if (!err)
        err = moved(t, op->ino, to, name2);
    if (!err)
        err = exchange ? moved(t, target, from, name) : entry_set(from, name, 0);
    if (!err)
        err = add_op(t, op, name, name2);
    return half_done(t, err);
}

int txn_rename(struct txn *t, uint64_t parent, const char *name, uint64_t parent2, const char *name2, uint32_t flags)
{
    struct txn_node *from, *to;
    uint64_t ino, target = 0;
    int err = txn_admit(t, strlen(name) + strlen(name2) + TXN_OP_COST, 1);

    if (!err)
        err = name_refused(parent2, name2);
    if (!err)
        err = dir_get(t, parent, &from);
    if (!err)
        err = dir_get(t, parent2, &to);
    if (!err)
        err = txn_lookup(t, parent, name, &ino);
    if (!err)
        err = read_owner(t, from, ino);
    if (err)
        return err;
    err = txn_lookup(t, parent2, name2, &target);
    if (err && (err != QE_NOENT || flags == STORE_RENAME_EXCHANGE))
        return err;
    if (err)
        target = 0;
    if (target && flags == STORE_RENAME_NOREPLACE)
        return QE_EXIST;
    if (target == ino)
        return 0;
    err = target ? read_owner(t, to, target) : 0;
    if (err)
        return err;
    return rename_write(t, &(struct txn_op){.kind = STORE_OP_RENAME, .ino = ino, .parent = parent, .parent2 = parent2, .flags = flags}, target,
                        name, name2);
}

/* ---- Contents ------------------------------------------------------------------------------------------------------------------ */

/* Before a content is changed. The node may be removed already, and open: then nothing of it will be committed. */
static int content_get(struct txn *t, uint64_t ino, size_t bytes, struct txn_node **out)
{
    const struct txn_node *n = txn_node_find(t, ino);
    int err = txn_admit(t, bytes, n && n->content_op ? 0 : 1);

    if (!err) {
        err = txn_node_get(t, ino, out);
        if (err == QE_STALE && *out)
            err = 0;
    }
    if (!err && store_ino_kind(ino) != STORE_FILE)
        err = store_ino_kind(ino) == STORE_DIR ? QE_ISDIR : QE_INVAL;
    if (!err && !(*out)->content_op) {
        err = add_op(t, &(struct txn_op){.kind = STORE_OP_COMMIT, .ino = ino}, NULL, NULL);
        (*out)->content_op = !err;
    }
    return err;
}

static void content_changed(struct txn *t, struct txn_node *n, size_t cost_before, bool kills_priv)
{
    t->bytes += edits_cost(&n->edits) - cost_before;
    view_count(t, n);
    n->attr.mtime_ns = n->attr.ctime_ns = clock_realtime_ns();
    n->valid &= ~(uint32_t)STORE_ATTR_MTIME;
    if (kills_priv) {
        n->valid |= STORE_ATTR_KILLPRIV;
        n->attr.mode &= ~(uint32_t)(S_ISUID | (n->attr.mode & S_IXGRP ? S_ISGID : 0));
    }
}

int txn_write(struct txn *t, uint64_t ino, const void *data, size_t size, off_t off, bool append, bool kills_priv)
{
    struct store_glance g;
    struct txn_node *n;
    size_t before;
    int64_t end;
    int err = content_get(t, ino, size, &n);

    if (err)
        return err;
    replica_glance(t->fs->replica, &g);
    if (append)
        off = n->attr.size;
    end = off + (int64_t)size;
    if (end > g.max_value && end > n->attr.size)
        return QE_FBIG;
    before = edits_cost(&n->edits);
    err = append && !n->fresh ? edits_append(&n->edits, data, size) : edits_write(&n->edits, (uint64_t)off, data, size);
    if (err)
        return err;
    if (n->has_view && (!view_has_room(t, n, (size_t)end) || buf_write_at(&n->view, (size_t)off, data, size))) {
        buf_fini(&n->view); /* made again when it is read */
        n->has_view = false;
    }
    if (end > n->attr.size)
        n->attr.size = end;
    content_changed(t, n, before, kills_priv);
    return 0;
}

int txn_truncate(struct txn *t, uint64_t ino, int64_t size, bool kills_priv)
{
    struct store_glance g;
    struct txn_node *n;
    size_t before;
    int err = content_get(t, ino, 0, &n);

    if (err)
        return err;
    replica_glance(t->fs->replica, &g);
    if (size > g.max_value && size > n->attr.size)
        return QE_FBIG;
    before = edits_cost(&n->edits);
    err = edits_truncate(&n->edits, (uint64_t)size);
    if (err)
        return err;
    if (n->has_view && (!view_has_room(t, n, (size_t)size) || buf_resize(&n->view, (size_t)size))) {
        buf_fini(&n->view);
        n->has_view = false;
    }
    n->attr.size = size;
    content_changed(t, n, before, kills_priv);
    return 0;
}

/* ---- Attributes ---------------------------------------------------------------------------------------------------------------- */

/* Attributes of what is not a fresh inode, or of a directory's times, become an operation of their own at the end. */
static int attr_get_node(struct txn *t, uint64_t ino, struct txn_node **out)
{
    const struct txn_node *n = txn_node_find(t, ino);
    int err = txn_admit(t, TXN_OP_COST, n && n->attr_op ? 0 : 1);

    if (!err) {
        err = txn_node_get(t, ino, out);
        if (err == QE_STALE && *out)
            err = 0; /* removed here, but open: nothing of it will be committed */
    }
    if (!err && !(*out)->attr_op) {
        (*out)->attr_op = true;
        t->n_counted++;
        t->bytes += TXN_OP_COST;
    }
    return err;
}

int txn_setattr(struct txn *t, const struct store_op *set)
{
    struct txn_node *n;
    int err = attr_get_node(t, set->ino, &n);

    if (err)
        return err;
    if (set->valid & STORE_ATTR_MODE && store_ino_kind(set->ino) == STORE_SYMLINK)
        return QE_NOTSUP;
    if (set->valid & STORE_ATTR_MODE) {
        n->attr.mode = (n->attr.mode & S_IFMT) | set->mode;
        n->valid &= ~(uint32_t)STORE_ATTR_KILLPRIV; /* what was written before does not undo it */
    }
    if (set->valid & STORE_ATTR_UID)
        n->attr.uid = set->uid;
    if (set->valid & STORE_ATTR_GID)
        n->attr.gid = set->gid;
    if (set->valid & STORE_ATTR_MTIME)
        n->attr.mtime_ns = set->mtime_ns;
    if (set->valid & STORE_ATTR_LEASE)
        n->attr.lease = set->lease;
    if (set->valid & STORE_ATTR_KILLPRIV && store_ino_kind(set->ino) == STORE_FILE)
        n->attr.mode &= ~(uint32_t)(S_ISUID | (n->attr.mode & S_IXGRP ? S_ISGID : 0));
    n->attr.ctime_ns = clock_realtime_ns();
    n->valid |= set->valid;
    return 0;
}

void txn_drop_view(struct txn *t, uint64_t ino)
{
    struct txn_node *n = txn_node_find(t, ino);

    if (!n || store_ino_kind(ino) != STORE_FILE)
        return;
    buf_fini(&n->view);
    n->has_view = false;
    view_count(t, n);
}
