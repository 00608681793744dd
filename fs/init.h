/* `quorumfs init`: makes the data directory of a member. Runs before any thread exists. */
#ifndef QFS_FS_INIT_H
#define QFS_FS_INIT_H

#include "fs/opts.h"

/* Makes the cluster, or the member of it, that the loaded options ask for, and says so on stdout. 0 or QE_* with a sentence. */
int init_cluster(const struct fs_options *o, struct buf *why);
/* The whole command. Returns an exit status, with a sentence in `why` unless it is 0. */
int init_run(struct fs_options *o, struct buf *why);

#endif
