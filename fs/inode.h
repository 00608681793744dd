/* The nodes that the kernel knows: lookup counts, open handles, and files whose creation is not committed yet.
 *
 * A node id is the inode number of the store. The one exception: a pending creation gets a fresh number as its node id, and if
 * somebody else takes the name first, its edits go to that file; then `ino` differs from `node` until the node is forgotten.
 * FUSE loop only. */
#ifndef QFS_FS_INODE_H
#define QFS_FS_INODE_H

#include <uthash.h>

#include "fs/fs.h"
#include "fs/perm.h"

struct handle;
struct content;
struct commit_waiter;
struct edits;
struct file_lock;

/* A file that was created by open and has not been committed: it exists for its session of processes only. */
struct creation {
    struct inode *in;
    uint64_t parent;
    char name[STORE_NAME_MAX + 1];
    size_t name_len;
    pid_t session;       /* who may see it */
    uint32_t mode, uid, gid;
    int64_t mtime_ns;    /* when has_mtime: set by utimens */
    int64_t created_ns;
    bool has_mtime;
    uint64_t lease;      /* that the file is to be attached to, by its xattr; 0: none */
    struct store_xattr *xattrs; /* owned, also what they point to */
    size_t n_xattrs;
    struct perm who;     /* owned; who makes it: if somebody else's file takes the name first, may it be written? */
    struct creation *prev, *next;
};

struct inode {
    uint64_t node;       /* key */
    uint64_t ino;        /* in the store */
    uint64_t nlookup;    /* the kernel's lookup count */
    bool asked;          /* somebody else than the replayer has looked it up: it can be watched */
    uint64_t lease;      /* a node of leases/NAME/keys: what is committed through it is attached to this; 0: a node of the live tree */
    struct handle *handles;     /* open files of this node */
    struct creation *creation;  /* not committed yet; owned */
    bool mapped;                /* pages were read or written: the kernel may have some */
    bool told;                  /* a directory: the kernel was told attributes to keep for a moment (barrier.c) */
    const struct edits *creating; /* the commit of the creation is on its way, with these edits of that commit; or NULL */
    bool gone;                  /* a creation that failed or was unlinked: as far as is known it has no inode in the store */
    int gone_err;               /* why it failed, or STALE: its writer was killed; 0: unlinked */
    struct file_lock *locks;    /* held on this file */
    struct commit_waiter *waiters; /* commits that wait for the creation */
    struct content *content;    /* what the newest reader loaded; not a reference of its own */
    struct store_attr *kept;    /* last seen attributes, shown while open after the file is deleted; owned, or NULL */
    UT_hash_handle hh;
};

/* How many open files of a user are dirty, and what their edits cost. */
struct dirty_count {
    uid_t uid; /* key */
    size_t n;
    int64_t bytes;
    UT_hash_handle hh;
};

struct inode_table {
    struct inode *by_node;
    struct creation *creations;
    struct dirty_count *dirty; /* by uid */
};

int inode_open_table(struct fs *fs);
void inode_close_table(struct fs *fs); /* frees all nodes; no handle is open any more */

struct inode *inode_find(struct fs *fs, uint64_t node); /* NULL: unknown */
struct inode *inode_add(struct fs *fs, uint64_t node);  /* finds or makes; NULL: out of memory */
/* One more lookup was answered: a name leads to it, of a pending creation or in the store. There, a creation of whose commit nobody knew what
 * became has taken place. */
void inode_remember(struct inode *in);
void inode_remember_worker(struct inode *in);           /* the same, of a worker of the replayer */
void inode_forget(struct fs *fs, uint64_t node, uint64_t nlookup);
void inode_unused(struct fs *fs, struct inode *in);     /* frees it if neither kernel nor handles need it */
/* Keeps attributes for after a deletion. Out of memory: fstat of a deleted file will fail. */
void inode_keep(struct inode *in, const struct store_attr *attr);
/* For how long the kernel may keep the name and attributes of a node. On a member that is alone every change comes through this very
 * mount: the kernel knows of it, or is told when a commit has been applied (pending.c). While somebody has edits of the file, what a
 * process sees depends on its session, so nothing may be kept. */
double inode_cache_s(const struct fs *fs, const struct inode *in);
/* The size that is told of it, to everybody: behind it the kernel drops the pages of mappings, also those that were written to, and their programs are
 * killed (SIGBUS). So of a mapped file it is the largest one that somebody has not committed yet. */
int64_t inode_told_size(const struct inode *in, int64_t size);
/* The inode number in the store for a node id. */
uint64_t inode_ino(struct fs *fs, uint64_t node);

/* Whether it is a creation that the store does not have: nobody but its session sees it. The store may have it before the loop hears that
 * its commit has succeeded, and is what everybody sees from then on. */
bool inode_pending(const struct fs *fs, const struct inode *in);

/* Makes a pending creation. NULL: out of memory. */
struct creation *creation_new(struct fs *fs, struct inode *in, uint64_t parent, const char *name);
void creation_free(struct fs *fs, struct creation *c);
/* The pending creation of that name that a process of `session` sees; PROC_ANY_SESSION: anybody's. `lease`: in the keys of that lease;
 * 0: in the live tree. Each of them knows nothing of the others'. */
struct creation *creation_find(struct fs *fs, uint64_t lease, uint64_t parent, const char *name, pid_t session);
bool creation_any_below(struct fs *fs, uint64_t parent, pid_t session);
int creation_setxattr(struct creation *c, const char *name, const void *value, size_t size, int flags);
int creation_removexattr(struct creation *c, const char *name);
const struct store_xattr *creation_xattr(const struct creation *c, const char *name);
/* Attributes as its session sees them; size is the caller's. */
void creation_attr(const struct creation *c, int64_t size, struct store_attr *out);

#endif
