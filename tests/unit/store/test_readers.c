/* Readers beside the writer: each transaction sees one revision, nobody waits for anybody, and the WAL stays bounded. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "store/base/err.h"
#include "tests/unit/store/kit.h"

#define ROOT STORE_ROOT_INO
enum { READERS = 2, COMMANDS = 4000 };

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

struct watcher {
    struct store *s;
    uint64_t a, b;          /* files that always have the same content */
    atomic_bool *stop;
    int64_t reads;          /* done */
    const char *wrong;      /* what was, in the end */
};

static const char *look(struct store_reader *r, const struct watcher *w, int64_t *last)
{
    struct buf a = {0}, b = {0};
    struct store_attr attr;
    const char *wrong = NULL;
    int64_t rev;

    if (store_read_begin(r, &rev))
        return "begin failed";
    if (store_content(r, STORE_HEAD, w->a, &a, &attr) || store_content(r, STORE_HEAD, w->b, &b, NULL))
        wrong = "content failed";
    else if (a.len != b.len || memcmp(a.data, b.data, a.len))
        wrong = "the halves of a revision were seen apart";
    else if (rev < *last || attr.mod_rev > rev)
        wrong = "a revision went back";
    *last = rev;
    store_read_end(r);
    buf_fini(&a);
    buf_fini(&b);
    return wrong;
}

static void *watch(void *data)
{
    struct watcher *w = data;
    struct store_reader *r;
    struct store_glance g;
    int64_t last = 0;

    if (store_reader_open(w->s, &r)) {
        w->wrong = "open failed";
        return NULL;
    }
    while (!w->wrong && !atomic_load(w->stop)) {
        w->wrong = look(r, w, &last);
        store_glance(w->s, &g);
        if (!w->wrong && g.rev < last - 1) /* the glance is published right after COMMIT */
            w->wrong = "the glance is behind";
        w->reads++;
    }
    store_reader_close(r);
    return NULL;
}

static void write_both(struct kit *k, uint64_t a, uint64_t b, int i)
{
    char text[32];
    struct store_edit edits[2] = {{STORE_EDIT_TRUNCATE, 0, {0}}, {STORE_EDIT_WRITE, 0, {text, (size_t)snprintf(text, sizeof text, "%d", i)}}};
    struct store_op ops[] = {{.kind = STORE_OP_COMMIT, .ino = a, .edits = edits, .n_edits = 2}, {.kind = STORE_OP_COMMIT, .ino = b, .edits = edits, .n_edits = 2}};
    bool more;

    assert_int_equal(kit_ops(k, ops, 2), 0);
    k->acked = k->seq;
    assert_int_equal(store_maintain(k->s, 2, false, &more), 0);
    if (i % 500 == 499)
        assert_int_equal(kit_compact(k, k->res.rev - 100), 0);
}

static bool look_inside(void *data, const void *name, size_t len, uint64_t ino)
{
    struct kit *k = data;
    struct store_attr attr;

    (void)name, (void)len;
    assert_int_equal(store_getattr(k->r, STORE_HEAD, ino, &attr), 0);
    assert_true(attr.ino == ino);
    return true;
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void readers_see_whole_revisions_beside_a_writer(void **state)
{
    struct kit *k = *state;
    struct watcher w[READERS];
    pthread_t threads[READERS];
    atomic_bool stop = false;
    uint64_t a, b;
    struct stat st;
    char wal[128];

    assert_int_equal(kit_put(k, ROOT, "a", "0"), 0);
    a = k->res.ino;
    assert_int_equal(kit_put(k, ROOT, "b", "0"), 0);
    b = k->res.ino;
    for (int i = 0; i < READERS; i++) {
        w[i] = (struct watcher){k->s, a, b, &stop, 0, NULL};
        assert_int_equal(pthread_create(&threads[i], NULL, watch, &w[i]), 0);
    }
    for (int i = 1; i <= COMMANDS; i++)
        write_both(k, a, b, i);
    atomic_store(&stop, true);
    for (int i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        if (w[i].wrong)
            fail_msg("%s", w[i].wrong);
        assert_true(w[i].reads > 10);
    }
    snprintf(wal, sizeof wal, "%s/state-1.db-wal", k->dir);
    assert_int_equal(stat(wal, &st), 0);
    assert_true(st.st_size < 32 << 20);
}

static void a_list_may_look_at_what_it_lists(void **state)
{
    struct kit *k = *state;

    assert_int_equal(kit_put(k, ROOT, "a", "0"), 0);
    assert_int_equal(kit_put(k, ROOT, "b", "0"), 0);
    assert_int_equal(store_list(k->r, STORE_HEAD, ROOT, NULL, 0, look_inside, k), 0);
    assert_int_equal(kit_put(k, ROOT, "c", "0"), 0);
    assert_true(kit_lookup(k, STORE_HEAD, ROOT, "c") != 0); /* the transaction of the list is over */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(readers_see_whole_revisions_beside_a_writer),
        KIT_TEST(a_list_may_look_at_what_it_lists),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
