#include "store/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/err.h"

int buf_reserve(struct buf *b, size_t extra)
{
    size_t need = b->len + extra, cap = b->cap ? b->cap : 64;
    uint8_t *data;

    if (need < extra)
        return QE_NOMEM;
    if (need <= b->cap)
        return 0;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    data = realloc(b->data, cap);
    if (!data)
        return QE_NOMEM;
    b->data = data;
    b->cap = cap;
    return 0;
}

int buf_append(struct buf *b, const void *data, size_t len)
{
    int err = buf_reserve(b, len);

    if (err)
        return err;
    if (len)
        memcpy(b->data + b->len, data, len);
    b->len += len;
    return 0;
}

int buf_resize(struct buf *b, size_t len)
{
    if (len > b->len) {
        int err = buf_reserve(b, len - b->len);

        if (err)
            return err;
        memset(b->data + b->len, 0, len - b->len);
    }
    b->len = len;
    return 0;
}

int buf_write_at(struct buf *b, size_t off, const void *data, size_t len)
{
    int err;

    if (len == 0)
        return 0;
    if (off + len < off)
        return QE_NOMEM;
    if (off + len > b->len) {
        err = buf_resize(b, off + len);
        if (err)
            return err;
    }
    memcpy(b->data + off, data, len);
    return 0;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    int n, err;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        return QE_INVAL;
    err = buf_reserve(b, (size_t)n + 1);
    if (err)
        return err;
    va_start(ap, fmt);
    vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
    return 0;
}

void buf_clear(struct buf *b)
{
    b->len = 0;
}

void buf_fini(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}

void buf_move(struct buf *to, struct buf *from)
{
    free(to->data);
    *to = *from;
    *from = (struct buf){0};
}

const char *buf_cstr(struct buf *b)
{
    if (buf_reserve(b, 1))
        return "";
    b->data[b->len] = 0;
    return (const char *)b->data;
}
