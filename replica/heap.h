/* heap: the least of many times, of which any may change. The nodes are part of what they stand for, and know their place. */
#ifndef QFS_REPLICA_HEAP_H
#define QFS_REPLICA_HEAP_H

#include <stddef.h>
#include <stdint.h>

struct heap_node {
    int64_t key;
    size_t place;            /* 1 + index; 0: not in a heap */
};

struct heap {
    struct heap_node **list; /* owned; the nodes are borrowed while they are in it */
    size_t n, cap;
};

int heap_reserve(struct heap *h, size_t n);                         /* room for n nodes in all. 0 or QE_NOMEM */
void heap_push(struct heap *h, struct heap_node *node, int64_t key); /* it must be in none, and there must be room */
void heap_move(struct heap *h, struct heap_node *node, int64_t key);
void heap_remove(struct heap *h, struct heap_node *node);           /* nothing if it is in none */
struct heap_node *heap_first(const struct heap *h);                 /* NULL: empty */
void heap_clear(struct heap *h);                                    /* takes all out */
void heap_fini(struct heap *h);

#endif
