/* Cluster settings: what there is, what is allowed, and the rows that hold them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

enum kind { SIZE, DURATION, MILLISECONDS, RETAIN };
#define KIB INT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define MS INT64_C(1000000)
#define SEC (MS * 1000)

static const struct store_setting_def defs[] = {
    {"quota", "2G", "a size from 1M, like 512M or 2G"},
    {"max-value", "1M", "a size from 4K to 16M, like 512K or 1M"},
    {"session-ttl", "10s", "a duration from 1s to 1h, like 10s"},
    {"retain", "revisions:100000,bytes:2G", "one or more of revisions:N, bytes:SIZE and time:DURATION (in ms, s, m or h), separated by commas, like revisions:1000,time:24h"},
    {"heartbeat", "100ms", "a duration from 10ms to 10s, like 100ms"},
    {"election-timeout", "1000ms", "a duration from 100ms to 60s, like 1000ms"},
};
enum { N_DEFS = sizeof defs / sizeof defs[0] };

static const struct rule { /* beside each of defs */
    enum kind kind;
    int64_t min, max; /* bytes or ns */
} rules[N_DEFS] = {
    {SIZE, MIB, MIB * MIB}, {SIZE, 4 * KIB, STORE_MAX_VALUE_CAP}, {DURATION, SEC, 3600 * SEC}, {RETAIN, 1, 0},
    {MILLISECONDS, 10 * MS, 10 * SEC}, {MILLISECONDS, 100 * MS, 60 * SEC},
};

struct unit {
    const char *suffix;
    int64_t scale;
};
static const struct unit sizes[] = {{"G", GIB}, {"M", MIB}, {"K", KIB}, {"", 1}, {NULL, 0}};
static const struct unit durations[] = {{"h", 3600 * SEC}, {"m", 60 * SEC}, {"s", SEC}, {"ms", MS}, {NULL, 0}};

/* ---- Numbers with a unit ------------------------------------------------------------------------------------------------- */

/* The whole of text[0..len) must be digits and a unit. */
static bool parse_number(const char *text, size_t len, const struct unit *units, int64_t *out)
{
    int64_t v = 0;
    size_t i = 0;

    for (; i < len && text[i] >= '0' && text[i] <= '9'; i++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, text[i] - '0', &v))
            return false;
    if (i == 0)
        return false;
    for (; units->suffix; units++)
        if (strlen(units->suffix) == len - i && !memcmp(text + i, units->suffix, len - i))
            return !__builtin_mul_overflow(v, units->scale, out);
    return false;
}

static int print_number(struct buf *out, int64_t v, const struct unit *units)
{
    while (units->scale > 1 && v % units->scale && units[1].suffix)
        units++;
    return buf_printf(out, "%" PRId64 "%s", v / units->scale, units->suffix);
}

int64_t setting_size(const char *text)
{
    int64_t v = 0;

    return parse_number(text, strlen(text), sizes, &v) ? v : 0;
}

/* ---- retain -------------------------------------------------------------------------------------------------------------- */

static bool retain_term(const char *term, size_t len, struct retain *out)
{
    static const struct unit plain[] = {{"", 1}, {NULL, 0}};
    const struct { const char *key; const struct unit *units; int64_t *at; } keys[] = {
        {"revisions:", plain, &out->revisions}, {"bytes:", sizes, &out->bytes}, {"time:", durations, &out->time_ns}};

    for (int i = 0; i < 3; i++) {
        size_t k = strlen(keys[i].key);

        if (len > k && !memcmp(term, keys[i].key, k))
            return *keys[i].at == 0 && parse_number(term + k, len - k, keys[i].units, keys[i].at) && *keys[i].at > 0;
    }
    return false;
}

int retain_parse(const char *text, struct retain *out)
{
    *out = (struct retain){0};
    for (;;) {
        size_t len = strcspn(text, ",");

        if (!retain_term(text, len, out))
            return QE_INVAL;
        if (text[len] == 0)
            return 0;
        text += len + 1;
    }
}

