/* A copy of another store takes the place of one: verified, named, switched to while readers are open. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/base/err.h"
#include "tests/unit/store/kit.h"

#define ROOT STORE_ROOT_INO

/* ---- Fixture: `far` is ahead of `near`, and of the same cluster ----------------------------------------------------------- */

static struct kit far;

static int setup(void **state)
{
    kit_init(&far);
    assert_int_equal(kit_put(&far, ROOT, "f", "far"), 0);
    return kit_setup(state);
}

static int teardown(void **state)
{
    kit_fini(&far);
    return kit_teardown(state);
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

/* Copies the database of `far` to where `near` stages one. */
static struct store_copy stage(struct kit *near, char name[STORE_STAGE_NAME_SIZE])
{
    struct store_export x;
    struct store_copy copy;
    char path[256];
    int fd;

    assert_int_equal(store_stage_name(near->dir, name), 0);
    snprintf(path, sizeof path, "%s/%s", near->dir, name);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(store_export_begin(far.s, &x), 0);
    assert_int_equal(store_export_copy(far.s, &x, fd, NULL, NULL), 0);
    store_export_end(far.s, &x);
    close(fd);
    copy = (struct store_copy){.applied = x.position.applied, .term = x.position.term, .rev = x.rev, .hash = x.hash};
    memcpy(copy.cluster_id, x.position.cluster_id, sizeof copy.cluster_id);
    return copy;
}

static uint64_t installed_at(struct kit *k)
{
    struct store_position p;

    store_position(k->s, &p);
    return p.installed_at;
}

static void refused(struct kit *near, const char *name, const struct store_copy *copy, const char *word)
{
    struct buf why = {0};

    assert_int_equal(store_stage_verify(near->dir, name, copy, 7, &why), QE_CORRUPT);
    if (!strstr(buf_cstr(&why), word))
        fail_msg("%s", buf_cstr(&why));
    buf_fini(&why);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void readers_follow_the_store_to_the_copy(void **state)
{
    struct kit *near = *state;
    char name[STORE_STAGE_NAME_SIZE];
    struct store_copy copy = stage(near, name);
    struct buf why = {0}, content = {0};
    uint64_t ino;
    int64_t rev, then;

    assert_string_equal(name, "state-2.db");
    assert_int_equal(store_read_begin(near->r, &rev), 0); /* in the middle of something */
    assert_int_equal(store_stage_verify(near->dir, name, &copy, 7, &why), 0);
    assert_int_equal(store_stage_commit(near->dir, name, copy.applied, 7, &why), 0);
    assert_int_equal(store_switch(near->s, &why), 0);
    assert_int_equal(store_read_begin(near->r, &then), 0);
    assert_true(then == rev); /* it still sees what it saw */
    assert_int_equal(kit_lookup(near, STORE_HEAD, ROOT, "f"), 0);
    store_read_end(near->r);
    ino = kit_lookup(near, STORE_HEAD, ROOT, "f");
    assert_int_equal(store_content(near->r, STORE_HEAD, ino, &content, NULL), 0);
    assert_string_equal(buf_cstr(&content), "far");
    assert_int_equal(installed_at(near), copy.applied);
    assert_int_equal(kit_glance(near).rev, copy.rev);
    near->index = far.index; /* it goes on where the other one was */
    near->session = far.session;
    near->seq = far.seq;
    near->next_n = far.next_n;
    near->end_n = far.end_n;
    assert_int_equal(kit_put(near, ROOT, "g", "here"), 0);
    assert_int_equal(store_installed(near->s), 0);
    kit_reopen(near);
    assert_int_equal(installed_at(near), 0);
    assert_true(kit_lookup(near, STORE_HEAD, ROOT, "g") != 0);
    buf_fini(&content);
    buf_fini(&why);
}

/* Before CURRENT names it, a start has the old one; afterwards the new one, with the mark. */
static void a_crash_on_the_way_leaves_one_or_the_other(void **state)
{
    struct kit *near = *state;
    char name[STORE_STAGE_NAME_SIZE], again[STORE_STAGE_NAME_SIZE];
    struct store_copy copy = stage(near, name);
    struct buf why = {0};

    kit_reopen(near);
    assert_int_equal(kit_lookup(near, STORE_HEAD, ROOT, "f"), 0);
    copy = stage(near, again); /* the rest of the first is overwritten */
    assert_string_equal(again, name);
    assert_int_equal(store_stage_verify(near->dir, name, &copy, 7, &why), 0);
    kit_reopen(near);
    assert_int_equal(installed_at(near), 0);
    assert_int_equal(store_stage_commit(near->dir, name, copy.applied, 7, &why), 0);
    kit_reopen(near);
    assert_int_equal(installed_at(near), copy.applied);
    assert_true(kit_lookup(near, STORE_HEAD, ROOT, "f") != 0);
    buf_fini(&why);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static void a_copy_that_is_not_the_announced_one_is_refused(void **state)
{
    struct kit *near = *state;
    char name[STORE_STAGE_NAME_SIZE], path[256];
    struct store_copy copy = stage(near, name), other = copy;
    char byte;
    int fd;

    other.hash++;
    refused(near, name, &other, "not what was sent");
    other = copy;
    other.applied++;
    refused(near, name, &other, "not what was sent");
    other = copy;
    other.cluster_id[0] ^= 1;
    refused(near, name, &other, "not what was sent");
    copy = stage(near, name);
    snprintf(path, sizeof path, "%s/%s", near->dir, name);
    fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, 4096 + 40), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, 4096 + 40), 1);
    assert_int_equal(ftruncate(fd, 3 * 4096), 0);
    close(fd);
    refused(near, name, &copy, "not what was sent");
    store_stage_drop(near->dir, name);
    assert_int_not_equal(access(path, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(readers_follow_the_store_to_the_copy, setup, teardown),
        cmocka_unit_test_setup_teardown(a_crash_on_the_way_leaves_one_or_the_other, setup, teardown),
        cmocka_unit_test_setup_teardown(a_copy_that_is_not_the_announced_one_is_refused, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
