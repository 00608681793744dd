/* guard: everything that makes libraft safe to use, as rules around libraft's own disk and network functions (struct raft_io).
 *
 * Only the files guard*.c know which version of libraft this is and look into its structs; the others call its public functions:
 * guard.c has the rules between libraft and the disk, guard_peer.c those between members, guard_glance.c only looks. Each rule is one
 * function, with its reason. The guard is put between libraft and raft_uv after raft_uv_init and before raft_init.
 *
 * Everything here belongs to the raft loop. */
#ifndef QFS_REPLICA_GUARD_H
#define QFS_REPLICA_GUARD_H

#include <raft.h>
#include <raft/uv.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/store.h"

enum {
    GUARD_MEMBERS_MAX = 64,          /* of one configuration: voters and those that wait to become one */
    GUARD_MESSAGE_ENTRIES = 1024,    /* of one AppendEntries */
    GUARD_MESSAGE_BYTES = 1 << 20,   /* of its entries, unless a single one is larger */
    GUARD_PROMISE_MS = 50,           /* how long a promise counts for who gave it */
};

/* Rules that tests can switch off one by one, to show what each is for. Members never do. */
enum guard_rule {
    GUARD_TRIM = 1 << 0,          /* entries below our snapshot are cut off a message */
    GUARD_COMMIT_CAP = 1 << 1,    /* a follower commits only what was compared with its leader's log */
    GUARD_ACK = 1 << 2,           /* a follower acknowledges only what was compared, and only to that leader */
    GUARD_COUNT = 1 << 3,         /* a leader counts answers only for entries of its own term */
    GUARD_BARRIER = 1 << 4,       /* a new leader appends an entry of its own term */
    GUARD_PATIENCE = 1 << 5,      /* no candidacy while writes or an install are under way */
    GUARD_ONE_VOTE = 1 << 6,      /* one vote in a term, even during a transfer */
    GUARD_TRUNCATE = 1 << 7,      /* a truncation and a snapshot never meet */
    GUARD_LATE_WRITE = 1 << 8,    /* a write counts only for entries that were not replaced meanwhile */
    GUARD_CONFIGURATION = 1 << 9, /* a configuration that was not committed is undone with its entry */
    GUARD_PROBE = 1 << 10,        /* a member that was away is asked where it stands */
    GUARD_NUDGE = 1 << 11,        /* followers hear of a commit at once */
    GUARD_FAIL_STOP = 1 << 12,    /* the first failed write stops the member */
    GUARD_UNBATCH = 1 << 13,      /* one buffer for each entry read from disk */
    GUARD_NEW_TERM = 1 << 14,     /* a sole voter begins a new term */
    GUARD_INSTALL = 1 << 15,      /* a snapshot replaces a log that differs from it, whatever its terms */
    GUARD_VOTER = 1 << 16,        /* votes are given whatever the voter's own configuration says */
    GUARD_PRE_VOTE = 1 << 17,     /* who refuses a pre-vote tells its term */
    GUARD_MESSAGE = 1 << 18,      /* a message carries a bounded part of the missing entries */
    GUARD_LEADER = 1 << 19,       /* a leader that is silent or gone does not keep another one from being elected */
    GUARD_FULL = 1 << 20,         /* a follower with too much to apply takes no more */
    GUARD_PROMISE = 1 << 21,      /* no vote and no candidacy while a promise to the leader counts */
    GUARD_RULES = 1 << 22,        /* one above the last */
};

struct guard_hooks { /* how the guard speaks to the member */
    void *data;
    void (*fail)(void *data, const char *what); /* fail-stop; called once; libraft hears nothing any more */
    void (*tick)(void *data);                   /* libraft's timer fired (each heartbeat) */
    void (*written)(void *data, int64_t ns);    /* an entry reached the disk in that time */
    /* A leader's snapshot has come, and is held back until the database it stands for is here: guard_install_release or
     * guard_install_drop must follow. Called again when a newer one replaces it. NULL: a member that never gets one. */
    void (*install)(void *data, raft_id leader, const struct raft_install_snapshot *snapshot);
    /* Too much is committed and not applied: no more entries are taken. NULL: never. */
    bool (*full)(void *data);
    /* The log was truncated at `index`, and something was written behind that: whether the files agree. NULL: not asked. */
    bool (*truncated)(void *data, uint64_t index);
    void (*step)(void *data);                   /* libraft has done something: role, term, indexes may be others. May be NULL */
};

struct guard_write;
struct guard_send;

struct guard {
    /* Set once before raft_start. */
    struct raft *raft;                 /* the guarded one; its `data` points to this guard */
    struct guard_hooks hooks;
    struct store_position store;       /* where the database is, for the comparison at start */
    uint8_t cluster_id[STORE_CLUSTER_ID_SIZE]; /* whose entries the log may hold */
    bool may_be_empty;                 /* this member is new to its cluster: its log comes from others */
    unsigned off;                      /* tests only: enum guard_rule that are switched off */
    unsigned message_entries;          /* GUARD_MESSAGE_ENTRIES, or a test's */
    struct raft_io saved;              /* raft_uv's own functions */

