/* CRC32C (Castagnoli), the checksum of log entries, of CURRENT and of frames between members. Any thread. */
#ifndef QFS_BASE_CRC32C_H
#define QFS_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Goes on from `crc`, the checksum of what came before; 0 at the beginning. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif
