# Takes away what a test leaves: processes by their recorded pids, mounts, loop devices with them, and the directory. Sourced by the
# harness, and run by the guard as `cleanup.bash ROOT` when a test was killed.

# connection_of MOUNTPOINT: the number of its FUSE connection (the minor device number), also the name below /sys/fs/fuse/connections.
connection_of() { awk -v m="$1" '$5 == m && / - fuse/ {split($3, d, ":"); n = d[2]} END {print n}' /proc/self/mountinfo; }

abort_connection() { # abort_connection MOUNTPOINT
    local n
    n=$(connection_of "$1")
    [ -n "$n" ] || return 0
    [ -d "/sys/fs/fuse/connections/$n" ] || mount -t fusectl none /sys/fs/fuse/connections || return 1
    echo 1 >"/sys/fs/fuse/connections/$n/abort"
}

# process_runs PID: it is there and is no zombie, which has closed its files, too.
process_runs() {
    local stat
    read -r stat <"/proc/$1/stat" && [[ ${stat##*) } != [ZX]* ]]
} 2>/dev/null

# force_unmount MOUNTPOINT: gently; else by aborting the connection, which frees whoever hangs in it, and lazily. The number of a
# connection is looked up while it is mounted, never remembered: the kernel gives the numbers of ended ones to others.
force_unmount() {
    local pid
    pid=$(cat "$1.pid" 2>/dev/null) && [ -n "$pid" ] && [ ! -s "$1.exit" ] && kill -9 "$pid" 2>/dev/null
    while grep -q " $1 " /proc/self/mountinfo; do
        timeout 5 umount "$1" 2>/dev/null && continue
        abort_connection "$1" 2>/dev/null || true
        timeout 5 umount -l "$1" 2>/dev/null || break
    done
    return 0
}

# cleanup ROOT: nothing that is below it stays.
cleanup() {
    local file mount pid
    [[ $1 == */quorumfs-test.?* ]] || return 1
    for file in "$1"/*.pid; do
        [ ! -e "$file" ] || force_unmount "${file%.pid}"
    done
    # Processes that name the directory, of which nobody else knows; not this one, nor the guard.
    for pid in $(pgrep -f -- "$1"); do
        [ "$pid" = $$ ] || [ "$pid" = $BASHPID ] || [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = guard ] || kill -9 "$pid" 2>/dev/null
    done
    for mount in $(awk -v r="$1/" 'index($5, r) == 1 {print $5}' /proc/self/mountinfo | tac); do
        force_unmount "$mount"
    done
    # Never through a mount that could not be taken away.
    ! grep -q " $1/" /proc/self/mountinfo || return 1
    rm -rf --one-file-system "$1"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    cd / && cleanup "$1"
fi