    /* Raft loop. */
    raft_io_tick_cb tick;              /* libraft's */
    raft_io_recv_cb recv;              /* libraft's */
    int64_t heard_ns;                  /* when a leader of our term, or of a later one, last sent something */
    int64_t promised_ns;               /* until then a promise counts, or may count that was given before this start */
    struct raft_message stand;         /* a TimeoutNow that came before the promise was over, and waits for that; type 0: none */
    bool failed;                       /* after the first failed write: nothing is passed on */
    unsigned appends;                  /* writes under way */
    struct guard_write *writes;        /* the same as a list */
    struct guard_send *sends;          /* AppendEntries on their way out */
    uint64_t verified_term;            /* the term whose leader's log ours was compared with */
    uint64_t verified;                 /* up to here they are the same */
    uint64_t leader_commit;            /* the highest commit index that leader has told */
    bool reminding;                    /* libraft is told once more; its answer goes nowhere */
    uint64_t barrier_term;             /* the last term in which we led and appended a barrier */
    struct raft_barrier barrier;       /* that one; never freed before the guard */
    struct guard_told {                /* leader: of a follower */
        raft_id id;
        uint64_t commit;               /* the commit index that it was sent */
        uint64_t cut;                  /* its last message ended before this index, although there were more; 0: it did not */
        bool heard;                    /* it has answered in this term, */
        raft_time heard_at;            /* at this time the last time */
    } told[GUARD_MEMBERS_MAX];
    unsigned n_told;                   /* used ones; all of `told_term` */
    uint64_t told_term;                /* when it was leader */
    bool holding;                      /* an InstallSnapshot waits for its database */
    struct raft_message held;          /* that one; owned while `holding` */
    char held_address[32];             /* what held.server_address points to */
    uint64_t passing_term;             /* true term of a snapshot that is just being handed to libraft with another; 0: none */
    struct raft_configuration base;    /* the configuration at `base_index`, when the log does not hold its entry */
    uint64_t base_index;               /* 0: none */
    bool truncating;                   /* a truncation, and no write that was submitted behind it is complete */
    uint64_t truncated_at;             /* its index */
    unsigned trailing;                 /* of a put that waits for `truncating` to end */
    const struct raft_snapshot *waiting_put; /* its snapshot; NULL: none waits */
    bool snapshotting;                 /* a snapshot is being written */
    struct raft_io_snapshot_put *put;  /* libraft's request for it */
    raft_io_snapshot_put_cb put_cb;    /* and its callback */
    struct raft_io_snapshot_put own_put; /* ours, handed to raft_uv */
    raft_io_close_cb close_cb;         /* libraft's */
    bool closed;                       /* it has been called */
    uint64_t log_bytes;                /* payload bytes of entries since the last snapshot */
    uint64_t marker_bytes;             /* a marker snapshot is due above it */
    uint64_t keep_bytes;               /* leader: so much of the log may be kept for members that lack it */
    struct buf why;                    /* the sentence of a refused start */
};

/* Decorates `io`, which raft_uv_init (or a test) has filled. */
void guard_install(struct guard *g, struct raft *raft, struct raft_io *io, const struct guard_hooks *hooks);
/* After raft_init: the settings that we never leave to libraft's defaults. */
void guard_configure(struct guard *g, unsigned election_ms, unsigned heartbeat_ms);
void guard_fini(struct guard *g);

uint64_t guard_term_of(const struct guard *g, uint64_t index);   /* 0: not in the log */
uint64_t guard_commit(const struct guard *g);
uint64_t guard_snapshot_index(const struct guard *g);
uint64_t guard_term(const struct guard *g);
unsigned guard_servers(const struct guard *g, unsigned *voters);
unsigned guard_voters(const struct guard *g, raft_id *out, unsigned max); /* of the newest configuration */
bool guard_transferring(const struct guard *g);                  /* leader, and handing over */
/* Neither a vote nor a candidacy for GUARD_PROMISE_MS from now on. False: not promised, since `leader` is not the one that we follow. */
bool guard_promise(struct guard *g, raft_id leader);
bool guard_busy(const struct guard *g);                          /* closing now would meet work under way */
bool guard_settled(const struct guard *g);                       /* leader, and an entry of its own term is committed */
struct guard_server { /* of the newest configuration */
    uint32_t id;
    int role;          /* RAFT_VOTER, RAFT_STANDBY, RAFT_SPARE */
    uint64_t match;    /* leader: our log is stored there up to this index, as far as it has told; of ourselves what is stored here */
    uint64_t silent_ms; /* leader: since it has answered us in this term; UINT64_MAX: it never has. 0 of ourselves */
};
unsigned guard_configuration(const struct guard *g, struct guard_server out[GUARD_MEMBERS_MAX]);
uint64_t guard_configuration_index(const struct guard *g);
bool guard_votes(const struct guard *g);                         /* we are a voter of the newest configuration */
bool guard_changing(const struct guard *g);                      /* a change of the configuration is under way */
uint64_t guard_stored(const struct guard *g);                    /* index of the last entry on our disk */
bool guard_may_snapshot(const struct guard *g);                  /* else fsm->snapshot answers RAFT_BUSY */

/* Hands the held InstallSnapshot to libraft, unless it is out of date by now (false: not just now, call again); or forgets it: the
 * leader sends it again. */
bool guard_install_release(struct guard *g);
void guard_install_drop(struct guard *g);

/* The connection to a member has been made anew. A leader whose snapshot was on its way there sends it again, if it is still needed. */
void guard_member_up(struct guard *g, raft_id id);

/* The process of that member has ended, as far as can be told from here. */
void guard_member_gone(struct guard *g, raft_id id);

/* Called by fsm->snapshot when a marker was begun, and at each apply: decides when the next one is due. */
void guard_marker_begun(struct guard *g);
void guard_marker_consider(struct guard *g);

#endif
