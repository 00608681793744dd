/* admit: lets guests become members (the other end is join.c). The member that is asked puts the new one into the table; the leader then takes
 * it up by itself (change.h). Raft loop only. */
#ifndef QFS_REPLICA_ADMIT_H
#define QFS_REPLICA_ADMIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "replica/peer.h"
#include "replica/replica.h"

struct admission { /* a guest that waits for its id */
    struct replica *r;
    struct peer_guest *guest;    /* NULL: it is gone */
    struct replica_request req;  /* under way while `busy` */
    bool busy;
    _Atomic bool done;           /* answered; err and id may be read */
    int err;
    uint32_t id;
};

struct admit {
    struct admission list[PEER_GUESTS_MAX];
};

bool admit_message(struct replica *r, struct peer_guest *g, const Qfs__PeerMessage *m); /* false: it is of another kind */
void admit_guest_gone(struct replica *r, const struct peer_guest *g);
void admit_step(struct replica *r);

#endif
