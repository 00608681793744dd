/* Members' connections in one process on one loop, for tests: each member is a `struct peers` and what its hooks heard. */
#ifndef TESTS_PEER_FIXTURE_H
#define TESTS_PEER_FIXTURE_H

#include "replica/peer.h"
#include "tests/unit/replica/member_fixture.h"

enum { NODES_MAX = 3, HEARD_MAX = 256 };

struct heard {
    uint32_t from;
    struct raft_message raft;  /* type 0: not libraft's */
    char *payload;             /* a copy */
    size_t len;
    uint64_t number;           /* of a Ping that was sent as a message */
};

struct node {
    uint32_t id;
    uint64_t incarnation, run;
    char address[64];          /* where it listens */
    struct peers *peers;       /* NULL: it does not run */
    bool guests;               /* they are let in */
    struct heard heard[HEARD_MAX];
    unsigned n_heard, n_raft;
    unsigned up[NODES_MAX + 1], down[NODES_MAX + 1], gone[NODES_MAX + 1]; /* how often, by id */
    enum peer_refusal refused; /* the last */
    unsigned n_refused, n_guest, n_guest_gone;
    uint64_t seen[NODES_MAX + 1], seen_run[NODES_MAX + 1];
};

extern uv_loop_t loop;
extern struct node nodes[NODES_MAX + 1];   /* by id; 0 is not used */
extern bool removed[NODES_MAX + 1];
extern uint8_t cluster[STORE_CLUSTER_ID_SIZE];
extern char log_path[64];

int peers_setup(void **state);             /* a loop, a log, no node */
int peers_teardown(void **state);          /* everything is closed, and nothing is left in the loop */
void node_open(uint32_t id);               /* listens where it did before, or on a new port of 127.0.0.1 */
void node_close(uint32_t id);
void nodes_open(unsigned n);               /* 1 to n, all connected to each other */
/* Runs the loop until `condition` holds; fails the test after 20 s. */
#define run_until(condition) do { run_begin(); while (!(condition)) run_once(__FILE__, __LINE__, #condition); } while (0)
void run_begin(void);
void run_once(const char *file, int line, const char *what);
unsigned log_lines(const char *word);      /* lines in the log that have it */

#endif
