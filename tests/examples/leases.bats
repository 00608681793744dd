# Examples that use leases.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() {
    enter_test
    t=${T#"$MNT/"}
    groups=()
}
teardown() {
    local g
    for g in "${groups[@]}"; do kill -9 -- "-$g" 2>/dev/null || true; done
    find "$MNT/.quorum/leases" -mindepth 1 -maxdepth 1 -exec rmdir {} + 2>/dev/null || true # some run out meanwhile
    leave_test
}

background() { # background COMMAND...: GROUP is its process group
    setsid "$@" >>"$S/out" 2>&1 3>&- &
    GROUP=$!
    groups+=("$GROUP")
    disown
}
gone() { [ ! -e "$1" ]; }

# ---- service-register.sh --------------------------------------------------------------------------------------------------------

runs=(sh -c 'echo >"$0"; exec sleep 1000') # a service that says in the file that follows that it runs
register() { TTL=2 "$QFS_EXAMPLES/service-register.sh" "$@"; }

@test "service-register.sh: announced while the service runs; gone at once when it ends" {
    mkdir services
    local ttl
    for ttl in 2 600; do # renewed; and then nobody waits for its end
        background env TTL=$ttl "$QFS_EXAMPLES/service-register.sh" "$MNT" "$t/services/1" 10.0.0.7:80 "${runs[@]}" "$S/runs$ttl"
        wait_until 10 test -e "$S/runs$ttl" # announced before that
        holds services/1 '10.0.0.7:80\n'
        [ $ttl != 2 ] || sleep 4
        holds services/1 '10.0.0.7:80\n'
        kill -TERM "$GROUP"
        wait_until 10 gone services/1
        wait_until 10 eval '! kill -0 '"$GROUP"
    done
    same leases "$(ls "$MNT/.quorum/leases")" ''
}

@test "service-register.sh: the command's exit status, and no announcement where it cannot be" {
    local rc=0
    mkdir services
    register "$MNT" "$t/services/1" v sh -c 'exit 7' || rc=$?
    same status "$rc" 7
    absent services/1
    fails_with 'cannot be announced' register "$MNT" "$t/none/1" v true
    same leases "$(ls "$MNT/.quorum/leases")" ''
}

@test "service-register.sh: killed, with its service: gone after the TTL" {
    mkdir services
    background env TTL=2 "$QFS_EXAMPLES/service-register.sh" "$MNT" "$t/services/1" v "${runs[@]}" "$S/runs"
    wait_until 10 test -e "$S/runs" # announced before that
    holds services/1 'v\n'
    kill -9 "$GROUP" # the script alone: the service still runs
    sleep 4
    [ -e services/1 ] || fail "the service runs, and is not announced any more"
    kill -9 -- "-$GROUP"
    wait_until 5 gone services/1
}

@test "service-register.sh: announced anew when its lease was lost" {
    mkdir services
    background env TTL=600 "$QFS_EXAMPLES/service-register.sh" "$MNT" "$t/services/1" v "${runs[@]}" "$S/runs"
    wait_until 10 test -e "$S/runs"
    rmdir "$MNT/.quorum/leases/"service-*
    wait_until 10 test -e services/1
    kill -TERM "$GROUP"
    wait_until 10 gone services/1
}

# ---- work-queue.sh --------------------------------------------------------------------------------------------------------------

@test "work-queue.sh: each job is done once, by whichever worker" {
    local i
    mkdir -p queue/todo
    for i in $(seq 20); do echo "$i" >"queue/todo/$i"; done
    for i in 1 2 3; do background env ONCE=1 "$QFS_EXAMPLES/work-queue.sh" queue bash -c 'cat "$1" >>"$0"' "$S/done"; done
    wait_until 30 eval '[ "$(ls queue/done | wc -l)" = 20 ]'
    same jobs "$(sort -n "$S/done" | paste -sd' ')" "$(seq -s' ' 20)"
    wait_until 10 eval '[ -z "$(ls "$MNT/.quorum/leases")" ]'
    same "left behind" "$(ls queue/doing queue/workers queue/todo queue/failed | grep -v : | tr -d '\n')" ''
}

@test "work-queue.sh: a job of a worker that is killed is done by another one, and finished once" {
    local i
    mkdir -p queue/todo
    for i in $(seq 6); do echo "$i" >"queue/todo/$i"; done
    background env TTL=3 "$QFS_EXAMPLES/work-queue.sh" queue bash -c 'sleep 1000'
    wait_until 10 eval '[ -n "$(find queue/doing -type f)" ]'
    kill -9 -- "-$GROUP"
    background env TTL=3 "$QFS_EXAMPLES/work-queue.sh" queue bash -c 'cat "$1" >>"$0"' "$S/done"
    wait_until 20 eval '[ "$(ls queue/done | wc -l)" = 6 ]'
    same jobs "$(sort -n "$S/done" | paste -sd' ')" '1 2 3 4 5 6'
    kill -TERM "$GROUP"
    wait_until 10 eval '[ -z "$(ls "$MNT/.quorum/leases")" ]'
}

