# When what was written becomes everybody's: closing a file is one atomic put.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() { enter_test; }
teardown() {
    restore_settings
    leave_test
}

# ---- Helpers --------------------------------------------------------------------------------------------------------------------

others_see() { # others_see FILE TEXT: a process of another session reads exactly that
    local seen
    seen=$(setsid -w cat "$1" && echo .) || { fail "$1 cannot be read in another session"; return 1; }
    [ "$seen" = "$(printf "$2").." ] || [ "$seen" = "$(printf "$2"; echo .)" ] || fail "$1 in another session: expected '$2', seen '${seen%.}'"
}

others_miss() { # the name does not exist for a process of another session
    ! setsid -w test -e "$1" || fail "$1 exists in another session"
}

configure() { echo "$2" >"$MNT/.quorum/config/$1"; }

restore_settings() { # what a failed test may have left
    [ "$QFS_TEST_ON" = quorumfs ] || return 0
    configure quota 2G && configure max-value 1M && rm -f "$MNT/filler"
}

leave_room() { # leave_room SIZE: the quota is that much above what is used; it cannot be below 1 MiB, so that much is used first
    [ -e "$MNT/filler" ] || head -c 1M /dev/zero >"$MNT/filler"
    configure quota $(($(setting_of "$MNT/.quorum/status" bytes) + $1))
}

# The piece of shell takes one revision on a new file, and one more over an existing file, and leaves the content.
one_put() { # one_put TEXT CONTENT
    rm -f f
    expect_revisions 1 "$1" && holds f "$2" && expect_revisions 1 "$1" && holds f "$2"
}

# ---- One put is one revision ------------------------------------------------------------------------------------------------------

@test "echo > f is one revision" {
    in_bash_and_dash one_put 'echo v > f' 'v\n'
}

@test "an external command's output is one revision" {
    in_bash_and_dash one_put '/bin/echo v > f' 'v\n'
}

@test ": > f empties in one revision, and takes none where nothing changes" {
    expect_revisions 1 ': > f'
    holds f ''
    expect_revisions 0 ': > f'
    put f v
    QFS_SHELL=dash expect_revisions 1 ': > f'
    holds f ''
}

@test "touch makes a file in one revision" {
    expect_revisions 1 'touch new'
    holds new ''
}

@test "a group of builtins is one revision" {
    in_bash_and_dash one_put '{ echo a; echo b; } > f' 'a\nb\n'
}

@test "a group of commands is one revision" {
    in_bash_and_dash one_put '{ /bin/echo a; /bin/echo b; } > f' 'a\nb\n'
}

@test "a subshell is one revision" {
    in_bash_and_dash one_put '( echo a; /bin/echo b; echo c ) > f' 'a\nb\nc\n'
}

@test "a descriptor opened by exec is one revision" {
    in_bash_and_dash one_put 'exec 3> f; echo a >&3; /bin/echo b >&3; exec 3>&-' 'a\nb\n'
}

@test "a script that sends its output to a file and ends without closing it is one revision" {
    in_bash_and_dash one_put 'exec > f; echo a; /bin/echo b' 'a\nb\n'
}

@test "a loop's output is one revision" {
    in_bash_and_dash one_put 'for i in 1 2 3; do echo $i; done > f' '1\n2\n3\n'
}

@test "output and errors to one file are one revision" {
    in_bash_and_dash one_put '{ echo a; echo b >&2; } > f 2>&1' 'a\nb\n'
}

@test "a here-document is one revision" {
    in_bash_and_dash one_put $'cat > f <<E\na\nb\nE' 'a\nb\n'
}

@test "the end of a pipe is one revision" {
    in_bash_and_dash one_put 'echo a | cat > f' 'a\n'
}

@test "process substitution as input is one revision" {
    one_put 'cat <(echo a) <(echo b) > f' 'a\nb\n'
}

@test "process substitution as output is one revision once it has ended" {
    local before=$(rev)
    x 'echo a > >(cat > f); wait $!'
    holds f 'a\n'
    [ "$QFS_TEST_ON" = tmpfs ] || same revisions $(($(rev) - before)) 1
}

@test ">> appends in one revision, and makes the file in one" {
    in_bash_and_dash expect_revisions 1 'echo a >> f'
    holds f 'a\na\n'
    expect_revisions 1 '{ echo b; /bin/echo c; } >> f'
    holds f 'a\na\nb\nc\n'
}

