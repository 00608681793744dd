#include "tests/model/generate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/err.h"

#define ROOT STORE_ROOT_INO

/* ---- Dice ---------------------------------------------------------------------------------------------------------------- */

uint64_t generate_random(struct generator *g, uint64_t below)
{
    g->rng ^= g->rng << 13;
    g->rng ^= g->rng >> 7;
    g->rng ^= g->rng << 17;
    return (g->rng >> 11) % below;
}

static bool chance(struct generator *g, unsigned one_in)
{
    return generate_random(g, one_in) == 0;
}

void generate_init(struct generator *g, uint64_t seed, int64_t time_ns)
{
    memset(g, 0, sizeof *g);
    g->rng = seed * 0x9e3779b97f4a7c15u + 0x632be59bd9b4e019u;
    if (g->rng == 0)
        g->rng = 1;
    g->time_ns = time_ns;
    for (uint32_t i = 0; i < 3; i++)
        g->member[i] = i + 1;
    g->body = &g->one;
    g->next_stage = 1;
    for (size_t i = 0; i < GEN_DATA; i++)
        g->data[i] = (uint8_t)generate_random(g, 256);
}

/* ---- What to act on ------------------------------------------------------------------------------------------------------ */

/* An inode, usually one of the newer, sometimes dead. */
static uint64_t some_inode(struct generator *g, struct model *m)
{
    int span = m->n_made < 60 || chance(g, 8) ? m->n_made : 60;
    int i = m->n_made - 1 - (int)generate_random(g, (uint64_t)span);
    uint64_t ino = m->made[i];

    for (int tries = 0; tries < 12 && !model_find(m, ino)->now.live; tries++) {
        i = m->n_made - 1 - (int)generate_random(g, (uint64_t)span);
        ino = m->made[i];
    }
    return ino;
}

static uint64_t some_dir(struct generator *g, struct model *m)
{
    uint64_t ino = ROOT;

    if (chance(g, 3))
        return ROOT;
    for (int tries = 0; tries < 40; tries++) {
        ino = some_inode(g, m);
        if (store_ino_kind(ino) == STORE_DIR && (model_find(m, ino)->now.live || chance(g, 20)))
            return ino;
    }
    return chance(g, 4) ? ino : ROOT; /* perhaps not a directory at all */
}

static struct store_bytes some_name(struct generator *g, char text[32])
{
    static const char *const odd[] = {".quorum", "", "..", "a/b", "."};

    if (chance(g, 400))
        snprintf(text, 32, "%s", odd[generate_random(g, 5)]);
    else
        snprintf(text, 32, "%c%s", 'a' + (char)generate_random(g, 14), chance(g, 4) ? "longer" : "");
    return (struct store_bytes){text, strlen(text)};
}

/* A directory and a name in it; mostly one that is there. */
static void some_entry(struct generator *g, struct model *m, uint64_t *parent, struct store_bytes *name, char text[32])
{
    *parent = some_dir(g, m);
    *name = some_name(g, text);
    for (int tries = 0; tries < 10 && !chance(g, 4); tries++) {
        const struct model_inode *in = model_find(m, some_inode(g, m));

        if (!in->now.live || in->ino == ROOT)
            continue;
        *parent = in->now.parent;
        snprintf(text, 32, "%s", in->now.name);
        *name = (struct store_bytes){text, strlen(text)};
        return;
    }
}

static struct store_bytes some_data(struct generator *g)
{
    uint64_t len = generate_random(g, 40);

    if (chance(g, 12))
        len = generate_random(g, 6000);
    if (chance(g, 150))
        len = generate_random(g, 70000);
    return (struct store_bytes){g->data + generate_random(g, GEN_DATA - 70000), len};
}

