/* The life of a mount: from parsed options to a served tree and back. */
#ifndef QFS_FS_MOUNT_H
#define QFS_FS_MOUNT_H

#include "fs/opts.h"
#include "store/base/buf.h"

/* Starts the member, mounts, calls `ready` (once the tree is usable; from then on failures go to the log), serves until umount or
 * SIGTERM/SIGINT, and takes everything down again. Returns the exit status; `why` gets a sentence when it failed before `ready`.
 * Call after the last fork. */
int mount_run(struct fs_options *opt, void (*ready)(void *data), void *data, struct buf *why);

#endif
