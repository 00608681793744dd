/* The rules between members: what libraft 0.15 gets wrong in the messages it sends, receives and counts.
 *
 * Received, before libraft sees it:
 *   trim             entries that our snapshot covers are cut off
 *   take_no_more     no entries while too many wait to be applied
 *   cap_commit       no commit beyond what the message itself has compared
 *   undo_configuration   a configuration whose entry is replaced
 *   verify           remembers how far our log is the leader's
 *   count_own_term   a leader's count of answers
 *   hold             a snapshot waits for the database that it stands for
 *   vote             by whoever is asked; not twice; not kept back for a leader that is silent or gone
 *   timeout_now      dropped at a wrong moment
 * Sent: a bounded part (message_part), acknowledge, remember commit index, and where a follower that was away stands (probe).
 * Before a tick: wait (no candidacy). After each step: begin a term with a barrier; nudge. */
#include "replica/guard_peer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/clock.h"

enum { GONE_TICKS = 3 }; /* so many ticks, at most, until a candidate follows a leader that is gone */
enum { PROGRESS_PROBE = 0, PROGRESS_PIPELINE = 1, PROGRESS_SNAPSHOT = 2 }; /* libraft's raft_progress.state */

struct guard_send { /* an AppendEntries on its way out */
    struct raft_io_send req;    /* raft_uv's view */
    struct raft_io_send *inner; /* libraft's request; NULL: the message is our own */
    raft_io_send_cb cb;         /* libraft's callback */
    struct guard *guard;
    struct guard_send *prev, *next; /* in guard.sends */
    raft_id to;                 /* whom */
};

static bool rule(const struct guard *g, enum guard_rule r)
{
    return !(g->off & (unsigned)r);
}

/* ---- Receiving entries --------------------------------------------------------------------------------------------------- */

/* What a leader of another term has compared does not count for this one's. */
static void begin_verified_term(struct guard *g, uint64_t term)
{
    if (g->verified_term == term)
        return;
    g->verified_term = term;
    g->verified = g->leader_commit = 0;
}

static void cut_all(struct raft_append_entries *ae)
{
    if (ae->n_entries > 0)
        raft_free(ae->entries[0].batch);
    raft_free(ae->entries);
    ae->entries = NULL;
    ae->n_entries = 0;
}

/* What is committed and not applied stays in memory, and a leader does not wait for one that is slower than the others. What is left of the
 * message is a heartbeat; the answer to it, or to the next one, says where our log ends, and the leader sends the rest again. */
static void take_no_more(struct guard *g, struct raft_append_entries *ae)
{
    if (rule(g, GUARD_FULL) && ae->n_entries > 0 && g->hooks.full && g->hooks.full(g->hooks.data))
        cut_all(ae);
}

/* libraft does not compare anything below the last index of its snapshot, and with prev_log_index 0 takes any entries as new and puts
 * them at the end of its log. All up to the snapshot is committed, so it is the same in the leader's log: only what lies behind it
 * is news. (Dissertation 5.1: the snapshot's last index and term serve the consistency check of AppendEntries.) */
static void trim(struct guard *g, struct raft_append_entries *ae)
{
    uint64_t have = g->raft->log.snapshot.last_index, n;

    if (!rule(g, GUARD_TRIM) || ae->prev_log_index >= have || guard_install_busy(g))
        return;
    n = have - ae->prev_log_index;
    if (n >= ae->n_entries) {
        cut_all(ae);
    } else {
        ae->n_entries -= (unsigned)n;
        memmove(ae->entries, ae->entries + n, ae->n_entries * sizeof *ae->entries);
    }
    ae->prev_log_index = have;
    ae->prev_log_term = g->raft->log.snapshot.last_term;
}

/* libraft commits min(leader's commit, its own last entry), but the last entries may be left over from another leader. (Raft, figure 2:
 * commitIndex = min(leaderCommit, index of last new entry).) */
static void cap_commit(struct guard *g, struct raft_append_entries *ae)
{
    if (rule(g, GUARD_COMMIT_CAP) && ae->leader_commit > ae->prev_log_index + ae->n_entries)
        ae->leader_commit = ae->prev_log_index + ae->n_entries;
}

