#include "fs/view.h"

#include <string.h>

enum { BLOCK_SIZE = 4096, SECTOR_SIZE = 512 };

void view_time(int64_t ns, struct timespec *out)
{
    out->tv_sec = ns / 1000000000;
    out->tv_nsec = ns % 1000000000;
    if (out->tv_nsec < 0) { /* before 1970 */
        out->tv_nsec += 1000000000;
        out->tv_sec--;
    }
}

void view_stat(const struct store_attr *a, fuse_ino_t node, struct stat *st)
{
    memset(st, 0, sizeof *st);
    st->st_ino = node;
    st->st_mode = a->mode;
    st->st_nlink = a->nlink;
    st->st_uid = a->uid;
    st->st_gid = a->gid;
    st->st_size = a->size;
    st->st_blksize = BLOCK_SIZE;
    st->st_blocks = (a->size + SECTOR_SIZE - 1) / SECTOR_SIZE;
    view_time(a->mtime_ns, &st->st_mtim);
    view_time(a->ctime_ns, &st->st_ctim);
    st->st_atim = st->st_mtim; /* atime is not kept */
}
