# Several members on loopback, each with a mount of its own. Loaded behind the harness:
#
#     load ../lib/harness
#     load ../lib/cluster
#     setup_file() { cluster_file 3; }      # members 1 to 3 run and have a leader; $M1, $M2, $M3 are their mounts
#     teardown_file() { cluster_file_end; } # all end cleanly, nothing is left
#     setup() { enter_cluster_test; }       # those that an earlier test lost are started again; $T is a fresh name in the root
#     teardown() { leave_cluster_test; }
#
# on N COMMAND... runs a command of the harness (daemon_kill, daemon_pid, rev...) for member N.

on() {
    local id=$1 DIR=$QFS_ROOT/d$1 MNT=$QFS_ROOT/m$1 QFS_IN=${QFS_NETNS:+/run/netns/$QFS_NETNS-$1}
    shift
    "$@"
}

members() { seq 1 "$CLUSTER_SIZE"; }
others() { members | grep -vx "$1"; } # others N: all members but that one

# ---- Start and stop -------------------------------------------------------------------------------------------------------------

port_is_free() { ! (exec 9<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# With lib/netns.bash each member has an address of its own.
list_of_namespaces() {
    local id list=
    for id in $(members); do list+=${list:+,}$id=10.77.0.$id:7400; done
    echo "$list"
}

# next_ports: where 64 ports begin that no other test of this build has got lately: one that is free may be another's, whose member is only not
# started yet. Below the range that the kernel gives out by itself, so that nobody gets one of them by chance.
next_ports() {
    local n=0 lock
    exec {lock}>>"$QFS_TESTBIN/ports"
    flock "$lock"
    read -r n <"$QFS_TESTBIN/ports" || true
    n=$(((n + 64) % 22000))
    echo "$n" >"$QFS_TESTBIN/ports"
    exec {lock}>&-
    echo $((10000 + n))
}

find_ports() {
    local id port
    port=$(next_ports)
    CLUSTER_LIST=
    for id in $(members); do
        until port_is_free $port; do port=$((port + 1)); done
        CLUSTER_LIST+=${CLUSTER_LIST:+,}$id=127.0.0.1:$port
        port=$((port + 1))
    done
    export CLUSTER_LIST
}

in_its_network() { ${QFS_IN:+nsenter --net="$QFS_IN"} "$@"; } # where its address is one of the machine's

# cluster_init [OPTION...]: makes the directories of all members.
cluster_init() {
    local id
    if [ -n "${QFS_NETNS:-}" ]; then export CLUSTER_LIST=$(list_of_namespaces); else find_ports; fi
    for id in $(members); do
        on "$id" in_its_network "$QUORUMFS" init "$QFS_ROOT/d$id" --id "$id" --cluster "$CLUSTER_LIST" "$@" >/dev/null || return 1
        export "M$id=$QFS_ROOT/m$id"
    done
}

# members_start [N...]: starts them at the same time, since each waits for a quorum, and waits until they serve.
members_start() {
    local id rc=0
    [ $# -gt 0 ] || set -- $(members)
    for id in "$@"; do on "$id" daemon_launch || rc=1; done
    for id in "$@"; do on "$id" member_ready || rc=1; done
    return $rc
}

member_ready_or_dead() { { mounted && timeout 5 stat "$MNT/.quorum/status"; } || [ -e "$MNT.exit" ]; } # that needs no quorum

member_ready() {
    wait_until 30 member_ready_or_dead || { daemon_threads >&2; return 1; }
    [ ! -e "$MNT.exit" ] || { tail "$MNT.log" >&2; fail "member $id did not start: exit status $(cat "$MNT.exit")"; }
}

member_runs() { on "$1" daemon_alive && ! on "$1" test -e "$QFS_ROOT/m$1.exit"; }

member_kill() { on "$1" daemon_kill; }             # kill -9
member_stop() { on "$1" daemon_stop; }             # umount
member_pause() { kill -STOP "$(on "$1" daemon_pid)"; }
member_resume() { kill -CONT "$(on "$1" daemon_pid)"; }

# all_killed: kill -9 of all at the same moment.
all_killed() {
    local id
    cd "$QFS_ROOT" || return 1
    kill -9 $(for id in $(members); do on "$id" daemon_pid; done)
    for id in $(members); do
        on "$id" daemon_gone 137 || return 1
        umount -l "$QFS_ROOT/m$id"
    done
}

# ---- Who leads ------------------------------------------------------------------------------------------------------------------

# said_by N FIELD: what its status says, without asking the others.
said_by() { timeout 5 sed -n "s/^$2: *//p" "$QFS_ROOT/m$1/.quorum/status"; }

# leader [N...]: the leader that a majority of the cluster, among these members, follows.
leader() {
    local id votes=
    [ $# -gt 0 ] || set -- $(members)
    for id in "$@"; do votes+="$(said_by "$id" leader 2>/dev/null) "; done
    tr ' ' '\n' <<<"$votes" | grep -E '^[1-9]' | sort | uniq -c | awk -v n="$CLUSTER_SIZE" '$1 > n / 2 {print $2; found = 1} END {exit !found}'
}

has_leader() { leader "$@" >/dev/null; }
wait_leader() { wait_until 30 has_leader "$@" && leader "$@"; }
is_followed_by_all() { [[ $(for id in $(members); do said_by "$id" leader; done | sort | uniq -c) =~ ^\ *$CLUSTER_SIZE\ [1-9] ]]; }
wait_all_follow() { wait_until 30 is_followed_by_all; } # as has to be when every member runs and nothing is in its way
is_led_by_another() { local l; l=$(leader $(others "$1")) && [ "$l" != "$1" ]; }

# new_leader OLD: waits until the others have elected another one, and says who.
new_leader() { wait_until 30 is_led_by_another "$1" && leader $(others "$1"); }

# ---- Contents -------------------------------------------------------------------------------------------------------------------

# file_is N NAME TEXT: member N has exactly that.
file_is() { [ "$(timeout 30 cat "$QFS_ROOT/m$1/$2" 2>/dev/null)" = "$3" ]; }

# everywhere NAME TEXT: every member that runs has it.
everywhere() {
    local id
    for id in $(members); do
        ! member_runs "$id" || file_is "$id" "$1" "$2" || { fail "member $id: $1 is '$(timeout 10 cat "$QFS_ROOT/m$id/$1" 2>&1)', expected '$2'"; return 1; }
    done
}

# write_on N NAME TEXT: one write, acknowledged by fsync, since a shell hides the errors of close.
write_on() { printf '%s\n' "$3" | timeout 60 dd of="$QFS_ROOT/m$1/$2" conv=fsync status=none; }

# ---- Files and tests ------------------------------------------------------------------------------------------------------------

cluster_file() { # cluster_file N [OPTION of init...]
    local id
    export CLUSTER_SIZE=$1
    shift
    root_file || return 1
    # That members come and go is what these tests do.
    allow_log 'peer: (member [0-9]+ at|the connection of member|a connection)'
    allow_log 'replica: serving .* without a quorum'
    allow_log 'replica: cannot reserve inode numbers'
    allow_log 'replica: stopping with requests that were not answered in time' # of the last one, which has no quorum for the end of its session
    cluster_init "$@" && members_start && wait_all_follow || return 1
    for id in $(members); do wait_until 30 accepts_names "$id" || return 1; done
}

# accepts_names N: it has a session and inode numbers, for which a busy machine may take longer than a test's own timeout.
accepts_names() { mkdir -p "$QFS_ROOT/m$1/begun$1" && rmdir "$QFS_ROOT/m$1/begun$1"; }

cluster_file_end() {
    local id rc=0
    cd / || return 1
    for id in $(members); do
        ! member_runs "$id" || timeout 60 umount "$QFS_ROOT/m$id" || rc=1
    done
    for id in $(members); do
        [ ! -s "$QFS_ROOT/m$id.pid" ] || on "$id" wait_until 30 test -s "$QFS_ROOT/m$id.exit" || rc=1
    done
    log_check || rc=1
    nothing_left || rc=1
    return $rc
}

enter_cluster_test() {
    local id lost=()
    T=t$BATS_TEST_NUMBER
    for id in $(members); do
        if ! member_runs "$id" || ! timeout 30 stat "$QFS_ROOT/m$id/.quorum/status" >/dev/null 2>&1; then
            force_unmount "$QFS_ROOT/m$id"
            lost+=("$id")
        fi
    done
    [ ${#lost[@]} = 0 ] || members_start "${lost[@]}" || return 1
    wait_all_follow
}

leave_cluster_test() {
    local id rc=0
    cd / || return 1
    for id in $(members); do # what a test paused must not stay so
        [ ! -s "$QFS_ROOT/m$id.pid" ] || [ -s "$QFS_ROOT/m$id.exit" ] || member_resume "$id" 2>/dev/null || true
    done
    log_check || rc=1
    return $rc
}
