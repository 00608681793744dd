#!/bin/bash
# Runs a command whenever something below a directory has changed, wherever in the cluster it was changed.
#
#   on-change.sh DIRECTORY COMMAND [ARGUMENT...]
#
# The command runs once at the beginning, and then once after each burst of changes. inotify is a hint: what counts is what the command then
# reads, which is at least as new as the change that woke it. Needs inotifywait (package inotify-tools).
set -euo pipefail

[ $# -ge 2 ] || { echo "usage: $0 DIRECTORY COMMAND [ARGUMENT...]" >&2; exit 2; }
dir=$1
shift
[ -d "$dir" ] || { echo "on-change: $dir is not a directory" >&2; exit 1; }

coproc WATCH { exec inotifywait -m -r -e close_write,create,delete,move,attrib --format x "$dir" 2>&1; }
exec {lines}<&"${WATCH[0]}"
watcher=$WATCH_PID
trap 'kill "$watcher" 2>/dev/null' EXIT
while read -r line <&"$lines" && [ "$line" != 'Watches established.' ]; do :; done
# From here on no change is missed, so the command may look.
"$@" || echo "on-change: $1 failed with status $?" >&2
while read -r _ <&"$lines"; do
    while read -r -t 0.1 _ <&"$lines"; do :; done # the rest of the burst
    "$@" || echo "on-change: $1 failed with status $?" >&2
done
echo "on-change: $dir is no longer watched" >&2
exit 1
