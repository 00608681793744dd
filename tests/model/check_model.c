/* The model check: random commands to the store and to a plain model of it, compared result by result; every so often the whole
 * state, old revisions, events, counters, and the hash of a second store that got the same entries in other portions.
 *
 *     check_model [COMMANDS [SEED]]       environment: MODEL_SEED */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/base/err.h"
#include "tests/model/generate.h"
#include "tests/model/model.h"
#include "tests/unit/store/kit.h"

enum { CHECK_EVERY = 5000, LOG_MAX = 4096 };

static uint64_t seed;
static int64_t n_old_reads;
static int64_t answers[32]; /* how often each error was the answer */

#define FAIL(...) \
    do { \
        fprintf(stderr, "model: seed %" PRIu64 ": ", seed); \
        fprintf(stderr, __VA_ARGS__); \
        fprintf(stderr, " (%s:%d)\n", __FILE__, __LINE__); \
        exit(1); \
    } while (0)

/* ---- Comparing a revision ------------------------------------------------------------------------------------------------ */

static void compare_attr(int64_t at, const struct model_inode *in, const struct model_state *s, const struct store_attr *a)
{
    static const uint32_t types[] = {S_IFREG, S_IFDIR, S_IFLNK};
    const struct model_state *times = at == STORE_HEAD && store_ino_kind(in->ino) == STORE_DIR ? &in->now : s;

    if (a->ino != in->ino || a->mode != (s->mode | types[store_ino_kind(in->ino)]) || a->uid != s->uid || a->gid != s->gid ||
        a->size != (int64_t)s->content->len || a->create_rev != s->create_rev || a->mod_rev != s->rev || a->version != s->version)
        FAIL("inode %" PRIu64 " at %" PRId64 ": attributes differ", in->ino, at);
    if (a->mtime_ns != times->mtime || a->ctime_ns != times->ctime)
        FAIL("inode %" PRIu64 " at %" PRId64 ": times differ: %" PRId64 " %" PRId64, in->ino, at, a->mtime_ns, times->mtime);
    if (in->ino != STORE_ROOT_INO && a->parent != s->parent)
        FAIL("inode %" PRIu64 " at %" PRId64 ": parent differs", in->ino, at);
}

static void compare_xattrs(struct kit *k, int64_t at, const struct model_inode *in, const struct model_state *s)
{
    struct buf b = {0};
    size_t names = 0;

    if (store_listxattr(k->r, at, in->ino, &b))
        FAIL("listxattr");
    for (int i = 0; i < s->n_xattrs; i++) {
        struct buf v = {0};

        names += strlen(s->xattrs[i].name) + 1;
        if (store_getxattr(k->r, at, in->ino, s->xattrs[i].name, strlen(s->xattrs[i].name), &v) || v.len != s->xattrs[i].len ||
            (v.len && memcmp(v.data, s->xattrs[i].value, v.len)))
            FAIL("inode %" PRIu64 " at %" PRId64 ": xattr %s differs", in->ino, at, s->xattrs[i].name);
        buf_fini(&v);
    }
    if (b.len != names)
        FAIL("inode %" PRIu64 " at %" PRId64 ": list of xattrs differs", in->ino, at);
    buf_fini(&b);
}

static void compare_inode(struct kit *k, struct model *m, int64_t at, const struct model_inode *in)
{
    const struct model_state *s = model_state_at(in, at);
    struct store_attr a;
    struct buf content = {0};
    struct store_writer w;
    int err = store_getattr(k->r, at, in->ino, &a);

    n_old_reads++;
    if (err != (s ? 0 : QE_NOENT))
        FAIL("inode %" PRIu64 " at %" PRId64 ": error %d, should be %d", in->ino, at, err, s ? 0 : QE_NOENT);
    if (!s)
        return;
    compare_attr(at, in, s, &a);
    if (at == m->rev && !store_getattr(k->r, STORE_HEAD, in->ino, &a))
        compare_attr(STORE_HEAD, in, s, &a);
    compare_xattrs(k, at, in, s);
    if (store_ino_kind(in->ino) == STORE_DIR)
        return;
    if (store_content(k->r, at, in->ino, &content, NULL) || content.len != s->content->len ||
        (content.len && memcmp(content.data, s->content->data, content.len)))
        FAIL("inode %" PRIu64 " at %" PRId64 ": content differs", in->ino, at);
    buf_fini(&content);
    if (store_writer(k->r, at, in->ino, &w) || w.uid != s->w_uid || w.pid != s->w_pid)
        FAIL("inode %" PRIu64 " at %" PRId64 ": writer differs", in->ino, at);
}

