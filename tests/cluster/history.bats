# History on three members: old revisions, versions, compaction, bookmarks and snapshots are the same everywhere.
load ../lib/harness
load ../lib/cluster
setup_file() { cluster_file 3; }
teardown_file() { cluster_file_end; }
setup() { enter_cluster_test; }
teardown() {
    [ -z "${NEW:-}" ] || ! mounted "$NEW" || force_unmount "$NEW"
    leave_cluster_test
}

q() { echo "$QFS_ROOT/m$1/.quorum"; } # the control tree on member N

revision_on() { cat "$(q "$1")/revision"; }

# read_back FROM: a directory on $NEW has what was written as $T
new_cluster_has() { # new_cluster_has SOURCE CONTENT
    NEW=$QFS_ROOT/new
    rm -rf "$QFS_ROOT/dnew"
    within 60 "$QUORUMFS" init "$QFS_ROOT/dnew" --from "$1" 3>&-
    "$QUORUMFS" check "$QFS_ROOT/dnew" >"$QFS_ROOT/check" || fail "$(cat "$QFS_ROOT/check")"
    DIR=$QFS_ROOT/dnew MNT=$NEW daemon_start
    same "$T in the new cluster" "$(cat "$NEW/$T")" "$2"
    same "members" "$(sed -n 's/^members: //p' "$NEW/.quorum/status")" 1
    echo more >"$NEW/$T.more" # and it can be written
    DIR=$QFS_ROOT/dnew MNT=$NEW daemon_stop
}

@test "a revision that was written on one member can be read on each other at once" {
    local i id other r
    for i in 1 2 3; do
        for id in $(members); do
            write_on "$id" "$T" "$i $id"
            r=$(revision_on "$id")
            for other in $(members); do
                same "at/$r on $other" "$(cat "$(q "$other")/at/$r/$T")" "$i $id"
                same "head-0 on $other" "$(readlink "$(q "$other")/at/head-0")" "$r"
                same "history on $other" "$(cat "$(q "$other")/history/$T/$r")" "$i $id"
            done
        done
    done
    for id in $(members); do
        same "versions on $id" "$(ls "$(q "$id")/history/$T" | sort -n | paste -sd' ')" "$(ls "$(q 1)/history/$T" | sort -n | paste -sd' ')"
        fails_with 'out of range' cat "$(q "$id")/at/$((r + 1000))/$T"
    done
}

@test "a member that slept does not deny what was written meanwhile" {
    local i l f r
    l=$(wait_leader)
    f=$(others "$l" | head -1)
    for i in 1 2 3 4 5 6 7 8; do
        member_pause "$f"
        write_on "$l" "$T" "$i"
        r=$(revision_on "$l")
        member_resume "$f"
        same "at/$r" "$(cat "$(q "$f")/at/$r/$T")" "$i"
        same "history" "$(cat "$(q "$f")/history/$T/$r")" "$i"
    done
}

@test "the tree of a revision is the same on all members" {
    local id r
    mkdir "$QFS_ROOT/m1/$T"
    for i in 1 2 3 4 5; do write_on $((i % 3 + 1)) "$T/f$i" $i; done
    r=$(revision_on 1)
    write_on 2 "$T/f1" changed
    rm "$QFS_ROOT/m3/$T/f2"
    for id in 2 3; do diff -r "$(q 1)/at/$r/$T" "$(q "$id")/at/$r/$T"; done
    same "then" "$(cat "$(q 3)/at/$r/$T/f1")" 1
}

@test "compaction and bookmarks are the cluster's" {
    local id r
    write_on 1 "$T" old
    r=$(revision_on 1)
    write_on 2 "$T" new
    mkdir "$(q 3)/bookmarks/$T"
    for id in $(members); do wait_until 10 test -d "$(q "$id")/bookmarks/$T"; done
    env printf $((r + 1)) >"$(q 2)/compact"
    for id in $(members); do
        wait_until 10 eval "[ \$(cat '$(q "$id")/compact') = $((r + 1)) ]"
        fails_with 'Stale' cat "$(q "$id")/at/$r/$T"
        same "kept" "$(cat "$(q "$id")/at/$((r + 1))/$T")" new
    done
    rmdir "$(q 1)/bookmarks/$T"
    for id in $(members); do wait_until 10 eval "! test -d '$(q "$id")/bookmarks/$T'"; done
}

@test "a snapshot of any member begins a new cluster" {
    local id
    write_on 1 "$T" kept
    for id in $(members); do
        wait_until 10 file_is "$id" "$T" kept
        cat "$(q "$id")/snapshot.db" >"$QFS_ROOT/b$id.db"
        new_cluster_has "$QFS_ROOT/b$id.db" kept
    done
}

@test "most members are lost: the one that is left begins a new cluster" {
    local l f
    write_on 1 "$T" kept
    for f in $(members); do wait_until 10 file_is "$f" "$T" kept; done
    l=$(wait_leader)
    for f in $(others "$l"); do member_kill "$f"; done
    cat "$(q "$l")/snapshot.db" >"$QFS_ROOT/left.db" # without a quorum
    new_cluster_has "$QFS_ROOT/left.db" kept
    member_kill "$l"
    new_cluster_has "$QFS_ROOT/d$l" kept # nor is it mounted any more
    members_start
    wait_leader >/dev/null
    write_on "$l" "$T" again
    wait_until 10 everywhere "$T" again
}
