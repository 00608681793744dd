/* Every allocation and every file operation of a day in the life of a store fails once, one after the other: the answer is success or
 * one of the environment's errors, nothing of a failed batch is there, the store opens again, passes its check, and the same entries
 * then lead to the same hash.
 *
 *     fault_store alloc|io|full [retry] [lasting]
 *     fault_store crash                 (kill -9 at each hit of each failpoint, instead)
 *
 * With `retry` the call that failed is made again on the same store; without, the store is closed and opened. */
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/base/err.h"
#include "tests/fault/store/faults.h"
#include "tests/unit/store/kit.h"

#define ROOT STORE_ROOT_INO
enum { ENTRIES_MAX = 64, FILE_SIZE_MAX = 4 << 20 };

#define FAIL(...) \
    do { \
        fprintf(stderr, "fault_store: at fault %ld: ", at_fault); \
        fprintf(stderr, __VA_ARGS__); \
        fprintf(stderr, " (line %d)\n", __LINE__); \
        exit(1); \
    } while (0)

static long at_fault;

/* ---- The day -------------------------------------------------------------------------------------------------------------- */

static struct {
    struct buf data;
    uint64_t index;
} entries[ENTRIES_MAX];
static int n_entries;
static uint64_t n_seq, n_numbers = 1;
static char big[9000];

static void add_entry(const struct store_op *ops, size_t n, bool session)
{
    const uint64_t seq = ++n_seq;
    struct store_command cmd = {.session = session ? 0 : 1, .seq = seq, .acked = seq > 3 ? seq - 3 : 0, .member = 1, .time_ns = 5000 + (int64_t)seq,
                                .comm = "fault", .ops = ops, .n_ops = n};
    struct store_bytes bytes;
    struct buf b = {0};

    entries[n_entries].index = (uint64_t)n_entries + 1;
    if (store_command_encode(&cmd, &b))
        FAIL("encode");
    bytes = (struct store_bytes){b.data, b.len};
    if (store_entry_build(kit_cluster_id, 1, INT64_C(1000000000) * (n_entries + 1), &bytes, 1, &entries[n_entries].data))
        FAIL("entry");
    n_entries++;
    buf_fini(&b);
}

/* Of the session itself, so its owners 1 and 2 stand in each other's way. */
static void add_lock(enum store_op_kind kind, uint32_t flags, uint64_t owner, uint64_t request)
{
    struct store_op op = {.kind = kind, .flags = flags, .owner = owner, .request = request, .last = 99};

    if ((flags & STORE_LOCK_CLASS) == STORE_LOCK_NAMED)
        op.name = (struct store_bytes)B("n");
    else
        op.ino = 8;
    add_entry(&op, 1, false);
}

static void plan_locks(void)
{
    enum { NAMED = STORE_LOCK_NAMED | STORE_LOCK_EXCLUSIVE, RANGE = STORE_LOCK_RANGE | STORE_LOCK_EXCLUSIVE };

    add_lock(STORE_OP_LOCK, NAMED, 1, 1);
    add_lock(STORE_OP_LOCK, NAMED, 2, 2);
    add_lock(STORE_OP_LOCK, RANGE, 1, 3);
    add_lock(STORE_OP_LOCK, RANGE, 2, 4);
    add_entry(&(struct store_op){.kind = STORE_OP_PROCLAIM, .name = B("n"), .owner = 3, .rev = 1, .bytes = B("no")}, 1, false);
    add_entry(&(struct store_op){.kind = STORE_OP_UNLOCK, .flags = STORE_LOCK_RANGE, .ino = 8, .owner = 1, .first = 40, .last = 50}, 1, false);
    add_lock(STORE_OP_UNLOCK, NAMED, 1, 0);
    add_lock(STORE_OP_UNLOCK, RANGE | STORE_LOCK_WAITING, 2, 4);
    add_lock(STORE_OP_UNLOCK, RANGE, 2, 4);
    add_lock(STORE_OP_LOCK, RANGE, 2, 5);
    add_entry(&(struct store_op){.kind = STORE_OP_LAPSE}, 1, false);
}

