/* standing: what each member is doing, for whoever looks, and whether all members have the same state.
 *
 * Members tell each other once a second how far they are, and the state hash at some indexes of the log: every STANDING_STRIDE
 * entries, and where they became idle. Who finds that a majority of the voters has another hash than its own at the same index stops:
 * its state is wrong, whatever made it so. Where no hash has a majority, nobody knows whose is right, and all refuse to write. */
#ifndef QFS_REPLICA_STANDING_H
#define QFS_REPLICA_STANDING_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "replica/guard.h"
#include "replica/peer.pb-c.h"

struct replica;

enum {
    STANDING_STRIDE = 1024,   /* entries between two points of comparison */
    STANDING_POINTS = 16,     /* kept of each member: those of the last minutes, or of the last few thousand entries */
    STANDING_PERIOD_MS = 1000,
    STANDING_SILENT_MS = 3500, /* after that a member counts as not reachable */
};

struct standing_point { /* the state after the entry at this index */
    uint64_t index;
    int64_t rev;
    uint64_t hash;
};

struct standing_points {
    struct standing_point list[STANDING_POINTS]; /* a ring */
    unsigned next, n;
};

struct standing_member {
    uint32_t id;
    int role;                /* RAFT_*, -1: not in the configuration */
    uint64_t applied;        /* index up to which its store is, as it said; of ourselves as it is */
    bool installing;         /* it is fetching the database */
    int64_t heard_ns;        /* when it said so; 0: never */
    uint64_t match;          /* leader: its log is known to be ours up to here */
    struct standing_points points; /* raft loop only */
};

struct standing {
    /* Under `lock`. */
    pthread_mutex_t lock;
    struct standing_member members[GUARD_MEMBERS_MAX]; /* those of raft's configuration and those that have spoken */
    unsigned n;
    struct standing_points own; /* put here by the store thread */
    char diverged[160];      /* "": no; else which index no majority agrees on */

    /* Raft loop. */
    int64_t told_ns;         /* when we last told the others */
    uint64_t configuration;  /* 1 + index of the configuration that `members` shows */
    _Atomic bool refuse;     /* writes are refused: the members disagree. Any thread. */
};

void standing_init(struct replica *r);
void standing_fini(struct replica *r);
/* Store thread: the state at `index` is this one. Called at multiples of the stride and when the store has nothing left to do. */
void standing_point(struct replica *r, uint64_t index, int64_t rev, uint64_t hash);
void standing_step(struct replica *r);                  /* raft loop: a new configuration is shown at once */
void standing_tick(struct replica *r, int64_t now_ns);  /* raft loop */
bool standing_message(struct replica *r, uint32_t from, const Qfs__PeerMessage *m); /* raft loop; false: it is of another kind */
/* A copy of one member's. False: nothing is known of it. Any thread. */
bool standing_get(struct replica *r, uint32_t id, struct standing_member *out);

#endif
