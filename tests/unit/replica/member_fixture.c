#include "tests/unit/replica/member_fixture.h"

#include <fcntl.h>
#include <mntent.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/base/err.h"

void member_make(struct member *m)
{
    memset(m, 0, sizeof *m);
    snprintf(m->parent, sizeof m->parent, "%s/replica.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(m->parent));
    snprintf(m->dir, sizeof m->dir, "%s/dir", m->parent);
    m->timeout_ms = 20000;
}

void member_remove(struct member *m)
{
    char cmd[300];

    if (m->r)
        member_down(m);
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", m->parent);
    assert_int_equal(system(cmd), 0);
}

int member_init(struct member *m, struct buf *why)
{
    struct replica_init init = {.dir = m->dir, .member_id = m->id ? m->id : 1, .root_uid = getuid(), .root_gid = getgid(),
                                .members = m->members, .n_members = m->n_members, .listen = m->listen,
                                .settings = m->settings, .n_settings = m->n_settings};

    return replica_init(&init, why);
}

static void fatal_cb(void *data, const char *why)
{
    struct member *m = data;

    if (atomic_load(&m->fatals) == 0)
        snprintf(m->fatal, sizeof m->fatal, "%s", why);
    atomic_fetch_add(&m->fatals, 1); /* last: who sees it reads what was said */
}

static void lapsed_cb(void *data)
{
    struct member *m = data;

    m->lapses++;
}

int member_start(struct member *m, struct buf *why)
{
    struct replica_options options = {.dir = m->dir, .timeout_ms = m->timeout_ms, .listen = m->listen, .data = m, .fatal = fatal_cb,
                                      .lapsed = lapsed_cb, .leases_gone = m->leases_gone};

    return replica_start(&options, 1000, &m->r, why);
}

void member_up(struct member *m)
{
    struct buf why = {0};

    if (replica_dir_state(m->dir, NULL) != REPLICA_DIR_READY && member_init(m, &why))
        fail_msg("init: %s", buf_cstr(&why));
    if (member_start(m, &why))
        fail_msg("start: %s", buf_cstr(&why));
    buf_fini(&why);
}

void member_down(struct member *m)
{
    replica_stop(m->r);
    m->r = NULL;
}

struct wait {
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool is_done;
    int err;
    int64_t rev;
    uint64_t ino;
};

static void wait_cb(struct replica_request *req, int err, int64_t rev, uint64_t ino)
{
    struct wait *w = req->data;

    pthread_mutex_lock(&w->lock);
    w->err = err;
    w->rev = rev;
    w->ino = ino;
    w->is_done = true;
    pthread_cond_signal(&w->done);
    pthread_mutex_unlock(&w->lock);
}

int member_do(struct member *m, const struct store_op *op, int64_t *rev, uint64_t *ino)
{
    struct wait w = {.lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
    struct replica_request req = {.data = &w, .cb = wait_cb};
    struct store_command cmd = {.uid = getuid(), .gid = getgid(), .pid = getpid(), .comm = "test", .ops = op, .n_ops = 1};

    replica_submit(m->r, &req, &cmd);
    pthread_mutex_lock(&w.lock);
    while (!w.is_done)
        pthread_cond_wait(&w.done, &w.lock);
    pthread_mutex_unlock(&w.lock);
    if (rev)
        *rev = w.rev;
    if (ino)
        *ino = w.ino;
    return w.err;
}

int member_put(struct member *m, const char *name, const char *content)
{
    struct store_edit edits[] = {{.kind = STORE_EDIT_TRUNCATE}, {.kind = STORE_EDIT_WRITE, .bytes = {content, strlen(content)}}};
    struct store_op op = {.kind = STORE_OP_COMMIT, .parent = STORE_ROOT_INO, .name = {name, strlen(name)}, .mode = 0644,
                          .uid = getuid(), .gid = getgid(), .edits = edits, .n_edits = strlen(content) ? 2 : 1};

    op.new_ino = replica_new_ino(m->r, STORE_FILE);
    return op.new_ino ? member_do(m, &op, NULL, NULL) : QE_AGAIN;
}

int member_get(struct member *m, const char *name, struct buf *content)
{
    struct store_reader *reader;
    struct store_attr attr;
    int err = replica_reader(m->r, &reader);

    if (err)
        return err;
    buf_clear(content);
    err = store_lookup(reader, STORE_HEAD, STORE_ROOT_INO, name, strlen(name), &attr);
    if (!err)
        err = store_content(reader, STORE_HEAD, attr.ino, content, NULL);
    store_reader_close(reader);
    return err;
}

int member_own_mounts(void)
{
    const struct mntent *m;
    FILE *f;

    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        return -1;
    while ((f = setmntent("/proc/self/mounts", "r")) != NULL) { /* from the beginning each time: the list has changed */
        while ((m = getmntent(f)) != NULL && strcmp(m->mnt_type, "fuse.quorumfs") != 0)
            ;
        if (!m || umount2(m->mnt_dir, MNT_DETACH))
            break;
        endmntent(f);
    }
    if (!f)
        return -1;
    endmntent(f);
    return m ? -1 : 0;
}

int member_child(const char *failpoints, int (*body)(void *arg), void *arg)
{
    int status;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setenv("CMOCKA_TEST_ABORT", "1", 1); /* a failed assertion must not go on with the other tests */
        if (failpoints)
            setenv("QUORUMFS_FAILPOINTS", failpoints, 1);
        _exit(body(arg));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

void flip_byte(const char *path, long off)
{
    int fd = open(path, O_RDWR);
    struct stat st;
    unsigned char c;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    if (off < 0)
        off += st.st_size;
    assert_int_equal(pread(fd, &c, 1, off), 1);
    c ^= 0x10;
    assert_int_equal(pwrite(fd, &c, 1, off), 1);
    close(fd);
}

void assert_says(struct buf *why, const char *word)
{
    if (!strstr(buf_cstr(why), word))
        fail_msg("\"%s\" does not name \"%s\"", buf_cstr(why), word);
}
