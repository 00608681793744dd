/* Locks of the cluster, as this mount asks for them: flock(2), fcntl(2), and the files of locks/.
 *
 * The store decides (STORE_OP_LOCK); here is who waits for what. A lock that is asked for goes ASKED -> (QUEUED ->) HELD -> gone. Answers come by
 * completion, grants to those who wait by events, in any order; after a database was installed all is compared with the store once more. A
 * waiter outlives a quorum that is away, and a session that lapsed: it is queued anew then. A holder whose session lapsed is LOST. All on the FUSE
 * loop, but for locks_changed and locks_lapsed. */
#ifndef QFS_FS_LOCKS_H
#define QFS_FS_LOCKS_H

#include "fs/fs.h"

struct lock; /* held, or asked for: locks.c's until locks_drop */

struct lock_want {
    enum store_lock_class class;
    uint64_t ino;     /* WHOLE, RANGE: in the store; its creation is committed */
    const char *name; /* NAMED */
    uint64_t owner;   /* number of the holder within this mount */
    bool exclusive, wait;
    int64_t first, last; /* RANGE */
    uid_t uid;        /* who asks: shown to others */
    gid_t gid;
    pid_t pid;
};

struct lock_calls {
    /* Once: 0: held, with its token; QE_WOULDBLOCK, QE_DEADLOCK, QE_NOLOCK, QE_TIMEDOUT (without a quorum no queue can be entered) and other failures:
     * it is not, and never will be; the lock is freed when this returns. Not called inside locks_ask. */
    void (*done)(struct fs *fs, void *data, int err, int64_t token);
    /* What was held is lost (the session lapsed). At most once; locks_drop is due all the same. */
    void (*lost)(struct fs *fs, void *data);
};

/* NULL: out of memory, and nothing was asked. */
struct lock *locks_ask(struct fs *fs, const struct lock_want *want, const struct lock_calls *calls, void *data);
/* Gives it back, or up; frees it. Neither callback is called any more. `settle` (may be NULL) with `data` is called when the cluster knows, with 0 or
 * QE_TIMEDOUT (it will know in the end: this is sent again and again). */
void locks_drop(struct fs *fs, struct lock *l, void (*settle)(struct fs *fs, void *data, int err), void *data);
/* RANGE: gives back what `owner` holds of first..last of an inode; `settle` as above. */
void locks_unrange(struct fs *fs, uint64_t ino, uint64_t owner, int64_t first, int64_t last, void (*settle)(struct fs *fs, void *data, int err), void *data);
bool locks_is_held(const struct lock *l); /* false: waits, or was lost; looks at the clock, too */
int64_t locks_token(const struct lock *l);

/* The hooks of replica: on its threads. */
void locks_changed(struct fs *fs, const struct store_lock_event *events, size_t n, uint64_t session);
void locks_lapsed(struct fs *fs);
void locks_installed(struct fs *fs);
/* Those who watch a named lock are to be told: set by control/locks.c; FUSE loop. */
typedef void (*locks_watch_cb)(struct fs *fs, const char *name);
void locks_set_watch(struct fs *fs, locks_watch_cb changed);

int locks_open(struct fs *fs);
void locks_close(struct fs *fs);

#endif
