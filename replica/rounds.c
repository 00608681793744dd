#include "replica/rounds.h"

#include <string.h>

#include "replica/member.h"

bool rounds_lead(struct replica *r)
{
    return raft_state(&r->raft) == RAFT_LEADER;
}

void rounds_renew(struct replica *r)
{
    struct rounds *s = &r->rounds;

    if (rounds_lead(r) && s->term == guard_term(&r->guard))
        return;
    barrier_drop(r);
    tenure_drop(r);
    s->n_confirmed = 0;
    s->term = guard_term(&r->guard);
}

static uint64_t confirmed_by(const struct rounds *s, raft_id id)
{
    for (unsigned i = 0; i < s->n_confirmed; i++)
        if (s->confirmed[i].id == id)
            return s->confirmed[i].round;
    return 0;
}

bool rounds_confirmed(struct replica *r, const struct rounds_question *q)
{
    const struct rounds *s = &r->rounds;
    unsigned yes = 0;

    for (unsigned i = 0; i < s->n_voters; i++)
        if (s->voters[i] == r->id.member_id || (s->voters[i] == q->from && q->vouched) ||
            (q->round != 0 && confirmed_by(s, s->voters[i]) >= q->round))
            yes++;
    return yes > s->n_voters / 2;
}

void rounds_wait(struct replica *r, const struct rounds_question *q)
{
    struct rounds *s = &r->rounds;

    if (q->round == 0)
        s->without = true;
    else if (s->oldest == 0 || q->round < s->oldest)
        s->oldest = q->round;
}

static bool votes(const struct rounds *s, raft_id id)
{
    for (unsigned i = 0; i < s->n_voters; i++)
        if (s->voters[i] == id)
            return true;
    return false;
}

static void check_term(struct replica *r, raft_id voter)
{
    Qfs__TermCheck check = QFS__TERM_CHECK__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;

    check.term = r->rounds.term;
    check.round = r->rounds.round;
    m.kind_case = QFS__PEER_MESSAGE__KIND_TERM_CHECK;
    m.term_check = &check;
    member_send(r, (uint32_t)voter, &m, NULL, 0); /* lost: the next tick asks again */
}

static void ask_all(struct replica *r)
{
    struct rounds *s = &r->rounds;

    s->all = ++s->round;
    s->n_all = 0;
    for (unsigned i = 0; i < s->n_voters; i++)
        if (s->voters[i] != r->id.member_id)
            check_term(r, s->voters[i]);
}

/* As many as make a majority, with us if we vote. False: not so many are known to be quick. */
static bool ask_quick(struct replica *r)
{
    struct rounds *s = &r->rounds;
    raft_id chosen[GUARD_MEMBERS_MAX];
    unsigned need = s->n_voters / 2 + (votes(s, r->id.member_id) ? 0 : 1), n = 0;

    for (unsigned i = 0; i < s->n_quick && n < need; i++)
        if (s->quick[i] != r->id.member_id && votes(s, s->quick[i]))
            chosen[n++] = s->quick[i];
    if (n < need)
        return false;
    s->round++;
    for (unsigned i = 0; i < n; i++)
        check_term(r, chosen[i]);
    if (s->late == 0) {
        s->late = s->round;
        loop_call_late(r);
    }
    return true;
}

/* Answers what is confirmed. False: there is nothing that waits. */
static bool answer(struct replica *r)
{
    struct rounds *s = &r->rounds;

    rounds_renew(r);
    if (!rounds_lead(r) || (!barrier_has_questions(r) && !tenure_has_questions(r)))
        return false;
    s->n_voters = guard_voters(&r->guard, s->voters, GUARD_MEMBERS_MAX);
    s->without = false;
    s->oldest = 0;
    barrier_confirm(r);
    tenure_confirm(r);
    return s->without || s->oldest != 0;
}

void rounds_step(struct replica *r)
{
    struct rounds *s = &r->rounds;

    if (!answer(r) || !s->without || (s->oldest != 0 && s->round - s->oldest >= ROUNDS_OPEN))
        return;
    if (s->round - s->all >= ROUNDS_ALL_EVERY || !ask_quick(r))
        ask_all(r);
    barrier_join(r, s->round);
    tenure_join(r, s->round);
}

void rounds_tick(struct replica *r)
{
    if (answer(r))
        ask_all(r);
}

void rounds_late(struct replica *r)
{
    struct rounds *s = &r->rounds;
    uint64_t late = s->late;

    s->late = 0;
    if (!answer(r) || s->oldest == 0)
        return;
    if (s->oldest <= late) {
        ask_all(r);
    } else { /* begun since then */
        s->late = s->round;
        loop_call_late(r);
    }
}

/* Those who have answered the newest round of all come first, in the order of their answers. */
static void note_quick(struct rounds *s, raft_id id)
{
    unsigned at = 0;

    while (at < s->n_quick && s->quick[at] != id)
        at++;
    if (at < s->n_all || s->n_all == GUARD_MEMBERS_MAX)
        return; /* heard twice */
    if (at == GUARD_MEMBERS_MAX)
        at--; /* in the place of the slowest */
    else if (at == s->n_quick)
        s->n_quick++;
    memmove(s->quick + s->n_all + 1, s->quick + s->n_all, (at - s->n_all) * sizeof *s->quick);
    s->quick[s->n_all++] = id;
}

static void on_answer(struct replica *r, uint32_t from, uint64_t round)
{
    struct rounds *s = &r->rounds;
    unsigned place = 0;

    if (round == s->all)
        note_quick(s, from);
    for (unsigned i = 0; i < s->n_confirmed; i++)
        if (s->confirmed[i].id == from) {
            if (s->confirmed[i].round < round)
                s->confirmed[i].round = round;
            return;
        }
    if (s->n_confirmed < GUARD_MEMBERS_MAX)
        place = s->n_confirmed++;
    else /* those who vote no more have left their answers here */
        while (place < s->n_confirmed && votes(s, s->confirmed[place].id))
            place++;
    if (place < GUARD_MEMBERS_MAX) {
        s->confirmed[place].id = from;
        s->confirmed[place].round = round;
    }
}

bool rounds_message(struct replica *r, uint32_t from, const Qfs__PeerMessage *m)
{
    const Qfs__TermCheck *check = m->term_check;
    Qfs__PeerMessage back = QFS__PEER_MESSAGE__INIT;
    Qfs__TermCheck answer;

    if (m->kind_case != QFS__PEER_MESSAGE__KIND_TERM_CHECK)
        return false;
    rounds_renew(r);
    if (check->term != guard_term(&r->guard))
        return true; /* silence is no */
    if (check->answer) {
        if (rounds_lead(r) && check->round <= r->rounds.round)
            on_answer(r, from, check->round);
        barrier_step(r);
        return true;
    }
    answer = *check;
    answer.answer = true;
    back.kind_case = QFS__PEER_MESSAGE__KIND_TERM_CHECK;
    back.term_check = &answer;
    member_send(r, from, &back, NULL, 0);
    return true;
}
