#include "replica/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replica/member.h"
#include "store/base/clock.h"
#include "store/base/err.h"
#include "store/base/failpoint.h"
#include "store/base/log.h"

#define MS INT64_C(1000000)

static int send_to(struct replica *r, const struct copy_asker *to, const Qfs__PeerMessage *m, const void *payload, size_t len)
{
    return to->guest ? peer_guest_send(to->guest, m, payload, len) : member_send(r, to->member, m, payload, len);
}

static bool same_asker(const struct copy_asker *a, const struct copy_asker *b)
{
    return a->guest == b->guest && a->member == b->member;
}

static void let_go(struct copy *c)
{
    if (c->fd >= 0)
        close(c->fd);
    free(c->piece);
    c->fd = -1;
    c->piece = NULL;
    c->at = COPY_FREE;
}

/* What is under way ends first; then it is let go. */
static void abandon(struct copy *c)
{
    c->orphan = true;
    if (c->at == COPY_READY && !c->reading)
        let_go(c);
}

/* ---- Making one ---------------------------------------------------------------------------------------------------------- */

static bool go_on(void *data)
{
    struct copy *c = data;

    return !atomic_load(&c->r->copies.stop) && !member_failed(c->r);
}

/* A worker. */
static void make(uv_work_t *work)
{
    struct copy *c = work->data;

    if (FAILPOINT("replica.copy.make"))
        c->fd = -1;
    else
        c->fd = open(c->r->dir.path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (c->fd < 0)
        c->err = errno == ENOSPC ? QE_DISKFULL : QE_IO;
    else
        c->err = replica_export(c->r, c->fd, go_on, c, &c->x);
}

static void tell_info(struct copy *c)
{
    Qfs__CopyInfo info = QFS__COPY_INFO__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;

    info.ticket = c->ticket;
    info.err = c->err;
    info.copy = c->id;
    info.bytes = (uint64_t)c->x.bytes;
    info.applied = c->x.position.applied;
    info.term = c->x.position.term;
    info.rev = c->x.rev;
    info.hash = c->x.hash;
    m.kind_case = QFS__PEER_MESSAGE__KIND_COPY_INFO;
    m.copy_info = &info;
    (void)send_to(c->r, &c->asker, &m, NULL, 0); /* lost: it asks again, or the copy is let go */
}

static void made(uv_work_t *work, int status)
{
    struct copy *c = work->data;

    (void)status;
    c->at = COPY_READY;
    c->used_ns = clock_boottime_ns();
    if (!c->err) {
        c->piece = malloc(COPY_PIECE_BYTES);
        c->err = c->piece ? 0 : QE_NOMEM;
    }
    if (c->err)
        log_warn("replica", "a copy of the database could not be made: %s", qfs_strerror(c->err));
    if (!c->orphan)
        tell_info(c);
    if (c->orphan || c->err)
        let_go(c);
}

/* With the same ticket the answer was lost, or it does not wait in silence; with another one the first copy is of no use to it. */
static bool asked_again(struct copy *c, uint64_t ticket)
{
    struct copy being_made = {.r = c->r, .asker = c->asker, .ticket = ticket, .err = QE_AGAIN};
    bool same = c->ticket == ticket;

    c->ticket = ticket;
    if (c->at == COPY_READY && same) {
        c->used_ns = clock_boottime_ns();
        tell_info(c);
    }
    if (c->at == COPY_MAKING)
        tell_info(&being_made);
    return same || c->at == COPY_MAKING;
}

/* An asker has one copy. */
static void begin(struct replica *r, const struct copy_asker *from, uint64_t ticket)
{
    struct copy *c = NULL;

    for (int i = 0; i < COPIES_MAX; i++) {
        struct copy *have = &r->copies.list[i];

        if (have->at == COPY_FREE || have->orphan || !same_asker(&have->asker, from))
            continue;
        if (asked_again(have, ticket))
            return;
        abandon(have);
    }
    for (int i = 0; i < COPIES_MAX && !c; i++)
        if (r->copies.list[i].at == COPY_FREE)
            c = &r->copies.list[i];
    if (!c) {
        struct copy refused = {.r = r, .asker = *from, .ticket = ticket, .err = QE_BUSY};

        tell_info(&refused);
        return;
    }
    *c = (struct copy){.r = r, .at = COPY_MAKING, .asker = *from, .ticket = ticket, .id = ++r->copies.ids, .fd = -1, .work.data = c};
    if (uv_queue_work(&r->loop.uv, &c->work, make, made))
        c->at = COPY_FREE;
}

/* ---- Reading ------------------------------------------------------------------------------------------------------------- */

static void tell_piece(struct replica *r, const struct copy_asker *to, uint64_t copy, uint64_t offset, int err, const void *data, size_t len)
{
    Qfs__CopyPiece piece = QFS__COPY_PIECE__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;

    piece.copy = copy;
    piece.offset = offset;
    piece.err = err;
    m.kind_case = QFS__PEER_MESSAGE__KIND_COPY_PIECE;
    m.copy_piece = &piece;
    (void)send_to(r, to, &m, data, len); /* lost: it asks again */
}

static void read_cb(uv_fs_t *req)
{
    struct copy *c = req->data;
    ssize_t n = req->result;

    uv_fs_req_cleanup(req);
    c->reading = false;
    if (FAILPOINT("replica.copy.piece"))
        n = -EIO;
    if (c->orphan) {
        let_go(c);
        return;
    }
    tell_piece(c->r, &c->asker, c->id, c->offset, n < 0 ? QE_IO : 0, c->piece, n < 0 ? 0 : (size_t)n);
}

static void read_piece(struct replica *r, const struct copy_asker *from, const Qfs__CopyRead *m)
{
    struct copy *c = NULL;
    uv_buf_t buf;

    for (int i = 0; i < COPIES_MAX; i++)
        if (r->copies.list[i].at == COPY_READY && r->copies.list[i].id == m->copy && same_asker(&r->copies.list[i].asker, from))
            c = &r->copies.list[i];
    if (!c || c->orphan || m->offset > (uint64_t)c->x.bytes) {
        tell_piece(r, from, m->copy, m->offset, QE_NOENT, NULL, 0);
        return;
    }
    c->used_ns = clock_boottime_ns();
    if (c->reading)
        return; /* one at a time: it asks again when it waits for too long */
    c->offset = m->offset;
    c->read.data = c;
    buf = uv_buf_init((char *)c->piece, COPY_PIECE_BYTES);
    c->reading = uv_fs_read(&r->loop.uv, &c->read, c->fd, &buf, 1, (int64_t)c->offset, read_cb) == 0;
}

/* ---- Messages and time --------------------------------------------------------------------------------------------------- */

bool copy_message(struct replica *r, const struct copy_asker *from, const Qfs__PeerMessage *m)
{
    switch (m->kind_case) {
    case QFS__PEER_MESSAGE__KIND_COPY_BEGIN:
        begin(r, from, m->copy_begin->ticket);
        return true;
    case QFS__PEER_MESSAGE__KIND_COPY_READ:
        read_piece(r, from, m->copy_read);
        return true;
    case QFS__PEER_MESSAGE__KIND_COPY_END:
        for (int i = 0; i < COPIES_MAX; i++)
            if (r->copies.list[i].id == m->copy_end->copy && same_asker(&r->copies.list[i].asker, from) && r->copies.list[i].at == COPY_READY)
                abandon(&r->copies.list[i]);
        return true;
    default:
        return false;
    }
}

void copy_guest_gone(struct replica *r, const struct peer_guest *g)
{
    for (int i = 0; i < COPIES_MAX; i++)
        if (r->copies.list[i].at != COPY_FREE && r->copies.list[i].asker.guest == g)
            abandon(&r->copies.list[i]);
}

void copy_tick(struct replica *r, int64_t now_ns)
{
    for (int i = 0; i < COPIES_MAX; i++)
        if (r->copies.list[i].at == COPY_READY && now_ns - r->copies.list[i].used_ns > COPY_IDLE_MS * MS)
            abandon(&r->copies.list[i]);
}

bool copy_making(const struct replica *r)
{
    bool making = false;

    for (int i = 0; i < COPIES_MAX; i++)
        making = making || r->copies.list[i].at == COPY_MAKING;
    return making;
}

void copy_stop(struct replica *r)
{
    atomic_store(&r->copies.stop, true);
    for (int i = 0; i < COPIES_MAX; i++)
        if (r->copies.list[i].at != COPY_FREE)
            abandon(&r->copies.list[i]);
}
