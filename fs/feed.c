#include "fs/feed.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/pending.h"
#include "store/base/clock.h"
#include "store/base/failpoint.h"

enum {
    TAIL_BYTES = 8 << 20, /* of blocks in the ring: a stream that is further behind reads the store again */
    IDLE_MS = 2,          /* between two looks at changes that nobody has asked for: so they cost little, and are late by this at most */
};

struct feed {
    struct fs *fs;
    pthread_t thread;
    bool started;                      /* `thread` exists */
    _Atomic int64_t head;              /* newest revision that was applied */
    atomic_size_t n_streams;
    atomic_bool stopping;              /* no more is read from the store; feed_stop */

    /* The thread sleeps on these: who tells it that there is work, as the store's thread does, waits for nothing that is done under `lock`. */
    pthread_mutex_t sleep_lock;
    pthread_cond_t woken;
    atomic_bool awake;                 /* it will look (once more) */

    pthread_mutex_t lock;
    atomic_int wanted;                 /* so many (the loop) are about to take `lock` */
    pthread_cond_t rested, taken;      /* for the thread: it need not rest any longer; somebody has taken the lock who wanted it */
    /* Under `lock`. */
    bool end;
    int64_t tail_rev;                  /* the ring has everything up to here that it has at all */
    atomic_size_t n_at_tail;           /* streams; without any the tail is left alone */
    struct feed_block *oldest, *newest; /* the ring */
    size_t bytes;                      /* of it */
    struct feed_stream *by_path;       /* the first of each path */
    struct feed_stream *match_next, *match_path; /* where the thread goes on when it has given way: of one path, and the next path */
    struct feed_stream *behind, **behind_end; /* for the thread, in turn */
    size_t n_behind;                   /* these, and the one whose page is being read */
    struct usage *users;               /* bytes of the pages that were read for them */
    struct feed_stream *ready;         /* for the loop */
    bool posted;                       /* the loop will look at `ready` */
    int64_t paged_rev, paged_ns;       /* the head when a page was read, and when that was */
    int64_t page_at_ns;                /* when the next one may be */
    bool restart;                      /* tail_rev has jumped: what the thread's cache knows is of another time */

    struct feed_cache tail_cache, page_cache; /* the thread's */
};

/* ---- Taking turns -------------------------------------------------------------------------------------------------------------- */

/* Any thread. */
static void thread_wake(struct feed *f)
{
    if (atomic_exchange(&f->awake, true))
        return;
    pthread_mutex_lock(&f->sleep_lock);
    pthread_cond_signal(&f->woken);
    pthread_mutex_unlock(&f->sleep_lock);
}

/* Until there may be work, or until then. Under the lock, which it lets go of. */
static void thread_sleep(struct feed *f, const struct timespec *until)
{
    int err = 0;

    pthread_mutex_unlock(&f->lock);
    pthread_mutex_lock(&f->sleep_lock);
    while (!atomic_load(&f->awake) && !err)
        err = until ? pthread_cond_timedwait(&f->woken, &f->sleep_lock, until) : pthread_cond_wait(&f->woken, &f->sleep_lock);
    atomic_store(&f->awake, false); /* before it looks */
    pthread_mutex_unlock(&f->sleep_lock);
    pthread_mutex_lock(&f->lock);
}

/* All but the thread. A mutex is not fair: who only lets go of it and takes it again would have it again before anybody else has woken up. */
static void lock_wanted(struct feed *f)
{
    atomic_fetch_add(&f->wanted, 1);
    pthread_mutex_lock(&f->lock);
    atomic_fetch_sub(&f->wanted, 1);
    pthread_cond_signal(&f->taken);
}

/* Under the lock, which it lets go of if somebody wants it. */
static void give_way(struct feed *f)
{
    if (atomic_load(&f->wanted) > 0)
        pthread_cond_wait(&f->taken, &f->lock);
}

static void head_raise(struct feed *f, int64_t rev)
{
    int64_t head = atomic_load(&f->head);

    while (head < rev && !atomic_compare_exchange_weak(&f->head, &head, rev))
        ;
}

/* ---- Blocks and their readers (under the lock) --------------------------------------------------------------------------------- */

