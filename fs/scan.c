#include "fs/scan.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fs/pending.h"

enum { LONG_TABLE = 256 }; /* descriptors: about a millisecond */

struct scan {
    struct scan *next;
    struct fs *fs;
    pid_t tid;
    uint64_t ino, ino2;
    scan_cb cb;
    void *data;
    enum proc_table table; /* the answer; set by the thread */
};

struct scanner {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct scan *first, **last; /* under lock: what is to be done */
    bool stop;                  /* under lock */
};

bool scan_is_long(pid_t tid)
{
    char path[64];
    struct stat st;

    snprintf(path, sizeof path, "/proc/%d/fd", (int)tid);
    return stat(path, &st) == 0 && st.st_size > LONG_TABLE; /* the number of descriptors, since Linux 6.2; else 0 */
}

/* Back on the loop. */
static void scan_settle(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct scan *s = data;

    (void)req;
    (void)err;
    (void)rev;
    (void)ino;
    s->cb(fs, s->table, s->data);
    free(s);
}

static void *scan_main(void *arg)
{
    struct scanner *sc = arg;

    pthread_mutex_lock(&sc->lock);
    while (!sc->stop) {
        struct scan *s = sc->first;

        if (!s) {
            pthread_cond_wait(&sc->more, &sc->lock);
            continue;
        }
        sc->first = s->next;
        if (!sc->first)
            sc->last = &sc->first;
        pthread_mutex_unlock(&sc->lock);
        s->table = proc_look_for_writer(s->tid, s->ino, s->ino2);
        if (pending_post(s->fs, scan_settle, s))
            log_error("scan", "out of memory: a close of pid %d is not answered", (int)s->tid);
        pthread_mutex_lock(&sc->lock);
    }
    pthread_mutex_unlock(&sc->lock);
    return NULL;
}

static struct scanner *scanner_new(void)
{
    struct scanner *sc = calloc(1, sizeof *sc);

    if (!sc)
        return NULL;
    pthread_mutex_init(&sc->lock, NULL);
    pthread_cond_init(&sc->more, NULL);
    sc->last = &sc->first;
    if (pthread_create(&sc->thread, NULL, scan_main, sc)) {
        free(sc);
        return NULL;
    }
    return sc;
}

int scan_start(struct fs *fs, pid_t tid, uint64_t ino, uint64_t ino2, scan_cb cb, void *data)
{
    struct scan *s = malloc(sizeof *s);

    if (!fs->scanner)
        fs->scanner = scanner_new();
    if (!fs->scanner || !s) {
        free(s);
        return QE_NOMEM;
    }
    *s = (struct scan){NULL, fs, tid, ino, ino2, cb, data, PROC_GONE};
    pthread_mutex_lock(&fs->scanner->lock);
    *fs->scanner->last = s;
    fs->scanner->last = &s->next;
    pthread_cond_signal(&fs->scanner->more);
    pthread_mutex_unlock(&fs->scanner->lock);
    return 0;
}

void scan_close(struct fs *fs)
{
    struct scanner *sc = fs->scanner;

    if (!sc)
        return;
    pthread_mutex_lock(&sc->lock);
    sc->stop = true;
    pthread_cond_signal(&sc->more);
    pthread_mutex_unlock(&sc->lock);
    pthread_join(sc->thread, NULL);
    while (sc->first) {
        struct scan *s = sc->first;

        sc->first = s->next;
        s->cb(fs, PROC_WRITER, s->data); /* nothing is committed any more */
        free(s);
    }
    pthread_cond_destroy(&sc->more);
    pthread_mutex_destroy(&sc->lock);
    free(sc);
    fs->scanner = NULL;
}
