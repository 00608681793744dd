#!/bin/bash
# functions.sh ROOT: no function of the rooms is longer than 70 lines, no file longer than 800. A function starts with a line that is
# just `{` behind its head and ends with a line that is just `}`. One whose head is preceded by a comment with the words
# "one switch" is a state machine or a dispatcher, and may be longer.
set -euo pipefail
cd "$1"
find store replica fs -name '*.[ch]' -print0 | sort -z | xargs -0 awk '
    FNR == 1 { head = ""; start = 0; allowed = 0 }
    /^\/\*/ || /^ \*/ { if (/one switch/) allowed = 1 }
    /^[a-zA-Z_].*\)?$/ && !/;$/ && !start { head = $0 }
    /^\{/ { start = FNR }
    /^\}/ && start {
        if (FNR - start - 1 > 70 && !allowed) { printf "%s:%d: %d lines: %s\n", FILENAME, start, FNR - start - 1, head; bad = 1 }
        start = 0; allowed = 0
    }
    FNR == 801 { printf "%s: more than 800 lines\n", FILENAME; bad = 1 }
    { n++ }
    END { if (!n) { print "no source files found"; bad = 1 } exit bad }'
