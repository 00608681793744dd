#include "tests/model/model.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/err.h"

#define ROOT STORE_ROOT_INO

/* ---- Memory -------------------------------------------------------------------------------------------------------------- */

static void *need(void *p)
{
    if (!p) {
        fprintf(stderr, "model: out of memory\n");
        abort();
    }
    return p;
}

#define GROW(list, n, cap) \
    do { \
        if ((n) == (cap)) { \
            (cap) = (cap) ? (cap) * 2 : 16; \
            (list) = need(realloc((list), (size_t)(cap) * sizeof *(list))); \
        } \
    } while (0)

/* Before memory is changed: how to change it back. Lists only grow, so their length is all there is to undo. */
static void touch(struct model *m, void *at, size_t len)
{
    GROW(m->undo, m->n_undo, m->cap_undo);
    m->undo[m->n_undo].at = at;
    m->undo[m->n_undo].len = len;
    memcpy(m->undo[m->n_undo++].was, at, len);
}
#define TOUCH(m, x) touch(m, &(x), sizeof(x))

static void undo_all(struct model *m)
{
    while (m->n_undo) {
        struct undo *u = &m->undo[--m->n_undo];

        memcpy(u->at, u->was, u->len);
    }
}

/* Zeroed memory that stays until the end, also when the command that wanted it is undone. */
static void *lasting(size_t size)
{
    static struct block { struct block *next; max_align_t data[]; } *all;
    struct block *b = need(calloc(1, sizeof *b + size));

    b->next = all;
    all = b;
    return b->data;
}

const struct model_bytes *model_bytes(const void *data, size_t len)
{
    struct model_bytes *b = lasting(sizeof *b + len);

    b->len = len;
    if (len)
        memcpy(b->data, data, len);
    return b;
}

/* ---- Looking ------------------------------------------------------------------------------------------------------------- */

struct model_inode *model_find(struct model *m, uint64_t ino)
{
    return ino < MODEL_INODES_MAX ? m->inodes[ino] : NULL;
}

const struct model_state *model_state_at(const struct model_inode *in, int64_t rev)
{
    const struct model_state *s = NULL;
    int lo = 0, hi = in->n_old;

    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;

        if (in->old[mid].rev <= rev)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo > 0)
        s = &in->old[lo - 1];
    return s && s->live ? s : NULL;
}

static struct model_binding *binding_at(struct model *m, int64_t rev, uint64_t parent, const char *name)
{
    struct model_inode *dir = model_find(m, parent);

    for (int i = dir ? dir->n_bindings - 1 : -1; i >= 0; i--) {
        struct model_binding *b = dir->bindings[i];

        if (b->from <= rev && b->to > rev && !strcmp(b->name, name))
            return b;
    }
    return NULL;
}

/* Also what was bound by the command under way. */
static struct model_binding *binding_now(struct model *m, uint64_t parent, const char *name)
{
    return binding_at(m, INT64_MAX - 1, parent, name);
}

uint64_t model_lookup(struct model *m, int64_t rev, uint64_t parent, const char *name)
{
    struct model_binding *b = binding_at(m, rev, parent, name);

    return b ? b->ino : 0;
}

static int64_t xattr_len(const struct model_state *s)
{
    int64_t sum = 0;

    for (int i = 0; i < s->n_xattrs; i++)
        sum += (int64_t)(strlen(s->xattrs[i].name) + s->xattrs[i].len);
    return sum;
}

static int64_t cost(const struct model_state *s)
{
    return STORE_ENTRY_COST + (int64_t)strlen(s->name) + (int64_t)s->content->len + xattr_len(s);
}

/* ---- Changing ------------------------------------------------------------------------------------------------------------ */

struct step { /* a command under way */
    const struct store_command *cmd;
    int64_t rev;
    bool changed;
};

static void add_event(struct model *m, struct step *t, int op, const struct model_inode *in, const struct model_state *was)
{
    struct model_event *e;

    TOUCH(m, m->n_events);
    GROW(m->events, m->n_events, m->cap_events);
    e = &m->events[m->n_events++];
    *e = (struct model_event){.rev = t->rev, .op = op, .ino = in->ino, .parent = in->now.parent, .cause = t->cmd->cause ? t->cmd->cause : ""};
    strcpy(e->name, in->now.name);
    if (op == STORE_EV_RENAME) {
        e->old_parent = was->parent;
        strcpy(e->old_name, was->name);
    }
}

