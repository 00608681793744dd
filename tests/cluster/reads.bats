# Reads of three members: what returned on one is seen on each other, by the next call, however far behind that member is; and what is
# to be had without a quorum.
load ../lib/harness
load ../lib/cluster
# What is refused at once does not wait for that.
setup_file() {
    export QUORUMFS_TIMEOUT=40s
    cluster_file 3
}
teardown_file() { cluster_file_end; }
setup() { enter_cluster_test; }
teardown() {
    rm -f "$QFS_ROOT/barrier.off"
    leave_cluster_test
}

# slow_follower: a follower that applies each entry 40 ms late from now on, and whose barriers a test can switch off; says which.
slow_follower() {
    local f
    f=$(others "$(wait_leader)" | head -1)
    member_stop "$f" || return 1
    QUORUMFS_FAILPOINTS="store.apply=stall:40,fs.barrier.off=while:$QFS_ROOT/barrier.off" members_start "$f" || return 1
    wait_leader >/dev/null
    echo "$f"
}

usual() { # usual N: without failpoints again
    member_stop "$1" && members_start "$1"
}

reads() { within 120 python3 "$BATS_TEST_DIRNAME/reads.py" "$QFS_ROOT/m$1" "$QFS_ROOT/m$2" "$3" "$4"; }

@test "what returned on one member is seen by the next call on each other" {
    local a b
    for a in $(members); do
        for b in $(others "$a"); do reads "$a" "$b" "$T.$a.$b" 10; done
    done
}

@test "also on a member that lags behind" {
    needs_failpoints
    local f
    f=$(slow_follower)
    reads "$(wait_leader)" "$f" "$T" 2
    usual "$f"
}

@test "the planted stale read: without the barrier a member that lags shows what was" {
    needs_failpoints
    local f
    f=$(slow_follower)
    touch "$QFS_ROOT/barrier.off"
    ! reads "$(wait_leader)" "$f" "$T" 2 >"$QFS_ROOT/seen" || fail "nobody noticed"
    grep -q 'saw' "$QFS_ROOT/seen" || { cat "$QFS_ROOT/seen"; fail "it failed for another reason"; }
    rm "$QFS_ROOT/barrier.off"
    usual "$f"
}

@test "a member reads its own writes" {
    local id
    for id in $(members); do reads "$id" "$id" "$T.$id" 5; done
}

@test "a mapping shows what another member wrote" {
    local l f
    l=$(wait_leader)
    f=$(others "$l" | head -1)
    write_on "$l" "$T" 'aaaa'
    python3 - "$QFS_ROOT/m$f/$T" "$QFS_ROOT/m$l/$T" <<'END'
import mmap, os, sys, time
fd = os.open(sys.argv[1], os.O_RDONLY)
m = mmap.mmap(fd, 5, mmap.MAP_PRIVATE, mmap.PROT_READ)
assert m[:4] == b'aaaa', m[:4]
other = os.open(sys.argv[2], os.O_WRONLY)
for i in range(300):
    text = b'%04d' % i
    os.pwrite(other, text, 0)
    os.fsync(other)
    os.stat(sys.argv[1])
    assert m[:4] == text, (m[:4], text)
END
}

@test "readers of a file that others replace all the time always read a whole version, never an older one" {
    local l f
    l=$(wait_leader)
    f=$(others "$l" | head -1)
    write_on "$l" "$T" 0
    python3 - "$QFS_ROOT/m$l/$T" 3>&- <<'END' &
import os, sys
for i in range(300):
    with open(sys.argv[1] + '.t', 'w') as f:
        f.write(str(i))
    os.rename(sys.argv[1] + '.t', sys.argv[1])
END
    local writer=$!
    python3 - "$QFS_ROOT/m$f/$T" $writer <<'END'
import os, sys
last, n = -1, 0
while last < 299:
    with open(sys.argv[1]) as f:
        text = f.read()
        os.fstat(f.fileno())
    os.stat(sys.argv[1])
    seen = int(text)
    assert seen >= last, (seen, last)
    last = seen
    n += 1
    if not os.path.exists(f'/proc/{sys.argv[2]}'):
        assert n and int(open(sys.argv[1]).read()) == 299
        break
END
    wait $writer
}

@test "what is replaced all the time on one member can be used by name on each, without a failure" {
    local l f
    l=$(wait_leader)
    f=$(others "$l" | head -1)
    mkdir "$QFS_ROOT/m$l/$T"
    for pair in "$l $f" "$f $l" "$f $f"; do
        set -- $pair
        wait_until 10 test -d "$QFS_ROOT/m$2/$T"
        within 120 python3 "$BATS_TEST_DIRNAME/storm.py" "$QFS_ROOT/m$1/$T" "$QFS_ROOT/m$2/$T" 40
    done
}

