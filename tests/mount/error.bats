# Commits that fail: told as early as it is known, by close, and by sync; and never taking effect later.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() { enter_test; }
teardown() {
    restore_settings
    leave_test
}

# ---- Helpers --------------------------------------------------------------------------------------------------------------------

configure() { echo "$2" >"$MNT/.quorum/config/$1"; }

restore_settings() { # what a failed test may have left
    [ "$QFS_TEST_ON" = quorumfs ] || return 0
    configure quota 2G && configure max-value 1M && rm -f "$MNT/filler"
}

leave_room() { # leave_room SIZE: the quota is that much above what is used; it cannot be below 1 MiB, so that much is used first
    [ -e "$MNT/filler" ] || head -c 1M /dev/zero >"$MNT/filler"
    configure quota $(($(setting_of "$MNT/.quorum/status" bytes) + $1))
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
    ! wait $shell || false
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

@test "one user's uncommitted writes leave room for others" {
    needs_quorumfs
    chmod 777 .
    head -c 1M /dev/zero >"$S/zeros"
    chmod 644 "$S/zeros"
    setpriv --reuid=65533 --regid=65533 --clear-groups bash -c "
        for i in {1..300}; do
            exec {fd}>f\$i || exit 1
            cat $S/zeros >&\$fd || break
        done 2>$S/err
        touch $S/full
        while [ ! -e $S/enough ]; do sleep 0.02; done
        kill -9 \$\$" 3>&- &
    local hoarder=$! wrote=no
    wait_until 20 test -e "$S/full"
    cat "$S/zeros" >mine && wrote=yes
    touch "$S/enough"
    wait $hoarder || true
    grep -q 'Cannot allocate memory' "$S/err"
    same "somebody else wrote" $wrote yes
    same size "$(stat -c %s mine)" 1048576
}

@test "the contents of one user's open files leave room for root, and for small files" {
    needs_quorumfs
    needs_failpoints
    daemon_stop
    QUORUMFS_FAILPOINTS=fs.content.few=error daemon_start
    cd "$T"
    umask 022 # others open them, too
    chmod 755 .
    local i
    for i in 1 2 3 4; do head -c 300000 /dev/zero >f$i; done
    echo 1 >small
    within 20 python3 - <<'P'
import errno, os
def opens(name):
    try:
        held.append(os.open(name, os.O_RDONLY))
        return True
    except OSError as e:
        assert e.errno == errno.ENOMEM, e
        return False
held = []
os.seteuid(65534)
assert [opens('f%d' % i) for i in (1, 2, 3)] == [True, False, False]
assert opens('small')
os.seteuid(0)
assert [opens('f%d' % i) for i in (2, 3, 4)] == [True, True, False]
os.seteuid(65534)
assert opens('f3'), 'which somebody has open already'
P
    daemon_stop
    daemon_start
}

@test "what open files show of edits, and lists of directories, count as contents" {
    needs_quorumfs
    needs_failpoints
    daemon_stop
    QUORUMFS_FAILPOINTS=fs.content.few=error daemon_start
    cd "$T"
    umask 022
    head -c 100000 /dev/zero >f
    chmod 666 f
    mkdir d && (cd d && touch $(printf 'name%0200d ' {1..500}))
    echo 1 >small
    within 20 python3 - <<'P'
import errno, os
def hold(what, held):
    try:
        while len(held) < 100:
            held.append(os.open("d" if what == "lists" else "f", os.O_RDONLY if what == "lists" else os.O_RDWR))
            if what == "edits": # one content for all, but each has edits of its own
                os.pwrite(held[-1], b"x", 0)
            elif what == "sizes":
                os.ftruncate(held[-1], 100000)
    except OSError as e:
        assert e.errno == errno.ENOMEM, e
    print("%d open with %s" % (len(held), what))
    assert len(held) < 20
for what in "edits", "sizes", "lists":
    held = []
    os.seteuid(65534)
    hold(what, held)
    os.close(os.open("small", os.O_RDONLY))
    os.seteuid(0)
    assert len(os.listdir("d")) == 500 and len(open("f", "rb").read()) == 100000
    for fd in held:
        os.close(fd)
P
    daemon_stop
    daemon_start
}

@test "a file's name cannot forge a line of the log" {
    needs_quorumfs
    local name=$'f\nquorumfs: info: forged\e[2J'
    put "$name" 'old\n'
    actor_start A
    A open 3 "$name" wt
    A fill 3 x 600000
    configure max-value 512K
    A fails EFBIG close 3
    configure max-value 1M
    expect_log 'commit of ".*/f\?quorumfs: info: forged\?\[2J" by uid'
    ! grep -q '^quorumfs: info: forged' "$MNT.log" || false
}

@test "the rest of a new content whose beginning failed is refused" {
    needs_quorumfs
    allow_log 'commit'
    put f 'old old\n'
    actor_start A
    A open 3 f wt
    A fill 3 x 600000
    configure max-value 512K
    A fails EFBIG fsync 3
    configure max-value 1M
    A fails EFBIG write 3 later
    holds f 'old old\n'
    A ftruncate 3 0
    A seek 3 0
    A write 3 $'new\n'
    A close 3
    holds f 'new\n'
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
