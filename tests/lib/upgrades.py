"""Processes that hold a read lock of the same bytes for some milliseconds. Every third one also makes a write lock of it, and is interrupted all the
time by a timer: POSIX says that a call that returns EINTR changed nothing. What each of them believes to hold is in memory that they share, so a lock
that was lost without a word is seen by whoever gets it next.

    upgrades.py SECONDS PROCESSES FILE...        the same file, as different mounts have it; process i opens the (i mod n)th
"""
import ctypes, errno, fcntl, mmap, os, random, signal, struct, sys, time

SECONDS, PROCESSES, FILES = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
BYTES = 10
NONE, SHARED, EXCLUSIVE = 0, 1, 2
ENDINGS = ("upgraded", "interrupted", "deadlock")
libc = ctypes.CDLL(None, use_errno=True)  # python's own calls try again by themselves
believed = mmap.mmap(-1, PROCESSES)
counts = mmap.mmap(-1, 8 * len(ENDINGS) * PROCESSES)


class Wrong(Exception):
    pass


def lock(fd, kind):
    """0 or an errno."""
    what = struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, BYTES, 0)
    return ctypes.get_errno() if libc.fcntl(fd, fcntl.F_SETLKW, what) else 0


def surely(fd, kind):
    while True:
        err = lock(fd, kind)
        if err == 0:
            return
        if err != errno.EINTR:
            raise Wrong(f"lock {kind}: {errno.errorcode[err]}")


def others(me, limit):
    found = [j for j in range(PROCESSES) if j != me and believed[j] > limit]
    if found:
        raise Wrong(f"process {found[0]} believes to have what {me} has got")


def count(me, ending):
    at = 8 * (len(ENDINGS) * me + ENDINGS.index(ending))
    counts[at : at + 8] = struct.pack("q", struct.unpack("q", counts[at : at + 8])[0] + 1)


def upgrade(fd, me):
    """One attempt, which ends with the read lock, or without any."""
    err = lock(fd, fcntl.F_WRLCK)
    if err == 0:
        others(me, NONE)
        believed[me] = EXCLUSIVE
        os.pwrite(fd, b"%8d" % (int(os.pread(fd, 8, 0)) + 1), 0)
        count(me, "upgraded")
        believed[me] = SHARED
        surely(fd, fcntl.F_RDLCK)
    elif err == errno.EINTR:
        count(me, "interrupted")
        os.pread(fd, 8, 0)
    elif err == errno.EDEADLK:  # another one waits for our read lock
        count(me, "deadlock")
        believed[me] = NONE
        surely(fd, fcntl.F_UNLCK)
    else:
        raise Wrong(f"upgrade: {errno.errorcode[err]}")
    return err


def run(me):
    fd, end = os.open(FILES[me % len(FILES)], os.O_RDWR), time.monotonic() + SECONDS
    random.seed(me)
    signal.signal(signal.SIGALRM, lambda *_: None)
    while time.monotonic() < end:
        surely(fd, fcntl.F_RDLCK)
        others(me, SHARED)
        believed[me] = SHARED
        time.sleep(random.uniform(0, 0.008))
        for _ in range(0 if me % 3 else 4):
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.001, 0.01), random.uniform(0.002, 0.01))
            err = upgrade(fd, me)
            signal.setitimer(signal.ITIMER_REAL, 0)
            if err == errno.EDEADLK:
                break
        believed[me] = NONE
        surely(fd, fcntl.F_UNLCK)


def child(me):
    try:
        run(me)
    except (OSError, Wrong) as e:
        print(f"process {me}: {e}", flush=True)
        os._exit(1)
    os._exit(0)


with open(FILES[0], "w") as f:
    f.write("%8d" % 0)
pids = []
for i in range(PROCESSES):
    pids.append(os.fork() or child(i))
failed = sum(os.waitpid(pid, 0)[1] != 0 for pid in pids)
all_counts = struct.unpack(f"{len(ENDINGS) * PROCESSES}q", counts[:])
total = {ending: sum(all_counts[i :: len(ENDINGS)]) for i, ending in enumerate(ENDINGS)}
print(total, flush=True)
if failed:
    sys.exit(f"{failed} of {PROCESSES} processes failed")
value = int(open(FILES[0]).read())
if value != total["upgraded"]:
    sys.exit(f"{total['upgraded']} counted up to {value}")
if total["upgraded"] == 0 or total["interrupted"] == 0:
    sys.exit("nothing was tried")
