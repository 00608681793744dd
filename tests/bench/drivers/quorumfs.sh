# The driver of quorumfs for the comparison with etcd, one member or three on loopback: the functions that its run.sh calls, as its
# sys/etcd.sh lists them. $QUORUMFS is the program and $TREELOAD the load generator; by default those of build/release.
# quorumfs_once.bash has the cases that want a fresh system.
#
# Cases of one name are the same job seen from outside:
#   put-c1, put-c8      open, write, close by that many processes; etcd: put
#   put-c64, put-c256   pwrite + fdatasync on descriptors kept open; etcd: put on shared connections
#   put-c*-own          open, write, close; etcd: put with a connection for each client
#   get-lin-*           open, read, close; etcd: linearizable get
#   get-ser-*           the same with reads=local; etcd: serializable get. In a cluster of one that is no difference
#   get-ser-c1-depth2, -depth4   the same, with directories above the file (quorumfs alone)
#   *-follower          on the mount of a member that does not lead; others: on the leader's
#   watch-1             written on the leader's mount, seen by inotify on a follower's
#   txn-100-c1          a transaction of 100 files in .quorum/txn; etcd: one of 100 puts
#   grant-c1, keepalive-* mkdir and touch in .quorum/leases
#   lock-c1, lockc-10   open and close of a file in .quorum/locks: by itself, whole; contended, from a close until the next open has returned
#   cp-txn-1000         cp -r of 1,000 files into a transaction and its commit, with all processes (quorumfs alone)
#   create-c1, create-c8, unlink-c8   many names in one directory (quorumfs alone; reported, no goal)
#
# Of three members one follower is mounted with reads=local and serves all get-ser-* cases: such a read asks nobody, so it is one job
# on the leader and on a follower.
QFS_DRIVERS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
QUORUMFS=${QUORUMFS:-$QFS_DRIVERS/../../../build/release/fs/quorumfs}
TREELOAD=${TREELOAD:-$QFS_DRIVERS/../../../build/release/tests/bench/treeload}
QFS_PORT=${QFS_PORT:-12479}
. "$QFS_DRIVERS/quorumfs_once.bash"

quorumfs_needs() { echo "fuse3:fusermount3"; }
quorumfs_version() { "$QUORUMFS" --version; }

# ---- Members: numbers 1 to NODES -------------------------------------------------------------------------------------------------

quorumfs_members() { seq 1 "$NODES"; }
quorumfs_data() { echo "$WORK/quorumfs/d$1"; }
quorumfs_mnt() { echo "$WORK/quorumfs/m$1"; }
quorumfs_address() { echo "127.0.0.1:$((QFS_PORT + $1))"; }
quorumfs_pid() { cat "$(quorumfs_data "$1")/lock"; }
quorumfs_mounted() { grep -q " $(quorumfs_mnt "$1") " /proc/self/mountinfo; }
quorumfs_said() { timeout 5 sed -n "s/^$2: *//p" "$(quorumfs_mnt "$1")/.quorum/status"; } # quorumfs_said N FIELD of its status

quorumfs_init() { # quorumfs_init N: makes its directories
    local i list=
    mkdir -p "$(quorumfs_mnt "$1")"
    for i in $(quorumfs_members); do list+=${list:+,}$i=$(quorumfs_address "$i"); done
    [ "$NODES" = 1 ] || set -- "$1" --id "$1" --cluster "$list"
    "$QUORUMFS" init "$(quorumfs_data "$1")" --quota 8G "${@:2}" >/dev/null
}

quorumfs_mount() { # quorumfs_mount N [OPTION...]: ready when it returns; several must be started at once, since each waits for a majority
    "$QUORUMFS" mount "$(quorumfs_data "$1")" "$(quorumfs_mnt "$1")" "${@:2}" >>"$WORK/quorumfs/out" 2>&1
}

quorumfs_mount_all() {
    local i rc=0 pids=
    for i in $(quorumfs_members); do
        quorumfs_mount "$i" &
        pids+=" $!"
    done
    for i in $pids; do wait "$i" || rc=1; done
    return $rc
}

quorumfs_umount() { # quorumfs_umount N: has ended when it returns
    quorumfs_mounted "$1" || return 0
    umount "$(quorumfs_mnt "$1")" || umount -l "$(quorumfs_mnt "$1")"
    flock -w 60 "$(quorumfs_data "$1")/lock" true
}

quorumfs_kill() { # quorumfs_kill N: as a crash does
    kill -9 "$(quorumfs_pid "$1")"
    flock -w 60 "$(quorumfs_data "$1")/lock" true
    umount -l "$(quorumfs_mnt "$1")"
}

quorumfs_stop() {
    local i pids=
    for i in $(quorumfs_members); do
        quorumfs_umount "$i" &
        pids+=" $!"
    done
    for i in $pids; do wait "$i"; done
    rm -rf "$WORK/quorumfs"
}

quorumfs_fresh() { # an empty cluster that serves
    local i
    quorumfs_stop
    for i in $(quorumfs_members); do quorumfs_init "$i" || return 1; done
    quorumfs_mount_all
}

quorumfs_roles() { # QFS_L the leader, QFS_F and QFS_S the followers; with one member all are that one
    local i
    QFS_L=
    for i in $(seq 200); do
        for i in $(quorumfs_members); do [ "$(quorumfs_said "$i" role)" != leader ] || QFS_L=$i; done
        [ -z "$QFS_L" ] || break
        sleep 0.1
    done
    [ -n "$QFS_L" ] || { say "quorumfs: nobody leads"; return 1; }
    QFS_F=$QFS_L QFS_S=$QFS_L
    for i in $(quorumfs_members); do [ "$i" = "$QFS_L" ] || { QFS_F=$QFS_S; QFS_S=$i; }; done
    [ "$QFS_F" != "$QFS_L" ] || QFS_F=$QFS_S
}

