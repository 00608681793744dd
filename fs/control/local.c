/* local/: the live tree as this member has it, read-only, served from the store without asking the cluster.
 *
 * A node is the inode's number in view FS_VIEW_LOCAL: nothing has to be remembered, and st_ino differs from the live tree's, so that
 * cp and diff do not take the two for one file. An open file is a snapshot of its content. An open directory lists one revision,
 * page by page. Every change is refused with EROFS. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/control/tree.h"
#include "fs/ops.h"
#include "fs/view.h"

enum { PAGE_NAMES = 256 }; /* names that an open directory keeps in memory */

static fuse_ino_t local_node(uint64_t ino)
{
    return fs_node(FS_VIEW_LOCAL, ino);
}

/* Attributes of an inode. 0 or QE_*. */
static int local_stat(struct fs *fs, uint64_t ino, struct fuse_entry_param *e)
{
    struct store_attr a;
    int err = store_getattr(fs->reader, STORE_HEAD, ino, &a);

    memset(e, 0, sizeof *e);
    if (err)
        return err;
    e->ino = local_node(ino);
    view_stat(&a, e->ino, &e->attr);
    return 0;
}

/* `name` NULL: the root of the view itself. Timeouts are 0: the tree changes under it. */
static void local_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs *fs = fs_of(req);
    struct fuse_entry_param e = {0};
    struct store_attr a;
    int err;

    if (!name) {
        err = local_stat(fs, STORE_ROOT_INO, &e);
    } else if (strlen(name) > STORE_NAME_MAX) {
        err = QE_NAMETOOLONG;
    } else {
        err = store_lookup(fs->reader, STORE_HEAD, fs_number_of(parent), name, strlen(name), &a);
        if (!err) {
            e.ino = local_node(a.ino);
            view_stat(&a, e.ino, &e.attr);
        }
    }
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_entry(req, &e);
}

static void local_getattr(fuse_req_t req, fuse_ino_t node)
{
    struct fuse_entry_param e;
    int err = local_stat(fs_of(req), fs_number_of(node), &e);

    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_attr(req, &e.attr, 0);
}

static void local_readlink(fuse_req_t req, fuse_ino_t node)
{
    struct buf target = {0};
    int err = store_content(fs_of(req)->reader, STORE_HEAD, fs_number_of(node), &target, NULL);

    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_readlink(req, buf_cstr(&target));
    buf_fini(&target);
}

static void local_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct buf content = {0};
    int err;

    if ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC) {
        fuse_reply_err(req, EROFS);
        return;
    }
    err = store_content(fs_of(req)->reader, STORE_HEAD, fs_number_of(node), &content, NULL);
    if (!err) {
        control__reply_open(req, fi, &content, false);
        return;
    }
    buf_fini(&content);
    fuse_reply_err(req, fs_errno(err));
}

/* ---- Directories --------------------------------------------------------------------------------------------------------------- */

/* Offset 0 is ".", 1 is "..", n + 2 is the n-th name in byte order. Names are read in pages, all as of one revision. */
struct local_dir {
    int64_t rev;
    uint64_t ino;
    uint64_t first;  /* the number of names[0] among all names */
    size_t n;        /* names in the page */
    bool end;        /* the page is the last one */
    struct local_name {
        uint64_t ino;
        size_t off; /* in text, NUL-terminated */
        size_t len;
    } names[PAGE_NAMES];
    struct buf text; /* the names of the page */
    bool failed;     /* out of memory while a page was read */
};

static void local_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    struct local_dir *d = calloc(1, sizeof *d);
    struct store_attr a;
    int err = d ? store_read_begin(fs->reader, &d->rev) : QE_NOMEM;

    if (!err) {
        err = store_getattr(fs->reader, STORE_HEAD, fs_number_of(node), &a);
        store_read_end(fs->reader);
    }
    if (!err && !S_ISDIR(a.mode))
        err = QE_NOTDIR;
    if (err) {
        free(d);
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    d->ino = fs_number_of(node);
    fi->fh = (uintptr_t)d;
    if (fuse_reply_open(req, fi) == -ENOENT) /* the caller is gone: no RELEASEDIR will come */
        free(d);
}

