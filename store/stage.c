/* Staged transactions: what is too large for one log entry comes in parts, each an encoded command, and takes effect with one more.
 *
 *     STAGE 0, STAGE 1, ... STAGE n-1     rows of table stage; nobody sees a difference
 *     STAGED n                            all conditions, then all operations, in one revision; the rows go
 *
 * A session has one at a time: the next STAGE 0 forgets it, and so does the end of the session. Parts are decoded one by one, twice: for
 * their conditions, for their operations. So applying needs memory for the largest part only, whatever the transaction's size; the time
 * is that of the operations, and the store thread does nothing else meanwhile. */
#include <string.h>

#include "store/internal.h"

/* ---- Rows ---------------------------------------------------------------------------------------------------------------- */

int stage_forget(struct store *s, struct session *ss)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_STAGE_HASHES);
    bool found;
    int err;

    if (ss->stage_parts == 0)
        return 0;
    bind_u(q, 1, ss->id);
    while (!(err = conn_row(&s->conn, q, &found)) && found)
        s->st.hash -= hash_stage(ss->id, col_u(q, 2), col_i(q, 1), col_u(q, 3));
    if (err)
        return err;
    q = conn_stmt(&s->conn, STMT_STAGE_DELETE);
    bind_u(q, 1, ss->id);
    ss->stage_id = 0;
    ss->stage_parts = ss->stage_bytes = 0;
    return conn_run(&s->conn, q);
}

int stages_load(struct store *s)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_STAGE_ALL);
    bool found;
    int err;

    while (!(err = conn_row(&s->conn, q, &found)) && found) {
        struct session *ss = session_find(&s->sessions, col_u(q, 0));

        if (!ss) {
            conn_reset(q);
            return QE_CORRUPT;
        }
        ss->stage_id = col_u(q, 1);
        ss->stage_parts = col_i(q, 2) + 1;
        ss->stage_bytes = col_i(q, 3);
    }
    return err;
}

static int put_part(struct store *s, struct session *ss, const struct store_op *op)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_STAGE_INSERT);
    uint64_t hash = hash_content(op->bytes.data, op->bytes.len);

    bind_u(q, 1, ss->id);
    bind_i(q, 2, op->rev);
    bind_u(q, 3, op->ino);
    bind_u(q, 4, hash);
    bind_b(q, 5, op->bytes.data, op->bytes.len);
    s->st.hash += hash_stage(ss->id, op->ino, op->rev, hash);
    ss->stage_id = op->ino;
    ss->stage_parts++;
    ss->stage_bytes += (int64_t)op->bytes.len;
    return conn_run(&s->conn, q);
}

int op_stage(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    struct session *ss = session_find(&s->sessions, t->cmd->session);
    int err = 0;

    (void)ino;
    if (!ss || op->ino == 0 || op->ino > INT64_MAX || op->bytes.len == 0 || op->rev < 0)
        return QE_INVAL;
    if (op->rev > 0 && (op->ino != ss->stage_id || op->rev != ss->stage_parts))
        return QE_STALE;
    if ((int64_t)op->bytes.len > STORE_STAGE_BYTES_MAX - (op->rev ? ss->stage_bytes : 0))
        return QE_2BIG;
    if (op->rev == 0)
        err = stage_forget(s, ss);
    return err ? err : put_part(s, ss, op);
}

/* ---- Taking effect ------------------------------------------------------------------------------------------------------- */

/* Part `i`, decoded into s->part_arena. */
static int get_part(struct store *s, const struct session *ss, int64_t i, struct store_command *out)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_STAGE_GET);
    struct store_bytes data;
    bool found;
    int err;

    bind_u(q, 1, ss->id);
    bind_i(q, 2, i);
    err = conn_row(&s->conn, q, &found);
    if (err || !found)
        return err ? err : QE_CORRUPT;
    data = col_b(q, 0);
    err = hash_content(data.data, data.len) == col_u(q, 1) ? command_decode(s->part_arena, data, out) : QE_CORRUPT;
    conn_reset(q);
    return err;
}

static int check_parts(struct store *s, const struct session *ss, uint64_t *at)
{
    size_t n_ops = 0;
    int err = 0;

    for (int64_t i = 0; !err && i < ss->stage_parts; i++) {
        struct store_command part;

        err = get_part(s, ss, i, &part);
        for (size_t k = 0; !err && k < part.n_ops; k++)
            if (part.ops[k].kind >= STORE_OP_SETTING)
                err = QE_INVAL;
        if (!err && part.n_ops > STORE_OPS_MAX - n_ops)
            err = QE_INVAL;
        if (!err) {
            n_ops += part.n_ops;
            err = conditions_check(s, &part, at);
        }
    }
    return err;
}

int stage_run(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino, uint64_t *at)
{
    const struct session *ss = session_find(&s->sessions, t->cmd->session);
    int err;

    if (!ss || ss->stage_id != op->ino || ss->stage_parts == 0 || ss->stage_parts != op->rev)
        return QE_STALE;
    err = check_parts(s, ss, at);
    if (!err)
        *at = 0;
    for (int64_t i = 0; !err && i < ss->stage_parts; i++) {
        struct store_command part;

        err = get_part(s, ss, i, &part);
        if (!err)
            err = run_ops(s, t, part.ops, part.n_ops, ino, at);
    }
    return err;
}
