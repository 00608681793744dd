/* From an item to an order. The question is always: which names does the kernel think there are?
 *
 * A name that no waiting item touches is what the store says. A node whose rename or deletion waits is still where it was before the
 * first of those. A name of which a later local operation has told is not spoken of any more; what is left of the item then is
 * told by the half of it that still holds. */
#include <stddef.h>
#include <string.h>

#include "fs/control/control.h"
#include "fs/inode.h"
#include "fs/proc.h"
#include "fs/replay_parts.h"
#include "fs/replayer.h"

enum {
    DEPTH_MAX = 2048,              /* longer than any path of 4096 bytes */
    POSITION_LAST = (1 << 20) - 1, /* in a revision */
};
static const char control_tree[] = ".quorum";

/* ---- Bindings that wait to be told ----------------------------------------------------------------------------------------------- */

/* The binding of the node that the item, which takes it away, ends. */
static void ended_binding(const struct replay_item *item, uint64_t node, uint64_t *parent, const char **name)
{
    bool moved = (item->kind == REPLAY_RENAME || item->kind == REPLAY_EXCHANGE) && item->ino == node;

    *parent = moved ? item->old_parent : item->parent;
    *name = moved ? item->old_name : item->name;
}

/* The name that a node has until the first waiting item takes it away. */
static bool waiting_binding(struct replay *r, const struct replay_item *self, uint64_t node, uint64_t *parent, const char **name)
{
    for (struct replay_link *l = replay_queue_ends(&r->queue, node); l; l = l->next_end)
        if (l->item != self && !l->item->done) {
            ended_binding(l->item, node, parent, name);
            return true;
        }
    return false;
}

/* Where a node was after the newest change that was taken in, while later ones are still to be read. Not 0: a local operation has told of
 * that name since, the node is newer, or history is gone. */
static int taken_binding(struct replay *r, uint64_t node, uint64_t *parent, struct buf *name)
{
    struct store_attr attr;
    struct store_dir_at at;
    int err = store_getattr(r->fs->reader, r->taken, node, &attr);

    if (!err)
        err = store_dir_at(r->fs->reader, r->taken, POSITION_LAST, node, &at);
    if (!err)
        err = buf_append(name, at.name, at.name_len);
    if (!err && replay__overtaken(r, at.parent, buf_cstr(name), r->taken))
        err = QE_CANCELED;
    if (!err)
        *parent = at.parent;
    return err;
}

/* Where a node is for the kernel. `name` gets a copy. 0; QE_NOENT: nowhere. */
static int announced(struct replay *r, const struct replay_item *self, uint64_t node, uint64_t *parent, struct buf *name)
{
    const char *text;

    buf_clear(name);
    if (waiting_binding(r, self, node, parent, &text))
        return buf_append(name, text, strlen(text));
    if (atomic_load(&r->behind) && !taken_binding(r, node, parent, name))
        return 0;
    buf_clear(name);
    return store_name(r->fs->reader, node, parent, name);
}

/* ---- The frame ------------------------------------------------------------------------------------------------------------------- */

static int frame_add(struct replay_frame *f, uint64_t dir, const char *name, size_t len, uint64_t before, uint64_t after)
{
    struct replay_binding b = {.dir = dir, .before = before, .after = after, .at = f->names.len};
    int err = buf_append(&f->names, name, len);

    if (!err)
        err = buf_append(&f->names, "", 1);
    if (!err)
        err = buf_append(&f->list, &b, sizeof b);
    if (!err)
        f->n++;
    return err;
}

/* The way has DEPTH_MAX steps. Two renames, each of a directory into what was below the other, have no node in common: then the second one
 * has no way until the first one is told. */
static int too_deep(const struct replay_frame *f)
{
    const struct replay_binding *last = (const struct replay_binding *)(const void *)f->list.data + f->n - 1;

    for (size_t i = 1; i < DEPTH_MAX; i++)
        if (last[-(ptrdiff_t)i].after == last->after)
            return QE_AGAIN;
    return QE_NAMETOOLONG;
}

