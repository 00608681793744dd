/* Log entries: bytes are one command each, in an entry with a right header and checksum, so that the decoder and the operations
 * themselves are met; and the same bytes as a whole entry. Whatever comes is applied or refused, never half of it; the store stays
 * sound. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/store.h"
#include "tests/fuzz/fuzz.h"

enum { CHECK_EVERY = 2000, SESSION = 1 };

static struct store *store;
static char dir[] = "/dev/shm/fuzz-store.XXXXXX";
static uint64_t applied;
static const uint8_t cluster_id[STORE_CLUSTER_ID_SIZE] = "fuzz";

static void remove_dir(void)
{
    char path[512];
    DIR *d = opendir(dir);
    struct dirent *e;

    while (d && (e = readdir(d))) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        unlink(path);
    }
    if (d)
        closedir(d);
    rmdir(dir);
}

static void say(void *data, const char *line)
{
    (void)data;
    fprintf(stderr, "%s\n", line);
}

static void close_store(void)
{
    struct store_summary sum;

    store_close(store);
    if (store_check(dir, say, NULL, &sum))
        abort();
    remove_dir();
}

static int apply(const void *data, size_t len)
{
    struct store_entry e = {.index = applied + 1, .term = 1, .data = {data, len}};
    struct store_sink sink = {0};
    int err = store_apply(store, &e, 1, &sink);

    if (!err)
        applied++;
    return err;
}

static int apply_command(const void *bytes, size_t len)
{
    struct store_bytes cmd = {bytes, len};
    struct buf entry = {0};
    int err = store_entry_build(cluster_id, 1, INT64_C(1700000000000000000) + (int64_t)applied, &cmd, 1, &entry);

    if (!err)
        err = apply(entry.data, entry.len);
    buf_fini(&entry);
    return err;
}


static void open_store(void)
{
    const struct store_initial initial = {.cluster_id = "fuzz", .epoch = 1};
    const struct store_options options = {.dir = dir};
    const struct store_op op = {.kind = STORE_OP_SESSION};
    const struct store_command cmd = {.seq = 1, .member = 1, .comm = "fuzz", .ops = &op, .n_ops = 1};
    struct buf why = {0}, bytes = {0};

    if (!mkdtemp(dir) || store_create(dir, &initial, &why) || store_open(&options, &store, &why)) {
        fprintf(stderr, "%s\n", buf_cstr(&why));
        abort();
    }
    if (store_command_encode(&cmd, &bytes) || apply_command(bytes.data, bytes.len))
        abort();
    buf_fini(&bytes);
    buf_fini(&why);
    atexit(close_store);
}

/* One valid command of each kind. */
size_t fuzz_seed(size_t i, uint8_t *out, size_t max)
{
    static const struct store_edit edits[] = {{STORE_EDIT_TRUNCATE, 0, {0}}, {STORE_EDIT_WRITE, 3, {"abc", 3}}, {STORE_EDIT_APPEND, 0, {"d", 1}}};
    static const struct store_xattr xattr = {{"user.a", 6}, {"b", 1}};
    const struct store_op ops[] = {
        {.kind = STORE_OP_COMMIT, .parent = 1, .name = {"f", 1}, .new_ino = 16, .mode = 0644, .edits = edits, .n_edits = 3, .xattrs = &xattr, .n_xattrs = 1},
        {.kind = STORE_OP_COMMIT, .ino = 16, .edits = edits, .n_edits = 3, .valid = STORE_ATTR_MTIME, .mtime_ns = 5},
        {.kind = STORE_OP_CREATE, .parent = 1, .name = {"g", 1}, .new_ino = 20, .mode = 0600},
        {.kind = STORE_OP_MKDIR, .parent = 1, .name = {"d", 1}, .new_ino = 25, .mode = 0755},
        {.kind = STORE_OP_SYMLINK, .parent = 25, .name = {"l", 1}, .new_ino = 30, .bytes = {"../f", 4}},
        {.kind = STORE_OP_UNLINK, .parent = 1, .name = {"g", 1}},
        {.kind = STORE_OP_RMDIR, .parent = 1, .name = {"d", 1}},
        {.kind = STORE_OP_RENAME, .parent = 1, .name = {"f", 1}, .parent2 = 25, .name2 = {"h", 1}, .flags = STORE_RENAME_NOREPLACE},
        {.kind = STORE_OP_SETATTR, .ino = 16, .valid = STORE_ATTR_MODE | STORE_ATTR_UID, .mode = 04755, .uid = 7},
        {.kind = STORE_OP_SETXATTR, .ino = 16, .name = {"user.x", 6}, .bytes = {"y", 1}},
        {.kind = STORE_OP_REMOVEXATTR, .ino = 16, .name = {"user.x", 6}},
        {.kind = STORE_OP_SETTING, .name = {"quota", 5}, .bytes = {"1G", 2}},
        {.kind = STORE_OP_COMPACT, .rev = 3},
        {.kind = STORE_OP_RESERVE},
        {.kind = STORE_OP_SESSION}, /* in another one */
        {.kind = STORE_OP_SESSION_END, .ino = 99},
        {.kind = STORE_OP_MEMBER, .flags = STORE_MEMBER_ADD, .name = {"a:1", 3}, .mode = STORE_MEMBER_VOTER, .new_ino = 5},
        {.kind = STORE_OP_MEMBER, .flags = STORE_MEMBER_ADDRESS, .ino = 1, .name = {"b:1", 3}},
        {.kind = STORE_OP_MEMBER, .flags = STORE_MEMBER_ROLE, .ino = 1, .mode = STORE_MEMBER_STANDBY},
        {.kind = STORE_OP_MEMBER, .flags = STORE_MEMBER_REMOVE, .ino = 1},
        {.kind = STORE_OP_LOCK, .flags = STORE_LOCK_NAMED | STORE_LOCK_EXCLUSIVE, .name = {"n", 1}, .owner = 1, .request = 1},
        {.kind = STORE_OP_LOCK, .flags = STORE_LOCK_NAMED, .name = {"n", 1}, .owner = 2, .request = 2},
        {.kind = STORE_OP_PROCLAIM, .name = {"n", 1}, .owner = 1, .rev = 2, .bytes = {"v", 1}},
        {.kind = STORE_OP_LOCK, .flags = STORE_LOCK_WHOLE | STORE_LOCK_NOWAIT, .ino = 16, .owner = 1, .request = 3},
        {.kind = STORE_OP_LOCK, .flags = STORE_LOCK_RANGE | STORE_LOCK_EXCLUSIVE, .ino = 16, .owner = 1, .request = 4, .first = 1, .last = 99},
        {.kind = STORE_OP_LOCK, .flags = STORE_LOCK_RANGE, .ino = 16, .owner = 2, .request = 5, .first = 50, .last = 60},
        {.kind = STORE_OP_UNLOCK, .flags = STORE_LOCK_RANGE, .ino = 16, .owner = 1, .first = 40, .last = 55},
        {.kind = STORE_OP_UNLOCK, .flags = STORE_LOCK_RANGE | STORE_LOCK_WAITING, .ino = 16, .owner = 2, .request = 5},
        {.kind = STORE_OP_UNLOCK, .flags = STORE_LOCK_NAMED, .name = {"n", 1}, .owner = 1, .request = 1},
        {.kind = STORE_OP_LAPSE},
        {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_GRANT, .name = {"l", 1}, .rev = 60000000000},
        {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_TTL, .ino = 2, .rev = 70000000000},
        {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_CHECKPOINT, .rev = 1, .first = 99, .bytes = {"\2\0\0\0\0\0\0\0\0\0\0\7\0\0\0\0", 16}},
        {.kind = STORE_OP_SETATTR, .ino = 16, .valid = STORE_ATTR_LEASE, .lease = 2},
        {.kind = STORE_OP_COMMIT, .parent = 1, .name = {"f", 1}, .new_ino = 16, .edits = edits, .n_edits = 3, .valid = STORE_ATTR_LEASE, .lease = 2},
        {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_EXPIRE, .ino = 2, .rev = 1, .first = 99},
        {.kind = STORE_OP_LEASE, .flags = STORE_LEASE_REVOKE, .ino = 2},
    };
    struct store_command cmd = {.session = SESSION, .seq = i + 1, .member = 1, .time_ns = 1, .pid = 1, .comm = "fuzz", .n_ops = 1};
    struct buf bytes = {0};
    size_t len;

    if (i >= sizeof ops / sizeof *ops)
        return 0;
    cmd.ops = &ops[i];
    if (store_command_encode(&cmd, &bytes) || bytes.len > max)
        abort();
    memcpy(out, bytes.data, bytes.len);
    len = bytes.len;
    buf_fini(&bytes);
    return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static size_t runs;
    struct store_glance before, after;
    uint32_t crc;
    bool more = true;
    int err;

    if (!store)
        open_store();
    store_entry_check(data, size, cluster_id, &crc);
    store_glance(store, &before);
    err = apply_command(data, size);
    store_glance(store, &after);
    if (err && (before.rev != after.rev || before.live_bytes != after.live_bytes))
        abort(); /* refused, and yet something changed */
    if (err && err != QE_FORMAT && err != QE_CORRUPT && err != QE_NOMEM)
        abort();
    if (++runs % CHECK_EVERY == 0)
        while (more && !store_maintain(store, 10, true, &more))
            ;
    return 0;
}
