# Leases: .quorum/leases, and files that are attached to one. Each sentence of their description is a test.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() {
    enter_test
    Q=$MNT/.quorum
    L=$Q/leases
    t=${T#"$MNT/"}
    R0=$(rev)
}
teardown() {
    cd /
    find "$L" -mindepth 1 -maxdepth 1 -exec rmdir {} + 2>/dev/null || true # some run out meanwhile
    leave_test
}

as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups bash -c "$1" 3>&-; }

# told: what has happened in this test's directory since it began, without the revisions, with names relative to it.
told() { events_of "$Q/since/$R0/$t/.events" | cut -f2- | tr '\t' ' ' | sed "s|$t/||g"; }
puts_told() { told | grep put; }

lease_of() { fact "$1" lease 2>/dev/null; }
gone() { [ ! -e "$1" ]; }
left() { cat "$L/$1/remaining"; }
has_left() { # has_left LEASE SECONDS: so many, or a few less when this comes late
    local left
    left=$(left "$1") && ((left <= $2 && left > $2 - 30)) || fail "$1 has $left s left, of $2"
}
below() { (cd "$L/$1/keys" && find . -type f | sed 's/..//' | sort | paste -sd' '); } # what is attached

# ---- Granting, revoking ---------------------------------------------------------------------------------------------------------

@test "mkdir grants for 60 seconds, in one revision" {
    expect_revisions 1 "mkdir $L/web1"
    same ttl "$(cat "$L/web1/ttl")" 60
    has_left web1 60
    same "owner, mode" "$(stat -c '%u %a %F' "$L/web1")" '0 755 directory'
    same files "$(cd "$L/web1" && stat -c '%n %a' * | paste -sd' ')" 'alive 644 keys 755 remaining 444 ttl 644'
    same list "$(ls "$L")" web1
    fails_with 'File exists' mkdir "$L/web1"
    same "attached" "$(below web1)" ''
}

@test "names: letters, digits, dots, underscores, dashes, up to 64; mktemp -d works" {
    local name d
    for name in a A.b_c-9 .hidden "$(printf 'x%.0s' {1..64})"; do
        mkdir "$L/$name"
        [ -d "$L/$name/keys" ] || fail "$name"
        rmdir "$L/$name"
    done
    for name in 'a b' 'ä' a+b "$(printf 'x%.0s' {1..65})"; do fails_with 'Invalid argument' mkdir "$L/$name"; done
    d=$(mktemp -d "$L/XXXXXX")
    same ttl "$(cat "$d/ttl")" 60
}

@test "rmdir revokes: all attached files go in one revision, and their cause is told" {
    mkdir "$L/web1" d
    echo 1 >"$L/web1/keys/$t/a"
    echo 2 >"$L/web1/keys/$t/d/b"
    echo 3 >free
    expect_revisions 1 "rmdir $L/web1"
    same left "$(ls)" "$(printf 'd\nfree')"
    gone "$L/web1"
    fails_with 'No such file' rmdir "$L/web1"
    becomes events "$(printf '%s\n' 'mkdir d' 'put a' 'put d/b' 'put free' 'delete a revoked web1' 'delete d/b revoked web1')" told
}

@test "a lease is its owner's and root's" {
    as_nobody "mkdir $L/n; echo 20 > $L/n/ttl; touch $L/n; exec 9> $L/n/alive"
    same owner "$(stat -c %u "$L/n")" 65534
    echo 30 >"$L/n/ttl" # root may
    mkdir "$L/r"
    chmod 777 .
    fails_with 'not permitted' as_nobody "rmdir $L/r"
    fails_with 'Permission denied' as_nobody "echo 5 > $L/r/ttl"
    fails_with 'Permission denied' as_nobody "touch $L/r"
    fails_with 'Permission denied' as_nobody "exec 9> $L/r/alive"
    fails_with 'not permitted' as_nobody "echo 1 > $L/r/keys/$t/f"
    as_nobody "cat $L/r/ttl $L/r/remaining $L/r/alive; ls $L/r/keys" >/dev/null
    echo 1 >f
    chmod 666 f
    fails_with 'not permitted' as_nobody "setfattr -n user.quorum.lease -v r f"
    same attached "$(below r)" ''
    as_nobody "rmdir $L/n"
}

