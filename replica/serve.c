#include "replica/serve.h"

#include <time.h>

#include "replica/member.h"
#include "store/base/clock.h"
#include "store/base/log.h"

enum { AGAIN_MS = 1000 }; /* between two tries, when the leader has no room */

static const struct store_op session_op = {.kind = STORE_OP_SESSION};
static const struct store_command open_session = {.comm = "quorumfs", .ops = &session_op, .n_ops = 1};

void serve_init(struct replica *r)
{
    pthread_condattr_t attr;

    pthread_mutex_init(&r->serve.lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->serve.changed, &attr);
    pthread_condattr_destroy(&attr);
}

void serve_fini(struct replica *r)
{
    pthread_cond_destroy(&r->serve.changed);
    pthread_mutex_destroy(&r->serve.lock);
}

void serve_note(struct replica *r, int err)
{
    struct serve *s = &r->serve;

    pthread_mutex_lock(&s->lock);
    s->ready = s->ready || !err;
    s->err = err;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

bool serve_is_ready(struct replica *r)
{
    bool ready;

    pthread_mutex_lock(&r->serve.lock);
    ready = r->serve.ready;
    pthread_mutex_unlock(&r->serve.lock);
    return ready;
}

/* A refusal of the leader (its disk is full) is no reason to give up, also if it is QE_TIMEDOUT because the command had been sent before; nor is
 * a nonce below the last one, which tells of numbers of starts that were lost. */
static void session_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct replica *r = req->data;
    bool raise = err == QE_STALE && ino != 0; /* 0: the member was removed */
    bool later = err == QE_DISKFULL || err == QE_NOMEM || err == QE_TIMEDOUT;

    (void)rev;
    if (err == 0) {
        keepalive_session(r, ino, req->priv.submitted_ns);
        ino_want(r);
        return;
    }
    if (raise || (later && err != QE_TIMEDOUT)) /* that is also what a member hears that stops without a quorum */
        log_warn("replica", "there is no session yet: %s", qfs_strerror(err));
    if (raise) {
        submit_raise_nonce(r, ino);
        serve_begin(r);
    } else if (later) {
        atomic_store(&r->serve.refused, true);
    } else {
        serve_note(r, err);
    }
}

void serve_tick(struct replica *r, int64_t now_ns)
{
    struct serve *s = &r->serve;

    if (!atomic_load(&s->refused) || now_ns - s->asked_ns < AGAIN_MS * INT64_C(1000000))
        return;
    s->asked_ns = now_ns;
    atomic_store(&s->refused, false);
    serve_begin(r);
}

void serve_begin(struct replica *r)
{
    r->serve.request.data = r;
    r->serve.request.cb = session_cb;
    submit_internal(r, &r->serve.request, &open_session);
}

int serve_wait(struct replica *r, int64_t until_ns)
{
    struct serve *s = &r->serve;
    int err;

    pthread_mutex_lock(&s->lock);
    while (!s->ready && !s->err) {
        struct timespec t;
        int64_t left = until_ns - clock_boottime_ns();

        if (until_ns == 0) {
            pthread_cond_wait(&s->changed, &s->lock);
            continue;
        }
        if (left <= 0)
            break;
        clock_gettime(CLOCK_MONOTONIC, &t);
        left += t.tv_nsec;
        t.tv_sec += left / 1000000000;
        t.tv_nsec = left % 1000000000;
        pthread_cond_timedwait(&s->changed, &s->lock, &t);
    }
    err = s->ready ? 0 : s->err ? s->err : QE_TIMEDOUT;
    pthread_mutex_unlock(&s->lock);
    return err;
}
