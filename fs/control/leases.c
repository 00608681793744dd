/* leases/: mkdir NAME grants a lease, rmdir revokes it, touch renews it; NAME/ttl, NAME/remaining. Who made a lease owns it; the store decides
 * what there is, the leader counts time.
 *
 * Node numbers of this view: the root is VIEW_ROOT; of a lease its id times 8, plus what the node is. */
#include "fs/control/leases.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/barrier.h"
#include "fs/control/listing.h"
#include "fs/pending.h"
#include "fs/proc.h"
#include "fs/work.h"

#define NS INT64_C(1000000000)
#define TTL_INITIAL_NS (60 * NS)
#define TTL_MAX_S INT64_C(1000000000) /* thirty years */

enum lease_part { PART_DIR = 2, PART_TTL, PART_REMAINING, PART_BITS = 3 };

static fuse_ino_t part_node(uint64_t id, enum lease_part part)
{
    return fs_node(FS_VIEW_LEASES, id << PART_BITS | (uint64_t)part);
}

static uint64_t id_of(fuse_ino_t node)
{
    return fs_number_of(node) >> PART_BITS;
}

static enum lease_part part_of(fuse_ino_t node)
{
    return (enum lease_part)(fs_number_of(node) & ((1 << PART_BITS) - 1));
}

static bool is_root(fuse_ino_t node)
{
    return fs_number_of(node) == VIEW_ROOT;
}

int leases__by_id(struct fs *fs, uint64_t id, struct store_lease *out)
{
    int err = store_lease_by_id(fs->reader, id, out);

    return err == QE_NOENT ? QE_STALE : err;
}

bool leases__is_owner(fuse_req_t req, const struct store_lease *l)
{
    uid_t uid = fuse_req_ctx(req)->uid;

    return uid == 0 || uid == l->owner;
}

/* ---- What waits for the newest state ------------------------------------------------------------------------------------------- */

struct newest {
    fuse_ino_t node;
    leases_then_cb then;
    char name[];
};

static void newest_settle(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct newest *n = data;

    (void)fs, (void)rev, (void)ino;
    if (req && err)
        fuse_reply_err(req, fs_errno(err));
    else if (req)
        n->then(req, n->node, n->name);
    free(n);
}

void leases__newest(fuse_req_t req, fuse_ino_t node, const char *name, leases_then_cb then)
{
    struct fs *fs = fs_of(req);
    size_t size = strlen(name) + 1;
    struct newest *n = fs->shared ? malloc(sizeof *n + size) : NULL;

    if (!fs->shared) {
        then(req, node, name);
        return;
    }
    if (!n) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    n->node = node;
    n->then = then;
    memcpy(n->name, name, size);
    atomic_fetch_add(&fs->n_barriers, 1);
    pending_barrier(fs, &(struct pending_call){.req = req, .settle = newest_settle, .data = n});
}

/* ---- Attributes and names ------------------------------------------------------------------------------------------------------ */

/* Seconds, with decimals only if there are some. */
static int print_ttl(struct buf *out, int64_t ns)
{
    char decimals[16];
    size_t n;

    if (ns % NS == 0)
        return buf_printf(out, "%" PRId64 "\n", ns / NS);
    snprintf(decimals, sizeof decimals, "%09" PRId64, ns % NS);
    for (n = strlen(decimals); decimals[n - 1] == '0'; n--)
        ;
    return buf_printf(out, "%" PRId64 ".%.*s\n", ns / NS, (int)n, decimals);
}

static void fill(struct fs *fs, const struct store_lease *l, enum lease_part part, struct fuse_entry_param *e)
{
    static const mode_t modes[] = {[PART_DIR] = S_IFDIR | 0755, [PART_TTL] = S_IFREG | 0644, [PART_REMAINING] = S_IFREG | 0444};
    struct buf ttl = {0};

    control__entry_of(fs, part_node(l->id, part), modes[part], e);
    e->entry_timeout = 0;
    e->attr_timeout = part == PART_DIR ? LEASES_DIR_ATTR_S : 0;
    e->attr.st_uid = l->owner;
    e->attr.st_gid = 0;
    if (part == PART_TTL && !print_ttl(&ttl, l->ttl_ns)) {
        e->attr.st_size = (off_t)ttl.len;
        e->attr.st_blocks = 1;
    }
    buf_fini(&ttl);
}

static void reply_part(fuse_req_t req, const struct store_lease *l, enum lease_part part)
{
    struct fuse_entry_param e;

    fill(fs_of(req), l, part, &e);
    fuse_reply_entry(req, &e);
}

static void lookup_lease(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct store_lease l;
    int err = store_lease(fs_of(req)->reader, name, &l);

    (void)parent;
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        reply_part(req, &l, PART_DIR);
}

