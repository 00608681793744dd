# inotify for what other members change: many of them, fast ones, more than there is memory for.
load ../lib/harness
load ../lib/replay

# ---- How much, how fast -------------------------------------------------------------------------------------------------------------

@test "ten thousand files at once" {
    local i n=10000
    # A sanitizer makes the watcher so slow that the kernel's queue for it overflows.
    [ -z "$QFS_SANITIZE" ] || n=2000
    record "$S/events" "$T"
    for ((i = 1; i <= n; i++)); do echo "put f$i $i"; done | prefixed | within 100 inject -w >/dev/null
    told 60
    recorded
    same closed "$(grep -c CLOSE_WRITE "$S/events")" $n
    same "of different names" "$(grep CLOSE_WRITE "$S/events" | cut -f 2 | sort -u | wc -l)" $n
    same "in order" "$(grep CLOSE_WRITE "$S/events" | cut -f 2 | sort -c -V 2>&1)" ''
}

@test "deep in the tree each change is told in good time" {
    local deep=$(printf 'd/%.0s' {1..1500}) i
    within 60 mkdir -p "$deep"
    record "$S/events" "$T/$deep"
    for i in {1..50}; do echo "put ${deep}f$i v"; done | prefixed | within 60 inject -w >/dev/null
    told 20
    recorded
    same closed "$(grep -c CLOSE_WRITE "$S/events")" 50
}

@test "a watcher that does not read keeps nobody waiting" {
    record "$S/events" "$T"
    kill -STOP "$recorder"
    for i in {1..6000}; do echo "put f$i $i"; done | prefixed | within 60 inject -w >/dev/null
    within 10 bash -c 'echo v > local; cat local f6000'
    told 60
    kill -CONT "$recorder"
    recorded
    grep -q OVERFLOW "$S/events"
}

@test "a file that changes fast: its last change is told, and who reads then finds it" {
    echo 0 >f
    inotifywait -q -m -e close_write --format x f >"$S/woken" 3>&- &
    local watcher=$! i
    wait_until 10 bash -c "grep -l inotify /proc/$watcher/fdinfo/* | grep -q ."
    for i in {1..2000}; do echo "put f $i"; done | prefixed | within 60 inject -w >/dev/null
    told
    kill $watcher
    (($(wc -l <"$S/woken") > 1))
    record "$S/events" "$T"
    (for i in {1..2000}; do echo "put f $i"; done | prefixed | within 60 inject -w >/dev/null; inject put t$BATS_TEST_NUMBER/f last) 3>&- &
    # Who is woken reads; having read the last one, nobody waits for another.
    local seen=0 now
    until [ "$seen" = last ]; do
        inotifywait -q -q -t 5 -e close_write f || { now=$(cat f); break; }
        now=$(cat f)
        [ "$now" = last ] || ((now >= seen)) || fail "went back from $seen to $now"
        seen=$now
    done
    wait $!
    told
    recorded
    holds f last
    same "its last event" "$(tail -1 "$S/events")" $'1\tf\tCLOSE_WRITE'
}

@test "what holds up one directory holds up no other" {
    mkdir a b
    record "$S/events" "$T/a" "$T/b"
    remote $'lock a\nput a/f v\nput b/f v\nmkdir b/e'
    wait_until 5 bash -c "[ \"\$(inject queued)\" = 1 ]"
    within 5 bash -c 'touch b/local a/local; cat a/f b/f'
    remote 'unlock a'; told
    recorded
    same "in b" "$(grep -P '^2\tf' "$S/events" | cut -f 3 | paste -sd' ')" 'CREATE MODIFY CLOSE_WRITE'
    same "in a, last" "$(tail -1 "$S/events")" $'1\tf\tCLOSE_WRITE'
}

@test "what nobody can watch is left out" {
    mkdir -p a/b
    touch a/b/f
    cd "$QFS_ROOT"
    daemon_stop
    daemon_start
    local before=$(metric replay_skipped_total)
    remote $'put a/b/f v\nput a/b/g v\nmkdir a/b/c\nrename a/b/g a/b/h'; told
    same skipped $(($(metric replay_skipped_total) - before)) 4
    same told "$(metric replayed_total)" 0
    cd "$T"
}

@test "more changes than there is memory for are told all the same, once" {
    cd "$QFS_ROOT"
    daemon_stop
    QUORUMFS_TEST_REPLAY_BYTES=20000 daemon_start
    cd "$T"
    record "$S/events" "$T"
    remote hold
    for i in {1..1000}; do
        echo "put f$i $i"
        [ $((i % 100)) != 0 ] || echo "rename f$i g$i"
    done | prefixed | within 60 inject -w >/dev/null
    echo local >l1
    remote 'put last v'
    rm f1
    remote go; told
    recorded
    (($(metric replay_reread_total) > 500))
    same made "$(grep -c $'f[0-9]*\tCREATE' "$S/events")" 999
    same renamed "$(grep -c 'MOVED_TO' "$S/events")" 10
    same "local ones" "$(grep -c $'l1\tCREATE' "$S/events")" 1
    same "last one" "$(tail -1 "$S/events")" $'1\tlast\tCLOSE_WRITE'
    cd "$QFS_ROOT"
    daemon_stop
    daemon_start
    cd "$T"
}

@test "more changes than there is memory for: the way to each is as it was then" {
    local i
    cd "$QFS_ROOT"
    daemon_stop
    QUORUMFS_TEST_REPLAY_BYTES=20000 daemon_start
    cd "$T"
    mkdir -p y/x d
    touch y/x/f
    record "$S/events" "$T" "$T/y" "$T/y/x" "$T/d"
    remote hold
    { # what is read from the store again is read in parts: of the renames below, nothing is known of the second while the first is told
        for i in {1..400}; do echo "put f$i v"; done
        echo rename y/x x
        echo put d/f v
        for i in {401..1000}; do echo "put f$i v"; done
        echo rename y x/y
        echo unlink d/f
        echo rmdir d
    } | prefixed | within 60 inject -w >/dev/null
    remote go; told
    recorded
    same renamed "$(grep MOVED "$S/events" | tr '\t' ' ')" $'2 x MOVED_FROM,ISDIR #1\n1 x MOVED_TO,ISDIR #1\n1 y MOVED_FROM,ISDIR #2\n3 y MOVED_TO,ISDIR #2'
    same "in d" "$(grep -P '^4\tf' "$S/events" | cut -f 3 | paste -sd' ')" 'CREATE MODIFY CLOSE_WRITE DELETE'
    usual_daemon
}

@test "after a database was installed, what is new is told" {
    echo old >f
    echo old >same
    mkdir d
    stat f same d >/dev/null
    record "$S/events" "$T" "$T/d"
    remote away
    for i in {1..600}; do echo "put d/f$i $i"; done | prefixed | within 60 inject -w >/dev/null
    remote $'put f new\nmkdir e\nput e/below v\nsymlink l x\nchmod d 700'
    remote back; told
    recorded
    same "in d" "$(grep -P '^2\t' "$S/events" | grep -c CREATE)" 600
    same "in d" "$(grep -P '^2\t' "$S/events" | grep -c CLOSE_WRITE)" 600
    same "the file" "$(grep -P '\tf\t' "$S/events" | cut -f 3 | paste -sd' ')" 'MODIFY CLOSE_WRITE'
    same "made" "$(grep -P '^1\t[el]\t' "$S/events" | cut -f 2- | tr '\t' ' ' | sort | paste -sd,)" 'e CREATE,ISDIR,l CREATE'
    grep -q $'1\td\tATTRIB,ISDIR' "$S/events"
    ! grep -q same "$S/events" || false
}
