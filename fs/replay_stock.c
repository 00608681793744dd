/* After a database was installed, or when history was compacted too early: nobody can say what was changed. So everything that the kernel
 * knows, and that alone can be watched, is compared with what was told last: revision `from`.
 *
 * New names in known directories, new content and attributes are told. Names that ended are not: nothing says any more what they were. The
 * kernel notices them when it looks them up. It is done in small parts, between requests. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/inode.h"
#include "fs/replay_parts.h"
#include "store/base/clock.h"

enum { PART_NODES = 32, PART_NAMES = 256, QUEUE_ENOUGH = 1000 };

struct replay_stock {
    int64_t from;
    uint64_t *nodes; /* what the kernel knew when it began */
    size_t n, at;
    char after[STORE_NAME_MAX]; /* the last name that was looked at, in a directory under way */
    size_t after_len;
};

struct entry {
    uint64_t ino;
    size_t at, len; /* of the name in `names` */
};

/* A part of a listing. */
struct part {
    struct buf list, names; /* of struct entry */
    size_t n;
    int err;
};

static bool part_add(void *data, const void *name, size_t len, uint64_t ino)
{
    struct part *p = data;
    const struct entry e = {.ino = ino, .at = p->names.len, .len = len};

    p->err = buf_append(&p->names, name, len);
    if (!p->err)
        p->err = buf_append(&p->list, &e, sizeof e);
    return !p->err && ++p->n < PART_NAMES;
}

static enum replay_kind making(uint32_t mode)
{
    return S_ISDIR(mode) ? REPLAY_MKDIR : S_ISLNK(mode) ? REPLAY_SYMLINK : REPLAY_FILE;
}

static void tell(struct replay *r, enum replay_kind kind, const struct store_attr *a, const char *name, size_t len)
{
    replay__add(r, &(struct replay_item){.kind = kind, .rev = a->mod_rev, .applied_ns = clock_boottime_ns(), .ino = a->ino, .parent = a->parent},
                name, len, "", 0);
}

/* What the kernel knows by itself is looked at as a node of its own. */
static void look_at_entry(struct replay *r, const struct replay_stock *s, const struct entry *e, const char *name)
{
    struct store_attr a;

    if (store_getattr(r->fs->reader, STORE_HEAD, e->ino, &a) || a.mod_rev <= s->from)
        return;
    if (a.create_rev > s->from)
        tell(r, making(a.mode), &a, name, e->len);
    else if (!replay__is_known(r, e->ino))
        tell(r, S_ISREG(a.mode) ? REPLAY_CONTENT : REPLAY_ATTRIB, &a, name, e->len);
}

/* True: this directory is done. */
static bool look_at_names(struct replay *r, struct replay_stock *s, uint64_t dir)
{
    struct part p = {0};
    const struct entry *list;
    int err = store_list(r->fs->reader, STORE_HEAD, dir, s->after, s->after_len, part_add, &p);

    list = (const struct entry *)(const void *)p.list.data;
    for (size_t i = 0; !err && !p.err && i < p.n; i++) {
        look_at_entry(r, s, &list[i], (const char *)p.names.data + list[i].at);
        memcpy(s->after, p.names.data + list[i].at, list[i].len);
        s->after_len = list[i].len;
    }
    if (err || p.err || p.n < PART_NAMES)
        s->after_len = 0;
    buf_fini(&p.list);
    buf_fini(&p.names);
    return s->after_len == 0;
}

static bool look_at_node(struct replay *r, struct replay_stock *s, uint64_t node)
{
    struct store_attr a;

    if (!replay__is_known(r, node) || store_getattr(r->fs->reader, STORE_HEAD, node, &a))
        return true;
    if (s->after_len == 0 && a.mod_rev > s->from && (a.create_rev <= s->from || !replay__is_known(r, a.parent)))
        tell(r, S_ISREG(a.mode) ? REPLAY_CONTENT : REPLAY_ATTRIB, &a, "", 0);
    return !S_ISDIR(a.mode) || look_at_names(r, s, node);
}

static struct replay_stock *stock_new(struct replay *r, int64_t from)
{
    struct replay_stock *s = calloc(1, sizeof *s);
    struct inode *in, *tmp;

    if (s)
        s->nodes = calloc(HASH_COUNT(r->fs->inodes->by_node) + 1, sizeof *s->nodes);
    if (!s || !s->nodes) {
        free(s);
        log_warn("replay", "out of memory: watchers are not told what was changed up to now");
        return NULL;
    }
    s->from = from;
    HASH_ITER(hh, r->fs->inodes->by_node, in, tmp)
        if (in->nlookup && in->asked && !in->creation && !in->gone)
            s->nodes[s->n++] = in->ino;
    return s;
}

void replay__stock_fini(struct replay *r)
{
    if (r->stock)
        free(r->stock->nodes);
    free(r->stock);
    r->stock = NULL;
}

void replay__stock(struct replay *r)
{
    struct replay_stock *s;
    int64_t from;

    if (!r->running || r->held)
        return;
    if (replay__mail_stock(r, &from)) { /* perhaps once more, from where it began */
        if (r->stock && r->stock->from < from)
            from = r->stock->from;
        replay__stock_fini(r);
        r->stock = stock_new(r, from);
    }
    s = r->stock;
    if (!s || r->queue.n > QUEUE_ENOUGH)
        return;
    for (int i = 0; i < PART_NODES && s->at < s->n; i++) {
        if (look_at_node(r, s, s->nodes[s->at])) {
            s->at++;
            s->after_len = 0; /* it may have ended in the middle of its names */
        }
    }
    atomic_store(&r->queue_bytes, r->queue.bytes);
    if (s->at == s->n)
        replay__stock_fini(r);
    else
        replay__wake(r);
    replay__dispatch(r);
}