/* `next` becomes the state of the inode: a version. */
static void set_state(struct model *m, struct step *t, struct model_inode *in, struct model_state next, int op)
{
    struct model_state was = in->now;
    bool fresh = in->n_old == 0, content_gone = !next.live || next.content != was.content || was.content->len <= 4096;

    t->changed = true;
    TOUCH(m, m->live_bytes);
    TOUCH(m, m->hist_total);
    TOUCH(m, in->now);
    TOUCH(m, in->n_old);
    if (!fresh && in->ino != ROOT) {
        m->live_bytes -= cost(&was);
        m->hist_total += 64 + (int64_t)strlen(was.name) + xattr_len(&was) + (content_gone ? (int64_t)was.content->len : 0);
    }
    if (in->ino == ROOT) {
        m->live_bytes += xattr_len(&next) - (fresh ? 0 : xattr_len(&was));
        m->hist_total += fresh ? 0 : 64 + xattr_len(&was);
    } else if (next.live) {
        m->live_bytes += cost(&next);
    } else {
        m->hist_total += 64 + (int64_t)strlen(was.name);
    }
    next.rev = t->rev;
    next.ctime = t->cmd->time_ns;
    in->now = next;
    GROW(in->old, in->n_old, in->cap_old);
    in->old[in->n_old++] = next;
    add_event(m, t, op, in, &was);
}

static void bind(struct model *m, struct step *t, uint64_t parent, const char *name, uint64_t ino)
{
    struct model_inode *dir = model_find(m, parent);
    struct model_binding *b = lasting(sizeof *b);

    *b = (struct model_binding){.ino = ino, .from = t->rev, .to = INT64_MAX};
    strcpy(b->name, name);
    TOUCH(m, dir->n_bindings);
    GROW(dir->bindings, dir->n_bindings, dir->cap_bindings);
    dir->bindings[dir->n_bindings++] = b;
}

static void unbind(struct model *m, struct step *t, struct model_binding *b)
{
    TOUCH(m, b->to);
    b->to = t->rev;
}

static void touch_dir(struct model *m, struct step *t, uint64_t ino)
{
    struct model_inode *dir = model_find(m, ino);

    TOUCH(m, dir->now);
    TOUCH(m, dir->listed);
    dir->now.mtime = dir->now.ctime = t->cmd->time_ns;
    dir->listed = t->rev;
}

static struct model_inode *add_inode(struct model *m, uint64_t ino)
{
    struct model_inode *in = lasting(sizeof *in);

    TOUCH(m, m->inodes[ino]);
    TOUCH(m, m->n_made);
    GROW(m->made, m->n_made, m->cap_made);
    in->ino = ino;
    m->inodes[ino] = in;
    m->made[m->n_made++] = ino;
    return in;
}

static void note_hist(struct model *m)
{
    while (m->cap_hist <= m->rev) {
        m->cap_hist = m->cap_hist ? m->cap_hist * 2 : 1024;
        m->hist_at = need(realloc(m->hist_at, (size_t)m->cap_hist * sizeof *m->hist_at));
    }
    m->hist_at[m->rev] = m->hist_total;
}

void model_init(struct model *m, int64_t time_ns, uint32_t uid, uint32_t gid)
{
    struct store_command cmd = {.time_ns = time_ns};
    struct step t = {&cmd, 1, false};
    struct model_state s = {.live = true, .mode = 0755, .uid = uid, .gid = gid, .mtime = time_ns, .create_rev = 1, .version = 1};

    memset(m, 0, sizeof *m);
    m->inodes = need(calloc(MODEL_INODES_MAX, sizeof *m->inodes));
    s.content = model_bytes("", 0);
    m->rev = 1;
    m->next_ino = 1;
    m->next_member = 1;
    m->quota = INT64_C(2) << 30;
    m->max_value = 1 << 20;
    set_state(m, &t, add_inode(m, ROOT), s, STORE_EV_MKDIR);
    note_hist(m);
    m->n_events = 0;
    m->n_undo = 0;
}

/* ---- Operations ---------------------------------------------------------------------------------------------------------- */

static void text_of(struct store_bytes b, char out[MODEL_NAME_SIZE])
{
    snprintf(out, MODEL_NAME_SIZE, "%.*s", (int)b.len, (const char *)(b.data ? b.data : ""));
}

static int check_name(uint64_t parent, struct store_bytes name)
{
    char text[MODEL_NAME_SIZE];

    text_of(name, text);
    if (name.len > 255)
        return QE_NAMETOOLONG;
    if (name.len == 0 || strchr(text, '/') || !strcmp(text, ".") || !strcmp(text, ".."))
        return QE_INVAL;
    return parent == ROOT && !strcmp(text, ".quorum") ? QE_PERM : 0;
}

static int check_dir(struct model *m, uint64_t ino)
{
    struct model_inode *in = model_find(m, ino);

    if (!in)
        return QE_NOENT;
    if (store_ino_kind(ino) != STORE_DIR)
        return QE_NOTDIR;
    return in->now.live ? 0 : QE_NOENT;
}

