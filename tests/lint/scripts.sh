#!/bin/bash
# scripts.sh ROOT: every shell script parses, can be executed where it is meant to be, the package lists agree: what quickstart.sh
# needs, run.sh needs too; and what a test says must not succeed fails it if it does.
set -euo pipefail
cd "$1"
bad=0 n=0
while IFS= read -r -d '' script; do
    n=$((n + 1))
    bash -n "$script" || bad=1
done < <(find examples tests .ci -type f \( -name '*.sh' -o -name '*.bash' -o -name run \) -print0)
[ $n -gt 0 ] || { echo "no scripts found"; exit 1; }
for script in examples/*.sh tests/run.sh .ci/run; do [ -x "$script" ] || { echo "$script is not executable"; bad=1; }; done

packages() {
    sed -nE '/^packages=\(/,/\)/p' "$1" | sed 's/packages=(//; s/)//' | tr -s ' \n' '\n' | grep . | sort
}
missing=$(comm -23 <(packages examples/quickstart.sh) <(packages tests/run.sh))
[ -z "$missing" ] || { echo "tests/run.sh does not install what quickstart.sh does: $missing"; bad=1; }
loose=$(grep -rnE '^ *! ' tests --include='*.bats' | grep -v '||') || true # bash leaves out what is negated when it looks for failures
[ -z "$loose" ] || { echo "these cannot fail without '|| false': $loose"; bad=1; }
exit $bad
