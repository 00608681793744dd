/* Old revisions, events, and forgetting them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/err.h"
#include "tests/unit/store/kit.h"

#define ROOT STORE_ROOT_INO

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static uint64_t put(struct kit *k, const char *name, const char *text)
{
    assert_int_equal(kit_put(k, ROOT, name, text), 0);
    return k->res.ino;
}

static void compact(struct kit *k, int64_t rev)
{
    assert_int_equal(kit_compact(k, rev), 0);
    kit_compact_all(k);
}

struct feed {
    char text[400];
    int stop_after; /* events; 0: never */
    int n;
};

static bool on_event(void *data, const struct store_event *e)
{
    static const char *const names[] = {"?", "put", "delete", "mkdir", "rmdir", "symlink", "rename", "attrib"};
    struct feed *f = data;
    size_t len = strlen(f->text);

    snprintf(f->text + len, sizeof f->text - len, "%s%d %s %.*s%s%.*s", len ? "; " : "", (int)e->rev, names[e->op], (int)e->name.len,
             (const char *)e->name.data, e->op == STORE_EV_RENAME ? " < " : "", (int)e->old_name.len, (const char *)e->old_name.data);
    return ++f->n != f->stop_after;
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */


static void every_revision_can_be_read_as_it_was(void **state)
{
    struct kit *k = *state;
    uint64_t ino = put(k, "f", "0");
    char text[16];
    int64_t first = k->res.rev;

    for (int i = 1; i < 300; i++) {
        snprintf(text, sizeof text, "%d", i);
        put(k, "f", text);
    }
    for (int i = 0; i < 300; i++) {
        snprintf(text, sizeof text, "%d", i);
        kit_assert_content(k, first + i, ino, text);
    }
}

/* The kit's clock goes on by a millisecond a command. */
static void a_time_is_the_newest_revision_of_then(void **state)
{
    struct kit *k = *state;
    int64_t rev, first, last, t;

    put(k, "f", "1");
    first = k->time_ns;
    for (int i = 0; i < 50; i++)
        put(k, "f", "2");
    last = k->res.rev;
    t = k->time_ns;
    k->time_ns += INT64_C(3600000000000);
    assert_int_equal(store_rev_at(k->r, t + 1, &rev), 0); /* nothing after it yet */
    assert_int_equal(rev, last);
    put(k, "f", "3");
    for (int64_t after = 0; after < INT64_C(3600000000000); after += INT64_C(600000000000)) {
        assert_int_equal(store_rev_at(k->r, t + after, &rev), 0);
        assert_int_equal(rev, last); /* also in the middle of the pause */
    }
    assert_int_equal(store_rev_at(k->r, k->time_ns, &rev), 0);
    assert_int_equal(rev, last + 1);
    assert_int_equal(store_rev_at(k->r, first - INT64_C(1000000000000000), &rev), QE_STALE); /* before the tree */
    compact(k, last + 1);
    assert_int_equal(store_rev_at(k->r, t + 1, &rev), QE_STALE);
    assert_int_equal(store_rev_at(k->r, k->time_ns, &rev), 0);
}

static void a_directory_as_of_a_revision_is_the_same_while_it_is_the_newest_and_later(void **state)
{
    struct kit *k = *state;
    struct store_attr now, looked, later;
    uint64_t dir;
    int64_t rev;

    assert_int_equal(kit_mkdir(k, ROOT, "d"), 0);
    dir = k->res.ino;
    assert_int_equal(kit_mkdir(k, dir, "e"), 0);
    rev = k->res.rev;
    assert_int_equal(store_getattr(k->r, rev, dir, &now), 0);
    assert_int_equal(store_lookup(k->r, rev, ROOT, "d", 1, &looked), 0);
    put(k, "f", "1");
    assert_int_equal(store_getattr(k->r, rev, dir, &later), 0);
    assert_int_equal(now.mtime_ns, later.mtime_ns);
    assert_int_equal(looked.mtime_ns, later.mtime_ns);
    assert_int_equal(now.nlink, 1);
    assert_int_equal(looked.nlink, 1);
    assert_int_equal(later.nlink, 1);
    assert_int_equal(store_getattr(k->r, STORE_HEAD, dir, &now), 0);
    assert_int_equal(now.nlink, 3);
}

/* The times of entries go on where nothing changes: with sessions, reservations, compactions. */
static void a_pause_is_the_time_of_its_revision_whatever_else_is_in_the_log(void **state)
{
    struct kit *k = *state;
    int64_t rev, last, t;

    put(k, "f", "1");
    k->time_ns += INT64_C(1000000000);
    put(k, "f", "2"); /* a row of table time */
    put(k, "f", "3"); /* none, a millisecond later */
    last = k->res.rev;
    t = k->time_ns;
    k->time_ns += INT64_C(3600000000000);
    assert_int_equal(kit_compact(k, 2), 0);
    for (int i = 0; i < 2; i++) {
        for (int64_t after = 0; after < INT64_C(3600000000000); after += INT64_C(600000000000)) {
            assert_int_equal(store_rev_at(k->r, t + after, &rev), 0);
            assert_int_equal(rev, last);
        }
        put(k, "f", "4");
    }
}

static void a_clock_that_goes_back_hides_no_revision(void **state)
{
    struct kit *k = *state;
    int64_t rev, last, t;

    k->time_ns += INT64_C(1000000000);
    put(k, "f", "1");
    t = k->time_ns;
    k->time_ns -= INT64_C(500000000);
    put(k, "f", "2"); /* the time of the store stands still */
    last = k->res.rev;
    k->time_ns = t + INT64_C(3600000000000);
    put(k, "f", "3");
    assert_int_equal(store_rev_at(k->r, t + INT64_C(1800000000000), &rev), 0);
    assert_int_equal(rev, last);
}

static void a_deleted_file_is_there_before_and_not_after(void **state)
{
    struct kit *k = *state;
    uint64_t ino = put(k, "f", "v");
    int64_t rev = k->res.rev, last = 0;
    struct store_attr a;

    assert_int_equal(store_last_seen(k->r, ino, &last), QE_NOENT);
    assert_int_equal(kit_unlink(k, ROOT, "f"), 0);
    put(k, "g", "w");
    assert_int_equal(store_last_seen(k->r, ino, &last), 0);
    assert_int_equal(last, rev);
    assert_int_equal(store_last_seen(k->r, ino + 400, &last), QE_NOENT);
    kit_assert_list(k, rev, ROOT, "f");
    kit_assert_list(k, rev + 1, ROOT, "");
    kit_assert_content(k, rev, ino, "v");
    assert_int_equal(store_getattr(k->r, rev + 1, ino, &a), QE_NOENT);
    assert_int_equal(store_getattr(k->r, rev - 1, ino, &a), QE_NOENT);
}

static void a_transaction_of_a_reader_sees_one_revision(void **state)
{
    struct kit *k = *state;
    uint64_t ino = put(k, "f", "old");
    int64_t rev = 0;

    assert_int_equal(store_read_begin(k->r, &rev), 0);
    assert_int_equal(rev, k->res.rev);
    put(k, "f", "new");
    kit_assert_content(k, STORE_HEAD, ino, "old");
    store_read_end(k->r);
    kit_assert_content(k, STORE_HEAD, ino, "new");
}

static void events_tell_every_change_in_order(void **state)
{
    struct kit *k = *state;
    struct feed f = {{0}, 0, 0};
    uint64_t ino = put(k, "f", "v");

    assert_int_equal(kit_mkdir(k, ROOT, "d"), 0);
    assert_int_equal(kit_symlink(k, ROOT, "l", "t"), 0);
    assert_int_equal(kit_chmod(k, ino, 0600), 0);
    assert_int_equal(kit_rename(k, ROOT, "f", ROOT, "l", 0), 0);
    assert_int_equal(kit_rmdir(k, ROOT, "d"), 0);
    assert_int_equal(store_events(k->r, 0, on_event, &f), 0);
    assert_string_equal(f.text, "2 put f; 3 mkdir d; 4 symlink l; 5 attrib f; 6 delete l; 6 rename l < f; 7 rmdir d");
    f = (struct feed){{0}, 0, 0};
    assert_int_equal(store_events(k->r, 6, on_event, &f), 0);
    assert_string_equal(f.text, "7 rmdir d");
    f = (struct feed){{0}, 1, 0};
    assert_int_equal(store_events(k->r, 5, on_event, &f), 0);
    assert_string_equal(f.text, "6 delete l; 6 rename l < f"); /* stops between revisions only */
}

static void compaction_keeps_all_retained_revisions(void **state)
{
    struct kit *k = *state;
    uint64_t f = put(k, "f", "1"), g = put(k, "g", "1"), h;
    int64_t rev;

    put(k, "f", "2");
    assert_int_equal(kit_rename(k, ROOT, "g", ROOT, "h", 0), 0);
    rev = k->res.rev;
    put(k, "f", "3");
    assert_int_equal(kit_unlink(k, ROOT, "h"), 0);
    h = put(k, "h", "new");
    compact(k, rev);
    kit_assert_list(k, rev, ROOT, "f h");
    kit_assert_content(k, rev, f, "2");
    kit_assert_content(k, rev, g, "1");
    kit_assert_content(k, rev + 1, f, "3");
    kit_assert_list(k, rev + 2, ROOT, "f");
    kit_assert_content(k, STORE_HEAD, h, "new");
    assert_true(kit_lookup(k, rev, ROOT, "h") == g);
}

static void compaction_forgets_dead_inodes_and_their_names(void **state)
{
    struct kit *k = *state;
    struct store_summary sum;

    for (int i = 0; i < 20; i++) {
        put(k, "f", "v");
        put(k, "f", "w");
        assert_int_equal(kit_unlink(k, ROOT, "f"), 0);
    }
    compact(k, k->res.rev);
    kit_close(k);
    assert_int_equal(store_check(k->dir, kit_say, NULL, &sum), 0);
    assert_int_equal(sum.versions, 1); /* the root's */
    assert_int_equal(sum.compacted, 61);
    assert_int_equal(kit_open(k), 0);
}

static void compaction_goes_on_after_a_restart(void **state)
{
    struct kit *k = *state;
    bool more = true;
    char name[16];

    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "f%d", i % 7);
        put(k, name, "v");
    }
    assert_int_equal(kit_compact(k, k->res.rev - 5), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(store_maintain(k->s, 0, false, &more), 0);
        assert_true(more);
        kit_check(k);
    }
    kit_compact_all(k);
    assert_int_equal(store_maintain(k->s, 1, false, &more), 0);
    assert_false(more);
}

