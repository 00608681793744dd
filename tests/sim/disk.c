/* A member's disk: writes take their time, in order; a crash keeps some of what is under way, in order. It behaves as libraft's own
 * files do: an entry goes to the index that follows the last one submitted, whatever libraft thinks it is; a truncation that is
 * submitted while a marker is being written is lost. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

enum op_kind { APPEND, TRUNCATE, PUT };

struct disk_op {
    enum op_kind kind;
    struct disk_op *next;
    struct disk_entry *entries; /* APPEND */
    unsigned n;
    struct raft_io_append *append;
    raft_io_append_cb append_cb;
    int status;
    uint64_t index;             /* TRUNCATE */
    struct disk_snapshot snapshot; /* PUT */
    unsigned trailing;
    struct raft_io_snapshot_put *put;
    raft_io_snapshot_put_cb put_cb;
};

static void *copy(const void *data, size_t len)
{
    void *p = malloc(len ? len : 1);

    if (!p)
        abort();
    if (len)
        memcpy(p, data, len);
    return p;
}

static struct disk_op *op_new(enum op_kind kind)
{
    struct disk_op *op = calloc(1, sizeof *op);

    if (!op)
        abort();
    op->kind = kind;
    return op;
}

/* ---- What a write does to the platter ------------------------------------------------------------------------------------ */

static void do_append(struct disk *d, const struct disk_op *op, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (d->n == d->cap) {
            d->cap = d->cap ? d->cap * 2 : 64;
            d->log = realloc(d->log, d->cap * sizeof *d->log);
            if (!d->log)
                abort();
        }
        d->log[d->n++] = op->entries[i];
    }
}

static void do_truncate(struct disk *d, uint64_t index)
{
    while (d->n > 0 && d->log[d->n - 1].index >= index)
        d->n--;
}

/* What lies below a marker goes; an installed snapshot replaces everything. */
static void do_trim(struct disk *d, const struct disk_op *op)
{
    uint64_t keep_from = op->trailing == 0 ? UINT64_MAX : op->snapshot.index > op->trailing ? op->snapshot.index - op->trailing + 1 : 0;
    size_t gone = 0;

    while (gone < d->n && d->log[gone].index < keep_from)
        gone++;
    if (gone)
        memmove(d->log, d->log + gone, (d->n - gone) * sizeof *d->log);
    d->n -= gone;
}

static uint64_t latency(struct member *m)
{
    const struct knobs *k = &world.knobs;
    uint64_t us = world_between(k->disk_min, k->disk_max);

    if (world_chance(10))
        us += world_between(5 * MS, 40 * MS);
    return m->disk.slow ? us + world_between(20 * MS, 300 * MS) : us;
}

/* ---- Writing ------------------------------------------------------------------------------------------------------------- */

static void op_done(struct member *m, void *arg)
{
    struct disk *d = &m->disk;
    struct disk_op *op = arg;

    if (d->head != op)
        world_fail(m, "simulator: disk operations out of order");
    d->head = op->next;
    if (!d->head)
        d->tail = NULL;
    switch (op->kind) {
    case APPEND:
        if (op->status == 0)
            do_append(d, op, op->n);
        else
            d->failed = true;
        world_log(m, "disk: %u entries from %" PRIu64 " written, status %d", op->n, op->entries[0].index, op->status);
        op->append_cb(op->append, op->status);
        break;
    case TRUNCATE:
        do_truncate(d, op->index);
        break;
    case PUT:
        d->snapshot = op->snapshot;
        do_trim(d, op);
        op->put_cb(op->put, 0);
        break;
    }
}

/* What is submitted while a write is under way is written together, after it. */
static void enqueue(struct member *m, struct disk_op *op)
{
    struct disk *d = &m->disk;

    if (d->tail)
        d->tail->next = op;
    else
        d->head = op;
    d->tail = op;
    if (world.now >= d->start_at) {
        d->start_at = d->busy_until > world.now ? d->busy_until : world.now;
        d->busy_until = d->start_at + latency(m);
    }
    world_after(d->busy_until - world.now, m, op_done, op);
}

