/* How long the reading of old events leaves those alone who write; what a read has when memory is short; who sees what. */
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

/* ---- Who sees what ------------------------------------------------------------------------------------------------------------------ */

bool __real_perm_allows(const struct perm *p, uint32_t mode, uint32_t uid, uint32_t gid, unsigned want);
bool __wrap_perm_allows(const struct perm *p, uint32_t mode, uint32_t uid, uint32_t gid, unsigned want);

static size_t asked;

bool __wrap_perm_allows(const struct perm *p, uint32_t mode, uint32_t uid, uint32_t gid, unsigned want)
{
    asked++;
    return __real_perm_allows(p, mode, uid, gid, want);
}

enum { N = 1000 }; /* directories, and events, one in each */
struct tree {
    struct feed_dir dirs[N];
    struct feed_event events[N];
    size_t path[N], len[N];
    struct feed_block b;
};

static uint32_t root_of_tree(uint32_t k)
{
    (void)k;
    return 0;
}
static uint32_t last_one(uint32_t k)
{
    return k - 1;
}
static uint32_t any_one(uint32_t k)
{
    return (uint32_t)rand() % k;
}

static struct tree *new_tree(uint32_t (*up)(uint32_t k), const uint32_t *modes, size_t n_modes, uint64_t id)
{
    struct tree *t = calloc(1, sizeof *t);

    assert_non_null(t);
    t->b = (struct feed_block){.id = id, .events = t->events, .n_events = N, .dirs = t->dirs, .n_dirs = N};
    t->dirs[0].mode = 0755;
    for (uint32_t k = 0; k < N; k++) { /* the event is of a name in it */
        struct feed_dir *d = &t->dirs[k];
        char name[2] = {(char)('a' + rand() % 3), 0};

        if (k > 0) {
            uint32_t above = up(k);

            *d = (struct feed_dir){.up = above, .mode = modes[(size_t)rand() % n_modes], .uid = (uint32_t)rand() % 2, .name_len = 1};
            t->path[k] = t->b.text.len;
            t->len[k] = t->len[above] + (above > 0) + 1;
            assert_int_equal(buf_resize(&t->b.text, t->b.text.len + t->len[k]), 0);
            memmove(t->b.text.data + t->path[k], t->b.text.data + t->path[above], t->len[above]);
            if (above > 0)
                t->b.text.data[t->path[k] + t->len[above]] = '/';
            d->name = t->b.text.len - 1;
            t->b.text.data[d->name] = (uint8_t)name[0];
        }
        t->events[k] = (struct feed_event){.op = STORE_EV_PUT, .kind = STORE_FILE};
        t->events[k].now = (struct feed_place){.dir = k, .path = t->b.text.len, .len = t->len[k] + (k > 0) + 1, .name_len = 1};
        assert_int_equal(buf_resize(&t->b.text, t->b.text.len + t->events[k].now.len), 0);
        memmove(t->b.text.data + t->events[k].now.path, t->b.text.data + t->path[k], t->len[k]);
        if (k > 0)
            t->b.text.data[t->events[k].now.path + t->len[k]] = '/';
        t->b.text.data[t->b.text.len - 1] = 'x';
    }
    return t;
}

static void free_tree(struct tree *t)
{
    buf_fini(&t->b.text);
    free(t);
}

static void sees_the_same_with_what_it_knows(void **state)
{
    static const uint32_t modes[] = {0755, 0755, 0755, 0711, 0700, 0300};
    uint32_t (*const shapes[])(uint32_t) = {root_of_tree, last_one, any_one};
    struct feed_sight sight = {0};
    size_t seen = 0, hidden = 0;

    (void)state;
    for (uint64_t round = 1; round <= 30; round++) {
        struct tree *t = new_tree(shapes[round % 3], modes, sizeof modes / sizeof *modes, round);

        for (size_t at = 0; at < N; at += 97) { /* streams of all kinds of paths */
            struct feed_filter f = {.path = (char *)t->b.text.data + t->path[at], .len = t->len[at], .who = {.uid = 1}};

            feed_sight_clear(&sight);
            for (size_t n = 0; n < N; n++) {
                size_t i = (size_t)rand() % N;
                enum feed_seen sees = feed_sees(&f, &t->b, i, NULL);

                assert_int_equal(feed_sees(&f, &t->b, i, &sight), sees);
                seen += sees != FEED_HIDDEN;
                hidden += sees == FEED_HIDDEN;
            }
        }
        free_tree(t);
    }
    assert_true(seen > 0 && hidden > 0);
    feed_sight_clear(&sight);
}

static void asks_for_each_directory_once(void **state)
{
    static const uint32_t mode = 0755;
    struct tree *t = new_tree(last_one, &mode, 1, 1);
    struct feed_filter f = {.path = "", .who = {.uid = 1}};
    struct feed_sight sight = {0};

    (void)state;
    asked = 0;
    for (size_t i = N; i-- > 0;)
        assert_int_equal(feed_sees(&f, &t->b, i, &sight), FEED_NEW);
    assert_true(asked <= 3 * N); /* and not N * N / 2 */
    feed_sight_clear(&sight);
    free_tree(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nobody_writes), cmocka_unit_test(rests_longer_than_it_works),
                                       cmocka_unit_test(catches_up), cmocka_unit_test(loses_no_line),
                                       cmocka_unit_test(sees_the_same_with_what_it_knows), cmocka_unit_test(asks_for_each_directory_once)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
