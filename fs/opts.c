#include "fs/opts_table.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/err.h"
#include "store/base/log.h"

enum {
    TIMEOUT_MIN_MS = 100,
    TIMEOUT_MAX_MS = 600 * 1000,
};
#define QUOTA_LARGE (8ULL << 30)

/* ---- The table ------------------------------------------------------------------------------------------------------------- */

static int set_id(struct fs_options *o, const char *value)
{
    char *end;
    unsigned long n;

    errno = 0;
    n = strtoul(value, &end, 10);
    if (!isdigit((unsigned char)*value) || *end || errno || n < 1 || n > INT32_MAX)
        return QE_INVAL;
    o->id = (uint32_t)n;
    return 0;
}

static int show_id(const struct fs_options *o, struct buf *out)
{
    return buf_printf(out, "%u", o->id);
}

static int set_address(char **out, const char *value)
{
    char *copy;

    if (*value && !store_address_ok(value))
        return QE_INVAL;
    copy = strdup(value);
    if (!copy)
        return QE_NOMEM;
    free(*out);
    *out = copy;
    return 0;
}

static int set_listen(struct fs_options *o, const char *value)
{
    return set_address(&o->listen, value);
}

static int set_advertise(struct fs_options *o, const char *value)
{
    return set_address(&o->advertise, value);
}

static int show_advertise(const struct fs_options *o, struct buf *out)
{
    return buf_printf(out, "%s", o->advertise);
}

static int show_listen(const struct fs_options *o, struct buf *out)
{
    return buf_printf(out, "%s", o->listen);
}

static int set_timeout(struct fs_options *o, const char *value)
{
    static const struct { const char *name; long ms; } units[] = {{"", 1000}, {"s", 1000}, {"ms", 1}, {"m", 60 * 1000}};
    char *end;
    long n;

    errno = 0;
    n = strtol(value, &end, 10);
    if (!isdigit((unsigned char)*value) || errno || n > TIMEOUT_MAX_MS)
        return QE_INVAL;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (!strcmp(end, units[i].name)) {
            n *= units[i].ms;
            if (n < TIMEOUT_MIN_MS || n > TIMEOUT_MAX_MS)
                return QE_INVAL;
            o->timeout_ms = (int)n;
            return 0;
        }
    return QE_INVAL;
}

static int show_timeout(const struct fs_options *o, struct buf *out)
{
    if (o->timeout_ms % 1000)
        return buf_printf(out, "%dms", o->timeout_ms);
    if (o->timeout_ms % 60000 == 0)
        return buf_printf(out, "%dm", o->timeout_ms / 60000);
    return buf_printf(out, "%ds", o->timeout_ms / 1000);
}

static int set_choice(const char *value, const char *no, const char *yes, bool *out)
{
    if (strcmp(value, no) && strcmp(value, yes))
        return QE_INVAL;
    *out = !strcmp(value, yes);
    return 0;
}

static int set_reads(struct fs_options *o, const char *value)
{
    return set_choice(value, "linearizable", "local", &o->reads_local);
}

static int show_reads(const struct fs_options *o, struct buf *out)
{
    return buf_printf(out, "%s", o->reads_local ? "local" : "linearizable");
}

static int set_insecure(struct fs_options *o, const char *value)
{
    return set_choice(value, "no", "yes", &o->insecure);
}

static int show_insecure(const struct fs_options *o, struct buf *out)
{
    return buf_printf(out, "%s", o->insecure ? "yes" : "no");
}

static int set_later(struct fs_options *o, const char *value)
{
    (void)o;
    return *value ? QE_NOTBUILT : 0;
}

static const struct opts_row rows[] = {
    {"id", "1", "a number from 1 to 2147483647", "the number of this member; fixed when DIR is made", set_id, show_id},
    {"listen", "", "HOST:PORT, or nothing for no network", "where this member waits for the others", set_listen, show_listen},
    {"advertise", "", "HOST:PORT, or nothing for what it listens on", "where the others reach this member", set_advertise, show_advertise},
    {"timeout", "5s", "a time from 100ms to 10m, like 5s or 500ms; a plain number counts seconds",
     "how long a request waits for the cluster", set_timeout, show_timeout},
    {"reads", "linearizable", "linearizable or local", "whether a read asks the cluster for the newest state", set_reads, show_reads},
    {"insecure", "no", "yes or no", "allow a listen address other than loopback without TLS", set_insecure, show_insecure},
    {"tls-ca", "", "a file", "certificates of the authorities of the members (not built yet)", set_later, NULL},
    {"tls-cert", "", "a file", "certificate of this member (not built yet)", set_later, NULL},
    {"tls-key", "", "a file", "key of this member (not built yet)", set_later, NULL},
};
enum { N_ROWS = sizeof rows / sizeof *rows };