/* The way from the root to a directory; `path` gets it with slashes. */
static int frame_add_way(struct replay *r, struct replay_frame *f, uint64_t dir, struct buf *path)
{
    struct buf name = {0};
    uint64_t parent;
    int err = 0;

    for (int depth = 0; !err && dir != STORE_ROOT_INO; depth++) {
        err = depth == DEPTH_MAX ? too_deep(f) : announced(r, f->item, dir, &parent, &name);
        if (!err)
            err = frame_add(f, parent, buf_cstr(&name), name.len, dir, dir);
        if (!err && path->len)
            err = buf_append(&name, "/", 1);
        if (!err)
            err = buf_append(&name, path->data, path->len);
        if (!err)
            buf_move(path, &name);
        dir = parent;
    }
    buf_fini(&name);
    return err;
}

/* ---- What is left of an item ------------------------------------------------------------------------------------------------------- */

/* The call for an item, and the names it is about. */
struct plan {
    enum replay_kind kind;
    uint64_t parent, old_parent;
    const char *name, *old_name;
    bool alive;             /* the inode is there now */
    bool empty;             /* it has no content */
    struct buf hold;        /* memory for `name` */
};

static enum replay_kind removal_of(uint64_t ino)
{
    return store_ino_kind(ino) == STORE_DIR ? REPLAY_RMDIR : REPLAY_UNLINK;
}

static enum replay_kind making_of(uint64_t ino)
{
    switch (store_ino_kind(ino)) {
    case STORE_DIR: return REPLAY_MKDIR;
    case STORE_SYMLINK: return REPLAY_SYMLINK;
    case STORE_FILE: break;
    }
    return REPLAY_FILE;
}

bool replay__in_the_making(struct replay *r, uint64_t dir, const char *name)
{
    return creation_find(r->fs, 0, dir, name, PROC_ANY_SESSION) != NULL;
}

/* A rename of which one half has been overtaken is the removal of the old name, or the appearance of the new one. */
static int plan_rename(struct replay *r, const struct replay_item *item, struct plan *p)
{
    bool old = replay__overtaken(r, item->old_parent, item->old_name, item->rev) ||
               (item->kind == REPLAY_RENAME && replay__in_the_making(r, item->old_parent, item->old_name));
    bool new = replay__overtaken(r, item->parent, item->name, item->rev);

    if (!old && !new)
        return 0;
    if ((old && new) || item->kind == REPLAY_EXCHANGE || (new && p->alive) || (old && !p->alive))
        return QE_CANCELED;
    p->kind = new ? removal_of(item->ino) : making_of(item->ino);
    if (new) {
        p->parent = item->old_parent;
        p->name = item->old_name;
    }
    return 0;
}

static int plan_content(struct replay *r, const struct replay_item *item, struct plan *p)
{
    struct store_attr attr;
    int err;

    if (item->ino == STORE_ROOT_INO) {
        p->name = "";
        p->parent = STORE_ROOT_INO;
        return 0;
    }
    if (!replay_queue_line(&r->queue, item->ino)->next && *item->name && /* nothing waits behind it: the name is the store's */
        !store_lookup(r->fs->reader, STORE_HEAD, item->parent, item->name, strlen(item->name), &attr) && attr.ino == item->ino)
        return 0;
    err = announced(r, item, item->ino, &p->parent, &p->hold);
    p->name = buf_cstr(&p->hold);
    if (!err && replay__overtaken(r, p->parent, p->name, item->rev) && !p->alive)
        err = QE_CANCELED;
    return err;
}

