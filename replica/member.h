/* The member: what the files of this room share. One `struct replica` is one member of a cluster and its data directory.
 *
 * Threads: callers (any), the raft loop, the store thread, and libuv's workers (marker snapshots only). Each module's struct says
 * who may touch which field. Lock order: `loop.lock`, then `replica.lock`; the others are never held together with another one, and
 * no callback of a caller runs under any of them. */
#ifndef QFS_REPLICA_MEMBER_H
#define QFS_REPLICA_MEMBER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "replica/admit.h"
#include "replica/applier.h"
#include "replica/barrier.h"
#include "replica/change.h"
#include "replica/copy.h"
#include "replica/dir.h"
#include "replica/guard.h"
#include "replica/ino.h"
#include "replica/install.h"
#include "replica/keepalive.h"
#include "replica/member_table.h"
#include "replica/network.h"
#include "replica/replica.h"
#include "replica/rounds.h"
#include "replica/serve.h"
#include "replica/standing.h"
#include "replica/starts.h"
#include "replica/submit.h"
#include "replica/tenure.h"
#include "replica/transfer.h"

enum {
    MEMBER_SEGMENT_BYTES = 8 << 20,   /* of one raft log segment: small by default */
    MEMBER_MARKER_BYTES = 64 << 20,   /* of log kept in memory before a marker snapshot is taken */
    MEMBER_KEEP_MARKERS = 4,          /* times that: kept below a marker for members that are there and lack it, unless the disk is nearly full */
    MEMBER_BATCH_BYTES = 256 << 10,   /* of commands in one entry, unless a single command is larger */
    MEMBER_BATCH_COMMANDS = 256,      /* in one entry: what one SQLite transaction likes to hold */
    MEMBER_APPLY_QUEUE_BYTES = 8 << 20, /* committed and not applied: above it nothing new is proposed */
    MEMBER_BEHIND_BYTES = 64 << 20,   /* likewise on a follower: above it no more is taken from the leader */
    MEMBER_WAITING_BYTES = 128 << 20, /* submitted and not proposed: above it submitting fails */
};

/* A count of durations that any thread may add to. */
struct hist {
    _Atomic uint64_t buckets[REPLICA_HIST_BUCKETS]; /* bucket i: below 2^i * 10 us */
    _Atomic uint64_t count, sum_us;                 /* of all */
};
void hist_add(struct hist *h, int64_t ns);
void hist_copy(const struct hist *h, struct replica_hist *out);

/* The raft loop: loop.c. */
struct loop {
    /* Set once before the thread starts. */
    struct uv_loop_s uv;          /* libuv's loop; only its own thread touches it afterwards */
    uv_async_t wake;              /* somebody put something into the mailbox */
    uv_timer_t beat;              /* for keepalives and leases, which know no heartbeat */
    uv_timer_t late;              /* for answers that we wait for: rounds.h */
    pthread_t thread;             /* runs `uv` */
    bool started;                 /* `thread` exists */

    /* Under `lock`: the mailbox. */
    pthread_mutex_t lock;
    bool wakeable;                /* `wake` may be used */
    bool open;                    /* the mailbox takes barriers */
    bool stop;                    /* close everything and end */
    struct replica_request *barriers; /* read barriers not seen by the loop yet, newest first */
    struct replica_request *changes;  /* wishes about the membership, likewise */

    /* The loop's thread only. */
    bool closing;                 /* raft_close was called, or was given up */
    bool abandoned;               /* raft was busy or broken when it had to stop: its memory is left alone */
    int64_t stop_deadline_ns;     /* until when a busy raft is waited for */
};

struct replica {
    /* Set once before the threads start. */
    struct replica_options opt;   /* `dir` is not used; see `dir.path` */
    struct dir dir;               /* the data directory, locked */
    struct dir_identity id;       /* who we are: cluster, member, epoch */
    struct store *store;          /* owned; applying belongs to the store thread */

    /* Raft loop only, once it runs. */
    struct loop loop;
    struct raft_uv_transport transport; /* never connects: see `network` */
    struct raft_io io;            /* raft_uv's, decorated by `network` and then by `guard` */
    struct network network;       /* connections to the other members */
    struct starts starts;         /* numbers of starts: ours, and what was seen of the others */
    struct raft raft;             /* libraft's state */
    struct raft_fsm fsm;          /* fsm.c */
    struct guard guard;           /* what makes libraft safe */
    bool io_inited;               /* raft_uv_init succeeded: raft_uv_close is due */
    bool raft_inited;             /* raft_init succeeded: raft_close is due */
    struct raft_apply apply;      /* the one entry in flight */
    int64_t disk_checked_ns;      /* when free space was last looked at */
    int64_t election_ns, heartbeat_ns; /* the cluster settings, as of the start */

