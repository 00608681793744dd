/* The commands of the control tree: every row that can be written gets any line, and makes an operation of it or says why not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/control/at_name.h"
#include "fs/control/tree.h"
#include "tests/fuzz/fuzz.h"

static const char *const seeds[] = {
    "12", "0", "9223372036854775808", "-1", " 7", "2G", "revisions:100000,bytes:2G", "time:24h", "10s", "100ms", "head-3", "2026-11-22T10:00:00.5Z", "1M", "\xff\xfe", "12x", "2.5", "1.0000000001",
};

size_t fuzz_seed(size_t i, uint8_t *out, size_t max)
{
    if (i >= sizeof seeds / sizeof *seeds)
        return 0;
    return (size_t)snprintf((char *)out, max, "%s", seeds[i]);
}

/* Nothing is running: what the rows ask of the store. */
void __wrap_replica_glance(struct replica *r, struct store_glance *out);
void __wrap_replica_glance(struct replica *r, struct store_glance *out)
{
    (void)r;
    *out = (struct store_glance){.compacted = 5};
}

int __wrap_store_setting(struct store_reader *r, const char *name, struct buf *out);
int __wrap_store_setting(struct store_reader *r, const char *name, struct buf *out)
{
    (void)r;
    return buf_printf(out, "%s", strcmp(name, "heartbeat") ? "1s" : "100ms");
}

static int bookmark_line(struct fs *fs, const char *line, struct control_command *cmd, struct buf *why)
{
    static char name[] = "bookmark";

    return control__bookmark_line(fs, name, line, cmd, why);
}

static int ttl_line(struct fs *fs, const char *line, struct control_command *cmd, struct buf *why)
{
    uint64_t id = 7;
    int err = control__ttl_line(fs, &id, line, cmd, why);

    if (!err && (cmd->op.rev < 1000000000 || cmd->op.ino != id))
        abort();
    return err;
}

/* A line for a row, or for a file of a view. */
static void check(const struct control_row *row, const char *child, const char *text,
                  int (*other)(struct fs *fs, const char *line, struct control_command *cmd, struct buf *why))
{
    static struct fs fs;
    struct control_command cmd = {0};
    struct buf why = {0}, encoded = {0};
    struct store_command command = {.comm = "fuzz", .ops = &cmd.op, .n_ops = 1};
    int err = row ? row->command(&fs, child, text, &cmd, &why) : other(&fs, text, &cmd, &why);

    if (err && !why.len)
        abort();
    if (!err && cmd.op.kind && store_command_encode(&command, &encoded))
        abort();
    buf_fini(&cmd.hold);
    buf_fini(&why);
    buf_fini(&encoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct control_row *rows;
    char text[4097];
    int64_t value = -1;
    size_t n;

    size = size < sizeof text - 1 ? size : sizeof text - 1;
    memcpy(text, data, size);
    text[size] = 0;
    text[strcspn(text, "\n")] = 0; /* a line */
    if (at_name_parse(text, &value) != AT_NOTHING && value < 0)
        abort();
    (void)store_bookmark_name_ok(text, strlen(text));
    check(NULL, NULL, text, bookmark_line);
    check(NULL, NULL, text, ttl_line);
    rows = control__rows(&n);
    log_set_level(LOG_LEVEL_ERROR); /* values that are allowed, but warned of */
    for (size_t i = 0; i < n; i++) {
        const char *child;
        mode_t mode;

        if (!rows[i].command)
            continue;
        if (!rows[i].child)
            check(&rows[i], NULL, text, NULL);
        for (size_t k = 0; rows[i].child && (child = rows[i].child(k, &mode)); k++)
            check(&rows[i], child, text, NULL);
    }
    return 0;
}
