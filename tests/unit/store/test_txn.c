/* Commands of many operations: conditions, staged transactions, their events. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/unit/store/kit.h"

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

#define ROOT STORE_ROOT_INO

/* Makes the file `made`, if the conditions hold. */
static int put_if(struct kit *k, const struct store_condition *c, size_t n)
{
    struct store_op op = {.kind = STORE_OP_CREATE, .parent = ROOT, .name = B("made"), .new_ino = kit_ino(k, STORE_FILE), .mode = 0644};
    struct store_command cmd = kit_command(k, &op, 1);

    cmd.conditions = c;
    cmd.n_conditions = n;
    assert_int_equal(kit_apply(k, &cmd, 1), 0);
    if (k->res.err == 0)
        kit_unlink(k, ROOT, "made"); /* for the next one */
    else
        assert_int_equal(kit_lookup(k, STORE_HEAD, ROOT, "made"), 0);
    return k->res.err;
}

static int put_if_one(struct kit *k, struct store_condition c)
{
    return put_if(k, &c, 1);
}

/* One part of transaction `id`. */
static int stage(struct kit *k, uint64_t id, int64_t part, const struct store_op *ops, size_t n, const struct store_condition *c, size_t n_c)
{
    struct store_command cmd = {.comm = "", .ops = ops, .n_ops = n, .conditions = c, .n_conditions = n_c};
    struct store_op op = {.kind = STORE_OP_STAGE, .ino = id, .rev = part};
    struct buf encoded = {0};
    int err;

    assert_int_equal(store_command_encode(&cmd, &encoded), 0);
    op.bytes = (struct store_bytes){encoded.data, encoded.len};
    err = kit_op(k, &op);
    buf_fini(&encoded);
    return err;
}

static int commit_staged(struct kit *k, uint64_t id, int64_t parts)
{
    return kit_op(k, &(struct store_op){.kind = STORE_OP_STAGED, .ino = id, .rev = parts});
}

static int stage_mkdir(struct kit *k, uint64_t id, int64_t part, const char *name)
{
    struct store_op op = {.kind = STORE_OP_MKDIR, .parent = ROOT, .name = kit_str(name), .new_ino = kit_ino(k, STORE_DIR), .mode = 0755};

    return stage(k, id, part, &op, 1, NULL, 0);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void what_was_read_must_be_unchanged(void **state)
{
    struct kit *k = *state;
    uint64_t f, d;
    int64_t rev;

    kit_put(k, ROOT, "f", "one");
    f = k->res.ino;
    kit_mkdir(k, ROOT, "d");
    d = k->res.ino;
    rev = k->res.rev;
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_BOUND, .parent = ROOT, .name = B("f"), .ino = f}), 0);
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_BOUND, .parent = ROOT, .name = B("f"), .ino = d}), QE_CANCELED);
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_BOUND, .parent = d, .name = B("x"), .ino = 0}), 0);
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_UNCHANGED, .ino = f, .number = rev}), 0);
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_LIST, .ino = d, .number = rev}), 0);
    kit_chmod(k, f, 0600);
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_UNCHANGED, .ino = f, .number = rev}), QE_CANCELED);
    kit_put(k, d, "x", "in it");
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_BOUND, .parent = d, .name = B("x"), .ino = 0}), QE_CANCELED);
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_LIST, .ino = d, .number = rev}), QE_CANCELED);
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_UNCHANGED, .ino = d, .number = rev}), 0); /* its list is not it */
    kit_unlink(k, ROOT, "f");
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_UNCHANGED, .ino = f, .number = 1000}), QE_CANCELED);
}

