# inotify for what local programs do: per name, the same sequence of events as on tmpfs (but for those that only tell of reading).
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() {
    enter_test
    mkdir "$S/tmpfs"
    mount -t tmpfs none "$S/tmpfs"
    mkdir "$S/tmpfs/t"
}
teardown() {
    umount -l "$S/tmpfs"
    leave_test
}

# recorded DIRECTORY OUT SETUP ACTION: runs both in the directory; OUT gets the events of ACTION in it and in its subdirectory d.
recorded() {
    local recorder
    mkdir -p "$1/d"
    (cd "$1" && bash -c "$3") 3>&-
    rm -f "$2.ready"
    events "$2" "$1" "$1/d" 3>&- &
    recorder=$!
    wait_until 10 test -e "$2.ready"
    (cd "$1" && within 30 bash -c "$4" </dev/null) >/dev/null 2>&1 3>&- || fail "in $1: exit status $?: $4"
    kill "$recorder" && wait "$recorder"
}

# Random parts of temporary names become X; then each name's events in their order.
normalised() { sed -E 's/\t(sed|Cu|\.?[a-z0-9]+[.-]|\.[a-z]+\.)([A-Za-z0-9_]{6,8})\t/\t\1X\t/' "$1" | grep -v "${WITHOUT:-nothing}" | sort -s -t$'\t' -k1,2; }

# as_on_tmpfs SETUP ACTION
as_on_tmpfs() {
    recorded "$T" "$S/here" "$1" "$2" && recorded "$S/tmpfs/t" "$S/there" "$1" "$2" || return 1
    [ -s "$S/there" ] || { fail "nothing was recorded: $2"; return 1; }
    diff -u <(normalised "$S/there") <(normalised "$S/here") >&2 || fail "other events than on tmpfs: $2"
    find "$T" "$S/tmpfs/t" -mindepth 1 -delete
}

@test "a new file" {
    as_on_tmpfs : 'echo v > f'
    as_on_tmpfs : ': > f'
    as_on_tmpfs : 'touch f'
    as_on_tmpfs : 'echo v > d/f'
    as_on_tmpfs : '{ echo a; echo b; } > f'
    as_on_tmpfs : '( echo a; /bin/echo b ) > f'
    as_on_tmpfs : 'set -C; echo v > f'
}

@test "an overwritten file" {
    as_on_tmpfs 'echo old > f' 'echo v > f'
    as_on_tmpfs 'echo old > f' ': > f'
    as_on_tmpfs 'echo old > f' 'printf x 1<>f'
    as_on_tmpfs 'echo old > f' 'truncate -s 1 f'
    as_on_tmpfs 'echo old > f' 'exec 3>>f; exec 3>&-'
}

@test "an appended file" {
    as_on_tmpfs 'echo old > f' 'echo v >> f'
    as_on_tmpfs 'echo old > f' 'exec 3>>f; echo a >&3; echo b >&3; exec 3>&-'
}

# What is committed before the close is told again when it is committed, which on a tmpfs it need not be: replay.bats has more.
@test "fsync and O_SYNC" {
    WITHOUT='MODIFY\|CLOSE_WRITE'
    as_on_tmpfs 'echo old > f' 'dd if=/dev/zero of=f bs=10 count=2 conv=fsync; chmod 600 f'
    as_on_tmpfs 'echo old > f' 'dd if=/dev/zero of=f bs=10 count=2 oflag=sync conv=notrunc; chmod 600 f'
    as_on_tmpfs : 'dd if=/dev/zero of=new bs=10 count=2 conv=fsync'
}

@test "removal" {
    as_on_tmpfs 'echo v > f' 'rm f'
    as_on_tmpfs 'mkdir e' 'rmdir e'
    as_on_tmpfs 'mkdir e; touch e/f' 'rm -r e'
    as_on_tmpfs 'ln -s x l' 'rm l'
    as_on_tmpfs 'echo v > d/f' 'rm d/f; rmdir d'
    as_on_tmpfs 'echo v > f' 'exec 3<f; rm f; exec 3<&-'
}

@test "directories and symbolic links" {
    as_on_tmpfs : 'mkdir e'
    as_on_tmpfs : 'ln -s x l'
    as_on_tmpfs : 'ln -s x l; ln -sfn y l'
}

@test "rename" {
    as_on_tmpfs 'echo v > f' 'mv f g'
    as_on_tmpfs 'echo v > f; echo w > g' 'mv f g'
    as_on_tmpfs 'echo v > f' 'mv f d/'
    as_on_tmpfs 'mkdir e' 'mv e d/'
    as_on_tmpfs 'mkdir e' 'mv d e/'
    as_on_tmpfs 'echo v > f; echo w > g' 'syscall exchange f g'
    as_on_tmpfs 'echo v > f' 'echo w > new; mv new f'
    as_on_tmpfs : 'mkdir new; echo v > new/f; mv new conf'
}

