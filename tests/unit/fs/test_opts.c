/* The command line, the settings and their precedence: fs/cmdline.c, fs/opts_load.c, fs/opts.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/opts.h"
#include "store/base/err.h"
#include "store/store.h"

/* ---- Fixture ------------------------------------------------------------------------------------------------------------------- */

struct fixture {
    char dir[64];
    struct fs_options o;
    struct buf why;
    enum opts_command command;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    snprintf(f->dir, sizeof f->dir, "/tmp/qfs-opts.XXXXXX");
    *state = f;
    unsetenv("QUORUMFS_TIMEOUT");
    return mkdtemp(f->dir) ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char conf[128];

    snprintf(conf, sizeof conf, "%s/quorumfs.conf", f->dir);
    unlink(conf);
    rmdir(f->dir);
    opts_free(&f->o);
    buf_fini(&f->why);
    free(f);
    return 0;
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------------- */

/* Parses a command line, words between blanks, and loads the settings if that went well. Returns the exit status. */
static int run(struct fixture *f, const char *line)
{
    char copy[512], *argv[32], *rest = copy, *word;
    int argc = 0, status;

    opts_free(&f->o);
    buf_clear(&f->why);
    snprintf(copy, sizeof copy, "%s", line);
    while ((word = strsep(&rest, " ")))
        argv[argc++] = word;
    argv[argc] = NULL;
    status = opts_parse(argc, argv, &f->o, &f->command, &f->why);
    if (status || f->command == OPTS_HELP || f->command == OPTS_VERSION)
        return status;
    free(f->o.dir);
    f->o.dir = strdup(f->dir);
    return opts_load(&f->o, &f->why);
}

static void conf_is(struct fixture *f, const char *text)
{
    char path[128];
    FILE *out;

    snprintf(path, sizeof path, "%s/quorumfs.conf", f->dir);
    out = fopen(path, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, strlen(text), out), strlen(text));
    assert_int_equal(fclose(out), 0);
}

/* The command line is refused with this status, and the sentence has all these words. */
#define refused(f, status, line, ...) \
    do { \
        const char *words[] = {__VA_ARGS__}; \
        assert_int_equal(run(f, line), status); \
        for (size_t i_ = 0; i_ < sizeof words / sizeof *words; i_++) \
            if (!strstr(buf_cstr(&(f)->why), words[i_])) \
                fail_msg("\"%s\" is not in: %s", words[i_], buf_cstr(&(f)->why)); \
        assert_null(strchr(buf_cstr(&(f)->why), '\n')); \
    } while (0)

static const char *shown(struct fixture *f, const char *name)
{
    static struct buf text;

    buf_clear(&text);
    assert_int_equal(fs_options_show(&f->o, name, &text), 0);
    return buf_cstr(&text);
}

static const char *cluster_value(struct fixture *f, const char *name)
{
    for (size_t i = 0; i < f->o.n_cluster; i++)
        if (!strcmp(f->o.cluster[i].name, name))
            return f->o.cluster[i].value;
    return NULL;
}

/* ---- Success ------------------------------------------------------------------------------------------------------------------- */

/* With nothing said, the defaults count, and a person who mounts may create. */
static void test_defaults(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(run(f, "quorumfs mount d m"), 0);
    assert_int_equal(f->command, OPTS_MOUNT);
    assert_string_equal(f->o.mountpoint, "m");
    assert_true(f->o.create && !f->o.foreground && !f->o.from_mount8 && !f->o.read_only);
    assert_int_equal(f->o.timeout_ms, 5000);
    assert_string_equal(shown(f, "id"), "1");
    assert_string_equal(shown(f, "listen"), "");
    assert_string_equal(shown(f, "timeout"), "5s");
    assert_string_equal(shown(f, "reads"), "linearizable");
    assert_string_equal(shown(f, "insecure"), "no");
    assert_false(f->o.id_given);
}

