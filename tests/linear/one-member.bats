# Many clients on one mount: each commit, creation, append and rename takes effect at one instant between call and answer.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() { enter_test; }
teardown() { leave_test; }

@test "twenty files under twelve clients are linearizable" {
    within 60 linload run "$S/h" "${QFS_SEED:-$RANDOM}" 12 200 20 1 "${T#"$MNT"/}" "$MNT"
    within 60 linload final "$S/h" 20 "${T#"$MNT"/}" "$MNT"
    run lincheck "$S"/h.*
    [ "$status" = 0 ] || fail "$output"
    [[ $output == *" 0 with unknown outcome: linearizable" ]]
}
