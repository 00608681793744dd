# Starting and stopping: the command line, settings, refusals, umount, signals, dead mounts.
load ../lib/harness
setup_file() { root_file; }
teardown_file() { nothing_left; }
# A directory and a mount point of its own for each test.
setup() {
    needs_quorumfs
    unset QUORUMFS_TIMEOUT
    S=$QFS_ROOT/s$BATS_TEST_NUMBER
    DIR=$S/data MNT=$S/mnt
    mkdir -p "$MNT"
    cd "$S"
}
teardown() {
    [ "$QFS_TEST_ON" = quorumfs ] || return 0
    local rc=0 pidfile part
    actors_end
    cd /
    for part in bound data '100%#1?'; do # of a test that failed
        ! mountpoint -q "$S/$part" || umount "$S/$part"
    done
    for pidfile in "$S"/*.pid; do
        [ ! -e "$pidfile" ] || force_unmount "${pidfile%.pid}"
    done
    ! mounted || force_unmount "$MNT"
    log_check "$S" || rc=1
    return $rc
}

# ---- Helpers --------------------------------------------------------------------------------------------------------------------

quorumfs() { within 30 "$QUORUMFS" "$@" 3>&-; }

# refuses STATUS TEXT... -- ARG...: one line on stderr with all the texts, that exit status, nothing mounted.
refuses() {
    local status=$1 texts=() rc=0 text
    shift
    while [ "$1" != -- ]; do texts+=("$1"); shift; done
    shift
    quorumfs "$@" >"$S/out" 2>"$S/err" || rc=$?
    same "exit status of quorumfs $*" $rc "$status" || { cat "$S/err" >&2; return 1; }
    same "lines on stderr of quorumfs $*" "$(wc -l <"$S/err")" 1 || { cat "$S/err" >&2; return 1; }
    for text in "${texts[@]}"; do
        grep -qF -- "$text" "$S/err" || fail "quorumfs $*: expected '$text' in: $(cat "$S/err")"
    done
    ! mounted || fail "mounted all the same"
}

background_pid() { # the process that serves $MNT: it was not started with -f
    pgrep -f -- "^$QUORUMFS mount .*$MNT"
}

stopped() { ! pgrep -f -- "mount .*$S/" >/dev/null; }

# ---- quorumfs mount -------------------------------------------------------------------------------------------------------------

@test "mount on a missing DIR makes a cluster of one, says so, and is ready when it returns" {
    quorumfs mount "$DIR" "$MNT" >out 2>err
    same stdout "$(cat out)" "created a new cluster in $DIR"
    same stderr "$(cat err)" ''
    echo v >"$MNT/f"
    holds "$MNT/f" 'v\n'
    same "mode of DIR" "$(stat -c %a "$DIR")" 700
    umount "$MNT"
    wait_until 10 stopped
}

@test "mount on an empty DIR makes a cluster, on a used one it says nothing" {
    mkdir -m 755 "$DIR"
    quorumfs mount "$DIR" "$MNT" | grep -qx "created a new cluster in $DIR"
    echo v >"$MNT/f"
    umount "$MNT"
    same "output of the second mount" "$(quorumfs mount "$DIR" "$MNT" 2>&1)" ''
    holds "$MNT/f" 'v\n'
    umount "$MNT"
    wait_until 10 stopped
}

@test "paths may be relative" {
    quorumfs mount data mnt >/dev/null
    echo v >mnt/f
    umount mnt
    wait_until 10 stopped
    [ -d data ]
}

@test "no network socket is opened" {
    quorumfs mount "$DIR" "$MNT" >/dev/null
    local pid
    for pid in $(background_pid); do
        ! ls -l "/proc/$pid/fd" | grep -E 'socket:' || ! grep -E "$(ls -l /proc/$pid/fd | grep -oE 'socket:\[[0-9]+' | grep -oE '[0-9]+' | paste -sd'|')" /proc/net/{tcp,tcp6,udp,udp6}
    done
    umount "$MNT"
    wait_until 10 stopped
}

@test "the mount's data is private to its owner" {
    (umask 000; quorumfs mount "$DIR" "$MNT" >/dev/null)
    echo v >"$MNT/f"
    [ -z "$(find "$DIR" -perm /077)" ] || fail "open to others: $(find "$DIR" -perm /077 | head -3)"
    umount "$MNT"
    wait_until 10 stopped
}

@test "the process is a daemon: no terminal, no open descriptors of ours, works from /" {
    quorumfs mount "$DIR" "$MNT" >/dev/null 9>"$S/held"
    local pid
    pid=$(background_pid | head -1)
    same cwd "$(readlink "/proc/$pid/cwd")" /
    ! ls -l "/proc/$pid/fd" | grep -q held || false
    [ "$(ps -o sid= -p "$pid" | tr -d ' ')" != "$(ps -o sid= -p $$ | tr -d ' ')" ]
    umount "$MNT"
    wait_until 10 stopped
}

@test "in the background it logs to DIR/log where there is no syslog" {
    [ ! -S /dev/log ] || skip "there is a syslog"
    quorumfs mount "$DIR" "$MNT" >/dev/null
    umount "$MNT"
    wait_until 10 stopped
    grep -q quorumfs "$DIR/log"
    same "mode of the log" "$(stat -c %a "$DIR/log")" 600
}

@test "-f stays in the foreground and logs to stderr" {
    daemon_start
    daemon_alive
    grep -q 'quorumfs: ' "$MNT.log"
    daemon_stop
}

@test "a failing start says why and mounts nothing" {
    mkdir "$DIR"; echo hello >"$DIR/somebody-elses"
    refuses 1 "$DIR" somebody-elses -- mount "$DIR" "$MNT"
    same "left alone" "$(ls "$DIR")" somebody-elses
}

# ---- Ends ---------------------------------------------------------------------------------------------------------------------------

@test "umount ends it with status 0 and leaves everything on the disk" {
    daemon_start
    echo v >"$MNT/f"
    daemon_stop
    quorumfs check "$DIR"
    daemon_start
    holds "$MNT/f" 'v\n'
    daemon_stop
}

@test "SIGTERM and Ctrl-C end it with status 0, also with open files" {
    local signal
    for signal in TERM INT; do
        daemon_start
        echo $signal >"$MNT/f"
        actor_start A
        A open 3 "$MNT/f" r
        kill -$signal "$(daemon_pid)"
        daemon_gone 0
        ! mounted || fail "still mounted after SIG$signal"
        A exit
        daemon_start
        holds "$MNT/f" "$signal\n"
        daemon_stop
    done
}

@test "SIGTERM with a dirty file: what was not committed is lost, and logged" {
    daemon_start
    echo old >"$MNT/f"
    actor_start A
    A open 3 "$MNT/f" wt
    A write 3 uncommitted
    kill -TERM "$(daemon_pid)"
    daemon_gone 0
    expect_log 'not committed|uncommitted|lost'
    actor_signal A KILL
    daemon_start
    holds "$MNT/f" 'old\n'
    daemon_stop
}

@test "a busy mount refuses umount and works on; umount -l ends it when it is free" {
    daemon_start
    echo v >"$MNT/f"
    exec 9<"$MNT/f"
    fails_with busy umount "$MNT"
    echo w >"$MNT/f"
    umount -l "$MNT"
    daemon_alive
    same "through the open descriptor" "$(cat <&9)" v
    exec 9<&-
    daemon_gone 0
}

@test "a mount follows at once on an umount" {
    local i
    for i in 1 2 3 4 5; do
        quorumfs mount "$DIR" "$MNT" >/dev/null
        echo $i >>"$MNT/f"
        umount "$MNT"
    done
    quorumfs mount "$DIR" "$MNT"
    holds "$MNT/f" '1\n2\n3\n4\n5\n'
    umount "$MNT"
    wait_until 10 stopped
}

@test "a dead mount of which the kernel still tells something is taken away as well" {
    daemon_start
    test -d "$MNT" # it asks, and may keep the answer for seconds
    kill -9 "$(daemon_pid)"
    daemon_gone 137
    test -d "$MNT" || true
    quorumfs mount "$DIR" "$MNT" 2>"$S/err"
    grep -q 'took away the mount of a daemon that died' "$S/err"
    touch "$MNT/f"
    umount "$MNT"
    wait_until 10 stopped
}

@test "after kill -9 the next mount takes the dead one away" {
    daemon_start
    echo v >"$MNT/f"
    kill -9 "$(daemon_pid)"
    daemon_gone 137
    fails_with 'not connected' ls "$MNT"
    daemon_start
    holds "$MNT/f" 'v\n'
    same "mounts on it" "$(grep -c " $MNT " /proc/self/mountinfo)" 1
    daemon_stop
}

# ---- Refusals -------------------------------------------------------------------------------------------------------------------------

@test "a second daemon on the same DIR is refused" {
    daemon_start
    mkdir other
    refuses_elsewhere() { quorumfs mount "$DIR" "$S/other" >out 2>err; }
    ! refuses_elsewhere || false
    grep -q "$DIR" err
    ! grep -q " $S/other " /proc/self/mountinfo || false
    echo v >"$MNT/f"
    holds "$MNT/f" 'v\n'
    ! quorumfs check "$DIR" >out 2>err || false
    grep -qiE 'running|use' err
    daemon_stop
}

@test "mount points that will not do are refused" {
    touch file
    refuses 1 missing 'does not exist' -- mount "$DIR" "$S/missing"
    refuses 1 file 'not a directory' -- mount "$DIR" "$S/file"
    refuses 1 "$DIR" -- mount "$DIR" "$DIR"
    mkdir -p "$MNT/below"
    refuses 1 below -- mount "$MNT/below" "$MNT"
    mkdir -p "$DIR"
    refuses 1 "$DIR" -- mount "$DIR" "$DIR/mnt"
    rm -rf "$DIR"
    absent "$DIR"
    daemon_start
    ! quorumfs mount "$S/data2" "$MNT" >out 2>err || false
    grep -q busy err
    absent "$S/data2"
    daemon_stop
}

@test "a data directory on a mounted quorumfs is refused: it would wait for itself" {
    local there what to
    mkdir bound other
    daemon_start
    mkdir "$MNT/d"
    mount --bind "$MNT/d" bound
    for there in "$MNT/data" "$MNT/d" "$S/bound" "$S/bound/data"; do
        for what in init mount; do
            to=$([ $what = init ] || echo "$S/other")
            quorumfs $what "$there" $to >out 2>err && fail "$what $there: done"
            same lines "$(wc -l <err)" 1
            grep -qF "\"$there\" lies on the quorumfs that is mounted on" err && grep -q 'wait for itself' err || fail "$what $there: $(cat err)"
        done
    done
    ! mounted "$S/other" || false
    same files "$(find "$MNT" -mindepth 1 -not -path '*/.quorum*')" "$MNT/d"
    umount bound
    daemon_stop
}

