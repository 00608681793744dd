/* One loop serves a mount. It waits for four things: requests of the kernel, completions of replica (pending.h), signals, and the
 * word that the member has to stop (fatal). What completions left is settled before each request, so a caller that was answered
 * never meets the state of before. */
#include "fs/mount.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "fs/barrier.h"
#include "fs/commit.h"
#include "fs/control/control.h"
#include "fs/device.h"
#include "fs/feed.h"
#include "fs/flock.h"
#include "fs/locks.h"
#include "fs/moves.h"
#include "fs/ops.h"
#include "fs/pages.h"
#include "fs/pending.h"
#include "fs/replay.h"
#include "fs/scan.h"
#include "fs/sharing.h"
#include "fs/walk.h"
#include "fs/work.h"
#include "store/base/clock.h"

#define SPIN_NS INT64_C(50000)
#define SPIN_STOLEN_NS INT64_C(500000) /* a look that took this long was interrupted by somebody else's work */
#define SPIN_REST_NS INT64_C(1000000000)
#define STOP_READS_NS INT64_C(1000000000)
enum {
    SPIN_MISSES = 3,
    HOLD_MAX = 16,        /* requests whose commands and barriers are passed on together */
    BURST_MAX = 64,       /* requests before signals and the rest are looked at */
    LOCK_WAIT_MS = 10000, /* for an old process that is about to let go of DIR */
    STOP_LOOK_MS = 100,   /* while stopping, how often the deadline is looked at */
};

struct mount {
    struct fs fs;
    struct fuse_args args;
    struct fuse_buf request; /* memory for one request */
    int signals;             /* signalfd */
    int fatal;               /* eventfd: the member has to stop */
    char why_fatal[512];     /* set before `fatal` is written */
    int64_t stop_deadline_ns; /* while stopping */
    int64_t stop_reads_ns;   /* while stopping: until when readers of streams are waited for */
    int64_t served_ns;       /* when the newest request was served */
    int spin_misses;         /* how often looking again was in vain, lately */
    int64_t spin_after_ns;   /* not before this time */
};

/* Replica's thread. */
static void mount_on_fatal(void *data, const char *why)
{
    struct mount *m = data;

    snprintf(m->why_fatal, sizeof m->why_fatal, "%s", why);
    eventfd_write(m->fatal, 1);
}

/* The raft loop. */
static void mount_on_membership(void *data)
{
    struct mount *m = data;

    sharing_hook(&m->fs);
}

/* Signals come to the loop; threads that are made later inherit that they are blocked. */
static int mount_signals(struct mount *m)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL))
        return QE_IO;
    m->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    m->fatal = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return m->signals < 0 || m->fatal < 0 ? QE_IO : 0;
}

static void __attribute__((format(printf, 2, 0))) mount_fuse_log(enum fuse_log_level level, const char *fmt, va_list ap)
{
    char line[512];
    size_t n;

    vsnprintf(line, sizeof line, fmt, ap);
    n = strlen(line);
    if (n && line[n - 1] == '\n')
        line[n - 1] = 0;
    log_line(level <= FUSE_LOG_ERR ? LOG_LEVEL_ERROR : level <= FUSE_LOG_WARNING ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG, "fuse", "%s", line);
}

/* The store's thread. */
static void mount_on_changed(void *data, const struct store_change *changes, size_t n)
{
    struct mount *m = data;

    feed_changed(&m->fs, changes[n - 1].rev);
    replay_changed(&m->fs, changes, n);
    pages_changed(&m->fs, changes, n);
    sharing_changed(&m->fs, changes, n);
}

/* The store's thread. */
static void mount_on_locks(void *data, const struct store_lock_event *events, size_t n, uint64_t session)
{
    struct mount *m = data;

    locks_changed(&m->fs, events, n, session);
}

/* The raft loop. */
static void mount_on_lapsed(void *data)
{
    struct mount *m = data;

    locks_lapsed(&m->fs);
}

