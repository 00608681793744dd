#include "store/base/clock.h"

#include <stddef.h>
#include <time.h>

static const struct clock_source *clock_source;

static int64_t read_ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t clock_realtime_ns(void)
{
    return clock_source ? clock_source->realtime_ns(clock_source->data) : read_ns(CLOCK_REALTIME);
}

int64_t clock_boottime_ns(void)
{
    return clock_source ? clock_source->boottime_ns(clock_source->data) : read_ns(CLOCK_BOOTTIME);
}

void clock_set(const struct clock_source *source)
{
    clock_source = source;
}
