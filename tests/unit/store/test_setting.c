/* Cluster settings: what is accepted, how it is stored, and that a refusal says what is allowed. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/err.h"
#include "tests/unit/store/kit.h"

#define ROOT STORE_ROOT_INO

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static void assert_accepts(const char *name, const char *value, const char *canonical)
{
    struct buf c = {0}, why = {0};

    assert_int_equal(store_setting_check(name, value, &c, &why), 0);
    assert_string_equal(buf_cstr(&c), canonical);
    buf_fini(&c);
    buf_fini(&why);
}

static void assert_refuses(const char *name, const char *value)
{
    struct buf why = {0};

    assert_int_equal(store_setting_check(name, value, NULL, &why), QE_INVAL);
    assert_non_null(strstr(buf_cstr(&why), name));
    assert_non_null(strstr(buf_cstr(&why), value));
    assert_non_null(strstr(buf_cstr(&why), "allowed is"));
    buf_fini(&why);
}

static void assert_setting(struct kit *k, const char *name, const char *value)
{
    struct buf b = {0};

    assert_int_equal(store_setting(k->r, name, &b), 0);
    assert_string_equal(buf_cstr(&b), value);
    buf_fini(&b);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */


static void values_are_stored_in_canonical_text(void **state)
{
    (void)state;
    assert_accepts("quota", "2048M", "2G");
    assert_accepts("quota", "1536M", "1536M");
    assert_accepts("quota", "1048576", "1M");
    assert_accepts("quota", "1048577", "1048577");
    assert_accepts("max-value", "4096", "4K");
    assert_accepts("max-value", "16M", "16M");
    assert_accepts("session-ttl", "60s", "1m");
    assert_accepts("session-ttl", "1500ms", "1500ms");
    assert_accepts("heartbeat", "1s", "1000ms");
    assert_accepts("election-timeout", "1000ms", "1000ms");
    assert_accepts("retain", "time:24h", "time:24h");
    assert_accepts("retain", "bytes:2048K,revisions:7", "revisions:7,bytes:2M");
    assert_accepts("retain", "time:3600s,bytes:1,revisions:1", "revisions:1,bytes:1,time:1h");
}

static void the_initial_values_are_canonical(void **state)
{
    size_t n;
    const struct store_setting_def *defs = store_setting_defs(&n);

    (void)state;
    assert_int_equal(n, 6);
    for (size_t i = 0; i < n; i++)
        assert_accepts(defs[i].name, defs[i].initial, defs[i].initial);
}

static void a_new_store_has_them_all(void **state)
{
    struct kit *k = *state;
    size_t n;
    const struct store_setting_def *defs = store_setting_defs(&n);

    for (size_t i = 0; i < n; i++)
        assert_setting(k, defs[i].name, defs[i].initial);
    assert_int_equal(kit_glance(k).quota, INT64_C(2) << 30);
    assert_int_equal(kit_glance(k).max_value, 1 << 20);
}

static void init_may_give_values(void **state)
{
    struct kit mine = {.settings = {{"quota", "4M"}, {"max-value", "8K"}}, .n_settings = 2};

    (void)state;
    kit_init(&mine);
    assert_setting(&mine, "quota", "4M");
    assert_int_equal(kit_glance(&mine).quota, 4 << 20);
    assert_int_equal(kit_glance(&mine).max_value, 8 << 10);
    kit_check(&mine);
    kit_fini(&mine);
}

static void a_change_takes_a_revision_and_the_same_value_none(void **state)
{
    struct kit *k = *state;

    assert_int_equal(kit_set(k, "quota", "1024M"), 0);
    assert_int_equal(k->res.rev, 2);
    assert_setting(k, "quota", "1G");
    assert_int_equal(kit_glance(k).quota, 1 << 30);
    assert_int_equal(kit_set(k, "quota", "1G"), 0);
    assert_int_equal(k->res.rev, 2);
    kit_reopen(k);
    assert_int_equal(kit_glance(k).quota, 1 << 30);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */


static void bad_values_are_refused_with_what_is_allowed(void **state)
{
    static const char *const bad[][2] = {{"quota", "1048575"}, {"quota", "2g"}, {"quota", "-1M"}, {"quota", "1.5G"}, {"quota", "99999999999999999999G"},
                                         {"quota", "G"}, {"quota", "9223372036854775807G"}, {"max-value", "4095"}, {"max-value", "17M"}, {"session-ttl", "10"},
                                         {"session-ttl", "2h"}, {"heartbeat", "9ms"}, {"election-timeout", "61s"}, {"retain", "revisions"},
                                         {"retain", "revisions:0"}, {"retain", "revisions:1,revisions:2"}, {"retain", "revisions:1,"}, {"retain", "size:3"},
                                         {"retain", "time:5"}, {"quota", " 2G"}, {"quota", "2G "}};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_refuses(bad[i][0], bad[i][1]);
    assert_int_equal(store_setting_check("quota", "", NULL, NULL), QE_INVAL);
    assert_int_equal(store_setting_check("retain", "", NULL, NULL), QE_INVAL);
}

static void a_heartbeat_has_to_be_below_the_election_timeout(void **state)
{
    struct buf why = {0};

    (void)state;
    assert_int_equal(store_setting_agree("999ms", "1s", NULL), 0);
    assert_int_equal(store_setting_agree("1000ms", "1s", &why), QE_INVAL);
    assert_non_null(strstr(buf_cstr(&why), "1000ms"));
    buf_fini(&why);
}

static void an_unknown_name_is_refused_with_all_names(void **state)
{
    struct buf why = {0};

    (void)state;
    assert_int_equal(store_setting_check("qouta", "2G", NULL, &why), QE_NOENT);
    assert_non_null(strstr(buf_cstr(&why), "qouta"));
    assert_non_null(strstr(buf_cstr(&why), "quota, max-value"));
    buf_fini(&why);
}

static void apply_refuses_what_is_bad(void **state)
{
    struct kit *k = *state;

    assert_int_equal(kit_set(k, "quota", "12"), QE_INVAL);
    assert_int_equal(kit_set(k, "none", "12"), QE_NOENT);
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_SETTING, .name = {"quota\0", 6}, .bytes = B("2G")}), QE_INVAL);
    assert_setting(k, "quota", "2G");
    assert_int_equal(store_setting(k->r, "none", &(struct buf){0}), QE_NOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(values_are_stored_in_canonical_text),
        KIT_TEST(the_initial_values_are_canonical),
        KIT_TEST(a_new_store_has_them_all),
        KIT_TEST(init_may_give_values),
        KIT_TEST(a_change_takes_a_revision_and_the_same_value_none),
        KIT_TEST(bad_values_are_refused_with_what_is_allowed),
        KIT_TEST(a_heartbeat_has_to_be_below_the_election_timeout),
        KIT_TEST(an_unknown_name_is_refused_with_all_names),
        KIT_TEST(apply_refuses_what_is_bad),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
