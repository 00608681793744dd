#include "replica/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replica/dir.h"
#include "store/base/err.h"

int fetch_init(struct fetch *f, const char *dir, const uint8_t cluster_id[STORE_CLUSTER_ID_SIZE], uint64_t ticket)
{
    char *path;
    int err;

    *f = (struct fetch){.fd = -1, .ticket = ticket, .dir = strdup(dir)};
    memcpy(f->what.cluster_id, cluster_id, sizeof f->what.cluster_id);
    if (!f->dir)
        return QE_NOMEM;
    err = store_stage_name(dir, f->name);
    if (err)
        return err;
    store_stage_drop(dir, f->name); /* with what an interrupted one left beside it */
    path = dir_join(dir, f->name);
    if (!path)
        return QE_NOMEM;
    f->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    free(path);
    return f->fd >= 0 ? 0 : errno == ENOSPC ? QE_DISKFULL : QE_IO;
}

void fetch_fini(struct fetch *f, bool keep)
{
    if (f->fd >= 0)
        close(f->fd);
    if (!keep && f->dir && f->name[0])
        store_stage_drop(f->dir, f->name);
    free(f->dir);
    *f = (struct fetch){.fd = -1};
}

int fetch_info(struct fetch *f, const Qfs__CopyInfo *m)
{
    int rv;

    if (m->ticket != f->ticket || f->copy)
        return QE_AGAIN;
    if (m->err)
        return m->err;
    if (m->copy == 0 || m->bytes == 0 || m->bytes > INT64_MAX)
        return QE_CORRUPT;
    f->copy = m->copy;
    f->bytes = m->bytes;
    f->what.applied = m->applied;
    f->what.term = m->term;
    f->what.rev = m->rev;
    f->what.hash = m->hash;
    rv = posix_fallocate(f->fd, 0, (off_t)m->bytes);
    return rv == 0 || rv == EOPNOTSUPP || rv == EINVAL ? 0 : rv == ENOSPC ? QE_DISKFULL : QE_IO;
}

int fetch_piece(struct fetch *f, const Qfs__CopyPiece *m, const void *data, size_t len)
{
    const uint8_t *p = data;

    if (m->copy != f->copy || m->offset != f->have)
        return QE_AGAIN;
    if (m->err)
        return m->err;
    if (len == 0 || len > f->bytes - f->have)
        return QE_CORRUPT;
    while (len > 0) {
        ssize_t n = pwrite(f->fd, p, len, (off_t)f->have);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return errno == ENOSPC ? QE_DISKFULL : QE_IO;
        p += n;
        len -= (size_t)n;
        f->have += (uint64_t)n;
    }
    return 0;
}

bool fetch_done(const struct fetch *f)
{
    return f->copy != 0 && f->have == f->bytes;
}

int fetch_verify(struct fetch *f, uint64_t epoch, struct buf *why)
{
    if (fsync(f->fd)) {
        buf_printf(why, "cannot write \"%s/%s\": %s", f->dir, f->name, strerror(errno));
        return errno == ENOSPC ? QE_DISKFULL : QE_IO;
    }
    close(f->fd);
    f->fd = -1;
    return store_stage_verify(f->dir, f->name, &f->what, epoch, why);
}
