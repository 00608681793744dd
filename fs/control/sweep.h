/* Names of which the kernel is asked to forget what it knows: it would keep them until it is short of memory, and in some views any name can be looked
 * up. What is in use stays. FUSE loop only. */
#ifndef QFS_FS_CONTROL_SWEEP_H
#define QFS_FS_CONTROL_SWEEP_H

#include "fs/fs.h"

struct sweep;

/* Sets *running until it is over. NULL: one is running, or out of memory. */
struct sweep *sweep_new(bool *running);
/* Out of memory: the name is left out. */
void sweep_add(struct sweep *s, fuse_ino_t parent, const char *name, size_t len);
void sweep_start(struct fs *fs, struct sweep *s);

#endif
