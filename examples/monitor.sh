#!/bin/bash
# The state of all members, as one mounted tree tells it.
#
#   monitor.sh TREE            a line for each member; status 1 when something is wrong
#   monitor.sh TREE --watch    again every two seconds
#
# For Prometheus see metrics-http.py.
set -euo pipefail

[ $# -ge 1 ] || { echo "usage: $0 TREE [--watch]" >&2; exit 2; }
control=$1/.quorum

show() {
    local dir health
    printf '%-3s %-22s %-8s %-10s %12s %8s\n' ID ADDRESS ROLE STATE APPLIED LAG
    for dir in "$control/members"/*/; do
        printf '%-3s %-22s %-8s %-10s %12s %8s\n' "$(basename "$dir")" "$(cat "$dir/address")" "$(cat "$dir/role")" "$(cat "$dir/state")" \
            "$(cat "$dir/applied")" "$(cat "$dir/lag")"
    done
    health=$(cat "$control/health")
    echo "leader $(sed -n 's/^leader: *//p' "$control/status"), revision $(sed -n 's/^revision: *//p' "$control/status"), health: $health"
    [ "$health" = ok ]
}

if [ "${2:-}" = --watch ]; then
    while true; do
        clear
        show || true
        sleep 2
    done
fi
show
