/* store: the replicated state machine, in SQLite MVCC tables.
 *
 * The same commands in the same order give the same tables, results and state hash on every member. The store knows neither raft
 * nor FUSE nor threads nor clocks: times and inode numbers come with the commands.
 *
 * One `struct store` is the only writer of a database; it belongs to one thread at a time (the store thread of replica), except
 * for the functions marked "any thread". A `struct store_reader` is a read-only connection of its own and belongs to the thread
 * that uses it. Readers never wait for the writer and see what store_apply has committed.
 *
 * Revision 1 is the empty tree with its root directory; each command that changes something takes the next one. */
#ifndef QFS_STORE_H
#define QFS_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/base/err.h"

struct store;
struct store_reader;

enum {
    STORE_NAME_MAX = 255,               /* bytes of a name */
    STORE_TARGET_MAX = 4095,            /* bytes of a symbolic link's target */
    STORE_XATTR_VALUE_MAX = 4096,       /* bytes of one extended attribute */
    STORE_XATTR_TOTAL_MAX = 16384,      /* bytes of all of a file's: names, values */
    STORE_ENTRY_COST = 64,              /* what an entry counts in live_bytes besides name, content, xattrs */
    STORE_MAX_VALUE_CAP = 16 << 20,     /* the highest max-value */
    STORE_INO_BLOCK = 4096,             /* inode numbers reserved by one STORE_OP_RESERVE */
    STORE_RESULTS_MAX = 4096,           /* kept results of a session */
    STORE_STAGE_BYTES_MAX = 80 << 20,   /* of the parts of one staged transaction */
    STORE_OPS_MAX = 65536,              /* operations of a command, staged or not; each takes at most four positions of a revision */
    STORE_CAUSE_MAX = 80,               /* bytes of a cause */
    STORE_CLUSTER_ID_SIZE = 16,
    STORE_COMPACT_HALF_MIN = 1 << 20,   /* bytes of history that a disk which fills up leaves alone */
    STORE_BOOKMARKS_MAX = 1000,         /* more make no sense: the lowest one counts; of one user who is not root half of what others leave */
    STORE_BOOKMARK_NAME_MAX = 64,
    STORE_ADDRESS_MAX = 261,            /* bytes of host:port: a DNS name, brackets, a colon, a port */
    STORE_MEMBERS_MAX = 64,             /* of a cluster */
    STORE_VOTERS_MAX = 7,               /* of them */
    STORE_LEASE_NAME_MAX = 64,
    STORE_LEASES_MAX = 200000,          /* of one user who is not root half of what others leave; likewise locks */
    STORE_LEASE_FILES_MAX = 100000,     /* deleted in one revision when a lease ends */
    STORE_LOCK_NAME_MAX = 200,          /* of a named lock */
    STORE_LOCK_VALUE_MAX = 4096,        /* bytes that its holder proclaims */
    STORE_LOCKS_MAX = 200000,           /* held and waited for, in the cluster */
    STORE_LOCKS_OF_THING_MAX = 10000,   /* of one name, or of one class on one inode */
};
#define STORE_MEMBER_ID_MAX INT32_MAX
#define STORE_LEASE_TTL_MIN INT64_C(1000000000) /* ns */
#define STORE_LEASE_TTL_MAX (INT64_C(1) << 60)  /* 36 years */
#define STORE_HEAD INT64_C(0) /* for `at`: the current revision; any other number is an old revision */

/* Inode numbers are n * 4 + kind, so that a name tells the type. The root is 1. */
enum store_kind { STORE_FILE = 0, STORE_DIR = 1, STORE_SYMLINK = 2 };
#define STORE_ROOT_INO UINT64_C(1)
static inline enum store_kind store_ino_kind(uint64_t ino) { return (enum store_kind)(ino & 3); }

struct store_bytes {
    const void *data; /* borrowed; may be NULL when len is 0 */
    size_t len;
};

/* ---- Commands ------------------------------------------------------------------------------------------------------------ */

enum store_edit_kind { STORE_EDIT_TRUNCATE, STORE_EDIT_WRITE, STORE_EDIT_APPEND };
struct store_edit {
    enum store_edit_kind kind;
    uint64_t off;             /* TRUNCATE: the new size; WRITE: where */
    struct store_bytes bytes; /* WRITE, APPEND */
};

struct store_xattr {
    struct store_bytes name; /* "user.…" */
    struct store_bytes value;
};

