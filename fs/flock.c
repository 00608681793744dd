/* A request for a lock, step by step:
 *
 * 1. If the creation of the file is pending, it is committed: two members that lock a new file must lock the same inode. If the owner
 *    gives up an exclusive lock for a shared one, what it wrote is committed: others may read from there on.
 * 2. The lock is asked for (locks.h). The request waits for as long as it takes; any signal ends the wait with EINTR. Of a range this is asked of the
 *    cluster, too (locks_leave): either it was granted before, and the caller is told that, or what its owner held is what it holds.
 * 3. When it is granted, this member has everything that was committed before: the owner's clean open files go on with the newest content.
 *
 * Releasing: what the owner wrote is committed, then the lock is given back, then the caller is told.
 *
 * What is held is kept here, too, as a list of each inode: by it a close knows whether it ends locks, and a lapse knows who has lost
 * some. For ranges it may have more than the store for a moment (two threads that lock and unlock the same bytes), never less. */
#include "fs/flock_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>

#include "fs/commit.h"
#include "fs/pending.h"
#include "fs/proc.h"
#include "store/base/clock.h"

enum { IDLE_COMMIT_MS = 1000, SIGNAL_LOOK_MS = 100 };

static struct lock_table *table_of(struct fs *fs)
{
    if (!fs->locks) {
        fs->locks = calloc(1, sizeof *fs->locks);
        locks_set_lapse(fs, flock__lapsed);
    }
    return fs->locks;
}

/* ---- Asking ---- */

/* A range that nobody waits for any more: its caller was told, or died, before the cluster knew. */
struct given_up {
    struct handle *h; /* a reference */
    uint64_t owner;
    int64_t start, end;
};

/* It had been granted, and was given back with what its owner held of it before: that is lost. */
static void given_up_settled(struct fs *fs, void *data, int err)
{
    struct given_up *g = data;
    struct file_lock *l = err == QE_STALE ? flock__range(g->h, g->owner, g->start, g->end) : NULL;

    (void)fs;
    for (; l; l = flock__next_range(l->next, g->owner, g->start, g->end))
        flock__lose(l->h);
    handle_unref(g->h);
    free(g);
}

/* Gives up what was asked for. */
static void asking_withdraw(struct file_lock *l)
{
    struct lock *lock = l->lock;
    struct given_up *g;

    l->lock = NULL;
    if (!lock)
        return;
    g = l->whole ? NULL : malloc(sizeof *g);
    if (g) {
        *g = (struct given_up){l->h, l->owner, l->start, l->end};
        handle_ref(l->h);
    }
    locks_drop(l->fs, lock, g ? given_up_settled : NULL, g);
}

static void asking_free(struct file_lock *l)
{
    struct handle *h = l->h;

    flock__list_remove(&l->fs->locks->asking, l);
    free(l->spare);
    free(l);
    handle_unref(h);
}

/* Returns what the reply says: -ENOENT: the caller is gone. */
static int asking_answer(struct file_lock *l, int error)
{
    fuse_req_t req = l->req;

    l->req = NULL;
    if (l->signal_ns)
        l->fs->locks->n_signals--;
    l->signal_ns = 0;
    if (!req)
        return 0;
    fuse_req_interrupt_func(req, NULL, NULL);
    return fuse_reply_err(req, error);
}

/* Ends it before it was decided. While commits are made for it, it is only answered. */
void flock__asking_end(struct file_lock *l, int error)
{
    bool asked = l->lock != NULL;

    asking_withdraw(l);
    asking_answer(l, error);
    if (asked)
        asking_free(l);
}

/* Takes what the open file holds by flock(2) off the list; NULL: nothing. */
static struct lock *take_whole(const struct handle *h)
{
    struct file_lock *old = flock__whole(h);
    struct lock *lock = old ? old->lock : NULL;

    if (old)
        flock__unhold(old);
    return lock;
}

