#!/bin/sh
# What the container runs: makes the data directory the first time, then mounts it in the foreground.
#
#   DATA   the data directory   (default /var/lib/quorumfs/data, on a volume)
#   MOUNT  where the tree shows (default /mnt/q; bind it with shared propagation so that the host and other containers see it)
#   INIT   words for `quorumfs init`, used when there is no data yet: "--id 1 --cluster 1=a:7400,2=b:7400,3=c:7400",
#          or "--join a:7400 --listen d:7400". Without it there has to be data.
# Member settings come from QUORUMFS_NAME variables.
set -eu
data=${DATA:-/var/lib/quorumfs/data} mount=${MOUNT:-/mnt/q} quorumfs=${QUORUMFS:-quorumfs}

if [ ! -e "$data/CURRENT" ] && [ -n "${INIT:-}" ]; then
    # The words are meant to be split.
    # shellcheck disable=SC2086
    "$quorumfs" init "$data" $INIT
fi
mkdir -p "$mount" 2>/dev/null || true # a dead mount of an earlier life is there, but cannot be looked at
exec "$quorumfs" mount -f -o nocreate "$data" "$mount"
