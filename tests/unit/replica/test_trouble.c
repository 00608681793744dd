/* A member in trouble: a store that is slow or fails, a log that cannot be written, a disk that fills up. Each test runs its member
 * in a child with the failpoints that it needs; the child returns the line of the check that failed. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "replica/dir.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"
#include "tests/unit/replica/member_fixture.h"

/* ---- Fixture ------------------------------------------------------------------------------------------------------------- */

enum { WRITERS = 8, SECONDS = 90 };

struct shared {
    struct member m;
    int line;          /* of the check that failed, 0: none */
    char text[600];    /* what was found there */
};
static struct shared *sh;

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

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

#define CHECK(condition, ...) \
    do { \
        if (!(condition)) { \
            sh->line = __LINE__; \
            snprintf(sh->text, sizeof sh->text, __VA_ARGS__); \
            return 1; \
        } \
    } while (0)

static void in_child(const char *failpoints, int (*body)(void *arg))
{
    int status = member_child(failpoints, body, NULL);

    if (!WIFEXITED(status) || WEXITSTATUS(status))
        fail_msg("status %x, line %d: %s", status, sh->line, sh->text);
}

/* init (if needed) and start; 0, or what the body returns. */
static int up(void)
{
    struct buf why = {0};

    alarm(SECONDS);
    if (replica_dir_state(sh->m.dir, NULL) != REPLICA_DIR_READY)
        CHECK(member_init(&sh->m, &why) == 0, "%s", buf_cstr(&why));
    CHECK(member_start(&sh->m, &why) == 0, "%s", buf_cstr(&why));
    return 0;
}

static struct replica_status status_of(void)
{
    struct replica_status s;

    replica_status(sh->m.r, &s);
    return s;
}

static void sleep_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&t, NULL);
}

/* Waits for a condition, for half a minute; the check that follows says what did not come. */
#define WAIT(condition) \
    do { \
        for (int turn = 0; !(condition) && turn < 3000; turn++) \
            sleep_ms(10); \
    } while (0)

static _Atomic bool writers_stop;
static _Atomic int writers_failed, writers_done;

static void *writer_main(void *arg)
{
    char name[16], text[400];

    snprintf(name, sizeof name, "w%d", (int)(intptr_t)arg);
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    while (!atomic_load(&writers_stop)) {
        if (member_put(&sh->m, name, text))
            atomic_fetch_add(&writers_failed, 1);
        atomic_fetch_add(&writers_done, 1);
    }
    return NULL;
}

static pthread_t writers[WRITERS];

static void start_writers(void)
{
    for (intptr_t i = 0; i < WRITERS; i++)
        pthread_create(&writers[i], NULL, writer_main, (void *)i);
}

static void stop_writers(void)
{
    atomic_store(&writers_stop, true);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(writers[i], NULL);
}

static int n_log_files(void)
{
    char cmd[400];
    FILE *f;
    int n = -1;

    snprintf(cmd, sizeof cmd, "ls '%s/raft' | grep -c '^0'", sh->m.dir);
    f = popen(cmd, "r");
    if (f && fscanf(f, "%d", &n) != 1)
        n = -1;
    if (f)
        pclose(f);
    return n;
}

/* ---- A slow store -------------------------------------------------------------------------------------------------------- */

/* The raft loop must not wait for SQLite: while the store stands still for 5 s, five times the election timeout, entries go on being
 * written and committed, nobody holds an election, and nothing is lost. */
static _Atomic int extra_answers;

static void extra_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    (void)req;
    (void)rev;
    (void)ino;
    atomic_store(&extra_answers, err == 0 ? 1 : 2);
}

/* Waits until nothing is applied for 500 ms although something is committed. */
static uint64_t wait_for_stall(void)
{
    uint64_t applied = status_of().applied;

    for (int still = 0; still < 50; still++) {
        sleep_ms(10);
        if (status_of().applied != applied || status_of().commit == applied) {
            applied = status_of().applied;
            still = 0;
        }
    }
    return applied;
}