/* It is held from here on. */
static void asking_granted(struct file_lock *l, struct inode *in)
{
    struct handle *h = l->h;
    struct lock *other;

    if (!l->whole)
        flock__cut(in, l->owner, l->start, l->end, &l->spare);
    other = l->whole ? take_whole(h) : NULL;
    if (other) /* another thread's, by the same open file: an owner has one */
        locks_forget(other);
    flock__list_remove(&l->fs->locks->asking, l);
    free(l->spare);
    l->spare = NULL;
    l->asking = false;
    flock__hold(l, in);
    flock__move_handles(l);
    if (asking_answer(l, 0) == -ENOENT) { /* the caller died before it was told */
        if (l->whole)
            locks_drop(l->fs, l->lock, NULL, NULL);
        else
            locks_unrange(l->fs, l->ino, l->owner, l->start, l->end, NULL, NULL);
        flock__unhold(l);
        flock__unheld(h->fs, in);
    }
    handle_unref(h); /* the open file is there: its RELEASE ends the lock */
}

static void asking_done(struct fs *fs, void *data, int err, int64_t token)
{
    struct file_lock *l = data;
    struct inode *in = err ? NULL : inode_add(fs, l->ino);

    (void)token;
    if (!l->whole && err != QE_TIMEDOUT)
        l->lock = NULL; /* was freed, or is */
    if (in) {
        asking_granted(l, in);
        return;
    }
    if (!err && l->whole)
        asking_withdraw(l);
    else if (!err)
        locks_unrange(fs, l->ino, l->owner, l->start, l->end, NULL, NULL);
    else if (!l->whole && err == QE_TIMEDOUT)
        asking_withdraw(l);
    if (err == QE_TIMEDOUT && l->wait && l->signal_ns)
        err = QE_INTR; /* it waited for others, or might have */
    asking_answer(l, fs_errno(err ? err : QE_NOMEM));
    asking_free(l);
}

static void ask_now(struct file_lock *l)
{
    static const struct lock_calls calls = {.done = asking_done, .lost = flock__whole_lost};
    const struct lock_want want = {.class = l->whole ? STORE_LOCK_WHOLE : STORE_LOCK_RANGE, .ino = l->ino, .owner = l->owner, .exclusive = l->exclusive,
                                   .wait = l->wait, .first = l->start, .last = l->end, .uid = l->uid, .gid = l->gid, .pid = l->pid, .instead_of = l->whole ? take_whole(l->h) : NULL};

    l->lock = locks_ask(l->fs, &want, &calls, l);
}

/* The file is there, and what had to be committed is. */
static void asking_ready(struct fs *fs, void *data, int err)
{
    struct file_lock *l = data;

    (void)fs;
    l->ino = l->h->in->ino;
    if (!err && l->req)
        ask_now(l);
    if (l->lock)
        return;
    asking_answer(l, fs_errno(err ? err : QE_NOMEM));
    asking_free(l);
}

static bool gives_up_exclusive(const struct file_lock *want)
{
    struct file_lock *l;

    if (want->exclusive)
        return false;
    if (want->whole) {
        l = flock__whole(want->h);
        return l && l->exclusive;
    }
    for (l = flock__range(want->h, want->owner, want->start, want->end); l; l = flock__next_range(l->next, want->owner, want->start, want->end))
        if (l->exclusive)
            return true;
    return false;
}

/* libfuse calls this with locks of its own held, on the FUSE loop. */
static void asking_interrupted(fuse_req_t req, void *data)
{
    struct file_lock *l = data;

    (void)req;
    if (!l->signal_ns)
        l->fs->locks->n_signals++;
    l->signal_ns = clock_boottime_ns();
    l->fs->locks->look = true;
}

