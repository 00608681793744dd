/* Directory handles: each lists the names of one moment, read whole at opendir and again at rewinddir. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/content.h"
#include "fs/control/control.h"
#include "fs/ops.h"
#include "fs/proc.h"

struct dir_name {
    uint64_t node;
    size_t at; /* of the name in `names`, NUL-terminated */
};

struct dir {
    struct fs *fs;
    uid_t uid;
    uint64_t node, parent;
    struct buf names;
    struct buf list; /* of struct dir_name */
    int err;         /* while listing */
    bool fresh;      /* nothing of this listing was read yet */
    size_t counted;  /* as content */
};

static bool dir_add(void *data, const void *name, size_t len, uint64_t ino)
{
    struct dir *d = data;
    struct dir_name n = {.node = ino, .at = d->names.len};

    d->err = buf_append(&d->names, name, len);
    if (!d->err)
        d->err = buf_append(&d->names, "", 1);
    if (!d->err)
        d->err = buf_append(&d->list, &n, sizeof n);
    return !d->err;
}

/* The names that the caller's session is about to make. */
static void dir_add_pending(struct fs *fs, struct dir *d, pid_t tid)
{
    struct store_attr attr;
    pid_t session;

    if (!fs->inodes->creations)
        return;
    session = proc_session(tid);
    for (struct creation *c = fs->inodes->creations; c; c = c->next)
        if (c->parent == d->node && c->session == session &&
            store_lookup(fs->reader, STORE_HEAD, d->node, c->name, c->name_len, &attr) == QE_NOENT)
            dir_add(d, c->name, c->name_len, c->in->node);
}

static int dir_list(struct fs *fs, struct dir *d, pid_t tid)
{
    struct store_attr attr;
    int err;

    buf_clear(&d->names);
    buf_clear(&d->list);
    d->err = 0;
    err = store_read_begin(fs->reader, NULL);
    if (err)
        return err;
    err = store_getattr(fs->reader, STORE_HEAD, d->node, &attr);
    d->parent = !err && attr.parent ? attr.parent : d->node;
    dir_add(d, ".", 1, d->node);
    dir_add(d, "..", 2, d->parent);
    if (!err)
        err = store_list(fs->reader, STORE_HEAD, d->node, NULL, 0, dir_add, d);
    store_read_end(fs->reader);
    if (d->node == STORE_ROOT_INO && fs->opt->show_control)
        dir_add(d, ".quorum", 7, FS_CONTROL_ROOT);
    if (!err)
        dir_add_pending(fs, d, tid);
    d->fresh = true;
    err = err ? err : d->err;
    if (!err && d->names.cap + d->list.cap > d->counted)
        err = content_admit(fs, d->names.cap + d->list.cap - d->counted, d->uid);
    content_count(fs, d->names.cap + d->list.cap, &d->counted);
    return err;
}

static void dir_free(struct dir *d)
{
    buf_fini(&d->names);
    buf_fini(&d->list);
    content_count(d->fs, 0, &d->counted);
    free(d);
}

void dir_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    struct dir *d = calloc(1, sizeof *d);
    int err = QE_NOMEM;

    if (d) {
        d->fs = fs;
        d->uid = fuse_req_ctx(req)->uid;
        d->node = node;
        err = dir_list(fs, d, fuse_req_ctx(req)->pid);
    }
    if (err) {
        if (d)
            dir_free(d);
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    fi->fh = (uint64_t)(uintptr_t)d;
    if (fuse_reply_open(req, fi) == -ENOENT)
        dir_free(d);
}

bool dir_is_fresh(const struct fuse_file_info *fi)
{
    const struct dir *d = (const struct dir *)(uintptr_t)fi->fh;

    return d->fresh;
}

static mode_t dir_type(uint64_t node)
{
    if (fs_view_of(node) != FS_VIEW_LIVE)
        return S_IFDIR;
    switch (store_ino_kind(node)) {
    case STORE_DIR: return S_IFDIR;
    case STORE_SYMLINK: return S_IFLNK;
    default: return S_IFREG;
    }
}

void dir_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct dir *d = (struct dir *)(uintptr_t)fi->fh;
    size_t used = 0, n;
    char *out;
    int err = 0;

    (void)node;
    if (off == 0 && !d->fresh)
        err = dir_list(fs_of(req), d, fuse_req_ctx(req)->pid); /* rewinddir shows what is there now */
    d->fresh = false;
    out = err ? NULL : malloc(size);
    if (!out) {
        fuse_reply_err(req, fs_errno(err ? err : QE_NOMEM));
        return;
    }
    n = d->list.len / sizeof(struct dir_name);
    for (size_t i = (size_t)off; i < n; i++) {
        const struct dir_name *e = (const struct dir_name *)(const void *)d->list.data + i;
        struct stat st = {.st_ino = e->node, .st_mode = dir_type(e->node)};
        size_t need = fuse_add_direntry(req, out + used, size - used, (const char *)d->names.data + e->at, &st, (off_t)i + 1);

        if (need > size - used)
            break;
        used += need;
    }
    fuse_reply_buf(req, out, used);
    free(out);
}

void dir_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    (void)node;
    dir_free((struct dir *)(uintptr_t)fi->fh);
    fuse_reply_err(req, 0);
}
