/* The replayer: the process that tells inotify of changes, by making the system calls that would have made them.
 *
 * It is forked before the daemon has a thread or /dev/fuse open, because a process that waits for an answer of its own mount can not be
 * killed: were it the daemon, kill -9 would leave a mount on which everybody hangs. It holds nothing of the mount between two
 * orders (but for the directory of a series of orders, while it goes on), so that umount is not refused, and goes with the daemon (PDEATHSIG, and the end of its sockets).
 *
 *     daemon ── control ──> supervisor: forks a worker for each socket that arrives on `control`
 *        └───── socket ───> worker: one order at a time; a hello, then a report for each order
 *
 * Workers are processes, because the daemon can have a new one at any time without forking itself, and because it tells requests of
 * the replayer from others by their process id. */
#ifndef QFS_FS_REPLAYER_H
#define QFS_FS_REPLAYER_H

#include <stdint.h>
#include <sys/types.h>

#include "store/base/buf.h"

/* What a worker does with DIR/NAME; each makes the events that its comment names. */
enum replayer_call {
    REPLAYER_CREATE = 1, /* open(O_CREAT|O_EXCL), write or nothing, close: CREATE OPEN MODIFY CLOSE_WRITE */
    REPLAYER_MKNOD,      /* CREATE */
    REPLAYER_CONTENT,    /* open, write or ftruncate, close: OPEN MODIFY CLOSE_WRITE */
    REPLAYER_MKDIR,
    REPLAYER_SYMLINK,
    REPLAYER_UNLINK,
    REPLAYER_RMDIR,
    REPLAYER_RENAME,     /* to DIR2/NAME2 */
    REPLAYER_EXCHANGE,
    REPLAYER_ATTRIB,     /* utimensat; NAME "" is the root */
    REPLAYER_REST,       /* nothing: what was left open is closed, and nothing is reported */
};

enum { REPLAYER_ORDER_MAX = 16 << 10 }; /* bytes of an order: two paths and two names */

/* A message on a worker's socket (SOCK_SEQPACKET): this, then dir, name, dir2, name2, each with a NUL. Paths are relative to the root of
 * the mount, "" is the root itself. */
struct replayer_order {
    uint32_t call;           /* enum replayer_call */
    uint32_t empty;          /* the new content is empty */
    uint32_t is_dir;         /* what is renamed is a directory */
    uint32_t same;           /* DIR is the one that the order before has left open */
    uint32_t keep;           /* leave it open: the next order is for it, and comes at once */
    uint32_t major, minor;   /* device of our mount: anything else found there is left alone */
};

struct replayer_report {
    int32_t pid; /* of the worker */
    int32_t err; /* errno of the order; a hello has -1 */
};

/* Forks the supervisor for `mountpoint` (an absolute path; its parent directory is opened now). Call while there is no other thread.
 * 0 with its process id and the control socket, or QE_IO with a sentence. */
int replayer_fork(const char *mountpoint, pid_t *pid, int *control, struct buf *why);
/* Asks for a worker: `*socket` gets our end. 0; QE_AGAIN: there is no descriptor or memory now; QE_IO: the supervisor is gone. Any thread. */
int replayer_hire(int control, int *socket);

#endif