/* The store's thread. */
static void mount_on_installed(void *data, int64_t rev)
{
    struct mount *m = data;

    locks_installed(&m->fs);
    feed_changed(&m->fs, rev);
    replay_installed(&m->fs, rev);
}

/* The store's thread. */
static void mount_on_leases_gone(void *data, const uint64_t *ids, size_t n)
{
    struct mount *m = data;

    leases_gone(&m->fs, ids, n);
}

/* Easily done to the first member, which was given its address on the command line when others were to join: it waits for them in vain. Whoever
 * mounts it, and whoever reads its log or health, is told. */
static void mount_tell_no_network(const struct fs *fs)
{
    char address[STORE_ADDRESS_MAX + 1] = "";
    struct buf text = {0};

    (void)replica_member_address(fs->replica, fs->member, address, sizeof address);
    buf_printf(&text, "member %u has no network, and the cluster has others: its setting listen is empty; the others look for it at \"%s\"", fs->member,
               address);
    log_warn("mount", "%s", buf_cstr(&text));
    if (!fs->opt->foreground)
        fprintf(stderr, "quorumfs: warning: %s\n", buf_cstr(&text));
    buf_fini(&text);
}

static int mount_open_member(struct mount *m, struct buf *why)
{
    struct fs *fs = &m->fs;
    const struct replica_options options = {.dir = fs->opt->dir, .timeout_ms = fs->opt->timeout_ms, .listen = fs->opt->listen, .advertise = fs->opt->advertise,
                                             .insecure = fs->opt->insecure, .data = m, .changed = mount_on_changed, .installed = mount_on_installed,
                                             .membership = mount_on_membership,
                                             .leases_gone = mount_on_leases_gone, .locks = mount_on_locks, .lapsed = mount_on_lapsed, .fatal = mount_on_fatal};
    struct replica_status status;
    int err = pages_open(fs);

    if (!err)
        err = pending_open(fs); /* replica's hooks leave word there */
    if (!err)
        err = locks_open(fs);
    if (!err)
        err = replica_start(&options, LOCK_WAIT_MS, &fs->replica, why);
    if (!err) {
        replica_status(fs->replica, &status);
        fs->member = status.member;
        if (status.n_members > 1 && !*fs->opt->listen)
            mount_tell_no_network(fs);
        err = opts_settle_id(fs->opt, status.member, why);
    }
    if (!err)
        err = replica_reader(fs->replica, &fs->reader);
    if (!err)
        err = inode_open_table(fs);
    if (!err)
        sharing_start(fs);
    return err;
}

static int mount_open(struct mount *m, struct buf *why)
{
    struct fs *fs = &m->fs;
    int err;

    fs->owner_uid = geteuid();
    fs->owner_gid = getegid();
    fs->started_ns = clock_boottime_ns();
    err = mount_signals(m);
    if (!err)
        err = replay_fork(fs, why);
    if (!err)
        err = mount_open_member(m, why);
    if (!err)
        err = device_args(fs->opt, &m->args);
    if (err)
        return err;
    fuse_set_log_func(mount_fuse_log);
    fs->se = fuse_session_new(&m->args, &fs_ops, sizeof fs_ops, fs);
    err = fs->se ? device_mount(fs, why) : QE_NOMEM;
    return err ? err : replay_open(fs, why);
}

/* No new opens for writing; what was proposed is answered; the mount disappears from the tree now. */
static void mount_begin_stop(struct mount *m)
{
    struct fs *fs = &m->fs;

    if (fs->stopping)
        return;
    fs->stopping = true;
    pending_stopping(fs);
    replay_stop(fs);
    m->stop_deadline_ns = clock_boottime_ns() + (fs->opt->timeout_ms + INT64_C(1000)) * 1000000;
    m->stop_reads_ns = clock_boottime_ns() + STOP_READS_NS;
    watch_stop(fs);
    claim_stop(fs);
    device_unmount(fs);
}

