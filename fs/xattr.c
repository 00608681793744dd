/* Extended attributes of the live tree: user.* is stored; user.quorum and user.quorum.* are the store's facts about a file. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "fs/commit.h"
#include "fs/ops.h"
#include "fs/pending.h"

#define FACTS "user.quorum"
#define LEASE FACTS ".lease"

bool xattrs_is_fact(const char *name)
{
    return !strncmp(name, FACTS, strlen(FACTS)) && (name[strlen(FACTS)] == 0 || name[strlen(FACTS)] == '.');
}

bool xattrs_is_lease(const char *name)
{
    return !strcmp(name, LEASE);
}

void xattrs_reply(fuse_req_t req, const struct buf *value, size_t size, int err)
{
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else if (size == 0)
        fuse_reply_xattr(req, value->len);
    else if (size < value->len)
        fuse_reply_err(req, ERANGE);
    else
        fuse_reply_buf(req, (const char *)value->data, value->len);
}

/* ---- Facts ---- */

static int fact_writer(struct fs *fs, int64_t at, uint64_t ino, struct buf *out)
{
    struct store_writer w;
    int err = store_writer(fs->reader, at, ino, &w);

    return err ? err : buf_printf(out, "member %u uid %u pid %d %s", w.member, w.uid, (int)w.pid, w.comm[0] ? w.comm : "?");
}

/* Of a file that is attached only. */
static int fact_lease_line(struct fs *fs, const struct store_attr *a, struct buf *out)
{
    struct buf name = {0};
    int err = attach_get(fs, a, &name);

    if (!err)
        err = buf_printf(out, "lease: %s\n", buf_cstr(&name));
    buf_fini(&name);
    return err == QE_NODATA ? 0 : err;
}

/* One fact, or, with fact "", all of them as `name: value` lines. */
static int fact_get(struct fs *fs, int64_t at, uint64_t ino, const char *fact, struct buf *out)
{
    struct store_attr a;
    struct buf writer = {0};
    bool all = *fact == 0;
    int err = store_getattr(fs->reader, at, ino, &a);
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {{"create_revision", a.create_rev}, {"mod_revision", a.mod_rev}, {"version", a.version}};

    if (err)
        return err;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (all)
            buf_printf(out, "%s: %lld\n", numbers[i].name, (long long)numbers[i].value);
        else if (!strcmp(fact + 1, numbers[i].name))
            return buf_printf(out, "%lld", (long long)numbers[i].value);
    }
    if (!all && !strcmp(fact + 1, "lease"))
        return attach_get(fs, &a, out);
    if (!all && strcmp(fact + 1, "writer"))
        return QE_NODATA;
    err = fact_writer(fs, at, ino, &writer);
    if (!err)
        err = all ? buf_printf(out, "writer: %s\n", buf_cstr(&writer)) : buf_append(out, writer.data, writer.len);
    buf_fini(&writer);
    if (!err && all && a.lease)
        err = fact_lease_line(fs, &a, out);
    return err;
}

/* Which names may be kept: 0, or the refusal. */
int xattrs_check(const char *name)
{
    if (xattrs_is_fact(name))
        return QE_PERM;
    if (strncmp(name, "user.", 5) || !name[5])
        return QE_NOTSUP;
    return strlen(name) > STORE_NAME_MAX ? QE_RANGE : 0;
}

/* ---- Operations ---- */

/* Which attributes there can be at all. ENOSYS would switch all xattrs off, and security.capability is asked for before each first write. */
int xattrs_readable(const char *name)
{
    if (!strncmp(name, "security.", 9))
        return QE_NODATA;
    return strncmp(name, "user.", 5) ? QE_NOTSUP : 0;
}

static int xattrs_load(struct fs *fs, int64_t at, uint64_t ino, const char *name, struct buf *value)
{
    if (xattrs_is_fact(name))
        return fact_get(fs, at, ino, name + strlen(FACTS), value);
    return store_getxattr(fs->reader, at, ino, name, strlen(name), value);
}

void xattrs_get_at(fuse_req_t req, int64_t at, uint64_t ino, const char *name, size_t size)
{
    struct buf value = {0};
    int err = xattrs_readable(name);

    if (!err)
        err = xattrs_load(fs_of(req), at, ino, name, &value);
    xattrs_reply(req, &value, size, err);
    buf_fini(&value);
}

void xattrs_list_at(fuse_req_t req, int64_t at, uint64_t ino, size_t size)
{
    struct buf names = {0};
    int err = store_listxattr(fs_of(req)->reader, at, ino, &names);

    xattrs_reply(req, &names, size, err);
    buf_fini(&names);
}

