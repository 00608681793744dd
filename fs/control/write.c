/* Control writes: the bytes of one write(2) are one or more lines, each a whole command; together they become one command of the
 * store, so that all take effect or none, and the answer to write(2) is theirs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/control/tree.h"
#include "fs/pending.h"

enum { WRITE_BYTES_MAX = 64 * 1024 };

/* Takes all lines; the last newline is optional. 0, QE_INVAL, QE_NOMEM, or what the file says. */
static int take_lines(struct fs *fs, const struct control_lines *to, const char *data, size_t size, struct control_command *cmd,
                      struct buf *why)
{
    char *text, *rest, *line;
    int err = 0;

    if (size > WRITE_BYTES_MAX || memchr(data, 0, size))
        return QE_INVAL;
    text = strndup(data, size);
    if (!text)
        return QE_NOMEM;
    if (size && text[size - 1] == '\n')
        text[size - 1] = 0;
    rest = text;
    while (!err && (line = strsep(&rest, "\n")))
        err = to->line(fs, to->data, line, cmd, why);
    free(text);
    return err;
}

/* Replies: the size; EACCES for a file that takes no commands; EINVAL and others from the file; what the store says. */
void control__write_lines(fuse_req_t req, const struct control_lines *to, const char *data, size_t size)
{
    struct fs *fs = fs_of(req);
    struct control_command taken = {0};
    struct buf why = {0};
    struct store_command cmd = {.ops = &taken.op, .n_ops = 1};
    struct pending_call call = {.req = req, .done = pending_done_write, .arg = size};
    int err = to->line ? take_lines(fs, to, data, size, &taken, &why) : QE_ACCES;

    if (!err && taken.op.kind)
        err = replica_writable(fs->replica);
    if (err) {
        log_warn("control", "a write was refused file=\"%s\" uid=%u: %s", to->file, (unsigned)fuse_req_ctx(req)->uid,
                 why.len ? buf_cstr(&why) : qfs_strerror(err));
        fuse_reply_err(req, fs_errno(err));
    } else if (taken.change) {
        control__change(fs, taken.change, taken.member, taken.role, &call);
    } else if (!taken.op.kind) {
        fuse_reply_write(req, size);
    } else {
        pending_submit(fs, &cmd, &call);
    }
    buf_fini(&taken.hold);
    buf_fini(&why);
}

static int row_line(struct fs *fs, void *data, const char *line, struct control_command *cmd, struct buf *why)
{
    const struct control_ref *ref = data;

    return ref->row->command(fs, ref->child, line, cmd, why);
}

void control__write(fuse_req_t req, const struct control_ref *ref, const char *data, size_t size)
{
    struct control_ref row = *ref;
    struct control_lines to = {.data = &row, .line = ref->row && ref->row->command ? row_line : NULL};
    char file[2 * STORE_NAME_MAX];

    snprintf(file, sizeof file, "%s%s%s", ref->row ? ref->row->name : "", ref->child ? "/" : "", ref->child ? ref->child : "");
    to.file = file;
    control__write_lines(req, &to, data, size);
}
