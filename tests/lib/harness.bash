# What every test of the mounted tree shares: start and stop of the program, the checks after each test, and clean-up that happens
# however the test ends. Loaded by the .bats files:
#
#     load ../lib/harness
#     setup_file() { mount_file; }        # one fresh mount for the file: $QFS_ROOT, $DIR, $MNT
#     teardown_file() { unmount_file; }
#     setup() { enter_test; }             # a fresh directory $T on the mount, and into it; $S is one beside the mount
#     teardown() { leave_test; }          # fails the test on unexpected log lines, sanitizer reports or a dead daemon
#
# From the environment: QUORUMFS the program; QFS_TESTBIN the programs of tests/lib; QFS_TIME_SCALE stretches all deadlines;
# QFS_TEST_ON=tmpfs mounts a tmpfs instead (tests of plain POSIX behaviour must pass there: it tests the tests);
# QFS_TEST_UMASK and QFS_TEST_UID: how the commands given to `x` are run.

QFS_LIB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${QFS_TEST_ON:=quorumfs}" "${QFS_TIME_SCALE:=1}" "${QFS_TEST_UMASK:=022}" "${QFS_TEST_UID:=0}" "${QFS_TESTBIN:?names the directory of the test programs}"
: "${TMPDIR:=/tmp}"
export QFS_TEST_ON QFS_TIME_SCALE QFS_TEST_UMASK QFS_TEST_UID QFS_TESTBIN QUORUMFS
[ "$QFS_TEST_ON" = tmpfs ] || : "${QUORUMFS:?names the program}"

. "$QFS_LIB/cleanup.bash"
. "$QFS_LIB/actor.bash"

# ---- Conditions and verdicts --------------------------------------------------------------------------------------------------

PATIENCE=30 # seconds

fail() {
    printf '%s\n' "$*" >&2
    return 1
}

# wait_until SECONDS COMMAND...: until it succeeds, for so long, or for half a minute if that is more: on a busy machine what has to happen
# takes its time. It shows that something happens, never that it happens soon.
wait_until() {
    local seconds=$(($1 > PATIENCE ? $1 : PATIENCE))
    local end=$((SECONDS + seconds * QFS_TIME_SCALE + 1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS <= end)) || { fail "gave up waiting for: $*"; return 1; }
        nap
    done
}

# becomes WHAT EXPECTED COMMAND...: what the command says is that in the end.
becomes() {
    local what=$1 expected=$2 end=$((SECONDS + PATIENCE * QFS_TIME_SCALE)) seen
    shift 2
    while :; do
        seen=$("$@") || true
        [ "$seen" != "$expected" ] || return 0
        ((SECONDS <= end)) || break
        nap
    done
    same "$what" "$seen" "$expected"
}

# nap: a fiftieth of a second, without a process for it.
nap() {
    [ -n "${QFS_SILENCE:-}" ] || exec {QFS_SILENCE}<> <(:)
    read -r -t 0.02 -u "$QFS_SILENCE" || true
}

within() { # within SECONDS COMMAND...: runs a program and kills it when it takes longer, and longer than half a minute: it hangs then
    local seconds=$(($1 > PATIENCE ? $1 : PATIENCE))
    shift
    timeout -k 2 $((seconds * QFS_TIME_SCALE)) "$@"
}

ms_since() { echo $((($(date +%s%N) - $1) / 1000000)); } # ms_since "$(date +%s%N)"

waits() { # waits PID: it waits for an answer of ours
    wait_until 5 grep -q request_wait "/proc/$1/wchan"
}

same() { # same WHAT SEEN EXPECTED
    [ "$2" = "$3" ] || fail "$1: expected '$3', seen '$2'"
}

holds() { # holds FILE TEXT: the file's content is exactly that (printf escapes; no newline added)
    cmp -s "$1" <(printf "$2") || fail "$1: expected $(printf "$2" | od -An -c | head -3), seen $(od -An -c "$1" | head -3)"
}

# What a process of another session sees, to whom pending files and edits are hidden.
others_see() { # others_see FILE TEXT: a process of another session reads exactly that
    local seen
    seen=$(setsid -w cat "$1" && echo .) || { fail "$1 cannot be read in another session"; return 1; }
    [ "$seen" = "$(printf "$2"; echo .)" ] || fail "$1 in another session: expected '$2', seen '${seen%.}'"
}

