#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_TRIES = 3000, FINAL_SECONDS = 40, CLIENTS_MAX = 100, VALUE_FIRST = 2 };

uint64_t client_draw(struct client *c, uint64_t n)
{
    c->random ^= c->random << 13;
    c->random ^= c->random >> 7;
    c->random ^= c->random << 17;
    return c->random % n;
}

uint64_t client_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

int client_new_value(struct client *c)
{
    return c->next_value++ * CLIENTS_MAX + c->me + VALUE_FIRST;
}

void client_pause(struct client *c, int ms)
{
    const uint64_t ns = ms ? client_draw(c, (uint64_t)ms * 2000000) : 0;

    nanosleep(&(struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)}, NULL);
}

void client_begin(struct client *c, const char *out, int me, const char *mount, const char *tree, uint64_t seed)
{
    char path[PATH_MAX];

    *c = (struct client){.me = me, .dir = -1, .random = seed * 1000003 + (uint64_t)me * 7919 + 1};
    for (int i = 0; i < 16; i++)
        client_draw(c, 2);
    snprintf(c->tree, sizeof c->tree, "%s/%s", mount, tree);
    if (!out)
        return;
    snprintf(path, sizeof path, "%s.%d", out, me);
    c->out = fopen(path, "w");
    if (!c->out) {
        perror(path);
        exit(1);
    }
}

void client_fault(const struct client *c, const char *what, const char *path)
{
    fprintf(stderr, "client %d: %s %s: %s\n", c->me, what, path, strerror(errno));
    exit(1);
}

/* The mount that we have is dead; another one may come. */
static void note_death(struct client *c)
{
    if ((errno == ENOTCONN || errno == ECONNABORTED) && c->dir >= 0) {
        close(c->dir);
        c->dir = -1;
    }
}

void client_find_tree(struct client *c)
{
    const struct timespec t = {0, 20000000};

    for (int i = 0; c->dir < 0; i++) {
        c->dir = open(c->tree, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (c->dir >= 0)
            return;
        if (i > WAIT_TRIES)
            client_fault(c, "does not come back:", c->tree);
        nanosleep(&t, NULL);
    }
}

enum client_outcome client_outcome_of(struct client *c, const char *what, const char *path)
{
    note_death(c);
    switch (errno) {
    case ETIMEDOUT:
    case EINTR:
    case ECONNABORTED: return CLIENT_OPEN;
    case ENOTCONN: return CLIENT_OPEN; /* the daemon may have died with the request in hand */
    case EIO:
    case ESHUTDOWN:
        fprintf(c->out, "# %" PRIu64 " %s %s: not done: %s\n", client_now_ns(), what, path, strerror(errno));
        return CLIENT_NOT_DONE;
    default: client_fault(c, what, path);
    }
}

int client_is_away(struct client *c)
{
    note_death(c);
    return errno == ETIMEDOUT || errno == EINTR || errno == ENOTCONN || errno == ECONNABORTED || errno == EIO || errno == ESHUTDOWN;
}

ssize_t client_slurp(struct client *c, const char *path, char *buf, size_t size)
{
    int fd = openat(c->dir, path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n = 0;

    if (fd < 0) {
        if (errno == ENOENT)
            return CLIENT_ABSENT;
        if (client_is_away(c))
            return CLIENT_AWAY;
        client_fault(c, "open", path);
    }
    while (len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0)
        len += (size_t)n;
    if (n < 0 && !client_is_away(c))
        client_fault(c, "read", path);
    close(fd);
    buf[len] = 0;
    return n < 0 ? CLIENT_AWAY : (ssize_t)len;
}

int client_final(int argc, char **argv, bool (*look)(struct client *c, int group))
{
    const struct timespec pause = {0, 20000000};
    int groups = atoi(argv[3]);

    for (int m = 5; m < argc; m++) {
        struct client c;

        client_begin(&c, argv[2], 99 - (m - 5), argv[m], argv[4], 1);
        for (int g = 0; g < groups; g++) {
            uint64_t until = client_now_ns() + FINAL_SECONDS * UINT64_C(1000000000);

            client_find_tree(&c);
            while (!look(&c, g)) { /* without a leader each try fails at once */
                if (client_now_ns() > until)
                    client_fault(&c, "is away:", c.tree);
                nanosleep(&pause, NULL);
                client_find_tree(&c);
            }
        }
        fclose(c.out);
    }
    return 0;
}
