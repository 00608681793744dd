# inotify: what is done on one member, its watchers on every other member hear of as if it had been done there.
load ../lib/harness
load ../lib/cluster
setup_file() { cluster_file 3; }
teardown_file() { cluster_file_end; }
setup() {
    enter_cluster_test
    S=$QFS_ROOT/s$BATS_TEST_NUMBER
    mkdir -m 1777 "$S" "$S/native"
    mount -t tmpfs none "$S/native"
    mkdir -p "$M1/$T/d" "$S/native/t/d"
    wait_until 10 each_has "$T/d"
}
teardown() {
    [ ${#recorders[@]} = 0 ] || kill "${recorders[@]}" 2>/dev/null || true
    umount -l "$S/native"
    leave_cluster_test
}

# ---- Helpers --------------------------------------------------------------------------------------------------------------------

recorders=()
each_has() { local id; for id in $(members); do timeout 10 test -e "$QFS_ROOT/m$id/$1" || return 1; done; }

record() { # record OUT WATCHED...
    rm -f "$1.ready"
    events "$@" 3>&- &
    recorders+=($!)
    wait_until 10 test -e "$1.ready"
}
recorded() {
    kill "${recorders[@]}" && wait "${recorders[@]}"
    recorders=()
}
metric_on() { sed -n "s/^quorumfs_$2 //p" "$QFS_ROOT/m$1/.quorum/metrics"; }
# quiet N: member N has nothing to tell, and has everything that the others have.
quiet() {
    local id rev=$(said_by "$1" revision)
    for id in $(members); do [ "$(said_by "$id" revision)" = "$rev" ] || return 1; done
    [ "$(metric_on "$1" replay_waiting)" = 0 ]
}

# By directory, since between them there is no order; random names become X.
normalised() { sed -E 's/\tsed[A-Za-z0-9]{6}\t/\tsedX\t/' "$1" | sort -s -n -k1,1; }

# on_each SETUP ACTION [WATCHED...]: the action, on each member in turn, is seen on each other one as on a tmpfs.
on_each() {
    local setup=$1 action=$2 actor id seen
    shift 2
    for actor in $(members); do
        (cd "$S/native/t" && bash -c "$setup")
        seen=("$S/native/t" "$S/native/t/d")
        for id; do seen+=("$S/native/t/$id"); done
        record "$S/native.events" "${seen[@]}"
        (cd "$S/native/t" && bash -c "$action") || fail "on tmpfs: $action"
        recorded
        find "$S/native/t" -mindepth 1 -not -path '*/t/d' -delete

        (cd "$QFS_ROOT/m$actor/$T" && within 30 bash -c "$setup" 3>&-) || fail "setup: $setup"
        for id in $(members); do wait_until 10 quiet "$id"; done
        for id in $(others "$actor"); do
            seen=("$QFS_ROOT/m$id/$T" "$QFS_ROOT/m$id/$T/d")
            for file; do seen+=("$QFS_ROOT/m$id/$T/$file"); done
            record "$S/$id.events" "${seen[@]}"
        done
        (cd "$QFS_ROOT/m$actor/$T" && within 30 bash -c "$action" 3>&-) || fail "on member $actor: $action"
        for id in $(others "$actor"); do wait_until 10 quiet "$id"; done
        recorded
        for id in $(others "$actor"); do
            diff -u <(normalised "$S/native.events") <(normalised "$S/$id.events") >&2 ||
                fail "member $id saw something else than a tmpfs of what was done on $actor: $action"
        done
        (cd "$QFS_ROOT/m$actor/$T" && find . -mindepth 1 -not -path './d' -delete)
    done
}

# ---- What a change looks like ---------------------------------------------------------------------------------------------------

@test "files: new, overwritten, appended, removed" {
    on_each : 'echo v > f'
    on_each 'echo old > f' 'echo v > f' f
    on_each 'echo old > f' 'echo v >> f' f
    on_each 'echo old > f' 'rm f' f
    on_each : 'echo a > d/f; echo b > d/f; rm d/f'
}

@test "directories, links, renames, attributes" {
    on_each : 'mkdir e; mkdir e/f; rmdir e/f; rmdir e'
    on_each : 'ln -s x l; rm l'
    on_each 'echo v > f; echo w > g' 'mv f h; mv h g; mv g d/; mv d/g .' f g
    on_each 'mkdir e; touch e/f' 'mv e g; mv g d/; echo v > d/g/f' e e/f
    on_each 'touch f; mkdir e' 'chmod 600 f; chmod 700 e; setfattr -n user.a -v b f' f e
    on_each 'echo v > f; echo w > g' 'syscall exchange f g' f g
}

@test "tools: an editor, sed -i, cp -r, mv of a new directory over a configuration" {
    on_each 'echo v > f' 'sed -i s/v/w/ f; chmod 600 f; rm f'
    on_each : 'mkdir new; echo a > new/a; mv new conf; mkdir new; echo b > new/a; syscall exchange new conf > /dev/null; rm new/a; rmdir new'
}

@test "inotifywait -m -r follows what others make" {
    inotifywait -q -m -r --format '%w%f %e' "$M2/$T" >"$S/seen" 3>&- &
    recorders+=($!)
    wait_until 10 bash -c "grep -l inotify /proc/${recorders[0]}/fdinfo/* | grep -q ."
    mkdir "$M1/$T/a"
    wait_until 10 bash -c "echo v > $M3/$T/a/probe; grep -q 'a/probe CLOSE_WRITE' $S/seen"
    mkdir "$M3/$T/a/b"
    wait_until 10 bash -c "echo v > $M1/$T/a/b/f; grep -q 'a/b/f CLOSE_WRITE' $S/seen"
}

# ---- While all members are at it --------------------------------------------------------------------------------------------------

@test "who is woken by an event reads at least that change" {
    local i
    echo 0 >"$M1/$T/f"
    wait_until 10 file_is 2 "$T/f" 0
    inotifywait -q -m -e close_write --format %e "$M2/$T/f" >"$S/woken" 3>&- &
    recorders+=($!)
    wait_until 10 bash -c "grep -l inotify /proc/${recorders[0]}/fdinfo/* | grep -q ."
    for i in {1..50}; do
        : >"$S/woken"
        write_on $((i % 2 * 2 + 1)) "$T/f" "$i"
        wait_until 5 test -s "$S/woken"
        file_is 2 "$T/f" "$i" || fail "woken, and read $(cat "$M2/$T/f") for $i"
    done
}

@test "random changes on all members: the last event of each name is right on each" {
    local id n last seed=${QFS_SEED:-$RANDOM} pids=()
    echo "seed $seed"
    for id in $(members); do record "$S/$id.events" "$QFS_ROOT/m$id/$T"; done
    for id in $(members); do
        (
            RANDOM=$((seed + id))
            cd "$QFS_ROOT/m$id/$T" || exit 1
            for i in {1..150}; do
                n=n$((RANDOM % 6))
                case $((RANDOM % 5)) in
                0 | 1) echo "$id $i" >$n ;;
                2) rm -f $n ;;
                3) mv $n n$((RANDOM % 6)) ;;
                4) touch $n ;;
                esac 2>/dev/null || true
            done
        ) 3>&- &
        pids+=($!)
    done
    wait "${pids[@]}"
    for id in $(members); do wait_until 20 quiet "$id"; done
    recorded
    for id in $(members); do
        for n in n0 n1 n2 n3 n4 n5; do
            last=$(grep -P "^1\t$n\t" "$S/$id.events" | grep -Eo 'CREATE|DELETE|MOVED_FROM|MOVED_TO|MODIFY|CLOSE_WRITE' | tail -1)
            case $last in
            DELETE | MOVED_FROM | '') [ ! -e "$QFS_ROOT/m$id/$T/$n" ] || fail "member $id: $n is there, its last event is $last" ;;
            *) [ -e "$QFS_ROOT/m$id/$T/$n" ] || fail "member $id: $n is not there, its last event is $last" ;;
            esac
        done
    done
}

