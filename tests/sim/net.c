/* The network: between any two members a connection in each direction, which keeps order. A message is written some time after it was
 * sent, from the memory that libraft lends until then; it arrives later, or is lost with its connection. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

struct link {
    bool cut;            /* nothing passes */
    unsigned epoch;      /* number of the connection */
    uint64_t up_at;      /* it is made again then */
    uint64_t written;    /* when the newest message is written */
    uint64_t last;       /* when it arrives */
    uint64_t stalled;    /* nothing is written before */
};
static struct link links[MEMBERS_MAX][MEMBERS_MAX];

struct outgoing { /* between send and write */
    struct raft_message m;
    struct raft_io_send *req;
    raft_io_send_cb cb;
    unsigned to;
};

struct packet { /* on the wire */
    struct raft_message m; /* without what pointers point to */
    unsigned from, epoch;
    struct disk_entry *entries;
    struct disk_conf conf;
    uint8_t data[64];
};

static void unpack_entries(const struct packet *p, struct raft_append_entries *ae)
{
    size_t len = 0, at = 0;
    char *batch;

    ae->entries = NULL;
    if (ae->n_entries == 0)
        return;
    for (unsigned i = 0; i < ae->n_entries; i++)
        len += p->entries[i].len;
    batch = raft_malloc(len ? len : 8);
    ae->entries = raft_calloc(ae->n_entries, sizeof *ae->entries);
    for (unsigned i = 0; i < ae->n_entries; at += p->entries[i].len, i++) {
        const struct disk_entry *e = &p->entries[i];

        ae->entries[i] = (struct raft_entry){e->term, e->type, {batch + at, e->len}, batch};
        memcpy(batch + at, e->data, e->len);
    }
}

static void deliver(struct member *to, void *arg)
{
    struct packet *p = arg;
    struct link *l = &links[p->from][to->i];
    struct raft_message m = p->m;

    if (l->cut || l->epoch != p->epoch)
        return;
    m.server_id = members[p->from].id;
    m.server_address = members[p->from].address;
    if (m.type == RAFT_IO_APPEND_ENTRIES) {
        unpack_entries(p, &m.append_entries);
        world_log(to, "<- m%llu entries term %llu prev %llu/%llu n %u commit %llu", m.server_id, m.append_entries.term,
                  m.append_entries.prev_log_index, m.append_entries.prev_log_term, m.append_entries.n_entries, m.append_entries.leader_commit);
    } else if (m.type == RAFT_IO_INSTALL_SNAPSHOT) {
        disk_conf_copy(&p->conf, &m.install_snapshot.conf);
        m.install_snapshot.data.base = raft_malloc(m.install_snapshot.data.len);
        memcpy(m.install_snapshot.data.base, p->data, m.install_snapshot.data.len);
        world_log(to, "<- m%llu snapshot %llu/%llu term %llu", m.server_id, m.install_snapshot.last_index, m.install_snapshot.last_term,
                  m.install_snapshot.term);
    } else if (m.type == RAFT_IO_APPEND_ENTRIES_RESULT) {
        world_log(to, "<- m%llu result term %llu rejected %llu last %llu", m.server_id, m.append_entries_result.term,
                  m.append_entries_result.rejected, m.append_entries_result.last_log_index);
    } else {
        world_log(to, "<- m%llu message type %d", m.server_id, m.type);
    }
    to->recv(to->io, &m);
}

static struct packet *pack(const struct member *from, const struct raft_message *m)
{
    struct packet *p = calloc(1, sizeof *p);

    if (!p)
        abort();
    p->m = *m;
    p->from = from->i;
    if (m->type == RAFT_IO_APPEND_ENTRIES && m->append_entries.n_entries > 0) {
        p->entries = calloc(m->append_entries.n_entries, sizeof *p->entries);
        if (!p->entries)
            abort();
        for (unsigned i = 0; i < m->append_entries.n_entries; i++) {
            const struct raft_entry *e = &m->append_entries.entries[i];

            p->entries[i] = (struct disk_entry){0, e->term, e->type, e->buf.len, malloc(e->buf.len ? e->buf.len : 1)};
            if (e->buf.len)
                memcpy(p->entries[i].data, e->buf.base, e->buf.len);
        }
    } else if (m->type == RAFT_IO_INSTALL_SNAPSHOT) {
        disk_conf_from(&m->install_snapshot.conf, &p->conf);
        if (m->install_snapshot.data.len > sizeof p->data)
            world_fail(from, "simulator: a snapshot of an unexpected size");
        memcpy(p->data, m->install_snapshot.data.base, m->install_snapshot.data.len);
    }
    return p;
}

