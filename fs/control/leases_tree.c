/* What leads to the files that are attached to a lease: their paths, sorted, from which each directory of keys/ is listed.
 *
 * A lease knows its files, and a file its path; there is no way from a directory down to the attached files below it. So all paths of the
 * lease are collected by a worker (work.h) when a directory is opened, and kept until the store has a newer revision: a find over
 * the whole tree of a quiet store collects them once. A list that is longer than a page is not of one moment. The worker makes the listing, too:
 * it looks for each directory in the store, and there may be 100,000. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/control/leases.h"
#include "fs/control/listing.h"
#include "fs/work.h"

enum {
    FILES_PAGE = 1000,               /* files of one transaction */
    TEXT_BYTES_MAX = 256 << 20,      /* of all paths: 100,000 files with long ones */
};

struct tree_path {
    size_t at;    /* in `text`: "a/b", NUL-terminated */
    uint64_t ino; /* of the file */
};

struct lease_tree { /* does not change any more once it is the newest */
    size_t refs;      /* FUSE loop only: the newest, and those that list it */
    uint64_t lease;
    int64_t rev;      /* that it is at least of */
    struct buf text;
    struct buf paths; /* of struct tree_path, sorted by path */
};

static struct lease_tree *newest; /* FUSE loop only */

static void tree_unref(struct lease_tree *t)
{
    if (!t || --t->refs)
        return;
    buf_fini(&t->text);
    buf_fini(&t->paths);
    free(t);
}

static struct tree_path *paths_of(const struct lease_tree *t, size_t *n)
{
    *n = t->paths.len / sizeof(struct tree_path);
    return (struct tree_path *)(void *)t->paths.data;
}

static const char *path_at(const struct lease_tree *t, const struct tree_path *p)
{
    return (const char *)t->text.data + p->at;
}

/* ---- Collecting: a worker ------------------------------------------------------------------------------------------------------ */

struct collect {
    struct listing_job job;
    struct lease_tree *t;   /* a reference */
    bool fresh;             /* it is to be collected; nobody else has it until then */
    bool collected;         /* it was */
    uint64_t inos[FILES_PAGE];
    size_t n;               /* of the page */
    /* What the directory is opened for. */
    uint64_t dir;
};

static bool collect_ino(void *data, uint64_t ino)
{
    struct collect *c = data;

    c->inos[c->n++] = ino;
    return c->n < FILES_PAGE;
}

static int add_path(struct lease_tree *t, struct store_reader *reader, uint64_t ino)
{
    struct buf path = {0};
    struct tree_path p = {.at = t->text.len, .ino = ino};
    int err = store_path(reader, ino, &path);

    if (!err && t->text.len + path.len > TEXT_BYTES_MAX)
        err = QE_NOMEM;
    if (!err)
        err = buf_append(&t->text, path.data + 1, path.len - 1); /* without the slash at its begin */
    if (!err)
        err = buf_append(&t->text, "", 1);
    if (!err)
        err = buf_append(&t->paths, &p, sizeof p);
    buf_fini(&path);
    return err == QE_NOENT ? 0 : err; /* it went between two pages */
}

/* One page, in one transaction. */
static int collect_page(struct collect *c, struct store_reader *reader, uint64_t after, int64_t *rev)
{
    int err = store_read_begin(reader, rev);

    if (err)
        return err;
    c->n = 0;
    err = store_lease_files(reader, c->t->lease, after, collect_ino, c);
    for (size_t i = 0; i < c->n && !err; i++)
        err = add_path(c->t, reader, c->inos[i]);
    store_read_end(reader);
    return err;
}

static int by_path(const void *a, const void *b, void *data)
{
    return strcmp(path_at(data, a), path_at(data, b));
}

static int collect(struct fs *fs, struct store_reader *reader, struct collect *c)
{
    uint64_t after = 0;
    int64_t rev;
    size_t n;
    int err = collect_page(c, reader, 0, &c->t->rev);

    while (!err && c->n == FILES_PAGE) {
        after = c->inos[c->n - 1];
        err = work_stopping(fs) ? QE_SHUTDOWN : collect_page(c, reader, after, &rev);
    }
    if (!err && c->t->paths.len) {
        struct tree_path *p = paths_of(c->t, &n);

        qsort_r(p, n, sizeof *p, by_path, c->t);
    }
    return err;
}

