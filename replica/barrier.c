/* The read barrier.
 *
 * The good path: readers' requests come through the mailbox. All that have come form one question to the leader {id, our term}. The
 * leader notes its commit index, makes sure that it led when the question came - a majority of the voters says, asked after that,
 * that its term is still the leader's - and answers with the index. When libraft has applied so far here, and the store thread as
 * well, the readers are told. No disk is touched.
 *
 * Who confirms is told at the head of rounds.h.
 *
 * Why it is enough: whatever was committed before the reads came was committed in a term T. A leader of a later term than T needs no
 * more; one of an earlier term finds no majority, since a majority of the voters had T when it voted, and terms never go back.
 * Answers may be late, doubled or lost: an answer to question n serves exactly the requests that came before n was asked.
 *
 * When it goes wrong: a question without an answer is asked again with each tick, also of another leader; a leader without a majority
 * answers nobody, and steps down; an old leader that wakes from a pause must ask first as well. A request ends with QE_TIMEDOUT when its
 * time is over, or at once when no leader has been heard of for an election timeout. */
#include "replica/barrier.h"

#include <string.h>

#include "replica/member.h"
#include "store/base/clock.h"
#include "store/base/failpoint.h"

static void list_join(struct submit_list *to, struct submit_list *from)
{
    while (from->head) {
        struct replica_request *req = from->head;

        submit_unlink(from, req);
        submit_push(to, req);
    }
}

void barrier_init(struct replica *r)
{
    r->barrier.last_id = r->barrier.answered_id = r->submit.nonce;
}

/* ---- The asker ----------------------------------------------------------------------------------------------------------- */

/* All commands below have been handed to the store thread. If it has nothing left to do, readers see them already. */
static void release(struct replica *r)
{
    struct barrier *b = &r->barrier;
    uint64_t applied = raft_last_applied(&r->raft);
    struct submit_list ripe = {0};
    struct applier_item item = {.kind = APPLIER_BARRIER};

    while (b->known.head && b->known.head->priv.seq <= applied) {
        struct replica_request *req = b->known.head;

        submit_unlink(&b->known, req);
        submit_push(&ripe, req);
    }
    if (!ripe.head)
        return;
    item.barrier = ripe.head;
    if (applier_idle(r))
        applier_answer(r, ripe.head);
    else if (applier_push(r, &item))
        submit_end(r, ripe.head, member_failed(r) ? QE_IO : QE_NOMEM);
}

static void answered(struct replica *r, uint64_t id, uint64_t index)
{
    struct barrier *b = &r->barrier;

    if (id > b->last_id)
        return; /* not a question of ours */
    if (id > b->answered_id)
        b->answered_id = id;
    if (index > b->known_index)
        b->known_index = index;
    while (b->asked.head && b->asked.head->priv.seq <= id) {
        struct replica_request *req = b->asked.head;

        submit_unlink(&b->asked, req);
        req->priv.seq = b->known_index; /* never below an earlier one's, so the list is in order */
        submit_push(&b->known, req);
    }
}

static void read_add(struct replica *r, uint32_t from, uint64_t id, bool vouched);

static void ask(struct replica *r)
{
    struct barrier *b = &r->barrier;
    Qfs__BarrierAsk ask = QFS__BARRIER_ASK__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;

    b->last_id++;
    b->asked_ns = clock_boottime_ns();
    for (struct replica_request *req = b->fresh.head; req; req = req->priv.next)
        req->priv.seq = b->last_id;
    list_join(&b->asked, &b->fresh);
    if (rounds_lead(r)) {
        read_add(r, r->id.member_id, b->last_id, true);
        return;
    }
    ask.id = b->last_id;
    ask.term = guard_term(&r->guard);
    m.kind_case = QFS__PEER_MESSAGE__KIND_BARRIER_ASK;
    m.barrier_ask = &ask;
    if (!FAILPOINT("replica.barrier.lost"))
        member_send(r, r->submit.leader, &m, NULL, 0); /* lost: the next tick asks again */
}

void barrier_add(struct replica *r, struct replica_request *newest_first)
{
    struct barrier *b = &r->barrier;
    struct replica_request *list = NULL;

    while (newest_first) {
        struct replica_request *next = newest_first->priv.next;

        newest_first->priv.next = list;
        list = newest_first;
        newest_first = next;
    }
    while (list) {
        struct replica_request *next = list->priv.next;

        list->priv.next = NULL;
        if (atomic_load(&r->submit.leaderless))
            submit_end(r, list, QE_TIMEDOUT);
        else
            submit_push(&b->fresh, list);
        list = next;
    }
}

/* ---- The leader ---------------------------------------------------------------------------------------------------------- */

