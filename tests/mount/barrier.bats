# Reads as on a member that has others beside it: they wait for a read barrier, and names that were told before it are checked after
# it. A failpoint says that there are others; another lets names be looked up as they were before the last barrier, as on a member
# that lags behind, and a third makes the changes of one program news to it, as if they came from elsewhere.
load ../lib/harness

POINTS="shared names.old names.foreign barrier.off barrier.hold barrier.fail"

setup_file() {
    [ "${QFS_FAILPOINTS:-1}" = 1 ] || return 0
    root_file || return 1
    local point
    for point in $POINTS; do
        QUORUMFS_FAILPOINTS+=${QUORUMFS_FAILPOINTS:+,}fs.$point=while:$QFS_ROOT/on.$point
    done
    export QUORUMFS_FAILPOINTS QUORUMFS_TIMEOUT=$((60 * QFS_TIME_SCALE))s # far more than what must not wait for it takes
    touch "$QFS_ROOT/on.shared"
    daemon_start
}

teardown_file() {
    [ "${QFS_FAILPOINTS:-1}" != 1 ] || unmount_file
}

setup() {
    needs_failpoints
    enter_test
}

teardown() {
    [ "${QFS_FAILPOINTS:-1}" = 1 ] || return 0
    local point
    for point in $POINTS; do
        [ "$point" = shared ] && touch "$QFS_ROOT/on.shared" || rm -f "$QFS_ROOT/on.$point"
    done
    leave_test
}

on() { touch "$QFS_ROOT/on.$1"; }
off() { rm "$QFS_ROOT/on.$1"; }

metric() { sed -n "s/^quorumfs_$1 //p" "$MNT/.quorum/metrics"; }

# The system calls alone. They meet only names that are there, so none of them waits for a barrier, and what they change is news to
# who comes after. A request after it makes sure that it has happened as news.
elsewhere() { # elsewhere PYTHON ARGUMENT...
    on names.foreign
    python3 -c "import ctypes, os, sys; $1" "${@:2}" || return 1
    stat -f "$MNT" >/dev/null
    off names.foreign
}
exchanges() { elsewhere 'sys.exit(ctypes.CDLL(None).renameat2(-100, sys.argv[1].encode(), -100, sys.argv[2].encode(), 2))' "$1" "$2"; }
renames() { elsewhere 'os.rename(sys.argv[1], sys.argv[2])' "$1" "$2"; }
unlinks() { elsewhere 'os.unlink(sys.argv[1])' "$1"; }

# ---- One barrier for each system call ---------------------------------------------------------------------------------------------

@test "a system call waits for one barrier, however long its path is" {
    python3 "$BATS_TEST_DIRNAME/barriers.py" "$MNT" "$T/deep"
}

@test "a member that is alone asks for nothing" {
    off shared
    put f 'v\n'
    local before=$(metric barriers_total)
    cat f >/dev/null
    ls -l >/dev/null
    ! stat none 2>/dev/null || false
    same barriers "$(metric barriers_total)" "$before"
}

# ---- Names that changed elsewhere -------------------------------------------------------------------------------------------------

# became_other COMMAND...: f and g are exchanged behind the back of what is told; the command sees the new f. Outside of the mount,
# since a shell looks at its working directory whenever it likes.
became_other() {
    rm -rf "$T/f" "$T/g"
    put "$T/f" 'old'
    put "$T/g" 'new'
    on names.old
    exchanges "$T/f" "$T/g"
    "$@"
    off names.old
}

@test "a name that leads elsewhere now is walked again, unseen by the program" {
    reads() { same "$1" "$(bash -c "$1")" new; }
    cd "$S"
    export T
    became_other reads 'cat $T/f'
    became_other reads 'cat < $T/f'
    became_other reads 'dd if=$T/f status=none'
    became_other reads 'cp $T/f f2 && cat f2'
    became_other reads "python3 -c 'print(open(\"$T/f\").read(), end=\"\")'"
    became_other reads "python3 -c 'import os; print(os.read(os.open(\"$T/f\", os.O_RDWR | os.O_CREAT), 9).decode(), end=\"\")'"
    became_other reads 'cd $T && tail -c 3 f'
    became_other reads 'grep -o new $T/f'
}

