/* What the files of the store share: the writer, an inode in memory, the command that is being applied.
 *
 * Codes at or below QE_TIMEDOUT are the environment's: they abort the whole batch. All others are answers to the user and leave
 * the batch going. A handler checks everything before its first write, so that an answer never needs an undo. */
#ifndef QFS_STORE_INTERNAL_H
#define QFS_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "store/db.h"

enum {
    STORE_EDITS_MAX = 1 << 20,      /* edits of an operation */
    STORE_ENTRY_MAX = 64 << 20,     /* bytes of a log entry */
    STORE_VER_COST = 64,            /* what a version counts in hist_bytes besides name, content, xattrs */
    STORE_CHECKPOINT_FRAMES = 2000, /* WAL frames at which a checkpoint pays */
    STORE_EXPORT_WAL_FACTOR = 8,    /* how much longer than its limit the WAL may become while a copy is made */
    STORE_BUSY_MS = 20,             /* how long a checkpoint waits for readers of old frames */
    STORE_TIME_STEP_NS = 100000000, /* rows of table time are this far apart */
};

static inline bool err_is_fatal(int err) { return err <= QE_TIMEDOUT; }

/* The row meta in memory: what one SQLite transaction changes as a whole. Copied to undo. */
struct state {
    uint64_t applied, term;              /* position */
    uint32_t crc;                        /* of the newest entry */
    int64_t rev, time, compacted;        /* newest revision, the leader's time, lower bound of reads */
    int64_t next_ino;                    /* first unreserved n */
    int64_t next_member;                 /* above every member id ever used */
    int64_t live_bytes, n_files, n_dirs, n_symlinks;
    int64_t hist_total, hist_base;       /* superseded bytes ever; as of `compacted` */
    uint64_t hash;                       /* sum of the row hashes */
    int64_t compact_from, compact_to, compact_pos; /* physical deletion */
    int64_t last_time, last_time_rev;    /* newest row of table time */
    int64_t quota, max_value;            /* settings that decide results */
    int64_t n_leases, n_locks, n_held;   /* rows of lease and lock; those of lock that are held */
    int64_t session_ttl_ns;              /* a setting that others want to know */
};

struct kept_result {
    uint64_t seq; /* number of the command */
    int err;      /* its answer, with rev and ino */
    int64_t rev;
    uint64_t ino;
};

struct session {
    uint64_t id;                 /* index of the entry that made it */
    uint32_t member;             /* whose; a member has one that is not ended */
    uint64_t nonce;              /* of the command that made it */
    uint64_t last_seq, acked;    /* newest applied command; results up to here have gone */
    struct kept_result *results; /* owned; ascending, those above acked */
    size_t n_results, cap_results;
    size_t n_fresh;              /* the last so many are not in the table yet */
    bool pruned;                 /* rows below results[0] may still be in the table */
    uint64_t stage_id;           /* which transaction is staged; 0: none */
    int64_t stage_parts, stage_bytes; /* how much of it */
    bool ended;                  /* goes at the end of the transaction */
    bool isnew;                  /* came in this transaction */
    bool left;                   /* its member was removed: it takes no command any more, and ends when it lapses */
    bool idle;                   /* the lessor may not count it: it has lapsed, or was read from the table, and has asked for no lock since */
};

struct session_table {
    struct session *list; /* owned; ascending by id */
    size_t n, cap;
};

struct owner_table { /* users who have leases or locks */
    struct owner *list; /* owned; ascending by uid */
    size_t n, cap;
};

struct changes {
    struct store_change *list; /* owned; name.data and old_name.data are offsets into `names` until changes_seal */
    size_t n, cap;
    struct buf names;          /* the names of the list */
};

struct events { /* of locks, leases and sessions */
    struct store_lock_event *locks; /* owned; name.data is an offset into `names` until events_seal */
    size_t n_locks, cap_locks;
    struct store_life_event *lives; /* owned */
    size_t n_lives, cap_lives;
    struct buf names;
};

