/* When the edits of an open file are committed, and what becomes of failures. FUSE loop only. */
#ifndef QFS_FS_COMMIT_H
#define QFS_FS_COMMIT_H

#include "fs/handle.h"

void commit_flush(fuse_req_t req, struct handle *h, uint64_t owner); /* FLUSH by a lock owner; replies */
void commit_fsync(fuse_req_t req, struct handle *h);  /* FSYNC; replies */
/* The handle's edits, after a write of `size` bytes under O_SYNC; replies. */
void commit_write(fuse_req_t req, struct handle *h, size_t size);
/* RELEASE: what a process that outlived the opener wrote; then the flock goes, and the open file's reference with it. */
void commit_release(struct handle *h);
/* Called on the loop when commits are settled, at once if there is nothing to commit. */
typedef void (*commit_then_cb)(struct fs *fs, void *data, int err);
/* The edits of the handle, and of all open files of its inode that its process has edited: fcntl locks belong to the process. */
void commit_process(struct handle *h, commit_then_cb then, void *data);
/* The pending creation of the handle's inode, by whichever handle has its edits; then calls `then`. */
void commit_create(struct handle *h, commit_then_cb then, void *data);
void commit_idle(struct handle *h);                   /* the edits of a locked file that rested; nobody waits */
/* Logs the handles whose edits are lost because the member stops. */
void commit_log_lost(struct fs *fs);
void commit_close(struct fs *fs); /* frees the records of failures */

#endif
