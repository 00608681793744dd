/* Lines of a transaction's `require`: any line becomes a condition that can be encoded, or is refused with a sentence and leaves nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/control/txn.h"
#include "tests/fuzz/fuzz.h"

static const char *const seeds[] = {
    "version app/conf = 3", "create_revision a != 1", "mod_revision \"a b\" < 9223372036854775807", "exists a/b/c", "absent \"\"",
    "content f = \"one\\n\\x00\\\\ \\\"\"", "lease f = web1", "lock db = 7", "version f > -1", "exists", "content f = \"", "version f = 99999999999999999999",
};

size_t fuzz_seed(size_t i, uint8_t *out, size_t max)
{
    if (i >= sizeof seeds / sizeof *seeds)
        return 0;
    return (size_t)snprintf((char *)out, max, "%s", seeds[i]);
}

/* A tree in which every name is there, and every second one may not be searched. */
int __wrap_store_getattr(struct store_reader *r, int64_t at, uint64_t ino, struct store_attr *out);
int __wrap_store_getattr(struct store_reader *r, int64_t at, uint64_t ino, struct store_attr *out)
{
    (void)r, (void)at;
    *out = (struct store_attr){.ino = ino, .mode = S_IFDIR | 0755};
    return 0;
}

int __wrap_store_lookup(struct store_reader *r, int64_t at, uint64_t parent, const void *name, size_t len, struct store_attr *out);
int __wrap_store_lookup(struct store_reader *r, int64_t at, uint64_t parent, const void *name, size_t len, struct store_attr *out)
{
    (void)r, (void)at, (void)parent;
    if (len == 0)
        abort();
    *out = (struct store_attr){.ino = 5, .mode = S_IFDIR | (((const char *)name)[0] & 1 ? 0755 : 0700)};
    return 0;
}

static void check(struct txn *t, const struct perm *who, const char *line)
{
    const size_t before[] = {t->require.len, t->require_bytes.len, t->conditions.len, t->require_lines.len};
    struct store_condition c;
    struct store_command cmd = {.comm = "fuzz", .conditions = &c, .n_conditions = 1};
    struct buf why = {0}, encoded = {0};
    int err = txn_require(t, who, line, &why);

    if (err && (!why.len || t->require.len != before[0] || t->require_bytes.len != before[1] || t->conditions.len != before[2] ||
                t->require_lines.len != before[3]))
        abort();
    if (!err) {
        memcpy(&c, t->conditions.data + before[2], sizeof c);
        if ((uintptr_t)c.name.data + c.name.len > t->require_bytes.len || (uintptr_t)c.bytes.data + c.bytes.len > t->require_bytes.len)
            abort();
        c.name.data = t->require_bytes.data + (uintptr_t)c.name.data;
        c.bytes.data = t->require_bytes.data + (uintptr_t)c.bytes.data;
        if (store_command_encode(&cmd, &encoded))
            abort();
    }
    buf_fini(&why);
    buf_fini(&encoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fs fs;
    struct txn t = {.fs = &fs, .rev = 1};
    const struct perm who = {.uid = 1000, .gid = 1000};
    char text[4097];

    size = size < sizeof text - 1 ? size : sizeof text - 1;
    memcpy(text, data, size);
    text[size] = 0;
    if (buf_reserve(&t.require_bytes, 64))
        abort();
    for (char *rest = text, *line; (line = strsep(&rest, "\n"));)
        check(&t, &who, line);
    buf_fini(&t.require);
    buf_fini(&t.require_bytes);
    buf_fini(&t.require_lines);
    buf_fini(&t.conditions);
    return 0;
}
