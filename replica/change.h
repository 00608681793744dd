/* change: who belongs to the cluster, and what it does there: roles, removal, handing leadership over.
 *
 * What is wished for stands in the table of members, which is replicated; what is, in raft's configuration. The leader brings the second
 * to the first, one step at a time (change_step), so that a change which lost its leader half way is completed by the next one:
 *
 *   row                       server of raft       step
 *   standby or voter          none                 raft_add: a spare, which gets nothing yet
 *   standby or voter          spare                raft_assign standby: it gets the log, or the database
 *   voter                     standby, caught up   raft_assign voter
 *   standby                   voter                raft_assign standby; the leader itself hands over first
 *   leaving                   any                  raft_remove; the leader itself hands over first
 *   leaving                   none                 the row is removed; the others then tell the member that it is one no more
 *
 * A step that changes who votes needs all voters of the new configuration to be there and caught up, and a majority of the old one; if it takes
 * the vote of one that is not, a majority of both.
 * (Raft dissertation 4.1: one server at a time, and not before an entry of the leader's own term is committed; 4.2.1: a new server
 * catches up before it votes.)
 *
 * A request (replica_change) comes from any member to the leader, which refuses it, or writes the wish down and answers when it has come
 * true. After a change of leader the member asks again; asking twice does no harm.
 *
 * Everything but change_init and replica_change belongs to the raft loop. */
#ifndef QFS_REPLICA_CHANGE_H
#define QFS_REPLICA_CHANGE_H

#include <raft.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "replica/peer.pb-c.h"
#include "replica/replica.h"

enum {
    CHANGE_GOALS_MAX = 64,      /* requests that the leader remembers */
    CHANGE_LAG_MAX = 64,        /* entries that a caught-up member may be behind for the moment */
    CHANGE_STEP_MS = 50,        /* between two looks at what is wished for */
    CHANGE_AGAIN_MS = 1000,     /* to the next one, when a row could not be written: the disk is full, perhaps */
    CHANGE_MOVE_MS = 2000,      /* between two tries to tell our address */
    CHANGE_GOAL_MS = 60000,     /* a request that has not come true by then is forgotten; its asker has gone long before */
};

struct change_goal { /* a request, at the leader */
    uint32_t from;              /* who asks; 0: unused */
    uint64_t ticket;            /* its number for the request */
    enum replica_change_kind kind;
    uint32_t id;                /* about whom */
    int role;                   /* enum store_member_role */
    enum { GOAL_NEW, GOAL_WRITING, GOAL_WAITING } at; /* not looked at; the wish is being written; it has to come true */
    int64_t deadline_ns;
};

struct change {
    /* As the leader. */
    struct change_goal goals[CHANGE_GOALS_MAX];
    struct raft_change raft;    /* the one under way; libraft may use it after a failure, so it is never freed */
    bool changing;              /* it is */
    uint64_t term;              /* in which the following hold */
    uint64_t fence;             /* the table is as new as raft's configuration once the store has applied this; 0: not known yet */
    int64_t looked_ns;          /* when change_step last did its work */
    uint32_t warned;            /* the number of voters that was last warned of */

    /* The row that is being written; one at a time. */
    struct replica_request row;
    bool writing;               /* it is on its way */
    _Atomic bool written;       /* it has been answered: by any thread */
    int row_err;                /* the answer; read after `written` */
    uint32_t row_from;          /* whose goal it is; 0: our own step */
    uint64_t row_ticket;

    /* Our own address, which may be newer than the table. */
    char address[STORE_ADDRESS_MAX + 1]; /* "": there is nothing to tell; set once before the loop runs */
    struct replica_request move;
    _Atomic bool moving;        /* it is on its way */
    int64_t moved_ns;           /* when it was last tried */

    /* As the one who asks. */
    struct replica_request *asked; /* unanswered requests of this member, newest first; priv.seq is their ticket */
    uint64_t tickets;           /* given out; begins at a random number, so that no earlier run's are taken for ours */
};

void change_init(struct replica *r);
void change_take(struct replica *r, struct replica_request *newest); /* from the mailbox: a list, newest first */
void change_step(struct replica *r, int64_t now_ns);       /* after anything has happened */
uint32_t change_successor(const struct replica *r);         /* leader: the healthy voter that has most of its log; 0: none */
void change_refuse(struct replica *r, int err);            /* answers all that was asked here */
bool change_message(struct replica *r, uint32_t from, const Qfs__PeerMessage *m); /* false: it is of another kind */

#endif
