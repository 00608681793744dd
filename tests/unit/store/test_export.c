/* Copies of the whole database while it is written. They are looked at with SQLite alone, as their users do. */
#include <fcntl.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/base/err.h"
#include "tests/unit/store/kit.h"

#define ROOT STORE_ROOT_INO

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static int copy_to(struct kit *k, const struct store_export *x, char path[80])
{
    int fd, err;

    snprintf(path, 80, "%s/copy.db", k->dir);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    err = store_export_copy(k->s, x, fd, NULL, NULL);
    close(fd);
    return err;
}

static int on_value(void *data, int n, char **values, char **names)
{
    char *out = data;

    (void)n, (void)names;
    snprintf(out + strlen(out), 400 - strlen(out), "%s%s", *out ? " " : "", values[0] ? values[0] : "null");
    return 0;
}

/* The first column of all rows. */
static void assert_sql(const char *path, const char *sql, const char *expected)
{
    char got[400] = "", *why = NULL;
    sqlite3 *db;

    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    if (sqlite3_exec(db, sql, on_value, got, &why))
        fail_msg("%s: %s", sql, why);
    sqlite3_close(db);
    assert_string_equal(got, expected);
}

static void assert_rev(const char *path, int64_t rev)
{
    char text[24];

    snprintf(text, sizeof text, "%lld", (long long)rev);
    assert_sql(path, "SELECT rev FROM meta", text);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void a_copy_is_one_revision_while_writers_go_on(void **state)
{
    struct kit *k = *state;
    struct store_export x;
    char path[80], big[9000];
    int64_t rev;
    bool more;

    memset(big, 'x', sizeof big);
    for (int i = 0; i < 200; i++)
        assert_int_equal(kit_put_bytes(k, ROOT, "f", big, sizeof big), 0);
    rev = k->res.rev;
    assert_int_equal(store_export_begin(k->s, &x), 0);
    assert_true(x.rev == rev);
    assert_true(x.position.applied == k->index);
    for (int i = 0; i < 3000; i++) /* upkeep would make a checkpoint at 2000 frames */
        assert_int_equal(kit_put(k, ROOT, "f", "new"), 0);
    assert_int_equal(store_maintain(k->s, 100, true, &more), 0);
    assert_int_equal(copy_to(k, &x, path), 0);
    store_export_end(k->s, &x);
    assert_sql(path, "PRAGMA journal_mode", "delete");
    assert_sql(path, "PRAGMA integrity_check", "ok");
    assert_rev(path, rev);
    assert_sql(path, "SELECT length(content) FROM files WHERE path = '/f'", "9000");
    assert_int_equal(store_maintain(k->s, 100, true, &more), 0);
    assert_int_equal(store_export_begin(k->s, &x), 0);
    assert_int_equal(copy_to(k, &x, path), 0);
    store_export_end(k->s, &x);
    assert_rev(path, rev + 3000);
}

static void its_views_show_tree_and_history(void **state)
{
    struct kit *k = *state;
    struct store_export x;
    char path[80];
    uint64_t dir;

    assert_int_equal(kit_mkdir(k, ROOT, "d"), 0);
    dir = k->res.ino;
    assert_int_equal(kit_put(k, dir, "f", "1"), 0);
    assert_int_equal(kit_put(k, dir, "f", "two"), 0);
    assert_int_equal(kit_symlink(k, ROOT, "l", "d/f"), 0);
    assert_int_equal(kit_rename(k, dir, "f", ROOT, "g", 0), 0);
    assert_int_equal(kit_unlink(k, ROOT, "l"), 0);
    assert_int_equal(kit_put(k, ROOT, "e", ""), 0);
    assert_int_equal(store_export_begin(k->s, &x), 0);
    assert_int_equal(copy_to(k, &x, path), 0);
    store_export_end(k->s, &x);
    assert_sql(path, "SELECT path || ':' || type FROM files ORDER BY path", "/:directory /d:directory /e:file /g:file");
    assert_sql(path, "SELECT CAST(content AS TEXT) || version FROM files WHERE path = '/g'", "two2");
    assert_sql(path, "SELECT typeof(content) || length(content) FROM files WHERE path = '/e'", "blob0");
    assert_sql(path, "SELECT event || ':' || name FROM history WHERE revision > 1", "mkdir:d put:f put:f symlink:l rename:g delete:l put:e");
    assert_sql(path, "SELECT old_name FROM history WHERE event = 'rename'", "f");
    assert_sql(path, "SELECT DISTINCT writer_command FROM history WHERE event = 'put'", "test");
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static void a_reader_of_old_frames_puts_it_off(void **state)
{
    struct kit *k = *state;
    struct store_export x;

    assert_int_equal(kit_put(k, ROOT, "f", "1"), 0);
    assert_int_equal(store_read_begin(k->r, NULL), 0);
    assert_int_equal(kit_put(k, ROOT, "f", "2"), 0);
    assert_int_equal(store_export_begin(k->s, &x), QE_AGAIN);
    store_read_end(k->r);
    assert_int_equal(store_export_begin(k->s, &x), 0);
    store_export_end(k->s, &x);
}

static void several_copies_share_a_revision_or_wait(void **state)
{
    struct kit *k = *state;
    struct store_export x[STORE_EXPORTS_MAX + 1];

    assert_int_equal(kit_put(k, ROOT, "f", "1"), 0);
    for (int i = 0; i < STORE_EXPORTS_MAX; i++)
        assert_int_equal(store_export_begin(k->s, &x[i]), 0);
    assert_int_equal(store_export_begin(k->s, &x[STORE_EXPORTS_MAX]), QE_BUSY);
    store_export_end(k->s, &x[0]);
    assert_int_equal(kit_put(k, ROOT, "f", "2"), 0);
    assert_int_equal(store_export_begin(k->s, &x[0]), QE_AGAIN); /* the file is kept as it was */
    for (int i = 1; i < STORE_EXPORTS_MAX; i++)
        store_export_end(k->s, &x[i]);
    assert_int_equal(store_export_begin(k->s, &x[0]), 0);
    store_export_end(k->s, &x[0]);
}

static void writers_are_not_held_up_by_a_copy_for_ever(void **state)
{
    struct kit *k = *state;
    struct store_export x;
    char path[80];
    bool more;

    kit_close(k);
    k->wal_limit_bytes = 64 << 10;
    assert_int_equal(kit_open(k), 0);
    assert_int_equal(kit_put(k, ROOT, "f", "1"), 0);
    assert_int_equal(store_export_begin(k->s, &x), 0);
    for (int i = 0; !store_wal_full(k->s); i++) {
        assert_true(i < 1000);
        assert_int_equal(kit_put(k, ROOT, "f", "2"), 0);
    }
    assert_int_equal(store_maintain(k->s, 100, false, &more), 0);
    assert_false(store_wal_full(k->s));
    assert_int_equal(copy_to(k, &x, path), QE_AGAIN);
    store_export_end(k->s, &x);
    assert_int_equal(store_export_begin(k->s, &x), 0); /* and all is as before */
    assert_int_equal(copy_to(k, &x, path), 0);
    store_export_end(k->s, &x);
}

static bool never(void *data)
{
    (void)data;
    return false;
}

static void a_copy_can_be_given_up_and_says_when_the_disk_is_full(void **state)
{
    struct kit *k = *state;
    struct store_export x;
    int full = open("/dev/full", O_WRONLY);

    assert_int_equal(store_export_begin(k->s, &x), 0);
    assert_int_equal(store_export_copy(k->s, &x, full, never, NULL), QE_SHUTDOWN);
    assert_int_equal(store_export_copy(k->s, &x, full, NULL, NULL), QE_DISKFULL);
    store_export_end(k->s, &x);
    close(full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(a_copy_is_one_revision_while_writers_go_on),
        KIT_TEST(its_views_show_tree_and_history),
        KIT_TEST(a_reader_of_old_frames_puts_it_off),
        KIT_TEST(several_copies_share_a_revision_or_wait),
        KIT_TEST(writers_are_not_held_up_by_a_copy_for_ever),
        KIT_TEST(a_copy_can_be_given_up_and_says_when_the_disk_is_full),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
