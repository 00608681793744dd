/* Named points at which a test can make the program fail.
 *
 * QUORUMFS_FAILPOINTS="store.commit=crash@5,store.apply=stall:2000": a list of NAME=ACTION[@HIT]; ACTION is crash (SIGKILL to
 * oneself), error (the call returns true), while:FILE (it returns true as long as that file is there), stall:MS, or hold:FILE (it stands
 * still as long as that file is there). With @HIT it acts at that hit only (1 is the first), else at every hit.
 * Compiled in when QFS_FAILPOINTS is defined (all presets but release); otherwise FAILPOINT is false and costs nothing. */
#ifndef QFS_BASE_FAILPOINT_H
#define QFS_BASE_FAILPOINT_H

#include <stdbool.h>

#ifdef QFS_FAILPOINTS
bool failpoint_hit(const char *name); /* any thread */
#define FAILPOINT(name) failpoint_hit(name)
#else
#define FAILPOINT(name) false
#endif

#endif