static int check_quota(struct model *m, int64_t growth)
{
    return growth > 0 && m->live_bytes + growth > m->quota ? QE_NOSPC : 0;
}

static int create(struct model *m, struct step *t, const struct store_op *op, int event, const struct model_bytes *content, uint64_t *ino)
{
    enum store_kind kind = store_ino_kind(op->new_ino);
    struct model_state s = {.live = true, .parent = op->parent, .mode = kind == STORE_SYMLINK ? 0777 : op->mode & 07777, .uid = op->uid,
                            .gid = op->gid, .mtime = t->cmd->time_ns, .create_rev = t->rev, .version = 1, .content = content,
                            .w_uid = t->cmd->uid, .w_pid = t->cmd->pid};
    int err;

    text_of(op->name, s.name);
    if (op->valid & STORE_ATTR_MTIME)
        s.mtime = op->mtime_ns;
    if ((int64_t)(op->new_ino >> 2) >= m->next_ino || op->new_ino >> 2 == 0 || model_find(m, op->new_ino))
        return QE_INVAL;
    for (size_t i = 0; i < op->n_xattrs; i++) {
        struct model_xattr *x = &s.xattrs[s.n_xattrs++];

        text_of(op->xattrs[i].name, x->name);
        x->len = op->xattrs[i].value.len;
        memcpy(x->value, op->xattrs[i].value.data, x->len);
    }
    err = check_quota(m, cost(&s));
    if (err)
        return err;
    set_state(m, t, add_inode(m, op->new_ino), s, event);
    bind(m, t, op->parent, s.name, op->new_ino);
    touch_dir(m, t, op->parent);
    *ino = op->new_ino;
    return 0;
}

/* The content after the edits, or NULL with an error. */
static const struct model_bytes *edit(struct model *m, const struct store_op *op, const struct model_bytes *old, int *err)
{
    uint64_t cap = old->len > (size_t)m->max_value ? old->len : (uint64_t)m->max_value, len = old->len;
    uint8_t *data = need(malloc(cap + 1));
    const struct model_bytes *out = NULL;

    memcpy(data, old->data, len);
    *err = 0;
    for (size_t i = 0; i < op->n_edits && !*err; i++) {
        const struct store_edit *e = &op->edits[i];
        uint64_t off = e->kind == STORE_EDIT_APPEND ? len : e->off, end = e->kind == STORE_EDIT_TRUNCATE ? off : off + e->bytes.len;

        if (e->kind != STORE_EDIT_TRUNCATE && e->bytes.len == 0)
            continue;
        if (off > cap || end > cap) {
            *err = QE_FBIG;
            break;
        }
        if (end > len)
            memset(data + len, 0, end - len);
        if (e->kind == STORE_EDIT_TRUNCATE)
            len = end;
        else
            memcpy(data + off, e->bytes.data, e->bytes.len);
        if (end > len)
            len = end;
    }
    if (!*err)
        out = model_bytes(data, len);
    free(data);
    return out;
}

static void set_attrs(struct model_state *s, const struct store_op *op, uint32_t valid, uint64_t ino)
{
    if (valid & STORE_ATTR_MODE)
        s->mode = op->mode & 07777;
    if (valid & STORE_ATTR_UID)
        s->uid = op->uid;
    if (valid & STORE_ATTR_GID)
        s->gid = op->gid;
    if (valid & STORE_ATTR_MTIME)
        s->mtime = op->mtime_ns;
    if (valid & STORE_ATTR_KILLPRIV && store_ino_kind(ino) == STORE_FILE)
        s->mode &= s->mode & 010 ? ~06000u : ~04000u;
}

static int do_commit(struct model *m, struct step *t, const struct store_op *op, uint64_t *ino)
{
    char name[MODEL_NAME_SIZE];
    struct model_inode *in;
    struct model_state s;
    uint32_t valid = op->valid;
    int err = 0;

    *ino = op->ino;
    if (op->ino) {
        in = model_find(m, op->ino);
        if (!in || !in->now.live)
            return 0;
    } else {
        struct model_binding *b;

        err = check_name(op->parent, op->name);
        if (err)
            return err;
        text_of(op->name, name);
        b = binding_now(m, op->parent, name);
        if (!b) {
            const struct model_bytes *content = NULL;

            err = check_dir(m, op->parent);
            if (!err && ((int64_t)(op->new_ino >> 2) >= m->next_ino || model_find(m, op->new_ino)))
                err = QE_INVAL;
            if (!err)
                content = edit(m, op, model_bytes("", 0), &err);
            return err ? err : create(m, t, op, STORE_EV_PUT, content, ino);
        }
        in = model_find(m, b->ino);
        valid &= STORE_ATTR_MTIME | STORE_ATTR_KILLPRIV;
    }
    if (store_ino_kind(in->ino) != STORE_FILE)
        return store_ino_kind(in->ino) == STORE_DIR ? QE_ISDIR : QE_LOOP;
    *ino = in->ino;
    s = in->now;
    if (op->n_edits) {
        s.content = edit(m, op, s.content, &err);
        s.mtime = t->cmd->time_ns;
        s.version++;
        s.w_uid = t->cmd->uid;
        s.w_pid = t->cmd->pid;
    } else if (!valid) {
        return 0;
    }
    if (err)
        return err;
    set_attrs(&s, op, valid, in->ino);
    err = check_quota(m, cost(&s) - cost(&in->now));
    if (!err)
        set_state(m, t, in, s, op->n_edits ? STORE_EV_PUT : STORE_EV_ATTRIB);
    return err;
}

static int do_create(struct model *m, struct step *t, const struct store_op *op, uint64_t *ino)
{
    static const int events[] = {STORE_EV_PUT, STORE_EV_MKDIR, STORE_EV_SYMLINK};
    char name[MODEL_NAME_SIZE];
    int err = check_name(op->parent, op->name);

    text_of(op->name, name);
    if (!err)
        err = check_dir(m, op->parent);
    if (!err && binding_now(m, op->parent, name))
        err = QE_EXIST;
    if (err)
        return err;
    return create(m, t, op, events[store_ino_kind(op->new_ino)], op->kind == STORE_OP_SYMLINK ? model_bytes(op->bytes.data, op->bytes.len) : model_bytes("", 0),
                  ino);
}

static bool empty_dir(struct model *m, uint64_t ino)
{
    const struct model_inode *dir = model_find(m, ino);

    for (int i = dir->n_bindings - 1; i >= 0; i--)
        if (dir->bindings[i]->to == INT64_MAX)
            return false;
    return true;
}

static int check_removal(struct model *m, uint64_t ino, bool as_dir)
{
    bool dir = store_ino_kind(ino) == STORE_DIR;

    if (dir != as_dir)
        return dir ? QE_ISDIR : QE_NOTDIR;
    return dir && !empty_dir(m, ino) ? QE_NOTEMPTY : 0;
}

static void kill_inode(struct model *m, struct step *t, struct model_binding *b)
{
    struct model_inode *in = model_find(m, b->ino);
    struct model_state s = in->now;

    s.live = false;
    unbind(m, t, b);
    set_state(m, t, in, s, store_ino_kind(b->ino) == STORE_DIR ? STORE_EV_RMDIR : STORE_EV_DELETE);
}

static int do_remove(struct model *m, struct step *t, const struct store_op *op, uint64_t *ino)
{
    struct model_binding *b;
    char name[MODEL_NAME_SIZE];
    int err = check_name(op->parent, op->name);

    text_of(op->name, name);
    if (!err)
        err = check_dir(m, op->parent);
    if (err)
        return err;
    b = binding_now(m, op->parent, name);
    if (!b)
        return QE_NOENT;
    err = check_removal(m, b->ino, op->kind == STORE_OP_RMDIR);
    if (err)
        return err;
    *ino = b->ino;
    kill_inode(m, t, b);
    touch_dir(m, t, op->parent);
    return 0;
}

static bool is_above(struct model *m, uint64_t ino, uint64_t dir)
{
    for (; dir != 0; dir = model_find(m, dir)->now.parent)
        if (dir == ino)
            return true;
    return false;
}

static void move(struct model *m, struct step *t, struct model_inode *in, uint64_t parent, const char *name)
{
    struct model_state s = in->now;

    s.parent = parent;
    strcpy(s.name, name);
    set_state(m, t, in, s, STORE_EV_RENAME);
    bind(m, t, parent, name, in->ino);
}

static int rename_allowed(struct model *m, const struct store_op *op, uint64_t source, uint64_t target)
{
    bool dir = store_ino_kind(source) == STORE_DIR;
    int64_t growth = (int64_t)op->name2.len - (int64_t)op->name.len;
    int err = 0;

    if (target && op->flags == STORE_RENAME_NOREPLACE)
        return QE_EXIST;
    if (!target && op->flags == STORE_RENAME_EXCHANGE)
        return QE_NOENT;
    if (dir && op->parent != op->parent2 && is_above(m, source, op->parent2))
        return QE_INVAL;
    if (source == target)
        return 0;
    if (op->flags == STORE_RENAME_EXCHANGE)
        return store_ino_kind(target) == STORE_DIR && op->parent != op->parent2 && is_above(m, target, op->parent) ? QE_INVAL : 0;
    if (target) {
        err = check_removal(m, target, dir);
        growth -= cost(&model_find(m, target)->now);
    }
    return err ? err : check_quota(m, growth);
}

