#include "tests/unit/store/kit.h"

#include <dirent.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

const uint8_t kit_cluster_id[STORE_CLUSTER_ID_SIZE] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

/* ---- Life ---------------------------------------------------------------------------------------------------------------- */

void kit_make_dir(struct kit *k)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(k->dir, sizeof k->dir, "%s/qfs-store.XXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
    assert_non_null(mkdtemp(k->dir));
    k->time_ns = INT64_C(1700000000000000000);
    k->uid = 1000;
    k->gid = 100;
    k->nonce = 1000;
}

static int create(struct kit *k, bool loud)
{
    struct store_initial initial = {.epoch = 7, .root_uid = 11, .root_gid = 12, .time_ns = k->time_ns,
                                    .settings = (const char *const (*)[2])k->settings, .n_settings = k->n_settings};
    struct buf why = {0};
    int err;

    memcpy(initial.cluster_id, kit_cluster_id, sizeof kit_cluster_id);
    err = store_create(k->dir, &initial, &why);
    if (err && loud)
        print_message("store_create: %s\n", buf_cstr(&why));
    buf_fini(&why);
    return err;
}

int kit_create(struct kit *k)
{
    return create(k, true);
}

int kit_create_quietly(struct kit *k)
{
    return create(k, false);
}

int kit_open(struct kit *k)
{
    struct store_options o = {.dir = k->dir, .wal_limit_bytes = k->wal_limit_bytes};
    struct buf why = {0};
    int err = store_open(&o, &k->s, &why);

    if (err)
        print_message("store_open: %s\n", buf_cstr(&why));
    buf_fini(&why);
    if (!err) {
        err = store_reader_open(k->s, &k->r);
        if (err)
            store_close(k->s);
    }
    if (err) {
        k->s = NULL;
        k->r = NULL;
    }
    return err;
}

void kit_close(struct kit *k)
{
    store_reader_close(k->r);
    store_close(k->s);
    k->r = NULL;
    k->s = NULL;
}

void kit_start(struct kit *k)
{
    struct store_op session = {.kind = STORE_OP_SESSION}, reserve = {.kind = STORE_OP_RESERVE};
    uint64_t old = k->session;

    k->session = k->acked = 0;
    k->seq = k->nonce++;
    assert_int_equal(kit_op(k, &session), 0);
    assert_true(k->res.ino != old);
    k->session = k->res.ino;
    k->seq = 0;
    assert_int_equal(kit_op(k, &reserve), 0);
    k->next_n = k->res.ino;
    k->end_n = k->next_n + STORE_INO_BLOCK;
}

void kit_init(struct kit *k)
{
    kit_make_dir(k);
    assert_int_equal(kit_create(k), 0);
    assert_int_equal(kit_open(k), 0);
    kit_start(k);
}

void kit_fini(struct kit *k)
{
    DIR *d;
    char path[512];

    kit_close(k);
    buf_fini(&k->locks);
    buf_fini(&k->lives);
    d = opendir(k->dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", k->dir, e->d_name);
        unlink(path);
    }
    if (d)
        closedir(d);
    rmdir(k->dir);
}

void kit_reopen(struct kit *k)
{
    kit_close(k);
    assert_int_equal(kit_open(k), 0);
}

void kit_say(void *data, const char *line)
{
    (void)data;
    if (!strncmp(line, "damage", 6))
        print_message("%s\n", line);
}

void kit_check(struct kit *k)
{
    struct store_summary sum;
    bool was_open = k->s != NULL;

    kit_close(k);
    assert_int_equal(store_check(k->dir, kit_say, NULL, &sum), 0);
    if (was_open)
        assert_int_equal(kit_open(k), 0);
}

/* ---- Applying ------------------------------------------------------------------------------------------------------------ */

uint64_t kit_ino(struct kit *k, enum store_kind kind)
{
    if (k->next_n == k->end_n) {
        struct store_op reserve = {.kind = STORE_OP_RESERVE};

        assert_int_equal(kit_op(k, &reserve), 0);
        k->next_n = k->res.ino;
        k->end_n = k->next_n + STORE_INO_BLOCK;
    }
    return k->next_n++ * 4 + (uint64_t)kind;
}

struct store_command kit_command(struct kit *k, const struct store_op *ops, size_t n)
{
    k->time_ns += 1000000;
    return (struct store_command){.session = k->session, .seq = ++k->seq, .acked = k->acked, .member = KIT_MEMBER, .time_ns = k->time_ns, .uid = k->uid,
                                  .gid = k->gid, .pid = 4711, .comm = "test", .ops = ops, .n_ops = n};
}

static void on_result(void *data, const struct store_result *r)
{
    struct kit *k = data;

    k->res = *r;
    k->n_results++;
}

static void on_changed(void *data, const struct store_change *c, size_t n)
{
    struct kit *k = data;

    for (size_t i = 0; i < n && i < 64; i++) {
        k->changes[i] = c[i];
        snprintf(k->names[i][0], 256, "%.*s", (int)c[i].name.len, (const char *)c[i].name.data);
        snprintf(k->names[i][1], 256, "%.*s", (int)c[i].old_name.len, (const char *)c[i].old_name.data);
    }
    k->n_changes = n;
}

static void on_members(void *data)
{
    struct kit *k = data;

    k->n_members_changed++;
}

static void on_locks(void *data, const struct store_lock_event *e, size_t n)
{
    struct kit *k = data;

    for (size_t i = 0; i < n; i++) {
        const char *what = e[i].kind == STORE_LOCK_GRANTED ? "granted" : e[i].kind == STORE_LOCK_LOST ? "lost" : "changed";

        if (e[i].kind == STORE_LOCK_CHANGED)
            (void)buf_printf(&k->locks, "changed %.*s; ", (int)e[i].name.len, (const char *)e[i].name.data);
        else
            (void)buf_printf(&k->locks, "%s %" PRIu64 "/%" PRIu64 "/%" PRIu64 "@%" PRId64 "; ", what, e[i].session, e[i].owner, e[i].request, e[i].token);
    }
}

static void on_lives(void *data, const struct store_life_event *e, size_t n)
{
    static const char *const words[] = {[STORE_LIFE_LEASE] = "lease", [STORE_LIFE_LEASE_GONE] = "lease gone", [STORE_LIFE_SESSION] = "session",
                                        [STORE_LIFE_SESSION_GONE] = "session gone"};
    struct kit *k = data;

    for (size_t i = 0; i < n; i++) {
        (void)buf_printf(&k->lives, "%s %" PRIu64, words[e[i].kind], e[i].id);
        if (e[i].kind == STORE_LIFE_LEASE)
            (void)buf_printf(&k->lives, " ttl %" PRId64 " left %" PRId64 "%s", e[i].ttl_ns, e[i].left_ns, e[i].renewed ? " renewed" : "");
        if (e[i].kind >= STORE_LIFE_SESSION)
            (void)buf_printf(&k->lives, " of %u", e[i].member);
        (void)buf_printf(&k->lives, "; ");
    }
}

int kit_apply(struct kit *k, const struct store_command *cmds, size_t n)
{
    struct store_bytes *list = calloc(n + 1, sizeof *list);
    struct buf *bufs = calloc(n + 1, sizeof *bufs), entry = {0};
    struct store_sink sink = {k, on_result, on_changed, on_members, on_locks, on_lives};
    struct store_entry e;
    int err;

    for (size_t i = 0; i < n; i++) {
        assert_int_equal(store_command_encode(&cmds[i], &bufs[i]), 0);
        list[i] = (struct store_bytes){bufs[i].data, bufs[i].len};
    }
    assert_int_equal(store_entry_build(kit_cluster_id, 1, k->time_ns, list, n, &entry), 0);
    e = (struct store_entry){k->index + 1, 1, {entry.data, entry.len}};
    k->n_results = k->n_changes = 0;
    buf_clear(&k->locks);
    buf_clear(&k->lives);
    err = store_apply(k->s, &e, 1, &sink);
    if (!err)
        k->index++;
    for (size_t i = 0; i < n; i++)
        buf_fini(&bufs[i]);
    buf_fini(&entry);
    free(bufs);
    free(list);
    return err;
}

