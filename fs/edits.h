/* What was done through an open file and is not committed yet: truncations, writes and appends, in order.
 *
 * Neighbouring and overlapping writes are merged, and a truncation to 0 drops all before it, so that the memory is bounded by the
 * size of the file and not by the number of calls. */
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

struct edits { /* {0} is empty */
    struct edit *list;
    size_t n, cap;
    size_t bytes; /* of all edits: what they cost in memory */
};

int edits_truncate(struct edits *e, uint64_t size);                                    /* 0 or QE_NOMEM, then unchanged */
int edits_write(struct edits *e, uint64_t off, const void *data, size_t len);
int edits_append(struct edits *e, const void *data, size_t len);
/* Whether they make a content that does not depend on what was there. */
bool edits_are_whole(const struct edits *e);
void edits_fini(struct edits *e);
/* Applies them to `content`, which is undefined after QE_NOMEM. */
int edits_apply(const struct edits *e, struct buf *content);
/* As store_op wants them; borrowed from `e`. `out` has room for e->n. */
void edits_export(const struct edits *e, struct store_edit *out);

#endif
