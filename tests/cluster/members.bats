# Who belongs to the cluster: members that join, are promoted, removed, replaced, while somebody writes.
load ../lib/harness
load ../lib/cluster
setup_file() {
    export CLUSTER_SIZE=3
    root_file || return 1
    allow_log 'peer: (member [0-9]+ at|the connection of member|a connection)'
    allow_log 'replica: serving .* without a quorum'
    allow_log 'voters tolerate no more failures'
    allow_log 'cannot reserve inode numbers'
    export QUORUMFS_TEST_MARKER_BYTES=60000 # the log is forgotten soon, so that a member that is away needs the database
}
teardown_file() {
    local rc=0
    log_check || rc=1
    nothing_left || rc=1
    return $rc
}
setup() {
    needs_failpoints
    local id
    find_ports
    for id in $(members); do
        rm -rf "$QFS_ROOT/d$id" "$QFS_ROOT/m$id".*
        mkdir -p "$QFS_ROOT/m$id"
    done
    STOP=$QFS_ROOT/stop ACKED=$QFS_ROOT/acked
    rm -f "$STOP" "$ACKED"
    cd "$QFS_ROOT"
}
teardown() {
    local id rc=0
    touch "$STOP"
    cd /
    for id in $(members); do
        ! member_runs "$id" || timeout 60 umount "$QFS_ROOT/m$id" || rc=1
    done
    for id in $(members); do
        [ ! -s "$QFS_ROOT/m$id.pid" ] || on "$id" wait_until 30 test -s "$QFS_ROOT/m$id.exit" || rc=1
        ! on "$id" mounted || umount -l "$QFS_ROOT/m$id"
    done
    [ -z "${WRITER:-}" ] || wait "$WRITER"
    log_check || rc=1
    return $rc
}

# ---- Helpers --------------------------------------------------------------------------------------------------------------------

address() { tr , '\n' <<<"$CLUSTER_LIST" | sed -n "s/^$1=//p"; }
begin_alone() { # a cluster of one, with an address
    "$QUORUMFS" init "$QFS_ROOT/d1" --listen "$(address 1)" >/dev/null && members_start 1
}
join() { # join N THROUGH: makes the directory of N and says its id
    "$QUORUMFS" init "$QFS_ROOT/d$1" --join "$(address "$2")" --listen "$(address "$1")" >"$QFS_ROOT/out" || return 1
    sed -n 's/^joined the cluster as member \([0-9]*\) in .*/\1/p' "$QFS_ROOT/out"
}
fact() { timeout 5 cat "$QFS_ROOT/m$1/.quorum/members/$2/$3"; } # fact AT MEMBER FILE
is() { [ "$(fact "$1" "$2" role) $(fact "$1" "$2" state)" = "$3" ]; } # is AT MEMBER 'voter ok'
health_has() { timeout 5 grep -q "$2" "$QFS_ROOT/m$1/.quorum/health"; }

# writing N: writes there one file after the other until $STOP; each that was acknowledged is noted, each failure, too.
writing() {
    local i=0
    while [ ! -e "$STOP" ]; do
        i=$((i + 1))
        if printf '%s\n' "$i" | timeout 20 dd of="$QFS_ROOT/m$1/w$i" conv=fsync status=none 2>>"$QFS_ROOT/m1.errors"; then
            echo "$i" >>"$ACKED"
        else
            echo "failed $i" >>"$ACKED"
        fi
    done
}
written() { [ "$(wc -l <"$ACKED" 2>/dev/null || echo 0)" -ge "$1" ]; }
all_is_there() { # all_is_there N: no write has failed, and member N has them all
    local i
    ! grep failed "$ACKED" || { cat "$QFS_ROOT/m1.errors" >&2; return 1; }
    while read -r i; do
        file_is "$1" "w$i" "$i" || { fail "member $1 lacks w$i"; return 1; }
    done <"$ACKED"
}

# ---- Growing and shrinking ------------------------------------------------------------------------------------------------------

@test "one grows to three while somebody writes, and shrinks back, and no write fails" {
    begin_alone
    writing 1 3>&- &
    WRITER=$!
    wait_until 20 written 20
    same "id" "$(join 2 1)" 2
    members_start 2
    wait_until 30 is 1 2 'voter ok'
    same "id" "$(join 3 2)" 3
    members_start 3
    wait_until 30 is 1 3 'voter ok'
    wait_until 10 eval '[ "$(said_by 3 voters)" = 3 ]' # who is a voter may be the last to know
    wait_until 20 eval 'same health "$(cat "$QFS_ROOT/m3/.quorum/health")" ok 2>/dev/null'
    rmdir "$QFS_ROOT/m1/.quorum/members/3"
    on 3 daemon_gone 1
    on 3 expect_log 'the member stops: member [12] says: member 3 was removed'
    on 3 expect_log 'mount: the member stops'
    wait_until 5 health_has 1 'an odd number'
    rmdir "$QFS_ROOT/m2/.quorum/members/2" || true # the answer may come too late for the one that goes
    on 2 daemon_gone 1
    on 2 expect_log 'the member stops: member 1 says: member 2 was removed'
    same "members" "$(ls "$QFS_ROOT/m1/.quorum/members")" 1
    touch "$STOP"
    wait "$WRITER"
    all_is_there 1
}

