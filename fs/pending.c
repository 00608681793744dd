/* The story of a kept request is told in pending.h. The rules that make it safe:
 *
 * - A request is answered by whoever claims it (`claimed`): the completion on another thread, or the FUSE loop when the caller dies.
 * - A pending is freed by the FUSE loop only. The completion first disarms the interrupt callback (libfuse then never calls it
 *   again), then puts the pending on the mailbox, then replies from copies: so whatever the caller does next finds it settled.
 * - The kernel sends one interrupt for a request, for any signal. The callback runs inside libfuse with its locks held, so it only
 *   marks; pending_drain looks at marked ones after each request and, by a timer, every 100 ms until they are answered.
 * - A barrier is answered by replica in time; the same timer makes sure of it, since a read has to end whatever happens. */
#include "fs/pending.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "fs/barrier.h"
#include "fs/proc.h"
#include "fs/replay.h"
#include "store/base/clock.h"
#include "store/base/failpoint.h"

enum { LOOK_AGAIN_MS = 100 };

struct pending {
    /* Set before submitting. */
    struct replica_request request;
    struct fs *fs;
    struct pending_call call;
    pid_t tid; /* the caller's thread */
    struct replay_hold hold; /* what the kernel has locked for the caller */
    bool command; /* it waits for a command: by pending_submit */
    bool posted; /* by pending_post: there is no command, and it is not on `live` */
    int64_t deadline_ns; /* of a barrier; 0: replica's word counts */

    atomic_bool claimed; /* somebody answers call.req */

    /* The completion's, before it is on the mailbox. */
    int err;
    int64_t rev;
    uint64_t ino;
    bool reply_later; /* settle has to reply */
    struct pending *next_done;

    /* FUSE loop only. */
    bool marked; /* the caller got a signal */
    bool held;   /* by a failpoint: replica was not asked yet */
    struct pending *prev, *next;
};

struct pending_queue {
    int fd;    /* epoll of the next two; -1 when not open */
    int wake;  /* eventfd: the mailbox has something for the loop to do at once */
    int timer; /* timerfd: look at marked callers again */
    pthread_mutex_t lock;
    struct pending *done, **done_tail; /* under lock: the mailbox, in order */
    atomic_bool has_done;              /* the mailbox is not empty */
    atomic_int awaited;                /* not 0: each completion wakes the loop */

    /* FUSE loop only. */
    struct pending *live; /* all that are not settled */
    bool look;            /* one was marked since the last look */
    bool timer_armed;
};

int pending_open(struct fs *fs)
{
    struct pending_queue *q = calloc(1, sizeof *q);
    struct epoll_event ev = {.events = EPOLLIN};

    if (!q)
        return QE_NOMEM;
    pthread_mutex_init(&q->lock, NULL);
    q->done_tail = &q->done;
    q->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    q->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    q->fd = epoll_create1(EPOLL_CLOEXEC);
    fs->pending = q;
    if (q->wake < 0 || q->timer < 0 || q->fd < 0 || epoll_ctl(q->fd, EPOLL_CTL_ADD, q->wake, &ev) ||
        epoll_ctl(q->fd, EPOLL_CTL_ADD, q->timer, &ev)) {
        pending_close(fs);
        return QE_IO;
    }
    return 0;
}

void pending_close(struct fs *fs)
{
    struct pending_queue *q = fs->pending;
    const int fds[] = {q ? q->fd : -1, q ? q->timer : -1, q ? q->wake : -1};

    if (!q)
        return;
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    pthread_mutex_destroy(&q->lock);
    free(q);
    fs->pending = NULL;
}

int pending_fd(struct fs *fs)
{
    return fs->pending->fd;
}

bool pending_none(struct fs *fs)
{
    return !fs->pending->live;
}

void pending_stopping(struct fs *fs)
{
    pending_awaited(fs, 1);
}

void pending_awaited(struct fs *fs, int change)
{
    atomic_fetch_add(&fs->pending->awaited, change);
}

void pending_done_err(fuse_req_t req, int err, uint64_t ino, uint64_t arg)
{
    (void)ino, (void)arg;
    fuse_reply_err(req, fs_errno(err));
}

void pending_done_write(fuse_req_t req, int err, uint64_t ino, uint64_t arg)
{
    (void)ino;
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_write(req, arg);
}

/* libfuse calls this with locks of its own held, on the FUSE loop. */
static void pending_interrupted(fuse_req_t req, void *data)
{
    struct pending *p = data;

    (void)req;
    p->marked = true;
    p->fs->pending->look = true;
}

static void mailbox_push(struct pending_queue *q, struct pending *p, bool wake)
{
    pthread_mutex_lock(&q->lock);
    p->next_done = NULL;
    *q->done_tail = p;
    q->done_tail = &p->next_done;
    pthread_mutex_unlock(&q->lock);
    atomic_store(&q->has_done, true);
    if (wake || atomic_load(&q->awaited)) /* in this order: whoever begins to wait on the loop drains afterwards */
        eventfd_write(q->wake, 1); /* fails only when the counter is full, and then it is readable anyway */
}

