/* Files of /proc/TID that are read for almost every request are kept open for the threads that call again and again: opening one costs
 * several times what reading it does. */
#ifndef QFS_FS_PROC_KEPT_H
#define QFS_FS_PROC_KEPT_H

#include <sys/types.h>

enum proc_kept_file { PROC_SYSCALL, PROC_STAT, PROC_COMM, PROC_KEPT_FILES };

/* Reads the file of a thread as it is now, as a string. Its length, or -1 with errno. Any thread. */
ssize_t proc_kept_read(pid_t tid, enum proc_kept_file which, char *out, size_t size);

#endif
