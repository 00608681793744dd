/* What /proc tells of threads, and that a number that is used again is not taken for the one before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/proc.h"

/* ---- Helpers ------------------------------------------------------------------------------------------------------------------- */

struct child {
    pid_t pid;
    int in; /* it ends when this is closed */
};

/* A process that is called `name` when this returns. */
static struct child child_start(const char *name)
{
    int to[2], from[2];
    struct child c;
    char byte;

    assert_int_equal(pipe(to), 0);
    assert_int_equal(pipe(from), 0);
    c.pid = fork();
    assert_true(c.pid >= 0);
    if (c.pid == 0) {
        close(to[1]);
        prctl(PR_SET_NAME, name);
        _exit(write(from[1], "x", 1) == 1 ? (int)read(to[0], &byte, 1) : 1);
    }
    close(to[0]);
    close(from[1]);
    assert_int_equal(read(from[0], &byte, 1), 1);
    close(from[0]);
    c.in = to[1];
    return c;
}

static void child_end(struct child c)
{
    close(c.in);
    assert_int_equal(waitpid(c.pid, NULL, 0), c.pid);
}

static void assert_comm(pid_t pid, const char *expected)
{
    char comm[16];

    proc_comm(pid, comm);
    assert_string_equal(comm, expected);
}

/* The next process gets this number, if nobody else starts one. False: that cannot be had here. */
static bool next_pid(pid_t pid)
{
    FILE *f = fopen("/proc/sys/kernel/ns_last_pid", "w");
    bool done = f && fprintf(f, "%d", (int)pid - 1) > 0;

    return f && fclose(f) == 0 && done;
}

/* ---- Success ------------------------------------------------------------------------------------------------------------------- */

static void what_changes_is_read_anew(void **state)
{
    (void)state;
    prctl(PR_SET_NAME, "one");
    assert_comm(getpid(), "one");
    prctl(PR_SET_NAME, "another");
    assert_comm(getpid(), "another");
}

static void a_session_that_is_begun_is_seen(void **state)
{
    int status;
    pid_t pid = fork();

    (void)state;
    assert_true(pid >= 0);
    if (pid == 0) {
        bool before = proc_session(getpid()) == getsid(0);

        setsid();
        _exit(before && proc_session(getpid()) == getpid() ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------------- */

static void a_process_that_is_gone_is_unknown(void **state)
{
    struct child c = child_start("gone");
    struct proc_info info;

    (void)state;
    assert_comm(c.pid, "gone");
    assert_true(proc_info(c.pid, &info));
    child_end(c);
    assert_comm(c.pid, "?");
    assert_false(proc_info(c.pid, &info));
    assert_int_equal(proc_call_of(c.pid, NULL), PROC_CALL_UNKNOWN);
}

static void a_number_that_is_used_again_is_another_process(void **state)
{
    enum { TRIES = 50 };
    struct child before, after;

    (void)state;
    for (int i = 0; i < TRIES; i++) {
        bool same;

        before = child_start("before");
        assert_comm(before.pid, "before");
        child_end(before);
        if (!next_pid(before.pid))
            skip();
        after = child_start("after");
        same = after.pid == before.pid;
        if (same)
            assert_comm(after.pid, "after");
        child_end(after);
        if (same)
            return;
    }
    skip(); /* others start processes all the time */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_changes_is_read_anew),
        cmocka_unit_test(a_session_that_is_begun_is_seen),
        cmocka_unit_test(a_process_that_is_gone_is_unknown),
        cmocka_unit_test(a_number_that_is_used_again_is_another_process),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
