/* Time, chance, and what is to happen when. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "sim.h"
#include "store/base/clock.h"

struct event {
    uint64_t at, seq; /* seq: events of one moment run in the order in which they were made */
    struct member *m;
    unsigned life;    /* m's when it was made */
    void (*fn)(struct member *m, void *arg);
    void *arg;
};

struct world world;
static struct event *heap;
static size_t n_heap, cap_heap;
static uint64_t next_seq, state;
static bool seeded;

/* ---- Chance (splitmix64) ------------------------------------------------------------------------------------------------- */

static uint64_t draw(void)
{
    uint64_t z;

    if (!seeded) {
        state = world.opt.seed * UINT64_C(0x9E3779B97F4A7C15);
        seeded = true;
    }
    z = state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

uint64_t world_random(uint64_t below)
{
    return below ? draw() % below : 0;
}

uint64_t world_between(uint64_t min, uint64_t max)
{
    return min + world_random(max - min + 1);
}

bool world_chance(unsigned permille)
{
    return world_random(1000) < permille;
}

uint64_t world_exp(uint64_t mean)
{
    double u = (double)(draw() >> 11) / 9007199254740992.0;

    return (uint64_t)(-log(1.0 - u) * (double)mean) + 1;
}

/* ---- Events -------------------------------------------------------------------------------------------------------------- */

static bool before(const struct event *a, const struct event *b)
{
    return a->at < b->at || (a->at == b->at && a->seq < b->seq);
}

static void push(struct event e)
{
    size_t i = n_heap++;

    if (n_heap > cap_heap) {
        cap_heap = cap_heap ? cap_heap * 2 : 256;
        heap = realloc(heap, cap_heap * sizeof *heap);
        if (!heap)
            abort();
    }
    for (; i > 0 && before(&e, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = e;
}

static struct event pop(void)
{
    struct event top = heap[0], last = heap[--n_heap];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < n_heap) {
        if (child + 1 < n_heap && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &last))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

void world_after(uint64_t us, struct member *m, void (*fn)(struct member *m, void *arg), void *arg)
{
    push((struct event){world.now + us, next_seq++, m, m ? m->life : 0, fn, arg});
}

static int64_t world_clock(void *data)
{
    (void)data;
    return (int64_t)world.now * 1000 + INT64_C(1000000000);
}

void world_set_clock(void)
{
    static const struct clock_source source = {world_clock, world_clock, NULL};

    clock_set(&source);
}

bool world_step(void)
{
    struct event e;

    if (n_heap == 0)
        return false;
    e = pop();
    if (e.at > world.now)
        world.now = e.at;
    if (e.m && (!e.m->alive || e.m->life != e.life))
        return true;
    if (e.m && e.m->paused_until > world.now) { /* its process stands still: later, in the same order */
        e.at = e.m->paused_until;
        push(e);
        return true;
    }
    world.steps++;
    e.fn(e.m, e.arg);
    if (e.m && e.m->alive && e.m->life == e.life)
        check_member(e.m);
    return true;
}

/* ---- Words --------------------------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 0))) static void say(FILE *f, const struct member *m, const char *fmt, va_list ap)
{
    fprintf(f, "%10.3f ", (double)world.now / MS);
    if (m)
        fprintf(f, "m%llu.%u ", (unsigned long long)m->id, m->life);
    vfprintf(f, fmt, ap);
    fputc('\n', f);
    fflush(f);
}

void world_log(const struct member *m, const char *fmt, ...)
{
    va_list ap;

    if (!world.opt.verbose)
        return;
    va_start(ap, fmt);
    say(stdout, m, fmt, ap);
    va_end(ap);
}

void world_fail(const struct member *m, const char *fmt, ...)
{
    va_list ap;

    printf("seed %llu: ", (unsigned long long)world.opt.seed);
    va_start(ap, fmt);
    say(stdout, m, fmt, ap);
    va_end(ap);
    fflush(stdout);
    _exit(1);
}
