#!/usr/bin/env python3
"""Many leases with random times to live, over changes of the leader: none may expire early, none twice, and none very late.

    leasestorm.py LEASES CHANGES SECONDS MOUNT=PID...

Each lease is granted on a random member, gets a random TTL and a file, and is then left alone, touched now and then, or kept by its file
`alive` for a while. Meanwhile the leader changes: it is asked to hand over, or it is stopped for a while (SIGSTOP) and comes back. Streams
of all members tell when the files went. "Early" is measured from when the last acknowledged renewal was asked for, which is before the leader
counted it; "late" from when the last one that may have counted returned. A failed renewal may or may not have counted."""
import heapq
import os
import random
import signal
import sys
import threading
import time

now = time.monotonic
PAUSE = 2.0  # seconds for which a leader is stopped: longer than an election
WORKERS = 24


class Lease:
    def __init__(self, number):
        self.name = f"storm{number}"
        self.mount = random.choice(mounts)
        self.ttl = round(random.uniform(1, ttl_max), 2)
        self.until = now() + random.uniform(0, seconds)  # renewed up to here
        self.how = random.choice(("left", "touched", "kept"))
        self.sure = None      # when the last acknowledged renewal was asked for
        self.perhaps = None   # when the last one that may have counted ended
        self.fd = None
        self.kept = None      # (from, to): when alive was open
        self.went = []        # (time, member's index) of its deletion

    def dir(self):
        return f"{self.mount}/.quorum/leases/{self.name}"

    def file(self):
        return f"storm/{self.name}"


def step(lease):
    """Does what is next. Returns when to go on, or None."""
    if lease.sure is None:
        return grant(lease)
    if lease.how == "left":
        return None
    if lease.how == "kept":
        if lease.fd is None and lease.kept is None:
            lease.fd = os.open(lease.dir() + "/alive", os.O_WRONLY)
            lease.kept = [now(), None]
            return max(lease.until, now() + 0.1)
        lease.kept[1] = now()
        os.close(lease.fd)
        lease.perhaps = now()
        return None
    if now() > lease.until:
        return None
    asked = now()
    try:
        os.utime(lease.dir())
        lease.sure = asked
    finally:
        lease.perhaps = now()
    return now() + random.uniform(0.2, 0.8) * lease.ttl


def grant(lease):
    os.mkdir(lease.dir())
    try:
        write(lease.dir() + "/keys/" + lease.file(), "x")
        asked = now()
        write(lease.dir() + "/ttl", str(lease.ttl))
    except OSError:  # not this one: it has a TTL of a minute
        lease.went = None
        raise
    lease.sure, lease.perhaps = asked, now()
    return now() if lease.how != "left" else None


def write(path, text):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(fd, text.encode())
        if not path.endswith("/ttl"):
            os.fsync(fd)
    finally:
        os.close(fd)


class Schedule:
    def __init__(self, leases):
        self.heap = [(now() + random.uniform(0, seconds / 4), i, l) for i, l in enumerate(leases)]
        heapq.heapify(self.heap)
        self.lock = threading.Condition()
        self.busy = 0
        self.failed = 0

    def work(self):
        while True:
            with self.lock:
                while True:
                    if not self.heap and not self.busy:
                        self.lock.notify_all()
                        return
                    wait = self.heap[0][0] - now() if self.heap else 0.5
                    if self.heap and wait <= 0:
                        break
                    self.lock.wait(min(wait, 0.5))
                _, i, lease = heapq.heappop(self.heap)
                self.busy += 1
            try:
                again = step(lease)
            except OSError as e:
                # Without a leader for a moment; or it expired while a renewal that failed was thought to have counted.
                again = now() + 0.2 if lease.how == "touched" and lease.sure and not lease.went and now() < lease.until else None
                self.failed += 1
                if again is None and lease.fd is not None:
                    os.close(lease.fd)
            with self.lock:
                self.busy -= 1
                if again is not None:
                    heapq.heappush(self.heap, (again, i, lease))
                self.lock.notify()


def follow(index, mount, by_name, stop):
    with open(f"{mount}/.quorum/watch/storm/.events", "rb", buffering=0) as stream:
        os.set_blocking(stream.fileno(), False)
        rest = b""
        while not stop.is_set():
            try:
                data = stream.read(1 << 16)
            except OSError:
                return
            if not data:
                time.sleep(0.005)
                continue
            at = now()
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                fields = line.decode().split("\t")
                lease = by_name.get(fields[2].removeprefix("storm/"))
                if lease and fields[1] == "delete" and lease.went is not None:
                    lease.went.append((at, index, fields[3] if len(fields) > 3 else ""))


