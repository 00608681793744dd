/* Commands as bytes: protobuf (command.proto) to and from struct store_command.
 *
 * Decoding takes any bytes. It allocates from an arena that is reused from command to command, and it refuses what it does not know
 * entirely: an unknown field or operation would be skipped here and obeyed elsewhere. */
#include <stdlib.h>
#include <string.h>

#include "command.pb-c.h"
#include "store/internal.h"

/* Decoded, a command takes at most about 20 times its bytes (many tiny edits); what would take more is not one of ours. */
enum { CHUNK_MIN = 2 << 10, CHUNK_SIZE = 256 << 10, ARENA_BASE = 1 << 20, ARENA_FACTOR = 64 };

/* ---- Arena --------------------------------------------------------------------------------------------------------------- */

struct chunk {
    struct chunk *next; /* owned */
    size_t size, used;  /* of data */
    max_align_t data[];
};

struct arena {
    struct chunk *first;          /* owned; kept between commands */
    size_t given, limit;          /* bytes handed out since the last reset; the most that may be */
    bool exhausted;               /* malloc has failed since then */
    ProtobufCAllocator allocator; /* hands out from here, frees nothing */
};

static struct chunk *chunk_new(size_t size, struct chunk *next)
{
    struct chunk *c = size > SIZE_MAX - sizeof *c ? NULL : malloc(sizeof *c + size);

    if (c) {
        c->next = next;
        c->size = size;
        c->used = 0;
    }
    return c;
}

static void *arena_alloc(void *data, size_t size)
{
    struct arena *a = data;
    struct chunk *c = a->first;
    void *p;

    if (size > a->limit - a->given)
        return NULL;
    a->given += size;
    size = (size + sizeof(max_align_t) - 1) & ~(sizeof(max_align_t) - 1);
    if (!c || c->size - c->used < size) {
        size_t want = c ? CHUNK_SIZE : CHUNK_MIN;

        c = chunk_new(size > want ? size : want, c);
        if (!c) {
            a->exhausted = true;
            return NULL;
        }
        a->first = c;
    }
    p = (uint8_t *)c->data + c->used;
    c->used += size;
    return p;
}

static void arena_keep(void *data, void *p)
{
    (void)data;
    (void)p;
}

static void arena_reset(struct arena *a, size_t limit)
{
    a->given = 0;
    a->limit = limit;
    a->exhausted = false;
    while (a->first && (a->first->next || a->first->size > CHUNK_SIZE)) {
        struct chunk **drop = a->first->size > CHUNK_SIZE ? &a->first : &a->first->next, *gone = *drop;

        *drop = gone->next;
        free(gone);
    }
    if (a->first)
        a->first->used = 0;
}

struct arena *arena_new(void)
{
    struct arena *a = calloc(1, sizeof *a);

    if (a) {
        a->limit = SIZE_MAX / 2;
        a->allocator = (ProtobufCAllocator){arena_alloc, arena_keep, a};
    }
    return a;
}

void arena_free(struct arena *a)
{
    if (!a)
        return;
    arena_reset(a, 0);
    free(a->first);
    free(a);
}

static const uint32_t KNOWN_VALID = STORE_ATTR_MODE | STORE_ATTR_UID | STORE_ATTR_GID | STORE_ATTR_MTIME | STORE_ATTR_LEASE |
                                    STORE_ATTR_KILLPRIV;

/* ---- Decoding ------------------------------------------------------------------------------------------------------------ */

static struct store_bytes bytes_of(const ProtobufCBinaryData *b)
{
    return (struct store_bytes){b->data, b->len};
}

static bool decode_edits(struct arena *a, const Qfs__Op *in, struct store_op *out)
{
    struct store_edit *edits = in->n_edits ? arena_alloc(a, in->n_edits * sizeof *edits) : NULL;

    for (size_t i = 0; edits && i < in->n_edits; i++) {
        const Qfs__Edit *e = in->edits[i];

        if (e->base.n_unknown_fields || e->kind > STORE_EDIT_APPEND)
            return false;
        edits[i] = (struct store_edit){(enum store_edit_kind)e->kind, e->off, bytes_of(&e->bytes)};
    }
    out->edits = edits;
    out->n_edits = in->n_edits;
    return edits || in->n_edits == 0;
}

static bool decode_xattrs(struct arena *a, const Qfs__Op *in, struct store_op *out)
{
    struct store_xattr *xattrs = in->n_xattrs ? arena_alloc(a, in->n_xattrs * sizeof *xattrs) : NULL;

    for (size_t i = 0; xattrs && i < in->n_xattrs; i++) {
        if (in->xattrs[i]->base.n_unknown_fields)
            return false;
        xattrs[i] = (struct store_xattr){bytes_of(&in->xattrs[i]->name), bytes_of(&in->xattrs[i]->value)};
    }
    out->xattrs = xattrs;
    out->n_xattrs = in->n_xattrs;
    return xattrs || in->n_xattrs == 0;
}

