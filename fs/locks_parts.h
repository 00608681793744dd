/* What locks.c and locks_hooks.c share: a lock, its states, and the client. locks.c tells its life. FUSE loop only, but where it says so. */
#ifndef QFS_FS_LOCKS_PARTS_H
#define QFS_FS_LOCKS_PARTS_H

#include <pthread.h>
#include <uthash.h>

#include "fs/locks.h"

enum lock_state { LOCK_ASKED, LOCK_QUEUED, LOCK_LEAVING, LOCK_GRANTED, LOCK_HELD, LOCK_LOST, LOCK_FAILED, LOCK_TIMED, LOCK_GIVING };

struct lock {
    struct fs *fs;
    uint64_t request;      /* key, if not 0: of the newest command that asked for it */
    struct lock_want want; /* its name is owned */
    char comm[16];
    enum lock_state state;
    struct lock_calls calls;
    void *data;            /* for calls */
    int err;               /* FAILED; GIVING: what settle will be told */
    int64_t token;
    int64_t deadline_ns;   /* ASKED, LEAVING: until `done` says QE_TIMEDOUT; GIVING: until `settle` does; 0: never */
    bool resend;           /* LEAVING, GIVING: the command was refused */

    /* GIVING. */
    bool in_store;         /* there is something to give back, or up */
    bool was_granted;      /* RANGE: to nobody, says the store */
    locks_settle_cb settle; /* NULL: nobody waits, or was told */
    void *settle_data;

    struct lock *prev, *next; /* of `list` */
    struct lock **list;       /* NULL, or &moving or &due of the client */
    UT_hash_handle hh;
};

/* What a hook left. */
struct lock_note {
    enum store_lock_event_kind kind;
    uint64_t request;
    int64_t token;
    char *name; /* CHANGED; owned */
};

struct lock_client {
    /* FUSE loop only. */
    struct lock *by_request;
    struct lock *moving; /* ASKED, LEAVING, GIVING, and GRANTED while the session does not hold: time matters to them */
    struct lock *due;    /* somebody has to be told */
    uint64_t last_request;
    bool running;        /* run_due is: it sees to what becomes due meanwhile */
    bool submitting;     /* inside pending_submit: nobody is told now */
    locks_watch_cb watch;
    locks_lapse_cb lapse;

    pthread_mutex_t lock;
    /* Under `lock`. */
    struct lock_note *notes; /* in order; owned */
    size_t n_notes, cap_notes;
    bool lapsed;             /* the hook came; before all notes */
    bool missed;             /* notes are missing: all is to be compared with the store */

    /* Any thread. */
    atomic_bool has_mail;
    atomic_bool watched;
};

/* ---- locks.c ---- */

struct lock *lock__find(struct lock_client *c, uint64_t request);
void lock__ask(struct lock *l);                 /* for the first time, or anew: then it is another request */
void lock__grant(struct lock *l, int64_t token); /* the store has granted it; nothing if it is known, or not wanted any more */
void lock__fail(struct lock *l, int err);       /* `done` is due */
void lock__become(struct lock *l, enum lock_state state);
void lock__run_due(struct fs *fs);              /* tells whoever has to be told */

#endif
