/* Committing: what was read and required becomes conditions, what was changed becomes operations, and the store decides.
 *
 * A small transaction is one command. A larger one is staged: its parts are commands of their own, PARTS_IN_FLIGHT at a time, and one
 * more makes them take effect. The session has room for one staged transaction, so others wait for their turn.
 *
 * Commands of a commit have no deadline of their own: whoever wrote to `commit` is told ETIMEDOUT after `timeout`, but the result
 * becomes known, and stands in `status`. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/control/txn.h"
#include "fs/feed.h"
#include "fs/inode.h"
#include "fs/pending.h"
#include "fs/proc.h"
#include "fs/sharing.h"
#include "fs/work.h"

enum {
    PART_BYTES = 192 << 10,   /* of a part, unless one file alone is larger: an entry of the log stays small */
    PART_ITEMS = 1024,        /* conditions, and operations, in a part */
    PARTS_IN_FLIGHT = 4,
    PATH_TOLD_MAX = 4096,
    CONDITION_COST = 40, OPERATION_COST = 64, EDIT_COST = 16, /* bytes of an encoded one besides what it points to, at most */
};

struct cursor { /* what comes next */
    const struct txn_read *read;
    size_t condition;           /* of the requirements */
    size_t op;
    const struct txn_node *node; /* its attributes and xattrs, when all of `op` are through */
    const struct txn_xattr *xattr;
    int round;                  /* of its xattrs */
    bool in_node;               /* node's attributes have been looked at */
};

struct part {
    struct store_condition conditions[PART_ITEMS];
    struct store_op ops[PART_ITEMS];
    void *owned[2 * PART_ITEMS]; /* what they point to */
    size_t n_conditions, n_ops, n_owned, bytes;
    bool failed;                /* out of memory */
};

struct txn_commit {
    struct txn *t;
    struct cursor at;
    struct part part;
    uid_t uid;
    gid_t gid;
    pid_t pid;
    char comm[16];
    uint64_t id;                /* of the staged transaction */
    int64_t parts;              /* sent */
    int in_flight, err;
    bool asked;                 /* the command is on its way by which all happens */
    bool sending;               /* stage_next is at work */
    struct txn_commit *next;    /* waits for its turn to be staged */
};

static struct txn_commit *staging; /* whose turn it is, then those that wait */

/* ---- Conditions ---------------------------------------------------------------------------------------------------------------- */

/* False: there is none left. */
static bool next_condition(const struct txn *t, struct cursor *at, struct store_condition *out)
{
    const struct store_condition *list = (const struct store_condition *)(const void *)t->conditions.data;

    if (at->read) {
        const struct txn_read *r = at->read;

        *out = (struct store_condition){.kind = r->kind, .ino = r->ino, .parent = r->parent, .number = t->rev,
                                        .name = {r->key + 1 + sizeof r->ino, r->name_len}};
        at->read = r->hh.next;
        return true;
    }
    if (at->condition == t->conditions.len / sizeof *list)
        return false;
    *out = list[at->condition++];
    out->name.data = t->require_bytes.data + (uintptr_t)out->name.data;
    out->bytes.data = t->require_bytes.data + (uintptr_t)out->bytes.data;
    return true;
}

/* ---- Operations ---------------------------------------------------------------------------------------------------------------- */

static void *part_own(struct part *p, void *memory)
{
    if (memory)
        p->owned[p->n_owned++] = memory;
    else
        p->failed = true;
    return memory;
}

static void fold_edits(struct part *p, const struct txn_node *n, struct store_op *op)
{
    struct store_edit *edits;

    if (n->edits.n == 0 || !(edits = part_own(p, calloc(n->edits.n, sizeof *edits))))
        return;
    edits_export(&n->edits, edits);
    op->edits = edits;
    op->n_edits = n->edits.n;
    p->bytes += n->edits.bytes + n->edits.n * EDIT_COST;
}

static void fold_xattrs(struct part *p, const struct txn_node *n, struct store_op *op)
{
    struct store_xattr *list;
    size_t count = 0;

    for (const struct txn_xattr *x = n->xattrs; x; x = x->next)
        count += !x->removed;
    if (count == 0 || !(list = part_own(p, calloc(count, sizeof *list))))
        return;
    for (const struct txn_xattr *x = n->xattrs; x; x = x->next) {
        if (x->removed)
            continue;
        list[op->n_xattrs++] = (struct store_xattr){{x->name, strlen(x->name)}, {x->value.data, x->value.len}};
        p->bytes += EDIT_COST + strlen(x->name) + x->value.len;
    }
    op->xattrs = list;
}

