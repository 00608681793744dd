/* install: a member that is too far behind for the log gets the leader's database.
 *
 *   the guard holds the leader's InstallSnapshot and calls install_wanted (raft loop)
 *   ASKING     the leader makes a copy for us (copy.h)
 *   FETCHING   it comes piece by piece into the next database file; serving what we have goes on
 *   VERIFYING  one of libuv's workers looks it over
 *   SWITCHING  the store thread: CURRENT names it, the store goes on with it, readers follow
 *   RELEASING  libraft gets the message, and drops its log for the marker
 *
 * A newer InstallSnapshot, another leader, a broken connection: the fetch goes on if its copy will do, else it begins anew. A crash at any
 * moment leaves a member that comes up and is sent the message again; once CURRENT names the copy, that will do at once. */
#ifndef QFS_REPLICA_INSTALL_H
#define QFS_REPLICA_INSTALL_H

#include <raft.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "replica/fetch.h"

struct replica;

enum { INSTALL_AGAIN_MS = 3000 /* nothing came for so long: ask again */, INSTALL_TRIES = 10 /* then from the beginning */ };

struct install {
    enum install_at { INSTALL_IDLE, INSTALL_ASKING, INSTALL_FETCHING, INSTALL_VERIFYING, INSTALL_SWITCHING, INSTALL_RELEASING } at;
    uint64_t needed;        /* the index that the held message stands for */
    uint32_t from;          /* whose database */
    struct fetch fetch;     /* from ASKING to SWITCHING */
    uint64_t tickets;       /* given out */
    int64_t asked_ns;       /* when we last asked for something */
    unsigned tries;         /* since something came */
    uv_work_t work;         /* VERIFYING */
    int err;                /* of verifying */
    struct buf why;         /* of verifying */
    _Atomic bool switched;  /* the store thread is through with SWITCHING */
};

void install_wanted(struct replica *r, uint32_t leader, uint64_t index); /* the guard's hook */
bool install_message(struct replica *r, uint32_t from, const Qfs__PeerMessage *m, const uint8_t *payload, size_t len); /* false: not ours */
void install_tick(struct replica *r, int64_t now_ns);
void install_switch(struct replica *r); /* the store thread, in the order of its queue */
void install_fini(struct replica *r);

#endif