/* libraft knows which configuration to go back to only if the newest one is marked as uncommitted, which it is not after a restart, and
 * only if the entry of the older one is still in the log. (Dissertation 4.1: if the entry of a configuration is removed from the log,
 * the server falls back to the previous configuration in its log.) */
static int undo_configuration(struct guard *g, const struct raft_append_entries *ae)
{
    struct raft *r = g->raft;
    struct raft_configuration conf;
    uint64_t first = 0, index;
    int rv;

    if (!rule(g, GUARD_CONFIGURATION) || guard_install_busy(g) || ae->n_entries == 0 ||
        (ae->prev_log_index > 0 && guard_term_of(g, ae->prev_log_index) != ae->prev_log_term))
        return 0;
    for (unsigned i = 0; i < ae->n_entries && first == 0; i++) {
        uint64_t have = guard_term_of(g, ae->prev_log_index + 1 + i);

        if (have == 0)
            return 0;
        if (have != ae->entries[i].term)
            first = ae->prev_log_index + 1 + i;
    }
    if (first == 0 || first <= r->commit_index || (r->configuration_index < first && r->configuration_uncommitted_index < first))
        return 0;
    rv = guard_configuration_at(g, first - 1, &conf, &index);
    if (rv)
        return rv;
    raft_configuration_close(&r->configuration);
    r->configuration = conf;
    r->configuration_index = index;
    r->configuration_uncommitted_index = index > r->commit_index ? index : 0;
    return 0;
}

/* After this message, if libraft takes it, our log is the leader's up to its last entry. */
static void verify(struct guard *g, const struct raft_append_entries *ae)
{
    uint64_t end = ae->prev_log_index + ae->n_entries;

    if (ae->prev_log_index > 0 && guard_term_of(g, ae->prev_log_index) != ae->prev_log_term)
        return;
    if (guard_install_busy(g) && ae->n_entries > 0)
        return; /* libraft will ignore it */
    if (end > g->verified)
        g->verified = end;
}

static bool recv_append_entries(struct guard *g, struct raft_append_entries *ae)
{
    if (ae->term < g->raft->current_term)
        return true;
    g->heard_ns = clock_boottime_ns();
    begin_verified_term(g, ae->term);
    if (ae->leader_commit > g->leader_commit)
        g->leader_commit = ae->leader_commit;
    trim(g, ae);
    take_no_more(g, ae);
    cap_commit(g, ae);
    if (undo_configuration(g, ae)) {
        g->failed = true;
        g->hooks.fail(g->hooks.data, "cannot go back to an earlier configuration");
        return false;
    }
    verify(g, ae);
    return true;
}

/* A follower commits what it has stored when the leader's word comes. If that comes while the entry is being written, which is often so
 * when two others were faster, libraft forgets it, and commits with the next entry or heartbeat. So it is told again when the write is
 * complete, as if by the leader; the answer goes nowhere. */
void guard_peer_stored(struct guard *g)
{
    struct raft *r = g->raft;
    uint64_t commit = g->leader_commit < g->verified ? g->leader_commit : g->verified;
    struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES};

    if (commit > r->last_stored)
        commit = r->last_stored;
    if (!rule(g, GUARD_NUDGE) || r->state != RAFT_FOLLOWER || g->verified_term != r->current_term || commit <= r->commit_index ||
        r->follower_state.current_leader.id == 0 || guard_install_busy(g) || guard_term_of(g, commit) == 0)
        return;
    m.server_id = r->follower_state.current_leader.id;
    m.server_address = r->follower_state.current_leader.address;
    m.append_entries = (struct raft_append_entries){.term = r->current_term, .prev_log_index = commit, .leader_commit = commit,
                                                    .prev_log_term = guard_term_of(g, commit)};
    g->reminding = true;
    g->recv(r->io, &m);
    g->reminding = false;
}

/* libraft commits its last stored entry when a majority has it, though it be of an earlier term: such an entry can still be replaced.
 * So while the last stored one is of an earlier term, no follower is counted for it. (Raft 5.4.2, figure 8: only entries of the
 * leader's current term are committed by counting replicas.) */
static void count_own_term(struct guard *g, struct raft_append_entries_result *result)
{
    struct raft *r = g->raft;

    if (!rule(g, GUARD_COUNT) || r->state != RAFT_LEADER || result->term != r->current_term || result->rejected != 0)
        return;
    if (r->last_stored > 0 && guard_term_of(g, r->last_stored) != r->current_term && result->last_log_index >= r->last_stored)
        result->last_log_index = r->last_stored - 1;
}