/* ---- Listing: a worker, too ------------------------------------------------------------------------------------------------------ */

/* The first path that is not below `key`, in byte order; paths that begin with "a/" lie together. */
static size_t first_from(const struct lease_tree *t, const char *key)
{
    size_t low = 0, high;
    const struct tree_path *p = paths_of(t, &high);

    while (low < high) {
        size_t mid = (low + high) / 2;

        if (strcmp(path_at(t, p + mid), key) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* The node of a directory on the way; of one that has just gone none. */
static fuse_ino_t dir_node(struct store_reader *reader, const struct lease_tree *t, uint64_t dir, const char *name, size_t len)
{
    struct store_attr a;

    return store_lookup(reader, STORE_HEAD, dir, name, len, &a) ? 1 : leases__key_node(t->lease, a.ino);
}

/* `prefix`: the directory's path with a slash behind it, or "". */
static int list_dir(struct store_reader *reader, const struct lease_tree *t, uint64_t dir, struct buf *prefix, struct listing *l)
{
    const size_t base = prefix->len;
    size_t n, i = first_from(t, buf_cstr(prefix));
    const struct tree_path *p = paths_of(t, &n);
    int err = 0;

    while (!err && i < n && !strncmp(path_at(t, p + i), buf_cstr(prefix), base)) {
        const char *name = path_at(t, p + i) + base, *slash = strchr(name, '/');
        size_t len = slash ? (size_t)(slash - name) : strlen(name);

        err = listing_add(l, name, len, slash ? dir_node(reader, t, dir, name, len) : p[i].ino, slash ? S_IFDIR : S_IFREG);
        i++;
        if (err || !slash)
            continue;
        err = buf_append(prefix, name, len); /* behind all that is below it */
        if (!err)
            err = buf_append(prefix, "0", 1); /* the byte after '/' */
        if (!err)
            i = first_from(t, buf_cstr(prefix));
        prefix->len = base;
    }
    return err;
}

static int make_list(struct store_reader *reader, struct collect *c)
{
    struct buf path = {0}, prefix = {0};
    int err = store_path(reader, c->dir, &path);

    if (err == QE_NOENT)
        err = QE_STALE;
    if (!err && path.len > 1)
        err = buf_printf(&prefix, "%s/", buf_cstr(&path) + 1);
    if (!err)
        err = list_dir(reader, c->t, c->dir, &prefix, c->job.out);
    buf_fini(&path);
    buf_fini(&prefix);
    return err;
}

static int list_run(struct fs *fs, struct store_reader *reader, void *data)
{
    struct collect *c = data;
    int err = c->fresh ? collect(fs, reader, c) : 0;

    c->collected = c->fresh && !err;
    return err ? err : make_list(reader, c);
}

/* ---- Opening a directory: the loop --------------------------------------------------------------------------------------------- */

static void listed(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct collect *c = data;

    if (c->collected) {
        tree_unref(newest);
        newest = c->t;
        newest->refs++;
    }
    tree_unref(c->t);
    listing_settle(fs, req, err, rev, ino, c);
}

void leases__open_tree(fuse_req_t req, uint64_t lease, uint64_t dir, fuse_ino_t node, const struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    struct collect *c = calloc(1, sizeof *c);
    struct store_glance g;

    replica_glance(fs->replica, &g);
    if (c) {
        c->fresh = !newest || newest->lease != lease || newest->rev != g.rev;
        c->t = c->fresh ? calloc(1, sizeof *c->t) : newest;
        c->job.out = listing_new(node, node);
    }
    if (c && c->t)
        c->t->refs++;
    if (!c || !c->t || !c->job.out) {
        if (c) {
            tree_unref(c->t);
            listing_free(c->job.out);
        }
        free(c);
        fuse_reply_err(req, ENOMEM);
        return;
    }
    if (c->fresh)
        c->t->lease = lease;
    c->dir = dir;
    c->job.fi = *fi;
    work_start(fs, list_run, &(struct pending_call){.req = req, .settle = listed, .data = c});
}