@test "others cannot change the list" {
    fails_with 'No such file' mkdir "$L/a/b"
    mkdir "$L/a"
    fails_with 'not permitted' mkdir "$L/a/b"
    fails_with 'not permitted' rmdir "$L/a/keys"
    fails_with 'not permitted' rm "$L/a/ttl"
    fails_with 'not permitted' mv -T "$L/a" "$L/b"
    same touch "$(syscall open "$L/new" 101)" EPERM
    same create "$(syscall open "$L/a/new" 101)" EPERM
    fails_with 'not permitted' chmod 700 "$L/a"
    fails_with 'not permitted' chown 1 "$L/a"
}

# ---- ttl, remaining, touch ------------------------------------------------------------------------------------------------------

@test "ttl: seconds, whole or decimal, at least 1; writing it renews" {
    mkdir "$L/a"
    echo 1000 >"$L/a/ttl"
    same ttl "$(cat "$L/a/ttl")" 1000
    has_left a 1000
    printf 300.5 >"$L/a/ttl"
    same ttl "$(cat "$L/a/ttl")" 300.5
    has_left a 301
    x "env printf '200\n100\n' > $L/a/ttl"
    same ttl "$(cat "$L/a/ttl")" 100
    expect_revisions 0 "cat $L/a/ttl"
    echo 1 >"$L/a/ttl"
    wait_until 10 gone "$L/a"
}

@test "a bad ttl is refused with a sentence, and changes nothing" {
    local bad
    mkdir "$L/a"
    allow_log 'a write was refused'
    for bad in 0 0.5 -1 abc 1x '1 2' 1. .5 '' 99999999999 1e3; do
        fails_with 'Invalid argument' x "env printf -- '$bad\n' > $L/a/ttl"
        same "ttl after '$bad'" "$(cat "$L/a/ttl")" 60
    done
    grep -q 'leases/a/ttl.*bad TTL "abc": allowed is a number of seconds from 1' "$MNT.log"
    fails_with 'Invalid argument' x "env printf '20\nx\n' > $L/a/ttl"
    same ttl "$(cat "$L/a/ttl")" 60
}

@test "it expires after its TTL, not before; all attached files go at once, in one revision, once" {
    local begin end r i
    mkdir "$L/a"
    for i in 1 2 3; do echo "$i" >"$L/a/keys/$t/f$i"; done
    r=$(rev)
    begin=$EPOCHREALTIME
    echo 1 >"$L/a/ttl"
    wait_until 10 gone f1
    end=$EPOCHREALTIME
    same left "$(ls)" ''
    gone "$L/a"
    ((${end/./} - ${begin/./} >= 1000000)) || fail "it expired after $((${end/./} - ${begin/./})) us"
    becomes events "$(printf 'put f%d\n' 1 2 3; printf 'delete f%d expired a\n' 1 2 3)" told
    same "in one revision" "$(events_of "$Q/since/$R0/$t/.events" | grep "expired a" | cut -f1 | uniq -c | awk '{ print $1 }')" 3
    mkdir "$L/a" # the name is free
}