static void lookup_part(fuse_req_t req, uint64_t id, const char *name)
{
    struct store_lease l;
    int err = leases__by_id(fs_of(req), id, &l);

    if (err)
        fuse_reply_err(req, fs_errno(err));
    else if (!strcmp(name, "ttl"))
        reply_part(req, &l, PART_TTL);
    else if (!strcmp(name, "remaining"))
        reply_part(req, &l, PART_REMAINING);
    else if (!strcmp(name, "keys"))
        leases__reply_keys(req, id);
    else if (!strcmp(name, "alive"))
        leases__reply_alive(req, &l);
    else
        fuse_reply_err(req, ENOENT);
}

/* A lease that is not known here may have been granted elsewhere. mkdir decides that itself; only who makes a directory by a path through a lease,
 * which is not allowed anyway, may be told ENOENT instead. One that is known may have gone, which whoever uses it will be told; but mkdir
 * makes nothing of what is found, so for that it is looked up anew. */
static void lookup_name(fuse_req_t req, fuse_ino_t root, const char *name)
{
    struct fs *fs = fs_of(req);
    struct store_lease l;
    int err = store_lease(fs->reader, name, &l);
    enum proc_call call = fs->shared && !fs->opt->reads_local ? proc_mkdir_of(fuse_req_ctx(req)->pid) : PROC_CALL_UNKNOWN;

    if (!err && call != PROC_CALL_AWAKE && call != PROC_CALL_MAKE)
        reply_part(req, &l, PART_DIR);
    else if (err == QE_NOENT && call == PROC_CALL_MAKE)
        fuse_reply_err(req, ENOENT);
    else
        leases__newest(req, root, name, lookup_lease);
}

static void leases_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e;

    if (!name) {
        control__entry_of(fs_of(req), parent, S_IFDIR | S_ISVTX | 0777, &e);
        fuse_reply_entry(req, &e);
    } else if (is_root(parent) && !store_lease_name_ok(name, strlen(name))) {
        fuse_reply_err(req, ENOENT);
    } else if (is_root(parent)) {
        lookup_name(req, parent, name);
    } else if (part_of(parent) == PART_DIR) {
        lookup_part(req, id_of(parent), name);
    } else {
        fuse_reply_err(req, ENOTDIR);
    }
}

static void leases_getattr(fuse_req_t req, fuse_ino_t node)
{
    struct fuse_entry_param e;
    struct store_lease l;
    int err = 0;

    if (is_root(node))
        control__entry_of(fs_of(req), node, S_IFDIR | S_ISVTX | 0777, &e);
    else
        err = leases__by_id(fs_of(req), id_of(node), &l);
    if (!err && !is_root(node))
        fill(fs_of(req), &l, part_of(node), &e);
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_attr(req, &e.attr, e.attr_timeout);
}

/* ---- Renewing ------------------------------------------------------------------------------------------------------------------ */

static void renewed(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    uint64_t *id = data;

    (void)fs, (void)rev, (void)ino;
    if (req && err)
        fuse_reply_err(req, err == QE_NOENT ? ESTALE : fs_errno(err)); /* the kernel looks whether the name is there now */
    else if (req)
        leases_getattr(req, part_node(*id, PART_DIR));
    free(id);
}

/* touch: ESTALE or ENOENT when it has gone, EPERM to others than its owner and root, ETIMEDOUT without a quorum. */
static void renew(fuse_req_t req, uint64_t id)
{
    uint64_t *data = malloc(sizeof *data);
    struct store_lease l;
    int err = data ? leases__by_id(fs_of(req), id, &l) : QE_NOMEM;

    if (!err && !leases__is_owner(req, &l))
        err = QE_PERM;
    if (err) {
        free(data);
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    *data = id;
    pending_renew(fs_of(req), id, &(struct pending_call){.req = req, .settle = renewed, .data = data});
}

/* O_TRUNC of a shell's `>` means nothing. */
static void leases_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int valid, struct fuse_file_info *fi)
{
    const int times = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW;

    (void)attr, (void)fi;
    if (valid & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID) || is_root(node))
        fuse_reply_err(req, EPERM);
    else if (valid & times && part_of(node) == PART_DIR)
        renew(req, id_of(node));
    else if (!(valid & FUSE_SET_ATTR_SIZE))
        fuse_reply_err(req, EPERM);
    else if (part_of(node) != PART_TTL)
        fuse_reply_err(req, EACCES);
    else
        leases_getattr(req, node);
}

/* ---- Granting and revoking ----------------------------------------------------------------------------------------------------- */

