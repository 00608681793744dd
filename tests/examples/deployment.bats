# Units of systemd and files for containers: what can be seen without systemd or a container engine running.
load ../lib/harness
setup() {
    root_file
    S=$QFS_ROOT/s
    mkdir "$S"
}
teardown() {
    local rc=0
    cd /
    if mounted; then daemon_stop || rc=1; fi
    nothing_left || rc=1
    return $rc
}

@test "systemd accepts the units" {
    mkdir -p "$S/units"
    local unit
    for unit in quorumfs config-reload; do
        cp "$QFS_EXAMPLES/systemd/$unit@.service" "$S/units/$unit@q.service"
    done
    cp "$QFS_EXAMPLES/systemd/config-reload@.path" "$S/units/config-reload@q.path"
    # The programs that a unit starts need not be installed on this machine.
    sed -i "s|/usr/bin/quorumfs|$QUORUMFS|" "$S/units"/*.service
    ! systemd-analyze verify --man=no --recursive-errors=no "$S/units"/* 2>&1 | grep -F "$S/units" | grep -v 'Unit is bound to inactive\|not found' || false
}

# unit_start: what systemd runs to start quorumfs@q, with other paths. A `-` before a command: its failure does not matter.
unit_start() {
    local line rc=0
    while read -r line; do
        line=$(sed "s|/usr/bin/quorumfs|$QUORUMFS|; s|/var/lib/quorumfs/%i|$S/data|; s|/mnt/%i|$MNT|" <<<"$line")
        rc=0
        ${line#-} 3>&- || rc=$?
        [ "$rc" = 0 ] || [[ $line == -* ]] || return "$rc"
    done < <(sed -n 's/^ExecStart\(Pre\)\{0,1\}=//p' "$QFS_EXAMPLES/systemd/quorumfs@.service")
    return "$rc"
}

@test "the unit mounts, and again after its daemon was killed" {
    "$QUORUMFS" init "$S/data"
    rmdir "$MNT" 2>/dev/null || true
    unit_start
    echo kept >"$MNT/f"; sync "$MNT/f"
    kill -9 "$(cat "$S/data/lock")"
    wait_until 20 eval '! stat "$MNT" 2>/dev/null'
    unit_start
    holds "$MNT/f" 'kept\n'
    umount "$MNT"
    wait_until 20 flock -n "$S/data/lock" true
}

@test "the runtime packages of the container hold every library of the program" {
    local lib package
    for lib in $(env -u LD_PRELOAD ldd "$QUORUMFS" | awk '$3 ~ /^\// { print $3 }'); do
        package=$(dpkg -S "*/$(basename "$lib")" "*/$(basename "$(readlink -f "$lib")")" 2>/dev/null | sed 's/:.*//' | grep -v -e '-dev$' | sort -u | head -1)
        [ -n "$package" ] || fail "no package has $lib"
        case $package in libc6 | libgcc-s1 | libasan* | libubsan* | libtsan* | zlib1g | liblz4-1) continue ;; esac
        grep -qw -- "$package" "$QFS_EXAMPLES/container/Containerfile" || fail "$package, which has $lib, is not in the Containerfile"
    done
}

@test "compose.yaml describes three members with one list" {
    python3 - "$QFS_EXAMPLES/container/compose.yaml" <<'EOF'
import sys, yaml
services = yaml.safe_load(open(sys.argv[1]))["services"]
assert sorted(services) == ["a", "b", "c"], services
lists = {s["environment"]["INIT"].split("--cluster ")[1] for s in services.values()}
ids = sorted(s["environment"]["INIT"].split()[1] for s in services.values())
assert len(lists) == 1 and ids == ["1", "2", "3"], (lists, ids)
for s in services.values():
    assert "/dev/fuse" in s["devices"] and "SYS_ADMIN" in s["cap_add"]
    assert s["volumes"][1]["bind"]["propagation"] == "rshared"
EOF
}

@test "the container's entry point makes the data directory once and mounts it" {
    mkdir "$S/volume"
    start_it() {
        DATA=$S/volume/data MOUNT=$MNT INIT="--id 7" "$QFS_EXAMPLES/container/entrypoint.sh" </dev/null >>"$MNT.log" 2>&1 3>&- &
        echo $! >"$MNT.pid"
        wait_until 20 test -e "$MNT/.quorum/status"
    }
    start_it
    same member "$(setting_of "$MNT/.quorum/status" member)" 7
    echo kept >"$MNT/f"; sync "$MNT/f"
    kill "$(daemon_pid)"
    wait_until 20 eval '! mounted'
    wait_until 20 flock -n "$S/volume/data/lock" true
    start_it
    holds "$MNT/f" 'kept\n'
    kill "$(daemon_pid)"
    wait_until 20 eval '! mounted'
    wait_until 20 flock -n "$S/volume/data/lock" true
}

@test "the container's entry point makes nothing when it is not told to" {
    mkdir "$S/volume"
    fails_with 'make a cluster with quorumfs init' env DATA="$S/volume/data" MOUNT="$MNT" "$QFS_EXAMPLES/container/entrypoint.sh"
}