static void fold_attrs(const struct txn_node *n, uint32_t which, struct store_op *op)
{
    op->valid = n->valid & which;
    op->mode = n->attr.mode & 07777;
    op->uid = n->attr.uid;
    op->gid = n->attr.gid;
    op->mtime_ns = n->attr.mtime_ns;
    op->lease = n->attr.lease;
}

/* False: it comes to nothing. */
static bool make_op(struct txn *t, struct part *p, const struct txn_op *from, struct store_op *op)
{
    const struct txn_node *n = txn_node_find(t, from->ino);

    *op = (struct store_op){.kind = from->kind, .parent = from->parent, .parent2 = from->parent2, .flags = from->flags};
    if (from->name)
        op->name = (struct store_bytes){from->name, strlen(from->name)};
    if (from->name2)
        op->name2 = (struct store_bytes){from->name2, strlen(from->name2)};
    switch (from->kind) {
    case STORE_OP_CREATE: /* with its content, as one version */
        op->kind = STORE_OP_COMMIT;
        op->new_ino = from->ino;
        fold_attrs(n, STORE_ATTR_MTIME | STORE_ATTR_LEASE, op);
        if (!n->dead) {
            fold_edits(p, n, op);
            fold_xattrs(p, n, op);
        }
        return true;
    case STORE_OP_MKDIR:
    case STORE_OP_SYMLINK:
        op->new_ino = from->ino;
        fold_attrs(n, 0, op);
        op->bytes = (struct store_bytes){n->view.data, n->view.len};
        return true;
    case STORE_OP_COMMIT:
        op->ino = from->ino;
        fold_attrs(n, ~UINT32_C(0), op);
        fold_edits(p, n, op);
        return !n->dead;
    default:
        return true;
    }
}

/* Which attributes of a node are not part of one of its operations. */
static uint32_t left_attrs(const struct txn_node *n)
{
    if (n->dead || (n->content_op && store_ino_kind(n->ino) == STORE_FILE))
        return 0;
    return n->valid & (n->fresh ? STORE_ATTR_MTIME : ~UINT32_C(0));
}

/* Attributes go first, then those that become shorter are set, then the others: so there is never more of them than before, or in the end. An
 * attribute that the picture does not have, and that was removed again, has never been there. */
enum { XATTR_GOES, XATTR_SHRINKS, XATTR_GROWS, XATTR_ROUNDS };

static bool xattr_due(const struct txn_node *n, const struct txn_xattr *x, int round)
{
    if (n->dead || (x->removed && !x->there) || (n->fresh && store_ino_kind(n->ino) == STORE_FILE))
        return false;
    return round == (x->removed ? XATTR_GOES : x->there && x->value.len < x->old_len ? XATTR_SHRINKS : XATTR_GROWS);
}

/* What is left when the operations are through: attributes and xattrs of what was there before. */
static bool next_left(struct cursor *at, struct store_op *op)
{
    for (; at->node; at->node = at->node->hh.next, at->in_node = false) {
        const struct txn_node *n = at->node;

        if (!at->in_node) {
            at->in_node = true;
            at->xattr = n->xattrs;
            at->round = 0;
            if (left_attrs(n)) {
                *op = (struct store_op){.kind = STORE_OP_SETATTR, .ino = n->ino};
                fold_attrs(n, left_attrs(n), op);
                return true;
            }
        }
        for (; at->round < XATTR_ROUNDS; at->round++, at->xattr = n->xattrs)
            while (at->xattr) {
                const struct txn_xattr *x = at->xattr;

                at->xattr = x->next;
                if (!xattr_due(n, x, at->round))
                    continue;
                *op = (struct store_op){.kind = x->removed ? STORE_OP_REMOVEXATTR : STORE_OP_SETXATTR, .ino = n->ino,
                                        .name = {x->name, strlen(x->name)}, .bytes = {x->value.data, x->value.len}};
                return true;
            }
    }
    return false;
}

static bool next_op(struct txn *t, struct cursor *at, struct part *p, struct store_op *op)
{
    while (at->op < t->n_ops)
        if (make_op(t, p, &t->ops[at->op++], op))
            return true;
    return next_left(at, op);
}

/* ---- Parts --------------------------------------------------------------------------------------------------------------------- */