static int retain_print(const struct retain *r, struct buf *out)
{
    int err = 0;

    if (r->revisions)
        err = buf_printf(out, "revisions:%" PRId64, r->revisions);
    if (!err && r->bytes) {
        err = buf_printf(out, "%sbytes:", r->revisions ? "," : "");
        if (!err)
            err = print_number(out, r->bytes, sizes);
    }
    if (!err && r->time_ns) {
        err = buf_printf(out, "%stime:", r->revisions || r->bytes ? "," : "");
        if (!err)
            err = print_number(out, r->time_ns, durations);
    }
    return err;
}

/* ---- Checking ------------------------------------------------------------------------------------------------------------ */

const struct store_setting_def *store_setting_defs(size_t *n)
{
    *n = N_DEFS;
    return defs;
}

static int canonical_value(const struct rule *rule, const char *value, struct buf *out)
{
    const struct unit *units = rule->kind == SIZE ? sizes : durations;
    struct retain retain;
    int64_t v;

    if (rule->kind == RETAIN)
        return retain_parse(value, &retain) ? QE_INVAL : retain_print(&retain, out);
    if (!parse_number(value, strlen(value), units, &v) || v < rule->min || v > rule->max)
        return QE_INVAL;
    return print_number(out, v, rule->kind == MILLISECONDS ? &durations[3] : units);
}

int store_setting_check(const char *name, const char *value, struct buf *canonical, struct buf *why)
{
    struct buf text = {0};
    int err = QE_NOENT;

    for (size_t i = 0; i < N_DEFS; i++) {
        if (strcmp(defs[i].name, name))
            continue;
        err = canonical_value(&rules[i], value, &text);
        if (err == QE_INVAL)
            why_set(why, err, "%s = \"%.100s\" is refused: allowed is %s", name, value, defs[i].allowed);
    }
    if (err == QE_NOENT)
        why_set(why, err, "there is no setting \"%.100s\" (value \"%.100s\"): allowed are quota, max-value, session-ttl, retain, heartbeat and "
                          "election-timeout", name, value);
    if (!err && canonical) {
        buf_clear(canonical);
        err = buf_append(canonical, text.data, text.len);
    }
    buf_fini(&text);
    return err;
}

int store_setting_agree(const char *heartbeat, const char *election_timeout, struct buf *why)
{
    int64_t beat, timeout;

    if (!parse_number(heartbeat, strlen(heartbeat), durations, &beat) || !parse_number(election_timeout, strlen(election_timeout), durations, &timeout))
        return QE_INVAL;
    if (beat < timeout)
        return 0;
    why_set(why, QE_INVAL, "heartbeat = \"%.100s\" with election-timeout = \"%.100s\" is refused: allowed is a heartbeat below the election-timeout, best a tenth of it",
            heartbeat, election_timeout);
    return QE_INVAL;
}

/* ---- Rows ---------------------------------------------------------------------------------------------------------------- */

int setting_get(struct conn *c, const char *name, struct buf *out)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_SETTING_GET);
    struct store_bytes v;
    bool found;
    int err;

    bind_t(q, 1, name);
    err = conn_row(c, q, &found);
    if (err || !found)
        return err ? err : QE_NOENT;
    v = col_b(q, 0);
    err = buf_append(out, v.data, v.len);
    conn_reset(q);
    return err;
}

static int put(struct conn *c, const char *name, const char *value)
{
    sqlite3_stmt *q = conn_stmt(c, STMT_SETTING_SET);

    bind_t(q, 1, name);
    bind_t(q, 2, value);
    return conn_run(c, q);
}

static int load_number(struct store *s, const char *name, const struct unit *units, int64_t *out)
{
    struct buf text = {0};
    int err = setting_get(&s->conn, name, &text);

    if (!err)
        err = parse_number(buf_cstr(&text), text.len, units, out) ? 0 : QE_CORRUPT;
    buf_fini(&text);
    return err == QE_NOENT ? QE_CORRUPT : err;
}

