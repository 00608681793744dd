/* lessor: how long leases and sessions live. The decisions only: it knows no raft, no network and no clock; the time is a parameter
 * (ns of CLOCK_BOOTTIME), and whoever calls it proposes what it decides (tenure.c).
 *
 * Every member holds all lives, as the store tells of them. Only a leader counts, and only what it has seen itself:
 *
 *   known     no deadline: another member leads
 *     | lessor_begin: all that earlier leaders committed is applied. A lease gets its whole TTL, or what a checkpoint left it; a session
 *     |               the session TTL and a tenth
 *     v
 *   counted   in the heap. A renewal moves the deadline: lessor_renew, lessor_session; so does a TTL that is changed (by the log)
 *     | lessor_due, lessor_proposed: its time is over
 *     v
 *   ending    EXPIRE or LAPSE is proposed: it is not renewed any more, since the command may be committed whatever we hear of it
 *     | lessor_over: a lease has gone; a session has lost what it held, and is counted again when it is kept alive; if it failed, it is proposed
 *     v                again. A change of the TTL that the log puts before EXPIRE wins: the store refuses EXPIRE, and the lease is counted
 *   gone
 *
 * Whatever happens, a lease ends no earlier than its TTL after its last renewal: on one leader by the deadline; over a change, since the
 * new one begins later than the old one's last acknowledgement was asked for (rounds.h). `left_ns` is what a new leader gives; so a
 * renewal waits until it is 0 again (lessor_points), and a checkpoint is never less than what a lease has. Raft loop only. */
#ifndef QFS_REPLICA_LESSOR_H
#define QFS_REPLICA_LESSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uthash.h>

#include "replica/heap.h"
#include "store/store.h"

enum { LESSOR_POINTS = 4096 }; /* leases in one checkpoint */

struct life {
    struct heap_node node;   /* when to look at it; never later than the deadline. In the heap while counted and nothing is under way */
    struct life *next_wish;  /* lease: those that wait for a checkpoint */
    uint64_t id;
    int64_t deadline_ns;     /* while counted */
    int64_t ttl_ns, left_ns; /* lease: as the store has them */
    uint32_t member;         /* session: whose */
    bool session;            /* else a lease */
    bool ending;             /* its end was proposed in this term */
    bool under_way;          /* and has not been answered */
    bool pointed;            /* lease: a checkpoint of it is under way */
    bool wished;             /* lease: it is to get its whole TTL from a new leader, so that it can be renewed */
    UT_hash_handle hh;
};

struct lessor_point { uint64_t id; int64_t left_ns; }; /* left_ns 0: the whole TTL */

struct lessor {
    struct life *leases, *sessions; /* by id; owned */
    struct heap heap;        /* has room for all lives */
    size_t n_long;           /* leases that need checkpoints */
    int64_t session_ttl_ns;  /* the cluster setting */
    int64_t former_ttl_ns;   /* a longer one, by which members may count that have not heard, */
    int64_t former_until_ns; /* until then */
    bool counts;
    struct life *wishes;     /* by next_wish */
    int64_t points_ns;       /* when long leases were last looked through */
    struct lessor_point points[LESSOR_POINTS]; /* the checkpoint under way */
    size_t n_points;         /* 0: none is */
};

void lessor_fini(struct lessor *l);
size_t lessor_count(const struct lessor *l); /* lives */

/* ---- What the store tells ------------------------------------------------------------------------------------------------ */

int lessor_take(struct lessor *l, const struct store_life_event *e, int64_t now_ns); /* 0 or QE_NOMEM */
void lessor_forget(struct lessor *l);                                /* all lives: another database is told from its beginning */
void lessor_set_session_ttl(struct lessor *l, int64_t ttl_ns, int64_t now_ns);
const struct life *lessor_lease(const struct lessor *l, uint64_t id); /* NULL: there is none */

/* ---- While this member leads --------------------------------------------------------------------------------------------- */

void lessor_begin(struct lessor *l, int64_t now_ns);
void lessor_stop(struct lessor *l);

enum lessor_verdict { LESSOR_RENEWED, LESSOR_GONE, LESSOR_LATER /* a checkpoint comes first: ask again */ };
enum lessor_verdict lessor_renew(struct lessor *l, uint64_t lease, int64_t now_ns);
/* The session is kept alive; its member will count ttl_ns. False: it is not known, or ending. */
bool lessor_session(struct lessor *l, uint64_t session, int64_t ttl_ns, int64_t now_ns);
int64_t lessor_left(const struct lessor *l, uint64_t lease, int64_t now_ns); /* -1: there is none, or it is ending */

/* A life whose time is over, and whose end is to be proposed; NULL: none, now. */
struct life *lessor_due(struct lessor *l, int64_t now_ns);
void lessor_proposed(struct lessor *l, struct life *life);
enum lessor_end { LESSOR_ENDED, LESSOR_MORE /* in parts: again at once */, LESSOR_FAILED };
void lessor_over(struct lessor *l, bool session, uint64_t id, enum lessor_end how, int64_t now_ns);

/* What a checkpoint is to say, in `points`; it is under way then. 0: none is needed now, or one is under way. */
size_t lessor_points(struct lessor *l, int64_t now_ns);
void lessor_points_over(struct lessor *l); /* it is in the store, and the store has told of it */

#endif
