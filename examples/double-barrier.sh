#!/bin/bash
# A double barrier: N processes, on any machines, begin a command together, and go on together when all of them have finished it.
#
#   double-barrier.sh LOCK N COMMAND [ARGUMENT...]
#
# LOCK is a name in MOUNTPOINT/.quorum/locks that serves for one meeting, say with the number of a build in it. Each takes one of the locks LOCK.1 to
# LOCK.N and says there how far it is: come, all (have come, as it has seen), begun, done. One that dies before all have come is waited for, by another in its place; one that dies
# later counts as done. The exit status is the command's. Needs inotifywait.
set -euo pipefail

[ $# -ge 3 ] || { echo "usage: $0 LOCK N COMMAND [ARGUMENT...]" >&2; exit 2; }
lock=$1 n=$2
shift 2

places=()
for i in $(seq "$n"); do places+=("$lock.$i"); done
mine=
for place in "${places[@]}"; do
    exec 8<"$place"
    if flock -n 8; then
        mine=$place
        break
    fi
done
[ -n "$mine" ] || { echo "double-barrier: all $n places of $lock are taken" >&2; exit 1; }
say() { echo "$1" >"$mine"; } # at once: this process holds it
say come

said() { cat "${places[@]}" | paste -sd' '; } # a place that nobody has says nothing; fails without a quorum
all_have_come() { local all; all=$(said) && { [ "$(wc -w <<<"$all")" = "$n" ] || [[ $all == *begun* || $all == *done* ]]; }; }
all_know() { local all; all=$(said) && [[ $all != *come* ]]; } # else one that begins and dies at once would be waited for
all_are_done() { local all; all=$(said) && [[ $all != *come* && $all != *all* && $all != *begun* ]]; }
wait_until() { # what was told before the watch stood is seen after a second
    until "$1"; do inotifywait -q -q -t 1 -e close_write "${places[@]}" 8<&- || true; done
}

wait_until all_have_come
say all
wait_until all_know
say begun
status=0
"$@" 8<&- || status=$?
say 'done'
wait_until all_are_done
exit $status
