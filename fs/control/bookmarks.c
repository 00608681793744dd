/* bookmarks/: how far slow consumers of the history have come. mkdir NAME makes a bookmark at the current revision, NAME/revision moves it,
 * rmdir ends it. Who made one owns it; the store decides. */
#include <ctype.h>
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
#include "fs/pending.h"

static const char FILE_NAME[] = "revision";

struct bookmark_key {
    char kind; /* 'd': the directory, 'f': its file */
    char name[STORE_BOOKMARK_NAME_MAX + 1];
};

static struct view_nodes nodes; /* FUSE loop only */

static void bookmarks_forget(struct fs *fs, fuse_ino_t node, uint64_t nlookup)
{
    (void)fs;
    nodes_forget(&nodes, node, nlookup);
}

static bool is_root(fuse_ino_t node)
{
    return fs_number_of(node) == VIEW_ROOT;
}

static struct bookmark_key key_for(char kind, const char *name)
{
    struct bookmark_key key = {.kind = kind};

    snprintf(key.name, sizeof key.name, "%s", name);
    return key;
}

static bool key_of(fuse_ino_t node, struct bookmark_key *out)
{
    const struct view_node *n = nodes_find(&nodes, node);

    if (n)
        memcpy(out, n->key, sizeof *out);
    return n != NULL;
}

static fuse_ino_t number_of(struct bookmark_key key)
{
    return fs_node(FS_VIEW_BOOKMARKS, nodes_number(&key, sizeof key));
}

/* ---- Attributes and names ------------------------------------------------------------------------------------------------------ */

static int fill(struct fs *fs, const struct bookmark_key *key, struct fuse_entry_param *e)
{
    struct store_bookmark b;
    int err = store_bookmark(fs->reader, key->name, &b);

    if (err)
        return err;
    control__entry_of(fs, number_of(*key), key->kind == 'd' ? S_IFDIR | 0755 : S_IFREG | 0644, e);
    e->entry_timeout = e->attr_timeout = 0;
    e->attr.st_uid = b.owner;
    e->attr.st_gid = 0;
    if (key->kind == 'f') {
        e->attr.st_size = snprintf(NULL, 0, "%" PRId64 "\n", b.rev);
        e->attr.st_blocks = 1;
    }
    return 0;
}

static void reply_entry(fuse_req_t req, struct bookmark_key key)
{
    struct fuse_entry_param e;
    int err = fill(fs_of(req), &key, &e);

    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        nodes_reply_entry(req, &nodes, FS_VIEW_BOOKMARKS, &key, sizeof key, &e);
}

static void bookmarks_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e;
    struct bookmark_key key;

    if (!name) {
        control__entry_of(fs_of(req), parent, S_IFDIR | S_ISVTX | 0777, &e);
        fuse_reply_entry(req, &e);
    } else if (is_root(parent) && store_bookmark_name_ok(name, strlen(name))) {
        reply_entry(req, key_for('d', name));
    } else if (!is_root(parent) && key_of(parent, &key) && key.kind == 'd' && !strcmp(name, FILE_NAME)) {
        reply_entry(req, key_for('f', key.name));
    } else {
        fuse_reply_err(req, ENOENT);
    }
}

static void bookmarks_getattr(fuse_req_t req, fuse_ino_t node)
{
    struct fuse_entry_param e;
    struct bookmark_key key;
    int err = 0;

    if (is_root(node))
        control__entry_of(fs_of(req), node, S_IFDIR | S_ISVTX | 0777, &e);
    else
        err = key_of(node, &key) ? fill(fs_of(req), &key, &e) : QE_NOENT;
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_attr(req, &e.attr, e.attr_timeout);
}

/* O_TRUNC of a shell's `>` means nothing. */
static void bookmarks_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int valid, struct fuse_file_info *fi)
{
    struct bookmark_key key;

    (void)attr, (void)fi;
    if (valid & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID) || !(valid & FUSE_SET_ATTR_SIZE))
        fuse_reply_err(req, EPERM);
    else if (!key_of(node, &key) || key.kind != 'f')
        fuse_reply_err(req, EACCES);
    else
        bookmarks_getattr(req, node);
}

/* ---- Making and ending --------------------------------------------------------------------------------------------------------- */

static void made(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct bookmark_key *key = data;

    (void)fs, (void)rev, (void)ino;
    if (req && err)
        fuse_reply_err(req, fs_errno(err));
    else if (req)
        reply_entry(req, *key);
    free(key);
}