static int stall_body(void *arg)
{
    struct store_op op = {.kind = STORE_OP_CREATE, .parent = STORE_ROOT_INO, .name = {"extra", 5}, .mode = 0644};
    struct store_command cmd = {.comm = "test", .ops = &op, .n_ops = 1};
    struct replica_request extra = {.cb = extra_cb};
    uint64_t term, commit, applied;
    int err;

    (void)arg;
    if ((err = up()) != 0)
        return err;
    term = status_of().term;
    start_writers();
    applied = wait_for_stall();
    commit = status_of().commit;
    CHECK(commit > applied, "committed %d, applied %d: the store does not stall", (int)commit, (int)applied);
    op.new_ino = replica_new_ino(sh->m.r, STORE_FILE);
    replica_submit(sh->m.r, &extra, &cmd);
    WAIT(status_of().commit > commit);
    CHECK(status_of().commit > commit && status_of().applied == applied, "nothing is committed during the stall");
    WAIT(status_of().applied > applied && atomic_load(&extra_answers));
    CHECK(status_of().applied > applied && atomic_load(&extra_answers) == 1, "the store did not go on");
    stop_writers();
    CHECK(atomic_load(&writers_failed) == 0, "%d requests failed", atomic_load(&writers_failed));
    CHECK(status_of().term == term, "there was an election");
    CHECK(!strcmp(status_of().role, "leader"), "%s", status_of().role);
    member_down(&sh->m);
    return 0;
}

static void stalled_store_causes_no_election(void **state)
{
    (void)state;
    in_child("replica.store=stall:5000@40", stall_body);
}

/* A request that takes too long is answered so, may still take effect, and does not hurt the next ones. */
static int timeout_body(void *arg)
{
    struct buf got = {0};
    int64_t start = 0;
    int err, last = 0;

    (void)arg;
    sh->m.timeout_ms = 1500;
    if ((err = up()) != 0)
        return err;
    for (int i = 0; i < 3 && !err; i++) { /* the two blocks may have come in one entry */
        start = clock_boottime_ns();
        err = member_put(&sh->m, "late", i == 0 ? "0" : i == 1 ? "1" : "2");
        last = i;
    }
    CHECK(err == QE_TIMEDOUT, "%s", qfs_strerror(err));
    CHECK(clock_boottime_ns() - start < 5000000000, "answered after %d ms", (int)((clock_boottime_ns() - start) / 1000000));
    WAIT(member_put(&sh->m, "after", "3") == 0);
    CHECK(member_put(&sh->m, "after", "3") == 0, "the put after it");
    CHECK(member_get(&sh->m, "late", &got) == 0 && buf_cstr(&got)[0] == '0' + last, "it did not take effect in the end");
    CHECK(status_of().n_waiting == 0, "%d requests are waiting", (int)status_of().n_waiting);
    member_down(&sh->m);
    return 0;
}

static void late_request_is_answered_with_a_timeout(void **state)
{
    (void)state;
    in_child("replica.store=stall:6000@5", timeout_body); /* session, two blocks, some puts */
}

/* ---- Fail-stop ----------------------------------------------------------------------------------------------------------- */

/* Whatever fails first: the fatal hook runs once, requests are answered (nobody knows what became of the one under way), later ones
 * are refused, the member can be stopped, and a new start has all that was acknowledged. */
static int fatal_body(void *arg)
{
    struct replica_request barrier;
    char name[16];
    int err, acked = 0;

    (void)arg;
    (void)barrier;
    if ((err = up()) != 0)
        return err;
    for (int i = 0; i < 100 && !err; i++) {
        snprintf(name, sizeof name, "f%d", i);
        err = member_put(&sh->m, name, "x");
        acked += !err;
    }
    CHECK(err == QE_TIMEDOUT || err == QE_IO, "%s", err ? qfs_strerror(err) : "nothing failed");
    err = member_put(&sh->m, "later", "x");
    CHECK(err == QE_IO, "later: %s", qfs_strerror(err));
    CHECK(replica_writable(sh->m.r) == QE_IO, "writable: %s", qfs_strerror(replica_writable(sh->m.r)));
    CHECK(strstr(status_of().alarm, "stopped"), "alarm: %s", status_of().alarm);
    member_down(&sh->m);
    CHECK(sh->m.fatals == 1 && strlen(sh->m.fatal) > 10, "%d times fatal: %s", sh->m.fatals, sh->m.fatal);
    unsetenv("QUORUMFS_FAILPOINTS"); /* the point has been hit: it acts once */
    if ((err = up()) != 0)
        return err;
    for (int i = 0; i < acked; i++) {
        struct buf got = {0};

        snprintf(name, sizeof name, "f%d", i);
        CHECK(member_get(&sh->m, name, &got) == 0 && got.len == 1, "%s is lost", name);
        buf_fini(&got);
    }
    CHECK(member_put(&sh->m, "again", "x") == 0, "put after the restart");
    member_down(&sh->m);
    return 0;
}

