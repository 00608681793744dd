#include "replica/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "replica/segment.h"
#include "store/base/clock.h"
#include "store/base/err.h"

enum { LOCK_POLL_MS = 20, IDENTITY_MAX = 512, IDENTITY_FORMAT = 1 };

/* ---- Names and files ----------------------------------------------------------------------------------------------------- */

char *dir_join(const char *dir, const char *name)
{
    struct buf path = {0};

    if (buf_printf(&path, "%s/%s", dir, name))
        return NULL;
    return (char *)path.data;
}

int dir_init(struct dir *d, const char *path)
{
    d->lock_fd = -1;
    d->path = strdup(path);
    d->raft = d->path ? dir_join(path, "raft") : NULL;
    return d->raft ? 0 : QE_NOMEM;
}

void dir_fini(struct dir *d)
{
    if (d->lock_fd >= 0)
        close(d->lock_fd);
    d->lock_fd = -1;
    free(d->path);
    free(d->raft);
    d->path = d->raft = NULL;
}

int dir_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rv;

    if (fd < 0)
        return QE_IO;
    rv = fsync(fd);
    close(fd);
    return rv ? QE_IO : 0;
}

/* The parent is synced as well, else a crash of the machine takes the whole directory. */
int dir_make(const char *path, struct buf *why)
{
    struct buf parent = {0};
    char *slash;
    int err;

    if (mkdir(path, 0700) && errno != EEXIST) {
        buf_printf(why, "cannot make \"%s\": %s", path, strerror(errno));
        return errno == EACCES || errno == EPERM || errno == EROFS ? QE_ACCES : errno == ENOSPC ? QE_DISKFULL :
               errno == ENOENT || errno == ENOTDIR ? QE_NOENT : QE_IO;
    }
    err = buf_printf(&parent, "%s", path);
    slash = err ? NULL : strrchr((char *)parent.data, '/');
    if (slash)
        slash[slash == (char *)parent.data] = 0;
    if (!err && dir_sync(slash ? (char *)parent.data : ".")) {
        if (errno != EACCES) { /* a parent that may not be read cannot be synced; that is not worth refusing for */
            buf_printf(why, "cannot sync the directory of \"%s\": %s", path, strerror(errno));
            err = QE_IO;
        }
    }
    buf_fini(&parent);
    return err;
}

int64_t dir_free_bytes(const char *path, int64_t *size)
{
    struct statvfs st;

    if (statvfs(path, &st))
        return -1;
    if (size)
        *size = (int64_t)st.f_blocks * (int64_t)st.f_frsize;
    return (int64_t)st.f_bavail * (int64_t)st.f_frsize;
}

static int write_all(int fd, const void *data, size_t len)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return QE_IO;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Under a temporary name first, so that the name always has the whole content. */
int dir_write_file(const char *dir, const char *name, const void *data, size_t len, struct buf *why)
{
    char *path = dir_join(dir, name), *tmp = path ? malloc(strlen(path) + 5) : NULL;
    int fd = -1, err = QE_NOMEM;

    if (!tmp)
        goto out;
    sprintf(tmp, "%s.tmp", path);
    err = QE_IO;
    fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write_all(fd, data, len) || fsync(fd))
        goto out;
    if (close(fd)) {
        fd = -1;
        goto out;
    }
    fd = -1;
    if (rename(tmp, path) == 0)
        err = dir_sync(dir);
out:
    if (err) {
        buf_printf(why, "cannot write \"%s/%s\": %s", dir, name, err == QE_NOMEM ? "out of memory" : strerror(errno));
        err = err == QE_IO && (errno == ENOSPC || errno == EDQUOT) ? QE_DISKFULL : err;
    }
    if (fd >= 0)
        close(fd);
    if (err && tmp)
        unlink(tmp);
    free(path);
    free(tmp);
    return err;
}

int dir_read_file(const char *dir, const char *name, size_t max, struct buf *out)
{
    char *path = dir_join(dir, name);
    struct stat st;
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1, err = 0;

    if (!path)
        return QE_NOMEM;
    free(path);
    if (fd < 0)
        return errno == ENOENT ? QE_NOENT : QE_IO;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode))
        err = QE_IO;
    else if ((uint64_t)st.st_size > max)
        err = QE_RANGE;
    else
        err = buf_reserve(out, (size_t)st.st_size);
    for (size_t left = err ? 0 : (size_t)st.st_size; left > 0;) {
        ssize_t n = read(fd, out->data + out->len, left);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            err = n < 0 ? QE_IO : 0;
            break;
        }
        out->len += (size_t)n;
        left -= (size_t)n;
    }
    close(fd);
    return err;
}

