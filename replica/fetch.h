/* fetch: the other end of copy.h: takes another member's database, piece by piece, into a file of ours. Pure bookkeeping and file writes: who
 * uses it sends what it says. One thread at a time. */
#ifndef QFS_REPLICA_FETCH_H
#define QFS_REPLICA_FETCH_H

#include <stdbool.h>
#include <stdint.h>

#include "replica/peer.pb-c.h"
#include "store/store.h"

struct fetch {
    char *dir;                          /* owned */
    char name[STORE_STAGE_NAME_SIZE];   /* the file in it */
    int fd;                             /* -1: none */
    uint64_t ticket;                    /* of our CopyBegin */
    uint64_t copy;                      /* its number at the one that has it; 0: not known yet */
    uint64_t bytes, have;               /* of it; so many are here */
    struct store_copy what;
};

int fetch_init(struct fetch *f, const char *dir, const uint8_t cluster_id[STORE_CLUSTER_ID_SIZE], uint64_t ticket);
void fetch_fini(struct fetch *f, bool keep); /* removes the file unless `keep` */
/* Takes an answer. QE_AGAIN: it is not for us. Else 0, or why the fetch has failed. */
int fetch_info(struct fetch *f, const Qfs__CopyInfo *m);
int fetch_piece(struct fetch *f, const Qfs__CopyPiece *m, const void *data, size_t len);
bool fetch_done(const struct fetch *f);
/* All is here: durable, verified, and this member's. Takes a while. A sentence in `why`. */
int fetch_verify(struct fetch *f, uint64_t epoch, struct buf *why);

#endif
