/* flock(2) and fcntl(2) locks on the files of this member.
 *
 * The kernel could keep them by itself on one member, but a lock has two effects on open files that only we can have: taking one
 * moves the owner's clean open files to the newest content, and what was written is committed before one is released. So two
 * programs that lock the same file (sqlite3) see each other's commits.
 *
 * While the cluster has other members, no lock is given: ENOLCK on every member. What was held when the cluster grew stays held until
 * it is released, which excludes nobody else wrongly, as nobody can get a lock then; who waits is refused. FUSE loop only. */
#ifndef QFS_FS_FLOCK_H
#define QFS_FS_FLOCK_H

#include "fs/handle.h"

void flock_set(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, int op);           /* flock(2) */
void flock_get_range(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, const struct flock *want); /* F_GETLK */
void flock_set_range(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, const struct flock *want, bool wait);

/* Whether closing a descriptor of `owner` (FLUSH) releases fcntl locks. */
bool flock_has_ranges(const struct handle *h, uint64_t owner);
/* Whether closes of readers have to be told: they end the fcntl locks of their process. Not before there are any. */
bool flock_wants_flush(const struct fs *fs);
/* The fcntl locks of an owner end; or, when an open file goes, its flock and what fcntl locks were taken through it. Waiters go on.
 * The edits have been committed before. */
void flock_drop_ranges(struct handle *h, uint64_t owner);
void flock_drop_file(struct handle *h);

void flock_refuse(struct fs *fs);  /* the cluster has grown: answers all that wait */
void flock_look(struct fs *fs);    /* answers waiters that got a signal; after each request */
/* Commits what was written through locked files and rested for a second: pid files are never closed. Returns the time in ms until
 * it wants to be called again, -1 when there are no locks. */
int flock_tick(struct fs *fs);
void flock_close(struct fs *fs);   /* frees what is left; waiters get no answer any more */

#endif
