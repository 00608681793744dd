# flock and fcntl locks between three members, and what becomes of them when a holder, its member, or the network goes.
load ../lib/harness
load ../lib/cluster
load ../lib/netns
TTL=5 # a session outlives the pauses of a busy machine
setup_file() {
    export QUORUMFS_TIMEOUT=10s QUORUMFS_INSECURE=yes QFS_TIMEOUTS=wanted
    netns_file 3 && cluster_file 3 --session-ttl ${TTL}s
}
teardown_file() { netns_cluster_end; }
setup() {
    enter_cluster_test
    write_on 1 "$T" x
    everywhere "$T" x
}
teardown() {
    local id
    actors_end
    for id in $(members); do plug "$id"; done
    leave_cluster_test
}

# holder NAME N: an actor that has the test's file open through member N.
holder() { actor_start "$1" && "$1" open 3 "$QFS_ROOT/m$2/$T" +; }

# begins NAME N COMMAND...: asks for a lock through member N and is in the queue by now, since commands of one member take effect in order.
begins() {
    local name=$1 id=$2
    shift 2
    actor_begin "$name" "$@" && waits "${ACTOR_PID[$name]}" && write_on "$id" "$T.queued" "$name"
}

follower() { others "$(wait_leader)" | head -1; }
two_others() { others "$1" | head -2 | paste -sd' '; }

@test "a flock excludes on every member, shared and exclusive" {
    holder A 1
    holder B 2
    holder C 3
    A flock 3 x
    B fails EAGAIN flock 3 x
    C fails EAGAIN flock 3 s
    A flock 3 s
    B flock 3 s
    C flock 3 s
    C fails EAGAIN flock 3 x
    A flock 3 u
    B flock 3 u
    C flock 3 x
    A fails EAGAIN flock 3 s
    ! flock -n "$M2/$T" true || false
    C close 3
    wait_until 5 flock -n "$M2/$T" true
}

@test "ranges exclude on every member, and F_GETLK knows of them" {
    holder A 1
    holder B 2
    A lock 3 w 10 10
    B fails EAGAIN lock 3 r 19 1
    B lock 3 r 20 1
    B getlk 3 w 0 0
    same "in the way" "$(said)" "w 10 10 0"
    A getlk 3 w 0 0
    same "in the way" "$(said)" "r 20 1 0"
    A open 4 "$M1/$T" r
    A close 4
    B lock 3 w 0 0
}

@test "a lock is given in the order of arrival, across members" {
    holder A 1
    holder B 2
    holder C 3
    holder D 1
    A flock 3 x
    begins B 2 flockw 3 x
    begins C 3 flockw 3 x
    begins D 1 flockw 3 x
    A close 3
    actor_end B
    actor_waits C
    B flock 3 u
    actor_end C
    actor_waits D
    C flock 3 u
    actor_end D
}

@test "two on two members that wait for each other: the second is told EDEADLK" {
    holder A 1
    holder B 2
    A lock 3 w 0 1
    B lock 3 w 1 1
    begins A 1 lockw 3 w 1 1
    B fails EDEADLK lockw 3 w 0 1
    B close 3
    actor_end A
}

# hands_over CALL KIND: three times from A to B, who reads what A wrote.
hands_over() {
    local i
    holder A 1
    holder B 2
    B pread 3 0 10
    for i in 1 2 3; do
        A "$1" 3 "$2"
        A pwrite 3 0 "a$i"
        begins B 2 "$1w" 3 "$2"
        A "$1" 3 u
        actor_end B
        B pread 3 0 2
        same "round $i" "$(said)" "a$i"
        B "$1" 3 u
    done
    A exit
    B exit
}

@test "what the holder wrote is what the next one reads" {
    hands_over flock x
    hands_over lock w
}

@test "a holder that is killed makes way at once" {
    holder A 1
    holder B 2
    A flock 3 x
    begins B 2 flockw 3 x
    actor_signal A KILL
    actor_end B # its member lives: nothing else would ever end the lock
}

@test "a waiter that is killed, or gives up, is forgotten" {
    holder A 1
    holder B 2
    holder C 3
    A flock 3 x
    begins B 2 flockw 3 x
    ! timeout -s INT 0.5 flock "$M2/$T" true || false
    begins C 3 flockw 3 x
    actor_signal B KILL
    A close 3
    actor_end C
}

