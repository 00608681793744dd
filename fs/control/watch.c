/* watch/PATH/.events and since/REV/PATH/.events: streams of events, as files.
 *
 * Any name is a directory here, whether the tree has it or not, and each has one file, `.events`. They are listed nowhere, so that
 * nothing that blocks is met by walking. A node is a name in another node; the table keeps those that the kernel knows, and what is
 * above them. The one of since/ has the revision as its first name.
 *
 * A read that finds nothing is kept until the feed says that there is something. Any signal ends it with EINTR. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <uthash.h>

#include "fs/barrier.h"
#include "fs/control/listing.h"
#include "fs/control/sweep.h"
#include "fs/control/tree.h"
#include "fs/device.h"
#include "fs/feed.h"
#include "fs/usage.h"
#include "fs/work.h"
#include "store/base/failpoint.h"

enum {
    NODES_MAX = 200000,      /* names in watch/ and since/ that the kernel may know at a time, of one user who is not root half of what
                              * others leave; more: ENFILE */
    NODES_FEW = 200,         /* the same for a failpoint */
    SWEEP_NODES = 10000,     /* when a quarter of them, half of what one user may have, are known, so many are looked at */
    STREAMS_PER_UID = 1000,  /* open at a time; more: EMFILE */
    REV_DIGITS_MAX = 18,
};
static const char events_name[] = ".events";

/* ---- Nodes --------------------------------------------------------------------------------------------------------------------- */

struct watch_node {
    uint64_t number;           /* hash key */
    struct watch_node *parent; /* counted; NULL: of a root */
    uid_t uid;                 /* who made it: what is below it keeps it, whoever made that */
    enum fs_view view;
    bool file;
    size_t path_len;           /* of the path that it stands for, slashes included */
    uint64_t nlookup, n_below; /* what keeps it: the kernel, nodes in it */
    UT_hash_handle hh, by_name;
    size_t key_len;            /* of `key` */
    uint8_t key[];             /* the parent's number, the view, the name: the other hash's key */
};

static struct watch_node *nodes, *names; /* FUSE loop only */
static struct usage *users;              /* nodes by who made them; likewise */
static uint64_t next_number = VIEW_ROOT + 1;

enum { KEY_HEAD = 9 };

static struct watch_node *node_find(fuse_ino_t node)
{
    uint64_t number = fs_number_of(node);
    struct watch_node *n;

    HASH_FIND(hh, nodes, &number, sizeof number, n);
    return n;
}

static const char *node_name(const struct watch_node *n, size_t *len)
{
    *len = n->key_len - KEY_HEAD;
    return (const char *)n->key + KEY_HEAD;
}

static void key_make(uint8_t key[KEY_HEAD + STORE_NAME_MAX], uint64_t parent, enum fs_view view, const char *name, size_t len)
{
    memcpy(key, &parent, sizeof parent);
    key[8] = (uint8_t)view;
    memcpy(key + KEY_HEAD, name, len);
}

static void node_unused(struct watch_node *n)
{
    while (n && n->nlookup == 0 && n->n_below == 0) {
        struct watch_node *up = n->parent;

        HASH_DEL(nodes, n);
        HASH_DELETE(by_name, names, n);
        usage_drop(&users, n->uid, 1);
        free(n);
        if (up)
            up->n_below--;
        n = up;
    }
}

static size_t nodes_max(void)
{
    return FAILPOINT("fs.watch.few") ? NODES_FEW : NODES_MAX;
}

/* Whether the user may have one more. */
static bool has_room(uid_t uid)
{
    size_t n = HASH_COUNT(nodes), max = nodes_max();

    return n < max && (uid == 0 || usage_of(users, uid) < max - n);
}

