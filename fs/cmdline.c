/* The command line: `quorumfs mount|init|check …`, and `mount.fuse.quorumfs DIR MNT -o …` as mount(8) calls it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/opts.h"
#include "store/base/err.h"

/* Generic mount options and what they mean here. Descriptors of devices and set-user-id programs are never served: nodev and nosuid
 * are always on, whatever is asked for. atime is not kept at all. */
enum generic { GENERIC_IGNORE, GENERIC_KERNEL, GENERIC_RO, GENERIC_RW, GENERIC_ALLOW_OTHER, GENERIC_DEFAULT_PERMISSIONS,
               GENERIC_CREATE, GENERIC_NOCREATE, GENERIC_SHOW_CONTROL };

static const struct { const char *name; enum generic what; } generics[] = {
    {"rw", GENERIC_RW}, {"ro", GENERIC_RO},
    {"noexec", GENERIC_KERNEL}, {"noatime", GENERIC_KERNEL}, {"nodiratime", GENERIC_KERNEL},
    {"exec", GENERIC_IGNORE}, {"atime", GENERIC_IGNORE}, {"diratime", GENERIC_IGNORE}, {"relatime", GENERIC_IGNORE},
    {"norelatime", GENERIC_IGNORE}, {"strictatime", GENERIC_IGNORE}, {"nostrictatime", GENERIC_IGNORE}, {"lazytime", GENERIC_IGNORE},
    {"nolazytime", GENERIC_IGNORE}, {"dev", GENERIC_IGNORE}, {"nodev", GENERIC_IGNORE}, {"suid", GENERIC_IGNORE},
    {"nosuid", GENERIC_IGNORE}, {"async", GENERIC_IGNORE}, {"defaults", GENERIC_IGNORE}, {"auto", GENERIC_IGNORE},
    {"noauto", GENERIC_IGNORE}, {"user", GENERIC_IGNORE}, {"nouser", GENERIC_IGNORE}, {"users", GENERIC_IGNORE},
    {"nousers", GENERIC_IGNORE}, {"owner", GENERIC_IGNORE}, {"noowner", GENERIC_IGNORE}, {"group", GENERIC_IGNORE},
    {"nogroup", GENERIC_IGNORE}, {"_netdev", GENERIC_IGNORE}, {"nofail", GENERIC_IGNORE}, {"silent", GENERIC_IGNORE},
    {"loud", GENERIC_IGNORE},
    {"allow_other", GENERIC_ALLOW_OTHER}, {"default_permissions", GENERIC_DEFAULT_PERMISSIONS},
    {"create", GENERIC_CREATE}, {"nocreate", GENERIC_NOCREATE}, {"show-control", GENERIC_SHOW_CONTROL},
};
/* Words that other programs keep in fstab for themselves. */
static const char *const foreign_prefixes[] = {"x-", "X-", "comment=", "user=", "uhelper="};

struct cmdline {
    struct fs_options *o;
    struct buf *why;
    enum opts_command command;
    int argc;
    char *const *argv;
    int i;          /* the argument being looked at */
    int n_words;    /* DIR, MOUNTPOINT so far */
    bool words_only; /* after -- */
};

#define usage(c, ...) (buf_printf((c)->why, __VA_ARGS__), (int)OPTS_EXIT_USAGE)

static int out_of_memory(struct cmdline *c)
{
    buf_printf(c->why, "out of memory");
    return OPTS_EXIT_FAILED;
}

static int set_string(struct cmdline *c, char **to, const char *text)
{
    char *copy = strdup(text);

    if (!copy)
        return out_of_memory(c);
    free(*to);
    *to = copy;
    return 0;
}

/* ---- Settings and mount options ---------------------------------------------------------------------------------------------- */

static int take_setting(struct cmdline *c, const char *name, const char *value, const char *where)
{
    int err = opts_give(c->o, name, value, where);

    if (err == QE_NOMEM)
        return out_of_memory(c);
    if (!err)
        return 0;
    buf_printf(c->why, "unknown setting \"%s\" = \"%s\" (%s): allowed are ", name, value, where);
    opts_list_names(c->why);
    return OPTS_EXIT_USAGE;
}

static int hand_on(struct cmdline *c, const char *name)
{
    struct buf all = {0};
    int err;

    buf_printf(&all, "%s%s%s", c->o->kernel_opts, *c->o->kernel_opts ? "," : "", name);
    err = set_string(c, &c->o->kernel_opts, buf_cstr(&all));
    buf_fini(&all);
    return err;
}

