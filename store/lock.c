/* Locks: asking, giving back, proclaiming, and the end of a session. Who gets what is decided in lock_thing.c.
 *
 * The story: LOCK finds nobody in the way and is held at once, with the revision that it takes as its token; or it stands in the queue,
 * as a row without a token, and the command's answer is QUEUED. Whatever command then takes the last lock away that was in its way gives it to it:
 * the row gets that command's revision as its token, and an event tells the session. A member that dies has its session ended, or lapse,
 * by a command as well. So all members know at each index of the log who holds what, and since when. */
#include "store/lock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/failpoint.h"

bool store_lock_name_ok(const char *name, size_t len)
{
    return len > 0 && len <= STORE_LOCK_NAME_MAX && *name != '.' && !memchr(name, '/', len) && !memchr(name, 0, len);
}

/* ---- Asking -------------------------------------------------------------------------------------------------------------- */

/* What the operation is about; QE_INVAL. */
static int parse(const struct txn *t, const struct store_op *op, struct lock_thing *th, struct lock_row *r)
{
    const struct store_command *cmd = t->cmd;
    bool range = (op->flags & STORE_LOCK_CLASS) == STORE_LOCK_RANGE;

    *th = (struct lock_thing){.class = (enum store_lock_class)(op->flags & STORE_LOCK_CLASS)};
    if (op->flags & ~(uint32_t)(STORE_LOCK_CLASS | STORE_LOCK_EXCLUSIVE | STORE_LOCK_NOWAIT | STORE_LOCK_WAITING) || th->class < STORE_LOCK_NAMED)
        return QE_INVAL;
    if (th->class == STORE_LOCK_NAMED ? op->ino || !store_lock_name_ok(op->name.data, op->name.len) : op->ino == 0 || op->ino > INT64_MAX || op->name.len)
        return QE_INVAL;
    if (range && (op->first < 0 || op->last < op->first))
        return QE_INVAL;
    th->ino = op->ino;
    th->name = op->name;
    *r = (struct lock_row){.session = cmd->session, .owner = op->owner, .request = op->request, .exclusive = (op->flags & STORE_LOCK_EXCLUSIVE) != 0,
                           .first = range ? op->first : 0, .last = range ? op->last : INT64_MAX, .member = cmd->member, .uid = cmd->uid, .pid = cmd->pid};
    snprintf(r->comm, sizeof r->comm, "%s", cmd->comm);
    return 0;
}

/* The one that the owner has of a thing of which it may have one. */
static struct lock_row *has(struct lock_thing *th, const struct lock_row *want)
{
    for (size_t i = 0; th->class != STORE_LOCK_RANGE && i < th->n; i++)
        if (th->rows[i].token && lock_same_owner(&th->rows[i], want))
            return &th->rows[i];
    return NULL;
}

/* Row `i`, the newest, has somebody before it. */
static int stand_in_line(struct store *s, const struct store_op *op, struct lock_thing *th, size_t i)
{
    bool circle = false;
    int err = 0;

    if (op->flags & STORE_LOCK_NOWAIT)
        err = QE_WOULDBLOCK;
    else if (th->class == STORE_LOCK_RANGE)
        err = lock_deadlock(s, th, i, &circle);
    if (!err && circle)
        err = QE_DEADLOCK;
    if (err)
        th->rows[i].gone = true;
    return err ? err : QE_QUEUED;
}

static int ask(struct store *s, struct txn *t, const struct store_op *op, struct lock_thing *th, const struct lock_row *want)
{
    struct lock_row *had = has(th, want);
    int err = 0;

    if (had && had->exclusive == want->exclusive) {
        had->request = want->request;
        had->changed = true;
        t->token = had->token;
        return 0;
    }
    if (!had && (s->st.n_locks >= STORE_LOCKS_MAX || th->n >= STORE_LOCKS_OF_THING_MAX || !owner_may_lock(s, want->uid)))
        return QE_NOLOCK;
    if (had) {
        lock_drop(th, had);
        err = lock_hand_over(s, t, th);
    }
    if (!err)
        err = lock_thing_add(th, want);
    if (err)
        return err;
    if (lock_blocked(th, th->n - 1))
        return stand_in_line(s, op, th, th->n - 1);
    err = lock_grant(t, th, th->n - 1);
    return err ? err : lock_hand_over(s, t, th); /* less than it had */
}

