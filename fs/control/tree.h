/* The rows of the control tree, and what the files of this folder share; private to fs/control.
 *
 * A control file is one row: who may do what, and the functions that make its content and understand its commands. A row may be a
 * directory whose children are made by a function; a child is served by the row's own functions, which get its name.
 *
 * Node numbers of view FS_VIEW_CONTROL: the root is 1; row i is i + 2; child j of row i is (i + 2) << 16 | (j + 1). Rows and children
 * are fixed while the program runs, so numbers need no table. A row with a view is the root of that view, which serves it and
 * everything below (views.h).
 *
 * All functions run on the FUSE loop. */
#ifndef QFS_FS_CONTROL_TREE_H
#define QFS_FS_CONTROL_TREE_H

#include "fs/control/control.h"
#include "fs/control/views.h"
#include "store/base/buf.h"

/* What one write(2) asks for: its lines are taken in order into one operation of the store, or into one change of the membership (the
 * last line counts), so that all take effect or none. */
struct control_command {
    struct store_op op; /* filled in by the row; may point into `hold`; kind 0: there is nothing to do */
    struct buf hold;    /* memory for op */
    enum replica_change_kind change; /* 0: none */
    uint32_t member;    /* of the change, as is */
    enum store_member_role role;
};

struct control_row {
    const char *name;
    mode_t mode; /* with the S_IFMT bits; of its children if it has some */
    /* Appends the content. 0 or QE_*. */
    int (*read)(struct fs *fs, const char *child, struct buf *out);
    /* Understands one line, without its newline: joins it to cmd, which has the lines before it. 0 or QE_*, with a sentence for the
     * log in `why`. NULL: read-only. */
    int (*command)(struct fs *fs, const char *child, const char *line, struct control_command *cmd, struct buf *why);
    /* The name of child i and its mode, NULL behind the last. NULL: the row is a file. */
    const char *(*child)(size_t i, mode_t *mode);
    bool newest;       /* opening it for reading asks the cluster: what it shows has every commit that returned before */
    enum fs_view view; /* not 0: whose root the row is; the other functions are NULL */
};

/* table.c */
const struct control_row *control__rows(size_t *n);
struct control_ref { /* what a node is */
    const struct control_row *row; /* NULL: the root */
    const char *child;             /* NULL: the row itself */
    mode_t mode;
};
bool control__ref(fuse_ino_t node, struct control_ref *out);
/* The row that is the root of a view. NULL: there is none. */
const struct control_row *control__row_of_view(enum fs_view view);
/* The node of a name in a directory of the table. 0: there is none. */
fuse_ino_t control__find(fuse_ino_t dir, const char *name);
/* Entry i of a directory of the table. 0 behind the last. */
fuse_ino_t control__entry(fuse_ino_t dir, size_t i, const char **name);

/* status.c: the facts about this member that status and metrics share; fixed names and order, new ones are appended. */
struct control_facts {
    struct replica_status status;
    struct store_glance glance;
    char cluster[2 * STORE_CLUSTER_ID_SIZE + 1];
    int64_t uptime_s;
    uint64_t failed_commits;
};
void control__facts(struct fs *fs, struct control_facts *out);

/* What rows do. */
int control__read_readme(struct fs *fs, const char *child, struct buf *out);
int control__read_revision(struct fs *fs, const char *child, struct buf *out);
int control__read_status(struct fs *fs, const char *child, struct buf *out);
int control__read_status_json(struct fs *fs, const char *child, struct buf *out);
int control__read_metrics(struct fs *fs, const char *child, struct buf *out);
int control__read_health(struct fs *fs, const char *child, struct buf *out);
int control__read_hash(struct fs *fs, const char *child, struct buf *out);
const char *control__config_child(size_t i, mode_t *mode);
int control__read_config(struct fs *fs, const char *child, struct buf *out);
int control__command_config(struct fs *fs, const char *child, const char *line, struct control_command *cmd, struct buf *why);
int control__read_leader(struct fs *fs, const char *child, struct buf *out);
int control__command_leader(struct fs *fs, const char *child, const char *line, struct control_command *cmd, struct buf *why);
int control__read_compact(struct fs *fs, const char *child, struct buf *out);
int control__command_compact(struct fs *fs, const char *child, const char *line, struct control_command *cmd, struct buf *why);

/* write.c: one write(2) to a control file; replies. */
void control__write(fuse_req_t req, const struct control_ref *ref, const char *data, size_t size);
/* The same for a file of another view. */
struct control_lines {
    const char *file; /* for the log; borrowed for the call, as `data` is */
    void *data;       /* for `line` */
    /* As control_row.command. */
    int (*line)(struct fs *fs, void *data, const char *line, struct control_command *cmd, struct buf *why);
};
void control__write_lines(fuse_req_t req, const struct control_lines *to, const char *data, size_t size);

/* bookmarks.c: a line written to the file of the bookmark `data`, its name. */
int control__bookmark_line(struct fs *fs, void *data, const char *line, struct control_command *cmd, struct buf *why);

/* leases.c: a line written to the TTL of the lease whose id `data` points to. */
int control__ttl_line(struct fs *fs, void *data, const char *line, struct control_command *cmd, struct buf *why);

/* An open control file, or a file of a view that shows what it was when it was opened. */
struct control_file {
    struct buf content; /* what it held when it was opened; fixed */
    uid_t uid;          /* who opened it */
    bool writable;
};
/* Counts the bytes of such snapshots, and of listings: 0, or QE_NOMEM above 1 GiB, for one user who is not root above half of what others leave. */
int control__snapshot_add(uid_t uid, size_t bytes);
void control__snapshot_drop(uid_t uid, size_t bytes);
/* Takes the content over and replies to OPEN. fi->keep_cache, set by the caller: the kernel may keep what it has read. */
void control__reply_open(fuse_req_t req, struct fuse_file_info *fi, struct buf *content, bool writable);
void control__reply_bytes(fuse_req_t req, const struct buf *b, size_t size, off_t off);

/* members.c: asks for a change of the membership; `call` says how its outcome is told. */
struct pending_call;
void control__change(struct fs *fs, enum replica_change_kind kind, uint32_t id, enum store_member_role role, const struct pending_call *call);

/* rows.c: an entry of the control tree itself: the mount's owner and times, long timeouts; everything but the size. */
void control__entry_of(struct fs *fs, fuse_ino_t node, mode_t mode, struct fuse_entry_param *e);

#endif
