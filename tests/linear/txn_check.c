/* txncheck: is a history of transactions strictly serializable? That is: is there one order in which all of them can have happened, each at
 * one instant between its two times? The order of the versions of each file follows from what was read, so no search is needed: every
 * order that explains the history has certain edges, and there is one if and only if these make no cycle (Adya 1999; for lists, Elle:
 * Kingsbury and Alvaro, "Elle: inferring isolation anomalies from experimental observations", 2020).
 *
 *   txncheck FILE...     the lines of all files together are the history
 *
 * Status 0: it is; 1: it is not, and why; 2: the history cannot be read.
 *
 * A line is `CLIENT START END REV ITEM...`; times are nanoseconds of one clock. END 0: nobody knows whether it took effect, and if so, when:
 * it did if something that it wrote was seen. REV 0: not known; else, of a transaction that writes, the revision that it made, of
 * one that does not, the revision that it shows. Values are written once, and never 0. Items:
 *
 *   aKEY=VALUE             VALUE is put at the end of the list KEY
 *   rKEY=VALUE,VALUE,...   the list KEY was read, without what this transaction itself put there; `-` when it is empty
 *   gKEY=VALUE             the file KEY was read, before this transaction wrote to it; 0: as it was at the beginning
 *   pKEY=VALUE             the file KEY was overwritten; the same line has what it was before, with g
 *   sKEY=NUMBER            a sum that is always the same
 *
 * What was read by one whose outcome is not known counts when it took effect. Lines that begin with # are passed over. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ITEMS_MAX = 16, KEYS_MAX = 1 << 16, STATUS_NO = 1, STATUS_UNREADABLE = 2, NOWHERE = -1 };

struct item {
    char kind;    /* of "argps" */
    int key;
    int n;        /* r: how many values */
    long *values; /* a, g, p, s: one; owned */
};

struct txn {
    uint64_t start, end; /* end: 0 when unknown */
    long rev;
    struct item items[ITEMS_MAX];
    int n_items;
    bool writes;
    bool happened;
    char *line;          /* as it was read; owned */
};

struct version { /* of a file or a list: who made it, and what it came behind */
    long value, before; /* before: p only */
    int key, txn;
    int at;             /* place in the order of its key, from 0; NOWHERE */
};

struct order { /* of the versions of a key */
    char kind;          /* a: a list; p: a file; 0: never written */
    const struct item *longest;
    const struct txn *longest_of;
    int n, *versions;   /* indices of `versions`; owned */
};

enum edge_kind { SEEN_BY, OVERWRITTEN_BY, NOT_SEEN, ENDED_BEFORE, LOWER_REVISION };
static const char *const edge_words[] = {"was seen by", "comes in the same file before", "did not see what was written by", "ended before the beginning of",
                                         "has a lower revision than"};

struct edge {
    int to, next; /* next: of the same node; NOWHERE */
    enum edge_kind kind;
};

static struct {
    struct txn *txns;
    int n, cap;
    struct version *versions; /* by value */
    int n_versions;
    struct order orders[KEYS_MAX];
    int keys;                 /* above all that are used */
    struct edge *edges;
    int n_edges, cap_edges;
    int *first;               /* edge of each node */
    int nodes, cap_nodes;     /* transactions, then instants and revisions */
} h;

static void *grow(void *p, size_t n, size_t size)
{
    p = realloc(p, (n ? n : 1) * size);
    if (!p)
        exit(STATUS_UNREADABLE);
    return p;
}

static void __attribute__((format(printf, 2, 3))) wrong(const struct txn *t, const char *fmt, ...)
{
    va_list ap;

    printf("NOT strictly serializable: ");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("%s%s", t ? ":\n  " : "\n", t ? t->line : "");
    exit(STATUS_NO);
}

/* ---- Reading ------------------------------------------------------------------------------------------------------------------ */

