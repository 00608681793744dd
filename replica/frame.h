/* frame: what passes between members is cut into frames: a header of fixed size, a head (a message of peer.proto) and a payload (bytes
 * as they are: entries, a snapshot, a command, a piece of a database).
 *
 *   4  "QFS1"
 *   1  type (enum frame_type)          3  zero
 *   4  length of the head              4  length of the payload          (little endian)
 *   4  crc32c of head and payload      4  crc32c of the 20 bytes above
 *
 * A reader believes nothing: what is longer than its limits, of a type that is not due, or damaged, ends the connection. It
 * allocates for a frame only after the frame's header was found right. */
#ifndef QFS_REPLICA_FRAME_H
#define QFS_REPLICA_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

enum frame_type { FRAME_HELLO = 1, FRAME_WELCOME = 2, FRAME_RAFT = 3, FRAME_PEER = 4 };

enum {
    FRAME_HEADER_SIZE = 24,
    FRAME_HEAD_MAX = 64 << 10,
    FRAME_PAYLOAD_MAX = 17 << 20,  /* the largest value and what surrounds it in an entry */
    FRAME_GREETING_MAX = 1024,     /* the head of Hello and Welcome */
};

/* Fills in the header of a frame with this head and a payload in `n` pieces. The caller keeps to the limits. */
void frame_header(uint8_t header[FRAME_HEADER_SIZE], enum frame_type type, const void *head, size_t head_len, const uv_buf_t *payload,
                  unsigned n);

struct frame {
    enum frame_type type;
    const uint8_t *head; /* the reader's, for the call */
    size_t head_len;
    uint8_t *payload;    /* raft_malloc; the reader frees it after the call, unless the callee has taken it and set this to NULL */
    size_t payload_len;
};

struct frame_reader {
    size_t head_max, payload_max; /* may be changed between frames */
    unsigned types;               /* that may come: bits 1 << enum frame_type */
    enum { FRAME_AT_HEADER, FRAME_AT_HEAD, FRAME_AT_PAYLOAD } at;
    uint8_t header[FRAME_HEADER_SIZE];
    size_t have;                  /* bytes of the part that is being read */
    size_t head_len, payload_len; /* of the frame that is being read */
    uint8_t *head;                /* owned, head_cap bytes */
    size_t head_cap;
    uint8_t *payload;             /* owned: raft_malloc */
    uint8_t *chunk;               /* owned: where small reads go */
    bool direct;                  /* the last space given was inside `payload` */
};

void frame_reader_init(struct frame_reader *r);
void frame_reader_fini(struct frame_reader *r);
/* Where the next bytes should be read to. *len is 0 when there is no memory. */
void frame_reader_space(struct frame_reader *r, uint8_t **at, size_t *len);
/* `n` bytes were read into that space. Calls `whole` for each frame that is complete; when it returns other than 0 the rest is left
 * alone and that is returned (the reader is of no use then). QE_CORRUPT with a text in *why, QE_NOMEM. */
typedef int (*frame_cb)(void *data, struct frame *f);
int frame_reader_got(struct frame_reader *r, size_t n, frame_cb whole, void *data, const char **why);

#endif
