/* The control tree's table and its writes: fs/control. Requests of FUSE and the way to the store are replaced, so that what a write
 * would do can be looked at. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "fs/control/at_name.h"
#include "fs/control/tree.h"
#include "fs/pending.h"

/* ---- Fixture ------------------------------------------------------------------------------------------------------------------- */

static struct { /* what the last write came to */
    int replied;      /* errno of the reply; -1 none */
    size_t submitted; /* operations */
    struct {
        enum store_op_kind kind;
        int64_t rev;
        char name[64], value[64];
    } ops[8];
} seen;
static int writable; /* what replica says */
enum { COMPACTED = 5 }; /* and what the store says */
static struct fs fs;

int __wrap_fuse_reply_err(fuse_req_t req, int err);
void *__wrap_fuse_req_userdata(fuse_req_t req);
const struct fuse_ctx *__wrap_fuse_req_ctx(fuse_req_t req);
int __wrap_fuse_reply_write(fuse_req_t req, size_t count);
int __wrap_replica_writable(struct replica *r);
void __wrap_replica_glance(struct replica *r, struct store_glance *out);
void __wrap_pending_submit(struct fs *fs, struct store_command *cmd, const struct pending_call *call);

int __wrap_fuse_reply_err(fuse_req_t req, int err)
{
    (void)req;
    seen.replied = err;
    return 0;
}

int __wrap_fuse_reply_write(fuse_req_t req, size_t count)
{
    (void)req, (void)count;
    seen.replied = 0;
    return 0;
}

void __wrap_replica_glance(struct replica *r, struct store_glance *out)
{
    (void)r;
    *out = (struct store_glance){.compacted = COMPACTED};
}

void *__wrap_fuse_req_userdata(fuse_req_t req)
{
    (void)req;
    return &fs;
}

const struct fuse_ctx *__wrap_fuse_req_ctx(fuse_req_t req)
{
    static const struct fuse_ctx ctx;

    (void)req;
    return &ctx;
}

int __wrap_replica_writable(struct replica *r)
{
    (void)r;
    return writable;
}

static void copy_bytes(char to[64], struct store_bytes from)
{
    if (from.len)
        memcpy(to, from.data, from.len < 63 ? from.len : 63);
}

void __wrap_pending_submit(struct fs *f, struct store_command *cmd, const struct pending_call *call)
{
    assert_ptr_equal(f, &fs);
    assert_ptr_equal(call->done, pending_done_write);
    seen.submitted = cmd->n_ops;
    for (size_t i = 0; i < cmd->n_ops && i < 8; i++) {
        seen.ops[i].kind = cmd->ops[i].kind;
        seen.ops[i].rev = cmd->ops[i].rev;
        copy_bytes(seen.ops[i].name, cmd->ops[i].name);
        copy_bytes(seen.ops[i].value, cmd->ops[i].bytes);
    }
}