@test "a file opened for reading and writing by the shell is edited in place" {
    put f '0123456789\n'
    expect_revisions 1 'printf ab 1<>f'
    holds f 'ab23456789\n'
}

@test "opening for writing and closing without a write takes no revision" {
    put f 'v\n'
    expect_revisions 0 'exec 3<>f; exec 3>&-'
    expect_revisions 0 'exec 3>>f; exec 3>&-'
    holds f 'v\n'
}

@test "cp, dd, tee, install and printf are one revision each" {
    echo content >"$S/source"
    put f 'old\n'
    expect_revisions 1 "cp $S/source f"
    expect_revisions 2 "cp $S/source new" # cp asks for a new name at once (O_EXCL)
    holds new 'content\n'
    one_put "dd if=$S/source of=f bs=3 status=none" 'content\n'
    one_put "dd if=$S/source of=f conv=fsync status=none" 'content\n'
    one_put "tee f < $S/source >/dev/null" 'content\n'
    one_put 'printf "%s\n" content > f' 'content\n'
}

@test "two redirections are two revisions" {
    expect_revisions 2 '{ echo a; echo b >&2; } > f 2> g'
    holds f 'a\n'
    holds g 'b\n'
}

@test "truncate by name and through a descriptor are one revision each" {
    put f '0123456789\n'
    expect_revisions 1 'truncate -s 4 f'
    holds f '0123'
    actor_start A
    A open 3 f w
    A ftruncate 3 2
    A close 3
    holds f '01'
    expect_revisions 1 'truncate -s 6 f'
    holds f '01\0\0\0\0'
}

@test "a write beyond the end leaves zeros in the gap" {
    actor_start A
    A open 3 f wct
    A pwrite 3 4 x
    A close 3
    holds f '\0\0\0\0x'
}

@test "each commit counts in user.quorum.version" {
    needs_quorumfs
    x 'echo a > f; echo b > f; echo c >> f'
    same version "$(fact f version)" 3
    same mod_revision "$(fact f mod_revision)" "$(rev)"
}

# ---- When: the opener's last close --------------------------------------------------------------------------------------------------

@test "what is written is private until close" {
    put f 'old\n'
    actor_start A
    A open 3 f wt
    A write 3 new
    [ "$QFS_TEST_ON" = tmpfs ] || holds f 'old\n'
    A write 3 er
    [ "$QFS_TEST_ON" = tmpfs ] || others_see f 'old\n'
    A close 3
    holds f newer
}

@test "a duplicate keeps the file uncommitted until it is closed too" {
    needs_quorumfs
    put f 'old\n'
    actor_start A
    A open 3 f wt
    A dup 3 9
    A write 3 a
    A close 3
    holds f 'old\n'
    A write 9 b
    A close 9
    holds f ab
}

@test "a child that ends or closes does not commit for the opener" {
    needs_quorumfs
    put f 'old\n'
    actor_start A
    A open 3 f wt
    A write 3 a
    A child write 3 b
    holds f 'old\n'
    A child close 3
    holds f 'old\n'
    actor_fork A B
    B write 3 c
    B close 3
    B exit
    holds f 'old\n'
    A close 3
    holds f abc
}

@test "a killed child does not end the opener's file" {
    put f 'old\n'
    actor_start A
    A open 3 f wt
    A write 3 a
    actor_fork A B
    B write 3 b
    actor_signal B KILL
    [ "$QFS_TEST_ON" = tmpfs ] || holds f 'old\n'
    A close 3
    holds f ab
}

@test "the opener's close commits although a child still holds the file" {
    actor_start A
    A open 3 f wct
    actor_fork A B
    A write 3 a
    A close 3
    holds f a
    B write 3 b
    B close 3
    wait_until 5 holds f ab
}

@test "what a background process writes after the opener's end is committed when it ends" {
    x '{ echo a; (while [ ! -e '"$S"'/go ]; do sleep 0.02; done; echo b) & } > f'
    wait_until 5 holds f 'a\n'
    touch "$S/go"
    wait_until 5 holds f 'a\nb\n'
}

