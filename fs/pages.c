#include "fs/pages.h"

#include <pthread.h>
#include <stdlib.h>
#include <uthash.h>

/* An inode of which the kernel may have pages. */
struct mapped {
    uint64_t ino;   /* key: in the store */
    fuse_ino_t node; /* the kernel may know it by this number, too */
    UT_hash_handle hh;
};

struct pages {
    pthread_mutex_t lock; /* of `mapped`; not held while the kernel is told */
    struct mapped *mapped;
    _Atomic size_t n_mapped; /* usually 0, which needs no lock to see */
};

int pages_open(struct fs *fs)
{
    fs->pages = calloc(1, sizeof *fs->pages);
    if (!fs->pages)
        return QE_NOMEM;
    pthread_mutex_init(&fs->pages->lock, NULL);
    return 0;
}

void pages_close(struct fs *fs)
{
    struct mapped *m, *tmp;

    if (!fs->pages)
        return;
    HASH_ITER(hh, fs->pages->mapped, m, tmp) {
        HASH_DEL(fs->pages->mapped, m);
        free(m);
    }
    pthread_mutex_destroy(&fs->pages->lock);
    free(fs->pages);
    fs->pages = NULL;
}

void pages_mapped(struct fs *fs, struct inode *in)
{
    struct pages *c = fs->pages;
    struct mapped *m;

    in->mapped = true;
    pthread_mutex_lock(&c->lock);
    HASH_FIND(hh, c->mapped, &in->ino, sizeof in->ino, m);
    if (!m && (m = calloc(1, sizeof *m))) {
        m->ino = m->node = in->ino;
        HASH_ADD(hh, c->mapped, ino, sizeof m->ino, m);
        atomic_fetch_add(&c->n_mapped, 1);
    }
    if (m && in->node != in->ino)
        m->node = in->node;
    pthread_mutex_unlock(&c->lock);
    if (!m)
        log_warn("mount", "out of memory: a mapping of inode %llu will not show what other members write", (unsigned long long)in->ino);
}

void pages_unmapped(struct fs *fs, const struct inode *in)
{
    struct pages *c = fs->pages;
    struct mapped *m;

    pthread_mutex_lock(&c->lock);
    HASH_FIND(hh, c->mapped, &in->ino, sizeof in->ino, m);
    if (m) {
        HASH_DEL(c->mapped, m);
        atomic_fetch_sub(&c->n_mapped, 1);
        free(m);
    }
    pthread_mutex_unlock(&c->lock);
}

/* The kernel drops the pages. It may ask the FUSE loop for dirty ones meanwhile, which never waits for this thread. */
static void pages_drop(struct fs *fs, uint64_t ino)
{
    struct pages *c = fs->pages;
    fuse_ino_t node = 0;
    struct mapped *m;

    pthread_mutex_lock(&c->lock);
    HASH_FIND(hh, c->mapped, &ino, sizeof ino, m);
    if (m)
        node = m->node;
    pthread_mutex_unlock(&c->lock);
    if (!node)
        return;
    fuse_lowlevel_notify_inval_inode(fs->se, ino, 0, 0);
    if (node != ino)
        fuse_lowlevel_notify_inval_inode(fs->se, node, 0, 0);
}

void pages_changed(struct fs *fs, const struct store_change *changes, size_t n)
{
    /* Of this mount's own commits as well: the first page may have been read when a commit was on its way already. */
    for (size_t i = 0; i < n && atomic_load(&fs->pages->n_mapped); i++)
        if (changes[i].op == STORE_EV_PUT)
            pages_drop(fs, changes[i].ino);
}