/* The lease is the revision that grants it, so it comes first. */
static void plan_lease(uint64_t dir)
{
    enum { LEASE = 2 };
    struct store_op op = {.kind = STORE_OP_COMMIT, .parent = dir, .name = B("k"), .new_ino = n_numbers++ * 4, .mode = 0644, .valid = STORE_ATTR_LEASE, .lease = LEASE};

    add_entry(&op, 1, false);
    add_entry(&(struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_TTL, .ino = LEASE, .rev = INT64_C(9000000000)}, 1, false);
    add_entry(&(struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_EXPIRE, .ino = LEASE, .rev = 1, .first = 99}, 1, false);
}

static void add_put(const char *name, const void *data, size_t len)
{
    struct store_edit edits[] = {{STORE_EDIT_TRUNCATE, 0, {0}}, {STORE_EDIT_WRITE, 0, {data, len}}};
    struct store_op op = {.kind = STORE_OP_COMMIT, .parent = ROOT, .name = kit_str(name), .new_ino = n_numbers++ * 4, .mode = 0644, .edits = edits, .n_edits = 2};

    add_entry(&op, 1, false);
}

static void plan(void)
{
    uint64_t dir = n_numbers++ * 4 + STORE_DIR;
    struct store_op op = {.kind = STORE_OP_SESSION}, group[2];
    struct store_edit append = {STORE_EDIT_APPEND, 0, B("!")};

    memset(big, 'b', sizeof big);
    add_entry(&op, 1, true);
    add_entry(&(struct store_op){.kind = STORE_OP_RESERVE}, 1, false);
    add_entry(&(struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .name = B("lease"), .rev = INT64_C(5000000000)}, 1, false);
    add_entry(&(struct store_op){.kind = STORE_OP_MKDIR, .parent = ROOT, .name = B("d"), .new_ino = dir, .mode = 0755}, 1, false);
    add_put("a", "small", 5);
    add_put("b", big, sizeof big);
    add_put("a", "other", 5);
    add_entry(&(struct store_op){.kind = STORE_OP_SETXATTR, .ino = 2 * 4, .name = B("user.x"), .bytes = B("y")}, 1, false);
    add_entry(&(struct store_op){.kind = STORE_OP_COMMIT, .ino = 3 * 4, .edits = &append, .n_edits = 1}, 1, false);
    add_entry(&(struct store_op){.kind = STORE_OP_RENAME, .parent = ROOT, .name = B("b"), .parent2 = dir, .name2 = B("c")}, 1, false);
    add_entry(&(struct store_op){.kind = STORE_OP_SETATTR, .ino = 3 * 4, .mode = 0600, .valid = STORE_ATTR_MODE}, 1, false);
    group[0] = (struct store_op){.kind = STORE_OP_SYMLINK, .parent = dir, .name = B("l"), .new_ino = n_numbers++ * 4 + STORE_SYMLINK, .bytes = B("target")};
    group[1] = (struct store_op){.kind = STORE_OP_UNLINK, .parent = ROOT, .name = B("none")};
    add_entry(group, 2, false);
    group[1].name = (struct store_bytes)B("a");
    add_entry(group, 2, false);
    add_entry(&(struct store_op){.kind = STORE_OP_SETTING, .name = B("quota"), .bytes = B("4M")}, 1, false);
    for (int i = 0; i < 4; i++)
        add_put("e", big, 3000 + 1500 * (size_t)i);
    add_entry(&(struct store_op){.kind = STORE_OP_COMPACT, .rev = 8}, 1, false);
    add_put("a", "again", 5);
    add_entry(&(struct store_op){.kind = STORE_OP_RMDIR, .parent = ROOT, .name = B("none")}, 1, false);
    add_entry(&(struct store_op){.kind = STORE_OP_COMPACT, .rev = 13}, 1, false);
    plan_lease(dir);
    plan_locks();
}

/* ---- One run -------------------------------------------------------------------------------------------------------------- */

static bool on_dirent(void *data, const void *name, size_t len, uint64_t ino)
{
    (void)data, (void)name, (void)len, (void)ino;
    return true;
}

static bool on_event(void *data, const struct store_event *e)
{
    (void)data, (void)e;
    return true;
}

static bool on_lock(void *data, const struct store_lock *l)
{
    (void)data, (void)l;
    return true;
}

static bool on_lease(void *data, const struct store_lease *l)
{
    (void)data, (void)l;
    return true;
}

