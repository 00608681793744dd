/* One member, and a hand that writes its messages: each rule of the guard holds in the history that it is for, and the same history goes
 * wrong without it. For what the simulator meets too rarely. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "replica/marker.h"
#include "sim.h"

/* ---- Fixture: member 1 of three; what it sends is kept here --------------------------------------------------------------- */

static struct raft_message sent[256];
static unsigned n_sent;
static int send_status; /* what becomes of it */
static struct member *const m = &members[0];

struct sending { struct raft_io_send *req; raft_io_send_cb cb; };

static void sending_done(struct member *from, void *arg)
{
    struct sending *s = arg;

    (void)from;
    if (s->cb)
        s->cb(s->req, send_status);
}

int net_send(struct member *from, struct raft_io_send *req, const struct raft_message *message, raft_io_send_cb cb)
{
    struct sending *s = malloc(sizeof *s);

    if (!s)
        abort();
    *s = (struct sending){req, cb};
    sent[n_sent++ % 256] = *message;
    world_after(10, from, sending_done, s);
    return 0;
}

void net_break(unsigned from, unsigned to)
{
    (void)from;
    (void)to;
}

void client_applied(uint64_t session, uint64_t ino)
{
    (void)session;
    (void)ino;
}

/* Nobody has leases here. */
void lives_open(struct member *member) { (void)member; }
void lives_start(struct member *member) { (void)member; }
void lives_tick(struct member *member) { (void)member; }
void lives_told(void *member, const struct store_life_event *e, size_t n) { (void)member; (void)e; (void)n; }
void lives_locks(void *member, const struct store_lock_event *e, size_t n) { (void)member; (void)e; (void)n; }
void lives_result(struct member *member, const struct store_result *r) { (void)member; (void)r; }
void lives_applied(struct member *member, uint64_t index) { (void)member; (void)index; }
void lives_installed(struct member *member) { (void)member; }
bool lives_counts_on_promises(struct member *member) { (void)member; return false; }

/* ---- Helpers ------------------------------------------------------------------------------------------------------------- */

static void add_entry(uint64_t index, uint64_t term)
{
    struct disk *d = &m->disk;

    d->log = realloc(d->log, (d->n + 1) * sizeof *d->log);
    if (!d->log)
        abort();
    d->log[d->n++] = (struct disk_entry){index, term, RAFT_BARRIER, 8, calloc(1, 8)};
    d->cap = d->n;
}

/* A member whose log holds its configuration, and behind it entries of these terms. */
static void start(uint64_t term, unsigned voters, uint64_t first_id, const uint64_t *terms, unsigned n)
{
    struct disk_conf conf = {.n = voters};

    world.knobs = (struct knobs){.disk_min = 20 * MS, .disk_max = 20 * MS, .trailing_max = 1};
    m->id = 1;
    snprintf(m->address, sizeof m->address, "1");
    for (unsigned i = 0; i < voters; i++) {
        conf.servers[i].id = first_id + i;
        conf.servers[i].role = RAFT_VOTER;
    }
    disk_bootstrap(&m->disk, &conf);
    m->disk.term = term;
    for (unsigned i = 0; i < n; i++)
        add_entry(2 + i, terms[i]);
    member_start(m);
}

/* The start was long ago. */
static void begin(uint64_t term, unsigned voters, uint64_t first_id, const uint64_t *terms, unsigned n)
{
    start(term, voters, first_id, terms, n);
    m->guard->promised_ns = 0;
}

static void run(uint64_t us)
{
    uint64_t until = world.now + us;

    while (world.now < until && world_step())
        ;
}

static void receive(struct raft_message message, uint64_t from)
{
    char address[8];

    snprintf(address, sizeof address, "%u", (unsigned)from);
    message.server_id = from;
    message.server_address = address;
    m->recv(m->io, &message);
}

