/* A new cluster from a copy of an old one's database; and files that are no such copy. */
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

static void copy_out(struct kit *k, char path[80])
{
    struct store_export x;
    int fd;

    snprintf(path, 80, "%s/copy.db", k->dir);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(store_export_begin(k->s, &x), 0);
    assert_int_equal(store_export_copy(k->s, &x, fd, NULL, NULL), 0);
    store_export_end(k->s, &x);
    close(fd);
}

static void sql(const char *path, const char *text)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* A store made from the file, in a directory of its own: opened, with a session, if that went well. */
static int restored(struct kit *n, const char *path, const char *(*settings)[2], size_t n_settings, struct buf *why)
{
    struct store_member self = {.id = 1, .address = "", .role = STORE_MEMBER_VOTER};
    struct store_initial initial = {.epoch = 77, .settings = (const char *const(*)[2])settings, .n_settings = n_settings, .members = &self,
                                    .n_members = 1, .from = path};
    int err;

    *n = (struct kit){.time_ns = INT64_C(1800000000000000000)};
    kit_make_dir(n);
    memcpy(initial.cluster_id, kit_cluster_id, sizeof initial.cluster_id);
    err = store_create(n->dir, &initial, why);
    if (err)
        return err;
    assert_int_equal(kit_open(n), 0);
    return 0;
}

static void assert_refused(const char *path, int expected, const char *word)
{
    struct buf why = {0};
    struct kit n;
    int err = restored(&n, path, NULL, 0, &why);

    if (err != expected || !strstr(buf_cstr(&why), word))
        fail_msg("%d \"%s\", expected %d and \"%s\"", err, buf_cstr(&why), expected, word);
    assert_int_equal(kit_open(&n), QE_NOCLUSTER);
    buf_fini(&why);
    kit_fini(&n);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void tree_history_and_settings_are_those_of_the_copy(void **state)
{
    static const char *given[][2] = {{"max-value", "2M"}};
    struct kit *k = *state, n;
    struct buf why = {0}, value = {0};
    int64_t rev;
    uint64_t dir;
    char path[80];

    assert_int_equal(kit_mkdir(k, ROOT, "d"), 0);
    dir = k->res.ino;
    assert_int_equal(kit_put(k, dir, "f", "1"), 0);
    assert_int_equal(kit_put(k, dir, "f", "2"), 0);
    assert_int_equal(kit_set(k, "quota", "3G"), 0);
    rev = k->res.rev;
    copy_out(k, path);
    assert_int_equal(restored(&n, path, given, 1, &why), 0);
    kit_check(&n);
    kit_assert_content(&n, STORE_HEAD, kit_lookup(&n, STORE_HEAD, kit_lookup(&n, STORE_HEAD, ROOT, "d"), "f"), "2");
    kit_assert_content(&n, rev - 2, kit_lookup(&n, rev - 2, dir, "f"), "1");
    assert_int_equal(store_setting(n.r, "quota", &value), 0);
    assert_string_equal(buf_cstr(&value), "3G");
    buf_clear(&value);
    assert_int_equal(store_setting(n.r, "max-value", &value), 0);
    assert_string_equal(buf_cstr(&value), "2M");
    assert_true(kit_glance(&n).rev == rev); /* and goes on above it */
    kit_start(&n);
    assert_int_equal(kit_put(&n, ROOT, "new", "v"), 0);
    assert_true(n.res.rev == rev + 1);
    assert_true(kit_lookup(&n, STORE_HEAD, ROOT, "new") != 0);
    kit_check(&n);
    buf_fini(&value);
    buf_fini(&why);
    kit_fini(&n);
}

static void nothing_of_the_old_life_is_left(void **state)
{
    struct kit *k = *state, n;
    struct store_position pos;
    struct buf why = {0};
    char path[80];

    assert_int_equal(kit_put(k, ROOT, "f", "1"), 0);
    copy_out(k, path);
    assert_int_equal(restored(&n, path, NULL, 0, &why), 0);
    store_position(n.s, &pos);
    assert_true(pos.applied == 0 && pos.term == 0 && pos.epoch == 77);
    n.session = k->session; /* the old session is unknown */
    n.seq = k->seq;
    n.next_n = n.end_n = 0;
    {
        struct store_op op = {.kind = STORE_OP_MKDIR, .parent = ROOT, .name = B("d"), .new_ino = 4 * 4096 * 9 + STORE_DIR, .mode = 0755};

        assert_int_equal(kit_op(&n, &op), QE_STALE);
    }
    buf_fini(&why);
    kit_fini(&n);
}

static void attach(struct kit *k, uint64_t ino, uint64_t lease)
{
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_SETATTR, .ino = ino, .valid = STORE_ATTR_LEASE, .lease = lease}), 0);
}

