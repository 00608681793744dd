/* What /proc tells of the processes that call us. FUSE loop. None of these touches our own mount. */
#ifndef QFS_FS_PROC_H
#define QFS_FS_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct proc_info {
    pid_t tgid;     /* the process (thread group) */
    pid_t session;  /* session id (setsid) */
    bool signaled;  /* killed by a signal */
    uint64_t start; /* when the thread began, in ticks since boot */
};
/* The session of a thread; PROC_NO_SESSION for all that are not known. 0 is a session like others: one whose leader is outside our pid
 * namespace, as of a process that was started in a container from without. */
enum { PROC_NO_SESSION = -1, PROC_ANY_SESSION = -2 };
pid_t proc_session(pid_t tid);
/* False when there is no such thread (or it is of another pid namespace: 0). FUSE loop. */
bool proc_info(pid_t tid, struct proc_info *out);
/* The process (thread group) of a thread; the thread itself when it cannot be told. FUSE loop. */
pid_t proc_tgid(pid_t tid);
/* A process; no other one ever has the same. tgid 0: unknown, and equal to none. */
struct proc_id {
    pid_t tgid;
    uint64_t start;
};
/* The process of a thread. FUSE loop. */
struct proc_id proc_identify(pid_t tid);
static inline bool proc_is_same(struct proc_id a, struct proc_id b) { return a.tgid && a.tgid == b.tgid && a.start == b.start; }
/* The command name of a process, at most 15 bytes; "?" when unknown. */
void proc_comm(pid_t pid, char out[16]);
/* SIGKILL is pending for the thread or it is gone: nobody will look at an answer. Every fatal signal becomes a SIGKILL. */
bool proc_is_dying(pid_t tid);

/* What kind of system call a thread is in whose request we have, from /proc/TID/syscall. PROC_CALL_UNKNOWN: that may not be read, or
 * says nothing. `shape` gets a number that is the same for two looks at one call (and for calls with the same arguments); NULL is
 * fine. FUSE loop. */
enum proc_call {
    PROC_CALL_UNKNOWN,
    PROC_CALL_AWAKE,      /* the thread does not sleep yet; it will say later */
    PROC_CALL_STAT,       /* asks for attributes, by path */
    PROC_CALL_DESCRIPTOR, /* works on an open descriptor and walks no path */
    PROC_CALL_MAKE,       /* makes a name, and fails if there is one */
    PROC_CALL_SET,        /* sets attributes of what it finds at the end of its path */
    PROC_CALL_CHANGE,     /* removes or moves a name of the directory that it finds */
    PROC_CALL_OTHER,
};
enum proc_call proc_call_of(pid_t tid, uint64_t *shape);
/* The same where only mkdir and mkdirat matter: these are MAKE, all others OTHER. (What path it has cannot be seen: to read another process's
 * memory may have to wait for our own mount, or for anybody's.) FUSE loop. */
enum proc_call proc_mkdir_of(pid_t tid);

/* Which device numbers are ours, for proc_look_for_writer. `dev` is "MAJOR:MINOR" of our superblock. */
void proc_set_device(const char *dev);
/* "MAJOR:MINOR" of the newest mount on `mountpoint`, from /proc/self/mountinfo. False: nothing is mounted there. `type` gets the
 * file system type. */
bool proc_find_mount(const char *mountpoint, char dev[32], char type[64]);
/* Any thread. Whether the thread's descriptor table has a descriptor with write access to inode number `ino` (or `ino2`) of our file
 * system.
 * A descriptor that is being closed is already out of the table. */
enum proc_table { PROC_NO_WRITER, PROC_WRITER, PROC_GONE /* there is no table: the thread is exiting, or not there */ };
enum proc_table proc_look_for_writer(pid_t tid, uint64_t ino, uint64_t ino2);

#endif
