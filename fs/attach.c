/* user.quorum.lease: the lease that a file is attached to. Reading it gives the lease's name; setting it attaches, an empty value or removing it
 * detaches. Only files take a lease, and only the lease's owner and root may attach to it, if they may remove the file: else who may only write it could. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/ops.h"
#include "fs/pending.h"
#include "fs/perm.h"

struct attaching { /* waits for the newest state: the lease may have been granted elsewhere */
    fuse_ino_t node;
    uint32_t flags;
    attach_then_cb then;
    char name[STORE_LEASE_NAME_MAX + 1];
};

int attach_get(struct fs *fs, const struct store_attr *a, struct buf *out)
{
    struct store_lease l;
    int err = a->lease ? store_lease_by_id(fs->reader, a->lease, &l) : QE_NODATA;

    if (err) /* of an old revision, the lease has gone since */
        return err == QE_NOENT ? QE_NODATA : err;
    return buf_append(out, l.name, strlen(l.name));
}

int attach_get_pending(struct fs *fs, const struct creation *c, struct buf *out)
{
    const struct store_attr a = {.lease = c->in->lease ? c->in->lease : c->lease};

    return attach_get(fs, &a, out);
}

int attach_check(uint64_t now, uint32_t flags)
{
    if (now && flags & STORE_XATTR_CREATE)
        return QE_EXIST;
    return !now && flags & STORE_XATTR_REPLACE ? QE_NODATA : 0;
}

int attach_allowed(fuse_req_t req, const struct store_attr *dir, const struct store_attr *file)
{
    struct perm who;
    int err = perm_of(req, &who);

    if (!err)
        err = perm_to_remove(&who, dir, file);
    perm_fini(&who);
    return err;
}

/* Of a file that is there, or whose creation is on its way. */
static int check_there(fuse_req_t req, fuse_ino_t node, uint64_t lease, uint32_t flags)
{
    struct fs *fs = fs_of(req);
    const struct inode *in = inode_find(fs, node);
    struct store_attr a, dir;
    int err = attr_of(fs, node, fuse_req_ctx(req)->pid, &a);

    if (!err && in && inode_pending(fs, in))
        a.lease = in->creation->lease;
    if (!err)
        err = attach_check(a.lease, flags);
    if (!err && lease)
        err = store_getattr(fs->reader, STORE_HEAD, a.parent, &dir);
    if (!err && lease)
        err = attach_allowed(req, &dir, &a);
    return err == QE_NOENT ? QE_STALE : err; /* the kernel looks for the name again */
}

/* Attaches to a lease that is there, or to none: 0. A file in the making keeps it for its commit. */
static void attach(fuse_req_t req, fuse_ino_t node, uint64_t lease, uint32_t flags)
{
    struct fs *fs = fs_of(req);
    struct inode *in = inode_find(fs, node);
    struct store_op op = {.kind = STORE_OP_SETATTR, .ino = inode_ino(fs, node), .valid = STORE_ATTR_LEASE, .lease = lease};
    bool pending = in && in->creation && !in->creating;
    int err = pending ? attach_check(in->creation->lease, flags) : check_there(req, node, lease, flags);

    if (!err && pending)
        in->creation->lease = lease;
    if (err || pending)
        fuse_reply_err(req, fs_errno(err));
    else
        pending_submit_op(req, &op);
}

/* 0; QE_NOENT: no such lease; QE_PERM: somebody else's. */
static int find_lease(fuse_req_t req, const char *name, uint64_t *id)
{
    uid_t uid = fuse_req_ctx(req)->uid;
    struct store_lease l;
    int err = store_lease(fs_of(req)->reader, name, &l);

    if (err)
        return err;
    *id = l.id;
    return uid == 0 || uid == l.owner ? 0 : QE_PERM;
}

static void found(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct attaching *a = data;
    uint64_t id = 0;

    (void)fs, (void)rev, (void)ino;
    if (req && !err)
        err = find_lease(req, a->name, &id);
    if (req && err)
        fuse_reply_err(req, fs_errno(err));
    else if (req)
        a->then(req, a->node, id, a->flags);
    free(a);
}

static void find_after_barrier(fuse_req_t req, fuse_ino_t node, const char *name, uint32_t flags, attach_then_cb then)
{
    struct attaching *a = calloc(1, sizeof *a);

    if (!a) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    a->node = node;
    a->flags = flags;
    a->then = then;
    memcpy(a->name, name, strlen(name));
    pending_barrier(fs_of(req), &(struct pending_call){.req = req, .settle = found, .data = a});
}

void attach_find(fuse_req_t req, fuse_ino_t node, const char *value, size_t size, uint32_t flags, attach_then_cb then)
{
    char name[STORE_LEASE_NAME_MAX + 1] = "";
    uint64_t id = 0;
    int err = size && !store_lease_name_ok(value, size) ? QE_INVAL : 0;

    if (!err && size) {
        memcpy(name, value, size);
        err = find_lease(req, name, &id);
    }
    if (err == QE_NOENT && fs_of(req)->shared)
        find_after_barrier(req, node, name, flags, then);
    else if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        then(req, node, id, flags);
}

/* Replies: 0; EINVAL: no file, or no name of a lease; ENOENT: no such lease; ESTALE: it went just now; EPERM: somebody else's;
 * EACCES, EPERM: the file may not be removed; EEXIST, ENODATA. */
void attach_set(fuse_req_t req, fuse_ino_t node, const char *value, size_t size, uint32_t flags)
{
    if (store_ino_kind(inode_ino(fs_of(req), node)) != STORE_FILE)
        fuse_reply_err(req, EINVAL);
    else
        attach_find(req, node, value, size, flags, attach);
}

void attach_remove(fuse_req_t req, fuse_ino_t node)
{
    attach_set(req, node, NULL, 0, STORE_XATTR_REPLACE);
}
