# The control tree .quorum: three laws over the whole table, and each file's own rules.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() {
    enter_test
    Q=$MNT/.quorum
}
teardown() { leave_test; }

# path, mode, kind, may be written. Each file of the control tree is here; a new one that is not fails the first test.
table() {
    cat <<'E'
README 444 file
at 555 directory
bookmarks 1777 directory
compact 644 file
config 555 directory
config/advertise 444 file
config/election-timeout 644 file
config/heartbeat 644 file
config/id 444 file
config/insecure 444 file
config/listen 444 file
config/max-value 644 file
config/quota 644 file
config/reads 444 file
config/retain 644 file
config/session-ttl 644 file
config/timeout 444 file
hash 444 file
health 444 file
history 555 directory
leader 644 file
leases 1777 directory
local 755 directory
locks 1777 directory
members 755 directory
members/1 555 directory
members/1/address 444 file
members/1/applied 444 file
members/1/lag 444 file
members/1/role 644 file
members/1/state 444 file
metrics 444 file
revision 444 file
since 555 directory
snapshot.db 400 file
status 444 file
status.json 444 file
txn 1777 directory
watch 555 directory
E
}

files() { table | awk '$3 == "file" {print $1}'; }
writable() { table | awk '$2 == 644 {print $1}'; }

state() { cat "$Q/hash"; } # the revision and a hash of all that is replicated

refused() { # refused TEXT FILE: the write fails with EINVAL and changes nothing (the shell's own printf would write line by line)
    local before=$(state)
    allow_log 'a write was refused'
    fails_with 'Invalid argument' x "env printf -- '$1' > $Q/$2"
    same "state after writing '$1' to $2" "$(state)" "$before"
}

# ---- The table ---------------------------------------------------------------------------------------------------------------------

@test "the table is complete, with its owners and modes" {
    local path mode kind
    while read -r path mode kind; do
        same "$path" "$(stat -c '%a %U' "$Q/$path")" "$mode root"
        [ "$kind" = directory ] && [ -d "$Q/$path" ] || [ -f "$Q/$path" ] || fail "$path is no $kind"
    done < <(table)
    same "names listed" "$(cd "$Q" && find . \( -path ./local -o -path './history/*' \) -prune -o -type f -print -o -path './*' -type d -print | sed 's/..//' | sort | paste -sd' ')" \
        "$(table | grep -v '^local' | cut -d' ' -f1 | sort | paste -sd' ')"
    same ".quorum itself" "$(stat -c '%a %U %F' "$Q")" '555 root directory'
}

@test "it is hidden from lists and reached by name" {
    ls -a "$MNT" | grep -q quorum && fail "ls -a shows it"
    [ -z "$(find "$MNT" -maxdepth 1 -name '.quorum*')" ]
    [ -z "$(cd "$MNT" && echo .q*)" ] || same glob "$(cd "$MNT" && echo .q*)" '.q*'
    ls "$Q" | grep -qx status
    (cd "$Q" && cat status >/dev/null)
    fails_with 'No such file' cat "$Q/none"
    fails_with 'No such file' ls "$T/.quorum"
}

@test "cp -a, tar, du and rm -r of the root leave it out" {
    echo v >f
    cp -a "$MNT" "$S/copy"
    absent "$S/copy/.quorum"
    ! tar -C "$MNT" -c . | tar -t | grep quorum || false
    [ -f "$S/copy/${T##*/}/f" ]
}

# ---- First law ---------------------------------------------------------------------------------------------------------------------

@test "reading, listing, stat and opening for reading change nothing" {
    local before=$(state) f
    for f in $(files); do cat "$Q/$f" >/dev/null; done
    find "$Q" -exec stat {} + >/dev/null
    ls -laR "$Q" >/dev/null
    getfattr -d -m - "$Q/status" >/dev/null
    for f in $(files); do (exec 3<"$Q/$f"); done
    same state "$(state)" "$before"
}

