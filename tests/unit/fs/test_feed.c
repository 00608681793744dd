/* How long the reading of old events leaves those alone who write; what a read has when memory is short. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- Memory ----------------------------------------------------------------------------------------------------------------------- */

int __wrap_replica_reader(struct replica *r, struct store_reader **out);
void __wrap_replica_glance(struct replica *r, struct store_glance *out);
int __real_feed_line(const struct feed_block *b, size_t i, enum feed_seen seen, struct buf *out);
int __wrap_feed_line(const struct feed_block *b, size_t i, enum feed_seen seen, struct buf *out);

static size_t no_memory_for; /* an event; SIZE_MAX: none */

int __wrap_replica_reader(struct replica *r, struct store_reader **out)
{
    (void)r, (void)out;
    return QE_NOMEM; /* the thread has nothing to do */
}

void __wrap_replica_glance(struct replica *r, struct store_glance *out)
{
    (void)r;
    *out = (struct store_glance){.rev = 1};
}

int __wrap_feed_line(const struct feed_block *b, size_t i, enum feed_seen seen, struct buf *out)
{
    int err = __real_feed_line(b, i, seen, out);

    return err ? err : i == no_memory_for ? QE_NOMEM : 0; /* with half a line, for all that anybody knows */
}

static void on_ready(struct feed_stream *s)
{
    (void)s;
}

static struct feed_stream *new_stream(void)
{
    struct feed_stream *s = calloc(1, sizeof *s);

    assert_non_null(s);
    s->filter.path = strdup("");
    assert_non_null(s->filter.path);
    s->ready = on_ready;
    return s;
}

static void loses_no_line(void **state)
{
    struct feed_event events[3];
    struct feed_dir root = {0};
    struct feed_block b = {.refs = 2, .last = 4, .events = events, .n_events = 3, .dirs = &root, .n_dirs = 1};
    struct fs fs = {0};
    struct feed_stream *other = new_stream(), *s = new_stream();
    struct buf out = {0};

    (void)state;
    assert_int_equal(buf_append(&b.text, "f", 1), 0);
    for (size_t i = 0; i < 3; i++)
        events[i] = (struct feed_event){.rev = 2 + (int64_t)i, .op = STORE_EV_PUT, .kind = STORE_FILE, .now = {.len = 1, .name_len = 1}};
    assert_int_equal(feed_open(&fs, other, -1), 0);
    assert_int_equal(feed_open(&fs, s, -1), 0);
    feed_end(&fs); /* the thread, which fails what waits */
    s->state = FEED_READING;
    s->block = &b;

    no_memory_for = 2;
    assert_int_equal(feed_read(&fs, s, 4096, &out), 0);
    assert_string_equal(buf_cstr(&out), "2\tput\tf\n3\tput\tf\n");
    buf_clear(&out);
    assert_int_equal(feed_read(&fs, s, 4096, &out), QE_NOMEM);
    assert_int_equal(out.len, 0);
    no_memory_for = SIZE_MAX;
    s->block->last = 0; /* what follows is the thread's, who is gone */
    assert_int_equal(feed_read(&fs, s, 8, &out), 0);
    assert_string_equal(buf_cstr(&out), "4\tput\tf\n");

    buf_fini(&out);
    feed_close(&fs, s);
    feed_close(&fs, other);
    feed_free(&fs);
    buf_fini(&b.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nobody_writes), cmocka_unit_test(rests_longer_than_it_works),
                                       cmocka_unit_test(catches_up), cmocka_unit_test(loses_no_line)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
