#!/bin/bash
# Configuration of nginx from the tree: put it there on any member, and nginx reloads on every machine, if the new configuration is sound.
#
#   nginx-reload.sh TREE/nginx [CONFIG]     run it beside nginx on each machine, for instance by systemd
#
# CONFIG (default /etc/nginx/nginx.conf) should hold `include TREE/nginx/*.conf;`. Publish several files at once with a rename of their
# directory: cp -a nginx nginx.new, change it, mv --exchange or `mv nginx.new nginx` of a fresh name; each single file is always whole.
set -euo pipefail

[ $# -ge 1 ] || { echo "usage: $0 DIRECTORY [CONFIG]" >&2; exit 2; }
export NGINX_CONFIG=${2:-/etc/nginx/nginx.conf}

reload() {
    # A configuration that nginx refuses changes nothing: the old one goes on, and the log says why.
    nginx -q -t -c "$NGINX_CONFIG" && nginx -c "$NGINX_CONFIG" -s reload && echo "nginx-reload: reloaded"
}
export -f reload
exec "$(dirname "$0")/on-change.sh" "$1" bash -c reload
