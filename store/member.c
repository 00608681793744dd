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
    if (m->id == 0 || m->id >= next_member || (m->role != STORE_MEMBER_STANDBY && m->role != STORE_MEMBER_VOTER))
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
