/* The locks of one thing: between table and memory, and who has to wait for whom. */
#include <stdlib.h>
#include <string.h>

#include "store/lock.h"

/* ---- Rows ---------------------------------------------------------------------------------------------------------------- */

int lock_row_read(sqlite3_stmt *q, struct lock_row *out)
{
    struct store_bytes comm = col_b(q, 11);

    *out = (struct lock_row){.id = col_i(q, 0), .session = col_u(q, 1), .owner = col_u(q, 2), .request = col_u(q, 3), .exclusive = col_i(q, 4) != 0,
                             .first = col_i(q, 5), .last = col_i(q, 6), .token = col_i(q, 7), .member = (uint32_t)col_i(q, 8),
                             .uid = (uint32_t)col_i(q, 9), .pid = (int32_t)col_i(q, 10), .vhash = col_u(q, 12)};
    if (comm.len >= sizeof out->comm)
        return QE_CORRUPT;
    if (comm.len)
        memcpy(out->comm, comm.data, comm.len);
    return 0;
}

int lock_thing_add(struct lock_thing *th, const struct lock_row *r)
{
    if (th->n == th->cap) {
        size_t cap = th->cap ? th->cap * 2 : 8;
        struct lock_row *rows = realloc(th->rows, cap * sizeof *rows);

        if (!rows)
            return QE_NOMEM;
        th->rows = rows;
        th->cap = cap;
    }
    th->rows[th->n++] = *r;
    th->chained = false;
    return 0;
}

int lock_thing_load(struct conn *c, struct lock_thing *th)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_LOCK_THING);
    bool found;
    int err;

    bind_i(q, 1, th->class);
    bind_u(q, 2, th->ino);
    bind_b(q, 3, th->name.data, th->name.len);
    while (!(err = conn_row(c, q, &found)) && found) {
        struct lock_row r;

        err = lock_row_read(q, &r);
        r.was = hash_lock(th, &r);
        r.was_held = r.token != 0;
        if (!err)
            err = lock_thing_add(th, &r);
        if (err)
            break;
    }
    conn_reset(q);
    return err;
}

void lock_thing_fini(struct lock_thing *th)
{
    free(th->rows);
    th->rows = NULL;
    th->n = th->cap = 0;
}

/* ---- A crowd ------------------------------------------------------------------------------------------------------------- */

enum { CROWD = 8 /* rows that are worth being kept */ };

struct lock_kept {
    struct lock_thing th; /* as the tables have it; its name is `name` */
    struct buf name;
};

void lock_forget(struct store *s)
{
    if (!s->lock_kept)
        return;
    lock_thing_fini(&s->lock_kept->th);
    buf_fini(&s->lock_kept->name);
    free(s->lock_kept);
    s->lock_kept = NULL;
}

int lock_thing_take(struct store *s, struct lock_thing *th)
{
    struct lock_thing *k = s->lock_kept ? &s->lock_kept->th : NULL;

    if (!k || k->class != th->class || k->ino != th->ino || k->name.len != th->name.len ||
        (th->name.len && memcmp(s->lock_kept->name.data, th->name.data, th->name.len) != 0))
        return lock_thing_load(&s->conn, th);
    th->rows = k->rows;
    th->n = k->n;
    th->cap = k->cap;
    k->rows = NULL;
    lock_forget(s);
    return 0;
}

/* Without memory for it, it is read again. */
static void keep(struct store *s, struct lock_thing *th)
{
    size_t n = 0;

    for (size_t i = 0; i < th->n; i++)
        if (!th->rows[i].gone)
            th->rows[n++] = th->rows[i];
    th->n = n;
    lock_forget(s);
    if (n < CROWD)
        return;
    s->lock_kept = calloc(1, sizeof *s->lock_kept);
    if (!s->lock_kept)
        return;
    if (buf_append(&s->lock_kept->name, th->name.data, th->name.len)) {
        lock_forget(s);
        return;
    }
    s->lock_kept->th = (struct lock_thing){.class = th->class, .ino = th->ino, .name = {NULL, th->name.len}, .rows = th->rows, .n = n, .cap = th->cap};
    th->rows = NULL;
    th->n = th->cap = 0;
}

/* ---- Writing back -------------------------------------------------------------------------------------------------------- */

static int last_id(struct store *s, int64_t *out)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_LOCK_LAST);
    bool found;
    int err = conn_row(&s->conn, q, &found);

    if (err || !found)
        return err ? err : QE_CORRUPT;
    *out = col_i(q, 0);
    conn_reset(q);
    return 0;
}

