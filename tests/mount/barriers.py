"""barriers.py MOUNT DIRECTORY: each system call of a list waits for as many read barriers as the list says, and no more.

Counts by the metrics of the mount, so nobody else may use it meanwhile. Prints what differs and exits with 1."""

import os
import re
import sys

mount, top = sys.argv[1:]
bad = 0


def barriers():
    with open(mount + '/.quorum/metrics') as f:
        return int(re.search(r'^quorumfs_barriers_total (\d+)', f.read(), re.M).group(1))


def expect(n, what, call):
    global bad
    before = barriers()
    try:
        call()
    except OSError:
        pass
    seen = barriers() - before
    if seen != n:
        bad = 1
        print(f'{what}: {seen} barriers, expected {n}')


def close(fd):
    os.close(fd)


def files(path):
    """What asks once, however deep the file is."""
    with open(path, 'w') as f:
        f.write('x')
    os.symlink('f', path + '.link')
    expect(1, f'open {path}', lambda: close(os.open(path, os.O_RDONLY)))
    expect(1, f'open for writing {path}', lambda: close(os.open(path, os.O_WRONLY)))
    expect(1, f'O_TRUNC {path}', lambda: close(os.open(path, os.O_WRONLY | os.O_TRUNC)))
    expect(1, f'stat {path}', lambda: os.stat(path))
    expect(1, f'access {path}', lambda: os.access(path, os.R_OK))
    expect(1, f'getxattr {path}', lambda: os.getxattr(path, 'user.quorum.version'))
    expect(1, f'listxattr {path}', lambda: os.listxattr(path))
    expect(1, f'readlink {path}.link', lambda: os.readlink(path + '.link'))
    expect(1, f'stat of what is missing {path}', lambda: os.stat(path + '.none'))
    expect(1, f'open of what is missing {path}', lambda: os.open(path + '.none', os.O_RDONLY))
    expect(1, f'O_EXCL of what is there {path}', lambda: os.open(path, os.O_CREAT | os.O_EXCL))
    expect(1, f'O_CREAT of what is missing {path}', lambda: close(os.open(path + '.new', os.O_CREAT | os.O_WRONLY)))
    expect(1, f'symlink {path}', lambda: os.symlink('x', path + '.new2'))


def descriptors(path):
    fd = os.open(path, os.O_RDWR)
    expect(1, f'fstat {path}', lambda: os.fstat(fd))
    expect(1, f'fgetxattr {path}', lambda: os.getxattr(fd, 'user.quorum.version'))
    expect(0, f'read {path}', lambda: os.read(fd, 10))
    expect(0, f'write {path}', lambda: os.write(fd, b'y'))
    expect(0, f'fsync {path}', lambda: os.fsync(fd))
    expect(0, f'close {path}', lambda: os.close(fd))


def directories(path):
    expect(1, f'stat {path}', lambda: os.stat(path))
    expect(1, f'mkdir of what is there {path}', lambda: os.mkdir(path))
    expect(1, f'mkdir below {path}', lambda: os.mkdir(path + '/new'))
    expect(1, f'opendir {path}', lambda: close(os.open(path, os.O_RDONLY | os.O_DIRECTORY)))
    expect(1, f'listdir {path}', lambda: os.listdir(path))


def never():
    expect(0, 'stat of the root', lambda: os.stat(mount))
    expect(0, 'statvfs', lambda: os.statvfs(mount))
    expect(0, 'ls .quorum', lambda: os.listdir(mount + '/.quorum'))
    expect(0, 'stat .quorum/revision', lambda: os.stat(mount + '/.quorum/revision'))
    expect(0, 'open .quorum/status', lambda: close(os.open(mount + '/.quorum/status', os.O_RDONLY)))
    expect(0, '.quorum/local', lambda: os.listdir(mount + '/.quorum/local'))
    expect(1, 'open .quorum/revision', lambda: close(os.open(mount + '/.quorum/revision', os.O_RDONLY)))


barriers()
os.makedirs(top + '/a/b/c')
for path in (top + '/f', top + '/a/f', top + '/a/b/c/f'):
    files(path)
    descriptors(path)
for path in (top + '/a', top + '/a/b/c'):
    directories(path)
os.chdir(top + '/a/b')
expect(1, 'stat of a relative name', lambda: os.stat('c'))
expect(1, 'open of a relative name', lambda: close(os.open('c/f', os.O_RDONLY)))
never()
sys.exit(bad)
