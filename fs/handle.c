#include "fs/handle.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fs/proc.h"
#include "store/base/clock.h"

struct handle *handle_new(struct fs *fs, struct inode *in, int flags, const struct fuse_ctx *ctx)
{
    struct handle *h = calloc(1, sizeof *h);

    if (!h)
        return NULL;
    h->fs = fs;
    h->in = in;
    h->refs = 1;
    h->readable = (flags & O_ACCMODE) != O_WRONLY;
    h->writable = (flags & O_ACCMODE) != O_RDONLY;
    h->append = flags & O_APPEND;
    h->sync = flags & O_DSYNC; /* a bit of O_SYNC */
    h->uid = ctx->uid;
    h->tid = ctx->pid;
    if (h->writable)
        handle_opener(h, ctx->pid);
    h->next = in->handles;
    if (h->next)
        h->next->prev = h;
    in->handles = h;
    atomic_fetch_add(&fs->n_open, 1);
    return h;
}

void handle_opener(struct handle *h, pid_t tid)
{
    struct proc_info info = {.tgid = tid > 0 ? tid : 0, .session = PROC_NO_SESSION};

    proc_info(tid, &info);
    h->tgid = info.tgid;
    h->session = info.session;
}

void handle_ref(struct handle *h)
{
    h->refs++;
}

/* Called after `view` changed. */
static void count_view(struct handle *h)
{
    content_count(h->fs, h->view.cap, &h->view_counted);
}

static void drop_view(struct handle *h)
{
    buf_fini(&h->view);
    h->has_view = false;
    count_view(h);
}

/* Whether there is room for a view of that size. */
static int view_admit(const struct handle *h, size_t size)
{
    return size > h->view_counted ? content_admit(h->fs, size - h->view_counted, h->uid) : 0;
}

void handle_unref(struct handle *h)
{
    struct inode *in = h->in;

    if (--h->refs)
        return;
    handle_drop_edits(h);
    content_unref(h->base);
    content_unref(h->paged);
    drop_view(h);
    if (h->poll)
        fuse_pollhandle_destroy(h->poll);
    if (h->next)
        h->next->prev = h->prev;
    if (h->prev)
        h->prev->next = h->next;
    else
        in->handles = h->next;
    atomic_fetch_sub(&h->fs->n_open, 1);
    inode_unused(h->fs, in);
    free(h);
}

int handle_admit(struct fs *fs, uid_t uid)
{
    const struct dirty_count *d;

    HASH_FIND(hh, fs->inodes->dirty, &uid, sizeof uid, d);
    return d && d->n >= HANDLE_DIRTY_PER_UID ? QE_MFILE : 0;
}

/* Whether so much more may be kept for the user: 0 or QE_NOMEM. */
static int dirty_room(const struct fs *fs, uid_t uid, size_t size)
{
    const struct dirty_count *d;

    if (atomic_load(&fs->dirty_bytes) + (int64_t)size > HANDLE_DIRTY_BYTES_MAX)
        return QE_NOMEM;
    HASH_FIND(hh, fs->inodes->dirty, &uid, sizeof uid, d);
    return uid != 0 && d && d->bytes + (int64_t)size > HANDLE_DIRTY_BYTES_MAX / 2 ? QE_NOMEM : 0;
}

static void dirty_change(struct inode_table *t, uid_t uid, int files, int64_t bytes)
{
    struct dirty_count *d;

    HASH_FIND(hh, t->dirty, &uid, sizeof uid, d);
    if (!d) {
        d = files > 0 ? calloc(1, sizeof *d) : NULL;
        if (!d)
            return; /* out of memory: not counted, and not missed when it goes */
        d->uid = uid;
        HASH_ADD(hh, t->dirty, uid, sizeof d->uid, d);
    }
    d->n += (size_t)files;
    d->bytes += bytes;
    if (d->n == 0) {
        HASH_DEL(t->dirty, d);
        free(d);
    }
}

