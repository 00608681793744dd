#include "fs/control/listing.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fs/control/tree.h"

struct listing_name {
    fuse_ino_t node;
    size_t at; /* in `names` */
    mode_t type;
};

int listing_add(struct listing *l, const void *name, size_t len, fuse_ino_t node, mode_t type)
{
    struct listing_name n = {.node = node, .at = l->names.len, .type = type};
    int err = buf_append(&l->names, name, len);

    if (!err)
        err = buf_append(&l->names, "", 1);
    return err ? err : buf_append(&l->list, &n, sizeof n);
}

struct listing *listing_new(fuse_ino_t node, fuse_ino_t parent)
{
    struct listing *l = calloc(1, sizeof *l);

    if (l && !listing_add(l, ".", 1, node, S_IFDIR) && !listing_add(l, "..", 2, parent, S_IFDIR))
        return l;
    listing_free(l);
    return NULL;
}

void listing_free(struct listing *l)
{
    if (!l)
        return;
    control__snapshot_drop(l->uid, l->counted);
    buf_fini(&l->names);
    buf_fini(&l->list);
    free(l);
}

void listing_reply_open(fuse_req_t req, struct fuse_file_info *fi, struct listing *l, bool keep)
{
    size_t bytes = l->names.cap + l->list.cap;

    l->uid = fuse_req_ctx(req)->uid;
    if (control__snapshot_add(l->uid, bytes)) {
        listing_free(l);
        fuse_reply_err(req, ENOMEM);
        return;
    }
    l->counted = bytes;
    fi->fh = (uintptr_t)l;
    fi->cache_readdir = fi->keep_cache = keep;
    if (fuse_reply_open(req, fi) == -ENOENT) /* the caller is gone: no RELEASEDIR will come */
        listing_free(l);
}

void listing_settle(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct listing_job *job = data;

    (void)fs, (void)rev, (void)ino;
    if (req && !err) {
        listing_reply_open(req, &job->fi, job->out, job->keep);
        job->out = NULL;
    } else if (req) {
        fuse_reply_err(req, fs_errno(err));
    }
    listing_free(job->out);
    free(job);
}

void listing_start(fuse_req_t req, fuse_ino_t node, fuse_ino_t parent, const struct fuse_file_info *fi, work_run_cb run, struct listing_job *job)
{
    if (job)
        job->out = listing_new(node, parent);
    if (!job || !job->out) {
        free(job);
        fuse_reply_err(req, ENOMEM);
        return;
    }
    job->fi = *fi;
    work_start(fs_of(req), run, &(struct pending_call){.req = req, .settle = listing_settle, .data = job});
}

/* Offset i is behind name i - 1. */
void listing_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
    const struct listing *l = (const struct listing *)(uintptr_t)fi->fh;
    size_t n = l->list.len / sizeof(struct listing_name), used = 0;
    char *page = malloc(size);

    (void)node, (void)plus; /* attributes are not told: the kernel would count lookups */
    if (!page) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    for (size_t i = off < 0 ? n : (size_t)off; i < n; i++) {
        const struct listing_name *e = (const struct listing_name *)(const void *)l->list.data + i;
        struct stat st = {.st_ino = e->node, .st_mode = e->type};
        size_t need = fuse_add_direntry(req, page + used, size - used, (const char *)l->names.data + e->at, &st, (off_t)i + 1);

        if (need > size - used)
            break;
        used += need;
    }
    fuse_reply_buf(req, page, used);
    free(page);
}

void listing_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    (void)node;
    listing_free((struct listing *)(uintptr_t)fi->fh);
    fuse_reply_err(req, 0);
}

void listing_open_empty(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct listing *l = listing_new(node, node);

    if (l)
        listing_reply_open(req, fi, l, false);
    else
        fuse_reply_err(req, ENOMEM);
}
