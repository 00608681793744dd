/* barrier: linearizable reads without a write (Raft dissertation 6.4, ReadIndex).
 *
 * The asker's side, and the leader's; both on the raft loop. The story is at the head of barrier.c. */
#ifndef QFS_REPLICA_BARRIER_H
#define QFS_REPLICA_BARRIER_H

#include <stdbool.h>
#include <stdint.h>

#include "replica/peer.pb-c.h"
#include "replica/rounds.h"
#include "replica/submit.h"

enum {
    BARRIER_QUESTIONS = 4,    /* sent to the leader and unanswered: more wait, and share the next one */
    BARRIER_READS = 512,      /* questions that the leader has open; what is above it is asked again */
};

struct barrier_read { /* the leader's: a question that waits for its confirmation */
    struct rounds_question question;
    uint64_t id;          /* the asker's */
    uint64_t index;       /* commit index; 0: we have not committed an entry of our own term yet */
};

struct barrier {
    /* The asker's: requests in order of arrival. */
    struct submit_list fresh;  /* in no question yet */
    struct submit_list asked;  /* priv.seq: the first question that covers it */
    struct submit_list known;  /* priv.seq: what must be applied before it */
    uint64_t last_id;          /* the newest question; begins at submit.nonce */
    uint64_t answered_id;      /* the newest that was answered */
    uint64_t known_index;      /* the highest index that was answered */
    int64_t asked_ns;          /* when the newest was sent */

    /* The leader's. */
    struct barrier_read reads[BARRIER_READS];
    unsigned n_reads;
};

void barrier_init(struct replica *r);
void barrier_add(struct replica *r, struct replica_request *newest_first); /* from the mailbox; ownership passes */
void barrier_step(struct replica *r);                    /* after anything that may have changed */
void barrier_tick(struct replica *r, int64_t now_ns);    /* what was lost is asked again; expired ones are answered */
void barrier_refuse(struct replica *r, int err);         /* answers all */
bool barrier_message(struct replica *r, uint32_t from, const Qfs__PeerMessage *m); /* false: not ours */

/* For rounds.c: the leader's questions. */
bool barrier_has_questions(const struct replica *r);
void barrier_confirm(struct replica *r);                 /* answers those that are confirmed */
void barrier_join(struct replica *r, uint64_t round);    /* those in no round are in this one */
void barrier_drop(struct replica *r);

#endif