/* Finds or makes the node of a name. `up` NULL: in the root of the view. 0, QE_NOMEM or QE_MFILE. */
static int node_for(enum fs_view view, struct watch_node *up, const char *name, uid_t uid, struct watch_node **out)
{
    size_t len = strlen(name);
    uint8_t key[KEY_HEAD + STORE_NAME_MAX];
    struct watch_node *n;

    key_make(key, up ? up->number : VIEW_ROOT, view, name, len);
    HASH_FIND(by_name, names, key, (unsigned)(KEY_HEAD + len), n);
    *out = n;
    if (n)
        return 0;
    if (!has_room(uid))
        return QE_MFILE;
    n = calloc(1, sizeof *n + KEY_HEAD + len);
    if (!n || !usage_add(&users, uid, 1)) {
        free(n);
        return QE_NOMEM;
    }
    n->uid = uid;
    n->number = next_number++;
    n->view = view;
    n->parent = up;
    n->file = !strcmp(name, events_name);
    n->path_len = (up ? up->path_len + 1 : 0) + len;
    n->key_len = KEY_HEAD + len;
    memcpy(n->key, key, n->key_len);
    HASH_ADD(hh, nodes, number, sizeof n->number, n);
    HASH_ADD_KEYPTR(by_name, names, n->key, (unsigned)n->key_len, n);
    if (up)
        up->n_below++;
    *out = n;
    return 0;
}

/* ---- Names that nobody needs any more ----
 *
 * The kernel knows a name until it is short of memory, and any name can be looked up. So it is asked to forget those that have been known for
 * longest; what is open or has open names below it stays. */

static bool sweeping; /* FUSE loop only */

/* Nodes are in the order in which they were made, or looked at here: each once, and not too many while others wait for the loop. */
static void sweep_begin(struct fs *fs)
{
    size_t left = HASH_COUNT(nodes);
    struct sweep *s = left < nodes_max() / 4 ? NULL : sweep_new(&sweeping);
    struct watch_node *n, *tmp;
    const char *name;
    size_t len;

    if (!s)
        return;
    left = left < SWEEP_NODES ? left : SWEEP_NODES;
    HASH_ITER(hh, nodes, n, tmp) {
        if (left-- == 0)
            break;
        name = node_name(n, &len);
        if (!n->n_below)
            sweep_add(s, fs_node(n->view, n->parent ? n->parent->number : VIEW_ROOT), name, len);
        HASH_DEL(nodes, n); /* to the end of the order: it may be in use */
        HASH_ADD(hh, nodes, number, sizeof n->number, n);
    }
    sweep_start(fs, s);
}

static void watch_forget(struct fs *fs, fuse_ino_t node, uint64_t nlookup)
{
    struct watch_node *n = node_find(node);

    (void)fs;
    if (!n)
        return;
    n->nlookup -= nlookup < n->nlookup ? nlookup : n->nlookup;
    node_unused(n);
}

/* ---- Names --------------------------------------------------------------------------------------------------------------------- */

/* Timeouts are 0, and nothing is kept by the kernel but the node itself. */
static void fill(struct fs *fs, fuse_ino_t node, bool file, struct fuse_entry_param *e)
{
    control__entry_of(fs, node, file ? S_IFREG | 0444 : S_IFDIR | 0555, e);
    e->entry_timeout = e->attr_timeout = 0;
}

static bool is_revision(const char *name)
{
    size_t len = strspn(name, "0123456789");

    return len > 0 && len <= REV_DIGITS_MAX && name[len] == 0;
}

static int lookup_allowed(enum fs_view view, const struct watch_node *up, const char *name)
{
    if (strlen(name) > STORE_NAME_MAX)
        return QE_NAMETOOLONG;
    if (up && up->file)
        return QE_NOTDIR;
    if (view == FS_VIEW_SINCE && !up && !is_revision(name))
        return QE_NOENT;
    return (up ? up->path_len : 0) + 1 + strlen(name) > FEED_PATH_MAX ? QE_NAMETOOLONG : 0;
}