static int do_rename(struct model *m, struct step *t, const struct store_op *op, uint64_t *ino)
{
    struct model_binding *from, *to;
    char name[MODEL_NAME_SIZE], name2[MODEL_NAME_SIZE];
    struct model_inode *source, *target;
    int err = check_name(op->parent, op->name);

    text_of(op->name, name);
    text_of(op->name2, name2);
    if (!err)
        err = check_name(op->parent2, op->name2);
    if (!err && op->flags > 2)
        err = QE_INVAL;
    if (!err)
        err = check_dir(m, op->parent);
    if (!err)
        err = check_dir(m, op->parent2);
    if (err)
        return err;
    from = binding_now(m, op->parent, name);
    to = binding_now(m, op->parent2, name2);
    if (!from)
        return QE_NOENT;
    err = rename_allowed(m, op, from->ino, to ? to->ino : 0);
    if (err)
        return err;
    *ino = from->ino;
    if (from == to)
        return 0;
    source = model_find(m, from->ino);
    target = to ? model_find(m, to->ino) : NULL;
    if (to && op->flags != STORE_RENAME_EXCHANGE)
        kill_inode(m, t, to);
    else if (to)
        unbind(m, t, to);
    unbind(m, t, from);
    move(m, t, source, op->parent2, name2);
    if (target && op->flags == STORE_RENAME_EXCHANGE)
        move(m, t, target, op->parent, name);
    touch_dir(m, t, op->parent);
    touch_dir(m, t, op->parent2);
    return 0;
}

static int do_setattr(struct model *m, struct step *t, const struct store_op *op, uint64_t *ino)
{
    struct model_inode *in = model_find(m, op->ino);
    struct model_state s;

    if (!in || !in->now.live)
        return QE_STALE;
    *ino = op->ino;
    if (op->valid == 0)
        return 0;
    if (op->valid & STORE_ATTR_MODE && store_ino_kind(op->ino) == STORE_SYMLINK)
        return QE_NOTSUP;
    s = in->now;
    set_attrs(&s, op, op->valid, op->ino);
    set_state(m, t, in, s, STORE_EV_ATTRIB);
    return 0;
}

static int do_xattr(struct model *m, struct step *t, const struct store_op *op, uint64_t *ino)
{
    bool remove = op->kind == STORE_OP_REMOVEXATTR;
    struct model_inode *in = model_find(m, op->ino);
    struct model_state s;
    char name[MODEL_NAME_SIZE];
    int at = 0, err;

    if (!in || !in->now.live)
        return QE_STALE;
    if (store_ino_kind(op->ino) == STORE_SYMLINK)
        return QE_PERM;
    text_of(op->name, name);
    s = in->now;
    while (at < s.n_xattrs && strcmp(s.xattrs[at].name, name))
        at++;
    if (!remove && at < s.n_xattrs && op->flags == STORE_XATTR_CREATE)
        return QE_EXIST;
    if (at == s.n_xattrs && (remove || op->flags == STORE_XATTR_REPLACE))
        return QE_NODATA;
    if (remove) {
        s.xattrs[at] = s.xattrs[--s.n_xattrs];
    } else {
        s.n_xattrs += at == s.n_xattrs;
        strcpy(s.xattrs[at].name, name);
        s.xattrs[at].len = op->bytes.len;
        memcpy(s.xattrs[at].value, op->bytes.data, op->bytes.len);
    }
    err = op->ino == ROOT ? check_quota(m, xattr_len(&s) - xattr_len(&in->now)) : check_quota(m, cost(&s) - cost(&in->now));
    if (err)
        return err;
    set_state(m, t, in, s, STORE_EV_ATTRIB);
    *ino = op->ino;
    return 0;
}

static int do_setting(struct model *m, struct step *t, const struct store_op *op)
{
    bool quota = op->name.len == 5;
    int64_t *at = quota ? &m->quota : &m->max_value;
    char text[MODEL_NAME_SIZE];
    int64_t v;

    text_of(op->bytes, text);
    v = strtoll(text, NULL, 10) * (strchr(text, 'K') ? 1024 : 1 << 20);
    if (v < (quota ? 1 << 20 : 4096))
        return QE_INVAL;
    if (v != *at)
        t->changed = true;
    *at = v;
    return 0;
}

static int do_compact(struct model *m, const struct store_op *op)
{
    if (op->rev > m->rev)
        return QE_RANGE;
    if (op->rev <= m->compacted)
        return QE_STALE;
    m->compacted = op->rev;
    m->hist_base = m->hist_at[op->rev];
    return 0;
}

