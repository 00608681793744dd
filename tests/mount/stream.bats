# Event streams: .quorum/watch/PATH/.events and .quorum/since/REV/PATH/.events.
load ../lib/harness
setup_file() {
    root_file || return 1
    [ "${QFS_FAILPOINTS:-1}" != 1 ] || export QUORUMFS_FAILPOINTS=${QUORUMFS_FAILPOINTS:+$QUORUMFS_FAILPOINTS,}fs.watch.few=while:$QFS_ROOT/few,fs.feed.match=while:$QFS_ROOT/slow,fs.feed.tail=hold:$QFS_ROOT/hold
    daemon_start
}
teardown_file() { unmount_file; }
setup() {
    enter_test
    Q=$MNT/.quorum
    t=${T#"$MNT/"}
    R0=$(rev)
}
teardown() {
    rm -f "$QFS_ROOT/slow" "$QFS_ROOT/hold"
    leave_test
}

# events [PATH [REV]]: what has happened there after REV (this test's beginning) up to now, without the revisions. It is asked for until it is what
# is expected: a member that is busy may be late with the last of it.
events() { events_of "$Q/since/${2:-$R0}${1:+/$1}/.events" | cut -f2- | tr '\t' ' '; }

here() { events "$t" "$@" | sed "s|$t/||g"; } # of this test's directory, with names relative to it
there() { events "$t/$1" | sed "s|$t/||g"; }   # of a name in it

follow() { # follow FILE STREAM [COMMAND...]: a reader in the background
    local out=$1 stream=$2
    shift 2
    "$@" cat "$stream" >"$out" 2>"$out.err" 3>&- &
    FOLLOWER=$!
    disown
}

has_open() { ls -l "/proc/$1/fd" | grep -q 'quorum/'; }

# ---- What is told -----------------------------------------------------------------------------------------------------------------

@test "a line for every change, with the path of that revision" {
    echo 1 >f
    mkdir d
    mv f d/g
    mv d e
    echo 2 >e/g
    chmod 600 e/g
    ln -s e/g l
    rm l
    rm -r e
    becomes lines "$(printf '%s\n' 'put f' 'mkdir d' 'rename f d/g' 'rename d e' 'put e/g' 'attrib e/g' 'symlink l' 'delete l' 'delete e/g' 'rmdir e')" here
}

@test "a line has the revision, tabs, and escapes" {
    local line
    printf x >"$(printf 'a\\b\tc\nd')"
    IFS= read -r line <"$Q/since/$R0/$t/.events"
    same line "$line" "$(printf '%s\tput\t%s/a\\\\b\\tc\\nd' "$((R0 + 1))" "$t")"
}

@test "xattrs and times are attribute changes; what changes nothing tells nothing" {
    echo 1 >f
    setfattr -n user.a -v 1 f
    touch -d @5 f
    cat f >/dev/null
    ls -l >/dev/null
    becomes lines "$(printf '%s\n' 'put f' 'attrib f' 'attrib f')" here
}

@test "a rename over a file, and an exchange" {
    echo 1 >a
    echo 2 >b
    R0=$(rev)
    mv a b
    becomes "over a file" "$(printf '%s\n' 'delete b' 'rename a b')" here
    echo 3 >c
    R0=$(rev)
    python3 -c 'import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
sys.exit(libc.renameat2(-100, b"b", -100, b"c", 2) and ctypes.get_errno())'
    becomes exchange "$(printf '%s\n' 'rename b c' 'rename c b')" here
    same revisions "$(($(rev) - R0))" 1
}

@test "attributes of the root itself are told as ." {
    chmod 711 "$MNT"
    chmod 755 "$MNT"
    all() { events '' | sort -u; }
    becomes lines 'attrib .' all
}

# ---- Which changes ------------------------------------------------------------------------------------------------------------------

@test "a stream of a directory shows it and what is below it" {
    mkdir d dd
    echo 1 >d/f
    echo 1 >dd/f
    echo 1 >f
    mkdir d/e
    echo 1 >d/e/f
    rm -r d
    sorted() { there d | sort; }
    becomes lines "$(printf '%s\n' 'mkdir d' 'put d/f' 'mkdir d/e' 'put d/e/f' 'delete d/f' 'delete d/e/f' 'rmdir d/e' 'rmdir d' | sort)" sorted
}

@test "a stream of a file, and of a name that does not exist yet" {
    follow "$S/out" "$Q/since/$R0/$t/later/f/.events"
    mkdir later
    echo 1 >later/g
    echo 1 >later/f
    echo 2 >>later/f
    rm later/f
    mkdir later/f
    echo 1 >later/f/x
    wait_until 5 grep -q 'later/f/x' "$S/out"
    kill "$FOLLOWER"
    same lines "$(cut -f2,3 "$S/out" | sed "s|$t/||" | tr '\t' ' ')" "$(printf '%s\n' 'put later/f' 'put later/f' 'delete later/f' 'mkdir later/f' 'put later/f/x')"
}

@test "a rename is told when either end is inside, or above" {
    mkdir -p a b out
    echo 1 >a/f
    echo 1 >out/g
    R0=$(rev)
    mv a/f out/f
    mv out/g a/g
    mv out out2
    mv a a2
    mv a2 a
    becomes lines "$(printf '%s\n' 'rename a/f out/f' 'rename out/g a/g' 'rename a a2' 'rename a2 a')" there a
    becomes "of a name inside" "$(printf '%s\n' 'rename out/g a/g' 'rename a a2' 'rename a2 a')" there a/g
}

@test "the rename of a file is none of a directory above" {
    echo 1 >a
    mv a c
    becomes lines '' there a/b
}

@test "in a tree that is deeper than any path each change is told, and costs little" {
    local before after
    before=$(awk '/^VmHWM/ { print $2 }' "/proc/$(daemon_pid)/status")
    within 100 python3 - "$T" "$Q/since/$R0/$t/.events" "$Q/watch/$t/.events" <<'P'
import os, sys
name = 'd' * 250
watch = os.open(sys.argv[3], os.O_RDONLY)
os.chdir(sys.argv[1])
for i in range(1000):
    os.mkdir(name)
    os.chdir(name)
open('f', 'w').close()
os.chmod('.', 0o700)
os.rename('f', 'g')
path = os.path.basename(sys.argv[1]) + ('/' + name) * 1000
for fd in watch, os.open(sys.argv[2], os.O_RDONLY):
    seen = bytearray()
    while not seen.endswith(b'/g\n'):
        seen += os.read(fd, 1 << 20)
    lines = [l.split('\t') for l in seen.decode().splitlines()][-4:]
    assert [l[1:] for l in lines] == [['mkdir', path], ['put', path + '/f'], ['attrib', path], ['rename', path + '/f', path + '/g']]
P
    after=$(awk '/^VmHWM/ { print $2 }' "/proc/$(daemon_pid)/status")
    [ -n "$QFS_SANITIZE" ] || [ $((after - before)) -lt 100000 ] || fail "it took $((after - before)) KiB"
}

@test "the whole tree, and watch/ beside since/" {
    follow "$S/out" "$Q/since/$R0/.events"
    actor_start A
    A open 3 "$Q/watch/$t/.events" rn
    A fails EAGAIN read 3 100
    mkdir d
    echo 1 >d/f
    wait_until 5 grep -q "d/f" "$S/out"
    kill "$FOLLOWER"
    wait_until 5 A read 3 1000
    [[ $(said) == *mkdir* ]] || fail "$(said)"
}

# ---- Reading -----------------------------------------------------------------------------------------------------------------------

@test "a reader blocks until something happens" {
    follow "$S/out" "$Q/watch/$t/.events"
    wait_until 5 has_open "$FOLLOWER"
    [ ! -s "$S/out" ] || fail "$(cat "$S/out")"
    echo 1 >f
    wait_until 5 test -s "$S/out"
    kill "$FOLLOWER"
}

@test "a blocked reader dies of Ctrl-C, timeout and kill -9, and the files go on working" {
    local sig
    for sig in INT TERM KILL; do
        env --default-signal=INT cat "$Q/watch/$t/.events" >/dev/null 3>&- &
        local pid=$!
        disown
        wait_until 5 has_open "$pid"
        kill -"$sig" "$pid"
        wait_until 5 test ! -e "/proc/$pid/stat"
    done
    echo 1 >f
    becomes lines 'put f' here
}

@test "any signal ends a blocked read with EINTR" {
    within 10 python3 - "$Q/watch/$t/.events" <<'P'
import os, signal, sys
class Rang(Exception): pass
def ring(*_): raise Rang # Python would go on reading otherwise
signal.signal(signal.SIGALRM, ring)
fd = os.open(sys.argv[1], os.O_RDONLY)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    os.read(fd, 100)
    sys.exit('read returned')
except Rang:
    pass
P
}

@test "readers of one descriptor do not wait for each other where no signal reaches them" {
    within 20 python3 - "$Q/watch/$t/.events" "$T/f" <<'P'
import os, signal, sys, time
fd = os.open(sys.argv[1], os.O_RDONLY)
def reader():
    pid = os.fork()
    if pid == 0:
        os._exit(len(os.read(fd, 4096)) > 0)
    while open('/proc/%d/stat' % pid).read().rpartition(') ')[2][0] not in 'SD':
        time.sleep(0.01)
    time.sleep(0.1)
    return pid
def ended(pid):
    until = time.monotonic() + 30
    while time.monotonic() < until:
        who, status = os.waitpid(pid, os.WNOHANG)
        if who:
            return status
        time.sleep(0.01)
first, second = reader(), reader()
os.kill(second, signal.SIGTERM)
status = ended(second)
open(sys.argv[2], 'w').write('1') # or the first one would never end
assert status is not None and os.WTERMSIG(status) == signal.SIGTERM, status
assert os.WEXITSTATUS(ended(first)) == 1
P
}

@test "head -1 gets its line and no more" {
    echo 1 >f
    echo 1 >g
    same line "$(within 5 head -1 "$Q/since/$R0/$t/.events" 2>/dev/null | cut -f2)" put
}

@test "small reads cut lines and lose nothing; large ones have whole revisions" {
    echo 1 >f
    mv f g
    echo 1 >h
    mv h g
    within 10 python3 - "$Q/since/$R0/$t/.events" <<'P'
import os, sys
def whole(size):
    fd = os.open(sys.argv[1], os.O_RDONLY | os.O_NONBLOCK)
    parts = []
    while sum(p.count(b'\n') for p in parts) < 5:
        try:
            parts.append(os.read(fd, size))
        except BlockingIOError:
            pass
    os.close(fd)
    return parts
all = b''.join(whole(4096))
assert len(all.splitlines()) == 5, all
for size in range(1, 200):
    parts = whole(size)
    assert b''.join(parts) == all, (size, parts)
    assert all.count(b'\n') > 1
    if size > max(len(l) for l in all.splitlines()): # each read has whole lines
        assert all and [p for p in parts if not p.endswith(b'\n')] == [], (size, parts)
    last = [l for l in all.splitlines(True) if l.startswith(all.splitlines()[-1].split(b'\t')[0])]
    if size >= len(b''.join(last)) and size < len(all): # the delete and the rename of one revision come together
        assert any(b''.join(last) in p for p in parts), (size, parts)
P
}

@test "O_NONBLOCK says EAGAIN, also when it was set later" {
    within 10 python3 - "$Q/watch/$t/.events" <<'P'
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK)
try:
    os.read(fd, 100)
    sys.exit('read returned')
except BlockingIOError:
    pass
P
}