/* ---- Elections ----------------------------------------------------------------------------------------------------------- */

static bool installing(const struct guard *g)
{
    return g->holding || guard_install_busy(g);
}

/* A follower in the middle of writing entries or installing a snapshot has a log in memory that its disk does not have yet; libraft
 * as a candidate then meets callbacks that it only understands as a follower. (Raft 5.4.1: a vote speaks for a log in stable
 * storage.) */
static bool must_wait(const struct guard *g)
{
    return rule(g, GUARD_PATIENCE) && (g->appends > 0 || installing(g));
}

/* A transferring leader that has stepped down would vote for the chosen one although it has voted in this term. (Raft 5.2: each server
 * votes for at most one candidate in a given term.) */
static bool votes_twice(const struct guard *g, const struct raft_request_vote *rv)
{
    const struct raft *r = g->raft;

    return rule(g, GUARD_ONE_VOTE) && !rv->pre_vote && r->transfer != NULL && rv->term == r->current_term && r->voted_for != 0 &&
           r->voted_for != rv->candidate_id;
}

/* libraft's follower refuses its vote until its own timer has made a candidate of it, so that an election waits for the slower of two
 * timers, each up to twice the timeout. (Dissertation 4.2.3: within the minimum election timeout of hearing from a current leader.) */
static void forget_silent_leader(struct guard *g)
{
    struct raft *r = g->raft;

    if (rule(g, GUARD_LEADER) && r->state == RAFT_FOLLOWER && r->io->time(r->io) - r->election_timer_start >= r->election_timeout)
        r->follower_state.current_leader.id = 0;
}

/* A leader whose process has ended leads no more, so the timeout need not pass: the next candidate gets its votes at once, and will be
 * found within a few ticks, by chance who. If it is not true the others, who still hear of the leader, refuse the pre-vote. */
void guard_member_gone(struct guard *g, raft_id id)
{
    struct raft *r = g->raft;
    raft_time now = r->io->time(r->io), wait, timeout;

    if (!rule(g, GUARD_LEADER) || g->failed || r->state != RAFT_FOLLOWER || r->follower_state.current_leader.id != id || id == 0)
        return;
    timeout = r->follower_state.randomized_election_timeout;
    wait = (raft_time)r->io->random(r->io, 0, (int)r->heartbeat_timeout * GONE_TICKS);
    r->follower_state.current_leader.id = 0;
    if (wait < timeout && now - r->election_timer_start < timeout - wait)
        r->election_timer_start = now - (timeout - wait); /* differences only: it may be before the beginning of time */
}

/* A leader that a majority has promised this knows without asking again that nobody was elected after it (rounds.h). Only a follower
 * promises: a candidate may have pre-votes already. What was promised before a restart is not known any more; it counts no longer than
 * from the start. (Dissertation 6.4.1: a leader's lease; its servers' clocks may differ in rate, but only so much.) */
static bool has_promised(const struct guard *g)
{
    return rule(g, GUARD_PROMISE) && clock_boottime_ns() < g->promised_ns;
}

bool guard_promise(struct guard *g, raft_id leader)
{
    const struct raft *r = g->raft;

    if (g->failed || r->state != RAFT_FOLLOWER || leader == 0 || r->follower_state.current_leader.id != leader)
        return false;
    g->stand.type = 0; /* the leader has given that up: it is asked for promises again */
    guard_peer_promise(g);
    return true;
}

void guard_peer_promise(struct guard *g)
{
    g->promised_ns = clock_boottime_ns() + GUARD_PROMISE_MS * INT64_C(1000000);
}

/* A candidacy that has come due waits until the promise is over, and not for another timeout. */
static void hold_candidacy(struct guard *g)
{
    struct raft *r = g->raft;
    raft_time now = r->io->time(r->io), timeout = r->follower_state.randomized_election_timeout;

    if (now - r->election_timer_start >= timeout)
        r->election_timer_start = now - timeout + 1;
}

/* libraft gives no vote if it is not a voter by its own newest configuration, which may be old, or never have been committed: then the
 * cluster may find no leader ever again. For this call it is told that it is one. (Dissertation 4.1: a server that is not part of its
 * own latest configuration still grants votes; RPCs are processed without consulting the configuration.) */
