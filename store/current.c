/* DIR/CURRENT: which database file is the store.
 *
 *     quorumfs current 1
 *     name state-1.db
 *     installed_at 0
 *     epoch 1234
 *     check 89abcdef          CRC32C, hexadecimal, of the lines above
 *
 * It is replaced by rename, so a reader sees the old or the new one, whole. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/base/crc32c.h"
#include "store/internal.h"

enum { CURRENT_SIZE_MAX = 1024 };

char *path_join(const char *dir, const char *name)
{
    char *path;

    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

int why_set(struct buf *why, int err, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    if (!why)
        return err;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    buf_clear(why);
    (void)buf_printf(why, "%s", text);
    return err;
}

static int errno_code(int e)
{
    switch (e) {
    case ENOSPC:
    case EDQUOT: return QE_DISKFULL;
    case ENOMEM: return QE_NOMEM;
    default: return QE_IO;
    }
}

static int read_small(const char *path, char text[CURRENT_SIZE_MAX + 1], size_t *len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;
    ssize_t n;

    *len = 0;
    if (fd < 0)
        return errno == ENOENT ? QE_NOCLUSTER : errno_code(errno);
    while ((n = read(fd, text + *len, CURRENT_SIZE_MAX - *len)) > 0)
        *len += (size_t)n;
    if (n < 0)
        err = errno_code(errno);
    close(fd);
    text[*len] = 0;
    return err;
}

static bool parse(const char *text, size_t len, struct current *out)
{
    uint32_t check;
    int at = 0, end = 0;

    if (strlen(text) != len)
        return false;
    if (sscanf(text, "quorumfs current 1\nname %63[A-Za-z0-9.-]\ninstalled_at %" SCNu64 "\nepoch %" SCNu64 "\n%ncheck %8" SCNx32 "%n", out->name,
               &out->installed_at, &out->epoch, &at, &check, &end) != 4 || end == 0)
        return false;
    return (size_t)end + 1 == len && text[end] == '\n' && crc32c(0, text, (size_t)at) == check && out->name[0] != '.';
}

int current_read(const char *dir, struct current *out, struct buf *why)
{
    char *path = path_join(dir, "CURRENT"), text[CURRENT_SIZE_MAX + 1];
    size_t len;
    int err;

    if (!path)
        return QE_NOMEM;
    err = read_small(path, text, &len);
    if (err == QE_NOCLUSTER)
        why_set(why, err, "there is no cluster in \"%s\": it has no file CURRENT", dir);
    else if (err)
        why_set(why, err, "cannot read \"%s\": %s", path, strerror(errno));
    else if (!parse(text, len, out))
        err = why_set(why, QE_CORRUPT, "\"%s\" is damaged", path);
    free(path);
    return err;
}

static int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), err = 0;
    size_t len = strlen(text), done = 0;

    if (fd < 0)
        return errno_code(errno);
    while (!err && done < len) {
        ssize_t n = write(fd, text + done, len - done);

        if (n < 0)
            err = errno_code(errno);
        else
            done += (size_t)n;
    }
    if (!err && fsync(fd))
        err = errno_code(errno);
    if (close(fd) && !err)
        err = errno_code(errno);
    return err;
}

int dir_sync_of(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;

    if (fd < 0)
        return errno_code(errno);
    if (fsync(fd))
        err = errno_code(errno);
    close(fd);
    return err;
}

int current_write(const char *dir, const struct current *cur, struct buf *why)
{
    char *path = path_join(dir, "CURRENT"), *tmp = path_join(dir, "CURRENT.tmp");
    struct buf text = {0};
    int err = path && tmp ? 0 : QE_NOMEM;

    if (!err)
        err = buf_printf(&text, "quorumfs current 1\nname %s\ninstalled_at %" PRIu64 "\nepoch %" PRIu64 "\n", cur->name, cur->installed_at, cur->epoch);
    if (!err)
        err = buf_printf(&text, "check %08" PRIx32 "\n", crc32c(0, text.data, text.len));
    if (!err)
        err = write_file(tmp, buf_cstr(&text));
    if (!err && rename(tmp, path))
        err = errno_code(errno);
    if (!err)
        err = dir_sync_of(dir);
    if (err)
        why_set(why, err, "cannot write \"%s/CURRENT\": %s", dir, strerror(errno));
    buf_fini(&text);
    free(tmp);
    free(path);
    return err;
}
