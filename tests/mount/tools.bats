# Programs that work unchanged on the tree, each used as people use it. What a program does here it does on the local disk as well:
# the same output, the same exit status, the same files afterwards.
load ../lib/harness
setup_file() {
    mount_file
    # No user's settings, and no prompts.
    export HOME=$QFS_ROOT GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b LC_ALL=C.UTF-8 TZ=UTC
}
teardown_file() { unmount_file; }
setup() { enter_test; }
teardown() { leave_test; }

# ---- Helpers --------------------------------------------------------------------------------------------------------------------

# Everything about a tree that the user put there, one line a file.
describe() { # describe [with-times]
    local times=
    [ -z "${1:-}" ] || times=' %T@'
    find . -mindepth 1 \( -type d -printf "%p %y %m$times\n" -o -type l -printf "%p %y %l$times\n" -o -printf "%p %y %m %s$times\n" \) |
        awk '$NF > 1700000000 {$NF = "recent"} {print}' | sort
    find . -type f -print0 | sort -z | xargs -0 -r md5sum
}

# as_on_disk TEXT [with-times]: the shell text, in an empty directory here and in one on the disk, gives the same.
as_on_disk() {
    local where rc
    mkdir -p here "$S/there"
    for where in "$T/here" "$S/there"; do
        rc=0
        (cd "$where" && within 60 bash -c "$1" </dev/null 3>&- && describe "${2:-}") >"$S/${where##*/}.out" 2>"$S/${where##*/}.err" || rc=$?
        echo "exit status $rc" >>"$S/${where##*/}.out"
    done
    diff -u "$S/there.out" "$S/here.out" >&2 || { cat "$S/here.err" >&2; fail "other than on the disk: $1"; return 1; }
    grep -qx 'exit status 0' "$S/here.out" || { cat "$S/here.err" >&2; fail "fails everywhere: $1"; }
}

sample='mkdir -p t/sub/deep t/empty; echo one > t/one; head -c 100000 /dev/zero > t/zero; echo script > t/run; chmod 755 t/run; chmod 640 t/one
    ln -s one t/link; ln -s nowhere t/dangling; echo "a b" > "t/sub/with space"; echo deep > t/sub/deep/file; chmod 700 t/sub/deep
    find t -exec touch -h -d "2020-02-02 02:02:02.123456789" {} +'

# ---- Copies -----------------------------------------------------------------------------------------------------------------------

@test "cat and echo" {
    as_on_disk 'echo hello > f; cat f; echo more >> f; cat f f > g; cat < g; cat f - < g | wc -c'
}

@test "cp, cp -a, cp -r, cp -u, cp -n, cp --backup" {
    as_on_disk "$sample; cp -a t u; cp t/one v" with-times
    as_on_disk 'cp -r t w; cp -u t/one w/one; echo n > x; cp -n x t/one; cp --backup t/one v; cp -l t/one hard 2>/dev/null || cp t/one hard; cp -s t/one soft 2>/dev/null; cp --sparse=always t/zero z'
}

@test "mv within the tree, rm -r, rmdir" {
    as_on_disk "$sample; mv t u; mv u/one u/sub/; mv -t u/empty u/run u/zero; rm -r u/sub; mkdir a b; rmdir a; rm -f none"
}

@test "install with modes and directories" {
    as_on_disk 'echo v > f; install -d -m 750 d/e; install -m 600 f d/e/g; install -m 755 -D f x/y/z; install -b -m 644 f d/e/g; stat -c %a d d/e d/e/g x/y/z'
}

@test "touch with all its times" {
    as_on_disk 'touch -d "2001-01-01 00:00:00.5" a; touch -r a b; touch -c none; touch -m -d 2002-02-02 b; touch -a b; ln -s a l; touch -h -d 2003-03-03 l; stat -c "%n %.Y" a b l'
}

