/* An open directory of a view whose names are listed whole when it is opened, by a worker (work.h): a directory of an old revision may
 * have had any number of names, and ended ones to skip besides. FUSE loop, but for listing_add, which is the worker's. */
#ifndef QFS_FS_CONTROL_LISTING_H
#define QFS_FS_CONTROL_LISTING_H

#include "fs/work.h"

struct listing {
    struct buf names; /* NUL-terminated, one behind the other */
    struct buf list;  /* of struct listing_name */
    size_t counted;   /* as control__snapshot_add does, while it is open */
    uid_t uid;        /* who opened it */
};

/* One more name; "." and ".." are names like others. 0 or QE_NOMEM. */
int listing_add(struct listing *l, const void *name, size_t len, fuse_ino_t node, mode_t type);
/* Replies to OPENDIR with the listing, which then belongs to the open directory, or to nobody: do not use it afterwards. `keep`: the
 * names never change, so the kernel may keep them. ENOMEM: the user has too much open. */
void listing_reply_open(fuse_req_t req, struct fuse_file_info *fi, struct listing *l, bool keep);
/* A new one with "." and "..", or NULL. */
struct listing *listing_new(fuse_ino_t node, fuse_ino_t parent);
void listing_free(struct listing *l); /* NULL is fine */

/* A listing that a worker makes. A view's own struct, of calloc, begins with one, and is what `run` and its settle get. */
struct listing_job {
    struct fuse_file_info fi;
    struct listing *out; /* owned; `run` adds to it */
    bool keep;           /* as for listing_reply_open */
};
/* Replies to OPENDIR when `run` has ended. The job passes over, and is freed. NULL: ENOMEM. */
void listing_start(fuse_req_t req, fuse_ino_t node, fuse_ino_t parent, const struct fuse_file_info *fi, work_run_cb run, struct listing_job *job);
/* What ends it, for a view that has more to do then: replies, if `req` is not NULL, and frees the job. */
void listing_settle(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data);

/* For struct control_view. */
void listing_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi, bool plus);
void listing_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
/* OPENDIR of a directory that lists nothing, as a function of a view. */
void listing_open_empty(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);

#endif
