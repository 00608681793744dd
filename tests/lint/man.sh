#!/bin/bash
# man.sh ROOT QUORUMFS: the man pages render without warnings and have every setting and every control file.
set -euo pipefail
root=$1 quorumfs=$2
bad=0

for page in "$root"/fs/quorumfs.[58]; do
    warnings=$(LC_ALL=C.UTF-8 groff -Kutf8 -Tutf8 -man -ww -z "$page" 2>&1)
    [ -z "$warnings" ] || { echo "$warnings"; bad=1; }
    lines=$(LC_ALL=C.UTF-8 groff -Kutf8 -Tutf8 -man "$page" | wc -l)
    [ "$lines" -gt 100 ] || { echo "$page renders to $lines lines"; bad=1; }
done

# has PAGE WORD: the word stands in the source of the page, with the hyphens that man pages want
has() {
    local text word
    text=$(sed 's/\\-/-/g' "$root/fs/$1")
    word=$(sed 's/[.]/\\./g' <<<"$2")
    grep -qE "(^|[^[:alnum:]-])$word([^[:alnum:]-]|\$)" <<<"$text" || { echo "$1 does not mention \"$2\""; bad=1; }
}

settings=$("$quorumfs" --help | sed -nE 's/^  ([a-z-]+)  +.*/\1/p')
[ "$(wc -w <<<"$settings")" -gt 10 ] || { echo "--help lists no settings"; exit 1; }
for name in $settings; do has quorumfs.8 "$name"; done
rows=$(sed -nE 's/^    \{\.name = "([^"]+)", \.mode = S_IF.*/\1/p' "$root/fs/control/table.c")
[ -n "$rows" ] || { echo "table.c has no rows"; exit 1; }
for name in $rows; do has quorumfs.5 "$name"; done
exit $bad