static int read_lives(struct store_reader *r)
{
    struct store_lock want = {.class = STORE_LOCK_RANGE, .ino = 8, .exclusive = true, .last = 99}, l;
    struct store_lease lease;
    struct buf value = {0};
    int64_t n;
    int err = store_locks(r, 0, on_lock, NULL);

    if (!err)
        err = store_lock(r, "n", &l, &value, &n);
    if (!err || err == QE_NOENT)
        err = store_lock_conflict(r, &want, &l);
    if (!err || err == QE_NOENT)
        err = store_leases(r, "", on_lease, NULL);
    if (!err)
        err = store_lease(r, "lease", &lease);
    buf_fini(&value);
    return err == QE_NOENT ? 0 : err;
}

static int read_some(struct store_reader *r)
{
    struct store_attr a;
    struct buf b = {0};
    int err = store_read_begin(r, NULL);

    if (err)
        return err;
    err = store_list(r, STORE_HEAD, ROOT, NULL, 0, on_dirent, NULL);
    if (!err)
        err = store_lookup(r, STORE_HEAD, ROOT, "a", 1, &a);
    if (err == QE_NOENT)
        err = 0;
    if (!err)
        err = store_content(r, STORE_HEAD, 3 * 4, &b, NULL);
    if (err == QE_NOENT)
        err = 0;
    if (!err)
        err = store_listxattr(r, STORE_HEAD, ROOT, &b);
    if (!err)
        err = read_lives(r);
    store_read_end(r);
    if (!err)
        err = store_events(r, 13, on_event, NULL);
    if (err == QE_STALE || err == QE_RANGE)
        err = 0;
    buf_fini(&b);
    return err;
}

struct day {
    const char *dir;
    struct store *s;
    struct store_reader *r;
    int n_results; /* told since the last open */
};

static void on_result(void *data, const struct store_result *r)
{
    struct day *d = data;

    (void)r;
    d->n_results++;
}

static int day_open(struct day *d)
{
    struct store_options o = {.dir = d->dir};
    int err = store_open(&o, &d->s, NULL);

    if (err) {
        d->s = NULL;
        return err;
    }
    return store_reader_open(d->s, &d->r);
}

static void day_close(struct day *d)
{
    store_reader_close(d->r);
    store_close(d->s);
    d->r = NULL;
    d->s = NULL;
}

static int apply_one(struct day *d, int i)
{
    struct store_entry e = {entries[i].index, 1, {entries[i].data.data, entries[i].data.len}};
    struct store_sink sink = {d, on_result, NULL};
    struct store_position pos;
    int told = d->n_results, err = store_apply(d->s, &e, 1, &sink);

    store_position(d->s, &pos);
    if (err ? pos.applied != entries[i].index - 1 || d->n_results != told : pos.applied != entries[i].index || d->n_results != told + 1)
        FAIL("entry %d: error %d, applied %" PRIu64 ", %d results", i, err, pos.applied, d->n_results - told);
    return err;
}

/* The rest of the day from where the store is. Stops at the first error. */
static int day_go_on(struct day *d)
{
    struct store_position pos;
    uint64_t index;
    bool more = true;
    int err = 0;

    store_position(d->s, &pos);
    for (int i = (int)pos.applied; !err && i < n_entries; i++) {
        err = apply_one(d, i);
        if (!err)
            err = read_some(d->r);
        if (!err && i % 8 == 7)
            err = store_maintain(d->s, 5, true, &more);
    }
    more = true;
    for (int i = 0; !err && more && i < 100; i++)
        err = store_maintain(d->s, 5, true, &more);
    return err ? err : store_sync(d->s, &index);
}

static void check_listed(int err)
{
    if (err != QE_NOMEM && err != QE_IO && err != QE_DISKFULL && err != QE_CORRUPT)
        FAIL("error %d (%s) is not one of the environment's", err, qfs_strerror(err));
}

static uint64_t hash_of(struct day *d)
{
    uint64_t hash = 0;
    int64_t rev;

    if (store_hash(d->r, &rev, &hash))
        FAIL("hash");
    return hash;
}

/* ---- Fresh directories ---------------------------------------------------------------------------------------------------- */

static struct {
    char name[16];
    size_t len;
    uint8_t *data;
} files[2] = {{.name = "state-1.db"}, {.name = "CURRENT"}};

static void remember(const char *dir)
{
    for (int i = 0; i < 2; i++) {
        char path[128];
        ssize_t n;
        int fd;

        snprintf(path, sizeof path, "%s/%s", dir, files[i].name);
        fd = open(path, O_RDONLY);
        files[i].data = malloc(FILE_SIZE_MAX);
        n = files[i].data ? read(fd, files[i].data, FILE_SIZE_MAX) : -1;
        if (n <= 0)
            FAIL("cannot read %s", path);
        files[i].len = (size_t)n;
        close(fd);
    }
}