static void history_bytes_count_what_was_superseded_and_fall_with_compaction(void **state)
{
    struct kit *k = *state;
    int64_t rev;

    put(k, "f", "12345");
    assert_int_equal(kit_glance(k).hist_bytes, 0);
    put(k, "f", "1");
    rev = k->res.rev;
    assert_int_equal(kit_glance(k).hist_bytes, 64 + 1 + 5);
    assert_int_equal(kit_unlink(k, ROOT, "f"), 0);
    assert_int_equal(kit_glance(k).hist_bytes, 64 + 1 + 5 + 64 + 1 + 1 + 64 + 1);
    assert_int_equal(kit_compact(k, rev), 0);
    assert_int_equal(kit_glance(k).hist_bytes, 64 + 1 + 1 + 64 + 1);
    assert_int_equal(kit_compact(k, rev + 1), 0);
    assert_int_equal(kit_glance(k).hist_bytes, 0);
}

static void compaction_takes_no_revision(void **state)
{
    struct kit *k = *state;
    int64_t rev;

    put(k, "f", "v");
    rev = k->res.rev;
    assert_int_equal(kit_compact(k, rev), 0);
    assert_int_equal(k->res.rev, rev);
    assert_int_equal(kit_glance(k).compacted, rev);
}

static int bookmark(struct kit *k, const char *name, uint32_t what, int64_t rev)
{
    struct store_op op = {.kind = STORE_OP_BOOKMARK, .name = kit_str(name), .flags = what, .rev = rev};

    return kit_op(k, &op);
}

