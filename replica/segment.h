/* segment: reads libraft's files in DIR/raft without libraft, to find damage that libraft would cut away silently, and to report.
 *
 * A closed segment is named FIRST-LAST (indexes, 16 digits), an open one open-N. Both begin with the format (1) in 8 bytes; then
 * come batches, one for each write; an open segment ends in the zero bytes it was allocated with. All numbers little endian:
 *
 *   4  CRC of the batch's header      4  CRC of its data
 *   8  n, the number of entries; then for each entry: 8 term, 1 type, 3 unused, 4 length       (the header)
 *      the entries' bytes, each padded to 8                                                     (the data)
 *
 * The CRC is the one with polynomial 04c11db7, most significant bit first, start 0, no final inversion.
 *
 * metadata1 and metadata2 are written in turn: 8 format (1), 8 version, 8 term, 8 vote. The higher version counts.
 * A snapshot is snapshot-TERM-INDEX-TIME, with snapshot-TERM-INDEX-TIME.meta beside it: 8 format (1), 8 CRC of what follows,
 * 8 index of the configuration, 8 its length, the configuration. */
#ifndef QFS_REPLICA_SEGMENT_H
#define QFS_REPLICA_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/buf.h"
#include "store/store.h"

uint32_t segment_crc32(const void *data, size_t len, uint32_t start);

enum segment_kind { SEGMENT_CLOSED, SEGMENT_OPEN, SEGMENT_SNAPSHOT_META };

struct segment_file {
    enum segment_kind kind;
    char name[80];
    uint64_t first, last; /* CLOSED: indexes; OPEN: first is the counter; SNAPSHOT_META: index in first */
    uint64_t term;        /* SNAPSHOT_META */
};

/* The files of raft/ in libraft's order: closed segments by index, open ones by counter, snapshots. Free with free(). */
int segment_list(const char *raft_dir, struct segment_file **out, size_t *n, struct buf *why);

enum segment_tail {
    SEGMENT_WHOLE,   /* ends where the file ends */
    SEGMENT_ZEROS,   /* ends in zero bytes, as an open segment does */
    SEGMENT_TORN,    /* the last write did not reach the disk whole: it was never acknowledged */
    SEGMENT_DAMAGED, /* something is wrong that no crash leaves */
};

struct segment_scan {
    uint64_t n_entries;           /* in sound batches from the start */
    uint64_t first_term, last_term; /* of these */
    uint64_t used_bytes, file_bytes; /* up to the end of the last sound batch; in all */
    enum segment_tail tail;
    uint64_t bad_at;              /* TORN, DAMAGED: where the first unsound byte range begins */
    char detail[96];              /* DAMAGED: what was seen */
};
/* Reads one segment. Entries must carry cluster_id (NULL: any). 0 also for a damaged one; QE_IO, QE_NOMEM when it cannot be read. */
int segment_scan(const char *raft_dir, const struct segment_file *file, const uint8_t *cluster_id, struct segment_scan *out);

struct segment_entry {
    uint64_t term;
    bool command;                    /* else a barrier or a change of the configuration */
    struct store_bytes data;         /* borrowed until the callback was told of the end of the segment */
};
/* The same, and hands each entry of the sound batches to the callback, in order, and after the last one NULL: until then the bytes of all of
 * them stay. Its error ends it. */
typedef int (*segment_entry_cb)(void *data, const struct segment_entry *e);
int segment_read(const char *raft_dir, const struct segment_file *file, const uint8_t *cluster_id, segment_entry_cb cb, void *data,
                 struct segment_scan *out);

struct segment_metadata {
    bool present;
    uint64_t version, term, vote;
};
/* Reads metadata1 and metadata2 and says whether they can be two successive states. QE_CORRUPT with a sentence. */
int segment_metadata(const char *raft_dir, struct segment_metadata m[2], struct buf *why);

/* Reads a snapshot's two files. QE_CORRUPT with a sentence; QE_NOENT: a crash came between the two, libraft does not use it. */
struct marker;
int segment_snapshot(const char *raft_dir, const struct segment_file *meta, struct marker *out, struct buf *why);

/* examine.c. Before libraft opens the directory: repairs what a crash in the middle of a truncation leaves, and refuses, with a sentence, what
 * libraft would drop or misread without a word. */
int segment_examine(const char *raft_dir, const uint8_t *cluster_id, struct buf *why);
/* The repairs alone. */
int segment_repair(const char *raft_dir, const uint8_t *cluster_id, struct buf *why);

#endif
