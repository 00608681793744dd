/* guard: everything that makes libraft safe to use, as rules around libraft's own disk and network functions (struct raft_io).
 *
 * Only guard.c knows which version of libraft this is and looks into its structs; the others call its public functions. The guard
 * is put between libraft and raft_uv after raft_uv_init and before raft_init. Each rule is one function there, with its reason.
 *
 * Everything here belongs to the raft loop. */
#ifndef QFS_REPLICA_GUARD_H
#define QFS_REPLICA_GUARD_H

#include <raft.h>
#include <raft/uv.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/store.h"

struct guard_hooks { /* how the guard speaks to the member */
    void *data;
    void (*fail)(void *data, const char *what); /* fail-stop; called once; libraft hears nothing any more */
    void (*tick)(void *data);                   /* libraft's timer fired (each heartbeat) */
    void (*written)(void *data, int64_t ns);    /* an entry reached the disk in that time */
};

struct guard {
    /* Set once before raft_start. */
    struct raft *raft;                 /* the guarded one; its `data` points to this guard */
    struct guard_hooks hooks;
    struct store_position store;       /* where the database is, for the comparison at start */
    uint8_t cluster_id[STORE_CLUSTER_ID_SIZE]; /* whose entries the log may hold */
    struct raft_io saved;              /* raft_uv's own functions */

    /* Raft loop. */
    raft_io_tick_cb tick;              /* libraft's */
    raft_io_recv_cb recv;              /* libraft's */
    bool failed;                       /* after the first failed write: nothing is passed on */
    unsigned appends;                  /* writes under way */
    bool snapshotting;                 /* a snapshot is being written */
    struct raft_io_snapshot_put *put;  /* libraft's request for it */
    raft_io_snapshot_put_cb put_cb;    /* and its callback */
    struct raft_io_snapshot_put own_put; /* ours, handed to raft_uv */
    raft_io_close_cb close_cb;         /* libraft's */
    bool closed;                       /* it has been called */
    uint64_t log_bytes;                /* payload bytes of entries since the last snapshot */
    uint64_t marker_bytes;             /* a marker snapshot is due above it */
    struct buf why;                    /* the sentence of a refused start */
};

/* Decorates `io`, which raft_uv_init has filled. */
void guard_install(struct guard *g, struct raft *raft, struct raft_io *io, const struct guard_hooks *hooks);
/* After raft_init: the settings that we never leave to libraft's defaults. */
void guard_configure(struct guard *g, unsigned election_ms, unsigned heartbeat_ms);
void guard_fini(struct guard *g);

uint64_t guard_term_of(const struct guard *g, uint64_t index);   /* 0: not in the log */
uint64_t guard_commit(const struct guard *g);
uint64_t guard_snapshot_index(const struct guard *g);
uint64_t guard_term(const struct guard *g);
unsigned guard_servers(const struct guard *g, unsigned *voters);
bool guard_busy(const struct guard *g);                          /* closing now would meet work under way */
/* Called by fsm->snapshot when a marker was begun, and at each apply: decides when the next one is due. */
void guard_marker_begun(struct guard *g);
void guard_marker_consider(struct guard *g);

#endif
