/* Sessions and kept results: each command takes effect at most once, however often it is sent.
 *
 * A command is known by its session and number; the command that makes a session, by its member and nonce. A member has one session: the
 * newest. Nonces of a member grow from run to run, so that a SESSION which was on its way while the member started again comes too late.
 *
 * All sessions are in memory and written through at the end of each transaction. The table has a session's last_seq and acked in
 * its newest result, which is always kept: so a command costs one row there, not two. */
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

/* ---- The table in memory ------------------------------------------------------------------------------------------------- */

static size_t lower_bound(const struct session_table *t, uint64_t id)
{
    size_t lo = 0, hi = t->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (t->list[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool is_at(const struct session_table *t, size_t i, uint64_t id)
{
    return i < t->n && t->list[i].id == id;
}

struct session *session_find(struct session_table *t, uint64_t id)
{
    size_t i = lower_bound(t, id);

    return is_at(t, i, id) && !t->list[i].ended ? &t->list[i] : NULL;
}

static struct session *of_member(struct session_table *t, uint32_t member)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->list[i].member == member && !t->list[i].ended)
            return &t->list[i];
    return NULL;
}

static struct session *insert(struct session_table *t, uint64_t id, uint32_t member, uint64_t nonce)
{
    size_t i = lower_bound(t, id);

    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 16;
        struct session *list = realloc(t->list, cap * sizeof *list);

        if (!list)
            return NULL;
        t->list = list;
        t->cap = cap;
    }
    memmove(&t->list[i + 1], &t->list[i], (t->n - i) * sizeof *t->list);
    t->n++;
    t->list[i] = (struct session){.id = id, .member = member, .nonce = nonce};
    return &t->list[i];
}

static int push_result(struct session *ss, const struct kept_result *r)
{
    if (ss->n_results == ss->cap_results) {
        size_t cap = ss->cap_results ? ss->cap_results * 2 : 8;
        struct kept_result *list = realloc(ss->results, cap * sizeof *list);

        if (!list)
            return QE_NOMEM;
        ss->results = list;
        ss->cap_results = cap;
    }
    ss->results[ss->n_results++] = *r;
    return 0;
}

void sessions_fini(struct session_table *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->list[i].results);
    free(t->list);
    *t = (struct session_table){0};
}

/* ---- Loading ------------------------------------------------------------------------------------------------------------- */

static int load_results(struct store *s)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_RESULT_ALL);
    bool found;
    int err;

    while (!(err = conn_row(&s->conn, q, &found)) && found) {
        struct session *ss = session_find(&s->sessions, col_u(q, 0));
        struct kept_result r = {col_u(q, 1), (int)col_i(q, 3), col_i(q, 4), col_u(q, 5)};

        err = ss ? push_result(ss, &r) : QE_CORRUPT;
        if (err) {
            conn_reset(q);
            return err;
        }
        ss->last_seq = r.seq;
        ss->acked = col_u(q, 2);
    }
    return err;
}

static int is_removed(struct store *s, uint32_t member, bool *yes)
{
    int err = member_find(s, member);

    *yes = err == QE_NOENT && (int64_t)member < s->st.next_member;
    return err == QE_NOENT ? 0 : err;
}

int sessions_load(struct store *s)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_SESSION_ALL);
    bool found;
    int err;

    sessions_fini(&s->sessions);
    while (!(err = conn_row(&s->conn, q, &found)) && found) {
        struct session *ss = insert(&s->sessions, col_u(q, 0), (uint32_t)col_i(q, 1), col_u(q, 2));

        err = ss ? is_removed(s, ss->member, &ss->left) : QE_NOMEM;
        if (err) {
            conn_reset(q);
            return err;
        }
        ss->idle = true;
    }
    if (!err)
        err = load_results(s);
    return err ? err : stages_load(s);
}

/* ---- Exactly once -------------------------------------------------------------------------------------------------------- */