@test "a thread's write and close count as the process's" {
    actor_start A
    A open 3 f wct
    A thread write 3 a
    A thread close 3
    holds f a
    A thread open 3 f wt
    A write 3 b
    A close 3
    holds f b
}

@test "a descriptor for reading beside it does not delay the commit" {
    put f 'old\n'
    actor_start A
    A open 3 f wt
    A open 4 f r
    A write 3 new
    A close 3
    holds f new
    A close 4
}

@test "two descriptors for writing of one process lose nothing" {
    put f '0123456789\n'
    actor_start A
    A open 3 f w
    A open 4 f w
    A pwrite 3 0 aa
    A pwrite 4 5 bb
    A close 3
    A close 4
    holds f 'aa234bb789\n'
}

@test "a descriptor inherited over exec commits when the new program ends" {
    x 'exec 3> f; exec /bin/sh -c "echo a >&3"'
    holds f 'a\n'
}

@test "a descriptor number used again is another file" {
    actor_start A
    A open 3 f wct
    A write 3 a
    A open 4 g wct
    A write 4 b
    A dup 4 3 # closes f
    holds f a
    [ "$QFS_TEST_ON" = tmpfs ] || others_miss g
    A close 3
    A close 4
    holds g b
}

@test "a process that ends without closing commits" {
    actor_start A
    A open 3 f wct
    A write 3 a
    A _exit
    holds f a
}

@test "a writer that holds many descriptors commits at its last close" {
    local i
    actor_start A
    A open 3 f wct
    for i in {20..320..20}; do A dup 3 "$i"; done
    A write 3 a
    A close 3
    for i in {20..300..20}; do A close "$i"; done
    [ "$QFS_TEST_ON" = tmpfs ] || others_miss f
    A close 320
    holds f a
}

# ---- Killed writers -----------------------------------------------------------------------------------------------------------------

@test "a writer that is killed publishes nothing" {
    needs_quorumfs
    local signal
    for signal in KILL TERM INT HUP ABRT SEGV; do
        put f 'old\n'
        actor_start A
        A open 3 f wt
        A write 3 half
        A open 4 new.$signal wc
        A write 4 half
        actor_signal A $signal
        holds f 'old\n'
        absent new.$signal
    done
}

@test "an aborting writer publishes nothing" {
    needs_quorumfs
    put f 'old\n'
    actor_start A
    A open 3 f wt
    A write 3 half
    A abort
    holds f 'old\n'
}

@test "a killed shell publishes nothing of its open group" {
    needs_quorumfs
    put f 'old\n'
    x '{ echo half; kill -9 $$; echo rest; } > f' && fail "it was not killed"
    holds f 'old\n'
    x 'exec 3> new; echo half >&3; kill -TERM $$' && fail "it was not killed"
    absent new
}

@test "what a killed writer had committed stays" {
    actor_start A
    A open 3 f wct
    A write 3 first
    A fsync 3
    A write 3 second
    actor_signal A KILL
    if [ "$QFS_TEST_ON" = tmpfs ]; then holds f firstsecond; else holds f first; fi
}

# ---- fsync and O_SYNC -----------------------------------------------------------------------------------------------------------------

@test "fsync and fdatasync commit what was written so far" {
    local call
    for call in fsync fdatasync; do
        actor_start A setsid
        A open 3 $call wct
        A write 3 a
        A $call 3
        others_see $call a
        A write 3 b
        [ "$QFS_TEST_ON" = tmpfs ] || others_see $call a
        A close 3
        others_see $call ab
        A exit
    done
}

@test "fsync of a new empty file publishes its name" {
    actor_start A setsid
    A open 3 f wct
    A fsync 3
    others_see f ''
    A close 3
}

@test "fsync with nothing to commit takes no revision" {
    put f 'v\n'
    expect_revisions 0 'sync f; sync f'
    actor_start A
    A open 3 f w
    local before=$(rev)
    A fsync 3
    same revisions $(($(rev) - before)) 0
    A write 3 x
    A fsync 3
    A fsync 3
    A close 3
    [ "$QFS_TEST_ON" = tmpfs ] || same revisions $(($(rev) - before)) 1
}

