/* Applying log entries: one SQLite transaction for the entries at hand, a revision for each command that changes something.
 *
 * Story: skip what is applied already; BEGIN; each command of each entry is decoded, looked up in its session (a repetition is
 * answered from there), dispatched, and its result kept; the leader's time, the sessions and the row meta are written; COMMIT; the
 * glance is published; the callbacks run. Anything that goes wrong with disk, memory or the entry itself rolls back to before the
 * first entry, and what is in memory is read again. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/failpoint.h"
#include "store/internal.h"

enum { SCRATCH_KEPT = 256 << 10 };

typedef int (*op_fn)(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino);

static const op_fn handlers[] = {
    [STORE_OP_COMMIT] = op_commit, [STORE_OP_CREATE] = op_create, [STORE_OP_MKDIR] = op_create, [STORE_OP_SYMLINK] = op_create,
    [STORE_OP_UNLINK] = op_remove, [STORE_OP_RMDIR] = op_remove, [STORE_OP_RENAME] = op_rename, [STORE_OP_SETATTR] = op_setattr,
    [STORE_OP_SETXATTR] = op_setxattr, [STORE_OP_REMOVEXATTR] = op_removexattr, [STORE_OP_SETTING] = op_setting,
    [STORE_OP_COMPACT] = op_compact, [STORE_OP_SESSION] = op_session, [STORE_OP_SESSION_END] = op_session_end, [STORE_OP_RESERVE] = op_reserve,
    [STORE_OP_MEMBER] = op_member, [STORE_OP_STAGE] = op_stage, [STORE_OP_BOOKMARK] = op_bookmark,
    [STORE_OP_LOCK] = op_lock, [STORE_OP_UNLOCK] = op_unlock, [STORE_OP_PROCLAIM] = op_proclaim, [STORE_OP_LAPSE] = op_lapse,
    [STORE_OP_LEASE] = op_lease,
};

/* ---- What the batch tells its caller ------------------------------------------------------------------------------------- */

static int name_add(struct buf *names, const void *name, size_t len, struct store_bytes *out)
{
    *out = (struct store_bytes){(const void *)(uintptr_t)names->len, len};
    return buf_append(names, name, len);
}

int change_add(struct store *s, struct txn *t, int op, const struct node *n)
{
    struct changes *list = &s->changes;
    struct store_change *c;
    int err;

    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 64;
        struct store_change *p = realloc(list->list, cap * sizeof *p);

        if (!p)
            return QE_NOMEM;
        list->list = p;
        list->cap = cap;
    }
    c = &list->list[list->n];
    *c = (struct store_change){.rev = t->rev, .op = op, .ino = n->ino, .parent = n->parent, .member = t->cmd->member,
                               .unasked = t->unasked};
    if (op == STORE_EV_PUT && n->create_rev == t->rev && n->version == 1)
        c->made = STORE_MADE_FILE;
    err = name_add(&list->names, n->name, n->name_len, &c->name);
    if (!err && op == STORE_EV_RENAME) {
        c->old_parent = n->was.parent;
        err = name_add(&list->names, n->was.name, n->was.name_len, &c->old_name);
    }
    if (!err)
        list->n++;
    return err;
}

static void changes_seal(struct changes *list)
{
    const uint8_t *names = list->names.data ? list->names.data : (const uint8_t *)"";

    for (size_t i = 0; i < list->n; i++) {
        list->list[i].name.data = names + (uintptr_t)list->list[i].name.data;
        list->list[i].old_name.data = names + (uintptr_t)list->list[i].old_name.data;
    }
}

static int result_add(struct store *s, const struct store_result *r)
{
    if (s->n_results == s->cap_results) {
        size_t cap = s->cap_results ? s->cap_results * 2 : 64;
        struct store_result *p = realloc(s->results, cap * sizeof *p);

        if (!p)
            return QE_NOMEM;
        s->results = p;
        s->cap_results = cap;
    }
    s->results[s->n_results++] = *r;
    return 0;
}

/* ---- One command --------------------------------------------------------------------------------------------------------- */

int run_ops(struct store *s, struct txn *t, const struct store_op *ops, size_t n, uint64_t *ino, uint64_t *at)
{
    int err = 0;

    for (size_t i = 0; !err && i < n; i++) {
        ++*at;
        err = handlers[ops[i].kind](s, t, &ops[i], ino);
    }
    return err;
}