static bool recv_request_vote(struct guard *g, struct raft_message *m)
{
    struct raft *r = g->raft;
    struct raft_configuration own = r->configuration;
    struct raft_server self = {.id = r->id, .address = r->address, .role = RAFT_VOTER};

    if (votes_twice(g, &m->request_vote) || has_promised(g))
        return false;
    forget_silent_leader(g);
    if (!rule(g, GUARD_VOTER) || guard_votes(g))
        return true;
    r->configuration = (struct raft_configuration){.servers = &self, .n = 1};
    g->recv(r->io, m);
    r->configuration = own;
    return false;
}

/* ---- Snapshots from the leader ------------------------------------------------------------------------------------------- */

static void free_install(struct raft_install_snapshot *args)
{
    raft_configuration_close(&args->conf);
    raft_free(args->data.base);
}

/* libraft takes an entry at the snapshot's last index for the snapshot's if its term is not lower; but a higher one differs as well, and
 * is as uncommitted. It must not keep its log then. With a term above that one for the moment of the call, libraft does replace its
 * log; nothing else sees the false term. (Dissertation 5.3: if the follower has no entry with the same index and term as the
 * snapshot's last, it discards its entire log.) */
static void pass_install(struct guard *g, struct raft_message *m)
{
    struct raft *r = g->raft;
    struct raft_install_snapshot *args = &m->install_snapshot;
    uint64_t term = args->last_term, index = args->last_index, have = guard_term_of(g, index);
    bool idle = r->snapshot.pending.term == 0 && r->snapshot.put.data == NULL; /* else libraft ignores the message */
    bool current = args->term >= r->current_term, old = index <= r->log.snapshot.last_index;
    bool replace = rule(g, GUARD_INSTALL) && current && idle && !old && have > term;

    if (current)
        begin_verified_term(g, args->term);
    if (current && (old || have == term || (idle && (have < term || replace))) && index > g->verified)
        g->verified = index;
    g->passing_term = replace ? term : 0;
    if (replace)
        args->last_term = have + 1;
    g->recv(r->io, m);
    if (g->passing_term && r->log.snapshot.last_index == index)
        r->log.snapshot.last_term = term;
    g->passing_term = 0;
}

/* The message is only the marker: the database that it stands for is fetched beside it, and must be here before libraft drops its log.
 * The leader sends it again in the meantime; a newer one replaces it. */
static void hold(struct guard *g, struct raft_message *m)
{
    struct raft_install_snapshot *args = &m->install_snapshot;

    if (g->holding && (args->term < g->held.install_snapshot.term ||
                       (args->term == g->held.install_snapshot.term && args->last_index <= g->held.install_snapshot.last_index))) {
        free_install(args);
        return;
    }
    if (g->holding)
        free_install(&g->held.install_snapshot);
    g->holding = true;
    g->held = *m;
    snprintf(g->held_address, sizeof g->held_address, "%s", m->server_address);
    g->held.server_address = g->held_address;
    g->hooks.install(g->hooks.data, m->server_id, args);
}

static bool recv_install(struct guard *g, struct raft_message *m)
{
    struct raft *r = g->raft;

    if (m->install_snapshot.term >= r->current_term)
        g->heard_ns = clock_boottime_ns();
    if (!g->hooks.install || m->install_snapshot.term < r->current_term ||
        r->log.snapshot.last_index >= m->install_snapshot.last_index ||
        guard_term_of(g, m->install_snapshot.last_index) == m->install_snapshot.last_term) {
        pass_install(g, m); /* libraft refuses it, or says that it has all of it */
        return false;
    }
    hold(g, m);
    return false;
}

void guard_install_drop(struct guard *g)
{
    if (!g->holding)
        return;
    g->holding = false;
    free_install(&g->held.install_snapshot);
}

/* The term may have moved on while the database was fetched: then that leader's word does not count any more. */
bool guard_install_release(struct guard *g)
{
    struct raft_message m = g->held;

    if (!g->holding || g->failed)
        return true;
    if (g->raft->snapshot.pending.term != 0 || g->raft->snapshot.put.data != NULL)
        return false; /* a marker of our own is just being written: libraft would ignore the message */
    if (m.install_snapshot.term != g->raft->current_term) {
        guard_install_drop(g);
        return true;
    }
    g->holding = false;
    pass_install(g, &m);
    guard_step(g);
    return true;
}

