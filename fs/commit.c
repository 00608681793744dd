/* A commit, step by step
 *
 * 1. FLUSH arrives for each close(2) of a descriptor, by whichever process. commit_flush decides whether this one is the opener's
 *    last close (commit_is_last_close); if not, it answers 0 and nothing is committed.
 * 2. commit_start turns the edits into one command and submits it. The edits leave the handle at once: what is written from now on
 *    belongs to the next commit. While the creation of a file is on its way, further commits of that inode wait for it, since only
 *    its result says which inode has the name. An fsync or close that finds the edits on their way, in another thread's fsync, waits for them.
 * 3. The completion answers the request. On the loop commit_settle moves the handle on, or, after a failure, drops what depended on
 *    it, logs, counts, and remembers the error for the next fsync of that file by that user.
 *
 * What goes wrong: the opener was killed: the edits are dropped. The commit fails or times out: it is never tried again. The name
 * of a pending creation was taken: the edits go to the file that took it, and the node is led there. Nobody has asked the kernel
 * whether that file may be opened, so commit_name_taken does. */
#include "fs/commit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/flock.h"
#include "fs/pages.h"
#include "fs/pending.h"
#include "fs/proc.h"
#include "fs/replay.h"
#include "fs/scan.h"

enum commit_kind { COMMIT_CLOSE, COMMIT_FSYNC, COMMIT_WRITE, COMMIT_RELEASE };

/* Who is told when a commit is settled. */
struct commit_call {
    fuse_req_t req;        /* is answered by the completion; may be NULL */
    enum commit_kind kind;
    size_t size;           /* of a COMMIT_WRITE */
    commit_then_cb then;   /* called on the loop; may be NULL */
    void *data;            /* for `then` */
};

/* A commit that waits for the creation of its inode; or has nothing of its own, but what its handle has given to others is not settled yet. */
struct commit_waiter {
    struct commit_waiter *next;
    struct handle *h; /* a reference */
    bool has_nothing;
    size_t n_others; /* that are not settled */
    int err;         /* of the others */
    struct commit_call call;
};

/* A commit on its way. */
struct commit {
    struct handle *h;          /* a reference */
    struct creation *creation; /* what it creates, or NULL */
    struct commit_call call;
    uid_t uid;
    pid_t pid;
    char comm[16];

    /* What it commits: of the handle until it began. */
    struct edits edits;      /* owned; kept until it is settled if it has a creation, else until it is submitted */
    struct store_edit *list; /* owned; has room for all of them */
    bool whole;              /* it is a whole new content */
    bool kills_priv, has_mtime;
    int64_t mtime_ns;
    uint64_t taken_by; /* the inode that has the name already; 0: none is known */
    int tries;         /* how often the name was found taken, or found free again */
};
enum { TRIES_MAX = 100 }; /* somebody makes and removes that name all the time */

/* A commit that failed; told once by the next fsync of that file by that user. */
struct commit_failure {
    struct commit_failure *next;
    uint64_t ino;
    uid_t uid;
    int err;
};
enum { FAILURES_MAX = 1000 }; /* older ones are forgotten: they were logged */

/* ---- Failures ---- */

static void failure_add(struct fs *fs, uint64_t ino, uid_t uid, int err)
{
    struct commit_failure *f, **p = &fs->failures;
    int n = 0;

    for (f = fs->failures; f; f = f->next) {
        if (f->ino == ino && f->uid == uid) {
            f->err = err;
            return;
        }
    }
    f = calloc(1, sizeof *f);
    if (!f)
        return;
    *f = (struct commit_failure){.next = fs->failures, .ino = ino, .uid = uid, .err = err};
    fs->failures = f;
    while (*p && n < FAILURES_MAX) {
        p = &(*p)->next;
        n++;
    }
    if (*p) {
        free(*p);
        *p = NULL;
    }
}