@test "a walk over everything ends" {
    within 10 find "$Q" -type f -exec cat {} + >/dev/null
    within 10 grep -r nothing-like-this "$Q" || true
    within 10 du -a "$Q" >/dev/null
}

# ---- Second law --------------------------------------------------------------------------------------------------------------------

@test "nothing can be made, removed, renamed or linked" {
    local before=$(state) path
    while read -r path _; do
        [[ $(syscall unlink "$Q/$path") =~ ^(EPERM|EISDIR|EROFS)$ ]] || fail "unlink $path: $(syscall unlink "$Q/$path")"
        # a member may be removed, but the only one is busy
        [[ $(syscall rmdir "$Q/$path") =~ ^(EPERM|ENOTDIR|$([ $path != members/1 ] || echo EBUSY))$ ]] || fail "rmdir $path: $(syscall rmdir "$Q/$path")"
        [[ $(syscall rename "$Q/$path" "$Q/other") =~ ^(EPERM|EXDEV)$ ]] || fail "rename $path"
        [[ $(syscall rename "$Q/$path" "$T/other") =~ ^(EPERM|EXDEV)$ ]] || fail "rename $path away"
        [[ $(syscall link "$Q/$path" "$T/other") =~ ^(EPERM|EXDEV)$ ]] || fail "link $path"
    done < <(table)
    for path in new config/new; do
        same "create $path" "$(syscall open "$Q/$path" 101)" EPERM
        same "mkdir $path" "$(syscall mkdir "$Q/$path" 755)" EPERM
        same "symlink $path" "$(syscall symlink target "$Q/$path")" EPERM
        same "mknod $path" "$(syscall mknod "$Q/$path" fifo)" EPERM
    done
    touch f
    [[ $(syscall rename f "$Q/new") =~ ^(EPERM|EXDEV)$ ]] || fail "rename into it: $(syscall rename f "$Q/new")"
    rm f
    same "unchanged but for the file made and removed here" "$(($(rev) - ${before%% *}))" 2
}

@test "rm -rf, editors and sed -i do no harm" {
    local before=$(state) status
    status=$(table; find "$Q" -path "$Q/local" -prune -o -print | sort)
    rm -rf "$Q" 2>/dev/null || true
    sed -i s/a/b/ "$Q/status" 2>/dev/null || true
    vim -es -u NONE -c '%s/./x/g' -c wq "$Q/revision" </dev/null >/dev/null 2>&1 || true
    chmod 777 "$Q/status" 2>/dev/null || true
    chown 1 "$Q/status" 2>/dev/null || true
    touch "$Q/status" "$Q" 2>/dev/null || true
    setfattr -n user.a -v 1 "$Q/status" 2>/dev/null || true
    same "names" "$(table; find "$Q" -path "$Q/local" -prune -o -print | sort)" "$status"
    same state "$(state)" "$before"
    same "mode and owner" "$(stat -c '%a %u' "$Q/status")" '444 0'
    allow_log 'a write was refused'
}

# ---- Third law ---------------------------------------------------------------------------------------------------------------------

@test "a write is one or more whole lines, all or none, a final newline optional" {
    x "echo 300M > $Q/config/quota"
    same quota "$(cat "$Q/config/quota")" 300M
    x "printf 400M > $Q/config/quota"
    same quota "$(cat "$Q/config/quota")" 400M
    x "env printf '500M\n600M\n' > $Q/config/quota"
    same quota "$(cat "$Q/config/quota")" 600M
    refused '700M\nnonsense\n' config/quota
    refused 'nonsense\n700M\n' config/quota
    same quota "$(cat "$Q/config/quota")" 600M
    x "echo 2G > $Q/config/quota"
}

