#include "fs/control/claim.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "fs/control/control.h"
#include "fs/locks.h"
#include "fs/usage.h"

enum { FILES_MAX = 200000 }; /* open at a time: as many as locks in a cluster, of one user who is not root half; more: ENOMEM */

struct claim_wait { /* a request that waits */
    struct claim_wait *next;
    fuse_req_t req;
    struct lock_file *file;   /* a reference */
    claim_answer_cb answer;
    bool patient;
    bool interrupted;
};

struct claim {
    struct claim *prev, *next; /* of all */
    struct fs *fs;
    struct lock *lock;        /* NULL: it was refused */
    uint64_t owner;
    struct proc_id id;        /* whose; unknown: of one open file alone */
    bool exclusive;
    bool patient;             /* it was asked for by somebody who waits */
    bool held, lost;
    size_t n_files;           /* that have a part of it, or need it otherwise */
    struct lock_file *parts;  /* those that have a part */
    struct claim_wait *waits; /* in order of arrival; owned */
    char name[STORE_LOCK_NAME_MAX + 1];
};

static struct claim *claims;
static struct usage *users; /* open files */
static struct lock_file *files;
static size_t n_files, n_waiting;
static uint64_t last_owner;
static bool look; /* a request was interrupted */

static bool is_held(const struct claim *c)
{
    return c->held && !c->lost && locks_is_held(c->lock);
}

/* ---- The life of a claim --------------------------------------------------------------------------------------------------------- */

static struct claim *claim_new(struct fs *fs, const char *name, bool exclusive, struct proc_id id)
{
    struct claim *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->fs = fs;
    c->owner = ++last_owner;
    c->exclusive = exclusive;
    c->id = id;
    memcpy(c->name, name, strlen(name) + 1);
    c->next = claims;
    if (claims)
        claims->prev = c;
    claims = c;
    return c;
}

/* The claim of a process that can be joined: it holds the lock, or waits for it. */
static struct claim *claim_of(const char *name, struct proc_id id)
{
    for (struct claim *c = claims; c; c = c->next)
        if (c->exclusive && proc_is_same(c->id, id) && (!c->held || is_held(c)) && !strcmp(c->name, name))
            return c;
    return NULL;
}

/* Ends it if nobody needs it any more. */
static void claim_unused(struct claim *c, claim_settle_cb settle, void *data)
{
    struct fs *fs = c->fs;
    struct lock *lock = c->lock;

    if (c->n_files || c->waits) {
        if (settle)
            settle(fs, data, 0);
        return;
    }
    if (c->next)
        c->next->prev = c->prev;
    if (c->prev)
        c->prev->next = c->next;
    else
        claims = c->next;
    free(c);
    if (lock)
        locks_drop(fs, lock, settle, data);
    else if (settle)
        settle(fs, data, 0);
}

static void claim_join(struct claim *c, struct lock_file *f)
{
    if (f->claim == c) /* by another of its threads */
        return;
    if (f->claim)
        claim_leave(f, NULL, NULL);
    f->claim = c;
    c->n_files++;
    f->next_part = c->parts;
    if (c->parts)
        c->parts->prev_part = f;
    c->parts = f;
}

void claim_leave(struct lock_file *f, claim_settle_cb settle, void *data)
{
    struct claim *c = f->claim;

    if (f->next_part)
        f->next_part->prev_part = f->prev_part;
    if (f->prev_part)
        f->prev_part->next_part = f->next_part;
    else
        c->parts = f->next_part;
    f->prev_part = f->next_part = NULL;
    f->claim = NULL;
    c->n_files--;
    claim_unused(c, settle, data);
}

/* ---- Waiting --------------------------------------------------------------------------------------------------------------------- */

/* libfuse calls this with locks of its own held: it only marks. */
static void on_interrupt(fuse_req_t req, void *data)
{
    struct claim_wait *w = data;

    (void)req;
    w->interrupted = look = true;
}

/* Answers the first of the list. The claim may end with it, unless the caller needs it. */
static void wait_end(struct claim_wait **p, int err)
{
    struct claim_wait w = **p;

    free(*p);
    *p = w.next;
    n_waiting--;
    fuse_req_interrupt_func(w.req, NULL, NULL);
    w.answer(w.file, w.req, err);
    lock_file_unref(w.file);
}

static int wait_add(struct claim *c, fuse_req_t req, struct lock_file *f, bool patient, claim_answer_cb answer)
{
    struct claim_wait *w = malloc(sizeof *w), **end = &c->waits;

    if (!w)
        return QE_NOMEM;
    *w = (struct claim_wait){.req = req, .file = f, .answer = answer, .patient = patient};
    lock_file_ref(f);
    while (*end)
        end = &(*end)->next;
    *end = w;
    n_waiting++;
    fuse_req_interrupt_func(req, on_interrupt, w);
    return 0;
}

/* Answers those that will not wait, or all. */
static void refuse(struct claim *c, bool all, int err)
{
    c->n_files++; /* it does not end meanwhile */
    for (struct claim_wait **p = &c->waits; *p;) {
        if (all || !(*p)->patient)
            wait_end(p, err);
        else
            p = &(*p)->next;
    }
    c->n_files--;
}

static int submit(struct claim *c, const struct fuse_ctx *ctx, bool patient);

static void grant(struct claim *c)
{
    c->held = true;
    c->n_files++;
    while (c->waits) {
        claim_join(c, c->waits->file);
        wait_end(&c->waits, 0);
    }
    c->n_files--;
}

