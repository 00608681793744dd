/* The history of a name: which inodes were bound to a path when, and which contents it had, as far as a revision that is retained shows it.
 *
 * A path is bound to an inode from the revision at which its last component, or a directory above it, came to stand there, until one of
 * them goes. The bindings of a name in a directory follow from its row in node and its rows in name_h; those of a path are the
 * intersections along it. They do not overlap, so one revision has one binding at most.
 *
 * A version of a path is a content that it had. Its name is the revision at which it got it: that of the commit, or, if that is older, that
 * of the binding. Changes of attributes make no versions of their own; a version shows the attributes that it had last. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "store/reader.h"

enum { DEPTH_MAX = 4096 / 2, PAGE_NAMES = 256 };

struct binding {
    uint64_t ino;
    int64_t from, to; /* revisions: bound at from, no longer at to; INT64_MAX: still */
};

/* ---- One name in one directory ------------------------------------------------------------------------------------------- */

static int64_t later(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t earlier(int64_t a, int64_t b) { return a < b ? a : b; }

/* The newest binding that began before `hi`, of a directory if `dirs`. QE_NOENT: none. */
static int newest_before(struct conn *c, uint64_t dir, struct store_bytes name, int64_t hi, bool dirs, struct binding *out)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_PAST_NOW);
    bool found;
    int err;

    bind_u(q, 1, dir);
    bind_b(q, 2, name.data, name.len);
    bind_i(q, 3, hi);
    bind_i(q, 4, dirs);
    err = conn_row(c, q, &found);
    if (!err && !found) {
        q = conn_stmt(c, STMT_PAST_ENDED);
        bind_u(q, 1, dir);
        bind_b(q, 2, name.data, name.len);
        bind_i(q, 3, hi);
        bind_i(q, 4, dirs);
        err = conn_row(c, q, &found);
    }
    if (err || !found)
        return err ? err : QE_NOENT;
    *out = (struct binding){col_u(q, 0), col_i(q, 1), col_i(q, 2)};
    conn_reset(q);
    return 0;
}

/* The first component of a path; `rest` is what follows it. */
static struct store_bytes first_of(struct store_bytes path, struct store_bytes *rest)
{
    const char *p = path.data, *slash = path.len ? memchr(p, '/', path.len) : NULL;
    size_t len = slash ? (size_t)(slash - p) : path.len;

    *rest = slash ? (struct store_bytes){slash + 1, path.len - len - 1} : (struct store_bytes){NULL, 0};
    return (struct store_bytes){p, len};
}

/* ---- Paths --------------------------------------------------------------------------------------------------------------- */

/* What the path was bound to at a revision. */
static int binding_at(struct conn *c, struct store_bytes path, int64_t rev, struct binding *out)
{
    struct binding b = {STORE_ROOT_INO, 1, INT64_MAX}, next;

    while (path.len) {
        struct store_bytes name = first_of(path, &path);
        int err = newest_before(c, b.ino, name, rev + 1, false, &next);

        if (err)
            return err;
        if (next.to <= rev)
            return QE_NOENT;
        b = (struct binding){next.ino, later(b.from, next.from), earlier(b.to, next.to)};
    }
    *out = b;
    return 0;
}

typedef int (*binding_cb)(void *data, const struct binding *b, bool *more);

struct walk {
    struct conn *c;
    int64_t compacted; /* bindings that end at or before it are of no interest */
    bool dirs;         /* only bindings to directories */
    binding_cb cb;
    void *data;
    bool more;         /* the callback wants more */
};

/* Bindings of the path below `b`, newest first. */
static int walk_below(struct walk *w, struct store_bytes path, const struct binding *b, int depth)
{
    struct store_bytes rest, name;
    int64_t hi = b->to;
    int err = 0;

    if (!path.len)
        return w->cb(w->data, b, &w->more);
    if (depth == DEPTH_MAX)
        return QE_NAMETOOLONG;
    name = first_of(path, &rest);
    while (!err && w->more) {
        struct binding n, both;

        err = newest_before(w->c, b->ino, name, hi, w->dirs || rest.len, &n);
        if (err == QE_NOENT || (!err && n.to <= later(b->from, w->compacted)))
            return 0;
        both = (struct binding){n.ino, later(b->from, n.from), earlier(b->to, n.to)};
        if (!err)
            err = walk_below(w, rest, &both, depth + 1);
        hi = n.from;
    }
    return err;
}

