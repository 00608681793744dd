#!/bin/bash
# registered.sh ROOT: every file of tests is named in the CMakeLists.txt beside it, so that none is forgotten when lists are merged.
set -euo pipefail
cd "$1"
bad=0 n=0
while IFS= read -r -d '' file; do
    n=$((n + 1))
    list=$(dirname "$file")/CMakeLists.txt
    name=$(basename "${file%.*}")
    short=${name#test_}
    short=${short#fuzz_}
    sed 's/#.*//' "$list" 2>/dev/null | grep -qwE -- "$name|$short" || { echo "$file: not in $list"; bad=1; }
done < <(find tests -name build -prune -o \( -name '*.bats' -o -name 'test_*.c' -o -name 'fuzz_*.c' \) -print0)
[ $n -gt 0 ] || { echo "no files of tests found"; exit 1; }
exit $bad
