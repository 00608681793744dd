/* lincheck: is a history of operations on files linearizable? (Herlihy and Wing 1990; the search is Wing and Gong's with Lowe's cache of
 * configurations: "Testing for linearizability", 2017.)
 *
 *   lincheck FILE...     the lines of all files together are the history
 *
 * Status 0: every group is linearizable; 1: one is not (its lines are printed); 2: the history cannot be read, or a group was too hard to decide.
 *
 * A line is `GROUP CLIENT START END KIND ARG...`; times are nanoseconds of one clock. END 0: nobody knows whether it took effect, and if
 * so, when. Groups are independent of each other: linearizability is local. A group is either a few names or a list:
 *
 *   put NAME VALUE         the file NAME has the content VALUE
 *   get NAME VALUE         a read that saw VALUE; 0: there was no such file
 *   excl NAME ok|exists    O_EXCL creation of an empty file; its VALUE is 1
 *   unlink NAME ok|absent
 *   rename FROM TO ok|absent
 *   append VALUE           VALUE is put at the end of the list
 *   list VALUE,VALUE,...   a read of the list; `-` when it is empty
 *
 * NAME, FROM, TO are 0 to 7, VALUE is above 1 for contents. Lines that begin with # are passed over. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { OPS_MAX = 4096, NAMES = 8, CACHE_MAX = 1 << 22, EMPTY_FILE = 1, STATUS_NO = 1, STATUS_UNKNOWN = 2 };

enum kind { PUT, GET, EXCL, UNLINK, RENAME, APPEND, LIST };
static const char *const kind_names[] = {"put", "get", "excl", "unlink", "rename", "append", "list"};

struct op {
    int group, client;
    uint64_t start, end; /* end: UINT64_MAX when unknown */
    enum kind kind;
    int a, b;            /* names, or name and value */
    bool ok;             /* EXCL, UNLINK, RENAME: it said that it was done */
    int *values;         /* LIST; owned */
    int n_values;
    char *line;          /* as it was read; owned */
};

struct event { /* a call, or the return that belongs to it */
    struct event *prev, *next;
    const struct op *op;
    int number;           /* of the operation */
    struct event *answer; /* of a call: its return, NULL when there is none; of a return: NULL */
    bool is_call;
    uint64_t time;
};

struct state { /* of a group: contents by name, or the list */
    int n;
    int v[OPS_MAX];
};

struct step { /* what was linearized, to be undone */
    struct event *call;
    int n, v[NAMES]; /* of the state before, when it is one of names */
    bool is_list;    /* then the state before is one shorter, or the same */
    bool grew;
};

struct search {
    struct state state;
    uint64_t done[OPS_MAX / 64]; /* which operations are linearized */
    XXH128_hash_t *cache;        /* open addressing; {0,0}: free */
    size_t n_cache;
};

/* ---- Reading ------------------------------------------------------------------------------------------------------------------ */

static bool parse_values(const char *text, struct op *op)
{
    char *end;

    if (!strcmp(text, "-"))
        return true;
    op->values = calloc(strlen(text) / 2 + 1, sizeof *op->values);
    while (op->values) {
        op->values[op->n_values++] = (int)strtol(text, &end, 10);
        if (*end != ',')
            return *end == 0 && end != text;
        text = end + 1;
    }
    return false;
}

static bool parse_result(struct op *op, int n, const char *word, const char *no)
{
    op->ok = n >= 1 && !strcmp(word, "ok");
    return n >= 1 && (op->ok || !strcmp(word, no) || op->end == UINT64_MAX);
}

static bool parse_args(struct op *op, const char *args)
{
    static char word[1 << 16];
    int n;

    switch (op->kind) {
    case PUT:
    case GET: return sscanf(args, "%d %d", &op->a, &op->b) == 2 && op->a >= 0 && op->a < NAMES;
    case EXCL:
    case UNLINK:
        n = sscanf(args, "%d %65535s", &op->a, word) - 1;
        return op->a >= 0 && op->a < NAMES && parse_result(op, n, word, op->kind == EXCL ? "exists" : "absent");
    case RENAME:
        n = sscanf(args, "%d %d %65535s", &op->a, &op->b, word) - 2;
        return op->a >= 0 && op->a < NAMES && op->b >= 0 && op->b < NAMES && parse_result(op, n, word, "absent");
    case APPEND: return sscanf(args, "%d", &op->a) == 1;
    case LIST: return sscanf(args, "%65535s", word) == 1 && parse_values(word, op);
    }
    return false;
}

static bool parse(const char *line, struct op *op)
{
    char kind[16];
    int args = 0;

    memset(op, 0, sizeof *op);
    if (sscanf(line, "%d %d %" SCNu64 " %" SCNu64 " %15s %n", &op->group, &op->client, &op->start, &op->end, kind, &args) < 5 || !args)
        return false;
    if (op->end == 0)
        op->end = UINT64_MAX;
    op->line = strdup(line);
    for (unsigned i = 0; i < sizeof kind_names / sizeof *kind_names; i++)
        if (!strcmp(kind, kind_names[i])) {
            op->kind = (enum kind)i;
            return op->line && op->end > op->start && parse_args(op, line + args);
        }
    return false;
}

