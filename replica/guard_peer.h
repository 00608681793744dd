/* guard_peer: what the files of the guard share; nobody else includes this. */
#ifndef QFS_REPLICA_GUARD_PEER_H
#define QFS_REPLICA_GUARD_PEER_H

#include "replica/guard.h"

struct guard_write { /* one append under way */
    struct raft_io_append req;        /* raft_uv's view */
    struct raft_io_append *inner;     /* libraft's request */
    raft_io_append_cb cb;             /* libraft's callback */
    struct guard *guard;
    struct guard_write *next;         /* in guard.writes */
    const struct raft_entry *entries; /* libraft's, until its callback */
    uint64_t first;                   /* index of entries[0] */
    unsigned n;                       /* of entries */
    uint64_t cut;                     /* from this index on the log was truncated since; UINT64_MAX: it was not */
    bool behind_truncation;           /* submitted after the newest truncation */
    int64_t started_ns;
    size_t bytes;                     /* of payload */
};

/* guard.c */
void guard_step(struct guard *g);

/* guard_peer.c */
bool guard_peer_recv(struct guard *g, struct raft_message *message); /* false: it is not for libraft; its memory is taken care of */
int guard_peer_send(struct guard *g, struct raft_io_send *req, const struct raft_message *message, raft_io_send_cb cb);
void guard_peer_promise(struct guard *g);
void guard_peer_stored(struct guard *g); /* after a write is complete */
void guard_peer_tick(struct guard *g); /* before libraft's tick */
void guard_peer_step(struct guard *g); /* after anything that libraft did */
void guard_peer_fini(struct guard *g);

/* guard_glance.c */
const struct raft_entry *guard_entry_at(const struct guard *g, uint64_t index); /* NULL: not in the log */
bool guard_sole_voter(const struct guard *g);
bool guard_install_busy(const struct guard *g);                   /* libraft is replacing its log by a snapshot */
/* The configuration that an entry at or below `index` made. The caller closes it. */
int guard_configuration_at(const struct guard *g, uint64_t index, struct raft_configuration *out, uint64_t *out_index);
int guard_base_set(struct guard *g, const struct raft_configuration *conf, uint64_t index);

#endif