@test "poll, select and epoll, level and edge triggered" {
    within 20 python3 - "$Q/watch/$t/.events" "$T" <<'P'
import os, select, sys, threading
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_NONBLOCK)
n = 0
def change():
    global n
    n += 1
    with open('%s/f%d' % (sys.argv[2], n), 'w') as f:
        f.write('x')
def drain():
    out = b''
    try:
        while True:
            out += os.read(fd, 4096)
    except BlockingIOError:
        return out
def waits(how, wait):
    assert not wait(0.1), how + ': ready, though there is nothing'
    t = threading.Timer(0.1, change)
    t.start()
    assert wait(25), how + ': not woken'
    t.join()
    assert drain().count(b'\n') == 1, how
    change()
    assert wait(25), how + ': not ready, though there is something'
    assert drain().count(b'\n') == 1, how
p = select.poll()
p.register(fd, select.POLLIN)
waits('poll', lambda s: p.poll(s * 1000))
waits('select', lambda s: select.select([fd], [], [], s)[0])
e = select.epoll()
e.register(fd, select.EPOLLIN)
waits('epoll', lambda s: e.poll(s))
e.unregister(fd)
e.register(fd, select.EPOLLIN | select.EPOLLET)
waits('epoll, edge triggered', lambda s: e.poll(s))
P
}