int settings_load(struct store *s)
{
    int err = load_number(s, "quota", sizes, &s->st.quota);

    if (!err)
        err = load_number(s, "max-value", sizes, &s->st.max_value);
    return err ? err : load_number(s, "session-ttl", durations, &s->st.session_ttl_ns);
}

/* The canonical value that setting i begins with. */
static int initial_value(const struct store_initial *initial, size_t i, struct buf *value)
{
    int err = buf_printf(value, "%s", defs[i].initial);

    for (size_t k = 0; k < initial->n_settings && !err; k++)
        if (!strcmp(initial->settings[k][0], defs[i].name))
            err = store_setting_check(defs[i].name, initial->settings[k][1], value, NULL);
    return err;
}

int settings_initial(struct conn *c, const struct store_initial *initial, uint64_t *hash)
{
    int err = 0;

    for (size_t i = 0; i < initial->n_settings && !err; i++)
        err = store_setting_check(initial->settings[i][0], initial->settings[i][1], NULL, NULL);
    for (size_t i = 0; i < N_DEFS && !err; i++) {
        struct buf value = {0};

        err = initial_value(initial, i, &value);
        if (!err)
            err = put(c, defs[i].name, buf_cstr(&value));
        *hash += hash_setting(defs[i].name, buf_cstr(&value));
        buf_fini(&value);
    }
    return err;
}

int settings_describe(const struct store_initial *initial, struct buf *out)
{
    int err = 0;

    for (size_t i = 0; i < N_DEFS && !err; i++) {
        struct buf value = {0};

        err = initial_value(initial, i, &value);
        if (!err)
            err = buf_printf(out, "%s = %s\n", defs[i].name, buf_cstr(&value));
        buf_fini(&value);
    }
    return err;
}

int settings_override(struct conn *c, const struct store_initial *initial)
{
    struct buf value = {0};
    int err = 0;

    for (size_t i = 0; i < initial->n_settings && !err; i++) {
        err = store_setting_check(initial->settings[i][0], initial->settings[i][1], &value, NULL);
        if (!err)
            err = put(c, initial->settings[i][0], buf_cstr(&value));
    }
    buf_fini(&value);
    return err;
}

/* ---- Operation ----------------------------------------------------------------------------------------------------------- */

static int change(struct store *s, struct txn *t, const char *name, const char *value, struct buf *next)
{
    struct buf now = {0};
    int err = store_setting_check(name, value, next, NULL);

    if (!err)
        err = setting_get(&s->conn, name, &now);
    if (!err && strcmp(buf_cstr(&now), buf_cstr(next))) {
        err = put(&s->conn, name, buf_cstr(next));
        s->st.hash += hash_setting(name, buf_cstr(next)) - hash_setting(name, buf_cstr(&now));
        t->takes_rev = true;
    }
    buf_fini(&now);
    return err ? err : settings_load(s);
}

int op_setting(struct store *s, struct txn *t, const struct store_op *op, uint64_t *ino)
{
    struct buf name = {0}, value = {0}, next = {0};
    int err = op->name.len > 100 || op->bytes.len > 1000 ? QE_INVAL : 0;

    (void)ino;
    if (!err && (memchr(op->name.data ? op->name.data : "", 0, op->name.len) || memchr(op->bytes.data ? op->bytes.data : "", 0, op->bytes.len)))
        err = QE_INVAL;
    if (!err)
        err = buf_append(&name, op->name.data, op->name.len);
    if (!err)
        err = buf_append(&value, op->bytes.data, op->bytes.len);
    if (!err)
        err = change(s, t, buf_cstr(&name), buf_cstr(&value), &next);
    buf_fini(&name);
    buf_fini(&value);
    buf_fini(&next);
    return err;
}
