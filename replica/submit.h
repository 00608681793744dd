/* submit: the way of a command from replica_submit to its answer.
 *
 *   waiting   stamped, encoded, not proposed
 *      |  submit_pump (raft loop): all that wait form one entry; one entry is in flight
 *      v
 *   proposed  in the log, or on its way there: it may take effect whatever we answer
 *      |  submit_result (store thread): applied
 *      v
 *   answered  the callback runs, on whatever thread came first, with no lock held
 *
 * A request leaves a list exactly once, under the lock; who unlinks it answers it. Timeouts (submit_expire), a stop and a failure
 * (submit_refuse) unlink as well. One rule of retry: what is unanswered is proposed again, in order and before anything new, when
 * leadership was lost; the store's session answers a repetition from its kept results. What was answered with a timeout is never
 * proposed again. */
#ifndef QFS_REPLICA_SUBMIT_H
#define QFS_REPLICA_SUBMIT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "replica/replica.h"

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
    uint64_t session;            /* ours, 0 before there is one */
    uint64_t nonce;              /* of the command that makes it; above that of any earlier run */
    uint64_t next_seq;           /* the last one given out */
    int refuse;                  /* 0, or what new requests are answered */
    bool busy;                   /* an entry is in flight: its end looks for what waits */
};

void submit_init(struct replica *r);
void submit_fini(struct replica *r);
/* As replica_submit, for the member's own commands: they pass while the disk is nearly full and have no timeout. The end of the
 * session passes after submit_refuse(QE_SHUTDOWN), too. */
void submit_internal(struct replica *r, struct replica_request *req, const struct store_command *cmd);
void submit_pump(struct replica *r);                    /* raft loop: proposes what waits */
void submit_result(struct replica *r, const struct store_result *result); /* store thread */
void submit_expire(struct replica *r, int64_t now_ns);  /* raft loop */
/* Answers `waiting` with err_waiting and `proposed` with err_proposed (0: leaves them), and new ones with `refuse`. */
void submit_refuse(struct replica *r, int refuse, int err_waiting, int err_proposed);
bool submit_in_session(struct replica *r); /* any thread: commands can be numbered; before that they would get no answer */
uint64_t submit_count(struct replica *r);               /* unanswered */
bool submit_drain(struct replica *r, int64_t until_ns); /* waits until all are answered; false: clock_boottime_ns passed until_ns */
void submit_end(struct replica *r, struct replica_request *list, int err); /* answers an unlinked list */

/* Submits and waits; for start and stop, never on the loop or the store thread. */
int submit_wait(struct replica *r, const struct store_command *cmd, int64_t *rev, uint64_t *ino);

#endif