    /* Each has its own rules. */
    struct submit submit;         /* from replica_submit to the answer */
    struct rounds rounds;         /* confirmations that we lead */
    struct barrier barrier;       /* read barriers, of ours and of others */
    struct keepalive keepalive;   /* our session, and the leases that we renew */
    struct tenure tenure;         /* as leader: how long leases and sessions live */
    struct applier applier;       /* the store thread and its queue */
    struct ino ino;               /* reserved inode numbers */
    struct transfer transfer;     /* of the leadership to another member */
    struct serve serve;           /* our session and inode numbers: whether we have them */
    struct member_table members;  /* who belongs to the cluster */
    struct change change;         /* of that, and of the roles */
    struct standing standing;     /* how each member is */
    struct admit admit;           /* guests that become members */
    struct copies copies;         /* of our database, for others */
    struct install install;       /* of another's database, in place of ours */
    struct replica_request end;   /* the end of our session, proposed by replica_stop */

    /* Under `lock`. */
    pthread_mutex_t lock;
    bool failed;                  /* fail-stop has begun */
    char failure[512];            /* the sentence that says why */

    /* Any thread. */
    _Atomic int role;             /* RAFT_*, as of the last look */
    _Atomic uint32_t leader;      /* who leads; 0: not known */
    _Atomic uint64_t term, commit, last_index, snapshot_index, log_bytes; /* copies of raft's, made by the loop */
    _Atomic uint64_t raft_applied; /* index of the last entry of any type that libraft has handed on */
    _Atomic unsigned n_members, n_voters; /* of the configuration */
    _Atomic bool votes;           /* this member is one of the voters */
    _Atomic int64_t free_bytes;   /* on the disk of DIR */
    _Atomic int64_t disk_bytes;   /* its size */
    _Atomic bool disk_full;       /* writes are refused until there is room */
    _Atomic bool members_changed; /* the table of members is another one than the connections know */
    _Atomic bool stopping;        /* replica_stop was called */
    struct hist commit_time, apply_time, fsync_time, checkpoint_time, barrier_time;
};

/* loop.c */
int loop_init(struct replica *r, struct buf *why);      /* the libuv loop, its mailbox */
int loop_start(struct replica *r, struct buf *why);     /* the thread; raft must have been started */
void loop_wake(struct replica *r);                      /* any thread: look at the mailbox and at what waits */
void loop_members_changed(struct replica *r);           /* any thread: look at the table of members */
void loop_call_late(struct replica *r);                 /* raft loop: rounds_late in ROUNDS_LATE_MS */
void loop_stop(struct replica *r);                      /* ends the thread, or undoes loop_init */
void loop_fini(struct replica *r);                      /* when no other thread is left that could wake it */
void loop_tick(struct replica *r);                      /* the loop's: time passed (guard's tick) */
void loop_step(struct replica *r);                      /* the loop's: libraft has done something (guard's step) */
void loop_publish(struct replica *r);                   /* the loop's: copies raft's state for other threads */

/* fsm.c */
void fsm_init(struct replica *r);
uint64_t fsm_marker_bytes(void);                        /* MEMBER_MARKER_BYTES, or a test's */

/* message.c (raft loop). */
int member_send(struct replica *r, uint32_t to, const Qfs__PeerMessage *m, const void *payload, size_t len); /* as peer_send */
void member_message(struct replica *r, uint32_t from, const Qfs__PeerMessage *m, const uint8_t *payload, size_t len);

/* start.c: fail-stop. The first call answers all waiting requests and tells the owner; later ones do nothing. Any thread, with no
 * lock held. */
void member_fail(struct replica *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool member_failed(struct replica *r);
uint64_t member_applied(struct replica *r); /* index up to which everything is in the store, entries without commands counted. Any thread. */

/* disk.c: free space and the ballast. */
void disk_prepare(struct replica *r);                   /* at start, before anything is written */
bool disk_admits(struct replica *r, bool internal);     /* the loop's: is there room to propose another entry? */
void disk_look(struct replica *r);                      /* the loop's: notices room that came back */
bool disk_short(struct replica *r, int64_t reusable);   /* any thread: is there little more than what writes need, `reusable` counted? */

#endif
