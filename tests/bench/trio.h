/* trio: three members in this process, connected over loopback, without a mount. What fails ends the process. */
#ifndef QFS_TESTS_BENCH_TRIO_H
#define QFS_TESTS_BENCH_TRIO_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "replica/replica.h"

enum { TRIO_MEMBERS = 3 };

struct trio {
    struct replica *r[TRIO_MEMBERS]; /* of member 1 to 3 */
    struct replica *leader, *follower;
    void (*leases_gone)(void *data, const uint64_t *ids, size_t n); /* before the start; NULL or a hook of all members */
};

_Noreturn void trio_die(const char *what, const char *why);
void trio_start(struct trio *t, const char *dir); /* DIR must not exist; it is left behind */
void trio_stop(struct trio *t);

/* One request, whose caller waits. */
struct trio_answer {
    pthread_mutex_t lock;
    pthread_cond_t come;
    struct replica_request req;
    int done; /* under lock; so is what follows */
    int err;
    uint64_t ino;
};
void trio_ask(struct trio_answer *a);       /* before `req` is given away */
uint64_t trio_wait(struct trio_answer *a);  /* the inode number of the result, or the lease */
uint64_t trio_do(struct replica *r, const struct store_op *op);

void trio_put(struct replica *r, uint64_t dir, const char *name, size_t bytes, uint64_t lease); /* lease 0: none */
uint64_t trio_grant(struct replica *r, const char *name, int64_t ttl_ns);

int trio_by_value(const void *a, const void *b); /* for qsort of int64_t */

#endif
