#!/bin/bash
# A queue of jobs, for any number of workers on any members. No job is lost or finished twice, also when workers are killed.
#
#   work-queue.sh QUEUE COMMAND [ARGUMENT...]      a worker; QUEUE is a directory below the mount point, COMMAND gets the job's file as its
#                                                  last argument; ends with SIGTERM, or, with ONCE=1, when there is nothing to do
#   echo "the job" > QUEUE/new.$$ && mv QUEUE/new.$$ QUEUE/todo/NAME     submits one (todo/ is made by the first worker)
#
# A worker has a lease, and a file workers/NAME that is attached to it. It claims a job by moving its file into its own directory doing/NAME,
# and finishes it by moving it on to done/ (or failed/); of several who try, one succeeds. When a worker dies, its lease runs out,
# workers/NAME is gone, and whoever sees that moves its jobs back to todo/. A worker that was only believed dead fails to finish
# its job: somebody else has it. So a command may run twice, but only one run of it counts.
set -euo pipefail

[ $# -ge 2 ] || { echo "usage: $0 QUEUE COMMAND [ARGUMENT...]" >&2; exit 2; }
queue=$(realpath "$1")
shift
mnt=$queue
until [ -d "$mnt/.quorum" ]; do
    [ "$mnt" != / ] || { echo "work-queue: $queue is not in a tree of quorumfs" >&2; exit 1; }
    mnt=$(dirname "$mnt")
done

join() {
    mkdir -p "$queue"/{todo,doing,done,failed,workers}
    lease=$(mktemp -d "$mnt/.quorum/leases/worker-XXXXXX")
    trap 'rmdir "$lease" 2>/dev/null || true' EXIT
    name=${lease##*/}
    echo "${TTL:-10}" >"$lease/ttl"
    exec 9>"$lease/alive"
    echo "$HOSTNAME $$" >"$lease/keys/${queue#"$mnt"/}/workers/$name" # before doing/NAME, which is anybody's without it
    sync "$lease/keys/${queue#"$mnt"/}/workers/$name" # a shell does not tell when a close fails; this does
}

take_back() { # of workers that have gone
    local dir
    for dir in "$queue"/doing/*/; do
        dir=${dir%/}
        [ -d "$dir" ] && [ ! -e "$queue/workers/${dir##*/}" ] || continue
        find "$dir" -type f -exec mv -n -t "$queue/todo" {} + 2>/dev/null || true
        rmdir "$dir" 2>/dev/null || true
    done
}

claim() { # sets job
    local file
    for file in "$queue/doing/$name"/*; do # a move that was not answered in time has taken place, or has not
        [ ! -e "$file" ] || { job=${file##*/}; return; }
    done
    mkdir "$queue/doing/$name" 2>/dev/null || true # somebody may have taken us for dead
    for file in "$queue"/todo/*; do
        job=${file##*/}
        mv -T "$file" "$queue/doing/$name/$job" 2>/dev/null && return
    done
    return 1
}

finish() { # finish DIRECTORY: it cannot when the job was taken from us; when there was no answer in time, and it is still ours, it is done again
    mkdir -p "$queue/$1" && mv -T "$queue/doing/$name/$job" "$queue/$1/$job" 2>/dev/null && return
    echo "work-queue: $job was taken back: this run does not count" >&2
    sleep 1 9>&-
}

join
trap 'exit 0' TERM INT
while echo >&9; do # fails when our lease has gone
    if claim || { take_back && claim; }; then
        if "$@" "$queue/doing/$name/$job" 9>&-; then finish done; else finish failed; fi
    elif [ -n "${ONCE:-}" ] && left=$(ls "$queue/todo") && [ -z "$left" ]; then
        rmdir "$queue/doing/$name"
        exit 0
    else
        sleep 1 9>&-
    fi
done
echo "work-queue: the lease of $name is gone" >&2
exit 1
