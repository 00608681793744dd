# What the tests of mount/replay*.bats share: inotify for what other members change. Changes are made through a socket of the daemon that passes
# them off as another member's; all else is real. Loaded behind the harness.
setup_file() { needs_failpoints && root_file && export QUORUMFS_TEST_INJECT=$QFS_ROOT/inject && daemon_start; }
teardown_file() { unmount_file; }
setup() {
    needs_failpoints
    enter_test
    mkdir "$S/tmpfs"
    mount -t tmpfs none "$S/tmpfs"
    mkdir "$S/tmpfs/t"
}
teardown() {
    inject go >/dev/null
    umount -l "$S/tmpfs"
    leave_test
}

# Lines of changes, whose paths get the test's directory in front.
prefixed() { sed -E "s#^(rename|exchange) ([^ ]+) #\1 t$BATS_TEST_NUMBER/\2 t$BATS_TEST_NUMBER/#; t; s#^([a-z]+) #\1 t$BATS_TEST_NUMBER/#"; }
# remote TEXT: another member's changes, a line each.
remote() { prefixed <<<"$1" | within 60 inject >/dev/null; }
told() { wait_until "${1:-20}" bash -c '[ "$(inject queued)" = 0 ]'; }
metric() { sed -n "s/^quorumfs_$1 //p" "$MNT/.quorum/metrics"; }

record() { # record OUT WATCHED...: until `recorded`
    rm -f "$1.ready"
    events "$@" 3>&- 5<&- &
    recorder=$!
    wait_until 10 test -e "$1.ready"
}
recorded() { kill "$recorder" && wait "$recorder"; }

# in_both SETUP NATIVE REMOTE [WATCHED...]: what watchers of the directory, of d in it and of WATCHED see of REMOTE is what they
# see of NATIVE on a tmpfs.
in_both() {
    local setup=$1 native=$2 remote=$3 seen=() there=()
    shift 3
    (cd "$S/tmpfs/t" && mkdir d && bash -c "$setup") && (cd "$T" && mkdir d && bash -c "$setup") 3>&- || return 1
    for file; do seen+=("$T/$file") there+=("$S/tmpfs/t/$file"); done
    record "$S/there" "$S/tmpfs/t" "$S/tmpfs/t/d" "${there[@]}"
    (cd "$S/tmpfs/t" && bash -c "$native") || fail "on tmpfs: $native"
    recorded
    record "$S/here" "$T" "$T/d" "${seen[@]}"
    remote "$remote" && told
    recorded
    [ -s "$S/there" ] || fail "nothing was recorded: $native"
    # Between directories there is no order.
    diff -u <(sort -s -n -k1,1 "$S/there") <(sort -s -n -k1,1 "$S/here") >&2 || fail "other events than on tmpfs: $native"
    find "$T" "$S/tmpfs/t" -mindepth 1 -delete
}

# sees TEXT: the recorded events of the test's directory are these lines, `NAME EVENT`.
sees() {
    recorded
    diff -u <(printf '%s\n' "$1") <(grep -P '^1\t' "$S/events" | cut -f 2- | tr '\t' ' ') >&2 || fail "other events"
}

# ---- Daemons of a test's own ---------------------------------------------------------------------------------------------------------

command_waits() { [ "$(sed -n 's/^quorumfs_commands_waiting //p' "$MNT/.quorum/metrics")" -gt 0 ]; }

# held_daemon OPTION...: one whose store carries out no command as long as there is $S/hold.
held_daemon() {
    cd "$QFS_ROOT" && daemon_stop && QUORUMFS_FAILPOINTS=replica.store=hold:$S/hold daemon_start "$@" && cd "$T" || return 1
}
usual_daemon() {
    cd "$QFS_ROOT" && daemon_stop && daemon_start && cd "$T" || return 1
}
