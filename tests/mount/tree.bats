# The tree: names, kinds of files, attributes, extended attributes, sizes.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() { enter_test; }
teardown() { leave_test; }

# ---- Names ------------------------------------------------------------------------------------------------------------------------

@test "a name may hold any bytes but slash and NUL" {
    local name
    for name in 'with space' $'new\nline' $'tab\t' -dash '*' '\' $'\xff\xfe\x80' $'\x01' 'ünïcødé' '...' '.hidden' '"' "'" '$HOME' '#' ' '; do
        echo "$name" >"./$name"
        same "content of $(printf %q "$name")" "$(cat "./$name")" "$name"
        mkdir "./$name.d"
        mv "./$name" "./$name.d/$name"
        [ -f "./$name.d/$name" ]
    done
    same "names" "$(find . -type f -print0 | tr -dc '\0' | wc -c)" 16
    rm -r -- * .hidden.d ....d
    same "left" "$(ls -A)" ''
}

@test "names have at most 255 bytes" {
    local long=$(printf 'x%.0s' {1..255})
    echo v >"$long"
    holds "$long" 'v\n'
    mkdir d; mv "$long" d/; mkdir "d/${long%x}y"
    fails_with 'File name too long' touch "${long}x"
    fails_with 'File name too long' mkdir "${long}x"
    fails_with 'File name too long' ln -s a "${long}x"
    fails_with 'File name too long' mv "d/$long" "${long}x"
    fails_with 'File name too long' stat "${long}x"
}

@test "directories nest deeply" {
    local i path=.
    for i in {1..60}; do path+=/directory-$i; done
    mkdir -p "$path"
    echo deep >"$path/f"
    holds "$path/f" 'deep\n'
    rm -r directory-1
}

@test "a large directory lists each name once, also while it is being emptied" {
    (cd "$T" && for i in $(seq 1500); do : >f$i; done)
    same names "$(ls -f | grep -c '^f')" 1500
    same "distinct names" "$(ls -f | sort -u | grep -c '^f')" 1500
    rm -r "$T"
    absent "$T"
    mkdir "$T"
}

@test ".quorum is reserved at the root only" {
    needs_quorumfs
    fails_with 'File exists' mkdir "$MNT/.quorum"
    mkdir .quorum; echo v >.quorum/f; holds .quorum/f 'v\n'
    mkdir d
    same rename "$(syscall rename d "$MNT/.quorum")" EPERM
    same rename "$(syscall rename "$MNT/.quorum" g)" EPERM
    same rmdir "$(syscall rmdir "$MNT/.quorum")" EPERM
    same exchange "$(syscall exchange d "$MNT/.quorum")" EPERM
    same unlink "$(syscall unlink "$MNT/.quorum")" EPERM || same unlink "$(syscall unlink "$MNT/.quorum")" EISDIR
}

@test "paths through a file and through nothing fail as everywhere" {
    touch f
    fails_with 'Not a directory' cat f/g
    fails_with 'No such file' cat none/g
    fails_with 'Not a directory' ls f/
    fails_with 'Is a directory' x 'echo v > .'
}

# ---- Kinds -------------------------------------------------------------------------------------------------------------------------

@test "making, removing and changing take one revision each" {
    expect_revisions 1 'mkdir d'
    expect_revisions 1 'ln -s target l'
    expect_revisions 1 'echo v > d/f'
    expect_revisions 1 'chmod 600 d/f'
    expect_revisions 1 'touch -d @1000000000 d/f'
    expect_revisions 1 'setfattr -n user.a -v 1 d/f'
    expect_revisions 1 'setfattr -x user.a d/f'
    expect_revisions 1 'mv d/f d/g'
    expect_revisions 1 'rm d/g'
    expect_revisions 1 'rmdir d'
    expect_revisions 1 'rm l'
}

@test "looking takes no revision" {
    mkdir d; echo v >d/f; ln -s d/f l
    expect_revisions 0 'ls -laR . >/dev/null; cat d/f l >/dev/null; find . >/dev/null; stat d/f >/dev/null; df . >/dev/null; readlink l >/dev/null'
}

@test "hard links, FIFOs, sockets and devices are refused with EPERM" {
    needs_quorumfs
    touch f
    local before=$(rev) kind
    same link "$(syscall link f g)" EPERM
    fails_with 'Operation not permitted' mkfifo p
    for kind in fifo socket char block; do same $kind "$(syscall mknod n $kind)" EPERM; done
    same revisions $(($(rev) - before)) 0
    same names "$(ls)" f
    same "mknod of a regular file" "$(syscall mknod r file)" ok
    holds r ''
}

