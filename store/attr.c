/* Attributes and extended attributes of an inode. */
#include <sys/stat.h>

#include "store/internal.h"

void attr_apply(struct node *n, const struct txn *t, const struct store_op *op)
{
    if (op->valid & STORE_ATTR_MODE)
        n->mode = op->mode & 07777;
    if (op->valid & STORE_ATTR_UID)
        n->uid = op->uid;
    if (op->valid & STORE_ATTR_GID)
        n->gid = op->gid;
    if (op->valid & STORE_ATTR_MTIME)
        n->mtime = op->mtime_ns;
    if (op->valid & STORE_ATTR_LEASE)
        n->lease = op->lease;
    if (op->valid & STORE_ATTR_KILLPRIV && store_ino_kind(n->ino) == STORE_FILE) {
        n->mode &= ~(uint32_t)S_ISUID;
        if (n->mode & S_IXGRP) /* without it, sgid means something else on a file */
            n->mode &= ~(uint32_t)S_ISGID;
    }
    n->ctime = t->cmd->time_ns;
}

static int load_live(struct store *s, uint64_t ino, struct node *n)
{
    int err = node_load(s, ino, n);

    if (err == QE_NOENT || (!err && !n->live))
        return QE_STALE;
    return err;
}

static int setattr_on(struct store *s, struct txn *t, const struct store_op *op, struct node *n)
{
    int err = load_live(s, op->ino, n);

    if (err || op->valid == 0)
        return err;
    if (op->valid & STORE_ATTR_MODE && store_ino_kind(op->ino) == STORE_SYMLINK)
        return QE_NOTSUP;
    if (op->valid & STORE_ATTR_LEASE && store_ino_kind(op->ino) != STORE_FILE)
        return QE_INVAL;
    err = lease_check(s, t, op);
    if (err)
        return err;
    attr_apply(n, t, op);
    return node_save(s, t, n, STORE_EV_ATTRIB, NULL);
}

int op_setattr(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    struct node n;
    int err;

    node_clear(&n, op->ino);
    err = setattr_on(s, t, op, &n);
    if (!err)
        *ino = op->ino;
    node_fini(&n);
    return err;
}

/* `value` NULL: remove. */
static int change_xattr(struct store *s, struct txn *t, const struct store_op *op, const struct store_bytes *value, struct node *n)
{
    struct store_bytes none = {"", 0}, old, now;
    int err = load_live(s, op->ino, n);
    bool there;

    if (!err)
        err = xattr_check(op->ino, op->name, value ? *value : none);
    if (err)
        return err;
    now = (struct store_bytes){n->xattr.data, n->xattr.len};
    there = xattr_find(now, op->name, &old);
    if (value && ((op->flags & ~(uint32_t)(STORE_XATTR_CREATE | STORE_XATTR_REPLACE)) || op->flags == (STORE_XATTR_CREATE | STORE_XATTR_REPLACE)))
        return QE_INVAL;
    if (value && there && op->flags == STORE_XATTR_CREATE)
        return QE_EXIST;
    if (!there && (!value || op->flags == STORE_XATTR_REPLACE))
        return QE_NODATA;
    buf_clear(&s->scratch2);
    err = xattr_set(now, op->name, value, &s->scratch2);
    if (!err && value && xattr_bytes((struct store_bytes){s->scratch2.data, s->scratch2.len}) > STORE_XATTR_TOTAL_MAX)
        err = QE_2BIG;
    if (err)
        return err;
    buf_move(&n->xattr, &s->scratch2);
    n->ctime = t->cmd->time_ns;
    err = quota_check(s, node_growth(n));
    return err ? err : node_save(s, t, n, STORE_EV_ATTRIB, NULL);
}

static int xattr_op(struct store *s, struct txn *t, const struct store_op *op, const struct store_bytes *value, uint64_t *ino)
{
    struct node n;
    int err;

    node_clear(&n, op->ino);
    err = change_xattr(s, t, op, value, &n);
    if (!err)
        *ino = op->ino;
    node_fini(&n);
    return err;
}

int op_setxattr(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    return xattr_op(s, t, op, &op->bytes, ino);
}

int op_removexattr(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    return xattr_op(s, t, op, NULL, ino);
}
