/* What the replayer has to tell, in order: items, and which of them may run now. FUSE loop only.
 *
 * An item touches up to four nodes: the directories, what is bound there, what was replaced. Items that have a node in common run in the
 * order of their revisions, others in any order. A node that a local operation holds (its kernel lock, while it waits for a
 * command) lets no item run: the replayer would wait for that lock, and with it all that stands behind. */
#ifndef QFS_FS_REPLAY_QUEUE_H
#define QFS_FS_REPLAY_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

enum replay_kind {
    REPLAY_FILE,     /* a file with its content */
    REPLAY_NAME,     /* the name of a file alone */
    REPLAY_CONTENT,
    REPLAY_MKDIR,
    REPLAY_SYMLINK,
    REPLAY_UNLINK,
    REPLAY_RMDIR,
    REPLAY_RENAME,
    REPLAY_EXCHANGE,
    REPLAY_ATTRIB,
};

struct replay_key;
struct replay_item;

struct replay_link { /* an item's place in the line of one node */
    struct replay_item *item;
    struct replay_key *key;
    struct replay_link *prev, *next;
    bool ends;                            /* the item takes a name of the node away: */
    struct replay_link *prev_end, *next_end; /* the others in the line that do */
};

enum { REPLAY_KEYS_MAX = 4 };
struct replay_item {
    int64_t rev;
    int64_t applied_ns;       /* when the store had it */
    enum replay_kind kind;
    uint64_t ino;             /* whose change it is; CONTENT: or the node of a control file */
    uint64_t other;           /* RENAME: the inode that was replaced, or 0; EXCHANGE: the other one */
    uint64_t parent;          /* the binding: the new one, or the one that ended; CONTENT, ATTRIB: as of its revision */
    uint64_t old_parent;      /* RENAME, EXCHANGE: from where */
    char *name, *old_name;    /* in the item's own memory */
    size_t bytes;             /* of memory */
    unsigned tries;           /* how often it was planned */
    bool running;             /* a worker has it */
    bool done;                /* and its call has been answered */
    int64_t rests_ns;         /* since when it could not be told now; 0: it could */

    /* The queue's own. */
    bool listed;              /* in the list of what may run */
    struct replay_item *next_ready; /* there; while it rests, in the list of those */
    size_t n_links;
    struct replay_link links[REPLAY_KEYS_MAX];
};

struct replay_key {
    uint64_t node; /* key */
    struct replay_link *head, *tail;
    struct replay_link *first_end, *last_end; /* few, where a directory's line may be long */
    size_t held;   /* local operations that hold it */
    UT_hash_handle hh;
};

struct replay_queue {
    struct replay_key *keys;
    struct replay_item *ready, **ready_tail;
    size_t n, bytes;
    size_t n_names; /* of n: those that change names */
    size_t n_moves; /* of n: those that move directories to other directories */
};

void replay_queue_init(struct replay_queue *q);
void replay_queue_fini(struct replay_queue *q); /* frees all items */

/* A new item that is in no queue yet; the names are copied. NULL: out of memory. */
struct replay_item *replay_item_new(const struct replay_item *from, const void *name, size_t len, const void *old_name, size_t old_len);
void replay_item_free(struct replay_item *item); /* NULL is fine */
/* Whether it moves directory `dir` (0: any) to another directory. */
bool replay_item_moves(const struct replay_item *item, uint64_t dir);

/* Takes the item over, behind all others. 0 or QE_NOMEM, then it is the caller's. */
int replay_queue_add(struct replay_queue *q, struct replay_item *item);
/* An item that may run, now `running`, or NULL. It stays in its lines until it is removed. */
struct replay_item *replay_queue_take(struct replay_queue *q);
/* It has to run again. */
void replay_queue_return(struct replay_queue *q, struct replay_item *item);
/* Done with it: frees it. */
void replay_queue_remove(struct replay_queue *q, struct replay_item *item);
/* The line of a node: its first link, or NULL. */
struct replay_link *replay_queue_line(struct replay_queue *q, uint64_t node);
struct replay_link *replay_queue_last(struct replay_queue *q, uint64_t node);
/* The first in it that takes a name of the node away, by a removal or a rename; others follow by next_end. */
struct replay_link *replay_queue_ends(struct replay_queue *q, uint64_t node);
/* A local operation holds the node, or does no more. Out of memory: nothing is held back. */
void replay_queue_hold(struct replay_queue *q, uint64_t node);
void replay_queue_let_go(struct replay_queue *q, uint64_t node);

#endif
