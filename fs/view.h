/* Turning store attributes into what FUSE wants; shared by the live tree (ops) and the views of the control tree. */
#ifndef QFS_FS_VIEW_H
#define QFS_FS_VIEW_H

#include "fs/fs.h"

/* st_ino = node; sizes and blocks as in decisions.md 6. */
void view_stat(const struct store_attr *a, fuse_ino_t node, struct stat *st);

#endif
