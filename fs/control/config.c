/* config/NAME: settings of this member, to be read, and of the cluster, to be written too; and `compact`. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/control/tree.h"

const char *control__config_child(size_t i, mode_t *mode)
{
    const char *const *members = fs_options_names();
    const struct store_setting_def *defs;
    size_t n;

    for (; *members; members++, i--)
        if (i == 0) {
            *mode = S_IFREG | 0444;
            return *members;
        }
    defs = store_setting_defs(&n);
    *mode = S_IFREG | 0644;
    return i < n ? defs[i].name : NULL;
}

int control__read_config(struct fs *fs, const char *child, struct buf *out)
{
    int err = QE_NOENT;

    if (!child)
        return QE_ISDIR;
    err = opts_is_cluster(child) ? store_setting(fs->reader, child, out) : fs_options_show(fs->opt, child, out);
    return err ? err : buf_append(out, "\n", 1);
}

/* No member could start any more with a heartbeat that is not below the election timeout. */
static int check_together(struct fs *fs, const char *child, const char *value, struct buf *why)
{
    bool beat = !strcmp(child, "heartbeat");
    struct buf other = {0};
    int err;

    if (!beat && strcmp(child, "election-timeout"))
        return 0;
    err = store_setting(fs->reader, beat ? "election-timeout" : "heartbeat", &other);
    if (!err)
        err = store_setting_agree(beat ? value : buf_cstr(&other), beat ? buf_cstr(&other) : value, why);
    buf_fini(&other);
    return err;
}

/* The last line counts, but each has to be allowed. */
int control__command_config(struct fs *fs, const char *child, const char *line, struct control_command *cmd, struct buf *why)
{
    int err;

    if (!child || !opts_is_cluster(child)) {
        buf_printf(why, "a setting of the member is changed in quorumfs.conf");
        return QE_ACCES;
    }
    buf_clear(&cmd->hold);
    err = store_setting_check(child, line, &cmd->hold, why);
    if (!err)
        err = check_together(fs, child, buf_cstr(&cmd->hold), why);
    if (err)
        return err == QE_NOENT ? QE_INVAL : err;
    if (opts_quota_is_large(child, buf_cstr(&cmd->hold)))
        log_warn("control", "quota = %s is large: more than 8G makes everything that copies the whole tree slow", buf_cstr(&cmd->hold));
    cmd->op = (struct store_op){.kind = STORE_OP_SETTING, .name = {child, strlen(child)}, .bytes = {cmd->hold.data, cmd->hold.len}};
    return 0;
}

int control__read_compact(struct fs *fs, const char *child, struct buf *out)
{
    struct store_glance g;

    (void)child;
    replica_glance(fs->replica, &g);
    return buf_printf(out, "%lld\n", (long long)g.compacted);
}

/* The latest revision counts. One that is compacted already leaves nothing to do. */
int control__command_compact(struct fs *fs, const char *child, const char *line, struct control_command *cmd, struct buf *why)
{
    struct store_glance g;
    char *end;
    long long rev;

    (void)child;
    errno = 0;
    rev = strtoll(line, &end, 10);
    if (!isdigit((unsigned char)*line) || *end || errno) {
        buf_printf(why, "bad revision \"%.40s\": allowed is a number", line);
        return QE_INVAL;
    }
    replica_glance(fs->replica, &g);
    if (rev > g.compacted && rev > cmd->op.rev)
        cmd->op = (struct store_op){.kind = STORE_OP_COMPACT, .rev = rev};
    return 0;
}
