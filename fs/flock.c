/* A lock request that conflicts waits in the order of arrival; any signal ends the wait with EINTR. Releasing goes in two steps:
 * what the releaser has written is committed, and when that is settled the lock goes and the waiters are looked at again. */
#include "fs/flock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>

#include "fs/commit.h"
#include "fs/proc.h"
#include "store/base/clock.h"

enum { IDLE_COMMIT_MS = 1000 };

/* A lock that is held or waited for. */
struct file_lock {
    struct file_lock *next;
    struct inode *in;
    bool whole;        /* flock(2), else fcntl(2) */
    bool exclusive;
    uint64_t owner;    /* the kernel's lock owner; for flock the open file */
    int64_t start, end; /* fcntl: first and last byte */
    pid_t pid;         /* for F_GETLK */
    struct handle *h;  /* through which it was asked for */
    fuse_req_t req;    /* of a waiter */
    bool interrupted;  /* of a waiter: a signal came */
};

struct lock_table {
    struct file_lock *waiting; /* of all files, in order of arrival */
    bool look;                 /* a waiter was interrupted */
    size_t n_held;
    int64_t ticked_ns;         /* when flock_tick last looked */
    bool refused;              /* it was logged that locks are refused, since the cluster grew */
    bool ranges_used;          /* somebody has taken an fcntl lock on this mount */
};

static struct lock_table *table_of(struct fs *fs)
{
    if (!fs->locks)
        fs->locks = calloc(1, sizeof *fs->locks);
    return fs->locks;
}

static bool overlaps(const struct file_lock *a, const struct file_lock *b)
{
    return a->whole || (a->start <= b->end && b->start <= a->end);
}

/* Locks belong to the inode of the store: of a creation whose name was taken first, that is another node's. NULL: there is none. */
static struct inode *locked_inode(const struct handle *h)
{
    return h->in->ino == h->in->node ? h->in : inode_find(h->fs, h->in->ino);
}

/* A lock that is held by somebody else and excludes `want`; NULL: none. */
static const struct file_lock *find_conflict(const struct file_lock *want)
{
    for (const struct file_lock *l = want->in->locks; l; l = l->next)
        if (l->whole == want->whole && l->owner != want->owner && (l->exclusive || want->exclusive) && overlaps(l, want))
            return l;
    return NULL;
}

/* ---- Holding ---- */

static void wake_waiters(struct fs *fs, const struct inode *in);

static void hold(struct fs *fs, struct file_lock *l)
{
    l->next = l->in->locks;
    l->in->locks = l;
    fs->locks->n_held++;
}

static void unhold(struct fs *fs, struct file_lock **p)
{
    struct file_lock *l = *p;

    *p = l->next;
    fs->locks->n_held--;
    free(l);
}

/* After locks went: the inode may have been kept for them only. */
static void unheld(struct fs *fs, struct inode *in)
{
    wake_waiters(fs, in);
    if (!in->locks)
        inode_unused(fs, in);
}

/* Takes the range of `what` out of what its owner holds. The part behind it may need a lock of its own: QE_NOMEM. */
static int cut(struct fs *fs, const struct file_lock *what)
{
    struct file_lock **p = &what->in->locks;

    while (*p) {
        struct file_lock *l = *p, *rest;

        if (l->whole != what->whole || l->owner != what->owner || !overlaps(l, what)) {
            p = &l->next;
        } else if (l->whole || (what->start <= l->start && what->end >= l->end)) {
            unhold(fs, p);
        } else if (what->start > l->start && what->end < l->end) {
            rest = malloc(sizeof *rest);
            if (!rest)
                return QE_NOMEM;
            *rest = *l;
            rest->start = what->end + 1;
            l->end = what->start - 1;
            hold(fs, rest);
            return 0;
        } else {
            if (what->start <= l->start)
                l->start = what->end + 1;
            else
                l->end = what->start - 1;
            p = &l->next;
        }
    }
    return 0;
}

/* The owner's clean open files of this inode go on with the newest content. */
static void move_handles(struct file_lock *l)
{
    for (struct handle *h = l->in->handles; h; h = h->next)
        if (!h->dirty && (h == l->h || h->tid == l->h->tid || (h->tgid && h->tgid == l->h->tgid)))
            h->base_old = h->readable;
}

