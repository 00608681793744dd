/* An inode between the tables and memory: loading, and writing a new version with all that follows from it (jump pointers, ended
 * names, hash, counters). The handlers change a struct node and hand it here. */
#include <string.h>

#include "store/internal.h"

/* ---- Loading ------------------------------------------------------------------------------------------------------------- */

static void remember(struct node *n)
{
    bool live = n->live;

    n->was.live = live;
    n->was.hash = live ? hash_node(n) : 0;
    n->was.live_cost = live ? node_cost(n) : 0;
    n->was.name_len = n->name_len;
    n->was.xattr_len = xattr_bytes((struct store_bytes){n->xattr.data, n->xattr.len});
    n->was.size = n->size;
    n->was.vseq = n->vseq;
    n->was.seq = n->seq;
    n->was.born = n->born;
    n->was.parent = n->parent;
    memcpy(n->was.name, n->name, n->name_len);
}

static int from_row(struct conn *c, sqlite3_stmt *q, struct node *n)
{
    struct store_bytes name = col_b(q, 1), xattr = col_b(q, 20);

    if (name.len > STORE_NAME_MAX)
        return QE_CORRUPT;
    n->live = !col_is_null(q, 0);
    n->bound = true;
    n->parent = col_u(q, 0);
    if (name.len)
        memcpy(n->name, name.data, name.len);
    n->name_len = name.len;
    n->born = col_i(q, 2);
    n->mode = (uint32_t)col_i(q, 3);
    n->uid = (uint32_t)col_i(q, 4);
    n->gid = (uint32_t)col_i(q, 5);
    n->mtime = col_i(q, 6);
    n->ctime = col_i(q, 7);
    n->size = col_i(q, 8);
    n->create_rev = col_i(q, 9);
    n->version = col_i(q, 10);
    n->nlink = (uint32_t)col_i(q, 11);
    n->seq = col_i(q, 12);
    n->vseq = col_i(q, 13);
    n->chash = col_u(q, 14);
    n->ord = col_i(q, 15);
    n->jump = col_i(q, 16);
    n->jver = col_i(q, 17);
    n->jj = col_i(q, 18);
    n->jjver = col_i(q, 19);
    n->entries = col_i(q, 21);
    n->lease = col_u(q, 22);
    (void)c;
    return buf_append(&n->xattr, xattr.data, xattr.len);
}

void node_clear(struct node *n, uint64_t ino)
{
    /* The name buffers are large and need no clearing. */
    n->ino = ino;
    n->parent = 0;
    n->live = n->bound = false;
    n->name_len = 0;
    n->born = n->entries = 0;
    n->lease = 0;
    n->mode = n->uid = n->gid = n->nlink = 0;
    n->mtime = n->ctime = n->size = n->create_rev = n->version = n->seq = n->vseq = 0;
    n->chash = 0;
    n->ord = n->jump = n->jver = n->jj = n->jjver = 0;
    n->xattr = (struct buf){0};
    remember(n);
}

int node_load(struct store *s, uint64_t ino, struct node *n)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_NODE_GET);
    bool found;
    int err;

    node_clear(n, ino);
    bind_u(q, 1, ino);
    err = conn_row(&s->conn, q, &found);
    if (err || !found)
        return err ? err : QE_NOENT;
    err = from_row(&s->conn, q, n);
    conn_reset(q);
    if (!err)
        remember(n);
    return err;
}

int node_load_name(struct store *s, uint64_t parent, struct store_bytes name, struct node *n)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_NODE_BY_NAME);
    uint64_t ino;
    bool found;
    int err;

    node_clear(n, 0);
    bind_u(q, 1, parent);
    bind_b(q, 2, name.data, name.len);
    err = conn_row(&s->conn, q, &found);
    if (err || !found)
        return err ? err : QE_NOENT;
    ino = col_u(q, 0);
    conn_reset(q);
    err = node_load(s, ino, n);
    return err == QE_NOENT ? QE_CORRUPT : err;
}