static void a_bookmark_belongs_to_who_made_it(void **state)
{
    struct kit *k = *state;
    struct store_bookmark b;
    int64_t rev;

    put(k, "f", "v");
    rev = k->res.rev;
    assert_int_equal(bookmark(k, "slow", STORE_BOOKMARK_MAKE, 0), 0);
    assert_int_equal(k->res.rev, rev); /* takes none */
    assert_int_equal(store_bookmark(k->r, "slow", &b), 0);
    assert_true(b.rev == rev && b.owner == k->uid);
    assert_int_equal(bookmark(k, "slow", STORE_BOOKMARK_MAKE, 0), QE_EXIST);
    assert_int_equal(bookmark(k, "slow", STORE_BOOKMARK_SET, rev - 1), 0);
    assert_int_equal(bookmark(k, "slow", STORE_BOOKMARK_SET, rev + 1), QE_RANGE);
    assert_int_equal(bookmark(k, "none", STORE_BOOKMARK_SET, rev), QE_NOENT);
    assert_int_equal(bookmark(k, ".x", STORE_BOOKMARK_MAKE, 0), QE_INVAL);
    assert_int_equal(bookmark(k, "a b", STORE_BOOKMARK_MAKE, 0), QE_INVAL);
    assert_int_equal(bookmark(k, "", STORE_BOOKMARK_MAKE, 0), QE_INVAL);
    k->uid++;
    assert_int_equal(bookmark(k, "slow", STORE_BOOKMARK_SET, rev), QE_PERM);
    assert_int_equal(bookmark(k, "slow", STORE_BOOKMARK_REMOVE, 0), QE_PERM);
    kit_check(k);
    k->uid = 0;
    assert_int_equal(bookmark(k, "slow", STORE_BOOKMARK_SET, rev), 0);
    assert_int_equal(kit_compact(k, rev), 0);
    assert_int_equal(bookmark(k, "slow", STORE_BOOKMARK_SET, rev - 1), QE_STALE);
    assert_int_equal(bookmark(k, "slow", STORE_BOOKMARK_REMOVE, 0), 0);
    assert_int_equal(store_bookmark(k->r, "slow", &b), QE_NOENT);
    for (int i = 0; i < STORE_BOOKMARKS_MAX; i++) {
        char name[16];

        snprintf(name, sizeof name, "b%d", i);
        assert_int_equal(bookmark(k, name, STORE_BOOKMARK_MAKE, 0), 0);
    }
    assert_int_equal(bookmark(k, "more", STORE_BOOKMARK_MAKE, 0), QE_NOSPC);
}

