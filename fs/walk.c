#include "fs/walk.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "fs/inode.h"
#include "store/base/buf.h"
#include "store/base/clock.h"

struct step {
    fuse_ino_t parent, node;
    size_t at; /* of the name in `names`, NUL-terminated */
};

struct walk {
    pid_t tid; /* key */
    int64_t used_ns;
    size_t held;
    struct buf names;
    struct buf steps;    /* of struct step */
    fuse_ino_t last;     /* where the newest step led */
    uint64_t last_shape; /* and its system call */
    bool overflow;       /* longer than is remembered: `steps` is its beginning */
    fuse_ino_t passed;   /* 0: none */
    fuse_ino_t call_at;  /* directory where a call that has passed a barrier stands; 0: none */
    fuse_ino_t call_to;  /* where its newest step led; 0 */
    uint64_t call_shape; /* of that call */
    uint64_t again;      /* what the second walk must look like; 0: none is due */
    uint64_t again_shape; /* and its system call */
    int64_t again_until_ns;
    bool missed;         /* the second walk found nothing at its end */
    uint64_t make;       /* what the second walk must look like of a call that is to walk again when it makes its name; 0: none */
    uint64_t make_shape; /* and its system call */
    fuse_ino_t looked_in; /* where it looked up its last name, */
    uint64_t looked_shape; /* in that call */
    fuse_ino_t moving;   /* a directory that it was told of while the kernel has it elsewhere; 0: none */
    fuse_ino_t moving_in; /* in that one, */
    uint64_t moving_shape; /* in that call, */
    unsigned moving_times; /* so often, */
    int64_t moving_until_ns; /* and not for ever */
    int64_t late_until_ns; /* the second walk has come to where the first one ended, and goes on */
    UT_hash_handle hh;   /* oldest use first */
};

struct walk_table {
    struct walk *by_tid;
};

struct walk *walk_find(struct fs *fs, pid_t tid)
{
    struct walk *w = NULL;

    if (fs->walks && tid > 0)
        HASH_FIND_INT(fs->walks->by_tid, &tid, w);
    return w;
}

static void walk_free(struct fs *fs, struct walk *w)
{
    HASH_DEL(fs->walks->by_tid, w);
    buf_fini(&w->names);
    buf_fini(&w->steps);
    free(w);
}

/* Makes room for one more. False: all are in use. */
static bool walk_room(struct fs *fs, int64_t now_ns)
{
    struct walk *w, *tmp;

    if (HASH_COUNT(fs->walks->by_tid) < WALKS_MAX)
        return true;
    HASH_ITER(hh, fs->walks->by_tid, w, tmp) {
        if (now_ns - w->used_ns < WALK_REST_MS * INT64_C(1000000))
            return false;
        if (!w->held) {
            walk_free(fs, w);
            return true;
        }
    }
    return false;
}

struct walk *walk_get(struct fs *fs, pid_t tid)
{
    int64_t now = clock_boottime_ns();
    struct walk *w;

    if (!fs->walks)
        fs->walks = calloc(1, sizeof *fs->walks);
    if (!fs->walks || tid <= 0)
        return NULL;
    w = walk_find(fs, tid);
    if (w) {
        HASH_DEL(fs->walks->by_tid, w); /* to the end of the order */
    } else {
        w = walk_room(fs, now) ? calloc(1, sizeof *w) : NULL;
        if (!w)
            return NULL;
        w->tid = tid;
    }
    w->used_ns = now;
    HASH_ADD_INT(fs->walks->by_tid, tid, w);
    return w;
}

static size_t n_steps(const struct walk *w)
{
    return w->steps.len / sizeof(struct step);
}

static const struct step *steps_of(const struct walk *w)
{
    return (const struct step *)(const void *)w->steps.data;
}

/* Takes back the steps behind the place `parent`; all of them when the walk was never there. */
static void walk_back(struct walk *w, fuse_ino_t parent)
{
    const struct step *steps = steps_of(w);
    size_t n = n_steps(w), keep = 0;

    if (w->overflow && w->last == parent)
        return;
    while (keep < n && (keep == 0 ? steps[0].parent : steps[keep - 1].node) != parent)
        keep++;
    if (keep == n && n > 0 && steps[n - 1].node != parent)
        keep = 0;
    if (keep == n)
        return;
    w->names.len = steps[keep].at;
    w->steps.len = keep * sizeof *steps;
    w->overflow = false;
}

