#!/usr/bin/env python3
"""Random system calls on a mounted tree and on a tmpfs, which must answer the same.

    differential.py TREE REFERENCE SEED STEPS

Three actors, each a session of its own, two of them root and one nobody, take turns: what one call has returned, the next one of any
actor must see. An actor runs each call in both trees and reports both answers. Where quorumfs differs on purpose the driver steers
around: an open file is a snapshot with private edits, so while one is open its content is touched through it alone, and a file that
is not committed yet is committed before another session meets its name. Prints the seed and, on a difference, the calls before it.
"""
import ctypes
import errno
import os
import pickle
import random
import stat
import struct
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, NOREPLACE, EXCHANGE = -100, 1, 2
NOBODY = 65534
SECONDS = 15  # a slow machine does fewer steps
HISTORY = int(os.environ.get("HISTORY", "25"))  # calls that are printed on a difference
LONG_AGO = 1_000_000_000  # explicit times are below it, the clock is above
NAMES = [b"a", b"b", b"c", b"d", b"e", b"sub", b"odd \xff\n\t", b"l" * 255, b"l" * 256]


# ---- What an actor does ------------------------------------------------------------------------------------------------------


def rename2(old, new, flags):
    if LIBC.renameat2(AT_FDCWD, old, AT_FDCWD, new, flags):
        raise OSError(ctypes.get_errno(), "renameat2")


def facts(st, clean):
    """What must be equal of two stats. Times of the clock are not, explicit ones are; sizes and links of directories are not.
    While there are edits (not clean) the mode and the time are those of before: suid falls and mtime moves with the commit."""
    when = st.st_mtime_ns if st.st_mtime_ns < LONG_AGO * 10**9 else "now"
    if stat.S_ISDIR(st.st_mode):
        return (oct(st.st_mode), st.st_uid, st.st_gid)
    return ((oct(st.st_mode), when) if clean else ()) + (stat.S_IFMT(st.st_mode), st.st_uid, st.st_gid, st.st_nlink, st.st_size)


def later(tree, reference):
    """Only the time differs, as it may: tmpfs leaves it when the size that is set is the old one; O_TRUNC of an empty file with
    nothing written is no commit in the tree."""
    if not (tree[0] == reference[0] == "ok") or "now" not in (tree[1][1], reference[1][1]):
        return False
    return tree[1][:1] + tree[1][2:] == reference[1][:1] + reference[1][2:] and (tree[1][1] == "now" or tree[1][-1] == 0)


def put(path, flags, data, mode=0o666):
    fd = os.open(path, flags, mode)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def get(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 1 << 20)
    finally:
        os.close(fd)


def listing(path):
    with os.scandir(path) as entries:
        return sorted((e.name, e.is_dir(follow_symlinks=False), e.is_symlink()) for e in entries)


def xattrs(path):
    return sorted((n, os.getxattr(path, n, follow_symlinks=False)) for n in os.listxattr(path, follow_symlinks=False))


PATH_CALLS = {
    "mkdir": lambda p, mode: os.mkdir(p, mode),
    "rmdir": lambda p: os.rmdir(p),
    "unlink": lambda p: os.unlink(p),
    "symlink": lambda p, target: os.symlink(target, p),
    "readlink": lambda p: os.readlink(p),
    "chmod": lambda p, mode: os.chmod(p, mode),
    "chown": lambda p, uid, gid: os.chown(p, uid, gid, follow_symlinks=False),
    "utime": lambda p, s: os.utime(p, (s, s)),
    "truncate": lambda p, size: os.truncate(p, size),
    "put": put,
    "get": get,
    "list": listing,
    "stat": lambda p, clean: facts(os.lstat(p), clean),
    "access": lambda p, how: os.access(p, how),
    "setxattr": lambda p, name, value, flags: os.setxattr(p, name, value, flags),
    "removexattr": lambda p, name: os.removexattr(p, name),
    "xattrs": xattrs,
}
FD_CALLS = {
    "read": lambda fd, n: os.read(fd, n),
    "pread": lambda fd, n, at: os.pread(fd, n, at),
    "write": lambda fd, data: os.write(fd, data),
    "pwrite": lambda fd, data, at: os.pwrite(fd, data, at),
    "lseek": lambda fd, at, whence: os.lseek(fd, at, whence),
    "ftruncate": lambda fd, size: os.ftruncate(fd, size),
    "fsync": lambda fd: os.fsync(fd),
    "fstat": lambda fd, clean: facts(os.fstat(fd), clean),
    "fchmod": lambda fd, mode: os.fchmod(fd, mode),
    "futime": lambda fd, s: os.utime(fd, (s, s)),
    "dupclose": lambda fd: os.close(os.dup(fd)),
}


