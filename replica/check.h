/* What else asks for what `replica_check` looks at. Offline: the caller has locked the directory. */
#ifndef QFS_REPLICA_CHECK_H
#define QFS_REPLICA_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "replica/dir.h"

/* True: the log goes on after what the database has applied, from `first` to `last`. */
bool check_unapplied(const struct dir *d, uint64_t *first, uint64_t *last);

#endif