@test "when the holder's member dies, the lock goes after session-ttl" {
    local f start o
    f=$(follower)
    set -- $(two_others "$f")
    holder A "$f"
    holder B "$1"
    A flock 3 x
    begins B "$1" flockw 3 x
    start=$(date +%s%N)
    member_kill "$f"
    actor_end B
    (($(ms_since "$start") > TTL * 1000 / 2)) || fail "before its time: after $(ms_since "$start") ms" # it was heard a while before that, too
}

@test "locks outlive a change of the leader" {
    local l
    l=$(wait_leader)
    set -- $(two_others "$l")
    allow_log 'lock: a lock on .* is lost' # an election that takes longer than session-ttl, on a busy machine
    holder A "$1"
    holder B "$2"
    holder C "$2"
    A flock 3 x
    begins B "$2" flockw 3 x
    echo "$2" >"$M1/.quorum/leader" || echo "$2" >"$M2/.quorum/leader"
    wait_leader >/dev/null
    actor_waits B
    C fails EAGAIN flock 3 x
    A flock 3 u
    actor_end B
}

# away_and_near: f, a follower that is to be away, where A and C are; near, another member, where B is.
away_and_near() {
    f=$(follower)
    near=$(others "$f" | head -1)
    allow_log 'lock: a lock on .* is lost'
    holder A "$f"
    holder B "$near"
    holder C "$f"
}

# lost_lock NAME: all that a descriptor says whose lock is lost.
lost_lock() {
    "$1" fails ESTALE pread 3 0 10
    "$1" fails ESTALE pwrite 3 0 late
    "$1" fails ESTALE fsync 3
    "$1" fails ESTALE ftruncate 3 0
    "$1" fails ESTALE flock 3 x
    "$1" fails ESTALE lock 3 w
    "$1" poll 3
    same poll "$(said)" err
}

@test "a member that slept longer than session-ttl has lost its locks, and knows it when it wakes up" {
    local f near
    away_and_near
    A flock 3 x
    A pwrite 3 0 unfinished
    begins C "$f" flockw 3 x
    begins B "$near" flockw 3 x
    member_pause "$f"
    actor_end B # not C, who came earlier, but whose member was away
    B pwrite 3 0 fresh
    B fsync 3
    member_resume "$f"
    lost_lock A
    A fails ESTALE close 3
    actor_waits C # was queued anew
    same content "$(cat "$M2/$T")" fresh
    B close 3
    actor_end C
    C pread 3 0 5
    same content "$(said)" fresh
}

@test "a member that is cut off loses its locks; who waits there is queued anew, who asks there is told ETIMEDOUT" {
    local f near
    away_and_near
    holder D "$f"
    A lock 3 w
    begins C "$f" lockw 3 w
    begins B "$near" lockw 3 w
    unplug "$f"
    actor_end B
    wait_until 10 A fails ESTALE pread 3 0 10
    D fails ETIMEDOUT flock 3 x
    actor_waits C
    plug "$f"
    wait_until 20 D flock 3 x
    lost_lock A
    actor_waits C
    B lock 3 u
    actor_end C
}

@test "without a quorum who waits goes on waiting" {
    local l
    l=$(wait_leader)
    set -- $(two_others "$l")
    allow_log 'lock: a lock on .* is lost'
    holder A "$1"
    holder B "$1"
    A flock 3 x
    begins B "$1" flockw 3 x
    member_pause "$l"
    member_pause "$2"
    wait_until 10 eval '! flock -n "$QFS_ROOT/m'"$1/$T"'" true 2>/dev/null'
    wait_until 10 A fails ESTALE pread 3 0 1
    actor_waits B
    member_resume "$l"
    member_resume "$2"
    wait_leader >/dev/null
    actor_end B # A has lost it
}

@test "flock(1): a counter that three mounts count up loses nothing" {
    local id pids=() pid
    mkdir "$M1/$T.d"
    write_on 1 "$T.d/c" 0
    everywhere "$T.d/c" 0
    for id in $(members); do
        (cd "$QFS_ROOT/m$id/$T.d" && for _ in $(seq 15); do flock f sh -c 'n=$(cat c); echo $((n+1)) > c' || exit 1; done) 3>&- &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid"; done
    everywhere "$T.d/c" 45
}

