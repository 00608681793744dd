/* leases/NAME/keys/: the files that are attached to a lease, at their paths from the root.
 *
 * A directory here is a directory of the tree, with its owner and mode, and lists what leads to an attached file. A file is the file of the tree: a
 * node of its own for the kernel, but with a `struct inode` that leads to the file's inode number in the store and that knows the
 * lease (inode.h). So opening, writing and committing are those of the live tree, and commit.c attaches what is committed. A name that is not attached
 * is not found, and creating it puts the file that it has in the tree, or makes one, with the lease, in one revision.
 *
 * Permissions are the kernel's business, as in the tree; besides, only the owner of the lease and root may attach or remove. Watchers of the
 * tree are told of what is done here as of another member's changes. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/barrier.h"
#include "fs/commit.h"
#include "fs/control/leases.h"
#include "fs/control/listing.h"
#include "fs/control/nodes.h"
#include "fs/ops.h"
#include "fs/pending.h"
#include "fs/perm.h"
#include "fs/proc.h"
#include "fs/view.h"

struct keys_key {
    uint64_t lease;
    uint64_t ino; /* in the store; of a file in the making: what it will have */
};

static struct view_nodes nodes; /* FUSE loop only */

static bool is_file(const struct keys_key *key)
{
    return store_ino_kind(key->ino) == STORE_FILE;
}

static bool key_of(fuse_ino_t node, struct keys_key *out)
{
    const struct view_node *n = nodes_find(&nodes, node);

    if (n)
        memcpy(out, n->key, sizeof *out);
    return n != NULL;
}

fuse_ino_t leases__key_node(uint64_t lease, uint64_t ino)
{
    const struct keys_key key = {lease, ino};

    return fs_node(FS_VIEW_LEASE_KEYS, nodes_number(&key, sizeof key));
}

fuse_ino_t leases__keys_node(uint64_t id)
{
    return leases__key_node(id, STORE_ROOT_INO);
}

/* ---- What the kernel knows ----------------------------------------------------------------------------------------------------- */

/* The inode of a file's node: made when the kernel gets to know it. */
static struct inode *inode_for(struct fs *fs, fuse_ino_t node, const struct keys_key *key)
{
    struct inode *in = inode_add(fs, node);

    if (in && !in->lease) { /* else it is known; a creation may have been led to another inode by now */
        in->lease = key->lease;
        in->ino = key->ino;
    }
    return in;
}

static void forget(struct fs *fs, fuse_ino_t node, uint64_t nlookup)
{
    nodes_forget(&nodes, node, nlookup);
    inode_forget(fs, node, nlookup);
}

/* The entry for a reply; the lookup count goes up. A directory has a number of its own, so that nobody takes the view for a loop; a file is the
 * same file. */
static int make_entry(struct fs *fs, uint64_t lease, const struct store_attr *attr, struct fuse_entry_param *e)
{
    const struct keys_key key = {lease, attr->ino};
    struct view_node *n = nodes_for(&nodes, &key, sizeof key);
    struct inode *in = NULL;

    memset(e, 0, sizeof *e);
    if (!n)
        return QE_NOMEM;
    n->nlookup++;
    e->ino = fs_node(FS_VIEW_LEASE_KEYS, n->number);
    if (is_file(&key) && !(in = inode_for(fs, e->ino, &key))) {
        nodes_forget(&nodes, e->ino, 1);
        return QE_NOMEM;
    }
    if (in)
        inode_remember(in);
    view_stat(attr, in ? attr->ino : e->ino, &e->attr);
    e->attr_timeout = in ? 0 : LEASES_DIR_ATTR_S;
    return 0;
}

static void reply_entry(fuse_req_t req, uint64_t lease, const struct store_attr *attr)
{
    struct fuse_entry_param e;
    int err = make_entry(fs_of(req), lease, attr, &e);

    if (err)
        fuse_reply_err(req, fs_errno(err));
    else if (fuse_reply_entry(req, &e) == -ENOENT)
        forget(fs_of(req), e.ino, 1);
}

void leases__reply_keys(fuse_req_t req, uint64_t id)
{
    struct store_attr attr;
    int err = store_getattr(fs_of(req)->reader, STORE_HEAD, STORE_ROOT_INO, &attr);

    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        reply_entry(req, id, &attr);
}

/* ---- Names --------------------------------------------------------------------------------------------------------------------- */

