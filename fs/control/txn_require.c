/* Requirements of a transaction, a line each:
 *
 *     version|create_revision|mod_revision PATH =|!=|<|> N
 *     exists PATH            absent PATH            content PATH = "TEXT"
 *     lease PATH = NAME      it is attached to the lease of that name
 *     lock NAME = TOKEN      the lock of locks/ is held with that token
 *
 * A PATH is from the root, without quotes, up to a blank; what has blanks in it, or a quote at its begin, is written "in quotes". In quotes
 * \\ stands for a backslash, \" for a quote, \n and \t for a newline and a tab, \xHH for any byte. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/control/txn.h"

struct line {
    const char *p;     /* what is left */
    struct buf *why;
};

static int bad(struct line *l, const char *what)
{
    buf_printf(l->why, "%s at \"%.40s\"", what, l->p);
    return QE_INVAL;
}

static void skip_blanks(struct line *l)
{
    while (*l->p == ' ' || *l->p == '\t')
        l->p++;
}

static int hex(const char *p)
{
    char digits[3] = {p[0], p[0] ? p[1] : 0, 0};

    return isxdigit((unsigned char)digits[0]) && isxdigit((unsigned char)digits[1]) ? (int)strtol(digits, NULL, 16) : -1;
}

/* Appends what stands in quotes. */
static int take_quoted(struct line *l, struct buf *out)
{
    static const char from[] = "\\\"nt", to[] = "\\\"\n\t";
    int err = 0;

    for (l->p++; !err && *l->p && *l->p != '"'; l->p++) {
        char c = *l->p;

        if (c == '\\' && l->p[1] == 'x' && hex(l->p + 2) >= 0) {
            c = (char)hex(l->p + 2);
            l->p += 3;
        } else if (c == '\\') {
            const char *at = l->p[1] ? strchr(from, l->p[1]) : NULL;

            if (!at)
                return bad(l, "an escape that there is not");
            c = to[at - from];
            l->p++;
        }
        err = buf_append(out, &c, 1);
    }
    if (err)
        return err;
    if (*l->p != '"')
        return bad(l, "a quote that does not end");
    l->p++;
    return 0;
}

/* A word, quoted or not; where it lies in `out`. */
static int take_word(struct line *l, struct buf *out, size_t *at, size_t *len)
{
    int err = 0;

    skip_blanks(l);
    *at = out->len;
    if (*l->p == '"') {
        err = take_quoted(l, out);
    } else {
        size_t n = strcspn(l->p, " \t");

        if (n == 0)
            return bad(l, "a word is missing");
        err = buf_append(out, l->p, n);
        l->p += n;
    }
    *len = out->len - *at;
    if (!err && *l->p && *l->p != ' ' && *l->p != '\t')
        return bad(l, "more than a word");
    return err;
}

static int take_compare(struct line *l, enum store_compare *out)
{
    skip_blanks(l);
    if (l->p[0] == '!' && l->p[1] == '=') {
        *out = STORE_NE;
        l->p += 2;
        return 0;
    }
    if (!*l->p || !strchr("=<>", *l->p))
        return bad(l, "one of = != < > is missing");
    *out = *l->p == '=' ? STORE_EQ : *l->p == '<' ? STORE_LT : STORE_GT;
    l->p++;
    return 0;
}

static int take_number(struct line *l, int64_t *out)
{
    char *end;

    skip_blanks(l);
    errno = 0;
    *out = isdigit((unsigned char)*l->p) ? strtoll(l->p, &end, 10) : 0;
    if (!isdigit((unsigned char)*l->p) || errno || (*end && *end != ' ' && *end != '\t'))
        return bad(l, "a number is missing");
    l->p = end;
    return 0;
}

static int take_end(struct line *l)
{
    skip_blanks(l);
    return *l->p ? bad(l, "something after the end") : 0;
}

/* The kind of a requirement; 0: there is none of that name. */
static int kind_of(const char *word, size_t len)
{
    static const struct { const char *word; int kind; } kinds[] = {
        {"version", STORE_IF_VERSION}, {"create_revision", STORE_IF_CREATE_REV}, {"mod_revision", STORE_IF_MOD_REV}, {"exists", STORE_IF_EXISTS},
        {"absent", STORE_IF_ABSENT}, {"content", STORE_IF_CONTENT}, {"lease", STORE_IF_LEASE}, {"lock", STORE_IF_LOCK}};

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strlen(kinds[i].word) == len && !memcmp(word, kinds[i].word, len))
            return kinds[i].kind;
    return 0;
}

/* Nobody may find out by transactions what they could not look at: the way must be searchable, and what is compared readable. */
static int check_access(struct txn *t, int64_t rev, const struct perm *who, const char *path, size_t len, bool content)
{
    struct store_attr a;
    int err = store_getattr(t->fs->reader, rev, STORE_ROOT_INO, &a);

    for (const char *p = path, *end = path + len; !err && p < end;) {
        const char *slash = memchr(p, '/', (size_t)(end - p)), *stop = slash ? slash : end;

        if (stop > p && store_ino_kind(a.ino) != STORE_DIR)
            return 0; /* it leads nowhere */
        if (stop > p && !perm_allows(who, a.mode, a.uid, a.gid, PERM_SEARCH))
            return QE_ACCES;
        if (stop > p)
            err = store_lookup(t->fs->reader, rev, a.ino, p, (size_t)(stop - p), &a);
        p = slash ? slash + 1 : end;
    }
    if (err == QE_NOENT)
        return 0;
    return err || !content || perm_allows(who, a.mode, a.uid, a.gid, PERM_READ) ? err : QE_ACCES;
}

