/* What the files of the replay share; private to replay*.c. FUSE loop only, but for what struct replay_mail says.
 *
 *     store thread --mail--> replay.c: intake --> replay_queue.c --> replay_plan.c: an order, and a frame --> replay_crew.c --> workers
 *                                                                                        workers' requests --> replay_view.c, by the frame */
#ifndef QFS_FS_REPLAY_PARTS_H
#define QFS_FS_REPLAY_PARTS_H

#include <pthread.h>

#include "fs/fs.h"
#include "fs/replay.h"
#include "fs/replay_queue.h"
#include "store/base/buf.h"

/* ---- The lagged view --------------------------------------------------------------------------------------------------------------- */

/* A name that a worker will look up for its order, and what it finds there: before the order's own call was answered, and after. 0: nothing. */
struct replay_binding {
    uint64_t dir;
    uint64_t before, after;
    size_t at; /* of the name in `names`, with a NUL */
};

/* All that a worker sees of the tree while it carries out one order. Nothing in it depends on what the store does meanwhile. */
struct replay_frame {
    struct replay_item *item; /* NULL: no order is under way; then everything it asks for is refused */
    enum replay_kind kind;    /* of the item, or what was made of it */
    uint64_t ino, other;
    size_t n;                 /* bindings; the first n_own are the order's own */
    size_t n_own;
    uint64_t dir;             /* the directory of its (first) name */
    struct buf list;          /* of struct replay_binding */
    struct buf names;
    int64_t planned;          /* the newest revision that was known when it was planned */
    bool done;                /* its call has been answered: the kernel is about to tell, or has told */
};

/* Carries out what a worker asks for. */
struct replay_frame *replay__frame_of(struct replay *r, pid_t pid); /* NULL: not a worker */

/* ---- Planning ---------------------------------------------------------------------------------------------------------------------- */

/* Makes the order of an item and the frame for it. 0; QE_CANCELED: a later local operation has told of these names already; QE_NOENT:
 * nothing is left to tell of; QE_AGAIN: something else has to be told first; QE_NAMETOOLONG, QE_NOMEM, QE_IO. */
int replay__plan(struct replay *r, struct replay_item *item, struct replay_frame *f, struct buf *order);
/* `kept` is the directory that the worker has open (0: none) and gets the one that it will have. */
void replay__plan_series(struct replay *r, const struct replay_frame *f, struct buf *order, uint64_t *kept);
/* Whether a local operation has told of a name since that revision. */
bool replay__overtaken(struct replay *r, uint64_t dir, const char *name, int64_t rev);
/* Whether a local process is making a file of that name: the kernel has told that it is there. */
bool replay__in_the_making(struct replay *r, uint64_t dir, const char *name);

/* ---- Workers ----------------------------------------------------------------------------------------------------------------------- */

enum {
    CREW_MAX = 4,    /* at work: one for each directory whose lock somebody may hold */
    CREW_LOST_MAX = 4, /* stuck and replaced */
};

struct replay_worker {
    int sock;            /* -1: this place is free */
    pid_t pid;           /* 0: has not said hello */
    bool lost;           /* stuck: another one has taken its place; what it asks for is refused */
    int64_t since_ns;    /* when the order under way was sent */
    uint64_t kept;       /* the directory that it has been left open by the order before, or will be by this one; 0: none */
    struct replay_frame frame;
};

struct replay_crew {
    int control;         /* to the supervisor; -1: there is none */
    pid_t supervisor;
    int epoll;           /* of all sockets */
    size_t n_busy;
    bool refused;        /* no worker could be had when one was asked for last: logged */
    struct replay_worker workers[CREW_MAX + CREW_LOST_MAX];
};

/* A worker without an order, if possible one that has directory `dir` open, or NULL (one may have been hired and will say hello). */
struct replay_worker *replay__crew_idle(struct replay *r, uint64_t dir);
/* There is no worker, and there never will be one. */
bool replay__crew_is_gone(const struct replay *r);
/* Those without an order close what they have left open. */
void replay__crew_rest(struct replay *r);
/* Sends the order that is planned in the worker's frame. 0 or QE_IO: the worker is gone. */
int replay__crew_send(struct replay *r, struct replay_worker *w, const struct buf *order);
/* Reads what workers report; calls replay__reported for each order. */
void replay__crew_look(struct replay *r);
/* Replaces the workers whose order was sent before that time; their orders are reported as ETIMEDOUT. */
void replay__crew_replace(struct replay *r, int64_t before_ns);
void replay__crew_stop(struct replay *r);  /* no more orders; workers end when their call returns */
void replay__crew_close(struct replay *r); /* the mount is gone: waits for the supervisor */
/* replay.c: an order has come back with an errno. The frame is empty when this returns. */
void replay__reported(struct replay *r, struct replay_frame *f, int error);

/* ---- The replay -------------------------------------------------------------------------------------------------------------------- */

enum replay_mail_state {
    MAIL_REMOTE,     /* another member's, or nobody here waits for it */
    MAIL_OPEN,       /* this member's: its answer will say */
    MAIL_ANNOUNCED,  /* the kernel tells of it */
    MAIL_SILENT,     /* a commit that the kernel does not tell of */
    MAIL_ORPHAN,     /* its caller was told something else, so the kernel does not tell of it */
};

