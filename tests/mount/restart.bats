# Killed at any moment, mounted again: everything that was committed is there, and nobody hangs.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() {
    needs_quorumfs
    enter_test
}
teardown() {
    [ "$QFS_TEST_ON" != tmpfs ] || return 0
    rm -f "$S/hold"
    leave_test
}

again() { # kill -9 and mount again, back into the test's directory
    daemon_kill
    daemon_start "$@"
    cd "$T"
}

listing() { find . -mindepth 1 -printf '%p %y %m %U:%G %s %T@ %i %l\n' | sort; find . -type f -exec md5sum {} + | sort; getfattr -R -d . 2>/dev/null; }

# A daemon that acts on a failpoint of its own: daemon_with FAILPOINTS [OPTION...].
daemon_with() {
    QUORUMFS_FAILPOINTS=$1 daemon_start "${@:2}"
    cd "$T"
}

# held_daemon OPTION...: one whose store commits nothing as long as there is $S/hold.
held_daemon() { daemon_with "store.commit=hold:$S/hold" "$@"; }
command_waits() { [ "$(sed -n 's/^quorumfs_commands_waiting //p' "$MNT/.quorum/metrics")" -gt 0 ]; }
LONG=$((60 * QFS_TIME_SCALE))s # a timeout that is none

held_new() { # held_new TEXT: a daemon that commits nothing for now, and actor A, who has made `new` and written that
    daemon_stop
    held_daemon --timeout "$LONG"
    touch "$S/hold"
    actor_start A
    A open 3 new wc
    A write 3 "$1"
}

@test "everything is there after kill -9" {
    mkdir -p d/e; echo v >d/f; ln -s f d/l; chmod 2750 d; chown 7:8 d/f; touch -h -d @1000000000.123 d/l
    setfattr -n user.a -v 1 d/f
    head -c 100000 /dev/urandom >d/e/big
    mv d/e/big "$(printf 'odd\nname')"
    echo old >g; echo new >g; rm g
    local before=$(listing) revision=$(rev) facts=$(getfattr --only-values -n user.quorum d/f)
    again
    same listing "$(listing)" "$before"
    same facts "$(getfattr --only-values -n user.quorum d/f)" "$facts"
    same revision "$(rev)" "$revision"
    expect_revisions 1 'echo more > d/new'
}

@test "what was not committed is not there after kill -9" {
    echo old >f
    actor_start A
    A open 3 f wt
    A write 3 uncommitted
    A open 4 new wct
    A write 4 uncommitted
    again
    holds f 'old\n'
    absent new
    A fails ENOTCONN close 3 || true
}

@test "an acknowledged write survives the kill that follows it at once" {
    local i
    for i in 1 2 3 4 5; do
        echo $i >f
        kill -9 "$(daemon_pid)"
        cd "$QFS_ROOT"
        daemon_gone 137
        umount -l "$MNT"
        daemon_start
        cd "$T"
        holds f "$i\n"
    done
    daemon_kill
    "$QUORUMFS" check "$DIR"
    daemon_start
}

@test "open files of a dead daemon fail, and do not hang" {
    echo v >f
    actor_start A
    A open 3 f +
    kill -9 "$(daemon_pid)"
    daemon_gone 137
    A fails ENOTCONN pread 3 0 10
    A fails ENOTCONN pwrite 3 0 x
    A close 3 || same "close" "$(said)" ENOTCONN
    fails_with 'not connected' within 5 ls "$MNT"
    cd "$QFS_ROOT"
    umount -l "$MNT"
    daemon_start
    holds "$T/f" 'v\n'
}

@test "a writer that is killed while its commit waits is gone at once" {
    needs_failpoints
    put f 'old\n'
    daemon_stop
    held_daemon --timeout "$LONG"
    touch "$S/hold"
    dd if=/dev/zero of=f bs=10 count=1 conv=fsync 2>/dev/null 3>&- &
    local writer=$! start
    wait_until 5 command_waits
    start=$(date +%s%N)
    kill -9 $writer
    wait $writer 2>/dev/null || true
    (($(ms_since "$start") <= 30000 * QFS_TIME_SCALE)) || fail "it hung for $(ms_since "$start") ms"
    daemon_kill
    daemon_start
}

