# Permissions: as on every local filesystem, for users who are not root.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() {
    enter_test
    umask 022
    chmod 755 .
}
teardown() { leave_test; }

ANNA=65533 BERT=65534

by() { # by UID[:GROUP,...] TEXT
    local uid=${1%%:*} groups=(--clear-groups)
    [[ $1 != *:* ]] || groups=(--groups "${1#*:}")
    (umask 022 && exec setpriv --reuid="$uid" --regid="$uid" "${groups[@]}" bash -c "$2") 3>&-
}

@test "other users may enter the mount" {
    echo v >f
    same content "$(by $ANNA 'cat f')" v
}

@test "modes are enforced for owner, group and others" {
    echo v >f
    chown $ANNA:7000 f
    chmod 640 f
    by $ANNA 'cat f; echo w > f' >/dev/null
    same "by the group" "$(by $BERT:7000 'cat f')" w
    fails_with 'Permission denied' by $BERT:7000 'echo x > f'
    fails_with 'Permission denied' by $BERT 'cat f'
    fails_with 'Permission denied' by $BERT 'truncate -s 0 f'
    chmod 000 f
    fails_with 'Permission denied' by $ANNA 'cat f'
    holds f 'w\n' # root may
    chmod 604 f
    fails_with 'Permission denied' by $BERT:7000 'cat f' # the group's bits count for the group, not the others'
}

@test "a directory needs x to pass, r to list, w to change" {
    mkdir d; touch d/f
    chown $ANNA:$ANNA d d/f
    chmod 711 d
    fails_with 'Permission denied' by $BERT 'ls d'
    by $BERT 'stat d/f' >/dev/null
    fails_with 'Permission denied' by $BERT 'touch d/new'
    fails_with 'Permission denied' by $BERT 'rm -f d/f'
    fails_with 'Permission denied' by $BERT 'mkdir d/e'
    fails_with 'Permission denied' by $BERT 'mv d/f d/g'
    fails_with 'Permission denied' by $BERT 'ln -s x d/l'
    chmod 744 d
    fails_with 'Permission denied' by $BERT 'cat d/f'
    chmod 755 d
    by $BERT 'cat d/f; ls d' >/dev/null
    chmod 777 d
    by $BERT 'mv d/f d/g; touch d/h; mkdir d/e; rmdir d/e; rm d/h'
}

@test "in a sticky directory only owners remove and rename" {
    mkdir -m 1777 d
    by $ANNA 'echo v > d/f; mkdir d/e; chmod 777 d/e'
    fails_with 'Operation not permitted' by $BERT 'rm -f d/f'
    fails_with 'Operation not permitted' by $BERT 'mv d/f d/g'
    fails_with 'Operation not permitted' by $BERT 'rmdir d/e'
    fails_with 'Operation not permitted' by $BERT 'touch d/mine; mv d/mine d/f'
    by $ANNA 'mv d/f d/g; rm d/g; rmdir d/e'
}

@test "only the owner changes mode and times, and nobody gives files away" {
    touch f
    chown $ANNA:$ANNA f
    chmod 666 f
    fails_with 'Operation not permitted' by $BERT 'chmod 777 f'
    fails_with 'Operation not permitted' by $BERT 'touch -d @1000000000 f'
    by $BERT 'touch f' # who may write may set the time to now
    fails_with 'Operation not permitted' by $ANNA "chown $BERT f"
    fails_with 'Operation not permitted' by $ANNA "chgrp 7000 f"
    by $ANNA:7000 'chgrp 7000 f; chmod 600 f; touch -d @1000000000 f'
    same "owner, mode, mtime" "$(stat -c '%u:%g %a %Y' f)" "$ANNA:7000 600 1000000000"
}

@test "what a user makes belongs to the user" {
    chmod 777 .
    by $ANNA 'echo v > f; mkdir d; ln -s f l; umask 077; echo w > g'
    same owners "$(stat -c '%u:%g' f d l g | sort -u)" "$ANNA:$ANNA"
    same modes "$(stat -c %a f d g | paste -sd' ')" '644 755 600'
}

@test "a setgid directory hands down its group" {
    mkdir d
    chgrp 7000 d
    chmod 2777 d
    by $ANNA 'echo v > d/f; mkdir d/e; ln -s x d/l'
    same groups "$(stat -c %g d/f d/e d/l | sort -u)" 7000
    same "mode of the directory" "$(stat -c %a d/e)" 2755
    by $ANNA 'echo v > d/e/f'
    same "group" "$(stat -c %g d/e/f)" 7000
}

@test "a write by another user takes the suid and sgid bits" {
    echo v >f
    chown $ANNA:$ANNA f
    chmod 6777 f
    by $BERT 'echo w > f'
    same mode "$(stat -c %a f)" 777
    chmod 6777 f
    by $BERT 'truncate -s 1 f'
    same mode "$(stat -c %a f)" 777
    chmod 4755 f
    chown $BERT f
    same "mode after chown" "$(stat -c %a f)" 755
}

