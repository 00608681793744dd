# Time travel: at/REV, at/TIME, at/head-N.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() {
    enter_test
    Q=$MNT/.quorum
}
teardown() { leave_test; }

# then R [PATH]: where the test's directory is in revision R
then_at() { echo "$Q/at/$1/${T##*/}${2:+/$2}"; }

# ---- at/REV ------------------------------------------------------------------------------------------------------------------------

@test "each revision is the whole tree as it was" {
    local r=() i
    mkdir d; echo 0 >d/f
    r[0]=$(rev)
    for i in 1 2 3; do echo $i >d/f && r[i]=$(rev); done
    mv d e; r[4]=$(rev)
    rm e/f; r[5]=$(rev)
    for i in 0 1 2 3; do holds "$(then_at "${r[i]}" d/f)" "$i\n"; done
    holds "$(then_at "${r[4]}" e/f)" '3\n'
    absent "$(then_at "${r[4]}" d)"
    absent "$(then_at "${r[5]}" e/f)"
    same "names" "$(ls "$(then_at "${r[5]}")")" e
    same "names before" "$(ls "$(then_at "${r[3]}")")" d
}

@test "a name that was a file, a directory and a symlink is each in its time" {
    local r1 r2 r3
    echo v >n; r1=$(rev)
    rm n; mkdir n; touch n/x; r2=$(rev)
    rm -r n; ln -s target n; r3=$(rev)
    same types "$(stat -c %F "$(then_at $r1 n)" "$(then_at $r2 n)" "$(then_at $r3 n)" | paste -sd,)" 'regular file,directory,symbolic link'
    same target "$(readlink "$(then_at $r3 n)")" target
}

@test "modes, owners, times and xattrs are those of then" {
    local r
    echo v >f; chmod 640 f; chown 7:8 f; touch -d @1000000000.25 f; setfattr -n user.a -v 1 f
    r=$(rev)
    chmod 600 f; chown 0:0 f; touch f; setfattr -n user.a -v 2 f; echo w >f
    same attributes "$(stat -c '%a %u:%g %s %.Y' "$(then_at $r f)")" '640 7:8 2 1000000000.250000000'
    same xattr "$(getfattr --absolute-names --only-values -n user.a "$(then_at $r f)")" 1
    same "mod_revision" "$(fact "$(then_at $r f)" mod_revision)" "$r"
    same "version" "$(fact "$(then_at $r f)" version)" 1
    same "version now" "$(fact f version)" 2
    [[ $(fact "$(then_at $r f)" writer) == "member 1 uid 0 pid "*bash ]]
    same "listed" "$(getfattr --absolute-names "$(then_at $r f)" | grep -c user.quorum)" 0
}

@test "permissions are those of then" {
    local r
    mkdir d; echo v >d/f; chmod 600 d/f
    r=$(rev)
    chmod 644 d/f
    fails_with 'Permission denied' setpriv --reuid=65534 --clear-groups cat "$(then_at $r d/f)"
    same now "$(setpriv --reuid=65534 --clear-groups cat d/f)" v
}

@test "what one user has open leaves room for others" {
    needs_failpoints
    daemon_stop
    QUORUMFS_FAILPOINTS=fs.control.few=error daemon_start
    cd "$T"
    chmod 755 .
    head -c 400000 /dev/zero >f
    within 20 python3 - "$(then_at "$(rev)" f)" "$Q/status" <<'P'
import errno, os, sys
held = []
os.seteuid(65534)
try:
    for i in range(3):
        held.append(os.open(sys.argv[1], os.O_RDONLY))
    sys.exit('more than all')
except OSError as e:
    assert e.errno == errno.ENOMEM, e
os.seteuid(0)
assert open(sys.argv[2]).read(), 'status'
P
    daemon_stop
    daemon_start
}

