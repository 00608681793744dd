#!/bin/bash
# headers.sh ROOT CC [FLAG...]: each header compiles alone, twice in a row too.
set -euo pipefail
root=$1 cc=$2
shift 2
bad=0 n=0
cd "$root"
while IFS= read -r -d '' header; do
    n=$((n + 1))
    printf '#include "%s"\n#include "%s"\n' "$header" "$header" | "$cc" -std=c11 -Wall -Wextra -Werror "$@" -I"$root" -fsyntax-only -x c - || bad=1
done < <(find store replica fs -name '*.h' -print0 | sort -z)
[ $n -gt 0 ] || { echo "no headers found"; exit 1; }
exit $bad
