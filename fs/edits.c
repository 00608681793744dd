#include "fs/edits.h"

#include <stdlib.h>

int edits_fold(struct edits *e)
{
    struct buf content = {0};
    int err = edits_apply(e, &content);

    if (err) {
        buf_fini(&content);
        return err;
    }
    for (size_t i = 1; i < e->n; i++)
        buf_fini(&e->list[i].bytes);
    e->bytes = content.len;
    e->list[1] = (struct edit){.kind = STORE_EDIT_WRITE};
    buf_move(&e->list[1].bytes, &content);
    e->n = 2;
    e->run = 1;
    e->run_end = e->bytes;
    return 0;
}

static struct edit *edits_add(struct edits *e, enum store_edit_kind kind, uint64_t off)
{
    struct edit *list;
    size_t cap;

    if (e->n == EDITS_MAX && (!edits_are_whole(e) || edits_fold(e)))
        return NULL;
    if (e->n == e->cap) {
        cap = e->cap ? e->cap * 2 : 4;
        list = realloc(e->list, cap * sizeof *list);
        if (!list)
            return NULL;
        e->list = list;
        e->cap = cap;
    }
    e->list[e->n] = (struct edit){.kind = kind, .off = off};
    return &e->list[e->n++];
}

static void edits_remove(struct edits *e, size_t i)
{
    buf_fini(&e->list[i].bytes);
    for (; i + 1 < e->n; i++)
        e->list[i] = e->list[i + 1];
    e->n--;
}

int edits_truncate(struct edits *e, uint64_t size)
{
    size_t keep = size == 0 ? 0 : e->n; /* whatever came before a truncation to 0 does not matter */

    while (keep && e->list[keep - 1].kind == STORE_EDIT_TRUNCATE && e->list[keep - 1].off >= size)
        keep--; /* a further truncation, further down */
    if (keep > 1 && e->list[keep - 1].kind == STORE_EDIT_TRUNCATE && e->list[keep - 2].kind == STORE_EDIT_TRUNCATE)
        keep--; /* up from the first one, in steps or at once */
    while (e->n > keep) {
        e->bytes -= e->list[e->n - 1].bytes.len;
        edits_remove(e, e->n - 1);
    }
    return edits_add(e, STORE_EDIT_TRUNCATE, size) ? 0 : QE_NOMEM;
}

/* Merges a write into `w`, which it touches or overlaps; `w` then covers both. */
static int edit_merge(struct edits *e, struct edit *w, uint64_t off, const void *data, size_t len)
{
    size_t before = w->bytes.len;
    int err;

    if (off < w->off) { /* grow to the front: the old bytes go behind a gap that the new ones fill */
        struct buf wider = {0};

        err = buf_resize(&wider, (size_t)(w->off - off));
        if (!err)
            err = buf_append(&wider, w->bytes.data, w->bytes.len);
        if (!err)
            err = buf_write_at(&wider, 0, data, len);
        if (err) {
            buf_fini(&wider);
            return err;
        }
        buf_move(&w->bytes, &wider);
        w->off = off;
    } else {
        err = buf_write_at(&w->bytes, (size_t)(off - w->off), data, len);
        if (err)
            return err;
    }
    e->bytes += w->bytes.len - before;
    return 0;
}

static bool edit_touches(const struct edit *w, uint64_t off, size_t len)
{
    return off <= w->off + w->bytes.len && w->off <= off + len;
}

/* The writes since the last other edit never touch each other. A write that grew joins those that it now touches. */
static int edits_join(struct edits *e, size_t first, size_t grown)
{
    for (size_t i = first; i < e->n; i++) {
        struct edit *w = &e->list[grown], *o = &e->list[i];
        uint64_t end = w->off + w->bytes.len;
        int err;

        if (i == grown || !edit_touches(o, w->off, w->bytes.len))
            continue;
        if (o->off + o->bytes.len > end) { /* the newer bytes win where both have some */
            size_t skip = (size_t)(end - o->off), before = w->bytes.len;

            err = buf_append(&w->bytes, o->bytes.data + skip, o->bytes.len - skip);
            if (err)
                return err;
            e->bytes += w->bytes.len - before;
        }
        if (o->off < w->off) {
            err = edit_merge(e, w, o->off, o->bytes.data, (size_t)(w->off - o->off));
            if (err)
                return err;
        }
        e->bytes -= o->bytes.len;
        edits_remove(e, i);
        if (i < grown)
            grown--;
        i--;
    }
    return 0;
}

int edits_write(struct edits *e, uint64_t off, const void *data, size_t len)
{
    struct edit *w;
    int err;

    if (len == 0)
        return 0;
    if (e->n == 0 || e->list[e->n - 1].kind != STORE_EDIT_WRITE) {
        e->run = e->n;
        e->run_end = 0;
    }
    for (size_t i = off > e->run_end ? e->n : e->run; i < e->n; i++) {
        w = &e->list[i];
        if (edit_touches(w, off, len)) {
            err = edit_merge(e, w, off, data, len);
            if (off + len > e->run_end)
                e->run_end = off + len;
            return err ? err : edits_join(e, e->run, i);
        }
    }
    w = edits_add(e, STORE_EDIT_WRITE, off);
    if (w && off + len > e->run_end)
        e->run_end = off + len;
    if (!w)
        return QE_NOMEM;
    err = buf_append(&w->bytes, data, len);
    if (err)
        edits_remove(e, e->n - 1);
    else
        e->bytes += len;
    return err;
}

int edits_append(struct edits *e, const void *data, size_t len)
{
    struct edit *a = e->n ? &e->list[e->n - 1] : NULL;
    bool fresh = !a || a->kind != STORE_EDIT_APPEND;
    int err;

    if (len == 0)
        return 0;
    if (fresh)
        a = edits_add(e, STORE_EDIT_APPEND, 0);
    if (!a)
        return QE_NOMEM;
    err = buf_append(&a->bytes, data, len);
    if (!err)
        e->bytes += len;
    else if (fresh)
        edits_remove(e, e->n - 1);
    return err;
}

bool edits_are_whole(const struct edits *e)
{
    return e->n && e->list[0].kind == STORE_EDIT_TRUNCATE && e->list[0].off == 0;
}

void edits_fini(struct edits *e)
{
    for (size_t i = 0; i < e->n; i++)
        buf_fini(&e->list[i].bytes);
    free(e->list);
    *e = (struct edits){0};
}

int edits_apply(const struct edits *e, struct buf *content)
{
    int err = 0;

    for (size_t i = 0; i < e->n && !err; i++) {
        const struct edit *d = &e->list[i];

        if (d->kind == STORE_EDIT_TRUNCATE)
            err = buf_resize(content, (size_t)d->off);
        else if (d->kind == STORE_EDIT_WRITE)
            err = buf_write_at(content, (size_t)d->off, d->bytes.data, d->bytes.len);
        else
            err = buf_append(content, d->bytes.data, d->bytes.len);
    }
    return err;
}

void edits_export(const struct edits *e, struct store_edit *out)
{
    for (size_t i = 0; i < e->n; i++)
        out[i] = (struct store_edit){.kind = e->list[i].kind, .off = e->list[i].off,
                                     .bytes = {e->list[i].bytes.data, e->list[i].bytes.len}};
}