static int failure_take(struct fs *fs, uint64_t ino, uid_t uid)
{
    for (struct commit_failure **p = &fs->failures; *p; p = &(*p)->next) {
        struct commit_failure *f = *p;
        int err = f->err;

        if (f->ino != ino || f->uid != uid)
            continue;
        *p = f->next;
        free(f);
        return err;
    }
    return 0;
}

void commit_close(struct fs *fs)
{
    while (fs->failures) {
        struct commit_failure *f = fs->failures;

        fs->failures = f->next;
        free(f);
    }
}

/* The path of an inode or of a pending creation, for the log. */
static void commit_path(struct fs *fs, const struct inode *in, const struct creation *c, struct buf *out)
{
    int err = fs->reader ? store_path(fs->reader, c ? c->parent : in->ino, out) : QE_SHUTDOWN;

    if (err)
        buf_printf(out, "(inode %llu)", (unsigned long long)in->ino);
    else if (c)
        buf_printf(out, "%s%s", c->parent == STORE_ROOT_INO ? "" : "/", c->name);
}

static void commit_failed(struct fs *fs, const struct commit *k, const struct inode *in, int err)
{
    struct buf path = {0};

    atomic_fetch_add(&fs->failed_commits, 1);
    commit_path(fs, in, k->creation, &path);
    log_warn("commit", "commit of \"%s\" by uid %u pid %d (%s) failed: %s", buf_cstr(&path), k->uid, (int)k->pid, k->comm,
             qfs_strerror(err));
    buf_fini(&path);
    if (k->call.kind != COMMIT_FSYNC && k->call.kind != COMMIT_WRITE)
        failure_add(fs, in->ino, k->uid, err);
}

/* ---- Commits on their way ---- */

static void commit_start(struct handle *h, const struct commit_call *call);

/* Whoever waits for a commit goes on. When the mount has ended meanwhile, nothing more can be asked for. */
static void commit_go_on(struct fs *fs, const struct commit_call *call, int err)
{
    if (call->then)
        call->then(fs, call->data, err || fs->replica ? err : QE_SHUTDOWN);
}

/* Tells the caller of a commit that it has ended without one. */
static void commit_answer(struct handle *h, const struct commit_call *call, int err)
{
    if (call->req && err)
        fuse_reply_err(call->req, fs_errno(err));
    else if (call->req && call->kind == COMMIT_WRITE)
        fuse_reply_write(call->req, call->size);
    else if (call->req)
        fuse_reply_err(call->req, 0);
    commit_go_on(h->fs, call, err);
}

static void waiter_append(struct inode *in, struct commit_waiter *w)
{
    struct commit_waiter **p = &in->waiters;

    while (*p)
        p = &(*p)->next;
    w->next = NULL;
    *p = w;
}

static void waiter_add(struct inode *in, struct handle *h, const struct commit_call *call)
{
    struct commit_waiter *w = calloc(1, sizeof *w);

    if (!w) {
        commit_answer(h, call, QE_NOMEM);
        return;
    }
    *w = (struct commit_waiter){.h = h, .call = *call, .has_nothing = !h->dirty && h->in_flight, .n_others = h->dirty ? 0 : h->in_flight};
    handle_ref(h);
    if (w->has_nothing)
        pending_awaited(h->fs, 1);
    waiter_append(in, w);
}

/* A commit of the handle is settled. */
static void waiters_note(struct inode *in, const struct handle *h, int err)
{
    for (struct commit_waiter *w = in->waiters; w; w = w->next) {
        if (w->h != h || !w->n_others)
            continue;
        w->n_others--;
        w->err = err ? err : w->err;
    }
}

static void waiters_run(struct inode *in)
{
    struct commit_waiter *w = in->waiters;

    in->waiters = NULL;
    while (w) {
        struct commit_waiter *next = w->next;

        if (w->n_others) {
            waiter_append(in, w);
        } else {
            if (w->has_nothing) {
                pending_awaited(w->h->fs, -1);
                commit_answer(w->h, &w->call, w->err);
            } else {
                commit_start(w->h, &w->call);
            }
            handle_unref(w->h);
            free(w);
        }
        w = next;
    }
}