void handle_count(struct handle *h, size_t bytes_before, bool dirty_before)
{
    int64_t bytes = (int64_t)edits_cost(&h->edits) - (int64_t)bytes_before;
    int files = h->dirty - dirty_before;

    atomic_fetch_add(&h->fs->dirty_bytes, bytes);
    atomic_fetch_add(&h->fs->n_dirty, (uint64_t)files);
    if (files || bytes)
        dirty_change(h->fs->inodes, h->uid, files, bytes);
}

void handle_give_edits(struct handle *h, struct edits *out)
{
    size_t bytes = edits_cost(&h->edits);
    bool dirty = h->dirty;

    *out = h->edits;
    h->edits = (struct edits){0};
    h->dirty = h->wrote = h->has_mtime = h->kills_priv = false;
    handle_count(h, bytes, dirty);
}

void handle_drop_edits(struct handle *h)
{
    struct edits edits;

    handle_give_edits(h, &edits);
    edits_fini(&edits);
}

void handle_fail(struct handle *h, int err)
{
    if ((!h->in->creation || h->in->creating) && !edits_are_whole(&h->edits))
        return;
    handle_drop_edits(h);
    h->has_view = false;
    h->failed = err;
}

int handle_load(struct handle *h)
{
    struct store_attr attr;
    int err;

    if (h->readable)
        err = content_load(h->fs, h->in, h->uid, &h->base, &attr);
    else
        err = store_getattr(h->fs->reader, STORE_HEAD, h->in->ino, &attr);
    if (err == QE_NOENT && h->readable) /* as on any disk, who has found a name can open the file */
        err = content_load_deleted(h->fs, h->in, h->uid, &h->base, &attr);
    else if (err == QE_NOENT)
        err = content_deleted_at(h->fs, h->in->ino, &attr) ? 0 : QE_NOENT;
    if (err)
        return err;
    h->size = h->store_size = attr.size;
    inode_keep(h->in, &attr);
    return 0;
}

int handle_advance(struct handle *h)
{
    struct content *c;
    struct store_attr attr;
    int err;

    if (inode_pending(h->fs, h->in) || h->in->gone)
        return 0;
    c = NULL;
    err = h->readable ? content_load(h->fs, h->in, h->uid, &c, &attr) : store_getattr(h->fs->reader, STORE_HEAD, h->in->ino, &attr);
    if (err == QE_NOENT) { /* deleted: what it had is all there is */
        h->base_old = false;
        return 0;
    }
    if (err)
        return err;
    content_unref(h->base);
    h->base = c;
    h->base_old = false;
    drop_view(h);
    h->size = h->store_size = attr.size;
    return 0;
}

/* Makes `view` from base and edits. */
static int handle_make_view(struct handle *h)
{
    int err;

    if (h->has_view)
        return 0;
    buf_clear(&h->view);
    err = h->base ? view_admit(h, h->base->bytes.len) : 0;
    if (!err && h->base)
        err = buf_append(&h->view, h->base->bytes.data, h->base->bytes.len);
    if (!err)
        err = edits_apply(&h->edits, &h->view);
    h->has_view = !err;
    count_view(h);
    return err;
}

/* Before a clean handle gets edits: it begins with the newest content if it was to be moved there. */
static int handle_first_edit(struct handle *h)
{
    int err = handle_admit(h->fs, h->uid);

    return !err && h->base_old && !h->in_flight ? handle_advance(h) : err;
}

/* The growth that the coming commit brings must fit the quota, and the size max-value: shells hide errors of close. */
static int handle_check_size(struct handle *h, int64_t size)
{
    struct store_glance g;

    if (size <= h->size && size <= h->store_size)
        return 0;
    replica_glance(h->fs->replica, &g);
    if (size > g.max_value)
        return QE_FBIG;
    if (size > h->store_size && g.live_bytes + (size - h->store_size) > g.quota)
        return QE_NOSPC;
    return 0;
}

