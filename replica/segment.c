#include "replica/segment.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replica/dir.h"
#include "replica/marker.h"
#include "store/base/err.h"

enum {
    FORMAT = 1,            /* of every file of libraft's */
    HEAD = 8,              /* bytes of a file's format number */
    BLOCK = 4096,          /* libraft writes whole blocks, padded with zero bytes */
    ENTRIES_MAX = 1 << 18, /* in a batch; more can only be damage */
    METADATA_SIZE = 32,
    TYPE_COMMAND = 1,      /* entry types of libraft */
    TYPE_CHANGE = 3,
    FILE_BYTES_MAX = 256 << 20, /* no file of libraft's comes near it */
};

/* ---- CRC ----------------------------------------------------------------------------------------------------------------- */

static uint32_t crc_table[256];
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;

static void crc_init(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i << 24;

        for (int bit = 0; bit < 8; bit++)
            c = c & 0x80000000u ? c << 1 ^ 0x04c11db7u : c << 1;
        crc_table[i] = c;
    }
}

uint32_t segment_crc32(const void *data, size_t len, uint32_t start)
{
    const uint8_t *p = data;
    uint32_t crc = start;

    pthread_once(&crc_once, crc_init);
    while (len--)
        crc = crc << 8 ^ crc_table[(crc >> 24 ^ *p++) & 255];
    return crc;
}

/* ---- Names --------------------------------------------------------------------------------------------------------------- */

static bool parse_name(const char *name, struct segment_file *f)
{
    unsigned long long a, b, c;
    int end = 0;

    memset(f, 0, sizeof *f);
    if (strlen(name) >= sizeof f->name)
        return false;
    memcpy(f->name, name, strlen(name));
    if (sscanf(name, "%llu-%llu%n", &a, &b, &end) == 2 && !name[end]) {
        f->kind = SEGMENT_CLOSED;
        f->first = a;
        f->last = b;
        return true;
    }
    if (sscanf(name, "open-%llu%n", &a, &end) == 1 && !name[end]) {
        f->kind = SEGMENT_OPEN;
        f->first = a;
        return true;
    }
    end = 0;
    if (sscanf(name, "snapshot-%llu-%llu-%llu.meta%n", &a, &b, &c, &end) == 3 && end > 0 && !name[end]) {
        f->kind = SEGMENT_SNAPSHOT_META;
        f->term = a;
        f->first = b;
        return true;
    }
    return false;
}

static int compare_files(const void *a, const void *b)
{
    const struct segment_file *x = a, *y = b;

    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    if (x->kind == SEGMENT_SNAPSHOT_META && x->term != y->term)
        return x->term < y->term ? -1 : 1;
    if (x->first != y->first)
        return x->first < y->first ? -1 : 1;
    return x->last < y->last ? -1 : x->last > y->last;
}

int segment_list(const char *raft_dir, struct segment_file **out, size_t *n, struct buf *why)
{
    DIR *d = opendir(raft_dir);
    struct segment_file *files = NULL, f;
    size_t count = 0, cap = 0;
    struct dirent *e;

    if (!d) {
        buf_printf(why, "cannot read \"%s\": %s", raft_dir, strerror(errno));
        return errno == ENOENT ? QE_CORRUPT : QE_IO;
    }
    while ((e = readdir(d)) != NULL) {
        if (!parse_name(e->d_name, &f))
            continue;
        if (count == cap) {
            struct segment_file *more = realloc(files, (cap + 64) * sizeof *files);

            if (!more) {
                free(files);
                closedir(d);
                return QE_NOMEM;
            }
            files = more;
            cap += 64;
        }
        files[count++] = f;
    }
    closedir(d);
    if (count)
        qsort(files, count, sizeof *files, compare_files);
    *out = files;
    *n = count;
    return 0;
}

/* ---- One segment --------------------------------------------------------------------------------------------------------- */