/* The inode's creation has been decided: the name is bound to `ino`, or the creation has failed. */
static void commit_settle_creation(struct fs *fs, struct inode *in, int err, uint64_t ino)
{
    in->creating = NULL;
    if (!err) {
        in->ino = ino;
        if (in->mapped)
            pages_mapped(fs, in);
        creation_free(fs, in->creation);
        for (struct handle *h = in->handles; h; h = h->next) /* who opened it before and has not begun: with what is there now */
            h->base_old = h->base_old || (!h->dirty && !h->base && !h->has_view);
        return;
    }
    in->gone = true; /* its edits are dropped, and the name never was */
    in->gone_err = err;
    for (struct handle *h = in->handles; h; h = h->next)
        handle_drop_edits(h);
    creation_free(fs, in->creation);
}

/* What fstat will say if the file is deleted while it is open. */
static void commit_keep(struct fs *fs, const struct commit *k)
{
    struct inode *in = k->h->in;
    struct store_attr attr;

    if (in->kept && !k->creation)
        in->kept->size = k->h->size;
    else if (in->handles && fs->reader && !store_getattr(fs->reader, STORE_HEAD, in->ino, &attr))
        inode_keep(in, &attr);
}

static void commit_free(struct commit *k)
{
    edits_fini(&k->edits);
    free(k->list);
    free(k);
}

/* Whether those who have the creation open might have opened this file, each as it did. Of others than the maker (who came by sudo, say) the
 * groups are not known. */
static bool commit_may_open(const struct commit *k, const struct store_attr *a)
{
    for (const struct handle *h = k->h->in->handles; h; h = h->next) {
        const struct perm other = {.uid = h->uid, .gid = (gid_t)-1};
        const struct perm *who = h->uid == k->creation->who.uid ? &k->creation->who : &other;
        unsigned want = (h->readable ? PERM_READ : 0) | (h->writable || h == k->h ? PERM_WRITE : 0);

        if (!perm_allows(who, a->mode, a->uid, a->gid, want))
            return false;
    }
    return true;
}

/* Whether its maker might have attached this file to the lease that the creation has, if it has one: as by attach_allowed. */
static int commit_may_attach(struct fs *fs, const struct commit *k, const struct store_attr *a)
{
    const struct creation *c = k->creation;
    uint64_t lease = c->in->lease ? c->in->lease : c->lease;
    struct store_attr dir;
    int err = lease && lease != a->lease ? store_getattr(fs->reader, STORE_HEAD, c->parent, &dir) : 0;

    return err || !lease || lease == a->lease ? err : perm_to_remove(&c->who, &dir, a);
}

static void commit_send(struct commit *k);

/* The name is not free. The edits go to the file that has it; if it is free again, once more to the name. 0 or QE_*. */
static int commit_name_taken(struct fs *fs, struct commit *k)
{
    const struct creation *c = k->creation;
    struct store_attr attr;
    int err = fs->reader ? store_lookup(fs->reader, STORE_HEAD, c->parent, c->name, c->name_len, &attr) : QE_SHUTDOWN;

    if (k->tries++ == TRIES_MAX)
        return QE_STALE;
    if (err && err != QE_NOENT)
        return err;
    if (!err && !S_ISREG(attr.mode))
        return S_ISDIR(attr.mode) ? QE_ISDIR : QE_LOOP;
    if (!err && !commit_may_open(k, &attr))
        return QE_ACCES;
    if (!err && (err = commit_may_attach(fs, k, &attr)))
        return err;
    k->taken_by = err ? 0 : attr.ino;
    commit_send(k);
    return 0;
}

/* Of a new content that failed nothing is published, neither what was written behind it meanwhile nor what its writer still has to say. */
static void commit_broken(const struct commit *k, int err)
{
    struct handle *h = k->h;

    h->has_view = false;
    if (!k->whole || edits_are_whole(&h->edits))
        return;
    if (h->dirty)
        h->failed = err;
    handle_drop_edits(h);
    h->broken = err;
}