@test "the planted stale read: without the barrier the same is wrong" {
    reads_old() {
        on barrier.off
        same "without a barrier" "$(cat "$T/f")" old
        off barrier.off
    }
    cd "$S"
    became_other reads_old
}

@test "a file that came between the lookup and the creation of its name is opened only by those who may" {
    mkdir -m 777 d
    on barrier.off
    on names.old
    on names.foreign
    stat d >/dev/null
    (umask 077 && echo secret >d/f)
    opens() { setpriv --reuid=65533 --regid=65533 --clear-groups bash -c 'exec 4<>d/f && cat <&4'; }
    fails_with 'd/f: Permission denied' opens
    off names.old
    chmod 666 d/f
    same content "$(opens)" secret
}

@test "attributes and extended attributes are those of the new file" {
    facts() {
        same stat "$(stat -c %s f)" 3
        same ls "$(ls -i f)" "$ino f"
        same getfattr "$(getfattr --only-values -n user.which f)" new
        same test "$([ f -ef /proc/self/fd/9 ] && echo same)" same
    }
    put f '1'
    put g '123'
    setfattr -n user.which -v old f
    setfattr -n user.which -v new g
    exec 9<g
    local ino=$(stat -c %i g)
    on names.old
    renames g f
    facts
    exec 9<&-
}

@test "what is written goes to the file that has the name now" {
    write_it() {
        bash -c "$1"
        holds "$T/f" "$2"
        holds "$T/g" "old"
    }
    cd "$S"
    export T
    became_other write_it 'echo -n more > $T/f' more
    became_other write_it 'echo -n more >> $T/f' newmore
    became_other write_it 'truncate -s 1 $T/f' n
    became_other write_it 'echo -n more | tee $T/f >/dev/null' more
    became_other write_it 'chmod 600 $T/f && echo -n more > $T/f' more
    same "mode of the other" "$(stat -c %a "$T/g")" 644
}

@test "a name that went is missed, and one that came is found" {
    put f 'x'
    on names.old
    unlinks f
    fails_with 'No such file' cat f
    put f 'x'
    unlinks f
    fails_with 'No such file' stat f
    put f 'x'
    unlinks f
    ! test -e f || false
    put g 'y'
    renames g f
    holds f 'y'
}

@test "a name that went can be taken again" {
    put f 'x'
    mkdir d
    on names.old
    unlinks f
    python3 -c 'import os; os.close(os.open("f", os.O_CREAT | os.O_EXCL | os.O_WRONLY))'
    python3 -c 'import os; os.rmdir("d"); os.mkdir("d")'
    python3 -c 'import os; os.unlink("f"); os.symlink("d", "f")'
    same readlink "$(readlink f)" d
}

@test "a directory that was replaced is walked anew" {
    mkdir -p conf new
    put conf/x 'old'
    put new/x 'new'
    on names.old
    exchanges conf new
    holds conf/x 'new'
    exchanges conf new
    same ls "$(cat conf/*)" old
    exchanges conf new
    echo -n made >conf/y
    off names.old
    holds conf/y 'made'
    absent new/y
    on names.old
    exchanges conf new
    stat conf/x >/dev/null
    fails_with 'No such file' stat conf/y
    exchanges conf new
    mkdir conf/z
    exchanges conf new
    ln -s x conf/l
    off names.old
    same find "$(find . | sort | tr '\n' ' ')" '. ./conf ./conf/l ./conf/x ./new ./new/x ./new/y ./new/z '
}

@test "symbolic links are followed to where they lead now" {
    put a 'a'
    put b 'b'
    ln -s a l
    ln -s b l2
    on names.old
    renames l2 l
    same readlink "$(readlink l)" b
    ln -s a l2
    renames l2 l
    holds l 'a'
}

