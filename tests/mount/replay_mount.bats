# inotify for what other members change, and the mount itself: other mounts over it, its end, and the processes that tell.
load ../lib/harness
load ../lib/replay

# ---- The mount ------------------------------------------------------------------------------------------------------------------------

@test "a file that is bind-mounted elsewhere wakes its watchers" {
    echo old >f
    touch "$S/bound"
    mount --bind f "$S/bound"
    record "$S/events" "$S/bound"
    remote 'put f new'; told
    recorded
    diff -u - "$S/events" <<<$'1\t.\tMODIFY\n1\t.\tCLOSE_WRITE' >&2
    holds "$S/bound" new
    umount "$S/bound"
}

@test "a tree that is bind-mounted elsewhere is watched there too" {
    mkdir "$S/bound" e
    mount --bind e "$S/bound"
    record "$S/events" "$S/bound"
    remote $'put e/f v\nmkdir e/g'; told
    recorded
    diff -u - "$S/events" <<<$'1\tf\tCREATE\n1\tf\tMODIFY\n1\tf\tCLOSE_WRITE\n1\tg\tCREATE,ISDIR' >&2
    umount "$S/bound"
}

@test "who has a lease on a file gives it up, and watchers are told" {
    echo old >f
    python3 - "$S" <<'END' 3>&- &
import fcntl, os, signal, sys
fd = os.open("f", os.O_RDONLY)
signal.signal(signal.SIGIO, lambda *_: fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK))
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
open(sys.argv[1] + "/leased", "w").close()
signal.pause()
END
    wait_until 10 test -e "$S/leased"
    record "$S/events" "$T"
    remote 'put f v'; told
    sees $'f MODIFY\nf CLOSE_WRITE'
    wait $!
}

@test "what is mounted over a name is left alone" {
    echo old >f
    mkdir e d
    echo foreign >"$S/file"
    mkdir "$S/dir"
    touch -d @1000 "$S/file" "$S/dir"
    mount --bind "$S/file" f
    mount --bind "$S/dir" e
    record "$S/events" "$S/file" "$T"
    remote $'put f v\nput f \nappend f w\nchmod f 600\nchmod e 700\nput e/g v\nmkdir e/h\nput d/g v'; told
    recorded
    holds "$S/file" 'foreign\n'
    same "time" "$(stat -c %Y "$S/file" "$S/dir" | paste -sd' ')" '1000 1000'
    umount f e
    ! grep -P '^1\t' "$S/events" || false
    holds f w
    holds e/g v
}

@test "inotifywait -r follows a tree that is made elsewhere" {
    inotifywait -q -m -r --format '%w%f %e' . >"$S/seen" 3>&- &
    local watcher=$!
    wait_until 10 bash -c "grep -l inotify /proc/$watcher/fdinfo/* | grep -q ."
    remote 'mkdir a'
    wait_until 10 bash -c "inject put t$BATS_TEST_NUMBER/a/probe v; grep -q 'a/probe CLOSE_WRITE' $S/seen"
    remote 'mkdir a/b'
    wait_until 10 bash -c "inject put t$BATS_TEST_NUMBER/a/b/f v; grep -q 'a/b/f CLOSE_WRITE' $S/seen"
    kill $watcher
}

@test "umount is not refused for what is told" {
    cd "$QFS_ROOT"
    (for i in {1..20000}; do echo "put t$BATS_TEST_NUMBER/f$((i % 50)) $i"; done | timeout 60 inject -w >/dev/null 2>&1) 3>&- &
    local writer=$!
    wait_until 10 bash -c "[ \$(sed -n 's/^quorumfs_replayed_total //p' $MNT/.quorum/metrics) -gt 50 ]"
    wait_until 10 umount "$MNT"
    daemon_gone 0
    kill $writer 2>/dev/null || true
    wait $writer || true
    daemon_start
    cd "$T"
}

@test "a daemon that is killed leaves no mount on which everybody hangs" {
    local i writer
    cd "$QFS_ROOT"
    for i in {1..10}; do
        record "$S/events" "$T"
        (for n in {1..20000}; do echo "put t$BATS_TEST_NUMBER/f$((n % 50)) $n"; done | timeout 20 inject -w >/dev/null 2>&1) 3>&- &
        writer=$!
        wait_until 10 bash -c "[ \$(sed -n 's/^quorumfs_replayed_total //p' $MNT/.quorum/metrics) -gt $((i * 20)) ]"
        kill -9 "$(daemon_pid)"
        daemon_gone 137
        kill $writer 2>/dev/null || true
        wait $writer || true
        recorded || true
        fails_with "not connected" timeout 5 ls "$MNT"
        wait_until 5 bash -c "! pgrep -f -- '[m]ount $DIR'"
        umount -l "$MNT"
        daemon_start
    done
    cd "$T"
}

