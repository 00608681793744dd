#include "replica/inbox.h"

#include <stdlib.h>
#include <string.h>

#include "store/store.h"

static void drop(struct inbox *in)
{
    struct inbox_command *c;

    while ((c = inbox_pop(in)) != NULL)
        free(c);
}

void inbox_lose(struct inbox *in)
{
    drop(in);
    in->lost = true;
}

void inbox_reset(struct inboxes *in, uint64_t term)
{
    for (unsigned i = 0; i < in->n; i++)
        drop(&in->list[i]);
    in->n = in->turn = 0;
    in->frames = 0;
    in->term = term;
}

struct inbox_command *inbox_pop(struct inbox *in)
{
    struct inbox_command *c = in->head;

    if (!c)
        return NULL;
    in->head = c->next;
    if (!in->head)
        in->tail = NULL;
    in->bytes -= c->len;
    in->n--;
    return c;
}

/* Members come and go while one leads, so the place of the one that has been silent for longest goes to the next. If that one does speak again,
 * in the middle of its stream, it is told to begin a new one. */
static struct inbox *make_place(struct inboxes *in)
{
    struct inbox *oldest = NULL;

    for (unsigned i = 0; i < in->n; i++)
        if (!in->list[i].head && (!oldest || in->list[i].used < oldest->used))
            oldest = &in->list[i];
    return oldest;
}

static struct inbox *find(struct inboxes *in, uint32_t member)
{
    struct inbox *box;

    for (unsigned i = 0; i < in->n; i++)
        if (in->list[i].member == member)
            return &in->list[i];
    box = in->n < INBOX_MEMBERS_MAX ? &in->list[in->n++] : make_place(in);
    if (box)
        *box = (struct inbox){.member = member};
    return box;
}

/* What is appended to the log must be understood by every member: one that cannot be would stop them all. */
static struct inbox_command *command_new(uint32_t from, const uint8_t *bytes, size_t len)
{
    struct store_command_head head;
    struct inbox_command *c;

    if (store_command_look(bytes, len, &head) || head.member != from)
        return NULL;
    c = malloc(sizeof *c + len);
    if (!c)
        return NULL;
    *c = (struct inbox_command){.member = from, .seq = head.seq, .len = len, .alone = head.kind == STORE_OP_SESSION};
    c->internal = c->alone || head.kind == STORE_OP_COMPACT || head.kind == STORE_OP_RESERVE || head.kind == STORE_OP_LAPSE;
    memcpy(c->bytes, bytes, len);
    return c;
}

static bool sums_up(const Qfs__Forward *f, size_t len)
{
    size_t sum = 0;

    for (size_t i = 0; i < f->n_len; i++) {
        if (f->len[i] == 0 || f->len[i] > len - sum)
            return false;
        sum += f->len[i];
    }
    return sum == len && f->n_len > 0 && f->first <= UINT64_MAX - f->n_len;
}

static enum inbox_verdict append(struct inbox *in, const Qfs__Forward *f, const uint8_t *payload, size_t skip)
{
    for (size_t i = 0; i < f->n_len; payload += f->len[i++]) {
        struct inbox_command *c;

        if (i < skip)
            continue;
        if (in->n >= INBOX_COMMANDS || in->bytes + f->len[i] > INBOX_BYTES) {
            inbox_lose(in);
            return INBOX_RESTART;
        }
        c = command_new(in->member, payload, f->len[i]);
        if (!c) { /* malformed, or no memory: in both cases the rest must not overtake it */
            inbox_lose(in);
            return INBOX_MALFORMED;
        }
        if (in->tail)
            in->tail->next = c;
        else
            in->head = c;
        in->tail = c;
        in->bytes += c->len;
        in->n++;
        in->next++;
    }
    return INBOX_TAKEN;
}

enum inbox_verdict inbox_take(struct inboxes *in, uint32_t from, const Qfs__Forward *f, const uint8_t *payload, size_t len)
{
    struct inbox *box;

    if (!sums_up(f, len))
        return INBOX_MALFORMED;
    if (f->term != in->term)
        return f->term < in->term ? INBOX_OLD : INBOX_RESTART;
    box = find(in, from);
    if (!box)
        return INBOX_RESTART;
    box->used = ++in->frames;
    if (f->stream < box->stream)
        return INBOX_OLD;
    if (f->stream > box->stream) {
        drop(box);
        *box = (struct inbox){.member = from, .stream = f->stream, .used = box->used};
    }
    if (box->lost)
        return INBOX_RESTART;
    if (f->first > box->next) {
        inbox_lose(box);
        return INBOX_RESTART;
    }
    if (f->first + f->n_len <= box->next)
        return INBOX_OLD;
    return append(box, f, payload, (size_t)(box->next - f->first));
}
