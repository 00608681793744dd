/* Leases: granted, renewed, written down, ended; what becomes of the files that are attached. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/err.h"
#include "tests/unit/store/kit.h"

#define ROOT STORE_ROOT_INO
#define S INT64_C(1000000000)
#define TERM 1 /* of all entries of the kit */

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static int grant(struct kit *k, const char *name, int64_t ttl)
{
    return kit_op(k, &(struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .name = kit_str(name), .rev = ttl});
}

static int set_ttl(struct kit *k, uint64_t id, int64_t ttl)
{
    return kit_op(k, &(struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_TTL, .ino = id, .rev = ttl});
}

static int revoke(struct kit *k, uint64_t id)
{
    return kit_op(k, &(struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_REVOKE, .ino = id});
}

static int expire_seen(struct kit *k, uint64_t id, int64_t term, uint64_t seen)
{
    return kit_op(k, &(struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_EXPIRE, .ino = id, .rev = term, .first = (int64_t)seen});
}

static int expire(struct kit *k, uint64_t id)
{
    return expire_seen(k, id, TERM, k->index);
}

static int checkpoint(struct kit *k, uint64_t id, uint64_t left, int64_t term, uint64_t seen)
{
    uint8_t pair[16];

    for (int i = 0; i < 8; i++) {
        pair[i] = (uint8_t)(id >> (8 * i));
        pair[8 + i] = (uint8_t)(left >> (8 * i));
    }
    return kit_op(k, &(struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_CHECKPOINT, .rev = term, .first = (int64_t)seen, .bytes = {pair, 16}});
}

static int put(struct kit *k, uint64_t parent, const char *name, const char *text, uint64_t lease)
{
    struct store_edit edits[] = {{STORE_EDIT_TRUNCATE, 0, {0}}, {STORE_EDIT_WRITE, 0, kit_str(text)}};

    return kit_op(k, &(struct store_op){.kind = STORE_OP_COMMIT, .parent = parent, .name = kit_str(name), .new_ino = kit_ino(k, STORE_FILE), .mode = 0644,
                                        .uid = k->uid, .gid = k->gid, .edits = edits, .n_edits = 2, .valid = STORE_ATTR_LEASE, .lease = lease});
}

static int attach(struct kit *k, uint64_t ino, uint64_t lease)
{
    return kit_op(k, &(struct store_op){.kind = STORE_OP_SETATTR, .ino = ino, .valid = STORE_ATTR_LEASE, .lease = lease});
}

static uint64_t lease_of(struct kit *k, int64_t at, uint64_t ino)
{
    struct store_attr attr;

    assert_int_equal(store_getattr(k->r, at, ino, &attr), 0);
    return attr.lease;
}

