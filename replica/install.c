#include "replica/install.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "replica/member.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/failpoint.h"
#include "store/base/log.h"

#define MS INT64_C(1000000)

static void give_up(struct replica *r, const char *what, int err)
{
    struct install *in = &r->install;

    log_warn("replica", "fetching the database from member %" PRIu32 " failed: %s: %s", in->from, what, qfs_strerror(err));
    fetch_fini(&in->fetch, false);
    in->at = INSTALL_IDLE; /* the next tick begins anew, after a while */
    in->asked_ns = clock_boottime_ns();
}

/* ---- Asking -------------------------------------------------------------------------------------------------------------- */

static void ask_for_copy(struct replica *r)
{
    Qfs__CopyBegin begin = QFS__COPY_BEGIN__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;

    begin.ticket = r->install.fetch.ticket;
    m.kind_case = QFS__PEER_MESSAGE__KIND_COPY_BEGIN;
    m.copy_begin = &begin;
    r->install.asked_ns = clock_boottime_ns();
    (void)member_send(r, r->install.from, &m, NULL, 0);
}

static void ask_for_piece(struct replica *r)
{
    Qfs__CopyRead read = QFS__COPY_READ__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;

    read.copy = r->install.fetch.copy;
    read.offset = r->install.fetch.have;
    m.kind_case = QFS__PEER_MESSAGE__KIND_COPY_READ;
    m.copy_read = &read;
    r->install.asked_ns = clock_boottime_ns();
    (void)member_send(r, r->install.from, &m, NULL, 0);
}

static void thank(struct replica *r)
{
    Qfs__CopyEnd end = QFS__COPY_END__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;

    end.copy = r->install.fetch.copy;
    m.kind_case = QFS__PEER_MESSAGE__KIND_COPY_END;
    m.copy_end = &end;
    (void)member_send(r, r->install.from, &m, NULL, 0);
}

static void begin(struct replica *r, uint32_t from)
{
    struct install *in = &r->install;
    int err;

    in->from = from;
    in->tries = 0;
    err = fetch_init(&in->fetch, r->dir.path, r->id.cluster_id, ++in->tickets);
    if (err) {
        give_up(r, "a file for it", err);
        return;
    }
    log_info("replica", "too far behind for the log: fetching the database of member %" PRIu32 " needed=%" PRIu64, from, in->needed);
    in->at = INSTALL_ASKING;
    ask_for_copy(r);
}

/* Inside a call of libraft's: nothing is released here. */
void install_wanted(struct replica *r, uint32_t leader, uint64_t index)
{
    struct install *in = &r->install;

    in->needed = index;
    if (in->at == INSTALL_IDLE && atomic_load(&r->applier.applied) >= index)
        in->at = INSTALL_RELEASING;
    else if (in->at == INSTALL_IDLE)
        begin(r, leader);
}

/* ---- Verifying ----------------------------------------------------------------------------------------------------------- */

static void verify(uv_work_t *work)
{
    struct replica *r = work->data;

    r->install.err = FAILPOINT("replica.install.verify") ? QE_CORRUPT : fetch_verify(&r->install.fetch, r->id.epoch, &r->install.why);
}

static void verified(uv_work_t *work, int status)
{
    struct replica *r = work->data;
    struct install *in = &r->install;
    int err = in->err;

    (void)status;
    if (r->loop.stop_deadline_ns || member_failed(r))
        return; /* the next start asks again */
    if (!err && in->fetch.what.applied < in->needed)
        err = QE_STALE; /* a newer message came meanwhile */
    if (!err) {
        atomic_store(&in->switched, false);
        in->at = INSTALL_SWITCHING;
        err = applier_push(r, &(struct applier_item){.kind = APPLIER_SWITCH});
    }
    if (err)
        give_up(r, in->why.len ? buf_cstr(&in->why) : "verifying it", err);
    buf_clear(&in->why);
}

/* ---- Switching (store thread) -------------------------------------------------------------------------------------------- */

