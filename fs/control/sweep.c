#include "fs/control/sweep.h"

#include <stdlib.h>

#include "fs/work.h"

struct sweep_name {
    fuse_ino_t parent;
    size_t at, len; /* in `text`, with a NUL behind it */
};

struct sweep {
    bool *running;
    struct buf names; /* of struct sweep_name */
    struct buf text;
};

struct sweep *sweep_new(bool *running)
{
    struct sweep *s = *running ? NULL : calloc(1, sizeof *s);

    if (s) {
        s->running = running;
        *running = true;
    }
    return s;
}

void sweep_add(struct sweep *s, fuse_ino_t parent, const char *name, size_t len)
{
    const struct sweep_name n = {.parent = parent, .at = s->text.len, .len = len};

    if (!buf_append(&s->text, name, len) && !buf_append(&s->text, "", 1))
        (void)buf_append(&s->names, &n, sizeof n);
}

/* A worker: the kernel locks the directory, in which somebody may wait for the loop. */
static int sweep_run(struct fs *fs, struct store_reader *reader, void *data)
{
    const struct sweep *s = data;

    (void)reader;
    for (size_t i = 0; i < s->names.len / sizeof(struct sweep_name) && !work_stopping(fs); i++) {
        const struct sweep_name *n = (const struct sweep_name *)(const void *)s->names.data + i;

        fuse_lowlevel_notify_inval_entry(fs->se, n->parent, (const char *)s->text.data + n->at, n->len);
    }
    return 0;
}

static void sweep_end(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct sweep *s = data;

    (void)fs, (void)req, (void)err, (void)rev, (void)ino;
    *s->running = false;
    buf_fini(&s->names);
    buf_fini(&s->text);
    free(s);
}

void sweep_start(struct fs *fs, struct sweep *s)
{
    work_start(fs, sweep_run, &(struct pending_call){.settle = sweep_end, .data = s});
}