/* A change on its way from the store thread. */
struct replay_mail {
    struct replay_mail *next;
    int64_t rev, applied_ns;
    enum replay_mail_state state; /* under the lock */
    enum store_event_op op;
    enum store_made made;
    bool name_only;               /* it will be read again; here for the name that it changed */
    uint64_t ino, parent, old_parent;
    size_t name_len, old_len;
    size_t bytes;
    char names[]; /* name, old name */
};

/* A revision of this member that was made while changes are not kept. */
struct replay_own {
    int64_t rev;
    enum replay_mail_state state;
};

/* The last local operation on a name that the kernel has told of. */
struct replay_local {
    int64_t rev;
    size_t key_len; /* directory and name */
    UT_hash_handle hh;
    char key[];
};

/* A file whose commits the kernel does not tell of: told once for all, at a pace. */
struct replay_silent {
    uint64_t ino; /* key */
    int64_t rev, applied_ns;
    uint64_t parent;
    UT_hash_handle hh; /* in order of insertion */
};

/* A commit by a close whose open file has not gone yet. */
struct replay_closing {
    uint64_t file; /* key */
    uint64_t ino;
    int64_t rev, closed_ns;
    UT_hash_handle hh; /* in order of insertion */
};

struct replay {
    struct fs *fs;
    uint32_t member;      /* ours */
    unsigned major, minor; /* of our mount */
    bool running;         /* from replay_open to replay_stop */
    bool held;            /* a test holds everything back */
    int poll;             /* epoll: the crew's, `wake`, and a test's socket */
    int wake;             /* eventfd */

    /* Under `lock`. */
    pthread_mutex_t lock;
    struct replay_mail *mail, **mail_tail;
    struct replay_mail *open;    /* the first that is MAIL_OPEN; the others are behind it */
    _Atomic size_t mail_bytes;   /* of mail; with the queue's, what is limited */
    bool woken;                  /* `wake` is written */
    bool accepting;              /* changes are taken */
    atomic_bool behind;          /* too much at once: changes are read from the store again, behind `mailed`. The loop may look without the lock */
    int64_t mailed;              /* last revision that was put into the mail */
    int64_t seen;                /* last revision that was taken in without the mail */
    int64_t changed;             /* last revision that the hook has seen */
    bool stock_due;              /* what changed behind `stock_from` is found by looking at everything */
    int64_t stock_from;
    struct replay_own *own;      /* revisions of this member while behind; ascending */
    size_t n_own, cap_own;
    atomic_bool has_mail;        /* something was put in, or decided */
    atomic_bool doubtful;        /* a caller has been told that its time is up: its change may come without an answer */
    _Atomic size_t queue_bytes;  /* the loop's copy for the store thread */

    /* FUSE loop only. */
    struct replay_queue queue;
    struct replay_crew crew;
    int64_t taken;               /* newest revision that was taken out of the mail */
    struct replay_local *locals;
    size_t n_locals;
    struct replay_silent *silent;
    struct replay_closing *closing;
    struct replay_stock *stock;  /* while everything is looked at: replay_stock.c */
    int64_t silent_next_ns;      /* when the next silent one may be told */
    struct replay_item *resting; /* running, but not at a worker: tried again at rested_ns */
    int64_t rested_ns;
    struct replay_stats stats;
    int inject;                  /* a test's socket, or -1 */
    bool warned;                 /* failures were logged lately */
    int64_t warned_ns;
};

/* replay_mail.c: changes between the threads. */
#define REPLAY_BYTES_MAX (INT64_C(64) << 20) /* of mail and queue: beyond it changes are read from the store again */
void replay__mail_init(struct replay *r);
void replay__mail_fini(struct replay *r);
/* The decided ones at the front, oldest first; the caller frees them. NULL: none. FUSE loop. */
struct replay_mail *replay__mail_take(struct replay *r);
/* The same from the store, when there was too much for the memory, as many as are good at once. */
struct replay_mail *replay__mail_reread(struct replay *r);
/* Whether everything has to be looked at, and which revision was told last. */
bool replay__mail_stock(struct replay *r, int64_t *from);
/* Nobody answered them: their callers had been given up before. How long until this is to be called again; -1: no need. */
int replay__mail_expire(struct replay *r, int64_t now_ns);
void replay__wake(struct replay *r); /* any thread: the loop has something to do */

/* replay_inject.c: a socket through which tests make changes as if another member had; nothing without failpoints. */
int replay__inject_open(struct replay *r);
void replay__inject_look(struct replay *r);
void replay__inject_close(struct replay *r);
/* replay_stock.c: looks at a part of what the kernel knows, and adds items for what has changed; wakes the loop while there is more. */
void replay__stock(struct replay *r);
void replay__stock_fini(struct replay *r);
/* replay.c: a new item, unless nobody can be watching. */
void replay__add(struct replay *r, const struct replay_item *from, const char *name, size_t len, const char *old, size_t old_len);
bool replay__is_known(struct replay *r, uint64_t node);
/* replay.c: hands out what may run. */
void replay__dispatch(struct replay *r);

#endif
