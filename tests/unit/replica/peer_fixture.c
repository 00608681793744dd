#include "tests/unit/replica/peer_fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"

static const int64_t PATIENCE_NS = INT64_C(20000000000);

uv_loop_t loop;
struct node nodes[NODES_MAX + 1];
bool removed[NODES_MAX + 1];
uint8_t cluster[STORE_CLUSTER_ID_SIZE] = "a cluster";
char log_path[64];
static uv_timer_t alarm_timer;
static int64_t begun_ns;

/* ---- Hooks --------------------------------------------------------------------------------------------------------------- */

static enum peer_standing hook_address(void *data, uint32_t id, char *out, size_t size)
{
    (void)data;
    if (id > NODES_MAX || nodes[id].id == 0)
        return PEER_UNKNOWN;
    snprintf(out, size, "%s", nodes[id].address);
    return removed[id] ? PEER_REMOVED : PEER_MEMBER;
}

static size_t hook_members(void *data, uint32_t *ids, size_t max)
{
    size_t n = 0;

    for (uint32_t id = 1; id <= NODES_MAX && n < max; id++)
        if (nodes[id].id && !removed[id] && &nodes[id] != data)
            ids[n++] = id;
    return n;
}

static void hook_raft(void *data, struct raft_message *m)
{
    struct node *n = data;
    struct heard *h = &n->heard[n->n_heard++ % HEARD_MAX];

    *h = (struct heard){.from = (uint32_t)m->server_id, .raft = *m};
    n->n_raft++;
}

static void hook_message(void *data, uint32_t from, const Qfs__PeerMessage *m, const uint8_t *payload, size_t len)
{
    struct node *n = data;
    struct heard *h = &n->heard[n->n_heard++ % HEARD_MAX];

    (void)m;
    *h = (struct heard){.from = from, .payload = malloc(len + 1), .len = len};
    if (len)
        memcpy(h->payload, payload, len);
}

static void hook_guest(void *data, struct peer_guest *g, const Qfs__PeerMessage *m, const uint8_t *payload, size_t len)
{
    struct node *n = data;

    n->n_guest++;
    assert_int_equal(peer_guest_send(g, m, payload, len), 0);
    peer_guest_close(g);
}

static void hook_guest_gone(void *data, struct peer_guest *g)
{
    struct node *n = data;

    (void)g;
    n->n_guest_gone++;
}

static void hook_up(void *data, uint32_t id)
{
    ((struct node *)data)->up[id]++;
}

static void hook_down(void *data, uint32_t id)
{
    ((struct node *)data)->down[id]++;
}

static void hook_gone(void *data, uint32_t id)
{
    ((struct node *)data)->gone[id]++;
}

static void hook_refused(void *data, uint32_t id, enum peer_refusal why, const char *text)
{
    struct node *n = data;

    (void)id;
    assert_true(strlen(text) > 5);
    n->refused = why;
    n->n_refused++;
}

static void hook_seen(void *data, uint32_t id, uint64_t *incarnation, uint64_t *run)
{
    struct node *n = data;

    if (id <= NODES_MAX) {
        *incarnation = n->seen[id];
        *run = n->seen_run[id];
    }
}

static int hook_saw(void *data, uint32_t id, uint64_t incarnation, uint64_t run)
{
    struct node *n = data;

    if (id <= NODES_MAX) {
        n->seen[id] = incarnation;
        n->seen_run[id] = run;
    }
    return 0;
}

/* ---- Nodes --------------------------------------------------------------------------------------------------------------- */

void node_open(uint32_t id)
{
    struct node *n = &nodes[id];
    const struct peer_hooks hooks = {n, hook_address, hook_members, hook_raft, hook_message, n->guests ? hook_guest : NULL, hook_guest_gone,
                                     hook_up, hook_down, hook_gone, hook_refused, hook_seen, hook_saw};
    struct peer_config config = {.member_id = id, .listen = n->address[0] ? n->address : "127.0.0.1:0"};
    struct buf why = {0};

    n->id = id;
    config.incarnation = ++n->incarnation;
    config.run = n->run = n->incarnation * 1000 + id;
    memcpy(config.cluster_id, cluster, sizeof cluster);
    if (peer_open(&loop, &config, &hooks, &n->peers, &why))
        fail_msg("%s", buf_cstr(&why));
    snprintf(n->address, sizeof n->address, "127.0.0.1:%u", peer_port(n->peers));
    buf_fini(&why);
}

static void closed_cb(void *data)
{
    *(bool *)data = true;
}

void node_close(uint32_t id)
{
    bool closed = false;

    peer_close(nodes[id].peers, closed_cb, &closed);
    nodes[id].peers = NULL;
    run_until(closed);
}

void nodes_open(unsigned n)
{
    for (uint32_t id = 1; id <= n; id++)
        node_open(id);
    for (uint32_t id = 1; id <= n; id++) /* those that came first do not know of the later ones */
        peer_members_changed(nodes[id].peers);
    for (uint32_t a = 1; a <= n; a++)
        for (uint32_t b = 1; b <= n; b++)
            run_until(a == b || nodes[a].up[b] > 0);
}

/* ---- Loop ---------------------------------------------------------------------------------------------------------------- */

static void alarm_cb(uv_timer_t *timer)
{
    (void)timer; /* only so that the loop comes back */
}

void run_begin(void)
{
    begun_ns = clock_boottime_ns();
}

void run_once(const char *file, int line, const char *what)
{
    if (clock_boottime_ns() - begun_ns > PATIENCE_NS) {
        print_error("%s:%d: this did not come true: %s\n", file, line, what);
        fail();
    }
    uv_timer_start(&alarm_timer, alarm_cb, 100, 0);
    uv_run(&loop, UV_RUN_ONCE);
}

int peers_setup(void **state)
{
    int fd;

    (void)state;
    memset(nodes, 0, sizeof nodes);
    memset(removed, 0, sizeof removed);
    strcpy(log_path, "/tmp/peer-log.XXXXXX");
    fd = mkstemp(log_path);
    close(fd);
    return fd < 0 || log_open(LOG_SINK_FILE, log_path) || uv_loop_init(&loop) || uv_timer_init(&loop, &alarm_timer) ? -1 : 0;
}

static void free_heard(struct node *n)
{
    for (unsigned i = 0; i < n->n_heard && i < HEARD_MAX; i++) {
        struct raft_message *m = &n->heard[i].raft;

        free(n->heard[i].payload);
        if (m->type == RAFT_IO_APPEND_ENTRIES && m->append_entries.n_entries > 0) {
            raft_free(m->append_entries.entries[0].batch);
            raft_free(m->append_entries.entries);
        } else if (m->type == RAFT_IO_INSTALL_SNAPSHOT) {
            raft_configuration_close(&m->install_snapshot.conf);
            raft_free(m->install_snapshot.data.base);
        }
    }
}

int peers_teardown(void **state)
{
    (void)state;
    for (uint32_t id = 1; id <= NODES_MAX; id++) {
        if (nodes[id].peers)
            node_close(id);
        free_heard(&nodes[id]);
    }
    uv_close((uv_handle_t *)&alarm_timer, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    log_close();
    unlink(log_path);
    return uv_loop_close(&loop);
}

unsigned log_lines(const char *word)
{
    FILE *f = fopen(log_path, "r");
    char line[1024];
    unsigned n = 0;

    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        n += strstr(line, word) != NULL;
    fclose(f);
    return n;
}
