#include "fs/control/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/control/tree.h"
#include "fs/ops.h"
#include "fs/view.h"
#include "store/base/clock.h"

/* Names of the table never change, so the kernel may keep them; sizes do, so it may not keep the attributes of files. */
static const double LONG_TIMEOUT_S = 3600;

bool control_owns(fuse_ino_t node)
{
    return fs_view_of(node) == FS_VIEW_CONTROL || fs_view_of(node) == FS_VIEW_LOCAL;
}

static bool is_local(fuse_ino_t node)
{
    return fs_view_of(node) == FS_VIEW_LOCAL;
}

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

/* Everything but the size. */
static void fill_entry(struct fs *fs, fuse_ino_t node, mode_t mode, struct fuse_entry_param *e)
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

int control__stat(struct fs *fs, fuse_ino_t node, struct fuse_entry_param *e)
{
    struct control_ref ref;
    struct buf content = {0};
    int err;

    if (!control__ref(node, &ref))
        return QE_NOENT;
    fill_entry(fs, node, ref.mode, e);
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
    fill_entry(fs, FS_CONTROL_ROOT, S_IFDIR | 0555, e);
}

void control_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e;
    fuse_ino_t node;
    int err;

    if (is_local(parent)) {
        control__local_lookup(req, parent, name);
        return;
    }
    node = control__find(parent, name);
    if (!node) {
        fuse_reply_err(req, ENOENT);
    } else if (is_local(node)) {
        control__local_lookup(req, node, NULL);
    } else if ((err = control__stat(fs_of(req), node, &e))) {
        fuse_reply_err(req, fs_errno(err));
    } else {
        fuse_reply_entry(req, &e);
    }
}

void control_getattr(fuse_req_t req, fuse_ino_t node)
{
    struct fuse_entry_param e;
    int err;

    if (is_local(node)) {
        control__local_getattr(req, node);
        return;
    }
    err = control__stat(fs_of(req), node, &e);
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_attr(req, &e.attr, e.attr_timeout);
}

/* O_TRUNC of a shell's `>` arrives here as a new size and means nothing; nothing else may be set: EPERM. EACCES on a read-only file. */
void control_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int valid)
{
    struct control_ref ref;

    (void)attr;
    if (is_local(node))
        fuse_reply_err(req, EROFS);
    else if (!control__ref(node, &ref))
        fuse_reply_err(req, ENOENT);
    else if (valid & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID) || !(valid & FUSE_SET_ATTR_SIZE))
        fuse_reply_err(req, EPERM);
    else if (!ref.row || !ref.row->command || !(ref.mode & 0222))
        fuse_reply_err(req, EACCES);
    else
        control_getattr(req, node);
}

void control_readlink(fuse_req_t req, fuse_ino_t node)
{
    if (is_local(node))
        control__local_readlink(req, node);
    else
        fuse_reply_err(req, EINVAL);
}

/* ---- Files --------------------------------------------------------------------------------------------------------------------- */

static size_t snapshot_bytes; /* FUSE loop only */

void control__reply_open(fuse_req_t req, struct fuse_file_info *fi, struct buf *content, bool writable)
{
    struct control_file *f = calloc(1, sizeof *f);

    if (!f || content->cap > CONTROL_SNAPSHOT_BYTES_MAX - snapshot_bytes) {
        free(f);
        buf_fini(content);
        fuse_reply_err(req, ENOMEM);
        return;
    }
    f->writable = writable;
    buf_move(&f->content, content);
    snapshot_bytes += f->content.cap;
    fi->fh = (uintptr_t)f;
    fi->direct_io = 1;
    if (fuse_reply_open(req, fi) == -ENOENT) { /* the caller is gone: no RELEASE will come */
        snapshot_bytes -= f->content.cap;
        buf_fini(&f->content);
        free(f);
    }
}

/* Replies: an open file; EACCES for writing where there is nothing to write; what the row's read says. */
void control_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct control_ref ref;
    struct buf content = {0};
    int access_mode = fi->flags & O_ACCMODE, err = 0;

    if (is_local(node)) {
        control__local_open(req, node, fi);
        return;
    }
    if (!control__ref(node, &ref)) {
        fuse_reply_err(req, ENOENT);
        return;
    }
    if ((access_mode != O_RDONLY || fi->flags & O_TRUNC) && (!ref.row || !ref.row->command || !(ref.mode & 0222))) {
        fuse_reply_err(req, EACCES); /* root gets here in spite of the mode */
        return;
    }
    if (access_mode != O_WRONLY)
        err = read_ref(fs_of(req), &ref, &content);
    if (err) {
        buf_fini(&content);
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    control__reply_open(req, fi, &content, access_mode != O_RDONLY);
}

