#!/bin/bash
# container.sh COMMAND...: runs it as in a container that was entered from without: in a namespace of processes of its own, outside of
# which the leader of its session is.
#
# Its mounts begin as a copy of all there are, and a file system ends with the last copy: those of tests beside it are taken out at once.
set -u
exec unshare --pid --fork --kill-child --mount-proc bash -c '
    awk "index(\$5, \"/quorumfs-test.\") {print \$5}" /proc/self/mountinfo | tac | while read -r mount; do
        umount -l "$(printf %b "$mount")"
    done
    exec "$@"' container "$@"
