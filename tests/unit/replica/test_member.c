/* One member from outside: made, started, written to, stopped, started again. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "store/base/err.h"
#include "tests/unit/replica/member_fixture.h"

/* ---- Fixture ------------------------------------------------------------------------------------------------------------- */

static struct member m;

static int setup(void **state)
{
    (void)state;
    member_make(&m);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    member_remove(&m);
    return 0;
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static void assert_content(const char *name, const char *content)
{
    struct buf got = {0};

    assert_int_equal(member_get(&m, name, &got), 0);
    assert_string_equal(buf_cstr(&got), content);
    buf_fini(&got);
}

static struct replica_status status_of(void)
{
    struct replica_status s;

    replica_status(m.r, &s);
    return s;
}

static void touch(const char *name)
{
    char path[400];
    int fd;

    snprintf(path, sizeof path, "%s/%s", m.dir, name);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
}

/* Many writers, each with one request after the other. */
struct writer {
    pthread_t thread;
    int id, n;           /* number of writes */
    int failed;          /* of them */
};

static void *writer_main(void *arg)
{
    struct writer *w = arg;
    char name[32], text[32];

    for (int i = 0; i < w->n; i++) {
        snprintf(name, sizeof name, "w%d", w->id);
        snprintf(text, sizeof text, "%d", i);
        w->failed += member_put(&m, name, text) != 0;
    }
    return NULL;
}

static int run_writers(int writers, int each)
{
    struct writer w[64];
    int failed = 0;

    for (int i = 0; i < writers; i++) {
        w[i] = (struct writer){.id = i, .n = each};
        assert_int_equal(pthread_create(&w[i].thread, NULL, writer_main, &w[i]), 0);
    }
    for (int i = 0; i < writers; i++) {
        pthread_join(w[i].thread, NULL);
        failed += w[i].failed;
    }
    return failed;
}

static void say_line(void *data, const char *line)
{
    struct buf *out = data;

    buf_printf(out, "%s\n", line);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static _Atomic int n_answered;

static void answered_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    (void)req, (void)rev, (void)ino;
    if (!err)
        atomic_fetch_add(&n_answered, 1);
}

/* Three new files, asked for one after the other by one thread: how many entries they took. */
static uint64_t entries_of_three(bool held)
{
    static const char *const names[] = {"a", "b", "c"};
    const struct timespec pause = {0, 5000000};
    struct replica_request reqs[3];
    uint64_t before = status_of().last_index;

    atomic_store(&n_answered, 0);
    if (held)
        replica_hold();
    for (int i = 0; i < 3; i++) {
        struct store_edit edit = {.kind = STORE_EDIT_TRUNCATE};
        struct store_op op = {.kind = STORE_OP_COMMIT, .parent = STORE_ROOT_INO, .name = {names[i], 1}, .mode = 0644, .edits = &edit, .n_edits = 1,
                              .new_ino = replica_new_ino(m.r, STORE_FILE)};
        struct store_command cmd = {.comm = "test", .ops = &op, .n_ops = 1};

        reqs[i] = (struct replica_request){.cb = answered_cb};
        replica_submit(m.r, &reqs[i], &cmd);
        nanosleep(&pause, NULL);
    }
    replica_release(m.r);
    while (atomic_load(&n_answered) < 3)
        nanosleep(&pause, NULL);
    return status_of().last_index - before;
}

/* A thread that has many requests at once has them in one entry. Whatever else wakes the loop meanwhile may take some of them along, so not always. */
static void what_is_held_goes_together(void **state)
{
    int tries = 0;

    (void)state;
    member_up(&m);
    assert_int_equal(member_put(&m, "a", "first"), 0); /* inode numbers are there */
    assert_true(entries_of_three(false) > 1);
    while (entries_of_three(true) != 1)
        assert_true(++tries < 20);
}

static void write_is_readable_when_answered(void **state)
{
    (void)state;
    member_up(&m);
    assert_int_equal(member_put(&m, "a", "hello"), 0);
    assert_content("a", "hello");
    assert_int_equal(replica_writable(m.r), 0);
    assert_false(replica_barrier_needed(m.r));
    assert_string_equal(status_of().role, "leader");
    assert_int_equal(status_of().n_members, 1);
}

static void writes_survive_a_restart(void **state)
{
    struct buf report = {0};

    (void)state;
    member_up(&m);
    for (int i = 0; i < 50; i++)
        assert_int_equal(member_put(&m, "a", i % 2 ? "odd" : "even"), 0);
    member_down(&m);
    assert_int_equal(replica_check(m.dir, say_line, &report), 0);
    member_up(&m);
    assert_content("a", "odd");
    assert_int_equal(member_put(&m, "a", "again"), 0);
    assert_content("a", "again");
    buf_fini(&report);
}

/* A sole voter must not lead twice in one term. */
static void each_start_has_a_new_term(void **state)
{
    uint64_t term;

    (void)state;
    member_up(&m);
    term = status_of().term;
    member_down(&m);
    member_up(&m);
    assert_true(status_of().term > term);
}

static void errors_of_the_store_reach_the_caller(void **state)
{
    struct store_op op = {.kind = STORE_OP_UNLINK, .parent = STORE_ROOT_INO, .name = {"none", 4}};

    (void)state;
    member_up(&m);
    assert_int_equal(member_do(&m, &op, NULL, NULL), QE_NOENT);
    assert_int_equal(member_put(&m, "a", "x"), 0);
}

static void revisions_grow_in_order_of_submission(void **state)
{
    struct store_op op = {.kind = STORE_OP_MKDIR, .parent = STORE_ROOT_INO, .mode = 0755};
    int64_t last = 0, rev;
    uint64_t ino;
    char name[8];

    (void)state;
    member_up(&m);
    for (int i = 0; i < 20; i++) {
        op.name = (struct store_bytes){name, (size_t)snprintf(name, sizeof name, "d%d", i)};
        op.new_ino = replica_new_ino(m.r, STORE_DIR);
        assert_int_equal(member_do(&m, &op, &rev, &ino), 0);
        assert_int_equal(rev, last ? last + 1 : rev);
        assert_int_equal(ino, op.new_ino);
        last = rev;
    }
}

/* Two blocks are there after start; a third comes while the second is used. */
static void inode_numbers_are_fresh_and_do_not_run_out(void **state)
{
    uint64_t last = 0;

    (void)state;
    member_up(&m);
    for (int i = 0; i < 5 * STORE_INO_BLOCK; i++) {
        uint64_t ino = replica_new_ino(m.r, STORE_SYMLINK);

        for (int tries = 0; ino == 0 && tries < 30000; tries++) { /* the next block is on its way */
            usleep(1000);
            ino = replica_new_ino(m.r, STORE_SYMLINK);
        }
        assert_true(ino > last);
        assert_int_equal(store_ino_kind(ino), STORE_SYMLINK);
        last = ino;
    }
    member_down(&m);
    member_up(&m);
    assert_true(replica_new_ino(m.r, STORE_FILE) > last);
}

/* Entries in flight: one. So what comes meanwhile shares the next one. */
static void concurrent_writes_share_entries(void **state)
{
    uint64_t entries;
    int tries = 0;

    (void)state;
    member_up(&m);
    do { /* how many share depends on the scheduler: on a busy machine a writer may have his answer before the next one has asked */
        entries = status_of().last_index;
        assert_int_equal(run_writers(32, 40), 0);
        entries = status_of().last_index - entries;
        print_message("%d writes in %d entries\n", 32 * 40, (int)entries);
    } while (entries >= 32 * 40 * 3 / 4 && ++tries < 20);
    assert_true(entries < 32 * 40 * 3 / 4);
    for (int i = 0; i < 32; i++) {
        char name[8];

        snprintf(name, sizeof name, "w%d", i);
        assert_content(name, "39");
    }
    assert_true(status_of().commit_time.count >= 32 * 40);
    assert_true(status_of().fsync_time.count >= entries);
}

struct copier {
    pthread_t thread;
    atomic_bool stop;
    int copies;       /* made */
    int failed;       /* of them */
};

/* One copy after the other, each of a newer revision, each sound. */
static void *copier_main(void *arg)
{
    struct copier *c = arg;
    int64_t last = 0;

    for (c->copies = 0; !atomic_load(&c->stop) || c->copies < 2; c->copies++) {
        struct store_export x;
        char magic[16] = "", path[300];
        int fd;

        snprintf(path, sizeof path, "%s/copy.db", m.parent);
        fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        c->failed += fd < 0 || replica_export(m.r, fd, NULL, NULL, &x) != 0 || x.rev < last || pread(fd, magic, 16, 0) != 16 ||
                     memcmp(magic, "SQLite format 3", 16) != 0 || lseek(fd, 0, SEEK_END) != x.bytes;
        last = x.rev;
        close(fd);
        unlink(path);
    }
    return NULL;
}

static void copies_are_made_while_writing_goes_on(void **state)
{
    struct copier c = {0};

    (void)state;
    member_up(&m);
    assert_int_equal(pthread_create(&c.thread, NULL, copier_main, &c), 0);
    assert_int_equal(run_writers(8, 200), 0);
    atomic_store(&c.stop, true);
    pthread_join(c.thread, NULL);
    print_message("%d copies\n", c.copies);
    assert_int_equal(c.failed, 0);
}

static _Atomic int64_t barrier_rev;

static void barrier_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    (void)req;
    (void)ino;
    atomic_store(&barrier_rev, err ? err : rev);
}