static struct model_session *find_session(struct model *m, uint64_t id)
{
    for (int i = 0; i < m->n_sessions; i++)
        if (m->sessions[i].id == id && !m->sessions[i].ended)
            return &m->sessions[i];
    return NULL;
}

static struct model_session *session_of(struct model *m, uint32_t member)
{
    for (int i = 0; i < m->n_sessions; i++)
        if (m->sessions[i].member == member && !m->sessions[i].ended)
            return &m->sessions[i];
    return NULL;
}

static int do_session(struct model *m, const struct store_command *cmd, uint64_t index, uint64_t *ino)
{
    struct model_session *older = session_of(m, cmd->member);
    bool there = false;

    for (int i = 0; i < m->n_members; i++)
        there = there || m->members[i].id == cmd->member;
    if (!there && cmd->member < m->next_member)
        return QE_STALE;
    if (older)
        older->ended = true;
    m->sessions[m->n_sessions++] = (struct model_session){.id = index, .member = cmd->member, .nonce = cmd->seq};
    *ino = index;
    return 0;
}

static int do_session_end(struct model *m, const struct store_op *op, uint64_t *ino)
{
    struct model_session *s = find_session(m, op->ino);

    if (!s)
        return QE_NOENT;
    s->ended = true;
    *ino = op->ino;
    return 0;
}

/* Addresses of the generator are right, or "bad". */
static int add_member(struct model *m, const struct store_op *op, uint64_t *ino)
{
    struct model_member *add = &m->members[m->n_members];
    int voters = 0;

    for (int i = 0; i < m->n_members; i++) {
        voters += m->members[i].role == STORE_MEMBER_VOTER;
        if (m->members[i].nonce == op->new_ino) {
            *ino = m->members[i].id;
            return 0;
        }
    }
    if (m->n_members == STORE_MEMBERS_MAX)
        return QE_NOSPC;
    *add = (struct model_member){.id = (uint32_t)m->next_member++, .role = voters < STORE_VOTERS_MAX ? op->mode : STORE_MEMBER_STANDBY,
                                 .nonce = op->new_ino};
    text_of(op->name, add->address);
    m->n_members++;
    *ino = add->id;
    return 0;
}

static int remove_member(struct model *m, int at)
{
    if (m->n_members == 1)
        return QE_BUSY;
    for (int i = 0; i < m->n_sessions; i++)
        m->sessions[i].ended |= m->sessions[i].member == m->members[at].id;
    memmove(&m->members[at], &m->members[at + 1], (size_t)(m->n_members - at - 1) * sizeof *m->members);
    m->n_members--;
    return 0;
}

static int do_member(struct model *m, const struct store_op *op, uint64_t *ino)
{
    bool add = op->flags == STORE_MEMBER_ADD, names = add || op->flags == STORE_MEMBER_ADDRESS;
    int at = 0, voters = 0, err = 0;
    char text[MODEL_NAME_SIZE];

    text_of(op->name, text);
    while (!add && at < m->n_members && m->members[at].id != op->ino)
        at++;
    if (!add && at == m->n_members)
        return QE_NOENT;
    if (names && !strcmp(text, "bad"))
        return QE_INVAL;
    for (int i = 0; i < m->n_members; i++)
        voters += m->members[i].role == STORE_MEMBER_VOTER && i != at;
    if (add)
        return add_member(m, op, ino);
    if (op->flags == STORE_MEMBER_ADDRESS)
        strcpy(m->members[at].address, text);
    else if (op->flags == STORE_MEMBER_REMOVE)
        err = remove_member(m, at);
    else if (op->mode != m->members[at].role && (m->members[at].role == STORE_MEMBER_LEAVING || (op->mode == STORE_MEMBER_LEAVING && m->n_members == 1)))
        err = QE_BUSY;
    else if (op->mode == STORE_MEMBER_VOTER && voters >= STORE_VOTERS_MAX)
        err = QE_NOSPC;
    else
        m->members[at].role = op->mode;
    if (!err)
        *ino = op->ino;
    return err;
}

static int do_stage(struct model *m, struct step *t, const struct store_op *op, const struct store_command *part)
{
    struct model_session *s = find_session(m, t->cmd->session);

    if (op->rev > 0 && (op->ino != s->stage_id || op->rev != s->n_parts))
        return QE_STALE;
    if (op->rev == 0)
        s->n_parts = 0;
    s->stage_id = op->ino;
    s->parts[s->n_parts++] = part;
    return 0;
}