const struct opts_row *opts__rows(size_t *n)
{
    *n = N_ROWS;
    return rows;
}

const struct opts_row *opts__row(const char *name)
{
    for (size_t i = 0; i < N_ROWS; i++)
        if (!strcmp(rows[i].name, name))
            return &rows[i];
    return NULL;
}

const struct store_setting_def *opts__cluster_row(const char *name)
{
    size_t n;
    const struct store_setting_def *defs = store_setting_defs(&n);

    for (size_t i = 0; i < n; i++)
        if (!strcmp(defs[i].name, name))
            return &defs[i];
    return NULL;
}

bool opts_is_cluster(const char *name)
{
    return opts__cluster_row(name) != NULL;
}

bool opts_quota_is_large(const char *name, const char *value)
{
    static const struct { char unit; unsigned long long scale; } units[] = {{'K', 1 << 10}, {'M', 1 << 20}, {'G', 1 << 30}, {0, 1}};
    char *end;
    unsigned long long n = strtoull(value, &end, 10);

    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (*end == units[i].unit)
            return !strcmp(name, "quota") && n > QUOTA_LARGE / units[i].scale;
    return false;
}

int fs_options_show(const struct fs_options *o, const char *name, struct buf *out)
{
    const struct opts_row *row = opts__row(name);

    return row && row->show ? row->show(o, out) : QE_NOENT;
}

const char *const *fs_options_names(void)
{
    static const char *names[N_ROWS + 1];
    size_t n = 0;

    if (!names[0])
        for (size_t i = 0; i < N_ROWS; i++)
            if (rows[i].show)
                names[n++] = rows[i].name;
    return names;
}

void opts_list_names(struct buf *out)
{
    size_t n;
    const struct store_setting_def *defs = store_setting_defs(&n);

    for (size_t i = 0; i < N_ROWS; i++)
        buf_printf(out, "%s%s", i ? ", " : "", rows[i].name);
    buf_printf(out, ", and for a new cluster ");
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "%s%s", i ? ", " : "", defs[i].name);
}

void opts_help(struct buf *out)
{
    size_t n;
    const struct store_setting_def *defs = store_setting_defs(&n);

    buf_printf(out, "usage: quorumfs mount DIR MOUNTPOINT [-f] [-o OPT,...] [--NAME VALUE]...\n"
                    "       quorumfs init DIR [--id N --cluster 1=HOST:PORT,2=HOST:PORT,... [--token TEXT]] [--from SNAPSHOT.db]\n"
                    "                         [--NAME VALUE]...\n"
                    "       quorumfs init DIR --join HOST:PORT --listen HOST:PORT [--NAME VALUE]...\n"
                    "       quorumfs check DIR\n"
                    "       quorumfs --help | --version\n\n"
                    "A small tree of files, replicated by raft: closing a file is one atomic, durable commit.\n\n"
                    "  mount   mount the tree of data directory DIR; makes a cluster of one if DIR is empty or missing\n"
                    "  init    make a new cluster in DIR, or with --cluster one member of a new cluster: the list, and the token if\n"
                    "          there is one, are the same on every member; with --join a new member of a running one; --from: with the tree and history of a snapshot,\n"
                    "          or of the data directory of a member that is not running\n"
                    "  check   look through DIR, which nobody may be using, and name all damage\n"
                    "  -f      stay in the foreground and log to stderr\n\n"
                    "Mount options (-o): create, nocreate, show-control, ro, allow_other, default_permissions, noexec, noatime,\n"
                    "  the generic ones of mount(8), and every NAME=VALUE of the settings below.\n\n"
                    "Settings of a member (command line or -o, else environment QUORUMFS_NAME, else DIR/quorumfs.conf, else default):\n");
    for (size_t i = 0; i < N_ROWS; i++)
        buf_printf(out, "  %-17s %s\n%20s%s%s%s\n", rows[i].name, rows[i].help, "", rows[i].allowed,
                   *rows[i].initial ? "; default " : "", rows[i].initial);
    buf_printf(out, "\nSettings of the cluster (given when it is made; later written to MOUNTPOINT/.quorum/config/NAME):\n");
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "  %-17s %s; default %s\n", defs[i].name, defs[i].allowed, defs[i].initial);
    buf_printf(out, "\nExit status: 0 done, 1 failed (one line on stderr says why), 2 wrong usage. See quorumfs(8) and quorumfs(5).\n");
}