@test "a writer that is killed while it opens its file publishes nothing" {
    needs_failpoints
    local signal file
    put f 'old\n'
    daemon_stop
    daemon_with fs.open=stall:150
    for signal in KILL TERM INT; do
        for file in f new; do
            actor_start A
            actor_begin A open 3 $file wct
            waits ${ACTOR_PID[A]}
            actor_signal A $signal
        done
    done
    daemon_stop
    daemon_start
    cd "$T"
    holds f 'old\n'
    absent new
}

@test "a mount that is aborted while a file is created ends, and so does its daemon" {
    needs_failpoints
    local maker
    daemon_stop
    daemon_with fs.open=stall:500
    touch new 2>/dev/null 3>&- &
    maker=$!
    waits $maker
    abort_connection "$MNT"
    wait $maker || true
    cd "$QFS_ROOT"
    daemon_gone 0
    umount -l "$MNT"
    daemon_start
    cd "$T"
    absent new
}

@test "a mount that is aborted while others wait for a new file ends, and so does its daemon" {
    needs_failpoints
    daemon_stop
    held_daemon --timeout "$LONG"
    touch "$S/hold"
    actor_start A
    actor_start B
    A open 3 moved wc
    B open 3 moved w
    A write 3 v
    mv moved there 2>/dev/null 3>&- &
    local mover=$!
    waits $mover
    actor_begin B flock 3 x
    waits "${ACTOR_PID[B]}"
    abort_connection "$MNT"
    wait $mover || true
    cd "$QFS_ROOT"
    rm "$S/hold"
    daemon_gone 0
    actors_end
    umount -l "$MNT"
    daemon_start
    cd "$T"
    same "what is left" "$(cat moved there 2>/dev/null || true)" v # it was on its way
}

@test "a slow disk delays writers and nobody else" {
    needs_failpoints
    put f 'v\n'
    daemon_stop
    held_daemon --timeout "$LONG"
    touch "$S/hold"
    x 'echo slow > slow' &
    local writer=$!
    wait_until 5 command_waits
    holds f 'v\n'
    ls >/dev/null
    cat "$MNT/.quorum/health" "$MNT/.quorum/local/${T##*/}/f" >/dev/null
    command_waits && kill -0 $writer || fail "the commit did not wait: the failpoint has gone, or readers waited for it"
    rm "$S/hold"
    wait $writer
    holds slow 'slow\n'
    daemon_stop
    daemon_start
}

@test "a new file is whole for everybody before its close has returned" {
    needs_failpoints
    daemon_stop
    daemon_with "store.committed=hold:$S/hold" --timeout "$LONG"
    touch "$S/hold"
    actor_start A
    actor_start B
    A open 3 new wc
    A write 3 value
    actor_begin A close 3
    wait_until 10 eval 'setsid -w test -e new'
    same size "$(setsid -w stat -c %s new)" 5
    others_see new value
    [ "$(setsid -w cp new /dev/stdout)" = value ]
    holds new value
    same size "$(stat -c %s new)" 5
    B open 4 new r
    B read 4 9
    same read "$(said)" value
    B mmap 4 0 p 5
    B mread 0 0 5
    same mapped "$(said)" value
    actor_waits A
    rm "$S/hold"
    actor_end A
    holds new value
    actors_end
    daemon_stop
    daemon_start
}

@test "who made a new file reads what it has written while that is being committed" {
    needs_failpoints
    held_new value
    actor_start B
    B open 4 new r
    B read 4 3
    same before "$(said)" val
    actor_begin A fsync 3
    wait_until 10 command_waits
    same size "$(stat -c %s new)" 5
    holds new value
    B read 4 9
    same rest "$(said)" ue
    others_miss new
    actor_waits A
    rm "$S/hold"
    actor_end A
    A write 3 s
    holds new values
    others_see new value
    A close 3
    others_see new values
    B read 4 9
    same more "$(said)" s
    actors_end
    daemon_stop
    daemon_start
}

@test "a new file can be attached to a lease while it is being committed" {
    needs_failpoints
    mkdir "$MNT/.quorum/leases/web"
    held_new value
    actor_begin A close 3
    wait_until 10 command_waits
    setfattr -n user.quorum.lease -v web new &
    local setter=$!
    waits $setter
    rm "$S/hold"
    wait $setter
    actor_end A
    same lease "$(fact new lease)" web
    actors_end
    daemon_stop
    daemon_start
    rmdir "$MNT/.quorum/leases/web"
}