enum store_op_kind {
    STORE_OP_COMMIT = 1,   /* edits to a file, or create-or-open of a name and edits to it; `flags`: 0, or a class of locks, of which `owner` must hold
                            * one on inode `ino`: STALE: it has lost it */
    STORE_OP_CREATE,       /* an empty file; EXIST if the name is taken (O_EXCL, mknod) */
    STORE_OP_MKDIR,
    STORE_OP_SYMLINK,      /* `bytes` is the target */
    STORE_OP_UNLINK,       /* a file or symlink; ISDIR for a directory */
    STORE_OP_RMDIR,
    STORE_OP_RENAME,       /* parent,name -> parent2,name2; `flags` as renameat2(2): STORE_RENAME_* */
    STORE_OP_SETATTR,      /* the attributes in `valid` of `ino` */
    STORE_OP_SETXATTR,     /* name, bytes on `ino`; `flags`: STORE_XATTR_* */
    STORE_OP_REMOVEXATTR,
    STORE_OP_SETTING,      /* cluster setting: name, bytes; validated by store_setting_check at apply too */
    STORE_OP_COMPACT,      /* `rev`: forget what only earlier revisions need (ESTALE before it afterwards); takes no revision */
    STORE_OP_SESSION,      /* a new session of the command's member, whose older one ends; its id is the index of its entry (the second one of
                            * an entry: BUSY). `seq` is a nonce: repeated, it gives the same session; below the last one's: STALE
                            * (result.ino is that one); of a member that was removed: STALE; 0: INVAL */
    STORE_OP_SESSION_END,  /* `ino` is the id of the session that ends, and with it all that it holds and waits for: a revision only if others get it */
    STORE_OP_RESERVE,      /* reserve STORE_INO_BLOCK inode numbers; result.ino is the first n (ino = n*4+kind); no revision */
    STORE_OP_MEMBER,       /* the table of members: `flags` is one of enum store_member_change; result.ino is the member's id; no revision */
    STORE_OP_STAGE,        /* part `rev` (0, 1, …) of the session's staged transaction `ino`: `bytes` is an encoded command of which the
                            * conditions and operations count. Part 0 begins, and forgets an older one; no revision */
    STORE_OP_STAGED,       /* takes effect as if all conditions and operations of the `rev` parts of `ino` were in this command, in order;
                            * the parts are forgotten, whatever the result. STALE: they are not there */
    STORE_OP_BOOKMARK,     /* `name`; `flags`: one of STORE_BOOKMARK_*; MAKE: at the current revision, EXIST, NOSPC; SET: to `rev`: RANGE, STALE; by
                            * others than its owner and root: PERM; no revision */
    STORE_OP_LOCK,         /* asks for a lock, see store_lock_class. 0: held, and result.rev is its token; QUEUED: an event will tell; WOULDBLOCK;
                            * DEADLOCK: RANGE only; NOLOCK. A grant takes a revision, waiting takes none */
    STORE_OP_UNLOCK,       /* gives back, or withdraws; who waits gets it in the same command. Takes a revision only if somebody does. Never fails
                            * because nothing is held. BUSY: see STORE_LOCK_WAITING. NOLOCK: a range would be split, and its inode has twice STORE_LOCKS_OF_THING_MAX, or there are
                            * as many locks as LOCK allows: nothing was given back */
    STORE_OP_PROCLAIM,     /* `bytes` is the value of the named lock `name`, held by `owner` with token `rev`. STALE: it is not; no revision */
    STORE_OP_LAPSE,        /* all that session `ino` holds and waits for is over. `rev` as in EXPIRE; 0: the command's own session (`ino`: it, or 0), else INVAL.
                            * NOENT: no such session */
    STORE_OP_LEASE,        /* `flags`: one of enum store_lease_change */
};
/* GRANT: name, `rev` (ns: the TTL, at least 1 s); the command's uid owns it. Takes a revision, which is the lease's id: result.ino. EXIST; NOSPC.
 * TTL: ino (id), rev: a new TTL, which also renews. PERM: neither owner nor root. STALE: it is gone, or its end has begun; no revision.
 * REVOKE: ino. PERM, STALE. All attached files are deleted in the command's revision, cause "revoked NAME" (no revision if there are none); above
 *   STORE_LEASE_FILES_MAX only so many, and the lease stays, its end begun: result.ino is how many files are left, the caller asks again until it is 0.
 * EXPIRE: as REVOKE, without an owner, cause "expired NAME"; only if the entry is of the term `rev`, else STALE: the lessor of another term knows better.
 *   `first`: the index of the log that the lessor had seen when it decided; STALE: renewed by an entry after it.
 * CHECKPOINT: bytes are pairs of little-endian 64-bit numbers {id, ns that are left; 0, or as much as its TTL: all}; `rev` as in EXPIRE; ids that are
 *   gone, whose end has begun, or that were renewed after `first`, are passed over; no revision. */
enum store_lease_change { STORE_LEASE_GRANT = 1, STORE_LEASE_TTL, STORE_LEASE_REVOKE, STORE_LEASE_EXPIRE, STORE_LEASE_CHECKPOINT };
/* A lock is of a class and on a thing: NAMED on `name`, the others on inode `ino`, deleted or not. Classes know nothing of each other.
 * It belongs to `owner`, a number of the command's session; `request` numbers what the session asks for, in LOCK: 1, 2, ...
 * NAMED, WHOLE (flock): an owner has one of a thing. Asking for the kind that it has is answered with its token; for the other kind, what it has
 *   is given back first, whatever becomes of the new one; the newest request stands for what is held. RANGE (fcntl): bytes first..last; what the owner
 *   has there gets the new kind, token and request when it is granted; the rest keeps its own.
 * Whoever asks waits behind those before it whom it would exclude, or who exclude it, unless it holds something of the thing already.
 * UNLOCK with request 0: what the owner holds of the thing (RANGE: of first..last; those that it waits for stay); else that request: it waits no more,
 *   or what it got is given back. With WAITING only the former: BUSY if it was granted and something of that is held, and nothing has changed then. */