static void demands_name_a_path(void **state)
{
    struct kit *k = *state;

    kit_mkdir(k, ROOT, "d");
    kit_put(k, k->res.ino, "f", "one");
    kit_add(k, k->res.ino, " two");
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_EXISTS, .name = B("d/f")}), 0);
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_EXISTS, .name = B("d/f/g")}), QE_CANCELED);
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_ABSENT, .name = B("d/g")}), 0);
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_ABSENT, .name = B("d")}), QE_CANCELED);
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_VERSION, .name = B("d/f"), .number = 2}), 0);
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_VERSION, .name = B("d/f"), .compare = STORE_GT, .number = 2}), QE_CANCELED);
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_VERSION, .name = B("no"), .number = 0}), 0);
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_MOD_REV, .name = B("d/f"), .compare = STORE_LT, .number = 5}), 0);
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_CREATE_REV, .name = B("d/f"), .compare = STORE_NE, .number = 3}), QE_CANCELED);
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_CONTENT, .name = B("d/f"), .bytes = B("one two")}), 0);
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_CONTENT, .name = B("d/f"), .bytes = B("one twO")}), QE_CANCELED);
    assert_int_equal(put_if_one(k, (struct store_condition){.kind = STORE_IF_CONTENT, .name = B("d"), .bytes = B("")}), QE_CANCELED);
}

static void a_failure_tells_which(void **state)
{
    struct kit *k = *state;
    const struct store_condition c[] = {{.kind = STORE_IF_ABSENT, .name = B("x")}, {.kind = STORE_IF_EXISTS, .name = B("x")}};
    const struct store_op ops[] = {{.kind = STORE_OP_UNLINK, .parent = ROOT, .name = B("f")}, {.kind = STORE_OP_UNLINK, .parent = ROOT, .name = B("g")}};
    int64_t rev;

    kit_put(k, ROOT, "f", "1");
    rev = k->res.rev;
    assert_int_equal(put_if(k, c, 2), QE_CANCELED);
    assert_int_equal(k->res.ino, 2);
    assert_int_equal(kit_ops(k, ops, 2), QE_NOENT);
    assert_int_equal(k->res.ino, 2);
    assert_int_equal(k->res.rev, rev);
    assert_int_not_equal(kit_lookup(k, STORE_HEAD, ROOT, "f"), 0);
}

static void a_staged_transaction_is_one_revision(void **state)
{
    struct kit *k = *state;
    int64_t rev = kit_glance(k).rev;

    for (int i = 0; i < 3; i++) {
        char name[8];

        snprintf(name, sizeof name, "d%d", i);
        assert_int_equal(stage_mkdir(k, 7, i, name), 0);
        assert_int_equal(kit_lookup(k, STORE_HEAD, ROOT, name), 0);
    }
    kit_reopen(k); /* it is in the tables */
    assert_int_equal(kit_glance(k).rev, rev);
    assert_int_equal(commit_staged(k, 7, 3), 0);
    assert_int_equal(k->res.rev, rev + 1);
    kit_assert_list(k, STORE_HEAD, ROOT, "d0 d1 d2");
    assert_int_equal(commit_staged(k, 7, 3), QE_STALE); /* the parts are gone */
}

static void all_conditions_come_before_all_operations(void **state)
{
    struct kit *k = *state;
    const struct store_condition absent = {.kind = STORE_IF_ABSENT, .name = B("d0")};
    struct store_op op = {.kind = STORE_OP_MKDIR, .parent = ROOT, .name = B("d1"), .mode = 0755, .new_ino = kit_ino(k, STORE_DIR)};

    assert_int_equal(stage_mkdir(k, 7, 0, "d0"), 0);
    assert_int_equal(stage(k, 7, 1, &op, 1, &absent, 1), 0);
    assert_int_equal(commit_staged(k, 7, 2), 0);
    kit_assert_list(k, STORE_HEAD, ROOT, "d0 d1");
    assert_int_equal(stage(k, 8, 0, &op, 1, NULL, 0), 0);
    assert_int_equal(stage(k, 8, 1, NULL, 0, &absent, 1), 0);
    assert_int_equal(commit_staged(k, 8, 2), QE_CANCELED);
    assert_int_equal(k->res.ino, 1);
}