/* What a name in a directory is to the lease: 0, a directory or an attached file; QE_NOENT; other QE_*. */
static int look(struct fs *fs, const struct keys_key *dir, const char *name, struct store_attr *attr)
{
    int err = strlen(name) > STORE_NAME_MAX ? QE_NAMETOOLONG : store_lookup(fs->reader, STORE_HEAD, dir->ino, name, strlen(name), attr);

    if (!err && !S_ISDIR(attr->mode) && (!S_ISREG(attr->mode) || attr->lease != dir->lease))
        return QE_NOENT;
    return err;
}

/* A file in the making, which only its session sees. NULL: none. */
static struct creation *pending_of(fuse_req_t req, const struct keys_key *dir, const char *name)
{
    struct fs *fs = fs_of(req);

    if (!creation_find(fs, dir->lease, dir->ino, name, PROC_ANY_SESSION))
        return NULL;
    return creation_find(fs, dir->lease, dir->ino, name, proc_session(fuse_req_ctx(req)->pid));
}

static void lookup_now(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs *fs = fs_of(req);
    struct keys_key dir;
    struct store_attr attr;
    struct creation *c;
    int err = key_of(parent, &dir) ? look(fs, &dir, name, &attr) : QE_STALE;

    if (err == QE_NOENT && (c = pending_of(req, &dir, name)))
        err = attr_of(fs, c->in->node, fuse_req_ctx(req)->pid, &attr);
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        reply_entry(req, dir.lease, &attr);
}

/* What is not there may have come elsewhere. */
static void keys_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct keys_key dir;
    struct store_attr attr;

    if (key_of(parent, &dir) && look(fs_of(req), &dir, name, &attr) == QE_NOENT && !pending_of(req, &dir, name))
        leases__newest(req, parent, name, lookup_now);
    else
        lookup_now(req, parent, name);
}

static void keys_forget(struct fs *fs, fuse_ino_t node, uint64_t nlookup)
{
    forget(fs, node, nlookup);
}

static void keys_getattr(fuse_req_t req, fuse_ino_t node)
{
    struct keys_key key;
    struct store_attr attr;
    struct stat st;
    int err = key_of(node, &key) ? attr_of(fs_of(req), is_file(&key) ? node : key.ino, fuse_req_ctx(req)->pid, &attr) : QE_STALE;

    if (err) {
        fuse_reply_err(req, err == QE_NOENT ? ESTALE : fs_errno(err));
        return;
    }
    view_stat(&attr, is_file(&key) ? attr.ino : node, &st);
    fuse_reply_attr(req, &st, is_file(&key) ? 0 : LEASES_DIR_ATTR_S);
}

static void keys_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int valid, struct fuse_file_info *fi)
{
    struct keys_key key;

    if (!key_of(node, &key) || !is_file(&key))
        fuse_reply_err(req, EPERM);
    else
        attr_set(req, node, attr, valid, fi);
}

/* Whether the caller may attach: 0; QE_STALE: the lease has gone; QE_PERM. */
static int check_lease(fuse_req_t req, uint64_t id)
{
    struct store_lease l;
    int err = leases__by_id(fs_of(req), id, &l);

    return err ? err : leases__is_owner(req, &l) ? 0 : QE_PERM;
}

/* ---- Opening ------------------------------------------------------------------------------------------------------------------- */

/* A file that is attached, and the lease is there. */
static int open_check(fuse_req_t req, const struct inode *in, const struct fuse_file_info *fi)
{
    struct store_attr attr;
    int err = 0;

    if (!inode_pending(fs_of(req), in) && !in->gone) {
        err = store_getattr(fs_of(req)->reader, STORE_HEAD, in->ino, &attr);
        if (err == QE_NOENT || (!err && attr.lease != in->lease))
            return QE_STALE; /* the kernel walks the path again */
    }
    if (!err && ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC))
        err = check_lease(req, in->lease);
    return err;
}

static void open_now(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct inode *in = inode_find(fs_of(req), node);
    int err = in && in->lease ? open_check(req, in, fi) : QE_STALE;

    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        file_open(req, node, fi);
}

static void keys_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    barrier_control_open(req, node, fi, open_now);
}

static void reply_create(fuse_req_t req, uint64_t lease, const struct store_attr *attr, struct handle *h, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    struct fuse_entry_param e;
    int err;

    file_info(h, fi);
    err = make_entry(fs, lease, attr, &e);
    if (err) {
        file_drop(h);
        fuse_reply_err(req, fs_errno(err));
    } else if (fuse_reply_create(req, &e, fi) == -ENOENT) {
        file_drop(h);
        forget(fs, e.ino, 1);
    }
}

