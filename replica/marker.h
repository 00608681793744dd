/* marker: the content of a marker snapshot, 56 bytes, little endian:
 *
 *   0  "qfsmark1"
 *   8  index of the last entry that the database holds for good
 *  16  its term
 *  24  revision of the database there
 *  32  state hash at that revision
 *  40  0
 *  48  CRC of the bytes before, as segment_crc32, in 64 bits */
#ifndef QFS_REPLICA_MARKER_H
#define QFS_REPLICA_MARKER_H

#include <stddef.h>
#include <stdint.h>

enum { MARKER_SIZE = 56 };

struct marker {
    uint64_t index, term; /* of the last entry that the database holds for good */
    int64_t rev;          /* the revision there */
    uint64_t hash;        /* the state hash there */
};

void marker_encode(const struct marker *m, uint8_t out[MARKER_SIZE]);
int marker_decode(const void *data, size_t len, struct marker *out); /* 0 or QE_CORRUPT */

#endif
