/* A FUSE request that is kept aside until a command has been applied, or a read barrier passed: thousands may wait and cost no thread.
 *
 * Good path: a handler calls pending_submit and returns. When the command has been applied, `done` replies on replica's thread, and
 * `settle` runs on the FUSE loop before any later request is handled. A caller that dies (SIGKILL) is answered EINTR at once by
 * the FUSE loop; the command goes on, `done` is not called, and `settle` gets req == NULL. */
#ifndef QFS_FS_PENDING_H
#define QFS_FS_PENDING_H

#include "fs/fs.h"

/* Any thread: sends the one reply. Has only what it is given: `ino` as settle has it, `arg` is the caller's number. */
typedef void (*pending_done_cb)(fuse_req_t req, int err, uint64_t ino, uint64_t arg);
/* The FUSE loop, always called once; frees `data`. When `req` is not NULL (there was no `done` callback, or the error is `undecided`), it
 * has to reply. */
typedef void (*pending_settle_cb)(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data);

struct pending_call {
    fuse_req_t req;          /* NULL: nobody waits */
    pending_done_cb done;    /* NULL: settle replies */
    uint64_t arg;            /* for done */
    int undecided;           /* with this error settle has to reply all the same, since it may try something else; 0: none */
    fuse_ino_t changed[2];   /* nodes of which the kernel may keep what changes without its knowing; 0: none */
    uint64_t expected;       /* the inode that the command should meet, if it met another one, that has changed too; 0: no matter */
    pending_settle_cb settle; /* may be NULL if there is a done */
    bool silent;             /* a commit of which the kernel does not tell watchers when it is answered: replay.h */
    bool injected;           /* a test's, or a transaction's: for watchers as if another member had made it */
    bool patient;            /* the command has no deadline: its result will be known */
    bool wake;               /* settle has more to do than to put away: others wait for it */
    void *data;              /* for settle */
};

/* Fills in uid, gid, pid and comm of the command from the request (unless cmd->comm is set) and submits it. FUSE loop. All that cmd
 * points to may go away when this returns. Out of memory: replies ENOMEM and settles with QE_NOMEM itself. */
void pending_submit(struct fs *fs, struct store_command *cmd, const struct pending_call *call);
/* The same for a read barrier: settles when this member has all that was committed before, at the latest (with QE_TIMEDOUT) after the
 * setting `timeout`. FUSE loop. */
void pending_barrier(struct fs *fs, const struct pending_call *call);
/* A lease is renewed once, or the leader is asked how long it has (`rev` of settle, in ns); see replica.h. FUSE loop. */
void pending_renew(struct fs *fs, uint64_t lease, const struct pending_call *call);
void pending_remaining(struct fs *fs, uint64_t lease, const struct pending_call *call);
/* One operation, whose reply is its error alone; refused at once when the member cannot write. FUSE loop. */
void pending_submit_op(fuse_req_t req, const struct store_op *op);
/* Done callbacks: fuse_reply_err; fuse_reply_write of `arg` bytes. */
void pending_done_err(fuse_req_t req, int err, uint64_t ino, uint64_t arg);
void pending_done_write(fuse_req_t req, int err, uint64_t ino, uint64_t arg);

/* For what else a request may wait: keeps it until somebody calls pending_finish, once, on any thread; then all is as if a command had
 * come to that result. NULL: out of memory, as for pending_submit. FUSE loop. */
struct pending;
struct pending *pending_wait(struct fs *fs, const struct pending_call *call);
void pending_finish(struct pending *p, int err, int64_t rev, uint64_t ino);

/* Calls settle(fs, NULL, 0, 0, 0, data) on the FUSE loop soon. 0 or QE_NOMEM. Any thread. */
int pending_post(struct fs *fs, pending_settle_cb settle, void *data);

int pending_open(struct fs *fs);       /* makes fs->pending; 0 or QE_* */
void pending_close(struct fs *fs);     /* when nothing is pending */
int pending_fd(struct fs *fs);         /* readable when pending_drain has work */
void pending_drain(struct fs *fs);     /* settles; looks at the callers that got a signal */
void pending_woken(struct fs *fs);     /* the same, when pending_fd is readable */
bool pending_none(struct fs *fs);      /* no command is on its way */
void pending_stopping(struct fs *fs);  /* from now on each completion wakes the loop, so that it sees pending_none */
void pending_awaited(struct fs *fs, int change); /* one more (1), or less (-1), for whom each completion has to do so */
/* When the reader is closed and replica has stopped: replies the error to whom settle would reply, or ETIMEDOUT if it took effect, and settles without. */
void pending_end(struct fs *fs);

#endif
