#!/bin/bash
# An audit log: who changed what, a line for every change, none left out, however often this is stopped and started again.
#
#   audit.sh MOUNTPOINT LOG [PATH]
#
# LOG is appended to; its last line says where to go on. The writer is looked up in the tree as of the revision of the change. If
# the next changes have been compacted meanwhile, that is said in LOG, and it goes on with what there is.
set -euo pipefail

[ $# -ge 2 ] || { echo "usage: $0 MOUNTPOINT LOG [PATH]" >&2; exit 2; }
quorum=$1/.quorum log=$2 path=${3:-}

writer() { # writer REVISION PATH: who made its last commit, as of then
    getfattr --absolute-names --only-values -n user.quorum.writer "$quorum/at/$1/$2" 2>/dev/null || echo '?'
}

touch "$log"
while :; do
    last=$(tail -n 1 "$log" | cut -f 1)
    # Lines of one revision belong together: the last one is read again, in case it was not all written.
    [ -z "$last" ] || { sed -i "/^$last\t/d" "$log"; last=$((last - 1)); }
    if ! exec {events}<"$quorum/since/${last:-0}${path:+/$path}/.events"; then
        [ -e "$quorum/status" ] || exit 1
        compacted=$(sed -n 's/^compacted: //p' "$quorum/status")
        printf '%s\tlost\teverything between revision %s and %s\n' "$compacted" "${last:-0}" "$compacted" >>"$log"
        continue
    fi 2>/dev/null
    while IFS=$'\t' read -r -u "$events" rev event name rest; do
        where=$name
        [ "$event" != rename ] || where=${rest%%$'\t'*}
        case $event in
            delete | rmdir) who='?' ;; # the tree of that revision has it no more
            *) who=$(writer "$rev" "$(printf '%b' "$where")") ;;
        esac
        printf '%s\t%s\t%s\t%s\t%s\n' "$rev" "$event" "$name" "$rest" "$who" >>"$log"
    done
    exec {events}<&-
    [ -e "$quorum/status" ] || exit 0 # the member has stopped
done
