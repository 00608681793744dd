#!/bin/bash
# Service discovery: each instance of a service is a file services/NAME/INSTANCE that holds HOST:PORT. This keeps a load balancer's list of
# them up to date.
#
#   upstreams.sh TREE/services NAME OUT [COMMAND...]    writes OUT, an nginx upstream block, and runs COMMAND after each change of it
#   upstreams.sh --once TREE/services NAME OUT          only writes it
#
# An instance announces itself with `echo 10.0.0.7:80 > TREE/services/web/$(hostname)` and takes itself away with rm. A list that would be
# empty is not written: the balancer keeps the last instances that were known.
set -euo pipefail

write_list() { # write_list SERVICES NAME OUT: status 0 when OUT has changed
    local file address new
    new=$(
        echo "upstream $2 {"
        for file in "$1/$2"/*; do
            # It may go between the listing and the look; and what is no address is no instance.
            address=$(cat "$file" 2>/dev/null) || continue
            if [[ $address =~ ^[A-Za-z0-9.:_-]+:[0-9]+$|^\[[0-9a-fA-F:]+\]:[0-9]+$ ]]; then
                echo "    server $address; # ${file##*/}"
            else
                echo "upstreams: $file holds no HOST:PORT: $address" >&2
            fi
        done
        echo "}"
    )
    [[ $new == *server* ]] || { echo "upstreams: no instance of $2 is known; $3 stays as it is" >&2; return 1; }
    [ "$new" != "$(cat "$3" 2>/dev/null)" ] || return 1
    printf '%s\n' "$new" >"$3.new"
    mv "$3.new" "$3"
}

update() {
    local services=$1 name=$2 out=$3
    shift 3
    if write_list "$services" "$name" "$out"; then
        echo "upstreams: $out has changed"
        [ $# -eq 0 ] || "$@"
    fi
}

case ${1:-} in
    --once) shift; [ $# -eq 3 ] || { echo "usage: $0 --once SERVICES NAME OUT" >&2; exit 2; }; update "$@" ;;
    *)
        [ $# -ge 3 ] || { echo "usage: $0 SERVICES NAME OUT [COMMAND...]" >&2; exit 2; }
        mkdir -p "$1/$2"
        export -f write_list update
        exec "$(dirname "$0")/on-change.sh" "$1/$2" bash -c 'update "$@"' update "$@" ;;
esac
