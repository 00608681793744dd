/* Members: who belongs to the cluster, where the others reach it, and what it is to be. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

bool store_address_ok(const char *address)
{
    const char *colon = strrchr(address, ':');
    char *end;
    long port;

    if (!colon || colon == address || !isdigit((unsigned char)colon[1]) || strlen(address) > STORE_ADDRESS_MAX)
        return false;
    if (memchr(address, ':', (size_t)(colon - address)) && (*address != '[' || colon[-1] != ']'))
        return false; /* IPv6 addresses need brackets */
    for (const char *p = address; *p; p++)
        if (!isgraph((unsigned char)*p) || *p == ',' || *p == '/' || *p == '"')
            return false;
    port = strtol(colon + 1, &end, 10);
    return !*end && port >= 1 && port <= 65535;
}

int member_check(const struct store_member *m, int64_t next_member)
{
    if (m->id == 0 || m->id >= next_member || m->role < STORE_MEMBER_STANDBY || m->role > STORE_MEMBER_LEAVING)
        return QE_CORRUPT;
    return !*m->address || store_address_ok(m->address) ? 0 : QE_CORRUPT;
}

/* ---- Rows ---------------------------------------------------------------------------------------------------------------- */

int members_each(struct conn *c, store_member_cb cb, void *data)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_MEMBER_ALL);
    bool found;
    int err;

    while (!(err = conn_row(c, q, &found)) && found) {
        const char *address = (const char *)sqlite3_column_text(q, 1);
        struct store_member m = {.id = (uint32_t)col_i(q, 0), .address = address ? address : "", .role = (enum store_member_role)col_i(q, 2),
                                 .nonce = col_u(q, 3)};

        cb(data, &m);
    }
    return err;
}

static int put(struct store *s, const struct store_member *m)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_MEMBER_SET);

    bind_i(q, 1, m->id);
    bind_t(q, 2, m->address);
    bind_i(q, 3, m->role);
    bind_u(q, 4, m->nonce);
    return conn_run(&s->conn, q);
}

int members_initial(struct store *s, const struct store_initial *initial)
{
    int err = 0;

    for (size_t i = 0; !err && i < initial->n_members; i++) {
        const struct store_member *m = &initial->members[i];

        if (m->id < s->st.next_member)
            return QE_INVAL; /* not ascending */
        s->st.next_member = (int64_t)m->id + 1;
        if (member_check(m, s->st.next_member))
            return QE_INVAL;
        s->st.hash += hash_member(m);
        err = put(s, m);
    }
    return err;
}

/* ---- Operation ----------------------------------------------------------------------------------------------------------- */

struct found { /* a row, with memory for its text */
    struct store_member m;
    char address[STORE_ADDRESS_MAX + 1];
};

static int get(struct store *s, uint64_t id, struct found *out)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_MEMBER_GET);
    struct store_bytes address;
    bool there;
    int err;

    if (id == 0 || id > STORE_MEMBER_ID_MAX)
        return QE_NOENT;
    bind_u(q, 1, id);
    err = conn_row(&s->conn, q, &there);
    if (err || !there)
        return err ? err : QE_NOENT;
    address = col_b(q, 0);
    out->m = (struct store_member){.id = (uint32_t)id, .address = out->address, .role = (enum store_member_role)col_i(q, 1), .nonce = col_u(q, 2)};
    if (address.len < sizeof out->address)
        memcpy(out->address, address.data ? address.data : "", address.len);
    else
        err = QE_CORRUPT;
    out->address[err ? 0 : address.len] = 0;
    conn_reset(q);
    return err;
}

int member_find(struct store *s, uint32_t id)
{
    struct found row;

    return get(s, id, &row);
}

static int count(struct store *s, int64_t *all, int64_t *voters)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_MEMBER_COUNT);
    bool there;
    int err;

    bind_i(q, 1, STORE_MEMBER_VOTER);
    err = conn_row(&s->conn, q, &there);
    if (err || !there)
        return err ? err : QE_CORRUPT;
    *all = col_i(q, 0);
    *voters = col_i(q, 1);
    conn_reset(q);
    return 0;
}

/* The member that was added by this nonce; 0: none. */
static int by_nonce(struct store *s, uint64_t nonce, uint64_t *id)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_MEMBER_BY_NONCE);
    bool there;
    int err;

    bind_u(q, 1, nonce);
    err = conn_row(&s->conn, q, &there);
    *id = !err && there ? col_u(q, 0) : 0;
    if (!err && there)
        conn_reset(q);
    return err;
}