struct listing {
    struct model *m;
    int64_t at;
    uint64_t dir;
    int n;
    char last[MODEL_NAME_SIZE];
};

static bool on_dirent(void *data, const void *name, size_t len, uint64_t ino)
{
    struct listing *l = data;
    char text[MODEL_NAME_SIZE];

    snprintf(text, sizeof text, "%.*s", (int)len, (const char *)name);
    if (l->n++ && strcmp(l->last, text) >= 0)
        FAIL("directory %" PRIu64 " at %" PRId64 ": names out of order", l->dir, l->at);
    strcpy(l->last, text);
    if (model_lookup(l->m, l->at, l->dir, text) != ino)
        FAIL("directory %" PRIu64 " at %" PRId64 ": name %s is not inode %" PRIu64, l->dir, l->at, text, ino);
    return true;
}

static int subdirs(const struct model_inode *dir, int64_t at, int *entries)
{
    int n = 0;

    for (int i = 0; i < dir->n_bindings; i++)
        if (dir->bindings[i]->from <= at && dir->bindings[i]->to > at) {
            ++*entries;
            n += store_ino_kind(dir->bindings[i]->ino) == STORE_DIR;
        }
    return n;
}

static void compare_dir(struct kit *k, struct model *m, int64_t at, const struct model_inode *dir)
{
    struct listing l = {.m = m, .at = at, .dir = dir->ino};
    struct store_attr a;
    int entries = 0, sub = subdirs(dir, at, &entries);

    if (!model_state_at(dir, at))
        return;
    if (store_list(k->r, at, dir->ino, NULL, 0, on_dirent, &l) || l.n != entries)
        FAIL("directory %" PRIu64 " at %" PRId64 ": %d names, should be %d", dir->ino, at, l.n, entries);
    if (store_getattr(k->r, at, dir->ino, &a) || a.nlink != 1)
        FAIL("directory %" PRIu64 " at %" PRId64 ": nlink is counted", dir->ino, at);
    if (at == m->rev && (store_getattr(k->r, STORE_HEAD, dir->ino, &a) || a.nlink != (uint32_t)(2 + sub)))
        FAIL("directory %" PRIu64 ": nlink differs", dir->ino);
}

/* Everything there ever was, as of one revision. */
static void compare_revision(struct kit *k, struct model *m, int64_t at, int one_in, struct generator *g)
{
    store_read_begin(k->r, NULL);
    for (int i = 0; i < m->n_made; i++) {
        const struct model_inode *in = model_find(m, m->made[i]);
        const struct model_state *end = in->old[in->n_old - 1].live ? NULL : &in->old[in->n_old - 1];

        /* What ended before, or begins after, must only not be there: a few of those will do. */
        if (((end && end->rev <= at) || in->old[0].rev > at) && generate_random(g, 200))
            continue;
        if (one_in > 1 && generate_random(g, (uint64_t)one_in))
            continue;
        compare_inode(k, m, at, in);
        if (store_ino_kind(in->ino) == STORE_DIR)
            compare_dir(k, m, at, in);
    }
    store_read_end(k->r);
}

/* ---- Events, counters ---------------------------------------------------------------------------------------------------- */

struct feed {
    struct model *m;
    int i; /* the next event of the model */
};

static bool on_event(void *data, const struct store_event *e)
{
    struct feed *f = data;
    const struct model_event *x = &f->m->events[f->i];

    if (f->i >= f->m->n_events)
        FAIL("an event too many");
    if (e->rev != x->rev || (int)e->op != x->op || e->ino != x->ino || e->parent != x->parent || e->name.len != strlen(x->name) ||
        memcmp(e->name.data ? e->name.data : "", x->name, e->name.len))
        FAIL("event of revision %" PRId64 " (op %d) should be of revision %" PRId64 " (op %d)", e->rev, (int)e->op, x->rev, x->op);
    if (x->op == STORE_EV_RENAME && (e->old_parent != x->old_parent || e->old_name.len != strlen(x->old_name) ||
                                     memcmp(e->old_name.data ? e->old_name.data : "", x->old_name, e->old_name.len)))
        FAIL("rename event of revision %" PRId64 ": old name differs", e->rev);
    if (e->cause.len != strlen(x->cause) || memcmp(e->cause.data ? e->cause.data : "", x->cause, e->cause.len))
        FAIL("event of revision %" PRId64 ": cause differs", e->rev);
    f->i++;
    return true;
}