static bool in_configuration(const struct raft *r, raft_id id)
{
    unsigned i = 0;

    while (i < r->configuration.n && r->configuration.servers[i].id != id)
        i++;
    return i < r->configuration.n;
}

static struct guard_told *told(struct guard *g, raft_id id)
{
    unsigned place = 0;

    if (g->told_term != g->raft->current_term) {
        g->told_term = g->raft->current_term;
        g->n_told = 0;
    }
    for (unsigned i = 0; i < g->n_told; i++)
        if (g->told[i].id == id)
            return &g->told[i];
    if (g->n_told < GUARD_MEMBERS_MAX)
        place = g->n_told++;
    else /* members have come and gone in this term */
        while (place < g->n_told && in_configuration(g->raft, g->told[place].id))
            place++;
    if (place == GUARD_MEMBERS_MAX)
        return NULL;
    g->told[place] = (struct guard_told){.id = id};
    return &g->told[place];
}

/* For guard_configuration: who answers is there. */
static void note_heard(struct guard *g, const struct raft_message *m)
{
    struct guard_told *from;

    if (g->raft->state != RAFT_LEADER || m->append_entries_result.term != g->raft->current_term)
        return;
    from = told(g, m->server_id);
    if (!from)
        return;
    from->heard = true;
    from->heard_at = g->raft->io->time(g->raft->io);
}

bool guard_peer_recv(struct guard *g, struct raft_message *m)
{
    switch (m->type) {
    case RAFT_IO_APPEND_ENTRIES:
        return recv_append_entries(g, &m->append_entries);
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        note_heard(g, m);
        count_own_term(g, &m->append_entries_result);
        return true;
    case RAFT_IO_REQUEST_VOTE:
        return recv_request_vote(g, m);
    case RAFT_IO_INSTALL_SNAPSHOT:
        return recv_install(g, m);
    case RAFT_IO_TIMEOUT_NOW:
        if (!has_promised(g))
            return !must_wait(g);
        g->stand = *m; /* a leader waits for the end of promises (rounds_free), but counts from when it asked for them */
        g->stand.server_address = NULL;
        return false;
    default:
        return true;
    }
}

/* ---- Sending ------------------------------------------------------------------------------------------------------------- */

/* libraft acknowledges all that it has stored, also what no leader of this term has compared; and a write that was submitted under one
 * leader is answered to the next. (Raft, figure 2: the leader learns with success that the follower's log is its own up to
 * prevLogIndex + entries; dissertation 3.8: only what is in stable storage.) */
static void clamp_acknowledgement(struct guard *g, struct raft_append_entries_result *result)
{
    uint64_t most = result->term == g->verified_term ? g->verified : 0;

    if (!rule(g, GUARD_ACK) || result->rejected != 0)
        return;
    if (most > g->raft->last_stored)
        most = g->raft->last_stored;
    if (result->last_log_index > most)
        result->last_log_index = most;
}

static struct raft_progress *progress_of(struct guard *g, raft_id id)
{
    struct raft *r = g->raft;

    for (unsigned i = 0; r->state == RAFT_LEADER && i < r->configuration.n; i++)
        if (r->configuration.servers[i].id == id)
            return &r->leader_state.progress[i];
    return NULL;
}

/* After a failed send libraft goes back to the first index that a follower has not acknowledged to it: to 1 if that has not answered this
 * leader yet. It would get the whole log, or a snapshot. At the end of the log its refusal says where it stands. (Dissertation
 * 3.5: nextIndex starts just after the leader's last entry.) */
static void probe_at_end(struct guard *g, raft_id id)
{
    struct raft_progress *p = progress_of(g, id);

    if (rule(g, GUARD_PROBE) && p && p->state == PROGRESS_PROBE && p->match_index == 0)
        p->next_index = raft_last_index(g->raft) + 1;
}

/* libraft waits for its timeout of half a minute, although who got the snapshot may have died with it. As a probe it asks where the member
 * stands; who holds that snapshot still drops a second one. */