/* ---- The lock ------------------------------------------------------------------------------------------------------------ */

static void name_holder(const struct dir *d, int fd, struct buf *why)
{
    char text[32] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    long pid = n > 0 ? strtol(text, NULL, 10) : 0;

    if (pid > 0)
        buf_printf(why, "\"%s\" is served by process %ld", d->path, pid);
    else
        buf_printf(why, "\"%s\" is in use by another process", d->path);
}

static int try_lock(int fd)
{
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    return errno == EWOULDBLOCK ? QE_LOCKED : QE_IO;
}

static int open_lock(const char *path, bool *made)
{
    int fd;

    do {
        *made = false;
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd >= 0 || errno != ENOENT)
            return fd;
        *made = true;
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    } while (fd < 0 && errno == EEXIST);
    return fd;
}

/* Whether the file that is open is the one that has the name: an init that failed takes its lock away. */
static bool is_at(const char *path, int fd)
{
    struct stat a, b;

    return stat(path, &a) == 0 && fstat(fd, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* The file, locked, or -1. */
static int take_lock(struct dir *d, const char *path, int64_t until, int *err, struct buf *why)
{
    const struct timespec pause = {0, LOCK_POLL_MS * 1000000};
    int fd;

    for (;;) {
        fd = open_lock(path, &d->lock_made);
        if (fd < 0) {
            buf_printf(why, "cannot open \"%s\": %s", path, strerror(errno));
            *err = errno == ENOENT ? QE_NOENT : errno == EACCES || errno == EROFS ? QE_ACCES : errno == ENOSPC ? QE_DISKFULL : QE_IO;
            return -1;
        }
        while ((*err = try_lock(fd)) == QE_LOCKED && clock_boottime_ns() < until)
            nanosleep(&pause, NULL);
        if (*err || is_at(path, fd))
            break;
        close(fd);
    }
    if (*err == QE_LOCKED)
        name_holder(d, fd, why);
    else if (*err)
        buf_printf(why, "cannot lock \"%s\": %s", path, strerror(errno));
    if (*err)
        close(fd);
    return *err ? -1 : fd;
}

int dir_lock(struct dir *d, int wait_ms, struct buf *why)
{
    char *path = dir_join(d->path, "lock"), text[32];
    int err = QE_NOMEM, n, fd = path ? take_lock(d, path, clock_boottime_ns() + (int64_t)wait_ms * 1000000, &err, why) : -1;

    free(path);
    if (fd < 0)
        return err;
    n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)n, 0) != n) { /* only a message lacks the number then */ }
    d->lock_fd = fd;
    return 0;
}

int dir_lock_readonly(struct dir *d, struct buf *why)
{
    char *path = dir_join(d->path, "lock");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1, err;

    free(path);
    if (fd < 0 && errno != ENOENT)
        buf_printf(why, "cannot open \"%s/lock\": %s", d->path, strerror(errno));
    if (fd < 0)
        return errno == ENOENT ? 0 : errno == EACCES ? QE_ACCES : QE_IO;
    err = try_lock(fd);
    if (err == QE_LOCKED)
        name_holder(d, fd, why);
    if (err)
        close(fd);
    else
        d->lock_fd = fd;
    return err;
}

/* ---- What is in DIR ------------------------------------------------------------------------------------------------------ */

/* The user's, or kept from one try to the next: neither makes a directory a member's. */
static bool is_neutral(const char *name)
{
    static const char *const neutral[] = {".", "..", "lock", "quorumfs.conf", "log", "lost+found"};

    for (size_t i = 0; i < sizeof neutral / sizeof *neutral; i++)
        if (strcmp(name, neutral[i]) == 0)
            return true;
    return false;
}

