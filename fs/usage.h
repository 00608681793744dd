/* How much of something each user has, where one is to leave room for others. A table belongs to one thread, or is under a lock. */
#ifndef QFS_FS_USAGE_H
#define QFS_FS_USAGE_H

#include <stdbool.h>
#include <sys/types.h>
#include <uthash.h>

struct usage {
    uid_t uid; /* key */
    size_t n;  /* not 0 */
    UT_hash_handle hh;
};

size_t usage_of(const struct usage *table, uid_t uid);
bool usage_add(struct usage **table, uid_t uid, size_t n);  /* false: out of memory, nothing is counted */
void usage_drop(struct usage **table, uid_t uid, size_t n); /* of what was added */

#endif
