/* tenure: the leader's part in the lives of leases and sessions. It answers keepalives once they are confirmed (rounds.h), and proposes
 * what the lessor decides: EXPIRE of leases, LAPSE of sessions, CHECKPOINT of long leases. These carry the term and the index that
 * the decision knew of, and the store refuses them in an entry of another term, or after a later change of the lease: so what an old
 * leader decided, and somebody forwards or commits late, does nothing. Raft loop only, but for the feed. */
#ifndef QFS_REPLICA_TENURE_H
#define QFS_REPLICA_TENURE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "replica/lessor.h"
#include "replica/peer.pb-c.h"
#include "replica/replica.h"
#include "replica/rounds.h"

enum {
    TENURE_IDS = 3000,      /* leases in one keepalive: head of a frame */
    TENURE_ASKS = 256,      /* keepalives that wait for their confirmation; what is above it is asked again */
    TENURE_ENDS = 64,       /* EXPIRE and LAPSE under way, */
    TENURE_GROUP = 16,      /* in one entry, unless they are late */
};

/* The feed: what the store thread tells of lives, on its way to the loop. */
struct feed {
    pthread_mutex_t lock;
    struct store_life_event *list; /* under lock; owned */
    size_t n, cap;                 /* under lock */
    bool anew;                     /* under lock: another database; `list` is all that it holds */
    struct store_life_event *out;  /* the loop's; owned */
    size_t out_cap;
};

struct tenure_ask { /* a keepalive that waits */
    struct rounds_question question;
    uint64_t id, session, applied;
    int64_t ttl_ns;
    uint64_t *leases;       /* owned: n_renew to be renewed, then n_ask to be told of; NULL: none */
    size_t n_renew, n_ask;
};

struct tenure_end { /* a command under way */
    struct replica_request req;
    struct replica *r;
    bool used;
    bool session;           /* of a session, else of a lease */
    uint64_t id, number;    /* of the tenure that wanted it */
    _Atomic bool done;      /* set last, by whoever answers it; `err` and `more` are valid then */
    int err;
    bool more;
};

struct tenure {
    struct feed feed;
    struct lessor lessor;
    bool leads;             /* as of the last step, in */
    uint64_t term;          /* that term */
    uint64_t settled;       /* the commit index at which all of earlier terms was known; 0: not yet */
    uint64_t needed;        /* the last entry up to there that the store thread was handed, or a later one; 0: not yet */
    uint64_t number;        /* of tenures of this member: changes with each term that it leads in */
    uint64_t seen;          /* index of the log that the lessor knows */
    int64_t beat_ns;        /* the last beat */
    int64_t listens_ns;     /* nothing is ended before this time */

    struct tenure_ask asks[TENURE_ASKS];
    unsigned n_asks;
    struct tenure_end ends[TENURE_ENDS];
    struct tenure_end points; /* the checkpoint */
    unsigned n_under_way;     /* used ones of both */
    uint64_t renewed[TENURE_IDS], gone[TENURE_IDS], asked[TENURE_IDS], left_ns[TENURE_IDS]; /* of the answer in the making */

    _Atomic uint64_t n_expired, n_lapsed, n_renewed; /* by this member, since its start; any thread */
};

int tenure_open(struct replica *r);                     /* before the threads start: loads all lives from the store */
void tenure_fini(struct replica *r);
void tenure_step(struct replica *r, int64_t now_ns);
void tenure_beat(struct replica *r, int64_t now_ns);
/* A keepalive of a member (or of this one): its leases are copied. */
void tenure_ask(struct replica *r, uint32_t from, const Qfs__KeepAlive *m);

/* The store thread. */
void tenure_feed(struct replica *r, const struct store_life_event *e, size_t n);
void tenure_feed_anew(struct replica *r, struct store_reader *reader); /* after an install */

/* For rounds.c: the leader's questions. */
bool tenure_has_questions(const struct replica *r);
void tenure_confirm(struct replica *r);
void tenure_join(struct replica *r, uint64_t round);
void tenure_drop(struct replica *r);

#endif