@test "a directory that another member has just moved can be moved on at once" {
    mkdir -p "$M1/$T/x/d" "$M1/$T/y" "$M1/$T/z"
    within 60 python3 - "$M1/$T" "$M2/$T" <<'END'
import errno, os, sys
here, there = sys.argv[1:]
stale = 0

def move(a, b):
    global stale
    while True:
        try:
            return os.rename(a, b)
        except OSError as e:
            if e.errno != errno.ESTALE:
                raise
            stale += 1

for _ in range(50):
    os.stat(there + '/x/d')  # where its kernel has it
    move(here + '/x/d', here + '/y/d')
    move(there + '/y/d', there + '/z/d')
    move(there + '/z/d', there + '/x/d')
assert stale <= 2, stale     # of 150: on a machine on which watchers are told too late
END
}

@test "directories that all members move all the time can be used by name, with few failures" {
    mkdir "$M1/$T"
    allow_log 'replay: watchers were not told of a change'
    within 60 python3 "$BATS_TEST_DIRNAME/moves.py" 6 "$M1/$T" "$M2/$T" "$M3/$T"
}

# at_once COMMAND...: it does not wait for the timeout.
at_once() {
    local start=$(date +%s%N) took
    "$@" || return 1
    took=$(ms_since "$start")
    ((took <= 20000)) || fail "took $took ms: $*"
}

@test "without a quorum everything of the tree fails at once, what needs none works, and nothing hangs" {
    local l f m
    l=$(wait_leader)
    f=$(others "$l" | head -1)
    m=$QFS_ROOT/m$f
    write_on "$l" "$T" x
    mkdir "$m/$T.d"
    ln -s "$T" "$m/$T.l"
    for id in $(others "$f"); do member_kill "$id"; done
    wait_until 20 eval '[ "$(said_by '"$f"' leader)" = 0 ]'
    # When nobody has been heard of for an election timeout: no waiting.
    fails_with 'timed out' cat "$m/$T"
    at_once fails_with 'timed out' cat "$m/$T"
    at_once fails_with 'timed out' stat "$m/$T"
    at_once fails_with 'timed out' stat "$m/$T.none"
    at_once fails_with 'timed out' ls "$m/$T.d"
    at_once fails_with 'timed out' getfattr -n user.quorum.version "$m/$T"
    at_once fails_with 'timed out' bash -c "echo y > '$m/$T'"
    at_once fails_with 'timed out' bash -c "echo y > '$m/$T.new'"
    at_once fails_with 'timed out' mkdir "$m/$T.d2"
    at_once fails_with 'timed out' mkdir "$m/$T.d"
    at_once fails_with 'timed out' rm "$m/$T"
    at_once fails_with 'timed out' cat "$m/.quorum/revision"
    at_once holds "$m/.quorum/local/$T" 'x\n'
    at_once holds "$m/.quorum/local/$T.l" 'x\n'
    at_once stat "$m" "$m/.quorum/revision" >/dev/null
    at_once cat "$m/.quorum/status" "$m/.quorum/metrics" "$m/.quorum/hash" >/dev/null
    grep -q 'no leader' "$m/.quorum/health"
    at_once ls "$m/.quorum" "$m/.quorum/local" >/dev/null
    at_once stat -f "$m" >/dev/null
    members_start $(others "$f")
    wait_leader >/dev/null
    same "after all" "$(cat "$m/$T")" x
    absent "$m/$T.new"
}

@test "with reads=local files can be read without a quorum, and opening for writing asks" {
    local f=3 m=$QFS_ROOT/m3 id
    write_on 3 "$T" x
    member_stop 3
    QUORUMFS_READS=local members_start 3
    wait_leader >/dev/null
    wait_until 10 file_is 3 "$T" x
    for id in 1 2; do member_kill "$id"; done
    wait_until 20 eval '[ "$(said_by 3 leader)" = 0 ]'
    at_once holds "$m/$T" 'x\n'
    at_once ls -l "$m" >/dev/null
    ! stat "$m/$T.none" 2>/dev/null || false
    fails_with 'timed out' bash -c "echo y > '$m/$T'"
    fails_with 'timed out' bash -c "echo y > '$m/$T.new'"
    members_start 1 2
    wait_leader >/dev/null
    write_on 3 "$T" y
    same "own write" "$(cat "$m/$T")" y
    usual 3
}

@test "a read that waits while the leader is away is answered by the next one" {
    local l f pid
    l=$(wait_leader)
    f=$(others "$l" | head -1)
    write_on "$f" "$T" x
    member_kill "$l"
    wait_until 20 file_is "$f" "$T" x
    new_leader "$l" >/dev/null
    same content "$(cat "$QFS_ROOT/m$f/$T")" x
    members_start "$l"
}
