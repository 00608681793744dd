/* A member that is killed at any instant comes back by itself with everything it acknowledged.
 *
 * A child runs a member with several writers; each writes k = 1, 2, ... into its own file and notes k in shared memory when it is
 * answered. The child is killed after a random time, or kills itself at a failpoint. Then another child checks the directory,
 * starts the member, and reads every file: it must hold the noted number, or a later one that had been sent.
 *
 * QUORUMFS_TEST_KILLS: rounds of random kills (30). QUORUMFS_TEST_SEED: to repeat a run. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "store/base/err.h"
#include "store/base/log.h"
#include "tests/unit/replica/member_fixture.h"

enum { WRITERS = 6, ROUNDS = 30, TEXT_MAX = 3000, SECONDS = 60, KILL_AFTER_MAX_MS = 250 };

struct shared {
    struct member m;
    _Atomic long sent[WRITERS], acked[WRITERS];
    _Atomic bool writing;   /* the member is up */
    char why[6000];
};
static struct shared *sh;
static unsigned seed;

/* ---- Fixture ------------------------------------------------------------------------------------------------------------- */

static int setup(void **state)
{
    (void)state;
    sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(sh != MAP_FAILED);
    member_make(&sh->m);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sh->m.r = NULL;
    member_remove(&sh->m);
    munmap(sh, sizeof *sh);
    return 0;
}

/* ---- The children -------------------------------------------------------------------------------------------------------- */

static size_t text_of(int writer, long k, char *text)
{
    size_t len = (size_t)((writer * 7919 + k * 104729) % TEXT_MAX);
    int n = snprintf(text, TEXT_MAX + 32, "%ld ", k);

    memset(text + n, 'a' + (int)(k % 26), len);
    text[(size_t)n + len] = 0;
    return (size_t)n + len;
}

static void *writer_main(void *arg)
{
    int id = (int)(intptr_t)arg;
    char name[16], text[TEXT_MAX + 64];

    snprintf(name, sizeof name, "w%d", id);
    for (;;) {
        long k = atomic_load(&sh->sent[id]) + 1;

        atomic_store(&sh->sent[id], k);
        text_of(id, k, text);
        if (member_put(&sh->m, name, text))
            return NULL;
        atomic_store(&sh->acked[id], k);
    }
}

/* In a child like all that runs a member, so that this process never reads the failpoints. */
static int init_body(void *arg)
{
    struct buf why = {0};

    (void)arg;
    return member_init(&sh->m, &why) ? 1 : 0;
}

/* Runs until it is killed; 1 when it could not. */
static int write_body(void *arg)
{
    pthread_t threads[WRITERS];
    struct buf why = {0};

    (void)arg;
    alarm(SECONDS);
    setenv("QUORUMFS_TEST_MARKER_BYTES", "200000", 1); /* several a second */
    sh->m.r = NULL;
    if (member_start(&sh->m, &why)) {
        snprintf(sh->why, sizeof sh->why, "%s", buf_cstr(&why));
        return 1;
    }
    atomic_store(&sh->writing, true);
    for (intptr_t i = 0; i < WRITERS; i++)
        pthread_create(&threads[i], NULL, writer_main, (void *)i);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    snprintf(sh->why, sizeof sh->why, "the member stopped: %s", sh->m.fatal);
    return 1;
}

static void say(void *data, const char *line)
{
    struct buf *out = data;

    buf_printf(out, "%s\n", line);
}

static bool right_content(int writer, struct buf *got)
{
    char text[TEXT_MAX + 64];
    long k = strtol(buf_cstr(got), NULL, 10);

    return k >= atomic_load(&sh->acked[writer]) && k <= atomic_load(&sh->sent[writer]) &&
           text_of(writer, k, text) == got->len && memcmp(text, got->data, got->len) == 0;
}

