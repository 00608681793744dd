/* What was done through an open file and is not committed yet: truncations, writes and appends, in order.
 *
 * Neighbouring and overlapping writes are merged, a truncation to 0 drops all before it, and of truncations in a row two are left. What
 * cannot be merged is counted: there are at most EDITS_MAX, so that whoever writes in small pieces costs neither much time nor
 * memory, and no command that a store would not understand (store/internal.h has its limit). */
#ifndef QFS_FS_EDITS_H
#define QFS_FS_EDITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/store.h"

struct edit {
    enum store_edit_kind kind;
    uint64_t off;     /* TRUNCATE: the new size; WRITE: where */
    struct buf bytes; /* WRITE, APPEND */
};

enum { EDITS_MAX = 1 << 16 };

struct edits { /* {0} is empty */
    struct edit *list;
    size_t n, cap;
    size_t bytes; /* of all edits */
    size_t run;   /* where the last row of writes begins, and the furthest byte after them: writes in order need no search */
    uint64_t run_end;
};
/* What they cost in memory, about. */
static inline size_t edits_cost(const struct edits *e) { return e->bytes + e->n * 2 * sizeof *e->list; }

/* 0; QE_NOMEM, also when there are too many edits that do not touch each other, over a content that is not known here. */
int edits_truncate(struct edits *e, uint64_t size); /* after an error unchanged */
int edits_write(struct edits *e, uint64_t off, const void *data, size_t len);
int edits_append(struct edits *e, const void *data, size_t len);
/* Tells a whole content in one piece. QE_NOMEM: unchanged. */
int edits_fold(struct edits *e);
/* Whether they make a content that does not depend on what was there. */
bool edits_are_whole(const struct edits *e);
void edits_fini(struct edits *e);
/* Applies them to `content`, which is undefined after QE_NOMEM. */
int edits_apply(const struct edits *e, struct buf *content);
/* As store_op wants them; borrowed from `e`. `out` has room for e->n. */
void edits_export(const struct edits *e, struct store_edit *out);

#endif