static void part_clear(struct part *p)
{
    for (size_t i = 0; i < p->n_owned; i++)
        free(p->owned[i]);
    p->n_conditions = p->n_ops = p->n_owned = p->bytes = 0;
    p->failed = false;
}

/* The next part. True: it is the last one. */
static bool part_fill(struct txn_commit *c)
{
    struct part *p = &c->part;

    part_clear(p);
    while (p->bytes < PART_BYTES && p->n_conditions < PART_ITEMS) {
        struct store_condition *to = &p->conditions[p->n_conditions];

        if (!next_condition(c->t, &c->at, to))
            break;
        p->bytes += CONDITION_COST + to->name.len + to->bytes.len;
        p->n_conditions++;
    }
    while (p->bytes < PART_BYTES && p->n_conditions < PART_ITEMS && p->n_ops < PART_ITEMS) {
        struct store_op *to = &p->ops[p->n_ops];
        struct cursor before = c->at;

        if (!next_op(c->t, &c->at, p, to))
            return true;
        p->bytes += OPERATION_COST + to->name.len + to->name2.len + to->bytes.len;
        if (p->bytes > PART_BYTES && p->n_ops + p->n_conditions > 0) { /* a large file comes alone */
            c->at = before;
            return false;
        }
        p->n_ops++;
    }
    return false;
}

/* ---- Results ------------------------------------------------------------------------------------------------------------------- */

/* What an inode is called, and where. False: compacted meanwhile. */
static bool name_of(struct txn *t, uint64_t ino, struct store_dir_at *out)
{
    for (size_t i = 0; i < t->n_ops; i++) {
        const struct txn_op *op = &t->ops[i];

        if (op->ino == ino && op->name && op->kind <= STORE_OP_SYMLINK) { /* made here */
            out->parent = op->parent;
            out->name_len = strlen(op->name);
            memcpy(out->name, op->name, out->name_len);
            return true;
        }
    }
    return !store_dir_at(t->fs->reader, t->rev, (1 << 20) - 1, ino, out) && out->parent != ino;
}

/* Puts a name before what is there, written as in streams of events: no name can look like a line of its own. */
static int prepend(struct buf *path, const char *name, size_t len)
{
    struct buf whole = {0};
    int err = feed_append_name(name, len, &whole);

    if (!err && path->len)
        err = buf_append(&whole, "/", 1);
    if (!err)
        err = buf_append(&whole, path->data, path->len);
    if (!err)
        buf_move(path, &whole);
    buf_fini(&whole);
    return err;
}

/* Of a path that is longer than any system call takes the end is told. */
static void path_in(struct txn *t, uint64_t dir, struct store_bytes name, struct buf *out)
{
    struct buf path = {0};
    struct store_dir_at at;
    int err = prepend(&path, name.data, name.len);

    while (!err && dir != STORE_ROOT_INO) {
        bool known = path.len < PATH_TOLD_MAX && name_of(t, dir, &at);

        err = known ? prepend(&path, at.name, at.name_len) : prepend(&path, "?", 1);
        dir = known ? at.parent : STORE_ROOT_INO;
    }
    buf_append(out, path.data, path.len);
    buf_fini(&path);
}

static void path_of(struct txn *t, uint64_t ino, struct buf *out)
{
    struct store_dir_at at;

    if (ino == STORE_ROOT_INO)
        return;
    if (name_of(t, ino, &at))
        path_in(t, at.parent, (struct store_bytes){at.name, at.name_len}, out);
    else
        buf_append(out, "?", 1);
}

static struct cursor first(const struct txn *t)
{
    return (struct cursor){.read = t->reads, .node = t->nodes};
}

/* Which condition it was, in words: a path, or the line that required it. */
static void tell_condition(struct txn *t, uint64_t number, struct buf *out)
{
    struct cursor at = first(t);
    struct store_condition c = {0};
    size_t n_reads = HASH_COUNT(t->reads);

    for (uint64_t i = 0; i < number && next_condition(t, &at, &c); i++)
        ;
    if (number > n_reads && number - n_reads <= t->require_lines.len / sizeof(size_t)) {
        size_t line;

        memcpy(&line, t->require_lines.data + (number - n_reads - 1) * sizeof line, sizeof line);
        buf_append(out, t->require.data + line, strcspn((const char *)t->require.data + line, "\n"));
    } else if (c.kind == STORE_IF_BOUND) {
        path_in(t, c.parent, c.name, out);
    } else {
        path_of(t, c.ino, out);
    }
    if (out->len == 0)
        buf_append(out, ".", 1); /* the root */
}

