#!/bin/bash
# A job of cron that runs on one machine: put the same line into the crontab of all of them.
#
#   cron-once.sh MOUNTPOINT NAME SECONDS COMMAND [ARGUMENT...]
#
#   7 2 * * *  root  /usr/share/doc/quorumfs/examples/cron-once.sh /mnt/q nightly 86400 /usr/local/bin/nightly
#
# Time is cut into slices of SECONDS, and in each slice the command runs at most once in the cluster, on whichever machine comes first. It does not run
# twice at the same time, unless a machine that runs it is cut off for longer than session-ttl; it is killed with this script. When that machine dies
# meanwhile, the next slice is the next try. MOUNTPOINT/cron/NAME has the last slice that was begun.
set -euo pipefail

[ $# -ge 4 ] || { echo "usage: $0 MOUNTPOINT NAME SECONDS COMMAND [ARGUMENT...]" >&2; exit 2; }
mnt=$1 name=$2 slice=$(($(date +%s) / $3))
shift 3

exec 9<"$mnt/.quorum/locks/cron-$name"
flock 9 # until whoever runs it has ended
mkdir -p "$mnt/cron"
txn=$(mktemp -d "$mnt/.quorum/txn/cron-XXXXXX")
trap 'rmdir "$txn"' EXIT
last=$(cat "$txn/tree/cron/$name" 2>/dev/null || echo 0)
[ "$slice" -gt "$last" ] || exit 0
echo "$slice" >"$txn/tree/cron/$name"
echo >"$txn/commit" # fails when somebody else has begun one since we looked, although we had the lock
trap - EXIT
rmdir "$txn"
setpriv --pdeathsig KILL -- "$@" 9<&-
