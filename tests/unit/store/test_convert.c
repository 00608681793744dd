/* Databases of the former format: looked over as they are, converted when they are opened, installed, or begun from. */
#include <fcntl.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/base/err.h"
#include "tests/unit/store/kit.h"

#define ROOT STORE_ROOT_INO

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

/* As the program that made format 2 left these tables. */
static const char former[] =
    "DROP TABLE lease; DROP TABLE lock;"
    "CREATE TABLE lease(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, owner INTEGER NOT NULL, ttl INTEGER NOT NULL, granted INTEGER NOT NULL) STRICT;"
    "CREATE TABLE lock(id INTEGER PRIMARY KEY, ino INTEGER, name BLOB, session INTEGER NOT NULL, owner INTEGER NOT NULL, kind INTEGER NOT NULL, "
    "first INTEGER NOT NULL, last INTEGER NOT NULL, token INTEGER NOT NULL) STRICT;"
    "UPDATE meta SET format = 2";

static void sql(const char *path, const char *text)
{
    sqlite3 *db;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void database_of(const struct kit *k, char path[100])
{
    snprintf(path, 100, "%s/state-1.db", k->dir);
}

/* Closes the store, whose database then is of the former format; the hash that it had. */
static uint64_t make_former(struct kit *k)
{
    char path[100];
    uint64_t hash;
    int64_t rev;

    store_state(k->s, &rev, &hash);
    kit_close(k);
    database_of(k, path);
    sql(path, former);
    return hash;
}

static int64_t number(const char *path, const char *query)
{
    sqlite3 *db;
    sqlite3_stmt *q;
    int64_t n;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, query, -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    n = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return n;
}

/* Names, columns, types, keys of all tables and indexes. */
static void shape_of(const char *path, struct buf *out)
{
    static const char query[] = "SELECT m.type, m.name, p.name, p.type, p.\"notnull\", p.pk FROM sqlite_schema m LEFT JOIN pragma_table_info(m.name) p "
                                "WHERE m.type <> 'view' UNION ALL SELECT 'column', m.name, p.name, '', p.seqno, 0 FROM sqlite_schema m, "
                                "pragma_index_info(m.name) p WHERE m.type = 'index' ORDER BY 1, 2, 3";
    sqlite3 *db;
    sqlite3_stmt *q;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, query, -1, &q, NULL), SQLITE_OK);
    while (sqlite3_step(q) == SQLITE_ROW) {
        for (int i = 0; i < 6; i++)
            assert_int_equal(buf_printf(out, "%s ", sqlite3_column_text(q, i) ? (const char *)sqlite3_column_text(q, i) : "-"), 0);
        assert_int_equal(buf_printf(out, "\n"), 0);
    }
    sqlite3_finalize(q);
    sqlite3_close(db);
}

static void can_lock(struct kit *k)
{
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_LOCK, .flags = STORE_LOCK_NAMED, .name = B("n"), .owner = 1, .request = 1}), 0);
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .name = B("l"), .rev = INT64_C(1000000000)}), 0);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void it_is_converted_when_opened(void **state)
{
    struct kit *k = *state, fresh = {0};
    struct buf shape = {0}, want = {0};
    char path[100], other[100];
    uint64_t hash, after;
    int64_t rev;

    assert_int_equal(kit_put(k, ROOT, "f", "1"), 0);
    hash = make_former(k);
    assert_int_equal(kit_open(k), 0);
    store_state(k->s, &rev, &after);
    assert_true(hash == after);
    kit_assert_content(k, STORE_HEAD, kit_lookup(k, STORE_HEAD, ROOT, "f"), "1");
    can_lock(k);
    kit_close(k);
    kit_make_dir(&fresh);
    assert_int_equal(kit_create(&fresh), 0);
    database_of(k, path);
    database_of(&fresh, other);
    shape_of(path, &shape);
    shape_of(other, &want);
    assert_string_equal(buf_cstr(&shape), buf_cstr(&want));
    assert_int_equal(number(path, "SELECT format FROM meta"), number(other, "SELECT format FROM meta"));
    buf_fini(&shape);
    buf_fini(&want);
    kit_fini(&fresh);
    assert_int_equal(kit_open(k), 0);
}