@test "many streams of the same and of other names" {
    within 30 python3 - "$Q" "$t" "$T" <<'P'
import os, sys
q, t, dir = sys.argv[1:]
same = [os.open('%s/watch/%s/.events' % (q, t), os.O_RDONLY) for _ in range(50)]
own = [os.open('%s/watch/%s/f%d/.events' % (q, t, i), os.O_RDONLY) for i in range(50)]
for i in range(50):
    open('%s/f%d' % (dir, i), 'w').close()
for fd in same:
    got = b''
    while got.count(b'\n') < 50:
        got += os.read(fd, 65536)
    assert [l.split(b'\t')[2].rsplit(b'f')[1] for l in got.splitlines()] == [b'%d' % i for i in range(50)], got
for i, fd in enumerate(own):
    got = os.read(fd, 65536)
    assert got.count(b'\n') == 1 and got.endswith(b'/f%d\n' % i), got
P
}

@test "a thousand streams of one user, and not one more" {
    within 30 python3 - "$Q/watch/.events" <<'P'
import errno, os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (1200, 1200))
fds = [os.open(sys.argv[1], os.O_RDONLY) for _ in range(1000)]
try:
    os.open(sys.argv[1], os.O_RDONLY)
    sys.exit('one more could be opened')
except OSError as e:
    assert e.errno == errno.EMFILE, e
