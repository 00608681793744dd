/* What the files of store_check share. Offline: nothing else has the database open. */
#ifndef QFS_STORE_CHECK_H
#define QFS_STORE_CHECK_H

#include "store/internal.h"

struct check_inode {
    uint64_t ino, parent;   /* as in table node */
    bool live;
    bool reached;           /* a way to the root has been found */
    uint32_t nlink;
    int64_t subdirs;        /* live directories in it, counted */
    int64_t born;
};

struct check {
    struct store *s;            /* owned; only its connection and state are in use */
    store_say_cb say;           /* where lines go */
    void *data;                 /* for say */
    int64_t n_damaged;          /* things found wrong */
    struct check_inode *inodes; /* owned; ascending */
    size_t n_inodes;
    int64_t n_versions, n_big;  /* found on the chains of the inodes */
    struct state found;         /* counters and hash, recomputed */
};

/* One thing that is wrong, in words. */
void check_damage(struct check *k, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
struct check_inode *check_find(struct check *k, uint64_t ino);
/* An offline query; the caller finalizes it. */
int check_query(struct check *k, const char *sql, sqlite3_stmt **out);

/* As store_check, of one database file that no CURRENT names. */
int check_database(const char *path, store_say_cb say, void *data);

/* Each returns 0 also when it has found damage; an error means that it could not look. */
int check_inodes(struct check *k);   /* check_tree.c: node: the tree, links, counters */
int check_names(struct check *k);    /* check_tree.c: name_h */
int check_versions(struct check *k); /* check_versions.c: ver and big */
int check_lives(struct check *k);    /* check_lives.c: lease and lock; the sessions are loaded */

#endif
