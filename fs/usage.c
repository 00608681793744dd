#include "fs/usage.h"

#include <stdlib.h>

size_t usage_of(const struct usage *table, uid_t uid)
{
    const struct usage *u;

    HASH_FIND(hh, table, &uid, sizeof uid, u);
    return u ? u->n : 0;
}

bool usage_add(struct usage **table, uid_t uid, size_t n)
{
    struct usage *u;

    HASH_FIND(hh, *table, &uid, sizeof uid, u);
    if (n && !u && (u = calloc(1, sizeof *u))) {
        u->uid = uid;
        HASH_ADD(hh, *table, uid, sizeof u->uid, u);
    }
    if (u)
        u->n += n;
    return u || !n;
}

void usage_drop(struct usage **table, uid_t uid, size_t n)
{
    struct usage *u;

    HASH_FIND(hh, *table, &uid, sizeof uid, u);
    if (!u || (u->n -= n))
        return;
    HASH_DEL(*table, u);
    free(u);
}
