# Contenders on three members want one lock while members and contenders are killed, paused and cut off: no number twice, numbers grow, no
# waiter is forgotten, who came first gets it first.
#
# QFS_LOCK_ACQUISITIONS is how many there shall be (200), QFS_SEED repeats the faults.
load ../lib/harness
load ../lib/cluster
load ../lib/netns
load ../lib/trouble
setup_file() {
    # Whatever a member has sent is over before its locks are: timeout is shorter than session-ttl.
    export QUORUMFS_TIMEOUT=1s QUORUMFS_INSECURE=yes TROUBLE_TENTHS=70
    netns_file 3 && cluster_file 3 --session-ttl 3s
    allow_log 'commit: commit of .* failed: (timed out without a quorum|input/output error|stale)'
    allow_log 'lock: a lock on .* is lost'
    allow_log 'replica: '
    allow_log 'replay: replaced a worker that was stuck'
}
teardown_file() { netns_cluster_end; }
setup() { enter_cluster_test; }
teardown() { leave_cluster_test; }

storm() { # storm KIND FAULT...
    local kind=$1 seed=${QFS_SEED:-$RANDOM} n=${QFS_LOCK_ACQUISITIONS:-200} rc=0 storm
    shift
    write_on 1 storm 0
    wait_until 10 everywhere storm 0
    rm -f "$QFS_ROOT/storm.log" "$QFS_ROOT/trouble.log"
    within $((n + 240)) python3 "$BATS_TEST_DIRNAME/lockstorm.py" "$kind" "$n" 10 $((n + 60)) "$QFS_ROOT/storm.log" "$QFS_ROOT/trouble" "$M1" "$M2" "$M3" \
        >"$QFS_ROOT/storm.out" 2>&1 3>&- &
    storm=$!
    wait_until 60 eval '(($(grep -c number "$QFS_ROOT/storm.log") >= 100))' || true # without faults: the order of arrival
    trouble_during "$*" "$seed" wait $storm || rc=1
    cat "$QFS_ROOT/storm.out" >&3
    [ $rc = 0 ] || { fail "seed $seed: $(cat "$QFS_ROOT/storm.out") faults: $(cat "$QFS_ROOT/trouble.log")"; return 1; }
}

@test "flock: members are killed, paused, cut off" { storm flock kill pause unplug leader-kill leader-pause leader-unplug; }
@test "lockf: members are paused and cut off" { storm lockf pause unplug; }
@test "a named lock: members are killed, paused, cut off" { storm named kill pause unplug leader-pause; }
