#!/bin/bash
# inotify.sh [FILES]: how soon a watcher on another member hears of a commit: three members on loopback, in memory where there is room, and
# the same on a tmpfs and on the writer's own member. As root. QUORUMFS and WATCH_LAG name the programs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd) top=$(cd "$(dirname "$0")/../.." && pwd)
: "${QUORUMFS:=$top/build/release/fs/quorumfs}" "${WATCH_LAG:=$top/build/release/tests/bench/watch_lag}"
files=${1:-2000}
root=$(mktemp -d "${TMPDIR:-/dev/shm}/quorumfs-bench.XXXXXX")
first=$((20000 + RANDOM % 20000))
members=(1 2 3)

finish() {
    cd "$here"
    for i in "${members[@]}" tmpfs; do umount -l "$root/m$i" 2>/dev/null || true; done
    wait
    rm -rf --one-file-system "$root"
}
trap finish EXIT

list=$(for i in "${members[@]}"; do echo -n "$i=127.0.0.1:$((first + i)),"; done)
for i in "${members[@]}"; do
    mkdir "$root/m$i"
    "$QUORUMFS" init "$root/d$i" --id "$i" --cluster "${list%,}" >/dev/null
    "$QUORUMFS" mount "$root/d$i" "$root/m$i" -f 2>"$root/log$i" &
done
for i in "${members[@]}"; do
    until timeout 5 cat "$root/m$i/.quorum/status" >/dev/null 2>&1; do sleep 0.1; done
done
mkdir "$root/mtmpfs"
mount -t tmpfs none "$root/mtmpfs"

# run WHAT WRITER WATCHER RATE [hot]
run() {
    mkdir -p "$root/m$2/$1-$4"
    ls "$root/m$3/$1-$4" >/dev/null
    printf '%-22s rate %-5s ' "$1" "$4"
    "$WATCH_LAG" "$root/m$2/$1-$4" "$root/m$3/$1-$4" "$files" "${@:4}"
}

run tmpfs tmpfs tmpfs 200
for rate in 100 500 0; do
    run own-member 1 1 "$rate"
    run leader-to-follower 1 2 "$rate"
    run follower-to-follower 2 3 "$rate"
done
run one-hot-file 1 2 0 hot
grep -hE '^quorumfs_replay' "$root/m2/.quorum/metrics" | grep -v bucket
