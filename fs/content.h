/* Contents of files as of one revision, shared by the open files that show the same one. FUSE loop only. */
#ifndef QFS_FS_CONTENT_H
#define QFS_FS_CONTENT_H

#include "fs/inode.h"

#define CONTENT_BYTES_MAX (INT64_C(1) << 30) /* of all open files together: more opens for reading fail with ENOMEM, those of others than root earlier */

struct content {
    struct fs *fs;
    int64_t id;       /* store_attr.content */
    size_t refs;
    struct inode *in; /* whose; NULL when the inode has moved on to a newer one */
    struct buf bytes;
};

/* Whether so much more may be held in memory for the user: 0 or QE_NOMEM. */
int content_admit(const struct fs *fs, size_t len, uid_t uid);
/* What else is held for open files and directories is counted as contents: `counted` says what of it was. */
void content_count(struct fs *fs, size_t now, size_t *counted);
/* The current content of the inode, loaded if it is not at hand, as a new reference; `attr` of the same moment. */
int content_load(struct fs *fs, struct inode *in, uid_t uid, struct content **out, struct store_attr *attr);
/* The content that a file which was deleted had last: a reader found its name just before. QE_NOENT: it is not kept. */
int content_load_deleted(struct fs *fs, const struct inode *in, uid_t uid, struct content **out, struct store_attr *attr);
/* A revision at which it was still there, and its attributes then, with nlink 0. 0: that is not kept. */
int64_t content_deleted_at(struct fs *fs, uint64_t ino, struct store_attr *attr);
void content_unref(struct content *c); /* NULL is fine */

#endif
