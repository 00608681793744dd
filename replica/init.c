/* init: makes the data directory of a new cluster of one.
 *
 * The file "init" is there from before the first step until after the last: while it is, the directory holds nothing that anybody
 * was promised, and another call throws away what there is and begins again. Nothing is served while it is there. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replica/member.h"
#include "replica/transport.h"
#include "store/base/clock.h"
#include "store/base/failpoint.h"
#include "store/base/log.h"

enum replica_dir_state replica_dir_state(const char *dir, struct buf *what)
{
    return dir_state(dir, what);
}

static int random_bytes(void *out, size_t len)
{
    return getrandom(out, len, 0) == (ssize_t)len ? 0 : QE_IO;
}

/* The parent is synced as well, else a crash of the machine takes the whole directory. */
static int make_dir(const char *path, struct buf *why)
{
    struct buf parent = {0};
    char *slash;
    int err;

    if (mkdir(path, 0700) && errno != EEXIST) {
        buf_printf(why, "cannot make \"%s\": %s", path, strerror(errno));
        return errno == EACCES || errno == EPERM || errno == EROFS ? QE_ACCES : errno == ENOSPC ? QE_DISKFULL :
               errno == ENOENT || errno == ENOTDIR ? QE_NOENT : QE_IO;
    }
    err = buf_printf(&parent, "%s", path);
    slash = err ? NULL : strrchr((char *)parent.data, '/');
    if (slash)
        slash[slash == (char *)parent.data] = 0;
    if (!err && dir_sync(slash ? (char *)parent.data : ".")) {
        if (errno != EACCES) { /* a parent that may not be read cannot be synced; that is not worth refusing for */
            buf_printf(why, "cannot sync the directory of \"%s\": %s", path, strerror(errno));
            err = QE_IO;
        }
    }
    buf_fini(&parent);
    return err;
}

static void closed_cb(struct raft *raft)
{
    raft->data = NULL;
}

static void close_handle_cb(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* libraft writes the first term and, as entry 1, the configuration. A server's address is the text of its id: real addresses are
 * not raft's business and may change. */
static int bootstrap(const char *raft_dir, uint32_t member_id, struct buf *why)
{
    struct raft_configuration conf;
    struct raft_uv_transport transport;
    struct raft_fsm fsm = {.version = 1};
    struct raft_io io = {0};
    struct raft raft = {0};
    struct uv_loop_s uv;
    char address[16];
    int rv;

    snprintf(address, sizeof address, "%" PRIu32, member_id);
    raft_configuration_init(&conf);
    if (uv_loop_init(&uv)) {
        buf_printf(why, "cannot make a loop: out of memory or file descriptors");
        return QE_NOMEM;
    }
    transport_init_alone(&transport);
    rv = raft_uv_init(&io, &uv, raft_dir, &transport);
    if (rv)
        goto out_loop;
    rv = raft_init(&raft, &io, &fsm, member_id, address);
    if (rv)
        goto out_io;
    rv = raft_configuration_add(&conf, member_id, address, RAFT_VOTER);
    if (!rv)
        rv = raft_bootstrap(&raft, &conf);
    raft_close(&raft, closed_cb);
    uv_run(&uv, UV_RUN_DEFAULT);
out_io:
    if (rv)
        buf_printf(why, "cannot write the log in \"%s\": %s", raft_dir, io.errmsg[0] ? io.errmsg : raft_strerror(rv));
    raft_uv_close(&io);
out_loop:
    if (rv && why->len == 0)
        buf_printf(why, "cannot open \"%s\": %s", raft_dir, io.errmsg[0] ? io.errmsg : raft_strerror(rv));
    uv_walk(&uv, close_handle_cb, NULL);
    uv_run(&uv, UV_RUN_DEFAULT);
    uv_loop_close(&uv);
    raft_configuration_close(&conf);
    return rv == 0 ? 0 : rv == RAFT_NOSPACE ? QE_DISKFULL : rv == RAFT_NOMEM ? QE_NOMEM : QE_IO;
}

static int make_raft(const struct dir *d, const struct dir_identity *id, struct buf *why)
{
    int err;

    if (mkdir(d->raft, 0700) && errno != EEXIST) {
        buf_printf(why, "cannot make \"%s\": %s", d->raft, strerror(errno));
        return QE_IO;
    }
    err = bootstrap(d->raft, id->member_id, why);
    if (!err)
        err = dir_identity_write(d, id, why);
    if (!err && dir_sync(d->path)) {
        buf_printf(why, "cannot sync \"%s\": %s", d->path, strerror(errno));
        err = QE_IO;
    }
    return err;
}

static int make_database(const struct replica_init *init, const struct dir_identity *id, struct buf *why)
{
    struct store_initial initial = {.epoch = id->epoch, .root_uid = init->root_uid, .root_gid = init->root_gid,
                                    .time_ns = clock_realtime_ns(), .settings = init->settings, .n_settings = init->n_settings};

    memcpy(initial.cluster_id, id->cluster_id, sizeof initial.cluster_id);
    return store_create(init->dir, &initial, why);
}

/* With the lock held. Each failpoint is a moment at which a crash must do no harm. */
static int make_all(const struct replica_init *init, struct dir *d, struct buf *why)
{
    struct dir_identity id = {.member_id = init->member_id};
    int err;

    if (random_bytes(id.cluster_id, sizeof id.cluster_id) || random_bytes(&id.epoch, sizeof id.epoch)) {
        buf_printf(why, "cannot get random bytes: %s", strerror(errno));
        return QE_IO;
    }
    id.epoch &= INT64_MAX; /* SQLite's integers are signed */
    err = dir_mark_init(d, true, why);
    if (!err && FAILPOINT("replica.init.marked"))
        err = QE_IO;
    if (!err)
        err = dir_wipe(d, why);
    if (!err)
        err = make_raft(d, &id, why);
    if (!err && FAILPOINT("replica.init.raft"))
        err = QE_IO;
    if (!err && dir_ballast_make(d, MEMBER_SEGMENT_BYTES))
        log_warn("replica", "no room for the ballast in \"%s\"", d->path);
    if (!err)
        err = make_database(init, &id, why);
    if (!err && FAILPOINT("replica.init.database"))
        err = QE_IO;
    if (!err)
        err = dir_mark_init(d, false, why);
    return err;
}

int replica_init(const struct replica_init *init, struct buf *why)
{
    struct buf what = {0};
    struct dir d = {.lock_fd = -1};
    int err;

    if (dir_state(init->dir, &what) == REPLICA_DIR_FOREIGN) { /* before anything is written into it */
        buf_printf(why, "\"%s\" is not a data directory: it holds \"%s\"", init->dir, buf_cstr(&what));
        buf_fini(&what);
        return QE_NOTEMPTY;
    }
    err = make_dir(init->dir, why);
    if (!err)
        err = dir_init(&d, init->dir);
    if (!err)
        err = dir_lock(&d, 0, why);
    if (!err && dir_state(init->dir, &what) == REPLICA_DIR_READY) {
        buf_printf(why, "\"%s\" holds a cluster already", init->dir);
        err = QE_EXIST;
    }
    if (!err)
        err = make_all(init, &d, why);
    if (err && why->len == 0)
        buf_printf(why, "cannot make \"%s\": %s", init->dir, qfs_strerror(err));
    dir_fini(&d);
    buf_fini(&what);
    return err;
}
