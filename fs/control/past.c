/* history/: for each name that there is, or was in a revision that is retained, a directory. It has the versions that the name had, as files
 * REV and REV.deleted, and the names that it had itself while it was a directory. store.h says what a version is.
 *
 * A node stands for a path, or for a version of one. Paths are looked up by workers, because what a path was bound to may be a long story;
 * a single version is found quickly, by the loop. Nothing is kept by the kernel: compaction takes versions away. A walk to a path waits for a
 * barrier at each name, so what is listed or opened at its end is the newest there is. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/control/listing.h"
#include "fs/control/nodes.h"
#include "fs/control/tree.h"
#include "fs/ops.h"
#include "fs/view.h"
#include "fs/work.h"

enum { PATH_BYTES_MAX = 4096, PAGE_VERSIONS = 1000 };
static const char DELETED[] = ".deleted";

enum past_kind { PAST_NAME = 1, PAST_VERSION, PAST_DELETED };

struct past_key {
    int64_t kind;  /* enum past_kind */
    int64_t rev;   /* VERSION, DELETED */
    char path[PATH_BYTES_MAX]; /* as far as it goes; without a NUL */
};
#define KEY_HEAD offsetof(struct past_key, path)

static struct view_nodes nodes; /* FUSE loop only */

/* ---- Keys ---------------------------------------------------------------------------------------------------------------------- */

static void past_forget(struct fs *fs, fuse_ino_t node, uint64_t nlookup)
{
    (void)fs;
    nodes_forget(&nodes, node, nlookup);
}

/* What a node stands for, with the length of its path. */
static bool key_of(fuse_ino_t node, struct past_key *key, size_t *len)
{
    const struct view_node *n = nodes_find(&nodes, node);

    if (fs_number_of(node) == VIEW_ROOT) {
        key->kind = PAST_NAME;
        key->rev = 0;
        *len = 0;
        return true;
    }
    if (!n)
        return false;
    memcpy(key, n->key, n->key_len);
    *len = n->key_len - KEY_HEAD;
    return true;
}

/* The path of an entry; 0 or QE_NAMETOOLONG. */
static int append_name(struct past_key *key, size_t *len, const char *name)
{
    size_t n = strlen(name), slash = *len ? 1 : 0;

    if (n > STORE_NAME_MAX || *len + slash + n > PATH_BYTES_MAX)
        return QE_NAMETOOLONG;
    if (slash)
        key->path[*len] = '/';
    memcpy(key->path + *len + slash, name, n);
    *len += slash + n;
    return 0;
}

/* REV or REV.deleted, in canonical form. */
static bool parse_version(const char *name, struct past_key *key)
{
    size_t digits = strspn(name, "0123456789");

    if (digits == 0 || digits > 18 || *name == '0')
        return false;
    key->rev = strtoll(name, NULL, 10);
    key->kind = name[digits] ? PAST_DELETED : PAST_VERSION;
    return !name[digits] || !strcmp(name + digits, DELETED);
}

/* ---- Versions ------------------------------------------------------------------------------------------------------------------ */

static int find_version(struct fs *fs, const struct past_key *key, size_t len, struct store_version *out)
{
    return store_version(fs->reader, key->path, len, key->rev, key->kind == PAST_DELETED, out);
}

static void version_stat(const struct store_version *v, fuse_ino_t node, struct stat *st)
{
    struct store_attr a = v->attr;

    if (v->deleted) { /* an empty file that tells when */
        a.mode = S_IFREG | (a.mode & 0777);
        a.size = 0;
    }
    view_stat(&a, node, st);
}

/* Of a node that stands for a version, or QE_STALE: it has been compacted. */
static int version_of(struct fs *fs, fuse_ino_t node, struct store_version *out)
{
    struct past_key key;
    size_t len;
    int err;

    if (!key_of(node, &key, &len))
        return QE_NOENT;
    if (key.kind == PAST_NAME)
        return QE_ISDIR;
    err = find_version(fs, &key, len, out);
    return err == QE_NOENT ? QE_STALE : err;
}