@test "what one user lists leaves room for others" {
    needs_failpoints
    daemon_stop
    QUORUMFS_FAILPOINTS=fs.control.few=error daemon_start
    cd "$T"
    chmod 755 .
    mkdir d
    python3 -c 'for i in range(1000): open("d/%0200d" % i, "w").close()'
    within 60 python3 - "$(then_at "$(rev)" d)" "$(past d)" <<'P'
import errno, os, sys, time
def opened(dir):
    try:
        return os.open(dir, os.O_RDONLY)
    except OSError as e:
        assert e.errno == errno.ENOMEM, e
for first in sys.argv[1:]:
    os.seteuid(65534)
    while (held := opened(first)) is None: # what was closed may not be known yet
        time.sleep(.05)
    for dir in sys.argv[1:]:
        assert opened(dir) is None, dir
    os.seteuid(0)
    for dir in sys.argv[1:]:
        assert len([n for n in os.listdir(dir) if len(n) == 200]) == 1000, dir
    os.close(held)
P
    daemon_stop
    daemon_start
}

@test "diff -r, cp -a, git diff, find, tar and du work on it" {
    local r
    mkdir -p a/b; echo 1 >a/f; echo 2 >a/b/g; ln -s f a/l; chmod 600 a/f; touch -d @1000000000 a/f
    cp -a a "$S/kept"
    r=$(rev)
    echo changed >a/f; rm a/l; mkdir a/new
    diff -r --no-dereference "$S/kept" "$(then_at $r a)"
    cp -a "$(then_at $r a)" "$S/restored"
    diff -r --no-dereference "$S/kept" "$S/restored"
    same attributes "$(stat -c '%a %Y' "$S/restored/f")" '600 1000000000'
    fails_with '+changed' git diff --no-index "$(then_at $r a)/f" a/f
    same find "$(cd "$(then_at $r a)" && find . | sort | paste -sd' ')" '. ./b ./b/g ./f ./l'
    tar -C "$(then_at $r)" -cf "$S/a.tar" a
    same tar "$(tar -tf "$S/a.tar" | wc -l)" 5
    du -s "$(then_at $r a)" >/dev/null
    cp -a "$(then_at $r a)/." a # the undo of the manual
    holds a/f '1\n'
    [ -L a/l ]
}

@test "a file and its older self are not the same file" {
    local r
    echo 1 >f; r=$(rev); echo 2 >f
    fails_with '' cmp f "$(then_at $r f)"
    cp "$(then_at $r f)" f
    holds f '1\n'
    [ "$(stat -c %i f)" != "$(stat -c %i "$(then_at $r f)")" ]
    [ "$(stat -c %i "$(then_at $r f)")" != "$(stat -c %i "$(then_at $((r - 1)) )")" ]
    same "again" "$(stat -c %i "$(then_at $r f)")" "$(echo 2 >/proc/sys/vm/drop_caches; stat -c %i "$(then_at $r f)")"
}

@test "nothing of it can be changed" {
    local r call A
    mkdir d; echo v >d/f; r=$(rev); A=$(then_at $r)
    for call in "open $A/d/f 1" "open $A/d/new 101" "unlink $A/d/f" "mkdir $A/d/e 755" "rmdir $A/d" "chmod $A/d/f 600" "truncate $A/d/f 0" \
        "rename $A/d/f $A/d/g" "symlink x $A/d/s" "setxattr $A/d/f user.a 2" "utimes $A/d/f 0"; do
        [[ $(syscall $call) =~ ^(EROFS|EPERM|EACCES)$ ]] || fail "$call: $(syscall $call)"
    done
    [[ $(syscall rename "$A/d/f" d/x) =~ ^(EXDEV|EROFS)$ ]]
    [[ $(syscall mkdir "$Q/at/new" 755) =~ ^(EROFS|EPERM)$ ]]
    same revision "$(rev)" "$r"
}

@test "an old file is read, mapped and listed as often as one likes" {
    local r i
    head -c 300000 /dev/urandom >f; sum=$(sha256sum <f); r=$(rev); echo new >f
    for i in 1 2 3; do
        same content "$(sha256sum <"$(then_at $r f)")" "$sum"
        echo 3 >/proc/sys/vm/drop_caches
    done
    same map "$(python3 -c 'import mmap,sys,hashlib; f=open(sys.argv[1],"rb"); print(hashlib.sha256(mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ)).hexdigest())' "$(then_at $r f)")" "${sum%% *}"
}

@test "a large directory is listed whole as it was" {
    local r
    mkdir d
    python3 -c 'import os
for i in range(2500): os.mknod("d/%04d" % i)'
    r=$(rev)
    rm d/1*
    same "names" "$(ls "$(then_at $r d)" | sha256sum)" "$(seq -f %04g 0 2499 | sha256sum)"
    same "names now" "$(ls d | wc -l)" 1500
    same "in the middle" "$(ls "$(then_at $((r + 500)) d)" | wc -l)" 2000
}

