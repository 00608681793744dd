#include "fs/preflight.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/base/err.h"
#include "store/base/log.h"

enum {
    LINKS_MAX = 40,       /* symbolic links on the way to a mount point; the kernel's own limit */
    PROBE_WAIT_MS = 3000, /* how long a mount may take to answer before it counts as alive but stuck */
    CAP_SYS_ADMIN_BIT = 21,
};
#define OUR_TYPE "fuse.quorumfs"

/* ---- Paths ------------------------------------------------------------------------------------------------------------------ */

/* realpath of all but the last component. The last one is not looked at: it may be missing, or a mount that does not answer. */
static int resolve_parent(const char *path, char out[PATH_MAX], struct buf *why)
{
    char copy[PATH_MAX], *slash, *name;
    size_t len = strlen(path);

    if (len >= sizeof copy) {
        buf_printf(why, "path \"%.40s...\" is too long", path);
        return QE_NAMETOOLONG;
    }
    memcpy(copy, path, len + 1);
    while (len > 1 && copy[len - 1] == '/')
        copy[--len] = 0;
    slash = strrchr(copy, '/');
    name = slash ? slash + 1 : copy;
    if (!*name || !strcmp(name, ".") || !strcmp(name, "..")) { /* no name of its own: it is there, or the path is wrong */
        if (realpath(copy, out))
            return 0;
        goto bad;
    }
    if (slash && slash > copy)
        *slash = 0;
    if (!realpath(!slash ? "." : slash == copy ? "/" : copy, out))
        goto bad;
    len = strlen(out);
    if (snprintf(out + len, PATH_MAX - len, "%s%s", len > 1 ? "/" : "", name) >= (int)(PATH_MAX - len)) {
        errno = ENAMETOOLONG;
        goto bad;
    }
    return 0;
bad:
    buf_printf(why, "cannot reach \"%s\": %s", path, strerror(errno));
    return QE_NOENT;
}

static int replace_path(char **path, const char *with, struct buf *why)
{
    char *copy = strdup(with);

    if (!copy) {
        buf_printf(why, "out of memory");
        return QE_NOMEM;
    }
    free(*path);
    *path = copy;
    return 0;
}

int preflight_dir(char **path, struct buf *why)
{
    char parent[PATH_MAX], real[PATH_MAX];
    struct stat st;
    int err;

    if (realpath(*path, real)) {
        if (stat(real, &st) || !S_ISDIR(st.st_mode)) {
            buf_printf(why, "\"%s\" is not a directory", *path);
            return QE_NOTDIR;
        }
        return replace_path(path, real, why);
    }
    if (errno != ENOENT) {
        buf_printf(why, "cannot reach \"%s\": %s", *path, strerror(errno));
        return QE_NOENT;
    }
    err = resolve_parent(*path, parent, why);
    if (err)
        return err;
    if (!lstat(parent, &st)) {
        buf_printf(why, "\"%s\" is a symbolic link to nothing", *path);
        return QE_NOENT;
    }
    return replace_path(path, parent, why);
}

/* ---- Mount points ------------------------------------------------------------------------------------------------------------ */

/* Undoes the octal escapes of /proc/self/mountinfo, in place. */
static void unescape(char *s)
{
    char *to = s;

    for (; *s; s++) {
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' && s[3] <= '7') {
            *to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
            s += 3;
        } else {
            *to++ = *s;
        }
    }
    *to = 0;
}

struct mount_line { /* of /proc/self/mountinfo; borrowed from it */
    const char *point;
    unsigned major, minor;
    char type[64];
};

static bool parse_mount(char *line, struct mount_line *m)
{
    char *point = line, *sep = strstr(line, " - "), *end;

    if (sscanf(line, "%*d %*d %u:%u", &m->major, &m->minor) != 2)
        return false;
    for (int i = 0; i < 4 && point; i++) { /* id, parent, major:minor and root come before the mount point */
        point = strchr(point, ' ');
        point = point ? point + 1 : NULL;
    }
    end = point ? strchr(point, ' ') : NULL;
    if (!end || !sep)
        return false;
    snprintf(m->type, sizeof m->type, "%.*s", (int)strcspn(sep + 3, " \n"), sep + 3);
    *end = 0;
    unescape(point);
    m->point = point;
    return true;
}

/* Each mount, in order, until the callback says that it is enough. */
static int each_mount(bool (*cb)(void *data, const struct mount_line *m), void *data)
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    struct mount_line m;
    bool enough = false;
    char *line = NULL;
    size_t size = 0;

    if (!f)
        return QE_IO;
    while (!enough && getline(&line, &size, f) > 0)
        enough = parse_mount(line, &m) && cb(data, &m);
    free(line);
    fclose(f);
    return 0;
}

struct at { const char *path; char *type; };

static bool note_type(void *data, const struct mount_line *m)
{
    struct at *at = data;

    if (!strcmp(m->point, at->path))
        snprintf(at->type, 64, "%s", m->type);
    return false; /* a later one lies on it */
}