/* What was proposed is answered; readers of streams have had whole revisions, but for those that do not read. */
static bool mount_may_end(struct mount *m)
{
    int64_t now = clock_boottime_ns();

    if (!m->fs.stopping || (now < m->stop_reads_ns && watch_in_use(&m->fs)))
        return false;
    return pending_none(&m->fs) || now >= m->stop_deadline_ns;
}

enum served { SERVED_ONE, SERVED_NONE, SERVED_GONE /* the connection has ended */ };

/* One request, if there is one. */
static enum served mount_serve(struct mount *m)
{
    struct fs *fs = &m->fs;
    int n = fuse_session_receive_buf(fs->se, &m->request);

    if (n == -EINTR || n == -EAGAIN) {
        pending_drain(fs);
        return SERVED_NONE;
    }
    if (n <= 0)
        return SERVED_GONE;
    pending_drain(fs);
    replay_drain(fs);
    sharing_follow(fs);
    atomic_fetch_add(&fs->n_requests, 1);
    fuse_session_process_buf(fs->se, &m->request);
    pending_drain(fs);
    locks_look(fs);
    flock_look(fs);
    watch_look(fs);
    claim_look(fs);
    return fuse_session_exited(fs->se) ? SERVED_GONE : SERVED_ONE;
}

/* One more request. What they submit goes to the raft loop when no more of them is there, or HOLD_MAX have been served. */
static enum served mount_serve_held(struct mount *m, int n)
{
    enum served got;

    replica_hold();
    got = mount_serve(m);
    if (got != SERVED_ONE || n % HOLD_MAX == 0)
        replica_release(m->fs.replica);
    return got;
}

static void spin_pause(void)
{
#if defined __x86_64__ || defined __i386__
    __builtin_ia32_pause();
#endif
}

/* Serves what is there. A program that opens, reads and closes sends the next request a few microseconds after each answer, while
 * putting this thread to sleep and waking it on an idle processor costs tens. So it looks again for a short while before it sleeps,
 * as long as that pays: not after SPIN_MISSES in vain until requests come quickly again, and not for a second after others have
 * taken the processor from it: on a busy machine waking is cheap and spinning is not. */
static bool mount_serve_burst(struct mount *m)
{
    struct fs *fs = &m->fs;
    enum served got = mount_serve_held(m, 1);
    int64_t last = clock_boottime_ns(), before = last, now = last;

    if (now - m->served_ns < SPIN_NS * 4)
        m->spin_misses = 0;
    for (int n = 1; got != SERVED_GONE && n < BURST_MAX; before = now) {
        if (got == SERVED_NONE && (m->spin_misses >= SPIN_MISSES || now < m->spin_after_ns || now - last >= SPIN_NS))
            break;
        spin_pause();
        replay_look(fs);
        got = mount_serve_held(m, n + 1);
        now = clock_boottime_ns();
        if (got == SERVED_ONE) {
            last = now;
            n++;
        } else if (now - before > SPIN_STOLEN_NS) {
            m->spin_after_ns = now + SPIN_REST_NS;
        }
    }
    replica_release(fs->replica);
    if (got == SERVED_NONE && m->spin_misses < SPIN_MISSES)
        m->spin_misses++;
    m->served_ns = last;
    return got != SERVED_GONE;
}

/* What time brings; how long the loop may wait. */
static int mount_tick(struct fs *fs)
{
    const int ticks[] = {flock_tick(fs), locks_tick(fs), txn_tick(fs), moves_tick(fs)};
    int wait_ms = -1;

    for (size_t i = 0; i < sizeof ticks / sizeof *ticks; i++)
        if (ticks[i] >= 0 && (wait_ms < 0 || ticks[i] < wait_ms))
            wait_ms = ticks[i];
    return replay_tick(fs, wait_ms);
}

