/* network: joins libraft with the connections between members. raft_uv keeps the disk; what it would send goes to peer.h instead, and
 * what comes from there goes to the function that libraft gave it. The guard, above it, does not notice. */
#ifndef QFS_REPLICA_NETWORK_H
#define QFS_REPLICA_NETWORK_H

#include <raft.h>
#include <stdbool.h>

#include "store/base/buf.h"

struct replica;
struct peers;

struct network {
    struct peers *peers;       /* raft loop; NULL: not open */
    raft_io_recv_cb recv;      /* the guard's, to be given what comes in */
    int (*start)(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv); /* raft_uv's */
    void (*close)(struct raft_io *io, raft_io_close_cb cb);                                       /* raft_uv's */
    raft_io_close_cb close_cb; /* the guard's */
};

void network_install(struct replica *r);                 /* after raft_uv_init, before guard_install */
int network_open(struct replica *r, struct buf *why);    /* after raft_start, before the loop runs; errors as peer_open's */
void network_members_changed(struct replica *r);         /* raft loop: the table of members changed */
void network_abandon(struct replica *r);                 /* raft loop, fail-stop: closes the sockets */

#endif
