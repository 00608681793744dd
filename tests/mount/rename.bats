# Renaming: one revision, atomic, also over an existing target and for whole directories.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() { enter_test; }
teardown() { leave_test; }

@test "a file, a link and a directory are renamed in one revision" {
    x 'echo v > f; ln -s target l; mkdir d; echo w > d/g'
    expect_revisions 1 'mv f f2'
    expect_revisions 1 'mv l l2'
    expect_revisions 1 'mv d d2'
    holds f2 'v\n'
    same target "$(readlink l2)" target
    holds d2/g 'w\n'
    absent f; absent l; absent d
}

@test "a rename between directories is one revision" {
    x 'mkdir -p a/x b; echo v > a/f; echo w > a/x/g'
    expect_revisions 1 'mv a/f b/'
    expect_revisions 1 'mv a/x b/y'
    holds b/f 'v\n'
    holds b/y/g 'w\n'
    same "left in a" "$(ls -A a)" ''
    same ".." "$(stat -c %i b/y/..)" "$(stat -c %i b)"
}

@test "a rename over a file replaces it in one revision" {
    x 'echo old > f; echo new > g'
    local i=$(stat -c %i g)
    expect_revisions 1 'mv g f'
    holds f 'new\n'
    absent g
    same "inode number" "$(stat -c %i f)" "$i"
}

@test "a rename over itself changes nothing" {
    x 'echo v > f'
    local before=$(rev)
    same rename "$(syscall rename f f)" ok
    same revisions $(($(rev) - before)) 0
    holds f 'v\n'
}

@test "a directory replaces only an empty directory" {
    x 'mkdir a b c; touch a/f c/g'
    same "over an empty one" "$(syscall rename a b)" ok
    [ -f b/f ]
    same "over a full one" "$(syscall rename b c)" ENOTEMPTY || same "over a full one" "$(syscall rename b c)" EEXIST
    touch file
    same "a file over a directory" "$(syscall rename file b)" EISDIR
    same "a directory over a file" "$(syscall rename b file)" ENOTDIR
    same "nothing" "$(syscall rename none x)" ENOENT
    same "into nothing" "$(syscall rename file none/x)" ENOENT
}

@test "a directory cannot move into itself" {
    mkdir -p a/b/c
    same "below itself" "$(syscall rename a a/b/c/d)" EINVAL
    same "onto its child" "$(syscall rename a a/b)" EINVAL
    same "onto its parent" "$(syscall rename a/b/c a/b)" ENOTEMPTY
    [ -d a/b/c ]
}

@test "exchange swaps two names in one revision, whatever they are" {
    x 'echo 1 > f; echo 2 > g; mkdir -p d/sub; ln -s t l'
    expect_revisions 1 'syscall exchange f g'
    holds f '2\n'
    holds g '1\n'
    expect_revisions 1 'syscall exchange f d'
    [ -d f/sub ]
    holds d '2\n'
    expect_revisions 1 'syscall exchange l g'
    same target "$(readlink g)" t
    holds l '1\n'
    x 'mkdir other; echo 3 > other/f'
    expect_revisions 1 'syscall exchange other/f f'
    [ -d other/f/sub ]
    holds f '3\n'
    same ".." "$(stat -c %i other/f/..)" "$(stat -c %i other)"
    same "with nothing" "$(syscall exchange f none)" ENOENT
    same "with its own child" "$(syscall exchange other other/f)" EINVAL
}

@test "noreplace fails where the name is taken" {
    x 'echo 1 > f; echo 2 > g; mkdir d'
    same "taken" "$(syscall noreplace f g)" EEXIST
    same "taken by a directory" "$(syscall noreplace f d)" EEXIST
    expect_revisions 1 'syscall noreplace f h'
    holds h '1\n'
    holds g '2\n'
}

@test "mv -n and mv -u leave the target alone" {
    x 'echo old > f; echo new > g; mv -n g f'
    holds f 'old\n'
    touch -d @1 g
    mv -u g f
    holds f 'old\n'
}

@test "readers always find the name while it is replaced" {
    x 'echo "<0>" > f'
    x 'for i in $(seq 200); do echo "<$i>" > new && mv new f; done; : > done' &
    local writer=$! line
    until [ -e done ]; do
        read -r line <f || { fail "the name was missing"; break; }
        [[ $line == "<"*">" ]] || { fail "read '$line'"; break; }
    done
    wait $writer
    holds f '<200>\n'
}

@test "readers always find a directory that is exchanged with a new one" {
    x 'mkdir conf new; touch {conf,new}/{a,b}'
    x 'for i in $(seq 50); do echo $i > new/a; echo $i > new/b; syscall exchange new conf >/dev/null; done; : > done' &
    local writer=$!
    until [ -e done ]; do
        [ -f conf/a ] && [ -f new/b ] || { fail "a name was missing"; break; }
    done
    wait $writer
    holds conf/a '50\n'
}

@test "an open file follows its renamed name" {
    x 'echo v > f; mkdir d'
    actor_start A
    A open 3 f +
    mv f d/g
    A pwrite 3 2 more
    A close 3
    holds d/g 'v\nmore'
    absent f
}

@test "a working directory follows its renamed name" {
    mkdir -p a/b c
    (cd a/b && mv ../../a ../../c/z && touch inside && [ "$(/bin/pwd)" = "$T/c/z/b" ])
    [ -e c/z/b/inside ]
}

@test "the link counts and times of both directories change" {
    mkdir -p a/sub b
    touch -d @1000000000 a b
    mv a/sub b/
    local links=$(stat -c %h b)
    [[ $links == [13] ]] || fail "b has $links links"
    (($(stat -c %Y a) > 1000000000 && $(stat -c %Y b) > 1000000000))
    same "entries of a" "$(ls -A a)" ''
}

@test "a replaced file that is still open stays readable" {
    x 'echo old > f; echo new > g'
    actor_start A
    A open 3 f r
    mv g f
    A read 3 100
    same read "$(said)" 'old\n'
    A nlink 3
    same links "$(said)" 0
    holds f 'new\n'
}

@test "many renames at once lose nothing" {
    local i pids=()
    mkdir a b
    for i in {1..20}; do echo $i >a/$i; done
    chmod -R a+rwX .
    for i in 1 2 3 4; do
        x "for n in {1..20}; do mv a/\$n b/\$n; mv b/\$n a/\$n; done 2>/dev/null; true" &
        pids+=($!)
    done
    wait "${pids[@]}"
    same "files left" "$(cat a/* b/* 2>/dev/null | sort -n | paste -sd' ')" "$(seq 20 | paste -sd' ')"
}

@test "moving out of the tree and back copies" {
    x "echo v > f; mkdir d; echo w > d/g; ln -s g d/l; mv f d $S/"
    absent f; absent d
    x "mv $S/f $S/d ."
    holds f 'v\n'
    holds d/g 'w\n'
    same target "$(readlink d/l)" g
}

@test "a directory of many files is renamed in one revision" {
    mkdir d
    (cd d && for i in {1..200}; do echo $i >f$i; done)
    chmod -R a+rwX .
    expect_revisions 1 'mv d e'
    holds e/f200 '200\n'
    expect_revisions 1 'mv e d'
    holds d/f1 '1\n'
}
