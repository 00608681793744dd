# Examples that act on changes, and that show the state.
load ../lib/harness
setup_file() { mount_file; }
teardown_file() { unmount_file; }
setup() { enter_test; }
teardown() {
    [ -z "${STARTED:-}" ] || { kill "$STARTED"; wait "$STARTED"; } 2>/dev/null || true
    leave_test
}

# start PROGRAM...: in the background, with its output in $S/out; ended after the test.
start() {
    "$@" >"$S/out" 2>&1 3>&- </dev/null &
    STARTED=$!
}

@test "on-change runs a command once for each burst of changes" {
    # Each run takes until it may end: what changes meanwhile is one burst.
    start "$QFS_EXAMPLES/on-change.sh" "$T" sh -c "cat '$T/f' >> '$S/seen'; echo . >> '$S/runs'; until [ -e '$S/end' ]; do sleep 0.05; done"
    wait_until 10 test -s "$S/runs"
    put f 'one\n'
    mkdir d
    x 'for i in 1 2 3 4 5 6 7 8 9; do echo $i > d/$i; done; echo two > f'
    touch "$S/end"
    wait_until 10 grep -q two "$S/seen"
    (($(wc -l <"$S/runs") <= 4)) || fail "$(wc -l <"$S/runs") runs, for one burst" # a busy machine may make two or three of it
}

@test "on-change goes on when the command fails" {
    start "$QFS_EXAMPLES/on-change.sh" "$T" sh -c "echo . >> '$S/runs'; false"
    wait_until 10 test -s "$S/runs"
    put f 'one\n'
    wait_until 10 eval "[ \$(wc -l <'$S/runs') -ge 2 ]"
    grep -q 'sh failed with status 1' "$S/out"
}

@test "nginx reloads a sound configuration and keeps the old one otherwise" {
    mkdir "$S/bin"
    cat >"$S/bin/nginx" <<EOF
#!/bin/sh
echo "\$*" >> "$S/calls"
case "\$*" in *-t*) ! grep -rq broken "$T" ;; esac
EOF
    chmod +x "$S/bin/nginx"
    PATH=$S/bin:$PATH start "$QFS_EXAMPLES/nginx-reload.sh" "$T" /etc/nginx/nginx.conf
    wait_until 10 grep -q 'reload$' "$S/calls"
    put site.conf 'broken'
    wait_until 10 eval "[ \$(grep -c -- -t '$S/calls') -ge 2 ]"
    same reloads "$(grep -c 'reload$' "$S/calls")" 1
    put site.conf 'sound'
    wait_until 10 eval "[ \$(grep -c 'reload\$' '$S/calls') -ge 2 ]"
}

@test "the list of upstreams follows the instances that are announced" {
    mkdir -p services/web
    put services/web/a '10.0.0.7:80\n'
    start "$QFS_EXAMPLES/upstreams.sh" "$T/services" web "$S/web.conf" touch "$S/reloaded"
    wait_until 10 grep -q 'server 10.0.0.7:80; # a' "$S/web.conf"
    wait_until 10 test -e "$S/reloaded"
    put services/web/b '[fd00::1]:80\n'
    wait_until 10 grep -qF 'server [fd00::1]:80; # b' "$S/web.conf"
    rm services/web/a
    wait_until 10 eval "! grep -q 10.0.0.7 '$S/web.conf'"
    # What is no address is left out, and an empty list is not written.
    put services/web/c 'evil; }\n'
    rm services/web/b
    wait_until 10 grep -q 'stays as it is' "$S/out"
    grep -qF '[fd00::1]' "$S/web.conf"
    ! grep -q evil "$S/web.conf" || false
}

@test "metrics are served over HTTP, and 503 when the tree is away" {
    start "$QFS_EXAMPLES/metrics-http.py" "$MNT" 127.0.0.1:0
    wait_until 10 grep -q serving "$S/out"
    local url
    url=$(sed -n 's/^serving //p' "$S/out")
    python3 -c 'import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1]).read())' "$url" >"$S/scrape"
    grep -q '^quorumfs_' "$S/scrape"
    fails_with 'HTTP Error 404' python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1])' "${url%metrics}other"
    kill "$STARTED"
    start "$QFS_EXAMPLES/metrics-http.py" "$S/nothing" 127.0.0.1:0
    wait_until 10 grep -q serving "$S/out"
    fails_with 'HTTP Error 503' python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1])' "$(sed -n 's/^serving //p' "$S/out")"
}
