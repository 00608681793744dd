"""lockstorm.py KIND ACQUISITIONS CONTENDERS SECONDS LOG TROUBLE MOUNT...: contenders on several members want one lock, again and again, while
members die, sleep and lose their network, and while contenders themselves are killed. lib/trouble.bash sees to the former: it writes TROUBLE.log, and
ends when there is TROUBLE.end.

KIND: flock, lockf, or named (a file of .quorum/locks). A contender that has the lock takes a number: of flock and lockf the next one in a
file that only the holder writes, committed by fsync; of named the lock's token. Then it holds the lock for a moment, and gives it back.
LOG gets a line for each step: TIME CONTENDER MEMBER WHAT [NUMBER].

Goes on until ACQUISITIONS were acknowledged, at most SECONDS. Then it waits until each contender has had the lock once more. It fails if

- a number was given twice, or a smaller one after a larger one;
- a contender does not get the lock any more once all is quiet;
- somebody who asked clearly later got it before one whose member and the leader were well.

It prints what it counted, with the overlap: for how long a contender that had lost the lock did not know yet, while another one had it."""

import bisect
import collections
import errno
import fcntl
import os
import random
import signal
import sys
import threading
import time

EARLIER_S = 0.5  # who asked so much earlier was in the queue, if nothing was wrong, and the machine as quick as it was then for the probes
PROBE_S = 0.1    # how often each member is probed
GRACE_S = 3.0    # after a fault: members find each other again
HOLD_S = 0.06    # for how long it is held at most, but for
LONG_SHARE = 0.04
LONG_S = 3.0
LOOK_S = 0.02    # who looks whether it still has the lock does so that often
LOOK_LOG_S = 0.5 # how often the logs of the members are looked at


class Contender:
    def __init__(self, number, kind, mounts, log):
        self.number, self.kind, self.log = number, kind, log
        self.member = number % len(mounts) + 1
        self.mount = mounts[number % len(mounts)]
        self.random = random.Random(number * 1000003 + os.getpid())

    def note(self, what, number=''):
        os.write(self.log, f'{time.time():.6f} {self.number} {self.member} {what} {number}\n'.encode())

    def acquire(self):
        if self.kind == 'named':
            return os.open(self.mount + '/.quorum/locks/storm', os.O_WRONLY)
        fd = os.open(self.mount + '/storm', os.O_RDWR)
        try:
            if self.kind == 'flock':
                fcntl.flock(fd, fcntl.LOCK_EX)
            else:
                fcntl.lockf(fd, fcntl.LOCK_EX)
        except OSError:
            self.close(fd)
            raise
        return fd

    def take_number(self, fd):
        if self.kind == 'named':
            number = int(os.getxattr(self.mount + '/.quorum/locks/storm', 'user.quorum.token'))
            os.write(fd, b'%d' % self.number)  # it was ours when that was read, since it still is
            return number
        number = int(os.pread(fd, 20, 0) or b'0') + 1
        os.pwrite(fd, b'%d' % number, 0)
        os.fsync(fd)
        return number

    def close(self, fd):
        try:
            os.close(fd)
        except OSError:
            pass

    def look(self, fd):
        os.write(fd, b'still') if self.kind == 'named' else os.pread(fd, 1, 0)

    def hold(self, fd):
        """Mostly for a moment. Sometimes for long, so that faults meet holders: then one looks now and then whether it still has it, another does not."""
        looks = self.random.random() < 0.5
        long = self.random.random() < LONG_SHARE
        end = time.time() + self.random.random() * (LONG_S if long else HOLD_S)
        self.note('looks' if looks else 'blind')
        while time.time() < end:
            time.sleep(min(LOOK_S, max(0, end - time.time())))
            if looks:
                self.look(fd)

    def once(self):
        self.note('ask')
        try:
            fd = self.acquire()
        except OSError as e:
            self.note('refused', errno.errorcode[e.errno])
            time.sleep(0.1)
            return
        self.note('got')
        try:
            self.note('number', self.take_number(fd))
            self.hold(fd)
            self.look(fd)
            self.note('end')
        except OSError as e:
            self.note('lost' if e.errno == errno.ESTALE else 'failed', errno.errorcode[e.errno])
        self.close(fd)

    def run(self):
        while True:
            self.once()
            time.sleep(self.random.random() * 0.02)


