/* A page of events with their paths, who may see them, and how they are written. */
#include <stdlib.h>
#include <string.h>

#include "fs/feed.h"

enum {
    CACHE_MAX = 16384, /* directories */
    TEXT_FIRST = 1024, /* bytes of a small block; never nothing */
};

struct feed_cached {
    uint64_t ino; /* key */
    struct store_dir_at dir;
    uint64_t generation; /* `index` is of this one */
    uint32_t index;      /* in the block's dirs */
    UT_hash_handle hh;
};

struct page { /* under construction */
    struct store_reader *reader;
    struct feed_cache *cache;
    struct feed_block *b;
    struct buf chain; /* of inode numbers */
    int err;
};

void feed_cache_clear(struct feed_cache *c)
{
    struct feed_cached *d, *tmp;

    HASH_ITER(hh, c->dirs, d, tmp) {
        HASH_DEL(c->dirs, d);
        free(d);
    }
    c->generation++;
}

static void cache_drop(struct feed_cache *c, uint64_t ino)
{
    struct feed_cached *d;

    HASH_FIND(hh, c->dirs, &ino, sizeof ino, d);
    if (d) {
        HASH_DEL(c->dirs, d);
        free(d);
    }
}

void feed_block_free(struct feed_block *b)
{
    if (!b)
        return;
    free(b->events);
    free(b->dirs);
    buf_fini(&b->text);
    free(b);
}

size_t feed_block_bytes(const struct feed_block *b)
{
    return sizeof *b + b->cap_events * sizeof *b->events + b->cap_dirs * sizeof *b->dirs + b->text.cap;
}

/* ---- Paths --------------------------------------------------------------------------------------------------------------------- */

static int cached_dir(struct page *p, const struct store_event *e, uint64_t ino, struct feed_cached **out)
{
    struct feed_cached *d;
    int err;

    HASH_FIND(hh, p->cache->dirs, &ino, sizeof ino, d);
    *out = d;
    if (d)
        return 0;
    if (HASH_COUNT(p->cache->dirs) >= CACHE_MAX)
        return QE_AGAIN;
    d = calloc(1, sizeof *d);
    if (!d)
        return QE_NOMEM;
    err = store_dir_at(p->reader, e->rev, e->sub, ino, &d->dir);
    if (err) {
        free(d);
        return err == QE_NOENT ? QE_CORRUPT : err;
    }
    d->ino = ino;
    HASH_ADD(hh, p->cache->dirs, ino, sizeof d->ino, d);
    *out = d;
    return 0;
}

static int join_path(struct feed_block *b, const struct feed_dir *dir, const void *name, size_t len, size_t *path, size_t *path_len)
{
    int err = buf_reserve(&b->text, dir->path_len + 1 + len);

    if (err)
        return err;
    *path = b->text.len;
    err = buf_append(&b->text, b->text.data + dir->path, dir->path_len); /* there is room: it does not move */
    if (!err && dir->path_len)
        err = buf_append(&b->text, "/", 1);
    if (!err)
        err = buf_append(&b->text, name, len);
    *path_len = b->text.len - *path;
    return err;
}

/* One more directory in the block, whose parent is there already. */
static int add_dir(struct page *p, struct feed_cached *d, uint32_t up)
{
    struct feed_block *b = p->b;
    struct feed_dir *to;
    int err;

    if (b->n_dirs == b->cap_dirs) {
        size_t cap = b->cap_dirs ? b->cap_dirs * 2 : 16;
        struct feed_dir *dirs = realloc(b->dirs, cap * sizeof *dirs);

        if (!dirs)
            return QE_NOMEM;
        b->dirs = dirs;
        b->cap_dirs = cap;
    }
    to = &b->dirs[b->n_dirs];
    *to = (struct feed_dir){.up = up, .mode = d->dir.mode, .uid = d->dir.uid, .gid = d->dir.gid};
    if (d->dir.parent) {
        err = join_path(b, &b->dirs[up], d->dir.name, d->dir.name_len, &to->path, &to->path_len);
        if (err)
            return err;
    } else {
        to->up = (uint32_t)b->n_dirs;
    }
    d->generation = p->cache->generation;
    d->index = (uint32_t)b->n_dirs++;
    return 0;
}

