/* flock(2) and fcntl(2) locks of files of the tree: the cluster's (locks.h), the same on one member and on many.
 *
 * A lock has two effects on open files: taking one moves the owner's clean open files to the newest content, and what was written is
 * committed before one is released. So two programs that lock the same file (sqlite3) see each other's commits.
 *
 * A lock that is lost, since this member was cut off for longer than session-ttl, takes the descriptor with it through which it was
 * asked for: what was written under it is never committed, and every further use is ESTALE. FUSE loop only. */
#ifndef QFS_FS_FLOCK_H
#define QFS_FS_FLOCK_H

#include "fs/handle.h"
#include "fs/locks.h"

void flock_set(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, int op);           /* flock(2) */
void flock_get_range(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, const struct flock *want); /* F_GETLK */
void flock_set_range(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, const struct flock *want, bool wait);

/* Whether a lock that was held through it was lost; looks at the clock. Its edits are gone then. Costs nothing where nothing was locked. */
bool flock_lost(struct handle *h);
/* What is committed of it counts only if a lock that is held through it still is when the command takes effect. */
void flock_fence(const struct handle *h, struct store_op *op);
/* POLL: always ready, and POLLERR when a lock was lost. Owns `ph` (may be NULL). */
void flock_poll(fuse_req_t req, struct handle *h, struct fuse_pollhandle *ph);

/* Whether closing a descriptor of `owner` (FLUSH) releases fcntl locks. */
bool flock_has_ranges(const struct handle *h, uint64_t owner);
/* Whether closes of readers have to be told: they end the fcntl locks of their process. Not before there are any. */
bool flock_wants_flush(const struct fs *fs);
/* The fcntl locks of an owner end; or, when an open file goes, its flock and what fcntl locks were taken through it. The edits have been
 * committed before. `settle` is called once, perhaps inside, as by locks_drop. */
void flock_drop_ranges(struct handle *h, uint64_t owner, locks_settle_cb settle, void *data);
void flock_drop_file(struct handle *h);

void flock_look(struct fs *fs);    /* answers waiters that got a signal; after each request */
/* Commits what was written through locked files and rested for a second: pid files are never closed. Looks again at waiters that got a
 * signal. Returns the time in ms until it wants to be called again, or -1. */
int flock_tick(struct fs *fs);
void flock_close(struct fs *fs);   /* frees what is left; who waits is told that the member stops */

#endif