/* Entries with consecutive indexes behind `prev`; term 0: none. */
static void receive_entries(uint64_t from, uint64_t term, uint64_t prev, uint64_t prev_term, uint64_t entry_term, uint64_t commit)
{
    struct raft_message message = {.type = RAFT_IO_APPEND_ENTRIES};
    struct raft_append_entries *ae = &message.append_entries;

    *ae = (struct raft_append_entries){.term = term, .prev_log_index = prev, .prev_log_term = prev_term, .leader_commit = commit};
    if (entry_term) {
        void *batch = raft_calloc(1, 8);

        ae->n_entries = 1;
        ae->entries = raft_calloc(1, sizeof *ae->entries);
        ae->entries[0] = (struct raft_entry){entry_term, RAFT_BARRIER, {batch, 8}, batch};
    }
    receive(message, from);
}

static void receive_vote_request(uint64_t from, uint64_t term, bool pre_vote)
{
    receive((struct raft_message){.type = RAFT_IO_REQUEST_VOTE, .request_vote = {.term = term, .candidate_id = from, .last_log_index = 100,
                                  .last_log_term = term - 1, .disrupt_leader = !pre_vote, .pre_vote = pre_vote}}, from);
}

static void receive_vote(uint64_t from, uint64_t term, bool pre_vote)
{
    receive((struct raft_message){.type = RAFT_IO_REQUEST_VOTE_RESULT, .request_vote_result = {.term = term, .vote_granted = true,
                                  .pre_vote = pre_vote ? raft_tribool_true : raft_tribool_false}}, from);
}

static const struct raft_message *last_sent(int type)
{
    for (unsigned i = n_sent; i-- > 0;)
        if (sent[i % 256].type == type)
            return &sent[i % 256];
    world_fail(m, "nothing of type %d was sent", type);
}

static void become_leader(uint64_t term)
{
    for (unsigned i = 0; i < 100 && raft_state(m->raft) != RAFT_CANDIDATE; i++)
        run(10 * MS);
    receive_vote(2, term, true);
    receive_vote(2, term, false);
    if (raft_state(m->raft) != RAFT_LEADER || guard_term(m->guard) != term)
        world_fail(m, "is not the leader of term %llu", (unsigned long long)term);
}

/* ---- Rules: true if all is well ------------------------------------------------------------------------------------------ */

/* An entry of term 2 is on two members of three, and a leader of term 3 has not stored anything of its own: it can still be lost. */
static bool old_entries_are_not_counted(void)
{
    begin(2, 3, 1, (uint64_t[]){2}, 1);
    become_leader(3);
    receive((struct raft_message){.type = RAFT_IO_APPEND_ENTRIES_RESULT, .append_entries_result = {.term = 3, .last_log_index = 2}}, 2);
    return guard_commit(m->guard) == 1;
}

/* Two entries are left from the leader of term 2; the one of term 3 has compared only the first. */
static bool leftovers_are_not_acknowledged(void)
{
    begin(2, 3, 1, (uint64_t[]){2, 2}, 2);
    receive_entries(2, 3, 1, 1, 0, 1);
    return last_sent(RAFT_IO_APPEND_ENTRIES_RESULT)->append_entries_result.last_log_index == 1;
}

static bool leftovers_are_not_committed(void)
{
    begin(2, 3, 1, (uint64_t[]){2}, 1);
    receive_entries(2, 3, 1, 1, 0, 2);
    return guard_commit(m->guard) == 1;
}

/* The leader of term 2 transfers to 3 when another candidate of term 3 comes; it has its vote, and then 3 asks. */
static bool nobody_votes_twice(void)
{
    struct raft_transfer *t = calloc(1, sizeof *t);

    begin(1, 3, 1, NULL, 0);
    become_leader(2);
    run(25 * MS);
    if (!t || raft_transfer(m->raft, t, 3, NULL))
        world_fail(m, "no transfer");
    receive_vote_request(2, 3, false);
    if (!last_sent(RAFT_IO_REQUEST_VOTE_RESULT)->request_vote_result.vote_granted)
        world_fail(m, "no vote");
    n_sent = 0;
    receive_vote_request(3, 3, false);
    return n_sent == 0 || !last_sent(RAFT_IO_REQUEST_VOTE_RESULT)->request_vote_result.vote_granted;
}