void guard_member_up(struct guard *g, raft_id id)
{
    struct raft_progress *p = progress_of(g, id);

    if (!p || p->state != PROGRESS_SNAPSHOT || g->failed)
        return;
    p->state = PROGRESS_PROBE;
    p->snapshot_index = 0;
    p->next_index = raft_last_index(g->raft) + 1;
}

static void send_cb(struct raft_io_send *req, int status)
{
    struct guard_send *s = req->data;
    struct guard *g = s->guard;

    if (s->prev)
        s->prev->next = s->next;
    else
        g->sends = s->next;
    if (s->next)
        s->next->prev = s->prev;
    if (s->inner && s->cb)
        s->cb(s->inner, status);
    if (status && !g->failed)
        probe_at_end(g, s->to);
    free(s);
}

/* libraft sends all that a follower lacks in one message, again and again until that answers. So a part of it is sent; what comes back
 * calls for the next. */
static unsigned message_part(const struct guard *g, const struct raft_append_entries *ae)
{
    size_t bytes = 0;
    unsigned n = 0;

    while (n < ae->n_entries && n < g->message_entries && (n == 0 || bytes + ae->entries[n].buf.len <= GUARD_MESSAGE_BYTES))
        bytes += ae->entries[n++].buf.len;
    return rule(g, GUARD_MESSAGE) ? n : ae->n_entries;
}

/* libraft believes that all was sent: the next message would begin behind it, and be refused. */
static void begin_at_cut(struct guard *g)
{
    for (unsigned i = 0; g->told_term == g->raft->current_term && i < g->n_told; i++) {
        struct guard_told *t = &g->told[i];
        struct raft_progress *p = t->cut ? progress_of(g, t->id) : NULL;

        if (p && p->state == PROGRESS_PIPELINE && p->next_index > t->cut)
            p->next_index = t->cut;
        t->cut = 0;
    }
}

static int send_entries(struct guard *g, struct raft_io_send *inner, struct raft_message *m, raft_io_send_cb cb)
{
    struct guard_send *s = calloc(1, sizeof *s);
    struct raft_append_entries *ae = &m->append_entries;
    unsigned n = ae->n_entries;
    struct guard_told *t;
    uint64_t most;
    int rv;

    if (!s)
        return RAFT_NOMEM;
    *s = (struct guard_send){.req.data = s, .inner = inner, .cb = cb, .guard = g, .next = g->sends, .to = m->server_id};
    if (g->sends)
        g->sends->prev = s;
    g->sends = s;
    ae->n_entries = message_part(g, ae);
    most = ae->prev_log_index + ae->n_entries;
    rv = g->saved.send(g->raft->io, &s->req, m, send_cb);
    if (rv) {
        g->sends = s->next;
        if (s->next)
            s->next->prev = NULL;
        free(s);
        return rv;
    }
    t = told(g, m->server_id);
    if (t) {
        t->commit = ae->leader_commit < most ? ae->leader_commit : most;
        t->cut = ae->n_entries < n ? most + 1 : 0;
    }
    return 0;
}

/* libraft answers a refused pre-vote with the asker's own term, so that it never learns of a higher one: with a longer log it is needed,
 * with the lower term it is refused, for ever. (Raft, figure 2: RequestVote's result carries currentTerm, for the candidate to update
 * itself.) */
static void tell_term(struct guard *g, struct raft_request_vote_result *result)
{
    if (rule(g, GUARD_PRE_VOTE) && result->pre_vote == raft_tribool_true && !result->vote_granted && result->term < g->raft->current_term)
        result->term = g->raft->current_term;
}

/* libraft frees entries twice when an answer to them cannot be sent. So it is not told: an answer may always be lost. */
static int send_answer(struct guard *g, struct raft_io_send *req, const struct raft_message *m, raft_io_send_cb cb)
{
    bool nowhere = g->reminding || g->failed || m->server_id == 0;
    int rv = nowhere ? RAFT_NOCONNECTION : g->saved.send(g->raft->io, req, m, cb);

    if (rv && cb)
        cb(req, rv);
    return 0;
}