static void block_unref(struct feed_block *b)
{
    if (b && --b->refs == 0)
        feed_block_free(b);
}

static void ring_push(struct feed *f, struct feed_block *b)
{
    b->refs = 1;
    if (f->newest)
        f->newest->next = b;
    else
        f->oldest = b;
    f->newest = b;
    f->bytes += feed_block_bytes(b);
}

static void ring_trim(struct feed *f, size_t limit)
{
    while (f->oldest && (f->bytes > limit && (f->oldest != f->newest || limit == 0))) {
        struct feed_block *b = f->oldest;

        f->oldest = b->next;
        if (!f->oldest)
            f->newest = NULL;
        f->bytes -= feed_block_bytes(b);
        b->next = NULL;
        block_unref(b);
    }
}

static void stream_unblock(struct feed_stream *s)
{
    block_unref(s->block);
    s->block = NULL;
    s->at = s->line_off = 0;
}

static void stream_set(struct feed *f, struct feed_stream *s, enum feed_state state)
{
    if (s->state == FEED_AT_TAIL)
        f->n_at_tail--;
    if (s->state == FEED_BEHIND)
        f->n_behind--;
    if (state == FEED_AT_TAIL)
        f->n_at_tail++;
    if (state == FEED_BEHIND)
        f->n_behind++;
    s->state = state;
}

static void stream_read_from(struct feed *f, struct feed_stream *s, struct feed_block *b, size_t at)
{
    b->refs++;
    stream_unblock(s);
    s->block = b;
    s->at = at;
    stream_set(f, s, FEED_READING);
}

static void stream_fail(struct feed *f, struct feed_stream *s, int err)
{
    stream_set(f, s, FEED_FAILED);
    s->err = err;
}

static void stream_queue_behind(struct feed *f, struct feed_stream *s)
{
    stream_set(f, s, FEED_BEHIND);
    s->next_behind = NULL;
    *f->behind_end = s;
    f->behind_end = &s->next_behind;
    thread_wake(f);
    pthread_cond_signal(&f->rested);
}

/* It has had everything up to `rev`, and waits for what comes. While nobody did, the tail was left alone: it begins here. */
static void stream_to_tail(struct feed *f, struct feed_stream *s, int64_t rev)
{
    if (f->n_at_tail == 0 && rev > f->tail_rev) {
        ring_trim(f, 0);
        f->tail_rev = rev;
        f->restart = true;
    }
    stream_set(f, s, FEED_AT_TAIL);
    thread_wake(f);
}

/* It has had everything up to `rev`: where does it go on? */
static void stream_continue(struct feed *f, struct feed_stream *s, int64_t rev)
{
    stream_unblock(s);
    s->after = rev;
    for (struct feed_block *b = f->oldest; b; b = b->next) {
        size_t at = 0;

        if (b->after > rev)
            break;
        if (b->last <= rev)
            continue;
        while (at < b->n_events && b->events[at].rev <= rev)
            at++;
        stream_read_from(f, s, b, at);
        return;
    }
    if (rev >= f->tail_rev)
        stream_to_tail(f, s, rev);
    else
        stream_queue_behind(f, s);
}

/* ---- Streams by path (under the lock) ------------------------------------------------------------------------------------------ */

/* FNV-1a: of a path, the hash of each beginning comes on the way. */
enum { PATH_HASH = 0x11c9dc5 };

static unsigned path_hash(unsigned hash, const char *p, size_t len)
{
    while (len-- > 0)
        hash = (hash ^ (unsigned char)*p++) * 16777619u;
    return hash;
}

static void index_path(struct feed *f, struct feed_stream *s, unsigned hash)
{
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, f->by_path, s->filter.path, (unsigned)s->filter.len, hash, s);
}

static void index_add(struct feed *f, struct feed_stream *s)
{
    unsigned hash = path_hash(PATH_HASH, s->filter.path, s->filter.len);
    struct feed_stream *first;

    HASH_FIND_BYHASHVALUE(hh, f->by_path, s->filter.path, (unsigned)s->filter.len, hash, first);
    if (!first) {
        index_path(f, s, hash);
        return;
    }
    s->prev_same = first;
    s->next_same = first->next_same;
    if (s->next_same)
        s->next_same->prev_same = s;
    first->next_same = s;
}