int disk_append(struct member *m, struct raft_io_append *req, const struct raft_entry *entries, unsigned n, raft_io_append_cb cb)
{
    struct disk *d = &m->disk;
    struct disk_op *op = op_new(APPEND);

    op->n = n;
    op->append = req;
    op->append_cb = cb;
    op->entries = calloc(n, sizeof *op->entries);
    if (!op->entries)
        abort();
    for (unsigned i = 0; i < n; i++)
        op->entries[i] = (struct disk_entry){d->next_index++, entries[i].term, entries[i].type, entries[i].buf.len,
                                             copy(entries[i].buf.base, entries[i].buf.len)};
    if (d->fail_append) {
        d->fail_append = false;
        op->status = world_chance(500) ? RAFT_IOERR : RAFT_NOSPACE;
    }
    enqueue(m, op);
    return 0;
}

int disk_truncate(struct member *m, uint64_t index)
{
    struct disk_op *op;

    m->disk.next_index = index;
    world_log(m, "disk: truncate at %" PRIu64, index);
    if (m->disk.put)
        return 0; /* lost */
    op = op_new(TRUNCATE);
    op->index = index;
    enqueue(m, op);
    return 0;
}

static void marker_done(struct member *m, void *arg)
{
    struct disk_op *op = arg;

    m->disk.put = NULL;
    m->disk.snapshot = op->snapshot;
    do_trim(&m->disk, op);
    world.count.markers++;
    world_log(m, "disk: marker at %" PRIu64 " written", op->snapshot.index);
    op->put_cb(op->put, 0);
}

int disk_put(struct member *m, unsigned trailing, struct raft_io_snapshot_put *req, const struct raft_snapshot *s,
             raft_io_snapshot_put_cb cb)
{
    struct disk_op *op = op_new(PUT);

    if (s->n_bufs != 1 || s->bufs[0].len > sizeof op->snapshot.data)
        world_fail(m, "simulator: a snapshot of an unexpected size");
    op->snapshot = (struct disk_snapshot){.index = s->index, .term = s->term, .conf_index = s->configuration_index, .len = s->bufs[0].len};
    disk_conf_from(&s->configuration, &op->snapshot.conf);
    memcpy(op->snapshot.data, s->bufs[0].base, s->bufs[0].len);
    op->trailing = trailing;
    op->put = req;
    op->put_cb = cb;
    if (trailing == 0) {
        m->disk.next_index = s->index + 1;
        enqueue(m, op);
        return 0;
    }
    m->disk.put = op;
    world_after(latency(m) + latency(m), m, marker_done, op);
    return 0;
}

/* ---- Crash --------------------------------------------------------------------------------------------------------------- */

static void crash_put(struct disk *d, const struct disk_op *op)
{
    uint64_t how = world_random(3);

    if (how >= 1)
        d->snapshot = op->snapshot;
    if (how == 2)
        do_trim(d, op);
}

void disk_crash(struct member *m)
{
    struct disk *d = &m->disk;
    bool all_lost = d->failed || world_chance(400); /* what follows a failed write cannot be read */

    for (struct disk_op *op = d->head; op && !all_lost; op = op->next) {
        bool whole = world_chance(500) && op->status == 0;

        if (op->kind == APPEND)
            do_append(d, op, whole ? op->n : op->status ? 0 : (unsigned)world_random(op->n + 1));
        else if (op->kind == TRUNCATE && whole)
            do_truncate(d, op->index);
        else if (op->kind == PUT && whole)
            crash_put(d, op);
        if (!whole)
            break;
    }
    if (d->put && world_chance(500))
        crash_put(d, d->put);
    d->head = d->tail = d->put = NULL;
    d->start_at = d->busy_until = 0;
    d->failed = d->fail_append = d->fail_meta = false;
}

/* ---- Reading ------------------------------------------------------------------------------------------------------------- */

int disk_conf_copy(const struct disk_conf *from, struct raft_configuration *to)
{
    char address[24];
    int rv = 0;

    raft_configuration_init(to);
    for (unsigned i = 0; i < from->n && rv == 0; i++) {
        snprintf(address, sizeof address, "%" PRIu64, from->servers[i].id);
        rv = raft_configuration_add(to, from->servers[i].id, address, from->servers[i].role);
    }
    return rv;
}