struct store_glance_atomics {
    _Atomic int64_t rev, compacted, live_bytes, quota, max_value, session_ttl_ns, hist_bytes, n_files, n_dirs, n_symlinks, n_leases, n_locks;
};

struct store {
    /* Set once by store_open. */
    char *dir;                                 /* owned */
    char *path;                                /* owned: the database file */
    uint8_t cluster_id[STORE_CLUSTER_ID_SIZE];
    uint64_t epoch, installed_at;
    size_t cache_bytes, reader_cache_bytes;
    size_t wal_limit_frames;
    int copy_fd;                               /* owned: the database file, for copies; closed after all connections */

    /* The thread that owns the store. */
    struct conn conn;
    struct state st;
    struct state before;                       /* st when the transaction under way began */
    struct session_table sessions;
    struct owner_table owners;
    struct changes changes;      /* of the batch under way */
    struct events events;        /* likewise */
    struct lock_kept *lock_kept; /* owned; what lock_thing.c keeps of the last command; NULL: nothing */
    struct store_result *results; /* owned; of the batch under way */
    size_t n_results, cap_results;
    struct buf scratch;          /* content under construction */
    struct buf scratch2;         /* xattrs under construction; what edits leave of each other */
    struct arena *arena;         /* owned; decoded command */
    struct arena *part_arena;    /* owned; decoded part of a staged transaction */
    int wal_frames;              /* frames in the WAL since it was last reset */
    int checkpoint_retry;        /* no checkpoint below this many frames: a reader was in the way */
    bool members_changed;        /* by the batch under way */
    bool broken;                 /* what is in memory could not be read again after a failure */
    uint64_t export_applied;     /* position of the file while a copy is made */
    int64_t export_rev;

    /* Any thread. */
    struct store_glance_atomics glance;
    pthread_mutex_t where;       /* over `path`, which changes when a copy is installed */
    _Atomic uint64_t generation; /* raised then: readers open the new one */
    _Atomic uint64_t exports;    /* copies under way, see export.c: no checkpoint may run */
};

/* ---- An inode in memory (node.c) ----------------------------------------------------------------------------------------- */

struct node {
    uint64_t ino, parent;       /* parent: 0 for the root */
    bool live, bound;           /* not deleted; has a row */
    uint8_t name[STORE_NAME_MAX];
    size_t name_len;
    int64_t born, entries;      /* the columns of table node, see schema.sql */
    uint64_t lease;
    uint32_t mode, uid, gid, nlink;
    int64_t mtime, ctime, size, create_rev, version, seq, vseq;
    uint64_t chash;
    int64_t ord, jump, jver, jj, jjver;
    struct buf xattr;           /* owned; encoded */
    struct {                    /* what the tables say now */
        bool live;
        uint64_t hash;          /* of the row; 0: none, or deleted */
        int64_t live_cost;      /* its part of live_bytes */
        size_t name_len, xattr_len;
        int64_t size, vseq, seq, born;
        uint64_t parent;
        uint8_t name[STORE_NAME_MAX];
    } was;
};

/* The command under way. */
struct txn {
    const struct store_command *cmd;
    int64_t rev;       /* the revision it takes if it changes something */
    int64_t sub;       /* positions used in it */
    bool takes_rev;    /* it changed something */
    uint64_t index;    /* of its entry */
    uint64_t term;     /* of it, too */
    int64_t token;     /* the revision that answers, when it is not the current one; else 0 */
    bool stands;       /* what it did stays although its answer is an error: a lock that is waited for */
    bool unasked;      /* it deletes what nobody's call asked to delete */
};

void node_clear(struct node *n, uint64_t ino); /* empty, without a row */
/* QE_NOENT when there is no row. A deleted inode is loaded too, with live false. node_fini in every case. */
int node_load(struct store *s, uint64_t ino, struct node *n);
int node_load_name(struct store *s, uint64_t parent, struct store_bytes name, struct node *n);
void node_fini(struct node *n);
/* What the inode counts in live_bytes as it is in memory, less what it counts now. */
int64_t node_growth(const struct node *n);
int64_t node_cost(const struct node *n);