static size_t some_edits(struct generator *g, struct store_edit edits[GEN_EDITS])
{
    size_t n = 0;

    if (chance(g, 2))
        edits[n++] = (struct store_edit){STORE_EDIT_TRUNCATE, 0, {0}};
    while (n < GEN_EDITS && (n == 0 || chance(g, 2))) {
        enum store_edit_kind kind = (enum store_edit_kind)generate_random(g, 3);
        uint64_t off = chance(g, 10) ? generate_random(g, 9000) : generate_random(g, 100);

        if (chance(g, 300))
            off = UINT64_MAX - generate_random(g, 4);
        edits[n++] = (struct store_edit){kind, kind == STORE_EDIT_APPEND ? 0 : off, kind == STORE_EDIT_TRUNCATE ? (struct store_bytes){0} : some_data(g)};
    }
    return chance(g, 50) ? 0 : n;
}

static uint64_t new_number(struct generator *g, enum store_kind kind)
{
    if (chance(g, 1000))
        return (g->end_n + 100000) * 4 + (uint64_t)kind; /* never reserved */
    return g->next_n++ * 4 + (uint64_t)kind;
}

/* ---- Operations ---------------------------------------------------------------------------------------------------------- */

static void make_create(struct generator *g, struct model *m, struct store_op *op, int slot)
{
    static const enum store_op_kind kinds[] = {STORE_OP_CREATE, STORE_OP_MKDIR, STORE_OP_MKDIR, STORE_OP_SYMLINK};
    static const char xattr_name[] = "user.made";

    op->kind = kinds[generate_random(g, 4)];
    op->parent = some_dir(g, m);
    op->name = some_name(g, g->body->text[slot][0]);
    op->new_ino = new_number(g, op->kind == STORE_OP_MKDIR ? STORE_DIR : op->kind == STORE_OP_SYMLINK ? STORE_SYMLINK : STORE_FILE);
    op->mode = (uint32_t)generate_random(g, 010000);
    op->uid = (uint32_t)generate_random(g, 5);
    op->gid = (uint32_t)generate_random(g, 5);
    if (op->kind == STORE_OP_SYMLINK)
        op->bytes = (struct store_bytes){"target/of/link", 6 + generate_random(g, 8)};
    if (op->kind == STORE_OP_CREATE && chance(g, 3)) {
        g->body->xattr = (struct store_xattr){{xattr_name, sizeof xattr_name - 1}, {"1234567", generate_random(g, 8)}};
        op->xattrs = &g->body->xattr;
        op->n_xattrs = 1;
    }
}

static void make_commit(struct generator *g, struct model *m, struct store_op *op, int slot)
{
    op->kind = STORE_OP_COMMIT;
    op->edits = g->body->edits[slot];
    op->n_edits = some_edits(g, g->body->edits[slot]);
    if (chance(g, 2)) {
        op->ino = some_inode(g, m);
        for (int tries = 0; tries < 5 && store_ino_kind(op->ino) != STORE_FILE; tries++)
            op->ino = some_inode(g, m);
    } else {
        op->parent = some_dir(g, m);
        op->name = some_name(g, g->body->text[slot][0]);
        op->new_ino = new_number(g, STORE_FILE);
        op->mode = (uint32_t)generate_random(g, 010000);
        op->uid = (uint32_t)generate_random(g, 5);
    }
    if (chance(g, 6))
        op->valid |= STORE_ATTR_MTIME;
    if (chance(g, 6))
        op->valid |= STORE_ATTR_KILLPRIV;
    op->mtime_ns = (int64_t)generate_random(g, 1000000);
}

static void make_rename(struct generator *g, struct model *m, struct store_op *op, int slot)
{
    op->kind = STORE_OP_RENAME;
    some_entry(g, m, &op->parent, &op->name, g->body->text[slot][0]);
    op->parent2 = chance(g, 2) ? op->parent : some_dir(g, m);
    op->name2 = some_name(g, g->body->text[slot][1]);
    op->flags = chance(g, 2) ? 0 : (uint32_t)generate_random(g, 4);
}

