/* join: how a new member gets into a cluster, from its side. A guest of a running member: it greets it, asks to be added, fetches a copy of
 * the database, and makes a directory of it: the database with the index at which it was installed, a log without entries, an identity.
 * Started, the member gets the log from the leader, or a marker that its database will do for; when it has caught up the leader makes it
 * a voter. One thread, a loop of its own. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/fetch.h"
#include "replica/init.h"
#include "replica/link.h"
#include "replica/member.h"
#include "replica/peer.h"
#include "replica/wire.h"
#include "store/base/clock.h"
#include "store/base/failpoint.h"
#include "store/base/log.h"

enum { LOOK_MS = 50, SILENCE_MS = 15000 /* nothing came for so long: given up */, AGAIN_MS = 1000 /* to the next question */, BUSY_TRIES = 30 };
#define MS INT64_C(1000000)

struct join {
    const struct replica_join *opt;
    uv_loop_t uv;
    uv_timer_t timer;
    struct link *link;       /* NULL: closed */
    bool over;               /* all is here, or err */
    int err;
    struct buf *why;
    int64_t heard_ns;        /* when something came */
    int64_t again_ns;        /* when to ask for a copy again, so that it says that it lives; 0: not */
    unsigned tries;
    uint64_t nonce;          /* of our request */
    struct dir_identity id;
    struct fetch fetch;
    bool fetching;           /* `fetch` is in use */
    bool empty;              /* the directory is ours, and held no cluster */
};

/* `detail` may be NULL. */
static void end(struct join *j, int err, const char *what, const char *detail)
{
    if (j->over)
        return;
    j->over = true;
    j->err = err;
    if (err && !j->why->len)
        buf_printf(j->why, "%s%s%s", what, detail ? ": " : "", detail ? detail : "");
    uv_close((uv_handle_t *)&j->timer, NULL);
    link_close(j->link, NULL, NULL);
}

static void send_message(struct join *j, const Qfs__PeerMessage *m)
{
    int err = link_send(j->link, FRAME_PEER, &m->base, NULL, 0, LINK_COPY, NULL, NULL);

    if (err)
        end(j, err, "cannot send", qfs_strerror(err));
}

/* ---- What is asked ------------------------------------------------------------------------------------------------------- */

static void greet(void *data)
{
    struct join *j = data;
    Qfs__Hello hello = QFS__HELLO__INIT;
    int err;

    hello.version = PEER_VERSION;
    hello.raft = PEER_RAFT;
    err = link_send(j->link, FRAME_HELLO, &hello.base, NULL, 0, LINK_COPY, NULL, NULL);
    if (err)
        end(j, err, "cannot send", qfs_strerror(err));
}

static void ask_for_id(struct join *j)
{
    Qfs__JoinRequest request = QFS__JOIN_REQUEST__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;

    request.address = (char *)(uintptr_t)member_address(j->opt->listen, j->opt->advertise);
    request.nonce = j->nonce;
    m.kind_case = QFS__PEER_MESSAGE__KIND_JOIN_REQUEST;
    m.join_request = &request;
    send_message(j, &m);
}

static void ask_for_copy(struct join *j)
{
    Qfs__CopyBegin begin = QFS__COPY_BEGIN__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;

    j->again_ns = clock_boottime_ns() + AGAIN_MS * MS;
    begin.ticket = j->fetch.ticket;
    m.kind_case = QFS__PEER_MESSAGE__KIND_COPY_BEGIN;
    m.copy_begin = &begin;
    send_message(j, &m);
}

static void ask_for_piece(struct join *j)
{
    Qfs__CopyRead read = QFS__COPY_READ__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;

    read.copy = j->fetch.copy;
    read.offset = j->fetch.have;
    m.kind_case = QFS__PEER_MESSAGE__KIND_COPY_READ;
    m.copy_read = &read;
    send_message(j, &m);
}

/* ---- What comes ---------------------------------------------------------------------------------------------------------- */

static void take_welcome(struct join *j, const Qfs__Welcome *w)
{
    if (w->refusal) {
        end(j, QE_INVAL, "the member refused", w->text);
    } else if (w->cluster_id.len != sizeof j->id.cluster_id) {
        end(j, QE_CORRUPT, "the member did not say which cluster it is of", NULL);
    } else {
        memcpy(j->id.cluster_id, w->cluster_id.data, sizeof j->id.cluster_id);
        link_trust(j->link, 1u << FRAME_PEER | 1u << FRAME_WELCOME);
        ask_for_id(j);
    }
}