@test "truncation, offsets and close of a control file mean nothing" {
    local before=$(state)
    x ": > $Q/config/quota; exec 3> $Q/config/quota; exec 3>&-; : >> $Q/config/quota"
    truncate -s 0 "$Q/config/quota" 2>/dev/null || true
    same state "$(state)" "$before"
    actor_start A
    A open 3 "$Q/config/quota" w
    A pwrite 3 1000 $'300M\n'
    same quota "$(cat "$Q/config/quota")" 300M
    A write 3 $'2G\n'
    same quota "$(cat "$Q/config/quota")" 2G
    A close 3
    x "echo 3G >> $Q/config/quota; echo 2G >> $Q/config/quota"
}

@test "a write tells at once, also to a shell" {
    allow_log 'a write was refused'
    ! x "echo nonsense > $Q/config/quota" 2>"$S/err" || false
    grep -q 'Invalid argument' "$S/err"
    x "echo nonsense > $Q/config/quota || echo told" 2>/dev/null | grep -q told
}

@test "a write takes effect before it returns, in one revision" {
    expect_revisions 1 "echo 300M > $Q/config/quota"
    same "blocks of df" "$(stat -f -c %b "$MNT")" $((300 * 1024 * 1024 / 4096))
    expect_revisions 1 "echo 2G > $Q/config/quota"
}

@test "files that are only read cannot be written" {
    local f
    allow_log 'a write was refused'
    for f in $(comm -23 <(files | sort) <(writable | sort)); do
        ! x "echo 1 > $Q/$f" 2>/dev/null || fail "$f was written"
    done
}

@test "other users may read and not write" {
    local f
    for f in $(table | awk '$3 == "file" && $2 % 10 {print $1}'); do
        setpriv --reuid=65534 --regid=65534 --clear-groups cat "$Q/$f" >/dev/null || fail "$f"
    done
    for f in $(table | awk '$3 == "file" && $2 % 10 == 0 {print $1}'); do
        fails_with 'Permission denied' setpriv --reuid=65534 --regid=65534 --clear-groups cat "$Q/$f"
    done
    for f in $(writable); do
        fails_with 'Permission denied' setpriv --reuid=65534 --regid=65534 --clear-groups bash -c "echo 1 > $Q/$f"
    done
}

# ---- Each file ---------------------------------------------------------------------------------------------------------------------

@test "README explains each file on one screen" {
    local f
    (($(wc -l <"$Q/README") <= 24 && $(wc -L <"$Q/README") <= 132))
    for f in $(ls "$Q"); do
        [ "$f" = README ] || grep -q "${f%.json}" "$Q/README" || fail "README does not name $f"
    done
}

@test "revision is a number that each change raises by one" {
    local before=$(cat "$Q/revision")
    [[ $before =~ ^[0-9]+$ ]]
    echo v >f
    same revision "$(cat "$Q/revision")" $((before + 1))
}

@test "status has its fields in order, with right values" {
    echo v >f
    local before=$(setting_of "$Q/status" files)
    same fields "$(grep -vE '^leases:' "$Q/status" | sed 's/:.*//' | paste -sd' ')" \
        'version cluster member role leader term revision compacted applied commit members voters locks files bytes quota history_bytes alarm failed_commits uptime'
    ! grep -v '^[a-z_]*: [^ ]' "$Q/status" || false
    same "member, role, leader" "$(setting_of "$Q/status" member) $(setting_of "$Q/status" role) $(setting_of "$Q/status" leader)" '1 leader 1'
    same "members and voters" "$(setting_of "$Q/status" members) $(setting_of "$Q/status" voters)" '1 1'
    same revision "$(setting_of "$Q/status" revision)" "$(rev)"
    same quota "$(setting_of "$Q/status" quota)" $((2 << 30))
    same version "quorumfs $(setting_of "$Q/status" version)" "$("$QUORUMFS" --version)"
    [[ $(setting_of "$Q/status" cluster) =~ ^[0-9a-f]{32}$ ]]
    rm f
    same files "$(setting_of "$Q/status" files)" $((before - 1))
}

@test "bytes in status goes up with content and down with removal" {
    local before=$(setting_of "$Q/status" bytes)
    head -c 10000 /dev/urandom >f
    (($(setting_of "$Q/status" bytes) >= before + 10000))
    rm f
    same bytes "$(setting_of "$Q/status" bytes)" "$before"
}