@test "ln -s, readlink, realpath, ln -sfn" {
    as_on_disk 'mkdir v1 v2; ln -s v1 current; ln -sfn v2 current; readlink current; touch current/f; ls v2; ln -sfT v1 current; readlink current; realpath --relative-to=. current'
}

# ---- Text ---------------------------------------------------------------------------------------------------------------------------

@test "sed -i, with and without a backup, keeps the mode" {
    as_on_disk 'printf "a\nb\n" > f; chmod 640 f; sed -i s/a/x/ f; cat f; sed -i.bak s/b/y/ f; cat f f.bak; stat -c %a f f.bak; ls'
}

@test "tee, tee -a, sort -o, split, head, tail, wc, paste, awk" {
    as_on_disk 'printf "b\na\n" | tee f > g; echo c | tee -a f; sort -o f f; cat f; split -l 1 f part.; ls; awk "{print > \$1 \".txt\"}" f; paste f g; tail -n 1 f; head -c 3 f'
}

@test "perl -pi, patch, diff, grep -r, xargs" {
    as_on_disk 'printf "1\n2\n" > f; cp f g; perl -pi -e s/2/two/ f; diff -u g f | sed "s/\t.*//" > p; patch -s g < p; cmp f g && grep -rl two . | sort | xargs cat'
}

@test "dd with conv=fsync, notrunc, seek and oflag=append" {
    as_on_disk 'dd if=/dev/zero of=f bs=1k count=8 conv=fsync status=none; printf xyz | dd of=f bs=1 seek=100 conv=notrunc,fdatasync status=none; printf end | dd of=f oflag=append conv=notrunc status=none; dd if=f bs=1 skip=98 count=8 status=none | od -An -c'
}

@test "mktemp, and a temporary file renamed into place" {
    as_on_disk 't=$(mktemp f.XXXXXX); echo new > $t; stat -c %a $t; mv $t f; cat f; d=$(mktemp -d d.XXXXXX); stat -c %a $d; mv $d d'
}

@test "vim -es saves, in each of its ways" {
    local way
    for way in 'set backupcopy=yes' 'set backupcopy=no' 'set backup' 'set nowritebackup'; do
        as_on_disk "printf 'a\nb\n' > f; chmod 640 f; vim -es -u NONE -i NONE -c '$way' -c '%s/a/changed/' -c wq f </dev/null; cat f; stat -c %a f; ls; rm -f f*"
    done
    as_on_disk "vim -es -u NONE -i NONE -c 'normal inew text' -c wq new.txt </dev/null; cat new.txt"
}

@test "vim keeps the inode with backupcopy=yes" {
    echo a >f
    local inode=$(stat -c %i f)
    vim -es -u NONE -i NONE -c 'set backupcopy=yes' -c '%s/a/b/' -c wq f </dev/null 3>&-
    same inode "$(stat -c %i f)" "$inode"
    holds f 'b\n'
}

@test "bash scripts: redirections, here-documents, read loops, noclobber" {
    as_on_disk 'cat > s.sh <<"E"
#!/bin/bash
while read -r a b; do echo "$b $a"; done < in > out
exec 5<> rw; echo hello >&5; exec 5>&-
set -C; echo no > out || echo kept
E
chmod +x s.sh; printf "1 2\n3 4\n" > in; ./s.sh 2>/dev/null; cat out rw'
}

# ---- Archives and trees --------------------------------------------------------------------------------------------------------------

@test "tar keeps times, modes and links, both ways" {
    as_on_disk "$sample; tar -cf all.tar t; mkdir x; tar -C x -xpf all.tar; tar -df all.tar; rm all.tar" with-times
    as_on_disk 'tar -czf all.tgz t; tar -tzf all.tgz | sort; rm all.tgz; mkdir y; tar -c t | tar -C y -xp; cat y/t/sub/*space'
}

@test "tar unpacks archives with hard links as copies or says so" {
    needs_quorumfs
    (cd "$S" && echo v >a && ln a b && tar -cf hard.tar a b)
    ! tar -xf "$S/hard.tar" 2>err || false
    grep -q 'Operation not permitted' err
    holds a 'v\n'
}