/* Whoever looks it over before the new program is started changes nothing. */
static void it_is_looked_over_as_it_is(void **state)
{
    struct kit *k = *state;
    struct store_summary sum;
    char path[100];
    uint64_t hash;

    assert_int_equal(kit_put(k, ROOT, "f", "1"), 0);
    hash = make_former(k);
    database_of(k, path);
    assert_int_equal(store_check(k->dir, kit_say, NULL, &sum), 0);
    assert_true(sum.hash == hash && sum.n_files == 1);
    assert_int_equal(number(path, "SELECT format FROM meta"), 2);
    sql(path, "UPDATE node SET mode = mode + 1 WHERE name = x'66'");
    assert_int_equal(store_check(k->dir, kit_say, NULL, &sum), QE_CORRUPT);
    sql(path, "UPDATE node SET mode = mode - 1 WHERE name = x'66'");
    assert_int_equal(kit_open(k), 0);
}

static void a_copy_of_it_is_installed(void **state)
{
    struct kit *k = *state, far = {0};
    struct store_copy copy = {0};
    struct store_position pos;
    struct buf why = {0};
    char name[STORE_STAGE_NAME_SIZE], from[100], command[400];

    kit_init(&far);
    assert_int_equal(kit_put(&far, ROOT, "f", "far"), 0);
    store_position(far.s, &pos);
    copy.applied = pos.applied;
    copy.term = pos.term;
    memcpy(copy.cluster_id, pos.cluster_id, sizeof copy.cluster_id);
    store_state(far.s, &copy.rev, &copy.hash);
    make_former(&far);
    assert_int_equal(store_stage_name(k->dir, name), 0);
    database_of(&far, from);
    snprintf(command, sizeof command, "cp %s %s/%s", from, k->dir, name);
    assert_int_equal(system(command), 0);
    if (store_stage_verify(k->dir, name, &copy, 7, &why))
        fail_msg("%s", buf_cstr(&why));
    assert_int_equal(store_stage_commit(k->dir, name, copy.applied, 7, &why), 0);
    assert_int_equal(store_switch(k->s, &why), 0);
    kit_assert_content(k, STORE_HEAD, kit_lookup(k, STORE_HEAD, ROOT, "f"), "far");
    k->index = far.index;
    k->session = far.session;
    k->seq = far.seq;
    can_lock(k);
    buf_fini(&why);
    kit_fini(&far);
}

/* A copy, or the directory of a member that was stopped. */
static void a_cluster_begins_from_it(void **state)
{
    struct kit *k = *state;
    char paths[2][100];

    assert_int_equal(kit_put(k, ROOT, "f", "1"), 0);
    make_former(k);
    database_of(k, paths[0]);
    snprintf(paths[1], sizeof paths[1], "%s", k->dir);
    for (int i = 0; i < 2; i++) {
        struct store_member self = {.id = 1, .address = "", .role = STORE_MEMBER_VOTER};
        struct store_initial initial = {.epoch = 77, .members = &self, .n_members = 1, .from = paths[i]};
        struct kit n = {.time_ns = INT64_C(1800000000000000000)};
        struct buf why = {0};

        kit_make_dir(&n);
        memcpy(initial.cluster_id, kit_cluster_id, sizeof initial.cluster_id);
        if (store_create(n.dir, &initial, &why))
            fail_msg("%s", buf_cstr(&why));
        assert_int_equal(kit_open(&n), 0);
        kit_assert_content(&n, STORE_HEAD, kit_lookup(&n, STORE_HEAD, ROOT, "f"), "1");
        kit_start(&n);
        can_lock(&n);
        kit_check(&n);
        kit_fini(&n);
        buf_fini(&why);
    }
    assert_int_equal(kit_open(k), 0);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static void what_it_never_had_is_refused(void **state)
{
    static const char *const things[][2] = {{"CREATE TRIGGER t AFTER UPDATE ON meta BEGIN DELETE FROM node; END", "DROP TRIGGER t"},
                                            {"INSERT INTO lease VALUES(1, 'x', 0, 1, 1)", "DELETE FROM lease"},
                                            {"INSERT INTO lock VALUES(1, 1, NULL, 1, 1, 1, 0, 1, 1)", "DELETE FROM lock"}};
    struct kit *k = *state;
    char path[100];

    make_former(k);
    database_of(k, path);
    for (size_t i = 0; i < sizeof things / sizeof *things; i++) {
        sql(path, things[i][0]);
        assert_int_equal(kit_open(k), QE_CORRUPT);
        assert_int_equal(number(path, "SELECT format FROM meta"), 2);
        assert_true(number(path, "SELECT count(*) FROM node") > 0);
        sql(path, things[i][1]);
    }
    assert_int_equal(kit_open(k), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(it_is_converted_when_opened),
        KIT_TEST(it_is_looked_over_as_it_is),
        KIT_TEST(a_copy_of_it_is_installed),
        KIT_TEST(a_cluster_begins_from_it),
        KIT_TEST(what_it_never_had_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
