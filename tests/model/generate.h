/* Random commands that hit each other: few names, few directories, some of everything that can go wrong. */
#ifndef QFS_TESTS_MODEL_GENERATE_H
#define QFS_TESTS_MODEL_GENERATE_H

#include "tests/model/model.h"

enum { GEN_OPS = 4, GEN_EDITS = 3, GEN_CONDITIONS = 3, GEN_DATA = 1 << 17 };

struct generator_body { /* what a command points to */
    struct generator_body *next; /* of those that live on: parts of staged transactions */
    struct store_command cmd;    /* of such a part */
    struct store_op ops[GEN_OPS];
    struct store_edit edits[GEN_OPS][GEN_EDITS];
    struct store_xattr xattr;
    struct store_condition conditions[GEN_CONDITIONS];
    char text[GEN_OPS][3][32];
    char path[GEN_CONDITIONS][64];
};

struct generator {
    uint64_t rng;
    int64_t time_ns;
    uint64_t next_n, end_n;        /* reserved inode numbers not used yet */
    uint32_t member[3];            /* whose commands these are; another one when that was removed */
    uint64_t sessions[3];          /* in use; 0: to be made */
    uint64_t last_seq[3];          /* sent in them */
    uint64_t acked[3];
    uint64_t nonce;                /* of the newest SESSION */
    uint64_t repeated_session;     /* of a command sent before */
    int count;                     /* commands so far */

    struct store_command cmd;      /* the newest; points to what follows */
    struct generator_body one, *body, *parts; /* of the newest command; where to put the next; those that live on */
    uint64_t stage_id[3];          /* transactions being staged; 0: none */
    int staged[3], to_stage[3];    /* parts sent, parts in all */
    uint64_t next_stage;
    struct buf encoded;            /* the newest part */
    const struct store_command *part; /* the same, not encoded; NULL: the newest command is no part */
    uint8_t data[GEN_DATA];
};

void generate_init(struct generator *g, uint64_t seed, int64_t time_ns);
uint64_t generate_random(struct generator *g, uint64_t below);
/* The next command, valid until the next call; `m` tells what there is to act on. */
const struct store_command *generate(struct generator *g, struct model *m);
/* The result of a command about sessions and numbers. */
void generate_learn(struct generator *g, const struct store_command *cmd, const struct store_result *r);

#endif