enum store_lock_class { STORE_LOCK_NAMED = 1, STORE_LOCK_WHOLE, STORE_LOCK_RANGE };
enum { STORE_LOCK_CLASS = 3 /* bits of `flags` */, STORE_LOCK_EXCLUSIVE = 4, STORE_LOCK_NOWAIT = 8, STORE_LOCK_WAITING = 16 };
/* ADD: name (address, not empty), mode (enum store_member_role: voter becomes standby where STORE_VOTERS_MAX are to be voters), new_ino (a
 *   nonce, not 0). It gets an id that nobody ever had; the same nonce again: the same id. NOSPC: STORE_MEMBERS_MAX.
 * ADDRESS: ino, name. ROLE: ino, mode; NOSPC: STORE_VOTERS_MAX are voters; BUSY: it is leaving already, or is the only member and shall leave. REMOVE: ino; BUSY: the last one. Its
 * session takes no command any more, and ends when it lapses; at once if it holds no lock.
 * NOENT: no such member. INVAL: malformed. */
enum store_member_change { STORE_MEMBER_ADD = 1, STORE_MEMBER_ADDRESS, STORE_MEMBER_ROLE, STORE_MEMBER_REMOVE };

enum { STORE_BOOKMARK_MAKE = 1, STORE_BOOKMARK_SET, STORE_BOOKMARK_REMOVE };
enum { STORE_RENAME_NOREPLACE = 1, STORE_RENAME_EXCHANGE = 2 };
enum { STORE_XATTR_CREATE = 1, STORE_XATTR_REPLACE = 2 };
enum { /* bits of `valid` */
    STORE_ATTR_MODE = 1,     /* permission bits, suid, sgid, sticky: 07777 */
    STORE_ATTR_UID = 2,
    STORE_ATTR_GID = 4,
    STORE_ATTR_MTIME = 8,    /* an explicit mtime; without it COMMIT sets mtime to the command's time */
    STORE_ATTR_LEASE = 32,   /* COMMIT, SETATTR of a file: attached to `lease`; 0: to none. STALE: it is gone; PERM: of another owner; INVAL: no file */
    STORE_ATTR_KILLPRIV = 16 /* COMMIT, SETATTR of uid/gid: suid (and sgid with group execute) fall with it */
};

/* One operation. Which fields count is said at the kinds; the rest is 0. All pointers are borrowed for the call.
 *
 * COMMIT with ino != 0: edits go to that inode wherever it is now; a deleted one: success, nothing is published.
 * COMMIT with ino == 0: parent, name; a file there gets the edits (mode, uid, gid, xattrs then do not count), a directory: ISDIR,
 *   a symlink: LOOP; nothing there: a file `new_ino` is created with mode, uid, gid, xattrs and the edits applied to "".
 *   The parent gone: NOENT. result.ino is the inode that got the edits.
 * CREATE, MKDIR, SYMLINK: parent, name, new_ino (kind bits must fit), mode, uid, gid; CREATE may carry xattrs.
 * Name rules (checked at apply): 1..255 bytes, no '/' or NUL, not "." or ".."; ".quorum" in the root: PERM.
 * COMMIT, SETATTR, xattr on an inode that is gone: COMMIT succeeds and publishes nothing, the others are STALE. A commit without edits
 *   and without `valid` to an existing file changes nothing and takes no revision. Content above max-value: FBIG, unless it does not grow.
 * ctime is the command's time, always. Entries added to or removed from a directory set its mtime and ctime. */
struct store_op {
    enum store_op_kind kind;
    uint64_t ino;
    uint64_t parent, parent2;
    struct store_bytes name, name2; /* entry names; xattr or setting name */
    uint64_t new_ino;
    uint32_t mode, uid, gid;
    int64_t mtime_ns;
    uint32_t valid;
    uint32_t flags;
    int64_t rev;
    uint64_t lease;
    uint64_t owner, request;  /* LOCK, UNLOCK, PROCLAIM */
    int64_t first, last;      /* LOCK, UNLOCK: bytes, both included; 0..INT64_MAX */
    struct store_bytes bytes;
    const struct store_edit *edits;
    size_t n_edits;
    const struct store_xattr *xattrs;
    size_t n_xattrs;
};

enum store_condition_kind {
    /* What a reader saw. `number` is the revision at which it looked. */
    STORE_IF_BOUND = 1,  /* name `name` in directory `parent` is `ino`; 0: there is none */
    STORE_IF_UNCHANGED,  /* inode `ino` is there and has no version after revision `number`: content, attributes, xattrs, its own name */
    STORE_IF_LIST,       /* no entry of directory `ino` has come, gone, or been renamed after revision `number` */
    /* What somebody demands of the path `name` from the root, like "a/b"; symbolic links are not followed. */
    STORE_IF_EXISTS,
    STORE_IF_ABSENT,
    STORE_IF_VERSION,    /* `compare` with `number`; what is absent has 0 */
    STORE_IF_CREATE_REV,
    STORE_IF_MOD_REV,
    STORE_IF_CONTENT,    /* a file whose content is `bytes` */
    STORE_IF_LEASE,      /* a file that is attached to the lease named `bytes` */
    STORE_IF_LOCK,       /* the named lock `name` (not a path) is held with token `number` */
};
enum store_compare { STORE_EQ, STORE_NE, STORE_LT, STORE_GT };
struct store_condition {
    enum store_condition_kind kind;
    enum store_compare compare;
    uint64_t ino, parent;
    struct store_bytes name, bytes; /* borrowed */
    int64_t number;
};

/* One command: at most one revision. All operations take effect or none; the first that fails gives the result. Operations from
 * STORE_OP_SETTING on stand alone in their command (else INVAL).
 * Conditions are decided before the first operation (there may be none, then); one that does not hold: CANCELED, and nothing changes. When a command has conditions,
 * several operations, or staged ones, a failure's result.ino is the number, from 1, of the condition (CANCELED) or operation that failed.
 * session, seq, acked, member and time_ns are stamped by replica, the rest is the caller's. */
