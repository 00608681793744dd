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

static void rename_replaces_a_file_and_keeps_the_moved_inode(void **state)
{
    struct kit *k = *state;
    uint64_t a = file_in(k, ROOT, "a"), b = file_in(k, ROOT, "b");
    struct store_attr attr;

    assert_int_equal(kit_rename(k, ROOT, "a", ROOT, "b", 0), 0);
    assert_true(kit_lookup(k, STORE_HEAD, ROOT, "b") == a);
    assert_true(kit_lookup(k, STORE_HEAD, ROOT, "a") == 0);
    assert_int_equal(store_getattr(k->r, STORE_HEAD, b, &attr), QE_NOENT);
    assert_int_equal(kit_glance(k).n_files, 1);
    assert_int_equal(k->n_changes, 2);
    assert_int_equal(k->changes[0].op, STORE_EV_DELETE);
    assert_int_equal(k->changes[1].op, STORE_EV_RENAME);
    assert_string_equal(k->names[1][0], "b");
    assert_string_equal(k->names[1][1], "a");
}

static void a_change_says_what_a_put_has_made(void **state)
{
    struct kit *k = *state;

    file_in(k, ROOT, "f");
    assert_int_equal(k->changes[0].made, STORE_MADE_FILE);
    assert_int_equal(kit_put(k, ROOT, "f", "again"), 0);
    assert_int_equal(k->changes[0].made, STORE_MADE_NOTHING);
    assert_int_equal(kit_create_excl(k, ROOT, "g"), 0);
    assert_int_equal(k->changes[0].made, STORE_MADE_NAME);
    assert_int_equal(kit_put(k, ROOT, "g", "first"), 0);
    assert_int_equal(k->changes[0].made, STORE_MADE_NOTHING);
    mkdir_in(k, ROOT, "d");
    assert_int_equal(k->changes[0].made, STORE_MADE_NOTHING);
}

static void rename_exchange_swaps_a_file_and_a_directory(void **state)
{
    struct kit *k = *state;
    uint64_t d = mkdir_in(k, ROOT, "d"), e = mkdir_in(k, ROOT, "e"), f = file_in(k, d, "f");

    assert_int_equal(kit_rename(k, d, "f", ROOT, "e", STORE_RENAME_EXCHANGE), 0);
    assert_true(kit_lookup(k, STORE_HEAD, d, "f") == e);
    assert_true(kit_lookup(k, STORE_HEAD, ROOT, "e") == f);
    assert_int_equal(nlink_of(k, ROOT), 3);
    assert_int_equal(nlink_of(k, d), 3);
    kit_assert_list(k, k->res.rev - 1, ROOT, "d e");
    assert_true(kit_lookup(k, k->res.rev - 1, d, "f") == f);
    assert_int_equal(kit_rename(k, ROOT, "e", ROOT, "d", STORE_RENAME_EXCHANGE), 0);
    assert_int_equal(nlink_of(k, ROOT), 3);
}

static void a_directory_moves_whole_in_one_revision(void **state)
{
    struct kit *k = *state;
    uint64_t d = mkdir_in(k, ROOT, "new"), f = file_in(k, d, "f");
    int64_t before = k->res.rev;
    struct buf path = {0};

    assert_int_equal(kit_rename(k, ROOT, "new", ROOT, "conf", 0), 0);
    assert_int_equal(k->res.rev, before + 1);
    assert_int_equal(store_path(k->r, f, &path), 0);
    assert_string_equal(buf_cstr(&path), "/conf/f");
    buf_fini(&path);
    kit_assert_list(k, before, ROOT, "new");
    kit_assert_list(k, before + 1, ROOT, "conf");
}

static void an_inode_knows_its_directory_and_name(void **state)
{
    struct kit *k = *state;
    uint64_t d = mkdir_in(k, ROOT, "d"), f = file_in(k, d, "f"), parent = 0;
    struct buf name = {0};

    assert_int_equal(store_name(k->r, f, &parent, &name), 0);
    assert_true(parent == d);
    assert_int_equal(store_name(k->r, d, &parent, &name), 0);
    assert_true(parent == ROOT);
    assert_string_equal(buf_cstr(&name), "fd");
    assert_int_equal(store_name(k->r, ROOT, &parent, &name), QE_NOENT);
    assert_int_equal(kit_unlink(k, d, "f"), 0);
    assert_int_equal(store_name(k->r, f, &parent, &name), QE_NOENT);
    assert_string_equal(buf_cstr(&name), "fd");
    buf_fini(&name);
}

static void a_name_onto_itself_changes_nothing(void **state)
{
    struct kit *k = *state;
    uint64_t f = file_in(k, ROOT, "f");
    int64_t rev = k->res.rev;

    assert_int_equal(kit_rename(k, ROOT, "f", ROOT, "f", 0), 0);
    assert_int_equal(k->res.rev, rev);
    assert_true(k->res.ino == f);
    assert_int_equal(kit_rename(k, ROOT, "f", ROOT, "f", STORE_RENAME_NOREPLACE), QE_EXIST);
}