static void failed_log_write_stops_the_member(void **state) { (void)state; in_child("replica.append.error=error@12", fatal_body); }
static void failed_store_stops_the_member(void **state) { (void)state; in_child("store.apply=error@12", fatal_body); }
static void failed_commit_of_the_store_stops_the_member(void **state) { (void)state; in_child("store.commit=error@12", fatal_body); }

static int marker_fatal_body(void *arg)
{
    setenv("QUORUMFS_TEST_MARKER_BYTES", "1000", 1);
    return fatal_body(arg);
}

static void failed_sync_stops_the_member(void **state) { (void)state; in_child("replica.marker=error@2", marker_fatal_body); }

/* ---- Markers ------------------------------------------------------------------------------------------------------------- */

/* Under steady load the log in memory and on disk stays bounded. */
static int marker_body(void *arg)
{
    uint64_t first, most = 0;
    int err;

    (void)arg;
    setenv("QUORUMFS_TEST_MARKER_BYTES", "300000", 1);
    if ((err = up()) != 0)
        return err;
    start_writers();
    while (status_of().snapshot_index == 0)
        sleep_ms(1);
    first = status_of().snapshot_index;
    for (int i = 0; i < 2000 || (status_of().snapshot_index == first && i < 30000); i++) {
        most = status_of().log_bytes > most ? status_of().log_bytes : most;
        sleep_ms(1);
    }
    stop_writers();
    CHECK(status_of().snapshot_index > first, "one marker only");
    CHECK(most < 10 * 300000, "%d bytes of log in memory", (int)most);
    CHECK(n_log_files() < 20, "%d closed segments", n_log_files());
    CHECK(atomic_load(&writers_failed) == 0, "%d requests failed", atomic_load(&writers_failed));
    member_down(&sh->m);
    if ((err = up()) != 0)
        return err;
    CHECK(status_of().applied > first, "applied %d", (int)status_of().applied);
    member_down(&sh->m);
    return 0;
}

static void markers_bound_the_log_under_load(void **state) { (void)state; in_child(NULL, marker_body); }

/* ---- Idle ---------------------------------------------------------------------------------------------------------------- */

static long long written_bytes(void)
{
    FILE *f = fopen("/proc/self/io", "r");
    char line[100];
    long long n = -1;

    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "write_bytes: %lld", &n) == 1)
            break;
    if (f)
        fclose(f);
    return n;
}

static int idle_body(void *arg)
{
    long long before = -1;
    int err;

    (void)arg;
    if ((err = up()) != 0)
        return err;
    CHECK(member_put(&sh->m, "a", "1") == 0, "put");
    for (int i = 0; i < 10 && written_bytes() != before; i++) { /* the checkpoint of the idle member comes in the first seconds */
        before = written_bytes();
        sleep_ms(3000);
    }
    CHECK(before >= 0 && written_bytes() == before, "%lld bytes written", written_bytes() - before);
    member_down(&sh->m);
    return 0;
}

static void idle_member_writes_nothing(void **state) { (void)state; in_child(NULL, idle_body); }

/* ---- A full disk --------------------------------------------------------------------------------------------------------- */

/* Makes a file that leaves so many bytes free. The member may be allocating its next segments meanwhile: then once more. */
static int fill(const char *path, int64_t leave)
{
    int fd = open(path, O_CREAT | O_WRONLY, 0600), rv = ENOSPC;
    int64_t size = 0, take;
    struct statvfs st;

    for (int i = 0; fd >= 0 && rv && i < 100; i++) {
        if (fstatvfs(fd, &st))
            break;
        take = (int64_t)st.f_bavail * (int64_t)st.f_frsize - leave;
        rv = take > 0 ? posix_fallocate(fd, size, take) : 0;
        size += rv || take < 0 ? 0 : take;
        sleep_ms(10);
    }
    if (fd >= 0)
        close(fd);
    return rv;
}

