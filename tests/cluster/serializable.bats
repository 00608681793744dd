# Transactions on three members, snapshots and plain calls beside them, while members die, sleep and lose their network: there is one order
# in which all of them can have happened, each at one instant between its beginning and its end, and it is the order of the revisions. txncheck decides;
# linear/txn-planted shows that it would notice. A commit whose result a client could not be told has one all the same: `status` says it later.
#
# QFS_SEED repeats a run's clients and faults (not the instants at which they meet); QFS_ROUNDS is how many histories (1), QFS_OPS how long
# each is (400).
load ../lib/harness
load ../lib/cluster
load ../lib/netns
load ../lib/trouble
setup_file() {
    export QUORUMFS_TIMEOUT=1s QUORUMFS_INSECURE=yes QFS_TIMEOUTS=wanted TROUBLE_TENTHS=${TROUBLE_TENTHS:-20}
    netns_file 3 && cluster_file 3
    allow_log 'commit: commit of .* failed: (timed out without a quorum|input/output error)'
    allow_log 'commit: uncommitted changes to .* are lost: the member stops' # the client is told, too
    allow_log 'replay: replaced a worker that was stuck' # a member that was paused thinks that it has waited for long
}
teardown_file() { netns_cluster_end; }
setup() { enter_cluster_test; }
teardown() { leave_cluster_test; }

# rounds KIND...: histories under these faults.
rounds() {
    local round seed h mounts=("$M1" "$M2" "$M3")
    for round in $(seq "${QFS_ROUNDS:-1}"); do
        seed=${QFS_SEED:-$RANDOM}
        h=$QFS_ROOT/$T.$round
        mkdir -p "$M1/$T.$round"
        txnload make 9 "$T.$round" "$M1"
        trouble_during "$*" "$seed" within 300 txnload run "$h" "$seed" 9 "${QFS_OPS:-400}" 9 20 "$T.$round" "${mounts[@]}" >&3 ||
            { fail "seed $seed: the load failed; faults: $(cat "$QFS_ROOT/trouble.log" 2>/dev/null)"; return 1; }
        within 150 txnload final "$h" 9 "$T.$round" "${mounts[@]}"
        txncheck "$h".* >"$h" || { fail "seed $seed: $(head -c 30000 "$h") $(grep -h '^#' "$h".* | head -100); faults: $(cat "$QFS_ROOT/trouble.log" 2>/dev/null)"; return 1; }
        echo "# $(tail -1 "$h")" >&3
    done
}

@test "without faults" { rounds; }
@test "members are killed" { rounds kill leader-kill; }
@test "members are paused" { rounds pause leader-pause; }
@test "members lose their network" { rounds unplug leader-unplug; }
@test "members end and come back" { rounds stop leader-stop; }
@test "a member is slow to apply" {
    needs_failpoints
    with_slow_member 2 rounds
}
@test "all of it" { rounds kill pause unplug stop leader-kill leader-pause leader-unplug leader-stop; }

# ---- What becomes of a commit that timed out ------------------------------------------------------------------------------------

# staged N: a transaction on member N that has read $T.read and made $T.made.
staged() {
    X=$QFS_ROOT/m$1/.quorum/txn/$T
    write_on "$1" "$T.read" before
    mkdir "$X"
    cat "$X/tree/$T.read" >/dev/null
    echo made >"$X/tree/$T.made"
}
times_out() { # its commit, and status says so
    fails_with 'timed out' bash -c "echo >$X/commit"
    same status "$(cat "$X/status")" unknown
    fails_with 'timed out' bash -c "echo >$X/commit" # asking once more is the same question
}
is_decided() { [ "$(cat "$X/status")" != unknown ]; }
is_committed() { # in the end: as told, once, everywhere
    wait_until 30 is_decided
    same status "$(cat "$X/status")" "committed $(fact "$M1/$T.made" mod_revision)"
    echo >"$X/commit"
    same version "$(fact "$M2/$T.made" version)" 1
    wait_until 10 everywhere "$T.made" made
    rmdir "$X"
}
is_refused() { # in the end: nothing of it is there
    wait_until 30 is_decided
    same status "$(cat "$X/status")" "conflict $T.read"
    fails_with 'Operation canceled' bash -c "echo >$X/commit"
    for i in $(members); do absent "$QFS_ROOT/m$i/$T.made"; done
    rmdir "$X"
}

@test "a follower that cannot reach the leader does not know, and learns that it was committed" {
    local f
    f=$(others "$(wait_leader)" | head -1)
    staged "$f"
    unplug "$f"
    times_out
    plug "$f"
    is_committed
}

@test "a follower that cannot reach the leader does not know, and learns that others were first" {
    local l f
    l=$(wait_leader)
    f=$(others "$l" | head -1)
    staged "$f"
    unplug "$f"
    times_out
    write_on "$l" "$T.read" after
    plug "$f"
    is_refused
}

@test "a leader that is cut off does not know, and learns that others were first" {
    local l n
    l=$(wait_leader)
    staged "$l"
    unplug "$l"
    times_out
    n=$(new_leader "$l")
    write_on "$n" "$T.read" after
    plug "$l"
    is_refused
}

@test "a leader that is cut off does not know, and its transaction is committed under the next one" {
    local l
    l=$(wait_leader)
    staged "$l"
    unplug "$l"
    times_out
    new_leader "$l" >/dev/null
    plug "$l"
    is_committed
}

@test "the leader is killed with the commit in hand" {
    local l f
    l=$(wait_leader)
    f=$(others "$l" | head -1)
    staged "$f"
    member_pause "$l" # so that it has the request, and does nothing
    (echo >"$X/commit") 2>/dev/null || true # the next leader may have it soon enough, or not
    member_kill "$l"
    new_leader "$l" >/dev/null
    members_start "$l"
    is_committed
}

has_no_leader() { ! [[ $(said_by "$1" leader) =~ ^[1-9] ]]; }
@test "without a leader it is not begun: the transaction is open still" {
    local l f
    l=$(wait_leader)
    staged "$l"
    for f in $(others "$l"); do member_pause "$f"; done
    wait_until 20 has_no_leader "$l"
    fails_with 'timed out' bash -c "echo >$X/commit"
    same status "$(cat "$X/status")" open
    for f in $(others "$l"); do member_resume "$f"; done
    wait_until 20 bash -c "echo >$X/commit"
    is_committed
}