# ---- What is not there -------------------------------------------------------------------------------------------------------------

@test "unknown, future and compacted revisions are told apart" {
    local r
    echo 1 >f; echo 2 >f; r=$(rev)
    local name
    for name in 0 -1 x 01 1x head head- head-x head-1000000 2026-13-01 2026-02-30 2026-01-01T25:00Z 2026-01-01T00:00:00; do
        same "at/$name" "$(syscall access "$Q/at/$name" 0)" ENOENT
    done
    same future "$(syscall access "$Q/at/$((r + 1))" 0)" ERANGE
    same "future time" "$(syscall access "$Q/at/2199-01-01T00:00:00Z" 0)" ERANGE
    x "echo $r > $Q/compact"
    same compacted "$(syscall access "$Q/at/$((r - 1))/none" 0)" ESTALE
    same "compacted head" "$(syscall access "$Q/at/head-1/" 0)" ESTALE
    holds "$(then_at $r f)" '2\n'
    same "before the first" "$(syscall access "$Q/at/1999-01-01/" 0)" ESTALE
}

@test "an old file that is open when its revision is compacted stays readable; opening it anew is refused" {
    local r
    echo 1 >f; r=$(rev); echo 2 >f
    exec 8<"$(then_at $r f)"
    x "echo $(rev) > $Q/compact"
    same open "$(cat <&8)" 1
    exec 8<&-
    fails_with 'Stale' cat "$(then_at $r f)"
}

@test "at/ lists nothing, and at/REV has no .quorum" {
    same "names" "$(ls -A "$Q/at")" ''
    same find "$(find "$Q/at" | wc -l)" 1
    absent "$Q/at/$(rev)/.quorum"
    same "mode" "$(stat -c '%a %F' "$Q/at")" '555 directory'
}

# ---- head-N and times --------------------------------------------------------------------------------------------------------------

@test "head-N counts back from the newest revision" {
    local r i
    for i in 1 2 3; do echo $i >f; done
    r=$(rev)
    same "head-0" "$(readlink "$Q/at/head-0")" "$r"
    holds "$Q/at/head-1/${T##*/}/f" '2\n'
    echo 4 >f
    holds "$Q/at/head-1/${T##*/}/f" '3\n'
    same "type" "$(stat -c %F "$Q/at/head-2")" 'symbolic link'
}

@test "a time is the newest revision of then, also in the middle of a pause" {
    local r1 t1 t2
    echo 1 >f
    echo 2 >f
    r1=$(rev)
    t1=$(date -u +%FT%T.%NZ)
    wait_until 5 eval "[[ \$(date -u +%s%N) > $(($(date +%s%N) + 300000000)) ]]"
    t2=$(date -u +%FT%T.%NZ)
    echo 3 >f
    same "right after" "$(readlink "$Q/at/$t1")" "$r1"
    same "in the pause" "$(readlink "$Q/at/$t2")" "$r1"
    holds "$Q/at/$t2/${T##*/}/f" '2\n'
    # A second that began after the revisions: an earlier one may be before what an earlier test has left of history.
    wait_until 5 eval "[ \$(date +%s) -gt $(date +%s) ]"
    same "to the second" "$(readlink "$Q/at/$(date -u -d '+0 sec' +%FT%TZ)" | grep -c .)" 1
}

@test "a time is that of its revision also when nothing but a new start came after it" {
    local r t
    wait_until 5 eval "[[ \$(date -u +%s%N) > $(($(date +%s%N) + 300000000)) ]]"
    echo 1 >f
    echo 2 >f
    echo 3 >f
    r=$(rev)
    wait_until 5 eval "[[ \$(date -u +%s%N) > $(($(date +%s%N) + 300000000)) ]]"
    t=$(date -u +%FT%T.%NZ)
    daemon_stop
    daemon_start
    same "in the pause" "$(readlink "$Q/at/$t")" "$r"
}

@test "old revisions stay over a new start and kill -9" {
    local r
    echo 1 >f; r=$(rev); echo 2 >f
    daemon_kill
    daemon_start
    holds "$(then_at $r f)" '1\n'
    daemon_stop
    daemon_start
    holds "$(then_at $r f)" '1\n'
}

