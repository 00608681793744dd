/* What the store costs: puts of 256 bytes to 100,000 files, 1, 16 and 256 in a transaction, beside a raw SQLite UPSERT of the same
 * sizes in the same run; and the reads. Prints a table; compare the ratios, not the rates.
 *
 *     store_put [FILES [PUTS]] */
#include <inttypes.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/base/err.h"
#include "tests/unit/store/kit.h"

enum { VALUE = 256, FANOUT = 100 };

struct clocks {
    double wall, cpu; /* seconds */
};

static double seconds(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct clocks now(void)
{
    return (struct clocks){seconds(CLOCK_MONOTONIC), seconds(CLOCK_THREAD_CPUTIME_ID)};
}

static uint64_t rng = 88172645463325252u;
static uint64_t next_random(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    return rng ^= rng << 17;
}

static void die(const char *what)
{
    fprintf(stderr, "store_put: %s\n", what);
    exit(1);
}

static void row(const char *what, int batch, int n, struct clocks from, struct clocks to)
{
    printf("%-28s %6d %10.0f %10.2f %10.2f\n", what, batch, n / (to.wall - from.wall), (to.wall - from.wall) / n * 1e6, (to.cpu - from.cpu) / n * 1e6);
}

/* ---- The store ----------------------------------------------------------------------------------------------------------- */

static uint64_t *inos;

static void apply(struct kit *k, struct store_op *ops, int n)
{
    struct store_command cmds[256];

    for (int i = 0; i < n; i++) {
        cmds[i] = kit_command(k, &ops[i], 1);
        cmds[i].acked = cmds[i].seq - (uint64_t)i - 1;
    }
    if (kit_apply(k, cmds, (size_t)n) || k->res.err)
        die("apply failed");
}

static void fill(struct kit *k, int files)
{
    static char names[256][16];
    static char value[VALUE];
    struct store_edit edit = {STORE_EDIT_WRITE, 0, {value, VALUE}};
    struct store_op ops[256];
    uint64_t dir = 0;

    for (int done = 0; done < files;) {
        int n = 0;

        for (; n < FANOUT && done < files; n++, done++) {
            if (n == 0) {
                snprintf(names[0], sizeof names[0], "d%d", done / FANOUT);
                kit_mkdir(k, STORE_ROOT_INO, names[0]);
                dir = k->res.ino;
            }
            snprintf(names[n], sizeof names[n], "k%07d", done);
            inos[done] = kit_ino(k, STORE_FILE);
            ops[n] = (struct store_op){.kind = STORE_OP_COMMIT, .parent = dir, .name = kit_str(names[n]), .new_ino = inos[done], .mode = 0644,
                                       .edits = &edit, .n_edits = 1};
        }
        apply(k, ops, n);
    }
}

static void maintain(struct kit *k)
{
    bool more;

    if (store_maintain(k->s, 5, false, &more))
        die("maintain failed");
}

static void puts_of(struct kit *k, int files, int puts, int batch)
{
    static _Alignas(uint64_t) char value[VALUE];
    static struct store_edit edits[256][2];
    struct store_op ops[256];
    struct clocks from = now();

    for (int done = 0; done < puts; done += batch) {
        for (int i = 0; i < batch; i++) {
            edits[i][0] = (struct store_edit){STORE_EDIT_TRUNCATE, 0, {0}};
            edits[i][1] = (struct store_edit){STORE_EDIT_WRITE, 0, {value, VALUE}};
            ops[i] = (struct store_op){.kind = STORE_OP_COMMIT, .ino = inos[next_random() % (uint64_t)files], .edits = edits[i], .n_edits = 2};
        }
        *(uint64_t *)(void *)value = next_random();
        apply(k, ops, batch);
        maintain(k);
    }
    row("store put", batch, puts, from, now());
}

static void reads_of(struct kit *k, int files, int n)
{
    struct buf content = {0};
    struct store_attr attr;
    struct clocks from = now();
    char name[24];

    for (int i = 0; i < n; i++) {
        int f = (int)(next_random() % (uint64_t)files);

        snprintf(name, sizeof name, "d%d", f / FANOUT);
        store_read_begin(k->r, NULL);
        if (store_lookup(k->r, STORE_HEAD, STORE_ROOT_INO, name, strlen(name), &attr) || store_getattr(k->r, STORE_HEAD, inos[f], &attr))
            die("lookup failed");
        store_read_end(k->r);
    }
    row("begin, lookup, getattr, end", 1, n, from, now());
    from = now();
    for (int i = 0; i < n; i++) {
        buf_clear(&content);
        if (store_content(k->r, STORE_HEAD, inos[next_random() % (uint64_t)files], &content, &attr))
            die("content failed");
    }
    row("content", 1, n, from, now());
    buf_fini(&content);
}

static void open_of(struct kit *k)
{
    struct clocks from = now();

    kit_reopen(k);
    row("close and open", 1, 1, from, now());
}

static void history_of(struct kit *k, int files, int n)
{
    int64_t rev = kit_glance(k).rev;
    struct store_attr attr;
    struct clocks from = now();

    for (int i = 0; i < n; i++)
        if (store_getattr(k->r, rev - (int64_t)(next_random() % (uint64_t)n), inos[next_random() % (uint64_t)files], &attr))
            die("old getattr failed");
    row("getattr at an old revision", 1, n, from, now());
    from = now();
    if (kit_compact(k, rev))
        die("compact failed");
    kit_compact_all(k);
    row("compaction, per version", 1, (int)rev - files, from, now());
}

/* ---- Raw SQLite ---------------------------------------------------------------------------------------------------------- */

static void exec(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL))
        die(sqlite3_errmsg(db));
}