static bool parse_values(char *text, struct item *it)
{
    char *end;

    if (it->kind == 'r' && !strcmp(text, "-"))
        return true;
    it->values = grow(NULL, strlen(text) / 2 + 1, sizeof *it->values);
    for (;; text = end + 1) {
        it->values[it->n++] = strtol(text, &end, 10);
        if (end == text || (*end && (*end != ',' || it->kind != 'r')))
            return false;
        if (!*end)
            return true;
    }
}

static bool parse_item(char *word, struct txn *t)
{
    struct item *it = &t->items[t->n_items];
    char *value = strchr(word, '=');

    if (t->n_items == ITEMS_MAX || !value || !strchr("argps", word[0]))
        return false;
    t->n_items++;
    it->kind = word[0];
    it->key = atoi(word + 1);
    t->writes |= it->kind == 'a' || it->kind == 'p';
    if (it->key < 0 || it->key >= KEYS_MAX)
        return false;
    if (it->key >= h.keys)
        h.keys = it->key + 1;
    return parse_values(value + 1, it);
}

static bool parse(char *line, struct txn *t)
{
    int client, items = 0;
    char *rest, *word;

    *t = (struct txn){.line = strdup(line)};
    if (!t->line || sscanf(line, "%d %" SCNu64 " %" SCNu64 " %ld %n", &client, &t->start, &t->end, &t->rev, &items) < 4 || !items)
        return false;
    if (t->end && t->end < t->start)
        return false;
    for (rest = line + items; (word = strsep(&rest, " \n"));)
        if (*word && !parse_item(word, t))
            return false;
    t->happened = t->end != 0;
    return t->n_items > 0;
}

static void read_file(const char *name)
{
    FILE *f = fopen(name, "r");
    char *line = NULL;
    size_t size = 0;

    if (!f) {
        perror(name);
        exit(STATUS_UNREADABLE);
    }
    while (getline(&line, &size, f) > 0) {
        if (*line == '#')
            continue;
        if (h.n == h.cap)
            h.txns = grow(h.txns, (size_t)(h.cap = h.cap ? 2 * h.cap : 1024), sizeof *h.txns);
        if (!parse(line, &h.txns[h.n])) {
            fprintf(stderr, "txncheck: %s: cannot understand: %s\n", name, h.txns[h.n].line);
            exit(STATUS_UNREADABLE);
        }
        h.n++;
    }
    free(line);
    fclose(f);
}

/* ---- Versions ------------------------------------------------------------------------------------------------------------------ */

static const struct item *item_of(const struct txn *t, char kind, int key)
{
    for (int i = 0; i < t->n_items; i++)
        if (t->items[i].kind == kind && t->items[i].key == key)
            return &t->items[i];
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    const struct version *x = a, *y = b;

    return (x->value > y->value) - (x->value < y->value);
}

static void add_version(int txn, const struct item *it)
{
    const struct item *before = it->kind == 'p' ? item_of(&h.txns[txn], 'g', it->key) : NULL;
    struct order *o = &h.orders[it->key];

    if (it->values[0] == 0 || (it->kind == 'p' && !before) || (o->kind && o->kind != it->kind)) {
        fprintf(stderr, "txncheck: cannot judge: %s", h.txns[txn].line);
        exit(STATUS_UNREADABLE);
    }
    o->kind = it->kind;
    h.versions[h.n_versions++] = (struct version){it->values[0], before ? before->values[0] : 0, it->key, txn, NOWHERE};
}

static void collect_versions(void)
{
    h.versions = grow(NULL, (size_t)h.n * ITEMS_MAX, sizeof *h.versions);
    for (int i = 0; i < h.n; i++)
        for (int j = 0; j < h.txns[i].n_items; j++)
            if (h.txns[i].items[j].kind == 'a' || h.txns[i].items[j].kind == 'p')
                add_version(i, &h.txns[i].items[j]);
    qsort(h.versions, (size_t)h.n_versions, sizeof *h.versions, by_value);
    for (int i = 1; i < h.n_versions; i++)
        if (h.versions[i].value == h.versions[i - 1].value) {
            fprintf(stderr, "txncheck: %ld is written twice\n", h.versions[i].value);
            exit(STATUS_UNREADABLE);
        }
}