/* Bindings that began before `before`, newest first. */
static int walk(struct store_reader *r, struct store_bytes path, int64_t before, bool dirs, binding_cb cb, void *data)
{
    struct walk w = {.c = &r->conn, .compacted = r->compacted, .dirs = dirs, .cb = cb, .data = data, .more = true};

    return walk_below(&w, path, &(struct binding){STORE_ROOT_INO, 1, before}, 0);
}

/* ---- Versions ------------------------------------------------------------------------------------------------------------ */

/* Revision that names the content which row `seq` has. */
static int content_of_row(struct conn *c, int64_t seq, int64_t *vseq)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_VER_VSEQ);
    bool found;
    int err;

    bind_i(q, 1, seq);
    err = conn_row(c, q, &found);
    if (err || !found)
        return err ? err : QE_NOENT;
    *vseq = col_i(q, 0);
    conn_reset(q);
    return 0;
}

/* From row *seq back to the newest one whose content is `vseq`: contents only get older on the way, so jumps are safe as far as the row
 * there still has a newer one. */
static int last_row_of(struct conn *c, int64_t vseq, int64_t *seq)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_VER_LINKS);
    int64_t has, prev, jump;
    bool found;
    int err = content_of_row(c, *seq, &has);

    while (!err && has > vseq) {
        bind_i(q, 1, *seq);
        err = conn_row(c, q, &found);
        if (err || !found)
            return err ? err : QE_CORRUPT;
        prev = col_i(q, 0);
        jump = col_i(q, 1);
        conn_reset(q);
        err = jump ? content_of_row(c, jump, &has) : QE_NOENT;
        *seq = !err && has > vseq ? jump : prev;
        if (err == QE_NOENT || (!err && has <= vseq))
            err = content_of_row(c, *seq, &has);
    }
    return err == QE_NOENT ? QE_CORRUPT : err;
}

/* The version of a binding that it had at revision `at`. */
static int version_of(struct store_reader *r, const struct binding *b, int64_t at, struct store_version *out)
{
    int64_t first, last, vseq;
    int err = version_at(&r->conn, b->ino, at, &first);

    if (err || !first)
        return err ? err : QE_CORRUPT;
    err = content_of_row(&r->conn, first, &vseq);
    if (!err)
        err = version_at(&r->conn, b->ino, b->to == INT64_MAX ? r->rev : b->to - 1, &last);
    if (!err)
        err = last_row_of(&r->conn, vseq, &last);
    if (err)
        return err == QE_NOENT ? QE_CORRUPT : err;
    *out = (struct store_version){.rev = later(rev_of(vseq), b->from), .at = later(rev_of(last), at)};
    return store_getattr(r, out->at, b->ino, &out->attr);
}

/* What is told of a deletion: the state before it, and when. */
static int deletion_of(struct store_reader *r, const struct binding *b, struct store_version *out)
{
    struct content_at where;
    int64_t seq;
    int err = store_getattr(r, b->to - 1, b->ino, &out->attr);

    out->rev = b->to;
    out->at = b->to - 1;
    out->deleted = true;
    if (!err)
        err = version_at(&r->conn, b->ino, b->to, &seq);
    if (!err && rev_of(seq) == b->to) {
        struct store_attr a = out->attr;

        err = attr_at(&r->conn, b->to, b->ino, &a, &where); /* fills in, though it is gone */
        if (err == QE_NOENT)
            err = 0;
        out->attr.mtime_ns = out->attr.ctime_ns = a.ctime_ns;
    }
    return err;
}

/* Whether a binding's end leaves the path without anything. */
static int is_deletion(struct store_reader *r, struct store_bytes path, const struct binding *b, bool *yes)
{
    struct binding next;
    int err;

    *yes = false;
    if (b->to == INT64_MAX || store_ino_kind(b->ino) == STORE_DIR)
        return 0;
    err = binding_at(&r->conn, path, b->to, &next);
    *yes = err == QE_NOENT;
    return err == QE_NOENT ? 0 : err;
}