static void tell_op(struct txn *t, struct part *p, uint64_t number, struct buf *out)
{
    struct cursor at = first(t);
    struct store_op op = {0};

    for (uint64_t i = 0; i < number; i++) {
        part_clear(p);
        if (!next_op(t, &at, p, &op))
            break;
    }
    if (op.ino)
        path_of(t, op.ino, out);
    else
        path_in(t, op.parent, op.name, out);
    part_clear(p);
}

/* An operation failed because the tree is not as it was: a conflict that no condition has caught. */
static bool is_conflict(int err)
{
    return err == QE_NOENT || err == QE_EXIST || err == QE_NOTDIR || err == QE_ISDIR || err == QE_NOTEMPTY || err == QE_INVAL || err == QE_LOOP ||
           err == QE_STALE;
}

static void commit_free(struct txn_commit *c)
{
    struct txn_commit **p = &staging;

    while (*p && *p != c)
        p = &(*p)->next;
    if (*p)
        *p = c->next;
    part_clear(&c->part);
    c->t->commit = NULL;
    free(c);
}

static void stage_next(struct txn_commit *c);

/* `number` is that of the condition or operation that failed. */
static void commit_end(struct txn_commit *c, int err, int64_t rev, uint64_t number)
{
    struct txn *t = c->t;
    bool staged = staging == c, certain = !c->asked;

    buf_clear(&t->reason);
    if (!t->fs->reader)
        ; /* the member has stopped: nobody will read it */
    else if (err == QE_CANCELED)
        tell_condition(t, number, &t->reason);
    else if (number && is_conflict(err))
        tell_op(t, &c->part, number, &t->reason);
    else if (err)
        buf_printf(&t->reason, "%s", qfs_strerror(err));
    commit_free(c);
    if (staged && staging)
        stage_next(staging);
    if (!certain && (err == QE_TIMEDOUT || err == QE_IO || err == QE_SHUTDOWN)) { /* the member stops: it stays unknown */
        txn_unknown(t);
        return;
    }
    if (err == QE_CANCELED || (number && is_conflict(err)))
        txn_finish(t, TXN_CONFLICT, QE_CANCELED, 0);
    else
        txn_finish(t, err ? TXN_FAILED : TXN_COMMITTED, err, rev);
}

/* ---- What the kernel keeps ----------------------------------------------------------------------------------------------------- */

struct forgetting { /* of what the kernel knows of the changed inodes, before anybody is told that they have changed */
    struct txn_commit *c;
    int64_t rev;
    struct buf nodes; /* of fuse_ino_t */
};

/* A worker: the kernel may ask the loop for pages that were written through a mapping. */
static int forget_nodes(struct fs *fs, struct store_reader *reader, void *data)
{
    const struct forgetting *f = data;

    (void)reader;
    for (size_t i = 0; i < f->nodes.len / sizeof(fuse_ino_t); i++) {
        fuse_ino_t node;

        memcpy(&node, f->nodes.data + i * sizeof node, sizeof node);
        fuse_lowlevel_notify_inval_inode(fs->se, node, 0, 0);
    }
    return 0;
}

static void forgotten(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct forgetting *f = data;

    (void)fs, (void)req, (void)err, (void)rev, (void)ino;
    commit_end(f->c, 0, f->rev, 0);
    buf_fini(&f->nodes);
    free(f);
}

/* Names of the live tree change without the kernel's knowing, attributes and pages as well. */
static void forget(struct txn_commit *c, int64_t rev)
{
    struct txn *t = c->t;
    struct forgetting *f = calloc(1, sizeof *f);
    struct txn_node *n, *tmp;
    int err = f ? 0 : QE_NOMEM;

    sharing_forget_names(t->fs);
    HASH_ITER(hh, t->nodes, n, tmp)
        if (!err && !n->fresh && inode_find(t->fs, n->ino))
            err = buf_append(&f->nodes, &(fuse_ino_t){n->ino}, sizeof(fuse_ino_t));
    if (err || f->nodes.len == 0) { /* out of memory: attributes may be old for as long as the kernel keeps them */
        commit_end(c, 0, rev, 0);
        if (f)
            buf_fini(&f->nodes);
        free(f);
        return;
    }
    f->c = c;
    f->rev = rev;
    work_start(t->fs, forget_nodes, &(struct pending_call){.settle = forgotten, .data = f});
}