/* A SESSION: repeated, too late, of another session, or new. */
static bool answers_session(struct store *s, const struct store_command *cmd, struct store_result *r)
{
    const struct session *ss = of_member(&s->sessions, cmd->member);

    if (cmd->session) { /* that one would keep the result */
        r->err = QE_INVAL;
        return true;
    }
    if (!ss || cmd->seq > ss->nonce)
        return false;
    r->kept = cmd->seq == ss->nonce;
    r->err = r->kept ? 0 : QE_STALE;
    r->ino = r->kept ? ss->id : ss->nonce; /* who lives can ask again, above it */
    return true;
}

bool session_answers(struct store *s, const struct store_command *cmd, struct store_result *r)
{
    struct session *ss;
    size_t lo = 0, hi;

    *r = (struct store_result){.session = cmd->session, .seq = cmd->seq, .rev = s->st.rev};
    if (cmd->n_ops == 1 && cmd->ops[0].kind == STORE_OP_SESSION)
        return answers_session(s, cmd, r);
    r->err = cmd->seq > INT64_MAX ? QE_INVAL : QE_STALE; /* the table would sort it before all others */
    ss = session_find(&s->sessions, cmd->session);
    if (!ss || ss->left || cmd->seq > INT64_MAX)
        return true;
    if (cmd->seq > ss->last_seq) {
        r->err = 0;
        return false;
    }
    hi = ss->n_results;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (ss->results[mid].seq < cmd->seq)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < ss->n_results && ss->results[lo].seq == cmd->seq) {
        r->err = ss->results[lo].err;
        r->rev = ss->results[lo].rev;
        r->ino = ss->results[lo].ino;
        r->kept = true;
    }
    return true;
}

static void forget_results(struct store *s, struct session *ss, size_t n)
{
    for (size_t i = 0; i < n; i++)
        s->st.hash -= hash_result(ss->id, &ss->results[i]);
    if (ss->n_results - ss->n_fresh > 0)
        ss->pruned = true;
    memmove(ss->results, ss->results + n, (ss->n_results - n) * sizeof *ss->results);
    ss->n_results -= n;
    if (ss->n_fresh > ss->n_results)
        ss->n_fresh = ss->n_results;
}

int session_keep(struct store *s, const struct store_command *cmd, const struct store_result *r)
{
    struct session *ss = session_find(&s->sessions, cmd->session);
    struct kept_result k = {r->seq, r->err, r->rev, r->ino};
    size_t gone = 0;
    int err;

    if (!ss)
        return 0; /* STORE_OP_SESSION, or the session has just ended itself */
    err = push_result(ss, &k);
    if (err)
        return err;
    ss->n_fresh++;
    s->st.hash -= hash_session(ss);
    ss->last_seq = r->seq;
    if (cmd->acked > ss->acked)
        ss->acked = cmd->acked < r->seq ? cmd->acked : r->seq - 1;
    s->st.hash += hash_session(ss) + hash_result(ss->id, &k);
    while (gone < ss->n_results && ss->results[gone].seq <= ss->acked)
        gone++;
    if (ss->n_results - gone > STORE_RESULTS_MAX)
        gone = ss->n_results - STORE_RESULTS_MAX;
    if (gone)
        forget_results(s, ss, gone);
    return 0;
}

/* ---- Writing through ----------------------------------------------------------------------------------------------------- */

static int prune(struct store *s, uint64_t id, uint64_t below)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_RESULT_PRUNE);

    bind_u(q, 1, id);
    bind_u(q, 2, below);
    return conn_run(&s->conn, q);
}

static int put_results(struct store *s, const struct session *ss)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_RESULT_INSERT);
    int err = 0;

    for (size_t i = ss->n_results - ss->n_fresh; !err && i < ss->n_results; i++) {
        const struct kept_result *r = &ss->results[i];

        bind_u(q, 1, ss->id);
        bind_u(q, 2, r->seq);
        bind_u(q, 3, ss->acked);
        bind_i(q, 4, r->err);
        bind_i(q, 5, r->rev);
        bind_u(q, 6, r->ino);
        err = conn_run(&s->conn, q);
    }
    return err;
}

static int put_session(struct store *s, const struct session *ss)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, ss->ended ? STMT_SESSION_DELETE : STMT_SESSION_INSERT);

    bind_u(q, 1, ss->id);
    if (!ss->ended) {
        bind_i(q, 2, ss->member);
        bind_u(q, 3, ss->nonce);
    }
    return conn_run(&s->conn, q);
}

