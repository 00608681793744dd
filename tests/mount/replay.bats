# inotify for what other members change: the events are those of the same change on any disk, whatever local processes do meanwhile.
# Changes are made through a socket of the daemon that passes them off as another member's; all else is real.
load ../lib/harness
setup_file() { needs_failpoints && root_file && export QUORUMFS_TEST_INJECT=$QFS_ROOT/inject && daemon_start; }
teardown_file() { unmount_file; }
setup() {
    needs_failpoints
    enter_test
    mkdir "$S/tmpfs"
    mount -t tmpfs none "$S/tmpfs"
    mkdir "$S/tmpfs/t"
}
teardown() {
    inject go >/dev/null
    umount -l "$S/tmpfs"
    leave_test
}

# ---- Helpers --------------------------------------------------------------------------------------------------------------------

# Lines of changes, whose paths get the test's directory in front.
prefixed() { sed -E "s#^(rename|exchange) ([^ ]+) #\1 t$BATS_TEST_NUMBER/\2 t$BATS_TEST_NUMBER/#; t; s#^([a-z]+) #\1 t$BATS_TEST_NUMBER/#"; }
# remote TEXT: another member's changes, a line each.
remote() { prefixed <<<"$1" | within 60 inject >/dev/null; }
told() { wait_until "${1:-20}" bash -c '[ "$(inject queued)" = 0 ]'; }
metric() { sed -n "s/^quorumfs_$1 //p" "$MNT/.quorum/metrics"; }

record() { # record OUT WATCHED...: until `recorded`
    rm -f "$1.ready"
    events "$@" 3>&- 5<&- &
    recorder=$!
    wait_until 10 test -e "$1.ready"
}
recorded() { kill "$recorder" && wait "$recorder"; }

# in_both SETUP NATIVE REMOTE [WATCHED...]: what watchers of the directory, of d in it and of WATCHED see of REMOTE is what they
# see of NATIVE on a tmpfs.
in_both() {
    local setup=$1 native=$2 remote=$3 seen=() there=()
    shift 3
    (cd "$S/tmpfs/t" && mkdir d && bash -c "$setup") && (cd "$T" && mkdir d && bash -c "$setup") 3>&- || return 1
    for file; do seen+=("$T/$file") there+=("$S/tmpfs/t/$file"); done
    record "$S/there" "$S/tmpfs/t" "$S/tmpfs/t/d" "${there[@]}"
    (cd "$S/tmpfs/t" && bash -c "$native") || fail "on tmpfs: $native"
    recorded
    record "$S/here" "$T" "$T/d" "${seen[@]}"
    remote "$remote" && told
    recorded
    [ -s "$S/there" ] || fail "nothing was recorded: $native"
    # Between directories there is no order.
    diff -u <(sort -s -n -k1,1 "$S/there") <(sort -s -n -k1,1 "$S/here") >&2 || fail "other events than on tmpfs: $native"
    find "$T" "$S/tmpfs/t" -mindepth 1 -delete
}

# sees TEXT: the recorded events of the test's directory are these lines, `NAME EVENT`.
sees() {
    recorded
    diff -u <(printf '%s\n' "$1") <(grep -P '^1\t' "$S/events" | cut -f 2- | tr '\t' ' ') >&2 || fail "other events"
}

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

# ---- What local processes do meanwhile --------------------------------------------------------------------------------------------

@test "a local process that looks first" {
    record "$S/events" "$T"
    remote $'hold\nput f hello'
    local ino=$(stat -c %i f)
    exec 5<f
    holds f hello
    ls -l . >/dev/null
    remote go; told
    sees $'f CREATE\nf MODIFY\nf CLOSE_WRITE'
    same inode "$(stat -c '%i %h' f)" "$ino 1"
    same "read on" "$(cat <&5)" hello
    exec 5<&-
}

@test "a local process that has entered a new directory" {
    record "$S/events" "$T"
    remote $'hold\nmkdir e\nmkdir e/f'
    (
        cd e/f && inject go && told && same pwd "$(/bin/pwd)" "$T/e/f" && touch inside
    ) >/dev/null
    sees 'e CREATE,ISDIR'
    [ -e e/f/inside ]
}

