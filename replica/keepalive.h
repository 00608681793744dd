/* keepalive: the member's part in the lives of leases and sessions: whether what this member holds is still its own, and the renewals that
 * its callers want.
 *
 * The session goes
 *
 *   NONE   no keepalive has been acknowledged. There is nothing to lose
 *     | a keepalive is acknowledged, or the session is new (it counts from when it was asked for)
 *     v
 *   KEPT   until session-ttl after the last acknowledged keepalive was sent. The leader waits a tenth longer, from when it came
 *     | that time has passed, whoever sees it first: LAPSE of our own session is submitted, then `lapsed` is called
 *     v
 *   LOST   LAPSE is not applied
 *     | it is
 *     v
 *   LAPSED a keepalive that was sent after that must be acknowledged, and what the leader had applied then must be applied here: the leader may
 *     |    have ended our holdings meanwhile, too
 *     v
 *   KEPT
 *
 * One question {id, session, leases} carries everything to the leader, at the latest each fifth of session-ttl. A lease that somebody wants
 * to be kept is in each question that is sent when a third of its TTL has passed. Questions are not repeated as they were; what has no answer is
 * part of a later one. An answer names each lease, so that it may be lost, late or doubled.
 *
 * `lock` is never held together with another one, nor in a callback. */
#ifndef QFS_REPLICA_KEEPALIVE_H
#define QFS_REPLICA_KEEPALIVE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <uthash.h>

#include "replica/heap.h"
#include "replica/peer.pb-c.h"
#include "replica/submit.h"

enum {
    KEEPALIVE_QUESTIONS = 4, /* sent and unanswered: more wait for the next beat */
    KEEPALIVE_SENT = 32,     /* questions whose time is remembered */
};

enum hold { HOLD_NONE, HOLD_KEPT, HOLD_LOST, HOLD_LAPSED };

struct kept {                /* a lease that somebody here has to do with */
    struct heap_node node;   /* when to ask (again) */
    uint64_t lease;
    unsigned keeps;          /* how many want it to be kept */
    struct submit_list renew, ask; /* requests; priv.seq: the first question that covers it, 0: none yet */
    UT_hash_handle hh;
};

struct keepalive_sent {
    uint64_t id;
    int64_t at_ns, ttl_ns;   /* ttl_ns: what it promised */
};

struct keepalive {
    /* Under `lock`. */
    pthread_mutex_t lock;
    struct kept *kept;       /* by lease; owned */
    struct heap heap;        /* all of them */
    int refuse;              /* 0, or what new requests are answered */

    /* Any thread. */
    _Atomic int hold;        /* enum hold; changed by the loop, and once by the store thread when the session begins */
    _Atomic int64_t until_ns; /* KEPT: holds so long */
    _Atomic bool late;       /* somebody saw that it had passed */
    _Atomic uint64_t session; /* 0: none yet */
    _Atomic int lapsed_err;  /* LOST: 1: under way; else the answer to LAPSE */

    /* Raft loop. */
    struct replica_request lapse; /* under way while LOST */
    uint64_t last_id, answered_id; /* questions; begin at submit.nonce */
    uint64_t first_id;       /* LAPSED: questions from this one on count */
    int64_t asked_ns;        /* when the last one was sent */
    int64_t acked_ttl_ns;    /* what the last acknowledged one promised; 0: none yet */
    int64_t hurry_ns;        /* the session asks again at this time at the latest; 0: at its ordinary time */
    uint32_t asked;          /* whom */
    struct keepalive_sent sent[KEEPALIVE_SENT]; /* by id % KEEPALIVE_SENT */
    int64_t back_until_ns;   /* LAPSED: acknowledged until then, 0: not yet */
    uint64_t back_index;     /* and valid when this is applied */
    uint64_t *renew, *ask;   /* of the question in the making: TENURE_IDS each; owned */
};

int keepalive_open(struct replica *r);               /* after submit_number; 0 or QE_NOMEM */
void keepalive_fini(struct replica *r);
void keepalive_session(struct replica *r, uint64_t session, int64_t asked_ns); /* store thread: it is there, asked for at that time */
/* Raft loop. */
void keepalive_news(struct replica *r, const struct store_life_event *e);
void keepalive_step(struct replica *r, int64_t now_ns);
void keepalive_beat(struct replica *r, int64_t now_ns);
void keepalive_answered(struct replica *r, const Qfs__KeepAliveAnswer *a);
bool keepalive_message(struct replica *r, uint32_t from, const Qfs__PeerMessage *m); /* false: not ours */
void keepalive_refuse(struct replica *r, int err);   /* answers all, and whatever comes */

#endif
