#!/usr/bin/env python3
"""streams.py MNT[,MNT...] DATA EVENTS OUT: writers change the tree, readers of all kinds follow the streams, and in the end they agree.

The daemons may be killed and started again meanwhile, by somebody else: writers go on, readers resume by since/, on the next member if there are
several. History is compacted all the time, `keep` revisions behind. Each whole-tree reader must have every revision once, in order, complete: revisions are contiguous, and
readers have the same lines for the same revision. A reader that compaction has overtaken gets ESTALE, and begins anew where it is: a known gap.
What is going to be compacted is kept in copies, OUT.db.N. In the end OUT has, for each revision that the readers have, the lines of the
first one; `streams.py check OUT DB...` compares all of them with the tables of these copies and of the stopped store.
"""
import errno, json, multiprocessing as mp, os, random, shutil, signal, sqlite3, sys, time

KEEP = 8000 # for long runs
# EXDEV: one name of a rename was looked up on the dead mount, the other one on the next.
DOWN = (errno.ENOTCONN, errno.ECONNABORTED, errno.ESHUTDOWN, errno.EIO, errno.ENOENT, errno.ETIMEDOUT, errno.ENODEV, errno.EXDEV)


def deadline():
    return time.monotonic() + 120 * float(os.environ.get('QFS_TIME_SCALE', '1'))


class Down(Exception):
    pass


def up(call, *args):
    """The call; Down when the mount is not there just now."""
    try:
        return call(*args)
    except OSError as e:
        if e.errno in DOWN:
            raise Down
        raise


def revision(q):
    end = deadline()
    while True:
        try:
            with open(q + '/revision') as f:
                return int(f.read())
        except (OSError, ValueError):
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


# ---- Writers -------------------------------------------------------------------------------------------------------------------------

def put(path, text):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)


def step(dir, k, r):
    """One revision, or an error."""
    what = r.randrange(10)
    a, b = ('%s/f%d' % (dir, r.randrange(200)) for _ in range(2))
    try:
        if what < 5:
            put(a, b'%d' % k)
        elif what == 5:
            os.rename(a, b) # over what is there: two events
        elif what == 6:
            os.unlink(a)
        elif what == 7:
            os.mkdir(a + 'd')
        elif what == 8:
            os.rmdir(a + 'd')
        else:
            os.chmod(a, 0o600 + k % 8)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR) and os.path.isdir(dir):
            return
        raise


def transact(q, dir, k, r):
    """Many events in one revision."""
    name = 'w%s.%d' % (os.path.basename(dir), k)
    os.mkdir('%s/txn/%s' % (q, name))
    try:
        tree = '%s/txn/%s/tree/%s' % (q, name, os.path.basename(dir))
        for i in range(r.randrange(1, 60)):
            put('%s/t%d' % (tree, i), b'%d' % k)
        put('%s/txn/%s/commit' % (q, name), b'\n')
    finally:
        os.rmdir('%s/txn/%s' % (q, name))


def writer(mnt, i, stop, seed):
    q, dir, r, k = mnt + '/.quorum', '%s/dir%d' % (mnt, i), random.Random(seed + i), 0
    while not stop.is_set():
        k += 1
        try:
            if not os.path.isdir(dir):
                os.mkdir(dir)
            if i == 0 and k % 20 == 0:
                transact(q, dir, k, r)
            else:
                step(dir, k, r)
        except OSError as e:
            if e.errno not in DOWN + (errno.EEXIST, errno.ESTALE, errno.ECANCELED):
                raise
            time.sleep(0.01)


def newest(db):
    return sqlite3.connect('file:%s?mode=ro' % db, uri=True).execute('SELECT max(seq) >> 20 FROM ver').fetchone()[0]


def compactor(mnt, stop, out, keep):
    """Compacts nothing before the tables that tell of it are copied."""
    q, copied, copies = mnt + '/.quorum', 0, 0
    while not stop.wait(0.2):
        try:
            at = revision(q) - keep
            if at > copied:
                db = '%s.db.%d' % (out, copies)
                shutil.copyfile(q + '/snapshot.db', db)
                copied, copies = newest(db), copies + 1
            if 1 < at <= copied:
                fd = os.open(q + '/compact', os.O_WRONLY)
                try:
                    os.write(fd, b'%d\n' % at)
                finally:
                    os.close(fd)
        except OSError:
            pass