@test "symbolic links keep their target" {
    local long=$(printf 'x/%.0s' {1..2047})y
    ln -s 'any thing ü' a
    same target "$(readlink a)" 'any thing ü'
    same size "$(stat -c %s a)" "$(printf 'any thing ü' | wc -c)"
    same type "$(stat -c %F a)" 'symbolic link'
    same length ${#long} 4095
    ln -s "$long" b
    same target "$(readlink b)" "$long"
    mkdir d; echo v >d/f; ln -s d e; ln -s e/f g
    holds g 'v\n'
    echo w >g
    holds d/f 'w\n'
    ln -s loop loop
    fails_with 'Too many levels' cat loop
    fails_with 'No such file' cat a
    fails_with 'File exists' ln -s other a
    rm g
    holds d/f 'w\n'
}

@test "directories are made once, listed, and removed only empty" {
    mkdir d
    fails_with 'File exists' mkdir d
    touch d/f
    fails_with 'not empty' rmdir d
    fails_with 'Not a directory' rmdir d/f
    same unlink "$(syscall unlink d)" EISDIR
    rm d/f
    rmdir d
    absent d
    same rmdir "$(syscall rmdir d)" ENOENT
}

@test "a directory that is somebody's working directory can be removed" {
    mkdir d
    (cd d && rmdir ../d && fails_with 'No such file' touch f && fails_with 'No such file' ls ../d)
    absent d
}

@test "dot and dot dot are listed and lead to the right places" {
    mkdir -p a/b
    same "." "$(ls -a a/b | head -1)" .
    same ".." "$(stat -c %i a/b/..)" "$(stat -c %i a)"
    same "number of .. in the list" "$(ls -ai a/b | awk '$2 == ".." {print $1}')" "$(stat -c %i a)"
}

# ---- Attributes ----------------------------------------------------------------------------------------------------------------------

@test "modes follow the umask and chmod" {
    (umask 022; echo v >a; mkdir b)
    (umask 077; echo v >c; mkdir d)
    (umask 000; echo v >e; mkdir f)
    same modes "$(stat -c %a a b c d e f | paste -sd' ')" '644 755 600 700 666 777'
    local mode
    for mode in 0 7 4755 2755 1777 640; do
        syscall chmod a $mode; syscall chmod b $mode
        same mode "$(stat -c %a a b | paste -sd' ')" "$mode $mode"
    done
}

@test "numeric owners are kept, also large ones" {
    touch a; mkdir d; ln -s x l
    chown 12345:54321 a d
    chown -h 4000000000:4000000001 l
    same owners "$(stat -c %u:%g a d l | paste -sd' ')" '12345:54321 12345:54321 4000000000:4000000001'
    chown :7 a
    same owner "$(stat -c %u:%g a)" 12345:7
}

@test "mtime keeps its nanoseconds and stays over a rename and chmod" {
    touch a; mkdir d; ln -s x l
    touch -h -d '2001-02-03 04:05:06.123456789 UTC' a d l
    same mtime "$(stat -c %.Y a d l | sort -u)" 981173106.123456789
    mv a b; chmod 600 b
    same mtime "$(stat -c %.Y b)" 981173106.123456789
    touch -d '1965-01-01 UTC' b
    same "mtime before 1970" "$(stat -c %Y b)" -157766400
    touch -d '2150-01-01 UTC' b
    same "mtime after 2106" "$(stat -c %Y b)" 5680281600
}

@test "a time beyond what is kept becomes the nearest one" {
    needs_quorumfs # tmpfs keeps more
    touch -d @20000000000 a
    same "mtime after 2262" "$(stat -c %Y a)" 9223372036
    touch -d @-20000000000 a
    same "mtime before 1677" "$(stat -c %Y a)" -9223372036
}

@test "a commit sets mtime and ctime, chmod only ctime" {
    local start=$(date +%s) end m c
    echo v >f
    end=$(date +%s)
    m=$(stat -c %.Y f) c=$(stat -c %.Z f)
    ((${m%.*} >= start - 1 && ${m%.*} <= end + 1)) || fail "mtime $m is not now ($start)"
    chmod 600 f
    same mtime "$(stat -c %.Y f)" "$m"
    [ "$(stat -c %.Z f)" != "$c" ]
    touch -d @1000000000 f
    echo w >f
    (($(stat -c %Y f) >= start - 1))
}

@test "an explicit time set through an open file wins over the commit" {
    actor_start A
    A open 3 f wct
    A write 3 v
    A futimens 3 1000000000
    A fchmod 3 640
    A close 3
    same "mode and mtime" "$(stat -c '%a %Y' f)" '640 1000000000'
    put g 'w\n'
    A open 3 g w
    A write 3 v
    A futimens 3 1000000000
    A close 3
    same mtime "$(stat -c %Y g)" 1000000000
}

@test "making and removing an entry changes the directory's mtime" {
    mkdir d
    local action m
    for action in 'touch d/a' 'mkdir d/b' 'mv d/a d/c' 'rm d/c' 'rmdir d/b' 'ln -s x d/l'; do
        touch -d @1000000000 d
        $action
        m=$(stat -c %Y d)
        ((m > 1000000000)) || fail "$action left the directory's mtime alone"
    done
    touch -d @1000000000 d
    echo v >d/l2; touch -d @1000000000 d; echo w >d/l2
    same "mtime of the directory after an overwrite" "$(stat -c %Y d)" 1000000000
}

@test "inode numbers stay over commits and renames, and are those of the list" {
    echo v >f
    mkdir d
    local i=$(stat -c %i f)
    echo w >f; echo x >>f
    same "after writing" "$(stat -c %i f)" "$i"
    mv f d/g
    same "after a rename" "$(stat -c %i d/g)" "$i"
    same "in the list" "$(ls -i d | awk '{print $1}')" "$i"
    echo v >f
    [ "$(stat -c %i f)" != "$i" ] || fail "a number was used twice"
    rm d/g; echo v >d/g
    [ "$QFS_TEST_ON" = tmpfs ] || [ "$(stat -c %i d/g)" != "$i" ] || fail "a number was used again"
}

@test "link counts are right for find" {
    mkdir -p d/a d/b
    touch d/f
    same file "$(stat -c %h d/f)" 1
    [[ $(stat -c %h d) == [14] ]] || fail "a directory of two directories has $(stat -c %h d) links"
    same "directories found" "$(find d -type d | wc -l)" 3
    rmdir d/a
    [[ $(stat -c %h d) == [13] ]]
}

@test "sizes and blocks" {
    head -c 513 /dev/zero >f
    [ "$QFS_TEST_ON" = tmpfs ] || same "size, blocks, block size" "$(stat -c '%s %b %o' f)" '513 2 4096'
    same size "$(stat -c %s f)" 513
    : >e
    same "size and blocks" "$(stat -c '%s %b' e)" '0 0'
}

@test "df shows the quota and what is used" {
    needs_quorumfs
    local used before
    same "block size, blocks, name length" "$(stat -f -c '%S %b %l' .)" "4096 $((2 * 1024 * 1024 * 1024 / 4096)) 255"
    same "files" "$(df --output=itotal . | tail -1 | tr -d ' ')" $((1 << 31))
    before=$(stat -f -c %f .)
    head -c 800K /dev/urandom >f
    used=$(((before - $(stat -f -c %f .)) * 4096))
    ((used >= 800 * 1024 && used < 900 * 1024)) || fail "800 KiB more take $used bytes"
    rm f
    same "free after removing it" "$(stat -f -c %f .)" "$before"
}

@test "the root directory is 0755 and belongs to who made the tree" {
    same root "$(stat -c '%a %u %F' "$MNT")" '755 0 directory'
}

@test "sparse files read zeros" {
    truncate -s 100000 f
    cmp f <(head -c 100000 /dev/zero)
    printf x | dd of=f bs=1 seek=50000 conv=notrunc status=none
    cmp f <(head -c 50000 /dev/zero; printf x; head -c 49999 /dev/zero)
    same size "$(stat -c %s f)" 100000
}

@test "opening a directory for writing, and O_TMPFILE, fail as documented" {
    mkdir d
    same "open" "$(syscall open d 1)" EISDIR
    same "open O_DIRECTORY" "$(touch f; syscall open f 200000)" ENOTDIR
    same "open O_NOFOLLOW" "$(ln -s f l; syscall open l 400000)" ELOOP
    [ "$QFS_TEST_ON" = tmpfs ] || same O_TMPFILE "$(syscall open d 20200001)" EOPNOTSUPP
}

# ---- Extended attributes -------------------------------------------------------------------------------------------------------------------

needs_user_xattr() { # older tmpfs has none
    setfattr -n user.probe -v 1 "$T" 2>/dev/null || skip "no user.* here"
    setfattr -x user.probe "$T"
}

@test "user.* attributes are set, listed, read and removed" {
    needs_user_xattr
    touch f; mkdir d
    local file
    for file in f d; do
        setfattr -n user.one -v 1 $file
        setfattr -n user.two -v 0x00ff0a $file
        setfattr -n user.empty $file
        same "value" "$(getfattr --only-values -n user.one $file)" 1
        same "binary value" "$(getfattr -e hex --only-values -n user.two $file | od -An -tx1 | tr -d ' ')" 00ff0a
        same "names" "$(getfattr $file | grep -c '^user\.')" 3
        setfattr -n user.one -v 22 $file
        same "new value" "$(getfattr --only-values -n user.one $file)" 22
        setfattr -x user.one $file
        fails_with 'No such attribute' getfattr -n user.one $file
        fails_with 'No such attribute' setfattr -x user.one $file
        same "names" "$(getfattr $file | grep -c '^user\.')" 2
    done
    mv f g; echo more >>g
    same "kept over rename and commit" "$(getfattr $PWD/g 2>/dev/null | grep -c '^user\.')" 2
}

@test "attributes have limits, and only user.* exists" {
    needs_quorumfs
    touch f
    local v4096=$(printf 'x%.0s' {1..4096}) i
    same "4096 bytes" "$(syscall setxattr f user.a "$v4096")" ok
    [[ $(syscall setxattr f user.b "${v4096}x") =~ ^(E2BIG|ENOSPC)$ ]] || fail "4097 bytes: $(syscall setxattr f user.b "${v4096}x")"
    for i in 1 2; do same "4096 more" "$(syscall setxattr f user.$i "$v4096")" ok; done
    [[ $(syscall setxattr f user.3 "$v4096") =~ ^(E2BIG|ENOSPC)$ ]] || fail "16 KiB and more: $(syscall setxattr f user.3 "$v4096")"
    same trusted "$(syscall setxattr f trusted.a v)" EOPNOTSUPP
    # An access list for owner, group and others as it is stored, version first.
    fails_with 'Operation not supported' setfattr -n system.posix_acl_access -v 0x0200000001000600ffffffff020006000100000004000400ffffffff10000600ffffffff20000400ffffffff f
    fails_with 'No such attribute' getfattr -n security.capability f
}

# ---- Facts -----------------------------------------------------------------------------------------------------------------------------------

@test "user.quorum.* tells revisions, version and writer" {
    needs_quorumfs
    expect_revisions 1 'echo a > f'
    local made=$(rev)
    x 'echo b > f'
    same facts "$(fact f create_revision) $(fact f mod_revision) $(fact f version)" "$made $((made + 1)) 2"
    [[ $(fact f writer) =~ ^"member 1 uid $QFS_TEST_UID pid "[0-9]+" bash"$ ]] || fail "writer: $(fact f writer)"
    same "mod_revision in all facts" "$(getfattr --only-values -n user.quorum f | sed -n 's/^mod_revision: //p')" $((made + 1))
    same "names of all facts" "$(getfattr --only-values -n user.quorum f | sed 's/:.*//' | grep -v lease | sort | paste -sd' ')" 'create_revision mod_revision version writer'
    mkdir d
    same "facts of a directory" "$(fact d create_revision)" "$(rev)"
}

@test "the facts are not listed, cannot be written, and are not copied" {
    needs_quorumfs
    touch f
    same names "$(getfattr -m - f)" ''
    local name
    for name in create_revision mod_revision version writer none; do
        same "set $name" "$(syscall setxattr f user.quorum.$name 1)" EPERM
        same "remove $name" "$(syscall removexattr f user.quorum.$name)" EPERM
    done
    same "set all" "$(syscall setxattr f user.quorum 1)" EPERM
    cp -a f g
    fails_with 'No such attribute' getfattr -n user.quorum.none f
}

@test "a name made again starts over" {
    needs_quorumfs
    echo a >f; echo b >f
    local made=$(fact f create_revision)
    rm f
    echo c >f
    same version "$(fact f version)" 1
    (($(fact f create_revision) > made))
}

@test "a rename over a name brings the new inode's facts" {
    needs_quorumfs
    echo a >f; echo b >f; echo c >f
    echo d >g
    local facts=$(fact g create_revision)
    mv g f
    same "create_revision and version" "$(fact f create_revision) $(fact f version)" "$facts 1"
}
