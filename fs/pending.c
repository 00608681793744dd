/* The story of a kept request is told in pending.h. The rules that make it safe:
 *
 * - A request is answered by whoever claims it (`claimed`): the completion on another thread, or the FUSE loop when the caller dies.
 * - A pending is freed by the FUSE loop only. The completion first disarms the interrupt callback (libfuse then never calls it
 *   again), then puts the pending on the mailbox, then replies from copies: so whatever the caller does next finds it settled.
 * - The kernel sends one interrupt for a request, for any signal. The callback runs inside libfuse with its locks held, so it only
 *   marks; pending_drain looks at marked ones after each request and, by a timer, every 100 ms until they are answered. */
#include "fs/pending.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "fs/proc.h"
#include "fs/replay.h"

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

    atomic_bool claimed; /* somebody answers call.req */

    /* The completion's, before it is on the mailbox. */
    int err;
    int64_t rev;
    uint64_t ino;
    bool reply_later; /* settle has to reply */
    struct pending *next_done;

    /* FUSE loop only. */
    bool marked; /* the caller got a signal */
    struct pending *prev, *next;
};

struct pending_queue {
    int fd;    /* epoll of the next two; -1 when not open */
    int wake;  /* eventfd: the mailbox has something for the loop to do at once */
    int timer; /* timerfd: look at marked callers again */
    pthread_mutex_t lock;
    struct pending *done, **done_tail; /* under lock: the mailbox, in order */
    atomic_bool has_done;              /* the mailbox is not empty */
    atomic_bool wake_always;

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
    atomic_store(&fs->pending->wake_always, true);
}

void pending_done_err(fuse_req_t req, int err, uint64_t arg)
{
    (void)arg;
    fuse_reply_err(req, fs_errno(err));
}

void pending_done_write(fuse_req_t req, int err, uint64_t arg)
{
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
    if (wake)
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

    p->err = err;
    p->rev = rev;
    p->ino = ino;
    p->reply_later = mine && !call.done;
    if (!err && p->command)
        replay_answered(p->fs, rev, pending_answer(&call, mine));
    if (!err)
        pending_invalidate(p, ino);
    else if (err == QE_TIMEDOUT)
        replay_timed_out(p->fs);
    if (mine)
        fuse_req_interrupt_func(call.req, NULL, NULL);
    /* A caller that is answered here brings the loop to settle by its next request; nobody else does. */
    mailbox_push(q, p, !(mine && call.done) || call.wake || atomic_load(&q->wake_always));
    if (mine && call.done)
        call.done(call.req, err, call.arg);
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
    if (call.settle)
        call.settle(fs, req, err, rev, ino, call.data);
}

/* Answers the callers that are dying; the others stay marked until their command is done. */
static void pending_look(struct pending_queue *q)
{
    bool again = false;

    for (struct pending *p = q->live; p; p = p->next) {
        if (!p->marked || atomic_load(&p->claimed))
            continue;
        if (!proc_is_dying(p->tid)) {
            again = true;
            continue;
        }
        if (!atomic_exchange(&p->claimed, true)) {
            fuse_req_interrupt_func(p->call.req, NULL, NULL);
            fuse_reply_err(p->call.req, EINTR);
        }
    }
    q->look = false;
    if (again) {
        const struct itimerspec t = {.it_value = {.tv_nsec = LOOK_AGAIN_MS * 1000000L}};

        q->timer_armed = timerfd_settime(q->timer, 0, &t, NULL) == 0;
    }
}

void pending_drain(struct fs *fs)
{
    struct pending_queue *q = fs->pending;
    struct pending *p;
    uint64_t n;

    if (q->timer_armed && read(q->timer, &n, sizeof n) == sizeof n) {
        q->timer_armed = false;
        q->look = true;
    }
    while (atomic_exchange(&q->has_done, false)) {
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
    eventfd_t count;

    eventfd_read(fs->pending->wake, &count); /* before the drain: what is pushed after it writes again */
    pending_drain(fs);
}

void pending_end(struct fs *fs)
{
    for (struct pending *p = fs->pending->live; p; p = p->next) {
        if (p->reply_later)
            fuse_reply_err(p->call.req, ESHUTDOWN);
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
    p->next = fs->pending->live;
    if (p->next)
        p->next->prev = p;
    fs->pending->live = p;
    if (call->req)
        fuse_req_interrupt_func(call->req, pending_interrupted, p);
    return p;
}

void pending_submit(struct fs *fs, struct store_command *cmd, const struct pending_call *call)
{
    const struct fuse_ctx *ctx = call->req ? fuse_req_ctx(call->req) : NULL;
    struct pending *p;
    char comm[16];

    if (!fs->replica) {
        if (call->req)
            fuse_reply_err(call->req, ESHUTDOWN);
        if (call->settle)
            call->settle(fs, NULL, QE_SHUTDOWN, 0, 0, call->data);
        return;
    }
    p = pending_wait(fs, call);
    if (!p)
        return;
    if (ctx && !cmd->comm) {
        proc_comm(ctx->pid, comm);
        cmd->comm = comm;
        cmd->uid = ctx->uid;
        cmd->gid = ctx->gid;
        cmd->pid = ctx->pid;
    }
    p->request.data = p;
    p->request.cb = pending_complete;
    p->command = true;
    if (call->req)
        replay_hold(fs, &p->hold, cmd);
    replica_submit(fs->replica, &p->request, cmd);
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
