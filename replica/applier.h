/* applier: the store thread. Applies committed entries in order, completes requests, and keeps the database in shape.
 *
 * The raft loop puts items into its queue and never waits for it. One item is an entry, a read barrier, a request to make all
 * before it durable (for a marker snapshot), or the begin and end of a copy of the database (export.c). */
#ifndef QFS_REPLICA_APPLIER_H
#define QFS_REPLICA_APPLIER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "replica/replica.h"

enum applier_kind { APPLIER_ENTRY, APPLIER_BARRIER, APPLIER_SYNC, APPLIER_EXPORT, APPLIER_EXPORT_END,
                    APPLIER_SWITCH /* to the database that was fetched */ };

struct applier_sync { /* made durable up to here; lives on the waiter's side */
    uint64_t index, term;  /* asked for */
    int64_t rev;           /* answer: the revision there */
    uint64_t hash;         /* answer: the state hash there */
    struct store_export *export; /* EXPORT: answer; borrowed */
    int err;               /* answer */
    bool done;             /* under applier.lock */
};

struct applier_item {
    enum applier_kind kind;
    uint64_t index, term;            /* ENTRY, SYNC */
    struct store_bytes data;         /* ENTRY: libraft's memory, which lives until a marker above it is durable */
    int64_t queued_ns;               /* ENTRY: when it was committed */
    struct replica_request *barrier; /* BARRIER: a list */
    struct applier_sync *sync;       /* SYNC, EXPORT */
};

struct applier {
    pthread_t thread;
    bool started;                    /* `thread` exists */
    size_t behind_bytes;             /* MEMBER_BEHIND_BYTES, or a test's; set once */
    uint64_t last_entry;             /* store thread only: index of the newest entry that it applied in this run */
    struct store_reader *reader;     /* store thread only: for the hash of a marker */
    int64_t compact_asked_ns;        /* store thread only: when compaction was last looked at, */
    int64_t short_logged_ns;         /* and when it was last told that the disk fills up */
    struct replica_request compact;  /* our own proposal to compact */
    _Atomic bool compacting;         /* it is under way */

    /* Under `lock`. */
    pthread_mutex_t lock;
    pthread_cond_t more;             /* for the thread: the queue or `stop` changed */
    pthread_cond_t done;             /* for those who wait: for a sync, for the queue to be empty */
    struct applier_item *items;      /* ring; owned */
    size_t cap, head, n;             /* of the ring */
    size_t bytes;                    /* of entries in it and in work */
    bool stop;                       /* end when the queue is empty */
    bool working;                    /* the thread has items in hand */
    bool dead;                       /* stopped applying after a failure; the queue is thrown away */

    _Atomic uint64_t pushed;         /* index of the last entry that was pushed */
    _Atomic uint64_t applying;       /* index of the last entry that was handed to the store: readers may see it */
    _Atomic uint64_t applied;        /* index of the last entry that readers can see */
};

int applier_init(struct replica *r);
int applier_start(struct replica *r);
void applier_installed(struct replica *r, uint64_t index); /* store thread: the store is at this index now */
/* The raft loop, which is told nothing of failures but QE_NOMEM. */
int applier_push(struct replica *r, const struct applier_item *item);
bool applier_full(struct replica *r);
bool applier_behind(struct replica *r); /* a follower has too much in the queue */
bool applier_idle(struct replica *r);  /* readers see all that was pushed */
void applier_answer(struct replica *r, struct replica_request *list); /* read barriers that have been reached; any thread */
/* Waits until the store has made everything up to s->index durable, or has begun the copy. Any thread but the store's and the loop's. */
int applier_wait_sync(struct replica *r, struct applier_sync *s);
void applier_kill(struct replica *r);  /* fail-stop: wakes all who wait; any thread */
void applier_drain(struct replica *r); /* waits until all that was pushed is applied, or until a failure */
void applier_stop(struct replica *r);  /* drains the queue and ends the thread */
void applier_fini(struct replica *r);

#endif