P
}

@test "it can be opened for reading only, and nothing is made or removed there" {
    allow_log 'refused'
    fails_with 'Permission denied' x "echo > $Q/watch/$t/.events"
    fails_with 'File exists' mkdir "$Q/watch/x"
    fails_with 'Operation not permitted' rm -f "$Q/watch/$t/.events"
    same listed "$(ls -A "$Q/watch" "$Q/since" | grep -v : | tr -d '\n')" ''
    same "listed below" "$(ls -A "$Q/watch/$t")" ''
    fails_with 'Is a directory' cat "$Q/watch/$t"
}

# ---- Resuming ------------------------------------------------------------------------------------------------------------------------

@test "since/ goes on where a consumer stopped" {
    local last
    echo 1 >a
    echo 1 >b
    last=$(head -1 "$Q/since/$R0/$t/.events" 2>/dev/null | cut -f1)
    becomes lines 'put b' here "$last"
    becomes "nothing after now" '' here "$(rev)"
}

@test "since/0 is everything there ever was" {
    same first "$(head -1 "$Q/since/0/.events" 2>/dev/null | cut -f1)" 2
}

@test "a revision of the future is ERANGE, no revision ENOENT" {
    fails_with 'Numerical result out of range' cat "$Q/since/$(($(rev) + 1))/.events"
    fails_with 'No such file' cat "$Q/since/x/.events"
    fails_with 'No such file' cat "$Q/since/12x/.events"
    fails_with 'No such file' cat "$Q/since/.events"
}

@test "compacted is ESTALE, at once and for a reader that is too slow" {
    local r
    echo 1 >a
    actor_start A
    A open 3 "$Q/since/$R0/$t/a/.events" rn
    for i in $(seq 30); do echo "$i" >b; done
    r=$(rev)
    wait_until 5 A read 3 1000 # of a; it is up to date then
    echo "$r" >"$Q/compact"
    fails_with 'Stale file handle' cat "$Q/since/$((r - 1))/.events"
    echo 1 >a
    wait_until 5 A read 3 1000 # one that is up to date loses nothing
    [[ $(said) == *put* ]] || fail "$(said)"
    becomes "from the compacted revision on" 'put a' here "$r"
}

