/* The loop's part of the replay: what is taken in, what is left out, what runs when.
 *
 * Left out is what nobody can watch: the kernel knows neither a directory of the change nor its inode (a watch keeps what it watches known).
 * Left out is also a content that a later one follows, if one before it is still to be told: so a file that changes faster than it can be
 * told of is told of again and again, and last of all after its last change. */
#include "fs/replay.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fs/inode.h"
#include "fs/moves.h"
#include "fs/proc.h"
#include "fs/replay_parts.h"
#include "fs/replayer.h"
#include "fs/sharing.h"
#include "store/base/clock.h"

enum {
    TRIES_MAX = 3,       /* of an item whose names changed while it was carried out */
    STUCK_LOOK_MS = 500, /* how often workers are looked at for being stuck */
    NO_WORKER_MS = 20,   /* until the next try to have one */
    LINE_LOOK_MAX = 256, /* changes of a directory in which moves are looked for */
    LOCALS_MAX = 100000, /* names; more of them while something waits is no use to anybody */
};
#define SILENT_PACE_NS INT64_C(5000000)  /* between two files of our own that are told again: fsync must not pay for it */
#define RELEASE_NS INT64_C(100000000)     /* a close is followed by its release in much less */
#define WARN_NS INT64_C(10000000000)     /* between two lines about failures */
#define REST_NS INT64_C(5000000)         /* until what could not be told now is tried again */

/* ---- Names of which local operations told ------------------------------------------------------------------------------------------- */

enum { LOCAL_KEY_MAX = sizeof(uint64_t) + STORE_NAME_MAX };

static size_t local_key(char key[LOCAL_KEY_MAX], uint64_t dir, const char *name, size_t len)
{
    memcpy(key, &dir, sizeof dir);
    memcpy(key + sizeof dir, name, len);
    return sizeof dir + len;
}

static void local_note(struct replay *r, uint64_t dir, const char *name, size_t len, int64_t rev)
{
    char key[LOCAL_KEY_MAX];
    size_t n = local_key(key, dir, name, len);
    struct replay_local *l;

    HASH_FIND(hh, r->locals, key, n, l);
    if (!l && r->n_locals < LOCALS_MAX) {
        l = malloc(sizeof *l + n);
        if (!l)
            return; /* an event too many */
        l->key_len = n;
        memcpy(l->key, key, n);
        HASH_ADD_KEYPTR(hh, r->locals, l->key, n, l);
        r->n_locals++;
    }
    if (l)
        l->rev = rev;
}

bool replay__overtaken(struct replay *r, uint64_t dir, const char *name, int64_t rev)
{
    char key[LOCAL_KEY_MAX];
    size_t len = strlen(name);
    struct replay_local *l = NULL;

    if (r->locals && len <= STORE_NAME_MAX) {
        size_t n = local_key(key, dir, name, len);

        HASH_FIND(hh, r->locals, key, n, l);
    }
    return l && l->rev > rev;
}

static void locals_clear(struct replay *r)
{
    struct replay_local *l, *tmp;

    HASH_ITER(hh, r->locals, l, tmp) {
        HASH_DEL(r->locals, l);
        free(l);
    }
    r->n_locals = 0;
}

/* What the kernel has told: only of interest while older changes wait. */
static void take_local(struct replay *r, const struct replay_mail *m)
{
    if ((r->queue.n == 0 && !m->name_only) || m->op == STORE_EV_ATTRIB || (m->op == STORE_EV_PUT && m->made == STORE_MADE_NOTHING))
        return;
    local_note(r, m->parent, m->names, m->name_len, m->rev);
    if (m->op == STORE_EV_RENAME)
        local_note(r, m->old_parent, m->names + m->name_len, m->old_len, m->rev);
}

/* ---- Taking in ---------------------------------------------------------------------------------------------------------------------- */