static struct version *version_of(long value)
{
    return h.n_versions ? bsearch(&(struct version){.value = value}, h.versions, (size_t)h.n_versions, sizeof *h.versions, by_value) : NULL;
}

/* True: that a transaction of unknown outcome has happened is new. */
static bool note_seen(const struct txn *t, const struct item *it, long value)
{
    struct version *v = version_of(value);
    bool news;

    if (!v || v->key != it->key)
        wrong(t, "%ld was read in %d, but nobody has committed it", value, it->key);
    news = !h.txns[v->txn].happened;
    h.txns[v->txn].happened = true;
    return news;
}

/* Which of those whose outcome is unknown have happened, since somebody has seen it; and nobody has seen what is not committed. */
static void find_happened(void)
{
    bool news = true;

    while (news) {
        news = false;
        for (int i = 0; i < h.n; i++)
            for (int j = 0; h.txns[i].happened && j < h.txns[i].n_items; j++) {
                const struct item *it = &h.txns[i].items[j];

                for (int k = 0; (it->kind == 'r' || it->kind == 'g') && k < it->n; k++)
                    if (it->values[k] != 0 && note_seen(&h.txns[i], it, it->values[k]))
                        news = true;
            }
    }
}

static void place(struct order *o, int version)
{
    struct version *v = &h.versions[version];

    if (v->at != NOWHERE)
        wrong(o->longest_of, "%ld is there twice in %d", v->value, v->key);
    v->at = o->n;
    o->versions = grow(o->versions, (size_t)o->n + 1, sizeof *o->versions);
    o->versions[o->n++] = version;
}

/* A list's order is its longest read; all others must be beginnings of it. */
static void order_lists(void)
{
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < h.n; i++)
            for (int j = 0; h.txns[i].happened && j < h.txns[i].n_items; j++) {
                const struct item *it = &h.txns[i].items[j];
                struct order *o = &h.orders[it->key];

                if (it->kind != 'r')
                    continue;
                if (pass == 0 && (!o->longest || it->n > o->longest->n)) {
                    o->longest = it;
                    o->longest_of = &h.txns[i];
                } else if (pass == 1 && it->n && memcmp(it->values, o->longest->values, (size_t)it->n * sizeof *it->values)) {
                    printf("  %s", o->longest_of->line);
                    wrong(&h.txns[i], "two orders of list %d", it->key);
                }
            }
    for (int key = 0; key < h.keys; key++)
        for (int i = 0; h.orders[key].longest && i < h.orders[key].longest->n; i++)
            place(&h.orders[key], (int)(version_of(h.orders[key].longest->values[i]) - h.versions));
}

static int by_before(const void *a, const void *b)
{
    const struct version *x = &h.versions[*(const int *)a], *y = &h.versions[*(const int *)b];

    if (x->key != y->key)
        return x->key - y->key;
    return (x->before > y->before) - (x->before < y->before);
}

/* A file's order: everybody who overwrites it tells what was there before. `chain` is sorted by that. */
static void order_file(int key, const int *chain, int n)
{
    struct order *o = &h.orders[key];
    long value = 0;
    int i;

    for (i = 1; i < n; i++)
        if (h.versions[chain[i]].before == h.versions[chain[i - 1]].before) {
            printf("  %s", h.txns[h.versions[chain[i]].txn].line);
            wrong(&h.txns[h.versions[chain[i - 1]].txn], "a lost update: two have overwritten %ld in %d", h.versions[chain[i]].before, key);
        }
    while (o->n < n) {
        for (i = 0; i < n && h.versions[chain[i]].before != value; i++)
            ;
        if (i == n)
            wrong(NULL, "a file, %d, in which not all comes from the beginning", key);
        place(o, chain[i]);
        value = h.versions[chain[i]].value;
    }
}