static void entries_set_the_times_of_their_directory(void **state)
{
    struct kit *k = *state;
    uint64_t d = mkdir_in(k, ROOT, "d");
    struct store_attr before, after;

    kit_attr(k, d, &before);
    file_in(k, d, "f");
    kit_attr(k, d, &after);
    assert_true(after.mtime_ns > before.mtime_ns);
    assert_true(after.ctime_ns == after.mtime_ns);
    assert_true(after.mod_rev == before.mod_rev); /* but it is no version of the directory */
    kit_put(k, d, "f", "again");
    kit_attr(k, d, &before);
    assert_true(after.mtime_ns == before.mtime_ns);
}

static void names_may_have_any_bytes_but_slash_and_nul(void **state)
{
    struct kit *k = *state;
    char longest[256];

    memset(longest, 'x', 255);
    longest[255] = 0;
    assert_int_equal(kit_put(k, ROOT, "\xff\x01\n", "v"), 0);
    assert_int_equal(kit_put(k, ROOT, longest, "v"), 0);
    assert_int_equal(kit_put(k, ROOT, "...", "v"), 0);
    assert_int_equal(kit_mkdir(k, ROOT, "d"), 0);
    assert_int_equal(kit_put(k, k->res.ino, ".quorum", "v"), 0); /* reserved in the root only */
    assert_true(kit_lookup(k, STORE_HEAD, ROOT, longest) != 0);
}

static void a_list_goes_on_after_a_name(void **state)
{
    struct kit *k = *state;

    file_in(k, ROOT, "a");
    file_in(k, ROOT, "b");
    file_in(k, ROOT, "c");
    kit_assert_list(k, STORE_HEAD, ROOT, "a b c");
    kit_assert_list_after(k, k->res.rev - 1, ROOT, "a", "b");
    kit_assert_list_after(k, STORE_HEAD, ROOT, "a", "b c");
    kit_assert_list_after(k, STORE_HEAD, ROOT, "c", "");
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static void bad_names_are_refused(void **state)
{
    struct kit *k = *state;
    char longer[257];

    memset(longer, 'x', 256);
    longer[256] = 0;
    assert_int_equal(kit_put(k, ROOT, longer, "v"), QE_NAMETOOLONG);
    assert_int_equal(kit_put(k, ROOT, "", "v"), QE_INVAL);
    assert_int_equal(kit_put(k, ROOT, "a/b", "v"), QE_INVAL);
    assert_int_equal(kit_mkdir(k, ROOT, "."), QE_INVAL);
    assert_int_equal(kit_mkdir(k, ROOT, ".."), QE_INVAL);
    assert_int_equal(kit_mkdir(k, ROOT, ".quorum"), QE_PERM);
    assert_int_equal(kit_unlink(k, ROOT, ".quorum"), QE_PERM);
    file_in(k, ROOT, "f");
    assert_int_equal(kit_rename(k, ROOT, "f", ROOT, ".quorum", 0), QE_PERM);
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_UNLINK, .parent = ROOT, .name = {"f\0g", 3}}), QE_INVAL);
    kit_assert_list(k, STORE_HEAD, ROOT, "f");
}

static void taken_names_are_refused_to_exclusive_makers(void **state)
{
    struct kit *k = *state;

    file_in(k, ROOT, "f");
    mkdir_in(k, ROOT, "d");
    assert_int_equal(kit_create_excl(k, ROOT, "f"), QE_EXIST);
    assert_int_equal(kit_create_excl(k, ROOT, "d"), QE_EXIST);
    assert_int_equal(kit_mkdir(k, ROOT, "f"), QE_EXIST);
    assert_int_equal(kit_symlink(k, ROOT, "d", "t"), QE_EXIST);
    assert_int_equal(kit_rename(k, ROOT, "f", ROOT, "d", STORE_RENAME_NOREPLACE), QE_EXIST);
}