bool replay__is_known(struct replay *r, uint64_t node)
{
    const struct inode *in = node ? inode_find(r->fs, node) : NULL;

    return in && in->nlookup > 0 && in->asked;
}

static bool may_be_watched(struct replay *r, const struct replay_item *i)
{
    return replay__is_known(r, i->parent) || replay__is_known(r, i->ino) || replay__is_known(r, i->old_parent) || replay__is_known(r, i->other);
}

/* A content that waits behind another one of its file makes way for a newer one. */
static void make_way(struct replay *r, uint64_t ino)
{
    struct replay_link *last = replay_queue_last(&r->queue, ino);
    enum replay_kind before;

    if (!last || !last->prev || last->item->kind != REPLAY_CONTENT || last->item->running)
        return;
    before = last->prev->item->kind;
    if (before != REPLAY_CONTENT && before != REPLAY_FILE)
        return;
    replay_queue_remove(&r->queue, last->item);
    r->stats.superseded++;
}

/* A worker has to find the names of before. So the kernel keeps none of now, which somebody has looked up meanwhile: it would take them for
 * those of the worker's call, and after an exchange have them the wrong way round for as long as it keeps names. */
bool replay_names_wait(const struct fs *fs)
{
    return fs->replay && fs->replay->queue.n_names > 0;
}

static void add(struct replay *r, const struct replay_item *from, const char *name, size_t len, const char *old, size_t old_len)
{
    bool first = r->queue.n_names == 0;
    struct replay_item *item;

    if (from->kind == REPLAY_CONTENT)
        make_way(r, from->ino);
    item = replay_item_new(from, name, len, old, old_len);
    if (item && replay_queue_add(&r->queue, item) == 0) {
        if (first && r->queue.n_names && r->fs->cache_s > 0)
            sharing_forget_names(r->fs);
        return;
    }
    replay_item_free(item);
    r->stats.failed++;
    log_warn("replay", "out of memory: watchers are not told of revision %lld", (long long)from->rev);
}

void replay__add(struct replay *r, const struct replay_item *from, const char *name, size_t len, const char *old, size_t old_len)
{
    if (may_be_watched(r, from))
        add(r, from, name, len, old, old_len);
    else
        r->stats.skipped++;
}

void replay_control(struct fs *fs, fuse_ino_t dir, fuse_ino_t node, const char *name)
{
    struct replay *r = fs->replay;
    const struct replay_item item = {.kind = REPLAY_CONTENT, .rev = r->taken, .applied_ns = clock_boottime_ns(), .ino = node, .parent = dir};

    if (!r->running)
        return;
    add(r, &item, name, strlen(name), "", 0);
    replay__dispatch(r);
}

static enum replay_kind kind_of(const struct replay_mail *m)
{
    switch (m->op) {
    case STORE_EV_PUT:
        if (m->made == STORE_MADE_NAME)
            return REPLAY_NAME;
        /* Of our own, the kernel told the creation when the file was opened. */
        return m->made == STORE_MADE_FILE && m->state != MAIL_ORPHAN ? REPLAY_FILE : REPLAY_CONTENT;
    case STORE_EV_DELETE: return REPLAY_UNLINK;
    case STORE_EV_MKDIR: return REPLAY_MKDIR;
    case STORE_EV_RMDIR: return REPLAY_RMDIR;
    case STORE_EV_SYMLINK: return REPLAY_SYMLINK;
    case STORE_EV_RENAME: return REPLAY_RENAME;
    case STORE_EV_ATTRIB: break;
    }
    return REPLAY_ATTRIB;
}

static bool same_name(const char *a, size_t a_len, const char *b, size_t b_len)
{
    return a_len == b_len && !memcmp(a, b, a_len);
}

/* `next` is the rename that took the place of what `m` deleted. */
static bool is_replaced(const struct replay_mail *m, const struct replay_mail *next)
{
    return (m->op == STORE_EV_DELETE || m->op == STORE_EV_RMDIR) && next && next->rev == m->rev && next->op == STORE_EV_RENAME &&
           next->parent == m->parent && same_name(m->names, m->name_len, next->names, next->name_len);
}

