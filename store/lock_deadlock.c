/* Circles of owners that wait for each other. An owner of byte ranges is a process: while it waits it gives nothing back. So when somebody is
 * about to wait, those who are in its way are followed to whom they wait for, and so on, over all inodes; if that leads back, it would wait
 * for ever. The search is bounded, and the same on every member. */
#include "store/lock.h"

enum {
    OWNERS_MAX = 256,
    ROWS_MAX = 100000, /* looked at; */
    READ_COST = 5,     /* one that has to be read from the table counts as so many */
    WAITS_MAX = 64,    /* of one owner */
};

struct search {
    struct lock_row owners[OWNERS_MAX]; /* only session and owner count; those met so far */
    size_t n, rows;
};

static void meet(struct search *f, const struct lock_row *r)
{
    if (f->n == OWNERS_MAX)
        return;
    for (size_t i = 0; i < f->n; i++)
        if (lock_same_owner(&f->owners[i], r))
            return;
    f->owners[f->n++] = *r;
}

/* Who is in the way of row `i`? */
static void meet_blockers(struct search *f, const struct lock_thing *th, size_t i)
{
    const struct lock_row *r = &th->rows[i];
    bool holds = false;

    f->rows += th->n;
    for (size_t k = 0; k < th->n; k++)
        holds = holds || (th->rows[k].token && lock_same_owner(&th->rows[k], r));
    for (size_t k = 0; k < th->n; k++)
        if (lock_conflicts(&th->rows[k], r) && (th->rows[k].token || (k < i && !holds)))
            meet(f, &th->rows[k]);
}

struct wait {
    int64_t id;
    uint64_t ino;
};

static int waits_of(struct store *s, const struct lock_row *who, struct wait *out, size_t *n)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_LOCK_WAITS_OF);
    bool found;
    int err;

    *n = 0;
    bind_u(q, 1, who->session);
    bind_u(q, 2, who->owner);
    bind_i(q, 3, STORE_LOCK_RANGE);
    while (!(err = conn_row(&s->conn, q, &found)) && found && *n < WAITS_MAX)
        out[(*n)++] = (struct wait){col_i(q, 0), col_u(q, 1)};
    conn_reset(q);
    return err;
}

static void follow_wait(struct search *f, const struct lock_thing *th, int64_t id)
{
    for (size_t i = 0; i < th->n; i++)
        if (th->rows[i].id == id)
            meet_blockers(f, th, i);
}

/* `here` is what is in memory. */
static int follow(struct store *s, struct search *f, const struct lock_thing *here, const struct lock_row *who)
{
    struct wait waits[WAITS_MAX];
    size_t n;
    int err = waits_of(s, who, waits, &n);

    for (size_t w = 0; !err && w < n && f->rows < ROWS_MAX; w++) {
        struct lock_thing th = {.class = STORE_LOCK_RANGE, .ino = waits[w].ino};

        if (th.ino == here->ino) {
            follow_wait(f, here, waits[w].id);
            continue;
        }
        err = lock_thing_load(&s->conn, &th);
        f->rows += (READ_COST - 1) * th.n;
        if (!err)
            follow_wait(f, &th, waits[w].id);
        lock_thing_fini(&th);
    }
    return err;
}

int lock_deadlock(struct store *s, const struct lock_thing *th, size_t i, bool *yes)
{
    struct search f = {.n = 0};
    int err = 0;

    *yes = false;
    meet_blockers(&f, th, i);
    for (size_t k = 0; !err && !*yes && k < f.n && f.rows < ROWS_MAX; k++) {
        *yes = lock_same_owner(&f.owners[k], &th->rows[i]);
        if (!*yes)
            err = follow(s, &f, th, &f.owners[k]);
    }
    return err;
}
