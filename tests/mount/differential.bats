# Random calls in the tree and in a tmpfs, which must be answered the same: differential.py says how, and what is left out.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() { enter_test; }
teardown() { leave_test; }

as_tmpfs() { # as_tmpfs SEED
    mkdir "$S/reference"
    mount -t tmpfs -o mode=777 none "$S/reference"
    within 40 python3 "$BATS_TEST_DIRNAME/differential.py" "$T" "$S/reference" "$1" 2000
    umount "$S/reference"
}

@test "three sessions that take turns see what they would see on tmpfs" {
    as_tmpfs 1
}

@test "three sessions that take turns, with a seed that once failed, or QFS_SEED" {
    as_tmpfs "${QFS_SEED:-1795361084}"
}
