#!/bin/bash
# Access for a while: a token that is good until its time is up, on every member at once, and can be extended or revoked before.
#
#   grant.sh MOUNTPOINT DIRECTORY SECONDS [TEXT]     makes a token and prints it; TEXT says for what, or for whom
#   grant.sh --check MOUNTPOINT DIRECTORY TOKEN      status 0 and the text: it is good; status 1: it is not (any more)
#   grant.sh --extend MOUNTPOINT DIRECTORY TOKEN     the time begins anew
#   grant.sh --revoke MOUNTPOINT DIRECTORY TOKEN     it is good no longer
#
# DIRECTORY is below the mount point. A token is a file in it that is attached to a lease; the lease's time is the token's. The name of the
# file is a hash of the token, so who can list the directory cannot use what is there.
set -euo pipefail

usage() { sed -n 's/^#   //p' "$0" >&2; exit 2; }
id_of() { printf '%s' "$1" | sha256sum | cut -c 1-32; }

case ${1:-} in
    --check | --extend | --revoke)
        [ $# -eq 4 ] || usage
        id=$(id_of "$4")
        lease=$2/.quorum/leases/grant-$id
        case $1 in
            --check) cat "$2/$3/$id" 2>/dev/null ;;
            --extend) [ -d "$lease" ] && touch "$lease" ;;
            --revoke) rmdir "$lease" ;;
        esac
        ;;
    '' | -*) usage ;;
    *)
        [ $# -ge 3 ] || usage
        token=$(od -An -N 16 -t x1 /dev/urandom | tr -d ' \n')
        id=$(id_of "$token")
        lease=$1/.quorum/leases/grant-$id
        mkdir "$lease"
        trap 'rmdir "$lease"' ERR
        /bin/echo "$3" >"$lease/ttl"
        echo "${4:-}" >"$lease/keys/$2/$id"
        sync "$lease/keys/$2/$id"
        echo "$token"
        ;;
esac