/* What init makes. */
static bool is_ours(const char *name)
{
    int consumed = 0;
    unsigned n;

    if (sscanf(name, "state-%u.db%n", &n, &consumed) == 1 && consumed > 0)
        return !name[consumed] || !strcmp(name + consumed, "-wal") || !strcmp(name + consumed, "-shm") ||
               !strcmp(name + consumed, "-journal") || !strcmp(name + consumed, ".tmp");
    return !strcmp(name, "raft") || !strcmp(name, DIR_OLD_LOG) || !strcmp(name, "CURRENT") || !strcmp(name, "CURRENT.tmp") || !strcmp(name, "ballast") ||
           !strcmp(name, "ballast.tmp") || !strcmp(name, "init") || !strcmp(name, "init.tmp");
}

enum replica_dir_state dir_state(const char *path, struct buf *what)
{
    DIR *d = opendir(path);
    bool init = false, ours = false, foreign = false;
    struct dirent *e;

    if (!d) {
        if (errno == ENOENT)
            return REPLICA_DIR_MISSING;
        if (what)
            buf_printf(what, "%s", path);
        return REPLICA_DIR_FOREIGN;
    }
    while ((e = readdir(d)) != NULL) {
        if (!strcmp(e->d_name, "init") || !strcmp(e->d_name, "init.tmp"))
            init = true;
        else if (is_ours(e->d_name))
            ours = true;
        else if (!is_neutral(e->d_name) && !foreign) {
            foreign = true;
            if (what)
                buf_printf(what, "%s/%s", path, e->d_name);
        }
    }
    closedir(d);
    if (ours && !init) {
        if (what)
            buf_clear(what);
        return REPLICA_DIR_READY; /* or what is left of one: a start says what is missing */
    }
    return foreign ? REPLICA_DIR_FOREIGN : REPLICA_DIR_EMPTY;
}

/* Removes the files of one directory that `mine` accepts (NULL: all). */
static int remove_files(const char *path, bool (*mine)(const char *name), struct buf *why)
{
    DIR *d = opendir(path);
    struct dirent *e;
    int err = 0;

    if (!d)
        return errno == ENOENT ? 0 : QE_IO;
    while (!err && (e = readdir(d)) != NULL) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || !strcmp(e->d_name, "raft") || !strcmp(e->d_name, DIR_OLD_LOG) ||
            !strcmp(e->d_name, "init"))
            continue;
        if (mine && !mine(e->d_name))
            continue;
        if (unlinkat(dirfd(d), e->d_name, 0)) {
            buf_printf(why, "cannot remove \"%s/%s\": %s", path, e->d_name, strerror(errno));
            err = QE_IO;
        }
    }
    closedir(d);
    return err;
}

int dir_remove_log(const char *raft_dir, struct buf *why)
{
    int err = remove_files(raft_dir, NULL, why);

    if (!err && rmdir(raft_dir) && errno != ENOENT) {
        buf_printf(why, "cannot remove \"%s\": %s", raft_dir, strerror(errno));
        err = QE_IO;
    }
    return err;
}

int dir_wipe(const struct dir *d, struct buf *why)
{
    char *old = dir_join(d->path, DIR_OLD_LOG);
    int err = old ? dir_remove_log(old, why) : QE_NOMEM;

    if (!err)
        err = dir_remove_log(d->raft, why);
    if (!err)
        err = remove_files(d->path, is_ours, why);
    free(old);
    return err;
}

void dir_unmake(const struct dir *d)
{
    struct buf ignored = {0};
    char *mark = dir_join(d->path, "init"), *lock = dir_join(d->path, "lock");

    if (mark && lock && dir_wipe(d, &ignored) == 0) {
        (void)unlink(mark);
        if (d->lock_made)
            (void)unlink(lock); /* who has it open already sees that it is another file */
        (void)dir_sync(d->path);
    }
    free(mark);
    free(lock);
    buf_fini(&ignored);
}

int dir_mark_init(const struct dir *d, bool on, struct buf *why)
{
    static const char text[] = "this directory is being made; what is in it can be thrown away\n";
    char *path;
    int err = 0;

    if (on)
        return dir_write_file(d->path, "init", text, sizeof text - 1, why);
    path = dir_join(d->path, "init");
    if (!path)
        return QE_NOMEM;
    if (unlink(path) || dir_sync(d->path)) {
        buf_printf(why, "cannot remove \"%s\": %s", path, strerror(errno));
        err = QE_IO;
    }
    free(path);
    return err;
}

/* ---- Identity ------------------------------------------------------------------------------------------------------------ */

