/* Attributes of the live tree, and statfs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "fs/commit.h"
#include "fs/flock.h"
#include "fs/ops.h"
#include "fs/pending.h"
#include "fs/replay.h"
#include "fs/view.h"
#include "store/base/clock.h"

/* A deleted file that is still open, or a creation that was unlinked. */
static int attr_of_deleted(struct fs *fs, const struct inode *in, struct store_attr *out)
{
    if (!in || !in->kept)
        return QE_NOENT;
    *out = *in->kept;
    out->nlink = replay_will_delete(fs, in->ino) ? 1 : 0;
    for (const struct handle *h = in->handles; h; h = h->next)
        if (h->size > out->size || h->dirty)
            out->size = h->size;
    return 0;
}

int attr_of(struct fs *fs, fuse_ino_t node, pid_t tid, struct store_attr *out)
{
    struct inode *in = inode_find(fs, node);
    const struct handle *h = in && in->handles ? handle_dirty_of(in, tid) : NULL;
    int err;

    if (in && inode_pending(fs, in)) {
        creation_attr(in->creation, h ? h->size : 0, out);
        return 0;
    }
    if (in && in->gone)
        return attr_of_deleted(fs, in, out);
    err = store_getattr(fs->reader, STORE_HEAD, in ? in->ino : node, out);
    if (err == QE_NOENT)
        return attr_of_deleted(fs, in, out);
    if (err)
        return err;
    if (in && in->kept)
        *in->kept = *out;
    if (h)
        out->size = h->size; /* what was written is seen by the session that writes */
    if (in)
        out->size = inode_told_size(in, out->size);
    return 0;
}

static int attr_deleted_lately(struct fs *fs, uint64_t ino, struct store_attr *out)
{
    if (!content_deleted_at(fs, ino, out))
        return QE_NOENT;
    if (replay_will_delete(fs, ino))
        out->nlink = 1;
    return 0;
}

static void attr_reply(fuse_req_t req, fuse_ino_t node, double keep_s)
{
    const struct inode *in = inode_find(fs_of(req), node);
    struct store_attr attr;
    struct stat st;
    double cache_s = in ? inode_cache_s(fs_of(req), in) : 0;
    int err = attr_of(fs_of(req), node, fuse_req_ctx(req)->pid, &attr);

    if (err == QE_NOENT && store_ino_kind(node) != STORE_DIR) /* as on any disk, who has found a name gets its attributes */
        err = attr_deleted_lately(fs_of(req), inode_ino(fs_of(req), node), &attr);
    if (err) {
        /* A name may be bound anew: the kernel looks again. Below a removed directory nothing will be. */
        fuse_reply_err(req, err == QE_NOENT && store_ino_kind(node) != STORE_DIR ? ESTALE : fs_errno(err));
        return;
    }
    view_stat(&attr, attr.ino, &st);
    fuse_reply_attr(req, &st, cache_s > keep_s ? cache_s : keep_s);
}

void attr_get(fuse_req_t req, fuse_ino_t node, double keep_s)
{
    attr_reply(req, node, keep_s);
}

bool attr_is_gone(struct fs *fs, uint64_t ino)
{
    struct store_attr attr;

    return store_getattr(fs->reader, STORE_HEAD, ino, &attr) == QE_NOENT && content_deleted_at(fs, ino, &attr);
}

static void attr_settle(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    uint64_t *node = data;

    (void)rev;
    (void)ino;
    /* An inode that went meanwhile: as on any disk, what was set went with it. */
    if (req && err == QE_STALE && attr_is_gone(fs, inode_ino(fs, *node)))
        err = 0;
    if (req && err)
        fuse_reply_err(req, fs_errno(err));
    else if (req)
        attr_reply(req, *node, 0);
    free(node);
}

/* A time that nanoseconds since 1970 do not reach becomes the nearest one, as on other file systems. */
static int64_t attr_mtime(const struct stat *attr, int valid)
{
    const int64_t s = attr->st_mtim.tv_sec, ns = 1000000000, s_max = INT64_MAX / ns;

    if (valid & FUSE_SET_ATTR_MTIME_NOW)
        return clock_realtime_ns();
    return s >= s_max ? s_max * ns : s < -s_max ? -s_max * ns : s * ns + attr->st_mtim.tv_nsec;
}

void attr_op(uint64_t ino, const struct stat *attr, int valid, struct store_op *op)
{
    *op = (struct store_op){.kind = STORE_OP_SETATTR, .ino = ino};
    if (valid & FUSE_SET_ATTR_MODE) {
        op->valid |= STORE_ATTR_MODE;
        op->mode = attr->st_mode & 07777;
    }
    if (valid & FUSE_SET_ATTR_UID) {
        op->valid |= STORE_ATTR_UID;
        op->uid = attr->st_uid;
    }
    if (valid & FUSE_SET_ATTR_GID) {
        op->valid |= STORE_ATTR_GID;
        op->gid = attr->st_gid;
    }
    if (valid & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) {
        op->valid |= STORE_ATTR_MTIME;
        op->mtime_ns = attr_mtime(attr, valid);
    }
    if ((valid & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) && !(valid & FUSE_SET_ATTR_MODE))
        op->valid |= STORE_ATTR_KILLPRIV; /* chown takes suid and sgid away */
}

