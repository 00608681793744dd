/* Changes on their way from the store thread to the loop.
 *
 * The hook of a batch brings all its changes, then its answers follow, one by one, on the same thread. What other members did is mail at
 * once. Of what this member did only the answer tells whether the kernel knows: the caller may have been killed or given up meanwhile. So
 * such a change is "open" until it is answered, and holds up what is behind it for these microseconds. One that is never answered was given up
 * before it was applied. That a lease ended was nobody's call, so its files are told of as if another member had deleted them.
 *
 * When mail and queue have more than REPLAY_BYTES_MAX, changes are not kept any more (`behind`): they are read from the store's
 * history when the queue is empty. Then only the numbers of our own revisions are kept, since history does not tell whose they are. */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "fs/replay_parts.h"
#include "store/base/clock.h"

enum { REREAD_EVENTS = 512, OWN_MAX = 1 << 20 };
#define OPEN_NS INT64_C(100000000) /* longer than a batch takes to be answered */

static int64_t bytes_max(void)
{
#ifdef QFS_FAILPOINTS
    const char *test = getenv("QUORUMFS_TEST_REPLAY_BYTES");

    if (test)
        return atoll(test);
#endif
    return REPLAY_BYTES_MAX;
}

void replay__mail_init(struct replay *r)
{
    pthread_mutex_init(&r->lock, NULL);
    r->mail_tail = &r->mail;
}

void replay__mail_fini(struct replay *r)
{
    while (r->mail) {
        struct replay_mail *m = r->mail;

        r->mail = m->next;
        free(m);
    }
    free(r->own);
    pthread_mutex_destroy(&r->lock);
}

void replay__wake(struct replay *r)
{
    eventfd_write(r->wake, 1);
}

/* ---- Store thread ------------------------------------------------------------------------------------------------------------------- */

static struct replay_mail *mail_new(const struct store_change *c, enum replay_mail_state state)
{
    size_t bytes = sizeof(struct replay_mail) + c->name.len + c->old_name.len;
    struct replay_mail *m = malloc(bytes);

    if (!m)
        return NULL;
    *m = (struct replay_mail){.rev = c->rev, .state = state, .op = (enum store_event_op)c->op, .made = c->made, .ino = c->ino,
                              .parent = c->parent, .old_parent = c->old_parent, .name_len = c->name.len, .old_len = c->old_name.len, .bytes = bytes};
    if (m->name_len)
        memcpy(m->names, c->name.data, m->name_len);
    if (m->old_len)
        memcpy(m->names + m->name_len, c->old_name.data, m->old_len);
    return m;
}

/* Under the lock. Out of memory, or too many: it is told once more, which does no harm. */
static void own_add(struct replay *r, int64_t rev)
{
    if (r->n_own == r->cap_own) {
        size_t cap = r->cap_own ? r->cap_own * 2 : 256;
        struct replay_own *p = cap <= OWN_MAX ? realloc(r->own, cap * sizeof *p) : NULL;

        if (!p)
            return;
        r->own = p;
        r->cap_own = cap;
    }
    r->own[r->n_own++] = (struct replay_own){rev, MAIL_OPEN};
}

/* Under the lock: from here on changes are read from the store. */
static void fall_behind(struct replay *r)
{
    r->behind = true;
    r->n_own = 0;
}

static bool changes_name(const struct store_change *c)
{
    return c->op != STORE_EV_ATTRIB && (c->op != STORE_EV_PUT || c->made != STORE_MADE_NOTHING);
}

/* Under the lock. */
static void push(struct replay *r, const struct store_change *c, int64_t now_ns)
{
    const bool ours = c->member == r->member && !c->unasked;
    struct replay_mail *m = NULL;

    /* A revision is kept whole, or not at all. */
    if (!r->behind && c->rev != r->mailed && (int64_t)(atomic_load(&r->mail_bytes) + atomic_load(&r->queue_bytes)) > bytes_max())
        fall_behind(r);
    if (!r->behind) {
        m = mail_new(c, ours ? MAIL_OPEN : MAIL_REMOTE);
        if (!m) { /* what of this revision is in the mail will be told twice */
            fall_behind(r);
            r->mailed -= r->mailed == c->rev;
        }
    }
    if (r->behind && ours && (r->n_own == 0 || r->own[r->n_own - 1].rev != c->rev))
        own_add(r, c->rev);
    if (r->behind) {
        m = ours && changes_name(c) && (int64_t)atomic_load(&r->mail_bytes) <= bytes_max() ? mail_new(c, MAIL_OPEN) : NULL;
        if (!m)
            return;
        m->name_only = true; /* older changes of that name, which are still to be told, have been overtaken */
    } else {
        r->mailed = c->rev;
    }
    m->next = NULL;
    m->applied_ns = now_ns;
    *r->mail_tail = m;
    r->mail_tail = &m->next;
    atomic_fetch_add(&r->mail_bytes, m->bytes);
    if (ours && !r->open)
        r->open = m;
}