static void take_id(struct join *j, const Qfs__JoinAnswer *m)
{
    int err;

    if (m->err || m->id == 0 || m->id > STORE_MEMBER_ID_MAX) {
        end(j, m->err < 0 ? m->err : QE_CORRUPT, "the cluster does not take it in", m->text);
        return;
    }
    j->id.member_id = m->id;
    err = fetch_init(&j->fetch, j->opt->dir, j->id.cluster_id, 1);
    j->fetching = true;
    if (err)
        end(j, err, "cannot write the database", qfs_strerror(err));
    else
        ask_for_copy(j);
}

static void take_info(struct join *j, const Qfs__CopyInfo *m)
{
    int err = fetch_info(&j->fetch, m);

    if (err == QE_AGAIN)
        return; /* it is being made */
    if (err == QE_BUSY && ++j->tries < BUSY_TRIES)
        return;
    j->again_ns = 0;
    if (err)
        end(j, err, "the database cannot be fetched", qfs_strerror(err));
    else
        ask_for_piece(j);
}

static void take_piece(struct join *j, const Qfs__CopyPiece *m, const void *data, size_t len)
{
    int err = FAILPOINT("replica.join.piece") ? QE_IO : fetch_piece(&j->fetch, m, data, len);

    if (err == QE_AGAIN)
        return;
    if (err)
        end(j, err, "the database cannot be fetched", qfs_strerror(err));
    else if (fetch_done(&j->fetch))
        end(j, 0, "", NULL);
    else
        ask_for_piece(j);
}

static void take_message(struct join *j, const Qfs__PeerMessage *m, const struct frame *f)
{
    switch (m->kind_case) {
    case QFS__PEER_MESSAGE__KIND_JOIN_ANSWER:
        if (!j->fetching)
            take_id(j, m->join_answer);
        break;
    case QFS__PEER_MESSAGE__KIND_COPY_INFO:
        if (j->fetching && !j->fetch.copy)
            take_info(j, m->copy_info);
        break;
    case QFS__PEER_MESSAGE__KIND_COPY_PIECE:
        if (j->fetching && j->fetch.copy)
            take_piece(j, m->copy_piece, f->payload, f->payload_len);
        break;
    default: break;
    }
}

static void frame_arrived(void *data, struct frame *f)
{
    struct join *j = data;

    j->heard_ns = clock_boottime_ns();
    if (f->type == FRAME_WELCOME) {
        Qfs__Welcome *w = qfs__welcome__unpack(NULL, f->head_len, f->head);

        if (w)
            take_welcome(j, w);
        else
            end(j, QE_CORRUPT, "the other side is no member of quorumfs", NULL);
        qfs__welcome__free_unpacked(w, NULL);
    } else {
        Qfs__PeerMessage *m = qfs__peer_message__unpack(NULL, f->head_len, f->head);

        if (m)
            take_message(j, m, f);
        else
            end(j, QE_CORRUPT, "the other side sent what no member sends", NULL);
        qfs__peer_message__free_unpacked(m, NULL);
    }
}

static void down_cb(void *data, const char *what)
{
    end(data, QE_IO, what, NULL);
}

static int64_t silence_ms(void)
{
#ifdef QFS_FAILPOINTS /* tests are less patient */
    const char *env = getenv("QUORUMFS_TEST_SILENCE_MS");

    if (env && strtoll(env, NULL, 10) > 0)
        return strtoll(env, NULL, 10);
#endif
    return SILENCE_MS;
}

static void look_cb(uv_timer_t *timer)
{
    struct join *j = timer->data;
    int64_t now = clock_boottime_ns();

    if (j->again_ns && now > j->again_ns)
        ask_for_copy(j);
    if (now - j->heard_ns > silence_ms() * MS)
        end(j, QE_TIMEDOUT, "it does not answer", NULL);
}

/* ---- The way ------------------------------------------------------------------------------------------------------------- */