@test "touch renews; reading, listing and stat do not" {
    local begin looks
    mkdir "$L/a" "$L/b"
    echo 1 >"$L/a/keys/$t/a"
    echo 1 >"$L/b/keys/$t/b"
    echo 5 >"$L/a/ttl" # far more than it is between two touches, on a busy machine, too
    begin=$SECONDS
    echo 2 >"$L/b/ttl"
    while [ -e b ]; do
        ls -lR "$L/b"
        cat "$L/b/"{ttl,remaining,alive} "$L/b/keys/$t/b"
        stat "$L/b" "$L/b/keys/$t/b"
    done >/dev/null 2>&1 3>&- &
    looks=$!
    while ((SECONDS - begin < 7)); do
        touch "$L/a"
        nap
    done
    [ -e a ] || fail "it was touched and expired"
    wait_until 10 gone b
    wait "$looks" || true # of what goes while it looks
    expect_revisions 0 "touch $L/a"
    has_left a 5
}

@test "touch of what has gone" {
    mkdir "$L/a"
    exec 8<"$L/a"
    rmdir "$L/a"
    fails_with 'No such file' cat "$L/a/ttl"
    fails_with 'not permitted' touch "$L/a"
    fails_with 'Stale' python3 -c 'import os; os.utime(8)'
    exec 8<&-
}

@test "the numbers of a new lease of the same name are its own" {
    mkdir "$L/a"
    cd "$L/a"
    rmdir "$L/a"
    mkdir "$L/a"
    ! cat ttl 2>"$S/err" && grep -E 'Stale|No such' "$S/err" || false
    cd "$T"
    same ttl "$(cat "$L/a/ttl")" 60
}

# ---- alive ----------------------------------------------------------------------------------------------------------------------

@test "alive: renewed while a process has it open for writing, and for its TTL after the last close" {
    mkdir "$L/a"
    echo 1 >"$L/a/keys/$t/f"
    echo 100 >"$L/a/ttl"
    same "not kept" "$(cat "$L/a/alive")" no
    exec 8>"$L/a/alive" 9>"$L/a/alive"
    same kept "$(cat "$L/a/alive")" yes
    echo 2 >"$L/a/ttl"
    sleep 4
    [ -e f ] || fail "it expired"
    exec 8>&-
    sleep 3
    [ -e f ] || fail "it expired with its first holder"
    echo hello >&9
    expect_revisions 0 "sleep 0.5"
    echo 100 >"$L/a/ttl"
    exec 9>&-
    same "not kept" "$(cat "$L/a/alive")" no
    echo 1 >"$L/a/ttl"
    wait_until 3 gone f
    gone "$L/a"
}

@test "alive: held by children, ends with a process that is killed" {
    local child
    mkdir "$L/a"
    echo 1 >"$L/a/keys/$t/f"
    bash -c "exec 9>$L/a/alive; sleep 1000 & echo \$! >$S/child" 3>&-
    echo 2 >"$L/a/ttl"
    sleep 4
    [ -e f ] || fail "the child holds it"
    kill -9 "$(cat "$S/child")"
    wait_until 3 gone f
}

@test "alive: opening it for reading keeps nothing" {
    mkdir "$L/a"
    echo 1 >"$L/a/keys/$t/f"
    echo 1 >"$L/a/ttl"
    exec 9<"$L/a/alive"
    wait_until 3 gone f
    exec 9<&-
}

@test "alive of a lease that has gone: write says ESTALE, poll POLLERR, opening fails" {
    mkdir "$L/a"
    within 20 python3 - "$L/a" <<'P'
import errno, os, select, subprocess, sys, threading, time
fd = os.open(sys.argv[1] + "/alive", os.O_WRONLY)
p = select.poll()
p.register(fd, 0)
assert p.poll(0) == [], "an error before it has gone"
p.register(fd, select.POLLOUT)
assert p.poll(0) == [(fd, select.POLLOUT)]
os.write(fd, b"x")
p.register(fd, 0)
threading.Timer(0.5, lambda: subprocess.run(["rmdir", sys.argv[1]], check=True)).start()
begin = time.monotonic()
assert p.poll(25000) == [(fd, select.POLLERR)], "not woken"
assert 0.4 < time.monotonic() - begin
try:
    os.write(fd, b"x")
    assert False, "written"
except OSError as e:
    assert e.errno == errno.ESTALE, e
os.close(fd)
P
    fails_with 'No such file' x "exec 9> $L/a/alive"
}

