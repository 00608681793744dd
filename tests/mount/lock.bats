# flock and fcntl locks on one member, and what they do to open files: a commit before a lock is released, the newest content after
# one is taken. What several members have of them is in tests/cluster/locks.bats.
load ../lib/harness
setup_file() {
    root_file || return 1
    [ "${QFS_FAILPOINTS:-1}" != 1 ] || export QUORUMFS_FAILPOINTS=store.lock.split=while:$QFS_ROOT/on.split
    daemon_start
}
teardown_file() { unmount_file; }
setup() { enter_test; }
teardown() {
    actors_end
    leave_test
}

# begins ACTOR COMMAND...: it waits for the answer by now.
begins() {
    actor_begin "$@" && wait_until 5 grep -Eq "request_wait|lock|setlk" "/proc/${ACTOR_PID[$1]}/wchan"
}

@test "flock is shared or exclusive" {
    touch f
    actor_start A
    actor_start B
    A open 3 f r
    B open 3 f r
    A flock 3 s
    B flock 3 s
    A fails EAGAIN flock 3 x
    B flock 3 u
    A flock 3 x
    B fails EAGAIN flock 3 s
    A close 3
    B flock 3 x
}

@test "a flock goes with the last descriptor, also by death" {
    touch f
    actor_start A
    actor_start B
    A open 3 f w
    A flock 3 x
    actor_fork A C
    A close 3
    B open 3 f w
    B fails EAGAIN flock 3 x
    actor_signal C KILL
    wait_until 5 B flock 3 x
}

@test "fcntl locks belong to the process and end with any close" {
    touch f
    actor_start A
    actor_start B
    A open 3 f +
    B open 3 f +
    A lock 3 w
    B fails EAGAIN lock 3 r
    A child lock 3 u
    B fails EAGAIN lock 3 r
    A open 4 f r
    A close 4
    B lock 3 w
    actor_signal B KILL
    wait_until 5 A lock 3 w
}

@test "flock(1) waits, and gives up when told to" {
    local i
    actor_start A
    A open 3 lock wc
    A flock 3 x
    ! flock -n lock true || false
    ! flock -w 0.1 lock true || false
    flock lock touch "$S/ran" 3>&- &
    local waiter=$!
    timeout -s INT 0.2 flock lock true && fail "it got the lock"
    absent "$S/ran"
    A close 3
    wait $waiter
    [ -e "$S/ran" ]
}

@test "what the holder wrote is committed before the lock is released" {
    needs_quorumfs
    local kind
    for kind in flock lock; do
        echo old >f
        actor_start A
        A open 3 f +
        A $kind 3 $([ $kind = flock ] && echo x || echo w)
        A pwrite 3 0 new
        holds f 'old\n'
        A $kind 3 u
        holds f 'new\n'
        A exit
    done
}

@test "a holder that is killed publishes nothing, through whichever open file it wrote" {
    needs_quorumfs
    local fd
    actor_start B
    for fd in 3 4; do
        echo old >f
        actor_start A
        A open 3 f +
        A open 4 f +
        A lock $fd w
        A pwrite 4 0 new
        actor_signal A KILL
        B open 3 f +
        wait_until 5 B lock 3 w
        B close 3
        others_see f 'old\n'
    done
}

@test "taking a lock moves a clean open file to the newest content" {
    needs_quorumfs
    local kind
    for kind in flock lock; do
        echo old >f
        actor_start A
        A open 3 f +
        A pread 3 0 10
        same snapshot "$(said)" 'old\n'
        echo new >f
        A pread 3 0 10
        same snapshot "$(said)" 'old\n'
        A $kind 3 $([ $kind = flock ] && echo s || echo r)
        A pread 3 0 10
        same "under the lock" "$(said)" 'new\n'
        A exit
    done
}

@test "two processes count up under a lock and lose nothing" {
    within 30 python3 - <<'E'
import fcntl, os
open("counter", "w").write("0")
def count():
    fd = os.open("counter", os.O_RDWR)
    for _ in range(50):
        fcntl.lockf(fd, fcntl.LOCK_EX)
        n = int(os.pread(fd, 20, 0)) + 1
        os.pwrite(fd, b"%d" % n, 0)
        fcntl.lockf(fd, fcntl.LOCK_UN)
pids = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        count()
        os._exit(0)
    pids.append(pid)
for pid in pids:
    assert os.waitpid(pid, 0)[1] == 0
assert open("counter").read() == "150", open("counter").read()
E
}

