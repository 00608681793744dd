#!/bin/bash
# crash.sh [ROUNDS [SEED]]: kills a mounted member again and again while writers run, and after each death mounts the same directory
# and looks whether every acknowledged commit is there, whole. A death is kill -9 at a random moment, or at a named point of the
# program (QUORUMFS_FAILPOINTS): in the middle of an apply, a checkpoint, a compaction, a marker snapshot, or while starting.
# The seed is printed; the same seed makes the same decisions (not the same timing).
set -u
ROUNDS=${1:-200} SEED=${2:-$(date +%s%N | cut -c8-16)}
. "$(dirname "${BASH_SOURCE[0]}")/../lib/harness.bash"

POINTS=(store.apply store.commit store.committed store.checkpoint store.compact replica.propose replica.committed replica.store
    replica.applied)
declare -A DEATHS=()
STARTED=$SECONDS

# ---- Helpers --------------------------------------------------------------------------------------------------------------------

draw() { # draw N: a number below N into DRAWN
    STATE=$(((STATE * 1103515245 + 12345) & 0x7fffffff))
    DRAWN=$((STATE / 65536 % $1))
}

give_up() {
    echo "round $round (seed $SEED): $*"
    echo "how it died: $how"
    tail -20 "$MNT.log"
    [ -z "${KEEP:-}" ] || { cp -a "$DIR" "$KEEP/" && echo "the data directory is in $KEEP"; }
    cd /
    cleanup "$QFS_ROOT"
    exit 1
}

await_death() { # await_death MILLISECONDS: not polled too eagerly, as there are two cores
    local end=$(($(date +%s%N) + $1 * QFS_TIME_SCALE * 1000000))
    until [ -s "$MNT.exit" ]; do
        (($(date +%s%N) <= end)) || return 1
        sleep 0.02
    done
}

# start_again [FAILPOINTS]: a point may kill it while it starts; then it starts without.
start_again() {
    umount -l "$MNT" 2>/dev/null
    if [ -n "${1:-}" ]; then
        QUORUMFS_FAILPOINTS=$1 daemon_start 2>"$QFS_ROOT/start.err" && return
        DEATHS[starting]=$((${DEATHS[starting]:-0} + 1))
        await_death 5000 || give_up "did not start, and did not die: $(cat "$QFS_ROOT/start.err")"
        umount -l "$MNT" 2>/dev/null
    fi
    daemon_start || give_up "does not start again"
}

verify() { within 20 ackwriter verify "$MNT" "$QFS_ROOT/state"; }

verify_or_again() { # a point may kill it while it is looked at
    verify && return
    if [ -s "$MNT.exit" ]; then
        start_again
        verify && return
    fi
    give_up "acknowledged commits are missing, or what is there is not whole"
}

check() {
    "$QUORUMFS" check "$DIR" >"$QFS_ROOT/check" 2>&1 || { cat "$QFS_ROOT/check"; give_up "check found damage"; }
}

# choose_death: sets points, for the next daemon, and how. Marker snapshots are rare, so whatever else is drawn may meet one as well.
choose_death() {
    points= how=random
    [ "${QFS_FAILPOINTS:-1}" = 1 ] || return 0
    draw 10
    if ((DRAWN >= 6)); then
        draw ${#POINTS[@]}
        how=${POINTS[DRAWN]}
        case $how in
            store.checkpoint | store.compact) draw 3 ;;
            *) draw 300 ;;
        esac
        points=$how=crash@$((DRAWN + 1)),
    fi
    draw 4
    case $DRAWN in
        0) points+=replica.marker=crash@1 how+=', or at a marker' ;;
        1) points+=replica.marked=crash@1 how+=', or after a marker' ;;
    esac
}

write_and_die() {
    local big=0 writer rc=0
    draw 2
    ((DRAWN)) || big=1
    within 60 ackwriter write "$MNT" "$QFS_ROOT/state" "$SEED$round" 8 $big >"$QFS_ROOT/writer" 2>&1 &
    writer=$!
    draw 200
    sleep 0.$(printf %03d $((DRAWN + 30)))
    draw 3
    ((DRAWN)) || [ -s "$MNT.exit" ] || (timeout 5 bash -c "r=\$(cat $MNT/.quorum/revision) && echo \$((r - 50)) > $MNT/.quorum/compact") 2>/dev/null
    [[ $how == random* ]] || await_death 300 || how=random
    if [ -s "$MNT.exit" ]; then
        how=${how#random, or } # it met the other point
    else
        kill -9 "$(daemon_pid)" 2>/dev/null
    fi
    await_death 10000 || give_up "kill -9 did not end it"
    [ "$(cat "$MNT.exit")" = 137 ] || give_up "it ended by itself with status $(cat "$MNT.exit")"
    wait $writer || rc=$?
    ((rc == 0)) || { cat "$QFS_ROOT/writer"; give_up "a writer got an error that a death does not explain, or hung (status $rc)"; }
    how=${how%%,*}
    DEATHS[$how]=$((${DEATHS[$how]:-0} + 1))
}

# ---- The run ---------------------------------------------------------------------------------------------------------------------

root_file || exit 1
trap 'cd /; cleanup "$QFS_ROOT"' EXIT
trap 'exit 130' INT TERM
echo "seed $SEED, $ROUNDS rounds"
STATE=$((SEED % 0x7fffffff)) points= how=random round=0
daemon_start -o retain=revisions:2000 || exit 1
for ((round = 1; round <= ROUNDS; round++)); do
    write_and_die
    umount -l "$MNT" 2>/dev/null
    draw 5
    ((DRAWN)) || check
    choose_death
    start_again "$points"
    verify_or_again
done
daemon_stop || give_up "no clean end"
check
start_again
verify_or_again
daemon_stop || give_up "no clean end"
log_check || give_up "unexpected lines in the log"
marker=$(cd "$DIR/raft" && ls snapshot-*.meta 2>/dev/null | tail -1)
acknowledged=$(cut -d' ' -f2 "$QFS_ROOT/writer")
nothing_left || exit 1
echo "$ROUNDS deaths in $((SECONDS - STARTED)) s, $acknowledged commits acknowledged, none lost; last marker: ${marker:-none}"
for how in "${!DEATHS[@]}"; do echo "  ${DEATHS[$how]} $how"; done | sort -rn