# ---- keys -----------------------------------------------------------------------------------------------------------------------

@test "echo > keys/PATH puts PATH attached, in one revision; it is read in both places" {
    mkdir "$L/a" -p services/web
    R0=$(rev)
    expect_revisions 1 "echo 10.0.0.7:80 > $L/a/keys/$t/services/web/1"
    holds services/web/1 '10.0.0.7:80\n'
    holds "$L/a/keys/$t/services/web/1" '10.0.0.7:80\n'
    same lease "$(lease_of services/web/1)" a
    same version "$(fact services/web/1 version)" 1
    same "the same file" "$(stat -c '%i %a %u %s' services/web/1)" "$(stat -c '%i %a %u %s' "$L/a/keys/$t/services/web/1")"
    expect_revisions 1 "echo two > $L/a/keys/$t/services/web/1"
    expect_revisions 1 "echo three >> $L/a/keys/$t/services/web/1"
    holds services/web/1 'two\nthree\n'
    becomes events "$(printf 'put services/web/1\n%.0s' 1 2 3)" puts_told
}

@test "an existing file gets content and lease at once; touch gives it the lease alone" {
    mkdir "$L/a"
    echo old >f
    echo kept >g
    expect_revisions 1 "echo new > $L/a/keys/$t/f"
    holds f 'new\n'
    same lease "$(lease_of f)" a
    same version "$(fact f version)" 2
    expect_revisions 1 "echo more >> $L/a/keys/$t/g"
    holds g 'kept\nmore\n'
    echo kept >h
    expect_revisions 1 "exec 9>> $L/a/keys/$t/h; exec 9>&-"
    holds h 'kept\n'
    same attached "$(below a)" "$t/f $t/g $t/h"
    grep -qx 'quorumfs_dirty_bytes 0' "$Q/metrics"
}

@test "keys lists what is attached, and the directories on the way" {
    local i
    mkdir -p "$L/a" d/e d/f g d.d
    for i in x d/e/1 d/e/2 d/z d.d/y; do echo v >"$L/a/keys/$t/$i"; done
    echo v >d/e/other
    echo v >g/other
    same files "$(cd "$L/a/keys/$t" && find . -type f | sort | paste -sd' ')" './d.d/y ./d/e/1 ./d/e/2 ./d/z ./x'
    same all "$(cd "$L/a/keys/$t" && find . | sort | paste -sd' ')" '. ./d ./d.d ./d.d/y ./d/e ./d/e/1 ./d/e/2 ./d/z ./x'
    same root "$(ls "$L/a/keys")" "$t"
    fails_with 'No such file' cat "$L/a/keys/$t/d/e/other"
    mv d/e g/moved
    same "after a rename" "$(below a)" "$t/d.d/y $t/d/z $t/g/moved/1 $t/g/moved/2 $t/x"
    rm x
    same "after a removal" "$(below a)" "$t/d.d/y $t/d/z $t/g/moved/1 $t/g/moved/2"
    [ -d "$L/a/keys/$t/d/f" ] || fail "a directory where something can be put"
    within 20 find "$L" -type f >/dev/null
}

@test "a put below keys needs its directories; nothing else can be made there" {
    mkdir "$L/a"
    fails_with 'No such file' x "echo 1 > $L/a/keys/$t/none/f"
    fails_with 'not permitted' mkdir "$L/a/keys/$t/d"
    fails_with 'not permitted' ln -s x "$L/a/keys/$t/l"
    echo 1 >"$L/a/keys/$t/f"
    fails_with 'not permitted' mv "$L/a/keys/$t/f" "$L/a/keys/$t/g"
    mkdir d
    ln -s f link
    fails_with 'Is a directory' x "echo 1 > $L/a/keys/$t/d"
    fails_with 'symbolic links' x "echo 1 > $L/a/keys/$t/link"
    same attached "$(below a)" "$t/f"
}

