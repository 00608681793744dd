/* syscall NAME ARG...: one system call that no shell command makes exactly so; prints `ok` or the name of the errno.
 *
 *   exchange A B | noreplace A B | rename A B | link A B | unlink A | rmdir A | mkdir A MODE
 *   mknod A fifo|socket|char|block|file | open A FLAGS (octal) | truncate A SIZE | chmod A MODE | setxattr A NAME VALUE
 *   removexattr A NAME | access A MODE | utimes A NANOSECONDS (atime and mtime) | chown A UID GID | symlink TARGET A */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static int make_node(const char *path, const char *kind)
{
    mode_t type = !strcmp(kind, "fifo") ? S_IFIFO : !strcmp(kind, "socket") ? S_IFSOCK : !strcmp(kind, "char") ? S_IFCHR
                : !strcmp(kind, "block") ? S_IFBLK : S_IFREG;

    return mknod(path, type | 0644, type == S_IFCHR ? 0x103 : 0);
}

static int set_times(const char *path, const char *ns)
{
    long long t = atoll(ns);
    struct timespec both[2] = {{t / 1000000000, t % 1000000000}, {t / 1000000000, t % 1000000000}};

    return utimensat(AT_FDCWD, path, both, AT_SYMLINK_NOFOLLOW);
}

static int call(const char *name, const char *a, const char *b, const char *c)
{
    if (!strcmp(name, "exchange")) return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
    if (!strcmp(name, "noreplace")) return renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_NOREPLACE);
    if (!strcmp(name, "rename")) return rename(a, b);
    if (!strcmp(name, "link")) return link(a, b);
    if (!strcmp(name, "symlink")) return symlink(a, b);
    if (!strcmp(name, "unlink")) return unlink(a);
    if (!strcmp(name, "rmdir")) return rmdir(a);
    if (!strcmp(name, "mkdir")) return mkdir(a, (mode_t)strtoul(b, NULL, 8));
    if (!strcmp(name, "mknod")) return make_node(a, b);
    if (!strcmp(name, "open")) return open(a, (int)strtol(b, NULL, 8), 0666);
    if (!strcmp(name, "truncate")) return truncate(a, atoll(b));
    if (!strcmp(name, "chmod")) return chmod(a, (mode_t)strtoul(b, NULL, 8));
    if (!strcmp(name, "chown")) return lchown(a, (uid_t)atol(b), (gid_t)atol(c));
    if (!strcmp(name, "access")) return access(a, atoi(b));
    if (!strcmp(name, "utimes")) return set_times(a, b);
    if (!strcmp(name, "setxattr")) return setxattr(a, b, c, strlen(c), 0);
    if (!strcmp(name, "removexattr")) return removexattr(a, b);
    errno = ENOSYS;
    return -1;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: syscall NAME ARG...\n");
        return 2;
    }
    if (call(argv[1], argv[2], argc > 3 ? argv[3] : "", argc > 4 ? argv[4] : "") < 0) {
        puts(strerrorname_np(errno));
        return 1;
    }
    puts("ok");
    return 0;
}