static void compare_events(struct kit *k, struct model *m, int64_t after)
{
    struct feed f = {m, m->n_events};
    int err;

    while (f.i > 0 && m->events[f.i - 1].rev > after)
        f.i--;
    err = store_events(k->r, after, on_event, &f);
    if (after < m->compacted ? err != QE_STALE : err || f.i != m->n_events)
        FAIL("events after %" PRId64 ": error %d, %d missing", after, err, m->n_events - f.i);
}

static void compare_counters(struct kit *k, struct model *m)
{
    struct store_glance g = kit_glance(k);
    int64_t files = 0, dirs = 0, links = 0;

    for (int i = 0; i < m->n_made; i++) {
        const struct model_inode *in = model_find(m, m->made[i]);

        if (!in->now.live)
            continue;
        files += store_ino_kind(in->ino) == STORE_FILE;
        dirs += store_ino_kind(in->ino) == STORE_DIR;
        links += store_ino_kind(in->ino) == STORE_SYMLINK;
    }
    if (g.rev != m->rev || g.compacted != m->compacted || g.quota != m->quota || g.max_value != m->max_value || g.live_bytes != m->live_bytes)
        FAIL("glance: revision %" PRId64 "/%" PRId64 ", compacted %" PRId64 "/%" PRId64 ", bytes %" PRId64 "/%" PRId64, g.rev, m->rev, g.compacted,
             m->compacted, g.live_bytes, m->live_bytes);
    if (g.n_files != files || g.n_dirs != dirs || g.n_symlinks != links)
        FAIL("glance: numbers of entries differ");
    if (g.hist_bytes != m->hist_total - m->hist_base)
        FAIL("glance: %" PRId64 " bytes of history, should be %" PRId64, g.hist_bytes,
             m->hist_total - m->hist_base);
}

static bool bookmark_found(void *data, const struct store_bookmark *b)
{
    const struct model *m = data;
    const struct model_bookmark *want = &m->bookmarks[b->name[1] - '0'];

    if (!want->made || want->owner != b->owner || want->rev != b->rev)
        FAIL("bookmark %s is at revision %" PRId64 " of user %u", b->name, b->rev, b->owner);
    return true;
}

static void compare_bookmarks(const struct model *m, struct kit *k)
{
    struct store_bookmark b;
    char name[] = "b0";

    if (store_bookmarks(k->r, bookmark_found, (void *)m))
        FAIL("the bookmarks cannot be read");
    for (int i = 0; i < MODEL_BOOKMARKS; i++) {
        name[1] = (char)('0' + i);
        if (store_bookmark(k->r, name, &b) != (m->bookmarks[i].made ? 0 : QE_NOENT))
            FAIL("bookmark %s is there, or not", name);
    }
}

/* ---- Feeding ------------------------------------------------------------------------------------------------------------- */

struct fed { /* an entry as the log would keep it */
    struct buf data;
    uint64_t index;
};

struct run {
    struct model m;
    struct generator g;
    struct kit a, b;               /* b gets the same entries later, in other portions */
    struct fed log[LOG_MAX];       /* entries that b, or both, still lack */
    int n_log, a_done;
    uint64_t index;
    struct store_result *expected; /* of the commands that a still lacks */
    int n_expected, cap_expected, next_expected;
};

static void on_result(void *data, const struct store_result *r)
{
    struct run *run = data;
    const struct store_result *x = &run->expected[run->next_expected++];

    answers[-r->err & 31]++;
    if (run->next_expected > run->n_expected)
        FAIL("a result too many");
    if (r->session != x->session || r->seq != x->seq || r->err != x->err || r->rev != x->rev || r->ino != x->ino || r->kept != x->kept)
        FAIL("result of command %" PRIu64 " of session %" PRIu64 ": error %d, revision %" PRId64 ", inode %" PRIu64 ", kept %d; should be %d, %" PRId64
             ", %" PRIu64 ", %d", r->seq, r->session, r->err, r->rev, r->ino, r->kept, x->err, x->rev, x->ino, x->kept);
}