static void nothing_of_a_failed_transaction_stays(void **state)
{
    struct kit *k = *state;
    const struct store_op bad = {.kind = STORE_OP_UNLINK, .parent = ROOT, .name = B("none")};
    int64_t rev = kit_glance(k).rev;

    assert_int_equal(stage_mkdir(k, 7, 0, "d0"), 0);
    assert_int_equal(stage(k, 7, 1, &bad, 1, NULL, 0), 0);
    assert_int_equal(commit_staged(k, 7, 2), QE_NOENT);
    assert_int_equal(k->res.ino, 2);
    assert_int_equal(kit_glance(k).rev, rev);
    kit_assert_list(k, STORE_HEAD, ROOT, "");
}

static void ten_thousand_operations_are_one_revision(void **state)
{
    enum { N = 10000, PER_PART = 1000 };
    struct kit *k = *state;
    static struct store_op ops[PER_PART];
    static char names[PER_PART][16];
    static const char value[256];
    const struct store_edit edit = {STORE_EDIT_WRITE, 0, {value, sizeof value}};
    int64_t rev = kit_glance(k).rev;
    struct timespec a, b;

    for (int part = 0; part < N / PER_PART; part++) {
        for (int i = 0; i < PER_PART; i++) {
            snprintf(names[i], sizeof names[i], "f%05d", part * PER_PART + i);
            ops[i] = (struct store_op){.kind = STORE_OP_COMMIT, .parent = ROOT, .name = kit_str(names[i]), .new_ino = kit_ino(k, STORE_FILE),
                                       .mode = 0644, .edits = &edit, .n_edits = 1};
        }
        assert_int_equal(stage(k, 9, part, ops, PER_PART, NULL, 0), 0);
    }
    clock_gettime(CLOCK_MONOTONIC, &a);
    assert_int_equal(commit_staged(k, 9, N / PER_PART), 0);
    clock_gettime(CLOCK_MONOTONIC, &b);
    print_message("%d files of 256 bytes took %ld ms to apply\n", N, (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000);
    assert_int_equal(k->res.rev, rev + 1);
    assert_int_equal(kit_glance(k).n_files, N);
}

struct seen { /* events of the newest revision, with the paths that their directories had just then */
    struct kit *k;
    char text[512];
};

static void append_dir(struct seen *s, const struct store_event *e, uint64_t dir, int depth)
{
    struct store_dir_at at;

    assert_true(depth < 8);
    assert_int_equal(store_dir_at(s->k->r, e->rev, e->sub, dir, &at), 0);
    if (at.parent == 0)
        return;
    append_dir(s, e, at.parent, depth + 1);
    snprintf(s->text + strlen(s->text), sizeof s->text - strlen(s->text), "%.*s/", (int)at.name_len, at.name);
}

static bool on_event(void *data, const struct store_event *e)
{
    struct seen *s = data;

    append_dir(s, e, e->parent, 0);
    snprintf(s->text + strlen(s->text), sizeof s->text - strlen(s->text), "%.*s:%.*s ", (int)e->name.len, (const char *)e->name.data,
             (int)e->cause.len, (const char *)e->cause.data);
    return true;
}

static void paths_are_those_of_the_moment_within_a_revision(void **state)
{
    struct kit *k = *state;
    struct seen s = {.k = k};
    uint64_t d = kit_ino(k, STORE_DIR);
    const struct store_op ops[] = {
        {.kind = STORE_OP_MKDIR, .parent = ROOT, .name = B("d"), .new_ino = d, .mode = 0755},
        {.kind = STORE_OP_CREATE, .parent = d, .name = B("x"), .new_ino = kit_ino(k, STORE_FILE), .mode = 0644},
        {.kind = STORE_OP_RENAME, .parent = ROOT, .name = B("d"), .parent2 = ROOT, .name2 = B("e")},
        {.kind = STORE_OP_CREATE, .parent = d, .name = B("y"), .new_ino = kit_ino(k, STORE_FILE), .mode = 0644},
    };
    struct store_command cmd = kit_command(k, ops, 4);
    struct store_dir_at at;

    cmd.cause = "txn";
    assert_int_equal(kit_apply(k, &cmd, 1), 0);
    assert_int_equal(k->res.err, 0);
    for (int round = 0; round < 2; round++) { /* the second time with newer versions before it */
        s.text[0] = 0;
        assert_int_equal(store_events(k->r, k->res.rev - round - 1, on_event, &s), 0);
        assert_int_equal(strncmp(s.text, "d:txn d/x:txn e:txn e/y:txn ", 28), 0);
        kit_rename(k, ROOT, "e", ROOT, "f", 0);
    }
    assert_int_equal(store_dir_at(k->r, 1, 0, d, &at), QE_NOENT);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static void parts_come_in_order_and_belong_together(void **state)
{
    struct kit *k = *state;

    assert_int_equal(stage_mkdir(k, 7, 1, "d1"), QE_STALE);
    assert_int_equal(stage_mkdir(k, 7, 0, "d0"), 0);
    assert_int_equal(stage_mkdir(k, 8, 1, "d1"), QE_STALE);
    assert_int_equal(stage_mkdir(k, 7, 2, "d2"), QE_STALE);
    assert_int_equal(commit_staged(k, 8, 1), QE_STALE);
    assert_int_equal(commit_staged(k, 7, 2), QE_STALE); /* and the parts are forgotten */
    assert_int_equal(commit_staged(k, 7, 1), QE_STALE);
    assert_int_equal(stage_mkdir(k, 7, 0, "old"), 0);
    assert_int_equal(stage_mkdir(k, 8, 0, "new"), 0); /* takes the place of 7 */
    assert_int_equal(commit_staged(k, 8, 1), 0);
    kit_assert_list(k, STORE_HEAD, ROOT, "new");
}

static void only_operations_of_the_tree_can_be_staged(void **state)
{
    struct kit *k = *state;
    const struct store_op op = {.kind = STORE_OP_SETTING, .name = B("quota"), .bytes = B("3G")};

    assert_int_equal(stage(k, 7, 0, &op, 1, NULL, 0), 0);
    assert_int_equal(commit_staged(k, 7, 1), QE_INVAL);
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_STAGE, .ino = 7}), QE_INVAL);
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_STAGE, .ino = 0, .bytes = B("x")}), QE_INVAL);
}

