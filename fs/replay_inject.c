/* A socket for tests, in builds with failpoints: changes made through it are commands like any other, but watchers are to be told of them as
 * if another member had made them. QUORUMFS_TEST_INJECT names it. A datagram is a line of words, and is answered by one:
 *
 *     put P TEXT   append P TEXT   create P   mkdir P   symlink P TARGET   unlink P   rmdir P   rename P Q   exchange P Q
 *     chmod P MODE   touch P   setxattr P NAME VALUE      "REVISION", or "error: ..."; paths are relative to the root
 *     hold, go            from hold to go nothing is told, so that changes pile up
 *     lock P, unlock P    as if a local operation held the kernel's lock of P
 *     away, back          what is changed between the two is not seen by the replay, as if a database had been installed
 *     queued              how many changes wait to be told */
#include "fs/replay_parts.h"

#ifdef QFS_FAILPOINTS

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fs/pending.h"
#include "store/base/clock.h"

enum { LINE_MAX = 8192, WORDS = 4, AT_ONCE = 64 };

/* Who asked. */
struct asker {
    int fd;
    struct sockaddr_un addr;
    socklen_t len;
};

static void answer(const struct asker *a, int err, int64_t n)
{
    char text[128];
    int len = err ? snprintf(text, sizeof text, "error: %s", qfs_strerror(err)) : snprintf(text, sizeof text, "%lld", (long long)n);

    sendto(a->fd, text, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&a->addr, a->len);
}

static void settled(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    (void)fs, (void)req, (void)ino;
    answer(data, err, rev);
    free(data);
}

/* The directory of a path, and its last name. */
static int find_parent(struct fs *fs, const char *path, uint64_t *parent, const char **name)
{
    struct store_attr attr = {.ino = STORE_ROOT_INO};
    const char *slash;
    int err = 0;

    while (!err && (slash = strchr(path, '/'))) {
        err = store_lookup(fs->reader, STORE_HEAD, attr.ino, path, (size_t)(slash - path), &attr);
        path = slash + 1;
    }
    *parent = attr.ino;
    *name = strcmp(path, ".") ? path : "";
    return err;
}

static int find_ino(struct fs *fs, const char *path, uint64_t *ino)
{
    struct store_attr attr;
    uint64_t parent;
    const char *name;
    int err = find_parent(fs, path, &parent, &name);

    *ino = parent;
    if (err || !*name)
        return err;
    err = store_lookup(fs->reader, STORE_HEAD, parent, name, strlen(name), &attr);
    *ino = attr.ino;
    return err;
}

static int set_name(struct fs *fs, struct store_op *op, const char *path)
{
    const char *name;
    int err = find_parent(fs, path, &op->parent, &name);

    op->name = (struct store_bytes){name, strlen(name)};
    return err;
}

static int set_name2(struct fs *fs, struct store_op *op, const char *path)
{
    const char *name;
    int err = find_parent(fs, path, &op->parent2, &name);

    op->name2 = (struct store_bytes){name, strlen(name)};
    return err;
}

static const struct {
    const char *word;
    enum store_op_kind kind;
} verbs[] = {
    {"put", STORE_OP_COMMIT},     {"append", STORE_OP_COMMIT},  {"create", STORE_OP_CREATE},   {"mkdir", STORE_OP_MKDIR},
    {"symlink", STORE_OP_SYMLINK}, {"unlink", STORE_OP_UNLINK}, {"rmdir", STORE_OP_RMDIR},     {"rename", STORE_OP_RENAME},
    {"exchange", STORE_OP_RENAME}, {"chmod", STORE_OP_SETATTR}, {"touch", STORE_OP_SETATTR}, {"setxattr", STORE_OP_SETXATTR},
};

/* Fills in what the verb needs; `edits` has room for two. */
static int make_op(struct fs *fs, char *w[WORDS], struct store_op *op, struct store_edit *edits)
{
    switch (op->kind) {
    case STORE_OP_COMMIT:
        edits[0] = (struct store_edit){.kind = STORE_EDIT_TRUNCATE};
        edits[1] = (struct store_edit){.kind = STORE_EDIT_APPEND, .bytes = {w[2], strlen(w[2])}};
        op->edits = *w[0] == 'a' ? edits + 1 : edits;
        op->n_edits = *w[0] == 'a' ? 1 : 2;
        op->mode = 0644;
        op->new_ino = replica_new_ino(fs->replica, STORE_FILE);
        return set_name(fs, op, w[1]);
    case STORE_OP_CREATE:
        op->mode = 0644;
        op->new_ino = replica_new_ino(fs->replica, STORE_FILE);
        return set_name(fs, op, w[1]);
    case STORE_OP_MKDIR:
        op->mode = 0755;
        op->new_ino = replica_new_ino(fs->replica, STORE_DIR);
        return set_name(fs, op, w[1]);
    case STORE_OP_SYMLINK:
        op->bytes = (struct store_bytes){w[2], strlen(w[2])};
        op->new_ino = replica_new_ino(fs->replica, STORE_SYMLINK);
        return set_name(fs, op, w[1]);
    case STORE_OP_RENAME:
        op->flags = *w[0] == 'e' ? STORE_RENAME_EXCHANGE : 0;
        return set_name(fs, op, w[1]) || set_name2(fs, op, w[2]) ? QE_NOENT : 0;
    case STORE_OP_SETATTR:
        op->valid = *w[0] == 'c' ? STORE_ATTR_MODE : STORE_ATTR_MTIME;
        op->mode = (uint32_t)strtoul(w[2], NULL, 8);
        op->mtime_ns = clock_realtime_ns();
        return find_ino(fs, w[1], &op->ino);
    case STORE_OP_SETXATTR:
        op->name = (struct store_bytes){w[2], strlen(w[2])};
        op->bytes = (struct store_bytes){w[3], strlen(w[3])};
        return find_ino(fs, w[1], &op->ino);
    default: return set_name(fs, op, w[1]);
    }
}