/* Grants `want`, which becomes the table's. */
static int grant(struct fs *fs, struct file_lock *want)
{
    int err = cut(fs, want);

    if (err)
        return err;
    move_handles(want);
    hold(fs, want);
    return 0;
}

/* ---- Waiting ---- */

/* libfuse calls this with locks of its own held, on the FUSE loop. */
static void wait_interrupted(fuse_req_t req, void *data)
{
    struct file_lock *l = data;

    l->interrupted = true;
    fs_of(req)->locks->look = true;
}

static void wait_end(struct file_lock **p, int err, bool keep)
{
    struct file_lock *l = *p;
    fuse_req_t req = l->req;

    *p = l->next;
    l->req = NULL;
    if (!keep)
        free(l);
    fuse_req_interrupt_func(req, NULL, NULL);
    fuse_reply_err(req, err);
}

/* After something was released. */
static void wake_waiters(struct fs *fs, const struct inode *in)
{
    struct file_lock **p = &fs->locks->waiting;

    while (*p) {
        struct file_lock *l = *p, *next = l->next;
        fuse_req_t req = l->req;
        int err;

        if (l->in != in || find_conflict(l)) {
            p = &l->next;
            continue;
        }
        *p = next;
        l->req = NULL;
        err = grant(fs, l);
        if (err)
            free(l);
        fuse_req_interrupt_func(req, NULL, NULL);
        fuse_reply_err(req, fs_errno(err));
        p = &fs->locks->waiting; /* what it held before may have been in the way of earlier ones */
    }
}

void flock_look(struct fs *fs)
{
    struct file_lock **p;

    if (!fs->locks || !fs->locks->look)
        return;
    fs->locks->look = false;
    for (p = &fs->locks->waiting; *p;) {
        if ((*p)->interrupted)
            wait_end(p, EINTR, false);
        else
            p = &(*p)->next;
    }
}

/* Whether `holder` waits, through however many others, for something that `owner` holds. */
static bool waits_for(const struct fs *fs, uint64_t holder, uint64_t owner, int depth)
{
    if (holder == owner)
        return true;
    if (depth == 0)
        return false;
    for (const struct file_lock *w = fs->locks->waiting; w; w = w->next) {
        if (w->whole || w->owner != holder)
            continue;
        for (const struct file_lock *l = w->in->locks; l; l = l->next)
            if (!l->whole && l->owner != holder && (l->exclusive || w->exclusive) && overlaps(l, w) &&
                waits_for(fs, l->owner, owner, depth - 1))
                return true;
    }
    return false;
}

/* Refuses `want`, which is freed, if there are other members. */
static bool refuse(struct fs *fs, fuse_req_t req, struct file_lock *want)
{
    if (!fs->shared)
        return false;
    if (!fs->locks->refused)
        log_warn("lock", "flock and fcntl locks are refused (ENOLCK) while the cluster has other members: not built yet");
    fs->locks->refused = true;
    fuse_reply_err(req, ENOLCK);
    free(want);
    return true;
}

void flock_refuse(struct fs *fs)
{
    if (!fs->locks)
        return;
    fs->locks->refused = false;
    while (fs->locks->waiting)
        wait_end(&fs->locks->waiting, ENOLCK, false);
}

/* Grants or queues `want`, which is the table's from here on. */
static void ask(struct fs *fs, fuse_req_t req, struct file_lock *want, bool wait)
{
    enum { CHAIN_MAX = 32 };
    const struct file_lock *other = find_conflict(want);
    struct file_lock **p = &fs->locks->waiting;
    int err = 0;

    if (refuse(fs, req, want))
        return;
    if (!other) {
        struct inode *in = want->in;

        err = grant(fs, want);
        if (err)
            free(want);
        fuse_reply_err(req, fs_errno(err));
        wake_waiters(fs, in); /* it may have given up more than it took */
        return;
    }
    if (!wait || (!want->whole && waits_for(fs, other->owner, want->owner, CHAIN_MAX))) {
        fuse_reply_err(req, wait ? EDEADLK : EAGAIN);
        free(want);
        return;
    }
    while (*p)
        p = &(*p)->next;
    want->next = NULL;
    want->req = req;
    *p = want;
    fuse_req_interrupt_func(req, wait_interrupted, want);
}

