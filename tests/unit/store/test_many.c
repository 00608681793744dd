/* Many locks, many leases, many files of a lease: limits, and the time that the store thread takes. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/clock.h"
#include "store/base/err.h"
#include "tests/unit/store/kit.h"

#define ROOT STORE_ROOT_INO
#define S INT64_C(1000000000)
enum { BATCH = 1000 };

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

typedef struct store_op (*make_op)(struct kit *k, int i, char name[32]);

static void reserve(struct kit *k)
{
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_RESERVE}), 0);
    k->next_n = k->res.ino;
    k->end_n = k->next_n + STORE_INO_BLOCK;
}

/* Commands from..n-1 of one kind, in entries of BATCH; `err`: the answer to the last one. */
static int many_from(struct kit *k, int from, int n, make_op make)
{
    struct store_op *ops = calloc(BATCH, sizeof *ops);
    struct store_command *cmds = calloc(BATCH, sizeof *cmds);
    char(*names)[32] = calloc(BATCH, sizeof *names);
    int err = 0;

    for (int done = from; done < n;) {
        int part = n - done < BATCH ? n - done : BATCH;

        while (k->end_n - k->next_n < BATCH) /* a command between those of the batch would overtake them */
            reserve(k);
        for (int i = 0; i < part; i++) {
            ops[i] = make(k, done + i, names[i]);
            k->acked = k->seq;
            cmds[i] = kit_command(k, &ops[i], 1);
        }
        assert_int_equal(kit_apply(k, cmds, (size_t)part), 0);
        err = k->res.err;
        done += part;
    }
    free(ops);
    free(cmds);
    free(names);
    return err;
}

static int many(struct kit *k, int n, make_op make)
{
    return many_from(k, 0, n, make);
}

static int64_t started;

static void begin(void)
{
    started = clock_boottime_ns();
}

static void done(const char *what)
{
    print_message("%s: %" PRId64 " ms\n", what, (clock_boottime_ns() - started) / 1000000);
}

/* ---- Locks --------------------------------------------------------------------------------------------------------------- */

static struct store_op lock_op(struct kit *k, int i, char name[32])
{
    (void)k;
    snprintf(name, 32, "n%d", i / 2); /* one holds it, one waits */
    return (struct store_op){.kind = STORE_OP_LOCK, .flags = STORE_LOCK_NAMED | STORE_LOCK_EXCLUSIVE, .name = kit_str(name), .owner = (uint64_t)i,
                             .request = 1 + (uint64_t)i};
}

static void there_is_a_limit_of_locks(void **state)
{
    struct kit *k = *state;
    struct store_op more = {.kind = STORE_OP_LOCK, .flags = STORE_LOCK_WHOLE, .ino = 44, .owner = 1, .request = 1000000};
    struct store_op range = {.kind = STORE_OP_LOCK, .flags = STORE_LOCK_RANGE, .ino = 48, .owner = 2, .request = 1000002, .last = 99};
    struct store_op middle = {.kind = STORE_OP_UNLOCK, .flags = STORE_LOCK_RANGE, .ino = 48, .owner = 2, .first = 50, .last = 50};
    struct store_op first = {.kind = STORE_OP_UNLOCK, .flags = STORE_LOCK_RANGE, .ino = 48, .owner = 2, .first = 0, .last = 0};
    struct store_op again = {.kind = STORE_OP_LOCK, .flags = STORE_LOCK_NAMED, .name = B("n7"), .owner = 14, .request = 1000001};

    assert_int_equal(kit_op(k, &range), 0);
    begin();
    assert_int_equal(many(k, STORE_LOCKS_MAX / 2 - 1, lock_op), 0);
    assert_int_equal(kit_op(k, &more), QE_NOLOCK); /* one user leaves room for others */
    assert_int_equal(kit_op(k, &middle), QE_NOLOCK); /* there would be two ranges */
    assert_int_equal(kit_op(k, &first), 0);
    k->uid = 0;
    assert_int_equal(many_from(k, STORE_LOCKS_MAX / 2 - 1, STORE_LOCKS_MAX - 1, lock_op), 0);
    done("200,000 locks");
    assert_int_equal(kit_op(k, &more), QE_NOLOCK);
    assert_int_equal(kit_op(k, &middle), QE_NOLOCK);
    assert_int_equal(kit_op(k, &again), QE_QUEUED); /* in the place of what it has, which the next one gets */
    begin();
    for (int i = 0; i < 1000; i++) {
        char name[32];
        struct store_op unlock = lock_op(k, i * 2, name);

        unlock.kind = STORE_OP_UNLOCK;
        unlock.flags = STORE_LOCK_NAMED;
        unlock.request = 0;
        k->acked = k->seq;
        assert_int_equal(kit_op(k, &unlock), 0);
    }
    done("1,000 handed over among them");
    assert_int_equal(kit_op(k, &more), 0);
    begin();
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_LAPSE}), 0);
    done("all given up by their session");
    assert_int_equal(kit_glance(k).n_locks, 0);
}

