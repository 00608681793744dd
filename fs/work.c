#include "fs/work.h"

#include <pthread.h>
#include <stdlib.h>

enum { WORKERS = 4 }; /* two copies of the database, which take long, do not keep the short jobs waiting */

struct work {
    struct work *next;
    work_run_cb run;
    void *data;
    struct pending *pending;
};

struct workers {
    struct fs *fs;
    pthread_t threads[WORKERS];
    int n;                       /* threads that run */
    atomic_bool stop;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct work *first, **last;  /* under lock: what is to be done */
};

static struct work *work_take(struct workers *ws)
{
    struct work *w = NULL;

    pthread_mutex_lock(&ws->lock);
    while (!atomic_load(&ws->stop) && !ws->first)
        pthread_cond_wait(&ws->more, &ws->lock);
    if (!atomic_load(&ws->stop)) {
        w = ws->first;
        ws->first = w->next;
        if (!ws->first)
            ws->last = &ws->first;
    }
    pthread_mutex_unlock(&ws->lock);
    return w;
}

static void *work_main(void *arg)
{
    struct workers *ws = arg;
    struct store_reader *reader = NULL;
    struct work *w;

    while ((w = work_take(ws))) {
        int err = reader ? 0 : replica_reader(ws->fs->replica, &reader);

        if (!err)
            err = w->run(ws->fs, reader, w->data);
        pending_finish(w->pending, err, 0, 0);
        free(w);
    }
    store_reader_close(reader);
    return NULL;
}

static int workers_open(struct fs *fs)
{
    struct workers *ws = calloc(1, sizeof *ws);

    if (!ws)
        return QE_NOMEM;
    ws->fs = fs;
    ws->last = &ws->first;
    pthread_mutex_init(&ws->lock, NULL);
    pthread_cond_init(&ws->more, NULL);
    fs->workers = ws;
    while (ws->n < WORKERS && !pthread_create(&ws->threads[ws->n], NULL, work_main, ws))
        ws->n++;
    if (ws->n)
        return 0;
    work_close(fs);
    return QE_NOMEM;
}

void work_start(struct fs *fs, work_run_cb run, const struct pending_call *call)
{
    int err = fs->workers ? 0 : workers_open(fs);
    struct work *w = err ? NULL : malloc(sizeof *w);
    struct pending *p = pending_wait(fs, call);
    struct workers *ws = fs->workers;

    if (!p) {
        free(w);
        return;
    }
    if (!w) {
        pending_finish(p, QE_NOMEM, 0, 0);
        return;
    }
    *w = (struct work){.run = run, .data = call->data, .pending = p};
    pthread_mutex_lock(&ws->lock);
    *ws->last = w;
    ws->last = &w->next;
    pthread_cond_signal(&ws->more);
    pthread_mutex_unlock(&ws->lock);
}

bool work_stopping(struct fs *fs)
{
    return atomic_load(&fs->workers->stop);
}

void work_close(struct fs *fs)
{
    struct workers *ws = fs->workers;

    if (!ws)
        return;
    pthread_mutex_lock(&ws->lock);
    atomic_store(&ws->stop, true);
    pthread_cond_broadcast(&ws->more);
    pthread_mutex_unlock(&ws->lock);
    for (int i = 0; i < ws->n; i++)
        pthread_join(ws->threads[i], NULL);
    while (ws->first) {
        struct work *w = ws->first;

        ws->first = w->next;
        pending_finish(w->pending, QE_SHUTDOWN, 0, 0);
        free(w);
    }
    pthread_cond_destroy(&ws->more);
    pthread_mutex_destroy(&ws->lock);
    free(ws);
    fs->workers = NULL;
}
