# inotify for what other members change: the events are those of the same change on any disk; and for own commits that the kernel does not tell.
load ../lib/harness
load ../lib/replay

# ---- What a change looks like ---------------------------------------------------------------------------------------------------

@test "a new file" {
    in_both : 'printf v > f' 'put f v'
    in_both : ': > f' 'put f '
    in_both : 'printf v > d/f' 'put d/f v'
    in_both : 'set -C; printf v > f' $'create f\nput f v'
    in_both : 'mknod f p; rm f; exec python3 -c "import os; os.mknod(\"g\")"' $'create f\nunlink f\ncreate g'
}

@test "new content" {
    in_both 'echo old > f' 'printf v > f' 'put f v' f
    in_both 'echo old > f' ': > f' 'put f ' f
    in_both 'echo old > f' 'printf v >> f' 'append f v' f
    in_both 'mkdir e; echo old > e/f' 'printf v > e/f' 'put e/f v' e e/f
    in_both 'echo a > f; echo b > d/f' 'printf v > f; printf w > d/f; printf x > f' $'put f v\nput d/f w\nput f x'
}

@test "removal" {
    in_both 'echo v > f' 'rm f' 'unlink f' f
    in_both 'mkdir e' 'rmdir e' 'rmdir e' e
    in_both 'mkdir e; touch e/f' 'rm -r e' $'unlink e/f\nrmdir e' e e/f
    in_both 'ln -s x l' 'rm l' 'unlink l'
    in_both 'touch d/f' 'rm d/f; rmdir d' $'unlink d/f\nrmdir d' d/f
}

@test "directories and symbolic links" {
    in_both : 'mkdir e' 'mkdir e'
    in_both : 'mkdir d/e; touch d/e/f' $'mkdir d/e\nput d/e/f '
    in_both : 'ln -s x l' 'symlink l x'
}

@test "rename" {
    in_both 'echo v > f' 'mv f g' 'rename f g' f
    in_both 'echo v > f; echo w > g' 'mv f g' 'rename f g' f g
    in_both 'echo v > f' 'mv f d/' 'rename f d/f' f
    in_both 'echo v > d/f; echo w > f' 'mv d/f .' 'rename d/f f' f d/f
    in_both 'ln -s x l' 'mv l m' 'rename l m'
}

@test "rename of directories" {
    in_both 'mkdir e; touch e/f' 'mv e g; echo v > g/f' $'rename e g\nput g/f v' e e/f
    in_both 'mkdir e; touch e/f' 'mv e d/; echo v > d/e/f' $'rename e d/e\nput d/e/f v' e e/f
    in_both 'mkdir e d/e' 'mv -T e d/e' 'rename e d/e' e d/e
    in_both 'mkdir new; echo v > new/f' 'mv new conf' 'rename new conf'
}

@test "exchange" {
    in_both 'echo v > f; echo w > g' 'syscall exchange f g' 'exchange f g' f g
    in_both 'echo v > f' 'syscall exchange f d' 'exchange f d' f
    in_both 'mkdir e; touch d/f e/g' 'syscall exchange e d; : > d/h' $'exchange e d\nput d/h ' e
}

@test "attributes" {
    in_both 'touch f' 'chmod 600 f' 'chmod f 600' f
    in_both 'touch f' 'python3 -c "import os; os.utime(\"f\")"' 'touch f' f
    in_both : 'chmod 700 d' 'chmod d 700'
    in_both 'touch f' 'setfattr -n user.a -v b f' 'setxattr f user.a b' f
    in_both : 'chmod 755 .' 'chmod . 755'
}

@test "many changes of one name, before anybody is told" {
    in_both 'echo v > f' 'printf w > f; mv f g; printf x > g; rm g' $'hold\nput f w\nrename f g\nput g x\nunlink g\ngo' f
    in_both : 'printf 1 > f; rm f; mkdir f; rmdir f; ln -s x f; rm f; printf 2 > f' \
        $'hold\nput f 1\nunlink f\nmkdir f\nrmdir f\nsymlink f x\nunlink f\nput f 2\ngo'
    in_both 'touch a b' 'mv a c; mv b a; mv c b; chmod 600 b' $'hold\nrename a c\nrename b a\nrename c b\nchmod b 600\ngo' a b
    in_both : 'mkdir -p e/f; touch e/f/g; mv e h; rm h/f/g; rmdir h/f h' \
        $'hold\nmkdir e\nmkdir e/f\nput e/f/g \nrename e h\nunlink h/f/g\nrmdir h/f\nrmdir h\ngo'
}

