# Memory mapped files: private always; shared if the kernel can do it with direct I/O, else a clear ENODEV.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() { enter_test; }
teardown() { leave_test; }

shared_or_skip() { # shared_or_skip ACTOR FD: maps it shared as number 1, or sees the documented error
    "$1" mmap "$2" 1 s 4096 2>/dev/null && return
    same "mmap shared" "$(said)" ENODEV
    skip "this kernel has no shared mappings with direct I/O"
}

@test "a private mapping shows the content and keeps its changes to itself" {
    echo hello >f
    actor_start A
    A open 3 f r
    A mmap 3 0 p 4096
    A mread 0 0 6
    same content "$(said)" 'hello\n'
    A mwrite 0 0 J
    A mread 0 0 6
    same "own copy" "$(said)" 'Jello\n'
    A munmap 0
    A close 3
    holds f 'hello\n'
}

@test "a private mapping of a file that is longer than a page" {
    head -c 300000 /dev/urandom >"$S/source"
    cp "$S/source" f
    python3 -c '
import mmap, sys
with open(sys.argv[1], "rb") as f, mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as m:
    assert m[:] == open(sys.argv[2], "rb").read()' f "$S/source"
}

@test "a mapping outlives its descriptor and the file's name" {
    echo hello >f
    actor_start A
    A open 3 f r
    A mmap 3 0 p 4096
    A close 3
    rm f
    A mread 0 0 5
    same content "$(said)" hello
}

@test "a new mapping shows the newest content" {
    echo one >f
    actor_start A
    A open 3 f r
    A mmap 3 0 p 4096
    A mread 0 0 3
    same content "$(said)" one
    A munmap 0
    A close 3
    echo two >f
    A open 3 f r
    A mmap 3 0 p 4096
    A mread 0 0 3
    same content "$(said)" two
}

@test "a page that is read while a commit is on its way shows what was committed afterwards" {
    needs_quorumfs
    needs_failpoints
    put f old
    cd /
    daemon_stop
    QUORUMFS_FAILPOINTS="store.commit=hold:$S/hold" daemon_start --timeout "$((60 * QFS_TIME_SCALE))s"
    cd "$T"
    touch "$S/hold"
    actor_start A
    actor_start B
    A open 3 f wt
    A write 3 new
    actor_begin A close 3
    wait_until 10 grep -q '^quorumfs_commands_waiting [1-9]' "$MNT/.quorum/metrics"
    B open 4 f r
    B mmap 4 0 p 3
    B mread 0 0 3
    same before "$(said)" old
    actor_waits A
    rm "$S/hold"
    actor_end A
    B mread 0 0 3
    same afterwards "$(said)" new
    actors_end
    cd /
    daemon_stop
    daemon_start
    cd "$T"
}

@test "a shared mapping shows the content" {
    echo hello >f
    actor_start A
    A open 3 f +
    shared_or_skip A 3
    A mread 1 0 6
    same content "$(said)" 'hello\n'
}

@test "what is written through a shared mapping is committed by msync and at close" {
    printf 'hello world' >f
    actor_start A
    A open 3 f +
    shared_or_skip A 3
    A mwrite 1 0 J
    A msync 1
    A fsync 3
    holds f 'Jello world'
    A mwrite 1 6 W
    A munmap 1
    A close 3
    wait_until 5 holds f 'Jello World'
    same size "$(stat -c %s f)" 11
}

@test "a mapped file that grows is not cut by those who look at it" {
    printf 'hello' >f
    actor_start A setsid
    A open 3 f +
    A ftruncate 3 65536
    shared_or_skip A 3
    A mmap 3 2 s 65536
    A mwrite 2 60000 end
    stat f >/dev/null
    ls -l . >/dev/null
    same "read by others" "$(cat f)" hello
    A mread 2 60000 3
    same content "$(said)" end
    A mwrite 2 50000 x
    A msync 2
    A fsync 3
    same size "$(stat -c %s f)" 65536
    same "what was committed" "$(tr -d '\0' <f)" helloxend
}

@test "a shared mapping that is written after the descriptor's close reaches the file" {
    printf 'hello world' >f
    actor_start A
    A open 3 f +
    shared_or_skip A 3
    A close 3
    A mwrite 1 0 J
    A munmap 1
    A _exit
    wait_until 5 holds f 'Jello world'
}

@test "programs run from the tree and shared libraries load" {
    cp /bin/true program
    ./program
    local library=$(ldd /bin/ls | awk '/selinux|pcre|cap/ {print $3; exit}')
    [ -n "$library" ] || skip "ls needs no small library here"
    cp "$library" .
    LD_LIBRARY_PATH=$PWD /bin/ls -d . >/dev/null
    LD_LIBRARY_PATH=$PWD ldd /bin/ls | grep -q "$PWD/${library##*/}"
}

@test "grep and other programs that map files read them" {
    head -c 200000 /dev/zero | tr '\0' 'a' >f
    echo needle >>f
    same matches "$(grep -c needle f)" 1
    git hash-object f >/dev/null
}
