#!/bin/bash
# Runs a command on the leader only: of all machines that run this, one is elected; when it ends, dies or is cut off, the next one is.
#
#   leader-election.sh LOCK VALUE COMMAND [ARGUMENT...]
#
# LOCK is a file of MOUNTPOINT/.quorum/locks; VALUE is what others read there to find the leader, say its address. The command finds its fencing
# token in $TOKEN: a transaction with `lock NAME = TOKEN` among its requirements does nothing once somebody else leads.
# Ends with the command, and resigns; a command whose script is killed is killed, too. When the lock is lost (this member was cut off for longer
# than session-ttl), the command is ended, first with SIGTERM and after a second with SIGKILL, and the exit status is 1: start this again to campaign
# anew, as systemd does with Restart=always.
set -euo pipefail

[ $# -ge 3 ] || { echo "usage: $0 LOCK VALUE COMMAND [ARGUMENT...]" >&2; exit 2; }
lock=$1 value=$2
shift 2

exec 9>"$lock" # waits until this one is elected
echo "$value" >&9
TOKEN=$(getfattr --absolute-names --only-values -n user.quorum.token "$lock")
export TOKEN
flock -n 9 || { echo "leader-election: $lock is lost" >&2; exit 1; } # then the token may be another one's

setpriv --pdeathsig KILL -- "$@" 9>&- &
command=$!
trap 'kill "$command" 2>/dev/null && wait "$command" || true' EXIT # it has ended before another one leads
trap 'exit 143' TERM
trap 'exit 130' INT
while :; do
    sleep 1 9>&- &
    status=0
    wait -n -p ended "$command" $! || status=$?
    [ "$ended" != "$command" ] || exit $status
    if ! flock -n 9; then # asks nobody: the member knows whether this descriptor still holds the lock
        echo "leader-election: $lock is lost: ending $1" >&2
        kill "$command" 2>/dev/null || true
        sleep 1
        kill -9 "$command" 2>/dev/null || true
        exit 1
    fi
done
