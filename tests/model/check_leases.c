/* Random commands to leases and to files that are attached to them, and a plain model of both: after each command every lease and every file is
 * compared.
 *
 *     check_leases [COMMANDS [SEED]]       environment: MODEL_SEED */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/base/err.h"
#include "tests/model/pair.h"

enum { LEASES = 4, DIRS = 2, NAMES = 4, FILES = DIRS * NAMES, OLD = 8 };
#define ROOT STORE_ROOT_INO

struct lease {
    bool there;
    struct store_lease l;
};

static struct pair p;
static struct lease leases[LEASES];
static struct { uint64_t ino, lease; int64_t changed; } files[FILES]; /* ino 0: there is none; changed: its last revision */
static int64_t listed[DIRS];                                         /* when an entry came or went */
static uint64_t dirs[DIRS] = {ROOT, 0};
static uint64_t gone[OLD];                                           /* ids that were */
static uint64_t session, seq, next_n;
static int64_t rev = 1;
static uint32_t uid;
static int64_t answers[32];

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static const char *lease_name(int i)
{
    static const char *const names[LEASES] = {"a", "b", "c", "d"};

    return names[i];
}

static struct store_bytes file_name(int f)
{
    static const char *const names[NAMES] = {"e", "f", "g", "h"};

    return kit_str(names[f % NAMES]);
}

/* Applies it; `took`: the model says that it takes a revision. */
static void apply(const struct store_op *op, int want, bool took)
{
    struct store_command cmd = {.session = session, .seq = seq + 1, .acked = seq, .member = 1, .time_ns = p.time_ns, .uid = uid, .comm = "model", .ops = op,
                                .n_ops = 1};
    int err = pair_apply(&p, &cmd);

    seq++;
    answers[-err & 31]++;
    if (err != want)
        PAIR_FAIL(&p, "operation %d, flags %u: error %d, should be %d", (int)op->kind, op->flags, err, want);
    rev += took;
    if (p.res.rev != rev)
        PAIR_FAIL(&p, "operation %d, flags %u: revision %" PRId64 ", should be %" PRId64, (int)op->kind, op->flags, p.res.rev, rev);
}

static struct lease *by_id(uint64_t id)
{
    for (int i = 0; i < LEASES; i++)
        if (leases[i].there && leases[i].l.id == id)
            return &leases[i];
    return NULL;
}

/* One that is there, or was. */
static uint64_t some_id(void)
{
    const struct lease *l = &leases[pair_random(&p, LEASES)];

    return l->there ? l->l.id : gone[pair_random(&p, OLD)];
}

static int may_use(uint64_t id)
{
    const struct lease *l = by_id(id);

    return !l ? QE_STALE : uid && uid != l->l.owner ? QE_PERM : 0;
}

/* ---- Commands about leases ----------------------------------------------------------------------------------------------- */

static void do_grant(void)
{
    int i = (int)pair_random(&p, LEASES);
    struct lease *l = &leases[i];
    int64_t ttl = INT64_C(1000000000) * (int64_t)(1 + pair_random(&p, 1000));
    const struct store_op op = {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .name = kit_str(lease_name(i)), .rev = ttl};

    apply(&op, l->there ? QE_EXIST : 0, !l->there);
    if (l->there)
        return;
    *l = (struct lease){true, {.id = (uint64_t)rev, .owner = uid, .ttl_ns = ttl, .renewed = p.index}};
    strcpy(l->l.name, lease_name(i));
    if (p.res.ino != l->l.id)
        PAIR_FAIL(&p, "the lease has number %" PRIu64, p.res.ino);
}

static void do_ttl(void)
{
    const struct store_op op = {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_TTL, .ino = some_id(), .rev = INT64_C(1000000000) * (int64_t)(1 + pair_random(&p, 100))};
    struct lease *l = by_id(op.ino);
    int want = may_use(op.ino);

    apply(&op, want, false);
    if (want)
        return;
    l->l.ttl_ns = op.rev;
    l->l.left_ns = 0;
    l->l.renewed = p.index;
}

/* The files of a lease go; whether there were any. */
static bool drop_files(uint64_t id)
{
    bool any = false;

    for (int f = 0; f < FILES; f++)
        if (files[f].ino && files[f].lease == id) {
            files[f].ino = files[f].lease = 0;
            listed[f / NAMES] = rev + 1;
            any = true;
        }
    return any;
}

static void do_end(uint32_t how)
{
    bool wrong_term = how == STORE_LEASE_EXPIRE && pair_random(&p, 4) == 0;
    uint64_t seen = p.index - pair_random(&p, p.index < 40 ? p.index : 40);
    const struct store_op op = {.kind = STORE_OP_LEASE, .flags = how, .ino = some_id(), .rev = (int64_t)pair_term(&p) - wrong_term, .first = (int64_t)seen};
    struct lease *l = by_id(op.ino);
    int want = how == STORE_LEASE_REVOKE ? may_use(op.ino) : wrong_term || !l || l->l.renewed > seen ? QE_STALE : 0;

    apply(&op, want, want == 0 && drop_files(op.ino));
    if (want)
        return;
    gone[pair_random(&p, OLD)] = op.ino;
    l->there = false;
}

static void do_checkpoint(void)
{
    uint64_t seen = p.index - pair_random(&p, p.index < 40 ? p.index : 40), id[2], left[2];
    uint8_t bytes[32];
    const struct store_op op = {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_CHECKPOINT, .rev = (int64_t)pair_term(&p), .first = (int64_t)seen, .bytes = {bytes, 32}};

    for (int i = 0; i < 2; i++) {
        struct lease *l = by_id(id[i] = some_id());

        left[i] = pair_random(&p, 3) ? 2 + pair_random(&p, UINT64_C(2000000000000)) : l && pair_random(&p, 2) ? (uint64_t)l->l.ttl_ns : 0;
        for (int b = 0; b < 8; b++) {
            bytes[i * 16 + b] = (uint8_t)(id[i] >> (8 * b));
            bytes[i * 16 + 8 + b] = (uint8_t)(left[i] >> (8 * b));
        }
        if (l && l->l.renewed <= seen)
            l->l.left_ns = left[i] >= (uint64_t)l->l.ttl_ns ? 0 : (int64_t)left[i];
    }
    apply(&op, 0, false);
}

/* ---- Commands about files ------------------------------------------------------------------------------------------------ */

static uint64_t some_lease(void)
{
    return pair_random(&p, 6) ? some_id() : 0;
}

static void do_put(bool attach)
{
    int f = (int)pair_random(&p, FILES);
    const struct store_edit edit = {STORE_EDIT_APPEND, 0, B("x")};
    const struct store_op op = {.kind = STORE_OP_COMMIT, .parent = dirs[f / NAMES], .name = file_name(f), .new_ino = next_n * 4, .mode = 0644, .edits = &edit,
                                .n_edits = 1, .valid = attach ? STORE_ATTR_LEASE : 0, .lease = attach ? some_lease() : 0};
    int want = op.lease ? may_use(op.lease) : 0;

    apply(&op, want, want == 0);
    if (want)
        return;
    if (!files[f].ino) {
        files[f].ino = next_n++ * 4;
        files[f].lease = 0;
        listed[f / NAMES] = rev;
    }
    if (attach)
        files[f].lease = op.lease;
    files[f].changed = rev;
}

static void do_attach(void)
{
    int f = (int)pair_random(&p, FILES);
    const struct store_op op = {.kind = STORE_OP_SETATTR, .ino = files[f].ino ? files[f].ino : 4000000, .valid = STORE_ATTR_LEASE, .lease = some_lease()};
    int want = !files[f].ino ? QE_STALE : op.lease ? may_use(op.lease) : 0;

    apply(&op, want, want == 0);
    if (want)
        return;
    files[f].lease = op.lease;
    files[f].changed = rev;
}

static void do_unlink(void)
{
    int f = (int)pair_random(&p, FILES);
    const struct store_op op = {.kind = STORE_OP_UNLINK, .parent = dirs[f / NAMES], .name = file_name(f)};
    bool there = files[f].ino != 0;

    apply(&op, there ? 0 : QE_NOENT, there);
    if (!there)
        return;
    files[f].ino = files[f].lease = 0;
    listed[f / NAMES] = rev;
}

static void do_rename(void)
{
    int from = (int)pair_random(&p, FILES), to = (int)pair_random(&p, FILES);
    const struct store_op op = {.kind = STORE_OP_RENAME, .parent = dirs[from / NAMES], .name = file_name(from), .parent2 = dirs[to / NAMES], .name2 = file_name(to)};
    bool there = files[from].ino != 0;

    apply(&op, there ? 0 : QE_NOENT, there && from != to);
    if (!there || from == to)
        return;
    files[to] = files[from];
    files[to].changed = rev;
    files[from].ino = files[from].lease = 0;
    listed[from / NAMES] = listed[to / NAMES] = rev;
}

/* ---- Comparing ----------------------------------------------------------------------------------------------------------- */

struct attached {
    uint64_t lease, last;
    int n;
};

static bool compare_attached(void *data, uint64_t ino)
{
    struct attached *a = data;
    bool found = false;

    for (int f = 0; f < FILES; f++)
        found |= files[f].ino == ino && files[f].lease == a->lease;
    if (!found || ino <= a->last)
        PAIR_FAIL(&p, "inode %" PRIu64 " is attached to %" PRIu64 ", and should not be", ino, a->lease);
    a->last = ino;
    a->n++;
    return true;
}

