/* Physical compaction: deleting the versions that no revision from `compacted` on needs. Local, resumable, in slices. */
#ifndef QFS_STORE_COMPACT_H
#define QFS_STORE_COMPACT_H

#include <stdint.h>

#include "store/internal.h"

bool compact_pending(const struct store *s);
/* One SQLite transaction, of a bounded number of rows, at least one, ended early when the boot clock reaches `until_ns`. */
int compact_slice(struct store *s, int64_t until_ns);
/* All that is left of a deleted inode whose end, row `seq`, is at or before the compacted revision. */
int compact_dead(struct store *s, uint64_t ino, int64_t seq);

#endif
