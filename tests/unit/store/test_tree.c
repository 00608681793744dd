/* Names: what can be made, moved and removed, and what the tree looks like afterwards. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "store/base/err.h"
#include "tests/unit/store/kit.h"

/* ---- Fixture ------------------------------------------------------------------------------------------------------------- */

#define ROOT STORE_ROOT_INO

static int setup(void **state)
{
    static struct kit kit;

    memset(&kit, 0, sizeof kit);
    kit_init(&kit);
    *state = &kit;
    return 0;
}

/* Whatever a test did, the tables must be sound after it. */
static int teardown(void **state)
{
    kit_check(*state);
    kit_fini(*state);
    return 0;
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static uint64_t mkdir_in(struct kit *k, uint64_t parent, const char *name)
{
    assert_int_equal(kit_mkdir(k, parent, name), 0);
    return k->res.ino;
}

static uint64_t file_in(struct kit *k, uint64_t parent, const char *name)
{
    assert_int_equal(kit_put(k, parent, name, name), 0);
    return k->res.ino;
}

static uint32_t nlink_of(struct kit *k, uint64_t ino)
{
    struct store_attr a;

    kit_attr(k, ino, &a);
    return a.nlink;
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void a_new_store_is_a_root_directory_at_revision_1(void **state)
{
    struct kit *k = *state;
    struct store_attr a;

    kit_attr(k, ROOT, &a);
    assert_int_equal(a.mode, S_IFDIR | 0755);
    assert_int_equal(a.uid, 11);
    assert_int_equal(a.gid, 12);
    assert_int_equal(a.nlink, 2);
    assert_int_equal(a.create_rev, 1);
    assert_int_equal(kit_glance(k).rev, 1);
    assert_int_equal(kit_glance(k).live_bytes, 0);
    kit_assert_list(k, STORE_HEAD, ROOT, "");
}

static void put_makes_a_file_and_then_its_next_version(void **state)
{
    struct kit *k = *state;
    struct store_attr a;
    uint64_t ino;

    assert_int_equal(kit_put(k, ROOT, "f", "one"), 0);
    ino = k->res.ino;
    assert_int_equal(k->res.rev, 2);
    assert_int_equal(kit_put(k, ROOT, "f", "three"), 0);
    assert_true(k->res.ino == ino);
    kit_assert_content(k, STORE_HEAD, ino, "three");
    kit_assert_content(k, 2, ino, "one");
    kit_attr(k, ino, &a);
    assert_int_equal(a.version, 2);
    assert_int_equal(a.create_rev, 2);
    assert_int_equal(a.mod_rev, 3);
    assert_int_equal(a.mode, S_IFREG | 0644);
    assert_int_equal(a.uid, 1000);
    assert_int_equal(kit_glance(k).live_bytes, 64 + 1 + 5);
    assert_int_equal(kit_glance(k).n_files, 1);
}

static void a_recreated_name_is_a_new_inode_at_version_1(void **state)
{
    struct kit *k = *state;
    uint64_t old = file_in(k, ROOT, "f"), new;
    struct store_attr a;

    assert_int_equal(kit_unlink(k, ROOT, "f"), 0);
    assert_true(kit_lookup(k, STORE_HEAD, ROOT, "f") == 0);
    new = file_in(k, ROOT, "f");
    assert_true(old != new);
    kit_attr(k, new, &a);
    assert_int_equal(a.version, 1);
    assert_int_equal(a.create_rev, k->res.rev);
    assert_int_equal(store_getattr(k->r, STORE_HEAD, old, &a), QE_NOENT);
}

static void subdirectories_count_in_nlink(void **state)
{
    struct kit *k = *state;
    uint64_t a = mkdir_in(k, ROOT, "a"), b = mkdir_in(k, ROOT, "b");

    mkdir_in(k, a, "sub");
    file_in(k, a, "file");
    assert_int_equal(nlink_of(k, ROOT), 4);
    assert_int_equal(nlink_of(k, a), 3);
    assert_int_equal(kit_rename(k, a, "sub", b, "sub", 0), 0);
    assert_int_equal(nlink_of(k, a), 2);
    assert_int_equal(nlink_of(k, b), 3);
    assert_int_equal(kit_rmdir(k, b, "sub"), 0);
    assert_int_equal(nlink_of(k, b), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_new_store_is_a_root_directory_at_revision_1, setup, teardown),
        cmocka_unit_test_setup_teardown(put_makes_a_file_and_then_its_next_version, setup, teardown),
        cmocka_unit_test_setup_teardown(a_recreated_name_is_a_new_inode_at_version_1, setup, teardown),
        cmocka_unit_test_setup_teardown(subdirectories_count_in_nlink, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
