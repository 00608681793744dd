# Open files beside each other: what readers see, how edits merge, and files that are not committed yet.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() { enter_test; }
teardown() { leave_test; }

# ---- Readers ------------------------------------------------------------------------------------------------------------------------------

@test "an open file is a snapshot, whole, whatever is committed meanwhile" {
    needs_quorumfs
    put f 'the old content\n'
    actor_start A
    A open 3 f r
    A read 3 4
    same read "$(said)" 'the '
    put f 'new\n'
    A read 3 100
    same read "$(said)" 'old content\n'
    A pread 3 0 100
    same pread "$(said)" 'the old content\n'
    A size 3
    same "size by fstat" "$(said)" 4
    A open 4 f r
    A read 4 100
    same read "$(said)" 'new\n'
}

@test "a snapshot outlives the file's name" {
    put f 'old\n'
    actor_start A
    A open 3 f r
    rm f
    A read 3 100
    same read "$(said)" 'old\n'
    A nlink 3
    same "links" "$(said)" 0
    A close 3
}

@test "a reader at the end goes on with what is appended" {
    put f 'one\n'
    actor_start A
    A open 3 f r
    A read 3 100
    A read 3 100
    same "at the end" "$(said)" ''
    x 'echo two >> f'
    A read 3 100
    same read "$(said)" 'two\n'
    x 'echo three >> f'
    A read 3 100
    same read "$(said)" 'three\n'
}

@test "tail -f shows what is appended" {
    put f 'one\n'
    tail -n +1 -f f >"$S/tail" 2>&1 3>&- &
    local tail=$!
    wait_until 5 holds "$S/tail" 'one\n'
    x 'echo two >> f'
    wait_until 5 holds "$S/tail" 'one\ntwo\n'
    kill $tail
}

@test "no reader ever sees an empty or a half-written file" {
    needs_quorumfs
    x 'echo "<start>" > f'
    x 'for i in $(seq 300); do { printf "<"; printf "%s" $i; echo ">"; } > f; done; : > done' &
    local writer=$! line
    until [ -e done ]; do
        read -r line <f || true
        [[ $line == "<"*">" ]] || { fail "a reader saw '$line'"; break; }
    done
    wait $writer
    holds f '<300>\n'
}

@test "the writer itself reads what it wrote" {
    actor_start A
    A open 3 f +ct
    A write 3 hello
    A pread 3 1 3
    same pread "$(said)" ell
    A size 3
    same size "$(said)" 5
    A close 3
}

# ---- Edits merge ----------------------------------------------------------------------------------------------------------------------------

@test "in-place writers merge as on a local disk" {
    put f 'aaaabbbbcccc\n'
    actor_start A
    actor_start B setsid
    A open 3 f w
    B open 3 f w
    A pwrite 3 0 AAAA
    B pwrite 3 8 CCCC
    B close 3
    A close 3
    holds f 'AAAAbbbbCCCC\n'
}

@test "appenders lose nothing" {
    actor_start A
    actor_start B setsid
    put f 'start\n'
    A open 3 f wa
    B open 3 f wa
    A write 3 $'a\n'
    B write 3 $'b\n'
    A close 3
    B close 3
    holds f 'start\na\nb\n'
}

@test "no line of many appending processes is lost" {
    local i pids=()
    for i in 1 2 3 4; do
        x "for n in \$(seq 40); do echo $i-\$n >> f; done" &
        pids+=($!)
    done
    wait "${pids[@]}"
    same lines "$(wc -l <f)" 160
    same "distinct lines" "$(sort -u f | wc -l)" 160
}

@test "O_APPEND is as fcntl has it now" {
    put f abc
    python3 -c '
import fcntl, os, sys
log = os.open("f", os.O_WRONLY)
fcntl.fcntl(log, fcntl.F_SETFL, os.O_APPEND)
os.write(log, b"d")
os.fsync(log)
os.write(log, b"1")
with open("f", "a") as other:
    other.write("2")
os.close(log)
seen = open("f").read()
assert seen in ("abcd12", "abcd21"), seen
fd = os.open("f", os.O_WRONLY | os.O_APPEND)
fcntl.fcntl(fd, fcntl.F_SETFL, 0)
os.lseek(fd, 0, os.SEEK_SET)
os.write(fd, b"ABC")
os.close(fd)
assert open("f").read() == "ABC" + seen[3:], open("f").read()'
}

