#include "replica/rounds.h"

#include <string.h>

#include "replica/member.h"
#include "store/base/clock.h"

#define MS INT64_C(1000000)
static const int64_t PAID_NS = 1000 * MS; /* promises that have saved no round for so long are not worth asking for */

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

static const struct rounds_confirmed *confirmed_by(const struct rounds *s, raft_id id)
{
    static const struct rounds_confirmed never;

    for (unsigned i = 0; i < s->n_confirmed; i++)
        if (s->confirmed[i].id == id)
            return &s->confirmed[i];
    return &never;
}

bool rounds_confirmed(struct replica *r, const struct rounds_question *q)
{
    const struct rounds *s = &r->rounds;
    unsigned yes = 0;

    for (unsigned i = 0; i < s->n_voters; i++)
        if (s->voters[i] == r->id.member_id || (s->voters[i] == q->from && q->vouched) ||
            (q->round != 0 && confirmed_by(s, s->voters[i])->round >= q->round))
            yes++;
    return yes > s->n_voters / 2;
}

/* ---- Promises ------------------------------------------------------------------------------------------------------------ */

bool rounds_promised_until(struct replica *r, int64_t ns)
{
    const struct rounds *s = &r->rounds;
    unsigned yes = 0;

    for (unsigned i = 0; i < s->n_voters; i++)
        if (s->voters[i] == r->id.member_id || confirmed_by(s, s->voters[i])->promised_ns > ns)
            yes++;
    return yes > s->n_voters / 2;
}

/* Half a promise before the end they are asked for anew, so that whoever comes then need not wait. */
bool rounds_promised(struct replica *r)
{
    struct rounds *s = &r->rounds;
    int64_t now = clock_boottime_ns();
    bool promised = rounds_promised_until(r, now), pay;

    if (now < s->free_until_ns)
        return false;
    if (promised)
        s->paid_ns = now;
    pay = s->eager || now - s->paid_ns < PAID_NS;
    s->promise = pay || s->round - s->all >= ROUNDS_ALL_EVERY;
    s->ageing = pay && s->n_voters > 1 && now - s->asked_ns > ROUNDS_PROMISE_MS * MS / 2;
    return promised;
}

bool rounds_free(struct replica *r)
{
    struct rounds *s = &r->rounds;
    int64_t now = clock_boottime_ns();

    s->free_until_ns = now + 1000 * MS;
    return now - s->asked_ns > GUARD_PROMISE_MS * MS;
}

/* ---- Asking -------------------------------------------------------------------------------------------------------------- */

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
    check.promise = r->rounds.promise;
    m.kind_case = QFS__PEER_MESSAGE__KIND_TERM_CHECK;
    m.term_check = &check;
    member_send(r, (uint32_t)voter, &m, NULL, 0); /* lost: the next tick asks again */
}

static void begin_round(struct rounds *s)
{
    int64_t now = clock_boottime_ns();

    s->round++;
    s->begun[s->round % ROUNDS_BEGUN].round = s->round;
    s->begun[s->round % ROUNDS_BEGUN].ns = now;
    if (s->promise)
        s->asked_ns = now;
}

static void ask_all(struct replica *r)
{
    struct rounds *s = &r->rounds;

    begin_round(s);
    s->all = s->round;
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
    begin_round(s);
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
    s->without = s->promise = s->ageing = false;
    s->oldest = 0;
    barrier_confirm(r);
    tenure_confirm(r);
    return s->without || s->ageing || s->oldest != 0;
}

void rounds_step(struct replica *r)
{
    struct rounds *s = &r->rounds;

    if (!answer(r) || (!s->without && !s->ageing) || (s->oldest != 0 && s->round - s->oldest >= ROUNDS_OPEN))
        return;
    if (s->promise || s->round - s->all >= ROUNDS_ALL_EVERY || !ask_quick(r)) /* who has not promised would stand too early, and in vain */
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

static struct rounds_confirmed *find_or_add(struct rounds *s, raft_id id)
{
    unsigned place = 0;

    while (place < s->n_confirmed && s->confirmed[place].id != id)
        place++;
    if (place < s->n_confirmed)
        return &s->confirmed[place];
    if (s->n_confirmed < GUARD_MEMBERS_MAX)
        s->n_confirmed++;
    else /* those who vote no more have left their answers here */
        for (place = 0; place < s->n_confirmed && votes(s, s->confirmed[place].id);)
            place++;
    if (place == GUARD_MEMBERS_MAX)
        return NULL;
    s->confirmed[place] = (struct rounds_confirmed){.id = id};
    return &s->confirmed[place];
}

static void on_answer(struct replica *r, uint32_t from, const Qfs__TermCheck *check)
{
    struct rounds *s = &r->rounds;
    struct rounds_confirmed *voter = find_or_add(s, from);

    if (check->round == s->all)
        note_quick(s, from);
    if (!voter || check->round <= voter->round)
        return;
    voter->round = check->round;
    if (check->promise && s->begun[check->round % ROUNDS_BEGUN].round == check->round)
        voter->promised_ns = s->begun[check->round % ROUNDS_BEGUN].ns + ROUNDS_PROMISE_MS * MS;
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
            on_answer(r, from, check);
        barrier_step(r);
        return true;
    }
    answer = *check;
    answer.answer = true;
    answer.promise = check->promise && guard_promise(&r->guard, from);
    back.kind_case = QFS__PEER_MESSAGE__KIND_TERM_CHECK;
    back.term_check = &answer;
    member_send(r, from, &back, NULL, 0);
    return true;
}