class Storm:
    def __init__(self, kind, wanted, n, seconds, log, mounts):
        self.kind, self.wanted, self.seconds, self.mounts, self.path = kind, wanted, seconds, mounts, log
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        self.pids = {}
        self.kills = 0
        for i in range(n):
            self.start(i)
        threading.Thread(target=self.watch_members, daemon=True).start()
        for i, mount in enumerate(mounts):
            threading.Thread(target=self.probe, args=(i + 1, mount), daemon=True).start()

    def probe(self, member, mount):
        """How long it takes to get a lock that nobody else wants."""
        while True:
            begin = time.time()
            try:
                os.close(os.open(f'{mount}/.quorum/locks/probe{member}', os.O_WRONLY | os.O_NONBLOCK))
            except OSError:
                pass
            os.write(self.log, f'{begin:.6f} 0 {member} probe {time.time() - begin:.6f}\n'.encode())
            time.sleep(PROBE_S)

    def watch_members(self):
        """A machine that is too busy makes sessions lapse, too. The members say so in their logs, beside their mounts."""
        seen = dict.fromkeys(self.mounts, 0)
        while True:
            for i, mount in enumerate(self.mounts):
                n = sum('was not kept alive' in line for line in open(mount + '.log', errors='replace'))
                if n > seen[mount]:
                    os.write(self.log, f'{time.time():.6f} 0 {i + 1} lapsed \n'.encode())
                seen[mount] = n
            time.sleep(LOOK_LOG_S)

    def start(self, i):
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            Contender(i, self.kind, self.mounts, self.log).run()
        self.pids[i] = pid

    def kill(self, i):
        os.write(self.log, f'{time.time():.6f} {i} 0 killed \n'.encode())
        os.kill(self.pids[i], signal.SIGKILL)  # it dies when its member answers

    def reap(self, flags):
        try:
            while os.waitpid(-1, flags)[0]:
                pass
        except ChildProcessError:
            pass

    def lines(self):
        for line in open(self.path):
            f = line.rstrip('\n').split(' ')
            yield float(f[0]), int(f[1]), int(f[2]), f[3], f[4]

    def numbers(self):
        return sum(1 for l in self.lines() if l[3] == 'number')

    def go(self):
        end = time.time() + self.seconds
        while self.numbers() < self.wanted and time.time() < end:
            time.sleep(random.random() * 3)
            self.reap(os.WNOHANG)
            victim = random.randrange(len(self.pids))
            self.kill(victim)
            self.kills += 1
            self.start(victim)

    def wait_quiet(self, faults, faults_end):
        end = time.time() + 120
        while not os.path.exists(faults) and time.time() < end:  # they have not begun yet
            time.sleep(0.1)
        open(faults_end, 'w').close()  # whoever makes faults ends now
        while not any(l.split()[1:2] == ['quiet'] for l in open(faults)):
            if time.time() > end:
                raise SystemExit('the faults do not end')
            time.sleep(0.1)

    def all_get_it(self):
        since = time.time()
        while time.time() < since + 60:
            had = {l[1] for l in self.lines() if l[3] == 'end' and l[0] > since}
            if len(had) == len(self.pids):
                return
            time.sleep(0.1)
        raise SystemExit(f'forgotten: {sorted(set(self.pids) - had)}')

    def end(self):
        for i in self.pids:
            self.kill(i)
        self.reap(0)


def check_numbers(lines):
    """None twice, and none is taken after a larger one. When it was taken is between `got` and `number`: a member that is stopped after the lock gave
    its number answers late. Returns how many there were, and how many of them were noted after a larger one for that reason."""
    seen, got, last, late = {}, {}, [(0, 0)], 0  # last: (time, the largest number that had been noted by then)
    for at, who, _, what, number in lines:
        if what == 'got':
            got[who] = at
        if what != 'number':
            continue
        n, largest = int(number), last[bisect.bisect(last, (got[who], float('inf'))) - 1][1]
        if n in seen:
            raise SystemExit(f'number {n} was given twice: to {seen[n]} and to {who} at {at}')
        if n <= largest:
            raise SystemExit(f'number {n}, of a lock that was got at {got[who]}, comes after {largest}')
        seen[n] = who
        late += n < last[-1][1]
        last.append((at, max(n, last[-1][1])))
    return len(seen), late


