/* What the files of locks share: all locks of one thing in memory, and the rules by which they are handed over.
 *
 * A command loads the one thing that it is about (each of a session's, when that ends), changes rows in memory, and writes back what has
 * changed. Nothing of it outlives the command, so there is nothing to undo besides the tables; but where there is a crowd, the rows as they were written
 * are kept for the next command, and forgotten with a batch that fails. */
#ifndef QFS_STORE_LOCK_H
#define QFS_STORE_LOCK_H

#include "store/internal.h"

struct lock_row { /* the columns of table lock */
    int64_t id;                       /* 0: not in the table yet */
    uint64_t session, owner, request;
    bool exclusive;
    int64_t first, last;              /* all of it for classes without ranges */
    int64_t token;                    /* 0: it waits */
    uint32_t member, uid;
    int32_t pid;
    char comm[16];
    uint64_t vhash;
    bool changed, gone;               /* against the table */
    size_t next_held;                 /* see lock_thing */
    size_t blocker;                   /* lock_hand_over: the place of one that was in its way; SIZE_MAX: none is known */
    bool was_held;                    /* what the table says, */
    uint64_t was;                     /* and the hash of its row; 0: there is none */
};

struct lock_thing {
    enum store_lock_class class;
    uint64_t ino;            /* 0: a named lock */
    struct store_bytes name; /* borrowed */
    struct lock_row *rows;   /* owned; in order of arrival; those that are gone stay until lock_thing_save */
    size_t n, cap;
    size_t first_held;       /* a chain of those that are held, by their place in `rows`; SIZE_MAX ends it */
    bool chained;            /* it is right */
    bool moved;              /* who holds it is not who held it */
};

/* `th` has class, ino and name. Due in every case: lock_thing_fini. */
int lock_thing_load(struct conn *c, struct lock_thing *th);
int lock_thing_take(struct store *s, struct lock_thing *th); /* the same, for a command */
int lock_thing_add(struct lock_thing *th, const struct lock_row *r); /* as the last one */
int lock_thing_save(struct store *s, struct lock_thing *th); /* rows, hash, counters; tells watchers; `th` is empty then */
void lock_thing_fini(struct lock_thing *th);

bool lock_conflicts(const struct lock_row *a, const struct lock_row *b); /* they exclude each other */
bool lock_same_owner(const struct lock_row *a, const struct lock_row *b);
/* Must row `i`, which waits, go on waiting? */
bool lock_blocked(struct lock_thing *th, size_t i);
/* Row `i` is held from now on, in the place of what its owner has there. */
int lock_grant(struct txn *t, struct lock_thing *th, size_t i);
/* The owner of `of` gives back what it holds of `of`'s bytes. */
int lock_carve(struct lock_thing *th, const struct lock_row *of);
void lock_drop(struct lock_thing *th, struct lock_row *r); /* it is gone */
/* Everybody who waits and need not any more gets it. */
int lock_hand_over(struct store *s, struct txn *t, struct lock_thing *th);
int lock_tell(struct store *s, const struct lock_thing *th, const struct lock_row *r, enum store_lock_event_kind kind);

/* Would row `i`, the newest, which waits, close a circle of owners that wait for each other? (lock_deadlock.c) */
int lock_deadlock(struct store *s, const struct lock_thing *th, size_t i, bool *yes);

uint64_t hash_lock(const struct lock_thing *th, const struct lock_row *r); /* hash.c */
int lock_row_read(sqlite3_stmt *q, struct lock_row *out);
void lock_describe(const struct lock_thing *th, const struct lock_row *r, struct store_lock *out);

#endif
