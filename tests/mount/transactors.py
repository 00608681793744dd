#!/usr/bin/env python3
"""transactors.py MNT[,MNT...] TEST [SECONDS]: concurrent transactions, through the mounts of one or several members, and what must hold
whatever order they take effect in.

    bank      transfers between accounts; the total is the same in every snapshot
    skew      two read both files, and write one of them only if both are 0: never both are 1
    append    lists that grow by reading and writing them: each committed element is there once, in the order of revisions, no other
    publish   a tree copied and removed by transactions; no snapshot, and no listing, shows a part of it
"""
import errno, multiprocessing as mp, os, random, subprocess, sys, time

TRANSACTORS = 8


def read(path):
    with open(path) as f:
        return f.read()


def write(path, text):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


MOUNTS = []


class Txn:
    """with Txn(i, ...) as t: commits at the end, on the i-th member; t.rev is the revision, None after a conflict."""

    def __init__(self, i, name):
        self.dir, self.rev = '%s/.quorum/txn/%s%d' % (MOUNTS[i % len(MOUNTS)], name, i), None
        self.tree = self.dir + '/tree'

    def __enter__(self):
        os.mkdir(self.dir)
        return self

    def __exit__(self, kind, e, trace):
        try:
            if kind is None:
                self.commit()
        finally:
            os.rmdir(self.dir)

    def commit(self):
        fd = os.open(self.dir + '/commit', os.O_WRONLY)
        try:
            os.write(fd, b'\n')
            self.rev = int(read(self.dir + '/status').split()[1])
        except OSError as e:
            if e.errno != errno.ECANCELED:
                raise
            assert read(self.dir + '/status').startswith('conflict ')
        finally:
            os.close(fd)


def workers(seconds, count, function, *args):
    """Runs function(i, until, results, *args) in processes; their results."""
    out, until = mp.Queue(), time.time() + seconds
    ps = [mp.Process(target=function, args=(i, until, out) + args) for i in range(count)]
    for p in ps:
        p.start()
    results = [out.get(timeout=seconds + 60) for _ in ps]
    for p in ps:
        p.join()
        assert p.exitcode == 0
    return results


# ---- bank ----------------------------------------------------------------------------------------------------------------------------

ACCOUNTS, EACH = 20, 100


def transfer(i, until, out, mnt):
    r, done, lost = random.Random(i), 0, 0
    while time.time() < until:
        a, b = r.sample(range(ACCOUNTS), 2)
        with Txn(i, 'bank') as t:
            names = ['%s/bank/%d' % (t.tree, n) for n in (a, b)]
            have = [int(read(n)) for n in names]
            sum = r.randrange(1, 20)
            write(names[0], str(have[0] - sum))
            write(names[1], str(have[1] + sum))
        done, lost = done + (t.rev is not None), lost + (t.rev is None)
    out.put((done, lost))


def total(dir):
    return sum(int(read('%s/%d' % (dir, n))) for n in range(ACCOUNTS))


def audit(i, until, out, mnt):
    n = 0
    while time.time() < until:
        rev = read(mnt + '/.quorum/revision').strip()
        assert total('%s/.quorum/at/%s/bank' % (mnt, rev)) == ACCOUNTS * EACH, rev
        with Txn(i, 'audit') as t: # a view is a snapshot, whether it can be committed or not
            assert total(t.tree + '/bank') == ACCOUNTS * EACH
        n += 1
    out.put(n)


def bank(mnt, seconds):
    os.mkdir(mnt + '/bank')
    for n in range(ACCOUNTS):
        write('%s/bank/%d' % (mnt, n), str(EACH))
    q = mp.Queue()
    auditor = mp.Process(target=audit, args=(0, time.time() + seconds, q, mnt))
    auditor.start()
    results = workers(seconds, TRANSACTORS, transfer, mnt)
    n = q.get(timeout=60)
    auditor.join()
    assert auditor.exitcode == 0
    assert total(mnt + '/bank') == ACCOUNTS * EACH
    done, lost = (sum(x[k] for x in results) for k in (0, 1))
    assert done > 0
    print('%d transfers, %d conflicts, %d audits: %.0f transfers/s' % (done, lost, n, done / seconds))


# ---- skew ----------------------------------------------------------------------------------------------------------------------------