@test "a member of several that was mounted without its address says so" {
    begin_alone
    same "id" "$(join 2 1)" 2
    members_start 2
    wait_until 30 is 1 2 'voter ok'
    member_stop 2
    member_stop 1
    rm "$QFS_ROOT/d1/quorumfs.conf"
    "$QUORUMFS" mount "$QFS_ROOT/d1" "$QFS_ROOT/m1" --timeout 500ms 2>"$QFS_ROOT/out" 3>&-
    same "said" "$(cat "$QFS_ROOT/out")" \
        "quorumfs: warning: member 1 has no network, and the cluster has others: its setting listen is empty; the others look for it at \"$(address 1)\""
    health_has 1 '^this member has no network: its setting listen is empty$'
    umount "$QFS_ROOT/m1"
    wait_until 10 flock -n "$QFS_ROOT/d1/lock" true
}

@test "a removed member does not start again" {
    begin_alone
    join 2 1
    members_start 2
    wait_until 30 is 1 2 'voter ok'
    rmdir "$QFS_ROOT/m1/.quorum/members/2"
    on 2 daemon_gone 1
    on 2 expect_log 'the member stops: member 1 says: member 2 was removed'
    ! on 2 mounted || umount -l "$QFS_ROOT/m2"
    on 2 daemon_launch
    on 2 daemon_gone 1
    on 2 expect_log 'member 2 was removed'
}

# ---- Replacing ------------------------------------------------------------------------------------------------------------------

@test "a wiped member comes back under a new id, with everything, and the old one is removed" {
    local i
    cluster_init; members_start; wait_leader >/dev/null
    write_on 1 before 1
    member_kill 3
    rm -rf "$QFS_ROOT/d3"
    for i in $(seq 1 60); do write_on 2 "f$i" "content of file $i, which fills the log with something"; done
    wait_until 10 eval 'join 3 1 >"$QFS_ROOT/id" 2>>"$QFS_ROOT/m1.errors"' # while 3 counts as there its address is taken
    same "id" "$(cat "$QFS_ROOT/id")" 4
    members_start 3
    wait_until 20 eval '[ "$(fact 1 4 role)" = standby ] || [ "$(fact 1 4 role)" = voter ]'
    wait_until 20 rmdir "$QFS_ROOT/m1/.quorum/members/3"
    wait_until 20 is 1 4 'voter ok'
    for i in $(seq 1 60); do file_is 3 "f$i" "content of file $i, which fills the log with something"; done
    write_on 3 after 3
    wait_until 10 everywhere after 3
}

@test "a member that was away for long gets the database, and its mount shows it" {
    local i
    cluster_init; members_start; wait_leader >/dev/null
    mkdir "$QFS_ROOT/m1/dir"
    member_kill 3
    head -c 200000 /dev/urandom | base64 >"$QFS_ROOT/m1/dir/large"
    for i in $(seq 1 60); do write_on 1 "dir/f$i" "$(head -c 2000 /dev/zero | tr '\0' x)$i"; done
    members_start 3
    wait_until 20 is 1 3 'voter ok'
    cmp "$QFS_ROOT/m1/dir/large" "$QFS_ROOT/m3/dir/large"
    same "names" "$(ls "$QFS_ROOT/m3/dir" | wc -l)" 61
    grep -q 'is installed' "$QFS_ROOT/m3.log"
    wait_until 20 eval '[ "$(cat "$QFS_ROOT/m1/.quorum/hash")" = "$(cat "$QFS_ROOT/m3/.quorum/hash")" ]'
    member_stop 3
    "$QUORUMFS" check "$QFS_ROOT/d3"
}

# ---- Roles and the leader -------------------------------------------------------------------------------------------------------

@test "roles are changed and leadership is handed over by writing a file" {
    local l f
    cluster_init; members_start; l=$(wait_leader)
    f=$(others "$l" | head -1)
    echo standby >"$QFS_ROOT/m$l/.quorum/members/$f/role"
    same role "$(fact "$l" "$f" role)" standby
    wait_until 5 eval '[ "$(said_by "$f" role)" = standby ]'
    write_on "$f" standby-writes 1
    wait_until 10 everywhere standby-writes 1
    echo voter >"$QFS_ROOT/m$f/.quorum/members/$f/role"
    wait_until 5 eval '[ "$(said_by "$f" role)" = follower ]'
    x "echo $f > $QFS_ROOT/m$l/.quorum/leader"
    wait_until 5 eval '[ "$(leader)" = "$f" ]'
}

@test "what would leave no healthy majority is refused with EBUSY" {
    local l f g
    cluster_init; members_start; l=$(wait_leader)
    f=$(others "$l" | head -1)
    g=$(others "$l" | tail -1)
    member_kill "$g"
    wait_until 10 is "$l" "$g" 'voter unreachable'
    fails_with 'Device or resource busy' rmdir "$QFS_ROOT/m$l/.quorum/members/$f"
    fails_with 'Device or resource busy' x "env printf standby > $QFS_ROOT/m$l/.quorum/members/$f/role"
    wait_until 10 health_has "$l" "member $g is unreachable"
    rmdir "$QFS_ROOT/m$l/.quorum/members/$g"
    on "$g" daemon_launch
    on "$g" daemon_gone 1
    on "$g" expect_log "member $g was removed"
}
