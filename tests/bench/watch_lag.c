/* watch_lag WRITE_DIR WATCH_DIR FILES RATE [hot]: how long after a writer's close has returned a watcher has IN_CLOSE_WRITE.
 *
 * Both directories are one, seen through two members (or one, or a tmpfs). FILES files are written in WRITE_DIR, RATE a second (0: as fast as
 * it goes); a thread watches WATCH_DIR. Prints a line: files written and told, percentiles of the lag in microseconds (negative: told before
 * close returned), how long the writing took. With `hot` it is one file again and again, and what counts is the event after the last commit. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

enum { VALUE_BYTES = 256, PATIENCE_MS = 10000 };

static long n_files;
static int64_t *closed_ns, *told_ns; /* by file; written by one thread each, read after both have ended */
static atomic_long n_told, n_events;
static atomic_bool done;
static int watch_fd;
static bool hot;

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void *watch(void *arg)
{
    static _Alignas(struct inotify_event) char buf[1 << 20];
    struct pollfd p = {.fd = watch_fd, .events = POLLIN};

    (void)arg;
    while (poll(&p, 1, atomic_load(&done) ? PATIENCE_MS : 100) > 0 || !atomic_load(&done)) {
        ssize_t len = read(watch_fd, buf, sizeof buf);
        int64_t now = now_ns();

        for (char *at = buf; at < buf + len;) {
            const struct inotify_event *e = (const struct inotify_event *)(const void *)at;
            long i = e->len && *e->name == 'f' ? atol(e->name + 1) : -1;

            if (i >= 0 && i < n_files) {
                if (!told_ns[i])
                    atomic_fetch_add(&n_told, 1);
                told_ns[i] = now;
                atomic_fetch_add(&n_events, 1);
            }
            at += sizeof *e + e->len;
        }
        if (!hot && atomic_load(&n_told) == n_files)
            break;
        if (hot && atomic_load(&done) && told_ns[0] > closed_ns[0])
            break;
    }
    return NULL;
}

static int put(const char *path, const char *value)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    if (fd < 0)
        return -1;
    if (write(fd, value, VALUE_BYTES) != VALUE_BYTES) {
        close(fd);
        return -1;
    }
    return close(fd);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

static void wait_for_turn(int64_t start, long i, long rate)
{
    int64_t left = rate ? start + i * 1000000000 / rate - now_ns() : 0;
    struct timespec t = {left / 1000000000, left % 1000000000};

    if (left > 0)
        nanosleep(&t, NULL);
}

static void report(int64_t took_ns)
{
    int64_t *lag = calloc((size_t)n_files, sizeof *lag);
    long n = 0;

    for (long i = 0; lag && i < (hot ? 1 : n_files); i++)
        if (told_ns[i] && closed_ns[i])
            lag[n++] = (told_ns[i] - closed_ns[i]) / 1000;
    if (n == 0) {
        printf("nothing was told\n");
        return;
    }
    qsort(lag, (size_t)n, sizeof *lag, by_value);
    printf("files %ld told %ld events %ld lag_us p50 %lld p90 %lld p99 %lld max %lld writing_ms %lld\n", n_files, atomic_load(&n_told),
           atomic_load(&n_events), (long long)lag[n / 2], (long long)lag[n * 9 / 10], (long long)lag[n * 99 / 100], (long long)lag[n - 1],
           (long long)(took_ns / 1000000));
    free(lag);
}

int main(int argc, char **argv)
{
    char value[VALUE_BYTES], path[4096];
    long rate = argc > 4 ? atol(argv[4]) : 0;
    int64_t start, took;
    pthread_t t;

    if (argc < 5) {
        fprintf(stderr, "usage: watch_lag WRITE_DIR WATCH_DIR FILES RATE [hot]\n");
        return 2;
    }
    n_files = atol(argv[3]);
    hot = argc > 5;
    closed_ns = calloc((size_t)n_files, sizeof *closed_ns);
    told_ns = calloc((size_t)n_files, sizeof *told_ns);
    memset(value, 'v', sizeof value);
    watch_fd = inotify_init1(IN_NONBLOCK);
    if (!closed_ns || !told_ns || inotify_add_watch(watch_fd, argv[2], IN_CLOSE_WRITE) < 0 || pthread_create(&t, NULL, watch, NULL)) {
        perror(argv[2]);
        return 1;
    }
    start = now_ns();
    for (long i = 0; i < n_files; i++) {
        wait_for_turn(start, i, rate);
        snprintf(path, sizeof path, "%s/f%ld", argv[1], hot ? 0 : i);
        if (put(path, value)) {
            perror(path);
            return 1;
        }
        closed_ns[hot ? 0 : i] = now_ns();
    }
    took = now_ns() - start;
    atomic_store(&done, true);
    pthread_join(t, NULL);
    report(took);
    return 0;
}
