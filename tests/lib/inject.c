/* inject WORD...: makes a change of the tree as if another member had made it (fs/replay_inject.c has the words), through the socket that
 * QUORUMFS_TEST_INJECT names, and prints its revision. Without words: a change for each line of stdin, one after the other, or, with -w, with
 * several under way at once; prints how many. Exit status 1: one was refused, and stderr says why. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { LINE_BYTES = 8192, WINDOW = 5, PATIENCE_S = 60 };

static int take_answer(int fd, char *text, size_t size)
{
    ssize_t n = recv(fd, text, size - 1, 0);

    if (n < 0) {
        perror("inject: no answer");
        exit(1);
    }
    text[n] = 0;
    if (!strncmp(text, "error", 5)) {
        fprintf(stderr, "inject: %s\n", text);
        return 1;
    }
    return 0;
}

static void put_line(int fd, const char *line)
{
    if (send(fd, line, strlen(line), 0) < 0) {
        perror("inject: cannot send");
        exit(1);
    }
}

int main(int argc, char **argv)
{
    const struct timeval patience = {.tv_sec = PATIENCE_S};
    struct sockaddr_un own = {.sun_family = AF_UNIX}, to = {.sun_family = AF_UNIX};
    const char *path = getenv("QUORUMFS_TEST_INJECT");
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0), bad = 0;
    char line[LINE_BYTES] = "", text[128];
    bool wide = argc == 2 && !strcmp(argv[1], "-w");
    long under_way = 0, n = 0, window = wide ? WINDOW : 1;

    snprintf(to.sun_path, sizeof to.sun_path, "%s", path ? path : "");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (fd < 0 || bind(fd, (struct sockaddr *)&own, sizeof own.sun_family) || connect(fd, (struct sockaddr *)&to, sizeof to)) {
        perror("inject: QUORUMFS_TEST_INJECT");
        return 1;
    }
    if (argc > 1 && !wide) {
        for (int i = 1; i < argc; i++)
            snprintf(line + strlen(line), sizeof line - strlen(line), "%s%s", i > 1 ? " " : "", argv[i]);
        put_line(fd, line);
        bad = take_answer(fd, text, sizeof text);
        if (!bad)
            puts(text);
        return bad;
    }
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (under_way == window)
            bad |= take_answer(fd, text, sizeof text);
        else
            under_way++;
        put_line(fd, line);
        n++;
    }
    while (under_way-- > 0)
        bad |= take_answer(fd, text, sizeof text);
    printf("%ld\n", n);
    return bad;
}
