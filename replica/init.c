/* init: makes the data directory of a member of a new cluster.
 *
 * The members of a cluster that is made by a list never speak to each other meanwhile: each makes the same database, the same first
 * entry of the log and the same cluster id from the list, the settings and the token. Only the epoch, which joins its own raft
 * directory and its own database, is random.
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

#include "replica/init.h"
#include "replica/member.h"
#include "replica/salvage.h"
#include "replica/transport.h"
#include "store/base/clock.h"
#include "store/base/failpoint.h"
#include "store/base/log.h"

/* When a cluster that is made by a list begins, for the root directory's times and the store's clock: 2026-01-01. */
static const int64_t BEGINNING_NS = INT64_C(1767225600) * 1000000000;

enum replica_dir_state replica_dir_state(const char *dir, struct buf *what)
{
    return dir_state(dir, what);
}

int init_random(void *out, size_t len)
{
    return getrandom(out, len, 0) == (ssize_t)len ? 0 : QE_IO;
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

/* All are voters. A server's address is the text of its id: real addresses are not raft's business and may change. */
static int configure(struct raft_configuration *conf, const struct store_initial *initial)
{
    char address[16];
    int rv = 0;

    for (size_t i = 0; rv == 0 && i < initial->n_members; i++) {
        snprintf(address, sizeof address, "%" PRIu32, initial->members[i].id);
        rv = raft_configuration_add(conf, initial->members[i].id, address, RAFT_VOTER);
    }
    return rv;
}

/* A log without entries, for a member that gets them from the others, in the term that its database is of. */
static int begin_empty(struct raft_io *io, uint64_t term)
{
    struct raft_snapshot *snapshot = NULL;
    struct raft_entry *entries = NULL;
    raft_term old;
    raft_id voted;
    raft_index start;
    size_t n = 0;
    int rv = io->load(io, &old, &voted, &snapshot, &start, &entries, &n);

    if (!rv && (snapshot || n > 0))
        rv = RAFT_CORRUPT; /* it was wiped just now */
    return rv ? rv : io->set_term(io, term);
}

/* libraft writes the first term and, as entry 1, the configuration; without `initial` only the term. */
static int bootstrap(const char *raft_dir, uint32_t member_id, const struct store_initial *initial, uint64_t term, struct buf *why)
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
    rv = initial ? configure(&conf, initial) : begin_empty(&io, term);
    if (!rv && initial)
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

int init_raft(const struct dir *d, const struct dir_identity *id, const struct store_initial *initial, uint64_t term, struct buf *why)
{
    int err;

    if (mkdir(d->raft, 0700) && errno != EEXIST) {
        buf_printf(why, "cannot make \"%s\": %s", d->raft, strerror(errno));
        return QE_IO;
    }
    err = bootstrap(d->raft, id->member_id, initial, term, why);
    if (!err)
        err = dir_identity_write(d, id, why);
    if (!err && dir_sync(d->path)) {
        buf_printf(why, "cannot sync \"%s\": %s", d->path, strerror(errno));
        err = QE_IO;
    }
    return err;
}

static int by_id(const void *a, const void *b)
{
    const struct store_member *x = a, *y = b;

    return x->id < y->id ? -1 : x->id > y->id;
}

/* The members in the order of their ids, in memory of the caller's. */
static int sort_members(const struct replica_init *init, struct store_member *members, struct buf *why)
{
    bool among = init->n_members == 0;

    if (init->n_members > REPLICA_VOTERS_MAX) {
        buf_printf(why, "%zu members are too many: at most %d can vote; further ones join later, as standbys", init->n_members,
                   REPLICA_VOTERS_MAX);
        return QE_INVAL;
    }
    if (init->n_members == 0)
        members[0] = (struct store_member){.id = init->member_id, .role = STORE_MEMBER_VOTER,
                                           .address = member_address(init->listen, init->advertise)};
    for (size_t i = 0; i < init->n_members; i++) {
        members[i] = (struct store_member){.id = init->members[i].id, .address = init->members[i].address, .role = STORE_MEMBER_VOTER};
        among = among || members[i].id == init->member_id;
        if (!store_address_ok(members[i].address)) {
            buf_printf(why, "member %" PRIu32 " has no address of the form HOST:PORT: \"%s\"", members[i].id, members[i].address);
            return QE_INVAL;
        }
    }
    qsort(members, init->n_members, sizeof *members, by_id);
    for (size_t i = 1; i < init->n_members; i++)
        if (members[i].id == members[i - 1].id) {
            buf_printf(why, "member %" PRIu32 " is in the list twice", members[i].id);
            return QE_INVAL;
        }
    for (size_t i = 0; i < init->n_members; i++)
        for (size_t k = 0; k < i; k++)
            if (!strcmp(members[i].address, members[k].address)) {
                buf_printf(why, "members %" PRIu32 " and %" PRIu32 " have the same address %s", members[k].id, members[i].id,
                           members[i].address);
                return QE_INVAL;
            }
    if (!among)
        buf_printf(why, "member %" PRIu32 " is not in the list of members", init->member_id);
    return among ? 0 : QE_INVAL;
}

/* Everything that is replicated at the beginning, and who we are. */
static int make_identity(const struct replica_init *init, struct store_initial *initial, struct dir_identity *id, struct buf *why)
{
    int err = init->n_members ? store_initial_cluster_id(initial, init->token ? init->token : "")
                              : init_random(initial->cluster_id, sizeof initial->cluster_id);

    if (!err)
        err = init_random(&id->epoch, sizeof id->epoch);
    if (err) {
        buf_printf(why, "cannot make an identity: %s", err == QE_IO ? strerror(errno) : qfs_strerror(err));
        return err;
    }
    id->epoch &= INT64_MAX; /* SQLite's integers are signed */
    id->member_id = init->member_id;
    memcpy(id->cluster_id, initial->cluster_id, sizeof id->cluster_id);
    initial->epoch = id->epoch;
    return 0;
}

/* With the lock held. Each failpoint is a moment at which a crash must do no harm. */
static int make_all(struct dir *d, const struct dir_identity *id, const struct store_initial *initial, struct buf *why)
{
    int err = dir_mark_init(d, true, why);

    if (!err && FAILPOINT("replica.init.marked"))
        err = QE_IO;
    if (!err)
        err = dir_wipe(d, why);
    if (!err)
        err = init_raft(d, id, initial, 0, why);
    if (!err && FAILPOINT("replica.init.raft"))
        err = QE_IO;
    if (!err && dir_ballast_make(d, MEMBER_SEGMENT_BYTES))
        log_warn("replica", "no room for the ballast in \"%s\"", d->path);
    if (!err)
        err = store_create(d->path, initial, why);
    if (!err && FAILPOINT("replica.init.database"))
        err = QE_IO;
    if (!err)
        err = dir_mark_init(d, false, why);
    return err;
}

/* A data directory may be begun from as well, while nobody uses it. It is only read, and may be where nothing can be written. */
static int lock_source(const struct replica_init *init, struct dir *source, struct buf *why)
{
    struct buf what = {0};
    struct stat st;
    int err = 0;

    if (!init->from || stat(init->from, &st) || !S_ISDIR(st.st_mode))
        return 0; /* a file, or missing: store says so */
    if (init->n_members) {
        buf_printf(why, "each member of a list needs the same file to begin with, not a directory: \"%s\"", init->from);
        err = QE_INVAL;
    } else if (dir_state(init->from, &what) != REPLICA_DIR_READY) {
        buf_printf(why, "there is no cluster in \"%s\"", init->from);
        err = QE_NOCLUSTER;
    }
    buf_fini(&what);
    if (!err)
        err = dir_init(source, init->from);
    return err ? err : dir_lock_readonly(source, why);
}

int replica_init(const struct replica_init *init, struct buf *why)
{
    struct store_member members[REPLICA_VOTERS_MAX];
    struct dir d = {.lock_fd = -1}, source = {.lock_fd = -1};
    struct salvage salvage = {.source = &source, .into = &d};
    struct store_initial initial = {.from = init->from, .root_uid = init->root_uid, .root_gid = init->root_gid, .settings = init->settings,
                                    .n_settings = init->n_settings, .members = members, .n_members = init->n_members ? init->n_members : 1,
                                    .time_ns = init->n_members ? BEGINNING_NS : clock_realtime_ns(),
                                    .catch_up = salvage_apply, .catch_up_data = &salvage};
    struct dir_identity id;
    struct buf what = {0};
    bool empty;
    int err = sort_members(init, members, why);

    if (err)
        return err;
    if (dir_state(init->dir, &what) == REPLICA_DIR_FOREIGN) { /* before anything is written into it */
        buf_printf(why, "\"%s\" is not a data directory: it holds \"%s\"", init->dir, buf_cstr(&what));
        buf_fini(&what);
        return QE_NOTEMPTY;
    }
    err = dir_make(init->dir, why);
    if (!err)
        err = dir_init(&d, init->dir);
    if (!err)
        err = dir_lock(&d, 0, why);
    if (!err && dir_state(init->dir, &what) == REPLICA_DIR_READY) {
        buf_printf(why, "\"%s\" holds a cluster already", init->dir);
        err = QE_EXIST;
    }
    empty = !err;
    if (!err)
        err = lock_source(init, &source, why);
    if (!err)
        err = make_identity(init, &initial, &id, why);
    if (!err)
        err = make_all(&d, &id, &initial, why);
    if (err && why->len == 0)
        buf_printf(why, "cannot make \"%s\": %s", init->dir, qfs_strerror(err));
    if (err && empty)
        dir_unmake(&d);
    dir_fini(&d);
    dir_fini(&source);
    buf_fini(&what);
    return err;
}
