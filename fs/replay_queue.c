#include "fs/replay_queue.h"
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

#include "store/base/err.h"

void replay_queue_init(struct replay_queue *q)
{
    memset(q, 0, sizeof *q);
    q->ready_tail = &q->ready;
}

struct replay_item *replay_item_new(const struct replay_item *from, const void *name, size_t len, const void *old_name, size_t old_len)
{
    size_t bytes = sizeof(struct replay_item) + len + old_len + 2;
    struct replay_item *item = malloc(bytes);

    if (!item)
        return NULL;
    *item = *from;
    item->bytes = bytes;
    item->tries = 0;
    item->n_links = 0;
    item->rests_ns = 0;
    item->running = item->listed = item->done = false;
    item->name = (char *)(item + 1);
    item->old_name = item->name + len + 1;
    if (len)
        memcpy(item->name, name, len);
    item->name[len] = 0;
    if (old_len)
        memcpy(item->old_name, old_name, old_len);
    item->old_name[old_len] = 0;
    return item;
}

void replay_item_free(struct replay_item *item)
{
    free(item);
}

/* ---- Lines ----------------------------------------------------------------------------------------------------------------------- */

static struct replay_key *key_find(struct replay_queue *q, uint64_t node)
{
    struct replay_key *k;

    HASH_FIND(hh, q->keys, &node, sizeof node, k);
    return k;
}

static struct replay_key *key_get(struct replay_queue *q, uint64_t node)
{
    struct replay_key *k = key_find(q, node);

    if (k)
        return k;
    k = calloc(1, sizeof *k);
    if (!k)
        return NULL;
    k->node = node;
    HASH_ADD(hh, q->keys, node, sizeof k->node, k);
    return k;
}

static void key_unused(struct replay_queue *q, struct replay_key *k)
{
    if (k->head || k->held)
        return;
    HASH_DEL(q->keys, k);
    free(k);
}

static bool may_run(const struct replay_item *item)
{
    for (size_t i = 0; i < item->n_links; i++)
        if (item->links[i].key->head != &item->links[i] || item->links[i].key->held)
            return false;
    return true;
}

/* What may run is put on the list; whether it still may is looked at again when it is taken. */
static void look(struct replay_queue *q, struct replay_item *item)
{
    if (item->running || item->listed || !may_run(item))
        return;
    item->listed = true;
    item->next_ready = NULL;
    *q->ready_tail = item;
    q->ready_tail = &item->next_ready;
}

static void look_key(struct replay_queue *q, struct replay_key *k)
{
    if (k->head && !k->held)
        look(q, k->head->item);
}

static bool ends_name(const struct replay_item *item, uint64_t node)
{
    const bool own = item->kind == REPLAY_UNLINK || item->kind == REPLAY_RMDIR, moves = item->kind == REPLAY_RENAME || item->kind == REPLAY_EXCHANGE;

    return ((own || moves) && item->ino == node) || (moves && item->other == node);
}

static void end_add(struct replay_link *l)
{
    struct replay_key *k = l->key;

    l->prev_end = k->last_end;
    if (k->last_end)
        k->last_end->next_end = l;
    else
        k->first_end = l;
    k->last_end = l;
}

static void end_remove(struct replay_link *l)
{
    if (l->next_end)
        l->next_end->prev_end = l->prev_end;
    else
        l->key->last_end = l->prev_end;
    if (l->prev_end)
        l->prev_end->next_end = l->next_end;
    else
        l->key->first_end = l->next_end;
}

static void link_add(struct replay_item *item, struct replay_key *k)
{
    struct replay_link *l = &item->links[item->n_links++];

    *l = (struct replay_link){.item = item, .key = k, .prev = k->tail, .ends = ends_name(item, k->node)};
    if (k->tail)
        k->tail->next = l;
    else
        k->head = l;
    k->tail = l;
    if (l->ends)
        end_add(l);
}

static void link_remove(struct replay_link *l)
{
    if (l->ends)
        end_remove(l);
    if (l->next)
        l->next->prev = l->prev;
    else
        l->key->tail = l->prev;
    if (l->prev)
        l->prev->next = l->next;
    else
        l->key->head = l->next;
}