static struct op *read_all(int n_files, char **files, size_t *n)
{
    struct op *ops = NULL;
    char *line = NULL;
    size_t size = 0, cap = 0;

    for (int i = 0; i < n_files; i++) {
        FILE *f = fopen(files[i], "r");

        if (!f) {
            perror(files[i]);
            exit(STATUS_UNKNOWN);
        }
        while (getline(&line, &size, f) > 0) {
            if (*line == '#')
                continue;
            if (*n == cap && !(ops = realloc(ops, (cap = cap ? cap * 2 : 1024) * sizeof *ops)))
                exit(STATUS_UNKNOWN);
            if (!parse(line, &ops[*n])) {
                fprintf(stderr, "lincheck: %s: cannot understand: %s", files[i], line);
                exit(STATUS_UNKNOWN);
            }
            ++*n;
        }
        fclose(f);
    }
    free(line);
    return ops;
}

/* ---- What an operation does ---------------------------------------------------------------------------------------------------- */

/* Of an operation whose answer nobody knows, only its effect counts: where it would have had none, it need not be linearized. */
static bool apply(struct state *s, const struct op *op)
{
    bool unknown = op->end == UINT64_MAX;

    switch (op->kind) {
    case PUT: s->v[op->a] = op->b; return true;
    case GET: return s->v[op->a] == op->b;
    case EXCL:
        if (!op->ok && !unknown)
            return s->v[op->a] != 0;
        if (s->v[op->a] != 0)
            return false;
        s->v[op->a] = EMPTY_FILE;
        return true;
    case UNLINK:
        if (!op->ok && !unknown)
            return s->v[op->a] == 0;
        if (s->v[op->a] == 0)
            return false;
        s->v[op->a] = 0;
        return true;
    case RENAME:
        if (!op->ok && !unknown)
            return s->v[op->a] == 0;
        if (s->v[op->a] == 0)
            return false;
        if (op->a != op->b) {
            s->v[op->b] = s->v[op->a];
            s->v[op->a] = 0;
        }
        return true;
    case APPEND: s->v[s->n++] = op->a; return true;
    case LIST: return s->n == op->n_values && (s->n == 0 || !memcmp(s->v, op->values, (size_t)s->n * sizeof *s->v));
    }
    return false;
}

/* ---- The search ---------------------------------------------------------------------------------------------------------------- */

/* The configuration is new: it was not tried before. */
static bool remember(struct search *s, size_t words)
{
    XXH3_state_t *x = XXH3_createState();
    XXH128_hash_t h;
    size_t i;

    XXH3_128bits_reset(x);
    XXH3_128bits_update(x, s->done, words * sizeof *s->done);
    XXH3_128bits_update(x, s->state.v, (size_t)s->state.n * sizeof *s->state.v);
    h = XXH3_128bits_digest(x);
    XXH3_freeState(x);
    for (i = h.low64 % (2 * CACHE_MAX); s->cache[i].low64 || s->cache[i].high64; i = (i + 1) % (2 * CACHE_MAX))
        if (XXH128_isEqual(s->cache[i], h))
            return false;
    s->cache[i] = h;
    s->n_cache++;
    return true;
}

static void lift(struct event *e)
{
    e->prev->next = e->next;
    if (e->next)
        e->next->prev = e->prev;
    if (e->answer)
        lift(e->answer);
}

static void unlift(struct event *e)
{
    if (e->answer)
        unlift(e->answer);
    e->prev->next = e;
    if (e->next)
        e->next->prev = e;
}

static void save(const struct state *s, struct step *step, bool is_list)
{
    step->is_list = is_list;
    step->n = s->n;
    if (!is_list)
        memcpy(step->v, s->v, sizeof step->v);
}

static void restore(struct state *s, const struct step *step)
{
    s->n = step->n;
    if (!step->is_list)
        memcpy(s->v, step->v, sizeof step->v);
}

static void toggle(struct search *s, int number)
{
    s->done[number / 64] ^= UINT64_C(1) << (number % 64);
}

/* The next call that may come first, behind `e`: one that began before any answer. Those whose answer is known are tried before the
 * others (`pass` 0, then 1), which most often did nothing. */
static struct event *candidate(struct event *head, struct event *e, int *pass)
{
    for (;;) {
        while (e && e->is_call && (e->answer != NULL) != (*pass == 0))
            e = e->next;
        if (e && e->is_call)
            return e;
        if (*pass == 1)
            return NULL;
        *pass = 1;
        e = head->next;
    }
}