void disk_conf_from(const struct raft_configuration *from, struct disk_conf *to)
{
    to->n = from->n;
    for (unsigned i = 0; i < from->n; i++) {
        to->servers[i].id = from->servers[i].id;
        to->servers[i].role = from->servers[i].role;
    }
}

static struct raft_snapshot *snapshot_copy(const struct disk_snapshot *s)
{
    struct raft_snapshot *out = raft_calloc(1, sizeof *out);

    out->index = s->index;
    out->term = s->term;
    out->configuration_index = s->conf_index;
    disk_conf_copy(&s->conf, &out->configuration);
    out->bufs = raft_malloc(sizeof *out->bufs);
    out->n_bufs = 1;
    out->bufs[0].len = s->len;
    out->bufs[0].base = raft_malloc(s->len);
    memcpy(out->bufs[0].base, s->data, s->len);
    return out;
}

/* As libraft's files: entries that were read together share a buffer. */
static struct raft_entry *entries_copy(const struct disk *d)
{
    struct raft_entry *out = d->n ? raft_calloc(d->n, sizeof *out) : NULL;

    for (size_t i = 0, end; i < d->n; i = end) {
        size_t len = 0;
        char *batch;

        end = i + 8 < d->n ? i + 8 : d->n;
        for (size_t j = i; j < end; j++)
            len += d->log[j].len;
        batch = raft_malloc(len ? len : 8);
        for (size_t j = i, at = 0; j < end; at += d->log[j].len, j++) {
            out[j] = (struct raft_entry){d->log[j].term, d->log[j].type, {batch + at, d->log[j].len}, batch};
            memcpy(batch + at, d->log[j].data, d->log[j].len);
        }
    }
    return out;
}

int disk_load(struct member *m, raft_term *term, raft_id *vote, struct raft_snapshot **snapshot, raft_index *start,
              struct raft_entry **entries, size_t *n)
{
    struct disk *d = &m->disk;

    for (size_t i = 1; i < d->n; i++)
        if (d->log[i].index != d->log[i - 1].index + 1)
            world_fail(m, "the log on disk is damaged: entry %" PRIu64 " follows %" PRIu64, d->log[i].index, d->log[i - 1].index);
    if (d->n > 0 && d->log[0].index > d->snapshot.index + 1)
        world_fail(m, "the log on disk is damaged: it begins at %" PRIu64 ", the snapshot ends at %" PRIu64, d->log[0].index, d->snapshot.index);
    if (d->n > 0 && d->log[d->n - 1].index < d->snapshot.index)
        d->n = 0;
    *term = d->term;
    *vote = d->vote;
    *snapshot = d->snapshot.index ? snapshot_copy(&d->snapshot) : NULL;
    *start = d->n > 0 ? d->log[0].index : d->snapshot.index + 1;
    *entries = entries_copy(d);
    *n = d->n;
    d->next_index = *start + d->n;
    return 0;
}

struct get { struct raft_io_snapshot_get *req; raft_io_snapshot_get_cb cb; };

static void get_done(struct member *m, void *arg)
{
    struct get *g = arg;

    g->cb(g->req, snapshot_copy(&m->disk.snapshot), 0);
}

int disk_get(struct member *m, struct raft_io_snapshot_get *req, raft_io_snapshot_get_cb cb)
{
    struct get *g = malloc(sizeof *g);

    if (!g)
        abort();
    *g = (struct get){req, cb};
    world_after(latency(m), m, get_done, g);
    return 0;
}

void disk_bootstrap(struct disk *d, const struct disk_conf *conf)
{
    struct raft_configuration c;
    struct raft_buffer buf;
    struct disk_entry e = {.index = 1, .term = 1, .type = RAFT_CHANGE};
    struct disk_op op = {.entries = &e, .n = 1};

    disk_conf_copy(conf, &c);
    raft_configuration_encode(&c, &buf);
    e.len = buf.len;
    e.data = buf.base;
    d->term = 1;
    do_append(d, &op, 1);
    raft_configuration_close(&c);
}
