/* Several members in one process, connected over loopback. */
#ifndef TESTS_CLUSTER_FIXTURE_H
#define TESTS_CLUSTER_FIXTURE_H

#include <sys/types.h>

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
/* Member `id`, made before, in a process of its own with failpoints (NULL: none): the same program again, whose main hands its arguments to
 * cluster_serves. It ends when it is killed, or with CLUSTER_SERVE_*. */
enum { CLUSTER_SERVE_STOPPED = 5, CLUSTER_SERVE_NO_START = 6, CLUSTER_SERVE_ODD = 7 /* stopped: its state is not the majority's */ };
pid_t cluster_serve(struct cluster *c, uint32_t id, const char *failpoints);
void cluster_serves(int argc, char **argv);        /* returns if this process is not one of them */
struct replica_status cluster_status(struct cluster *c, uint32_t id);
/* Waits for a leader that the others follow; fails the test after a while. */
uint32_t cluster_leader(struct cluster *c);
bool cluster_has(struct cluster *c, uint32_t id, const char *name, const char *content);
/* As member `at` sees it; NULL: whatever it is. */
bool cluster_is(struct cluster *c, uint32_t at, uint32_t id, const char *role, const char *state);
/* Asked of member `at`; waits for the answer. */
int cluster_change(struct cluster *c, uint32_t at, enum replica_change_kind kind, uint32_t id, enum store_member_role role);
/* Waits, a minute at most: longer than any request. */
#define wait_until(condition) do { int64_t wait_end = wait_begin(); while (!(condition)) wait_turn(wait_end, __FILE__, __LINE__, #condition); } while (0)
int64_t wait_begin(void);
void wait_turn(int64_t end, const char *file, int line, const char *what);

#endif