/* raft/epoch is text: format, cluster id in hex, epoch, member, and the CRC of these lines. */
int dir_identity_write(const struct dir *d, const struct dir_identity *id, struct buf *why)
{
    struct buf text = {0};
    int err = buf_printf(&text, "quorumfs %d\ncluster ", IDENTITY_FORMAT);

    for (int i = 0; !err && i < STORE_CLUSTER_ID_SIZE; i++)
        err = buf_printf(&text, "%02x", id->cluster_id[i]);
    if (!err)
        err = buf_printf(&text, "\nepoch %" PRIu64 "\nmember %" PRIu32 "\n", id->epoch, id->member_id);
    if (!err)
        err = buf_printf(&text, "crc %08" PRIx32 "\n", segment_crc32(text.data, text.len, 0));
    if (!err)
        err = dir_write_file(d->raft, "epoch", text.data, text.len, why);
    buf_fini(&text);
    return err;
}

static int parse_identity(const char *text, size_t len, struct dir_identity *id)
{
    char hex[2 * STORE_CLUSTER_ID_SIZE + 1];
    uint32_t crc;
    int format, body = 0, end = 0;

    if (sscanf(text, "quorumfs %d", &format) == 1 && format > IDENTITY_FORMAT)
        return QE_FORMAT;
    if (sscanf(text, "quorumfs %d\ncluster %32[0-9a-f]\nepoch %" SCNu64 "\nmember %" SCNu32 "\n%ncrc %8" SCNx32 "\n%n", &format, hex,
               &id->epoch, &id->member_id, &body, &crc, &end) != 5 ||
        (size_t)end != len || strlen(hex) != sizeof hex - 1 || crc != segment_crc32(text, (size_t)body, 0))
        return QE_CORRUPT;
    for (int i = 0; i < STORE_CLUSTER_ID_SIZE; i++) {
        unsigned byte;

        sscanf(hex + 2 * i, "%2x", &byte);
        id->cluster_id[i] = (uint8_t)byte;
    }
    return 0;
}

int dir_identity_read(const struct dir *d, struct dir_identity *id, struct buf *why)
{
    struct buf text = {0};
    int err = dir_read_file(d->raft, "epoch", IDENTITY_MAX, &text);

    if (!err)
        err = parse_identity(buf_cstr(&text), text.len, id);
    buf_fini(&text);
    if (err == QE_FORMAT)
        buf_printf(why, "\"%s/epoch\" was written by a newer version: use that version", d->raft);
    else if (err == QE_NOENT)
        buf_printf(why, "\"%s/epoch\" is missing: " DIR_REMEDY, d->raft);
    else if (err)
        buf_printf(why, "\"%s/epoch\" is damaged: " DIR_REMEDY, d->raft);
    return err == QE_NOENT || err == QE_RANGE ? QE_CORRUPT : err;
}

/* ---- The ballast --------------------------------------------------------------------------------------------------------- */

/* Under a temporary name first: a ballast that is there is whole. */
int dir_ballast_make(const struct dir *d, uint64_t keep_free)
{
    char *path = dir_join(d->path, "ballast"), *tmp = dir_join(d->path, "ballast.tmp");
    struct stat st;
    int64_t have;
    int fd = -1, err = QE_NOMEM, rv;

    if (!path || !tmp)
        goto out;
    err = 0;
    if (stat(path, &st) == 0 && st.st_size >= DIR_BALLAST_BYTES)
        goto out;
    have = dir_free_bytes(d->path, NULL);
    err = QE_DISKFULL;
    if (have >= 0 && (uint64_t)have < keep_free + DIR_BALLAST_BYTES)
        goto out;
    fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    err = QE_IO;
    if (fd < 0)
        goto out;
    rv = posix_fallocate(fd, 0, DIR_BALLAST_BYTES);
    if (rv == 0 && fsync(fd) == 0 && rename(tmp, path) == 0)
        err = 0;
    else if (rv == ENOSPC)
        err = QE_DISKFULL;
out:
    if (fd >= 0)
        close(fd);
    if (err && tmp)
        unlink(tmp);
    free(path);
    free(tmp);
    return err;
}

bool dir_ballast_release(const struct dir *d)
{
    char *path = dir_join(d->path, "ballast");
    bool gone = path && unlink(path) == 0;

    free(path);
    return gone;
}