static int compare_leases(void)
{
    int all = 0;

    for (int i = 0; i < LEASES; i++) {
        struct store_lease is;
        const struct store_lease *want = &leases[i].l;
        struct attached a = {.lease = want->id};
        int n = 0, err = store_lease(p.a.r, lease_name(i), &is);

        if (err != (leases[i].there ? 0 : QE_NOENT))
            PAIR_FAIL(&p, "lease %s is there, or not", lease_name(i));
        if (err)
            continue;
        for (int f = 0; f < FILES; f++)
            n += files[f].ino && files[f].lease == want->id;
        if (is.id != want->id || is.owner != want->owner || is.ttl_ns != want->ttl_ns || is.left_ns != want->left_ns || is.renewed != want->renewed ||
            strcmp(is.name, want->name))
            PAIR_FAIL(&p, "lease %s: ttl %" PRId64 ", left %" PRId64 "; should be %" PRId64 ", %" PRId64, is.name, is.ttl_ns, is.left_ns, want->ttl_ns,
                      want->left_ns);
        if (store_lease_files(p.a.r, want->id, 0, compare_attached, &a) || a.n != n)
            PAIR_FAIL(&p, "lease %s has %d files; should be %d", is.name, a.n, n);
        all++;
    }
    return all;
}

static void compare(void)
{
    struct store_attr attr;
    int there = 0, all = compare_leases();

    for (int f = 0; f < FILES; f++) {
        int err = store_lookup(p.a.r, STORE_HEAD, dirs[f / NAMES], file_name(f).data, 1, &attr);

        if (err != (files[f].ino ? 0 : QE_NOENT))
            PAIR_FAIL(&p, "file %d is there, or not", f);
        if (!err && (attr.ino != files[f].ino || attr.lease != files[f].lease || attr.mod_rev != files[f].changed))
            PAIR_FAIL(&p, "file %d is inode %" PRIu64 " with lease %" PRIu64 " of revision %" PRId64, f, attr.ino, attr.lease, attr.mod_rev);
        there += !err;
    }
    if (kit_glance(&p.a).n_leases != all || kit_glance(&p.a).n_files != there)
        PAIR_FAIL(&p, "%" PRId64 " leases, %" PRId64 " files", kit_glance(&p.a).n_leases, kit_glance(&p.a).n_files);
}

/* What was read from the directory's list is as it was, exactly as long as the model says. */
static void compare_lists(void)
{
    for (int d = 0; d < DIRS; d++) {
        struct store_condition c = {.kind = STORE_IF_LIST, .ino = dirs[d], .number = listed[d]};
        struct store_command cmd = {.session = session, .seq = seq + 1, .acked = seq, .member = 1, .comm = "model", .conditions = &c, .n_conditions = 1};

        if (pair_apply(&p, &cmd))
            PAIR_FAIL(&p, "directory %d has changed", d);
        c.number--;
        cmd.seq++;
        if (pair_apply(&p, &cmd) != QE_CANCELED)
            PAIR_FAIL(&p, "directory %d has not changed", d);
        seq += 2;
    }
}

static void step(void)
{
    uint64_t what = pair_random(&p, 100);

    uid = (uint32_t)pair_random(&p, 3);
    if (what < 15)
        do_grant();
    else if (what < 20)
        do_ttl();
    else if (what < 24)
        do_end(STORE_LEASE_REVOKE);
    else if (what < 28)
        do_end(STORE_LEASE_EXPIRE);
    else if (what < 34)
        do_checkpoint();
    else if (what < 60)
        do_put(pair_random(&p, 3) != 0);
    else if (what < 75)
        do_attach();
    else if (what < 87)
        do_rename();
    else
        do_unlink();
    compare();
    if ((what >= 20 && what < 28) || pair_random(&p, 50) == 0)
        compare_lists();
}

static void begin(void)
{
    const struct store_op start = {.kind = STORE_OP_SESSION}, reserve = {.kind = STORE_OP_RESERVE};
    struct store_command cmd = {.seq = 1, .member = 1, .comm = "model", .ops = &start, .n_ops = 1};

    if (pair_apply(&p, &cmd))
        PAIR_FAIL(&p, "no session");
    session = p.res.ino;
    for (int i = 0; i < 20; i++) {
        apply(&reserve, 0, false);
        next_n = i ? next_n : p.res.ino;
    }
    dirs[1] = next_n++ * 4 + STORE_DIR;
    apply(&(struct store_op){.kind = STORE_OP_MKDIR, .parent = ROOT, .name = B("dir"), .new_ino = dirs[1], .mode = 0755}, 0, true);
    listed[0] = rev;
    listed[1] = 0; /* of no entry yet */
}

int main(int argc, char **argv)
{
    int commands = argc > 1 ? atoi(argv[1]) : 40000;
    const char *env = getenv("MODEL_SEED");

    pair_init(&p, argc > 2 ? strtoull(argv[2], NULL, 10) : env ? strtoull(env, NULL, 10) : (uint64_t)time(NULL));
    printf("leases: %d commands, seed %" PRIu64 "\n", commands, p.seed);
    fflush(stdout);
    begin();
    for (int i = 0; i < commands; i++)
        step();
    pair_fini(&p);
    for (int i = 0; i < 32; i++)
        if (answers[i])
            printf("leases: %7" PRId64 " %s\n", answers[i], qfs_strerror(-i));
    return 0;
}
