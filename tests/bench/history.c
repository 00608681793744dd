/* What looking back costs: reads as of an old revision beside reads of now, versions of a name, slices of compaction while writing goes on, and
 * a copy of the whole beside cp of a file of that size. Prints a table; compare the ratios of one run.
 *
 *     bench_history [FILES [VERSIONS]] */
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/internal.h"
#include "tests/unit/store/kit.h"

enum { VALUE = 256, BATCH = 64, READS = 20000, BLOCK = 1 << 20 };

static uint64_t rng = 88172645463325252u;
static uint64_t next_random(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    return rng ^= rng << 17;
}

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static void row(const char *what, double *us, size_t n)
{
    qsort(us, n, sizeof *us, compare);
    printf("%-44s %8zu %10.1f %10.1f %10.1f\n", what, n, us[n / 2], us[n * 99 / 100], us[n - 1]);
}

static void check(int err, const char *what, int64_t at)
{
    if (err) {
        fprintf(stderr, "bench_history: %s at revision %" PRId64 ": %s\n", what, at, qfs_strerror(err));
        exit(1);
    }
}

/* One entry of puts to random files; FILES of them are there. */
static void put_batch(struct kit *k, uint64_t dir, int files, int first)
{
    static char value[VALUE];
    static struct store_command cmds[BATCH];
    static struct store_op ops[BATCH];
    static struct store_edit edits[BATCH][2];
    static char names[BATCH][16];

    k->acked = k->seq; /* as a member does when it has the results */
    if (k->end_n - k->next_n < BATCH) { /* a block of numbers is reserved before the batch is stamped */
        k->next_n = k->end_n;
        (void)kit_ino(k, STORE_FILE);
    }
    for (int i = 0; i < BATCH; i++) {
        snprintf(names[i], sizeof names[i], "f%06d", first >= 0 ? first + i : (int)(next_random() % (unsigned)files));
        edits[i][0] = (struct store_edit){STORE_EDIT_TRUNCATE, 0, {0}};
        edits[i][1] = (struct store_edit){STORE_EDIT_WRITE, 0, {value, sizeof value}};
        ops[i] = (struct store_op){.kind = STORE_OP_COMMIT, .parent = dir, .name = kit_str(names[i]), .new_ino = kit_ino(k, STORE_FILE), .mode = 0644,
                                   .edits = edits[i], .n_edits = 2};
        cmds[i] = kit_command(k, &ops[i], 1);
    }
    assert_int_equal(kit_apply(k, cmds, BATCH), 0);
}

static void read_at(struct kit *k, const char *what, uint64_t dir, int files, int64_t lo, int64_t hi)
{
    double *us = calloc(READS, sizeof *us);
    struct buf content = {0};

    for (int i = 0; i < READS; i++) {
        int64_t at = hi ? lo + (int64_t)(next_random() % (uint64_t)(hi - lo)) : STORE_HEAD;
        struct store_attr a;
        char name[16];
        double from;

        snprintf(name, sizeof name, "f%06d", (int)(next_random() % (unsigned)files));
        buf_clear(&content);
        from = now_us();
        assert_int_equal(store_read_begin(k->r, NULL), 0);
        check(store_lookup(k->r, at, dir, name, strlen(name), &a), "lookup", at);
        check(store_content(k->r, at, a.ino, &content, NULL), "content", at);
        store_read_end(k->r);
        us[i] = now_us() - from;
    }
    row(what, us, READS);
    buf_fini(&content);
    free(us);
}

static bool count_version(void *data, int64_t rev, bool deleted, enum store_kind kind)
{
    (void)rev, (void)deleted, (void)kind;
    ++*(size_t *)data;
    return true;
}

static void versions(struct kit *k)
{
    double us[200];
    size_t n = 0;

    for (int i = 0; i < 200; i++) {
        char path[24];
        double from = now_us();

        snprintf(path, sizeof path, "d/f%06d", i);
        assert_int_equal(store_versions(k->r, path, strlen(path), 0, count_version, &n), 0);
        us[i] = now_us() - from;
    }
    row("versions of a name, whole list", us, 200);
    printf("%-44s %8.1f\n", "  versions in such a list, mean", (double)n / 200);
}