@test "a local process that has seen both names" {
    touch f g
    record "$S/events" "$T"
    remote $'hold\nrename f h\nunlink g'
    ! stat f g 2>/dev/null && stat h >/dev/null || false
    remote go; told
    sees $'f MOVED_FROM #1\nh MOVED_TO #1\ng DELETE'
}

@test "a directory that was looked up in its new place" {
    mkdir -p a/x b
    touch a/x/f
    record "$S/events" "$T/a" "$T/b" "$T/a/x"
    remote $'hold\nrename a/x b/y'
    (
        cd b/y && ls >/dev/null && inject go && told && same pwd "$(/bin/pwd)" "$T/b/y"
    ) >/dev/null
    recorded
    diff -u - "$S/events" <<<$'1\tx\tMOVED_FROM,ISDIR #1\n2\ty\tMOVED_TO,ISDIR #1\n3\t.\tMOVE_SELF' >&2
    [ -e b/y/f ]
}

@test "a file that was deleted while it is open goes with its last close" {
    echo v >f
    exec 5<f
    record "$S/events" "$T" "$T/f"
    remote 'unlink f'; told
    same content "$(cat <&5)" v
    same links "$(stat -L -c %h /proc/self/fd/5)" 0
    exec 5<&-
    recorded
    diff -u - "$S/events" <<<$'2\t.\tATTRIB\n1\tf\tDELETE\n2\t.\tDELETE_SELF' >&2
}

@test "deleted and made again, opened before anybody is told" {
    echo first >f
    record "$S/events" "$T" "$T/f"
    remote $'hold\nunlink f\nput f second'
    exec 5<f
    remote go; told
    same content "$(cat <&5)" second
    exec 5<&-
    recorded
    diff -u - "$S/events" <<<$'2\t.\tATTRIB\n2\t.\tDELETE_SELF\n1\tf\tDELETE\n1\tf\tCREATE\n1\tf\tMODIFY\n1\tf\tCLOSE_WRITE' >&2
}

@test "a local removal that overtakes a creation: no file appears" {
    record "$S/events" "$T"
    remote $'hold\nput f v\nmkdir e\nsymlink l x'
    rm f l
    rmdir e
    remote go; told
    sees $'f DELETE\nl DELETE\ne DELETE,ISDIR'
    absent f
}

@test "a local creation that overtakes a removal: no file disappears" {
    touch f g
    record "$S/events" "$T"
    remote $'hold\nunlink f\nunlink g'
    echo v >f
    mkdir g
    remote go; told
    sees $'f CREATE\nf MODIFY\nf CLOSE_WRITE\ng CREATE,ISDIR'
    holds f 'v\n'
}

@test "a local file in the making holds its name" {
    touch f
    actor_start A
    record "$S/events" "$T"
    remote $'hold\nunlink f'
    A open 3 f wct
    remote go; told
    A write 3 v
    A close 3
    sees $'f CREATE\nf MODIFY\nf CLOSE_WRITE'
    holds f v
}

@test "a new local file that is committed by fsync holds its name" {
    touch f
    actor_start A
    record "$S/events" "$T"
    remote $'hold\nunlink f'
    A open 3 f wct
    A write 3 v
    A fsync 3
    remote go; told
    A close 3
    recorded
    same deleted "$(grep -c DELETE "$S/events")" 0
    holds f v
}

@test "a local file that is begun while a worker is about to take its name away" {
    cd "$QFS_ROOT"
    daemon_stop
    QUORUMFS_FAILPOINTS=replayer.call=stall:1000 daemon_start
    cd "$T"
    touch a b
    actor_start A
    record "$S/events" "$T"
    remote 'unlink a'
    wait_until 5 bash -c "[ \"\$(inject queued)\" = 2 ]" # it waits, and a worker has it
    A open 3 a wct
    told
    remote 'rename b c'
    wait_until 5 bash -c "[ \"\$(inject queued)\" = 2 ]"
    A open 4 b wct
    told
    A close 3
    A close 4
    sees $'a CREATE\nb CREATE\nc CREATE\nc CLOSE_WRITE\na CLOSE_WRITE\nb CLOSE_WRITE'
    actor_signal A KILL # it is in a directory of the mount
    usual_daemon
}