@test "a put below keys is atomic at close; a writer that is killed publishes nothing" {
    mkdir "$L/a"
    actor_start A
    A open 3 "$L/a/keys/$t/f" wct
    A write 3 one
    absent f
    same attached "$(below a)" ''
    A write 3 two
    A close 3
    holds f onetwo
    A open 3 "$L/a/keys/$t/g" wct
    A write 3 one
    kill -9 "${ACTOR_PID[A]}"
    wait_until 5 eval '! kill -0 '"${ACTOR_PID[A]}"
    absent g
    expect_revisions 1 "exec 9> $L/a/keys/$t/h; echo 1 >&9; echo 2 >&9; exec 9>&-"
    holds h '1\n2\n'
}

@test "set -C, install, cp and sync below keys" {
    mkdir "$L/a"
    echo 1 >f
    fails_with 'exist' x "set -C; echo 2 > $L/a/keys/$t/f"
    holds f '1\n'
    x "set -C; echo 2 > $L/a/keys/$t/g"
    holds g '2\n'
    same lease "$(lease_of g)" a
    cp f "$L/a/keys/$t/h"
    install -m 600 f "$L/a/keys/$t/i"
    same mode "$(stat -c %a i)" 600
    x "echo 3 > $L/a/keys/$t/k && sync $L/a/keys/$t/k"
    same attached "$(below a)" "$t/g $t/h $t/i $t/k"
}

@test "rm -r does no harm: nothing below leases/ can be unlinked" {
    mkdir "$L/a"
    echo 1 >"$L/a/keys/$t/f"
    fails_with 'not permitted' rm "$L/a/keys/$t/f"
    fails_with 'not permitted' rm -rf "$L/a"
    holds f '1\n'
    [ -d "$L/a" ] || fail "the lease is gone"
}

@test "permissions are those of the tree" {
    as_nobody "mkdir $L/n"
    mkdir closed open
    chmod 755 . closed
    chmod 777 open
    fails_with 'Permission denied' as_nobody "echo 1 > $L/n/keys/$t/closed/f"
    as_nobody "echo 1 > $L/n/keys/$t/open/f"
    same owner "$(stat -c '%u' open/f)" 65534
    echo mine >open/roots
    chmod 644 open/roots
    fails_with 'Permission denied' as_nobody "echo 1 > $L/n/keys/$t/open/roots"
    holds open/roots 'mine\n'
    as_nobody "rmdir $L/n"
    absent open/f
}

@test "an open put of a lease that goes meanwhile: write and close say ESTALE, and nothing is left" {
    mkdir "$L/a"
    actor_start A
    A open 3 "$L/a/keys/$t/f" wct
    A write 3 one
    rmdir "$L/a"
    A fails ESTALE write 3 two
    A fails ESTALE close 3
    absent f
    mkdir "$L/b"
    A open 4 "$L/b/keys/$t/g" wct
    A write 4 one
    rmdir "$L/b"
    A fails ESTALE close 4
    allow_log 'commit of .* failed'
    absent g
}

@test "files attached after a rename of a directory, and a shell in keys" {
    mkdir "$L/a" d
    cd "$L/a/keys/$t/d"
    echo 1 >f
    cat f >/dev/null
    cd "$T"
    holds d/f '1\n'
}

# ---- user.quorum.lease ----------------------------------------------------------------------------------------------------------

