/* What the names in at/ mean: a revision, head-N, a time. Any thread. */
#ifndef QFS_FS_CONTROL_AT_NAME_H
#define QFS_FS_CONTROL_AT_NAME_H

#include <stdbool.h>
#include <stdint.h>

enum at_kind { AT_NOTHING, AT_REVISION, AT_HEAD /* value: so many before the newest */, AT_TIME /* value: ns since 1970 */ };

/* Numbers are decimal without leading zeros, so that a directory has one name. A time is UTC: 2026-11-22T10:00:00Z, the seconds with a
 * fraction, or without seconds, or only the day, which means its begin. */
enum at_kind at_name_parse(const char *name, int64_t *value);

#endif