static int plan_kind(struct replay *r, const struct replay_item *item, struct plan *p)
{
    switch (item->kind) {
    case REPLAY_CONTENT:
    case REPLAY_ATTRIB: return plan_content(r, item, p);
    case REPLAY_RENAME:
    case REPLAY_EXCHANGE: return plan_rename(r, item, p);
    case REPLAY_FILE:
    case REPLAY_NAME: /* of a file in the making the kernel has told */
        if (replay__in_the_making(r, item->parent, item->name))
            p->kind = REPLAY_CONTENT;
        break;
    case REPLAY_MKDIR:
    case REPLAY_SYMLINK: break;
    case REPLAY_UNLINK:
    case REPLAY_RMDIR:
        if (replay__in_the_making(r, item->parent, item->name))
            return QE_CANCELED;
        break;
    }
    return replay__overtaken(r, item->parent, item->name, item->rev) ? QE_CANCELED : 0;
}

/* ---- The order --------------------------------------------------------------------------------------------------------------------- */

static enum replayer_call call_of(enum replay_kind kind)
{
    static const enum replayer_call calls[] = {
        [REPLAY_FILE] = REPLAYER_CREATE, [REPLAY_NAME] = REPLAYER_MKNOD, [REPLAY_CONTENT] = REPLAYER_CONTENT,
        [REPLAY_MKDIR] = REPLAYER_MKDIR, [REPLAY_SYMLINK] = REPLAYER_SYMLINK, [REPLAY_UNLINK] = REPLAYER_UNLINK,
        [REPLAY_RMDIR] = REPLAYER_RMDIR, [REPLAY_RENAME] = REPLAYER_RENAME, [REPLAY_EXCHANGE] = REPLAYER_EXCHANGE,
        [REPLAY_ATTRIB] = REPLAYER_ATTRIB,
    };

    return calls[kind];
}

static int write_order(struct replay *r, const struct replay_frame *f, const struct plan *p, const struct buf paths[2], struct buf *order)
{
    const bool two = p->kind == REPLAY_RENAME || p->kind == REPLAY_EXCHANGE;
    const struct replayer_order o = {.call = call_of(p->kind), .empty = p->empty, .major = r->major, .minor = r->minor,
                                     .is_dir = store_ino_kind(f->ino) == STORE_DIR || (f->other && store_ino_kind(f->other) == STORE_DIR)};
    const char *name = two ? p->old_name : p->name, *name2 = two ? p->name : "";
    int err;

    buf_clear(order);
    err = buf_append(order, &o, sizeof o);
    if (!err)
        err = buf_append(order, paths[0].len ? (const char *)paths[0].data : "", paths[0].len);
    if (!err)
        err = buf_append(order, "", 1);
    if (!err)
        err = buf_append(order, name, strlen(name) + 1);
    if (!err)
        err = buf_append(order, paths[1].len ? (const char *)paths[1].data : "", paths[1].len);
    if (!err)
        err = buf_append(order, "", 1);
    if (!err)
        err = buf_append(order, name2, strlen(name2) + 1);
    return err ? err : order->len > REPLAYER_ORDER_MAX ? QE_NAMETOOLONG : 0;
}

/* The order's own names: what is there before and after. */
static int frame_add_own(struct replay_frame *f, const struct plan *p)
{
    uint64_t before = 0, after = 0;
    int err = 0;

    switch (p->kind) {
    case REPLAY_FILE:
    case REPLAY_NAME:
    case REPLAY_MKDIR:
    case REPLAY_SYMLINK: after = f->ino; break;
    case REPLAY_CONTENT:
    case REPLAY_ATTRIB: before = after = f->ino; break;
    case REPLAY_UNLINK:
    case REPLAY_RMDIR: before = f->ino; break;
    case REPLAY_RENAME:
    case REPLAY_EXCHANGE:
        before = f->other;
        after = f->ino;
        err = frame_add(f, p->old_parent, p->old_name, strlen(p->old_name), f->ino, p->kind == REPLAY_EXCHANGE ? f->other : 0);
        break;
    }
    if (!err && *p->name)
        err = frame_add(f, p->parent, p->name, strlen(p->name), before, after);
    f->n_own = f->n;
    return err;
}

