# A cluster of one that grows while it is mounted: what the kernel was told to keep is taken back before the second member can change
# anything, and a lock that was held goes on to be.
load ../lib/harness
load ../lib/cluster
setup_file() { cluster_file 1; }
teardown_file() { cluster_file_end; }
setup() { enter_cluster_test; }
teardown() {
    actors_end
    exec 8<&-
    leave_cluster_test
}

requests() { sed -n 's/^quorumfs_requests_total //p' "$M1/.quorum/metrics"; }
stat_asks() { # the kernel asks something to answer a stat
    local before between
    before=$(requests)
    between=$(requests)
    stat "$1" >/dev/null
    (($(requests) - between > between - before))
}

@test "a cluster of one grows, and what the kernel kept is forgotten" {
    allow_log '2 voters tolerate'
    local port addr=${CLUSTER_LIST#1=}
    port=$((${addr##*:} + 1))
    until port_is_free $port; do port=$((port + 1)); done
    mkdir "$M1/d"
    write_on 1 f old
    write_on 1 d/g old
    stat "$M1/f" "$M1/d/g" >/dev/null
    ! stat_asks "$M1/f" || fail "the kernel keeps nothing on a member that is alone"
    actor_start A
    A open 3 "$M1/f" w
    A flock 3 x
    exec 8<"$M1/d"
    # The second member.
    timeout 60 "$QUORUMFS" init "$QFS_ROOT/d2" --join "$addr" --listen "127.0.0.1:$port" >/dev/null
    CLUSTER_SIZE=2 M2=$QFS_ROOT/m2
    members_start 2
    on 2 wait_until 10 file_is 2 f old
    grep -q 'there are other members' "$M1.log" || fail "the first member does not know that it is not alone"
    stat_asks "$M1/f" || fail "the kernel still keeps what it was told before"
    timeout 60 python3 "$BATS_TEST_DIRNAME/reads.py" "$M2" "$M1" "$T" 10
    timeout 60 python3 "$BATS_TEST_DIRNAME/reads.py" "$M1" "$M2" "$T.2" 10
    # What was kept for open descriptors, too.
    chmod 700 "$M2/d"
    same "mode by an open directory" "$(stat -L -c %a /proc/self/fd/8)" 700
    exec 8<&-
    # A lock that was held is the cluster's.
    ! flock -n "$M1/f" true || false
    ! flock -n "$M2/f" true || false
    A flock 3 u
    flock -n "$M2/f" true
    flock -n "$M1/f" true
    # And back.
    rmdir "$M1/.quorum/members/2"
    wait_until 10 grep -q 'this member is alone' "$M1.log"
    stat "$M1/f" >/dev/null
    stat "$M1/f" >/dev/null
    wait_until 10 eval '! stat_asks "$M1/f"' || fail "the kernel keeps nothing, although the member is alone again"
    flock -n "$M1/f" true
    allow_log 'removed'
    cd "$QFS_ROOT"
    actors_end
    on 2 wait_until 20 eval '[ -s "$MNT.exit" ]' || { tail -3 "$M2.log"; fail "the removed member goes on"; }
}
