/* feed: the events of the store, on their way to the streams that are open.
 *
 * A thread of its own reads them, in pages, with a reader of its own. What is new goes once into the shared tail, a ring of blocks, and
 * from there to every stream that is up to date; a stream that is behind gets blocks of its own until it has caught up. A block has
 * whole revisions. A stream is a position in a block, so a thousand streams that show the same cost what one does.
 *
 * The tail is read while somebody is AT_TAIL; when nobody was, it begins anew where the next one comes to it.
 *
 *     AT_TAIL   has everything up to tail_rev (or up to `after`, if that is later)
 *        |  thread: an event of a new block is for it          ^
 *        v                                                     |  loop: the block is read, no newer one is there
 *     READING   somewhere in a block; belongs to the loop -----+
 *        ^                                                     |  loop: the block is read, and the next one has left the ring
 *        |  thread: a page with an event for it                v
 *     BEHIND    waits for the thread, which looks through page after page, in turn with the others that are behind
 *
 * CLOSED: whoever is the last to have it in hand frees it.
 * FAILED: QE_STALE, the events after `after` have been compacted; or what the store said.
 *
 * Streams that wait are told on the FUSE loop. Nothing here waits for the loop, and the loop waits for nothing. */
#ifndef QFS_FS_FEED_H
#define QFS_FS_FEED_H

#include <uthash.h>

#include "fs/fs.h"
#include "fs/perm.h"
#include "store/base/buf.h"

/* ---- Blocks (feed_block.c): immutable once made ------------------------------------------------------------------------------ */

enum { FEED_PATH_MAX = 4096 }; /* bytes of a stream's path */

struct feed_dir { /* a directory as it was when an event of the block happened */
    uint32_t up;      /* the one above it; the root's is its own */
    uint32_t mode, uid, gid;
    size_t name, name_len; /* in `text` */
};

/* A tree may be deeper than any path that a system call takes. So a directory has its name only, and of a path that is longer than FEED_PATH_MAX
 * the block has one byte more of it than that, then the last name. */
struct feed_place { /* of an event */
    uint32_t dir;      /* which of `dirs` has the name */
    size_t path, len;  /* in `text`; the whole length */
    size_t name_len;   /* of the last name */
};

struct feed_event {
    int64_t rev;
    enum store_event_op op;
    enum store_kind kind;
    struct feed_place now, was; /* `was`: a rename's */
    size_t cause, cause_len;    /* in `text` */
};

struct feed_block {
    uint64_t id;               /* never that of another one */
    size_t refs;               /* under the feed's lock */
    struct feed_block *next;   /* newer one in the ring */
    int64_t after, last;       /* it has the revisions after `after`, up to and including `last` */
    struct feed_event *events; /* owned */
    size_t n_events, cap_events;
    struct feed_dir *dirs;     /* owned */
    size_t n_dirs, cap_dirs;
    struct buf text;

    struct usage **users;      /* where it is charged to `uid`; NULL: nowhere, it is of the ring */
    uid_t uid;
    size_t charged;            /* bytes */
};

/* Directories as of the last event looked at, so that each is asked for once. */
struct feed_cache {
    struct feed_cached *dirs; /* by inode; owned */
    uint64_t generation;      /* indexes into a block are of this generation */
};
void feed_cache_clear(struct feed_cache *c);

/* Appends a name or a path as lines show it: on one line, whatever it has. 0 or QE_NOMEM. */
int feed_append_name(const char *p, size_t len, struct buf *out);

/* Reads the revisions after `after`, about FEED_PAGE events of them, or about 1 MiB. `cache` must be empty or left by the page before. 0, QE_STALE,
 * or what the store says; then `out` is untouched and the cache has to be cleared. */
enum { FEED_PAGE = 512 };
int feed_block_read(struct store_reader *reader, int64_t after, struct feed_cache *cache, struct feed_block **out);
void feed_block_free(struct feed_block *b);
size_t feed_block_bytes(const struct feed_block *b);
/* Counts a block as its user's, until it is freed. False: he has too much, or out of memory. Under the feed's lock (feed_limit.c). */
bool feed_block_charge(struct feed_block *b, struct usage **users, uid_t uid);
void feed_block_discharge(struct feed_block *b);

/* ---- What a stream shows (feed_block.c) -------------------------------------------------------------------------------------- */

struct feed_filter {
    char *path;      /* owned; without slashes at its ends; "": everything */
    size_t len;
    struct perm who; /* owned */
};

