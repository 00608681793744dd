/* leases/: what its parts share; private to fs/control.
 *
 * leases.c has leases/ itself, leases/NAME and its files ttl and remaining. Two of a lease's entries are views of their own: keys/
 * (leases_keys.c) and alive (leases_alive.c). A lease is known by its id, which is never given to another one: a node of a lease that has
 * gone is stale, also when a new lease has its name. FUSE loop only, but for leases_gone. */
#ifndef QFS_FS_CONTROL_LEASES_H
#define QFS_FS_CONTROL_LEASES_H

#include "fs/control/tree.h"

/* For how long the kernel may keep attributes of directories: it asks for those of each directory of a path otherwise. */
#define LEASES_DIR_ATTR_S 0.01

/* 0; QE_STALE: it has gone; other QE_*. */
int leases__by_id(struct fs *fs, uint64_t id, struct store_lease *out);
/* Whether the caller may use a lease: its owner and root. */
bool leases__is_owner(fuse_req_t req, const struct store_lease *l);

/* Calls `then`, which replies, when this member has every commit that had returned before; at once on a member that is alone. */
typedef void (*leases_then_cb)(fuse_req_t req, fuse_ino_t node, const char *name);
void leases__newest(fuse_req_t req, fuse_ino_t node, const char *name, leases_then_cb then);

/* leases_keys.c: the entry keys/ of a lease: replies to LOOKUP; its node, for listings. */
void leases__reply_keys(fuse_req_t req, uint64_t id);
fuse_ino_t leases__keys_node(uint64_t id);
/* The node that an inode of the store has there. Any thread. */
fuse_ino_t leases__key_node(uint64_t lease, uint64_t ino);
/* leases_tree.c: replies to OPENDIR of the directory `dir` of the store, which is `node` below keys/. */
void leases__open_tree(fuse_req_t req, uint64_t lease, uint64_t dir, fuse_ino_t node, const struct fuse_file_info *fi);
/* leases_alive.c: the same as for keys/. */
void leases__reply_alive(fuse_req_t req, const struct store_lease *l);
fuse_ino_t leases__alive_node(uint64_t id);

#endif