@test "an open descriptor never meets ESTALE, whatever became of its name" {
    put f 'abc'
    on names.old
    python3 - <<'END'
import os
p = os.open('f', os.O_PATH)
fd = os.open('f', os.O_RDWR)
os.rename('f', 'g')
assert os.fstat(p).st_size == 3
assert os.fstat(fd).st_size == 3
assert os.getxattr(fd, 'user.quorum.version') == b'1'
assert os.listxattr(fd) == []
os.fchmod(fd, 0o600)
os.ftruncate(fd, 2)
os.unlink('g')
assert os.fstat(fd).st_size == 2
assert os.read(fd, 9) == b'ab'
END
}

@test "rewinddir shows what came meanwhile" {
    mkdir d
    python3 - <<'END'
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
def count(d):
    n = 0
    while libc.readdir(ctypes.c_void_p(d)):
        n += 1
    return n
d = libc.opendir(b'd')
assert count(d) == 2
os.mkdir('d/x')
libc.rewinddir(ctypes.c_void_p(d))
assert count(d) == 3
END
}

@test "readers of a file that is replaced all the time always read one version" {
    put f '0'
    python3 - <<'END' &
import os
for i in range(400):
    with open('t', 'w') as f:
        f.write(str(i))
    os.rename('t', 'f')
END
    local writer=$! last=-1 seen
    while kill -0 $writer 2>/dev/null; do
        seen=$(<f)
        ((seen >= last)) || fail "went back from $last to $seen"
        last=$seen
        [ -s f ] && stat f >/dev/null
    done
    wait $writer
    holds f '399'
}

@test "what is replaced all the time can be used by name without a failure, whether there are others or not" {
    within 60 python3 "$BATS_TEST_DIRNAME/../cluster/storm.py" "$T" "$T" 40
    off shared
    within 60 python3 "$BATS_TEST_DIRNAME/../cluster/storm.py" "$T" "$T" 80
}

@test "git works on names that are old" {
    on names.old
    git init -q r 2>/dev/null
    cd r
    git config user.email a@b
    git config user.name a
    for i in 1 2 3; do
        echo $i >f
        git add f
        git commit -qm $i
    done
    same log "$(git log --format=%s | tr '\n' ' ')" '3 2 1 '
    git checkout -q HEAD~1
    holds f '2\n'
    git fsck --strict
}

# ---- Waiting ----------------------------------------------------------------------------------------------------------------------

# A shell in a directory of the mount would wait, too, when it looks at where it is: so these begin elsewhere.
@test "a read that waits blocks nobody else, and costs no thread" {
    put f 'x'
    actor_start A
    A open 3 f r
    cd "$S"
    local tasks=$(ls "/proc/$(daemon_pid)/task" | wc -l) pids=() pid
    on barrier.hold
    for i in {1..50}; do
        cat "$T/f" >/dev/null 2>&1 3>&- &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do waits "$pid"; done
    same threads "$(ls "/proc/$(daemon_pid)/task" | wc -l)" "$tasks"
    within 30 stat "$MNT" >/dev/null
    within 30 ls "$MNT/.quorum" >/dev/null
    within 30 cat "$MNT/.quorum/status" "$MNT/.quorum/health" >/dev/null
    within 30 cat "$MNT/.quorum/local/${T##*/}/f" >/dev/null
    within 30 stat -f "$MNT" >/dev/null
    A read 3 10
    same "an open file" "$(said)" x
    off barrier.hold
    for pid in "${pids[@]}"; do wait "$pid"; done
}

@test "a caller that dies while it waits is gone at once; another signal does not matter" {
    put f 'x'
    cd "$S"
    on barrier.hold
    local start pid signal
    for signal in KILL TERM INT; do
        env --default-signal=INT cat "$T/f" >/dev/null 2>&1 3>&- &
        pid=$!
        waits $pid
        start=$(date +%s%N)
        kill -$signal $pid
        wait $pid 2>/dev/null || true
        (($(ms_since "$start") <= 30000 * QFS_TIME_SCALE)) || fail "$signal: it hung for $(ms_since "$start") ms"
    done
    python3 -c 'import signal, sys; signal.signal(signal.SIGWINCH, lambda *a: None); open(sys.argv[1]).read()' "$T/f" 3>&- &
    pid=$!
    waits $pid
    kill -WINCH $pid
    waits $pid
    off barrier.hold
    wait $pid
}