@test "sqlite3: two processes write one database in turn" {
    within 30 python3 - <<'E'
import os, sqlite3
def connect():
    db = sqlite3.connect("db", timeout=20)
    db.execute("pragma journal_mode = delete")
    return db
connect().execute("create table t(a, b)").connection.commit()
pids = []
for me in range(2):
    pid = os.fork()
    if pid == 0:
        db = connect()
        for i in range(15):
            with db:
                db.execute("insert into t values(?, ?)", (me, i))
        os._exit(0)
    pids.append(pid)
for pid in pids:
    assert os.waitpid(pid, 0)[1] == 0
db = connect()
assert db.execute("select count(*) from t").fetchone()[0] == 30
assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
E
}

@test "a pid file that is locked and never closed is readable" {
    needs_quorumfs
    actor_start A setsid
    A open 3 f.pid wc
    A lock 3 w
    A write 3 $'4711\n'
    wait_until 5 eval '[ "$(setsid -w cat f.pid)" = 4711 ]'
}

@test "a lock on a file whose creation is pending makes the file" {
    needs_quorumfs
    actor_start A setsid
    actor_start B setsid
    A open 3 new.lock wc
    A flock 3 x
    B open 3 new.lock wc
    B fails EAGAIN flock 3 x
    A exit
    wait_until 5 B flock 3 x
}

# ---- Waiting --------------------------------------------------------------------------------------------------------------------

@test "a lock is given in the order of arrival" {
    needs_quorumfs
    local name
    touch f
    for name in A B C D; do
        actor_start $name
        $name open 3 f w
    done
    A flock 3 x
    begins B flockw 3 x
    begins C flockw 3 s
    begins D flockw 3 x
    A close 3
    actor_end B
    actor_waits C
    actor_waits D
    B close 3
    actor_end C
    actor_waits D
    C flock 3 u
    actor_end D
}

@test "who waits for a whole file is not overtaken by readers" {
    needs_quorumfs
    local name
    touch f
    for name in A B C; do
        actor_start $name
        $name open 3 f w
    done
    A flock 3 s
    begins B flockw 3 x
    C fails EAGAIN flock 3 s
    A flock 3 u
    actor_end B
    C fails EAGAIN flock 3 s
}

@test "a waiter that is killed is forgotten, and the next one gets the lock" {
    local name
    touch f
    for name in A B C; do
        actor_start $name
        $name open 3 f w
    done
    A flock 3 x
    begins B flockw 3 x
    begins C flockw 3 x
    actor_signal B KILL
    A close 3
    actor_end C
}

@test "a holder that is killed makes way at once" {
    local kind
    touch f
    for kind in 'flock 3 x' 'lock 3 w'; do
        actor_start A
        actor_start B
        A open 3 f +
        B open 3 f +
        A $kind
        begins B ${kind/ /w }
        actor_signal A KILL
        actor_end B
        B exit
    done
}

@test "any signal ends the wait, and nobody is left with the lock" {
    touch f
    actor_start A
    A open 3 f +
    A flock 3 x
    A lock 3 w
    within 20 python3 - <<'E'
import fcntl, os, signal, time
class Alarm(Exception):
    pass
def on_alarm(*_):
    raise Alarm
signal.signal(signal.SIGALRM, on_alarm)
fd = os.open("f", os.O_RDWR)
for wait in (lambda: fcntl.flock(fd, fcntl.LOCK_EX), lambda: fcntl.lockf(fd, fcntl.LOCK_EX)):
    start = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        wait()
        raise SystemExit("it got the lock")
    except Alarm:
        pass
    assert time.monotonic() - start < 25, time.monotonic() - start
os.close(fd)
E
    A close 3
    flock -n f true
    python3 -c 'import fcntl; fcntl.lockf(open("f", "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)'
}

@test "who waits to make a write lock of its read lock, and gets a signal, holds it as before or has got it" {
    within 60 python3 "$BATS_TEST_DIRNAME/../lib/upgrades.py" 6 6 "$T/f"
}

@test "two that wait for each other: the second is told EDEADLK" {
    touch f
    actor_start A
    actor_start B
    A open 3 f +
    B open 3 f +
    A lock 3 w 0 1
    B lock 3 w 1 1
    begins A lockw 3 w 1 1
    B fails EDEADLK lockw 3 w 0 1
    B lock 3 u 1 1
    actor_end A
}

@test "a shared flock becomes an exclusive one, and waits for that" {
    touch f
    actor_start A
    actor_start B
    A open 3 f +
    B open 3 f +
    A flock 3 s
    B flock 3 s
    begins A flockw 3 x
    B flock 3 u
    actor_end A
    B fails EAGAIN flock 3 s
    begins B flockw 3 s
    A flock 3 s
    actor_end B
}

# ---- Ranges ---------------------------------------------------------------------------------------------------------------------

