/* Long reads, on threads of their own: listings of old revisions, versions of a name, copies of the database. The loop hands a request
 * over and goes on; a worker reads with a reader of its own, and the loop answers.
 *
 * A job pages through long lists with a transaction for each page, so that the WAL is never held back for long, and looks now and
 * then whether work_stopping. */
#ifndef QFS_FS_WORK_H
#define QFS_FS_WORK_H

#include "fs/fs.h"
#include "fs/pending.h"

/* A worker's thread: does the job, touches nothing but `data`. 0 or QE_*, which `settle` of the call gets. */
typedef int (*work_run_cb)(struct fs *fs, struct store_reader *reader, void *data);

/* `call.data` goes to `run`, then to `call.settle`. A caller that dies is answered at once; the job goes on and is then settled with
 * req == NULL, as it is when it cannot begin. FUSE loop. */
void work_start(struct fs *fs, work_run_cb run, const struct pending_call *call);
/* The member is about to stop: end soon, with QE_SHUTDOWN. Any thread. */
bool work_stopping(struct fs *fs);
/* Ends the threads; what they have not begun is finished with QE_SHUTDOWN. */
void work_close(struct fs *fs);

#endif