others_miss() { # the name does not exist for a process of another session
    ! setsid -w test -e "$1" || fail "$1 exists in another session"
}

absent() {
    [ ! -e "$1" ] && [ ! -L "$1" ] || fail "$1 is there"
}

# fails_with TEXT COMMAND...: the command fails and says TEXT (say, "File exists").
fails_with() {
    local text=$1 out
    shift
    if out=$("$@" 2>&1); then
        fail "did not fail: $*"
    elif [[ $out != *"$text"* ]]; then
        fail "$*: expected '$text', seen '$out'"
    fi
}

needs_quorumfs() { # for what tmpfs does not have
    [ "$QFS_TEST_ON" = quorumfs ] || skip "says nothing about $QFS_TEST_ON"
}

needs_failpoints() {
    [ "${QFS_FAILPOINTS:-1}" = 1 ] || skip "built without failpoints"
}

# events_of STREAM: the lines of a stream up to now, as far as the member has come with them: what is missing comes later.
events_of() {
    within 30 python3 -c '
import os, select, sys
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_NONBLOCK)
quiet = 0
while quiet < 2: # there is nothing to read twice, after the feed has had a moment to look
    try:
        os.write(1, os.read(fd, 65536))
        quiet = 0
    except BlockingIOError:
        select.select([fd], [], [], 0.15)
        quiet += 1' "$1"
}

# ---- Revisions ------------------------------------------------------------------------------------------------------------------

rev() {
    local r=0
    [ "$QFS_TEST_ON" != quorumfs ] || read -r r <"$MNT/.quorum/revision"
    echo "$r"
}

# x TEXT: runs a piece of shell as the user, with the umask and by the shell ($QFS_SHELL) of this run.
x() {
    local as=()
    [ "$QFS_TEST_UID" = 0 ] || as=(setpriv --reuid="$QFS_TEST_UID" --regid="$QFS_TEST_UID" --clear-groups)
    (umask "$QFS_TEST_UMASK" && exec "${as[@]}" "${QFS_SHELL:-bash}" -c "$1") 3>&-
}

# put FILE TEXT: one commit by that user; printf escapes, no newline added.
put() { x "printf '$2' > '$1'"; }

# expect_revisions N TEXT: the piece of shell succeeds and takes exactly N revisions.
expect_revisions() {
    local before after
    before=$(rev)
    x "$2" || { fail "exit status $?: $2"; return 1; }
    after=$(rev)
    [ "$QFS_TEST_ON" != quorumfs ] || ((after - before == $1)) || fail "took $((after - before)) revisions, expected $1: $2"
}

# in_bash_and_dash COMMAND...: the shells differ in how they juggle descriptors.
in_bash_and_dash() {
    QFS_SHELL=bash "$@" && QFS_SHELL=dash "$@"
}

# fact FILE NAME: user.quorum.NAME of a file.
fact() { getfattr --absolute-names --only-values -n "user.quorum.$2" "$1"; }

# setting_of FILE NAME: the value of a `name: value` line.
setting_of() { sed -n "s/^$2: *//p" "$1"; }

# ---- The daemon -----------------------------------------------------------------------------------------------------------------

# What is asked again and again needs no process of its own.

mounted() {
    local mounts
    mapfile -t mounts </proc/self/mountinfo && [[ ${mounts[*]} == *" ${1:-$MNT} "* ]]
}

daemon_pid() { cat "${1:-$MNT}.pid"; }

daemon_alive() {
    local pid
    read -r pid <"${1:-$MNT}.pid" && process_runs "$pid"
} 2>/dev/null

check_machine() {
    local why=
    [ -c /dev/fuse ] || why="there is no /dev/fuse: load the fuse module, or start the container with --device /dev/fuse"
    [ "$(id -u)" = 0 ] || why="the tests mount filesystems: run them as root"
    [ -z "$why" ] || fail "$why"
}

