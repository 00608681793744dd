/* What becomes of locks without a command of this mount: the hooks of replica leave notes, the loop follows them. What they missed it reads from
 * the store. */
#include "fs/locks_parts.h"

#include <stdlib.h>
#include <string.h>

#include "fs/pending.h"

/* ---- Hooks ---- */

static bool wants_event(const struct lock_client *c, const struct store_lock_event *e, uint64_t session)
{
    if (e->kind == STORE_LOCK_CHANGED)
        return atomic_load(&c->watched);
    return session != 0 && e->session == session;
}

/* Under the lock. */
static int note_add(struct lock_client *c, const struct store_lock_event *e)
{
    struct lock_note *n;

    if (c->n_notes == c->cap_notes) {
        size_t cap = c->cap_notes ? c->cap_notes * 2 : 64;
        struct lock_note *list = realloc(c->notes, cap * sizeof *list);

        if (!list)
            return QE_NOMEM;
        c->notes = list;
        c->cap_notes = cap;
    }
    n = &c->notes[c->n_notes];
    *n = (struct lock_note){.kind = e->kind, .request = e->request, .token = e->token};
    if (e->kind == STORE_LOCK_CHANGED) {
        n->name = strndup(e->name.data, e->name.len);
        if (!n->name)
            return QE_NOMEM;
    }
    c->n_notes++;
    return 0;
}

static void locks_posted(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    (void)req;
    (void)err;
    (void)rev;
    (void)ino;
    (void)data;
    locks_look(fs);
}

static void hook_end(struct fs *fs)
{
    if (!atomic_exchange(&fs->lock_client->has_mail, true))
        pending_post(fs, locks_posted, NULL); /* out of memory: the next request looks */
}

void locks_changed(struct fs *fs, const struct store_lock_event *events, size_t n, uint64_t session)
{
    struct lock_client *c = fs->lock_client;
    bool any = false;

    if (!events)
        locks_installed(fs); /* anything may have become of them */
    for (size_t i = 0; i < n; i++) {
        if (!wants_event(c, &events[i], session))
            continue;
        pthread_mutex_lock(&c->lock);
        c->missed = note_add(c, &events[i]) != 0 || c->missed;
        pthread_mutex_unlock(&c->lock);
        any = true;
    }
    if (any)
        hook_end(fs);
}

void locks_lapsed(struct fs *fs)
{
    struct lock_client *c = fs->lock_client;

    pthread_mutex_lock(&c->lock);
    c->lapsed = true;
    pthread_mutex_unlock(&c->lock);
    hook_end(fs);
}

void locks_installed(struct fs *fs)
{
    struct lock_client *c = fs->lock_client;

    pthread_mutex_lock(&c->lock);
    c->missed = true;
    pthread_mutex_unlock(&c->lock);
    hook_end(fs);
}

/* ---- Looking ---- */

static void lock_lose(struct lock *l)
{
    if (l->state == LOCK_HELD)
        lock__become(l, LOCK_LOST);
}

/* What was held is lost. Whatever is HELD when the hook or LOST is looked at is of the old life. LOST tells of those that wait. */
static void lapse(struct fs *fs)
{
    struct lock_client *c = fs->lock_client;
    struct lock *l, *tmp;

    HASH_ITER(hh, c->by_request, l, tmp)
        lock_lose(l);
    if (c->lapse)
        c->lapse(fs);
}

/* The store has taken it off the list: who held it has lost it, who waits is asked for again, who did not want to wait any more has left. */
static void lock_taken(struct lock *l)
{
    if (l->state == LOCK_ASKED || l->state == LOCK_QUEUED || l->state == LOCK_GRANTED)
        lock__ask(l);
    else if (l->state == LOCK_LEAVING)
        lock__fail(l, QE_INTR);
    else
        lock_lose(l);
}

static void note_follow(struct fs *fs, const struct lock_note *n)
{
    struct lock_client *c = fs->lock_client;
    struct lock *l = n->kind == STORE_LOCK_CHANGED ? NULL : lock__find(c, n->request);

    if (n->kind == STORE_LOCK_CHANGED && c->watch)
        c->watch(fs, n->name);
    else if (n->kind == STORE_LOCK_GRANTED && l)
        lock__grant(l, n->token);
    else if (n->kind == STORE_LOCK_LOST && l)
        lock_taken(l);
}

/* What the store has of a request. */
struct seen {
    uint64_t request; /* key */
    int64_t token;    /* 0: it waits */
    UT_hash_handle hh;
};

struct seen_all {
    struct seen *by_request;
    bool failed;
};

static bool see(void *data, const struct store_lock *l)
{
    struct seen_all *all = data;
    struct seen *s;

    HASH_FIND(hh, all->by_request, &l->request, sizeof l->request, s);
    if (s)
        return true;
    s = calloc(1, sizeof *s);
    if (!s) {
        all->failed = true;
        return false;
    }
    s->request = l->request;
    s->token = l->token;
    HASH_ADD(hh, all->by_request, request, sizeof s->request, s);
    return true;
}

static void compare_one(struct lock *l, const struct seen *s)
{
    if (s && s->token)
        lock__grant(l, s->token);
    else if (!s && (l->state == LOCK_QUEUED || l->state == LOCK_GRANTED || l->state == LOCK_HELD))
        lock_taken(l); /* ASKED, LEAVING: the answer will come */
}

/* Events were missed: compares all with the store. 0 or QE_*. */
static int compare(struct fs *fs)
{
    struct lock_client *c = fs->lock_client;
    const uint64_t newest = c->last_request, session = replica_session(fs->replica);
    struct seen_all all = {0};
    struct seen *s, *next;
    struct lock *l, *tmp;
    int err = session ? store_locks(fs->reader, session, see, &all) : 0;

    if (!err && all.failed)
        err = QE_NOMEM;
    HASH_ITER(hh, c->by_request, l, tmp) {
        if (err || l->request > newest) /* asked for anew just now */
            continue;
        HASH_FIND(hh, all.by_request, &l->request, sizeof l->request, s);
        compare_one(l, s);
    }
    HASH_ITER(hh, all.by_request, s, next) {
        HASH_DEL(all.by_request, s);
        free(s);
    }
    if (!err && c->watch)
        c->watch(fs, NULL);
    return err;
}

static void look_at(struct fs *fs, struct lock_note *notes, size_t n, bool lapsed, bool missed)
{
    for (size_t i = 0; i < n; i++)
        lapsed = lapsed || notes[i].kind == STORE_LOCK_LOST;
    if (lapsed)
        lapse(fs);
    for (size_t i = 0; i < n; i++) {
        note_follow(fs, &notes[i]);
        free(notes[i].name);
    }
    if (missed && compare(fs))
        locks_installed(fs); /* once more, soon */
}

void locks_look(struct fs *fs)
{
    struct lock_client *c = fs->lock_client;
    struct lock_note *notes;
    bool lapsed, missed;
    size_t n;

    if (!c || !fs->replica || !fs->reader || c->running)
        return;
    if (atomic_load(&c->has_mail) && atomic_exchange(&c->has_mail, false)) {
        pthread_mutex_lock(&c->lock);
        notes = c->notes;
        n = c->n_notes;
        lapsed = c->lapsed;
        missed = c->missed;
        c->notes = NULL;
        c->n_notes = c->cap_notes = 0;
        c->lapsed = c->missed = false;
        pthread_mutex_unlock(&c->lock);
        look_at(fs, notes, n, lapsed, missed);
        free(notes);
    }
    lock__run_due(fs);
}