# ---- history/ ----------------------------------------------------------------------------------------------------------------------

past() { echo "$Q/history/${T##*/}${1:+/$1}"; }

versions() { ls -v "$(past "$1")" | paste -sd' '; }

@test "history/PATH has a file for each version, by its revision" {
    local r i
    for i in 1 2 3; do echo $i >f; done
    r=$(rev)
    same versions "$(versions f)" "$((r - 2)) $((r - 1)) $r"
    for i in 1 2 3; do holds "$(past f/$((r - 3 + i)))" "$i\n"; done
    fails_with '' diff "$(past f/$r)" "$(past f/$((r - 1)))"
    same size "$(stat -c %s "$(past f/$r)")" 2
    [[ $(fact "$(past f/$((r - 1)))" writer) == "member 1 uid 0 pid "*bash ]]
    same "mod_revision" "$(fact "$(past f/$((r - 1)))" mod_revision)" $((r - 1))
    same "version" "$(fact "$(past f/$((r - 1)))" version)" 2
}

@test "it follows the name over editors that replace the inode" {
    local r
    echo 1 >f; r=$(rev)
    echo 2 >.f.tmp; mv .f.tmp f
    sed -i s/2/3/ f
    same "versions" "$(versions f | wc -w)" 3
    holds "$(past f/$r)" '1\n'
    same "newest" "$(cat "$(past f/$(versions f | awk '{print $NF}'))")" 3
    same "deletions" "$(versions f | grep -c deleted)" 0
}

@test "deletions and recreations are shown, also when the name is gone now" {
    local r
    echo 1 >f; r=$(rev); rm f; ln -s t f; rm f
    same versions "$(versions f)" "$r $((r + 1)).deleted $((r + 2)) $((r + 3)).deleted"
    same target "$(readlink "$(past f/$((r + 2)))")" t
    same empty "$(cat "$(past f/$((r + 1)).deleted)")" ''
    same kept "$(cat "$(past f/$r)")" 1
    absent f
}

@test "a version shows the attributes that it had last" {
    local r
    echo 1 >f; r=$(rev); chmod 640 f; touch -d @1000000000 f; echo 2 >f; chmod 600 f
    same versions "$(versions f)" "$r $((r + 3))"
    same "attributes" "$(stat -c '%a %Y' "$(past f/$r)")" '640 1000000000'
}

@test "a directory lists the names that it has or had" {
    mkdir d; echo 1 >d/a; echo 2 >d/b; rm d/a; mv d e; echo 3 >e/c
    same "of now" "$(versions e)" 'b c'
    same "of then" "$(versions d)" 'a b'
    same "top" "$(ls "$(past)" | paste -sd' ')" 'd e'
    rm -r e
    same "gone" "$(versions e)" 'b c'
    fails_with 'No such file' ls "$(past none)"
    fails_with 'No such file' ls "$(past e/none)"
}

@test "names follow a directory that is published by mv" {
    local i r=()
    for i in 1 2 3; do
        mkdir new; echo $i >new/f
        [ ! -e conf ] || mv conf old$i
        mv new conf; r[i]=$(rev)
    done
    same "versions" "$(versions conf/f | wc -w)" 5 # two of them gone for a moment
    for i in 1 2 3; do holds "$(past conf/f/${r[i]})" "$i\n"; done
}

@test "a name that reads like a version gives way to it" {
    local r
    echo 1 >n; r=$(rev); rm n; mkdir n; echo inner >n/$r; echo other >n/$((r + 100000))
    holds "$(past n/$r)" '1\n'
    same "names" "$(versions n)" "$r $((r + 1)).deleted $((r + 100000))"
}

@test "history is read-only, and has inode numbers of its own" {
    local r A call
    echo 1 >f; r=$(rev); A=$(past)
    for call in "open $A/f/$r 1" "open $A/f/new 101" "unlink $A/f/$r" "mkdir $A/d 755" "rmdir $A/f" "chmod $A/f/$r 600" "truncate $A/f/$r 0" "symlink x $A/s"; do
        [[ $(syscall $call) =~ ^(EROFS|EPERM|EACCES)$ ]] || fail "$call: $(syscall $call)"
    done
    cp "$A/f/$r" f
    holds f '1\n'
    [ "$(stat -c %i f)" != "$(stat -c %i "$A/f/$r")" ]
    find "$A" -ls >/dev/null
    fails_with 'No such file' ls "$Q/history/.quorum"
}