static int take_generic(struct cmdline *c, const char *name, enum generic what)
{
    struct fs_options *o = c->o;

    switch (what) {
    case GENERIC_IGNORE: break;
    case GENERIC_KERNEL: return hand_on(c, name);
    case GENERIC_RO: o->read_only = true; break;
    case GENERIC_RW: o->read_only = false; break;
    case GENERIC_ALLOW_OTHER: o->allow_other = o->default_permissions = true; break;
    case GENERIC_DEFAULT_PERMISSIONS: o->default_permissions = true; break;
    case GENERIC_CREATE: o->create = true; break;
    case GENERIC_NOCREATE: o->create = false; break;
    case GENERIC_SHOW_CONTROL: o->show_control = true; break;
    }
    return 0;
}

static int take_option(struct cmdline *c, char *opt)
{
    char where[64], *eq = strchr(opt, '=');

    if (!*opt)
        return 0;
    for (size_t i = 0; i < sizeof generics / sizeof *generics; i++)
        if (!strcmp(generics[i].name, opt))
            return take_generic(c, opt, generics[i].what);
    for (size_t i = 0; i < sizeof foreign_prefixes / sizeof *foreign_prefixes; i++)
        if (!strncmp(opt, foreign_prefixes[i], strlen(foreign_prefixes[i])))
            return 0;
    if (!strcmp(opt, "remount"))
        return usage(c, "%s is not supported: umount and mount again", "remount");
    if (eq) {
        *eq = 0;
        snprintf(where, sizeof where, "-o %s", opt);
        return take_setting(c, opt, eq + 1, where);
    }
    buf_printf(c->why, "unknown mount option \"%s\": allowed are create, nocreate, show-control, ro, allow_other, default_permissions, "
                       "the generic ones of mount(8), and with =VALUE ", opt);
    opts_list_names(c->why);
    return OPTS_EXIT_USAGE;
}

static int take_options(struct cmdline *c, const char *list)
{
    char *copy = strdup(list), *rest = copy, *opt;
    int err = 0;

    if (!copy)
        return out_of_memory(c);
    while (!err && (opt = strsep(&rest, ",")))
        err = take_option(c, opt);
    free(copy);
    return err;
}

/* ---- Arguments ------------------------------------------------------------------------------------------------------------- */

/* The value of an option: what is attached to it, or the next argument. */
static const char *option_value(struct cmdline *c, const char *attached)
{
    if (attached && *attached)
        return attached;
    return c->i + 1 < c->argc ? c->argv[++c->i] : NULL;
}

/* What only init takes. Returns -1 when it is not one of these, else as take_long. */
static int take_init_option(struct cmdline *c, const char *name, const char *value)
{
    const struct { const char *name; char **to; } options[] = {{"cluster", &c->o->cluster_list}, {"token", &c->o->token},
                                                          {"from", &c->o->from}, {"join", &c->o->join}};

    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (!strcmp(name, options[i].name) && value && *value)
            return set_string(c, options[i].to, value);
        else if (!strcmp(name, options[i].name))
            return usage(c, "option \"--%s\" needs a value; see quorumfs --help", name);
    return -1;
}

static int take_long(struct cmdline *c, const char *arg)
{
    const char *eq = strchr(arg, '='), *value;
    char name[64], where[72];
    size_t len = eq ? (size_t)(eq - arg) : strlen(arg);
    int status;

    if (len == 2) {
        c->words_only = true;
        return 0;
    }
    if (len - 2 >= sizeof name)
        return usage(c, "unknown option \"%s\"; see quorumfs --help", arg);
    snprintf(name, sizeof name, "%.*s", (int)(len - 2), arg + 2);
    snprintf(where, sizeof where, "--%s", name);
    value = eq ? eq + 1 : option_value(c, NULL);
    if (c->command == OPTS_INIT && (status = take_init_option(c, name, value)) >= 0)
        return status;
    if (c->command == OPTS_CHECK)
        return usage(c, "check takes no option \"%s\"; see quorumfs --help", arg);
    if (!value)
        return usage(c, "option \"%s\" needs a value; see quorumfs --help", where);
    return take_setting(c, name, value, where);
}

