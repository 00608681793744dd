/* inbox: what other members have sent to this one, the leader, to be proposed.
 *
 * A member sends its commands in a stream: numbered frames of commands, each once, in the order of their sequence numbers. A stream
 * ends when anything may have been lost (the connection, the leader, its term), and the next one begins with all that is unanswered.
 * So a leader takes a frame only if it continues the newest stream of that member: nothing can overtake, nothing can be left out.
 * Stream numbers of a member grow, also over its restarts.
 *
 * Pure bookkeeping: no network, no libraft, no lock. The raft loop owns it. */
#ifndef QFS_REPLICA_INBOX_H
#define QFS_REPLICA_INBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replica/peer.pb-c.h"

enum {
    INBOX_MEMBERS_MAX = 64,
    INBOX_BYTES = 32 << 20,    /* of one member: twice the largest command, or many times what it sends unasked (SUBMIT_WINDOW_BYTES) */
    INBOX_COMMANDS = 8192,     /* of one member: more than it has unanswered */
};

struct inbox_command {
    struct inbox_command *next;
    uint32_t member;     /* whose */
    uint64_t seq;        /* its number in its session; of a SESSION its nonce */
    bool internal;       /* the member's own need: passes while the disk is nearly full */
    bool alone;          /* must have an entry of its own */
    size_t len;
    uint8_t bytes[];
};

struct inbox {
    uint32_t member;
    uint64_t stream;     /* the newest one */
    uint64_t next;       /* position in it of the next command to come */
    bool lost;           /* something of the stream is missing: nothing more is taken from it */
    struct inbox_command *head, *tail; /* owned; in order */
    size_t bytes, n;
    uint64_t used;       /* inboxes.frames when it last sent something */
};

struct inboxes {
    uint64_t term;       /* of our leadership; 0: we do not lead */
    struct inbox list[INBOX_MEMBERS_MAX];
    unsigned n;
    uint64_t frames;     /* that came in this term */
    unsigned turn;       /* propose.c: whose turn it is; 0 is our own, i + 1 is list[i] */
};

enum inbox_verdict {
    INBOX_TAKEN,
    INBOX_OLD,       /* of an ended stream or term, or a repetition: nothing to do */
    INBOX_RESTART,   /* the sender must begin a new stream */
    INBOX_MALFORMED, /* not something that a member sends */
};
enum inbox_verdict inbox_take(struct inboxes *in, uint32_t from, const Qfs__Forward *f, const uint8_t *payload, size_t len);

struct inbox_command *inbox_pop(struct inbox *in);          /* ownership passes: free() */
void inbox_lose(struct inbox *in);                          /* what is here is dropped; so is the rest of the stream */
void inbox_reset(struct inboxes *in, uint64_t term);        /* another term, or no leadership: everything is dropped */

#endif
