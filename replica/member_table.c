#include "replica/member_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/err.h"

void member_table_init(struct member_table *t)
{
    *t = (struct member_table){.next = 1};
    pthread_mutex_init(&t->lock, NULL);
}

void member_table_fini(struct member_table *t)
{
    pthread_mutex_destroy(&t->lock);
    free(t->rows);
    t->rows = NULL;
    t->n = 0;
}

const char *member_address(const char *listen, const char *advertise)
{
    static const char *const any[] = {"0.0.0.0:", "[::]:", "*:"};

    if (advertise && *advertise)
        return advertise;
    if (!listen)
        return "";
    for (size_t i = 0; i < sizeof any / sizeof *any; i++)
        if (!strncmp(listen, any[i], strlen(any[i])))
            return "";
    return listen;
}

struct load { /* rows on their way out of the store */
    struct member_row *rows;
    size_t n, cap;
    bool failed; /* out of memory */
};

static void load_row(void *data, const struct store_member *m)
{
    struct load *l = data;
    struct member_row *row;

    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 8;
        struct member_row *grown = realloc(l->rows, cap * sizeof *grown);

        l->failed = l->failed || !grown;
        if (!grown)
            return;
        l->rows = grown;
        l->cap = cap;
    }
    row = &l->rows[l->n++];
    *row = (struct member_row){.id = m->id, .role = m->role, .nonce = m->nonce};
    snprintf(row->address, sizeof row->address, "%s", m->address);
}

int member_table_load(struct member_table *t, struct store_reader *reader)
{
    struct load l = {0};
    struct member_row *old;
    int64_t next = 1;
    int err = store_members(reader, &next, load_row, &l);

    if (!err && l.failed)
        err = QE_NOMEM;
    if (err) {
        free(l.rows);
        return err;
    }
    pthread_mutex_lock(&t->lock);
    old = t->rows;
    t->rows = l.rows;
    t->n = l.n;
    t->next = next;
    pthread_mutex_unlock(&t->lock);
    free(old);
    return 0;
}

bool member_table_get(struct member_table *t, uint32_t id, struct member_row *out)
{
    bool found = false;

    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < t->n && !found; i++) {
        found = t->rows[i].id == id;
        if (found)
            *out = t->rows[i];
    }
    pthread_mutex_unlock(&t->lock);
    return found;
}

bool member_table_address(struct member_table *t, uint32_t id, char *out, size_t size)
{
    struct member_row row;

    if (!member_table_get(t, id, &row) || !row.address[0])
        return false;
    return (size_t)snprintf(out, size, "%s", row.address) < size;
}

bool member_table_removed(struct member_table *t, uint32_t id)
{
    bool there = false, was;

    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < t->n; i++)
        there = there || t->rows[i].id == id;
    was = id > 0 && (int64_t)id < t->next && t->n > 0;
    pthread_mutex_unlock(&t->lock);
    return was && !there;
}

int member_table_copy(struct member_table *t, struct member_row **rows, size_t *n, int64_t *next)
{
    int err = 0;

    pthread_mutex_lock(&t->lock);
    *rows = malloc((t->n + 1) * sizeof **rows);
    if (*rows) {
        if (t->n)
            memcpy(*rows, t->rows, t->n * sizeof **rows);
        *n = t->n;
        *next = t->next;
    } else {
        err = QE_NOMEM;
    }
    pthread_mutex_unlock(&t->lock);
    return err;
}
