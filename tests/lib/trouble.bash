# Faults that come by themselves while something else runs. Loaded behind lib/cluster.bash; unplugging needs lib/netns.bash.
#
#     trouble_start SEED KIND...     in the background: one fault after the other, on one member at a time, with quiet between
#     trouble_end                    the fault under way is undone; all members run again
#     trouble_during "KIND..." SEED COMMAND...   both around a command; no kind: only the command
#
# Kinds: kill (-9, and started again), pause (SIGSTOP), unplug (no packets), stop (SIGTERM, and mounted again), leader-KIND (on whoever
# leads), all (kill -9 of all at once). What happened is in $QFS_ROOT/trouble.log:
# lines TIME begin|end KIND MEMBER SECONDS [LEADER], and at last TIME quiet. TROUBLE_TENTHS is how long a fault lasts at most, in tenths of a second (30).

trouble_pick() { # trouble_pick KIND: the member that it meets
    local l=
    [[ $1 != leader-* ]] || l=$(leader 2>/dev/null) || true
    echo "${l:-$((RANDOM % CLUSTER_SIZE + 1))}"
}

trouble_once() {
    local kind=$1 id pause
    id=$(trouble_pick "$kind")
    pause=$((RANDOM % (${TROUBLE_TENTHS:-30} - 5) + 5))
    pause=$((pause / 10)).$((pause % 10))
    trouble_note begin "$kind" "$id" "$pause" "$(leader 2>/dev/null)"
    case ${kind#leader-} in
        kill)
            kill -9 "$(on "$id" daemon_pid)" && on "$id" daemon_gone 137
            sleep "$pause"
            members_start "$id" ;;
        stop)
            kill -TERM "$(on "$id" daemon_pid)" && on "$id" daemon_gone 0
            sleep "$pause"
            members_start "$id" ;;
        pause)
            member_pause "$id"
            sleep "$pause"
            member_resume "$id" ;;
        unplug)
            unplug "$id"
            sleep "$pause"
            plug "$id" ;;
        all)
            all_killed
            members_start ;;
    esac || return 1
    trouble_note end "$kind" "$id" "$pause"
}

trouble_note() { echo "$(date +%s.%N) $*" >>"$QFS_ROOT/trouble.log"; }

trouble_loop() {
    local kinds=("$@")
    while [ ! -e "$QFS_ROOT/trouble.end" ]; do
        trouble_once "${kinds[RANDOM % ${#kinds[@]}]}" || { echo "could not be undone" >>"$QFS_ROOT/trouble.log"; return 1; }
        sleep "$((RANDOM % 2 + 1)).$((RANDOM % 10))"
    done
    trouble_note quiet
}

trouble_start() {
    rm -f "$QFS_ROOT/trouble.end" "$QFS_ROOT/trouble.log"
    (
        RANDOM=$1
        shift
        trouble_loop "$@"
    ) >>"$QFS_ROOT/trouble.out" 2>&1 3>&- &
    TROUBLE=$!
}

trouble_end() {
    touch "$QFS_ROOT/trouble.end"
    wait "$TROUBLE" || { cat "$QFS_ROOT/trouble.log" "$QFS_ROOT/trouble.out" >&2; fail "a fault could not be undone"; return 1; }
    wait_all_follow
}

trouble_during() {
    local kinds=$1 seed=$2 rc=0
    shift 2
    [ -z "$kinds" ] || trouble_start "$seed" $kinds
    "$@" || rc=1
    [ -z "$kinds" ] || trouble_end || rc=1
    return $rc
}

# with_slow_member N COMMAND...: meanwhile member N takes its time to apply what is committed.
with_slow_member() {
    local id=$1
    shift
    member_stop "$id"
    QUORUMFS_FAILPOINTS=replica.store=stall:40 members_start "$id"
    wait_leader >/dev/null
    "$@"
    member_stop "$id"
    members_start "$id"
}