static int plan_all(struct replay *r, struct replay_item *item, struct plan *p, struct replay_frame *f, struct buf *order)
{
    struct buf paths[2] = {{0}, {0}};
    struct store_attr attr;
    bool two;
    int err = store_getattr(r->fs->reader, STORE_HEAD, item->ino, &attr);

    if (err && err != QE_NOENT)
        return err;
    p->alive = err == 0;
    p->empty = p->alive && attr.size == 0;
    err = plan_kind(r, item, p);
    f->kind = p->kind;
    two = p->kind == REPLAY_RENAME || p->kind == REPLAY_EXCHANGE;
    if (!err)
        err = frame_add_own(f, p);
    if (!err)
        err = frame_add_way(r, f, two ? p->old_parent : p->parent, &paths[0]);
    if (!err && two)
        err = frame_add_way(r, f, p->parent, &paths[1]);
    f->dir = two ? 0 : p->parent;
    if (!err)
        err = write_order(r, f, p, paths, order);
    buf_fini(&paths[0]);
    buf_fini(&paths[1]);
    return err;
}

/* A control file is where it always is: .quorum/ROW/NAME. */
static int plan_control(struct replay *r, const struct replay_item *item, struct plan *p, struct replay_frame *f, struct buf *order)
{
    const char *row = control_row_name(fs_view_of(item->parent));
    struct buf paths[2] = {{0}, {0}};
    int err = frame_add_own(f, p);

    f->kind = p->kind;
    f->dir = p->parent;
    if (!err)
        err = frame_add(f, FS_CONTROL_ROOT, row, strlen(row), item->parent, item->parent);
    if (!err)
        err = frame_add(f, STORE_ROOT_INO, control_tree, strlen(control_tree), FS_CONTROL_ROOT, FS_CONTROL_ROOT);
    if (!err)
        err = buf_printf(&paths[0], "%s/%s", control_tree, row);
    if (!err)
        err = write_order(r, f, p, paths, order);
    buf_fini(&paths[0]);
    return err;
}

int replay__plan(struct replay *r, struct replay_item *item, struct replay_frame *f, struct buf *order)
{
    struct plan p = {.kind = item->kind, .parent = item->parent, .old_parent = item->old_parent, .name = item->name, .old_name = item->old_name};
    int err;

    f->item = item;
    f->ino = item->ino;
    f->other = item->other;
    f->n = f->n_own = 0;
    f->done = false;
    f->planned = r->taken;
    buf_clear(&f->list);
    buf_clear(&f->names);
    if (fs_view_of(item->ino) != FS_VIEW_LIVE)
        return plan_control(r, item, &p, f, order);
    err = store_read_begin(r->fs->reader, NULL);
    if (err)
        return err;
    err = plan_all(r, item, &p, f, order);
    store_read_end(r->fs->reader);
    buf_fini(&p.hold);
    return err;
}

/* Whether the next item of the directory will run as soon as this one is done, and is no more than that. */
static bool goes_on(struct replay *r, const struct replay_frame *f)
{
    const struct replay_link *l = f->dir ? replay_queue_line(&r->queue, f->dir) : NULL;
    const struct replay_item *next = l && l->next ? l->next->item : NULL;

    return next && l->item == f->item && next->parent == f->dir && next->kind != REPLAY_RENAME && next->kind != REPLAY_EXCHANGE;
}

void replay__plan_series(struct replay *r, const struct replay_frame *f, struct buf *order, uint64_t *kept)
{
    struct replayer_order o;

    memcpy(&o, order->data, sizeof o);
    o.same = f->dir && f->dir == *kept;
    o.keep = goes_on(r, f);
    *kept = o.keep ? f->dir : 0;
    memcpy(order->data, &o, sizeof o);
}
