/* A member in a directory of its own, for tests, and the few commands that tests say most. */
#ifndef TESTS_MEMBER_FIXTURE_H
#define TESTS_MEMBER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "replica/replica.h"

struct member {
    char dir[256];       /* DIR; its parent is removed at the end */
    char parent[200];
    struct replica *r;   /* NULL: not running */
    int timeout_ms;      /* of requests */
    uint32_t id;         /* 0: a cluster of one */
    const struct store_member *members; /* of its cluster, this one among them */
    size_t n_members;
    const char *const (*settings)[2]; /* of its cluster, at its beginning */
    size_t n_settings;
    const char *listen;  /* NULL: no network */
    _Atomic int lapses;  /* how often the lapsed hook ran */
    void (*leases_gone)(void *data, const uint64_t *ids, size_t n); /* hook; NULL: none. `data` is this member */
    _Atomic int fatals;  /* how often the fatal hook ran */
    char fatal[256];     /* what it said first; it is there when that is not 0 */
};

/* Fixture. member_make gives a directory that does not exist yet. */
void member_make(struct member *m);
void member_remove(struct member *m);

int member_init(struct member *m, struct buf *why);          /* replica_init */
int member_start(struct member *m, struct buf *why);         /* replica_start */
void member_up(struct member *m);                            /* init if needed, start; fails the test with the sentence */
void member_down(struct member *m);                          /* stop */

/* Commands that wait for their answer. */
int member_do(struct member *m, const struct store_op *op, int64_t *rev, uint64_t *ino);
int member_put(struct member *m, const char *name, const char *content);   /* create or overwrite /name */
int member_get(struct member *m, const char *name, struct buf *content);   /* QE_NOENT: no such file */

/* Runs `body` in a child process with QUORUMFS_FAILPOINTS (NULL: none); returns its wait status. Failpoints are read once a
 * process, and a member must not be forked, so that is how tests have both. The child ends with _exit(body's return). */
int member_child(const char *failpoints, int (*body)(void *arg), void *arg);

/* In a child: it has mounts of its own from here on, but for those of quorumfs. A copy of them would keep alive what tests beside this one
 * unmount, and wait to see end. 0, or -1 with errno: it takes root. */
int member_own_mounts(void);

/* Flips one bit of the byte at `off` (negative: from the end). */
void flip_byte(const char *path, long off);
/* True when a sentence says something: not empty, names `word`. */
void assert_says(struct buf *why, const char *word);

#endif