struct store_command {
    uint64_t session;  /* 0 only for STORE_OP_SESSION */
    uint64_t seq;      /* 1, 2, … in the session; applied at most once, in order; of STORE_OP_SESSION: its nonce, below 2^63 */
    uint64_t acked;    /* results up to this seq need not be kept any more */
    uint32_t member;
    int64_t time_ns;   /* the proposer's wall clock: mtime, ctime */
    uint32_t uid, gid; /* who */
    int32_t pid;
    const char *comm;  /* at most 15 bytes, "?" when unknown */
    const char *cause; /* why, when it is not a plain call: for the event stream; at most STORE_CAUSE_MAX bytes of UTF-8; NULL */
    const struct store_op *ops;
    size_t n_ops;
    const struct store_condition *conditions;
    size_t n_conditions;
};

struct store_result {
    uint64_t session, seq;
    int err;      /* a user's code (err.h) or 0 */
    int64_t rev;  /* the revision it took; the current one if it took none */
    uint64_t ino; /* of what was created or committed to; session id; first number of a reserved block; see above for failures */
    bool kept;    /* this was answered from the kept results, or from the sessions: a repetition */
};

/* Appends the encoded command to `out`. 0 or QE_NOMEM. Any thread. */
int store_command_encode(const struct store_command *cmd, struct buf *out);

struct store_command_head { /* what can be known of an encoded command at a glance */
    uint64_t session, seq;
    uint32_t member;
    enum store_op_kind kind; /* of its first operation */
};
/* Whether these bytes are a command that every member will understand. 0, QE_FORMAT or QE_NOMEM. Any thread. */
int store_command_look(const void *data, size_t len, struct store_command_head *out);

/* A log entry: a header {magic, format, cluster id, proposer's term, count, true length, CRC32C}, the commands, zero padding to a
 * multiple of 8 bytes (libraft pads what it writes and reads it back unpadded). Appends to `out`. Any thread. */
int store_entry_build(const uint8_t cluster_id[STORE_CLUSTER_ID_SIZE], uint64_t term, int64_t leader_time_ns,
                      const struct store_bytes *cmds, size_t n, struct buf *out);
/* Checks magic, format, length, CRC, and the cluster id (NULL: any). 0, QE_CORRUPT or QE_FORMAT. Any thread. */
int store_entry_check(const void *data, size_t len, const uint8_t cluster_id[STORE_CLUSTER_ID_SIZE], uint32_t *crc);

/* ---- Cluster settings ---------------------------------------------------------------------------------------------------- */

struct store_setting_def {
    const char *name;    /* "quota" */
    const char *initial; /* "2G" */
    const char *allowed; /* for messages: "a size from 1M, like 512M or 2G" */
};
const struct store_setting_def *store_setting_defs(size_t *n); /* quota max-value session-ttl retain heartbeat election-timeout */
/* 0; QE_NOENT: no such setting; QE_INVAL: bad value. `why` (may be NULL) gets one sentence with name, value, what is allowed.
 * `canonical` (may be NULL) gets the value as it is stored. */
int store_setting_check(const char *name, const char *value, struct buf *canonical, struct buf *why);
/* Whether two values that are allowed can be used together: 0, or QE_INVAL with a sentence appended to `why` (may be NULL). */
int store_setting_agree(const char *heartbeat, const char *election_timeout, struct buf *why);

/* ---- Members ------------------------------------------------------------------------------------------------------------- */

/* LEAVING: it is to be removed; its row goes when raft has let go of it. */
enum store_member_role { STORE_MEMBER_STANDBY = 1, STORE_MEMBER_VOTER = 2, STORE_MEMBER_LEAVING = 3 };
struct store_member {
    uint32_t id;            /* 1..STORE_MEMBER_ID_MAX; never given to another one */
    const char *address;    /* host:port; "": it has no network. Borrowed. */
    enum store_member_role role; /* what it is to be; raft's configuration says what it is */
    uint64_t nonce;         /* of the request that added it; 0: there from the start */
};
/* HOST:PORT, [IPv6]:PORT. Any thread. */
bool store_address_ok(const char *address);

/* ---- Life ---------------------------------------------------------------------------------------------------------------- */

struct store_initial {
    uint8_t cluster_id[STORE_CLUSTER_ID_SIZE];
    uint64_t epoch;          /* the same number as in the raft directory: neither may be swapped alone */
    uint32_t root_uid, root_gid; /* root directory: mode 0755 */
    int64_t time_ns;
    const char *const (*settings)[2]; /* {name, value}, canonical; the rest gets its initial value */
    size_t n_settings;
    const struct store_member *members; /* ascending by id */
    size_t n_members;
    /* A copy of a database (store_export) whose tree, history and settings the new one begins with; then root_* and time_ns do not count,
     * and `settings` replace those of the copy. Or the directory of a store that nobody has open, which is not changed. NULL: revision 1, an
     * empty tree. */
    const char *from;
    /* Called with the copy of such a directory's database, as it was there, before anything else is made of it: brings it up to what is known to
     * follow, with store_apply. NULL: nothing does. */
    int (*catch_up)(void *data, struct store *s, struct buf *why);
    void *catch_up_data;
};

