#!/bin/bash
# hygiene.sh ROOT: what is committed is source, and speaks of nothing but this project: no generated files, no paths of somebody's
# machine, no documents that a reader does not have, no FIXME without the number of an issue.
set -euo pipefail
cd "$1"
bad=0

if [ -e .git ]; then
    mapfile -d '' files < <(git -c safe.directory='*' ls-files -z --cached --others --exclude-standard)
else
    mapfile -d '' files < <(find . -type f -not -path './build*' -printf '%P\0')
fi
[ ${#files[@]} -gt 0 ] || { echo "no files found"; exit 1; }

# report WHY: says what is on stdin, if anything
report() {
    local hits
    hits=$(cat)
    [ -z "$hits" ] || { echo "$hits" | sed "s|\$|: $1|"; bad=1; }
}

# in_files PATTERN: `file:line:text`, this folder excepted since it has the patterns
in_files() {
    printf '%s\0' "${files[@]}" | grep -zv '^tests/lint/' | xargs -0 grep -nIE -- "$1" /dev/null 2>/dev/null || true
}

generated='\.(o|a|so|d|gcno|gcda|pyc|swp|orig|rej|db|db-wal|db-shm)$|\.pb-c\.[ch]$|(^|/)(build|CMakeFiles|Testing|core)(/|$)'
generated+='|compile_commands\.json$|CMakeCache\.txt$'
documents='product|architecture|consistency|decisions|raft|fuse|store|quality|style'

report 'generated, does not belong here' < <(printf '%s\n' "${files[@]}" | grep -E "$generated")
report 'a path of one machine' < <(in_files '(^|[^[:alnum:]_.])(/work/|/home/[a-z]|/root/[a-z])')
report 'a document that readers do not have' < <(in_files "(^|[^[:alnum:]_./])(\.\./shared|($documents)\.md)")
report 'FIXME needs the number of an issue' < <(in_files 'FIXME' | grep -vE 'FIXME\(?#?[0-9]+')
report 'ends with a carriage return' < <(in_files $'\r$')
report 'has blanks at its end' < <(in_files '[[:blank:]]+$' | grep -vE '^(LICENSE|[^:]*\.md):')
exit $bad
