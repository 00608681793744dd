/* Who may see what, where the kernel does not ask for us: names in event streams, files in a transaction's requirements. */
#ifndef QFS_FS_PERM_H
#define QFS_FS_PERM_H

#include "fs/fs.h"

enum { PERM_SEARCH = 1, PERM_WRITE = 2, PERM_READ = 4 };

struct perm { /* a user, as of one moment */
    uid_t uid;
    gid_t gid;
    gid_t *groups; /* owned; supplementary */
    size_t n_groups;
};

/* The caller of a request. 0 or QE_NOMEM. FUSE loop. */
int perm_of(fuse_req_t req, struct perm *out);
void perm_fini(struct perm *p);
/* Whether all of `want` is allowed on something with this owner and mode; to root it is. Any thread. */
bool perm_allows(const struct perm *p, uint32_t mode, uint32_t uid, uint32_t gid, unsigned want);
/* Whether a file may be removed from its directory, as unlink(2) has it: 0; QE_ACCES; QE_PERM: not from a sticky one. Any thread. */
int perm_to_remove(const struct perm *p, const struct store_attr *dir, const struct store_attr *file);

#endif
