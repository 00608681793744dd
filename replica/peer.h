/* peer: the connections between the members of a cluster, and what passes over them.
 *
 * One TCP connection for each ordered pair: what A has to say to B goes over the connection that A made, B answers over its own one
 * to A. The side that accepts sends only its Welcome, and, to a guest (who is no member, and joins), its answers. A connection
 * keeps order; what was sent when it broke is lost or not, nobody knows. Connections to all members are made at once and made
 * again after they broke, with growing pauses.
 *
 * Everything here belongs to the raft loop. */
#ifndef QFS_REPLICA_PEER_H
#define QFS_REPLICA_PEER_H

#include <raft.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "replica/peer.pb-c.h"
#include "replica/replica.h"
#include "store/base/buf.h"

enum {
    PEER_VERSION = 6,                   /* of the protocol, and of what the answers to a command are: members must agree on both */
    PEER_RAFT = 15,                     /* generation of libraft: 0.15 */
    PEER_ADDRESS_SIZE = 300,            /* "HOST:PORT" with its NUL */
    PEER_MEMBERS_MAX = 64,              /* that connections are kept to */
    PEER_CONNECTIONS_MAX = 64,          /* accepted at a time */
    PEER_GUESTS_MAX = 8,                /* of these, guests */
    PEER_QUEUE_BYTES = 64 << 20,        /* not yet taken by the network, to one member: more is not accepted */
};

enum peer_refusal { /* on the wire: numbers stay */
    PEER_WELCOME = 0,
    PEER_REFUSED_VERSION = 1,     /* of the protocol */
    PEER_REFUSED_RAFT = 2,        /* another generation of libraft */
    PEER_REFUSED_CLUSTER = 3,     /* another cluster */
    PEER_REFUSED_MEMBER = 4,      /* the caller meant another member than the one that answers */
    PEER_REFUSED_REMOVED = 6,     /* the caller was a member and never will be again */
    PEER_REFUSED_INCARNATION = 7, /* the caller is older than what was seen of it: its data directory was put back, or runs twice */
    PEER_REFUSED_FULL = 8,        /* too many connections */
    PEER_REFUSED_GUESTS = 9,      /* no guests here */
};

enum peer_standing { PEER_UNKNOWN, PEER_MEMBER, PEER_REMOVED };

struct peers;
struct peer_guest; /* one connection of somebody who is no member */

struct peer_hooks { /* on the raft loop; none of them may call peer_close */
    void *data;
    /* Whether `id` is a member, and where it listens: `out` gets at most PEER_ADDRESS_SIZE bytes ("": no address is known). Also asked
     * for our own id. Who says in its hello that it is a member of our cluster and is PEER_UNKNOWN here is let in: this member may be
     * behind, and the one that calls the leader. What a hello says of its address counts more than this. */
    enum peer_standing (*address)(void *data, uint32_t id, char *out, size_t size);
    /* The ids of all members but our own, at most `max`. Connections are made to them. */
    size_t (*members)(void *data, uint32_t *ids, size_t max);
    /* A message of libraft. Its memory (raft_malloc: entries, configuration, snapshot) passes to the callee; all entries of a message
     * share one buffer, their `batch`. server_address lives for the call. */
    void (*raft)(void *data, struct raft_message *m);
    /* Anything else from a member. Borrowed for the call. A kind that is not known here (0 as well) comes from a later version. */
    void (*message)(void *data, uint32_t from, const Qfs__PeerMessage *m, const uint8_t *payload, size_t len);
    /* A message of a guest; peer_guest_send answers, now or until guest_gone. NULL: guests are refused. */
    void (*guest)(void *data, struct peer_guest *g, const Qfs__PeerMessage *m, const uint8_t *payload, size_t len);
    void (*guest_gone)(void *data, struct peer_guest *g); /* its connection has ended; g is not valid afterwards. May be NULL */
    void (*up)(void *data, uint32_t id);   /* our connection to `id` is usable (again): send again whatever was in flight to it */
    void (*down)(void *data, uint32_t id); /* it broke. Not called for attempts that fail */
    /* The process of `id`, to which we had a connection, has ended: its machine answers, and nobody listens, or another start of it
     * does. May be NULL. */
    void (*gone)(void *data, uint32_t id);
    /* `id` does not want to hear from us. Once for each connection; may be NULL. PEER_REFUSED_REMOVED: this member was removed.
     * PEER_REFUSED_INCARNATION: it must not go on. */
    void (*refused)(void *data, uint32_t id, enum peer_refusal why, const char *text);
    /* The newest start of `id` that was ever seen (a member's hello told it). Asked before, told after. */
    void (*seen)(void *data, uint32_t id, uint64_t *incarnation, uint64_t *run);
    int (*saw)(void *data, uint32_t id, uint64_t incarnation, uint64_t run);
};

struct peer_config {
    uint8_t cluster_id[STORE_CLUSTER_ID_SIZE];
    uint32_t member_id;
    uint64_t incarnation, run; /* of this start */
    const char *listen;        /* HOST:PORT; borrowed for peer_open. NULL or "": no socket at all, and no connection to anybody */
    const char *advertise;     /* HOST:PORT that the others are told; borrowed likewise. NULL or "": where it listens */
    bool insecure;             /* addresses other than loopback are allowed without TLS */
};

/* Listens and begins to connect. On failure a sentence in `why` and *out is untouched: QE_INVAL the address, QE_PERM not loopback,
 * QE_BUSY the port is taken, QE_NOMEM, QE_IO. */
int peer_open(uv_loop_t *loop, const struct peer_config *config, const struct peer_hooks *hooks, struct peers **out, struct buf *why);
/* Cancels what is on its way (callbacks get RAFT_CANCELED), closes all connections; `closed` (may be NULL) runs when the loop holds
 * nothing of it any more, and `p` is freed then. */
void peer_close(struct peers *p, void (*closed)(void *data), void *data);

/* Copies. QE_AGAIN: there is no connection, or too much is queued: the message is dropped; `up` will say when to try again.
 * QE_2BIG, QE_NOMEM. */
int peer_send(struct peers *p, uint32_t to, const Qfs__PeerMessage *m, const void *payload, size_t len);
int peer_guest_send(struct peer_guest *g, const Qfs__PeerMessage *m, const void *payload, size_t len);
void peer_guest_close(struct peer_guest *g); /* after what was sent */

/* As raft_io.send: the memory of entries and snapshot is libraft's until `cb`, which is called exactly once, later, if and only if
 * this returns 0. RAFT_NOCONNECTION: there is no connection (vote requests and answers wait for one that is just being made). */
int peer_send_raft(struct peers *p, struct raft_io_send *req, const struct raft_message *m, raft_io_send_cb cb);

/* The table of members changed: addresses are looked up again, removed members are told and cut off. */
void peer_members_changed(struct peers *p);

struct peer_state { /* of our connection to a member */
    bool up;
    bool heard;             /* it has one to us */
    int64_t round_trip_ns;  /* of the newest ping; 0: none yet */
    size_t queued_bytes;
    enum peer_refusal refusal; /* the last answer to our hello */
};
void peer_state(const struct peers *p, uint32_t id, struct peer_state *out);
/* The port that is listened on (tests listen on port 0). 0: none. */
unsigned peer_port(const struct peers *p);

#endif
