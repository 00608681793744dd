# When what was written becomes everybody's: closing a file is one atomic put.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() { enter_test; }
teardown() { leave_test; }

# ---- Helpers --------------------------------------------------------------------------------------------------------------------

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
    x "echo content >$S/source"
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

@test "who has opened a new file before its first commit goes on with what that made" {
    actor_start A
    actor_start B
    A open 3 new wc
    A write 3 hello
    B open 4 new +
    B open 5 new w
    A close 3
    B size 5
    same size "$(said)" 5
    B pwrite 4 0 H
    B pread 4 0 9
    same seen "$(said)" Hello
    B close 4
    B seek 5 4
    B write 5 O!
    B size 5
    same size "$(said)" 6
    B close 5
    holds new 'HellO!'
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

@test "who has the new file of a killed writer open is told that it never was" {
    needs_quorumfs
    actor_start A
    actor_start B
    A open 3 new wc
    B open 3 new w
    B open 4 new w
    actor_signal A KILL
    B write 3 v
    B fails ESTALE fsync 3
    B write 4 v
    B fails ESTALE close 4
    absent new
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

@test "a write that asks for it itself is a commit" {
    put f old
    python3 -c '
import os, subprocess
fd = os.open("f", os.O_WRONLY)
see = lambda: subprocess.check_output(["setsid", "-w", "cat", "f"])
os.pwritev(fd, [b"1"], 0)
os.pwritev(fd, [b"2"], 1, os.RWF_DSYNC)
assert see() == b"12d", see()
os.pwritev(fd, [b"3"], 2, os.RWF_SYNC)
assert see() == b"123", see()'
}

@test "dd oflag=sync commits each block" {
    needs_quorumfs
    x "printf aabb >$S/source"
    expect_revisions 2 "dd if=$S/source of=f bs=2 oflag=sync status=none"
    holds f aabb
}
