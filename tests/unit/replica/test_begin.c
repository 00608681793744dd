/* How clusters begin: members that are made by the same list make the same state, without having spoken to each other. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replica/dir.h"
#include "replica/member_table.h"
#include "store/base/err.h"
#include "tests/unit/replica/member_fixture.h"

/* ---- Fixture ------------------------------------------------------------------------------------------------------------- */

static struct member m; /* its parent directory holds all members */

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

static const struct store_member three[] = {{.id = 1, .address = "a:7001"}, {.id = 2, .address = "b:7001"}, {.id = 3, .address = "[::1]:7001"}};
static const struct store_member shuffled[] = {{.id = 3, .address = "[::1]:7001"}, {.id = 1, .address = "a:7001"}, {.id = 2, .address = "b:7001"}};

struct made { /* what another member must agree with */
    uint8_t cluster_id[STORE_CLUSTER_ID_SIZE];
    uint64_t epoch;
    char hash[400]; /* the line of the check that sums the database up */
    struct buf log; /* the bytes of the segment */
};

static void keep_summary(void *data, const char *line)
{
    struct made *made = data;

    if (!strncmp(line, "store: ", 7))
        snprintf(made->hash, sizeof made->hash, "%s", line);
}

static void read_log(const char *raft, struct buf *out)
{
    DIR *d = opendir(raft);
    struct dirent *e;

    assert_non_null(d);
    while ((e = readdir(d)) != NULL)
        if (strstr(e->d_name, "000000") == e->d_name)
            assert_int_equal(dir_read_file(raft, e->d_name, 1 << 20, out), 0);
    closedir(d);
}

static struct made make(const char *name, uint32_t id, const struct store_member *members, size_t n, const char *token,
                        const char *const (*settings)[2], size_t n_settings)
{
    char dir[400];
    struct replica_init init = {.dir = dir, .member_id = id, .members = members, .n_members = n, .token = token, .settings = settings,
                                .n_settings = n_settings, .root_uid = 5, .root_gid = 6};
    struct made made = {.epoch = 0};
    struct dir_identity identity;
    struct buf why = {0};
    struct dir d;

    snprintf(dir, sizeof dir, "%s/%s", m.parent, name);
    if (replica_init(&init, &why))
        fail_msg("%s: %s", name, buf_cstr(&why));
    assert_int_equal(replica_check(dir, keep_summary, &made), 0);
    assert_int_equal(dir_init(&d, dir), 0);
    assert_int_equal(dir_identity_read(&d, &identity, &why), 0);
    assert_int_equal(identity.member_id, id);
    memcpy(made.cluster_id, identity.cluster_id, sizeof made.cluster_id);
    made.epoch = identity.epoch;
    read_log(d.raft, &made.log);
    dir_fini(&d);
    buf_fini(&why);
    return made;
}

static bool same_cluster(const struct made *a, const struct made *b)
{
    return memcmp(a->cluster_id, b->cluster_id, sizeof a->cluster_id) == 0;
}

