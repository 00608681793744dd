/* How long the reading of old events leaves those alone who write. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "fs/feed.h"

#define MS INT64_C(1000000)

static void nobody_writes(void **state)
{
    (void)state;
    assert_int_equal(feed_rest_ns(1 * MS, 512, 0, 5 * MS), 0);
}

static void rests_longer_than_it_works(void **state)
{
    (void)state;
    assert_true(feed_rest_ns(1 * MS, 512, 2, 1 * MS) >= 15 * MS);
    assert_true(feed_rest_ns(100 * MS, 512, 2, 100 * MS) <= 100 * MS); /* and not for seconds */
}

/* Nobody falls behind further, however fast others write: what pages cover in a time is more than what is written in it. */
static void catches_up(void **state)
{
    (void)state;
    for (int64_t per_ms = 1; per_ms <= 100; per_ms *= 10)
        for (int64_t n = 1; n <= 10; n++) {
            int64_t work = MS, since = 20 * MS, covered = 512 / n, rest = feed_rest_ns(work, covered, per_ms * since / MS, since);

            if (covered > 2 * per_ms) /* else the page itself takes too long */
                assert_true((work + rest) / MS * per_ms < covered);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nobody_writes), cmocka_unit_test(rests_longer_than_it_works),
                                       cmocka_unit_test(catches_up)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
