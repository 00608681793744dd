#include "tests/model/pair.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/base/err.h"

uint64_t pair_random(struct pair *p, uint64_t below)
{
    p->rng += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = p->rng;

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) % below;
}

void pair_init(struct pair *p, uint64_t seed)
{
    *p = (struct pair){.rng = seed, .seed = seed};
    kit_make_dir(&p->a);
    kit_make_dir(&p->b);
    p->time_ns = p->a.time_ns;
    if (kit_create(&p->a) || kit_create(&p->b) || kit_open(&p->a) || kit_open(&p->b))
        PAIR_FAIL(p, "create");
}

static void flush(struct pair *p)
{
    struct store_entry entries[PAIR_LOG];
    uint64_t ha, hb;
    int64_t ra, rb;

    for (int i = 0; i < p->n_log; i++)
        entries[i] = (struct store_entry){p->logged[i], 1, {p->log[i].data, p->log[i].len}};
    if (p->n_log && store_apply(p->b.s, entries, (size_t)p->n_log, NULL))
        PAIR_FAIL(p, "apply: %s", store_errmsg(p->b.s));
    for (int i = 0; i < p->n_log; i++)
        buf_fini(&p->log[i]);
    p->n_log = 0;
    store_state(p->a.s, &ra, &ha);
    store_state(p->b.s, &rb, &hb);
    if (ra != rb || ha != hb)
        PAIR_FAIL(p, "the stores differ");
}

void pair_fini(struct pair *p)
{
    flush(p);
    kit_check(&p->a);
    kit_check(&p->b);
    kit_fini(&p->a);
    kit_fini(&p->b);
}

uint64_t pair_term(const struct pair *p)
{
    return 1 + (p->index + 1) / PAIR_TERM_ENTRIES;
}

static void on_result(void *data, const struct store_result *r)
{
    struct pair *p = data;

    p->res = *r;
}

static void on_locks(void *data, const struct store_lock_event *e, size_t n)
{
    struct pair *p = data;

    for (size_t i = 0; i < n; i++) {
        p->n_granted += e[i].kind == STORE_LOCK_GRANTED;
        p->n_lost += e[i].kind == STORE_LOCK_LOST;
    }
}

/* The entry, and one behind it that is damaged: nothing of both may stay. */
static void fail_first(struct pair *p, const struct store_entry *e)
{
    struct store_entry both[2] = {*e, {e->index + 1, 1, {"damaged!", 8}}};
    struct store_sink sink = {.data = p, .result = on_result};

    p->res.seq = UINT64_MAX;
    if (store_apply(p->a.s, both, 2, &sink) != QE_CORRUPT || p->res.seq != UINT64_MAX)
        PAIR_FAIL(p, "a damaged entry was applied");
}

int pair_apply(struct pair *p, const struct store_command *cmd)
{
    struct store_sink sink = {.data = p, .result = on_result, .locks = on_locks};
    struct store_bytes bytes;
    struct store_entry e;
    struct buf b = {0}, *entry = &p->log[p->n_log];

    *entry = (struct buf){0};
    if (store_command_encode(cmd, &b))
        PAIR_FAIL(p, "encode");
    bytes = (struct store_bytes){b.data, b.len};
    if (store_entry_build(kit_cluster_id, pair_term(p), p->time_ns += 1000000, &bytes, 1, entry))
        PAIR_FAIL(p, "entry");
    buf_fini(&b);
    p->logged[p->n_log++] = ++p->index;
    e = (struct store_entry){p->index, 1, {entry->data, entry->len}};
    if (pair_random(p, 50) == 0)
        fail_first(p, &e);
    p->n_granted = p->n_lost = 0;
    if (store_apply(p->a.s, &e, 1, &sink))
        PAIR_FAIL(p, "apply: %s", store_errmsg(p->a.s));
    if (p->n_log == PAIR_LOG || pair_random(p, 40) == 0)
        flush(p);
    if (pair_random(p, 500) == 0)
        kit_reopen(&p->a);
    if (pair_random(p, 3000) == 0)
        kit_check(&p->a);
    return p->res.err;
}
