/* The settings of a member and of a mount, with their precedence: command line or -o, environment QUORUMFS_NAME, quorumfs.conf in
 * DIR, default. One table (opts.c) also prints --help and the messages of refused values. Cluster settings come from the store's own
 * table; here they are only collected for the creation of a cluster. */
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
    bool fake;         /* mount -f: check the command line, mount nothing */
    char *cluster_list; /* init --cluster: "1=HOST:PORT,2=…"; "" */
    char *token;       /* init --token; "" */
    char *join;        /* init --join: HOST:PORT of a running member; "" */
    char *from;        /* init --from: a snapshot; "" */

    /* Mount options. */
    bool allow_other;         /* default: yes when started by root */
    bool default_permissions; /* default: yes when started by root, or with allow_other */
    bool read_only;           /* -o ro */
    bool show_control;        /* -o show-control: .quorum is listed */
    char *kernel_opts;        /* generic ones that are handed on: noatime, noexec, … comma separated; "" */

    /* Member settings. */
    uint32_t id;        /* default 1 */
    bool id_given;      /* somebody asked for this id: DIR has to have the same */
    char *listen;       /* "" : no network */
    char *advertise;    /* where the others reach it; "": what it listens on */
    int timeout_ms;     /* default 5000 */
    bool reads_local;   /* reads = local */
    bool insecure;

    /* What was asked for, as text, until opts_load has made the above of it. */
    struct opts_pair *given; /* from the command line and -o, in order; member and cluster settings */
    size_t n_given;
    struct opts_pair *cluster; /* cluster settings for a new cluster: canonical values */
    size_t n_cluster;
};

struct opts_pair {
    char *name;  /* owned */
    char *value; /* owned */
    char *where; /* owned; "--timeout", "-o timeout", for messages */
};

enum opts_command { OPTS_HELP, OPTS_VERSION, OPTS_MOUNT, OPTS_INIT, OPTS_CHECK };
/* The exit status of a refused command line, and of everything else that fails. */
enum { OPTS_EXIT_FAILED = 1, OPTS_EXIT_USAGE = 2 };

/* cmdline.c: takes the command line apart; `o` is overwritten. Returns 0 or an exit status with a sentence in `why`. Paths are
 * still as they were typed, and no value has been looked at. */
int opts_parse(int argc, char *const argv[], struct fs_options *o, enum opts_command *command, struct buf *why);
/* Fills in the settings from all sources, lowest precedence first, so that a bad value is refused wherever it stands.
 * Returns 0 or an exit status. Call when o->dir is known; a missing DIR or quorumfs.conf is fine. */
int opts_load(struct fs_options *o, struct buf *why);
/* Appends the member settings of the command line to DIR/quorumfs.conf, for init. 0 or QE_IO. `was`: for opts_unsave. */
int opts_save(const struct fs_options *o, int64_t *was, struct buf *why);
/* Takes them away again, also after opts_save has failed. */
void opts_unsave(const struct fs_options *o, int64_t was);
/* DIR says which member it is: 0, or QE_INVAL and a sentence when another id was asked for. */
int opts_settle_id(struct fs_options *o, uint32_t member, struct buf *why);
void opts_free(struct fs_options *o);
void opts_help(struct buf *out);

/* For cmdline.c: 0; QE_NOENT: neither a member nor a cluster setting; QE_NOMEM. `value` is copied. */
int opts_give(struct fs_options *o, const char *name, const char *value, const char *where);
bool opts_is_cluster(const char *name); /* a setting of the cluster, not of a member */
/* A canonical cluster setting is a quota above 8G: allowed, but a database of that size is slow to send to a new member. */
bool opts_quota_is_large(const char *name, const char *value);
/* "id, listen, …": every setting there is, for messages. */
void opts_list_names(struct buf *out);

/* For .quorum/config and status: the member settings by name, as text. 0 or QE_NOENT. */
int fs_options_show(const struct fs_options *o, const char *name, struct buf *out);
/* The names of the member settings, in order, NULL-terminated. */
const char *const *fs_options_names(void);

#endif