/* A session that lapsed is not counted until it is heard of; but what it asks for meanwhile must not outlive it. */
static int count_again(struct store *s, const struct txn *t)
{
    struct session *ss = session_find(&s->sessions, t->cmd->session);

    if (!ss || !ss->idle)
        return 0;
    ss->idle = false;
    return event_life(s, &(struct store_life_event){.kind = STORE_LIFE_SESSION, .id = ss->id, .member = ss->member});
}

int op_lock(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    struct lock_thing th;
    struct lock_row want;
    int answer = parse(t, op, &th, &want), err = 0;

    (void)ino;
    if (answer || op->request == 0 || op->flags & STORE_LOCK_WAITING)
        return QE_INVAL;
    answer = lock_thing_take(s, &th);
    if (!answer)
        answer = ask(s, t, op, &th, &want);
    if (!err_is_fatal(answer))
        err = lock_thing_save(s, &th);
    if (!err && (answer == 0 || answer == QE_QUEUED))
        err = count_again(s, t);
    t->stands = true;
    lock_thing_fini(&th);
    return err ? err : answer;
}

/* ---- Giving back --------------------------------------------------------------------------------------------------------- */

/* The range in which a hole would be left; NULL: none. */
static const struct lock_row *split(const struct lock_thing *th, const struct lock_row *what)
{
    for (size_t i = 0; i < th->n; i++)
        if (th->rows[i].token && lock_same_owner(&th->rows[i], what) && th->rows[i].first < what->first && th->rows[i].last > what->last)
            return &th->rows[i];
    return NULL;
}

/* Two ranges come of one: there are limits, as for asking, but a file may have more than that. */
static bool may_split(const struct store *s, const struct lock_thing *th, const struct lock_row *range)
{
    return th->n < 2 * STORE_LOCKS_OF_THING_MAX && s->st.n_locks < STORE_LOCKS_MAX && owner_may_lock(s, range->uid) && !FAILPOINT("store.lock.split");
}

static int give_back(struct store *s, struct lock_thing *th, const struct lock_row *what)
{
    const struct lock_row *range = split(th, what);

    if (range && !may_split(s, th, range))
        return QE_NOLOCK;
    return lock_carve(th, what);
}

/* What it was granted for took the place of what its owner held there, which cannot be had back: so who would rather keep that says `waiting`. */
static int withdraw(struct lock_thing *th, const struct lock_row *what, bool waiting)
{
    for (size_t i = 0; i < th->n; i++) {
        struct lock_row *r = &th->rows[i];

        if (r->session != what->session || r->request != what->request)
            continue;
        if (waiting && r->token)
            return QE_BUSY;
        lock_drop(th, r);
    }
    return 0;
}

int op_unlock(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    struct lock_thing th;
    struct lock_row what;
    int err = parse(t, op, &th, &what);

    (void)ino;
    if (err)
        return err;
    if (op->flags & STORE_LOCK_WAITING && op->request == 0)
        return QE_INVAL;
    err = lock_thing_take(s, &th);
    if (!err)
        err = what.request ? withdraw(&th, &what, (op->flags & STORE_LOCK_WAITING) != 0) : give_back(s, &th, &what);
    if (!err)
        err = lock_hand_over(s, t, &th);
    if (!err)
        err = lock_thing_save(s, &th);
    lock_thing_fini(&th);
    return err;
}

/* ---- Committing what was written under a lock ---------------------------------------------------------------------------------- */

int lock_is_held(struct store *s, const struct txn *t, const struct store_op *op)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_LOCK_HOLDS);
    bool held = false;
    int err;

    bind_i(q, 1, op->flags & STORE_LOCK_CLASS);
    bind_u(q, 2, op->ino);
    bind_u(q, 3, t->cmd->session);
    bind_u(q, 4, op->owner);
    err = conn_row(&s->conn, q, &held);
    conn_reset(q);
    return err ? err : held ? 0 : QE_STALE;
}

/* ---- Proclaiming --------------------------------------------------------------------------------------------------------- */

static int put_value(struct store *s, int64_t id, struct store_bytes value)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_LOCK_VALUE_SET);

    bind_i(q, 1, id);
    if (value.len)
        bind_b(q, 2, value.data, value.len);
    else
        bind_null(q, 2);
    return conn_run(&s->conn, q);
}

