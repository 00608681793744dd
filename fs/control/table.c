/* The control tree as a table. `quorumfs.5` describes each row; what is not built has none. */
#include <string.h>
#include <sys/stat.h>

#include "fs/control/tree.h"

static const struct control_row rows[] = {
    {.name = "README", .mode = S_IFREG | 0444, .read = control__read_readme},
    {.name = "at", .mode = S_IFDIR | 0555, .view = FS_VIEW_AT},
    {.name = "bookmarks", .mode = S_IFDIR | S_ISVTX | 0777, .view = FS_VIEW_BOOKMARKS},
    {.name = "compact", .mode = S_IFREG | 0644, .read = control__read_compact, .command = control__command_compact},
    {.name = "config", .mode = S_IFDIR | 0555, .read = control__read_config, .command = control__command_config, .child = control__config_child},
    {.name = "hash", .mode = S_IFREG | 0444, .read = control__read_hash},
    {.name = "health", .mode = S_IFREG | 0444, .read = control__read_health},
    {.name = "history", .mode = S_IFDIR | 0555, .view = FS_VIEW_HISTORY},
    {.name = "leader", .mode = S_IFREG | 0644, .read = control__read_leader, .command = control__command_leader},
    {.name = "leases", .mode = S_IFDIR | S_ISVTX | 0777, .view = FS_VIEW_LEASES},
    {.name = "local", .mode = S_IFDIR | 0555, .view = FS_VIEW_LOCAL},
    {.name = "locks", .mode = S_IFDIR | S_ISVTX | 0777, .view = FS_VIEW_LOCKS},
    {.name = "members", .mode = S_IFDIR | 0755, .view = FS_VIEW_MEMBERS},
    {.name = "metrics", .mode = S_IFREG | 0444, .read = control__read_metrics},
    {.name = "revision", .mode = S_IFREG | 0444, .read = control__read_revision, .newest = true},
    {.name = "since", .mode = S_IFDIR | 0555, .view = FS_VIEW_SINCE},
    {.name = "snapshot.db", .mode = S_IFREG | 0400, .view = FS_VIEW_SNAPSHOT},
    {.name = "status", .mode = S_IFREG | 0444, .read = control__read_status},
    {.name = "status.json", .mode = S_IFREG | 0444, .read = control__read_status_json},
    {.name = "txn", .mode = S_IFDIR | 01777, .view = FS_VIEW_TXN},
    {.name = "watch", .mode = S_IFDIR | 0555, .view = FS_VIEW_WATCH},
};
enum { N_ROWS = sizeof rows / sizeof *rows, FIRST_ROW = 2, CHILD_SHIFT = 16 };

const struct control_row *control__rows(size_t *n)
{
    *n = N_ROWS;
    return rows;
}

static fuse_ino_t row_node(size_t i)
{
    return rows[i].view ? fs_node(rows[i].view, VIEW_ROOT) : fs_node(FS_VIEW_CONTROL, FIRST_ROW + i);
}

const struct control_row *control__row_of_view(enum fs_view view)
{
    for (size_t i = 0; i < N_ROWS; i++)
        if (rows[i].view == view)
            return &rows[i];
    return NULL;
}

bool control__ref(fuse_ino_t node, struct control_ref *out)
{
    uint64_t number = fs_number_of(node), child = 0;

    if (fs_view_of(node) != FS_VIEW_CONTROL)
        return false;
    if (node == FS_CONTROL_ROOT) {
        *out = (struct control_ref){.mode = S_IFDIR | 0555};
        return true;
    }
    if (number >> CHILD_SHIFT) {
        child = number & ((1 << CHILD_SHIFT) - 1);
        number >>= CHILD_SHIFT;
    }
    if (number < FIRST_ROW || number - FIRST_ROW >= N_ROWS)
        return false;
    *out = (struct control_ref){.row = &rows[number - FIRST_ROW]};
    out->mode = out->row->mode;
    if (!child)
        return true;
    out->child = out->row->child ? out->row->child(child - 1, &out->mode) : NULL;
    return out->child != NULL;
}

fuse_ino_t control__entry(fuse_ino_t dir, size_t i, const char **name)
{
    struct control_ref ref;
    mode_t mode;

    if (!control__ref(dir, &ref))
        return 0;
    if (!ref.row) {
        if (i >= N_ROWS)
            return 0;
        *name = rows[i].name;
        return row_node(i);
    }
    if (ref.child || !ref.row->child || !(*name = ref.row->child(i, &mode)))
        return 0;
    return fs_node(FS_VIEW_CONTROL, fs_number_of(dir) << CHILD_SHIFT | (i + 1));
}

fuse_ino_t control__find(fuse_ino_t dir, const char *name)
{
    const char *entry;
    fuse_ino_t node;

    for (size_t i = 0; (node = control__entry(dir, i, &entry)); i++)
        if (!strcmp(entry, name))
            return node;
    return 0;
}
