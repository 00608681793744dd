/* transport: what raft_uv wants to be given for its network. It does nothing: network.c takes raft_uv's place where messages are sent and
 * received. */
#ifndef QFS_REPLICA_TRANSPORT_H
#define QFS_REPLICA_TRANSPORT_H

#include <raft/uv.h>

void transport_init_alone(struct raft_uv_transport *t);

#endif
