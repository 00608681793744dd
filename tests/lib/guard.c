/* guard PID COMMAND [ARG...]: runs COMMAND when process PID is gone, however it went.
 *
 * A test that is killed (a time limit, Ctrl-C, SIGKILL) cannot clean up after itself. The guard can: it leaves the session and the
 * process tree of the test before it waits, so that what kills those does not reach it. It returns to its caller at once. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Two forks: the middle process ends, so that the guard's parent is init and a walk down the tree of the test misses it. */
static void leave_the_tree(void)
{
    for (int i = 0; i < 2; i++) {
        pid_t pid = fork();

        if (pid < 0) {
            perror("guard: fork");
            exit(1);
        }
        if (pid > 0)
            _exit(0);
        if (i == 0)
            setsid();
    }
}

int main(int argc, char **argv)
{
    struct pollfd p = {.events = POLLIN};

    if (argc < 3) {
        fprintf(stderr, "usage: guard PID COMMAND [ARG...]\n");
        return 2;
    }
    p.fd = (int)syscall(SYS_pidfd_open, atoi(argv[1]), 0);
    if (p.fd < 0) {
        perror("guard: pidfd_open");
        return 1;
    }
    leave_the_tree();
    signal(SIGHUP, SIG_IGN);
    while (poll(&p, 1, -1) < 1)
        ;
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    return 127;
}
