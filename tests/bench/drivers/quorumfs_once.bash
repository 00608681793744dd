# The part of quorumfs.sh with the cases that want a fresh system, and happen once: sizes, start, restart, a copy of the database; with
# three members a wiped one that joins again, and how long nobody can write after the leader has died.

quorumfs_line() { # quorumfs_line CASE START_NS: a result of one event that began then and ends now. What others used is not measured
    awk -v OFS='\t' -v c="$1" -v us="$((($(date +%s%N) - $2) / 1000))" -v sys="$BENCH_SYS" -v topo="$NODES" -v rep="${BENCH_REP:-1}" \
        'BEGIN {print sys, topo, c, rep, 1, us / 1e6, 1e6 / us, us, us, us, us, us, 0, 0, 0, 0, 0, 0}' | tee -a "$RES" >&2
}

quorumfs_size() { # quorumfs_size LABEL
    local i
    for i in $(quorumfs_members); do
        metric "$1: node $i RSS (anonymous part)" "$(awk '/^VmRSS/{r=$2} /^RssAnon/{a=$2} END {printf "%.0f (%.0f)", r/1024, a/1024}' "/proc/$(quorumfs_pid "$i")/status")" MiB
        metric "$1: node $i disk (database, raft log)" "$(cd "$(quorumfs_data "$i")" && echo "$(du -sm . | cut -f1) ($(du -cm state-*.db* | tail -1 | cut -f1), $(du -sm raft | cut -f1))")" MiB
    done
}

quorumfs_fill_100k() {
    local i
    BENCH_PIDS=$(quorumfs_pids) BENCH_REP=1 "$TREELOAD" fill -n 64 -k 100000 -N fill-100k "$(quorumfs_mnt "$QFS_L")" >>"$RES"
    for i in $(quorumfs_members); do find "$(quorumfs_mnt "$i")" -type f -newermt 2000-01-01 >/dev/null; done
    sleep 3
    quorumfs_size "100k keys of 256 B"
}

quorumfs_snapshot() {
    local copy=$WORK/snap.db
    BENCH_PIDS=$(quorumfs_pids) ./proctime snapshot-save-100k 3 -- cp "$(quorumfs_mnt "$QFS_L")/.quorum/snapshot.db" "$copy" >>"$RES"
    metric "snapshot file, 100k keys" "$(du -m "$copy" | cut -f1)" MiB
    rm -f "$copy"
}

quorumfs_has_all() { cat "$(quorumfs_mnt "$1")/$(printf %032d 4711)" >/dev/null; } # a read, after what it waits for

quorumfs_restart() {
    local i t0
    for i in $(quorumfs_members); do quorumfs_umount "$i"; done
    t0=$(date +%s%N)
    quorumfs_mount_all || return 1
    for i in $(quorumfs_members); do quorumfs_has_all "$i" || return 1; done
    quorumfs_line restart-all-100k "$t0"
    [ "$NODES" != 1 ] || return 0
    quorumfs_roles && quorumfs_umount "$QFS_F" || return 1
    t0=$(date +%s%N)
    quorumfs_mount "$QFS_F" && quorumfs_has_all "$QFS_F" && quorumfs_line restart-one-100k "$t0"
}

quorumfs_is_voter() { [ "$(quorumfs_said "$1" role)" = follower ] && [ "$(quorumfs_said "$1" voters)" = "$NODES" ]; }

# A follower loses its directory. From the command that joins it (etcd: from the start of the process, the member being added already)
# until it answers a read; and from its death on, with the removal of what it was.
quorumfs_catchup() {
    local total t0 old
    quorumfs_roles || return 1
    old=$(quorumfs_said "$QFS_F" member) total=$(date +%s%N)
    quorumfs_kill "$QFS_F"
    rm -rf "$(quorumfs_data "$QFS_F")"
    rmdir "$(quorumfs_mnt "$QFS_L")/.quorum/members/$old" || return 1
    t0=$(date +%s%N)
    "$QUORUMFS" init "$(quorumfs_data "$QFS_F")" --join "$(quorumfs_address "$QFS_L")" --listen "$(quorumfs_address "$QFS_F")" >/dev/null || return 1
    quorumfs_mount "$QFS_F" && quorumfs_has_all "$QFS_F" || return 1
    quorumfs_line catchup-100k "$t0"
    quorumfs_line catchup-100k-with-member-change "$total"
    until quorumfs_is_voter "$QFS_F"; do sleep 0.05; done
    quorumfs_line catchup-100k-until-it-votes "$total"
}

quorumfs_write_until_done() { until timeout 20 dd if=/dev/zero of="$1/failover" bs=256 count=1 conv=fsync status=none 2>/dev/null; do :; done; }

# quorumfs_failover CASE SIGNAL: the leader ends by KILL, as when its process crashes, or falls silent by STOP, as when its machine does; a
# writer on each of the others tries until one has succeeded.
quorumfs_failover() {
    local i t0 pids=
    quorumfs_roles || return 1
    echo >"$(quorumfs_mnt "$QFS_L")/failover"
    t0=$(date +%s%N)
    kill -"$2" "$(quorumfs_pid "$QFS_L")"
    for i in "$QFS_F" "$QFS_S"; do
        quorumfs_write_until_done "$(quorumfs_mnt "$i")" &
        pids+=" $!"
    done
    wait -n $pids
    quorumfs_line "$1" "$t0"
    wait $pids
    quorumfs_kill "$QFS_L" 2>/dev/null
    quorumfs_mount "$QFS_L" && sleep 3
}

quorumfs_three() {
    local r
    matches catchup && for r in 1 2 3; do
        ./quiet "$MAXNOISE" "$WAIT"
        BENCH_REP=$r quorumfs_catchup || return 1
    done
    matches failover && for r in 1 2 3 4 5; do
        ./quiet "$MAXNOISE" "$WAIT"
        BENCH_REP=$r quorumfs_failover failover KILL && BENCH_REP=$r quorumfs_failover failover-silent STOP || return 1
    done
}

quorumfs_once() {
    local r t0
    t0=$(date +%s%N)
    quorumfs_fresh || return 1
    quorumfs_line start-empty "$t0"
    quorumfs_roles || return 1
    quorumfs_size empty
    if matches fill; then quorumfs_fill_100k || return 1; fi
    if matches snapshot; then quorumfs_snapshot; fi
    matches restart && for r in 1 2 3; do
        ./quiet "$MAXNOISE" "$WAIT"
        BENCH_REP=$r quorumfs_restart || return 1
    done
    [ "$NODES" = 1 ] || quorumfs_three
}