static void make_attr(struct generator *g, struct model *m, struct store_op *op, int slot)
{
    static const enum store_op_kind kinds[] = {STORE_OP_SETATTR, STORE_OP_SETXATTR, STORE_OP_SETXATTR, STORE_OP_REMOVEXATTR};

    op->kind = kinds[generate_random(g, 4)];
    op->ino = chance(g, 20) ? ROOT : some_inode(g, m);
    if (op->kind == STORE_OP_SETATTR) {
        op->valid = (uint32_t)generate_random(g, 32);
        op->mode = (uint32_t)generate_random(g, 010000);
        op->uid = (uint32_t)generate_random(g, 9);
        op->gid = (uint32_t)generate_random(g, 9);
        op->mtime_ns = (int64_t)generate_random(g, 1000000) - 1000;
        return;
    }
    snprintf(g->body->text[slot][0], 32, "user.%c", 'a' + (char)generate_random(g, 3));
    op->name = (struct store_bytes){g->body->text[slot][0], 6};
    op->bytes = (struct store_bytes){g->data + generate_random(g, 1000), generate_random(g, MODEL_XATTR_SIZE)};
    op->flags = op->kind == STORE_OP_SETXATTR ? (uint32_t)generate_random(g, 3) : 0;
}

static void make_remove(struct generator *g, struct model *m, struct store_op *op, int slot)
{
    uint64_t ino;

    some_entry(g, m, &op->parent, &op->name, g->body->text[slot][0]);
    ino = op->name.len < MODEL_NAME_SIZE ? model_lookup(m, INT64_MAX - 1, op->parent, g->body->text[slot][0]) : 0;
    op->kind = (store_ino_kind(ino) == STORE_DIR) != chance(g, 10) ? STORE_OP_RMDIR : STORE_OP_UNLINK;
}

static void make_tree_op(struct generator *g, struct model *m, struct store_op *op, int slot)
{
    *op = (struct store_op){0};
    switch (generate_random(g, 20)) {
    case 0: case 1: make_create(g, m, op, slot); break;
    case 2: case 3: case 4: make_rename(g, m, op, slot); break;
    case 5: case 6: case 7: make_attr(g, m, op, slot); break;
    case 8: case 9: case 10: case 11: case 12: make_remove(g, m, op, slot); break;
    default: make_commit(g, m, op, slot); break;
    }
}

/* Often about a member that is there; sometimes asked for twice. */
static void make_member(struct generator *g, struct model *m, struct store_op *op)
{
    static const uint32_t changes[] = {STORE_MEMBER_ADD, STORE_MEMBER_ADD, STORE_MEMBER_ADDRESS, STORE_MEMBER_ROLE, STORE_MEMBER_ROLE, STORE_MEMBER_REMOVE};
    uint64_t id = m->n_members && !chance(g, 10) ? m->members[generate_random(g, (uint64_t)m->n_members)].id : generate_random(g, 100);

    snprintf(g->body->text[0][0], sizeof g->body->text[0][0], chance(g, 20) ? "bad" : "h:%d", 1 + (int)generate_random(g, 9000));
    *op = (struct store_op){.kind = STORE_OP_MEMBER, .flags = changes[generate_random(g, 6)], .mode = 1 + (uint32_t)generate_random(g, 2), .ino = id,
                            .name = {g->body->text[0][0], strlen(g->body->text[0][0])}, .new_ino = 1 + generate_random(g, 500)};
    if (op->flags == STORE_MEMBER_ROLE && chance(g, 8))
        op->mode = STORE_MEMBER_LEAVING;
    if (op->flags != STORE_MEMBER_ADD && op->flags != STORE_MEMBER_ADDRESS)
        op->name.len = 0;
}

