/* The settings of a member and of a mount, with their precedence: command line or -o, environment QUORUMFS_NAME, quorumfs.conf in
 * DIR, default. One table (opts.c) also prints --help and the messages of refused values. */
#ifndef QFS_FS_OPTS_H
#define QFS_FS_OPTS_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/buf.h"

struct fs_options {
    /* The command line. All strings are owned by the options. */
    char *dir;         /* absolute */
    char *mountpoint;  /* absolute */
    bool foreground;
    bool create;       /* may make a new cluster in an empty or missing DIR */
    bool from_mount8;  /* called as mount.fuse.quorumfs */

    /* Mount options. */
    bool allow_other;         /* default: yes when started by root */
    bool default_permissions; /* default: yes when started by root, or with allow_other */
    bool read_only;           /* -o ro */
    bool show_control;        /* -o show-control: .quorum is listed */
    char *kernel_opts;        /* generic ones that are handed on: noatime, noexec, … comma separated; "" */

    /* Member settings. */
    uint32_t id;        /* default 1 */
    char *listen;       /* "" : no network */
    int timeout_ms;     /* default 5000 */
    bool reads_local;   /* reads = local */
    bool insecure;
};

/* For .quorum/config and status: the member settings by name, as text. 0 or QE_NOENT. */
int fs_options_show(const struct fs_options *o, const char *name, struct buf *out);
/* The names of the member settings, in order, NULL-terminated. */
const char *const *fs_options_names(void);

#endif