@test "wrong usage has exit status 2" {
    refuses 2 -- frobnicate
    refuses 2 frobnicate -- frobnicate
    refuses 2 -- mount
    refuses 2 -- mount "$DIR"
    refuses 2 surplus -- mount "$DIR" "$MNT" surplus
    refuses 2 -- init
    refuses 2 -- check
    refuses 2 --frob -- mount "$DIR" "$MNT" --frob 1
    refuses 2 -x -- mount "$DIR" "$MNT" -x
    refuses 2 --
    absent "$DIR"
}

@test "--help and --version" {
    quorumfs --help >out
    grep -q 'quorumfs mount DIR MOUNTPOINT' out
    grep -q 'quorumfs check DIR' out
    [[ $(quorumfs --version) =~ ^quorumfs\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
}

@test "unknown settings and bad values are refused with name, value and what is allowed" {
    refuses 2 nosuch 5 quota -- init "$DIR" --nosuch 5
    refuses 2 nosuch timeout -- mount "$DIR" "$MNT" -o nosuch=5
    refuses 2 nosuch -- mount "$DIR" "$MNT" -o nosuch
    refuses 2 timeout never 5s -- mount "$DIR" "$MNT" --timeout never
    refuses 2 timeout 0 -- mount "$DIR" "$MNT" -o timeout=0
    refuses 2 reads sometimes linearizable local -- mount "$DIR" "$MNT" -o reads=sometimes
    refuses 2 id 0 -- init "$DIR" --id 0
    refuses 2 id x -- init "$DIR" --id x
    refuses 2 quota 5X -- init "$DIR" --quota 5X
    refuses 2 max-value 1K -- init "$DIR" --max-value 1K
    refuses 2 max-value 17M -- init "$DIR" --max-value 17M
    refuses 2 heartbeat 1000ms election-timeout -- init "$DIR" --heartbeat 1s
    refuses 2 election-timeout 100ms heartbeat -- mount "$DIR" "$MNT" -o election-timeout=100ms
    QUORUMFS_TIMEOUT=never refuses 2 QUORUMFS_TIMEOUT never -- mount "$DIR" "$MNT"
    QUORUMFS_NOSUCH=1 refuses 2 QUORUMFS_NOSUCH -- mount "$DIR" "$MNT"
    absent "$DIR"
}

@test "a list of members that cannot be is refused, and nothing is made" {
    refuses 2 --id -- init "$DIR" --cluster 1=127.0.0.1:7001,2=127.0.0.1:7002
    refuses 2 'member 3' -- init "$DIR" --id 3 --cluster 1=127.0.0.1:7001,2=127.0.0.1:7002
    refuses 2 '1=127.0.0.1:7002' twice -- init "$DIR" --id 1 --cluster 1=127.0.0.1:7001,1=127.0.0.1:7002
    refuses 2 '2=127.0.0.1:7001' twice -- init "$DIR" --id 1 --cluster 1=127.0.0.1:7001,2=127.0.0.1:7001
    refuses 2 HOST:PORT -- init "$DIR" --id 1 --cluster 1=::1:7001
    refuses 2 ID=HOST:PORT -- init "$DIR" --id 1 --cluster 127.0.0.1:7001
    refuses 2 'more than 7' -- init "$DIR" --id 1 --cluster 1=a:1,2=a:2,3=a:3,4=a:4,5=a:5,6=a:6,7=a:7,8=a:8
    refuses 2 --cluster -- init "$DIR" --token x
    absent "$DIR"
}

@test "a member of a list keeps its address for itself, and an even number of voters is warned of" {
    run "$QUORUMFS" init "$DIR" --id 2 --cluster 1=127.0.0.1:7001,2=127.0.0.1:7002
    [ "$status" -eq 0 ]
    grep -q 'odd number' <<<"$output"
    grep -q 'member 2 of a new cluster of 2' <<<"$output"
    grep -qx 'listen = 127.0.0.1:7002' "$DIR/quorumfs.conf"
    ! grep -q advertise "$DIR/quorumfs.conf" || false
    "$QUORUMFS" check "$DIR"
}

@test "a member that listens elsewhere than its list says advertises what the list says" {
    "$QUORUMFS" init "$DIR" --id 2 --cluster 1=127.0.0.1:7001,2=127.0.0.1:7002,3=127.0.0.1:7003 --listen 127.0.0.1:8002
    grep -qx 'listen = 127.0.0.1:8002' "$DIR/quorumfs.conf"
    grep -qx 'advertise = 127.0.0.1:7002' "$DIR/quorumfs.conf"
}

@test "a join that cannot be is refused, and says what is missing" {
    refuses 2 --listen -- init "$DIR" --join 127.0.0.1:7001
    refuses 2 --cluster -- init "$DIR" --join 127.0.0.1:7001 --listen 127.0.0.1:7002 --cluster 1=127.0.0.1:7001 --id 1
    refuses 2 --id -- init "$DIR" --join 127.0.0.1:7001 --listen 127.0.0.1:7002 --id 3
    refuses 2 quota -- init "$DIR" --join 127.0.0.1:7001 --listen 127.0.0.1:7002 --quota 1G
    refuses 1 127.0.0.1:1 refused -- init "$DIR" --join 127.0.0.1:1 --listen 127.0.0.1:7002
    refuses 1 insecure -- init "$DIR" --join 192.0.2.1:7001 --listen 127.0.0.1:7002
    refuses 1 'cannot listen on "192.0.2.1:7002"' insecure -- init "$DIR" --join 127.0.0.1:1 --listen 192.0.2.1:7002
    refuses 2 'HOST:PORT' -- init "$DIR" --join 127.0.0.1 --listen 127.0.0.1:7002
    absent "$DIR"
}

@test "an init that fails leaves a directory as it was" {
    mkdir "$DIR"
    echo 'timeout = 5s' >"$DIR/quorumfs.conf"
    refuses 1 127.0.0.1:1 refused -- init "$DIR" --join 127.0.0.1:1 --listen 127.0.0.1:7002
    same files "$(ls -A "$DIR")" quorumfs.conf
    same settings "$(cat "$DIR/quorumfs.conf")" 'timeout = 5s'
    refuses 1 snapshot -- init "$DIR" --from "$DIR/quorumfs.conf" --reads local
    same files "$(ls -A "$DIR")" quorumfs.conf
    same settings "$(cat "$DIR/quorumfs.conf")" 'timeout = 5s'
    refuses 1 'No such file' -- init "$DIR/sub" --from "$DIR/nothing" --listen 127.0.0.1:7002
    absent "$DIR/sub"
}

@test "a listen address that will not do is refused before anything is made" {
    local address='cannot listen on "192.0.2.1:7002"'
    refuses 1 "$address" insecure -- init "$DIR" --listen 192.0.2.1:7002
    refuses 1 "$address" 'not an address of this machine' -- init "$DIR" --listen 192.0.2.1:7002 --insecure yes
    refuses 1 "$address" insecure -- init "$DIR" --id 1 --cluster 1=192.0.2.1:7002,2=192.0.2.2:7002,3=192.0.2.3:7002
    refuses 1 "$address" insecure -- mount "$DIR" "$MNT" --listen 192.0.2.1:7002
    refuses 1 "$address" 'not an address of this machine' -- mount "$DIR" "$MNT" --listen 192.0.2.1:7002 --insecure yes
    absent "$DIR"
}

@test "what is not built yet says so" {
    refuses 1 'not built yet' -- mount "$DIR" "$MNT" --tls-cert cert.pem
    absent "$DIR"
}

# ---- Settings ---------------------------------------------------------------------------------------------------------------------------

timeout_of() { # the timeout that a mount started like this has
    daemon_start "$@" && cat "$MNT/.quorum/config/timeout" && daemon_stop
}

@test "settings: the command line wins over the environment, that over quorumfs.conf, that over the default" {
    same default "$(timeout_of)" 5s
    echo 'timeout = 6s' >"$DIR/quorumfs.conf"
    same conf "$(timeout_of)" 6s
    export QUORUMFS_TIMEOUT=7
    same environment "$(timeout_of)" 7s
    same "command line" "$(timeout_of --timeout 8s)" 8s
    same "command line" "$(timeout_of --timeout=8500ms)" 8500ms
    same "-o" "$(timeout_of -o timeout=9s)" 9s
}

@test "quorumfs.conf is checked" {
    quorumfs init "$DIR" >/dev/null
    echo 'nosuch = 5' >"$DIR/quorumfs.conf"
    refuses 1 nosuch 5 timeout quorumfs.conf -- mount "$DIR" "$MNT"
    echo 'timeout = never' >"$DIR/quorumfs.conf"
    refuses 1 timeout never quorumfs.conf -- mount "$DIR" "$MNT"
    echo 'quota = 1G' >"$DIR/quorumfs.conf"
    refuses 1 quota .quorum/config -- mount "$DIR" "$MNT"
    echo 'no equals sign' >"$DIR/quorumfs.conf"
    refuses 1 quorumfs.conf -- mount "$DIR" "$MNT"
    printf '# a comment\n\n  timeout=6s\n' >"$DIR/quorumfs.conf"
    same timeout "$(timeout_of)" 6s
}

@test "init makes a cluster without mounting, once" {
    same output "$(quorumfs init "$DIR" --quota 100M --id 3)" "created a new cluster in $DIR"
    refuses 1 "$DIR" 'has a cluster' -- init "$DIR"
    daemon_start
    same settings "$(cat "$MNT/.quorum/config/quota") $(cat "$MNT/.quorum/config/id")" '100M 3'
    same "member in status" "$(setting_of "$MNT/.quorum/status" member)" 3
    daemon_stop
    refuses 1 id -- mount "$DIR" "$MNT" --id 4
}

@test "cluster settings can be given by the mount that makes the cluster" {
    daemon_start -o quota=64M,max-value=64K
    same settings "$(cat "$MNT/.quorum/config/quota") $(cat "$MNT/.quorum/config/max-value")" '64M 64K'
    daemon_stop
    allow_log 'quota.*not used'
    daemon_start -o quota=65M
    same quota "$(cat "$MNT/.quorum/config/quota")" 64M
    expect_log 'quota.*65M.*not used'
    daemon_stop
}

# ---- mount(8) -----------------------------------------------------------------------------------------------------------------------------

helper() { # a mount.fuse.quorumfs as mount(8) calls it
    ln -sf "$QUORUMFS" "$S/mount.fuse.quorumfs"
    within 30 "$S/mount.fuse.quorumfs" "$@" 3>&-
}

@test "called as mount.fuse.quorumfs it takes mount(8)'s arguments and never makes a cluster" {
    ! helper "$DIR" "$MNT" -o rw,nosuid,nodev >out 2>err || false
    grep -q create err
    absent "$DIR"
    mkdir "$DIR"
    ! helper "$DIR" "$MNT" 2>err || false
    same "empty DIR" "$(ls -A "$DIR")" ''
    helper "$DIR" "$MNT" -s -v -n -o rw,noatime,nofail,_netdev,x-systemd.automount,create -t fuse.quorumfs >/dev/null
    echo v >"$MNT/f"
    grep " $MNT " /proc/self/mountinfo | grep -q noatime
    umount "$MNT"
    wait_until 10 stopped
    helper "$DIR" "$MNT" -o defaults
    holds "$MNT/f" 'v\n'
    umount "$MNT"
    wait_until 10 stopped
}

@test "mount -t fuse.quorumfs works where the helper is installed" {
    [ ! -e /usr/sbin/mount.fuse.quorumfs ] || skip "another one is installed"
    quorumfs init "$DIR" >/dev/null
    ln -s "$QUORUMFS" /usr/sbin/mount.fuse.quorumfs
    within 30 mount -t fuse.quorumfs "$DIR" "$MNT" -o noexec 3>&- || { rm -f /usr/sbin/mount.fuse.quorumfs; return 1; }
    rm -f /usr/sbin/mount.fuse.quorumfs
    same "type and options" "$(findmnt -n -o FSTYPE "$MNT") $(findmnt -n -o OPTIONS "$MNT" | tr , '\n' | grep -cxE 'noexec|nosuid|nodev')" 'fuse.quorumfs 3'
    umount "$MNT"
    wait_until 10 stopped
}

@test "an unknown option of fstab is refused" {
    ! helper "$DIR" "$MNT" -o nosuch 2>err || false
    grep -q nosuch err
}

@test "-o ro refuses changes" {
    quorumfs init "$DIR" >/dev/null
    daemon_start -o ro
    fails_with 'Read-only' touch "$MNT/f"
    fails_with 'Read-only' mkdir "$MNT/d"
    cat "$MNT/.quorum/status" >/dev/null
    daemon_stop
}

@test "-o noexec is handed on" {
    daemon_start -o noexec
    cp /bin/true "$MNT/true"
    fails_with 'Permission denied' "$MNT/true"
    daemon_stop
}

@test "-o noexec of another user's mount is handed on to fusermount3" {
    local nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    within 5 "${nobody[@]}" fusermount3 --version >/dev/null || skip "fusermount3 is not there for others"
    install -d -o 65534 -g 65534 -m 700 "$S/own" "$S/own/mnt"
    cp "$QUORUMFS" "$QFS_ROOT/bin/quorumfs-copy"
    within 20 "${nobody[@]}" "$QFS_ROOT/bin/quorumfs-copy" mount "$S/own/data" "$S/own/mnt" -o noexec,noatime,nodiratime >out 2>&1 3>&- ||
        { grep -q "no right to mount\|fusermount3" out && skip "others may not mount here"; cat out; return 1; }
    same options "$(findmnt -n -o OPTIONS "$S/own/mnt" | tr , '\n' | grep -cxE 'noexec|noatime|nosuid|nodev')" 4
    "${nobody[@]}" fusermount3 -u "$S/own/mnt"
    wait_until 10 bash -c "! pgrep -f -- '[m]ount $S/own/data'"
}

@test "the mount is known by its type and DIR" {
    daemon_start
    same "type and source" "$(findmnt -n -o FSTYPE,SOURCE "$MNT" | tr -s ' ')" "fuse.quorumfs $DIR"
    daemon_stop
}

# ---- check --------------------------------------------------------------------------------------------------------------------------------

@test "check says that a directory is sound, with its segments and revision" {
    daemon_start
    local i
    for i in {1..20}; do echo $i >"$MNT/f$i"; done
    local revision=$(cat "$MNT/.quorum/revision")
    daemon_stop
    quorumfs check "$DIR" >out
    grep -qE 'raft/.* index [0-9]+-[0-9]+ term [0-9]+-[0-9]+' out
    grep -q "revision.*\b$revision\b" out
    same "checked twice" "$(quorumfs check "$DIR" | md5sum)" "$(md5sum <out | cat)"
}

@test "check looks at a directory where nothing can be written, with a WAL and without one" {
    local revision
    daemon_start
    echo a >"$MNT/a"
    daemon_stop
    rm -f "$DIR"/state-1.db-*
    mount --bind "$DIR" "$DIR"
    mount -o remount,bind,ro "$DIR"
    quorumfs check "$DIR" >out || fail "$(cat out)"
    umount "$DIR"
    daemon_start
    echo b >"$MNT/b"
    revision=$(cat "$MNT/.quorum/revision")
    daemon_kill
    [ -s "$DIR/state-1.db-wal" ]
    mv "$DIR" "$S/100%#1?"
    mount --bind "$S/100%#1?" "$S/100%#1?"
    mount -o remount,bind,ro "$S/100%#1?"
    quorumfs check "$S/100%#1?" >out || fail "$(cat out)"
    grep -q "store: revision $revision," out || fail "$(cat out)"
    umount "$S/100%#1?"
}

@test "check refuses what is no data directory" {
    mkdir empty foreign; touch foreign/file
    refuses 1 missing -- check "$S/missing"
    refuses 1 empty -- check "$S/empty"
    refuses 1 foreign -- check "$S/foreign"
    same "left alone" "$(ls empty foreign | tr '\n' ' ')" 'empty:  foreign: file '
}

# ---- Without the right --------------------------------------------------------------------------------------------------------------------

@test "without the right to mount it says what to add" {
    refuses_as_nobody() {
        within 20 setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all env PATH=/nonexistent "$QFS_ROOT/bin/quorumfs-copy" mount "$S/nobody/data" "$S/nobody/mnt" >out 2>err
    }
    cp "$QUORUMFS" "$QFS_ROOT/bin/quorumfs-copy"
    mkdir -m 777 nobody nobody/mnt
    ! refuses_as_nobody || false
    same "lines on stderr" "$(wc -l <err)" 1
    grep -qiE 'mount|fuse|root' err
    absent nobody/data
}
