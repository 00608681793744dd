/* tree/ of a transaction: a writable view of the whole tree. A node is the inode's number in the view of the transaction; the inodes
 * that it makes have numbers of their own already.
 *
 * What is written is staged at once and seen by all who look through the view: there are no private edits here, close and fsync mean
 * nothing. A file that is open for reading alone is a snapshot. The kernel keeps no names, so that each look comes here and is recorded; attributes
 * it keeps of what was made here (TXN_KEPT_S): there is nothing to record about those. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/control/listing.h"
#include "fs/control/tree.h"
#include "fs/control/txn.h"
#include "fs/ops.h"
#include "fs/view.h"
#include "fs/work.h"
#include "store/base/clock.h"

enum { PAGE_NAMES = 1000 };

struct txn_file { /* an open file */
    uint64_t serial, ino;
    uid_t uid; /* who opened it */
    bool writable, append;
    struct buf snapshot; /* what a reader reads */
};

static struct txn *of(fuse_ino_t node)
{
    struct txn *t = txn_of_view((uint64_t)fs_view_of(node));

    if (t)
        txn_used(t);
    return t;
}

static fuse_ino_t node_in(const struct txn *t, uint64_t ino)
{
    return fs_node((enum fs_view)t->view, ino);
}

static void reply_err(fuse_req_t req, int err)
{
    fuse_reply_err(req, txn_errno(err));
}

/* ---- Names --------------------------------------------------------------------------------------------------------------------- */

static double kept_s(struct txn *t, uint64_t ino)
{
    const struct txn_node *n = txn_node_find(t, ino);

    return n && n->fresh ? TXN_KEPT_S : 0;
}

void txn_view_entry(struct txn *t, uint64_t ino, const struct store_attr *a, struct fuse_entry_param *e)
{
    memset(e, 0, sizeof *e);
    e->attr_timeout = kept_s(t, ino);
    e->ino = node_in(t, ino);
    view_stat(a, e->ino, &e->attr);
}

static int entry_of(struct txn *t, uint64_t ino, struct fuse_entry_param *e)
{
    struct store_attr a;
    int err = txn_attr_unread(t, ino, &a);

    if (!err)
        txn_view_entry(t, ino, &a, e);
    return err;
}

static void reply_entry(fuse_req_t req, struct txn *t, uint64_t ino, int err)
{
    struct fuse_entry_param e;

    if (!err)
        err = entry_of(t, ino, &e);
    if (err)
        reply_err(req, err);
    else
        (void)txn_view_reply_entry(req, &e, NULL);
}

static void tree_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct txn *t = of(parent);
    uint64_t ino = 0;
    int err = t ? txn_lookup(t, fs_number_of(parent), name, &ino) : QE_STALE;

    reply_entry(req, t, ino, err);
}

static void reply_attr(fuse_req_t req, struct txn *t, uint64_t ino)
{
    struct store_attr a;
    struct stat st;
    int err = t ? txn_attr(t, ino, &a) : QE_STALE;

    if (err) {
        reply_err(req, err == QE_NOENT ? QE_STALE : err);
        return;
    }
    view_stat(&a, node_in(t, ino), &st);
    fuse_reply_attr(req, &st, kept_s(t, ino));
}

static void tree_getattr(fuse_req_t req, fuse_ino_t node)
{
    reply_attr(req, of(node), fs_number_of(node));
}

static void tree_readlink(fuse_req_t req, fuse_ino_t node)
{
    struct txn *t = of(node);
    struct buf target = {0};
    int err = t ? txn_content(t, fs_number_of(node), &target) : QE_STALE;

    if (err)
        reply_err(req, err);
    else
        fuse_reply_readlink(req, buf_cstr(&target));
    buf_fini(&target);
}

/* Makes an entry for the caller; its group comes from a parent with the setgid bit. */
static int make(fuse_req_t req, fuse_ino_t parent, const char *name, struct txn_make *m, struct txn **t, uint64_t *ino)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    struct store_attr dir;
    int err;

    *t = of(parent);
    err = *t ? txn_attr_unread(*t, fs_number_of(parent), &dir) : QE_STALE;
    if (err)
        return err;
    m->uid = ctx->uid;
    m->gid = dir.mode & S_ISGID ? dir.gid : ctx->gid;
    if (dir.mode & S_ISGID && m->kind == STORE_OP_MKDIR)
        m->mode |= S_ISGID;
    return txn_make(*t, fs_number_of(parent), name, m, ino);
}

static void make_and_reply(fuse_req_t req, fuse_ino_t parent, const char *name, struct txn_make m)
{
    struct txn *t;
    uint64_t ino = 0;
    int err = make(req, parent, name, &m, &t, &ino);

    reply_entry(req, t, ino, err);
}