static void make_bookmark(struct generator *g, struct model *m, struct store_op *op)
{
    static const char *const names[] = {"b0", "b1", "b2", "b3"};
    const char *name = names[generate_random(g, MODEL_BOOKMARKS)];

    *op = (struct store_op){.kind = STORE_OP_BOOKMARK, .flags = 1 + (uint32_t)generate_random(g, 3), .name = {name, 2}};
    if (op->flags == STORE_BOOKMARK_SET)
        op->rev = m->rev + 20 - (int64_t)generate_random(g, 2000);
}

/* Takes a revision and changes no file. Names are fresh: check_locks and check_leases know what else may happen. */
static void make_life(struct generator *g, struct store_op *op)
{
    char *name = g->body->text[0][0];

    snprintf(name, sizeof g->body->text[0][0], "u%d", g->count);
    *op = (struct store_op){.name = {name, strlen(name)}};
    if (chance(g, 2)) {
        op->kind = STORE_OP_LEASE;
        op->flags = STORE_LEASE_GRANT;
        op->rev = INT64_C(60000000000);
    } else {
        op->kind = STORE_OP_LOCK;
        op->flags = STORE_LOCK_NAMED | STORE_LOCK_EXCLUSIVE;
        op->request = 1 + generate_random(g, 9);
    }
}

static bool make_other_op(struct generator *g, struct model *m, struct store_op *op)
{
    static const char *const values[][2] = {{"quota", "1M"}, {"quota", "2M"}, {"quota", "2M"}, {"max-value", "4K"}, {"max-value", "64K"},
                                            {"max-value", "64K"}, {"quota", "1K"}, {"max-value", "0"}};
    const char *const *v = values[generate_random(g, 8)];

    *op = (struct store_op){0};
    if (g->count == 4 || g->count == 5) { /* small from the start */
        v = values[g->count == 4 ? 0 : 4];
    } else if (g->next_n + 8 > g->end_n) {
        op->kind = STORE_OP_RESERVE;
        return true;
    } else if (chance(g, 2500)) {
        op->kind = STORE_OP_COMPACT;
        op->rev = m->rev + 30 - (int64_t)generate_random(g, 2000);
        return true;
    } else if (chance(g, 400)) {
        make_member(g, m, op);
        return true;
    } else if (chance(g, 300)) {
        make_bookmark(g, m, op);
        return true;
    } else if (chance(g, 60)) {
        make_life(g, op);
        return true;
    } else if (!chance(g, 1500)) {
        return false;
    }
    op->kind = STORE_OP_SETTING;
    op->name = (struct store_bytes){v[0], strlen(v[0])};
    op->bytes = (struct store_bytes){v[1], strlen(v[1])};
    return true;
}

/* ---- Commands ------------------------------------------------------------------------------------------------------------ */

/* ---- Conditions ---------------------------------------------------------------------------------------------------------- */

/* The path of an inode, or of a name that is not there. */
static struct store_bytes some_path(struct generator *g, struct model *m, uint64_t ino, char path[64])
{
    char text[64];
    int depth = 0;

    path[0] = 0;
    for (const struct model_inode *in = model_find(m, ino); in->now.live && in->ino != ROOT && depth < 4; depth++) {
        snprintf(text, sizeof text, "%s%s%.40s", in->now.name, path[0] ? "/" : "", path);
        snprintf(path, 64, "%s", text);
        in = model_find(m, in->now.parent);
    }
    if (chance(g, 6))
        strncat(path, "x", 63 - strlen(path));
    return (struct store_bytes){path, strlen(path)};
}