static void on_result(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    (void)req;
    if (err || !fs->reader) /* a member that has stopped has nobody to tell */
        commit_end(data, err, rev, ino);
    else
        forget(data, rev);
}

/* ---- Sending ------------------------------------------------------------------------------------------------------------------- */

static void send(struct txn_commit *c, const struct store_op *ops, size_t n_ops, const struct store_condition *conditions, size_t n_conditions,
                 pending_settle_cb settle)
{
    struct store_command cmd = {.uid = c->uid, .gid = c->gid, .pid = c->pid, .comm = c->comm, .cause = "txn", .ops = ops, .n_ops = n_ops,
                                .conditions = conditions, .n_conditions = n_conditions};
    struct pending_call call = {.settle = settle, .data = c, .patient = true, .injected = true};

    pending_submit(c->t->fs, &cmd, &call);
}

/* The command by which all happens. */
static void ask(struct txn_commit *c, const struct store_op *ops, size_t n_ops, const struct store_condition *conditions, size_t n_conditions)
{
    c->asked = true;
    send(c, ops, n_ops, conditions, n_conditions, on_result);
}

static void on_staged(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct txn_commit *c = data;

    (void)fs, (void)req, (void)rev, (void)ino;
    c->in_flight--;
    if (err && !c->err)
        c->err = err;
    if (!c->sending)
        stage_next(c);
}

/* The part at hand, as one command of the log. */
static void stage_part(struct txn_commit *c)
{
    struct part *p = &c->part;
    struct store_command part = {.comm = "", .ops = p->ops, .n_ops = p->n_ops, .conditions = p->conditions, .n_conditions = p->n_conditions};
    struct buf encoded = {0};
    struct store_op op = {.kind = STORE_OP_STAGE, .ino = c->id, .rev = c->parts};

    int err = p->failed ? QE_NOMEM : store_command_encode(&part, &encoded);

    if (err) {
        c->err = err;
    } else {
        op.bytes = (struct store_bytes){encoded.data, encoded.len};
        c->parts++;
        c->in_flight++;
        send(c, &op, 1, NULL, 0, on_staged);
    }
    buf_fini(&encoded);
}

/* Goes on with a staged transaction; `at.op` above the end says that the last part is through. */
static void stage_next(struct txn_commit *c)
{
    struct store_op last = {.kind = STORE_OP_STAGED, .ino = c->id};

    c->sending = true;
    while (!c->err && c->in_flight < PARTS_IN_FLIGHT && c->at.op != SIZE_MAX) {
        bool end = part_fill(c);

        if (c->part.n_ops || c->part.n_conditions)
            stage_part(c);
        if (end)
            c->at.op = SIZE_MAX;
    }
    c->sending = false;
    if (c->in_flight)
        return;
    last.rev = c->parts;
    if (c->err)
        commit_end(c, c->err, 0, 0);
    else
        ask(c, &last, 1, NULL, 0);
}

static void stage_start(struct txn_commit *c)
{
    struct txn_commit **end = &staging;

    c->id = replica_new_ino(c->t->fs->replica, STORE_FILE); /* a number that nobody else has */
    c->at = first(c->t);
    if (c->id == 0) {
        commit_end(c, QE_NOMEM, 0, 0);
        return;
    }
    while (*end)
        end = &(*end)->next;
    *end = c;
    if (staging == c)
        stage_next(c);
}

void txn_commit_start(struct txn *t, fuse_req_t req)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    struct txn_commit *c = calloc(1, sizeof *c);

    t->state = TXN_COMMITTING;
    if (!c) {
        txn_finish(t, TXN_FAILED, QE_NOMEM, 0);
        return;
    }
    c->t = t;
    t->commit = c;
    c->uid = ctx->uid;
    c->gid = ctx->gid;
    c->pid = ctx->pid;
    proc_comm(ctx->pid, c->comm);
    c->at = first(t);
    if (!part_fill(c))
        stage_start(c);
    else if (c->part.failed)
        commit_end(c, QE_NOMEM, 0, 0);
    else if (c->part.n_ops == 0 && c->part.n_conditions == 0)
        commit_end(c, 0, t->rev, 0);
    else
        ask(c, c->part.ops, c->part.n_ops, c->part.conditions, c->part.n_conditions);
}
