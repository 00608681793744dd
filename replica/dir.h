/* The data directory DIR of a member: its layout, its lock, its identity and its ballast.
 *
 *   lock            held with flock by the process that serves DIR; holds its process id
 *   raft/           libraft's log: segments, metadata1, metadata2, marker snapshots
 *   raft/epoch      the identity: cluster, member, epoch; checked against the database
 *   CURRENT         the database in use (store's)
 *   state-N.db      the database (store's), with -wal and -shm
 *   ballast         bytes held back so that a full disk still lets the member stop cleanly
 *   raft.old/       only while DIR is being made of another one: a copy of that one's log
 *   init            only while DIR is being made: what is here may be thrown away
 *   quorumfs.conf   member settings, log: the log (both fs's)
 *
 * Functions run on the caller's thread and share nothing. */
#ifndef QFS_REPLICA_DIR_H
#define QFS_REPLICA_DIR_H

#include <stdbool.h>
#include <stdint.h>

#include "replica/replica.h"
#include "store/base/buf.h"

/* What to do about a damaged one, for the end of a sentence. Of several members none may come back older than it was: the others refuse it. */
#define DIR_REMEDY "of a cluster of one put back a copy of the whole data directory; one of several members is removed, and joins anew with init --join"

#define DIR_OLD_LOG "raft.old"
enum { DIR_BALLAST_BYTES = 32 << 20 }; /* not below the WAL's hard limit: a checkpoint must fit into it */

struct dir {
    char *path;  /* DIR; owned */
    char *raft;  /* DIR/raft; owned */
    int lock_fd; /* DIR/lock, or -1 */
    bool lock_made; /* it was not there before */
};

int dir_make(const char *path, struct buf *why);      /* 0700, unless it exists; durable */
int dir_init(struct dir *d, const char *path);        /* names only; QE_NOMEM */
void dir_fini(struct dir *d);                         /* lets go of the lock */
char *dir_join(const char *dir, const char *name);    /* a new string, or NULL */

/* Takes DIR/lock, waiting up to wait_ms. QE_LOCKED with the other process in `why`. */
int dir_lock(struct dir *d, int wait_ms, struct buf *why);
/* The same without making or changing anything, for looking at a directory that nobody serves; a missing file is no obstacle. */
int dir_lock_readonly(struct dir *d, struct buf *why);

/* What is in DIR; `what` (may be NULL) names the first foreign thing. */
enum replica_dir_state dir_state(const char *path, struct buf *what);

/* Throws away what an interrupted init left: everything that only init makes. */
int dir_wipe(const struct dir *d, struct buf *why);
/* After an init that failed, with the lock held, of a directory without a cluster: as it was before. What cannot be removed stays marked. */
void dir_unmake(const struct dir *d);
int dir_remove_log(const char *raft_dir, struct buf *why); /* all of it; a missing one is fine */
int dir_mark_init(const struct dir *d, bool on, struct buf *why);

struct dir_identity {
    uint8_t cluster_id[STORE_CLUSTER_ID_SIZE]; /* the cluster of this DIR */
    uint64_t epoch;                            /* joins raft/ and the database: neither may be swapped alone */
    uint32_t member_id;                        /* which member of the cluster */
};
int dir_identity_write(const struct dir *d, const struct dir_identity *id, struct buf *why);
int dir_identity_read(const struct dir *d, struct dir_identity *id, struct buf *why);

/* The ballast: makes it (QE_DISKFULL when there is no room beside `keep_free` bytes), gives it up. */
int dir_ballast_make(const struct dir *d, uint64_t keep_free);
bool dir_ballast_release(const struct dir *d); /* false: there was none */

int64_t dir_free_bytes(const char *path, int64_t *size); /* for an ordinary user; -1 when it cannot be known. `size` (or NULL): of the disk */
int dir_sync(const char *path);           /* fsync of a directory: 0, QE_IO */
int dir_write_file(const char *dir, const char *name, const void *data, size_t len, struct buf *why); /* atomically, durably */
int dir_read_file(const char *dir, const char *name, size_t max, struct buf *out); /* QE_NOENT, QE_RANGE, QE_IO, QE_NOMEM */

#endif
