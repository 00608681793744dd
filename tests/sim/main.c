/* sim [-s SEED] [-n COUNT] [-m MEMBERS] [-g MASK] [-t MS] [-f] [-l] [-v] [-x]: see README.md. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim.h"

enum { TROUBLE_MS = 6000, PROGRESS_MS = 30000, STEPS_MAX = 6000000, SECONDS_MAX = 120 };

static const char usage[] =
    "usage: sim [-s SEED] [-n COUNT] [-m MEMBERS] [-g MASK] [-t MS] [-f] [-l] [-v] [-x]\n"
    "  -s  the first seed (1)            -n  how many (1)\n"
    "  -m  members at the beginning (0: the seed decides between 3, 5 and 7)\n"
    "  -g  rules of the guard that are switched off (enum guard_rule; -1: all)\n"
    "  -t  milliseconds of trouble, in virtual time\n"
    "  -f  the real store as state machine, in the current directory\n"
    "  -l  likewise, with leases, sessions and locks\n"
    "  -v  print a trace                 -x  end at the first seed that fails; succeed if there is one\n";

static uint64_t healed_at; /* us */

/* ---- One history --------------------------------------------------------------------------------------------------------- */

static void draw_knobs(void)
{
    struct knobs *k = &world.knobs;
    static const uint64_t net[] = {100, 500, 2 * MS, 8 * MS}, disk[] = {100, 500, 2 * MS, 8 * MS};
    bool pipelined = world_chance(300);

    k->net_min = net[world_random(4)];
    k->net_max = k->net_min * world_between(1, 4);
    k->disk_min = disk[world_random(4)];
    k->disk_max = k->disk_min * world_between(1, 6);
    k->spike_permille = (unsigned)world_random(60);
    k->trouble = world_between(30 * MS, 400 * MS);
    k->inflight = pipelined ? (unsigned)world_between(2, 8) : 1;
    k->client = world_between(1 * MS, 15 * MS);
    k->marker_bytes = world_chance(700) ? world_between(1000, 12000) : 0;
    k->trailing_max = (unsigned)world_between(1, 40);
    k->membership = world_chance(500);
    k->transfers = world_chance(700);
    k->failures = world_chance(400);
    k->reckless = world_chance(400);
    k->message_entries = world.opt.seed % 4 == 3 ? 1 + (unsigned)(world.opt.seed / 4 % 5) : GUARD_MESSAGE_ENTRIES;
    if (world.opt.store)
        k->inflight = 1;
    if (world.opt.members == 0)
        world.opt.members = 3 + 2 * (unsigned)world_random(3);
    if (world.opt.members == 1)
        k->membership = true;
    if (world.opt.lives) {
        k->membership = false;
        k->inflight = 8;
        k->trouble = world_between(200 * MS, 1500 * MS); /* sessions need some time to begin, and to end */
    }
}

static void found(void)
{
    struct disk_conf conf = {.n = world.opt.members};

    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        members[i].i = i;
        members[i].id = i + 1;
        snprintf(members[i].address, sizeof members[i].address, "%u", i + 1);
    }
    for (unsigned i = 0; i < conf.n; i++) {
        conf.servers[i].id = i + 1;
        conf.servers[i].role = RAFT_VOTER;
    }
    for (unsigned i = 0; i < conf.n; i++) {
        disk_bootstrap(&members[i].disk, &conf);
        member_start(&members[i]);
    }
}

static void run_until(uint64_t us)
{
    while (world.now < us && world_step())
        if (world.steps > STEPS_MAX)
            world_fail(NULL, "more than %d steps", STEPS_MAX);
}

/* Everybody whom the leader replicates to has applied a command that was submitted after all trouble. */
static bool all_followed(char *who, size_t size)
{
    struct member *leader = member_leader();
    uint64_t index = chaos_acked_since();

    snprintf(who, size, !leader ? "no leader" : "no command is acknowledged");
    if (!leader || index == 0)
        return false;
    for (unsigned i = 0; i < leader->raft->configuration.n; i++) {
        const struct raft_server *s = &leader->raft->configuration.servers[i];
        struct member *m = &members[s->id - 1];

        if (s->role == RAFT_SPARE || (m->alive && raft_last_applied(m->raft) >= index))
            continue;
        snprintf(who, size, "m%" PRIu64 " does not follow: applied %llu of %" PRIu64, m->id, m->alive ? raft_last_applied(m->raft) : 0, index);
        return false;
    }
    return true;
}

static void leases_go(void)
{
    while (!lives_over() && world.now < healed_at + lives_patience())
        run_until(world.now + 20 * MS);
    if (lives_over())
        return;
    lives_describe();
    world_fail(NULL, "leases are left that nobody renews");
}