/* Any thread. `id` is the new lease's, which is as it was asked for. */
static void granted(fuse_req_t req, int err, uint64_t id, uint64_t arg)
{
    const struct store_lease l = {.id = id, .owner = fuse_req_ctx(req)->uid, .ttl_ns = TTL_INITIAL_NS};

    (void)arg;
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        reply_part(req, &l, PART_DIR);
}

static void leases_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct fs *fs = fs_of(req);
    struct store_op op = {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .name = {name, strlen(name)}, .rev = TTL_INITIAL_NS};
    struct store_command cmd = {.ops = &op, .n_ops = 1};
    int err = !is_root(parent) ? QE_PERM : store_lease_name_ok(name, strlen(name)) ? replica_writable(fs->replica) : QE_INVAL;

    (void)mode;
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        pending_submit(fs, &cmd, &(struct pending_call){.req = req, .done = granted});
}

struct revoking { /* goes on when its caller is killed: half of the files must not stay */
    uint64_t id;
    uid_t uid;
    gid_t gid;
    pid_t pid;
    char comm[16];
};

static void revoke(struct fs *fs, fuse_req_t req, struct revoking *v);

/* A lease with very many files ends in several revisions. */
static void revoked(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    (void)rev;
    if (!err && ino > 0) {
        revoke(fs, req, data);
        return;
    }
    if (req)
        fuse_reply_err(req, fs_errno(err));
    free(data);
}

static void revoke(struct fs *fs, fuse_req_t req, struct revoking *v)
{
    struct store_op op = {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_REVOKE, .ino = v->id};
    struct store_command cmd = {.ops = &op, .n_ops = 1, .uid = v->uid, .gid = v->gid, .pid = v->pid, .comm = v->comm};

    pending_submit(fs, &cmd, &(struct pending_call){.req = req, .settle = revoked, .data = v});
}

static void leases_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    struct fs *fs = fs_of(req);
    struct revoking *v = NULL;
    struct store_lease l;
    int err = !is_root(parent) ? QE_PERM : store_lease(fs->reader, name, &l);

    if (!err && !leases__is_owner(req, &l))
        err = QE_PERM;
    if (!err)
        err = replica_writable(fs->replica);
    if (!err && !(v = malloc(sizeof *v)))
        err = QE_NOMEM;
    if (err) {
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    *v = (struct revoking){.id = l.id, .uid = ctx->uid, .gid = ctx->gid, .pid = ctx->pid};
    proc_comm(ctx->pid, v->comm);
    revoke(fs, req, v);
}

/* ---- Directories --------------------------------------------------------------------------------------------------------------- */

enum { LIST_PAGE = 1000 };

struct lease_list { /* a worker's */
    struct listing_job job;
    char after[STORE_LEASE_NAME_MAX + 1];
    size_t n; /* of the page */
    int err;
};

static bool add_lease(void *data, const struct store_lease *l)
{
    struct lease_list *list = data;

    list->err = listing_add(list->job.out, l->name, strlen(l->name), part_node(l->id, PART_DIR), S_IFDIR);
    memcpy(list->after, l->name, sizeof list->after);
    return !list->err && ++list->n < LIST_PAGE;
}

static int list_leases(struct fs *fs, struct store_reader *reader, void *data)
{
    struct lease_list *list = data;
    int err = 0;

    do {
        char after[STORE_LEASE_NAME_MAX + 1];

        list->n = 0;
        memcpy(after, list->after, sizeof after);
        err = work_stopping(fs) ? QE_SHUTDOWN : store_leases(reader, after, add_lease, list);
        err = err ? err : list->err;
    } while (!err && list->n == LIST_PAGE);
    return err;
}

static void open_root(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct lease_list *list = calloc(1, sizeof *list);

    listing_start(req, node, FS_CONTROL_ROOT, fi, list_leases, list ? &list->job : NULL);
}

static int add_parts(struct listing *l, uint64_t id)
{
    int err = listing_add(l, "alive", 5, leases__alive_node(id), S_IFREG);

    if (!err)
        err = listing_add(l, "keys", 4, leases__keys_node(id), S_IFDIR);
    if (!err)
        err = listing_add(l, "remaining", 9, part_node(id, PART_REMAINING), S_IFREG);
    return err ? err : listing_add(l, "ttl", 3, part_node(id, PART_TTL), S_IFREG);
}

static void leases_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    struct store_lease lease;
    struct listing *l;
    int err;

    if (is_root(node)) {
        barrier_control_open(req, node, fi, open_root);
        return;
    }
    l = listing_new(node, fs_node(FS_VIEW_LEASES, VIEW_ROOT));
    err = !l ? QE_NOMEM : part_of(node) != PART_DIR ? QE_NOTDIR : leases__by_id(fs_of(req), id_of(node), &lease);
    if (!err)
        err = add_parts(l, lease.id);
    if (!err) {
        listing_reply_open(req, fi, l, false);
        return;
    }
    listing_free(l);
    fuse_reply_err(req, fs_errno(err));
}