static void watch_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs *fs = fs_of(req);
    struct watch_node *up = node_find(parent), *n;
    struct fuse_entry_param e;
    int err;

    if (!name) {
        fill(fs, parent, false, &e);
        fuse_reply_entry(req, &e);
        return;
    }
    if (!up && fs_number_of(parent) != VIEW_ROOT)
        err = QE_STALE;
    else
        err = lookup_allowed(fs_view_of(parent), up, name);
    if (!err)
        err = node_for(fs_view_of(parent), up, name, fuse_req_ctx(req)->uid, &n);
    if (err) {
        fuse_reply_err(req, err == QE_MFILE ? ENFILE : fs_errno(err));
        sweep_begin(fs);
        return;
    }
    fill(fs, fs_node(n->view, n->number), n->file, &e);
    n->nlookup++;
    if (fuse_reply_entry(req, &e) == -ENOENT) /* the caller is gone: no FORGET will come */
        watch_forget(fs, e.ino, 1);
    sweep_begin(fs);
}

static void watch_getattr(fuse_req_t req, fuse_ino_t node)
{
    const struct watch_node *n = node_find(node);
    struct fuse_entry_param e;

    if (!n && fs_number_of(node) != VIEW_ROOT) {
        fuse_reply_err(req, ESTALE);
        return;
    }
    fill(fs_of(req), node, n && n->file, &e);
    fuse_reply_attr(req, &e.attr, 0);
}

/* ---- Streams ------------------------------------------------------------------------------------------------------------------- */

struct stream_read { /* a read that waits */
    struct stream_read *next;
    struct watch_stream *stream;
    fuse_req_t req;
    size_t size;
    bool interrupted;
};

struct watch_stream {
    struct feed_stream *feed;      /* owned; it points back by `stream` of struct feed_link */
    struct stream_read *reads;     /* owned; in order of arrival */
    struct fuse_pollhandle *ph;    /* owned; who polls; NULL */
    uid_t uid;
    bool ended;                    /* the end of the file was read */
    struct watch_stream *prev, *next;
};

struct feed_link { /* what is handed to the feed */
    struct feed_stream s;
    struct watch_stream *stream;
};

static struct watch_stream *streams; /* all that are open; FUSE loop only */
static bool look;                    /* a read was interrupted */

static void stream_serve(struct watch_stream *s);

static void on_ready(struct feed_stream *f)
{
    struct watch_stream *s = ((struct feed_link *)f)->stream;

    stream_serve(s);
    if (s->ph) /* kept: who waits for an edge does not ask again */
        fuse_lowlevel_notify_poll(s->ph);
}

/* libfuse calls this with locks of its own held: it only marks. */
static void on_interrupt(fuse_req_t req, void *data)
{
    struct stream_read *r = data;

    (void)req;
    r->interrupted = true;
    look = true;
}

static void read_end(struct stream_read **p)
{
    struct stream_read *r = *p;

    fuse_req_interrupt_func(r->req, NULL, NULL);
    *p = r->next;
    free(r);
}

/* Answers the reads that can be. */
static void stream_serve(struct watch_stream *s)
{
    while (s->reads) {
        struct stream_read *r = s->reads;
        struct fs *fs = fs_of(r->req);
        struct buf out = {0};
        fuse_req_t req = r->req;
        int err = feed_read(fs, s->feed, r->size, &out);

        if (!err && out.len == 0 && !feed_stopped(fs))
            return;
        read_end(&s->reads);
        s->ended = s->ended || (!err && out.len == 0);
        if (err)
            fuse_reply_err(req, fs_errno(err));
        else
            fuse_reply_buf(req, (const char *)out.data, out.len);
        buf_fini(&out);
    }
}

void watch_look(struct fs *fs)
{
    (void)fs;
    if (!look)
        return;
    look = false;
    for (struct watch_stream *s = streams; s; s = s->next)
        for (struct stream_read **p = &s->reads; *p;) {
            fuse_req_t req = (*p)->req;

            if (!(*p)->interrupted) {
                p = &(*p)->next;
                continue;
            }
            read_end(p);
            fuse_reply_err(req, EINTR);
        }
}