static void index_remove(struct feed *f, struct feed_stream *s)
{
    struct feed_stream *next = s->next_same;

    if (f->match_next == s)
        f->match_next = next;
    if (next)
        next->prev_same = s->prev_same;
    if (s->prev_same) {
        s->prev_same->next_same = next;
        return;
    }
    if (next) /* the last one, so one that is gone through comes to it again */
        index_path(f, next, s->hh.hashv);
    if (f->match_path == s)
        f->match_path = s->hh.next;
    HASH_DEL(f->by_path, s);
}

/* ---- Telling the loop ---------------------------------------------------------------------------------------------------------- */

static void feed_tell(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct feed *f = data;
    struct feed_stream *s;

    (void)req, (void)err, (void)rev, (void)ino;
    lock_wanted(f);
    f->posted = false;
    while ((s = f->ready)) {
        bool closed = s->state == FEED_CLOSED;

        f->ready = s->next_ready;
        s->queued = false;
        s->waiting = false;
        pthread_mutex_unlock(&f->lock);
        if (!closed)
            s->ready(s);
        else
            feed_close(fs, s);
        lock_wanted(f);
    }
    pthread_mutex_unlock(&f->lock);
}

/* Under the lock. Out of memory: the next block tries again. */
static void stream_wake(struct feed *f, struct feed_stream *s)
{
    if (s->waiting && !s->queued) {
        s->queued = true;
        s->next_ready = f->ready;
        f->ready = s;
    }
    if (f->ready && !f->posted)
        f->posted = pending_post(f->fs, feed_tell, f) == 0;
}

/* ---- The tail (thread) --------------------------------------------------------------------------------------------------------- */

/* A block is matched event by event, and whoever wants the lock has it in between. What happens then does no harm, since the block is in the
 * ring already: who comes to the tail meanwhile has had all of it, and streams that go are taken out from under match_next and match_path. */

/* Nobody is left who waited for this block, or it matters to nobody any more. */
static bool match_over(const struct feed *f)
{
    return f->n_at_tail == 0 || f->restart || f->end;
}

/* True: somebody has asked for this event. */
static bool wake_same(struct feed *f, struct feed_stream *first, struct feed_block *b, size_t i)
{
    bool any = false;

    f->match_next = first;
    while (f->match_next && !match_over(f)) {
        struct feed_stream *s = f->match_next;

        f->match_next = s->next_same;
        if (s->state != FEED_AT_TAIL || b->events[i].rev <= s->after)
            continue;
        if (FAILPOINT("fs.feed.match"))
            nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        if (feed_sees(&s->filter, b, i, NULL)) {
            stream_read_from(f, s, b, i);
            stream_wake(f, s);
            any = true;
        }
        give_way(f);
    }
    f->match_next = NULL;
    return any;
}

/* Streams of the name and of each directory above it. */
static bool wake_on_path(struct feed *f, struct feed_block *b, size_t i, const struct feed_place *at)
{
    const char *p = (const char *)b->text.data + at->path;
    unsigned hash = PATH_HASH;
    bool any = false;

    for (size_t end = 0; end <= at->len && end <= FEED_PATH_MAX; end++) {
        struct feed_stream *s;

        if (end == 0 || end == at->len || p[end] == '/') {
            HASH_FIND_BYHASHVALUE(hh, f->by_path, p, (unsigned)end, hash, s);
            any = wake_same(f, s, b, i) || any;
        }
        if (end < at->len)
            hash = path_hash(hash, p + end, 1);
    }
    return any;
}

/* Streams of any path. */
static bool wake_all(struct feed *f, struct feed_block *b, size_t i)
{
    bool any = false;

    f->match_path = f->by_path;
    while (f->match_path && !match_over(f)) {
        struct feed_stream *s = f->match_path;

        f->match_path = s->hh.next;
        any = wake_same(f, s, b, i) || any;
    }
    f->match_path = NULL;
    return any;
}