/* ---- Files --------------------------------------------------------------------------------------------------------------------- */

/* Whole seconds, rounded up, so that it is 0 only when nothing is left. */
static void remaining_known(struct fs *fs, fuse_req_t req, int err, int64_t left_ns, uint64_t ino, void *data)
{
    struct fuse_file_info *fi = data;
    struct buf content = {0};

    (void)fs, (void)ino;
    if (req && !err)
        err = buf_printf(&content, "%" PRId64 "\n", left_ns > 0 ? (left_ns + NS - 1) / NS : 0);
    if (req && !err) {
        control__reply_open(req, fi, &content, false);
    } else {
        buf_fini(&content);
        if (req)
            fuse_reply_err(req, err == QE_NOENT ? ESTALE : fs_errno(err));
    }
    free(fi);
}

static void open_remaining(fuse_req_t req, uint64_t id, const struct fuse_file_info *fi)
{
    struct fuse_file_info *kept = malloc(sizeof *kept);

    if (!kept) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    *kept = *fi;
    pending_remaining(fs_of(req), id, &(struct pending_call){.req = req, .settle = remaining_known, .data = kept});
}

static void open_ttl(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    int access_mode = fi->flags & O_ACCMODE;
    struct buf content = {0};
    struct store_lease l;
    int err = leases__by_id(fs_of(req), id_of(node), &l);

    if (!err && access_mode != O_RDONLY && !leases__is_owner(req, &l))
        err = QE_ACCES;
    if (!err && access_mode != O_WRONLY)
        err = print_ttl(&content, l.ttl_ns);
    if (!err) {
        control__reply_open(req, fi, &content, access_mode != O_RDONLY);
        return;
    }
    buf_fini(&content);
    fuse_reply_err(req, fs_errno(err));
}

static void leases_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    if (is_root(node) || part_of(node) == PART_DIR)
        fuse_reply_err(req, EISDIR);
    else if (part_of(node) == PART_TTL)
        barrier_control_open(req, node, fi, open_ttl);
    else if ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC)
        fuse_reply_err(req, EACCES);
    else
        open_remaining(req, id_of(node), fi);
}

/* Seconds, whole or with up to nine decimals. False: something else. */
static bool parse_ttl(const char *line, int64_t *out)
{
    int64_t s = 0, ns = 0, unit = NS / 10;
    const char *p = line;

    for (; isdigit((unsigned char)*p) && s < TTL_MAX_S; p++)
        s = s * 10 + (*p - '0');
    if (p == line || s < 1 || s >= TTL_MAX_S)
        return false;
    if (*p == '.' && isdigit((unsigned char)p[1]))
        for (p++; isdigit((unsigned char)*p); p++, unit /= 10)
            ns += unit * (*p - '0');
    *out = s * NS + ns;
    return !*p;
}

/* A TTL; the last line counts. */
int control__ttl_line(struct fs *fs, void *data, const char *line, struct control_command *cmd, struct buf *why)
{
    const uint64_t *id = data;
    int64_t ttl_ns;

    (void)fs;
    if (!parse_ttl(line, &ttl_ns)) {
        buf_printf(why, "bad TTL \"%.40s\": allowed is a number of seconds from 1, like 10 or 2.5", line);
        return QE_INVAL;
    }
    cmd->op = (struct store_op){.kind = STORE_OP_LEASE, .flags = STORE_LEASE_TTL, .ino = *id, .rev = ttl_ns};
    return 0;
}

static void leases_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
    const struct control_file *f = (const struct control_file *)(uintptr_t)fi->fh;
    char file[STORE_LEASE_NAME_MAX + 24];
    uint64_t id = id_of(node);
    struct control_lines to = {.file = file, .data = &id, .line = control__ttl_line};
    struct store_lease l;
    int err;

    (void)off; /* offsets mean nothing */
    if (!f->writable) {
        fuse_reply_err(req, EBADF);
        return;
    }
    err = leases__by_id(fs_of(req), id, &l);
    if (err) {
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    snprintf(file, sizeof file, "leases/%s/ttl", l.name);
    control__write_lines(req, &to, data, size);
}

const struct control_view control__leases_view = {
    .refusal = EPERM,
    .lookup = leases_lookup,
    .getattr = leases_getattr,
    .setattr = leases_setattr,
    .open = leases_open,
    .write = leases_write,
    .opendir = leases_opendir,
    .readdir = listing_readdir,
    .releasedir = listing_releasedir,
    .mkdir = leases_mkdir,
    .rmdir = leases_rmdir,
};