int kit_ops(struct kit *k, const struct store_op *ops, size_t n)
{
    struct store_command cmd = kit_command(k, ops, n);
    int err = kit_apply(k, &cmd, 1);

    if (err)
        print_message("store_apply: %s\n", store_errmsg(k->s));
    assert_int_equal(err, 0);
    assert_int_equal(k->n_results, 1);
    assert_true(k->res.seq == cmd.seq);
    return k->res.err;
}

int kit_op(struct kit *k, const struct store_op *op)
{
    return kit_ops(k, op, 1);
}

/* ---- Commands ------------------------------------------------------------------------------------------------------------ */

struct store_bytes kit_str(const char *text)
{
    return (struct store_bytes){text, strlen(text)};
}

int kit_put_bytes(struct kit *k, uint64_t parent, const char *name, const void *data, size_t len)
{
    struct store_edit edits[] = {{STORE_EDIT_TRUNCATE, 0, {0}}, {STORE_EDIT_WRITE, 0, {data, len}}};
    struct store_op op = {.kind = STORE_OP_COMMIT, .parent = parent, .name = kit_str(name), .new_ino = kit_ino(k, STORE_FILE), .mode = 0644,
                          .uid = k->uid, .gid = k->gid, .edits = edits, .n_edits = 2};

    return kit_op(k, &op);
}

int kit_put(struct kit *k, uint64_t parent, const char *name, const char *text)
{
    return kit_put_bytes(k, parent, name, text, strlen(text));
}

int kit_add(struct kit *k, uint64_t ino, const char *text)
{
    struct store_edit edit = {STORE_EDIT_APPEND, 0, kit_str(text)};
    struct store_op op = {.kind = STORE_OP_COMMIT, .ino = ino, .edits = &edit, .n_edits = 1};

    return kit_op(k, &op);
}

static int make(struct kit *k, enum store_op_kind kind, enum store_kind made, uint64_t parent, const char *name, struct store_bytes target)
{
    struct store_op op = {.kind = kind, .parent = parent, .name = kit_str(name), .new_ino = kit_ino(k, made), .mode = made == STORE_DIR ? 0755 : 0644,
                          .uid = k->uid, .gid = k->gid, .bytes = target};

    return kit_op(k, &op);
}

int kit_mkdir(struct kit *k, uint64_t parent, const char *name)
{
    return make(k, STORE_OP_MKDIR, STORE_DIR, parent, name, (struct store_bytes){0});
}

int kit_symlink(struct kit *k, uint64_t parent, const char *name, const char *target)
{
    return make(k, STORE_OP_SYMLINK, STORE_SYMLINK, parent, name, kit_str(target));
}

int kit_create_excl(struct kit *k, uint64_t parent, const char *name)
{
    return make(k, STORE_OP_CREATE, STORE_FILE, parent, name, (struct store_bytes){0});
}

int kit_unlink(struct kit *k, uint64_t parent, const char *name)
{
    return kit_op(k, &(struct store_op){.kind = STORE_OP_UNLINK, .parent = parent, .name = kit_str(name)});
}

int kit_rmdir(struct kit *k, uint64_t parent, const char *name)
{
    return kit_op(k, &(struct store_op){.kind = STORE_OP_RMDIR, .parent = parent, .name = kit_str(name)});
}

