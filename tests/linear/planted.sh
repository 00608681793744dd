#!/bin/bash
# planted.sh: the checker says yes to what can be explained and no to planted faults. QFS_TESTBIN names the directory of lincheck.
set -euo pipefail
CHECKER=lincheck
. "$(dirname "${BASH_SOURCE[0]}")/planted.bash"

expect 0 "a read during a write may see either" <<'H'
1 1 10 40 put 0 5
1 2 15 20 get 0 0
1 3 21 30 get 0 5
H
expect 1 "a stale read" <<'H'
1 1 10 20 put 0 5
1 2 21 30 get 0 0
H
expect 1 "a read that goes back" <<'H'
1 1 10 100 put 0 5
1 2 15 20 get 0 5
1 3 21 30 get 0 0
H
expect 1 "a lost write" <<'H'
1 1 10 20 put 0 5
1 1 30 40 put 0 6
1 2 50 60 get 0 5
H
expect 0 "a write of unknown outcome may come late" <<'H'
1 1 10 0 put 0 5
1 2 20 30 get 0 0
1 2 40 50 get 0 5
H
expect 0 "a write of unknown outcome may never come" <<'H'
1 1 10 0 put 0 5
1 2 20 30 put 0 6
1 2 40 50 get 0 6
H
expect 1 "a write of unknown outcome comes once" <<'H'
1 1 10 0 put 0 5
1 2 20 30 get 0 5
1 2 40 50 put 0 6
1 2 60 70 get 0 6
1 2 80 90 get 0 5
H
expect 1 "a lost line" <<'H'
1 1 10 20 append 5
1 2 12 30 append 6
1 3 40 50 list 6
H
expect 1 "a line that is there twice" <<'H'
1 1 10 20 append 5
1 3 40 50 list 5,5
H
expect 1 "lines in two orders" <<'H'
1 1 10 30 append 5
1 2 10 30 append 6
1 3 40 50 list 5,6
1 3 60 70 list 6,5
H
expect 0 "one of two creators wins" <<'H'
1 1 10 30 excl 0 ok
1 2 10 30 excl 0 exists
1 2 40 50 get 0 1
H
expect 1 "two creators win" <<'H'
1 1 10 30 excl 0 ok
1 2 10 30 excl 0 ok
H
expect 1 "an unlink of what was not there" <<'H'
1 1 10 20 excl 0 ok
1 2 30 40 unlink 0 ok
1 1 50 60 unlink 0 ok
H
expect 0 "a file follows its renames" <<'H'
1 1 10 20 put 0 7
1 2 30 40 rename 0 1 ok
1 1 50 60 rename 1 2 ok
1 1 70 80 get 2 7
1 1 70 80 get 0 0
H
expect 1 "a file under two names" <<'H'
1 1 10 20 put 0 7
1 2 30 40 rename 0 1 ok
1 1 50 60 get 0 7
1 1 70 80 get 1 7
H
expect 1 "one bad group among good ones" <<'H'
1 1 10 20 put 0 5
2 1 10 20 put 0 5
2 2 30 40 get 0 0
3 1 10 20 put 0 5
H
expect 2 "nonsense" <<<'1 1 20 10 put 0 5'
exit $failed
