/* at/: the whole tree as of any revision that is retained, read-only.
 *
 * at/REV is a directory; at/head-N and at/TIME are symlinks to it. A node stands for an inode at a revision, or for such a symlink; the
 * table of nodes gives each a number of its own, so that cp and diff never take two revisions of a file for one.
 *
 * A revision never changes, so the kernel may keep everything it has been told, for ever. Only opening asks again, for the revision may
 * have been compacted: ESTALE. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/control/at_name.h"
#include "fs/control/listing.h"
#include "fs/control/nodes.h"
#include "fs/control/tree.h"
#include "fs/ops.h"
#include "fs/view.h"
#include "fs/work.h"
#include "store/base/clock.h"

static const double FOR_EVER_S = 1e8;
enum { PAGE_NAMES = 1000 }; /* read in one transaction */

struct at_key {
    int64_t value;  /* AT_REVISION: the revision; else as at_name_parse has it */
    uint64_t ino;   /* AT_REVISION: the inode; else the enum at_kind, which is no inode's number: those are 1 and from 4 on */
};

/* ---- Nodes --------------------------------------------------------------------------------------------------------------------- */

static struct view_nodes nodes; /* keys are struct at_key; FUSE loop only */

static void at_forget(struct fs *fs, fuse_ino_t node, uint64_t nlookup)
{
    (void)fs;
    nodes_forget(&nodes, node, nlookup);
}

/* What a node stands for; false: nothing that is known. */
static bool key_of(fuse_ino_t node, struct at_key *out)
{
    const struct view_node *n = nodes_find(&nodes, node);

    if (n)
        memcpy(out, n->key, sizeof *out);
    return n != NULL;
}

static bool is_inode(struct at_key key)
{
    return key.ino != AT_HEAD && key.ino != AT_TIME;
}

/* ... if it is an inode at a revision. */
static bool inode_of(fuse_ino_t node, struct at_key *out)
{
    return key_of(node, out) && is_inode(*out);
}

/* ---- Names --------------------------------------------------------------------------------------------------------------------- */

static void reply_node(fuse_req_t req, struct at_key key, const struct store_attr *attr, const struct stat *st)
{
    struct fuse_entry_param e = {.entry_timeout = attr ? FOR_EVER_S : 0, .attr_timeout = attr ? FOR_EVER_S : 0};

    if (attr)
        view_stat(attr, 0, &e.attr);
    else
        e.attr = *st;
    nodes_reply_entry(req, &nodes, FS_VIEW_AT, &key, sizeof key, &e);
}

/* The revision that head-N or a time stands for now. */
static int link_target(struct fs *fs, enum at_kind kind, int64_t value, int64_t *rev)
{
    struct store_glance g;
    int err = 0;

    if (kind == AT_TIME && value > clock_realtime_ns())
        return QE_RANGE;
    if (kind == AT_TIME)
        err = store_rev_at(fs->reader, value, rev);
    replica_glance(fs->replica, &g);
    if (kind == AT_HEAD)
        *rev = g.rev - value;
    return err ? err : *rev < 1 ? QE_NOENT : *rev < g.compacted ? QE_STALE : 0;
}

/* ---- What is newest: behind a barrier ------------------------------------------------------------------------------------------ */

struct at_question { /* of a name in at/; answered when this member has all that is committed */
    void (*answer)(fuse_req_t req, enum at_kind kind, int64_t value);
    enum at_kind kind;
    int64_t value;
};

static void at_answer(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct at_question *q = data;

    (void)fs, (void)rev, (void)ino;
    if (req && err)
        fuse_reply_err(req, fs_errno(err));
    else if (req)
        q->answer(req, q->kind, q->value);
    free(q);
}

static void at_ask(fuse_req_t req, void (*answer)(fuse_req_t req, enum at_kind kind, int64_t value), enum at_kind kind, int64_t value)
{
    struct fs *fs = fs_of(req);
    struct at_question *q;

    if (!replica_barrier_needed(fs->replica) || fs->opt->reads_local) {
        answer(req, kind, value);
        return;
    }
    q = malloc(sizeof *q);
    if (!q) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    *q = (struct at_question){answer, kind, value};
    pending_barrier(fs, &(struct pending_call){.req = req, .settle = at_answer, .data = q});
}

