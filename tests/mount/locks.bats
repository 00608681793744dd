# locks/: a lock is a file. Who has it open for writing holds it, what the holder writes is its value.
load ../lib/harness
setup_file() {
    root_file || return 1
    [ "${QFS_FAILPOINTS:-1}" != 1 ] || export QUORUMFS_FAILPOINTS=${QUORUMFS_FAILPOINTS:+$QUORUMFS_FAILPOINTS,}fs.locks.few=while:$QFS_ROOT/few
    daemon_start
}
teardown_file() { unmount_file; }
setup() {
    enter_test
    Q=$MNT/.quorum L=$MNT/.quorum/locks N=l$BATS_TEST_NUMBER
    D=$L/$N
}
teardown() {
    [ ${#started[@]} = 0 ] || kill -9 "${started[@]}" 2>/dev/null || true
    exec 8>&- 9>&-
    leave_test
}

# ---- Helpers --------------------------------------------------------------------------------------------------------------------

started=()
nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
waiters() { fact "$D" waiters; }
has_waiters() { [ "$(waiters)" = "$1" ]; }
calls_wait() { [ "$(sed -n 's/^quorumfs_locks_waiting //p' "$Q/metrics")" = "$1" ]; }
is_held() { fact "$D" token; }
is_free() { ! is_held; }

# campaign NAME: a process that waits for the lock, says so in $S/NAME when it has it, and holds it until $S/NAME.end is there.
campaign() {
    bash -c "exec 7> $D || exit; cat $D > $S/$1.value; echo \$\$ > $S/$1; until [ -e $S/$1.end ]; do sleep 0.02; done" 9>&- 8>&- 3>&- &
    started+=($!)
}
has_it() { [ -e "$S/$1" ]; }

# ---- Names ----------------------------------------------------------------------------------------------------------------------

@test "every name is there, empty, and held by nobody; but for those that begin with a dot, or are longer than 200 bytes" {
    local name before=$(rev)
    for name in a 'with blank' "$(printf 'x%.0s' $(seq 200))" $'\xff\n'; do
        same "mode and owner of $name" "$(stat -c '%a %U %F' "$L/$name")" '666 root regular empty file'
        same "value of $name" "$(cat "$L/$name" | wc -c)" 0
    done
    for name in .a .. . "$(printf 'x%.0s' $(seq 201))"; do
        [ ! -f "$L/$name" ] || fail "$name is there"
    done
    same "open .a" "$(syscall open "$L/.a" 101)" EPERM
    same "mode of locks/" "$(stat -c '%a %U' "$L")" '1777 root'
    same listed "$(ls -A "$L")" ''
    same revision "$(rev)" "$before"
}

@test "names that were looked up once are forgotten; those in use, and known ones, are not refused" {
    needs_failpoints
    exec 9>"$D"
    echo mine >&9
    local i
    touch "$QFS_ROOT/few"
    for i in {1..500}; do
        wait_until 5 test -e "$L/some$i" || return 1
    done
    echo ours >&9
    same value "$(cat "$D")" ours
    same "held by one" "$(waiters)" 0
    campaign other
    wait_until 5 has_waiters 1
    rm "$QFS_ROOT/few"
    exec 9>&-
    wait_until 5 has_it other
}

@test "ls lists the locks that are held or waited for" {
    exec 9>"$L/held"
    N=waited D=$L/waited
    exec 8>"$L/waited"
    campaign A
    wait_until 10 has_waiters 1
    same listed "$(ls "$L" | paste -sd' ')" 'held waited'
    exec 9>&-
    exec 8>&-
    wait_until 10 has_it A
    same listed "$(ls "$L")" waited
    touch "$S/A.end"
    wait_until 10 is_free
    same listed "$(ls "$L")" ''
}

@test "nothing can be made, removed or renamed, and O_CREAT finds the name" {
    same unlink "$(syscall unlink "$D")" EPERM
    same rename "$(syscall rename "$D" "$L/other")" EPERM
    same mkdir "$(syscall mkdir "$D" 755)" EEXIST
    same "O_CREAT and O_EXCL" "$(syscall open "$D" 301)" EEXIST
    same chmod "$(syscall chmod "$D" 600)" EPERM
    same link "$(syscall link "$D" "$T/l")" EPERM
    fails_with 'Operation not permitted' setfattr -n user.x -v 1 "$D"
    truncate -s 0 "$D"
    rm -rf "$L" 2>/dev/null || true
    [ -d "$L" ] && [ -f "$D" ]
}

# ---- Holding --------------------------------------------------------------------------------------------------------------------

@test "who has it open for writing holds it, the others wait in open, in the order of their arrival" {
    local i
    exec 9>"$D"
    for i in 1 2 3 4; do
        campaign "$i"
        wait_until 10 has_waiters "$i"
    done
    for i in 1 2 3 4; do ! has_it "$i" || false; done
    exec 9>&-
    for i in 1 2 3 4; do
        wait_until 10 has_it "$i"
        same "who has it" "$(ls "$S" | grep -x '[1-4]' | paste -sd' ')" "$(seq "$i" | paste -sd' ')"
        touch "$S/$i.end"
    done
    wait_until 10 is_free
}

@test "many wait and cost no thread" {
    local threads
    exec 9>"$D"
    threads=$(ls "/proc/$(daemon_pid)/task" | wc -l)
    within 60 python3 - "$D" "$S" <<'P' 9>&- &
import os, sys
for i in range(200):
    if os.fork() == 0:
        os.open(sys.argv[1], os.O_WRONLY)
        open(f"{sys.argv[2]}/{i}", "w").close()
        os._exit(0)
for i in range(200):
    os.wait()
P
    local all=$!
    wait_until 30 has_waiters 200
    same threads "$(ls "/proc/$(daemon_pid)/task" | wc -l)" "$threads"
    calls_wait 200
    exec 9>&-
    wait $all
    same "came to hold it" "$(ls "$S" | wc -l)" 200
    wait_until 10 is_free
}

@test "a waiter that gets a signal, or dies, gives up its place" {
    exec 9>"$D"
    fails_with 'timed out' python3 - "$D" <<'P' 9>&-
import os, signal, sys
def late(*_): raise TimeoutError("timed out")
signal.signal(signal.SIGALRM, late)
signal.setitimer(signal.ITIMER_REAL, 0.2)
os.open(sys.argv[1], os.O_WRONLY)
P
    has_waiters 0
    same "status after Ctrl-C" "$(timeout --preserve-status -s INT 0.2 bash -c "exec 8>$D" 9>&-; echo $?)" 130
    wait_until 10 has_waiters 0
    campaign A
    wait_until 10 has_waiters 1
    campaign B
    wait_until 10 has_waiters 2
    kill -9 "${started[0]}"
    wait_until 10 has_waiters 1
    exec 9>&-
    wait_until 10 has_it B
    ! has_it A || false
    touch "$S/B.end"
}

@test "with O_NONBLOCK it is held or EAGAIN" {
    actor_start A
    actor_start B
    A open 3 "$D" wn
    B fails EAGAIN open 3 "$D" wn
    A close 3
    wait_until 10 B open 3 "$D" wn
}

@test "reading never waits" {
    exec 9>"$D"
    echo value >&9
    same "what others read" "$(within 5 cat "$D" 9>&-)" value
}

@test "the holding process opens it again at once; the lock ends with its last descriptor" {
    actor_start A
    actor_start B
    A open 3 "$D" w
    A open 4 "$D" wct
    A thread open 5 "$D" +
    A close 3
    A thread close 5
    B fails EAGAIN open 3 "$D" wn
    A write 4 mine
    holds "$D" mine
    A close 4
    wait_until 10 B open 3 "$D" wn
    B close 3
    x "exec 9> $D; echo one > $D; echo two >> $D; [ \$(cat $D) = two ]" || fail "a shell that holds it cannot write to it"
}

@test "threads of one process that wait for it get it together" {
    exec 9>"$D"
    within 30 python3 - "$D" 9>&- <<'P' &
import os, sys, threading
fds = []
all = [threading.Thread(target=lambda: fds.append(os.open(sys.argv[1], os.O_WRONLY))) for _ in range(4)]
for t in all: t.start()
for t in all: t.join()
assert len(fds) == 4
P
    local p=$!
    wait_until 10 calls_wait 4
    has_waiters 1
    exec 9>&-
    wait $p
}

@test "a child that inherits the descriptor keeps the lock, and is another process" {
    actor_start A
    actor_start B
    A open 3 "$D" w
    actor_fork A C
    A close 3
    B fails EAGAIN open 3 "$D" wn
    C fails EAGAIN open 4 "$D" wn
    C write 3 child
    holds "$D" child
    actor_signal C KILL
    wait_until 10 B open 3 "$D" wn
}

@test "when the holder is killed, the next one's open returns" {
    campaign A
    wait_until 10 has_it A
    campaign B
    wait_until 10 has_waiters 1
    kill -9 "${started[0]}"
    wait_until 10 has_it B
    touch "$S/B.end"
}

@test "other users hold locks, too" {
    local pid
    nobody bash -c "exec 9>> $D; echo mine >&9; echo \$\$ > $S/pid; exec sleep 60" 3>&- &
    started+=($!)
    wait_until 10 test -s "$S/pid"
    [[ $(fact "$D" holder) == 'member=1 uid=65534 pid='*' command=bash' ]]
    holds "$D" 'mine\n'
}

# ---- The value ------------------------------------------------------------------------------------------------------------------

@test "what the holder writes replaces the value and is readable at once" {
    actor_start A
    A open 3 "$D" w
    A write 3 $'host1:5432\n'
    holds "$D" 'host1:5432\n'
    same size "$(stat -c %s "$D")" 11
    A write 3 x
    holds "$D" x
    A pwrite 3 1000 $'\x01\xff'
    holds "$D" '\001\377'
    A fill 3 v 4096
    same size "$(wc -c <"$D")" 4096
    A fails EFBIG fill 3 v 4097
    same size "$(wc -c <"$D")" 4096
    A ftruncate 3 0
    same size "$(wc -c <"$D")" 4096
    A open 4 "$D" wct
    same "size after O_TRUNC" "$(wc -c <"$D")" 4096
    A fsync 3
}

@test "the value goes with its holder" {
    exec 9>"$D"
    echo mine >&9
    campaign A
    wait_until 10 has_waiters 1
    exec 9>&-
    wait_until 10 has_it A
    same "the next one reads" "$(cat "$S/A.value")" ''
    touch "$S/A.end"
    wait_until 10 is_free
    same "with nobody" "$(wc -c <"$D")" 0
}

@test "an open file shows the value of when it was opened; that of the holder what it is" {
    actor_start A
    actor_start B
    A open 3 "$D" +
    A write 3 one
    B open 3 "$D" r
    A pread 3 0 100
    same holder "$(said)" one
    A write 3 two
    A pread 3 0 100
    same holder "$(said)" two
    B pread 3 0 100
    same reader "$(said)" one
    B open 4 "$D" r
    B pread 4 0 100
    same "a new one" "$(said)" two
    B fails EBADF write 4 x
}

# ---- flock ----------------------------------------------------------------------------------------------------------------------

@test "an exclusive flock is the same lock, in whichever mode the file is open" {
    actor_start A
    actor_start B
    A open 3 "$D" r
    A flock 3 x
    B fails EAGAIN open 3 "$D" wn
    B open 3 "$D" r
    B fails EAGAIN flock 3 x
    B fails EAGAIN flock 3 s
    A flock 3 u
    B flock 3 x
    A fails EAGAIN open 4 "$D" wn
    B close 3
    wait_until 10 A open 4 "$D" wn
    B open 3 "$D" r
    B fails EAGAIN flock 3 x
}

@test "a shared flock excludes exclusive ones" {
    actor_start A
    actor_start B
    A open 3 "$D" r
    B open 3 "$D" r
    A flock 3 s
    B flock 3 s
    A fails EAGAIN flock 3 x
    B flock 3 u
    A flock 3 x
    B fails EAGAIN flock 3 s
    A flock 3 s
    B flock 3 s
    B fails EAGAIN open 4 "$D" wn
}

@test "the holding process takes a flock at once, and holds the lock until all is given up" {
    actor_start A
    actor_start B
    A open 3 "$D" w
    A flock 3 x
    A flock 3 u
    B fails EAGAIN open 3 "$D" wn
    A open 4 "$D" r
    A flock 4 x
    A close 3
    B fails EAGAIN open 3 "$D" wn
    A open 5 "$D" w
    A flock 4 u
    B fails EAGAIN open 3 "$D" wn
    A close 5
    wait_until 10 B open 3 "$D" wn
}

@test "flock(1) runs a command under it, waits, and gives up when told to" {
    actor_start A
    A open 3 "$D" w
    ! flock -n "$D" true || false
    ! flock -w 0.1 "$D" true || false
    flock "$D" touch "$S/ran" 3>&- 9>&- &
    local waiter=$!
    wait_until 10 has_waiters 1
    timeout -s INT 0.2 flock "$D" true && fail "it got the lock"
    absent "$S/ran"
    A close 3
    wait $waiter
    [ -e "$S/ran" ]
    wait_until 10 is_free
}

@test "a descriptor can be locked by a child, as shells do it" {
    x "exec 9< $D; flock 9; ! flock -n $D true && echo held > $D; cat $D" | grep -qx held
    wait_until 10 is_free
}

@test "there are no bytes to lock" {
    fails_with 'Invalid argument' python3 -c 'import fcntl, sys; fcntl.lockf(open(sys.argv[1], "w"), fcntl.LOCK_EX)' "$D"
}

# ---- Who ------------------------------------------------------------------------------------------------------------------------

@test "xattrs tell the holder, its token, and how many wait" {
    actor_start A
    fails_with 'No such attribute' fact "$D" holder
    fails_with 'No such attribute' fact "$D" token
    same waiters "$(fact "$D" waiters)" 0
    same "user.quorum" "$(getfattr --absolute-names --only-values -n user.quorum "$D")" 'waiters: 0'
    A open 3 "$D" w
    same holder "$(fact "$D" holder)" "member=1 uid=$QFS_TEST_UID pid=${ACTOR_PID[A]} command=actor"
    same token "$(fact "$D" token)" "$(rev)"
    campaign B
    wait_until 10 has_waiters 1
    same "user.quorum" "$(getfattr --absolute-names --only-values -n user.quorum "$D")" \
        "$(printf 'holder: %s\ntoken: %s\nwaiters: 1' "$(fact "$D" holder)" "$(fact "$D" token)")"
    fails_with 'No such attribute' fact "$D" nothing
    same listed "$(getfattr --absolute-names -d -m - "$D")" ''
}

@test "a token only grows" {
    local i t last=0
    for i in 1 2 3; do
        exec 9>"$D"
        t=$(fact "$D" token)
        ((t > last)) || fail "token $t follows $last"
        last=$t
        exec 9>&-
        wait_until 10 is_free
    done
}

@test "status and metrics count the locks that are held" {
    local before=$(setting_of "$Q/status" locks)
    exec 9>"$D"
    same status "$(setting_of "$Q/status" locks)" $((before + 1))
    same metrics "$(sed -n 's/^quorumfs_locks //p' "$Q/metrics")" $((before + 1))
    exec 9>&-
    wait_until 10 is_free
    same status "$(setting_of "$Q/status" locks)" "$before"
}

# ---- Transactions ---------------------------------------------------------------------------------------------------------------

# store FILE TOKEN: what a leader does that was given a token: put a file under the condition that it still leads.
store() {
    local txn=$Q/txn/$BASHPID
    mkdir "$txn" && echo "$2" >"$txn/tree/$1" && echo "lock $N = $2" >>"$txn/require" || return 1
    if echo >"$txn/commit"; then SAID=; else SAID=$(cat "$txn/status"); fi 2>/dev/null
    rmdir "$txn"
    [ -z "$SAID" ]
}

@test "a transaction can require that the lock is held with a token" {
    local token file=${T##*/}/f
    exec 9>"$D"
    token=$(fact "$D" token)
    store "$file" "$token"
    holds f "$token\n"
    exec 9>&-
    wait_until 10 is_free
    ! store "$file" "$token" || false
    same status "$SAID" "conflict lock $N = $token"
    exec 9>"$D"
    ! store "$file" "$token" || false
    store "$file" "$(fact "$D" token)"
}

@test "requirements of locks are checked" {
    local line
    mkdir "$Q/txn/r"
    allow_log 'a write was refused'
    for line in "lock $N" "lock $N =" "lock $N = x" "lock $N != 3" "lock $N < 3" 'lock .x = 3' 'lock a/b = 3' 'lock = 3' "lock $N = 3 4"; do
        fails_with 'Invalid argument' x "echo '$line' >> $Q/txn/r/require"
    done
    x "echo 'lock \"with blank\" = 3' >> $Q/txn/r/require"
    fails_with 'Operation canceled' x "echo > $Q/txn/r/commit"
    same status "$(cat "$Q/txn/r/status")" 'conflict lock "with blank" = 3'
    rmdir "$Q/txn/r"
}

# ---- inotify --------------------------------------------------------------------------------------------------------------------

# watched N FILE: how many closes after writing were told.
watched() { (($(grep -c CLOSE_WRITE "$2") >= $1)); }
watch() { # watch OUT PATH
    inotifywait -m -e modify,close_write "$2" >"$1" 2>"$1.err" 3>&- 9>&- &
    started+=($!)
    wait_until 10 grep -q 'Watches established' "$1.err"
}

@test "watchers of the file and of the directory hear of grants, values and releases" {
    needs_quorumfs
    watch "$S/file" "$D"
    watch "$S/dir" "$L"
    actor_start A
    A open 3 "$D" w
    wait_until 10 watched 1 "$S/file"
    wait_until 10 watched 1 "$S/dir"
    A write 3 one
    wait_until 10 watched 2 "$S/file"
    wait_until 10 watched 2 "$S/dir"
    campaign B
    wait_until 10 has_waiters 1
    A close 3
    wait_until 10 has_it B
    wait_until 10 watched 4 "$S/file" # the kernel's own of the close, and the one of the new holder
    touch "$S/B.end"
    wait_until 10 watched 6 "$S/file"
    grep -q "$N" "$S/dir"
}

@test "a watcher of a lock sees the last of many values" {
    exec 9>"$D"
    { inotifywait -q -m -e close_write "$D" | while read -r; do cat "$D"; done >"$S/seen"; } 3>&- 9>&- &
    started+=($!)
    wait_until 10 pgrep -f "inotifywait.*$D"
    local i
    until [ -s "$S/seen" ]; do echo begun >&9; done
    for i in $(seq 200); do echo "$i" >&9; done
    wait_until 10 grep -qx 200 "$S/seen"
    pkill -P "${started[-1]}"
}

@test "a watcher who only looks takes no lock" {
    watch "$S/file" "$D"
    exec 9>"$D"
    wait_until 10 watched 1 "$S/file"
    same token "$(fact "$D" token)" "$(rev)"
    exec 9>&-
    wait_until 10 watched 3 "$S/file"
    is_free
}

# ---- The member -----------------------------------------------------------------------------------------------------------------

@test "a lock ends with its member; who waits there is told" {
    campaign A
    wait_until 10 has_it A
    bash -c "exec 8> $D" 2>"$S/waiter" 3>&- &
    local waiter=$!
    wait_until 10 has_waiters 1
    cd /
    kill "$(daemon_pid)"
    ! wait $waiter || false
    daemon_gone 0
    daemon_start
    cd "$T"
    exec 9>"$D"
    same holder "$(fact "$D" holder)" "member=1 uid=0 pid=$$ command=bash"
}

@test "after kill -9 of the member its locks are free when it is back" {
    bash -c "exec 8> $D; echo > $S/has; exec sleep 60" 3>&- &
    started+=($!)
    wait_until 10 test -e "$S/has"
    daemon_kill
    daemon_start
    cd "$T"
    exec 9>"$D"
    echo here >&9
    holds "$D" 'here\n'
}