/* An entry is replaced and comes again while its first write is under way: that one's end says nothing about it. */
static bool late_writes_do_not_count(void)
{
    begin(1, 3, 1, NULL, 0);
    receive_entries(2, 2, 1, 1, 2, 1);
    receive_entries(3, 3, 1, 1, 3, 1);
    receive_entries(2, 4, 1, 1, 2, 1);
    run(20 * MS + 100);
    return guard_stored(m->guard) == 1;
}

/* The snapshot ends with an entry of term 2; ours there is of term 3, and was never committed. */
static bool snapshots_replace_what_differs(void)
{
    struct raft_message message = {.type = RAFT_IO_INSTALL_SNAPSHOT, .install_snapshot = {.term = 4, .last_index = 2, .last_term = 2,
                                   .conf_index = 1, .data = {raft_malloc(MARKER_SIZE), MARKER_SIZE}}};
    struct disk_conf conf = {.n = 1, .servers = {{1, RAFT_VOTER}}};

    begin(3, 3, 1, (uint64_t[]){3}, 1);
    m->guard->hooks.install = NULL; /* not held: the database is here */
    m->fsm.applied = 2;
    marker_encode(&(struct marker){2, 2, 0, 0}, message.install_snapshot.data.base);
    disk_conf_copy(&conf, &message.install_snapshot.conf);
    receive(message, 2);
    run(100 * MS);
    return guard_term_of(m->guard, 2) == 2 && m->disk.snapshot.term == 2;
}

/* Members 2 and 3 are the cluster, by a configuration that we have and that was never committed; theirs has us. */
static bool votes_do_not_ask_the_configuration(void)
{
    begin(2, 2, 2, NULL, 0);
    receive_vote_request(2, 3, false);
    return last_sent(RAFT_IO_REQUEST_VOTE_RESULT)->request_vote_result.vote_granted;
}

/* Its leader was not heard of for the timeout, and its own timer, which is longer, has not run out. */
static bool silent_leaders_are_forgotten(void)
{
    begin(1, 3, 1, NULL, 0);
    receive_entries(2, 2, 1, 1, 0, 1);
    run((m->raft->election_timeout - 10) * MS);
    receive_vote_request(3, 3, true);
    if (last_sent(RAFT_IO_REQUEST_VOTE_RESULT)->request_vote_result.vote_granted)
        world_fail(m, "gives its vote too early");
    run(11 * MS);
    if (raft_state(m->raft) != RAFT_FOLLOWER)
        world_fail(m, "is no follower any more");
    receive_vote_request(3, 3, true);
    return last_sent(RAFT_IO_REQUEST_VOTE_RESULT)->request_vote_result.vote_granted;
}

/* Its leader's process has ended: it votes for another one, and is a candidate itself before long. */
static bool leaders_that_are_gone_are_followed_at_once(void)
{
    begin(1, 3, 1, NULL, 0);
    receive_entries(2, 2, 1, 1, 0, 1);
    run(10 * MS);
    guard_member_gone(m->guard, 3); /* not the leader */
    receive_vote_request(3, 3, true);
    if (last_sent(RAFT_IO_REQUEST_VOTE_RESULT)->request_vote_result.vote_granted)
        world_fail(m, "forgets a leader that is there");
    guard_member_gone(m->guard, 2);
    receive_vote_request(3, 3, true);
    if (!last_sent(RAFT_IO_REQUEST_VOTE_RESULT)->request_vote_result.vote_granted)
        return false;
    run(m->raft->heartbeat_timeout * 4 * MS);
    return raft_state(m->raft) == RAFT_CANDIDATE;
}

static bool votes_for_three(uint64_t term)
{
    n_sent = 0;
    receive_vote_request(3, term, false);
    return n_sent > 0 && last_sent(RAFT_IO_REQUEST_VOTE_RESULT)->request_vote_result.vote_granted;
}

