#!/bin/bash
# A subscriber: runs a command once for every message that is published in a directory, in order, and resumes where it stopped.
#
#   subscribe.sh MOUNTPOINT TOPIC STATE COMMAND [ARGUMENT...]
#
# A message is a file of TOPIC (a directory below the mount point), whose name nobody used before:
#
#   echo "the message" > MOUNTPOINT/TOPIC/$(date +%s%N)-$HOSTNAME
#
# The command gets the message on its standard input, as it was when it was published, and its revision in $REVISION. STATE is a file that
# remembers the last revision that was handled; a command that fails ends the subscriber, and gets the same message again next time.
# Messages older than the first start are not handled. Exit status 3: messages have been compacted before they were handled.
set -euo pipefail

[ $# -ge 4 ] || { echo "usage: $0 MOUNTPOINT TOPIC STATE COMMAND [ARGUMENT...]" >&2; exit 2; }
quorum=$1/.quorum topic=$2 state=$3
shift 3
[ -s "$state" ] || cat "$quorum/revision" >"$state"
remember() { echo "$1" >"$state.new" && mv "$state.new" "$state"; }

if ! exec {events}<"$quorum/since/$(cat "$state")/$topic/.events"; then
    echo "subscribe: what followed revision $(cat "$state") is gone" >&2
    exit 3
fi 2>/dev/null
last=
while IFS=$'\t' read -r -u "$events" rev event name _; do
    [ -z "$last" ] || [ "$last" = "$rev" ] || remember "$last" # all of that revision has been handled
    last=$rev
    [ "$event" = put ] || continue
    REVISION=$rev "$@" <"$quorum/at/$rev/$(printf '%b' "$name")"
    [ "$rev" != "$(cat "$quorum/revision")" ] || remember "$rev" # nothing follows for now
done
[ -z "$last" ] || remember "$last"
