/* members/: a directory for each member of the cluster, with what is known of it here; rmdir removes it from the cluster, also when it is
 * dead. And the file `leader`.
 *
 * The number of a node within the view is id << 4 | file, where file 0 is the directory itself; nothing has to be remembered. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/control/listing.h"
#include "fs/control/tree.h"
#include "fs/pending.h"

enum { FILE_BITS = 4, FILE_DIR = 0, FILE_ADDRESS, FILE_ROLE, FILE_STATE, FILE_APPLIED, FILE_LAG, N_FILES };
static const struct { const char *name; mode_t mode; } files[N_FILES] = {
    [FILE_DIR] = {"", S_IFDIR | 0555}, [FILE_ADDRESS] = {"address", S_IFREG | 0444}, [FILE_ROLE] = {"role", S_IFREG | 0644},
    [FILE_STATE] = {"state", S_IFREG | 0444}, [FILE_APPLIED] = {"applied", S_IFREG | 0444}, [FILE_LAG] = {"lag", S_IFREG | 0444},
};

static fuse_ino_t member_node(uint32_t id, int file)
{
    return fs_node(FS_VIEW_MEMBERS, (uint64_t)id << FILE_BITS | (unsigned)file);
}

static uint32_t id_of(fuse_ino_t node)
{
    return (uint32_t)(fs_number_of(node) >> FILE_BITS);
}

static int file_of(fuse_ino_t node)
{
    return (int)(fs_number_of(node) & ((1 << FILE_BITS) - 1));
}

static bool is_root(fuse_ino_t node)
{
    return fs_number_of(node) == VIEW_ROOT;
}

/* "1", "2", …: no other spelling. 0: it is none. */
static uint32_t parse_id(const char *name)
{
    char *end;
    unsigned long id;

    errno = 0;
    id = strtoul(name, &end, 10);
    return isdigit((unsigned char)*name) && *name != '0' && !*end && !errno && id <= STORE_MEMBER_ID_MAX ? (uint32_t)id : 0;
}

static int member_find(struct fs *fs, uint32_t id, struct replica_member *out)
{
    struct replica_member *all;
    size_t n;
    int err = replica_members(fs->replica, &all, &n);

    if (err)
        return err;
    err = QE_NOENT;
    for (size_t i = 0; i < n && err; i++)
        if (all[i].id == id) {
            *out = all[i];
            err = 0;
        }
    free(all);
    return err;
}

static int member_read(struct fs *fs, fuse_ino_t node, struct buf *out)
{
    struct replica_member m;
    int err = member_find(fs, id_of(node), &m);

    if (err)
        return err;
    switch (file_of(node)) {
    case FILE_ADDRESS: return buf_printf(out, "%s\n", m.address);
    case FILE_ROLE: return buf_printf(out, "%s\n", m.role);
    case FILE_STATE: return buf_printf(out, "%s\n", m.state);
    case FILE_APPLIED: return buf_printf(out, "%" PRIu64 "\n", m.applied);
    case FILE_LAG: return buf_printf(out, "%" PRIu64 "\n", m.lag);
    default: return QE_ISDIR;
    }
}

/* ---- Attributes and names ------------------------------------------------------------------------------------------------------ */

static int member_stat(struct fs *fs, fuse_ino_t node, struct fuse_entry_param *e)
{
    struct buf content = {0};
    struct replica_member m;
    int err = 0;

    if (is_root(node)) {
        control__entry_of(fs, node, S_IFDIR | 0755, e);
        return 0;
    }
    if (file_of(node) >= N_FILES)
        return QE_NOENT;
    err = file_of(node) == FILE_DIR ? member_find(fs, id_of(node), &m) : member_read(fs, node, &content);
    if (!err) {
        control__entry_of(fs, node, files[file_of(node)].mode, e);
        e->entry_timeout = e->attr_timeout = 0; /* members come and go */
        e->attr.st_size = (off_t)content.len;
        e->attr.st_blocks = (blkcnt_t)(content.len + 511) / 512;
    }
    buf_fini(&content);
    return err;
}

static void reply_entry(fuse_req_t req, fuse_ino_t node)
{
    struct fuse_entry_param e;
    int err = member_stat(fs_of(req), node, &e);

    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_entry(req, &e);
}

static void members_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    uint32_t id = name && is_root(parent) ? parse_id(name) : 0;

    if (!name) {
        reply_entry(req, parent);
        return;
    }
    if (id) {
        reply_entry(req, member_node(id, FILE_DIR));
        return;
    }
    for (int i = FILE_DIR + 1; i < N_FILES && !is_root(parent) && file_of(parent) == FILE_DIR; i++)
        if (!strcmp(files[i].name, name)) {
            reply_entry(req, member_node(id_of(parent), i));
            return;
        }
    fuse_reply_err(req, ENOENT);
}

static void members_getattr(fuse_req_t req, fuse_ino_t node)
{
    struct fuse_entry_param e;
    int err = member_stat(fs_of(req), node, &e);

    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_attr(req, &e.attr, e.attr_timeout);
}

/* O_TRUNC of a shell's `>` means nothing. Replies: EPERM for anything else, EACCES on a read-only file. */
static void members_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int valid, struct fuse_file_info *fi)
{
    (void)attr, (void)fi;
    if (valid & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID) || !(valid & FUSE_SET_ATTR_SIZE))
        fuse_reply_err(req, EPERM);
    else if (is_root(node) || file_of(node) != FILE_ROLE)
        fuse_reply_err(req, EACCES);
    else
        members_getattr(req, node);
}

/* ---- Directories --------------------------------------------------------------------------------------------------------------- */