static void past_readlink(fuse_req_t req, fuse_ino_t node)
{
    struct store_version v;
    struct buf target = {0};
    int err = version_of(fs_of(req), node, &v);

    if (!err && (v.deleted || store_ino_kind(v.attr.ino) != STORE_SYMLINK))
        err = QE_INVAL;
    if (!err)
        err = store_content(fs_of(req)->reader, v.at, v.attr.ino, &target, NULL);
    if (err)
        fuse_reply_err(req, fs_errno(err == QE_ISDIR ? QE_INVAL : err));
    else
        fuse_reply_readlink(req, buf_cstr(&target));
    buf_fini(&target);
}

static void past_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct store_version v;
    struct buf content = {0};
    int err;

    if ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC) {
        fuse_reply_err(req, EROFS);
        return;
    }
    err = version_of(fs_of(req), node, &v);
    if (!err && !v.deleted)
        err = store_content(fs_of(req)->reader, v.at, v.attr.ino, &content, NULL);
    if (!err) {
        control__reply_open(req, fi, &content, false);
        return;
    }
    buf_fini(&content);
    fuse_reply_err(req, fs_errno(err));
}

static void past_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
    struct store_version v;
    int err = version_of(fs_of(req), node, &v);

    if (!err)
        xattrs_get_at(req, v.at, v.attr.ino, name, size);
    else
        fuse_reply_err(req, err == QE_ISDIR ? ENODATA : fs_errno(err));
}

static void past_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
    struct store_version v;
    int err = version_of(fs_of(req), node, &v);

    if (!err)
        xattrs_list_at(req, v.at, v.attr.ino, size);
    else if (err != QE_ISDIR)
        fuse_reply_err(req, fs_errno(err));
    else if (size)
        fuse_reply_buf(req, NULL, 0);
    else
        fuse_reply_xattr(req, 0);
}

/* ---- Names --------------------------------------------------------------------------------------------------------------------- */

struct looking { /* a path that is looked up, or whose attributes are asked for */
    struct past_key key;
    size_t len;
    bool getattr;
    struct store_past out; /* the worker's answer */
};

/* A worker's. */
static int look_run(struct fs *fs, struct store_reader *reader, void *data)
{
    struct looking *l = data;

    (void)fs;
    return store_past(reader, l->key.path, l->len, &l->out);
}

static void look_reply(struct fs *fs, fuse_req_t req, const struct looking *l)
{
    fuse_ino_t root = fs_node(FS_VIEW_HISTORY, VIEW_ROOT);
    struct fuse_entry_param e;

    control__entry_of(fs, root, S_IFDIR | (l->out.mode & 0555), &e);
    e.entry_timeout = e.attr_timeout = 0;
    e.attr.st_uid = l->out.uid;
    e.attr.st_gid = l->out.gid;
    view_time(l->out.mtime_ns, &e.attr.st_mtim);
    e.attr.st_atim = e.attr.st_ctim = e.attr.st_mtim;
    if (l->len)
        e.attr.st_ino = fs_node(FS_VIEW_HISTORY, nodes_number(&l->key, KEY_HEAD + l->len));
    if (l->getattr)
        fuse_reply_attr(req, &e.attr, 0);
    else if (!l->len)
        fuse_reply_entry(req, &e);
    else
        nodes_reply_entry(req, &nodes, FS_VIEW_HISTORY, &l->key, KEY_HEAD + l->len, &e);
}

static void look_settle(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct looking *l = data;

    (void)rev, (void)ino;
    if (req && err)
        fuse_reply_err(req, fs_errno(err));
    else if (req)
        look_reply(fs, req, l);
    free(l);
}