static void lookup_link(fuse_req_t req, enum at_kind kind, int64_t value)
{
    struct fs *fs = fs_of(req);
    struct fuse_entry_param e;
    int64_t rev;
    int err = link_target(fs, kind, value, &rev);

    if (err) {
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    control__entry_of(fs, 0, S_IFLNK | 0777, &e);
    e.attr.st_size = snprintf(NULL, 0, "%" PRId64, rev);
    reply_node(req, (struct at_key){value, kind}, NULL, &e.attr);
}

static void lookup_root(fuse_req_t req, enum at_kind kind, int64_t rev)
{
    struct store_attr a;
    int err = rev < 1 ? QE_NOENT : store_getattr(fs_of(req)->reader, rev, STORE_ROOT_INO, &a);

    (void)kind;
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        reply_node(req, (struct at_key){rev, STORE_ROOT_INO}, &a, NULL);
}

static void at_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e;
    struct at_key dir;
    struct store_attr a;
    struct store_glance g;
    int64_t value = 0;
    enum at_kind kind;
    int err;

    if (!name) {
        control__entry_of(fs_of(req), parent, S_IFDIR | 0555, &e);
        fuse_reply_entry(req, &e);
    } else if (inode_of(parent, &dir)) {
        err = strlen(name) > STORE_NAME_MAX ? QE_NAMETOOLONG : store_lookup(fs_of(req)->reader, dir.value, dir.ino, name, strlen(name), &a);
        if (err == QE_NOENT) { /* for ever: the kernel keeps that, too */
            e = (struct fuse_entry_param){.entry_timeout = FOR_EVER_S};
            fuse_reply_entry(req, &e);
        } else if (err) {
            fuse_reply_err(req, fs_errno(err));
        } else {
            reply_node(req, (struct at_key){dir.value, a.ino}, &a, NULL);
        }
    } else if (fs_number_of(parent) != VIEW_ROOT) {
        fuse_reply_err(req, ENOENT);
    } else if ((kind = at_name_parse(name, &value)) == AT_NOTHING) {
        fuse_reply_err(req, ENOENT);
    } else if (kind == AT_REVISION) {
        replica_glance(fs_of(req)->replica, &g);
        if (value <= g.rev) /* an old revision is what it is */
            lookup_root(req, kind, value);
        else
            at_ask(req, lookup_root, kind, value);
    } else {
        at_ask(req, lookup_link, kind, value);
    }
}

/* ---- Attributes ---------------------------------------------------------------------------------------------------------------- */

static void at_getattr(fuse_req_t req, fuse_ino_t node)
{
    struct fs *fs = fs_of(req);
    struct fuse_entry_param e;
    struct store_attr a;
    struct at_key key;
    struct stat st;
    int64_t rev;
    int err;

    if (fs_number_of(node) == VIEW_ROOT) {
        control__entry_of(fs, node, S_IFDIR | 0555, &e);
        fuse_reply_attr(req, &e.attr, e.attr_timeout);
        return;
    }
    if (!key_of(node, &key)) {
        fuse_reply_err(req, ENOENT);
        return;
    }
    if (is_inode(key)) {
        err = store_getattr(fs->reader, key.value, key.ino, &a);
        if (!err)
            view_stat(&a, node, &st);
    } else {
        err = link_target(fs, (enum at_kind)key.ino, key.value, &rev);
        control__entry_of(fs, node, S_IFLNK | 0777, &e);
        e.attr.st_size = err ? 0 : snprintf(NULL, 0, "%" PRId64, rev);
        st = e.attr;
    }
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_attr(req, &st, is_inode(key) ? FOR_EVER_S : 0);
}

