/* What is held by flock(2) and fcntl(2), as a list of each inode, and what becomes of it when it is lost. */
#include "fs/flock_parts.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

void flock__list_add(struct file_lock **list, struct file_lock *l)
{
    l->prev = NULL;
    l->next = *list;
    if (l->next)
        l->next->prev = l;
    *list = l;
}

void flock__list_remove(struct file_lock **list, struct file_lock *l)
{
    if (l->next)
        l->next->prev = l->prev;
    if (l->prev)
        l->prev->next = l->next;
    else
        *list = l->next;
}

static bool overlaps(const struct file_lock *l, int64_t start, int64_t end)
{
    return l->start <= end && start <= l->end;
}

struct inode *flock__inode(const struct handle *h)
{
    return h->in->ino == h->in->node ? h->in : inode_find(h->fs, h->in->ino);
}

/* ---- What is held ---- */

void flock__hold(struct file_lock *l, struct inode *in)
{
    l->in = in;
    flock__list_add(&in->locks, l);
    l->fs->locks->n_held++;
    l->h->n_locks++;
}

void flock__unhold(struct file_lock *l)
{
    flock__list_remove(&l->in->locks, l);
    l->fs->locks->n_held--;
    l->h->n_locks--;
    free(l);
}

struct file_lock *flock__whole(const struct handle *h)
{
    const struct inode *in = h->lock_owner ? flock__inode(h) : NULL;

    for (struct file_lock *l = in ? in->locks : NULL; l; l = l->next)
        if (l->whole && l->owner == h->lock_owner)
            return l;
    return NULL;
}

struct file_lock *flock__next_range(struct file_lock *l, uint64_t owner, int64_t start, int64_t end)
{
    while (l && (l->whole || l->owner != owner || !overlaps(l, start, end)))
        l = l->next;
    return l;
}

struct file_lock *flock__range(const struct handle *h, uint64_t owner, int64_t start, int64_t end)
{
    const struct inode *in = flock__inode(h);

    return in ? flock__next_range(in->locks, owner, start, end) : NULL;
}

void flock__cut(struct inode *in, uint64_t owner, int64_t start, int64_t end, struct file_lock **spare)
{
    struct file_lock *l = flock__next_range(in->locks, owner, start, end), *next;

    for (; l; l = next) {
        next = flock__next_range(l->next, owner, start, end);
        if (start <= l->start && end >= l->end) {
            flock__unhold(l);
        } else if (start > l->start && end < l->end) {
            struct file_lock *rest = *spare;

            *spare = NULL;
            *rest = *l;
            rest->start = end + 1;
            l->end = start - 1;
            flock__hold(rest, in);
            return;
        } else if (start <= l->start) {
            l->start = end + 1;
        } else {
            l->end = start - 1;
        }
    }
}

void flock__unheld(struct fs *fs, struct inode *in)
{
    if (!in->locks)
        inode_unused(fs, in);
}

void flock__move_handles(const struct file_lock *l)
{
    for (struct handle *h = l->in->handles; h; h = h->next)
        if (!h->dirty && (h == l->h || h->tid == l->h->tid || (h->tgid && h->tgid == l->h->tgid)))
            h->base_old = h->readable;
}

/* ---- What is lost ---- */

void flock__lose(struct handle *h)
{
    struct buf path = {0};

    if (h->lock_lost)
        return;
    h->lock_lost = true;
    if (store_path(h->fs->reader, h->in->ino, &path))
        buf_printf(&path, "(inode %llu)", (unsigned long long)h->in->ino);
    log_warn("lock", "a lock on \"%s\" of uid %u pid %d is lost: its descriptor is ESTALE from here on%s", buf_cstr(&path), h->uid, (int)h->tid,
             h->dirty ? ", and what was written under it is dropped" : "");
    buf_fini(&path);
    if (h->dirty) {
        atomic_fetch_add(&h->fs->failed_commits, 1);
        handle_drop_edits(h);
        h->has_view = false;
        h->failed = QE_STALE; /* close says so */
    }
    if (h->poll)
        fuse_lowlevel_notify_poll(h->poll);
}

bool flock_lost(struct handle *h)
{
    if (!h->lock_lost && h->n_locks && !replica_session_holds(h->fs->replica))
        flock__lose(h); /* the rest of what it takes follows at once, by flock__lapsed */
    return h->lock_lost;
}

void flock_fence(const struct handle *h, struct store_op *op)
{
    const struct inode *in = h->n_locks ? flock__inode(h) : NULL;

    for (const struct file_lock *l = in ? in->locks : NULL; l; l = l->next) {
        if (l->h != h)
            continue;
        op->flags = l->whole ? STORE_LOCK_WHOLE : STORE_LOCK_RANGE;
        op->owner = l->owner;
        return;
    }
}

void flock_poll(fuse_req_t req, struct handle *h, struct fuse_pollhandle *ph)
{
    const unsigned ready = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;

    if (ph) {
        if (h->poll)
            fuse_pollhandle_destroy(h->poll);
        h->poll = ph;
    }
    fuse_reply_poll(req, ready | (flock_lost(h) ? POLLERR : 0));
}

void flock__lapsed(struct fs *fs)
{
    struct inode *in, *tmp;
    struct file_lock *l, *next;

    HASH_ITER(hh, fs->inodes->by_node, in, tmp) {
        if (!in->locks)
            continue;
        while (in->locks) {
            l = in->locks;
            flock__lose(l->h);
            if (l->lock)
                locks_drop(fs, l->lock, NULL, NULL);
            flock__unhold(l);
        }
        flock__unheld(fs, in);
    }
    for (l = fs->locks->asking; l; l = next) { /* its descriptor is of no use any more */
        next = l->next;
        if (l->h->lock_lost)
            flock__asking_end(l, ESTALE);
    }
}

void flock__whole_lost(struct fs *fs, void *data)
{
    struct file_lock *l = data;
    struct inode *in = l->in;

    flock__lose(l->h);
    locks_drop(fs, l->lock, NULL, NULL);
    flock__unhold(l);
    flock__unheld(fs, in);
}