/* Under the lock: those of earlier batches that nobody answered. */
static bool orphan_open(struct replay *r)
{
    bool any = r->open != NULL;

    for (struct replay_mail *m = r->open; m; m = m->next)
        if (m->state == MAIL_OPEN)
            m->state = MAIL_ORPHAN;
    r->open = NULL;
    return any;
}

void replay_changed(struct fs *fs, const struct store_change *changes, size_t n)
{
    struct replay *r = fs->replay;
    int64_t now = clock_boottime_ns();
    bool wake = false;

    pthread_mutex_lock(&r->lock);
    if (r->accepting) {
        wake = orphan_open(r) || atomic_load(&r->doubtful);
        for (size_t i = 0; i < n; i++) {
            if (changes[i].rev > r->seen) /* else it was read from the store, or looked at */
                push(r, &changes[i], now);
            wake = wake || changes[i].member != r->member || changes[i].unasked;
        }
        if (changes[n - 1].rev > r->changed)
            r->changed = changes[n - 1].rev;
        atomic_store(&r->has_mail, true);
    }
    pthread_mutex_unlock(&r->lock);
    if (wake)
        replay__wake(r);
}

static enum replay_mail_state state_of(enum replay_answer how)
{
    switch (how) {
    case REPLAY_ANNOUNCED: return MAIL_ANNOUNCED;
    case REPLAY_SILENT: return MAIL_SILENT;
    case REPLAY_ORPHAN: return MAIL_ORPHAN;
    case REPLAY_INJECTED: break;
    }
    return MAIL_REMOTE;
}

void replay_answered(struct fs *fs, int64_t rev, enum replay_answer how)
{
    struct replay *r = fs->replay;
    struct replay_mail *m;
    bool wake = false, any = false;

    pthread_mutex_lock(&r->lock);
    for (m = r->open; m && m->rev <= rev; m = m->next) {
        if (m->rev == rev && m->state == MAIL_OPEN) {
            m->state = state_of(how);
            any = true;
            wake = wake || how != REPLAY_ANNOUNCED;
        }
    }
    while (r->open && r->open->state != MAIL_OPEN)
        r->open = r->open->next;
    wake = wake || (any && !r->open && (m || r->behind)); /* what is behind it, or in the store */
    for (size_t i = r->n_own; r->behind && i > 0 && r->own[i - 1].rev >= rev; i--)
        if (r->own[i - 1].rev == rev && r->own[i - 1].state == MAIL_OPEN)
            r->own[i - 1].state = state_of(how);
    if (any)
        atomic_store(&r->has_mail, true);
    pthread_mutex_unlock(&r->lock);
    if (wake)
        replay__wake(r);
}

void replay_timed_out(struct fs *fs)
{
    atomic_store(&fs->replay->doubtful, true);
}

/* Under the lock: from here on, what was changed up to `rev` is found by looking at everything. */
static void take_stock(struct replay *r, int64_t rev)
{
    if (!r->stock_due)
        r->stock_from = r->mailed;
    r->stock_due = true;
    r->mailed = r->seen = rev;
    if (rev > r->changed)
        r->changed = rev;
    r->behind = false;
    r->n_own = 0;
}

void replay_installed(struct fs *fs, int64_t rev)
{
    struct replay *r = fs->replay;

    pthread_mutex_lock(&r->lock);
    if (r->accepting)
        take_stock(r, rev);
    pthread_mutex_unlock(&r->lock);
    replay__wake(r);
}

/* ---- FUSE loop ---------------------------------------------------------------------------------------------------------------------- */

struct replay_mail *replay__mail_take(struct replay *r)
{
    struct replay_mail *list, **end = &list;