# ---- Own commits that the kernel does not tell ----------------------------------------------------------------------------------------

@test "fsync and O_SYNC are told when they are committed" {
    echo old >f
    local before=$(metric replayed_total)
    actor_start A
    record "$S/events" "$T"
    A open 3 f w
    A write 3 new
    A fsync 3
    wait_until 5 bash -c "[ \$(sed -n 's/^quorumfs_replayed_total //p' $MNT/.quorum/metrics) -gt $before ]"
    recorded
    grep -q CLOSE_WRITE "$S/events"
    A close 3
}

@test "a close is told although another process has inherited the open file" {
    local before=$(metric replayed_total)
    record "$S/events" "$T"
    bash -c 'exec 5>f; sleep 60 & echo $! >pid; echo v >&5; exec 5>&-' 3>&-
    local holder=$(cat pid)
    others_see f 'v\n'
    wait_until 5 bash -c "[ \$(sed -n 's/^quorumfs_replayed_total //p' $MNT/.quorum/metrics) -gt $before ]"
    recorded
    kill $holder
    grep -q $'f\tCLOSE_WRITE' "$S/events"
}

@test "what a caller asked for who was killed is told when it is done" {
    held_daemon
    record "$S/events" "$T"
    touch "$S/hold"
    mkdir made 3>&- &
    local caller=$!
    wait_until 5 command_waits
    kill -9 $caller
    wait $caller || true
    rm "$S/hold"
    wait_until 10 [ -d made ]
    told
    sees 'made CREATE,ISDIR'
    usual_daemon
}

@test "what a caller asked for whose time was up is told when it is done" {
    allow_log 'stopping with requests that were not answered in time'
    held_daemon --timeout 1s
    record "$S/events" "$T"
    touch "$S/hold"
    fails_with "timed out" mkdir made
    rm "$S/hold"
    wait_until 10 [ -d made ]
    told
    wait_until 5 bash -c "[ \$(sed -n 's/^quorumfs_replayed_total //p' $MNT/.quorum/metrics) -gt 0 ]"
    sees 'made CREATE,ISDIR'
    usual_daemon
}

@test "a directory that was looked up in its new place, while a local rename between directories waits" {
    mkdir -p a/x b c d
    touch c/f
    held_daemon
    record "$S/events" "$T/a" "$T/b"
    remote $'hold\nrename a/x b/y'
    ls b/y
    touch "$S/hold"
    mv c/f d/g 3>&- & # the kernel moves no other directory meanwhile
    local mover=$!
    wait_until 5 command_waits
    remote go
    rm "$S/hold"
    wait $mover
    told
    recorded
    diff -u - "$S/events" <<<$'1\tx\tMOVED_FROM,ISDIR #1\n2\ty\tMOVED_TO,ISDIR #1' >&2
    usual_daemon
}

@test "a directory that goes into what was below it" {
    cd "$QFS_ROOT"
    daemon_stop
    QUORUMFS_FAILPOINTS=replayer.call=stall:300@2 daemon_start
    cd "$T"
    mkdir -p a b/y/z/x/w c
    record "$S/events" "$T/a" "$T/b" "$T/b/y/z" "$T/b/y/z/x/w"
    remote $'hold\nput c/f v\nput c/g v\nrename b/y/z/x a/x\nrename b/y a/x/w/y\ngo'; told
    recorded
    diff -u - "$S/events" <<<$'3\tx\tMOVED_FROM,ISDIR #1\n1\tx\tMOVED_TO,ISDIR #1\n2\ty\tMOVED_FROM,ISDIR #2\n4\ty\tMOVED_TO,ISDIR #2' >&2
    usual_daemon
}
