#include "fs/inode.h"

#include "fs/handle.h"
#include "fs/pages.h"
#include "fs/proc.h"
#include "fs/replay.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "store/base/clock.h"

int inode_open_table(struct fs *fs)
{
    struct inode *root;

    fs->inodes = calloc(1, sizeof *fs->inodes);
    root = fs->inodes ? inode_add(fs, STORE_ROOT_INO) : NULL;
    if (!root)
        return QE_NOMEM;
    inode_remember(root); /* the kernel has it without asking */
    return 0;
}

static void inode_free(struct fs *fs, struct inode *in)
{
    HASH_DEL(fs->inodes->by_node, in);
    if (in->mapped)
        pages_unmapped(fs, in);
    if (in->creation)
        creation_free(fs, in->creation);
    free(in->kept);
    free(in);
}

void inode_close_table(struct fs *fs)
{
    struct inode *in, *tmp;

    if (!fs->inodes)
        return;
    HASH_ITER(hh, fs->inodes->by_node, in, tmp)
        inode_free(fs, in);
    free(fs->inodes);
    fs->inodes = NULL;
}

struct inode *inode_find(struct fs *fs, uint64_t node)
{
    struct inode *in;

    HASH_FIND(hh, fs->inodes->by_node, &node, sizeof node, in);
    return in;
}

struct inode *inode_add(struct fs *fs, uint64_t node)
{
    struct inode *in = inode_find(fs, node);

    if (in)
        return in;
    in = calloc(1, sizeof *in);
    if (!in)
        return NULL;
    in->node = in->ino = node;
    HASH_ADD(hh, fs->inodes->by_node, node, sizeof in->node, in);
    return in;
}

void inode_remember_worker(struct inode *in)
{
    in->nlookup++;
}

void inode_remember(struct inode *in)
{
    in->asked = true;
    if (!in->creation)
        in->gone = false;
    inode_remember_worker(in);
}

void inode_keep(struct inode *in, const struct store_attr *attr)
{
    if (!in->kept)
        in->kept = malloc(sizeof *in->kept);
    if (in->kept)
        *in->kept = *attr;
}

void inode_unused(struct fs *fs, struct inode *in)
{
    if (!in->handles) {
        free(in->kept);
        in->kept = NULL;
    }
    if (in->nlookup == 0 && !in->handles && !in->locks)
        inode_free(fs, in);
}

void inode_forget(struct fs *fs, uint64_t node, uint64_t nlookup)
{
    struct inode *in = inode_find(fs, node);

    if (!in)
        return;
    in->nlookup -= nlookup < in->nlookup ? nlookup : in->nlookup;
    inode_unused(fs, in);
}

double inode_cache_s(const struct fs *fs, const struct inode *in)
{
    if (in->creation || in->gone || in->ino != in->node)
        return 0;
    for (const struct handle *h = in->handles; h; h = h->next)
        if (h->dirty || h->in_flight)
            return 0;
    return replay_names_wait(fs) ? 0 : fs->cache_s;
}

int64_t inode_told_size(const struct inode *in, int64_t size)
{
    for (const struct handle *h = in->mapped ? in->handles : NULL; h; h = h->next)
        if ((h->dirty || h->in_flight) && h->size > size)
            size = h->size;
    return size;
}

uint64_t inode_ino(struct fs *fs, uint64_t node)
{
    const struct inode *in = inode_find(fs, node);

    return in ? in->ino : node;
}

bool inode_pending(const struct fs *fs, const struct inode *in)
{
    struct store_attr attr;

    return in->creation && (!in->creating || store_getattr(fs->reader, STORE_HEAD, in->ino, &attr) != 0);
}

struct creation *creation_new(struct fs *fs, struct inode *in, uint64_t parent, const char *name)
{
    struct creation *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->in = in;
    c->parent = parent;
    c->name_len = strlen(name);
    memcpy(c->name, name, c->name_len + 1);
    c->created_ns = clock_realtime_ns();
    c->next = fs->inodes->creations;
    if (c->next)
        c->next->prev = c;
    fs->inodes->creations = c;
    in->creation = c;
    return c;
}