static void tree_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    make_and_reply(req, parent, name, (struct txn_make){.kind = STORE_OP_MKDIR, .mode = mode});
}

static void tree_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    (void)rdev;
    if (S_ISREG(mode))
        make_and_reply(req, parent, name, (struct txn_make){.kind = STORE_OP_CREATE, .mode = mode});
    else
        fuse_reply_err(req, EPERM);
}

static void tree_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    if (strlen(target) > STORE_TARGET_MAX)
        fuse_reply_err(req, ENAMETOOLONG);
    else
        make_and_reply(req, parent, name, (struct txn_make){.kind = STORE_OP_SYMLINK, .mode = 0777, .target = target});
}

static void tree_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct txn *t = of(parent);

    reply_err(req, t ? txn_remove(t, fs_number_of(parent), name, false) : QE_STALE);
}

static void tree_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct txn *t = of(parent);

    reply_err(req, t ? txn_remove(t, fs_number_of(parent), name, true) : QE_STALE);
}

static void tree_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t parent2, const char *name2, unsigned flags)
{
    struct txn *t = of(parent);

    if (flags & ~(unsigned)(STORE_RENAME_NOREPLACE | STORE_RENAME_EXCHANGE))
        fuse_reply_err(req, EINVAL);
    else
        reply_err(req, t ? txn_rename(t, fs_number_of(parent), name, fs_number_of(parent2), name2, flags) : QE_STALE);
}

/* ---- Attributes ---------------------------------------------------------------------------------------------------------------- */

static void tree_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int valid, struct fuse_file_info *fi)
{
    struct txn *t = of(node);
    struct store_op set;
    int err = t ? 0 : QE_STALE;

    (void)fi;
    attr_op(fs_number_of(node), attr, valid, &set);
    if (!err && valid & FUSE_SET_ATTR_SIZE)
        err = txn_truncate(t, fs_number_of(node), attr->st_size, fuse_req_ctx(req)->uid != 0);
    if (!err && set.valid)
        err = txn_setattr(t, &set);
    if (err)
        reply_err(req, err);
    else
        reply_attr(req, t, fs_number_of(node));
}

/* user.quorum.lease, as the transaction has it. */
static int get_lease(struct txn *t, uint64_t ino, struct buf *out)
{
    struct store_attr a;
    int err = txn_attr(t, ino, &a);

    return err ? err : attach_get(t->fs, &a, out);
}

static void tree_attach(fuse_req_t req, fuse_ino_t node, uint64_t lease, uint32_t flags)
{
    struct txn *t = of(node);
    const struct store_op set = {.kind = STORE_OP_SETATTR, .ino = fs_number_of(node), .valid = STORE_ATTR_LEASE, .lease = lease};
    struct store_attr a, dir;
    int err = t ? txn_attr(t, set.ino, &a) : QE_STALE;

    if (!err)
        err = S_ISREG(a.mode) ? attach_check(a.lease, flags) : QE_INVAL;
    if (!err && lease)
        err = txn_attr(t, a.parent, &dir);
    if (!err && lease)
        err = attach_allowed(req, &dir, &a);
    reply_err(req, err ? err : txn_setattr(t, &set));
}

static void tree_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
    struct txn *t = of(node);
    const struct txn_node *n = t ? txn_node_find(t, fs_number_of(node)) : NULL;
    struct buf value = {0};
    int err = t ? xattrs_readable(name) : QE_STALE;

    if (!err && !xattrs_is_lease(name) && xattrs_is_fact(name)) { /* what the store knows of it, as of the transaction's begin */
        struct store_attr a;

        err = n && n->fresh ? QE_NODATA : txn_attr(t, fs_number_of(node), &a);
        if (!err) {
            xattrs_get_at(req, t->rev, fs_number_of(node), name, size);
            return;
        }
    }
    if (!err)
        err = xattrs_is_lease(name) ? get_lease(t, fs_number_of(node), &value) : txn_getxattr(t, fs_number_of(node), name, &value);
    xattrs_reply(req, &value, size, err);
    buf_fini(&value);
}

static void tree_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
    struct txn *t = of(node);
    struct buf names = {0};
    int err = t ? txn_listxattr(t, fs_number_of(node), &names) : QE_STALE;

    xattrs_reply(req, &names, size, err);
    buf_fini(&names);
}

static void tree_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags)
{
    struct txn *t = of(node);
    const struct store_bytes bytes = {value, size};
    int err = t ? xattrs_check(name) : QE_STALE;

    if (t && xattrs_is_lease(name))
        attach_find(req, node, value, size, xattrs_flags(flags), tree_attach);
    else
        reply_err(req, err ? err : txn_setxattr(t, fs_number_of(node), name, &bytes, xattrs_flags(flags)));
}

