/* Every disk call of init, and of a run (start, writes, a marker, stop), fails once, one after the other. Whatever fails: the call
 * that was made succeeds or says why in a sentence, nothing acknowledged is lost, and without the failure it works again.
 *
 * QUORUMFS_TEST_FIRST: the first call that fails (1), to go on where a run has stopped. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/base/err.h"
#include "store/base/log.h"
#include "tests/fault/replica/shim.h"
#include "tests/unit/replica/member_fixture.h"

enum { CALLS_MAX = 2000, WRITES = 12, TEXT = 400, SECONDS = 60 };

struct shared { /* between a test and the children it makes */
    struct member m;
    int nth, error;
    bool fired;
    char what[32];
    char why[512];       /* the sentence */
    int acked;           /* writes that were answered with success */
};
static struct shared *sh;

static int setup(void **state)
{
    (void)state;
    sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(sh != MAP_FAILED);
    return 0;
}

static void note(const struct buf *why)
{
    sh->fired = shim_fired();
    snprintf(sh->what, sizeof sh->what, "%s", shim_what());
    snprintf(sh->why, sizeof sh->why, "%.*s", (int)why->len, why->len ? (const char *)why->data : "");
}

/* ---- The bodies (each in a child) ---------------------------------------------------------------------------------------- */

static int init_body(void *arg)
{
    struct buf why = {0};
    int err;

    (void)arg;
    alarm(SECONDS);
    shim_arm(sh->nth, sh->error);
    err = member_init(&sh->m, &why);
    shim_disarm();
    note(&why);
    return err ? (why.len ? 1 : 3) : 0;
}

static void text_of(int i, char *text)
{
    memset(text, 'a' + i % 26, TEXT);
    text[TEXT] = 0;
}

/* Fails with a sentence at start (1), or writes until the end or until the member stops with a sentence (2). */
static int run_body(void *arg)
{
    struct buf why = {0};
    char name[16], text[TEXT + 1];
    int err, put_err = 0, result = 0;

    (void)arg;
    alarm(SECONDS);
    setenv("QUORUMFS_TEST_MARKER_BYTES", "2000", 1);
    shim_arm(sh->nth, sh->error);
    err = member_start(&sh->m, &why);
    for (int i = 0; !err && i < WRITES; i++) {
        snprintf(name, sizeof name, "f%d", i);
        text_of(i, text);
        err = member_put(&sh->m, name, text);
        if (!err)
            sh->acked = i + 1;
        put_err = err;
        result = err ? 2 : 0;
    }
    if (sh->m.r)
        member_down(&sh->m);
    else
        result = why.len ? 1 : 3;
    shim_disarm();
    if (result == 2)
        buf_printf(&why, "put %d: %s; %s", sh->acked, qfs_strerror(put_err), sh->m.fatal);
    note(&why);
    return result;
}

static int verify_body(void *arg)
{
    struct buf why = {0}, got = {0};
    char name[16], text[TEXT + 1];

    (void)arg;
    alarm(SECONDS);
    sh->m.r = NULL;
    if ((replica_dir_state(sh->m.dir, NULL) != REPLICA_DIR_READY && member_init(&sh->m, &why)) || member_start(&sh->m, &why)) {
        note(&why);
        return 1;
    }
    for (int i = 0; i < sh->acked; i++) {
        snprintf(name, sizeof name, "f%d", i);
        text_of(i, text);
        if (member_get(&sh->m, name, &got) || got.len != TEXT || memcmp(got.data, text, TEXT) != 0)
            return 2;
    }
    if (member_put(&sh->m, "after", "x"))
        return 4;
    member_down(&sh->m);
    return 0;
}

/* ---- The loops ----------------------------------------------------------------------------------------------------------- */

static int child(int (*body)(void *arg))
{
    int status = member_child(NULL, body, NULL);

    if (!WIFEXITED(status))
        fail_msg("call %d (%s) failing with %s: died of signal %d", sh->nth, sh->what, strerror(sh->error), WTERMSIG(status));
    return WEXITSTATUS(status);
}

static void verify(int result)
{
    char first[600];
    int v;

    snprintf(first, sizeof first, "%s", sh->why);
    v = child(verify_body);
    if (v)
        fail_msg("call %d (%s) failing with %s: result %d \"%s\"; afterwards %d: %s", sh->nth, sh->what, strerror(sh->error), result,
                 first, v, sh->why);
}

static void each_call_of(int (*body)(void *arg), bool run, int error)
{
    int refused = 0;

    for (int nth = getenv("QUORUMFS_TEST_FIRST") ? atoi(getenv("QUORUMFS_TEST_FIRST")) : 1;; nth++) {
        struct buf why = {0};
        int result;

        assert_true(nth < CALLS_MAX);
        memset(sh, 0, sizeof *sh);
        member_make(&sh->m);
        if (run && member_init(&sh->m, &why))
            fail_msg("init: %s", buf_cstr(&why));
        sh->nth = nth;
        sh->error = error;
        result = child(body);
        if (result == 3 || (result && sh->fired && !sh->why[0] && result != 2))
            fail_msg("call %d (%s) failing with %s: no sentence", nth, sh->what, strerror(error));
        if (result && !sh->fired)
            fail_msg("run %d failed without a failure: %d %s", nth, result, sh->why);
        refused += result != 0;
        verify(result);
        member_remove(&sh->m);
        if (!sh->fired) {
            print_message("%d calls failed with %s, %d of them were refused or stopped the member\n", nth - 1, strerror(error), refused);
            break;
        }
    }
}

static void init_survives_io_errors(void **state) { (void)state; each_call_of(init_body, false, EIO); }
static void init_survives_full_disk(void **state) { (void)state; each_call_of(init_body, false, ENOSPC); }
static void run_survives_io_errors(void **state) { (void)state; each_call_of(run_body, true, EIO); }
static void run_survives_full_disk(void **state) { (void)state; each_call_of(run_body, true, ENOSPC); }

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup(name, setup)
        TEST(init_survives_io_errors),
        TEST(init_survives_full_disk),
        TEST(run_survives_io_errors),
        TEST(run_survives_full_disk),
    };

    log_set_level(LOG_LEVEL_ERROR);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("syscall", tests, NULL, NULL);
}
