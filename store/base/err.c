#include "store/base/err.h"

const char *qfs_strerror(int err)
{
    switch (err) {
    case QE_OK: return "no error";
    case QE_NOENT: return "no such name";
    case QE_EXIST: return "name is taken";
    case QE_NOTDIR: return "not a directory";
    case QE_ISDIR: return "is a directory";
    case QE_NOTEMPTY: return "directory is not empty";
    case QE_INVAL: return "invalid argument";
    case QE_NAMETOOLONG: return "name too long";
    case QE_LOOP: return "is a symbolic link";
    case QE_FBIG: return "larger than max-value";
    case QE_NOSPC: return "quota reached";
    case QE_STALE: return "gone or compacted";
    case QE_RANGE: return "out of range";
    case QE_PERM: return "operation not permitted";
    case QE_NODATA: return "no such attribute";
    case QE_CANCELED: return "a precondition does not hold";
    case QE_2BIG: return "too many extended attributes";
    case QE_NOTBUILT: return "not built yet";
    case QE_ACCES: return "permission denied";
    case QE_BUSY: return "in use";
    case QE_XDEV: return "between two views";
    case QE_NOTSUP: return "not supported";
    case QE_WOULDBLOCK: return "somebody else holds the lock";
    case QE_QUEUED: return "the lock is waited for";
    case QE_DEADLOCK: return "waiting for the lock would never end";
    case QE_NOLOCK: return "too many locks";
    case QE_TIMEDOUT: return "timed out without a quorum";
    case QE_IO: return "input/output error";
    case QE_NOMEM: return "out of memory";
    case QE_CORRUPT: return "data is damaged";
    case QE_AGAIN: return "try again";
    case QE_SHUTDOWN: return "member is stopping";
    case QE_DISKFULL: return "no space left on the disk of the data directory";
    case QE_INTR: return "interrupted";
    case QE_FORMAT: return "unknown format";
    case QE_NOCLUSTER: return "no cluster in the data directory";
    case QE_LOCKED: return "another process uses the data directory";
    case QE_MFILE: return "too many uncommitted open files of this user";
    default: return "unknown error";
    }
}
