# Examples that use streams and transactions.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() {
    enter_test
    t=${T#"$MNT/"}
}
teardown() { leave_test; }

background() { # background COMMAND...: BACKGROUND is its process group
    setsid "$@" >"$S/out" 2>"$S/err" 3>&- &
    BACKGROUND=$!
    disown
}
end() {
    kill -TERM -- "-$BACKGROUND"
    wait_until 5 test ! -e "/proc/$BACKGROUND/stat"
}

@test "publish.sh: a directory becomes a copy, in one revision, and only what differs is written" {
    mkdir -p "$S/src/sub" app
    echo 1 >"$S/src/same"
    echo 1 >"$S/src/changed"
    "$QFS_EXAMPLES/publish.sh" "$S/src" "$MNT" "$t/app"
    diff -r "$S/src" app
    echo 2 >"$S/src/changed"
    rm -r "$S/src/sub"
    local r=$(rev)
    "$QFS_EXAMPLES/publish.sh" "$S/src" "$MNT" "$t/app"
    same revisions "$(($(rev) - r))" 1
    diff -r "$S/src" app
    same "version of what is the same" "$(fact app/same version)" 1
    same "left behind" "$(ls "$MNT/.quorum/txn")" ''
}

@test "audit.sh: every change with its writer, and no change twice or lost when it is started again" {
    echo before >f
    background "$QFS_EXAMPLES/audit.sh" "$MNT" "$S/log" "$t"
    wait_until 10 grep -q "$t/f" "$S/log"
    echo 1 >g
    mv g h
    rm f
    wait_until 10 grep -q "delete.*$t/f" "$S/log"
    end
    echo 2 >i
    background "$QFS_EXAMPLES/audit.sh" "$MNT" "$S/log" "$t"
    wait_until 10 grep -q "put.*$t/i" "$S/log"
    end
    same lines "$(cut -f2,3 "$S/log" | sed "s|$t/||" | tr '\t\n' ' ,')" 'mkdir '"$t"',put f,put g,rename g,delete f,put i,'
    grep -q "put	$t/g.*uid 0" "$S/log" || fail "no writer: $(cat "$S/log")"
}

@test "subscribe.sh: each message once and in order, over a restart" {
    mkdir topic
    handle() { background "$QFS_EXAMPLES/subscribe.sh" "$MNT" "$t/topic" "$S/state" bash -c 'cat >>"$0"' "$S/got"; }
    handle
    wait_until 10 test -s "$S/state"
    for i in 1 2 3; do echo "message $i" >"topic/$i"; done
    wait_until 10 grep -q 'message 3' "$S/got"
    wait_until 10 grep -qx "$(rev)" "$S/state"
    end
    for i in 4 5; do echo "message $i" >"topic/$i"; done
    handle
    echo "message 6" >topic/6
    wait_until 10 grep -q 'message 6' "$S/got"
    end
    same messages "$(cat "$S/got" | tr '\n' ',')" 'message 1,message 2,message 3,message 4,message 5,message 6,'
}