static void barrier_sees_what_was_committed(void **state)
{
    struct replica_request req = {.cb = barrier_cb};
    struct store_op op = {.kind = STORE_OP_MKDIR, .parent = STORE_ROOT_INO, .name = {"d", 1}, .mode = 0755};
    int64_t rev;

    (void)state;
    member_up(&m);
    op.new_ino = replica_new_ino(m.r, STORE_DIR);
    assert_int_equal(member_do(&m, &op, &rev, NULL), 0);
    atomic_store(&barrier_rev, 0);
    replica_barrier(m.r, &req);
    for (int i = 0; atomic_load(&barrier_rev) == 0 && i < 30000; i++)
        usleep(1000);
    assert_true(atomic_load(&barrier_rev) >= rev);
}

/* The member itself proposes what `retain` asks for, also when nobody writes any more. */
static void history_is_compacted_as_retain_says(void **state)
{
    struct store_op op = {.kind = STORE_OP_SETTING, .name = {"retain", 6}, .bytes = {"revisions:50", 12}};
    struct store_glance g = {0};

    (void)state;
    member_up(&m);
    assert_int_equal(member_do(&m, &op, NULL, NULL), 0);
    for (int i = 0; i < 200; i++)
        assert_int_equal(member_put(&m, "a", i % 2 ? "odd" : "even"), 0);
    replica_glance(m.r, &g);
    for (int i = 0; g.rev - g.compacted > 60 && i < 30000; i++) {
        usleep(1000);
        replica_glance(m.r, &g);
    }
    if (g.rev - g.compacted > 60)
        fail_msg("revision %d, compacted %d", (int)g.rev, (int)g.compacted);
    assert_content("a", "odd");
}