@test "user.quorum.lease shows, attaches and detaches" {
    mkdir "$L/a" "$L/b" d
    echo 1 >f
    ln -s f l
    fails_with 'No such attribute' getfattr -n user.quorum.lease f
    expect_revisions 1 "setfattr -n user.quorum.lease -v a f"
    same lease "$(lease_of f)" a
    getfattr --only-values -n user.quorum f | grep -qx 'lease: a'
    expect_revisions 1 "setfattr -n user.quorum.lease -v b f"
    same "attached to" "$(below a)/$(below b)" "/$t/f"
    expect_revisions 1 "setfattr -x user.quorum.lease f"
    fails_with 'No such attribute' setfattr -x user.quorum.lease f
    ! getfattr --only-values -n user.quorum f | grep lease || false
    setfattr -n user.quorum.lease -v a f
    expect_revisions 1 "setfattr -n user.quorum.lease -v '' f"
    same lease "$(lease_of f)" ''
    fails_with 'Invalid argument' setfattr -n user.quorum.lease -v a d
    fails_with 'No such file' setfattr -n user.quorum.lease -v none f
    fails_with 'Invalid argument' setfattr -n user.quorum.lease -v 'a b' f
    getfattr -d -m - f | grep -q quorum && fail "it is listed"
    cp -a f g
    same "a copy has none" "$(lease_of g)" ''
}

@test "who may not remove a file cannot attach it to a lease, whose end would" {
    as_nobody "mkdir $L/n"
    mkdir closed sticky open
    echo 1 | tee closed/f sticky/f open/f
    chmod 755 closed
    chmod 1777 sticky
    chmod 777 open
    chmod 666 closed/f sticky/f open/f
    fails_with 'Permission denied' as_nobody "setfattr -n user.quorum.lease -v n closed/f"
    fails_with 'not permitted' as_nobody "setfattr -n user.quorum.lease -v n sticky/f"
    fails_with 'not permitted' as_nobody "echo 2 > $L/n/keys/$t/sticky/f"
    as_nobody "mkdir $Q/txn/n"
    fails_with 'Permission denied' as_nobody "setfattr -n user.quorum.lease -v n $Q/txn/n/tree/$t/closed/f"
    as_nobody "rmdir $Q/txn/n; setfattr -n user.quorum.lease -v n open/f; echo 3 > sticky/own; setfattr -n user.quorum.lease -v n sticky/own"
    same attached "$(below n)" "$t/open/f $t/sticky/own"
    as_nobody "rmdir $L/n"
    holds closed/f '1\n'
    holds sticky/f '1\n'
}

@test "nor a file that takes the name first which it was making" {
    as_nobody "mkdir $L/n"
    mkdir sticky
    chmod 1777 sticky
    setsid setpriv --reuid=65534 --regid=65534 --clear-groups bash -c "
        echo 2 > $L/n/keys/$t/sticky/own
        exec 9> $L/n/keys/$t/sticky/f
        echo 2 >&9
        touch $S/made
        while [ ! -e $S/taken ]; do sleep 0.02; done
        exec 9>&-" 3>&- &
    local maker=$!
    wait_until 20 test -e "$S/made"
    umask 0
    echo 1 >sticky/f
    touch "$S/taken"
    wait $maker
    holds sticky/f '1\n'
    same attached "$(below n)" "$t/sticky/own"
    as_nobody "rmdir $L/n"
    allow_log 'commit of ".*/sticky/f" by uid 65534'
}

@test "the lease belongs to the file: puts and renames keep it, a file renamed over it ends it" {
    mkdir "$L/a"
    echo 1 >"$L/a/keys/$t/f"
    echo 2 >f
    same "after a put" "$(lease_of f)" a
    mv f g
    same "after a rename" "$(lease_of g)" a
    echo 3 >h
    mv h g
    same "after one renamed over it" "$(lease_of g)" ''
    same attached "$(below a)" ''
    rmdir "$L/a"
    holds g '3\n'
}

@test "setfattr on a file that is being made is part of its put" {
    mkdir "$L/a"
    expect_revisions 1 "exec 9> f; echo 1 >&9; setfattr -n user.quorum.lease -v a f; exec 9>&-"
    same lease "$(lease_of f)" a
    holds f '1\n'
}