@test "a rename of which a half has been overtaken" {
    touch a b
    record "$S/events" "$T"
    remote $'hold\nrename a a2\nrename b b2'
    rm a2
    touch b
    remote go; told
    sees $'a2 DELETE\nb CREATE\nb ATTRIB\nb CLOSE_WRITE\na DELETE\nb2 CREATE\nb2 CLOSE_WRITE'
}

@test "a local rename carries waiting contents along" {
    touch f
    record "$S/events" "$T"
    remote $'hold\nput f v'
    mv f g
    remote go; told
    sees $'f MOVED_FROM #1\ng MOVED_TO #1\ng MODIFY\ng CLOSE_WRITE'
    holds g v
}

@test "random local changes among others: the last event of a name is right" {
    local seed=${QFS_SEED:-$RANDOM} i n
    echo "seed $seed"
    RANDOM=$seed
    record "$S/events" "$T"
    for i in {1..300}; do
        n=n$((RANDOM % 5))
        case $((RANDOM % 6)) in
        0) remote "put $n $i" 2>/dev/null ;;
        1) remote "unlink $n" 2>/dev/null ;;
        2) remote "rename $n n$((RANDOM % 5))" 2>/dev/null ;;
        3) echo $i >$n ;;
        4) rm -f $n ;;
        5) mv $n n$((RANDOM % 5)) 2>/dev/null ;;
        esac || true
        case $((RANDOM % 20)) in 0) inject hold ;; 1 | 2 | 3) inject go ;; esac >/dev/null
    done
    inject go >/dev/null
    told
    recorded
    for n in n0 n1 n2 n3 n4; do
        local last=$(grep -P "^1\t$n\t" "$S/events" | grep -Eo 'CREATE|DELETE|MOVED_FROM|MOVED_TO' | tail -1)
        case $last in
        DELETE | MOVED_FROM | '') absent $n || fail "$n: its last event is $last" ;;
        *) [ -e $n ] || fail "$n is not there: its last event is $last" ;;
        esac
    done
}

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

command_waits() { [ "$(sed -n 's/^quorumfs_commands_waiting //p' "$MNT/.quorum/metrics")" -gt 0 ]; }
no_command_waits() { ! command_waits; }

# slow_daemon OPTION...: one whose store takes a second for each command, and which is done with those of its start.
slow_daemon() {
    cd "$QFS_ROOT" && daemon_stop && QUORUMFS_FAILPOINTS=replica.store=stall:1000 daemon_start "$@"
    wait_until 20 no_command_waits
    cd "$T" || return 1
}
usual_daemon() {
    cd "$QFS_ROOT" && daemon_stop && daemon_start && cd "$T" || return 1
}

@test "what a caller asked for who was killed is told when it is done" {
    slow_daemon
    record "$S/events" "$T"
    mkdir made 3>&- &
    local caller=$!
    wait_until 5 command_waits
    kill -9 $caller
    wait $caller || true
    wait_until 10 [ -d made ]
    told
    sees 'made CREATE,ISDIR'
    usual_daemon
}

@test "what a caller asked for whose time was up is told when it is done" {
    allow_log 'stopping with requests that were not answered in time'
    slow_daemon --timeout 300ms
    record "$S/events" "$T"
    fails_with "timed out" mkdir made
    wait_until 10 [ -d made ]
    told
    wait_until 5 bash -c "[ \$(sed -n 's/^quorumfs_replayed_total //p' $MNT/.quorum/metrics) -gt 0 ]"
    sees 'made CREATE,ISDIR'
    usual_daemon
}

@test "a directory that was looked up in its new place, while a local rename between directories waits" {
    mkdir -p a/x b c d
    touch c/f
    slow_daemon
    record "$S/events" "$T/a" "$T/b"
    remote $'hold\nrename a/x b/y'
    ls b/y
    mv c/f d/g 3>&- & # the kernel moves no other directory meanwhile
    local mover=$!
    wait_until 5 command_waits
    remote go
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
