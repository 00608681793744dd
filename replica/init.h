/* init: what making the directory of a new cluster and of a joining member share. */
#ifndef QFS_REPLICA_INIT_H
#define QFS_REPLICA_INIT_H

#include "replica/dir.h"

int init_random(void *out, size_t len); /* QE_IO */
/* DIR/raft with libraft's log and the identity. `initial`: entry 1 is the configuration that it names; NULL: no entries, and `term`. */
int init_raft(const struct dir *d, const struct dir_identity *id, const struct store_initial *initial, uint64_t term, struct buf *why);

#endif