/* Derives the cluster id from everything else that decides the initial state, and from a token: members that are made with the same
 * arguments belong to one cluster, any difference makes another one. 0, QE_NOMEM, or QE_NOENT, QE_INVAL of a setting. */
int store_initial_cluster_id(struct store_initial *initial, const char *token);

/* Makes DIR/state-1.db and then, atomically, DIR/CURRENT. What an interrupted call left is overwritten. `from` is anybody's file: one that
 * is foreign, damaged or truncated is refused (QE_FORMAT, QE_CORRUPT, QE_INVAL, QE_NOENT, QE_ACCES). */
int store_create(const char *dir, const struct store_initial *initial, struct buf *why);

struct store_options {
    const char *dir;
    size_t cache_bytes;      /* page cache of the writer; 0: 64 MiB */
    size_t reader_cache_bytes; /* of each reader; 0: 8 MiB */
    size_t wal_limit_bytes;  /* hard limit; 0: 32 MiB */
};
/* Opens what CURRENT names. QE_NOCLUSTER: no CURRENT; QE_FORMAT: newer or foreign; QE_CORRUPT; QE_IO; QE_DISKFULL; QE_NOMEM; with a
 * sentence in `why` that names the file. */
int store_open(const struct store_options *options, struct store **out, struct buf *why);
void store_close(struct store *s);                 /* after all its readers are closed; NULL is fine */
const char *store_errmsg(const struct store *s);   /* detail of the last failure of this store; borrowed until the next call */

struct store_position { /* where in the raft log this database is */
    uint64_t applied;      /* index of the last applied or lifted-to entry */
    uint64_t term;         /* its term */
    uint32_t crc;          /* CRC of its payload; 0 after a lift */
    uint64_t installed_at; /* the index at which this database was installed; 0: no install is under way */
    uint64_t epoch;
    uint8_t cluster_id[STORE_CLUSTER_ID_SIZE];
};
void store_position(const struct store *s, struct store_position *out);
/* Whether an entry of that term, with this command (NULL: it has none), is the one that was applied last. `crc`: of the command; 0: none, or damaged. Any thread. */
bool store_position_is(const struct store_position *p, uint64_t term, const void *command, size_t len, uint32_t *crc);
/* Revision and state hash as of the last applied entry. The store's thread. */
void store_state(const struct store *s, int64_t *rev, uint64_t *hash);

/* ---- Applying (the store thread) ----------------------------------------------------------------------------------------- */

struct store_entry {
    uint64_t index, term;
    struct store_bytes data; /* as store_entry_build made it */
};

/* Whether a put made the file: by a commit, or its name alone (STORE_OP_CREATE), whose content comes later. */
enum store_made { STORE_MADE_NOTHING, STORE_MADE_FILE, STORE_MADE_NAME };

/* What a command did to one inode, for caches and for watchers; in order. */
struct store_change {
    int64_t rev;
    int op;               /* enum store_event_op */
    uint64_t ino;
    uint64_t parent, old_parent; /* old_*: RENAME only */
    struct store_bytes name, old_name;
    uint32_t member;
    enum store_made made;
    bool unasked;         /* a lease ended (STORE_OP_LEASE): no call that a kernel knows of */
};

/* What became of locks, in order. */
enum store_lock_event_kind {
    STORE_LOCK_GRANTED = 1, /* what waited is held */
    STORE_LOCK_LOST,        /* a session lapsed, or ended: what it held or waited for is over; `request` as it was granted or asked */
    STORE_LOCK_CHANGED,     /* a named lock has another holder, or none, or another value: for those who watch it */
};
struct store_lock_event {
    enum store_lock_event_kind kind;
    enum store_lock_class class;
    uint64_t ino;            /* the thing, */
    struct store_bytes name; /* or its name; borrowed for the call */
    uint64_t session, owner, request; /* GRANTED, LOST: whose */
    int64_t token;           /* GRANTED */
};

/* What became of leases and sessions: for the lessor. */
enum store_life_kind {
    STORE_LIFE_LEASE = 1, /* granted, renewed by a new TTL, or checkpointed */
    STORE_LIFE_LEASE_GONE,
    STORE_LIFE_SESSION,   /* is new, or asks for a lock after it has lapsed */
    STORE_LIFE_SESSION_GONE,
};
struct store_life_event {
    enum store_life_kind kind;
    uint64_t id;             /* of the lease or session */
    int64_t ttl_ns, left_ns; /* LEASE; left: 0: the whole TTL; 1: its end has begun */
    bool renewed;            /* LEASE: it begins anew */
    uint32_t member;         /* SESSION: whose */
};

struct store_sink {
    void *data;
    void (*result)(void *data, const struct store_result *r);  /* for each command, in order; after COMMIT */
    void (*changed)(void *data, const struct store_change *c, size_t n); /* after COMMIT, before the results; may be NULL */
    void (*members)(void *data); /* after COMMIT, before the results: the table of members has changed; may be NULL */
    void (*locks)(void *data, const struct store_lock_event *e, size_t n); /* after COMMIT, before the results; may be NULL */
    void (*lives)(void *data, const struct store_life_event *e, size_t n); /* likewise */
};

/* Applies entries, oldest first, in one SQLite transaction, together with the position. Entries at or below `applied` are skipped.
 * All or nothing: on an error nothing has changed, no callback has run, and the caller stops the member (QE_IO, QE_DISKFULL,
 * QE_NOMEM, QE_CORRUPT, QE_FORMAT). */