static void order_files(void)
{
    int *chain = grow(NULL, (size_t)h.n_versions, sizeof *chain), n = 0, end;

    for (int i = 0; i < h.n_versions; i++)
        if (h.orders[h.versions[i].key].kind == 'p' && h.txns[h.versions[i].txn].happened)
            chain[n++] = i;
    qsort(chain, (size_t)n, sizeof *chain, by_before);
    for (int i = 0; i < n; i = end) {
        for (end = i; end < n && h.versions[chain[end]].key == h.versions[chain[i]].key; end++)
            ;
        order_file(h.versions[chain[i]].key, chain + i, end - i);
    }
    free(chain);
}

/* ---- Edges --------------------------------------------------------------------------------------------------------------------- */

static int new_node(void)
{
    if (h.nodes == h.cap_nodes)
        h.first = grow(h.first, (size_t)(h.cap_nodes = 2 * h.cap_nodes + 1024), sizeof *h.first);
    h.first[h.nodes] = NOWHERE;
    return h.nodes++;
}

static void edge(int from, int to, enum edge_kind kind)
{
    if (from == to)
        return;
    if (h.n_edges == h.cap_edges)
        h.edges = grow(h.edges, (size_t)(h.cap_edges = 2 * h.cap_edges + 1024), sizeof *h.edges);
    h.edges[h.n_edges] = (struct edge){to, h.first[from], kind};
    h.first[from] = h.n_edges++;
}

static int maker(const struct order *o, int at)
{
    return h.versions[o->versions[at]].txn;
}

/* From who is at the end of all that was seen of a list, to those who have written there and were never seen. */
static void edges_to_unseen(int from, int key, enum edge_kind kind)
{
    for (int i = 0; i < h.n_versions; i++)
        if (h.versions[i].key == key && h.versions[i].at == NOWHERE && h.txns[h.versions[i].txn].happened)
            edge(from, h.versions[i].txn, kind);
}

static void edges_of_read(int txn, const struct item *it)
{
    const struct order *o = &h.orders[it->key];
    int seen = it->kind == 'r' ? it->n : it->values[0] ? version_of(it->values[0])->at + 1 : 0;

    if (seen > 0)
        edge(maker(o, seen - 1), txn, SEEN_BY);
    if (seen < o->n)
        edge(txn, maker(o, seen), NOT_SEEN);
    else
        edges_to_unseen(txn, it->key, NOT_SEEN);
}

static void edges_of_versions(void)
{
    for (int i = 0; i < h.n; i++)
        for (int j = 0; h.txns[i].happened && j < h.txns[i].n_items; j++)
            if (h.txns[i].items[j].kind == 'r' || h.txns[i].items[j].kind == 'g')
                edges_of_read(i, &h.txns[i].items[j]);
    for (int key = 0; key < h.keys; key++) {
        const struct order *o = &h.orders[key];

        for (int i = 1; i < o->n; i++)
            edge(maker(o, i - 1), maker(o, i), OVERWRITTEN_BY);
        if (o->n)
            edges_to_unseen(maker(o, o->n - 1), key, OVERWRITTEN_BY);
    }
}

static int by_end(const void *a, const void *b)
{
    const struct txn *x = &h.txns[*(const int *)a], *y = &h.txns[*(const int *)b];

    return (x->end > y->end) - (x->end < y->end);
}

