#!/usr/bin/env python3
"""Random changes of a tree, and then every revision of it, and every version of each name, as the test remembers them.

    past.py CONTROL TREE STATE SEED STEPS

CONTROL is .quorum of the mount, TREE a directory on it. STATE is a file in which what is remembered stays from one run to the next, so that
a new start of the daemon can come in between. In the course of a run it compacts, a random distance back. For every revision that is
retained at/REV must equal the copy of then: names, types, contents, modes, sizes, targets. And history/PATH must list exactly the revisions at
which the name got another content, or lost all. Prints the seed and the first difference.
"""
import os
import pickle
import random
import stat
import sys

NAMES = ["a", "b", "c", "dir", "odd \u00e9\n", "123", "7.deleted"]


class Numbered:
    """What is the same only as itself, also after it was put away and brought back."""

    def __init__(self):
        self.number = random.getrandbits(64)


class Inode(Numbered):
    """A file or a symlink. `content` is an object of its own for each commit: equal bytes are no reason to be one version."""

    def __init__(self, kind, content, mode):
        super().__init__()
        self.kind, self.content, self.mode = kind, content, mode


class Content(Numbered):
    def __init__(self, data):
        super().__init__()
        self.data = data


class Dir(Numbered):
    def __init__(self, mode):
        super().__init__()
        self.kind, self.entries, self.mode = "d", {}, mode


def flat(directory, prefix=""):
    """{path: (kind, mode, bytes, inode's number, content's number)} of all below."""
    out = {}
    for name, node in directory.entries.items():
        path = prefix + name
        if node.kind == "d":
            out[path] = ("d", node.mode, b"", node.number, None)
            out.update(flat(node, path + "/"))
        else:
            out[path] = (node.kind, node.mode, node.content.data, node.number, node.content.number)
    return out


