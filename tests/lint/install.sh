#!/bin/bash
# install.sh BUILD: what `cmake --install` puts where, with DESTDIR and a prefix with a space.
set -euo pipefail
build=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
umask 022

# check PREFIX DESTDIR
check() {
    local at=$2$1 helper
    DESTDIR=$2 cmake --install "$build" --prefix "$1" >"$tmp/log" || { cat "$tmp/log"; exit 1; }
    for f in bin/quorumfs share/man/man5/quorumfs.5 share/man/man8/quorumfs.8 share/doc/quorumfs/README.md share/doc/quorumfs/LICENSE \
        share/doc/quorumfs/examples/quickstart.sh sbin/mount.fuse.quorumfs lib/systemd/system/quorumfs@.service; do
        [ -e "$at/$f" ] || { echo "$f was not installed below $1"; exit 1; }
    done
    helper=$at/sbin/mount.fuse.quorumfs
    [ "$(readlink "$helper")" = ../bin/quorumfs ] || { echo "mount.fuse.quorumfs leads to $(readlink "$helper")"; exit 1; }
    [[ $("$helper" --version) == 'quorumfs '[0-9]* ]] || { echo "the installed program does not run"; exit 1; }
}

check /usr "$tmp/dest"
check "$tmp/a prefix" ''