static int run_checked(struct store *s, struct txn *t, uint64_t *ino, uint64_t *at)
{
    const struct store_command *cmd = t->cmd;
    int err;

    if (cmd->n_ops && cmd->ops[0].kind == STORE_OP_STAGED)
        return stage_run(s, t, &cmd->ops[0], ino, at);
    err = conditions_check(s, cmd, at);
    if (err)
        return err;
    *at = 0;
    return run_ops(s, t, cmd->ops, cmd->n_ops, ino, at);
}

/* Several operations take effect together: what the first did is undone when the second fails. One alone checks before it writes. */
static int run_group(struct store *s, struct txn *t, uint64_t *ino, uint64_t *at)
{
    struct state before = s->st;
    size_t n_changes = s->changes.n, names_len = s->changes.names.len;
    int err = conn_do(&s->conn, STMT_SAVEPOINT), answer;

    if (err)
        return err;
    answer = run_checked(s, t, ino, at);
    if (err_is_fatal(answer))
        return answer;
    if (answer) {
        err = conn_do(&s->conn, STMT_ROLLBACK_TO);
        s->st = before;
        s->changes.n = n_changes;
        s->changes.names.len = names_len;
    }
    if (!err)
        err = conn_do(&s->conn, STMT_RELEASE);
    return err ? err : answer;
}

/* The parts have been used, or never will be. */
static int forget_staged(struct store *s, const struct store_command *cmd)
{
    struct session *ss = session_find(&s->sessions, cmd->session);

    return ss && ss->stage_id == cmd->ops[0].ino ? stage_forget(s, ss) : 0;
}

static int run_command(struct store *s, struct txn *t, uint64_t *ino)
{
    const struct store_command *cmd = t->cmd;
    bool staged = cmd->n_ops && cmd->ops[0].kind == STORE_OP_STAGED;
    uint64_t at = 0;
    int answer, err = 0;

    if (cmd->n_ops == 1 && cmd->n_conditions == 0 && !staged)
        return run_ops(s, t, cmd->ops, 1, ino, &at);
    answer = run_group(s, t, ino, &at);
    if (answer)
        *ino = at;
    if (staged && !err_is_fatal(answer))
        err = forget_staged(s, cmd);
    return err ? err : answer;
}

/* Operations that are not about the tree stand alone. */
static bool well_formed(const struct store_command *cmd)
{
    if ((cmd->n_ops == 0 && cmd->n_conditions == 0) || cmd->n_ops > STORE_OPS_MAX)
        return false;
    for (size_t i = 0; cmd->n_ops > 1 && i < cmd->n_ops; i++)
        if (cmd->ops[i].kind >= STORE_OP_SETTING)
            return false;
    return cmd->n_conditions == 0 || cmd->n_ops == 0 || cmd->ops[0].kind < STORE_OP_SETTING;
}

static int apply_command(struct store *s, uint64_t index, uint64_t term, const struct store_command *cmd)
{
    struct txn t = {.cmd = cmd, .rev = s->st.rev + 1, .index = index, .term = term};
    struct store_result r;
    uint64_t ino = 0;
    int err;

    if (session_answers(s, cmd, &r))
        return result_add(s, &r);
    r.err = well_formed(cmd) ? run_command(s, &t, &ino) : QE_INVAL;
    if (err_is_fatal(r.err))
        return r.err;
    if ((!r.err || t.stands) && t.takes_rev)
        s->st.rev = t.rev;
    r.ino = ino;
    r.rev = t.token ? t.token : s->st.rev;
    err = session_keep(s, cmd, &r);
    return err ? err : result_add(s, &r);
}

/* ---- One entry ----------------------------------------------------------------------------------------------------------- */

static int put_time(struct store *s, int64_t time_ns, int64_t rev)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_TIME_SET);

    s->st.last_time = time_ns;
    s->st.last_time_rev = rev;
    bind_i(q, 1, time_ns);
    bind_i(q, 2, rev);
    return conn_run(&s->conn, q);
}

/* A row for each step of time with changes. Before the time goes on, be it by an entry without a change, what came before it gets a row as
 * well if the newest row does not tell of it: else the whole pause would be taken for the time of an older revision. */
static int keep_time(struct store *s, int64_t rev_before, int64_t time_before)
{
    int err = 0;

    if (s->st.time < s->st.last_time + STORE_TIME_STEP_NS)
        return 0;
    if (rev_before > s->st.last_time_rev && time_before < s->st.time)
        err = put_time(s, time_before, rev_before);
    return err || s->st.rev == rev_before ? err : put_time(s, s->st.time, s->st.rev);
}

