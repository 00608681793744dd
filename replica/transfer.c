#include "replica/transfer.h"

#include <stdlib.h>
#include <time.h>

#include "replica/member.h"
#include "store/base/clock.h"
#include "store/base/log.h"

void transfer_init(struct replica *r)
{
    pthread_condattr_t attr;

    pthread_mutex_init(&r->transfer.lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->transfer.changed, &attr);
    pthread_condattr_destroy(&attr);
}

void transfer_fini(struct replica *r)
{
    struct transfer *t = &r->transfer;

    for (struct transfer_try *try = t->tries, *next; try; try = next) {
        next = try->next;
        free(try);
    }
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
}

static void tried_cb(struct raft_transfer *request)
{
    (void)request; /* it says nothing; the next step looks who leads */
}

/* The tries are few: libraft ends one after an election timeout, and only then is there another. */
bool transfer_try(struct replica *r, uint32_t to)
{
    struct transfer_try *try = rounds_free(r) ? calloc(1, sizeof *try) : NULL; /* else the chosen one would get no votes yet */
    int rv;

    if (!try || guard_changing(&r->guard)) { /* libraft gets confused by both at a time */
        free(try);
        return false;
    }
    rv = raft_transfer(&r->raft, &try->request, to, tried_cb);
    if (rv) { /* nobody is fit just now */
        free(try);
        return false;
    }
    try->next = r->transfer.tries;
    r->transfer.tries = try;
    return true;
}

void transfer_step(struct replica *r)
{
    struct transfer *t = &r->transfer;
    raft_id voters[2];
    bool leads = raft_state(&r->raft) == RAFT_LEADER, wanted;
    uint32_t to;

    pthread_mutex_lock(&t->lock);
    wanted = t->wanted && !t->over;
    to = t->to;
    if (wanted && (!leads || guard_voters(&r->guard, voters, 2) < 2 || clock_boottime_ns() > t->until_ns)) {
        t->over = true;
        wanted = false;
        pthread_cond_broadcast(&t->changed);
    }
    pthread_mutex_unlock(&t->lock);
    if (wanted && !guard_transferring(&r->guard) && guard_settled(&r->guard)) /* libraft's own choice may be one that is away */
        transfer_try(r, to ? to : change_successor(r));
}

int transfer_wait(struct replica *r, uint32_t to, int64_t until_ns)
{
    struct transfer *t = &r->transfer;

    pthread_mutex_lock(&t->lock);
    t->wanted = true;
    t->over = false;
    t->to = to;
    t->until_ns = until_ns;
    pthread_mutex_unlock(&t->lock);
    loop_wake(r);
    pthread_mutex_lock(&t->lock);
    while (!t->over && clock_boottime_ns() <= until_ns) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        ts.tv_nsec += 50 * 1000000;
        if (ts.tv_nsec >= 1000000000) {
            ts.tv_sec++;
            ts.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&t->changed, &t->lock, &ts);
    }
    t->wanted = false;
    pthread_mutex_unlock(&t->lock);
    return atomic_load(&r->role) == RAFT_LEADER ? QE_TIMEDOUT : 0;
}
