/* Directories that another member has moved, and the replayer is still to move in the kernel. While it does that the kernel cannot move them by itself for
 * somebody who looks one up in its new place: moves.c tells what is done about that. FUSE loop only. */
#ifndef QFS_FS_MOVES_H
#define QFS_FS_MOVES_H

#include "fs/fs.h"

/* `dir` has been found in `parent`. False: the kernel was told to walk again (ESTALE), and the caller is answered. */
bool moves_pass(fuse_req_t req, fuse_ino_t parent, fuse_ino_t dir);
/* The thread asks for the attributes of `node`: whether it has to wait first. Then `go` is called later, unless its caller has died. */
typedef void (*moves_go_cb)(fuse_req_t req, fuse_ino_t node);
bool moves_wait(fuse_req_t req, fuse_ino_t node, moves_go_cb go);
void moves_look(struct fs *fs);  /* something has been moved: lets those go who waited for that */
int moves_tick(struct fs *fs);   /* lets those go who have waited long enough; in how many ms it wants to be called again, or -1 */
void moves_close(struct fs *fs); /* before pending_end */

#endif
