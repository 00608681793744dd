/* race KIND N PATH: N processes try at the same instant to bind one name; prints `winners W losers L`.
 *
 * KIND: create (O_CREAT|O_EXCL), mkdir, symlink, noreplace (each renames a file of its own, PATH.N, onto PATH). A loser has got
 * EEXIST; any other error is printed and the exit status is 1. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int bind_name(const char *kind, const char *path, int me)
{
    char own[4096];
    int fd;

    if (!strcmp(kind, "mkdir"))
        return mkdir(path, 0755);
    if (!strcmp(kind, "symlink"))
        return symlink("target", path);
    snprintf(own, sizeof own, "%s.%d", path, me);
    if (!strcmp(kind, "noreplace"))
        return renameat2(AT_FDCWD, own, AT_FDCWD, path, RENAME_NOREPLACE);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd < 0)
        return -1;
    if (dprintf(fd, "%d\n", me) < 0)
        return -1;
    return close(fd);
}

/* Exit status of a racer: 0 won, 1 lost with EEXIST, 2 anything else. */
static int racer(const char *kind, const char *path, int me, int gate)
{
    char c;

    if (read(gate, &c, 1) < 0)
        return 2;
    if (bind_name(kind, path, me) == 0)
        return 0;
    if (errno == EEXIST)
        return 1;
    fprintf(stderr, "racer %d: %s\n", me, strerror(errno));
    return 2;
}

int main(int argc, char **argv)
{
    int gate[2], count[3] = {0}, status, n = argc > 2 ? atoi(argv[2]) : 0;

    if (argc != 4 || n < 1 || pipe(gate)) {
        fprintf(stderr, "usage: race KIND N PATH\n");
        return 2;
    }
    for (int i = 0; i < n; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            close(gate[1]);
            _exit(racer(argv[1], argv[3], i, gate[0]));
        }
        if (pid < 0)
            return 2;
    }
    close(gate[1]); /* end of file for all of them: off they go */
    while (wait(&status) > 0)
        count[WIFEXITED(status) && WEXITSTATUS(status) < 2 ? WEXITSTATUS(status) : 2]++;
    printf("winners %d losers %d\n", count[0], count[1]);
    return count[2] ? 1 : 0;
}