/* -f and -o of `quorumfs mount`; -s -f -n -v -o -t as mount(8) gives them to its helpers. */
static int take_short(struct cmdline *c, const char *arg)
{
    bool m8 = c->o->from_mount8;
    const char *value;

    for (const char *p = arg + 1; *p; p++) {
        if (c->command == OPTS_MOUNT && (*p == 'o' || (m8 && *p == 't'))) {
            value = option_value(c, p + 1);
            if (!value)
                return usage(c, "option \"%s\" needs a value; see quorumfs --help", arg);
            return *p == 'o' ? take_options(c, value) : 0;
        }
        if (c->command == OPTS_MOUNT && *p == 'f' && !m8)
            c->o->foreground = true;
        else if (m8 && *p == 'f')
            c->o->fake = true;
        else if (!(m8 && strchr("snv", *p)))
            return usage(c, "unknown option \"%s\"; see quorumfs --help", arg);
    }
    return 0;
}

static int take_word(struct cmdline *c, const char *word)
{
    int n = c->n_words++;

    if (n == 0)
        return set_string(c, &c->o->dir, word);
    if (n == 1 && c->command == OPTS_MOUNT)
        return set_string(c, &c->o->mountpoint, word);
    return usage(c, "one argument too many: \"%s\"; see quorumfs --help", word);
}

static int take_all(struct cmdline *c)
{
    int err = 0;

    for (; !err && c->i < c->argc; c->i++) {
        const char *arg = c->argv[c->i];

        if (c->words_only || arg[0] != '-' || !arg[1])
            err = take_word(c, arg);
        else if (arg[1] == '-')
            err = take_long(c, arg);
        else
            err = take_short(c, arg);
    }
    if (err)
        return err;
    if (!c->o->dir || !*c->o->dir)
        return usage(c, "%s is missing; see quorumfs --help", "DIR");
    if (c->command == OPTS_MOUNT && (!c->o->mountpoint || !*c->o->mountpoint))
        return usage(c, "%s is missing; see quorumfs --help", "MOUNTPOINT");
    return 0;
}

static bool asks(const char *arg, const char *name, const char *letter)
{
    return !strcmp(arg, name) || !strcmp(arg, letter);
}

/* --help and --version count wherever they stand, before anything is refused. */
static bool asks_for_help(struct cmdline *c)
{
    for (int i = 1; i < c->argc && strcmp(c->argv[i], "--"); i++) {
        if (asks(c->argv[i], "--help", "-h"))
            c->command = OPTS_HELP;
        else if (asks(c->argv[i], "--version", "-V"))
            c->command = OPTS_VERSION;
        else
            continue;
        return true;
    }
    return false;
}

int opts_parse(int argc, char *const argv[], struct fs_options *o, enum opts_command *command, struct buf *why)
{
    static const struct { const char *name; enum opts_command command; } commands[] = {
        {"mount", OPTS_MOUNT}, {"init", OPTS_INIT}, {"check", OPTS_CHECK}};
    struct cmdline c = {.o = o, .why = why, .argc = argc, .argv = argv, .i = 1, .command = OPTS_MOUNT};
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *called = slash ? slash + 1 : argc > 0 ? argv[0] : "";
    size_t i = 0;
    int err;

    *o = (struct fs_options){.from_mount8 = !strncmp(called, "mount.", 6)};
    o->create = !o->from_mount8; /* an unmounted data disk must not become an empty cluster at boot */
    o->allow_other = o->default_permissions = geteuid() == 0;
    if (set_string(&c, &o->kernel_opts, "") || set_string(&c, &o->listen, "") || set_string(&c, &o->advertise, "") ||
        set_string(&c, &o->cluster_list, "") || set_string(&c, &o->token, "") || set_string(&c, &o->from, "") || set_string(&c, &o->join, ""))
        return OPTS_EXIT_FAILED;
    if (asks_for_help(&c)) {
        *command = c.command;
        return 0;
    }
    if (!o->from_mount8) {
        if (argc < 2)
            return usage(&c, "a command is missing: %s; see quorumfs --help", "mount, init or check");
        while (i < sizeof commands / sizeof *commands && strcmp(argv[1], commands[i].name))
            i++;
        if (i == sizeof commands / sizeof *commands)
            return usage(&c, "unknown command \"%s\": allowed are mount, init and check; see quorumfs --help", argv[1]);
        c.command = commands[i].command;
        c.i = 2;
    }
    err = take_all(&c);
    *command = c.command;
    return err;
}
