# Transactions and streams on three members: begun on one, decided for all, seen on the others.
load ../lib/harness
load ../lib/cluster
load ../lib/trouble
setup_file() { cluster_file 3; }
teardown_file() { cluster_file_end; }
setup() { enter_cluster_test; }
teardown() { leave_cluster_test; }

all_mounts() { members | sed "s|^|$QFS_ROOT/m|" | paste -sd,; }
transactors() { # says how many a second: at least fifty, on a machine that does nothing else
    local said
    said=$(within 90 python3 "$BATS_TEST_DIRNAME/../mount/transactors.py" "$(all_mounts)" "$1" "${QFS_SECONDS:-4}") || { fail "$said"; return 1; }
    echo "# $said" >&3
}

@test "a transaction of a follower is one revision everywhere, also when it is staged" {
    local f l i
    l=$(wait_leader)
    f=$(others "$l" | head -1)
    mkdir "$QFS_ROOT/m$f/$T" "$QFS_ROOT/m$f/.quorum/txn/t"
    for i in $(seq 1500); do echo "$i" >"$QFS_ROOT/m$f/.quorum/txn/t/tree/$T/f$i"; done
    echo >"$QFS_ROOT/m$f/.quorum/txn/t/commit"
    for i in $(members); do
        same "files on $i" "$(ls "$QFS_ROOT/m$i/$T" | wc -l)" 1500
        same "revisions on $i" "$(getfattr --absolute-names --only-values -n user.quorum.mod_revision "$QFS_ROOT/m$i/$T/f1")" \
            "$(getfattr --absolute-names --only-values -n user.quorum.mod_revision "$QFS_ROOT/m$i/$T/f1500")"
    done
    rmdir "$QFS_ROOT/m$f/.quorum/txn/t"
}

@test "what another member has changed is a conflict" {
    write_on 1 "$T" one
    mkdir "$QFS_ROOT/m2/.quorum/txn/t"
    cat "$QFS_ROOT/m2/.quorum/txn/t/tree/$T"
    echo x >"$QFS_ROOT/m2/.quorum/txn/t/tree/$T.new"
    write_on 3 "$T" two
    fails_with 'Operation canceled' bash -c "echo > $QFS_ROOT/m2/.quorum/txn/t/commit"
    same status "$(cat "$QFS_ROOT/m2/.quorum/txn/t/status")" "conflict $T"
    absent "$QFS_ROOT/m1/$T.new"
    rmdir "$QFS_ROOT/m2/.quorum/txn/t"
}

@test "transfers through three members keep the total in every snapshot" { transactors bank; }
@test "lists that three members read and write back lose nothing" { transactors append; }

@test "a stream on one member has what the others write, and resumes on any of them" {
    local r i
    r=$(cat "$QFS_ROOT/m1/.quorum/revision")
    for i in 1 2 3 1 2 3; do write_on "$i" "$T.$i" "$i"; done
    for i in $(members); do
        same "on $i" "$(timeout 10 head -6 "$QFS_ROOT/m$i/.quorum/since/$r/.events" 2>/dev/null | cut -f2,3)" \
            "$(for f in 1 2 3 1 2 3; do printf 'put\t%s.%s\n' "$T" "$f"; done)"
    done
    r=$(cat "$QFS_ROOT/m3/.quorum/revision")
    write_on 1 "$T.more" more
    same "goes on elsewhere" "$(timeout 10 head -1 "$QFS_ROOT/m2/.quorum/since/$r/.events" 2>/dev/null | cut -f3)" "$T.more"
}

# Everyday 3,000 revisions; QFS_EVENTS=100000 for long.
@test "readers that go from member to member have each revision once, in order and whole, over compaction and kill -9" {
    local out=$QFS_ROOT/out
    allow_log 'transport endpoint|is not connected|connection abort'
    trouble_during 'kill leader-kill' "${QFS_SEED:-$RANDOM}" within 3600 python3 "$BATS_TEST_DIRNAME/../mount/streams.py" "$(all_mounts)" - \
        "${QFS_EVENTS:-3000}" "$out" >"$QFS_ROOT/said" 2>&1 3>&- || { fail "$(cat "$QFS_ROOT/said" "$QFS_ROOT/trouble.log")"; return 1; }
    sed 's/^/# /' "$QFS_ROOT/said" >&3
    member_stop 1
    python3 "$BATS_TEST_DIRNAME/../mount/streams.py" check "$out" "$out".db.* "$QFS_ROOT"/d1/state-*.db >&3
    members_start 1
}
