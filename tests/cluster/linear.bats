# What clients on three members see while members die, sleep and lose their network can be explained by one order of all calls, each at
# one instant between its beginning and its end. lincheck decides; linear/planted shows that it would notice.
#
# QFS_SEED repeats a run's clients and faults (not the instants at which they meet); QFS_ROUNDS is how often (20
# histories a round; without it there are 200 in all).
load ../lib/harness
load ../lib/cluster
load ../lib/netns
load ../lib/trouble
setup_file() {
    export QUORUMFS_TIMEOUT=2s QUORUMFS_INSECURE=yes QFS_TIMEOUTS=wanted
    netns_file 3 && cluster_file 3
    allow_log 'commit: commit of .* failed: (timed out without a quorum|input/output error)'
    allow_log 'commit: uncommitted changes to .* are lost: the member stops' # the client is told, too
}
teardown_file() { netns_cluster_end; }
setup() { enter_cluster_test; }
teardown() { leave_cluster_test; }

# rounds KIND...: histories under these faults. One with very many calls of unknown outcome may be too hard
# to decide; that must be rare.
rounds() {
    local round seed h mounts=("$M1" "$M2" "$M3") undecided=0
    for round in $(seq "${QFS_ROUNDS:-1}"); do
        seed=${QFS_SEED:-$RANDOM}
        h=$QFS_ROOT/$T.$round
        mkdir -p "$M1/$T.$round"
        trouble_during "$*" "$seed" within 300 linload run "$h" "$seed" 4 200 20 20 "$T.$round" "${mounts[@]}" ||
            { fail "seed $seed: the load failed; faults: $(cat "$QFS_ROOT/trouble.log" 2>/dev/null)"; return 1; }
        within 150 linload final "$h" 20 "$T.$round" "${mounts[@]}"
        lincheck "$h".* >"$h" || true
        case $(tail -1 "$h") in
            *': linearizable') ;;
            *': undecided') ((++undecided <= 1 + round / 20)) || { fail "$undecided of $round rounds could not be decided"; return 1; } ;;
            *) fail "seed $seed: $(head -c 30000 "$h") $(grep -h '^#' "$h".* | head -100); faults: $(cat "$QFS_ROOT/trouble.log")"; return 1 ;;
        esac
        tail -1 "$h" >&3
    done
}

twice() { QFS_ROUNDS=${QFS_ROUNDS:-2} rounds "$@"; }

@test "without faults" { rounds; }
@test "members are killed" { twice kill leader-kill; }
@test "members are paused" { rounds pause leader-pause; }
@test "members lose their network" { twice unplug leader-unplug; }
@test "members end and come back" { rounds stop leader-stop; }
@test "a member is slow to apply" {
    needs_failpoints
    with_slow_member 2 rounds
}
@test "all of it" { twice kill pause unplug stop leader-kill leader-pause leader-unplug leader-stop; }