static void bookmarks_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct fs *fs = fs_of(req);
    struct store_op op = {.kind = STORE_OP_BOOKMARK, .flags = STORE_BOOKMARK_MAKE, .name = {name, strlen(name)}};
    struct store_command cmd = {.ops = &op, .n_ops = 1};
    struct bookmark_key *key = NULL;
    int err = !is_root(parent) ? QE_PERM : store_bookmark_name_ok(name, strlen(name)) ? replica_writable(fs->replica) : QE_INVAL;

    (void)mode;
    if (!err) {
        key = malloc(sizeof *key);
        err = key ? 0 : QE_NOMEM;
    }
    if (err) {
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    *key = key_for('d', name);
    pending_submit(fs, &cmd, &(struct pending_call){.req = req, .settle = made, .data = key});
}

static void bookmarks_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct store_op op = {.kind = STORE_OP_BOOKMARK, .flags = STORE_BOOKMARK_REMOVE, .name = {name, strlen(name)}};

    if (is_root(parent))
        pending_submit_op(req, &op);
    else
        fuse_reply_err(req, EPERM);
}

/* ---- Directories --------------------------------------------------------------------------------------------------------------- */

struct adding {
    struct listing *l;
    int err;
};

static bool add_bookmark(void *data, const struct store_bookmark *b)
{
    struct adding *a = data;

    a->err = listing_add(a->l, b->name, strlen(b->name), number_of(key_for('d', b->name)), S_IFDIR);
    return !a->err;
}

static void bookmarks_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct adding a = {.l = listing_new(node, fs_node(FS_VIEW_BOOKMARKS, VIEW_ROOT))};
    struct bookmark_key key;
    int err = a.l ? 0 : QE_NOMEM;

    if (!err && is_root(node))
        err = store_bookmarks(fs_of(req)->reader, add_bookmark, &a);
    else if (!err && key_of(node, &key) && key.kind == 'd')
        a.err = listing_add(a.l, FILE_NAME, strlen(FILE_NAME), number_of(key_for('f', key.name)), S_IFREG);
    else if (!err)
        err = QE_NOTDIR;
    if (!err && !a.err) {
        listing_reply_open(req, fi, a.l, false);
        return;
    }
    listing_free(a.l);
    fuse_reply_err(req, fs_errno(err ? err : a.err));
}

/* ---- The file ------------------------------------------------------------------------------------------------------------------ */

static void bookmarks_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    int access_mode = fi->flags & O_ACCMODE;
    struct buf content = {0};
    struct bookmark_key key;
    struct store_bookmark b;
    int err = key_of(node, &key) && key.kind == 'f' ? store_bookmark(fs_of(req)->reader, key.name, &b) : QE_ISDIR;

    if (!err && access_mode != O_WRONLY)
        err = buf_printf(&content, "%" PRId64 "\n", b.rev);
    if (!err) {
        control__reply_open(req, fi, &content, access_mode != O_RDONLY);
        return;
    }
    buf_fini(&content);
    fuse_reply_err(req, fs_errno(err));
}

/* A revision; the last line counts. */
int control__bookmark_line(struct fs *fs, void *data, const char *line, struct control_command *cmd, struct buf *why)
{
    const char *name = data;
    char *end;
    long long rev;

    (void)fs;
    errno = 0;
    rev = strtoll(line, &end, 10);
    if (!isdigit((unsigned char)*line) || *end || errno) {
        buf_printf(why, "bad revision \"%.40s\": allowed is a number", line);
        return QE_INVAL;
    }
    cmd->op = (struct store_op){.kind = STORE_OP_BOOKMARK, .flags = STORE_BOOKMARK_SET, .name = {name, strlen(name)}, .rev = rev};
    return 0;
}

static void bookmarks_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
    const struct control_file *f = (const struct control_file *)(uintptr_t)fi->fh;
    char file[STORE_BOOKMARK_NAME_MAX + 24];
    struct bookmark_key key;
    struct control_lines to = {.file = file, .data = key.name, .line = control__bookmark_line};

    (void)off; /* offsets mean nothing */
    if (!f->writable || !key_of(node, &key)) {
        fuse_reply_err(req, EBADF);
        return;
    }
    snprintf(file, sizeof file, "bookmarks/%s/revision", key.name);
    control__write_lines(req, &to, data, size);
}

const struct control_view control__bookmarks_view = {
    .refusal = EPERM,
    .lookup = bookmarks_lookup,
    .forget = bookmarks_forget,
    .getattr = bookmarks_getattr,
    .setattr = bookmarks_setattr,
    .open = bookmarks_open,
    .write = bookmarks_write,
    .opendir = bookmarks_opendir,
    .readdir = listing_readdir,
    .releasedir = listing_releasedir,
    .mkdir = bookmarks_mkdir,
    .rmdir = bookmarks_rmdir,
};