static int setup(void **state)
{
    (void)state;
    log_set_level(LOG_LEVEL_ERROR); /* refusals are logged as warnings */
    writable = 0;
    return 0;
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------------- */

static struct control_ref ref_of(const char *dir, const char *name)
{
    fuse_ino_t node = dir ? control__find(FS_CONTROL_ROOT, dir) : FS_CONTROL_ROOT;
    struct control_ref ref;

    node = control__find(node, name);
    assert_true(node != 0);
    assert_true(control__ref(node, &ref));
    return ref;
}

/* One write(2) to a file: what was replied at once; -1 if it went to the store. */
static int written(const char *dir, const char *name, const char *data, size_t size)
{
    struct control_ref ref = ref_of(dir, name);

    memset(&seen, 0, sizeof seen);
    seen.replied = -1;
    control__write(NULL, &ref, data, size);
    assert_true((seen.replied == -1) == (seen.submitted > 0));
    return seen.replied;
}

static int wrote(const char *dir, const char *name, const char *text)
{
    return written(dir, name, text, strlen(text));
}

/* ---- Success ------------------------------------------------------------------------------------------------------------------- */

/* A row that is the root of a view: the view exists, and has what is not optional. */
static void check_view(fuse_ino_t root, const char *name)
{
    const struct control_view *view = control__view_of(root);

    assert_true(root == fs_node(fs_view_of(root), VIEW_ROOT));
    assert_string_equal(control__row_of_view(fs_view_of(root))->name, name);
    assert_non_null(view);
    assert_true(view->refusal > 0);
    assert_true(view->lookup && view->getattr && view->open && view->opendir && view->readdir);
    assert_true(!view->read == !view->release);
}

/* Every name is found, every node leads back to its row, and nothing is writable that understands no commands. */
static void check_entry(fuse_ino_t dir, size_t i, int depth)
{
    struct control_ref ref;
    const char *name;
    fuse_ino_t node = control__entry(dir, i, &name);

    assert_true(control__find(dir, name) == node);
    if (fs_view_of(node) != FS_VIEW_CONTROL) {
        check_view(node, name);
        return;
    }
    assert_true(control__ref(node, &ref));
    assert_string_equal(ref.child ? ref.child : ref.row->name, name);
    if (!ref.row->command || ref.row->child)
        assert_int_equal(ref.row->mode & 0222, 0);
    if (S_ISREG(ref.mode))
        assert_non_null(ref.row->read);
    if (S_ISDIR(ref.mode) && depth < 3)
        for (size_t j = 0; control__entry(node, j, &name); j++)
            check_entry(node, j, depth + 1);
}

static void test_table_is_consistent(void **state)
{
    const char *name;
    size_t n, rows;

    (void)state;
    control__rows(&rows);
    for (n = 0; control__entry(FS_CONTROL_ROOT, n, &name); n++)
        check_entry(FS_CONTROL_ROOT, n, 1);
    assert_int_equal(n, rows);
    assert_true(control__find(FS_CONTROL_ROOT, "nothing") == 0);
    assert_true(control__find(FS_CONTROL_ROOT, "local") == fs_node(FS_VIEW_LOCAL, STORE_ROOT_INO));
    assert_null(control__view_of(fs_node((enum fs_view)999, 1)));
}

static void test_names_of_at(void **state)
{
    static const struct { const char *name; enum at_kind kind; int64_t value; } names[] = {
        {"1", AT_REVISION, 1}, {"1042", AT_REVISION, 1042}, {"0", AT_REVISION, 0}, {"01", AT_NOTHING, 0}, {"-1", AT_NOTHING, 0},
        {"1x", AT_NOTHING, 0}, {"", AT_NOTHING, 0}, {"9999999999999999999", AT_NOTHING, 0},
        {"head-0", AT_HEAD, 0}, {"head-12", AT_HEAD, 12}, {"head-", AT_NOTHING, 0}, {"head-01", AT_NOTHING, 0}, {"head", AT_NOTHING, 0},
        {"1970-01-01T00:00:00Z", AT_TIME, 0}, {"2001-09-09T01:46:40Z", AT_TIME, INT64_C(1000000000000000000)},
        {"2001-09-09T01:46:40.25Z", AT_TIME, INT64_C(1000000000250000000)}, {"2001-09-09T01:46Z", AT_TIME, INT64_C(999999960000000000)},
        {"2001-09-09", AT_TIME, INT64_C(999993600000000000)}, {"2024-02-29", AT_TIME, INT64_C(1709164800000000000)},
        {"2023-02-29", AT_NOTHING, 0}, {"2001-09-09T01:46:40", AT_NOTHING, 0}, {"2001-09-09T24:00Z", AT_NOTHING, 0},
        {"2001-9-9", AT_NOTHING, 0}, {"2001-09-09T01:46:40.Z", AT_NOTHING, 0}, {"2001-09-09T01:46:40Zx", AT_NOTHING, 0}};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int64_t value = 0;

        if (at_name_parse(names[i].name, &value) != names[i].kind)
            fail_msg("%s is taken for something else", names[i].name);
        if (names[i].kind != AT_NOTHING)
            assert_true(value == names[i].value);
    }
}

static void test_unknown_nodes_are_refused(void **state)
{
    struct control_ref ref;
    size_t rows;
    const uint64_t numbers[] = {0, (control__rows(&rows), rows + 2), 1000, 2 << 16 | 1, 5 << 16 | 999, 5000 << 16 | 1, UINT64_C(1) << 40};

    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        assert_false(control__ref(fs_node(FS_VIEW_CONTROL, numbers[i]), &ref));
    assert_false(control__ref(STORE_ROOT_INO, &ref));
}

