/* Extended attributes of an inode as one blob: entries sorted by name, each
 *
 *     u16 name length, u16 value length (little-endian), name, value
 *
 * so that the same attributes are the same bytes, and hash alike, on every member. */
#include <string.h>

#include "store/internal.h"

enum { HEAD_SIZE = 4 };

static size_t get16(const uint8_t *p)
{
    return (size_t)p[0] | (size_t)p[1] << 8;
}

static int compare(struct store_bytes a, struct store_bytes b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int d = len ? memcmp(a.data, b.data, len) : 0;

    return d ? d : (a.len > b.len) - (a.len < b.len);
}

bool xattr_next(struct store_bytes blob, size_t *pos, struct store_xattr *out)
{
    const uint8_t *p = (const uint8_t *)blob.data + *pos;
    size_t left = blob.len - *pos, name_len, value_len;

    if (left < HEAD_SIZE)
        return false;
    name_len = get16(p);
    value_len = get16(p + 2);
    if (name_len + value_len > left - HEAD_SIZE)
        return false;
    out->name = (struct store_bytes){p + HEAD_SIZE, name_len};
    out->value = (struct store_bytes){p + HEAD_SIZE + name_len, value_len};
    *pos += HEAD_SIZE + name_len + value_len;
    return true;
}

bool xattr_find(struct store_bytes blob, struct store_bytes name, struct store_bytes *value)
{
    struct store_xattr x;

    for (size_t pos = 0; blob.len && xattr_next(blob, &pos, &x);)
        if (compare(x.name, name) == 0) {
            *value = x.value;
            return true;
        }
    return false;
}

static int append(struct buf *out, struct store_bytes name, struct store_bytes value)
{
    uint8_t head[HEAD_SIZE] = {(uint8_t)name.len, (uint8_t)(name.len >> 8), (uint8_t)value.len, (uint8_t)(value.len >> 8)};
    int err = buf_append(out, head, sizeof head);

    if (!err)
        err = buf_append(out, name.data, name.len);
    return err ? err : buf_append(out, value.data, value.len);
}

int xattr_set(struct store_bytes blob, struct store_bytes name, const struct store_bytes *value, struct buf *out)
{
    bool placed = value == NULL;
    struct store_xattr x;
    int err = 0;

    for (size_t pos = 0; !err && blob.len && xattr_next(blob, &pos, &x);) {
        int d = compare(x.name, name);

        if (!placed && d >= 0) {
            err = append(out, name, *value);
            placed = true;
        }
        if (!err && d != 0)
            err = append(out, x.name, x.value);
    }
    return err || placed ? err : append(out, name, *value);
}

size_t xattr_bytes(struct store_bytes blob)
{
    struct store_xattr x;
    size_t sum = 0;

    for (size_t pos = 0; blob.len && xattr_next(blob, &pos, &x);)
        sum += x.name.len + x.value.len;
    return sum;
}

bool xattr_valid(struct store_bytes blob)
{
    struct store_xattr x;
    struct store_bytes last = {"", 0};
    size_t pos = 0;

    while (blob.len && xattr_next(blob, &pos, &x)) {
        if (compare(last, x.name) >= 0)
            return false;
        last = x.name;
    }
    return pos == blob.len && xattr_bytes(blob) <= STORE_XATTR_TOTAL_MAX;
}

int xattr_check(uint64_t ino, struct store_bytes name, struct store_bytes value)
{
    static const char user[] = "user.", reserved[] = "user.quorum";
    size_t user_len = sizeof user - 1, reserved_len = sizeof reserved - 1;

    if (name.len > STORE_NAME_MAX)
        return QE_RANGE;
    if (name.len <= user_len || memcmp(name.data, user, user_len))
        return QE_NOTSUP;
    if (memchr(name.data, 0, name.len))
        return QE_INVAL;
    if (store_ino_kind(ino) == STORE_SYMLINK)
        return QE_PERM;
    if (name.len >= reserved_len && !memcmp(name.data, reserved, reserved_len) &&
        (name.len == reserved_len || ((const char *)name.data)[reserved_len] == '.'))
        return QE_PERM;
    return value.len > STORE_XATTR_VALUE_MAX ? QE_2BIG : 0;
}
