# Locks of a member that is away for so long that it gets the database of others, but not for session-ttl: what it was granted meanwhile no
# event tells it.
load ../lib/harness
load ../lib/cluster
load ../lib/netns
setup_file() {
    export QUORUMFS_INSECURE=yes
    export QUORUMFS_TEST_MARKER_BYTES=60000 # the log is forgotten soon, so that a member that is away needs the database
    netns_file 3 && cluster_file 3 --session-ttl 120s
}
teardown_file() { netns_cluster_end; }
setup() {
    needs_failpoints
    enter_cluster_test
}
teardown() {
    local id
    actors_end
    for id in $(members); do plug "$id"; done
    leave_cluster_test
}

is_unreachable() { [ "$(cat "$QFS_ROOT/m$1/.quorum/members/$2/state")" = unreachable ]; } # is_unreachable AT MEMBER

@test "who waits, and who holds, on a member whose database is replaced" {
    local i f l
    l=$(wait_leader)
    f=$(others "$l" | head -1)
    write_on "$l" f x
    write_on "$l" g x
    everywhere f x
    everywhere g x
    actor_start A
    actor_start B
    actor_start C
    A open 3 "$QFS_ROOT/m$l/f" +
    B open 3 "$QFS_ROOT/m$f/f" +
    C open 3 "$QFS_ROOT/m$f/g" +
    A flock 3 x
    C flock 3 x
    actor_begin B flockw 3 x
    waits "${ACTOR_PID[B]}"
    write_on "$f" queued x # after the request
    unplug "$f"
    A close 3
    wait_until 60 is_unreachable "$l" "$f"
    head -c 200000 /dev/urandom | base64 >"$QFS_ROOT/m$l/large"
    for i in $(seq 1 60); do write_on "$l" "f$i" "$(head -c 2000 /dev/zero | tr '\0' x)$i"; done
    ! flock -n "$QFS_ROOT/m$l/f" true || false
    plug "$f"
    wait_until 30 grep -q 'is installed' "$QFS_ROOT/m$f.log"
    actor_end B
    B pread 3 0 1
    C pread 3 0 1
    ! grep 'is lost' "$QFS_ROOT/m$f.log" || false
    B close 3
    wait_until 5 flock -n "$QFS_ROOT/m$l/f" true
    ! flock -n "$QFS_ROOT/m$l/g" true || false
    C close 3
    wait_until 5 flock -n "$QFS_ROOT/m$l/g" true
}