static void tree_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
    struct txn *t = of(node);
    int err = t ? xattrs_check(name) : QE_STALE;

    if (t && xattrs_is_lease(name))
        tree_attach(req, node, 0, STORE_XATTR_REPLACE);
    else
        reply_err(req, err ? err : txn_setxattr(t, fs_number_of(node), name, NULL, 0));
}

/* ---- Files --------------------------------------------------------------------------------------------------------------------- */

static void file_free(struct txn_file *f)
{
    struct txn *t = txn_of_serial(f->serial);

    if (t && f->writable)
        txn_drop_view(t, f->ino);
    control__snapshot_drop(f->uid, f->snapshot.cap);
    buf_fini(&f->snapshot);
    free(f);
}

static int file_new(struct txn *t, uint64_t ino, int flags, uid_t uid, struct txn_file **out)
{
    struct txn_file *f = calloc(1, sizeof *f);
    int err = 0;

    if (!f)
        return QE_NOMEM;
    f->serial = t->serial;
    f->ino = ino;
    f->writable = (flags & O_ACCMODE) != O_RDONLY;
    f->append = (flags & O_APPEND) != 0;
    if (!f->writable)
        err = txn_content(t, ino, &f->snapshot);
    if (!err)
        err = control__snapshot_add(uid, f->snapshot.cap);
    if (err) {
        buf_fini(&f->snapshot);
        free(f);
        return err;
    }
    f->uid = uid;
    *out = f;
    return 0;
}

static void tree_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct txn *t = of(node);
    struct txn_file *f;
    int err = !t ? QE_STALE : store_ino_kind(fs_number_of(node)) == STORE_DIR ? QE_ISDIR : 0;

    if (!err && (fi->flags & O_ACCMODE) != O_RDONLY && t->state != TXN_OPEN)
        err = QE_PERM;
    if (!err && fi->flags & O_TRUNC)
        err = txn_truncate(t, fs_number_of(node), 0, fuse_req_ctx(req)->uid != 0);
    if (!err)
        err = file_new(t, fs_number_of(node), fi->flags, fuse_req_ctx(req)->uid, &f);
    if (err) {
        reply_err(req, err);
        return;
    }
    fi->fh = (uintptr_t)f;
    fi->direct_io = 1;
    if (fuse_reply_open(req, fi) == -ENOENT) /* the caller is gone: no RELEASE will come */
        file_free(f);
}

static void tree_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    struct txn_make m = {.kind = STORE_OP_CREATE, .mode = mode};
    struct fuse_entry_param e;
    struct txn_file *f;
    struct txn *t;
    uint64_t ino;
    int err = make(req, parent, name, &m, &t, &ino);

    if (!err)
        err = entry_of(t, ino, &e);
    if (!err)
        err = file_new(t, ino, fi->flags, fuse_req_ctx(req)->uid, &f);
    if (err) {
        reply_err(req, err);
        return;
    }
    fi->fh = (uintptr_t)f;
    fi->direct_io = 1;
    if (txn_view_reply_entry(req, &e, fi) == -ENOENT)
        file_free(f);
}

static void tree_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
    const struct txn_file *f = (const struct txn_file *)(uintptr_t)fi->fh;
    const struct buf *bytes = &f->snapshot;
    struct txn *t = of(node);
    int err = 0;

    if (f->writable)
        err = t ? txn_bytes_of(t, f->ino, &bytes) : QE_STALE;
    if (err)
        reply_err(req, err);
    else
        control__reply_bytes(req, bytes, size, off);
}

static void tree_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
    const struct txn_file *f = (const struct txn_file *)(uintptr_t)fi->fh;
    struct txn *t = of(node);
    bool append = f->append && !fi->writepage;
    int err = t ? txn_write(t, f->ino, data, size, off, append, fuse_req_ctx(req)->uid != 0) : QE_STALE;

    if (err)
        reply_err(req, err);
    else
        fuse_reply_write(req, size);
}

static void tree_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    (void)node;
    file_free((struct txn_file *)(uintptr_t)fi->fh);
    fuse_reply_err(req, 0);
}

/* ---- Directories: the picture's list, read by a worker, then what differs ------------------------------------------------------ */

struct tree_list {
    uint64_t serial, dir;
    int64_t rev;
    struct listing *l;
    struct fuse_file_info fi;
    struct buf names, inos; /* of the picture: NUL-terminated; uint64_t */
    size_t page;            /* names in the page at hand */
    int err;
};