def overlap(lines):
    """How often somebody still believed to have the lock when the next one had got it, and for how long: those who look, and those who do not."""
    believes, found = {}, {'looks': [], 'blind': []}
    gots = [l[0] for l in lines if l[3] == 'got']
    for at, who, _, what, _ in lines:
        if what == 'got':
            believes[who] = [at, 'blind']
        elif what in ('looks', 'blind') and who in believes:
            believes[who][1] = what
        elif what in ('end', 'lost', 'failed', 'killed') and who in believes:
            since, how = believes.pop(who)
            i = bisect.bisect_right(gots, since)
            if what != 'killed' and i < len(gots) and gots[i] < at:
                found[how].append(at - gots[i])
    return '; '.join(f'{len(f)} times by those who {how}, {max(f, default=0) * 1000:.0f} ms at most'
                     for how, f in (('look', found['looks']), ('do not', found['blind'])))


def fault_times(faults):
    """From when until when, which member, or 0 for all: when it led, or nobody knows."""
    times = []
    for line in open(faults):
        f = line.split()
        if f[1:2] == ['begin']:
            led = len(f) < 6 or f[5] == f[3]
            times.append([float(f[0]), float('inf'), 0 if led else int(f[3])])
        elif f[1:2] == ['end']:
            times[-1][1] = float(f[0]) + GRACE_S
    return times


def lapses(lines):
    """When which member's session lapsed."""
    return [(at - LOOK_LOG_S, at, member) for at, _, member, what, _ in lines if what == 'lapsed']


class Slack:
    """By how much earlier one must have asked, to have been in the queue first: when its member needed long for a probe, by more."""

    def __init__(self, lines):
        self.probes = collections.defaultdict(list)
        for at, _, member, what, took in lines:
            if what == 'probe':
                self.probes[member].append((at, at + float(took)))

    def at(self, member, time):
        begun = self.probes[member][:bisect.bisect(self.probes[member], (time + 2,))]
        return EARLIER_S + 3 * max((b - a for a, b in begun[-100:] if b > time - 2), default=0)


def check_order(lines, faults):
    """Who asked clearly earlier got it earlier, if neither its member nor the leader was in trouble until then: who waits when its member's
    session lapses is queued anew."""
    asked, waits, faults, slack = {}, [], faults + lapses(lines), Slack(lines)
    for at, who, member, what, _ in lines:
        if what == 'ask':
            asked[who] = at
        elif what == 'got' and who in asked:
            waits.append((asked.pop(who), at, who, member))
        elif what in ('killed', 'refused'):
            asked.pop(who, None)
    waits.sort()
    first_after = [None] * (len(waits) + 1)  # of those that asked at least that late: who got it first
    for i in range(len(waits) - 1, -1, -1):
        later = first_after[i + 1]
        first_after[i] = waits[i] if later is None or waits[i][1] < later[1] else later
    compared = 0
    for asked_at, got_at, who, member in waits:
        if any(a < got_at and asked_at < b and m in (0, member) for a, b, m in faults):
            continue
        compared += 1
        other = first_after[bisect.bisect(waits, (asked_at + slack.at(member, asked_at),))]
        if other and other[1] < got_at:
            raise SystemExit(f'{other[2]} asked at {other[0]} and got it at {other[1]}, before {who}, who asked at {asked_at} and got it at {got_at}')
    return compared


def main():
    kind, wanted, n, seconds, log, trouble = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5], sys.argv[6]
    storm = Storm(kind, wanted, n, seconds, log, sys.argv[7:])
    try:
        storm.go()
        storm.wait_quiet(trouble + '.log', trouble + '.end')
        storm.all_get_it()
    finally:
        storm.end()
    lines = sorted(storm.lines())
    numbers, late = check_numbers(lines)
    compared = check_order(lines, fault_times(trouble + '.log'))
    ends = collections.Counter(l[3] for l in lines)
    if numbers < wanted:
        raise SystemExit(f'only {numbers} of {wanted} acquisitions in time: {dict(ends)}')
    met = collections.Counter(l.split()[2] for l in open(trouble + '.log') if ' begin ' in l)
    print(f'{kind}: {numbers} acquisitions, {late} numbers noted late; faults: {dict(met)}; '
          f'{storm.kills} contenders killed, {ends["lost"]} locks lost (ESTALE), {ends["failed"]} otherwise failed, '
          f'{ends["lapsed"]} sessions lapsed, '
          f'{ends["refused"]} refused; {compared} waits compared, in order of arrival; '
          f'believed to have it when the next one had: {overlap(lines)}')


main()
