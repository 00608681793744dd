/* Node numbers for views whose nodes stand for something that has no small number: a key of bytes. The number is a hash of the key, so it
 * comes out the same when the kernel has forgotten the node in between; the next free one when another key has it. FUSE loop only, but
 * for nodes_number. */
#ifndef QFS_FS_CONTROL_NODES_H
#define QFS_FS_CONTROL_NODES_H

#include <uthash.h>

#include "fs/fs.h"

struct view_node {
    uint64_t number;  /* hash key */
    uint64_t nlookup; /* the kernel's lookup count */
    size_t key_len;
    UT_hash_handle hh;
    char key[];
};

struct view_nodes {
    struct view_node *by_number;
};

/* The number that a key gets, if no other has it. Above VIEW_ROOT. Any thread. */
uint64_t nodes_number(const void *key, size_t len);
struct view_node *nodes_find(const struct view_nodes *t, fuse_ino_t node); /* NULL: unknown, or the root of the view */
/* Finds or makes. NULL: out of memory. */
struct view_node *nodes_for(struct view_nodes *t, const void *key, size_t len);
void nodes_forget(struct view_nodes *t, fuse_ino_t node, uint64_t nlookup);
/* Replies to LOOKUP with the node of the key: e->ino and st_ino are filled in here, the lookup count goes up. */
void nodes_reply_entry(fuse_req_t req, struct view_nodes *t, enum fs_view view, const void *key, size_t len, struct fuse_entry_param *e);

#endif
