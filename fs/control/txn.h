/* Transactions: txn/NAME/{tree/,require,commit,status}. What the files of this subject share; private to fs/control.
 *
 * A transaction is a picture of the whole tree as of the revision at which it began, and an overlay of what was changed in it
 * (txn_tree.c). Nothing of it leaves the member until it is committed: then what was read becomes conditions, what was changed becomes
 * operations, and the store decides (txn_commit.c). FUSE loop only.
 *
 *     OPEN --write to commit--> COMMITTING --> COMMITTED | CONFLICT | FAILED
 *
 * COMMITTING is `open` until `timeout` has passed, and `unknown` from then on; in the end it is always known, unless the member stops. */
#ifndef QFS_FS_CONTROL_TXN_H
#define QFS_FS_CONTROL_TXN_H

#include <uthash.h>

#include "fs/edits.h"
#include "fs/fs.h"
#include "fs/perm.h"

enum {
    TXN_NAME_MAX = 64,
    TXN_PER_UID = 16,             /* not finished, of a user: EMFILE above */
    TXN_ALL_PER_UID = 1000,       /* with the finished ones that nobody has removed: EMFILE above */
    TXN_ALL_MAX = 8192,           /* of all users: EMFILE above */
    TXN_OPS_MAX = 16384,          /* operations of one: E2BIG above */
    TXN_READS_MAX = 1 << 18,      /* things read and required, of one: E2BIG above */
    TXN_BYTES_MAX = 64 << 20,     /* names, contents and attributes that are staged, of one: E2BIG above; contents that writers read: ENOMEM */
    TXN_USER_BYTES_MAX = 256 << 20,  /* in memory, of all of a user's but root's: E2BIG above */
    TXN_MEMBER_BYTES_MAX = 1 << 30,  /* of everybody's: E2BIG above */
    TXN_READ_COST = 192,          /* bytes counted for a thing that was read */
    TXN_REQUIRE_BYTES_MAX = 1 << 20, /* of lines, of one: E2BIG above */
    TXN_IDLE_S = 3600,            /* ended after this time without use */
    TXN_OP_COST = 64,             /* bytes counted for an operation besides names and contents */
    TXN_KEPT_S = 1,               /* the kernel may keep for so long what nobody but itself changes: each file of cp -r walks there */
};

struct txn_entry { /* a name in a directory as the transaction has it */
    uint64_t ino;         /* 0: nothing */
    UT_hash_handle hh;
    char name[];          /* key */
};

struct txn_xattr { /* changed */
    struct txn_xattr *next;
    struct buf value;
    bool removed;
    bool there;           /* before, in the picture */
    size_t old_len;       /* of its value then */
    char name[];
};

struct txn_node { /* an inode that the transaction has changed, or made; kept until the transaction ends */
    uint64_t ino;              /* key */
    bool fresh;                /* made here */
    bool dead;                 /* removed here */
    bool content_op;           /* its content has an operation */
    bool attr_op;              /* its attributes are counted as one */
    struct store_attr attr;    /* as the view shows it; parent: of a directory */
    struct txn_entry *entries; /* owned; of a directory: what differs from the picture */
    struct edits edits;        /* of the content */
    struct buf view;           /* the content with the edits applied, if has_view; of a fresh symlink: its target */
    size_t view_counted;       /* of it, in the transaction's view_bytes */
    bool has_view;
    uint32_t valid;            /* STORE_ATTR_*: set explicitly */
    struct txn_xattr *xattrs;  /* owned; in reverse order */
    UT_hash_handle hh;
};

struct txn_op { /* in the order in which things were done; contents and attributes are those of the end */
    enum store_op_kind kind;
    uint64_t ino;              /* what it makes, or changes */
    uint64_t parent, parent2;
    char *name, *name2;        /* owned */
    uint32_t flags;
};

struct txn_read { /* what was read, once */
    enum store_condition_kind kind;
    uint64_t ino, parent;
    UT_hash_handle hh;
    size_t name_len;
    uint8_t key[];             /* kind, inode, name */
};

enum txn_state { TXN_OPEN, TXN_COMMITTING, TXN_COMMITTED, TXN_CONFLICT, TXN_FAILED };

struct txn {
    struct fs *fs;
    char name[TXN_NAME_MAX + 1];
    uint64_t serial;           /* never used again */
    uint64_t view;             /* view number of its tree */
    uid_t uid;
    gid_t gid;
    int64_t rev;               /* at which it began */
    int64_t begun_ns;          /* wall clock */
    int64_t used_ns;           /* boot time */
    enum txn_state state;
    bool overdue;              /* the result was not there within `timeout` */
    bool doomed;               /* removed while it commits: goes when the result is known */
    int err;                   /* the result */
    int64_t result_rev;        /* COMMITTED */
    struct buf reason;         /* CONFLICT, FAILED */

