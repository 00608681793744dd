/* The tree as the tables have it: every live inode hangs on the root, is counted right, and has names that do not overlap in time. */
#include "store/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- Inodes -------------------------------------------------------------------------------------------------------------- */

static int collect(struct check *k)
{
    sqlite3_stmt *q;
    int64_t count = 0;
    bool found;
    int err = conn_pragma(&k->s->conn, "SELECT count(*) FROM node", &count);

    if (!err)
        err = check_query(k, "SELECT ino, parent, nlink, born FROM node ORDER BY ino", &q);
    if (err)
        return err;
    k->inodes = calloc((size_t)count + 1, sizeof *k->inodes);
    if (!k->inodes)
        err = QE_NOMEM;
    while (!err && !(err = conn_row(&k->s->conn, q, &found)) && found && k->n_inodes < (size_t)count)
        k->inodes[k->n_inodes++] = (struct check_inode){.ino = col_u(q, 0), .parent = col_u(q, 1), .live = !col_is_null(q, 1),
                                                        .nlink = (uint32_t)col_i(q, 2), .born = col_i(q, 3)};
    sqlite3_finalize(q);
    return err;
}

static void check_one(struct check *k, const struct node *n)
{
    const struct state *st = &k->s->st;
    struct store_bytes xattr = {n->xattr.data, n->xattr.len};
    bool root = n->ino == STORE_ROOT_INO;

    if (store_ino_kind(n->ino) > STORE_SYMLINK || (!root && ((int64_t)(n->ino >> 2) >= st->next_ino || n->ino >> 2 == 0)))
        check_damage(k, "inode %" PRIu64 " has a number that was never given out", n->ino);
    if (n->mode & ~07777u || n->create_rev < 1 || n->create_rev > rev_of(n->seq) || n->version < 1 || rev_of(n->seq) > st->rev || n->vseq > n->seq ||
        n->born > st->rev || n->size < 0 || n->size > INT32_MAX || n->ord < 1)
        check_damage(k, "inode %" PRIu64 " has attributes that cannot be", n->ino);
    if (store_ino_kind(n->ino) == STORE_DIR && n->size)
        check_damage(k, "directory %" PRIu64 " has content", n->ino);
    if (xattr.len && !xattr_valid(xattr))
        check_damage(k, "inode %" PRIu64 " has malformed extended attributes", n->ino);
    if (!n->live)
        return;
    if (root ? n->parent != 0 || n->name_len != 0 : name_check(n->parent, (struct store_bytes){n->name, n->name_len}) != 0)
        check_damage(k, "inode %" PRIu64 " has a name that is not allowed", n->ino);
    k->found.hash += hash_node(n);
    k->found.live_bytes += node_cost(n);
    if (store_ino_kind(n->ino) == STORE_DIR)
        k->found.n_dirs++;
    else if (store_ino_kind(n->ino) == STORE_SYMLINK)
        k->found.n_symlinks++;
    else
        k->found.n_files++;
}

static int check_rows(struct check *k)
{
    int err = 0;

    for (size_t i = 0; !err && i < k->n_inodes; i++) {
        struct check_inode *in = &k->inodes[i], *dir;
        struct node n;

        err = node_load(k->s, in->ino, &n);
        if (!err)
            check_one(k, &n);
        node_fini(&n);
        if (!in->live || in->ino == STORE_ROOT_INO)
            continue;
        dir = check_find(k, in->parent);
        if (!dir || !dir->live || store_ino_kind(in->parent) != STORE_DIR)
            check_damage(k, "inode %" PRIu64 " is in %" PRIu64 ", which is not a directory", in->ino, in->parent);
        else if (store_ino_kind(in->ino) == STORE_DIR)
            dir->subdirs++;
    }
    return err;
}