static bool address_of(const struct store_op *op, char out[STORE_ADDRESS_MAX + 1])
{
    if (op->name.len > STORE_ADDRESS_MAX || (op->name.len && memchr(op->name.data, 0, op->name.len)))
        return false;
    if (op->name.len)
        memcpy(out, op->name.data, op->name.len);
    out[op->name.len] = 0;
    return !*out || store_address_ok(out);
}

static bool role_ok(const struct store_op *op)
{
    return op->mode == STORE_MEMBER_STANDBY || op->mode == STORE_MEMBER_VOTER;
}

/* Writes the row in place of the one that the hash has now (NULL: none). */
static int replace(struct store *s, const struct store_member *was, const struct store_member *is)
{
    if (was)
        s->st.hash -= hash_member(was);
    s->st.hash += hash_member(is);
    s->members_changed = true;
    return put(s, is);
}

static int add(struct store *s, const struct store_op *op, uint64_t *id)
{
    char address[STORE_ADDRESS_MAX + 1];
    struct store_member m = {.address = address, .role = (enum store_member_role)op->mode, .nonce = op->new_ino};
    int64_t all, voters;
    int err;

    if (!address_of(op, address) || !*address || !role_ok(op) || op->new_ino == 0 || op->new_ino > INT64_MAX)
        return QE_INVAL;
    err = by_nonce(s, op->new_ino, id);
    if (err || *id)
        return err;
    err = count(s, &all, &voters);
    if (err)
        return err;
    if (all >= STORE_MEMBERS_MAX || s->st.next_member > STORE_MEMBER_ID_MAX)
        return QE_NOSPC;
    if (voters >= STORE_VOTERS_MAX)
        m.role = STORE_MEMBER_STANDBY;
    m.id = (uint32_t)s->st.next_member++;
    *id = m.id;
    return replace(s, NULL, &m);
}

static int set_address(struct store *s, const struct store_op *op, const struct found *row)
{
    char address[STORE_ADDRESS_MAX + 1];
    struct store_member m = row->m;

    if (!address_of(op, address))
        return QE_INVAL;
    m.address = address;
    return strcmp(address, row->address) ? replace(s, &row->m, &m) : 0;
}

static int set_role(struct store *s, const struct store_op *op, const struct found *row)
{
    struct store_member m = row->m;
    int64_t all, voters;
    int err;

    if (!role_ok(op) && op->mode != STORE_MEMBER_LEAVING)
        return QE_INVAL;
    if (row->m.role == (enum store_member_role)op->mode)
        return 0;
    if (row->m.role == STORE_MEMBER_LEAVING)
        return QE_BUSY;
    err = count(s, &all, &voters);
    if (err)
        return err;
    if (op->mode == STORE_MEMBER_LEAVING && all == 1)
        return QE_BUSY;
    if (op->mode == STORE_MEMBER_VOTER && voters >= STORE_VOTERS_MAX)
        return QE_NOSPC;
    m.role = (enum store_member_role)op->mode;
    return replace(s, &row->m, &m);
}

static int remove_member(struct store *s, struct txn *t, const struct found *row)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_MEMBER_DELETE);
    int64_t all, voters;
    int err = count(s, &all, &voters);

    if (err || all == 1)
        return err ? err : QE_BUSY;
    err = sessions_leave(s, t, row->m.id);
    if (err)
        return err;
    s->st.hash -= hash_member(&row->m);
    s->members_changed = true;
    bind_i(q, 1, row->m.id);
    return conn_run(&s->conn, q);
}

int op_member(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    struct found row;
    uint64_t id = op->ino;
    int err;

    if (op->flags < STORE_MEMBER_ADD || op->flags > STORE_MEMBER_REMOVE)
        return QE_INVAL;
    if (op->flags == STORE_MEMBER_ADD) {
        err = add(s, op, &id);
    } else {
        err = get(s, op->ino, &row);
        if (!err)
            err = op->flags == STORE_MEMBER_ADDRESS ? set_address(s, op, &row) : op->flags == STORE_MEMBER_ROLE ? set_role(s, op, &row) :
                  remove_member(s, t, &row);
    }
    if (!err)
        *ino = id;
    return err;
}