/* The name has a file in the tree, which need not be attached: it will be when the open file is closed, whatever is written. `mine`: this
 * very request has made it. */
static void create_existing(fuse_req_t req, uint64_t lease, const struct store_attr *attr, struct fuse_file_info *fi, bool mine)
{
    const struct keys_key key = {lease, attr->ino};
    struct fs *fs = fs_of(req);
    struct view_node *n = nodes_for(&nodes, &key, sizeof key);
    fuse_ino_t node = n ? fs_node(FS_VIEW_LEASE_KEYS, n->number) : 0;
    struct inode *in = n ? inode_for(fs, node, &key) : NULL;
    struct handle *h;
    int err = in ? file_open_handle(fs, in, fi->flags, fuse_req_ctx(req), mine, &h) : QE_NOMEM;

    if (!err && attr->lease != lease) {
        bool dirty = h->dirty;

        file_make_writer(h, fuse_req_ctx(req));
        h->dirty = true;
        handle_count(h, edits_cost(&h->edits), dirty);
    }
    if (err)
        fuse_reply_err(req, fs_errno(mine ? QE_TIMEDOUT : err));
    else
        reply_create(req, lease, attr, h, fi);
    nodes_forget(&nodes, node, 0); /* if the kernel was not told of it */
}

struct exclusive { /* O_EXCL: the name is taken at once, on all members, and attached */
    uint64_t lease;
    struct fuse_file_info fi;
};

static void exclusive_settle(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct exclusive *x = data;
    struct store_attr attr;

    (void)rev;
    if (req && !err && store_getattr(fs->reader, STORE_HEAD, ino, &attr))
        err = QE_TIMEDOUT; /* it has gone again: nothing else says that it was made */
    if (req && err)
        fuse_reply_err(req, fs_errno(err));
    else if (req)
        create_existing(req, x->lease, &attr, &x->fi, true);
    free(x);
}

static void create_exclusive(fuse_req_t req, uint64_t lease, const struct store_op *op, const struct fuse_file_info *fi)
{
    struct store_op ops[2] = {*op, {.kind = STORE_OP_SETATTR, .ino = op->new_ino, .valid = STORE_ATTR_LEASE, .lease = lease}};
    struct store_command cmd = {.ops = ops, .n_ops = 2};
    struct exclusive *x = malloc(sizeof *x);

    if (!x) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    *x = (struct exclusive){lease, *fi};
    x->fi.flags &= ~O_TRUNC;
    pending_submit(fs_of(req), &cmd, &(struct pending_call){.req = req, .settle = exclusive_settle, .data = x, .injected = true});
}

/* A file that exists for its session only, until it is committed. */
static void create_pending(fuse_req_t req, uint64_t lease, const struct store_op *op, const char *name, struct fuse_file_info *fi)
{
    const struct keys_key key = {lease, op->new_ino};
    struct fs *fs = fs_of(req);
    struct view_node *n = nodes_for(&nodes, &key, sizeof key);
    fuse_ino_t node = n ? fs_node(FS_VIEW_LEASE_KEYS, n->number) : 0;
    struct inode *in = n ? inode_for(fs, node, &key) : NULL;
    struct store_attr attr;
    struct handle *h;
    int err = in ? file_create_pending(req, in, op, name, fi->flags, &h) : QE_NOMEM;

    if (err) {
        fuse_reply_err(req, fs_errno(err));
    } else {
        creation_attr(in->creation, 0, &attr);
        reply_create(req, lease, &attr, h, fi);
    }
    nodes_forget(&nodes, node, 0); /* if the kernel was not told of it */
}

/* A file of a directory that is not attached yet. */
static int may_attach(fuse_req_t req, const struct keys_key *dir, const struct store_attr *file)
{
    struct store_attr a;
    int err = store_getattr(fs_of(req)->reader, STORE_HEAD, dir->ino, &a);

    return err == QE_NOENT ? QE_STALE : err ? err : attach_allowed(req, &a, file);
}

/* What the name has in the tree: 0, a file that may be opened so; QE_NOENT; the refusal. */
static int create_look(fuse_req_t req, const struct keys_key *dir, const char *name, int flags, struct store_attr *attr)
{
    struct perm who;
    unsigned want = PERM_WRITE | ((flags & O_ACCMODE) == O_WRONLY ? 0 : PERM_READ);
    int err = store_lookup(fs_of(req)->reader, STORE_HEAD, dir->ino, name, strlen(name), attr);

    if (err)
        return err;
    if (S_ISDIR(attr->mode))
        return QE_ISDIR;
    if (S_ISLNK(attr->mode))
        return QE_LOOP;
    if (flags & O_EXCL)
        return QE_EXIST;
    if (attr->lease != dir->lease && (err = may_attach(req, dir, attr)))
        return err;
    err = perm_of(req, &who); /* the kernel has asked for the directory only */
    if (!err && !perm_allows(&who, attr->mode, attr->uid, attr->gid, want))
        err = QE_ACCES;
    perm_fini(&who);
    return err;
}