/* Takes `l` over. */
static void ask(fuse_req_t req, struct file_lock *l, bool wait)
{
    l->spare = l->whole ? NULL : calloc(1, sizeof *l->spare);
    if (!l->whole && !l->spare) {
        fuse_reply_err(req, ENOMEM);
        free(l);
        return;
    }
    l->asking = true;
    l->wait = wait;
    l->req = req;
    l->uid = fuse_req_ctx(req)->uid;
    l->gid = fuse_req_ctx(req)->gid;
    handle_ref(l->h);
    flock__list_add(&l->fs->locks->asking, l);
    fuse_req_interrupt_func(req, asking_interrupted, l);
    if (l->h->in->creation)
        commit_create(l->h, asking_ready, l);
    else if (gives_up_exclusive(l))
        commit_process(l->h, asking_ready, l);
    else
        asking_ready(l->fs, l, 0);
}

/* Who waits behind others ends at any signal. Who may be about to get the lock has a moment, and who does not want to wait is only
 * given up when it is being killed. */
static bool signal_counts(const struct file_lock *l, int64_t now)
{
    if (l->wait && ((l->lock && locks_is_queued(l->lock)) || now - l->signal_ns >= SIGNAL_LOOK_MS * INT64_C(1000000)))
        return true;
    return proc_is_dying(fuse_req_ctx(l->req)->pid);
}

/* Who dies is not kept. */
static void asking_signalled(struct file_lock *l)
{
    if (l->whole || !l->lock || proc_is_dying(fuse_req_ctx(l->req)->pid))
        flock__asking_end(l, EINTR);
    else
        locks_leave(l->lock);
}

void flock_look(struct fs *fs)
{
    int64_t now;

    if (!fs->locks || !fs->locks->look)
        return;
    fs->locks->look = false;
    now = clock_boottime_ns();
    for (struct file_lock *l = fs->locks->asking, *next; l; l = next) {
        next = l->next;
        if (l->req && l->signal_ns && signal_counts(l, now))
            asking_signalled(l);
    }
}

/* ---- Releasing ---- */

struct release {
    fuse_req_t req;
    struct handle *h;   /* a reference */
    bool whole, exclusive;
    uint64_t owner;
    int64_t start, end;
    pid_t pid;
    struct file_lock *spare; /* owned; for what is cut in two */
    int err;
};

/* The cluster has too many locks to make two ranges of one: the range is held as before. */
static void hold_again(struct fs *fs, const struct release *r)
{
    struct inode *in = flock__inode(r->h);
    struct file_lock *l = in ? calloc(1, sizeof *l) : NULL;

    if (!l) {
        log_error("lock", "out of memory: a lock of inode %llu stays until this member is unmounted", (unsigned long long)r->h->in->ino);
        return;
    }
    *l = (struct file_lock){.fs = fs, .h = r->h, .ino = in->ino, .exclusive = r->exclusive, .owner = r->owner, .start = r->start, .end = r->end, .pid = r->pid};
    flock__hold(l, in);
}

static void released(struct fs *fs, void *data, int err)
{
    struct release *r = data;

    if (err == QE_NOLOCK && !r->h->lock_lost)
        hold_again(fs, r);
    fuse_reply_err(r->req, fs_errno(r->err ? r->err : err));
    handle_unref(r->h);
    free(r->spare);
    free(r);
}

static void release_now(struct fs *fs, void *data, int err)
{
    struct release *r = data;
    struct inode *in = flock__inode(r->h);
    struct file_lock *l = r->whole ? flock__whole(r->h) : flock__range(r->h, r->owner, r->start, r->end);

    r->err = err;
    if (!l) { /* by another thread, meanwhile */
        released(fs, r, 0);
        return;
    }
    if (r->whole) {
        locks_drop(fs, l->lock, released, r);
        flock__unhold(l);
    } else {
        r->exclusive = l->exclusive;
        r->pid = l->pid;
        err = locks_unrange(fs, l->ino, r->owner, r->start, r->end, released, r);
        if (err) {
            released(fs, r, err);
            return;
        }
        flock__cut(in, r->owner, r->start, r->end, &r->spare);
    }
    flock__unheld(fs, in);
}

