/* Beginning from a copy of another cluster's database; see store_initial.from. */
#ifndef QFS_STORE_RESTORE_H
#define QFS_STORE_RESTORE_H

#include "store/internal.h"

/* Makes the database PATH from initial->from, with `s` for memory. The file may be anybody's: QE_FORMAT, QE_CORRUPT and others, always with a
 * sentence in `why`. What was made of PATH is the caller's to remove. */
int restore_build(struct store *s, const char *path, const struct store_initial *initial, struct buf *why);
/* A line that tells files with different bytes apart. */
int restore_describe(const char *from, struct buf *out);

#endif
