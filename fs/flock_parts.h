/* What flock.c and flock_held.c share: a lock that is held or asked for. FUSE loop only. */
#ifndef QFS_FS_FLOCK_PARTS_H
#define QFS_FS_FLOCK_PARTS_H

#include "fs/flock.h"

/* A lock that is held or asked for. */
struct file_lock {
    struct file_lock *prev, *next; /* of its list: the inode's, or those that are asked for */
    struct fs *fs;
    struct handle *h;   /* through which it was asked for; a reference while it is asked for */
    struct inode *in;   /* held: of the store's number */
    uint64_t ino;       /* asked for, held: in the store */
    bool whole;         /* flock(2), else fcntl(2) */
    bool exclusive;
    uint64_t owner;     /* the kernel's lock owner; for flock the open file's own number */
    int64_t start, end; /* fcntl: first and last byte */
    pid_t pid;          /* shown to others */
    struct lock *lock;  /* NULL: not asked for yet; or a range that is held */

    /* While it is asked for. */
    bool asking;
    bool wait;
    fuse_req_t req;     /* NULL: was answered */
    uid_t uid;          /* who asks */
    gid_t gid;
    int64_t signal_ns;  /* when a signal came; 0: none */
    struct file_lock *spare; /* for what is cut in two when a range is granted */
};

struct lock_table {
    struct file_lock *asking;  /* of all files */
    bool look;                 /* one of them got a signal */
    size_t n_signals;          /* of them, those that got one and wait on */
    size_t n_held;
    uint64_t last_owner;       /* number given out */
    int64_t ticked_ns;         /* when flock_tick last looked */
    bool ranges_used;          /* somebody has taken an fcntl lock on this mount */
};

void flock__list_add(struct file_lock **list, struct file_lock *l);
void flock__list_remove(struct file_lock **list, struct file_lock *l);

/* ---- flock_held.c ---- */

/* Locks belong to the inode of the store: of a creation whose name was taken first, that is another node's. NULL: there is none. */
struct inode *flock__inode(const struct handle *h);
void flock__hold(struct file_lock *l, struct inode *in); /* puts it on the inode's list */
void flock__unhold(struct file_lock *l);                 /* takes it off, and frees it */
void flock__unheld(struct fs *fs, struct inode *in);     /* after locks went: the inode may have been kept for them only */
struct file_lock *flock__whole(const struct handle *h);  /* what the open file holds by flock(2), or NULL */
/* What an owner holds of first..last by fcntl(2): the first one, or NULL; and the next one of a list, from `l` on. */
struct file_lock *flock__range(const struct handle *h, uint64_t owner, int64_t start, int64_t end);
struct file_lock *flock__next_range(struct file_lock *l, uint64_t owner, int64_t start, int64_t end);
/* Takes first..last out of what the owner holds. What lies behind it may need a lock of its own: `spare`, which is taken then. */
void flock__cut(struct inode *in, uint64_t owner, int64_t start, int64_t end, struct file_lock **spare);
void flock__move_handles(const struct file_lock *l); /* the owner's clean open files of this inode go on with the newest content */
void flock__lose(struct handle *h);                  /* a lock that was held through it is lost */
void flock__lapsed(struct fs *fs);                   /* the locks of all that were asked for before are gone */
void flock__whole_lost(struct fs *fs, void *data);   /* a flock that is not in the store any more; data: the file_lock */

/* ---- flock.c ---- */

void flock__asking_end(struct file_lock *l, int error); /* ends what is asked for before it was decided; replies */

#endif
