/* A reader, for the files that read with one. */
#ifndef QFS_STORE_READER_H
#define QFS_STORE_READER_H

#include "store/internal.h"

struct store_reader {
    struct store *store;    /* borrowed */
    uint64_t generation;    /* of the database that `conn` has open */
    struct conn conn;       /* the reader's thread only */
    bool begun;             /* between store_read_begin and store_read_end */
    int depth;              /* functions at work: a callback may read, too */
    int64_t rev, compacted; /* of the transaction begun */
};

/* Each public function is reader_open_at ... reader_close_at: within the transaction begun, or one of its own. `at` becomes STORE_HEAD
 * when it names the newest revision. */
int reader_open_at(struct store_reader *r, int64_t *at);
void reader_close_at(struct store_reader *r);

#endif