/* The new state becomes a version: `content` NULL keeps content and writer. Writes ver (and big), the node row, name_h, counters. */
int node_save(struct store *s, struct txn *t, struct node *n, enum store_event_op op, const struct store_bytes *content);
/* The inode is gone: a last version, its name into name_h. */
int node_delete(struct store *s, struct txn *t, struct node *n);
/* Takes the name out of the way for a moment (EXCHANGE); a node_save must follow. */
int node_unbind(struct store *s, const struct node *n);
/* A directory's times and nlink, without a version. */
int node_touch(struct store *s, struct txn *t, struct node *dir, int subdirs);
void node_bind(struct node *n, struct txn *t, uint64_t parent, struct store_bytes name);
/* The content of a live inode, appended. */
int node_content(struct store *s, const struct node *n, struct buf *out);

int quota_check(const struct store *s, int64_t growth); /* QE_NOSPC, or 0 */

/* ---- Operations ---------------------------------------------------------------------------------------------------------- */

int name_check(uint64_t parent, struct store_bytes name);
int dir_load(struct store *s, uint64_t ino, struct node *dir); /* QE_NOENT, QE_NOTDIR */
int node_create(struct store *s, struct txn *t, const struct store_op *op, uint64_t ino, struct node *n); /* fills in, checks ino */

int op_commit(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);       /* value.c */
int op_create(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);       /* tree.c: CREATE MKDIR SYMLINK */
int op_remove(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);       /* tree.c: UNLINK RMDIR */
int op_rename(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);       /* tree.c */
int op_setattr(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);      /* attr.c */
int op_setxattr(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);     /* attr.c */
int op_removexattr(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);  /* attr.c */
int op_setting(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);      /* setting.c */
int op_compact(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);      /* retain.c */
int op_bookmark(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);     /* bookmark.c */
int op_session(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);      /* session.c */
int op_session_end(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);  /* session.c */
int op_member(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);       /* member.c */
int op_reserve(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);      /* session.c */
int op_lock(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);         /* lock.c */
int op_unlock(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);       /* lock.c */
int op_proclaim(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);     /* lock.c */
int op_lapse(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);        /* lock.c */
int op_lease(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);        /* lease.c */

void attr_apply(struct node *n, const struct txn *t, const struct store_op *op); /* the attributes in op->valid */
int lease_check(struct store *s, const struct txn *t, const struct store_op *op); /* lease.c: may a file be attached as op->valid says? */

/* Several operations in order; `at` counts those begun (apply.c). */
int run_ops(struct store *s, struct txn *t, const struct store_op *ops, size_t n, uint64_t *ino, uint64_t *at);

/* 0, QE_CANCELED, or what aborts the batch; `at` goes up by each one looked at (condition.c). */
int conditions_check(struct store *s, const struct store_command *cmd, uint64_t *at);

/* ---- Staged transactions (stage.c) --------------------------------------------------------------------------------------- */

int op_stage(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);
/* STORE_OP_STAGED, within a savepoint; `at` is as in store_result.ino of a failure. */
int stage_run(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino, uint64_t *at);
int stage_forget(struct store *s, struct session *ss);
int stages_load(struct store *s); /* after the sessions; QE_CORRUPT: of no session */

/* ---- Encoded extended attributes (xattr.c): sorted by name; each is u16 name length, u16 value length, name, value ---------- */

bool xattr_next(struct store_bytes blob, size_t *pos, struct store_xattr *out); /* false at the end, or where it is malformed */
bool xattr_find(struct store_bytes blob, struct store_bytes name, struct store_bytes *value);
int xattr_set(struct store_bytes blob, struct store_bytes name, const struct store_bytes *value, struct buf *out); /* NULL: remove */
size_t xattr_bytes(struct store_bytes blob);                                     /* names and values, as the limits count them */
int xattr_check(uint64_t ino, struct store_bytes name, struct store_bytes value);
bool xattr_valid(struct store_bytes blob);

/* ---- Hashes (hash.c) ----------------------------------------------------------------------------------------------------- */

