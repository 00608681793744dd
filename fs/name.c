/* Names of the live tree: looked up in the store, changed by commands. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/commit.h"
#include "fs/control/control.h"
#include "fs/ops.h"
#include "fs/pending.h"
#include "fs/proc.h"
#include "fs/view.h"

int name_refused(fuse_ino_t parent, const char *name)
{
    if (strlen(name) > STORE_NAME_MAX)
        return QE_NAMETOOLONG;
    if (parent == STORE_ROOT_INO && !strcmp(name, ".quorum"))
        return QE_PERM;
    return 0;
}

int name_entry(struct fs *fs, const struct store_attr *attr, struct fuse_entry_param *e)
{
    struct inode *in = inode_add(fs, attr->ino);

    if (!in)
        return QE_NOMEM;
    inode_remember(in);
    memset(e, 0, sizeof *e);
    e->entry_timeout = e->attr_timeout = inode_cache_s(fs, in);
    e->ino = in->node;
    view_stat(attr, attr->ino, &e->attr);
    e->attr.st_size = inode_told_size(in, attr->size);
    return 0;
}

void name_reply_entry(fuse_req_t req, const struct store_attr *attr, double attr_s)
{
    struct fuse_entry_param e;
    int err = name_entry(fs_of(req), attr, &e);

    if (!err && attr_s > e.attr_timeout)
        e.attr_timeout = attr_s;
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else if (fuse_reply_entry(req, &e) == -ENOENT)
        inode_forget(fs_of(req), e.ino, 1);
}

bool name_lookup_pending(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs *fs = fs_of(req);
    struct fuse_entry_param e = {0};
    struct creation *c = creation_find(fs, 0, parent, name, PROC_ANY_SESSION);
    struct store_attr attr;

    if (c)
        c = creation_find(fs, 0, parent, name, proc_session(fuse_req_ctx(req)->pid));
    if (!c || attr_of(fs, c->in->node, fuse_req_ctx(req)->pid, &attr))
        return false;
    e.ino = c->in->node;
    view_stat(&attr, attr.ino, &e.attr);
    inode_remember(c->in);
    if (fuse_reply_entry(req, &e) == -ENOENT)
        inode_forget(fs, e.ino, 1);
    return true;
}

int name_look(struct fs *fs, struct store_reader *reader, fuse_ino_t parent, const char *name, struct store_attr *attr)
{
    if (strlen(name) > STORE_NAME_MAX)
        return QE_NAMETOOLONG;
    return store_lookup(reader, STORE_HEAD, inode_ino(fs, parent), name, strlen(name), attr);
}

void name_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs *fs = fs_of(req);
    struct store_attr attr;
    int err = name_look(fs, fs->reader, parent, name, &attr);

    if (err == QE_NOENT && name_lookup_pending(req, parent, name))
        return;
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        name_reply_entry(req, &attr, 0);
}

/* ---- New entries ---- */

static void name_settle_entry(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct store_attr attr;

    (void)rev;
    (void)data;
    if (!req)
        return;
    if (!err && store_getattr(fs->reader, STORE_HEAD, ino, &attr))
        err = QE_TIMEDOUT; /* it has gone again: nothing else says that it was made */
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        name_reply_entry(req, &attr, 0);
}

int name_owner(struct fs *fs, const struct fuse_ctx *ctx, uint64_t parent, struct store_op *op)
{
    struct store_attr attr;
    int err = store_getattr(fs->reader, STORE_HEAD, parent, &attr);

    if (err)
        return err;
    op->uid = ctx->uid;
    op->gid = attr.mode & S_ISGID ? attr.gid : ctx->gid;
    if ((attr.mode & S_ISGID) && op->kind == STORE_OP_MKDIR)
        op->mode |= S_ISGID;
    return 0;
}

/* Submits one operation that makes an entry, and replies with it. */
static void name_make(fuse_req_t req, fuse_ino_t parent, const char *name, struct store_op *op, enum store_kind kind)
{
    struct fs *fs = fs_of(req);
    struct store_command cmd = {.ops = op, .n_ops = 1};
    struct pending_call call = {.req = req, .settle = name_settle_entry};
    int err = name_refused(parent, name);

    op->parent = inode_ino(fs, parent);
    op->name = (struct store_bytes){name, strlen(name)};
    if (!err)
        err = replica_writable(fs->replica);
    if (!err)
        err = name_owner(fs, fuse_req_ctx(req), op->parent, op);
    if (!err) {
        op->new_ino = replica_new_ino(fs->replica, kind);
        if (!op->new_ino)
            err = QE_TIMEDOUT;
    }
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        pending_submit(fs, &cmd, &call);
}

