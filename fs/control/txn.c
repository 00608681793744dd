/* txn/: the transactions of this member and their files; tree/ is a view of its own (txn_view.c).
 *
 * Node numbers: of the root VIEW_ROOT; of a transaction FIRST_NODE + serial * FILES + file. Serials are never used again, so a node of an
 * ended transaction is known as such: ESTALE. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/control/listing.h"
#include "fs/control/tree.h"
#include "fs/control/txn.h"
#include "fs/pending.h"
#include "fs/view.h"
#include "store/base/clock.h"
#include "store/base/failpoint.h"

enum { FILE_DIR, FILE_COMMIT, FILE_REQUIRE, FILE_STATUS, FILES = 4, FIRST_NODE = 16 };
enum { IDLE_LOOK_MS = 10000, WRITE_BYTES_MAX = 64 << 10, STDIO_BYTES = 4096 /* that programs write at once, wherever lines end */ };
#define VIEW_FIRST UINT64_C(0x1000) /* view numbers of the trees */
#define VIEW_LAST UINT64_C(0xffff)
enum { VIEWS_FEW = 40 }; /* for a failpoint */

struct txn_waiter { /* a write to `commit` */
    struct txn_waiter *next;
    struct pending *pending;
    int64_t deadline_ns;
};

static const struct { const char *name; mode_t mode; } files[FILES] = {
    [FILE_DIR] = {NULL, S_IFDIR | 0700}, [FILE_COMMIT] = {"commit", S_IFREG | 0200}, [FILE_REQUIRE] = {"require", S_IFREG | 0600},
    [FILE_STATUS] = {"status", S_IFREG | 0400}};

static struct txn *all; /* FUSE loop only */
static uint64_t last_serial, last_view = VIEW_FIRST - 1;
static uint64_t known[VIEW_LAST - VIEW_FIRST + 1]; /* lookups in each view that the kernel has not forgotten */

int txn_errno(int err)
{
    return err == QE_2BIG ? E2BIG : fs_errno(err);
}

/* ---- The table ----------------------------------------------------------------------------------------------------------------- */

struct txn *txn_of_serial(uint64_t serial)
{
    struct txn *t = all;

    while (t && t->serial != serial)
        t = t->next;
    return t;
}

static bool is_unfinished(const struct txn *t)
{
    return t->state == TXN_OPEN || t->state == TXN_COMMITTING;
}

struct txn *txn_of_view(uint64_t view)
{
    struct txn *t = all;

    while (t && (t->view != view || !is_unfinished(t)))
        t = t->next;
    return t;
}

bool control__is_txn_tree(enum fs_view view)
{
    return view >= VIEW_FIRST;
}

static struct txn *txn_of_name(const char *name)
{
    struct txn *t = all;

    while (t && (strcmp(t->name, name) || t->doomed))
        t = t->next;
    return t;
}

/* What a node of this view is; NULL: the root, or nothing that there is. */
static struct txn *txn_of_node(fuse_ino_t node, int *file)
{
    uint64_t number = fs_number_of(node);

    if (number < FIRST_NODE)
        return NULL;
    *file = (int)((number - FIRST_NODE) % FILES);
    return txn_of_serial((number - FIRST_NODE) / FILES);
}

static fuse_ino_t node_of(const struct txn *t, int file)
{
    return fs_node(FS_VIEW_TXN, FIRST_NODE + t->serial * FILES + (uint64_t)file);
}

void txn_used(struct txn *t)
{
    t->used_ns = clock_boottime_ns();
}

static void waiters_end(struct txn *t, int err)
{
    while (t->waiters) {
        struct txn_waiter *w = t->waiters;

        t->waiters = w->next;
        pending_finish(w->pending, err, 0, 0);
        free(w);
    }
}

static void txn_free(struct txn *t)
{
    struct txn **p = &all;

    while (*p != t)
        p = &(*p)->next;
    *p = t->next;
    waiters_end(t, QE_SHUTDOWN);
    txn_tree_free(t);
    buf_fini(&t->require);
    buf_fini(&t->require_bytes);
    buf_fini(&t->require_lines);
    buf_fini(&t->conditions);
    buf_fini(&t->reason);
    free(t);
}