def attempt(call, *args):
    try:
        return ("ok", call(*args))
    except OSError as e:
        return ("error", errno.errorcode.get(e.errno, e.errno))


def act(roots, files, name, args):
    """One call in each tree: a pair of answers."""
    if name in PATH_CALLS:
        return [attempt(PATH_CALLS[name], root + b"/" + args[0], *args[1:]) for root in roots]
    if name == "rename":
        return [attempt(rename2, root + b"/" + args[0], root + b"/" + args[1], args[2]) for root in roots]
    if name == "open":
        answers = [attempt(os.open, root + b"/" + args[1], args[2], args[3]) for root in roots]
        if all(a[0] == "ok" for a in answers):
            files[args[0]] = [a[1] for a in answers]
        return [("ok", "a descriptor") if a[0] == "ok" else a for a in answers]
    if name == "ino":  # of the reference: the driver's key of a file
        answer = attempt(os.lstat, roots[1] + b"/" + args[0])
        return [("ok", (answer[1].st_ino, answer[1].st_mode)) if answer[0] == "ok" else answer] * 2
    if name == "fino":
        return [("ok", (os.fstat(files[args[0]][1]).st_ino, os.fstat(files[args[0]][1]).st_nlink))] * 2
    if name == "close":
        return [attempt(os.close, fd) for fd in files.pop(args[0])]
    return [attempt(FD_CALLS[name], fd, *args[1:]) for fd in files[args[0]]]


def actor(roots, uid, requests, answers):
    os.setsid()
    os.umask(0o022)
    if uid:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    files = {}
    while True:
        head = requests.read(4)
        if not head:
            os._exit(0)
        name, args = pickle.loads(requests.read(struct.unpack("I", head)[0]))
        data = pickle.dumps(act(roots, files, name, args))
        answers.write(struct.pack("I", len(data)) + data)
        answers.flush()


class Actor:
    def __init__(self, roots, uid):
        to_r, to_w = os.pipe()
        from_r, from_w = os.pipe()
        self.uid = uid
        self.pid = os.fork()
        if self.pid == 0:
            keep = {to_r, from_w}
            for fd in range(3, 256):
                if fd not in keep:
                    try:
                        os.close(fd)
                    except OSError:
                        pass
            actor(roots, uid, os.fdopen(to_r, "rb"), os.fdopen(from_w, "wb"))
        os.close(to_r)
        os.close(from_w)
        self.requests, self.answers = os.fdopen(to_w, "wb"), os.fdopen(from_r, "rb")

    def ask(self, name, *args):
        data = pickle.dumps((name, args))
        self.requests.write(struct.pack("I", len(data)) + data)
        self.requests.flush()
        return pickle.loads(self.answers.read(struct.unpack("I", self.answers.read(4))[0]))


# ---- The driver --------------------------------------------------------------------------------------------------------------


class Difference(Exception):
    pass


class OpenFile:
    def __init__(self, number, owner, ino, path, flags, new):
        self.number, self.owner, self.ino, self.path, self.flags = number, owner, ino, path, flags
        self.dirty = new or bool(flags & os.O_TRUNC)


