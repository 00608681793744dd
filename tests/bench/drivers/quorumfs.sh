# The driver of quorumfs for the comparison with etcd (one member): the functions that its run.sh calls, as its sys/etcd.sh lists
# them. $QUORUMFS is the program and $TREELOAD the load generator; by default those of build/release.
#
# Cases of one name are the same job seen from outside:
#   put-c1, put-c8      open, write, close by that many processes; etcd: put
#   put-c64, put-c256   pwrite + fdatasync on descriptors kept open; etcd: put on shared connections
#   put-c*-own          open, write, close; etcd: put with a connection for each client
#   get-*               open, read, close; a cluster of one needs no barrier, so linearizable and serializable are one here
#   get-ser-c1-depth2, -depth4   the same, with directories above the file (quorumfs alone)
#   create-c1, create-c8, unlink-c8   many names in one directory (quorumfs alone; reported, no goal)
QFS_ROOT_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
QUORUMFS=${QUORUMFS:-$QFS_ROOT_DIR/build/release/fs/quorumfs}
TREELOAD=${TREELOAD:-$QFS_ROOT_DIR/build/release/tests/bench/treeload}
QFS_PID=

quorumfs_needs() { echo "fuse3:fusermount3"; }
quorumfs_version() { "$QUORUMFS" --version; }
quorumfs_mounted() { grep -q " $WORK/quorumfs/mnt " /proc/self/mountinfo; }

quorumfs_mount() { # ready when it returns
    "$QUORUMFS" mount "$WORK/quorumfs/data" "$WORK/quorumfs/mnt" >>"$WORK/quorumfs/out" 2>&1 || return 1
    QFS_PID=$(pgrep -f -- "mount $WORK/quorumfs/data" | head -1)
}

quorumfs_umount() {
    quorumfs_mounted || return 0
    umount "$WORK/quorumfs/mnt" || umount -l "$WORK/quorumfs/mnt"
    while [ -n "$QFS_PID" ] && kill -0 "$QFS_PID" 2>/dev/null; do sleep 0.01; done
    QFS_PID=
}

quorumfs_fresh() {
    quorumfs_umount
    rm -rf "$WORK/quorumfs"
    mkdir -p "$WORK/quorumfs/mnt"
    "$QUORUMFS" init "$WORK/quorumfs/data" --quota 8G >/dev/null && quorumfs_mount
}

quorumfs_start() {
    local d
    [ "$NODES" = 1 ] || { say "quorumfs: several members are not built yet"; return 1; }
    quorumfs_fresh || return 1
    QFSD=$WORK/quorumfs/mnt
    mkdir "$QFSD/k" "$QFSD/r100" "$QFSD/r10k" "$QFSD/new" || return 1
    # As etcd's driver fills: 10,000 keys, and two directories to list.
    for d in 1 2 4; do env -u BENCH_SYS "$TREELOAD" fill -n 16 -k 10000 -l $d "$QFSD/k" >/dev/null || return 1; done
    env -u BENCH_SYS "$TREELOAD" fill -n 4 -k 100 "$QFSD/r100" >/dev/null && env -u BENCH_SYS "$TREELOAD" fill -n 16 -k 10000 "$QFSD/r10k" >/dev/null
}

quorumfs_stop() { quorumfs_umount; rm -rf "$WORK/quorumfs"; }
quorumfs_pids() { echo "$QFS_PID"; }
quorumfs_round() { :; }

quorumfs_cases() {
    echo put-c1 put-c8 put-c64 put-c256 put-c64-own put-c256-own
    echo get-lin-c1 get-lin-c64 get-lin-c64-own get-ser-c1 get-ser-c64 get-ser-c1-depth2 get-ser-c1-depth4
    echo range-100 range-10k watch-1 create-c1 create-c8 unlink-c8 shell-put shell-get shell-echo-builtin
}

