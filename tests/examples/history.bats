# Examples that look back: undoing changes, and backups.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() {
    enter_test
    Q=$MNT/.quorum
}
teardown() {
    ! mounted "$QFS_ROOT/new" || force_unmount "$QFS_ROOT/new"
    leave_test
}

@test "rollback puts a directory back as it was, and keeps what it was" {
    local r
    mkdir conf; echo good >conf/a; echo x >conf/b
    cp -a conf "$S/good"
    r=$(rev)
    echo bad >conf/a; rm conf/b; echo y >conf/c
    cp -a conf "$S/bad"
    "$QFS_EXAMPLES/rollback.sh" conf "$r" >"$S/out"
    diff -r conf "$S/good"
    diff -r "conf.before-$r" "$S/bad"
    grep -q "revision $r" "$S/out"
    [ -z "$(ls | grep rolling)" ]
    "$QFS_EXAMPLES/rollback.sh" "$PWD/conf" head-1 >/dev/null || true # the directory was away for a moment there: refused, or fine
    [ -f conf/a ]
}

@test "rollback says what changed, and refuses what cannot be" {
    mkdir conf; echo 1 >conf/a; echo 2 >conf/a
    "$QFS_EXAMPLES/rollback.sh" conf >"$S/out"
    grep -q "put.*conf/a" "$S/out"
    fails_with 'not a directory' "$QFS_EXAMPLES/rollback.sh" none 1
    fails_with 'not on a quorumfs' "$QFS_EXAMPLES/rollback.sh" "$S" 1
    fails_with 'at 1' "$QFS_EXAMPLES/rollback.sh" conf 1
    fails_with 'out of range' "$QFS_EXAMPLES/rollback.sh" conf 99999999
    fails_with 'usage' "$QFS_EXAMPLES/rollback.sh"
    same content "$(cat conf/a)" 2
}

@test "backup makes snapshots that restore, and keeps so many" {
    local i name
    for i in 1 2 3; do
        echo $i >f
        name=$("$QFS_EXAMPLES/backup.sh" "$MNT" "$S/backups" 2)
        [ -f "$name" ]
        [[ $name == *-r$(rev).db ]]
        wait_until 3 eval "[ \"\$(date -u +%s)\" != $(date -u +%s) ]" # names have seconds
    done
    same "kept" "$(ls "$S/backups" | wc -l)" 2
    same "mode" "$(stat -c %a "$name")" 400
    "$QUORUMFS" init "$S/new" --from "$name" >/dev/null
    DIR=$S/new MNT=$QFS_ROOT/new daemon_start
    same content "$(cat "$QFS_ROOT/new/${T##*/}/f")" 3
    MNT=$QFS_ROOT/new daemon_stop
    cd "$T"
    fails_with 'not a quorumfs' "$QFS_EXAMPLES/backup.sh" "$S" "$S/backups"
    fails_with 'KEEP' "$QFS_EXAMPLES/backup.sh" "$MNT" "$S/backups" x
}