static int do_bookmark(struct model *m, const struct step *t, const struct store_op *op)
{
    struct model_bookmark *b = &m->bookmarks[((const char *)op->name.data)[1] - '0'];

    if (op->name.len != 2 || op->rev < 0)
        return QE_INVAL;
    if (op->flags == STORE_BOOKMARK_MAKE && b->made)
        return QE_EXIST;
    if (op->flags == STORE_BOOKMARK_MAKE) {
        *b = (struct model_bookmark){true, t->cmd->uid, m->rev};
        return 0;
    }
    if (!b->made)
        return QE_NOENT;
    if (t->cmd->uid && t->cmd->uid != b->owner)
        return QE_PERM;
    if (op->flags == STORE_BOOKMARK_REMOVE) {
        b->made = false;
        return 0;
    }
    if (op->rev > m->rev || op->rev < m->compacted)
        return op->rev > m->rev ? QE_RANGE : QE_STALE;
    b->rev = op->rev;
    return 0;
}

static int do_op(struct model *m, struct step *t, uint64_t index, const struct store_op *op, uint64_t *ino)
{
    switch (op->kind) {
    case STORE_OP_COMMIT: return do_commit(m, t, op, ino);
    case STORE_OP_CREATE:
    case STORE_OP_MKDIR:
    case STORE_OP_SYMLINK: return do_create(m, t, op, ino);
    case STORE_OP_UNLINK:
    case STORE_OP_RMDIR: return do_remove(m, t, op, ino);
    case STORE_OP_RENAME: return do_rename(m, t, op, ino);
    case STORE_OP_SETATTR: return do_setattr(m, t, op, ino);
    case STORE_OP_SETXATTR:
    case STORE_OP_REMOVEXATTR: return do_xattr(m, t, op, ino);
    case STORE_OP_SETTING: return do_setting(m, t, op);
    case STORE_OP_COMPACT: return do_compact(m, op);
    case STORE_OP_SESSION: return do_session(m, t->cmd, index, ino);
    case STORE_OP_SESSION_END: return do_session_end(m, op, ino);
    case STORE_OP_MEMBER: return do_member(m, op, ino);
    case STORE_OP_BOOKMARK: return do_bookmark(m, t, op);
    case STORE_OP_RESERVE:
        *ino = (uint64_t)m->next_ino;
        m->next_ino += STORE_INO_BLOCK;
        return 0;
    case STORE_OP_STAGE:
    case STORE_OP_STAGED: break; /* elsewhere */
    case STORE_OP_LEASE: *ino = (uint64_t)t->rev; t->changed = true; return 0; /* with a fresh name */
    case STORE_OP_LOCK: t->changed = true; return 0;                           /* likewise */
    case STORE_OP_UNLOCK:
    case STORE_OP_PROCLAIM:
    case STORE_OP_LAPSE: break; /* check_locks has a model of its own */
    }
    return QE_INVAL;
}

/* ---- Conditions ---------------------------------------------------------------------------------------------------------- */

static uint64_t walk(struct model *m, struct store_bytes path)
{
    char text[128], *rest = text, *name;
    uint64_t ino = ROOT;

    snprintf(text, sizeof text, "%.*s", (int)path.len, (const char *)path.data);
    while (ino && (name = strsep(&rest, "/")))
        if (*name)
            ino = model_lookup(m, m->rev, ino, name);
    return ino;
}

static bool compared(int64_t value, const struct store_condition *c)
{
    return c->compare == STORE_EQ ? value == c->number : c->compare == STORE_NE ? value != c->number : c->compare == STORE_LT ? value < c->number : value > c->number;
}

static bool holds(struct model *m, const struct store_condition *c)
{
    bool by_path = c->kind >= STORE_IF_EXISTS;
    uint64_t ino = by_path ? walk(m, c->name) : c->ino;
    const struct model_inode *in = model_find(m, ino);
    const struct model_state *s = in && in->now.live ? &in->now : NULL;
    char name[MODEL_NAME_SIZE];

    switch (c->kind) {
    case STORE_IF_BOUND: text_of(c->name, name); return model_lookup(m, m->rev, c->parent, name) == c->ino;
    case STORE_IF_UNCHANGED: return s && in->old[in->n_old - 1].rev <= c->number;
    case STORE_IF_LIST: return s && in->listed <= c->number;
    case STORE_IF_EXISTS: return ino != 0;
    case STORE_IF_ABSENT: return ino == 0;
    case STORE_IF_VERSION: return compared(s ? s->version : 0, c);
    case STORE_IF_CREATE_REV: return compared(s ? s->create_rev : 0, c);
    case STORE_IF_MOD_REV: return compared(s ? in->old[in->n_old - 1].rev : 0, c);
    case STORE_IF_CONTENT:
        return s && store_ino_kind(ino) == STORE_FILE && s->content->len == c->bytes.len && !memcmp(s->content->data, c->bytes.data, c->bytes.len);
    case STORE_IF_LEASE:
    case STORE_IF_LOCK: break;
    }
    return false;
}