static void history(void)
{
    uint64_t trouble = (world.opt.ms ? world.opt.ms : TROUBLE_MS) * (uint64_t)MS, until;
    char who[128];

    draw_knobs();
    found();
    chaos_start();
    run_until(trouble);
    chaos_heal();
    healed_at = world.now;
    for (until = world.now + PROGRESS_MS * (uint64_t)MS; !all_followed(who, sizeof who) && world.now < until;)
        run_until(world.now + 20 * MS);
    for (unsigned i = 0; i < MEMBERS_MAX && !all_followed(who, sizeof who); i++)
        member_describe(&members[i]);
    if (!all_followed(who, sizeof who))
        world_fail(NULL, "no progress in %d s after all trouble was over: %s", PROGRESS_MS / 1000, who);
    if (world.opt.lives)
        leases_go();
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (members[i].alive)
            member_crash(&members[i], "the end");
}

/* ---- Many ---------------------------------------------------------------------------------------------------------------- */

static void remove_directories(int pid)
{
    char command[64];

    snprintf(command, sizeof command, "rm -rf sim.%d.*", pid);
    if (system(command) != 0)
        fprintf(stderr, "sim: cannot remove sim.%d.*\n", pid);
}

/* In a process of its own: what crashed members leave in memory goes with it, and so does damage. */
static bool run_seed(const struct options *opt, uint64_t seed, struct world *shared)
{
    int status;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        alarm(SECONDS_MAX);
        world.opt = *opt;
        world.opt.seed = seed;
        history();
        *shared = world;
        fflush(stdout);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        perror("sim");
        exit(2);
    }
    if (opt->store)
        remove_directories(pid);
    if (WIFSIGNALED(status))
        printf("seed %" PRIu64 ": died of signal %d (%s)\n", seed, WTERMSIG(status), strsignal(WTERMSIG(status)));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void add_counts(struct world *total, const struct world *w)
{
    total->steps += w->steps;
    total->now += w->now;
    total->count.commands += w->count.commands;
    total->count.acked += w->count.acked;
    total->count.elections += w->count.elections;
    total->count.crashes += w->count.crashes;
    total->count.markers += w->count.markers;
    total->count.installs += w->count.installs;
    total->count.changes += w->count.changes;
    total->count.transfers += w->count.transfers;
    total->count.lost += w->count.lost;
    total->count.stops += w->count.stops;
    total->count.renewals += w->count.renewals;
    total->count.attached += w->count.attached;
    total->count.ends += w->count.ends;
    total->count.lapses += w->count.lapses;
    total->count.grants += w->count.grants;
}

static void report(const struct world *t, uint64_t n, uint64_t failed)
{
    printf("%" PRIu64 " histories, %" PRIu64 " failed; %" PRIu64 " s of virtual time, %" PRIu64 " steps\n", n, failed, t->now / MS / 1000, t->steps);
    printf("%" PRIu64 " commands, %" PRIu64 " acknowledged, %" PRIu64 " of unknown outcome; %" PRIu64 " elections, %" PRIu64 " crashes (%" PRIu64
           " by the guard), %" PRIu64 " markers, %" PRIu64 " installs, %" PRIu64 " changes of membership, %" PRIu64 " transfers\n",
           t->count.commands, t->count.acked, t->count.lost, t->count.elections, t->count.crashes, t->count.stops, t->count.markers,
           t->count.installs, t->count.changes, t->count.transfers);
    if (t->count.ends)
        printf("%" PRIu64 " renewals, %" PRIu64 " files attached, %" PRIu64 " leases ended, %" PRIu64 " locks handed over, %" PRIu64
               " sessions lapsed\n", t->count.renewals, t->count.attached, t->count.ends, t->count.grants, t->count.lapses);
}

int main(int argc, char **argv)
{
    struct options opt = {.seed = 1};
    struct world *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), total = {0};
    uint64_t n = 1, failed = 0;
    bool expect = false;
    int c;

    while ((c = getopt(argc, argv, "s:n:m:g:t:flvx")) != -1) {
        switch (c) {
        case 's': opt.seed = strtoull(optarg, NULL, 0); break;
        case 'n': n = strtoull(optarg, NULL, 0); break;
        case 'm': opt.members = (unsigned)strtoul(optarg, NULL, 0); break;
        case 'g': opt.off = (unsigned)strtol(optarg, NULL, 0); break;
        case 't': opt.ms = (unsigned)strtoul(optarg, NULL, 0); break;
        case 'f': opt.store = true; break;
        case 'l': opt.lives = opt.store = true; break;
        case 'v': opt.verbose = true; break;
        case 'x': expect = true; break;
        default: fputs(usage, stderr); return 2;
        }
    }
    if (shared == MAP_FAILED || optind != argc || opt.members > 7) {
        fputs(usage, stderr);
        return 2;
    }
    for (uint64_t i = 0; i < n; i++) {
        memset(shared, 0, sizeof *shared);
        failed += !run_seed(&opt, opt.seed + i, shared);
        add_counts(&total, shared);
        if (expect && failed > 0)
            n = i + 1;
    }
    report(&total, n, failed);
    return (failed > 0) == expect ? 0 : 1;
}