void walk_step(struct walk *w, fuse_ino_t parent, const char *name, fuse_ino_t node, uint64_t shape)
{
    struct step s = {.parent = parent, .node = node};

    w->passed = 0;
    w->call_at = w->call_to = 0;
    walk_back(w, parent);
    w->make = 0;
    w->last = node;
    w->last_shape = shape;
    s.at = w->names.len;
    if (w->overflow || n_steps(w) >= WALK_STEPS_MAX || buf_append(&w->names, name, strlen(name) + 1) || buf_append(&w->steps, &s, sizeof s))
        w->overflow = true;
}

bool walk_leads_to(const struct walk *w, fuse_ino_t node)
{
    return (n_steps(w) > 0 || w->overflow) && w->last == node;
}

bool walk_has_other_name(const struct walk *w, fuse_ino_t parent, const char *name, fuse_ino_t node, uint64_t shape)
{
    const struct step *last = n_steps(w) ? &steps_of(w)[n_steps(w) - 1] : NULL;

    return last && last->node == node && w->last_shape == shape && (last->parent != parent || strcmp((const char *)w->names.data + last->at, name) != 0);
}

bool walk_is_bound(struct fs *fs, const struct walk *w)
{
    size_t n = n_steps(w);
    struct store_attr attr;
    bool bound = !w->overflow;

    if (n == 0 || !bound)
        return bound;
    if (store_read_begin(fs->reader, NULL))
        return false;
    for (size_t i = 0; i < n && bound; i++) {
        const struct step *s = &steps_of(w)[i];
        const char *name = (const char *)w->names.data + s->at;

        bound = !store_lookup(fs->reader, STORE_HEAD, inode_ino(fs, s->parent), name, strlen(name), &attr) &&
                attr.ino == inode_ino(fs, s->node);
    }
    store_read_end(fs->reader);
    return bound;
}

void walk_end(struct walk *w)
{
    buf_clear(&w->names);
    buf_clear(&w->steps);
    w->overflow = false;
    w->passed = 0;
    w->call_at = w->call_to = 0;
}

/* What two walks of the same path have in common: start and names. Never 0. */
static uint64_t walk_hash(const struct walk *w, fuse_ino_t parent, const char *name)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ (n_steps(w) ? steps_of(w)[0].parent : parent); /* FNV-1a */

    for (size_t i = 0; i < w->names.len; i++)
        h = (h ^ w->names.data[i]) * UINT64_C(0x100000001b3);
    for (size_t i = 0; name && i <= strlen(name); i++)
        h = (h ^ (unsigned char)name[i]) * UINT64_C(0x100000001b3);
    return h ? h : 1;
}

static void note_again(struct walk *w, uint64_t hash, uint64_t shape)
{
    w->again = hash;
    w->again_shape = shape;
    w->missed = false;
    w->late_until_ns = 0;
    w->again_until_ns = clock_boottime_ns() + WALK_FRESH_MS * INT64_C(1000000);
    walk_end(w);
}

void walk_again(struct walk *w, uint64_t shape, fuse_ino_t parent, const char *name)
{
    note_again(w, walk_hash(w, parent, name), shape);
}

bool walk_is_due(const struct walk *w)
{
    return w->again != 0;
}

bool walk_is_second(struct walk *w, uint64_t shape, fuse_ino_t parent, const char *name, bool passes)
{
    bool same = shape == w->again_shape || w->again_shape == 0; /* 0: which call it was could not be told */
    bool second = w->again && same && walk_hash(w, parent, name) == w->again;
    int64_t now = clock_boottime_ns();

    if (second && passes)
        w->late_until_ns = now + WALK_LATE_MS * INT64_C(1000000);
    if (!same || (second && !name)) /* another call: the second walk came to another end, and is over */
        w->again = 0;
    return second && now < w->again_until_ns;
}

