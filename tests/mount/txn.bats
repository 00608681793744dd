# Transactions: .quorum/txn/NAME/{tree/,require,commit,status}.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() {
    enter_test
    Q=$MNT/.quorum
    t=${T#"$MNT/"}
    allow_log 'a write was refused'
}
teardown() {
    rmdir "$Q"/txn/* 2>/dev/null
    leave_test
}

begin() { mkdir "$Q/txn/$1" && X=$Q/txn/$1/tree/$t; } # $X: this test's directory as transaction $1 sees it
commit() { x "echo > $Q/txn/$1/commit"; }
conflicts() { # conflicts NAME REASON: committing fails, changes nothing, and says why
    local before=$(cat "$Q/hash")
    fails_with 'Operation canceled' commit "$1"
    same "revision" "$(cut -d' ' -f1 "$Q/hash")" "${before% *}"
    same "status of $1" "$(cat "$Q/txn/$1/status")" "conflict $2"
}
committed() { # committed NAME: in one revision, and all agree which
    local before=$(rev)
    commit "$1" || return 1
    same "revisions taken" "$(($(rev) - before))" 1
    same "status of $1" "$(cat "$Q/txn/$1/status")" "committed $(rev)"
}

# ---- One transaction ------------------------------------------------------------------------------------------------------------------

@test "what is written in tree/ is private until it is committed, in one revision" {
    echo old >f
    begin a
    echo new >"$X/f"
    mkdir "$X/d"
    echo 1 >"$X/d/g"
    holds "$X/f" 'new\n'
    others_see "$T/f" 'old\n'
    absent d
    same status "$(cat "$Q/txn/a/status")" open
    committed a
    holds f 'new\n'
    holds d/g '1\n'
}

@test "it is a view of the whole tree as of the revision at which it began" {
    echo 1 >f
    begin a
    echo 2 >f
    echo 3 >g
    holds "$X/f" '1\n'
    absent "$X/g"
    ls "$Q/txn/a/tree" | grep -q "^$t$" || fail "not listed"
    absent "$Q/txn/a/tree/.quorum"
}

@test "rmdir abandons it" {
    begin a
    echo 1 >"$X/f"
    rmdir "$Q/txn/a"
    absent "$Q/txn/a"
    absent f
    fails_with 'No such file' cat "$Q/txn/a/status"
}

@test "everything that the tree knows can be staged" {
    echo 1 >f
    echo 1 >gone
    mkdir -p d/e empty
    echo 1 >d/e/x
    setfattr -n user.old -v 1 f
    begin a
    echo 2 >>"$X/f"
    chmod 640 "$X/f"
    chown 5:6 "$X/f"
    setfattr -n user.new -v 2 "$X/f"
    setfattr -x user.old "$X/f"
    rm "$X/gone"
    rmdir "$X/empty"
    mv "$X/d" "$X/moved"
    ln -s f "$X/l"
    touch -d @77 "$X/moved/e/x"
    : >"$X/nothing"
    truncate -s 3 "$X/sized"
    mkdir -m 750 "$X/made"
    touch -d @88 "$X/made"
    same "the view lists it" "$(ls "$X" | paste -sd' ')" 'f l made moved nothing sized'
    committed a
    holds f '1\n2\n'
    same "attributes of f" "$(stat -c '%a %u %g' f)" '640 5 6'
    same "xattrs of f" "$(getfattr --absolute-names -d f | grep user)" 'user.new="2"'
    absent gone
    absent empty
    absent d
    same "time of x" "$(stat -c %Y moved/e/x)" 77
    same "link" "$(readlink l)" f
    holds nothing ''
    holds sized '\0\0\0'
    same made "$(stat -c '%a %Y' made)" '750 88'
}

@test "attributes change as in the tree: of a directory, and of what is open and has no name any more" {
    mkdir d
    chmod 2775 d
    echo 1 >f
    begin a
    chown 5:7 "$X/d"
    same "mode" "$(stat -c %a "$X/d")" 2775
    mkdir "$X/d/e"
    within 10 python3 - "$X/f" <<'P'
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
os.unlink(sys.argv[1])
os.fchmod(fd, 0o600)
os.utime(fd, (1, 1))
os.setxattr(fd, 'user.x', b'1')
assert os.fstat(fd).st_mode & 0o777 == 0o600 and os.getxattr(fd, 'user.x') == b'1'
P
    committed a
    same "modes and groups" "$(stat -c '%a %g' d d/e | paste -sd,)" '2775 7,2755 7'
    absent f
}

# The kernel keeps attributes of what was made here.
@test "what was made in it is seen as it is at once" {
    local was
    begin a
    mkdir "$X/d"
    echo 1 >"$X/d/f"
    same "size" "$(stat -c %s "$X/d/f")" 2
    exec 5>>"$X/d/f"
    echo 22 >>"$X/d/f"
    echo 333 >&5
    same "size after two who append" "$(stat -c %s "$X/d/f")" 9
    exec 5>&-
    : >"$X/d/f"
    same "size of what was emptied" "$(stat -c %s "$X/d/f")" 0
    truncate -s 100 "$X/d/f"
    same "size of what was truncated" "$(stat -c %s "$X/d/f")" 100
    chmod 640 "$X/d/f"
    touch -d @1000 "$X/d/f"
    same "mode and time" "$(stat -c '%a %Y' "$X/d/f")" "640 1000"
    mv "$X/d/f" "$X/d/g"
    was=$(stat -c '%.Z' "$X/d/g")
    setfattr -n user.a -v 1 "$X/d/g"
    [ "$(stat -c '%.Z' "$X/d/g")" != "$was" ] || fail "the change of an attribute did not change ctime"
    was=$(stat -c '%.Y' "$X/d")
    mkdir "$X/d/e"
    [ "$(stat -c '%.Y' "$X/d")" != "$was" ] || fail "a new name did not change its directory's mtime"
    rm "$X/d/g"
    fails_with 'No such file' stat "$X/d/g"
    rm -r "$X/d"
    fails_with 'No such file' stat "$X/d"
    echo is a file >"$X/d"
    same "kind of what has the name now" "$(stat -c %F "$X/d")" "regular file"
    committed a
}

@test "a file has one version more, however often it was written" {
    echo 1 >f
    begin a
    for i in 1 2 3; do echo "$i" >"$X/f"; done
    chmod 600 "$X/f"
    echo 1 >"$X/g"
    echo 2 >"$X/g"
    chmod 600 "$X/g"
    committed a
    same "version of f" "$(fact f version)" 2
    same "version of a new file" "$(fact g version)" 1
}

@test "of two who append to one file only the first succeeds" {
    echo 1 >f
    begin a
    begin b
    echo a >>"$X/f"
    local y=$Q/txn/a/tree/$t
    echo b >>"$y/f"
    commit b
    conflicts a "$t/f"
    holds f '1\na\n'
}

@test "events have the cause txn, and one revision" {
    local r=$(rev)
    told() { events_of "$Q/since/$r/.events" | sed "s|$t/||"; }
    begin a
    mkdir "$X/d"
    echo 1 >"$X/d/f"
    committed a
    becomes events "$(printf '%s\tmkdir\td\ttxn\n%s\tput\td/f\ttxn' "$(rev)" "$(rev)")" told
}

@test "watchers see what a transaction did" {
    local watcher
    mkdir d
    echo 1 >d/f
    begin a
    inotifywait -m -e create,close_write --format '%e %f' "$T/d" >"$S/seen" 2>"$S/ready" 3>&- &
    watcher=$!
    disown
    wait_until 10 grep -q established "$S/ready"
    echo 1 >"$X/d/g"
    echo 2 >"$X/d/f"
    committed a
    wait_until 8 grep -q 'CLOSE_WRITE.* g' "$S/seen"; wait_until 8 grep -q 'CLOSE_WRITE.* f' "$S/seen"; grep -q 'CREATE g' "$S/seen"
    local seen=$?
    kill "$watcher"
    [ $seen = 0 ] || fail "seen: $(cat "$S/seen")"
}

@test "names and attributes are the new ones at once, whatever the kernel kept" {
    local i
    for i in 1 2 3 4 5; do echo "$i" >"f$i"; done
    ls -l >/dev/null
    test ! -e new
    begin a
    rm "$X/f1"
    mv "$X/f2" "$X/f6"
    echo longer than before >"$X/f3"
    chmod 600 "$X/f4"
    echo 1 >"$X/new"
    rm "$X/f5"
    mkdir "$X/f5"
    committed a
    same names "$(ls | paste -sd' ')" 'f3 f4 f5 f6 new'
    absent f1
    absent f2
    same "size of f3" "$(stat -c %s f3)" 19
    same "mode of f4" "$(stat -c %a f4)" 600
    [ -d f5 ] || fail 'f5 is no directory'
    holds new '1\n'
}

@test "names stay the new ones while watchers are told of them, and after it" {
    local before
    metric() { sed -n "s/^quorumfs_$1 //p" "$Q/metrics"; }
    all_told() { [ "$(metric replayed_total)" -gt "$before" ] && [ "$(metric replay_waiting)" = 0 ]; }
    local replayer=$(pgrep -P "$(daemon_pid)" && pgrep -P "$(pgrep -d, -P "$(daemon_pid)")")
    mkdir a
    echo 1 >a/f
    echo 2 >b
    begin a
    python3 -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).renameat2(-100, sys.argv[1].encode(), -100, sys.argv[2].encode(), 2))' "$X/a" "$X/b"
    before=$(metric replayed_total)
    kill -STOP $replayer
    committed a
    same "at once" "$(cat "$T/a" "$T/b/f" | paste -sd' ')" '2 1' # the kernel looks at them while the exchange is still to be told
    kill -CONT $replayer
    wait_until 10 all_told
    same "when watchers have been told" "$(cat "$T/a" "$T/b/f" | paste -sd' ')" '2 1'
}

@test "tools work in it: cp, mv, sed, tar, git, rm" {
    mkdir src
    printf 'a\nb\n' >src/f
    begin a
    cp -a src "$X/copy"
    sed -i s/a/x/ "$X/copy/f"
    (cd "$X" && tar cf - copy | (mkdir other && tar xf - -C other))
    git init -q "$X/repo"
    git -C "$X/repo" -c user.name=n -c user.email=e commit -q --allow-empty -m first
    rm -r "$X/src"
    committed a
    holds copy/f 'x\nb\n'
    diff -r copy other/copy
    same log "$(git -c safe.directory='*' -C repo log --format=%s)" first
    absent src
}

@test "cp does not take a file and its staged version for one" {
    echo 1 >f
    begin a
    echo 2 >"$X/f"
    cp "$X/f" f
    holds f '2\n'
}

@test "a rename between the view and the tree is EXDEV, and mv copies" {
    echo 1 >f
    begin a
    mv f "$X/g"
    absent f
    committed a
    holds g '1\n'
}

# ---- Conflicts ------------------------------------------------------------------------------------------------------------------------

@test "a file that was read and has changed" {
    echo 1 >f
    begin a
    cat "$X/f" >/dev/null
    echo x >"$X/g"
    echo 2 >f
    conflicts a "$t/f"
    absent g
}

@test "attributes, a name, its absence, and a list that were looked at" {
    local i
    for i in attr name absence list; do mkdir "$i"; echo 1 >"$i/f"; done
    for i in attr name absence list; do begin "$i"; done
    stat "$Q/txn/attr/tree/$t/attr/f" >/dev/null
    stat "$Q/txn/name/tree/$t/name/f" >/dev/null
    test ! -e "$Q/txn/absence/tree/$t/absence/new"
    ls "$Q/txn/list/tree/$t/list" >/dev/null
    for i in attr name absence list; do echo 1 >"$Q/txn/$i/tree/$t/done-$i"; done
    chmod 600 attr/f
    mv name/f name/g
    echo 1 >absence/new
    rm list/f
    conflicts attr "$t/attr/f"
    conflicts name "$t/name/f"
    conflicts absence "$t/absence/new"
    conflicts list "$t/list"
}

@test "what was not read may change" {
    mkdir d e
    echo 1 >d/f
    begin a
    cat "$X/d/f" >/dev/null
    echo 1 >"$X/g"
    echo 1 >e/x
    chmod 700 e
    committed a
}

@test "a new name that somebody else has taken" {
    begin a
    echo 1 >"$X/f"
    echo 2 >f
    conflicts a "$t/f"
    holds f '2\n'
}

@test "a directory that got an entry meanwhile is not removed" {
    mkdir d
    begin a
    rmdir "$X/d"
    echo 1 >d/f
    fails_with 'Operation canceled' commit a
    holds d/f '1\n'
}

@test "who is told that a directory is not empty has read its list" {
    mkdir d e
    echo 1 >d/f
    begin a
    fails_with 'not empty' rmdir "$X/d"
    echo 1 >"$X/g"
    rm d/f
    conflicts a "$t/d"
    begin b
    echo 1 >"$X/e/f"
    fails_with 'not empty' rmdir "$X/e" # because of what it has made itself
    echo 2 >e/g
    committed b
}

@test "a file that is not one's own any more is not taken out of a sticky directory" {
    local how
    chmod 755 .
    mkdir -m 1777 s
    for how in rm mv over; do
        as_nobody touch s/f s/g
        as_nobody mkdir "$Q/txn/n"
        X=$Q/txn/n/tree/$t/s
        case $how in
        rm) as_nobody rm -f "$X/f" ;;
        mv) as_nobody mv "$X/f" "$X/h" ;;
        over) as_nobody mv "$X/g" "$X/f" ;;
        esac
        chown 0 s/f
        fails_with 'Operation canceled' as_nobody bash -c "echo > $Q/txn/n/commit"
        same "status" "$(cat "$Q/txn/n/status")" "conflict $t/s/f"
        rmdir "$Q/txn/n"
        rm s/f s/g
    done
}

@test "a name that is told in status cannot look like a line of its own" {
    local name=$'a\\\ncommitted 99'
    echo 1 >"$name"
    begin a
    cat "$X/$name" >/dev/null
    echo 2 >"$name"
    conflicts a "$t/"'a\\\ncommitted 99'
}

@test "of a path that is longer than any call takes the end is told" {
    within 60 python3 - "$T" <<'P'
import os, sys
os.chdir(sys.argv[1])
for i in range(60):
    os.mkdir('d' * 200)
    os.chdir('d' * 200)
open('f', 'w').close()
P
    begin a
    within 60 python3 - "$X" "$T" <<'P'
import os, sys
for top in sys.argv[1:]:
    os.chdir(top)
    for i in range(60):
        os.chdir('d' * 200)
    with open('f', 'r+') as f:
        f.read()
        f.write(top)
P
    fails_with 'Operation canceled' commit a
    grep -Eq '^conflict \?/d+(/d+){20}/f$' "$Q/txn/a/status" || fail "$(cat "$Q/txn/a/status")"
}

@test "a second write to commit gives the first one's result" {
    local r
    begin a
    echo 1 >"$X/f"
    committed a
    r=$(rev)
    commit a
    same "revision" "$(rev)" "$r"
    begin b
    cat "$X/f" >/dev/null
    echo 2 >f
    conflicts b "$t/f"
    conflicts b "$t/f"
}

@test "a transaction without changes is checked all the same" {
    echo 1 >f
    begin a
    committed_nothing a
    begin b
    cat "$X/f" >/dev/null
    committed_nothing b
    begin c
    cat "$X/f" >/dev/null
    echo 2 >f
    conflicts c "$t/f"
}
committed_nothing() {
    local r=$(rev)
    commit "$1"
    same revision "$(rev)" "$r"
}

@test "when it is over, its tree is gone" {
    begin a
    echo 1 >"$X/f"
    committed a
    fails_with 'Stale file handle' cat "$X/f"
    fails_with 'Operation not permitted' x "echo 'exists f' > $Q/txn/a/require"
}

# ---- Requirements ---------------------------------------------------------------------------------------------------------------------

requires() { x "printf '%s\n' '$2' > $Q/txn/$1/require"; }

@test "each requirement, when it holds and when it does not" {
    local n=0 line
    echo one >f
    echo two >f
    mkdir d
    while read -r line; do
        n=$((n + 1))
        begin "h$n"
        requires "h$n" "${line//@/$t}"
        commit "h$n" || fail "$line"
    done <<E2
version @/f = 2
version @/f != 3
version @/f > 1
version @/f < 3
version @/none = 0
create_revision @/f = $(fact f create_revision)
mod_revision @/f < 1000000
mod_revision @/f = $(fact f mod_revision)
exists @/f
exists @/d
absent @/none
absent @/f/none
content @/f = "two\\n"
E2
    while read -r line; do
        n=$((n + 1))
        begin "c$n"
        requires "c$n" "${line//@/$t}"
        conflicts "c$n" "${line//@/$t}" || fail "$line"
    done <<E2
version @/f = 1
version @/f > 2
create_revision @/f = 1
mod_revision @/f > 1000000
exists @/none
absent @/f
content @/f = "two"
content @/d = ""
E2
}

@test "names with blanks and quotes, several lines, and what was required can be read" {
    echo 1 >'a "b" c'
    begin a
    printf 'exists "%s/a \\"b\\" c"\nversion "%s/a \\x22b\\" c" = 1\n' "$t" "$t" >"$Q/txn/a/require"
    echo "absent $t/x" >>"$Q/txn/a/require"
    same lines "$(wc -l <"$Q/txn/a/require")" 3
    commit a
}

@test "malformed lines are refused, and of several lines none is kept" {
    local line
    begin a
    while IFS= read -r line; do
        fails_with 'Invalid argument' requires a "$line"
    done <<'E2'
version f
version f 3
version f = x
version f = -1
version f = 99999999999999999999
version f == 1
exists
exists a b
absent "a
content f = x
content f != "x"
content f = "\q"
frobnicate f
E2
    fails_with 'Invalid argument' x "env printf 'exists f\nnonsense\n' > $Q/txn/a/require"
    same "what is kept" "$(cat "$Q/txn/a/require")" ''
}

# ---- Limits and rights ------------------------------------------------------------------------------------------------------------------

as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }

@test "it belongs to who made it" {
    begin a
    echo 1 >"$X/f"
    fails_with 'Permission denied' as_nobody cat "$Q/txn/a/status"
    fails_with 'Operation not permitted' as_nobody rmdir "$Q/txn/a"
    as_nobody mkdir "$Q/txn/n"
    same owner "$(stat -c '%u %a' "$Q/txn/n")" '65534 700'
    rmdir "$Q/txn/n"
}

@test "permissions of the tree hold in the view, and in requirements" {
    chmod 755 .
    mkdir secret
    chmod 700 secret
    echo 1 >secret/f
    echo 1 >private
    chmod 600 private
    as_nobody mkdir "$Q/txn/n"
    fails_with 'Permission denied' as_nobody ls "$Q/txn/n/tree/$t/secret"
    fails_with 'Permission denied' as_nobody cat "$Q/txn/n/tree/$t/private"
    fails_with 'Permission denied' as_nobody bash -c "echo 1 > $Q/txn/n/tree/$t/new"
    fails_with 'Permission denied' as_nobody bash -c "echo 'exists $t/secret/f' > $Q/txn/n/require"
    fails_with 'Permission denied' as_nobody bash -c "echo 'content $t/private = \"1\"' > $Q/txn/n/require"
    as_nobody bash -c "echo 'exists $t/private' > $Q/txn/n/require"
    as_nobody rmdir "$Q/txn/n"
}

@test "what is required must be to be looked at when it is committed, too" {
    mkdir later; chmod 755 later
    as_nobody mkdir "$Q/txn/n"
    as_nobody bash -c "echo 'content $t/later/private = \"1\"' > $Q/txn/n/require; echo 'absent $t/hidden/f' >> $Q/txn/n/require"
    (umask 077; printf 1 >later/private; mkdir hidden; echo >hidden/f)
    fails_with 'Permission denied' as_nobody bash -c "echo > $Q/txn/n/commit"
    same status "$(cat "$Q/txn/n/status")" open
    chmod 644 later/private
    fails_with 'Permission denied' as_nobody bash -c "echo > $Q/txn/n/commit"
    rm -r hidden
    as_nobody bash -c "echo > $Q/txn/n/commit"
    as_nobody rmdir "$Q/txn/n"
}

@test "a line of require that a program writes by halves is refused, and not taken for another one" {
    begin a
    for ((i = 0; i < 400; i++)); do echo "absent $t/some/path/of-number-$i"; done >"$S/lines"
    ! sed p "$S/lines" >"$Q/txn/a/require" 2>/dev/null || false
    fails_with 'Invalid argument' dd if="$S/lines" of="$Q/txn/a/require" bs=4096 status=none
    while read -r line; do
        grep -qxF "$line" "$S/lines" || fail "nobody required: $line"
    done <"$Q/txn/a/require"
    rmdir "$Q/txn/a"
    begin a
    dd if="$S/lines" of="$Q/txn/a/require" bs=65536 status=none
    cmp "$S/lines" "$Q/txn/a/require"
}

@test "sixteen are open at most" {
    local i
    for i in $(seq 16); do mkdir "$Q/txn/m$i"; done
    fails_with 'Too many open files' mkdir "$Q/txn/m17"
    commit m1
    mkdir "$Q/txn/m17"
}

@test "names are letters, digits, . _ -" {
    fails_with 'Invalid argument' mkdir "$Q/txn/a b"
    fails_with 'Invalid argument' mkdir "$Q/txn/.a"
    fails_with 'File name too long' mkdir "$Q/txn/$(printf 'a%.0s' {1..65})"
    mkdir "$Q/txn/A_1.b-c"
    fails_with 'File exists' mkdir "$Q/txn/A_1.b-c"
    fails_with 'Operation not permitted' mkdir "$Q/txn/A_1.b-c/x"
    fails_with 'Operation not permitted' x "echo > $Q/txn/x"
    mktemp -d "$Q/txn/XXXXXX" >/dev/null
}

@test "a file above max-value is EFBIG when it is written" {
    begin a
    fails_with 'File too large' x "head -c 2000000 /dev/zero > $X/f"
}

@test "more than 64 MiB is E2BIG, and less is committed in parts" {
    begin a
    local i
    head -c 1000000 /dev/urandom >"$S/m"
    for i in $(seq 20); do cp "$S/m" "$X/f$i"; done
    committed a
    cmp f20 "$S/m"
    begin b
    for i in $(seq 70); do cp "$S/m" "$X/g$i" 2>"$S/err" || break; done
    grep -q 'Argument list too long' "$S/err" || fail "$i: $(cat "$S/err")"
    rm -f f*
}

@test "nothing gets past 64 MiB, however it is written" {
    echo old >f
    begin a
    within 60 python3 - "$X" <<'P'
import errno, os, sys
os.chdir(sys.argv[1])
def refused(call, *args):
    try:
        call(*args)
        return False
    except OSError as e:
        assert e.errno == errno.E2BIG, e
        return True
fds, n = [], 0
for i in range(70): # whole files, and then bytes until there is room for none
    fds.append(os.open('g%d' % i, os.O_CREAT | os.O_WRONLY))
    if refused(os.write, fds[i], bytes(1000000)):
        break
else:
    sys.exit('70 MB are not too much')
size = 1 << 20
while size:
    if refused(os.pwrite, fds[-1], bytes(size), n):
        size //= 2
    else:
        n += size
refused(os.truncate, 'f', 0)
assert refused(os.pwrite, fds[-1], bytes(100000), n), 'and then everything is allowed'
P
    begin b # pieces cost memory, too
    within 100 python3 - "$X" <<'P'
import errno, os, sys
os.chdir(sys.argv[1])
try:
    for f in range(20):
        fd = os.open('g%d' % f, os.O_CREAT | os.O_WRONLY)
        for i in range(60000):
            os.pwrite(fd, b'x', i * 2)
    sys.exit('1.2 million pieces are not too much')
except OSError as e:
    assert e.errno == errno.E2BIG, e
P
}

@test "what writers read is bounded as well" {
    echo 16M >"$Q/config/max-value"
    begin a
    within 60 python3 - "$X" <<'P'
import errno, os, sys
os.chdir(sys.argv[1])
fds = [os.open('g%d' % i, os.O_CREAT | os.O_RDWR) for i in range(6)]
def readable(fd):
    try:
        os.pread(fd, 1, 0)
        return True
    except OSError as e:
        assert e.errno == errno.ENOMEM, e
        return False
assert readable(fds[5])
for fd in fds:
    os.ftruncate(fd, 16 << 20)
seen = [readable(fd) for fd in fds]
assert seen.count(True) <= 4, seen
for fd in fds:
    os.close(fd)
fd = os.open('g0', os.O_RDWR)
assert readable(fd) # there is room again
P
    echo 1M >"$Q/config/max-value"
}

@test "the last operation that there is room for can be used" {
    begin a
    within 120 python3 - "$X" <<'P'
import errno, os, sys
os.chdir(sys.argv[1])
for i in range(16383):
    os.mkdir('d%d' % i)
with open('f', 'w') as f:
    f.write('a')
try:
    os.mkdir('more')
    sys.exit('one more was taken')
except OSError as e:
    assert e.errno == errno.E2BIG, e
with open('f', 'a') as f:
    f.write('b') # is a part of what is there
P
    committed a
    holds f ab
}

@test "what all transactions of a user keep in memory is bounded" {
    mkdir -m 777 d
    as_nobody timeout $((60 * QFS_TIME_SCALE)) python3 - "$Q/txn" "$t" <<'P'
import errno, os, sys
txn, t = sys.argv[1:]
n = 0
try:
    for i in range(5):
        os.mkdir('%s/n%d' % (txn, i))
        for j in range(60):
            with open('%s/n%d/tree/%s/d/f%d-%d' % (txn, i, t, i, j), 'wb', 0) as f:
                f.write(bytes(1 << 20))
            n += 1
    sys.exit('%d MiB were taken' % n)
except OSError as e:
    assert e.errno == errno.E2BIG, e
assert 240 < n <= 256, n
P
    mkdir "$Q/txn/other"
    echo v >"$Q/txn/other/tree/$t/v"
    rmdir "$Q"/txn/*
}

@test "extended attributes: all together, and in any order" {
    echo 1 >f
    within 20 python3 - f <<'P'
import os, sys
for i in 'abcd':
    os.setxattr(sys.argv[1], 'user.' + i, bytes(4000))
P
    begin a
    within 20 python3 - "$X/f" <<'P'
import errno, os, sys
f = sys.argv[1]
try:
    os.setxattr(f, 'user.e', bytes(4000))
    sys.exit('20000 bytes are not too much')
except OSError as e:
    assert e.errno == errno.ENOSPC, e
os.setxattr(f, 'user.a', b'short')
os.removexattr(f, 'user.b')
os.setxattr(f, 'user.e', bytes(4000))
os.setxattr(f, 'user.g', bytes(2000))
os.setxattr(f, 'user.h', b'x')
os.removexattr(f, 'user.h')
P
    committed a
    same "names" "$(getfattr --absolute-names f | grep -o 'user\..*' | sort | paste -sd' ')" 'user.a user.c user.d user.e user.g'
}

@test "who still is in the tree of a transaction that is over is never in another one" {
    needs_failpoints
    daemon_stop
    QUORUMFS_FAILPOINTS=txn.views=error daemon_start
    cd "$T"
    begin a
    within 60 python3 - "$Q/txn" "$t" <<'P'
import os, sys
txn, t = sys.argv[1:]
old = os.open('%s/a/tree/%s' % (txn, t), os.O_RDONLY)
os.rmdir(txn + '/a')
for i in range(100):
    os.mkdir(txn + '/b')
    open('%s/b/tree/%s/secret' % (txn, t), 'w').close()
    try:
        os.stat('secret', dir_fd=old)
        sys.exit('it sees transaction %d' % i)
    except OSError:
        pass
    os.rmdir(txn + '/b')
P
    daemon_stop
    daemon_start
}

@test "finished ones take no room from others, and when there is none that is said" {
    needs_failpoints
    local i uid
    daemon_stop
    QUORUMFS_FAILPOINTS=txn.views=error daemon_start # there are 40
    cd "$T"
    for ((i = 0; i < 50; i++)); do
        mkdir "$Q/txn/done$i"
        echo >"$Q/txn/done$i/commit"
    done
    for ((i = 0; i < 40; i++)); do
        setpriv --reuid=$((1000 + i / 14)) --clear-groups mkdir "$Q/txn/open$i"
    done
    fails_with 'Too many open files' setpriv --reuid=1005 --clear-groups mkdir "$Q/txn/more"
    rmdir "$Q"/txn/*
    daemon_stop
    daemon_start
}

@test "what is looked at while it is being committed is neither checked nor told of" {
    needs_failpoints
    local i committer
    daemon_stop
    QUORUMFS_FAILPOINTS="store.commit=hold:$S/hold" daemon_start --timeout "$((60 * QFS_TIME_SCALE))s"
    cd "$T"
    touch f
    begin a
    echo new >"$X/g"
    for i in 1 2 3 4 5; do echo "absent $t/n$i"; done >"$Q/txn/a/require"
    echo "exists $t/nowhere" >>"$Q/txn/a/require"
    touch "$S/hold"
    (! echo >"$Q/txn/a/commit") 2>/dev/null 3>&- &
    committer=$!
    wait_until 10 grep -q '^quorumfs_commands_waiting [1-9]' "$MNT/.quorum/metrics"
    for i in 1 2 3; do [ ! -e "$X/m$i" ]; done
    cat "$X/f"
    rm "$S/hold"
    wait $committer
    same status "$(cat "$Q/txn/a/status")" "conflict exists $t/nowhere"
    rmdir "$Q/txn/a"
    daemon_stop
    daemon_start
    cd "$T"
}

@test "a view whose revision is compacted is ESTALE" {
    echo 1 >f
    begin a
    echo 2 >f
    rev >"$Q/compact"
    fails_with 'Stale file handle' cat "$X/f"
}

@test "one that nobody uses ends" {
    needs_failpoints
    begin a
    daemon_stop
    daemon_start
    absent "$Q/txn/a" # it dies with the member
    daemon_stop
    QUORUMFS_FAILPOINTS=txn.idle=error daemon_start
    mkdir "$Q/txn/b"
    wait_until 15 test ! -e "$Q/txn/b"
    daemon_stop
    daemon_start
}
