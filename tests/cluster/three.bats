# Three members: one tree, whoever is there.
load ../lib/harness
load ../lib/cluster
setup_file() { cluster_file 3; }
teardown_file() { cluster_file_end; }
setup() { enter_cluster_test; }
teardown() { leave_cluster_test; }

@test "a write on each member is read on each other" {
    local id
    for id in $(members); do
        write_on "$id" "$T.$id" "from $id"
        everywhere "$T.$id" "from $id"
    done
}

@test "what was acknowledged on one member is read on another at once" {
    local i
    for i in $(seq 20); do
        write_on $((i % 3 + 1)) "$T" "$i"
        everywhere "$T" "$i"
    done
}

@test "a follower that was killed comes back with what it missed" {
    local l f
    l=$(wait_leader)
    f=$(others "$l" | head -1)
    write_on "$f" "$T.before" before
    member_kill "$f"
    write_on "$l" "$T.missed" missed
    members_start "$f"
    everywhere "$T.before" before
    everywhere "$T.missed" missed
}

@test "without its leader the cluster goes on, and it comes back as a follower" {
    local old f
    old=$(wait_leader)
    write_on "$old" "$T.before" before
    member_kill "$old"
    new_leader "$old" >/dev/null
    for f in $(others "$old"); do
        write_on "$f" "$T.$f" "by $f"
        everywhere "$T.$f" "by $f"
    done
    everywhere "$T.before" before
    members_start "$old"
    [ "$(wait_leader)" != "$old" ] || fail "member $old leads again"
    for f in $(others "$old"); do everywhere "$T.$f" "by $f"; done
    write_on "$old" "$T.after" after
    everywhere "$T.after" after
}

@test "a leader that ends cleanly leaves no gap" {
    local old f
    old=$(wait_leader)
    f=$(others "$old" | head -1)
    member_stop "$old"
    write_on "$f" "$T" after
    members_start "$old"
    everywhere "$T" after
}

@test "a leader that was paused does not show what is out of date" {
    local old f
    old=$(wait_leader)
    write_on "$old" "$T" old
    member_pause "$old"
    new_leader "$old"
    f=$(others "$old" | head -1)
    write_on "$f" "$T" new
    member_resume "$old"
    everywhere "$T" new
}

@test "without a quorum requests fail in time, and what needs none works" {
    local l f began=$SECONDS
    l=$(wait_leader)
    for f in $(others "$l"); do member_kill "$f"; done
    wait_until 20 eval '[ "$(said_by '"$l"' role)" != leader ]'
    fails_with 'Connection timed out' write_on "$l" "$T" x
    fails_with 'Connection timed out' timeout 60 cat "$QFS_ROOT/m$l/$T.none"
    allow_log 'commit: commit of .* failed: timed out without a quorum'
    timeout 30 cat "$QFS_ROOT/m$l/.quorum/status" >/dev/null
    ((SECONDS - began < 90 * QFS_TIME_SCALE)) || fail "took $((SECONDS - began)) s"
    members_start $(others "$l")
    wait_leader >/dev/null
    write_on "$l" "$T" y
    everywhere "$T" y
}

@test "what was acknowledged survives the kill of all members at once" {
    local i id
    for i in 1 2 3; do
        for id in $(members); do write_on "$id" "$T.$i.$id" "$i $id"; done
        all_killed
        members_start
        wait_leader >/dev/null
        for id in $(members); do everywhere "$T.$i.$id" "$i $id"; done
    done
}