static void restore(const char *dir)
{
    static const char *const gone[] = {"state-1.db", "state-1.db-wal", "state-1.db-shm", "CURRENT"}; /* rewriting in place would flush */
    char path[128];

    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, gone[i]);
        unlink(path);
    }
    for (int i = 0; i < 2; i++) {
        int fd;

        snprintf(path, sizeof path, "%s/%s", dir, files[i].name);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (write(fd, files[i].data, files[i].len) != (ssize_t)files[i].len)
            FAIL("cannot write %s", path);
        close(fd);
    }
}

/* Nothing but what `restore` has put there: the database, byte by byte, and no log of SQLite's. */
static bool as_restored(const char *dir)
{
    static uint8_t data[FILE_SIZE_MAX];
    char path[128];
    struct stat st;

    snprintf(path, sizeof path, "%s/state-1.db-wal", dir);
    if (stat(path, &st) == 0 && st.st_size > 0)
        return false;
    for (int i = 0; i < 2; i++) {
        ssize_t n;
        int fd;

        snprintf(path, sizeof path, "%s/%s", dir, files[i].name);
        fd = open(path, O_RDONLY);
        n = read(fd, data, sizeof data);
        close(fd);
        if (n != (ssize_t)files[i].len || memcmp(data, files[i].data, files[i].len) != 0)
            return false;
    }
    return true;
}

/* What a crash left, under other names, for later. */
static void move_crashed(const char *dir, long n, bool back)
{
    static const char *const names[] = {"state-1.db", "state-1.db-wal", "state-1.db-shm"};

    for (int i = 0; i < 3; i++) {
        char here[128], there[128];

        snprintf(here, sizeof here, "%s/%s", dir, names[i]);
        snprintf(there, sizeof there, "%s/crash-%ld-%d", dir, n, i);
        if (back)
            unlink(here);
        if (rename(back ? there : here, back ? here : there) && i == 0)
            FAIL("rename");
    }
}

static void keep_crashed(const char *dir, long n)
{
    move_crashed(dir, n, false);
}

static void use_crashed(const char *dir, long n)
{
    move_crashed(dir, n, true);
}

/* ---- All faults ----------------------------------------------------------------------------------------------------------- */

static bool one_day(const char *dir, enum fault_kind kind, long n, bool lasting, bool retry, uint64_t want)
{
    struct day d = {.dir = dir};
    bool fired, opened;
    int err;

    restore(dir);
    faults_arm(kind, n, lasting);
    err = day_open(&d);
    opened = !err;
    if (!err)
        err = day_go_on(&d);
    if (!err)
        day_close(&d); /* closing may meet the fault, too */
    fired = faults_disarm();
    if (err) {
        if (!fired)
            FAIL("error %d without a fault", err);
        check_listed(err);
        if (!retry || !d.s || !d.r)
            day_close(&d);
    }
    if (!opened && !d.s && as_restored(dir)) /* from here on it would be the day of `reference` again; most faults are like that */
        return fired;
    if (!d.s && store_check(dir, kit_say, NULL, NULL))
        FAIL("damage after error %d", err);
    if (!d.s && day_open(&d))
        FAIL("cannot be opened after error %d", err);
    err = day_go_on(&d);
    if (err)
        FAIL("cannot go on: %d, %s", err, store_errmsg(d.s));
    if (hash_of(&d) != want)
        FAIL("another hash");
    day_close(&d);
    if (retry && store_check(dir, kit_say, NULL, NULL))
        FAIL("damage in the end");
    return fired;
}

static uint64_t reference(const char *dir)
{
    struct day d = {.dir = dir};
    uint64_t hash;

    if (day_open(&d) || day_go_on(&d))
        FAIL("the day does not succeed without faults");
    hash = hash_of(&d);
    day_close(&d);
    if (store_check(dir, kit_say, NULL, NULL))
        FAIL("damage without faults");
    return hash;
}

/* How many operations it takes to open a store. A fault in one of them leaves nothing that could be tried again. */
static long in_opening(const char *dir, enum fault_kind kind)
{
    struct day d = {.dir = dir};

    restore(dir);
    faults_arm(kind, LONG_MAX, false);
    if (day_open(&d))
        FAIL("cannot be opened without faults");
    faults_disarm();
    day_close(&d);
    return faults_met();
}