uint64_t hash_node(const struct node *n);
uint64_t hash_session(const struct session *ss);
uint64_t hash_result(uint64_t session, const struct kept_result *r);
uint64_t hash_stage(uint64_t session, uint64_t id, int64_t part, uint64_t data);
uint64_t hash_setting(const char *name, const char *value);
uint64_t hash_bookmark(struct store_bytes name, const struct store_bookmark *b);
uint64_t hash_member(const struct store_member *m);
uint64_t hash_lease(const struct store_lease *l);
uint64_t hash_content(const void *data, size_t len);
uint64_t hash_state(const struct state *st); /* the row hashes together with the counters that are replicated */

/* ---- Sessions (session.c) ------------------------------------------------------------------------------------------------ */

int sessions_load(struct store *s);
void sessions_fini(struct session_table *t);
struct session *session_find(struct session_table *t, uint64_t id);
/* True: the command is not to be applied, `r` is its answer. */
bool session_answers(struct store *s, const struct store_command *cmd, struct store_result *r);
int session_keep(struct store *s, const struct store_command *cmd, const struct store_result *r);
int session_end(struct store *s, struct txn *t, struct session *ss);
int sessions_leave(struct store *s, struct txn *t, uint32_t member); /* the member is removed */
int sessions_flush(struct store *s); /* into the tables, before COMMIT */

/* ---- Leases and locks (lease.c, lock.c) ---------------------------------------------------------------------------------- */

int lease_by_id(struct conn *c, uint64_t id, struct store_lease *out); /* QE_NOENT; without n_files */
int leases_each(struct conn *c, const char *after, store_lease_cb cb, void *data);
/* All that the session holds and waits for is over. */
int locks_end_of(struct store *s, struct txn *t, uint64_t session);
int locks_end_waits_of(struct store *s, struct txn *t, uint64_t session, bool *holds); /* all that it waits for; does it hold anything? */
int lock_is_held(struct store *s, const struct txn *t, const struct store_op *op); /* by who commits; QE_STALE */
int lock_has_token(struct conn *c, struct store_bytes name, int64_t token, bool *yes);
int lives_load(struct store *s); /* counts the rows of leases and locks */
/* How many a user has (owners.c): so many more. 0 or QE_NOMEM. */
int owner_count(struct store *s, uint32_t uid, int64_t leases, int64_t locks);
bool owner_may_lease(const struct store *s, uint32_t uid); /* may have one more */
bool owner_may_lock(const struct store *s, uint32_t uid);
int owners_load(struct store *s);
void owners_fini(struct owner_table *t);
void lock_forget(struct store *s); /* what is kept in memory may not be what the tables say */

/* Told after COMMIT (events.c). */
int event_lock(struct store *s, const struct store_lock_event *e); /* copies the name */
int event_life(struct store *s, const struct store_life_event *e);
void events_clear(struct events *e);
void events_tell(struct events *e, const struct store_sink *sink);
void events_fini(struct events *e);

/* ---- Settings (setting.c) ------------------------------------------------------------------------------------------------ */

int settings_load(struct store *s);
int settings_initial(struct conn *c, const struct store_initial *initial, uint64_t *hash);
int settings_describe(const struct store_initial *initial, struct buf *out); /* a line for each, as it begins */
int settings_override(struct conn *c, const struct store_initial *initial); /* the given ones alone; st.hash is the caller's */
int setting_get(struct conn *c, const char *name, struct buf *out);
/* One term of retain; a limit of 0 is absent. */
struct retain { int64_t revisions, bytes, time_ns; };
int retain_parse(const char *text, struct retain *out);
int64_t setting_size(const char *text); /* of a canonical value */

/* ---- Members (member.c) -------------------------------------------------------------------------------------------------- */

int members_initial(struct store *s, const struct store_initial *initial);
int members_each(struct conn *c, store_member_cb cb, void *data);
int member_find(struct store *s, uint32_t id); /* 0, QE_NOENT */
/* QE_CORRUPT: a row that no command can have made. */
int member_check(const struct store_member *m, int64_t next_member);

/* ---- State, changes, meta (apply.c, open.c) --------------------------------------------------------------------------------- */