static void commit_settle(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct commit *k = data;
    struct handle *h = k->h;
    struct inode *in = h->in;

    if (k->creation && err == QE_CANCELED) {
        k->call.req = req; /* NULL: the caller is gone */
        err = commit_name_taken(fs, k);
        if (!err)
            return;
        if (req)
            fuse_reply_err(req, fs_errno(err));
    }
    atomic_fetch_add(&fs->n_commits, 1);
    if (err)
        commit_failed(fs, k, in, err);
    if (k->creation)
        commit_settle_creation(fs, in, err, ino);
    if (err)
        commit_broken(k, err);
    h->base_old = true;
    h->in_flight--;
    waiters_note(in, h, err);
    if (!err)
        commit_keep(fs, k);
    if (!err && k->call.kind == COMMIT_CLOSE && !h->released && !in->lease)
        replay_closed(fs, (uint64_t)(uintptr_t)h, in->ino, rev);
    if (!in->creating)
        waiters_run(in);
    commit_go_on(fs, &k->call, err);
    handle_unref(h);
    commit_free(k);
}

static void commit_op(const struct commit *k, struct store_op *op)
{
    const struct inode *in = k->h->in;
    const struct creation *c = k->creation;

    edits_export(&k->edits, k->list);
    *op = (struct store_op){.kind = STORE_OP_COMMIT, .ino = c ? k->taken_by : in->ino, .edits = k->list, .n_edits = k->edits.n};
    if (k->kills_priv)
        op->valid |= STORE_ATTR_KILLPRIV;
    if (k->has_mtime) {
        op->valid |= STORE_ATTR_MTIME;
        op->mtime_ns = k->mtime_ns;
    }
    if (in->lease || (c && c->lease)) {
        op->valid |= STORE_ATTR_LEASE;
        op->lease = in->lease ? in->lease : c->lease;
    }
    if (!c)
        flock_fence(k->h, op);
    if (!c || k->taken_by)
        return;
    op->parent = c->parent;
    op->name = (struct store_bytes){c->name, c->name_len};
    op->new_ino = in->ino;
    op->mode = c->mode;
    op->uid = c->uid;
    op->gid = c->gid;
    op->xattrs = c->xattrs;
    op->n_xattrs = c->n_xattrs;
}

/* `k` may be settled, and gone, when this returns. */
static void commit_send(struct commit *k)
{
    struct fs *fs = k->h->fs;
    struct store_op op;
    struct store_command cmd = {.ops = &op, .n_ops = 1, .uid = k->uid, .gid = 0, .pid = k->pid, .comm = k->comm};
    struct pending_call call = {.req = k->call.req, .arg = k->call.size, .settle = commit_settle, .data = k};
    struct store_condition is_free = {.kind = STORE_IF_BOUND};
    struct edits edits = {0};
    struct store_edit *list = NULL;

    commit_op(k, &op);
    if (!k->creation) { /* the command has a copy of its own */
        edits = k->edits;
        list = k->list;
        k->edits = (struct edits){0};
        k->list = NULL;
    } else if (!k->taken_by) {
        is_free.parent = op.parent;
        is_free.name = op.name;
        cmd.conditions = &is_free;
        cmd.n_conditions = 1;
        call.undecided = QE_CANCELED;
    }
    /* Attributes of a file with edits are not kept, and the pages of mappings go by its number (pages.c): so there is something to drop only where
     * the kernel has it by another one. A new name is in its directory, whose times are kept. */
    call.changed[0] = k->taken_by || k->h->in->ino != k->h->in->node ? k->h->in->node : 0;
    call.changed[1] = k->creation ? k->creation->parent : 0;
    call.expected = k->creation || k->h->in->ino != k->h->in->node ? k->h->in->node : 0;
    call.silent = k->call.kind != COMMIT_CLOSE;
    if (k->h->in->lease) { /* the kernel takes the node for another file than that of the live tree */
        call.changed[0] = k->creation ? 0 : k->h->in->ino;
        call.injected = true;
    }
    call.wake = k->creation != NULL; /* other commits of the inode may be waiting for this one */
    call.done = k->call.kind == COMMIT_WRITE ? pending_done_write : pending_done_err;
    pending_submit(fs, &cmd, &call);
    edits_fini(&edits);
    free(list);
}