@test "a write that fails beside the first commit takes nothing of what was written with it" {
    needs_failpoints
    held_new abc
    actor_start B
    B open 3 new w
    actor_begin B flock 3 x
    wait_until 10 command_waits
    A write 3 def
    A fails EFBIG pwrite 3 $((1 << 40)) x
    rm "$S/hold"
    actor_end B
    A close 3
    actors_end
    holds new abcdef
    daemon_stop
    daemon_start
}

@test "fsync waits for what another process's close is committing, and says what becomes of it" {
    needs_failpoints
    daemon_stop
    local timeout wanted
    for timeout in "$LONG" 1s; do
        held_daemon --timeout "$timeout"
        touch "$S/hold"
        [ $timeout = 1s ] || { (wait_until 5 command_waits; sleep 0.5; rm "$S/hold") 3>&- & }
        python3 -c '
import errno, os, time
def attempt(call, fd):
    try:
        call(fd)
        return 0
    except OSError as e:
        return e.errno
fd = os.open("f", os.O_WRONLY | os.O_CREAT)
os.write(fd, b"x")
r, w = os.pipe()
child = os.fork()
if child == 0:
    os.close(w)
    os.read(r, 1) # the opener is about to close
    time.sleep(0.2)
    os._exit(attempt(os.fsync, fd))
os.close(w)
closed = attempt(os.close, fd)
for e in closed, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
    print(errno.errorcode.get(e, "ok"))' >"$S/said"
        [ $timeout != 1s ] && wanted='ok ok' || wanted='ETIMEDOUT ETIMEDOUT'
        same "close and fsync" "$(paste -sd' ' "$S/said")" "$wanted"
        [ $timeout != 1s ] || expect_log 'commit.*timed out'
        rm -f "$S/hold"
        daemon_kill
    done
    daemon_start
}

@test "a write that is not answered in time fails with ETIMEDOUT, and the mount works on" {
    needs_failpoints
    daemon_stop
    held_daemon --timeout 1s
    touch "$S/hold"
    fails_with 'timed out' dd if=/dev/zero of=f bs=10 count=1 conv=fsync
    expect_log 'commit.*timed out'
    rm "$S/hold"
    wait_until 10 timeout 5 cat "$MNT/.quorum/status"
    daemon_kill
    daemon_start
    cd "$T"
    put after 'v\n'
    [ ! -e f ] || same size "$(stat -c %s f)" 10
}

@test "a new file whose commit was not answered in time is a file like others once it has come" {
    needs_failpoints
    daemon_stop
    held_daemon --timeout 1s
    actor_start A
    A open 3 f wc
    A write 3 v
    touch "$S/hold"
    A fails ETIMEDOUT fsync 3
    expect_log 'commit.*timed out'
    rm "$S/hold"
    wait_until 10 test -s f
    holds f v
    x "echo w > f"
    holds f 'w\n'
    A close 3
}

@test "what O_EXCL made while the member stops is not said to have failed" {
    needs_failpoints
    daemon_stop
    daemon_with store.commit=stall:1000
    actor_start A
    actor_begin A open 3 new wcx
    waits "${ACTOR_PID[A]}"
    kill -TERM "$(daemon_pid)"
    actor_end A || [ "$SAID" = ETIMEDOUT ]
    cd "$QFS_ROOT"
    daemon_gone 0
    actors_end
    daemon_start
    cd "$T"
    test -e new
}

@test "many mounts and kills in a row" {
    local i
    for i in 1 2 3 4 5 6; do
        echo $i >>f
        again
    done
    holds f '1\n2\n3\n4\n5\n6\n'
}

@test "the revision and settings go on where they were" {
    local before
    echo 3G >"$MNT/.quorum/config/quota"
    before=$(rev)
    daemon_stop
    daemon_start
    cd "$T"
    same revision "$(rev)" "$before"
    again
    same quota "$(cat "$MNT/.quorum/config/quota")" 3G
    echo 2G >"$MNT/.quorum/config/quota"
}

@test "a killed daemon's directory is sound for check" {
    local i
    for i in {1..30}; do echo $i >f$i; done
    daemon_kill
    "$QUORUMFS" check "$DIR"
    daemon_start
}
