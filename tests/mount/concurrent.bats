# Many at once: readers of streams beside writers, compaction and kill -9 (streams.py); transactions against each other (transactors.py).
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() { enter_test; }
teardown() { leave_test; }

transactors() { within 60 python3 "$BATS_TEST_DIRNAME/transactors.py" "$MNT" "$1" "${QFS_SECONDS:-4}"; }

@test "transfers keep the total in every snapshot" { transactors bank; }
@test "no write skew" { transactors skew; }
@test "lists that are read and written back lose nothing" { transactors append; }
@test "a tree is published and removed as a whole" { transactors publish; }

# Everyday 12,000 revisions and three kills; QFS_EVENTS=100000 QFS_KILLS=20 for long.
@test "every reader of every kind has each revision once, in order and whole, over compaction and kill -9" {
    local kills=0 reader out=$S/out
    # What was on its way when the daemon was killed.
    allow_log 'transport endpoint|is not connected|connection abort'
    cd "$QFS_ROOT"
    python3 "$BATS_TEST_DIRNAME/streams.py" "$MNT" "$DIR" "${QFS_EVENTS:-12000}" "$out" >"$S/said" 2>&1 3>&- &
    reader=$!
    while [ -e "/proc/$reader/stat" ] && ((kills < ${QFS_KILLS:-3})); do
        local at=$(($(rev) + 1500))
        wait_until 60 reached "$at" "$reader" || break
        kill -0 "$reader" 2>/dev/null || break
        daemon_kill
        daemon_start
        kills=$((kills + 1))
    done
    wait "$reader" || fail "$(cat "$S/said")"
    cat "$S/said"
    daemon_stop
    python3 "$BATS_TEST_DIRNAME/streams.py" check "$out" "$out".db.* "$DIR"/state-*.db
    daemon_start
}
reached() { [ ! -e "/proc/$2/stat" ] || (($(rev) >= $1)); }
