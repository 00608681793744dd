/* Attributes and extended attributes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "store/base/err.h"
#include "tests/unit/store/kit.h"

#define ROOT STORE_ROOT_INO

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static uint64_t file(struct kit *k)
{
    assert_int_equal(kit_put(k, ROOT, "f", "v"), 0);
    return k->res.ino;
}

static void assert_xattr(struct kit *k, int64_t at, uint64_t ino, const char *name, const char *value)
{
    struct buf b = {0};

    assert_int_equal(store_getxattr(k->r, at, ino, name, strlen(name), &b), 0);
    assert_string_equal(buf_cstr(&b), value);
    buf_fini(&b);
}

static void assert_no_xattr(struct kit *k, int64_t at, uint64_t ino, const char *name)
{
    struct buf b = {0};

    assert_int_equal(store_getxattr(k->r, at, ino, name, strlen(name), &b), QE_NODATA);
    buf_fini(&b);
}

static int remove_xattr(struct kit *k, uint64_t ino, const char *name)
{
    return kit_op(k, &(struct store_op){.kind = STORE_OP_REMOVEXATTR, .ino = ino, .name = kit_str(name)});
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */


static void setattr_changes_what_is_valid_and_nothing_else(void **state)
{
    struct kit *k = *state;
    uint64_t ino = file(k);
    struct store_op op = {.kind = STORE_OP_SETATTR, .ino = ino, .mode = 0100600 | 04000, .uid = 1, .gid = 2, .mtime_ns = 3};
    struct store_attr a, b;

    kit_attr(k, ino, &a);
    assert_int_equal(kit_op(k, &op), 0);
    kit_attr(k, ino, &b);
    assert_memory_equal(&a, &b, sizeof a);
    op.valid = STORE_ATTR_MODE | STORE_ATTR_MTIME;
    assert_int_equal(kit_op(k, &op), 0);
    kit_attr(k, ino, &b);
    assert_int_equal(b.mode, S_IFREG | 04600);
    assert_int_equal(b.mtime_ns, 3);
    assert_int_equal(b.uid, a.uid);
    assert_int_equal(b.version, a.version); /* no commit */
    assert_int_equal(b.mod_rev, k->res.rev);
    assert_int_equal(b.ctime_ns, k->time_ns);
    op.valid = STORE_ATTR_UID | STORE_ATTR_GID | STORE_ATTR_KILLPRIV;
    assert_int_equal(kit_op(k, &op), 0);
    kit_attr(k, ino, &b);
    assert_int_equal(b.mode, S_IFREG | 0600);
    assert_int_equal(b.uid, 1);
    assert_int_equal(b.gid, 2);
}

static void xattrs_are_kept_listed_and_removed(void **state)
{
    struct kit *k = *state;
    uint64_t ino = file(k);
    struct buf b = {0};
    int64_t rev;

    assert_int_equal(kit_setxattr(k, ino, "user.b", "two", 0), 0);
    assert_int_equal(kit_setxattr(k, ino, "user.a", "one", STORE_XATTR_CREATE), 0);
    rev = k->res.rev;
    assert_int_equal(kit_glance(k).live_bytes, 64 + 1 + 1 + 6 + 3 + 6 + 3);
    assert_int_equal(kit_setxattr(k, ino, "user.b", "", STORE_XATTR_REPLACE), 0);
    assert_xattr(k, STORE_HEAD, ino, "user.b", "");
    assert_xattr(k, rev, ino, "user.b", "two");
    assert_int_equal(store_listxattr(k->r, STORE_HEAD, ino, &b), 0);
    assert_int_equal(b.len, 14);
    assert_memory_equal(b.data, "user.a\0user.b", 14);
    buf_fini(&b);
    assert_int_equal(remove_xattr(k, ino, "user.a"), 0);
    assert_no_xattr(k, STORE_HEAD, ino, "user.a");
    assert_xattr(k, rev, ino, "user.a", "one");
    assert_int_equal(kit_setxattr(k, ROOT, "user.root", "too", 0), 0);
    assert_xattr(k, STORE_HEAD, ROOT, "user.root", "too");
}

