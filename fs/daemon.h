/* Going into the background: the caller waits until the tree is usable or learns why it is not. */
#ifndef QFS_FS_DAEMON_H
#define QFS_FS_DAEMON_H

#include "store/base/buf.h"

struct daemon {
    int pipe; /* where the child reports; -1 in the foreground and after the report */
};

/* Forks; call before any thread exists. Returns in the child only: the caller waits for the child's report, prints what it says,
 * and exits with its status. On failure returns QE_IO with a sentence, still in the caller. */
int daemon_start(struct daemon *d, struct buf *why);
/* The tree is usable: lets the caller go and gives up the terminal. Does nothing in the foreground. */
void daemon_ready(struct daemon *d);
/* It has failed before that: hands the sentence to the caller, who prints it and exits with `status`; then exits too. */
_Noreturn void daemon_fail(struct daemon *d, int status, struct buf *why);

/* Closes every descriptor but 0, 1 and 2, and opens those that are missing: what a shell left open must not stay open as long as
 * the mount, and no file of ours may become number 2. As many as the hard limit says may be opened from now on. */
void daemon_clean_fds(void);
/* The log of a daemon: syslog, or DIR/log where there is none. 0 or QE_IO. */
int daemon_open_log(const char *dir, struct buf *why);

#endif