/* `next` is the other half of an exchange. */
static bool is_exchanged(const struct replay_mail *m, const struct replay_mail *next)
{
    return m->op == STORE_EV_RENAME && next && next->rev == m->rev && next->op == STORE_EV_RENAME && next->parent == m->old_parent &&
           next->old_parent == m->parent && same_name(next->names, next->name_len, m->names + m->name_len, m->old_len) &&
           same_name(m->names, m->name_len, next->names + next->name_len, next->old_len);
}

static void add_silent(struct replay *r, uint64_t ino, uint64_t parent, int64_t rev, int64_t applied_ns)
{
    struct replay_silent *s;

    HASH_FIND(hh, r->silent, &ino, sizeof ino, s);
    if (s) {
        s->rev = rev;
        r->stats.superseded++;
        return;
    }
    s = malloc(sizeof *s);
    if (!s) {
        r->stats.failed++;
        return;
    }
    *s = (struct replay_silent){.ino = ino, .rev = rev, .applied_ns = applied_ns, .parent = parent};
    HASH_ADD(hh, r->silent, ino, sizeof s->ino, s);
}

/* Whether the kernel has told of the names of a change of our own: of a new file when it was opened, whatever becomes of its commit. */
static bool told_names(const struct replay_mail *m)
{
    const bool unheard = m->state == MAIL_SILENT || m->state == MAIL_ORPHAN;

    return m->state == MAIL_ANNOUNCED || (unheard && m->op == STORE_EV_PUT && m->made == STORE_MADE_FILE);
}

/* Takes one change, or two that are one; returns the last one taken. */
static struct replay_mail *take_one(struct replay *r, struct replay_mail *m)
{
    struct replay_mail *next = m->next;
    struct replay_item item = {.rev = m->rev, .applied_ns = m->applied_ns, .ino = m->ino, .parent = m->parent, .old_parent = m->old_parent};

    if (told_names(m))
        take_local(r, m);
    if (m->state == MAIL_ANNOUNCED || m->name_only)
        return m;
    if (m->state == MAIL_SILENT) {
        if (m->op == STORE_EV_PUT)
            add_silent(r, m->ino, m->parent, m->rev, m->applied_ns);
        return m;
    }
    item.kind = kind_of(m);
    if (is_replaced(m, next)) {
        item.kind = REPLAY_RENAME;
        item.other = m->ino;
        item.ino = next->ino;
        item.old_parent = next->old_parent;
        m = next;
    } else if (is_exchanged(m, next)) {
        item.kind = REPLAY_EXCHANGE;
        item.other = next->ino;
        replay__add(r, &item, m->names, m->name_len, m->names + m->name_len, m->old_len);
        return next;
    }
    replay__add(r, &item, m->names, m->name_len, m->names + m->name_len, m->old_len);
    return m;
}

static void take_list(struct replay *r, struct replay_mail *list)
{
    for (struct replay_mail *m = list; m; m = take_one(r, m)->next)
        if (m->rev > r->taken && !m->name_only)
            r->taken = m->rev;
    while (list) {
        struct replay_mail *next = list->next;

        free(list);
        list = next;
    }
    atomic_store(&r->queue_bytes, r->queue.bytes);
}

/* The file whose turn it is, of those whose commits the kernel does not tell. */
static void tell_silent(struct replay *r, int64_t now_ns)
{
    struct replay_silent *s = r->silent;

    if (!s || now_ns < r->silent_next_ns || r->held)
        return;
    HASH_DEL(r->silent, s);
    r->silent_next_ns = now_ns + SILENT_PACE_NS;
    replay__add(r, &(struct replay_item){.kind = REPLAY_CONTENT, .rev = s->rev, .applied_ns = s->applied_ns, .ino = s->ino, .parent = s->parent}, "", 0,
        "", 0);
    free(s);
}

