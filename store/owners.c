/* How many leases and locks each user has, so that one user leaves room for others: nobody but root has more than are free then. One user can
 * have half of all there can be, a second one half of the rest, and so on: however many try, the next one finds some. In memory; it follows the
 * tables, so all members agree. */
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

struct owner {
    uint32_t uid;
    int64_t n_leases, n_locks; /* not both 0 */
};

static size_t lower_bound(const struct owner_table *t, uint32_t uid)
{
    size_t lo = 0, hi = t->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (t->list[mid].uid < uid)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool is_at(const struct owner_table *t, size_t i, uint32_t uid)
{
    return i < t->n && t->list[i].uid == uid;
}

static int insert(struct owner_table *t, size_t i, uint32_t uid)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 16;
        struct owner *list = realloc(t->list, cap * sizeof *list);

        if (!list)
            return QE_NOMEM;
        t->list = list;
        t->cap = cap;
    }
    memmove(&t->list[i + 1], &t->list[i], (t->n - i) * sizeof *t->list);
    t->list[i] = (struct owner){.uid = uid};
    t->n++;
    return 0;
}

int owner_count(struct store *s, uint32_t uid, int64_t leases, int64_t locks)
{
    struct owner_table *t = &s->owners;
    size_t i = lower_bound(t, uid);
    int err = is_at(t, i, uid) || (leases == 0 && locks == 0) ? 0 : insert(t, i, uid);

    if (err || !is_at(t, i, uid))
        return err;
    t->list[i].n_leases += leases;
    t->list[i].n_locks += locks;
    if (t->list[i].n_leases == 0 && t->list[i].n_locks == 0) {
        t->n--;
        memmove(&t->list[i], &t->list[i + 1], (t->n - i) * sizeof *t->list);
    }
    return 0;
}

bool owner_may_lease(const struct store *s, uint32_t uid)
{
    size_t i = lower_bound(&s->owners, uid);

    return uid == 0 || !is_at(&s->owners, i, uid) || s->owners.list[i].n_leases < STORE_LEASES_MAX - s->st.n_leases;
}

bool owner_may_lock(const struct store *s, uint32_t uid)
{
    size_t i = lower_bound(&s->owners, uid);

    return uid == 0 || !is_at(&s->owners, i, uid) || s->owners.list[i].n_locks < STORE_LOCKS_MAX - s->st.n_locks;
}

/* Rows of a user and how many it has. */
static int load(struct store *s, enum stmt id, bool locks)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, id);
    bool found;
    int err;

    while (!(err = conn_row(&s->conn, q, &found)) && found) {
        err = owner_count(s, (uint32_t)col_i(q, 0), locks ? 0 : col_i(q, 1), locks ? col_i(q, 1) : 0);
        if (err)
            break;
    }
    conn_reset(q);
    return err;
}

int owners_load(struct store *s)
{
    int err;

    s->owners.n = 0;
    err = load(s, STMT_LEASE_OWNERS, false);
    return err ? err : load(s, STMT_LOCK_OWNERS, true);
}

void owners_fini(struct owner_table *t)
{
    free(t->list);
    *t = (struct owner_table){0};
}
