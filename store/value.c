/* Content: a commit applies its edits, in order, to the content of the moment at which it is applied. */
#include "store/internal.h"

int node_content(struct store *s, const struct node *n, struct buf *out)
{
    return content_of(&s->conn, &(struct content_at){n->seq, n->vseq, n->size, n->chash}, out);
}

/* What a later truncation cuts off is not made at all: nobody sees it, and making it again and again would take for ever. So the content is
 * never longer than the lowest of the truncations to come, and only grows. */
struct edited {
    struct buf *content;
    uint64_t len;  /* that it would have */
    uint64_t seen; /* bytes that no later edit cuts off */
    uint64_t cap;  /* no edit may ask for more, also in between */
};

static int grow(struct edited *d)
{
    uint64_t len = d->len < d->seen ? d->len : d->seen;

    return len > d->content->len ? buf_resize(d->content, len) : 0;
}

static int edit_apply(struct edited *d, const struct store_edit *e)
{
    uint64_t off = e->kind == STORE_EDIT_APPEND ? d->len : e->off, end;

    if (e->kind != STORE_EDIT_TRUNCATE && e->bytes.len == 0)
        return 0;
    if (off > d->cap || (e->kind != STORE_EDIT_TRUNCATE && e->bytes.len > d->cap - off))
        return QE_FBIG;
    if (e->kind == STORE_EDIT_TRUNCATE) {
        d->len = off;
        return grow(d);
    }
    end = off + e->bytes.len;
    d->len = end > d->len ? end : d->len;
    if (off >= d->seen)
        return grow(d);
    return buf_write_at(d->content, off, e->bytes.data, (end < d->seen ? end : d->seen) - off);
}

/* For each edit how much of the content those after it leave; into `out`. */
static int edits_look_ahead(const struct store_op *op, struct buf *out, uint64_t *least)
{
    uint64_t seen = UINT64_MAX, *list;
    int err = buf_resize(out, op->n_edits * sizeof *list);

    if (err)
        return err;
    list = (uint64_t *)(void *)out->data;
    for (size_t i = op->n_edits; i-- > 0;) {
        list[i] = seen;
        if (op->edits[i].kind == STORE_EDIT_TRUNCATE && op->edits[i].off < seen)
            seen = op->edits[i].off;
    }
    *least = seen;
    return 0;
}

/* The content that `n` would get, in s->scratch. */
static int edits_apply(struct store *s, const struct store_op *op, const struct node *n)
{
    struct edited d = {.content = &s->scratch, .len = (uint64_t)n->size,
                       .cap = (uint64_t)(n->size > s->st.max_value ? n->size : s->st.max_value)};
    uint64_t least;
    int err = edits_look_ahead(op, &s->scratch2, &least);

    buf_clear(&s->scratch);
    if (!err && n->size && least > 0)
        err = node_content(s, n, &s->scratch);
    if (!err && s->scratch.len > least)
        err = buf_resize(&s->scratch, least);
    for (size_t i = 0; !err && i < op->n_edits; i++) {
        d.seen = ((const uint64_t *)(const void *)s->scratch2.data)[i];
        err = edit_apply(&d, &op->edits[i]);
    }
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
