/* The error codes that all rooms share.
 *
 * Functions that can fail return int: 0 or one of these negative codes. The codes are part of kept command results and so of
 * the state hash: a number, once released, never changes its meaning. fs/errmap.c alone maps them to errno. */
#ifndef QFS_BASE_ERR_H
#define QFS_BASE_ERR_H

enum qfs_err {
    QE_OK = 0,

    /* The user's: decided by the state machine, the same on every member. */
    QE_NOENT = -1,        /* no such name or inode */
    QE_EXIST = -2,        /* the name is taken */
    QE_NOTDIR = -3,       /* a directory is needed here */
    QE_ISDIR = -4,        /* not possible on a directory */
    QE_NOTEMPTY = -5,     /* the directory has entries */
    QE_INVAL = -6,        /* malformed, or a directory would move below itself */
    QE_NAMETOOLONG = -7,  /* a name above 255 bytes, a link target above 4095 */
    QE_LOOP = -8,         /* a symbolic link stands where a file is needed */
    QE_FBIG = -9,         /* content above max-value */
    QE_NOSPC = -10,       /* quota */
    QE_STALE = -11,       /* session unknown, revision compacted, inode gone */
    QE_RANGE = -12,       /* a revision of the future; a result that does not fit */
    QE_PERM = -13,        /* not allowed whoever asks (reserved name, no hard links) */
    QE_NODATA = -14,      /* no such extended attribute */
    QE_CANCELED = -15,    /* a precondition does not hold */
    QE_2BIG = -16,        /* extended attributes of a file above their limit */
    QE_NOTBUILT = -17,    /* designed, but not built yet */
    QE_ACCES = -18,       /* permission denied */
    QE_BUSY = -19,        /* in use */
    QE_XDEV = -20,        /* between two views */
    QE_NOTSUP = -21,      /* not supported for this kind of object */
    QE_WOULDBLOCK = -22,  /* somebody else holds the lock, and the caller will not wait */
    QE_QUEUED = -23,      /* no failure: the lock is waited for, an event will tell */
    QE_DEADLOCK = -24,    /* who holds the lock waits, directly or not, for what the caller holds */
    QE_NOLOCK = -25,      /* too many locks */

    /* The environment's: this member, this moment. Never part of a kept result. */
    QE_TIMEDOUT = -64,    /* no quorum, or no answer in time: may or may not have taken effect */
    QE_IO = -65,          /* disk or library failure; the member stops */
    QE_NOMEM = -66,       /* out of memory */
    QE_CORRUPT = -67,     /* what was read is not what was written */
    QE_AGAIN = -68,       /* not now, try again */
    QE_SHUTDOWN = -69,    /* the member is stopping */
    QE_DISKFULL = -70,    /* no room on the disk of DIR */
    QE_INTR = -71,        /* the caller gave up */
    QE_FORMAT = -72,      /* made by a newer or a foreign program */
    QE_NOCLUSTER = -73,   /* DIR holds no cluster */
    QE_LOCKED = -74,      /* another process has DIR */
    QE_MFILE = -75,       /* too many uncommitted open files of one user */
};

/* A short lower-case text for a code, never NULL. Any thread. */
const char *qfs_strerror(int err);

#endif