bool walk_goes_on(struct walk *w, uint64_t shape)
{
    int64_t now = clock_boottime_ns();
    bool on = now < w->late_until_ns ||
              (w->again && now < w->again_until_ns - (WALK_FRESH_MS - WALK_LATE_MS) * INT64_C(1000000));

    w->late_until_ns = 0;
    return on && shape && shape == w->again_shape;
}

void walk_forget_again(struct walk *w)
{
    w->missed = false;
    w->again = 0;
    w->late_until_ns = 0;
}

static bool is_fresh(const struct walk *w)
{
    return w->again && clock_boottime_ns() < w->again_until_ns;
}

void walk_came_to(struct walk *w, fuse_ino_t parent, const char *name)
{
    if (walk_hash(w, parent, name) == w->again)
        walk_forget_again(w);
}

void walk_miss(struct walk *w)
{
    w->missed = is_fresh(w);
    if (!w->missed)
        walk_forget_again(w);
}

bool walk_has_missed(const struct walk *w)
{
    return w->missed && is_fresh(w);
}

bool walk_is_on_way(const struct walk *w, uint64_t shape)
{
    return is_fresh(w) && shape && shape == w->again_shape && walk_hash(w, 0, NULL) != w->again;
}

void walk_make_again(struct walk *w, uint64_t shape, fuse_ino_t parent, const char *name)
{
    w->make = walk_hash(w, parent, name);
    w->make_shape = shape;
}

bool walk_makes_again(struct walk *w)
{
    uint64_t hash = w->make;

    w->make = 0;
    if (hash)
        note_again(w, hash, w->make_shape);
    return hash != 0;
}

void walk_set_passed(struct walk *w, fuse_ino_t node)
{
    w->passed = node;
}

bool walk_has_passed(const struct walk *w, fuse_ino_t node)
{
    return w->passed == node;
}

void walk_call_at(struct walk *w, fuse_ino_t dir, uint64_t shape)
{
    w->call_at = dir;
    w->call_to = 0;
    w->call_shape = shape;
}

void walk_call_to(struct walk *w, fuse_ino_t node, uint64_t shape)
{
    w->call_at = 0;
    w->call_to = node;
    w->call_shape = shape;
}

bool walk_call_is_at(const struct walk *w, fuse_ino_t dir, uint64_t shape)
{
    return w->call_at == dir && w->call_shape == shape;
}

bool walk_call_came_to(const struct walk *w, fuse_ino_t node, uint64_t shape)
{
    return w->call_to == node && w->call_shape == shape;
}

void walk_set_moving(struct walk *w, fuse_ino_t parent, fuse_ino_t dir, uint64_t shape, unsigned times)
{
    w->moving = dir;
    w->moving_in = parent;
    w->moving_shape = shape;
    w->moving_times = times;
    w->moving_until_ns = clock_boottime_ns() + WALK_LATE_MS * INT64_C(1000000);
}

fuse_ino_t walk_moving(const struct walk *w, fuse_ino_t parent)
{
    return w->moving_in == parent && clock_boottime_ns() < w->moving_until_ns ? w->moving : 0;
}

unsigned walk_moving_times(const struct walk *w, fuse_ino_t parent, fuse_ino_t dir, uint64_t shape)
{
    return walk_moving(w, parent) == dir && w->moving_shape == shape ? w->moving_times : 0;
}

void walk_set_looked(struct walk *w, fuse_ino_t parent, uint64_t shape)
{
    w->looked_in = parent;
    w->looked_shape = shape;
}

bool walk_has_looked(const struct walk *w, fuse_ino_t parent, uint64_t shape)
{
    return w->looked_in == parent && w->looked_shape == shape;
}

void walk_hold(struct walk *w)
{
    w->held++;
}

void walk_release(struct walk *w)
{
    w->held--;
}

void walk_close(struct fs *fs)
{
    struct walk *w, *tmp;

    if (!fs->walks)
        return;
    HASH_ITER(hh, fs->walks->by_tid, w, tmp)
        walk_free(fs, w);
    free(fs->walks);
    fs->walks = NULL;
}