void name_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct store_op op = {.kind = STORE_OP_MKDIR, .mode = mode & 07777};

    name_make(req, parent, name, &op, STORE_DIR);
}

void name_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    struct store_op op = {.kind = STORE_OP_CREATE, .mode = mode & 07777};

    (void)rdev;
    if (S_ISREG(mode))
        name_make(req, parent, name, &op, STORE_FILE);
    else
        fuse_reply_err(req, EPERM); /* no devices, FIFOs, sockets: they would mean something else on each machine */
}

void name_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    struct store_op op = {.kind = STORE_OP_SYMLINK, .mode = 0777, .bytes = {target, strlen(target)}};

    name_make(req, parent, name, &op, STORE_SYMLINK);
}

/* ---- Names that go or move ---- */

/* The caller's own pending creation of a name that the store does not have, and whose commit is not on its way. */
static struct creation *name_pending(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs *fs = fs_of(req);
    struct store_attr attr;
    struct creation *c = creation_find(fs, 0, parent, name, PROC_ANY_SESSION);

    if (c)
        c = creation_find(fs, 0, parent, name, proc_session(fuse_req_ctx(req)->pid));
    if (!c || c->in->creating)
        return NULL;
    return store_lookup(fs->reader, STORE_HEAD, inode_ino(fs, parent), name, strlen(name), &attr) == QE_NOENT ? c : NULL;
}

/* A pending creation is unlinked: open files of it go on in private. */
static void drop_pending(struct fs *fs, struct creation *c)
{
    struct store_attr attr;

    creation_attr(c, 0, &attr);
    inode_keep(c->in, &attr);
    c->in->gone = true;
    creation_free(fs, c);
}

void name_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs *fs = fs_of(req);
    struct store_op op = {.kind = STORE_OP_UNLINK, .parent = inode_ino(fs, parent), .name = {name, strlen(name)}};
    struct creation *c = name_pending(req, parent, name);

    if (c) {
        drop_pending(fs, c);
        fuse_reply_err(req, 0);
        return;
    }
    pending_submit_op(req, &op);
}

void name_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs *fs = fs_of(req);
    struct store_op op = {.kind = STORE_OP_RMDIR, .parent = inode_ino(fs, parent), .name = {name, strlen(name)}};
    struct store_attr attr;

    if (fs->inodes->creations && !store_lookup(fs->reader, STORE_HEAD, op.parent, name, strlen(name), &attr) &&
        creation_any_below(fs, attr.ino, proc_session(fuse_req_ctx(req)->pid))) {
        fuse_reply_err(req, ENOTEMPTY); /* the caller itself is making a file there */
        return;
    }
    pending_submit_op(req, &op);
}

/* A rename took the place of a pending creation of the same session: as on any disk, that file has no name any more. */
static void name_renamed(struct fs *fs, void *data, int err)
{
    const uint64_t *replaced = data;
    struct inode *in = inode_find(fs, *replaced);

    if (!err && in && in->creation && !in->creating)
        drop_pending(fs, in->creation);
    free(data);
}

static void name_settle_rename(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    (void)req;
    (void)rev;
    (void)ino;
    name_renamed(fs, data, err);
}

/* The target of an exchange is committed, or the exchange will say that it is not there. */
static void name_created(struct fs *fs, void *data, int err)
{
    (void)fs;
    (void)data;
    (void)err;
}

/* A rename that waits for the creations of its names. */
struct renaming {
    fuse_req_t req;
    struct store_op op;
    char name[STORE_NAME_MAX + 1], name2[STORE_NAME_MAX + 1];
    uint64_t replaced; /* node of a pending creation that has the new name; 0: none */
};

static void name_submit_rename(struct fs *fs, void *data, int err)
{
    struct renaming *r = data;
    struct store_command cmd = {.ops = &r->op, .n_ops = 1};
    uint64_t *replaced = malloc(sizeof *replaced);
    struct pending_call call = {.req = r->req, .done = pending_done_err, .settle = name_settle_rename, .data = replaced};

    if (!err)
        err = replaced ? replica_writable(fs->replica) : QE_NOMEM;
    if (err) {
        fuse_reply_err(r->req, fs_errno(err));
        free(replaced);
    } else {
        *replaced = r->replaced;
        pending_submit(fs, &cmd, &call);
    }
    free(r);
}