/* ---- Running ------------------------------------------------------------------------------------------------------------------------ */

static void warn(struct replay *r, const struct replay_item *item, int error)
{
    int64_t now = clock_boottime_ns();

    if (now - r->warned_ns < WARN_NS && r->warned)
        return;
    r->warned = true;
    r->warned_ns = now;
    log_warn("replay", "watchers were not told of a change rev=%lld inode=%llu: %s", (long long)item->rev, (unsigned long long)item->ino,
             strerror(error));
}

static void finish(struct replay *r, struct replay_item *item)
{
    replay_queue_remove(&r->queue, item);
    moves_look(r->fs);
    atomic_store(&r->queue_bytes, r->queue.bytes);
}

/* How long what waits for a local operation may wait: each of those has an end after `timeout`. */
static int64_t patience_ns(const struct replay *r)
{
    return 2 * (int64_t)r->fs->opt->timeout_ms * 1000000;
}

/* It cannot be told now, and will be tried again after a moment. False: that was done for long enough. */
static bool rest(struct replay *r, struct replay_item *item)
{
    int64_t now = clock_boottime_ns();

    if (item->rests_ns == 0)
        item->rests_ns = now;
    if (!r->running || now - item->rests_ns > patience_ns(r))
        return false;
    if (!r->resting)
        r->rested_ns = now + REST_NS;
    item->next_ready = r->resting;
    r->resting = item;
    return true;
}

static void end_rest(struct replay *r, int64_t now_ns)
{
    struct replay_item *item;

    while (now_ns >= r->rested_ns && (item = r->resting)) {
        r->resting = item->next_ready;
        replay_queue_return(&r->queue, item);
    }
}

static void run(struct replay *r, struct replay_worker *w, struct replay_item *item)
{
    struct buf order = {0};
    int err = replay__plan(r, item, &w->frame, &order);

    if (!err) {
        replay__plan_series(r, &w->frame, &order, &w->kept);
        err = replay__crew_send(r, w, &order);
    }
    buf_fini(&order);
    if (!err)
        return;
    w->frame.item = NULL;
    if (err == QE_AGAIN && rest(r, item))
        return;
    if (err == QE_IO && item->tries++ < TRIES_MAX) { /* the worker is gone */
        replay_queue_return(&r->queue, item);
        return;
    }
    if (err == QE_CANCELED || err == QE_NOENT) {
        r->stats.superseded++;
    } else {
        r->stats.failed++;
        warn(r, item, fs_errno(err));
    }
    finish(r, item);
}

void replay__dispatch(struct replay *r)
{
    struct replay_worker *w;
    struct replay_item *item;

    while (r->queue.ready && replay__crew_is_gone(r) && (item = replay_queue_take(&r->queue))) {
        r->stats.failed++;
        finish(r, item);
    }
    while (r->running && !r->held && r->queue.ready && replay__crew_idle(r, 0) && (item = replay_queue_take(&r->queue))) {
        w = replay__crew_idle(r, item->parent);
        run(r, w, item);
    }
    replay__crew_rest(r);
    if (r->queue.n == 0 && r->locals && !atomic_load(&r->behind))
        locals_clear(r);
}

static void lag_add(struct replica_hist *h, int64_t ns)
{
    int64_t us = ns / 1000;
    int i = 0;

    while (i < REPLICA_HIST_BUCKETS - 1 && us >= INT64_C(10) << i)
        i++;
    h->buckets[i]++;
    h->count++;
    h->sum_us += (uint64_t)us;
}

/* What was at the name is there no more, or something of another kind is. */
static bool is_rebound(int error)
{
    return error == ENOENT || error == EISDIR || error == ENOTDIR || error == ELOOP;
}

