/* What is taken in for inotify: changes that were too many, or that an installed database brought. The store is a real one; there are no workers,
 * so each change that would be told is counted as failed. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/inode.h"
#include "fs/replay_parts.h"
#include "tests/unit/store/kit.h"

/* ---- Fixture ------------------------------------------------------------------------------------------------------------------- */

enum { OTHER_MEMBER = KIT_MEMBER + 1, ROOT = STORE_ROOT_INO };

struct fixture {
    struct kit *kit;
    struct fs fs;
    struct fs_options opt;
    struct replay *r;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    void *kit = NULL;
    struct buf why = {0};

    if (!f || kit_setup(&kit))
        return -1;
    f->kit = kit;
    f->opt.read_only = true; /* no process is forked */
    f->fs.opt = &f->opt;
    f->fs.reader = f->kit->r;
    if (inode_open_table(&f->fs) || replay_fork(&f->fs, &why))
        return -1;
    f->r = f->fs.replay;
    f->r->member = KIT_MEMBER;
    f->r->running = f->r->accepting = true;
    f->r->mailed = f->r->changed = f->kit->res.rev;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    void *kit = f->kit;

    replay_close(&f->fs);
    inode_close_table(&f->fs);
    free(f);
    return kit_teardown(&kit);
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------------- */

/* What the kit has just done is told to the replay as that member's. */
static int64_t changed_by(struct fixture *f, uint32_t member)
{
    for (size_t i = 0; i < f->kit->n_changes; i++)
        f->kit->changes[i].member = member;
    replay_changed(&f->fs, f->kit->changes, f->kit->n_changes);
    return f->kit->res.rev;
}

static bool is_woken(const struct fixture *f)
{
    struct pollfd p = {.fd = f->r->wake, .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

/* Of a directory that somebody has looked up. */
static uint64_t known_dir(struct fixture *f, const char *name)
{
    assert_int_equal(kit_mkdir(f->kit, ROOT, name), 0);
    inode_remember(inode_add(&f->fs, f->kit->res.ino));
    return f->kit->res.ino;
}

/* ---- Success ------------------------------------------------------------------------------------------------------------------- */

static void an_own_change_that_is_answered_lets_the_rest_be_read_again(void **state)
{
    struct fixture *f = *state;
    int64_t own;

    f->r->behind = true;
    assert_int_equal(kit_put(f->kit, ROOT, "other", "v"), 0);
    changed_by(f, OTHER_MEMBER);
    assert_int_equal(kit_put(f->kit, ROOT, "own", "v"), 0);
    own = changed_by(f, KIT_MEMBER);
    replay_woken(&f->fs);
    assert_int_equal(f->r->stats.reread, 0); /* whose is the last one? */
    replay_answered(&f->fs, own, REPLAY_ANNOUNCED);
    assert_true(is_woken(f));
    replay_woken(&f->fs);
    assert_int_equal(f->r->stats.reread, 2);
    assert_int_equal(f->r->stats.failed, 1);
    assert_false(f->r->behind);
}

/* Its caller had been given up before it was applied. */
static void an_own_change_that_nobody_answers_is_told_by_and_by(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(kit_put(f->kit, ROOT, "own", "v"), 0);
    changed_by(f, KIT_MEMBER);
    replay_woken(&f->fs);
    assert_int_equal(f->r->stats.failed, 0); /* there may be an answer still */
    for (int i = 0; i < 100 && replay_tick(&f->fs, -1) >= 0; i++)
        poll(NULL, 0, 10);
    assert_int_equal(f->r->stats.failed, 1);
}

static void the_rest_is_read_again_whatever_has_emptied_the_queue(void **state)
{
    struct fixture *f = *state;

    replay_queue_hold(&f->r->queue, ROOT);
    assert_int_equal(kit_put(f->kit, ROOT, "first", "v"), 0);
    changed_by(f, OTHER_MEMBER);
    replay_woken(&f->fs);
    assert_int_equal(f->r->queue.n, 1);
    f->r->behind = true;
    assert_int_equal(kit_put(f->kit, ROOT, "second", "v"), 0);
    changed_by(f, OTHER_MEMBER);
    replay_woken(&f->fs);
    replay_queue_let_go(&f->r->queue, ROOT);
    replay_tick(&f->fs, -1);
    assert_int_equal(f->r->stats.reread, 1);
    assert_int_equal(f->r->stats.failed, 2);
}

static void a_directory_that_is_forgotten_while_it_is_compared_hides_nothing_of_the_next(void **state)
{
    enum { NAMES = 32 * 256 + 100 }; /* more than are looked at at once */
    struct fixture *f = *state;
    uint64_t large = known_dir(f, "large"), next = known_dir(f, "next");
    char name[16];

    for (int i = 0; i < NAMES; i++) {
        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(kit_create_excl(f->kit, large, name), 0);
    }
    f->r->mailed = f->kit->res.rev;
    assert_int_equal(kit_put(f->kit, next, "a", "v"), 0);
    replay_installed(&f->fs, f->kit->res.rev);
    replay_woken(&f->fs);
    assert_non_null(f->r->stock);
    inode_forget(&f->fs, large, 1);
    for (int i = 0; f->r->stock && i < 10; i++)
        replay_woken(&f->fs);
    assert_null(f->r->stock);
    assert_int_equal(f->r->stats.failed, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_own_change_that_is_answered_lets_the_rest_be_read_again, setup, teardown),
        cmocka_unit_test_setup_teardown(an_own_change_that_nobody_answers_is_told_by_and_by, setup, teardown),
        cmocka_unit_test_setup_teardown(the_rest_is_read_again_whatever_has_emptied_the_queue, setup, teardown),
        cmocka_unit_test_setup_teardown(a_directory_that_is_forgotten_while_it_is_compared_hides_nothing_of_the_next, setup, teardown),
    };

    return cmocka_run_group_tests_name("replay_intake", tests, NULL, NULL);
}