void txn_finish(struct txn *t, enum txn_state state, int err, int64_t rev)
{
    t->state = state;
    t->err = err;
    t->result_rev = rev;
    if (state == TXN_COMMITTED)
        atomic_fetch_add(&t->fs->n_txn_committed, 1);
    else if (state == TXN_CONFLICT)
        atomic_fetch_add(&t->fs->n_txn_conflicts, 1);
    txn_used(t);
    waiters_end(t, err);
    txn_tree_free(t);
    if (t->doomed)
        txn_free(t);
}

void txn_unknown(struct txn *t)
{
    t->overdue = true;
    waiters_end(t, QE_TIMEDOUT);
}

/* A view number that no unfinished transaction has; and, if there is one, of which the kernel knows nothing: who still has something open in the
 * tree of a transaction that ended should not find himself in somebody else's. 0: there is none. */
static uint64_t new_view(void)
{
    const uint64_t end = FAILPOINT("txn.views") ? VIEW_FIRST + VIEWS_FEW - 1 : VIEW_LAST, n = end - VIEW_FIRST + 1;

    for (uint64_t tried = 0; tried < 2 * n; tried++) {
        last_view = last_view >= end ? VIEW_FIRST : last_view + 1;
        if ((tried >= n || !known[last_view - VIEW_FIRST]) && !txn_of_view(last_view))
            return last_view;
    }
    return 0;
}

int txn_view_reply_entry(fuse_req_t req, const struct fuse_entry_param *e, struct fuse_file_info *fi)
{
    uint64_t *n = &known[(uint64_t)fs_view_of(e->ino) - VIEW_FIRST];
    int rc;

    ++*n;
    rc = fi ? fuse_reply_create(req, e, fi) : fuse_reply_entry(req, e);
    if (rc == -ENOENT) /* the caller is gone: no FORGET will come */
        --*n;
    return rc;
}

void txn_view_forget(struct fs *fs, fuse_ino_t node, uint64_t nlookup)
{
    uint64_t *n = &known[(uint64_t)fs_view_of(node) - VIEW_FIRST];

    (void)fs;
    *n -= nlookup < *n ? nlookup : *n;
}

/* ---- Names --------------------------------------------------------------------------------------------------------------------- */

static int read_file(struct txn *t, int file, struct buf *out)
{
    if (file == FILE_REQUIRE)
        return buf_append(out, t->require.data, t->require.len);
    if (file != FILE_STATUS)
        return 0;
    switch (t->state) {
    case TXN_OPEN: return buf_printf(out, "open\n");
    case TXN_COMMITTING: return buf_printf(out, t->overdue ? "unknown\n" : "open\n");
    case TXN_COMMITTED: return buf_printf(out, "committed %lld\n", (long long)t->result_rev);
    case TXN_CONFLICT: return buf_printf(out, "conflict %s\n", buf_cstr(&t->reason));
    case TXN_FAILED: return buf_printf(out, "failed %s\n", buf_cstr(&t->reason));
    }
    return QE_CORRUPT;
}

static int fill(struct txn *t, int file, struct fuse_entry_param *e)
{
    struct buf content = {0};
    int err;

    control__entry_of(t->fs, node_of(t, file), files[file].mode, e);
    e->entry_timeout = e->attr_timeout = file == FILE_DIR ? TXN_KEPT_S : 0;
    e->attr.st_uid = t->uid;
    e->attr.st_gid = t->gid;
    view_time(t->begun_ns, &e->attr.st_mtim);
    e->attr.st_atim = e->attr.st_ctim = e->attr.st_mtim;
    err = read_file(t, file, &content);
    e->attr.st_size = (off_t)content.len;
    buf_fini(&content);
    return err;
}

static void reply_entry(fuse_req_t req, struct txn *t, int file)
{
    struct fuse_entry_param e;
    int err = fill(t, file, &e);

    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_entry(req, &e);
}

static void root_entry(struct fs *fs, struct fuse_entry_param *e)
{
    control__entry_of(fs, fs_node(FS_VIEW_TXN, VIEW_ROOT), S_IFDIR | 01777, e);
}