@test "five thousand files of one member close once each on the others" {
    record "$S/2.events" "$M2/$T"
    record "$S/3.events" "$M3/$T"
    python3 - "$M1/$T" <<'EOF'
import os, sys
for i in range(5000):
    with open(f"{sys.argv[1]}/f{i}", "w") as f:
        f.write(str(i))
EOF
    wait_until 60 quiet 2; wait_until 60 quiet 3
    recorded
    for id in 2 3; do
        same "closed on $id" "$(grep -c 'CLOSE_WRITE' "$S/$id.events")" 5000
        same "names on $id" "$(grep 'CLOSE_WRITE' "$S/$id.events" | cut -f 2 | sort -u | wc -l)" 5000
    done
}

@test "a member that is killed while it tells leaves no mount on which everybody hangs" {
    local f=$(others "$(wait_leader)" | head -1) writer
    record "$S/events" "$QFS_ROOT/m$f/$T"
    (cd "$QFS_ROOT/m$(wait_leader)/$T" && for i in {1..3000}; do echo $i >f$((i % 50)); done) 3>&- &
    writer=$!
    wait_until 10 bash -c "[ \$(sed -n 's/^quorumfs_replayed_total //p' $QFS_ROOT/m$f/.quorum/metrics) -gt 50 ]"
    kill -9 "$(on "$f" daemon_pid)"
    on "$f" daemon_gone 137
    fails_with "not connected" timeout 5 ls "$QFS_ROOT/m$f"
    wait $writer
    umount -l "$QFS_ROOT/m$f"
    members_start "$f"
    wait_until 20 quiet "$f"
    recorded || true
}

skipped_more() { (($(metric_on "$1" replay_skipped_total) >= $2)); }

@test "what nobody has looked up on a member is not told there, though its directory was" {
    local l=$(wait_leader) f skipped
    f=$(others "$l" | head -1)
    mkdir "$QFS_ROOT/m$l/$T/d/deep"
    wait_until 10 quiet "$f"
    skipped=$(metric_on "$f" replay_skipped_total)
    for i in {1..20}; do write_on "$l" "$T/d/deep/f$i" "$i"; done
    wait_until 10 skipped_more "$f" $((skipped + 20))
}

@test "a member that was away tells what it missed" {
    local l=$(wait_leader) f
    f=$(others "$l" | head -1)
    echo old >"$QFS_ROOT/m$l/$T/f"
    wait_until 10 quiet "$f"
    record "$S/events" "$QFS_ROOT/m$f/$T"
    member_pause "$f"
    for i in {1..200}; do write_on "$l" "$T/f$i" "$i"; done
    rm "$QFS_ROOT/m$l/$T/f"
    member_resume "$f"
    wait_until 30 quiet "$f"
    recorded
    same closed "$(grep -c 'CLOSE_WRITE' "$S/events")" 200
    grep -q $'1\tf\tDELETE' "$S/events"
}
