# Actors: processes whose system calls a test interleaves by hand (actor.c says what they can do).
#
#     actor_start A; A open 3 f wct; A write 3 hello; A close 3
#     A fails EFBIG write 3 ...       the call must fail with that errno
#     said                            the value of the last answer, e.g. of `A read 3 100`
#     actor_begin A flockw 3 x        does not wait for the answer; actor_end A [ERRNO] does
#
# actor_start NAME defines a function of that name. Its answers must come within half a minute.

declare -gA ACTOR_IN ACTOR_OUT ACTOR_PID
SAID=

said() { printf '%s' "$SAID"; }

actor_pipes() { # actor_pipes NAME: both ends opened for reading and writing, so that no open waits for the other side
    local base in out
    base=$(mktemp -u "$QFS_ROOT/$1.XXXXXX")
    mkfifo "$base.in" "$base.out"
    chmod 666 "$base.in" "$base.out"
    exec {in}<>"$base.in" {out}<>"$base.out"
    ACTOR_IN[$1]=$in ACTOR_OUT[$1]=$out
    ACTOR_FILES=$base
    eval "$1() { actor_do $1 \"\$@\"; }"
}

# actor_start NAME [setsid|as UID]: in a session of its own, or as another user.
actor_start() {
    local how=(env)
    case ${2:-} in
        setsid) how=(setsid) ;;
        as) how=(setpriv --reuid="$3" --regid="$3" --clear-groups) ;;
        *) [ "$QFS_TEST_UID" = 0 ] || how=(setpriv --reuid="$QFS_TEST_UID" --regid="$QFS_TEST_UID" --clear-groups) ;;
    esac
    actor_pipes "$1"
    # A background process of a script would ignore the signals of the keyboard.
    env --default-signal=INT,QUIT "${how[@]}" actor <"$ACTOR_FILES.in" >"$ACTOR_FILES.out" 3>&- &
    ACTOR_PID[$1]=$!
    disown
}

# actor_fork A B: a forked child of A, with its descriptors, is actor B.
actor_fork() {
    actor_pipes "$2"
    actor_do "$1" fork "$ACTOR_FILES.in" "$ACTOR_FILES.out" || return 1
    ACTOR_PID[$2]=$SAID
    actor_answer "$2"
}

actor_answer() {
    local line part= tries=0
    until IFS= read -r -t 1 -u "${ACTOR_OUT[$1]}" line; do
        part+=$line # the second may be over in the middle of it
        if actor_is_gone "$1" || ((++tries >= PATIENCE * QFS_TIME_SCALE)); then
            SAID=silence
            fail "actor $1 does not answer"
            return 1
        fi
    done
    line=$part$line
    SAID=${line#ok}
    SAID=${SAID# }
    [[ $line == ok* ]]
}

actor_send() { # the words of a command, tab separated
    local name=$1 word line=
    shift
    for word in "$@"; do
        word=${word//\\/\\\\} word=${word//$'\t'/\\t} word=${word//$'\n'/\\n}
        line+=$word$'\t'
    done
    printf '%s\n' "${line%$'\t'}" >&"${ACTOR_IN[$name]}"
}

actor_do() {
    local name=$1 want=
    shift
    if [ "$1" = fails ]; then want=$2; shift 2; fi
    actor_send "$name" "$@"
    if [ "$1" = abort ] || [ "$1" = _exit ] || [ "$1" = exit ]; then
        wait_until 10 actor_is_gone "$name"
        return
    fi
    if actor_answer "$name"; then
        [ -z "$want" ] || fail "actor $name: $*: expected $want, but it succeeded"
    elif [ -z "$want" ] || [ "$SAID" != "$want" ]; then
        fail "actor $name: $*: ${want:+expected $want, }seen $SAID"
    fi
}

actor_begin() { # actor_begin NAME COMMAND...: without waiting for the answer
    actor_send "$@"
}

actor_end() { # actor_end NAME [ERRNO]: the answer to what was begun
    actor_answer "$1" && [ $# = 1 ] || { [ $# = 2 ] && [ "$SAID" = "$2" ]; } || fail "actor $1: expected ${2:-ok}, seen $SAID"
}

actor_waits() { # what was begun is not answered yet
    ! IFS= read -r -t 0 -u "${ACTOR_OUT[$1]}" || fail "actor $1 does not wait any more"
}

actor_is_gone() { ! process_runs "${ACTOR_PID[$1]}"; }

actor_signal() { # actor_signal NAME SIGNAL: and waits until it is gone
    kill -"$2" "${ACTOR_PID[$1]}" && wait_until 10 actor_is_gone "$1"
}

actors_end() {
    local name
    for name in "${!ACTOR_PID[@]}"; do
        kill -9 "${ACTOR_PID[$name]}" 2>/dev/null
    done
    ACTOR_PID=()
    return 0
}