static void kinds_must_fit(void **state)
{
    struct kit *k = *state;
    uint64_t f = file_in(k, ROOT, "f"), d = mkdir_in(k, ROOT, "d");

    assert_int_equal(kit_symlink(k, ROOT, "l", "f"), 0);
    assert_int_equal(kit_unlink(k, ROOT, "d"), QE_ISDIR);
    assert_int_equal(kit_rmdir(k, ROOT, "f"), QE_NOTDIR);
    assert_int_equal(kit_rmdir(k, ROOT, "l"), QE_NOTDIR);
    assert_int_equal(kit_put(k, ROOT, "d", "v"), QE_ISDIR);
    assert_int_equal(kit_put(k, ROOT, "l", "v"), QE_LOOP);
    assert_int_equal(kit_add(k, d, "v"), QE_ISDIR);
    assert_int_equal(kit_put(k, f, "x", "v"), QE_NOTDIR);
    assert_int_equal(kit_mkdir(k, f, "x"), QE_NOTDIR);
    assert_int_equal(kit_unlink(k, f, "x"), QE_NOTDIR);
    assert_int_equal(kit_rename(k, ROOT, "f", f, "x", 0), QE_NOTDIR);
    assert_int_equal(kit_rename(k, ROOT, "f", ROOT, "d", 0), QE_ISDIR);
    assert_int_equal(kit_rename(k, ROOT, "d", ROOT, "f", 0), QE_NOTDIR);
    assert_int_equal(store_list(k->r, STORE_HEAD, f, NULL, 0, NULL, NULL), QE_NOTDIR);
    assert_int_equal(store_content(k->r, STORE_HEAD, d, &(struct buf){0}, NULL), QE_ISDIR);
}

static void a_directory_with_entries_stays(void **state)
{
    struct kit *k = *state;
    uint64_t d = mkdir_in(k, ROOT, "d"), e = mkdir_in(k, ROOT, "e");

    file_in(k, d, "f");
    assert_int_equal(kit_rmdir(k, ROOT, "d"), QE_NOTEMPTY);
    assert_int_equal(kit_rename(k, ROOT, "e", ROOT, "d", 0), QE_NOTEMPTY);
    assert_int_equal(kit_unlink(k, d, "f"), 0);
    assert_int_equal(kit_rename(k, ROOT, "e", ROOT, "d", 0), 0);
    assert_true(kit_lookup(k, STORE_HEAD, ROOT, "d") == e);
    assert_int_equal(nlink_of(k, ROOT), 3);
}

static void a_directory_does_not_go_below_itself(void **state)
{
    struct kit *k = *state;
    uint64_t a = mkdir_in(k, ROOT, "a"), b = mkdir_in(k, a, "b"), c = mkdir_in(k, b, "c");

    assert_int_equal(kit_rename(k, ROOT, "a", a, "x", 0), QE_INVAL);
    assert_int_equal(kit_rename(k, ROOT, "a", c, "x", 0), QE_INVAL);
    assert_int_equal(kit_rename(k, ROOT, "a", b, "c", STORE_RENAME_EXCHANGE), QE_INVAL);
    assert_int_equal(kit_rename(k, b, "c", ROOT, "a", STORE_RENAME_EXCHANGE), QE_INVAL);
    assert_int_equal(kit_rename(k, b, "c", ROOT, "a", 0), QE_NOTEMPTY);
    assert_int_equal(kit_rename(k, b, "c", ROOT, "c", 0), 0);
}

static void what_is_not_there_is_not_found(void **state)
{
    struct kit *k = *state;
    uint64_t d = mkdir_in(k, ROOT, "d");

    assert_int_equal(kit_unlink(k, ROOT, "none"), QE_NOENT);
    assert_int_equal(kit_rmdir(k, ROOT, "none"), QE_NOENT);
    assert_int_equal(kit_rename(k, ROOT, "none", ROOT, "x", 0), QE_NOENT);
    assert_int_equal(kit_rename(k, ROOT, "d", ROOT, "none", STORE_RENAME_EXCHANGE), QE_NOENT);
    assert_int_equal(kit_rename(k, ROOT, "d", ROOT, "e", STORE_RENAME_EXCHANGE | STORE_RENAME_NOREPLACE), QE_INVAL);
    assert_int_equal(kit_rmdir(k, ROOT, "d"), 0);
    assert_int_equal(kit_put(k, d, "f", "v"), QE_NOENT); /* in a directory that is gone */
    assert_int_equal(kit_mkdir(k, d, "f"), QE_NOENT);
    assert_int_equal(kit_mkdir(k, 4 * 4000 + STORE_DIR, "f"), QE_NOENT);
}

static void inode_numbers_must_be_reserved_fresh_and_of_their_kind(void **state)
{
    struct kit *k = *state;
    uint64_t f = file_in(k, ROOT, "f");
    struct store_op op = {.kind = STORE_OP_MKDIR, .parent = ROOT, .name = B("x"), .new_ino = kit_ino(k, STORE_FILE)};

    assert_int_equal(kit_op(k, &op), QE_INVAL);
    op.kind = STORE_OP_CREATE;
    op.new_ino = f;
    assert_int_equal(kit_op(k, &op), QE_INVAL);
    op.new_ino = k->end_n * 4;
    assert_int_equal(kit_op(k, &op), QE_INVAL);
    op.new_ino = 0;
    assert_int_equal(kit_op(k, &op), QE_INVAL);
    assert_int_equal(kit_unlink(k, ROOT, "f"), 0);
    op.new_ino = f;
    assert_int_equal(kit_op(k, &op), QE_INVAL); /* the dead stay dead */
}

