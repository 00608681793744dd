#!/bin/bash
# events.sh [SECONDS [REVISIONS]]: transactions, streams and compaction on one member: 1,000 files of 256 bytes published by one, beside plain
# cp; what 990 open streams cost a writer, and one that is 500,000 revisions behind; what their compaction costs it. Needs root, /dev/fuse,
# python3 and a release build. Never fails on a figure.
set -u
SECS=${1:-3} REVISIONS=${2:-500000}
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
QUORUMFS=${QUORUMFS:-$ROOT/build/release/fs/quorumfs} TREELOAD=${TREELOAD:-$ROOT/build/release/tests/bench/treeload}

WORK=$(mktemp -d "${TMPDIR:-/tmp}/quorumfs-bench.XXXXXX")
MNT=$WORK/mnt Q=$WORK/mnt/.quorum READER=
mkdir "$MNT" "$WORK/src"
trap 'cd /; [ -z "$READER" ] || kill $READER; umount "$MNT" 2>/dev/null || umount -l "$MNT" 2>/dev/null; rm -rf --one-file-system "$WORK"' EXIT
trap 'exit 130' INT TERM
ms() { echo $((($(date +%s%N) - $1) / 1000000)); }

"$QUORUMFS" mount "$WORK/data" "$MNT" >/dev/null || exit 1
for ((i = 0; i < 1000; i++)); do head -c 256 /dev/zero >"$WORK/src/f$i"; done
for round in 1 2 3; do
    mkdir "$Q/txn/bench"
    t=$(date +%s%N)
    cp -r "$WORK/src" "$Q/txn/bench/tree/txn$round"
    staged=$(ms "$t") t2=$(date +%s%N)
    echo >"$Q/txn/bench/commit"
    echo "1,000 files by a transaction: cp $staged ms, commit $(ms "$t2") ms, $(ms "$t") us a file"
    rmdir "$Q/txn/bench"
    t=$(date +%s%N)
    cp -r "$WORK/src" "$MNT/plain$round"
    echo "1,000 files by plain cp: $(ms "$t") ms"
done

mkdir "$MNT/k"
echo "revisions:$((REVISIONS * 10))" >"$Q/config/retain"
echo 8G >"$Q/config/quota"
"$TREELOAD" fill -n 16 -k 10000 -N fill "$MNT/k"
writer() { "$TREELOAD" own -n 1 -d "$SECS" -N "$1" "$MNT/k"; }
reader_ends() { kill $READER; wait $READER 2>/dev/null; READER=; }

for round in 1 2 3; do
    writer alone
    python3 - "$Q" "$WORK/open" <<'P' &
import os, resource, select, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))
p = select.poll()
for i in range(990):
    p.register(os.open('%s/watch/service/%d/.events' % (sys.argv[1], i), os.O_RDONLY | os.O_NONBLOCK), select.POLLIN)
open(sys.argv[2], 'w').close()
while True:
    p.poll()
P
    READER=$!
    until [ -e "$WORK/open" ]; do kill -0 $READER || exit 1; done
    writer 990-streams
    reader_ends
    rm "$WORK/open"
done

while [ "$(cat "$Q/revision")" -lt "$REVISIONS" ]; do "$TREELOAD" kept -n 64 -d 5 -N history "$MNT/k" >/dev/null || exit 1; done
t=$(date +%s%N)
head -n "$REVISIONS" "$Q/since/0/.events" >/dev/null
echo "$REVISIONS revisions read by who is behind: $(ms "$t") ms"
for round in 1 2 3; do
    writer alone
    python3 - "$Q/since/0/.events" "$REVISIONS" <<'P' & # and when it has caught up, once more
import os, sys
while True:
    fd, n = os.open(sys.argv[1], os.O_RDONLY), 0
    while n < int(sys.argv[2]):
        n += os.read(fd, 1 << 17).count(b'\n')
    os.close(fd)
P
    READER=$!
    writer one-catching-up
    reader_ends
done

writer alone
(sleep 0.5; cat "$Q/revision" >"$Q/compact") &
writer compaction
wait
writer compaction-later
