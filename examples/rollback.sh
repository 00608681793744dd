#!/bin/bash
# Rolls a directory of the tree back to an earlier revision, in two renames: readers see the directory of now or the one of then, whole.
#
#   rollback.sh DIRECTORY [REVISION | head-N | TIME]
#
# Without a revision it shows what the last changes below the directory were, and what to type. REVISION is a number, head-N the
# revision N before the current one, TIME like 2026-11-22T10:00:00Z (UTC). The directory of now stays beside it as DIRECTORY.before-REVISION;
# what the roll back did is in history like any other change, so it can be rolled back as well.
set -euo pipefail

usage() {
    echo "usage: $0 DIRECTORY [REVISION | head-N | TIME]" >&2
    exit 2
}

fail() {
    echo "rollback: $*" >&2
    exit 1
}

[ $# -ge 1 ] && [ $# -le 2 ] || usage
[ -d "$1" ] || fail "$1 is not a directory"
dir=$(cd "$1" && pwd -P)
root=$dir
until [ -e "$root/.quorum/revision" ]; do
    [ "$root" != / ] || fail "$dir is not on a quorumfs"
    root=$(dirname "$root")
done
path=${dir#"$root"}
[ -n "$path" ] || fail "the root itself cannot be renamed: copy what you need from $root/.quorum/at"

if [ $# = 1 ]; then
    echo "the last changes below $dir:"
    compacted=$(cat "$root/.quorum/compact")
    timeout 2 cat "$root/.quorum/since/$((compacted > 0 ? compacted : 1))$path/.events" | tail -n 10 || true
    echo "to undo the last one: $0 $1 REVISION, with the revision before it"
    exit 0
fi

old=$root/.quorum/at/$2$path
[ -d "$old" ] || fail "$(ls -d "$old" 2>&1 >/dev/null || echo "there was no such directory"): at $2"
rev=$(basename "$(cd "$root/.quorum/at/$2" && pwd -P)")
new=$dir.rolling-$$ kept=$dir.before-$rev
[ ! -e "$kept" ] || fail "$kept is in the way: it is from an earlier roll back"
trap 'rm -rf "$new"' EXIT
cp -a "$root/.quorum/at/$rev$path" "$new"
mv "$dir" "$kept"
mv "$new" "$dir" || { mv "$kept" "$dir"; fail "could not put the old directory in place: nothing was changed"; }
trap - EXIT
echo "$dir is as of revision $rev; what it was is in $kept"