static void too_much_is_refused(void **state)
{
    struct kit *k = *state;
    static char part[16 << 20];
    int err = 0, n = 0;

    for (; !err && n < 10; n++)
        err = kit_op(k, &(struct store_op){.kind = STORE_OP_STAGE, .ino = 7, .rev = n, .bytes = {part, sizeof part}});
    assert_int_equal(err, QE_2BIG);
    assert_int_equal(n, STORE_STAGE_BYTES_MAX / (int)sizeof part + 1);
    assert_int_equal(stage_mkdir(k, 8, 0, "d"), 0); /* forgets it */
    assert_int_equal(commit_staged(k, 8, 1), 0);
}

static void the_end_of_a_session_forgets_its_parts(void **state)
{
    struct kit *k = *state;

    assert_int_equal(stage_mkdir(k, 7, 0, "d"), 0);
    kit_start(k); /* which ends the one before */
    assert_int_equal(commit_staged(k, 7, 1), QE_STALE); /* of another session */
    kit_check(k); /* no row without a session, the hash fits */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(what_was_read_must_be_unchanged),
        KIT_TEST(demands_name_a_path),
        KIT_TEST(a_failure_tells_which),
        KIT_TEST(a_staged_transaction_is_one_revision),
        KIT_TEST(all_conditions_come_before_all_operations),
        KIT_TEST(nothing_of_a_failed_transaction_stays),
        KIT_TEST(ten_thousand_operations_are_one_revision),
        KIT_TEST(paths_are_those_of_the_moment_within_a_revision),
        KIT_TEST(parts_come_in_order_and_belong_together),
        KIT_TEST(only_operations_of_the_tree_can_be_staged),
        KIT_TEST(too_much_is_refused),
        KIT_TEST(the_end_of_a_session_forgets_its_parts),
    };

    return cmocka_run_group_tests_name("store/txn", tests, NULL, NULL);
}