static int submit(struct fs *fs, char *w[WORDS], const struct asker *a)
{
    struct store_op op = {0};
    struct store_edit edits[2];
    struct store_command cmd = {.ops = &op, .n_ops = 1, .comm = "inject"};
    struct pending_call call = {.settle = settled, .injected = true, .wake = true};
    size_t i = 0;
    int err;

    while (i < sizeof verbs / sizeof *verbs && strcmp(verbs[i].word, w[0]))
        i++;
    if (i == sizeof verbs / sizeof *verbs)
        return QE_INVAL;
    op.kind = verbs[i].kind;
    err = make_op(fs, w, &op, edits);
    call.data = err ? NULL : malloc(sizeof *a);
    if (!call.data)
        return err ? err : QE_NOMEM;
    memcpy(call.data, a, sizeof *a);
    pending_submit(fs, &cmd, &call);
    return 0;
}

static void do_line(struct replay *r, char *line, const struct asker *a)
{
    char *w[WORDS] = {"", "", "", ""}, *rest = line;
    uint64_t ino;
    int err = 0;

    for (int i = 0; i < WORDS && rest; i++)
        w[i] = i == 2 && (*w[0] == 'p' || *w[0] == 'a') ? rest : strsep(&rest, " ");
    if (!strcmp(w[0], "hold") || !strcmp(w[0], "go")) {
        r->held = *w[0] == 'h';
        answer(a, 0, 0);
    } else if (!strcmp(w[0], "away") || !strcmp(w[0], "back")) {
        struct store_glance g;

        replica_glance(r->fs->replica, &g);
        pthread_mutex_lock(&r->lock);
        r->accepting = *w[0] == 'b';
        pthread_mutex_unlock(&r->lock);
        if (*w[0] == 'b')
            replay_installed(r->fs, g.rev);
        answer(a, 0, 0);
    } else if (!strcmp(w[0], "lock") || !strcmp(w[0], "unlock")) {
        err = find_ino(r->fs, w[1], &ino);
        if (!err)
            (*w[0] == 'l' ? replay_queue_hold : replay_queue_let_go)(&r->queue, ino);
        answer(a, err, 0);
    } else if (!strcmp(w[0], "queued")) {
        answer(a, 0, (int64_t)(r->queue.n + r->crew.n_busy + (atomic_load(&r->mail_bytes) > 0) + r->behind + r->stock_due + (r->stock != NULL)));
    } else {
        err = submit(r->fs, w, a);
        if (err)
            answer(a, err, 0);
    }
}

int replay__inject_open(struct replay *r)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct epoll_event ev = {.events = EPOLLIN};
    const char *path = getenv("QUORUMFS_TEST_INJECT");

    if (!path)
        return 0;
    unlink(path);
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    r->inject = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (r->inject < 0 || bind(r->inject, (struct sockaddr *)&addr, sizeof addr) || epoll_ctl(r->poll, EPOLL_CTL_ADD, r->inject, &ev))
        return QE_IO;
    r->fs->uncached = true;
    return 0;
}

void replay__inject_look(struct replay *r)
{
    char line[LINE_MAX];

    for (int i = 0; r->inject >= 0 && r->running && i < AT_ONCE; i++) {
        struct asker a = {.fd = r->inject, .len = sizeof a.addr};
        ssize_t n = recvfrom(r->inject, line, sizeof line - 1, 0, (struct sockaddr *)&a.addr, &a.len);

        if (n <= 0)
            return;
        line[n] = 0;
        do_line(r, line, &a);
    }
}

void replay__inject_close(struct replay *r)
{
    if (r->inject >= 0)
        close(r->inject);
}

#else

int replay__inject_open(struct replay *r)
{
    (void)r;
    return 0;
}

void replay__inject_look(struct replay *r)
{
    (void)r;
}

void replay__inject_close(struct replay *r)
{
    (void)r;
}

#endif
