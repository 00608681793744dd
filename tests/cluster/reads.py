"""reads.py A B DIRECTORY [ROUNDS]: what returned on mount A is seen by the next call on mount B.

Prints each check that saw something old, and exits with 1."""

import errno
import os
import sys

here, there = (os.path.join(m, sys.argv[3]) for m in sys.argv[1:3])
rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 5
bad = 0


def write(path, text):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(fd, text.encode())
    os.fsync(fd)
    os.close(fd)


def read(path):
    with open(path) as f:
        return f.read()


def error(call):
    try:
        call()
    except OSError as e:
        return e.errno
    return 0


def see(what, seen, expected):
    global bad
    if seen != expected:
        bad = 1
        print(f'{what}: saw {seen!r}, expected {expected!r}')


def make(path):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


def contents(i):
    write('f', str(i))
    see('content', read(there + '/f'), str(i))
    write('t', str(i) + 'renamed')
    os.rename('t', 'f')
    see('content of what was renamed over it', read(there + '/f'), str(i) + 'renamed')
    with open('f', 'a') as f:
        f.write('x' * i)
    see('size', os.stat(there + '/f').st_size, len(str(i) + 'renamed') + i)


def names(i):
    see('a missing name', error(lambda: os.stat(there + '/n')), errno.ENOENT)
    make('n')
    see('a new name', error(lambda: os.stat(there + '/n')), 0)
    see('O_EXCL of a new name', error(lambda: make(there + '/n')), errno.EEXIST)
    os.unlink('n')
    see('a name that went', error(lambda: os.stat(there + '/n')), errno.ENOENT)
    see('O_EXCL of a name that went', error(lambda: make(there + '/n')), 0)
    os.unlink('n')
    see('access of a name that went', error(lambda: open(there + '/n')), errno.ENOENT)
    os.symlink(str(i), 'l')
    see('link', os.readlink(there + '/l'), str(i))
    os.unlink('l')
    os.symlink(str(i) + 'new', 'l')
    see('link made anew', os.readlink(there + '/l'), str(i) + 'new')
    os.unlink('l')


def attributes(i):
    os.chmod('f', 0o600 + i % 8)
    see('mode', os.stat(there + '/f').st_mode & 0o777, 0o600 + i % 8)
    os.setxattr('f', 'user.i', str(i).encode())
    see('xattr', os.getxattr(there + '/f', 'user.i'), str(i).encode())
    os.chmod('.', 0o750 + i % 8)
    see('mode of a directory', os.stat(there).st_mode & 0o777, 0o750 + i % 8)


def directories(i):
    os.mkdir('d')
    see('mkdir of a new directory', error(lambda: os.mkdir(there + '/d')), errno.EEXIST)
    write('d/x', str(i))
    see('list', os.listdir(there + '/d'), ['x'])
    os.unlink('d/x')
    see('list of an empty directory', os.listdir(there + '/d'), [])
    os.rmdir('d')
    see('a directory that went', error(lambda: os.stat(there + '/d')), errno.ENOENT)
    os.mkdir('d')
    see('stat of a directory', error(lambda: os.stat(there + '/d')), 0)
    os.rmdir('d')
    see('mkdir of a directory that went', error(lambda: os.mkdir(there + '/d')), 0)
    os.rmdir('d')


def trees(i):
    """A directory is published by renames; who goes by its name gets the new one."""
    os.mkdir('new')
    write('new/x', str(i))
    os.rename('conf', 'old')
    os.rename('new', 'conf')
    see('content in a new directory', read(there + '/conf/x'), str(i))
    os.rename('conf', 'new')
    os.rename('old', 'conf')
    see('unlink in the old directory', error(lambda: os.unlink(there + '/conf/x')), 0)
    see('the new one', error(lambda: os.stat('new/x')), 0)
    os.rename('conf', 'old')
    os.rename('new', 'conf')
    write(there + '/conf/y', 'y')
    see('made in the new directory', sorted(os.listdir('conf')), ['x', 'y'])
    os.unlink('conf/y')
    os.rmdir('old')


def revision(i):
    write('f', 'r')
    mine = int(os.getxattr('f', 'user.quorum.mod_revision'))
    with open(sys.argv[2] + '/.quorum/revision') as f:
        seen = int(f.read())
    see('revision', seen >= mine, True)


os.makedirs(here + '/conf', exist_ok=True)
os.chdir(here)
write('conf/x', 'first')
write('f', 'first')
for i in range(rounds):
    for check in (contents, names, attributes, directories, trees, revision):
        try:
            check(i)
        except OSError as e:
            bad = 1
            print(f'{check.__name__}: {e}')
    if bad:
        break
sys.exit(bad)
