/* serve: what a member needs of the quorum before it can write: a session, and inode numbers. It asks for them when it starts, and until
 * it has them; commands are refused with QE_TIMEDOUT meanwhile. */
#ifndef QFS_REPLICA_SERVE_H
#define QFS_REPLICA_SERVE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "replica/replica.h"

struct serve {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool ready;                     /* under `lock`: there is a session, and inode numbers */
    int err;                        /* under `lock`: asking was given up */
    struct replica_request request; /* for the session; under way until `ready` or `err`, but while `refused` */
    _Atomic bool refused;           /* the leader has no room for it just now: it is asked again after a while */
    int64_t asked_ns;               /* raft loop: when it last was */
};

void serve_init(struct replica *r);
void serve_fini(struct replica *r);
void serve_begin(struct replica *r);             /* asks; any thread */
void serve_tick(struct replica *r, int64_t now_ns); /* raft loop: what was refused is asked again */
void serve_note(struct replica *r, int err);     /* ino.c: numbers have come, or will not */
bool serve_is_ready(struct replica *r);          /* any thread */
/* Waits until `ready`, until an error, or until clock_boottime_ns() is until_ns (0: never): QE_TIMEDOUT. */
int serve_wait(struct replica *r, int64_t until_ns);

#endif