void node_fini(struct node *n)
{
    buf_fini(&n->xattr);
}

/* ---- Counting ------------------------------------------------------------------------------------------------------------ */

int64_t node_cost(const struct node *n)
{
    if (n->ino == STORE_ROOT_INO) /* has no entry */
        return (int64_t)xattr_bytes((struct store_bytes){n->xattr.data, n->xattr.len});
    return STORE_ENTRY_COST + (int64_t)n->name_len + n->size + (int64_t)xattr_bytes((struct store_bytes){n->xattr.data, n->xattr.len});
}

int64_t node_growth(const struct node *n)
{
    return node_cost(n) - n->was.live_cost;
}

int quota_check(const struct store *s, int64_t growth)
{
    return growth > 0 && s->st.live_bytes + growth > s->st.quota ? QE_NOSPC : 0;
}

static int64_t *kind_counter(struct store *s, uint64_t ino)
{
    switch (store_ino_kind(ino)) {
    case STORE_DIR: return &s->st.n_dirs;
    case STORE_SYMLINK: return &s->st.n_symlinks;
    case STORE_FILE: break;
    }
    return &s->st.n_files;
}

/* Brings hash and counters from what the tables said to what they say now. */
static void account(struct store *s, struct node *n)
{
    s->st.hash -= n->was.hash;
    s->st.live_bytes -= n->was.live_cost;
    if (n->was.live)
        --*kind_counter(s, n->ino);
    remember(n);
    s->st.hash += n->was.hash;
    s->st.live_bytes += n->was.live_cost;
    if (n->live)
        ++*kind_counter(s, n->ino);
}

/* What of the version before becomes history. Content that the new version shares is not counted. */
static int64_t superseded(const struct node *n, bool gone)
{
    bool shared = !gone && n->vseq == n->was.vseq && n->was.size > STORE_INLINE_MAX;

    if (n->was.seq == 0)
        return 0;
    return STORE_VER_COST + (int64_t)n->was.name_len + (int64_t)n->was.xattr_len + (shared ? 0 : n->was.size);
}

/* ---- Versions ------------------------------------------------------------------------------------------------------------ */

/* Myers' skew-binary list: the jumps of a row and of the row it jumps to span equal distances, or the row jumps to its neighbour.
 * Any older version is found in O(log n) steps. */
static int link_version(struct store *s, struct node *n)
{
    int64_t head = n->seq, ord = n->ord;

    if (head == 0) {
        n->jump = n->jver = n->jj = n->jjver = 0;
    } else if (n->jump != 0 && ord - n->jver == n->jver - n->jjver) {
        sqlite3_stmt *q = conn_stmt(&s->conn, STMT_VER_LINKS);
        bool found = false;
        int err = 0;

        n->jump = n->jj;
        n->jver = n->jjver;
        n->jj = n->jjver = 0;
        if (n->jump) {
            bind_i(q, 1, n->jump);
            err = conn_row(&s->conn, q, &found);
        }
        if (err)
            return err;
        if (found) { /* else it has been compacted, and whatever it pointed to */
            n->jj = col_i(q, 1);
            n->jjver = col_i(q, 2);
            conn_reset(q);
        }
    } else {
        n->jj = n->jump;
        n->jjver = n->jver;
        n->jump = head;
        n->jver = ord;
    }
    n->ord = ord + 1;
    return 0;
}

static int put_big(struct store *s, int64_t vid, const struct store_bytes *content)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_BIG_INSERT);

    bind_i(q, 1, vid);
    bind_b(q, 2, content->data, content->len);
    return conn_run(&s->conn, q);
}

static void bind_lease(sqlite3_stmt *q, int i, uint64_t lease)
{
    if (lease)
        bind_u(q, i, lease);
    else
        bind_null(q, i);
}

