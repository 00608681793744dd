/* What a worker of the replayer sees: the tree as it was before the change that it carries out, and as it is after its call has
 * been answered. The kernel, which asks on the worker's behalf, compares that with what it keeps, drops what does not fit, and does
 * the real operation on the inodes that it has: that makes the events. The store is not changed by any of it. A control file is what it is
 * for everybody.
 *
 * Names are given for this moment only (timeouts 0). Attributes are the true ones, because the kernel keeps them for everybody;
 * but for a deleted node, which keeps a link until its deletion is told: the event of a watched file comes with its last link. The size of
 * a file with edits is what their session was told: the kernel counts from there where an append ends. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/control/control.h"
#include "fs/handle.h"
#include "fs/inode.h"
#include "fs/replay_parts.h"
#include "fs/view.h"

bool replay_is_worker(fuse_req_t req)
{
    struct fs *fs = fs_of(req);

    return fs->replay && replay__frame_of(fs->replay, fuse_req_ctx(req)->pid);
}

static struct replay_frame *frame_of(fuse_req_t req)
{
    return replay__frame_of(fs_of(req)->replay, fuse_req_ctx(req)->pid);
}

static const char *binding_name(const struct replay_frame *f, const struct replay_binding *b)
{
    return (const char *)f->names.data + b->at;
}

/* The binding of a name among the first `n`, or NULL: nothing that the order is about. */
static const struct replay_binding *find(const struct replay_frame *f, size_t n, uint64_t dir, const char *name)
{
    const struct replay_binding *list = (const struct replay_binding *)(const void *)f->list.data;

    for (size_t i = 0; f->item && i < n; i++)
        if (list[i].dir == dir && !strcmp(binding_name(f, &list[i]), name))
            return &list[i];
    return NULL;
}

static uint32_t type_of(uint64_t ino)
{
    switch (store_ino_kind(ino)) {
    case STORE_DIR: return S_IFDIR;
    case STORE_SYMLINK: return S_IFLNK;
    case STORE_FILE: break;
    }
    return S_IFREG;
}

/* Attributes as they are; of a deleted node as they were last, or, when nobody knows any more, such that only root may use them. */
static void attr_of_node(struct fs *fs, const struct replay_frame *f, uint64_t ino, struct store_attr *out)
{
    const struct inode *in = inode_find(fs, ino);
    int err = store_getattr(fs->reader, STORE_HEAD, ino, out);

    if (err && f->item && f->item->rev > 1) {
        err = store_getattr(fs->reader, f->item->rev, ino, out);
        if (err)
            err = store_getattr(fs->reader, f->item->rev - 1, ino, out);
    }
    if (err && in && in->kept) {
        *out = *in->kept;
        err = 0;
    }
    if (err)
        *out = (struct store_attr){.mode = type_of(ino), .uid = fs->owner_uid, .gid = fs->owner_gid};
    out->ino = ino;
    if (out->nlink == 0)
        out->nlink = 1;
    for (const struct handle *h = in ? in->handles : NULL; h; h = h->next)
        if ((h->dirty || h->in_flight) && !h->released)
            out->size = h->size;
}

/* An entry for a reply; the lookup count goes up. 0 or an errno. */
static int entry(struct fs *fs, const struct replay_frame *f, uint64_t ino, struct fuse_entry_param *e)
{
    struct inode *in = inode_add(fs, ino);
    struct store_attr attr;

    if (!in)
        return ENOMEM;
    memset(e, 0, sizeof *e);
    attr_of_node(fs, f, ino, &attr);
    e->ino = ino;
    view_stat(&attr, ino, &e->attr);
    inode_remember_worker(in);
    return 0;
}

static void reply_entry(fuse_req_t req, const struct replay_frame *f, uint64_t ino)
{
    struct fs *fs = fs_of(req);
    struct fuse_entry_param e;
    int error = entry(fs, f, ino, &e);

    if (error)
        fuse_reply_err(req, error);
    else if (fuse_reply_entry(req, &e) == -ENOENT)
        inode_forget(fs, ino, 1);
}

/* A content is told under the name that the kernel has for it: a local rename since the plan was made would bring the old one back. */
static bool moved_away(struct replay *r, const struct replay_frame *f, const struct replay_binding *b)
{
    return (f->kind == REPLAY_CONTENT || f->kind == REPLAY_ATTRIB) && find(f, f->n_own, b->dir, binding_name(f, b)) == b &&
           replay__overtaken(r, b->dir, binding_name(f, b), f->planned);
}