static bool on_name(void *data, const void *name, size_t len, uint64_t ino)
{
    struct tree_list *j = data;

    j->err = buf_append(&j->names, name, len);
    if (!j->err)
        j->err = buf_append(&j->names, "", 1);
    if (!j->err)
        j->err = buf_append(&j->inos, &ino, sizeof ino);
    return !j->err && ++j->page < PAGE_NAMES;
}

/* A worker. */
static int list_picture(struct fs *fs, struct store_reader *reader, void *data)
{
    struct tree_list *j = data;
    size_t last = 0;
    int err;

    do {
        char after[STORE_NAME_MAX + 1] = "";

        if (work_stopping(fs))
            return QE_SHUTDOWN;
        if (j->names.len)
            strcpy(after, (const char *)j->names.data + last);
        j->page = 0;
        err = store_list(reader, j->rev, j->dir, after, strlen(after), on_name, j);
        last = j->names.len;
        while (last > 1 && j->names.data[last - 2])
            last--;
        last = last ? last - 1 : 0;
    } while (!err && !j->err && j->page == PAGE_NAMES);
    return err ? err : j->err;
}

static int add_name(struct txn *t, struct listing *l, const char *name, uint64_t ino)
{
    static const mode_t types[] = {[STORE_FILE] = S_IFREG, [STORE_DIR] = S_IFDIR, [STORE_SYMLINK] = S_IFLNK, [3] = 0};

    return listing_add(l, name, strlen(name), node_in(t, ino), types[ino & 3]);
}

static int merge(struct txn *t, struct tree_list *j)
{
    struct txn_node *dir = txn_node_find(t, j->dir);
    struct txn_entry *e, *tmp;
    const char *name = (const char *)j->names.data;
    int err = 0;

    for (size_t i = 0; !err && i < j->inos.len / sizeof(uint64_t); i++, name += strlen(name) + 1) {
        uint64_t ino;

        memcpy(&ino, j->inos.data + i * sizeof ino, sizeof ino);
        e = NULL;
        if (dir)
            HASH_FIND_STR(dir->entries, name, e);
        if (!e)
            err = add_name(t, j->l, name, ino);
    }
    if (dir)
        HASH_ITER(hh, dir->entries, e, tmp)
            if (!err && e->ino)
                err = add_name(t, j->l, e->name, e->ino);
    return err;
}

static void list_settle(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct tree_list *j = data;
    struct txn *t = txn_of_serial(j->serial);

    (void)fs, (void)rev, (void)ino;
    if (!err)
        err = t ? merge(t, j) : QE_STALE;
    if (req && err)
        reply_err(req, err);
    else if (req)
        listing_reply_open(req, &j->fi, j->l, false);
    if (!req || err)
        listing_free(j->l);
    buf_fini(&j->names);
    buf_fini(&j->inos);
    free(j);
}

static void tree_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct txn *t = of(node);
    const struct txn_node *n = t ? txn_node_find(t, fs_number_of(node)) : NULL;
    struct tree_list *j = calloc(1, sizeof *j);
    struct store_attr a;
    int err = !t ? QE_STALE : !j ? QE_NOMEM : txn_attr(t, fs_number_of(node), &a);

    if (!err && !S_ISDIR(a.mode))
        err = QE_NOTDIR;
    if (!err)
        err = txn_read_list(t, fs_number_of(node));
    if (!err) {
        j->l = listing_new(node, node);
        err = j->l ? 0 : QE_NOMEM;
    }
    if (err) {
        free(j);
        reply_err(req, err == QE_NOENT ? QE_STALE : err);
        return;
    }
    j->serial = t->serial;
    j->dir = fs_number_of(node);
    j->rev = t->rev;
    j->fi = *fi;
    if (n && n->fresh)
        list_settle(t->fs, req, 0, 0, 0, j);
    else
        work_start(t->fs, list_picture, &(struct pending_call){.req = req, .settle = list_settle, .data = j});
}

const struct control_view control__txn_tree_view = {
    .refusal = EPERM,
    .lookup = tree_lookup,
    .forget = txn_view_forget,
    .getattr = tree_getattr,
    .setattr = tree_setattr,
    .readlink = tree_readlink,
    .open = tree_open,
    .create = tree_create,
    .read = tree_read,
    .write = tree_write,
    .release = tree_release,
    .opendir = tree_opendir,
    .readdir = listing_readdir,
    .releasedir = listing_releasedir,
    .mkdir = tree_mkdir,
    .mknod = tree_mknod,
    .symlink = tree_symlink,
    .unlink = tree_unlink,
    .rmdir = tree_rmdir,
    .rename = tree_rename,
    .getxattr = tree_getxattr,
    .listxattr = tree_listxattr,
    .setxattr = tree_setxattr,
    .removexattr = tree_removexattr,
};