static void lives_are(struct kit *k, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void lives_are(struct kit *k, const char *fmt, ...)
{
    char text[200];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    assert_string_equal(buf_cstr(&k->lives), text);
}

static bool event_line(void *data, const struct store_event *e)
{
    (void)buf_printf(data, "%d %.*s (%.*s); ", (int)e->op, (int)e->name.len, (const char *)e->name.data, (int)e->cause.len, (const char *)e->cause.data);
    return true;
}

static void events_are(struct kit *k, int64_t after, const char *text)
{
    struct buf out = {0};

    assert_int_equal(store_events(k->r, after, event_line, &out), 0);
    assert_string_equal(buf_cstr(&out), text);
    buf_fini(&out);
}

static void files_are(struct kit *k, const char *name, int64_t n)
{
    struct store_lease l;

    assert_int_equal(store_lease(k->r, name, &l), 0);
    assert_int_equal(kit_lease_files(k, l.id), n);
}

/* ---- Success ------------------------------------------------------------------------------------------------------------- */

static void a_lease_is_granted_by_name(void **state)
{
    struct kit *k = *state;
    struct store_lease l, same;
    int64_t rev = kit_glance(k).rev;
    uint64_t id;

    assert_int_equal(grant(k, "web1", 60 * S), 0);
    id = k->res.ino;
    assert_true(id == (uint64_t)rev + 1 && k->res.rev == rev + 1 && kit_glance(k).rev == rev + 1);
    lives_are(k, "lease %" PRIu64 " ttl 60000000000 left 0 renewed; ", id);
    assert_int_equal(store_lease(k->r, "web1", &l), 0);
    assert_true(l.id == id && l.owner == 1000 && l.ttl_ns == 60 * S && l.left_ns == 0 && l.renewed == k->index && !strcmp(l.name, "web1"));
    assert_int_equal(store_lease_by_id(k->r, id, &same), 0);
    assert_memory_equal(&l, &same, sizeof l);
    assert_int_equal(store_lease(k->r, "web2", &l), QE_NOENT);
    assert_int_equal(store_lease_by_id(k->r, id + 1, &l), QE_NOENT);
    assert_int_equal(kit_glance(k).n_leases, 1);
    assert_int_equal(grant(k, "web1", 60 * S), QE_EXIST);
    kit_reopen(k);
    assert_int_equal(kit_glance(k).n_leases, 1);
}

static bool add_name(void *data, const struct store_lease *l)
{
    (void)buf_printf(data, "%s ", l->name);
    return true;
}

static void leases_are_listed(void **state)
{
    struct kit *k = *state;
    struct buf out = {0};

    assert_int_equal(grant(k, "b", S), 0);
    assert_int_equal(grant(k, "a", S), 0);
    assert_int_equal(grant(k, "c", S), 0);
    assert_int_equal(store_leases(k->r, "", add_name, &out), 0);
    assert_string_equal(buf_cstr(&out), "a b c ");
    buf_clear(&out);
    assert_int_equal(store_leases(k->r, "a", add_name, &out), 0);
    assert_string_equal(buf_cstr(&out), "b c ");
    buf_fini(&out);
}

static void a_new_ttl_renews(void **state)
{
    struct kit *k = *state;
    struct store_lease l;
    int64_t rev;
    uint64_t id;

    assert_int_equal(grant(k, "a", 600 * S), 0);
    id = k->res.ino;
    rev = k->res.rev;
    assert_int_equal(checkpoint(k, id, 400 * S, TERM, k->index), 0);
    lives_are(k, "lease %" PRIu64 " ttl 600000000000 left 400000000000; ", id);
    assert_int_equal(set_ttl(k, id, 10 * S), 0);
    lives_are(k, "lease %" PRIu64 " ttl 10000000000 left 0 renewed; ", id);
    assert_int_equal(store_lease(k->r, "a", &l), 0);
    assert_true(l.ttl_ns == 10 * S && l.left_ns == 0 && l.renewed == k->index);
    assert_true(kit_glance(k).rev == rev);
}

static void files_are_attached_and_let_go(void **state)
{
    struct kit *k = *state;
    uint64_t id, other, f, g;
    int64_t rev;

    assert_int_equal(grant(k, "a", S), 0);
    id = k->res.ino;
    assert_int_equal(grant(k, "b", S), 0);
    other = k->res.ino;
    assert_int_equal(put(k, ROOT, "f", "1", id), 0);
    f = k->res.ino;
    rev = k->res.rev;
    assert_true(lease_of(k, STORE_HEAD, f) == id);
    assert_int_equal(kit_put(k, ROOT, "f", "2"), 0); /* keeps it */
    assert_true(lease_of(k, STORE_HEAD, f) == id);
    assert_int_equal(kit_put(k, ROOT, "g", "1"), 0);
    g = k->res.ino;
    assert_int_equal(put(k, ROOT, "g", "2", id), 0); /* an existing one */
    files_are(k, "a", 2);
    assert_int_equal(kit_rename(k, ROOT, "f", ROOT, "h", 0), 0);
    assert_true(lease_of(k, STORE_HEAD, f) == id);
    assert_int_equal(attach(k, f, other), 0);
    assert_true(lease_of(k, STORE_HEAD, f) == other && lease_of(k, rev, f) == id);
    assert_int_equal(attach(k, f, 0), 0);
    assert_true(lease_of(k, STORE_HEAD, f) == 0);
    files_are(k, "b", 0);
    assert_int_equal(kit_rename(k, ROOT, "h", ROOT, "g", 0), 0); /* over the attached one */
    files_are(k, "a", 0);
    assert_true(lease_of(k, STORE_HEAD, f) == 0);
    assert_int_equal(store_getattr(k->r, STORE_HEAD, g, &(struct store_attr){0}), QE_NOENT);
    assert_int_equal(attach(k, f, id), 0);
    assert_int_equal(kit_put(k, ROOT, "x", ""), 0);
    assert_int_equal(kit_rename(k, ROOT, "g", ROOT, "x", 0), 0); /* the attached one over another */
    files_are(k, "a", 1);
    assert_int_equal(kit_unlink(k, ROOT, "x"), 0);
    files_are(k, "a", 0);
}

static void the_end_deletes_the_files_in_one_revision(void **state)
{
    static const char *const why[] = {"revoked a", "expired a"};
    struct kit *k = *state;
    struct store_attr before, after;
    uint64_t id, d;
    int64_t rev;
    char text[100];

    assert_int_equal(kit_mkdir(k, ROOT, "d"), 0);
    d = k->res.ino;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(grant(k, "a", S), 0);
        id = k->res.ino;
        assert_int_equal(put(k, d, "f", "1", id), 0);
        assert_int_equal(put(k, d, "g", "1", id), 0);
        assert_int_equal(put(k, ROOT, "h", "1", id), 0);
        assert_int_equal(kit_put(k, d, "stays", "1"), 0);
        rev = k->res.rev;
        kit_attr(k, d, &before);
        assert_int_equal(i ? expire(k, id) : revoke(k, id), 0);
        assert_true(k->res.ino == 0 && k->res.rev == rev + 1);
        lives_are(k, "lease gone %" PRIu64 "; ", id);
        assert_true(k->n_changes == 3 && k->changes[0].unasked && k->changes[0].op == STORE_EV_DELETE && k->changes[2].rev == rev + 1);
        snprintf(text, sizeof text, "2 f (%s); 2 g (%s); 2 h (%s); ", why[i], why[i], why[i]);
        events_are(k, rev, text);
        kit_assert_list(k, STORE_HEAD, d, "stays");
        kit_assert_list(k, rev, d, "f g stays");
        kit_attr(k, d, &after);
        assert_true(after.mtime_ns > before.mtime_ns && after.ctime_ns == after.mtime_ns);
        assert_int_equal(store_lease(k->r, "a", &(struct store_lease){0}), QE_NOENT);
        assert_int_equal(kit_glance(k).n_leases, 0);
        assert_int_equal(revoke(k, id), QE_STALE);
        assert_int_equal(expire(k, id), QE_STALE);
        assert_int_equal(put(k, d, "late", "1", id), QE_STALE);
    }
    assert_int_equal(kit_compact(k, kit_glance(k).rev), 0);
    kit_compact_all(k);
}