/* Returns the exit status. */
static int mount_loop(struct mount *m, void (*ready)(void *), void *data)
{
    struct fs *fs = &m->fs;
    struct pollfd fds[] = {{fuse_session_fd(fs->se), POLLIN, 0}, {pending_fd(fs), POLLIN, 0}, {m->signals, POLLIN, 0}, {m->fatal, POLLIN, 0},
                           {replay_fd(fs), POLLIN, 0}};
    bool told = false;

    while (!mount_may_end(m)) {
        struct signalfd_siginfo info;
        int wait_ms = mount_tick(fs);

        if (poll(fds, 5, fs->stopping ? STOP_LOOK_MS : wait_ms) < 0 && errno != EINTR)
            return 1;
        if (fds[3].revents) {
            log_error("mount", "the member stops: %s", m->why_fatal);
            device_unmount(fs);
            return 1;
        }
        if (fds[1].revents)
            pending_woken(fs);
        if (fds[4].revents)
            replay_woken(fs);
        if (fds[2].revents && read(m->signals, &info, sizeof info) == sizeof info)
            mount_begin_stop(m);
        if (fds[0].revents && !mount_serve_burst(m)) {
            fs->mounted = false; /* by umount(8) */
            mount_begin_stop(m);
            fds[0].fd = -1;
        }
        if (!told && fs->initialized) {
            told = true;
            sharing_begin(fs);
            lock_files_begin(fs);
            ready(data);
        }
    }
    return 0;
}

static void mount_close_handles(struct fs *fs)
{
    struct inode *in, *tmp;

    HASH_ITER(hh, fs->inodes->by_node, in, tmp) {
        struct handle *h = in->handles;

        while (h) {
            struct handle *next = h->next;

            if (!h->released)
                handle_unref(h);
            h = next;
        }
    }
}

static void mount_close(struct mount *m)
{
    struct fs *fs = &m->fs;

    scan_close(fs);
    watch_close(fs);
    claim_close(fs);
    work_close(fs); /* their readers, too, must be closed before replica stops */
    if (fs->inodes)
        commit_log_lost(fs);
    barrier_close(fs);
    moves_close(fs);
    if (fs->reader)
        store_reader_close(fs->reader);
    fs->reader = NULL;
    if (fs->replica)
        replica_stop(fs->replica); /* answers what is on its way; afterwards no other thread uses the session */
    fs->replica = NULL;
    if (fs->pending) {
        pending_end(fs);
        txn_close(fs);
        leases_close(fs);
        pending_drain(fs);
        locks_close(fs);
        feed_free(fs);
        pending_close(fs);
    }
    if (fs->inodes) {
        flock_close(fs);
        mount_close_handles(fs);
    }
    if (fs->se)
        fuse_session_destroy(fs->se); /* closes /dev/fuse: what is still asked gets ENOTCONN */
    replay_close(fs);
    commit_close(fs);
    inode_close_table(fs);
    walk_close(fs);
    pages_close(fs);
    fuse_opt_free_args(&m->args);
    free(m->request.mem);
    if (m->signals >= 0)
        close(m->signals);
    if (m->fatal >= 0)
        close(m->fatal);
    free(m);
}

int mount_run(struct fs_options *opt, void (*ready)(void *data), void *data, struct buf *why)
{
    struct mount *m = calloc(1, sizeof *m);
    int status, err;

    if (!m) {
        buf_printf(why, "%s", qfs_strerror(QE_NOMEM));
        return 1;
    }
    m->signals = m->fatal = -1;
    m->fs.opt = opt;
    err = mount_open(m, why);
    if (err) {
        if (!why->len)
            buf_printf(why, "%s", qfs_strerror(err));
        device_unmount(&m->fs);
        mount_close(m);
        return 1;
    }
    log_info("mount", "mounted dir=\"%s\" on=\"%s\"", opt->dir, opt->mountpoint);
    status = mount_loop(m, ready, data);
    if (status) /* the member has failed and its threads may be stuck: nothing more can be saved by an orderly end */
        _exit(status);
    mount_close(m);
    log_info("mount", "stopped");
    return 0;
}
