/* The daemon's side of the workers. At most one order is under way to each, so a message never has to wait for room in a socket.
 *
 * A worker that does not come back (its call waits for a lock that a local operation holds for long) is lost: it keeps its place
 * until its call returns, and what it asks for until then is refused, so that it tells nothing that is old. Another one is hired. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fs/replay_parts.h"
#include "fs/replayer.h"
#include "store/base/clock.h"

enum { CLOSE_WAIT_MS = 2000, CLOSE_LOOK_MS = 5 };

struct replay_frame *replay__frame_of(struct replay *r, pid_t pid)
{
    for (size_t i = 0; i < CREW_MAX + CREW_LOST_MAX; i++)
        if (r->crew.workers[i].sock >= 0 && r->crew.workers[i].pid == pid && pid > 0)
            return &r->crew.workers[i].frame;
    return NULL;
}

static void frame_fini(struct replay_frame *f)
{
    buf_fini(&f->list);
    buf_fini(&f->names);
    memset(f, 0, sizeof *f);
}

/* Its order, if there is one, has come to an end. */
static void end_order(struct replay *r, struct replay_worker *w, int error)
{
    if (!w->frame.item)
        return;
    r->crew.n_busy--;
    w->since_ns = 0;
    replay__reported(r, &w->frame, error);
    w->frame.item = NULL;
}

static void dismiss(struct replay *r, struct replay_worker *w)
{
    close(w->sock); /* takes it out of the epoll, too */
    w->sock = -1;
    w->pid = 0;
    end_order(r, w, EIO);
    frame_fini(&w->frame);
}

static void hire(struct replay *r)
{
    struct replay_crew *c = &r->crew;
    struct replay_worker *w = c->workers, *end = c->workers + CREW_MAX + CREW_LOST_MAX;
    struct epoll_event ev = {.events = EPOLLIN};
    int err;

    while (w < end && w->sock >= 0)
        w++;
    if (w == end || c->control < 0)
        return;
    err = replayer_hire(c->control, &w->sock);
    if (err == QE_AGAIN) { /* asked for again as long as something waits */
        if (!c->refused)
            log_warn("replay", "no worker can be had now: watchers have to wait");
        c->refused = true;
        return;
    }
    if (err) {
        log_error("replay", "cannot have a worker: changes of other members are not told to watchers until this is mounted again");
        close(c->control);
        c->control = -1;
        return;
    }
    c->refused = false;
    w->lost = false;
    w->pid = 0;
    w->kept = 0;
    ev.data.ptr = w;
    if (epoll_ctl(c->epoll, EPOLL_CTL_ADD, w->sock, &ev)) {
        close(w->sock);
        w->sock = -1;
    }
}

struct replay_worker *replay__crew_idle(struct replay *r, uint64_t dir)
{
    struct replay_crew *c = &r->crew;
    struct replay_worker *idle = NULL;
    size_t n = 0;
    bool coming = false;

    for (size_t i = 0; i < CREW_MAX + CREW_LOST_MAX; i++) {
        struct replay_worker *w = &c->workers[i];

        if (w->sock < 0 || w->lost)
            continue;
        if (w->pid && !w->frame.item && (!idle || w->kept == dir))
            idle = w;
        n++;
        coming = coming || !w->pid;
    }
    if (!idle && n < CREW_MAX && !coming)
        hire(r);
    return idle;
}

bool replay__crew_is_gone(const struct replay *r)
{
    bool any = r->crew.control >= 0;

    for (size_t i = 0; i < CREW_MAX + CREW_LOST_MAX; i++)
        any = any || (r->crew.workers[i].sock >= 0 && !r->crew.workers[i].lost);
    return !any;
}

