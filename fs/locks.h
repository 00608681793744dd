/* Locks of the cluster, as this mount asks for them: flock(2), fcntl(2), and the files of locks/.
 *
 * The store decides (STORE_OP_LOCK); here is who waits for what. A lock that is asked for goes ASKED -> (QUEUED ->) HELD -> gone. Answers come by
 * completion, grants to those who wait by events, in any order; after a database was installed all is compared with the store once more. A
 * waiter outlives a quorum that is away, and a session that lapsed: it is queued anew then. A holder whose session lapsed is LOST. All on the FUSE
 * loop, but for the hooks of replica. */
#ifndef QFS_FS_LOCKS_H
#define QFS_FS_LOCKS_H

#include "fs/fs.h"

struct lock; /* held, or asked for: locks.c's until locks_drop */

struct lock_want {
    enum store_lock_class class;
    uint64_t ino;     /* WHOLE, RANGE: in the store; its creation is committed */
    const char *name; /* NAMED; copied */
    uint64_t owner;   /* number of the holder within this mount */
    bool exclusive, wait;
    struct lock *instead_of; /* WHOLE: what the owner holds of the other kind: locks.c's from here on, and gone in any case; or NULL */
    int64_t first, last; /* RANGE */
    uid_t uid;        /* who asks: shown to others */
    gid_t gid;
    pid_t pid;
};

struct lock_calls {
    /* Once: 0: held, with its token; QE_WOULDBLOCK, QE_DEADLOCK, QE_NOLOCK, QE_TIMEDOUT (without a quorum no queue can be entered) and other failures:
     * it is not, and never will be. After a failure the lock is freed when this returns. Of class RANGE it is freed after 0, too, since what is held of
     * a range is given back by locks_unrange; but not after QE_TIMEDOUT: locks_drop is due, and tells what became of it. After locks_leave also QE_INTR:
     * what its owner holds is what it held before; and of 0 the token may be missing. Never called inside locks_ask. */
    void (*done)(struct fs *fs, void *data, int err, int64_t token);
    /* NAMED, WHOLE: what was held is lost (the session lapsed). At most once; locks_drop is due all the same, here or later. */
    void (*lost)(struct fs *fs, void *data);
};

/* NULL: out of memory, and nothing was asked. */
struct lock *locks_ask(struct fs *fs, const struct lock_want *want, const struct lock_calls *calls, void *data);
/* RANGE: its owner would rather not wait any more. `done` tells what became of it, as soon as the cluster knows: it had been granted, or it is not. Never
 * inside this, and only once if this is called again. Nothing happens if it is decided already. */
void locks_leave(struct lock *l);
/* `err`: 0; QE_TIMEDOUT (the cluster will know in the end: it is told again and again); of a RANGE that was given up: QE_STALE (it had been granted,
 * so what its owner held of that range before is gone with it); of locks_unrange: QE_NOLOCK (two ranges would come of one, and there are too many: it
 * is held as before). */
typedef void (*locks_settle_cb)(struct fs *fs, void *data, int err);
/* Gives it back, or up; frees it. Neither callback is called any more. `settle` (may be NULL) is called once when the cluster knows, never inside this. */
void locks_drop(struct fs *fs, struct lock *l, locks_settle_cb settle, void *data);
/* WHOLE: frees it without giving it back: a later request of its owner stands for both. */
void locks_forget(struct lock *l);
/* RANGE: gives back what `owner` holds of first..last of an inode. QE_NOMEM: nothing was done, and settle is not called. */
int locks_unrange(struct fs *fs, uint64_t ino, uint64_t owner, int64_t first, int64_t last, locks_settle_cb settle, void *data);
bool locks_is_held(const struct lock *l);   /* false: waits, or was lost; looks at the clock, too */
bool locks_is_queued(const struct lock *l); /* the cluster has it behind others; while false and not held, nobody knows yet */
int64_t locks_token(const struct lock *l);  /* 0: none yet */

/* The hooks of replica: on its threads. */
void locks_changed(struct fs *fs, const struct store_lock_event *events, size_t n, uint64_t session);
void locks_lapsed(struct fs *fs);
void locks_installed(struct fs *fs);
/* Those who watch a named lock are to be told: set by control/locks.c. NULL: all of them, since events were missed. FUSE loop. */
typedef void (*locks_watch_cb)(struct fs *fs, const char *name);
void locks_set_watch(struct fs *fs, locks_watch_cb changed);
/* All ranges that were held are lost, whoever's: set by flock.c. */
typedef void (*locks_lapse_cb)(struct fs *fs);
void locks_set_lapse(struct fs *fs, locks_lapse_cb lapsed);

int locks_open(struct fs *fs);   /* before replica starts: makes fs->lock_client. 0 or QE_* */
void locks_look(struct fs *fs);  /* after each request, and when woken: what came by the hooks */
int locks_tick(struct fs *fs);   /* what time brings; how long until it wants to be called again, in ms, or -1 */
void locks_close(struct fs *fs); /* replica has stopped: no callback is called any more; frees what nobody dropped */

#endif