static void keys_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    struct store_op op = {.kind = STORE_OP_CREATE, .name = {name, strlen(name)}, .mode = mode & 07777};
    struct keys_key dir = {0};
    struct store_attr attr;
    struct creation *c;
    int err = key_of(parent, &dir) ? check_lease(req, dir.lease) : QE_STALE;

    if (!err)
        err = file_create_check(fs, fuse_req_ctx(req), dir.ino, name);
    if (!err && !(err = create_look(req, &dir, name, fi->flags, &attr))) {
        create_existing(req, dir.lease, &attr, fi, false);
        return;
    }
    if (err == QE_NOENT && (c = pending_of(req, &dir, name)) && !(fi->flags & O_EXCL)) {
        err = attr_of(fs, c->in->node, fuse_req_ctx(req)->pid, &attr);
        attr.lease = dir.lease;
        if (!err) {
            create_existing(req, dir.lease, &attr, fi, false);
            return;
        }
    }
    op.parent = dir.ino;
    if (err == QE_NOENT)
        err = name_owner(fs, fuse_req_ctx(req), op.parent, &op);
    if (!err && !(op.new_ino = replica_new_ino(fs->replica, STORE_FILE)))
        err = QE_TIMEDOUT;
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else if (fi->flags & O_EXCL)
        create_exclusive(req, dir.lease, &op, fi);
    else
        create_pending(req, dir.lease, &op, name, fi);
}

/* ---- Open files: those of the live tree ---------------------------------------------------------------------------------------- */

static struct handle *handle_of(const struct fuse_file_info *fi)
{
    return (struct handle *)(uintptr_t)fi->fh;
}

/* Shells hide what close says, so a lease that has gone is told at once. */
static void keys_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct handle *h = handle_of(fi);
    struct store_lease l;
    int err = leases__by_id(fs_of(req), h->in->lease, &l);

    if (err) {
        handle_fail(h, err);
        fuse_reply_err(req, fs_errno(err));
    } else {
        file_write(req, node, data, size, off, fi);
    }
}

static void keys_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    (void)node;
    commit_flush(req, handle_of(fi), fi->lock_owner);
}

static void keys_fsync(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    (void)node;
    commit_fsync(req, handle_of(fi));
}

static void keys_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
    if (inode_find(fs_of(req), node))
        xattrs_get(req, node, name, size);
    else
        fuse_reply_err(req, ENODATA);
}

static void keys_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags)
{
    if (inode_find(fs_of(req), node))
        xattrs_set(req, node, name, value, size, flags);
    else
        fuse_reply_err(req, EPERM);
}

static void keys_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
    if (inode_find(fs_of(req), node))
        xattrs_remove(req, node, name);
    else
        fuse_reply_err(req, EPERM);
}

static void keys_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
    const struct buf none = {0};

    if (inode_find(fs_of(req), node))
        xattrs_list(req, node, size);
    else
        xattrs_reply(req, &none, size, 0);
}

/* ---- Directories --------------------------------------------------------------------------------------------------------------- */

static void opendir_now(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct keys_key key;
    struct store_lease l;
    int err = key_of(node, &key) ? leases__by_id(fs_of(req), key.lease, &l) : QE_STALE;

    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        leases__open_tree(req, key.lease, key.ino, node, fi);
}

static void keys_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    barrier_control_open(req, node, fi, opendir_now);
}

const struct control_view control__lease_keys_view = {
    .refusal = EPERM,
    .lookup = keys_lookup,
    .forget = keys_forget,
    .getattr = keys_getattr,
    .setattr = keys_setattr,
    .open = keys_open,
    .read = file_read,
    .write = keys_write,
    .flush = keys_flush,
    .fsync = keys_fsync,
    .release = file_release,
    .opendir = keys_opendir,
    .readdir = listing_readdir,
    .releasedir = listing_releasedir,
    .getxattr = keys_getxattr,
    .listxattr = keys_listxattr,
    .setxattr = keys_setxattr,
    .removexattr = keys_removexattr,
    .create = keys_create,
};