static void lookup_in(fuse_req_t req, struct txn *t, const char *name)
{
    struct fuse_entry_param e;
    struct store_attr a;
    int err;

    for (int i = FILE_COMMIT; i < FILES; i++)
        if (!strcmp(files[i].name, name)) {
            reply_entry(req, t, i);
            return;
        }
    if (strcmp(name, "tree")) {
        fuse_reply_err(req, ENOENT);
        return;
    }
    err = txn_of_view(t->view) ? txn_attr_unread(t, STORE_ROOT_INO, &a) : QE_STALE;
    if (err) {
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    txn_view_entry(t, STORE_ROOT_INO, &a, &e);
    e.entry_timeout = TXN_KEPT_S; /* whatever is looked up in it comes here */
    (void)txn_view_reply_entry(req, &e, NULL);
}

static void txn_view_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e;
    struct txn *t;
    int file = FILE_DIR;

    if (!name) {
        root_entry(fs_of(req), &e);
        fuse_reply_entry(req, &e);
    } else if (fs_number_of(parent) == VIEW_ROOT) {
        t = txn_of_name(name);
        if (t)
            reply_entry(req, t, FILE_DIR);
        else
            fuse_reply_err(req, ENOENT);
    } else if ((t = txn_of_node(parent, &file)) && file == FILE_DIR) {
        lookup_in(req, t, name);
    } else {
        fuse_reply_err(req, t ? ENOTDIR : ESTALE);
    }
}

static void txn_view_getattr(fuse_req_t req, fuse_ino_t node)
{
    struct fuse_entry_param e;
    struct txn *t;
    int file, err = 0;

    if (fs_number_of(node) == VIEW_ROOT) {
        root_entry(fs_of(req), &e);
    } else {
        t = txn_of_node(node, &file);
        err = t ? fill(t, file, &e) : QE_STALE;
    }
    if (err)
        fuse_reply_err(req, fs_errno(err));
    else
        fuse_reply_attr(req, &e.attr, e.attr_timeout);
}

static int list_root(struct listing *l)
{
    int err = 0;

    for (struct txn *t = all; t && !err; t = t->next)
        if (!t->doomed)
            err = listing_add(l, t->name, strlen(t->name), node_of(t, FILE_DIR), S_IFDIR);
    return err;
}

static int list_txn(const struct txn *t, struct listing *l)
{
    int err = 0;

    for (int i = FILE_COMMIT; i < FILES && !err; i++)
        err = listing_add(l, files[i].name, strlen(files[i].name), node_of(t, i), S_IFREG);
    if (!err && txn_of_view(t->view))
        err = listing_add(l, "tree", 4, fs_node((enum fs_view)t->view, STORE_ROOT_INO), S_IFDIR);
    return err;
}

static void txn_view_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    int file = FILE_DIR, err;
    bool root = fs_number_of(node) == VIEW_ROOT;
    struct txn *t = root ? NULL : txn_of_node(node, &file);
    struct listing *l = listing_new(node, root ? FS_CONTROL_ROOT : fs_node(FS_VIEW_TXN, VIEW_ROOT));

    err = !l ? QE_NOMEM : !root && !t ? QE_STALE : file != FILE_DIR ? QE_NOTDIR : root ? list_root(l) : list_txn(t, l);
    if (err) {
        listing_free(l);
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    listing_reply_open(req, fi, l, false);
}

/* ---- Beginning and ending ------------------------------------------------------------------------------------------------------ */

static int name_check(const char *name)
{
    size_t len = strlen(name);

    if (len > TXN_NAME_MAX)
        return QE_NAMETOOLONG;
    for (size_t i = 0; i < len; i++)
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", name[i]))
            return QE_INVAL;
    return name[0] == '.' ? QE_INVAL : 0;
}

