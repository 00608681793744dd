/* Full disks in a cluster: the leader's refuses what others send it, too; a follower's is its own matter. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/base/err.h"
#include "tests/unit/replica/cluster_fixture.h"

/* ---- Fixture ------------------------------------------------------------------------------------------------------------- */

static struct cluster c;

static int setup(void **state)
{
    (void)state;
    cluster_make(&c, 3);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cluster_remove(&c);
    return 0;
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

/* In a child with mounts of its own: a small disk for each member. */
static void small_disks(void)
{
    assert_int_equal(member_own_mounts(), 0);
    for (uint32_t id = 1; id <= 3; id++)
        assert_int_equal(mount("none", c.m[id].parent, "tmpfs", 0, "size=192m"), 0);
}

static void filler(char *out, size_t size, uint32_t id)
{
    snprintf(out, size, "%s/filler", c.m[id].parent);
}

/* Leaves so many bytes free. The member may be allocating its next segments meanwhile: then once more. */
static void fill(uint32_t id, int64_t leave)
{
    int rv = -1;
    off_t size;
    struct statvfs st;
    char path[300];
    int fd;

    filler(path, sizeof path, id);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    size = lseek(fd, 0, SEEK_END);
    for (int i = 0; rv && i < 100; i++, poll(NULL, 0, 10)) {
        int64_t take;

        assert_int_equal(fstatvfs(fd, &st), 0);
        take = (int64_t)st.f_bavail * (int64_t)st.f_frsize - leave;
        rv = take > 0 ? posix_fallocate(fd, size, take) : 0;
        size += rv || take < 0 ? 0 : take;
    }
    assert_int_equal(rv, 0);
    close(fd);
}

static void give_back(uint32_t id)
{
    char path[300];

    filler(path, sizeof path, id);
    unlink(path);
}

static void in_child(int (*body)(void *arg))
{
    assert_int_equal(member_child(NULL, body, NULL), 0);
}

static void all_down(void)
{
    for (uint32_t id = 1; id <= 3; id++)
        member_down(&c.m[id]);
}

/* What this process says from now on goes into a file. Returns where it went before. */
static int say_to(char *path, size_t size)
{
    int fd, before = dup(STDERR_FILENO);

    snprintf(path, size, "%s/said", c.m[1].parent);
    fd = open(path, O_CREAT | O_WRONLY | O_APPEND, 0600);
    assert_true(fd >= 0 && dup2(fd, STDERR_FILENO) >= 0);
    close(fd);
    return before;
}

static int lines_with(const char *path, const char *text)
{
    FILE *f = fopen(path, "r");
    char line[1000];
    int n = 0;

    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        n += strstr(line, text) != NULL;
    fclose(f);
    return n;
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

/* Versions of one file, more than the disk has room for: old ones go before a write is refused. */
static int history_body(void *arg)
{
    enum { SIZE = 500000, PUTS = 1000 };
    struct member *m = arg;
    struct replica_status st;
    struct store_glance g;
    char *text = malloc(SIZE + 1);

    assert_int_equal(member_own_mounts(), 0);
    assert_int_equal(mount("none", m->parent, "tmpfs", 0, "size=320m"), 0);
    member_up(m);
    assert_non_null(text);
    memset(text, 'x', SIZE);
    text[SIZE] = 0;
    for (int i = 0; i < PUTS; i++) {
        text[0] = (char)('a' + i % 26);
        assert_int_equal(member_put(m, "f", text), 0);
        poll(NULL, 0, 5); /* 100 MB in a second, as on a disk */
    }
    replica_status(m->r, &st);
    replica_glance(m->r, &g);
    assert_true(st.free_bytes >= 32 << 20 && g.compacted > 0);
    print_message("compacted %d of %d, free %d MiB\n", (int)g.compacted, (int)g.rev, (int)(st.free_bytes >> 20));
    free(text);
    member_down(m);
    return 0;
}

static void old_versions_make_room_before_a_write_is_refused(void **state)
{
    struct member m = {0};

    (void)state;
    member_make(&m);
    assert_int_equal(member_child(NULL, history_body, &m), 0);
    member_remove(&m);
}

static int follower_body(void *arg)
{
    uint32_t leader, full;

    (void)arg;
    small_disks();
    cluster_up(&c);
    leader = cluster_leader(&c);
    full = leader % 3 + 1;
    wait_until((fill(full, 20 << 20), cluster_status(&c, full).free_bytes < 32 << 20)); /* its ballast may go meanwhile: then once more */
    assert_int_equal(member_put(&c.m[leader], "a", "1"), 0);
    assert_int_equal(replica_writable(c.m[full].r), 0);
    assert_int_equal(member_put(&c.m[full], "a", "2"), 0);
    give_back(full);
    all_down();
    return 0;
}

static void a_followers_full_disk_refuses_nothing(void **state)
{
    (void)state;
    in_child(follower_body);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static int leader_body(void *arg)
{
    uint32_t leader, other;

    (void)arg;
    small_disks();
    cluster_up(&c);
    leader = cluster_leader(&c);
    other = leader % 3 + 1;
    assert_int_equal(member_put(&c.m[other], "a", "1"), 0);
    fill(leader, 10 << 20);
    wait_until(member_put(&c.m[other], "a", "2") == QE_DISKFULL);
    assert_int_equal(member_put(&c.m[leader], "a", "2"), QE_DISKFULL);
    assert_int_equal(replica_writable(c.m[leader].r), QE_DISKFULL);
    assert_int_equal(replica_writable(c.m[other].r), 0); /* it does not know */
    give_back(leader);
    wait_until(member_put(&c.m[other], "a", "3") == 0);
    assert_int_equal(cluster_leader(&c), leader);
    all_down();
    return 0;
}

static void the_leaders_full_disk_refuses_what_others_send(void **state)
{
    (void)state;
    in_child(leader_body);
}

/* Not even a session fits on the leader's disk, which has given up its ballast: who starts waits for it, and asks now and then. */
static int session_body(void *arg)
{
    char said[300];
    uint32_t leader, other;
    int times, saying;

    (void)arg;
    small_disks();
    cluster_up(&c);
    leader = cluster_leader(&c);
    other = leader % 3 + 1;
    c.m[other].timeout_ms = 3000;
    for (int i = 0; i < 2; i++) { /* the first time the leader gives up its ballast for it */
        member_down(&c.m[other]);
        fill(leader, 6 << 20);
        wait_until(cluster_status(&c, leader).free_bytes < 8 << 20);
        saying = say_to(said, sizeof said);
        member_up(&c.m[other]);
        assert_true(dup2(saying, STDERR_FILENO) >= 0 && close(saying) == 0);
    }
    times = lines_with(said, "there is no session yet");
    if (times < 1 || times > 15) /* each second, for 3 seconds and what a busy machine takes besides */
        fail_msg("%d times in 3 seconds", times);
    give_back(leader);
    wait_until(member_put(&c.m[other], "a", "1") == 0);
    all_down();
    return 0;
}

static void a_session_that_is_refused_is_asked_for_now_and_then(void **state)
{
    (void)state;
    in_child(session_body);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        cmocka_unit_test(old_versions_make_room_before_a_write_is_refused),
        TEST(a_followers_full_disk_refuses_nothing),
        TEST(the_leaders_full_disk_refuses_what_others_send),
        TEST(a_session_that_is_refused_is_asked_for_now_and_then),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("full", tests, NULL, NULL);
}
