/* What inotify must be told, in order: changes that the kernel does not know of are re-enacted on the mount by the replayer.
 *
 * A change comes from the store thread after it was applied (replay_changed), is decided to be somebody else's or our own
 * (replay_answered), waits in the queue behind changes of the same nodes, is planned (which names does the kernel think there are?),
 * and is carried out by a worker of the replayer, whose requests are answered by the view of replay_view.c: the tree as it was before the
 * change. See "What inotify sees" in this room's README. FUSE loop only unless a function says otherwise. */
#ifndef QFS_FS_REPLAY_H
#define QFS_FS_REPLAY_H

#include "fs/fs.h"

/* Changes of names are still to be told: what the kernel is told of names now is for this moment only. */
bool replay_names_wait(const struct fs *fs);

struct replay_stats {
    uint64_t replayed;   /* carried out */
    uint64_t skipped;    /* nobody can be watching */
    uint64_t superseded; /* told by a later change of the same file, or overtaken by a local one */
    uint64_t failed;     /* could not be carried out */
    uint64_t reread;     /* read from the store again, because too many came at once */
    uint64_t queued;     /* now */
    struct replica_hist lag; /* from applied to carried out */
};
void replay_stats(struct fs *fs, struct replay_stats *out);

/* ---- Life (mount.c) ---------------------------------------------------------------------------------------------------------------- */

/* Forks the replayer: before any thread exists and before /dev/fuse is opened. 0 or QE_* with a sentence. */
int replay_fork(struct fs *fs, struct buf *why);
/* Begins, when the tree is mounted. */
int replay_open(struct fs *fs, struct buf *why);
int replay_fd(struct fs *fs);                    /* readable when replay_woken has work */
void replay_woken(struct fs *fs);
void replay_drain(struct fs *fs);                /* before each request: takes in what was changed */
void replay_look(struct fs *fs);                 /* between requests, while workers are busy: what they report */
int replay_tick(struct fs *fs, int wait_ms);     /* looks at what time brings; how long the loop may wait: the smaller one */
void replay_stop(struct fs *fs);                 /* tells nothing any more */
void replay_close(struct fs *fs);                /* when the mount is gone and replica has stopped */

/* ---- What was changed (store thread) ------------------------------------------------------------------------------------------------ */

void replay_changed(struct fs *fs, const struct store_change *changes, size_t n);
enum replay_answer {
    REPLAY_ANNOUNCED, /* the caller's system call succeeds, so the kernel tells of it */
    REPLAY_SILENT,    /* a commit of which the kernel has told before, or will not tell: fsync, O_SYNC, inherited descriptors */
    REPLAY_ORPHAN,    /* the caller was given up: it has been told something else */
    REPLAY_INJECTED,  /* a test's: as if it were another member's */
};
/* The command of this member that made that revision is answered. After replay_changed, before the caller knows. */
void replay_answered(struct fs *fs, int64_t rev, enum replay_answer how);
/* A caller was told that its time is up: what it wanted may still be done, and nobody will be answered. Any thread. */
void replay_timed_out(struct fs *fs);
/* Another member's database has taken the place of ours; what changed up to that revision is only seen from how things are. Store thread. */
void replay_installed(struct fs *fs, int64_t rev);

/* ---- Control files (FUSE loop) ------------------------------------------------------------------------------------------------------- */

/* A file of the control tree shows something else: told as a new content. `node` is bound to `name` in the root `dir` of a view that is a row of
 * the control tree. The caller has seen that the kernel knows one of them. */
void replay_control(struct fs *fs, fuse_ino_t dir, fuse_ino_t node, const char *name);

/* ---- Local operations -------------------------------------------------------------------------------------------------------------- */

/* The nodes whose kernel locks a request holds while its command is on its way. */
struct replay_hold {
    uint64_t node[2]; /* 0: none */
};
void replay_hold(struct fs *fs, struct replay_hold *hold, const struct store_command *cmd);
void replay_let_go(struct fs *fs, struct replay_hold *hold);
/* A close committed: the kernel tells of it when the open file goes, which is now unless another process has inherited it. If the release
 * does not come soon, watchers are told without it. `file` is any number that names the open file. */
void replay_closed(struct fs *fs, uint64_t file, uint64_t ino, int64_t rev);
void replay_released(struct fs *fs, uint64_t file);
/* The deletion of an inode has not been told: it must not look deleted yet, else watchers hear of it too early. */
bool replay_will_delete(struct fs *fs, uint64_t ino);

/* Directories are still to be moved to other directories: some; that one; from or to that one, as far as it is among the next changes there. */
bool replay_moves_wait(const struct fs *fs);
bool replay_is_moving(struct fs *fs, uint64_t dir);
bool replay_moves_in(struct fs *fs, uint64_t parent);

/* ---- Requests of the replayer (ops.c) ---------------------------------------------------------------------------------------------- */

#define REPLAY_FH UINT64_C(1) /* the handle of all its open files: what it writes is not stored, and closing commits nothing */

bool replay_is_worker(fuse_req_t req);
void replay_view_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void replay_view_getattr(fuse_req_t req, fuse_ino_t node);
void replay_view_setattr(fuse_req_t req, fuse_ino_t node);
void replay_view_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void replay_view_create(fuse_req_t req, fuse_ino_t parent, const char *name, struct fuse_file_info *fi);
/* mknod, mkdir, symlink: the entry that the change made. */
void replay_view_make(fuse_req_t req, fuse_ino_t parent, const char *name);
/* unlink, rmdir. */
void replay_view_remove(fuse_req_t req, fuse_ino_t parent, const char *name);
void replay_view_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t parent2, const char *name2);

#endif
