/* The history: each inode's versions form one chain, newest first, whose jump pointers hit versions of the same chain; contents are
 * there in their full size; the newest version says what the node row says. What a version has from the one before it is the same there, and
 * each name that one of them ended is in name_h. */
#include "store/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct link { /* a version of the chain being looked at */
    int64_t seq, jump, jver;
};

struct binding { /* of an inode to a name */
    uint64_t parent;
    size_t len;
    uint8_t name[STORE_NAME_MAX];
};

struct after { /* of the version that comes after the one being looked at */
    int64_t seq, op, vseq, size, create_rev, version, mtime;
    uint64_t chash;
    uint32_t mode, uid, gid;
    struct binding before; /* the name that the inode had until then */
};

struct chain {
    struct link *links; /* owned; newest first */
    size_t n, cap;
    int64_t last_big;   /* vid counted last */
    sqlite3_stmt *q;    /* a row of ver by seq */
    sqlite3_stmt *named; /* the newest row of name_h of a name that began before a revision */
    struct after after; /* seq 0: none */
    struct binding ended; /* the name that ended at `ended_at`; 0: none, or it is known already since when it was there */
    int64_t ended_at;
    int64_t n_ended;    /* names that ended and are not compacted */
};

enum { COL_INO, COL_OP, COL_PREV, COL_JUMP, COL_JVER, COL_PARENT, COL_NAME, COL_MODE, COL_UID, COL_GID, COL_MTIME, COL_CTIME, COL_SIZE,
       COL_CREATE_REV, COL_VERSION, COL_VSEQ, COL_CHASH, COL_XATTR, COL_LEASE, COL_VALUE_LEN, COL_BIG_LEN, COL_OLD_PARENT, COL_OLD_NAME };
static const char sql_row[] = "SELECT ino, op, prev, jump, jver, parent, name, mode, uid, gid, mtime, ctime, size, create_rev, version, vseq, chash, xattr, coalesce(lease, 0), "
                              "coalesce(length(value), 0), (SELECT length(data) FROM big WHERE vid = vseq AND size > 4096), "
                              "old_parent, old_name FROM ver WHERE seq = ?1";
static const char sql_named[] = "SELECT from_rev, to_rev, ino FROM name_h WHERE parent = ?1 AND name = ?2 AND from_rev < ?3 ORDER BY from_rev DESC LIMIT 1";

/* ---- One version --------------------------------------------------------------------------------------------------------- */

static bool ends(int64_t op)
{
    return op == STORE_EV_DELETE || op == STORE_EV_RMDIR;
}

static bool same(struct store_bytes a, const void *data, size_t len)
{
    return a.len == len && (len == 0 || !memcmp(a.data, data, len));
}

/* The newest version against the node row. Directories' times move without a version. */
static void check_head(struct check *k, const struct node *n, sqlite3_stmt *q)
{
    bool dir = store_ino_kind(n->ino) == STORE_DIR;

    if (n->live == ends(col_i(q, COL_OP)))
        check_damage(k, "inode %" PRIu64 " is %s, but its newest version says otherwise", n->ino, n->live ? "live" : "deleted");
    if (n->live && (col_u(q, COL_PARENT) != n->parent || !same(col_b(q, COL_NAME), n->name, n->name_len)))
        check_damage(k, "inode %" PRIu64 " has another name in its newest version", n->ino);
    if (col_i(q, COL_MODE) != n->mode || col_i(q, COL_UID) != n->uid || col_i(q, COL_GID) != n->gid || col_i(q, COL_SIZE) != n->size ||
        col_i(q, COL_CREATE_REV) != n->create_rev || col_i(q, COL_VERSION) != n->version || col_i(q, COL_VSEQ) != n->vseq || col_u(q, COL_CHASH) != n->chash ||
        col_u(q, COL_LEASE) != n->lease || !same(col_b(q, COL_XATTR), n->xattr.data, n->xattr.len))
        check_damage(k, "inode %" PRIu64 " has other attributes in its newest version", n->ino);
    if (!dir && n->live && (col_i(q, COL_MTIME) != n->mtime || col_i(q, COL_CTIME) != n->ctime))
        check_damage(k, "inode %" PRIu64 " has other times in its newest version", n->ino);
}