    struct txn_node *nodes;    /* owned; by inode, in the order of their first change */
    struct txn_read *reads;    /* owned; in order */
    struct txn_op *ops;        /* owned */
    size_t n_ops, cap_ops;
    int spoiled;               /* a change was done by half, for lack of memory: it cannot be committed */
    size_t n_counted;          /* operations that it will come to */
    size_t bytes;              /* staged */
    size_t view_bytes;         /* of contents that writers read */
    struct buf require;        /* lines */
    struct buf conditions;     /* of struct store_condition, whose bytes are offsets into `require_bytes` */
    struct buf require_bytes;
    struct buf require_lines;  /* of size_t: where the line of each condition begins in `require` */

    struct txn_commit *commit; /* COMMITTING: txn_commit.c's */
    struct txn_waiter *waiters; /* writes to `commit` that wait for the result */
    struct txn *next;
};

/* txn.c */
struct txn *txn_of_view(uint64_t view);   /* NULL: ended */
struct txn *txn_of_serial(uint64_t serial);
void txn_used(struct txn *t);
bool txn_has_room(const struct txn *t, size_t bytes); /* for so much more in memory, next to all others */
void txn_finish(struct txn *t, enum txn_state state, int err, int64_t rev); /* the result is known: answers, lets go of the overlay */
void txn_unknown(struct txn *t);          /* and will never be */
/* Replies to LOOKUP, or with `fi` to CREATE, of a node in a tree, and counts what the kernel knows of that view. What libfuse said. */
int txn_view_reply_entry(fuse_req_t req, const struct fuse_entry_param *e, struct fuse_file_info *fi);
void txn_view_forget(struct fs *fs, fuse_ino_t node, uint64_t nlookup);
int txn_errno(int err);                   /* as fs_errno, but a transaction that is too large is E2BIG */

/* txn_tree.c: the view. Reading records what was read. QE_2BIG: a limit; QE_STALE: the picture has been compacted. */
int txn_lookup(struct txn *t, uint64_t parent, const char *name, uint64_t *ino);
int txn_attr(struct txn *t, uint64_t ino, struct store_attr *out);        /* records */
int txn_attr_unread(struct txn *t, uint64_t ino, struct store_attr *out); /* for replies that tell of a name only */
int txn_content(struct txn *t, uint64_t ino, struct buf *out);            /* of a file or symlink, appended */
int txn_read_list(struct txn *t, uint64_t dir);                           /* records */
int txn_read_inode(struct txn *t, uint64_t ino);                          /* records */
struct txn_node *txn_node_find(struct txn *t, uint64_t ino);              /* NULL: not changed */
int txn_node_get(struct txn *t, uint64_t ino, struct txn_node **out);     /* of an inode that is going to be changed; QE_STALE: removed here */
int txn_admit(const struct txn *t, size_t bytes, size_t ops);             /* room for so much more? */

struct txn_make { enum store_op_kind kind; uint32_t mode, uid, gid; const char *target; };
int txn_make(struct txn *t, uint64_t parent, const char *name, const struct txn_make *m, uint64_t *ino);
int txn_remove(struct txn *t, uint64_t parent, const char *name, bool dir);
int txn_rename(struct txn *t, uint64_t parent, const char *name, uint64_t parent2, const char *name2, uint32_t flags);
int txn_write(struct txn *t, uint64_t ino, const void *data, size_t size, off_t off, bool append, bool kills_priv);
int txn_truncate(struct txn *t, uint64_t ino, int64_t size, bool kills_priv);
int txn_setattr(struct txn *t, const struct store_op *set);
int txn_bytes_of(struct txn *t, uint64_t ino, const struct buf **out);    /* the content that writers read; borrowed until the next change */
void txn_drop_view(struct txn *t, uint64_t ino);                          /* that content need not be kept */
void txn_tree_free(struct txn *t);        /* forgets all that was read and changed */

/* txn_xattr.c: likewise. */
int txn_getxattr(struct txn *t, uint64_t ino, const char *name, struct buf *out);
int txn_listxattr(struct txn *t, uint64_t ino, struct buf *out);
int txn_setxattr(struct txn *t, uint64_t ino, const char *name, const struct store_bytes *value, uint32_t flags); /* NULL: remove */

/* txn_require.c: one line. 0; QE_INVAL, QE_NOTBUILT, QE_ACCES, QE_2BIG, with a sentence in `why`. Nothing is kept when it fails. */
int txn_require(struct txn *t, const struct perm *who, const char *line, struct buf *why);
/* Whether `who` may still look at all that is required. 0 or QE_ACCES; QE_*. */
int txn_require_allowed(struct txn *t, const struct perm *who);

/* txn_commit.c. Begins to commit; txn_finish is called when the result is known, perhaps before this returns. */
void txn_commit_start(struct txn *t, fuse_req_t req);

/* txn_view.c: tree/ of a transaction. */
void txn_view_entry(struct txn *t, uint64_t ino, const struct store_attr *a, struct fuse_entry_param *e);

#endif
