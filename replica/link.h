/* link: a connection that carries frames (frame.h over wire.h). Belongs to the raft loop. */
#ifndef QFS_REPLICA_LINK_H
#define QFS_REPLICA_LINK_H

#include "replica/wire.h"
#include "replica/frame.h"
#include "replica/peer.pb-c.h"

struct link;

struct link_hooks {
    void *data;
    void (*up)(void *data);                         /* a link that was asked for is made. NULL for accepted ones */
    void (*frame)(void *data, struct frame *f);     /* a whole frame; may close the link */
    void (*down)(void *data, const char *why);      /* it could not be made, broke, or the other side sent nonsense; then close it */
};

/* Both begin with what a stranger may send: frames of `types` (bits), heads of FRAME_GREETING_MAX, no payload. */
int link_connect(uv_loop_t *loop, const char *address, bool insecure, const struct link_hooks *hooks, unsigned types, struct link **out);
/* Takes the wire, also on failure. */
int link_accept(struct wire *c, const struct link_hooks *hooks, unsigned types, struct link **out);
void link_trust(struct link *l, unsigned types); /* from the next frame on: full size, and of these types */

enum link_payload { LINK_COPY, LINK_LEND /* the pieces stay where they are until `done` */ };
/* `done` (may be NULL) is called exactly once, later, if and only if this returns 0; as wire_write's. QE_2BIG, QE_NOMEM, QE_IO. */
int link_send(struct link *l, enum frame_type type, const ProtobufCMessage *head, const uv_buf_t *payload, unsigned n,
              enum link_payload how, void (*done)(void *data, int err), void *data);
size_t link_queued(const struct link *l);
bool link_refused(const struct link *l); /* as wire_refused */
void link_peer_text(const struct link *l, char *out, size_t size);

/* No hook runs any more; `done`s do, then `closed`, and the link is gone. */
void link_close(struct link *l, void (*closed)(void *data), void *data);
bool link_closing(const struct link *l);

#endif