int handle_write(struct handle *h, const void *data, size_t size, off_t off, bool paged)
{
    bool append = h->append && !paged, dirty;
    size_t bytes;
    int64_t end;
    int err;

    if (size == 0)
        return 0;
    err = h->truncates ? handle_truncate(h, 0) : 0;
    if (err)
        return err;
    bytes = edits_cost(&h->edits);
    dirty = h->dirty;
    err = h->dirty ? 0 : handle_first_edit(h);
    end = append ? h->size + (int64_t)size : (int64_t)off + (int64_t)size;
    if (end < h->size)
        end = h->size;
    if (!err)
        err = dirty_room(h->fs, h->uid, size);
    if (!err)
        err = handle_check_size(h, end);
    if (!err && h->readable)
        err = view_admit(h, (size_t)end);
    if (!err && h->readable)
        err = handle_make_view(h); /* kept up to date from here on */
    if (!err)
        err = append ? edits_append(&h->edits, data, size) : edits_write(&h->edits, (uint64_t)off, data, size);
    if (err)
        return err;
    if (h->has_view && (append ? buf_append(&h->view, data, size) : buf_write_at(&h->view, (size_t)off, data, size)))
        h->has_view = false; /* out of memory: made again when it is needed */
    count_view(h);
    if (!paged) { /* an explicit time that was set before is overtaken */
        h->has_mtime = false;
        if (h->in->creation)
            h->in->creation->has_mtime = false;
    }
    h->size = end;
    h->dirty = h->wrote = true;
    h->kills_priv = h->uid != 0;
    h->written_ns = clock_boottime_ns();
    handle_count(h, bytes, dirty);
    return 0;
}

int handle_truncate(struct handle *h, int64_t size)
{
    int err = h->truncates && size > 0 ? handle_truncate(h, 0) : 0; /* what was left to do by open comes first */
    size_t bytes = edits_cost(&h->edits);
    bool dirty = h->dirty;

    if (!err && !h->dirty)
        err = handle_first_edit(h);
    if (!err)
        err = handle_check_size(h, size);
    if (!err && h->readable)
        err = view_admit(h, (size_t)size);
    if (!err && h->readable && size > 0)
        err = handle_make_view(h);
    if (!err)
        err = edits_truncate(&h->edits, (uint64_t)size);
    if (err)
        return err;
    if (size == 0) { /* the view of nothing needs no base */
        buf_clear(&h->view);
        h->has_view = h->readable;
    } else if (h->has_view && buf_resize(&h->view, (size_t)size)) {
        h->has_view = false;
    }
    count_view(h);
    h->size = size;
    h->dirty = true;
    h->truncates = false;
    h->kills_priv = h->uid != 0;
    if (size == 0)
        h->failed = h->broken = 0;
    h->written_ns = clock_boottime_ns();
    handle_count(h, bytes, dirty);
    return 0;
}

/* An open file of the session that `is` so. PROC_ANY_SESSION: that of `tid`, which is looked up when some open file is so, and is in `session` then. */
static struct handle *handle_of_session(const struct inode *in, bool (*is)(const struct handle *h), pid_t tid, pid_t *session)
{
    for (struct handle *h = in->handles; h; h = h->next) {
        if (!is(h) || h->released)
            continue;
        if (*session == PROC_ANY_SESSION)
            *session = proc_session(tid);
        if (h->session == *session)
            return h;
    }
    return NULL;
}

/* What it shows. */
static const struct buf *handle_shown(const struct handle *h)
{
    return h->has_view || !h->base ? &h->view : &h->base->bytes;
}

static bool begins_with(const struct buf *b, const struct buf *begin)
{
    return b->len >= begin->len && (begin->len == 0 || !memcmp(b->data, begin->data, begin->len));
}

/* ---- Files in the making: a program reads its temporary file again by name, or hands the name to another one ---- */

static bool is_maker(const struct handle *h)
{
    return h->makes;
}

/* Shows what the maker has written, if that is more than `begin` and begins with it; else it stays a snapshot. `base` is the newest content, or
 * there is none yet: then what is on its way to the store is a part of it. */