/* The index of a directory in the block, as it is just after the event. */
static int dir_index(struct page *p, const struct store_event *e, uint64_t ino, uint32_t *out)
{
    struct feed_cached *d = NULL;
    uint32_t up = 0;
    int err = 0;

    buf_clear(&p->chain);
    for (;;) { /* up to the root, or to one that the block has */
        err = cached_dir(p, e, ino, &d);
        if (err)
            return err;
        if (d->generation == p->cache->generation) {
            up = d->index;
            break;
        }
        err = buf_append(&p->chain, &ino, sizeof ino);
        if (err)
            return err;
        if (d->dir.parent == 0)
            break;
        ino = d->dir.parent;
    }
    for (size_t i = p->chain.len / sizeof ino; !err && i-- > 0;) {
        memcpy(&ino, p->chain.data + i * sizeof ino, sizeof ino);
        HASH_FIND(hh, p->cache->dirs, &ino, sizeof ino, d);
        err = add_dir(p, d, up);
        up = d->index;
    }
    *out = up;
    return err;
}

/* ---- Reading ------------------------------------------------------------------------------------------------------------------- */

/* The directory that has the name, and the whole path. The root itself has no name. */
static int place(struct page *p, const struct store_event *e, uint64_t parent, struct store_bytes name, uint32_t *dir, size_t *path, size_t *len)
{
    int err = dir_index(p, e, parent ? parent : STORE_ROOT_INO, dir);

    if (err == QE_AGAIN) { /* the cache is full */
        feed_cache_clear(p->cache);
        err = dir_index(p, e, parent ? parent : STORE_ROOT_INO, dir);
        if (err == QE_AGAIN)
            err = QE_NOMEM; /* a tree that deep */
    }
    return err ? err : join_path(p->b, &p->b->dirs[*dir], name.data, name.len, path, len);
}

static int add_event(struct page *p, const struct store_event *e)
{
    bool is_dir = store_ino_kind(e->ino) == STORE_DIR;
    struct feed_block *b = p->b;
    struct feed_event *to;
    int err = 0;

    if (b->n_events == b->cap_events) {
        size_t cap = b->cap_events ? b->cap_events * 2 : 16;
        struct feed_event *events = realloc(b->events, cap * sizeof *events);

        if (!events)
            return QE_NOMEM;
        b->events = events;
        b->cap_events = cap;
    }
    if (is_dir) { /* what is known of it is of before */
        cache_drop(p->cache, e->ino);
        if (e->op == STORE_EV_RENAME || e->op == STORE_EV_ATTRIB)
            p->cache->generation++; /* so is what the block says of all below it */
    }
    to = &b->events[b->n_events];
    *to = (struct feed_event){.rev = e->rev, .op = e->op, .kind = store_ino_kind(e->ino), .cause = b->text.len, .cause_len = e->cause.len};
    err = buf_append(&b->text, e->cause.data, e->cause.len);
    if (!err)
        err = place(p, e, e->parent, e->name, &to->dir, &to->path, &to->path_len);
    if (!err && e->op == STORE_EV_RENAME)
        err = place(p, e, e->old_parent, e->old_name, &to->old_dir, &to->old_path, &to->old_path_len);
    if (!err)
        b->n_events++;
    return err;
}

static bool on_event(void *data, const struct store_event *e)
{
    struct page *p = data;

    if (!p->err)
        p->err = add_event(p, e);
    p->b->last = e->rev;
    return !p->err && p->b->n_events < FEED_PAGE;
}

int feed_block_read(struct store_reader *reader, int64_t after, struct feed_cache *cache, struct feed_block **out)
{
    struct page p = {.reader = reader, .cache = cache, .b = calloc(1, sizeof *p.b)};
    int64_t rev;
    int err = p.b ? buf_reserve(&p.b->text, TEXT_FIRST) : QE_NOMEM;

    if (!err)
        err = store_read_begin(reader, &rev);
    if (err) {
        feed_block_free(p.b);
        return err;
    }
    p.b->after = p.b->last = after;
    cache->generation++; /* indexes are of another block */
    err = store_events(reader, after, on_event, &p);
    store_read_end(reader);
    if (!err)
        err = p.err;
    if (!err && p.b->n_events < FEED_PAGE)
        p.b->last = rev; /* that was all */
    buf_fini(&p.chain);
    if (err)
        feed_block_free(p.b);
    else
        *out = p.b;
    return err;
}