/* Of what is written now: after what was written before. */
static uint64_t arrival(struct link *l)
{
    const struct knobs *k = &world.knobs;
    uint64_t at = world.now + world_between(k->net_min, k->net_max);

    if (l->up_at > world.now)
        at += l->up_at - world.now;
    if (world_chance(k->spike_permille))
        at += world_between(5 * MS, 80 * MS);
    if (at <= l->last)
        at = l->last + 1;
    l->last = at;
    return at;
}

static void post(struct link *l, struct member *to, struct packet *p)
{
    p->epoch = l->epoch;
    world_after(arrival(l) - world.now, to, deliver, p);
}

static void write_out(struct member *m, void *arg)
{
    struct outgoing *o = arg;
    struct link *l = &links[m->i][o->to];
    bool unsent;

    if (l->stalled <= world.now && (l->cut || l->up_at > world.now) && world_chance(200))
        l->stalled = world.now + world_between(1 * MS, 50 * MS); /* waits for the connection */
    if (l->stalled > world.now) {
        world_after(l->stalled - world.now, m, write_out, o);
        return;
    }
    unsent = l->cut ? world_chance(700) : l->up_at > world.now && world_chance(300);

    if (!unsent && members[o->to].alive)
        post(l, &members[o->to], pack(m, &o->m));
    if (o->cb)
        o->cb(o->req, unsent || !members[o->to].alive ? RAFT_NOCONNECTION : 0);
    free(o);
}

int net_send(struct member *m, struct raft_io_send *req, const struct raft_message *message, raft_io_send_cb cb)
{
    struct outgoing *o = malloc(sizeof *o);
    uint64_t at = world.now + world_between(5, 60), *written;

    if (!o)
        abort();
    if (message->server_id == 0 || message->server_id > MEMBERS_MAX)
        world_fail(m, "a message to member %llu", message->server_id);
    if (message->type == RAFT_IO_APPEND_ENTRIES && message->append_entries.n_entries > m->guard->message_entries)
        world_fail(m, "a message of %u entries", message->append_entries.n_entries);
    *o = (struct outgoing){*message, req, cb, (unsigned)message->server_id - 1};
    written = &links[m->i][o->to].written;
    *written = at > *written ? at : *written + 1;
    world_after(*written - world.now, m, write_out, o);
    return 0;
}

struct note {
    unsigned from, epoch;
    void (*fn)(struct member *m, void *arg);
    void *arg;
};

static void note_arrives(struct member *to, void *arg)
{
    struct note *n = arg;
    struct link *l = &links[n->from][to->i];

    if (!l->cut && l->epoch == n->epoch)
        n->fn(to, n->arg);
}

bool net_post(struct member *m, unsigned to, void (*fn)(struct member *m, void *arg), void *arg)
{
    struct link *l = &links[m->i][to];
    struct note *n = malloc(sizeof *n);

    if (!n)
        abort();
    if (!members[to].alive || (l->cut && world_chance(300)))
        return false;
    *n = (struct note){m->i, l->epoch, fn, arg};
    world_after(arrival(l) - world.now, &members[to], note_arrives, n);
    return true;
}

/* What a connection tells that broke, and it may be wrong: the other one's process has ended. */
static void gone(struct member *m, void *arg)
{
    guard_member_gone(m->guard, (uint64_t)(uintptr_t)arg + 1);
}

void net_break(unsigned from, unsigned to)
{
    struct link *l = &links[from][to];

    if (world.opt.seed % 4 == 3 && members[from].alive)
        world_after(25 * MS, &members[from], gone, (void *)(uintptr_t)to);
    l->epoch++;
    l->up_at = world.now + world_between(1 * MS, 60 * MS);
    l->last = 0;
}

void net_cut(unsigned from, unsigned to, bool cut)
{
    links[from][to].cut = cut;
    if (!cut)
        net_break(from, to); /* what was written meanwhile is lost, and so is its connection */
}

void net_heal(void)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        for (unsigned j = 0; j < MEMBERS_MAX; j++)
            if (links[i][j].cut)
                net_cut(i, j, false);
}
