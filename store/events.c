/* What the batch under way did to locks, leases and sessions, until its sink is told. */
#include <stdlib.h>

#include "store/internal.h"

/* Room for one more; NULL: out of memory, and `list` is as it was. */
static void *grown(void *list, size_t n, size_t *cap, size_t size)
{
    size_t want = *cap ? *cap * 2 : 16;
    void *more;

    if (n < *cap)
        return list;
    more = realloc(list, want * size);
    if (more)
        *cap = want;
    return more;
}

int event_lock(struct store *s, const struct store_lock_event *e)
{
    struct events *ev = &s->events;
    struct store_bytes name = {(const void *)(uintptr_t)ev->names.len, e->name.len};
    struct store_lock_event *list = grown(ev->locks, ev->n_locks, &ev->cap_locks, sizeof *list);

    if (!list)
        return QE_NOMEM;
    ev->locks = list;
    if (buf_append(&ev->names, e->name.data, e->name.len))
        return QE_NOMEM;
    ev->locks[ev->n_locks] = *e;
    ev->locks[ev->n_locks++].name = name;
    return 0;
}

int event_life(struct store *s, const struct store_life_event *e)
{
    struct events *ev = &s->events;
    struct store_life_event *list = grown(ev->lives, ev->n_lives, &ev->cap_lives, sizeof *list);

    if (!list)
        return QE_NOMEM;
    ev->lives = list;
    ev->lives[ev->n_lives++] = *e;
    return 0;
}

void events_clear(struct events *e)
{
    e->n_locks = e->n_lives = e->names.len = 0;
}

void events_tell(struct events *e, const struct store_sink *sink)
{
    const uint8_t *names = e->names.data ? e->names.data : (const uint8_t *)"";

    for (size_t i = 0; i < e->n_locks; i++)
        e->locks[i].name.data = names + (uintptr_t)e->locks[i].name.data;
    if (sink->locks && e->n_locks)
        sink->locks(sink->data, e->locks, e->n_locks);
    if (sink->lives && e->n_lives)
        sink->lives(sink->data, e->lives, e->n_lives);
}

void events_fini(struct events *e)
{
    free(e->locks);
    free(e->lives);
    buf_fini(&e->names);
    *e = (struct events){0};
}
