/* What the store must do, said plainly: a tree of structs in memory that keeps every version of everything. No SQL, no pointers to
 * jump, nothing clever; slow where the store is fast. The model check feeds both the same commands. */
#ifndef QFS_TESTS_MODEL_H
#define QFS_TESTS_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

enum { MODEL_NAME_SIZE = 16, MODEL_XATTRS = 4, MODEL_XATTR_SIZE = 64, MODEL_INODES_MAX = 8000000, MODEL_SESSIONS_MAX = 64, MODEL_PARTS_MAX = 8 };

struct model_bytes { /* immutable, shared, never freed */
    size_t len;
    uint8_t data[];
};

struct model_xattr {
    char name[MODEL_NAME_SIZE];
    char value[MODEL_XATTR_SIZE];
    size_t len;
};

struct model_state { /* of an inode at a revision */
    int64_t rev; /* from this one on */
    bool live;
    uint64_t parent;
    char name[MODEL_NAME_SIZE];
    uint32_t mode, uid, gid;
    int64_t mtime, ctime, create_rev, version;
    const struct model_bytes *content;
    struct model_xattr xattrs[MODEL_XATTRS];
    int n_xattrs;
    uint32_t w_uid;
    int32_t w_pid;
};

struct model_binding { /* of a directory: name was ino from..to-1 */
    uint64_t ino;
    char name[MODEL_NAME_SIZE];
    int64_t from, to; /* to: INT64_MAX while it lasts */
};

struct model_inode {
    uint64_t ino;
    struct model_binding **bindings; /* directories: all there ever were, in order of their beginning */
    int n_bindings, cap_bindings;
    int64_t listed;                  /* revision at which they last changed */
    struct model_state now;   /* directories: times move without a version */
    struct model_state *old;  /* all versions, oldest first; the newest is like `now` */
    int n_old, cap_old;
};

struct model_event {
    int64_t rev;
    int op;
    uint64_t ino, parent, old_parent;
    char name[MODEL_NAME_SIZE], old_name[MODEL_NAME_SIZE];
    const char *cause; /* "": none */
};

struct model_kept {
    uint64_t seq;
    struct store_result r;
};

struct model_session {
    uint64_t id, nonce;
    uint32_t member;
    bool ended;
    uint64_t last_seq, acked;
    uint64_t stage_id;        /* transaction that is being staged; 0: none */
    int n_parts;              /* of it */
    const struct store_command *parts[MODEL_PARTS_MAX];
    struct model_kept *kept; /* all there ever were */
    int n_kept, cap_kept;
};

struct model_member {
    uint32_t id, role;
    uint64_t nonce;
    char address[MODEL_NAME_SIZE];
};

enum { MODEL_BOOKMARKS = 4 };
struct model_bookmark { /* "b0", "b1", … */
    bool made;
    uint32_t owner;
    int64_t rev;
};

struct model {
    int64_t rev, compacted, quota, max_value, next_ino;
    struct model_inode **inodes; /* by inode number, MODEL_INODES_MAX of them; NULL: never made */
    uint64_t *made;              /* the numbers in order of creation */
    int n_made, cap_made;
    struct model_event *events;
    int n_events, cap_events;
    struct model_session sessions[MODEL_SESSIONS_MAX];
    int n_sessions;
    struct model_member members[STORE_MEMBERS_MAX];
    int n_members;
    int64_t next_member;
    struct model_bookmark bookmarks[MODEL_BOOKMARKS];
    int64_t live_bytes;
    int64_t hist_total, hist_base; /* bytes superseded ever, and up to `compacted` */
    int64_t *hist_at;              /* hist_total at each revision */
    int cap_hist;

    /* Undo of the command under way: memory as it was. */
    struct undo { void *at; size_t len; uint8_t was[sizeof(struct model_state)]; } *undo;
    int n_undo, cap_undo;
};

void model_init(struct model *m, int64_t time_ns, uint32_t uid, uint32_t gid);
/* The result that the command must have when it is applied as part of entry `index`. The model does not read encoded bytes: for
 * STORE_OP_STAGE `part` is what was encoded, and lives on; else NULL. */
struct store_result model_apply(struct model *m, uint64_t index, const struct store_command *cmd, const struct store_command *part);

struct model_inode *model_find(struct model *m, uint64_t ino);
/* The state at a revision; NULL when it was not there. */
const struct model_state *model_state_at(const struct model_inode *in, int64_t rev);
uint64_t model_lookup(struct model *m, int64_t rev, uint64_t parent, const char *name);
const struct model_bytes *model_bytes(const void *data, size_t len);

#endif
