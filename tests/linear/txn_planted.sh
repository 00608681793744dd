#!/bin/bash
# txn_planted.sh: txncheck says yes to what can be explained and no to planted faults. QFS_TESTBIN names the directory of txncheck.
set -euo pipefail
CHECKER=txncheck
. "$(dirname "${BASH_SOURCE[0]}")/planted.bash"

# ---- What can be explained ------------------------------------------------------------------------------------------------------

expect 0 "one after the other" <<'H'
1 10 20 2 r0=- a0=5 a1=6
2 30 40 3 r0=5 r1=6 a0=7
3 50 60 3 r0=5,7 r1=6
H
expect 0 "two at once, in the order that the reads tell" <<'H'
1 10 90 0 r0=- a1=6
2 10 90 0 r1=6 a0=5
3 95 99 0 r0=5 r1=6
H
expect 0 "a transaction of unknown outcome may come late" <<'H'
1 10 0 0 r1=- a0=5
2 20 30 0 r0=-
2 40 50 0 r0=5
H
expect 0 "a transaction of unknown outcome may never come" <<'H'
1 10 0 0 r0=- a0=5 a1=6
2 20 30 0 r0=- a0=7
2 40 50 0 r0=7 r1=-
H
expect 0 "money is moved" <<'H'
1 10 20 2 g0=0 g1=0 p0=5 p1=6
2 30 40 3 g1=6 g2=0 p1=7 p2=8
3 35 36 2 g0=5 g1=6 g2=0 s0=300
3 50 60 3 g0=5 g1=7 g2=8 s0=300
H

# ---- Planted faults -------------------------------------------------------------------------------------------------------------

expect 1 "a lost append" "a cycle" <<'H'
1 10 20 0 a0=5
1 30 40 0 a0=6
2 50 60 0 r0=5
H
expect 1 "a lost append among others" "two orders" <<'H'
1 10 20 0 a0=5
1 30 40 0 r0=5 a0=6
2 30 40 0 r0=- a0=7
3 50 60 0 r0=7
H
expect 1 "an element that is there twice" "twice" <<'H'
1 10 20 0 a0=5
2 50 60 0 r0=5,5
H
expect 1 "an element of a transaction that was not committed" "nobody has committed" <<'H'
1 10 20 0 a0=5
2 50 60 0 r0=5,9
H
expect 1 "a stale read in a committed transaction" "ended before" <<'H'
1 10 20 0 a0=5
2 30 40 0 r0=- a1=6
H
expect 1 "a stale read that only other transactions show" "did not see" <<'H'
1 10 90 0 a0=5 a1=6
2 10 90 0 r0=- r1=6 a2=7
H
expect 1 "write skew of lists" "did not see" <<'H'
1 10 90 0 r0=- r1=- a0=5
2 10 90 0 r0=- r1=- a1=6
3 95 99 0 r0=5 r1=6
H
expect 1 "write skew of a pair of files" "did not see" <<'H'
1 10 90 0 g0=0 g1=0 p0=5
2 10 90 0 g0=0 g1=0 p1=6
H
expect 1 "a lost update" "a lost update" <<'H'
1 10 90 0 g0=0 p0=5
2 10 90 0 g0=0 p0=6
H
expect 1 "a lost update of a list" "did not see" <<'H'
1 10 90 0 r0=- a0=5
2 10 90 0 r0=- a0=6
3 95 99 0 r0=5,6
H
expect 1 "real time goes back, though the reads could be put in an order" "ended before" <<'H'
1 10 20 0 a0=5
2 30 40 0 a0=6
3 50 60 0 r0=6,5
H
expect 1 "real time goes back over two files" "ended before" <<'H'
1 10 20 0 a0=5
2 30 40 0 a1=6
3 10 90 0 r0=- r1=6
H
expect 1 "a snapshot that goes back" "a cycle" <<'H'
1 10 90 0 a0=5
2 20 30 0 r0=5
3 40 50 0 r0=-
H
expect 1 "a torn transaction" "a cycle" <<'H'
1 10 90 0 a0=5 a1=6
2 20 80 0 r0=5 r1=-
3 91 99 0 r0=5 r1=6
H
expect 1 "a torn transfer" "a cycle" <<'H'
1 10 90 0 g0=0 g1=0 p0=5 p1=6
2 20 80 0 g0=5 g1=0
H
expect 1 "half of a transaction of unknown outcome" "a cycle" <<'H'
1 10 0 0 a0=5 a1=6
2 20 80 0 r0=5 r1=-
2 90 99 0 r0=5 r1=-
H
expect 1 "a read between two writes of one transaction" "a cycle" <<'H'
1 10 90 0 a0=5 a0=6
2 20 80 0 r0=5
3 91 99 0 r0=5,6
H
expect 1 "money is lost" "the sum of 0 was" <<'H'
1 10 20 0 g0=0 g1=0 s0=200
2 30 40 0 g0=0 g1=0 s0=199
H
expect 1 "the revisions have another order than the reads" "with the revisions" <<'H'
1 10 90 7 a0=5
2 10 90 6 r0=5 a1=6
H
expect 1 "a snapshot shows more than its revision" "with the revisions" <<'H'
1 10 90 7 a0=5
2 10 90 6 r0=5
H
expect 1 "a snapshot lacks what its revision has" "with the revisions" <<'H'
1 10 90 6 a0=5
2 10 90 7 r0=-
H
expect 1 "two transactions are one revision" "are revision 7" <<'H'
1 10 20 7 a0=5
2 30 40 7 a1=6
H
expect 1 "one bad file among good ones" "a cycle" <<'H'
1 10 20 0 a0=5 a1=50
1 30 40 0 r0=5 r1=50 a0=51
2 50 60 0 a2=6
2 70 80 0 r2=- a1=52
3 90 99 0 r0=5,51 r1=50,52
H
expect 2 "nonsense" <<<'1 20 10 0 a0=5'
expect 2 "a file that is overwritten unread" <<<'1 10 20 0 p0=5'
expect 2 "a version that is written twice" <<'H'
1 10 20 0 a0=5
1 30 40 0 a0=5
H
exit $failed
