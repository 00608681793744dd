# Leases on three members: what one member holds, all members see; the leader counts, whoever it is.
load ../lib/harness
load ../lib/cluster
setup_file() { cluster_file 3; }
teardown_file() { cluster_file_end; }
setup() {
    enter_cluster_test
    S=$QFS_ROOT/s$BATS_TEST_NUMBER
    mkdir -m 1777 "$S"
    mkdir "$M1/$T"
}
teardown() {
    [ ${#background[@]} = 0 ] || kill -9 "${background[@]}" 2>/dev/null || true
    local id=$(wait_leader)
    find "$QFS_ROOT/m$id/.quorum/leases" -mindepth 1 -maxdepth 1 -exec rmdir {} + 2>/dev/null || true # some run out meanwhile
    leave_cluster_test
}

# ---- Helpers --------------------------------------------------------------------------------------------------------------------

background=()
leases() { echo "$QFS_ROOT/m$1/.quorum/leases"; }

# grant N NAME TTL: a lease, by member N, with a file of this test's directory of the same name.
grant() {
    local dir="$(leases "$1")/$2"
    timeout 10 mkdir "$dir" && echo v | timeout 10 dd of="$dir/keys/$T/$2" conv=fsync status=none && timeout 10 bash -c "echo $3 > $dir/ttl"
}

# hold N NAME: a process on member N keeps it alive; HOLDER is the process.
hold() {
    bash -c 'exec 9>"$0/alive" && echo ok >"$1" && exec sleep 1000' "$(leases "$1")/$2" "$S/held.$2" 3>&- &
    HOLDER=$!
    background+=("$HOLDER")
    wait_until 10 test -s "$S/held.$2"
}

there() { timeout 10 test -e "$QFS_ROOT/m$1/$T/$2"; }
gone() { ! there "$@"; }
gone_everywhere() { local id; for id in $(members); do ! member_runs "$id" || gone "$id" "$1" || return 1; done; }

has_open() { ls -l "/proc/$1/fd" | grep -q 'quorum/'; }
now_ms() { local t=${EPOCHREALTIME/./}; echo "${t%???}"; }

hand_over() { # hand_over TO: leadership
    timeout 20 bash -c "echo $1 > $QFS_ROOT/m$1/.quorum/leader"
    wait_until 10 eval '[ "$(leader)" = '"$1"' ]'
}

# ---- What all see ---------------------------------------------------------------------------------------------------------------

@test "a lease that one member grants is there on each other at once, with its files" {
    local id
    for id in $(members); do
        grant "$id" "l$id" 60
        same "list" "$(for other in $(members); do ls "$(leases "$other")"; done | sort -u | paste -sd' ')" "$(seq -s' ' -f 'l%g' "$id")"
        for other in $(members); do
            same ttl "$(cat "$(leases "$other")/l$id/ttl")" 60
            same attached "$(cd "$(leases "$other")/l$id/keys" && find . -type f)" "./$T/l$id"
            same lease "$(fact "$QFS_ROOT/m$other/$T/l$id" lease)" "l$id"
        done
    done
    fails_with 'File exists' mkdir "$(leases 2)/l1"
    echo 20 >"$(leases 3)/l1/ttl"
    same ttl "$(cat "$(leases 2)/l1/ttl")" 20
    (($(cat "$(leases 2)/l1/remaining") <= 20)) # counted anew: it was more before
    echo v2 >"$M2/$T/free"; setfattr -n user.quorum.lease -v l3 "$M2/$T/free"
    rmdir "$(leases 2)/l3"
    for id in $(members); do
        gone "$id" l3; gone "$id" free
        [ ! -e "$(leases "$id")/l3" ]
    done
}

barriers_of() { sed -n 's/^quorumfs_barriers_total //p' "$QFS_ROOT/m$1/.quorum/metrics"; }

@test "mkdir makes what is free everywhere and finds what was made anywhere, also on a member that lags behind" {
    needs_failpoints
    local l=$(wait_leader) f before
    f=$(others "$l" | head -1)
    member_stop "$f"
    QUORUMFS_FAILPOINTS=store.apply=stall:300 members_start "$f"
    l=$(wait_leader)
    mkdir "$(leases "$l")/known"
    wait_until 10 test -d "$(leases "$f")/known"
    rmdir "$(leases "$l")/known"
    mkdir "$(leases "$f")/known"
    mkdir "$(leases "$l")/made"
    fails_with 'File exists' mkdir "$(leases "$f")/made"
    mkdir "$(leases "$l")/here"
    fails_with 'File exists' bash -c 'cd "$0" && mkdir here' "$(leases "$f")"
    mkdir "$(leases "$l")/on-way"
    (set -C; echo v >"$(leases "$f")/on-way/keys/$T/made") # O_EXCL
    member_stop "$f"
    members_start "$f"
    wait_leader
    before=$(barriers_of "$f")
    mkdir "$(leases "$f")/asks" "$(leases "$f")//nobody/"
    (cd "$(leases "$f")" && mkdir first)
    same barriers "$(barriers_of "$f")" "$before"
}

@test "expiry deletes once, in one revision; inotify and streams on every member tell of it" {
    local id lines
    for id in $(members); do
        inotifywait -m -q --format '%e %f' "$QFS_ROOT/m$id/$T" >"$S/seen$id" 2>&1 3>&- &
        background+=($!)
        wait_until 10 grep -q inotify "/proc/$!/fdinfo/3"
        cat "$QFS_ROOT/m$id/.quorum/watch/$T/.events" >"$S/stream$id" 3>&- &
        background+=($!)
        wait_until 10 has_open $!
    done
    grant 1 web 60
    echo b >"$(leases 2)/web/keys/$T/b"
    echo c >"$(leases 3)/web/keys/$T/c"
    echo 1 >"$(leases 2)/web/ttl"
    wait_until 10 gone_everywhere web
    for id in $(members); do
        wait_until 10 eval '[ "$(grep -cx "DELETE \(web\|b\|c\)" "$S/seen'"$id"'")" = 3 ]' || { cat "$S/seen$id" >&2; false; }
        wait_until 5 eval '[ "$(grep -c "delete" "$S/stream'"$id"'")" = 3 ]'
        lines=$(grep delete "$S/stream$id")
        same "one revision" "$(cut -f1 <<<"$lines" | uniq | wc -l)" 1
        same "what was told on $id" "$(cut -f2- <<<"$lines" | tr '\t' ' ' | sort | paste -sd,)" \
            "delete $T/b expired web,delete $T/c expired web,delete $T/web expired web"
    done
    kill "${background[@]}"
    background=()
}

# ---- Who holds ------------------------------------------------------------------------------------------------------------------

@test "alive on a follower goes on over kill -9 of the leader" {
    local old f begin
    old=$(wait_leader)
    f=$(others "$old" | head -1)
    grant "$f" web 60
    hold "$f" web
    echo 5 >"$(leases "$f")/web/ttl"
    member_kill "$old"
    begin=$(now_ms)
    new_leader "$old" >/dev/null
    while (($(now_ms) - begin < 14000)); do
        there "$f" web || fail "it expired $(($(now_ms) - begin)) ms after the leader was killed"
    done
    kill -9 "$HOLDER"
    wait_until 15 gone "$f" web
    members_start "$old"
    gone_everywhere web
}

@test "a member that is killed while it keeps a lease: the lease is gone within TTL, election and a second" {
    local f l begin
    l=$(wait_leader)
    f=$(others "$l" | head -1)
    grant "$f" web 3
    hold "$f" web
    begin=$(now_ms)
    member_kill "$f"
    wait_until 15 gone "$l" web
    (($(now_ms) - begin < 3000 + 15000 * QFS_TIME_SCALE)) || fail "after $(($(now_ms) - begin)) ms" # half of what any other lease has
    members_start "$f"

    # The leader itself: the next one counts from its election.
    l=$(wait_leader)
    f=$(others "$l" | head -1)
    grant "$l" web2 3
    hold "$l" web2
    begin=$(now_ms)
    member_kill "$l"
    new_leader "$l" >/dev/null
    wait_until 15 gone "$f" web2
    (($(now_ms) - begin >= 2000)) || fail "too early: after $(($(now_ms) - begin)) ms"
    (($(now_ms) - begin < 3000 + 20000 * QFS_TIME_SCALE)) || fail "after $(($(now_ms) - begin)) ms"
    members_start "$l"
}

@test "the process that holds it is killed: its files go after the TTL, on every member" {
    local begin
    grant 2 web 60
    hold 2 web
    echo 4 >"$(leases 2)/web/ttl"
    begin=$(now_ms)
    while (($(now_ms) - begin < 9000)); do there 1 web || fail "it expired while it was held"; done
    kill -9 "$HOLDER"
    wait_until 15 gone_everywhere web
}

@test "a member that is cut off loses what it keeps, and is told: ESTALE and POLLERR" {
    local f l
    l=$(wait_leader)
    f=$(others "$l" | head -1)
    grant "$f" web 60
    python3 - "$(leases "$f")/web/alive" "$S/ready" <<'P' >"$S/out" 2>&1 3>&- &
import errno, os, select, sys, time
fd = os.open(sys.argv[1], os.O_WRONLY)
open(sys.argv[2], "w").write("x")
p = select.poll()
p.register(fd, 0)
assert p.poll(90000) == [(fd, select.POLLERR)], "not told"
try:
    os.write(fd, b"x")
    print("written")
except OSError as e:
    print(errno.errorcode[e.errno])
P
    background+=($!)
    wait_until 10 test -s "$S/ready"
    echo 3 >"$(leases "$f")/web/ttl"
    member_pause "$f"
    wait_until 15 gone "$l" web
    member_resume "$f"
    wait_until 20 test -s "$S/out"
    same "what a write says" "$(cat "$S/out")" ESTALE
}

# ---- Changes of the leader ------------------------------------------------------------------------------------------------------

@test "changes of the leader neither shorten a lease nor prolong it without bound" {
    local l begin granted i
    l=$(wait_leader)
    grant "$l" long 600
    granted=$(now_ms)
    grant "$l" short 6
    for i in 1 2 3; do hand_over "$(others "$(wait_leader)" | head -1)"; done
    l=$(wait_leader)
    while there "$l" short; do (($(now_ms) - granted < 60000)) || fail "it stays"; done
    (($(now_ms) - granted >= 6000)) || fail "expired $(($(now_ms) - granted)) ms after it was renewed"
    (($(now_ms) - granted < 6000 * 4 + 30000)) || fail "expired only $(($(now_ms) - granted)) ms after it was renewed"
    (($(cat "$(leases 1)/long/remaining") <= 600))
    there 1 long
}

@test "without a quorum: nobody is told that a lease is granted, renewed or lost; what was held goes on afterwards" {
    local l f
    l=$(wait_leader)
    f=$(others "$l" | head -1)
    grant "$l" web 5
    hold "$l" web
    for id in $(others "$l"); do member_pause "$id"; done
    fails_with 'timed out' timeout 20 mkdir "$(leases "$l")/new"
    fails_with 'timed out' timeout 20 touch "$(leases "$l")/web"
    fails_with 'timed out' timeout 20 cat "$(leases "$l")/web/remaining"
    timeout 5 ls -d "$(leases "$l")" >/dev/null
    for id in $(others "$l"); do member_resume "$id"; done
    wait_leader >/dev/null
    wait_until 20 timeout 10 touch "$(leases "$f")/web"
    there "$f" web
    # Whether what timed out comes true nobody knows; if so, then now.
    [ ! -e "$(leases "$f")/new" ] || (($(cat "$(leases "$f")/new/remaining") > 30))
}

@test "many leases over many changes of the leader: none early, none twice, none very late" {
    local id args=() n=(200 4 10)
    # QFS_LEASE_STORM="5000 10 60": how many leases, changes, seconds
    [ -z "${QFS_LEASE_STORM:-}" ] || read -ra n <<<"$QFS_LEASE_STORM"
    for id in $(members); do args+=("$QFS_ROOT/m$id=$(on "$id" daemon_pid)"); done
    timeout $((120 * QFS_TIME_SCALE + 10 * n[2])) python3 "$BATS_TEST_DIRNAME/leasestorm.py" "${n[@]}" "${args[@]}" 3>&- | tee "$S/storm" >&3
    grep -q 'bad=0' "$S/storm"
    allow_log 'commit of .* failed'
    wait_until 10 eval '[ -z "$(ls "$(leases 1)")" ]'
    rm -rf "$M1/storm"
}