/* Its directory's list has changed for whoever has read it. */
static void the_end_counts_as_a_change_of_the_directory(void **state)
{
    struct kit *k = *state;
    struct store_condition c = {.kind = STORE_IF_LIST, .ino = ROOT};
    struct store_op op = {.kind = STORE_OP_MKDIR, .parent = ROOT, .name = B("d"), .mode = 0755};
    struct store_command cmd;
    uint64_t id;

    assert_int_equal(grant(k, "a", S), 0);
    id = k->res.ino;
    assert_int_equal(put(k, ROOT, "f", "1", id), 0);
    c.number = k->res.rev;
    assert_int_equal(expire(k, id), 0);
    op.new_ino = kit_ino(k, STORE_DIR);
    cmd = kit_command(k, &op, 1);
    cmd.conditions = &c;
    cmd.n_conditions = 1;
    assert_int_equal(kit_apply(k, &cmd, 1), 0);
    assert_int_equal(k->res.err, QE_CANCELED);
}

static void a_lease_without_files_ends_without_a_revision(void **state)
{
    struct kit *k = *state;
    int64_t rev;

    assert_int_equal(grant(k, "a", S), 0);
    rev = k->res.rev;
    assert_int_equal(revoke(k, k->res.ino), 0);
    assert_true(k->res.rev == rev && kit_glance(k).rev == rev);
}