# ---- Watching, transactions, the rest -------------------------------------------------------------------------------------------

@test "inotify sees what an expiry deletes, and what is put below keys" {
    mkdir "$L/a"
    inotifywait -m -q --format '%e %f' . >"$S/seen" 2>&1 3>&- &
    local watcher=$!
    disown
    wait_until 10 grep -q inotify "/proc/$watcher/fdinfo/3"
    echo 1 >"$L/a/keys/$t/f"
    wait_until 5 grep -qx 'CLOSE_WRITE,CLOSE f' "$S/seen"
    echo 1 >"$L/a/ttl"
    wait_until 5 grep -qx 'DELETE f' "$S/seen"
    absent f
    kill "$watcher"
}

@test "what has expired is not found, although it was looked at just before" {
    local i
    mkdir "$L/a"
    echo 1 >"$L/a/keys/$t/f"
    stat f >/dev/null
    rmdir "$L/a"
    absent f
    mkdir "$L/b"
    echo 1 >"$L/b/keys/$t/g"
    (exec 9<"$Q/watch/$t/.events"; echo 1 >"$L/b/ttl"; while stat g; do :; done >/dev/null 2>&1; grep -qm1 'expired b' <&9) 3>&-
    [ ! -e g ]
}

@test "a transaction: the requirement lease, and attaching in it" {
    mkdir "$L/a" "$L/b"
    echo 1 >"$L/a/keys/$t/f"
    echo 1 >g
    mkdir "$Q/txn/t1"
    x "echo 'lease $t/f = a' > $Q/txn/t1/require"
    allow_log 'a write was refused'
    fails_with 'Invalid' x "env printf 'lease $t/f = a/b\n' > $Q/txn/t1/require"
    fails_with 'Invalid' x "env printf 'lease $t/f\n' > $Q/txn/t1/require"
    echo 2 >"$Q/txn/t1/tree/$t/new"
    setfattr -n user.quorum.lease -v b "$Q/txn/t1/tree/$t/new"
    setfattr -n user.quorum.lease -v b "$Q/txn/t1/tree/$t/g"
    same "in the view" "$(lease_of "$Q/txn/t1/tree/$t/g")" b
    same "in the tree" "$(lease_of g)" ''
    fails_with 'Invalid' setfattr -n user.quorum.lease -v b "$Q/txn/t1/tree/$t"
    expect_revisions 1 "echo > $Q/txn/t1/commit"
    same attached "$(below b)" "$t/g $t/new"
    rmdir "$Q/txn/t1"
    mkdir "$Q/txn/t2"
    x "echo 'lease $t/f = b' > $Q/txn/t2/require"
    echo 3 >"$Q/txn/t2/tree/$t/third"
    fails_with 'canceled' x "env printf '\n' > $Q/txn/t2/commit"
    absent third
    rmdir "$Q/txn/t2"
}

@test "status and metrics count leases" {
    mkdir "$L/a" "$L/b"
    exec 9>"$L/a/alive"
    same leases "$(setting_of "$Q/status" leases)" 2
    grep -qx 'quorumfs_leases 2' "$Q/metrics"
    grep -qx 'quorumfs_leases_kept 1' "$Q/metrics"
    exec 9>&-
    grep -qx 'quorumfs_leases_kept 0' "$Q/metrics"
}

@test "a lease outlives a new start, and what held it does not" {
    mkdir "$L/a" "$L/b"
    echo 1 >"$L/a/keys/$t/f"
    echo 1 >"$L/b/keys/$t/g"
    echo 300 >"$L/a/ttl"
    echo 1 >"$L/b/ttl"
    cd "$QFS_ROOT"
    daemon_kill
    daemon_start
    cd "$T"
    same "ttl" "$(cat "$L/a/ttl")" 300
    same attached "$(below a)" "$t/f"
    has_left a 300
    wait_until 5 gone g
    holds f '1\n'
}