/* 0: linearizable. The list of events begins behind `head`; `left` is how many operations have an answer. */
static int search(struct search *s, struct event *head, int left, size_t words, bool is_list, struct step *stack)
{
    struct event *e = head->next;
    int depth = 0, pass = 0;

    while (left > 0) {
        struct step step;

        e = candidate(head, e, &pass);
        if (!e) { /* an answer came before its operation was linearized: something earlier was wrong */
            if (depth == 0)
                return STATUS_NO;
            step = stack[--depth];
            restore(&s->state, &step);
            toggle(s, step.call->number);
            unlift(step.call);
            left += step.call->answer != NULL;
            pass = step.call->answer ? 0 : 1;
            e = step.call->next;
            continue;
        }
        save(&s->state, &step, is_list);
        step.call = e;
        toggle(s, e->number);
        if (apply(&s->state, e->op) && remember(s, words)) {
            if (s->n_cache > CACHE_MAX)
                return STATUS_UNKNOWN;
            stack[depth++] = step;
            left -= e->answer != NULL;
            lift(e);
            e = head->next;
            pass = 0;
        } else {
            restore(&s->state, &step);
            toggle(s, e->number);
            e = e->next;
        }
    }
    return 0;
}

static int by_time(const void *a, const void *b)
{
    const struct event *const *x = a, *const *y = b;

    if ((*x)->time != (*y)->time)
        return (*x)->time < (*y)->time ? -1 : 1;
    return (*y)->is_call - (*x)->is_call; /* at one instant, calls first: they may have overlapped */
}

static int check_group(const struct op *ops, size_t n)
{
    static struct search s;
    static struct event events[2 * OPS_MAX], head, *order[2 * OPS_MAX];
    static struct step stack[OPS_MAX];
    size_t n_events = 0;
    int left = 0, status;

    for (size_t i = 0; i < n; i++) {
        struct event *call = &events[n_events++];

        *call = (struct event){.op = &ops[i], .number = (int)i, .is_call = true, .time = ops[i].start};
        if (ops[i].end == UINT64_MAX)
            continue;
        call->answer = &events[n_events++];
        *call->answer = (struct event){.op = &ops[i], .number = (int)i, .time = ops[i].end};
        left++;
    }
    for (size_t i = 0; i < n_events; i++)
        order[i] = &events[i];
    qsort(order, n_events, sizeof *order, by_time);
    head = (struct event){0};
    for (size_t i = 0; i < n_events; i++) {
        order[i]->prev = i ? order[i - 1] : &head;
        order[i]->next = i + 1 < n_events ? order[i + 1] : NULL;
    }
    head.next = n_events ? order[0] : NULL;
    memset(&s.state, 0, sizeof s.state);
    memset(s.done, 0, sizeof s.done);
    bool is_list = ops[0].kind == APPEND || ops[0].kind == LIST;
    s.state.n = is_list ? 0 : NAMES;
    s.n_cache = 0;
    if (!s.cache)
        s.cache = malloc(2 * CACHE_MAX * sizeof *s.cache);
    if (!s.cache)
        return STATUS_UNKNOWN;
    memset(s.cache, 0, 2 * CACHE_MAX * sizeof *s.cache);
    status = search(&s, &head, left, (n + 63) / 64, is_list, stack);
    return status;
}

/* ---- All groups ---------------------------------------------------------------------------------------------------------------- */

static int by_group(const void *a, const void *b)
{
    const struct op *x = a, *y = b;

    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    return x->start < y->start ? -1 : x->start > y->start;
}

int main(int argc, char **argv)
{
    size_t n = 0, first, groups = 0, unknown = 0;
    struct op *ops = read_all(argc - 1, argv + 1, &n);
    int worst = 0;

    if (n == 0) {
        fprintf(stderr, "lincheck: there is no history\n");
        return STATUS_UNKNOWN;
    }
    qsort(ops, n, sizeof *ops, by_group);
    for (first = 0; first < n;) {
        size_t end = first;
        int status;

        while (end < n && ops[end].group == ops[first].group)
            unknown += ops[end++].end == UINT64_MAX;
        status = end - first > OPS_MAX ? STATUS_UNKNOWN : check_group(&ops[first], end - first);
        if (status) {
            printf("group %d is %s:\n", ops[first].group, status == STATUS_NO ? "not linearizable" : "too hard to decide");
            for (size_t i = first; i < end; i++)
                printf("  %s", ops[i].line);
        }
        worst = worst == STATUS_NO || status == STATUS_NO ? STATUS_NO : status > worst ? status : worst;
        groups++;
        first = end;
    }
    printf("%zu groups, %zu operations, %zu with unknown outcome: %s\n", groups, n, unknown,
           worst == 0 ? "linearizable" : worst == STATUS_NO ? "NOT linearizable" : "undecided");
    for (size_t i = 0; i < n; i++) {
        free(ops[i].values);
        free(ops[i].line);
    }
    free(ops);
    return worst;
}