/* An old leader's word, or one from before a renewal. */
static void what_comes_late_does_nothing(void **state)
{
    struct kit *k = *state;
    struct store_lease l;
    uint64_t id, seen;

    assert_int_equal(grant(k, "a", 600 * S), 0);
    id = k->res.ino;
    seen = k->index;
    assert_int_equal(expire_seen(k, id, TERM + 1, k->index), QE_STALE);
    assert_int_equal(checkpoint(k, id, 5 * S, TERM + 1, k->index), QE_STALE);
    assert_int_equal(set_ttl(k, id, 600 * S), 0);
    assert_int_equal(expire_seen(k, id, TERM, seen), QE_STALE);
    assert_int_equal(checkpoint(k, id, 5 * S, TERM, seen), 0);
    lives_are(k, "%s", "");
    assert_int_equal(store_lease(k->r, "a", &l), 0);
    assert_true(l.left_ns == 0);
    assert_int_equal(checkpoint(k, id, 5 * S, TERM, k->index), 0);
    assert_int_equal(store_lease(k->r, "a", &l), 0);
    assert_true(l.left_ns == 5 * S);
    assert_int_equal(checkpoint(k, id, 600 * S, TERM, k->index), 0); /* all of it */
    assert_int_equal(store_lease(k->r, "a", &l), 0);
    assert_true(l.left_ns == 0);
    assert_int_equal(checkpoint(k, id + 77, 5 * S, TERM, k->index), 0); /* there is none */
    assert_int_equal(checkpoint(k, id, 1, TERM, k->index), 0);
    assert_int_equal(store_lease(k->r, "a", &l), 0);
    assert_true(l.left_ns == 2);
}

static void a_command_may_require_a_lease(void **state)
{
    struct kit *k = *state;
    struct store_op op = {.kind = STORE_OP_MKDIR, .parent = ROOT, .name = B("d"), .mode = 0755};
    struct store_condition c[] = {{.kind = STORE_IF_LEASE, .name = B("f"), .bytes = B("b")},
                                  {.kind = STORE_IF_LEASE, .name = B("g"), .bytes = B("a")},
                                  {.kind = STORE_IF_LEASE, .name = B("none"), .bytes = B("a")},
                                  {.kind = STORE_IF_LEASE, .name = B("f"), .bytes = B("a")}};
    struct store_command cmd;

    assert_int_equal(grant(k, "a", S), 0);
    assert_int_equal(put(k, ROOT, "f", "1", k->res.ino), 0);
    assert_int_equal(kit_put(k, ROOT, "g", "1"), 0);
    op.new_ino = kit_ino(k, STORE_DIR);
    for (int i = 0; i < 4; i++) {
        cmd = kit_command(k, &op, 1);
        cmd.conditions = &c[i];
        cmd.n_conditions = 1;
        assert_int_equal(kit_apply(k, &cmd, 1), 0);
        assert_int_equal(k->res.err, i == 3 ? 0 : QE_CANCELED);
    }
}

static bool stop_after_one(void *data, uint64_t ino)
{
    *(uint64_t *)data = ino;
    return false;
}