@test "a stream that is behind a compaction ends with ESTALE, never with a gap" {
    within 60 python3 - "$Q" "$t" "$T" <<'P'
import errno, os, sys
q, t, dir = sys.argv[1:]
def rev():
    return int(open(q + '/revision').read())
start = rev()
fd = os.open('%s/since/%d/.events' % (q, start), os.O_RDONLY | os.O_NONBLOCK)
for i in range(3000): # more than the first block of a stream that is behind
    f = os.open(dir + '/f', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(f, b'%d' % i)
    os.close(f)
got = b''
while not got:
    try:
        got = os.read(fd, 4096)
    except BlockingIOError:
        pass
os.write(os.open(q + '/compact', os.O_WRONLY), b'%d\n' % rev())
last, ended = start, False
while True:
    for line in got.splitlines():
        r = int(line.split(b'\t')[0])
        assert r == last + 1, (r, last)
        last = r
    if last >= start + 3000:
        break # it had been read before it was compacted
    try:
        got = os.read(fd, 4096)
    except BlockingIOError:
        got = b''
    except OSError as e:
        assert e.errno == errno.ESTALE, e
        break
P
}

@test "a compaction that the tail has not come to ends only streams that it takes something from" {
    needs_failpoints
    local early late
    follow "$S/early" "$Q/watch/$t/.events"
    early=$FOLLOWER
    wait_until 5 has_open "$early"
    echo 1 >a
    wait_until 5 test -s "$S/early" # the tail has been read
    touch "$QFS_ROOT/hold"
    echo 1 >b
    rev >"$Q/compact"
    follow "$S/late" "$Q/watch/$t/.events"
    late=$FOLLOWER
    wait_until 5 has_open "$late"
    rm "$QFS_ROOT/hold"
    wait_until 5 grep -q 'Stale file handle' "$S/early.err"
    echo 1 >c
    wait_until 5 test -s "$S/late" || return 1
    same late "$(cut -f2- "$S/late")" "$(printf 'put\t%s/c' "$t")"
    same early "$(cut -f2- "$S/early")" "$(printf 'put\t%s/a' "$t")"
    kill "$late"
}

# ---- Who sees what --------------------------------------------------------------------------------------------------------------------

as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }

@test "names in directories that one may not search are not told" {
    chmod 755 .
    mkdir secret open listed
    chmod 700 secret
    chmod 711 open
    echo 1 >secret/f
    echo 1 >open/f
    echo 1 >listed/f
    mv listed/f secret/g
    mv secret/f listed/h
    as_nobody env PATH="$PATH" python3 - "$Q/since/$R0/$t/.events" "$t" >"$S/seen" <<'P'
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
while True:
    got = os.read(fd, 65536).decode()
    for line in got.splitlines():
        print(' '.join(line.split('\t')[1:]).replace(sys.argv[2] + '/', ''))
    if 'listed/h' in got:
        break
P
    # f in `open` cannot be listed by them, only be looked up; a rename from or to a hidden place is what it is from here
    same seen "$(grep -v attrib "$S/seen" | tr '\n' ',')" 'mkdir secret,mkdir open,mkdir listed,put listed/f,delete listed/f,put listed/h,'
    same "by its name" "$(as_nobody head -1 "$Q/since/$R0/$t/open/f/.events" 2>/dev/null | cut -f2)" put
}

@test "a name outside of a stream's path is told only to those who may list it" {
    chmod 755 .
    mkdir -p far/off/place open
    chmod 711 open
    echo 1 >open/f
    mv open/f far/off/place/g
    mv far/off/place/g open/h
    mkdir open/d
    chmod 711 open/d
    echo 1 >open/d/f
    same seen "$(as_nobody head -2 "$Q/since/$R0/$t/far/off/place/.events" 2>/dev/null | cut -f2- | tr '\t\n' ' ,')" \
        "mkdir $t/far/off/place,put $t/far/off/place/g,"
    same "then it goes" "$(as_nobody head -3 "$Q/since/$R0/$t/far/off/place/.events" 2>/dev/null | tail -1 | cut -f2-)" "$(printf "delete\t$t/far/off/place/g")"
    same "who names it may see it" "$(as_nobody head -1 "$Q/since/$R0/$t/open/d/f/.events" 2>/dev/null | cut -f2)" put
}

@test "while it is looked up who has asked for events, others write and open streams" {
    needs_failpoints
    local i fd told
    chmod 755 .
    mkdir secret
    chmod 700 secret
    follow "$S/out" "$Q/watch/$t/.events" setpriv --reuid=65534 --regid=65534 --clear-groups
    wait_until 5 has_open $FOLLOWER
    mkdir "$Q/txn/x"
    for i in {1..600}; do # a block by itself
        : >"$Q/txn/x/tree/$t/secret/f$i"
    done
    echo 1 >f
    wait_until 5 test -s "$S/out" # everything up to here was looked at
    told=$(cat "$S/out")
    touch "$QFS_ROOT/slow" # six seconds
    echo >"$Q/txn/x/commit"
    for i in {1..10}; do
        echo "$i" >f
        exec {fd}<"$Q/watch/$t/secret/.events"
        exec {fd}<&-
    done
    same "told before it was looked at" "$(cat "$S/out")" "$told"
    rm "$QFS_ROOT/slow"
    wait_until 5 eval '[ "$(tail -1 "$S/out" | cut -f1)" = "$(rev)" ]'
    rmdir "$Q/txn/x"
    kill $FOLLOWER
}

