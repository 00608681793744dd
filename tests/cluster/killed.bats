# kill -9 of members, all of them at once or whoever leads, while eight writers on three mounts run: what was acknowledged is there
# afterwards, whole, on each member. tests/crash/ackwriter.c says what counts as acknowledged and how it is looked at.
#
# QFS_ROUNDS is how often. Those whose member lives go on writing.
load ../lib/harness
load ../lib/cluster
setup_file() {
    cluster_file 3 || return 1
    allow_log 'commit: commit of .* failed: (timed out without a quorum|input/output error)'
    allow_log 'commit: uncommitted changes to .* are lost: the member stops' # the client is told, too
    for id in $(members); do mkdir "$QFS_ROOT/m$id/w$id" || return 1; done
}
teardown_file() { cluster_file_end; }
setup() { enter_cluster_test; }
teardown() { leave_cluster_test; }

# A program for each mount has its writers: three, three and two, in a directory of its own.
writers_start() {
    local id
    WRITERS=()
    for id in $(members); do
        within 120 ackwriter write "$QFS_ROOT/m$id/w$id" "$QFS_ROOT/state$id" "$RANDOM$id" $((id == 3 ? 2 : 3)) >"$QFS_ROOT/writer$id" 2>&1 3>&- &
        WRITERS+=($!)
    done
}

# writers_end [SIGNAL]: they end by themselves where the member is gone; the others are killed by it.
writers_end() {
    local pid rc=0
    for pid in "${WRITERS[@]}"; do
        [ $# = 0 ] || pkill -"$1" -P "$pid" || true
        wait "$pid" || rc=1
    done
    ((rc == 0)) || fail "a writer got an error that no death explains, or hung: $(cat "$QFS_ROOT"/writer?)"
}

acknowledged() { cat "$QFS_ROOT"/writer? | awk '{ n += $2 } END { print n + 0 }'; }

# Each member looks at what was written on the next one.
all_there() {
    local id next
    for id in $(members); do
        next=$((id % 3 + 1))
        within 60 ackwriter verify "$QFS_ROOT/m$next/w$id" "$QFS_ROOT/state$id" || { fail "written on member $id, read on member $next"; return 1; }
    done
}

a_while() { sleep "0.$(printf %03d $((RANDOM % 700 + 100)))"; }

@test "all members are killed at the same moment" {
    local round
    for round in $(seq "${QFS_ROUNDS:-3}"); do
        writers_start
        a_while
        all_killed
        writers_end
        members_start
        wait_leader >/dev/null
        all_there
    done
    echo "$round rounds, $(acknowledged) commits acknowledged, none lost" >&3
}

@test "whoever leads is killed" {
    local round leader
    for round in $(seq "${QFS_ROUNDS:-3}"); do
        leader=$(wait_leader)
        writers_start
        a_while
        member_kill "$leader"
        new_leader "$leader" >/dev/null
        a_while
        members_start "$leader"
        writers_end TERM
        all_there
    done
    echo "$round rounds, $(acknowledged) commits acknowledged, none lost" >&3
}
