# Three members on one machine, as a newcomer starts them.
load ../lib/harness
load ../lib/cluster
setup() {
    root_file
    CLUSTER_SIZE=3
    find_ports
    export QUORUMFS_TIMEOUT=40s # an election may take its time
    export THREE_DIR="$QFS_ROOT/three dir"
    PORT=$(tr , '\n' <<<"$CLUSTER_LIST" | sed -n 's/^1=.*://p')
    export PORT
}
teardown() {
    local rc=0
    cd /
    within 120 "$QFS_EXAMPLES/three-members.sh" stop || rc=1
    nothing_left || rc=1
    return $rc
}

three() { within 120 "$QFS_EXAMPLES/three-members.sh" "$@" 3>&-; }
is_there() { [ "$(cat "$1")" = "$2" ]; }
sees() { "$QFS_EXAMPLES/monitor.sh" "$THREE_DIR/mnt$1" | grep -q "$2"; }

@test "three members start, one dies, the others go on, it comes back, all stop, and all is there again" {
    local said
    said=$(three)
    [[ $said == *'Three members are running'* ]]
    echo one >"$THREE_DIR/mnt1/f"; sync "$THREE_DIR/mnt1/f"
    is_there "$THREE_DIR/mnt3/f" one
    wait_until 20 "$QFS_EXAMPLES/monitor.sh" "$THREE_DIR/mnt2"
    three kill 1
    echo two >"$THREE_DIR/mnt2/g"; sync "$THREE_DIR/mnt2/g"
    is_there "$THREE_DIR/mnt3/g" two
    wait_until 20 sees 2 '^1 .*unreachable'
    fails_with 'there is no member' "$QFS_EXAMPLES/three-members.sh" start 4
    three start 1
    is_there "$THREE_DIR/mnt1/g" two
    wait_until 20 sees 2 '^1 .* ok'
    [[ $(three) == *'Three members are running'* ]]
    three stop
    three >/dev/null
    is_there "$THREE_DIR/mnt2/f" one
}
