# snapshot.db: backups with cp while writers run, and new clusters from them.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() {
    enter_test
    Q=$MNT/.quorum
}
teardown() {
    local rc=0
    exec 7<&- 8<&- 9<&-
    local other
    for other in "$QFS_ROOT/new" "$QFS_ROOT/old" "$QFS_ROOT/small" "$S/old"; do # only a failed test leaves one
        ! mounted "$other" || force_unmount "$other"
    done
    leave_test || rc=1
    return $rc
}

# new_cluster ARG...: init with these arguments; `new_mount` mounts it beside the first.
new_cluster() {
    rm -rf "$S/new"
    within 30 "$QUORUMFS" init "$S/new" "$@" 3>&-
}

new_mount() {
    DIR=$S/new MNT=$QFS_ROOT/new daemon_start
    N=$QFS_ROOT/new
}

new_umount() {
    MNT=$QFS_ROOT/new daemon_stop
    cd "$T"
}

read_only() { # DIR, until it is unmounted
    mount --bind "$1" "$1"
    mount -o remount,bind,ro "$1"
}

refused() { # refused TEXT ARG...: one line that says so, and nothing is made
    local text=$1 rc=0
    shift
    new_cluster "$@" >"$S/out" 2>"$S/err" || rc=$?
    same "exit status" "$rc" 1
    same "lines" "$(wc -l <"$S/err")" 1
    grep -qF -- "$text" "$S/err" || fail "expected '$text' in: $(cat "$S/err")"
    absent "$S/new"
}

# ---- Copies ------------------------------------------------------------------------------------------------------------------------

@test "a copy is a database that sqlite3 opens, with the views files and history" {
    local r
    mkdir d; echo 1 >d/f; echo 22 >d/f; ln -s f d/l; head -c 9000 /dev/urandom >big
    r=$(rev)
    cp "$Q/snapshot.db" "$S/b.db"
    same "revision" "$(sqlite3 "$S/b.db" 'SELECT rev FROM meta')" "$r"
    same "mode" "$(sqlite3 "$S/b.db" 'PRAGMA journal_mode')" delete
    same "check" "$(sqlite3 "$S/b.db" 'PRAGMA integrity_check')" ok
    same "files" "$(sqlite3 "$S/b.db" "SELECT substr(path, 2 + $(printf %s "${T##*/}" | wc -c)), type FROM files WHERE path LIKE '/${T##*/}/%' ORDER BY path" | paste -sd' ')" \
        '/big|file /d|directory /d/f|file /d/l|symlink'
    same "content" "$(sqlite3 "$S/b.db" "SELECT CAST(content AS TEXT) FROM files WHERE path = '/${T##*/}/d/f'")" 22
    sqlite3 "$S/b.db" "SELECT writefile('$S/big', content) FROM files WHERE path = '/${T##*/}/big'" >/dev/null
    cmp big "$S/big"
    same "history" "$(sqlite3 "$S/b.db" "SELECT event, CAST(content AS TEXT) FROM history WHERE name = 'f' ORDER BY revision" | paste -sd' ' | tr -s ' ')" 'put|1 put|22 '
    same "who" "$(sqlite3 "$S/b.db" "SELECT DISTINCT writer_uid, writer_command FROM history WHERE name = 'f'")" '0|bash'
}

@test "it is one revision while writers run" {
    local i
    echo 0 >a; echo 0 >b
    (
        trap 'exit 0' TERM
        i=0
        while :; do i=$((i + 1)); echo $i >a; echo $i >b; done
    ) 3>&- &
    local writer=$!
    wait_until 5 grep -q . b
    for i in 1 2 3 4 5 6; do
        cat "$Q/snapshot.db" >"$S/$i.db"
        same "check" "$(sqlite3 "$S/$i.db" 'PRAGMA integrity_check')" ok
        same "a is b, or one more" "$(sqlite3 "$S/$i.db" "SELECT max(v) - min(v) <= 1 FROM (SELECT CAST(CAST(content AS TEXT) AS INTEGER) AS v FROM files WHERE path LIKE '/${T##*/}/_')")" 1
    done
    kill $writer
    wait $writer || true
    [ "$(sqlite3 "$S/6.db" 'SELECT rev FROM meta')" -gt "$(sqlite3 "$S/1.db" 'SELECT rev FROM meta')" ]
    for i in 1 2 3 4 5 6; do
        new_cluster --from "$S/$i.db" # which checks every invariant
    done
}

