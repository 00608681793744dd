#include "fs/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/opts.h"
#include "store/base/err.h"
#include "store/base/log.h"

/* The report: one byte, the exit status, and behind it the sentence. Nothing at all means that the child has died. */

static volatile pid_t waited_for; /* the daemon, while the caller waits for its report */

/* Ctrl-C while waiting ends the daemon too, which nobody would expect to go on by itself. */
static void pass_on(int signal_number)
{
    (void)signal_number;
    kill(waited_for, SIGTERM);
}

static _Noreturn void wait_for_report(int fd, pid_t child)
{
    const struct sigaction action = {.sa_handler = pass_on};
    struct buf report = {0};
    int status = 0;
    ssize_t n;

    waited_for = child;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    do {
        if (buf_reserve(&report, 512))
            break;
        n = read(fd, report.data + report.len, 512);
        if (n > 0)
            report.len += (size_t)n;
    } while (n > 0 || (n < 0 && errno == EINTR));
    if (report.len) {
        if (report.len > 1)
            fprintf(stderr, "quorumfs: %s\n", buf_cstr(&report) + 1);
        _exit(report.data[0]);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status))
        fprintf(stderr, "quorumfs: the daemon was killed by signal %d (%s) before the tree was usable\n", WTERMSIG(status),
                strsignal(WTERMSIG(status)));
    else
        fprintf(stderr, "quorumfs: the daemon ended with status %d before the tree was usable, without saying why\n", WEXITSTATUS(status));
    _exit(OPTS_EXIT_FAILED);
}

int daemon_start(struct daemon *d, struct buf *why)
{
    int ends[2];
    pid_t child;

    d->pipe = -1;
    if (pipe2(ends, O_CLOEXEC)) {
        buf_printf(why, "cannot make a pipe: %s", strerror(errno));
        return QE_IO;
    }
    fflush(NULL);
    child = fork();
    if (child < 0) {
        buf_printf(why, "cannot start a process: %s", strerror(errno));
        close(ends[0]);
        close(ends[1]);
        return QE_IO;
    }
    if (child > 0) {
        close(ends[1]);
        wait_for_report(ends[0], child);
    }
    close(ends[0]);
    d->pipe = ends[1];
    setsid();
    if (chdir("/")) {
        buf_printf(why, "cannot go to /: %s", strerror(errno));
        daemon_fail(d, OPTS_EXIT_FAILED, why);
    }
    return 0;
}

static void report(struct daemon *d, int status, const char *text)
{
    struct buf all = {0};
    unsigned char byte = (unsigned char)status;
    size_t done = 0;
    ssize_t n;

    if (d->pipe < 0)
        return;
    buf_append(&all, &byte, 1);
    buf_append(&all, text, strlen(text));
    signal(SIGPIPE, SIG_IGN); /* the caller may be gone */
    while (done < all.len) {
        n = write(d->pipe, all.data + done, all.len - done);
        if (n < 0 && errno != EINTR)
            break;
        done += n > 0 ? (size_t)n : 0;
    }
    buf_fini(&all);
    close(d->pipe);
    d->pipe = -1;
}

void daemon_ready(struct daemon *d)
{
    int null;

    if (d->pipe < 0)
        return;
    fflush(NULL);
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        for (int fd = 0; fd < 3; fd++)
            dup2(null, fd);
        close(null);
    }
    report(d, 0, "");
}

void daemon_fail(struct daemon *d, int status, struct buf *why)
{
    if (d->pipe >= 0)
        report(d, status, buf_cstr(why));
    else
        fprintf(stderr, "quorumfs: %s\n", buf_cstr(why));
    exit(status);
}

void daemon_clean_fds(void)
{
    struct rlimit files;
    int fd;

    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    } while (fd >= 0 && fd < 3);
    close_range(3, ~0U, 0);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max; /* the soft limit is for programs that use select(2) */
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

int daemon_open_log(const char *dir, struct buf *why)
{
    struct buf path = {0};
    struct stat st;
    int err;

    if (stat("/dev/log", &st) == 0 && S_ISSOCK(st.st_mode))
        return log_open(LOG_SINK_SYSLOG, NULL);
    buf_printf(&path, "%s/log", dir);
    err = log_open(LOG_SINK_FILE, buf_cstr(&path));
    if (err)
        buf_printf(why, "cannot open \"%s\" for logging: %s", buf_cstr(&path), strerror(errno));
    buf_fini(&path);
    return err;
}