static void attached_files_are_listed_by_number(void **state)
{
    struct kit *k = *state;
    uint64_t id, f, g, got = 0;

    assert_int_equal(grant(k, "a", S), 0);
    id = k->res.ino;
    assert_int_equal(put(k, ROOT, "f", "1", id), 0);
    f = k->res.ino;
    assert_int_equal(put(k, ROOT, "g", "1", id), 0);
    g = k->res.ino;
    assert_int_equal(store_lease_files(k->r, id, 0, stop_after_one, &got), 0);
    assert_true(got == f);
    assert_int_equal(store_lease_files(k->r, id, f, stop_after_one, &got), 0);
    assert_true(got == g);
    got = 0;
    assert_int_equal(store_lease_files(k->r, id, g, stop_after_one, &got), 0);
    assert_true(got == 0);
}

/* ---- Failure ------------------------------------------------------------------------------------------------------------- */

static void a_lease_is_its_owners(void **state)
{
    struct kit *k = *state;
    uint64_t id, f;

    assert_int_equal(grant(k, "a", S), 0);
    id = k->res.ino;
    assert_int_equal(kit_put(k, ROOT, "f", "1"), 0);
    f = k->res.ino;
    k->uid = 2000;
    assert_int_equal(set_ttl(k, id, S), QE_PERM);
    assert_int_equal(revoke(k, id), QE_PERM);
    assert_int_equal(attach(k, f, id), QE_PERM);
    assert_int_equal(put(k, ROOT, "g", "1", id), QE_PERM);
    k->uid = 0;
    assert_int_equal(set_ttl(k, id, 2 * S), 0);
    assert_int_equal(attach(k, f, id), 0);
    k->uid = 2000;
    assert_int_equal(expire(k, id), 0); /* nobody's */
    k->uid = 1000;
}

static void nonsense_is_refused(void **state)
{
    struct kit *k = *state;
    char name[STORE_LEASE_NAME_MAX + 2];
    uint64_t id, link;

    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = 0;
    assert_int_equal(grant(k, name, S), QE_INVAL);
    assert_int_equal(grant(k, name + 1, S), 0);
    assert_int_equal(grant(k, "", S), QE_INVAL);
    assert_int_equal(grant(k, ".", S), QE_INVAL);
    assert_int_equal(grant(k, "..", S), QE_INVAL);
    assert_int_equal(grant(k, ".a", S), 0);
    id = k->res.ino;
    assert_int_equal(grant(k, "a/b", S), QE_INVAL);
    assert_int_equal(grant(k, "a", S - 1), QE_INVAL);
    assert_int_equal(grant(k, "a", STORE_LEASE_TTL_MAX + 1), QE_INVAL);
    assert_int_equal(set_ttl(k, id, 0), QE_INVAL);
    assert_int_equal(set_ttl(k, 99999, S), QE_STALE);
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_LEASE, .ino = id}), QE_INVAL);
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_LEASE, .ino = id, .flags = 6}), QE_INVAL);
    assert_int_equal(kit_op(k, &(struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_CHECKPOINT, .rev = TERM, .bytes = B("short")}), QE_INVAL);
    assert_int_equal(kit_mkdir(k, ROOT, "d"), 0);
    assert_int_equal(attach(k, k->res.ino, id), QE_INVAL);
    assert_int_equal(kit_symlink(k, ROOT, "l", "x"), 0);
    link = k->res.ino;
    assert_int_equal(attach(k, link, id), QE_INVAL);
    assert_int_equal(attach(k, link, 0), QE_INVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(a_lease_is_granted_by_name),
        KIT_TEST(leases_are_listed),
        KIT_TEST(a_new_ttl_renews),
        KIT_TEST(files_are_attached_and_let_go),
        KIT_TEST(the_end_deletes_the_files_in_one_revision),
        KIT_TEST(the_end_counts_as_a_change_of_the_directory),
        KIT_TEST(a_lease_without_files_ends_without_a_revision),
        KIT_TEST(what_comes_late_does_nothing),
        KIT_TEST(a_command_may_require_a_lease),
        KIT_TEST(attached_files_are_listed_by_number),
        KIT_TEST(a_lease_is_its_owners),
        KIT_TEST(nonsense_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