/* Instants: one node for each end, in a row. Who began later comes behind it. */
static void edges_of_time(void)
{
    int *ends = grow(NULL, (size_t)h.n, sizeof *ends), n = 0, first = h.nodes;

    for (int i = 0; i < h.n; i++)
        if (h.txns[i].end)
            ends[n++] = i;
    qsort(ends, (size_t)n, sizeof *ends, by_end);
    for (int i = 0; i < n; i++) {
        edge(ends[i], new_node(), ENDED_BEFORE);
        if (i)
            edge(first + i - 1, first + i, ENDED_BEFORE);
    }
    for (int i = 0; i < h.n; i++) {
        int low = 0, high = n; /* how many ended before it began */

        while (low < high) {
            int middle = (low + high) / 2;

            if (h.txns[ends[middle]].end < h.txns[i].start)
                low = middle + 1;
            else
                high = middle;
        }
        if (low && h.txns[i].happened)
            edge(first + low - 1, i, ENDED_BEFORE);
    }
    free(ends);
}

static int by_rev(const void *a, const void *b)
{
    const struct txn *x = &h.txns[*(const int *)a], *y = &h.txns[*(const int *)b];

    if (x->rev != y->rev)
        return (x->rev > y->rev) - (x->rev < y->rev);
    return y->writes - x->writes;
}

/* Who made a revision comes behind all earlier ones and those who show them, and before those who show it. Two rows of nodes: `made` is
 * behind the makers of the revisions so far, `shown` behind those who show them. */
static void edges_of_revisions(void)
{
    int *order = grow(NULL, (size_t)h.n, sizeof *order), n = 0, made = new_node(), shown = new_node();

    for (int i = 0; i < h.n; i++)
        if (h.txns[i].rev && h.txns[i].happened)
            order[n++] = i;
    qsort(order, (size_t)n, sizeof *order, by_rev);
    for (int i = 0; i < n; i++) {
        int now = new_node();

        if (h.txns[order[i]].writes) {
            if (i + 1 < n && h.txns[order[i + 1]].writes && h.txns[order[i + 1]].rev == h.txns[order[i]].rev)
                wrong(&h.txns[order[i]], "two transactions are revision %ld", h.txns[order[i]].rev);
            edge(made, order[i], LOWER_REVISION);
            edge(shown, order[i], LOWER_REVISION);
            edge(order[i], now, LOWER_REVISION);
            edge(made, now, LOWER_REVISION);
            made = now;
        } else {
            edge(made, order[i], LOWER_REVISION);
            edge(order[i], now, LOWER_REVISION);
            edge(shown, now, LOWER_REVISION);
            shown = now;
        }
    }
    free(order);
}

/* ---- Cycles -------------------------------------------------------------------------------------------------------------------- */

/* Of one that leads from a node back to itself: the shortest. */
static void tell_cycle(int node)
{
    int *came = grow(NULL, (size_t)h.nodes, sizeof *came), *queue = grow(NULL, (size_t)h.nodes + 1, sizeof *queue), head = 0, tail = 0;
    int *by = grow(NULL, (size_t)h.nodes, sizeof *by), *path = grow(NULL, (size_t)h.nodes + 1, sizeof *path), n = 0, at;

    for (int i = 0; i < h.nodes; i++)
        came[i] = NOWHERE;
    queue[tail++] = node;
    while (head < tail && came[node] == NOWHERE) {
        int from = queue[head++];

        for (int e = h.first[from]; e != NOWHERE; e = h.edges[e].next)
            if (came[h.edges[e].to] == NOWHERE) {
                came[h.edges[e].to] = from;
                by[h.edges[e].to] = e;
                queue[tail++] = h.edges[e].to;
            }
    }
    at = node;
    do {
        path[n++] = at;
        at = came[at];
    } while (at != node);
    path[n++] = node;
    while (n-- > 0) {
        if (path[n] < h.n)
            printf("  %s", h.txns[path[n]].line);
        if (n > 0 && path[n] < h.n)
            printf("    %s\n", edge_words[h.edges[by[path[n - 1]]].kind]);
    }
    free(came), free(queue), free(by), free(path);
}

/* A node without an edge to it comes first; when none is left, what is left is a cycle, or leads to one. The one to tell: a transaction that
 * is still there when those that lead nowhere are taken away, too. */