@test "copy_file_range copies what the open file shows" {
    needs_quorumfs
    head -c 300000 /dev/zero | tr '\0' a >f
    python3 -c '
import errno, os
old, new = b"a" * 300000, b"b" * 300000
fd = os.open("f", os.O_RDONLY)
out = os.open("g", os.O_WRONLY | os.O_CREAT)
assert os.copy_file_range(fd, out, 100000) == 100000
open("f", "wb").write(new)
while os.copy_file_range(fd, out, 1 << 30):
    pass
os.close(out)
assert open("g", "rb").read() == old, "a mixture"
open("f", "wb").write(new[:5]) # the kernel takes this for the end
os.stat("f")
out = os.open("h", os.O_WRONLY | os.O_CREAT | os.O_SYNC)
try:
    n = os.copy_file_range(fd, out, 1 << 30, 0)
    raise SystemExit("copied %d bytes of a snapshot" % n)
except OSError as e:
    assert e.errno == errno.EINVAL, e # for programs: read and write
assert os.pread(fd, 1 << 20, 0) == old'
    cp f h
    holds h bbbbb
    cp f f.new && cmp f f.new
}

@test "what cp copies within the tree is one content, however often it is overwritten" {
    head -c 300000 /dev/zero | tr '\0' a >"$S/a"
    head -c 300000 /dev/zero | tr '\0' b >"$S/b"
    python3 -c '
import os, sys
texts, n = [open(name, "rb").read() for name in sys.argv[1:]], 0
fd = os.open("f", os.O_WRONLY | os.O_CREAT)
while not os.path.exists("enough"):
    os.pwrite(fd, texts[n % 2], 0)
    os.fsync(fd)
    n += 1' "$S/a" "$S/b" 3>&- &
    local writer=$! i torn=no
    wait_until 5 test -s f
    for i in {1..200}; do
        cp f copy
        cmp -s copy "$S/a" || cmp -s copy "$S/b" || torn=$i
    done
    touch enough
    wait $writer
    same torn $torn no
}

@test "O_TRUNC and a write replace what others appended" {
    put f 'old\n'
    actor_start A
    A open 3 f wt
    A write 3 put
    [ "$QFS_TEST_ON" = tmpfs ] || x 'echo line >> f'
    A close 3
    holds f put
}

@test "O_TRUNC of an empty file is part of the put, too" {
    needs_quorumfs
    put f ''
    actor_start A setsid
    A open 3 f wt
    A open 4 f +t
    put f '12345\n'
    A write 3 ab
    A close 3
    holds f ab
    A ftruncate 4 1
    A close 4
    holds f '\0'
    A open 3 f wt
    expect_revisions 0 true
    A close 3
    put g ''
    A open 3 g wt
    put g 'kept\n'
    expect_revisions 0 true
    A close 3
    holds g 'kept\n'
}

# One command has at most 17 MiB.
@test "a file is written and cut again and again before it is closed" {
    needs_quorumfs
    local i flags
    actor_start A
    for flags in wt w; do
        put f 'kept\n'
        A open 3 f $flags
        for i in {1..20}; do
            A seek 3 0
            A fill 3 "x" 1000000
            A ftruncate 3 10
        done
        if [ $flags = wt ]; then
            A close 3
            holds f xxxxxxxxxx
        else # what was there before is not known: it cannot be told in one piece
            A fails EFBIG close 3
            expect_log "commit.*/f.*larger than max-value"
            fails_with 'File too large' x 'sync f'
            holds f 'kept\n'
        fi
    done
}

@test "edits follow the file when it is renamed" {
    put f 'old\n'
    actor_start A
    A open 3 f wt
    A write 3 new
    mv f g
    A close 3
    holds g new
    absent f
}

@test "a file that its writer renames before it closes it is never seen empty" {
    put f 'old\n'
    python3 -c '
import os, subprocess, tempfile
see = lambda name: subprocess.check_output(["setsid", "-w", "cat", name])
with tempfile.NamedTemporaryFile("w", dir=".", delete=False) as t:
    t.write("new\n")
    t.flush()
    os.replace(t.name, "f")
    assert see("f") == b"new\n", see("f")
with open("f", "r+") as f:
    f.write("one\n")
    f.flush()
    os.rename("f", "g")
    assert see("g") == b"one\n", see("g")
    f.write("two\n")
assert see("g") == b"one\ntwo\n"'
}

@test "edits of a deleted file succeed and leave nothing" {
    put f 'old\n'
    actor_start A
    A open 3 f wt
    A write 3 new
    rm f
    A close 3
    absent f
    A open 3 g wct
    A write 3 new
    rm g
    A fsync 3
    A close 3
    absent g
}

@test "edits of a deleted file do not touch the name's new file" {
    put f 'old\n'
    actor_start A
    A open 3 f wt
    A write 3 late
    rm f
    put f 'other\n'
    A close 3
    holds f 'other\n'
}

# ---- New files ----------------------------------------------------------------------------------------------------------------------------

