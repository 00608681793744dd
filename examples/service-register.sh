#!/bin/bash
# Runs a service and announces it for as long as it runs: a file of the tree that is there while the service is, and vanishes with it.
#
#   service-register.sh MOUNTPOINT PATH VALUE COMMAND [ARGUMENT...]
#   service-register.sh /mnt/q services/web/$(hostname) 10.0.0.7:80 /usr/sbin/nginx -g 'daemon off;'
#
# The file is attached to a lease. When the command ends, the lease is revoked and the file is gone at once; when the machine dies, or both
# this script and the command are killed, it is gone after $TTL seconds (10). A service that lost its lease because its member was
# cut off is announced anew when that is over. The directory of PATH must exist.
set -euo pipefail

[ $# -ge 4 ] || { echo "usage: $0 MOUNTPOINT PATH VALUE COMMAND [ARGUMENT...]" >&2; exit 2; }
mnt=$1 path=$2 value=$3 ttl=${TTL:-10} lease=
shift 3

register() { # the command inherits descriptor 9, so the lease lives while one of the two does
    lease=$(mktemp -d "$mnt/.quorum/leases/service-XXXXXX") || return 1
    echo "$ttl" >"$lease/ttl" && { exec 9>"$lease/alive"; } && echo "$value" >"$lease/keys/$path" && sync "$lease/keys/$path"
}
is_registered() { echo >&9; } 2>/dev/null # ESTALE: the lease has gone
forget() { [ -z "$lease" ] || rmdir "$lease" 2>/dev/null || true; }

register || { echo "service-register: $path cannot be announced" >&2; forget; exit 1; }
"$@" &
service=$!
trap 'kill "$service" 2>/dev/null' TERM INT
trap forget EXIT
while kill -0 "$service" 2>/dev/null; do
    sleep 1 9>&- &
    wait -n "$service" $! || true
    is_registered || register || forget
done
wait "$service"