static int admit(uid_t uid, const char *name)
{
    size_t unfinished = 0, n = 0, n_all = 0;

    for (const struct txn *t = all; t; t = t->next) {
        n_all++;
        n += t->uid == uid;
        unfinished += t->uid == uid && is_unfinished(t);
    }
    if (txn_of_name(name))
        return QE_EXIST;
    return unfinished >= TXN_PER_UID || n >= TXN_ALL_PER_UID || n_all >= TXN_ALL_MAX ? QE_MFILE : 0;
}

/* The transaction begins at what this member has; a barrier has seen to it that this is what there is. */
static void begin(fuse_req_t req, const char *name)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    struct fs *fs = fs_of(req);
    const uint64_t view = new_view();
    struct txn *t = view ? calloc(1, sizeof *t) : NULL;
    struct store_glance g;

    if (!t || buf_reserve(&t->require_bytes, 64)) {
        free(t);
        fuse_reply_err(req, view ? ENOMEM : EMFILE);
        return;
    }
    replica_glance(fs->replica, &g);
    t->fs = fs;
    strcpy(t->name, name);
    t->serial = ++last_serial;
    t->view = view;
    t->uid = ctx->uid;
    t->gid = ctx->gid;
    t->rev = g.rev;
    t->begun_ns = clock_realtime_ns();
    txn_used(t);
    t->next = all;
    all = t;
    reply_entry(req, t, FILE_DIR);
}

struct beginning { /* waits for the barrier */
    struct replica_request barrier;
    struct pending *pending;
    char name[TXN_NAME_MAX + 1];
};

static void on_barrier(struct replica_request *r, int err, int64_t rev, uint64_t ino)
{
    struct beginning *b = r->data;

    pending_finish(b->pending, err, rev, ino);
}

static void on_begun(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct beginning *b = data;

    (void)fs, (void)rev, (void)ino;
    if (req && !err)
        err = admit(fuse_req_ctx(req)->uid, b->name); /* others may have begun meanwhile */
    if (req && err)
        fuse_reply_err(req, fs_errno(err));
    else if (req)
        begin(req, b->name);
    free(b);
}

/* Replies: the transaction. EEXIST; EINVAL: letters, digits, . _ - only; EMFILE: TXN_PER_UID are open; ETIMEDOUT: no quorum. */
static void txn_view_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct fs *fs = fs_of(req);
    struct beginning *b;
    int err = fs_number_of(parent) == VIEW_ROOT ? name_check(name) : QE_PERM;

    (void)mode; /* it is its owner's alone */
    if (!err)
        err = admit(fuse_req_ctx(req)->uid, name);
    if (!err)
        err = replica_writable(fs->replica);
    if (err) {
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    if (!replica_barrier_needed(fs->replica)) {
        begin(req, name);
        return;
    }
    b = calloc(1, sizeof *b);
    if (!b) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    strcpy(b->name, name);
    b->barrier.data = b;
    b->barrier.cb = on_barrier;
    b->pending = pending_wait(fs, &(struct pending_call){.req = req, .settle = on_begun, .data = b});
    if (b->pending)
        replica_barrier(fs->replica, &b->barrier);
}

/* Replies: 0; EPERM: somebody else's; ENOENT. One whose commit is on its way is forgotten when its result is known. */
static void txn_view_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    uid_t uid = fuse_req_ctx(req)->uid;
    struct txn *t = fs_number_of(parent) == VIEW_ROOT ? txn_of_name(name) : NULL;

    if (fs_number_of(parent) != VIEW_ROOT) {
        fuse_reply_err(req, EPERM);
    } else if (!t) {
        fuse_reply_err(req, ENOENT);
    } else if (uid != 0 && uid != t->uid) {
        fuse_reply_err(req, EPERM);
    } else {
        if (t->state == TXN_COMMITTING)
            t->doomed = true;
        else
            txn_free(t);
        fuse_reply_err(req, 0);
    }
}

/* ---- Files --------------------------------------------------------------------------------------------------------------------- */

