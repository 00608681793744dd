/* Linearizable reads: which requests wait for a read barrier, and what is looked at after it. barrier.c tells the rules.
 *
 * Each of these is called by ops.c for the live tree and replies exactly once, at once or after the barrier. On a member that is
 * alone, and with `reads = local`, they answer at once. FUSE loop only. */
#ifndef QFS_FS_BARRIER_H
#define QFS_FS_BARRIER_H

#include "fs/fs.h"

void barrier_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void barrier_getattr(fuse_req_t req, fuse_ino_t node, bool has_handle);
void barrier_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void barrier_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void barrier_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void barrier_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi);
void barrier_readlink(fuse_req_t req, fuse_ino_t node);
void barrier_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size);
void barrier_listxattr(fuse_req_t req, fuse_ino_t node, size_t size);
/* OPEN of a control file whose content is the newest of the cluster, also with `reads = local`; `open` replies. */
typedef void (*barrier_open_cb)(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void barrier_control_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, barrier_open_cb open);

/* The request that a call of changes is for has come: the names of its way do not matter to the next call. */
void barrier_end_walk(fuse_req_t req);
/* Before a name is made: whether the kernel has to walk again; then it is told. */
bool barrier_make_again(fuse_req_t req);
/* A command of this mount was applied: what it did is seen by all that comes after. */
void barrier_settled(struct fs *fs);
void barrier_close(struct fs *fs); /* before replica stops */

#endif
