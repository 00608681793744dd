"""moves.py SECONDS MOUNT...: on each of the mounts programs move the same few directories to and fro between two others, and use them where they find
them. Whoever is told ESTALE has met a directory that was moved twice while its call lasted, or that its kernel could not move: there may be few of
them. Prints how often each call said what; exits with 1 if more than one of a hundred was ESTALE, or one said what it may not."""

import collections
import errno
import os
import random
import sys
import time

seconds, mounts = float(sys.argv[1]), sys.argv[2:]
seed = int(os.environ.get('MOVES_SEED') or random.randrange(10**6))
DIRS, EACH = 4, 3
EXPECTED = {'ok', 'ENOENT', 'EEXIST', 'ENOTEMPTY', 'ESTALE'}


def read(path):
    os.close(os.open(path + '/f', os.O_RDONLY))


def move(path):
    os.rename(path, path.replace('/a/', '/b/') if '/a/' in path else path.replace('/b/', '/a/'))


def make(path):
    try:
        os.mkdir(path)
    except OSError as e:
        if e.errno != errno.ETIMEDOUT:  # made, and replaced by a rename at once: nothing else says that it was there
            raise


CALLS = {'open': read, 'readdir': os.listdir, 'mkdir': make, 'move': move}


def work(top, number, end, out):
    rnd = random.Random(seed * 100 + number)
    said = collections.Counter()
    while time.monotonic() < end:
        name, path = rnd.choice(sorted(CALLS)), f'{top}/{rnd.choice("ab")}/d{rnd.randrange(DIRS)}'
        try:
            CALLS[name](path)
            said[name, 'ok'] += 1
        except OSError as e:
            said[name, errno.errorcode[e.errno]] += 1
    with os.fdopen(out, 'w') as f:
        f.write(repr(dict(said)))


def children(end):
    pipes = []
    for i in range(EACH * len(mounts)):
        r, w = os.pipe()
        if os.fork() == 0:
            code = 1
            try:
                work(mounts[i % len(mounts)], i, end, w)
                code = 0
            finally:
                os._exit(code)
        os.close(w)
        pipes.append(r)
    return pipes


for side in 'ab':
    os.mkdir(f'{mounts[0]}/{side}')
for i in range(DIRS):
    os.mkdir(f'{mounts[0]}/a/d{i}')
    open(f'{mounts[0]}/a/d{i}/f', 'w').close()
total = collections.Counter()
for r in children(time.monotonic() + seconds):
    with os.fdopen(r) as f:
        total.update(eval(f.read()))
for name in CALLS:
    print(name, *(f'{e}={n}' for (call, e), n in sorted(total.items()) if call == name))
stale = sum(n for (_, e), n in total.items() if e == 'ESTALE')
print(f'{stale} of {sum(total.values())} calls said ESTALE; seed {seed}')
unexpected = {e for _, e in total} - EXPECTED
if unexpected:
    sys.exit(f'unexpected: {unexpected}')
if stale * 200 > 3 * sum(total.values()):  # 0.3 to 0.7 percent, the latter on a busy machine
    sys.exit('too many were told ESTALE')