/* Takes the handle's edits over. */
static struct commit *commit_new(struct handle *h, const struct commit_call *call)
{
    const struct fuse_ctx *ctx = call->req ? fuse_req_ctx(call->req) : NULL;
    struct creation *c = h->in->creation;
    struct commit *k = calloc(1, sizeof *k);

    if (k)
        k->list = calloc(h->edits.n + 1, sizeof *k->list);
    if (!k || !k->list) {
        free(k);
        return NULL;
    }
    k->h = h;
    k->creation = c;
    k->whole = edits_are_whole(&h->edits);
    k->kills_priv = h->kills_priv;
    k->has_mtime = h->has_mtime || (c && c->has_mtime);
    k->mtime_ns = c && c->has_mtime ? c->mtime_ns : h->mtime_ns;
    if (c)
        c->has_mtime = false;
    handle_give_edits(h, &k->edits);
    if (k->whole && k->edits.bytes > STORE_MAX_VALUE_CAP)
        (void)edits_fold(&k->edits); /* else it may be more than goes in one command */
    k->call = *call;
    k->uid = ctx ? ctx->uid : h->uid;
    k->pid = h->tgid ? h->tgid : ctx ? ctx->pid : 0;
    proc_comm(ctx && ctx->pid > 0 ? ctx->pid : h->tgid, k->comm); /* not the opener's: a shell has become another program */
    return k;
}

static void commit_start(struct handle *h, const struct commit_call *call)
{
    struct inode *in = h->in;
    struct commit *k;

    if (in->creating || (!h->dirty && h->in_flight)) {
        waiter_add(in, h, call);
        return;
    }
    if (h->dirty && flock_lost(h)) { /* somebody else may have the lock under which it was written */
        commit_answer(h, call, QE_STALE);
        return;
    }
    if (in->gone || !h->dirty) { /* unlinked, failed, dropped, or committed with an earlier one meanwhile */
        commit_answer(h, call, in->gone ? in->gone_err : 0);
        return;
    }
    k = commit_new(h, call);
    if (!k) {
        handle_drop_edits(h);
        commit_answer(h, call, QE_NOMEM);
        return;
    }
    handle_ref(h);
    h->in_flight++;
    in->creating = in->creation ? &k->edits : NULL;
    commit_send(k);
}

/* Drops the edits; a pending creation that no other open file will commit goes with them. */
static void commit_abandon(struct handle *h)
{
    struct inode *in = h->in;

    handle_drop_edits(h);
    if (!in->creation || in->creating)
        return;
    for (const struct handle *o = in->handles; o; o = o->next)
        if (o->dirty)
            return;
    creation_free(h->fs, in->creation);
    in->gone = true;
    in->gone_err = QE_STALE; /* of who has it open besides and writes yet, nothing can be published */
}

/* ---- When ---- */

/* Whether no descriptor of the file with write access is left to the process that opened it. The one that is being closed is out
 * of the table already, and at exit the table is gone. A descriptor that is left may be of another open file of the same inode (the
 * process's own, or inherited), which cannot be told apart: then each close after a write counts. */
static bool commit_is_last_close(const struct handle *h, enum proc_table table)
{
    const struct inode *in = h->in;

    if (table != PROC_WRITER)
        return true;
    for (const struct handle *o = in->handles; o; o = o->next)
        if (o != h && o->writable && !o->released)
            return h->wrote;
    return false;
}

/* Whether it may be the opener who closes. */
static bool commit_is_opener(const struct handle *h, pid_t tid)
{
    return tid <= 0 || tid == h->tid || proc_tgid(tid) == h->tgid;
}

