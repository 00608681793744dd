/* A growing byte buffer.
 *
 * {0} is an empty buffer. `data` is NULL only while `cap` is 0. Functions that grow return 0 or QE_NOMEM and then leave the
 * buffer as it was. Not shared between threads. */
#ifndef QFS_BASE_BUF_H
#define QFS_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf {
    uint8_t *data; /* owned */
    size_t len;    /* bytes in use */
    size_t cap;    /* bytes allocated */
};

int buf_reserve(struct buf *b, size_t extra);                    /* room for `extra` bytes behind len */
int buf_append(struct buf *b, const void *data, size_t len);
int buf_resize(struct buf *b, size_t len);                       /* cuts, or extends with zero bytes */
int buf_write_at(struct buf *b, size_t off, const void *data, size_t len); /* a gap is filled with zero bytes */
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* a NUL follows, outside len */
void buf_clear(struct buf *b);                                   /* len = 0, keeps the memory */
void buf_fini(struct buf *b);                                    /* frees; the buffer is empty again */
void buf_move(struct buf *to, struct buf *from);                 /* frees what `to` had; `from` is empty after it */

/* The content as a C string: a NUL is put behind len. "" when that is not possible. */
const char *buf_cstr(struct buf *b);

#endif
