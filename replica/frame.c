#include "replica/frame.h"

#include <raft.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/crc32c.h"
#include "store/base/err.h"

enum { CHUNK_BYTES = 16 << 10 }; /* for one read: holds many small frames */

static const uint8_t magic[4] = "QFS1";

static void put32(uint8_t *at, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(v >> 8 * i);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

void frame_header(uint8_t header[FRAME_HEADER_SIZE], enum frame_type type, const void *head, size_t head_len, const uv_buf_t *payload,
                  unsigned n)
{
    uint32_t crc = crc32c(0, head, head_len);
    size_t len = 0;

    for (unsigned i = 0; i < n; i++) {
        crc = crc32c(crc, payload[i].base, payload[i].len);
        len += payload[i].len;
    }
    memcpy(header, magic, 4);
    put32(header + 4, (uint32_t)type);
    put32(header + 8, (uint32_t)head_len);
    put32(header + 12, (uint32_t)len);
    put32(header + 16, crc);
    put32(header + 20, crc32c(0, header, 20));
}

void frame_reader_init(struct frame_reader *r)
{
    memset(r, 0, sizeof *r);
}

void frame_reader_fini(struct frame_reader *r)
{
    free(r->head);
    raft_free(r->payload);
    free(r->chunk);
    memset(r, 0, sizeof *r);
}

/* Large payloads are read to where they stay; everything else goes through the chunk, many frames at a time. */
void frame_reader_space(struct frame_reader *r, uint8_t **at, size_t *len)
{
    r->direct = r->at == FRAME_AT_PAYLOAD && r->payload_len - r->have >= CHUNK_BYTES;
    if (r->direct) {
        *at = r->payload + r->have;
        *len = r->payload_len - r->have;
        return;
    }
    if (!r->chunk)
        r->chunk = malloc(CHUNK_BYTES);
    *at = r->chunk;
    *len = r->chunk ? CHUNK_BYTES : 0;
}

static int check_header(struct frame_reader *r, const char **why)
{
    uint32_t type = get32(r->header + 4);

    r->head_len = get32(r->header + 8);
    r->payload_len = get32(r->header + 12);
    if (memcmp(r->header, magic, sizeof magic) != 0)
        *why = "it does not speak the protocol of members";
    else if (crc32c(0, r->header, 20) != get32(r->header + 20))
        *why = "the checksum of a header is wrong";
    else if (type >= 32 || !(r->types & 1u << type))
        *why = "a frame of a kind that is not due";
    else if (r->head_len > r->head_max || r->payload_len > r->payload_max)
        *why = "an oversized frame";
    else
        return 0;
    return QE_CORRUPT;
}

/* The header is right: memory for what follows. */
static int prepare(struct frame_reader *r)
{
    if (r->head_len > r->head_cap) {
        uint8_t *head = realloc(r->head, r->head_len);

        if (!head)
            return QE_NOMEM;
        r->head = head;
        r->head_cap = r->head_len;
    }
    if (r->payload_len > 0) {
        r->payload = raft_malloc(r->payload_len);
        if (!r->payload)
            return QE_NOMEM;
    }
    return 0;
}

static int deliver(struct frame_reader *r, frame_cb whole, void *data, const char **why)
{
    struct frame f = {(enum frame_type)get32(r->header + 4), r->head, r->head_len, r->payload, r->payload_len};
    uint32_t crc = crc32c(0, r->head, r->head_len);
    int rv;

    if (r->payload_len > 0)
        crc = crc32c(crc, r->payload, r->payload_len);
    if (crc != get32(r->header + 16)) {
        *why = "the checksum of a frame is wrong";
        return QE_CORRUPT;
    }
    rv = whole(data, &f);
    if (!f.payload)
        r->payload = NULL; /* taken */
    raft_free(r->payload);
    r->payload = NULL;
    r->at = FRAME_AT_HEADER;
    return rv;
}

/* The part that was being read is complete: goes on to the next that is not empty. */
static int advance(struct frame_reader *r, frame_cb whole, void *data, const char **why)
{
    int err;

    r->have = 0;
    if (r->at == FRAME_AT_HEADER) {
        err = check_header(r, why);
        if (!err)
            err = prepare(r);
        if (err)
            return err;
        r->at = FRAME_AT_HEAD;
        if (r->head_len > 0)
            return 0;
    }
    if (r->at == FRAME_AT_HEAD) {
        r->at = FRAME_AT_PAYLOAD;
        if (r->payload_len > 0)
            return 0;
    }
    return deliver(r, whole, data, why);
}

static uint8_t *part(struct frame_reader *r, size_t *len)
{
    switch (r->at) {
    case FRAME_AT_HEADER: *len = sizeof r->header; return r->header;
    case FRAME_AT_HEAD: *len = r->head_len; return r->head;
    default: *len = r->payload_len; return r->payload;
    }
}

int frame_reader_got(struct frame_reader *r, size_t n, frame_cb whole, void *data, const char **why)
{
    const uint8_t *at = r->chunk;
    int err = 0;

    if (r->direct) {
        r->have += n;
        return r->have == r->payload_len ? advance(r, whole, data, why) : 0;
    }
    while (n > 0 && !err) {
        size_t len, k;
        uint8_t *to = part(r, &len);

        k = len - r->have < n ? len - r->have : n;
        memcpy(to + r->have, at, k);
        r->have += k;
        at += k;
        n -= k;
        if (r->have == len)
            err = advance(r, whole, data, why);
    }
    return err;
}
