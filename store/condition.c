/* Conditions: what a command demands of the state at which it is applied. They are looked at before its first operation, so all of them
 * see the same revision, and reading them changes nothing. */
#include <string.h>

#include "store/internal.h"

static bool holds(int64_t value, const struct store_condition *c)
{
    switch (c->compare) {
    case STORE_EQ: return value == c->number;
    case STORE_NE: return value != c->number;
    case STORE_LT: return value < c->number;
    case STORE_GT: return value > c->number;
    }
    return false;
}

static int bound_to(struct store *s, uint64_t parent, struct store_bytes name, uint64_t *ino)
{
    int err = lookup_at(&s->conn, STORE_HEAD, parent, name, ino);

    if (err == QE_NOENT) {
        *ino = 0;
        err = 0;
    }
    return err;
}

static int unchanged(struct store *s, const struct store_condition *c, bool *yes)
{
    struct store_attr attr;
    struct content_at where;
    int err = attr_at(&s->conn, STORE_HEAD, c->ino, &attr, &where);

    *yes = !err && attr.mod_rev <= c->number;
    return err == QE_NOENT ? 0 : err;
}

static int list_unchanged(struct store *s, const struct store_condition *c, bool *yes)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_NODE_ENTRIES);
    bool found;
    int err;

    *yes = false;
    bind_u(q, 1, c->ino);
    err = conn_row(&s->conn, q, &found);
    if (err || !found)
        return err;
    *yes = col_i(q, 0) <= c->number;
    conn_reset(q);
    return 0;
}

/* The inode that a path from the root leads to; 0: none. */
static int walk(struct store *s, struct store_bytes path, uint64_t *ino)
{
    const char *p = path.data, *end = p + path.len;
    int err = 0;

    *ino = STORE_ROOT_INO;
    while (!err && *ino && p < end) {
        const char *slash = memchr(p, '/', (size_t)(end - p)), *stop = slash ? slash : end;

        if (stop > p)
            err = bound_to(s, *ino, (struct store_bytes){p, (size_t)(stop - p)}, ino);
        p = slash ? slash + 1 : end;
    }
    return err;
}

static int content_is(struct store *s, uint64_t ino, const struct content_at *where, struct store_bytes text, bool *yes)
{
    int err;

    *yes = false;
    if (store_ino_kind(ino) != STORE_FILE || (size_t)where->size != text.len)
        return 0;
    buf_clear(&s->scratch);
    err = content_of(&s->conn, where, &s->scratch);
    *yes = !err && (text.len == 0 || !memcmp(s->scratch.data, text.data, text.len));
    return err;
}

static int lease_is(struct store *s, uint64_t id, struct store_bytes name, bool *yes)
{
    struct store_lease lease;
    int err = id ? lease_by_id(&s->conn, id, &lease) : QE_NOENT;

    *yes = !err && name.len == strlen(lease.name) && !memcmp(lease.name, name.data, name.len);
    return err == QE_NOENT ? 0 : err;
}

static int demanded(struct store *s, const struct store_condition *c, bool *yes)
{
    struct store_attr attr = {0};
    struct content_at where;
    uint64_t ino;
    int err = walk(s, c->name, &ino);

    if (!err && ino)
        err = attr_at(&s->conn, STORE_HEAD, ino, &attr, &where);
    if (err)
        return err;
    switch (c->kind) {
    case STORE_IF_EXISTS: *yes = ino != 0; break;
    case STORE_IF_ABSENT: *yes = ino == 0; break;
    case STORE_IF_VERSION: *yes = holds(attr.version, c); break;
    case STORE_IF_CREATE_REV: *yes = holds(attr.create_rev, c); break;
    case STORE_IF_MOD_REV: *yes = holds(attr.mod_rev, c); break;
    case STORE_IF_CONTENT: *yes = false; return ino ? content_is(s, ino, &where, c->bytes, yes) : 0;
    case STORE_IF_LEASE: return lease_is(s, attr.lease, c->bytes, yes);
    default: return QE_CORRUPT; /* the decoder lets no other kind through */
    }
    return 0;
}

static int condition(struct store *s, const struct store_condition *c, bool *yes)
{
    uint64_t ino;
    int err;

    switch (c->kind) {
    case STORE_IF_BOUND:
        err = bound_to(s, c->parent, c->name, &ino);
        *yes = !err && ino == c->ino;
        return err;
    case STORE_IF_UNCHANGED: return unchanged(s, c, yes);
    case STORE_IF_LIST: return list_unchanged(s, c, yes);
    case STORE_IF_LOCK: return lock_has_token(&s->conn, c->name, c->number, yes);
    default: return demanded(s, c, yes);
    }
}

int conditions_check(struct store *s, const struct store_command *cmd, uint64_t *at)
{
    for (size_t i = 0; i < cmd->n_conditions; i++) {
        bool yes = false;
        int err = condition(s, &cmd->conditions[i], &yes);

        ++*at;
        if (err || !yes)
            return err ? err : QE_CANCELED;
    }
    return 0;
}