/* The kernel drops what it keeps of the nodes, the pages of mappings too. It may ask the loop for dirty pages meanwhile, which never
 * waits for this thread. */
static void pending_invalidate(const struct pending *p, uint64_t ino)
{
    const fuse_ino_t *changed = p->call.changed;

    for (int i = 0; i < 2; i++)
        if (changed[i])
            fuse_lowlevel_notify_inval_inode(p->fs->se, changed[i], 0, 0);
    if (p->call.expected && ino && ino != p->call.expected)
        fuse_lowlevel_notify_inval_inode(p->fs->se, ino, 0, 0);
}

/* Whether the kernel tells watchers of what was done. */
static enum replay_answer pending_answer(const struct pending_call *call, bool mine)
{
    if (call->injected)
        return REPLAY_INJECTED;
    if (call->silent || !call->req)
        return REPLAY_SILENT;
    return mine ? REPLAY_ANNOUNCED : REPLAY_ORPHAN;
}

void pending_finish(struct pending *p, int err, int64_t rev, uint64_t ino)
{
    struct pending_queue *q = p->fs->pending;
    const struct pending_call call = p->call;
    bool mine = call.req && !atomic_exchange(&p->claimed, true);
    bool done = mine && call.done && !(err && err == call.undecided);

    p->err = err;
    p->rev = rev;
    p->ino = ino;
    p->reply_later = mine && !done;
    if (!err && p->command)
        replay_answered(p->fs, rev, pending_answer(&call, mine));
    if (!err)
        pending_invalidate(p, ino);
    else if (err == QE_TIMEDOUT && p->command)
        replay_timed_out(p->fs);
    if (mine)
        fuse_req_interrupt_func(call.req, NULL, NULL);
    /* A caller that is answered here brings the loop to settle by its next request; nobody else does. */
    mailbox_push(q, p, !done || call.wake);
    if (done)
        call.done(call.req, err, ino, call.arg);
}

/* Replica's thread. */
static void pending_complete(struct replica_request *request, int err, int64_t rev, uint64_t ino)
{
    pending_finish(request->data, err, rev, ino);
}

static void pending_free(struct pending *p)
{
    replay_let_go(p->fs, &p->hold);
    if (p->next)
        p->next->prev = p->prev;
    if (p->prev)
        p->prev->next = p->next;
    else if (!p->posted)
        p->fs->pending->live = p->next;
    free(p);
}

int pending_post(struct fs *fs, pending_settle_cb settle, void *data)
{
    struct pending *p = calloc(1, sizeof *p);

    if (!p)
        return QE_NOMEM;
    p->fs = fs;
    p->posted = true;
    p->call.settle = settle;
    p->call.data = data;
    mailbox_push(fs->pending, p, true);
    return 0;
}

static void pending_settle(struct pending *p)
{
    struct fs *fs = p->fs;
    const struct pending_call call = p->call;
    fuse_req_t req = p->reply_later ? call.req : NULL;
    int err = p->err;
    int64_t rev = p->rev;
    uint64_t ino = p->ino;

    pending_free(p);
    barrier_settled(fs);
    if (call.settle)
        call.settle(fs, req, err, rev, ino, call.data);
}

/* In LOOK_AGAIN_MS, if it is not set already. */
static void pending_set_timer(struct pending_queue *q)
{
    const struct itimerspec t = {.it_value = {.tv_nsec = LOOK_AGAIN_MS * 1000000L}};

    if (!q->timer_armed)
        q->timer_armed = timerfd_settime(q->timer, 0, &t, NULL) == 0;
}

static void pending_give_up(struct pending *p, int error)
{
    if (atomic_exchange(&p->claimed, true))
        return;
    fuse_req_interrupt_func(p->call.req, NULL, NULL);
    fuse_reply_err(p->call.req, error);
}

/* Answers the callers that are dying and the barriers that are late; the others are looked at again until they are done. */
static void pending_look(struct pending_queue *q)
{
    int64_t now = clock_boottime_ns();
    bool again = false;

    for (struct pending *p = q->live, *next; p; p = next) {
        next = p->next;
        if (p->held && !FAILPOINT("fs.barrier.hold")) {
            p->held = false;
            replica_barrier(p->fs->replica, &p->request);
        }
        again = again || p->held;
        if (!p->call.req || atomic_load(&p->claimed) || (!p->marked && !p->deadline_ns))
            continue;
        if (p->deadline_ns && now >= p->deadline_ns)
            pending_give_up(p, ETIMEDOUT);
        else if (p->marked && proc_is_dying(p->tid))
            pending_give_up(p, EINTR);
        else
            again = true;
    }
    q->look = false;
    if (again)
        pending_set_timer(q);
}

