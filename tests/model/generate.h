/* Random commands that hit each other: few names, few directories, some of everything that can go wrong. */
#ifndef QFS_TESTS_MODEL_GENERATE_H
#define QFS_TESTS_MODEL_GENERATE_H

#include "tests/model/model.h"

enum { GEN_OPS = 4, GEN_EDITS = 3, GEN_DATA = 1 << 17 };

struct generator {
    uint64_t rng;
    int64_t time_ns;
    uint64_t next_n, end_n;        /* reserved inode numbers not used yet */
    uint64_t sessions[3];          /* in use; 0: to be made */
    uint64_t last_seq[3];          /* sent in them */
    uint64_t acked[3];
    uint64_t nonce;                /* of the newest SESSION */
    uint64_t repeated_session;     /* of a command sent before */
    int count;                     /* commands so far */

    struct store_command cmd;      /* the newest; points to what follows */
    struct store_op ops[GEN_OPS];
    struct store_edit edits[GEN_OPS][GEN_EDITS];
    struct store_xattr xattr;
    char text[GEN_OPS][3][32];
    uint8_t data[GEN_DATA];
};

void generate_init(struct generator *g, uint64_t seed, int64_t time_ns);
uint64_t generate_random(struct generator *g, uint64_t below);
/* The next command, valid until the next call; `m` tells what there is to act on. */
const struct store_command *generate(struct generator *g, struct model *m);
/* The result of a command about sessions and numbers. */
void generate_learn(struct generator *g, const struct store_command *cmd, const struct store_result *r);

#endif
