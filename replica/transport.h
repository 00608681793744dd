/* transport: how libraft reaches other members. Until members can be connected there is none: nothing listens, nothing connects,
 * and no socket is opened. */
#ifndef QFS_REPLICA_TRANSPORT_H
#define QFS_REPLICA_TRANSPORT_H

#include <raft/uv.h>

void transport_init_alone(struct raft_uv_transport *t);

#endif