static int verify_body(void *arg)
{
    struct buf why = {0}, got = {0};
    char name[16];
    int result = 0;

    (void)arg;
    alarm(SECONDS);
    sh->m.r = NULL;
    result = replica_check(sh->m.dir, say, &why);
    if (result) {
        snprintf(sh->why, sizeof sh->why, "check after the kill:\n%s", buf_cstr(&why));
        return 1;
    }
    if (member_start(&sh->m, &why)) {
        snprintf(sh->why, sizeof sh->why, "%s", buf_cstr(&why));
        return 2;
    }
    result = 0;
    for (int i = 0; i < WRITERS && !result; i++) {
        snprintf(name, sizeof name, "w%d", i);
        if (member_get(&sh->m, name, &got) ? atomic_load(&sh->acked[i]) > 0 : !right_content(i, &got)) {
            snprintf(sh->why, sizeof sh->why, "%s: acknowledged %ld, found \"%.12s\", %zu bytes", name, atomic_load(&sh->acked[i]),
                     buf_cstr(&got), got.len);
            result = 3;
        }
    }
    member_down(&sh->m);
    return result;
}

static void verify(int round)
{
    int status = member_child(NULL, verify_body, NULL);

    if (!WIFEXITED(status) || WEXITSTATUS(status))
        fail_msg("seed %u round %d: status %x: %s", seed, round, status, sh->why);
}

/* A child that is killed `after_ms` after it began to write, or after it was forked. */
static void kill_writer(int after_ms, bool from_fork)
{
    struct timespec t = {after_ms / 1000, after_ms % 1000 * 1000000L}, ms = {0, 1000000};
    int status;
    pid_t pid;

    atomic_store(&sh->writing, false);
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(write_body(NULL));
    while (!from_fork && !atomic_load(&sh->writing) && waitpid(pid, &status, WNOHANG) == 0)
        nanosleep(&ms, NULL);
    nanosleep(&t, NULL);
    kill(pid, SIGKILL);
    if (waitpid(pid, &status, 0) == pid && WIFEXITED(status))
        fail_msg("seed %u: the writer ended by itself: %s", seed, sh->why);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void killed_at_random_instants(void **state)
{
    const char *env = getenv("QUORUMFS_TEST_KILLS");
    int rounds = env ? atoi(env) : ROUNDS;
    long total = 0;

    (void)state;
    assert_int_equal(member_child(NULL, init_body, NULL), 0);
    for (int i = 0; i < rounds; i++) {
        kill_writer(rand_r(&seed) % KILL_AFTER_MAX_MS, i % 3 == 2);
        verify(i);
    }
    for (int i = 0; i < WRITERS; i++)
        total += atomic_load(&sh->acked[i]);
    print_message("%d kills, %ld acknowledged writes\n", rounds, total);
    assert_true(total > rounds);
}

static void killed_at_every_named_point(void **state)
{
    static const char *const points[] = {
        "replica.propose=crash@9", "replica.committed=crash@9", "replica.store=crash@9", "replica.applied=crash@9",
        "replica.marker=crash@1", "replica.marker=crash@2", "replica.marked=crash@1", "replica.marked=crash@2",
        "store.apply=crash@9", "store.commit=crash@9", "store.committed=crash@9", "store.checkpoint=crash@2",
    };
    (void)state;
    assert_int_equal(member_child(NULL, init_body, NULL), 0);
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        int status = member_child(points[i], write_body, NULL);

        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
            fail_msg("%s did not happen: status %x %s", points[i], status, sh->why);
        verify((int)i);
    }
}

/* Killed before it serves: nothing that a start does may need a second chance. */
static void killed_again_and_again_while_starting(void **state)
{
    (void)state;
    assert_int_equal(member_child(NULL, init_body, NULL), 0);
    kill_writer(150, false);
    for (int i = 0; i < 12; i++)
        kill_writer(rand_r(&seed) % 30, true);
    verify(0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(killed_at_random_instants),
        TEST(killed_at_every_named_point),
        TEST(killed_again_and_again_while_starting),
    };

    seed = getenv("QUORUMFS_TEST_SEED") ? (unsigned)strtoul(getenv("QUORUMFS_TEST_SEED"), NULL, 10) : (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    log_set_level(LOG_LEVEL_ERROR);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("kill", tests, NULL, NULL);
}