static void txn_view_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    int file = FILE_DIR, access_mode = fi->flags & O_ACCMODE, err = 0;
    struct txn *t = txn_of_node(node, &file);
    struct buf content = {0};

    if (!t)
        err = fs_number_of(node) == VIEW_ROOT ? QE_ISDIR : QE_STALE;
    else if (file == FILE_DIR)
        err = QE_ISDIR;
    else if ((access_mode != O_RDONLY || fi->flags & O_TRUNC) && file == FILE_STATUS)
        err = QE_ACCES;
    else if (access_mode != O_WRONLY)
        err = read_file(t, file, &content);
    if (!err) {
        control__reply_open(req, fi, &content, access_mode != O_RDONLY);
        return;
    }
    buf_fini(&content);
    fuse_reply_err(req, fs_errno(err));
}

bool txn_has_room(const struct txn *t, size_t bytes)
{
    size_t of_user = bytes, of_all = bytes;

    for (const struct txn *o = all; o; o = o->next) {
        size_t kept = is_unfinished(o) ? o->bytes + o->view_bytes + HASH_COUNT(o->reads) * TXN_READ_COST : 0;

        of_all += kept;
        of_user += o->uid == t->uid ? kept : 0;
    }
    return (t->uid == 0 || of_user <= TXN_USER_BYTES_MAX) && of_all <= TXN_MEMBER_BYTES_MAX;
}

/* All lines or none. */
static int take_lines(struct txn *t, const struct perm *who, const char *data, size_t size, struct buf *why)
{
    const size_t before[] = {t->require.len, t->require_bytes.len, t->require_lines.len, t->conditions.len};
    char *text = strndup(data, size), *rest = text, *line;
    int err = text ? 0 : QE_NOMEM;

    if (text && size && text[size - 1] == '\n')
        text[size - 1] = 0;
    while (!err && (line = strsep(&rest, "\n")))
        err = txn_require(t, who, line, why);
    if (err) {
        t->require.len = before[0];
        t->require_bytes.len = before[1];
        t->require_lines.len = before[2];
        t->conditions.len = before[3];
    }
    free(text);
    return err;
}

static void write_require(fuse_req_t req, struct txn *t, const char *data, size_t size)
{
    struct perm who = {0};
    struct buf why = {0};
    int err = t->state == TXN_OPEN ? perm_of(req, &who) : QE_PERM;

    if (!err && (size > WRITE_BYTES_MAX || memchr(data, 0, size)))
        err = QE_INVAL;
    if (!err && size && size % STDIO_BYTES == 0 && data[size - 1] != '\n') { /* the rest of the line comes with the next write */
        buf_printf(&why, "a write of %zu bytes that ends within a line: write whole lines, at most %d bytes at once", size, STDIO_BYTES - 1);
        err = QE_INVAL;
    }
    if (!err)
        err = take_lines(t, &who, data, size, &why);
    if (err)
        log_warn("control", "a write was refused file=\"txn/%s/require\" uid=%u: %s", t->name, (unsigned)fuse_req_ctx(req)->uid,
                 why.len ? buf_cstr(&why) : qfs_strerror(err));
    if (err)
        fuse_reply_err(req, txn_errno(err));
    else
        fuse_reply_write(req, size);
    perm_fini(&who);
    buf_fini(&why);
}

/* Any thread. */
static void commit_done(fuse_req_t req, int err, uint64_t ino, uint64_t size)
{
    (void)ino;
    if (err)
        fuse_reply_err(req, txn_errno(err));
    else
        fuse_reply_write(req, size);
}

/* What is required may have got another owner or mode, or be there only since, after the line was written. */
static int check_required(fuse_req_t req, struct txn *t)
{
    struct perm who;
    int err = perm_of(req, &who);

    if (!err)
        err = txn_require_allowed(t, &who);
    perm_fini(&who);
    return err;
}

/* Replies: the size; EACCES: something that is required may not be looked at; ECANCELED: a conflict, nothing has changed; ETIMEDOUT: the result
 * is not known yet; what the store says. The second write waits for, or gets, the result of the first. */
