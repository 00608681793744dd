/* Looking for a descriptor in a large descriptor table, on a thread of its own: reading /proc takes about 4 us a descriptor, and the
 * loop has others to serve. FUSE loop, but for what the thread does. */
#ifndef QFS_FS_SCAN_H
#define QFS_FS_SCAN_H

#include "fs/fs.h"
#include "fs/proc.h"

/* Called on the FUSE loop. */
typedef void (*scan_cb)(struct fs *fs, enum proc_table table, void *data);
/* Whether the table of `tid` is too large to be read on the loop. */
bool scan_is_long(pid_t tid);
/* 0, or QE_NOMEM: there is no thread to be had, and `cb` is not called. */
int scan_start(struct fs *fs, pid_t tid, uint64_t ino, uint64_t ino2, scan_cb cb, void *data);
void scan_close(struct fs *fs); /* ends the thread; scans that it did not come to say PROC_WRITER */

#endif