static uint64_t get(const uint8_t *p, int bytes)
{
    uint64_t v = 0;

    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static bool all_zero(const uint8_t *p, size_t len)
{
    return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

enum batch_state { BATCH_SOUND, BATCH_BAD_DATA /* sound header */, BATCH_BAD };

struct batch {
    uint64_t n, first_term, last_term;
    size_t size;         /* in all; for SOUND and BAD_DATA */
    bool foreign;        /* SOUND: a command of another cluster, or one that is damaged inside */
};

static enum batch_state read_batch(const uint8_t *p, size_t left, const uint8_t *cluster_id, struct batch *b)
{
    size_t header, data = 0;
    const uint8_t *entry;
    uint32_t crc;

    memset(b, 0, sizeof *b);
    if (left < 16 || (b->n = get(p + 8, 8)) == 0 || b->n > ENTRIES_MAX)
        return BATCH_BAD;
    header = 8 + 16 * (size_t)b->n;
    if (left < 8 + header || segment_crc32(p + 8, header, 0) != get(p, 4))
        return BATCH_BAD;
    for (uint64_t i = 0; i < b->n; i++) {
        entry = p + 16 + 16 * i;
        if (entry[8] < TYPE_COMMAND || entry[8] > TYPE_CHANGE)
            return BATCH_BAD;
        data += (get(entry + 12, 4) + 7) & ~UINT64_C(7);
    }
    b->first_term = get(p + 16, 8);
    b->last_term = get(p + 16 + 16 * (b->n - 1), 8);
    b->size = 8 + header + data;
    if (left < b->size || segment_crc32(p + 8 + header, data, 0) != get(p + 4, 4))
        return BATCH_BAD_DATA;
    entry = p + 8 + header;
    for (uint64_t i = 0; i < b->n; i++) {
        size_t len = get(p + 16 + 16 * i + 12, 4);

        if (p[16 + 16 * i + 8] == TYPE_COMMAND && store_entry_check(entry, len, cluster_id, &crc))
            b->foreign = true;
        entry += (len + 7) & ~(size_t)7;
    }
    return BATCH_SOUND;
}

/* A write that tore leaves nothing behind it: the next write comes only when it is complete. So a sound batch of our own cluster
 * further on, or anything beyond the last block of a batch whose length is known, shows that what stands here was once whole. */
static void judge_tail(const uint8_t *data, size_t len, size_t at, enum batch_state state, const struct batch *bad,
                       const uint8_t *cluster_id, struct segment_scan *out)
{
    struct batch b;

    out->bad_at = at;
    out->tail = SEGMENT_TORN;
    if (state == BATCH_BAD_DATA && at + bad->size <= len) {
        size_t end = (at + bad->size + BLOCK - 1) / BLOCK * BLOCK;

        if (end < len && !all_zero(data + end, len - end)) {
            out->tail = SEGMENT_DAMAGED;
            snprintf(out->detail, sizeof out->detail, "the entries at byte %zu are damaged, and more follow", at);
            return;
        }
    }
    for (size_t p = at + 8; p + 32 <= len; p += 8) {
        if (get(data + p + 8, 8) - 1 >= ENTRIES_MAX) /* quick: most of the file is zero */
            continue;
        if (read_batch(data + p, len - p, cluster_id, &b) == BATCH_SOUND && !b.foreign) {
            out->tail = SEGMENT_DAMAGED;
            snprintf(out->detail, sizeof out->detail, "the entries at byte %zu are damaged, and sound ones follow at byte %zu", at, p);
            return;
        }
    }
}

static int tell_batch(const uint8_t *p, const struct batch *b, segment_entry_cb cb, void *data)
{
    const uint8_t *bytes = p + 16 + 16 * b->n;
    int err = 0;

    for (uint64_t i = 0; !err && i < b->n; i++) {
        const uint8_t *head = p + 16 + 16 * i;
        struct segment_entry e = {.term = get(head, 8), .command = head[8] == TYPE_COMMAND, .data = {bytes, get(head + 12, 4)}};

        err = cb(data, &e);
        bytes += (e.data.len + 7) & ~(size_t)7;
    }
    return err;
}

static int tell_entries(const uint8_t *data, const struct segment_scan *s, segment_entry_cb cb, void *arg)
{
    struct batch b;
    int err = 0;

    for (size_t at = HEAD; !err && at < s->used_bytes; at += b.size) {
        (void)read_batch(data + at, s->used_bytes - at, NULL, &b); /* it is sound */
        err = tell_batch(data + at, &b, cb, arg);
    }
    return err ? err : cb(arg, NULL);
}

static void scan_content(const struct segment_file *file, const uint8_t *data, size_t len, const uint8_t *cluster_id,
                         struct segment_scan *out)
{
    size_t at = HEAD;
    struct batch b;
    enum batch_state state;

    out->file_bytes = len;
    if (file->kind == SEGMENT_OPEN && all_zero(data, len)) {
        out->tail = SEGMENT_ZEROS; /* allocated, not used yet */
        return;
    }
    if (len < HEAD || get(data, 8) != FORMAT) {
        out->tail = SEGMENT_DAMAGED;
        snprintf(out->detail, sizeof out->detail, "its format number is wrong");
        return;
    }
    out->used_bytes = at;
    while (at < len) {
        state = read_batch(data + at, len - at, cluster_id, &b);
        if (state != BATCH_SOUND) {
            if (all_zero(data + at, len - at))
                out->tail = SEGMENT_ZEROS;
            else
                judge_tail(data, len, at, state, &b, cluster_id, out);
            return;
        }
        if (b.foreign && out->tail != SEGMENT_DAMAGED) {
            out->tail = SEGMENT_DAMAGED;
            out->bad_at = at;
            snprintf(out->detail, sizeof out->detail, "the entry at byte %zu is damaged or of another cluster", at);
            return;
        }
        if (out->n_entries == 0)
            out->first_term = b.first_term;
        out->last_term = b.last_term;
        out->n_entries += b.n;
        at += b.size;
        out->used_bytes = at;
    }
    out->tail = SEGMENT_WHOLE;
}

/* A closed segment was cut to its entries, and its name says which they are. */
static void judge_closed(const struct segment_file *file, struct segment_scan *out)
{
    if (out->tail != SEGMENT_WHOLE)
        snprintf(out->detail, sizeof out->detail, "the entries at byte %" PRIu64 " are damaged",
                 out->tail == SEGMENT_TORN ? out->bad_at : out->used_bytes);
    else if (out->n_entries != file->last - file->first + 1)
        snprintf(out->detail, sizeof out->detail, "it holds %" PRIu64 " entries", out->n_entries);
    else
        return;
    out->tail = SEGMENT_DAMAGED;
}

int segment_read(const char *raft_dir, const struct segment_file *file, const uint8_t *cluster_id, segment_entry_cb cb, void *data,
                 struct segment_scan *out)
{
    struct buf content = {0};
    int err = dir_read_file(raft_dir, file->name, FILE_BYTES_MAX, &content);

    memset(out, 0, sizeof *out);
    if (!err) {
        scan_content(file, content.data, content.len, cluster_id, out);
        if (file->kind == SEGMENT_CLOSED && out->tail != SEGMENT_DAMAGED)
            judge_closed(file, out);
        if (cb)
            err = tell_entries(content.data, out, cb, data);
    }
    buf_fini(&content);
    return err;
}

int segment_scan(const char *raft_dir, const struct segment_file *file, const uint8_t *cluster_id, struct segment_scan *out)
{
    return segment_read(raft_dir, file, cluster_id, NULL, NULL, out);
}

/* ---- Metadata and snapshots ---------------------------------------------------------------------------------------------- */

static int read_metadata(const char *raft_dir, const char *name, struct segment_metadata *m, struct buf *why)
{
    struct buf text = {0};
    int err = dir_read_file(raft_dir, name, METADATA_SIZE, &text);

    memset(m, 0, sizeof *m);
    if (err == QE_NOENT || (!err && text.len < METADATA_SIZE)) { /* short: a crash while it was first made */
        buf_fini(&text);
        return 0;
    }
    if (!err && get(text.data, 8) == FORMAT && get(text.data + 8, 8) != 0) {
        m->present = true;
        m->version = get(text.data + 8, 8);
        m->term = get(text.data + 16, 8);
        m->vote = get(text.data + 24, 8);
    } else if (!err || err == QE_RANGE) {
        buf_printf(why, "\"%s/%s\" is damaged", raft_dir, name);
        err = QE_CORRUPT;
    } else {
        buf_printf(why, "cannot read \"%s/%s\": %s", raft_dir, name, qfs_strerror(err));
    }
    buf_fini(&text);
    return err;
}

/* metadata1 takes the odd versions and metadata2 the even ones; terms only grow. */
int segment_metadata(const char *raft_dir, struct segment_metadata m[2], struct buf *why)
{
    const struct segment_metadata *old = &m[0], *new = &m[1];
    int err = read_metadata(raft_dir, "metadata1", &m[0], why);

    if (!err)
        err = read_metadata(raft_dir, "metadata2", &m[1], why);
    if (err)
        return err;
    if (!m[0].present || (!m[1].present && m[0].version != 1)) {
        buf_printf(why, "\"%s/metadata%d\" is missing", raft_dir, m[0].present ? 2 : 1);
        return QE_CORRUPT;
    }
    if (!m[1].present)
        return 0;
    if (m[0].version > m[1].version) {
        old = &m[1];
        new = &m[0];
    }
    if (m[0].version % 2 == 1 && m[1].version % 2 == 0 && new->version == old->version + 1 && new->term >= old->term)
        return 0;
    buf_printf(why, "\"%s/metadata1\" (version %" PRIu64 ", term %" PRIu64 ") and \"metadata2\" (version %" PRIu64 ", term %" PRIu64
               ") do not follow each other: one of them is damaged", raft_dir, m[0].version, m[0].term, m[1].version, m[1].term);
    return QE_CORRUPT;
}

int segment_snapshot(const char *raft_dir, const struct segment_file *meta, struct marker *out, struct buf *why)
{
    struct buf head = {0}, data = {0};
    char name[sizeof meta->name];
    int err = dir_read_file(raft_dir, meta->name, 1 << 20, &head);
    size_t conf;

    if (!err) {
        conf = head.len >= 32 ? (size_t)get(head.data + 24, 8) : 0;
        if (head.len < 32 || get(head.data, 8) != FORMAT || conf == 0 || conf != head.len - 32 ||
            get(head.data + 8, 8) != segment_crc32(head.data + 16, head.len - 16, 0)) {
            buf_printf(why, "\"%s/%s\" is damaged", raft_dir, meta->name);
            err = QE_CORRUPT;
        }
    }
    snprintf(name, sizeof name, "%s", meta->name);
    name[strlen(name) - strlen(".meta")] = 0;
    if (!err)
        err = dir_read_file(raft_dir, name, 1 << 20, &data);
    if (err == QE_NOENT)
        goto out;
    if (!err && (marker_decode(data.data, data.len, out) || out->index != meta->first || out->term != meta->term)) {
        buf_printf(why, "\"%s/%s\" is damaged", raft_dir, name);
        err = QE_CORRUPT;
    }
    if (err && why->len == 0)
        buf_printf(why, "cannot read \"%s/%s\": %s", raft_dir, name, qfs_strerror(err));
out:
    buf_fini(&head);
    buf_fini(&data);
    return err;
}