quorumfs_run() {
    local c=$1 n=1 depth=1
    case $c in *-c[0-9]*) n=${c##*-c}; n=${n%%-*} ;; esac
    case $c in *-depth*) depth=${c##*-depth} ;; esac
    case $c in
    put-c1 | put-c8 | put-*-own) "$TREELOAD" own -n "$n" -d "$SECS" -N "$c" "$QFSD/k" ;;
    put-*) "$TREELOAD" kept -n "$n" -d "$SECS" -N "$c" "$QFSD/k" ;;
    get-*) "$TREELOAD" get -n "$n" -k 10000 -l "$depth" -d "$SECS" -N "$c" "$QFSD/k" ;;
    create-*) "$TREELOAD" create -n "$n" -d "$SECS" -N "$c" "$QFSD/new" && rm -rf "$QFSD/new" && mkdir "$QFSD/new" ;;
    unlink-*)
        (unset BENCH_SYS && "$TREELOAD" create -n "$n" -d "$SECS" "$QFSD/new" >/dev/null)
        "$TREELOAD" unlink -n "$n" -d "$SECS" -N "$c" "$QFSD/new" && rm -rf "$QFSD/new" && mkdir "$QFSD/new" ;;
    range-100) ./fsload range -D "$QFSD/r100" --keys 100 -d "$SECS" --name "$c" ;;
    range-10k) ./fsload range -D "$QFSD/r10k" --keys 10000 -d "$SECS" --name "$c" ;;
    watch-1) ./fsload watch -D "$QFSD/k" -w "$QFSD/k" --how inotify --name "$c" ;;
    shell-put) ./proctime "$c" 200 -- sh -c "echo v > $QFSD/k/shellkey" ;;
    shell-get) ./proctime "$c" 200 -- cat "$QFSD/k/shellkey" ;;
    shell-echo-builtin) # 1,000 times echo in one shell, as times of one
        ./proctime "$c" 5 -- sh -c "i=0; while [ \$i -lt 1000 ]; do echo v > $QFSD/k/shellkey; i=\$((i+1)); done" |
            awk -F'\t' -v OFS='\t' '{for (i = 8; i <= 12; i++) $i /= 1000; $7 *= 1000; $5 *= 1000; $14 /= 1000; $15 /= 1000; print}' ;;
    esac
}

quorumfs_size() { # quorumfs_size LABEL
    metric "$1: node 1 RSS (anonymous part)" "$(awk '/^VmRSS/{r=$2} /^RssAnon/{a=$2} END {printf "%.0f (%.0f)", r/1024, a/1024}' "/proc/$QFS_PID/status")" MiB
    metric "$1: node 1 disk (database, raft log)" "$(cd "$WORK/quorumfs/data" && echo "$(du -sm . | cut -f1) ($(du -cm state-*.db* | tail -1 | cut -f1), $(du -sm raft | cut -f1))")" MiB
}

quorumfs_once() {
    local r t0
    t0=$(date +%s%N)
    quorumfs_fresh || return 1
    metric start-empty $((($(date +%s%N) - t0) / 1000)) us
    QFSD=$WORK/quorumfs/mnt
    quorumfs_size empty
    matches fill && {
        BENCH_PIDS=$QFS_PID BENCH_REP=1 "$TREELOAD" fill -n 64 -k 100000 -N fill-100k "$QFSD" >>"$RES"
        find "$QFSD" -type f -newermt 2000-01-01 >/dev/null
        sleep 3
        quorumfs_size "100k keys of 256 B"
    }
    matches restart && for r in 1 2 3; do
        ./quiet "$MAXNOISE" "$WAIT"
        quorumfs_umount
        t0=$(date +%s%N)
        quorumfs_mount || return 1
        cat "$QFSD/$(printf %032d 4711)" >/dev/null
        BENCH_REP=$r metric "restart-all-100k, run $r" $((($(date +%s%N) - t0) / 1000)) us
    done
    quorumfs_umount
}