static void links_have_a_target_of_at_most_4095_bytes(void **state)
{
    struct kit *k = *state;
    char target[4097];

    memset(target, 't', sizeof target);
    target[4096] = 0;
    assert_int_equal(kit_symlink(k, ROOT, "l", target), QE_NAMETOOLONG);
    target[4095] = 0;
    assert_int_equal(kit_symlink(k, ROOT, "l", target), 0);
    kit_assert_content(k, STORE_HEAD, k->res.ino, target);
    assert_int_equal(kit_symlink(k, ROOT, "m", ""), QE_INVAL);
    assert_int_equal(kit_glance(k).live_bytes, 64 + 1 + 4095);
}

/* ---- Groups -------------------------------------------------------------------------------------------------------------- */

static void operations_of_a_command_share_a_revision(void **state)
{
    struct kit *k = *state;
    uint64_t d = kit_ino(k, STORE_DIR), f = kit_ino(k, STORE_FILE);
    struct store_op ops[] = {{.kind = STORE_OP_MKDIR, .parent = ROOT, .name = B("d"), .new_ino = d, .mode = 0755},
                             {.kind = STORE_OP_CREATE, .parent = d, .name = B("f"), .new_ino = f, .mode = 0600},
                             {.kind = STORE_OP_RENAME, .parent = d, .name = B("f"), .parent2 = ROOT, .name2 = B("g")}};

    assert_int_equal(kit_ops(k, ops, 3), 0);
    assert_int_equal(k->res.rev, 2);
    assert_int_equal(k->n_changes, 3);
    assert_true(kit_lookup(k, 2, ROOT, "g") == f);
    kit_assert_list(k, 2, d, "");
    kit_assert_list(k, 1, ROOT, "");
}

static void a_command_whose_second_operation_fails_leaves_nothing(void **state)
{
    struct kit *k = *state;
    struct store_op ops[] = {{.kind = STORE_OP_MKDIR, .parent = ROOT, .name = B("d"), .new_ino = kit_ino(k, STORE_DIR)},
                             {.kind = STORE_OP_UNLINK, .parent = ROOT, .name = B("none")}};
    struct store_glance before = kit_glance(k), after;

    assert_int_equal(kit_ops(k, ops, 2), QE_NOENT);
    after = kit_glance(k);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(k->n_changes, 0);
    assert_true(kit_lookup(k, STORE_HEAD, ROOT, "d") == 0);
    assert_int_equal(kit_mkdir(k, ROOT, "d"), 0);
    assert_int_equal(k->res.rev, 2);
}

static void a_command_without_operations_is_malformed(void **state)
{
    struct kit *k = *state;
    struct store_op ops[] = {{.kind = STORE_OP_RESERVE}, {.kind = STORE_OP_RESERVE}};

    assert_int_equal(kit_ops(k, NULL, 0), QE_INVAL);
    assert_int_equal(kit_ops(k, ops, 2), QE_INVAL); /* what is not about the tree stands alone */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(a_new_store_is_a_root_directory_at_revision_1),
        KIT_TEST(put_makes_a_file_and_then_its_next_version),
        KIT_TEST(a_recreated_name_is_a_new_inode_at_version_1),
        KIT_TEST(subdirectories_count_in_nlink),
        KIT_TEST(rename_replaces_a_file_and_keeps_the_moved_inode),
        KIT_TEST(a_change_says_what_a_put_has_made),
        KIT_TEST(rename_exchange_swaps_a_file_and_a_directory),
        KIT_TEST(a_directory_moves_whole_in_one_revision),
        KIT_TEST(an_inode_knows_its_directory_and_name),
        KIT_TEST(a_name_onto_itself_changes_nothing),
        KIT_TEST(entries_set_the_times_of_their_directory),
        KIT_TEST(names_may_have_any_bytes_but_slash_and_nul),
        KIT_TEST(a_list_goes_on_after_a_name),
        KIT_TEST(bad_names_are_refused),
        KIT_TEST(taken_names_are_refused_to_exclusive_makers),
        KIT_TEST(kinds_must_fit),
        KIT_TEST(a_directory_with_entries_stays),
        KIT_TEST(a_directory_does_not_go_below_itself),
        KIT_TEST(what_is_not_there_is_not_found),
        KIT_TEST(inode_numbers_must_be_reserved_fresh_and_of_their_kind),
        KIT_TEST(links_have_a_target_of_at_most_4095_bytes),
        KIT_TEST(operations_of_a_command_share_a_revision),
        KIT_TEST(a_command_whose_second_operation_fails_leaves_nothing),
        KIT_TEST(a_command_without_operations_is_malformed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