static bool is_empty(const char *dir)
{
    return rmdir(dir) == 0 && mkdir(dir, 0700) == 0;
}

/* Making a store: it fails or is whole, and a second attempt completes it. In a directory where nothing is left it is not made: all of them
 * would be what the first one was. */
static bool one_create(struct kit *k, enum fault_kind kind, long n)
{
    bool fired;
    int err;

    kit_make_dir(k);
    faults_arm(kind, n, false);
    err = kit_create_quietly(k);
    fired = faults_disarm();
    if (err)
        check_listed(err);
    if (err && is_empty(k->dir)) {
        kit_fini(k);
        return fired;
    }
    if (err && kit_create(k))
        FAIL("cannot be made after error %d", err);
    if (store_check(k->dir, kit_say, NULL, NULL))
        FAIL("damage after a create that failed with %d", err);
    kit_fini(k);
    return fired;
}

/* ---- All crashes ---------------------------------------------------------------------------------------------------------- */

/* False: the child was not killed, it saw the point fewer times. */
static bool child_dies(const char *dir, const char *point, long hit)
{
    struct day d = {.dir = dir};
    char env[64];
    int status;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        snprintf(env, sizeof env, "%s=crash@%ld", point, hit);
        setenv("QUORUMFS_FAILPOINTS", env, 1);
        _exit(day_open(&d) || day_go_on(&d) ? 1 : 0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        FAIL("fork");
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
        FAIL("the child failed instead of dying at %s", point);
    return WIFSIGNALED(status);
}

static int crashes(const char *dir)
{
    static const char *const points[] = {"store.apply", "store.commit", "store.committed", "store.checkpoint", "store.compact"};
    struct day d = {.dir = dir};
    uint64_t want;
    long total = 0;

    /* No failpoint has been met before a child is made: a process reads its list once. */
    restore(dir);
    for (int p = 0; p < 5; p++) {
        for (at_fault = 1;; at_fault++, total++) {
            restore(dir);
            if (!child_dies(dir, points[p], at_fault))
                break;
            if (store_check(dir, kit_say, NULL, NULL))
                FAIL("damage after a crash at %s", points[p]);
            keep_crashed(dir, total);
        }
        if (at_fault == 1)
            FAIL("nothing died at %s", points[p]);
    }
    restore(dir);
    want = reference(dir);
    for (long i = 0; i < total; i++) {
        at_fault = i;
        use_crashed(dir, i);
        if (day_open(&d) || day_go_on(&d))
            FAIL("cannot go on after crash %ld", i);
        if (hash_of(&d) != want)
            FAIL("another hash after crash %ld", i);
        day_close(&d);
        if (store_check(dir, kit_say, NULL, NULL))
            FAIL("damage in the end, after crash %ld", i);
    }
    printf("fault_store: %ld crashes\n", total);
    return total > 20 ? 0 : 1;
}

int main(int argc, char **argv)
{
    enum fault_kind kind = argc > 1 && !strcmp(argv[1], "io") ? FAULT_IO : argc > 1 && !strcmp(argv[1], "full") ? FAULT_FULL : FAULT_ALLOC;
    bool retry = false, lasting = false;
    static struct kit kit, made;
    uint64_t want;
    long n, first, creates = 1;

    for (int i = 2; i < argc; i++) {
        retry |= !strcmp(argv[i], "retry");
        lasting |= !strcmp(argv[i], "lasting");
    }
    faults_install();
    plan();
    kit_make_dir(&kit);
    if (kit_create(&kit))
        FAIL("create");
    remember(kit.dir);
    if (argc > 1 && !strcmp(argv[1], "crash")) {
        int status = crashes(kit.dir);

        kit_fini(&kit);
        return status;
    }
    want = reference(kit.dir);
    n = first = retry ? in_opening(kit.dir, kind) : 1;
    for (at_fault = n; one_day(kit.dir, kind, n, lasting, retry, want); at_fault = ++n)
        ;
    if (!retry && !lasting)
        for (at_fault = creates; one_create(&made, kind, creates); at_fault = ++creates)
            ;
    printf("fault_store: %ld faults in a day, %ld in a create\n", n - first, creates - 1);
    kit_fini(&kit);
    return n - first > 10 ? 0 : 1;
}
