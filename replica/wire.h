/* wire: one stream of bytes to another process, over TCP. The only file that knows what carries the bytes.
 *
 * Everything here belongs to the thread that runs the loop. */
#ifndef QFS_REPLICA_WIRE_H
#define QFS_REPLICA_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "store/base/buf.h"

struct wire;
struct listener;

struct wire_hooks {
    void *data;
    void (*up)(void *data);                                     /* a connection that was asked for is made */
    void (*space)(void *data, uint8_t **at, size_t *len);       /* where to read to; valid until the next call */
    void (*got)(void *data, size_t n);                          /* so much was read into it */
    /* It could not be made, or is broken. Called once, no other hook after it; wire_close must follow, now or later. */
    void (*down)(void *data, const char *why);
};

/* Looks the address up and connects to the first of its addresses that answers. Without `insecure`, only to loopback addresses.
 * The outcome comes through the hooks, later. QE_INVAL, QE_NOMEM. */
int wire_connect(uv_loop_t *loop, const char *address, bool insecure, const struct wire_hooks *hooks, struct wire **out);

struct wire_write { /* the caller's, at a fixed address until `cb` */
    uv_write_t req;
    void (*cb)(struct wire_write *w, int err); /* exactly once: 0 handed to the network; QE_IO broken; QE_CANCELED by wire_close */
};
/* The bytes (not the array of buffers) must stay until the callback, which comes later than this call returns. On an error (QE_NOMEM, QE_IO) there is none. */
int wire_write(struct wire *c, struct wire_write *w, const uv_buf_t bufs[], unsigned n);
size_t wire_queued(const struct wire *c); /* bytes given to wire_write and not taken by the network */

/* No hook runs any more. The callbacks of writes do, and then `closed` (may be NULL); the wire is gone after it. */
void wire_close(struct wire *c, void (*closed)(void *data), void *data);

bool wire_refused(const struct wire *c); /* it went down because the other machine is there and nobody listens */
void wire_peer_text(const struct wire *c, char *out, size_t size); /* the other end's address */

/* Waits for connections. `accepted` gets each one; it must call wire_begin or wire_close. Waits for the resolver; on failure a
 * sentence in `why`: QE_INVAL, QE_PERM (not loopback, and not `insecure`), QE_BUSY, QE_IO, QE_NOMEM. */
int wire_listen(uv_loop_t *loop, const char *address, bool insecure, void (*accepted)(void *data, struct wire *c), void *data,
                struct listener **out, struct buf *why);
void wire_begin(struct wire *c, const struct wire_hooks *hooks); /* begins to read */
unsigned listener_port(const struct listener *l);
void listener_close(struct listener *l, void (*closed)(void *data), void *data); /* `data` as given here */

#endif