/* Whether it is worth planning again: the names have changed, or the worker was lost. */
static bool may_try_again(const struct replay_frame *f, int error)
{
    if (f->done || f->item->tries >= TRIES_MAX)
        return false;
    return error == ECANCELED || is_rebound(error) || error == EEXIST || error == ETIMEDOUT || error == EIO;
}

void replay__reported(struct replay *r, struct replay_frame *f, int error)
{
    struct replay_item *item = f->item;

    f->item = NULL;
    if (!error) {
        r->stats.replayed++;
        lag_add(&r->stats.lag, clock_boottime_ns() - item->applied_ns);
        finish(r, item);
        return;
    }
    /* Somebody has looked a directory up in its new place, and the kernel cannot move it back while a local operation has a lock of its. A rename
     * from one directory to another has that of the whole mount, for as long as it waits for its command. */
    if (error == ESTALE && !f->done && rest(r, item))
        return;
    f->item = item;
    if (r->running && may_try_again(f, error)) {
        item->tries++;
        replay_queue_return(&r->queue, item);
    } else {
        bool overtaken = error == ECANCELED || is_rebound(error) || error == EXDEV;

        if (overtaken)
            r->stats.superseded++;
        else
            r->stats.failed++;
        if (r->running && !overtaken && error != ENODEV) /* ENODEV: the mount has just been taken away */
            warn(r, item, error);
        finish(r, item);
    }
    f->item = NULL;
}

/* ---- Local operations --------------------------------------------------------------------------------------------------------------- */

void replay_hold(struct fs *fs, struct replay_hold *hold, const struct store_command *cmd)
{
    const struct store_op *op = cmd->ops;

    switch (op->kind) {
    case STORE_OP_CREATE:
    case STORE_OP_MKDIR:
    case STORE_OP_SYMLINK:
    case STORE_OP_UNLINK:
    case STORE_OP_RMDIR: hold->node[0] = op->parent; break;
    case STORE_OP_RENAME:
        hold->node[0] = op->parent;
        hold->node[1] = op->parent2 == op->parent ? 0 : op->parent2;
        break;
    case STORE_OP_COMMIT:
    case STORE_OP_SETATTR:
    case STORE_OP_SETXATTR:
    case STORE_OP_REMOVEXATTR: hold->node[0] = op->ino; break;
    default: break;
    }
    for (int i = 0; i < 2; i++)
        if (hold->node[i])
            replay_queue_hold(&fs->replay->queue, hold->node[i]);
}

void replay_let_go(struct fs *fs, struct replay_hold *hold)
{
    for (int i = 0; i < 2; i++)
        if (hold->node[i])
            replay_queue_let_go(&fs->replay->queue, hold->node[i]);
    if (fs->replay->queue.ready)
        replay__dispatch(fs->replay);
}

void replay_closed(struct fs *fs, uint64_t file, uint64_t ino, int64_t rev)
{
    struct replay *r = fs->replay;
    struct replay_closing *c;

    if (!r->running)
        return;
    replay_released(fs, file);
    c = malloc(sizeof *c);
    if (!c)
        return; /* most probably the release comes at once */
    *c = (struct replay_closing){.file = file, .ino = ino, .rev = rev, .closed_ns = clock_boottime_ns()};
    HASH_ADD(hh, r->closing, file, sizeof c->file, c);
}

void replay_released(struct fs *fs, uint64_t file)
{
    struct replay_closing *c;

    HASH_FIND(hh, fs->replay->closing, &file, sizeof file, c);
    if (!c)
        return;
    HASH_DEL(fs->replay->closing, c);
    free(c);
}

/* Tells of commits whose open files go on in other processes. */
static void tell_closing(struct replay *r, int64_t now_ns)
{
    struct replay_closing *c;

    while ((c = r->closing) && now_ns - c->closed_ns >= RELEASE_NS) {
        add_silent(r, c->ino, 0, c->rev, now_ns);
        HASH_DEL(r->closing, c);
        free(c);
    }
}

