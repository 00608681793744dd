/* Open files: snapshots for readers, private edits for writers.
 *
 * What a handle reads is `base` (the content of the revision at which it was opened) with its own `edits` applied (`view`, made when
 * needed). Nothing of the edits leaves the handle until commit.c commits them, with one exception: of a file that an open file has made,
 * and still has open, the readers of its session are shown what was written. A handle can be moved to a newer content (handle_advance):
 * after its own commit, at the end of the file (tail -f). FUSE loop only. */
#ifndef QFS_FS_HANDLE_H
#define QFS_FS_HANDLE_H

#include "fs/content.h"
#include "fs/edits.h"
#include "fs/inode.h"

enum { HANDLE_DIRTY_PER_UID = 1000 };                     /* open files with edits: nobody needs more at once */
#define HANDLE_DIRTY_BYTES_MAX (INT64_C(256) << 20)       /* of all edits in memory: 16 files of the largest max-value; a user who is not root gets half */

struct handle {
    struct fs *fs;
    struct inode *in;
    struct handle *prev, *next; /* of the inode */
    size_t refs;                /* the open file, and commits on their way */
    bool released;              /* the open file is gone */

    /* The open call. */
    bool readable, writable, append;
    bool truncates; /* O_TRUNC of what was empty: nothing to commit, but part of the first commit */
    bool sync;      /* O_SYNC or O_DSYNC: each write commits */
    pid_t tid, tgid; /* the opener; 0: of another pid namespace */
    bool makes;     /* it has made the file: readers of its session see what was written through it (handle_peek) */
    bool peeks;     /* a reader that looks for that, of this session: */
    pid_t session;  /* may see the buffered size */
    uid_t uid;

    /* What is read. */
    struct content *base; /* a reference; NULL for handles that cannot read */
    bool base_old;        /* a commit of its own is not in base yet */
    struct content *paged; /* a reference: what a mapping was last given; NULL */
    struct buf view;      /* base with edits applied, if has_view */
    bool has_view;
    size_t view_counted;  /* as content */

    /* What is to be committed. */
    struct edits edits;
    int64_t size;       /* of the file as this handle sees it */
    int64_t store_size; /* of the file when last looked at: what growth is counted from */
    bool dirty;         /* there is something to commit */
    size_t in_flight;   /* commits on their way: until they are settled, the session goes on seeing `size` */
    bool wrote;         /* a WRITE since the last FLUSH */
    bool flushed;       /* a descriptor of it was closed, so some process had one */
    int failed;         /* QE_* of a write that failed in the middle of a new content: no part of it is ever published */
    int broken;         /* QE_* of a new content whose commit failed: writes of its rest fail until it is begun anew */
    int64_t written_ns; /* when it was last made dirty */
    bool kills_priv;    /* a write since the last chmod: suid and sgid fall with the commit, unless root writes */
    bool has_mtime;     /* utimens while dirty: kept over the coming commit */
    int64_t mtime_ns;

    /* Locks: flock.c. */
    uint64_t lock_owner; /* the number of its flock; 0: none was asked for */
    size_t n_locks;     /* held through it, flock(2) and fcntl(2) */
    bool lock_lost;     /* one of them was lost: ESTALE from there on */
    struct fuse_pollhandle *poll; /* owned; who waits for that; NULL */
};

/* A new handle on an inode, with `flags` of open(2). NULL: out of memory. */
struct handle *handle_new(struct fs *fs, struct inode *in, int flags, const struct fuse_ctx *ctx);
void handle_ref(struct handle *h);
void handle_unref(struct handle *h);
/* Looks at the inode in the store, with its content if the handle can read; keeps the attributes with the inode. 0 or QE_*. */
int handle_load(struct handle *h);

/* For a reader, after it was loaded: if the file is in the making, what its session has written is shown, too. 0 or QE_NOMEM. */
int handle_peek(struct handle *h, pid_t tid);

/* 0 or QE_FBIG, QE_NOSPC, QE_NOMEM. `paged`: from a shared mapping, so at `off` even with O_APPEND. */
int handle_write(struct handle *h, const void *data, size_t size, off_t off, bool paged);
int handle_truncate(struct handle *h, int64_t size);
/* Bytes at `off`: borrowed until the next call. */
int handle_read(struct handle *h, size_t size, off_t off, const void **data, size_t *len);
/* The same for a page of a mapping. Pages belong to the inode and not to an open file: they show the newest content. */
int handle_read_page(struct handle *h, size_t size, off_t off, const void **data, size_t *len);
/* Moves a clean handle to the newest content. */
int handle_advance(struct handle *h);
/* After a write that failed: if the edits are a whole new content, they are dropped, and writing goes on failing until the file is
 * closed or truncated to nothing; appends and writes in place stay as far as they came. */
void handle_fail(struct handle *h, int err);
/* Moves the edits to `out`, which is empty: they belong to a commit from here on. */
void handle_give_edits(struct handle *h, struct edits *out);
/* Drops the edits: they never take effect. */
void handle_drop_edits(struct handle *h);
/* Whether one more open file of this user may become dirty: 0 or QE_MFILE. */
int handle_admit(struct fs *fs, uid_t uid);
/* Called by whatever changes edits or dirty: keeps the mount's counters right. */
void handle_count(struct handle *h, size_t bytes_before, bool dirty_before);

/* Looks up who opens: for handles that have something to commit. */
void handle_opener(struct handle *h, pid_t tid);

/* The handle of the inode with edits, or a commit on its way, that belongs to the session of `tid`, or NULL. */
struct handle *handle_dirty_of(struct inode *in, pid_t tid);

#endif