# ---- What run.sh calls -----------------------------------------------------------------------------------------------------------

quorumfs_fill() { env -u BENCH_SYS "$TREELOAD" fill "$@" >/dev/null; }

quorumfs_start() {
    local d k i
    quorumfs_fresh && quorumfs_roles || return 1
    k=$(quorumfs_mnt "$QFS_L")
    mkdir "$k/k" "$k/r100" "$k/r10k" "$k/new" "$WORK/quorumfs/src" || return 1
    # As etcd's driver fills: 10,000 keys, and two directories to list.
    for d in 1 2 4; do quorumfs_fill -n 16 -k 10000 -l $d "$k/k" || return 1; done
    quorumfs_fill -n 4 -k 100 "$k/r100" && quorumfs_fill -n 16 -k 10000 "$k/r10k" || return 1
    for ((i = 0; i < 1000; i++)); do head -c 256 /dev/zero >"$WORK/quorumfs/src/f$i"; done
    [ "$NODES" = 1 ] || { quorumfs_umount "$QFS_S" && quorumfs_mount "$QFS_S" -o reads=local; }
}

quorumfs_pids() { for i in $(quorumfs_members); do quorumfs_pid "$i"; done | paste -sd,; }

quorumfs_round() { # the follower with reads=local must be one
    local s=$QFS_S
    quorumfs_roles || return 1
    [ "$s" != "$QFS_F" ] || QFS_F=$QFS_S QFS_S=$s
    [ "$s" = "$QFS_S" ] || { say "quorumfs: the member with reads=local leads now"; return 1; }
}

quorumfs_cases() {
    echo put-c1 put-c8 put-c64 put-c256 put-c64-own put-c256-own
    [ "$NODES" = 1 ] || echo put-c1-follower put-c64-follower put-c64-own-follower
    echo get-lin-c1 get-lin-c64 get-lin-c64-own get-ser-c1 get-ser-c64
    [ "$NODES" = 1 ] || echo get-lin-c1-follower get-lin-c64-follower get-ser-c1-follower get-ser-c64-follower
    echo get-ser-c1-depth2 get-ser-c1-depth4 range-100 range-10k watch-1 txn-10-c1 txn-100-c1 cp-txn-1000
    echo grant-c1 keepalive-c1 keepalive-c64 lock-c1 lockc-10
    echo create-c1 create-c8 unlink-c8 shell-put shell-get shell-echo-builtin
}

quorumfs_run() {
    local c=$1 n=1 depth=1 member=$QFS_L m l
    case $c in get-ser-*) member=$QFS_S ;; *-follower) member=$QFS_F ;; esac
    case $c in *-c[0-9]*) n=${c##*-c}; n=${n%%-*} ;; esac
    case $c in *-depth*) depth=${c##*-depth} ;; esac
    m=$(quorumfs_mnt "$member") l="-d $SECS -N $c"
    case $c in
    put-c1 | put-c1-* | put-c8 | put-*-own*) "$TREELOAD" own -n "$n" $l "$m/k" ;;
    put-*) "$TREELOAD" kept -n "$n" $l "$m/k" ;;
    get-*) "$TREELOAD" get -n "$n" -k 10000 -l "$depth" $l "$m/k" ;;
    grant-*) "$TREELOAD" grant -n "$n" $l "$m" ;;
    keepalive-*) "$TREELOAD" renew -n "$n" $l "$m" ;;
    lock-c1) "$TREELOAD" lock $l-cycle "$m" ;;
    lockc-10) "$TREELOAD" lockc -n 10 $l-handoff "$m" ;;
    txn-*) "$TREELOAD" txn -n "$n" -t "$(cut -d- -f2 <<<"$c")" $l "$m" ;;
    cp-txn-1000) ./proctime "$c" 10 -- "$QFS_DRIVERS/publish.sh" "$WORK/quorumfs/src" "$m" ;;
    create-*) "$TREELOAD" create -n "$n" $l "$m/new" && rm -rf "$m/new" && mkdir "$m/new" ;;
    unlink-*)
        (unset BENCH_SYS && "$TREELOAD" create -n "$n" -d "$SECS" "$m/new" >/dev/null)
        "$TREELOAD" unlink -n "$n" $l "$m/new" && rm -rf "$m/new" && mkdir "$m/new" ;;
    range-100) ./fsload range -D "$m/r100" --keys 100 -d "$SECS" --name "$c" ;;
    range-10k) ./fsload range -D "$m/r10k" --keys 10000 -d "$SECS" --name "$c" ;;
    watch-1) ./fsload watch -D "$m/k" -w "$(quorumfs_mnt "$QFS_F")/k" --how inotify --name "$c" ;;
    shell-put) ./proctime "$c" 200 -- sh -c "echo v > $m/k/shellkey" ;;
    shell-get) ./proctime "$c" 200 -- cat "$m/k/shellkey" ;;
    shell-echo-builtin) # 1,000 times echo in one shell, as times of one
        ./proctime "$c" 5 -- sh -c "i=0; while [ \$i -lt 1000 ]; do echo v > $m/k/shellkey; i=\$((i+1)); done" |
            awk -F'\t' -v OFS='\t' '{for (i = 8; i <= 12; i++) $i /= 1000; $7 *= 1000; $5 *= 1000; $14 /= 1000; $15 /= 1000; print}' ;;
    esac
}