@test "permissions of then and now: nobody sees what he could not" {
    local r as=(setpriv --reuid=65534 --clear-groups)
    echo s >f; r=$(rev); chmod 600 f; echo t >f; chmod 644 f
    fails_with 'Permission denied' "${as[@]}" cat "$(past f/$r)"
    mkdir d; chmod 700 d; echo s >d/f; r=$(rev); chmod 755 d
    fails_with 'Permission denied' "${as[@]}" cat "$(past d/f/$r)"
    same "root" "$(cat "$(past d/f/$r)")" s
    same "now" "$("${as[@]}" cat d/f)" s
}

@test "whom the bits of the group keep out, history/ keeps out too, whoever owned the directory before" {
    local r as=(setpriv --reuid=1002 --regid=2000 --clear-groups)
    mkdir d; echo s >d/f; r=$(rev); chmod 644 d/f
    chown 1001:2000 d; chmod 705 d
    fails_with 'Permission denied' "${as[@]}" cat d/f
    fails_with 'Permission denied' "${as[@]}" cat "$(then_at "$(rev)" d/f)"
    fails_with 'Permission denied' "${as[@]}" cat "$(past d/f/$r)"
    fails_with 'Permission denied' "${as[@]}" ls "$(past d)"
    same root "$(cat "$(past d/f/$r)")" s
}

@test "compaction takes versions; what the oldest revision shows stays" {
    local r
    echo 1 >f; echo 2 >f; echo x >gone; rm gone; r=$(rev); echo 3 >f
    exec 8<"$(past f/$((r - 3)))"
    x "echo $r > $Q/compact"
    same versions "$(versions f)" "$((r - 2)) $((r + 1))"
    holds "$(past f/$((r - 2)))" '2\n'
    fails_with 'No such file' ls "$(past gone)"
    fails_with 'No such file' cat "$(past f/$((r - 3)))"
    same open "$(cat <&8)" 1
    exec 8<&-
}

@test "a long history is listed whole" {
    local r
    python3 - "$T/f" <<'E'
import os, sys
for i in range(2300):
    fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(fd, b"%d\n" % i)
    os.close(fd)
E
    r=$(rev)
    same versions "$(ls "$(past f)" | sort -n | sha256sum)" "$(seq $((r - 2299)) $r | sha256sum)"
    holds "$(past f/$((r - 1000)))" '1299\n'
}

@test "random changes: every revision and every version is as it was, over compactions and new starts" {
    local seed=${QFS_SEED:-$((RANDOM * 32768 + RANDOM))} steps=(300 200 100)
    # All revisions are compared after each part. What a sanitizer can see is seen in fewer.
    [ -z "$QFS_SANITIZE" ] || steps=(100 70 40)
    within 60 python3 "$BATS_TEST_DIRNAME/past.py" "$Q" "$T" "$S/state" $seed ${steps[0]}
    daemon_kill
    daemon_start
    within 60 python3 "$BATS_TEST_DIRNAME/past.py" "$Q" "$T" "$S/state" $((seed + 1)) ${steps[1]}
    daemon_stop
    daemon_start
    within 60 python3 "$BATS_TEST_DIRNAME/past.py" "$Q" "$T" "$S/state" $((seed + 2)) ${steps[2]}
}

# ---- Compaction and bookmarks --------------------------------------------------------------------------------------------------------

as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups bash -c "$1"; }

many_puts() { # many_puts N [FILE]
    python3 - "$T/${2:-f}" "$1" <<'E'
import os, sys
for i in range(int(sys.argv[2])):
    fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(fd, b"%d\n" % i * 100)
    os.close(fd)
E
}

compacted_beyond() { [ "$(cat "$Q/compact")" -gt "$1" ]; }

