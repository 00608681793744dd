/* transfer: a leader that is to stop, or is told to, hands the leadership to another voter, so that nobody has to wait for an election
 * timeout. libraft's own request for it has to be treated with care: a try may be ignored by the chosen one, so who leads is looked at and
 * it is tried again; and what it sends may outlive the request, so none is freed before libraft is closed. */
#ifndef QFS_REPLICA_TRANSFER_H
#define QFS_REPLICA_TRANSFER_H

#include <pthread.h>
#include <raft.h>
#include <stdbool.h>
#include <stdint.h>

#include "replica/replica.h"

struct transfer_try {
    struct raft_transfer request;
    struct transfer_try *next;
};

struct transfer {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool wanted;               /* under `lock` */
    bool over;                 /* under `lock`: we do not lead, or it was given up */
    uint32_t to;               /* under `lock`: the member to lead; 0: whoever is nearest to us */
    int64_t until_ns;          /* under `lock`: then it is given up */
    struct transfer_try *tries; /* raft loop; owned */
};

void transfer_init(struct replica *r);
void transfer_fini(struct replica *r);
/* Hands over and waits for it. 0: we do not lead any more; QE_TIMEDOUT. Never on the loop or the store thread. */
int transfer_wait(struct replica *r, uint32_t to, int64_t until_ns);
bool transfer_try(struct replica *r, uint32_t to); /* raft loop: one try; whoever wants it looks who leads. False: not just now */
void transfer_step(struct replica *r);  /* raft loop: tries, looks whether it is over */

#endif