@test "names that were looked up once are forgotten, those in use are not" {
    needs_failpoints
    follow "$S/out" "$Q/watch/$t/.events"
    wait_until 5 has_open $FOLLOWER
    touch "$QFS_ROOT/few"
    local i
    for i in {1..500}; do
        wait_until 5 test -d "$Q/watch/some$i" || return 1
    done
    rm "$QFS_ROOT/few"
    echo 1 >f
    wait_until 5 grep -q "put.$t/f" "$S/out"
    same "opened anew" "$(head -1 "$Q/since/$R0/$t/f/.events" 2>/dev/null | cut -f2)" put
}

@test "names that one user holds open leave room for others" {
    needs_failpoints
    touch "$QFS_ROOT/few"
    within 60 python3 - "$Q/watch" <<'P'
import errno, os, sys
def chain(name): # names, each in the one before, as many as can be; the last one keeps them all
    at = os.open(sys.argv[1], os.O_PATH)
    for n in range(300):
        try:
            below = os.open(name, os.O_PATH, dir_fd=at)
        except OSError as e:
            assert e.errno == errno.ENFILE, e
            break
        os.close(at)
        at, name = below, 'a'
    return n, at
def fill(uid, least, most):
    os.seteuid(0)
    os.seteuid(uid)
    while True: # what earlier tests looked up is forgotten meanwhile
        n, end = chain('of%d' % uid)
        assert n <= most, n
        if n >= least:
            return end
        os.close(end)
kept, kept_too = fill(65534, 80, 100), fill(65533, 35, 60)
os.seteuid(0)
for i in range(10):
    os.close(os.open(sys.argv[1] + '/root%d/.events' % i, os.O_RDONLY))
os.close(kept)
os.close(kept_too)
P
    rm "$QFS_ROOT/few"
}

# ---- The end -------------------------------------------------------------------------------------------------------------------------

@test "when the member stops, readers get the end of the file after a whole revision" {
    follow "$S/out" "$Q/since/$R0/$t/.events"
    echo 1 >f
    wait_until 5 test -s "$S/out"
    cd "$QFS_ROOT"
    kill -TERM "$(daemon_pid)"
    daemon_gone 0
    wait_until 5 test ! -e "/proc/$FOLLOWER/stat"
    same "said by the reader" "$(cat "$S/out.err")" ''
    daemon_start
    echo 1 >"$T/g"
    becomes "and resumes" 'put g' here "$(tail -1 "$S/out" | cut -f1)"
}

@test "pages that were read for streams which nobody reads are bounded for each user" {
    needs_failpoints
    local from
    daemon_stop
    QUORUMFS_FAILPOINTS=fs.feed.few=error daemon_start # 64 KiB
    cd "$T"
    from=$(rev)
    python3 -c 'for i in range(400): open("file-%d-of-many-with-a-name-that-is-long-enough" % i, "w").close()'
    setpriv --reuid=65534 --clear-groups timeout $((60 * QFS_TIME_SCALE)) python3 - "$MNT/.quorum/since/$from/.events" <<'P'
import errno, os, select, sys
def streams(n):
    fds = [os.open(sys.argv[1], os.O_RDONLY | os.O_NONBLOCK) for i in range(n)]
    for fd in fds:
        p = select.poll()
        p.register(fd, select.POLLIN)
        assert p.poll()
    return fds
def read(fd):
    try:
        assert b'file-0-' in os.read(fd, 1 << 20)
        return 0
    except OSError as e:
        return e.errno
fds = streams(20)
seen = [read(fd) for fd in fds]
assert set(seen) == {0, errno.ENOMEM}, seen
for fd in fds:
    os.close(fd)
assert read(streams(1)[0]) == 0
P
    python3 - "$MNT/.quorum/since/$from/.events" <<'P'
import os, sys
fds = [os.open(sys.argv[1], os.O_RDONLY) for i in range(20)]
for fd in fds:
    assert b'file-0-' in os.read(fd, 1 << 20)
P
    cd /
    daemon_stop
    daemon_start
    cd "$T"
}