class Test:
    def __init__(self, control, tree, steps):
        self.control, self.tree, self.steps = control, tree, steps
        self.top = os.path.basename(tree)
        self.root = Dir(0o755)
        self.revisions = {}  # revision: flat() of then
        self.first = self.revision()
        self.count = 0
        self.remember()

    def revision(self):
        with open(self.control + "/revision") as f:
            return int(f.read())

    def compacted(self):
        with open(self.control + "/compact") as f:
            return int(f.read())

    def remember(self):
        self.revisions[self.revision()] = flat(self.root)

    # ---- Changes -----------------------------------------------------------------------------------------------------------

    def somewhere(self):
        """A directory: its path on the mount, and ours."""
        path, node = self.tree, self.root
        while random.random() < 0.6:
            subs = [n for n, e in node.entries.items() if e.kind == "d"]
            if not subs:
                break
            name = random.choice(subs)
            path, node = path + "/" + name, node.entries[name]
        return path, node

    def put(self, path, d, name):
        node = d.entries.get(name)
        if node and node.kind != "f":
            return
        self.count += 1
        content = Content(b"%d\n" % self.count * random.choice([1, 1, 1, 2000]))
        fd = os.open(path + "/" + name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(fd, content.data)
        os.close(fd)
        if node:
            node.content = content
        else:
            d.entries[name] = Inode("f", content, 0o644)

    def symlink(self, path, d, name):
        if name not in d.entries:
            target = Content(b"target %d" % self.count)
            os.symlink(target.data, os.fsencode(path + "/" + name))
            d.entries[name] = Inode("l", target, 0o777)

    def mkdir(self, path, d, name):
        if name not in d.entries:
            os.mkdir(path + "/" + name, 0o755)
            d.entries[name] = Dir(0o755)

    def remove(self, path, d, name):
        node = d.entries.get(name)
        if node and node.kind != "d":
            os.unlink(path + "/" + name)
        elif node and not node.entries:
            os.rmdir(path + "/" + name)
        else:
            return
        del d.entries[name]

    def chmod(self, path, d, name):
        node = d.entries.get(name)
        if node and node.kind != "l":
            node.mode = random.choice([0o600, 0o644, 0o700, 0o755])
            os.chmod(path + "/" + name, node.mode)

    def rename(self, path, d, name):
        path2, d2 = self.somewhere()
        name2 = random.choice(NAMES)
        try:
            os.rename(path + "/" + name, path2 + "/" + name2)
        except OSError:
            return
        d2.entries[name2] = d.entries.pop(name)

    def step(self):
        path, d = self.somewhere()
        change = random.choice([self.put] * 5 + [self.rename] * 3 + [self.remove] * 2 + [self.symlink, self.mkdir, self.chmod])
        before = self.revision()
        change(path, d, random.choice(NAMES))
        after = self.revision()
        if after > before + 1:
            raise SystemExit(f"{change.__name__} took {after - before} revisions")
        self.remember()

    # ---- Looking -----------------------------------------------------------------------------------------------------------

    def seen(self, top):
        out = {}
        for path, dirs, files in os.walk(top):
            for name in dirs + files:
                full = os.path.join(path, name)
                st = os.lstat(full)
                key = os.path.relpath(full, top)
                if stat.S_ISLNK(st.st_mode):
                    out[key] = ("l", 0o777, os.fsencode(os.readlink(full)))
                elif stat.S_ISDIR(st.st_mode):
                    out[key] = ("d", stat.S_IMODE(st.st_mode), b"")
                else:
                    with open(full, "rb") as f:
                        out[key] = ("f", stat.S_IMODE(st.st_mode), f.read())
                    if st.st_size != len(out[key][2]):
                        raise SystemExit(f"{full}: {st.st_size} bytes, read {len(out[key][2])}")
        return out

    def look_at_revisions(self):
        oldest = self.compacted()
        for rev, then in self.revisions.items():
            top = f"{self.control}/at/{rev}/{self.top}"
            if rev < oldest:
                try:
                    os.stat(top + "/x")
                    raise SystemExit(f"at/{rev} can be read, although {oldest} is compacted")
                except OSError as e:
                    if e.strerror != "Stale file handle" and e.errno != 2:  # the kernel may know that there was no x
                        raise
                continue
            got = self.seen(top)
            want = {path: value[:3] for path, value in then.items()}
            if got != want:
                raise SystemExit(f"at/{rev}: {sorted(got.items() ^ want.items())[:6]}")

    def versions(self):
        """{path: {entry: bytes}} that history has to show."""
        oldest, out = self.compacted(), {}
        was = {}
        for rev in range(self.first, max(self.revisions) + 1):
            now = self.revisions.get(rev, was)
            for path in was.keys() | now.keys():
                a, b = was.get(path), now.get(path)
                a_file, b_file = a and a[0] != "d", b and b[0] != "d"
                if b_file and (not a_file or a[3:] != b[3:]):
                    out.setdefault(path, []).append((rev, str(rev), b[2]))
                elif a_file and not b:
                    out.setdefault(path, []).append((rev, f"{rev}.deleted", b""))
                if b and not b_file:
                    out.setdefault(path, [])
            was = now
        at_oldest = self.revisions.get(max((r for r in self.revisions if r <= oldest), default=self.first), {})
        retained = {}
        for path, entries in out.items():
            keep = {name: data for rev, name, data in entries if rev > oldest}
            older = [e for e in entries if e[0] <= oldest]
            if path in at_oldest and at_oldest[path][0] != "d":  # what the oldest revision shows is retained, whenever it came
                keep[older[-1][1]] = older[-1][2]
            retained[path] = keep
        return retained

    def look_at_history(self):
        oldest = self.compacted()
        ever = set()
        for rev, then in self.revisions.items():
            following = [r for r in self.revisions if r > rev]
            if rev >= oldest or not following or min(following) > oldest:
                ever |= then.keys()
        want = {p: v for p, v in self.versions().items() if p in ever}
        got = {p: {} for p in ever}
        top = f"{self.control}/history/{self.top}"
        for path in ever:
            entries = set(os.listdir(os.path.join(top, path)))
            below = {p[len(path) + 1:] for p in ever if p.startswith(path + "/") and "/" not in p[len(path) + 1:]}
            if entries != below | want.get(path, {}).keys():
                raise SystemExit(f"history/{path}: {sorted(entries)}, expected {sorted(below | want.get(path, {}).keys())} (compacted {oldest})")
            for name, data in want.get(path, {}).items():
                full = os.path.join(top, path, name)
                if stat.S_ISLNK(os.lstat(full).st_mode):
                    seen = os.fsencode(os.readlink(full))
                else:
                    with open(full, "rb") as f:
                        seen = f.read()
                if seen != data:
                    raise SystemExit(f"{full}: {seen[:40]}, expected {data[:40]}")
        names = set(os.listdir(top))
        if names != {p for p in ever if "/" not in p}:
            raise SystemExit(f"history/: {names}")

    def run(self):
        for i in range(self.steps):
            self.step()
            if i % 100 == 99:
                self.look_at_revisions()
                self.look_at_history()
                back = random.randrange(20, 120)
                if self.revision() - back > self.compacted():
                    with open(self.control + "/compact", "w") as f:
                        f.write(f"{self.revision() - back}\n")
                self.look_at_revisions()
                self.look_at_history()


def main():
    control, tree, state, seed, steps = sys.argv[1:6]
    print(f"seed {seed}", flush=True)
    random.seed(int(seed))
    if os.path.exists(state):
        with open(state, "rb") as f:
            test = pickle.load(f)
        test.steps = int(steps)
        test.look_at_revisions()
        test.look_at_history()
    else:
        test = Test(control, tree, int(steps))
    test.run()
    with open(state, "wb") as f:
        pickle.dump(test, f)


main()