static bool decode_op(struct arena *a, const Qfs__Op *in, struct store_op *out)
{
    if (in->base.n_unknown_fields || in->kind < STORE_OP_COMMIT || in->kind > STORE_OP_LEASE || in->n_edits > STORE_EDITS_MAX ||
        in->n_xattrs > STORE_XATTR_TOTAL_MAX || in->valid & ~KNOWN_VALID)
        return false;
    *out = (struct store_op){.kind = (enum store_op_kind)in->kind, .ino = in->ino, .parent = in->parent, .parent2 = in->parent2,
                             .name = bytes_of(&in->name), .name2 = bytes_of(&in->name2), .new_ino = in->new_ino, .mode = in->mode,
                             .uid = in->uid, .gid = in->gid, .mtime_ns = in->mtime_ns, .valid = in->valid, .flags = in->flags,
                             .rev = in->rev, .lease = in->lease, .owner = in->owner, .request = in->request, .first = in->first,
                             .last = in->last, .bytes = bytes_of(&in->bytes)};
    return decode_edits(a, in, out) && decode_xattrs(a, in, out);
}

static bool decode_conditions(struct arena *a, const Qfs__Command *in, struct store_command *out)
{
    struct store_condition *list = in->n_conditions ? arena_alloc(a, in->n_conditions * sizeof *list) : NULL;

    for (size_t i = 0; list && i < in->n_conditions; i++) {
        const Qfs__Condition *c = in->conditions[i];

        if (c->base.n_unknown_fields || c->kind < STORE_IF_BOUND || c->kind > STORE_IF_LOCK || c->compare > STORE_GT)
            return false;
        list[i] = (struct store_condition){.kind = (enum store_condition_kind)c->kind, .compare = (enum store_compare)c->compare, .ino = c->ino,
                                           .parent = c->parent, .name = bytes_of(&c->name), .bytes = bytes_of(&c->bytes), .number = c->number};
    }
    out->conditions = list;
    out->n_conditions = in->n_conditions;
    return list || in->n_conditions == 0;
}

/* UTF-8 is what the column of the table takes; nothing but printable ASCII is ever sent. */
static bool decode_cause(struct arena *a, const ProtobufCBinaryData *in, const char **out)
{
    char *cause = in->len ? arena_alloc(a, STORE_CAUSE_MAX + 1) : NULL;

    *out = cause;
    if (in->len == 0)
        return true;
    if (!cause || in->len > STORE_CAUSE_MAX)
        return false;
    for (size_t i = 0; i < in->len; i++)
        if (in->data[i] < ' ' || in->data[i] > '~')
            return false;
    memcpy(cause, in->data, in->len);
    cause[in->len] = 0;
    return true;
}

static const char *decode_comm(struct arena *a, const ProtobufCBinaryData *in)
{
    size_t len = in->len < 15 ? in->len : 15;
    char *comm = arena_alloc(a, 16);

    if (!comm)
        return NULL;
    memset(comm, 0, 16);
    if (len)
        memcpy(comm, in->data, len);
    return comm;
}

int command_decode(struct arena *a, struct store_bytes data, struct store_command *out)
{
    const Qfs__Command *in;
    struct store_op *ops;

    arena_reset(a, ARENA_BASE + ARENA_FACTOR * data.len);
    in = qfs__command__unpack(&a->allocator, data.len, data.data);
    if (!in || in->base.n_unknown_fields)
        return a->exhausted ? QE_NOMEM : QE_FORMAT;
    ops = arena_alloc(a, (in->n_ops ? in->n_ops : 1) * sizeof *ops);
    *out = (struct store_command){.session = in->session, .seq = in->seq, .acked = in->acked, .member = in->member, .time_ns = in->time_ns,
                                  .uid = in->uid, .gid = in->gid, .pid = in->pid, .comm = decode_comm(a, &in->comm), .ops = ops,
                                  .n_ops = in->n_ops};
    if (!ops || !out->comm || !decode_conditions(a, in, out) || !decode_cause(a, &in->cause, &out->cause))
        return a->exhausted ? QE_NOMEM : QE_FORMAT;
    for (size_t i = 0; i < in->n_ops; i++)
        if (!decode_op(a, in->ops[i], &ops[i]))
            return a->exhausted ? QE_NOMEM : QE_FORMAT;
    return 0;
}

int store_command_look(const void *data, size_t len, struct store_command_head *out)
{
    struct arena *a = arena_new();
    struct store_command cmd;
    int err = a ? command_decode(a, (struct store_bytes){data, len}, &cmd) : QE_NOMEM;

    if (!err && cmd.n_ops == 0 && cmd.n_conditions == 0)
        err = QE_FORMAT;
    if (!err)
        *out = (struct store_command_head){cmd.session, cmd.seq, cmd.member, cmd.n_ops ? cmd.ops[0].kind : 0};
    arena_free(a);
    return err;
}

