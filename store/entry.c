/* A log entry: a header, the commands, padding. All numbers are little-endian.
 *
 *     offset size
 *          0    4  magic "QFE1"
 *          4    4  format, 1
 *          8   16  cluster id
 *         24    8  term of the proposer
 *         32    8  the leader's wall clock, ns since 1970
 *         40    4  count of commands
 *         44    4  length: header and commands, without the padding
 *         48    4  CRC32C of the bytes 0..47 and 56..length-1
 *         52    4  0
 *         56       commands: length (4), that many bytes of protobuf; each directly behind the one before
 *     length       zero bytes up to a multiple of 8: the log's files would otherwise be read back at shifted places */
#include <string.h>

#include "store/base/crc32c.h"
#include "store/internal.h"

enum { HEADER_SIZE = 56, ENTRY_FORMAT = 1 };
static const char magic[4] = {'Q', 'F', 'E', '1'};

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static void put64(uint8_t *p, uint64_t v)
{
    put32(p, (uint32_t)v);
    put32(p + 4, (uint32_t)(v >> 32));
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get64(const uint8_t *p)
{
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

static uint32_t checksum(const uint8_t *entry, size_t len)
{
    return crc32c(crc32c(0, entry, 48), entry + HEADER_SIZE, len - HEADER_SIZE);
}

int store_entry_build(const uint8_t cluster_id[STORE_CLUSTER_ID_SIZE], uint64_t term, int64_t leader_time_ns,
                      const struct store_bytes *cmds, size_t n, struct buf *out)
{
    size_t start = out->len, len = HEADER_SIZE, padded;
    uint8_t *h, *p;
    int err;

    for (size_t i = 0; i < n; i++) {
        if (cmds[i].len > STORE_ENTRY_MAX || len > STORE_ENTRY_MAX)
            return QE_2BIG;
        len += 4 + cmds[i].len;
    }
    if (len > STORE_ENTRY_MAX || n > UINT32_MAX)
        return QE_2BIG;
    padded = (len + 7) & ~(size_t)7;
    err = buf_resize(out, start + padded);
    if (err)
        return err;
    h = out->data + start;
    memset(h, 0, HEADER_SIZE);
    memcpy(h, magic, sizeof magic);
    put32(h + 4, ENTRY_FORMAT);
    memcpy(h + 8, cluster_id, STORE_CLUSTER_ID_SIZE);
    put64(h + 24, term);
    put64(h + 32, (uint64_t)leader_time_ns);
    put32(h + 40, (uint32_t)n);
    put32(h + 44, (uint32_t)len);
    p = h + HEADER_SIZE;
    for (size_t i = 0; i < n; i++) {
        put32(p, (uint32_t)cmds[i].len);
        if (cmds[i].len)
            memcpy(p + 4, cmds[i].data, cmds[i].len);
        p += 4 + cmds[i].len;
    }
    put32(h + 48, checksum(h, len));
    return 0;
}

int entry_open(const void *data, size_t len, const uint8_t *cluster_id, struct entry_view *out)
{
    const uint8_t *h = data;
    uint32_t true_len;

    if (len < HEADER_SIZE || len > STORE_ENTRY_MAX + 8 || memcmp(h, magic, sizeof magic))
        return QE_CORRUPT;
    true_len = get32(h + 44);
    if (true_len < HEADER_SIZE || true_len > len || ((size_t)true_len + 7) / 8 * 8 != len || checksum(h, true_len) != get32(h + 48))
        return QE_CORRUPT;
    for (size_t i = true_len; i < len; i++)
        if (h[i])
            return QE_CORRUPT;
    if (get32(h + 4) != ENTRY_FORMAT || get32(h + 52) != 0)
        return QE_FORMAT;
    if (cluster_id && memcmp(h + 8, cluster_id, STORE_CLUSTER_ID_SIZE))
        return QE_CORRUPT;
    *out = (struct entry_view){get64(h + 24), (int64_t)get64(h + 32), get32(h + 40), get32(h + 48), h + HEADER_SIZE, h + true_len};
    return 0;
}

int entry_next(struct entry_view *v, struct store_bytes *cmd)
{
    size_t left = (size_t)(v->end - v->pos), len;

    if (left < 4)
        return QE_CORRUPT;
    len = get32(v->pos);
    if (len > left - 4)
        return QE_CORRUPT;
    *cmd = (struct store_bytes){v->pos + 4, len};
    v->pos += 4 + len;
    return 0;
}

bool store_position_is(const struct store_position *p, uint64_t term, const void *command, size_t len, uint32_t *crc)
{
    *crc = 0;
    if (command)
        (void)store_entry_check(command, len, NULL, crc);
    return term == p->term && (p->crc == 0 || *crc == p->crc); /* 0: after a lift */
}

int store_entry_check(const void *data, size_t len, const uint8_t cluster_id[STORE_CLUSTER_ID_SIZE], uint32_t *crc)
{
    struct entry_view v;
    int err = entry_open(data, len, cluster_id, &v);

    if (!err && crc)
        *crc = v.crc;
    return err;
}