static void one_users_bookmarks_leave_room_for_others(void **state)
{
    static const struct { uint32_t uid; int n; } users[] = {{5, STORE_BOOKMARKS_MAX / 2}, {6, STORE_BOOKMARKS_MAX / 4}, {0, STORE_BOOKMARKS_MAX / 4}};
    struct kit *k = *state;
    char name[16];

    for (size_t u = 0; u < sizeof users / sizeof *users; u++) {
        k->uid = users[u].uid;
        for (int i = 0; i < users[u].n; i++) {
            snprintf(name, sizeof name, "b%zu.%d", u, i);
            assert_int_equal(bookmark(k, name, STORE_BOOKMARK_MAKE, 0), 0);
        }
        assert_int_equal(bookmark(k, "more", STORE_BOOKMARK_MAKE, 0), QE_NOSPC);
    }
}

static void a_bookmark_holds_compaction_back_up_to_twice_what_is_retained(void **state)
{
    struct kit *k = *state;
    int64_t passed;

    assert_int_equal(kit_set(k, "retain", "revisions:160"), 0);
    while (kit_glance(k).rev < 6)
        put(k, "f", "v");
    assert_int_equal(bookmark(k, "slow", STORE_BOOKMARK_MAKE, 0), 0);
    assert_int_equal(bookmark(k, "slow", STORE_BOOKMARK_SET, 5), 0);
    while (kit_glance(k).rev < 171)
        put(k, "f", "v");
    assert_int_equal(store_compact_wanted(k->s, k->time_ns, &passed), 5); /* not 11 */
    assert_int_equal(passed, 0);
    assert_int_equal(kit_compact(k, 5), 0);
    assert_int_equal(store_compact_wanted(k->s, k->time_ns, NULL), 0);
    while (kit_glance(k).rev < 5 + 340)
        put(k, "f", "v");
    assert_int_equal(store_compact_wanted(k->s, k->time_ns, NULL), 0);
    put(k, "f", "v");
    assert_int_equal(store_compact_wanted(k->s, k->time_ns, &passed), 5 + 341 - 320); /* enough */
    assert_int_equal(passed, 1);
    assert_int_equal(kit_compact(k, 26), 0);
    assert_int_equal(store_compact_wanted(k->s, k->time_ns, NULL), 346 - 160); /* it does not count any more, */
    assert_int_equal(bookmark(k, "slow", STORE_BOOKMARK_SET, 30), 0);
    assert_int_equal(store_compact_wanted(k->s, k->time_ns, NULL), 30); /* until it is among what is retained */
    assert_int_equal(bookmark(k, "slow", STORE_BOOKMARK_REMOVE, 0), 0);
    assert_int_equal(store_compact_wanted(k->s, k->time_ns, NULL), 346 - 160);
}

