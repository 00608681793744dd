/* sim: a cluster of members in one process, with virtual time and one seed. libraft and the guard are real; the network, the disks
 * and the state machine are ours. The same seed gives the same history. See README.md.
 *
 * Everything happens in events, which run one at a time. Memory of a crashed member is not freed: each seed has a process of its own. */
#ifndef QFS_TESTS_SIM_H
#define QFS_TESTS_SIM_H

#include <raft.h>
#include <stdbool.h>
#include <stdint.h>

#include "replica/guard.h"
#include "store/store.h"

enum { MEMBERS_MAX = 24, INDEX_MAX = 1 << 16, TERM_MAX_SIM = 1 << 14, MS = 1000 /* virtual microseconds */ };

/* ---- World: world.c ------------------------------------------------------------------------------------------------------ */

struct options {
    uint64_t seed;
    unsigned members;  /* voters at the beginning; 0: the seed decides */
    unsigned off;      /* enum guard_rule that are switched off */
    bool store;        /* the real store as state machine */
    bool lives;        /* leases, sessions and locks on it: lives.c */
    bool verbose;      /* print a trace */
    unsigned ms;       /* how long trouble lasts; 0: the default */
};

struct knobs { /* what the seed makes of this history; times in us */
    uint64_t net_min, net_max;     /* one way */
    uint64_t disk_min, disk_max;   /* of a write */
    unsigned spike_permille;       /* messages that are late */
    uint64_t trouble;              /* mean time between troubles */
    unsigned inflight;             /* entries that a client has under way */
    uint64_t client;               /* mean time between commands */
    uint64_t marker_bytes;         /* of log before a marker snapshot; 0: none are taken */
    unsigned trailing_max;         /* entries kept below a marker: 1 to this */
    unsigned message_entries;      /* that one message carries at most */
    bool membership, transfers, failures, reckless;
};

struct world {
    struct options opt;
    struct knobs knobs;
    uint64_t now;            /* us */
    uint64_t steps;          /* events run */
    bool healed;             /* the time of trouble is over */
    struct { uint64_t commands, acked, elections, crashes, markers, installs, changes, transfers, lost, stops, renewals, attached, ends, lapses, grants; } count;
};
extern struct world world;