/* Under the lock, which it lets go of now and then. */
static bool wake_for(struct feed *f, struct feed_block *b)
{
    bool any = false;

    b->refs++;
    for (size_t i = 0; i < b->n_events && !match_over(f); i++) {
        const struct feed_event *e = &b->events[i];

        if (e->op == STORE_EV_RENAME && e->kind == STORE_DIR) { /* streams below it, too */
            any = wake_all(f, b, i) || any;
            continue;
        }
        any = wake_on_path(f, b, i, &e->now) || any;
        if (e->op == STORE_EV_RENAME)
            any = wake_on_path(f, b, i, &e->was) || any;
        give_way(f);
    }
    block_unref(b);
    return any;
}

/* Those that wait for the tail; with `all`, those that are behind as well. */
static void fail_tail(struct feed *f, int err, bool all)
{
    struct feed_stream *first, *tmp;

    HASH_ITER(hh, f->by_path, first, tmp)
        for (struct feed_stream *s = first; s; s = s->next_same)
            if (s->state == FEED_AT_TAIL || (all && s->state == FEED_BEHIND)) {
                stream_fail(f, s, err);
                stream_wake(f, s);
            }
    if (all) {
        f->behind = NULL;
        f->behind_end = &f->behind;
    }
    ring_trim(f, 0);
    f->tail_rev = atomic_load(&f->head);
    f->restart = true;
}

/* What the tail has not read yet is gone, up to a revision of which the store has told everybody by now, or will at once. Who has had more
 * than that waits on. */
static void compact_tail(struct feed *f)
{
    struct feed_stream *first, *tmp;
    struct store_glance g;

    replica_glance(f->fs->replica, &g);
    if (g.compacted <= f->tail_rev)
        return;
    HASH_ITER(hh, f->by_path, first, tmp)
        for (struct feed_stream *s = first; s; s = s->next_same)
            if (s->state == FEED_AT_TAIL && s->after < g.compacted) {
                stream_fail(f, s, QE_STALE);
                stream_wake(f, s);
            }
    ring_trim(f, 0);
    f->tail_rev = g.compacted;
    f->restart = true;
}

static struct timespec realtime_in(int64_t ns)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    ns = (ns > 0 ? ns : 0) + t.tv_nsec;
    return (struct timespec){t.tv_sec + ns / 1000000000, ns % 1000000000};
}

static bool page_due(const struct feed *f)
{
    return f->behind && clock_boottime_ns() >= f->page_at_ns;
}

/* Changes that come meanwhile are looked at together. Under the lock, which it lets go of. */
static void rest(struct feed *f)
{
    int64_t ns = IDLE_MS * 1000000, page_ns = f->page_at_ns - clock_boottime_ns();
    struct timespec t = realtime_in(f->behind && page_ns < ns ? page_ns : ns);

    while (!f->end && !page_due(f) && pthread_cond_timedwait(&f->rested, &f->lock, &t) == 0)
        ;
}

/* Under the lock, which it lets go of while it reads. */
static void read_tail(struct feed *f, struct store_reader *reader)
{
    int64_t after = f->tail_rev;
    struct feed_block *b = NULL;
    int err;

    if (f->restart)
        feed_cache_clear(&f->tail_cache);
    f->restart = false;
    pthread_mutex_unlock(&f->lock);
    (void)FAILPOINT("fs.feed.tail");
    err = feed_block_read(reader, after, &f->tail_cache, &b);
    if (err)
        feed_cache_clear(&f->tail_cache);
    pthread_mutex_lock(&f->lock);
    if (f->restart || f->tail_rev != after) { /* all streams went, and new ones came */
        feed_block_free(b);
    } else if (err == QE_STALE) {
        compact_tail(f);
    } else if (err) {
        fail_tail(f, err, false);
    } else {
        f->tail_rev = b->last;
        ring_push(f, b);
        if (!wake_for(f, b))
            rest(f);
        ring_trim(f, TAIL_BYTES);
    }
}

/* ---- Streams that are behind (thread) ------------------------------------------------------------------------------------------ */

