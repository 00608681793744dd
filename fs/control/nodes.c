#include "fs/control/nodes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/control/views.h"

enum { NUMBER_BITS = 46 };

uint64_t nodes_number(const void *key, size_t len)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < len; i++)
        h = (h ^ ((const uint8_t *)key)[i]) * UINT64_C(0x100000001b3);
    h = (h ^ h >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    h = (h ^ h >> 27) * UINT64_C(0x94d049bb133111eb);
    return (h >> (64 - NUMBER_BITS)) + VIEW_ROOT + 1;
}

struct view_node *nodes_find(const struct view_nodes *t, fuse_ino_t node)
{
    uint64_t number = fs_number_of(node);
    struct view_node *n;

    HASH_FIND(hh, t->by_number, &number, sizeof number, n);
    return n;
}

struct view_node *nodes_for(struct view_nodes *t, const void *key, size_t len)
{
    uint64_t number = nodes_number(key, len);
    struct view_node *n;

    for (;; number++) {
        HASH_FIND(hh, t->by_number, &number, sizeof number, n);
        if (!n)
            break;
        if (n->key_len == len && !memcmp(n->key, key, len))
            return n;
    }
    n = malloc(sizeof *n + len);
    if (!n)
        return NULL;
    n->number = number;
    n->nlookup = 0;
    n->key_len = len;
    memcpy(n->key, key, len);
    HASH_ADD(hh, t->by_number, number, sizeof n->number, n);
    return n;
}

void nodes_forget(struct view_nodes *t, fuse_ino_t node, uint64_t nlookup)
{
    struct view_node *n = nodes_find(t, node);

    if (!n)
        return;
    n->nlookup -= nlookup < n->nlookup ? nlookup : n->nlookup;
    if (n->nlookup == 0) {
        HASH_DEL(t->by_number, n);
        free(n);
    }
}

void nodes_reply_entry(fuse_req_t req, struct view_nodes *t, enum fs_view view, const void *key, size_t len, struct fuse_entry_param *e)
{
    struct view_node *n = nodes_for(t, key, len);

    if (!n) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    n->nlookup++;
    e->ino = e->attr.st_ino = fs_node(view, n->number);
    if (fuse_reply_entry(req, e) == -ENOENT) /* the caller is gone: no FORGET will come */
        nodes_forget(t, e->ino, 1);
}