static void look_at(fuse_req_t req, const struct past_key *key, size_t len, bool getattr)
{
    struct looking *l = malloc(sizeof *l);

    if (!l) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    memcpy(&l->key, key, KEY_HEAD + len);
    l->key.kind = PAST_NAME;
    l->key.rev = 0;
    l->len = len;
    l->getattr = getattr;
    work_start(fs_of(req), look_run, &(struct pending_call){.req = req, .settle = look_settle, .data = l});
}

/* Replies when the name is a version's that this member has; false: it is none, and there is no reply yet. */
static bool reply_version(fuse_req_t req, const struct past_key *parent, size_t len, const char *name)
{
    struct fuse_entry_param e = {0};
    struct past_key key;
    struct store_version v;
    int err;

    if (!parse_version(name, &key))
        return false;
    memcpy(key.path, parent->path, len);
    err = find_version(fs_of(req), &key, len, &v);
    if (err == QE_NOENT)
        return false;
    if (err) {
        fuse_reply_err(req, fs_errno(err));
        return true;
    }
    version_stat(&v, 0, &e.attr);
    nodes_reply_entry(req, &nodes, FS_VIEW_HISTORY, &key, KEY_HEAD + len, &e);
    return true;
}

struct asking { /* a name that waits for a barrier: it may be new */
    fuse_ino_t parent;
    char name[STORE_NAME_MAX + 1];
};

static void past_lookup_now(fuse_req_t req, fuse_ino_t parent, const char *name);

static void past_asked(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct asking *a = data;

    (void)fs, (void)rev, (void)ino;
    if (req && err)
        fuse_reply_err(req, fs_errno(err));
    else if (req)
        past_lookup_now(req, a->parent, a->name);
    free(a);
}

/* A version, when the name is one's; else the name of an entry. */
static void past_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs *fs = fs_of(req);
    struct past_key key;
    struct asking *a;
    size_t len;

    if (!name || strlen(name) > STORE_NAME_MAX || !replica_barrier_needed(fs->replica) || fs->opt->reads_local) {
        past_lookup_now(req, parent, name);
        return;
    }
    if (key_of(parent, &key, &len) && key.kind == PAST_NAME && reply_version(req, &key, len, name))
        return;
    a = malloc(sizeof *a);
    if (!a) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    a->parent = parent;
    memcpy(a->name, name, strlen(name) + 1);
    pending_barrier(fs, &(struct pending_call){.req = req, .settle = past_asked, .data = a});
}

static void past_lookup_now(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct past_key key;
    size_t len;
    int err;

    if (!key_of(parent, &key, &len) || key.kind != PAST_NAME) {
        fuse_reply_err(req, ENOENT);
        return;
    }
    if (name && reply_version(req, &key, len, name))
        return;
    err = name ? append_name(&key, &len, name) : 0;
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        look_at(req, &key, len, false);
}