/* What of event `i` the filter lets through: both ends of a rename, or one. An event is for a stream when it is about the stream's name or
 * something below it; the rename of a directory also when it takes one above that name away, or brings one. A name is shown to those who could have
 * found it when the event happened: every directory on its way had to be searchable, and readable too if its entry's name is not in
 * the stream's own path. A rename of which one end is hidden is shown as what it is from the other: a deletion, or something new. */
enum feed_seen { FEED_HIDDEN = 0, FEED_OLD = 1, FEED_NEW = 2, FEED_BOTH = 3 };
struct feed_sight; /* NULL: every directory up to the root is looked at, each time */
enum feed_seen feed_sees(const struct feed_filter *f, const struct feed_block *b, size_t i, struct feed_sight *sight);
/* What was found out about the directories of one block for one filter, so that each is looked at once. {0}: nothing. */
struct feed_sight {
    const struct feed_filter *filter;
    uint64_t block;
    uint8_t *above; /* owned; by directory */
};
void feed_sight_clear(struct feed_sight *s); /* also before the filter goes */
/* Appends its line. 0 or QE_NOMEM. */
int feed_line(const struct feed_block *b, size_t i, enum feed_seen seen, struct buf *out);

/* ---- Streams (feed.c, feed_read.c) -------------------------------------------------------------------------------------------- */

enum feed_state { FEED_CLOSED, FEED_AT_TAIL, FEED_READING, FEED_BEHIND, FEED_FAILED };
struct feed_stream {
    /* Set before feed_open. */
    struct feed_filter filter;                  /* owned */
    void (*ready)(struct feed_stream *s);       /* FUSE loop: it was waiting, and feed_ready may have changed */

    /* Under the feed's lock; the second group belongs to the loop while the state is READING. */
    _Atomic enum feed_state state;
    bool waiting;                               /* `ready` is to be called */
    bool queued;                                /* for `ready` */
    bool busy;                                  /* the thread has a page of it in hand */
    struct feed_stream *next_ready, *next_behind;
    struct feed_stream *prev_same, *next_same;  /* others of the same path */
    UT_hash_handle hh;                          /* the first of its path: in by_path */

    int64_t after;                              /* AT_TAIL, BEHIND: it has had everything up to here */
    struct feed_block *block;                   /* READING: a reference */
    size_t at, line_off;                        /* the next event, and how much of its line has been read */
    int err;                                    /* FAILED */
};

/* `after` < 0: what comes from now on. The feed begins with the first stream. 0; QE_RANGE: of the future; QE_STALE: compacted; QE_NOMEM.
 * FUSE loop, as all that follow. */
int feed_open(struct fs *fs, struct feed_stream *s, int64_t after);
void feed_close(struct fs *fs, struct feed_stream *s); /* frees it, now or when the thread lets go of it */

/* Appends what there is, at most `size` bytes: whole revisions if the first fits, else whole lines if one fits, else a part of one.
 * Nothing appended and 0: nothing yet (or, when the member stops, the end). QE_STALE and others as above. */
int feed_read(struct fs *fs, struct feed_stream *s, size_t size, struct buf *out);
/* True: feed_read has something to say. False: `ready` will be called. */
bool feed_ready(struct fs *fs, struct feed_stream *s);
/* Between two lines of one revision, or within one. */
bool feed_amid(const struct feed_stream *s);
/* What was READING ends with its revision, everything else now. */
void feed_stop(struct fs *fs);
bool feed_stopped(const struct fs *fs);

/* For feed_read.c. The block is read. True: there is another one. Else the stream may be the thread's from here on, and its state is not looked at. */
bool feed_next_block(struct fs *fs, struct feed_stream *s);
/* Forgets what is known for the stream. */
void feed_forget(const struct feed_stream *s);
/* False: the state is the loop's business; else the stream is marked as one that waits. */
bool feed_wait(struct fs *fs, struct feed_stream *s);

/* Any thread: the store has applied up to `rev`. */
void feed_changed(struct fs *fs, int64_t rev);
/* While somebody writes: for how long no page is read for those that are behind, so that he has the processor and the loop to himself. The last page
 * took work_ns and covered so many revisions (of each stream that is behind); so many were written in since_ns. */
int64_t feed_rest_ns(int64_t work_ns, int64_t covered, int64_t written, int64_t since_ns);
/* For metrics. */
size_t feed_count(struct fs *fs);
/* None will be read any more: ends the thread, before its store may be closed. Then, when all streams are closed, frees the rest. */
void feed_end(struct fs *fs);
void feed_free(struct fs *fs);

#endif
