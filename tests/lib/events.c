/* events OUT DIR...: records the inotify events of the directories (and of themselves) until SIGTERM, then writes them to OUT.
 *
 * One line an event: the number of the watched directory, the name, the event. OPEN, ACCESS and CLOSE_NOWRITE are left out (they say
 * how the filesystem was read, not what changed), and so are repetitions of one event of one name that follow each other, which the
 * kernel merges or not as the reader is quick. The halves of a move that have one cookie get the same small number. OUT.ready appears
 * when the watches are set. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { WATCHES_MAX = 32, COOKIES_MAX = 1024, LINES_MAX = 1 << 16 };

struct recorder {
    int wd[WATCHES_MAX];            /* the watch of each directory */
    int n_watches;                  /* how many there are */
    uint32_t cookies[COOKIES_MAX];  /* in order of appearance: their index is printed */
    unsigned n_cookies;             /* how many were seen */
    char *lines[LINES_MAX];         /* what OUT will hold; owned */
    int n_lines;                    /* how many there are */
};

static const struct {
    uint32_t mask;
    const char *name;
} names[] = {{IN_CREATE, "CREATE"}, {IN_MODIFY, "MODIFY"}, {IN_CLOSE_WRITE, "CLOSE_WRITE"}, {IN_DELETE, "DELETE"},
             {IN_DELETE_SELF, "DELETE_SELF"}, {IN_MOVED_FROM, "MOVED_FROM"}, {IN_MOVED_TO, "MOVED_TO"}, {IN_MOVE_SELF, "MOVE_SELF"},
             {IN_ATTRIB, "ATTRIB"}, {IN_UNMOUNT, "UNMOUNT"}, {IN_Q_OVERFLOW, "OVERFLOW"}};

static unsigned cookie_number(struct recorder *r, uint32_t cookie)
{
    unsigned i = 0;

    while (i < r->n_cookies && r->cookies[i] != cookie)
        i++;
    if (i == r->n_cookies && i < COOKIES_MAX)
        r->cookies[r->n_cookies++] = cookie;
    return i + 1;
}

/* The last recorded line of this name is the same: the kernel might as well have merged the two. */
static int repeats(const struct recorder *r, const char *line)
{
    const char *end = strchr(strchr(line, '\t') + 1, '\t');
    size_t n = (size_t)(end - line) + 1;

    for (int i = r->n_lines - 1; i >= 0; i--) {
        if (!strncmp(r->lines[i], line, n))
            return !strcmp(r->lines[i], line);
    }
    return 0;
}

static void record(struct recorder *r, const struct inotify_event *e)
{
    char line[512];
    size_t n;
    int dir = 0;

    while (dir < r->n_watches && r->wd[dir] != e->wd)
        dir++;
    n = (size_t)snprintf(line, sizeof line, "%d\t%s\t", dir + 1, e->len ? e->name : ".");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (e->mask & names[i].mask)
            n += (size_t)snprintf(line + n, sizeof line - n, "%s", names[i].name);
    }
    if (line[n - 1] == '\t')
        return;
    if (e->mask & IN_ISDIR)
        n += (size_t)snprintf(line + n, sizeof line - n, ",ISDIR");
    if (e->cookie)
        snprintf(line + n, sizeof line - n, " #%u", cookie_number(r, e->cookie));
    if (r->n_lines < LINES_MAX && !repeats(r, line))
        r->lines[r->n_lines++] = strdup(line);
}

static int drain(struct recorder *r, int fd)
{
    _Alignas(struct inotify_event) char buf[1 << 16];
    ssize_t n;

    while ((n = read(fd, buf, sizeof buf)) > 0) {
        for (char *p = buf; p < buf + n;) {
            const struct inotify_event *e = (const struct inotify_event *)(const void *)p;

            record(r, e);
            p += sizeof *e + e->len;
        }
    }
    return n < 0 && errno != EAGAIN ? -1 : 0;
}

static int save(const struct recorder *r, const char *path)
{
    FILE *f = fopen(path, "w");

    if (!f)
        return -1;
    for (int i = 0; i < r->n_lines; i++)
        fprintf(f, "%s\n", r->lines[i]);
    return fclose(f);
}

static int announce(const char *out)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof path, "%s.ready", out);
    fd = open(path, O_WRONLY | O_CREAT, 0644);
    return fd < 0 ? -1 : close(fd);
}

int main(int argc, char **argv)
{
    static struct recorder r;
    struct pollfd p[2] = {{.events = POLLIN}, {.events = POLLIN}};
    sigset_t stop;

    if (argc < 3 || argc > WATCHES_MAX + 2) {
        fprintf(stderr, "usage: events OUT DIR...\n");
        return 2;
    }
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    p[0].fd = inotify_init1(IN_NONBLOCK);
    p[1].fd = signalfd(-1, &stop, 0);
    for (int i = 2; i < argc; i++) {
        r.wd[r.n_watches] = inotify_add_watch(p[0].fd, argv[i], IN_ALL_EVENTS);
        if (r.wd[r.n_watches++] < 0) {
            perror(argv[i]);
            return 1;
        }
    }
    if (announce(argv[1]))
        return 1;
    while (!(p[1].revents & POLLIN)) {
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return 1;
        if (drain(&r, p[0].fd))
            return 1;
    }
    return drain(&r, p[0].fd) || save(&r, argv[1]) ? 1 : 0;
}