# daemon_launch [OPTION...]: starts `quorumfs mount $DIR $MNT -f` in the background. $MNT.pid, .log and .exit are about it.
daemon_launch() {
    mounted || mkdir -p "$MNT"
    rm -f "$MNT.exit"
    (
        set +e
        umask 022
        # A background process of a script ignores Ctrl-C unless it is told not to.
        ${QFS_IN:+nsenter --net="$QFS_IN"} env --default-signal=INT,QUIT \
            "$QUORUMFS" mount "$DIR" "$MNT" -f "$@" </dev/null >>"$MNT.log" 2>&1 &
        echo $! >"$MNT.pid.new"
        mv "$MNT.pid.new" "$MNT.pid"
        wait $!
        echo $? >"$MNT.exit"
    ) 3>&- >/dev/null 2>&1 &
    wait_until 5 test -s "$MNT.pid"
}

# A dead mount that is being replaced is mounted, too, and for an instant there is none: only a living one has this file.
daemon_ready_or_dead() { { mounted && timeout 5 stat "$MNT/.quorum/revision"; } || [ -e "$MNT.exit" ]; }

# daemon_start [OPTION...]: ... and waits until the tree is usable.
daemon_start() {
    if [ "$QFS_TEST_ON" = tmpfs ]; then
        mkdir -p "$MNT" && mount -t tmpfs -o mode=755 none "$MNT" && return
    fi
    daemon_launch "$@" && wait_until 20 daemon_ready_or_dead
    [ -e "$MNT.exit" ] || mounted || daemon_threads >&2
    [ ! -e "$MNT.exit" ] && mounted || { cat "$MNT.log" >&2; fail "the daemon did not start: exit status $(cat "$MNT.exit" 2>/dev/null)"; return 1; }
}

# daemon_threads: what each thread of the daemon is doing, for a failure that may not come again.
daemon_threads() {
    local pid task
    pid=$(daemon_pid) || return 0
    for task in "/proc/$pid/task"/*; do
        echo "thread $(cat "$task/comm" 2>/dev/null): $(cat "$task/wchan" 2>/dev/null) $(grep State "$task/status" 2>/dev/null)"
    done
    ! command -v gdb >/dev/null || timeout 30 gdb -p "$pid" -batch -ex 'thread apply all bt 12' 2>/dev/null | grep -E '^(#|Thread)' | cut -c 1-160
}

daemon_gone() { # daemon_gone [STATUS]: waits for the end of the process and checks its exit status
    wait_until 20 test -s "$MNT.exit" || { daemon_threads >&2; return 1; }
    same "exit status of the daemon" "$(cat "$MNT.exit")" "${1:-0}"
}

# daemon_stop: a clean end by umount.
daemon_stop() {
    cd "$QFS_ROOT" || return 1
    wait_until 10 umount "$MNT"
    [ "$QFS_TEST_ON" = tmpfs ] || daemon_gone 0
}

daemon_kill() { # kill -9, and takes the dead mount away
    cd "$QFS_ROOT" || return 1
    kill -9 "$(daemon_pid)"
    daemon_gone 137
    umount -l "$MNT"
}

# ---- The log --------------------------------------------------------------------------------------------------------------------

# allow_log REGEX: errors and warnings that match are expected, from now on, in this file's daemons.
allow_log() { printf '%s\n' "$1" >>"$QFS_ROOT/allowed"; }

# expect_log REGEX: waits for such a line, which is then no surprise.
expect_log() {
    wait_until 5 grep -Eq -- "$1" "$MNT.log" || { fail "no log line matches: $1"; tail -5 "$MNT.log" >&2; return 1; }
    allow_log "$1"
}

# log_check [DIRECTORY]: fails when a daemon of this file (whose log is there) logged an error or a warning since the last check that nobody expected.
log_check() {
    local log seen new bad rc=0
    for log in "${1:-$QFS_ROOT}"/*.log; do
        [ -e "$log" ] || continue
        seen=0
        [ ! -e "$log.seen" ] || read -r seen <"$log.seen"
        mapfile -t -s "$seen" new <"$log"
        echo $((seen + ${#new[@]})) >"$log.seen"
        [[ ${new[*]} =~ (error|warning):|Assertion|Sanitizer ]] || continue
        bad=$(printf '%s\n' "${new[@]}" | grep -E '(^|: )(error|warning): |Assertion|Sanitizer' | grep -Evf "$QFS_ROOT/allowed") || true
        [ -z "$bad" ] || { fail "unexpected in the log: $bad"; rc=1; }
    done
    for log in "$QFS_ROOT"/sanitizer*; do
        [ -e "$log" ] || continue
        cat "$log" >&2
        rm -f "$log"
        rc=1
    done
    return $rc
}

# ---- Files and tests ------------------------------------------------------------------------------------------------------------

# root_file: the temporary directory of a file of tests, which a guard removes, with all mounts and processes, whatever happens.
root_file() {
    check_machine || return 1
    QFS_ROOT=$(mktemp -d "$TMPDIR/quorumfs-test.XXXXXX")
    chmod 755 "$QFS_ROOT"
    mkdir "$QFS_ROOT/bin"
    cp "$QFS_TESTBIN"/* "$QFS_ROOT/bin/" # where any user may run them
    DIR=$QFS_ROOT/data MNT=$QFS_ROOT/mnt PATH=$QFS_ROOT/bin:$PATH
    echo '^$' >"$QFS_ROOT/allowed"
    # A sanitizer's report is a file, so that it is found whoever made it.
    ASAN_OPTIONS="log_path=$QFS_ROOT/sanitizer:exitcode=99:${ASAN_OPTIONS:-}"
    UBSAN_OPTIONS="log_path=$QFS_ROOT/sanitizer:print_stacktrace=1:${UBSAN_OPTIONS:-}"
    TSAN_OPTIONS="log_path=$QFS_ROOT/sanitizer:exitcode=99:${TSAN_OPTIONS:-}"
    export QFS_ROOT DIR MNT PATH ASAN_OPTIONS UBSAN_OPTIONS TSAN_OPTIONS
    # What a slow build needs longer for is no timeout. (QFS_TIMEOUTS=wanted: for tests that are about what comes of one.)
    [ "$QFS_TIME_SCALE" = 1 ] || [ "${QFS_TIMEOUTS:-}" = wanted ] || export QUORUMFS_TIMEOUT=$((5 * QFS_TIME_SCALE))s
    guard $$ bash "$QFS_LIB/cleanup.bash" "$QFS_ROOT" </dev/null >/dev/null 2>&1 3>&-
}

mount_file() {
    root_file && daemon_start "$@"
}

left_behind() { # processes and mounts that name our directory; guard waits for this very process
    grep " $QFS_ROOT" /proc/self/mountinfo
    pgrep -af -- "$QFS_ROOT" | grep -Ev "^[0-9]+ ([^ ]*/)?guard |cleanup.bash|pgrep"
}

