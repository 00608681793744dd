/* The view of the table itself: .quorum, its rows and their children. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/barrier.h"
#include "fs/control/tree.h"
#include "fs/view.h"
#include "store/base/clock.h"

/* Names of the table never change, so the kernel may keep them; sizes do, so it may not keep the attributes of files. */
static const double LONG_TIMEOUT_S = 3600;

/* ---- Attributes -------------------------------------------------------------------------------------------------------------- */

/* When this mount first showed the control tree; all its times. */
static int64_t born_ns(void)
{
    static int64_t born;

    if (!born)
        born = clock_realtime_ns();
    return born;
}

static int read_ref(struct fs *fs, const struct control_ref *ref, struct buf *out)
{
    return ref->row && ref->row->read ? ref->row->read(fs, ref->child, out) : 0;
}

void control__entry_of(struct fs *fs, fuse_ino_t node, mode_t mode, struct fuse_entry_param *e)
{
    struct stat *st = &e->attr;

    memset(e, 0, sizeof *e);
    e->ino = node;
    e->entry_timeout = LONG_TIMEOUT_S;
    e->attr_timeout = S_ISDIR(mode) ? LONG_TIMEOUT_S : 0;
    st->st_ino = node;
    st->st_mode = mode;
    st->st_nlink = 1; /* of a directory: "not counted", so that find looks into all of it */
    st->st_uid = fs->owner_uid;
    st->st_gid = fs->owner_gid;
    st->st_blksize = 4096;
    view_time(born_ns(), &st->st_mtim);
    st->st_atim = st->st_ctim = st->st_mtim;
}

/* Attributes of a node of the table; reads its content for the size. */
static int rows_stat(struct fs *fs, fuse_ino_t node, struct fuse_entry_param *e)
{
    struct control_ref ref;
    struct buf content = {0};
    int err;

    if (!control__ref(node, &ref))
        return QE_NOENT;
    control__entry_of(fs, node, ref.mode, e);
    if (S_ISDIR(ref.mode))
        return 0;
    err = read_ref(fs, &ref, &content);
    e->attr.st_size = (off_t)content.len;
    e->attr.st_blocks = (blkcnt_t)(content.len + 511) / 512;
    buf_fini(&content);
    return err;
}

void control_root_entry(struct fs *fs, struct fuse_entry_param *e)
{
    control__entry_of(fs, FS_CONTROL_ROOT, S_IFDIR | 0555, e);
}

static void rows_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e;
    fuse_ino_t node = control__find(parent, name);
    int err;

    if (!node)
        fuse_reply_err(req, ENOENT);
    else if (fs_view_of(node) != FS_VIEW_CONTROL)
        control__view_of(node)->lookup(req, node, NULL);
    else if ((err = rows_stat(fs_of(req), node, &e)))
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_entry(req, &e);
}

static void rows_getattr(fuse_req_t req, fuse_ino_t node)
{
    struct fuse_entry_param e;
    int err = rows_stat(fs_of(req), node, &e);

    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_attr(req, &e.attr, e.attr_timeout);
}

/* O_TRUNC of a shell's `>` arrives here as a new size and means nothing; nothing else may be set: EPERM. EACCES on a read-only file. */
static void rows_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int valid, struct fuse_file_info *fi)
{
    struct control_ref ref;

    (void)attr, (void)fi;
    if (!control__ref(node, &ref))
        fuse_reply_err(req, ENOENT);
    else if (valid & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID) || !(valid & FUSE_SET_ATTR_SIZE))
        fuse_reply_err(req, EPERM);
    else if (!ref.row || !ref.row->command || !(ref.mode & 0222))
        fuse_reply_err(req, EACCES);
    else
        rows_getattr(req, node);
}

/* ---- Files --------------------------------------------------------------------------------------------------------------------- */

static void rows_open_now(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct control_ref ref = {0};
    struct buf content = {0};
    int access_mode = fi->flags & O_ACCMODE, err = 0;

    control__ref(node, &ref);
    if (access_mode != O_WRONLY)
        err = read_ref(fs_of(req), &ref, &content);
    if (err) {
        buf_fini(&content);
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    control__reply_open(req, fi, &content, access_mode != O_RDONLY);
}

/* Replies: an open file; EACCES for writing where there is nothing to write; what the row's read says; ETIMEDOUT when it has to ask
 * and there is no quorum. */
static void rows_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    int access_mode = fi->flags & O_ACCMODE;
    struct control_ref ref;

    if (!control__ref(node, &ref))
        fuse_reply_err(req, ENOENT);
    else if ((access_mode != O_RDONLY || fi->flags & O_TRUNC) && (!ref.row || !ref.row->command || !(ref.mode & 0222)))
        fuse_reply_err(req, EACCES); /* root gets here in spite of the mode */
    else if (ref.row && ref.row->newest && access_mode != O_WRONLY)
        barrier_control_open(req, node, fi, rows_open_now);
    else
        rows_open_now(req, node, fi);
}

static void rows_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
    const struct control_file *f = (const struct control_file *)(uintptr_t)fi->fh;
    struct control_ref ref;

    (void)off; /* offsets mean nothing */
    if (!f->writable || !control__ref(node, &ref))
        fuse_reply_err(req, EBADF);
    else
        control__write(req, &ref, data, size);
}

/* ---- Directories --------------------------------------------------------------------------------------------------------------- */

static size_t add_entry(fuse_req_t req, char *to, size_t room, const char *name, fuse_ino_t node, off_t next, bool plus)
{
    struct fuse_entry_param e;
    struct control_ref ref;

    if (fs_view_of(node) != FS_VIEW_CONTROL) { /* the kernel asks for what readdir does not tell */
        memset(&e, 0, sizeof e);
        e.attr.st_ino = node;
        e.attr.st_mode = control__row_of_view(fs_view_of(node))->mode;
    } else if (!plus || rows_stat(fs_of(req), node, &e)) {
        memset(&e, 0, sizeof e);
        e.attr.st_ino = node;
        e.attr.st_mode = control__ref(node, &ref) ? ref.mode : 0;
    }
    return plus ? fuse_add_direntry_plus(req, to, room, name, &e, next) : fuse_add_direntry(req, to, room, name, &e.attr, next);
}

/* Offset 0 is ".", 1 is "..", i + 2 is entry i. */
static void rows_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
    char *page = malloc(size);
    size_t used = 0;

    (void)fi;
    if (!page) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    for (;; off++) {
        const char *name = off ? ".." : ".";
        fuse_ino_t entry = off < 2 ? node : control__entry(node, (size_t)off - 2, &name);
        size_t n;

        if (!entry)
            break;
        /* "." and ".." are told without attributes, or the kernel would count a lookup for them. */
        if (off < 2 && plus) {
            struct fuse_entry_param e = {.attr = {.st_ino = node, .st_mode = S_IFDIR}};

            n = fuse_add_direntry_plus(req, page + used, size - used, name, &e, off + 1);
        } else {
            n = add_entry(req, page + used, size - used, name, entry, off + 1, plus);
        }
        if (n > size - used)
            break;
        used += n;
    }
    fuse_reply_buf(req, page, used);
    free(page);
}

const struct control_view control__rows_view = {
    .refusal = EPERM,
    .lookup = rows_lookup,
    .getattr = rows_getattr,
    .setattr = rows_setattr,
    .open = rows_open,
    .write = rows_write,
    .readdir = rows_readdir,
};