@test "lockf from python: a counter in the locked file itself loses nothing" {
    write_on 1 "$T" 0
    everywhere "$T" 0
    within 60 python3 - "$T" "$M1" "$M2" "$M3" <<'E'
import fcntl, os, sys
pids = []
for mount in sys.argv[2:]:
    pid = os.fork()
    if pid == 0:
        fd = os.open(mount + "/" + sys.argv[1], os.O_RDWR)
        for _ in range(20):
            fcntl.lockf(fd, fcntl.LOCK_EX)
            n = int(os.pread(fd, 20, 0)) + 1
            os.pwrite(fd, b"%d" % n, 0)
            fcntl.lockf(fd, fcntl.LOCK_UN)
        os._exit(0)
    pids.append(pid)
for pid in pids:
    assert os.waitpid(pid, 0)[1] == 0
E
    everywhere "$T" 60
}

@test "lockf: who waits to make a write lock of its read lock, and gets a signal, holds it as before or has got it" {
    within 120 python3 "$BATS_TEST_DIRNAME/../lib/upgrades.py" 10 6 "$M1/$T" "$M2/$T" "$M3/$T"
}

@test "git: two members commit to one repository" {
    local id pids=() pid
    git -c init.defaultBranch=main init -q "$M1/$T.g"
    git -C "$M1/$T.g" config user.email a@example.org
    git -C "$M1/$T.g" config user.name a
    wait_until 10 git -C "$M2/$T.g" config user.name
    for id in 1 2; do
        # Its lock files are O_EXCL: who comes second fails, and tries again.
        (cd "$QFS_ROOT/m$id/$T.g" && for i in 1 2 3 4; do wait_until 30 git -c gc.auto=0 commit -q --allow-empty -m "$id $i" || exit 1; done) 3>&- &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid"; done
    same commits "$(git -C "$M2/$T.g" log --format=%s | sort | paste -sd,)" '1 1,1 2,1 3,1 4,2 1,2 2,2 3,2 4'
    git -C "$M1/$T.g" fsck --strict
}

@test "sqlite3: two members write one database in turn" {
    within 100 python3 - "$M1/$T.db" "$M2/$T.db" <<'E'
import os, sqlite3, sys
def connect(path):
    db = sqlite3.connect(path, timeout=60, isolation_level=None)
    db.execute("pragma journal_mode = delete")
    return db
db = connect(sys.argv[1])
db.execute("create table n(v)")
db.execute("insert into n values(0)")
db.close()
pids = []
for path in sys.argv[1:]:
    pid = os.fork()
    if pid == 0:
        db = connect(path)
        for i in range(10):
            db.execute("begin immediate")
            n = db.execute("select v from n").fetchone()[0]
            db.execute("update n set v = ?", (n + 1,))
            db.execute("commit")
        os._exit(0)
    pids.append(pid)
for pid in pids:
    assert os.waitpid(pid, 0)[1] == 0
for path in sys.argv[1:]:
    db = connect(path)
    assert db.execute("select v from n").fetchone()[0] == 20, path
    assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
E
}

# ---- With a session-ttl that nobody waits for: what was promised is not shortened later, so these come last ----------------------------

long_sessions() { echo 90s >"$M1/.quorum/config/session-ttl"; } # longer than any deadline here

@test "a member that comes back at once makes way for others at once" {
    local f
    long_sessions
    f=$(follower)
    set -- $(two_others "$f")
    holder A "$f"
    holder B "$1"
    A flock 3 x
    member_kill "$f"
    members_start "$f"
    wait_until 10 B flock 3 x
}

@test "a member that ends gives its locks back" {
    local f
    long_sessions
    f=$(follower)
    set -- $(two_others "$f")
    holder A "$f"
    holder B "$1"
    A flock 3 x
    begins B "$1" flockw 3 x
    kill -TERM "$(on "$f" daemon_pid)"
    on "$f" daemon_gone 0
    actor_end B
    allow_log 'lock: a lock on .* is lost'
}