@test "under O_SYNC and O_DSYNC each write is a commit" {
    local flag before
    for flag in s d; do
        actor_start A setsid
        before=$(rev)
        A open 3 f.$flag wct$flag
        A write 3 a
        others_see f.$flag a
        A write 3 b
        others_see f.$flag ab
        A close 3
        [ "$QFS_TEST_ON" = tmpfs ] || same revisions $(($(rev) - before)) 2
        A exit
    done
}

@test "dd oflag=sync commits each block" {
    needs_quorumfs
    printf aabb >"$S/source"
    expect_revisions 2 "dd if=$S/source of=f bs=2 oflag=sync status=none"
    holds f aabb
}

# ---- Readers ------------------------------------------------------------------------------------------------------------------------------

@test "an open file is a snapshot, whole, whatever is committed meanwhile" {
    needs_quorumfs
    put f 'the old content\n'
    actor_start A
    A open 3 f r
    A read 3 4
    same read "$(said)" 'the '
    put f 'new\n'
    A read 3 100
    same read "$(said)" 'old content\n'
    A pread 3 0 100
    same pread "$(said)" 'the old content\n'
    A size 3
    same "size by fstat" "$(said)" 4
    A open 4 f r
    A read 4 100
    same read "$(said)" 'new\n'
}

@test "a snapshot outlives the file's name" {
    put f 'old\n'
    actor_start A
    A open 3 f r
    rm f
    A read 3 100
    same read "$(said)" 'old\n'
    A nlink 3
    same "links" "$(said)" 0
    A close 3
}

@test "a reader at the end goes on with what is appended" {
    put f 'one\n'
    actor_start A
    A open 3 f r
    A read 3 100
    A read 3 100
    same "at the end" "$(said)" ''
    x 'echo two >> f'
    A read 3 100
    same read "$(said)" 'two\n'
    x 'echo three >> f'
    A read 3 100
    same read "$(said)" 'three\n'
}

@test "tail -f shows what is appended" {
    put f 'one\n'
    tail -n +1 -f f >"$S/tail" 2>&1 3>&- &
    local tail=$!
    wait_until 5 holds "$S/tail" 'one\n'
    x 'echo two >> f'
    wait_until 5 holds "$S/tail" 'one\ntwo\n'
    kill $tail
}

@test "no reader ever sees an empty or a half-written file" {
    needs_quorumfs
    x 'echo "<start>" > f'
    x 'for i in $(seq 300); do { printf "<"; printf "%s" $i; echo ">"; } > f; done; : > done' &
    local writer=$! line
    until [ -e done ]; do
        read -r line <f || true
        [[ $line == "<"*">" ]] || { fail "a reader saw '$line'"; break; }
    done
    wait $writer
    holds f '<300>\n'
}

@test "the writer itself reads what it wrote" {
    actor_start A
    A open 3 f +ct
    A write 3 hello
    A pread 3 1 3
    same pread "$(said)" ell
    A size 3
    same size "$(said)" 5
    A close 3
}

# ---- Edits merge ----------------------------------------------------------------------------------------------------------------------------

@test "in-place writers merge as on a local disk" {
    put f 'aaaabbbbcccc\n'
    actor_start A
    actor_start B setsid
    A open 3 f w
    B open 3 f w
    A pwrite 3 0 AAAA
    B pwrite 3 8 CCCC
    B close 3
    A close 3
    holds f 'AAAAbbbbCCCC\n'
}

@test "appenders lose nothing" {
    actor_start A
    actor_start B setsid
    put f 'start\n'
    A open 3 f wa
    B open 3 f wa
    A write 3 $'a\n'
    B write 3 $'b\n'
    A close 3
    B close 3
    holds f 'start\na\nb\n'
}

@test "no line of many appending processes is lost" {
    local i pids=()
    for i in 1 2 3 4; do
        x "for n in \$(seq 40); do echo $i-\$n >> f; done" &
        pids+=($!)
    done
    wait "${pids[@]}"
    same lines "$(wc -l <f)" 160
    same "distinct lines" "$(sort -u f | wc -l)" 160
}

@test "O_TRUNC and a write replace what others appended" {
    put f 'old\n'
    actor_start A
    A open 3 f wt
    A write 3 put
    [ "$QFS_TEST_ON" = tmpfs ] || x 'echo line >> f'
    A close 3
    holds f put
}

