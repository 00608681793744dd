/* Contents of files as of one revision, shared by the open files that show the same one. FUSE loop only. */
#ifndef QFS_FS_CONTENT_H
#define QFS_FS_CONTENT_H

#include "fs/inode.h"

#define CONTENT_BYTES_MAX (INT64_C(1) << 30) /* of all open files together: more opens for reading fail with ENOMEM */

struct content {
    struct fs *fs;
    int64_t id;       /* store_attr.content */
    size_t refs;
    struct inode *in; /* whose; NULL when the inode has moved on to a newer one */
    struct buf bytes;
};

/* The current content of the inode, loaded if it is not at hand, as a new reference; `attr` of the same moment. */
int content_load(struct fs *fs, struct inode *in, struct content **out, struct store_attr *attr);
/* The content that a file which was deleted a moment ago had last: a reader found its name just before. QE_NOENT: longer ago. */
int content_load_deleted(struct fs *fs, const struct inode *in, struct content **out, struct store_attr *attr);
/* Its attributes then. */
int content_attr_deleted(struct fs *fs, uint64_t ino, struct store_attr *attr);
void content_unref(struct content *c); /* NULL is fine */

#endif