/* Its leader seems to be gone, and asks it to stand: it waits until its promise is over. */
static bool who_has_promised_neither_votes_nor_stands(void)
{
    begin(1, 3, 1, NULL, 0);
    receive_entries(2, 2, 1, 1, 0, 1);
    if (guard_promise(m->guard, 3) || !guard_promise(m->guard, 2))
        world_fail(m, "promises another one than its leader");
    m->guard->promised_ns += 1000 * MS * 1000; /* longer, since nothing happens for some ticks */
    guard_member_gone(m->guard, 2);
    m->raft->election_timer_start -= m->raft->election_timeout * 2; /* its time to stand has come */
    run(500 * MS);
    receive((struct raft_message){.type = RAFT_IO_TIMEOUT_NOW, .timeout_now = {2, 1, 1}}, 2);
    if (raft_state(m->raft) != RAFT_FOLLOWER || votes_for_three(3))
        return false;
    m->guard->promised_ns -= 1000 * MS * 1000;
    if (!votes_for_three(3))
        world_fail(m, "keeps its promise for too long");
    return true;
}

/* Asked to stand a moment too early; what a leader has given up is not done later. */
static bool who_is_asked_to_stand_waits_for_the_end_of_its_promise(void)
{
    const struct raft_message stand = {.type = RAFT_IO_TIMEOUT_NOW, .timeout_now = {2, 1, 1}};

    begin(1, 3, 1, NULL, 0);
    receive_entries(2, 2, 1, 1, 0, 1);
    guard_promise(m->guard, 2);
    receive(stand, 2);
    guard_promise(m->guard, 2);
    m->guard->promised_ns = 0;
    receive_entries(2, 2, 1, 1, 0, 1);
    if (raft_state(m->raft) != RAFT_FOLLOWER)
        world_fail(m, "stands although its leader goes on");
    guard_promise(m->guard, 2);
    receive(stand, 2);
    if (raft_state(m->raft) != RAFT_FOLLOWER)
        world_fail(m, "breaks its promise");
    m->guard->promised_ns = 0;
    receive_entries(2, 2, 1, 1, 0, 1);
    return raft_state(m->raft) == RAFT_CANDIDATE;
}

static bool who_has_promised_stands_as_soon_as_it_may(void)
{
    begin(1, 3, 1, NULL, 0);
    receive_entries(2, 2, 1, 1, 0, 1);
    guard_promise(m->guard, 2);
    m->raft->election_timer_start -= m->raft->election_timeout * 2;
    run((GUARD_PROMISE_MS + 2 * m->raft->heartbeat_timeout) * MS);
    return raft_state(m->raft) == RAFT_CANDIDATE;
}

/* Nobody knows what was promised before. */
static bool starts_count_as_promises(void)
{
    start(1, 3, 1, NULL, 0);
    if (votes_for_three(2))
        return false;
    m->guard->promised_ns -= GUARD_PROMISE_MS * MS * 1000;
    return votes_for_three(2);
}

/* Its pre-votes may be on their way. */
static bool candidates_promise_nothing(void)
{
    begin(1, 3, 1, NULL, 0);
    receive_entries(2, 2, 1, 1, 0, 1);
    for (unsigned i = 0; i < 100 && raft_state(m->raft) != RAFT_CANDIDATE; i++)
        run(10 * MS);
    return raft_state(m->raft) == RAFT_CANDIDATE && !guard_promise(m->guard, 2);
}

static bool refused_pre_votes_tell_the_term(void)
{
    begin(10, 3, 1, NULL, 0);
    receive_vote_request(2, 5, true);
    return last_sent(RAFT_IO_REQUEST_VOTE_RESULT)->request_vote_result.term == 10;
}

/* Entries are being written: no candidate before they are. */
static bool writers_are_no_candidates(void)
{
    begin(1, 3, 1, NULL, 0);
    world.knobs.disk_min = world.knobs.disk_max = 1000 * MS;
    receive_entries(2, 2, 1, 1, 2, 1);
    run(900 * MS);
    return raft_state(m->raft) == RAFT_FOLLOWER;
}

/* With the answer of member 2 an entry is committed; it hears so at once, though there is nothing else to send. */
static bool commits_are_told_at_once(void)
{
    begin(1, 3, 1, NULL, 0);
    become_leader(2);
    run(25 * MS); /* the barrier, entry 2, is written */
    for (n_sent = 0; n_sent == 0;)
        run(1 * MS); /* so that no heartbeat is due */
    n_sent = 0;
    receive((struct raft_message){.type = RAFT_IO_APPEND_ENTRIES_RESULT, .append_entries_result = {.term = 2, .last_log_index = 2}}, 2);
    return n_sent > 0 && last_sent(RAFT_IO_APPEND_ENTRIES)->append_entries.leader_commit == 2;
}