static void raw_upsert(sqlite3 *db, sqlite3_stmt *q, int f, char *value)
{
    char path[48];
    int len = snprintf(path, sizeof path, "d%d/k%07d", f / FANOUT, f);
    uint64_t r = next_random();

    memcpy(value, &r, sizeof r); /* SQLite writes no page for a value that is there already */
    sqlite3_bind_blob(q, 1, path, len, SQLITE_STATIC);
    sqlite3_bind_blob(q, 2, value, VALUE, SQLITE_STATIC);
    if (sqlite3_step(q) != SQLITE_DONE)
        die(sqlite3_errmsg(db));
    sqlite3_reset(q);
}

static void raw(const char *dir, int files, int puts)
{
    static const int batches[] = {1, 16, 256};
    static char value[VALUE];
    sqlite3_stmt *q;
    sqlite3 *db;
    char path[128];

    snprintf(path, sizeof path, "%s/raw.db", dir);
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL))
        die("cannot open raw.db");
    exec(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA secure_delete=OFF; PRAGMA cache_size=-65536; PRAGMA wal_autocheckpoint=2000");
    exec(db, "CREATE TABLE kv(k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID");
    if (sqlite3_prepare_v3(db, "INSERT INTO kv VALUES(?1, ?2) ON CONFLICT(k) DO UPDATE SET v = ?2", -1, SQLITE_PREPARE_PERSISTENT, &q, NULL))
        die(sqlite3_errmsg(db));
    exec(db, "BEGIN");
    for (int f = 0; f < files; f++)
        raw_upsert(db, q, f, value);
    exec(db, "COMMIT");
    for (int b = 0; b < 3; b++) {
        struct clocks from = now();

        for (int done = 0; done < puts; done += batches[b]) {
            exec(db, "BEGIN IMMEDIATE");
            for (int i = 0; i < batches[b]; i++)
                raw_upsert(db, q, (int)(next_random() % (uint64_t)files), value);
            exec(db, "COMMIT");
        }
        row("raw SQLite upsert", batches[b], puts, from, now());
    }
    sqlite3_finalize(q);
    sqlite3_close(db);
    unlink(path);
}

int main(int argc, char **argv)
{
    int files = argc > 1 ? atoi(argv[1]) : 100000, puts = argc > 2 ? atoi(argv[2]) : 51200;
    static struct kit kit;

    if (files < FANOUT || puts < 256)
        die("usage: store_put [FILES [PUTS]]");
    inos = calloc((size_t)files, sizeof *inos);
    if (!inos)
        die("out of memory");
    kit_init(&kit);
    printf("%-28s %6s %10s %10s %10s\n", "what", "batch", "per s", "us", "cpu us");
    raw(kit.dir, files, puts);
    fill(&kit, files);
    puts_of(&kit, files, puts, 1);
    puts_of(&kit, files, puts, 16);
    puts_of(&kit, files, puts, 256);
    reads_of(&kit, files, puts);
    history_of(&kit, files, puts);
    open_of(&kit);
    kit_fini(&kit);
    free(inos);
    return 0;
}