@test "edits follow the file when it is renamed" {
    put f 'old\n'
    actor_start A
    A open 3 f wt
    A write 3 new
    mv f g
    A close 3
    holds g new
    absent f
}

@test "edits of a deleted file succeed and leave nothing" {
    put f 'old\n'
    actor_start A
    A open 3 f wt
    A write 3 new
    rm f
    A close 3
    absent f
    A open 3 g wct
    A write 3 new
    rm g
    A fsync 3
    A close 3
    absent g
}

@test "edits of a deleted file do not touch the name's new file" {
    put f 'old\n'
    actor_start A
    A open 3 f wt
    A write 3 late
    rm f
    put f 'other\n'
    A close 3
    holds f 'other\n'
}

# ---- New files ----------------------------------------------------------------------------------------------------------------------------

@test "a new file is seen by its session only, until it is committed" {
    needs_quorumfs
    actor_start A setsid
    A open 3 f wct
    A write 3 abc
    others_miss f
    x 'ls' >"$S/ls"
    holds "$S/ls" ''
    A child open 5 f r
    A close 3
    others_see f abc
}

@test "the session sees the new file in lists, with its size" {
    local seen
    seen=$(x '{ printf abc; ls; stat -c %s f; } > f; cat f')
    same seen "$seen" $'abcf\n5'
    seen=$(x 'exec 3> g; printf abc >&3; ls -d g; stat -c %s g; [ -f g ] && find . -name g')
    same seen "$seen" $'g\n3\n./g'
}

@test "a new file can be changed, renamed and removed before it is closed" {
    x 'exec 3> f; echo a >&3; chmod 640 f; mv f g; exec 3>&-'
    absent f
    holds g 'a\n'
    same mode "$(stat -c %a g)" 640
    x 'exec 3> h; echo a >&3; rm h; exec 3>&-'
    absent h
    x 'exec 3> t; echo a >&3; touch -d @1000000000 t; exec 3>&-'
    same mtime "$(stat -c %Y t)" 1000000000
}

@test "a directory with only a pending file in it can be removed by others" {
    needs_quorumfs
    mkdir -m 777 d
    actor_start A setsid
    A open 3 d/f wct
    A write 3 a
    rmdir d
    A fails ENOENT close 3
    expect_log 'commit'
    absent d
}

@test "a pending file whose name was taken edits that file" {
    needs_quorumfs
    actor_start A setsid
    A open 3 f wct
    A write 3 ab
    A open 4 g wc
    A write 4 ab
    x 'echo 12345 > f; echo 12345 > g'
    local ino=$(stat -c %i f)
    A close 3
    A close 4
    holds f ab
    holds g 'ab345\n'
    same "inode number" "$(stat -c %i f)" "$ino"
}

@test "a pending file whose name became a directory fails with EISDIR" {
    needs_quorumfs
    actor_start A setsid
    A open 3 f wct
    A write 3 ab
    mkdir f
    A fails EISDIR close 3
    expect_log 'commit'
    [ -d f ]
}

@test "O_EXCL binds the name at once" {
    actor_start A setsid
    local before=$(rev)
    A open 3 f wcx
    others_see f ''
    A write 3 abc
    A fails EEXIST open 4 f wcx
    A close 3
    others_see f abc
    [ "$QFS_TEST_ON" = tmpfs ] || same revisions $(($(rev) - before)) 2
}

@test "exactly one of many racing creators wins" {
    local kind i
    for kind in create mkdir symlink; do
        same "$kind" "$(race $kind 30 name.$kind)" 'winners 1 losers 29'
    done
    touch moved.{0..19}
    same noreplace "$(race noreplace 20 moved)" 'winners 1 losers 19'
}

@test "a pending new file loses to an O_EXCL creator and edits its file" {
    needs_quorumfs
    actor_start A setsid
    A open 3 f wc
    A write 3 abc
    actor_start B
    B open 3 f wcx
    B close 3
    A close 3
    holds f abc
}

@test "noclobber never overwrites" {
    x 'set -C; echo a > f'
    ! x 'set -C; echo b > f' 2>/dev/null
    holds f 'a\n'
}

# ---- Failures -------------------------------------------------------------------------------------------------------------------------------

