#include "fs/perm.h"

#include <stdlib.h>
#include <sys/stat.h>

enum { GROUPS_GUESS = 64 };

int perm_of(fuse_req_t req, struct perm *out)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    int room = GROUPS_GUESS, n;

    *out = (struct perm){.uid = ctx->uid, .gid = ctx->gid};
    if (ctx->uid == 0)
        return 0;
    for (;;) {
        gid_t *groups = realloc(out->groups, (size_t)room * sizeof *groups);

        if (!groups) {
            perm_fini(out);
            return QE_NOMEM;
        }
        out->groups = groups;
        n = fuse_req_getgroups(req, room, groups); /* reads /proc; fails for a caller of another pid namespace: then it has none */
        if (n <= room)
            break;
        room = n;
    }
    out->n_groups = n > 0 ? (size_t)n : 0;
    return 0;
}

void perm_fini(struct perm *p)
{
    free(p->groups);
    p->groups = NULL;
    p->n_groups = 0;
}

static bool in_group(const struct perm *p, gid_t gid)
{
    for (size_t i = 0; i < p->n_groups; i++)
        if (p->groups[i] == gid)
            return true;
    return p->gid == gid;
}

bool perm_allows(const struct perm *p, uint32_t mode, uint32_t uid, uint32_t gid, unsigned want)
{
    unsigned have = p->uid == uid ? mode >> 6 : in_group(p, gid) ? mode >> 3 : mode;

    return p->uid == 0 || (have & want) == want;
}

int perm_to_remove(const struct perm *p, const struct store_attr *dir, const struct store_attr *file)
{
    if (!perm_allows(p, dir->mode, dir->uid, dir->gid, PERM_WRITE | PERM_SEARCH))
        return QE_ACCES;
    return dir->mode & S_ISVTX && p->uid != 0 && p->uid != file->uid && p->uid != dir->uid ? QE_PERM : 0;
}
