/* Two stores that get the same entries: the first at once, now and then after a batch that failed, the second in other portions. */
#ifndef QFS_TESTS_MODEL_PAIR_H
#define QFS_TESTS_MODEL_PAIR_H

#include "tests/unit/store/kit.h"

enum { PAIR_LOG = 64, PAIR_TERM_ENTRIES = 500 /* of each term */ };

struct pair {
    struct kit a, b;
    struct buf log[PAIR_LOG];  /* entries that b lacks */
    uint64_t logged[PAIR_LOG]; /* their indexes */
    int n_log;
    uint64_t index, rng, seed;
    int64_t time_ns;
    struct store_result res;   /* of the newest command */
    int n_granted, n_lost;     /* events of it */
};

#define PAIR_FAIL(p, ...) \
    do { \
        fprintf(stderr, "model: seed %" PRIu64 ", entry %" PRIu64 ": ", (p)->seed, (p)->index); \
        fprintf(stderr, __VA_ARGS__); \
        fprintf(stderr, " (%s:%d)\n", __FILE__, __LINE__); \
        exit(1); \
    } while (0)

void pair_init(struct pair *p, uint64_t seed);
void pair_fini(struct pair *p); /* both are the same, and sound */
uint64_t pair_random(struct pair *p, uint64_t below);
uint64_t pair_term(const struct pair *p); /* of the next entry */
/* One command in an entry of its own: its error. */
int pair_apply(struct pair *p, const struct store_command *cmd);

#endif