@test "without an answer in time everything that asks ends with ETIMEDOUT" {
    put f 'x'
    ln -s f l
    mkdir d
    daemon_stop
    daemon_start --timeout 2s
    cd "$S"
    on barrier.hold
    local pids=() i n=0
    local -a commands=('cat f' 'stat f' 'stat none' 'ls d' 'echo y > f' 'echo y > new' 'mkdir d/e' 'getfattr -n user.quorum.version f' 'readlink l'
                       "cat '$MNT/.quorum/revision'" 'test -e f || stat f')
    for i in "${!commands[@]}"; do
        bash -c "cd '$T' && ${commands[i]}" >"$S/$i" 2>&1 3>&- &
        pids+=($!)
    done
    for i in "${!commands[@]}"; do
        ! wait "${pids[i]}" || fail "did not fail: ${commands[i]}"
        [ "${commands[i]}" = 'readlink l' ] || grep -q 'timed out' "$S/$i" || fail "${commands[i]}: $(cat "$S/$i")"
        n=$((n + 1))
    done
    same "how many" "$n" "${#commands[@]}"
    off barrier.hold
    cd "$T"
    holds f 'x'
    absent new
    daemon_stop
    daemon_start
    cd "$T"
}

@test "a barrier that fails is told at once" {
    put f 'x'
    on barrier.fail
    local start=$(date +%s%N)
    fails_with 'timed out' cat f
    fails_with 'timed out' stat f
    fails_with 'timed out' ls .
    fails_with 'timed out' cat "$MNT/.quorum/revision"
    stat "$MNT" >/dev/null
    cat "$MNT/.quorum/local/${T##*/}/f" >/dev/null
    (($(ms_since "$start") <= 30000 * QFS_TIME_SCALE)) || fail "it took $(ms_since "$start") ms"
}

# ---- The kernel's memory, and locks -----------------------------------------------------------------------------------------------

requests_of() { # requests_of COMMAND...: how many requests it makes, and what the counting costs, too
    local before=$(metric requests_total)
    "$@" >/dev/null
    echo $(($(metric requests_total) - before))
}

@test "the kernel keeps names and attributes on a member that is alone, and forgets them when the cluster grows" {
    put f 'x'
    off shared
    stat f >/dev/null
    stat f >/dev/null
    local alone=$(requests_of stat f) grown
    on shared
    grown=$(requests_of stat f)
    ((grown > alone)) || fail "stat asked nothing ($alone requests alone, $grown with others)"
    expect_log 'there are other members'
    off shared
    wait_until 5 eval '[ "$(requests_of stat f)" = "$alone" ]'
    grep -q 'this member is alone' "$MNT.log"
}

@test "a lock that is held, and one that is waited for, outlive the growth of the cluster" {
    touch f
    off shared
    metric requests_total >/dev/null
    actor_start A
    A open 3 f w
    A flock 3 x
    flock f touch "$S/got" 3>&- &
    local waiter=$!
    waits $waiter
    on shared
    metric requests_total >/dev/null
    ! flock -n f true || false
    ! flock -n -s f true || false
    absent "$S/got"
    A flock 3 u
    wait $waiter
    [ -e "$S/got" ]
    off shared
}

# ---- reads = local ----------------------------------------------------------------------------------------------------------------

@test "with reads=local reads ask nobody, but opening for writing does" {
    put f 'x'
    mkdir d
    daemon_stop
    daemon_start -o reads=local
    cd "$T"
    on barrier.fail
    holds f 'x'
    same ls "$(ls)" "$(printf 'd\nf')"
    ! stat none 2>/dev/null || false
    stat f d >/dev/null
    getfattr -n user.quorum.version f >/dev/null
    fails_with 'timed out' bash -c 'echo y > f'
    fails_with 'timed out' bash -c 'echo y >> f'
    fails_with 'timed out' bash -c 'echo y > new'
    fails_with 'timed out' python3 -c 'import os; os.open("new", os.O_CREAT | os.O_EXCL)'
    fails_with 'timed out' cat "$MNT/.quorum/revision"
    off barrier.fail
    echo y >f
    holds f 'y\n'
    daemon_stop
    daemon_start
    cd "$T"
}
