/* Copies of the whole database, made while it is in use.
 *
 *     store thread    store_export_begin: a checkpoint brings all that is committed into the database file. Until the copy is done no
 *                     checkpoint runs: commits go to the WAL and the file stays as it is, at one revision.
 *     any thread      store_export_copy: reads the file from its begin to its end, through a descriptor that the store keeps for life
 *                     (closing another one would drop the locks that SQLite has in this process).
 *     any thread      store_export_end: checkpoints may run again.
 *
 * The WAL grows meanwhile. When it reaches STORE_EXPORT_WAL_FACTOR times its limit, writing matters more: store_maintain takes the file
 * back, the copy sees that after the piece it was reading, and fails with QE_AGAIN.
 *
 * The copy says in its header that it has a rollback journal and not a WAL: it is one file, for any program. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/base/failpoint.h"
#include "store/internal.h"

enum { PIECE = 1 << 20, HEADER_WRITE_VERSION = 18, HEADER_READ_VERSION = 19, ROLLBACK_JOURNAL = 1 };

/* One word tells how many copies are under way and how often the file was taken back from them. */
enum { COUNT_BITS = 8 };
static uint64_t turn_of(uint64_t word) { return word >> COUNT_BITS; }
static int count_of(uint64_t word) { return (int)(word & ((1 << COUNT_BITS) - 1)); }

int exports(const struct store *s)
{
    return count_of(atomic_load(&s->exports));
}

static int whole_checkpoint(struct store *s)
{
    int total = 0, copied = 0, rc = sqlite3_wal_checkpoint_v2(s->conn.db, "main", SQLITE_CHECKPOINT_FULL, &total, &copied);

    if (rc == SQLITE_BUSY || (rc == SQLITE_OK && copied != total))
        return QE_AGAIN; /* a reader is on old frames */
    return rc ? conn_error(&s->conn, rc) : 0;
}

int store_export_begin(struct store *s, struct store_export *out)
{
    struct stat st;
    int err = 0;

    if (exports(s) == 0)
        err = FAILPOINT("store.export") ? QE_IO : whole_checkpoint(s);
    else if (exports(s) >= STORE_EXPORTS_MAX)
        err = QE_BUSY;
    else if (s->st.applied != s->export_applied || s->st.rev != s->export_rev)
        err = QE_AGAIN; /* the file is kept at an older revision; when that copy is done there will be a newer one */
    if (!err && fstat(s->copy_fd, &st))
        err = QE_IO;
    if (err)
        return err;
    *out = (struct store_export){.rev = s->st.rev, .hash = hash_state(&s->st), .bytes = st.st_size, .turn = turn_of(atomic_load(&s->exports))};
    store_position(s, &out->position);
    s->export_applied = s->st.applied;
    s->export_rev = s->st.rev;
    atomic_fetch_add(&s->exports, 1);
    return 0;
}

void store_export_end(struct store *s, const struct store_export *x)
{
    uint64_t word = atomic_load(&s->exports);

    while (turn_of(word) == x->turn && !atomic_compare_exchange_weak(&s->exports, &word, word - 1))
        ;
}

void export_revoke(struct store *s)
{
    uint64_t word = atomic_load(&s->exports);

    while (!atomic_compare_exchange_weak(&s->exports, &word, (turn_of(word) + 1) << COUNT_BITS))
        ;
}

static int errno_code(void)
{
    return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? QE_DISKFULL : errno == ENOMEM ? QE_NOMEM : QE_IO;
}

static int read_piece(struct store *s, const struct store_export *x, int64_t off, uint8_t *to, size_t *len)
{
    size_t want = x->bytes - off < PIECE ? (size_t)(x->bytes - off) : PIECE;
    ssize_t n;

    for (*len = 0; *len < want; *len += (size_t)n) {
        n = pread(s->copy_fd, to + *len, want - *len, off + (int64_t)*len);
        if (n <= 0)
            return QE_IO; /* the file does not become shorter */
    }
    return turn_of(atomic_load(&s->exports)) == x->turn ? 0 : QE_AGAIN;
}

static int write_piece(int fd, const uint8_t *from, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = write(fd, from + done, len - done);

        if (n < 0 && errno != EINTR)
            return errno_code();
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int store_export_copy(struct store *s, const struct store_export *x, int fd, bool (*go_on)(void *data), void *data)
{
    uint8_t *piece = malloc(PIECE);
    size_t len = 0;
    int err = piece ? 0 : QE_NOMEM;

    for (int64_t off = 0; !err && off < x->bytes; off += (int64_t)len) {
        err = go_on && !go_on(data) ? QE_SHUTDOWN : read_piece(s, x, off, piece, &len);
        if (!err && off == 0)
            piece[HEADER_WRITE_VERSION] = piece[HEADER_READ_VERSION] = ROLLBACK_JOURNAL;
        if (!err)
            err = write_piece(fd, piece, len);
    }
    free(piece);
    return err;
}