/* Attributes of a file that is not committed yet are only kept: they are part of its creation. */
static void attr_set_creation(struct creation *c, const struct store_op *op)
{
    if (op->valid & STORE_ATTR_MODE)
        c->mode = op->mode;
    if (op->valid & STORE_ATTR_KILLPRIV)
        c->mode &= ~(uint32_t)(S_ISUID | (c->mode & S_IXGRP ? S_ISGID : 0));
    if (op->valid & STORE_ATTR_UID)
        c->uid = op->uid;
    if (op->valid & STORE_ATTR_GID)
        c->gid = op->gid;
    if (op->valid & STORE_ATTR_MTIME) {
        c->has_mtime = true;
        c->mtime_ns = op->mtime_ns;
    }
}

/* Attributes of a file that is deleted but open: nobody else sees them. */
static void attr_set_deleted(struct store_attr *kept, const struct store_op *op)
{
    if (op->valid & STORE_ATTR_MODE)
        kept->mode = (kept->mode & S_IFMT) | op->mode;
    if (op->valid & STORE_ATTR_UID)
        kept->uid = op->uid;
    if (op->valid & STORE_ATTR_GID)
        kept->gid = op->gid;
    if (op->valid & STORE_ATTR_MTIME)
        kept->mtime_ns = op->mtime_ns;
}

static bool attr_is_deleted(struct fs *fs, const struct inode *in)
{
    struct store_attr attr;

    return in && in->kept && (in->gone || (in->handles && store_getattr(fs->reader, STORE_HEAD, in->ino, &attr) == QE_NOENT));
}

/* Attributes of an inode of the store, with a truncation by path: one command, at once. */
static void attr_set_live(fuse_req_t req, fuse_ino_t node, const struct store_op *set, int64_t truncate_to)
{
    struct fs *fs = fs_of(req);
    struct store_edit edit = {.kind = STORE_EDIT_TRUNCATE, .off = (uint64_t)truncate_to};
    struct store_op ops[2];
    struct store_command cmd = {.ops = ops};
    uint64_t *data = malloc(sizeof *data);
    struct pending_call call = {.req = req, .settle = attr_settle, .data = data};
    int err = data ? replica_writable(fs->replica) : QE_NOMEM;

    if (err) {
        free(data);
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    *data = node;
    call.injected = inode_find(fs, node) && inode_find(fs, node)->lease; /* the kernel tells watchers of another node */
    if (set->ino != node) { /* a creation that was led to another inode: the kernel may have both */
        call.changed[0] = node;
        call.changed[1] = set->ino;
    }
    if (truncate_to >= 0)
        ops[cmd.n_ops++] = (struct store_op){.kind = STORE_OP_COMMIT, .ino = set->ino, .edits = &edit, .n_edits = 1,
                                             .valid = fuse_req_ctx(req)->uid ? STORE_ATTR_KILLPRIV : 0};
    if (set->valid)
        ops[cmd.n_ops++] = *set;
    pending_submit(fs, &cmd, &call);
}

void attr_set(fuse_req_t req, fuse_ino_t node, struct stat *attr, int valid, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    struct inode *in = inode_find(fs, node);
    struct handle *h = fi ? (struct handle *)(uintptr_t)fi->fh : NULL;
    int64_t truncate_to = -1;
    struct store_op op;
    int err = 0;

    attr_op(in ? in->ino : node, attr, valid, &op);
    if (!h && in && in->handles)
        h = handle_dirty_of(in, fuse_req_ctx(req)->pid);
    if (valid & FUSE_SET_ATTR_SIZE) {
        if (fi && flock_lost(h))
            err = QE_STALE;
        else if (fi || (in && (inode_pending(fs, in) || in->gone)))
            err = h ? handle_truncate(h, attr->st_size) : QE_NOENT;
        else
            truncate_to = attr->st_size;
    }
    if (!err && h && h->dirty && (op.valid & STORE_ATTR_MTIME)) { /* the coming content commit keeps an explicit mtime */
        h->has_mtime = true;
        h->mtime_ns = op.mtime_ns;
    }
    if (err) {
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    for (struct handle *o = in && (op.valid & STORE_ATTR_MODE) ? in->handles : NULL; o; o = o->next)
        o->kills_priv = false; /* what was written before this chmod does not undo it */
    if (in && in->creation && !in->creating) {
        attr_set_creation(in->creation, &op);
        op.valid = 0;
    } else if (attr_is_deleted(fs, in)) {
        attr_set_deleted(in->kept, &op);
        op.valid = 0;
        truncate_to = -1;
    }
    if ((in && in->gone) || (op.valid == 0 && truncate_to < 0))
        attr_reply(req, node, 0);
    else
        attr_set_live(req, node, &op, truncate_to);
}

void attr_statfs(fuse_req_t req)
{
    enum { BLOCK = 4096 };
    struct store_glance g;
    struct statvfs s = {.f_bsize = BLOCK, .f_frsize = BLOCK, .f_namemax = STORE_NAME_MAX};
    const uint64_t files_max = UINT64_C(1) << 31;
    int64_t used, free_bytes;

    replica_glance(fs_of(req)->replica, &g);
    used = g.n_files + g.n_dirs + g.n_symlinks;
    free_bytes = g.live_bytes < g.quota ? g.quota - g.live_bytes : 0;
    s.f_blocks = (fsblkcnt_t)(g.quota / BLOCK);
    s.f_bfree = s.f_bavail = (fsblkcnt_t)(free_bytes / BLOCK);
    s.f_files = files_max;
    s.f_ffree = s.f_favail = files_max - (uint64_t)used;
    fuse_reply_statfs(req, &s);
}