static void on_done(struct fs *fs, void *data, int err, int64_t token)
{
    struct claim *c = data;

    (void)fs, (void)token;
    if (!err) {
        grant(c);
    } else {
        c->lock = NULL;
        refuse(c, err != QE_WOULDBLOCK, err);
        if (c->waits) { /* others have come who do wait */
            err = submit(c, fuse_req_ctx(c->waits->req), true);
            if (err)
                refuse(c, true, err);
        }
    }
    claim_unused(c, NULL, NULL);
}

static void on_lost(struct fs *fs, void *data)
{
    struct claim *c = data;

    (void)fs;
    c->lost = true;
    for (struct lock_file *f = c->parts; f; f = f->next_part)
        if (f->ph)
            fuse_lowlevel_notify_poll(f->ph);
}

static int submit(struct claim *c, const struct fuse_ctx *ctx, bool patient)
{
    static const struct lock_calls calls = {.done = on_done, .lost = on_lost};
    const struct lock_want want = {.class = STORE_LOCK_NAMED, .name = c->name, .owner = c->owner, .exclusive = c->exclusive, .wait = patient,
                                   .uid = ctx->uid, .gid = ctx->gid, .pid = c->id.tgid ? c->id.tgid : ctx->pid};

    c->patient = patient;
    c->lock = locks_ask(c->fs, &want, &calls, c);
    return c->lock ? 0 : QE_NOMEM;
}

/* Whose the file is: its opener's, or the caller's when the opener is gone. */
static struct proc_id identity(const struct lock_file *f, pid_t caller)
{
    return proc_is_same(proc_identify(f->opener.tgid), f->opener) ? f->opener : proc_identify(caller);
}

void claim_ask(fuse_req_t req, struct lock_file *f, bool exclusive, bool wait, claim_answer_cb answer)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    struct proc_id id = identity(f, ctx->pid);
    struct claim *c = exclusive ? claim_of(f->name, id) : NULL;
    bool fresh = !c;
    int err = 0;

    if (c && c->held) {
        claim_join(c, f);
        answer(f, req, 0);
        return;
    }
    if (c && c->patient && !wait)
        err = QE_WOULDBLOCK;
    else if (f->fs->stopping)
        err = QE_SHUTDOWN;
    else if (fresh)
        c = claim_new(f->fs, f->name, exclusive, id);
    if (!err)
        err = c ? wait_add(c, req, f, wait, answer) : QE_NOMEM;
    if (err) {
        answer(f, req, err);
    } else if (!fresh || !(err = submit(c, ctx, wait))) {
        return;
    } else {
        refuse(c, true, err);
    }
    if (fresh && c)
        claim_unused(c, NULL, NULL);
}

/* ---- What is asked of a claim ---------------------------------------------------------------------------------------------------- */

bool claim_is_exclusive(const struct lock_file *f)
{
    return f->claim && f->claim->exclusive;
}

bool claim_is_lost(const struct lock_file *f)
{
    return f->claim && !is_held(f->claim);
}

uint64_t claim_owner(const struct lock_file *f)
{
    return f->claim->owner;
}

int64_t claim_token(const struct lock_file *f)
{
    return locks_token(f->claim->lock);
}

/* ---- Open files ------------------------------------------------------------------------------------------------------------------ */

/* One more file of a user. False: out of memory, or too many. */
static bool user_add(uid_t uid)
{
    return n_files < FILES_MAX && (uid == 0 || usage_of(users, uid) < FILES_MAX / 2) && usage_add(&users, uid, 1);
}

struct lock_file *lock_file_new(struct fs *fs, const char *name, int flags, const struct fuse_ctx *who)
{
    struct lock_file *f = calloc(1, sizeof *f);

    if (!f || !user_add(who->uid)) {
        free(f);
        return NULL;
    }
    f->fs = fs;
    f->refs = 1;
    f->readable = (flags & O_ACCMODE) != O_WRONLY;
    f->writable = (flags & O_ACCMODE) != O_RDONLY;
    f->uid = who->uid;
    f->opener = proc_identify(who->pid);
    memcpy(f->name, name, strlen(name) + 1);
    f->next = files;
    if (files)
        files->prev = f;
    files = f;
    n_files++;
    return f;
}

void lock_file_ref(struct lock_file *f)
{
    f->refs++;
}

void lock_file_unref(struct lock_file *f)
{
    if (--f->refs)
        return;
    if (f->next)
        f->next->prev = f->prev;
    if (f->prev)
        f->prev->next = f->next;
    else
        files = f->next;
    n_files--;
    usage_drop(&users, f->uid, 1);
    buf_fini(&f->content);
    free(f);
}

void lock_file_close(struct lock_file *f)
{
    if (f->claim)
        claim_leave(f, NULL, NULL);
    if (f->ph)
        fuse_pollhandle_destroy(f->ph);
    f->ph = NULL;
    lock_file_unref(f);
}

/* ---- The mount (control.h) ------------------------------------------------------------------------------------------------------- */

static void end_waits(bool all, int err)
{
    for (struct claim *c = claims, *next; c; c = next) {
        c->n_files++;
        for (struct claim_wait **p = &c->waits; *p;) {
            if (all || (*p)->interrupted)
                wait_end(p, err);
            else
                p = &(*p)->next;
        }
        c->n_files--;
        next = c->next;
        claim_unused(c, NULL, NULL);
    }
}

void claim_look(struct fs *fs)
{
    (void)fs;
    if (!look)
        return;
    look = false;
    end_waits(false, QE_INTR);
}

void claim_stop(struct fs *fs)
{
    (void)fs;
    end_waits(true, QE_SHUTDOWN);
}

size_t claim_waiting(struct fs *fs)
{
    (void)fs;
    return n_waiting;
}

void claim_close(struct fs *fs)
{
    claim_stop(fs);
    for (struct lock_file *f = files, *next; f; f = next) {
        next = f->next;
        lock_file_close(f);
    }
}