static int check_bytes(struct check *k, const struct chain *c, const struct node *n, int64_t seq)
{
    struct content_at where = {seq, col_i(c->q, COL_VSEQ), col_i(c->q, COL_SIZE), col_u(c->q, COL_CHASH)};
    struct buf content = {0};
    int err = content_of(&k->s->conn, &where, &content);

    buf_fini(&content);
    if (err != QE_CORRUPT)
        return err;
    check_damage(k, "the content of inode %" PRIu64 " at revision %" PRId64 " is not what was written", n->ino, rev_of(seq));
    return 0;
}

/* `needed`: a revision that can be read has this version. */
static int check_content(struct check *k, struct chain *c, const struct node *n, int64_t seq, bool needed)
{
    int64_t size = col_i(c->q, COL_SIZE), vseq = col_i(c->q, COL_VSEQ), want_inline = size > STORE_INLINE_MAX ? 0 : size;
    bool has_big = !col_is_null(c->q, COL_BIG_LEN);

    if (col_i(c->q, COL_VALUE_LEN) != want_inline)
        check_damage(k, "the content of inode %" PRIu64 " at revision %" PRId64 " has not its size", n->ino, rev_of(seq));
    if (size <= STORE_INLINE_MAX)
        return needed ? check_bytes(k, c, n, seq) : 0;
    if (needed && (!has_big || col_i(c->q, COL_BIG_LEN) != size))
        check_damage(k, "the content of inode %" PRIu64 " at revision %" PRId64 " is missing or has not its size", n->ino, rev_of(seq));
    if (has_big && vseq != c->last_big) {
        k->n_big++;
        c->last_big = vseq;
        return needed ? check_bytes(k, c, n, seq) : 0;
    }
    return 0;
}

/* ---- Two versions -------------------------------------------------------------------------------------------------------- */

static void take_binding(struct binding *b, uint64_t parent, struct store_bytes name)
{
    b->parent = parent;
    b->len = name.len <= STORE_NAME_MAX ? name.len : 0;
    if (b->len)
        memcpy(b->name, name.data, b->len);
}

static void take_after(struct after *a, int64_t seq, sqlite3_stmt *q)
{
    bool renamed = col_i(q, COL_OP) == STORE_EV_RENAME;

    a->seq = seq;
    a->op = col_i(q, COL_OP);
    a->vseq = col_i(q, COL_VSEQ);
    a->size = col_i(q, COL_SIZE);
    a->chash = col_u(q, COL_CHASH);
    a->create_rev = col_i(q, COL_CREATE_REV);
    a->version = col_i(q, COL_VERSION);
    a->mtime = col_i(q, COL_MTIME);
    a->mode = (uint32_t)col_i(q, COL_MODE);
    a->uid = (uint32_t)col_i(q, COL_UID);
    a->gid = (uint32_t)col_i(q, COL_GID);
    take_binding(&a->before, col_u(q, renamed ? COL_OLD_PARENT : COL_PARENT), col_b(q, renamed ? COL_OLD_NAME : COL_NAME));
}

static bool makes(int64_t op)
{
    return op == STORE_EV_PUT || op == STORE_EV_MKDIR || op == STORE_EV_SYMLINK;
}

/* Whether the row, the first of its inode, may be that. */
static bool is_first(int64_t seq, sqlite3_stmt *q)
{
    return makes(col_i(q, COL_OP)) && col_i(q, COL_VERSION) == 1 && col_i(q, COL_CREATE_REV) == rev_of(seq) && col_i(q, COL_VSEQ) == seq;
}

/* Whether the row may be the one before `a`. */
static bool may_precede(const struct after *a, sqlite3_stmt *q)
{
    bool kept = a->op == STORE_EV_RENAME || ends(a->op); /* but for the name */

    if (col_u(q, COL_PARENT) != a->before.parent || !same(col_b(q, COL_NAME), a->before.name, a->before.len) ||
        col_i(q, COL_CREATE_REV) != a->create_rev || col_i(q, COL_VERSION) + (a->op == STORE_EV_PUT) != a->version)
        return false;
    if (a->vseq != a->seq && (col_i(q, COL_VSEQ) != a->vseq || col_i(q, COL_SIZE) != a->size || col_u(q, COL_CHASH) != a->chash))
        return false;
    if ((a->vseq == a->seq) != (a->op == STORE_EV_PUT || ends(a->op)))
        return false;
    if (kept && store_ino_kind(col_u(q, COL_INO)) != STORE_DIR && col_i(q, COL_MTIME) != a->mtime) /* directories' move without a version */
        return false;
    return !kept || (col_i(q, COL_MODE) == a->mode && col_i(q, COL_UID) == a->uid && col_i(q, COL_GID) == a->gid);
}