void replay_view_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    const struct replay_frame *f = frame_of(req);
    const struct replay_binding *b = find(f, f->n, parent, name);
    uint64_t ino = !b ? 0 : f->done ? b->after : b->before;

    if (ino && control_owns(ino))
        control_reply_entry(req, parent, name);
    else if (ino && !moved_away(fs_of(req)->replay, f, b))
        reply_entry(req, f, ino);
    else
        fuse_reply_err(req, ENOENT);
}

static void reply_attr(fuse_req_t req, fuse_ino_t node)
{
    struct store_attr attr;
    struct stat st;

    attr_of_node(fs_of(req), frame_of(req), node, &attr);
    view_stat(&attr, node, &st);
    fuse_reply_attr(req, &st, 0); /* a stat of somebody else asks by itself, behind a barrier */
}

void replay_view_getattr(fuse_req_t req, fuse_ino_t node)
{
    if (control_owns(node))
        control_getattr(req, node);
    else
        reply_attr(req, node);
}

/* Nothing is set: it has been. */
void replay_view_setattr(fuse_req_t req, fuse_ino_t node)
{
    const struct replay_frame *f = frame_of(req);

    if (!f->item)
        fuse_reply_err(req, ECANCELED);
    else
        reply_attr(req, node);
}

/* The number of a control file depends on which others the kernel knows; its name has been looked up. */
static bool is_ordered(const struct replay_frame *f, fuse_ino_t node)
{
    return f->ino == node || (control_owns(node) && fs_view_of(f->ino) == fs_view_of(node));
}

void replay_view_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    const struct replay_frame *f = frame_of(req);

    if (f->kind != REPLAY_CONTENT || !f->item || !is_ordered(f, node)) {
        fuse_reply_err(req, ECANCELED);
        return;
    }
    fi->fh = REPLAY_FH;
    fi->direct_io = 1; /* the byte that is written comes here at once, and into no page */
    fi->noflush = 1;
    fuse_reply_open(req, fi);
}

/* Whether the order's call takes a name away. */
static bool takes_away(const struct replay_frame *f)
{
    return f->kind == REPLAY_UNLINK || f->kind == REPLAY_RMDIR || f->kind == REPLAY_RENAME;
}

/* Whether this is the order's own call, and no local operation has told of its names since, or is making a file of the name that goes. Its
 * directories are locked in the kernel now, so none can before the event. */
static bool begin(fuse_req_t req, struct replay_frame *f, uint64_t dir, const char *name)
{
    struct replay *r = fs_of(req)->replay;
    const struct replay_binding *b = find(f, f->n_own, dir, name);

    if (!b || f->done || replay__overtaken(r, dir, name, f->item->rev) || (takes_away(f) && replay__in_the_making(r, dir, name))) {
        fuse_reply_err(req, ECANCELED);
        return false;
    }
    f->done = f->item->done = true;
    return true;
}

void replay_view_create(fuse_req_t req, fuse_ino_t parent, const char *name, struct fuse_file_info *fi)
{
    struct replay_frame *f = frame_of(req);
    struct fuse_entry_param e;
    int error;

    if (f->kind != REPLAY_FILE || !begin(req, f, parent, name)) {
        if (f->kind != REPLAY_FILE)
            fuse_reply_err(req, ECANCELED);
        return;
    }
    fi->fh = REPLAY_FH;
    fi->direct_io = 1;
    fi->noflush = 1;
    error = entry(fs_of(req), f, f->ino, &e);
    if (error)
        fuse_reply_err(req, error);
    else if (fuse_reply_create(req, &e, fi) == -ENOENT)
        inode_forget(fs_of(req), f->ino, 1);
}

void replay_view_make(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct replay_frame *f = frame_of(req);

    if (f->kind != REPLAY_NAME && f->kind != REPLAY_MKDIR && f->kind != REPLAY_SYMLINK)
        fuse_reply_err(req, ECANCELED);
    else if (begin(req, f, parent, name))
        reply_entry(req, f, f->ino);
}

void replay_view_remove(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct replay_frame *f = frame_of(req);

    if (f->kind != REPLAY_UNLINK && f->kind != REPLAY_RMDIR)
        fuse_reply_err(req, ECANCELED);
    else if (begin(req, f, parent, name))
        fuse_reply_err(req, 0);
}

void replay_view_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t parent2, const char *name2)
{
    struct replay_frame *f = frame_of(req);

    if ((f->kind != REPLAY_RENAME && f->kind != REPLAY_EXCHANGE) || !find(f, f->n_own, parent2, name2) ||
        replay__overtaken(fs_of(req)->replay, parent2, name2, f->item->rev))
        fuse_reply_err(req, ECANCELED);
    else if (begin(req, f, parent, name))
        fuse_reply_err(req, 0);
}