/* Commits what the owner wrote to the file, then releases. */
static void release(fuse_req_t req, const struct file_lock *what)
{
    struct release *r;

    if (!(what->whole ? flock__whole(what->h) : flock__range(what->h, what->owner, what->start, what->end))) {
        fuse_reply_err(req, 0);
        return;
    }
    r = calloc(1, sizeof *r);
    if (r && !what->whole)
        r->spare = calloc(1, sizeof *r->spare);
    if (!r || (!what->whole && !r->spare)) {
        free(r);
        fuse_reply_err(req, ENOMEM);
        return;
    }
    r->req = req;
    r->h = what->h;
    r->whole = what->whole;
    r->owner = what->owner;
    r->start = what->start;
    r->end = what->end;
    handle_ref(r->h);
    commit_process(r->h, release_now, r);
}

bool flock_wants_flush(const struct fs *fs)
{
    return fs->locks && fs->locks->ranges_used;
}

bool flock_has_ranges(const struct handle *h, uint64_t owner)
{
    return flock__range(h, owner, 0, INT64_MAX) != NULL;
}

void flock_drop_ranges(struct handle *h, uint64_t owner, locks_settle_cb settle, void *data)
{
    struct file_lock *l = flock__range(h, owner, 0, INT64_MAX), *no_spare = NULL;
    struct inode *in = l ? l->in : NULL;
    int err = l ? locks_unrange(h->fs, l->ino, owner, 0, INT64_MAX, settle, data) : 0;

    if (!l || err) {
        settle(h->fs, data, err);
        return;
    }
    flock__cut(in, owner, 0, INT64_MAX, &no_spare); /* the whole range never splits a lock */
    flock__unheld(h->fs, in);
}

void flock_drop_file(struct handle *h)
{
    struct inode *in = h->n_locks ? flock__inode(h) : NULL;

    if (h->poll)
        fuse_pollhandle_destroy(h->poll);
    h->poll = NULL;
    for (struct file_lock *l = in ? in->locks : NULL, *next; l; l = next) {
        next = l->next;
        if (l->h != h) /* else its flock; or ranges of a reader, whose closes are not told, and those of the open file itself (F_OFD_SETLK) */
            continue;
        if (l->whole)
            locks_drop(h->fs, l->lock, NULL, NULL);
        else if (locks_unrange(h->fs, l->ino, l->owner, l->start, l->end, NULL, NULL))
            log_error("lock", "out of memory: a lock of inode %llu stays until this member is unmounted", (unsigned long long)l->ino);
        flock__unhold(l);
    }
    if (in)
        flock__unheld(h->fs, in);
}

/* ---- Requests ---- */

/* NULL: replied. */
static struct file_lock *lock_new(fuse_req_t req, const struct fuse_file_info *fi)
{
    struct handle *h = (struct handle *)(uintptr_t)fi->fh;
    struct file_lock *l;

    if (flock_lost(h)) {
        fuse_reply_err(req, ESTALE);
        return NULL;
    }
    l = table_of(h->fs) ? calloc(1, sizeof *l) : NULL;
    if (!l) {
        fuse_reply_err(req, ENOMEM);
        return NULL;
    }
    l->fs = h->fs;
    l->h = h;
    l->owner = fi->lock_owner;
    l->pid = fuse_req_ctx(req)->pid;
    return l;
}

/* The open file is the owner, however many descriptors it has: so it has a number, which nobody else ever had. A conversion gives the
 * old lock up first, as flock(2) says; asking again for what one has changes nothing. */
void flock_set(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, int op)
{
    struct file_lock *l = lock_new(req, fi);
    const struct file_lock *held;

    (void)node;
    if (!l)
        return;
    if (!l->h->lock_owner)
        l->h->lock_owner = ++l->fs->locks->last_owner;
    l->whole = true;
    l->owner = l->h->lock_owner;
    l->end = INT64_MAX;
    l->exclusive = (op & ~LOCK_NB) == LOCK_EX;
    held = flock__whole(l->h);
    if ((op & ~LOCK_NB) == LOCK_UN) {
        release(req, l);
        free(l);
    } else if (held && held->exclusive == l->exclusive) {
        fuse_reply_err(req, 0);
        free(l);
    } else {
        ask(req, l, !(op & LOCK_NB));
    }
}

