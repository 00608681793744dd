/* A FUSE request that is kept aside until a command has been applied (architecture.md: waiting costs no thread).
 *
 * Good path: a handler calls pending_submit and returns. The store thread completes the command: `done` runs there, replies if it
 * can, and the pending is handed to the FUSE loop, where `settle` runs before any later request is handled, and then it is freed.
 * A caller that dies (SIGKILL) is answered EINTR at once by whoever claims the request first; the command goes on, and `done` gets
 * req == NULL. */
#ifndef QFS_FS_PENDING_H
#define QFS_FS_PENDING_H

#include "fs/fs.h"

struct pending;
/* The store thread or the FUSE loop. `req` is NULL if it was given up (or there never was one); else exactly one reply is due here,
 * or PENDING_LATER semantics: see pending_settle_cb. Must not touch state of the FUSE loop. */
typedef void (*pending_done_cb)(fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data);
/* The FUSE loop, always, also when given up; frees `data`. With `done` NULL, `settle` has to reply (req may be NULL). */
typedef void (*pending_settle_cb)(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data);

/* Fills in uid, gid, pid and comm of the command from the request (unless pid is set) and submits it. FUSE loop.
 * Out of memory: answers ENOMEM itself and calls settle. */
void pending_submit(struct fs *fs, fuse_req_t req, struct store_command *cmd, pending_done_cb done, pending_settle_cb settle, void *data);
/* A done callback that replies with fuse_reply_err. */
void pending_done_err(fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data);

int pending_open(struct fs *fs);       /* makes fs->pending; 0 or QE_* */
void pending_close(struct fs *fs);
int pending_fd(struct fs *fs);         /* readable when pending_drain has work */
void pending_drain(struct fs *fs);     /* runs settle callbacks; looks at marked requests again */
bool pending_none(struct fs *fs);      /* no command is on its way */

#endif