/* ---- Encoding ------------------------------------------------------------------------------------------------------------ */

static ProtobufCBinaryData data_of(struct store_bytes b)
{
    return (ProtobufCBinaryData){b.len, (uint8_t *)(uintptr_t)b.data};
}

static bool encode_op(struct arena *a, const struct store_op *op, Qfs__Op *out)
{
    Qfs__Edit *edits = arena_alloc(a, (op->n_edits + 1) * sizeof *edits);
    Qfs__Xattr *xattrs = arena_alloc(a, (op->n_xattrs + 1) * sizeof *xattrs);

    qfs__op__init(out);
    out->edits = arena_alloc(a, (op->n_edits + 1) * sizeof *out->edits);
    out->xattrs = arena_alloc(a, (op->n_xattrs + 1) * sizeof *out->xattrs);
    if (!edits || !xattrs || !out->edits || !out->xattrs)
        return false;
    out->kind = op->kind;
    out->ino = op->ino;
    out->parent = op->parent;
    out->parent2 = op->parent2;
    out->name = data_of(op->name);
    out->name2 = data_of(op->name2);
    out->new_ino = op->new_ino;
    out->mode = op->mode;
    out->uid = op->uid;
    out->gid = op->gid;
    out->mtime_ns = op->mtime_ns;
    out->valid = op->valid;
    out->flags = op->flags;
    out->rev = op->rev;
    out->lease = op->lease;
    out->owner = op->owner;
    out->request = op->request;
    out->first = op->first;
    out->last = op->last;
    out->bytes = data_of(op->bytes);
    out->n_edits = op->n_edits;
    for (size_t i = 0; i < op->n_edits; i++) {
        qfs__edit__init(&edits[i]);
        edits[i].kind = op->edits[i].kind;
        edits[i].off = op->edits[i].off;
        edits[i].bytes = data_of(op->edits[i].bytes);
        out->edits[i] = &edits[i];
    }
    out->n_xattrs = op->n_xattrs;
    for (size_t i = 0; i < op->n_xattrs; i++) {
        qfs__xattr__init(&xattrs[i]);
        xattrs[i].name = data_of(op->xattrs[i].name);
        xattrs[i].value = data_of(op->xattrs[i].value);
        out->xattrs[i] = &xattrs[i];
    }
    return true;
}

static bool encode_conditions(struct arena *a, const struct store_command *cmd, Qfs__Command *out)
{
    Qfs__Condition *list = arena_alloc(a, (cmd->n_conditions + 1) * sizeof *list);

    out->conditions = arena_alloc(a, (cmd->n_conditions + 1) * sizeof *out->conditions);
    if (!list || !out->conditions)
        return false;
    out->n_conditions = cmd->n_conditions;
    for (size_t i = 0; i < cmd->n_conditions; i++) {
        const struct store_condition *c = &cmd->conditions[i];

        qfs__condition__init(&list[i]);
        list[i].kind = c->kind;
        list[i].compare = c->compare;
        list[i].ino = c->ino;
        list[i].parent = c->parent;
        list[i].name = data_of(c->name);
        list[i].bytes = data_of(c->bytes);
        list[i].number = c->number;
        out->conditions[i] = &list[i];
    }
    return true;
}

static int encode_with(struct arena *a, const struct store_command *cmd, struct buf *out)
{
    Qfs__Command c = QFS__COMMAND__INIT;
    Qfs__Op *ops = arena_alloc(a, (cmd->n_ops + 1) * sizeof *ops);
    const char *comm = cmd->comm ? cmd->comm : "?";
    size_t size;
    int err;

    c.ops = arena_alloc(a, (cmd->n_ops + 1) * sizeof *c.ops);
    if (!ops || !c.ops || !encode_conditions(a, cmd, &c))
        return QE_NOMEM;
    c.session = cmd->session;
    c.seq = cmd->seq;
    c.acked = cmd->acked;
    c.member = cmd->member;
    c.time_ns = cmd->time_ns;
    c.uid = cmd->uid;
    c.gid = cmd->gid;
    c.pid = cmd->pid;
    c.comm = data_of((struct store_bytes){comm, strnlen(comm, 15)});
    if (cmd->cause)
        c.cause = data_of((struct store_bytes){cmd->cause, strlen(cmd->cause)});
    c.n_ops = cmd->n_ops;
    for (size_t i = 0; i < cmd->n_ops; i++) {
        if (!encode_op(a, &cmd->ops[i], &ops[i]))
            return QE_NOMEM;
        c.ops[i] = &ops[i];
    }
    size = qfs__command__get_packed_size(&c);
    err = buf_reserve(out, size);
    if (!err)
        out->len += qfs__command__pack(&c, out->data + out->len);
    return err;
}

int store_command_encode(const struct store_command *cmd, struct buf *out)
{
    struct arena *a = arena_new();
    int err = a ? encode_with(a, cmd, out) : QE_NOMEM;

    arena_free(a);
    return err;
}