/* Whether a content or a lease is compared, which tells of it. */
static bool compares_content(const struct store_condition *c)
{
    return c->kind == STORE_IF_CONTENT || c->kind == STORE_IF_LEASE;
}

int txn_require_allowed(struct txn *t, const struct perm *who)
{
    const struct store_condition *c = (const struct store_condition *)(const void *)t->conditions.data;
    int err = 0;

    for (size_t i = 0; !err && i < t->conditions.len / sizeof *c; i++)
        if (c[i].kind != STORE_IF_LOCK)
            err = check_access(t, STORE_HEAD, who, (const char *)t->require_bytes.data + (uintptr_t)c[i].name.data, c[i].name.len,
                               compares_content(&c[i]));
    return err;
}

/* Only = makes sense of what has no order. */
static int take_equals(struct line *l, struct store_condition *c)
{
    int err = take_compare(l, &c->compare);

    return !err && c->compare != STORE_EQ ? bad(l, "only = is allowed before") : err;
}

/* After the path: what it is compared with. */
static int take_rest(struct line *l, struct buf *bytes, struct store_condition *c)
{
    size_t at, len;
    int err = 0;

    if (c->kind == STORE_IF_VERSION || c->kind == STORE_IF_CREATE_REV || c->kind == STORE_IF_MOD_REV) {
        err = take_compare(l, &c->compare);
        if (!err)
            err = take_number(l, &c->number);
    } else if (c->kind == STORE_IF_LOCK) {
        err = take_equals(l, c);
        if (!err)
            err = take_number(l, &c->number);
    } else if (c->kind == STORE_IF_CONTENT) {
        err = take_equals(l, c);
        skip_blanks(l);
        if (!err && *l->p != '"')
            return bad(l, "a text in quotes is missing");
        if (!err)
            err = take_word(l, bytes, &at, &len);
        if (!err)
            c->bytes = (struct store_bytes){(const void *)(uintptr_t)at, len};
    }
    if (c->kind == STORE_IF_LEASE) {
        err = take_compare(l, &c->compare);
        if (!err && c->compare != STORE_EQ)
            return bad(l, "only = is allowed before");
        if (!err)
            err = take_word(l, bytes, &at, &len);
        if (!err && !store_lease_name_ok((const char *)bytes->data + at, len))
            return bad(l, "no name of a lease before");
        if (!err)
            c->bytes = (struct store_bytes){(const void *)(uintptr_t)at, len};
    }
    return err ? err : take_end(l);
}

/* The word behind the kind: a path that the writer may look at, or the name of a lock, which everybody may. */
static int check_name(struct txn *t, const struct perm *who, struct line *l, const struct store_condition *c, const char *name, size_t len)
{
    int err;

    if (memchr(name, 0, len))
        return bad(l, "a path with a NUL");
    if (c->kind == STORE_IF_LOCK)
        return store_lock_name_ok(name, len) ? 0 : bad(l, "a name that no lock has");
    err = check_access(t, t->rev, who, name, len, compares_content(c));
    if (err == QE_ACCES)
        buf_printf(l->why, "the path cannot be looked at");
    return err;
}

static int take_line(struct txn *t, const struct perm *who, struct line *l, struct store_condition *c)
{
    size_t word_len, at, len;
    int kind, err;

    skip_blanks(l);
    word_len = strcspn(l->p, " \t");
    kind = kind_of(l->p, word_len);
    if (kind == 0)
        return bad(l, "no requirement");
    l->p += word_len;
    c->kind = (enum store_condition_kind)kind;
    err = take_word(l, &t->require_bytes, &at, &len);
    if (err)
        return err;
    c->name = (struct store_bytes){(const void *)(uintptr_t)at, len};
    err = take_rest(l, &t->require_bytes, c);
    return err ? err : check_name(t, who, l, c, (const char *)t->require_bytes.data + at, len);
}

int txn_require(struct txn *t, const struct perm *who, const char *line, struct buf *why)
{
    const struct { size_t text, bytes, conditions, lines; } before = {t->require.len, t->require_bytes.len, t->conditions.len, t->require_lines.len};
    struct store_condition c = {0};
    struct line l = {line, why};
    int err;

    if (t->require.len + strlen(line) > TXN_REQUIRE_BYTES_MAX || t->conditions.len / sizeof c >= TXN_READS_MAX) {
        buf_printf(why, "too many requirements");
        return QE_2BIG;
    }
    err = take_line(t, who, &l, &c);
    if (!err)
        err = buf_append(&t->conditions, &c, sizeof c);
    if (!err)
        err = buf_append(&t->require_lines, &before.text, sizeof before.text);
    if (!err)
        err = buf_printf(&t->require, "%s\n", line);
    if (err) {
        t->require.len = before.text;
        t->require_bytes.len = before.bytes;
        t->conditions.len = before.conditions;
        t->require_lines.len = before.lines;
    }
    return err;
}