static int insert(struct store *s, const struct lock_thing *th, struct lock_row *r)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_LOCK_INSERT);
    int err = last_id(s, &r->id);

    r->id++;
    bind_i(q, 1, r->id);
    bind_u(q, 2, r->session);
    bind_u(q, 3, r->owner);
    bind_u(q, 4, r->request);
    bind_i(q, 5, r->exclusive);
    bind_i(q, 6, r->first);
    bind_i(q, 7, r->last);
    bind_i(q, 8, r->token);
    bind_i(q, 9, r->member);
    bind_i(q, 10, r->uid);
    bind_i(q, 11, r->pid);
    bind_b(q, 12, r->comm, strlen(r->comm));
    bind_u(q, 13, r->vhash);
    bind_i(q, 14, th->class);
    bind_u(q, 15, th->ino);
    bind_b(q, 16, th->name.data, th->name.len);
    return err ? err : conn_run(&s->conn, q);
}

static int update(struct store *s, const struct lock_row *r)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_LOCK_UPDATE);

    bind_i(q, 1, r->id);
    bind_u(q, 2, r->request);
    bind_i(q, 3, r->first);
    bind_i(q, 4, r->last);
    bind_i(q, 5, r->token);
    bind_u(q, 6, r->vhash);
    return conn_run(&s->conn, q);
}

static int delete(struct store *s, const struct lock_row *r)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_LOCK_DELETE);

    bind_i(q, 1, r->id);
    return conn_run(&s->conn, q);
}

/* Hash and counters, from what the table had to what it has now. */
static int account(struct store *s, const struct lock_thing *th, struct lock_row *r)
{
    bool was = r->was != 0;

    s->st.hash -= r->was;
    s->st.n_locks -= r->was != 0;
    s->st.n_held -= r->was_held;
    r->was = r->gone ? 0 : hash_lock(th, r);
    r->was_held = !r->gone && r->token;
    s->st.hash += r->was;
    s->st.n_locks += r->was != 0;
    s->st.n_held += r->was_held;
    r->changed = false;
    return owner_count(s, r->uid, 0, (r->was != 0) - was);
}

/* New rows stand behind all others, so their ids are the highest whatever has gone. */
int lock_thing_save(struct store *s, struct lock_thing *th)
{
    int err = 0;

    for (size_t i = 0; !err && i < th->n; i++) {
        struct lock_row *r = &th->rows[i];

        if (r->gone)
            err = r->id ? delete(s, r) : 0;
        else if (r->id == 0)
            err = insert(s, th, r);
        else if (r->changed)
            err = update(s, r);
        else
            continue;
        if (!err)
            err = account(s, th, r);
    }
    if (!err && th->moved && th->class == STORE_LOCK_NAMED)
        err = event_lock(s, &(struct store_lock_event){.kind = STORE_LOCK_CHANGED, .class = th->class, .name = th->name});
    if (!err)
        keep(s, th);
    return err;
}

/* ---- Rules --------------------------------------------------------------------------------------------------------------- */

bool lock_same_owner(const struct lock_row *a, const struct lock_row *b)
{
    return a->session == b->session && a->owner == b->owner;
}

static bool overlap(const struct lock_row *a, const struct lock_row *b)
{
    return a->first <= b->last && b->first <= a->last;
}

bool lock_conflicts(const struct lock_row *a, const struct lock_row *b)
{
    return (a->exclusive || b->exclusive) && overlap(a, b) && !lock_same_owner(a, b);
}

static bool held(const struct lock_row *r)
{
    return r->token && !r->gone;
}

static bool waits(const struct lock_row *r)
{
    return !r->token && !r->gone;
}

/* Those who hold it are few where those who wait are many. */
static void chain(struct lock_thing *th)
{
    size_t *at = &th->first_held;

    for (size_t i = 0; i < th->n; i++)
        if (held(&th->rows[i])) {
            *at = i;
            at = &th->rows[i].next_held;
        }
    *at = SIZE_MAX;
    th->chained = true;
}

/* The place of one that is in the way of row `i`; SIZE_MAX: nobody is. */
static size_t blocker_of(struct lock_thing *th, size_t i)
{
    const struct lock_row *r = &th->rows[i];
    bool holds = false;

    if (!th->chained)
        chain(th);
    for (size_t k = th->first_held; k != SIZE_MAX; k = th->rows[k].next_held) {
        if (lock_conflicts(&th->rows[k], r))
            return k;
        holds = holds || lock_same_owner(&th->rows[k], r);
    }
    for (size_t k = 0; !holds && k < i; k++)
        if (waits(&th->rows[k]) && lock_conflicts(&th->rows[k], r))
            return k;
    return SIZE_MAX;
}

bool lock_blocked(struct lock_thing *th, size_t i)
{
    return blocker_of(th, i) != SIZE_MAX;
}

void lock_drop(struct lock_thing *th, struct lock_row *r)
{
    if (r->token)
        th->moved = true;
    th->chained = false;
    r->gone = true;
}