static void a_new_file_may_bring_xattrs(void **state)
{
    struct kit *k = *state;
    struct store_xattr x[] = {{B("user.z"), B("1")}, {B("user.y"), B("2")}};
    struct store_op op = {.kind = STORE_OP_CREATE, .parent = ROOT, .name = B("f"), .new_ino = kit_ino(k, STORE_FILE), .xattrs = x, .n_xattrs = 2};

    assert_int_equal(kit_op(k, &op), 0);
    assert_xattr(k, STORE_HEAD, k->res.ino, "user.z", "1");
    assert_xattr(k, STORE_HEAD, k->res.ino, "user.y", "2");
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */


static void xattr_flags_are_obeyed(void **state)
{
    struct kit *k = *state;
    uint64_t ino = file(k);

    assert_int_equal(kit_setxattr(k, ino, "user.a", "1", STORE_XATTR_REPLACE), QE_NODATA);
    assert_int_equal(kit_setxattr(k, ino, "user.a", "1", 0), 0);
    assert_int_equal(kit_setxattr(k, ino, "user.a", "1", STORE_XATTR_CREATE), QE_EXIST);
    assert_int_equal(kit_setxattr(k, ino, "user.a", "1", 3), QE_INVAL);
    assert_int_equal(remove_xattr(k, ino, "user.b"), QE_NODATA);
}

static void xattr_names_are_user_and_not_reserved(void **state)
{
    struct kit *k = *state;
    uint64_t ino = file(k);

    assert_int_equal(kit_setxattr(k, ino, "trusted.a", "1", 0), QE_NOTSUP);
    assert_int_equal(kit_setxattr(k, ino, "user.", "1", 0), QE_NOTSUP);
    assert_int_equal(kit_setxattr(k, ino, "user.quorum", "1", 0), QE_PERM);
    assert_int_equal(kit_setxattr(k, ino, "user.quorum.version", "1", 0), QE_PERM);
    assert_int_equal(kit_setxattr(k, ino, "user.quorums", "1", 0), 0);
    assert_int_equal(kit_symlink(k, ROOT, "l", "t"), 0);
    assert_int_equal(kit_setxattr(k, k->res.ino, "user.a", "1", 0), QE_PERM);
}

static void xattrs_have_limits(void **state)
{
    struct kit *k = *state;
    uint64_t ino = file(k);
    char value[4098], name[300];

    memset(value, 'v', sizeof value);
    value[4097] = 0;
    assert_int_equal(kit_setxattr(k, ino, "user.a", value, 0), QE_2BIG);
    value[4096] = 0;
    assert_int_equal(kit_setxattr(k, ino, "user.a", value, 0), 0);
    assert_int_equal(kit_setxattr(k, ino, "user.b", value, 0), 0);
    assert_int_equal(kit_setxattr(k, ino, "user.c", value, 0), 0);
    assert_int_equal(kit_setxattr(k, ino, "user.d", value, 0), QE_2BIG); /* the four names are too much */
    value[4096 - 24] = 0;
    assert_int_equal(kit_setxattr(k, ino, "user.d", value, 0), 0);
    assert_int_equal(kit_setxattr(k, ino, "user.e", "", 0), QE_2BIG);
    memset(name, 'n', sizeof name);
    memcpy(name, "user.", 5);
    name[256] = 0;
    assert_int_equal(kit_setxattr(k, ino, name, "", 0), QE_RANGE);
}

static void a_dead_inode_takes_no_attributes(void **state)
{
    struct kit *k = *state;
    uint64_t ino = file(k);

    assert_int_equal(kit_unlink(k, ROOT, "f"), 0);
    assert_int_equal(kit_chmod(k, ino, 0600), QE_STALE);
    assert_int_equal(kit_setxattr(k, ino, "user.a", "1", 0), QE_STALE);
    assert_int_equal(kit_chmod(k, 4 * 4000, 0600), QE_STALE);
}

static void a_symlink_has_no_mode_of_its_own(void **state)
{
    struct kit *k = *state;
    struct store_attr a;

    assert_int_equal(kit_symlink(k, ROOT, "l", "t"), 0);
    assert_int_equal(kit_chmod(k, k->res.ino, 0600), QE_NOTSUP);
    kit_attr(k, kit_lookup(k, STORE_HEAD, ROOT, "l"), &a);
    assert_int_equal(a.mode, S_IFLNK | 0777);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(setattr_changes_what_is_valid_and_nothing_else),
        KIT_TEST(xattrs_are_kept_listed_and_removed),
        KIT_TEST(a_new_file_may_bring_xattrs),
        KIT_TEST(xattr_flags_are_obeyed),
        KIT_TEST(xattr_names_are_user_and_not_reserved),
        KIT_TEST(xattrs_have_limits),
        KIT_TEST(a_dead_inode_takes_no_attributes),
        KIT_TEST(a_symlink_has_no_mode_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
