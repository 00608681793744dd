#!/bin/bash
# selftest.sh: the checks of this folder find what they are for. Each is run on a small tree that is right, and then on one with a
# single fault.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
tree=$tmp/tree

good_tree() {
    rm -rf "$tree"
    mkdir -p "$tree"/{store/base,replica,fs,tests,examples,.ci}
    printf '#include "store/base/err.h"\n#include <sqlite3.h>\nint a;\n' >"$tree/store/a.c"
    printf 'int b;\n' >"$tree/store/base/b.c"
    printf '#include <raft.h>\n#include "store/store.h"\nint c;\n' >"$tree/replica/c.c"
    printf '#include <fuse_lowlevel.h>\n#include "replica/replica.h"\nint d;\n' >"$tree/fs/d.c"
    for h in store/store store/base/err replica/replica fs/fs; do printf 'struct x;\n' >"$tree/$h.h"; done
    printf '#!/bin/bash\npackages=(a b)\n' | tee "$tree/tests/run.sh" "$tree/examples/quickstart.sh" >"$tree/.ci/run"
    touch "$tree/tests/one.bats"
    echo 'qfs_bats_test(one) # two' >"$tree/tests/CMakeLists.txt"
    chmod +x "$tree/tests/run.sh" "$tree/examples/quickstart.sh" "$tree/.ci/run"
}

# finds CHECK WHAT: the check fails on the tree as it is now
finds() {
    if "$here/$1" "$tree" ${3:-} >"$tmp/out" 2>&1; then
        echo "$1 does not find: $2"
        exit 1
    fi
    good_tree
}

good_tree
for check in layers functions hygiene scripts registered 'headers cc'; do
    read -r name arg <<<"$check"
    "$here/$name.sh" "$tree" $arg >"$tmp/out" 2>&1 || { echo "$name.sh fails on a tree that is right:"; cat "$tmp/out"; exit 1; }
done

for line in 'store/a.c:replica/replica.h' 'store/a.c:raft.h' 'store/base/b.c:store/store.h' 'replica/c.c:fs/fs.h' 'replica/c.c:store/db.h' \
    'replica/c.c:sqlite3.h' 'fs/d.c:replica/guard.h' 'fs/d.c:store/db.h' 'fs/d.c:uv.h' 'fs/d.c:raft/uv.h' 'store/a.c:fuse.h'; do
    printf '#  include "%s"\n' "${line#*:}" >>"$tree/${line%%:*}"
    finds layers.sh "$line"
done
{ printf 'int f(void)\n{\n'; for _ in {1..71}; do echo '    ;'; done; echo '}'; } >"$tree/fs/long.c"
finds functions.sh 'a function of 71 lines'
for _ in {1..801}; do echo; done >"$tree/fs/long.c"
finds functions.sh 'a file of 801 lines'
printf 'struct y { uint32_t z; };\n' >"$tree/fs/alone.h"
finds headers.sh 'a header that needs another' cc
touch "$tree/store/command.pb-c.c"
finds hygiene.sh 'a generated file'
echo '/* see /home/someone/notes */' >"$tree/fs/e.c"
finds hygiene.sh 'a path'
echo '/* FIXME later */' >"$tree/fs/e.c"
finds hygiene.sh 'a FIXME'
echo '/* raft.md H4 */' >"$tree/fs/e.c"
finds hygiene.sh 'a document'
echo 'int e; ' >"$tree/fs/e.c"
finds hygiene.sh 'a blank at the end'
echo 'if then' >>"$tree/tests/run.sh"
finds scripts.sh 'a syntax error'
chmod -x "$tree/.ci/run"
finds scripts.sh 'a script that cannot be executed'
echo 'packages=(a b c)' >"$tree/examples/quickstart.sh"
finds scripts.sh 'a package that is missing'
printf '@test "t" {\n    ! true\n    true\n}\n' >"$tree/tests/one.bats"
finds scripts.sh 'a test that cannot fail'
touch "$tree/tests/two.bats"
finds registered.sh 'a file of tests that nobody runs'