bool replay_will_delete(struct fs *fs, uint64_t ino)
{
    struct replay *r = fs->replay;

    if (!r || r->queue.n == 0)
        return false;
    for (struct replay_link *l = replay_queue_ends(&r->queue, ino); l; l = l->next_end) {
        const struct replay_item *i = l->item;

        if (i->done)
            continue;
        if (((i->kind == REPLAY_UNLINK || i->kind == REPLAY_RMDIR) && i->ino == ino) || (i->kind == REPLAY_RENAME && i->other == ino))
            return true;
    }
    return false;
}

bool replay_moves_wait(const struct fs *fs)
{
    return fs->replay && fs->replay->queue.n_moves > 0;
}

bool replay_is_moving(struct fs *fs, uint64_t dir)
{
    for (struct replay_link *l = replay_moves_wait(fs) ? replay_queue_ends(&fs->replay->queue, dir) : NULL; l; l = l->next_end)
        if (replay_item_moves(l->item, dir))
            return true;
    return false;
}

bool replay_moves_in(struct fs *fs, uint64_t parent)
{
    struct replay_link *l = replay_moves_wait(fs) ? replay_queue_line(&fs->replay->queue, parent) : NULL;

    for (int i = 0; l && i < LINE_LOOK_MAX; i++, l = l->next)
        if (replay_item_moves(l->item, 0) && (l->item->parent == parent || l->item->old_parent == parent))
            return true;
    return false;
}

/* ---- The loop ----------------------------------------------------------------------------------------------------------------------- */

void replay_drain(struct fs *fs)
{
    struct replay *r = fs->replay;
    struct replay_mail *list;

    if (!atomic_load(&r->has_mail))
        return;
    list = replay__mail_take(r);
    if (list)
        take_list(r, list);
    if (r->silent)
        tell_silent(r, clock_boottime_ns());
    if (r->queue.ready)
        replay__dispatch(r);
}

/* When everything in memory has been told, there may be more in the store. */
static void read_again(struct replay *r)
{
    struct replay_mail *list;

    while (r->running && !r->held && r->queue.n == 0 && (list = replay__mail_reread(r)))
        take_list(r, list);
    if (r->queue.ready)
        replay__dispatch(r);
}

static void look(struct replay *r)
{
    replay__crew_look(r);
    replay_drain(r->fs);
    if (r->queue.ready)
        replay__dispatch(r);
    if (r->queue.n == 0)
        read_again(r);
    replay__stock(r);
}

void replay_look(struct fs *fs)
{
    if (fs->replay->crew.n_busy)
        look(fs->replay);
}

void replay_woken(struct fs *fs)
{
    struct replay *r = fs->replay;
    eventfd_t n;

    eventfd_read(r->wake, &n);
    replay__inject_look(r);
    look(r);
}

int replay_fd(struct fs *fs)
{
    return fs->replay->poll;
}

static int sooner(int a, int b)
{
    return a < 0 ? b : b < 0 || a < b ? a : b;
}

int replay_tick(struct fs *fs, int wait_ms)
{
    struct replay *r = fs->replay;
    int64_t now;

    if (!r->running || (!r->queue.n && !r->silent && !r->closing && !atomic_load(&r->mail_bytes) && !atomic_load(&r->behind)))
        return wait_ms;
    now = clock_boottime_ns();
    wait_ms = sooner(wait_ms, replay__mail_expire(r, now));
    replay_drain(fs);
    tell_closing(r, now);
    tell_silent(r, now);
    end_rest(r, now);
    replay__dispatch(r);
    if (atomic_load(&r->behind))
        read_again(r);
    if (r->crew.n_busy) {
        replay__crew_replace(r, now - patience_ns(r));
        wait_ms = sooner(wait_ms, STUCK_LOOK_MS);
    }
    if (r->queue.ready && !r->held)
        wait_ms = sooner(wait_ms, NO_WORKER_MS);
    if (r->resting)
        wait_ms = sooner(wait_ms, (int)(REST_NS / 1000000));
    if (r->closing)
        wait_ms = sooner(wait_ms, (int)(RELEASE_NS / 1000000));
    if (r->silent)
        wait_ms = sooner(wait_ms, (int)(SILENT_PACE_NS / 1000000));
    return wait_ms;
}

