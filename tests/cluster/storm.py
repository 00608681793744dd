"""storm.py A B ROUNDS: what one process replaces all the time on mount A, another uses by name on mount B, in every way. No call may
fail: not for a file that is replaced by rename, nor for one below a directory that is exchanged. (ENOENT and EEXIST are right answers where
names come and go.) Prints what failed, and exits with 1."""

import collections
import ctypes
import errno
import os
import sys

a, b, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
libc = ctypes.CDLL(None)


def replaces_files():
    with open(a + '/f.new', 'w') as f:
        f.write('x')
    os.rename(a + '/f.new', a + '/f')


def exchanges_directories():
    libc.renameat2(-100, (a + '/conf').encode(), -100, (a + '/next').encode(), 2)


def comes_and_goes():
    with open(a + '/g', 'w') as f:
        f.write('x')
    os.unlink(a + '/g')


def writes(path, flags):
    fd = os.open(path, flags, 0o644)
    os.write(fd, b'w')
    os.close(fd)


def uses(path):
    return {
        'read': lambda: open(path).read(),
        'stat': lambda: os.stat(path),
        'O_WRONLY': lambda: writes(path, os.O_WRONLY),
        'O_TRUNC': lambda: writes(path, os.O_WRONLY | os.O_TRUNC),
        'O_CREAT': lambda: writes(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        'chmod': lambda: os.chmod(path, 0o640),
        'getxattr': lambda: os.getxattr(path, 'user.quorum.version'),
        'setxattr': lambda: os.setxattr(path, 'user.a', b'1'),
        'listxattr': lambda: os.listxattr(path),
        'access': lambda: os.access(path, os.R_OK),
        'truncate': lambda: os.truncate(path, 1),
        'utime': lambda: os.utime(path),
    }


def makes(path):
    return {
        'O_EXCL': lambda: os.close(os.open(path + '.x', os.O_CREAT | os.O_EXCL)),
        'unlink': lambda: os.unlink(path + '.x'),
        'mkdir': lambda: os.mkdir(path + '.d'),
        'listdir': lambda: os.listdir(path + '.d'),
        'rename': lambda: os.rename(path + '.d', path + '.e'),
        'rmdir': lambda: os.rmdir(path + '.e'),
        'symlink': lambda: os.symlink('f', path + '.l'),
        'readlink': lambda: os.readlink(path + '.l'),
        'unlink of a link': lambda: os.unlink(path + '.l'),
    }


def storm(replaces, calls, allowed):
    failed = collections.Counter()
    pid = os.fork()
    if pid == 0:
        while True:
            replaces()
    for _ in range(rounds):
        for name, call in calls.items():
            try:
                call()
            except OSError as e:
                if e.errno not in allowed:
                    failed[name, str(e)] += 1
    os.kill(pid, 9)
    os.wait()
    for (name, error), n in failed.items():
        print(f'{replaces.__name__}: {name} failed {n} times: {error}')
    return bool(failed)


for d in ('conf', 'next'):
    os.makedirs(f'{a}/{d}', exist_ok=True)
    with open(f'{a}/{d}/x', 'w') as f:
        f.write(d)
replaces_files()
gone = (errno.ENOENT, errno.EEXIST, errno.ENODATA)  # the last: of a file in the making
bad = storm(replaces_files, uses(b + '/f'), ())
bad |= storm(exchanges_directories, {**uses(b + '/conf/x'), 'list': lambda: os.listdir(b + '/conf')}, ())
bad |= storm(exchanges_directories, makes(b + '/conf/y'), gone)
bad |= storm(comes_and_goes, uses(b + '/g'), gone)
sys.exit(bad)
