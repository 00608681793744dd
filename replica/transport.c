#include "replica/transport.h"

#include <string.h>

static int alone_init(struct raft_uv_transport *t, raft_id id, const char *address)
{
    (void)t;
    (void)id;
    (void)address;
    return 0;
}

static int alone_listen(struct raft_uv_transport *t, raft_uv_accept_cb cb)
{
    (void)t;
    (void)cb;
    return 0;
}

/* The callback must come later, or not at all when the call fails: libraft then tries again after its delay. */
static int alone_connect(struct raft_uv_transport *t, struct raft_uv_connect *req, raft_id id, const char *address,
                         raft_uv_connect_cb cb)
{
    (void)t;
    (void)req;
    (void)id;
    (void)address;
    (void)cb;
    return RAFT_NOCONNECTION;
}

static void alone_close(struct raft_uv_transport *t, raft_uv_transport_close_cb cb)
{
    cb(t);
}

void transport_init_alone(struct raft_uv_transport *t)
{
    memset(t, 0, sizeof *t);
    t->init = alone_init;
    t->listen = alone_listen;
    t->connect = alone_connect;
    t->close = alone_close;
}