struct telling { /* what happened between the old database and the new one, as changes */
    struct replica *r;
    struct store_change list[64];
    size_t n;
    struct buf names;   /* of the list: offsets until told */
    bool failed;
};

static void tell(struct telling *t)
{
    for (size_t i = 0; i < t->n; i++) {
        t->list[i].name.data = t->names.data + (uintptr_t)t->list[i].name.data;
        t->list[i].old_name.data = t->names.data + (uintptr_t)t->list[i].old_name.data;
    }
    if (t->n && t->r->opt.changed)
        t->r->opt.changed(t->r->opt.data, t->list, t->n);
    t->n = 0;
    buf_clear(&t->names);
}

static struct store_bytes keep_name(struct telling *t, struct store_bytes name)
{
    struct store_bytes kept = {(const void *)(uintptr_t)t->names.len, name.len};

    t->failed = buf_append(&t->names, name.len ? name.data : "", name.len) || t->failed;
    return kept;
}

static bool tell_event(void *data, const struct store_event *e)
{
    struct telling *t = data;

    if (t->n == sizeof t->list / sizeof *t->list)
        tell(t);
    t->list[t->n++] = (struct store_change){.rev = e->rev, .op = (int)e->op, .ino = e->ino, .parent = e->parent, .old_parent = e->old_parent,
                                            .made = e->made, .name = keep_name(t, e->name), .old_name = keep_name(t, e->old_name)};
    return !t->failed;
}

/* Caches and watchers hear of everything that the copy brought. QE_STALE: some of it has been compacted. */
static int tell_difference(struct replica *r, int64_t rev_before)
{
    struct telling t = {.r = r};
    int err = store_events(r->applier.reader, rev_before, tell_event, &t);

    if (!err && t.failed)
        err = QE_NOMEM;
    tell(&t);
    buf_fini(&t.names);
    return err;
}

static int switch_store(struct replica *r, struct buf *why)
{
    struct install *in = &r->install;
    struct store_glance before;
    struct store_position pos;
    int err;

    store_position(r->store, &pos);
    if (pos.applied >= in->fetch.what.applied) {
        store_stage_drop(r->dir.path, in->fetch.name);
        return 0; /* the log brought us farther meanwhile */
    }
    store_glance(r->store, &before);
    err = FAILPOINT("replica.install.commit") ? QE_IO :
          store_stage_commit(r->dir.path, in->fetch.name, in->fetch.what.applied, r->id.epoch, why);
    if (!err && FAILPOINT("replica.install.committed"))
        err = QE_IO;
    if (!err)
        err = store_switch(r->store, why);
    if (!err && FAILPOINT("replica.install.switched"))
        err = QE_IO;
    if (err)
        return err;
    applier_installed(r, in->fetch.what.applied);
    if (r->opt.locks)
        r->opt.locks(r->opt.data, NULL, 0, replica_session(r));
    if (r->opt.leases_gone)
        r->opt.leases_gone(r->opt.data, NULL, 0);
    err = tell_difference(r, before.rev);
    if (err == QE_STALE && r->opt.installed)
        r->opt.installed(r->opt.data, in->fetch.what.rev);
    else if (err && err != QE_STALE)
        log_warn("replica", "not all watchers were told of what the database brought: %s", qfs_strerror(err));
    log_info("replica", "the database of member %" PRIu32 " is installed applied=%" PRIu64 " revision=%" PRId64, in->from, in->fetch.what.applied,
             in->fetch.what.rev);
    return 0;
}

void install_switch(struct replica *r)
{
    struct buf why = {0};
    int err = switch_store(r, &why);

    if (err) /* nobody can say what is open now: a new start can */
        member_fail(r, "cannot install the database that was fetched: %s", why.len ? buf_cstr(&why) : qfs_strerror(err));
    buf_fini(&why);
    atomic_store(&r->install.switched, true);
    loop_wake(r);
}