static struct store_op crowd_op(struct kit *k, int i, char name[32])
{
    (void)k, (void)name;
    return (struct store_op){.kind = STORE_OP_LOCK, .flags = STORE_LOCK_WHOLE | (i % 4 ? 0 : STORE_LOCK_EXCLUSIVE), .ino = 44, .owner = (uint64_t)i,
                             .request = 1 + (uint64_t)i};
}

/* A crowd before one lock: each comes and goes in its turn. */
static void a_crowd_gets_it_one_after_the_other(void **state)
{
    enum { CROWD = 5000 };
    struct kit *k = *state;

    begin();
    assert_int_equal(many(k, CROWD, crowd_op), QE_QUEUED);
    done("5,000 in line");
    begin();
    for (int i = 0; i < CROWD; i++) {
        struct store_op unlock = {.kind = STORE_OP_UNLOCK, .flags = STORE_LOCK_WHOLE, .ino = 44, .owner = (uint64_t)i};

        k->acked = k->seq;
        assert_int_equal(kit_op(k, &unlock), 0);
        assert_true(i == CROWD - 1 ? kit_glance(k).n_locks == 0 : kit_glance(k).n_locks > 0);
    }
    done("5,000 in turn");
}

static struct store_op range_op(struct kit *k, int i, char name[32])
{
    (void)k, (void)name;
    return (struct store_op){.kind = STORE_OP_LOCK, .flags = STORE_LOCK_RANGE | STORE_LOCK_EXCLUSIVE, .ino = 44, .owner = (uint64_t)i, .request = 1 + (uint64_t)i,
                             .first = i * 2, .last = i * 2};
}

static struct store_op unrange_op(struct kit *k, int i, char name[32])
{
    (void)k, (void)name;
    return (struct store_op){.kind = STORE_OP_UNLOCK, .flags = STORE_LOCK_RANGE, .ino = 44, .owner = 5000000, .first = 1000001 + i * 2, .last = 1000001 + i * 2};
}

static void there_is_a_limit_of_locks_of_one_file(void **state)
{
    struct kit *k = *state;
    struct store_op more = {.kind = STORE_OP_LOCK, .flags = STORE_LOCK_RANGE, .ino = 44, .owner = 5000000, .request = 5000000, .last = INT64_MAX, .first = 1000000};
    struct store_op one;
    char name[32];

    begin();
    assert_int_equal(many(k, STORE_LOCKS_OF_THING_MAX - 1, range_op), 0);
    done("10,000 ranges of a file");
    assert_int_equal(kit_op(k, &more), 0);
    assert_int_equal(kit_op(k, &more), QE_NOLOCK);
    more.ino = 48;
    assert_int_equal(kit_op(k, &more), 0);
    begin();
    assert_int_equal(many(k, STORE_LOCKS_OF_THING_MAX, unrange_op), 0);
    done("one of them split in 10,000");
    one = unrange_op(k, STORE_LOCKS_OF_THING_MAX, name);
    assert_int_equal(kit_op(k, &one), QE_NOLOCK); /* once more */
    one.last = INT64_MAX; /* but its end can go, */
    assert_int_equal(kit_op(k, &one), 0);
    one.first = 0; /* and all of it */
    assert_int_equal(kit_op(k, &one), 0);
    assert_int_equal(kit_glance(k).n_locks, STORE_LOCKS_OF_THING_MAX);
}

enum { FEW = 2500, FAR = 1000000 };

/* Of others, side by side. */
static struct store_op aside_op(struct kit *k, int i, char name[32])
{
    (void)k, (void)name;
    return (struct store_op){.kind = STORE_OP_LOCK, .flags = STORE_LOCK_RANGE, .ino = 44, .owner = 1 + (uint64_t)i, .request = 1 + (uint64_t)i,
                             .first = FAR + 10 + i, .last = FAR + 10 + i};
}

static struct store_op behind_far_op(struct kit *k, int i, char name[32])
{
    struct store_op op = aside_op(k, FEW + i, name);

    op.flags |= STORE_LOCK_EXCLUSIVE;
    op.first = op.last = FAR;
    return op;
}

static struct store_op behind_near_op(struct kit *k, int i, char name[32])
{
    struct store_op op = behind_far_op(k, FEW + i, name);

    op.first = op.last = i * 2;
    return op;
}

/* One gives back a range in which many wait, each for a part of its own, behind many who wait for something else. */
static void a_range_is_handed_over_to_many(void **state)
{
    struct kit *k = *state;
    struct store_op near = {.kind = STORE_OP_LOCK, .flags = STORE_LOCK_RANGE | STORE_LOCK_EXCLUSIVE, .ino = 44, .owner = 5000000, .request = 5000000, .last = FAR - 1};
    struct store_op far = {.kind = STORE_OP_LOCK, .flags = STORE_LOCK_RANGE | STORE_LOCK_EXCLUSIVE, .ino = 44, .owner = 5000001, .request = 5000001, .first = FAR,
                           .last = FAR};

    assert_int_equal(kit_op(k, &near), 0);
    assert_int_equal(many(k, FEW, aside_op), 0);
    assert_int_equal(kit_op(k, &far), 0);
    assert_int_equal(many(k, FEW, behind_far_op), QE_QUEUED);
    assert_int_equal(many(k, FEW, behind_near_op), QE_QUEUED);
    near.kind = STORE_OP_UNLOCK;
    near.request = 0;
    begin();
    assert_int_equal(kit_op(k, &near), 0);
    done("a range handed over to 2,500"); /* who was in the way is asked first: else it would be minutes */
    assert_int_equal(kit_glance(k).n_locks, 2 * FEW + 1); /* that are held */
}