/* ---- Life --------------------------------------------------------------------------------------------------------------------------- */

int replay_fork(struct fs *fs, struct buf *why)
{
    struct replay *r = calloc(1, sizeof *r);
    struct epoll_event ev = {.events = EPOLLIN};

    if (!r)
        return QE_NOMEM;
    fs->replay = r;
    r->fs = fs;
    r->inject = r->crew.control = r->crew.epoll = r->poll = r->wake = -1;
    for (size_t i = 0; i < CREW_MAX + CREW_LOST_MAX; i++)
        r->crew.workers[i].sock = -1;
    replay__mail_init(r);
    replay_queue_init(&r->queue);
    if (!fs->opt->read_only && replayer_fork(fs->opt->mountpoint, &r->crew.supervisor, &r->crew.control, why))
        return QE_IO;
    r->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    r->poll = epoll_create1(EPOLL_CLOEXEC);
    r->crew.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (r->wake < 0 || r->poll < 0 || r->crew.epoll < 0 || epoll_ctl(r->poll, EPOLL_CTL_ADD, r->wake, &ev) ||
        epoll_ctl(r->poll, EPOLL_CTL_ADD, r->crew.epoll, &ev))
        return QE_IO;
    return 0;
}

int replay_open(struct fs *fs, struct buf *why)
{
    struct replay *r = fs->replay;
    struct replica_status status;
    struct store_glance g;
    char dev[32], type[64];

    if (fs->opt->read_only) /* the kernel lets nobody change anything, the replayer neither */
        return 0;
    if (!proc_find_mount(fs->opt->mountpoint, dev, type) || sscanf(dev, "%u:%u", &r->major, &r->minor) != 2) {
        buf_printf(why, "the new mount on \"%s\" is not in /proc/self/mountinfo", fs->opt->mountpoint);
        return QE_IO;
    }
    replica_status(fs->replica, &status);
    r->member = status.member;
    r->running = true;
    pthread_mutex_lock(&r->lock);
    replica_glance(fs->replica, &g);
    r->accepting = true;
    r->mailed = r->changed = g.rev;
    pthread_mutex_unlock(&r->lock);
    return replay__inject_open(r);
}

void replay_stop(struct fs *fs)
{
    struct replay *r = fs->replay;

    if (!r->running)
        return;
    r->running = false;
    pthread_mutex_lock(&r->lock);
    r->accepting = false;
    pthread_mutex_unlock(&r->lock);
    replay__crew_stop(r);
}

void replay_close(struct fs *fs)
{
    struct replay *r = fs->replay;
    struct replay_silent *s, *tmp;
    struct replay_closing *c, *tmp2;

    if (!r)
        return;
    r->running = false;
    replay__crew_stop(r);
    replay__crew_close(r);
    replay__inject_close(r);
    replay__stock_fini(r);
    replay_queue_fini(&r->queue);
    locals_clear(r);
    HASH_ITER(hh, r->silent, s, tmp) {
        HASH_DEL(r->silent, s);
        free(s);
    }
    HASH_ITER(hh, r->closing, c, tmp2) {
        HASH_DEL(r->closing, c);
        free(c);
    }
    replay__mail_fini(r);
    if (r->wake >= 0)
        close(r->wake);
    if (r->poll >= 0)
        close(r->poll);
    free(r);
    fs->replay = NULL;
}

void replay_stats(struct fs *fs, struct replay_stats *out)
{
    *out = fs->replay->stats;
    out->queued = fs->replay->queue.n;
}