static int check_conditions(struct model *m, const struct store_command *cmd, uint64_t *at)
{
    for (size_t i = 0; i < cmd->n_conditions; i++) {
        ++*at;
        if (!holds(m, &cmd->conditions[i]))
            return QE_CANCELED;
    }
    return 0;
}

static int do_ops(struct model *m, struct step *t, uint64_t index, const struct store_command *cmd, uint64_t *ino, uint64_t *at)
{
    int err = 0;

    for (size_t i = 0; i < cmd->n_ops && !err; i++) {
        ++*at;
        err = do_op(m, t, index, &cmd->ops[i], ino);
    }
    return err;
}

static int do_staged(struct model *m, struct step *t, uint64_t index, const struct store_op *op, uint64_t *ino, uint64_t *at)
{
    struct model_session *s = find_session(m, t->cmd->session);
    int err = 0;

    if (s->stage_id != op->ino || s->n_parts == 0 || op->rev != s->n_parts)
        err = QE_STALE;
    for (int i = 0; !err && i < s->n_parts; i++)
        err = check_conditions(m, s->parts[i], at);
    if (!err)
        *at = 0;
    for (int i = 0; !err && i < s->n_parts; i++)
        err = do_ops(m, t, index, s->parts[i], ino, at);
    if (s->stage_id == op->ino) {
        s->stage_id = 0;
        s->n_parts = 0;
    }
    return err;
}

static int do_command(struct model *m, struct step *t, uint64_t index, const struct store_command *part, uint64_t *ino)
{
    const struct store_command *cmd = t->cmd;
    bool many = cmd->n_ops > 1 || cmd->n_conditions || cmd->ops[0].kind == STORE_OP_STAGED;
    uint64_t at = 0;
    int err;

    if (cmd->ops[0].kind == STORE_OP_STAGE)
        return do_stage(m, t, &cmd->ops[0], part);
    if (cmd->ops[0].kind == STORE_OP_STAGED) {
        err = do_staged(m, t, index, &cmd->ops[0], ino, &at);
    } else {
        err = check_conditions(m, cmd, &at);
        if (!err)
            at = 0;
        if (!err)
            err = do_ops(m, t, index, cmd, ino, &at);
    }
    if (err)
        *ino = many ? at : 0; /* which one failed */
    return err;
}

/* ---- Commands ------------------------------------------------------------------------------------------------------------ */

/* True: the command is a repetition or from nowhere, and `r` its answer. */
static bool answered(struct model *m, const struct store_command *cmd, struct store_result *r)
{
    struct model_session *s = find_session(m, cmd->session);

    if (cmd->ops[0].kind == STORE_OP_SESSION) {
        s = session_of(m, cmd->member);
        if (!s || cmd->seq > s->nonce)
            return false;
        r->kept = cmd->seq == s->nonce;
        r->err = r->kept ? 0 : QE_STALE;
        r->ino = r->kept ? s->id : s->nonce;
        return true;
    }
    r->err = QE_STALE;
    if (!s)
        return true;
    if (cmd->seq > s->last_seq) {
        r->err = 0;
        return false;
    }
    for (int i = s->n_kept > STORE_RESULTS_MAX ? s->n_kept - STORE_RESULTS_MAX : 0; i < s->n_kept; i++)
        if (s->kept[i].seq == cmd->seq && cmd->seq > s->acked) {
            *r = s->kept[i].r;
            r->kept = true;
        }
    return true;
}

static void keep(struct model *m, const struct store_command *cmd, const struct store_result *r)
{
    struct model_session *s = find_session(m, cmd->session);

    if (!s)
        return;
    GROW(s->kept, s->n_kept, s->cap_kept);
    s->kept[s->n_kept++] = (struct model_kept){cmd->seq, *r};
    s->last_seq = cmd->seq;
    if (cmd->acked > s->acked)
        s->acked = cmd->acked < cmd->seq ? cmd->acked : cmd->seq - 1;
}

struct store_result model_apply(struct model *m, uint64_t index, const struct store_command *cmd, const struct store_command *part)
{
    struct store_result r = {.session = cmd->session, .seq = cmd->seq, .rev = m->rev};
    struct step t = {cmd, m->rev + 1, false};
    uint64_t ino = 0;

    if (answered(m, cmd, &r))
        return r;
    m->n_undo = 0;
    r.err = do_command(m, &t, index, part, &ino);
    if (r.err) {
        undo_all(m);
    } else if (t.changed) {
        m->rev = t.rev;
        note_hist(m);
    }
    r.ino = ino;
    r.rev = m->rev;
    keep(m, cmd, &r);
    return r;
}