int lock_carve(struct lock_thing *th, const struct lock_row *of)
{
    const struct lock_row hole = *of; /* rows may move */
    size_t n = th->n;
    int err = 0;

    for (size_t i = 0; !err && i < n; i++) {
        struct lock_row *r = &th->rows[i], rest = *r;

        if (!held(r) || !lock_same_owner(r, &hole) || !overlap(r, &hole))
            continue;
        th->moved = r->changed = true;
        th->chained = false;
        if (r->first >= hole.first && r->last <= hole.last) {
            r->gone = true;
        } else if (r->first >= hole.first) {
            r->first = hole.last + 1;
        } else if (r->last <= hole.last) {
            r->last = hole.first - 1;
        } else {
            r->last = hole.first - 1;
            rest.first = hole.last + 1;
            rest.id = 0;
            rest.was = 0;
            rest.was_held = false;
            err = lock_thing_add(th, &rest);
        }
    }
    return err;
}

/* The owner's other lock of the thing, where it may have only one; NULL: it has none. */
static struct lock_row *other(struct lock_thing *th, const struct lock_row *r)
{
    for (size_t i = 0; i < th->n; i++)
        if (held(&th->rows[i]) && &th->rows[i] != r && lock_same_owner(&th->rows[i], r))
            return &th->rows[i];
    return NULL;
}

int lock_grant(struct txn *t, struct lock_thing *th, size_t i)
{
    struct lock_row *had = th->class == STORE_LOCK_RANGE ? NULL : other(th, &th->rows[i]);
    int err = th->class == STORE_LOCK_RANGE ? lock_carve(th, &th->rows[i]) : 0;

    if (had) /* two requests of one owner: the later one stands for both */
        lock_drop(th, had);
    th->rows[i].token = t->rev;
    th->rows[i].changed = th->moved = true;
    th->chained = false;
    t->takes_rev = true;
    return err;
}

int lock_tell(struct store *s, const struct lock_thing *th, const struct lock_row *r, enum store_lock_event_kind kind)
{
    const struct store_lock_event e = {.kind = kind, .class = th->class, .ino = th->ino, .name = th->name, .session = r->session, .owner = r->owner,
                                       .request = r->request, .token = kind == STORE_LOCK_GRANTED ? r->token : 0};

    return event_lock(s, &e);
}

/* How many rows before `end` exclude others, held or waited for; of those after it, how many that are held. */
static size_t count_exclusive(const struct lock_thing *th, size_t end)
{
    size_t n = 0;

    for (size_t i = 0; i < th->n; i++)
        n += th->rows[i].exclusive && !th->rows[i].gone && (i < end || th->rows[i].token);
    return n;
}

/* Is row `i` blocked, where the one that was in its way is the first to be looked at? */
static bool still_blocked(struct lock_thing *th, size_t i)
{
    struct lock_row *r = &th->rows[i];
    const struct lock_row *b = r->blocker == SIZE_MAX ? NULL : &th->rows[r->blocker];

    if (b && !b->gone && (b->token || r->blocker < i) && lock_conflicts(b, r))
        return true;
    r->blocker = blocker_of(th, i);
    return r->blocker != SIZE_MAX;
}

/* Once its owner holds something, a row is not behind others who wait any more. */
static void forget_blockers(struct lock_thing *th, const struct lock_row *owner)
{
    for (size_t i = 0; i < th->n; i++)
        if (!owner || lock_same_owner(&th->rows[i], owner))
            th->rows[i].blocker = SIZE_MAX;
}

/* The first in line that may have it gets it, again and again. What one gets may be less than its owner had there, and may let the owner pass others:
 * so those before it who were blocked are asked once more. Who shares, among others who share, need not be compared with each of them. */
int lock_hand_over(struct store *s, struct txn *t, struct lock_thing *th)
{
    size_t exclusive = count_exclusive(th, 0), blocked = SIZE_MAX;
    int err = 0;

    forget_blockers(th, NULL);
    for (size_t i = 0; !err && i < th->n; i++) {
        if (!waits(&th->rows[i]))
            continue;
        if ((th->rows[i].exclusive || exclusive) && still_blocked(th, i)) {
            exclusive += th->rows[i].exclusive;
            blocked = blocked < i ? blocked : i;
            continue;
        }
        exclusive += th->rows[i].exclusive;
        err = lock_grant(t, th, i);
        if (!err)
            err = lock_tell(s, th, &th->rows[i], STORE_LOCK_GRANTED);
        forget_blockers(th, &th->rows[i]);
        if (blocked < i) {
            i = blocked - 1;
            blocked = SIZE_MAX;
            exclusive = count_exclusive(th, i + 1);
        }
    }
    return err;
}

void lock_describe(const struct lock_thing *th, const struct lock_row *r, struct store_lock *out)
{
    *out = (struct store_lock){.class = th->class, .exclusive = r->exclusive, .ino = th->ino, .name = th->name, .session = r->session, .owner = r->owner,
                               .request = r->request, .first = r->first, .last = r->last, .token = r->token, .member = r->member, .uid = r->uid,
                               .pid = r->pid};
    memcpy(out->comm, r->comm, sizeof out->comm);
}