/* Binds what VER_INSERT and VER_CARRY have in common. */
static void bind_version(struct store *s, sqlite3_stmt *q, const struct node *n, int64_t prev, int op, const char *cause)
{
    bool renamed = op == STORE_EV_RENAME;

    bind_i(q, 1, n->seq);
    bind_u(q, 2, n->ino);
    bind_i(q, 3, op);
    bind_i(q, 4, prev);
    bind_i(q, 5, n->jump);
    bind_i(q, 6, n->jver);
    bind_u(q, 7, n->parent);
    bind_b(q, 8, n->name, n->name_len);
    bind_null(q, 9);
    bind_null(q, 10);
    if (renamed) {
        bind_u(q, 9, n->was.parent);
        bind_b(q, 10, n->was.name, n->was.name_len);
    }
    bind_i(q, 11, n->mode);
    bind_i(q, 12, n->uid);
    bind_i(q, 13, n->gid);
    bind_i(q, 14, n->mtime);
    bind_i(q, 15, n->ctime);
    bind_i(q, 16, n->size);
    bind_i(q, 17, n->create_rev);
    bind_i(q, 18, n->version);
    bind_i(q, 19, n->vseq);
    bind_u(q, 20, n->chash);
    bind_i(q, 21, s->st.hist_total);
    if (n->xattr.len)
        bind_b(q, 22, n->xattr.data, n->xattr.len);
    else
        bind_null(q, 22);
    if (cause)
        bind_t(q, 23, cause);
    else
        bind_null(q, 23);
    bind_lease(q, 24, n->lease);
}

static int put_version(struct store *s, struct txn *t, struct node *n, int64_t prev, int op, const struct store_bytes *content)
{
    const struct store_command *cmd = t->cmd;
    sqlite3_stmt *q = conn_stmt(&s->conn, content ? STMT_VER_INSERT : STMT_VER_CARRY);
    int err = 0;

    bind_version(s, q, n, prev, op, cmd->cause);
    if (content) {
        bind_i(q, 25, cmd->member);
        bind_i(q, 26, cmd->uid);
        bind_i(q, 27, cmd->pid);
        bind_b(q, 28, cmd->comm, strlen(cmd->comm));
        bind_null(q, 29);
        if (content->len > STORE_INLINE_MAX)
            err = put_big(s, n->vseq, content);
        else if (content->len)
            bind_b(q, 29, content->data, content->len);
    }
    if (!err)
        err = conn_run(&s->conn, q);
    if (!err && sqlite3_changes(s->conn.db) != 1)
        err = QE_CORRUPT; /* the row to carry from is gone */
    return err;
}

/* ---- Saving -------------------------------------------------------------------------------------------------------------- */

static int put_node(struct store *s, const struct node *n)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, n->bound ? STMT_NODE_UPDATE : STMT_NODE_INSERT);

    bind_u(q, 1, n->ino);
    bind_i(q, 2, n->mode);
    bind_i(q, 3, n->uid);
    bind_i(q, 4, n->gid);
    bind_i(q, 5, n->mtime);
    bind_i(q, 6, n->ctime);
    bind_i(q, 7, n->size);
    bind_i(q, 8, n->create_rev);
    bind_i(q, 9, n->version);
    bind_i(q, 10, n->nlink);
    bind_i(q, 11, n->seq);
    bind_i(q, 12, n->vseq);
    bind_u(q, 13, n->chash);
    bind_i(q, 14, n->ord);
    bind_i(q, 15, n->jump);
    bind_i(q, 16, n->jver);
    bind_i(q, 17, n->jj);
    bind_i(q, 18, n->jjver);
    if (n->xattr.len)
        bind_b(q, 19, n->xattr.data, n->xattr.len);
    else
        bind_null(q, 19);
    bind_lease(q, 20, n->lease);
    if (!n->bound) {
        bind_u(q, 21, n->parent);
        bind_b(q, 22, n->name, n->name_len);
        bind_i(q, 23, n->born);
    }
    return conn_run(&s->conn, q);
}