@test "work-queue.sh: a worker that was believed dead does not finish what another one has" {
    mkdir -p queue/todo
    echo 1 >queue/todo/1
    background env TTL=3 "$QFS_EXAMPLES/work-queue.sh" queue bash -c 'until [ -e "$0" ]; do sleep 0.05; done; echo slow >>"$1"' "$S/go" "$S/done"
    wait_until 10 eval '[ -n "$(find queue/doing -type f)" ]'
    rmdir "$MNT/.quorum/leases/"worker-* # as if it had run out
    background env ONCE=1 "$QFS_EXAMPLES/work-queue.sh" queue bash -c 'echo other >>"$0"' "$S/done"
    wait_until 10 test -e queue/done/1
    touch "$S/go"
    wait_until 10 grep -q 'this run does not count' "$S/out"
    same finished "$(ls queue/done)" 1
}

# first NAME WHAT: the first NAME of the worker does WHAT, of which "$@" is the true one.
first() {
    mkdir -p "$S/bin"
    printf '#!/bin/bash\nset -- %s "$@"\n[ -e "%s" ] && exec "$@"\ntouch "%s"\n%s\n' "$(command -v "$1")" "$S/$1.once" "$S/$1.once" "$2" >"$S/bin/$1"
    chmod +x "$S/bin/$1"
}

@test "work-queue.sh: a move that was not answered, but took place, loses no job" {
    mkdir -p queue/todo
    echo 1 >queue/todo/1
    first mv '"$@"; exit 1'
    PATH=$S/bin:$PATH background "$QFS_EXAMPLES/work-queue.sh" queue bash -c 'cat "$1" >>"$0"' "$S/done"
    wait_until 10 test -e queue/done/1
    test -e "$S/mv.once"
    same jobs "$(cat "$S/done")" 1
}

@test "work-queue.sh: a worker whose directory was taken for a dead one's goes on" {
    background "$QFS_EXAMPLES/work-queue.sh" queue bash -c 'cat "$1" >>"$0"' "$S/done"
    wait_until 10 eval 'rmdir queue/doing/worker-*'
    echo 1 >new && mv new queue/todo/1
    wait_until 10 test -e queue/done/1
}

@test "work-queue.sh: a job that fails is put aside" {
    mkdir -p queue/todo
    echo 1 >queue/todo/1
    ONCE=1 within 20 "$QFS_EXAMPLES/work-queue.sh" queue false
    same failed "$(ls queue/failed)" 1
}

# ---- grant.sh -------------------------------------------------------------------------------------------------------------------

grant() { "$QFS_EXAMPLES/grant.sh" "$@"; }

@test "grant.sh: a token is good until its time is up" {
    local token other
    mkdir tokens
    token=$(grant "$MNT" "$t/tokens" 600 'for Alice')
    other=$(grant "$MNT" "$t/tokens" 600)
    same text "$(grant --check "$MNT" "$t/tokens" "$token")" 'for Alice'
    grant --extend "$MNT" "$t/tokens" "$token"
    ! grep -rq "$token" tokens && ! ls tokens | grep -q "$token" || fail "the token can be seen"
    ! grant --check "$MNT" "$t/tokens" nonsense || false
    echo 1 >"$MNT/.quorum/leases/grant-$(printf %s "$token" | sha256sum | cut -c 1-32)/ttl"
    wait_until 10 eval '! grant --check "$MNT" "$t/tokens" '"$token"
    ! grant --extend "$MNT" "$t/tokens" "$token" || false
    grant --check "$MNT" "$t/tokens" "$other"
    grant --revoke "$MNT" "$t/tokens" "$other"
    ! grant --check "$MNT" "$t/tokens" "$other" || false
    same tokens "$(ls tokens)" ''
}

@test "grant.sh: a bad time leaves nothing behind" {
    mkdir tokens
    allow_log 'a write was refused'
    ! grant "$MNT" "$t/tokens" soon || false
    same "leases and tokens" "$(ls "$MNT/.quorum/leases")$(ls tokens)" ''
    ! grant "$MNT" "$t/none" 10 || false
    same leases "$(ls "$MNT/.quorum/leases")" ''
}
