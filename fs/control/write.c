/* Control writes: the bytes of one write(2) are one or more lines, each a whole command; all become one command of the store, so
 * that all take effect or none, and the answer to write(2) is theirs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/control/tree.h"
#include "fs/pending.h"

enum {
    WRITE_BYTES_MAX = 64 * 1024,
    WRITE_LINES_MAX = 256, /* operations of one command; people write one */
};

struct control_write { /* one write(2), taken apart */
    char *text;                       /* a copy of the bytes with NULs for newlines; owned */
    struct control_command *commands; /* owned */
    struct store_op *ops;             /* owned */
    size_t n;
};

static void write_fini(struct control_write *w)
{
    for (size_t i = 0; i < w->n; i++)
        buf_fini(&w->commands[i].hold);
    free(w->commands);
    free(w->ops);
    free(w->text);
}

/* Cuts the bytes into lines; the last newline is optional. 0, QE_INVAL, QE_NOMEM. */
static int write_split(struct control_write *w, const char *data, size_t size)
{
    size_t lines = 0;
    char *p;

    if (size > WRITE_BYTES_MAX || memchr(data, 0, size))
        return QE_INVAL;
    for (size_t i = 0; i < size; i++)
        lines += data[i] == '\n' || i + 1 == size;
    if (lines > WRITE_LINES_MAX)
        return QE_INVAL;
    w->text = strndup(data, size);
    w->commands = calloc(lines + 1, sizeof *w->commands);
    w->ops = calloc(lines + 1, sizeof *w->ops);
    if (!w->text || !w->commands || !w->ops)
        return QE_NOMEM;
    p = w->text;
    for (; w->n < lines; w->n++) {
        w->commands[w->n].text = p;
        p += strcspn(p, "\n");
        if (*p)
            *p++ = 0;
    }
    return 0;
}

/* Replies: the size; EINVAL and others from the row; what the store says. */
void control__write(fuse_req_t req, const struct control_ref *ref, const char *data, size_t size)
{
    struct fs *fs = fs_of(req);
    struct control_write w = {0};
    struct buf why = {0};
    struct store_command cmd = {0};
    struct pending_call call = {.req = req, .done = pending_done_write, .arg = size};
    int err = ref->row && ref->row->command ? write_split(&w, data, size) : QE_ACCES;

    for (size_t i = 0; !err && i < w.n; i++) {
        err = ref->row->command(fs, ref->child, &w.commands[i], &why);
        w.ops[i] = w.commands[i].op;
    }
    if (!err)
        err = replica_writable(fs->replica);
    if (err) {
        log_warn("control", "a write was refused file=\"%s%s%s\" uid=%u: %s", ref->row ? ref->row->name : "", ref->child ? "/" : "",
                 ref->child ? ref->child : "", (unsigned)fuse_req_ctx(req)->uid, why.len ? buf_cstr(&why) : qfs_strerror(err));
        fuse_reply_err(req, fs_errno(err));
    } else {
        cmd.ops = w.ops;
        cmd.n_ops = w.n;
        pending_submit(fs, &cmd, &call);
    }
    write_fini(&w);
    buf_fini(&why);
}