static int handle_show_made(struct handle *h, const struct buf *begin)
{
    pid_t session = h->session;
    const struct handle *m = handle_of_session(h->in, is_maker, 0, &session);
    const struct edits *coming = h->base ? NULL : h->in->creating; /* a base has them */
    struct buf now = {0};
    int err;

    if (!m || (!m->edits.n && !coming) || m->size <= (int64_t)begin->len)
        return 0;
    err = view_admit(h, (size_t)m->size);
    if (!err && h->base)
        err = buf_append(&now, h->base->bytes.data, h->base->bytes.len);
    if (!err && coming)
        err = edits_apply(coming, &now);
    if (!err)
        err = edits_apply(&m->edits, &now);
    h->peeks = err || begins_with(&now, begin);
    if (!err && h->peeks) {
        buf_move(&h->view, &now);
        h->has_view = true;
        count_view(h);
    }
    buf_fini(&now);
    return err;
}

int handle_peek(struct handle *h, pid_t tid)
{
    pid_t session = PROC_ANY_SESSION;

    if (!handle_of_session(h->in, is_maker, tid, &session))
        return 0;
    h->peeks = true;
    h->session = session;
    return handle_show_made(h, &(struct buf){0});
}

/* Reading at the end goes on with what has been appended since, if the newer content begins with the old one. */
static int handle_follow(struct handle *h)
{
    struct content *c;
    struct store_attr attr;
    int err;

    if (h->dirty || h->base_old || !h->readable)
        return 0;
    if (inode_pending(h->fs, h->in))
        return h->peeks ? handle_show_made(h, handle_shown(h)) : 0;
    err = content_load(h->fs, h->in, h->uid, &c, &attr);
    if (err)
        return err == QE_NOENT ? 0 : err;
    if (c != h->base && begins_with(&c->bytes, handle_shown(h))) {
        struct content *old = h->base;

        h->base = c;
        c = old;
        drop_view(h);
        h->size = h->store_size = attr.size;
    }
    err = h->peeks && h->base == h->in->content ? handle_show_made(h, handle_shown(h)) : 0;
    content_unref(c);
    return err;
}

static void handle_slice(const struct buf *b, size_t size, off_t off, const void **data, size_t *len)
{
    size_t have = (uint64_t)off < b->len ? b->len - (size_t)off : 0;

    *len = have < size ? have : size;
    *data = *len ? b->data + off : NULL;
}

int handle_read_page(struct handle *h, size_t size, off_t off, const void **data, size_t *len)
{
    struct content *c;
    struct store_attr attr;
    int err = QE_NOENT;

    if (!h->dirty && !(h->peeks && h->has_view) && !inode_pending(h->fs, h->in))
        err = content_load(h->fs, h->in, h->uid, &c, &attr);
    if (err) /* its own edits or those of its session, or deleted: what it had */
        return err == QE_NOENT ? handle_read(h, size, off, data, len) : err;
    content_unref(h->paged);
    h->paged = c;
    handle_slice(&c->bytes, size, off, data, len);
    return 0;
}

int handle_read(struct handle *h, size_t size, off_t off, const void **data, size_t *len)
{
    const struct buf *b;
    int err = 0;

    if (!h->dirty && (h->base_old || (!h->base && h->readable && !h->has_view)))
        err = handle_advance(h); /* moved; or opened before its creation was committed */
    if (!err && (h->edits.n || !h->base))
        err = handle_make_view(h);
    if (err)
        return err;
    b = handle_shown(h);
    if ((uint64_t)off >= b->len) {
        err = handle_follow(h);
        if (err)
            return err;
        b = handle_shown(h);
    }
    handle_slice(b, size, off, data, len);
    return 0;
}

static bool is_dirty(const struct handle *h)
{
    return h->dirty || h->in_flight;
}

struct handle *handle_dirty_of(struct inode *in, pid_t tid)
{
    pid_t session = PROC_ANY_SESSION;

    return handle_of_session(in, is_dirty, tid, &session);
}
