/* starts: which start of this member this is, and the newest start that was seen of each other one. DIR/raft/starts, text:
 *
 *   own N RUN
 *   unfit SENTENCE           only if this directory must not be started any more
 *   member ID N RUN          one line for each member that was ever met
 *   crc HEX                  of the lines above (as in raft/epoch)
 *
 * N is raised and synced before anything is sent, so that whoever has seen this start refuses an older copy of DIR: that could vote
 * twice, or have lost what it acknowledged. RUN is a random number of the start. Such a copy would pass once it had been started often enough,
 * as a service that is started again and again is: so whoever was refused remembers it. Raft loop only, but for starts_begin. */
#ifndef QFS_REPLICA_STARTS_H
#define QFS_REPLICA_STARTS_H

#include <stdint.h>

#include "replica/dir.h"

enum { STARTS_MAX = 256 /* members remembered: the oldest of them make room */, STARTS_UNFIT_SIZE = 200 };

struct start_seen {
    uint32_t id;
    uint64_t incarnation, run;
};

struct starts {
    uint64_t incarnation, run; /* of this start */
    char unfit[STARTS_UNFIT_SIZE]; /* "": it may be started */
    struct start_seen seen[STARTS_MAX];
    unsigned n_seen;
};

/* Reads the file, raises our own number, writes it. A missing file begins at 1. QE_STALE unfit, QE_CORRUPT, QE_DISKFULL, QE_IO with a
 * sentence. */
int starts_begin(struct starts *s, const struct dir *d, struct buf *why);
/* No start from now on: `why` is told each time. Blocks for the time of a write. */
int starts_unfit(struct starts *s, const struct dir *d, const char *why);
/* Both are 0 for a member that was never seen. */
void starts_seen(const struct starts *s, uint32_t id, uint64_t *incarnation, uint64_t *run);
/* Remembers, on disk: blocks for the time of a write, once for each start of another member. */
int starts_saw(struct starts *s, const struct dir *d, uint32_t id, uint64_t incarnation, uint64_t run);

#endif