int meta_load(struct conn *c, struct state *st, uint8_t cluster_id[STORE_CLUSTER_ID_SIZE], uint64_t *epoch, int64_t *format);
int store_verify(struct store *s); /* verify.c: QE_CORRUPT when a small database is damaged */
int verify_sum(struct store *s, uint64_t *out); /* verify.c: the sum of the hashes of all rows; the sessions are loaded */
int meta_save(struct store *s);
void glance_publish(struct store *s);
struct store *store_new(void);     /* NULL: out of memory */
void store_free(struct store *s);  /* the connection is closed */
int store_reload(struct store *s); /* st and sessions from the tables, after a rollback */
int store_begin(struct store *s);
int store_commit(struct store *s);
void store_abort(struct store *s);
int change_add(struct store *s, struct txn *t, int op, const struct node *n);

/* ---- Old versions (history.c) -------------------------------------------------------------------------------------------- */

struct content_at { /* a version and where its content is */
    int64_t seq, vseq, size; /* as in table ver */
    uint64_t chash;
};

/* The newest version of `ino` at or before `rev`, 0 when it had none. The caller has checked that rev is not compacted. */
int version_by(struct conn *c, uint64_t ino, int64_t limit, int64_t *seq); /* the same, at or before the seq `limit` */
int version_at(struct conn *c, uint64_t ino, int64_t rev, int64_t *seq);
int attr_at(struct conn *c, int64_t at, uint64_t ino, struct store_attr *out, struct content_at *where);
int lookup_at(struct conn *c, int64_t at, uint64_t parent, struct store_bytes name, uint64_t *ino);
int content_of(struct conn *c, const struct content_at *where, struct buf *out); /* QE_CORRUPT when it is not what was written */

/* ---- Bookmarks (bookmark.c) ---------------------------------------------------------------------------------------------- */

int bookmarks_each(struct conn *c, store_bookmark_cb cb, void *data);
/* The lowest revision of a bookmark that is not below `above`; INT64_MAX: there is none. */
int bookmarks_lowest(struct conn *c, int64_t above, int64_t *out);

/* ---- Copies (export.c) --------------------------------------------------------------------------------------------------- */

int exports(const struct store *s);  /* how many are under way */
void export_revoke(struct store *s); /* the copies under way fail: checkpoints may run */

/* ---- Commands (codec.c) --------------------------------------------------------------------------------------------------- */

struct arena *arena_new(void);
void arena_free(struct arena *a);
/* Decodes one command into memory of the arena (reset first). QE_FORMAT: something in it is unknown or out of bounds. */
int command_decode(struct arena *a, struct store_bytes data, struct store_command *out);

struct entry_view { /* a log entry that store_entry_check found sound */
    uint64_t term;
    int64_t time_ns;
    uint32_t count, crc;
    const uint8_t *pos, *end; /* what is left of its commands */
};
int entry_open(const void *data, size_t len, const uint8_t *cluster_id, struct entry_view *out);
int entry_next(struct entry_view *v, struct store_bytes *cmd); /* QE_CORRUPT when it ends early */

/* ---- CURRENT (current.c) ------------------------------------------------------------------------------------------------- */

struct current {
    char name[64];         /* the database file, in the same directory */
    uint64_t installed_at; /* applied index of a database that was installed, until raft has caught up; 0 */
    uint64_t epoch;        /* must agree with the database's */
};
int dir_sync_of(const char *dir); /* fsync of a directory */
int current_read(const char *dir, struct current *out, struct buf *why);
int store_open_database(struct store *s, const struct current *cur, struct buf *why); /* open.c: s->path, which CURRENT names */
int store_open_as(const struct store_options *options, const struct current *cur, struct store **out, struct buf *why); /* open.c: as if CURRENT were `cur` */
void remove_database(const char *path); /* create.c: the file and what SQLite keeps beside it */
int current_write(const char *dir, const struct current *cur, struct buf *why);

char *path_join(const char *dir, const char *name); /* malloc'ed; NULL: out of memory */
int why_set(struct buf *why, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4))); /* returns err */

#endif
