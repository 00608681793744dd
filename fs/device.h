/* The kernel's side of a mount: /dev/fuse, mount(2) and umount(2), or fusermount3 for those who are not root. */
#ifndef QFS_FS_DEVICE_H
#define QFS_FS_DEVICE_H

#include "fs/fs.h"

/* Mounts the session (made with fs as its userdata) on opt->mountpoint. 0, or QE_IO with a sentence in `why`. */
int device_mount(struct fs *fs, struct buf *why);
/* Detaches the mount from the tree; open files of it go on until the session is destroyed. Does nothing when it is not there. */
void device_unmount(struct fs *fs);
/* Replies to OPEN with a file that has no position, as a pipe has none: several readers do not wait for each other. What libfuse said. */
int device_reply_stream(fuse_req_t req, const struct fuse_file_info *fi);
/* The arguments for fuse_session_new. */
int device_args(const struct fs_options *opt, struct fuse_args *args);

#endif