@test "retain compacts by itself, oldest first, and the space is used again" {
    local r size i
    x "echo revisions:300 > $Q/config/retain"
    r=$(rev)
    many_puts 700
    wait_until 10 compacted_beyond $((r + 300))
    [ "$(($(rev) - $(cat "$Q/compact")))" -ge 300 ]
    fails_with 'Stale' cat "$(then_at $((r + 1)) f)"
    holds "$(then_at "$(rev)" f)" "$(cat f)\n"
    size=$(stat -c %s "$DIR/state-1.db")
    for i in 1 2 3 4; do many_puts 700; wait_until 10 compacted_beyond $(($(rev) - 400)); done
    [ "$(stat -c %s "$DIR/state-1.db")" -le $((size * 2)) ]
    x "echo revisions:100000,bytes:2G > $Q/config/retain"
}

@test "a bookmark holds compaction back, up to twice what is retained" {
    local r
    mkdir "$Q/bookmarks/slow"
    r=$(rev)
    same "where it begins" "$(cat "$Q/bookmarks/slow/revision")" "$r"
    x "echo revisions:300 > $Q/config/retain"
    many_puts 500
    wait_until 10 compacted_beyond $((r - 2))
    same "held" "$(cat "$Q/compact")" "$r"
    allow_log 'passes 1 bookmarks'
    many_puts 300
    wait_until 10 compacted_beyond "$r"
    same "still there" "$(cat "$Q/bookmarks/slow/revision")" "$r"
    x "echo $(rev) > $Q/bookmarks/slow/revision"
    same "moved" "$(cat "$Q/bookmarks/slow/revision")" "$(rev)"
    rmdir "$Q/bookmarks/slow"
    absent "$Q/bookmarks/slow"
    x "echo revisions:100000,bytes:2G > $Q/config/retain"
}

@test "root's own compact is not held back by a bookmark" {
    mkdir "$Q/bookmarks/b"
    echo 1 >f; echo 2 >f
    x "cat $Q/revision > $Q/compact"
    same compacted "$(cat "$Q/compact")" "$(rev)"
    fails_with 'Stale' x "env printf $(($(rev) - 1)) > $Q/bookmarks/b/revision"
    allow_log 'a write was refused'
    rmdir "$Q/bookmarks/b"
}

@test "bookmarks belong to who made them, and stay over a new start" {
    local r
    as_nobody "mkdir $Q/bookmarks/mine"
    r=$(rev)
    same owner "$(stat -c '%u %a %F' "$Q/bookmarks/mine")" '65534 755 directory'
    same file "$(stat -c '%u %a %s' "$Q/bookmarks/mine/revision")" "65534 644 $((${#r} + 1))"
    echo 1 >f
    as_nobody "echo $((r + 1)) > $Q/bookmarks/mine/revision"
    mkdir "$Q/bookmarks/roots"
    fails_with 'Permission denied' as_nobody "echo 1 > $Q/bookmarks/roots/revision"
    fails_with 'not permitted' as_nobody "rmdir $Q/bookmarks/roots"
    fails_with 'File exists' mkdir "$Q/bookmarks/mine"
    same list "$(ls "$Q/bookmarks" | paste -sd' ')" 'mine roots'
    daemon_kill
    daemon_start
    same revision "$(cat "$Q/bookmarks/mine/revision")" $((r + 1))
    as_nobody "rmdir $Q/bookmarks/mine"
    rmdir "$Q/bookmarks/roots"
    same list "$(ls "$Q/bookmarks")" ''
}

@test "bad bookmarks are refused" {
    local name
    for name in .x 'a b' "$(printf 'n%.0s' {1..65})"; do
        [[ $(syscall mkdir "$Q/bookmarks/$name" 755) =~ ^(EINVAL|ENAMETOOLONG)$ ]] || fail "$name: $(syscall mkdir "$Q/bookmarks/$name" 755)"
    done
    mkdir "$Q/bookmarks/b"
    allow_log 'a write was refused'
    for name in x -1 '' '1 2'; do
        fails_with 'Invalid argument' x "env printf -- '$name\n' > $Q/bookmarks/b/revision"
    done
    fails_with 'out of range' x "env printf $(($(rev) + 1)) > $Q/bookmarks/b/revision"
    same "mkdir in it" "$(syscall mkdir "$Q/bookmarks/b/c" 755)" EPERM
    same "unlink" "$(syscall unlink "$Q/bookmarks/b/revision")" EPERM
    same "create" "$(syscall open "$Q/bookmarks/b/new" 101)" EPERM
    rmdir "$Q/bookmarks/b"
    same "gone" "$(syscall rmdir "$Q/bookmarks/b")" ENOENT
}
