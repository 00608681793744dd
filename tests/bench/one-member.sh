#!/bin/bash
# one-member.sh [SECONDS]: the figures of one member on this machine, without anything to compare with but the disk itself.
# Needs root, /dev/fuse and a release build; QUORUMFS and TREELOAD name the programs. Never fails on a figure.
set -u
SECS=${1:-2}
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
QUORUMFS=${QUORUMFS:-$ROOT/build/release/fs/quorumfs} TREELOAD=${TREELOAD:-$ROOT/build/release/tests/bench/treeload}
FILES=${FILES:-100000}
unset BENCH_SYS

WORK=$(mktemp -d "${TMPDIR:-/tmp}/quorumfs-bench.XXXXXX")
DIR=$WORK/data MNT=$WORK/mnt
mkdir "$MNT" "$WORK/floor"
trap 'cd /; umount "$MNT" 2>/dev/null || umount -l "$MNT" 2>/dev/null; rm -rf --one-file-system "$WORK"' EXIT
trap 'exit 130' INT TERM

start() { "$QUORUMFS" mount "$DIR" "$MNT" >/dev/null && PID=$(pgrep -f -- "mount $DIR" | head -1) && export BENCH_PIDS=$PID; }
stop() { umount "$MNT" && while kill -0 "$PID" 2>/dev/null; do sleep 0.01; done; }
ms() { echo $((($(date +%s%N) - $1) / 1000000)); }
sizes() {
    awk -v what="$1" '/^VmRSS/{r=$2} /^RssAnon/{a=$2} END {printf "%s: resident %.0f MiB (anonymous %.0f)", what, r/1024, a/1024}' "/proc/$PID/status"
    echo ", on disk $(du -sm "$DIR" | cut -f1) MiB (database $(du -cm "$DIR"/state-*.db* | tail -1 | cut -f1), log $(du -sm "$DIR/raft" | cut -f1))"
}

echo "$("$QUORUMFS" --version), $(date -u +%F), kernel $(uname -r), $(nproc) cores, $SECS s a case"
"$TREELOAD" floor -d "$SECS" -N floor "$WORK/floor"
"$QUORUMFS" init "$DIR" --quota 8G >/dev/null && start || exit 1
mkdir "$MNT/k" "$MNT/new"
for depth in 1 2 4; do "$TREELOAD" fill -n 16 -k 10000 -l $depth -N "fill-depth$depth" "$MNT/k"; done
for n in 1 64 256; do "$TREELOAD" own -n $n -d "$SECS" -N overwrite "$MNT/k"; done
for n in 1 64 256; do "$TREELOAD" kept -n $n -d "$SECS" -N kept-open "$MNT/k"; done
for depth in 1 2 4; do "$TREELOAD" get -k 10000 -l $depth -d "$SECS" -N "get-depth$depth" "$MNT/k"; done
"$TREELOAD" get -n 64 -k 10000 -d "$SECS" -N get "$MNT/k"
for n in 1 8; do "$TREELOAD" create -n $n -d "$SECS" -N create "$MNT/new" && "$TREELOAD" unlink -n $n -d "$SECS" -N unlink "$MNT/new"; done
echo v >"$MNT/k/shell"
t=$(date +%s%N)
for ((i = 0; i < 500; i++)); do echo v >"$MNT/k/shell"; done
echo "echo v > f, in one bash: $((($(date +%s%N) - t) / 500000)) us each"
stop
rm -rf "$DIR"

"$QUORUMFS" init "$DIR" --quota 8G >/dev/null && start || exit 1
sizes "empty"
"$TREELOAD" fill -n 64 -k "$FILES" -N "fill-$FILES" "$MNT"
t=$(date +%s%N)
found=$(find "$MNT" -type f -newermt 2000-01-01 | wc -l)
echo "find with a stat of each: $found files in $(ms "$t") ms"
sizes "$FILES files of 256 B"
stop
t=$(date +%s%N)
start && cat "$MNT/$(printf %032d 4711)" >/dev/null && echo "mounted again and one file read in $(ms "$t") ms"
sizes "after it"
stop