class Driver:
    def __init__(self, roots, seed):
        self.random = random.Random(seed)
        self.actors = [Actor(roots, uid) for uid in (0, 0, NOBODY)]
        self.files = {}
        self.numbers = 0
        self.history = []

    def do(self, who, name, *args):
        answers = self.actors[who].ask(name, *args)
        if name not in ("ino", "fino"):
            self.history.append((who, name, args, answers))
        if answers[0] != answers[1] and not (name in ("stat", "fstat") and later(*answers)):
            raise Difference()
        return answers[0]

    # -- what to use --

    def path(self):
        depth = self.random.choice((0, 0, 0, 1, 1, 2))
        return b"/".join([self.random.choice((b"sub", b"d", b"e")) for _ in range(depth)] + [self.random.choice(NAMES)])

    def bytes(self):
        return bytes([self.random.randrange(65, 91)]) * self.random.choice((1, 3, 10, 100, 5000, 70000))

    def mode(self):
        return self.random.choice((0o644, 0o600, 0o666, 0o755, 0o777, 0o4755, 0o2755, 0o2770, 0o1777, 0))

    # -- steering around what differs on purpose --

    def settle(self, f):
        """Commits what was done through an open file, so that every session can meet it."""
        if f.dirty:
            self.do(f.owner, "fsync", f.number)
            f.dirty = False

    def meet(self, who):
        """Before `who` uses paths: nothing that only other sessions may see."""
        for f in list(self.files.values()):
            if f.owner != who:
                self.settle(f)

    def meet_at(self, who, path):
        """What others have not committed there; its own session may name a file that is not committed yet."""
        for f in self.open_on(path) or []:
            if f.owner != who:
                self.settle(f)

    def open_on(self, path):
        answer = self.actors[0].ask("ino", path)[0]
        if answer[0] != "ok":
            return None
        return [f for f in self.files.values() if f.ino == answer[1][0]]

    # -- calls --

    def call_name(self, who):
        r, p = self.random, self.path()
        name = r.choice(("mkdir", "mkdir", "rmdir", "unlink", "unlink", "rename", "rename", "rename", "symlink", "readlink"))
        self.meet_at(who, p)
        if name == "mkdir":
            self.do(who, name, p, self.mode() | 0o700)
        elif name == "symlink":
            self.do(who, name, p, r.choice((b"a", b"sub", b"nowhere", b"../a")))
        elif name == "rename":
            q = self.path()
            self.meet_at(who, q)
            self.do(who, name, p, q, r.choice((0, 0, 0, NOREPLACE, EXCHANGE)))
        else:
            self.do(who, name, p)

    def call_attr(self, who):
        r, p = self.random, self.path()
        self.meet_at(who, p)
        what = r.randrange(6)
        if what == 0:
            self.do(who, "chmod", p, self.mode())
        elif what == 1:
            self.do(who, "chown", p, r.choice((-1, 0, NOBODY)), r.choice((-1, 0, NOBODY)))
        elif what == 2:
            self.do(who, "utime", p, r.randrange(LONG_AGO))
        elif what == 3:
            self.do(who, "setxattr", p, r.choice((b"user.x", b"user.y")), self.bytes()[:100], r.choice((0, 0, os.XATTR_CREATE, os.XATTR_REPLACE)))
        elif what == 4:
            self.do(who, "removexattr", p, r.choice((b"user.x", b"user.y")))
        else:
            self.do(who, "xattrs", p)

    def call_content(self, who):
        r, p = self.random, self.path()
        if self.actors[0].ask("ino", p)[0][0] == "ok" and stat.S_ISLNK(self.actors[0].ask("ino", p)[0][1][1]):
            return  # where it leads may be open
        for f in self.open_on(p) or []:
            self.finish(f)
        what = r.randrange(6)
        if what == 0:
            self.do(who, "truncate", p, r.choice((0, 0, 1, 7, 4096, 100000)))
        elif what <= 2:
            self.do(who, "get", p)
        else:
            flags = os.O_WRONLY | r.choice((os.O_CREAT | os.O_TRUNC, os.O_CREAT | os.O_TRUNC, os.O_CREAT | os.O_APPEND, 0, os.O_APPEND,
                                            os.O_CREAT | os.O_EXCL))
            self.do(who, "put", p, flags | r.choice((0, 0, os.O_SYNC)), self.bytes(), self.mode() & 0o777)

    def call_open(self, who):
        r, p = self.random, self.path()
        if len(self.files) >= 6 or self.open_on(p):
            return
        node = self.actors[0].ask("ino", p)[0]
        if node[0] == "ok" and not stat.S_ISREG(node[1][1]):
            return
        flags = r.choice((os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR)) | r.choice((0, os.O_CREAT, os.O_CREAT)) | r.choice((0, 0, os.O_APPEND))
        if flags & os.O_ACCMODE != os.O_RDONLY:
            flags |= r.choice((0, 0, os.O_TRUNC)) | r.choice((0, 0, 0, os.O_SYNC))
        if r.randrange(5) == 0:
            flags |= os.O_EXCL | os.O_CREAT
        self.numbers += 1
        if self.do(who, "open", self.numbers, p, flags, self.mode() & 0o777)[0] == "ok":
            ino = self.actors[who].ask("fino", self.numbers)[0][1][0]
            self.files[self.numbers] = OpenFile(self.numbers, who, ino, p, flags, node[0] != "ok")

    def finish(self, f):
        del self.files[f.number]
        self.do(f.owner, "close", f.number)

    def is_deleted(self, f):
        return self.actors[f.owner].ask("fino", f.number)[0][1][1] == 0

    def call_file(self, who):
        r = self.random
        f = r.choice(list(self.files.values())) if self.files else None
        if not f:
            return
        what = r.randrange(14)
        if what == 0:
            self.finish(f)
        elif what == 1:
            self.do(f.owner, "fsync", f.number)
            f.dirty = False
        elif what == 2:
            self.do(f.owner, "dupclose", f.number)
        elif what == 3 and not self.is_deleted(f):
            if self.do(f.owner, "ftruncate", f.number, r.choice((0, 1, 5, 4096, 9000)))[0] == "ok":
                f.dirty = True
        elif what == 4 and not self.is_deleted(f):
            self.do(f.owner, "fchmod", f.number, self.mode())
        elif what == 5 and not self.is_deleted(f):
            self.settle(f)
            self.do(f.owner, "futime", f.number, r.randrange(LONG_AGO))
        elif what == 6 and not self.is_deleted(f):
            self.do(f.owner, "lseek", f.number, r.choice((0, 0, 3, 5000)), r.choice((os.SEEK_SET, os.SEEK_CUR, os.SEEK_END)))
        elif what == 7:
            self.do(f.owner, "read", f.number, r.choice((1, 10, 4096, 100000)))
        elif what == 8:
            self.do(f.owner, "pread", f.number, r.choice((1, 10, 100000)), r.choice((0, 2, 4096)))
        elif what == 9 and not self.is_deleted(f):
            self.do(f.owner, "fstat", f.number, not f.dirty)
        elif what == 10:
            if self.do(f.owner, "pwrite", f.number, self.bytes(), r.choice((0, 1, 50, 4000, 80000)))[0] == "ok":
                f.dirty = not f.flags & os.O_SYNC
        elif self.do(f.owner, "write", f.number, self.bytes())[0] == "ok":
            f.dirty = not f.flags & os.O_SYNC

    def look(self, who):
        p = self.path()
        dirty = any(f.dirty for f in self.open_on(p) or [])
        self.do(who, "stat", p, not dirty)

    def step(self):
        r = self.random
        who = r.randrange(len(self.actors))
        call = r.choice((self.call_name, self.call_name, self.call_attr, self.call_content, self.call_content, self.call_open,
                         self.call_file, self.call_file, self.call_file, self.call_file))
        if call is not self.call_file:
            self.meet(who)
        call(who)
        who = r.randrange(len(self.actors))
        self.meet(who)
        for _ in range(3):
            self.look(who)
        if r.randrange(10) == 0:
            self.do(who, "list", r.choice((b"", b"sub", b"d", b"sub/d")))

    def end(self):
        """All files closed, the two trees are the same."""
        for f in list(self.files.values()):
            self.finish(f)
        pending = [b""]
        while pending:
            path = pending.pop()
            answer = self.do(0, "list", path or b".")
            for name, is_dir, is_link in answer[1] if answer[0] == "ok" else []:
                child = path + b"/" + name if path else name
                self.do(0, "stat", child, True)
                self.do(0, "readlink" if is_link else "xattrs", child)
                if is_dir:
                    pending.append(child)
                elif not is_link:
                    self.do(0, "get", child)


def show(x):
    text = repr(x)
    return text if len(text) < 200 else text[:90] + " ... " + text[-90:]


def main():
    roots = [os.fsencode(r) for r in sys.argv[1:3]]
    seed, steps = int(sys.argv[3]), int(sys.argv[4])
    for root in roots:
        os.chmod(root, 0o777)
    print(f"seed {seed}", flush=True)
    driver = Driver(roots, seed)
    done, end = 0, time.monotonic() + SECONDS
    try:
        while done < steps and time.monotonic() < end:
            driver.step()
            done += 1
        driver.end()
    except Difference:
        for who, name, args, answers in driver.history[-HISTORY:-1]:
            print(f"  actor {who}: {name} {show(args)} -> {show(answers[0])}")
        who, name, args, answers = driver.history[-1]
        print(f"after {done} steps, actor {who}: {name} {show(args)}\n  tree:      {show(answers[0])}\n  reference: {show(answers[1])}")
        sys.exit(1)
    print(f"{done} steps, the same")


main()
