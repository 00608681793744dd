/* The queue of what inotify must be told: which item may run when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/replay_queue.h"
#include "store/store.h"

/* ---- Fixture ------------------------------------------------------------------------------------------------------------------- */

static int setup(void **state)
{
    struct replay_queue *q = malloc(sizeof *q);

    replay_queue_init(q);
    *state = q;
    return 0;
}

static int teardown(void **state)
{
    replay_queue_fini(*state);
    free(*state);
    return 0;
}

/* ---- Helpers ------------------------------------------------------------------------------------------------------------------- */

static int64_t revision;

static struct replay_item *add(struct replay_queue *q, uint64_t parent, uint64_t ino, uint64_t old_parent, uint64_t other)
{
    const struct replay_item from = {.rev = ++revision, .parent = parent, .ino = ino, .old_parent = old_parent, .other = other};
    struct replay_item *item = replay_item_new(&from, "new", 3, "old", 3);

    assert_non_null(item);
    assert_int_equal(replay_queue_add(q, item), 0);
    return item;
}

static struct replay_item *rename_item(struct replay_queue *q, enum replay_kind kind, uint64_t parent, uint64_t ino, uint64_t old_parent, uint64_t other)
{
    const struct replay_item from = {.rev = ++revision, .kind = kind, .parent = parent, .ino = ino, .old_parent = old_parent, .other = other};
    struct replay_item *item = replay_item_new(&from, "new", 3, "old", 3);

    assert_non_null(item);
    assert_int_equal(replay_queue_add(q, item), 0);
    return item;
}

/* ---- Success ------------------------------------------------------------------------------------------------------------------- */

static void items_of_one_directory_run_in_order(void **state)
{
    struct replay_queue *q = *state;
    struct replay_item *a = add(q, 10, 1, 0, 0), *b = add(q, 10, 2, 0, 0);

    assert_ptr_equal(replay_queue_take(q), a);
    assert_null(replay_queue_take(q));
    replay_queue_remove(q, a);
    assert_ptr_equal(replay_queue_take(q), b);
}

static void items_of_different_directories_run_together(void **state)
{
    struct replay_queue *q = *state;
    struct replay_item *a = add(q, 10, 1, 0, 0), *b = add(q, 20, 2, 0, 0);

    assert_ptr_equal(replay_queue_take(q), a);
    assert_ptr_equal(replay_queue_take(q), b);
    assert_null(replay_queue_take(q));
}

static void a_rename_waits_for_both_directories_and_both_wait_for_it(void **state)
{
    struct replay_queue *q = *state;
    struct replay_item *a = add(q, 10, 1, 0, 0), *b = add(q, 20, 2, 0, 0), *r = add(q, 20, 3, 10, 4), *c = add(q, 10, 5, 0, 0);

    assert_ptr_equal(replay_queue_take(q), a);
    assert_ptr_equal(replay_queue_take(q), b);
    replay_queue_remove(q, a);
    assert_null(replay_queue_take(q));
    replay_queue_remove(q, b);
    assert_ptr_equal(replay_queue_take(q), r);
    assert_null(replay_queue_take(q));
    replay_queue_remove(q, r);
    assert_ptr_equal(replay_queue_take(q), c);
}

static void what_is_in_a_directory_waits_for_the_directory_itself(void **state)
{
    struct replay_queue *q = *state;
    struct replay_item *made = add(q, 10, 30, 0, 0), *inside = add(q, 30, 2, 0, 0);

    assert_ptr_equal(replay_queue_take(q), made);
    assert_null(replay_queue_take(q));
    replay_queue_remove(q, made);
    assert_ptr_equal(replay_queue_take(q), inside);
}

static void what_a_local_operation_holds_stands_back(void **state)
{
    struct replay_queue *q = *state;
    struct replay_item *a = add(q, 10, 1, 0, 0), *b = add(q, 20, 2, 0, 0);

    replay_queue_hold(q, 10);
    replay_queue_hold(q, 10);
    assert_ptr_equal(replay_queue_take(q), b);
    assert_null(replay_queue_take(q));
    replay_queue_let_go(q, 10);
    assert_null(replay_queue_take(q));
    replay_queue_let_go(q, 10);
    assert_ptr_equal(replay_queue_take(q), a);
}

static void a_node_may_be_held_before_anything_waits_for_it(void **state)
{
    struct replay_queue *q = *state;
    struct replay_item *a;

    replay_queue_hold(q, 10);
    a = add(q, 10, 1, 0, 0);
    assert_null(replay_queue_take(q));
    replay_queue_let_go(q, 10);
    assert_ptr_equal(replay_queue_take(q), a);
    replay_queue_remove(q, a);
    replay_queue_let_go(q, 10); /* once too often does no harm */
    assert_null(q->keys);
}