/* The type of the topmost mount at exactly this path, "" for none. mountinfo is read because a stat could wait for ever. */
static int mount_type_at(const char *path, char type[64])
{
    struct at at = {path, type};

    type[0] = 0;
    return each_mount(note_type, &at);
}

/* Asks a mount for its root's attributes in a child, which may be left behind: a daemon that is stopped does not answer.
 * Returns 0 alive, ENOTCONN dead, ETIMEDOUT no answer, or another errno. */
static int probe_mount(const char *path)
{
    int ends[2], err = ETIMEDOUT;
    struct pollfd p;
    unsigned char answer;
    pid_t child;

    if (pipe2(ends, O_CLOEXEC))
        return errno;
    child = fork();
    if (child == 0) {
        struct statx st;

        /* Of a mount whose daemon has died the kernel goes on telling what it keeps, for some seconds, unless it has to ask. */
        answer = statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &st) ? (unsigned char)errno : 0;
        _exit(write(ends[1], &answer, 1) != 1);
    }
    close(ends[1]);
    p = (struct pollfd){.fd = ends[0], .events = POLLIN};
    if (child > 0 && poll(&p, 1, PROBE_WAIT_MS) == 1 && read(ends[0], &answer, 1) == 1)
        err = answer;
    close(ends[0]);
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, err == ETIMEDOUT ? WNOHANG : 0);
    }
    return err;
}

/* Takes a dead mount away, as root by itself, else by the helper that made it. */
static int unmount_dead(const char *path, struct buf *why)
{
    int status = 0;
    pid_t child;

    if (umount2(path, MNT_DETACH) == 0)
        return 0;
    child = fork();
    if (child == 0) {
        execlp("fusermount3", "fusermount3", "-uz", "--", path, (char *)NULL);
        _exit(127);
    }
    if (child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    buf_printf(why, "a mount whose daemon died is on \"%s\" and cannot be taken away: run umount -l on it", path);
    return QE_BUSY;
}

/* Dead mounts can lie on each other; one is taken away in each round. */
static int clear_mount(const char *path, struct buf *why)
{
    char type[64];
    int err;

    for (int i = 0; i < LINKS_MAX; i++) {
        if (mount_type_at(path, type)) {
            buf_printf(why, "cannot read /proc/self/mountinfo: %s", strerror(errno));
            return QE_IO;
        }
        if (strcmp(type, OUR_TYPE))
            return 0;
        err = probe_mount(path);
        if (err != ENOTCONN) {
            buf_printf(why, err == ETIMEDOUT ? "\"%s\" is busy: a quorumfs that does not answer is mounted there"
                                             : "\"%s\" is busy: a quorumfs is mounted there already", path);
            return QE_BUSY;
        }
        err = unmount_dead(path, why);
        if (err)
            return err;
        log_info("mount", "took away the mount of a daemon that died path=\"%s\"", path);
    }
    buf_printf(why, "too many dead mounts on \"%s\"", path);
    return QE_BUSY;
}

int preflight_mountpoint(char **path, struct buf *why)
{
    char real[PATH_MAX], target[PATH_MAX], type[64];
    struct stat st;
    ssize_t n;
    int err;

    for (int i = 0; i < LINKS_MAX; i++) {
        err = resolve_parent(*path, real, why);
        if (!err && (mount_type_at(real, type) || !strcmp(type, OUR_TYPE)))
            err = clear_mount(real, why);
        if (err)
            return err;
        if (lstat(real, &st)) {
            buf_printf(why, errno == ENOENT ? "mount point \"%s\" does not exist%.0s" : "cannot reach mount point \"%s\": %s", *path,
                       strerror(errno));
            return QE_NOENT;
        }
        if (S_ISDIR(st.st_mode))
            return replace_path(path, real, why);
        if (!S_ISLNK(st.st_mode)) {
            buf_printf(why, "mount point \"%s\" is not a directory", *path);
            return QE_NOTDIR;
        }
        n = readlink(real, target, sizeof target - 1);
        if (n <= 0)
            break;
        target[n] = 0;
        if (target[0] != '/') { /* relative to the directory that the link is in */
            char *slash = strrchr(real, '/');

            if ((size_t)(slash - real) + 1 + (size_t)n >= sizeof real)
                break;
            memcpy(slash + 1, target, (size_t)n + 1);
            memcpy(target, real, strlen(real) + 1);
        }
        err = replace_path(path, target, why);
        if (err)
            return err;
    }
    buf_printf(why, "cannot reach mount point \"%s\": too many symbolic links", *path);
    return QE_LOOP;
}

/* ---- DIR and MOUNTPOINT -------------------------------------------------------------------------------------------------------- */

static bool is_below(const char *path, const char *top)
{
    size_t n = strlen(top);

    if (!strcmp(top, "/"))
        return true;
    return !strncmp(path, top, n) && (path[n] == '/' || !path[n]);
}

int preflight_apart(const char *dir, const char *mountpoint, struct buf *why)
{
    if (!strcmp(dir, mountpoint))
        buf_printf(why, "data directory and mount point are the same: \"%s\"", dir);
    else if (is_below(mountpoint, dir))
        buf_printf(why, "mount point \"%s\" lies below data directory \"%s\"", mountpoint, dir);
    else if (is_below(dir, mountpoint))
        buf_printf(why, "data directory \"%s\" lies below mount point \"%s\"", dir, mountpoint);
    else
        return 0;
    return QE_INVAL;
}

struct on { dev_t dev; char point[PATH_MAX]; };

static bool note_ours(void *data, const struct mount_line *m)
{
    struct on *on = data;

    if (strcmp(m->type, OUR_TYPE) || makedev(m->major, m->minor) != on->dev)
        return false;
    snprintf(on->point, sizeof on->point, "%s", m->point);
    return true;
}

/* A part of a mount may be bound to another place: what counts is the file system. */
int preflight_elsewhere(const char *dir, struct buf *why)
{
    char parent[PATH_MAX];
    struct on on = {0};
    struct stat st;

    snprintf(parent, sizeof parent, "%s", dir);
    if (stat(dir, &st) && (errno != ENOENT || stat(dirname(parent), &st))) {
        buf_printf(why, "cannot reach \"%s\": %s", dir, strerror(errno));
        return QE_NOENT;
    }
    on.dev = st.st_dev;
    if (each_mount(note_ours, &on) || !on.point[0])
        return 0;
    buf_printf(why, "data directory \"%s\" lies on the quorumfs that is mounted on \"%s\": it would wait for itself", dir, on.point);
    return QE_INVAL;
}

int preflight_writable(const char *dir, struct buf *why)
{
    if (!faccessat(AT_FDCWD, dir, R_OK | W_OK | X_OK, AT_EACCESS))
        return 0;
    if (errno == EROFS)
        buf_printf(why, "data directory \"%s\" is on a read-only file system", dir);
    else
        buf_printf(why, "data directory \"%s\" cannot be written: %s", dir, strerror(errno));
    return QE_ACCES;
}

/* ---- /dev/fuse ----------------------------------------------------------------------------------------------------------------- */

#define FUSE_ADVICE "load the fuse module (modprobe fuse), or in a container add --device /dev/fuse --cap-add SYS_ADMIN"

/* A number of /proc/self/status, of the line that begins with `name`; `unknown` when it cannot be read. */
static unsigned long long status_number(const char *name, int base, unsigned long long unknown)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];

    if (!f)
        return unknown;
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, name, strlen(name)))
            unknown = strtoull(line + strlen(name), NULL, base);
    fclose(f);
    return unknown;
}

