/* The control tree: .quorum and all below it (views FS_VIEW_CONTROL and FS_VIEW_LOCAL). ops.c hands a request here when its node (or
 * parent) is of such a view; each function replies exactly once, on the FUSE loop or later through pending.h. */
#ifndef QFS_FS_CONTROL_H
#define QFS_FS_CONTROL_H

#include "fs/fs.h"

bool control_owns(fuse_ino_t node);
/* The entry of .quorum itself, for LOOKUP in the root (long timeouts: R21). */
void control_root_entry(struct fs *fs, struct fuse_entry_param *e);

void control_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void control_getattr(fuse_req_t req, fuse_ino_t node);
void control_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int valid);
void control_readlink(fuse_req_t req, fuse_ino_t node);
void control_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void control_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi);
void control_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t off, struct fuse_file_info *fi);
void control_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void control_fsync(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void control_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void control_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void control_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi, bool plus);
void control_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
/* create, mknod, mkdir, symlink, link, unlink, rmdir, rename in or into the control tree: replies with what the table allows. */
void control_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void control_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void control_refuse(fuse_req_t req, fuse_ino_t parent, const char *name); /* EPERM, or ENOENT where there is no such directory */
void control_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size);
void control_listxattr(fuse_req_t req, fuse_ino_t node, size_t size);
void control_setxattr(fuse_req_t req, fuse_ino_t node, const char *name);

#endif