/* Whether a FLUSH by the opener commits: `table` is what its descriptor table says. */
static bool commit_is_due(struct handle *h, pid_t tid, enum proc_table table)
{
    struct proc_info info;

    if (!h->dirty || (tid > 0 ? !commit_is_last_close(h, table) : !h->wrote))
        return false;
    if (table == PROC_GONE && proc_info(tid, &info) && info.signaled) {
        commit_abandon(h); /* killed before it closed: it publishes nothing */
        return false;
    }
    return true;
}

/* Commits of several open files, of which somebody waits for the last. */
struct commit_group {
    size_t left;
    int err; /* the first one */
    commit_then_cb then;
    void *data;
};

static void commit_group_settled(struct fs *fs, void *data, int err)
{
    struct commit_group *g = data;

    if (!g->err)
        g->err = err;
    if (--g->left)
        return;
    g->then(fs, g->data, g->err);
    free(g);
}

void commit_process(struct handle *h, commit_then_cb then, void *data)
{
    struct commit_group *g = malloc(sizeof *g);
    const struct commit_call call = {.kind = COMMIT_FSYNC, .then = commit_group_settled, .data = g};

    if (!g) {
        then(h->fs, data, QE_NOMEM);
        return;
    }
    *g = (struct commit_group){.left = 1, .then = then, .data = data};
    for (struct handle *o = h->in->handles; o; o = o->next) {
        if ((o->dirty || o->in_flight) && (o == h || (h->tgid && o->tgid == h->tgid))) {
            g->left++;
            commit_start(o, &call);
        }
    }
    commit_group_settled(h->fs, g, 0);
}

/* A close that ends fcntl locks: they go when the commit is settled. */
struct commit_unlock {
    fuse_req_t req;
    struct handle *h; /* a reference */
    uint64_t owner;
    int err;
};

/* That the cluster does not know yet that they went (ETIMEDOUT) is no failure of close: nothing was to be committed, or it is. */
static void commit_unlocked(struct fs *fs, void *data, int err)
{
    struct commit_unlock *u = data;

    (void)fs;
    (void)err;
    fuse_reply_err(u->req, fs_errno(u->err ? u->err : u->h->failed));
    handle_unref(u->h);
    free(u);
}

static void commit_unlock(struct fs *fs, void *data, int err)
{
    struct commit_unlock *u = data;

    (void)fs;
    u->err = err;
    flock_drop_ranges(u->h, u->owner, commit_unlocked, u);
}

/* Of a process that is being killed nothing is committed that it did not close; what it wrote through another open file goes with that. */
static void commit_flush_locked(fuse_req_t req, struct handle *h, uint64_t owner)
{
    struct commit_unlock *u = malloc(sizeof *u);
    pid_t tid = fuse_req_ctx(req)->pid;
    struct proc_info info;

    if (!u) {
        fuse_reply_err(req, fs_errno(QE_NOMEM));
        return;
    }
    *u = (struct commit_unlock){.req = req, .h = h, .owner = owner};
    handle_ref(h);
    if (commit_is_opener(h, tid) && proc_info(tid, &info) && info.signaled)
        commit_unlock(h->fs, u, 0);
    else
        commit_process(h, commit_unlock, u);
}

/* What it has given to commits is not settled, and the caller will look at the result. */
static bool commit_is_awaited(const struct handle *h, pid_t tid)
{
    struct proc_info info;

    return !h->dirty && h->in_flight && proc_info(tid, &info) && !info.signaled;
}

static void commit_flush_decided(fuse_req_t req, struct handle *h, uint64_t owner, bool due)
{
    const struct commit_call call = {.req = req, .kind = COMMIT_CLOSE};

    if (flock_has_ranges(h, owner)) {
        commit_flush_locked(req, h, owner);
    } else if (due || commit_is_awaited(h, fuse_req_ctx(req)->pid)) {
        h->wrote = false;
        commit_start(h, &call);
    } else {
        fuse_reply_err(req, fs_errno(h->failed));
    }
}

/* A FLUSH whose caller has a long descriptor table. */
struct commit_scan {
    fuse_req_t req;
    struct handle *h; /* a reference */
    uint64_t owner;
};

