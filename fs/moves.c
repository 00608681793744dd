/* The kernel has each directory at one place. When another member has moved it, the store has it elsewhere, until somebody looks it up in its new place,
 * or the replayer carries out the rename. For the first the kernel takes locks for which it does not wait: that of all renames between directories of
 * this mount, and that of the old parent. A worker's rename has the one of the mount, and may wait for the very directory in which somebody looks. Then the
 * kernel says ESTALE, walks again, meets the same, and the program is told. If it succeeds instead, the worker does not find the directory where it has
 * to move it from, and begins anew: who looks again and again keeps the replayer from its work.
 *
 * So who finds a directory that is still to be moved is told to walk again, and waits on the way: the kernel has not been given the attributes of
 * directories to keep meanwhile, so it asks for those of the parent before it looks there for the second time. At that moment it holds no lock, and nobody
 * waits for it; when the worker is done there is nothing left to move. Then, and after WAIT_MS in any case, the second walk goes on, and is shown what it finds.
 *
 * - The kernel may first look whether the name that it knows is still there. What that is answered, if not the same, only makes it look the name up.
 * - mkdir, mknod and symlink do not walk again when their last name is there. They wait before that name is looked up.
 * - Who walks again because of a barrier (barrier.c) must not be told so once more. It waits in each directory from or to which others are to be moved. */
#include "fs/moves.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/pending.h"
#include "fs/proc.h"
#include "fs/replay.h"
#include "fs/walk.h"
#include "store/base/clock.h"

enum {
    TIMES_MAX = 2, /* ESTALE for one directory: for the name that the kernel knows, and for the one that it looks up */
    WAIT_MS = 100, /* a worker waits for local operations, which take some ms each; for a crowd of them nobody waits */
};

struct move_wait {
    struct move_wait *next;
    struct pending *pending;
    fuse_ino_t node;         /* whose attributes are asked for */
    fuse_ino_t dir;          /* that is being moved; 0: any from or to `node` */
    int64_t until_ns;
    moves_go_cb go;
};

/* Whether the thread may be told to walk again, and has not been told that often enough; that is noted. */
static bool may_walk_again(struct walk *w, enum proc_call call, uint64_t shape, fuse_ino_t parent, fuse_ino_t dir)
{
    unsigned times = walk_moving_times(w, parent, dir, shape);

    walk_set_moving(w, parent, dir, shape, times + 1);
    return times < TIMES_MAX && !walk_is_due(w) && call != PROC_CALL_MAKE && call != PROC_CALL_AWAKE && call != PROC_CALL_UNKNOWN;
}

bool moves_pass(fuse_req_t req, fuse_ino_t parent, fuse_ino_t dir)
{
    struct fs *fs = fs_of(req);
    pid_t tid = fuse_req_ctx(req)->pid;
    struct walk *w = walk_find(fs, tid);
    enum proc_call call;
    uint64_t shape = 0;

    replay_drain(fs); /* what is known here by a barrier may not have been taken in yet */
    if (w && walk_moving(w, parent) == dir && !replay_is_moving(fs, dir))
        walk_set_moving(w, 0, 0, 0, 0); /* that is over */
    if (!w || !replay_is_moving(fs, dir))
        return true;
    call = proc_call_of(tid, &shape);
    fuse_lowlevel_notify_inval_inode(fs->se, parent, -1, 0); /* attributes only: that waits for nobody */
    if (!may_walk_again(w, call, shape, parent, dir))
        return true;
    fuse_reply_err(req, ESTALE);
    return false;
}

static void moves_settle(struct fs *fs, fuse_req_t req, int err, int64_t rev, uint64_t ino, void *data)
{
    struct move_wait *m = data;

    (void)fs;
    (void)rev;
    (void)ino;
    if (req && err)
        fuse_reply_err(req, fs_errno(err));
    else if (req)
        m->go(req, m->node);
    free(m);
}

/* Whether the call of that thread, which comes to `node`, is better off when nothing is being moved there. In the second walk it is; and where a name is to
 * be made, before the kernel looks whether there is one: later it has locked the directory. */
static bool is_in_time(const struct walk *w, enum proc_call call, uint64_t shape, fuse_ino_t node)
{
    return walk_is_on_way(w, shape) || (call == PROC_CALL_MAKE && !walk_has_looked(w, node, shape));
}

/* Whether the thread has to wait, and what for: for a directory that it was told of before, or any from or to `node` (`dir` 0). */
static bool has_to_wait(struct fs *fs, pid_t tid, fuse_ino_t node, fuse_ino_t *dir)
{
    struct walk *w = replay_moves_wait(fs) ? walk_get(fs, tid) : NULL;
    uint64_t shape = 0;
    enum proc_call call = w ? proc_call_of(tid, &shape) : PROC_CALL_UNKNOWN;

    if (!w || call == PROC_CALL_AWAKE || call == PROC_CALL_UNKNOWN)
        return false;
    *dir = walk_moving(w, node);
    if (*dir && walk_moving_times(w, node, *dir, shape)) {
        walk_set_moving(w, node, *dir, shape, TIMES_MAX);
        return replay_is_moving(fs, *dir);
    }
    *dir = 0;
    return replay_moves_in(fs, node) && is_in_time(w, call, shape, node);
}

bool moves_wait(fuse_req_t req, fuse_ino_t node, moves_go_cb go)
{
    struct fs *fs = fs_of(req);
    fuse_ino_t dir;
    struct move_wait *m = has_to_wait(fs, fuse_req_ctx(req)->pid, node, &dir) ? malloc(sizeof *m) : NULL;
    struct pending *p;

    if (!m)
        return false;
    *m = (struct move_wait){.next = fs->moves, .node = node, .dir = dir, .until_ns = clock_boottime_ns() + WAIT_MS * INT64_C(1000000), .go = go};
    p = pending_wait(fs, &(struct pending_call){.req = req, .settle = moves_settle, .wake = true, .data = m});
    if (!p)
        return true; /* replied, and settled: it is freed */
    m->pending = p;
    fs->moves = m;
    return true;
}

/* Those of a directory, or whose time has come. */
static void let_go(struct fs *fs, int64_t now_ns)
{
    for (struct move_wait **at = &fs->moves, *m; (m = *at);) {
        if (now_ns < m->until_ns && (m->dir ? replay_is_moving(fs, m->dir) : replay_moves_in(fs, m->node))) {
            at = &m->next;
            continue;
        }
        *at = m->next;
        pending_finish(m->pending, 0, 0, 0);
    }
}

void moves_look(struct fs *fs)
{
    if (fs->moves)
        let_go(fs, clock_boottime_ns());
}

int moves_tick(struct fs *fs)
{
    moves_look(fs);
    return fs->moves ? WAIT_MS / 10 : -1;
}

void moves_close(struct fs *fs)
{
    struct move_wait *m;

    while ((m = fs->moves)) {
        fs->moves = m->next;
        pending_finish(m->pending, QE_SHUTDOWN, 0, 0);
    }
}
