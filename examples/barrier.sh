#!/bin/bash
# A barrier: wherever they run, all wait while it is closed, and go on together when it is opened.
#
#   barrier.sh LOCK close COMMAND [ARGUMENT...]    closed for as long as the command runs
#   barrier.sh LOCK wait                           returns when it is open
#
# LOCK is a file of MOUNTPOINT/.quorum/locks. Who closes it holds it exclusively; who waits asks for a share of it. It opens also when the
# command, or its machine, dies.
set -euo pipefail

usage() { echo "usage: $0 LOCK close COMMAND [ARGUMENT...] | $0 LOCK wait" >&2; exit 2; }
[ $# -ge 2 ] || usage
lock=$1 what=$2
shift 2
case $what in
    close)
        [ $# -ge 1 ] || usage
        exec flock --close "$lock" "$@"
        ;;
    wait) exec flock --shared "$lock" true ;;
    *) usage ;;
esac