/* The leader's word comes while the entry is being written: it is obeyed when that is done, not with the next heartbeat. */
static bool commits_told_during_a_write_count(void)
{
    begin(1, 3, 1, NULL, 0);
    receive_entries(2, 2, 1, 1, 2, 1);
    receive_entries(2, 2, 2, 2, 0, 2);
    run(25 * MS);
    return guard_commit(m->guard) == 2;
}

/* Nothing could be sent to a member that has not answered this leader yet: it is not given the whole log for that. */
static bool absent_members_are_asked_first(void)
{
    begin(1, 3, 1, (uint64_t[]){1, 1, 1}, 3);
    become_leader(2);
    run(5 * MS);
    send_status = RAFT_NOCONNECTION;
    run(30 * MS);
    return last_sent(RAFT_IO_APPEND_ENTRIES)->append_entries.prev_log_index == raft_last_index(m->raft);
}

/* libraft frees a buffer that entries share when none of them is in its log any more, whoever still uses it. */
static bool loaded_entries_share_no_buffer(void)
{
    begin(1, 3, 1, (uint64_t[]){1, 1, 1}, 3);
    for (size_t i = m->raft->log.front; i < m->raft->log.back; i++)
        if (m->raft->log.entries[i].batch)
            return false;
    return m->raft->log.back > m->raft->log.front;
}

/* The AppendEntries that member 2 was sent last, waited for. */
static const struct raft_append_entries *entries_for_2(void)
{
    for (unsigned ms = 0; ms < 1000; ms++, run(1 * MS))
        for (unsigned i = n_sent; i-- > 0;)
            if (sent[i % 256].type == RAFT_IO_APPEND_ENTRIES && sent[i % 256].server_id == 2)
                return &sent[i % 256].append_entries;
    world_fail(m, "nothing was sent to member 2");
}

/* A follower that lacks six entries gets two, and with each answer the next two, none of them twice. */
static bool messages_are_bounded(void)
{
    begin(1, 3, 1, (uint64_t[]){1, 1, 1, 1, 1, 1}, 6);
    m->guard->message_entries = 2;
    become_leader(2);
    run(25 * MS);
    for (uint64_t have = 1; have < 7; have += 2) {
        const struct raft_append_entries *ae = entries_for_2();
        uint64_t refused = have == 1 ? ae->prev_log_index : 0;

        n_sent = 0;
        receive((struct raft_message){.type = RAFT_IO_APPEND_ENTRIES_RESULT, .append_entries_result = {2, refused, have}}, 2);
        ae = entries_for_2();
        if (ae->prev_log_index != have || ae->n_entries != 2)
            return false;
    }
    return true;
}

/* A hundred members have come and gone while one leads: of the next one it knows all the same whether it is there. */
static bool newcomers_are_heard_after_many_others(void)
{
    static struct raft_change change;
    struct guard_server servers[GUARD_MEMBERS_MAX];
    struct raft_message answer = {.type = RAFT_IO_APPEND_ENTRIES_RESULT, .append_entries_result = {.term = 2, .last_log_index = 2}};
    unsigned n;

    begin(1, 3, 1, NULL, 0);
    become_leader(2);
    run(25 * MS); /* the barrier, entry 2, is written */
    receive(answer, 2);
    for (uint64_t id = 100; id < 200; id++)
        receive(answer, id);
    if (raft_add(m->raft, &change, 50, "50", NULL))
        world_fail(m, "cannot add a member");
    receive(answer, 50);
    n = guard_configuration(m->guard, servers);
    return n == 4 && servers[3].id == 50 && servers[3].silent_ms == 0;
}

static bool too_much(void *data)
{
    (void)data;
    return true;
}