static void set_range(struct file_lock *l, const struct flock *want)
{
    l->exclusive = want->l_type == F_WRLCK;
    l->start = want->l_start;
    l->end = want->l_len == 0 ? INT64_MAX : want->l_start + want->l_len - 1;
    if (want->l_pid > 0)
        l->pid = want->l_pid;
}

void flock_set_range(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, const struct flock *want, bool wait)
{
    struct file_lock *l = lock_new(req, fi);

    (void)node;
    if (!l)
        return;
    set_range(l, want);
    l->fs->locks->ranges_used = true;
    if (want->l_type == F_UNLCK) {
        release(req, l);
        free(l);
    } else {
        ask(req, l, wait);
    }
}

/* A process of another member has no number here: 0. */
static void get_answer(fuse_req_t req, const struct file_lock *l)
{
    struct fs *fs = l->fs;
    const struct store_lock want = {.class = STORE_LOCK_RANGE, .exclusive = l->exclusive, .ino = l->h->in->ino, .session = replica_session(fs->replica),
                                     .owner = l->owner, .first = l->start, .last = l->end};
    struct flock out = {.l_type = F_UNLCK};
    struct store_lock other;
    int err = store_lock_conflict(fs->reader, &want, &other);

    if (!err) {
        out.l_type = other.exclusive ? F_WRLCK : F_RDLCK;
        out.l_whence = SEEK_SET;
        out.l_start = other.first;
        out.l_len = other.last == INT64_MAX ? 0 : other.last - other.first + 1;
        out.l_pid = other.member == fs->member ? other.pid : 0;
    }
    if (err && err != QE_NOENT)
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_lock(req, &out);
}

static void get_settle(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct file_lock *l = data;

    (void)fs;
    (void)rev;
    (void)ino;
    if (req && err)
        fuse_reply_err(req, fs_errno(err));
    else if (req)
        get_answer(req, l);
    handle_unref(l->h);
    free(l);
}

void flock_get_range(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, const struct flock *want)
{
    struct file_lock *l = lock_new(req, fi);
    const struct pending_call call = {.req = req, .settle = get_settle, .data = l};

    (void)node;
    if (!l)
        return;
    set_range(l, want);
    handle_ref(l->h);
    if (l->fs->shared)
        pending_barrier(l->fs, &call);
    else
        get_settle(l->fs, req, 0, 0, 0, l);
}

/* ---- Upkeep ---- */

static void commit_rested(struct fs *fs, int64_t now)
{
    struct inode *in, *tmp;

    HASH_ITER(hh, fs->inodes->by_node, in, tmp)
        for (struct handle *h = in->locks ? in->handles : NULL; h; h = h->next)
            if (h->dirty && !h->released && now - h->written_ns >= IDLE_COMMIT_MS * INT64_C(1000000))
                commit_idle(h);
}

int flock_tick(struct fs *fs)
{
    struct lock_table *t = fs->locks;
    int64_t now;

    if (t && t->n_signals) {
        t->look = true;
        flock_look(fs);
    }
    if (!t || (!t->n_held && !t->n_signals))
        return -1;
    now = clock_boottime_ns();
    if (t->n_held && atomic_load(&fs->n_dirty) != 0 && now - t->ticked_ns >= IDLE_COMMIT_MS * INT64_C(250000)) {
        t->ticked_ns = now;
        commit_rested(fs, now);
    }
    return t->n_signals ? SIGNAL_LOOK_MS : IDLE_COMMIT_MS / 4;
}

void flock_close(struct fs *fs)
{
    struct inode *in, *tmp;

    if (!fs->locks)
        return;
    while (fs->locks->asking) {
        struct file_lock *l = fs->locks->asking;

        asking_answer(l, ESHUTDOWN);
        asking_free(l);
    }
    HASH_ITER(hh, fs->inodes->by_node, in, tmp)
        while (in->locks)
            flock__unhold(in->locks);
    free(fs->locks);
    fs->locks = NULL;
}
