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
    mkdir d && echo 0 >d/f
    r[0]=$(rev)
    for i in 1 2 3; do echo $i >d/f && r[i]=$(rev); done
    mv d e && r[4]=$(rev)
    rm e/f && r[5]=$(rev)
    for i in 0 1 2 3; do holds "$(then_at "${r[i]}" d/f)" "$i\n"; done
    holds "$(then_at "${r[4]}" e/f)" '3\n'
    absent "$(then_at "${r[4]}" d)"
    absent "$(then_at "${r[5]}" e/f)"
    same "names" "$(ls "$(then_at "${r[5]}")")" e
    same "names before" "$(ls "$(then_at "${r[3]}")")" d
}

@test "a name that was a file, a directory and a symlink is each in its time" {
    local r1 r2 r3
    echo v >n && r1=$(rev)
    rm n && mkdir n && touch n/x && r2=$(rev)
    rm -r n && ln -s target n && r3=$(rev)
    same types "$(stat -c %F "$(then_at $r1 n)" "$(then_at $r2 n)" "$(then_at $r3 n)" | paste -sd,)" 'regular file,directory,symbolic link'
    same target "$(readlink "$(then_at $r3 n)")" target
}

@test "modes, owners, times and xattrs are those of then" {
    local r
    echo v >f && chmod 640 f && chown 7:8 f && touch -d @1000000000.25 f && setfattr -n user.a -v 1 f
    r=$(rev)
    chmod 600 f && chown 0:0 f && touch f && setfattr -n user.a -v 2 f && echo w >f
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
    mkdir d && echo v >d/f && chmod 600 d/f
    r=$(rev)
    chmod 644 d/f
    fails_with 'Permission denied' setpriv --reuid=65534 --clear-groups cat "$(then_at $r d/f)"
    same now "$(setpriv --reuid=65534 --clear-groups cat d/f)" v
}

@test "diff -r, cp -a, git diff, find, tar and du work on it" {
    local r
    mkdir -p a/b && echo 1 >a/f && echo 2 >a/b/g && ln -s f a/l && chmod 600 a/f && touch -d @1000000000 a/f
    cp -a a "$S/kept"
    r=$(rev)
    echo changed >a/f && rm a/l && mkdir a/new
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
    echo 1 >f && r=$(rev) && echo 2 >f
    fails_with '' cmp f "$(then_at $r f)"
    cp "$(then_at $r f)" f
    holds f '1\n'
    [ "$(stat -c %i f)" != "$(stat -c %i "$(then_at $r f)")" ]
    [ "$(stat -c %i "$(then_at $r f)")" != "$(stat -c %i "$(then_at $((r - 1)) )")" ]
    same "again" "$(stat -c %i "$(then_at $r f)")" "$(echo 2 >/proc/sys/vm/drop_caches; stat -c %i "$(then_at $r f)")"
}

@test "nothing of it can be changed" {
    local r call A
    mkdir d && echo v >d/f && r=$(rev) && A=$(then_at $r)
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
    head -c 300000 /dev/urandom >f && sum=$(sha256sum <f) && r=$(rev) && echo new >f
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
    echo 1 >f && echo 2 >f && r=$(rev)
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
    echo 1 >f && r=$(rev) && echo 2 >f
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
    same "to the second" "$(readlink "$Q/at/$(date -u -d '+0 sec' +%FT%TZ)" | grep -c .)" 1
}

@test "old revisions stay over a new start and kill -9" {
    local r
    echo 1 >f && r=$(rev) && echo 2 >f
    daemon_kill
    daemon_start
    holds "$(then_at $r f)" '1\n'
    daemon_stop
    daemon_start
    holds "$(then_at $r f)" '1\n'
}
