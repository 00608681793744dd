/* The kernel's pages of files that are mapped (mmap). They belong to the inode and show the newest content: so when somebody
 * changes the file, they are dropped, before anybody here is told of the revision. */
#ifndef QFS_FS_PAGES_H
#define QFS_FS_PAGES_H

#include "fs/inode.h"

struct pages;

int pages_open(struct fs *fs);   /* before replica starts; 0 or QE_NOMEM */
void pages_close(struct fs *fs); /* when replica has stopped */
/* The store thread: what was committed, by whomever. */
void pages_changed(struct fs *fs, const struct store_change *changes, size_t n);

/* The kernel may have pages of the file, from a mapping: it is told when the content changes. Again when in->ino has changed. Out
 * of memory: then it is not told, and logged. FUSE loop. */
void pages_mapped(struct fs *fs, struct inode *in);
void pages_unmapped(struct fs *fs, const struct inode *in); /* the kernel has forgotten it */

#endif