@test "status.json says the same as status" {
    python3 - "$Q" <<'E'
import json, sys
text = dict(line.rstrip("\n").split(": ", 1) for line in open(sys.argv[1] + "/status"))
data = json.load(open(sys.argv[1] + "/status.json"))
for moving in ("uptime",):
    text.pop(moving), data.pop(moving)
assert list(text) == list(data), (list(text), list(data))
for name, value in data.items():
    assert str(value) == text[name], (name, value, text[name])
E
}

@test "metrics is Prometheus' text format" {
    python3 - "$Q/metrics" <<'E'
import re, sys
types, seen = {}, set()
for line in open(sys.argv[1]):
    line = line.rstrip("\n")
    if line.startswith("# TYPE "):
        name, kind = line.split()[2:]
        assert kind in ("counter", "gauge", "histogram"), line
        types[name] = kind
    elif not line.startswith("# HELP ") and line:
        m = re.fullmatch(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? (-?[0-9.e+-]+|\+Inf|NaN)', line)
        assert m, line
        base = re.sub(r"_(bucket|sum|count)$", "", m[1])
        assert m[1] in types or base in types, line
        assert line.split()[0] not in seen, line
        seen.add(line.split()[0])
assert any("quorumfs" in name for name in types) and len(seen) > 5
E
}

@test "health says ok" {
    same health "$(cat "$Q/health")" ok
}

@test "the only member is shown, leads, and can be neither demoted nor removed" {
    same members "$(ls "$Q/members")" 1
    same files "$(ls "$Q/members/1" | paste -sd' ')" 'address applied lag role state'
    same address "$(cat "$Q/members/1/address")" ''
    wait_until 5 grep -qx voter "$Q/members/1/role"
    same "state, lag" "$(cat "$Q/members/1/"{state,lag} | paste -sd' ')" 'ok 0'
    (($(cat "$Q/members/1/applied") > 0))
    same leader "$(cat "$Q/leader")" 1
    x "echo 1 > $Q/leader"
    fails_with 'No such file' x "env printf 2 > $Q/leader"
    fails_with 'Device or resource busy' rmdir "$Q/members/1"
    fails_with 'Device or resource busy' x "env printf standby > $Q/members/1/role"
    x "echo voter > $Q/members/1/role"
    fails_with 'No such file' rmdir "$Q/members/2"
    fails_with 'Operation not permitted' mkdir "$Q/members/2"
    refused 'leader\n' members/1/role
    refused 'x\n' leader
}

@test "hash names the revision and changes with the state" {
    local a b
    a=$(cat "$Q/hash")
    [[ $a =~ ^[0-9]+\ [0-9a-f]+$ ]]
    same "read again" "$(cat "$Q/hash")" "$a"
    same revision "${a%% *}" "$(rev)"
    echo v >f
    b=$(cat "$Q/hash")
    [ "${a#* }" != "${b#* }" ]
}

@test "a file is read at its own pace, and read again afresh" {
    actor_start A
    A open 3 "$Q/status" r
    A read 3 10
    same "first bytes" "$(said)" 'version: 0'
    A pread 3 0 10
    same "again" "$(said)" 'version: 0'
    same "dd by bytes" "$(dd if="$Q/README" bs=7 status=none | md5sum)" "$(md5sum <"$Q/README")"
    same "size of an open file" "$(wc -c <"$Q/README")" "$(cat "$Q/README" | wc -c)"
}

# ---- config ------------------------------------------------------------------------------------------------------------------------

@test "cluster settings are shown, changed, and refused with what is allowed" {
    local name value
    while read -r name value; do
        same "$name" "$(cat "$Q/config/$name")" "$value"
        x "echo $value > $Q/config/$name"
    done <<'E'
quota 2G
max-value 1M
E
    x "echo 2M > $Q/config/max-value"
    x 'head -c 1500000 /dev/zero > f'
    x "echo 1M > $Q/config/max-value"
    fails_with 'File too large' x 'head -c 1500000 /dev/zero > g'
    refused 'x' config/max-value
    refused '1K' config/max-value
    refused '17M' config/max-value
    refused 'x' config/quota
    refused '-1' config/quota
    refused '1 2' config/quota
    refused '1s' config/heartbeat # as long as election-timeout: no member could start again
    refused '100ms' config/election-timeout
    expect_log 'a write was refused.*config/max-value.*17M.*allowed'
}

@test "a setting stays over a new start" {
    x "echo 3G > $Q/config/quota"
    daemon_stop
    daemon_start
    same quota "$(cat "$Q/config/quota")" 3G
    x "echo 2G > $Q/config/quota"
}

@test "a quota above 8G is warned of" {
    x "echo 9G > $Q/config/quota"
    expect_log 'quota.*8G'
    x "echo 2G > $Q/config/quota"
}

@test "settings of the member are shown" {
    same "settings" "$(cd "$Q/config" && cat id timeout reads insecure | paste -sd' ')" "1 $((5 * QFS_TIME_SCALE))s linearizable no"
}

# ---- compact -----------------------------------------------------------------------------------------------------------------------

@test "compact takes a revision and shows the last one" {
    local i r
    for i in 1 2 3 4 5; do echo $i >f; done
    r=$(rev)
    x "echo $((r - 2)) > $Q/compact"
    same compact "$(cat "$Q/compact")" $((r - 2))
    same "compacted in status" "$(setting_of "$Q/status" compacted)" $((r - 2))
    holds f '5\n'
    refused nonsense compact
    allow_log 'a write was refused'
    fails_with 'Numerical result out of range' x "echo $((r + 1000)) > $Q/compact"
    same compact "$(cat "$Q/compact")" $((r - 2))
}

# ---- local -------------------------------------------------------------------------------------------------------------------------

@test "local/ is the same tree, read-only, with inode numbers of its own" {
    local L=$Q/local/${T##*/}
    mkdir d; echo v >d/f; ln -s f d/l; chmod 640 d/f; touch -d @1000000000.5 d/f
    setfattr -n user.a -v 1 d/f
    holds "$L/d/f" 'v\n'
    same "mode, size and mtime" "$(stat -c '%a %s %.Y' "$L/d/f")" '640 2 1000000000.500000000'
    same target "$(readlink "$L/d/l")" f
    same xattr "$(getfattr --absolute-names --only-values -n user.a "$L/d/f")" 1
    same names "$(ls "$L/d" | paste -sd' ')" 'f l'
    [ "$(stat -c %i "$L/d/f")" != "$(stat -c %i d/f)" ]
    diff -r d "$L/d"
    cp "$L/d/f" d/f
    holds d/f 'v\n'
    local call
    for call in "open $L/d/f 1" "open $L/d/new 101" "unlink $L/d/f" "mkdir $L/d/e 755" "rmdir $L/d" "chmod $L/d/f 600" "truncate $L/d/f 0" \
        "rename $L/d/f $L/d/g" "symlink x $L/d/s" "setxattr $L/d/f user.a 2" "utimes $L/d/f 0"; do
        [[ $(syscall $call) =~ ^(EROFS|EPERM|EACCES)$ ]] || fail "$call: $(syscall $call)"
    done
    [[ $(syscall rename "$L/d/f" d/x) =~ ^(EXDEV|EROFS|EPERM)$ ]]
    fails_with 'No such file' ls "$Q/local/.quorum"
}

@test "local/ shows changes as they are applied" {
    local L=$Q/local/${T##*/}
    echo 1 >f
    holds "$L/f" '1\n'
    echo 2 >f
    holds "$L/f" '2\n'
    rm f
    absent "$L/f"
}

@test "-o show-control lists it" {
    local DIR=$S/data MNT=$QFS_ROOT/shown
    daemon_start -o show-control
    ls -a "$MNT" | grep -qx .quorum
    daemon_stop
}
