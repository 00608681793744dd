/* Glances into libraft's log and configuration: part of the guard, and changes nothing in libraft. */
#include <string.h>

#include "replica/guard_peer.h"

enum { CONFIGURATION_FORMAT = 1, CONFIGURATION_HEAD = 1 + 8 }; /* libraft's encoding: format, count, then id, address, role of each */

const struct raft_entry *guard_entry_at(const struct guard *g, uint64_t index)
{
    const struct raft_log *log = &g->raft->log;
    size_t n = log->front <= log->back ? log->back - log->front : log->size - log->front + log->back;

    if (index <= log->offset || index > log->offset + n)
        return NULL;
    return &log->entries[(log->front + (size_t)(index - 1 - log->offset)) % log->size];
}

uint64_t guard_term_of(const struct guard *g, uint64_t index)
{
    const struct raft_entry *e = guard_entry_at(g, index);

    if (e)
        return e->term;
    return index == g->raft->log.snapshot.last_index ? g->raft->log.snapshot.last_term : 0;
}

bool guard_sole_voter(const struct guard *g)
{
    unsigned voters;

    guard_servers(g, &voters);
    return voters == 1 && guard_votes(g);
}

bool guard_install_busy(const struct guard *g)
{
    return g->raft->last_stored == 0 && g->raft->snapshot.put.data != NULL;
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t v = 0;

    for (int i = 0; i < 8; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static int decode(const struct raft_buffer *buf, struct raft_configuration *out)
{
    const uint8_t *p = buf->base, *end = p + buf->len;
    int rv = 0;

    raft_configuration_init(out);
    if (buf->len < CONFIGURATION_HEAD || p[0] != CONFIGURATION_FORMAT)
        return RAFT_MALFORMED;
    p += 1;
    uint64_t n = get64(p);
    p += 8;
    for (uint64_t i = 0; i < n && rv == 0; i++) {
        const uint8_t *address = p + 8, *nul = end - p > 8 ? memchr(address, '\0', (size_t)(end - address)) : NULL;

        if (!nul || nul + 1 == end)
            rv = RAFT_MALFORMED;
        else
            rv = raft_configuration_add(out, get64(p), (const char *)address, nul[1]);
        p = nul ? nul + 2 : end;
    }
    if (rv)
        raft_configuration_close(out);
    return rv;
}

static int copy(const struct raft_configuration *conf, struct raft_configuration *out)
{
    int rv = 0;

    raft_configuration_init(out);
    for (unsigned i = 0; i < conf->n && rv == 0; i++)
        rv = raft_configuration_add(out, conf->servers[i].id, conf->servers[i].address, conf->servers[i].role);
    if (rv)
        raft_configuration_close(out);
    return rv;
}

int guard_configuration_at(const struct guard *g, uint64_t index, struct raft_configuration *out, uint64_t *out_index)
{
    uint64_t last = raft_last_index(g->raft);
    const struct raft_entry *e;

    for (uint64_t i = index < last ? index : last; (e = guard_entry_at(g, i)) != NULL; i--) {
        if (e->type != RAFT_CHANGE)
            continue;
        *out_index = i;
        return decode(&e->buf, out);
    }
    *out_index = g->base_index;
    return copy(&g->base, out);
}

int guard_base_set(struct guard *g, const struct raft_configuration *conf, uint64_t index)
{
    struct raft_configuration new;
    int rv = copy(conf, &new);

    if (rv)
        return rv;
    raft_configuration_close(&g->base);
    g->base = new;
    g->base_index = index;
    return 0;
}

/* ---- For everybody ------------------------------------------------------------------------------------------------------- */

uint64_t guard_commit(const struct guard *g)
{
    return g->raft->commit_index;
}

uint64_t guard_snapshot_index(const struct guard *g)
{
    return g->raft->log.snapshot.last_index;
}

uint64_t guard_term(const struct guard *g)
{
    return g->raft->current_term;
}

unsigned guard_servers(const struct guard *g, unsigned *voters)
{
    *voters = 0;
    for (unsigned i = 0; i < g->raft->configuration.n; i++)
        *voters += g->raft->configuration.servers[i].role == RAFT_VOTER;
    return g->raft->configuration.n;
}

static uint64_t silent_ms(const struct guard *g, raft_id id)
{
    if (id == g->raft->id)
        return 0;
    for (unsigned i = 0; g->told_term == g->raft->current_term && i < g->n_told; i++)
        if (g->told[i].id == id && g->told[i].heard)
            return g->raft->io->time(g->raft->io) - g->told[i].heard_at;
    return UINT64_MAX;
}

unsigned guard_configuration(const struct guard *g, struct guard_server out[GUARD_MEMBERS_MAX])
{
    const struct raft *r = g->raft;
    unsigned n = 0;

    for (unsigned i = 0; i < r->configuration.n && n < GUARD_MEMBERS_MAX; i++) {
        const struct raft_server *s = &r->configuration.servers[i];
        struct guard_server *to = &out[n++];

        *to = (struct guard_server){.id = (uint32_t)s->id, .role = s->role, .silent_ms = UINT64_MAX};
        if (r->state != RAFT_LEADER)
            continue;
        to->match = s->id == r->id ? r->last_stored : r->leader_state.progress[i].match_index;
        to->silent_ms = silent_ms(g, s->id);
    }
    return n;
}

uint64_t guard_configuration_index(const struct guard *g)
{
    return g->raft->configuration_uncommitted_index ? g->raft->configuration_uncommitted_index : g->raft->configuration_index;
}

bool guard_votes(const struct guard *g)
{
    for (unsigned i = 0; i < g->raft->configuration.n; i++)
        if (g->raft->configuration.servers[i].id == g->raft->id)
            return g->raft->configuration.servers[i].role == RAFT_VOTER;
    return false;
}

bool guard_changing(const struct guard *g)
{
    const struct raft *r = g->raft;

    return r->configuration_uncommitted_index != 0 ||
           (r->state == RAFT_LEADER && (r->leader_state.change != NULL || r->leader_state.promotee_id != 0));
}

unsigned guard_voters(const struct guard *g, raft_id *out, unsigned max)
{
    unsigned n = 0;

    for (unsigned i = 0; i < g->raft->configuration.n && n < max; i++)
        if (g->raft->configuration.servers[i].role == RAFT_VOTER)
            out[n++] = g->raft->configuration.servers[i].id;
    return n;
}

bool guard_transferring(const struct guard *g)
{
    return g->raft->transfer != NULL;
}

uint64_t guard_stored(const struct guard *g)
{
    return g->raft->last_stored;
}

bool guard_may_snapshot(const struct guard *g)
{
    return !g->truncating && !g->holding;
}

bool guard_settled(const struct guard *g)
{
    return g->raft->state == RAFT_LEADER && guard_term_of(g, g->raft->commit_index) == g->raft->current_term;
}