@test "rsync -a both ways, again, with --delete, --inplace and -X" {
    as_on_disk "$sample; rsync -a t/ u/; rsync -ai t/ u/; echo more >> t/one; rm t/zero; rsync -a --delete t/ u/; rsync -a --inplace --no-whole-file t/ v/" with-times
    setfattr -n user.color -v blue here/t/one
    rsync -aX here/t/ copied/
    same attribute "$(getfattr --only-values -n user.color copied/one)" blue
    rsync -aX here/t/ "$S/out/"
    rsync -aX "$S/out/" back/
    [ "$QFS_TEST_ON" = tmpfs ] || same attributes "$(getfattr -d back/one | grep -c '^user')" 1
    same "nothing left to do" "$(rsync -aXi here/t/ back/)" ''
}

@test "find by name, type, time, size, permission, and -delete" {
    as_on_disk "$sample; touch -d 2021-01-01 stamp; touch -d 2022-01-01 t/sub/new; touch -d 2022-01-01 t/one
        find . -newer stamp | sort; find . -type l | sort; find . -size +10k | sort; find . -perm 640; find . -empty | sort; find t -name 'o*' -delete; find . -maxdepth 1 | sort; find . -newermt 2021-06-01 -type f | sort; touch stamp"
}

@test "du and ls" {
    as_on_disk "$sample; du --apparent-size -b t/zero t/one t/sub/deep/file; ls -R t; ls -l t/one | cut -d' ' -f1,5; ls -ln --time-style=+%s t/one | awk '{print \$6}'"
    (($(du -s here/t | cut -f1) >= 100)) # blocks
}

@test "git: init, add, commit, branch, merge, clone, gc, fsck, status" {
    as_on_disk 'git init -q -b main repo && cd repo && for i in 1 2 3 4 5 6 7 8 9; do echo $i > f$i; done && git add . && git commit -q -m one
        git checkout -q -b side && echo side > s && git add s && git commit -q -m two && git checkout -q main && echo main > m && git add m && git commit -q -m three
        git merge -q -m merge side && git mv f1 g1 && git commit -q -m move && git status --porcelain && git log --oneline --format=%s && cd ..
        git clone -q repo copy && cd copy && echo x >> f2 && git commit -q -a -m four && git push -q origin HEAD:refs/heads/pushed && cd ../repo
        git gc -q && git fsck --full && git stash list && git diff --stat main pushed && git tag -m t v1 && git describe && git archive v1 | tar -t && cd .. && rm -rf repo/.git copy/.git'
}

@test "git: a clone and a fetch of a pack, which threads unpack" {
    as_on_disk 'git init -q -b main repo && cd repo && for i in $(seq 120); do { seq 200; echo $i; } > f$i; done && git add . && git commit -q -m one && cd ..
        git -c pack.threads=4 clone -q --no-local repo copy && cd repo && for i in $(seq 120); do echo $i >> f$i; done && git commit -q -a -m two && cd ../copy
        git -c pack.threads=4 fetch -q && git merge -q --ff-only origin/main && git fsck --full && git log --format=%s && cd .. && rm -rf repo/.git copy/.git'
}

@test "git: a worktree on the tree, checked out from elsewhere" {
    as_on_disk 'd=$(mktemp -d) && git init -q -b main --bare $d && git clone -q $d w 2>/dev/null && cd w && echo v > f && git add f && git commit -q -m one && git push -q origin main && git pull -q && git reset -q --hard && git clean -fdq && cd .. && rm -rf w/.git $d'
}

# ---- Languages and programs ------------------------------------------------------------------------------------------------------------