/* The name that ended must be in name_h, from revision `from` on; 0: that is not known any more. */
static int check_ended(struct check *k, struct chain *c, const struct node *n, int64_t from)
{
    int64_t at = c->ended_at;
    bool found, good;
    int err;

    c->ended_at = 0;
    if (at <= k->s->st.compacted || from == at) /* one that began with the same revision was never seen */
        return 0;
    c->n_ended++;
    bind_u(c->named, 1, c->ended.parent);
    bind_b(c->named, 2, c->ended.name, c->ended.len);
    bind_i(c->named, 3, at);
    err = conn_row(&k->s->conn, c->named, &found);
    if (err)
        return err;
    good = found && col_i(c->named, 1) == at && col_u(c->named, 2) == n->ino && (from == 0 || col_i(c->named, 0) == from);
    if (!good)
        check_damage(k, "the name that inode %" PRIu64 " had until revision %" PRId64 " is missing or has not its time", n->ino, at);
    if (found)
        conn_reset(c->named);
    return 0;
}

/* The row by itself and with the one after it. */
static int check_link(struct check *k, struct chain *c, const struct node *n, int64_t seq)
{
    int64_t op = col_i(c->q, COL_OP), prev = col_i(c->q, COL_PREV);
    int err = 0;

    if ((c->after.seq && !may_precede(&c->after, c->q)) || (prev == 0 && !is_first(seq, c->q)))
        check_damage(k, "inode %" PRIu64 " cannot have been at revision %" PRId64 " what is recorded", n->ino, rev_of(seq));
    if (c->ended_at && (op == STORE_EV_RENAME || prev == 0))
        err = check_ended(k, c, n, rev_of(seq));
    take_after(&c->after, seq, c->q);
    if (op == STORE_EV_RENAME || ends(op)) {
        c->ended = c->after.before;
        c->ended_at = rev_of(seq);
    }
    return err;
}

static int push(struct chain *c, int64_t seq)
{
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 64;
        struct link *links = realloc(c->links, cap * sizeof *links);

        if (!links)
            return QE_NOMEM;
        c->links = links;
        c->cap = cap;
    }
    c->links[c->n++] = (struct link){seq, col_i(c->q, COL_JUMP), col_i(c->q, COL_JVER)};
    return 0;
}

/* ---- One inode ----------------------------------------------------------------------------------------------------------- */

/* Goes back until there are no more versions, or to where compaction has been. */
static int walk(struct check *k, struct chain *c, const struct node *n)
{
    int64_t seq = n->seq, newer = INT64_MAX;
    int err = 0;

    c->n = 0;
    c->last_big = c->after.seq = c->ended_at = 0;
    while (!err && seq) {
        bool found;

        bind_i(c->q, 1, seq);
        err = conn_row(&k->s->conn, c->q, &found);
        if (err)
            break;
        if (!found) {
            if (newer == INT64_MAX || rev_of(seq) > k->s->st.compact_to || rev_of(seq) < 1)
                check_damage(k, "the version of inode %" PRIu64 " from revision %" PRId64 " is missing", n->ino, rev_of(seq));
            break;
        }
        if (col_u(c->q, COL_INO) != n->ino || seq >= newer) {
            check_damage(k, "the versions of inode %" PRIu64 " are not in order at revision %" PRId64, n->ino, rev_of(seq));
            conn_reset(c->q);
            break;
        }
        if (newer == INT64_MAX)
            check_head(k, n, c->q);
        err = check_content(k, c, n, seq, newer == INT64_MAX || rev_of(newer) > k->s->st.compacted);
        if (!err)
            err = check_link(k, c, n, seq);
        if (!err)
            err = push(c, seq);
        newer = seq;
        seq = col_i(c->q, COL_PREV);
        conn_reset(c->q);
    }
    return err || c->ended_at == 0 ? err : check_ended(k, c, n, 0);
}