static size_t first_seen(const struct feed_stream *s, const struct feed_block *b)
{
    struct feed_sight sight = {0};
    size_t i = 0;

    while (i < b->n_events && !feed_sees(&s->filter, b, i, &sight))
        i++;
    feed_sight_clear(&sight);
    return i;
}

static void stream_free(struct feed_stream *s)
{
    free(s->filter.path);
    perm_fini(&s->filter.who);
    free(s);
}

/* A page that covers so many revisions was read. */
static void note_page(struct feed *f, int64_t began_ns, int64_t covered)
{
    int64_t now = clock_boottime_ns(), head = atomic_load(&f->head), n = (int64_t)f->n_behind;

    f->page_at_ns = now + feed_rest_ns(now - began_ns, n > 1 ? covered / n : covered, head - f->paged_rev, now - f->paged_ns);
    f->paged_rev = head;
    f->paged_ns = now;
}

/* One page for the stream whose turn it is. Under the lock, which it lets go of while it reads. */
static void read_behind(struct feed *f, struct store_reader *reader)
{
    struct feed_stream *s = f->behind;
    struct feed_block *b = NULL;
    int64_t began_ns = clock_boottime_ns();
    size_t i = 0;
    int err;

    f->behind = s->next_behind;
    if (!f->behind)
        f->behind_end = &f->behind;
    s->busy = true;
    pthread_mutex_unlock(&f->lock);
    err = feed_block_read(reader, s->after, &f->page_cache, &b);
    feed_cache_clear(&f->page_cache);
    if (!err)
        i = first_seen(s, b);
    pthread_mutex_lock(&f->lock);
    note_page(f, began_ns, err ? 0 : b->last - s->after);
    s->busy = false;
    if (s->state == FEED_CLOSED) {
        if (!s->queued) /* else feed_tell does it */
            stream_free(s);
        feed_block_free(b);
        return;
    }
    if (!err && i < b->n_events && !feed_block_charge(b, &f->users, s->filter.who.uid))
        err = QE_NOMEM;
    if (!err && i < b->n_events) {
        stream_read_from(f, s, b, i);
    } else {
        if (err)
            stream_fail(f, s, err);
        else
            stream_continue(f, s, b->last);
        feed_block_free(b);
    }
    if (s->state == FEED_READING || s->state == FEED_FAILED)
        stream_wake(f, s);
}

/* ---- The thread ---------------------------------------------------------------------------------------------------------------- */

/* Under the lock, which it lets go of. */
static void wait_for_page(struct feed *f)
{
    struct timespec t = realtime_in(f->page_at_ns - clock_boottime_ns());

    thread_sleep(f, &t);
}

static void *feed_main(void *arg)
{
    struct feed *f = arg;
    struct store_reader *reader = NULL;
    int err = replica_reader(f->fs->replica, &reader);

    pthread_mutex_lock(&f->lock);
    while (!f->end) {
        bool any = atomic_load(&f->n_streams) > 0 && !atomic_load(&f->stopping);

        if (any && err)
            fail_tail(f, err, true);
        if (any && !err && f->n_at_tail > 0 && atomic_load(&f->head) > f->tail_rev)
            read_tail(f, reader);
        else if (any && !err && page_due(f))
            read_behind(f, reader);
        else if (any && !err && f->behind)
            wait_for_page(f);
        else
            thread_sleep(f, NULL);
    }
    pthread_mutex_unlock(&f->lock);
    store_reader_close(reader);
    return NULL;
}

void feed_changed(struct fs *fs, int64_t rev)
{
    struct feed *f = atomic_load(&fs->feed);

    if (!f)
        return;
    head_raise(f, rev);
    if (atomic_load(&f->n_at_tail) > 0) /* else who comes there wakes the thread */
        thread_wake(f);
}

static void feed_destroy(struct feed *f)
{
    pthread_cond_destroy(&f->taken);
    pthread_cond_destroy(&f->rested);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->woken);
    pthread_mutex_destroy(&f->sleep_lock);
    free(f);
}

static struct feed *feed_of(struct fs *fs)
{
    struct feed *f = atomic_load(&fs->feed);