/* quorumfs.conf < environment < command line, and among the words of the command line the last one counts. */
static void test_precedence(void **state)
{
    struct fixture *f = *state;

    conf_is(f, "# a comment\ntimeout = 1s\nid = 7\n");
    assert_int_equal(run(f, "quorumfs mount d m"), 0);
    assert_int_equal(f->o.timeout_ms, 1000);
    assert_int_equal(f->o.id, 7);
    assert_true(f->o.id_given);
    assert_int_equal(run(f, "quorumfs init d --from x.db"), 0);
    assert_string_equal(f->o.from, "x.db");
    refused(f, OPTS_EXIT_USAGE, "quorumfs init d --from", "--from", "value");
    setenv("QUORUMFS_TIMEOUT", "2", 1);
    assert_int_equal(run(f, "quorumfs mount d m"), 0);
    assert_int_equal(f->o.timeout_ms, 2000);
    assert_int_equal(run(f, "quorumfs mount d m -o timeout=250ms"), 0);
    assert_string_equal(shown(f, "timeout"), "250ms");
    assert_int_equal(run(f, "quorumfs mount d m -o timeout=3 --timeout=2m"), 0);
    assert_int_equal(f->o.timeout_ms, 120000);
    assert_string_equal(shown(f, "timeout"), "2m");
    unsetenv("QUORUMFS_TIMEOUT");
}

/* A line that the parser took for the continuation of another would be a trap. */
static void test_indented_settings_are_not_joined(void **state)
{
    struct fixture *f = *state;

    conf_is(f, "timeout = 1s\n   reads = local\n");
    assert_int_equal(run(f, "quorumfs mount d m"), OPTS_EXIT_FAILED);
}

/* mount(8) may not create a cluster unless it is told to; its own words are understood. */
static void test_mount8(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(run(f, "/usr/sbin/mount.fuse.quorumfs d m -sn -v -o rw,user=x,_netdev,x-systemd.requires=y,comment=z"), 0);
    assert_true(f->o.from_mount8 && !f->o.create && !f->o.fake && !f->o.foreground);
    assert_int_equal(run(f, "mount.fuse.quorumfs d m -f -o ro,noatime,create,noexec,dev,suid"), 0);
    assert_true(f->o.create && f->o.fake && f->o.read_only && !f->o.foreground);
    assert_string_equal(f->o.kernel_opts, "noatime,noexec");
    assert_int_equal(run(f, "quorumfs mount d m -o nocreate -f"), 0);
    assert_true(!f->o.create && f->o.foreground);
}

/* Cluster settings are collected in their canonical form for the creation of a cluster. */
static void test_cluster_settings(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(run(f, "quorumfs init d --quota 3G --quota=4G --max-value 2M --id 9"), 0);
    assert_int_equal(f->command, OPTS_INIT);
    assert_int_equal(f->o.n_cluster, 2);
    assert_non_null(cluster_value(f, "quota"));
    assert_int_equal(store_setting_check("quota", cluster_value(f, "quota"), NULL, NULL), 0);
    assert_string_equal(cluster_value(f, "quota"), "4G");
    assert_string_equal(cluster_value(f, "max-value"), "2M");
    assert_int_equal(f->o.id, 9);
}

static void test_save_keeps_member_settings(void **state)
{
    struct fixture *f = *state;
    int64_t was;

    assert_int_equal(run(f, "quorumfs init d --quota 3G --id 9 --timeout 7s"), 0);
    assert_int_equal(opts_save(&f->o, &was, &f->why), 0);
    opts_unsave(&f->o, was); /* an init that failed */
    assert_int_not_equal(access("d/quorumfs.conf", F_OK), 0);
    assert_int_equal(opts_save(&f->o, &was, &f->why), 0);
    assert_int_equal(run(f, "quorumfs mount d m"), 0);
    assert_int_equal(f->o.id, 9);
    assert_int_equal(f->o.timeout_ms, 7000);
    assert_int_equal(f->o.n_cluster, 0);
}

