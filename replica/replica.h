/* replica: the member. Turns commands into entries of libraft's log, and committed entries into changes of the store.
 *
 * Threads: a raft loop (libuv) and a store thread, both made by replica_start. Functions marked "any thread" may be called by any
 * thread but not from a callback's thread when they are marked "waits". fs never needs to know which thread answers. */
#ifndef QFS_REPLICA_H
#define QFS_REPLICA_H

#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"

struct replica;

/* ---- Making a data directory --------------------------------------------------------------------------------------------- */

enum { REPLICA_VOTERS_MAX = 7 };
struct replica_init {
    const char *dir;         /* made (0700) if missing; else must be empty, or hold only what an interrupted init left */
    uint32_t member_id;      /* > 0 */
    uint32_t root_uid, root_gid;
    const char *const (*settings)[2]; /* cluster settings {name, value}, already checked */
    size_t n_settings;
    /* The members that the cluster begins with, all of them voters, this one among them; the same on each of them, in any order. Of
     * each only id and address count. None: a cluster of one with a random id. */
    const struct store_member *members;
    size_t n_members;
    const char *token;       /* tells clusters with the same members apart; NULL: "" */
    const char *from;        /* a copy of a database (replica_export), or a data directory that is not in use, to begin with; NULL: an empty tree */
    const char *listen;      /* cluster of one: its address, for members that join later; NULL or "": it has none yet */
    const char *advertise;   /* cluster of one: as in replica_options */
};
/* A new cluster, or one member of a new cluster. What is replicated, and the cluster id, follow from these arguments alone if there is
 * a list of members. Crash-safe: killed at any moment, a second call completes it; one that fails leaves the directory, and nothing in it. QE_EXIST: DIR has a cluster; QE_NOTEMPTY: DIR holds
 * something else, which `why` names; QE_LOCKED; QE_INVAL: a list that cannot be, with a sentence. */
int replica_init(const struct replica_init *init, struct buf *why);

/* Whether a member could listen at this address of this machine, whoever has the port now: 0, or QE_INVAL, QE_PERM (not loopback, and not
 * `insecure`), with a sentence. Waits for the resolver. */
int replica_may_listen(const char *listen, bool insecure, struct buf *why);

struct replica_join {
    const char *dir;         /* as replica_init's */
    const char *member;      /* HOST:PORT of any running member */
    const char *listen;      /* where this one will listen */
    const char *advertise;   /* as in replica_options */
    bool insecure;           /* addresses other than loopback are allowed, although there is no TLS */
};
/* Asks the cluster to take a new member in, fetches the database, and makes its directory; it catches up, and is made a voter, when it is
 * started. `id` gets its id. Crash-safe as replica_init; but each call that was not completed may leave a member that never comes, to be
 * removed. Errors as replica_init's, and QE_TIMEDOUT, QE_PERM (not loopback), QE_INVAL (refused), with a sentence. Waits. */
int replica_join(const struct replica_join *join, uint32_t *id, struct buf *why);

enum replica_dir_state { REPLICA_DIR_MISSING, REPLICA_DIR_EMPTY /* or a half-made one */, REPLICA_DIR_READY, REPLICA_DIR_FOREIGN };
enum replica_dir_state replica_dir_state(const char *dir, struct buf *what);

/* ---- Life ---------------------------------------------------------------------------------------------------------------- */

struct replica_options {
    const char *dir;
    int timeout_ms;          /* member setting `timeout`: how long a request waits for a quorum */
    const char *listen;      /* HOST:PORT where this member waits for the others; borrowed for replica_start. NULL or "": no network */
    const char *advertise;   /* HOST:PORT where they reach it; NULL or "": where it listens */
    bool insecure;           /* addresses other than loopback are allowed, although there is no TLS */
    void *data;              /* handed to the hooks */
    /* On the store thread, after commit, before results are completed and before readers are told of the revision. May be NULL. */
    void (*changed)(void *data, const struct store_change *changes, size_t n);
    /* On the raft loop, when the number of members has changed; must return at once. May be NULL. */
    void (*membership)(void *data);
    /* On the store thread: another member's database has taken the place of ours, and what lies between is not known in full (else
     * `changed` tells it): anything may have changed up to this revision. May be NULL. */
    void (*installed)(void *data, int64_t rev);
    /* On the store thread, after commit, before results are completed: what became of locks. `session` is ours now (0: none yet). events NULL:
     * another member's database has taken the place of ours, and anything may have become of them. May be NULL. */
    void (*locks)(void *data, const struct store_lock_event *events, size_t n, uint64_t session);
    /* On the store thread, after commit, before results are completed: these leases are gone. ids NULL: as above. May be NULL. */
    void (*leases_gone)(void *data, const uint64_t *ids, size_t n);
    /* On the raft loop: all that this member holds and waits for is lost, since its session could not be kept alive. What is submitted
     * from now on is of its next life. Must return at once. May be NULL. */
    void (*lapsed)(void *data);
    /* The member must stop (fail-stop): all waiting requests have been answered. Any thread; called once; must not call back. */
    void (*fatal)(void *data, const char *why);
};