/* 0: we may not know of all that earlier leaders have committed. A sole voter has committed all that it has. */
static uint64_t read_index(struct replica *r)
{
    raft_id voters[2];

    return guard_settled(&r->guard) || guard_voters(&r->guard, voters, 2) == 1 ? guard_commit(&r->guard) : 0;
}

static void read_add(struct replica *r, uint32_t from, uint64_t id, bool vouched)
{
    struct barrier *b = &r->barrier;

    if (!rounds_lead(r) || b->n_reads == BARRIER_READS)
        return;
    b->reads[b->n_reads++] = (struct barrier_read){.question = {.from = from, .vouched = vouched}, .id = id, .index = read_index(r)};
}

static void tell(struct replica *r, const struct barrier_read *read)
{
    Qfs__BarrierAnswer answer = QFS__BARRIER_ANSWER__INIT;
    Qfs__PeerMessage m = QFS__PEER_MESSAGE__INIT;

    if (read->question.from == r->id.member_id) {
        answered(r, read->id, read->index);
        return;
    }
    answer.id = read->id;
    answer.index = read->index;
    m.kind_case = QFS__PEER_MESSAGE__KIND_BARRIER_ANSWER;
    m.barrier_answer = &answer;
    member_send(r, read->question.from, &m, NULL, 0); /* lost: the asker asks again */
}

void barrier_drop(struct replica *r)
{
    r->barrier.n_reads = 0;
}

bool barrier_has_questions(const struct replica *r)
{
    return r->barrier.n_reads > 0;
}

/* Answers what has its majority; the rest stays, in order. */
void barrier_confirm(struct replica *r)
{
    struct barrier *b = &r->barrier;
    unsigned kept = 0;

    for (unsigned i = 0; i < b->n_reads; i++) {
        struct barrier_read *read = &b->reads[i];

        if (read->index == 0)
            read->index = read_index(r);
        if (read->index != 0 && rounds_confirmed(r, &read->question)) {
            tell(r, read);
            continue;
        }
        if (read->index != 0)
            rounds_wait(r, &read->question);
        b->reads[kept++] = *read;
    }
    b->n_reads = kept;
}

void barrier_join(struct replica *r, uint64_t round)
{
    struct barrier *b = &r->barrier;

    for (unsigned i = 0; i < b->n_reads; i++)
        if (b->reads[i].index != 0 && b->reads[i].question.round == 0)
            b->reads[i].question.round = round;
}

/* ---- Both ---------------------------------------------------------------------------------------------------------------- */

void barrier_step(struct replica *r)
{
    struct barrier *b = &r->barrier;

    rounds_renew(r);
    if (b->fresh.head && r->submit.leader != 0 && b->last_id - b->answered_id < BARRIER_QUESTIONS)
        ask(r);
    rounds_step(r);
    release(r);
}

bool barrier_message(struct replica *r, uint32_t from, const Qfs__PeerMessage *m)
{
    rounds_renew(r);
    switch (m->kind_case) {
    case QFS__PEER_MESSAGE__KIND_BARRIER_ASK:
        read_add(r, from, m->barrier_ask->id, m->barrier_ask->term == guard_term(&r->guard));
        break;
    case QFS__PEER_MESSAGE__KIND_BARRIER_ANSWER:
        answered(r, m->barrier_answer->id, m->barrier_answer->index);
        break;
    default:
        return false;
    }
    barrier_step(r);
    return true;
}

static void expire(struct replica *r, struct submit_list *list, int64_t now_ns, bool all)
{
    for (struct replica_request *req = list->head, *next; req; req = next) {
        next = req->priv.next;
        if (!all && (req->priv.deadline_ns == 0 || req->priv.deadline_ns > now_ns))
            continue;
        submit_unlink(list, req);
        submit_end(r, req, QE_TIMEDOUT);
    }
}

/* One question more covers all that are open, on both sides. */
void barrier_tick(struct replica *r, int64_t now_ns)
{
    struct barrier *b = &r->barrier;
    bool leaderless = atomic_load(&r->submit.leaderless);

    expire(r, &b->fresh, now_ns, leaderless);
    expire(r, &b->asked, now_ns, leaderless);
    expire(r, &b->known, now_ns, false);
    if ((b->asked.head || b->fresh.head) && r->submit.leader != 0 && now_ns - b->asked_ns >= r->heartbeat_ns)
        ask(r);
    barrier_step(r);
}

void barrier_refuse(struct replica *r, int err)
{
    struct submit_list *lists[] = {&r->barrier.fresh, &r->barrier.asked, &r->barrier.known};

    for (int i = 0; i < 3; i++)
        while (lists[i]->head) {
            struct replica_request *req = lists[i]->head;

            submit_unlink(lists[i], req);
            submit_end(r, req, err);
        }
}
