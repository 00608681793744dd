/* What each thread was told while it walks a path: the names by which the kernel came to the node that it asks for next.
 *
 * Names are looked up without asking the cluster. The last request of a system call waits for a read barrier (barrier.h), and then
 * all names of the way must still be bound as they were told, or the kernel has to walk again (ESTALE, once). A walk belongs to a
 * thread: another thread's walk of the same directories does not make its names true.
 *
 * A walk is a start (the root, a working directory, a descriptor) and the steps from there. A step whose parent was met before ends
 * the steps behind it: a repeated look, "..", or the target of a symbolic link. Threads of other pid namespaces cannot be told apart
 * and have no walk; nor have those beyond WALKS_MAX at once: for them each look waits for a barrier of its own. FUSE loop only. */
#ifndef QFS_FS_WALK_H
#define QFS_FS_WALK_H

#include "fs/fs.h"

enum {
    WALKS_MAX = 4096,       /* threads that are remembered: more than walk at the same time */
    WALK_STEPS_MAX = 256,   /* of one walk; what is longer counts as not bound, so it is walked twice */
    WALK_REST_MS = 1000,    /* a walk that rested for so long may be forgotten for another thread's: its thread is elsewhere */
    WALK_FRESH_MS = 1000,   /* for so long the second walk may take its time */
    WALK_LATE_MS = 200,     /* and for so long it may go on behind the place where the first one ended */
};

struct walk;

/* The walk of a thread. NULL: it is not remembered. */
struct walk *walk_find(struct fs *fs, pid_t tid);
/* The same, made if there is none. NULL: it cannot be remembered. */
struct walk *walk_get(struct fs *fs, pid_t tid);
/* The thread was told that `name` in `parent` is `node`, in the system call of that shape (proc_call_of). */
void walk_step(struct walk *w, fuse_ino_t parent, const char *name, fuse_ino_t node, uint64_t shape);
/* Whether the newest step led to `node`. */
bool walk_leads_to(const struct walk *w, fuse_ino_t node);
/* Whether the newest step, in the same call, led to `node` by another name than that. */
bool walk_has_other_name(const struct walk *w, fuse_ino_t parent, const char *name, fuse_ino_t node, uint64_t shape);
/* Whether each name of the way is bound in the store as it was told. */
bool walk_is_bound(struct fs *fs, const struct walk *w);
/* The system call has got what it came for: the way does not matter to the next one. */
void walk_end(struct walk *w);

/* A barrier was passed, and the kernel is told to walk again: the same names, in the same system call (`shape`, proc_call_of), need
 * none the second time. `parent` and `name`: of a last step that was not found; 0 and NULL else. Ends the walk. */
void walk_again(struct walk *w, uint64_t shape, fuse_ino_t parent, const char *name);
/* Whether the second walk is due, which is another question than whether this is it. */
bool walk_is_due(const struct walk *w);
/* Whether this is that second walk, come to where the first one ended; true once, but for a name. `passes`: at a directory, from which the call goes
 * on. */
bool walk_is_second(struct walk *w, uint64_t shape, fuse_ino_t parent, const char *name, bool passes);
/* The second walk was told its last name. */
void walk_came_to(struct walk *w, fuse_ino_t parent, const char *name);
/* The call has got its answer: what was kept for a second walk is over, or the next call like it would use it. */
void walk_forget_again(struct walk *w);
/* The second walk did not find its name. The kernel may look once more, and what it finds then begins nothing new; or the call is over, and what
 * comes is the next one, which looks the same: so until that walk has ended all its names wait for a barrier. */
void walk_miss(struct walk *w);
bool walk_has_missed(const struct walk *w);
/* Whether the second walk is at a directory on its way. */
bool walk_is_on_way(const struct walk *w, uint64_t shape);
/* The kernel was told that the name which it is to make is not there, so that what makes it can be told to walk again. */
void walk_make_again(struct walk *w, uint64_t shape, fuse_ino_t parent, const char *name);
/* Whether it is to be told, which this notes as walk_again does. */
bool walk_makes_again(struct walk *w);
/* Whether this is still that walk: it has not come so far yet, or it went on from a directory. No second ESTALE is for it. */
bool walk_goes_on(struct walk *w, uint64_t shape);

/* The kernel asks for the attributes of a file, for its permission check, directly before it opens the file or reads its xattrs:
 * the barrier of the first serves the second (see barrier.c). */
void walk_set_passed(struct walk *w, fuse_ino_t node);
bool walk_has_passed(const struct walk *w, fuse_ino_t node);

/* A system call that has passed a barrier, and how far it has come. `shape` is the call's (proc_call_of). The call stands at a directory
 * whose attributes it was told for its permission check, and which the kernel may not keep: so the thread's next step from there is of
 * the same call, since any other walk through the directory would ask again. */
void walk_call_at(struct walk *w, fuse_ino_t dir, uint64_t shape);
/* The newest step, to `node`, is the call's. */
void walk_call_to(struct walk *w, fuse_ino_t node, uint64_t shape);
bool walk_call_is_at(const struct walk *w, fuse_ino_t dir, uint64_t shape);
bool walk_call_came_to(const struct walk *w, fuse_ino_t node, uint64_t shape);

/* The thread has found that directory `dir` is in `parent`, where the kernel cannot have it yet (moves.h), for the `times`th time in this call. */
void walk_set_moving(struct walk *w, fuse_ino_t parent, fuse_ino_t dir, uint64_t shape, unsigned times);
unsigned walk_moving_times(const struct walk *w, fuse_ino_t parent, fuse_ino_t dir, uint64_t shape);
fuse_ino_t walk_moving(const struct walk *w, fuse_ino_t parent); /* in whatever call; 0: none */
/* The thread looks up a name in `parent`, whether it is there or not; whether that was the last one that it looked up, and in that call. */
void walk_set_looked(struct walk *w, fuse_ino_t parent, uint64_t shape);
bool walk_has_looked(const struct walk *w, fuse_ino_t parent, uint64_t shape);

/* A walk whose thread waits is not forgotten. */
void walk_hold(struct walk *w);
void walk_release(struct walk *w);

void walk_close(struct fs *fs); /* forgets all */

#endif
