/* Extended attributes in the tree of a transaction: those of the picture, and over them what was changed. */
#include <stdlib.h>
#include <string.h>

#include "fs/control/txn.h"
#include "store/base/clock.h"

static struct txn_xattr *xattr_changed(const struct txn_node *n, const char *name)
{
    struct txn_xattr *x = n ? n->xattrs : NULL;

    while (x && strcmp(x->name, name))
        x = x->next;
    return x;
}

/* Without recording. */
static int xattr_now(struct txn *t, uint64_t ino, const char *name, struct buf *out)
{
    const struct txn_node *n = txn_node_find(t, ino);
    const struct txn_xattr *x = xattr_changed(n, name);

    if (x)
        return x->removed ? QE_NODATA : buf_append(out, x->value.data, x->value.len);
    return n && n->fresh ? QE_NODATA : store_getxattr(t->fs->reader, t->rev, ino, name, strlen(name), out);
}

int txn_getxattr(struct txn *t, uint64_t ino, const char *name, struct buf *out)
{
    const struct txn_node *n = txn_node_find(t, ino);
    int err = n && n->fresh ? 0 : txn_read_inode(t, ino);

    return err ? err : xattr_now(t, ino, name, out);
}

int txn_listxattr(struct txn *t, uint64_t ino, struct buf *out)
{
    struct txn_node *n = txn_node_find(t, ino);
    struct buf base = {0};
    int err = n && n->fresh ? 0 : txn_read_inode(t, ino);

    if (!err && (!n || !n->fresh))
        err = store_listxattr(t->fs->reader, t->rev, ino, &base);
    for (size_t at = 0; !err && at < base.len;) {
        const char *name = (const char *)base.data + at;

        if (!xattr_changed(n, name))
            err = buf_append(out, name, strlen(name) + 1);
        at += strlen(name) + 1;
    }
    for (const struct txn_xattr *x = n ? n->xattrs : NULL; !err && x; x = x->next)
        if (!x->removed)
            err = buf_append(out, x->name, strlen(x->name) + 1);
    buf_fini(&base);
    return err;
}

/* What all but this one take. */
static int xattrs_besides(struct txn *t, uint64_t ino, const char *name, size_t *bytes)
{
    struct buf names = {0}, value = {0};
    int err = txn_listxattr(t, ino, &names);

    *bytes = 0;
    for (size_t at = 0, len; !err && at < names.len; at += len + 1) {
        const char *other = (const char *)names.data + at;

        len = strlen(other);
        buf_clear(&value);
        if (strcmp(other, name)) {
            err = xattr_now(t, ino, other, &value);
            *bytes += len + value.len;
        }
    }
    buf_fini(&names);
    buf_fini(&value);
    return err;
}

/* `old` is what it was: NULL, nothing. */
static int xattr_put(struct txn *t, struct txn_node *n, const char *name, const struct store_bytes *value, const struct buf *old)
{
    struct txn_xattr *x = xattr_changed(n, name);

    if (!x) {
        x = calloc(1, sizeof *x + strlen(name) + 1);
        if (!x)
            return QE_NOMEM;
        strcpy(x->name, name);
        x->there = old != NULL;
        x->old_len = old ? old->len : 0;
        x->next = n->xattrs;
        n->xattrs = x;
        t->n_counted++;
        t->bytes += TXN_OP_COST + strlen(name);
    }
    x->removed = !value;
    t->bytes -= x->value.len;
    buf_clear(&x->value);
    if (!value)
        return 0;
    t->bytes += value->len;
    return buf_append(&x->value, value->data, value->len);
}

int txn_setxattr(struct txn *t, uint64_t ino, const char *name, const struct store_bytes *value, uint32_t flags)
{
    struct buf old = {0};
    struct txn_node *n;
    size_t besides = 0;
    int err = txn_admit(t, TXN_OP_COST + STORE_NAME_MAX + (value ? value->len : 0), 1), there;

    if (!err) {
        err = txn_node_get(t, ino, &n);
        if (err == QE_STALE && n)
            err = 0; /* removed here, but open: nothing of it will be committed */
    }
    if (!err && store_ino_kind(ino) == STORE_SYMLINK)
        err = QE_PERM;
    if (!err && value && value->len > STORE_XATTR_VALUE_MAX)
        err = QE_NOSPC;
    if (err)
        return err;
    there = txn_getxattr(t, ino, name, &old);
    if (there && there != QE_NODATA)
        err = there;
    else if (value && !there && flags == STORE_XATTR_CREATE)
        err = QE_EXIST;
    else if (there && (!value || flags == STORE_XATTR_REPLACE))
        err = QE_NODATA;
    else if (value)
        err = xattrs_besides(t, ino, name, &besides);
    if (!err && value && besides + strlen(name) + value->len > STORE_XATTR_TOTAL_MAX)
        err = QE_NOSPC;
    if (!err) {
        n->attr.ctime_ns = clock_realtime_ns();
        err = xattr_put(t, n, name, value, there ? NULL : &old);
    }
    buf_fini(&old);
    return err;
}
