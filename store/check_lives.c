/* Leases and locks: files are attached to leases that there are; locks are of sessions that there are, nobody holds what another one excludes,
 * and nobody waits for nothing. */
#include "store/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/lock.h"

/* ---- Leases -------------------------------------------------------------------------------------------------------------- */

static bool check_lease(void *data, const struct store_lease *l)
{
    struct check *k = data;

    if (!store_lease_name_ok(l->name, strlen(l->name)) || l->id == 0 || l->id > (uint64_t)k->s->st.rev || l->ttl_ns < STORE_LEASE_TTL_MIN ||
        l->ttl_ns > STORE_LEASE_TTL_MAX || l->left_ns < 0 || l->left_ns >= l->ttl_ns || l->renewed > k->s->st.applied)
        check_damage(k, "lease %" PRIu64 ", \"%s\", cannot be", l->id, l->name);
    k->found.hash += hash_lease(l);
    return true;
}

static int check_attached(struct check *k)
{
    sqlite3_stmt *q;
    bool found;
    int err = check_query(k, "SELECT n.ino, n.lease, n.parent IS NULL, l.id IS NULL FROM node n LEFT JOIN lease l ON l.id = n.lease "
                             "WHERE n.lease IS NOT NULL", &q);

    if (err)
        return err;
    while (!(err = conn_row(&k->s->conn, q, &found)) && found) {
        if (col_i(q, 2) || store_ino_kind(col_u(q, 0)) != STORE_FILE)
            check_damage(k, "inode %" PRIu64 " is attached to a lease, and is deleted or no file", col_u(q, 0));
        if (col_i(q, 3))
            check_damage(k, "inode %" PRIu64 " is attached to lease %" PRIu64 ", which there is not", col_u(q, 0), col_u(q, 1));
    }
    sqlite3_finalize(q);
    return err;
}

/* ---- Locks --------------------------------------------------------------------------------------------------------------- */

static bool thing_ok(const struct lock_thing *th)
{
    if (th->class == STORE_LOCK_NAMED)
        return th->ino == 0 && store_lock_name_ok(th->name.data, th->name.len);
    return (th->class == STORE_LOCK_WHOLE || th->class == STORE_LOCK_RANGE) && th->ino && th->name.len == 0;
}

static void check_lock(struct check *k, struct lock_thing *th, size_t i)
{
    const struct lock_row *r = &th->rows[i];
    const struct session *ss = session_find(&k->s->sessions, r->session);

    if (!ss || ss->member != r->member)
        check_damage(k, "lock %" PRId64 " is of session %" PRIu64 " of member %" PRIu32 ", which there is not", r->id, r->session, r->member);
    if (r->token < 0 || r->token > k->s->st.rev || r->request == 0 || r->first < 0 || r->last < r->first || r->id <= 0 ||
        (th->class != STORE_LOCK_RANGE && (r->first || r->last != INT64_MAX)) || (r->vhash && (th->class != STORE_LOCK_NAMED || !r->token)))
        check_damage(k, "lock %" PRId64 " cannot be", r->id);
    if (!r->token && !lock_blocked(th, i))
        check_damage(k, "lock %" PRId64 " waits, and nothing is in its way", r->id);
    k->found.hash += hash_lock(th, r);
}

static int by_first(const void *a, const void *b)
{
    const struct lock_row *x = *(const struct lock_row *const *)a, *y = *(const struct lock_row *const *)b;

    return x->first != y->first ? (x->first > y->first) - (x->first < y->first) : (x->id > y->id) - (x->id < y->id);
}

static int by_owner(const void *a, const void *b)
{
    const struct lock_row *x = *(const struct lock_row *const *)a, *y = *(const struct lock_row *const *)b;

    if (!lock_same_owner(x, y))
        return x->session != y->session ? (x->session > y->session) - (x->session < y->session) : (x->owner > y->owner) - (x->owner < y->owner);
    return by_first(a, b);
}

static void together(struct check *k, const struct lock_row *a, const struct lock_row *b)
{
    check_damage(k, "locks %" PRId64 " and %" PRId64 " cannot be held together", a->id, b->id);
}

/* From the lowest byte on: whoever reaches furthest, of all and of those that exclude others, tells of each one that begins. */
static void check_held(struct check *k, const struct lock_row **list, size_t n)
{
    const struct lock_row *any = NULL, *exclusive = NULL;

    qsort(list, n, sizeof *list, by_first);
    for (size_t i = 0; i < n; i++) {
        const struct lock_row *r = list[i], *before = r->exclusive ? any : exclusive;

        if (before && before->last >= r->first)
            together(k, before, r);
        any = !any || r->last > any->last ? r : any;
        if (r->exclusive && (!exclusive || r->last > exclusive->last))
            exclusive = r;
    }
    qsort(list, n, sizeof *list, by_owner);
    for (size_t i = 1; i < n; i++)
        if (!list[i]->exclusive && !list[i - 1]->exclusive && lock_same_owner(list[i], list[i - 1]) && list[i - 1]->last >= list[i]->first)
            together(k, list[i - 1], list[i]);
}

static int check_holders(struct check *k, const struct lock_thing *th)
{
    const struct lock_row **list = malloc((th->n + 1) * sizeof *list);
    size_t n = 0;

    if (!list)
        return QE_NOMEM;
    for (size_t i = 0; i < th->n; i++)
        if (th->rows[i].token)
            list[n++] = &th->rows[i];
    check_held(k, list, n);
    free(list);
    return 0;
}

static int check_thing(struct check *k, struct lock_thing *th)
{
    int err = lock_thing_load(&k->s->conn, th);

    if (!err && !thing_ok(th))
        check_damage(k, "a lock is of class %d on inode %" PRIu64, (int)th->class, th->ino);
    for (size_t i = 0; !err && i < th->n; i++)
        check_lock(k, th, i);
    if (!err)
        err = check_holders(k, th);
    lock_thing_fini(th);
    return err;
}

static int check_things(struct check *k)
{
    sqlite3_stmt *q;
    bool found;
    int err = check_query(k, "SELECT DISTINCT class, ino, name FROM lock", &q);

    if (err)
        return err;
    while (!(err = conn_row(&k->s->conn, q, &found)) && found) {
        struct lock_thing th = {.class = (enum store_lock_class)col_i(q, 0), .ino = col_u(q, 1), .name = col_b(q, 2)};

        err = check_thing(k, &th);
        if (err)
            break;
    }
    sqlite3_finalize(q);
    return err;
}

static int check_values(struct check *k)
{
    sqlite3_stmt *q;
    bool found;
    int err = check_query(k, "SELECT id, vhash, value FROM lock WHERE vhash <> 0 OR value IS NOT NULL", &q);

    if (err)
        return err;
    while (!(err = conn_row(&k->s->conn, q, &found)) && found) {
        struct store_bytes value = col_b(q, 2);

        if (value.len > STORE_LOCK_VALUE_MAX || hash_content(value.data, value.len) != col_u(q, 1))
            check_damage(k, "the value of lock %" PRId64 " is not what was written", col_i(q, 0));
    }
    sqlite3_finalize(q);
    return err;
}

int check_lives(struct check *k)
{
    int err = leases_each(&k->s->conn, "", check_lease, k);

    if (!err)
        err = check_attached(k);
    if (!err)
        err = check_things(k);
    return err ? err : check_values(k);
}
