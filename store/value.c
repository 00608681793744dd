/* Content: a commit applies its edits, in order, to the content of the moment at which it is applied. */
#include "store/internal.h"

int node_content(struct store *s, const struct node *n, struct buf *out)
{
    return content_of(&s->conn, &(struct content_at){n->seq, n->vseq, n->size, n->chash}, out);
}

/* Sizes in between count as well, so that no edit can ask for more memory than a content may have. */
static int edit_apply(struct buf *content, const struct store_edit *e, uint64_t cap)
{
    uint64_t off = e->kind == STORE_EDIT_APPEND ? content->len : e->off;

    if (e->kind == STORE_EDIT_TRUNCATE)
        return off > cap ? QE_FBIG : buf_resize(content, off);
    if (e->bytes.len == 0)
        return 0;
    if (off > cap || e->bytes.len > cap - off)
        return QE_FBIG;
    return buf_write_at(content, off, e->bytes.data, e->bytes.len);
}

/* The content that `n` would get, in s->scratch. */
static int edits_apply(struct store *s, const struct store_op *op, const struct node *n)
{
    uint64_t cap = (uint64_t)(n->size > s->st.max_value ? n->size : s->st.max_value);
    const struct store_edit *first = op->edits;
    int err = 0;

    buf_clear(&s->scratch);
    if (n->size && !(first->kind == STORE_EDIT_TRUNCATE && first->off == 0))
        err = node_content(s, n, &s->scratch);
    for (size_t i = 0; !err && i < op->n_edits; i++)
        err = edit_apply(&s->scratch, &op->edits[i], cap);
    return err;
}

static int save_content(struct store *s, struct txn *t, struct node *n)
{
    struct store_bytes content = {s->scratch.data, s->scratch.len};
    int err = quota_check(s, node_growth(n) + (int64_t)content.len - n->size);

    return err ? err : node_save(s, t, n, STORE_EV_PUT, &content);
}

static int commit_existing(struct store *s, struct txn *t, const struct store_op *op, struct node *n)
{
    struct store_op attrs = *op;
    int err = 0;

    if (op->ino == 0)
        attrs.valid &= STORE_ATTR_MTIME | STORE_ATTR_LEASE | STORE_ATTR_KILLPRIV;
    if (op->n_edits == 0 && attrs.valid == 0)
        return 0;
    if (op->n_edits)
        err = edits_apply(s, op, n);
    if (err)
        return err;
    if (op->n_edits) {
        n->mtime = t->cmd->time_ns;
        n->version++;
    }
    attr_apply(n, t, &attrs);
    return op->n_edits ? save_content(s, t, n) : node_save(s, t, n, STORE_EV_ATTRIB, NULL);
}

static int commit_new(struct store *s, struct txn *t, const struct store_op *op, struct node *n)
{
    struct node dir;
    int err;

    node_clear(&dir, 0);
    err = dir_load(s, op->parent, &dir);
    if (!err)
        err = node_create(s, t, op, op->new_ino, n);
    if (!err && op->n_edits)
        err = edits_apply(s, op, n);
    else
        buf_clear(&s->scratch);
    if (!err && op->valid & STORE_ATTR_MTIME)
        n->mtime = op->mtime_ns;
    if (op->valid & STORE_ATTR_LEASE)
        n->lease = op->lease;
    if (!err)
        err = save_content(s, t, n);
    if (!err)
        err = node_touch(s, t, &dir, 0);
    node_fini(&dir);
    return err;
}

static int commit_to(struct store *s, struct txn *t, const struct store_op *op, struct node *n)
{
    int err = op->ino ? 0 : name_check(op->parent, op->name);

    if (!err)
        err = lease_check(s, t, op);
    if (!err && op->ino && (op->flags & STORE_LOCK_CLASS))
        err = lock_is_held(s, t, op);
    if (err)
        return err;
    err = op->ino ? node_load(s, op->ino, n) : node_load_name(s, op->parent, op->name, n);
    if (err == QE_NOENT)
        return op->ino ? 0 : commit_new(s, t, op, n);
    if (err)
        return err;
    if (!n->live)
        return 0; /* deleted: success, and nobody will see it */
    if (store_ino_kind(n->ino) != STORE_FILE)
        return store_ino_kind(n->ino) == STORE_DIR ? QE_ISDIR : QE_LOOP;
    return commit_existing(s, t, op, n);
}

int op_commit(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    struct node n;
    int err;

    node_clear(&n, op->ino);
    err = commit_to(s, t, op, &n);
    if (!err)
        *ino = n.ino;
    node_fini(&n);
    return err;
}