@test "a worker that is stuck is replaced" {
    cd "$QFS_ROOT"
    daemon_stop
    QUORUMFS_FAILPOINTS=replayer.call=stall:30000@2 daemon_start --timeout 500ms
    cd "$T"
    record "$S/events" "$T"
    remote $'put f1 v\nput f2 v\nput f3 v\nput f4 v'; told
    recorded
    same told "$(grep -c CLOSE_WRITE "$S/events")" 4
    expect_log 'replaced a worker that was stuck'
    cd "$QFS_ROOT"
    daemon_stop
    daemon_start
    cd "$T"
}

@test "no worker for a while: what waits is told when there is one" {
    allow_log 'no worker can be had now'
    cd "$QFS_ROOT"
    daemon_stop
    touch "$S/none"
    QUORUMFS_FAILPOINTS=replayer.hire=while:$S/none daemon_start
    cd "$T"
    record "$S/events" "$T"
    remote 'put f v'
    expect_log 'no worker can be had now'
    same told "$(metric replayed_total)" 0
    rm "$S/none"
    told
    sees $'f CREATE\nf MODIFY\nf CLOSE_WRITE'
    usual_daemon
}

@test "the replayer out of descriptors: what waits is told when it has some" {
    usual_daemon
    local supervisor=$(pgrep -P "$(daemon_pid)" -f "mount $DIR" | head -1)
    record "$S/events" "$T"
    prlimit --pid "$supervisor" --nofile=3:
    remote 'put f v'
    wait_until 5 bash -c '[ "$(inject queued)" != 0 ]'
    prlimit --pid "$supervisor" --nofile=1024:
    told
    sees $'f CREATE\nf MODIFY\nf CLOSE_WRITE'
}

@test "without its process watchers are told no more, and all else goes on" {
    local supervisor=$(pgrep -P "$(daemon_pid)" -f "mount $DIR" | head -1)
    kill -9 "$supervisor"
    remote 'put f v'
    expect_log 'cannot have a worker'
    holds f v
    wait_until 5 bash -c "[ \$(sed -n 's/^quorumfs_replay_failed_total //p' $MNT/.quorum/metrics) -gt 0 ]"
    echo local >g
    usual_daemon
    record "$S/events" "$T"
    remote 'put f w'; told
    sees $'f MODIFY\nf CLOSE_WRITE'
}

@test "a read-only mount has no such process, and serves" {
    echo v >f
    cd "$QFS_ROOT"
    daemon_stop
    daemon_start -o ro
    holds "$T/f" 'v\n'
    same processes "$(pgrep -c -P "$(daemon_pid)")" 0
    usual_daemon
}

@test "another user's mount below a directory that only the user may search" {
    local nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    within 5 "${nobody[@]}" fusermount3 --version || skip "fusermount3 is not there for others"
    install -d -o 65534 -g 65534 -m 700 "$S/own" "$S/own/mnt"
    cp "$QUORUMFS" "$QFS_ROOT/bin/quorumfs-copy"
    QUORUMFS_TEST_INJECT=$S/own/inject within 20 "${nobody[@]}" "$QFS_ROOT/bin/quorumfs-copy" mount "$S/own/data" "$S/own/mnt" >"$S/out" 2>&1 ||
        { grep -q "no right to mount\|fusermount3" "$S/out" && skip "others may not mount here"; cat "$S/out"; return 1; }
    "${nobody[@]}" "$QFS_ROOT/bin/events" "$S/own/events" "$S/own/mnt" 3>&- &
    recorder=$!
    wait_until 10 test -e "$S/own/events.ready"
    QUORUMFS_TEST_INJECT=$S/own/inject within 10 "${nobody[@]}" inject put f v
    wait_until 10 bash -c "[ \"\$(QUORUMFS_TEST_INJECT=$S/own/inject ${nobody[*]} inject queued)\" = 0 ]"
    recorded
    same events "$(cut -f 2- "$S/own/events" | tr '\t' ' ' | paste -sd,)" 'f CREATE,f MODIFY,f CLOSE_WRITE'
    "${nobody[@]}" fusermount3 -u "$S/own/mnt"
    wait_until 10 bash -c "! pgrep -f -- '[m]ount $S/own/data'"
}