@test "a file that may not be written can be by who made it so" {
    chmod 777 .
    by $ANNA '(umask 777; echo v > f); ls -l f'
    same mode "$(stat -c %a f)" 0
    holds f 'v\n'
    by $ANNA 'exec 3> g; chmod 000 g; echo v >&3; exec 3>&-'
    holds g 'v\n'
}

@test "an open file stays usable when its permissions go" {
    echo v >f
    chown $ANNA:$ANNA f
    actor_start A as $ANNA
    A open 3 f +
    chown root:root f
    chmod 600 f
    A pread 3 0 10
    same read "$(said)" 'v\n'
    A pwrite 3 0 w
    A close 3
    holds f 'w\n'
    A fails EACCES open 3 f r
}

@test "scripts and programs on the tree run when they may" {
    printf '#!/bin/sh\necho ran $0\n' >script
    cp /bin/true program
    chmod 644 script
    fails_with 'Permission denied' ./script
    chmod 755 script program
    same output "$(./script)" 'ran ./script'
    ./program
    by $ANNA ./script
}

@test "the mount is nosuid and nodev" {
    needs_quorumfs
    grep " $MNT " /proc/self/mountinfo | grep -w nosuid | grep -qw nodev
}

@test "access(2) says what open would" {
    echo v >f
    chown $ANNA:$ANNA f
    chmod 600 f
    same "for the owner" "$(by $ANNA 'syscall access f 6')" ok
    same "for others" "$(by $BERT 'syscall access f 4; true')" EACCES
    same "to execute" "$(by $ANNA 'syscall access f 1; true')" EACCES
}

@test "extended attributes follow the file's permissions" {
    needs_quorumfs
    echo v >f
    setfattr -n user.a -v 1 f
    same value "$(by $ANNA 'getfattr --only-values -n user.a f')" 1
    fails_with 'Permission denied' by $ANNA 'setfattr -n user.a -v 2 f'
    chmod 600 f
    fails_with 'Permission denied' by $ANNA 'getfattr --only-values -n user.a f'
    fails_with 'Permission denied' by $ANNA 'getfattr --only-values -n user.quorum f'
}

@test "the writer of a commit is the user who wrote" {
    needs_quorumfs
    chmod 777 .
    by $ANNA 'echo v > f'
    [[ $(fact f writer) == "member 1 uid $ANNA pid "*" bash" ]] || fail "writer: $(fact f writer)"
}

@test "a program cannot forge facts by its name" {
    needs_quorumfs
    QFS_SHELL=dash x "printf 'a\\nversion: 9' > /proc/\$\$/comm; echo v > f"
    same version "$(getfattr --only-values -n user.quorum f | grep -c ^version)" 1
    [[ $(fact f writer) == *" a?version: 9" ]] || fail "writer: $(fact f writer)"
}

@test "a pending file of one user is hidden from another" {
    needs_quorumfs
    chmod 777 .
    actor_start A as $ANNA
    A setsid
    A open 3 f wct
    A write 3 v
    ! by $BERT 'test -e f' || false
    A close 3
    by $BERT 'test -e f'
}

# ANNA makes a file that nobody else sees yet, and somebody else takes the name before she closes it.
annas_pending() { # annas_pending FLAGS
    chmod 1777 .
    actor_start A as $ANNA
    A setsid
    A open 3 f "$1"
    A write 3 mine
}

@test "a pending file does not write to a file that has taken its name and may not be written" {
    needs_quorumfs
    annas_pending +ct
    (umask 077 && echo secret >f)
    A fails EACCES close 3
    expect_log 'commit.*Permission denied|commit.*permission denied'
    holds f 'secret\n'
    A read 3 100 || true
    [[ $(said) != *secret* ]]
}

@test "a pending file neither reads what has taken its name and may only be written" {
    needs_quorumfs
    annas_pending +c
    echo secret >f
    chmod 622 f
    A fails EACCES fsync 3
    expect_log 'commit.*ermission denied'
    holds f 'secret\n'
}

@test "a pending file writes to what has taken its name if a group of its maker may" {
    needs_quorumfs
    chmod 1777 .
    by $ANNA:4711 "exec setsid -w bash -c 'exec 3>f; echo mine >&3; touch $S/written; while [ ! -e $S/taken ]; do sleep 0.02; done; exec 3>&-'" &
    local anna=$!
    wait_until 5 test -e "$S/written"
    echo theirs >f
    chgrp 4711 f
    chmod 620 f
    touch "$S/taken"
    wait $anna
    holds f 'mine\n'
}

@test "a relative symbolic link in a sticky directory is as the kernel says" {
    mkdir -m 1777 d
    by $ANNA 'echo v > d/f; ln -s f d/l'
    same content "$(by $ANNA 'cat d/l')" v
}