static void files_of_a_lease_go_in_the_first_revision(void **state)
{
    struct kit *k = *state, n;
    struct buf why = {0};
    char path[80];
    uint64_t lease;
    int64_t rev;

    assert_int_equal(kit_mkdir(k, ROOT, "d"), 0);
    assert_int_equal(kit_put(k, k->res.ino, "a", "1"), 0);
    assert_int_equal(kit_put(k, ROOT, "b", "2"), 0);
    assert_int_equal(kit_put(k, ROOT, "c", "3"), 0);
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .name = B("l"), .rev = INT64_C(60000000000)}), 0);
    lease = k->res.ino;
    attach(k, kit_lookup(k, STORE_HEAD, kit_lookup(k, STORE_HEAD, ROOT, "d"), "a"), lease);
    attach(k, kit_lookup(k, STORE_HEAD, ROOT, "b"), lease);
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_LOCK, .flags = STORE_LOCK_NAMED, .name = B("n"), .owner = 1, .request = 1}), 0);
    rev = k->res.rev;
    copy_out(k, path);
    assert_int_equal(restored(&n, path, NULL, 0, &why), 0);
    kit_check(&n);
    assert_true(kit_glance(&n).rev == rev + 1);
    kit_assert_list(&n, STORE_HEAD, ROOT, "c d");
    kit_assert_list(&n, STORE_HEAD, kit_lookup(&n, STORE_HEAD, ROOT, "d"), "");
    kit_assert_list(&n, rev, ROOT, "b c d");
    assert_true(kit_glance(&n).n_leases == 0 && kit_glance(&n).n_locks == 0);
    buf_fini(&why);
    kit_fini(&n);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static void other_files_are_refused(void **state)
{
    struct kit *k = *state;
    char path[80], other[80];
    FILE *f;

    copy_out(k, path);
    snprintf(other, sizeof other, "%s/none.db", k->dir);
    assert_refused(other, QE_NOENT, "none.db");
    f = fopen(other, "w");
    fputs("not a database at all", f);
    fclose(f);
    assert_refused(other, QE_FORMAT, "not a snapshot");
    assert_int_equal(truncate(other, 0), 0);
    assert_refused(other, QE_FORMAT, "not a snapshot");
    unlink(other);
    sql(other, "CREATE TABLE t(x)");
    assert_refused(other, QE_FORMAT, "not a snapshot");
    assert_int_equal(truncate(path, 20000), 0);
    assert_refused(path, QE_CORRUPT, "truncated");
    copy_out(k, path);
    sql(path, "CREATE TRIGGER t AFTER INSERT ON session BEGIN SELECT 1; END");
    assert_refused(path, QE_FORMAT, "tables");
    copy_out(k, path);
    sql(path, "UPDATE meta SET format = 999");
    assert_refused(path, QE_FORMAT, "999");
    copy_out(k, path);
    sql(path, "DROP TABLE bookmark");
    assert_refused(path, QE_FORMAT, "tables");
}

static void damage_is_found(void **state)
{
    static const char *const damages[] = {"UPDATE node SET mode = 0777 WHERE name = x'66'", "DELETE FROM ver WHERE op = 1",
                                          "UPDATE ver SET value = x'00' WHERE op = 1", "UPDATE meta SET rev = rev + 1, live_bytes = 5",
                                          "DELETE FROM setting WHERE name = 'quota'"};
    struct kit *k = *state;
    char path[80];

    assert_int_equal(kit_put(k, ROOT, "f", "1"), 0);
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        copy_out(k, path);
        sql(path, damages[i]);
        assert_refused(path, QE_CORRUPT, "damaged");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(tree_history_and_settings_are_those_of_the_copy),
        KIT_TEST(nothing_of_the_old_life_is_left),
        KIT_TEST(files_of_a_lease_go_in_the_first_revision),
        KIT_TEST(other_files_are_refused),
        KIT_TEST(damage_is_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
