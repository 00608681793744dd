#include <errno.h>

#include "fs/fs.h"

int fs_errno(int err)
{
    switch (err) {
    case QE_OK: return 0;
    case QE_NOENT: return ENOENT;
    case QE_EXIST: return EEXIST;
    case QE_NOTDIR: return ENOTDIR;
    case QE_ISDIR: return EISDIR;
    case QE_NOTEMPTY: return ENOTEMPTY;
    case QE_INVAL: return EINVAL;
    case QE_NAMETOOLONG: return ENAMETOOLONG;
    case QE_LOOP: return ELOOP;
    case QE_FBIG: return EFBIG;
    case QE_NOSPC: return ENOSPC;
    case QE_STALE: return ESTALE;
    case QE_RANGE: return ERANGE;
    case QE_PERM: return EPERM;
    case QE_NODATA: return ENODATA;
    case QE_CANCELED: return ECANCELED;
    case QE_2BIG: return ENOSPC; /* what setxattr(2) says of a full attribute space */
    case QE_NOTBUILT: return EOPNOTSUPP;
    case QE_ACCES: return EACCES;
    case QE_BUSY: return EBUSY;
    case QE_XDEV: return EXDEV;
    case QE_NOTSUP: return EOPNOTSUPP;
    case QE_WOULDBLOCK: return EAGAIN;
    case QE_DEADLOCK: return EDEADLK;
    case QE_NOLOCK: return ENOLCK;
    case QE_TIMEDOUT: return ETIMEDOUT;
    case QE_NOMEM: return ENOMEM;
    case QE_AGAIN: return EAGAIN;
    case QE_SHUTDOWN: return ESHUTDOWN;
    case QE_DISKFULL: return ENOSPC;
    case QE_INTR: return EINTR;
    case QE_MFILE: return EMFILE;
    default: return EIO;
    }
}