void replay__crew_rest(struct replay *r)
{
    const struct {
        struct replayer_order order;
        char strings[4];
    } rest = {.order.call = REPLAYER_REST};

    for (size_t i = 0; i < CREW_MAX + CREW_LOST_MAX; i++) {
        struct replay_worker *w = &r->crew.workers[i];

        if (w->sock < 0 || w->lost || w->frame.item || !w->kept)
            continue;
        w->kept = 0;
        if (send(w->sock, &rest, sizeof rest, MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof rest)
            dismiss(r, w);
    }
}

int replay__crew_send(struct replay *r, struct replay_worker *w, const struct buf *order)
{
    if (send(w->sock, order->data, order->len, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)order->len) {
        w->frame.item = NULL; /* it is the caller's again */
        dismiss(r, w);
        return QE_IO;
    }
    w->since_ns = clock_boottime_ns();
    r->crew.n_busy++;
    return 0;
}

static void read_report(struct replay *r, struct replay_worker *w)
{
    struct replayer_report report;
    ssize_t n = recv(w->sock, &report, sizeof report, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n != sizeof report || report.pid <= 0 || w->lost) { /* a lost one has come back: it is not needed any more */
        dismiss(r, w);
        return;
    }
    w->pid = (pid_t)report.pid;
    if (report.err >= 0)
        end_order(r, w, report.err);
}

void replay__crew_look(struct replay *r)
{
    struct epoll_event ev[CREW_MAX + CREW_LOST_MAX];
    int n = epoll_wait(r->crew.epoll, ev, CREW_MAX + CREW_LOST_MAX, 0);

    for (int i = 0; i < n; i++) {
        struct replay_worker *w = ev[i].data.ptr;

        if (w->sock >= 0)
            read_report(r, w);
    }
}

void replay__crew_replace(struct replay *r, int64_t before_ns)
{
    size_t n_lost = 0;

    for (size_t i = 0; i < CREW_MAX + CREW_LOST_MAX; i++)
        n_lost += r->crew.workers[i].sock >= 0 && r->crew.workers[i].lost;
    for (size_t i = 0; i < CREW_MAX + CREW_LOST_MAX; i++) {
        struct replay_worker *w = &r->crew.workers[i];

        if (w->sock < 0 || w->lost || !w->frame.item || w->since_ns >= before_ns || n_lost == CREW_LOST_MAX)
            continue;
        log_warn("replay", "replaced a worker that was stuck pid=%d rev=%lld", (int)w->pid, (long long)w->frame.item->rev);
        w->lost = true;
        kill(w->pid, SIGKILL); /* it is there as long as its socket is open; if its call can be ended, that ends it, and lets go of the mount */
        n_lost++;
        end_order(r, w, ETIMEDOUT);
    }
}

void replay__crew_stop(struct replay *r)
{
    struct replay_crew *c = &r->crew;

    for (size_t i = 0; i < CREW_MAX + CREW_LOST_MAX; i++)
        if (c->workers[i].sock >= 0)
            shutdown(c->workers[i].sock, SHUT_WR); /* and not closed: what it still asks for has to be known as its, until it has ended */
    if (c->control >= 0)
        close(c->control);
    c->control = -1;
}

/* Workers of a mount that is gone end by themselves; their supervisor does when `control` is closed. */
void replay__crew_close(struct replay *r)
{
    struct replay_crew *c = &r->crew;
    const struct timespec pause = {.tv_nsec = CLOSE_LOOK_MS * 1000000L};

    for (size_t i = 0; i < CREW_MAX + CREW_LOST_MAX; i++)
        if (c->workers[i].sock >= 0)
            dismiss(r, &c->workers[i]);
    if (c->epoll >= 0)
        close(c->epoll);
    c->epoll = -1;
    for (int ms = 0; c->supervisor > 0; ms += CLOSE_LOOK_MS) {
        if (ms >= CLOSE_WAIT_MS)
            kill(c->supervisor, SIGKILL);
        if (waitpid(c->supervisor, NULL, WNOHANG) != 0)
            c->supervisor = 0;
        else
            nanosleep(&pause, NULL);
    }
}