/* One entry of 1 to 40 commands; the model applies them at once. */
static int make_entry(struct run *run)
{
    int n = generate_random(&run->g, 4) ? 1 + (int)generate_random(&run->g, 4) : 1 + (int)generate_random(&run->g, 40), made = 0;
    struct store_bytes list[40];
    struct buf bufs[40] = {{0}};
    struct fed *fed = &run->log[run->n_log++];
    bool session = false;

    fed->index = ++run->index;
    if (generate_random(&run->g, 30) == 0)
        fed->index = ++run->index; /* entries without commands have indexes, too */
    while (made < n && !session) {
        const struct store_command *cmd = generate(&run->g, &run->m);
        struct store_result r = model_apply(&run->m, fed->index, cmd, run->g.part);

        generate_learn(&run->g, cmd, &r);
        if (run->n_expected == run->cap_expected) {
            run->cap_expected = run->cap_expected ? run->cap_expected * 2 : 256;
            run->expected = realloc(run->expected, (size_t)run->cap_expected * sizeof *run->expected);
            if (!run->expected)
                FAIL("out of memory");
        }
        run->expected[run->n_expected++] = r;
        if (store_command_encode(cmd, &bufs[made]))
            FAIL("encode");
        list[made] = (struct store_bytes){bufs[made].data, bufs[made].len};
        made++;
        session = cmd->ops[0].kind == STORE_OP_SESSION; /* one in an entry: ids are indexes */
    }
    fed->data = (struct buf){0};
    if (store_entry_build(kit_cluster_id, 1 + run->index / 1000, run->g.time_ns, list, (size_t)made, &fed->data))
        FAIL("entry");
    for (int i = 0; i < made; i++)
        buf_fini(&bufs[i]);
    return made;
}

static void feed(struct run *run, struct kit *k, int from, int n, const struct store_sink *sink)
{
    struct store_entry entries[64];
    bool more;

    for (int i = 0; i < n; i++)
        entries[i] = (struct store_entry){run->log[from + i].index, 1 + run->log[from + i].index / 1000, {run->log[from + i].data.data, run->log[from + i].data.len}};
    if (store_apply(k->s, entries, (size_t)n, sink))
        FAIL("apply: %s", store_errmsg(k->s));
    if (store_maintain(k->s, (int)generate_random(&run->g, 3), generate_random(&run->g, 40) == 0, &more))
        FAIL("maintain: %s", store_errmsg(k->s));
}

static void feed_a(struct run *run, bool all)
{
    struct store_sink sink = {run, on_result, NULL};

    while (run->a_done < run->n_log && (all || run->n_log - run->a_done > 8)) {
        int n = 1 + (int)generate_random(&run->g, 8);

        if (n > run->n_log - run->a_done)
            n = run->n_log - run->a_done;
        feed(run, &run->a, run->a_done, n, &sink);
        run->a_done += n;
    }
    if (run->next_expected == run->n_expected)
        run->n_expected = run->next_expected = 0;
}

static void feed_b(struct run *run)
{
    for (int done = 0, n; done < run->n_log; done += n) {
        n = 1 + (int)generate_random(&run->g, 64);
        if (n > run->n_log - done)
            n = run->n_log - done;
        feed(run, &run->b, done, n, NULL);
    }
    for (int i = 0; i < run->n_log; i++)
        buf_fini(&run->log[i].data);
    run->n_log = run->a_done = 0;
}

/* ---- Checkpoints --------------------------------------------------------------------------------------------------------- */

static void compare_hashes(struct run *run)
{
    uint64_t ha, hb;
    int64_t ra, rb;

    if (store_hash(run->a.r, &ra, &ha) || store_hash(run->b.r, &rb, &hb))
        FAIL("hash");
    if (ra != rb || ha != hb)
        FAIL("the stores differ: revisions %" PRId64 " and %" PRId64 ", hashes %016" PRIx64 " and %016" PRIx64, ra, rb, ha, hb);
}

struct member_cursor {
    const struct model *m;
    int at;
};

static void compare_member(void *data, const struct store_member *is)
{
    struct member_cursor *c = data;
    const struct model_member *x = &c->m->members[c->at++];

    if (c->at > c->m->n_members || is->id != x->id || (uint32_t)is->role != x->role || is->nonce != x->nonce || strcmp(is->address, x->address))
        FAIL("member %u \"%s\" of role %d; should be %u \"%s\" of role %u", is->id, is->address, (int)is->role, x->id, x->address, x->role);
}

