/* fs: the mount. What the files of this room share: one `struct fs` is one mounted tree.
 *
 * Threads: everything here belongs to the FUSE loop (mount.c) unless a function says otherwise. Completions of replica arrive on
 * other threads; pending.c brings them here. */
#ifndef QFS_FS_H
#define QFS_FS_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fs/opts.h"
#include "replica/replica.h"
#include "store/base/err.h"
#include "store/base/log.h"

/* Node ids: view << 48 | number (R20). View 0 is the live tree, and only its numbers are the same on all members. */
enum fs_view { FS_VIEW_LIVE = 0, FS_VIEW_CONTROL = 1, FS_VIEW_LOCAL = 2, FS_VIEW_AT = 3, FS_VIEW_SNAPSHOT = 4, FS_VIEW_WATCH = 5, FS_VIEW_SINCE = 6,
               FS_VIEW_HISTORY = 7, FS_VIEW_MEMBERS = 8, FS_VIEW_BOOKMARKS = 9, FS_VIEW_TXN = 10, FS_VIEW_LOCKS = 11, FS_VIEW_LEASES = 12,
               FS_VIEW_LEASE_KEYS = 13, FS_VIEW_LEASE_ALIVE = 14 };
#define FS_VIEW_SHIFT 48
static inline enum fs_view fs_view_of(fuse_ino_t node) { return (enum fs_view)(node >> FS_VIEW_SHIFT); }
static inline uint64_t fs_number_of(fuse_ino_t node) { return node & ((UINT64_C(1) << FS_VIEW_SHIFT) - 1); }
static inline fuse_ino_t fs_node(enum fs_view view, uint64_t number) { return (fuse_ino_t)view << FS_VIEW_SHIFT | number; }
#define FS_CONTROL_ROOT fs_node(FS_VIEW_CONTROL, 1) /* .quorum */

struct inode_table;
struct pending_queue;
struct commit_failure;
struct lock_table;
struct lock_client;
struct feed;
struct scanner;
struct workers;
struct replay;
struct walk_table;
struct pages;

struct fs {
    /* Set once before the loop starts. */
    struct fs_options *opt;
    struct replica *replica;
    struct fuse_session *se;
    struct replay *replay; /* what inotify must be told: replay.h */
    uid_t owner_uid;  /* who mounted */
    gid_t owner_gid;
    int64_t started_ns; /* clock_boottime_ns at start */
    uint32_t member;    /* our number */
    struct pages *pages; /* pages.c */
    bool shared_mmap;   /* the kernel can MAP_SHARED with direct io */

    /* FUSE loop only. */
    struct store_reader *reader;
    struct inode_table *inodes;
    struct pending_queue *pending;
    struct commit_failure *failures; /* commits that failed at close and were not told by fsync yet */
    struct scanner *scanner;         /* scan.c; made with the first long descriptor table */
    struct workers *workers;         /* work.c; made with the first long read */
    struct lock_table *locks;        /* flock.c; made with the first lock */
    struct lock_client *lock_client; /* locks.c; its hooks are on other threads */
    struct walk_table *walks;        /* walk.c; made with the first walk */
    struct move_wait *moves;         /* moves.c: who waits */
    struct store_reader *old_reader; /* barrier.c, for a failpoint */
    bool shared;      /* others may change the tree: sharing.c */
    bool can_recall;  /* the kernel can be told to forget all names: sharing.c */
    bool settling;    /* sharing.c: the other members are gone, what they did is being applied */
    bool uncached;    /* a test passes changes off as another member's: the kernel may keep nothing */
    double cache_s;   /* how long the kernel may keep names and attributes; see inode_cache_s */
    bool init_answered; /* the reply to the kernel's hello was sent */
    bool mounted;     /* and to be unmounted by us */
    bool initialized; /* the kernel has said hello: the tree is usable */
    bool stopping;    /* SIGTERM: no new opens for writing */

    /* Any thread. */
    atomic_bool recalls;             /* the kernel may have names, and is told to forget them: sharing.c */
    struct feed *_Atomic feed;       /* feed.c; made with the first stream */
    _Atomic uint64_t failed_commits; /* commits whose failure close could not tell, or told */
    _Atomic uint64_t n_txn_committed, n_txn_conflicts; /* transactions, for metrics */
    _Atomic uint64_t n_requests, n_commits, n_barriers, n_open, n_dirty; /* for metrics */
    _Atomic int64_t content_bytes; /* contents of open files, shared by version */
    _Atomic int64_t dirty_bytes;   /* edits kept in memory */
};

/* errmap.c: the errno (positive) for a code of err.h. Any thread. */
int fs_errno(int err);

/* A name, uid or mode of this mount's requests. */
static inline struct fs *fs_of(fuse_req_t req) { return fuse_req_userdata(req); }

#endif
