#!/bin/bash
# layers.sh ROOT: the rooms depend downwards only, fs -> replica -> store -> store/base, see each other through one public header,
# and each keeps one foreign world to itself.
set -euo pipefail
cd "$1"
bad=0

# includes ROOM: `file:line:header` of every include in it
includes() {
    grep -rnE '^[[:space:]]*#[[:space:]]*include' --include='*.[ch]' "$1" |
        sed -E 's/^([^:]*:[0-9]+):[^<"]*[<"]([^>"]*)[>"].*/\1:\2/'
}

# forbid ROOM PATTERN WHY [BUT]: no header that matches may be included there, but for those that match BUT
forbid() {
    local hits
    hits=$(includes "$1" | grep -E ":($2)\$" | grep -vE ":(${4:-:})\$" || true)
    [ -z "$hits" ] || { echo "$hits" | sed "s|\$|: $3|"; bad=1; }
}

for room in store replica fs; do [ -d "$room" ] || { echo "no room \"$room\""; exit 1; }; done

forbid store 'replica/.*|fs/.*' 'store knows neither replica nor fs'
forbid store/base '(store/[^/]+|sqlite3)\.h' 'store/base knows nothing of the store'
forbid replica 'fs/.*' 'replica does not know fs'
forbid replica 'store/[^/]+\.h' 'replica sees store/store.h only' 'store/store\.h'
forbid fs 'store/[^/]+\.h' 'fs sees store/store.h only' 'store/store\.h'
forbid fs 'replica/.*' 'fs sees replica/replica.h only' 'replica/replica\.h'

forbid store 'raft.*|uv\.h|fuse.*' 'raft and uv are for replica, fuse is for fs'
forbid replica 'sqlite3.*|protobuf-c.*|.*\.pb-c\.h|fuse.*' 'sqlite3 is for store, fuse is for fs, and of protobuf replica has its own messages' 'replica/peer\.pb-c\.h'
forbid fs 'sqlite3.*|protobuf-c.*|.*\.pb-c\.h|raft(/.*|\.h)|uv\.h' 'sqlite3 and protobuf are for store, raft and uv for replica'
exit $bad
