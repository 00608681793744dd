/* Turning store attributes into what FUSE wants; shared by the live tree (ops) and the views of the control tree. */
#ifndef QFS_FS_VIEW_H
#define QFS_FS_VIEW_H

#include "fs/fs.h"

/* A time of the store (ns since 1970, may be negative) for stat. */
void view_time(int64_t ns, struct timespec *out);
/* st_ino = node; st_blksize is 4096, st_blocks counts 512 bytes; atime shows mtime, since it is not kept. */
void view_stat(const struct store_attr *a, fuse_ino_t node, struct stat *st);

#endif
