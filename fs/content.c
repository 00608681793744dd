#include "fs/content.h"

#include <stdlib.h>

#include "store/base/failpoint.h"

enum { CONTENT_BYTES_FEW = 1 << 20 /* for a failpoint */, CONTENT_SMALL = 4096 };

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
    atomic_fetch_sub(&c->fs->content_bytes, (int64_t)c->bytes.len);
    buf_fini(&c->bytes);
    free(c);
}

/* An empty one, not attached to an inode. NULL: no memory. */
static struct content *content_new(struct fs *fs)
{
    struct content *c = calloc(1, sizeof *c);

    if (c) {
        c->fs = fs;
        c->refs = 1;
    }
    return c;
}

/* One user can open as much as there may be. So root's programs have as much again as all others, and small files more than large ones. */
int content_admit(const struct fs *fs, size_t len, uid_t uid)
{
    int64_t max = FAILPOINT("fs.content.few") ? CONTENT_BYTES_FEW : CONTENT_BYTES_MAX;
    int64_t mine = uid == 0 ? max : len <= CONTENT_SMALL ? max / 4 * 3 : max / 2;

    return len && atomic_load(&fs->content_bytes) + (int64_t)len > mine ? QE_NOMEM : 0;
}

void content_count(struct fs *fs, size_t now, size_t *counted)
{
    atomic_fetch_add(&fs->content_bytes, (int64_t)now - (int64_t)*counted);
    *counted = now;
}

int content_load(struct fs *fs, struct inode *in, uid_t uid, struct content **out, struct store_attr *attr)
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
    c = content_new(fs);
    if (!c)
        return QE_NOMEM;
    err = store_content(fs->reader, STORE_HEAD, in->ino, &c->bytes, attr);
    if (!err)
        err = content_admit(fs, c->bytes.len, uid);
    if (err) {
        buf_fini(&c->bytes);
        free(c);
        return err;
    }
    atomic_fetch_add(&fs->content_bytes, (int64_t)c->bytes.len);
    c->id = attr->content;
    c->in = in;
    in->content = c;
    *out = c;
    return 0;
}

int64_t content_deleted_at(struct fs *fs, uint64_t ino, struct store_attr *attr)
{
    int64_t at;

    if (store_last_seen(fs->reader, ino, &at) || store_getattr(fs->reader, at, ino, attr))
        return 0;
    attr->nlink = 0;
    return at;
}

int content_load_deleted(struct fs *fs, const struct inode *in, uid_t uid, struct content **out, struct store_attr *attr)
{
    struct content *c = content_new(fs);
    int64_t at = c ? content_deleted_at(fs, in->ino, attr) : 0;
    int err = at ? store_content(fs->reader, at, in->ino, &c->bytes, attr) : c ? QE_NOENT : QE_NOMEM;

    if (!c)
        return err;
    if (!err)
        err = content_admit(fs, c->bytes.len, uid);
    if (err) {
        buf_fini(&c->bytes);
        free(c);
        return err;
    }
    atomic_fetch_add(&fs->content_bytes, (int64_t)c->bytes.len);
    c->id = attr->content;
    *out = c;
    return 0;
}