@test "ranges exclude each other byte by byte" {
    touch f
    actor_start A
    actor_start B
    A open 3 f +
    B open 3 f +
    A lock 3 w 10 10
    B lock 3 w 0 10
    B lock 3 w 20 0
    B fails EAGAIN lock 3 r 19 1
    B fails EAGAIN lock 3 r 5 6
    A fails EAGAIN lock 3 w 9 1
    # The middle goes; both ends stay.
    A lock 3 u 12 3
    B lock 3 w 12 3
    B fails EAGAIN lock 3 r 11 1
    B fails EAGAIN lock 3 r 15 1
    # A part becomes shared.
    A lock 3 r 15 2
    B lock 3 r 15 2
    B fails EAGAIN lock 3 w 15 1
    B fails EAGAIN lock 3 r 17 1
    A close 3
    B lock 3 w 0 0
}

@test "where there are too many locks to split a range, it is held as before" {
    needs_failpoints
    touch f
    actor_start A
    actor_start B
    A open 3 f +
    B open 3 f +
    A lock 3 w 0 100
    touch "$QFS_ROOT/on.split"
    A fails ENOLCK lock 3 u 50 10
    B fails EAGAIN lock 3 r 55 1
    A lock 3 u 0 50
    A lock 3 u 60 40
    rm "$QFS_ROOT/on.split"
    B fails EAGAIN lock 3 r 55 1
    A close 3
    B lock 3 w 0 0
}

@test "F_GETLK says who is in the way" {
    touch f
    actor_start A
    actor_start B
    A open 3 f +
    B open 3 f +
    B getlk 3 w
    same free "$(said)" u
    A lock 3 w 10 5
    A getlk 3 w 0 0
    same "one's own" "$(said)" u
    B getlk 3 r 0 0
    same exclusive "$(said)" "w 10 5 ${ACTOR_PID[A]}"
    A lock 3 r 100 0
    B getlk 3 r 50 0
    same shared "$(said)" u
    B getlk 3 w 50 0
    same "to the end" "$(said)" "r 100 0 ${ACTOR_PID[A]}"
}

@test "flock and fcntl locks do not exclude each other" {
    touch f
    actor_start A
    actor_start B
    A open 3 f +
    B open 3 f +
    A flock 3 x
    B lock 3 w
}

@test "locks of an open file (F_OFD_SETLK) go with it" {
    touch f
    within 20 python3 - <<'E'
import fcntl, os, struct, time
F_OFD_SETLK = 37
def ofd(fd, kind):
    return fcntl.fcntl(fd, F_OFD_SETLK, struct.pack("hhqqi4x", kind, 0, 0, 0, 0))
def refused(fd):
    try:
        ofd(fd, fcntl.F_WRLCK)
    except BlockingIOError:
        return True
a, b = os.open("f", os.O_RDWR), os.open("f", os.O_RDWR)
ofd(a, fcntl.F_WRLCK)
assert refused(b)
os.close(os.open("f", os.O_RDWR))
assert refused(b), "another close ended it"
os.close(a)
end = time.monotonic() + 25
while refused(b):
    assert time.monotonic() < end, "it is still held"
E
}

# ---- Files that come and go -----------------------------------------------------------------------------------------------------

@test "who locks a file that was deleted excludes others that have it open, and no new file of that name" {
    touch f
    actor_start A
    actor_start B
    actor_start C
    A open 3 f +
    B open 3 f +
    A flock 3 x
    rm f
    B fails EAGAIN flock 3 x
    C open 3 f wc
    C flock 3 x
    A close 3
    wait_until 5 B flock 3 x
}

@test "a lock file as apt and dpkg use it" {
    within 20 python3 - <<'E'
import fcntl, os
def lock():
    fd = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o640)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd
def child_gets_it():
    pid = os.fork()
    if pid == 0:
        os._exit(0 if lock() is None else 1)
    return os.waitpid(pid, 0)[1] != 0
fd = lock()
assert fd is not None
assert not child_gets_it()
os.close(fd)
assert child_gets_it()
E
}

@test "a mailbox that several append to under lockf loses no line" {
    touch mbox
    within 30 python3 - <<'E'
import fcntl, os
pids = []
for me in range(3):
    pid = os.fork()
    if pid == 0:
        for i in range(10):
            with open("mbox", "r+") as f:
                fcntl.lockf(f, fcntl.LOCK_EX)
                f.seek(0, 2)
                f.write(f"From {me} {i}\n\nbody\n\n")
        os._exit(0)
    pids.append(pid)
for pid in pids:
    assert os.waitpid(pid, 0)[1] == 0
lines = [l for l in open("mbox") if l.startswith("From ")]
assert len(set(lines)) == 30 and len(lines) == 30, lines
assert len(open("mbox").read()) == sum(len(l) + 7 for l in lines)
E
}

@test "poll says that a locked file is ready" {
    touch f
    actor_start A
    A open 3 f +
    A flock 3 x
    A poll 3
    same poll "$(said)" ready
}