static void stream_close(struct fs *fs, struct watch_stream *s)
{
    if (s->prev)
        s->prev->next = s->next;
    else
        streams = s->next;
    if (s->next)
        s->next->prev = s->prev;
    while (s->reads) {
        fuse_reply_buf(s->reads->req, NULL, 0);
        read_end(&s->reads);
    }
    if (s->ph)
        fuse_pollhandle_destroy(s->ph);
    feed_close(fs, s->feed);
    free(s);
}

static size_t streams_of(uid_t uid)
{
    size_t n = 0;

    for (const struct watch_stream *s = streams; s; s = s->next)
        n += s->uid == uid;
    return n;
}

/* The path of the directory that has the file, and the revision of since/; -1 in watch/. */
static int stream_path(const struct watch_node *file, struct feed_filter *f, int64_t *after)
{
    const struct watch_node *top = file->parent, *stop = NULL;
    char *at;

    *after = -1;
    for (const struct watch_node *n = file->parent; n && file->view == FS_VIEW_SINCE; n = n->parent)
        if (!n->parent) { /* the revision */
            char digits[REV_DIGITS_MAX + 1] = "";
            size_t len;
            const char *name = node_name(n, &len);

            memcpy(digits, name, len);
            *after = strtoll(digits, NULL, 10);
            stop = n;
        }
    if (file->view == FS_VIEW_SINCE && !stop)
        return QE_NOENT; /* since/.events is of no revision */
    f->len = !top || top == stop ? 0 : top->path_len - (stop ? stop->path_len + 1 : 0);
    f->path = calloc(1, f->len + 1);
    if (!f->path)
        return QE_NOMEM;
    at = f->path + f->len;
    for (const struct watch_node *n = top; n && n != stop; n = n->parent) {
        size_t len;
        const char *name = node_name(n, &len);

        at -= len;
        memcpy(at, name, len);
        if (at > f->path)
            *--at = '/';
    }
    return 0;
}

static int stream_open(fuse_req_t req, const struct watch_node *file, struct watch_stream **out)
{
    struct fs *fs = fs_of(req);
    struct watch_stream *s = calloc(1, sizeof *s);
    struct feed_link *link = calloc(1, sizeof *link);
    int64_t after;
    int err = s && link ? stream_path(file, &link->s.filter, &after) : QE_NOMEM;

    if (!err)
        err = perm_of(req, &link->s.filter.who);
    if (!err) {
        link->s.ready = on_ready;
        link->stream = s;
        s->feed = &link->s;
        s->uid = fuse_req_ctx(req)->uid;
        err = feed_open(fs, s->feed, after);
    }
    if (err) {
        if (link) {
            free(link->s.filter.path);
            perm_fini(&link->s.filter.who);
        }
        free(link);
        free(s);
        return err;
    }
    s->next = streams;
    if (streams)
        streams->prev = s;
    streams = s;
    *out = s;
    return 0;
}

/* A revision that this member does not have yet may be one of another member. */
static bool is_ahead(fuse_req_t req, const struct watch_node *file)
{
    struct fs *fs = fs_of(req);
    struct feed_filter f = {0};
    struct store_glance g;
    int64_t after;
    int err = stream_path(file, &f, &after);

    free(f.path);
    replica_glance(fs->replica, &g);
    return !err && after > g.rev && replica_barrier_needed(fs->replica);
}

