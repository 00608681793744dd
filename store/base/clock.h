/* The two clocks of a member, behind a pointer so that tests own them (decision: wall clocks decide nothing about safety).
 * Any thread may read; clock_set is for tests, before threads start. */
#ifndef QFS_BASE_CLOCK_H
#define QFS_BASE_CLOCK_H

#include <stdint.h>

struct clock_source {
    int64_t (*realtime_ns)(void *data); /* wall clock, ns since 1970, for stamps */
    int64_t (*boottime_ns)(void *data); /* runs while the machine sleeps; for timeouts, sessions and leases */
    void *data;
};

int64_t clock_realtime_ns(void);
int64_t clock_boottime_ns(void);
void clock_set(const struct clock_source *source); /* NULL: the system's; the struct must outlive its use */

#endif