    if (!atomic_exchange(&r->has_mail, false))
        return NULL;
    pthread_mutex_lock(&r->lock);
    list = r->mail;
    while (*end && (*end)->state != MAIL_OPEN) {
        atomic_fetch_sub(&r->mail_bytes, (*end)->bytes);
        end = &(*end)->next;
    }
    r->mail = *end;
    if (!r->mail)
        r->mail_tail = &r->mail;
    *end = NULL;
    pthread_mutex_unlock(&r->lock);
    return list;
}

int replay__mail_expire(struct replay *r, int64_t now_ns)
{
    bool open = false, any = false;

    pthread_mutex_lock(&r->lock);
    if (r->open) {
        open = true;
        any = now_ns - r->open->applied_ns >= OPEN_NS && orphan_open(r);
    }
    if (any)
        atomic_store(&r->has_mail, true);
    pthread_mutex_unlock(&r->lock);
    return any ? 0 : open ? (int)(OPEN_NS / 1000000) : -1;
}

/* What is read again, while it is read. */
struct reread {
    struct replay *r;
    struct replay_mail *list, **tail;
    size_t n;
    int64_t last, until; /* revisions */
    bool failed;
};

/* Whether, and how, a revision of our own has been told. Under the lock. */
static enum replay_mail_state own_state(const struct replay *r, int64_t rev)
{
    size_t low = 0, high = r->n_own;

    while (low < high) {
        size_t mid = (low + high) / 2;

        if (r->own[mid].rev < rev)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == r->n_own || r->own[low].rev != rev)
        return MAIL_REMOTE;
    return r->own[low].state == MAIL_OPEN ? MAIL_ORPHAN : r->own[low].state;
}

static bool reread_event(void *data, const struct store_event *e)
{
    struct reread *d = data;
    const struct store_change c = {.rev = e->rev, .op = (int)e->op, .ino = e->ino, .parent = e->parent, .old_parent = e->old_parent,
                                   .name = e->name, .old_name = e->old_name, .made = e->made};
    enum replay_mail_state state;
    struct replay_mail *m;

    if (e->rev > d->until || d->failed)
        return false;
    pthread_mutex_lock(&d->r->lock);
    state = own_state(d->r, e->rev);
    pthread_mutex_unlock(&d->r->lock);
    m = mail_new(&c, state);
    if (!m) {
        d->failed = true;
        return false;
    }
    m->applied_ns = clock_boottime_ns();
    m->next = NULL;
    *d->tail = m;
    d->tail = &m->next;
    d->last = e->rev;
    return ++d->n < REREAD_EVENTS;
}

/* Under the lock: everything up to `rev` has been read. */
static void reread_until(struct replay *r, int64_t rev)
{
    size_t gone = 0;

    r->mailed = rev;
    if (rev >= r->changed) {
        r->seen = rev;
        r->behind = false;
        r->n_own = 0;
        return;
    }
    while (gone < r->n_own && r->own[gone].rev <= rev)
        gone++;
    memmove(r->own, r->own + gone, (r->n_own - gone) * sizeof *r->own);
    r->n_own -= gone;
}

bool replay__mail_stock(struct replay *r, int64_t *from)
{
    bool due;

    pthread_mutex_lock(&r->lock);
    due = r->stock_due;
    *from = r->stock_from;
    r->stock_due = false;
    pthread_mutex_unlock(&r->lock);
    return due;
}

struct replay_mail *replay__mail_reread(struct replay *r)
{
    struct reread d = {.r = r};
    bool due;
    int err;

    d.tail = &d.list;
    pthread_mutex_lock(&r->lock);
    due = r->behind && !r->mail;
    d.until = r->changed;
    d.last = r->mailed;
    pthread_mutex_unlock(&r->lock);
    if (!due)
        return NULL;
    err = store_events(r->fs->reader, d.last, reread_event, &d);
    r->stats.reread += d.n;
    if (err == QE_STALE) {
        pthread_mutex_lock(&r->lock);
        take_stock(r, d.until);
        pthread_mutex_unlock(&r->lock);
        return NULL;
    }
    if (!err && !d.failed && d.n < REREAD_EVENTS)
        d.last = d.until; /* the rest is no event */
    pthread_mutex_lock(&r->lock);
    reread_until(r, d.last);
    pthread_mutex_unlock(&r->lock);
    return d.list;
}