static void compare_members(struct kit *k, const struct model *m)
{
    struct member_cursor c = {m, 0};
    int64_t next;

    if (store_members(k->r, &next, compare_member, &c))
        FAIL("members");
    if (c.at != m->n_members || next != m->next_member)
        FAIL("%d members, the next one %" PRId64 "; should be %d and %" PRId64, c.at, next, m->n_members, m->next_member);
}

static void compare_all(struct run *run, bool deep)
{
    struct model *m = &run->m;
    int64_t low = m->compacted > 1 ? m->compacted : 1, span = m->rev - low + 1;
    struct store_attr a;

    compare_counters(&run->a, m);
    compare_members(&run->a, m);
    compare_bookmarks(m, &run->a);
    compare_revision(&run->a, m, m->rev, 1, &run->g);
    compare_revision(&run->a, m, low, 1, &run->g);
    if (deep)
        for (int64_t at = low; at <= m->rev; at += 1 + span / 800)
            compare_revision(&run->a, m, at, 6, &run->g);
    for (int i = 0; i < 6; i++)
        compare_revision(&run->a, m, low + (int64_t)generate_random(&run->g, (uint64_t)span), 1, &run->g);
    compare_events(&run->a, m, low - 1);
    compare_events(&run->a, m, low + (int64_t)generate_random(&run->g, (uint64_t)span));
    if (m->compacted > 1 && store_getattr(run->a.r, m->compacted - 1, STORE_ROOT_INO, &a) != QE_STALE)
        FAIL("a compacted revision can be read");
    if (store_getattr(run->a.r, m->rev + 1, STORE_ROOT_INO, &a) != QE_RANGE)
        FAIL("a revision of the future can be read");
}

static void say(void *data, const char *line)
{
    (void)data;
    if (!strncmp(line, "damage", 6))
        fprintf(stderr, "%s\n", line);
}

static void check_offline(struct kit *k)
{
    kit_close(k);
    if (store_check(k->dir, say, NULL, NULL))
        FAIL("the check found damage");
    if (kit_open(k))
        FAIL("reopen");
}

int main(int argc, char **argv)
{
    static struct run run;
    int commands = argc > 1 ? atoi(argv[1]) : 100000, next_check = CHECK_EVERY, checks = 0;
    const char *env = getenv("MODEL_SEED");

    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : env ? strtoull(env, NULL, 10) : (uint64_t)time(NULL);
    printf("model: %d commands, seed %" PRIu64 "\n", commands, seed);
    fflush(stdout);
    kit_make_dir(&run.a);
    kit_make_dir(&run.b);
    if (kit_create(&run.a) || kit_create(&run.b) || kit_open(&run.a) || kit_open(&run.b))
        FAIL("create");
    model_init(&run.m, run.a.time_ns, 11, 12);
    generate_init(&run.g, seed, run.a.time_ns);
    for (int done = 0; done < commands;) {
        done += make_entry(&run);
        feed_a(&run, false);
        if (generate_random(&run.g, 400) == 0)
            kit_reopen(&run.a);
        if (run.n_log < LOG_MAX && done < next_check)
            continue;
        feed_a(&run, true);
        feed_b(&run);
        compare_hashes(&run);
        if (done < next_check)
            continue;
        next_check += CHECK_EVERY;
        compare_all(&run, ++checks % 10 == 0);
        check_offline(&run.a);
        check_offline(&run.b);
    }
    feed_a(&run, true);
    feed_b(&run);
    compare_hashes(&run);
    kit_compact_all(&run.a);
    compare_all(&run, true);
    printf("model: revision %" PRId64 ", compacted %" PRId64 ", %d inodes, %d events, %" PRId64 " states compared\n", run.m.rev, run.m.compacted,
           run.m.n_made, run.m.n_events, n_old_reads);
    for (int i = 0; i < 32; i++)
        if (answers[i])
            printf("model: %7" PRId64 " %s\n", answers[i], qfs_strerror(-i));
    check_offline(&run.a);
    check_offline(&run.b);
    kit_fini(&run.a);
    kit_fini(&run.b);
    return 0;
}