def skewed(i, until, out, mnt, round):
    with Txn(i, 'skew') as t:
        names = ['%s/skew/%d/%s' % (t.tree, round, n) for n in 'ab']
        both = [read(n) for n in names]
        if both == ['0', '0']:
            write(names[i], '1')
    out.put(t.rev is not None and both == ['0', '0'])


def skew(mnt, seconds):
    until, round, wins = time.time() + seconds, 0, 0
    os.mkdir(mnt + '/skew')
    while time.time() < until:
        round += 1
        os.mkdir('%s/skew/%d' % (mnt, round))
        for n in 'ab':
            write('%s/skew/%d/%s' % (mnt, round, n), '0')
        won = workers(1, 2, skewed, mnt, round)
        after = sorted(read('%s/skew/%d/%s' % (mnt, round, n)) for n in 'ab')
        assert after != ['1', '1'], round
        assert (after == ['0', '1']) == (sum(won) == 1), (after, won)
        wins += sum(won)
    print('%d rounds, %d times one has won' % (round, wins))


# ---- append --------------------------------------------------------------------------------------------------------------------------

LISTS = 3


def append(i, until, out, mnt):
    r, done, k = random.Random(i), [], 0
    while time.time() < until:
        k += 1
        which, element = r.randrange(LISTS), '%d.%d' % (i, k)
        with Txn(i, 'append') as t:
            name = '%s/lists/%d' % (t.tree, which)
            write(name, read(name) + element + '\n')
        if t.rev is not None:
            done.append((t.rev, which, element))
    out.put(done)


def lists(mnt, seconds):
    os.mkdir(mnt + '/lists')
    for n in range(LISTS):
        write('%s/lists/%d' % (mnt, n), '')
    done = sorted(sum(workers(seconds, TRANSACTORS, append, mnt), []))
    for n in range(LISTS):
        assert read('%s/lists/%d' % (mnt, n)).split() == [e for _, which, e in done if which == n], n
    assert len({rev for rev, _, _ in done}) == len(done) > 0
    print('%d appends, each there once and in its order' % len(done))


# ---- publish -------------------------------------------------------------------------------------------------------------------------

def count(dir):
    return sum(len(files) for _, _, files in os.walk(dir))


def looker(i, until, out, mnt, want):
    n = [0, 0]
    while time.time() < until:
        with Txn(i, 'look') as t:
            got = count(t.tree + '/pub/tree')
            n[got > 0] += 1
            assert got in (0, want), got
            name = '%s/pub/tree/d0' % mnt
            try:
                names = os.listdir(name)
                assert len(names) == 10, names # a directory handle lists one revision
            except FileNotFoundError:
                pass
            except OSError as e:
                assert e.errno == errno.ESTALE, e
    out.put(n)


def publish(mnt, seconds):
    src = os.environ.get('TMPDIR', '/tmp') + '/publish.%d' % os.getpid()
    for d in range(5):
        os.makedirs('%s/d%d' % (src, d))
        for f in range(10):
            write('%s/d%d/f%d' % (src, d, f), 'x' * f)
    os.mkdir(mnt + '/pub')
    q, until, rounds = mp.Queue(), time.time() + seconds, 0
    ps = [mp.Process(target=looker, args=(i, until, q, mnt, 50)) for i in range(2)]
    for p in ps:
        p.start()
    while time.time() < until:
        rounds += 1
        for command in (['cp', '-r', src, '%s/pub/tree'], ['rm', '-r', '%s/pub/tree']):
            with Txn(0, 'publish') as t:
                subprocess.run([w.replace('%s', t.tree) for w in command], check=True)
            assert t.rev is not None
    seen = [q.get(timeout=60) for _ in ps]
    for p in ps:
        p.join()
        assert p.exitcode == 0
    subprocess.run(['rm', '-r', src], check=True)
    print('%d times there and gone again; looked at %s times when it was not, %s when it was' % (rounds, sum(s[0] for s in seen), sum(s[1] for s in seen)))


if __name__ == '__main__':
    MOUNTS += sys.argv[1].split(',')
    {'bank': bank, 'skew': skew, 'append': lists, 'publish': publish}[sys.argv[2]](MOUNTS[0], float(sys.argv[3]) if len(sys.argv) > 3 else 5)