static void write_commit(fuse_req_t req, struct txn *t, const char *data, size_t size)
{
    struct pending_call call = {.req = req, .done = commit_done, .arg = size};
    struct txn_waiter *w;
    int err = 0;

    for (size_t i = 0; i < size; i++)
        if (data[i] != '\n' && data[i] != ' ')
            err = QE_INVAL;
    if (!err && !is_unfinished(t))
        err = t->err;
    if (!err && t->state == TXN_OPEN)
        err = t->spoiled ? t->spoiled : replica_writable(t->fs->replica);
    if (!err && t->state == TXN_OPEN)
        err = check_required(req, t);
    if (err || !is_unfinished(t)) {
        commit_done(req, err, 0, size);
        return;
    }
    w = calloc(1, sizeof *w);
    if (!w) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    w->pending = pending_wait(t->fs, &call);
    if (!w->pending) {
        free(w);
        return;
    }
    w->deadline_ns = clock_boottime_ns() + (int64_t)t->fs->opt->timeout_ms * 1000000;
    w->next = t->waiters;
    t->waiters = w;
    if (t->state == TXN_OPEN)
        txn_commit_start(t, req);
}

static void txn_view_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
    const struct control_file *f = (const struct control_file *)(uintptr_t)fi->fh;
    int file = FILE_DIR;
    struct txn *t = txn_of_node(node, &file);

    (void)off; /* offsets mean nothing */
    if (t)
        txn_used(t);
    if (!t)
        fuse_reply_err(req, ESTALE);
    else if (!f->writable)
        fuse_reply_err(req, EBADF);
    else if (file == FILE_REQUIRE)
        write_require(req, t, data, size);
    else
        write_commit(req, t, data, size);
}

/* A shell's `>` may set the size, which means nothing. */
static void txn_view_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int valid, struct fuse_file_info *fi)
{
    (void)attr, (void)fi;
    if (valid & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID) || !(valid & FUSE_SET_ATTR_SIZE))
        fuse_reply_err(req, EPERM);
    else
        txn_view_getattr(req, node);
}

/* ---- Time ---------------------------------------------------------------------------------------------------------------------- */

/* Answers those who have waited long enough; how long until the next one, or -1. */
static int tick_waiters(struct txn *t, int64_t now, int wait_ms)
{
    for (struct txn_waiter **p = &t->waiters; *p;) {
        struct txn_waiter *w = *p;
        int64_t left_ms = (w->deadline_ns - now) / 1000000 + 1;

        if (w->deadline_ns > now) {
            if (wait_ms < 0 || left_ms < wait_ms)
                wait_ms = (int)left_ms;
            p = &w->next;
            continue;
        }
        *p = w->next;
        t->overdue = true;
        pending_finish(w->pending, QE_TIMEDOUT, 0, 0);
        free(w);
    }
    return wait_ms;
}

int txn_tick(struct fs *fs)
{
    int64_t now = clock_boottime_ns(), idle_ns = FAILPOINT("txn.idle") ? 0 : (int64_t)TXN_IDLE_S * 1000000000;
    int wait_ms = all ? IDLE_LOOK_MS : -1;
    struct txn *next;

    (void)fs;
    for (struct txn *t = all; t; t = next) {
        next = t->next;
        wait_ms = tick_waiters(t, now, wait_ms);
        if (t->state != TXN_COMMITTING && now - t->used_ns > idle_ns) {
            log_info("txn", "ended after being idle name=\"%s\" uid=%u", t->name, (unsigned)t->uid);
            txn_free(t);
        }
    }
    return wait_ms;
}

size_t txn_count(struct fs *fs)
{
    size_t n = 0;

    (void)fs;
    for (const struct txn *t = all; t; t = t->next)
        n += t->state == TXN_OPEN || t->state == TXN_COMMITTING;
    return n;
}

void txn_close(struct fs *fs)
{
    (void)fs;
    while (all) {
        free(all->commit);
        txn_free(all);
    }
}

const struct control_view control__txn_view = {
    .refusal = EPERM,
    .lookup = txn_view_lookup,
    .getattr = txn_view_getattr,
    .setattr = txn_view_setattr,
    .open = txn_view_open,
    .write = txn_view_write,
    .opendir = txn_view_opendir,
    .readdir = listing_readdir,
    .releasedir = listing_releasedir,
    .mkdir = txn_view_mkdir,
    .rmdir = txn_view_rmdir,
};
