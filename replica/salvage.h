/* salvage: what the log of a data directory has and its database lacks, for the new cluster that is made of it (init --from DIR). */
#ifndef QFS_REPLICA_SALVAGE_H
#define QFS_REPLICA_SALVAGE_H

#include "replica/dir.h"

struct salvage {
    const struct dir *source; /* the data directory, locked; it is not changed */
    const struct dir *into;   /* the one that is being made */
};

/* store_initial.catch_up, for which `data` is a struct salvage: applies the commands of all entries that follow. An error with a sentence when
 * some are missing or damaged. Logs what it did. */
int salvage_apply(void *data, struct store *s, struct buf *why);

#endif
