# inotify for what other members change, whatever local processes do meanwhile: the events are right, and nothing appears or disappears by them.
load ../lib/harness
load ../lib/replay

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
    QUORUMFS_FAILPOINTS=replayer.call=stall:2000 daemon_start
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