/* ---- Releasing ---- */

struct release {
    struct file_lock what;
    fuse_req_t req;
};

static void release_now(struct fs *fs, void *data, int err)
{
    struct release *r = data;
    int cut_err = 0;

    r->what.in = locked_inode(r->what.h);
    if (r->what.in) {
        cut_err = cut(fs, &r->what);
        unheld(fs, r->what.in);
    }
    fuse_reply_err(r->req, fs_errno(err ? err : cut_err));
    handle_unref(r->what.h);
    free(r);
}

/* Commits what the owner wrote to the file, then releases. */
static void release(fuse_req_t req, const struct file_lock *what)
{
    struct release *r = malloc(sizeof *r);

    if (!r) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    r->what = *what;
    r->req = req;
    handle_ref(what->h);
    commit_process(what->h, release_now, r);
}

bool flock_wants_flush(const struct fs *fs)
{
    return fs->locks && fs->locks->ranges_used;
}

bool flock_has_ranges(const struct handle *h, uint64_t owner)
{
    const struct inode *in = locked_inode(h);

    for (const struct file_lock *l = in ? in->locks : NULL; l; l = l->next)
        if (!l->whole && l->owner == owner)
            return true;
    return false;
}

void flock_drop_ranges(struct handle *h, uint64_t owner)
{
    const struct file_lock all = {.in = locked_inode(h), .owner = owner, .start = 0, .end = INT64_MAX};

    if (!all.in || !all.in->locks)
        return;
    cut(h->fs, &all); /* the whole range never splits a lock */
    unheld(h->fs, all.in);
}

void flock_drop_file(struct handle *h)
{
    const struct file_lock all = {.in = locked_inode(h), .whole = true, .owner = (uint64_t)(uintptr_t)h};

    if (!all.in || !all.in->locks)
        return;
    cut(h->fs, &all);
    for (struct file_lock **p = &all.in->locks; *p;) {
        if ((*p)->h == h) /* fcntl locks of a reader, whose closes are not told */
            unhold(h->fs, p);
        else
            p = &(*p)->next;
    }
    unheld(h->fs, all.in);
}

/* ---- Requests ---- */

/* A lock that is asked for while the creation of its file is on its way or pending. */
struct asked {
    fuse_req_t req;
    struct file_lock *want;
    bool wait;
};

static void ask_created(struct fs *fs, void *data, int err)
{
    struct asked *a = data;
    struct handle *h = a->want->h;

    a->want->in = err ? NULL : inode_add(fs, h->in->ino);
    if (a->want->in) {
        if (a->want->whole) {
            cut(fs, a->want);
            wake_waiters(fs, a->want->in);
        }
        ask(fs, a->req, a->want, a->wait);
    } else {
        fuse_reply_err(a->req, fs_errno(err ? err : QE_NOMEM));
        free(a->want);
    }
    handle_unref(h);
    free(a);
}

static bool holds_exclusive(const struct file_lock *want)
{
    for (const struct file_lock *l = want->in->locks; l; l = l->next)
        if (l->whole == want->whole && l->owner == want->owner && l->exclusive && overlaps(l, want))
            return true;
    return false;
}

/* Two members, or sessions, that lock a new file must lock the same inode: so the name is committed first. */
static void ask_inode(fuse_req_t req, struct file_lock *want, bool wait)
{
    struct handle *h = want->h;
    struct asked *a = malloc(sizeof *a);

    if (!a) {
        fuse_reply_err(req, ENOMEM);
        free(want);
        return;
    }
    *a = (struct asked){req, want, wait};
    handle_ref(h);
    if (h->in->creation)
        commit_create(h, ask_created, a);
    else if (!want->exclusive && holds_exclusive(want))
        commit_process(h, ask_created, a); /* others may read from here on */
    else
        ask_created(h->fs, a, 0);
}

static struct file_lock *lock_new(fuse_req_t req, const struct fuse_file_info *fi)
{
    struct handle *h = (struct handle *)(uintptr_t)fi->fh;
    struct file_lock *l = table_of(h->fs) ? calloc(1, sizeof *l) : NULL;

