/* Where settings come from: quorumfs.conf, the environment, the command line. */
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/opts_table.h"
#include "store/base/err.h"

extern char **environ;

enum {
    CONF_SIZE_MAX = 64 * 1024, /* a settings file that is longer is no settings file */
    CONF_LINE_MAX = 190,       /* the parser cuts lines at 200 bytes and takes the rest for a line of its own */
    ENV_NAME_SIZE = 64,
};
#define ENV_PREFIX "QUORUMFS_"

static int refuse(struct buf *why, const char *where, const char *name, const char *value, const char *allowed)
{
    buf_printf(why, "bad value \"%s\" for %s (%s): allowed is %s", value, name, where, allowed);
    return QE_INVAL;
}

static int apply_member(struct fs_options *o, const struct opts_row *row, const char *value, const char *where, struct buf *why)
{
    int err = row->set(o, value);

    if (err == QE_NOTBUILT)
        buf_printf(why, "%s = \"%s\" (%s): TLS is not built yet", row->name, value, where);
    else if (err == QE_INVAL)
        refuse(why, where, row->name, value, row->allowed);
    else if (err)
        buf_printf(why, "%s", qfs_strerror(err));
    else if (!strcmp(row->name, "id"))
        o->id_given = true;
    return err;
}

/* Keeps a cluster setting for the creation of the cluster, in its canonical form; a later one replaces an earlier one. */
static int apply_cluster(struct fs_options *o, const char *name, const char *value, const char *where, struct buf *why)
{
    struct buf canonical = {0}, reason = {0};
    struct opts_pair *grown, pair = {0};
    int err = store_setting_check(name, value, &canonical, &reason);

    if (err) {
        buf_printf(why, "%s (%s)", buf_cstr(&reason), where);
        goto out;
    }
    pair = (struct opts_pair){strdup(name), strdup(buf_cstr(&canonical)), strdup(where)};
    grown = realloc(o->cluster, (o->n_cluster + 1) * sizeof *grown);
    if (grown)
        o->cluster = grown;
    if (!grown || !pair.name || !pair.value || !pair.where) {
        buf_printf(why, "out of memory");
        err = QE_NOMEM;
        goto out;
    }
    for (size_t i = 0; i < o->n_cluster; i++)
        if (!strcmp(o->cluster[i].name, name)) {
            struct opts_pair old = o->cluster[i];

            o->cluster[i] = pair;
            pair = old;
            goto out;
        }
    o->cluster[o->n_cluster++] = pair;
    pair = (struct opts_pair){0};
out:
    free(pair.name);
    free(pair.value);
    free(pair.where);
    buf_fini(&canonical);
    buf_fini(&reason);
    return err;
}

struct conf_load { /* what the parser's callback needs */
    struct fs_options *o;
    const char *path;
    struct buf *why;
    int err;
};

static int conf_pair(void *data, const char *section, const char *name, const char *value)
{
    struct conf_load *l = data;
    const struct opts_row *row = opts__row(name);
    size_t n;
    const struct opts_row *rows = opts__rows(&n);

    if (l->err)
        return 1; /* the first sentence counts */
    (void)section; /* there are none: load_conf has looked */
    if (row) {
        l->err = apply_member(l->o, row, value, l->path, l->why);
    } else if (opts__cluster_row(name)) {
        buf_printf(l->why, "%s = %s in \"%s\" is a setting of the whole cluster: give it to init, or write it to .quorum/config/%s", name,
                   value, l->path, name);
        l->err = QE_INVAL;
    } else {
        buf_printf(l->why, "unknown setting \"%s\" = \"%s\" in \"%s\": allowed are ", name, value, l->path);
        for (size_t i = 0; i < n; i++)
            buf_printf(l->why, "%s%s", i ? ", " : "", rows[i].name);
        l->err = QE_INVAL;
    }
    return 1;
}

/* Appends the whole file. QE_NOENT when there is none. */
static int conf_read(const char *path, struct buf *text, struct buf *why)
{
    FILE *f = fopen(path, "re");
    int err = 0;
    size_t n;

    if (!f && (errno == ENOENT || errno == ENOTDIR))
        return QE_NOENT;
    if (!f)
        goto bad;
    if (buf_reserve(text, CONF_SIZE_MAX + 1)) {
        errno = ENOMEM;
        goto bad;
    }
    n = fread(text->data, 1, CONF_SIZE_MAX + 1, f);
    text->len = n;
    if (ferror(f))
        goto bad;
    if (n > CONF_SIZE_MAX || memchr(text->data, 0, n)) {
        buf_printf(why, "\"%s\" is no file of settings: only short lines of name = value are allowed", path);
        err = QE_INVAL;
    }
    fclose(f);
    return err;
bad:
    buf_printf(why, "cannot read \"%s\": %s", path, strerror(errno));
    if (f)
        fclose(f);
    return QE_IO;
}