static int node_on_cycle(void)
{
    int *in = calloc((size_t)h.nodes + 1, sizeof *in), *stack = grow(NULL, (size_t)h.nodes, sizeof *stack), n = 0, left = h.nodes, node = NOWHERE;

    if (!in)
        exit(STATUS_UNREADABLE);
    for (int e = 0; e < h.n_edges; e++)
        in[h.edges[e].to]++;
    for (int i = 0; i < h.nodes; i++)
        if (in[i] == 0)
            stack[n++] = i;
    while (n > 0) {
        int from = stack[--n];

        left--;
        for (int e = h.first[from]; e != NOWHERE; e = h.edges[e].next)
            if (--in[h.edges[e].to] == 0)
                stack[n++] = h.edges[e].to;
    }
    for (int i = 0; i < h.nodes && left > 0; i++)
        if (in[i] > 0 && (node == NOWHERE || i < node))
            node = i;
    free(in), free(stack);
    return node;
}

static bool leads_back(int node)
{
    bool *seen = calloc((size_t)h.nodes, sizeof *seen), back = false;
    int *stack = grow(NULL, (size_t)h.nodes + 1, sizeof *stack), n = 0;

    if (!seen)
        exit(STATUS_UNREADABLE);
    stack[n++] = node;
    while (n > 0 && !back)
        for (int e = h.first[stack[--n]]; e != NOWHERE && !back; e = h.edges[e].next) {
            back = h.edges[e].to == node;
            if (!seen[h.edges[e].to]) {
                seen[h.edges[e].to] = true;
                stack[n++] = h.edges[e].to;
            }
        }
    free(seen), free(stack);
    return back;
}

static void expect_no_cycle(const char *what)
{
    int node = node_on_cycle();

    if (node == NOWHERE)
        return;
    while (!leads_back(node)) /* every cycle has a transaction: instants and revisions alone are in order */
        node++;
    printf("each of these comes before the next one, and the last one is the first one:\n");
    tell_cycle(node);
    wrong(NULL, "a cycle of %s", what);
}

/* ---- All ----------------------------------------------------------------------------------------------------------------------- */

static void check_sums(void)
{
    const struct item **sums = calloc((size_t)h.keys + 1, sizeof *sums);

    for (int i = 0; sums && i < h.n; i++)
        for (int j = 0; h.txns[i].happened && j < h.txns[i].n_items; j++) {
            const struct item *it = &h.txns[i].items[j];

            if (it->kind == 's' && sums[it->key] && it->values[0] != sums[it->key]->values[0])
                wrong(&h.txns[i], "the sum of %d was %ld", it->key, sums[it->key]->values[0]);
            if (it->kind == 's')
                sums[it->key] = it;
        }
    free(sums);
}

static void tell(void)
{
    int writing = 0, unknown = 0, late = 0, revisions = 0;

    for (int i = 0; i < h.n; i++) {
        writing += h.txns[i].writes && h.txns[i].happened;
        unknown += !h.txns[i].end;
        late += !h.txns[i].end && h.txns[i].happened;
        revisions += h.txns[i].rev != 0;
    }
    printf("%d transactions, %d that wrote, %d with a revision, %d of unknown outcome, %d of them seen: strictly serializable\n", h.n, writing, revisions,
           unknown, late);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        read_file(argv[i]);
    if (h.n == 0) {
        fprintf(stderr, "txncheck: there is no history\n");
        return STATUS_UNREADABLE;
    }
    collect_versions();
    find_happened();
    check_sums();
    order_lists();
    order_files();
    for (int i = 0; i < h.n; i++)
        new_node();
    edges_of_versions();
    edges_of_time();
    expect_no_cycle("what was read, written, and when");
    edges_of_revisions();
    expect_no_cycle("what was read, written, and when, with the revisions");
    tell();
    return 0;
}