int kit_rename(struct kit *k, uint64_t from, const char *name, uint64_t to, const char *name2, uint32_t flags)
{
    return kit_op(k, &(struct store_op){.kind = STORE_OP_RENAME, .parent = from, .name = kit_str(name), .parent2 = to, .name2 = kit_str(name2),
                                        .flags = flags});
}

int kit_chmod(struct kit *k, uint64_t ino, uint32_t mode)
{
    return kit_op(k, &(struct store_op){.kind = STORE_OP_SETATTR, .ino = ino, .mode = mode, .valid = STORE_ATTR_MODE});
}

int kit_setxattr(struct kit *k, uint64_t ino, const char *name, const char *value, uint32_t flags)
{
    return kit_op(k, &(struct store_op){.kind = STORE_OP_SETXATTR, .ino = ino, .name = kit_str(name), .bytes = kit_str(value), .flags = flags});
}

int kit_set(struct kit *k, const char *name, const char *value)
{
    return kit_op(k, &(struct store_op){.kind = STORE_OP_SETTING, .name = kit_str(name), .bytes = kit_str(value)});
}

int kit_compact(struct kit *k, int64_t rev)
{
    return kit_op(k, &(struct store_op){.kind = STORE_OP_COMPACT, .rev = rev});
}

void kit_compact_all(struct kit *k)
{
    bool more = true;

    for (int i = 0; more && i < 100000; i++)
        assert_int_equal(store_maintain(k->s, 2, true, &more), 0);
    assert_false(more);
}

/* ---- Reading ------------------------------------------------------------------------------------------------------------- */

uint64_t kit_lookup(struct kit *k, int64_t at, uint64_t parent, const char *name)
{
    struct store_attr attr;
    int err = store_lookup(k->r, at, parent, name, strlen(name), &attr);

    if (err == QE_NOENT)
        return 0;
    assert_int_equal(err, 0);
    return attr.ino;
}

void kit_attr(struct kit *k, uint64_t ino, struct store_attr *out)
{
    assert_int_equal(store_getattr(k->r, STORE_HEAD, ino, out), 0);
}

void kit_assert_content(struct kit *k, int64_t at, uint64_t ino, const char *text)
{
    struct buf b = {0};
    struct store_attr attr;

    assert_int_equal(store_content(k->r, at, ino, &b, &attr), 0);
    assert_string_equal(buf_cstr(&b), text);
    assert_int_equal(attr.size, strlen(text));
    buf_fini(&b);
}

static bool on_dirent(void *data, const void *name, size_t len, uint64_t ino)
{
    struct buf *b = data;

    (void)ino;
    assert_int_equal(buf_printf(b, "%s%.*s", b->len ? " " : "", (int)len, (const char *)name), 0);
    return true;
}

void kit_assert_list(struct kit *k, int64_t at, uint64_t dir, const char *names)
{
    kit_assert_list_after(k, at, dir, "", names);
}

void kit_assert_list_after(struct kit *k, int64_t at, uint64_t dir, const char *after, const char *names)
{
    struct buf b = {0};

    assert_int_equal(store_list(k->r, at, dir, after, strlen(after), on_dirent, &b), 0);
    assert_string_equal(buf_cstr(&b), names);
    buf_fini(&b);
}

static bool count_one(void *data, uint64_t ino)
{
    (void)ino;
    ++*(int64_t *)data;
    return true;
}

int64_t kit_lease_files(struct kit *k, uint64_t lease)
{
    int64_t n = 0;

    assert_int_equal(store_lease_files(k->r, lease, 0, count_one, &n), 0);
    return n;
}

struct store_glance kit_glance(struct kit *k)
{
    struct store_glance g;

    store_glance(k->s, &g);
    return g;
}

int kit_setup(void **state)
{
    static struct kit kit;

    memset(&kit, 0, sizeof kit);
    kit_init(&kit);
    *state = &kit;
    return 0;
}

int kit_teardown(void **state)
{
    kit_check(*state);
    kit_fini(*state);
    return 0;
}