/* A way up that has not met the root after as many steps as there are inodes goes in a circle. */
static void check_connected(struct check *k, struct check_inode *in)
{
    struct check_inode *up = in;
    size_t steps = 0;

    while (up && up->live && !up->reached && up->ino != STORE_ROOT_INO && steps++ <= k->n_inodes)
        up = check_find(k, up->parent);
    if (!up || !up->live || (!up->reached && up->ino != STORE_ROOT_INO)) {
        check_damage(k, "inode %" PRIu64 " is not connected with the root", in->ino);
        return;
    }
    for (up = in; up && !up->reached; up = up->ino == STORE_ROOT_INO ? NULL : check_find(k, up->parent))
        up->reached = true;
}

int check_inodes(struct check *k)
{
    struct check_inode *root;
    int err = collect(k);

    if (!err)
        err = check_rows(k);
    if (err)
        return err;
    root = check_find(k, STORE_ROOT_INO);
    if (!root || !root->live)
        check_damage(k, "there is no root directory");
    for (size_t i = 0; i < k->n_inodes; i++) {
        struct check_inode *in = &k->inodes[i];
        int64_t want = !in->live ? 0 : store_ino_kind(in->ino) == STORE_DIR ? 2 + in->subdirs : 1;

        if (in->nlink != want)
            check_damage(k, "inode %" PRIu64 " has nlink %" PRIu32 " and should have %" PRId64, in->ino, in->nlink, want);
        if (in->live)
            check_connected(k, in);
    }
    return 0;
}

/* ---- Ended names --------------------------------------------------------------------------------------------------------- */

struct interval {
    uint64_t parent;
    uint8_t name[STORE_NAME_MAX];
    size_t name_len;
    int64_t to; /* revision at which it ended */
};

static bool same_name(const struct interval *i, uint64_t parent, struct store_bytes name)
{
    return i->parent == parent && i->name_len == name.len && !memcmp(i->name, name.data ? name.data : "", name.len);
}

static void check_interval(struct check *k, sqlite3_stmt *q, struct interval *last)
{
    struct store_bytes name = col_b(q, 1);
    int64_t from = col_i(q, 2), to = col_i(q, 3);
    uint64_t parent = col_u(q, 0), ino = col_u(q, 4);

    if (name_check(parent, name)) {
        check_damage(k, "an ended name of directory %" PRIu64 " is not allowed", parent);
        return;
    }
    if (from >= to || to > k->s->st.rev)
        check_damage(k, "name \"%.*s\" of directory %" PRIu64 " is said to have lasted from revision %" PRId64 " to %" PRId64, (int)name.len,
                     (const char *)name.data, parent, from, to);
    if (same_name(last, parent, name) && from < last->to)
        check_damage(k, "name \"%.*s\" of directory %" PRIu64 " had two inodes at revision %" PRId64, (int)name.len, (const char *)name.data, parent, from);
    if (!col_is_null(q, 5) && col_i(q, 5) < to)
        check_damage(k, "name \"%.*s\" of directory %" PRIu64 " had two inodes at revision %" PRId64, (int)name.len, (const char *)name.data, parent,
                     col_i(q, 5));
    if (to > k->s->st.compacted && !check_find(k, ino))
        check_damage(k, "name \"%.*s\" of directory %" PRIu64 " had inode %" PRIu64 ", of which nothing is left", (int)name.len,
                     (const char *)name.data, parent, ino);
    last->parent = parent;
    memcpy(last->name, name.data, name.len);
    last->name_len = name.len;
    last->to = to;
}

int check_names(struct check *k)
{
    struct interval last = {0};
    sqlite3_stmt *q;
    bool found;
    int err = check_query(k, "SELECT h.parent, h.name, h.from_rev, h.to_rev, h.ino, n.born FROM name_h h LEFT JOIN node n ON n.parent = h.parent "
                             "AND n.name = h.name ORDER BY h.parent, h.name, h.from_rev", &q);

    if (err)
        return err;
    while (!(err = conn_row(&k->s->conn, q, &found)) && found)
        check_interval(k, q, &last);
    sqlite3_finalize(q);
    return err;
}
