/* quorumfs: the commands mount, init and check. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/daemon.h"
#include "fs/init.h"
#include "fs/mount.h"
#include "fs/opts.h"
#include "fs/preflight.h"
#include "replica/replica.h"
#include "store/base/err.h"
#include "store/base/log.h"

static int fail(int status, struct buf *why)
{
    fprintf(stderr, "quorumfs: %s\n", buf_cstr(why));
    return status;
}

/* ---- quorumfs check ---------------------------------------------------------------------------------------------------------- */

static void print_line(void *data, const char *line)
{
    (void)data;
    puts(line);
}

static int run_check(struct fs_options *o, struct buf *why)
{
    int err;

    if (preflight_dir(&o->dir, why))
        return OPTS_EXIT_FAILED;
    err = replica_check(o->dir, print_line, NULL);
    if (fflush(stdout) || ferror(stdout)) {
        buf_printf(why, "cannot write the report: %s", strerror(errno));
        return OPTS_EXIT_FAILED;
    }
    if (err == QE_LOCKED)
        buf_printf(why, "a quorumfs is running on \"%s\": stop it before a check", o->dir);
    else if (err == QE_CORRUPT)
        buf_printf(why, "\"%s\" is damaged: the report names what was found", o->dir);
    else if (err)
        buf_printf(why, "cannot check \"%s\": %s", o->dir, qfs_strerror(err));
    return err ? OPTS_EXIT_FAILED : 0;
}

/* ---- quorumfs mount ---------------------------------------------------------------------------------------------------------- */

/* Whether DIR holds a cluster, or a new one is wanted and can be made. `create` becomes true only in the second case. */
static int look_at_dir(struct fs_options *o, struct buf *why)
{
    struct buf what = {0};
    enum replica_dir_state state = replica_dir_state(o->dir, &what);
    int err = 0;

    switch (state) {
    case REPLICA_DIR_READY:
        for (size_t i = 0; i < o->n_given; i++)
            if (opts_is_cluster(o->given[i].name))
                log_warn("mount", "\"%s\" has a cluster already: %s = %s is not used; write .quorum/config/%s to change it", o->dir,
                         o->given[i].name, o->given[i].value, o->given[i].name);
        o->create = false;
        break;
    case REPLICA_DIR_FOREIGN:
        buf_printf(why, "\"%s\" is no data directory of quorumfs: it holds \"%s\"", o->dir, what.len ? buf_cstr(&what) : "something else");
        err = QE_NOTEMPTY;
        break;
    case REPLICA_DIR_MISSING:
    case REPLICA_DIR_EMPTY:
        if (!o->create) {
            buf_printf(why, "\"%s\" %s: make a cluster with quorumfs init, or mount with option create", o->dir,
                       state == REPLICA_DIR_MISSING ? "does not exist" : "holds no cluster");
            err = QE_NOCLUSTER;
        }
    }
    buf_fini(&what);
    return err;
}

/* Everything that can be refused while the caller's terminal is still ours. */
static int prepare_mount(struct fs_options *o, struct buf *why)
{
    int status;

    if (preflight_dir(&o->dir, why) || preflight_elsewhere(o->dir, why))
        return OPTS_EXIT_FAILED;
    status = opts_load(o, why);
    if (status)
        return status;
    if (o->fake)
        return 0;
    if (preflight_fuse(why) || preflight_mountpoint(&o->mountpoint, why) || preflight_apart(o->dir, o->mountpoint, why) ||
        look_at_dir(o, why))
        return OPTS_EXIT_FAILED;
    if (o->create && *o->listen && replica_may_listen(o->listen, o->insecure, why))
        return OPTS_EXIT_FAILED;
    if (o->create && preflight_make_dir(o->dir, why))
        return OPTS_EXIT_FAILED;
    return preflight_writable(o->dir, why) ? OPTS_EXIT_FAILED : 0;
}

static void tell_ready(void *data)
{
    daemon_ready(data);
}

static int run_mount(struct fs_options *o, struct buf *why)
{
    struct daemon d = {.pipe = -1};
    int status = prepare_mount(o, why);

    if (status || o->fake)
        return status;
    daemon_clean_fds();
    umask(077); /* DIR is private; modes of files in the tree are the kernel's business */
    if (!o->foreground && daemon_start(&d, why))
        return OPTS_EXIT_FAILED;
    if (o->create && init_cluster(o, why))
        daemon_fail(&d, OPTS_EXIT_FAILED, why);
    if (!o->foreground && daemon_open_log(o->dir, why))
        daemon_fail(&d, OPTS_EXIT_FAILED, why);
    status = mount_run(o, tell_ready, &d, why);
    if (status && why->len)
        daemon_fail(&d, status, why);
    return status;
}

int main(int argc, char *argv[])
{
    struct fs_options o;
    struct buf why = {0}, help = {0};
    enum opts_command command = OPTS_HELP;
    int status = opts_parse(argc, argv, &o, &command, &why);

    if (!status) {
        switch (command) {
        case OPTS_HELP:
            opts_help(&help);
            fputs(buf_cstr(&help), stdout);
            break;
        case OPTS_VERSION: printf("quorumfs %s\n", QFS_VERSION); break;
        case OPTS_MOUNT: status = run_mount(&o, &why); break;
        case OPTS_INIT: status = init_run(&o, &why); break;
        case OPTS_CHECK: status = run_check(&o, &why); break;
        }
    }
    if (status && why.len)
        fail(status, &why);
    if (fflush(stdout))
        status = OPTS_EXIT_FAILED;
    opts_free(&o);
    buf_fini(&why);
    buf_fini(&help);
    return status;
}