@test "python: a temporary file is handed on before it is closed" {
    as_on_disk 'python3 -c "
import subprocess, tempfile
with tempfile.NamedTemporaryFile(\"w\", dir=\".\") as t:
    t.write(\"for another program\\n\"); t.flush()
    print(subprocess.run([\"cat\", t.name], capture_output=True, text=True).stdout)
"'
}

@test "python: temporary file and rename, json, pathlib, open modes, shutil" {
    as_on_disk 'cat > p.py <<"E"
import json, os, pathlib, shutil, tempfile
with tempfile.NamedTemporaryFile("w", dir=".", delete=False) as t:
    json.dump({"a": 1}, t)
    t.flush()
    os.fsync(t.fileno())
os.replace(t.name, "conf.json")
print(json.load(open("conf.json")))
p = pathlib.Path("x/y"); p.mkdir(parents=True); (p / "f").write_text("hello\n")
with open(p / "f", "r+b") as f:
    f.seek(1); f.write(b"E"); f.truncate(4)
print(open(p / "f").read())
with open("excl", "x") as f: f.write("1")
try: open("excl", "x")
except FileExistsError: print("exists")
with open("log", "a") as f: f.write("line\n")
shutil.copytree("x", "z"); shutil.move("z", "w"); os.chmod("log", 0o600)
print(sorted(os.listdir("."))); shutil.rmtree("x")
with os.scandir(".") as it: print(sorted((e.name, e.is_dir()) for e in it))
os.remove("excl"); print(os.path.exists("excl"))
E
python3 p.py'
}

@test "python: mmap of a file for reading" {
    as_on_disk 'echo hello > f; python3 -c "
import mmap
with open(\"f\", \"rb\") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m: print(m[:])"'
}

@test "sqlite3 in rollback journal mode" {
    as_on_disk 'sqlite3 db "pragma journal_mode; create table t(a primary key, b); insert into t values(1, hex(zeroblob(5000))); begin; insert into t values(2, 2); rollback; insert into t values(3, 3);"
        for i in 4 5 6 7; do sqlite3 db "insert into t values($i, $i)"; done; sqlite3 db "select a, length(b) from t; delete from t where a = 1; vacuum; pragma integrity_check;"; sqlite3 db .dump > dump; ls; rm db'
}

@test "flock: one at a time" {
    local i pids=()
    echo 0 >counter
    for i in 1 2 3 4; do
        bash -c 'for n in {1..15}; do flock lock bash -c "read -r c < counter; echo \$((c + 1)) > counter"; done' 3>&- &
        pids+=($!)
    done
    wait "${pids[@]}"
    holds counter '60\n'
    exec 9>lock2
    flock 9
    ! flock -n lock2 true || false
    ! flock -w 0.1 lock2 true || false
    exec 9>&-
    flock -n lock2 true
}

@test "inotifywait wakes up for a change" {
    echo old >f
    inotifywait -q -t 20 -e close_write f >"$S/event" 3>&- &
    local watcher=$!
    wait_until 10 grep -qs inotify "/proc/$watcher/fdinfo/3" || true
    wait_until 10 bash -c "echo new > f; [ -s $S/event ]"
    wait $watcher
    grep -q 'f CLOSE_WRITE' "$S/event"
}

@test "make builds what is newer" {
    command -v make >/dev/null || skip "there is no make"
    as_on_disk 'printf "b: a\n\tcp a b\n" > Makefile; echo 1 > a; touch -d 2020-01-01 a; make; touch -d 2020-01-02 b; make; echo 2 > a; make; cat b'
}

@test "cc compiles and the result runs" {
    command -v cc >/dev/null || skip "there is no C compiler"
    printf 'int main(void) { return 42; }\n' >a.c
    cc -o a a.c
    local rc=0
    ./a || rc=$?
    same "exit status" $rc 42
}

@test "truncate, stat, chmod -R, chown -R, xargs rm" {
    as_on_disk "$sample; truncate -s 10 t/zero; truncate -s +5 t/zero; stat -c '%n %s %F' t/[orz]*; chmod -R g+w t; chown -R 0:0 t; stat -c %a t t/one; find t -type f -print0 | xargs -0 rm; find . | sort"
}