static bool page_add(void *data, const void *name, size_t len, uint64_t ino)
{
    struct local_dir *d = data;
    struct local_name *to = &d->names[d->n];

    if (d->n == PAGE_NAMES)
        return false;
    *to = (struct local_name){ino, d->text.len, len};
    if (buf_append(&d->text, name, len) || buf_append(&d->text, "", 1)) {
        d->failed = true;
        return false;
    }
    d->n++;
    return true;
}

/* Makes the page hold name number `i`, or be the last one. Pages are read forward; going back starts again from the first. */
static int page_load(struct fs *fs, struct local_dir *d, uint64_t i)
{
    int err = 0;

    if (i < d->first)
        d->first = d->n = d->end = 0;
    while (!err && !d->end && i >= d->first + d->n) {
        const struct local_name last = d->n ? d->names[d->n - 1] : (struct local_name){0};
        char after[STORE_NAME_MAX + 1];

        memcpy(after, last.len ? (const char *)d->text.data + last.off : "", last.len);
        d->first += d->n;
        d->n = 0;
        buf_clear(&d->text);
        err = store_list(fs->reader, d->rev, d->ino, after, last.len, page_add, d);
        if (!err && d->failed)
            err = QE_NOMEM;
        d->failed = false;
        d->end = d->n < PAGE_NAMES;
    }
    return err;
}

static size_t add_name(fuse_req_t req, char *to, size_t room, const char *name, uint64_t ino, off_t next, bool plus)
{
    static const mode_t types[] = {[STORE_FILE] = S_IFREG, [STORE_DIR] = S_IFDIR, [STORE_SYMLINK] = S_IFLNK, [3] = 0};
    struct fuse_entry_param e = {.attr = {.st_ino = local_node(ino), .st_mode = types[ino & 3]}};
    struct fuse_entry_param full;

    if (!plus)
        return fuse_add_direntry(req, to, room, name, &e.attr, next);
    /* A name that is gone by now is still listed, as of the directory's revision, but without attributes. */
    if (strcmp(name, ".") && strcmp(name, "..") && !local_stat(fs_of(req), ino, &full))
        e = full;
    return fuse_add_direntry_plus(req, to, room, name, &e, next);
}

static void local_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
    struct local_dir *d = (struct local_dir *)(uintptr_t)fi->fh;
    char *page = malloc(size);
    size_t used = 0, n;
    int err = page ? 0 : QE_NOMEM;

    (void)node;
    for (; !err; off++) {
        const char *name = off ? ".." : ".";
        uint64_t ino = d->ino, i = (uint64_t)off - 2;

        if (off >= 2) {
            err = page_load(fs_of(req), d, i);
            if (err || i >= d->first + d->n)
                break;
            ino = d->names[i - d->first].ino;
            name = (const char *)d->text.data + d->names[i - d->first].off;
        }
        n = add_name(req, page + used, size - used, name, ino, off + 1, plus);
        if (n > size - used)
            break;
        used += n;
    }
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_buf(req, page, used);
    free(page);
}

static void local_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct local_dir *d = (struct local_dir *)(uintptr_t)fi->fh;

    (void)node;
    buf_fini(&d->text);
    free(d);
    fuse_reply_err(req, 0);
}

/* ---- Extended attributes: those of the file ------------------------------------------------------------------------------------ */

static void local_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
    xattrs_get_at(req, STORE_HEAD, fs_number_of(node), name, size);
}

static void local_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
    xattrs_list_at(req, STORE_HEAD, fs_number_of(node), size);
}

const struct control_view control__local_view = {
    .refusal = EROFS,
    .lookup = local_lookup,
    .getattr = local_getattr,
    .readlink = local_readlink,
    .open = local_open,
    .opendir = local_opendir,
    .readdir = local_readdir,
    .releasedir = local_releasedir,
    .getxattr = local_getxattr,
    .listxattr = local_listxattr,
};
