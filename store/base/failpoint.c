#include "store/base/failpoint.h"

#ifdef QFS_FAILPOINTS

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { POINTS_MAX = 16, NAME_SIZE = 48, ACTION_SIZE = 256 };

struct point {
    char name[NAME_SIZE];
    char action[ACTION_SIZE];
    long at;   /* act at this hit only; 0: at every hit */
    long hits; /* under lock */
};

static struct point points[POINTS_MAX];
static int n_points;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void load(void)
{
    const char *env = getenv("QUORUMFS_FAILPOINTS");
    char *copy = env ? strdup(env) : NULL, *save = NULL;

    for (char *p = copy ? strtok_r(copy, ",", &save) : NULL; p && n_points < POINTS_MAX; p = strtok_r(NULL, ",", &save)) {
        struct point *pt = &points[n_points];
        char *eq = strchr(p, '='), *hit;

        if (!eq)
            continue;
        *eq++ = 0;
        hit = strchr(eq, '@');
        if (hit)
            *hit++ = 0;
        pt->at = hit ? atol(hit) : 0;
        snprintf(pt->name, sizeof pt->name, "%s", p);
        snprintf(pt->action, sizeof pt->action, "%s", eq);
        n_points++;
    }
    free(copy);
}

bool failpoint_hit(const char *name)
{
    const char *action = NULL;

    pthread_once(&once, load);
    if (n_points == 0)
        return false;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < n_points; i++) {
        struct point *pt = &points[i];

        if (strcmp(pt->name, name))
            continue;
        pt->hits++;
        if (pt->at == 0 || pt->hits == pt->at)
            action = pt->action;
    }
    pthread_mutex_unlock(&lock);
    if (!action)
        return false;
    if (!strcmp(action, "crash"))
        kill(getpid(), SIGKILL);
    if (!strncmp(action, "stall:", 6)) {
        long ms = atol(action + 6);
        struct timespec t = {ms / 1000, ms % 1000 * 1000000};

        nanosleep(&t, NULL);
    }
    while (!strncmp(action, "hold:", 5) && access(action + 5, F_OK) == 0)
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    if (!strncmp(action, "while:", 6))
        return access(action + 6, F_OK) == 0;
    return !strcmp(action, "error");
}

#endif
