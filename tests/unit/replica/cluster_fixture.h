/* Several members in one process, connected over loopback. */
#ifndef TESTS_CLUSTER_FIXTURE_H
#define TESTS_CLUSTER_FIXTURE_H

#include "tests/unit/replica/member_fixture.h"

enum { CLUSTER_MAX = 5 };

struct cluster {
    unsigned n;
    struct member m[CLUSTER_MAX + 1];              /* by id */
    struct store_member list[CLUSTER_MAX];
    char address[CLUSTER_MAX + 1][32];
};

void cluster_make(struct cluster *c, unsigned n);  /* free ports, directories; nobody runs */
void cluster_remove(struct cluster *c);
void cluster_up(struct cluster *c);                /* those that do not run start */
struct replica_status cluster_status(struct cluster *c, uint32_t id);
/* Waits for a leader that the others follow; fails the test after a while. */
uint32_t cluster_leader(struct cluster *c);
/* Waits, 30 s at most. */
#define wait_until(condition) do { int64_t wait_end = wait_begin(); while (!(condition)) wait_turn(wait_end, __FILE__, __LINE__, #condition); } while (0)
int64_t wait_begin(void);
void wait_turn(int64_t end, const char *file, int line, const char *what);

#endif