static void retain_by_revisions_has_slack(void **state)
{
    struct kit *k = *state;

    assert_int_equal(kit_set(k, "retain", "revisions:160"), 0);
    while (kit_glance(k).rev < 170)
        put(k, "f", "v");
    assert_int_equal(store_compact_wanted(k->s, k->time_ns, NULL), 0);
    put(k, "f", "v");
    assert_int_equal(store_compact_wanted(k->s, k->time_ns, NULL), 171 - 160);
    assert_int_equal(kit_compact(k, 11), 0);
    assert_int_equal(store_compact_wanted(k->s, k->time_ns, NULL), 0);
    put(k, "f", "v");
    assert_int_equal(store_compact_wanted(k->s, k->time_ns, NULL), 0); /* not again at each revision */
}

static void retain_by_bytes_finds_the_revision(void **state)
{
    struct kit *k = *state;
    int64_t wanted;

    assert_int_equal(kit_set(k, "retain", "revisions:100000,bytes:6500"), 0);
    for (int i = 0; i < 200 && kit_glance(k).hist_bytes <= 6500 + 6500 / 16; i++)
        put(k, "f", "0123456789012345678901234567890123456789012345678901234567890123456"); /* 132 bytes a version */
    wanted = store_compact_wanted(k->s, k->time_ns, NULL);
    assert_true(wanted > 1);
    assert_int_equal(kit_compact(k, wanted), 0);
    assert_true(kit_glance(k).hist_bytes <= 6500);
    assert_true(kit_glance(k).hist_bytes > 6500 - 132);
    assert_int_equal(store_compact_wanted(k->s, k->time_ns, NULL), 0);
}

static void retain_by_time_finds_the_revision(void **state)
{
    struct kit *k = *state;
    int64_t start, wanted;

    assert_int_equal(kit_set(k, "retain", "time:16s"), 0);
    start = k->time_ns;
    for (int i = 0; i < 100; i++) {
        k->time_ns += 999000000; /* the kit adds a millisecond */
        put(k, "f", "v");
    }
    assert_int_equal(store_compact_wanted(k->s, start + INT64_C(16000000000), NULL), 0);
    wanted = store_compact_wanted(k->s, start + INT64_C(60000000000), NULL);
    assert_int_equal(wanted, 2 + 44); /* what was the newest 16 s before */
    assert_int_equal(kit_compact(k, wanted), 0);
    kit_compact_all(k);
    assert_int_equal(store_compact_wanted(k->s, start + INT64_C(60500000000), NULL), 0);
    assert_int_equal(store_compact_wanted(k->s, start + INT64_C(62000000000), NULL), 2 + 46);
}

/* A disk fills up, whatever `retain` says: half of what there is of old versions goes, and what comes next takes its place in the file. */
static void half_of_the_history_makes_room(void **state)
{
    struct kit *k = *state;
    char *big = calloc(1, 100000);
    int64_t first, rev, passed, room, done;

    assert_non_null(big);
    for (int i = 0; i < 41; i++)
        assert_int_equal(kit_put_bytes(k, ROOT, "f", big, 100000), 0);
    first = k->res.rev - 40;
    assert_int_equal(store_compact_wanted(k->s, 0, NULL), 0);
    rev = store_compact_half(k->s, &passed);
    assert_true(rev == first + 20 && passed == 0);
    assert_int_equal(bookmark(k, "b", STORE_BOOKMARK_MAKE, 0), 0);
    assert_int_equal(bookmark(k, "b", STORE_BOOKMARK_SET, first + 10), 0);
    assert_true(store_compact_half(k->s, &passed) == first + 10 && passed == 0);
    kit_compact_all(k);
    room = store_reusable_bytes(k->s);
    assert_int_equal(kit_compact(k, first + 10), 0);
    assert_int_equal(store_compact_half(k->s, &passed), 0); /* the rows first */
    kit_compact_all(k);
    assert_true(store_reusable_bytes(k->s) >= room + 10 * 100000);
    room = store_reusable_bytes(k->s);
    rev = store_compact_half(k->s, &passed);
    assert_true(rev == first + 25 && passed == 1);
    for (done = 0; done < 5; done++)
        assert_int_equal(kit_put_bytes(k, ROOT, "f", big, 100000), 0);
    assert_true(store_reusable_bytes(k->s) <= room - 5 * 24 * 4096);
    for (done = 0; (rev = store_compact_half(k->s, &passed)) > 0; done++) {
        assert_true(done < 10);
        assert_int_equal(kit_compact(k, rev), 0);
        kit_compact_all(k);
    }
    assert_true(done > 0 && kit_glance(k).hist_bytes > 0 && kit_glance(k).hist_bytes < STORE_COMPACT_HALF_MIN);
    free(big);
}