static bool may_mount(const char *capabilities)
{
    return status_number(capabilities, 16, ~0ULL) >> CAP_SYS_ADMIN_BIT & 1; /* unknown: let mount(2) decide */
}

/* fusermount3 is a set-user-id program: it helps only where such a program gets root's rights. */
static bool have_fusermount(void)
{
    const char *path = getenv("PATH");
    char *copy = strdup(path && *path ? path : "/usr/bin:/bin"), *rest = copy, *dir, file[PATH_MAX];
    bool found = access("/usr/bin/fusermount3", X_OK) == 0;

    while (copy && !found && (dir = strsep(&rest, ":"))) {
        snprintf(file, sizeof file, "%s/fusermount3", *dir ? dir : ".");
        found = access(file, X_OK) == 0;
    }
    free(copy);
    return found && may_mount("CapBnd:") && !status_number("NoNewPrivs:", 10, 0);
}

int preflight_fuse(struct buf *why)
{
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

    if (fd < 0 && errno == ENOENT) {
        buf_printf(why, "there is no /dev/fuse: " FUSE_ADVICE);
        return QE_NOENT;
    }
    if (fd < 0 && geteuid() != 0 && errno == EACCES) { /* fusermount3 opens it as the user, too */
        buf_printf(why, "no right to mount: /dev/fuse cannot be opened; run as root, or let root run chmod 666 /dev/fuse");
        return QE_PERM;
    }
    if (fd < 0) {
        buf_printf(why, "cannot open /dev/fuse (%s): " FUSE_ADVICE, strerror(errno));
        return QE_NOENT;
    }
    close(fd);
    if (geteuid() != 0 && !have_fusermount()) {
        buf_printf(why, "no right to mount: run as root, or install fusermount3 (package fuse3) where set-user-id programs work");
        return QE_PERM;
    }
    if (geteuid() == 0 && !may_mount("CapEff:")) {
        buf_printf(why, "no right to mount: the capability SYS_ADMIN is missing; in a container add --device /dev/fuse --cap-add SYS_ADMIN");
        return QE_PERM;
    }
    return 0;
}

/* Private whatever the umask is. */
int preflight_make_dir(const char *dir, struct buf *why)
{
    if (mkdir(dir, 0700) == 0) {
        if (chmod(dir, 0700) == 0)
            return 0;
    } else if (errno == EEXIST) {
        return 0;
    }
    buf_printf(why, "cannot make data directory \"%s\": %s", dir, strerror(errno));
    return QE_IO;
}
