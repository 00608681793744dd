/* The members of the cluster as this member's store has them: a copy in memory, for threads that must not ask SQLite.
 *
 * Refreshed by the store thread when a batch has changed the table, before the results of that batch are told. All functions may be
 * called by any thread; no callback runs under the lock. */
#ifndef QFS_REPLICA_MEMBER_TABLE_H
#define QFS_REPLICA_MEMBER_TABLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

struct member_row {
    uint32_t id;
    enum store_member_role role;         /* what it is to be */
    uint64_t nonce;                      /* of the request that added it */
    char address[STORE_ADDRESS_MAX + 1]; /* "": it has no network */
};

struct member_table {
    pthread_mutex_t lock;
    struct member_row *rows; /* owned; ascending by id; under lock, like all of these */
    size_t n;
    int64_t next;            /* above the id of every member that there ever was */
};

void member_table_init(struct member_table *t);
void member_table_fini(struct member_table *t);
/* Reads it anew from the store. On failure it stays as it was. */
int member_table_load(struct member_table *t, struct store_reader *reader);

/* Where others reach who listens there and advertises that (both may be NULL); "" when "on all interfaces" is all that it says. */
const char *member_address(const char *listen, const char *advertise);

bool member_table_get(struct member_table *t, uint32_t id, struct member_row *out); /* false: unknown or removed */
/* Where it listens. False: unknown, removed, or without a network. */
bool member_table_address(struct member_table *t, uint32_t id, char *out, size_t size);
/* There was such a member, and it is one no more. An id that is still to come is not removed, only not known here yet. */
bool member_table_removed(struct member_table *t, uint32_t id);
/* A copy of all rows, to be freed by the caller. QE_NOMEM. */
int member_table_copy(struct member_table *t, struct member_row **rows, size_t *n, int64_t *next);

#endif