/* Replies: a stream. EACCES for writing; EISDIR; ERANGE: a revision of the future; ESTALE: compacted; EMFILE. */
static void watch_open_now(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    const struct watch_node *n = node_find(node);
    struct watch_stream *s;
    int err = 0;

    if (!n || !n->file)
        err = n || fs_number_of(node) == VIEW_ROOT ? QE_ISDIR : QE_STALE;
    else if ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC)
        err = QE_ACCES;
    else if (fs_of(req)->stopping)
        err = QE_SHUTDOWN;
    else if (streams_of(fuse_req_ctx(req)->uid) >= STREAMS_PER_UID)
        err = QE_MFILE;
    if (!err)
        err = stream_open(req, n, &s);
    if (err) {
        fuse_reply_err(req, fs_errno(err));
        return;
    }
    fi->fh = (uintptr_t)s;
    fi->direct_io = 1;
    fi->nonseekable = 1;
    if (device_reply_stream(req, fi) == -ENOENT) /* the caller is gone: no RELEASE will come */
        stream_close(fs_of(req), s);
}

static void watch_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    const struct watch_node *n = node_find(node);

    if (n && n->file && is_ahead(req, n))
        barrier_control_open(req, node, fi, watch_open_now);
    else
        watch_open_now(req, node, fi);
}

/* Replies: lines; nothing at the end, when the member stops; EAGAIN: nothing yet, with O_NONBLOCK; EINTR; ESTALE: the next events have
 * been compacted. */
static void watch_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct watch_stream *s = (struct watch_stream *)(uintptr_t)fi->fh;
    struct stream_read *r, **end = &s->reads;

    (void)node, (void)off;
    if (fi->flags & O_NONBLOCK && (s->reads || !feed_ready(fs_of(req), s->feed))) {
        fuse_reply_err(req, EAGAIN);
        return;
    }
    r = calloc(1, sizeof *r);
    if (!r) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    *r = (struct stream_read){.stream = s, .req = req, .size = size};
    while (*end)
        end = &(*end)->next;
    *end = r;
    stream_serve(s);
    for (r = s->reads; r && r->req != req; r = r->next)
        ;
    if (r) /* it waits */
        fuse_req_interrupt_func(req, on_interrupt, r);
}

static void watch_poll(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct fuse_pollhandle *ph)
{
    struct watch_stream *s = (struct watch_stream *)(uintptr_t)fi->fh;
    bool ready = feed_ready(fs_of(req), s->feed);

    (void)node;
    if (ph) {
        if (s->ph)
            fuse_pollhandle_destroy(s->ph);
        s->ph = ph;
    }
    fuse_reply_poll(req, ready ? POLLIN | POLLRDNORM | (s->feed->state == FEED_FAILED ? POLLERR : 0) : 0);
}

static void watch_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
    (void)node;
    stream_close(fs_of(req), (struct watch_stream *)(uintptr_t)fi->fh);
    fuse_reply_err(req, 0);
}

/* ---- The end ------------------------------------------------------------------------------------------------------------------- */

void watch_stop(struct fs *fs)
{
    feed_stop(fs);
    for (struct watch_stream *s = streams; s; s = s->next)
        on_ready(s->feed);
}

bool watch_in_use(struct fs *fs)
{
    (void)fs;
    for (const struct watch_stream *s = streams; s; s = s->next)
        if (s->ended || feed_amid(s->feed))
            return true;
    return false;
}

void watch_close(struct fs *fs)
{
    struct watch_node *n, *tmp;

    feed_end(fs);
    while (streams)
        stream_close(fs, streams);
    HASH_CLEAR(by_name, names);
    HASH_ITER(hh, nodes, n, tmp) {
        HASH_DEL(nodes, n);
        usage_drop(&users, n->uid, 1);
        free(n);
    }
}

const struct control_view control__watch_view = {
    .refusal = EPERM,
    .lookup = watch_lookup,
    .forget = watch_forget,
    .getattr = watch_getattr,
    .open = watch_open,
    .read = watch_read,
    .release = watch_release,
    .poll = watch_poll,
    .opendir = listing_open_empty,
    .readdir = listing_readdir,
    .releasedir = listing_releasedir,
};
