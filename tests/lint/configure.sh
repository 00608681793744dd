#!/bin/bash
# configure.sh ROOT: a library that is missing or of a wrong version is refused at configure time, by name, with the package to install.
set -euo pipefail
root=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# fake MODULE VERSION: pkg-config finds this instead
fake() {
    mkdir -p "$tmp/pc"
    printf 'Name: %s\nDescription: made up\nVersion: %s\nLibs:\nCflags:\n' "$1" "$2" >"$tmp/pc/$1.pc"
}

# refused WORD...: configuring fails with a message that has all the words
refused() {
    local out
    rm -rf "$tmp/build"
    if out=$(PKG_CONFIG_PATH=$tmp/pc cmake -S "$root" -B "$tmp/build" -G Ninja 2>&1); then
        echo "configured in spite of: $*"
        exit 1
    fi
    out=$(tr -s ' \n' ' ' <<<"$out") # cmake breaks lines
    for word in "$@"; do
        [[ $out == *"$word"* ]] || { echo "\"$word\" is not in: $out"; exit 1; }
    done
    rm -rf "$tmp/pc"
}

fake fuse3 3.10.5
refused 'fuse3 from 3.14' 'found 3.10.5' libfuse3-dev
fake raft 0.22.1
refused 'raft from 0.15, below 0.16' 'found 0.22.1' libraft-dev
fake sqlite3 3.34.1
refused 'sqlite3 3.40 or newer' 'found 3.34.1' libsqlite3-dev
mkdir "$tmp/pc"
if out=$(PKG_CONFIG_LIBDIR=$tmp/pc cmake -S "$root" -B "$tmp/build2" -G Ninja 2>&1); then
    echo 'configured without any library'
    exit 1
fi
out=$(tr -s ' \n' ' ' <<<"$out")
[[ $out == *'apt-get install libfuse3-dev'* ]] || { echo "no package is named: $out"; exit 1; }
