#include "replica/admit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/member.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/log.h"

static void answer(struct peer_guest *g, int err, uint32_t id, const char *text)
{
    Qfs__JoinAnswer join = QFS__JOIN_ANSWER__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;

    join.err = err;
    join.id = id;
    join.text = (char *)(uintptr_t)text;
    m.kind_case = QFS__PEER_MESSAGE__KIND_JOIN_ANSWER;
    m.join_answer = &join;
    (void)peer_guest_send(g, &m, NULL, 0); /* lost: it asks again */
}

/* Any thread. */
static void added_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct admission *a = req->data;

    (void)rev;
    a->err = err;
    a->id = (uint32_t)ino;
    atomic_store(&a->done, true);
    loop_wake(a->r);
}

/* Why the guest cannot be let in, or "". */
static void find_obstacle(struct replica *r, const Qfs__JoinRequest *m, char *text, size_t size)
{
    struct member_row *rows;
    int64_t next;
    size_t n;

    *text = '\0';
    if (!store_address_ok(m->address) || !*member_address(m->address, NULL)) {
        snprintf(text, size, "\"%.100s\" is no address that the members can reach", m->address);
        return;
    }
    if (member_table_copy(&r->members, &rows, &n, &next)) {
        snprintf(text, size, "out of memory");
        return;
    }
    for (size_t i = 0; i < n && !*text; i++) {
        struct standing_member s = {.heard_ns = 0};
        bool there = standing_get(r, rows[i].id, &s) && clock_boottime_ns() - s.heard_ns < STANDING_SILENT_MS * INT64_C(1000000);

        if (!*rows[i].address)
            snprintf(text, size, "member %" PRIu32 " has no address that others can reach: start it with the setting listen first", rows[i].id);
        else if (!strcmp(rows[i].address, m->address) && there && rows[i].nonce != m->nonce)
            snprintf(text, size, "member %" PRIu32 " is at the address %s", rows[i].id, rows[i].address);
    }
    free(rows);
}

static void begin(struct replica *r, struct peer_guest *g, const Qfs__JoinRequest *m)
{
    struct store_op op = {.kind = STORE_OP_MEMBER, .flags = STORE_MEMBER_ADD, .name = {m->address, strlen(m->address)},
                          .mode = STORE_MEMBER_VOTER, .new_ino = m->nonce};
    struct store_command cmd = {.comm = "quorumfs", .ops = &op, .n_ops = 1};
    struct admission *a = NULL;
    char text[300];

    for (int i = 0; i < PEER_GUESTS_MAX; i++) {
        if (r->admit.list[i].busy && r->admit.list[i].guest == g)
            return; /* asked again */
        if (!r->admit.list[i].busy)
            a = &r->admit.list[i];
    }
    find_obstacle(r, m, text, sizeof text);
    if (*text || !a) {
        answer(g, *text ? QE_INVAL : QE_BUSY, 0, *text ? text : "too many others are joining");
        return;
    }
    a->r = r;
    a->guest = g;
    a->busy = true;
    atomic_store(&a->done, false);
    a->req = (struct replica_request){.data = a, .cb = added_cb};
    submit_internal(r, &a->req, &cmd);
}

bool admit_message(struct replica *r, struct peer_guest *g, const Qfs__PeerMessage *m)
{
    if (m->kind_case != QFS__PEER_MESSAGE__KIND_JOIN_REQUEST)
        return false;
    begin(r, g, m->join_request);
    return true;
}

void admit_guest_gone(struct replica *r, const struct peer_guest *g)
{
    for (int i = 0; i < PEER_GUESTS_MAX; i++)
        if (r->admit.list[i].guest == g)
            r->admit.list[i].guest = NULL;
}

void admit_step(struct replica *r)
{
    for (int i = 0; i < PEER_GUESTS_MAX; i++) {
        struct admission *a = &r->admit.list[i];

        if (!a->busy || !atomic_load(&a->done))
            continue;
        a->busy = false;
        if (!a->err)
            log_info("replica", "member %" PRIu32 " joins", a->id);
        if (a->guest)
            answer(a->guest, a->err, a->id, a->err ? qfs_strerror(a->err) : "");
        a->guest = NULL;
    }
}
