/* submit: the way of a command from replica_submit to its answer.
 *
 *   waiting   stamped, encoded; nobody else knows of it (unless it was sent before: SUBMIT_SENT)
 *      |  on the leader: submit_pump puts what waits into an entry, one entry in flight (propose.c)
 *      |  elsewhere: forward_pump sends it to the leader, in a stream (forward.c)
 *      v
 *   proposed  in the log, or on its way there: it may take effect whatever we answer
 *      |  submit_result (store thread): our own store has applied it
 *      v
 *   answered  the callback runs, on whatever thread came first, with no lock held
 *
 * A request leaves a list exactly once, under the lock; who unlinks it answers it. Timeouts (submit_expire), a leader's refusal, a
 * stop and a failure unlink as well. One rule of retry: when there is another leader, another term, or a new connection to the leader,
 * everything that is proposed goes back in front of what waits and is sent again, in order and before anything new; the store's
 * session answers a repetition from its kept results. What was answered with a timeout is never proposed or sent again. */
#ifndef QFS_REPLICA_SUBMIT_H
#define QFS_REPLICA_SUBMIT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "replica/inbox.h"
#include "replica/replica.h"

enum {
    SUBMIT_WINDOW_BYTES = 4 << 20,                /* sent to the leader and unanswered, unless one command alone is larger */
    SUBMIT_COMMAND_BYTES = (17 << 20) - 128,      /* of one command: it and the entry around it go in one frame (FRAME_PAYLOAD_MAX) */
    SUBMIT_WINDOW_COMMANDS = STORE_RESULTS_MAX,   /* likewise: what is repeated must still find its kept result */
};

enum { /* bits of priv.state */
    SUBMIT_INTERNAL = 1, /* the member's own: no timeout, passes while the disk is nearly full */
    SUBMIT_SESSION = 2,  /* makes the session: not numbered, alone in its entry */
    SUBMIT_FINAL = 4,    /* ends it: passes while the member stops */
    SUBMIT_SENT = 8,     /* it may be in a log, whatever comes now: "will not take effect" is no answer any more */
    SUBMIT_PATIENT = 16, /* no timeout */
};

struct submit_list { /* doubly linked by priv.prev, priv.next */
    struct replica_request *head, *tail;
};

struct submit {
    pthread_mutex_t lock;
    pthread_cond_t empty;        /* n_waiting has become 0 */
    /* Under `lock`. */
    struct submit_list waiting;  /* in order of seq */
    struct submit_list proposed; /* in order of seq; all before `waiting` */
    uint64_t n_waiting;          /* in both lists */
    size_t waiting_bytes;        /* of commands in `waiting` */
    size_t proposed_bytes;       /* of commands in `proposed` */
    uint64_t session;            /* ours, 0 before there is one */
    uint64_t nonce;              /* of the command that makes it; above that of any earlier run */
    uint64_t next_seq;           /* the last one given out */
    int refuse;                  /* 0, or what new requests are answered */
    bool busy;                   /* an entry is in flight: its end looks for what waits */
    bool shut;                   /* what waits does not fit into the window: an answer must wake the loop */
    int64_t progress_ns;         /* when something of ours was applied, or began to be sent */

    /* Raft loop only: where commands go (forward.c). */
    uint32_t leader;             /* 0: nobody is known */
    uint64_t term;               /* its term */
    uint64_t stream;             /* number of the stream to it; begins at `nonce` */
    uint64_t position;           /* commands sent in it */
    bool broken;                 /* a new stream is due */
    struct inboxes inboxes;      /* as leader: what others sent */

    _Atomic bool leaderless;     /* no leader was heard of for an election timeout; any thread */
};

void submit_init(struct replica *r);
void submit_fini(struct replica *r);
/* Nonce and streams begin above those of earlier starts. */
void submit_number(struct replica *r, uint64_t incarnation, uint64_t run);
/* As replica_submit, for the member's own commands: they pass while the disk is nearly full and have no timeout. The end of the
 * session passes after submit_refuse(QE_SHUTDOWN), too. */
void submit_internal(struct replica *r, struct replica_request *req, const struct store_command *cmd);
void submit_result(struct replica *r, const struct store_result *result); /* store thread */
/* Raft loop: answers those whose time is over with QE_TIMEDOUT; `all`: everybody's but the member's own. */
void submit_expire(struct replica *r, int64_t now_ns, bool all);
/* Answers `waiting` with err_waiting and `proposed` with err_proposed (0: leaves them), and new ones with `refuse`. */
void submit_refuse(struct replica *r, int refuse, int err_waiting, int err_proposed);
void submit_raise_nonce(struct replica *r, uint64_t above);
bool submit_in_session(struct replica *r); /* any thread: commands can be numbered; before that they would get no answer */
uint64_t submit_count(struct replica *r);               /* unanswered */
bool submit_drain(struct replica *r, int64_t until_ns); /* waits until all are answered; false: clock_boottime_ns passed until_ns */
void submit_end(struct replica *r, struct replica_request *list, int err); /* answers an unlinked list */

/* Under the lock; for propose.c and forward.c. */
void submit_push(struct submit_list *l, struct replica_request *req);
void submit_unlink(struct submit_list *l, struct replica_request *req);
struct replica_request *submit_take(struct submit *s); /* the first that waits, out of its list; NULL: none */
void submit_leave(struct submit *s);                    /* one request less is unanswered */
void submit_note_proposed(struct submit *s, struct submit_list *taken); /* they are proposed now */
/* What is proposed goes back in front of what waits. `sent`: it may be in a log. Takes the lock. */
void submit_take_back(struct replica *r, bool sent);
/* The answer to a command that is refused: what may be in a log is not refused. */
int submit_refusal(const struct replica_request *req, int err);

/* propose.c (raft loop): the leader's next entry, or what is to be sent to the leader. Call after anything that may have changed. */
void submit_pump(struct replica *r);

/* forward.c (raft loop). */
void forward_aim(struct replica *r);                    /* looks who leads; after a change everything is sent again */
void forward_again(struct replica *r);                  /* everything unanswered is sent again, as after a change */
void forward_pump(struct replica *r);
void forward_tick(struct replica *r, int64_t now_ns);
void forward_up(struct replica *r, uint32_t member);    /* our connection to it can be used again */
bool forward_message(struct replica *r, uint32_t from, const Qfs__PeerMessage *m, const uint8_t *payload, size_t len); /* false: not ours */
void forward_refuse(struct replica *r, const struct inbox_command *c, int err); /* tells its member */
void forward_lose_all(struct replica *r);               /* the inboxes are dropped; their members are told to send again */

/* Submits and waits; for start and stop, never on the loop or the store thread. */
int submit_wait(struct replica *r, const struct store_command *cmd, int64_t *rev, uint64_t *ino);

#endif
