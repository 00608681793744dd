/* What the clients of linload and txnload have in common: a descriptor of the tree on a mount that may die and come back, an error's
 * meaning for the history, the clock and the dice. A fault of the tree, which nothing that the tests do can excuse, ends the client with status 1. */
#ifndef QFS_TEST_CLIENT_H
#define QFS_TEST_CLIENT_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum client_outcome { CLIENT_DONE, CLIENT_NOT_DONE, CLIENT_OPEN };
enum { CLIENT_ABSENT = -1, CLIENT_AWAY = -2 };

struct client {
    FILE *out;                /* lines of the history; owned */
    char tree[PATH_MAX - 64]; /* MOUNT/TREE */
    int dir;                  /* that directory: a descriptor of a mount whose daemon died fails, whatever is mounted there by now; -1: to be opened */
    uint64_t random;
    int me;
    int next_value;           /* of client_new_value */
};

/* Lines go to OUT.ME; out NULL: there are none. */
void client_begin(struct client *c, const char *out, int me, const char *mount, const char *tree, uint64_t seed);
uint64_t client_draw(struct client *c, uint64_t n);
uint64_t client_now_ns(void);
/* A number that no client has had. */
int client_new_value(struct client *c);
/* Up to twice `ms`. */
void client_pause(struct client *c, int ms);
void client_fault(const struct client *c, const char *what, const char *path) __attribute__((noreturn));
/* Waits until the tree is there (again). */
void client_find_tree(struct client *c);
/* After an error of a call that changes something: was it done? An error that nobody may get is a fault. */
enum client_outcome client_outcome_of(struct client *c, const char *what, const char *path);
/* After an error of a call that changes nothing: the tree is not there just now. */
int client_is_away(struct client *c);
/* The whole content, with a NUL behind it; CLIENT_ABSENT; CLIENT_AWAY. */
ssize_t client_slurp(struct client *c, const char *path, char *buf, size_t size);
/* The command `final OUT GROUPS TREE MOUNT...`: a client on each mount, one after the other, looks at every group, again while look says
 * that the tree is away: a member that was cut off until now needs a moment. Its exit status. */
int client_final(int argc, char **argv, bool (*look)(struct client *c, int group));

#endif