/* While it has too much to apply a follower stores nothing new, and its answers say so; afterwards the same entry is welcome. */
static bool who_is_full_takes_no_entries(void)
{
    begin(1, 3, 1, NULL, 0);
    m->guard->hooks.full = too_much;
    receive_entries(2, 2, 1, 1, 2, 1);
    run(50 * MS);
    if (guard_stored(m->guard) != 1 || last_sent(RAFT_IO_APPEND_ENTRIES_RESULT)->append_entries_result.last_log_index != 1)
        return false;
    receive_entries(2, 2, 2, 2, 2, 1);
    if (last_sent(RAFT_IO_APPEND_ENTRIES_RESULT)->append_entries_result.rejected != 2)
        return false;
    m->guard->hooks.full = NULL;
    receive_entries(2, 2, 1, 1, 2, 1);
    run(50 * MS);
    return guard_stored(m->guard) == 2 && last_sent(RAFT_IO_APPEND_ENTRIES_RESULT)->append_entries_result.last_log_index == 2;
}

static const struct {
    const char *name;
    unsigned rule;
    bool (*fn)(void);
} cases[] = {
    {"old_entries_are_not_counted", GUARD_COUNT, old_entries_are_not_counted},
    {"leftovers_are_not_acknowledged", GUARD_ACK, leftovers_are_not_acknowledged},
    {"leftovers_are_not_committed", GUARD_COMMIT_CAP, leftovers_are_not_committed},
    {"nobody_votes_twice", GUARD_ONE_VOTE, nobody_votes_twice},
    {"late_writes_do_not_count", GUARD_LATE_WRITE, late_writes_do_not_count},
    {"snapshots_replace_what_differs", GUARD_INSTALL, snapshots_replace_what_differs},
    {"votes_do_not_ask_the_configuration", GUARD_VOTER, votes_do_not_ask_the_configuration},
    {"refused_pre_votes_tell_the_term", GUARD_PRE_VOTE, refused_pre_votes_tell_the_term},
    {"silent_leaders_are_forgotten", GUARD_LEADER, silent_leaders_are_forgotten},
    {"leaders_that_are_gone_are_followed_at_once", GUARD_LEADER, leaders_that_are_gone_are_followed_at_once},
    {"who_has_promised_neither_votes_nor_stands", GUARD_PROMISE, who_has_promised_neither_votes_nor_stands},
    {"who_is_asked_to_stand_waits_for_the_end_of_its_promise", 0, who_is_asked_to_stand_waits_for_the_end_of_its_promise},
    {"who_has_promised_stands_as_soon_as_it_may", 0, who_has_promised_stands_as_soon_as_it_may},
    {"starts_count_as_promises", GUARD_PROMISE, starts_count_as_promises},
    {"candidates_promise_nothing", 0, candidates_promise_nothing},
    {"writers_are_no_candidates", GUARD_PATIENCE, writers_are_no_candidates},
    {"absent_members_are_asked_first", GUARD_PROBE, absent_members_are_asked_first},
    {"loaded_entries_share_no_buffer", GUARD_UNBATCH, loaded_entries_share_no_buffer},
    {"commits_are_told_at_once", GUARD_NUDGE, commits_are_told_at_once},
    {"commits_told_during_a_write_count", GUARD_NUDGE, commits_told_during_a_write_count},
    {"messages_are_bounded", GUARD_MESSAGE, messages_are_bounded},
    {"who_is_full_takes_no_entries", GUARD_FULL, who_is_full_takes_no_entries},
    {"newcomers_are_heard_after_many_others", 0, newcomers_are_heard_after_many_others}, /* 0: no rule, just so */
};

/* 1: all is well; 0: it is not; anything else: the history did not come so far. In a process of its own. */
static int outcome(unsigned i, unsigned off)
{
    int status;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        world.opt = (struct options){.seed = 1, .off = off};
        _exit(cases[i].fn() ? 10 : 11);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) && WEXITSTATUS(status) == 10 ? 1 : WIFEXITED(status) && WEXITSTATUS(status) == 11 ? 0 : -1;
}

int main(void)
{
    int bad = 0;

    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int with = outcome(i, 0), without = cases[i].rule ? outcome(i, cases[i].rule) : 0;

        printf("%s %s: with the rule %d, without %d (wanted: 1, 0)\n", with == 1 && without == 0 ? "ok    " : "not ok", cases[i].name, with, without);
        bad += with != 1 || without != 0;
    }
    return bad ? 1 : 0;
}