/* ---- Answers and time ---------------------------------------------------------------------------------------------------- */

static void take_info(struct replica *r, const Qfs__CopyInfo *m)
{
    struct install *in = &r->install;
    int err = fetch_info(&in->fetch, m);

    if (err == QE_AGAIN)
        in->tries = 0; /* it is being made */
    if (err == QE_AGAIN)
        return;
    if (err) {
        give_up(r, "its copy", err);
        return;
    }
    in->at = INSTALL_FETCHING;
    in->tries = 0;
    ask_for_piece(r);
}

static void take_piece(struct replica *r, const Qfs__CopyPiece *m, const void *data, size_t len)
{
    struct install *in = &r->install;
    int err = FAILPOINT("replica.install.piece") ? QE_IO : fetch_piece(&in->fetch, m, data, len);

    if (err == QE_AGAIN)
        return;
    if (err) {
        give_up(r, "a piece of it", err);
        return;
    }
    in->tries = 0;
    if (!fetch_done(&in->fetch)) {
        ask_for_piece(r);
        return;
    }
    thank(r);
    in->at = INSTALL_VERIFYING;
    in->work.data = r;
    if (uv_queue_work(&r->loop.uv, &in->work, verify, verified))
        give_up(r, "verifying it", QE_NOMEM);
}

bool install_message(struct replica *r, uint32_t from, const Qfs__PeerMessage *m, const uint8_t *payload, size_t len)
{
    struct install *in = &r->install;

    if (m->kind_case == QFS__PEER_MESSAGE__KIND_COPY_INFO) {
        if (in->at == INSTALL_ASKING && from == in->from)
            take_info(r, m->copy_info);
    } else if (m->kind_case == QFS__PEER_MESSAGE__KIND_COPY_PIECE) {
        if (in->at == INSTALL_FETCHING && from == in->from)
            take_piece(r, m->copy_piece, payload, len);
    } else {
        return false;
    }
    return true;
}

static void ask_again(struct replica *r)
{
    struct install *in = &r->install;

    if (++in->tries > INSTALL_TRIES)
        give_up(r, "it", QE_TIMEDOUT);
    else if (in->at == INSTALL_ASKING)
        ask_for_copy(r);
    else
        ask_for_piece(r);
}

void install_tick(struct replica *r, int64_t now_ns)
{
    struct install *in = &r->install;
    bool late = now_ns - in->asked_ns > INSTALL_AGAIN_MS * MS;
    uint32_t leader = atomic_load(&r->leader);

    if (in->at == INSTALL_IDLE && r->guard.holding && late && leader && leader != r->id.member_id)
        install_wanted(r, leader, in->needed);
    else if ((in->at == INSTALL_ASKING || in->at == INSTALL_FETCHING) && late)
        ask_again(r);
    if (in->at == INSTALL_SWITCHING && atomic_load(&in->switched) && !member_failed(r)) {
        r->guard.store.applied = in->fetch.what.applied; /* entries up to there are in the database */
        fetch_fini(&in->fetch, true);
        in->at = INSTALL_RELEASING;
    }
    if (in->at == INSTALL_RELEASING && r->guard.holding && in->needed > atomic_load(&r->applier.applied))
        in->at = INSTALL_IDLE; /* a newer message took the place of the one that this database was for */
    if (in->at == INSTALL_RELEASING && guard_install_release(&r->guard)) {
        in->at = INSTALL_IDLE;
        in->asked_ns = now_ns;
        if (FAILPOINT("replica.install.released"))
            member_fail(r, "failpoint after an install");
        forward_again(r); /* what we proposed may have been applied in the part that we did not see: its results are kept */
    }
}

void install_fini(struct replica *r)
{
    if (r->install.at >= INSTALL_ASKING && r->install.at <= INSTALL_SWITCHING)
        fetch_fini(&r->install.fetch, r->install.at == INSTALL_SWITCHING);
    buf_fini(&r->install.why);
}