@test "a new file is seen by its session only, until it is committed" {
    needs_quorumfs
    actor_start A setsid
    A open 3 f wct
    A write 3 abc
    others_miss f
    x 'ls' >"$S/ls"
    holds "$S/ls" ''
    A child open 5 f r
    A close 3
    others_see f abc
}

@test "the session sees the new file in lists, with its size" {
    local seen
    seen=$(x '{ printf abc; ls; stat -c %s f; } > f; cat f')
    same seen "$seen" $'abcf\n5'
    seen=$(x 'exec 3> g; printf abc >&3; ls -d g; stat -c %s g; [ -f g ] && find . -name g')
    same seen "$seen" $'g\n3\n./g'
}

@test "a new file can be read by its session while it is written, through other descriptors" {
    local how
    for how in wc wcx +c +cx; do
        actor_start A
        A open 3 $how $how
        A open 4 $how r
        A write 3 abc
        A open 5 $how r
        A read 5 100
        same "read of $how" "$(said)" abc
        A read 4 100
        same "read of $how, opened before" "$(said)" abc
        A write 3 def
        A read 5 100
        same "appended to $how" "$(said)" def
        A fsync 3
        A read 5 100
        same "after fsync of $how" "$(said)" ''
        A write 3 ghi
        A read 4 100
        same "what follows in $how" "$(said)" defghi
        A ftruncate 3 0
        A pwrite 3 0 new
        A open 6 $how r
        A read 6 100
        same "begun anew in $how" "$(said)" new
        A exit
    done
}

@test "what is read of a new file stays what it was, and is its session's only" {
    needs_quorumfs
    actor_start A setsid
    A open 3 f +cx
    A write 3 abc
    A open 4 f r
    holds f ''
    A ftruncate 3 0
    A pwrite 3 0 xyz
    A read 4 100
    same read "$(said)" abc
    A read 4 100
    same "at its end" "$(said)" ''
    A close 3
    A pread 4 0 100
    same "after the commit" "$(said)" abc
    holds f xyz
}

@test "a new file can be changed, renamed and removed before it is closed" {
    x 'exec 3> f; echo a >&3; chmod 640 f; mv f g; exec 3>&-'
    absent f
    holds g 'a\n'
    same mode "$(stat -c %a g)" 640
    x 'exec 3> h; echo a >&3; rm h; exec 3>&-'
    absent h
    x 'exec 3> t; echo a >&3; touch -d @1000000000 t; exec 3>&-'
    same mtime "$(stat -c %Y t)" 1000000000
}

@test "a directory with only a pending file in it can be removed by others" {
    needs_quorumfs
    mkdir -m 777 d
    actor_start A setsid
    A open 3 d/f wct
    A write 3 a
    rmdir d
    A fails ENOENT close 3
    expect_log 'commit'
    absent d
}

@test "a pending file whose name was taken edits that file" {
    needs_quorumfs
    actor_start A setsid
    A open 3 f wct
    A write 3 ab
    A open 4 g wc
    A write 4 ab
    x 'echo 12345 > f; echo 12345 > g'
    local ino=$(stat -c %i f)
    A close 3
    A close 4
    holds f ab
    holds g 'ab345\n'
    same "inode number" "$(stat -c %i f)" "$ino"
}

@test "a pending file whose name became a directory fails with EISDIR" {
    needs_quorumfs
    actor_start A setsid
    A open 3 f wct
    A write 3 ab
    mkdir f
    A fails EISDIR close 3
    expect_log 'commit'
    [ -d f ]
}

@test "O_EXCL binds the name at once" {
    actor_start A setsid
    local before=$(rev)
    A open 3 f wcx
    others_see f ''
    A write 3 abc
    A fails EEXIST open 4 f wcx
    A close 3
    others_see f abc
    [ "$QFS_TEST_ON" = tmpfs ] || same revisions $(($(rev) - before)) 2
}

@test "exactly one of many racing creators wins" {
    local kind i
    for kind in create mkdir symlink; do
        same "$kind" "$(race $kind 30 name.$kind)" 'winners 1 losers 29'
    done
    touch moved.{0..19}
    same noreplace "$(race noreplace 20 moved)" 'winners 1 losers 19'
}

@test "a pending new file loses to an O_EXCL creator and edits its file" {
    needs_quorumfs
    actor_start A setsid
    A open 3 f wc
    A write 3 abc
    actor_start B
    B open 3 f wcx
    B close 3
    A close 3
    holds f abc
}

@test "noclobber never overwrites" {
    x 'set -C; echo a > f'
    ! x 'set -C; echo b > f' 2>/dev/null || false
    holds f 'a\n'
}