static void xattr_free(struct store_xattr *x)
{
    free((void *)x->name.data);
    free((void *)x->value.data);
}

void creation_free(struct fs *fs, struct creation *c)
{
    for (size_t i = 0; i < c->n_xattrs; i++)
        xattr_free(&c->xattrs[i]);
    free(c->xattrs);
    perm_fini(&c->who);
    if (c->next)
        c->next->prev = c->prev;
    if (c->prev)
        c->prev->next = c->next;
    else
        fs->inodes->creations = c->next;
    c->in->creation = NULL;
    free(c);
}

struct creation *creation_find(struct fs *fs, uint64_t lease, uint64_t parent, const char *name, pid_t session)
{
    for (struct creation *c = fs->inodes->creations; c; c = c->next)
        if (c->in->lease == lease && c->parent == parent && !strcmp(c->name, name) && (session == PROC_ANY_SESSION || c->session == session))
            return c;
    return NULL;
}

bool creation_any_below(struct fs *fs, uint64_t parent, pid_t session)
{
    for (struct creation *c = fs->inodes->creations; c; c = c->next)
        if (c->parent == parent && c->session == session)
            return true;
    return false;
}

static struct store_xattr *xattr_find(const struct creation *c, const char *name)
{
    for (size_t i = 0; i < c->n_xattrs; i++)
        if (c->xattrs[i].name.len == strlen(name) && !memcmp(c->xattrs[i].name.data, name, strlen(name)))
            return &c->xattrs[i];
    return NULL;
}

const struct store_xattr *creation_xattr(const struct creation *c, const char *name)
{
    return xattr_find(c, name);
}

/* What the file's attributes would cost with `x` replaced by a value of `size` bytes. */
static size_t xattr_total(const struct creation *c, const struct store_xattr *x, const char *name, size_t size)
{
    size_t total = strlen(name) + size;

    for (size_t i = 0; i < c->n_xattrs; i++)
        if (&c->xattrs[i] != x)
            total += c->xattrs[i].name.len + c->xattrs[i].value.len;
    return total;
}

int creation_setxattr(struct creation *c, const char *name, const void *value, size_t size, int flags)
{
    struct store_xattr *x = xattr_find(c, name), *list, fresh;

    if (x && (flags & STORE_XATTR_CREATE))
        return QE_EXIST;
    if (!x && (flags & STORE_XATTR_REPLACE))
        return QE_NODATA;
    if (size > STORE_XATTR_VALUE_MAX || xattr_total(c, x, name, size) > STORE_XATTR_TOTAL_MAX)
        return QE_2BIG;
    fresh.name = (struct store_bytes){strdup(name), strlen(name)};
    fresh.value = (struct store_bytes){malloc(size ? size : 1), size};
    list = x ? c->xattrs : realloc(c->xattrs, (c->n_xattrs + 1) * sizeof *list);
    if (list)
        c->xattrs = list;
    if (!list || !fresh.name.data || !fresh.value.data) {
        xattr_free(&fresh);
        return QE_NOMEM;
    }
    if (size)
        memcpy((void *)fresh.value.data, value, size);
    if (x)
        xattr_free(x);
    else
        x = &c->xattrs[c->n_xattrs++];
    *x = fresh;
    return 0;
}

int creation_removexattr(struct creation *c, const char *name)
{
    struct store_xattr *x = xattr_find(c, name);

    if (!x)
        return QE_NODATA;
    xattr_free(x);
    *x = c->xattrs[--c->n_xattrs];
    return 0;
}

void creation_attr(const struct creation *c, int64_t size, struct store_attr *out)
{
    *out = (struct store_attr){
        .ino = c->in->ino,
        .parent = c->parent,
        .mode = S_IFREG | c->mode,
        .uid = c->uid,
        .gid = c->gid,
        .nlink = 1,
        .mtime_ns = c->has_mtime ? c->mtime_ns : c->created_ns,
        .ctime_ns = c->created_ns,
        .size = size,
    };
}