int node_unbind(struct store *s, const struct node *n)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_NODE_BIND);

    bind_u(q, 1, n->ino);
    bind_null(q, 2);
    bind_null(q, 3);
    bind_i(q, 4, n->born);
    return conn_run(&s->conn, q);
}

static int put_binding(struct store *s, const struct node *n)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_NODE_BIND);

    bind_u(q, 1, n->ino);
    bind_u(q, 2, n->parent);
    bind_b(q, 3, n->name, n->name_len);
    bind_i(q, 4, n->born);
    return conn_run(&s->conn, q);
}

/* The name that the tables have for the inode ends with this revision. One that began with it was never seen. */
static int end_binding(struct store *s, const struct txn *t, const struct node *n)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_NAMEH_INSERT);

    if (n->was.born >= t->rev)
        return 0;
    bind_u(q, 1, n->was.parent);
    bind_b(q, 2, n->was.name, n->was.name_len);
    bind_i(q, 3, n->was.born);
    bind_i(q, 4, t->rev);
    bind_u(q, 5, n->ino);
    return conn_run(&s->conn, q);
}

void node_bind(struct node *n, struct txn *t, uint64_t parent, struct store_bytes name)
{
    n->parent = parent;
    memcpy(n->name, name.data, name.len);
    n->name_len = name.len;
    n->born = t->rev;
}

int node_save(struct store *s, struct txn *t, struct node *n, enum store_event_op op, const struct store_bytes *content)
{
    int64_t prev = n->seq;
    int err = change_add(s, t, (int)op, n);

    if (!err)
        err = link_version(s, n);
    if (err)
        return err;
    n->seq = seq_of(t->rev, t->sub++);
    t->takes_rev = true;
    if (content) {
        n->vseq = n->seq;
        n->size = (int64_t)content->len;
        n->chash = hash_content(content->data, content->len);
    }
    s->st.hist_total += superseded(n, false);
    err = put_version(s, t, n, prev, (int)op, content);
    if (!err)
        err = put_node(s, n);
    if (!err && op == STORE_EV_RENAME && n->bound) {
        err = end_binding(s, t, n);
        if (!err)
            err = put_binding(s, n);
    }
    n->bound = true;
    account(s, n);
    return err;
}

int node_delete(struct store *s, struct txn *t, struct node *n)
{
    static const struct store_bytes nothing = {"", 0};
    int op = store_ino_kind(n->ino) == STORE_DIR ? STORE_EV_RMDIR : STORE_EV_DELETE;
    int64_t prev = n->seq;
    int err = change_add(s, t, op, n);

    if (!err)
        err = link_version(s, n);
    if (err)
        return err;
    n->seq = seq_of(t->rev, t->sub++);
    t->takes_rev = true;
    s->st.hist_total += superseded(n, true) + STORE_VER_COST + (int64_t)n->name_len;
    n->vseq = n->seq;
    n->size = 0;
    n->chash = 0;
    n->nlink = 0;
    n->lease = 0;
    n->ctime = t->cmd->time_ns;
    buf_fini(&n->xattr);
    err = put_version(s, t, n, prev, op, &nothing);
    n->live = false;
    if (!err)
        err = put_node(s, n);
    if (!err)
        err = end_binding(s, t, n);
    if (!err)
        err = node_unbind(s, n);
    account(s, n);
    return err;
}

int node_touch(struct store *s, struct txn *t, struct node *dir, int subdirs)
{
    sqlite3_stmt *q = conn_stmt(&s->conn, STMT_NODE_TOUCH);

    dir->mtime = dir->ctime = t->cmd->time_ns;
    dir->nlink = (uint32_t)((int64_t)dir->nlink + subdirs);
    dir->entries = t->rev;
    bind_u(q, 1, dir->ino);
    bind_i(q, 2, dir->mtime);
    bind_i(q, 3, dir->ctime);
    bind_i(q, 4, dir->nlink);
    bind_i(q, 5, dir->entries);
    account(s, dir);
    return conn_run(&s->conn, q);
}
