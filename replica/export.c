/* Copies of the database for backups and for new members: the store thread begins one, the caller's thread copies. */
#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "replica/member.h"
#include "store/base/clock.h"

enum { PAUSE_MS = 10, TRIES = 3, EXPORT_SPARE_BYTES = 64 << 20 };
static const int64_t BEGIN_NS = INT64_C(10) * 1000000000; /* a reader or an older copy is waited for */

static void pause_a_moment(void)
{
    const struct timespec t = {0, PAUSE_MS * 1000000L};

    nanosleep(&t, NULL);
}

static int begin(struct replica *r, struct store_export *x, bool (*go_on)(void *), void *data)
{
    int64_t until = clock_boottime_ns() + BEGIN_NS;
    int err;

    do {
        struct applier_sync sync = {.export = x};
        struct applier_item item = {.kind = APPLIER_EXPORT, .sync = &sync};

        err = go_on && !go_on(data) ? QE_SHUTDOWN : applier_push(r, &item);
        if (!err)
            err = applier_wait_sync(r, &sync);
        if (err == QE_AGAIN)
            pause_a_moment();
    } while (err == QE_AGAIN && clock_boottime_ns() < until);
    return err == QE_AGAIN ? QE_BUSY : err;
}

/* A copy must not take the room that the member itself needs: the log and the WAL grow meanwhile. */
static int make_room(int fd, int64_t bytes)
{
    struct statvfs fs;

    if (fstatvfs(fd, &fs) || fs.f_blocks == 0)
        return 0; /* no file: a pipe, a socket */
    if ((int64_t)(fs.f_bavail * fs.f_frsize) < bytes + EXPORT_SPARE_BYTES)
        return QE_DISKFULL;
    if (fallocate(fd, 0, 0, bytes) && errno == ENOSPC)
        return QE_DISKFULL;
    return 0;
}

static void end(struct replica *r, const struct store_export *x)
{
    struct applier_item item = {.kind = APPLIER_EXPORT_END};

    store_export_end(r->store, x);
    (void)applier_push(r, &item); /* a checkpoint may be due; without this it comes with the next write */
}

int replica_export(struct replica *r, int fd, bool (*go_on)(void *data), void *data, struct store_export *out)
{
    int err;

    for (int i = 0; i < TRIES; i++) {
        err = begin(r, out, go_on, data);
        if (err)
            return err;
        err = make_room(fd, out->bytes);
        if (!err)
            err = store_export_copy(r->store, out, fd, go_on, data);
        end(r, out);
        if (err != QE_AGAIN || ftruncate(fd, 0) || lseek(fd, 0, SEEK_SET))
            break;
    }
    return err == QE_AGAIN ? QE_BUSY : err;
}
