#include "fs/init.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/preflight.h"
#include "replica/replica.h"
#include "store/base/err.h"
#include "store/base/log.h"

/* ---- The list of members ----------------------------------------------------------------------------------------------------- */

struct member_list {
    struct store_member members[REPLICA_VOTERS_MAX]; /* addresses point into `text` */
    size_t n;
    char *text;  /* owned */
    size_t self; /* which of them we are */
};

static int refuse_list(struct buf *why, const char *item, const char *what)
{
    buf_printf(why, "bad member \"%s\" in --cluster: %s", item, what);
    return QE_INVAL;
}

/* ID=HOST:PORT */
static int take_member(struct member_list *l, char *item, struct buf *why)
{
    char *eq = strchr(item, '='), *end;
    unsigned long id;

    if (l->n == REPLICA_VOTERS_MAX) {
        buf_printf(why, "--cluster names more than %d members: further ones join later with init --join, as standbys", REPLICA_VOTERS_MAX);
        return QE_INVAL;
    }
    errno = 0;
    id = strtoul(item, &end, 10);
    if (!eq || end != eq || *item < '0' || *item > '9' || errno || id < 1 || id > STORE_MEMBER_ID_MAX)
        return refuse_list(why, item, "allowed is ID=HOST:PORT, with an id from 1 to 2147483647");
    if (!store_address_ok(eq + 1))
        return refuse_list(why, item, "its address has to be HOST:PORT; an IPv6 address stands in brackets");
    for (size_t i = 0; i < l->n; i++) {
        if (l->members[i].id == id)
            return refuse_list(why, item, "its id is in the list twice");
        if (!strcmp(l->members[i].address, eq + 1))
            return refuse_list(why, item, "its address is in the list twice");
    }
    l->members[l->n++] = (struct store_member){.id = (uint32_t)id, .address = eq + 1, .role = STORE_MEMBER_VOTER};
    return 0;
}

static int take_list(struct member_list *l, const struct fs_options *o, struct buf *why)
{
    char *rest, *item;
    int err = 0;

    l->text = strdup(o->cluster_list);
    if (!l->text)
        return QE_NOMEM;
    rest = l->text;
    while (!err && (item = strsep(&rest, ",")))
        err = take_member(l, item, why);
    if (err)
        return err;
    if (!o->id_given) {
        buf_printf(why, "--cluster needs --id as well: which member of the list is this one?");
        return QE_INVAL;
    }
    while (l->self < l->n && l->members[l->self].id != o->id)
        l->self++;
    if (l->self == l->n) {
        buf_printf(why, "member %" PRIu32 " (--id) is not in the list of --cluster", o->id);
        return QE_INVAL;
    }
    if (l->n % 2 == 0)
        log_warn("init", "%zu voters tolerate no more failures than %zu: an odd number is better", l->n, l->n - 1);
    return 0;
}

/* ---- Making it --------------------------------------------------------------------------------------------------------------- */

static int settings_of(const struct fs_options *o, const char *(**out)[2])
{
    const char *(*settings)[2] = calloc(o->n_cluster + 1, sizeof *settings);

    if (!settings)
        return QE_NOMEM;
    for (size_t i = 0; i < o->n_cluster; i++) {
        settings[i][0] = o->cluster[i].name;
        settings[i][1] = o->cluster[i].value;
        if (opts_quota_is_large(settings[i][0], settings[i][1]))
            log_warn("init", "quota = %s is large: more than 8G makes everything that copies the whole tree slow", settings[i][1]);
    }
    *out = settings;
    return 0;
}

static int make_cluster(const struct fs_options *o, const struct member_list *l, struct buf *why)
{
    struct replica_init init = {.dir = o->dir, .member_id = o->id, .root_uid = geteuid(), .root_gid = getegid(), .members = l->members,
                                .n_members = l->n, .token = o->token, .listen = o->listen, .advertise = o->advertise, .from = *o->from ? o->from : NULL};
    const char *(*settings)[2] = NULL;
    int err = settings_of(o, &settings);

    if (err)
        return err;
    init.settings = (const char *const(*)[2])settings;
    init.n_settings = o->n_cluster;
    err = replica_init(&init, why);
    if (!err && l->n)
        printf("created member %" PRIu32 " of a new cluster of %zu in %s\n", o->id, l->n, o->dir);
    else if (!err)
        printf("created a new cluster in %s\n", o->dir);
    fflush(stdout);
    free(settings);
    return err;
}