/* Holds, as often as not. */
static void make_condition(struct generator *g, struct model *m, struct store_condition *c, char path[64])
{
    uint64_t ino = some_inode(g, m);
    const struct model_inode *in = model_find(m, ino);

    *c = (struct store_condition){.kind = (enum store_condition_kind)(1 + generate_random(g, STORE_IF_CONTENT)), .ino = ino,
                                  .number = m->rev - (int64_t)generate_random(g, 100), .compare = (enum store_compare)generate_random(g, 4)};
    if (c->kind == STORE_IF_BOUND && ino == ROOT) {
        c->kind = STORE_IF_UNCHANGED; /* it has no name */
    } else if (c->kind == STORE_IF_BOUND) {
        c->parent = in->now.parent;
        snprintf(path, 64, "%s", in->now.name);
        c->name = (struct store_bytes){path, strlen(path)};
        if (chance(g, 10))
            c->ino = 0;
    } else if (c->kind == STORE_IF_LIST) {
        c->ino = chance(g, 3) ? ino : some_dir(g, m);
        c->number = m->rev - (int64_t)generate_random(g, 8);
    } else if (c->kind >= STORE_IF_EXISTS) {
        c->name = some_path(g, m, ino, path);
        if (c->kind == STORE_IF_VERSION)
            c->number = (int64_t)generate_random(g, 3);
        if (c->kind == STORE_IF_CONTENT && in->now.content)
            c->bytes = (struct store_bytes){in->now.content->data, in->now.content->len};
    }
}

static size_t make_conditions(struct generator *g, struct model *m)
{
    size_t n = 1 + generate_random(g, GEN_CONDITIONS);

    for (size_t i = 0; i < n; i++)
        make_condition(g, m, &g->body->conditions[i], g->body->path[i]);
    return n;
}

/* ---- Staged transactions ------------------------------------------------------------------------------------------------- */

static void stage_part(struct generator *g, struct model *m, struct store_op *op)
{
    struct generator_body *body = calloc(1, sizeof *body);

    if (!body)
        abort();
    body->next = g->parts;
    g->parts = g->body = body;
    body->cmd = (struct store_command){.comm = "", .ops = body->ops, .n_ops = 1 + generate_random(g, GEN_OPS), .conditions = body->conditions};
    for (size_t i = 0; i < body->cmd.n_ops; i++)
        make_tree_op(g, m, &body->ops[i], (int)i);
    if (chance(g, 4))
        body->cmd.n_conditions = make_conditions(g, m);
    g->body = &g->one;
    buf_clear(&g->encoded);
    if (store_command_encode(&body->cmd, &g->encoded))
        abort();
    g->part = &body->cmd;
    op->bytes = (struct store_bytes){g->encoded.data, g->encoded.len};
}

/* The next step of the session's staged transaction; false: there is none. */
static bool make_staged(struct generator *g, struct model *m, int which, struct store_op *op)
{
    if (!g->stage_id[which] && chance(g, 60)) {
        g->stage_id[which] = g->next_stage++;
        g->staged[which] = 0;
        g->to_stage[which] = 1 + (int)generate_random(g, MODEL_PARTS_MAX - 1);
    }
    if (!g->stage_id[which] || chance(g, 3))
        return false;
    *op = (struct store_op){.kind = STORE_OP_STAGE, .ino = g->stage_id[which], .rev = g->staged[which]};
    if (chance(g, 100)) /* it is given up; the next one takes its place */
        g->stage_id[which] = 0;
    if (chance(g, 50))
        op->rev++;
    if (g->staged[which] < g->to_stage[which]) {
        stage_part(g, m, op);
        g->staged[which]++;
    } else {
        op->kind = STORE_OP_STAGED;
        g->stage_id[which] = 0;
    }
    return true;
}

/* ---- Sending ------------------------------------------------------------------------------------------------------------- */

/* Sent before, or late, or from nowhere: nothing of it may take effect. */
static void make_stray(struct generator *g, int which)
{
    if (chance(g, 4))
        g->cmd.session += 1;
    g->cmd.seq = g->last_seq[which] ? 1 + generate_random(g, g->last_seq[which]) : 0;
    if (g->last_seq[which] > 20 && chance(g, 2))
        g->cmd.seq = g->last_seq[which] - generate_random(g, 20);
}

