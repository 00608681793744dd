/* How a lease ends, and its row: for the files of leases. */
#ifndef QFS_STORE_LEASE_H
#define QFS_STORE_LEASE_H

#include "store/internal.h"

/* `was` NULL: it comes; `is` NULL: it goes. Row, hash, counter. */
int lease_put(struct store *s, const struct store_lease *was, const struct store_lease *is);
/* Deletes attached files, at most STORE_LEASE_FILES_MAX, and the lease when none is left; `left`: how many are. */
int lease_end(struct store *s, struct txn *t, const struct store_lease *l, const char *why, uint64_t *left);

#endif