@test "its size is right as soon as it is open, and reading starts anywhere" {
    exec 8<"$Q/snapshot.db"
    local size
    size=$(stat -L -c %s /proc/self/fd/8)
    same "bytes" "$(wc -c <&8)" "$size"
    cat "$Q/snapshot.db" >"$S/b.db"
    same "magic" "$(head -c 15 "$S/b.db")" 'SQLite format 3'
    same "blocks" "$(dd if="$Q/snapshot.db" bs=4096 skip=1 count=2 status=none | sha256sum)" "$(dd if="$S/b.db" bs=4096 skip=1 count=2 status=none | sha256sum)"
    same "mode" "$(stat -c '%a %U %F' "$Q/snapshot.db")" '400 root regular empty file'
}

@test "only root may, nobody writes, and a third at once is busy" {
    fails_with 'Permission denied' setpriv --reuid=65534 --clear-groups cat "$Q/snapshot.db"
    [[ $(syscall open "$Q/snapshot.db" 1) =~ ^(EACCES|EPERM)$ ]]
    [[ $(syscall unlink "$Q/snapshot.db") =~ ^EPERM$ ]]
    [[ $(syscall truncate "$Q/snapshot.db" 0) =~ ^(EPERM|EACCES)$ ]]
    exec 8<"$Q/snapshot.db" 9<"$Q/snapshot.db"
    fails_with 'busy' cat "$Q/snapshot.db"
    exec 8<&-
    wait_until 5 eval 'exec 7<"$Q/snapshot.db"'
}