static void large_command_travels_alone(void **state)
{
    char *text = malloc(900001);
    struct buf got = {0};

    (void)state;
    memset(text, 'x', 900000);
    text[900000] = 0;
    member_up(&m);
    assert_int_equal(member_put(&m, "big", text), 0);
    assert_int_equal(member_put(&m, "small", "s"), 0);
    member_down(&m);
    member_up(&m);
    assert_int_equal(member_get(&m, "big", &got), 0);
    assert_int_equal(got.len, 900000);
    free(text);
    buf_fini(&got);
}

static int count_cb_calls;
static void count_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    _Atomic int *counts = req->data;

    (void)rev;
    (void)ino;
    atomic_fetch_add(&counts[err == 0 ? 0 : 1], 1);
    count_cb_calls++;
}

/* What was submitted before the stop is answered, and not with a failure. */
static void stop_answers_what_was_submitted(void **state)
{
    static _Atomic int counts[2];
    static struct replica_request reqs[200];
    struct store_op op = {.kind = STORE_OP_CREATE, .parent = STORE_ROOT_INO, .mode = 0644};
    struct store_command cmd = {.comm = "test", .ops = &op, .n_ops = 1};
    char name[16];

    (void)state;
    member_up(&m);
    for (int i = 0; i < 200; i++) {
        op.name = (struct store_bytes){name, (size_t)snprintf(name, sizeof name, "f%d", i)};
        op.new_ino = replica_new_ino(m.r, STORE_FILE);
        reqs[i] = (struct replica_request){.data = counts, .cb = count_cb};
        replica_submit(m.r, &reqs[i], &cmd);
    }
    member_down(&m);
    assert_int_equal(atomic_load(&counts[0]), 200);
    assert_int_equal(atomic_load(&counts[1]), 0);
    member_up(&m);
    assert_content("f199", "");
}

/* Each moment at which init can be interrupted; the second call completes it. */
static int init_body(void *arg)
{
    struct buf why = {0};

    return member_init(arg, &why) ? 1 : 0;
}

