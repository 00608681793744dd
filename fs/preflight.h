/* What can be known before a mount is tried: paths that do not fit, a device that is missing. Each refusal is one sentence.
 * Called before any thread exists; nothing here looks through a mount of ours without a deadline. */
#ifndef QFS_FS_PREFLIGHT_H
#define QFS_FS_PREFLIGHT_H

#include "fs/opts.h"

/* Makes `path` absolute, with symbolic links resolved as far as it exists; the last component may be missing. Replaces *path. */
int preflight_dir(char **path, struct buf *why);
/* The same for a mount point, which has to be a directory. A dead mount of ours there is taken away, a live one is refused. */
int preflight_mountpoint(char **path, struct buf *why);
/* DIR and MOUNTPOINT (absolute both) must not lie in each other. */
int preflight_apart(const char *dir, const char *mountpoint, struct buf *why);
/* DIR (absolute), or what it is to be made in, must not lie on a mount of ours. */
int preflight_elsewhere(const char *dir, struct buf *why);
/* Makes DIR unless it exists. */
int preflight_make_dir(const char *dir, struct buf *why);
/* DIR exists and can be written. */
int preflight_writable(const char *dir, struct buf *why);
/* /dev/fuse is there and we have the right to mount. */
int preflight_fuse(struct buf *why);
/* All return 0 or a code of err.h with a sentence in `why`. */

#endif