/* ---- Leases -------------------------------------------------------------------------------------------------------------- */

static struct store_op grant_op(struct kit *k, int i, char name[32])
{
    (void)k;
    snprintf(name, 32, "l%d", i);
    return (struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .name = kit_str(name), .rev = S};
}

static void there_is_a_limit_of_leases(void **state)
{
    const struct store_op one = {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .name = B("more"), .rev = S};
    const struct store_op two = {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .name = B("two"), .rev = S};
    struct kit *k = *state;

    begin();
    assert_int_equal(many(k, STORE_LEASES_MAX / 2, grant_op), 0);
    assert_int_equal(kit_op(k, &one), QE_NOSPC); /* one user leaves room for others */
    kit_reopen(k);
    assert_int_equal(kit_op(k, &one), QE_NOSPC);
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_REVOKE, .ino = (uint64_t)k->res.rev}), 0);
    assert_int_equal(kit_op(k, &one), 0);
    k->uid = 2000;
    assert_int_equal(many_from(k, STORE_LEASES_MAX / 2, STORE_LEASES_MAX / 4 * 3, grant_op), 0);
    assert_int_equal(kit_op(k, &two), QE_NOSPC); /* nor do two of them take all */
    k->uid = 3000;
    assert_int_equal(kit_op(k, &two), 0);
    k->uid = 0;
    assert_int_equal(many_from(k, STORE_LEASES_MAX / 4 * 3, STORE_LEASES_MAX - 1, grant_op), 0);
    done("200,000 leases");
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .name = B("one"), .rev = S}), QE_NOSPC);
    assert_int_equal(kit_glance(k).n_leases, STORE_LEASES_MAX);
}

static uint64_t lease, dirs[2];

static struct store_op put_op(struct kit *k, int i, char name[32])
{
    snprintf(name, 32, "f%d", i);
    return (struct store_op){.kind = STORE_OP_COMMIT, .parent = dirs[i % 2], .name = kit_str(name), .new_ino = kit_ino(k, STORE_FILE), .mode = 0644,
                             .valid = STORE_ATTR_LEASE, .lease = lease};
}

static int end(struct kit *k, uint32_t how)
{
    return kit_op(k, &(struct store_op){.kind = STORE_OP_LEASE, .flags = how, .ino = lease, .rev = 1, .first = (int64_t)k->index});
}

static void a_lease_with_many_files_ends_in_parts(void **state)
{
    struct kit *k = *state;
    struct store_lease l;
    int64_t rev;

    assert_int_equal(kit_set(k, "quota", "2G"), 0);
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .name = B("l"), .rev = S}), 0);
    lease = k->res.ino;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kit_mkdir(k, ROOT, i ? "e" : "d"), 0);
        dirs[i] = k->res.ino;
    }
    assert_int_equal(many(k, STORE_LEASE_FILES_MAX + 3, put_op), 0);
    rev = kit_glance(k).rev;
    begin();
    assert_int_equal(end(k, STORE_LEASE_EXPIRE), 0);
    done("100,000 files deleted");
    assert_true(k->res.ino == 3 && k->res.rev == rev + 1 && kit_glance(k).n_files == 3 && kit_glance(k).n_leases == 1);
    assert_int_equal(store_lease(k->r, "l", &l), 0);
    assert_true(l.left_ns == 1 && kit_lease_files(k, lease) == 3);
    assert_non_null(strstr(buf_cstr(&k->lives), "left 1; "));
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_TTL, .ino = lease, .rev = S}), QE_STALE);
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_COMMIT, .parent = ROOT, .name = B("late"), .new_ino = kit_ino(k, STORE_FILE),
                                                  .valid = STORE_ATTR_LEASE, .lease = lease}), QE_STALE);
    assert_int_equal(end(k, STORE_LEASE_REVOKE), 0); /* or whoever comes next */
    assert_true(k->res.ino == 0 && k->res.rev == rev + 2 && kit_glance(k).n_files == 0 && kit_glance(k).n_leases == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(there_is_a_limit_of_locks),
        KIT_TEST(a_crowd_gets_it_one_after_the_other),
        KIT_TEST(there_is_a_limit_of_locks_of_one_file),
        KIT_TEST(a_range_is_handed_over_to_many),
        KIT_TEST(there_is_a_limit_of_leases),
        KIT_TEST(a_lease_with_many_files_ends_in_parts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