void pending_drain(struct fs *fs)
{
    struct pending_queue *q = fs->pending;
    struct pending *p;

    while (atomic_load(&q->has_done) && atomic_exchange(&q->has_done, false)) {
        pthread_mutex_lock(&q->lock);
        p = q->done;
        q->done = NULL;
        q->done_tail = &q->done;
        pthread_mutex_unlock(&q->lock);
        while (p) {
            struct pending *next = p->next_done;

            pending_settle(p);
            p = next;
        }
    }
    if (q->look)
        pending_look(q);
}

void pending_woken(struct fs *fs)
{
    struct pending_queue *q = fs->pending;
    eventfd_t count;
    uint64_t n;

    if (q->timer_armed && read(q->timer, &n, sizeof n) == sizeof n) {
        q->timer_armed = false;
        q->look = true;
    }
    eventfd_read(q->wake, &count); /* before the drain: what is pushed after it writes again */
    pending_drain(fs);
}

void pending_end(struct fs *fs)
{
    for (struct pending *p = fs->pending->live, *next; p; p = next) {
        next = p->next;
        if (p->held)
            pending_complete(&p->request, QE_SHUTDOWN, 0, 0);
        if (p->reply_later) /* what took effect must not be told as if it had not: there is only nobody left to say how */
            fuse_reply_err(p->call.req, fs_errno(p->err ? p->err : QE_TIMEDOUT));
        p->reply_later = false;
    }
    pending_drain(fs);
}

struct pending *pending_wait(struct fs *fs, const struct pending_call *call)
{
    struct pending *p = calloc(1, sizeof *p);

    if (!p) {
        if (call->req)
            fuse_reply_err(call->req, ENOMEM);
        if (call->settle)
            call->settle(fs, NULL, QE_NOMEM, 0, 0, call->data);
        return NULL;
    }
    p->fs = fs;
    p->call = *call;
    p->tid = call->req ? fuse_req_ctx(call->req)->pid : 0;
    p->request.data = p;
    p->request.cb = pending_complete;
    p->next = fs->pending->live;
    if (p->next)
        p->next->prev = p;
    fs->pending->live = p;
    if (call->req)
        fuse_req_interrupt_func(call->req, pending_interrupted, p);
    return p;
}

/* The same for what replica is asked for. NULL: replied and settled with what is wrong. */
static struct pending *pending_wait_replica(struct fs *fs, const struct pending_call *call)
{
    if (fs->replica)
        return pending_wait(fs, call);
    if (call->req)
        fuse_reply_err(call->req, ESHUTDOWN);
    if (call->settle)
        call->settle(fs, NULL, QE_SHUTDOWN, 0, 0, call->data);
    return NULL;
}

void pending_submit(struct fs *fs, struct store_command *cmd, const struct pending_call *call)
{
    const struct fuse_ctx *ctx = call->req ? fuse_req_ctx(call->req) : NULL;
    struct pending *p = pending_wait_replica(fs, call);
    char comm[16];

    if (!p)
        return;
    if (ctx && !cmd->comm) {
        proc_comm(ctx->pid, comm);
        cmd->comm = comm;
        cmd->uid = ctx->uid;
        cmd->gid = ctx->gid;
        cmd->pid = ctx->pid;
    }
    p->command = true;
    if (call->req)
        replay_hold(fs, &p->hold, cmd);
    if (call->patient)
        replica_submit_patiently(fs->replica, &p->request, cmd);
    else
        replica_submit(fs->replica, &p->request, cmd);
}

void pending_barrier(struct fs *fs, const struct pending_call *call)
{
    struct pending *p = pending_wait_replica(fs, call);

    if (!p)
        return;
    if (fs->opt->timeout_ms > 0) {
        p->deadline_ns = clock_boottime_ns() + (int64_t)fs->opt->timeout_ms * 1000000;
        pending_set_timer(fs->pending);
    }
    if (FAILPOINT("fs.barrier.fail"))
        pending_complete(&p->request, QE_TIMEDOUT, 0, 0);
    else if (FAILPOINT("fs.barrier.hold"))
        p->held = true;
    else
        replica_barrier(fs->replica, &p->request);
}

void pending_renew(struct fs *fs, uint64_t lease, const struct pending_call *call)
{
    struct pending *p = pending_wait_replica(fs, call);

    if (p)
        replica_lease_renew(fs->replica, &p->request, lease);
}

void pending_remaining(struct fs *fs, uint64_t lease, const struct pending_call *call)
{
    struct pending *p = pending_wait_replica(fs, call);

    if (p)
        replica_lease_remaining(fs->replica, &p->request, lease);
}

void pending_submit_op(fuse_req_t req, const struct store_op *op)
{
    struct store_command cmd = {.ops = op, .n_ops = 1};
    struct pending_call call = {.req = req, .done = pending_done_err};
    int err = replica_writable(fs_of(req)->replica);

    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        pending_submit(fs_of(req), &cmd, &call);
}
