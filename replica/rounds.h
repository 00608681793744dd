/* rounds: does this member still lead? A leader may have been deposed without knowing it, so before it answers what must be true now - a
 * read barrier (barrier.c), a keepalive (tenure.c) - a majority of the voters says that the leader's term is still theirs, asked
 * after the question came: TermCheck.
 *
 * Who confirms: the leader itself; the asker, if it is a voter, because it was in that term when it asked; and as many more as it takes, by
 * rounds which all open questions share. So of three members a question of a follower takes one round trip, and one of the leader one, too.
 *
 * Who is asked: those who answered first when all were asked, as many as a majority needs: what the others would say changes nothing, and costs
 * them and us a message each. When one of them is late (ROUNDS_LATE_MS), all are asked, and now and then (ROUNDS_ALL_EVERY), so that
 * those who are asked stay the quickest. Promises are asked of all.
 *
 * Why it is enough: a majority of the voters that had a later term when they voted for its leader finds no majority here, since terms never go
 * back. So no later leader was elected before the question came.
 *
 * Promises. Voters may promise, in answering, neither to vote nor to stand for GUARD_PROMISE_MS. While the promises of a majority count nobody
 * can be elected, and the leader need not ask: rounds_promised. It counts them from when it asked, a tenth shorter, because clocks differ in
 * rate. This is for keepalives only, whose whole matter is time that clocks count; read barriers trust no clock. Promises are asked for as often
 * as they run out while they save keepalives a round, and else with each round in ROUNDS_ALL_EVERY: where keepalives are few, or voters far
 * away, they never do. A leader that hands over lets them run out first: rounds_free. Raft loop only. */
#ifndef QFS_REPLICA_ROUNDS_H
#define QFS_REPLICA_ROUNDS_H

#include <stdbool.h>
#include <stdint.h>

#include "replica/guard.h"
#include "replica/peer.pb-c.h"

struct replica;

enum {
    ROUNDS_OPEN = 4,       /* begun and not confirmed */
    ROUNDS_LATE_MS = 5,    /* after that an answer is late */
    ROUNDS_ALL_EVERY = 64, /* rounds: one of so many asks all */
    ROUNDS_BEGUN = 8,      /* newest rounds whose beginning is known */
    ROUNDS_PROMISE_MS = GUARD_PROMISE_MS - GUARD_PROMISE_MS / 10,
};

struct rounds_question { /* part of what waits for its confirmation */
    uint32_t from;       /* the asker; may be the leader itself */
    bool vouched;        /* the asker, in asking, said that its term is still ours */
    uint64_t round;      /* the first round that began after the question came; 0: none yet */
};

struct rounds {
    uint64_t term;             /* of all below */
    uint64_t round;            /* the newest that was begun */
    struct rounds_confirmed {
        raft_id id;
        uint64_t round;        /* the newest that this voter has answered */
        int64_t promised_ns;   /* until then its promise counts here */
    } confirmed[GUARD_MEMBERS_MAX];
    unsigned n_confirmed;
    raft_id voters[GUARD_MEMBERS_MAX]; /* as of the last step */
    unsigned n_voters;

    /* Who is asked. */
    raft_id quick[GUARD_MEMBERS_MAX]; /* the voters that have answered, in the order of their answers to `all` */
    unsigned n_quick;
    unsigned n_all;            /* of them have answered `all` */
    uint64_t all;              /* the newest round of which all were asked */
    uint64_t late;             /* what waits for this round or an earlier one when rounds_late is called waits too long; 0: no such call to come */

    /* Promises. */
    struct { uint64_t round; int64_t ns; } begun[ROUNDS_BEGUN]; /* by round % ROUNDS_BEGUN */
    int64_t asked_ns;          /* when promises were last asked for */
    int64_t free_until_ns;     /* none is asked for before this */
    int64_t paid_ns;           /* when they last saved a round */
    bool eager;                /* tests: they are asked for whether that pays or not */

    /* What a step finds out from those who have questions. */
    bool without;              /* one is in no round yet */
    bool promise;              /* promises are wanted */
    bool ageing;               /* those that there are are half over: a round for their sake */
    uint64_t oldest;           /* the oldest round that one waits for; 0: none */
};

bool rounds_lead(struct replica *r);                  /* this member leads, as far as it knows */
void rounds_renew(struct replica *r);                 /* before a question is taken: those of another term are dropped, and asked again */
bool rounds_confirmed(struct replica *r, const struct rounds_question *q);
bool rounds_promised_until(struct replica *r, int64_t ns); /* the promises of a majority count for longer than that */
bool rounds_promised(struct replica *r);              /* within a step: nobody else can be elected now; and promises are kept up */
bool rounds_free(struct replica *r);                  /* no promise that was asked for binds a voter; and none is asked for in the next second */
void rounds_wait(struct replica *r, const struct rounds_question *q); /* within a step: it waits */
void rounds_step(struct replica *r);                  /* answers what is confirmed, begins a round for the rest */
void rounds_tick(struct replica *r);                  /* what was lost is asked again */
void rounds_late(struct replica *r);                  /* ROUNDS_LATE_MS after loop_call_late */
bool rounds_message(struct replica *r, uint32_t from, const Qfs__PeerMessage *m); /* false: not ours */

#endif
