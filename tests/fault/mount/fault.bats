# Disks that are full or read-only, and input that will not do: what the user sees, and that nothing is lost.
load ../../lib/harness
setup_file() { root_file; }
teardown_file() { nothing_left; }
setup() {
    needs_quorumfs
    S=$QFS_ROOT/s$BATS_TEST_NUMBER
    DISK=$S/disk DIR=$S/data MNT=$S/mnt
    mkdir -p "$MNT"
    chmod 1777 "$S"
    cd "$S"
}
teardown() {
    [ "$QFS_TEST_ON" = quorumfs ] || return 0
    local rc=0 pidfile
    actors_end
    cd /
    for pidfile in "$S"/*.pid; do
        [ ! -e "$pidfile" ] || force_unmount "${pidfile%.pid}"
    done
    ! mounted || force_unmount "$MNT"
    ! mounted "$DISK" || umount "$DISK" || umount -l "$DISK"
    log_check "$S" || rc=1
    return $rc
}

# ---- Helpers --------------------------------------------------------------------------------------------------------------------

# small_disk SIZE: a filesystem of that size at $DISK, with the data directory in it.
small_disk() {
    truncate -s "$1" "$S/image"
    mkfs.ext4 -q -O ^has_journal -m 0 "$S/image"
    mkdir -p "$DISK"
    mount -o loop "$S/image" "$DISK" 2>"$S/loop.err" || skip "there are no loop devices: $(cat "$S/loop.err")"
    DIR=$DISK/data
}

fill_disk() { # fill_disk [BYTES LEFT]
    head -c $(($(stat -f -c '%a * %S' "$DISK") - ${1:-0})) /dev/zero >"$DISK/filler" 2>/dev/null || true
}

refused() { # refused TEXT... -- ARG...: status 1 or 2, one line with all texts
    local texts=() rc=0 text
    while [ "$1" != -- ]; do texts+=("$1"); shift; done
    shift
    within 30 "$QUORUMFS" "$@" >"$S/out" 2>"$S/err" 3>&- || rc=$?
    [[ $rc == [12] ]] || { fail "exit status $rc of quorumfs $*"; return 1; }
    same "lines on stderr" "$(wc -l <"$S/err")" 1
    for text in "${texts[@]}"; do
        grep -qF -- "$text" "$S/err" || fail "expected '$text' in: $(cat "$S/err")"
    done
    ! mounted || false
}

# ---- Disk full ------------------------------------------------------------------------------------------------------------------

@test "a full disk: ENOSPC or a clean stop, nothing acknowledged is lost, and with space it works again" {
    small_disk 128M
    daemon_start
    allow_log .
    ackwriter write "$MNT" "$S/state" 1 4 1 >writer 2>&1 3>&- &
    local writer=$! i
    wait_until 10 test -e "$MNT/shared.0"
    # Somebody else fills the disk while they write.
    fill_disk
    for i in {1..20}; do
        [ ! -s "$MNT.exit" ] || break
        sleep 0.1
    done
    kill -TERM $writer
    wait $writer || fail "a writer got an error that a full disk does not explain: $(cat writer)"
    if [ -s "$MNT.exit" ]; then
        same "exit status of a member that stopped" "$(cat "$MNT.exit")" 1
        grep -qiE 'space|full' "$MNT.log" || fail "the log does not say why: $(tail -3 "$MNT.log")"
        force_unmount "$MNT"
    else
        within 10 ackwriter verify "$MNT" "$S/state"
        grep -qi . "$MNT/.quorum/health"
        daemon_kill
    fi
    rm "$DISK/filler"
    daemon_start
    within 10 ackwriter verify "$MNT" "$S/state"
    echo works >"$MNT/again"
    same health "$(grep -v 'is low' "$MNT/.quorum/health" || echo ok)" ok
    daemon_stop
    within 60 "$QUORUMFS" check "$DIR"
}

@test "a full disk: readers go on, writers are told, deleting and space help" {
    small_disk 128M
    daemon_start
    allow_log .
    echo old >"$MNT/f"
    fill_disk
    local i told=0
    for i in {1..400}; do
        if ! dd if=/dev/zero of="$MNT/new$i" bs=500K count=1 conv=fsync 2>err; then
            grep -qE 'No space left|Input/output|not connected|connection abort' err || fail "$(cat err)"
            told=1
            break
        fi
    done
    same "a writer was told" $told 1
    if [ ! -s "$MNT.exit" ]; then
        holds "$MNT/f" 'old\n'
        rm "$DISK/filler"
        wait_until 10 dd if=/dev/zero of="$MNT/more" bs=100K count=1 conv=fsync
        daemon_stop
    else
        same "exit status" "$(cat "$MNT.exit")" 1
        force_unmount "$MNT"
        rm "$DISK/filler"
    fi
    daemon_start
    holds "$MNT/f" 'old\n'
    absent "$MNT/new$i"
    daemon_stop
}

@test "a start on a full disk fails with a sentence, or serves what is there" {
    small_disk 128M
    daemon_start
    echo v >"$MNT/f"
    sync "$MNT/f"
    daemon_kill
    fill_disk
    allow_log .
    daemon_launch
    wait_until 20 daemon_ready_or_dead
    # It may serve, refuse to start, or stop a moment later: but never show anything else than what was there.
    if holds "$MNT/f" 'v\n' && daemon_alive; then
        kill -9 "$(daemon_pid)"
    fi
    wait_until 10 test -s "$MNT.exit"
    [ "$(cat "$MNT.exit")" = 137 ] || grep -qiE 'space|room|full|low' "$MNT.log" || fail "it does not say why: $(tail -3 "$MNT.log")"
    ! mounted || force_unmount "$MNT"
    rm "$DISK/filler"
    daemon_start
    holds "$MNT/f" 'v\n'
    daemon_stop
}

@test "a disk too small for a member is refused with a sentence" {
    small_disk 8M
    allow_log .
    ! within 30 "$QUORUMFS" mount "$DIR" "$MNT" >out 2>err 3>&- || false
    grep -qiE 'space|room|full' err || fail "said only: $(cat err)"
    ! mounted || fail "mounted all the same"
}

# ---- Read-only ------------------------------------------------------------------------------------------------------------------

@test "a read-only data directory is refused" {
    small_disk 128M
    within 30 "$QUORUMFS" init "$DIR"
    mount -o remount,ro "$DISK"
    refused "$DIR" -- mount "$DIR" "$MNT"
    mount -o remount,rw "$DISK"
    daemon_start
    daemon_stop
}

# ---- Foreign and damaged directories ----------------------------------------------------------------------------------------------

@test "a data directory of another program is refused and left alone" {
    mkdir -p "$DIR/base" && echo 15 >"$DIR/PG_VERSION"
    refused "$DIR" -- mount "$DIR" "$MNT"
    refused "$DIR" -- init "$DIR"
    refused "$DIR" -- check "$DIR"
    same "left alone" "$(ls "$DIR" | paste -sd' ')" 'PG_VERSION base'
    rm -rf "$DIR"
    echo text >"$DIR"
    refused "$DIR" -- mount "$DIR" "$MNT"
    holds "$DIR" 'text\n'
}

@test "an empty DIR by fstab is refused" {
    mkdir "$DIR"
    ln -s "$QUORUMFS" mount.fuse.quorumfs
    ! within 20 ./mount.fuse.quorumfs "$DIR" "$MNT" -o rw 2>err || false
    same "lines on stderr" "$(wc -l <err)" 1
    grep -q "$DIR" err
    same "left alone" "$(ls -A "$DIR")" ''
}

@test "a directory whose parts are missing is refused with a name" {
    daemon_start
    echo v >"$MNT/f"
    daemon_stop
    local part
    for part in raft CURRENT state-1.db; do
        mv "$DIR/$part" "$S/kept"
        refused "$DIR" -- mount "$DIR" "$MNT"
        ! within 30 "$QUORUMFS" check "$DIR" >out 2>&1 || false
        mv "$S/kept" "$DIR/$part"
    done
    daemon_start
    holds "$MNT/f" 'v\n'
    daemon_stop
}

@test "an init that was killed is completed by the next" {
    needs_failpoints
    local point
    for point in replica.init.raft replica.init.database replica.init.marked; do
        rm -rf "$DIR"
        QUORUMFS_FAILPOINTS=$point=crash within 30 "$QUORUMFS" init "$DIR" >/dev/null 2>&1 && fail "$point was not met"
        within 30 "$QUORUMFS" mount "$DIR" "$MNT" >out 3>&-
        echo v >"$MNT/f"
        umount "$MNT"
        wait_until 10 eval '! pgrep -f "mount .*$S/"'
        within 30 "$QUORUMFS" check "$DIR" >/dev/null
    done
}

@test "an init from a data directory that was killed is completed by the next" {
    needs_failpoints
    daemon_start
    echo v >"$MNT/f"
    daemon_stop
    QUORUMFS_FAILPOINTS=replica.init.salvage=crash within 30 "$QUORUMFS" init "$S/new" --from "$DIR" >/dev/null 2>&1 && fail "it was not met"
    [ -d "$S/new/raft.old" ]
    within 30 "$QUORUMFS" init "$S/new" --from "$DIR"
    [ ! -e "$S/new/raft.old" ]
    within 30 "$QUORUMFS" check "$S/new" >/dev/null
}

# ---- Limits -------------------------------------------------------------------------------------------------------------------------

@test "the quota crossed in the middle of a write leaves the old content" {
    daemon_start --quota 2M --max-value 4M
    echo old >"$MNT/f"
    allow_log 'commit'
    fails_with 'No space left' dd if=/dev/zero of="$MNT/f" bs=100K count=30 status=none
    # dd published what it could write, as on every disk, or nothing; never more than the quota.
    (($(stat -c %s "$MNT/f") <= 2097152))
    fails_with 'No space left' bash -c "head -c 3M /dev/zero | tee $MNT/g >/dev/null"
    rm -f "$MNT/f" "$MNT/g"
    head -c 1M /dev/zero >"$MNT/h"
    same size "$(stat -c %s "$MNT/h")" 1048576
    daemon_stop
}

@test "names, directories and attributes count against the quota too" {
    daemon_start --quota 1M
    allow_log .
    local i failed=0
    head -c 1000K /dev/zero >"$MNT/most"
    for i in {1..1000}; do
        mkdir "$MNT/a-directory-with-a-long-name-$i" 2>err || { failed=1; break; }
    done
    same "mkdir failed in time" $failed 1
    grep -q 'No space left' err
    rmdir "$MNT"/a-dir*
    mkdir "$MNT/again"
    daemon_stop
}

@test "the largest value is as large as it was set, up to 16 MiB" {
    daemon_start --max-value 16M
    head -c 16M /dev/urandom >"$S/source"
    cp "$S/source" "$MNT/f"
    cmp "$S/source" "$MNT/f"
    fails_with 'File too large' truncate -s $((16 * 1024 * 1024 + 1)) "$MNT/f"
    daemon_kill
    daemon_start
    cmp "$S/source" "$MNT/f"
    daemon_stop
}

@test "too many uncommitted bytes of one user wait or fail, and hurt nobody else" {
    daemon_start --max-value 16M
    local i
    actor_start A as 65534
    chmod 1777 "$MNT"
    allow_log .
    for i in {10..17}; do
        A open $i "$MNT/a$i" wct
        actor_send A fill $i x 16000000
        actor_answer A || break
    done
    echo v >"$MNT/other"
    holds "$MNT/other" 'v\n'
    A exit
    daemon_stop
}

@test "deep and long paths" {
    daemon_start
    local name=$(printf 'n%.0s' {1..200}) i
    (cd "$MNT" && for i in {1..30}; do mkdir "$name" && cd "$name" || exit 1; done && echo v >f && cat f >/dev/null)
    fails_with 'File name too long' cat "$MNT/$(printf "$name/%.0s" {1..30})f"
    rm -rf "$MNT/$name"
    absent "$MNT/$name"
    daemon_stop
}
