/* shim: makes the n-th disk call of the process fail. Linked into a test, it stands before the C library's functions for the
 * test itself and for all its libraries (libuv, libraft, SQLite).
 *
 * Counted while armed: open for writing, write and pwrite (also vectors), fsync, fdatasync, ftruncate, rename, unlink, mkdir,
 * posix_fallocate, and libraft's asynchronous writes, on files and directories only. */
#ifndef TESTS_FAULT_SHIM_H
#define TESTS_FAULT_SHIM_H

#include <stdbool.h>

void shim_arm(int nth, int error);  /* the nth counted call from now on fails with errno = error */
void shim_disarm(void);
bool shim_fired(void);
const char *shim_what(void);        /* name of the call that failed, "" before */

#endif
