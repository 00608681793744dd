/* ino: inode numbers reserved ahead, so that a creating command can carry its number and open need not wait for a commit. */
#ifndef QFS_REPLICA_INO_H
#define QFS_REPLICA_INO_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "replica/replica.h"

enum { INO_BLOCKS = 2 }; /* one in use, one ahead */

struct ino {
    pthread_mutex_t lock;
    /* Under `lock`. */
    uint64_t next[INO_BLOCKS], end[INO_BLOCKS]; /* block 0 is in use; next == end: empty */
    bool asking;                                /* a reservation is under way */
    /* Belongs to the reservation under way. */
    struct replica_request req;
};

void ino_init(struct replica *r);
void ino_fini(struct replica *r);
void ino_want(struct replica *r); /* reserves the first numbers, as soon as there is a session */

#endif