    if (!l) {
        fuse_reply_err(req, ENOMEM);
        return NULL;
    }
    l->in = locked_inode(h) ? locked_inode(h) : h->in;
    l->h = h;
    l->owner = fi->lock_owner;
    l->pid = fuse_req_ctx(req)->pid;
    return l;
}

/* What the open file holds by flock(2), or NULL. */
static const struct file_lock *find_whole(const struct file_lock *want)
{
    for (const struct file_lock *l = want->in->locks; l; l = l->next)
        if (l->whole && l->owner == want->owner)
            return l;
    return NULL;
}

/* The open file is the owner, however many descriptors it has: so its handle stands for it, as its release tells. A conversion gives
 * the old lock up first, as flock(2) says; asking again for what one has changes nothing. */
void flock_set(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, int op)
{
    struct file_lock *l = lock_new(req, fi);
    const struct file_lock *held;

    (void)node;
    if (!l)
        return;
    l->whole = true;
    l->owner = fi->fh;
    l->exclusive = (op & ~LOCK_NB) == LOCK_EX;
    held = find_whole(l);
    if ((op & ~LOCK_NB) == LOCK_UN) {
        release(req, l);
        free(l);
    } else if (held && held->exclusive == l->exclusive) {
        fuse_reply_err(req, 0);
        free(l);
    } else if (!refuse(l->h->fs, req, l)) {
        ask_inode(req, l, !(op & LOCK_NB));
    }
}

static void set_range(struct file_lock *l, const struct flock *want)
{
    l->exclusive = want->l_type == F_WRLCK;
    l->start = want->l_start;
    l->end = want->l_len == 0 ? INT64_MAX : want->l_start + want->l_len - 1;
    l->pid = want->l_pid;
}

void flock_get_range(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, const struct flock *want)
{
    struct file_lock *l = lock_new(req, fi);
    const struct file_lock *other;
    struct flock out = {.l_type = F_UNLCK};

    (void)node;
    if (!l || refuse(fs_of(req), req, l))
        return;
    set_range(l, want);
    other = find_conflict(l);
    if (other) {
        out.l_type = other->exclusive ? F_WRLCK : F_RDLCK;
        out.l_whence = SEEK_SET;
        out.l_start = other->start;
        out.l_len = other->end == INT64_MAX ? 0 : other->end - other->start + 1;
        out.l_pid = other->pid;
    }
    fuse_reply_lock(req, &out);
    free(l);
}

void flock_set_range(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, const struct flock *want, bool wait)
{
    struct file_lock *l = lock_new(req, fi);

    (void)node;
    if (!l)
        return;
    set_range(l, want);
    l->h->fs->locks->ranges_used = true;
    if (want->l_type == F_UNLCK) {
        release(req, l);
        free(l);
    } else if (!refuse(l->h->fs, req, l)) {
        ask_inode(req, l, wait);
    }
}

/* ---- Upkeep ---- */

int flock_tick(struct fs *fs)
{
    int64_t now = clock_boottime_ns();
    struct inode *in, *tmp;

    if (!fs->locks || !fs->locks->n_held)
        return -1;
    if (atomic_load(&fs->n_dirty) == 0 || now - fs->locks->ticked_ns < IDLE_COMMIT_MS * INT64_C(250000))
        return IDLE_COMMIT_MS / 4;
    fs->locks->ticked_ns = now;
    HASH_ITER(hh, fs->inodes->by_node, in, tmp) {
        for (struct handle *h = in->locks ? in->handles : NULL; h; h = h->next)
            if (h->dirty && !h->released && now - h->written_ns >= IDLE_COMMIT_MS * INT64_C(1000000))
                commit_idle(h);
    }
    return IDLE_COMMIT_MS / 4;
}

void flock_close(struct fs *fs)
{
    struct inode *in, *tmp;

    if (!fs->locks)
        return;
    HASH_ITER(hh, fs->inodes->by_node, in, tmp)
        while (in->locks)
            unhold(fs, &in->locks);
    while (fs->locks->waiting) {
        struct file_lock *l = fs->locks->waiting;

        fs->locks->waiting = l->next;
        free(l);
    }
    free(fs->locks);
    fs->locks = NULL;
}