void control__reply_bytes(fuse_req_t req, const struct buf *b, size_t size, off_t off)
{
    size_t at = off < 0 || (uint64_t)off > b->len ? b->len : (size_t)off;

    if (size > b->len - at)
        size = b->len - at;
    fuse_reply_buf(req, size ? (const char *)b->data + at : NULL, size);
}

void control_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
    const struct control_file *f = (const struct control_file *)(uintptr_t)fi->fh;

    (void)node;
    control__reply_bytes(req, &f->content, size, off);
}

void control_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
    const struct control_file *f = (const struct control_file *)(uintptr_t)fi->fh;
    struct control_ref ref;

    (void)off; /* offsets mean nothing */
    if (!f->writable || !control__ref(node, &ref))
        fuse_reply_err(req, EBADF);
    else
        control__write(req, &ref, data, size);
}

/* Close means nothing: a write has been answered already. */
void control_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    (void)node, (void)fi;
    fuse_reply_err(req, 0);
}

void control_fsync(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    (void)node, (void)fi;
    fuse_reply_err(req, 0);
}

void control_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct control_file *f = (struct control_file *)(uintptr_t)fi->fh;

    (void)node;
    snapshot_bytes -= f->content.cap;
    buf_fini(&f->content);
    free(f);
    fuse_reply_err(req, 0);
}

/* ---- Directories --------------------------------------------------------------------------------------------------------------- */

void control_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    if (is_local(node))
        control__local_opendir(req, node, fi);
    else
        fuse_reply_open(req, fi);
}

static size_t add_entry(fuse_req_t req, char *to, size_t room, const char *name, fuse_ino_t node, off_t next, bool plus)
{
    struct fuse_entry_param e;
    struct control_ref ref;

    if (is_local(node)) { /* the kernel asks for what readdir does not tell */
        memset(&e, 0, sizeof e);
        e.attr.st_ino = node;
        e.attr.st_mode = S_IFDIR;
    } else if (!plus || control__stat(fs_of(req), node, &e)) {
        memset(&e, 0, sizeof e);
        e.attr.st_ino = node;
        e.attr.st_mode = control__ref(node, &ref) ? ref.mode : 0;
    }
    return plus ? fuse_add_direntry_plus(req, to, room, name, &e, next) : fuse_add_direntry(req, to, room, name, &e.attr, next);
}

/* Offset 0 is ".", 1 is "..", i + 2 is entry i. */
void control_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
    char *page;
    size_t used = 0;

    if (is_local(node)) {
        control__local_readdir(req, node, size, off, fi, plus);
        return;
    }
    page = malloc(size);
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

void control_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    if (is_local(node))
        control__local_releasedir(req, fi);
    else
        fuse_reply_err(req, 0);
}

/* ---- What is not allowed ------------------------------------------------------------------------------------------------------ */

/* EROFS in local/; EPERM elsewhere; ENOENT in a directory that does not exist. */
void control_refuse(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct control_ref ref;

    (void)name;
    if (is_local(parent))
        fuse_reply_err(req, EROFS);
    else
        fuse_reply_err(req, control__ref(parent, &ref) ? EPERM : ENOENT);
}

void control_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    (void)mode;
    control_refuse(req, parent, name);
}

void control_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    control_refuse(req, parent, name);
}

/* ---- Extended attributes -------------------------------------------------------------------------------------------------------- */

/* Control files have none: ENODATA. A file of local/ has those of the file. */
void control_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
    if (is_local(node))
        xattrs_get(req, fs_number_of(node), name, size);
    else
        fuse_reply_err(req, ENODATA);
}

void control_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
    if (is_local(node))
        xattrs_list(req, fs_number_of(node), size);
    else if (size)
        fuse_reply_buf(req, NULL, 0);
    else
        fuse_reply_xattr(req, 0);
}

void control_setxattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
    (void)name;
    fuse_reply_err(req, is_local(node) ? EROFS : EPERM);
}
