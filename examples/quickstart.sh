#!/bin/bash
# Builds quorumfs and mounts a cluster of one, to try it out.
#
#   examples/quickstart.sh         build, mount, say what to try, leave it running; again: say where it runs
#   examples/quickstart.sh stop    unmount it; the data stays
#   examples/quickstart.sh build   only install what is needed, and build; `packages`: only install
#
# Needs Debian 12 (or what has the same packages); as root it installs what is missing. Environment:
#   BUILD_DIR       where to build          (default: build/ in the source tree)
#   QUICKSTART_DIR  where data and mount are (default: /var/lib/quorumfs-quickstart as root, else in ~/.local/state)
set -euo pipefail
export LC_ALL=C
umask 022
unset CDPATH

packages=(cmake ninja-build gcc pkg-config libc6-dev libfuse3-dev fuse3 libraft-dev libuv1-dev libsqlite3-dev libprotobuf-c-dev
    protobuf-c-compiler libxxhash-dev uthash-dev libinih-dev libjson-c-dev)

root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD_DIR:-$root/build}
if [ "$(id -u)" = 0 ]; then
    base=${QUICKSTART_DIR:-/var/lib/quorumfs-quickstart}
else
    base=${QUICKSTART_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/quorumfs-quickstart}
fi
case $base in /*) ;; *) base=$PWD/$base ;; esac
data=$base/data mnt=$base/mnt

die() {
    echo "quickstart: $*" >&2
    exit 1
}

install_packages() {
    local missing=() p
    command -v dpkg-query >/dev/null || return 0 # not a Debian system: configuring will name what is missing
    for p in "${packages[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || die "packages are missing, run as root: apt-get install ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update
    apt-get -q install -y --no-install-recommends "${missing[@]}"
}

need_fuse() {
    [ -e /dev/fuse ] ||
        die "there is no /dev/fuse: load the fuse module (modprobe fuse), or in a container add --device /dev/fuse --cap-add SYS_ADMIN"
    [ "$(id -u)" != 0 ] || (((0x$(awk '/^CapEff:/ { print $2 }' /proc/self/status) >> 21) & 1)) ||
        die "no right to mount: the capability SYS_ADMIN is missing; in a container add --device /dev/fuse --cap-add SYS_ADMIN"
}

# Mounted and answering. A mount whose daemon died does not count: mounting again takes it away.
is_running() {
    timeout 10 test -e "$mnt/.quorum/status"
}

build_it() {
    need_fuse
    install_packages
    cd "$root"
    cmake --preset release -B "$build/release" >/dev/null
    cmake --build "$build/release" --target quorumfs
}

say_what_to_try() {
    cat <<EOF

quorumfs is running. The tree is   $mnt
                     its data is   $data

Try, with M='$mnt':
    echo 10.0.0.7:80 > "\$M/web1"              # one atomic, durable commit
    cat "\$M/web1"
    getfattr --only-values -n user.quorum "\$M/web1"    # revisions, version, writer (package attr)
    mkdir "\$M/new" && cp -a /etc/default/. "\$M/new" && mv "\$M/new" "\$M/conf"   # publish a directory at once
    cat "\$M/.quorum/README" "\$M/.quorum/status"
    cat "\$M/.quorum/watch/.events" &                  # every change as it happens, exactly once
    echo 10.0.0.8:80 > "\$M/web1"; diff -r "\$M/.quorum/at/head-1" "\$M"      # what the last change did
    cp "\$M/.quorum/snapshot.db" backup.db            # a backup; quorumfs init NEWDIR --from backup.db brings it back

Stop it with: $0 stop       (the data stays; remove $base to begin anew)
EOF
}

start() {
    if is_running; then
        say_what_to_try
        return
    fi
    build_it
    mkdir -p "$base" "$mnt" 2>/dev/null || mkdir -p "$base" # a dead mount is there, but cannot be looked at
    "$build/release/fs/quorumfs" mount "$data" "$mnt"
    say_what_to_try
}

stop() {
    if ! grep -qsF " $(printf '%s' "$mnt" | sed 's/\\/\\134/g; s/ /\\040/g') " /proc/self/mountinfo; then
        echo "quickstart: nothing is mounted on $mnt"
        return
    fi
    if [ "$(id -u)" = 0 ]; then umount "$mnt"; else fusermount3 -u "$mnt"; fi
    # The member ends after the mount is gone; it holds this lock until then.
    [ ! -e "$data/lock" ] || flock -w 30 "$data/lock" true || die "the member did not end within 30 s"
    echo "quickstart: stopped; the data stays in $data"
}

case ${1:-start} in
    start) start ;;
    stop) stop ;;
    build) build_it ;;
    packages) install_packages ;;
    *) echo "usage: $0 [stop|build|packages]" >&2; exit 2 ;;
esac
