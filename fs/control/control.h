/* The control tree: .quorum and all below it, every view but FS_VIEW_LIVE. ops.c hands a request here when its node (or parent) is of
 * such a view; control.c passes it on to the view that owns the node (views.h). Each function replies exactly once, on the FUSE loop
 * or later through pending.h. */
#ifndef QFS_FS_CONTROL_H
#define QFS_FS_CONTROL_H

#include "fs/fs.h"

static inline bool control_owns(fuse_ino_t node) { return fs_view_of(node) != FS_VIEW_LIVE; }
/* The entry of .quorum itself, for LOOKUP in the root (long timeouts: R21). */
void control_root_entry(struct fs *fs, struct fuse_entry_param *e);

/* Replies to LOOKUP of .quorum in the root of the mount, or of a name in the control tree. */
void control_reply_entry(fuse_req_t req, fuse_ino_t parent, const char *name);
/* Under which name of .quorum a view is found. NULL: under none of its own. */
const char *control_row_name(enum fs_view view);

void control_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void control_forget(struct fs *fs, fuse_ino_t node, uint64_t nlookup);
void control_getattr(fuse_req_t req, fuse_ino_t node);
void control_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int valid, struct fuse_file_info *fi);
void control_readlink(fuse_req_t req, fuse_ino_t node);
void control_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void control_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi);
void control_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t off, struct fuse_file_info *fi);
void control_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void control_fsync(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void control_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void control_poll(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct fuse_pollhandle *ph);
void control_flock(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, int op);
void control_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void control_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi, bool plus);
void control_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void control_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void control_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void control_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void control_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void control_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void control_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void control_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t parent2, const char *name2, unsigned flags);
void control_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size);
void control_listxattr(fuse_req_t req, fuse_ino_t node, size_t size);
void control_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags);
void control_removexattr(fuse_req_t req, fuse_ino_t node, const char *name);

/* Streams (watch.c). After each request: readers that got a signal are answered. */
void watch_look(struct fs *fs);
/* The member stops: streams end with the revision that is being read. */
void watch_stop(struct fs *fs);
bool watch_in_use(struct fs *fs); /* a reader has had a part of a revision, or is about to close after the last one */
void watch_close(struct fs *fs); /* before the member is stopped */

/* Leases (leases_alive.c). Any thread, after a batch was applied: these leases have gone, or, with n 0, any may have; who has their file alive
 * open is told. */
void leases_gone(struct fs *fs, const uint64_t *ids, size_t n);
size_t leases_kept(struct fs *fs); /* open files that keep a lease alive */
void leases_close(struct fs *fs); /* when nothing is pending any more */

/* Locks (locks.c, claim.c). Before the first request: watchers will be told. */
void lock_files_begin(struct fs *fs);
void claim_look(struct fs *fs);      /* after each request: those who wait and got a signal are answered */
void claim_stop(struct fs *fs);      /* the member stops: nobody waits any more */
size_t claim_waiting(struct fs *fs); /* requests that wait for a lock */
void claim_close(struct fs *fs);     /* gives up all that is held; before locks_close */

/* Transactions (txn.c): answers those that have waited long enough, ends those that nobody uses; how long the loop may wait, or -1. */
int txn_tick(struct fs *fs);
size_t txn_count(struct fs *fs); /* unfinished ones */
void txn_close(struct fs *fs);   /* when nothing is pending any more */

#endif