int store_apply(struct store *s, const struct store_entry *entries, size_t n, const struct store_sink *sink);
/* Lifts the position to an index whose entry carries no commands: barriers and changes of the configuration. */
int store_lift(struct store *s, uint64_t index, uint64_t term);

/* Makes all that is applied durable (an fdatasync of the WAL that really happens); `index` gets what is now durable. */
int store_sync(struct store *s, uint64_t *index);

/* One piece of upkeep: a checkpoint when the WAL is long, or when `idle` with nothing to compact, which takes as long as the disk does
 * (some 10 ms); else a slice of physical compaction of at most about `budget_ms`, or none when that is negative. `more` says that another call has work to do. Call
 * between batches. */
int store_maintain(struct store *s, int budget_ms, bool idle, bool *more);
/* True when the WAL is above its hard limit: apply no more until store_maintain has brought it down. */
bool store_wal_full(const struct store *s);

/* The revision up to which `retain` wants compaction by a STORE_OP_COMPACT, 0 for none now. `time_ns`: wall clock. Bookmarks hold it back until
 * there is twice as much history as `retain` says; then it passes them: `passed` (may be NULL) says of how many. */
int64_t store_compact_wanted(struct store *s, int64_t time_ns, int64_t *passed);
/* The same for a disk that fills up: the revision that leaves half of the history, by its bytes, 0 when there is next to none, or what was
 * compacted is still being deleted. It stops at the lowest bookmark, and passes it (`passed`) only if it has come there already. */
int64_t store_compact_half(struct store *s, int64_t *passed);
/* Room in the database file that what comes next is written to, before the file grows: compaction does not make it smaller. */
int64_t store_reusable_bytes(struct store *s);

/* ---- Copies -------------------------------------------------------------------------------------------------------------- */

enum { STORE_EXPORTS_MAX = 4 }; /* at once */
struct store_export { /* a copy under way */
    int64_t rev;                    /* the one revision that it shows, */
    struct store_position position; /* the place in the log, */
    uint64_t hash;                  /* and the state hash */
    int64_t bytes;                  /* its size */
    uint64_t turn;                  /* the store's own */
};
/* The store thread: from now until the end the database file stays as it is, and what is committed goes to the WAL. QE_AGAIN: not at
 * this moment (a reader of old frames, or a copy of an older revision under way), try again soon; QE_BUSY: STORE_EXPORTS_MAX. */
int store_export_begin(struct store *s, struct store_export *out);
/* Writes the copy to a descriptor, front to back, in constant memory: a SQLite database in one file, with the tables of schema.sql and the
 * views files and history. Any thread. `go_on` (may be NULL) is asked once a MiB. QE_AGAIN: writers needed the WAL before this was
 * done; QE_DISKFULL; QE_SHUTDOWN: go_on said no; QE_IO. */
int store_export_copy(struct store *s, const struct store_export *x, int fd, bool (*go_on)(void *data), void *data);
/* Due after each begin that succeeded, before store_close. Any thread. */
void store_export_end(struct store *s, const struct store_export *x);

/* ---- Installing a copy from another member (install.c) ------------------------------------------------------------------- */

enum { STORE_STAGE_NAME_SIZE = 64 };
struct store_copy { /* what the member that made the copy says of it */
    uint8_t cluster_id[STORE_CLUSTER_ID_SIZE];
    uint64_t applied, term;
    int64_t rev;
    uint64_t hash;
};
/* The file in DIR that a copy is to be written to; what an interrupted install left there may be overwritten. 0, or as store_open. */
int store_stage_name(const char *dir, char out[STORE_STAGE_NAME_SIZE]);
/* Verifies every invariant and that it is the copy that was announced, gives it this member's epoch, makes it durable. QE_CORRUPT with a
 * sentence: not to be used. Takes a while. Any thread. */
int store_stage_verify(const char *dir, const char *name, const struct store_copy *expect, uint64_t epoch, struct buf *why);
/* CURRENT names it from now on, with installed_at. */
int store_stage_commit(const char *dir, const char *name, uint64_t applied, uint64_t epoch, struct buf *why);
void store_stage_drop(const char *dir, const char *name); /* removes a file that CURRENT does not name */
/* The store thread: goes on with the database that CURRENT names now; readers follow at their next transaction, and the old one goes. On
 * an error the store is of no use any more. */
int store_switch(struct store *s, struct buf *why);
/* The store thread: raft has come to installed_at, which is erased from CURRENT. */
int store_installed(struct store *s);

/* ---- Glances (any thread, no lock, no SQL) ------------------------------------------------------------------------------- */

struct store_glance {
    int64_t rev, compacted;
    int64_t live_bytes, quota, max_value, hist_bytes;
    int64_t n_files, n_dirs, n_symlinks; /* n_dirs: with the root */
    int64_t session_ttl_ns;              /* the setting */
    int64_t n_leases, n_locks;           /* n_locks: held ones */
};
void store_glance(const struct store *s, struct store_glance *out);

/* ---- Reading (a reader's thread) ----------------------------------------------------------------------------------------- */

/* Any thread may open; close from the thread that uses it. The store must outlive its readers. */
int store_reader_open(struct store *s, struct store_reader **out);
void store_reader_close(struct store_reader *r);

/* All reads between begin and end see one revision (`rev`, may be NULL). Without begin each call is its own transaction. Keep
 * these below 50 ms: a reader in a transaction holds back the WAL. */