/* Every member setting can be shown, and what is shown can be given again. */
static void test_shown_values_are_values(void **state)
{
    struct fixture *f = *state;
    struct buf line = {0};

    assert_int_equal(run(f, "quorumfs mount d m --timeout 150ms"), 0);
    for (const char *const *name = fs_options_names(); *name; name++) {
        buf_clear(&line);
        buf_printf(&line, "quorumfs mount d m --%s=%s", *name, shown(f, *name));
        assert_int_equal(run(f, buf_cstr(&line)), 0);
        assert_int_equal(run(f, "quorumfs mount d m --timeout 150ms"), 0);
    }
    buf_fini(&line);
}

static void test_help_names_every_setting(void **state)
{
    struct fixture *f = *state;
    struct buf help = {0};
    size_t n;
    const struct store_setting_def *defs = store_setting_defs(&n);

    assert_int_equal(run(f, "quorumfs mount --help --nonsense"), 0);
    assert_int_equal(f->command, OPTS_HELP);
    assert_int_equal(run(f, "quorumfs --version"), 0);
    assert_int_equal(f->command, OPTS_VERSION);
    opts_help(&help);
    for (const char *const *name = fs_options_names(); *name; name++)
        assert_non_null(strstr(buf_cstr(&help), *name));
    for (size_t i = 0; i < n; i++)
        assert_non_null(strstr(buf_cstr(&help), defs[i].name));
    buf_fini(&help);
}

static void test_large_quota(void **state)
{
    (void)state;
    assert_true(opts_quota_is_large("quota", "9G"));
    assert_true(opts_quota_is_large("quota", "8193M"));
    assert_true(opts_quota_is_large("quota", "8589934593"));
    assert_false(opts_quota_is_large("quota", "8G"));
    assert_false(opts_quota_is_large("quota", "1000M"));
    assert_false(opts_quota_is_large("max-value", "9G"));
}

