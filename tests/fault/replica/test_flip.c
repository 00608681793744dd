/* One flipped bit in a file of the data directory of a killed member: the start refuses with a sentence that names it, or no
 * acknowledged write is lost. `check` names the damage, or there is none that matters. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/base/err.h"
#include "store/base/log.h"
#include "tests/unit/replica/member_fixture.h"

enum { FILES = 40, TEXT = 2500, SECONDS = 60, OFFSETS = 24 };

struct shared {
    struct member m;
    int acked;
    char why[1000];    /* the sentence of a refused start */
    char report[2000]; /* what check said, cut */
    int check;         /* what check returned */
};
static struct shared *sh;

/* ---- Fixture: a directory as kill -9 leaves it, with open and closed segments, a marker and a WAL --------------------------- */

static void text_of(int i, char *text)
{
    for (int k = 0; k < TEXT; k++) /* not compressible to a pattern that a shifted page would also show */
        text[k] = (char)('a' + (i * 31 + k * 7 + k / 26) % 26);
    text[TEXT] = 0;
}

static int write_body(void *arg)
{
    struct buf why = {0};
    char name[16], text[TEXT + 1];

    (void)arg;
    alarm(SECONDS);
    setenv("QUORUMFS_TEST_MARKER_BYTES", "30000", 1);
    if (member_start(&sh->m, &why))
        return 1;
    for (int i = 0; i < FILES; i++) {
        if (i == FILES / 2) { /* what is there by now goes from the WAL into the database */
            member_down(&sh->m);
            if (member_start(&sh->m, &why))
                return 1;
        }
        snprintf(name, sizeof name, "f%d", i);
        text_of(i, text);
        if (member_put(&sh->m, name, text))
            return 2;
        sh->acked = i + 1;
    }
    usleep(100000); /* for a marker under way to be written */
    kill(getpid(), SIGKILL);
    return 3;
}