@test "a write above max-value fails at once with EFBIG and the old content stays" {
    needs_quorumfs
    put f 'old\n'
    actor_start A
    A open 3 f wt
    A fill 3 x 1048576
    A fails EFBIG write 3 y
    actor_signal A KILL
    holds f 'old\n'
    actor_start B
    B open 3 f w
    B fails EFBIG pwrite 3 1048576 y
    B fails EFBIG ftruncate 3 1048577
    B close 3
    holds f 'old\n'
    fails_with 'File too large' truncate -s 2M f
}

@test "content of exactly max-value is kept" {
    head -c 1048576 /dev/urandom >"$S/source"
    cp "$S/source" f
    cmp "$S/source" f
}

@test "a shell learns of a value too large from the write" {
    needs_quorumfs
    fails_with 'File too large' x 'head -c 2000000 /dev/zero > f'
}

@test "a write beyond the quota fails at once with ENOSPC, and deleting frees it" {
    needs_quorumfs
    put f 'old\n'
    leave_room 1000000
    x 'head -c 600K /dev/zero > big'
    actor_start A
    A open 3 f wt
    A fails ENOSPC fill 3 x 700000
    A _exit
    fails_with 'No space left' x 'head -c 700000 /dev/zero > g'
    rm -f g big
    x 'head -c 700000 /dev/zero > f'
    same size "$(stat -c %s f)" 700000
}

@test "a commit that fails is returned by close, counted, logged, and told once more by sync" {
    needs_quorumfs
    local before=$(setting_of "$MNT/.quorum/status" failed_commits)
    put f 'old\n'
    actor_start A
    A open 3 f wt
    A fill 3 x 600000
    configure max-value 512K
    A fails EFBIG close 3
    configure max-value 1M
    holds f 'old\n'
    same failed_commits "$(setting_of "$MNT/.quorum/status" failed_commits)" $((before + 1))
    expect_log "commit.*/f.*uid.*$QFS_TEST_UID.*pid.*${ACTOR_PID[A]}.*actor"
    fails_with 'File too large' x 'sync f'
    x 'sync f'
}

@test "the user of a shell learns by sync what the shell could not tell" {
    needs_quorumfs
    allow_log 'commit'
    put f 'old\n'
    x "exec 3> f; head -c 600000 /dev/zero >&3; touch $S/written; while [ ! -e $S/lowered ]; do sleep 0.02; done; exec 3>&-; sync f" 2>"$S/err" &
    local shell=$!
    wait_until 5 test -e "$S/written"
    configure max-value 512K
    touch "$S/lowered"
    ! wait $shell
    grep -q 'File too large' "$S/err"
    holds f 'old\n'
}

@test "a failed commit never takes effect later" {
    needs_quorumfs
    allow_log 'commit'
    put f 'old\n'
    actor_start A
    A open 3 f wt
    A dup 3 4
    A fill 3 x 600000
    configure max-value 512K
    A fails EFBIG fsync 3
    configure max-value 1M
    A close 3
    A close 4
    A _exit
    holds f 'old\n'
}

@test "writing after a failed commit commits only what came after it" {
    needs_quorumfs
    allow_log 'commit'
    put f 'old\n'
    actor_start A
    A open 3 f wa
    A fill 3 x 600000
    configure max-value 512K
    A fails EFBIG fsync 3
    configure max-value 1M
    A write 3 $'later\n'
    A close 3
    holds f 'old\nlater\n'
}

@test "only whoever made the failed commit is told by sync" {
    needs_quorumfs
    allow_log 'commit'
    put f 'old\n'
    chmod 666 f
    actor_start A as 65534
    A open 3 f wt
    A fill 3 x 600000
    configure max-value 512K
    A fails EFBIG close 3
    configure max-value 1M
    sync f
    fails_with 'File too large' setpriv --reuid=65534 --regid=65534 --clear-groups sync f
    setpriv --reuid=65534 --regid=65534 --clear-groups sync f
}

@test "a failing write leaves the shell's own exit status right" {
    needs_quorumfs
    leave_room 200000
    fails_with 'No space left' x 'head -c 300K /dev/zero | cat > g'
    fails_with 'No space left' x 'dd if=/dev/zero of=g bs=300K count=1 status=none'
    fails_with 'No space left' x 'head -c 300K /dev/zero | tee g >/dev/null'
    (($(stat -c %s g 2>/dev/null || echo 0) <= 200000))
}