static void test_settle_id(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(run(f, "quorumfs mount d m"), 0);
    assert_int_equal(opts_settle_id(&f->o, 5, &f->why), 0);
    assert_int_equal(f->o.id, 5);
    assert_int_equal(run(f, "quorumfs mount d m --id 4"), 0);
    assert_int_equal(opts_settle_id(&f->o, 5, &f->why), QE_INVAL);
    assert_true(f->why.len > 0);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------------- */

static void test_wrong_usage(void **state)
{
    struct fixture *f = *state;

    refused(f, OPTS_EXIT_USAGE, "quorumfs", "mount, init or check");
    refused(f, OPTS_EXIT_USAGE, "quorumfs moont d m", "moont");
    refused(f, OPTS_EXIT_USAGE, "quorumfs mount", "DIR");
    refused(f, OPTS_EXIT_USAGE, "quorumfs mount d", "MOUNTPOINT");
    refused(f, OPTS_EXIT_USAGE, "quorumfs mount d m x", "\"x\"");
    refused(f, OPTS_EXIT_USAGE, "quorumfs init d m", "\"m\"");
    refused(f, OPTS_EXIT_USAGE, "quorumfs mount d m -q", "-q");
    refused(f, OPTS_EXIT_USAGE, "quorumfs mount d m -o", "-o");
    refused(f, OPTS_EXIT_USAGE, "quorumfs mount d m --timeout", "--timeout");
    refused(f, OPTS_EXIT_USAGE, "quorumfs check d --timeout=3", "--timeout");
    refused(f, OPTS_EXIT_USAGE, "mount.fuse.quorumfs d m -o remount,ro", "remount");
}

/* A refusal has the name, the value and what is allowed. */
static void test_unknown_names_and_bad_values(void **state)
{
    struct fixture *f = *state;

    refused(f, OPTS_EXIT_USAGE, "quorumfs mount d m --timout=3", "timout", "\"3\"", "timeout");
    refused(f, OPTS_EXIT_USAGE, "quorumfs mount d m -o timout=3", "timout", "\"3\"", "timeout");
    refused(f, OPTS_EXIT_USAGE, "quorumfs mount d m -o sync", "sync", "create");
    refused(f, OPTS_EXIT_USAGE, "quorumfs mount d m --timeout=50ms", "timeout", "\"50ms\"", "100ms");
    refused(f, OPTS_EXIT_USAGE, "quorumfs mount d m --timeout=-1", "timeout", "\"-1\"");
    refused(f, OPTS_EXIT_USAGE, "quorumfs mount d m --timeout=99999999999999999999", "timeout");
    refused(f, OPTS_EXIT_USAGE, "quorumfs mount d m --reads=remote", "\"remote\"", "linearizable or local");
    refused(f, OPTS_EXIT_USAGE, "quorumfs mount d m --id=0", "\"0\"");
    refused(f, OPTS_EXIT_USAGE, "quorumfs init d --quota=x", "quota", "x");
    setenv("QUORUMFS_TIMEOUT", "soon", 1);
    refused(f, OPTS_EXIT_USAGE, "quorumfs mount d m", "QUORUMFS_TIMEOUT", "\"soon\"", "100ms");
    unsetenv("QUORUMFS_TIMEOUT");
    setenv("QUORUMFS_TIMOUT", "3", 1);
    refused(f, OPTS_EXIT_USAGE, "quorumfs mount d m", "QUORUMFS_TIMOUT", "\"3\"", "timeout");
    unsetenv("QUORUMFS_TIMOUT");
}

static void test_bad_files(void **state)
{
    struct fixture *f = *state;
    char longline[300];

    conf_is(f, "timout = 3\n");
    refused(f, OPTS_EXIT_FAILED, "quorumfs mount d m", "timout", "\"3\"", "quorumfs.conf", "timeout");
    conf_is(f, "timeout = soon\n");
    refused(f, OPTS_EXIT_FAILED, "quorumfs mount d m --timeout=3", "\"soon\"", "quorumfs.conf");
    conf_is(f, "quota = 3G\n");
    refused(f, OPTS_EXIT_FAILED, "quorumfs mount d m", "quota", "whole cluster");
    conf_is(f, "\n\n[member]\n");
    refused(f, OPTS_EXIT_FAILED, "quorumfs mount d m", "line 3", "section");
    conf_is(f, "timeout\n");
    refused(f, OPTS_EXIT_FAILED, "quorumfs mount d m", "line 1");
    memset(longline, 'x', sizeof longline - 1);
    longline[sizeof longline - 1] = 0;
    conf_is(f, longline);
    refused(f, OPTS_EXIT_FAILED, "quorumfs mount d m", "line 1", "too long");
}

/* What is designed and not there yet says so. */
static void test_not_built_yet(void **state)
{
    struct fixture *f = *state;

    refused(f, OPTS_EXIT_FAILED, "quorumfs mount d m -o tls-cert=x", "tls-cert", "not built yet");
    refused(f, OPTS_EXIT_USAGE, "quorumfs init d --listen ::1:7000", "listen", "HOST:PORT");
    refused(f, OPTS_EXIT_USAGE, "quorumfs init d --listen host:99999", "listen", "HOST:PORT");
}

/* What init makes a cluster of. The list itself is looked at by the command. */
static void test_cluster_options(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(run(f, "quorumfs init d --id 2 --cluster 1=a:1,2=b:1 --token=x --listen b:1"), 0);
    assert_string_equal(f->o.cluster_list, "1=a:1,2=b:1");
    assert_string_equal(f->o.token, "x");
    assert_string_equal(f->o.listen, "b:1");
    assert_true(f->o.id_given);
    refused(f, OPTS_EXIT_USAGE, "quorumfs init d --cluster", "--cluster", "value");
    assert_int_equal(run(f, "quorumfs init d --join a:1 --listen b:1"), 0);
    assert_string_equal(f->o.join, "a:1");
    refused(f, OPTS_EXIT_USAGE, "quorumfs init d --token=", "--token", "value");
    refused(f, OPTS_EXIT_USAGE, "quorumfs mount d m --cluster 1=a:1", "cluster");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(defaults), TEST(precedence), TEST(indented_settings_are_not_joined), TEST(mount8), TEST(cluster_settings),
        TEST(save_keeps_member_settings), TEST(shown_values_are_values), TEST(help_names_every_setting), TEST(settle_id),
        TEST(large_quota),
        TEST(wrong_usage), TEST(unknown_names_and_bad_values), TEST(bad_files), TEST(not_built_yet),
        TEST(cluster_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