static void readlink_link(fuse_req_t req, enum at_kind kind, int64_t value)
{
    char target[24];
    int64_t rev;
    int err = link_target(fs_of(req), kind, value, &rev);

    if (err) {
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    snprintf(target, sizeof target, "%" PRId64, rev);
    fuse_reply_readlink(req, target);
}

static void at_readlink(fuse_req_t req, fuse_ino_t node)
{
    struct buf target = {0};
    struct at_key key = {0};
    int err = key_of(node, &key) ? 0 : QE_INVAL;

    if (!err && !is_inode(key)) {
        at_ask(req, readlink_link, (enum at_kind)key.ino, key.value);
        return;
    }
    if (!err)
        err = store_content(fs_of(req)->reader, key.value, key.ino, &target, NULL);
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_readlink(req, buf_cstr(&target));
    buf_fini(&target);
}

static void at_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
    struct at_key key;

    if (inode_of(node, &key))
        xattrs_get_at(req, key.value, key.ino, name, size);
    else
        fuse_reply_err(req, ENODATA);
}

static void at_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
    struct at_key key;

    if (inode_of(node, &key))
        xattrs_list_at(req, key.value, key.ino, size);
    else if (size)
        fuse_reply_buf(req, NULL, 0);
    else
        fuse_reply_xattr(req, 0);
}

/* ---- Files --------------------------------------------------------------------------------------------------------------------- */

/* The kernel keeps the pages: they never change. */
static void at_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct buf content = {0};
    struct at_key key;
    int err;

    if ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC) {
        fuse_reply_err(req, EROFS);
        return;
    }
    err = inode_of(node, &key) ? store_content(fs_of(req)->reader, key.value, key.ino, &content, NULL) : QE_NOENT;
    if (err) {
        buf_fini(&content);
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    fi->keep_cache = 1;
    control__reply_open(req, fi, &content, false);
}

/* ---- Directories --------------------------------------------------------------------------------------------------------------- */

struct at_list { /* a directory that is being opened */
    struct listing_job job;
    struct at_key key;
    /* The worker's. */
    size_t n;            /* names in the page */
    char last[STORE_NAME_MAX];
    size_t last_len;
    int err;
};

static const mode_t types[] = {[STORE_FILE] = S_IFREG, [STORE_DIR] = S_IFDIR, [STORE_SYMLINK] = S_IFLNK, [3] = 0};

static bool at_list_name(void *data, const void *name, size_t len, uint64_t ino)
{
    struct at_list *l = data;

    l->err = listing_add(l->job.out, name, len, fs_node(FS_VIEW_AT, nodes_number(&(struct at_key){l->key.value, ino}, sizeof(struct at_key))), types[ino & 3]);
    memcpy(l->last, name, len);
    l->last_len = len;
    return !l->err && ++l->n < PAGE_NAMES;
}

/* A worker's. */
static int at_list_run(struct fs *fs, struct store_reader *reader, void *data)
{
    struct at_list *l = data;
    int err;

    do {
        l->n = 0;
        err = work_stopping(fs) ? QE_SHUTDOWN : store_list(reader, l->key.value, l->key.ino, l->last, l->last_len, at_list_name, l);
    } while (!err && !l->err && l->n == PAGE_NAMES);
    return err ? err : l->err;
}

static void at_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct at_list *l;
    struct at_key key;
    bool known = inode_of(node, &key);

    if (fs_number_of(node) == VIEW_ROOT) {
        listing_open_empty(req, node, fi);
        return;
    }
    if (!known) {
        fuse_reply_err(req, ENOENT);
        return;
    }
    l = calloc(1, sizeof *l);
    if (l) {
        l->job.keep = true;
        l->key = key;
    }
    listing_start(req, node, node, fi, at_list_run, l ? &l->job : NULL);
}

const struct control_view control__at_view = {
    .refusal = EROFS,
    .lookup = at_lookup,
    .forget = at_forget,
    .getattr = at_getattr,
    .readlink = at_readlink,
    .open = at_open,
    .opendir = at_opendir,
    .readdir = listing_readdir,
    .releasedir = listing_releasedir,
    .getxattr = at_getxattr,
    .listxattr = at_listxattr,
};
