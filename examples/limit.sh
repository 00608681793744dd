#!/bin/bash
# Runs a command when fewer than N of that name run in the whole cluster; waits its turn until then, in the order of arrival.
#
#   limit.sh LOCK N COMMAND [ARGUMENT...]
#
# LOCK is a name in MOUNTPOINT/.quorum/locks, whose N places are the locks LOCK.1 to LOCK.N. Who comes holds LOCK.queue until it has a place, so only
# the first in line looks for one. A place is free again when its command ends, dies, or its member is lost; a command whose
# script is killed is killed, too. Needs inotifywait.
set -euo pipefail

[ $# -ge 3 ] || { echo "usage: $0 LOCK N COMMAND [ARGUMENT...]" >&2; exit 2; }
lock=$1 n=$2
shift 2

places=()
for i in $(seq "$n"); do places+=("$lock.$i"); done
take_place() {
    local place
    for place in "${places[@]}"; do
        exec 8<"$place"
        ! flock -n 8 || return 0
    done
    return 1
}

exec 9<"$lock.queue"
flock 9
until take_place; do # a release that came before the watch is not told of: hence the second
    inotifywait -q -q -t 1 -e close_write "${places[@]}" 8<&- 9<&- || true
done
exec 9<&-
status=0
setpriv --pdeathsig KILL -- "$@" 8<&- || status=$?
exit $status
