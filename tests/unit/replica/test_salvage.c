/* A new cluster from the data directory of a member (init --from DIR): what only its log has is in it, and the directory stays as it is. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "replica/segment.h"
#include "store/base/err.h"
#include "tests/unit/replica/cluster_fixture.h"

/* ---- Fixture ------------------------------------------------------------------------------------------------------------- */

static struct member old, new; /* `new` is in a directory beside the old one's */
static char raft[300];

static int setup(void **state)
{
    (void)state;
    member_make(&old);
    new = old;
    snprintf(new.dir, sizeof new.dir, "%s/new", old.parent);
    snprintf(raft, sizeof raft, "%s/raft", old.dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (new.r)
        member_down(&new);
    member_remove(&old);
    return 0;
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

/* In the directory that holds both. */
static void shell(const char *text)
{
    char cmd[1024];

    snprintf(cmd, sizeof cmd, "cd '%s' && %s", old.parent, text);
    if (system(cmd))
        fail_msg("failed: %s", text);
}

/* A life of the old member: begun, `n` files NAME1, NAME2, ..., ended. Its log is a segment more then. */
static void live(const char *name, int n)
{
    char file[40];

    member_up(&old);
    for (int i = 1; i <= n; i++) {
        snprintf(file, sizeof file, "%s%d", name, i);
        assert_int_equal(member_put(&old, file, file), 0);
    }
    member_down(&old);
}

static int restore(struct buf *why)
{
    const struct replica_init init = {.dir = new.dir, .member_id = 1, .from = old.dir};
    int err;

    shell("cp -a dir before");
    err = replica_init(&init, why);
    shell("diff -r dir before && rm -r before");
    return err;
}

static void restored(void)
{
    struct buf why = {0};

    if (restore(&why))
        fail_msg("%s", buf_cstr(&why));
    member_up(&new);
    buf_fini(&why);
}

static void refused(const char *word)
{
    struct buf why = {0};

    assert_int_equal(restore(&why), QE_CORRUPT);
    assert_says(&why, word);
    assert_says(&why, "begin with"); /* what to do */
    assert_int_not_equal(replica_dir_state(new.dir, NULL), REPLICA_DIR_READY);
    buf_fini(&why);
}

/* NAME1 to NAMEn are there, and no more. */
static void has(const char *name, int n)
{
    struct buf content = {0};
    char file[40];

    for (int i = 1; i <= n; i++) {
        snprintf(file, sizeof file, "%s%d", name, i);
        if (member_get(&new, file, &content))
            fail_msg("there is no %s", file);
        assert_string_equal(buf_cstr(&content), file);
    }
    snprintf(file, sizeof file, "%s%d", name, n + 1);
    assert_int_equal(member_get(&new, file, &content), QE_NOENT);
    buf_fini(&content);
}

/* The file of raft/ that holds the last entries, or with `back` one before it; its path. */
static void last_segment(size_t back, char path[400])
{
    struct segment_file *files = NULL;
    struct segment_scan s;
    struct buf why = {0};
    size_t n = 0, at = 0;

    assert_int_equal(segment_list(raft, &files, &n, &why), 0);
    for (size_t i = 0; i < n; i++)
        if (segment_scan(raft, &files[i], NULL, &s) == 0 && s.n_entries > 0)
            at = i;
    assert_true(at >= back);
    snprintf(path, 400, "%s/%s", raft, files[at - back].name);
    free(files);
    buf_fini(&why);
}

static int dies(void *arg)
{
    int n = *(int *)arg;
    char file[40];

    member_up(&old);
    for (int i = 1; i <= n; i++) {
        snprintf(file, sizeof file, "b%d", i);
        if (member_put(&old, file, file))
            _exit(1);
    }
    _exit(7);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void what_only_the_log_has_is_applied(void **state)
{
    (void)state;
    live("a", 2);
    shell("mkdir keep && cp dir/state-1.db* keep/");
    live("b", 100);
    live("c", 1);
    shell("rm dir/state-1.db* && cp keep/* dir/");
    restored();
    has("a", 2);
    has("b", 100);
    has("c", 1);
    assert_int_equal(member_put(&new, "new", "v"), 0);
}

/* The database with its WAL, and the log with its open segments, as they are when the process is killed. */
static void killed_member_loses_nothing(void **state)
{
    int status, n = 50;

    (void)state;
    live("a", 1);
    shell("mkdir keep && cp dir/state-1.db* keep/");
    status = member_child(NULL, dies, &n);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    restored();
    has("b", n);
    member_down(&new);
    shell("rm -r new dir/state-1.db* && cp keep/* dir/"); /* and without what SQLite had */
    restored();
    has("a", 1);
    has("b", n);
}

/* Its beginning is gone, and a marker says so; often, in builds with failpoints. */
static void log_that_was_cut_goes_on_from_its_marker(void **state)
{
    char markers[400];

    (void)state;
    live("before", 1);
    shell("mkdir early && cp dir/state-1.db* early/");
    setenv("QUORUMFS_TEST_MARKER_BYTES", "20000", 1);
    live("a", 400);
    shell("mkdir keep && cp dir/state-1.db* keep/");
    live("b", 20);
    unsetenv("QUORUMFS_TEST_MARKER_BYTES");
    shell("rm dir/state-1.db* && cp keep/* dir/");
    restored();
    has("a", 400);
    has("b", 20);
    member_down(&new);
    shell("rm -r new dir/state-1.db* && cp early/* dir/");
    snprintf(markers, sizeof markers, "ls %s/snapshot-* >/dev/null", raft);
    if (system(markers) == 0) /* what the early database lacks is gone */
        refused("what lies between is missing");
}

/* The last write of an open segment did not reach the disk whole: it was never acknowledged. */
static void torn_last_entry_is_left_out(void **state)
{
    struct segment_scan s;
    struct segment_file f = {.kind = SEGMENT_OPEN};
    int n = 5;
    char path[400];

    (void)state;
    live("a", 1);
    shell("mkdir keep && cp dir/state-1.db* keep/");
    member_child(NULL, dies, &n);
    last_segment(0, path);
    snprintf(f.name, sizeof f.name, "%s", strrchr(path, '/') + 1);
    assert_int_equal(segment_scan(raft, &f, NULL, &s), 0);
    flip_byte(path, (long)s.used_bytes - 40);
    shell("rm dir/state-1.db* && cp keep/* dir/");
    restored();
    has("b", n - 1);
}

/* What it had submitted was not committed when the others were lost, and nobody knows: it takes effect. */
static void entries_that_nobody_can_vouch_for_are_applied(void **state)
{
    static struct cluster c;
    struct buf content = {0};
    char cmd[400];
    uint32_t leader;
    bool logged;

    (void)state;
    cluster_make(&c, 3);
    cluster_up(&c);
    leader = cluster_leader(&c);
    wait_until(member_put(&c.m[leader], "before", "1") == 0);
    for (uint32_t id = 1; id <= 3; id++)
        if (id != leader)
            member_down(&c.m[id]);
    assert_int_not_equal(member_put(&c.m[leader], "uncommitted", "2"), 0);
    member_down(&c.m[leader]);
    snprintf(cmd, sizeof cmd, "cp -a '%s' dir", c.m[leader].dir);
    shell(cmd);
    snprintf(cmd, sizeof cmd, "grep -rq uncommitted '%s'", raft);
    logged = system(cmd) == 0; /* or it had stopped to lead before */
    restored();
    assert_int_equal(member_get(&new, "before", &content), 0);
    assert_int_equal(member_get(&new, "uncommitted", &content), logged ? 0 : QE_NOENT);
    buf_fini(&content);
    cluster_remove(&c);
}

/* As the sentences of refusals advise. */
static void without_its_log_the_database_alone_is_used(void **state)
{
    (void)state;
    live("a", 1);
    shell("mkdir keep && cp dir/state-1.db* keep/");
    live("b", 1);
    shell("rm -r dir/state-1.db* dir/raft && cp keep/* dir/");
    restored();
    has("a", 1);
    has("b", 0);
}

/* Also after a refusal, in the directory that it has begun to make. */
static void damage_below_what_the_database_has_is_no_matter(void **state)
{
    char path[400];

    (void)state;
    live("a", 1);
    live("b", 1);
    shell("mkdir keep && cp dir/state-1.db* keep/");
    live("c", 1);
    last_segment(2, path);
    flip_byte(path, 60);
    shell("mkdir newer && cp dir/state-1.db* newer/ && rm dir/state-1.db* && cp keep/* dir/");
    last_segment(0, path);
    flip_byte(path, 60);
    refused("is damaged behind index");
    flip_byte(path, 60);
    restored();
    has("a", 1);
    has("b", 1);
    has("c", 1);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static void gap_in_the_log_is_refused(void **state)
{
    char path[400];

    (void)state;
    live("a", 1);
    shell("mkdir keep && cp dir/state-1.db* keep/");
    live("b", 1);
    live("c", 1);
    shell("rm dir/state-1.db* && cp keep/* dir/");
    last_segment(1, path);
    assert_int_equal(unlink(path), 0);
    refused("what lies between is missing");
}

static void log_of_another_directory_is_refused(void **state)
{
    (void)state;
    live("a", 1);
    shell("mv dir other");
    live("a", 1);
    shell("rm -r dir/raft && cp -a other/raft dir/");
    refused("do not belong together");
}

static void keep_text(void *data, const char *line)
{
    (void)buf_printf(data, "%s\n", line);
}

/* The same member went on twice from one moment on. The check finds it, as a start does. */
static void log_that_went_another_way_is_refused(void **state)
{
    struct buf said = {0};

    (void)state;
    live("a", 1);
    shell("cp -a dir other");
    live("b", 1);
    shell("mv dir this && mv other dir");
    live("c", 2);
    shell("rm -r dir/state-1.db* && cp this/state-1.db* dir/");
    assert_int_equal(replica_check(old.dir, keep_text, &said), QE_CORRUPT);
    assert_says(&said, "is not the one that the database has applied");
    buf_fini(&said);
    refused("is not the one that the database has applied");
}

/* A closed segment is missing; the database has what it held, but not what the open one holds. */
static void log_that_ends_below_the_database_is_refused(void **state)
{
    char path[400];
    int n = 2, status;

    (void)state;
    live("a", 1);
    live("x", 20);
    shell("mkdir keep && cp dir/state-1.db* keep/");
    last_segment(0, path);
    status = member_child(NULL, dies, &n);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    assert_int_equal(unlink(path), 0);
    shell("rm dir/state-1.db* && cp keep/* dir/");
    refused("ends at index");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(log_that_ends_below_the_database_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(what_only_the_log_has_is_applied, setup, teardown),
        cmocka_unit_test_setup_teardown(killed_member_loses_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(log_that_was_cut_goes_on_from_its_marker, setup, teardown),
        cmocka_unit_test_setup_teardown(torn_last_entry_is_left_out, setup, teardown),
        cmocka_unit_test_setup_teardown(entries_that_nobody_can_vouch_for_are_applied, setup, teardown),
        cmocka_unit_test_setup_teardown(without_its_log_the_database_alone_is_used, setup, teardown),
        cmocka_unit_test_setup_teardown(damage_below_what_the_database_has_is_no_matter, setup, teardown),
        cmocka_unit_test_setup_teardown(gap_in_the_log_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(log_of_another_directory_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(log_that_went_another_way_is_refused, setup, teardown),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
