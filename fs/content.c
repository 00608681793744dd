#include "fs/content.h"

#include <stdlib.h>

/* Detaches a content from its inode, so that the next reader loads. */
static void content_leave(struct content *c)
{
    if (c->in && c->in->content == c)
        c->in->content = NULL;
    c->in = NULL;
}

void content_unref(struct content *c)
{
    if (!c || --c->refs)
        return;
    content_leave(c);
    buf_fini(&c->bytes);
    free(c);
}

int content_load(struct fs *fs, struct inode *in, struct content **out, struct store_attr *attr)
{
    struct content *c = in->content;
    int err = 0;

    if (c) { /* is it still the current one? */
        err = store_getattr(fs->reader, STORE_HEAD, in->ino, attr);
        if (err)
            return err;
        if (attr->content == c->id) {
            c->refs++;
            *out = c;
            return 0;
        }
        content_leave(c);
    }
    c = calloc(1, sizeof *c);
    if (!c)
        return QE_NOMEM;
    err = store_content(fs->reader, STORE_HEAD, in->ino, &c->bytes, attr);
    if (err) {
        buf_fini(&c->bytes);
        free(c);
        return err;
    }
    c->id = attr->content;
    c->refs = 1;
    c->in = in;
    in->content = c;
    *out = c;
    return 0;
}