/* Takes DIR/lock (waits up to `lock_wait_ms` for an old process to let go of it), compares raft's log with the store, starts the
 * threads, and returns when this member can serve: for a cluster of one, leader with everything applied; with others when it can
 * write, too, or after `timeout` without a quorum: then local reads work, and everything else is QE_TIMEDOUT until there is one. On
 * failure a sentence in `why`. Waits. Fork before this, never after. */
int replica_start(const struct replica_options *options, int lock_wait_ms, struct replica **out, struct buf *why);
/* Answers what was proposed, refuses what is new with QE_SHUTDOWN, checkpoints, ends the threads, lets go of DIR. Waits; all readers
 * must be closed before. */
void replica_stop(struct replica *r);

/* ---- Writing ------------------------------------------------------------------------------------------------------------- */

struct replica_request;
/* Called exactly once for each submit, on the store thread or the raft loop (or inside replica_submit when refused at once). rev and
 * ino are as in store_result. After it the request belongs to the caller again. No lock of replica is held. */
typedef void (*replica_cb)(struct replica_request *req, int err, int64_t rev, uint64_t ino);
struct replica_request { /* caller-allocated; at a fixed address until its callback */
    void *data;   /* the caller's */
    replica_cb cb; /* the caller's */
    struct { /* replica's own */
        struct replica_request *next, *prev;
        uint64_t seq;
        int64_t submitted_ns, deadline_ns;
        struct buf command;
        int state;
    } priv;
};
/* Stamps, encodes and queues a command (all it points to may go away when this returns). Commands of one member take effect in the
 * order of submission. Errors in the callback: the store's, or QE_TIMEDOUT (may still take effect), QE_IO (will not), QE_SHUTDOWN,
 * QE_DISKFULL, QE_NOMEM, QE_FBIG for more than 17 MiB (did not and will not). Any thread. */
void replica_submit(struct replica *r, struct replica_request *req, const struct store_command *cmd);

/* The same without a deadline: it is kept and sent again until its result is known. QE_TIMEDOUT only when the member stops. */
void replica_submit_patiently(struct replica *r, struct replica_request *req, const struct store_command *cmd);

/* 0, or why a write is known to fail now: QE_TIMEDOUT no leader heard of, QE_DISKFULL, QE_SHUTDOWN, QE_IO. Any thread, cheap. */
int replica_writable(struct replica *r);

/* A fresh inode number of that kind, or 0 when none is reserved just now (wait for nothing: answer QE_AGAIN). Any thread. */
uint64_t replica_new_ino(struct replica *r, enum store_kind kind);

/* ---- Reading ------------------------------------------------------------------------------------------------------------- */

/* There is no other member, voter or standby: whatever changes the tree is submitted here. Any thread, cheap. */
bool replica_alone(struct replica *r);
/* From replica_hold on, what this thread submits and asks for is kept until replica_release, so that the member works on all of it at
 * once: each wake-up of the raft loop may be a message to each member and a write of the log. Short: others wait meanwhile. */
void replica_hold(void);
void replica_release(struct replica *r);
/* A linearizable read needs a barrier first. False for a cluster of one: read at once. Any thread, cheap. */
bool replica_barrier_needed(struct replica *r);
/* Calls back (rev: what is readable) when the store has everything that was committed before this call. Any thread. */
void replica_barrier(struct replica *r, struct replica_request *req);

int replica_reader(struct replica *r, struct store_reader **out);          /* any thread; close with store_reader_close */
void replica_glance(struct replica *r, struct store_glance *out);          /* any thread, cheap */

/* Writes a copy of the database, one revision, to an empty file: a SQLite database that any program can open. `go_on` (may be NULL) is
 * asked now and then. QE_BUSY: too many copies at once, or writers needed the room in the WAL again and again; QE_DISKFULL, QE_SHUTDOWN,
 * QE_IO. Any thread but replica's own; waits, in constant memory; must have returned before replica_stop. */
int replica_export(struct replica *r, int fd, bool (*go_on)(void *data), void *data, struct store_export *out);