static void interrupted_init_is_completed(void **state)
{
    static const char *const points[] = {"replica.init.marked=crash", "replica.init.raft=crash", "replica.init.database=crash"};

    (void)state;
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        struct buf why = {0};
        int status = member_child(points[i], init_body, &m);

        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_int_equal(replica_dir_state(m.dir, NULL), REPLICA_DIR_EMPTY);
        assert_int_equal(member_start(&m, &why), QE_NOCLUSTER);
        buf_fini(&why);
    }
    member_up(&m);
    assert_int_equal(member_put(&m, "a", "1"), 0);
}

static void directory_is_private(void **state)
{
    struct stat st;
    mode_t old = umask(0);

    (void)state;
    member_up(&m);
    umask(old);
    assert_int_equal(stat(m.dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static void second_daemon_is_told_of_the_first(void **state)
{
    struct replica_options options = {.dir = m.dir};
    struct replica *other = NULL;
    struct buf why = {0}, report = {0};
    char pid[16];

    (void)state;
    member_up(&m);
    snprintf(pid, sizeof pid, "%d", getpid());
    assert_int_equal(replica_start(&options, 50, &other, &why), QE_LOCKED);
    assert_null(other);
    assert_says(&why, pid);
    assert_int_equal(replica_check(m.dir, say_line, &report), QE_LOCKED);
    assert_says(&report, pid);
    buf_fini(&why);
    buf_fini(&report);
}

static void init_refuses_what_is_there(void **state)
{
    struct buf why = {0};

    (void)state;
    assert_int_equal(mkdir(m.dir, 0700), 0);
    touch("precious");
    assert_int_equal(replica_dir_state(m.dir, NULL), REPLICA_DIR_FOREIGN);
    assert_int_equal(member_init(&m, &why), QE_NOTEMPTY);
    assert_says(&why, "precious");
    buf_clear(&why);
    assert_int_equal(member_start(&m, &why), QE_NOCLUSTER);
    assert_says(&why, "precious");
    buf_fini(&why);
}

static void init_keeps_a_cluster(void **state)
{
    struct buf why = {0};

    (void)state;
    member_up(&m);
    assert_int_equal(member_put(&m, "a", "kept"), 0);
    member_down(&m);
    assert_int_equal(member_init(&m, &why), QE_EXIST);
    member_up(&m);
    assert_content("a", "kept");
    buf_fini(&why);
}

/* A cluster whose CURRENT is gone is damaged, not empty. */
static void lost_pointer_is_no_empty_directory(void **state)
{
    struct buf why = {0};
    char path[400];

    (void)state;
    member_up(&m);
    member_down(&m);
    snprintf(path, sizeof path, "%s/CURRENT", m.dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(replica_dir_state(m.dir, NULL), REPLICA_DIR_READY);
    assert_int_equal(member_init(&m, &why), QE_EXIST);
    buf_clear(&why);
    assert_int_not_equal(member_start(&m, &why), 0);
    assert_says(&why, "CURRENT");
    buf_fini(&why);
}

static void missing_directory_is_refused(void **state)
{
    struct buf why = {0};

    (void)state;
    assert_int_equal(replica_dir_state(m.dir, NULL), REPLICA_DIR_MISSING);
    assert_int_equal(member_start(&m, &why), QE_NOCLUSTER);
    assert_says(&why, m.dir);
    buf_fini(&why);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(interrupted_init_is_completed), /* first: the failpoints of its children are read once a process */
        TEST(what_is_held_goes_together),
        TEST(write_is_readable_when_answered),
        TEST(writes_survive_a_restart),
        TEST(each_start_has_a_new_term),
        TEST(errors_of_the_store_reach_the_caller),
        TEST(revisions_grow_in_order_of_submission),
        TEST(inode_numbers_are_fresh_and_do_not_run_out),
        TEST(concurrent_writes_share_entries),
        TEST(barrier_sees_what_was_committed),
        TEST(copies_are_made_while_writing_goes_on),
        TEST(history_is_compacted_as_retain_says),
        TEST(large_command_travels_alone),
        TEST(stop_answers_what_was_submitted),
        TEST(directory_is_private),
        TEST(second_daemon_is_told_of_the_first),
        TEST(init_refuses_what_is_there),
        TEST(init_keeps_a_cluster),
        TEST(lost_pointer_is_no_empty_directory),
        TEST(missing_directory_is_refused),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("member", tests, NULL, NULL);
}