static void what_is_returned_runs_again_before_those_behind_it(void **state)
{
    struct replay_queue *q = *state;
    struct replay_item *a = add(q, 10, 1, 0, 0);

    add(q, 10, 2, 0, 0);
    assert_ptr_equal(replay_queue_take(q), a);
    replay_queue_return(q, a);
    assert_ptr_equal(replay_queue_take(q), a);
}

static void an_item_in_the_middle_can_be_removed(void **state)
{
    struct replay_queue *q = *state;
    struct replay_item *a = add(q, 10, 1, 0, 0), *b = add(q, 10, 2, 0, 0), *c = add(q, 10, 3, 0, 0);
    size_t bytes = q->bytes;

    replay_queue_remove(q, b);
    assert_true(q->bytes < bytes);
    assert_int_equal(q->n, 2);
    assert_ptr_equal(replay_queue_take(q), a);
    replay_queue_remove(q, a);
    assert_ptr_equal(replay_queue_take(q), c);
    replay_queue_remove(q, c);
    assert_int_equal(q->bytes, 0);
    assert_null(q->keys);
}

/* However much happens in a directory, what takes away its own name is found without looking at that. */
static void what_takes_a_name_of_a_node_away_is_known(void **state)
{
    struct replay_queue *q = *state;
    struct replay_item *moved, *removed, *exchanged;

    rename_item(q, REPLAY_FILE, 10, 1, 0, 0);
    rename_item(q, REPLAY_UNLINK, 10, 1, 0, 0);
    rename_item(q, REPLAY_RENAME, 10, 2, 10, 3);
    rename_item(q, REPLAY_ATTRIB, 30, 10, 0, 0);
    assert_null(replay_queue_ends(q, 10));
    moved = rename_item(q, REPLAY_RENAME, 20, 10, 30, 0);
    exchanged = rename_item(q, REPLAY_EXCHANGE, 20, 4, 20, 10);
    removed = rename_item(q, REPLAY_RMDIR, 20, 10, 0, 0);
    assert_ptr_equal(replay_queue_ends(q, 10)->item, moved);
    assert_ptr_equal(replay_queue_ends(q, 10)->next_end->item, exchanged);
    assert_ptr_equal(replay_queue_ends(q, 10)->next_end->next_end->item, removed);
    replay_queue_remove(q, exchanged);
    assert_ptr_equal(replay_queue_ends(q, 10)->next_end->item, removed);
    replay_queue_remove(q, moved);
    assert_ptr_equal(replay_queue_ends(q, 10)->item, removed);
    replay_queue_remove(q, removed);
    assert_null(replay_queue_ends(q, 10));
    assert_non_null(replay_queue_ends(q, 3)); /* replaced */
}

static void names_are_the_items_own(void **state)
{
    const struct replay_item from = {.rev = 1};
    char name[] = "a\tb", old[] = "c";
    struct replay_item *item = replay_item_new(&from, name, 3, old, 1);

    (void)state;
    memset(name, 'x', 3);
    assert_string_equal(item->name, "a\tb");
    assert_string_equal(item->old_name, "c");
    replay_item_free(item);
}

static void moves_of_directories_are_known(void **state)
{
    enum { DIR = 4 + STORE_DIR, DIR2 = 8 + STORE_DIR, FILE_ = 12 + STORE_FILE };
    struct replay_queue *q = *state;
    struct replay_item *moved = rename_item(q, REPLAY_RENAME, 101, DIR, 105, DIR2), *renamed = rename_item(q, REPLAY_RENAME, 101, DIR, 101, 0);
    struct replay_item *file = rename_item(q, REPLAY_RENAME, 101, FILE_, 105, 0), *exchanged = rename_item(q, REPLAY_EXCHANGE, 101, FILE_, 105, DIR2);

    assert_int_equal(q->n_moves, 2);
    assert_true(replay_item_moves(moved, DIR) && replay_item_moves(moved, 0));
    assert_false(replay_item_moves(moved, DIR2)); /* replaced */
    assert_false(replay_item_moves(renamed, DIR)); /* where it was */
    assert_false(replay_item_moves(file, FILE_));
    assert_true(replay_item_moves(exchanged, DIR2));
    assert_false(replay_item_moves(exchanged, FILE_));
    replay_queue_remove(q, moved);
    replay_queue_remove(q, exchanged);
    assert_int_equal(q->n_moves, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(items_of_one_directory_run_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(items_of_different_directories_run_together, setup, teardown),
        cmocka_unit_test_setup_teardown(a_rename_waits_for_both_directories_and_both_wait_for_it, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_in_a_directory_waits_for_the_directory_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_local_operation_holds_stands_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_node_may_be_held_before_anything_waits_for_it, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_returned_runs_again_before_those_behind_it, setup, teardown),
        cmocka_unit_test_setup_teardown(an_item_in_the_middle_can_be_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(what_takes_a_name_of_a_node_away_is_known, setup, teardown),
        cmocka_unit_test_setup_teardown(names_are_the_items_own, setup, teardown),
        cmocka_unit_test_setup_teardown(moves_of_directories_are_known, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
