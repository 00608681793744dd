# Locks and elections on three members: who leads, what becomes of it when the leader's process or member dies, and fencing.
load ../lib/harness
load ../lib/cluster
setup_file() { cluster_file 3 --session-ttl 5s; }
teardown_file() { cluster_file_end; }
setup() {
    enter_cluster_test
    S=$QFS_ROOT/s$BATS_TEST_NUMBER
    mkdir "$S"
    N=db$BATS_TEST_NUMBER
}
teardown() {
    [ ${#started[@]} = 0 ] || kill -9 "${started[@]}" 2>/dev/null || true
    leave_cluster_test
}

# ---- Helpers --------------------------------------------------------------------------------------------------------------------

started=()
lock_on() { echo "$QFS_ROOT/m$1/.quorum/locks/$N"; }
fact_on() { timeout 10 getfattr --absolute-names --only-values -n "user.quorum.$2" "$(lock_on "$1")" 2>/dev/null; }
value_is() { [ "$(timeout 10 cat "$(lock_on "$1")")" = "$2" ]; }
has_waiters() { [ "$(fact_on "$1" waiters)" = "$2" ]; }
leads() { [ -e "$S/$1" ]; }
is_free() { ! fact_on "$1" token; }

# candidate NAME MEMBER: campaigns there; proclaims its name and says so in $S/NAME, with its token; holds on until $S/NAME.end is there.
candidate() {
    bash -c "exec 8> $(lock_on "$2") || exit; echo $1 >&8
        getfattr --absolute-names --only-values -n user.quorum.token $(lock_on "$2") > $S/$1.new && mv $S/$1.new $S/$1
        until [ -e $S/$1.end ]; do sleep 0.02; done" 3>&- 2>"$S/$1.err" &
    started+=($!)
}

# queue A B C: candidates on members 1, 2, 3 who arrive in that order.
queue() {
    local i
    candidate "$1" 1
    wait_until 10 leads "$1"
    candidate "$2" 2
    wait_until 10 has_waiters 3 1
    candidate "$3" 3
    wait_until 10 has_waiters 1 2
}

# ---- Elections ------------------------------------------------------------------------------------------------------------------

@test "one leads, all read who, and it is handed over in the order of arrival" {
    local i
    queue A B C
    for i in $(members); do value_is "$i" A || fail "member $i reads $(cat "$(lock_on "$i")")"; done
    [[ $(fact_on 3 holder) == 'member=1 uid=0 pid='*' command=bash' ]]
    touch "$S/A.end"
    wait_until 10 leads B
    for i in $(members); do value_is "$i" B; done
    ! leads C || false
    touch "$S/B.end"
    wait_until 10 leads C
    for i in $(members); do value_is "$i" C; done
    (($(cat "$S/A") < $(cat "$S/B") && $(cat "$S/B") < $(cat "$S/C")))
    touch "$S/C.end"
    for i in $(members); do wait_until 10 is_free "$i"; done
}

@test "when the leader's process is killed, the next one leads" {
    queue A B C
    kill -9 "${started[0]}"
    wait_until 10 leads B
    value_is 1 B
    touch "$S/B.end" "$S/C.end"
}

@test "a waiter that gives up is passed over" {
    queue A B C
    kill "${started[1]}"
    wait_until 10 has_waiters 3 1
    touch "$S/A.end"
    wait_until 10 leads C
    ! leads B || false
    touch "$S/C.end"
}

@test "when the leader's member is killed, the next one leads after session-ttl, and not before" {
    local begun
    queue A B C
    begun=$(date +%s%N)
    member_kill 1
    wait_until 30 leads B
    (($(date +%s%N) - begun > 2500000000)) || fail "it was given away after $(($(date +%s%N) - begun)) ns"
    value_is 2 B
    value_is 3 B
    members_start 1
    wait_leader
    value_is 1 B
    touch "$S/B.end" "$S/C.end"
}

# ---- What others see ------------------------------------------------------------------------------------------------------------

seen() { (($(grep -c CLOSE_WRITE "$1") >= $2)); }

@test "inotify on every member tells of grants, values, and releases" {
    local i
    for i in $(members); do
        inotifywait -m -e modify,close_write "$(lock_on "$i")" >"$S/seen$i" 2>"$S/err$i" 3>&- &
        started+=($!)
        wait_until 10 grep -q 'Watches established' "$S/err$i"
    done
    candidate A 2
    wait_until 10 leads A
    for i in $(members); do wait_until 10 seen "$S/seen$i" 1; done
    for i in $(members); do
        inotifywait -t 100 -e close_write --format "%e" "$(lock_on "$i")" >"$S/next$i" 2>"$S/err$i" 3>&- &
        started+=($!)
        wait_until 10 grep -q 'Watches established' "$S/err$i"
    done
    # whoever acts on an event reads what it was about
    touch "$S/A.end"
    for i in $(members); do wait_until 20 test -s "$S/next$i"; done
    for i in $(members); do wait_until 10 is_free "$i"; done
}

@test "an observer that reads at each event has the last leader in the end" {
    local i
    { inotifywait -m -e close_write "$(lock_on 3)" 2>"$S/err" | while read -r; do cat "$(lock_on 3)"; done >"$S/seen"; } 3>&- &
    started+=($!)
    wait_until 10 grep -q 'Watches established' "$S/err"
    for i in 1 2 3 4 5 6; do
        candidate "$i" $((i % 3 + 1))
        wait_until 10 leads "$i"
        touch "$S/$i.end"
    done
    candidate last 1
    wait_until 10 leads last
    wait_until 10 eval "[ \"\$(tail -1 $S/seen)\" = last ]"
    pkill -P "${started[0]}"
    touch "$S/last.end"
}

# ---- Fencing --------------------------------------------------------------------------------------------------------------------

# put_as MEMBER TOKEN TEXT: what a leader does that has the token.
put_as() {
    local txn=$QFS_ROOT/m$1/.quorum/txn/$BASHPID rc=0
    mkdir "$txn" && echo "$3" >"$txn/tree/$T" && echo "lock $N = $2" >"$txn/require" || return 1
    echo >"$txn/commit" || rc=1
    cat "$txn/status" >"$S/status"
    rmdir "$txn"
    return $rc
}

@test "after a hand-over what the old leader writes under its token is refused" {
    queue A B C
    put_as 1 "$(cat "$S/A")" one
    file_is 3 "$T" one
    touch "$S/A.end"
    wait_until 10 leads B
    ! put_as 1 "$(cat "$S/A")" late 2>/dev/null || false
    same status "$(cat "$S/status")" "conflict lock $N = $(cat "$S/A")"
    put_as 2 "$(cat "$S/B")" two
    file_is 1 "$T" two
    touch "$S/B.end" "$S/C.end"
}

# holder: opens the lock of member 1, and tells, at each line that it gets, what a write, a read, a flock, an fsync, and poll say.
holder() {
    exec python3 -u - "$(lock_on 1)" <<'P'
import fcntl, errno, os, select, sys
fd = os.open(sys.argv[1], os.O_RDWR)
def said(f):
    try: f()
    except OSError as e: return errno.errorcode[e.errno]
    return "ok"
print("has", flush=True)
poll = select.poll()
poll.register(fd, 0)
events = poll.poll(60000) # until it is lost
print("err" if events and events[0][1] & select.POLLERR else "none", said(lambda: os.write(fd, b"late")), said(lambda: os.pread(fd, 10, 0)),
      said(lambda: fcntl.flock(fd, fcntl.LOCK_EX)), said(lambda: os.fsync(fd)), said(lambda: os.close(fd)), flush=True)
P
}

@test "a member that was away for longer than session-ttl has lost its locks, and every use of them says so" {
    holder >"$S/holder" 3>&- &
    started+=($!)
    wait_until 10 grep -q has "$S/holder"
    candidate B 2
    wait_until 10 has_waiters 3 1
    member_pause 1
    wait_until 30 leads B
    value_is 3 B
    member_resume 1
    wait_until 30 grep -q ESTALE "$S/holder"
    same "what the old leader met" "$(tail -1 "$S/holder")" 'err ESTALE ESTALE ESTALE ESTALE ok'
    value_is 3 B
    wait_until 20 value_is 1 B
    candidate A 1
    wait_until 20 has_waiters 2 1
    touch "$S/B.end"
    wait_until 20 leads A
    touch "$S/A.end"
}

@test "without a quorum nobody can enter the queue, and who waits goes on waiting" {
    candidate A 1
    wait_until 10 leads A
    candidate B 1
    wait_until 10 has_waiters 1 1
    member_kill 2
    member_kill 3
    fails_with 'Connection timed out' timeout 30 bash -c "exec 8> $(lock_on 1)"
    fails_with 'Connection timed out' timeout 30 cat "$(lock_on 1)"
    ! leads B || false
    members_start 2 3
    wait_leader
    touch "$S/A.end"
    wait_until 30 leads B
    touch "$S/B.end"
}

@test "flock of a lock is the same on all members" {
    timeout 20 flock "$(lock_on 1)" bash -c "echo > $S/A; until [ -e $S/A.end ]; do sleep 0.02; done" 3>&- &
    started+=($!)
    wait_until 10 leads A
    ! flock -n "$(lock_on 2)" true || false
    ! flock -s -n "$(lock_on 3)" true || false
    candidate B 3
    wait_until 10 has_waiters 1 1
    touch "$S/A.end"
    wait_until 10 leads B
    touch "$S/B.end"
}

# ---- Orderly ends ---------------------------------------------------------------------------------------------------------------

@test "when a member is stopped, what it held goes at once, and who waits there is told" {
    echo 60s >"$M1/.quorum/config/session-ttl" # the last test of the file: what was promised is not shortened later
    candidate A 1
    wait_until 10 leads A
    candidate B 2
    wait_until 10 has_waiters 3 1
    candidate C 3
    wait_until 10 has_waiters 3 2
    kill "$(on 2 daemon_pid)"
    wait "${started[1]}" && fail "a waiter of a stopped member succeeded"
    on 2 daemon_gone 0
    members_start 2
    wait_leader
    wait_until 10 has_waiters 3 1
    kill "$(on 1 daemon_pid)"
    on 1 daemon_gone 0
    wait_until 20 leads C
    ! leads B || false
    touch "$S/C.end"
}