static int flush_one(struct store *s, struct session *ss)
{
    int err = 0;

    if (ss->ended) {
        err = prune(s, ss->id, INT64_MAX);
        return err || ss->isnew ? err : put_session(s, ss);
    }
    if (ss->isnew)
        err = put_session(s, ss);
    if (!err && ss->pruned)
        err = prune(s, ss->id, ss->n_results ? ss->results[0].seq : ss->last_seq);
    if (!err && ss->n_fresh)
        err = put_results(s, ss);
    return err;
}

int sessions_flush(struct store *s)
{
    size_t kept = 0;

    for (size_t i = 0; i < s->sessions.n; i++) {
        int err = flush_one(s, &s->sessions.list[i]);

        if (err)
            return err;
    }
    for (size_t i = 0; i < s->sessions.n; i++) {
        struct session *ss = &s->sessions.list[i];

        if (ss->ended) {
            free(ss->results);
            continue;
        }
        ss->isnew = ss->pruned = false;
        ss->n_fresh = 0;
        s->sessions.list[kept++] = *ss;
    }
    s->sessions.n = kept;
    return 0;
}

/* ---- Operations ---------------------------------------------------------------------------------------------------------- */

int session_end(struct store *s, struct txn *t, struct session *ss)
{
    const struct store_life_event gone = {.kind = STORE_LIFE_SESSION_GONE, .id = ss->id, .member = ss->member};
    int err = stage_forget(s, ss);

    if (!err)
        err = locks_end_of(s, t, ss->id);
    if (!err)
        err = event_life(s, &gone);
    if (err)
        return err;
    for (size_t i = 0; i < ss->n_results; i++)
        s->st.hash -= hash_result(ss->id, &ss->results[i]);
    s->st.hash -= hash_session(ss);
    ss->ended = true;
    return 0;
}

/* An older session of the member is of a process that is gone: what it may still have on its way must not come after the new one's. */
int op_session(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    struct session *ss;
    bool removed;
    int err;

    (void)op;
    if (t->cmd->seq == 0 || t->cmd->seq > INT64_MAX)
        return QE_INVAL;
    if (is_at(&s->sessions, lower_bound(&s->sessions, t->index), t->index))
        return QE_BUSY; /* the second one of an entry: ids are indexes, also of one that has ended since */
    err = is_removed(s, t->cmd->member, &removed);
    if (err || removed)
        return err ? err : QE_STALE;
    ss = of_member(&s->sessions, t->cmd->member);
    err = ss ? session_end(s, t, ss) : 0;
    if (!err)
        err = event_life(s, &(struct store_life_event){.kind = STORE_LIFE_SESSION, .id = t->index, .member = t->cmd->member});
    if (err)
        return err;
    ss = insert(&s->sessions, t->index, t->cmd->member, t->cmd->seq);
    if (!ss)
        return QE_NOMEM;
    ss->isnew = true;
    s->st.hash += hash_session(ss);
    *ino = t->index;
    return 0;
}

/* It may only be cut off, and believes to hold what it held until session-ttl has passed: so that is not given to others before it lapses. */
int sessions_leave(struct store *s, struct txn *t, uint32_t member)
{
    struct session *ss = of_member(&s->sessions, member);
    bool holds = false;
    int err = ss ? locks_end_waits_of(s, t, ss->id, &holds) : 0;

    if (err || !ss)
        return err;
    ss->left = true;
    return holds ? stage_forget(s, ss) : session_end(s, t, ss);
}

int op_session_end(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    struct session *ss = session_find(&s->sessions, op->ino);
    int err;

    if (!ss)
        return QE_NOENT;
    err = session_end(s, t, ss);
    if (!err)
        *ino = op->ino;
    return err;
}

int op_reserve(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    (void)t;
    (void)op;
    if (s->st.next_ino > (INT64_C(1) << 45)) /* node ids have 48 bits, two of them for the kind */
        return QE_NOSPC;
    *ino = (uint64_t)s->st.next_ino;
    s->st.next_ino += STORE_INO_BLOCK;
    return 0;
}