static void refused(uint32_t id, const struct store_member *members, size_t n, const char *word)
{
    struct replica_init init = {.dir = m.dir, .member_id = id, .members = members, .n_members = n};
    struct buf why = {0};

    assert_int_equal(replica_init(&init, &why), QE_INVAL);
    assert_says(&why, word);
    assert_int_equal(replica_dir_state(m.dir, NULL), REPLICA_DIR_MISSING);
    buf_fini(&why);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void members_of_a_list_begin_alike(void **state)
{
    struct made a = make("a", 1, three, 3, "t", NULL, 0), b = make("b", 2, shuffled, 3, "t", NULL, 0);

    (void)state;
    assert_true(same_cluster(&a, &b));
    assert_string_equal(a.hash, b.hash);
    /* The log is one entry: format, checksums, a header of 24 bytes, three servers of 11 bytes behind 9 bytes of their own; libraft pads
     * it with whatever was in memory, and its checksum covers that. */
    assert_int_equal(a.log.len, b.log.len);
    assert_true(a.log.len >= 40 + 9 + 33);
    assert_memory_equal(a.log.data + 16, b.log.data + 16, 24 + 9 + 33);
    assert_true(a.epoch != b.epoch);
    buf_fini(&a.log);
    buf_fini(&b.log);
}

static void any_difference_makes_another_cluster(void **state)
{
    static const struct store_member moved[] = {{.id = 1, .address = "a:7001"}, {.id = 2, .address = "b:7002"}, {.id = 3, .address = "[::1]:7001"}};
    static const char *const quota[][2] = {{"quota", "1G"}}, *const same[][2] = {{"quota", "2G"}};
    struct made made[] = {make("a", 1, three, 3, "", NULL, 0), make("b", 1, moved, 3, "", NULL, 0), make("c", 1, three, 3, "x", NULL, 0),
                          make("d", 1, three, 3, "", quota, 1), make("e", 1, three, 2, "", NULL, 0), make("f", 1, NULL, 0, "", NULL, 0)};
    struct made as_default = make("g", 2, three, 3, NULL, same, 1);

    (void)state;
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        for (size_t k = 0; k < i; k++)
            assert_false(same_cluster(&made[i], &made[k]));
    assert_true(same_cluster(&made[0], &as_default)); /* a setting that is given as it is anyway */
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        buf_fini(&made[i].log);
    buf_fini(&as_default.log);
}

static void table_of_members_is_loaded(void **state)
{
    struct store_options options = {.dir = m.dir};
    struct replica_init init = {.dir = m.dir, .member_id = 2, .members = three, .n_members = 3};
    struct member_table table;
    struct store_reader *reader;
    struct member_row row;
    struct store *s;
    struct buf why = {0};
    char address[STORE_ADDRESS_MAX + 1], small[4];

    (void)state;
    assert_int_equal(replica_init(&init, &why), 0);
    assert_int_equal(store_open(&options, &s, &why), 0);
    assert_int_equal(store_reader_open(s, &reader), 0);
    member_table_init(&table);
    assert_false(member_table_removed(&table, 1)); /* nothing is known yet */
    assert_int_equal(member_table_load(&table, reader), 0);
    assert_true(member_table_address(&table, 3, address, sizeof address));
    assert_string_equal(address, "[::1]:7001");
    assert_false(member_table_address(&table, 3, small, sizeof small));
    assert_false(member_table_address(&table, 4, address, sizeof address));
    assert_true(member_table_get(&table, 1, &row));
    assert_int_equal(row.role, STORE_MEMBER_VOTER);
    assert_false(member_table_removed(&table, 1));
    assert_false(member_table_removed(&table, 4)); /* it may be about to join */
    member_table_fini(&table);
    store_reader_close(reader);
    store_close(s);
}

static void sole_member_has_the_address_it_listens_at(void **state)
{
    struct replica_init init = {.dir = m.dir, .member_id = 1, .listen = "127.0.0.1:7001"};
    char address[STORE_ADDRESS_MAX + 1] = "";
    struct buf why = {0};

    (void)state;
    assert_string_equal(member_address("127.0.0.1:7001", NULL), "127.0.0.1:7001");
    assert_string_equal(member_address("0.0.0.0:7001", ""), "");
    assert_string_equal(member_address("[::]:7001", NULL), "");
    assert_string_equal(member_address("", NULL), "");
    assert_string_equal(member_address(NULL, NULL), "");
    assert_string_equal(member_address("0.0.0.0:7001", "a:1"), "a:1");
    assert_int_equal(replica_init(&init, &why), 0);
    member_up(&m);
    assert_int_equal(member_put(&m, "a", "x"), 0);
    assert_int_equal(replica_member_address(m.r, 1, address, sizeof address), 0);
    assert_string_equal(address, "127.0.0.1:7001");
}

/* What applying changes, the copy in memory has when the result is told. */
static void table_of_members_follows_the_store(void **state)
{
    struct store_op op = {.kind = STORE_OP_MEMBER, .flags = STORE_MEMBER_ADD, .name = {"b:1", 3}, .mode = STORE_MEMBER_VOTER, .new_ino = 9};
    char address[STORE_ADDRESS_MAX + 1];
    uint64_t id;

    (void)state;
    member_up(&m);
    assert_int_equal(replica_member_address(m.r, 2, address, sizeof address), QE_NOENT);
    assert_int_equal(member_do(&m, &op, NULL, &id), 0);
    assert_int_equal(id, 2);
    assert_int_equal(replica_member_address(m.r, 2, address, sizeof address), 0);
    assert_string_equal(address, "b:1");
    op = (struct store_op){.kind = STORE_OP_MEMBER, .flags = STORE_MEMBER_REMOVE, .ino = 2};
    assert_int_equal(member_do(&m, &op, NULL, NULL), 0);
    assert_int_equal(replica_member_address(m.r, 2, address, sizeof address), QE_NOENT);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static void bad_lists_are_refused(void **state)
{
    static const struct store_member twice[] = {{.id = 1, .address = "a:1"}, {.id = 1, .address = "b:1"}};
    static const struct store_member same[] = {{.id = 1, .address = "a:1"}, {.id = 2, .address = "a:1"}};
    static const struct store_member no_port[] = {{.id = 1, .address = "a"}};
    static const struct store_member many[] = {{.id = 1, .address = "a:1"}, {.id = 2, .address = "a:2"}, {.id = 3, .address = "a:3"},
                                               {.id = 4, .address = "a:4"}, {.id = 5, .address = "a:5"}, {.id = 6, .address = "a:6"},
                                               {.id = 7, .address = "a:7"}, {.id = 8, .address = "a:8"}};

    (void)state;
    refused(4, three, 3, "member 4 is not in the list");
    refused(1, twice, 2, "twice");
    refused(1, same, 2, "the same address a:1");
    refused(1, no_port, 1, "HOST:PORT");
    refused(1, many, 8, "at most 7");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(members_of_a_list_begin_alike),
        TEST(any_difference_makes_another_cluster),
        TEST(table_of_members_is_loaded),
        TEST(sole_member_has_the_address_it_listens_at),
        TEST(table_of_members_follows_the_store),
        TEST(bad_lists_are_refused),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("begin", tests, NULL, NULL);
}
