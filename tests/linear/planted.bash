# What planted.sh and txn_planted.sh have in common. $CHECKER decides; `failed` is 1 once an answer was another one than expected.
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0

# expect STATUS WHAT [WORDS]: the history on standard input; the answer has these words.
expect() {
    local status=0
    cat >"$dir/history"
    "$QFS_TESTBIN/$CHECKER" "$dir/history" >"$dir/out" 2>&1 || status=$?
    [ "$status" = "$1" ] || { echo "$2: expected $1, seen $status:"; cat "$dir/out"; failed=1; }
    [ -z "${3:-}" ] || grep -q -- "$3" "$dir/out" || { echo "$2: expected '$3', seen:"; cat "$dir/out"; failed=1; }
}