static int version_get(struct store_reader *r, struct store_bytes path, int64_t rev, bool deleted, struct store_version *out)
{
    int64_t at = deleted ? rev - 1 : later(rev, r->compacted);
    struct binding b;
    bool yes;
    int err = at < later(r->compacted, 1) || rev > r->rev ? QE_NOENT : binding_at(&r->conn, path, at, &b);

    if (!err && store_ino_kind(b.ino) == STORE_DIR)
        err = QE_NOENT;
    if (!err && deleted) {
        err = is_deletion(r, path, &b, &yes);
        if (!err)
            err = yes && b.to == rev ? deletion_of(r, &b, out) : QE_NOENT;
    } else if (!err) {
        err = version_of(r, &b, at, out);
        if (!err && out->rev != rev)
            err = QE_NOENT;
    }
    return err;
}

int store_version(struct store_reader *r, const char *path, size_t len, int64_t rev, bool deleted, struct store_version *out)
{
    int64_t at = STORE_HEAD;
    struct store_version v = {0};
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = version_get(r, (struct store_bytes){path, len}, rev, deleted, &v);
    if (!err)
        *out = v;
    reader_close_at(r);
    return err;
}

/* ---- All versions -------------------------------------------------------------------------------------------------------- */

struct listing {
    struct store_reader *r;
    struct store_bytes path;
    int64_t before; /* versions from here on were told */
    store_revision_cb cb;
    void *data;
};

/* Contents of a binding, newest first. */
static int list_contents(struct listing *l, const struct binding *b, bool *more)
{
    struct conn *c = &l->r->conn;
    int64_t seq, vseq = 0, last = earlier(earlier(b->to, l->before) - 1, l->r->rev);
    int64_t told = INT64_MAX;
    int err = last < b->from || last < l->r->compacted ? QE_NOENT : version_at(c, b->ino, last, &seq);

    while (!err && *more && seq) {
        sqlite3_stmt *q;
        bool found;

        err = content_of_row(c, seq, &vseq);
        if (err)
            break;
        if (rev_of(vseq) < told) /* of several contents in one revision only the last was ever seen */
            *more = l->cb(l->data, later(rev_of(vseq), b->from), false, store_ino_kind(b->ino));
        told = rev_of(vseq);
        if (rev_of(vseq) <= later(b->from, l->r->compacted))
            break; /* the first of the binding, or the oldest that is retained */
        q = conn_stmt(c, STMT_VER_LINKS);
        bind_i(q, 1, vseq);
        err = conn_row(c, q, &found);
        seq = !err && found ? col_i(q, 0) : 0;
        if (!err && found)
            conn_reset(q);
    }
    return err == QE_NOENT ? 0 : err;
}

static int list_binding(void *data, const struct binding *b, bool *more)
{
    struct listing *l = data;
    struct binding all = *b;
    bool deleted = false;
    int err = 0;

    if (store_ino_kind(b->ino) == STORE_DIR)
        return 0;
    if (b->to == l->before) /* cut off there by the walk */
        all.to = INT64_MAX;
    if (all.to < l->before)
        err = is_deletion(l->r, l->path, &all, &deleted);
    if (!err && deleted)
        *more = l->cb(l->data, all.to, true, STORE_FILE);
    return err || !*more ? err : list_contents(l, b, more);
}

int store_versions(struct store_reader *r, const char *path, size_t len, int64_t before, store_revision_cb cb, void *data)
{
    struct listing l = {.r = r, .path = {path, len}, .before = before ? before : INT64_MAX, .cb = cb, .data = data};
    int64_t at = STORE_HEAD;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = walk(r, l.path, l.before, false, list_binding, &l);
    reader_close_at(r);
    return err;
}

/* ---- Names --------------------------------------------------------------------------------------------------------------- */

struct past_name {
    size_t len;
    uint8_t bytes[STORE_NAME_MAX];
};

struct names { /* the first PAGE_NAMES behind `after`, ascending */
    struct store_reader *r;
    struct store_bytes after;
    struct past_name *list; /* owned */
    size_t n;
};

static int compare(const struct past_name *a, struct store_bytes b)
{
    size_t len = a->len < b.len ? a->len : b.len;
    int d = len ? memcmp(a->bytes, b.data, len) : 0;

    return d ? d : a->len < b.len ? -1 : a->len > b.len;
}

static void add_name(struct names *n, struct store_bytes name)
{
    size_t lo = 0, hi = n->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int d = compare(&n->list[mid], name);

        if (d == 0)
            return;
        if (d < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == PAGE_NAMES || name.len > STORE_NAME_MAX)
        return;
    if (n->n < PAGE_NAMES)
        n->n++;
    memmove(&n->list[lo + 1], &n->list[lo], (n->n - 1 - lo) * sizeof *n->list);
    n->list[lo].len = name.len;
    memcpy(n->list[lo].bytes, name.data, name.len);
}

