/* What must hold at every moment (Raft, figure 3.2): one leader a term; what is committed is the same everywhere and stays; what was
 * acknowledged is in the log of every later leader; the state after an index is the same everywhere. */
#include <inttypes.h>

#include "sim.h"

static struct {
    uint64_t term;   /* of the committed entry; 0: unknown */
    uint32_t crc;    /* of a command; 0: something else, or not applied anywhere yet */
    uint64_t hash;   /* of the state after it */
} entries[INDEX_MAX];
static uint64_t leaders[TERM_MAX_SIM], max_commit;
static struct { int64_t rev; uint64_t hash; } states[INDEX_MAX]; /* of the store, after a command */
static uint64_t once[INDEX_MAX];   /* index at which a numbered command took effect */

static void check_index(struct member *m, uint64_t index)
{
    if (index >= INDEX_MAX)
        world_fail(m, "simulator: the log is too long");
}

static void check_leader(struct member *m)
{
    uint64_t term = guard_term(m->guard);

    if (raft_state(m->raft) != RAFT_LEADER || m->led_term == term)
        return;
    if (term >= TERM_MAX_SIM)
        world_fail(m, "simulator: too many terms");
    m->led_term = term;
    world.count.elections++;
    world_log(m, "LEADER of term %" PRIu64 ", last index %llu, commit %" PRIu64, term, raft_last_index(m->raft), guard_commit(m->guard));
    if (leaders[term] && leaders[term] != m->id)
        world_fail(m, "two leaders in term %" PRIu64 ": m%" PRIu64 " and this", term, leaders[term]);
    leaders[term] = m->id;
    for (unsigned i = 0; i < MEMBERS_MAX; i++)
        if (&members[i] != m && members[i].alive && guard_term(members[i].guard) < term && lives_counts_on_promises(&members[i]))
            world_fail(m, "elected in term %" PRIu64 ", while m%" PRIu64 " counts on the promises of a majority", term, members[i].id);
    /* A vote that was long on its way may elect a leader whose term is over; it cannot commit anything any more. */
    if (entries[max_commit].term <= term && max_commit > guard_snapshot_index(m->guard) && guard_term_of(m->guard, max_commit) != entries[max_commit].term)
        world_fail(m, "the leader of term %" PRIu64 " lacks the committed entry %" PRIu64 " (has term %" PRIu64 ", committed: %" PRIu64 ")",
                   term, max_commit, guard_term_of(m->guard, max_commit), entries[max_commit].term);
}

static void check_committed(struct member *m)
{
    uint64_t commit = guard_commit(m->guard);

    check_index(m, commit);
    if (m->seen_commit < guard_snapshot_index(m->guard))
        m->seen_commit = guard_snapshot_index(m->guard) - 1;
    if (commit > raft_last_index(m->raft) && !guard_snapshot_index(m->guard))
        world_fail(m, "commit index %" PRIu64 " beyond the log, which ends at %llu", commit, raft_last_index(m->raft));
    for (uint64_t i = m->seen_commit + 1; i <= commit; i++) {
        uint64_t term = guard_term_of(m->guard, i);

        if (entries[i].term == 0 && term != 0) {
            entries[i].term = term;
        } else if (term != 0 && entries[i].term != term) {
            world_fail(m, "entry %" PRIu64 " is committed with term %" PRIu64 " here, with %" PRIu64 " elsewhere", i, term, entries[i].term);
        }
        if (i > max_commit && term != 0)
            max_commit = i;
    }
    m->seen_commit = commit;
}

void check_member(struct member *m)
{
    if (m->dying) {
        m->dying = false;
        member_crash(m, "stopped by its guard");
        return;
    }
    check_committed(m);
    check_leader(m);
    if (raft_state(m->raft) == RAFT_UNAVAILABLE)
        world_fail(m, "libraft has become unavailable");
}

void check_applied(struct member *m, uint64_t index, uint64_t term, uint32_t crc, bool news)
{
    uint64_t hash;

    check_index(m, index);
    if (entries[index].crc == 0) {
        entries[index].crc = crc;
        entries[index].term = term;
    }
    if (entries[index].crc != crc || entries[index].term != term)
        world_fail(m, "entry %" PRIu64 " applied with term %" PRIu64 " crc %08" PRIx32 " here, with %" PRIu64 " %08" PRIx32 " elsewhere", index,
                   term, crc, entries[index].term, entries[index].crc);
    if (index > max_commit)
        max_commit = index;
    if (!news)
        return;
    hash = (m->fsm.hash ^ crc ^ index * UINT64_C(0x9E3779B97F4A7C15)) * UINT64_C(0xFF51AFD7ED558CCD);
    hash ^= hash >> 29;
    if (entries[index].hash == 0)
        entries[index].hash = hash;
    if (entries[index].hash != hash)
        world_fail(m, "the state after entry %" PRIu64 " differs: a command was left out or applied twice", index);
    m->fsm.hash = hash;
}

void check_acknowledged(struct member *m, uint64_t index, uint32_t crc)
{
    check_index(m, index);
    if (entries[index].crc != crc)
        world_fail(m, "a client was told that its command is entry %" PRIu64 ", which is another", index);
}

uint64_t check_term_of(uint64_t index)
{
    return entries[index].term;
}

uint32_t check_crc_of(uint64_t index)
{
    return entries[index].crc;
}

uint64_t check_hash_of(uint64_t index)
{
    return index ? entries[index].hash : 0;
}

uint64_t check_commit(void)
{
    return max_commit;
}

void check_state(struct member *m, uint64_t index, int64_t rev, uint64_t hash)
{
    while (index > 0 && entries[index].crc == 0)
        index--;
    if (states[index].hash == 0) {
        states[index].hash = hash;
        states[index].rev = rev;
    }
    if (states[index].hash != hash || states[index].rev != rev)
        world_fail(m, "the store after entry %" PRIu64 " is at revision %" PRId64 " with hash %016" PRIx64 ", elsewhere at %" PRId64 " with %016" PRIx64,
                   index, rev, hash, states[index].rev, states[index].hash);
}

void check_once(struct member *m, uint64_t seq, uint64_t index)
{
    check_index(m, seq);
    if (once[seq] == 0)
        once[seq] = index;
    if (once[seq] != index)
        world_fail(m, "command %" PRIu64 " took effect twice: at entries %" PRIu64 " and %" PRIu64, seq, once[seq], index);
}