static void check_jumps(struct check *k, const struct chain *c, const struct node *n)
{
    for (size_t i = 0; i < c->n; i++) {
        const struct link *l = &c->links[i];
        size_t lo = i + 1, hi = c->n;

        if (l->jump == 0)
            continue;
        while (lo < hi) { /* descending */
            size_t mid = lo + (hi - lo) / 2;

            if (c->links[mid].seq > l->jump)
                lo = mid + 1;
            else
                hi = mid;
        }
        if (lo == c->n ? rev_of(l->jump) > k->s->st.compact_to : c->links[lo].seq != l->jump && rev_of(l->jump) > k->s->st.compact_to)
            check_damage(k, "a jump pointer of inode %" PRIu64 " at revision %" PRId64 " leads nowhere", n->ino, rev_of(l->seq));
        if (lo < c->n && c->links[lo].seq == l->jump && n->ord - (int64_t)lo != l->jver)
            check_damage(k, "a jump pointer of inode %" PRIu64 " at revision %" PRId64 " is miscounted", n->ino, rev_of(l->seq));
        if (i == 0 && lo < c->n && c->links[lo].seq == l->jump && (c->links[lo].jump != n->jj || c->links[lo].jver != n->jjver))
            check_damage(k, "inode %" PRIu64 " knows another jump pointer of revision %" PRId64 " than is there", n->ino, rev_of(l->jump));
    }
    if (c->n && (c->links[0].jump != n->jump || c->links[0].jver != n->jver))
        check_damage(k, "inode %" PRIu64 " and its newest version have different jump pointers", n->ino);
}

static int check_inode(struct check *k, struct chain *c, uint64_t ino)
{
    struct node n;
    int err = node_load(k->s, ino, &n);

    if (!err)
        err = walk(k, c, &n);
    if (!err) {
        check_jumps(k, c, &n);
        k->n_versions += (int64_t)c->n;
    }
    node_fini(&n);
    return err;
}

/* ---- All ----------------------------------------------------------------------------------------------------------------- */

/* hist grows from row to row and ends at the total. */
static int check_hist(struct check *k)
{
    const struct state *st = &k->s->st;
    int64_t last = 0, newest = 0;
    sqlite3_stmt *q;
    bool found;
    int err = check_query(k, "SELECT seq, hist FROM ver ORDER BY seq", &q);

    if (err)
        return err;
    while (!(err = conn_row(&k->s->conn, q, &found)) && found) {
        if (rev_of(col_i(q, 0)) > st->compacted && last < st->hist_base)
            last = st->hist_base;
        if (col_i(q, 1) < last)
            check_damage(k, "the count of superseded bytes goes back at revision %" PRId64, rev_of(col_i(q, 0)));
        last = col_i(q, 1);
        newest = rev_of(col_i(q, 0));
    }
    sqlite3_finalize(q);
    if (newest <= st->compacted) /* older rows may have been deleted */
        last = st->hist_base;
    if (!err && last != st->hist_total)
        check_damage(k, "superseded bytes are recorded as %" PRId64 ", but are %" PRId64, st->hist_total, last);
    return err;
}

static int check_counts(struct check *k, const struct chain *c)
{
    int64_t versions = 0, big = 0, ended = 0;
    char sql[80];
    int err = conn_pragma(&k->s->conn, "SELECT count(*) FROM ver", &versions);

    if (!err)
        err = conn_pragma(&k->s->conn, "SELECT count(*) FROM big", &big);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM name_h WHERE to_rev > %" PRId64, k->s->st.compacted);
    if (!err)
        err = conn_pragma(&k->s->conn, sql, &ended);
    if (err)
        return err;
    if (ended != c->n_ended)
        check_damage(k, "%" PRId64 " names ended, and %" PRId64 " are recorded", c->n_ended, ended);
    if (versions != k->n_versions)
        check_damage(k, "%" PRId64 " versions belong to no inode", versions - k->n_versions);
    if (big != k->n_big)
        check_damage(k, "%" PRId64 " large contents belong to no version", big - k->n_big);
    return 0;
}

int check_versions(struct check *k)
{
    struct chain c = {0};
    int err = check_query(k, sql_row, &c.q);

    if (!err)
        err = check_query(k, sql_named, &c.named);
    for (size_t i = 0; !err && i < k->n_inodes; i++)
        err = check_inode(k, &c, k->inodes[i].ino);
    sqlite3_finalize(c.q);
    sqlite3_finalize(c.named);
    free(c.links);
    if (!err)
        err = check_hist(k);
    return err ? err : check_counts(k, &c);
}
