/* The history of names. The last test compares with what reading every single revision shows. */
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

struct text {
    char text[4000];
    int64_t base;   /* revisions are shown less this */
    int64_t before; /* the last one told */
    int left;       /* so many more; 0: any number */
};

static bool on_revision(void *data, int64_t rev, bool deleted, enum store_kind kind)
{
    struct text *t = data;
    size_t len = strlen(t->text);

    snprintf(t->text + len, sizeof t->text - len, "%s%d%s%s", len ? " " : "", (int)(rev - t->base), deleted ? "x" : "", kind == STORE_SYMLINK ? "l" : "");
    t->before = rev;
    return t->left == 0 || --t->left > 0;
}

static bool on_name(void *data, const void *name, size_t len)
{
    struct text *t = data;
    size_t have = strlen(t->text);

    snprintf(t->text + have, sizeof t->text - have, "%s%.*s", have ? " " : "", (int)len, (const char *)name);
    return true;
}

/* Versions newest first, less `base`; x is an end, l a symlink. */
static void assert_versions(struct kit *k, const char *path, int64_t base, const char *expected)
{
    struct text all = {.base = base}, paged = {.base = base};

    assert_int_equal(store_versions(k->r, path, strlen(path), 0, on_revision, &all), 0);
    assert_string_equal(all.text, expected);
    do { /* and the same in pages of one */
        paged.left = 1;
        assert_int_equal(store_versions(k->r, path, strlen(path), paged.before, on_revision, &paged), 0);
    } while (paged.left == 0);
    assert_string_equal(paged.text, expected);
}

static void assert_names(struct kit *k, const char *path, const char *expected)
{
    struct text t = {0};

    assert_int_equal(store_list_past(k->r, path, strlen(path), "", 0, on_name, &t), 0);
    assert_string_equal(t.text, expected);
}

static void assert_version(struct kit *k, const char *path, int64_t rev, const char *content)
{
    struct store_version v;
    struct buf got = {0};

    assert_int_equal(store_version(k->r, path, strlen(path), rev, false, &v), 0);
    assert_true(v.rev == rev);
    assert_int_equal(store_content(k->r, v.at, v.attr.ino, &got, NULL), 0);
    assert_string_equal(buf_cstr(&got), content);
    buf_fini(&got);
}

static int version_err(struct kit *k, const char *path, int64_t rev, bool deleted)
{
    struct store_version v;

    return store_version(k->r, path, strlen(path), rev, deleted, &v);
}

static int put(struct kit *k, const char *name, const char *text)
{
    return kit_put(k, ROOT, name, text);
}