# ---- Readers -------------------------------------------------------------------------------------------------------------------------

class Follower:
    """A consumer that resumes. `lines` has each revision's lines; a revision counts when the next one has begun, or when the stream is idle."""

    def __init__(self, mnts, since, path=''):
        self.qs, self.path = [mnt + '/.quorum' for mnt in mnts], path # the first one is where it reads
        self.done = since # the last revision that is complete
        self.lines, self.gaps, self.part, self.fd, self.group = {}, [], b'', None, []

    def open(self):
        name = '%s/since/%d%s/.events' % (self.qs[0], self.done, self.path)
        self.part, self.group = b'', []
        self.fd = up(os.open, name, os.O_RDONLY | os.O_NONBLOCK)

    def close(self):
        if self.fd is not None:
            try:
                os.close(self.fd)
            except OSError:
                pass
            self.qs.append(self.qs.pop(0))
        self.fd = None

    def complete(self):
        if self.group:
            rev = int(self.group[0].split(b'\t')[0])
            assert rev > self.done, ('twice, or out of order', rev, self.done)
            self.lines[rev] = self.group
            self.done = rev
            self.group = []

    def take(self, data):
        *lines, self.part = (self.part + data).split(b'\n')
        for line in lines:
            rev = int(line.split(b'\t')[0])
            if self.group and int(self.group[0].split(b'\t')[0]) != rev:
                self.complete()
            assert rev > self.done, ('twice, or out of order', line, self.done)
            self.group.append(line)

    def read(self, size):
        """False: nothing just now."""
        try:
            if self.fd is None:
                self.open()
            data = up(os.read, self.fd, size)
            if not data: # the member stops
                raise Down
            self.take(data)
            return True
        except BlockingIOError:
            if not self.part:
                self.complete() # lines of a revision come together
            return False
        except Down:
            if self.fd is None:
                self.qs.append(self.qs.pop(0))
            self.close()
            time.sleep(0.01)
            return False
        except OSError as e:
            if e.errno == errno.ERANGE: # the member has just started and is still applying its log
                self.close()
                time.sleep(0.01)
                return False
            if e.errno != errno.ESTALE:
                raise
            self.close()
            now = revision(self.qs[0])
            self.gaps.append((self.done, now))
            self.done = now
            return False


def reader(mnts, kind, since, final, out, keep):
    r, f = random.Random(since + len(kind)), Follower(mnts, since, '/dir1' if kind == 'dir1' else '')
    reads, end = 0, None
    while True:
        if kind == 'slow' and not final.value and f.done + keep // 4 > revision(f.qs[0]):
            time.sleep(0.005) # it stays behind, in blocks of its own
            continue
        size = {'fast': 131072, 'slow': 700, 'again': r.randrange(1, 20000), 'dir1': 5000}[kind]
        if not f.read(size):
            if final.value and f.done >= final.value:
                break
            if final.value and kind == 'dir1':
                end = end or time.monotonic() + 3
                if time.monotonic() > end:
                    break
            time.sleep(0.001)
        reads += 1
        if kind == 'again' and reads % 50 == 0:
            f.close() # what has been read of a revision is read again
    f.close()
    with open(out, 'w') as file:
        json.dump({'kind': kind, 'since': since, 'gaps': f.gaps, 'lines': {k: [l.decode('latin-1') for l in v] for k, v in f.lines.items()}}, file)


# ---- The whole -----------------------------------------------------------------------------------------------------------------------

def whole(name, r, first, last):
    """Every revision once, but for known gaps."""
    revs = sorted(int(k) for k in r['lines'])
    skipped = set()
    for a, b in r['gaps']:
        skipped.update(range(a + 1, b + 1))
    want = [v for v in range(first + 1, last + 1) if v not in skipped]
    assert revs == want, (name, 'lost or invented', sorted(set(want) ^ set(revs))[:10])