int op_proclaim(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    const struct lock_row me = {.session = t->cmd->session, .owner = op->owner};
    struct lock_thing th = {.class = STORE_LOCK_NAMED, .name = op->name};
    struct lock_row *had;
    int err;

    (void)ino;
    if (!store_lock_name_ok(op->name.data, op->name.len))
        return QE_INVAL;
    if (op->bytes.len > STORE_LOCK_VALUE_MAX)
        return QE_2BIG;
    err = lock_thing_take(s, &th);
    had = err ? NULL : has(&th, &me);
    if (!err && (!had || had->token != op->rev))
        err = QE_STALE;
    if (!err) {
        had->vhash = hash_content(op->bytes.data, op->bytes.len);
        had->changed = th.moved = true;
        err = put_value(s, had->id, op->bytes);
    }
    if (!err)
        err = lock_thing_save(s, &th);
    lock_thing_fini(&th);
    return err;
}

/* ---- The end of a session ------------------------------------------------------------------------------------------------ */

struct things { /* those in which a session has locks */
    struct lock_thing *list; /* owned; names are offsets into `names` until all are there */
    size_t n, cap;
    struct buf names;
};

static int things_add(struct things *list, sqlite3_stmt *q)
{
    struct store_bytes name = col_b(q, 2);

    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 16;
        struct lock_thing *more = realloc(list->list, cap * sizeof *more);

        if (!more)
            return QE_NOMEM;
        list->list = more;
        list->cap = cap;
    }
    list->list[list->n++] = (struct lock_thing){.class = (enum store_lock_class)col_i(q, 0), .ino = col_u(q, 1),
                                                .name = {(const void *)(uintptr_t)list->names.len, name.len}};
    return buf_append(&list->names, name.data, name.len);
}

static int things_of(struct store *s, uint64_t session, struct things *list)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_LOCK_THINGS_OF);
    const uint8_t *names;
    bool found;
    int err;

    bind_u(q, 1, session);
    while (!(err = conn_row(&s->conn, q, &found)) && found) {
        err = things_add(list, q);
        if (err)
            break;
    }
    conn_reset(q);
    names = list->names.data ? list->names.data : (const uint8_t *)"";
    for (size_t i = 0; i < list->n; i++)
        list->list[i].name.data = names + (uintptr_t)list->list[i].name.data;
    return err;
}

/* With `holds`, only what it waits for. */
static int end_in(struct store *s, struct txn *t, struct lock_thing *th, uint64_t session, bool *holds)
{
    int err = lock_thing_take(s, th);

    for (size_t i = 0; !err && i < th->n; i++) {
        if (th->rows[i].session != session)
            continue;
        if (holds && th->rows[i].token) {
            *holds = true;
            continue;
        }
        err = lock_tell(s, th, &th->rows[i], STORE_LOCK_LOST);
        lock_drop(th, &th->rows[i]);
    }
    if (!err)
        err = lock_hand_over(s, t, th);
    if (!err)
        err = lock_thing_save(s, th);
    lock_thing_fini(th);
    return err;
}

static int end_all(struct store *s, struct txn *t, uint64_t session, bool *holds)
{
    struct things list = {0};
    int err = things_of(s, session, &list);

    for (size_t i = 0; !err && i < list.n; i++)
        err = end_in(s, t, &list.list[i], session, holds);
    buf_fini(&list.names);
    free(list.list);
    return err;
}

int locks_end_of(struct store *s, struct txn *t, uint64_t session)
{
    return end_all(s, t, session, NULL);
}

int locks_end_waits_of(struct store *s, struct txn *t, uint64_t session, bool *holds)
{
    *holds = false;
    return end_all(s, t, session, holds);
}

int op_lapse(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    uint64_t id = op->rev == 0 && op->ino == 0 ? t->cmd->session : op->ino;
    struct session *ss;

    if (op->rev == 0 && id != t->cmd->session)
        return QE_INVAL;
    if (op->rev != 0 && (uint64_t)op->rev != t->term)
        return QE_STALE;
    ss = session_find(&s->sessions, id);
    if (!ss)
        return QE_NOENT;
    ss->idle = true;
    *ino = id;
    return ss->left ? session_end(s, t, ss) : locks_end_of(s, t, id);
}