static void replaying_the_same_entries_gives_the_same_hash(void **state)
{
    struct kit *k = *state;
    uint64_t one, two;
    int64_t rev;

    put(k, "f", "1");
    assert_int_equal(store_hash(k->r, &rev, &one), 0);
    assert_int_equal(rev, k->res.rev);
    put(k, "f", "2");
    assert_int_equal(store_hash(k->r, &rev, &two), 0);
    assert_true(one != two);
    compact(k, 2);
    kit_compact_all(k);
    assert_int_equal(store_hash(k->r, &rev, &one), 0);
    kit_compact_all(k);
    kit_reopen(k);
    assert_int_equal(store_hash(k->r, &rev, &two), 0);
    assert_true(one == two); /* deleting rows is not part of the state */
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */


static void compacted_revisions_are_stale_and_future_ones_out_of_range(void **state)
{
    struct kit *k = *state;
    uint64_t ino = put(k, "f", "1");
    struct store_attr a;
    struct buf b = {0};
    struct store_writer w;

    put(k, "f", "2");
    put(k, "f", "3");
    assert_int_equal(kit_compact(k, 3), 0);
    for (int physical = 0; physical < 2; physical++) {
        assert_int_equal(store_lookup(k->r, 2, ROOT, "f", 1, &a), QE_STALE);
        assert_int_equal(store_getattr(k->r, 2, ino, &a), QE_STALE);
        assert_int_equal(store_content(k->r, 2, ino, &b, NULL), QE_STALE);
        assert_int_equal(store_list(k->r, 2, ROOT, NULL, 0, NULL, NULL), QE_STALE);
        assert_int_equal(store_listxattr(k->r, 2, ino, &b), QE_STALE);
        assert_int_equal(store_writer(k->r, 2, ino, &w), QE_STALE);
        assert_int_equal(store_events(k->r, 2, on_event, NULL), QE_STALE);
        assert_int_equal(store_getattr(k->r, -1, ino, &a), QE_STALE);
        assert_int_equal(store_getattr(k->r, 5, ino, &a), QE_RANGE);
        assert_int_equal(store_events(k->r, 5, on_event, NULL), QE_RANGE);
        kit_assert_content(k, 3, ino, "2");
        kit_compact_all(k);
    }
    assert_int_equal(b.len, 0);
    buf_fini(&b);
}

static void compaction_goes_neither_back_nor_into_the_future(void **state)
{
    struct kit *k = *state;

    put(k, "f", "1");
    put(k, "f", "2");
    assert_int_equal(kit_compact(k, 4), QE_RANGE);
    assert_int_equal(kit_compact(k, 0), QE_STALE);
    assert_int_equal(kit_compact(k, 3), 0);
    assert_int_equal(kit_compact(k, 3), QE_STALE);
    assert_int_equal(kit_compact(k, 2), QE_STALE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(every_revision_can_be_read_as_it_was),
        KIT_TEST(a_time_is_the_newest_revision_of_then),
        KIT_TEST(a_directory_as_of_a_revision_is_the_same_while_it_is_the_newest_and_later),
        KIT_TEST(a_pause_is_the_time_of_its_revision_whatever_else_is_in_the_log),
        KIT_TEST(a_clock_that_goes_back_hides_no_revision),
        KIT_TEST(a_deleted_file_is_there_before_and_not_after),
        KIT_TEST(a_transaction_of_a_reader_sees_one_revision),
        KIT_TEST(events_tell_every_change_in_order),
        KIT_TEST(compaction_keeps_all_retained_revisions),
        KIT_TEST(compaction_forgets_dead_inodes_and_their_names),
        KIT_TEST(compaction_goes_on_after_a_restart),
        KIT_TEST(history_bytes_count_what_was_superseded_and_fall_with_compaction),
        KIT_TEST(compaction_takes_no_revision),
        KIT_TEST(a_bookmark_belongs_to_who_made_it),
        KIT_TEST(one_users_bookmarks_leave_room_for_others),
        KIT_TEST(a_bookmark_holds_compaction_back_up_to_twice_what_is_retained),
        KIT_TEST(retain_by_revisions_has_slack),
        KIT_TEST(retain_by_bytes_finds_the_revision),
        KIT_TEST(retain_by_time_finds_the_revision),
        KIT_TEST(half_of_the_history_makes_room),
        KIT_TEST(replaying_the_same_entries_gives_the_same_hash),
        KIT_TEST(compacted_revisions_are_stale_and_future_ones_out_of_range),
        KIT_TEST(compaction_goes_neither_back_nor_into_the_future),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