static int list_members(struct fs *fs, struct listing *l)
{
    struct replica_member *all;
    char name[16];
    size_t n;
    int err = replica_members(fs->replica, &all, &n);

    if (err)
        return err;
    for (size_t i = 0; i < n && !err; i++) {
        snprintf(name, sizeof name, "%" PRIu32, all[i].id);
        err = listing_add(l, name, strlen(name), member_node(all[i].id, FILE_DIR), S_IFDIR);
    }
    free(all);
    return err;
}

static int list_files(struct fs *fs, uint32_t id, struct listing *l)
{
    struct replica_member m;
    int err = member_find(fs, id, &m);

    for (int i = FILE_DIR + 1; i < N_FILES && !err; i++)
        err = listing_add(l, files[i].name, strlen(files[i].name), member_node(id, i), S_IFREG);
    return err;
}

static void members_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    struct listing *l = listing_new(node, fs_node(FS_VIEW_MEMBERS, VIEW_ROOT));
    int err = !l ? QE_NOMEM : is_root(node) ? list_members(fs, l) : file_of(node) == FILE_DIR ? list_files(fs, id_of(node), l) : QE_NOTDIR;

    if (!err) {
        listing_reply_open(req, fi, l, false);
        return;
    }
    listing_free(l);
    fuse_reply_err(req, fs_errno(err));
}

/* ---- Files --------------------------------------------------------------------------------------------------------------------- */

static void members_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    int access_mode = fi->flags & O_ACCMODE, err = 0;
    struct buf content = {0};

    if ((access_mode != O_RDONLY || fi->flags & O_TRUNC) && file_of(node) != FILE_ROLE) {
        fuse_reply_err(req, EACCES);
        return;
    }
    if (access_mode != O_WRONLY)
        err = member_read(fs_of(req), node, &content);
    if (!err) {
        control__reply_open(req, fi, &content, access_mode != O_RDONLY);
        return;
    }
    buf_fini(&content);
    fuse_reply_err(req, fs_errno(err));
}

/* "voter" or "standby" */
static int role_line(struct fs *fs, void *data, const char *line, struct control_command *cmd, struct buf *why)
{
    const fuse_ino_t *node = data;

    (void)fs;
    if (strcmp(line, "voter") && strcmp(line, "standby")) {
        buf_printf(why, "bad role \"%.40s\": allowed are voter and standby", line);
        return QE_INVAL;
    }
    cmd->change = REPLICA_CHANGE_ROLE;
    cmd->member = id_of(*node);
    cmd->role = *line == 'v' ? STORE_MEMBER_VOTER : STORE_MEMBER_STANDBY;
    return 0;
}

static void members_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
    const struct control_file *f = (const struct control_file *)(uintptr_t)fi->fh;
    char file[40];
    struct control_lines to = {.file = file, .data = &node, .line = role_line};

    (void)off; /* offsets mean nothing */
    snprintf(file, sizeof file, "members/%" PRIu32 "/role", id_of(node));
    if (!f->writable)
        fuse_reply_err(req, EBADF);
    else
        control__write_lines(req, &to, data, size);
}

/* Removes the member. Replies: 0 when it is out; EBUSY: the rest would be no healthy majority; ETIMEDOUT. */
static void members_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    uint32_t id = is_root(parent) ? parse_id(name) : 0;
    struct pending_call call = {.req = req, .done = pending_done_err};
    struct replica_member m;
    int err = id ? member_find(fs_of(req), id, &m) : QE_NOENT;

    if (err)
        fuse_reply_err(req, !id && !is_root(parent) ? EPERM : fs_errno(err));
    else
        control__change(fs_of(req), REPLICA_CHANGE_REMOVE, id, STORE_MEMBER_LEAVING, &call);
}

const struct control_view control__members_view = {
    .refusal = EPERM,
    .lookup = members_lookup,
    .getattr = members_getattr,
    .setattr = members_setattr,
    .open = members_open,
    .write = members_write,
    .opendir = members_opendir,
    .readdir = listing_readdir,
    .releasedir = listing_releasedir,
    .rmdir = members_rmdir,
};

/* ---- leader -------------------------------------------------------------------------------------------------------------------- */

int control__read_leader(struct fs *fs, const char *child, struct buf *out)
{
    struct replica_status s;

    (void)child;
    replica_status(fs->replica, &s);
    return buf_printf(out, "%" PRIu32 "\n", s.leader);
}

/* An id: that member is to lead. */
int control__command_leader(struct fs *fs, const char *child, const char *line, struct control_command *cmd, struct buf *why)
{
    (void)fs, (void)child;
    cmd->change = REPLICA_CHANGE_LEADER;
    cmd->member = parse_id(line);
    if (!cmd->member)
        buf_printf(why, "bad member \"%.40s\": allowed is the id of a voter", line);
    return cmd->member ? 0 : QE_INVAL;
}

/* ---- Asking for a change ------------------------------------------------------------------------------------------------------- */

struct asked {
    struct replica_request req;
    struct pending *pending;
};

/* Replica's thread. */
static void asked_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct asked *a = req->data;

    (void)rev, (void)ino;
    pending_finish(a->pending, err, 0, 0);
    free(a);
}

void control__change(struct fs *fs, enum replica_change_kind kind, uint32_t id, enum store_member_role role, const struct pending_call *call)
{
    struct asked *a = calloc(1, sizeof *a);

    if (!a) {
        fuse_reply_err(call->req, ENOMEM);
        return;
    }
    a->req.data = a;
    a->req.cb = asked_cb;
    a->pending = pending_wait(fs, call);
    if (a->pending)
        replica_change(fs->replica, &a->req, kind, id, role);
    else
        free(a);
}
