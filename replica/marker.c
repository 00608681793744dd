#include "replica/marker.h"

#include <string.h>

#include "replica/segment.h"
#include "store/base/err.h"

enum { MARKER_CRC = 48 };
static const char marker_magic[8] = {'q', 'f', 's', 'm', 'a', 'r', 'k', '1'};

static void put64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get64(const uint8_t *p)
{
    uint64_t v = 0;

    for (int i = 0; i < 8; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

void marker_encode(const struct marker *m, uint8_t out[MARKER_SIZE])
{
    memcpy(out, marker_magic, sizeof marker_magic);
    put64(out + 8, m->index);
    put64(out + 16, m->term);
    put64(out + 24, (uint64_t)m->rev);
    put64(out + 32, m->hash);
    put64(out + 40, 0);
    put64(out + MARKER_CRC, segment_crc32(out, MARKER_CRC, 0));
}

int marker_decode(const void *data, size_t len, struct marker *out)
{
    const uint8_t *p = data;

    if (len != MARKER_SIZE || memcmp(p, marker_magic, sizeof marker_magic) != 0 || get64(p + 40) != 0 ||
        get64(p + MARKER_CRC) != segment_crc32(p, MARKER_CRC, 0))
        return QE_CORRUPT;
    *out = (struct marker){get64(p + 8), get64(p + 16), (int64_t)get64(p + 24), get64(p + 32)};
    return 0;
}
