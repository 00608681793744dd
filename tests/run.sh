#!/bin/bash
# Builds everything and runs all tests. As root on Debian 12; installs the packages that are missing.
#
#   tests/run.sh                 what CI does
#   BUILD_DIR=/x tests/run.sh    build there (default: build/ in the source tree), a directory for each preset
#   JOBS=4 tests/run.sh          how many jobs at once (default: all processors; of tests half as many again with sanitizers, twice as many
#                                without: they wait a lot, and those that do not count twice)
#
# The preset that is tested first is built first; the others while tests wait, on what these leave of the processors. Builds stop at the
# first warning. The presets are tested in the order of `suites`; the first that fails ends the run. The last line is ctest's summary.
set -euo pipefail
export LC_ALL=C.UTF-8 TZ=UTC
umask 022
unset CDPATH

packages=(cmake ninja-build gcc clang libclang-rt-14-dev pkg-config libc6-dev libfuse3-dev fuse3 libraft-dev libuv1-dev libsqlite3-dev
    libprotobuf-c-dev protobuf-c-compiler libxxhash-dev uthash-dev libinih-dev libjson-c-dev libcmocka-dev
    bats inotify-tools attr git patch rsync vim strace python3 python3-yaml systemd sqlite3 e2fsprogs iproute2 util-linux mount procps
    man-db groff-base)

builds=(asan tsan clang dev) # the last one is that of the whole suite, beside which nothing is built
# Preset and ctest labels, a regular expression. The last one has all tests but those of the first, so that each test runs at least once.
suites=(
    "asan unit|mount"
    "tsan mount"
    "dev .*"
)

root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD_DIR:-$root/build}
case $build in /*) ;; *) build=$PWD/$build ;; esac
jobs=${JOBS:-$(nproc)}

die() {
    echo "tests/run.sh: $*" >&2
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
    [ "$(id -u)" = 0 ] || die "the tests mount, change users and kill daemons: run as root"
    [ -e /dev/fuse ] ||
        die "there is no /dev/fuse: load the fuse module (modprobe fuse), or in a container add --device /dev/fuse --cap-add SYS_ADMIN"
    (((0x$(awk '/^CapEff:/ { print $2 }' /proc/self/status) >> 21) & 1)) ||
        die "no right to mount: the capability SYS_ADMIN is missing; in a container add --device /dev/fuse --cap-add SYS_ADMIN"
}

# Test members make and remove gigabytes of small data directories. On a disk that discards what is removed, that stalls every fsync
# of the machine for seconds, and commits time out. So they live in memory where there is room, unless the caller names a place.
choose_tmpdir() {
    local room
    [ -z "${TMPDIR:-}" ] || return 0
    room=$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }')
    [ "${room:-0}" -lt $((4 * 1024 * 1024)) ] || export TMPDIR=/dev/shm
}

build() {
    local preset
    for preset; do
        echo "== build $preset"
        cmake --preset "$preset" -B "$build/$preset" >/dev/null
        cmake --build "$build/$preset" -j "$jobs"
    done
}

# The names of a suite's tests, as a regular expression that matches them whole.
names_of() { # names_of "PRESET LABELS"
    local preset labels names
    read -r preset labels <<<"$1"
    names=$(ctest --test-dir "$build/$preset" -L "$labels" -N | sed -n 's/^ *Test *#[0-9]*: //p' | sed 's/[.+]/[&]/g' | paste -sd'|')
    [ -n "$names" ] || die "no tests of $preset have the labels $labels"
    echo "^($names)\$"
}

# run_tests PRESET LABELS [OPTION of ctest...]
run_tests() {
    local at_once=$((jobs * 2))
    case $1 in asan | tsan) at_once=$((jobs + (jobs + 1) / 2)) ;; esac
    echo "== test $1 ($2)"
    ctest --test-dir "$build/$1" -L "$2" "${@:3}" --output-on-failure --no-tests=error -j "${JOBS:-$at_once}"
}

# Builds what is tested later, and says what it did when something failed.
build_others() {
    local preset
    mkdir -p "$build"
    for preset in "${builds[@]}"; do rm -f "$build/$preset.built"; done
    set -m # a group of its own, to be ended as a whole
    (
        renice -n 19 "$BASHPID" >/dev/null
        for preset in "${builds[@]:1}"; do
            build "$preset"
            touch "$build/$preset.built"
        done
    ) >"$build/others.log" 2>&1 &
    others=$!
    set +m
    trap 'kill -- "-$others" 2>/dev/null || true' EXIT
}
wait_built() { # wait_built PRESET
    until [ -e "$build/$1.built" ]; do
        kill -0 "$others" 2>/dev/null || [ -e "$build/$1.built" ] || { cat "$build/others.log"; exit 1; }
        sleep 0.5
    done
}
all_built() {
    wait "$others" || { cat "$build/others.log"; exit 1; }
    trap - EXIT
}

cd "$root"
need_fuse
install_packages
choose_tmpdir
build "${builds[0]}"
build_others
for suite in "${suites[@]}"; do
    read -r preset labels <<<"$suite"
    [ "$preset" = "${builds[0]}" ] || wait_built "$preset"
    without=()
    if [ "$suite" = "${suites[-1]}" ]; then
        names=$(names_of "${suites[0]}")
        without=(-E "$names")
    fi
    run_tests "$preset" "$labels" "${without[@]}"
done
all_built
