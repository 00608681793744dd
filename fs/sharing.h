/* Whether others may change the tree, and what the kernel may keep because nobody can.
 *
 * On a member that is alone every change comes through this very mount: the kernel knows of it, or is told (pending.c), so it may keep
 * names and attributes for long, and a read needs no barrier. With other members it may keep nothing, and reads wait for barriers
 * (barrier.c). A cluster can grow and shrink while it is mounted. FUSE loop, but for sharing_hook. */
#ifndef QFS_FS_SHARING_H
#define QFS_FS_SHARING_H

#include "fs/fs.h"

void sharing_start(struct fs *fs);  /* before the first request */
void sharing_begin(struct fs *fs);  /* the kernel has been answered its first request: from now on it may keep things */
void sharing_follow(struct fs *fs); /* before each request, and when woken: has the number of members changed? */
/* The kernel looks all names up again before it uses them. False: it is too old to be told. Any thread; waits for nobody. */
bool sharing_forget_names(struct fs *fs);
/* Replica's hook `changed`, on the store thread: files that went with their lease, of which no call has told the kernel, not even on a
 * member that is alone. */
void sharing_changed(struct fs *fs, const struct store_change *changes, size_t n);
/* Replica's hook `membership`, with the mount as data: wakes the loop. Any thread. */
void sharing_hook(struct fs *fs);

#endif
