#include "replica/heap.h"

#include <assert.h>
#include <stdlib.h>

#include "store/base/err.h"

static void put(struct heap *h, size_t i, struct heap_node *node)
{
    h->list[i] = node;
    node->place = i + 1;
}

static void up(struct heap *h, size_t i, struct heap_node *node)
{
    while (i > 0 && h->list[(i - 1) / 2]->key > node->key) {
        put(h, i, h->list[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    put(h, i, node);
}

static void down(struct heap *h, size_t i, struct heap_node *node)
{
    for (size_t child; (child = 2 * i + 1) < h->n; i = child) {
        if (child + 1 < h->n && h->list[child + 1]->key < h->list[child]->key)
            child++;
        if (h->list[child]->key >= node->key)
            break;
        put(h, i, h->list[child]);
    }
    put(h, i, node);
}

int heap_reserve(struct heap *h, size_t n)
{
    size_t cap = h->cap ? h->cap : 64;
    struct heap_node **list;

    if (n <= h->cap)
        return 0;
    while (cap < n)
        cap *= 2;
    list = realloc(h->list, cap * sizeof *list);
    if (!list)
        return QE_NOMEM;
    h->list = list;
    h->cap = cap;
    return 0;
}

void heap_push(struct heap *h, struct heap_node *node, int64_t key)
{
    assert(node->place == 0 && h->n < h->cap);
    node->key = key;
    up(h, h->n++, node);
}

static void settle(struct heap *h, size_t i, struct heap_node *node)
{
    if (i > 0 && h->list[(i - 1) / 2]->key > node->key)
        up(h, i, node);
    else
        down(h, i, node);
}

void heap_move(struct heap *h, struct heap_node *node, int64_t key)
{
    node->key = key;
    settle(h, node->place - 1, node);
}

void heap_remove(struct heap *h, struct heap_node *node)
{
    size_t i = node->place - 1;
    struct heap_node *last;

    if (node->place == 0)
        return;
    node->place = 0;
    last = h->list[--h->n];
    if (last != node)
        settle(h, i, last);
}

struct heap_node *heap_first(const struct heap *h)
{
    return h->n ? h->list[0] : NULL;
}

void heap_clear(struct heap *h)
{
    for (size_t i = 0; i < h->n; i++)
        h->list[i]->place = 0;
    h->n = 0;
}

void heap_fini(struct heap *h)
{
    heap_clear(h);
    free(h->list);
    *h = (struct heap){0};
}