int store_read_begin(struct store_reader *r, int64_t *rev);
void store_read_end(struct store_reader *r);

struct store_attr {
    uint64_t ino, parent; /* parent: 0 when deleted */
    uint32_t mode;        /* with the S_IFMT bits */
    uint32_t uid, gid, nlink; /* nlink: 0 when deleted; as of a revision 1, "not counted" */
    int64_t mtime_ns, ctime_ns, size;
    int64_t create_rev, mod_rev, version;
    int64_t content;      /* identity of the content: same inode and same number, same bytes */
    uint64_t lease;       /* that it is attached to; 0: none */
};

/* `at` is STORE_HEAD or a revision. Errors of all: QE_NOENT; QE_STALE: compacted; QE_RANGE: future; QE_IO, QE_NOMEM. */
int store_lookup(struct store_reader *r, int64_t at, uint64_t parent, const void *name, size_t len, struct store_attr *out);
int store_getattr(struct store_reader *r, int64_t at, uint64_t ino, struct store_attr *out); /* NOENT for a deleted one */
/* The last revision at which a deleted inode was there. NOENT: it is there now, or nothing is known of it; STALE: that is compacted. */
int store_last_seen(struct store_reader *r, uint64_t ino, int64_t *rev);
/* The whole content of a file or target of a symlink, appended to `out`; `attr` (may be NULL) of the same moment. */
int store_content(struct store_reader *r, int64_t at, uint64_t ino, struct buf *out, struct store_attr *attr);
/* Names in byte order, those after `after` (len 0: from the start). The callback returns false to stop;
 * it may use the reader, but not list again. Page long lists. */
typedef bool (*store_dirent_cb)(void *data, const void *name, size_t len, uint64_t ino);
int store_list(struct store_reader *r, int64_t at, uint64_t dir, const void *after, size_t after_len, store_dirent_cb cb, void *data);
int store_getxattr(struct store_reader *r, int64_t at, uint64_t ino, const void *name, size_t len, struct buf *out);
int store_listxattr(struct store_reader *r, int64_t at, uint64_t ino, struct buf *out); /* names, each with a NUL */
/* The newest revision at a time, to a tenth of a second. STALE: the time is before the oldest revision that can be read. */
int store_rev_at(struct store_reader *r, int64_t time_ns, int64_t *rev);
/* "/a/b" of an inode as it is now, for messages. NOENT when it is deleted. */
int store_path(struct store_reader *r, uint64_t ino, struct buf *out);
/* The directory and the name that an inode is bound to; `name` is appended to. NOENT: a deleted one, or the root. */
int store_name(struct store_reader *r, uint64_t ino, uint64_t *parent, struct buf *name);

struct store_writer { /* who made the last commit of an inode */
    uint32_t member, uid;
    int32_t pid;
    char comm[16];
};
int store_writer(struct store_reader *r, int64_t at, uint64_t ino, struct store_writer *out);

/* The history of a name, whichever inodes were bound to it. `path` is relative to the root, "a/b"; "" is the root. Only what a revision
 * that is retained shows. */
struct store_version { /* a content that the path had, or its end */
    int64_t rev;            /* the revision at which it got it, or lost all: its name */
    bool deleted;
    int64_t at;             /* a revision that shows it (of an end: the last that showed something); attr.ino is the inode */
    struct store_attr attr; /* as they last were with this content; of an end: of the content before, with the time of the end */
};
/* QE_NOENT: at `rev` the path got no content (`deleted`: was not deleted), or what it got is compacted. O(log versions). */
int store_version(struct store_reader *r, const char *path, size_t len, int64_t rev, bool deleted, struct store_version *out);
/* Revisions of all versions below `before` (0: all), newest first; the callback returns false to stop. Page long lists. O(versions told). */
typedef bool (*store_revision_cb)(void *data, int64_t rev, bool deleted, enum store_kind kind);
int store_versions(struct store_reader *r, const char *path, size_t len, int64_t before, store_revision_cb cb, void *data);
/* Names that the directories bound to the path have or had, in byte order, those after `after`: a page of some hundred; none: the end. */
typedef bool (*store_name_cb)(void *data, const void *name, size_t len);
int store_list_past(struct store_reader *r, const char *path, size_t len, const void *after, size_t after_len, store_name_cb cb, void *data);
/* Whether the path was ever bound (else QE_NOENT), and how its history may be shown: owner, group and time of what it was bound to last,
 * and the permissions of a directory that lets nobody look who could not look at all times. `dir`: it was a directory last. */
struct store_past { bool dir; uint32_t mode, uid, gid; int64_t mtime_ns; };
int store_past(struct store_reader *r, const char *path, size_t len, struct store_past *out);

enum store_event_op { STORE_EV_PUT = 1, STORE_EV_DELETE, STORE_EV_MKDIR, STORE_EV_RMDIR, STORE_EV_SYMLINK, STORE_EV_RENAME, STORE_EV_ATTRIB };
struct store_event {
    int64_t rev;
    int32_t sub; /* position in the revision; not without gaps */
    enum store_event_op op;
    uint64_t ino, parent, old_parent; /* the binding from this event on; old_*: RENAME */
    struct store_bytes name, old_name;
    struct store_bytes cause; /* len 0: a plain call */
    enum store_made made; /* NAME is not told from FILE */
};
/* Events of revisions > after, in order; when the callback has returned false, it still gets the rest of that revision. STALE: compacted. */
typedef bool (*store_event_cb)(void *data, const struct store_event *e);
int store_events(struct store_reader *r, int64_t after, store_event_cb cb, void *data);
/* A directory's place and permissions just after an event, for paths and for who may see them. NOENT: it was not there. */
struct store_dir_at {
    uint64_t parent; /* of the root: 0 */
    uint32_t mode, uid, gid; /* mode: 07777 */
    size_t name_len;
    char name[STORE_NAME_MAX];
};
int store_dir_at(struct store_reader *r, int64_t rev, int32_t sub, uint64_t dir, struct store_dir_at *out);