static int load_conf(struct fs_options *o, struct buf *why)
{
    struct buf path = {0}, text = {0};
    struct conf_load l = {.o = o, .why = why};
    int err, line = 1;

    buf_printf(&path, "%s/quorumfs.conf", o->dir);
    l.path = buf_cstr(&path);
    err = conf_read(l.path, &text, why);
    if (err)
        goto out;
    for (const char *p = buf_cstr(&text); *p; line++) {
        size_t len = strcspn(p, "\n");

        if (len > CONF_LINE_MAX) {
            buf_printf(why, "line %d of \"%s\" is too long: %d bytes are allowed", line, l.path, CONF_LINE_MAX);
            err = QE_INVAL;
            goto out;
        }
        if (p[strspn(p, " \t")] == '[') {
            buf_printf(why, "line %d of \"%s\" begins a section: only lines of name = value are allowed", line, l.path);
            err = QE_INVAL;
            goto out;
        }
        p += len + (p[len] == '\n');
    }
    line = ini_parse_string(buf_cstr(&text), conf_pair, &l);
    err = l.err;
    if (!err && line) {
        buf_printf(why, "line %d of \"%s\" is not understood: only lines of name = value are allowed", line, l.path);
        err = QE_INVAL;
    }
out:
    buf_fini(&path);
    buf_fini(&text);
    return err == QE_NOENT ? 0 : err;
}

static void env_name(const char *name, char out[ENV_NAME_SIZE])
{
    size_t n = sizeof ENV_PREFIX - 1;

    memcpy(out, ENV_PREFIX, n);
    for (; *name && n < ENV_NAME_SIZE - 1; name++)
        out[n++] = *name == '-' ? '_' : (char)toupper((unsigned char)*name);
    out[n] = 0;
}

/* The row or cluster setting that an environment variable names. */
static const char *env_setting(const char *var, size_t len)
{
    char name[ENV_NAME_SIZE];
    size_t n_rows, n_defs;
    const struct opts_row *rows = opts__rows(&n_rows);
    const struct store_setting_def *defs = store_setting_defs(&n_defs);

    for (size_t i = 0; i < n_rows + n_defs; i++) {
        const char *setting = i < n_rows ? rows[i].name : defs[i - n_rows].name;

        env_name(setting, name);
        if (strlen(name) == len && !memcmp(name, var, len))
            return setting;
    }
    return NULL;
}

static int apply(struct fs_options *o, const char *name, const char *value, const char *where, struct buf *why)
{
    const struct opts_row *row = opts__row(name);

    return row ? apply_member(o, row, value, where, why) : apply_cluster(o, name, value, where, why);
}

static int load_env(struct fs_options *o, struct buf *why)
{
    for (char **e = environ; *e; e++) {
        const char *eq = strchr(*e, '=');
        const char *name;
        char where[ENV_NAME_SIZE + 16];
        int err;

        if (!eq || strncmp(*e, ENV_PREFIX, sizeof ENV_PREFIX - 1))
            continue;
#ifdef QFS_FAILPOINTS
        if (!strncmp(*e, ENV_PREFIX "FAILPOINTS=", sizeof ENV_PREFIX "FAILPOINTS=" - 1) ||
            !strncmp(*e, ENV_PREFIX "TEST_", sizeof ENV_PREFIX "TEST_" - 1))
            continue;
#endif
        name = env_setting(*e, (size_t)(eq - *e));
        if (!name) {
            buf_printf(why, "unknown setting \"%.*s\" = \"%s\" in the environment: allowed are, after " ENV_PREFIX ", ", (int)(eq - *e), *e,
                       eq + 1);
            opts_list_names(why);
            return QE_INVAL;
        }
        snprintf(where, sizeof where, "environment %.*s", (int)(eq - *e), *e);
        err = apply(o, name, eq + 1, where, why);
        if (err)
            return err;
    }
    return 0;
}

static const char *value_of(const struct fs_options *o, const char *name)
{
    for (size_t i = 0; i < o->n_cluster; i++)
        if (!strcmp(o->cluster[i].name, name))
            return o->cluster[i].value;
    return opts__cluster_row(name)->initial;
}

int opts_load(struct fs_options *o, struct buf *why)
{
    size_t n;
    const struct opts_row *rows = opts__rows(&n);
    int err;

    for (size_t i = 0; i < n; i++) {
        err = rows[i].set(o, rows[i].initial);
        if (err) {
            buf_printf(why, "%s", qfs_strerror(err));
            return OPTS_EXIT_FAILED;
        }
    }
    o->id_given = false;
    err = load_conf(o, why);
    if (err)
        return OPTS_EXIT_FAILED;
    err = load_env(o, why);
    for (size_t i = 0; !err && i < o->n_given; i++)
        err = apply(o, o->given[i].name, o->given[i].value, o->given[i].where, why);
    if (!err)
        err = store_setting_agree(value_of(o, "heartbeat"), value_of(o, "election-timeout"), why);
    if (err)
        return err == QE_INVAL || err == QE_NOENT ? OPTS_EXIT_USAGE : OPTS_EXIT_FAILED;
    return 0;
}