static int put_until(int wanted, const char *name)
{
    int err = 0;

    for (int i = 0; i < 3000; i++) {
        err = member_put(&sh->m, name, "x");
        if (err == wanted)
            break;
        sleep_ms(10);
    }
    return err;
}

static bool exists(const char *name)
{
    char path[400];

    snprintf(path, sizeof path, "%s/%s", sh->m.dir, name);
    return access(path, F_OK) == 0;
}

static int full_body(void *arg)
{
    char filler[300];
    struct buf got = {0};
    bool had_ballast;
    int err;

    (void)arg;
    CHECK(member_own_mounts() == 0, "a namespace for the mount needs root");
    CHECK(mount("none", sh->m.parent, "tmpfs", 0, "size=192m") == 0, "a small tmpfs");
    snprintf(filler, sizeof filler, "%s/filler", sh->m.parent);
    if ((err = up()) != 0)
        return err;
    CHECK(member_put(&sh->m, "a", "1") == 0, "the first put");
    CHECK(fill(filler, 10 << 20) == 0, "fill");
    err = put_until(QE_DISKFULL, "b");
    CHECK(err == QE_DISKFULL, "full: %s", qfs_strerror(err));
    CHECK(replica_writable(sh->m.r) == QE_DISKFULL, "writable: %s", qfs_strerror(replica_writable(sh->m.r)));
    CHECK(status_of().alarm[0], "no alarm");
    CHECK(member_get(&sh->m, "a", &got) == 0 && got.len == 1, "reading on a full disk");
    unlink(filler);
    err = put_until(0, "c");
    CHECK(err == 0, "with room again: %s", qfs_strerror(err));
    CHECK(replica_writable(sh->m.r) == 0 && !status_of().alarm[0], "the alarm stays: %s", status_of().alarm);
    CHECK(fill(filler, 0) == 0, "fill to the last byte");
    member_down(&sh->m);
    unlink(filler);
    if (exists("ballast")) /* else the checkpoint of the stop has used it, and a start has nothing left to give */
        CHECK(fill(filler, 0) == 0, "fill what the stop gave back");
    had_ballast = exists("ballast");
    if ((err = up()) != 0) /* a start needs room for its segments: it takes the ballast's */
        return err;
    CHECK(!had_ballast || !exists("ballast"), "the ballast was not used");
    err = had_ballast ? put_until(QE_DISKFULL, "d") : QE_DISKFULL;
    CHECK(err == QE_DISKFULL, "full after a restart: %s", qfs_strerror(err));
    CHECK(member_get(&sh->m, "c", &got) == 0, "reading after a restart on a full disk");
    unlink(filler);
    err = put_until(0, "d");
    CHECK(err == 0 && exists("ballast"), "at the end: %s", qfs_strerror(err));
    member_down(&sh->m);
    buf_fini(&got);
    return 0;
}

static void full_disk_refuses_writes_until_there_is_room(void **state)
{
    (void)state;
    in_child(NULL, full_body);
}

/* By the time it asks for its session and its inode numbers the segments have taken most of what the ballast was. */
static void a_slow_member_starts_on_a_full_disk(void **state)
{
    (void)state;
    in_child("replica.store=stall:300", full_body);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(stalled_store_causes_no_election),
        TEST(late_request_is_answered_with_a_timeout),
        TEST(failed_log_write_stops_the_member),
        TEST(failed_store_stops_the_member),
        TEST(failed_commit_of_the_store_stops_the_member),
        TEST(failed_sync_stops_the_member),
        TEST(markers_bound_the_log_under_load),
        TEST(idle_member_writes_nothing),
        TEST(full_disk_refuses_writes_until_there_is_room),
        TEST(a_slow_member_starts_on_a_full_disk),
    };

    log_set_level(LOG_LEVEL_ERROR);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("trouble", tests, NULL, NULL);
}
