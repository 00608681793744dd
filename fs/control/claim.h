/* Claims: who of this mount holds a lock of locks/, or waits for it; and the open files through which it does.
 *
 * A claim is one lock as the cluster knows it (fs/locks.h). All open files through which a process holds a name exclusively have one claim in
 * common, however they came to it: opened for writing, or by flock. So the holder never waits for itself, and the lock ends with the last
 * of them. A shared flock is a claim of its open file alone.
 *
 *     asked ──> held ──> lost        lost: the session lapsed; every use of its files fails with ESTALE until they are closed
 *       └─────> refused              who waits is told why
 *
 * FUSE loop only. */
#ifndef QFS_FS_CONTROL_CLAIM_H
#define QFS_FS_CONTROL_CLAIM_H

#include "fs/fs.h"
#include "fs/proc.h"
#include "store/base/buf.h"

struct claim;

/* An open file of locks/. */
struct lock_file {
    struct lock_file *prev, *next; /* of all */
    struct fs *fs;
    size_t refs;                   /* the open file, and what is on its way for it */
    bool readable, writable;
    uid_t uid;                     /* who opened it */
    struct proc_id opener;
    struct fuse_file_info fi;      /* until OPEN is answered */
    struct claim *claim;           /* what it has a part of; NULL */
    struct lock_file *prev_part, *next_part; /* of the claim's */
    struct buf content;            /* what a read shows */
    struct fuse_pollhandle *ph;    /* who polls; NULL; owned */
    char name[STORE_LOCK_NAME_MAX + 1];
};

/* NULL: out of memory, or too many are open. */
struct lock_file *lock_file_new(struct fs *fs, const char *name, int flags, const struct fuse_ctx *who);
void lock_file_ref(struct lock_file *f);
void lock_file_unref(struct lock_file *f);
/* The open file is gone: gives up its part of the claim. */
void lock_file_close(struct lock_file *f);

/* The answer to claim_ask; replies. 0: the file has its part. */
typedef void (*claim_answer_cb)(struct lock_file *f, fuse_req_t req, int err);
/* For a file that has no part of a claim: answered at once, or later. With `wait` it may take any time; any signal ends it with QE_INTR. */
void claim_ask(fuse_req_t req, struct lock_file *f, bool exclusive, bool wait, claim_answer_cb answer);
/* Gives its part up. `settle` (may be NULL) is called when the cluster knows, maybe at once: 0 or QE_TIMEDOUT. */
typedef void (*claim_settle_cb)(struct fs *fs, void *data, int err);
void claim_leave(struct lock_file *f, claim_settle_cb settle, void *data);

bool claim_is_exclusive(const struct lock_file *f);
bool claim_is_lost(const struct lock_file *f); /* it had a part of a claim that is lost; looks at the clock, too */
uint64_t claim_owner(const struct lock_file *f); /* with the token, what the store knows a held claim by */
int64_t claim_token(const struct lock_file *f);

#endif