def run(mnts, events, out):
    members, q, stop, final, keep = len(mnts), mnts[0] + '/.quorum', mp.Event(), mp.Value('q', 0), min(KEEP, events * 2 // 3)
    seed = int(os.environ.get('SEED', time.time()))
    print('seed', seed, flush=True)
    first = revision(q)
    kinds = ['fast', 'slow', 'again', 'again', 'dir1']
    readers = [mp.Process(target=reader, args=(mnts[i % members:] + mnts[:i % members], kind, first, final, '%s.%d' % (out, i), keep)) for i, kind in enumerate(kinds)]
    others = [mp.Process(target=writer, args=(mnts[i % members], i, stop, seed)) for i in range(3)]
    others.append(mp.Process(target=compactor, args=(mnts[0], stop, out, keep)))
    for p in readers + others:
        p.daemon = True # when one has failed, the others end, too
        p.start()
    start = last = time.monotonic()
    while revision(q) - first < events:
        time.sleep(0.05)
        assert all(p.is_alive() for p in readers + others), 'somebody has died'
    stop.set()
    for p in others:
        p.join(60)
        assert p.exitcode == 0, p
    final.value = revision(q)
    for p in readers:
        p.join(120 * float(os.environ.get('QFS_TIME_SCALE', '1')))
        assert p.exitcode == 0, p
    seen = [json.load(open('%s.%d' % (out, i))) for i in range(len(kinds))]
    base = seen[0]
    n = 0
    for i, r in enumerate(seen):
        if r['kind'] != 'dir1':
            whole('reader %d, %s' % (i, r['kind']), r, first, final.value)
        for rev, lines in r['lines'].items():
            want = base['lines'].get(rev)
            if want is None:
                continue # it was in a gap of the other one
            if r['kind'] == 'dir1':
                want = [l for l in want if any(p == 'dir1' or p.startswith('dir1/') for p in l.split('\t')[2:4])]
            assert lines == want, ('torn', r['kind'], rev, lines, want)
            n += len(lines)
        if r['kind'] == 'dir1' and not base['gaps'] and not r['gaps']:
            want = {rev for rev, lines in base['lines'].items() if any(p == 'dir1' or p.startswith('dir1/') for l in lines for p in l.split('\t')[2:4])}
            assert set(r['lines']) == want, ('lost', sorted(want ^ set(r['lines']))[:10])
    json.dump(base['lines'], open(out, 'w'))
    print('%d revisions, %d lines read by %d readers, %d gaps that were told, %.0f s' %
          (final.value - first, n, len(kinds), sum(len(r['gaps']) for r in seen), time.monotonic() - start))


def tables_of(db):
    """Of each revision that it has whole: what, which name, why."""
    words = {1: 'put', 2: 'delete', 3: 'mkdir', 4: 'rmdir', 5: 'symlink', 6: 'rename', 7: 'attrib'}
    db, revs = sqlite3.connect('file:%s?mode=ro' % db, uri=True), {}
    compacted = db.execute('SELECT compacted FROM meta').fetchone()[0]
    for seq, op, name, cause in db.execute('SELECT seq, op, name, cause FROM ver ORDER BY seq'):
        if seq >> 20 > compacted:
            revs.setdefault(seq >> 20, []).append((words[op], name.decode('latin-1'), cause))
    return revs


def check(out, *dbs):
    """The lines against the tables."""
    lines = {int(k): v for k, v in json.load(open(out)).items()}
    tables = {}
    for db in dbs:
        tables.update(tables_of(db))
    missing = sorted(set(lines) - set(tables))
    assert lines and not missing, ('not in the tables', missing[:10])
    for rev, group in lines.items():
        assert len(tables[rev]) == len(group), (rev, tables[rev], group)
        for (word, name, cause), line in zip(tables[rev], group):
            fields = line.split('\t')
            path = fields[3 if word == 'rename' else 2]
            assert fields[1] == word and path.rsplit('/', 1)[-1] == name and (fields[-1] == 'txn') == (cause == 'txn'), (line, word, name, cause)
    print('%d revisions are as in the tables' % len(lines))


if __name__ == '__main__':
    if sys.argv[1] == 'check':
        check(*sys.argv[2:])
    else:
        run(sys.argv[1].split(','), int(sys.argv[3]), sys.argv[4])