static void past_getattr(fuse_req_t req, fuse_ino_t node)
{
    struct store_version v;
    struct past_key key;
    struct stat st;
    size_t len;
    int err;

    if (!key_of(node, &key, &len)) {
        fuse_reply_err(req, ENOENT);
        return;
    }
    if (key.kind == PAST_NAME) {
        look_at(req, &key, len, true);
        return;
    }
    err = version_of(fs_of(req), node, &v);
    if (err && err != QE_STALE) {
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    if (err) /* an open file whose version has been compacted: gone, but what was read of it can be read */
        st = (struct stat){.st_ino = node, .st_mode = S_IFREG, .st_blksize = 4096};
    else
        version_stat(&v, node, &st);
    fuse_reply_attr(req, &st, 0);
}

/* ---- Listing ------------------------------------------------------------------------------------------------------------------- */

struct opening { /* a directory that is being opened */
    struct listing_job job;
    struct past_key key; /* of the directory; for a moment, of one of its entries */
    size_t len;
    /* The worker's. */
    size_t n;            /* entries of the page */
    int64_t before;      /* the last version told */
    char last[STORE_NAME_MAX]; /* the last name told */
    size_t last_len;
    int err;
};

static bool open_version(void *data, int64_t rev, bool deleted, enum store_kind kind)
{
    struct opening *o = data;
    char name[40];
    int n = snprintf(name, sizeof name, "%" PRId64 "%s", rev, deleted ? DELETED : "");

    o->key.kind = deleted ? PAST_DELETED : PAST_VERSION;
    o->key.rev = rev;
    o->err = listing_add(o->job.out, name, (size_t)n, fs_node(FS_VIEW_HISTORY, nodes_number(&o->key, KEY_HEAD + o->len)),
                         kind == STORE_SYMLINK ? S_IFLNK : S_IFREG);
    o->before = rev;
    return !o->err && ++o->n < PAGE_VERSIONS;
}

static bool open_name(void *data, const void *name, size_t len)
{
    struct opening *o = data;
    struct past_key key;
    size_t path = o->len;
    char text[STORE_NAME_MAX + 1];

    memcpy(o->last, name, len);
    o->last_len = len;
    o->n++;
    memcpy(text, name, len);
    text[len] = 0;
    memcpy(&key, &o->key, KEY_HEAD + path);
    key.kind = PAST_NAME;
    key.rev = 0;
    if (append_name(&key, &path, text))
        return true; /* a path that is too long cannot be reached either */
    o->err = listing_add(o->job.out, name, len, fs_node(FS_VIEW_HISTORY, nodes_number(&key, KEY_HEAD + path)), S_IFDIR);
    return !o->err;
}

/* A name that reads like a version of the directory itself gives way to it. */
static bool is_version(struct store_reader *reader, struct opening *o, const void *name, size_t len)
{
    struct past_key key;
    struct store_version v;
    char text[STORE_NAME_MAX + 1];

    memcpy(text, name, len);
    text[len] = 0;
    return parse_version(text, &key) && !store_version(reader, o->key.path, o->len, key.rev, key.kind == PAST_DELETED, &v);
}

struct naming {
    struct store_reader *reader;
    struct opening *o;
};

static bool open_name_unless_version(void *data, const void *name, size_t len)
{
    struct naming *n = data;

    if (is_version(n->reader, n->o, name, len)) {
        memcpy(n->o->last, name, len);
        n->o->last_len = len;
        n->o->n++;
        return true;
    }
    return open_name(n->o, name, len);
}

/* A worker's: pages, each in a transaction of its own. */
static int open_run(struct fs *fs, struct store_reader *reader, void *data)
{
    struct opening *o = data;
    struct naming naming = {reader, o};
    int err;

    do {
        o->n = 0;
        err = work_stopping(fs) ? QE_SHUTDOWN : store_versions(reader, o->key.path, o->len, o->before, open_version, o);
    } while (!err && !o->err && o->n == PAGE_VERSIONS);
    do {
        o->n = 0;
        if (!err)
            err = work_stopping(fs) ? QE_SHUTDOWN : store_list_past(reader, o->key.path, o->len, o->last, o->last_len, open_name_unless_version, &naming);
    } while (!err && !o->err && o->n > 0);
    return err ? err : o->err;
}

static void past_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct opening *o = calloc(1, sizeof *o);

    if (o && (!key_of(node, &o->key, &o->len) || o->key.kind != PAST_NAME)) {
        free(o);
        fuse_reply_err(req, ENOTDIR);
        return;
    }
    listing_start(req, node, node, fi, open_run, o ? &o->job : NULL);
}

const struct control_view control__history_view = {
    .refusal = EROFS,
    .lookup = past_lookup,
    .forget = past_forget,
    .getattr = past_getattr,
    .readlink = past_readlink,
    .open = past_open,
    .opendir = past_opendir,
    .readdir = listing_readdir,
    .releasedir = listing_releasedir,
    .getxattr = past_getxattr,
    .listxattr = past_listxattr,
};