    if (f)
        return f;
    f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->fs = fs;
    f->behind_end = &f->behind;
    pthread_mutex_init(&f->sleep_lock, NULL);
    pthread_cond_init(&f->woken, NULL);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->rested, NULL);
    pthread_cond_init(&f->taken, NULL);
    if (pthread_create(&f->thread, NULL, feed_main, f)) {
        feed_destroy(f);
        return NULL;
    }
    f->started = true;
    atomic_store(&fs->feed, f);
    return f;
}

void feed_end(struct fs *fs)
{
    struct feed *f = atomic_load(&fs->feed);

    if (!f || !f->started)
        return;
    lock_wanted(f);
    f->end = true;
    thread_wake(f);
    pthread_cond_signal(&f->rested);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->thread, NULL);
    f->started = false;
}

void feed_free(struct fs *fs)
{
    struct feed *f = atomic_load(&fs->feed);

    if (!f)
        return;
    atomic_store(&fs->feed, NULL);
    ring_trim(f, 0);
    feed_cache_clear(&f->tail_cache);
    feed_cache_clear(&f->page_cache);
    feed_destroy(f);
}

/* ---- Streams (FUSE loop) ------------------------------------------------------------------------------------------------------- */

int feed_open(struct fs *fs, struct feed_stream *s, int64_t after)
{
    struct feed *f = feed_of(fs);
    struct store_glance g;

    if (!f)
        return QE_NOMEM;
    replica_glance(fs->replica, &g);
    if (after > g.rev)
        return QE_RANGE;
    if (after >= 0 && after < g.compacted)
        return QE_STALE;
    lock_wanted(f);
    if (atomic_load(&f->n_streams) == 0) {
        ring_trim(f, 0);
        f->tail_rev = g.rev;
        f->restart = true;
    }
    head_raise(f, g.rev);
    index_add(f, s);
    atomic_fetch_add(&f->n_streams, 1);
    stream_continue(f, s, after < 0 ? g.rev : after);
    thread_wake(f);
    pthread_mutex_unlock(&f->lock);
    return 0;
}

static void behind_remove(struct feed *f, struct feed_stream *s)
{
    struct feed_stream **p = &f->behind;

    while (*p && *p != s)
        p = &(*p)->next_behind;
    if (!*p)
        return;
    *p = s->next_behind;
    if (f->behind_end == &s->next_behind)
        f->behind_end = p;
}

void feed_close(struct fs *fs, struct feed_stream *s)
{
    struct feed *f = atomic_load(&fs->feed);
    bool held;

    feed_forget(s);
    lock_wanted(f);
    if (s->state != FEED_CLOSED) {
        index_remove(f, s);
        behind_remove(f, s);
        stream_set(f, s, FEED_CLOSED);
        stream_unblock(s);
        atomic_fetch_sub(&f->n_streams, 1);
        if (atomic_load(&f->n_streams) == 0)
            ring_trim(f, 0);
    }
    held = s->busy || s->queued;
    pthread_mutex_unlock(&f->lock);
    if (!held)
        stream_free(s);
}

bool feed_next_block(struct fs *fs, struct feed_stream *s)
{
    struct feed *f = atomic_load(&fs->feed);
    bool reading;

    lock_wanted(f);
    stream_continue(f, s, s->block->last);
    reading = s->state == FEED_READING;
    pthread_mutex_unlock(&f->lock);
    return reading;
}

bool feed_wait(struct fs *fs, struct feed_stream *s)
{
    struct feed *f = atomic_load(&fs->feed);
    bool wait;

    lock_wanted(f);
    wait = s->state == FEED_AT_TAIL || s->state == FEED_BEHIND;
    s->waiting = wait;
    pthread_mutex_unlock(&f->lock);
    return wait;
}

void feed_stop(struct fs *fs)
{
    struct feed *f = atomic_load(&fs->feed);

    if (f)
        atomic_store(&f->stopping, true);
}

bool feed_stopped(const struct fs *fs)
{
    struct feed *f = atomic_load(&fs->feed);

    return f && atomic_load(&f->stopping);
}

size_t feed_count(struct fs *fs)
{
    struct feed *f = atomic_load(&fs->feed);

    return f ? atomic_load(&f->n_streams) : 0;
}