static int apply_entry(struct store *s, const struct store_entry *e)
{
    int64_t rev_before = s->st.rev, time_before = s->st.time;
    struct entry_view v;
    int err = entry_open(e->data.data, e->data.len, s->cluster_id, &v);

    if (err)
        snprintf(s->conn.msg, sizeof s->conn.msg, "log entry %" PRIu64 " is damaged, foreign or of a newer format", e->index);
    if (!err && v.time_ns > s->st.time)
        s->st.time = v.time_ns;
    for (uint32_t i = 0; !err && i < v.count; i++) {
        struct store_command cmd;
        struct store_bytes bytes;

        err = entry_next(&v, &bytes);
        if (!err)
            err = command_decode(s->arena, bytes, &cmd);
        if (err)
            snprintf(s->conn.msg, sizeof s->conn.msg, "command %" PRIu32 " of log entry %" PRIu64 " cannot be understood", i, e->index);
        else
            err = apply_command(s, e->index, v.term, &cmd);
    }
    if (!err && v.pos != v.end) {
        snprintf(s->conn.msg, sizeof s->conn.msg, "log entry %" PRIu64 " has more in it than its commands", e->index);
        err = QE_CORRUPT;
    }
    if (!err)
        err = keep_time(s, rev_before, time_before);
    if (!err && FAILPOINT("store.diverge"))
        s->st.hash++; /* as if a row were wrong */
    if (!err) {
        s->st.applied = e->index;
        s->st.term = e->term;
        s->st.crc = v.crc;
    }
    return err;
}

/* ---- Transactions -------------------------------------------------------------------------------------------------------- */

int store_begin(struct store *s)
{
    int err = s->broken ? store_reload(s) : 0;

    s->before = s->st;
    return err ? err : conn_do(&s->conn, STMT_BEGIN_WRITE);
}

int store_commit(struct store *s)
{
    int err = sessions_flush(s);

    if (!err)
        err = meta_save(s);
    if (!err && FAILPOINT("store.commit"))
        err = QE_IO;
    if (!err)
        err = conn_do(&s->conn, STMT_COMMIT);
    if (err)
        return err;
    if (FAILPOINT("store.committed"))
        return QE_IO;
    glance_publish(s);
    return 0;
}

void store_abort(struct store *s)
{
    char keep[sizeof s->conn.msg];

    conn_rollback(&s->conn);
    memcpy(keep, s->conn.msg, sizeof keep);
    s->st = s->before; /* what the tables say, also while they cannot be read */
    lock_forget(s);
    s->broken = store_reload(s) != 0;
    memcpy(s->conn.msg, keep, sizeof keep);
}

static int apply_all(struct store *s, const struct store_entry *entries, size_t n)
{
    int err = 0;

    for (size_t i = 0; !err && i < n; i++)
        if (entries[i].index > s->st.applied)
            err = apply_entry(s, &entries[i]);
    return err;
}

static void tell(struct store *s, const struct store_sink *sink)
{
    if (!sink)
        return;
    changes_seal(&s->changes);
    if (sink->changed && s->changes.n)
        sink->changed(sink->data, s->changes.list, s->changes.n);
    if (sink->members && s->members_changed)
        sink->members(sink->data);
    events_tell(&s->events, sink);
    for (size_t i = 0; sink->result && i < s->n_results; i++)
        sink->result(sink->data, &s->results[i]);
}

/* A large content should not stay in memory until the next one. */
static void let_go(struct buf *b)
{
    if (b->cap > SCRATCH_KEPT)
        buf_fini(b);
}

int store_apply(struct store *s, const struct store_entry *entries, size_t n, const struct store_sink *sink)
{
    int err = FAILPOINT("store.apply") ? QE_IO : 0;

    while (n && entries[0].index <= s->st.applied) {
        entries++;
        n--;
    }
    if (err || n == 0)
        return err;
    s->changes.n = s->changes.names.len = s->n_results = 0;
    s->members_changed = false;
    events_clear(&s->events);
    err = store_begin(s);
    if (!err)
        err = apply_all(s, entries, n);
    if (!err)
        err = store_commit(s);
    let_go(&s->scratch);
    let_go(&s->scratch2);
    if (err) {
        store_abort(s);
        return err;
    }
    tell(s, sink);
    return 0;
}

int store_lift(struct store *s, uint64_t index, uint64_t term)
{
    int err;

    if (index <= s->st.applied)
        return 0;
    err = store_begin(s);
    if (!err) {
        s->st.applied = index;
        s->st.term = term;
        s->st.crc = 0;
        err = store_commit(s);
    }
    if (err)
        store_abort(s);
    return err;
}
