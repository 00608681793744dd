/* What the store's tests share: a store in a directory of its own, a session, and short words for commands. */
#ifndef QFS_TESTS_STORE_KIT_H
#define QFS_TESTS_STORE_KIT_H

#include <stdbool.h>

#include "store/store.h"

enum { KIT_MEMBER = 3 }; /* whose commands they are */

struct kit {
    char dir[64];             /* removed by kit_fini */
    struct store *s;          /* NULL while closed */
    struct store_reader *r;
    uint64_t index;           /* of the newest entry */
    uint64_t session, seq;    /* whose commands these are */
    uint64_t nonce;           /* the next session's */
    uint64_t acked;           /* sent with each command */
    uint64_t next_n, end_n;   /* reserved inode numbers */
    int64_t time_ns;          /* the wall clock: a millisecond a command */
    uint32_t uid, gid;        /* who */
    size_t wal_limit_bytes;   /* for kit_open; 0: the store's own */
    struct store_result res;  /* of the newest command */
    size_t n_results;         /* of the newest batch */
    size_t n_changes;
    struct store_change changes[64]; /* of the newest batch; names are copied to `names` */
    char names[64][2][256];
    int n_members_changed;    /* how often the table of members was said to have changed */
    struct buf locks, lives;  /* of the newest batch, in words: "granted 2/1/7@12; " is session/owner/request@token; see kit.c */
    const char *settings[8][2]; /* for kit_init_with */
    size_t n_settings;
};

extern const uint8_t kit_cluster_id[STORE_CLUSTER_ID_SIZE];

void kit_init(struct kit *k);       /* makes, opens, starts a session, reserves inode numbers; fails the test if it cannot */
void kit_fini(struct kit *k);
void kit_make_dir(struct kit *k);   /* only the directory */
int kit_create(struct kit *k);      /* store_create; prints why it failed */
int kit_create_quietly(struct kit *k);
int kit_open(struct kit *k);
void kit_close(struct kit *k);
void kit_start(struct kit *k);      /* session and inode numbers */
void kit_reopen(struct kit *k);
void kit_check(struct kit *k);      /* store_check must find nothing (closes and opens) */

uint64_t kit_ino(struct kit *k, enum store_kind kind); /* a fresh number */

/* One command of the kit's session, in an entry of its own. Returns the command's error; store_apply itself must succeed. */
int kit_ops(struct kit *k, const struct store_op *ops, size_t n);
int kit_op(struct kit *k, const struct store_op *op);
/* The lower steps: stamps; applies one entry of n encoded commands and returns what store_apply did. */
struct store_command kit_command(struct kit *k, const struct store_op *ops, size_t n);
int kit_apply(struct kit *k, const struct store_command *cmds, size_t n);

#define B(text) ((struct store_bytes){text, sizeof(text) - 1})
struct store_bytes kit_str(const char *text);

/* Commands by name; all return the error. k->res.ino is the inode. */
int kit_put(struct kit *k, uint64_t parent, const char *name, const char *text);      /* > */
int kit_put_bytes(struct kit *k, uint64_t parent, const char *name, const void *data, size_t len);
int kit_add(struct kit *k, uint64_t ino, const char *text);                           /* >> */
int kit_mkdir(struct kit *k, uint64_t parent, const char *name);
int kit_symlink(struct kit *k, uint64_t parent, const char *name, const char *target);
int kit_create_excl(struct kit *k, uint64_t parent, const char *name);
int kit_unlink(struct kit *k, uint64_t parent, const char *name);
int kit_rmdir(struct kit *k, uint64_t parent, const char *name);
int kit_rename(struct kit *k, uint64_t from, const char *name, uint64_t to, const char *name2, uint32_t flags);
int kit_chmod(struct kit *k, uint64_t ino, uint32_t mode);
int kit_setxattr(struct kit *k, uint64_t ino, const char *name, const char *value, uint32_t flags);
int kit_set(struct kit *k, const char *name, const char *value);
int kit_compact(struct kit *k, int64_t rev);
void kit_compact_all(struct kit *k); /* store_maintain until there is nothing left to do */

/* Reading. */
uint64_t kit_lookup(struct kit *k, int64_t at, uint64_t parent, const char *name);    /* 0: not there */
void kit_attr(struct kit *k, uint64_t ino, struct store_attr *out);
void kit_assert_content(struct kit *k, int64_t at, uint64_t ino, const char *text);
void kit_assert_list(struct kit *k, int64_t at, uint64_t dir, const char *names);     /* "a b c" */
void kit_assert_list_after(struct kit *k, int64_t at, uint64_t dir, const char *after, const char *names);
struct store_glance kit_glance(struct kit *k);
int64_t kit_lease_files(struct kit *k, uint64_t lease); /* how many are attached */

void kit_say(void *data, const char *line); /* prints lines that tell of damage */

/* A test with a fresh store, which is checked after it: whatever it did, the tables must be sound. */
int kit_setup(void **state);
int kit_teardown(void **state);
#define KIT_TEST(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)

#endif