/* ---- Sessions and leases (lessor.h) ------------------------------------------------------------------------------------------- */

/* Whether what this member holds is still its own: false from the moment at which session-ttl has passed since the last keepalive that was
 * acknowledged was sent, until the loss is in the store; `lapsed` is called within a tick. Looks at the clock, so a member that was stopped
 * knows at once. Any thread, cheap. */
bool replica_session_holds(struct replica *r);
uint64_t replica_session(struct replica *r); /* ours; 0: there is none yet. Any thread, cheap */
/* Renews a lease once: 0 when the leader has. NOENT: there is no such lease, or its end has been proposed. TIMEDOUT. Any thread. */
void replica_lease_renew(struct replica *r, struct replica_request *req, uint64_t lease);
/* rev: the ns that are left, as the leader counts them. NOENT, TIMEDOUT. Any thread. */
void replica_lease_remaining(struct replica *r, struct replica_request *req, uint64_t lease);
/* Renews it again and again until `on` is false as often as it was true, or it is gone. 0 or QE_NOMEM. Any thread. */
int replica_lease_keep(struct replica *r, uint64_t lease, bool on);

/* ---- Status -------------------------------------------------------------------------------------------------------------- */

enum { REPLICA_HIST_BUCKETS = 24 };
struct replica_hist { /* bucket i counts durations < 2^i * 10 us; the last one the rest */
    uint64_t buckets[REPLICA_HIST_BUCKETS];
    uint64_t count, sum_us;
};

struct replica_status {
    uint32_t member, leader; /* leader 0: none known */
    const char *role;        /* "leader" "follower" "candidate" "standby" "stopped" */
    uint8_t cluster_id[STORE_CLUSTER_ID_SIZE];
    uint64_t term, commit, applied, last_index, snapshot_index;
    uint32_t n_members, n_voters;
    uint64_t log_bytes;      /* kept in libraft's memory since the last marker snapshot */
    uint64_t n_waiting;      /* submitted and not answered */
    int64_t free_bytes;      /* on the disk of DIR */
    uint64_t leases_renewed, leases_expired, sessions_lapsed; /* by this member while it led, since its start */
    char alarm[160];         /* "" or one sentence: what is wrong */
    struct replica_hist commit_time, apply_time, fsync_time, checkpoint_time, barrier_time; /* submit..answer, entry..applied, log write,
                                                                  * checkpoint, read barrier */
};
void replica_status(struct replica *r, struct replica_status *out);        /* any thread */
/* Where a member listens, as this one knows it; "" without a network. QE_NOENT: no such member; QE_RANGE. Any thread. */
int replica_member_address(struct replica *r, uint32_t id, char *out, size_t size);

/* ---- Members ------------------------------------------------------------------------------------------------------------- */

struct replica_member {
    uint32_t id;
    char address[STORE_ADDRESS_MAX + 1]; /* "": it has no network */
    const char *role;   /* "voter" "standby" "joining": as raft has it, which may be behind what is wished for */
    const char *state;  /* "ok" "behind" "installing" "unreachable" "leaving" */
    uint64_t applied;   /* index of the log up to which its store is, as it last said; 0: it has not */
    uint64_t lag;       /* committed entries that it lacks */
};
/* All members, ascending by id; free with free(). 0 or QE_NOMEM. Any thread. */
int replica_members(struct replica *r, struct replica_member **out, size_t *n);

enum replica_change_kind {
    REPLICA_CHANGE_ROLE = 1, /* `role`: enum store_member_role, standby or voter */
    REPLICA_CHANGE_REMOVE,   /* also a member that is dead */
    REPLICA_CHANGE_LEADER,   /* hand leadership to it */
};
/* Asks the leader, and calls back when it has come true. BUSY: the rest would not be a healthy majority, or the member is not caught up;
 * NOENT: no such member; NOSPC: there are REPLICA_VOTERS_MAX voters; TIMEDOUT: no leader, or it takes longer (it may still come true);
 * SHUTDOWN, IO. Any thread. */
void replica_change(struct replica *r, struct replica_request *req, enum replica_change_kind kind, uint32_t id, enum store_member_role role);

/* ---- Offline ------------------------------------------------------------------------------------------------------------- */

/* `quorumfs check DIR`: lock, raft segments (lists them, with index and term range), metadata, snapshots, CURRENT, database, and that
 * log and database fit together. `say` gets every line of the report. 0: sound; QE_CORRUPT: damage was named; else could not look. */
int replica_check(const char *dir, store_say_cb say, void *data);

#endif