static void unlink_all(struct replay_queue *q, struct replay_item *item)
{
    for (size_t i = 0; i < item->n_links; i++) {
        struct replay_key *k = item->links[i].key;

        link_remove(&item->links[i]);
        look_key(q, k);
        key_unused(q, k);
    }
    item->n_links = 0;
}

static bool changes_names(const struct replay_item *item)
{
    return item->kind != REPLAY_CONTENT && item->kind != REPLAY_ATTRIB;
}

static bool is_dir(uint64_t ino)
{
    return store_ino_kind(ino) == STORE_DIR;
}

bool replay_item_moves(const struct replay_item *item, uint64_t dir)
{
    bool moves = item->kind == REPLAY_RENAME || item->kind == REPLAY_EXCHANGE;
    bool own = is_dir(item->ino) && (!dir || dir == item->ino);
    bool other = item->kind == REPLAY_EXCHANGE && is_dir(item->other) && (!dir || dir == item->other);

    return moves && item->parent != item->old_parent && (own || other);
}

int replay_queue_add(struct replay_queue *q, struct replay_item *item)
{
    const uint64_t nodes[REPLAY_KEYS_MAX] = {item->parent, item->ino, item->old_parent, item->other};

    for (size_t i = 0; i < REPLAY_KEYS_MAX; i++) {
        struct replay_key *k;
        bool again = nodes[i] == 0;

        for (size_t j = 0; j < i && !again; j++)
            again = nodes[j] == nodes[i];
        if (again)
            continue;
        k = key_get(q, nodes[i]);
        if (!k) {
            unlink_all(q, item);
            return QE_NOMEM;
        }
        link_add(item, k);
    }
    q->n++;
    q->n_names += changes_names(item);
    q->n_moves += replay_item_moves(item, 0);
    q->bytes += item->bytes;
    look(q, item);
    return 0;
}

struct replay_item *replay_queue_take(struct replay_queue *q)
{
    struct replay_item *item;

    while ((item = q->ready)) {
        q->ready = item->next_ready;
        if (!q->ready)
            q->ready_tail = &q->ready;
        item->listed = false;
        if (may_run(item)) {
            item->running = true;
            return item;
        }
    }
    return NULL;
}

void replay_queue_return(struct replay_queue *q, struct replay_item *item)
{
    item->running = item->done = false;
    look(q, item);
}

static void unlist(struct replay_queue *q, struct replay_item *item)
{
    struct replay_item **p = &q->ready;

    while (*p && *p != item)
        p = &(*p)->next_ready;
    if (!*p)
        return;
    *p = item->next_ready;
    if (!*p)
        q->ready_tail = p;
}

void replay_queue_remove(struct replay_queue *q, struct replay_item *item)
{
    if (item->listed)
        unlist(q, item);
    unlink_all(q, item);
    q->n--;
    q->n_names -= changes_names(item);
    q->n_moves -= replay_item_moves(item, 0);
    q->bytes -= item->bytes;
    replay_item_free(item);
}

struct replay_link *replay_queue_line(struct replay_queue *q, uint64_t node)
{
    struct replay_key *k = q->n ? key_find(q, node) : NULL;

    return k ? k->head : NULL;
}

struct replay_link *replay_queue_last(struct replay_queue *q, uint64_t node)
{
    struct replay_key *k = q->n ? key_find(q, node) : NULL;

    return k ? k->tail : NULL;
}

struct replay_link *replay_queue_ends(struct replay_queue *q, uint64_t node)
{
    struct replay_key *k = q->n ? key_find(q, node) : NULL;

    return k ? k->first_end : NULL;
}

void replay_queue_hold(struct replay_queue *q, uint64_t node)
{
    struct replay_key *k = key_get(q, node);

    if (k)
        k->held++;
}

void replay_queue_let_go(struct replay_queue *q, uint64_t node)
{
    struct replay_key *k = key_find(q, node);

    if (!k || k->held == 0)
        return;
    k->held--;
    look_key(q, k);
    key_unused(q, k);
}

void replay_queue_fini(struct replay_queue *q)
{
    struct replay_key *k, *tmp;

    HASH_ITER(hh, q->keys, k, tmp) {
        while (k->head) {
            struct replay_item *item = k->head->item;

            for (size_t i = 0; i < item->n_links; i++)
                link_remove(&item->links[i]);
            replay_item_free(item);
        }
        HASH_DEL(q->keys, k);
        free(k);
    }
    replay_queue_init(q);
}
