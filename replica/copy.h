/* copy: copies of our database for members that are behind, and for guests that join. The asker pulls: it says CopyBegin, is told when the
 * copy is made (an unlinked file in DIR, written by one of libuv's workers while we go on), and reads it piece by piece, each when it
 * has the one before. A copy that nobody reads for a while is let go. Raft loop only. */
#ifndef QFS_REPLICA_COPY_H
#define QFS_REPLICA_COPY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "replica/peer.h"
#include "store/store.h"

enum {
    COPIES_MAX = 3,              /* at once: each takes the room of the database on our disk */
    COPY_PIECE_BYTES = 256 << 10,
    COPY_IDLE_MS = 30000,
};

struct copy_asker { /* a member, or a guest */
    uint32_t member;
    struct peer_guest *guest; /* NULL: a member */
};

struct copy {
    struct replica *r;
    enum { COPY_FREE, COPY_MAKING, COPY_READY } at;
    struct copy_asker asker;
    bool orphan;             /* the asker is gone */
    uint64_t ticket, id;
    int fd;                  /* -1: none */
    int err;                 /* of making it */
    struct store_export x;
    uv_work_t work;
    uv_fs_t read;            /* under way while `reading` */
    bool reading;
    uint64_t offset;         /* of that */
    uint8_t *piece;          /* owned; COPY_PIECE_BYTES */
    int64_t used_ns;
};

struct copies {
    struct copy list[COPIES_MAX];
    uint64_t ids;            /* given out */
    _Atomic bool stop;       /* what is being made is given up; any thread */
};

/* False: the message is of another kind. */
bool copy_message(struct replica *r, const struct copy_asker *from, const Qfs__PeerMessage *m);
void copy_guest_gone(struct replica *r, const struct peer_guest *g);
void copy_tick(struct replica *r, int64_t now_ns);
bool copy_making(const struct replica *r); /* a worker is at it; also after the loop has ended */
void copy_stop(struct replica *r); /* before the loop ends: lets go of all, as soon as it can */

#endif