uint64_t world_random(uint64_t below);
uint64_t world_between(uint64_t min, uint64_t max);
bool world_chance(unsigned permille);
uint64_t world_exp(uint64_t mean); /* random, exponentially distributed */
/* Runs fn(arg) after that time, unless the member has crashed by then; member NULL: in any case. */
struct member;
void world_after(uint64_t us, struct member *m, void (*fn)(struct member *m, void *arg), void *arg);
void world_set_clock(void);         /* from here on clock.h tells virtual time */
bool world_step(void);             /* runs one event; false: there is none */
void world_log(const struct member *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Something that must never be: prints it with the seed and ends the process. */
_Noreturn void world_fail(const struct member *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- Disk: disk.c -------------------------------------------------------------------------------------------------------- */

struct disk_entry { uint64_t index, term; unsigned short type; size_t len; void *data; };
struct disk_conf { unsigned n; struct { uint64_t id; int role; } servers[MEMBERS_MAX]; };
struct disk_snapshot { uint64_t index, term, conf_index; struct disk_conf conf; size_t len; uint8_t data[64]; };
struct disk_op;

struct disk {
    /* What a crash leaves. */
    uint64_t term, vote;
    struct disk_entry *log;
    size_t n, cap;
    struct disk_snapshot snapshot; /* index 0: none */
    /* What it takes with it. */
    struct disk_op *head, *tail;   /* in order */
    struct disk_op *put;           /* a marker being written beside them */
    uint64_t next_index;
    uint64_t start_at, busy_until; /* of the newest write */
    bool failed;                   /* a write has failed */
    /* Trouble. */
    bool slow, fail_append, fail_meta;
};

void disk_bootstrap(struct disk *d, const struct disk_conf *conf);
void disk_crash(struct member *m);
int disk_load(struct member *m, raft_term *term, raft_id *vote, struct raft_snapshot **snapshot, raft_index *start,
              struct raft_entry **entries, size_t *n);
int disk_append(struct member *m, struct raft_io_append *req, const struct raft_entry *entries, unsigned n, raft_io_append_cb cb);
int disk_truncate(struct member *m, uint64_t index);
int disk_put(struct member *m, unsigned trailing, struct raft_io_snapshot_put *req, const struct raft_snapshot *s,
             raft_io_snapshot_put_cb cb);
int disk_get(struct member *m, struct raft_io_snapshot_get *req, raft_io_snapshot_get_cb cb);
int disk_conf_copy(const struct disk_conf *from, struct raft_configuration *to);
void disk_conf_from(const struct raft_configuration *from, struct disk_conf *to);

/* ---- Network: net.c ------------------------------------------------------------------------------------------------------ */

int net_send(struct member *m, struct raft_io_send *req, const struct raft_message *message, raft_io_send_cb cb);
void net_cut(unsigned from, unsigned to, bool cut); /* one direction */
void net_break(unsigned from, unsigned to);         /* the connection is lost with what is under way, and made again */
void net_heal(void);
/* What is not raft's: fn(arg) on the other member, later, in order, or never. False: there is no connection. */
bool net_post(struct member *m, unsigned to, void (*fn)(struct member *m, void *arg), void *arg);

/* ---- State machine: fsm.c ------------------------------------------------------------------------------------------------ */

struct fsm {
    uint64_t applied, synced; /* index of the last command; up to where a crash takes nothing */
    uint64_t installed_at;    /* as of the store */
    uint64_t hash;            /* of all commands up to `applied` */
    unsigned stream;          /* number of the newest install */
    struct store *store;      /* with -f */
    struct store_reader *reader;
    char dir[64];
    bool has_dir;
};

void fsm_attach(struct member *m);  /* fills m->fsm_calls */
void fsm_open(struct member *m);    /* at each start */
void fsm_crash(struct member *m);
struct store_position fsm_position(struct member *m);
void fsm_install(struct member *m, uint64_t leader, const struct raft_install_snapshot *args);
void fsm_tick(struct member *m);
extern const uint8_t sim_cluster_id[STORE_CLUSTER_ID_SIZE];

/* ---- Members: member.c --------------------------------------------------------------------------------------------------- */

struct member {
    unsigned i;              /* place in members[]; the id is i + 1 */
    uint64_t id;
    char address[8];
    bool exists;             /* was ever part of the cluster */
    bool alive;              /* runs */
    bool retired;            /* was removed; never comes back */
    bool fresh;              /* joins with an empty log */
    bool dying;              /* the guard stopped it in this event */
    unsigned life;           /* number of starts */
    uint64_t paused_until;
    struct disk disk;
    struct fsm fsm;
    /* Of this life. */
    struct raft *raft;
    struct raft_io *io;
    struct raft_fsm *fsm_calls;
    struct guard *guard;
    struct lives *lives;     /* NULL: none */
    raft_io_tick_cb tick;
    raft_io_recv_cb recv;
    unsigned inflight;
    uint64_t seen_commit, led_term;
};
extern struct member members[MEMBERS_MAX];

void member_start(struct member *m);
void member_crash(struct member *m, const char *why);
void member_describe(const struct member *m); /* on standard output */
struct member *member_leader(void); /* that with the highest term, or NULL */

/* ---- What must hold: check.c --------------------------------------------------------------------------------------------- */

void check_member(struct member *m);    /* after each event of a member */
void check_applied(struct member *m, uint64_t index, uint64_t term, uint32_t crc, bool news);
void check_acknowledged(struct member *m, uint64_t index, uint32_t crc);
uint64_t check_term_of(uint64_t index); /* of a committed entry; 0: unknown */
uint32_t check_crc_of(uint64_t index);  /* 0: not a command */
uint64_t check_hash_of(uint64_t index); /* of the state after that command */
uint64_t check_commit(void);            /* the highest index known to be committed */
void check_state(struct member *m, uint64_t index, int64_t rev, uint64_t hash);
void check_once(struct member *m, uint64_t seq, uint64_t index);

/* ---- Clients and trouble: chaos.c ---------------------------------------------------------------------------------------- */

void chaos_start(void);
void chaos_heal(void);
uint64_t chaos_acked_since(void);       /* index of the first command submitted and acknowledged after chaos_heal; 0: none yet */
void chaos_acked(uint64_t index);       /* somebody else's command was */
void client_applied(uint64_t session, uint64_t ino); /* a result of the store, for the client that waits for it */

/* ---- Leases, sessions and locks: lives.c --------------------------------------------------------------------------------- */

void lives_open(struct member *m);      /* at each start, once the store is open: fills m->raft and m->guard */
void lives_start(struct member *m);     /* raft has started */
void lives_tick(struct member *m);
void lives_told(void *m, const struct store_life_event *e, size_t n);  /* of a struct store_sink */
void lives_locks(void *m, const struct store_lock_event *e, size_t n); /* likewise */
void lives_result(struct member *m, const struct store_result *r);
void lives_applied(struct member *m, uint64_t index);
void lives_installed(struct member *m); /* another database is in its place */
bool lives_counts_on_promises(struct member *m); /* of a majority of the voters, at this moment */
uint64_t lives_patience(void);          /* us after all trouble within which leases go that nobody renews */
bool lives_over(void);                  /* they have gone */
void lives_describe(void);              /* on standard output: those that have not */

#endif
