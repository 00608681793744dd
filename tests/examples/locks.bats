# Examples that hold locks.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() {
    enter_test
    LOCK=$MNT/.quorum/locks/l$BATS_TEST_NUMBER
}
teardown() {
    [ ${#started[@]} = 0 ] || kill -9 "${started[@]}" 2>/dev/null || true
    pkill -9 -f "$LOCK|$S/" || true
    leave_test
}

started=()
start() { # start NAME EXAMPLE ARGUMENT...: in the background; its exit status will be in $S/NAME.exit
    local name=$1 program=$QFS_EXAMPLES/$2
    shift 2
    { "$program" "$@" && echo 0 >"$S/$name.exit" || echo $? >"$S/$name.exit"; } >"$S/$name.out" 2>&1 3>&- </dev/null &
    started+=($!)
}
until_end='until [ -e "$0" ]; do sleep 0.02; done'
lines_are() { [ "$(wc -l <"$1")" = "$2" ]; }
exited() { [ "$(cat "$S/$1.exit")" = "$2" ]; }
waiting() { [ "$(fact "$1" waiters)" = "$2" ]; }

@test "leader-election runs the command on the leader, and on the next one after it" {
    start A leader-election.sh "$LOCK" a:80 bash -c "echo A \$TOKEN >> $S/led; $until_end" "$S/A.end"
    wait_until 10 lines_are "$S/led" 1
    same leader "$(cat "$LOCK")" a:80
    same token "$(cut -d' ' -f2 "$S/led")" "$(fact "$LOCK" token)"
    start B leader-election.sh "$LOCK" b:80 bash -c "echo B \$TOKEN >> $S/led; exit 7"
    wait_until 10 waiting "$LOCK" 1
    lines_are "$S/led" 1
    touch "$S/A.end"
    wait_until 10 exited A 0
    wait_until 10 exited B 7
    same "who led" "$(cut -d' ' -f1 "$S/led" | paste -sd' ')" 'A B'
}

@test "leader-election ends the command when it is told to end" {
    "$QFS_EXAMPLES/leader-election.sh" "$LOCK" a:80 bash -c 'echo $$ > "$0"; exec sleep 100' "$S/pid" 3>&- &
    started+=($!)
    wait_until 10 test -s "$S/pid"
    kill "${started[0]}"
    ! wait "${started[0]}" || false
    wait_until 10 eval "! kill -0 $(cat "$S/pid")"
    wait_until 10 flock -n "$LOCK" true
}

@test "leader-election: the command does not outlive its script" {
    "$QFS_EXAMPLES/leader-election.sh" "$LOCK" a:80 bash -c 'echo $$ > "$0"; exec sleep 100' "$S/pid" 3>&- &
    started+=($!)
    wait_until 10 test -s "$S/pid"
    kill -9 "${started[0]}"
    wait_until 10 eval "! kill -0 $(cat "$S/pid")"
    wait_until 10 flock -n "$LOCK" true
}

@test "leader-election ends the command when the lock is lost" {
    needs_failpoints
    start A leader-election.sh "$LOCK" a:80 bash -c 'echo $$ > "$0"; exec sleep 100' "$S/pid"
    wait_until 10 test -s "$S/pid"
    cd /
    daemon_kill
    wait_until 20 exited A 1
    grep -q 'is lost' "$S/A.out"
    ! kill -0 "$(cat "$S/pid")" 2>/dev/null || false
    daemon_start
}

@test "cron-once runs a job once in a slice of time, and never twice at once" {
    local i
    for i in 1 2 3; do start "$i" cron-once.sh "$MNT" "job$BATS_TEST_NUMBER" 1000000000 bash -c "echo ran >> $S/runs; $until_end" "$S/end"; done
    wait_until 10 test -s "$S/runs"
    wait_until 10 waiting "$MNT/.quorum/locks/cron-job$BATS_TEST_NUMBER" 2
    touch "$S/end"
    for i in 1 2 3; do wait_until 10 exited "$i" 0; done
    lines_are "$S/runs" 1
    echo 0 >"$MNT/cron/job$BATS_TEST_NUMBER"
    start 4 cron-once.sh "$MNT" "job$BATS_TEST_NUMBER" 1000000000 bash -c "echo ran >> $S/runs; exit 3"
    wait_until 10 exited 4 3
    lines_are "$S/runs" 2
    rm -r "$MNT/cron"
}

@test "cron-once runs nothing when another machine has begun the slice although it was locked" {
    mkdir -p "$S/bin"
    printf '#!/bin/bash\n%s "$@"\nstatus=$?\necho 1000000 >"%s"\nexit $status\n' "$(command -v cat)" "$MNT/cron/job$BATS_TEST_NUMBER" >"$S/bin/cat"
    chmod +x "$S/bin/cat" # when it has looked, somebody else is quicker
    mkdir -p "$MNT/cron"
    ! PATH=$S/bin:$PATH within 10 "$QFS_EXAMPLES/cron-once.sh" "$MNT" "job$BATS_TEST_NUMBER" 1000 touch "$S/ran" || false
    absent "$S/ran"
    same "transactions left" "$(ls "$MNT/.quorum/txn")" ''
    rm -r "$MNT/cron"
}

@test "limit runs so many at once, and the others when a place is free" {
    local i
    for i in 1 2 3 4; do
        start "$i" limit.sh "$LOCK" 2 bash -c "echo $i >> $S/runs; $until_end" "$S/$i.end"
        if [ "$i" -le 2 ]; then wait_until 10 lines_are "$S/runs" "$i"; fi
    done
    wait_until 10 waiting "$LOCK.queue" 1
    same "those that run" "$(paste -sd' ' "$S/runs")" '1 2'
    touch "$S/1.end"
    wait_until 10 lines_are "$S/runs" 3
    kill -9 "${started[1]}"; pkill -9 -f "$S/2.end"
    wait_until 10 lines_are "$S/runs" 4
    touch "$S/3.end" "$S/4.end"
    wait_until 10 exited 3 0
    wait_until 10 exited 4 0
}

@test "barrier lets all go when it is opened" {
    local i
    start closer barrier.sh "$LOCK" close bash -c "touch $S/closed; $until_end" "$S/end"
    wait_until 10 test -e "$S/closed"
    for i in 1 2 3; do start "$i" barrier.sh "$LOCK" wait; done
    wait_until 10 waiting "$LOCK" 3
    absent "$S/1.exit"
    touch "$S/end"
    for i in 1 2 3; do wait_until 10 exited "$i" 0; done
    within 10 "$QFS_EXAMPLES/barrier.sh" "$LOCK" wait
}

@test "double-barrier begins and ends together" {
    local i
    for i in 1 2; do start "$i" double-barrier.sh "$LOCK" 3 bash -c "echo $i >> $S/begun; $until_end" "$S/$i.end"; done
    wait_until 10 eval "[ \"\$(cat $LOCK.1 $LOCK.2 | paste -sd' ')\" = 'come come' ]"
    absent "$S/begun"
    start 3 double-barrier.sh "$LOCK" 3 bash -c "echo 3 >> $S/begun; exit 5"
    wait_until 10 lines_are "$S/begun" 3
    touch "$S/1.end"
    wait_until 10 eval "[ \"\$(cat $LOCK.1 $LOCK.2 $LOCK.3 | sort | paste -sd' ')\" = 'begun done done' ]"
    absent "$S/3.exit"
    touch "$S/2.end"
    for i in 1 2; do wait_until 10 exited "$i" 0; done
    wait_until 10 exited 3 5
}

@test "double-barrier: nobody begins before all know that all have come" {
    local i
    mkdir "$S/bin"
    printf '#!/bin/bash\nuntil [ -e "%s" ]; do sleep 0.05; done\nexec %s "$@"\n' "$S/look" "$(command -v cat)" >"$S/bin/cat"
    chmod +x "$S/bin/cat"
    for i in 1 2; do PATH=$S/bin:$PATH start "$i" double-barrier.sh "$LOCK" 3 bash -c "echo $i >> $S/begun"; done
    wait_until 10 eval "[ \"\$(cat $LOCK.1 $LOCK.2 | paste -sd' ')\" = 'come come' ]"
    start 3 double-barrier.sh "$LOCK" 3 bash -c "echo 3 >> $S/begun"
    wait_until 10 grep -q -v come "$LOCK.3"
    same "what the third one knows" "$(cat "$LOCK.3")" all
    absent "$S/begun"
    touch "$S/look"
    for i in 1 2 3; do wait_until 10 exited "$i" 0; done
    lines_are "$S/begun" 3
}
