#include "store/base/log.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "store/base/err.h"

enum { LINE_MAX_BYTES = 2048 }; /* longer lines are cut: a line is one write, so that lines never mix */

static enum log_sink log_sink = LOG_SINK_STDERR;
static enum log_level log_max = LOG_LEVEL_INFO;
static int log_fd = STDERR_FILENO;

static const char *const level_names[] = {"error", "warning", "info", "debug"};
static const int level_syslog[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};

int log_open(enum log_sink sink, const char *path)
{
    int fd = STDERR_FILENO;

    if (sink == LOG_SINK_SYSLOG)
        openlog("quorumfs", LOG_PID | LOG_NDELAY, LOG_DAEMON);
    if (sink == LOG_SINK_FILE) {
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (fd < 0)
            return QE_IO;
    }
    log_close();
    log_sink = sink;
    log_fd = fd;
    return 0;
}

void log_set_level(enum log_level max)
{
    log_max = max;
}

void log_close(void)
{
    if (log_sink == LOG_SINK_FILE)
        close(log_fd);
    log_sink = LOG_SINK_STDERR;
    log_fd = STDERR_FILENO;
}

/* Names of files and commands are anybody's: none may end the line and begin one of its own, or talk to a terminal. */
static void make_printable(char *text, const char *end)
{
    for (; text < end; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

void log_line(enum log_level level, const char *area, const char *fmt, ...)
{
    char line[LINE_MAX_BYTES];
    size_t n = 0, begin;
    va_list ap;
    int k;

    if (level > log_max)
        return;
    if (log_sink == LOG_SINK_FILE) {
        struct timespec t;
        struct tm tm;

        clock_gettime(CLOCK_REALTIME, &t);
        gmtime_r(&t.tv_sec, &tm);
        n = strftime(line, sizeof line, "%FT%T", &tm);
        n += (size_t)snprintf(line + n, sizeof line - n, ".%03ldZ ", t.tv_nsec / 1000000);
    }
    if (log_sink != LOG_SINK_SYSLOG)
        n += (size_t)snprintf(line + n, sizeof line - n, "quorumfs: ");
    if (level <= LOG_LEVEL_WARN || log_sink == LOG_SINK_FILE)
        n += (size_t)snprintf(line + n, sizeof line - n, "%s: ", level_names[level]);
    if (area && *area)
        n += (size_t)snprintf(line + n, sizeof line - n, "%.32s: ", area);
    begin = n;
    va_start(ap, fmt);
    k = vsnprintf(line + n, sizeof line - n - 1, fmt, ap);
    va_end(ap);
    if (k > 0)
        n += (size_t)k < sizeof line - n - 1 ? (size_t)k : sizeof line - n - 2;
    make_printable(line + begin, line + n);
    if (log_sink == LOG_SINK_SYSLOG) {
        syslog(level_syslog[level], "%.*s", (int)n, line);
        return;
    }
    line[n++] = '\n';
    if (write(log_fd, line, n) < 0)
        return; /* nowhere left to say so */
}