int guard_peer_send(struct guard *g, struct raft_io_send *req, const struct raft_message *message, raft_io_send_cb cb)
{
    struct raft_message m = *message;

    switch (m.type) {
    case RAFT_IO_APPEND_ENTRIES:
        return g->failed ? RAFT_IOERR : send_entries(g, req, &m, cb);
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        clamp_acknowledgement(g, &m.append_entries_result);
        return send_answer(g, req, &m, cb);
    case RAFT_IO_REQUEST_VOTE_RESULT:
        tell_term(g, &m.request_vote_result);
        return send_answer(g, req, &m, cb);
    default:
        return g->failed ? RAFT_IOERR : g->saved.send(g->raft->io, req, &m, cb);
    }
}

/* ---- Steps --------------------------------------------------------------------------------------------------------------- */

/* The word of a leader of an earlier term does not count any more: who leads now sends its own if that is needed. And who holds one is no
 * candidate, so that without a leader it might be held for ever. */
static void drop_old_install(struct guard *g)
{
    if (g->holding && g->held.install_snapshot.term < g->raft->current_term)
        guard_install_drop(g);
}

void guard_peer_tick(struct guard *g)
{
    drop_old_install(g);
    if (g->raft->state == RAFT_FOLLOWER && must_wait(g))
        g->raft->election_timer_start = g->raft->io->time(g->raft->io);
    else if (g->raft->state == RAFT_FOLLOWER && has_promised(g))
        hold_candidacy(g);
}

static void barrier_cb(struct raft_barrier *req, int status)
{
    (void)req;
    (void)status; /* leadership lost: the next leader appends its own */
}

/* libraft's leader commits nothing until somebody proposes something; entries of earlier terms, and reads, would wait for it. (Raft 8: a
 * leader commits a blank no-op entry into the log at the start of its term.) A sole voter has committed all that it has. */
static void begin_term_with_barrier(struct guard *g)
{
    struct raft *r = g->raft;

    if (!rule(g, GUARD_BARRIER) || r->state != RAFT_LEADER || g->barrier_term == r->current_term || guard_sole_voter(g))
        return;
    if (raft_barrier(r, &g->barrier, barrier_cb) == 0) /* else a transfer is under way: later */
        g->barrier_term = r->current_term;
}

/* Followers hear of a commit with the next entry or heartbeat only; a reader there would wait for that long. So each one that has not
 * heard of it yet gets an empty AppendEntries. Its commit index must not be above what it compares. (Dissertation 3.5: a follower
 * learns from AppendEntries, heartbeats included, that an entry is committed.) */
static void nudge(struct guard *g, unsigned i)
{
    struct raft *r = g->raft;
    const struct raft_server *server = &r->configuration.servers[i];
    const struct raft_progress *p = &r->leader_state.progress[i];
    uint64_t prev = p->next_index - 1, commit = r->commit_index < prev ? r->commit_index : prev;
    struct guard_told *t;
    struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES, .server_id = server->id, .server_address = server->address};

    if (server->id == r->id || p->state != PROGRESS_PIPELINE)
        return;
    t = told(g, server->id);
    if (!t || t->commit >= commit || guard_term_of(g, prev) == 0)
        return;
    m.append_entries = (struct raft_append_entries){.term = r->current_term, .prev_log_index = prev, .prev_log_term = guard_term_of(g, prev),
                                                    .leader_commit = commit};
    t->commit = commit; /* also if it cannot be sent: the heartbeat will say it */
    send_entries(g, NULL, &m, NULL);
}

/* libraft looks whether it is still of this term, of the leader that we follow, and for this very log. */
static void step_stand(struct guard *g)
{
    struct raft_message m = g->stand;

    if (m.type == 0 || has_promised(g))
        return;
    g->stand.type = 0;
    if (m.timeout_now.term == g->raft->current_term && !must_wait(g))
        g->recv(g->raft->io, &m);
}

void guard_peer_step(struct guard *g)
{
    step_stand(g);
    begin_term_with_barrier(g);
    begin_at_cut(g);
    for (unsigned i = 0; rule(g, GUARD_NUDGE) && !g->failed && g->raft->state == RAFT_LEADER && i < g->raft->configuration.n; i++)
        nudge(g, i);
}

void guard_peer_fini(struct guard *g)
{
    guard_install_drop(g);
    raft_configuration_close(&g->base);
    for (struct guard_send *s = g->sends, *next; s; s = next) {
        next = s->next;
        free(s);
    }
    g->sends = NULL;
    for (struct guard_write *w = g->writes, *next; w; w = next) {
        next = w->next;
        free(w);
    }
    g->writes = NULL;
}