struct store_bookmark { /* a consumer of the history has handled everything up to `rev` */
    const char *name; /* borrowed for the call, or the caller's */
    uint32_t owner;   /* uid */
    int64_t rev;
};
bool store_bookmark_name_ok(const char *name, size_t len); /* [A-Za-z0-9_-] and, but for the first, "."; any thread */
int store_bookmark(struct store_reader *r, const char *name, struct store_bookmark *out); /* NOENT */
/* All of them, by name; the callback returns false to stop. */
typedef bool (*store_bookmark_cb)(void *data, const struct store_bookmark *b);
int store_bookmarks(struct store_reader *r, store_bookmark_cb cb, void *data);

struct store_lease {
    uint64_t id;             /* the revision of its grant; never given to another one */
    char name[STORE_LEASE_NAME_MAX + 1];
    uint32_t owner;          /* uid */
    int64_t ttl_ns, left_ns; /* left: as checkpointed; 0: the whole TTL; 1: its end has begun */
    uint64_t renewed;        /* index of the log entry that granted it or changed its TTL last */
};
bool store_lease_name_ok(const char *name, size_t len); /* [A-Za-z0-9._-]{1,64}, not "." or ".."; any thread */
int store_lease(struct store_reader *r, const char *name, struct store_lease *out); /* NOENT */
int store_lease_by_id(struct store_reader *r, uint64_t id, struct store_lease *out); /* NOENT */
/* By name, those after `after` ("": all); the callback returns false to stop. */
typedef bool (*store_lease_cb)(void *data, const struct store_lease *l);
int store_leases(struct store_reader *r, const char *after, store_lease_cb cb, void *data);
/* Attached files, ascending by inode number, those above `after`. */
typedef bool (*store_ino_cb)(void *data, uint64_t ino);
int store_lease_files(struct store_reader *r, uint64_t id, uint64_t after, store_ino_cb cb, void *data);

struct store_lock { /* one that is held or waited for */
    enum store_lock_class class;
    bool exclusive;
    uint64_t ino;            /* the thing, */
    struct store_bytes name; /* or its name; borrowed for the call */
    uint64_t session, owner, request;
    int64_t first, last;     /* RANGE */
    int64_t token;           /* 0: it waits */
    uint32_t member, uid;    /* who */
    int32_t pid;
    char comm[16];
};
bool store_lock_name_ok(const char *name, size_t len); /* 1..200 bytes, no '/', not beginning with a dot; any thread */
/* The first holder of a named lock: its value is appended; how many wait. NOENT: nobody holds it (n_waiting is told all the same). */
int store_lock(struct store_reader *r, const char *name, struct store_lock *out, struct buf *value, int64_t *n_waiting);
/* Names of locks that are held or waited for, in byte order, those after `after` (""). */
typedef bool (*store_lock_name_cb)(void *data, const char *name, size_t len);
int store_lock_names(struct store_reader *r, const char *after, store_lock_name_cb cb, void *data);
/* All of one session; or of all (0). */
typedef bool (*store_lock_cb)(void *data, const struct store_lock *l);
int store_locks(struct store_reader *r, uint64_t session, store_lock_cb cb, void *data);
/* A lock held by somebody else that excludes what is described by class, exclusive, ino, session, owner, first, last. NOENT: none. */
int store_lock_conflict(struct store_reader *r, const struct store_lock *want, struct store_lock *out);
/* Each session: id, member. */
typedef bool (*store_session_cb)(void *data, uint64_t id, uint32_t member);
int store_sessions(struct store_reader *r, store_session_cb cb, void *data);

/* The value of a cluster setting, appended. NOENT: no such setting. */
int store_setting(struct store_reader *r, const char *name, struct buf *out);
/* All members, ascending by id; `next` (may be NULL) is above the id of every member that there ever was. */
typedef void (*store_member_cb)(void *data, const struct store_member *m);
int store_members(struct store_reader *r, int64_t *next, store_member_cb cb, void *data);
/* `rev` and the 64-bit state hash of that revision. */
int store_hash(struct store_reader *r, int64_t *rev, uint64_t *hash);

/* ---- Offline ------------------------------------------------------------------------------------------------------------- */

/* Verifies every invariant of the database that CURRENT names; `say` gets a line for each thing found wrong and, last, a summary
 * of what is there. 0: sound; QE_CORRUPT: damage was reported; else it could not be looked at (one line says why). */
struct store_summary { int64_t rev, compacted, n_files, n_dirs, n_symlinks, live_bytes, versions; struct store_position position; uint64_t hash; };
typedef void (*store_say_cb)(void *data, const char *line);
int store_check(const char *dir, store_say_cb say, void *data, struct store_summary *out);
/* Where that database is in the log; it is not looked at any further. */
int store_check_position(const char *dir, struct store_position *out);

#endif
