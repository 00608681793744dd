/* A page of events with their paths, who may see them, and how they are written. */
#include <stdlib.h>
#include <string.h>

#include "fs/feed.h"

enum {
    CACHE_MAX = 16384, /* directories, and those that are on the way to one */
    TEXT_FIRST = 1024, /* bytes of a small block; never nothing */
    PAGE_BYTES = 1 << 20,
    PATH_KEPT = FEED_PATH_MAX + 1, /* bytes of a path in the text: whether a stream's path ends there is to be seen */
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
    bool full;
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
    feed_block_discharge(b);
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

/* Copies what of `part`, which is at `at` of something, is among its first `room` bytes. */
static void put_part(char *to, size_t room, size_t at, const char *part, size_t len)
{
    if (at < room)
        memcpy(to + at, part, len < room - at ? len : room - at);
}

/* The first `room` bytes of a path whose length is known. */
static void put_path(const struct feed_block *b, const struct feed_place *p, const char *name, char *to, size_t room)
{
    size_t at = p->len - p->name_len;

    put_part(to, room, at, name, p->name_len);
    for (uint32_t dir = p->dir; b->dirs[dir].up != dir; dir = b->dirs[dir].up) {
        const struct feed_dir *d = &b->dirs[dir];

        put_part(to, room, at - 1, "/", 1);
        at -= 1 + d->name_len;
        put_part(to, room, at, (const char *)b->text.data + d->name, d->name_len);
    }
}

/* The path of a name in p->dir, as far as it is kept. */
static int keep_path(struct feed_block *b, struct store_bytes name, struct feed_place *p)
{
    size_t kept;
    int err;

    p->name_len = p->len = name.len;
    for (uint32_t dir = p->dir; b->dirs[dir].up != dir; dir = b->dirs[dir].up)
        p->len += b->dirs[dir].name_len + 1;
    p->path = b->text.len;
    kept = p->len < PATH_KEPT ? p->len : PATH_KEPT;
    err = buf_resize(&b->text, b->text.len + kept);
    if (err)
        return err;
    put_path(b, p, name.data, (char *)b->text.data + p->path, kept);
    return kept < p->len ? buf_append(&b->text, name.data, name.len) : 0;
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
    *to = (struct feed_dir){.up = d->dir.parent ? up : (uint32_t)b->n_dirs, .mode = d->dir.mode, .uid = d->dir.uid, .gid = d->dir.gid,
                            .name = b->text.len, .name_len = d->dir.parent ? d->dir.name_len : 0};
    err = buf_append(&b->text, d->dir.name, to->name_len);
    if (err)
        return err;
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

/* The directory that has the name, and the path. The root itself has no name. */
static int place(struct page *p, const struct store_event *e, uint64_t parent, struct store_bytes name, struct feed_place *out)
{
    int err;

    if (HASH_COUNT(p->cache->dirs) >= CACHE_MAX)
        feed_cache_clear(p->cache);
    err = dir_index(p, e, parent ? parent : STORE_ROOT_INO, &out->dir);
    return err ? err : keep_path(p->b, name, out);
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
        err = place(p, e, e->parent, e->name, &to->now);
    if (!err && e->op == STORE_EV_RENAME)
        err = place(p, e, e->old_parent, e->old_name, &to->was);
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
    p->full = p->b->n_events >= FEED_PAGE || feed_block_bytes(p->b) >= PAGE_BYTES;
    return !p->err && !p->full;
}

static atomic_uint_fast64_t blocks; /* that were ever read */

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
    p.b->id = atomic_fetch_add(&blocks, 1) + 1;
    p.b->after = p.b->last = after;
    cache->generation++; /* indexes are of another block */
    err = store_events(reader, after, on_event, &p);
    store_read_end(reader);
    if (!err)
        err = p.err;
    if (!err && !p.full)
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

static bool about(const struct feed_filter *f, const struct feed_block *b, const struct feed_place *p, bool moved_dir)
{
    const char *path = (const char *)b->text.data + p->path;

    return within(path, p->len, f->path, f->len) || (moved_dir && within(f->path, f->len, path, p->len));
}

enum { ABOVE_UNKNOWN, ABOVE_OPEN, ABOVE_SHUT };

void feed_sight_clear(struct feed_sight *s)
{
    free(s->above);
    *s = (struct feed_sight){0};
}

/* What is known of the directories above each one of the block's; NULL: nothing, and it cannot be remembered. */
static uint8_t *known_above(struct feed_sight *s, const struct feed_filter *f, const struct feed_block *b)
{
    if (!s || (s->filter == f && s->block == b->id))
        return s ? s->above : NULL;
    feed_sight_clear(s);
    s->above = calloc(b->n_dirs, 1);
    if (s->above) {
        s->filter = f;
        s->block = b->id;
    }
    return s->above;
}

/* Whether who reads the stream could have found the path of an event. The paths of the directories on the way are begins of it. */
static bool visible(const struct feed_filter *f, const struct feed_block *b, const struct feed_place *p, struct feed_sight *sight)
{
    const char *path = (const char *)b->text.data + p->path;
    size_t len = p->len, name_len = p->name_len, same = 0;
    uint32_t dir = p->dir;
    uint8_t *above;
    bool open;

    if (f->who.uid == 0)
        return true;
    above = known_above(sight, f, b);
    while (same < f->len && same < len && f->path[same] == path[same])
        same++;
    for (;;) {
        const struct feed_dir *d = &b->dirs[dir];
        bool on_way = len <= same && (len == 0 || len == f->len || f->path[len] == '/'); /* to the stream's path */
        unsigned want = on_way ? PERM_SEARCH : PERM_SEARCH | PERM_READ;

        open = perm_allows(&f->who, d->mode, d->uid, d->gid, want);
        if (!open || d->up == dir)
            break;
        if (above && above[dir] != ABOVE_UNKNOWN) {
            open = above[dir] == ABOVE_OPEN;
            break;
        }
        len -= name_len + 1;
        name_len = d->name_len;
        dir = d->up;
    }
    for (uint32_t below = p->dir; above && below != dir; below = b->dirs[below].up)
        above[below] = open ? ABOVE_OPEN : ABOVE_SHUT;
    return open;
}

enum feed_seen feed_sees(const struct feed_filter *f, const struct feed_block *b, size_t i, struct feed_sight *sight)
{
    const struct feed_event *e = &b->events[i];
    bool moved = e->op == STORE_EV_RENAME, moved_dir = moved && e->kind == STORE_DIR;
    unsigned seen = FEED_HIDDEN;

    if (!about(f, b, &e->now, moved_dir) && !(moved && about(f, b, &e->was, moved_dir)))
        return FEED_HIDDEN;
    if (visible(f, b, &e->now, sight))
        seen = FEED_NEW;
    if (moved && visible(f, b, &e->was, sight))
        seen |= FEED_OLD;
    return (enum feed_seen)seen;
}

int feed_append_name(const char *p, size_t len, struct buf *out)
{
    const char *end = p + len;
    int err = 0;

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

/* One more column; the root is a dot. */
static int append_column(const char *p, size_t len, struct buf *out)
{
    int err = buf_append(out, "\t", 1);

    return err ? err : len ? feed_append_name(p, len, out) : buf_append(out, ".", 1);
}

static int append_path(const struct feed_block *b, const struct feed_place *p, struct buf *out)
{
    const char *path = (const char *)b->text.data + p->path;
    struct buf whole = {0};
    int err;

    if (p->len <= PATH_KEPT)
        return append_column(path, p->len, out);
    err = buf_resize(&whole, p->len);
    if (!err) {
        put_path(b, p, path + PATH_KEPT, (char *)whole.data, p->len);
        err = append_column((const char *)whole.data, p->len, out);
    }
    buf_fini(&whole);
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
        err = append_path(b, &e->was, out);
    if (!err && seen & FEED_NEW)
        err = append_path(b, &e->now, out);
    if (!err && e->cause_len)
        err = buf_append(out, "\t", 1);
    if (!err && e->cause_len)
        err = buf_append(out, b->text.data + e->cause, e->cause_len);
    return err ? err : buf_append(out, "\n", 1);
}
