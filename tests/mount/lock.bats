# flock and fcntl locks on one member, and what they do to open files: a commit before a lock is released, the newest content after
# one is taken.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() { enter_test; }
teardown() { leave_test; }

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
    ! flock -n lock true
    ! flock -w 0.1 lock true
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
