/* A view: what serves a part of the control tree, chosen by the view number of a node id. The table itself (rows.c) is one; a row can
 * be the root of another (its field `view`), which then owns everything below with node ids of its own.
 *
 * To add one: a number in fs.h (enum fs_view), a `const struct control_view`, a line in the list of control.c, a row in table.c.
 * The number within the view of its root is VIEW_ROOT.
 *
 * Each function replies exactly once, now or later through pending.h; all run on the FUSE loop. Those marked "optional" may be NULL
 * and then do what is said. Private to fs/control. */
#ifndef QFS_FS_CONTROL_VIEWS_H
#define QFS_FS_CONTROL_VIEWS_H

#include "fs/fs.h"

enum { VIEW_ROOT = 1 };

struct control_view {
    /* The errno of changes that have no function: EROFS in a picture of the tree, EPERM elsewhere. */
    int refusal;

    /* `name` NULL: the root of the view itself. */
    void (*lookup)(fuse_req_t req, fuse_ino_t parent, const char *name);
    void (*getattr)(fuse_req_t req, fuse_ino_t node);
    void (*open)(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
    void (*opendir)(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
    void (*readdir)(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi, bool plus);

    /* Optional: nothing is remembered of nodes. */
    void (*forget)(struct fs *fs, fuse_ino_t node, uint64_t nlookup);
    /* Optional: EINVAL. */
    void (*readlink)(fuse_req_t req, fuse_ino_t node);
    /* Optional, with release: the open file is a struct control_file (tree.h). */
    void (*read)(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi);
    void (*release)(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
    /* Optional: the open directory needs no release. */
    void (*releasedir)(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
    /* Optional: EBADF. */
    void (*write)(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t off, struct fuse_file_info *fi);
    /* Optional: 0, as close and fsync mean nothing. */
    void (*flush)(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
    void (*fsync)(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
    /* Optional: always ready. `ph` (may be NULL) is the function's to keep or destroy. */
    void (*poll)(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct fuse_pollhandle *ph);
    /* Optional: ENOLCK. `op` as of flock(2). */
    void (*flock)(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, int op);
    /* Optional: there are none: ENODATA, and an empty list. */
    void (*getxattr)(fuse_req_t req, fuse_ino_t node, const char *name, size_t size);
    void (*listxattr)(fuse_req_t req, fuse_ino_t node, size_t size);

    /* Changes. Optional: `refusal`. */
    void (*setattr)(fuse_req_t req, fuse_ino_t node, struct stat *attr, int valid, struct fuse_file_info *fi);
    void (*mkdir)(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
    void (*rmdir)(fuse_req_t req, fuse_ino_t parent, const char *name);
    void (*create)(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
    void (*mknod)(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
    void (*symlink)(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
    void (*unlink)(fuse_req_t req, fuse_ino_t parent, const char *name);
    /* Both parents are of this view; between views it is EXDEV. */
    void (*rename)(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t parent2, const char *name2, unsigned flags);
    void (*setxattr)(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags);
    void (*removexattr)(fuse_req_t req, fuse_ino_t node, const char *name);
};

extern const struct control_view control__rows_view;  /* rows.c: the table */
extern const struct control_view control__local_view; /* local.c: local/ */

extern const struct control_view control__at_view;    /* at.c: at/ */
extern const struct control_view control__watch_view; /* watch.c: watch/ and since/ */
extern const struct control_view control__txn_view;   /* txn.c: txn/ */
extern const struct control_view control__txn_tree_view; /* txn_view.c: tree/ of a transaction; each has a view number of its own */
bool control__is_txn_tree(enum fs_view view);
extern const struct control_view control__snapshot_view; /* snapshot.c: snapshot.db */
extern const struct control_view control__members_view; /* members.c: members/ */
extern const struct control_view control__history_view; /* past.c: history/ */
extern const struct control_view control__bookmarks_view; /* bookmarks.c: bookmarks/ */
extern const struct control_view control__leases_view; /* leases.c: leases/ */
extern const struct control_view control__lease_keys_view; /* leases_keys.c: leases/NAME/keys/ */
extern const struct control_view control__lease_alive_view; /* leases_alive.c: leases/NAME/alive */
extern const struct control_view control__locks_view; /* locks.c: locks/ */

/* NULL: there is no such view. */
const struct control_view *control__view_of(fuse_ino_t node);

#endif