static int ask_cluster(struct join *j)
{
    const struct link_hooks hooks = {.data = j, .up = greet, .frame = frame_arrived, .down = down_cb};
    struct buf what = {0};
    int err;

    j->heard_ns = clock_boottime_ns();
    if (uv_loop_init(&j->uv))
        return QE_NOMEM;
    err = link_connect(&j->uv, j->opt->member, j->opt->insecure, &hooks, 1u << FRAME_WELCOME, &j->link);
    if (!err) {
        uv_timer_init(&j->uv, &j->timer);
        j->timer.data = j;
        uv_timer_start(&j->timer, look_cb, LOOK_MS, LOOK_MS);
        uv_run(&j->uv, UV_RUN_DEFAULT);
        err = j->err;
    }
    uv_loop_close(&j->uv);
    if (err) {
        buf_printf(&what, "cannot join through the member at %s: %s", j->opt->member, j->why->len ? buf_cstr(j->why) : qfs_strerror(err));
        buf_move(j->why, &what);
    }
    return err;
}

static int make_all(struct join *j, struct dir *d)
{
    int err = dir_mark_init(d, true, j->why);

    if (!err)
        err = dir_wipe(d, j->why);
    if (!err)
        err = ask_cluster(j);
    if (!err && FAILPOINT("replica.join.fetched"))
        err = QE_IO;
    if (!err)
        err = fetch_verify(&j->fetch, j->id.epoch, j->why);
    if (!err)
        err = init_raft(d, &j->id, NULL, j->fetch.what.term, j->why);
    if (!err && FAILPOINT("replica.join.raft"))
        err = QE_IO;
    if (!err && dir_ballast_make(d, MEMBER_SEGMENT_BYTES))
        log_warn("replica", "no room for the ballast in \"%s\"", d->path);
    if (!err)
        err = store_stage_commit(d->path, j->fetch.name, j->fetch.what.applied, j->id.epoch, j->why);
    if (!err && FAILPOINT("replica.join.committed"))
        err = QE_IO;
    return err ? err : dir_mark_init(d, false, j->why);
}

static int join_into(struct join *j, struct dir *d)
{
    struct buf what = {0};
    enum replica_dir_state state = dir_state(j->opt->dir, &what);
    int err = 0;

    if (state == REPLICA_DIR_FOREIGN) { /* before anything is written into it */
        buf_printf(j->why, "\"%s\" is not a data directory: it holds \"%s\"", j->opt->dir, buf_cstr(&what));
        err = QE_NOTEMPTY;
    }
    buf_fini(&what);
    if (!err) /* a member that cannot start would have to be removed again */
        err = replica_may_listen(j->opt->listen, j->opt->insecure, j->why);
    if (!err)
        err = dir_make(j->opt->dir, j->why);
    if (!err)
        err = dir_init(d, j->opt->dir);
    if (!err)
        err = dir_lock(d, 0, j->why);
    if (!err && dir_state(j->opt->dir, NULL) == REPLICA_DIR_READY) {
        buf_printf(j->why, "\"%s\" holds a cluster already", j->opt->dir);
        err = QE_EXIST;
    }
    j->empty = !err;
    if (!err)
        err = init_random(&j->nonce, sizeof j->nonce);
    if (!err)
        err = init_random(&j->id.epoch, sizeof j->id.epoch);
    j->nonce = (j->nonce & INT64_MAX) | 1; /* SQLite's integers are signed; 0 is no nonce */
    j->id.epoch &= INT64_MAX;
    return err ? err : make_all(j, d);
}

int replica_join(const struct replica_join *opt, uint32_t *id, struct buf *why)
{
    struct join j = {.opt = opt, .why = why, .fetch.fd = -1};
    struct dir d = {.lock_fd = -1};
    int err = join_into(&j, &d);

    if (err && why->len == 0)
        buf_printf(why, "cannot make \"%s\": %s", opt->dir, qfs_strerror(err));
    if (err && j.id.member_id)
        buf_printf(why, "; it was to be member %" PRIu32 ", which is one now and never comes: remove it, and try again", j.id.member_id);
    if (j.fetching)
        fetch_fini(&j.fetch, err == 0);
    if (err && j.empty)
        dir_unmake(&d);
    dir_fini(&d);
    if (!err)
        *id = j.id.member_id;
    return err;
}