void xattrs_get(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
    struct fs *fs = fs_of(req);
    const struct inode *in = inode_find(fs, node);
    const bool pending = in && inode_pending(fs, in);
    const struct store_xattr *x;
    struct buf value = {0};
    struct store_attr attr;
    int64_t at;
    int err = xattrs_readable(name);

    if (!err && pending && xattrs_is_lease(name)) {
        err = attach_get_pending(fs, in->creation, &value);
    } else if (!err && pending) {
        x = creation_xattr(in->creation, name);
        err = x ? buf_append(&value, x->value.data, x->value.len) : QE_NODATA;
    } else if (!err) {
        err = xattrs_load(fs, STORE_HEAD, inode_ino(fs, node), name, &value);
        if (err == QE_NOENT && (at = content_deleted_at(fs, inode_ino(fs, node), &attr))) /* went since its name was found */
            err = xattrs_load(fs, at, inode_ino(fs, node), name, &value);
    }
    xattrs_reply(req, &value, size, err);
    buf_fini(&value);
}

void xattrs_list(fuse_req_t req, fuse_ino_t node, size_t size)
{
    struct fs *fs = fs_of(req);
    const struct inode *in = inode_find(fs, node);
    struct buf names = {0};
    struct store_attr attr;
    int64_t at;
    int err = 0;

    if (in && inode_pending(fs, in)) {
        for (size_t i = 0; i < in->creation->n_xattrs && !err; i++) {
            err = buf_append(&names, in->creation->xattrs[i].name.data, in->creation->xattrs[i].name.len);
            if (!err)
                err = buf_append(&names, "", 1);
        }
    } else {
        err = store_listxattr(fs->reader, STORE_HEAD, inode_ino(fs, node), &names);
        if (err == QE_NOENT && (at = content_deleted_at(fs, inode_ino(fs, node), &attr)))
            err = store_listxattr(fs->reader, at, inode_ino(fs, node), &names);
    }
    xattrs_reply(req, &names, size, err);
    buf_fini(&names);
}

uint32_t xattrs_flags(int flags)
{
    return (flags & XATTR_CREATE ? STORE_XATTR_CREATE : 0) | (flags & XATTR_REPLACE ? STORE_XATTR_REPLACE : 0);
}

/* A change of an inode that went meanwhile went with it. */
static void xattrs_settle(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    uint64_t *changed = data;

    (void)rev;
    (void)ino;
    if (req)
        fuse_reply_err(req, err == QE_STALE && attr_is_gone(fs, *changed) ? 0 : fs_errno(err));
    free(changed);
}

static void xattrs_submit(fuse_req_t req, const struct inode *in, const struct store_op *op)
{
    struct fs *fs = fs_of(req);
    uint64_t *changed = malloc(sizeof *changed);
    struct store_command cmd = {.ops = op, .n_ops = 1};
    /* Of a file below keys of a lease the kernel tells watchers of another node. */
    struct pending_call call = {.req = req, .settle = xattrs_settle, .data = changed, .injected = in && in->lease};
    int err = changed ? replica_writable(fs->replica) : QE_NOMEM;

    if (err) {
        free(changed);
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    *changed = op->ino;
    pending_submit(fs, &cmd, &call);
}

void xattrs_set(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags)
{
    struct fs *fs = fs_of(req);
    struct inode *in = inode_find(fs, node);
    struct store_op op = {.kind = STORE_OP_SETXATTR, .ino = inode_ino(fs, node), .name = {name, strlen(name)}, .bytes = {value, size}};
    int err = xattrs_check(name);

    op.flags = xattrs_flags(flags);
    if (xattrs_is_lease(name))
        attach_set(req, node, value, size, op.flags);
    else if (!err && in && in->creation && !in->creating)
        fuse_reply_err(req, fs_errno(creation_setxattr(in->creation, name, value, size, (int)op.flags)));
    else if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        xattrs_submit(req, in, &op);
}

void xattrs_remove(fuse_req_t req, fuse_ino_t node, const char *name)
{
    struct fs *fs = fs_of(req);
    struct inode *in = inode_find(fs, node);
    struct store_op op = {.kind = STORE_OP_REMOVEXATTR, .ino = inode_ino(fs, node), .name = {name, strlen(name)}};
    int err = xattrs_check(name);

    if (xattrs_is_lease(name))
        attach_remove(req, node);
    else if (!err && in && in->creation && !in->creating)
        fuse_reply_err(req, fs_errno(creation_removexattr(in->creation, name)));
    else if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        xattrs_submit(req, in, &op);
}