static void compact(struct kit *k, int64_t rev)
{
    assert_int_equal(kit_compact(k, rev), 0);
    kit_compact_all(k);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void versions_of_one_inode(void **state)
{
    struct kit *k = *state;
    int64_t base = kit_glance(k).rev;

    put(k, "f", "1");
    put(k, "f", "2");
    kit_chmod(k, k->res.ino, 0600); /* no version of its own */
    put(k, "f", "3");
    assert_versions(k, "f", base, "4 2 1");
    assert_version(k, "f", base + 1, "1");
    assert_version(k, "f", base + 2, "2");
    assert_version(k, "f", base + 4, "3");
    assert_int_equal(version_err(k, "f", base + 3, false), QE_NOENT);
    assert_int_equal(version_err(k, "f", base + 5, false), QE_NOENT);
    assert_int_equal(version_err(k, "g", base + 1, false), QE_NOENT);
}

static void a_version_shows_its_last_attributes(void **state)
{
    struct kit *k = *state;
    struct store_version v;
    int64_t rev;

    put(k, "f", "1");
    rev = k->res.rev;
    kit_chmod(k, k->res.ino, 0600);
    put(k, "f", "2");
    assert_int_equal(store_version(k->r, "f", 1, rev, false, &v), 0);
    assert_int_equal(v.attr.mode & 07777, 0600);
    assert_true(v.at == rev + 1);
}

static void deletions_and_recreations(void **state)
{
    struct kit *k = *state;
    int64_t base = kit_glance(k).rev;
    struct store_version v;

    put(k, "f", "1");
    kit_unlink(k, ROOT, "f");
    put(k, "f", "2");
    kit_unlink(k, ROOT, "f");
    kit_symlink(k, ROOT, "f", "target");
    assert_versions(k, "f", base, "5l 4x 3 2x 1");
    assert_int_equal(store_version(k->r, "f", 1, base + 2, true, &v), 0);
    assert_true(v.deleted && v.at == base + 1);
    assert_int_equal(version_err(k, "f", base + 1, true), QE_NOENT);
    assert_int_equal(version_err(k, "f", base + 3, true), QE_NOENT);
    assert_version(k, "f", base + 5, "target");
}

static void a_rename_over_a_name_is_a_version_and_no_deletion(void **state)
{
    struct kit *k = *state;
    int64_t base = kit_glance(k).rev;

    put(k, "f", "1");                      /* 1 */
    put(k, "tmp", "2");                    /* 2 */
    kit_rename(k, ROOT, "tmp", ROOT, "f", 0); /* 3: as editors save */
    put(k, "tmp", "3");                    /* 4 */
    kit_rename(k, ROOT, "tmp", ROOT, "f", 0); /* 5 */
    kit_rename(k, ROOT, "f", ROOT, "g", 0);   /* 6 */
    assert_versions(k, "f", base, "6x 5 3 1");
    assert_versions(k, "tmp", base, "5x 4 3x 2");
    assert_versions(k, "g", base, "6");
    assert_version(k, "f", base + 3, "2");
    assert_version(k, "g", base + 6, "3");
}

static void names_below_directories_that_move(void **state)
{
    struct kit *k = *state;
    int64_t base = kit_glance(k).rev;
    uint64_t d, e;

    kit_mkdir(k, ROOT, "d"); /* 1 */
    d = k->res.ino;
    kit_put(k, d, "f", "1");                 /* 2 */
    kit_put(k, d, "f", "2");                 /* 3 */
    kit_mkdir(k, ROOT, "e");                 /* 4 */
    e = k->res.ino;
    kit_put(k, e, "f", "3");                 /* 5 */
    kit_put(k, e, "g", "4");                 /* 6 */
    kit_rename(k, ROOT, "d", ROOT, "old", 0); /* 7 */
    kit_rename(k, ROOT, "e", ROOT, "d", 0);   /* 8: published */
    kit_put(k, d, "f", "5");                 /* 9: in old */
    assert_versions(k, "d/f", base, "8 7x 3 2");
    assert_versions(k, "d/g", base, "8");
    assert_versions(k, "old/f", base, "9 7");
    assert_versions(k, "e/f", base, "8x 5");
    assert_names(k, "", "d e old");
    assert_names(k, "d", "f g");
    assert_names(k, "old", "f");
    assert_version(k, "d/f", base + 8, "3");
    assert_version(k, "d/f", base + 2, "1");
    assert_int_equal(version_err(k, "d/f", base + 9, false), QE_NOENT);
}

static void what_is_compacted_is_not_shown(void **state)
{
    struct kit *k = *state;
    int64_t base = kit_glance(k).rev;

    put(k, "f", "1");       /* 1 */
    put(k, "f", "2");       /* 2 */
    put(k, "gone", "x");    /* 3 */
    kit_unlink(k, ROOT, "gone"); /* 4 */
    put(k, "f", "3");       /* 5 */
    put(k, "late", "x");    /* 6 */
    kit_unlink(k, ROOT, "late"); /* 7 */
    compact(k, base + 4);
    assert_versions(k, "f", base, "5 2"); /* 2 is what revision 4 shows */
    assert_versions(k, "gone", base, "");
    assert_versions(k, "late", base, "7x 6");
    assert_names(k, "", "f late");
    assert_int_equal(version_err(k, "f", base + 1, false), QE_NOENT);
    assert_version(k, "f", base + 2, "2");
    compact(k, base + 6);
    assert_versions(k, "f", base, "5");
    assert_versions(k, "late", base, "7x 6");
    compact(k, base + 7);
    assert_names(k, "", "f");
}

static void whoever_could_not_always_look_may_not_now(void **state)
{
    struct kit *k = *state;
    struct store_past p;

    kit_mkdir(k, ROOT, "d");
    kit_chmod(k, k->res.ino, 0700);
    kit_chmod(k, k->res.ino, 0755);
    assert_int_equal(store_past(k->r, "d", 1, &p), 0);
    assert_true(p.dir && p.mode == 0700);
    kit_rmdir(k, ROOT, "d");
    put(k, "d", "now a file");
    assert_int_equal(store_past(k->r, "d", 1, &p), 0);
    assert_true(!p.dir && (p.mode & 077) == 0);
    assert_int_equal(store_past(k->r, "none", 4, &p), QE_NOENT);
    assert_int_equal(store_past(k->r, "", 0, &p), 0);
    assert_int_equal(p.mode, 0755);
}

/* Where the owners differ, whoever asks may have been of any class: what one of the three could not do is nobody's. */
static void of_other_owners_nobody_looks_whom_any_class_kept_out(void **state)
{
    static const struct { uint32_t mode, shown; } of[] = {{0705, 0}, {0075, 0}, {0750, 0}, {0754, 0444}, {0551, 0111}, {0755, 0555}};
    struct kit *k = *state;
    struct store_past p;

    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        const char name[] = {(char)('a' + i), 0};
        struct store_op op = {.kind = STORE_OP_SETATTR, .uid = 1001, .gid = 2000, .valid = STORE_ATTR_UID | STORE_ATTR_GID};

        kit_mkdir(k, ROOT, name);
        op.ino = k->res.ino;
        kit_chmod(k, op.ino, of[i].mode);
        assert_int_equal(kit_op(k, &op), 0);
        assert_int_equal(store_past(k->r, name, 1, &p), 0);
        assert_int_equal(p.uid, 1001);
        assert_int_equal(p.mode, of[i].shown);
    }
}

/* ---- Against all revisions ------------------------------------------------------------------------------------------------ */

enum { STEPS = 400, NAMES = 4 };
static const char *const names[NAMES] = {"a", "b", "c", "d"};