int opts_settle_id(struct fs_options *o, uint32_t member, struct buf *why)
{
    if (o->id_given && o->id != member) {
        buf_printf(why, "id = %u was asked for, but \"%s\" holds member %u: the id is fixed when a data directory is made", o->id, o->dir,
                   member);
        return QE_INVAL;
    }
    o->id = member;
    return 0;
}

/* ---- What the command line gave -------------------------------------------------------------------------------------------- */

int opts_give(struct fs_options *o, const char *name, const char *value, const char *where)
{
    struct opts_pair pair, *grown;

    if (!opts__row(name) && !opts__cluster_row(name))
        return QE_NOENT;
    grown = realloc(o->given, (o->n_given + 1) * sizeof *grown);
    if (!grown)
        return QE_NOMEM;
    o->given = grown;
    pair = (struct opts_pair){strdup(name), strdup(value), strdup(where)};
    if (!pair.name || !pair.value || !pair.where) {
        free(pair.name);
        free(pair.value);
        free(pair.where);
        return QE_NOMEM;
    }
    o->given[o->n_given++] = pair;
    return 0;
}

/* The lines for quorumfs.conf, and its path. */
static void saved_text(const struct fs_options *o, struct buf *text, struct buf *path)
{
    for (size_t i = 0; i < o->n_given; i++)
        if (opts__row(o->given[i].name))
            buf_printf(text, "%s = %s\n", o->given[i].name, o->given[i].value);
    buf_printf(path, "%s/quorumfs.conf", o->dir);
}

int opts_save(const struct fs_options *o, int64_t *was, struct buf *why)
{
    struct buf text = {0}, path = {0};
    struct stat st;
    int fd = -1, err = 0;

    saved_text(o, &text, &path);
    *was = stat(buf_cstr(&path), &st) ? -1 : (int64_t)st.st_size;
    if (!text.len)
        goto out;
    fd = open(buf_cstr(&path), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text.data, text.len) != (ssize_t)text.len || fsync(fd)) {
        buf_printf(why, "cannot write \"%s\": %s", buf_cstr(&path), strerror(errno));
        err = QE_IO;
    }
out:
    if (fd >= 0)
        close(fd);
    buf_fini(&text);
    buf_fini(&path);
    return err;
}

/* Unless somebody else has written to it meanwhile. */
void opts_unsave(const struct fs_options *o, int64_t was)
{
    struct buf text = {0}, path = {0};
    struct stat st;

    saved_text(o, &text, &path);
    if (text.len && stat(buf_cstr(&path), &st) == 0 && st.st_size <= (was < 0 ? 0 : was) + (int64_t)text.len) {
        if (was < 0 ? unlink(buf_cstr(&path)) : truncate(buf_cstr(&path), was))
            log_warn("init", "cannot take the settings of this init out of \"%s\" again: %s", buf_cstr(&path), strerror(errno));
    }
    buf_fini(&text);
    buf_fini(&path);
}

static void free_pairs(struct opts_pair *pairs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(pairs[i].name);
        free(pairs[i].value);
        free(pairs[i].where);
    }
    free(pairs);
}

void opts_free(struct fs_options *o)
{
    free_pairs(o->given, o->n_given);
    free_pairs(o->cluster, o->n_cluster);
    free(o->dir);
    free(o->mountpoint);
    free(o->kernel_opts);
    free(o->listen);
    free(o->advertise);
    free(o->cluster_list);
    free(o->token);
    free(o->from);
    free(o->join);
    *o = (struct fs_options){0};
}