static void compaction(struct kit *k, uint64_t dir, int files)
{
    size_t cap = 1 << 16, n = 0, n_slices = 0, n_checkpoints = 0;
    double *slices = calloc(cap, sizeof *slices), *checkpoints = calloc(cap, sizeof *checkpoints), *puts = calloc(cap, sizeof *puts), from;
    bool more = true;

    assert_int_equal(kit_compact(k, kit_glance(k).rev), 0);
    for (; more && n < cap; n++) {
        from = now_us();
        put_batch(k, dir, files, -1);
        puts[n] = now_us() - from;
        int frames = k->s->wal_frames;

        from = now_us();
        assert_int_equal(store_maintain(k->s, 4, false, &more), 0);
        *(k->s->wal_frames < frames ? &checkpoints[n_checkpoints++] : &slices[n_slices++]) = now_us() - from;
    }
    row("a slice of compaction, 4 ms", slices, n_slices);
    row("a checkpoint between two slices", checkpoints, n_checkpoints);
    row("a batch of 64 puts between two of them", puts, n);
    free(slices);
    free(checkpoints);
    free(puts);
}

static void copies(struct kit *k)
{
    char to[100], again[100], *block = malloc(BLOCK);
    double make = 1e18, cp = 1e18;
    struct store_export x;
    struct stat st;

    snprintf(to, sizeof to, "%s/copy.db", k->dir);
    snprintf(again, sizeof again, "%s/copy2.db", k->dir);
    for (int i = 0; i < 3; i++) {
        int fd = open(to, O_RDWR | O_CREAT | O_TRUNC, 0600), fd2 = open(again, O_RDWR | O_CREAT | O_TRUNC, 0600);
        double from = now_us();
        ssize_t len;

        assert_true(fd >= 0 && fd2 >= 0);
        assert_int_equal(store_export_begin(k->s, &x), 0);
        assert_int_equal(store_export_copy(k->s, &x, fd, NULL, NULL), 0);
        store_export_end(k->s, &x);
        make = now_us() - from < make ? now_us() - from : make;
        lseek(fd, 0, SEEK_SET);
        from = now_us();
        while ((len = read(fd, block, BLOCK)) > 0)
            assert_true(write(fd2, block, (size_t)len) == len);
        cp = now_us() - from < cp ? now_us() - from : cp;
        fstat(fd, &st);
        close(fd);
        close(fd2);
    }
    printf("%-44s %8.0f MB %8.1f ms, %.0f MB/s (cp: %.1f ms)\n", "a copy of the whole", (double)st.st_size / 1e6, make / 1e3,
           (double)st.st_size / make, cp / 1e3);
    free(block);
}

int main(int argc, char **argv)
{
    int files = argc > 1 ? atoi(argv[1]) : 20000, each = argc > 2 ? atoi(argv[2]) : 20;
    struct kit k = {0};
    uint64_t dir;
    int64_t begin, end;

    files = (files + BATCH - 1) / BATCH * BATCH;
    kit_init(&k);
    assert_int_equal(kit_set(&k, "quota", "8G"), 0);
    assert_int_equal(kit_mkdir(&k, STORE_ROOT_INO, "d"), 0);
    dir = k.res.ino;
    for (int i = 0; i < files; i += BATCH)
        put_batch(&k, dir, files, i);
    begin = kit_glance(&k).rev;
    for (int i = 0; i < files / BATCH * each; i++) {
        bool more;

        put_batch(&k, dir, files, -1);
        assert_int_equal(store_maintain(k.s, 4, false, &more), 0);
    }
    end = kit_glance(&k).rev;
    printf("%d files of %d bytes, %d versions each, in %s\n\n%-44s %8s %10s %10s %10s\n", files, VALUE, each, k.dir, "", "n", "p50 us", "p99 us", "max us");
    read_at(&k, "name and content, now", dir, files, 0, 0);
    read_at(&k, "name and content, as of an old revision", dir, files, begin, end);
    versions(&k);
    copies(&k);
    compaction(&k, dir, files);
    kit_fini(&k);
    return 0;
}