/* What the path is bound to at a revision, by lookups; false: nothing or a directory (`any`: nothing at all is false). */
static bool look(struct kit *k, const char *dir, const char *name, int64_t at, struct store_attr *a, bool *any)
{
    uint64_t parent = ROOT;

    *any = false;
    if (*dir) {
        if (store_lookup(k->r, at, ROOT, dir, 1, a) || store_ino_kind(a->ino) != STORE_DIR)
            return false;
        parent = a->ino;
    }
    *any = store_lookup(k->r, at, parent, name, 1, a) == 0;
    return *any && store_ino_kind(a->ino) != STORE_DIR;
}

static void expect_versions(struct kit *k, const char *dir, const char *name, int64_t from, int64_t to, char *out, size_t size)
{
    struct store_attr a, was = {0};
    bool had = false;

    *out = 0;
    for (int64_t at = from; at <= to; at++) {
        bool any, has = look(k, dir, name, at, &a, &any);
        bool version = has && (!had || a.ino != was.ino || a.content != was.content);
        char item[40] = "", rest[4000];

        if (version && at == from && from > 1) /* it got it earlier: which revision that was is another test's */
            snprintf(item, sizeof item, "?");
        else if (version)
            snprintf(item, sizeof item, "%d%s", (int)at, store_ino_kind(a.ino) == STORE_SYMLINK ? "l" : "");
        else if (had && !any)
            snprintf(item, sizeof item, "%dx", (int)at);
        if (*item) {
            snprintf(rest, sizeof rest, "%s%s%s", item, *out ? " " : "", out);
            snprintf(out, size, "%s", rest);
        }
        had = has;
        was = a;
    }
}

static void step(struct kit *k, unsigned *seed)
{
    const char *a = names[rand_r(seed) % NAMES], *b = names[rand_r(seed) % NAMES];
    const char *sub = names[rand_r(seed) % NAMES];
    uint64_t in = rand_r(seed) % 2 ? kit_lookup(k, STORE_HEAD, ROOT, sub) : ROOT, to = rand_r(seed) % 2 ? kit_lookup(k, STORE_HEAD, ROOT, b) : ROOT;

    if (in == 0 || store_ino_kind(in) != STORE_DIR)
        in = ROOT;
    if (to == 0 || store_ino_kind(to) != STORE_DIR)
        to = ROOT;
    switch (rand_r(seed) % 10) {
    case 0: case 1: case 2: kit_put(k, in, a, b); break;
    case 3: kit_unlink(k, in, a); break;
    case 4: kit_mkdir(k, ROOT, a); break;
    case 5: kit_rmdir(k, ROOT, a); break;
    case 6: kit_symlink(k, in, a, b); break;
    case 7: kit_rename(k, in, a, to, b, rand_r(seed) % 3 == 0 ? STORE_RENAME_EXCHANGE : 0); break;
    case 8: kit_rename(k, ROOT, a, ROOT, b, 0); break;
    default: kit_chmod(k, in, 0700 + (uint32_t)rand_r(seed) % 64);
    }
}

static void compare_all(struct kit *k, int64_t from)
{
    int64_t to = kit_glance(k).rev;
    char expected[4000];

    for (int d = -1; d < NAMES; d++)
        for (int n = 0; n < NAMES; n++) {
            const char *dir = d < 0 ? "" : names[d];
            char path[8], *oldest;
            struct text t = {0};

            snprintf(path, sizeof path, "%s%s%s", dir, d < 0 ? "" : "/", names[n]);
            expect_versions(k, dir, names[n], from, to, expected, sizeof expected);
            assert_int_equal(store_versions(k->r, path, strlen(path), 0, on_revision, &t), 0);
            oldest = strrchr(t.text, ' ') ? strrchr(t.text, ' ') + 1 : t.text;
            if (*expected && expected[strlen(expected) - 1] == '?')
                snprintf(oldest, 3, "?");
            if (strcmp(t.text, expected))
                fail_msg("%s: expected \"%s\", told \"%s\" (compacted %d)", path, expected, t.text, (int)from);
        }
}

static void every_version_is_what_the_revisions_show(void **state)
{
    struct kit *k = *state;
    unsigned seed = 4711;

    print_message("seed %u\n", seed);

    for (int round = 0; round < 6; round++) {
        int64_t from = round ? kit_glance(k).compacted : 1;

        for (int i = 0; i < STEPS; i++)
            step(k, &seed);
        compare_all(k, from);
        compact(k, kit_glance(k).rev - STEPS / 3);
        compare_all(k, kit_glance(k).compacted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(versions_of_one_inode),
        KIT_TEST(a_version_shows_its_last_attributes),
        KIT_TEST(deletions_and_recreations),
        KIT_TEST(a_rename_over_a_name_is_a_version_and_no_deletion),
        KIT_TEST(names_below_directories_that_move),
        KIT_TEST(what_is_compacted_is_not_shown),
        KIT_TEST(whoever_could_not_always_look_may_not_now),
        KIT_TEST(of_other_owners_nobody_looks_whom_any_class_kept_out),
        KIT_TEST(every_version_is_what_the_revisions_show),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