/* ---- Showing ------------------------------------------------------------------------------------------------------------------- */

/* Is `path` the name `base` or below it? */
static bool within(const char *path, size_t len, const char *base, size_t base_len)
{
    if (base_len == 0)
        return true;
    return len >= base_len && !memcmp(path, base, base_len) && (len == base_len || path[base_len] == '/');
}

static bool about(const struct feed_filter *f, const char *path, size_t len, bool moved)
{
    return within(path, len, f->path, f->len) || (moved && within(f->path, f->len, path, len));
}

/* Whether who reads the stream could have found the path of an event, whose name is in `dir`. */
static bool visible(const struct feed_filter *f, const struct feed_block *b, uint32_t dir, size_t path, size_t len)
{
    const char *text = (const char *)b->text.data;

    if (f->who.uid == 0)
        return true;
    for (;;) {
        const struct feed_dir *d = &b->dirs[dir];
        unsigned want = within(f->path, f->len, text + path, len) ? PERM_SEARCH : PERM_SEARCH | PERM_READ;

        if (!perm_allows(&f->who, d->mode, d->uid, d->gid, want))
            return false;
        if (d->up == dir)
            return true;
        path = d->path;
        len = d->path_len;
        dir = d->up;
    }
}

enum feed_seen feed_sees(const struct feed_filter *f, const struct feed_block *b, size_t i)
{
    const struct feed_event *e = &b->events[i];
    const char *text = (const char *)b->text.data;
    bool moved = e->op == STORE_EV_RENAME;
    unsigned seen = FEED_HIDDEN;

    if (!about(f, text + e->path, e->path_len, moved) && !(moved && about(f, text + e->old_path, e->old_path_len, true)))
        return FEED_HIDDEN;
    if (visible(f, b, e->dir, e->path, e->path_len))
        seen = FEED_NEW;
    if (moved && visible(f, b, e->old_dir, e->old_path, e->old_path_len))
        seen |= FEED_OLD;
    return (enum feed_seen)seen;
}

static int append_path(const struct feed_block *b, size_t path, size_t len, struct buf *out)
{
    const char *p = (const char *)b->text.data + path, *end = p + len;
    int err = buf_append(out, "\t", 1);

    if (len == 0)
        return err ? err : buf_append(out, ".", 1); /* the root */
    while (!err && p < end) {
        const char *stop = p;

        while (stop < end && *stop != '\\' && *stop != '\t' && *stop != '\n')
            stop++;
        err = buf_append(out, p, (size_t)(stop - p));
        if (!err && stop < end)
            err = buf_append(out, *stop == '\\' ? "\\\\" : *stop == '\t' ? "\\t" : "\\n", 2);
        p = stop < end ? stop + 1 : end;
    }
    return err;
}

int feed_line(const struct feed_block *b, size_t i, enum feed_seen seen, struct buf *out)
{
    static const char *const words[] = {[STORE_EV_PUT] = "put", [STORE_EV_DELETE] = "delete", [STORE_EV_MKDIR] = "mkdir", [STORE_EV_RMDIR] = "rmdir",
                                        [STORE_EV_SYMLINK] = "symlink", [STORE_EV_RENAME] = "rename", [STORE_EV_ATTRIB] = "attrib"};
    static const char *const comes[] = {[STORE_FILE] = "put", [STORE_DIR] = "mkdir", [STORE_SYMLINK] = "symlink"};
    const struct feed_event *e = &b->events[i];
    const char *word = words[e->op];
    int err;

    if (e->op == STORE_EV_RENAME && seen != FEED_BOTH)
        word = seen == FEED_NEW ? comes[e->kind] : e->kind == STORE_DIR ? "rmdir" : "delete";
    err = buf_printf(out, "%lld\t%s", (long long)e->rev, word);
    if (!err && seen & FEED_OLD)
        err = append_path(b, e->old_path, e->old_path_len, out);
    if (!err && seen & FEED_NEW)
        err = append_path(b, e->path, e->path_len, out);
    if (!err && e->cause_len)
        err = buf_append(out, "\t", 1);
    if (!err && e->cause_len)
        err = buf_append(out, b->text.data + e->cause, e->cause_len);
    return err ? err : buf_append(out, "\n", 1);
}
