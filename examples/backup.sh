#!/bin/bash
# A nightly backup: a consistent snapshot, looked over, under a name with its date and revision; old ones go. For cron or a systemd timer.
#
#   backup.sh MOUNTPOINT DIRECTORY [KEEP]
#
# The snapshot is one revision, made while programs go on writing. It is copied under a temporary name and renamed when it is whole and on disk, so
# a file named *.db here is a good one. KEEP (14) of them are kept. Needs sqlite3 to look them over. To restore:
#
#   quorumfs init NEWDIR --from DIRECTORY/quorumfs-DATE-rREVISION.db && quorumfs mount NEWDIR MOUNTPOINT
set -euo pipefail
umask 077 # contents of all users are in it

fail() {
    echo "backup: $*" >&2
    exit 1
}

[ $# -ge 2 ] && [ $# -le 3 ] || { echo "usage: $0 MOUNTPOINT DIRECTORY [KEEP]" >&2; exit 2; }
mnt=$1 to=$2 keep=${3:-14}
[[ $keep =~ ^[1-9][0-9]*$ ]] || fail "KEEP is a number from 1, not \"$keep\""
[ -e "$mnt/.quorum/snapshot.db" ] || fail "$mnt is not a quorumfs, or you may not look"
mkdir -p "$to"

tmp=$to/.new-$$
trap 'rm -f "$tmp"' EXIT
cp "$mnt/.quorum/snapshot.db" "$tmp"
sync "$tmp"
[ "$(sqlite3 -readonly "$tmp" 'PRAGMA quick_check')" = ok ] || fail "the copy is damaged"
rev=$(sqlite3 -readonly "$tmp" 'SELECT max(revision) FROM history')
name=$to/quorumfs-$(date -u +%Y%m%dT%H%M%SZ)-r$rev.db
mv "$tmp" "$name"
sync "$to"
trap - EXIT
echo "$name"

# The names sort by date.
printf '%s\n' "$to"/quorumfs-*.db | sort -r | tail -n "+$((keep + 1))" | while read -r old; do rm -f "$old"; done
