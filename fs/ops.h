/* The FUSE operations of the live tree, grouped by file, and the table that libfuse calls. All run on the FUSE loop; each replies
 * exactly once, now or through pending.h. */
#ifndef QFS_FS_OPS_H
#define QFS_FS_OPS_H

#include "fs/fs.h"
#include "fs/inode.h"

extern const struct fuse_lowlevel_ops fs_ops; /* ops.c: sends .quorum to fs/control, the rest to the functions below */

/* name.c: names. */
void name_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void name_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void name_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void name_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void name_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void name_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void name_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t parent2, const char *name2, unsigned flags);
void name_readlink(fuse_req_t req, fuse_ino_t node);
/* The parts of name_lookup. What is bound to the name in the store, as `reader` sees it: 0, QE_NOENT, other QE_*. */
int name_look(struct fs *fs, struct store_reader *reader, fuse_ino_t parent, const char *name, struct store_attr *attr);
/* Replies with a pending creation, which only its session may see. False: there is none for this caller. */
bool name_lookup_pending(fuse_req_t req, fuse_ino_t parent, const char *name);
/* Replies. The kernel may keep the attributes for attr_s, if that is longer than inode_cache_s. */
void name_reply_entry(fuse_req_t req, const struct store_attr *attr, double attr_s);
/* 0, or why a name cannot be used for a new entry. */
int name_refused(fuse_ino_t parent, const char *name);
/* The entry for a reply; the lookup count goes up. 0 or QE_NOMEM. */
int name_entry(struct fs *fs, const struct store_attr *attr, struct fuse_entry_param *e);
/* Who owns a new entry: its gid comes from a parent with the setgid bit. 0 or QE_*. */
int name_owner(struct fs *fs, const struct fuse_ctx *ctx, uint64_t parent, struct store_op *op);

/* file.c: open files. */
void file_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void file_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void file_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi);
void file_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t off, struct fuse_file_info *fi);
/* copy_file_range(2) between open files. */
void file_copy(fuse_req_t req, struct fuse_file_info *from, off_t from_off, struct fuse_file_info *to, off_t to_off, size_t size);
void file_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
/* The parts of open and create. A handle on an existing inode or a pending creation. `made`: by this very call, so whatever forbids to open
 * for writing must not be told as if nothing had been done. 0 or QE_*. */
int file_open_handle(struct fs *fs, struct inode *in, int flags, const struct fuse_ctx *ctx, bool made, struct handle **out);
/* A handle on a file that exists for its session only, until it is committed: `name` with what `op` says. 0 or QE_NOMEM. */
int file_create_pending(fuse_req_t req, struct inode *in, const struct store_op *op, const char *name, int flags, struct handle **out);
/* 0, or why nothing can be created there. */
int file_create_check(struct fs *fs, const struct fuse_ctx *ctx, fuse_ino_t parent, const char *name);
/* The handle has something to commit, whether or not it was opened for writing. */
void file_make_writer(struct handle *h, const struct fuse_ctx *ctx);
void file_info(struct handle *h, struct fuse_file_info *fi); /* for the reply */
void file_drop(struct handle *h); /* the open file is given up: the caller died before it was told */

/* dir.c: directory listings. */
void dir_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void dir_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi);
void dir_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
bool dir_is_fresh(const struct fuse_file_info *fi); /* nothing of the listing was read yet */

/* attr.c: attributes. */
/* The kernel may keep what is replied for keep_s, if that is longer than inode_cache_s. */
void attr_get(fuse_req_t req, fuse_ino_t node, double keep_s);
void attr_set(fuse_req_t req, fuse_ino_t node, struct stat *attr, int valid, struct fuse_file_info *fi);
void attr_statfs(fuse_req_t req);
/* Whether an inode was deleted: who has found its name does not hear that it went. */
bool attr_is_gone(struct fs *fs, uint64_t ino);
/* As a process of the caller's session sees the node. 0 or QE_*. */
int attr_of(struct fs *fs, fuse_ino_t node, pid_t tid, struct store_attr *out);

/* What of a SETATTR request an operation has to do; op->valid is 0 when nothing is. */
void attr_op(uint64_t ino, const struct stat *attr, int valid, struct store_op *op);

/* xattr.c: extended attributes. */
void xattrs_get(fuse_req_t req, fuse_ino_t node, const char *name, size_t size);
void xattrs_set(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags);
void xattrs_list(fuse_req_t req, fuse_ino_t node, size_t size);
/* The same of an inode at a revision (STORE_HEAD: now), for views. */
/* Which names can be read at all, and which can be kept: 0, or the refusal. */
int xattrs_readable(const char *name);
int xattrs_check(const char *name);
bool xattrs_is_lease(const char *name); /* user.quorum.lease, which can be set: attach.c */
bool xattrs_is_fact(const char *name); /* user.quorum and below: what the store knows */
uint32_t xattrs_flags(int flags);      /* STORE_XATTR_*, of those of setxattr(2) */
/* Replies to GETXATTR and LISTXATTR. */
void xattrs_reply(fuse_req_t req, const struct buf *value, size_t size, int err);
void xattrs_get_at(fuse_req_t req, int64_t at, uint64_t ino, const char *name, size_t size);
void xattrs_list_at(fuse_req_t req, int64_t at, uint64_t ino, size_t size);
void xattrs_remove(fuse_req_t req, fuse_ino_t node, const char *name);

/* attach.c: user.quorum.lease. Appends the name of the lease of a file with these attributes, or of one in the making; QE_NODATA: none. */
int attach_get(struct fs *fs, const struct store_attr *a, struct buf *out);
int attach_get_pending(struct fs *fs, const struct creation *c, struct buf *out);
/* SETXATTR and REMOVEXATTR of it; size 0: none. */
void attach_set(fuse_req_t req, fuse_ino_t node, const char *value, size_t size, uint32_t flags);
void attach_remove(fuse_req_t req, fuse_ino_t node);
/* The parts of attach_set, for views. Calls `then`, which replies, with the id of the lease of that name; size 0: with 0. */
typedef void (*attach_then_cb)(fuse_req_t req, fuse_ino_t node, uint64_t lease, uint32_t flags);
void attach_find(fuse_req_t req, fuse_ino_t node, const char *value, size_t size, uint32_t flags, attach_then_cb then);
/* STORE_XATTR_CREATE and REPLACE, as for other attributes, of a file that is attached to `now`. 0, QE_EXIST, QE_NODATA. */
int attach_check(uint64_t now, uint32_t flags);
/* The lease's owner can remove the file then, so the caller must be allowed to. 0; QE_ACCES, QE_PERM; QE_NOMEM. */
int attach_allowed(fuse_req_t req, const struct store_attr *dir, const struct store_attr *file);

#endif