@test "attributes" {
    as_on_tmpfs 'touch f' 'chmod 600 f'
    as_on_tmpfs 'touch f' 'chown 1:1 f'
    as_on_tmpfs 'touch f' 'touch -d @1000000000 f'
    as_on_tmpfs 'touch f' 'touch f'
    as_on_tmpfs : 'chmod 700 d; chmod 755 .'
}

@test "failures say nothing" {
    as_on_tmpfs 'echo v > f' 'mkdir f || rmdir f || echo v > d || mkdir d || mv none x || rm none || true; echo w > f'
}

@test "cp, cp -a, mv from elsewhere, install" {
    echo v >"$S/source"
    as_on_tmpfs : "cp $S/source f"
    as_on_tmpfs : "cp -a $S/source f"
    as_on_tmpfs 'echo v > f' "cp $S/source f"
    as_on_tmpfs : "install -m 600 $S/source f"
    as_on_tmpfs 'echo v > f; chmod 640 f' 'cp -p f g'
}

@test "sed -i, tee, sort -o, perl -pi, mktemp" {
    as_on_tmpfs 'echo v > f' 'sed -i s/v/w/ f'
    as_on_tmpfs 'echo v > f' 'sed -i.bak s/v/w/ f'
    as_on_tmpfs : 'echo v | tee f d/g'
    as_on_tmpfs 'printf "b\na\n" > f' 'sort -o f f'
    as_on_tmpfs : 'mv $(mktemp name.XXXXXX) f'
}

# vim ends with an access list for the file, which tmpfs takes and this tree refuses, and it calls fsync.
@test "vim" {
    WITHOUT='ATTRIB\|MODIFY\|CLOSE_WRITE'
    as_on_tmpfs 'echo v > f' 'vim -es -u NONE -i NONE -n -c "set backupcopy=yes" -c "%s/v/w/" -c wq f; mv f g'
    as_on_tmpfs 'echo v > f' 'vim -es -u NONE -i NONE -n -c "set backupcopy=no" -c "%s/v/w/" -c wq f'
}

@test "tar and rsync" {
    (cd "$S" && mkdir t && echo a >t/a && echo b >t/b && ln -s a t/l && touch -h -d 2020-01-01 t/a t/b t/l && tar -cf t.tar -C t .)
    as_on_tmpfs : "tar -xf $S/t.tar --no-overwrite-dir"
    as_on_tmpfs : "rsync -a --omit-dir-times $S/t/ ./"
}

@test "python" {
    WITHOUT='MODIFY\|CLOSE_WRITE'
    as_on_tmpfs : 'python3 -c "
import os
with open(\"t\", \"w\") as f:
    f.write(\"v\"); f.flush(); os.fsync(f.fileno())
os.replace(\"t\", \"f\")
with open(\"f\", \"r+\") as f: f.truncate(0); f.write(\"xyz\")
os.utime(\"f\"); os.remove(\"f\")"'
}

@test "when the event arrives the reader finds the new content" {
    echo 0 >f
    inotifywait -q -m -e close_write --format %e f >"$S/events" 3>&- &
    local watcher=$! i
    wait_until 10 bash -c "echo 0 > f; [ -s $S/events ]"
    : >"$S/events"
    for i in 1 2 3 4 5; do
        echo $i >f
        wait_until 5 test -s "$S/events"
        holds f "$i\n"
        : >"$S/events"
    done
    kill $watcher
}

@test "inotifywait -r follows new directories" {
    mkdir sub
    inotifywait -q -m -r --format '%w%f %e' . >"$S/events" 3>&- &
    local watcher=$!
    wait_until 10 bash -c "touch probe; grep -q probe $S/events"
    mkdir sub/new
    wait_until 10 bash -c "echo v > sub/new/f; grep -q 'sub/new/f CLOSE_WRITE' $S/events"
    grep -q 'sub/new CREATE,ISDIR' "$S/events"
    kill $watcher
}

@test "the end of the mount tells watchers" {
    cd /
    inotifywait -q -t 30 -e unmount "$T" >"$S/events" 3>&- &
    local watcher=$!
    wait_until 10 bash -c "grep -l inotify /proc/$watcher/fdinfo/* | grep -q ."
    daemon_stop
    wait $watcher || true
    grep -q UNMOUNT "$S/events"
    daemon_start
    mkdir -p "$T"
}

@test "a file that is bind-mounted elsewhere shows the new content and wakes its watchers" {
    echo old >f
    touch "$S/bound"
    mount --bind f "$S/bound"
    inotifywait -q -t 20 -e close_write "$S/bound" >"$S/event" 3>&- &
    local watcher=$!
    wait_until 10 bash -c "grep -l inotify /proc/$watcher/fdinfo/* | grep -q ."
    echo new >f
    wait $watcher
    holds "$S/bound" 'new\n'
    umount "$S/bound"
}