const struct store_command *generate(struct generator *g, struct model *m)
{
    int which = (int)generate_random(g, 3);
    size_t n = chance(g, 8) ? 1 + generate_random(g, GEN_OPS) : 1;

    g->count++;
    g->part = NULL;
    g->time_ns += (int64_t)generate_random(g, 40000000);
    g->cmd = (struct store_command){.member = g->member[which], .time_ns = g->time_ns - 5, .uid = (uint32_t)generate_random(g, 4),
                                    .pid = (int32_t)generate_random(g, 30000), .comm = "model", .ops = g->body->ops, .n_ops = n};
    for (int i = 0; i < 3; i++)
        if (!g->sessions[i]) {
            g->body->ops[0] = (struct store_op){.kind = STORE_OP_SESSION};
            g->cmd.n_ops = 1;
            g->cmd.member = g->member[i];
            g->cmd.seq = ++g->nonce;
            return &g->cmd;
        }
    if (chance(g, 2000)) { /* one of the last ones again: the newest of its member is repeated, others come too late */
        g->body->ops[0] = (struct store_op){.kind = STORE_OP_SESSION};
        g->cmd.n_ops = 1;
        g->cmd.seq = g->nonce > 3 ? g->nonce - generate_random(g, 3) : g->nonce;
        if (chance(g, 20) && m->n_sessions < MODEL_SESSIONS_MAX - 4)
            g->cmd.seq = ++g->nonce;
        return &g->cmd;
    }
    g->cmd.session = g->sessions[which];
    if (chance(g, 20000) && m->n_sessions < MODEL_SESSIONS_MAX - 4) {
        g->body->ops[0] = (struct store_op){.kind = STORE_OP_SESSION_END, .ino = g->sessions[generate_random(g, 3)]};
        g->cmd.n_ops = 1;
    } else if (make_other_op(g, m, &g->body->ops[0])) {
        g->cmd.n_ops = 1;
    } else if (make_staged(g, m, which, &g->body->ops[0])) {
        g->cmd.n_ops = 1;
        g->cmd.cause = "txn";
    } else {
        for (size_t i = 0; i < n; i++)
            make_tree_op(g, m, &g->body->ops[i], (int)i);
        if (chance(g, 8)) {
            g->cmd.conditions = g->body->conditions;
            g->cmd.n_conditions = make_conditions(g, m);
            g->cmd.cause = "expired x";
        }
        if (chance(g, 30)) {
            make_stray(g, which);
            return &g->cmd;
        }
    }
    g->cmd.seq = ++g->last_seq[which] + (chance(g, 50) ? 1 : 0); /* numbers may be left out */
    g->last_seq[which] = g->cmd.seq;
    if (which > 0 && chance(g, 3)) /* session 0 never says what it has seen */
        g->acked[which] = g->cmd.seq - 1 - generate_random(g, g->cmd.seq < 10 ? g->cmd.seq : 10);
    g->cmd.acked = g->acked[which];
    return &g->cmd;
}

void generate_learn(struct generator *g, const struct store_command *cmd, const struct store_result *r)
{
    const struct store_op *op = &cmd->ops[0];

    if (r->err || r->kept || cmd->n_ops != 1)
        return;
    for (int i = 0; i < 3; i++)
        if (op->kind == STORE_OP_SESSION && cmd->member == g->member[i]) {
            g->sessions[i] = r->ino;
            g->last_seq[i] = g->acked[i] = g->stage_id[i] = 0;
        } else if (op->kind == STORE_OP_SESSION_END && g->sessions[i] == op->ino) {
            g->sessions[i] = g->stage_id[i] = 0;
        } else if (op->kind == STORE_OP_MEMBER && op->flags == STORE_MEMBER_REMOVE && g->member[i] == op->ino) {
            g->sessions[i] = g->stage_id[i] = 0;
            g->member[i] += 1000000;
        }
    if (op->kind == STORE_OP_RESERVE) {
        g->next_n = r->ino;
        g->end_n = r->ino + STORE_INO_BLOCK;
    }
}