static int add_names(struct names *n, enum stmt id, const struct binding *b)
{
    sqlite3_stmt *q = conn_stmt(&n->r->conn, id);
    bool found;
    int err;

    bind_u(q, 1, b->ino);
    bind_b(q, 2, n->after.data, n->after.len);
    bind_i(q, 3, b->to);
    bind_i(q, 4, later(b->from, n->r->compacted));
    bind_i(q, 5, PAGE_NAMES);
    while (!(err = conn_row(&n->r->conn, q, &found)) && found)
        add_name(n, col_b(q, 0));
    return err;
}

static int names_of_binding(void *data, const struct binding *b, bool *more)
{
    int err = add_names(data, STMT_PAST_NAMES_NOW, b);

    *more = true;
    return err ? err : add_names(data, STMT_PAST_NAMES_ENDED, b);
}

int store_list_past(struct store_reader *r, const char *path, size_t len, const void *after, size_t after_len, store_name_cb cb, void *data)
{
    struct names n = {.r = r, .after = {after, after_len}, .list = calloc(PAGE_NAMES + 1, sizeof *n.list)};
    int64_t at = STORE_HEAD;
    int err = n.list ? reader_open_at(r, &at) : QE_NOMEM;

    if (!err) {
        err = walk(r, (struct store_bytes){path, len}, INT64_MAX, true, names_of_binding, &n);
        reader_close_at(r);
    }
    for (size_t i = 0; !err && i < n.n && cb(data, n.list[i].bytes, n.list[i].len); i++)
        ;
    free(n.list);
    return err;
}

/* ---- Who may look -------------------------------------------------------------------------------------------------------- */

struct looking {
    struct store_reader *r;
    bool any;              /* something was found */
    bool mixed;            /* owners differ */
    struct store_past out; /* of the newest, and of all directories */
};

static void look_at_attr(struct looking *k, const struct store_attr *a)
{
    if (a->uid != k->out.uid || a->gid != k->out.gid)
        k->mixed = true;
    k->out.mode &= a->mode;
}

static int look_at_newest(void *data, const struct binding *b, bool *more)
{
    struct looking *k = data;
    struct store_attr a;
    int err = store_getattr(k->r, b->to == INT64_MAX ? STORE_HEAD : b->to - 1, b->ino, &a);

    *more = false;
    if (err)
        return err;
    k->any = true;
    a.mode |= store_ino_kind(b->ino) == STORE_DIR ? 0 : (a.mode & 0444) >> 2; /* whoever may read it may see its versions */
    k->out = (struct store_past){.mode = a.mode & 0777, .uid = a.uid, .gid = a.gid, .mtime_ns = a.mtime_ns, .dir = store_ino_kind(b->ino) == STORE_DIR};
    return 0;
}

/* Every version of a directory while it was bound. */
static int look_at_directory(void *data, const struct binding *b, bool *more)
{
    struct looking *k = data;
    int64_t at = b->to == INT64_MAX ? k->r->rev : b->to - 1;
    struct store_attr a;
    int err = 0;

    *more = true;
    k->any = true;
    while (!err && at >= later(b->from, k->r->compacted)) {
        err = store_getattr(k->r, at, b->ino, &a);
        if (!err)
            look_at_attr(k, &a);
        at = err ? 0 : a.mod_rev - 1;
    }
    return err;
}

int store_past(struct store_reader *r, const char *path, size_t len, struct store_past *out)
{
    struct looking k = {.r = r};
    int64_t at = STORE_HEAD;
    int err = reader_open_at(r, &at);

    if (err)
        return err;
    err = walk(r, (struct store_bytes){path, len}, INT64_MAX, false, look_at_newest, &k);
    if (!err && k.any)
        err = walk(r, (struct store_bytes){path, len}, INT64_MAX, true, look_at_directory, &k);
    reader_close_at(r);
    if (err || !k.any)
        return err ? err : QE_NOENT;
    if (k.mixed) /* anybody may have been of any class once: only what owner, group and others could do */
        k.out.mode = (k.out.mode & k.out.mode >> 3 & k.out.mode >> 6 & 7) * 0111;
    *out = k.out;
    return 0;
}