/* The source is pending: as on any disk, the file gets its name in the new place with what it holds now. */
static void name_create_first(struct fs *fs, struct creation *c, struct renaming *r)
{
    if (c && c->in->handles)
        commit_create(c->in->handles, name_submit_rename, r);
    else
        name_submit_rename(fs, r, 0);
}

/* An open file of the caller's process with edits of what is to be renamed. Else a temporary file that is given its name before it is closed would show
 * what it held before: mostly nothing. */
static struct handle *name_edited(fuse_req_t req, uint64_t parent, const char *name)
{
    struct fs *fs = fs_of(req);
    struct store_attr attr;
    struct inode *in;
    pid_t tgid;

    if (!atomic_load(&fs->n_dirty) || store_lookup(fs->reader, STORE_HEAD, parent, name, strlen(name), &attr))
        return NULL;
    in = inode_find(fs, attr.ino);
    tgid = in && in->handles ? proc_tgid(fuse_req_ctx(req)->pid) : 0;
    for (struct handle *h = tgid ? in->handles : NULL; h; h = h->next)
        if (h->dirty && !h->released && h->tgid == tgid)
            return h;
    return NULL;
}

/* Whether a directory that would be replaced holds a file that the caller is making. */
static bool name_holds_pending(fuse_req_t req, uint64_t parent, const char *name)
{
    struct fs *fs = fs_of(req);
    struct store_attr attr;

    return fs->inodes->creations && !store_lookup(fs->reader, STORE_HEAD, parent, name, strlen(name), &attr) &&
           creation_any_below(fs, attr.ino, proc_session(fuse_req_ctx(req)->pid));
}

/* ESTALE would make the kernel try once more, without the edits. */
static void name_committed(struct fs *fs, void *data, int err)
{
    name_submit_rename(fs, data, err == QE_STALE ? QE_IO : err);
}

static int name_rename_refused(fuse_req_t req, fuse_ino_t parent2, const char *name2, unsigned flags, const struct creation *target)
{
    int err = name_refused(parent2, name2);

    if (!err && (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)))
        err = QE_INVAL;
    if (!err && target && (flags & RENAME_NOREPLACE))
        err = QE_EXIST;
    if (!err && !(flags & RENAME_EXCHANGE) && name_holds_pending(req, inode_ino(fs_of(req), parent2), name2))
        err = QE_NOTEMPTY;
    return err;
}

void name_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t parent2, const char *name2, unsigned flags)
{
    struct fs *fs = fs_of(req);
    struct creation *c = name_pending(req, parent, name), *target = name_pending(req, parent2, name2);
    int err = strlen(name) > STORE_NAME_MAX ? QE_NAMETOOLONG : name_rename_refused(req, parent2, name2, flags, target);
    struct renaming *r = err ? NULL : calloc(1, sizeof *r);
    struct handle *edited;

    if (!r) {
        fuse_reply_err(req, fs_errno(err ? err : QE_NOMEM));
        return;
    }
    r->req = req;
    strcpy(r->name, name);
    strcpy(r->name2, name2);
    r->op = (struct store_op){.kind = STORE_OP_RENAME, .parent = inode_ino(fs, parent), .name = {r->name, strlen(name)},
                              .parent2 = inode_ino(fs, parent2), .name2 = {r->name2, strlen(name2)}};
    r->op.flags = (flags & RENAME_NOREPLACE ? STORE_RENAME_NOREPLACE : 0) | (flags & RENAME_EXCHANGE ? STORE_RENAME_EXCHANGE : 0);
    if (target && (flags & RENAME_EXCHANGE) && target->in->handles)
        commit_create(target->in->handles, name_created, NULL); /* commands are applied in order */
    else if (target)
        r->replaced = target->in->node;
    edited = c ? NULL : name_edited(req, r->op.parent, name);
    if (edited)
        commit_process(edited, name_committed, r);
    else
        name_create_first(fs, c, r);
}

void name_readlink(fuse_req_t req, fuse_ino_t node)
{
    struct fs *fs = fs_of(req);
    struct buf target = {0};
    int err = store_content(fs->reader, STORE_HEAD, inode_ino(fs, node), &target, NULL);

    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_readlink(req, buf_cstr(&target));
    buf_fini(&target);
}