@test "a reader that stalls holds nobody up" {
    local before i
    exec 8<"$Q/snapshot.db"
    before=$(head -c 8192 <&8 | sha256sum)
    python3 - "$T" <<'E'
import os, sys
for i in range(3000):
    fd = os.open(sys.argv[1] + "/f", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(fd, b"x" * 3000)
    os.close(fd)
E
    x "echo $(rev) > $Q/compact"
    wait_until 20 eval "[ \$(stat -c %s $DIR/state-1.db-wal) -lt 16000000 ]"
    cat <&8 >"$S/rest"
    [ "$(stat -c %s "$S/rest")" -gt 0 ]
}

@test "a caller that is killed while it waits leaves nothing behind" {
    local i
    for i in 1 2 3 4; do
        timeout -s KILL 0.01 cat "$Q/snapshot.db" >/dev/null || true
    done
    wait_until 5 eval '! ls -l /proc/$(daemon_pid)/fd | grep -q deleted'
    wait_until 5 cat "$Q/snapshot.db"
    same "files in DIR" "$(ls "$DIR" | grep -c snapshot)" 0
}

@test "ENOSPC where it does not fit, and writing goes on" {
    local DISK=$S/disk DIR=$S/disk/data MNT=$QFS_ROOT/small
    mkdir "$DISK"
    mount -t tmpfs -o size=180M none "$DISK"
    daemon_start
    echo v >"$MNT/f"
    head -c $(($(stat -f -c '%a * %S' "$DISK") - 58000000)) /dev/zero >"$DISK/filler"
    allow_log 'no snapshot could be made'
    fails_with 'No space left' cat "$MNT/.quorum/snapshot.db"
    echo w >"$MNT/f"
    rm "$DISK/filler"
    cat "$MNT/.quorum/snapshot.db" >"$S/b.db"
    same check "$(sqlite3 "$S/b.db" 'PRAGMA integrity_check')" ok
    daemon_stop
    umount "$DISK"
}

# ---- New clusters ------------------------------------------------------------------------------------------------------------------

@test "init --from brings the tree, its history and its settings back" {
    local r N
    mkdir d; echo 1 >d/f; chmod 640 d/f; setfattr -n user.a -v 1 d/f; r=$(rev); echo 2 >d/f; ln -s f d/l
    x "echo 3G > $Q/config/quota"
    cp "$Q/snapshot.db" "$S/b.db"
    new_cluster --from "$S/b.db" --max-value 2M
    "$QUORUMFS" check "$S/new" >"$S/check" || fail "$(cat "$S/check")"
    new_mount
    diff -r --no-dereference d "$N/${T##*/}/d"
    same attributes "$(stat -c '%a %Y %i' "$N/${T##*/}/d/f")" "$(stat -c '%a %Y %i' d/f)"
    holds "$N/.quorum/at/$r/${T##*/}/d/f" '1\n'
    same quota "$(cat "$N/.quorum/config/quota")" 3G
    same max-value "$(cat "$N/.quorum/config/max-value")" 2M
    same revision "$(cat "$N/.quorum/revision")" "$(rev)"
    [ "$(setting_of "$N/.quorum/status" cluster)" != "$(setting_of "$Q/status" cluster)" ]
    echo new >"$N/g"
    same "revisions go on" "$(cat "$N/.quorum/revision")" $(($(rev) + 1))
    new_umount
    "$QUORUMFS" check "$S/new" >"$S/check" || fail "$(cat "$S/check")"
    x "echo 2G > $Q/config/quota"
}

@test "what is no sound snapshot is refused with a sentence" {
    echo v >f
    cp "$Q/snapshot.db" "$S/b.db"
    echo text >"$S/text"
    refused 'is not a snapshot' --from "$S/text"
    refused 'No such file' --from "$S/none"
    sqlite3 "$S/foreign" 'CREATE TABLE t(x)'
    refused 'is not a snapshot' --from "$S/foreign"
    head -c 30000 "$S/b.db" >"$S/short"
    refused 'truncated' --from "$S/short"
    cp "$S/b.db" "$S/changed"
    sqlite3 "$S/changed" "UPDATE node SET mode = 511 WHERE name = CAST('f' AS BLOB)"
    refused 'damaged' --from "$S/changed"
    refused 'no cluster' --from "$S"
    fails_with 'needs a value' "$QUORUMFS" init "$S/new2" --from
}

flip() { # flip FILE OFFSET: one bit
    python3 -c 'import sys
f = open(sys.argv[1], "r+b"); f.seek(int(sys.argv[2])); b = f.read(1)[0]; f.seek(int(sys.argv[2])); f.write(bytes([b ^ 0x10]))' "$@"
}

@test "a flipped bit anywhere is found, or is where nothing is" {
    local size i off
    echo v >f
    cp "$Q/snapshot.db" "$S/b.db"
    size=$(stat -c %s "$S/b.db")
    RANDOM=4711
    for i in $(seq 12); do
        off=$(((RANDOM * 32768 + RANDOM) % size))
        cp "$S/b.db" "$S/x.db"
        flip "$S/x.db" $off
        if new_cluster --from "$S/x.db" >"$S/out" 2>&1; then
            "$QUORUMFS" check "$S/new" >"$S/check" || fail "byte $off: $(cat "$S/check")"
        fi
    done
}

@test "what is left of a lost cluster: a new one from the data directory of a member" {
    local N
    DIR=$S/old MNT=$QFS_ROOT/old daemon_start
    mkdir "$QFS_ROOT/old/d"
    echo kept >"$QFS_ROOT/old/d/f"
    fails_with 'is served by' new_cluster --from "$S/old"
    MNT=$QFS_ROOT/old daemon_kill
    cd "$T"
    new_cluster --from "$S/old"
    "$QUORUMFS" check "$S/new" >"$S/check" || fail "$(cat "$S/check")"
    new_mount
    holds "$N/d/f" 'kept\n'
    new_umount
}

# As after a power cut: SQLite has lost its newest transactions, the log has them. The disk can be read only.
@test "what only the log of a data directory has is in the new cluster, too" {
    local N
    DIR=$S/old MNT=$QFS_ROOT/old daemon_start
    echo a >"$QFS_ROOT/old/a"
    MNT=$QFS_ROOT/old daemon_kill
    mkdir "$S/db"
    cp "$S"/old/state-1.db* "$S/db/"
    DIR=$S/old MNT=$QFS_ROOT/old daemon_start
    echo b >"$QFS_ROOT/old/b"
    mkdir "$QFS_ROOT/old/d"
    MNT=$QFS_ROOT/old daemon_kill
    rm "$S"/old/state-1.db*
    cp "$S"/db/state-1.db* "$S/old/"
    read_only "$S/old"
    new_cluster --from "$S/old" >"$S/said" 2>&1 || fail "$(cat "$S/said")"
    umount "$S/old"
    grep -q 'applied what only the log of ".*" had entries=[0-9]* last=[0-9]*' "$S/said" || fail "$(cat "$S/said")"
    "$QUORUMFS" check "$S/new" >"$S/check" || fail "$(cat "$S/check")"
    new_mount
    holds "$N/a" 'a\n'
    holds "$N/b" 'b\n'
    [ -d "$N/d" ]
    new_umount
}

# A byte that the disk has changed.
@test "a damaged log of a data directory is refused, with what can be done" {
    local N segment
    DIR=$S/old MNT=$QFS_ROOT/old daemon_start
    echo a >"$QFS_ROOT/old/a"
    MNT=$QFS_ROOT/old daemon_stop
    mkdir "$S/db"
    cp "$S"/old/state-1.db* "$S/db/"
    DIR=$S/old MNT=$QFS_ROOT/old daemon_start
    echo b >"$QFS_ROOT/old/b"
    MNT=$QFS_ROOT/old daemon_stop
    rm "$S"/old/state-1.db*
    cp "$S"/db/state-1.db* "$S/old/"
    segment=$(ls "$S"/old/raft/0* | tail -n 1)
    flip "$segment" 60
    refused 'is damaged behind index' --from "$S/old"
    refused 'a copy of this one that has no "raft"' --from "$S/old"
    mv "$S/old/raft" "$S/raft"
    new_cluster --from "$S/old" >"$S/said" 2>&1 || fail "$(cat "$S/said")"
    new_mount
    holds "$N/a" 'a\n'
    [ ! -e "$N/b" ]
    new_umount
}