# nothing_left: everything of this file is gone; else says what is left, takes it away, and fails.
nothing_left() {
    local left
    wait_until 2 eval '[ -z "$(left_behind)" ]' 2>/dev/null || true
    left=$(left_behind) || true
    cleanup "$QFS_ROOT"
    [ -z "$left" ] || fail "left behind: $left"
}

unmount_file() {
    local rc=0
    cd / || return 1
    if mounted; then daemon_stop || rc=1; fi
    log_check || rc=1
    nothing_left || rc=1
    return $rc
}

# enter_test: a directory of its own. A daemon that an earlier test lost is replaced, so that one failure stays one.
enter_test() {
    if [ "$QFS_TEST_ON" = quorumfs ] && ! { daemon_alive && timeout 30 stat "$MNT"; } >/dev/null 2>&1; then
        force_unmount "$MNT"
        DIR=$(mktemp -d "$QFS_ROOT/data.XXXXXX")
        daemon_start || return 1
    fi
    T=$MNT/t$BATS_TEST_NUMBER S=$QFS_ROOT/s$BATS_TEST_NUMBER
    mkdir -p "$T"
    mkdir -m 1777 "$S"
    [ "$QFS_TEST_UID" = 0 ] || chown "$QFS_TEST_UID:$QFS_TEST_UID" "$T"
    cd "$T" || return 1
    umask "$QFS_TEST_UMASK"
}

leave_test() {
    local rc=0
    actors_end
    cd / || return 1
    timeout 60 rm -rf "$T" || rc=1
    [ "$QFS_TEST_ON" = tmpfs ] || daemon_alive || { fail "the daemon is gone: exit status $(cat "$MNT.exit"), its log ends: $(tail -3 "$MNT.log")"; rc=1; }
    log_check || rc=1
    return $rc
}