static int setup(void **state)
{
    struct buf why = {0};
    char cmd[1000];

    (void)state;
    sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(sh != MAP_FAILED);
    member_make(&sh->m);
    assert_int_equal(member_init(&sh->m, &why), 0);
    assert_true(WIFSIGNALED(member_child(NULL, write_body, NULL)));
    assert_int_equal(sh->acked, FILES);
    snprintf(cmd, sizeof cmd, "mv '%s' '%s/sound'", sh->m.dir, sh->m.parent);
    return system(cmd);
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

static void say(void *data, const char *line)
{
    struct buf *out = data;

    buf_printf(out, "%s\n", line);
}

/* 0: all there; 1: refused with a sentence; 2: lost; 3: refused without a sentence. */
static int verify_body(void *arg)
{
    struct buf why = {0}, got = {0};
    char name[16], text[TEXT + 1];
    int result = 0;

    (void)arg;
    alarm(SECONDS);
    sh->m.r = NULL;
    sh->check = replica_check(sh->m.dir, say, &why);
    snprintf(sh->report, sizeof sh->report, "%s", buf_cstr(&why));
    buf_clear(&why);
    if (member_start(&sh->m, &why)) {
        snprintf(sh->why, sizeof sh->why, "%s", buf_cstr(&why));
        return why.len > 20 ? 1 : 3;
    }
    for (int i = 0; i < FILES && !result; i++) {
        snprintf(name, sizeof name, "f%d", i);
        text_of(i, text);
        if (member_get(&sh->m, name, &got) || got.len != TEXT || memcmp(got.data, text, TEXT) != 0)
            result = 2;
    }
    if (!result && member_put(&sh->m, "after", "x"))
        result = 2;
    member_down(&sh->m);
    return result;
}

static void fresh_copy(void)
{
    char cmd[1000];

    snprintf(cmd, sizeof cmd, "rm -rf '%s' && cp -a --sparse=always '%s/sound' '%s'", sh->m.dir, sh->m.parent, sh->m.dir);
    assert_int_equal(system(cmd), 0);
}

/* One offset of one file. True when the start was refused. */
static bool flip_one(const char *name, long off, bool check_must_tell)
{
    char path[1000];
    int status, result;

    fresh_copy();
    snprintf(path, sizeof path, "%s/%s", sh->m.dir, name);
    flip_byte(path, off);
    status = member_child(NULL, verify_body, NULL);
    result = WIFEXITED(status) ? WEXITSTATUS(status) : 99;
    if (result == 99)
        fail_msg("%s byte %ld: died with status %x\n%s", name, off, status, sh->report);
    if (result == 3)
        fail_msg("%s byte %ld: refused without a sentence: \"%s\"", name, off, sh->why);
    if (result == 2 && !(check_must_tell && sh->check == QE_CORRUPT))
        fail_msg("%s byte %ld: started, but acknowledged writes are lost; check said %d\n%s", name, off, sh->check, sh->report);
    if (result == 1 && sh->check == 0)
        fail_msg("%s byte %ld: the start refuses (%s), but check finds nothing\n%s", name, off, sh->why, sh->report);
    return result == 1;
}

/* Offsets all over the bytes that are in use, the first and the last among them. */
static void flip_all_over(const char *name, long used, bool check_must_tell)
{
    int refused = 0, n = used < OFFSETS ? (int)used : OFFSETS;

    for (int i = 0; i < n; i++)
        refused += flip_one(name, i == n - 1 ? used - 1 : used * i / n, check_must_tell);
    print_message("%-50s %3d of %3d flips refused\n", name, refused, n);
}

/* The bytes of a file up to the last that is not zero. */
static long used_bytes(const char *path)
{
    static char block[1 << 16];
    int fd = open(path, O_RDONLY);
    long used = 0, at = 0;
    ssize_t n;

    assert_true(fd >= 0);
    while ((n = read(fd, block, sizeof block)) > 0) {
        for (ssize_t i = 0; i < n; i++)
            if (block[i])
                used = at + i + 1;
        at += n;
    }
    close(fd);
    return used;
}

/* Flips in each file of `sub` ("": DIR itself) whose name begins with `prefix` and has no `without` in it. */
static void flip_files(const char *sub, const char *prefix, const char *without, bool check_must_tell)
{
    char path[1000], name[600], dir[600];
    struct dirent *e;
    int files = 0;
    DIR *d;

    snprintf(dir, sizeof dir, "%s/sound/%s", sh->m.parent, sub);
    d = opendir(dir);
    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        long used;

        if (strncmp(e->d_name, prefix, strlen(prefix)) != 0 || (without && strstr(e->d_name, without)) || e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        snprintf(name, sizeof name, "%s%s%s", sub, *sub ? "/" : "", e->d_name);
        used = used_bytes(path);
        files++;
        if (used == 0)
            used = 4096; /* allocated and unused: a flip there must do no harm either */
        flip_all_over(name, used, check_must_tell);
    }
    closedir(d);
    if (files == 0)
        fail_msg("there is no %s/%s* to flip", sub, prefix);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void sound_directory_starts(void **state)
{
    (void)state;
    fresh_copy();
    assert_int_equal(member_child(NULL, verify_body, NULL), 0);
    assert_int_equal(sh->check, 0);
}

static int check_body(void *arg)
{
    struct buf report = {0};

    (void)arg;
    alarm(SECONDS);
    return replica_check(sh->m.dir, say, &report) ? 1 : 0;
}

/* Names, sizes, times and contents of everything in DIR, as text; but for the -shm, which is SQLite's shared memory and not data. */
static void describe(struct buf *out)
{
    char cmd[1500], line[1000];
    FILE *f;

    snprintf(cmd, sizeof cmd, "cd '%s' && find . ! -name '*-shm' -printf '%%p %%s %%T@ %%m\\n' | sort && find . -type f ! -name '*-shm' | sort | xargs cksum", sh->m.dir);
    f = popen(cmd, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        buf_printf(out, "%s", line);
    assert_int_equal(pclose(f), 0);
}

static void check_changes_nothing(void **state)
{
    struct buf before = {0}, after = {0};

    (void)state;
    fresh_copy();
    describe(&before);
    assert_int_equal(member_child(NULL, check_body, NULL), 0);
    describe(&after);
    for (char *save, *x = strtok_r((char *)buf_cstr(&after), "\n", &save); x; x = strtok_r(NULL, "\n", &save))
        if (!strstr(buf_cstr(&before), x))
            fail_msg("check has changed it: %s", x);
    buf_fini(&before);
    buf_fini(&after);
}

static void flip_in_a_closed_segment(void **state) { (void)state; flip_files("raft", "0", NULL, false); }
static void flip_in_an_open_segment(void **state) { (void)state; flip_files("raft", "open-", NULL, false); }
static void flip_in_metadata(void **state) { (void)state; flip_files("raft", "metadata", NULL, false); }
static void flip_in_a_snapshot(void **state) { (void)state; flip_files("raft", "snapshot-", NULL, false); }
static void flip_in_the_identity(void **state) { (void)state; flip_files("raft", "epoch", NULL, false); }
static void flip_in_the_pointer(void **state) { (void)state; flip_files("", "CURRENT", NULL, false); }
static void flip_in_the_lock(void **state) { (void)state; flip_files("", "lock", NULL, false); }
static void flip_in_the_ballast(void **state) { (void)state; flip_files("", "ballast", NULL, false); }
static void flip_in_the_wal(void **state) { (void)state; flip_files("", "state-1.db-wal", NULL, false); }
/* SQLite's pages have no checksum: what the start does not see, check must. */
static void flip_in_the_database(void **state) { (void)state; flip_files("", "state-1.db", "db-", true); }

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test(name)
        TEST(sound_directory_starts),
        TEST(check_changes_nothing),
        TEST(flip_in_a_closed_segment),
        TEST(flip_in_an_open_segment),
        TEST(flip_in_metadata),
        TEST(flip_in_a_snapshot),
        TEST(flip_in_the_identity),
        TEST(flip_in_the_pointer),
        TEST(flip_in_the_lock),
        TEST(flip_in_the_ballast),
        TEST(flip_in_the_wal),
        TEST(flip_in_the_database),
    };

    log_set_level(LOG_LEVEL_ERROR);
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("flip", tests, setup, teardown);
}