/* The last newline is optional. */
static void test_config_write(void **state)
{
    (void)state;
    assert_int_equal(wrote("config", "quota", "3G\n"), -1);
    assert_int_equal(seen.submitted, 1);
    assert_int_equal(seen.ops[0].kind, STORE_OP_SETTING);
    assert_string_equal(seen.ops[0].name, "quota");
    assert_string_equal(seen.ops[0].value, "3G");
    assert_int_equal(wrote("config", "quota", "4G"), -1);
    assert_string_equal(seen.ops[0].value, "4G");
}

/* Several lines are one command of the store. */
static void test_lines_are_one_command(void **state)
{
    (void)state;
    assert_int_equal(wrote(NULL, "compact", "7\n8\n900"), -1);
    assert_int_equal(seen.submitted, 1);
    assert_int_equal(seen.ops[0].kind, STORE_OP_COMPACT);
    assert_int_equal(seen.ops[0].rev, 900);
    assert_int_equal(wrote(NULL, "compact", "900\n8\n"), -1);
    assert_int_equal(seen.ops[0].rev, 900);
    assert_int_equal(wrote("config", "max-value", "2M\n3M\n"), -1);
    assert_int_equal(seen.submitted, 1);
    assert_string_equal(seen.ops[0].value, "3M");
}

/* What is compacted already needs no command: success. */
static void test_compacting_again_does_nothing(void **state)
{
    (void)state;
    assert_int_equal(wrote(NULL, "compact", "5\n3\n"), 0);
    assert_int_equal(wrote(NULL, "compact", "6\n"), -1);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------------- */

static void test_bad_values(void **state)
{
    (void)state;
    assert_int_equal(wrote("config", "quota", "lots\n"), EINVAL);
    assert_int_equal(wrote("config", "quota", "700M\nnonsense\n"), EINVAL);
    assert_int_equal(wrote("config", "quota", "\n"), EINVAL);
    assert_int_equal(wrote(NULL, "compact", "x\n"), EINVAL);
    assert_int_equal(wrote(NULL, "compact", "-1\n"), EINVAL);
    assert_int_equal(wrote(NULL, "compact", " 1\n"), EINVAL);
    assert_int_equal(wrote(NULL, "compact", "1 2\n"), EINVAL);
    assert_int_equal(wrote(NULL, "compact", "99999999999999999999\n"), EINVAL);
    assert_int_equal(written(NULL, "compact", "1\0002\n", 4), EINVAL);
}

/* One bad line: none of them takes effect. */
static void test_all_or_nothing(void **state)
{
    (void)state;
    assert_int_equal(wrote(NULL, "compact", "7\nx\n8\n"), EINVAL);
    assert_int_equal(wrote(NULL, "compact", "7\n\n8\n"), EINVAL);
}

static void test_read_only_rows(void **state)
{
    (void)state;
    assert_int_equal(wrote(NULL, "status", "x\n"), EACCES);
    assert_int_equal(wrote("config", "timeout", "3\n"), EACCES);
}

static void test_long_writes(void **state)
{
    char *data = malloc(65537);

    (void)state;
    assert_non_null(data);
    memset(data, '0', 65537);
    assert_int_equal(written(NULL, "compact", data, 65537), EINVAL);
    assert_int_equal(written(NULL, "compact", data, 65536), 0); /* many zeros are a number, and revision 0 is compacted */
    memset(data, '\n', 65536);
    assert_int_equal(written(NULL, "compact", data, 65536), EINVAL);
    free(data);
}

/* What is known to fail fails before it is sent. */
static void test_without_quorum(void **state)
{
    (void)state;
    writable = QE_TIMEDOUT;
    assert_int_equal(wrote("config", "quota", "3G\n"), ETIMEDOUT);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(test_##name, setup)
    const struct CMUnitTest tests[] = {
        TEST(table_is_consistent), TEST(names_of_at), TEST(unknown_nodes_are_refused), TEST(config_write), TEST(lines_are_one_command), TEST(compacting_again_does_nothing),
        TEST(bad_values), TEST(all_or_nothing), TEST(read_only_rows), TEST(long_writes), TEST(without_quorum),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