static int join_cluster(const struct fs_options *o, struct buf *why)
{
    const struct replica_join join = {.dir = o->dir, .member = o->join, .listen = o->listen, .advertise = o->advertise, .insecure = o->insecure};
    uint32_t id;
    int err = replica_join(&join, &id, why);

    if (!err)
        printf("joined the cluster as member %" PRIu32 " in %s\n", id, o->dir);
    fflush(stdout);
    return err;
}

int init_cluster(const struct fs_options *o, struct buf *why)
{
    struct member_list none = {0};
    int err = make_cluster(o, &none, why);

    if (err && !why->len)
        buf_printf(why, "cannot make a cluster in \"%s\": %s", o->dir, qfs_strerror(err));
    return err;
}

/* ---- quorumfs init ----------------------------------------------------------------------------------------------------------- */

/* What a cluster decides cannot be given by who joins it. */
static int look_at_join(const struct fs_options *o, struct buf *why)
{
    if (!store_address_ok(o->join))
        buf_printf(why, "bad value \"%s\" for --join: allowed is HOST:PORT, where a running member listens", o->join);
    else if (*o->cluster_list || *o->from)
        buf_printf(why, "--join and %s exclude each other", *o->from ? "--from" : "--cluster");
    else if (o->id_given)
        buf_printf(why, "--id = %" PRIu32 " cannot be asked for with --join: the cluster gives the new member its id", o->id);
    else if (o->n_cluster)
        buf_printf(why, "%s = %s (%s) is a setting of the cluster: one that is joined has it already", o->cluster[0].name,
                   o->cluster[0].value, o->cluster[0].where);
    else if (!*o->listen)
        buf_printf(why, "--join needs --listen: where will the others reach the new member?");
    return why->len ? OPTS_EXIT_USAGE : 0;
}

/* What is asked for, before anything is made. Returns an exit status. */
static int look_at_options(struct fs_options *o, struct member_list *l, struct buf *why)
{
    int status = opts_load(o, why);

    if (status)
        return status;
    if (*o->token && !*o->cluster_list) {
        buf_printf(why, "--token needs --cluster: it tells clusters with the same list of members apart");
        return OPTS_EXIT_USAGE;
    }
    if (*o->join)
        return look_at_join(o, why);
    if (!*o->cluster_list)
        return 0;
    if (take_list(l, o, why))
        return why->len ? OPTS_EXIT_USAGE : OPTS_EXIT_FAILED;
    if (!*o->listen)
        return opts_give(o, "listen", l->members[l->self].address, "--cluster") ? OPTS_EXIT_FAILED : 0;
    /* The list says where the others reach this member, wherever it listens. */
    if (!*o->advertise && strcmp(o->listen, l->members[l->self].address) != 0)
        return opts_give(o, "advertise", l->members[l->self].address, "--cluster") ? OPTS_EXIT_FAILED : 0;
    return 0;
}

/* Whatever cannot be done is refused before anything is made; where that is not known before, what was made is taken away again. */
static int make(struct fs_options *o, const struct member_list *l, struct buf *why)
{
    bool there = access(o->dir, F_OK) == 0;
    int64_t was = -1;
    int err = preflight_make_dir(o->dir, why);

    if (err)
        return err;
    err = preflight_writable(o->dir, why);
    if (!err) {
        err = opts_save(o, &was, why);
        if (!err)
            err = *o->join ? join_cluster(o, why) : make_cluster(o, l, why);
        if (err)
            opts_unsave(o, was);
    }
    if (err && !there)
        (void)rmdir(o->dir);
    return err;
}

static int run(struct fs_options *o, struct member_list *l, struct buf *why)
{
    const char *listen;
    int status;

    if (preflight_dir(&o->dir, why) || preflight_elsewhere(o->dir, why))
        return OPTS_EXIT_FAILED;
    status = look_at_options(o, l, why);
    if (status)
        return status;
    if (replica_dir_state(o->dir, why) == REPLICA_DIR_READY) {
        buf_clear(why);
        buf_printf(why, "\"%s\" has a cluster already", o->dir);
        return OPTS_EXIT_FAILED;
    }
    buf_clear(why);
    listen = *o->listen || !l->n ? o->listen : l->members[l->self].address;
    if (*listen && replica_may_listen(listen, o->insecure, why))
        return OPTS_EXIT_FAILED;
    return make(o, l, why) ? OPTS_EXIT_FAILED : 0;
}

int init_run(struct fs_options *o, struct buf *why)
{
    struct member_list l = {0};
    int status = run(o, &l, why);

    if (status && !why->len)
        buf_printf(why, "cannot make \"%s\": out of memory", o->dir);
    free(l.text);
    return status;
}