def change_leader(number):
    """Hands over, or stops the leader until there is another one."""
    leader = next((i for i in range(len(mounts)) if said(i, "role") == "leader"), None)
    if leader is None:
        return 0
    try:
        if number % 3 == 2:
            os.kill(pids[leader], signal.SIGSTOP)
            pauses.append((leader, now(), now() + PAUSE))
            time.sleep(PAUSE)
            os.kill(pids[leader], signal.SIGCONT)
        else:
            to = random.choice([i for i in range(len(mounts)) if i != leader])
            fd = os.open(f"{mounts[to]}/.quorum/leader", os.O_WRONLY)
            try:
                os.write(fd, said(to, "member").encode())
            finally:
                os.close(fd)
        return 1
    except OSError as e:
        print(f"leasestorm: a change of leader failed: {e}")
        return 0


def said(i, field):
    for line in open(f"{mounts[i]}/.quorum/status"):
        name, value = line.rstrip("\n").split(": ", 1)
        if name == field:
            return value
    return ""


def was_stopped(lease):
    """Whether its member was stopped while it kept the lease, for longer than a renewal may wait."""
    i = mounts.index(lease.mount)
    return lease.kept and any(m == i and a < (lease.kept[1] or now()) and b > lease.kept[0] for m, a, b in pauses)


def judge(leases, changes):
    early, late, bad = [], [], []
    for l in leases:
        if l.went is None or l.sure is None:
            continue
        if sorted(m for _, m, _ in l.went) != list(range(len(mounts))):
            bad.append(f"{l.name} ({l.how}, TTL {l.ttl}): its file went on members {[m for _, m, _ in l.went]}")
            continue
        if any(cause != f"expired {l.name}" for _, _, cause in l.went):
            bad.append(f"{l.name}: its cause is {l.went[0][2]!r}")
        first = min(at for at, _, _ in l.went)
        sure = l.sure + l.ttl
        if l.kept and not was_stopped(l):
            sure = max(sure, l.kept[1] or 0)
        early.append((first - sure, l))
        late.append((first - l.perhaps - l.ttl, l))
        if first < sure:
            bad.append(f"{l.name} ({l.how}, TTL {l.ttl}) expired {sure - first:.3f} s early")
        # Each leader may begin anew with what was left, after an election; a machine with all this on it is slow.
        if late[-1][0] > changes * (l.ttl + 3) + 5:
            bad.append(f"{l.name} ({l.how}, TTL {l.ttl}) expired {late[-1][0]:.3f} s late")
    return early, late, bad


def main():
    leases = [Lease(i) for i in range(n_leases)]
    by_name = {l.name: l for l in leases}
    stop = threading.Event()
    os.mkdir(f"{mounts[0]}/storm")
    followers = [threading.Thread(target=follow, args=(i, m, by_name, stop), daemon=True) for i, m in enumerate(mounts)]
    for f in followers:
        f.start()
    schedule = Schedule(leases)
    workers = [threading.Thread(target=schedule.work, daemon=True) for _ in range(WORKERS)]
    for w in workers:
        w.start()
    changes = 0
    for i in range(n_changes):
        time.sleep(seconds / (n_changes + 1))
        changes += change_leader(i)
    end = now() + 60 + seconds + (changes + 2) * (ttl_max + 3)
    for w in workers:
        w.join(max(0.1, end - now()))
    waiting = [l for l in leases if l.went is not None and l.sure is not None]
    while now() < end and any(len(l.went) < len(mounts) for l in waiting):
        time.sleep(0.05)
    time.sleep(0.2)  # one that went twice would be told again
    stop.set()
    early, late, bad = judge(leases, changes)
    for line in bad[:20]:
        print("leasestorm: " + line)
    print(f"leasestorm: leases={len(waiting)} leader_changes={changes} failed_calls={schedule.failed} bad={len(bad)}", end="")
    if early:
        lateness = sorted(x for x, _ in late)
        print(f" earliest={min(x for x, _ in early):+.3f}s late_median={lateness[len(lateness) // 2]:+.3f}s late_max={lateness[-1]:+.3f}s", end="")
    print()
    for l in leases:  # those that have a minute to live
        if l.went is None:
            try:
                os.rmdir(l.dir())
            except OSError:
                pass
    return 1 if bad or len(waiting) < n_leases * 0.8 else 0


if __name__ == "__main__":
    n_leases, n_changes, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    mounts = [a.rpartition("=")[0] for a in sys.argv[4:]]
    pids = [int(a.rpartition("=")[2]) for a in sys.argv[4:]]
    ttl_max = min(8.0, seconds)
    pauses = []
    seed = int(os.environ.get("QFS_STORM_SEED", time.time_ns() % 1000000))
    print(f"leasestorm: seed {seed}")
    random.seed(seed)
    sys.exit(main())
