#!/bin/bash
# Three members of one cluster on this machine, over loopback: what is written on one is on all.
#
#   examples/three-members.sh           build, make the cluster, mount three times, say what to try, leave it running
#   examples/three-members.sh stop      unmount all; the data stays
#   examples/three-members.sh kill N    kill -9 the daemon of member N, as a crash would; the other two go on
#   examples/three-members.sh start N   mount member N again
#
# Environment: BUILD_DIR as in quickstart.sh; THREE_DIR where data and mounts are (default: /var/lib/quorumfs-three as root, else in
# ~/.local/state); PORT the first of three ports (default 7401); QUORUMFS an installed program, which then is not built.
set -euo pipefail
export LC_ALL=C
umask 022
unset CDPATH

here=$(cd "$(dirname "$0")" && pwd)
build=${BUILD_DIR:-$here/../build}
port=${PORT:-7401}
if [ "$(id -u)" = 0 ]; then
    base=${THREE_DIR:-/var/lib/quorumfs-three}
else
    base=${THREE_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/quorumfs-three}
fi
case $base in /*) ;; *) base=$PWD/$base ;; esac
quorumfs=${QUORUMFS:-$build/release/fs/quorumfs}
members=1=127.0.0.1:$port,2=127.0.0.1:$((port + 1)),3=127.0.0.1:$((port + 2))

die() {
    echo "three-members: $*" >&2
    exit 1
}

is_member() { [[ $1 == [123] ]] || die "there is no member \"$1\": they are 1, 2, 3"; }

# Mounted and answering; a mount whose daemon died is not.
is_running() { timeout 10 test -e "$base/mnt$1/.quorum/status"; }

is_mounted() { grep -qsF " $(printf '%s' "$base/mnt$1" | sed 's/\\/\\134/g; s/ /\\040/g') " /proc/self/mountinfo; }

mount_member() {
    is_running "$1" || "$quorumfs" mount -o nocreate "$base/data$1" "$base/mnt$1"
}

make_cluster() {
    local n
    for n in 1 2 3; do
        mkdir -p "$base/mnt$n" 2>/dev/null || true # a dead mount is there, but cannot be looked at
        [ -e "$base/data$n/quorumfs.conf" ] || "$quorumfs" init "$base/data$n" --id "$n" --cluster "$members"
    done
}

say_what_to_try() {
    cat <<EOF

Three members are running. Each shows the same tree:
    $base/mnt1  $base/mnt2  $base/mnt3

Try, with B='$base':
    echo 10.0.0.7:80 > "\$B/mnt1/web1"; cat "\$B/mnt2/web1"      # written on one, read on another
    inotifywait -m "\$B/mnt3" &                                 # (package inotify-tools) watch on the third,
    echo 10.0.0.8:80 > "\$B/mnt1/web2"                          # and see what the first does
    grep -E 'role|leader|members' "\$B/mnt1/.quorum/status"
    $0 kill 1                # the other two elect a leader and go on
    $0 start 1               # it comes back and catches up

Stop them with: $0 stop       (the data stays; remove $base to begin anew)
EOF
}

start_all() {
    local n pids=()
    if ! is_running 1 || ! is_running 2 || ! is_running 3; then
        [ -n "${QUORUMFS:-}" ] || "$here/quickstart.sh" build
        mkdir -p "$base"
        make_cluster
        for n in 1 2 3; do # at once: each waits for a majority
            mount_member "$n" &
            pids+=($!)
        done
        for n in "${pids[@]}"; do wait "$n" || die "a member did not start"; done
    fi
    say_what_to_try
}

stop_member() {
    is_mounted "$1" || return 0
    if [ "$(id -u)" = 0 ]; then umount "$base/mnt$1"; else fusermount3 -u "$base/mnt$1"; fi
}

stop_all() {
    local n
    for n in 1 2 3; do stop_member "$n"; done
    # A member ends after its mount is gone; it holds this lock until then.
    for n in 1 2 3; do
        [ ! -e "$base/data$n/lock" ] || flock -w 30 "$base/data$n/lock" true || die "member $n did not end within 30 s"
    done
    echo "three-members: stopped; the data stays in $base"
}

case ${1:-} in
    '') start_all ;;
    stop) stop_all ;;
    kill) is_member "${2:-}"; kill -9 "$(cat "$base/data$2/lock")" ;;
    start) is_member "${2:-}"; mount_member "$2" ;;
    *) echo "usage: $0 [stop | kill N | start N]" >&2; exit 2 ;;
esac