static void commit_scanned(struct fs *fs, enum proc_table table, void *data)
{
    struct commit_scan *s = data;

    (void)fs;
    commit_flush_decided(s->req, s->h, s->owner, commit_is_due(s->h, fuse_req_ctx(s->req)->pid, table));
    handle_unref(s->h);
    free(s);
}

static bool commit_scan_aside(fuse_req_t req, struct handle *h, uint64_t owner)
{
    pid_t tid = fuse_req_ctx(req)->pid;
    struct commit_scan *s = scan_is_long(tid) ? malloc(sizeof *s) : NULL;

    if (!s)
        return false;
    *s = (struct commit_scan){req, h, owner};
    handle_ref(h);
    if (scan_start(h->fs, tid, h->in->node, h->in->ino, commit_scanned, s) == 0)
        return true;
    handle_unref(h);
    free(s);
    return false;
}

void commit_flush(fuse_req_t req, struct handle *h, uint64_t owner)
{
    pid_t tid = fuse_req_ctx(req)->pid;

    h->flushed = true;
    if (!h->dirty || !commit_is_opener(h, tid)) /* nothing to commit, or closed by a process that inherited it */
        commit_flush_decided(req, h, owner, false);
    else if (tid <= 0 || !commit_scan_aside(req, h, owner))
        commit_flush_decided(req, h, owner, commit_is_due(h, tid, proc_look_for_writer(tid, h->in->node, h->in->ino)));
}

void commit_fsync(fuse_req_t req, struct handle *h)
{
    const struct commit_call call = {.req = req, .kind = COMMIT_FSYNC};

    if (flock_lost(h)) {
        fuse_reply_err(req, ESTALE);
    } else if (h->dirty || h->in_flight) {
        commit_start(h, &call);
    } else {
        fuse_reply_err(req, fs_errno(h->failed ? h->failed : failure_take(h->fs, h->in->ino, fuse_req_ctx(req)->uid)));
        if (h->failed)
            h->broken = h->failed; /* told, but not mended */
        h->failed = 0;
    }
}

void commit_write(fuse_req_t req, struct handle *h, size_t size)
{
    const struct commit_call call = {.req = req, .kind = COMMIT_WRITE, .size = size};

    commit_start(h, &call);
}

void commit_create(struct handle *h, commit_then_cb then, void *data)
{
    const struct commit_call call = {.kind = COMMIT_FSYNC, .then = then, .data = data};
    struct handle *maker = h->in->handles;

    while (maker && !maker->dirty)
        maker = maker->next;
    commit_start(maker ? maker : h, &call);
}

void commit_idle(struct handle *h)
{
    const struct commit_call call = {.kind = COMMIT_RELEASE};

    commit_start(h, &call);
}

static void commit_released(struct fs *fs, void *data, int err)
{
    struct handle *h = data;

    (void)err;
    (void)fs;
    flock_drop_file(h);
    commit_abandon(h);
    handle_unref(h);
}

void commit_release(struct handle *h)
{
    const struct commit_call call = {.kind = COMMIT_RELEASE, .then = commit_released, .data = h};

    h->released = true;
    if (!h->flushed && !h->wrote)
        commit_abandon(h); /* its open(2) failed or was killed after OPEN or CREATE: nobody ever had it */
    replay_released(h->fs, (uint64_t)(uintptr_t)h);
    commit_start(h, &call);
}

void commit_log_lost(struct fs *fs)
{
    struct inode *in, *tmp;

    HASH_ITER(hh, fs->inodes->by_node, in, tmp) {
        for (struct handle *h = in->handles; h; h = h->next) {
            struct buf path = {0};

            if (!h->dirty)
                continue;
            commit_path(fs, in, in->creation, &path);
            log_warn("commit", "uncommitted changes to \"%s\" by uid %u pid %d are lost: the member stops", buf_cstr(&path), h->uid,
                     (int)h->tgid);
            buf_fini(&path);
        }
    }
}
