#!/bin/bash
# Publishes a directory: a directory of the tree becomes a copy of it in one revision. Readers anywhere see all of the old one or all of the new.
#
#   publish.sh SOURCE MOUNTPOINT PATH
#
# PATH is below the mount point. If somebody else has changed there what this has looked at meanwhile, nothing changes and the exit
# status is 1: look again, and try again. Needs rsync.
set -euo pipefail

[ $# -eq 3 ] || { echo "usage: $0 SOURCE MOUNTPOINT PATH" >&2; exit 2; }
src=$1 mnt=$2 path=$3
txn=$(mktemp -d "$mnt/.quorum/txn/publish-XXXXXX")
trap 'rmdir "$txn"' EXIT
mkdir -p "$txn/tree/$path"
# Only what differs is written, so only that gets a new version.
rsync -a --checksum --delete "$src/" "$txn/tree/$path/"
if ! /bin/echo > "$txn/commit"; then
    echo "publish: not done: $(cat "$txn/status")" >&2
    exit 1
fi
cat "$txn/status"
