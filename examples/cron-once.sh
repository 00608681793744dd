#!/bin/bash
# A job of cron that runs on one machine: put the same line into the crontab of all of them.
#
#   cron-once.sh MOUNTPOINT NAME SECONDS COMMAND [ARGUMENT...]
#
#   7 2 * * *  root  /usr/share/doc/quorumfs/examples/cron-once.sh /mnt/q nightly 86400 /usr/local/bin/nightly
#
# Time is cut into slices of SECONDS, and in each slice the command runs at most once in the cluster, on whichever machine comes first; it never runs
# twice at the same time. When that machine dies meanwhile, the next slice is the next try. MOUNTPOINT/cron/NAME has the last slice that was begun.
set -euo pipefail

[ $# -ge 4 ] || { echo "usage: $0 MOUNTPOINT NAME SECONDS COMMAND [ARGUMENT...]" >&2; exit 2; }
mnt=$1 name=$2 slice=$(($(date +%s) / $3))
shift 3

exec 9<"$mnt/.quorum/locks/cron-$name"
flock 9 # until whoever runs it has ended
mkdir -p "$mnt/cron"
last=$(cat "$mnt/cron/$name" 2>/dev/null || echo 0)
[ "$slice" -gt "$last" ] || exit 0
echo "$slice" >"$mnt/cron/$name"
sync "$mnt/cron/$name" # a shell does not tell when a close fails; this does
"$@" 9<&-
